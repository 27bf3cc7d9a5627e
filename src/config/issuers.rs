//! `[[issuer]]`: whose tokens are believed, and by which rules. Used by `sections`.

use std::path::{Path, PathBuf};

use super::read::{At, Reader, Section};
use crate::issuer::KeySource;
use crate::model::Secret;
use crate::token::{Algorithm, ClaimRule, Rules};

/// One issuer.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What its tokens have to fulfil. Limits of `[limits]` are not in it yet.
    pub rules: Rules,
    /// Where its signing keys come from. `None`: all tokens go to introspection.
    pub keys: Option<KeySource>,
    /// Asked about tokens that are no JWT.
    pub introspection: Option<Introspection>,
    /// Its configuration document, which the OAUTHBEARER error challenge names.
    pub openid_configuration: Option<String>,
    /// Certificates to trust for it besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The issuer's own signing key, for `portcullis token`: development issuers only.
    pub private_key_file: Option<PathBuf>,
}

/// `[issuer.introspection]` (RFC 7662).
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Its address.
    pub endpoint: String,
    /// Our client ID there.
    pub client_id: String,
    /// Our secret there, if the config itself holds it; else it is in the file.
    pub client_secret: Option<Secret>,
    /// A file that holds it; white space around it is dropped.
    pub client_secret_file: Option<PathBuf>,
    /// How long a yes is remembered, in seconds.
    pub remember_s: u64,
    /// How long a no is remembered, in seconds.
    pub remember_refusal_s: u64,
}

const KEYS: [&str; 18] = [
    "url",
    "audience",
    "event_audience",
    "jwks_file",
    "jwks_url",
    "discovery",
    "openid_configuration",
    "ca_file",
    "introspection",
    "algorithms",
    "user_claim",
    "app_claim",
    "local_part",
    "token_type",
    "scope",
    "leeway_s",
    "service_account",
    "private_key_file",
];

const INTROSPECTION: [&str; 7] = [
    "endpoint",
    "client_id",
    "client_secret",
    "client_secret_file",
    "needs_audience",
    "remember_s",
    "remember_refusal_s",
];

/// Most seconds that a token may outlive its `exp`.
const MAX_LEEWAY_S: u64 = 600;

