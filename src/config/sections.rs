//! The file as a whole and its small tables. Used by `Config::parse`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Audit, AuditLimits, Config, Database, Http, HttpLimits, Jwks, Limits, Listen, Log, LogFormat, PemFiles,
    base_of, issuers, notify,
    read::{At, Reader, Section},
    setup, signin, upstreams,
};
use crate::admin::{ScimSettings, UnitAttribute};
use crate::model::{Secret, UnitPath};
use crate::policy::file::Problem;

const TOP: [&str; 17] = [
    "hostname", "data_dir", "listen", "http", "scim", "tls", "issuer", "jwks", "database", "policy", "mail",
    "audit", "notify", "limits", "log", "upstream", "setup",
];

/// Reads the text of `file`.
pub(super) fn read(text: &str, file: &Path) -> Result<Config, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text);
    for error in &errors {
        let span = error.span().unwrap_or_default();
        reader.wrong::<()>(span, error.message(), "this is no TOML; see https://toml.io");
    }
    if !errors.is_empty() {
        return Err(reader.problems);
    }
    let base = base_of(file);
    let top = Section::top(root.get_ref());
    reader.only(top, &TOP);
    let config = whole(&mut reader, top, file, &base);
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

fn whole(reader: &mut Reader<'_>, top: Section<'_, '_>, file: &Path, base: &Path) -> Option<Config> {
    let hostname = hostname(reader, top);
    let data_dir = reader.string(top, "data_dir").map(|at| base.join(at.value));
    if top.value("data_dir").is_none() {
        reader.missing::<()>(
            top,
            "data_dir",
            "name the folder for the database and the mail: \"/var/lib/portcullis\"",
        );
    }
    let listen = listen(reader, top);
    let scim = scim(reader, top);
    let tls = tls(reader, top, base);
    let issuers = issuers::read(reader, top, base);
    let http = http(reader, top, &listen, &issuers, base);
    let setup = setup::read(reader, top, hostname.as_deref(), &listen, &http, &issuers);
    let jwks = reader.section(top, "jwks", "jwks");
    let jwks = Jwks::read(reader, jwks, &[]);
    let database = database(reader, top);
    let policy = reader.section(top, "policy", "policy");
    reader.only(policy, &["file"]);
    let policy_file = reader.string(policy, "file").map(|at| base.join(at.value));
    let (upstreams, mail_default) = upstreams::read(reader, top, base);
    let audit = audit(reader, top);
    let notify = notify::read(reader, top, base);
    let section = reader.section(top, "limits", "limits");
    let limits = Limits::read(reader, section, &["trusted_networks", "sessions_end_with_token"]);
    limits.check(reader, section);
    let trusted_networks = networks(reader, section, "trusted_networks");
    let sessions_end_with_token = reader.boolean(section, "sessions_end_with_token").unwrap_or(false);
    let log = log(reader, top);
    Some(Config {
        file: file.to_owned(),
        hostname: hostname?,
        data_dir: data_dir?,
        listen,
        http,
        scim,
        tls,
        issuers,
        setup,
        jwks,
        database,
        policy_file,
        upstreams,
        mail_default,
        audit,
        notify,
        limits,
        trusted_networks,
        sessions_end_with_token,
        log,
    })
}

