//! How much mail may take up: what each unit says, and what is in force for a mailbox (RFC 9208). Pure.

use std::fmt;

use super::Directory;
use crate::model::{BadName, UnitPath, UserId};

/// What a unit says of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// No limit, whatever the units above say.
    Unlimited,
    /// At most so much: bytes, or messages.
    At(u64),
}

/// The largest limit: what fits the database, and IMAP's 63 bits.
const LARGEST: u64 = i64::MAX as u64;
const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl Ceiling {
    /// Reads a limit of storage: `none`, or bytes, with `K`, `M`, `G` or `T` behind them for 1,024 and its powers.
    pub fn parse_storage(text: &str) -> Result<Self, BadName> {
        const PROBLEM: &str = "is no limit: write bytes, as 500M or 5G, or none";
        let bad = || BadName { kind: "storage quota", text: text.chars().take(100).collect(), problem: PROBLEM };
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("none") {
            return Ok(Self::Unlimited);
        }
        let last = trimmed.chars().next_back().map(|c| c.to_ascii_uppercase());
        let unit = UNITS.into_iter().find(|(letter, _)| Some(*letter) == last);
        let digits = if unit.is_some() { trimmed.get(..trimmed.len() - 1).unwrap_or_default() } else { trimmed };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit.map_or(1, |(_, size)| size)));
        bytes.filter(|bytes| *bytes <= LARGEST).map(Self::At).ok_or_else(bad)
    }

    /// Reads a limit of messages: `none` or a number.
    pub fn parse_messages(text: &str) -> Result<Self, BadName> {
        Self::parse_count(text, "message quota", "is no limit: write a number of messages, or none")
    }

    /// Reads a limit of sessions: `none` or a number.
    pub fn parse_sessions(text: &str) -> Result<Self, BadName> {
        const PROBLEM: &str = "is no limit: write a number of sessions from 1 on, or none";
        let kind = "session limit";
        match Self::parse_count(text, kind, PROBLEM)? {
            // Whoever is to have none has the service off, and is told so.
            Self::At(0) => Err(BadName { kind, text: text.to_owned(), problem: PROBLEM }),
            limit => Ok(limit),
        }
    }

    /// Reads a limit of the bytes of a day, as [`Ceiling::parse_storage`] reads one of storage.
    pub fn parse_bytes_per_day(text: &str) -> Result<Self, BadName> {
        const PROBLEM: &str = "is no limit: write bytes from 1 on, as 500M or 5G, or none";
        // As with sessions: none at all is the service off.
        let parsed = Self::parse_storage(text).ok().filter(|limit| *limit != Self::At(0));
        parsed.ok_or_else(|| BadName {
            kind: "limit of bytes per day",
            text: text.chars().take(100).collect(),
            problem: PROBLEM,
        })
    }

    fn parse_count(text: &str, kind: &'static str, problem: &'static str) -> Result<Self, BadName> {
        let bad = || BadName { kind, text: text.chars().take(100).collect(), problem };
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("none") {
            return Ok(Self::Unlimited);
        }
        if trimmed.is_empty() || !trimmed.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        trimmed.parse().ok().filter(|count| *count <= LARGEST).map(Self::At).ok_or_else(bad)
    }

    /// As the database keeps it: -1 is no limit.
    pub fn number(self) -> i64 {
        match self {
            Self::Unlimited => -1,
            Self::At(most) => i64::try_from(most).unwrap_or(i64::MAX),
        }
    }

    /// Reads what [`Ceiling::number`] writes.
    pub fn from_number(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Unlimited, Self::At)
    }

    /// The limit, if there is one.
    pub fn most(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(most) => Some(most),
        }
    }

    /// As [`Ceiling::parse_storage`] reads it, with the largest unit that says it exactly: `5G`.
    pub fn storage_text(self) -> String {
        match self {
            Self::Unlimited => "none".to_owned(),
            Self::At(bytes) => {
                let unit = UNITS.into_iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
                unit.map_or_else(|| bytes.to_string(), |(letter, size)| format!("{}{letter}", bytes / size))
            }
        }
    }

    /// As [`Ceiling::parse_messages`] and [`Ceiling::parse_sessions`] read it.
    pub fn count_text(self) -> String {
        self.most().map_or_else(|| "none".to_owned(), |most| most.to_string())
    }
}

/// What a unit says of quotas; what is absent it inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaSettings {
    /// Bytes of mail for each mailbox.
    pub storage: Option<Ceiling>,
    /// Messages for each mailbox.
    pub messages: Option<Ceiling>,
}

impl QuotaSettings {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for QuotaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = self.storage.map(Ceiling::storage_text);
        let messages = self.messages.map(Ceiling::count_text);
        let or = |text: Option<String>| text.unwrap_or_else(|| "inherits".to_owned());
        write!(f, "storage quota {}, message quota {}", or(storage), or(messages))
    }
}

