//! Sessions of people who signed in at the console: a secret in the browser's cookie, its hash here. Called by `admin`.
//!
//! Nothing here says what a session may do: who it belongs to is asked of the directory on each request, and what was said
//! against that person since ends it.

use std::time::Duration;

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{AccessError, AuditEvent, Store, StoreError, audit, feed::Write, rows::Failed, tokens};
use crate::model::{Secret, UnixTime, UserId};
use crate::token::SignIn;

/// What the value of a cookie starts with.
const PREFIX: &str = "pcs_";
/// Most sessions of one person; past it the oldest goes.
const PER_USER: i64 = 20;
/// Most sessions in all; past it the oldest go.
const MOST: i64 = 10_000;
/// A use is noted that exactly, or to a quarter of the idle limit where that is less.
const COARSE: Duration = Duration::from_secs(60);

/// A session of somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    /// Its name: the hash of its secret, by which nobody gets in.
    pub id: String,
    /// Who.
    pub who: SignIn,
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Without a request.
    pub idle: Duration,
    /// In all.
    pub most: Duration,
}

impl Store {
    /// Opens a session, with an audit row. The secret, `pcs_` and 43 characters of base64url (32 random bytes), is returned
    /// this once and kept nowhere. `peer` is where the browser is, for the audit row.
    pub async fn open_web_session(
        &self,
        who: &SignIn,
        peer: &str,
        lifetime: Lifetime,
        now: UnixTime,
    ) -> Result<Secret, AccessError> {
        let secret = tokens::fresh(PREFIX)?;
        let mut write = Write::begin(self, "signing somebody in").await?;
        let opened = put(&mut write.tx, &secret, who, lifetime, now).await;
        let gone = opened.map_err(|error| write.failed(error))?;
        let mut opened = event("sign_in", "yes", who, now);
        opened.peer = Some(peer.to_owned());
        let mut rows = vec![opened];
        rows.extend(gone.iter().map(|session| {
            let mut ended = event("sign_in.ended", "done", &session.who, now);
            ended.reason = Some("limit_sessions".into());
            ended
        }));
        let inserted = audit::insert(&mut write.tx, rows).await;
        inserted.map_err(|error| write.failed(error))?;
        write.commit(now).await?;
        Ok(secret)
    }

