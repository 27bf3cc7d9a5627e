//! Reading a Maildir as Dovecot keeps it: `dovecot-uidlist` (UIDs, UIDVALIDITY, POP3 ids), `dovecot-keywords`,
//! `subscriptions`, and the files. Blocks on the disk; changes nothing. The formats are those of Dovecot 2.x
//! (<https://doc.dovecot.org/2.3/admin_manual/mailbox_formats/maildir/>).

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::maildir::{filename, flags::Flags, path};

/// Largest file of Dovecot's own that is read, in bytes.
const MAX: u64 = 1 << 30;

/// Why a Maildir could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DovecotError {
    /// A file or directory could not be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is no Maildir++.
    #[error("{}: {problem}", path.display())]
    NotMaildir {
        /// Where.
        path: PathBuf,
        /// What is missing, or wrong.
        problem: &'static str,
    },
    /// A line makes no sense.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// One folder of a Maildir.
#[derive(Debug)]
pub struct DovecotFolder {
    /// UIDVALIDITY, where Dovecot gave one.
    pub uid_validity: Option<u32>,
    /// UIDNEXT, with the messages that Dovecot has not numbered yet.
    pub uid_next: u32,
    /// The messages, by UID.
    pub messages: Vec<DovecotMessage>,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct DovecotMessage {
    /// Its UID. Messages that Dovecot has not numbered yet have the ones it would give them.
    pub uid: u32,
    /// Its file.
    pub path: PathBuf,
    /// System flags.
    pub flags: Flags,
    /// Keywords.
    pub keywords: Vec<String>,
    /// What POP3 calls it, by Dovecot's list.
    pub uidl: Option<String>,
    /// What `%g` stands for.
    guid: Option<String>,
    base: String,
}

/// How Dovecot makes the ids of POP3: `pop3_uidl_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidlFormat(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number { validity: bool, hex: Option<bool>, width: usize },
    File,
    Guid,
}

impl UidlFormat {
    /// Reads `%08Xu%08Xv`, Dovecot's default, and what else is made of `%u`, `%v`, `%f` and `%g`.
    ///
    /// # Errors
    /// A sentence that says what cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (width, after) = after.split_at_checked(digits).unwrap_or(("", after));
            let width = width.parse::<usize>().unwrap_or(0).min(20);
            let mut letters = after.chars();
            let mut hex = None;
            let mut letter = letters.next();
            if let Some(how @ ('x' | 'X')) = letter {
                hex = Some(how == 'X');
                letter = letters.next();
            }
            parts.push(match letter {
                Some('u') => Part::Number { validity: false, hex, width },
                Some('v') => Part::Number { validity: true, hex, width },
                Some('f') if hex.is_none() => Part::File,
                Some('g') if hex.is_none() => Part::Guid,
                Some('%') if hex.is_none() => Part::Text("%".to_owned()),
                _ => return Err(format!("{text:?}: only %u, %v, %f and %g can be read, with a width and x or X")),
            });
            rest = letters.as_str();
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The id of a message; nothing where it cannot be told.
    pub fn id(&self, uid_validity: Option<u32>, message: &DovecotMessage) -> Option<String> {
        let mut id = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::File => id.push_str(&message.base),
                Part::Guid => id.push_str(message.guid.as_deref().unwrap_or(&message.base)),
                Part::Number { validity, hex, width } => {
                    let number = if *validity { uid_validity? } else { message.uid };
                    id.push_str(&match hex {
                        None => format!("{number:0width$}"),
                        // Dovecot writes hex digits small, whichever letter asks for them.
                        Some(_) => format!("{number:0width$x}"),
                    });
                }
            }
        }
        Some(id)
    }
}

