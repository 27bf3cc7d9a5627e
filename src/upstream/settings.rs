//! What is to be known of an upstream: its servers, whom to believe, how to sign in. `config` fills it in.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::ServerName,
};

use crate::model::{Secret, UserId};
use crate::sasl::Mechanism;
use crate::tls::{self, Pair, SetupError};

/// TLS sessions remembered for one server, so that the next connections need no certificate: as many as `rustls` keeps
/// for one name.
const REMEMBERED: usize = 8;

/// One upstream; the defaults are those of `config/portcullis.toml`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What policy and metrics call it.
    pub name: String,
    /// Its IMAP servers; may be none.
    pub imap: Vec<Address>,
    /// Its POP3 servers; may be none.
    pub pop: Vec<Address>,
    /// TLS from the first byte; without it connections go to this machine only.
    pub tls: Option<Trust>,
    /// How the gateway signs in.
    pub login: LoginBy,
    /// Each connection begins with a PROXY header of version 2.
    pub proxy_protocol: bool,
    /// How the peer's address is told inside the protocol.
    pub client_address: ClientAddress,
    /// For name, TCP, PROXY header and TLS of one server together.
    pub connect: Duration,
    /// For greeting and sign-in together.
    pub login_limit: Duration,
    /// Relayed connections that one server is given at once.
    pub connections: usize,
    /// Between two looks at a server; none: nobody looks.
    pub health: Option<Duration>,
}

impl Settings {
    /// An upstream without servers, over TLS with the system's authorities.
    pub fn new(name: &str, login: LoginBy) -> Self {
        Self {
            name: name.to_owned(),
            imap: Vec::new(),
            pop: Vec::new(),
            tls: Some(Trust::default()),
            login,
            proxy_protocol: false,
            client_address: ClientAddress::None,
            connect: Duration::from_secs(5),
            login_limit: Duration::from_secs(15),
            connections: 10_000,
            health: Some(Duration::from_secs(10)),
        }
    }
}

/// Where a server is: `mail1.internal:993`, `[2001:db8::1]:993`.
///
/// Shape: a host name of ASCII letters in lower case, or an IP address; a port from 1 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: Arc<str>,
    port: u16,
}

impl Address {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok())??;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (inner, host.parse::<IpAddr>()) {
            (Some(inner), _) => inner.parse::<std::net::Ipv6Addr>().ok()?.to_canonical().to_string(),
            (None, Ok(IpAddr::V4(ip))) => ip.to_string(),
            (None, _) => match ServerName::try_from(host).ok()? {
                ServerName::DnsName(name) => name.as_ref().to_ascii_lowercase(),
                _ => return None,
            },
        };
        (port > 0).then(|| Self { host: host.into(), port })
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether policy means this server by `host`: names compare without case, an IPv6 address may stand in brackets.
    pub fn is_at(&self, host: &str) -> bool {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.host.eq_ignore_ascii_case(host)
    }

    /// Whether it can be nothing but this machine. A name that the system resolves to loopback addresses may resolve to
    /// others tomorrow, so that only `localhost` counts (RFC 6761 section 6.3).
    pub fn is_loopback(&self) -> bool {
        &*self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How the gateway signs in at an upstream.
#[derive(Clone, Debug)]
pub enum LoginBy {
    /// With the token that the peer brought.
    Token {
        /// With this mechanism; none: with one that the server offers.
        mechanism: Option<Mechanism>,
    },
    /// As a user that may open every mailbox (SASL PLAIN's authzid, RFC 4616).
    Master {
        /// That user's name.
        user: String,
        /// Its password.
        secret: Secret,
        /// What USER is given where a POP3 server has no SASL.
        form: Option<Form>,
    },
    /// By the client certificate of the TLS connection (SASL EXTERNAL, RFC 4422 appendix A).
    Certificate,
}

/// How a server without SASL is told of mailbox owner and master user in one word: `{owner}*{user}`.
///
/// Shape: printable ASCII without spaces, with `{owner}` in it once, `{user}` at most once, and no other braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form(String);

impl Form {
    const OWNER: &str = "{owner}";
    const USER: &str = "{user}";

    /// Checks the shape.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it holds more than printable ASCII without spaces");
        }
        if text.matches(Self::OWNER).count() != 1 || text.matches(Self::USER).count() > 1 {
            return Err("it needs {owner} once, and {user} at most once");
        }
        let form = Self(text.to_owned());
        if form.pieces().any(|piece| piece.contains(['{', '}'])) {
            return Err("it holds braces other than those of {owner} and {user}");
        }
        if form.pieces().any(|piece| piece == "@") {
            return Err("an @ alone cannot tell an address from what follows it");
        }
        Ok(form)
    }

    /// The word for this owner. None if the owner's address holds what separates the two: a server that looks for it would
    /// find it in the wrong place, and open another mailbox.
    pub fn fill(&self, owner: &UserId, user: &str) -> Option<String> {
        let owner = owner.as_str();
        if self.pieces().any(|piece| !piece.is_empty() && owner.contains(piece)) {
            return None;
        }
        // In one pass: an owner may be called "{user}@..".
        let (before, after) = self.0.split_once(Self::OWNER)?;
        Some(format!("{}{owner}{}", before.replace(Self::USER, user), after.replace(Self::USER, user)))
    }

    /// The text around the names.
    fn pieces(&self) -> impl Iterator<Item = &str> {
        self.0.split(Self::OWNER).flat_map(|part| part.split(Self::USER))
    }
}

