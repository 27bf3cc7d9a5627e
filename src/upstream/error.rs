//! Why there is no connection to an upstream, with the upstream, the server and the cause in every text.

use std::{io, time::Duration};

use crate::metrics::UpstreamFailure;
use crate::model::{Blame, Service, UpstreamNo};

/// Why there is no connection. Whoever signs in is told none of it but that the mailbox is out of reach.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Policy names an upstream that the config does not have.
    #[error(
        "there is no upstream {upstream:?}: add [[upstream]] with this name to the config, or correct mail in the policy"
    )]
    Unknown {
        /// What policy says.
        upstream: String,
    },
    /// The upstream has no server for this protocol.
    #[error("upstream {upstream} has no server for {service}: name one in its [[upstream]], or turn {service} off")]
    NoServer {
        /// Which upstream.
        upstream: String,
        /// For what.
        service: Service,
    },
    /// The user is pinned to a host that the upstream does not have.
    #[error(
        "upstream {upstream} has no host {host} for {service}: correct the user's pin, or the upstream's servers"
    )]
    NoHost {
        /// Which upstream.
        upstream: String,
        /// For what.
        service: Service,
        /// Where the user is pinned to.
        host: String,
    },
    /// All servers have failed, and none is to be tried yet.
    #[error("upstream {upstream} has no {service} server that answers: {cause}")]
    AllDown {
        /// Which upstream.
        upstream: String,
        /// For what.
        service: Service,
        /// What the server of first choice failed with.
        cause: String,
    },
    /// The server has failed, and somebody else is trying it just now.
    #[error("{server} of upstream {upstream} is not tried again yet: {cause}")]
    Resting {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// What it failed with.
        cause: String,
    },
    /// The server has as many connections as it may be given.
    #[error("{server} of upstream {upstream} has {limit} connections already, the most it is given")]
    Full {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// `connections` of the upstream.
        limit: usize,
    },
    /// Its name has no address.
    #[error("{server} of upstream {upstream}: its name has no address that can be used ({source})")]
    Resolve {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It takes no connection.
    #[error("{server} of upstream {upstream} refuses connections")]
    Refused {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
    },
    /// The network does not lead there, or broke off.
    #[error("{server} of upstream {upstream} cannot be reached ({source})")]
    Unreachable {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("{server} of upstream {upstream} did not answer within {} s ({step})", limit.as_secs_f32())]
    TimedOut {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// What was waited for.
        step: &'static str,
        /// How long.
        limit: Duration,
    },
    /// Its certificate is not believed.
    #[error("{server} of upstream {upstream} has a certificate that is not believed: {source}")]
    Certificate {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// TLS failed for another reason.
    #[error("TLS with {server} of upstream {upstream} failed: {source}")]
    Tls {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// How.
        source: io::Error,
    },
    /// It did not greet as such a server does.
    #[error("{server} of upstream {upstream} does not greet as a server for {service}: {said}")]
    Greeting {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// For what.
        service: Service,
        /// What it said instead, or how it broke off.
        said: String,
    },
    /// The connection broke while the gateway signed in.
    #[error("{server} of upstream {upstream} broke off the sign-in ({source})")]
    Broken {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// The system's answer, or that of TLS.
        source: io::Error,
    },
    /// The server did not let the gateway in.
    #[error("{server} of upstream {upstream}: {no}")]
    SignIn {
        /// Which upstream.
        upstream: String,
        /// Which server.
        server: String,
        /// Why.
        no: UpstreamNo,
    },
}

impl UpstreamError {
    /// Whether another server of the upstream may do better.
    pub(super) fn is_of_this_server(&self) -> bool {
        match self {
            Self::SignIn { no, .. } => no.is_of_this_server(),
            Self::Unknown { .. } | Self::NoServer { .. } | Self::NoHost { .. } | Self::AllDown { .. } => false,
            _ => true,
        }
    }

    /// The server's own no, where it gave one to the sign-in.
    pub fn refusal(&self) -> Option<&UpstreamNo> {
        match self {
            Self::SignIn { no, .. } if !no.is_of_this_server() => Some(no),
            _ => None,
        }
    }

    /// Who has to mend it: the config, or whoever runs the servers.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unknown { .. } | Self::NoServer { .. } | Self::NoHost { .. } => Blame::Us,
            _ => Blame::Dependency,
        }
    }

    /// What a server's failures are counted as; none where no server failed.
    pub fn failure(&self) -> Option<UpstreamFailure> {
        match self {
            Self::Unknown { .. }
            | Self::NoServer { .. }
            | Self::NoHost { .. }
            | Self::AllDown { .. }
            | Self::Resting { .. }
            | Self::Full { .. } => None,
            Self::Resolve { .. } => Some(UpstreamFailure::Resolve),
            Self::Refused { .. } => Some(UpstreamFailure::Refused),
            Self::Unreachable { .. } => Some(UpstreamFailure::Unreachable),
            Self::TimedOut { .. } => Some(UpstreamFailure::Timeout),
            Self::Certificate { .. } => Some(UpstreamFailure::Certificate),
            Self::Tls { .. } => Some(UpstreamFailure::Tls),
            Self::Greeting { .. } => Some(UpstreamFailure::Greeting),
            Self::Broken { .. } | Self::SignIn { .. } => Some(UpstreamFailure::Login),
        }
    }
}
