//! Grants and the users' own switches: the rows that logins and people change, one at a time.

use std::{sync::Arc, time::Duration};

use sqlx::Row;
use tokio::time::timeout;

use super::{
    AuditEvent, Deed, GrantRow, Store, StoreError, apply, audit,
    feed::Write,
    grant_list::{self, because},
    outbox, rows,
};
use crate::model::{ClientId, GrantId, Service, UnixTime, UserId};
use crate::policy::{Grant, GrantKey, GrantState, Permit};

const NOTING: &str = "noting a grant";
const CHANGING: &str = "changing a grant";
/// How long a sign-in waits for its grant to be noted.
const NOTE: Duration = Duration::from_secs(10);

impl Store {
    /// Notes the grant a login is under: makes it, or makes a removed one active again. Without SQL when the grant
    /// was active already.
    ///
    /// A grant that an admin disabled or removed meanwhile stays so: the caller decides again on the change.
    ///
    /// While the database does not answer this is an error at once: a snapshot may stand in for what is known, but a grant
    /// that is written nowhere could be seen and cut by nobody.
    pub async fn note_grant(self: &Arc<Self>, permit: &Permit, now: UnixTime) -> Result<(), StoreError> {
        if !permit.grant_is_new() {
            return Ok(());
        }
        let gone = || StoreError::sql(NOTING, &self.path, sqlx::Error::PoolTimedOut);
        if !self.is_reachable() {
            return Err(gone());
        }
        let (store, key, issued_at) = (Arc::clone(self), permit.grant(), permit.identity().issued_at());
        // Where the store's connections live, and to its end although the session may have gone.
        let noting = self.home.spawn(async move { store.note(&key, issued_at, now).await });
        match timeout(NOTE, noting).await {
            Ok(Ok(noted)) => noted,
            Ok(Err(_)) | Err(_) => Err(gone()),
        }
    }

    pub(super) async fn note(
        &self,
        key: &GrantKey,
        issued_at: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut write = Write::begin(self, NOTING).await?;
        let removed_at = match find(&mut write, key).await? {
            None => None,
            Some((_, Grant { state: GrantState::Removed, removed_at: Some(removed_at) }))
                if issued_at.is_some_and(|issued| issued > removed_at) =>
            {
                Some(removed_at)
            }
            // Two first logins at once, or an admin in between.
            Some(_) => return Ok(()),
        };
        put(&mut write, key, Grant { state: GrantState::Active, removed_at }, key.user.as_str(), now).await?;
        write.commit(now).await.map(drop)
    }

    /// Disables, enables or removes a grant, with an audit row and notices to those it concerns, in one transaction;
    /// returns the grant's number.
    ///
    /// A grant that does not exist yet is made in that state. Who does it, and why, is for the audit log.
    pub async fn set_grant(
        &self,
        user: &UserId,
        owner: &UserId,
        app: &ClientId,
        state: GrantState,
        (by, why): (&str, Option<&str>),
        now: UnixTime,
    ) -> Result<GrantId, StoreError> {
        let key = GrantKey { user: user.clone(), owner: owner.clone(), app: app.clone() };
        self.set(Write::begin(self, CHANGING).await?, key, state, (by, why), now).await
    }

