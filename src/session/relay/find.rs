//! From a permit to the mailbox it is for: in the embedded store, or behind an upstream, where somebody is signed in by then.
//! Called by `login` and `pop`.

use crate::gate::{Denial, Seat};
use crate::model::{MailHome, Secret};
use crate::policy::{Permit, Rights};
use crate::sasl::Bearer;
use crate::session::{Ending, House, link::Link};
use crate::upstream::{Abilities, EMBEDDED, Ends, Entered, Entrant};

/// A mailbox that somebody has signed in to.
pub(in crate::session) enum Mailbox<T> {
    /// In the embedded store.
    Here(Permit),
    /// Behind an upstream, where somebody is signed in by now.
    Upstream(Box<There<T>>),
}

/// A mailbox behind an upstream.
pub(in crate::session) struct There<T> {
    pub(super) entered: Entered,
    pub(in crate::session) talk: T,
}

/// The token, where an upstream might be passed it on.
pub(in crate::session) fn token(house: &House, bearer: &Bearer) -> Option<Secret> {
    house.upstreams.names().next().is_some().then(|| bearer.token.clone())
}

/// Finds the mailbox that a permit is for: in the embedded store, or by signing in at the upstream that has it, for as long
/// as the session keeps the right to its seat. `talk` is given what the server there can do.
pub(in crate::session) async fn find<T>(
    link: &Link,
    seat: &Seat,
    permit: Permit,
    token: Option<Secret>,
    talk: impl FnOnce(&Abilities, Rights) -> T,
) -> Result<Result<Mailbox<T>, Box<Denial>>, Ending> {
    let house = &link.house;
    let (name, pin) = match permit.home() {
        MailHome::Maildir => (EMBEDDED, None),
        MailHome::Upstream { name, server } => (name.as_str(), server.as_deref()),
    };
    let (upstream, token) = match (house.upstreams.find(Some(name)), token) {
        (Ok(Some(upstream)), Some(token)) => (upstream, token),
        (Ok(_), _) => return Ok(Ok(Mailbox::Here(permit))),
        (Err(error), _) => return Ok(Err(Box::new(house.gate.refuse_entry(&link.visitor, &permit, &error)))),
    };
    let peer = link.visitor.peer;
    // A socket without an address of its own is one that is gone.
    let ours = link.wire.local_addr().unwrap_or(peer);
    let entrant = Entrant { token: &token, ends: Ends { peer, ours }, session: link.visitor.session };
    let entered = tokio::select! {
        biased;
        // The seat's end is in the audit log with its cause.
        denial = seat.fell_for() => return Ok(Err(Box::new(denial))),
        ending = link.called() => return Err(ending),
        entered = upstream.enter(&permit, &entrant, pin) => entered,
    };
    Ok(match entered {
        Ok(entered) => {
            let talk = talk(&entered.abilities, permit.rights());
            Ok(Mailbox::Upstream(Box::new(There { entered, talk })))
        }
        Err(error) => Err(Box::new(house.gate.refuse_entry(&link.visitor, &permit, &error))),
    })
}
