//! Where an issuer's people sign in, as its configuration document says (OpenID Connect Discovery 1.0 section 3): for
//! mail programs that are told, and for the console's own sign-in.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::Url;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use super::{
    FetchError, IssuerError, Issuers, Settings, discovery,
    flight::Flights,
    http::{Http, check_address, is_loopback},
};
use crate::model::UnixTime;

/// What a program needs to know to sign people in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Where the browser is sent.
    pub authorization: String,
    /// Where the code is exchanged for tokens.
    pub token: String,
    /// Whether the issuer names itself in what it sends back (RFC 9207).
    pub names_itself: bool,
    /// Who tells more about the person whose token is shown (OpenID Connect Core 1.0 section 5.3).
    pub userinfo: Option<String>,
    /// Where the browser is sent to sign out (RP-Initiated Logout 1.0).
    pub end_session: Option<String>,
    /// An app's secret goes into the form, because HTTP Basic is not taken.
    pub secret_in_form: bool,
}

/// The endpoints of one issuer: asked for when somebody wants them, then remembered as long as keys are.
pub(super) struct Finder {
    settings: Settings,
    last: Mutex<Last>,
    flights: Arc<Flights<(), Answer>>,
}

type Answer = Result<Endpoints, FetchError>;

/// What came last, and when.
#[derive(Default)]
struct Last {
    good: Option<(UnixTime, Endpoints)>,
    /// After the good one.
    failed: Option<(UnixTime, FetchError)>,
}

impl Last {
    fn stale(&self, now: UnixTime, most: Duration) -> Option<Endpoints> {
        self.good.as_ref().filter(|(at, _)| now < *at + most).map(|(_, known)| known.clone())
    }
}

impl Issuers {
    /// The endpoints of the issuer at this address. Errors: its configuration document cannot be had or used; that too is
    /// remembered for `forced_gap`, so that many who ask do not become many questions.
    pub async fn endpoints(&self, url: &str, now: UnixTime) -> Result<Endpoints, FetchError> {
        let unknown = || FetchError::Address { url: url.to_owned(), problem: "it is none of the issuers" };
        let issuer = self.issuer(url).ok_or_else(unknown)?;
        issuer.finder.find(&self.tasks, now).await
    }
}

impl Finder {
    /// Fetches nothing yet, and needs nothing of what it takes to fetch: few issuers are ever asked.
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self { settings: settings.clone(), last: Mutex::default(), flights: Flights::new() })
    }

    pub(super) async fn find(self: &Arc<Self>, tasks: &TaskTracker, now: UnixTime) -> Answer {
        if let Some(answer) = self.remembered(now) {
            return answer;
        }
        let question = || {
            let finder = Arc::clone(self);
            Some(async move {
                let answer = finder.ask().await;
                if let Err(error) = &answer {
                    let issuer = &finder.settings.rules.url;
                    tracing::warn!(%issuer, %error, "the issuer's endpoints could not be read");
                }
                finder.remember(now, answer)
            })
        };
        let url = self.settings.rules.url.clone();
        let gone = FetchError::NoAnswer { url, problem: "the question was given up".into() };
        self.flights.join((), tasks, question).await.unwrap_or(Err(gone))
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, now: UnixTime) -> Option<Answer> {
        let last = self.last();
        let fresh = |at: UnixTime, time| at <= now && now < at + time;
        if let Some((_, known)) = last.good.as_ref().filter(|(at, _)| fresh(*at, self.settings.refresh)) {
            return Some(Ok(known.clone()));
        }
        let (_, error) = last.failed.as_ref().filter(|(at, _)| fresh(*at, self.settings.forced_gap))?;
        Some(last.stale(now, self.settings.max_stale).ok_or_else(|| error.clone()))
    }

    /// What is to be answered now that this came. An issuer that does not answer changes nothing, for as long as its keys
    /// stay good.
    fn remember(&self, now: UnixTime, answer: Answer) -> Answer {
        let mut last = self.last();
        match answer {
            Ok(known) => {
                *last = Last { good: Some((now, known.clone())), failed: None };
                Ok(known)
            }
            Err(error) => {
                last.failed = Some((now, error.clone()));
                last.stale(now, self.settings.max_stale).ok_or(error)
            }
        }
    }

    async fn ask(&self) -> Answer {
        let own = self.settings.openid_configuration.clone();
        let document = check_address(&own.unwrap_or_else(|| self.settings.well_known()))?;
        let no_client =
            |error: IssuerError| FetchError::NoAnswer { url: document.to_string(), problem: error.to_string() };
        let http = Http::new(&self.settings, is_loopback(&document)).map_err(no_client)?;
        read(&http.get(&document).await?, &document, &self.settings.rules.url)
    }
}

