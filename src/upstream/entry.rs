//! From a permit to a signed-in connection: the servers are tried in their order, and at the first that answers the gateway
//! signs in for the mailbox owner. Called by `session`, which relays from there.

use std::{fmt::Write as _, io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tracing::debug;
use zeroize::Zeroize;

use super::{
    breaker::Stage,
    error::UpstreamError,
    proxy_header::Ends,
    servers::{Connected, Lease},
    settings::{ClientAddress, LoginBy},
    stream::Stream,
    upstreams::Upstream,
};
use crate::imap::upstream_login as imap;
use crate::metrics::UpstreamFailure;
use crate::model::{Offer, Secret, Service, SessionId, UpstreamNo};
use crate::policy::Permit;
use crate::pop3::upstream_login as pop3;
use crate::sasl::{self, Mechanism};

/// Room for one read before the sign-in is over, in bytes.
const READ_ROOM: usize = 2 * 1024;

/// Room for what is said at once, in bytes: a token of the largest size, in base64 twice.
const SPOKEN_ROOM: usize = 48 * 1024;
/// For all servers that are tried for one sign-in together: less than a peer has for its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told of a session, beside its permit.
pub struct Entrant<'a> {
    /// The token it came in with.
    pub token: &'a Secret,
    /// Where it comes from, and to which address.
    pub ends: Ends,
    /// Its number here.
    pub session: SessionId,
}

/// A connection on which somebody is signed in.
pub struct Entered {
    /// Its bytes.
    pub stream: Stream,
    /// The right to it, to be kept for as long as the stream.
    pub lease: Lease,
    /// What came behind the sign-in.
    pub ahead: BytesMut,
    /// What the server can do now.
    pub abilities: Abilities,
}

/// What a server says that it can do, as each protocol has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abilities {
    /// Capabilities, separated by single spaces.
    Imap(String),
    /// Capabilities with their arguments.
    Pop(Vec<String>),
}

impl Abilities {
    /// Those of an IMAP server; nothing for another.
    pub fn imap(&self) -> &str {
        if let Self::Imap(list) = self { list } else { "" }
    }

    /// Those of a POP3 server; nothing for another.
    pub fn pop(&self) -> &[String] {
        if let Self::Pop(list) = self { list } else { &[] }
    }
}

impl Upstream {
    /// Signs in for the permit's mailbox at one of its servers; with `pin` only at that host.
    ///
    /// Another server is tried only while none was told anything by which somebody signs in: after that its answer counts,
    /// and nobody else is given the same.
    ///
    /// # Errors
    /// Why it did not work with the last server that was tried.
    pub async fn enter(
        &self,
        permit: &Permit,
        entrant: &Entrant<'_>,
        pin: Option<&str>,
    ) -> Result<Entered, UpstreamError> {
        let (service, owner) = (permit.service(), permit.owner());
        let deadline = Instant::now() + PATIENCE;
        let mut candidates = self.candidates(service, owner, pin)?.into_iter().peekable();
        while let Some(server) = candidates.next() {
            let outcome = match self.connect(&server, owner, entrant.ends).await {
                Ok(connected) => Box::pin(self.sign_in(connected, permit, entrant, deadline)).await,
                Err(error) => Err(Failed { error, spoken: false }),
            };
            let may_go_on = candidates.peek().is_some() && Instant::now() < deadline;
            match outcome {
                Err(Failed { error, spoken: false }) if error.is_of_this_server() && may_go_on => {
                    debug!(session = %entrant.session, %error, "the next server is tried");
                }
                outcome => return outcome.map_err(|failed| failed.error),
            }
        }
        Err(UpstreamError::NoServer { upstream: self.name().to_owned(), service })
    }

    async fn sign_in(
        &self,
        connected: Connected,
        permit: &Permit,
        entrant: &Entrant<'_>,
        deadline: Instant,
    ) -> Result<Entered, Failed> {
        let Connected { mut stream, mut lease } = connected;
        let (upstream, server) = (self.name().to_owned(), lease.server().address().to_string());
        let limit = self.login_limit().min(deadline.saturating_duration_since(Instant::now()));
        let mut talk = Talk::new(self, permit, entrant);
        let error = match timeout(limit, talk.run(&mut stream)).await {
            Ok(Ok(Ok((ahead, abilities)))) => {
                lease.succeeded();
                return Ok(Entered { stream, lease, ahead, abilities });
            }
            Ok(Ok(Err(no))) => UpstreamError::SignIn { upstream, server, no },
            Ok(Err(source)) => UpstreamError::Broken { upstream, server, source },
            Err(_) => UpstreamError::TimedOut { upstream, server, step: "signing in", limit },
        };
        let at = if talk.was_greeted() { Stage::SignIn } else { Stage::Greeting };
        match &error {
            // What it says to one user is no failure of the server.
            UpstreamError::SignIn { no: UpstreamNo::Refused { .. } | UpstreamNo::NotOffered { .. }, .. } => {
                lease.succeeded();
            }
            // The servers before it have used up most of its time.
            UpstreamError::TimedOut { .. } if limit < self.login_limit().min(PATIENCE) / 2 => {}
            UpstreamError::TimedOut { .. } => lease.failed(at, UpstreamFailure::Timeout, &error),
            _ => lease.failed(at, UpstreamFailure::Login, &error),
        }
        Err(Failed { error, spoken: talk.has_spoken() })
    }
}

