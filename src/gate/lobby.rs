//! Connections that have not signed in: how many there may be, in all and from one address. When the lobby is full
//! the one that has waited longest goes, so that a flood cannot keep others out. Entered by `serve` at accept, left
//! by `session` at sign-in.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::slow::network;

/// The bounds of a [`Lobby`].
#[derive(Clone, Copy, Debug)]
pub struct LobbyLimits {
    /// Open connections in all, signed in or not.
    pub connections: usize,
    /// Of them not signed in.
    pub waiting: usize,
    /// Open connections from one address (one IPv6 network of 64 bits).
    pub per_address: usize,
}

/// Why a connection is not let into the lobby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LobbyFull {
    /// Its address has too many already.
    Address,
    /// The process has too many already.
    Process,
}

/// Longer than an honest program needs to sign in: whoever waits longer goes first when room is tight.
const SLOW: Duration = Duration::from_secs(2);

/// One connection that has not signed in.
struct Waiting {
    since: Instant,
    evicted: CancellationToken,
}

/// Counts every open connection.
pub struct Lobby {
    limits: LobbyLimits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: usize,
    waiting: BTreeMap<u64, Waiting>,
    addresses: HashMap<IpAddr, usize>,
    turned_away: TurnedAway,
}

/// Connections that were refused, or sent away before a sign-in, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Refused: their address had too many.
    pub address: u64,
    /// Refused: the process had too many.
    pub process: u64,
    /// Sent away to make room for others.
    pub evicted: u64,
}

impl State {
    fn oldest_is_slow(&self) -> bool {
        self.waiting.first_key_value().is_some_and(|(_, oldest)| oldest.since.elapsed() > SLOW)
    }
}

impl Lobby {
    /// An empty lobby.
    pub fn new(limits: LobbyLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// A connection from `address`; `counted` is false for networks that are trusted to send many.
    pub fn enter(self: &Arc<Self>, address: IpAddr, counted: bool) -> Result<Spot, LobbyFull> {
        let mut state = self.state();
        if state.open >= self.limits.connections {
            state.turned_away.process += 1;
            return Err(LobbyFull::Process);
        }
        let address = counted.then(|| network(address));
        if let Some(address) = address {
            let count = state.addresses.entry(address).or_insert(0);
            if *count >= self.limits.per_address {
                state.turned_away.address += 1;
                return Err(LobbyFull::Address);
            }
            *count += 1;
        }
        let full = state.waiting.len() >= self.limits.waiting;
        if (full || (self.is_tight(state.open) && state.oldest_is_slow()))
            && let Some((_, oldest)) = state.waiting.pop_first()
        {
            oldest.evicted.cancel();
            state.turned_away.evicted += 1;
        }
        state.open += 1;
        let number = state.next;
        state.next += 1;
        let evicted = CancellationToken::new();
        state.waiting.insert(number, Waiting { since: Instant::now(), evicted: evicted.clone() });
        Ok(Spot { lobby: Arc::clone(self), number, address, evicted })
    }

    /// Whether the last sixteenth of all connections has begun: from here on strangers make room for one another, so that
    /// those who are signed in and those who wait cannot fill the process together.
    fn is_tight(&self, open: usize) -> bool {
        open >= self.limits.connections - self.limits.connections / 16
    }

    /// Connections open, and of them not signed in.
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.open, state.waiting.len())
    }

    /// Connections turned away since the start.
    pub fn turned_away(&self) -> TurnedAway {
        self.state().turned_away
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place; dropping it frees the spot.
pub struct Spot {
    lobby: Arc<Lobby>,
    number: u64,
    address: Option<IpAddr>,
    evicted: CancellationToken,
}

impl Spot {
    /// The connection has signed in: it no longer counts among those that wait.
    pub fn signed_in(&self) {
        self.lobby.state().waiting.remove(&self.number);
    }

    /// Waits until this spot is needed for somebody else; never after [`Spot::signed_in`]. Cancel-safe.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        let mut state = self.lobby.state();
        state.open = state.open.saturating_sub(1);
        state.waiting.remove(&self.number);
        if let Some(address) = self.address
            && let Some(count) = state.addresses.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lobby(connections: usize, waiting: usize, per_address: usize) -> Arc<Lobby> {
        Lobby::new(LobbyLimits { connections, waiting, per_address })
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_full_lobby_sends_away_the_one_that_waited_longest() {
        let lobby = lobby(10, 2, 10);
        let spots: Vec<Spot> = (0..3).map(|n| lobby.enter(address(n), true).unwrap()).collect();
        let gone: Vec<bool> = spots.iter().map(|place| place.evicted.is_cancelled()).collect();
        assert_eq!(gone, [true, false, false]);
        assert_eq!(lobby.turned_away(), TurnedAway { evicted: 1, ..TurnedAway::default() });
        assert_eq!(lobby.count(), (3, 2));
    }

    #[test]
    fn near_the_bound_in_all_a_slow_stranger_makes_room_and_aquick_one_does_not() {
        let lobby = lobby(16, 16, 100);
        let places: Vec<Spot> = (0..15).map(|n| lobby.enter(address(n), true).unwrap()).collect();
        let quick = lobby.enter(address(15), true).unwrap();
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()), "nobody has waited long");
        drop(quick);
        if let Some(mut oldest) = lobby.state().waiting.first_entry() {
            oldest.get_mut().since -= SLOW * 2;
        }
        let _next = lobby.enter(address(16), true).unwrap();
        let gone = places.iter().filter(|place| place.evicted.is_cancelled()).count();
        assert_eq!(gone, 1, "the one that waited longest");
    }

    #[test]
    fn who_has_signed_in_is_never_sent_away() {
        let lobby = lobby(10, 1, 10);
        let first = lobby.enter(address(1), true).unwrap();
        first.signed_in();
        let _second = lobby.enter(address(2), true).unwrap();
        assert!(!first.evicted.is_cancelled());
    }

    #[test]
    fn an_address_gets_its_share_and_no_more_and_gets_it_back() {
        let lobby = lobby(10, 10, 2);
        let _one = lobby.enter(address(1), true).unwrap();
        let two = lobby.enter(address(1), true).unwrap();
        assert_eq!(lobby.enter(address(1), true).err(), Some(LobbyFull::Address));
        assert!(lobby.enter(address(1), false).is_ok(), "a trusted network is not counted");
        assert!(lobby.enter(address(2), true).is_ok());
        drop(two);
        assert!(lobby.enter(address(1), true).is_ok());
        assert_eq!(lobby.turned_away(), TurnedAway { address: 1, ..TurnedAway::default() });
    }

    #[test]
    fn the_process_has_a_bound_in_all_and_forgets_addresses_that_left() {
        let lobby = lobby(2, 10, 10);
        let one = lobby.enter(address(1), true).unwrap();
        let two = lobby.enter(address(2), true).unwrap();
        assert_eq!(lobby.enter(address(3), true).err(), Some(LobbyFull::Process));
        drop((one, two));
        assert_eq!(lobby.count(), (0, 0));
        assert!(lobby.state().addresses.is_empty());
    }
}