/// Reads all `[[issuer]]` tables.
pub(super) fn read(reader: &mut Reader<'_>, top: Section<'_, '_>, base: &Path) -> Vec<Issuer> {
    let tables = reader.sections(top, "issuer");
    if tables.is_empty() && top.value("issuer").is_none() {
        reader.missing::<()>(top, "[[issuer]]", "say whose tokens are believed: [[issuer]] with url and audience");
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for table in tables {
        let Some(issuer) = one(reader, table, base) else { continue };
        if issuers.iter().any(|other| other.rules.url == issuer.rules.url) {
            let what = format!("the issuer {} stands here a second time", issuer.rules.url);
            reader.wrong::<()>(table.span(), what, "keep one of them");
        }
        issuers.push(issuer);
    }
    issuers
}

fn one(reader: &mut Reader<'_>, table: Section<'_, '_>, base: &Path) -> Option<Issuer> {
    reader.only(table, &KEYS);
    let url = address(reader, table, "url");
    if table.value("url").is_none() {
        reader.missing::<()>(table, "url", "write the issuer's address exactly as its tokens carry it in iss");
    }
    let audience: Vec<String> =
        reader.strings(table, "audience").into_iter().flatten().map(|at| at.value).collect();
    if audience.is_empty() {
        reader.missing::<()>(
            table,
            "audience",
            "write the aud that tokens for this gateway carry: [\"portcullis\"]",
        );
    }
    let introspection = introspection(reader, table, base);
    let keys = keys(reader, table, base, introspection.is_some());
    let scope = reader.section(table, "scope", "issuer.scope");
    reader.only(scope, &["imap", "pop"]);
    let algorithms = reader.parsed(table, "algorithms", |name| {
        let known = || Algorithm::ALL.map(Algorithm::name).join(", ");
        Algorithm::from_name(name).ok_or_else(|| format!("known: {}; never \"none\" or HMAC", known()))
    });
    let mut rules = Rules::new(url.unwrap_or_default(), audience);
    if let Some(audience) = reader.strings(table, "event_audience") {
        if audience.is_empty() {
            let remedy = "name what its events carry in aud, or remove the line";
            reader.wrong::<()>(table.span(), "issuer.event_audience is an empty list", remedy);
        }
        rules.event_audience = audience.into_iter().map(|at| at.value).collect();
    }
    if !algorithms.is_empty() {
        rules.algorithms = algorithms;
    } else if reader.strings(table, "algorithms").is_some_and(|list| list.is_empty()) {
        let remedy = "name some, or remove the line to allow every asymmetric one";
        reader.wrong::<()>(table.span(), "issuer.algorithms is an empty list", remedy);
    }
    if let Some(claim) = reader.string(table, "user_claim") {
        rules.user_claim = claim.value;
    }
    rules.app_claim = reader.string(table, "app_claim").map(|at| at.value);
    rules.fold_local_part = reader.word(table, "local_part", &[("exact", false), ("fold", true)]).unwrap_or(false);
    rules.only_at_jwt = reader.word(table, "token_type", &[("any", false), ("at+jwt", true)]).unwrap_or(false);
    rules.scope_imap = scopes(reader, scope, "imap");
    rules.scope_pop = scopes(reader, scope, "pop");
    if let Some(leeway) = reader.number(table, "leeway_s", 0..=MAX_LEEWAY_S) {
        rules.leeway_s = leeway.value;
    }
    rules.service_account = service_account(reader, table);
    rules.introspection_needs_audience = introspection.as_ref().is_none_or(|(_, needs)| *needs);
    Some(Issuer {
        rules,
        keys,
        introspection: introspection.map(|(introspection, _)| introspection),
        openid_configuration: address(reader, table, "openid_configuration"),
        ca_file: reader.string(table, "ca_file").map(|at| base.join(at.value)),
        private_key_file: reader.string(table, "private_key_file").map(|at| base.join(at.value)),
    })
}

fn scopes(reader: &mut Reader<'_>, scope: Section<'_, '_>, key: &str) -> Vec<String> {
    reader.parsed(scope, key, |word| {
        let single = word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        single.then(|| word.to_owned()).ok_or_else(|| "write each scope on its own, without spaces".to_owned())
    })
}

/// One of three; without any of them discovery, except for an issuer that is asked about its tokens.
fn keys(reader: &mut Reader<'_>, table: Section<'_, '_>, base: &Path, introspected: bool) -> Option<KeySource> {
    let file = reader.string(table, "jwks_file").map(|at| KeySource::File(base.join(at.value)));
    let web = address(reader, table, "jwks_url").map(KeySource::Url);
    let named = file.or(web);
    let discovery = reader.boolean(table, "discovery");
    let sources = ["jwks_file", "jwks_url"].iter().filter_map(|key| table.value(key));
    if let Some(last) = sources.chain(table.value("discovery").filter(|_| discovery == Some(true))).skip(1).last() {
        let what = "signing keys come from two places";
        reader.wrong::<()>(last.span(), what, "keep one of jwks_file, jwks_url and discovery");
    }
    if named.is_none() && !introspected && discovery == Some(false) {
        let what = "there is no way to check this issuer's tokens";
        reader.wrong::<()>(
            table.span(),
            what,
            "write jwks_file, jwks_url or [issuer.introspection], or remove discovery",
        );
    }
    named.or_else(|| discovery.unwrap_or(!introspected).then_some(KeySource::Discovery))
}

/// With it, whether its answers need `aud`.
fn introspection(reader: &mut Reader<'_>, table: Section<'_, '_>, base: &Path) -> Option<(Introspection, bool)> {
    let section = reader.section(table, "introspection", "issuer.introspection");
    reader.only(section, &INTROSPECTION);
    if !section.is_present() {
        return None;
    }
    let endpoint = address(reader, section, "endpoint");
    if section.value("endpoint").is_none() {
        reader.missing::<()>(section, "endpoint", "write the address of the introspection endpoint");
    }
    let client_id = reader.string(section, "client_id").map(|at| at.value);
    if section.value("client_id").is_none() {
        reader.missing::<()>(section, "client_id", "write the client ID that the issuer gave this gateway");
    }
    let client_secret = reader.string(section, "client_secret").map(|at| Secret::new(at.value));
    let client_secret_file = reader.string(section, "client_secret_file").map(|at| base.join(at.value));
    if section.value("client_secret").is_some() == section.value("client_secret_file").is_some() {
        let what = "issuer.introspection needs one of client_secret and client_secret_file";
        reader.wrong::<()>(
            section.span(),
            what,
            "write client_secret_file = \"..\", readable by the gateway's user only",
        );
    }
    let needs_audience = reader.boolean(section, "needs_audience").unwrap_or(true);
    let remember_s = reader.number(section, "remember_s", 0..=3600).map_or(60, |at| at.value);
    let remember_refusal_s = reader.number(section, "remember_refusal_s", 0..=3600).map_or(10, |at| at.value);
    let introspection = Introspection {
        endpoint: endpoint.unwrap_or_default(),
        client_id: client_id.unwrap_or_default(),
        client_secret,
        client_secret_file,
        remember_s,
        remember_refusal_s,
    };
    Some((introspection, needs_audience))
}

fn service_account(reader: &mut Reader<'_>, table: Section<'_, '_>) -> Option<ClaimRule> {
    let rule = reader.section(table, "service_account", "issuer.service_account");
    reader.only(rule, &["claim", "equals"]);
    if !rule.is_present() {
        return None;
    }
    let equals = reader.string(rule, "equals").map(|at| at.value);
    match reader.string(rule, "claim") {
        Some(At { value: claim, .. }) => Some(ClaimRule { claim, equals }),
        None => reader.missing(rule, "claim", "write { claim = \"..\", equals = \"..\" }"),
    }
}

/// An https address; http too for this machine itself, where a development issuer runs.
pub(super) fn address(reader: &mut Reader<'_>, section: Section<'_, '_>, key: &str) -> Option<String> {
    let At { value, span } = reader.string(section, key)?;
    let url = match reqwest::Url::parse(&value) {
        Ok(url) => url,
        Err(error) => {
            let what = format!("{key} = {value:?} is no address ({error})");
            return reader.wrong(span, what, "write https://host/path");
        }
    };
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        let what = format!("{key} = {value:?} is not https");
        return reader.wrong(span, what, "write https://..; http is for localhost only");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return reader.wrong(span, format!("{key} holds a user, password or #fragment"), "remove it");
    }
    Some(value)
}
