//! What the operator says about set-up help: `[setup]`, and of `[http]` and `[[issuer]]` what people need to know. Filled by
//! `config`.

use crate::model::ClientId;

/// What people are told so that they can set up their mail programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupSettings {
    /// Where IMAP over TLS is reached; none: it is off.
    pub imaps: Option<MailServer>,
    /// Where POP3 over TLS is reached; none: it is off.
    pub pop3s: Option<MailServer>,
    /// Where mail is sent, which this gateway has no part in; none: nothing is said about it.
    pub smtp: Option<Smtp>,
    /// Mail domains that autoconfig answers for, in lower case; none: those of the listed users.
    pub domains: Vec<String>,
    /// Where the HTTP listener is reached from outside, without a slash at the end: `https://mail.example.com`.
    pub public_url: Option<String>,
    /// Where people sign in.
    pub sign_ins: Vec<SignIn>,
    /// The Thunderbird add-ons offered.
    pub add_ons: Vec<AddOn>,
}

/// A server as mail programs are told to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    /// Its name.
    pub host: String,
    /// Its port; 0 until the listener is bound, where the config leaves it to that.
    pub port: u16,
}

/// The organisation's server for sending mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Where it is reached: TLS from the first byte on port 465, STARTTLS on any other (RFC 8314 section 3.3).
    pub server: MailServer,
    /// How programs sign in there.
    pub sign_in: SmtpSignIn,
}

/// How programs sign in to send mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSignIn {
    /// By OAuth, at the same issuer.
    OAuth,
    /// With a password: another server's affair.
    Password,
    /// Not at all.
    Nothing,
}

/// What programs have to know of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Its address.
    pub issuer: String,
    /// The scopes to ask for; none: it does not matter.
    pub scopes: Vec<String>,
}

/// One Thunderbird add-on: how to sign in at one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddOn {
    /// The issuer's address.
    pub issuer: String,
    /// What Thunderbird lists the add-on as.
    pub name: String,
    /// The client ID under which the issuer knows Thunderbird.
    pub client_id: ClientId,
    /// The secret that goes with it, where an issuer insists on one. Whoever downloads the add-on can read it.
    pub client_secret: Option<String>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// Where the issuer sends the browser when it is done; Thunderbird catches it there, nothing has to listen.
    pub redirect: String,
    /// Whether to use PKCE (RFC 7636).
    pub pkce: bool,
    /// Where people sign in; none: as the issuer's configuration document says.
    pub authorization_endpoint: Option<String>,
    /// Where the code is exchanged; none: as the issuer's configuration document says.
    pub token_endpoint: Option<String>,
}

impl SetupSettings {
    /// Fills in the ports that the config left to the listeners.
    pub fn bound(&mut self, imaps: Option<u16>, pop3s: Option<u16>) {
        for (server, port) in [(&mut self.imaps, imaps), (&mut self.pop3s, pop3s)] {
            if let (Some(server @ MailServer { port: 0, .. }), Some(port)) = (server, port) {
                server.port = port;
            }
        }
    }

    /// What Thunderbird will stumble over, if it is to be used.
    pub fn warnings(&self) -> Vec<String> {
        if self.add_ons.is_empty() {
            return Vec::new();
        }
        let mut warnings: Vec<String> = Vec::new();
        for host in self.hosts().into_iter().filter(|host| !host.contains('.')) {
            warnings.push(format!(
                "setup: Thunderbird uses the add-on for servers with a dot in their name only, and {host} has none; give it \
                 another name, with setup.imaps and setup.pop3s"
            ));
        }
        if self.smtp.is_none() {
            let text =
                "setup: Thunderbird finds no settings by itself as long as setup.smtp names no server for sending";
            warnings.push(text.to_owned());
        }
        warnings
    }

    /// The host names of the servers that take the issuer's tokens, each once.
    pub(super) fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = Vec::new();
        let smtp = self.smtp.as_ref().filter(|smtp| smtp.sign_in == SmtpSignIn::OAuth).map(|smtp| &smtp.server);
        for server in [self.imaps.as_ref(), self.pop3s.as_ref(), smtp].into_iter().flatten() {
            if !hosts.contains(&server.host.as_str()) {
                hosts.push(&server.host);
            }
        }
        hosts
    }
}

impl std::fmt::Display for MailServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_operator_hears_what_thunderbird_will_stumble_over() {
        let server = |host: &str| Some(MailServer { host: host.to_owned(), port: 993 });
        let mut setup = SetupSettings { imaps: server("localhost"), ..SetupSettings::default() };
        assert!(setup.warnings().is_empty(), "nobody spoke of Thunderbird");
        let client_id = ClientId::parse("tb").unwrap();
        setup.add_ons.push(AddOn {
            issuer: "https://id.example.com".into(),
            name: "Mail".into(),
            client_id,
            client_secret: None,
            scopes: Vec::new(),
            redirect: "http://127.0.0.1/".into(),
            pkce: true,
            authorization_endpoint: None,
            token_endpoint: None,
        });
        let told = setup.warnings().join("\n");
        assert!(told.contains("localhost has none") && told.contains("setup.smtp names no server"), "{told}");
        setup.imaps = server("mail.example.com");
        let sign_in = SmtpSignIn::Password;
        setup.smtp = server("smtp").map(|server| Smtp { server, sign_in });
        assert!(setup.warnings().is_empty(), "{:?}", setup.warnings());
    }

    #[test]
    fn ports_that_the_config_leaves_open_are_those_that_were_bound() {
        let at = |port| Some(MailServer { host: "mail.example.com".to_owned(), port });
        let mut setup = SetupSettings { imaps: at(0), pop3s: at(995), ..SetupSettings::default() };
        setup.bound(Some(40_000), Some(40_001));
        assert_eq!((setup.imaps, setup.pop3s), (at(40_000), at(995)));
    }
}
