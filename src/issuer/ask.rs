//! Asking an issuer about a token that only it can read (RFC 7662), once for all who wait, and not again for a
//! while.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use moka::sync::Cache;
use reqwest::{Url, header::HeaderValue};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::model::{Secret, UnixTime};
use crate::token::{Fingerprint, Identity, Rules, TokenError, from_introspection};

use super::{
    Introspection, IssuerError, Limits, Outage, Settings, Unidentified,
    flight::Flights,
    http::{Http, check_address, is_loopback},
};

/// One issuer's introspection endpoint.
pub(super) struct Asker {
    rules: Rules,
    http: Http,
    endpoint: Url,
    login: HeaderValue,
    /// How long a yes counts.
    pub remember: Duration,
    remember_refusal: Duration,
    questions: Arc<Semaphore>,
    refused: Cache<Fingerprint, (UnixTime, TokenError)>,
    flights: Arc<Flights<Fingerprint, Result<Identity, Unidentified>>>,
}

impl Asker {
    pub(super) fn new(settings: &Settings, how: &Introspection, limits: &Limits) -> Result<Self, IssuerError> {
        let issuer = &settings.rules.url;
        let endpoint = check_address(&how.endpoint)
            .map_err(|source| IssuerError::Address { issuer: issuer.clone(), source })?;
        Ok(Self {
            rules: settings.rules.clone(),
            http: Http::new(settings, is_loopback(&endpoint))?,
            login: basic(&how.client_id, &how.client_secret).ok_or_else(|| IssuerError::Settings {
                issuer: issuer.clone(),
                problem: "introspection needs a client_id",
            })?,
            endpoint,
            remember: how.remember,
            remember_refusal: how.remember_refusal,
            questions: Arc::new(Semaphore::new(limits.questions)),
            refused: Cache::new(limits.refused),
            flights: Flights::new(),
        })
    }

    /// What the issuer says of the token now. A refusal may be up to `remember_refusal` old.
    pub(super) async fn ask(
        self: &Arc<Self>,
        token: &str,
        fingerprint: Fingerprint,
        tasks: &TaskTracker,
        now: UnixTime,
    ) -> Result<Identity, Unidentified> {
        if let Some((at, error)) = self.refused.get(&fingerprint)
            && at <= now
            && now < at + self.remember_refusal
        {
            return Err(Unidentified::Token(error));
        }
        let question = || {
            let place = self.questions.clone().try_acquire_owned().ok()?;
            let (asker, token) = (self.clone(), Secret::new(token));
            Some(async move {
                let answer = asker.question(&token, fingerprint, now).await;
                drop(place);
                answer
            })
        };
        let answer = self.flights.join(fingerprint, tasks, question).await;
        answer.unwrap_or_else(|| Err(self.unavailable(Outage::Busy)))
    }

    async fn question(
        &self,
        token: &Secret,
        fingerprint: Fingerprint,
        now: UnixTime,
    ) -> Result<Identity, Unidentified> {
        let form = format!("token={}&token_type_hint=access_token", form_encoded(token.reveal()));
        let body = match self.http.post(&self.endpoint, form, &self.login).await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(issuer = %self.rules.url, %error, "introspection failed");
                return Err(self.unavailable(Outage::Introspection));
            }
        };
        match from_introspection(&body, &self.rules, fingerprint, now) {
            Ok(identity) => {
                self.refused.invalidate(&fingerprint);
                Ok(identity)
            }
            // An answer that is none says nothing about the token.
            Err(error @ TokenError::Json { .. }) => {
                tracing::warn!(issuer = %self.rules.url, %error, "introspection failed");
                Err(self.unavailable(Outage::Introspection))
            }
            Err(error) => {
                self.refused.insert(fingerprint, (now, error.clone()));
                Err(Unidentified::Token(error))
            }
        }
    }

    fn unavailable(&self, outage: Outage) -> Unidentified {
        Unidentified::Unavailable { issuer: self.rules.url.clone(), outage }
    }
}

/// `Basic` with name and secret form-encoded first, as RFC 6749 section 2.3.1 has it. None without a name.
pub(super) fn basic(client_id: &str, client_secret: &Secret) -> Option<HeaderValue> {
    if client_id.is_empty() {
        return None;
    }
    let secret = Zeroizing::new(form_encoded(client_secret.reveal()));
    let pair = Zeroizing::new(format!("{}:{}", form_encoded(client_id), *secret));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair.as_bytes()))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `application/x-www-form-urlencoded` of one value (WHATWG URL, section 5.2).
pub(super) fn form_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_value_survives_whatever_is_in_it() {
        assert_eq!(form_encoded("a b+c/d=e&f:g~ä"), "a+b%2Bc%2Fd%3De%26f%3Ag%7E%C3%A4");
    }

    #[test]
    fn name_and_secret_are_encoded_before_they_are_joined() {
        let value = basic("a:b", &Secret::new("c d")).and_then(|value| value.to_str().map(str::to_owned).ok());
        assert_eq!(value, Some(format!("Basic {}", STANDARD.encode("a%3Ab:c+d"))));
        assert!(basic("", &Secret::new("x")).is_none());
    }
}