    /// The live session with this secret; notes that it was used. A wrong or ended one is `None`, and so is one that nobody
    /// has used for [`Lifetime::idle`].
    pub async fn web_session(
        &self,
        secret: &Secret,
        lifetime: Lifetime,
        now: UnixTime,
    ) -> Result<Option<WebSession>, StoreError> {
        let Some(hash) = tokens::hash(secret, PREFIX) else { return Ok(None) };
        let failed = |error: Failed| error.at("looking a session of the console up", &self.path);
        let sql = "SELECT hash, address, issuer, subject, session, issued_at, used_at FROM web_sessions \
                   WHERE hash = $1 AND expires_at > $2 AND used_at > $3 AND made_at > $4";
        let query = sqlx::query(sql).bind(hash).bind(now.0).bind((now - lifetime.idle).0);
        // A shorter time set since counts for sessions that were there before it.
        let query = query.bind((now - lifetime.most).0);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| failed(error.into()))?;
        let Some(row) = row else { return Ok(None) };
        let session = read(&row).map_err(failed)?;
        let used = UnixTime(row.try_get(6).map_err(|error| failed(error.into()))?);
        if used.until(now) >= COARSE.min(lifetime.idle / 4) {
            self.note_web_use(&session.id, now).await;
        }
        Ok(Some(session))
    }

    /// While something else is written, this waits for the next use.
    async fn note_web_use(&self, id: &str, now: UnixTime) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        let query = sqlx::query("UPDATE web_sessions SET used_at = $1 WHERE hash = $2").bind(now.0).bind(id);
        if let Err(error) = query.execute(&self.pool).await {
            tracing::warn!(%error, "could not note that a session of the console was used");
        }
    }

    /// Every session that has not expired, at most 10,000.
    pub async fn web_sessions(&self, now: UnixTime) -> Result<Vec<WebSession>, StoreError> {
        let failed = |error: Failed| error.at("reading the sessions of the console", &self.path);
        let sql = "SELECT hash, address, issuer, subject, session, issued_at FROM web_sessions \
                   WHERE expires_at > $1 ORDER BY made_at LIMIT $2";
        let query = sqlx::query(sql).bind(now.0).bind(MOST);
        let rows = query.fetch_all(&self.pool).await.map_err(|error| failed(error.into()))?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Ends sessions, with an audit row for each that was still there: why, and the cause word.
    pub async fn end_web_sessions(
        &self,
        ended: &[(WebSession, &'static str)],
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        let mut write = Write::begin(self, "ending sessions of the console").await?;
        let mut rows = Vec::new();
        for (session, reason) in ended {
            let query = sqlx::query("DELETE FROM web_sessions WHERE hash = $1").bind(&session.id);
            let gone = query.execute(&mut *write.tx).await.map_err(|error| write.failed(error))?;
            if gone.rows_affected() > 0 {
                let mut event = event("sign_in.ended", "done", &session.who, now);
                event.reason = Some((*reason).into());
                rows.push(event);
            }
        }
        let count = rows.len();
        if count > 0 {
            let inserted = audit::insert(&mut write.tx, rows).await;
            inserted.map_err(|error| write.failed(error))?;
            write.commit(now).await?;
        }
        Ok(count)
    }
}

async fn put(
    connection: &mut AnyConnection,
    secret: &Secret,
    who: &SignIn,
    lifetime: Lifetime,
    now: UnixTime,
) -> Result<Vec<WebSession>, Failed> {
    let c = connection;
    let query = sqlx::query("DELETE FROM web_sessions WHERE expires_at <= $1 OR used_at <= $2");
    query.bind(now.0).bind((now - lifetime.idle).0).execute(&mut *c).await?;
    let sql = "DELETE FROM web_sessions WHERE hash IN \
               (SELECT hash FROM web_sessions WHERE address = $1 ORDER BY made_at DESC, hash LIMIT 10000 OFFSET $2) \
               RETURNING hash, address, issuer, subject, session, issued_at";
    let mut gone = sqlx::query(sql).bind(who.user.as_str()).bind(PER_USER - 1).fetch_all(&mut *c).await?;
    let sql = "DELETE FROM web_sessions WHERE hash IN \
               (SELECT hash FROM web_sessions ORDER BY made_at DESC, hash LIMIT 10000 OFFSET $1) \
               RETURNING hash, address, issuer, subject, session, issued_at";
    gone.extend(sqlx::query(sql).bind(MOST - 1).fetch_all(&mut *c).await?);
    sqlx::query(
        "INSERT INTO web_sessions (hash, address, issuer, subject, session, issued_at, made_at, used_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tokens::digest_of(secret))
    .bind(who.user.as_str())
    .bind(&who.issuer)
    .bind(&who.subject)
    .bind(&who.session)
    .bind(who.issued_at.0)
    .bind(now.0)
    .bind(now.0)
    .bind((now + lifetime.most).0)
    .execute(&mut *c)
    .await?;
    gone.iter().map(read).collect()
}

fn event(what: &'static str, outcome: &'static str, who: &SignIn, now: UnixTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, what, outcome);
    event.user = Some(who.user.to_string());
    event.issuer = Some(who.issuer.clone());
    event
}

/// Columns `hash, address, issuer, subject, session, issued_at`.
fn read(row: &AnyRow) -> Result<WebSession, Failed> {
    Ok(WebSession {
        id: row.try_get(0)?,
        who: SignIn {
            user: UserId::parse(row.try_get(1)?)?,
            issuer: row.try_get(2)?,
            subject: row.try_get(3)?,
            session: row.try_get(4)?,
            issued_at: UnixTime(row.try_get(5)?),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::store::AuditFilter;
    use crate::store::tests::ground::{Ground, on_both};

    on_both! {
        a_session_is_found_by_its_secret_while_it_is_used_and_never_after_its_end;
        ended_sessions_are_gone_at_once_on_every_node_and_told_once;
        one_person_has_so_many_sessions_at_most_and_the_oldest_goes_first;
        a_shorter_time_counts_for_sessions_that_were_there_before_it;
    }

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const LIFETIME: Lifetime = Lifetime { idle: HOUR, most: Duration::from_secs(3 * 3600) };

    fn ann() -> SignIn {
        SignIn {
            user: UserId::parse("ann@example.com").unwrap(),
            issuer: "https://id.example.com".into(),
            subject: "ann".into(),
            session: Some("s1".into()),
            issued_at: NOW,
        }
    }

    async fn a_session_is_found_by_its_secret_while_it_is_used_and_never_after_its_end(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let secret = store.open_web_session(&ann(), "192.0.2.7:1", LIFETIME, NOW).await.unwrap();
        assert!(secret.reveal().starts_with("pcs_") && secret.reveal().len() == 47);
        let at = async |later: Duration| store.web_session(&secret, LIFETIME, NOW + later).await.unwrap();
        let found = at(Duration::ZERO).await.unwrap();
        assert_eq!(found.who, ann());
        assert!(!secret.reveal().contains(&found.id), "the name is no way in");
        let other = Secret::new(found.id.clone());
        assert_eq!(store.web_session(&other, LIFETIME, NOW).await.unwrap(), None);
        assert_eq!(store.web_session(&tokens::fresh("pct_").unwrap(), LIFETIME, NOW).await.unwrap(), None);

        let almost = HOUR - Duration::from_millis(1);
        assert!(at(almost).await.is_some());
        assert!(at(almost * 2).await.is_some(), "each use counts");
        assert_eq!(at(almost * 2 + HOUR).await, None, "idle");
        assert!(at(almost * 2 + almost).await.is_some());
        assert_eq!(at(3 * HOUR).await, None, "the end of all");
        let told = store.audit_recent(&AuditFilter::default()).await.unwrap();
        assert_eq!((told.len(), &*told[0].event, told[0].peer.as_deref()), (1, "sign_in", Some("192.0.2.7:1")));
        assert_eq!(told[0].user.as_deref(), Some("ann@example.com"));
    }

    async fn ended_sessions_are_gone_at_once_on_every_node_and_told_once(ground: Ground) {
        let settings = ground.settings();
        let (one, two) = (Store::open(&settings).await.unwrap(), Store::open(&settings).await.unwrap());
        let secret = one.open_web_session(&ann(), "192.0.2.7:1", LIFETIME, NOW).await.unwrap();
        let session = two.web_session(&secret, LIFETIME, NOW).await.unwrap().unwrap();
        assert_eq!(two.web_sessions(NOW).await.unwrap(), std::slice::from_ref(&session));
        let ended = [(session, "signed_out")];
        assert_eq!(one.end_web_sessions(&ended, NOW).await.unwrap(), 1);
        assert_eq!(two.end_web_sessions(&ended, NOW).await.unwrap(), 0);
        assert_eq!(two.web_session(&secret, LIFETIME, NOW).await.unwrap(), None);
        let filter = AuditFilter { event: Some("sign_in.ended".into()), ..AuditFilter::default() };
        let told = one.audit_recent(&filter).await.unwrap();
        assert_eq!((told.len(), told[0].reason.as_deref()), (1, Some("signed_out")));
    }

    async fn one_person_has_so_many_sessions_at_most_and_the_oldest_goes_first(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let mut secrets = Vec::new();
        for second in 0..21 {
            let at = NOW + Duration::from_secs(second);
            secrets.push(store.open_web_session(&ann(), "192.0.2.7:1", LIFETIME, at).await.unwrap());
        }
        let later = NOW + Duration::from_secs(30);
        assert_eq!(store.web_session(&secrets[0], LIFETIME, later).await.unwrap(), None);
        assert!(store.web_session(&secrets[1], LIFETIME, later).await.unwrap().is_some());
        assert_eq!(store.web_sessions(later).await.unwrap().len(), 20);
        let filter = AuditFilter { event: Some("sign_in.ended".into()), ..AuditFilter::default() };
        let told = store.audit_recent(&filter).await.unwrap();
        let told: Vec<_> = told.iter().map(|row| (row.reason.as_deref(), row.user.as_deref())).collect();
        assert_eq!(told, [(Some("limit_sessions"), Some("ann@example.com"))]);
    }

    async fn a_shorter_time_counts_for_sessions_that_were_there_before_it(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let long = Lifetime { idle: 3 * HOUR, most: 3 * HOUR };
        let secret = store.open_web_session(&ann(), "192.0.2.7:1", long, NOW).await.unwrap();
        let short = Lifetime { most: HOUR, ..long };
        let almost = NOW + (HOUR - Duration::from_millis(1));
        for (lifetime, at, is_live) in [(short, almost, true), (short, NOW + HOUR, false), (long, NOW + HOUR, true)]
        {
            let found = store.web_session(&secret, lifetime, at).await.unwrap();
            assert_eq!(found.is_some(), is_live, "{lifetime:?} {at:?}");
        }
    }
}
