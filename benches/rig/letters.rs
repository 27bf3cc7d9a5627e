//! Mail that looks like mail, made of a seed: headers of one to two kilobytes as real ones have them, plain texts,
//! texts with an HTML twin, some in base64, some with an attachment. The same number is the same letter every time.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::DateTime;

/// One letter in a thousand is from this name.
pub const RARE_NAME: &str = "ravenscroft";
/// One letter in a thousand has this word in its text, whatever the text is encoded in.
pub const RARE_WORD: &str = "xylophone";

/// How many of the first `count` letters match a search for [`RARE_NAME`] or [`RARE_WORD`].
pub fn rare(count: usize, at: usize) -> u64 {
    (0..count).filter(|n| n % 1000 == at).count() as u64
}

/// Which of a thousand is from [`RARE_NAME`].
pub const NAME_AT: usize = 7;
/// Which of a thousand has [`RARE_WORD`].
pub const WORD_AT: usize = 13;

/// How the letters of a mailbox are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// All kinds, some 5 KB in the middle.
    Mixed,
    /// One text of so many octets in all, or a little less, lines ending in CRLF.
    Text(usize),
    /// A text and an attachment, so many octets in all, or a little less.
    Attachment(usize),
}

/// One letter; lines end in LF.
pub fn letter(n: usize, kind: Kind) -> String {
    let mut dice = Dice(n as u64 ^ 0x5eed_0000_0000);
    let mut text = String::with_capacity(8 * 1024);
    let long = !matches!(kind, Kind::Text(_));
    head(&mut text, n, &mut dice, long);
    let rare = n % 1000 == WORD_AT;
    match kind {
        Kind::Mixed => match dice.below(100) {
            0..45 => plain(&mut text, &mut dice, rare),
            45..85 => alternative(&mut text, &mut dice, rare),
            85..95 => mixed(&mut text, &mut dice, rare, None),
            _ => encoded(&mut text, &mut dice, rare),
        },
        Kind::Text(octets) => {
            text.push_str("Content-Type: text/plain; charset=us-ascii\n\n");
            while text.len() + text.lines().count() + 74 < octets {
                text.push_str(&prose(&mut dice, 60, false).replace(|letter: char| !letter.is_ascii(), "e"));
            }
        }
        Kind::Attachment(octets) => mixed(&mut text, &mut dice, rare, Some(octets)),
    }
    text
}

/// Flags of the letter of this number, as Maildir spells them. One in five is unseen, one in twenty flagged.
pub fn flags(n: usize) -> &'static str {
    match n % 20 {
        0 => "FS",
        1 | 6 | 11 | 16 => "",
        _ => "S",
    }
}

/// How many of the first `count` letters are unseen.
pub fn unseen(count: usize) -> u64 {
    (0..count).filter(|n| !flags(*n).contains('S')).count() as u64
}

/// Puts `count` letters into a Maildir folder, all in `cur`, named as Dovecot's delivery names them and dated as they
/// came. With `crlf` their lines end so, as a server writes them that stores what it gets.
pub fn fill(folder: &Path, count: usize, kind: Kind, crlf: bool) -> anyhow::Result<()> {
    for sub in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.join(sub))?;
    }
    let cur = folder.join("cur");
    for n in 0..count {
        let text = letter(n, kind);
        let wire = text.len() + memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        let (came, flags) = (came(n), flags(n));
        let name = format!("{came}.M{n}P4242.mail.example.com,S={},W={wire}:2,{flags}", text.len());
        let path = cur.join(name);
        fs::write(&path, text)?;
        let came = SystemTime::UNIX_EPOCH + Duration::from_secs(came);
        File::options().write(true).open(path)?.set_modified(came)?;
    }
    Ok(())
}

/// Seconds of Unix time at which the letter came: one each ten minutes since September 2020.
fn came(n: usize) -> u64 {
    1_600_000_000 + n as u64 * 600
}

