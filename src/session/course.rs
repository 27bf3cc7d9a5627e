//! The course of any session, whatever its protocol, once its greeting is sent: sign-in, stay, goodbye. Called by `run`.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{
    Ending,
    caught::{Caught, Panicked},
    link::Link,
};
use crate::gate::{SeatGuard, Spot};

/// How long a session that has to leave may go on to the end of the response it is writing.
const GRACE: Duration = Duration::from_millis(600);

/// What one protocol makes of it.
pub(super) trait Dialogue: Send {
    /// What a sign-in opens besides the seat.
    type Opened: Send;

    /// The connection.
    fn link(&mut self) -> &mut Link;

    /// Talks until somebody has signed in.
    fn come_in(&mut self) -> impl Future<Output = Result<(SeatGuard, Self::Opened), Ending>> + Send;

    /// Serves whoever has signed in, until something ends it.
    fn stay(&mut self, opened: Self::Opened) -> impl Future<Output = Ending> + Send;

    /// Writes the last line, if the protocol has one for this ending.
    fn say_goodbye(&mut self, ending: &Ending);
}

/// Runs one session to its end; by `deadline` somebody has to have signed in.
pub(super) async fn run(dialogue: &mut impl Dialogue, spot: Spot, deadline: Instant) {
    let ending = match arrive(dialogue, &spot, deadline).await {
        Ok((seat, opened)) => {
            spot.signed_in();
            dialogue.link().sit(seat.shared());
            let ending = remain(dialogue, opened).await;
            let wire = &mut dialogue.link().wire;
            if !ending.patience().is_zero() {
                wire.count_rest();
            }
            let (received, sent) = wire.traffic();
            seat.left(ending.word(), received, sent);
            ending
        }
        Err(ending) => ending,
    };
    ending.log(dialogue.link().visitor.session);
    // Inside a response that is half sent a last line would be taken for part of it.
    if dialogue.link().wire.at_boundary() {
        dialogue.say_goodbye(&ending);
    }
    dialogue.link().wire.close(ending.patience(), ending.linger()).await;
}

async fn arrive<D: Dialogue>(
    dialogue: &mut D,
    spot: &Spot,
    deadline: Instant,
) -> Result<(SeatGuard, D::Opened), Ending> {
    let overdue = dialogue.link().overdue(GRACE);
    tokio::select! {
        biased;
        () = spot.evicted() => Err(Ending::Evicted),
        arrival = Caught::new(timeout_at(deadline, dialogue.come_in())) => match arrival {
            Ok(Ok(arrival)) => arrival,
            Ok(Err(_)) => Err(Ending::Evicted),
            Err(Panicked) => Err(Ending::Panicked),
        },
        ending = overdue => Err(ending),
    }
}

/// A session that has to leave may finish the response it is writing, but not wait for a peer that does not take it.
async fn remain<D: Dialogue>(dialogue: &mut D, opened: D::Opened) -> Ending {
    let overdue = dialogue.link().overdue(GRACE);
    tokio::select! {
        biased;
        // Asked first: a session that works without waiting uses up the runtime's budget, and then none is told anything.
        ending = overdue => ending,
        ended = Caught::new(dialogue.stay(opened)) => ended.unwrap_or(Ending::Panicked),
    }
}
