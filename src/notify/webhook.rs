//! Notices as signed HTTP requests, by the Standard Webhooks specification 1.0 (github.com/standard-webhooks): `webhook-id`,
//! `webhook-timestamp`, and `webhook-signature`, an HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
//!
//! The name is resolved here, each address looked at, and the request pinned to those that may be reached, so that a name
//! that changes its mind between look and request gains nothing. Redirects are not followed, proxies not used, and of the
//! answer nothing but its status is read.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Certificate, Client, StatusCode, Url, redirect::Policy};
use tokio::{
    net::lookup_host,
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{Handed, Webhook, address::is_public, letter};
use crate::model::{Secret, UnixTime};
use crate::store::Notice;

/// For so long what a name resolved to is used again.
const RESOLVED: Duration = Duration::from_secs(60);
/// For so long a name that did not resolve is not asked again.
const UNRESOLVED: Duration = Duration::from_secs(5);
/// Most addresses of a name that are used.
const ADDRESSES: usize = 16;

/// Why a webhook cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The URL is of no use.
    #[error("{host}: {problem}")]
    Url {
        /// Its host, as far as there is one: the rest of a webhook's URL may be a secret.
        host: String,
        /// What is wrong and how to mend it.
        problem: &'static str,
    },
    /// The certificates are of no use.
    #[error("{}: {problem}: name a PEM file with certificates in ca_file", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The bytes that a webhook is signed with.
#[derive(Clone)]
pub struct WebhookSecret(Secret, hmac::Key);

impl WebhookSecret {
    /// Reads `whsec_` and the base64 of 24 to 64 bytes, as the specification has it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix("whsec_") else {
            return Err("does not begin with whsec_");
        };
        let bytes = STANDARD.decode(rest).map_err(|_| "has no base64 after whsec_")?;
        if !(24..=64).contains(&bytes.len()) {
            return Err("stands for less than 24 or more than 64 bytes");
        }
        Ok(Self(Secret::new(text), hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn sign(&self, id: &str, at: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.1);
        context.update(format!("{id}.{at}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The channel of a webhook: the host, and what tells its URL from others without telling it.
pub fn channel(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let digest = digest::digest(&digest::SHA256, url.as_bytes());
    let hex: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("webhook:{host}:{hex}")
}

/// Checks a webhook's URL: https, or http to this machine where private addresses are allowed; no user, password or
/// fragment in it.
pub(super) fn check(url: &str, allow_private: bool) -> Result<Url, WebhookError> {
    let parsed = Url::parse(url);
    let host = parsed.as_ref().ok().and_then(|url| url.host_str()).unwrap_or("the URL").to_owned();
    let bad = |problem| Err(WebhookError::Url { host: host.clone(), problem });
    let Ok(url) = parsed else { return bad("is no URL: write https://HOST/PATH") };
    let literal = literal(&url);
    let local = url.host_str() == Some("localhost") || literal.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if local && allow_private => {}
        "http" if local => return bad("is this machine: write allow_private = true"),
        _ => return bad("is asked without TLS: write https://.."),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return bad("names no host");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return bad("has a user, a password or a fragment: leave it out");
    }
    if !allow_private && (local || literal.is_some_and(|address| !is_public(address))) {
        return bad("is no public address: write allow_private = true if it is meant");
    }
    Ok(url)
}

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// One webhook.
pub(super) struct Hook {
    url: Url,
    channel: String,
    secret: WebhookSecret,
    allow_private: bool,
    roots: Vec<Certificate>,
    answer: Duration,
    ready: Mutex<Option<Ready>>,
}

/// A client pinned to the addresses that the name had, or why there is none.
struct Ready {
    client: Result<Client, String>,
    at: Instant,
}

impl Ready {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < if self.client.is_ok() { RESOLVED } else { UNRESOLVED }
    }
}

impl Hook {
    pub(super) fn new(hook: &Webhook, answer: Duration) -> Result<Self, WebhookError> {
        let url = check(&hook.url, hook.allow_private)?;
        let roots = match &hook.ca_file {
            None => Vec::new(),
            Some(file) => {
                let wrong = |problem: String| WebhookError::CaFile { file: file.clone(), problem };
                let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                let roots = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
                if roots.is_empty() {
                    return Err(wrong("there is no certificate in it".to_owned()));
                }
                roots
            }
        };
        Ok(Self {
            channel: channel(&hook.url),
            url,
            secret: hook.secret.clone(),
            allow_private: hook.allow_private,
            roots,
            answer,
            ready: Mutex::new(None),
        })
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Posts one notice, within the time for an answer in all: another node may have it after its lease.
    pub(super) async fn send(&self, notice: &Notice, hostname: &str, now: UnixTime) -> Handed {
        let late = |_| Handed::NotNow(format!("no answer within {} s", self.answer.as_secs()));
        timeout(self.answer, self.hand_over(notice, hostname, now)).await.unwrap_or_else(late)
    }

    async fn hand_over(&self, notice: &Notice, hostname: &str, now: UnixTime) -> Handed {
        let client = match self.client().await {
            Ok(client) => client,
            Err(problem) => return Handed::NotNow(problem),
        };
        let (id, at) = (notice.unique_id(), now.secs());
        let body = letter::json(notice, hostname).to_string();
        let request = client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", at.to_string())
            .header("webhook-signature", self.secret.sign(&id, at, body.as_bytes()));
        match request.body(body).send().await {
            Ok(answer) => judge(answer.status()),
            // The URL may be a secret: it stays out of the log.
            Err(error) => Handed::NotNow(reason(&error.without_url())),
        }
    }

    /// A client for the addresses that the name has now and that may be reached.
    async fn client(&self) -> Result<Client, String> {
        let mut ready = self.ready.lock().await;
        if let Some(ready) = ready.as_ref().filter(|ready| ready.is_fresh()) {
            return ready.client.clone();
        }
        let client = self.resolved().await;
        *ready = Some(Ready { client: client.clone(), at: Instant::now() });
        client
    }

    async fn resolved(&self) -> Result<Client, String> {
        let addresses = self.addresses().await?;
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(self.answer)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if let Some(host) = self.url.host_str() {
            builder = builder.resolve_to_addrs(host, &addresses);
        }
        for root in &self.roots {
            builder = builder.add_root_certificate(root.clone());
        }
        builder.build().map_err(|error| error.to_string())
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let port = self.url.port_or_known_default().unwrap_or(443);
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let found: Vec<SocketAddr> = match literal(&self.url) {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => {
                // Half of the time, so that its end is remembered and not only that of the try.
                let found = timeout(self.answer / 2, lookup_host((host.as_str(), port))).await;
                let found = found.map_err(|_| format!("{host} was not resolved in time"))?;
                found.map_err(|error| format!("{host} cannot be resolved: {error}"))?.collect()
            }
        };
        usable(&host, &found, self.allow_private)
    }
}

/// Of the addresses of a name those that may be asked.
fn usable(host: &str, found: &[SocketAddr], allow_private: bool) -> Result<Vec<SocketAddr>, String> {
    let may = |address: &SocketAddr| allow_private || is_public(address.ip());
    let usable: Vec<SocketAddr> = found.iter().copied().filter(may).take(ADDRESSES).collect();
    if usable.is_empty() {
        return Err(format!("{host} has no public address; allow_private is not set"));
    }
    Ok(usable)
}

/// 2xx is a yes; 410 says that nobody is there any more; everything else, redirects included, may change.
fn judge(status: StatusCode) -> Handed {
    match status.as_u16() {
        200..=299 => Handed::Taken,
        410 => Handed::Never(format!("answered {status}")),
        300..=399 => Handed::NotNow(format!("answered {status}; redirects are not followed: correct the URL")),
        _ => Handed::NotNow(format!("answered {status}")),
    }
}

/// The error and its causes, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{Deed, NoticeKind};

    /// The example of the specification's own reference libraries.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(!format!("{secret:?}").contains("MfKQ"));
        for wrong in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_!!"] {
            assert!(WebhookSecret::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_webhook_goes_to_public_addresses_over_tls_unless_the_operator_says_otherwise() {
        for (url, usual, private) in [
            ("https://hooks.example.com/x?y=1", true, true),
            ("https://8.8.8.8/x", true, true),
            ("https://127.0.0.1/x", false, true),
            ("https://[::1]:8443/x", false, true),
            ("https://2130706433/x", false, true),
            ("https://0x7f.1/x", false, true),
            ("https://10.0.0.1/x", false, true),
            ("https://169.254.169.254/latest", false, true),
            ("https://localhost/x", false, true),
            ("http://127.0.0.1:8080/x", false, true),
            ("http://localhost:8080/x", false, true),
            ("http://10.0.0.1/x", false, false),
            ("http://hooks.example.com/x", false, false),
            ("https://user:pass@hooks.example.com/", false, false),
            ("https://hooks.example.com/#x", false, false),
            ("ftp://hooks.example.com/", false, false),
            ("file:///etc/passwd", false, false),
            ("hooks.example.com", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(url, false).is_ok(), usual, "{url}");
            assert_eq!(check(url, true).is_ok(), private, "{url}, allow_private");
        }
    }

    #[test]
    fn a_name_that_leads_to_private_addresses_is_asked_at_its_public_ones_alone() {
        let at = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed =
            at(&["10.0.0.1:443", "8.8.8.8:443", "[::1]:443", "[2606:4700::1111]:443", "169.254.169.254:443"]);
        let public = at(&["8.8.8.8:443", "[2606:4700::1111]:443"]);
        assert_eq!(usable("hooks.example.com", &mixed, false), Ok(public));
        assert_eq!(usable("hooks.example.com", &mixed, true), Ok(mixed));
        for found in [&[][..], &["127.0.0.1:443"], &["10.0.0.1:443", "[::ffff:10.0.0.1]:443"]] {
            let problem = usable("hooks.example.com", &at(found), false).unwrap_err();
            assert_eq!(problem, "hooks.example.com has no public address; allow_private is not set");
        }
        let many = vec![SocketAddr::from(([8, 8, 8, 8], 443)); ADDRESSES + 1];
        assert_eq!(usable("hooks.example.com", &many, false).unwrap().len(), ADDRESSES);
    }

    #[test]
    fn a_channel_names_the_host_and_keeps_the_rest_of_the_url_to_itself() {
        let (one, two) = (channel("https://hooks.example.com/T0/secret"), channel("https://hooks.example.com/T1"));
        assert!(one.starts_with("webhook:hooks.example.com:") && !one.contains("secret"), "{one}");
        assert_ne!(one, two);
        assert_eq!(one, channel("https://hooks.example.com/T0/secret"));
    }

    #[test]
    fn only_2xx_is_a_yes_and_only_410_an_end() {
        for status in [200, 202, 204] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), Handed::Taken);
        }
        assert!(matches!(judge(StatusCode::GONE), Handed::Never(_)));
        for status in [301, 302, 307, 400, 401, 404, 429, 500, 503] {
            assert!(matches!(judge(StatusCode::from_u16(status).unwrap()), Handed::NotNow(_)), "{status}");
        }
    }

    fn hook(url: &str) -> Hook {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let settings = Webhook { url: url.into(), secret, allow_private: true, ca_file: None };
        Hook::new(&settings, Duration::from_secs(30)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_waits_for_others_to_resolve_the_name_ends_in_time_too() {
        let hook = hook("https://127.0.0.1:9/");
        let _others = hook.ready.lock().await;
        let notice = letter::tests::notice(NoticeKind::AccessChange, Deed::Removed, "x");
        let handed = timeout(Duration::from_secs(31), hook.send(&notice, "localhost", UnixTime(0))).await;
        assert_eq!(handed.unwrap(), Handed::NotNow("no answer within 30 s".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_leads_nowhere_is_not_asked_again_at_once() {
        let mut hook = hook("https://127.0.0.1:9/");
        hook.allow_private = false;
        assert!(hook.client().await.is_err());
        hook.allow_private = true;
        assert!(hook.client().await.is_err(), "remembered");
        tokio::time::advance(UNRESOLVED).await;
        assert!(hook.client().await.is_ok());
    }
}
