//! `[[issuer]]`: whose tokens are believed, and by which rules. Used by `sections`.

use std::path::{Path, PathBuf};

use super::read::{At, Reader, Section};
use crate::model::Secret;

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its address: a token's `iss`, byte for byte.
    pub url: String,
    /// Our names at the issuer; a token's `aud` must hold one.
    pub audience: Vec<String>,
    /// Where its signing keys come from.
    pub keys: KeySource,
    /// Asked about tokens that are no JWT.
    pub introspection: Option<Introspection>,
    /// Names of the signature algorithms taken; empty: every asymmetric one we can check.
    pub algorithms: Vec<String>,
    /// The claim with the user's address.
    pub user_claim: String,
    /// Whether local parts of addresses compare without regard to letter case.
    pub fold_local_part: bool,
    /// Whether `typ` must be `at+jwt`.
    pub only_at_jwt: bool,
    /// Scopes of which IMAP needs one; empty: not checked.
    pub scope_imap: Vec<String>,
    /// The same for POP.
    pub scope_pop: Vec<String>,
    /// How long after its `exp` a token is still taken, in seconds.
    pub leeway_s: u64,
    /// Which tokens are a service account's.
    pub service_account: Option<ClaimRule>,
    /// The issuer's own signing key, for `portcullis token`: development issuers only.
    pub private_key_file: Option<PathBuf>,
}

/// Where an issuer's signing keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file (RFC 7517 section 5).
    File(PathBuf),
    /// A JWKS on the web.
    Url(String),
    /// OpenID Connect Discovery: the `jwks_uri` of this document.
    Discovery(String),
    /// No keys: all tokens go to introspection.
    None,
}

/// `[issuer.introspection]` (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Its address.
    pub endpoint: String,
    /// Our client ID there.
    pub client_id: String,
    /// Our secret there, if the config itself holds it.
    pub client_secret: Option<Secret>,
    /// A file that holds it; white space around it is dropped.
    pub client_secret_file: Option<PathBuf>,
    /// Whether an answer without `aud` is refused.
    pub needs_audience: bool,
}

/// `{ claim = "..", equals = ".." }`; without `equals` any value but `false` and `null` counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// The claim's name.
    pub claim: String,
    /// The value that counts.
    pub equals: Option<String>,
}

const KEYS: [&str; 14] = [
    "url",
    "audience",
    "jwks_file",
    "jwks_url",
    "discovery",
    "introspection",
    "algorithms",
    "user_claim",
    "local_part",
    "token_type",
    "scope",
    "leeway_s",
    "service_account",
    "private_key_file",
];

/// RFC 7518 section 3.1, RFC 8037, RFC 9864.
const ALGORITHMS: [&str; 11] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];

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
        if issuers.iter().any(|other| other.url == issuer.url) {
            let what = format!("the issuer {} stands here a second time", issuer.url);
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
    let keys = keys(reader, table, base, url.as_deref(), introspection.is_some());
    let scope = reader.section(table, "scope", "issuer.scope");
    reader.only(scope, &["imap", "pop"]);
    let algorithms = reader.parsed(table, "algorithms", |name| {
        let known = ALGORITHMS.contains(&name).then(|| name.to_owned());
        known.ok_or_else(|| format!("known: {}; never \"none\" or HMAC", ALGORITHMS.join(", ")))
    });
    if algorithms.is_empty() && reader.strings(table, "algorithms").is_some_and(|list| list.is_empty()) {
        let remedy = "name some, or remove the line to allow every asymmetric one";
        reader.wrong::<()>(table.span(), "issuer.algorithms is an empty list", remedy);
    }
    Some(Issuer {
        audience,
        keys,
        introspection,
        algorithms,
        user_claim: reader.string(table, "user_claim").map_or_else(|| "email".to_owned(), |at| at.value),
        fold_local_part: reader.word(table, "local_part", &[("exact", false), ("fold", true)]).unwrap_or(false),
        only_at_jwt: reader.word(table, "token_type", &[("any", false), ("at+jwt", true)]).unwrap_or(false),
        scope_imap: scopes(reader, scope, "imap"),
        scope_pop: scopes(reader, scope, "pop"),
        leeway_s: reader.number(table, "leeway_s", 0..=MAX_LEEWAY_S).map_or(30, |at| at.value),
        service_account: service_account(reader, table),
        private_key_file: reader.string(table, "private_key_file").map(|at| base.join(at.value)),
        url: url?,
    })
}

fn scopes(reader: &mut Reader<'_>, scope: Section<'_, '_>, key: &str) -> Vec<String> {
    reader.parsed(scope, key, |word| {
        let single = word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        single.then(|| word.to_owned()).ok_or_else(|| "write each scope on its own, without spaces".to_owned())
    })
}

fn keys(
    reader: &mut Reader<'_>,
    table: Section<'_, '_>,
    base: &Path,
    url: Option<&str>,
    introspected: bool,
) -> KeySource {
    let file = reader.string(table, "jwks_file").map(|at| KeySource::File(base.join(at.value)));
    let web = address(reader, table, "jwks_url").map(KeySource::Url);
    let discovery = address(reader, table, "discovery").map(KeySource::Discovery);
    let named = ["jwks_file", "jwks_url", "discovery"].iter().filter_map(|key| table.value(key));
    if let Some(second) = named.skip(1).last() {
        let what = "signing keys come from two places";
        reader.wrong::<()>(second.span(), what, "keep one of jwks_file, jwks_url and discovery");
    }
    file.or(web).or(discovery).unwrap_or_else(|| match url {
        Some(url) if !introspected => {
            // OpenID Connect Discovery 1.0 section 4: a slash at the end is removed first.
            KeySource::Discovery(format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')))
        }
        _ => KeySource::None,
    })
}

fn introspection(reader: &mut Reader<'_>, table: Section<'_, '_>, base: &Path) -> Option<Introspection> {
    let section = reader.section(table, "introspection", "issuer.introspection");
    reader.only(section, &["endpoint", "client_id", "client_secret", "client_secret_file", "needs_audience"]);
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
    Some(Introspection {
        endpoint: endpoint?,
        client_id: client_id?,
        client_secret,
        client_secret_file,
        needs_audience,
    })
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
fn address(reader: &mut Reader<'_>, section: Section<'_, '_>, key: &str) -> Option<String> {
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
