//! Comparing a mailbox's files with its indexes, changing nothing: what `portcullis mailbox check` tells. A folder is
//! locked while it is looked at, so that a gateway that is running does not change it meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustix::fs::FileType;

use super::{
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    folder::{locked, now_s},
    index::Index,
    listing, path,
    root::Mail,
    state::State,
    tree::Maildir,
};
use crate::model::UserId;

/// Files in `tmp` older than this are of nobody any more, in seconds.
const OLD: i64 = 36 * 3600;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// As it should be, but worth knowing: the next program that opens the folder takes care of it.
    Note,
    /// Wrong; [`Mail::repair`] mends it without renumbering.
    Repair,
    /// Wrong; only [`Mail::rebuild`] mends it, with a new UIDVALIDITY.
    Rebuild,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The folder's name; empty where it is about the mailbox as a whole.
    pub folder: String,
    /// What it is, in a word that programs may rely on: `file_not_in_index`, `two_files`, ...
    pub kind: &'static str,
    /// How bad it is.
    pub weight: Weight,
    /// The UID, where it is about a message that has one.
    pub uid: Option<u32>,
    /// The file or directory, below the mailbox's directory, with odd bytes escaped.
    pub file: Option<String>,
    /// What is wrong, in a sentence.
    pub text: String,
}

/// A mailbox that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Folders looked at.
    pub folders: usize,
    /// Messages in their indexes.
    pub messages: usize,
    /// What was found, folder by folder.
    pub findings: Vec<Finding>,
}

impl Mail {
    /// Compares files and indexes of an owner's folders, or of one of them.
    ///
    /// # Errors
    /// `NoSuchFolder` where there is no such mailbox (the name is then the owner's) or folder; `Locked` if a folder stays
    /// locked for ten seconds; what the disk says.
    pub async fn check(&self, owner: &UserId, folder: Option<&str>) -> Result<Checked, MailError> {
        let maildir = self.existing(owner).await?;
        let chosen = folder.map(path::checked).transpose()?;
        maildir.run("checking a mailbox", move |_, home| mailbox(home, chosen.as_deref())).await
    }

    /// The owner's mailbox, if there is one; none is made.
    pub(super) async fn existing(&self, owner: &UserId) -> Result<Maildir, MailError> {
        let maildir = self.maildir(owner);
        let name = owner.to_string();
        let found = maildir.run("opening a mailbox", |_, _| Ok(())).await;
        found.map_err(|error| if error.is_missing() { MailError::NoSuchFolder { name } } else { error })?;
        Ok(maildir)
    }
}

/// A folder's name and its directory, nothing for INBOX's own.
pub(super) type Named = (String, Option<Vec<u8>>);

/// The folders asked for.
pub(super) fn chosen(home: &Dir, folder: Option<&str>) -> Result<Vec<Named>, MailError> {
    let all = listing::directories(home)?.into_iter().map(|(name, dir)| (name, Some(dir)));
    let mut folders: Vec<_> = std::iter::once(("INBOX".to_owned(), None)).chain(all).collect();
    if let Some(wanted) = folder {
        folders.retain(|(name, _)| name == wanted);
        if folders.is_empty() {
            return Err(MailError::NoSuchFolder { name: wanted.to_owned() });
        }
    }
    Ok(folders)
}

fn mailbox(home: &Dir, folder: Option<&str>) -> Result<Checked, MailError> {
    let mut checked = Checked::default();
    let mut identities: HashMap<u32, String> = HashMap::new();
    for (name, dir) in chosen(home, folder)? {
        let opened = match &dir {
            None => home.clone(),
            Some(dir) => home.sub(dir)?,
        };
        let below = dir.as_deref().map(shown).unwrap_or_default();
        let mut look = Look { folder: name.clone(), below, findings: Vec::new() };
        let _unlock = locked(&opened)?;
        checked.folders += 1;
        if let Some(state) = look.folder(&opened)? {
            checked.messages += state.messages.len();
            if let Some(other) = identities.insert(state.id(), name) {
                let text =
                    format!("its identity {} is that of {other} too: one was copied from the other", state.id());
                look.say("same_uidvalidity", Weight::Rebuild, None, None, text);
            }
        }
        checked.findings.append(&mut look.findings);
    }
    if folder.is_none() {
        leftovers(home, &mut checked.findings)?;
    }
    Ok(checked)
}

