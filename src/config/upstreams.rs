//! `[[upstream]]` and `[mail]`: the mail servers behind the gate, and where mail is. Used by `sections`; the files that the
//! tables name are read by `upstream_files`.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::{
    PemFiles,
    read::{At, Reader, Section},
};
use crate::sasl::Mechanism;
use crate::upstream::{Address, ClientAddress, EMBEDDED, Form};

/// One upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What policy and metrics call it.
    pub name: String,
    /// Its IMAP servers.
    pub imap: Vec<Address>,
    /// Its POP3 servers.
    pub pop3: Vec<Address>,
    /// TLS from the first byte; without it, all servers are on this machine.
    pub tls: bool,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificates bear, if it is not the host's.
    pub server_name: Option<ServerName<'static>>,
    /// How the gateway signs in.
    pub login: UpstreamLogin,
    /// A PROXY header goes first.
    pub proxy_protocol: bool,
    /// How the peer's address is told.
    pub client_address: ClientAddress,
    /// For name, TCP and TLS, in seconds.
    pub connect_s: u64,
    /// For greeting and sign-in, in seconds.
    pub login_s: u64,
    /// Most connections of one server.
    pub connections: u64,
    /// Between two looks at a server, in seconds; 0: nobody looks.
    pub health_s: u64,
}

/// `upstream.login`.
#[derive(Clone, Debug)]
pub enum UpstreamLogin {
    /// With the peer's own token, by this mechanism or by one that the server offers.
    Token(Option<Mechanism>),
    /// As a master user.
    Master {
        /// Its name.
        user: String,
        /// Where its password is.
        secret: SecretSource,
        /// What USER is given at a POP3 server without SASL.
        form: Option<Form>,
    },
    /// By a client certificate.
    Certificate(PemFiles),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In this file; white space around it is dropped.
    File(PathBuf),
    /// In this environment variable.
    Variable(String),
}

const KEYS: [&str; 13] = [
    "name",
    "imap",
    "pop3",
    "tls",
    "ca_file",
    "server_name",
    "login",
    "proxy_protocol",
    "client_address",
    "connect_s",
    "login_s",
    "connections",
    "health_s",
];
const MAX_NAME: usize = 64;

/// Reads all `[[upstream]]` tables, and `[mail]`, whose default is the second value.
pub(super) fn read(reader: &mut Reader<'_>, top: Section<'_, '_>, base: &Path) -> (Vec<Upstream>, String) {
    let tables = reader.sections(top, "upstream");
    // Those whose other lines are wrong too: what is said about `[mail]` is to be true.
    let mut names: Vec<String> = Vec::new();
    let mut upstreams = Vec::new();
    for table in tables {
        let name = name(reader, table);
        if let Some(name) = &name {
            if names.contains(name) {
                let what = format!("the upstream {name} stands here a second time");
                reader.wrong::<()>(table.span(), what, "give each its own name; all its servers go into one table");
            }
            names.push(name.clone());
        }
        upstreams.extend(one(reader, table, name, base));
    }
    (upstreams, default(reader, top, &names))
}

/// `mail.default`.
fn default(reader: &mut Reader<'_>, top: Section<'_, '_>, names: &[String]) -> String {
    let section = reader.section(top, "mail", "mail");
    reader.only(section, &["default"]);
    let Some(At { value, span }) = reader.string(section, "default") else { return EMBEDDED.to_owned() };
    if value != EMBEDDED && !names.contains(&value) {
        let what = format!("mail.default = {value:?} is none of [[upstream]]");
        let known: Vec<_> = std::iter::once(EMBEDDED).chain(names.iter().map(String::as_str)).collect();
        let known: Vec<_> = known.into_iter().map(|name| format!("{name:?}")).collect();
        reader.wrong::<()>(span, what, format!("write {}, or remove the line", known.join(" or ")));
    }
    value
}

