//! What one issuer's tokens have to fulfil: the part of `[[issuer]]` that is about the token itself.

use serde_json::Value;

use super::{Algorithm, Identity};
use crate::model::{BadName, Service, UserId};

/// The rules for the tokens of one issuer. Filled by `config`; [`Rules::new`] has the defaults of product.md
/// section 9 and threats.md section 6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The issuer's address; `iss` must equal it byte for byte.
    pub url: String,
    /// Our names at this issuer; `aud` must contain one. Empty: no token passes.
    pub audience: Vec<String>,
    /// What `aud` of this issuer's identity events must contain one of; default the audience of its tokens.
    pub event_audience: Vec<String>,
    /// How old an identity event may be, in seconds.
    pub event_age_s: u64,
    /// The algorithms allowed; default all of [`Algorithm::ALL`].
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the user by address: `email`, `preferred_username`, `upn`, ...
    pub user_claim: String,
    /// The claim that names the app where a token has it, instead of `azp` and `client_id`: `software_id` (RFC 7591 section
    /// 2) of an issuer that gives each installation of a program a client ID of its own. The issuer must vouch for the
    /// claim: what a client may write itself names any app. None: not looked at.
    pub app_claim: Option<String>,
    /// Scopes of which IMAP needs one; empty: not looked at.
    pub scope_imap: Vec<String>,
    /// Scopes of which POP needs one; empty: not looked at.
    pub scope_pop: Vec<String>,
    /// How long after `exp` a token is still taken, in seconds.
    pub leeway_s: u64,
    /// How far ahead of our clock `nbf` and `iat` may be, in seconds.
    pub skew_s: u64,
    /// Longest token, in bytes.
    pub max_token: usize,
    /// Deepest nesting of a token's JSON, or of an introspection answer; at most 64.
    pub json_depth: usize,
    /// Whether local parts of addresses compare without regard to ASCII letter case at this issuer's domains.
    pub fold_local_part: bool,
    /// Which tokens are a service account's: an app acting for a user by domain-wide delegation.
    pub service_account: Option<ClaimRule>,
    /// Whether only `typ: at+jwt` is taken (RFC 9068 section 4), instead of also `JWT` and none.
    pub only_at_jwt: bool,
    /// Whether an introspection answer needs `aud`, which RFC 7662 section 2.2 leaves out at will.
    pub introspection_needs_audience: bool,
}

/// A rule about one claim: `{ claim = "gty", equals = "client-credentials" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// The claim's name.
    pub claim: String,
    /// The value that counts; for a list, one of its entries. None: any value but `false` and `null`.
    pub equals: Option<String>,
}

impl ClaimRule {
    /// True if the claim has a value that counts. Numbers and truth values compare as JSON writes them.
    pub(super) fn matches(&self, found: Option<&Value>) -> bool {
        let Some(found) = found else { return false };
        match (&self.equals, found) {
            (None, value) => !matches!(value, Value::Null | Value::Bool(false)),
            (Some(wanted), Value::Array(list)) => list.iter().any(|entry| equals(entry, wanted)),
            (Some(wanted), value) => equals(value, wanted),
        }
    }
}

fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(true) => wanted == "true",
        Value::Bool(false) => wanted == "false",
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}

impl Rules {
    /// The defaults for an issuer: every algorithm, `email`, no scope, 30 s and 60 s, 16 KiB, 16 levels.
    pub fn new(url: impl Into<String>, audience: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let audience: Vec<String> = audience.into_iter().map(Into::into).collect();
        Self {
            url: url.into(),
            event_audience: audience.clone(),
            event_age_s: 24 * 3600,
            audience,
            algorithms: Algorithm::ALL.to_vec(),
            user_claim: "email".into(),
            app_claim: None,
            scope_imap: Vec::new(),
            scope_pop: Vec::new(),
            leeway_s: 30,
            skew_s: 60,
            max_token: 16 * 1024,
            json_depth: 16,
            fold_local_part: false,
            service_account: None,
            only_at_jwt: false,
            introspection_needs_audience: true,
        }
    }

    /// The scopes of which `service` needs one.
    pub fn scopes_for(&self, service: Service) -> &[String] {
        match service {
            Service::Imap => &self.scope_imap,
            Service::Pop => &self.scope_pop,
        }
    }

    /// True if the token has one of the scopes that `service` needs, or needs none.
    pub fn scope_suffices(&self, who: &Identity, service: Service) -> bool {
        let wanted = self.scopes_for(service);
        wanted.is_empty() || wanted.iter().any(|scope| who.scopes().iter().any(|held| held == scope))
    }

    /// The scopes for `service` as the error challenge names them, separated by spaces.
    pub fn scope_text(&self, service: Service) -> String {
        self.scopes_for(service).join(" ")
    }

    /// Reads an address as this issuer's users are compared: the domain in lower case, the local part as
    /// configured. For the user claim and for the SASL `user=` alike.
    pub fn user(&self, text: &str) -> Result<UserId, BadName> {
        let user = UserId::parse(text)?;
        if self.fold_local_part && user.local().bytes().any(|b| b.is_ascii_uppercase()) {
            return UserId::parse(&text.to_ascii_lowercase());
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_rule_compares_text_numbers_truth_and_list_entries() {
        let rule = |equals: Option<&str>| ClaimRule { claim: "x".into(), equals: equals.map(Into::into) };
        for (equals, value, expected) in [
            (Some("svc"), json!("svc"), true),
            (Some("svc"), json!("SVC"), false),
            (Some("svc"), json!(["a", "svc"]), true),
            (Some("true"), json!(true), true),
            (Some("7"), json!(7), true),
            (Some("svc"), json!({"svc": 1}), false),
            (None, json!("x"), true),
            (None, json!(false), false),
            (None, json!(null), false),
        ] {
            assert_eq!(rule(equals).matches(Some(&value)), expected, "{equals:?} {value}");
        }
        assert!(!rule(None).matches(None));
    }

    #[test]
    fn a_local_part_is_folded_only_where_the_issuer_says_so() {
        let mut rules = Rules::new("https://id.example.com", ["portcullis"]);
        assert_eq!(rules.user("Ann@Example.com").map(|u| u.to_string()), Ok("Ann@example.com".into()));
        rules.fold_local_part = true;
        assert_eq!(rules.user("Ann@Example.com").map(|u| u.to_string()), Ok("ann@example.com".into()));
    }
}