/// What stands in the owner's directory and is no folder.
fn leftovers(home: &Dir, findings: &mut Vec<Finding>) -> Result<(), MailError> {
    let folders: BTreeSet<Vec<u8>> = listing::directories(home)?.into_values().collect();
    for (name, kind) in home.entries()? {
        let file = Some(shown(&name));
        let finding = |kind, weight, text: &str| Finding {
            folder: String::new(),
            kind,
            weight,
            uid: None,
            file: file.clone(),
            text: text.to_owned(),
        };
        if name.starts_with(b"portcullis-new-") || name.starts_with(b"portcullis-gone-") {
            findings.push(finding(
                "leftover_directory",
                Weight::Repair,
                "left by a CREATE or DELETE that was cut short",
            ));
        } else if name.starts_with(b".") && kind == FileType::Symlink {
            findings.push(finding("link", Weight::Note, "a link is never followed: nobody sees this folder"));
        } else if name.starts_with(b".") && kind == FileType::Directory && !folders.contains(&name) {
            let text = "looks like a folder, but has no cur, a name that cannot be read, or that of another folder";
            findings.push(finding("no_folder", Weight::Note, text));
        }
    }
    Ok(())
}

/// Bytes of a file's name, for people.
pub(super) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

struct Look {
    folder: String,
    /// The folder's directory below the owner's.
    below: String,
    findings: Vec<Finding>,
}

/// Every file that may be a message, by what identifies it.
pub(super) type Files = BTreeMap<Vec<u8>, Vec<(Place, Vec<u8>)>>;

impl Look {
    fn say(&mut self, kind: &'static str, weight: Weight, uid: Option<u32>, file: Option<String>, text: String) {
        let file = file.map(|file| if self.below.is_empty() { file } else { format!("{}/{file}", self.below) });
        self.findings.push(Finding { folder: self.folder.clone(), kind, weight, uid, file, text });
    }

    fn folder(&mut self, dir: &Dir) -> Result<Option<State>, MailError> {
        for name in ["cur", "new", "tmp"] {
            if dir.stat(name.as_bytes())?.is_none() {
                self.say("no_directory", Weight::Repair, None, Some(name.into()), "is missing".into());
                return Ok(None);
            }
        }
        let mut files = Files::new();
        for place in [Place::New, Place::Cur] {
            self.files(dir, place, &mut files)?;
        }
        for name in stale(&dir.sub(b"tmp")?)? {
            let text = "older than 36 hours: left by a delivery that was cut short".to_owned();
            self.say("leftover_file", Weight::Repair, None, Some(format!("tmp/{}", shown(&name))), text);
        }
        for (base, names) in files.iter().filter(|(_, names)| names.len() > 1) {
            let all: Vec<String> = names.iter().map(|(place, name)| at(*place, name)).collect();
            let text = format!("{} is there {} times: {}", shown(base), names.len(), all.join(", "));
            self.say("two_files", Weight::Repair, None, all.into_iter().next(), text);
        }
        let Some((index, state)) = Index::load(dir)? else {
            let (weight, text) = match dir.stat(b"portcullis-index")? {
                Some(_) => (
                    Weight::Rebuild,
                    "cannot be read at all; the next program that opens the folder starts a new one",
                ),
                None if files.is_empty() => (Weight::Note, "is not there yet: nobody has opened the folder"),
                None => (Weight::Note, "is not there; the first program that opens the folder starts one"),
            };
            let file = Some("portcullis-index".to_owned());
            self.say("no_index", weight, None, file, format!("{text} ({} messages)", files.len()));
            return Ok(None);
        };
        if index.needs_rewrite() {
            let text = "has damaged parts; what could be read of it is used".to_owned();
            self.say("damaged_index", Weight::Repair, None, Some("portcullis-index".into()), text);
        }
        self.compare(dir, &state, &files)?;
        Ok(Some(state))
    }

