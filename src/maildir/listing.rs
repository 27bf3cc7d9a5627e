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
    /// What it is for, by its name.
    pub special_use: Option<SpecialUse>,
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
    let uses = special_uses(&dirs);
    let show = |name: &str| Folder {
        name: name.to_owned(),
        special_use: uses.get(name).copied(),
        has_children: above.contains(name),
        subscribed: subscriptions.wants(name) && (name == "INBOX" || dirs.contains_key(name)),
        selectable: name == "INBOX" || dirs.contains_key(name),
    };
    Ok(std::iter::once("INBOX").chain(all.into_iter().filter(|name| *name != "INBOX")).map(show).collect())
}

fn special_uses(dirs: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, SpecialUse> {
    let mut uses: BTreeMap<String, SpecialUse> = BTreeMap::new();
    for (known, special) in FIRST_FOLDERS.into_iter().chain(OTHER_NAMES) {
        let found = dirs.keys().find(|name| name.eq_ignore_ascii_case(known));
        if let Some(name) = found.filter(|_| !uses.values().any(|u| *u == special)) {
            uses.insert(name.clone(), special);
        }
    }
    uses
}
