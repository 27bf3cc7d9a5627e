//! Names as people and issuers write them. Each type's `parse` is the only way in, and says what is wrong.

use std::{borrow::Borrow, collections::HashSet, fmt, sync::Arc};

/// Why a name was not accepted: what was read and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {problem}")]
pub struct BadName {
    /// What the name was to be: `unit path`, `user`, `group`, `client ID`, `upstream`, `mail`.
    pub kind: &'static str,
    /// The text that was read, cut at 100 characters.
    pub text: String,
    /// What is wrong and how to mend it.
    pub problem: &'static str,
}

impl BadName {
    pub(super) fn new(kind: &'static str, text: &str, problem: &'static str) -> Self {
        Self { kind, text: text.chars().take(100).collect(), problem }
    }
}

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A person's or a shared mailbox's address: `ann@example.com`.
///
/// Shape: one `@`, 1 to 64 bytes before it, 1 to 255 after, no white space, no control characters; the domain in ASCII
/// lower case, the local part exactly as given. Source: RFC 5321 sections 2.4 and 4.5.3.1. Two addresses are equal
/// when they are equal bytes after that one normalisation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);
name!(UserId);

impl UserId {
    /// Checks the shape and lower-cases the domain's ASCII letters; changes nothing else.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |problem| Err(BadName::new("user", text, problem));
        let Some((local, domain)) = text.split_once('@') else {
            return bad("is not an address: write it as name@domain");
        };
        if local.is_empty() || local.len() > 64 {
            return bad("needs 1 to 64 bytes before the @");
        }
        if domain.is_empty() || domain.len() > 255 || domain.contains('@') {
            return bad("needs one domain of 1 to 255 bytes after the @");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return bad("contains white space or a control character");
        }
        if domain.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase()).into()));
        }
        Ok(Self(text.into()))
    }

    /// The part before the `@`.
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// The part after the `@`, in ASCII lower case.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

/// A node of the one tree of organisational units: `/`, `/Sales`, `/Sales/Field`.
///
/// Shape: starts with `/`; segments of 1 to 100 characters, neither `.` nor `..`, no control characters, no white
/// space at a segment's ends; at most 32 segments and 1000 bytes. Case matters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitPath(Arc<str>);
name!(UnitPath);

impl UnitPath {
    /// Most segments in a path.
    pub const MAX_DEPTH: usize = 32;

    /// The root, `/`, which every tree has.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Checks the shape; changes nothing.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |problem| Err(BadName::new("unit path", text, problem));
        if text == "/" {
            return Ok(Self::root());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return bad("must start with /");
        };
        if text.len() > 1000 || rest.split('/').count() > Self::MAX_DEPTH {
            return bad("is too long: at most 1000 bytes and 32 levels");
        }
        for segment in rest.split('/') {
            if segment.is_empty() {
                return bad("has an empty segment: no // and no / at the end");
            }
            if segment == "." || segment == ".." || segment.chars().count() > 100 {
                return bad("has a segment that is ., .. or longer than 100 characters");
            }
            if segment.trim() != segment || segment.chars().any(char::is_control) {
                return bad("has white space at a segment's end or a control character");
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether it is `top` or below it.
    pub fn is_within(&self, top: &Self) -> bool {
        let below = self.0.strip_prefix(&*top.0);
        &*top.0 == "/" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The unit above, none for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some(("", "")) | None => None,
            Some(("", _)) => Some(Self::root()),
            Some((above, _)) => Some(Self(above.into())),
        }
    }
}

/// The name of a group, written as an address or as a plain word: `pilot@example.com`.
///
/// Shape: 1 to 255 bytes, no white space, no control characters; compared as exact bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);
name!(GroupId);

impl GroupId {
    /// Checks the shape; changes nothing.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadName::new("group", text, "needs 1 to 255 bytes without white space"));
        }
        Ok(Self(text.into()))
    }
}

/// OAuth client ID of an app, exactly as its issuer spells it; case matters.
///
/// Shape: 1 to 255 printable ASCII bytes, no space, no comma. Source: RFC 6749 section 2.2 and appendix A.1, which
/// allow space and comma too; admins paste lists separated by them, so we do not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);
name!(ClientId);

impl ClientId {
    /// Checks the shape; changes nothing.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |problem| Err(BadName::new("client ID", text, problem));
        if text.is_empty() {
            return bad("is empty");
        }
        if text.len() > 255 {
            return bad("is longer than 255 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
            return bad("may hold printable ASCII only, without space and comma");
        }
        Ok(Self(text.into()))
    }

