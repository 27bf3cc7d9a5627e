//! What each user may use up: sessions at once, bytes of a day. What each unit says, and what is in force for a user. Pure.

use std::fmt;

use super::{Ceiling, Directory};
use crate::model::{UnitPath, UserId};

/// What a unit says of what each of its users may use up; what is absent it inherits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Open sessions of each service; where nobody says anything, the configuration's `limits.sessions_per_user`.
    pub sessions_per_user: Option<Ceiling>,
    /// Bytes received and sent in a day (UTC), by all sessions together; where nobody says anything, no limit.
    pub bytes_per_day: Option<Ceiling>,
}

impl LimitSettings {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for LimitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: Option<String>| text.unwrap_or_else(|| "inherits".to_owned());
        let sessions = or(self.sessions_per_user.map(Ceiling::count_text));
        write!(
            f,
            "sessions per user {sessions}, bytes per day {}",
            or(self.bytes_per_day.map(Ceiling::storage_text))
        )
    }
}

/// A limit in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'d> {
    /// So much, and no more.
    pub most: u64,
    /// The unit that says so.
    pub unit: &'d UnitPath,
}

impl Directory {
    /// What the nearest unit upwards says of a user's sessions; none: the configuration's limit counts.
    pub fn session_limit(&self, user: &UserId) -> Option<Ceiling> {
        let unit = self.user(user)?.unit();
        self.tree.nearest(unit, |terms| terms.limits.sessions_per_user).map(|(ceiling, _)| ceiling)
    }

    /// How many bytes a user may receive and send in a day; none: so many as they like.
    pub fn byte_limit(&self, user: &UserId) -> Option<Bound<'_>> {
        if !self.limits_bytes() {
            return None;
        }
        let (ceiling, unit) = self.tree.nearest(self.user(user)?.unit(), |terms| terms.limits.bytes_per_day)?;
        Some(Bound { most: ceiling.most()?, unit })
    }

    /// Whether anybody's bytes are limited.
    pub fn limits_bytes(&self) -> bool {
        self.tree.limits_bytes()
    }

    /// What is in force for a unit's users, as far as units say anything.
    pub fn limits_for_unit(&self, unit: &UnitPath) -> LimitSettings {
        let unit = self.tree.number_or_above(unit);
        let in_force = |of: fn(&LimitSettings) -> Option<Ceiling>| {
            self.tree.nearest(unit, |terms| of(&terms.limits)).map(|(ceiling, _)| ceiling)
        };
        LimitSettings {
            sessions_per_user: in_force(|limits| limits.sessions_per_user),
            bytes_per_day: in_force(|limits| limits.bytes_per_day),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::{Unit, file};

    #[test]
    fn each_limit_is_inherited_by_itself_and_a_unit_below_may_lift_it() {
        let text = "\
            [unit.\"/\"]\nsessions_per_user = 4\n[unit.\"/Sales\"]\nbytes_per_day = \"1M\"\n\
            [unit.\"/Sales/Field\"]\nsessions_per_user = \"none\"\n[unit.\"/Sales/Road\"]\nbytes_per_day = \"none\"\n\
            [user.\"root@x\"]\nunit = \"/\"\n[user.\"sal@x\"]\nunit = \"/Sales\"\n[user.\"flo@x\"]\nunit = \"/Sales/Field\"\n\
            [user.\"rob@x\"]\nunit = \"/Sales/Road\"\n";
        let mut directory = file::parse(text).unwrap().to_directory();
        let user = |name: &str| UserId::parse(name).unwrap();
        let sales = UnitPath::parse("/Sales").unwrap();
        let mega = Some(Bound { most: 1 << 20, unit: &sales });
        for (name, sessions, bytes) in [
            ("root@x", Some(Ceiling::At(4)), None),
            ("sal@x", Some(Ceiling::At(4)), mega),
            ("flo@x", Some(Ceiling::Unlimited), mega),
            ("rob@x", Some(Ceiling::At(4)), None),
            ("nobody@x", None, None),
        ] {
            assert_eq!(
                (directory.session_limit(&user(name)), directory.byte_limit(&user(name))),
                (sessions, bytes),
                "{name}"
            );
        }
        let below = directory.limits_for_unit(&UnitPath::parse("/Sales/Field/New").unwrap());
        assert_eq!(below.to_string(), "sessions per user none, bytes per day 1M");
        directory.put_unit(&sales, Some(&Unit::default()));
        assert!(!directory.limits_bytes(), "nobody's bytes need to be looked at any more");
        assert_eq!(directory.byte_limit(&user("sal@x")), None);
    }
}