fn name(reader: &mut Reader<'_>, table: Section<'_, '_>) -> Option<String> {
    if table.value("name").is_none() {
        return reader.missing(table, "name", "write what the policy calls it: \"dovecot\"");
    }
    let At { value, span } = reader.string(table, "name")?;
    if value.eq_ignore_ascii_case(EMBEDDED) {
        let what = format!("upstream.name = {value:?} is the embedded store's name");
        return reader.wrong(span, what, "write another one");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.len() > MAX_NAME || !value.bytes().all(plain) {
        let what = format!("upstream.name = {value:?} is no name");
        return reader.wrong(span, what, format!("write 1 to {MAX_NAME} of ASCII letters, digits, - _ and ."));
    }
    Some(value)
}

fn one(reader: &mut Reader<'_>, table: Section<'_, '_>, name: Option<String>, base: &Path) -> Option<Upstream> {
    reader.only(table, &KEYS);
    let (imap, pop3) = (addresses(reader, table, "imap"), addresses(reader, table, "pop3"));
    if ["imap", "pop3"].iter().all(|key| is_absent(table, key)) {
        let remedy =
            "name its servers: imap = [\"mail1.internal:993\"], pop3 = [\"mail1.internal:995\"], or one of both";
        reader.missing::<()>(table, "imap", remedy);
    }
    let tls = reader.boolean(table, "tls").unwrap_or(true);
    let ca_file = reader.string(table, "ca_file").map(|at| base.join(at.value));
    let server_name = server_name(reader, table);
    if !tls {
        unprotected(reader, table, imap.iter().chain(&pop3));
    }
    let login = login(reader, table, tls, base);
    let words = [("none", ClientAddress::None), ("id", ClientAddress::Id)];
    let client_address = reader.word(table, "client_address", &words).unwrap_or(ClientAddress::None);
    let mut number = |key, range, usual| reader.number(table, key, range).map_or(usual, |at: At<u64>| at.value);
    let (connect_s, login_s) = (number("connect_s", 1..=60, 5), number("login_s", 1..=300, 15));
    let (connections, health_s) = (number("connections", 1..=1_000_000, 10_000), number("health_s", 0..=3600, 10));
    let plain = |list: Vec<At<Address>>| list.into_iter().map(|at| at.value).collect();
    Some(Upstream {
        proxy_protocol: reader.boolean(table, "proxy_protocol").unwrap_or(false),
        name: name?,
        imap: plain(imap),
        pop3: plain(pop3),
        tls,
        ca_file,
        server_name,
        login: login?,
        client_address,
        connect_s,
        login_s,
        connections,
        health_s,
    })
}

fn is_absent(table: Section<'_, '_>, key: &str) -> bool {
    table.value(key).is_none_or(|value| matches!(value.get_ref(), DeValue::Array(list) if list.is_empty()))
}

fn addresses(reader: &mut Reader<'_>, table: Section<'_, '_>, key: &str) -> Vec<At<Address>> {
    let mut addresses: Vec<At<Address>> = Vec::new();
    for At { value, span } in reader.strings(table, key).unwrap_or_default() {
        let what = format!("{value:?} in upstream.{key}");
        match Address::parse(&value) {
            Some(address) if addresses.iter().any(|other| other.value == address) => {
                reader.wrong::<()>(span, format!("{what} stands there twice"), "remove one of them");
            }
            Some(address) => addresses.push(At { value: address, span }),
            None => {
                let port = if key == "imap" { 993 } else { 995 };
                let remedy = format!("write host and port: \"mail1.internal:{port}\", \"[2001:db8::1]:{port}\"");
                reader.wrong::<()>(span, format!("{what} is no server"), remedy);
            }
        }
    }
    addresses
}

fn server_name(reader: &mut Reader<'_>, table: Section<'_, '_>) -> Option<ServerName<'static>> {
    let At { value, span } = reader.string(table, "server_name")?;
    match ServerName::try_from(value.clone()) {
        Ok(name) => Some(name),
        Err(_) => {
            let what = format!("upstream.server_name = {value:?} is no name that a certificate can bear");
            reader.wrong(span, what, "write a host name: \"mail.internal\"")
        }
    }
}

/// What needs TLS, in a table without it.
fn unprotected<'a>(
    reader: &mut Reader<'_>,
    table: Section<'_, '_>,
    servers: impl Iterator<Item = &'a At<Address>>,
) {
    for At { value, span } in servers.filter(|at| !at.value.is_loopback()) {
        let what = format!("upstream.tls is false, but {value} is another machine");
        reader.wrong::<()>(span.clone(), what, "write tls = true, or 127.0.0.1, [::1] or localhost for the host");
    }
    for key in ["ca_file", "server_name"] {
        if let Some(value) = table.value(key) {
            let what = format!("upstream.{key} is for TLS, but upstream.tls is false");
            reader.wrong::<()>(value.span(), what, "remove one of the two");
        }
    }
}

fn login(reader: &mut Reader<'_>, table: Section<'_, '_>, tls: bool, base: &Path) -> Option<UpstreamLogin> {
    #[derive(Clone, Copy)]
    enum By {
        Token,
        Master,
        Certificate,
    }
    let remedy = "say how the gateway signs in there: { by = \"token\" }, { by = \"master\", user = \"gate\", secret_file \
                  = \"..\" } or { by = \"certificate\", certificate = \"..\", private_key = \"..\" }";
    let login = reader.section(table, "login", "upstream.login");
    if table.value("login").is_none() {
        return reader.missing(table, "login", remedy);
    }
    if !login.is_present() {
        return None;
    }
    if login.value("by").is_none() {
        return reader.missing(login, "by", remedy);
    }
    let words = [("token", By::Token), ("master", By::Master), ("certificate", By::Certificate)];
    match reader.word(login, "by", &words)? {
        By::Token => {
            reader.only(login, &["by", "mechanism"]);
            let known = Mechanism::ALL.map(|mechanism| (mechanism.name(), mechanism));
            Some(UpstreamLogin::Token(reader.word(login, "mechanism", &known)))
        }
        By::Master => master(reader, login, base),
        By::Certificate => {
            reader.only(login, &["by", "certificate", "private_key"]);
            if !tls {
                let what = "upstream.login is by certificate, but upstream.tls is false";
                reader.wrong::<()>(login.span(), what, "write tls = true: a certificate is shown in TLS alone");
            }
            let mut file = |key| match login.value(key) {
                Some(_) => reader.string(login, key).map(|at| base.join(at.value)),
                None => reader.missing(login, key, "name a PEM file"),
            };
            let (certificate, private_key) = (file("certificate"), file("private_key"));
            Some(UpstreamLogin::Certificate(PemFiles { certificate: certificate?, private_key: private_key? }))
        }
    }
}

fn master(reader: &mut Reader<'_>, login: Section<'_, '_>, base: &Path) -> Option<UpstreamLogin> {
    reader.only(login, &["by", "user", "secret_file", "secret_env", "form"]);
    if login.value("user").is_none() {
        reader.missing::<()>(login, "user", "write the master user's name: \"gate\"");
    }
    let user = reader.string(login, "user").and_then(|At { value, span }| {
        let plain = !value.chars().any(char::is_control);
        let what = "upstream.login.user holds a control character";
        if plain { Some(value) } else { reader.wrong(span, what, "remove it") }
    });
    let file = reader.string(login, "secret_file").map(|at| SecretSource::File(base.join(at.value)));
    let variable = reader.string(login, "secret_env").and_then(|At { value, span }| {
        let word = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
        if value.bytes().all(word) {
            return Some(SecretSource::Variable(value));
        }
        // The value is not repeated: it may be the secret itself.
        let what = "upstream.login.secret_env is no name of an environment variable";
        reader.wrong(span, what, "write the variable's name: \"UPSTREAM_SECRET\"")
    });
    if login.value("secret_file").is_some() == login.value("secret_env").is_some() {
        let what = "upstream.login needs one of secret_file and secret_env";
        reader.wrong::<()>(login.span(), what, "write secret_file = \"..\", readable by the gateway's user only");
    }
    let form = reader.string(login, "form").and_then(|At { value, span }| {
        let wrong = |problem| (format!("upstream.login.form = {value:?}: {problem}"), "write \"{owner}*{user}\"");
        Form::parse(&value).map_err(wrong).map_or_else(|(what, remedy)| reader.wrong(span, what, remedy), Some)
    });
    Some(UpstreamLogin::Master { user: user?, secret: file.or(variable)?, form })
}

impl Upstream {
    /// Every file it names, with its key.
    pub(super) fn paths(&self) -> Vec<(&'static str, &Path)> {
        let mut paths: Vec<(&'static str, &Path)> = Vec::new();
        paths.extend(self.ca_file.iter().map(|file| ("upstream.ca_file", &**file)));
        match &self.login {
            UpstreamLogin::Certificate(PemFiles { certificate, private_key }) => {
                paths.extend([
                    ("upstream.login.certificate", &**certificate),
                    ("upstream.login.private_key", private_key),
                ]);
            }
            UpstreamLogin::Master { secret: SecretSource::File(file), .. } => {
                paths.push(("upstream.login.secret_file", file));
            }
            UpstreamLogin::Master { .. } | UpstreamLogin::Token(_) => {}
        }
        paths
    }
}