/// How a server learns where the peer comes from, inside the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// Not at all.
    None,
    /// IMAP `ID` with `x-originating-ip` and the rest, POP3 `XCLIENT`: for a server that trusts us.
    Id,
}

/// Whom a TLS connection believes, and what it shows of us.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The authorities; none: the system's.
    pub roots: Option<RootCertStore>,
    /// The name that the servers' certificates bear; none: each server's own host.
    pub name: Option<ServerName<'static>>,
    /// Our own certificate, for [`LoginBy::Certificate`].
    pub certificate: Option<Pair>,
}

impl Trust {
    /// The settings for one server, which remember its TLS sessions and no other's.
    ///
    /// # Errors
    /// The crypto library refused, or the system has no authorities.
    pub(super) fn settings(&self) -> Result<Arc<ClientConfig>, SetupError> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.roots {
            Some(roots) => WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), tls::provider())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?,
            None => Arc::new(rustls_platform_verifier::Verifier::new(tls::provider())?),
        };
        let mut settings = tls::client(verifier, self.certificate.as_ref())?;
        settings.resumption = Resumption::in_memory_sessions(REMEMBERED);
        Ok(Arc::new(settings))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, expected, loopback) in [
            ("mail1.internal:993", "mail1.internal:993", false),
            ("MAIL1.Internal:1", "mail1.internal:1", false),
            ("192.0.2.1:993", "192.0.2.1:993", false),
            ("[2001:DB8:0::1]:993", "[2001:db8::1]:993", false),
            ("[::1]:143", "[::1]:143", true),
            ("[::ffff:127.0.0.1]:143", "127.0.0.1:143", true),
            ("127.0.0.53:143", "127.0.0.53:143", true),
            ("localhost:143", "localhost:143", true),
            ("localhost.example.com:143", "localhost.example.com:143", false),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (expected, loopback), "{text}");
            assert_eq!(Address::parse(expected), Some(address), "{text}");
        }
        for wrong in [
            "",
            ":993",
            "mail",
            "mail:",
            "mail:0",
            "mail:65536",
            "mail:+1",
            "::1:993",
            "2001:db8::1:993",
            "[mail]:993",
            "[127.0.0.1]:993",
            "a b:993",
            "imaps://mail:993",
            "mail:993/",
            "[::1]",
            "ann@mail:993",
            "-:993",
            "ä:993",
        ] {
            assert_eq!(Address::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_form_holds_the_owner_and_no_owner_can_pass_for_another() {
        let owner = |text: &str| UserId::parse(text).unwrap();
        for (form, who, expected) in [
            ("{owner}*{user}", "ann@example.com", Some("ann@example.com*gate")),
            ("{user}+{owner}", "ann@example.com", Some("gate+ann@example.com")),
            ("{owner}", "ann@example.com", Some("ann@example.com")),
            ("{owner}*{user}", "{user}@example.com", Some("{user}@example.com*gate")),
            ("{owner}*{user}", "bob*x@example.com", None),
            ("{user}+{owner}", "ann+bob@example.com", None),
        ] {
            let filled = Form::parse(form).unwrap().fill(&owner(who), "gate");
            assert_eq!(filled.as_deref(), expected, "{form} {who}");
        }
        for wrong in
            ["", "{user}", "{owner}{owner}", "{owner} {user}", "{owner}*{master}", "{owner}@{user}", "{owner}}"]
        {
            assert!(Form::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
