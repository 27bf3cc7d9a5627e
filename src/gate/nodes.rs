//! This node among those that share the database: it tells that it is alive, ends the sessions it is asked to end, and
//! lists its own for whoever asks. `serve` runs [`attend`] beside `watch`; `admin` asks.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Cause, Gate, SessionFilter, SessionInfo, SessionKey, now};
use crate::model::{SessionId, UnixTime};
use crate::store::{AuditEvent, Node, NodeId, Request, RequestKind, Store, StoreError};

/// How often this node tells that it is alive.
const BEAT: Duration = Duration::from_secs(3);
/// How long the database may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often other nodes' requests are looked for.
const POLL: Duration = Duration::from_millis(500);
/// A request to end sessions that is older than this is not carried out any more: those it meant have had their time.
const STALE: Duration = Duration::from_secs(15 * 60);
/// How long other nodes have for their answers.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Sessions asked for at once, and how often, by a preview.
const PAGE: u32 = 1_000;
const PAGES: usize = 20;
/// How often it is looked for answers.
const LOOK: Duration = Duration::from_millis(50);

/// Live sessions of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of nodes and numbers.
    pub sessions: Vec<SessionInfo>,
    /// Where the list goes on, if there are more.
    pub next: Option<SessionKey>,
    /// Nodes that are alive and did not answer in time: their sessions are not in the list.
    pub missing: Vec<Node>,
}

/// Why no sessions are ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// Nothing says which.
    #[error(
        "this would end every session of everybody: name a session, user, mailbox, app, service, unit or address"
    )]
    Everyone,
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs until `stop`, then takes this node off the roll. `name` is what the operator calls it.
pub async fn attend(gate: Arc<Gate>, name: String, stop: CancellationToken) {
    let started = now();
    let mut next_beat = Instant::now();
    let mut reachable = true;
    loop {
        let mut outcome = Ok(());
        if next_beat <= Instant::now() {
            outcome = patiently(gate.store.beat(&name, started, gate.live.len(), now())).await;
            next_beat = Instant::now() + BEAT;
        }
        if outcome.is_ok() {
            outcome = patiently(gate.carry_out_all(&name)).await;
        }
        match &outcome {
            Err(error) if reachable => warn!(%error, "the other nodes are out of reach"),
            _ => {}
        }
        reachable = outcome.is_ok();
        tokio::select! {
            () = stop.cancelled() => break,
            () = gate.store.asked() => {}
            () = sleep(POLL) => {}
        }
    }
    if let Err(error) = patiently(gate.store.leave()).await {
        debug!(%error, "this node stays on the roll until the others miss it");
    }
}

/// A database that vanished from the network says nothing at all: then the wait ends here.
async fn patiently(work: impl Future<Output = Result<(), StoreError>>) -> Result<(), Silence> {
    match timeout(ANSWER, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Silence::Nothing),
    }
}

/// Why the other nodes are not heard.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database did not answer within {} s", ANSWER.as_secs())]
    Nothing,
}

/// The nodes, the sessions of all but this one that match, and the nodes that did not answer.
async fn elsewhere(
    store: &Store,
    filter: &SessionFilter,
) -> Result<(Vec<Node>, Vec<SessionInfo>, Vec<Node>), StoreError> {
    store.look_for_nodes(now()).await?;
    let nodes = store.nodes();
    let beyond = |node: &Node| filter.after.as_ref().is_none_or(|after| node.id >= after.node);
    let asked = |node: &&Node| node.alive && !node.this && beyond(node) && filter.concerns(&node.id);
    let mut missing: Vec<Node> = nodes.iter().filter(asked).cloned().collect();
    let mut found = Vec::new();
    if !missing.is_empty() {
        let number = store.ask_for_list(&filter.to_json(), now()).await?;
        let answered = gather(store, number, &mut missing, &mut found).await;
        // Whatever came of it, nobody reads the answers any more.
        let cleared = store.asked_enough(number).await;
        answered.and(cleared)?;
    }
    Ok((nodes, found, missing))
}

async fn gather(
    store: &Store,
    number: i64,
    missing: &mut Vec<Node>,
    found: &mut Vec<SessionInfo>,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        sleep(LOOK).await;
        let answered = store.answered(number).await?;
        if missing.iter().all(|node| answered.contains(&node.id)) {
            break;
        }
    }
    for answer in store.answers(number).await? {
        let sessions: Result<Vec<SessionInfo>, _> = serde_json::from_str(&answer.body);
        match sessions {
            Ok(sessions) => {
                found.extend(sessions);
                missing.retain(|node| node.id != answer.node);
            }
            // A newer version's: its node stays among the missing.
            Err(error) => warn!(node = %answer.node, %error, "a node's list of sessions is not understood"),
        }
    }
    Ok(())
}

