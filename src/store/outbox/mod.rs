//! The outbox: what people are to be told of changes. A notice is written in the transaction of the change that causes it,
//! with one delivery for each channel of the config; `notify` takes the deliveries, sends them and notes what came of it.
//! Called by `grants` and `edit` (what is lost), `admin` and `cli` (lists), `notify` (deliveries).
//!
//! A delivery is taken by one node at a time, for as long as its lease lasts. Whoever crashes while sending leaves the lease
//! to run out; then it is sent again under the same id, because nobody can know whether it was sent.

mod clear;
mod list;
mod losses;
mod recipients;
mod send;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

pub use list::{NoticeFilter, Retried};
pub(super) use losses::Telling;
pub(super) use recipients::{Cut, cut_drafts};
pub use send::{Attempt, Lease, Taken};

use super::{AuditEvent, Store, StoreError, audit, feed::Write, rows::Failed};
use crate::model::{UnixTime, UserId};

/// Most notices that one change causes.
pub const MOST_NOTICES: usize = 100_000;
/// Most losses that one notice names; their number is exact all the same.
const MOST_LOST: usize = 20;
/// Longest text from outside in a notice, in characters.
const MOST_CHARS: usize = 300;
/// Notices written in one statement.
const ROWS: usize = 200;

/// A notice's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId(pub i64);

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Apps of the recipient lose access, or have lost it.
    AccessChange,
    /// An app was cut off from a shared mailbox.
    TeamGrantCut,
}

impl NoticeKind {
    /// `access_change` or `team_grant_cut`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AccessChange => "access_change",
            Self::TeamGrantCut => "team_grant_cut",
        }
    }

    /// Reads the word that [`NoticeKind::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::AccessChange, Self::TeamGrantCut].into_iter().find(|kind| kind.word() == word)
    }
}

/// How far a notice, or one delivery of it, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeState {
    /// For the console and the API alone: no channel was configured when it was written.
    Console,
    /// Waits for its turn, or for another try.
    Queued,
    /// A node is sending it.
    Sending,
    /// It was taken by every channel.
    Sent,
    /// A channel did not take it, and it is tried no more.
    Failed,
}

impl NoticeState {
    const ALL: [Self; 5] = [Self::Console, Self::Queued, Self::Sending, Self::Sent, Self::Failed];

    /// `console`, `queued`, `sending`, `sent`, `failed`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }

    /// Reads the word that [`NoticeState::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// What was done that a notice tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// The policy was changed.
    Changed,
    /// The policy is going to be changed.
    Planned,
    /// A grant was disabled.
    Disabled,
    /// A grant was removed.
    Removed,
}

impl Deed {
    /// `changed`, `planned`, `disabled`, `removed`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Planned => "planned",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

/// One app that may no longer read a mailbox. Names come from outside: whoever prints them looks after their characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who had let the app in.
    pub user: String,
    /// Whose mailbox: the user's own, or a shared one.
    pub mailbox: String,
    /// The app's client ID.
    pub app: String,
    /// What the app is called, where somebody has given it a name.
    pub app_name: Option<String>,
    /// `imap`, `pop`; empty: whatever it used.
    #[serde(default)]
    pub services: Vec<String>,
    /// The refusal that it meets from then on; of two services both.
    pub why: Option<String>,
}

/// What a notice says, in values; the text is made by whoever tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeBody {
    /// What was done.
    pub deed: Deed,
    /// The recipient's unit.
    pub unit: Option<String>,
    /// From when on, in milliseconds since 1970; none where that is not known yet.
    pub from_ms: Option<i64>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// The first losses; at most 20.
    pub lost: Vec<Lost>,
    /// How many there are.
    pub lost_count: usize,
}

/// Something a person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number.
    pub id: NoticeId,
    /// What it is about.
    pub kind: NoticeKind,
    /// Who is told.
    pub recipient: UserId,
    /// How far it has come.
    pub state: NoticeState,
    /// What it says.
    pub body: NoticeBody,
    /// Who did what it tells of.
    pub by: String,
    /// When it was written.
    pub at: UnixTime,
    /// When its recipient read it in the console.
    pub read_at: Option<UnixTime>,
}

