//! Access tokens: what they say, who signed them, and whether to believe it. JWTs by RFC 7519, RFC 8725 and RFC
//! 9068, opaque ones by the issuer's answer (RFC 7662). Pure: bytes, keys and a time in, an [`Identity`] or a
//! [`TokenError`] out. [`verify`] and [`from_introspection`] alone make an `Identity`. Called by `issuer` (which
//! owns the keys) and `cli` (which signs the demonstration's tokens). Imports `model` only.

mod algorithm;
mod claims;
mod error;
mod event;
mod id_token;
mod identity;
mod introspect;
mod json;
mod jws;
mod keys;
mod rules;
mod sign;
mod trace;
mod unproved;
mod verify;

pub use algorithm::Algorithm;
pub use error::TokenError;
pub use event::{Event, EventToken, Form, Happening, Holder, Whom, examine_event};
pub use id_token::{Asked, SignIn, Vouched, examine_id_token};
pub use identity::{Fingerprint, Identity};
pub use introspect::from_introspection;
pub use json::JsonError;
pub use jws::{Peek, peek_issuer};
pub use keys::{Key, KeySet, KeySetError, SkippedKey};
pub use rules::{ClaimRule, Rules};
pub use sign::{Mint, SignError, SigningKey, sign};
pub use trace::{Check, Diagnosis, Outcome, Step};
pub use unproved::Unproved;
pub use verify::{Examined, diagnose, examine, verify};

#[cfg(test)]
mod tests;