/// What one mailbox may take up; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The sum of all messages' sizes, in bytes.
    pub bytes: Option<u64>,
    /// How many messages.
    pub messages: Option<u64>,
}

impl Quota {
    /// Whether nothing is limited.
    pub fn is_none(self) -> bool {
        self.bytes.is_none() && self.messages.is_none()
    }
}

impl Directory {
    /// What a mailbox may take up: by the unit of its user, or of a shared mailbox; one without a unit follows the
    /// root. The nearest unit upwards that says something counts, for each resource by itself.
    pub fn quota_of(&self, owner: &UserId) -> Quota {
        self.tree.quota(self.unit_of_owner(owner))
    }

    /// What a unit's mailboxes may take up. A unit that nobody made inherits like any other.
    pub fn quota_for_unit(&self, unit: &UnitPath) -> Quota {
        self.tree.quota(self.tree.number_or_above(unit))
    }

    /// The number of the unit that a mailbox follows: its user's, or its own where it is shared; else the root.
    pub(super) fn unit_of_owner(&self, owner: &UserId) -> u32 {
        let unit = match self.user(owner) {
            Some(row) => Some(row.unit()),
            None => self.mailbox(owner).and_then(|row| row.unit),
        };
        unit.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Mailbox, Unit, User};

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, limit) in [
            ("none", Some(Ceiling::Unlimited)),
            (" NONE ", Some(Ceiling::Unlimited)),
            ("0", Some(Ceiling::At(0))),
            ("1000", Some(Ceiling::At(1000))),
            ("2k", Some(Ceiling::At(2048))),
            ("5G", Some(Ceiling::At(5 << 30))),
            ("8388607T", Some(Ceiling::At(8_388_607 << 40))),
            ("8388608T", None),
            ("9223372036854775808", None),
            ("", None),
            ("G", None),
            ("-1", None),
            ("5GB", None),
            ("1.5G", None),
            ("+5", None),
            ("inherit", None),
        ] {
            assert_eq!(Ceiling::parse_storage(text).ok(), limit, "{text:?}");
        }
        for (text, limit) in
            [("12", Some(Ceiling::At(12))), ("none", Some(Ceiling::Unlimited)), ("1K", None), ("", None)]
        {
            assert_eq!(Ceiling::parse_messages(text).ok(), limit, "{text:?}");
        }
    }

    #[test]
    fn each_resource_is_inherited_by_itself_and_an_override_may_say_none() {
        let path = |text: &str| UnitPath::parse(text).unwrap();
        let user = |text: &str| UserId::parse(text).unwrap();
        let mut directory = Directory::new();
        let unit = |storage, messages| Unit { quota: QuotaSettings { storage, messages }, ..Unit::default() };
        directory.put_unit(&path("/"), Some(&unit(Some(Ceiling::At(1000)), Some(Ceiling::At(10)))));
        directory.put_unit(&path("/Sales"), Some(&unit(Some(Ceiling::Unlimited), None)));
        directory.put_unit(&path("/Sales/Field"), Some(&unit(None, Some(Ceiling::At(5)))));
        for (name, unit) in
            [("root@x", "/"), ("ann@x", "/Sales"), ("bob@x", "/Sales/Field"), ("eve@x", "/Other/Unit")]
        {
            directory.put_user(&user(name), &User::in_unit(path(unit)));
        }
        let team = Mailbox { unit: Some(path("/Sales")), ..Mailbox::default() };
        directory.put_mailbox(&user("team@x"), Some(&team));
        directory.put_mailbox(&user("all@x"), Some(&Mailbox::default()));
        let quota = |bytes, messages| Quota { bytes, messages };
        for (name, expected) in [
            ("root@x", quota(Some(1000), Some(10))),
            ("ann@x", quota(None, Some(10))),
            ("bob@x", quota(None, Some(5))),
            ("eve@x", quota(Some(1000), Some(10))),
            ("team@x", quota(None, Some(10))),
            ("all@x", quota(Some(1000), Some(10))),
        ] {
            assert_eq!(directory.quota_of(&user(name)), expected, "{name}");
        }
        assert_eq!(directory.quota_for_unit(&path("/Sales/Field/New")), quota(None, Some(5)));
        directory.put_unit(&path("/Sales/Field"), None);
        assert_eq!(directory.quota_of(&user("bob@x")), quota(None, Some(10)), "dropped, it inherits again");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(most in 0..=LARGEST, unlimited in any::<bool>()) {
            let limit = if unlimited { Ceiling::Unlimited } else { Ceiling::At(most) };
            prop_assert_eq!(Ceiling::parse_storage(&limit.storage_text()), Ok(limit));
            prop_assert_eq!(Ceiling::parse_messages(&limit.count_text()), Ok(limit));
            prop_assert_eq!(Ceiling::from_number(limit.number()), limit);
        }
    }
}