fn head(text: &mut String, n: usize, dice: &mut Dice, long: bool) {
    let came = i64::try_from(came(n)).unwrap_or_default();
    let date = DateTime::from_timestamp(came, 0).unwrap_or_default().to_rfc2822();
    let (first, last, domain) = (dice.pick(&FIRST), dice.pick(&LAST), dice.pick(&DOMAINS));
    let mut from = format!("{first} {last} <{first}.{last}@{domain}>").replace('_', "-");
    if n % 1000 == NAME_AT {
        from = format!("Quentin Ravenscroft <quentin.{RARE_NAME}@rare.example>");
    } else if dice.below(20) == 0 {
        from = format!("=?utf-8?Q?J=C3=BCrgen_{last}?= <j.{last}@{domain}>");
    }
    let _ = writeln!(text, "Return-Path: <bounce-{n}@{domain}>\nDelivered-To: ann@example.com");
    let hops = if long { 2 + dice.below(4) } else { 1 };
    for hop in 0..hops {
        let (id, octet) = (dice.hex(12), dice.below(254) + 1);
        let _ = writeln!(
            text,
            "Received: from mx{hop}.{domain} (mx{hop}.{domain} [192.0.2.{octet}])\n\tby mail.example.com (Postfix) with ESMTPS id {id}\n\tfor <ann@example.com>; {date}"
        );
    }
    if long {
        let (hash, signature) = (dice.base64(32), dice.base64(256));
        let _ = writeln!(
            text,
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s2048;\n\tt={came}; bh={hash};\n\th=From:To:Subject:Date:Message-ID;"
        );
        let mut before = "\tb=";
        for part in signature.as_bytes().chunks(68) {
            let _ = writeln!(text, "{before}{}", String::from_utf8_lossy(part));
            before = "\t ";
        }
        let _ = writeln!(
            text,
            "Authentication-Results: mail.example.com;\n\tdkim=pass header.d={domain};\n\tspf=pass smtp.mailfrom=bounce-{n}@{domain}"
        );
        let _ = writeln!(text, "X-Spam-Status: No, score=-{}.{}", dice.below(6), dice.below(10));
    }
    let _ = write!(text, "Message-ID: <{}.{n}@{domain}>\nDate: {date}\nFrom: {from}\n", dice.hex(16));
    let _ = writeln!(text, "To: Ann Example <ann@example.com>");
    if dice.below(4) == 0 {
        let (other, also) = (dice.pick(&FIRST), dice.pick(&FIRST));
        let _ = writeln!(text, "Cc: {other}@{domain},\n\t\"{also}, Team\" <{also}@{}>", dice.pick(&DOMAINS));
    }
    let subject = prose(dice, 30, false).replace(|letter: char| !letter.is_ascii(), "e");
    let subject = subject.trim_end();
    if dice.below(3) == 0 {
        let (one, two) = (dice.hex(16), dice.hex(16));
        let _ = writeln!(
            text,
            "Subject: Re: {subject}\nIn-Reply-To: <{one}@{domain}>\nReferences: <{two}@{domain}>\n\t<{one}@{domain}>"
        );
    } else {
        let _ = writeln!(text, "Subject: {subject}");
    }
    if long && dice.below(3) == 0 {
        let id = dice.hex(24);
        let _ = writeln!(
            text,
            "List-Id: <news.{domain}>\nList-Unsubscribe: <https://{domain}/leave/{id}>,\n\t<mailto:leave-{id}@{domain}>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\nPrecedence: bulk"
        );
    }
    text.push_str("MIME-Version: 1.0\n");
}

fn plain(text: &mut String, dice: &mut Dice, rare: bool) {
    text.push_str("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n");
    let octets = 300 + dice.below(3000);
    text.push_str(&prose(dice, octets, rare));
}

fn encoded(text: &mut String, dice: &mut Dice, rare: bool) {
    text.push_str("Content-Type: text/plain; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n\n");
    let octets = 300 + dice.below(2000);
    let body = prose(dice, octets, rare).replace('\n', "\r\n");
    lines(text, &STANDARD.encode(body));
}

fn alternative(text: &mut String, dice: &mut Dice, rare: bool) {
    let boundary = format!("=_{}", dice.hex(24));
    let _ = write!(text, "Content-Type: multipart/alternative;\n\tboundary=\"{boundary}\"\n\n");
    parts(text, dice, rare, &boundary);
}

fn parts(text: &mut String, dice: &mut Dice, rare: bool, boundary: &str) {
    let octets = 300 + dice.below(2000);
    let body = prose(dice, octets, rare);
    let _ = write!(
        text,
        "--{boundary}\nContent-Type: text/plain; charset=\"UTF-8\"\nContent-Transfer-Encoding: quoted-printable\n\n"
    );
    text.push_str(&quoted_printable(&body));
    let _ = write!(
        text,
        "\n--{boundary}\nContent-Type: text/html; charset=\"UTF-8\"\nContent-Transfer-Encoding: quoted-printable\n\n"
    );
    text.push_str("<html><head><title></title></head><body style=3D\"font-family: sans-serif\">\n");
    for line in body.lines() {
        let line = quoted_printable(line);
        let _ = write!(text, "<p style=3D\"margin: 0 0 8px 0; color: #333\">\n{line}=\n</p>\n");
    }
    let _ = write!(text, "</body></html>\n\n--{boundary}--\n");
}

fn quoted_printable(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len() + 80), |mut out, octet| {
        match octet {
            b'=' | 0x80.. => drop(write!(out, "={octet:02X}")),
            _ => out.push(char::from(octet)),
        }
        out
    })
}

