//! The five system flags, and the letters that stand for them in a Maildir file name.

/// A set of IMAP's system flags (RFC 3501 section 2.3.2); `\Recent` is not among them, it belongs to a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

/// How STORE combines the flags given with those there are (RFC 3501 section 6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const EVERY: Self = Self(31);
    /// `\Draft`
    pub const DRAFT: Self = Self(1);
    /// `\Flagged`
    pub const FLAGGED: Self = Self(2);
    /// `\Answered`
    pub const ANSWERED: Self = Self(4);
    /// `\Seen`
    pub const SEEN: Self = Self(8);
    /// `\Deleted`
    pub const DELETED: Self = Self(16);

    /// Each flag with its name on the wire and its letter in file names, in ASCII order of the letters as
    /// <https://cr.yp.to/proto/maildir.html> demands.
    const ALL: [(Self, &'static str, u8); 5] = [
        (Self::DRAFT, "\\Draft", b'D'),
        (Self::FLAGGED, "\\Flagged", b'F'),
        (Self::ANSWERED, "\\Answered", b'R'),
        (Self::SEEN, "\\Seen", b'S'),
        (Self::DELETED, "\\Deleted", b'T'),
    ];

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the flags that are set, as on the wire: `\Seen`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(_, name, _)| name)
    }

    /// The flag of that name, in any letter case: `\seen`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)).map(|(flag, ..)| *flag)
    }

    /// The flag a letter of a file name stands for.
    pub(super) fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| *known == letter).map(|(flag, ..)| *flag)
    }

    /// The letters of the flags that are set, in ASCII order.
    pub(super) fn letters(self) -> impl Iterator<Item = u8> {
        Self::ALL.into_iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(.., letter)| letter)
    }

    /// What STORE leaves.
    pub fn changed(self, op: FlagOp, given: Self) -> Self {
        match op {
            FlagOp::Add => self.union(given),
            FlagOp::Remove => self.without(given),
            FlagOp::Replace => given,
        }
    }
}
