//! Messages for mailboxes: the hard cases in `tests/mail` and `tests/clients/mail`, kept there as they go over the
//! wire (CRLF), and the comparison of what a program fetched with what was delivered.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// One message in wire form.
#[derive(Clone)]
pub struct Mail {
    /// Name of its file.
    pub name: String,
    /// Its bytes, every line end CRLF.
    pub wire: Vec<u8>,
}

const FOLDERS: [&str; 2] = ["tests/clients/mail", "tests/mail"];

/// The messages that every program must carry unharmed, in the order of their names.
pub fn hard_cases() -> Vec<Mail> {
    let mut files: Vec<PathBuf> = FOLDERS
        .iter()
        .flat_map(|place| fs::read_dir(folder(place)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
    assert!(files.len() > 20);
    files.iter().map(|file| read(file)).collect()
}

/// The message in file `name` of `tests/mail` or `tests/clients/mail`.
pub fn by_name(name: &str) -> Vec<u8> {
    FOLDERS
        .iter()
        .map(|place| folder(place).join(name))
        .find(|file| file.exists())
        .map_or_else(|| panic!("no message {name}"), |file| read(&file).wire)
}

fn read(file: &Path) -> Mail {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    // Through LF and back: whatever a checkout did to the line ends, this is what a delivered file reads as.
    Mail { name, wire: with_crlf(&with_lf(&fs::read(file).unwrap())) }
}

fn folder(place: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(place)
}

/// A name no other message of this machine has.
pub fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.M{:06}P{}Q{count}.test", now.as_secs(), now.subsec_micros(), std::process::id())
}

/// The bytes with each CRLF made LF: how a mail transfer agent stores a message.
pub fn with_lf(wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(wire.len());
    for (at, &byte) in wire.iter().enumerate() {
        if byte != b'\r' || wire.get(at + 1) != Some(&b'\n') {
            out.push(byte);
        }
    }
    out
}

/// The bytes with each bare LF made CRLF: how a stored message reads on the wire.
pub fn with_crlf(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored.len() + stored.len() / 32);
    let mut before = 0;
    for &byte in stored {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

/// Every message of a folder tree that a program wrote, in wire form: files of `cur` and `new` in any depth.
pub fn from_maildirs(root: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        if path.ends_with("cur") || path.ends_with("new") {
            for file in fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()) {
                found.push(with_crlf(&fs::read(file).unwrap()));
            }
        } else {
            found.extend(from_maildirs(&path));
        }
    }
    found
}

/// A message in a Maildir++ tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// `INBOX`, or the name of the folder as it stands on disk, without its first dot.
    pub folder: String,
    /// What stands behind `Subject: `.
    pub subject: String,
    /// The flags in the file's name: `S` seen, `F` flagged, `R` answered, `D` draft, `T` deleted; small letters are
    /// keywords.
    pub flags: String,
}

impl Stored {
    /// Whether the file's name has this flag.
    pub fn is(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }
}

/// Every message of the Maildir++ tree at `root`, sorted; a file that another program moved meanwhile is left out.
pub fn stored(root: &Path) -> Vec<Stored> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("cur").is_dir());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    let mut all = in_folder(root, "INBOX");
    all.extend(folders.flat_map(|path| in_folder(&path, &name(&path))));
    all.sort();
    all
}

fn in_folder(path: &Path, folder: &str) -> Vec<Stored> {
    let files = ["new", "cur"].iter().flat_map(|part| fs::read_dir(path.join(part)).into_iter().flatten());
    files
        .filter_map(|entry| {
            let file = entry.unwrap().path();
            let text = String::from_utf8_lossy(&fs::read(&file).ok()?).into_owned();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "))?.to_owned();
            let name = file.file_name()?.to_string_lossy().into_owned();
            let flags = name.split_once(":2,").map_or("", |(_, flags)| flags).to_owned();
            Some(Stored { folder: folder.to_owned(), subject, flags })
        })
        .collect()
}

/// The same, once it is as `good` says; panics with the last state when it does not become so in time.
pub fn stored_when(what: &str, root: &Path, good: impl Fn(&[Stored]) -> bool) -> Vec<Stored> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let all = stored(root);
        if good(&all) {
            return all;
        }
        assert!(Instant::now() < deadline, "never: {what}; the store holds\n{}", listed(&all));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One line a message, for a test that fails.
pub fn listed(all: &[Stored]) -> String {
    all.iter().map(|mail| format!("{}: {} [{}]\n", mail.folder, mail.subject, mail.flags)).collect()
}

/// The file of a Maildir that holds this text.
pub fn file_with(maildir: &Path, text: &str) -> PathBuf {
    ["new", "cur"]
        .iter()
        .flat_map(|part| fs::read_dir(maildir.join(part)).unwrap())
        .map(|entry| entry.unwrap().path())
        .find(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(text))
        .unwrap_or_else(|| panic!("no message with {text:?} in {}", maildir.display()))
}

/// Gives a Maildir file these flags, moving it to `cur`.
pub fn rename_flags(file: &Path, flags: &str) {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let base = name.split(":2,").next().unwrap();
    let to = file.parent().unwrap().parent().unwrap().join("cur").join(format!("{base}:2,{flags}"));
    fs::rename(file, to).unwrap();
}

/// Checks that `got` holds exactly the messages `want`, in any order.
pub fn assert_same(program: &str, mut got: Vec<Vec<u8>>, want: &[Mail]) {
    let mut missing = Vec::new();
    for mail in want {
        match got.iter().position(|bytes| *bytes == mail.wire) {
            Some(at) => drop(got.swap_remove(at)),
            None => missing.push(mail),
        }
    }
    if missing.is_empty() && got.is_empty() {
        return;
    }
    let mut story = format!("{program}: {} not as delivered, {} others instead", missing.len(), got.len());
    for mail in missing {
        let nearest = got.iter().max_by_key(|bytes| common(bytes, &mail.wire));
        let at = nearest.map_or(0, |bytes| common(bytes, &mail.wire));
        story += &format!(
            "\n{}: {} octets, differs from octet {at}\n want ..{}",
            mail.name,
            mail.wire.len(),
            near(&mail.wire, at)
        );
        if let Some(bytes) = nearest {
            story += &format!("\n  got ..{} ({} octets)", near(bytes, at), bytes.len());
        }
    }
    panic!("{story}");
}

/// The message without the lines that start with `name`.
pub fn without_header(bytes: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if !line.starts_with(name) {
            out.extend_from_slice(line);
        }
    }
    out
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn near(bytes: &[u8], at: usize) -> String {
    let end = bytes.len().min(at + 60);
    bytes[at.saturating_sub(30).min(end)..end].escape_ascii().to_string()
}
