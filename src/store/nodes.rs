//! The nodes that share one database: who is alive, and what they ask of one another about live sessions. Called by
//! `gate`, which joins, beats and answers; the registry of sessions itself is the gate's, so bodies are its JSON.
//!
//! "End these sessions" is a change in the feed: every node hears of it as of any change, and carries it out once.
//! "Which sessions are there" is no change: its row is found by the poll, answered, and removed by whoever asked. A
//! cluster in which nothing happens writes one small row for each node every three seconds, and nothing else.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Row;
use tokio::sync::Notify;

use super::{AuditEvent, Store, StoreError, audit, feed::Write};
use crate::model::UnixTime;

/// A node that has not been heard of for this long counts as dead.
const DEAD: Duration = Duration::from_secs(10);
/// The row of a dead node is removed after this long.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Requests and answers that nobody removed are cleared away after this long.
pub(super) const KEPT: Duration = Duration::from_secs(3600);
/// Requests read at a time.
const BATCH: i64 = 100;
/// Nodes that are looked at.
const NODES: i64 = 10_000;

/// Names one running process among those that share a database: eight digits and small letters, made at its start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Reads what [`NodeId::as_str`] gives: 1 to 32 digits and small letters.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        good.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fresh() -> Self {
        let mut bytes = [0u8; 8];
        // Without randomness two nodes could have one name: then they see each other's sessions as their own, no more.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        let digits = b"0123456789abcdefghjkmnpqrstvwxyz";
        let text =
            bytes.iter().map(|byte| digits.get(usize::from(byte & 31)).map_or('0', |digit| char::from(*digit)));
        Self(text.collect::<String>().into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One process that shares the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// What its operator calls it: the host's name.
    pub name: String,
    /// When it started, by its own clock.
    pub started: UnixTime,
    /// When it was last heard of, by its own clock.
    pub last_seen: UnixTime,
    /// Its live sessions when it was last heard of.
    pub sessions: u64,
    /// Whether it was heard of in the last ten seconds.
    pub alive: bool,
    /// Whether it is the one that answers.
    pub this: bool,
}

/// What is asked about sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// End those that match.
    End,
    /// List those that match.
    List,
}

impl RequestKind {
    fn word(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::List => "list",
        }
    }
}

/// Something every node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Grows with each request.
    pub number: i64,
    /// What is asked.
    pub kind: RequestKind,
    /// Which sessions: the gate's own text.
    pub body: String,
    /// Who asked: a person for [`RequestKind::End`], a node for [`RequestKind::List`].
    pub by: String,
    /// When, by the asker's clock.
    pub at: UnixTime,
}

/// What one node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which node.
    pub node: NodeId,
    /// Its sessions: the gate's own text.
    pub body: String,
}

/// What this process knows of the nodes.
#[derive(Debug)]
pub(super) struct Roll {
    id: NodeId,
    /// The last request that was handed to the gate; negative before this node joined.
    heard: AtomicI64,
    /// There is a request to end sessions.
    pub(super) asked: Notify,
    others: Mutex<HashMap<NodeId, Heard>>,
}

/// A node as last read. Whether it is alive shows in its count going on, not in its clock.
#[derive(Debug)]
struct Heard {
    node: Node,
    beat: i64,
    at: Instant,
}

impl Roll {
    pub(super) fn new() -> Self {
        Self { id: NodeId::fresh(), heard: AtomicI64::new(-1), asked: Notify::new(), others: Mutex::default() }
    }

    fn others(&self) -> MutexGuard<'_, HashMap<NodeId, Heard>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// This process among those that share the database.
    pub fn node(&self) -> &NodeId {
        &self.roll.id
    }

    /// Puts this process on the roll, or tells that it is still there; `sessions` are in now. Reads who else is.
    ///
    /// From the first call on [`Store::requests`] gives what is asked after it: sessions that do not exist yet cannot be
    /// meant by anything older.
    pub async fn beat(
        &self,
        name: &str,
        started: UnixTime,
        sessions: usize,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let done = self.write_beat(name, started, sessions, now).await;
        done.map_err(|source| StoreError::sql("noting that this node is alive", &self.path, source))?;
        self.look_for_nodes(now).await
    }