    /// Brings a grant that is there into this state, as [`Store::set_grant`] does, if `may` says so of the grant as it is in
    /// the same transaction; what it says else is the outcome. `may` gets nothing where there is no grant with this number.
    pub async fn change_grant<E: From<StoreError>>(
        &self,
        id: GrantId,
        state: GrantState,
        (by, why): (&str, Option<&str>),
        now: UnixTime,
        may: impl FnOnce(Option<&GrantRow>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut write = Write::begin(self, CHANGING).await?;
        let row = grant_list::one(&mut write.tx, id).await.map_err(|error| write.failed(error))?;
        let (true, Some(row)) = (may(row.as_ref())?, row) else { return Ok(()) };
        let key = GrantKey { user: row.user, owner: row.owner, app: row.app };
        self.set(write, key, state, (by, why), now).await?;
        Ok(())
    }

    async fn set(
        &self,
        mut write: Write<'_>,
        key: GrantKey,
        state: GrantState,
        (by, why): (&str, Option<&str>),
        now: UnixTime,
    ) -> Result<GrantId, StoreError> {
        let found = find(&mut write, &key).await?;
        let before = found.map(|(_, grant)| grant);
        let removed_before = before.and_then(|grant| grant.removed_at);
        let removed_at = match state {
            // A clock that went back must not let tokens in that were shut out before.
            GrantState::Removed => Some(removed_before.map_or(now, |at| at.max(now))),
            GrantState::Active | GrantState::Disabled => removed_before,
        };
        let number = put(&mut write, &key, Grant { state, removed_at }, by, now).await?;
        let mut event = AuditEvent::new(now, format!("grant.{}", state.word()), "done");
        event.user = Some(key.user.to_string());
        event.owner = Some(key.owner.to_string());
        event.app = Some(key.app.to_string());
        let before = before.map_or("none", |grant| grant.state.word());
        event.detail = Some(format!("by {by}: {before} -> {}{}", state.word(), because(why)));
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        let drafts = match found.and_then(|(_, grant)| deed(grant.state, state)) {
            None => Vec::new(),
            Some(deed) => {
                let cut = self.cut(&key, deed);
                let drafts = outbox::cut_drafts(&mut write.tx, &[cut], (by, why), now).await;
                drafts.map_err(|error| write.failed(error))?
            }
        };
        self.post(&mut write, &drafts, by, now).await?;
        write.commit(now).await?;
        self.posted();
        Ok(number)
    }

    /// A grant that is cut, with what its app is called.
    pub(super) fn cut(&self, key: &GrantKey, deed: Deed) -> outbox::Cut {
        let name = self.read(|directory| directory.app_name(&key.app));
        let GrantKey { user, owner, app } = key.clone();
        outbox::Cut { user, owner, app, app_name: name.map(|name| name.to_string()), deed }
    }

    /// Turns a service off for the user by their own wish, or takes that back. Never turns on what an admin turned off.
    pub async fn set_self_switch(
        &self,
        user: &UserId,
        service: Service,
        off: bool,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut write = Write::begin(self, "changing a user's own switch").await?;
        let query = if off {
            sqlx::query("INSERT INTO own_switches (address, service) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        } else {
            sqlx::query("DELETE FROM own_switches WHERE address = $1 AND service = $2")
        };
        let done = query.bind(user.as_str()).bind(service.word()).execute(&mut *write.tx).await;
        if done.map_err(|error| write.failed(error))?.rows_affected() == 0 {
            return Ok(());
        }
        let version = apply::numbers(&mut write.tx).await.map_err(|error| write.failed(error))?.0;
        let query = sqlx::query("UPDATE users SET version = $1 WHERE address = $2").bind(version);
        let renewed = query.bind(user.as_str()).execute(&mut *write.tx).await;
        renewed.map_err(|error| write.failed(error))?;
        let mut event = AuditEvent::new(now, "user.own_switch", "done");
        event.user = Some(user.to_string());
        event.service = Some(service);
        event.detail = Some(if off { "on -> off" } else { "off -> on" }.to_owned());
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.touched.users.insert(user.clone());
        write.commit(now).await.map(drop)
    }
}

/// What people are told of, when a grant that somebody made goes from one state to another.
pub(super) fn deed(from: GrantState, to: GrantState) -> Option<Deed> {
    match (from, to) {
        (GrantState::Active, GrantState::Disabled) => Some(Deed::Disabled),
        (GrantState::Active | GrantState::Disabled, GrantState::Removed) => Some(Deed::Removed),
        _ => None,
    }
}

async fn find(write: &mut Write<'_>, key: &GrantKey) -> Result<Option<(GrantId, Grant)>, StoreError> {
    let sql =
        "SELECT number, owner, app, state, removed_at FROM grants WHERE address = $1 AND owner = $2 AND app = $3";
    let query = sqlx::query(sql).bind(key.user.as_str()).bind(key.owner.as_str()).bind(key.app.as_str());
    let row = query.fetch_optional(&mut *write.tx).await.map_err(|error| write.failed(error))?;
    let Some(row) = row else { return Ok(None) };
    let number = row.try_get(0).map_err(|error| write.failed(error))?;
    let grant = rows::grant_facts(&row).map_err(|error| write.failed(error))?;
    Ok(Some((GrantId(number), grant)))
}

async fn put(
    write: &mut Write<'_>,
    key: &GrantKey,
    grant: Grant,
    by: &str,
    now: UnixTime,
) -> Result<GrantId, StoreError> {
    let number = upsert(write, key, grant, by, now).await.map_err(|error| write.failed(error))?;
    write.touched.grants.insert((key.user.clone(), key.app.clone()));
    Ok(GrantId(number))
}

async fn upsert(
    write: &mut Write<'_>,
    key: &GrantKey,
    grant: Grant,
    by: &str,
    now: UnixTime,
) -> Result<i64, sqlx::Error> {
    let next = sqlx::query("UPDATE counters SET number = number + 1 WHERE name = 'grant' RETURNING number");
    let next: i64 = next.fetch_one(&mut *write.tx).await?.try_get(0)?;
    let row = sqlx::query(
        "INSERT INTO grants (address, owner, app, number, state, removed_at, made_at, changed_at, changed_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (address, owner, app) DO UPDATE \
         SET state = excluded.state, removed_at = excluded.removed_at, changed_at = excluded.changed_at, \
         changed_by = excluded.changed_by RETURNING number",
    )
    .bind(key.user.as_str())
    .bind(key.owner.as_str())
    .bind(key.app.as_str())
    .bind(next)
    .bind(grant.state.word())
    .bind(grant.removed_at.map(|at| at.0))
    .bind(now.0)
    .bind(now.0)
    .bind(by)
    .fetch_one(&mut *write.tx)
    .await?;
    row.try_get(0)
}