    fn files(&mut self, dir: &Dir, place: Place, files: &mut Files) -> Result<(), MailError> {
        for (name, kind) in dir.sub(place.dir().as_bytes())?.entries()? {
            let regular = matches!(kind, FileType::RegularFile | FileType::Unknown);
            if regular && filename::is_message(&name) {
                files.entry(filename::base(&name).to_vec()).or_default().push((place, name));
            } else {
                let text = if regular { "has a name that no message has" } else { "is not a file" };
                let text = format!("{text}: nobody sees it");
                self.say("no_message", Weight::Note, None, Some(at(place, &name)), text);
            }
        }
        Ok(())
    }

    fn compare(&mut self, dir: &Dir, state: &State, files: &Files) -> Result<(), MailError> {
        let mut known: BTreeMap<&[u8], u32> = BTreeMap::new();
        let (new, cur) = (dir.sub(b"new")?, dir.sub(b"cur")?);
        for message in &state.messages {
            let (uid, name) = (Some(message.uid), state.name(message));
            if let Some(other) = known.insert(filename::base(name), message.uid) {
                let text = format!("is the file of UID {other} too");
                self.say("two_uids", Weight::Rebuild, uid, Some(at(message.place, name)), text);
            }
            let Some(names) = files.get(filename::base(name)) else {
                let text = "is in the index and not on disk: another program removed it, or it is lost".to_owned();
                self.say("no_file", Weight::Repair, uid, Some(at(message.place, name)), text);
                continue;
            };
            if !names.iter().any(|(place, there)| *place == message.place && there == name) {
                let there = names.first().map(|(place, name)| at(*place, name)).unwrap_or_default();
                let text = format!(
                    "was {} when last seen: another program moved it or changed flags",
                    at(message.place, name)
                );
                self.say("renamed", Weight::Note, uid, Some(there), text);
            }
            for (place, name) in names {
                let stat = if *place == Place::New { new.stat(name)? } else { cur.stat(name)? };
                let size = stat.and_then(|s| u64::try_from(s.st_size).ok());
                let expected = message.size.saturating_sub(message.bare);
                if message.measured && size.is_some_and(|size| size != expected) {
                    let text = format!("has {} bytes and had {expected}: somebody changed it", size.unwrap_or(0));
                    self.say("size", Weight::Repair, uid, Some(at(*place, name)), text);
                }
            }
        }
        for (base, names) in files.iter().filter(|(base, _)| !known.contains_key(base.as_slice())) {
            let file = names.first().map(|(place, name)| at(*place, name));
            let text =
                format!("{} is not in the index yet: delivered since the folder was last opened", shown(base));
            self.say("file_not_in_index", Weight::Note, None, file, text);
        }
        if state.messages.last().is_some_and(|m| m.uid >= state.marks.uid_next) {
            let text = "UIDNEXT is not above every UID".to_owned();
            self.say("uidnext", Weight::Rebuild, None, None, text);
        }
        Ok(())
    }
}

fn at(place: Place, name: &[u8]) -> String {
    format!("{}/{}", place.dir(), shown(name))
}

/// Files in `tmp` that nobody is writing any more.
pub(super) fn stale(tmp: &Dir) -> Result<Vec<Vec<u8>>, MailError> {
    let mut names = tmp.names(FileType::RegularFile)?;
    let mut failed = None;
    // By the last change of the inode: the other time may be an INTERNALDATE.
    names.retain(|name| match tmp.stat(name) {
        Ok(stat) => stat.is_some_and(|s| {
            FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_ctime < now_s() - OLD
        }),
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(names), Err)
}