impl Notice {
    /// The same for every try and every channel, and for no other notice: what receivers know doubles by.
    pub fn unique_id(&self) -> String {
        format!("notice-{}-{:x}", self.id.0, self.at.0)
    }
}

/// A notice on its way over one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `email`, or `webhook:HOST:..`.
    pub channel: String,
    /// How far it has come.
    pub state: NoticeState,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, while it is queued.
    pub next_at: UnixTime,
    /// The last change of its state.
    pub changed_at: UnixTime,
    /// What went wrong the last time.
    pub problem: Option<String>,
}

/// A notice that has no number yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: NoticeKind,
    pub(super) recipient: UserId,
    pub(super) body: NoticeBody,
}

/// Cuts a text from outside.
fn short(text: &str) -> String {
    text.chars().take(MOST_CHARS).collect()
}

impl Store {
    /// Writes notices, their deliveries and an audit row into the transaction of the change that causes them.
    pub(super) async fn post(
        &self,
        write: &mut Write<'_>,
        drafts: &[Draft],
        by: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let done = insert(&mut write.tx, drafts, &self.settings.channels, by, now).await;
        done.map_err(|error| write.failed(error))
    }

    /// Wakes whoever sends, after the commit. Other processes find the notices by looking.
    pub(super) fn posted(&self) {
        self.outbox.notify_waiters();
    }
}

async fn insert(
    tx: &mut AnyConnection,
    drafts: &[Draft],
    channels: &[String],
    by: &str,
    now: UnixTime,
) -> Result<(), Failed> {
    let count = i64::try_from(drafts.len()).unwrap_or(i64::MAX);
    let query = sqlx::query("UPDATE counters SET number = number + $1 WHERE name = 'notice' RETURNING number");
    let end: i64 = query.bind(count).fetch_one(&mut *tx).await?.try_get(0)?;
    let first = end - count + 1;
    let state = if channels.is_empty() { NoticeState::Console } else { NoticeState::Queued };
    let mut number = first;
    for chunk in drafts.chunks(ROWS) {
        let place = |row: usize, column: usize| format!("${}", row * 7 + column + 1);
        let row = |row: usize| format!("({})", (0..7).map(|c| place(row, c)).collect::<Vec<_>>().join(", "));
        let rows = (0..chunk.len()).map(row).collect::<Vec<_>>().join(", ");
        // Built from numbers alone; what is written is bound.
        let sql =
            format!("INSERT INTO notices (number, kind, recipient, state, body, made_by, made_at) VALUES {rows}");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for draft in chunk {
            let body = serde_json::to_string(&draft.body).map_err(|error| Failed::Bad(error.to_string()))?;
            query = query.bind(number).bind(draft.kind.word()).bind(draft.recipient.as_str().to_owned());
            query = query.bind(state.word()).bind(body).bind(short(by)).bind(now.0);
            number += 1;
        }
        query.execute(&mut *tx).await?;
    }
    for channel in channels {
        let query = sqlx::query(
            "INSERT INTO deliveries (notice, channel, state, attempts, next_at, lease, lease_until, changed_at) \
             SELECT number, $1, 'queued', 0, $2, '', 0, $2 FROM notices WHERE number >= $3 AND number <= $4",
        );
        query.bind(channel.clone()).bind(now.0).bind(first).bind(end).execute(&mut *tx).await?;
    }
    let mut event = AuditEvent::new(now, "notice.queued", "done");
    if let [only] = drafts {
        event.user = Some(only.recipient.to_string());
    }
    let kind = drafts.first().map_or("", |draft| draft.kind.word());
    event.detail = Some(match count {
        1 => format!("by {by}: {kind} {end}"),
        _ => format!("by {by}: {count} notices, {first} to {end}"),
    });
    audit::insert(tx, vec![event]).await?;
    Ok(())
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
