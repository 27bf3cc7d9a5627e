//! Annotations (RFC 5464): values that programs attach to a folder or to the mail as a whole. They lie in the folder's
//! own directory, so they follow it when it is renamed and go when it is deleted. Called by `tree`.
//!
//! A file is lines of three columns: whose entry it is (`-` for one that all share, else the user's address), the
//! entry's name in lower case, the value in base64.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{disk::Dir, error::MailError};

/// The file of a folder, INBOX included.
const FOLDER_FILE: &str = "portcullis-annotations";
/// The file of the mail as a whole, in the owner's directory.
const SERVER_FILE: &str = "portcullis-server-annotations";
/// Largest value, in bytes.
pub const MAX_ANNOTATION: usize = 16 * 1024;
/// Most annotations in a file.
const MOST: usize = 100;
/// Largest file that is read, in bytes: what `MOST` values take up, and some room.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Entry's name, then its value: nothing removes it.
pub type Change = (String, Option<Vec<u8>>);

/// Which annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A folder's.
    Folder,
    /// Those of the mail as a whole.
    Server,
}

impl Of {
    const fn file(self) -> &'static str {
        match self {
            Self::Folder => FOLDER_FILE,
            Self::Server => SERVER_FILE,
        }
    }
}

/// One place's annotations: owner and entry, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations(BTreeMap<(String, String), Vec<u8>>);

/// Whose an entry is: everybody's if it begins with `/shared`.
fn whose(entry: &str, user: &str) -> String {
    if is_private(entry) { user.to_owned() } else { "-".to_owned() }
}

/// Whether an entry is one user's own. Names are in lower case here.
pub(super) fn is_private(entry: &str) -> bool {
    !entry.starts_with("/shared/")
}

impl Annotations {
    pub(super) fn load(dir: &Dir, of: Of) -> Result<Self, MailError> {
        let file = match dir.open(of.file().as_bytes(), false) {
            Ok((file, _)) => file,
            Err(error) if error.is_missing() => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE), &mut bytes).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            MailError::io("reading annotations", errno)
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let line = |line: &str| {
            let mut columns = line.split('\t');
            let (user, entry, value) = (columns.next()?, columns.next()?, columns.next()?);
            Some(((user.to_owned(), entry.to_owned()), STANDARD.decode(value).ok()?))
        };
        Ok(Self(text.lines().filter_map(line).collect()))
    }

    pub(super) fn save(&self, dir: &Dir, of: Of) -> Result<(), MailError> {
        let mut text = String::new();
        for ((user, entry), value) in &self.0 {
            text.push_str(&format!("{user}\t{entry}\t{}\n", STANDARD.encode(value)));
        }
        dir.put(of.file(), text.as_bytes())
    }

    /// What `user` sees, in order of entry.
    pub(super) fn of(&self, user: &str) -> Vec<(String, Vec<u8>)> {
        let seen = self.0.iter().filter(|((whose, _), _)| whose == "-" || whose == user);
        let mut seen: Vec<_> = seen.map(|((_, entry), value)| (entry.clone(), value.clone())).collect();
        seen.sort();
        seen
    }

    /// Sets and removes entries, all or none; the names of those that changed.
    pub(super) fn change(&mut self, user: &str, changes: Vec<Change>) -> Result<Vec<String>, MailError> {
        let mut next = self.clone();
        let mut changed = Vec::new();
        for (entry, value) in changes {
            let key = (whose(&entry, user), entry.clone());
            let before = match value {
                Some(value) if value.len() > MAX_ANNOTATION => {
                    return Err(MailError::AnnotationTooBig { most: MAX_ANNOTATION as u64 });
                }
                Some(value) if next.0.get(&key) == Some(&value) => continue,
                Some(value) => {
                    next.0.insert(key, value);
                    true
                }
                None => next.0.remove(&key).is_some(),
            };
            if before && !changed.contains(&entry) {
                changed.push(entry);
            }
        }
        if next.0.len() > MOST {
            return Err(MailError::TooManyAnnotations { most: MOST as u64 });
        }
        *self = next;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(entry: &str, value: &str) -> Change {
        (entry.to_owned(), Some(value.as_bytes().to_vec()))
    }

    #[test]
    fn what_is_private_is_seen_by_its_user_alone() {
        let mut all = Annotations::default();
        all.change("ann@x", vec![set("/private/comment", "mine"), set("/shared/comment", "ours")]).unwrap();
        all.change("bob@x", vec![set("/private/comment", "his")]).unwrap();
        let shown = |user| all.of(user).into_iter().map(|(_, value)| String::from_utf8(value).unwrap());
        assert_eq!(shown("ann@x").collect::<Vec<_>>(), ["mine", "ours"]);
        assert_eq!(shown("bob@x").collect::<Vec<_>>(), ["his", "ours"]);
        assert_eq!(shown("eve@x").collect::<Vec<_>>(), ["ours"]);
    }

    #[test]
    fn a_change_is_whole_or_not_at_all_and_bounded() {
        let mut all = Annotations::default();
        let big = "x".repeat(MAX_ANNOTATION + 1);
        let refused = all.change("a", vec![set("/shared/a", "1"), set("/shared/b", &big)]);
        assert_eq!(refused, Err(MailError::AnnotationTooBig { most: MAX_ANNOTATION as u64 }));
        assert!(all.of("a").is_empty());
        for number in 0..MOST {
            all.change("a", vec![set(&format!("/shared/{number}"), "v")]).unwrap();
        }
        assert!(matches!(
            all.change("a", vec![set("/shared/more", "v")]),
            Err(MailError::TooManyAnnotations { .. })
        ));
        // One out, one in.
        let swap = vec![("/shared/0".to_owned(), None), set("/shared/more", "v"), set("/shared/1", "v")];
        assert_eq!(all.change("a", swap), Ok(vec!["/shared/0".to_owned(), "/shared/more".to_owned()]));
    }
}
