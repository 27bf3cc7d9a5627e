//! What was noted of one app added to the tables, within a transaction of the caller's, and the apps past the bound forgotten.

use std::collections::BTreeSet;

use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{APPS, PROGRAMS, ROWS, Sum, USERS, WAITING_APPS};
use crate::model::{ClientId, UnixTime, UserId};

/// Adds an app's counts; gives the number of its users so far.
pub(super) async fn add_app(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    sum: &Sum,
) -> Result<i64, sqlx::Error> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let row = sqlx::query(
        "INSERT INTO apps_seen (issuer, app, first_seen, last_seen, imap_accepted, imap_refused, pop_accepted, \
         pop_refused, users, last_cause) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9) \
         ON CONFLICT (issuer, app) DO UPDATE SET \
         first_seen = CASE WHEN excluded.first_seen < apps_seen.first_seen \
         THEN excluded.first_seen ELSE apps_seen.first_seen END, \
         last_seen = CASE WHEN excluded.last_seen > apps_seen.last_seen \
         THEN excluded.last_seen ELSE apps_seen.last_seen END, \
         imap_accepted = apps_seen.imap_accepted + excluded.imap_accepted, \
         imap_refused = apps_seen.imap_refused + excluded.imap_refused, \
         pop_accepted = apps_seen.pop_accepted + excluded.pop_accepted, \
         pop_refused = apps_seen.pop_refused + excluded.pop_refused, \
         last_cause = CASE WHEN excluded.last_cause <> '' THEN excluded.last_cause ELSE apps_seen.last_cause END \
         RETURNING users",
    )
    .bind(issuer)
    .bind(app.as_str())
    .bind(sum.first.0)
    .bind(sum.last.0)
    .bind(number(sum.imap.accepted))
    .bind(number(sum.imap.refused))
    .bind(number(sum.pop.accepted))
    .bind(number(sum.pop.refused))
    .bind(sum.refusal.unwrap_or_default())
    .fetch_one(&mut **tx)
    .await?;
    row.try_get(0)
}

/// Adds the users who are new to this app and notes the last use of the others.
pub(super) async fn add_users(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    known: i64,
    users: &[(&UserId, UnixTime, u64)],
) -> Result<(), sqlx::Error> {
    let mut rest = users;
    let mut added = 0i64;
    for size in ROWS {
        while let Some((chunk, left)) = rest.split_at_checked(size) {
            rest = left;
            let last = chunk.iter().map(|(_, at, _)| *at).max().unwrap_or_default();
            let mut new = 0;
            if known + added < USERS {
                let places: Vec<String> = (0..size).map(|row| format!("($1, $2, ${}, $3, $3)", row + 4)).collect();
                let text = format!(
                    "INSERT INTO app_users_seen (issuer, app, address, first_seen, last_seen) VALUES {} \
                     ON CONFLICT (issuer, app, address) DO NOTHING",
                    places.join(", ")
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(issuer).bind(app.as_str()).bind(last.0);
                let query = chunk.iter().fold(query, |query, (user, _, _)| query.bind(user.as_str()));
                new = query.execute(&mut **tx).await?.rows_affected();
                added += i64::try_from(new).unwrap_or(0);
            }
            if usize::try_from(new).is_ok_and(|new| new < size) {
                let places: Vec<String> = (0..size).map(|row| format!("${}", row + 4)).collect();
                let text = format!(
                    "UPDATE app_users_seen SET last_seen = $3 WHERE issuer = $1 AND app = $2 AND last_seen < $3 \
                     AND address IN ({})",
                    places.join(", ")
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(issuer).bind(app.as_str()).bind(last.0);
                let query = chunk.iter().fold(query, |query, (user, _, _)| query.bind(user.as_str()));
                query.execute(&mut **tx).await?;
            }
        }
    }
    if added > 0 {
        let query = sqlx::query("UPDATE apps_seen SET users = users + $3 WHERE issuer = $1 AND app = $2");
        query.bind(issuer).bind(app.as_str()).bind(added).execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn add_program(
    tx: &mut Transaction<'static, Any>,
    issuer: &str,
    app: &ClientId,
    program: &str,
    at: UnixTime,
) -> Result<(), sqlx::Error> {
    let query =
        sqlx::query("UPDATE app_programs_seen SET last_seen = $4 WHERE issuer = $1 AND app = $2 AND program = $3");
    let done = query.bind(issuer).bind(app.as_str()).bind(program).bind(at.0).execute(&mut **tx).await?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    let query = sqlx::query("SELECT count(*) FROM app_programs_seen WHERE issuer = $1 AND app = $2");
    let kept: i64 = query.bind(issuer).bind(app.as_str()).fetch_one(&mut **tx).await?.try_get(0)?;
    if kept >= PROGRAMS {
        return Ok(());
    }
    let query = sqlx::query(
        "INSERT INTO app_programs_seen (issuer, app, program, last_seen) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (issuer, app, program) DO NOTHING",
    );
    query.bind(issuer).bind(app.as_str()).bind(program).bind(at.0).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets the apps past the bound, those not used for longest first.
pub(super) async fn forget_apps(tx: &mut Transaction<'static, Any>) -> Result<(), sqlx::Error> {
    let query =
        sqlx::query("SELECT issuer, app FROM apps_seen ORDER BY last_seen DESC, issuer, app LIMIT $1 OFFSET $2");
    let most = i64::try_from(WAITING_APPS).unwrap_or(i64::MAX);
    let rows = query.bind(most).bind(APPS).fetch_all(&mut **tx).await?;
    let mut forgotten = BTreeSet::new();
    for row in &rows {
        forgotten.insert((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
    }
    for (issuer, app) in forgotten {
        for sql in [
            "DELETE FROM app_users_seen WHERE issuer = $1 AND app = $2",
            "DELETE FROM app_programs_seen WHERE issuer = $1 AND app = $2",
            "DELETE FROM apps_seen WHERE issuer = $1 AND app = $2",
        ] {
            sqlx::query(sql).bind(&*issuer).bind(&*app).execute(&mut **tx).await?;
        }
    }
    Ok(())
}
