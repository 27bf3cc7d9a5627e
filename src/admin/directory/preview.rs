//! What a change would come to, in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::{Control, problem::Problem};
use crate::gate::{self, Seat};
use crate::model::UserId;
use crate::policy::{LiveSeat, Preview, Side};

/// What a change would come to. Counts are exact, lists are cut, and name nobody whom the asker does not see.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewWords {
    /// Who would be let in no more.
    loses: SideWords,
    /// Who would be let in and is not today.
    gains: SideWords,
    /// Open sessions that would end, on every node.
    sessions: Falling,
    /// How many people would get a notice with `notify=true`.
    told: usize,
}

/// One side.
#[derive(Debug, Serialize, ToSchema)]
struct SideWords {
    /// How many people.
    users: usize,
    /// How many combinations of user, mailbox, app and service.
    pairs: usize,
    /// Of them by IMAP.
    imap: usize,
    /// Of them by POP3.
    pop: usize,
    /// By app, those with most people first; at most 100.
    apps: Vec<AppWords>,
    /// The first combinations; at most 100.
    first: Vec<PairWords>,
}

/// So many people use this app.
#[derive(Debug, Serialize, ToSchema)]
struct AppWords {
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    users: usize,
    /// `14 people use Apple iOS Mail`.
    sentence: String,
}

/// One combination.
#[derive(Debug, Serialize, ToSchema)]
struct PairWords {
    user: String,
    owner: String,
    app: String,
    service: String,
    /// The refusal: after the change, or today's for who gains.
    refusal: String,
}

/// Sessions that would end.
#[derive(Debug, Serialize, ToSchema)]
struct Falling {
    /// How many.
    count: usize,
    /// The first; at most 1,000.
    first: Vec<FallWords>,
    /// Whether every session was looked at: false where a node did not answer in time, or the other nodes have more than
    /// 20,000.
    complete: bool,
}

/// One session.
#[derive(Debug, Serialize, ToSchema)]
struct FallWords {
    /// Its name among those of all nodes.
    #[schema(example = "k3f9a2xw.s17")]
    id: String,
    user: String,
    owner: String,
    app: String,
    service: String,
    refusal: String,
}

/// The live sessions of all nodes, and their names.
pub(super) struct Live {
    pub(super) seats: Vec<LiveSeat>,
    names: Vec<String>,
    complete: bool,
}

impl Control {
    /// Asks the other nodes too, if there are any.
    pub(super) async fn live_sessions(&self) -> Result<Live, Problem> {
        let elsewhere = gate::sessions_elsewhere(&self.store).await?;
        let complete = elsewhere.next.is_none() && elsewhere.missing.is_empty();
        let here = self.gate.live().seats();
        let name = |seat: &Seat| self.gate.key_of(seat.session).to_string();
        let here = here.iter().map(|seat| (plain(seat), name(seat)));
        let there = elsewhere.sessions.iter().filter_map(|info| Some((info.seat()?, info.id.clone())));
        let (seats, names) = here.chain(there).unzip();
        Ok(Live { seats, names, complete })
    }
}

fn plain(seat: &Seat) -> LiveSeat {
    LiveSeat {
        user: seat.who.user().clone(),
        owner: seat.owner.clone(),
        app: seat.who.app().clone(),
        service: seat.service,
        issued_at: seat.who.issued_at(),
        service_account: seat.who.service_account(),
    }
}

/// What the actor may see of a preview: the counts are whole, of the people only those within reach are named.
pub(super) fn words(preview: &Preview, live: &Live, sees: &dyn Fn(&UserId) -> bool) -> PreviewWords {
    let falls = preview.falls.iter().filter_map(|fall| {
        let seat = live.seats.get(fall.seat).filter(|seat| sees(&seat.user))?;
        Some(FallWords {
            id: live.names.get(fall.seat)?.clone(),
            user: seat.user.to_string(),
            owner: seat.owner.to_string(),
            app: seat.app.to_string(),
            service: seat.service.word().to_owned(),
            refusal: fall.refusal.to_string(),
        })
    });
    PreviewWords {
        loses: side(&preview.loses, sees),
        gains: side(&preview.gains, sees),
        sessions: Falling { count: preview.fall_count, first: falls.collect(), complete: live.complete },
        told: preview.loses.user_count,
    }
}

fn side(side: &Side, sees: &dyn Fn(&UserId) -> bool) -> SideWords {
    let app = |count: &crate::policy::AppCount| {
        let name = count.name.clone().unwrap_or_else(|| count.app.to_string());
        let sentence = match count.user_count {
            1 => format!("1 person uses {name}"),
            many => format!("{many} people use {name}"),
        };
        AppWords { app: count.app.to_string(), name: count.name.clone(), users: count.user_count, sentence }
    };
    let pair = |pair: &crate::policy::Pair| PairWords {
        user: pair.user.to_string(),
        owner: pair.owner.to_string(),
        app: pair.app.to_string(),
        service: pair.service.word().to_owned(),
        refusal: pair.refusal.to_string(),
    };
    SideWords {
        users: side.user_count,
        pairs: side.pair_count,
        imap: side.imap_count,
        pop: side.pop_count,
        apps: side.apps.iter().map(app).collect(),
        first: side.pairs.iter().filter(|pair| sees(&pair.user)).map(pair).collect(),
    }
}
