//! SASL without a socket: the two OAuth mechanisms, `XOAUTH2` and `OAUTHBEARER` (RFC 7628), from the base64 text on
//! the wire to a [`Bearer`], and the error challenge on the way back. Also knows the names of the mechanisms that
//! carry passwords, so that they can be refused by name. Called by `session`. Imports `model` only; nothing here
//! believes a token, that is `token`'s work.

mod challenge;
mod mechanism;
mod outgoing;
mod parse;

pub use challenge::{Failure, challenge};
pub use mechanism::{Mechanism, is_password_mechanism};
pub use outgoing::{bearer, dismissal, external, plain};
pub use parse::{Bearer, MAX_RESPONSE, MAX_TOKEN, SaslError, is_cancel, parse};
