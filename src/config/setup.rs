//! `[setup]`, and `http.public_url`: what people are told about setting up their mail programs. Used by `sections`.

use toml::de::DeValue;

use super::{
    Http, Issuer, Listen,
    issuers::address,
    read::{At, Reader, Section},
};
use crate::admin::{AddOn, MailServer, SetupSettings, SignIn, Smtp, SmtpSignIn};
use crate::model::{ClientId, Service};

const KEYS: [&str; 6] = ["imaps", "pop3s", "smtp", "smtp_sign_in", "domains", "thunderbird"];

const ADD_ON: [&str; 9] = [
    "issuer",
    "name",
    "client_id",
    "client_secret",
    "scopes",
    "redirect",
    "pkce",
    "authorization_endpoint",
    "token_endpoint",
];

/// Thunderbird stops the browser there, so nothing has to listen. With the slash it is not the beginning of the address of
/// an issuer on another port of this machine, at which it would stop too early. Source: RFC 8252 section 7.3.
const REDIRECT: &str = "http://127.0.0.1/";

/// Reads `[setup]`. `hostname` is absent where it is wrong.
pub(super) fn read(
    reader: &mut Reader<'_>,
    top: Section<'_, '_>,
    hostname: Option<&str>,
    listen: &Listen,
    http: &Http,
    issuers: &[Issuer],
) -> SetupSettings {
    let section = reader.section(top, "setup", "setup");
    reader.only(section, &KEYS);
    let mut server = |key, listening: &[std::net::SocketAddr]| -> Option<MailServer> {
        let Some(at) = reader.string(section, key) else {
            let host = hostname?.to_owned();
            return listening.first().map(|address| MailServer { host, port: address.port() });
        };
        let At { value, span } = at;
        let Some(first) = listening.first() else {
            let what = format!("setup.{key} = {value:?}, but listen.{key} is off");
            return reader.wrong(span, what, format!("remove the line, or listen: {key} = [\"[::]:PORT\"]"));
        };
        match parse_server(&value, first.port()) {
            Some(server) => Some(server),
            None => reader.wrong(
                span,
                format!("setup.{key} = {value:?} is no server"),
                "write name and port as people reach them: \"mail.example.com:993\"",
            ),
        }
    };
    let (imaps, pop3s) = (server("imaps", &listen.imaps), server("pop3s", &listen.pop3s));
    let smtp = smtp(reader, section);
    let domains = reader.parsed(section, "domains", |text| {
        let domain = text.to_ascii_lowercase();
        is_host_name(&domain).then_some(domain).ok_or_else(|| "write mail domains: \"example.com\"".to_owned())
    });
    let sign_ins = issuers.iter().map(|issuer| SignIn { issuer: issuer.rules.url.clone(), scopes: scopes(issuer) });
    let sign_ins: Vec<SignIn> = sign_ins.collect();
    let add_ons = add_ons(reader, section, hostname, issuers);
    SetupSettings { imaps, pop3s, smtp, domains, public_url: http.public_url.clone(), sign_ins, add_ons }
}

fn smtp(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Option<Smtp> {
    let words = [("oauth", SmtpSignIn::OAuth), ("password", SmtpSignIn::Password), ("none", SmtpSignIn::Nothing)];
    let sign_in = reader.word(section, "smtp_sign_in", &words);
    let At { value, span } = reader.string(section, "smtp")?;
    match parse_server(&value, SUBMISSION) {
        Some(server) => Some(Smtp { server, sign_in: sign_in.unwrap_or(SmtpSignIn::OAuth) }),
        None => reader.wrong(
            span,
            format!("setup.smtp = {value:?} is no server"),
            "write the name and port of your server for sending: \"smtp.example.com:465\"",
        ),
    }
}

/// The port of message submission with TLS from the first byte (RFC 8314 section 3.3).
const SUBMISSION: u16 = 465;

/// `mail.example.com:993`, or the name alone: then the port is the listener's.
fn parse_server(text: &str, listening: u16) -> Option<MailServer> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, listening),
    };
    let host = host.to_ascii_lowercase();
    is_host_name(&host).then_some(MailServer { host, port })
}

/// Labels of letters, digits and hyphens (RFC 1123 section 2.1); a dotted IPv4 address is one too.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The origin that people reach `listen.http` by.
pub(super) fn public_url(reader: &mut Reader<'_>, section: Section<'_, '_>) -> Option<String> {
    let span = section.value("public_url")?.span();
    let text = address(reader, section, "public_url")?;
    let url = reqwest::Url::parse(&text).ok()?;
    // A path in front would have to be taken off by whoever stands between; links on our pages begin with a slash.
    if url.path() != "/" || url.query().is_some() {
        let remedy = "write scheme and host alone: \"https://mail.example.com\"";
        return reader.wrong(span, format!("public_url = {text:?} has a path or a query"), remedy);
    }
    Some(url.origin().ascii_serialization())
}

/// Every scope that suffices for a service, each once.
fn scopes(issuer: &Issuer) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in [Service::Imap, Service::Pop].iter().flat_map(|service| issuer.rules.scopes_for(*service)) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes
}

