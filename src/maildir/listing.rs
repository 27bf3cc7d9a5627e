//! Which folders an owner has: their directories, their names, what they are for. Called by `tree`.

use std::collections::{BTreeMap, BTreeSet};

use rustix::{fs::FileType, io::Errno};

use super::{disk::Dir, error::MailError, path, subscriptions::Subscriptions};

/// What a folder is for (RFC 6154).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialUse {
    /// `\Drafts`
    Drafts,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
    /// `\Junk`
    Junk,
    /// `\Archive`
    Archive,
}

impl SpecialUse {
    const ALL: [Self; 5] = [Self::Drafts, Self::Sent, Self::Trash, Self::Junk, Self::Archive];

    /// Reads an attribute, `\Drafts` in any case; none for those no folder can have here.
    pub fn from_attribute(attribute: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|special| special.attribute().eq_ignore_ascii_case(attribute))
    }

    /// The attribute on the wire: `\Drafts`.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Drafts => "\\Drafts",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
            Self::Junk => "\\Junk",
            Self::Archive => "\\Archive",
        }
    }
}

/// Folders made with the mailbox.
pub(super) const FIRST_FOLDERS: [(&str, SpecialUse); 5] = [
    ("Drafts", SpecialUse::Drafts),
    ("Sent", SpecialUse::Sent),
    ("Trash", SpecialUse::Trash),
    ("Junk", SpecialUse::Junk),
    ("Archive", SpecialUse::Archive),
];

/// Names other mail programs use; one folder at most gets each use, the first found in this order.
const OTHER_NAMES: [(&str, SpecialUse); 10] = [
    ("Draft", SpecialUse::Drafts),
    ("Sent Items", SpecialUse::Sent),
    ("Sent Messages", SpecialUse::Sent),
    ("Sent Mail", SpecialUse::Sent),
    ("Deleted Items", SpecialUse::Trash),
    ("Deleted Messages", SpecialUse::Trash),
    ("Spam", SpecialUse::Junk),
    ("Junk E-mail", SpecialUse::Junk),
    ("Junk Mail", SpecialUse::Junk),
    ("Archives", SpecialUse::Archive),
];

/// A folder as LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its name in UTF-8, levels separated by `/`; `INBOX` in capitals.
    pub name: String,
    /// What it is for: what CREATE said, else what its name says. No two folders have the same use.
    pub special_uses: Vec<SpecialUse>,
    /// Whether folders lie below it.
    pub has_children: bool,
    /// Whether the user wants to see it: everything is subscribed until the user says otherwise.
    pub subscribed: bool,
    /// Whether it holds messages. A name that stands only because folders lie below it does not (`\Noselect`).
    pub selectable: bool,
}

/// Every folder's directory, by name. Of two directories of one name the one this store would make counts.
pub(super) fn directories(home: &Dir) -> Result<BTreeMap<String, Vec<u8>>, MailError> {
    let mut all = BTreeMap::new();
    for dir in home.names(FileType::Directory)? {
        let Some(name) = path::name(&dir) else { continue };
        if !is_folder(home, &dir)? {
            continue;
        }
        let own = path::folder(&name) == Ok(Some(dir.clone()));
        if own || !all.contains_key(&name) {
            all.insert(name, dir);
        }
    }
    Ok(all)
}

/// Whether that is a directory with a directory `cur` in it, neither of them a link.
fn is_folder(home: &Dir, dir: &[u8]) -> Result<bool, MailError> {
    match home.sub(dir).and_then(|d| d.sub(b"cur")) {
        Ok(_) => Ok(true),
        Err(MailError::Io { source: Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory of a folder with a checked name.
pub(super) fn find(home: &Dir, name: &str) -> Result<Option<Vec<u8>>, MailError> {
    if let Ok(Some(dir)) = path::folder(name)
        && is_folder(home, &dir)?
    {
        return Ok(Some(dir));
    }
    Ok(directories(home)?.remove(name))
}

pub(super) fn list(home: &Dir) -> Result<Vec<Folder>, MailError> {
    let subscriptions = Subscriptions::load(home)?;
    let dirs = directories(home)?;
    let mut above: BTreeSet<&str> = BTreeSet::new();
    for name in dirs.keys() {
        let mut rest = name.as_str();
        while let Some((parent, _)) = rest.rsplit_once('/') {
            above.insert(parent);
            rest = parent;
        }
    }
    let all: BTreeSet<&str> = dirs.keys().map(String::as_str).chain(above.iter().copied()).collect();
    let uses = special_uses(home, &dirs)?;
    let show = |name: &str| Folder {
        name: name.to_owned(),
        special_uses: uses.iter().filter(|(_, user)| *user == name).map(|(special, _)| *special).collect(),
        has_children: above.contains(name),
        subscribed: subscriptions.wants(name) && (name == "INBOX" || dirs.contains_key(name)),
        selectable: name == "INBOX" || dirs.contains_key(name),
    };
    Ok(std::iter::once("INBOX").chain(all.into_iter().filter(|name| *name != "INBOX")).map(show).collect())
}

/// A folder's file that says what CREATE made it for: an attribute a line.
const USE_FILE: &str = "portcullis-use";
/// Largest such file that is read, in bytes.
const MAX_USE_FILE: u64 = 1024;

/// Which folder has which use: the one that was made for it, else the first whose name says so.
pub(super) fn special_uses(
    home: &Dir,
    dirs: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<SpecialUse, String>, MailError> {
    let mut uses: BTreeMap<SpecialUse, String> = BTreeMap::new();
    for (name, dir) in dirs {
        for special in made_for(&home.sub(dir)?)? {
            uses.entry(special).or_insert_with(|| name.clone());
        }
    }
    for (known, special) in FIRST_FOLDERS.into_iter().chain(OTHER_NAMES) {
        if !uses.contains_key(&special)
            && let Some(name) = dirs.keys().find(|name| name.eq_ignore_ascii_case(known))
        {
            uses.insert(special, name.clone());
        }
    }
    Ok(uses)
}

/// Keeps what a folder is made for, in its directory that nobody else knows yet.
pub(super) fn note_uses(dir: &Dir, uses: &[SpecialUse]) -> Result<(), MailError> {
    if uses.is_empty() {
        return Ok(());
    }
    let file = dir.create(USE_FILE.as_bytes())?;
    dir.write(&file, lines(uses).as_bytes())?;
    dir.sync_file(&file)
}

/// Changes what a folder is made for, durably.
pub(super) fn change_uses(dir: &Dir, uses: &[SpecialUse]) -> Result<(), MailError> {
    if !uses.is_empty() {
        return dir.put(USE_FILE, lines(uses).as_bytes());
    }
    if dir.unlink(USE_FILE.as_bytes())? { dir.sync() } else { Ok(()) }
}

fn lines(uses: &[SpecialUse]) -> String {
    uses.iter().map(|special| format!("{}\n", special.attribute())).collect()
}

fn made_for(dir: &Dir) -> Result<Vec<SpecialUse>, MailError> {
    let file = match dir.open(USE_FILE.as_bytes(), false) {
        Ok((file, _)) => file,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    // What cannot be read says nothing: the name does.
    let _ = std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_USE_FILE), &mut text);
    Ok(text.lines().filter_map(SpecialUse::from_attribute).collect())
}
