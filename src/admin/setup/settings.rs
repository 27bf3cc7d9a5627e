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
