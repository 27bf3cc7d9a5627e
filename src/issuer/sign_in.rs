//! Signing people in at an issuer: authorization code with PKCE, as an app of our own there. Called by `admin`.
//!
//! Source: OpenID Connect Core 1.0 section 3.1, Discovery 1.0, RP-Initiated Logout 1.0; RFC 7636 (PKCE), RFC 9207 (`iss`),
//! RFC 9700 section 2.1.

use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{
    Endpoints, FetchError, IssuerError, Issuers, Outage, Settings, SignInClient, Unidentified,
    ask::{basic, form_encoded},
    http::{Http, check_address, is_loopback},
};
use crate::model::{Secret, UnixTime};
use crate::token::{Asked, SignIn, TokenError, Vouched, examine_id_token, peek_issuer};

/// Codes being exchanged at once; beyond it people are told to come back.
const AT_ONCE: usize = 16;

/// Our app at one issuer.
pub(super) struct Desk {
    client: SignInClient,
    http: Http,
    issuer: Url,
    places: Semaphore,
}

/// Why nobody is signed in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignInError {
    /// No issuer is set up for it.
    #[error("sign-in is not set up: the config has no [http.signin]")]
    NotSetUp,
    /// The issuer does not answer, or not as it should.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The issuer does not take the code: used, expired, or not ours.
    #[error("the issuer does not take the code: {error}")]
    Code {
        /// Its own word: `invalid_grant`, `invalid_client`, ...
        error: String,
    },
    /// What the issuer answered is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody can tell now.
    #[error("{0}")]
    Unavailable(Unidentified),
}

impl From<Unidentified> for SignInError {
    fn from(error: Unidentified) -> Self {
        match error {
            Unidentified::Token(error) => Self::Token(error),
            other => Self::Unavailable(other),
        }
    }
}

impl SignInError {
    /// The word for the audit row.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotSetUp => "signin_not_set_up",
            Self::Fetch(_) => "unavailable_issuer",
            Self::Code { .. } => "signin_code",
            Self::Token(error) => error.reason(),
            Self::Unavailable(error) => error.reason(),
        }
    }

    /// Whether another try may do better.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::Unavailable(_))
    }
}

/// What goes with a person to the issuer, and comes back.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where the issuer sends the person back to.
    pub redirect_uri: &'a str,
    /// Comes back with the person.
    pub state: &'a str,
    /// Comes back in the ID token.
    pub nonce: &'a str,
    /// The SHA-256 of the verifier, in base64url.
    pub challenge: &'a str,
}

/// What came back with a person.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// The code.
    pub code: &'a Secret,
    /// The same as in the [`Question`].
    pub redirect_uri: &'a str,
    /// What the challenge was made of.
    pub verifier: &'a Secret,
    /// The same as in the [`Question`].
    pub nonce: &'a str,
}

impl Issuers {
    /// The address of the issuer that people sign in at, if there is one.
    pub fn sign_in_issuer(&self) -> Option<&str> {
        self.desk().ok().map(|(issuer, _)| issuer.settings.rules.url.as_str())
    }

    fn desk(&self) -> Result<(&super::Issuer, &Desk), SignInError> {
        let mut all = self.list.iter();
        all.find_map(|issuer| Some((issuer, issuer.desk.as_ref()?))).ok_or(SignInError::NotSetUp)
    }

