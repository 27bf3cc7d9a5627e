//! `[http.signin]`: where people sign in for the console. Used by `sections`.

use std::path::{Path, PathBuf};

use super::{
    issuers::{Issuer, address},
    read::{At, Reader, Section},
};
use crate::model::Secret;

/// How people sign in at the console: an app of our own at one of the issuers.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The issuer's address; one of `[[issuer]]`.
    pub issuer: String,
    /// Our client ID there.
    pub client_id: String,
    /// Our secret there, if the config itself holds it; else it is in the file, or there is none.
    pub client_secret: Option<Secret>,
    /// A file that holds it; white space around it is dropped.
    pub client_secret_file: Option<PathBuf>,
    /// The scopes asked for, separated by spaces.
    pub scope: String,
    /// The token endpoint, where it is at another origin than the issuer.
    pub token_endpoint: Option<String>,
    /// How long a session lasts without a request, in seconds.
    pub idle_s: u64,
    /// How long a session lasts in all, in seconds.
    pub most_s: u64,
}

const KEYS: [&str; 8] =
    ["issuer", "client_id", "client_secret", "client_secret_file", "scope", "token_endpoint", "idle_s", "most_s"];

/// Reads the section; none where it is absent.
pub(super) fn read(
    reader: &mut Reader<'_>,
    http: Section<'_, '_>,
    issuers: &[Issuer],
    base: &Path,
) -> Option<SignIn> {
    let section = reader.section(http, "signin", "http.signin");
    reader.only(section, &KEYS);
    if !section.is_present() {
        return None;
    }
    let client_id = reader.string(section, "client_id").map(|at| at.value);
    if section.value("client_id").is_none() {
        reader.missing::<()>(section, "client_id", "write the client ID that the issuer gave this gateway");
    }
    let client_secret = reader.string(section, "client_secret").map(|at| Secret::new(at.value));
    let client_secret_file = reader.string(section, "client_secret_file").map(|at| base.join(at.value));
    if let (Some(twice), Some(_)) = (section.value("client_secret"), &client_secret_file) {
        let what = "http.signin has client_secret and client_secret_file";
        reader.wrong::<()>(twice.span(), what, "keep client_secret_file, readable by the gateway's user only");
    }
    let issuer = issuer(reader, section, issuers);
    let scope = scope(reader, section);
    let idle_s = reader.number(section, "idle_s", 1..=86_400).map_or(3_600, |at| at.value);
    let most_s = reader.number(section, "most_s", 1..=30 * 86_400).map_or(12 * 3_600, |at| at.value);
    let token_endpoint = address(reader, section, "token_endpoint");
    Some(SignIn {
        issuer: issuer?,
        client_id: client_id?,
        client_secret,
        client_secret_file,
        scope: scope?,
        token_endpoint,
        idle_s,
        most_s,
    })
}

/// One of the issuers; it need not be named where there is but one.
fn issuer(reader: &mut Reader<'_>, section: Section<'_, '_>, issuers: &[Issuer]) -> Option<String> {
    let Some(At { value, span }) = reader.string(section, "issuer") else {
        if let ([only], None) = (issuers, section.value("issuer")) {
            return Some(only.rules.url.clone());
        }
        return reader.missing(section, "issuer", "write the url of the [[issuer]] that people sign in at");
    };
    if issuers.iter().any(|issuer| issuer.rules.url == value) {
        return Some(value);
    }
    let known: Vec<&str> = issuers.iter().map(|issuer| issuer.rules.url.as_str()).collect();
    let what = format!("http.signin.issuer = {value:?} is none of [[issuer]]");
    reader.wrong(span, what, format!("write one of {}", known.join(", ")))
}

fn scope(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Option<String> {
    let Some(At { value, span }) = reader.string(section, "scope") else { return Some("openid email".to_owned()) };
    let word = |word: &str| word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if value.split(' ').any(|scope| scope == "openid") && value.split(' ').all(word) {
        return Some(value);
    }
    let what = format!("http.signin.scope = {value:?} cannot be asked for");
    reader.wrong(span, what, "write scopes between spaces, openid among them: \"openid email\"")
}
