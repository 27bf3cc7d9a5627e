//! The error challenge: base64 of a small JSON object that tells the mail program's OAuth part what to do next.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::Mechanism;

/// Why a sign-in failed, as far as the OAuth part of a mail program needs to know. Everything else (which policy,
/// which app) is said in the tagged reply, and only to a peer whose token was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The token was not believed: get another one.
    InvalidToken,
    /// The token was believed and does not open this: another one of the same kind will not help.
    InsufficientScope,
}

/// The text for the `+ ` line after a failure: base64, padded, without a line end.
///
/// OAUTHBEARER (RFC 7628 section 3.2.2): `{"status":"invalid_token","scope":"..","openid-configuration":".."}`.
/// XOAUTH2 (Gmail IMAP documentation): `{"status":"401","schemes":"bearer","scope":".."}`, 403 for the second
/// failure. `scope` is a space-separated list and may be empty: then OAUTHBEARER leaves it out. `discovery` is the
/// address of the issuer's configuration document, where one is known.
pub fn challenge(mechanism: Mechanism, failure: Failure, scope: &str, discovery: Option<&str>) -> String {
    let mut body = serde_json::Map::new();
    match mechanism {
        Mechanism::OauthBearer => {
            let status = match failure {
                Failure::InvalidToken => "invalid_token",
                Failure::InsufficientScope => "insufficient_scope",
            };
            body.insert("status".into(), json!(status));
            if !scope.is_empty() {
                body.insert("scope".into(), json!(scope));
            }
            if let Some(address) = discovery {
                body.insert("openid-configuration".into(), json!(address));
            }
        }
        Mechanism::Xoauth2 => {
            let status = match failure {
                Failure::InvalidToken => "401",
                Failure::InsufficientScope => "403",
            };
            body.insert("status".into(), json!(status));
            body.insert("schemes".into(), json!("bearer"));
            body.insert("scope".into(), json!(scope));
        }
    }
    STANDARD.encode(serde_json::Value::Object(body).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_mechanism_hears_its_own_words_of_failure() {
        let address = "https://id.example.com/.well-known/openid-configuration";
        let discovery = Some(address);
        let cases = [
            (
                Mechanism::OauthBearer,
                Failure::InvalidToken,
                "mail",
                discovery,
                json!({"status": "invalid_token", "scope": "mail", "openid-configuration": address}),
            ),
            (Mechanism::OauthBearer, Failure::InsufficientScope, "", None, json!({"status": "insufficient_scope"})),
            (
                Mechanism::Xoauth2,
                Failure::InvalidToken,
                "mail",
                discovery,
                json!({"status": "401", "schemes": "bearer", "scope": "mail"}),
            ),
            (
                Mechanism::Xoauth2,
                Failure::InsufficientScope,
                "a \"b",
                None,
                json!({"status": "403", "schemes": "bearer", "scope": "a \"b"}),
            ),
        ];
        for (mechanism, failure, scope, discovery, expected) in cases {
            let bytes = STANDARD.decode(challenge(mechanism, failure, scope, discovery)).unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body, expected, "{mechanism:?} {failure:?}");
        }
    }
}
