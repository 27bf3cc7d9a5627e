//! A browser: by which name it reached us, its cookies, and whether a request of it comes from our own pages.
//!
//! The session's cookie is `SameSite=Strict`: it goes with no request that another site caused. The one of a sign-in under
//! way has to come back with the redirect from the issuer, which is another site, so it is `Lax`; it opens nothing.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, request::Parts},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use subtle::ConstantTimeEq;

use crate::admin::{
    Control, Peer,
    guard::named,
    problem::{Problem, ProblemKind},
};
use crate::model::Secret;

/// How long a sign-in may take, in seconds.
const SIGN_IN_S: i64 = 600;
/// How long the secret of a bootstrap link is kept, in seconds: as long as it is good.
const LINK_S: i64 = 900;
/// The header that a page's own requests carry.
pub(in crate::admin) const CSRF: &str = "x-portcullis-csrf";

/// By which name a browser reached us.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Site {
    /// Over TLS, here or at a proxy on this machine; only a loopback name is plain.
    secure: bool,
    origin: String,
}

/// Which cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jar {
    /// The session of somebody who is signed in.
    Session,
    /// A sign-in under way.
    SignIn,
    /// The secret of the bootstrap link, while the first admin signs in.
    Bootstrap,
}

impl Site {
    pub(in crate::admin) fn of(parts: &Parts, public_url: Option<&str>) -> Result<Self, Problem> {
        // `guard` has let through none but our own names.
        let authority = named(&parts.uri, &parts.headers)
            .ok_or_else(|| Problem::new(ProblemKind::WrongHost, "the request names no host: send `Host`"))?;
        let public = public_url.and_then(|url| Url::parse(url).ok());
        if let Some(public) = public.filter(|url| url.host_str() == Some(authority.host())) {
            return Ok(Self { secure: public.scheme() == "https", origin: public.origin().ascii_serialization() });
        }
        let tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
        let secure = tls || !is_loopback(authority.host());
        Ok(Self { secure, origin: format!("{}://{authority}", if secure { "https" } else { "http" }) })
    }

    /// `https://mail.example.com`, as `Origin` says it.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    fn cookie(&self, jar: Jar) -> &'static str {
        // The prefix has browsers refuse the cookie unless it is Secure, for this host alone and for all of it; so a
        // developer's plain http on loopback has to do without.
        match (jar, self.secure) {
            (Jar::Session, true) => "__Host-portcullis",
            (Jar::Session, false) => "portcullis",
            (Jar::SignIn, true) => "__Host-portcullis-signin",
            (Jar::SignIn, false) => "portcullis-signin",
            (Jar::Bootstrap, true) => "__Host-portcullis-bootstrap",
            (Jar::Bootstrap, false) => "portcullis-bootstrap",
        }
    }

    /// The cookie's value, if the browser sent it.
    pub(super) fn read(&self, jar: Jar, headers: &HeaderMap) -> Option<Secret> {
        let cookies = CookieJar::from_headers(headers);
        cookies.get(self.cookie(jar)).map(|cookie| Secret::new(cookie.value()))
    }

    /// `Set-Cookie` with this value; none takes the cookie away.
    pub(super) fn set(&self, jar: Jar, value: Option<&Secret>) -> Option<HeaderValue> {
        let cookie = Cookie::build((self.cookie(jar), value.map(Secret::reveal).unwrap_or_default().to_owned()))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(if jar == Jar::SignIn { SameSite::Lax } else { SameSite::Strict });
        let max_age = match (value, jar) {
            (None, _) => Some(0),
            (Some(_), Jar::SignIn) => Some(SIGN_IN_S),
            (Some(_), Jar::Bootstrap) => Some(LINK_S),
            // As long as the browser runs; the limits of the session are kept here.
            (Some(_), Jar::Session) => None,
        };
        let mut text = cookie.build().to_string();
        if let Some(seconds) = max_age {
            text.push_str(&format!("; Max-Age={seconds}"));
        }
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Refuses what another site had the browser send: a change needs a token that only our own pages can read, and must
    /// not say that it comes from elsewhere. Reading is let through: what is read goes to our own pages alone.
    pub(super) fn refuse_foreign(
        &self,
        method: &Method,
        headers: &HeaderMap,
        expected: &Secret,
        given: Option<&str>,
    ) -> Result<(), Problem> {
        if method.is_safe() {
            return Ok(());
        }
        let foreign = |what: &str| Err(Problem::new(ProblemKind::Foreign, what));
        let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        if said("origin").is_some_and(|origin| origin != self.origin().as_bytes()) {
            return foreign("Origin is not this server's own: only its own pages change anything with a cookie");
        }
        if said("sec-fetch-site").is_some_and(|site| site != b"same-origin") {
            return foreign(
                "Sec-Fetch-Site is not same-origin: only this server's own pages change anything with a cookie",
            );
        }
        let given = given.unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(expected.reveal().as_bytes())) {
            return foreign(
                "X-Portcullis-Csrf is missing or old: send `csrf` of GET /api/v1/me, of this very session",
            );
        }
        Ok(())
    }
}

