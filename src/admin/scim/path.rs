//! Names of attributes as filters, operations and `attributes=` write them (RFC 7644 section 3.10).

use super::{
    error::{ScimError, ScimType},
    schema::{GROUP, USER},
};

/// Longest name with its schema, in bytes.
const MOST_BYTES: usize = 300;

/// An attribute, step by step: `["name", "familyName"]`, `["urn:...:User", "department"]`. The schemas of users and groups
/// themselves are left out; letter case is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttributePath(Vec<String>);

impl AttributePath {
    /// Reads `name`, `name.sub` or `urn:..:name.sub`.
    pub(super) fn parse(text: &str) -> Result<Self, ScimError> {
        let bad = |what: &str| {
            let shown: String = text.chars().take(100).collect();
            Err(ScimError::new(ScimType::InvalidPath, format!("{shown:?}: {what}: write it as name.familyName")))
        };
        if text.len() > MOST_BYTES {
            return bad("this is too long for an attribute");
        }
        let (schema, name) = match text.get(..4) {
            Some(start) if start.eq_ignore_ascii_case("urn:") => match text.rsplit_once(':') {
                Some((schema, name)) => (Some(schema), name),
                None => (None, text),
            },
            _ => (None, text),
        };
        let mut steps = Vec::new();
        if let Some(schema) = schema {
            if !schema.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-_".contains(&b)) {
                return bad("this is no schema");
            }
            if ![USER, GROUP].iter().any(|own| own.eq_ignore_ascii_case(schema)) {
                steps.push(schema.to_owned());
            }
        }
        for step in name.split('.') {
            let mut bytes = step.bytes();
            let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'$');
            if !begins || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                return bad("this is no attribute");
            }
            steps.push(step.to_owned());
        }
        if name.split('.').count() > 2 {
            return bad("there is nothing that deep");
        }
        Ok(Self(steps))
    }

    /// The steps; at least one.
    pub(super) fn steps(&self) -> &[String] {
        &self.0
    }

    /// The first step.
    pub(super) fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Whether it is this attribute, whatever its letter case.
    pub(super) fn is(&self, steps: &[&str]) -> bool {
        self.0.len() == steps.len() && self.0.iter().zip(steps).all(|(own, other)| own.eq_ignore_ascii_case(other))
    }

    /// The same as one step, where a whole extension is meant: `urn:..:2.0:User` reads as an attribute `User`.
    pub(super) fn whole(&self) -> String {
        self.0.join(":")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_with_and_without_their_schema() {
        for (text, steps) in [
            ("userName", &["userName"][..]),
            ("name.familyName", &["name", "familyName"]),
            ("urn:ietf:params:scim:schemas:core:2.0:User:userName", &["userName"]),
            ("URN:ietf:params:scim:schemas:core:2.0:user:name.givenName", &["name", "givenName"]),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value",
                &["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "manager", "value"],
            ),
            ("members.$ref", &["members", "$ref"]),
        ] {
            assert!(AttributePath::parse(text).unwrap().is(steps), "{text}");
        }
        for text in ["", ".", "a..b", "a.b.c", "1a", "a b", "urn:", "urn:a b:c", "é", &"a".repeat(301)] {
            assert_eq!(AttributePath::parse(text).unwrap_err().word(), "invalidPath", "{text}");
        }
    }
}
