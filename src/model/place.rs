//! Where a setting stands, so that a refusal can say where an admin changes it.

use std::fmt;

use super::{ClientId, GroupId, UnitPath, UserId};

/// What a mail program may use: the two protocols are switched independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// IMAP (RFC 3501).
    Imap,
    /// POP3 (RFC 1939).
    Pop,
}

impl Service {
    /// The word used in config files, the command line and the database: `imap` or `pop`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop => "pop",
        }
    }

    /// The name people read: `IMAP` or `POP`.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Imap => "IMAP",
            Self::Pop => "POP",
        }
    }

    /// Reads the word that [`Service::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "imap" => Some(Self::Imap),
            "pop" => Some(Self::Pop),
            _ => None,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// The place of the fact that decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The built-in default: both services are off at the root.
    Default,
    /// An organisational unit's own setting.
    Unit(UnitPath),
    /// A group's setting.
    Group(GroupId),
    /// The user's own row: a setting, an exception, suspension, or the switch users have for themselves.
    User(UserId),
    /// An app's entry in the catalogue.
    App(ClientId),
    /// The member list of a shared mailbox.
    Mailbox(UserId),
    /// The grant of a user to an app.
    Grant(UserId, ClientId),
}

/// `unit "/Sales"`, `group "pilot@example.com"`, ...: the words of `policy.toml`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Unit(unit) => write!(f, "unit \"{unit}\""),
            Self::Group(group) => write!(f, "group \"{group}\""),
            Self::User(user) => write!(f, "user \"{user}\""),
            Self::App(app) => write!(f, "app \"{app}\""),
            Self::Mailbox(mailbox) => write!(f, "mailbox \"{mailbox}\""),
            Self::Grant(user, app) => write!(f, "grant of \"{user}\" to app \"{app}\""),
        }
    }
}
