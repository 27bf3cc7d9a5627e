//! Grants as lists, and changes of many at once. Called by `admin`; single grants change in `grants`.

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{
    AuditEvent, Store, StoreError, audit,
    feed::Write,
    grants::deed,
    outbox,
    rows::{self, Failed},
};
use crate::model::{ClientId, GrantId, UnixTime, UserId};
use crate::policy::{GrantKey, GrantState};

/// Most grants that one call changes.
const MOST: i64 = 10_000;
/// Changed grants with an audit event of their own; beyond, the summary alone tells.
const TOLD: usize = 200;
const COLUMNS: &str = "address, owner, app, state, removed_at, number, made_at, changed_at, changed_by";

/// A grant with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// Its number; the same for as long as there is a history.
    pub id: GrantId,
    /// Who let the app in.
    pub user: UserId,
    /// Whose mailbox: the user's own, or a shared one.
    pub owner: UserId,
    /// The app.
    pub app: ClientId,
    /// Where it stands.
    pub state: GrantState,
    /// When it was last removed.
    pub removed_at: Option<UnixTime>,
    /// The first accepted sign-in.
    pub made_at: UnixTime,
    /// The last change of its state.
    pub changed_at: UnixTime,
    /// Who changed it last.
    pub changed_by: String,
}

/// Which grants: each field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantFilter {
    /// Who let the app in.
    pub user: Option<UserId>,
    /// Whose mailbox.
    pub owner: Option<UserId>,
    /// The app.
    pub app: Option<ClientId>,
    /// Where it stands.
    pub state: Option<GrantState>,
}

/// What a change of many grants did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantsChanged {
    /// So many were changed.
    pub changed: usize,
    /// There were more than 10,000 to look at: call again.
    pub more: bool,
}

impl Store {
    /// Grants in the order of their numbers, after number `after`, at most `limit`.
    pub async fn grants(
        &self,
        filter: &GrantFilter,
        after: Option<GrantId>,
        limit: usize,
    ) -> Result<Vec<GrantRow>, StoreError> {
        let failed = |error: Failed| error.at("reading grants", &self.path);
        let mut connection = self.pool.acquire().await.map_err(|error| failed(error.into()))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        select(&mut connection, filter, after.map_or(0, |id| id.0), limit).await.map_err(failed)
    }

    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Result<Option<GrantRow>, StoreError> {
        let failed = |error: Failed| error.at("reading a grant", &self.path);
        let mut connection = self.pool.acquire().await.map_err(|error| failed(error.into()))?;
        one(&mut connection, id).await.map_err(failed)
    }

    /// Removes every grant that matches and whose user passes `reaches`, in one transaction, with audit rows and
    /// notices, one for each person however many grants. Nothing that is removed already is touched. Only tokens issued later let their apps in again.
    pub async fn remove_grants(
        &self,
        filter: &GrantFilter,
        reaches: impl Fn(&UserId) -> bool,
        by: &str,
        why: Option<&str>,
        now: UnixTime,
    ) -> Result<GrantsChanged, StoreError> {
        let mut write = Write::begin(self, "removing grants").await?;
        let found = select(&mut write.tx, filter, 0, MOST + 1).await.map_err(|error| write.failed(error))?;
        let mut done = GrantsChanged { changed: 0, more: found.len() as i64 > MOST };
        let (mut events, mut cuts) = (Vec::new(), Vec::new());
        for grant in found.into_iter().take(MOST as usize) {
            if grant.state == GrantState::Removed || !reaches(&grant.user) {
                continue;
            }
            // A clock that went back must not let tokens in that were shut out before.
            let removed_at = grant.removed_at.map_or(now, |at| at.max(now));
            let sql = "UPDATE grants SET state = 'removed', removed_at = $1, changed_at = $2, changed_by = $3 WHERE number = $4";
            let query = sqlx::query(sql).bind(removed_at.0).bind(now.0).bind(by.to_owned()).bind(grant.id.0);
            query.execute(&mut *write.tx).await.map_err(|error| write.failed(error))?;
            write.touched.grants.insert((grant.user.clone(), grant.app.clone()));
            done.changed += 1;
            let key = GrantKey { user: grant.user.clone(), owner: grant.owner.clone(), app: grant.app.clone() };
            cuts.extend(deed(grant.state, GrantState::Removed).map(|deed| self.cut(&key, deed)));
            if events.len() < TOLD {
                events.push(event(&grant, by, why, now));
            }
        }
        if done.changed == 0 {
            return Ok(done);
        }
        let mut summary = AuditEvent::new(now, "grants.removed", "done");
        summary.user = filter.user.as_ref().map(ToString::to_string);
        summary.app = filter.app.as_ref().map(ToString::to_string);
        summary.detail = Some(format!("by {by}: {} grants removed{}", done.changed, because(why)));
        events.push(summary);
        let inserted = audit::insert(&mut write.tx, events).await;
        inserted.map_err(|error| write.failed(error))?;
        let drafts = outbox::cut_drafts(&mut write.tx, &cuts, (by, why), now).await;
        let drafts = drafts.map_err(|error| write.failed(error))?;
        self.post(&mut write, &drafts, by, now).await?;
        write.commit(now).await?;
        self.posted();
        Ok(done)
    }
}

fn event(grant: &GrantRow, by: &str, why: Option<&str>, now: UnixTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, "grant.removed", "done");
    event.user = Some(grant.user.to_string());
    event.owner = Some(grant.owner.to_string());
    event.app = Some(grant.app.to_string());
    event.detail = Some(format!("by {by}: {} -> removed{}", grant.state.word(), because(why)));
    event
}

/// The reason somebody gave, for the end of an audit row's text.
pub(super) fn because(why: Option<&str>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

pub(super) async fn one(connection: &mut AnyConnection, id: GrantId) -> Result<Option<GrantRow>, Failed> {
    let sql = format!("SELECT {COLUMNS} FROM grants WHERE number = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

async fn select(
    connection: &mut AnyConnection,
    filter: &GrantFilter,
    after: i64,
    limit: i64,
) -> Result<Vec<GrantRow>, Failed> {
    let wanted = [
        ("address", filter.user.as_ref().map(UserId::as_str)),
        ("owner", filter.owner.as_ref().map(UserId::as_str)),
        ("app", filter.app.as_ref().map(ClientId::as_str)),
        ("state", filter.state.map(GrantState::word)),
    ];
    // Built from the words above alone; what is looked for is bound.
    let mut sql = format!("SELECT {COLUMNS} FROM grants WHERE number > $1");
    let mut texts = Vec::new();
    for (column, text) in wanted {
        if let Some(text) = text {
            texts.push(text.to_owned());
            sql.push_str(&format!(" AND {column} = ${}", texts.len() + 1));
        }
    }
    sql.push_str(&format!(" ORDER BY number LIMIT ${}", texts.len() + 2));
    let query = texts.into_iter().fold(sqlx::query(AssertSqlSafe(sql)).bind(after), |query, text| query.bind(text));
    let rows = query.bind(limit).fetch_all(&mut *connection).await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<GrantRow, Failed> {
    let facts = rows::grant_facts(row)?;
    Ok(GrantRow {
        id: GrantId(row.try_get(5)?),
        user: UserId::parse(row.try_get(0)?)?,
        owner: UserId::parse(row.try_get(1)?)?,
        app: ClientId::parse(row.try_get(2)?)?,
        state: facts.state,
        removed_at: facts.removed_at,
        made_at: UnixTime(row.try_get(6)?),
        changed_at: UnixTime(row.try_get(7)?),
        changed_by: row.try_get(8)?,
    })
}