fn hostname(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Option<String> {
    let remedy = "write the name that mail programs are set up with: \"mail.example.com\"";
    if top.value("hostname").is_none() {
        return reader.missing(top, "hostname", remedy);
    }
    let At { value, span } = reader.string(top, "hostname")?;
    if !setup::is_host_name(&value) {
        return reader.wrong(span, format!("hostname = {value:?} is no host name"), remedy);
    }
    Some(value.to_ascii_lowercase())
}

fn listen(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Listen {
    let section = reader.section(top, "listen", "listen");
    reader.only(section, &["imaps", "pop3s", "http", "proxy_protocol_from"]);
    let mut addresses = |key| {
        reader.parsed(section, key, |text| {
            let remedy = match text.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() && !host.is_empty() => {
                    format!("write a number for the host: \"[::]:{port}\" for all, \"127.0.0.1:{port}\" for this machine")
                }
                _ => "write address and port: \"[::]:993\", \"192.0.2.1:993\"".to_owned(),
            };
            text.parse::<SocketAddr>().map_err(|_| remedy)
        })
    };
    let (imaps, pop3s, http) = (addresses("imaps"), addresses("pop3s"), addresses("http"));
    let named =
        |key| section.value(key).is_some_and(|v| !matches!(v.get_ref(), DeValue::Array(list) if list.is_empty()));
    if !named("imaps") && !named("pop3s") {
        let remedy = "write imaps = [\"[::]:993\"] or pop3s = [\"[::]:995\"] under [listen]";
        reader.wrong::<()>(section.span(), "there is nothing to listen on", remedy);
    }
    for (one, ones, other, others) in
        [("imaps", &imaps, "pop3s", &pop3s), ("imaps", &imaps, "http", &http), ("pop3s", &pop3s, "http", &http)]
    {
        let twice = ones.iter().find(|address| address.port() != 0 && others.contains(address));
        if let (Some(twice), Some(value)) = (twice, section.value(other)) {
            let what = format!("{twice} is in {one} and in {other}");
            reader.wrong::<()>(value.span(), what, "give each its own port");
        }
    }
    Listen { imaps, pop3s, http, proxy_protocol_from: networks(reader, section, "proxy_protocol_from") }
}

fn http(
    reader: &mut Reader<'_>,
    top: Section<'_, '_>,
    listen: &Listen,
    known: &[issuers::Issuer],
    base: &Path,
) -> Http {
    let section = reader.section(top, "http", "http");
    let limits = HttpLimits::read(reader, section, &["tls", "hosts", "scope", "public_url", "signin"]);
    let hosts = reader.parsed(section, "hosts", |text| {
        let host = text.to_ascii_lowercase();
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        plain.then_some(host).ok_or_else(|| "write names alone: \"mail-admin.example.com\"".to_owned())
    });
    let scope = reader.parsed(section, "scope", |text| {
        // RFC 6749 appendix A.4: printable ASCII without space, quote and backslash.
        let plain = !text.is_empty() && text.bytes().all(|b| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~'));
        plain.then(|| text.to_owned()).ok_or_else(|| "write scopes: \"portcullis\"".to_owned())
    });
    let tls = reader.boolean(section, "tls");
    let open = listen.http.iter().find(|address| !address.ip().is_loopback());
    if let (Some(false), Some(open), Some(value)) = (tls, open, section.value("tls")) {
        let what = format!("http.tls = false, but listen.http has {open}, which others can reach");
        reader.wrong::<()>(value.span(), what, "remove the line, or listen on 127.0.0.1 or [::1] alone");
    }
    let public_url = setup::public_url(reader, section);
    let signin = signin::read(reader, section, known, base);
    Http { tls: tls.unwrap_or(false), hosts, public_url, scope, signin, limits }
}

fn scim(reader: &mut Reader<'_>, top: Section<'_, '_>) -> ScimSettings {
    let section = reader.section(top, "scim", "scim");
    reader.only(section, &["unit", "unit_attribute"]);
    let unit = reader.string(section, "unit").and_then(|At { value, span }| {
        let parsed = UnitPath::parse(&value);
        parsed.map_or_else(|bad| reader.wrong(span, format!("scim.unit: {bad}"), "write a unit: \"/Staff\""), Some)
    });
    let words = [("organization", UnitAttribute::Organization), ("department", UnitAttribute::Department)];
    ScimSettings {
        unit: unit.unwrap_or_else(UnitPath::root),
        unit_attribute: reader.word(section, "unit_attribute", &words),
    }
}

/// `192.0.2.0/24`, or one address.
fn networks(reader: &mut Reader<'_>, section: Section<'_, '_>, key: &str) -> Vec<ipnet::IpNet> {
    reader.parsed(section, key, |text| {
        let network = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
        network.map_err(|_| {
            "write a network or an address: \"192.0.2.0/24\", \"2001:db8::/32\", \"192.0.2.1\"".to_owned()
        })
    })
}

fn tls(reader: &mut Reader<'_>, top: Section<'_, '_>, base: &Path) -> Vec<PemFiles> {
    let section = reader.section(top, "tls", "tls");
    reader.only(section, &["certificate", "private_key"]);
    let mut files = |key| -> Option<Vec<PathBuf>> {
        if section.value(key).is_none_or(|v| matches!(v.get_ref(), DeValue::Array(list) if list.is_empty())) {
            return reader.missing(section, key, "name a PEM file; certs/README.md says how to make one");
        }
        let names = reader.strings(section, key)?;
        Some(names.into_iter().map(|at| base.join(at.value)).collect())
    };
    let (Some(certificates), Some(keys)) = (files("certificate"), files("private_key")) else {
        return Vec::new();
    };
    if certificates.len() != keys.len() {
        let what = format!("tls names {} certificates and {} keys", certificates.len(), keys.len());
        reader.wrong::<()>(section.span(), what, "name one key for each certificate, in the same order");
    }
    let pairs = certificates.into_iter().zip(keys);
    pairs.map(|(certificate, private_key)| PemFiles { certificate, private_key }).collect()
}

fn database(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Database {
    let section = reader.section(top, "database", "database");
    reader.only(section, &["url", "grace_s"]);
    let url = reader.string(section, "url").and_then(|At { value, span }| {
        // The value is not repeated in a message: it may hold a password.
        let remedy = "write \"sqlite:portcullis.db\" (a file in data_dir), \"sqlite:/path/to/file\" or \
                      \"postgres://USER:PASSWORD@HOST/DATABASE\"";
        if ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| value.starts_with(scheme)) {
            Some(Secret::new(value))
        } else {
            reader.wrong(span, "database.url is of no known kind", remedy)
        }
    });
    Database {
        url: url.unwrap_or_else(|| Secret::new("sqlite:portcullis.db")),
        grace_s: reader.number(section, "grace_s", 0..=86_400).map_or(300, |at| at.value),
    }
}

fn audit(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Audit {
    let section = reader.section(top, "audit", "audit");
    let limits = AuditLimits::read(reader, section, &["required"]);
    Audit { required: reader.boolean(section, "required").unwrap_or(true), limits }
}

fn log(reader: &mut Reader<'_>, top: Section<'_, '_>) -> Log {
    let section = reader.section(top, "log", "log");
    reader.only(section, &["level", "format"]);
    let level =
        reader.string(section, "level").and_then(
            |At { value, span }| match tracing_subscriber::EnvFilter::builder().parse(&value) {
                Ok(_) => Some(value),
                Err(error) => reader.wrong(
                    span,
                    format!("log.level = {value:?} ({error})"),
                    "write \"error\", \"warn\", \"info\" or \"debug\"",
                ),
            },
        );
    Log {
        level: level.unwrap_or_else(|| "info".to_owned()),
        format: reader
            .word(section, "format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or(LogFormat::Text),
    }
}
