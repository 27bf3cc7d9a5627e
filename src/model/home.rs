//! Where a mailbox is: in the embedded store, or behind an upstream.

use std::fmt;

use super::{BadName, UpstreamName};

/// Where somebody's mail is.
///
/// Written `maildir`, `NAME` or `NAME/HOST`: the name of an upstream, and the one of its servers that has the mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MailHome {
    /// In the embedded store.
    #[default]
    Maildir,
    /// On other mail servers.
    Upstream {
        /// Which of the configured upstreams.
        name: UpstreamName,
        /// The one server of it that has the mailbox, in ASCII lower case; none: any of them.
        server: Option<String>,
    },
}

impl MailHome {
    /// Longest name of a server, in bytes. Source: RFC 1035 section 2.3.4.
    pub const MAX_SERVER: usize = 255;

    /// Reads what [`fmt::Display`] writes. A server is a host name or an address of the upstream's list, without a port:
    /// letters, digits and `- _ .`, or an IPv6 address, in brackets or without. Whether there is such an upstream, or such a
    /// server of it, is not known here.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text == "maildir" {
            return Ok(Self::Maildir);
        }
        let Some((name, server)) = text.split_once('/') else {
            return Ok(Self::Upstream { name: UpstreamName::parse(text)?, server: None });
        };
        let bad = |problem| Err(BadName::new("mail", text, problem));
        if name == "maildir" {
            return bad("names a server of the embedded store, which has none: write maildir alone");
        }
        if server.is_empty() || server.len() > Self::MAX_SERVER {
            return bad("needs a server of 1 to 255 characters after the /");
        }
        let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let bare = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(server);
        // An IPv6 address has at least two colons; one alone would stand before a port.
        let address = bare.matches(':').count() > 1
            && bare.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        if !address && !server.bytes().all(host) {
            return bad("has a server that is no host: write NAME/HOST, without a port");
        }
        Ok(Self::Upstream { name: UpstreamName::parse(name)?, server: Some(server.to_ascii_lowercase()) })
    }
}

impl fmt::Display for MailHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir => f.write_str("maildir"),
            Self::Upstream { name, server: None } => write!(f, "{name}"),
            Self::Upstream { name, server: Some(server) } => write!(f, "{name}/{server}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_home_is_the_store_or_an_upstream_with_or_without_one_of_its_servers() {
        let upstream = |name: &str, server: Option<&str>| MailHome::Upstream {
            name: UpstreamName::parse(name).unwrap(),
            server: server.map(str::to_owned),
        };
        for (text, home) in [
            ("maildir", MailHome::Maildir),
            ("dovecot", upstream("dovecot", None)),
            ("Old.mail_2-b", upstream("Old.mail_2-b", None)),
            ("dovecot/mail1.internal", upstream("dovecot", Some("mail1.internal"))),
            ("dovecot/[::1]", upstream("dovecot", Some("[::1]"))),
            ("dovecot/fe80::1", upstream("dovecot", Some("fe80::1"))),
            ("dovecot/127.0.0.1", upstream("dovecot", Some("127.0.0.1"))),
        ] {
            assert_eq!(MailHome::parse(text), Ok(home.clone()), "{text}");
            assert_eq!(home.to_string(), text);
        }
        let spelt = MailHome::parse("dovecot/Mail1.INTERNAL");
        assert_eq!(spelt, Ok(upstream("dovecot", Some("mail1.internal"))), "host names compare without case");
        let long = "a".repeat(65);
        let far = format!("dovecot/{}", "a".repeat(256));
        for wrong in [
            "",
            "/",
            "dovecot/",
            "/mail1",
            "maildir/mail1",
            "Maildir",
            "MAILDIR/x",
            "dove cot",
            "dövecot",
            "a/b/c",
            "dovecot/a b",
            "dovecot/mail1:993",
            "dovecot/[::1]:993",
            "dovecot/[mail1]",
            "dovecot/:",
            "dovecot/a\n",
            &long,
            &far,
        ] {
            assert!(MailHome::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(UpstreamName::parse(&"a".repeat(64)).is_ok());
    }
}
