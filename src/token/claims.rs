//! Claims by their types. A claim that is looked at and has the wrong JSON type is an error, never an absent claim
//! (CVE-2026-25537 was the other way). Claims that nobody asks for may have any shape.

use serde_json::{Map, Value};

use super::{Rules, TokenError, error::short};
use crate::model::{ClientId, UnixTime, UserId};

/// Latest moment that a NumericDate may name: the end of the year 9999.
const LAST_DATE_S: f64 = 253_402_300_799.0;

/// Claims that an ID token, a logout token or another security event has and an access token does not. Source:
/// OpenID Connect Core 1.0 sections 2, 3.1.3.6 and 3.3.2.11; RFC 8417 section 2.2; OpenID Connect Back-Channel
/// Logout 1.0 section 2.4.
const FOREIGN_CLAIMS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "events"];

/// The claims of one token.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A string, or absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// A string that has to be there.
    pub(super) fn needed_text(&self, name: &str) -> Result<&str, TokenError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A truth value, or absent.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong_type(name, "true or false")),
        }
    }

    /// A NumericDate (RFC 7519 section 2), fractions allowed, cut to milliseconds; or absent.
    pub(super) fn date(&self, name: &str) -> Result<Option<UnixTime>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let secs = value.as_f64().filter(|_| value.is_number()).ok_or_else(|| wrong_type(name, "a number"))?;
        if !(0.0..=LAST_DATE_S).contains(&secs) {
            return Err(wrong_type(name, "a time between 1970 and 9999, in seconds"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "in range, checked above; the fraction is cut on purpose"
        )]
        Ok(Some(UnixTime((secs * 1000.0) as i64)))
    }

    /// A string or a list of strings; or absent.
    pub(super) fn one_or_many(&self, name: &str) -> Result<Option<Vec<&str>>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text])),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                texts.map(Some).ok_or_else(|| wrong_type(name, "a string or a list of strings"))
            }
            Some(_) => Err(wrong_type(name, "a string or a list of strings")),
        }
    }

    /// `aud` has one of our names (RFC 7519 section 4.1.3).
    pub(super) fn audience(&self, rules: &Rules, needed: bool) -> Result<String, TokenError> {
        let found = match self.one_or_many("aud")? {
            Some(found) => found,
            None if needed => return Err(missing("aud")),
            None => return Ok("not given".into()),
        };
        one_of(&found, &rules.audience)
    }

    /// `aud` has one of these names.
    pub(super) fn audience_of(&self, ours: &[String]) -> Result<String, TokenError> {
        one_of(&self.one_or_many("aud")?.ok_or_else(|| missing("aud"))?, ours)
    }

    /// The app, and the claim that named it: the one of [`Rules::app_claim`] where the token has it, else `azp`, else
    /// `client_id`. Where the last two both stand they must agree, whatever names the app (product.md section 1; RFC 9068
    /// section 2.2).
    pub(super) fn app<'r>(&self, rules: &'r Rules) -> Result<(ClientId, &'r str), TokenError> {
        let (azp, client_id) = (self.text("azp")?, self.text("client_id")?);
        if let (Some(azp), Some(client_id)) = (azp, client_id)
            && azp != client_id
        {
            return Err(TokenError::AppsDiffer { azp: short(azp), client_id: short(client_id) });
        }
        let named = match &rules.app_claim {
            Some(claim) => self.text(claim)?.map(|app| (app, claim.as_str())),
            None => None,
        };
        let found = named.or(azp.map(|app| (app, "azp"))).or(client_id.map(|app| (app, "client_id")));
        let (app, claim) = found.ok_or_else(|| missing("azp or client_id"))?;
        let app = ClientId::parse(app).map_err(|error| TokenError::App { problem: error.to_string() })?;
        Ok((app, claim))
    }

    /// The user, by the claim that the issuer's rules name. An e-mail address that the issuer itself calls
    /// unverified names nobody (OpenID Connect Core 1.0 section 5.7): its holder may have typed someone else's.
    pub(super) fn user(&self, rules: &Rules) -> Result<UserId, TokenError> {
        let text = self.needed_text(&rules.user_claim)?;
        if rules.user_claim == "email" && self.truth("email_verified")? == Some(false) {
            return Err(TokenError::User { problem: "the issuer says email_verified is false".into() });
        }
        rules.user(text).map_err(|error| TokenError::User { problem: error.to_string() })
    }

    /// `cnf` binds a token to a key that its sender has to prove (RFC 7800 section 3.1). Nothing here can check the
    /// proof, and a bound token taken as a bearer token would undo what its issuer meant.
    pub(super) fn unbound(&self) -> Result<(), TokenError> {
        let Some(confirmation) = self.0.get("cnf") else { return Ok(()) };
        let method = confirmation.as_object().and_then(|members| members.keys().next()).map_or("cnf", |name| name);
        Err(TokenError::Bound { method: short(method) })
    }

    /// The scopes of `scope` and `scp`, each a list or words between spaces (RFC 8693 section 4.2; `scp` is Entra
    /// ID's and Okta's name for it).
    pub(super) fn scopes(&self) -> Result<Vec<String>, TokenError> {
        let mut scopes: Vec<String> = Vec::new();
        for name in ["scope", "scp"] {
            for text in self.one_or_many(name)?.unwrap_or_default() {
                scopes.extend(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
            }
        }
        Ok(scopes)
    }

    /// What is certainly no access token, though its header's `typ` is absent or `JWT`. `token_use` is Cognito's
    /// word, the claim `typ` Keycloak's.
    pub(super) fn no_other_kind(&self) -> Result<(), TokenError> {
        let found = |mark: String| Err(TokenError::Type { mark });
        if let Some(name) = FOREIGN_CLAIMS.iter().find(|name| self.0.contains_key(**name)) {
            return found(format!("it has the claim {name:?}"));
        }
        if let Some(kind) = self.0.get("token_use").and_then(Value::as_str).filter(|kind| *kind != "access") {
            return found(format!("its claim token_use is {:?}", short(kind)));
        }
        let kind = self.0.get("typ").and_then(Value::as_str);
        if let Some(kind) = kind.filter(|kind| ["ID", "Refresh", "Offline", "Logout"].contains(kind)) {
            return found(format!("its claim typ is {kind:?}"));
        }
        Ok(())
    }
}

fn one_of(found: &[&str], ours: &[String]) -> Result<String, TokenError> {
    match found.iter().find(|name| ours.iter().any(|ours| ours == *name)) {
        Some(name) => Ok(short(name)),
        None => Err(TokenError::Audience {
            found: found.iter().take(10).map(|name| short(name)).collect(),
            wanted: ours.to_vec(),
        }),
    }
}

pub(super) fn missing(claim: &str) -> TokenError {
    TokenError::ClaimMissing { claim: claim.into() }
}

pub(super) fn wrong_type(claim: &str, expected: &'static str) -> TokenError {
    TokenError::ClaimType { claim: claim.into(), expected }
}