/// Why a server did not let anybody in, and whether it was told anything by which somebody signs in.
struct Failed {
    error: UpstreamError,
    spoken: bool,
}

/// What is to be sent, wiped however its sending ends: it may be a token, or the master user's password.
struct Words(BytesMut);

impl Drop for Words {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

/// The sign-in of either protocol.
enum Talk {
    Imap(imap::Login),
    Pop(pop3::Login),
}

/// What came behind the sign-in, and what the server can do; or its no.
type Answer = Result<(BytesMut, Abilities), UpstreamNo>;

impl Talk {
    fn new(upstream: &Upstream, permit: &Permit, entrant: &Entrant<'_>) -> Self {
        let login = upstream.login();
        let offers = offers(&login, permit, entrant.token);
        let tells = upstream.client_address() == ClientAddress::Id;
        match permit.service() {
            Service::Imap => Self::Imap(imap::Login::new(offers, tells.then(|| id(entrant)))),
            Service::Pop => {
                let client = tells.then(|| {
                    format!(
                        "ADDR={} PORT={} SESSION={} TTL=1",
                        entrant.ends.peer.ip(),
                        entrant.ends.peer.port(),
                        entrant.session
                    )
                });
                Self::Pop(pop3::Login::new(offers, user_and_password(&login, permit), client))
            }
        }
    }

    fn has_spoken(&self) -> bool {
        match self {
            Self::Imap(login) => login.has_spoken(),
            Self::Pop(login) => login.has_spoken(),
        }
    }

    fn was_greeted(&self) -> bool {
        match self {
            Self::Imap(login) => login.was_greeted(),
            Self::Pop(login) => login.was_greeted(),
        }
    }

    async fn run(&mut self, stream: &mut Stream) -> io::Result<Answer> {
        let mut input = BytesMut::with_capacity(READ_ROOM);
        loop {
            // Room for a token, so that no copy of it is left behind by growing.
            let mut out = Words(BytesMut::with_capacity(SPOKEN_ROOM));
            let answer = self.next(&mut input, &mut out.0);
            if let Some(Err(no)) = answer {
                return Ok(Err(no));
            }
            if !out.0.is_empty() {
                stream.write_all(&out.0).await?;
                stream.flush().await?;
            }
            drop(out);
            if let Some(Ok(abilities)) = answer {
                // What is passed on stays with the session: no empty buffer.
                let ahead = if input.is_empty() { BytesMut::new() } else { input };
                return Ok(Ok((ahead, abilities)));
            }
            input.reserve(READ_ROOM);
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Option<Result<Abilities, UpstreamNo>> {
        match self {
            Self::Imap(login) => match login.next(input, out) {
                imap::Step::Read => None,
                imap::Step::Done { capabilities } => Some(Ok(Abilities::Imap(capabilities))),
                imap::Step::No(no) => Some(Err(no)),
            },
            Self::Pop(login) => match login.next(input, out) {
                pop3::Step::Read => None,
                pop3::Step::Done { capabilities } => Some(Ok(Abilities::Pop(capabilities))),
                pop3::Step::No(no) => Some(Err(no)),
            },
        }
    }
}

/// The ways to sign in, the best first.
fn offers(login: &LoginBy, permit: &Permit, token: &Secret) -> Vec<Offer> {
    let owner = permit.owner().as_str();
    match login {
        LoginBy::Token { mechanism } => Mechanism::ALL
            .into_iter()
            .filter(|one| mechanism.is_none_or(|wanted| wanted == *one))
            .map(|one| Offer {
                mechanism: one.name(),
                response: sasl::bearer(one, owner, token),
                dismissal: sasl::dismissal(one),
            })
            .collect(),
        LoginBy::Master { user, secret, .. } => {
            vec![Offer { mechanism: "PLAIN", response: sasl::plain(owner, user, secret), dismissal: "" }]
        }
        LoginBy::Certificate => {
            vec![Offer { mechanism: "EXTERNAL", response: sasl::external(owner), dismissal: "" }]
        }
    }
}

/// What USER and PASS are given where a POP3 server has no SASL.
fn user_and_password(login: &LoginBy, permit: &Permit) -> Option<(String, Secret)> {
    let LoginBy::Master { user, secret, form: Some(form) } = login else { return None };
    Some((form.fill(permit.owner(), user)?, secret.clone()))
}

/// What ID says (RFC 2971), by the names that Dovecot and others read: where the peer is, and how to find the session here.
fn id(entrant: &Entrant<'_>) -> String {
    let Ends { peer, ours } = entrant.ends;
    let mut text = String::from("(\"name\" \"Portcullis\"");
    let fields: [(&str, &dyn std::fmt::Display); 6] = [
        ("x-originating-ip", &peer.ip().to_canonical()),
        ("x-originating-port", &peer.port()),
        ("x-connected-ip", &ours.ip().to_canonical()),
        ("x-connected-port", &ours.port()),
        ("x-session-id", &entrant.session),
        ("x-proxy-ttl", &1),
    ];
    for (name, value) in fields {
        let _ = write!(text, " \"{name}\" \"{value}\"");
    }
    text.push(')');
    text
}
