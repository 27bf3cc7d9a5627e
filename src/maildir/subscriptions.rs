//! Which folders the user wants to see. Everything is subscribed until the user says otherwise, folder by folder: a
//! program that knows no subscriptions shows all of them, and one that shows only subscribed ones shows all too.

use std::collections::{BTreeMap, BTreeSet};

use super::{disk::Dir, error::MailError};

/// The file in the owner's directory: a line for each name the user decided on, `+name` or `-name`.
const NAME: &str = "portcullis-subscriptions";
/// Most names a user can decide on.
const MOST: usize = 10_000;
/// Largest file that is read, in bytes.
const MAX: u64 = 16 * 1024 * 1024;

/// The user's decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions(BTreeMap<String, bool>);

impl Subscriptions {
    pub(super) fn load(home: &Dir) -> Result<Self, MailError> {
        let file = match home.open(NAME.as_bytes(), false) {
            Ok((file, _)) => file,
            Err(error) if error.is_missing() => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX), &mut bytes).map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            MailError::io("reading subscriptions", errno)
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let line = |line: &str| match line.split_at_checked(1)? {
            ("+", name) => Some((name.to_owned(), true)),
            ("-", name) => Some((name.to_owned(), false)),
            _ => None,
        };
        Ok(Self(text.lines().filter_map(line).collect()))
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.0.get(name).copied().unwrap_or(true)
    }

    /// Names the user subscribed to in so many words.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.0.iter().filter(|(_, wanted)| **wanted).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn set(mut self, name: String, wanted: bool) -> Result<Self, MailError> {
        self.0.insert(name, wanted);
        if self.0.len() > MOST {
            return Err(MailError::Limit { what: "subscriptions", most: MOST as u64 });
        }
        Ok(self)
    }

    pub(super) fn save(&self, home: &Dir) -> Result<(), MailError> {
        let line = |(name, wanted): (&String, &bool)| format!("{}{name}\n", if *wanted { '+' } else { '-' });
        home.put(NAME, self.0.iter().map(line).collect::<String>().as_bytes())
    }
}