    /// Fewest bytes before the `*` of an entry that stands for every client ID with that beginning.
    pub const MIN_PREFIX: usize = 8;

    /// Checks an entry of a list or of the app catalogue: a client ID, or the beginning of client IDs with a `*` behind
    /// it, for issuers that register apps dynamically (RFC 7591).
    ///
    /// A `*` is the last character and has at least [`ClientId::MIN_PREFIX`] bytes before it; anywhere else it is an
    /// error, so that no entry looks like more than it is.
    pub fn parse_entry(text: &str) -> Result<Self, BadName> {
        let bad = |problem| Err(BadName::new("client ID", text, problem));
        match text.find('*') {
            Some(at) if at + 1 < text.len() => bad("has a * before its end: only a last * stands for any ending"),
            Some(at) if at < Self::MIN_PREFIX => bad("needs at least 8 characters before its *"),
            _ => Self::parse(text),
        }
    }

    /// What an entry with a last `*` matches: every client ID that begins so. None for an entry that matches exactly.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*').filter(|prefix| prefix.len() >= Self::MIN_PREFIX && !prefix.contains('*'))
    }

    /// A pasted list, `id, id, id`: trims, drops duplicates, keeps the order; an empty or blank entry is an error. Entries
    /// are as [`ClientId::parse_entry`] takes them.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, BadName> {
        let mut seen = HashSet::new();
        let mut list: Vec<Self> = Vec::new();
        for entry in text.split(',') {
            let app = Self::parse_entry(entry.trim())?;
            if seen.insert(app.clone()) {
                list.push(app);
            }
        }
        Ok(list)
    }
}

/// The name of an `[[upstream]]`, the mail servers where some people's mail is: `dovecot`.
///
/// Shape: 1 to 64 ASCII letters, digits, `-`, `_` and `.`; not `maildir` in any letter case, which stands for the embedded
/// store. Compared as exact bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(Arc<str>);
name!(UpstreamName);

impl UpstreamName {
    /// Checks the shape; changes nothing.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |problem| Err(BadName::new("upstream", text, problem));
        if text.is_empty() || text.len() > 64 {
            return bad("needs 1 to 64 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return bad("may hold letters, digits, - _ and . only");
        }
        if text.eq_ignore_ascii_case("maildir") {
            return bad("is the name of the embedded store: choose another");
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_local_part_and_lower_cases_its_domain() {
        assert_eq!(UserId::parse("Ann@Example.COM").map(|u| u.to_string()), Ok("Ann@example.com".into()));
        for wrong in ["ann", "@example.com", "ann@", "a@b@c", "an n@example.com", "ann@example.com\n", "a\0@b"] {
            assert!(UserId::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_unit_path_knows_its_parent() {
        let parents = [("/", None), ("/Sales", Some("/")), ("/Sales/Field", Some("/Sales"))];
        for (path, parent) in parents {
            let above = UnitPath::parse(path).map(|p| p.parent().map(|p| p.to_string()));
            assert_eq!(above, Ok(parent.map(String::from)), "{path}");
        }
        for wrong in ["", "Sales", "//", "/Sales/", "/a//b", "/..", "/ a", "/a\tb\u{7}"] {
            assert!(UnitPath::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_pasted_list_of_client_ids_is_trimmed_and_deduplicated_in_order() {
        let list =
            |text| ClientId::parse_list(text).map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(list(" b, a ,b"), Ok(vec!["b".to_owned(), "a".to_owned()]));
        for wrong in ["", "a,,b", "a, ", "a b", "ä"] {
            assert!(list(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_entry_may_end_in_a_star_behind_eight_characters_and_nowhere_else() {
        for (entry, prefix) in
            [("vendor12*", Some("vendor12")), ("vendor.mail", None), ("12345678*", Some("12345678"))]
        {
            let parsed = ClientId::parse_entry(entry);
            assert_eq!(parsed.as_ref().map(|entry| entry.prefix()), Ok(prefix), "{entry}");
        }
        for wrong in ["*", "vendor1*", "vendor12**", "ven*dor123", "*vendor123", "vendor12*x", ""] {
            assert!(ClientId::parse_entry(wrong).is_err(), "{wrong:?}");
        }
        // What a token says is no entry: it is compared as it is.
        assert_eq!(ClientId::parse("short*").map(|id| id.prefix().is_none()), Ok(true));
    }
}
