//! Other mail servers, as their client. `Upstreams` are those that the gateway stands in front of: which server a mailbox
//! owner is sent to, the connection there, and how the servers do. `Source` is one that mail is taken over from
//! (`portcullis mailbox import imap`). Called by `serve`, `session`, `config` and `cli`; imports `model`, `metrics`, `tls`,
//! `sasl` and `imap`. No server is trusted: what it says is bounded, and who it is is checked.

mod answer;
mod breaker;
mod choice;
mod connect;
mod entry;
mod error;
mod health;
mod homes;
mod proxy_header;
mod servers;
mod settings;
mod source;
mod stream;
mod upstreams;

#[cfg(test)]
mod tests;

pub use entry::{Abilities, Entered, Entrant};
pub use error::UpstreamError;
pub use homes::{Homes, NoSuchHome};
pub use proxy_header::{Ends, proxy_header};
pub use servers::{Connected, Lease, Server, Standing};
pub use settings::{Address, ClientAddress, Form, LoginBy, Settings, Trust};
pub use source::{Fetched, Piece, RemoteFolder, Selected, Source, SourceError, SourceLogin, SourceServer};
pub use stream::Stream;
pub use upstreams::{EMBEDDED, Upstream, Upstreams};