impl FromRequestParts<Arc<Control>> for Site {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Problem> {
        Self::of(parts, control.settings.setup.public_url.as_deref())
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A value made of a secret for one use; it tells nothing of the secret, nor of its value for another use.
pub(super) fn derived(secret: &Secret, purpose: &str) -> Secret {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in ["portcullis console ", purpose, "\0", secret.reveal()] {
        context.update(part.as_bytes());
    }
    Secret::new(URL_SAFE_NO_PAD.encode(context.finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn site(authority: &str, tls: bool) -> Site {
        let peer = Peer { from: ([127, 0, 0, 1], 1).into(), at: ([127, 0, 0, 1], 2).into(), tls };
        let request = axum::http::Request::builder().header("host", authority).extension(peer).body(()).unwrap();
        Site::of(&request.into_parts().0, Some("https://web.example.com:8443")).unwrap()
    }

    #[test]
    fn only_a_loopback_name_without_tls_is_plain_and_all_else_is_secure() {
        for (authority, tls, origin) in [
            ("localhost:1980", false, "http://localhost:1980"),
            ("127.0.0.1:1980", false, "http://127.0.0.1:1980"),
            ("[::1]:1980", false, "http://[::1]:1980"),
            ("localhost:1980", true, "https://localhost:1980"),
            // A proxy on this machine has taken the TLS off.
            ("mail.example.com", false, "https://mail.example.com"),
            ("mail.example.com", true, "https://mail.example.com"),
            // http.public_url says how the world sees us, whatever a proxy made of it.
            ("web.example.com", false, "https://web.example.com:8443"),
        ] {
            assert_eq!(site(authority, tls).origin(), origin, "{authority} {tls}");
        }
    }

    #[test]
    fn cookies_are_for_this_host_alone_and_out_of_reach_of_scripts() {
        let (secure, plain) = (site("mail.example.com", true), site("localhost:1980", false));
        let value = Secret::new("v");
        for (site, jar, set) in [
            (&secure, Jar::Session, "__Host-portcullis=v; HttpOnly; SameSite=Strict; Secure; Path=/"),
            (
                &secure,
                Jar::SignIn,
                "__Host-portcullis-signin=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600",
            ),
            (&plain, Jar::Session, "portcullis=v; HttpOnly; SameSite=Strict; Path=/"),
            (
                &secure,
                Jar::Bootstrap,
                "__Host-portcullis-bootstrap=v; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=900",
            ),
        ] {
            assert_eq!(site.set(jar, Some(&value)).unwrap(), set);
        }
        assert!(secure.set(Jar::Session, None).unwrap().to_str().unwrap().ends_with("; Max-Age=0"));
    }

    #[test]
    fn a_change_needs_our_own_origin_and_the_token_of_the_session() {
        let site = site("mail.example.com", true);
        let token = Secret::new("t-0");
        for (method, origin, fetch_site, given, good) in [
            (Method::POST, Some("https://mail.example.com"), Some("same-origin"), Some("t-0"), true),
            (Method::POST, None, None, Some("t-0"), true),
            (Method::POST, Some("https://mail.example.com"), Some("same-origin"), Some("t-1"), false),
            (Method::POST, Some("https://mail.example.com"), Some("same-origin"), None, false),
            (Method::POST, Some("https://evil.example.org"), None, Some("t-0"), false),
            (Method::POST, Some("http://mail.example.com"), None, Some("t-0"), false),
            (Method::POST, Some("https://mail.example.com:8443"), None, Some("t-0"), false),
            (Method::POST, Some("null"), None, Some("t-0"), false),
            (Method::POST, None, Some("cross-site"), Some("t-0"), false),
            (Method::POST, None, Some("same-site"), Some("t-0"), false),
            (Method::DELETE, None, Some("none"), Some("t-0"), false),
            (Method::PATCH, None, None, Some(""), false),
            (Method::GET, Some("https://evil.example.org"), Some("cross-site"), None, true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("origin", origin), ("sec-fetch-site", fetch_site)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let answer = site.refuse_foreign(&method, &headers, &token, given);
            assert_eq!(answer.is_ok(), good, "{method} {origin:?} {fetch_site:?} {given:?}");
        }
    }

    #[test]
    fn values_made_of_one_secret_have_nothing_in_common() {
        let secret = Secret::new("s");
        let (state, nonce) = (derived(&secret, "state"), derived(&secret, "nonce"));
        assert!(state != nonce && state.reveal().len() == 43 && state == derived(&secret, "state"));
        assert!(state != derived(&Secret::new("t"), "state"));
    }
}