/// The folders of a Maildir++: names and directories, INBOX first.
///
/// # Errors
/// `Read`; `NotMaildir` where there is no `cur`.
pub fn folders(root: &Path) -> Result<Vec<(String, PathBuf)>, DovecotError> {
    if !root.join("cur").is_dir() {
        let problem = "is no Maildir: there is no cur in it (mbox, dbox and LAYOUT=fs are not read)";
        return Err(DovecotError::NotMaildir { path: root.to_owned(), problem });
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(reading(root))? {
        let entry = entry.map_err(reading(root))?;
        let name = entry.file_name();
        let Some(name) = path::name(name.as_encoded_bytes()) else { continue };
        if entry.path().join("cur").is_dir() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    found.insert(0, ("INBOX".to_owned(), root.to_owned()));
    Ok(found)
}

/// The names a user subscribed to.
///
/// # Errors
/// `Read`.
pub fn subscriptions(root: &Path) -> Result<Vec<String>, DovecotError> {
    let Some(text) = text(&root.join("subscriptions"))? else { return Ok(Vec::new()) };
    let mut lines = text.lines();
    let two = text.starts_with("V\t2");
    if two {
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
    }
    let name = |line: &str| {
        // Version 2 separates levels by tabs and escapes; before, it is the separator of the namespace.
        let wire = if two { untabbed(line) } else { line.replace('.', "/") };
        let level = |level: &str| crate::imap::mutf7::decode(level.as_bytes()).unwrap_or_else(|_| level.to_owned());
        wire.split('/').map(level).collect::<Vec<_>>().join("/")
    };
    Ok(lines.filter(|line| !line.is_empty()).map(name).collect())
}

/// A line of tab-separated levels, with Dovecot's escapes: `\001` and a digit or letter.
fn untabbed(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push('/'),
            '\u{1}' => match chars.next() {
                Some('1') => out.push('\u{1}'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

/// What is in a folder.
///
/// # Errors
/// `Read`; `Line` for a list that makes no sense.
pub fn read(dir: &Path) -> Result<DovecotFolder, DovecotError> {
    let list = dir.join("dovecot-uidlist");
    let known = match text(&list)? {
        Some(text) => {
            List::parse(&text).map_err(|(line, problem)| DovecotError::Line { path: list, line, problem })?
        }
        None => List { uid_validity: None, uid_next: 1, entries: Vec::new() },
    };
    let keywords = keywords(dir)?;
    let mut files: HashMap<Vec<u8>, PathBuf> = HashMap::new();
    for sub in ["new", "cur"] {
        let place = dir.join(sub);
        for entry in fs::read_dir(&place).map_err(reading(&place))? {
            let entry = entry.map_err(reading(&place))?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if filename::is_message(name) && entry.file_type().map_err(reading(&place))?.is_file() {
                files.insert(filename::base(name).to_vec(), entry.path());
            }
        }
    }
    let List { uid_validity, mut uid_next, entries } = known;
    let mut messages = Vec::new();
    for Entry { uid, base, uidl, guid } in entries {
        // One that is not there any more keeps its UID to itself.
        if let Some(path) = files.remove(base.as_bytes()) {
            messages.push(message(uid, path, base, &keywords, uidl, guid));
        }
    }
    let mut fresh: Vec<(Vec<u8>, PathBuf)> = files.into_iter().collect();
    fresh.sort_by(|a, b| filename::order(&a.0).cmp(&filename::order(&b.0)));
    for (base, path) in fresh {
        let base = String::from_utf8_lossy(&base).into_owned();
        messages.push(message(uid_next, path, base, &keywords, None, None));
        uid_next = uid_next.saturating_add(1);
    }
    Ok(DovecotFolder { uid_validity, uid_next, messages })
}

fn message(
    uid: u32,
    path: PathBuf,
    base: String,
    keywords: &HashMap<u8, String>,
    uidl: Option<String>,
    guid: Option<String>,
) -> DovecotMessage {
    let name = path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
    let info = filename::info(&name);
    let flags = filename::flags(info);
    let letters = info.strip_prefix(b"2,").unwrap_or_default().iter().take_while(|letter| **letter != b',');
    let keywords = letters.filter_map(|letter| keywords.get(letter).cloned()).collect();
    DovecotMessage { uid, path, flags, keywords, uidl, guid, base }
}

/// Letters of file names and the keywords they stand for.
fn keywords(dir: &Path) -> Result<HashMap<u8, String>, DovecotError> {
    let file = dir.join("dovecot-keywords");
    let Some(text) = text(&file)? else { return Ok(HashMap::new()) };
    let mut all = HashMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let read = line.split_once(' ').and_then(|(number, name)| Some((number.parse::<u8>().ok()?, name)));
        let wrong = || DovecotError::Line {
            path: file.clone(),
            line: at + 1,
            problem: "has to be a number from 0 to 25 and a keyword",
        };
        let (number, name) = read.filter(|(number, _)| *number < 26).ok_or_else(wrong)?;
        all.insert(b'a' + number, name.to_owned());
    }
    Ok(all)
}

struct List {
    uid_validity: Option<u32>,
    uid_next: u32,
    entries: Vec<Entry>,
}

struct Entry {
    uid: u32,
    base: String,
    uidl: Option<String>,
    guid: Option<String>,
}

impl List {
    /// Reads `dovecot-uidlist`, version 3 or 1; what is wrong comes with its line's number.
    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut lines = text.lines().enumerate();
        let head = lines.next().map(|(_, line)| line).unwrap_or_default();
        let mut words = head.split(' ');
        let version = words.next().unwrap_or_default();
        let (mut validity, mut next) = (None, None);
        match version {
            "3" => {
                for word in words {
                    if let Some(number) = word.strip_prefix('V') {
                        validity = number.parse().ok();
                    } else if let Some(number) = word.strip_prefix('N') {
                        next = number.parse().ok();
                    }
                }
            }
            "1" => {
                (validity, next) =
                    (words.next().and_then(|w| w.parse().ok()), words.next().and_then(|w| w.parse().ok()))
            }
            _ => return Err((1, "has to begin with 3 or 1, the versions of this list that can be read")),
        }
        let uid_validity = Some(validity.filter(|v| *v > 0).ok_or((1, "names no UIDVALIDITY"))?);
        let mut uid_next: u32 = next.ok_or((1, "names no next UID"))?;
        // Dovecot adds to the list: the last line of a UID counts, and lines need not ascend.
        let mut entries: Vec<Entry> = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let entry =
                Entry::parse(line, version == "3").ok_or((at + 1, "has to be a UID, extensions, and :file"))?;
            uid_next = uid_next.max(entry.uid.saturating_add(1));
            entries.push(entry);
        }
        entries.reverse();
        entries.sort_by_key(|entry| entry.uid);
        entries.dedup_by_key(|entry| entry.uid);
        Ok(Self { uid_validity, uid_next, entries })
    }
}

impl Entry {
    fn parse(line: &str, extended: bool) -> Option<Self> {
        let (uid, mut rest) = line.split_once(' ')?;
        let uid = uid.parse().ok().filter(|uid| *uid > 0)?;
        let (mut uidl, mut guid) = (None, None);
        while extended && !rest.starts_with(':') {
            let (word, after) = rest.split_once(' ')?;
            if let Some(id) = word.strip_prefix('P').filter(|id| !id.is_empty()) {
                uidl = Some(id.to_owned());
            } else if let Some(id) = word.strip_prefix('G').filter(|id| !id.is_empty()) {
                guid = Some(id.to_owned());
            }
            rest = after;
        }
        let name = if extended { rest.strip_prefix(':')? } else { rest };
        let base = String::from_utf8_lossy(filename::base(name.as_bytes())).into_owned();
        (!base.is_empty()).then_some(Self { uid, base, uidl, guid })
    }
}

/// A file's text; nothing if it is not there.
fn text(file: &Path) -> Result<Option<String>, DovecotError> {
    let read = || {
        let opened = fs::File::open(file)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(opened, MAX), &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading(file)(error)),
    }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> DovecotError {
    move |source| DovecotError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn maildir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["cur", "new", "tmp", ".A.B/cur", ".A.B/new", ".Entw&APw-rfe/cur", ".nofolder"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        dir
    }

    #[test]
    fn uids_keywords_and_pop3_ids_are_read_as_dovecot_wrote_them() {
        let dir = maildir();
        fs::write(
            dir.path().join("dovecot-uidlist"),
            "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n\
             25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394:2,\n\
             25017 W2481 Psaved-id :1276533073.M242911P3632.kurkku\n\
             25018 :gone\n\
             25006 G7 :1276528487.M364837P9451.kurkku,S=1355,W=1394\n",
        )
        .unwrap();
        fs::write(dir.path().join("dovecot-keywords"), "0 $Forwarded\n1 Junk\n").unwrap();
        for name in [
            "cur/1276528487.M364837P9451.kurkku,S=1355,W=1394:2,FSab",
            "new/1276533073.M242911P3632.kurkku",
            "new/1276533074.late",
            "cur/.hidden",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let folder = read(dir.path()).unwrap();
        assert_eq!((folder.uid_validity, folder.uid_next), (Some(1_275_660_208), 25_023));
        let [one, two, three] = folder.messages.as_slice() else { panic!("{:?}", folder.messages) };
        assert_eq!((one.uid, two.uid, three.uid), (25_006, 25_017, 25_022));
        assert_eq!(
            (one.flags, one.keywords.as_slice()),
            (Flags::FLAGGED.union(Flags::SEEN), ["$Forwarded".to_owned(), "Junk".to_owned()].as_slice())
        );
        assert_eq!((one.uidl.as_deref(), two.uidl.as_deref()), (None, Some("saved-id")));
        let format = UidlFormat::parse("%08Xu%08Xv").unwrap();
        assert_eq!(format.id(folder.uid_validity, one).as_deref(), Some("000061ae4c0907b0"));
        for (format, expected) in [
            ("%u.%v", "25006.1275660208"),
            ("%xv-%xu", "4c0907b0-61ae"),
            ("%g", "7"),
            ("%f", "1276528487.M364837P9451.kurkku,S=1355,W=1394"),
            ("100%%", "100%"),
        ] {
            assert_eq!(UidlFormat::parse(format).unwrap().id(folder.uid_validity, one).as_deref(), Some(expected));
        }
        for bad in ["%m", "%", "%08", "%Xf"] {
            assert!(UidlFormat::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_and_subscriptions_have_their_names() {
        let dir = maildir();
        let names: Vec<String> = folders(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["INBOX", "A/B", "Entwürfe"]);
        assert!(subscriptions(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join("subscriptions"), "A.B\nEntw&APw-rfe\n").unwrap();
        assert_eq!(subscriptions(dir.path()).unwrap(), ["A/B", "Entwürfe"]);
        fs::write(dir.path().join("subscriptions"), "V\t2\n\nA\tB\nEntw&APw-rfe\n").unwrap();
        assert_eq!(subscriptions(dir.path()).unwrap(), ["A/B", "Entwürfe"]);
        assert!(folders(&dir.path().join("cur")).is_err());
    }

    #[test]
    fn a_list_that_makes_no_sense_is_told_by_its_line() {
        for (text, line) in [
            ("", 1),
            ("7 V1 N1", 1),
            ("3 N1", 1),
            ("3 V1", 1),
            ("3 V0 N1", 1),
            ("3 V1 N1\n1 :a\nx :b", 3),
            ("3 V1 N1\n0 :a", 2),
            ("3 V1 N1\n1 W2", 2),
            ("3 V1 N1\n1 :", 2),
        ] {
            assert_eq!(List::parse(text).err().map(|(line, _)| line), Some(line), "{text}");
        }
        let old = List::parse("1 17 4\n2 1.a\n3 1.b:2,S").unwrap();
        assert_eq!((old.uid_validity, old.uid_next, old.entries[1].base.as_str()), (Some(17), 4, "1.b"));
    }

    proptest! {
        #[test]
        fn no_list_is_too_odd_to_be_read_or_refused(text in "(3 V[0-9]{1,12} N[0-9]{1,12}\n)?[0-9:PGW a-z.\n]{0,80}") {
            if let Ok(list) = List::parse(&text) {
                prop_assert!(list.entries.is_sorted_by(|a, b| a.uid < b.uid));
            }
        }

        #[test]
        fn no_format_is_too_odd_to_be_read_or_refused(text in "[%0-9Xxuvfg.-]{0,12}") {
            drop(UidlFormat::parse(&text));
        }
    }
}
