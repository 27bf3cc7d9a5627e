//! Names of message files: `1700000000.M5P42Q1Rd3.host,S=10,W=10:2,FS`. What stands before the `:` identifies the
//! message for good; what follows are flags, which any program may change by renaming the file.
//! Source: <https://cr.yp.to/proto/maildir.html>; `S=` and `W=` as Dovecot writes them (size on disk, size with CRLF).

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::flags::Flags;

/// Which of the two directories of a folder that hold messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    New,
    Cur,
}

impl Place {
    pub(super) fn dir(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cur => "cur",
        }
    }
}

/// What identifies the message: the name up to the first `:`.
pub(super) fn base(name: &[u8]) -> &[u8] {
    memchr::memchr(b':', name).and_then(|at| name.get(..at)).unwrap_or(name)
}

/// What follows the first `:`, empty where there is none.
pub(super) fn info(name: &[u8]) -> &[u8] {
    name.get(base(name).len() + 1..).unwrap_or(b"")
}

/// Whether a directory entry's name can be a message's at all.
pub(super) fn is_message(name: &[u8]) -> bool {
    !matches!(name.first(), None | Some(b'.' | b':')) && name.len() <= 255
}

/// The system flags in an info part; one that is not `2,...` holds none.
pub(super) fn flags(info: &[u8]) -> Flags {
    letters(info).0.iter().filter_map(|l| Flags::from_letter(*l)).fold(Flags::NONE, Flags::union)
}

/// The letters of `2,letters,rest`, and the `,rest` that other programs may have put there.
fn letters(info: &[u8]) -> (&[u8], &[u8]) {
    let Some(all) = info.strip_prefix(b"2,") else { return (b"", b"") };
    all.split_at(all.iter().position(|b| *b == b',').unwrap_or(all.len()))
}

/// The same message's name with other system flags; letters that are not ours (Dovecot's keywords, `P`) stay.
pub(super) fn with_flags(name: &[u8], flags: Flags) -> Vec<u8> {
    let (old, rest) = letters(info(name));
    let mut new: Vec<u8> = old.iter().copied().filter(|l| Flags::from_letter(*l).is_none()).collect();
    new.extend(flags.letters());
    new.sort_unstable();
    new.dedup();
    [base(name), b":2,", &new, rest].concat()
}

/// A new base with what follows the `:` of another name.
pub(super) fn with_info_of(base: &str, name: &[u8]) -> Vec<u8> {
    let after = name.get(self::base(name).len()..).unwrap_or_default();
    [base.as_bytes(), after].concat()
}

/// The sizes a name claims: bytes on disk (`S=`) and in wire form (`W=`). Hints, to be checked against the file.
pub(super) fn size_hints(name: &[u8]) -> (Option<u64>, Option<u64>) {
    let base = base(name);
    let mut commas = memchr::memchr_iter(b',', base).peekable();
    let (mut stored, mut wire) = (None, None);
    while let Some(at) = commas.next() {
        let end = commas.peek().copied().unwrap_or(base.len());
        match base.get(at + 1..end) {
            Some([b'S', b'=', text @ ..]) => stored = stored.or(Some(text)),
            Some([b'W', b'=', text @ ..]) => wire = wire.or(Some(text)),
            _ => {}
        }
    }
    (stored.and_then(number), wire.and_then(number))
}

/// Reads decimal digits, and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let add = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(*digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    text.iter().try_fold(0, add).filter(|_| !text.is_empty())
}

/// What a name that claims both sizes says of the message: bytes in wire form, and how many of them are CRs that the
/// file lacks. Nothing if the claims can not be true together: each byte on disk is one byte in wire form, or two.
pub(super) fn claims(name: &[u8]) -> Option<(u64, u64)> {
    let (Some(stored), Some(wire)) = size_hints(name) else { return None };
    let bare = wire.checked_sub(stored)?;
    (bare <= stored).then_some((wire, bare))
}

/// The message's id (RFC 8474 EMAILID): told by the name of a copy, else made of what no program changes. The same after
/// the index was lost, and after another program moved the file to another folder.
pub(super) fn id(name: &[u8], size: u64, date: i64) -> u64 {
    let base = base(name);
    let told = base.split(|b| *b == b',').skip(1).find_map(|field| field.strip_prefix(b"I="));
    let told = told.filter(|text| text.len() == 16).and_then(|text| str::from_utf8(text).ok());
    if let Some(id) = told.and_then(|text| u64::from_str_radix(text, 16).ok()) {
        return id;
    }
    // Names are unique, so that any even spread will do; it may never change.
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let words = base.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    let sum = words.chain([base.len() as u64, size, date.cast_unsigned()]).fold(0x5851_F42D_4C95_7F2D, mix);
    sum ^ sum >> 32
}

/// A copy's name, up to the `:`, that tells the id of the message.
pub(super) fn with_id(base: &str, id: u64) -> String {
    format!("{base},I={id:016x}")
}

/// Sorts new messages by the second of delivery that their names start with, then by name.
pub(super) fn order(name: &[u8]) -> (u64, &[u8]) {
    let digits = name.iter().take_while(|b| b.is_ascii_digit()).count();
    let seconds = name.get(..digits).and_then(number);
    (seconds.unwrap_or(u64::MAX), base(name))
}