    async fn write_beat(
        &self,
        name: &str,
        started: UnixTime,
        sessions: usize,
        now: UnixTime,
    ) -> Result<(), sqlx::Error> {
        if self.roll.heard.load(Ordering::Relaxed) < 0 {
            let query = sqlx::query("SELECT number FROM counters WHERE name = 'session_request'");
            let last: i64 = query.fetch_one(&self.pool).await?.try_get(0)?;
            self.roll.heard.store(last, Ordering::Relaxed);
        }
        let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        let _turn = self.turn_to_log().await;
        let query = sqlx::query(
            "INSERT INTO nodes (id, name, started, beat, at, sessions) VALUES ($1, $2, $3, 1, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET beat = nodes.beat + 1, at = excluded.at, sessions = excluded.sessions",
        );
        query
            .bind(self.roll.id.as_str())
            .bind(name)
            .bind(started.0)
            .bind(now.0)
            .bind(i64::try_from(sessions).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// Reads the roll again.
    pub async fn look_for_nodes(&self, now: UnixTime) -> Result<(), StoreError> {
        let failed = |source| StoreError::sql("reading which nodes there are", &self.path, source);
        let query =
            sqlx::query("SELECT id, name, started, beat, at, sessions FROM nodes ORDER BY at DESC LIMIT $1");
        let rows = query.bind(NODES).fetch_all(&self.pool).await.map_err(failed)?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: String = row.try_get(0).map_err(failed)?;
            let Some(id) = NodeId::parse(&id) else { continue };
            let node = Node {
                this: id == self.roll.id,
                id,
                name: row.try_get(1).map_err(failed)?,
                started: UnixTime(row.try_get(2).map_err(failed)?),
                last_seen: UnixTime(row.try_get(4).map_err(failed)?),
                sessions: u64::try_from(row.try_get::<i64, _>(5).map_err(failed)?).unwrap_or(0),
                alive: true,
            };
            read.push((node, row.try_get::<i64, _>(3).map_err(failed)?));
        }
        let gone = self.note_nodes(read, now);
        for id in gone {
            let query = sqlx::query("DELETE FROM nodes WHERE id = $1").bind(id.as_str());
            query.execute(&self.pool).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes in what was read; gives those that have been dead for long.
    fn note_nodes(&self, read: Vec<(Node, i64)>, now: UnixTime) -> Vec<NodeId> {
        let mut others = self.roll.others();
        others.retain(|id, _| read.iter().any(|(node, _)| node.id == *id));
        for (node, beat) in read {
            let moment = Instant::now();
            match others.get_mut(&node.id) {
                Some(heard) if heard.beat == beat => {}
                Some(heard) => *heard = Heard { node, beat, at: moment },
                None => {
                    // Never heard before, so only its own clock tells when it last was; the next beat corrects that.
                    let silent = node.last_seen.until(now);
                    let at = moment.checked_sub(silent).unwrap_or(moment);
                    others.insert(node.id.clone(), Heard { node, beat, at });
                }
            }
        }
        others.values().filter(|heard| heard.at.elapsed() > FORGOTTEN).map(|heard| heard.node.id.clone()).collect()
    }

    /// The nodes as last read, this one included once it has joined, by name.
    pub fn nodes(&self) -> Vec<Node> {
        let others = self.roll.others();
        let alive = |heard: &Heard| heard.node.this || heard.at.elapsed() < DEAD;
        let mut nodes: Vec<Node> =
            others.values().map(|heard| Node { alive: alive(heard), ..heard.node.clone() }).collect();
        nodes.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        nodes
    }

    /// Takes this process off the roll: at its end.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM nodes WHERE id = $1").bind(self.roll.id.as_str());
        let _turn = self.turn_to_log().await;
        let done = query.execute(&self.pool).await;
        done.map(drop).map_err(|source| StoreError::sql("taking this node off the roll", &self.path, source))
    }

    /// Asks every node to end sessions, with an audit row, as one change; returns the request's number. `body` says
    /// which, in the gate's own text.
    pub async fn ask_to_end(
        &self,
        body: &str,
        by: &str,
        event: AuditEvent,
        now: UnixTime,
    ) -> Result<i64, StoreError> {
        let mut write = Write::begin(self, "asking for the end of sessions").await?;
        let number = put(&mut write.tx, RequestKind::End, body, by, now).await;
        let number = number.map_err(|error| write.failed(error))?;
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.touched.sessions.insert(number);
        write.commit(now).await?;
        Ok(number)
    }

    /// Asks every other node for its sessions; returns the request's number. [`Store::answers`] has what comes, and
    /// [`Store::asked_enough`] clears it away.
    pub async fn ask_for_list(&self, body: &str, now: UnixTime) -> Result<i64, StoreError> {
        let failed = |source| StoreError::sql("asking the other nodes", &self.path, source);
        let _turn = self.turn_to_log().await;
        let mut tx = self.begin_quietly().await.map_err(failed)?;
        let number = put(&mut tx, RequestKind::List, body, self.roll.id.as_str(), now).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(number)
    }

    /// What was asked since the last call, oldest first, at most 100; each request once. Nothing before the first
    /// [`Store::beat`]. One look at the end of a table when there is nothing.
    pub async fn requests(&self) -> Result<Vec<Request>, StoreError> {
        let heard = self.roll.heard.load(Ordering::Relaxed);
        if heard < 0 {
            return Ok(Vec::new());
        }
        let failed = |source| StoreError::sql("reading what other nodes ask", &self.path, source);
        let query = sqlx::query(
            "SELECT number, kind, body, asked_by, at FROM session_requests WHERE number > $1 ORDER BY number LIMIT $2",
        );
        let rows = query.bind(heard).bind(BATCH).fetch_all(&self.pool).await.map_err(failed)?;
        let mut requests = Vec::with_capacity(rows.len());
        let mut last = heard;
        for row in &rows {
            last = row.try_get(0).map_err(failed)?;
            let kind = match row.try_get::<&str, _>(1).map_err(failed)? {
                "end" => RequestKind::End,
                "list" => RequestKind::List,
                // A newer version's, and not for us.
                _ => continue,
            };
            requests.push(Request {
                number: last,
                kind,
                body: row.try_get(2).map_err(failed)?,
                by: row.try_get(3).map_err(failed)?,
                at: UnixTime(row.try_get(4).map_err(failed)?),
            });
        }
        self.roll.heard.store(last, Ordering::Relaxed);
        Ok(requests)
    }

    /// Waits until there is a request to end sessions. Others are only found by looking. Cancel-safe.
    pub async fn asked(&self) {
        self.roll.asked.notified().await;
    }

    /// Answers a request for a list, unless whoever asked has given up.
    pub async fn answer(&self, request: i64, body: &str) -> Result<(), StoreError> {
        let query = sqlx::query(
            "INSERT INTO session_answers (request, node, body) SELECT number, $2, $3 FROM session_requests \
             WHERE number = $1 ON CONFLICT (request, node) DO NOTHING",
        );
        let _turn = self.turn_to_log().await;
        let done = query.bind(request).bind(self.roll.id.as_str()).bind(body).execute(&self.pool).await;
        done.map(drop).map_err(|source| StoreError::sql("answering another node", &self.path, source))
    }

    /// The answers to a request so far.
    pub async fn answers(&self, request: i64) -> Result<Vec<Answer>, StoreError> {
        let failed = |source| StoreError::sql("reading what other nodes answer", &self.path, source);
        let query = sqlx::query("SELECT node, body FROM session_answers WHERE request = $1").bind(request);
        let rows = query.fetch_all(&self.pool).await.map_err(failed)?;
        let mut answers = Vec::with_capacity(rows.len());
        for row in &rows {
            let node: String = row.try_get(0).map_err(failed)?;
            let Some(node) = NodeId::parse(&node) else { continue };
            answers.push(Answer { node, body: row.try_get(1).map_err(failed)? });
        }
        Ok(answers)
    }

    /// Which nodes have answered a request so far: what is looked at again and again, without the answers themselves.
    pub async fn answered(&self, request: i64) -> Result<Vec<NodeId>, StoreError> {
        let failed = |source| StoreError::sql("reading which nodes answered", &self.path, source);
        let query = sqlx::query("SELECT node FROM session_answers WHERE request = $1").bind(request);
        let rows = query.fetch_all(&self.pool).await.map_err(failed)?;
        let ids = rows.iter().map(|row| row.try_get::<String, _>(0));
        let ids: Result<Vec<String>, sqlx::Error> = ids.collect();
        Ok(ids.map_err(failed)?.iter().filter_map(|id| NodeId::parse(id)).collect())
    }

    /// Clears away a request for a list and its answers.
    pub async fn asked_enough(&self, request: i64) -> Result<(), StoreError> {
        let _turn = self.turn_to_log().await;
        for sql in
            ["DELETE FROM session_requests WHERE number = $1", "DELETE FROM session_answers WHERE request = $1"]
        {
            let done = sqlx::query(sql).bind(request).execute(&self.pool).await;
            done.map_err(|source| StoreError::sql("clearing away answers", &self.path, source))?;
        }
        Ok(())
    }
}

async fn put(
    tx: &mut sqlx::AnyConnection,
    kind: RequestKind,
    body: &str,
    by: &str,
    now: UnixTime,
) -> Result<i64, sqlx::Error> {
    // The counter's row is held until the commit, so that a lower number is never committed after a higher one.
    let query =
        sqlx::query("UPDATE counters SET number = number + 1 WHERE name = 'session_request' RETURNING number");
    let number: i64 = query.fetch_one(&mut *tx).await?.try_get(0)?;
    let query =
        sqlx::query("INSERT INTO session_requests (number, kind, body, asked_by, at) VALUES ($1, $2, $3, $4, $5)");
    query.bind(number).bind(kind.word()).bind(body).bind(by).bind(now.0).execute(&mut *tx).await?;
    Ok(number)
}
