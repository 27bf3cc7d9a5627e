//! The words every room shares: names, ids, times, places. Values only; imports no other room.

mod change;
mod home;
mod id;
mod name;
mod place;
mod secret;
mod time;
mod upstream;

pub use change::{Change, ChangeKind};
pub use home::MailHome;
pub use id::{GrantId, Reference, SessionId};
pub use name::{BadName, ClientId, GroupId, UnitPath, UpstreamName, UserId};
pub use place::{Place, Service};
pub use secret::Secret;
pub use time::UnixTime;
pub use upstream::{Offer, UpstreamNo};

/// Who has to mend an error: picks the reply code and the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Whoever connected sent something wrong.
    Peer,
    /// Something we depend on (issuer, database, disk) failed or is out of reach.
    Dependency,
    /// A fault of Portcullis itself.
    Us,
}