/// A name nobody else uses, without sizes and flags: time, process, counter, random bits and host.
pub(super) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static HOST: LazyLock<String> = LazyLock::new(host);
    static PROCESS: LazyLock<u32> = LazyLock::new(std::process::id);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one((now, count)) >> 16;
    let (secs, micros, pid) = (now.as_secs(), now.subsec_micros(), *PROCESS);
    format!("{secs}.M{micros}P{pid}Q{count}R{random:x}.{}", *HOST)
}

/// When a name was made by [`unique`], in seconds since 1970; nothing if it has another form.
pub(super) fn made_at(name: &[u8]) -> Option<i64> {
    let mut parts = base(name).splitn(3, |b| *b == b'.');
    let (secs, middle) = (parts.next()?, parts.next()?);
    let mut rest = middle;
    for (letter, is_digit) in [
        (b'M', u8::is_ascii_digit as fn(&u8) -> bool),
        (b'P', u8::is_ascii_digit),
        (b'Q', u8::is_ascii_digit),
        (b'R', u8::is_ascii_hexdigit),
    ] {
        rest = rest.strip_prefix(&[letter])?;
        let digits = rest.iter().take_while(|b| is_digit(b)).count();
        rest = rest.get(digits..).filter(|_| digits > 0)?;
    }
    str::from_utf8(secs).ok()?.parse().ok().filter(|_| rest.is_empty())
}

/// This machine's name with everything odd left out.
fn host() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(60).collect();
    if plain.is_empty() { "localhost".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_change_keeps_the_letters_of_other_programs() {
        let cases: [(&str, Flags, &str); 6] = [
            ("1.a", Flags::SEEN, "1.a:2,S"),
            ("1.a:2,", Flags::SEEN.union(Flags::DELETED), "1.a:2,ST"),
            ("1.a:2,FSab", Flags::SEEN, "1.a:2,Sab"),
            ("1.a:2,PS", Flags::NONE, "1.a:2,P"),
            ("1.a:2,S,x=1", Flags::DRAFT, "1.a:2,D,x=1"),
            ("1.a:1,odd", Flags::FLAGGED, "1.a:2,F"),
        ];
        for (name, flags, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&with_flags(name.as_bytes(), flags)), expected, "{name}");
        }
    }

    #[test]
    fn sizes_are_read_from_the_part_that_stays() {
        assert_eq!(size_hints(b"1.a.host,S=10,W=12:2,S"), (Some(10), Some(12)));
        assert_eq!(size_hints(b"1.a.host,S=x:2,W=12"), (None, None));
        assert_eq!(size_hints(b"1.a,S=99999999999999999999"), (None, None));
    }

    #[test]
    fn sizes_that_can_not_be_true_together_are_no_claims() {
        let cases: [(&str, Option<(u64, u64)>); 6] = [
            ("1.a,S=10,W=12:2,S", Some((12, 2))),
            ("1.a,S=10,W=10", Some((10, 0))),
            ("1.a,S=10,W=20", Some((20, 10))),
            ("1.a,S=10,W=21", None),
            ("1.a,S=10,W=9", None),
            ("1.a,W=10", None),
        ];
        for (name, expected) in cases {
            assert_eq!(claims(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn names_made_here_are_known_by_their_form() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        let made = made_at(with_id(&unique(), 7).as_bytes());
        assert!(made.is_some_and(|made| made.abs_diff(now) < 5), "{made:?}");
        assert_eq!(made_at(b"1700000000.M5P42Q1R2f.host,S=1,W=1:2,S"), Some(1_700_000_000));
        for other in
            ["1.M5P42Q1.host", "1.M5P42Q1R.host", "1.M5P42V1I2_0.host", "x.M1P1Q1R1.host", "1", "1.M1P1Q1R1_0.h"]
        {
            assert_eq!(made_at(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn names_are_ordered_by_time_of_delivery() {
        let mut names: Vec<&[u8]> = vec![b"10.b", b"odd", b"9.z:2,S", b"10.a"];
        names.sort_by(|a, b| order(a).cmp(&order(b)));
        assert_eq!(names, [b"9.z:2,S" as &[u8], b"10.a", b"10.b", b"odd"]);
    }

    #[test]
    fn a_message_has_one_id_whatever_its_flags_and_keeps_it_in_a_copy() {
        let first = id(b"1700000000.M5P42Q1.host,S=10,W=10", 10, 7);
        assert_eq!(id(b"1700000000.M5P42Q1.host,S=10,W=10:2,FS", 10, 7), first);
        assert_eq!(first, 15_193_321_733_413_142_626, "never to change: people's programs keep it");
        let copy = with_id("1700000001.M6P42Q2.host,S=10,W=10", first);
        assert_eq!(id(format!("{copy}:2,S").as_bytes(), 11, 8), first);
        let others = [("1700000000.M5P42Q2.host,S=10,W=10", 10, 7), ("1.a", 10, 7), ("1.a", 11, 7), ("1.a", 10, 8)];
        let ids: std::collections::HashSet<_> =
            others.iter().map(|(name, s, d)| id(name.as_bytes(), *s, *d)).collect();
        assert!(ids.len() == 4 && !ids.contains(&first));
        // Not an id that we wrote: it counts as any other part of the name.
        assert_ne!(id(b"1.a,I=xyz", 10, 7), id(b"1.a,I=-000000000000001", 10, 7));
    }

    #[test]
    fn no_two_names_are_equal() {
        let names: std::collections::HashSet<_> = (0..1000).map(|_| unique()).collect();
        assert_eq!(names.len(), 1000);
    }
}
