//! One entry of the change feed: what was committed, so that every gate can look again.

/// A committed change of the database, in order of `number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the feed; grows by at least one with each change.
    pub number: i64,
    /// What kind of row changed.
    pub kind: ChangeKind,
    /// The row: a unit path, a user, `user client-id` for a grant, `[issuer, kind, subject]` as JSON for a cutoff, empty
    /// for many rows at once.
    pub subject: String,
}

/// The kind of row a [`Change`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Units, groups, users, mailboxes or apps, many at once: read the directory again.
    Directory,
    /// One unit.
    Unit,
    /// One group.
    Group,
    /// One user.
    User,
    /// One shared mailbox.
    Mailbox,
    /// One app.
    App,
    /// One grant.
    Grant,
    /// A request that every node end certain sessions; no row of the directory.
    Sessions,
    /// One cutoff.
    Cutoff,
}

impl ChangeKind {
    const WORDS: [(Self, &'static str); 9] = [
        (Self::Directory, "directory"),
        (Self::Unit, "unit"),
        (Self::Group, "group"),
        (Self::User, "user"),
        (Self::Mailbox, "mailbox"),
        (Self::App, "app"),
        (Self::Grant, "grant"),
        (Self::Sessions, "sessions"),
        (Self::Cutoff, "cutoff"),
    ];

    /// The word kept in the database.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("directory", |(_, word)| word)
    }

    /// Reads the word that [`ChangeKind::word`] writes; a newer version's word counts as `directory`.
    pub fn from_word(word: &str) -> Self {
        Self::WORDS.iter().find(|(_, w)| *w == word).map_or(Self::Directory, |(kind, _)| *kind)
    }
}