    /// The address to send a person to.
    pub async fn sign_in_address(&self, asked: Question<'_>, now: UnixTime) -> Result<Url, SignInError> {
        let (issuer, desk) = self.desk()?;
        let mut url = check_address(&issuer.finder.find(&self.tasks, now).await?.authorization)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &desk.client.client_id)
            .append_pair("redirect_uri", asked.redirect_uri)
            .append_pair("scope", &desk.client.scope)
            .append_pair("state", asked.state)
            .append_pair("nonce", asked.nonce)
            .append_pair("code_challenge", asked.challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Exchanges a code for an ID token and believes it or not.
    pub async fn redeem(&self, returned: Returned<'_>, now: UnixTime) -> Result<SignIn, SignInError> {
        let (issuer, desk) = self.desk()?;
        let rules = &issuer.settings.rules;
        let busy = || Unidentified::Unavailable { issuer: rules.url.clone(), outage: Outage::Busy };
        let _place = desk.places.try_acquire().map_err(|_| busy())?;
        let endpoints = issuer.finder.find(&self.tasks, now).await?;
        let answer = desk.exchange(&endpoints, returned).await?;
        let asked = Asked { client_id: &desk.client.client_id, nonce: returned.nonce };
        let vouched = self.vouched(issuer, &answer.id_token, asked, now).await?;
        let userinfo = endpoints.userinfo.as_deref().and_then(|text| desk.near(text));
        match (vouched.sign_in(), userinfo) {
            (Ok(sign_in), _) => Ok(sign_in),
            (Err(vouched), Some(userinfo)) => {
                let body = desk.http.get_with(&userinfo, &answer.access_token).await?;
                Ok(vouched.with_userinfo(&body, rules)?)
            }
            (Err(_), None) => Err(TokenError::ClaimMissing { claim: rules.user_claim.clone() }.into()),
        }
    }

    async fn vouched(
        &self,
        issuer: &super::Issuer,
        token: &Secret,
        asked: Asked<'_>,
        now: UnixTime,
    ) -> Result<Vouched, Unidentified> {
        let rules = &issuer.settings.rules;
        let text = token.reveal();
        let kid = peek_issuer(text, rules.max_token)?.kid;
        let Some(ring) = &issuer.ring else {
            return Err(TokenError::KeyNotNamed { candidates: 0, issuer: rules.url.clone() }.into());
        };
        let look = |keys: &_| examine_id_token(text, asked, rules, keys, now);
        let (_, examined) = self.examine(kid.as_deref(), issuer, ring, look, now).await?;
        let examined = examined?;
        self.off_io(issuer, move || examined.prove()).await
    }

    /// Where to send a person who signs out, so that they are signed out at the issuer too; none if it has no such place or
    /// does not answer. Source: OpenID Connect RP-Initiated Logout 1.0 section 2.
    pub async fn sign_out_address(&self, back: &str, now: UnixTime) -> Option<Url> {
        let (issuer, desk) = self.desk().ok()?;
        let endpoints = issuer.finder.find(&self.tasks, now).await.ok()?;
        let mut url = check_address(&endpoints.end_session?).ok()?;
        url.query_pairs_mut()
            .append_pair("client_id", &desk.client.client_id)
            .append_pair("post_logout_redirect_uri", back);
        Some(url)
    }
}

/// The token endpoint's answer to a good code (OpenID Connect Core 1.0 section 3.1.3.3).
struct Granted {
    id_token: Secret,
    access_token: Secret,
}

impl Granted {
    fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Text {
            id_token: String,
            access_token: String,
        }
        let Text { id_token, access_token } = serde_json::from_slice(body).ok()?;
        Some(Self { id_token: Secret::new(id_token), access_token: Secret::new(access_token) })
    }
}