/// The live sessions of all nodes but the one that `store` belongs to, if it is one: for previews, and for commands that work
/// on the database. At most 20,000; `next` tells that there are more.
pub async fn sessions_elsewhere(store: &Store) -> Result<Listing, StoreError> {
    let mut filter = SessionFilter { limit: PAGE, ..SessionFilter::default() };
    let mut all = Listing::default();
    for _ in 0..PAGES {
        let (_, found, missing) = elsewhere(store, &filter).await?;
        let page = Gate::listing(&filter, found, missing);
        all.sessions.extend(page.sessions);
        for node in page.missing {
            if !all.missing.iter().any(|known| known.id == node.id) {
                all.missing.push(node);
            }
        }
        all.next.clone_from(&page.next);
        if page.next.is_none() {
            break;
        }
        filter.after = page.next;
    }
    Ok(all)
}

impl Gate {
    async fn carry_out_all(&self, name: &str) -> Result<(), StoreError> {
        let (ends, lists): (Vec<Request>, Vec<Request>) =
            self.store.requests().await?.into_iter().partition(|request| request.kind == RequestKind::End);
        // First, and without a wait in between: each is handed out once.
        ends.iter().for_each(|request| self.carry_out(request));
        let node = self.store.node();
        for request in lists.iter().filter(|request| request.by != node.as_str()) {
            let Some(filter) = SessionFilter::from_json(&request.body) else { continue };
            if filter.concerns(node) {
                let body = serde_json::to_string(&self.sessions_here(&filter, name)).unwrap_or_default();
                self.store.answer(request.number, &body).await?;
            }
        }
        Ok(())
    }

    /// Ends the sessions that a request means: those that were in when it was made. A session that began well after it,
    /// on a node that hears of it late, is another one.
    fn carry_out(&self, request: &Request) {
        let at = now();
        if request.at + STALE < at {
            return warn!(number = request.number, asked = %request.at, "a request to end sessions comes too late");
        }
        let Some(filter) = SessionFilter::from_json(&request.body) else {
            return warn!(number = request.number, "a request to end sessions is not understood");
        };
        let latest = request.at + self.limits.clock_skew;
        let mut ended = 0usize;
        for seat in self.matching(&filter) {
            if seat.since <= latest {
                let own = request.by == seat.who.user().as_str();
                let cause = Cause::EndedByAdmin { by: request.by.clone(), own };
                ended += usize::from(self.end_since(&seat, cause, request.at.min(at)));
            }
        }
        info!(number = request.number, by = %request.by, ended, "sessions ended by request");
    }

    /// Ends the sessions that match, on every node, with an audit row that names `by`. Returns once the request is
    /// committed, with its number; the sessions are told within a second. A new session may begin at once, if policy
    /// allows: to keep somebody out, change what lets them in.
    pub async fn end_sessions(&self, filter: &SessionFilter, by: &str, now: UnixTime) -> Result<i64, EndError> {
        if filter.is_everyone() {
            return Err(EndError::Everyone);
        }
        let mut event = AuditEvent::new(now, "sessions.ended", "done");
        event.user = filter.user.as_ref().map(ToString::to_string);
        event.owner = filter.owner.as_ref().map(ToString::to_string);
        event.app = filter.app.as_ref().map(ToString::to_string);
        event.unit = filter.unit.as_ref().map(ToString::to_string);
        event.service = filter.service;
        event.detail = Some(format!("by {by}: {}", filter.words()));
        Ok(self.store.ask_to_end(&filter.to_json(), by, event, now).await?)
    }

    /// The live sessions that match, of all nodes, those of a node that is alive but does not answer left out and named.
    ///
    /// Without other nodes nothing is written or waited for; with them it takes up to half a second.
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Listing, StoreError> {
        let (nodes, mut found, missing) = elsewhere(&self.store, filter).await?;
        let name = nodes.iter().find(|node| node.this).map_or("", |node| node.name.as_str());
        found.extend(self.sessions_here(filter, name));
        Ok(Self::listing(filter, found, missing))
    }

    /// In their order, one page of them.
    fn listing(filter: &SessionFilter, found: Vec<SessionInfo>, missing: Vec<Node>) -> Listing {
        let mut keyed: Vec<(SessionKey, SessionInfo)> =
            found.into_iter().filter_map(|info| Some((SessionKey::parse(&info.id)?, info))).collect();
        keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
        let more = keyed.len() > filter.most();
        keyed.truncate(filter.most());
        let next = if more { keyed.last().map(|(key, _)| key.clone()) } else { None };
        Listing { sessions: keyed.into_iter().map(|(_, info)| info).collect(), next, missing }
    }

    /// One live session of any node; none if it is not there, or not any more.
    pub async fn session(&self, key: &SessionKey) -> Result<Option<SessionInfo>, StoreError> {
        let filter = SessionFilter { key: Some(key.clone()), limit: 1, ..SessionFilter::default() };
        Ok(self.sessions(&filter).await?.sessions.pop())
    }

    /// The name of a session of this node among those of all.
    pub fn key_of(&self, session: SessionId) -> SessionKey {
        SessionKey { node: NodeId::clone(self.store.node()), session }
    }
}
