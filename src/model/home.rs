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
    /// Longest name of a server, in bytes: a host name of 253 (RFC 1035 section 2.3.4) and a port.
    pub const MAX_SERVER: usize = 260;

    /// Reads what [`fmt::Display`] writes. A server is a host name or an address as the upstream's list has it, with or
    /// without a port: letters, digits and `- _ . : [ ]`. Whether there is such an upstream is not known here.
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
            return bad("needs a server of 1 to 260 characters after the /");
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'[' | b']');
        if !server.bytes().all(fits) {
            return bad("has a server that is no host name: write NAME/HOST");
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
            ("dovecot/[::1]:10993", upstream("dovecot", Some("[::1]:10993"))),
        ] {
            assert_eq!(MailHome::parse(text), Ok(home.clone()), "{text}");
            assert_eq!(home.to_string(), text);
        }
        let spelt = MailHome::parse("dovecot/Mail1.INTERNAL");
        assert_eq!(spelt, Ok(upstream("dovecot", Some("mail1.internal"))), "host names compare without case");
        let long = "a".repeat(65);
        let far = format!("dovecot/{}", "a".repeat(261));
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
            "dovecot/a\n",
            &long,
            &far,
        ] {
            assert!(MailHome::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(UpstreamName::parse(&"a".repeat(64)).is_ok());
    }
}