/// Its answer to a bad one (RFC 6749 section 5.2).
#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Desk {
    pub(super) fn new(settings: &Settings, client: &SignInClient) -> Result<Self, IssuerError> {
        let name = &settings.rules.url;
        let address = |text: &str| {
            check_address(text).map_err(|source| IssuerError::Address { issuer: name.clone(), source })
        };
        let issuer = address(name)?;
        client.token_endpoint.as_deref().map(address).transpose()?;
        if settings.keys.is_none() {
            return Err(IssuerError::Settings {
                issuer: name.clone(),
                problem: "people sign in there by [http.signin], and without keys its ID tokens cannot be checked; set \
                          jwks_url, or discovery = true",
            });
        }
        Ok(Self {
            client: client.clone(),
            http: Http::new(settings, is_loopback(&issuer))?,
            issuer,
            places: Semaphore::new(AT_ONCE),
        })
    }

    /// Where codes go: what the config says, or the document if that stays at the issuer's origin, so that a document cannot
    /// send us, with a secret, to an address inside our own network.
    fn token_endpoint(&self, endpoints: &Endpoints) -> Result<Url, FetchError> {
        match &self.client.token_endpoint {
            Some(own) => check_address(own),
            None => self.near(&endpoints.token).ok_or_else(|| FetchError::Content {
                url: self.issuer.to_string(),
                problem: "its token_endpoint is at another origin than the issuer; if that is right, set \
                          http.signin.token_endpoint to it"
                    .into(),
            }),
        }
    }

    fn near(&self, text: &str) -> Option<Url> {
        check_address(text).ok().filter(|url| url.origin() == self.issuer.origin())
    }

    async fn exchange(&self, endpoints: &Endpoints, returned: Returned<'_>) -> Result<Granted, SignInError> {
        let mut form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            form_encoded(returned.code.reveal()),
            form_encoded(returned.redirect_uri),
            form_encoded(returned.verifier.reveal())
        );
        let login = match &self.client.client_secret {
            Some(secret) if !endpoints.secret_in_form => basic(&self.client.client_id, secret),
            secret => {
                form.push_str(&format!("&client_id={}", form_encoded(&self.client.client_id)));
                if let Some(secret) = secret {
                    form.push_str(&format!("&client_secret={}", form_encoded(secret.reveal())));
                }
                None
            }
        };
        let url = self.token_endpoint(endpoints)?;
        let (status, body) = self.http.post_any(&url, form, login.as_ref()).await?;
        let content = |problem: &str| FetchError::Content { url: url.to_string(), problem: problem.into() };
        match status {
            200 => Granted::read(&body)
                .ok_or_else(|| content("it is no JSON object with id_token and access_token, each once").into()),
            400 | 401 => {
                let refused: Refused = serde_json::from_slice(&body)
                    .map_err(|_| content("it is no OAuth error, though its status says so"))?;
                // A word of the issuer's, on its way into a log and a page.
                let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
                Err(SignInError::Code { error: refused.error.chars().filter(plain).take(60).collect() })
            }
            status => Err(FetchError::Status { url: url.to_string(), status }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::issuer::KeySource;
    use crate::token::Rules;

    const ISSUER: &str = "https://id.example.com";

    fn desk(token_endpoint: Option<&str>) -> Result<Desk, IssuerError> {
        let settings = Settings::new(Rules::new(ISSUER, ["portcullis"]), Some(KeySource::Discovery));
        Desk::new(&settings, &client(token_endpoint))
    }

    fn client(token_endpoint: Option<&str>) -> SignInClient {
        let token_endpoint = token_endpoint.map(str::to_owned);
        SignInClient { client_id: "console".into(), client_secret: None, scope: "openid".into(), token_endpoint }
    }

    #[test]
    fn a_code_and_a_secret_go_to_the_issuers_origin_or_where_the_config_says() {
        let told = |token: &str| Endpoints { token: token.into(), ..Endpoints::default() };
        for (own, document, expected) in [
            (None, "https://id.example.com/token", Some("https://id.example.com/token")),
            (None, "https://id.example.com:8443/token", None),
            (None, "https://10.0.0.1/token", None),
            (None, "http://id.example.com/token", None),
            (
                Some("https://oauth2.example.net/token"),
                "https://10.0.0.1/token",
                Some("https://oauth2.example.net/token"),
            ),
        ] {
            let found = desk(own).unwrap().token_endpoint(&told(document));
            let found = found.map(String::from).map_err(|error| error.to_string());
            assert_eq!(found.clone().ok().as_deref(), expected, "{own:?} {document}");
            assert!(found.is_ok() || found.unwrap_err().contains("http.signin.token_endpoint"), "{document}");
        }
        assert!(desk(Some("http://oauth2.example.net/token")).is_err(), "plain http");
    }

    #[test]
    fn without_keys_there_is_no_sign_in() {
        let settings = Settings::new(Rules::new(ISSUER, ["portcullis"]), None);
        let error = Desk::new(&settings, &client(None)).err().unwrap().to_string();
        assert!(error.contains("without keys its ID tokens cannot be checked; set jwks_url"), "{error}");
    }

    #[test]
    fn nobody_signs_in_where_no_issuer_is_set_up_for_it() {
        let settings = Settings::new(Rules::new(ISSUER, ["portcullis"]), Some(KeySource::Discovery));
        let issuers = Issuers::new(vec![settings]).unwrap();
        assert_eq!(issuers.sign_in_issuer(), None);
    }
}