/// `[setup.thunderbird]`, or `[[setup.thunderbird]]` for several issuers.
fn add_ons(
    reader: &mut Reader<'_>,
    section: Section<'_, '_>,
    hostname: Option<&str>,
    issuers: &[Issuer],
) -> Vec<AddOn> {
    let tables = match section.value("thunderbird").map(|value| value.get_ref()) {
        Some(DeValue::Array(_)) => reader.sections(section, "thunderbird"),
        Some(_) => vec![reader.section(section, "thunderbird", "setup.thunderbird")],
        None => Vec::new(),
    };
    let mut add_ons: Vec<AddOn> = Vec::new();
    for table in tables {
        let Some(add_on) = add_on(reader, table, hostname, issuers) else { continue };
        if add_ons.iter().any(|other| other.issuer == add_on.issuer) {
            let what = format!("the issuer {} has two Thunderbird add-ons", add_on.issuer);
            reader.wrong::<()>(table.span(), what, "keep one: a mail server has one way to sign in at each issuer");
            continue;
        }
        add_ons.push(add_on);
    }
    add_ons
}

fn add_on(
    reader: &mut Reader<'_>,
    table: Section<'_, '_>,
    hostname: Option<&str>,
    issuers: &[Issuer],
) -> Option<AddOn> {
    if !table.is_present() {
        return None;
    }
    reader.only(table, &ADD_ON);
    let issuer = issuer_of(reader, table, issuers);
    let client_id = match reader.string(table, "client_id") {
        Some(At { value, span }) => match ClientId::parse(&value) {
            Ok(id) => Some(id),
            Err(error) => {
                reader.wrong(span, error.to_string(), "write the client ID that the issuer gave for Thunderbird")
            }
        },
        None if table.value("client_id").is_some() => None,
        None => reader.missing(table, "client_id", "write the client ID that the issuer gave for Thunderbird"),
    };
    let name = reader.string(table, "name").map(|at| at.value);
    let client_secret = reader.string(table, "client_secret").map(|at| at.value);
    let named = table.value("scopes").is_some();
    let scopes_named = reader.parsed(table, "scopes", |word| {
        let single = word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        single.then(|| word.to_owned()).ok_or_else(|| "write each scope on its own, without spaces".to_owned())
    });
    let redirect = redirect(reader, table);
    let pkce = reader.boolean(table, "pkce").unwrap_or(true);
    let authorization_endpoint = address(reader, table, "authorization_endpoint");
    let token_endpoint = address(reader, table, "token_endpoint");
    for (key, other) in [("authorization_endpoint", "token_endpoint"), ("token_endpoint", "authorization_endpoint")]
    {
        if table.value(key).is_some() && table.value(other).is_none() {
            let remedy = format!("write {other} too, or remove {key}: then the issuer itself is asked for both");
            reader.missing::<()>(table, other, &remedy);
        }
    }
    let issuer = issuer?;
    let scopes = if named {
        scopes_named
    } else {
        // Without a refresh token, which offline_access stands for, people would have to sign in again each hour.
        let all = std::iter::once("openid".to_owned()).chain(scopes(issuer));
        all.chain(std::iter::once("offline_access".to_owned())).collect()
    };
    Some(AddOn {
        issuer: issuer.rules.url.clone(),
        name: name.unwrap_or_else(|| format!("Mail sign-in for {}", hostname.unwrap_or_default())),
        client_id: client_id?,
        client_secret,
        scopes,
        redirect: redirect?,
        pkce,
        authorization_endpoint,
        token_endpoint,
    })
}

/// The issuer that is named, or the only one there is.
fn issuer_of<'c>(reader: &mut Reader<'_>, table: Section<'_, '_>, issuers: &'c [Issuer]) -> Option<&'c Issuer> {
    let Some(At { value, span }) = reader.string(table, "issuer") else {
        return match issuers {
            [only] => Some(only),
            // What is wrong with the issuers is told elsewhere.
            [] => None,
            _ if table.value("issuer").is_some() => None,
            _ => reader.missing(table, "issuer", "write the url of the [[issuer]] that this add-on signs in at"),
        };
    };
    let found = issuers.iter().find(|issuer| issuer.rules.url == value);
    if found.is_none() {
        let what = format!("issuer = {value:?} in setup.thunderbird is none of the [[issuer]]s");
        return reader.wrong(span, what, "write one's url exactly as it stands there");
    }
    found
}

/// Any http or https address: Thunderbird stops the browser before it gets there.
fn redirect(reader: &mut Reader<'_>, table: Section<'_, '_>) -> Option<String> {
    if table.value("redirect").is_none() {
        return Some(REDIRECT.to_owned());
    }
    let At { value, span } = reader.string(table, "redirect")?;
    let good = reqwest::Url::parse(&value).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
    });
    if good {
        return Some(value);
    }
    let what = format!("setup.thunderbird.redirect = {value:?} is no address");
    reader.wrong(span, what, "write the redirect address that the issuer knows: \"http://127.0.0.1/\"")
}