/// With an attachment, of a few kilobytes or as large as it takes.
fn mixed(text: &mut String, dice: &mut Dice, rare: bool, octets: Option<usize>) {
    let (outer, inner) = (format!("=_{}", dice.hex(24)), format!("=_{}", dice.hex(24)));
    let _ =
        write!(text, "Content-Type: multipart/mixed;\n\tboundary=\"{outer}\"\n\nThis is a multi-part message.\n");
    let _ = write!(text, "--{outer}\nContent-Type: multipart/alternative;\n\tboundary=\"{inner}\"\n\n");
    parts(text, dice, rare, &inner);
    let number = dice.below(1000);
    let _ = write!(
        text,
        "\n--{outer}\nContent-Type: application/pdf; name=\"report-{number}.pdf\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n\tfilename=\"report-{number}.pdf\"\n\n"
    );
    let wanted = match octets {
        // 78 octets of a line on the wire hold 57; the last boundary and what the lines so far need more on the wire.
        Some(octets) => octets.saturating_sub(text.len() + text.lines().count() + 40) / 78 * 57,
        None => 3000 + dice.below(30_000),
    };
    let data = dice.octets(wanted);
    lines(text, &STANDARD.encode(data));
    let _ = writeln!(text, "--{outer}--");
}

/// Lines of 76.
fn lines(text: &mut String, encoded: &str) {
    let mut rest = encoded;
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(76));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
}

/// Sentences of about so many octets, in lines of at most 72, the last one ended.
fn prose(dice: &mut Dice, octets: usize, rare: bool) -> String {
    let mut text = String::with_capacity(octets + 80);
    let mut column = 0;
    let mut said = !rare;
    while text.len() < octets || !said {
        let mut word = dice.pick(&WORDS);
        if !said && text.len() * 2 > octets {
            (word, said) = (RARE_WORD, true);
        }
        if column + word.len() >= 72 {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push_str(".\n");
    text
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'w>(&mut self, from: &[&'w str]) -> &'w str {
        from.get(self.below(from.len())).copied().unwrap_or_default()
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octets = Vec::with_capacity(count + 8);
        while octets.len() < count {
            octets.extend_from_slice(&self.next().to_le_bytes());
        }
        octets.truncate(count);
        octets
    }

    fn hex(&mut self, count: usize) -> String {
        self.octets(count.div_ceil(2)).iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"))
    }

    fn base64(&mut self, count: usize) -> String {
        STANDARD.encode(self.octets(count))
    }
}

const FIRST: [&str; 24] = [
    "anna", "ben", "clara", "david", "emma", "felix", "greta", "hugo", "ida", "jonas", "karla", "leon", "mia",
    "noah", "olga", "paul", "rosa", "simon", "tina", "ute", "vera", "willi", "yara", "zoe",
];
const LAST: [&str; 24] = [
    "adler", "baker", "castro", "dubois", "evans", "fischer", "garcia", "hansen", "ivanov", "jansen", "keller",
    "lopez", "meyer", "novak", "olsen", "petit", "rossi", "silva", "tanaka", "ulrich", "vogel", "weber", "young",
    "zhang",
];
const DOMAINS: [&str; 12] = [
    "example.net",
    "example.org",
    "mail.example.net",
    "shop.example.com",
    "news.example.org",
    "lists.example.net",
    "bank.example.com",
    "school.example.org",
    "city.example.net",
    "travel.example.com",
    "health.example.org",
    "music.example.net",
];
const WORDS: [&str; 96] = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "for",
    "on",
    "with",
    "as",
    "at",
    "by",
    "from",
    "we",
    "you",
    "they",
    "this",
    "that",
    "will",
    "have",
    "been",
    "please",
    "find",
    "attached",
    "report",
    "meeting",
    "Monday",
    "Tuesday",
    "project",
    "budget",
    "invoice",
    "order",
    "number",
    "customer",
    "delivery",
    "address",
    "account",
    "update",
    "version",
    "release",
    "change",
    "review",
    "comment",
    "question",
    "answer",
    "team",
    "office",
    "travel",
    "ticket",
    "hotel",
    "flight",
    "train",
    "morning",
    "evening",
    "tomorrow",
    "yesterday",
    "week",
    "month",
    "year",
    "price",
    "offer",
    "discount",
    "café",
    "résumé",
    "naïve",
    "contract",
    "signature",
    "document",
    "page",
    "table",
    "figure",
    "result",
    "measure",
    "value",
    "system",
    "server",
    "mailbox",
    "message",
    "letter",
    "reply",
    "thanks",
    "regards",
    "best",
    "kind",
    "dear",
    "hello",
    "again",
    "soon",
    "later",
    "always",
    "never",
    "maybe",
    "surely",
    "indeed",
];
