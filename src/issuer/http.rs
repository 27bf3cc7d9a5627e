//! The only place that talks HTTP with issuers: no redirects, a time limit, a size limit, JSON answers with status
//! 200.

use std::{net::IpAddr, time::Duration};

use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

use crate::model::Secret;
use crate::token::KeySetError;

use super::{IssuerError, Settings};

/// The types of key sets, configuration documents and introspection answers (RFC 7517 section 8.5).
const JSON_TYPES: &str = "application/json, application/jwk-set+json";

/// Why an answer could not be had or used. Nothing is changed by any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Not an address that may be asked.
    #[error("{url:?} cannot be used: {problem}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No answer, or one that broke off.
    #[error("no answer from {url}: {problem}")]
    NoAnswer {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A status other than 200; a redirect counts as one.
    #[error("{url} answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// Larger than `jwks.reply_bytes`.
    #[error("the answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// Not what should be there.
    #[error("the answer of {url} cannot be used: {problem}")]
    Content {
        /// The address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No usable key set.
    #[error("{url}: {source}")]
    KeySet {
        /// The address or file.
        url: String,
        /// What is wrong with it.
        source: KeySetError,
    },
}

/// Checks an address from the settings or a configuration document: `https`, or `http` to this machine itself; no
/// user, password or fragment in it.
pub(super) fn check_address(text: &str) -> Result<Url, FetchError> {
    let bad = |problem| FetchError::Address { url: text.chars().take(200).collect(), problem };
    let url = Url::parse(text).map_err(|_| bad("it is not an address"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(bad("http is only for loopback; use https")),
        _ => return Err(bad("use https")),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(bad("it has a user, a password or a fragment"));
    }
    Ok(url)
}

/// True for an address on this machine: `localhost`, 127.0.0.0/8, `::1`.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An HTTP client for one issuer.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    reply_bytes: usize,
}

impl Http {
    /// `direct`: to this machine, so past any proxy of the environment.
    pub(super) fn new(settings: &Settings, direct: bool) -> Result<Self, IssuerError> {
        let Settings { timeout, reply_bytes, .. } = *settings;
        let (issuer, ca_file) = (&settings.rules.url, &settings.ca_file);
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if direct {
            builder = builder.no_proxy();
        }
        if let Some(file) = ca_file {
            let wrong = |problem: String| IssuerError::CaFile { issuer: issuer.into(), file: file.into(), problem };
            let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            let list = reqwest::Certificate::from_pem_bundle(&text).map_err(|error| wrong(error.to_string()))?;
            if list.is_empty() {
                return Err(wrong("there is no certificate in it".into()));
            }
            for certificate in list {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(|error| match ca_file {
            // A certificate that cannot be parsed is noticed only here.
            Some(file) => IssuerError::CaFile { issuer: issuer.into(), file: file.into(), problem: chain(&error) },
            None => IssuerError::Https { issuer: issuer.into(), problem: chain(&error) },
        })?;
        Ok(Self { client, reply_bytes })
    }

    /// The body of a 200 answer to a GET.
    pub(super) async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let asked = self.client.get(url.clone()).header(ACCEPT, JSON_TYPES).send().await;
        good(url, asked, self.reply_bytes).await
    }

    /// The same with a bearer token.
    pub(super) async fn get_with(&self, url: &Url, token: &Secret) -> Result<Vec<u8>, FetchError> {
        let request = self.client.get(url.clone()).header(ACCEPT, JSON_TYPES).bearer_auth(token.reveal());
        good(url, request.send().await, self.reply_bytes).await
    }

    /// The body of a 200 answer to a POST of a form.
    pub(super) async fn post(&self, url: &Url, form: String, login: &HeaderValue) -> Result<Vec<u8>, FetchError> {
        good(url, self.posted(url, form, Some(login)).await, self.reply_bytes).await
    }

    /// Status and body of any answer to a POST of a form.
    pub(super) async fn post_any(
        &self,
        url: &Url,
        form: String,
        login: Option<&HeaderValue>,
    ) -> Result<(u16, Vec<u8>), FetchError> {
        body(url, self.posted(url, form, login).await, self.reply_bytes).await
    }

    async fn posted(
        &self,
        url: &Url,
        form: String,
        login: Option<&HeaderValue>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.client.post(url.clone()).header(ACCEPT, JSON_TYPES);
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login.clone());
        }
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form).send().await
    }
}

/// The body of an answer, if that is a 200.
async fn good(url: &Url, asked: Result<Response, reqwest::Error>, limit: usize) -> Result<Vec<u8>, FetchError> {
    match asked {
        Ok(response) if response.status().as_u16() != 200 => {
            Err(FetchError::Status { url: url.to_string(), status: response.status().as_u16() })
        }
        asked => body(url, asked, limit).await.map(|(_, bytes)| bytes),
    }
}

/// Reads chunk by chunk, so that an answer without a length cannot fill the memory either.
async fn body(
    url: &Url,
    asked: Result<Response, reqwest::Error>,
    limit: usize,
) -> Result<(u16, Vec<u8>), FetchError> {
    let gone =
        |error: reqwest::Error| FetchError::NoAnswer { url: url.to_string(), problem: chain(&error.without_url()) };
    let mut response = asked.map_err(gone)?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(gone)? {
        if bytes.len() + chunk.len() > limit {
            return Err(FetchError::TooLarge { url: url.to_string(), limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, bytes))
}

/// An error and its causes in one line; reqwest keeps the telling part in the causes.
fn chain(error: &dyn std::error::Error) -> String {
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
    use super::*;

    #[test]
    fn only_https_and_loopback_http_are_asked() {
        for (url, good) in [
            ("https://id.example.com/jwks", true),
            ("https://id.example.com:8443/jwks?x=1", true),
            ("http://127.0.0.1:1980/jwks", true),
            ("http://127.8.8.8/jwks", true),
            ("http://[::1]:1980/jwks", true),
            ("http://localhost/jwks", true),
            ("http://id.example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("http://127.0.0.1.example.com/jwks", false),
            ("http://169.254.169.254/latest", false),
            ("https://user:pass@id.example.com/", false),
            ("https://id.example.com/#x", false),
            ("file:///etc/passwd", false),
            ("ftp://id.example.com/", false),
            ("id.example.com", false),
            ("", false),
        ] {
            assert_eq!(check_address(url).is_ok(), good, "{url}");
        }
    }
}
