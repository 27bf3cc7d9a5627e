//! TLS without a socket: PEM bytes in, certificates and `rustls` settings out. No I/O, no clock.
//!
//! Called by `serve` (listeners, reload), `cli` (`check`, `demo`), `config` and `upstream`. Imports `model` only.

mod certificates;
mod client;
mod pair;
mod server;
mod x509;

pub use certificates::{Certificates, Resolver};
pub use client::{RootsError, client, provider, roots};
pub use pair::{Pair, PairError, PairFile, PairWarning};
pub use server::{Acceptance, SetupError, web};
pub use x509::Malformed;