/// The members that matter here.
#[derive(Deserialize)]
struct Document {
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

fn read(body: &[u8], document: &Url, issuer: &str) -> Answer {
    let needs = "\"issuer\", \"authorization_endpoint\" and \"token_endpoint\"";
    let read: Document = discovery::read(body, document, issuer, needs)?;
    check_address(&read.authorization_endpoint)?;
    check_address(&read.token_endpoint)?;
    // What is no address is as good as none.
    let address = |text: Option<String>| text.filter(|text| check_address(text).is_ok());
    let takes = |method: &str| read.token_endpoint_auth_methods_supported.iter().any(|own| own == method);
    Ok(Endpoints {
        secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
        userinfo: address(read.userinfo_endpoint),
        end_session: address(read.end_session_endpoint),
        authorization: read.authorization_endpoint,
        token: read.token_endpoint,
        names_itself: read.authorization_response_iss_parameter_supported,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ISSUER: &str = "https://id.example.com";

    fn read_text(text: &str) -> Answer {
        read(
            text.as_bytes(),
            &Url::parse("https://id.example.com/.well-known/openid-configuration").unwrap(),
            ISSUER,
        )
    }

    #[test]
    fn endpoints_come_from_the_issuers_own_document_alone() {
        let good = r#"{"issuer": "https://id.example.com", "authorization_endpoint": "https://login.example.com/auth",
            "token_endpoint": "https://id.example.com/token", "jwks_uri": "x"}"#;
        let found = read_text(good).unwrap();
        let (authorization, token) = (found.authorization.as_str(), found.token.as_str());
        assert_eq!((authorization, token), ("https://login.example.com/auth", "https://id.example.com/token"));
        assert!(!found.names_itself);
        let names = good.replace("\"jwks_uri\": \"x\"", "\"authorization_response_iss_parameter_supported\": true");
        assert!(read_text(&names).unwrap().names_itself);
        assert_eq!((found.userinfo, found.end_session, found.secret_in_form), (None, None, false));
        let more = r#""userinfo_endpoint": "https://id.example.com/me", "end_session_endpoint": "javascript:alert(1)",
            "token_endpoint_auth_methods_supported": ["client_secret_post"]"#;
        let found = read_text(&good.replace("\"jwks_uri\": \"x\"", more)).unwrap();
        assert_eq!(found.userinfo.as_deref(), Some("https://id.example.com/me"));
        assert_eq!((found.end_session, found.secret_in_form), (None, true));
        for (what, text) in [
            ("another issuer", good.replace("\"https://id.example.com\"", "\"https://evil.example.com\"")),
            ("no token endpoint", good.replace("token_endpoint", "other")),
            ("plain http", good.replace("https://login", "http://login")),
            ("a script", good.replace("https://login.example.com/auth", "javascript:alert(1)")),
            ("issuer twice", good.replace("\"jwks_uri\"", "\"issuer\"")),
            ("no JSON", "<html>".to_owned()),
            ("a list", "[]".to_owned()),
        ] {
            assert!(read_text(&text).is_err(), "{what}");
        }
    }

    #[test]
    fn endpoints_that_were_good_stay_so_while_the_issuer_does_not_answer() {
        use crate::token::Rules;
        let settings = Settings::new(Rules::new(ISSUER, ["portcullis"]), None);
        let (refresh, gap, most) = (settings.refresh, settings.forced_gap, settings.max_stale);
        let finder = Finder::new(&settings);
        let (start, second) = (UnixTime::from_secs(1_000_000), Duration::from_secs(1));
        let good = Endpoints { token: "https://id.example.com/token".into(), ..Endpoints::default() };
        let silence = || FetchError::NoAnswer { url: ISSUER.into(), problem: "refused".into() };

        assert!(finder.remember(start, Err(silence())).is_err());
        assert!(finder.remembered(start).is_some_and(|answer| answer.is_err()), "not asked again at once");
        assert!(finder.remembered(start + gap).is_none());

        assert_eq!(finder.remember(start, Ok(good.clone())).ok(), Some(good.clone()));
        assert_eq!(finder.remembered(start + refresh - second).and_then(Result::ok), Some(good.clone()));
        let late = start + refresh;
        assert!(finder.remembered(late).is_none(), "asked again");
        assert_eq!(finder.remember(late, Err(silence())).ok(), Some(good.clone()));
        assert_eq!(finder.remembered(late + second).and_then(Result::ok), Some(good));
        assert!(finder.remember(start + most, Err(silence())).is_err(), "as stale as keys may be");
    }
}
