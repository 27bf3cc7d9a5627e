//! The apps that have knocked, as a list: cut to a subtree where that is asked for, each with some of its users and programs.

use sqlx::{Row, any::AnyRow};

use super::{AppSeen, SeenFilter, USERS, Verdicts};
use crate::model::UnixTime;
use crate::store::{
    Store, StoreError,
    statement::{Sql, Subtree, Value},
};

impl Store {
    /// The apps that have knocked, the last used first. What was only just noted is in it.
    pub async fn apps_seen(&self, filter: &SeenFilter) -> Result<Vec<AppSeen>, StoreError> {
        self.merge_seen().await?;
        let found = self.read_seen(filter).await;
        found.map_err(|source| StoreError::sql("reading the apps seen", &self.path, source))
    }

    async fn read_seen(&self, filter: &SeenFilter) -> Result<Vec<AppSeen>, sqlx::Error> {
        let mut sql = Sql::new(
            "SELECT issuer, app, first_seen, last_seen, imap_accepted, imap_refused, pop_accepted, pop_refused, \
             users, last_cause FROM apps_seen WHERE 1 = 1",
        );
        if let Some(app) = &filter.app {
            sql.and("app = $", [Value::Text(app.as_str().to_owned())]);
        }
        if let Some(since) = filter.since {
            sql.and("last_seen >= $", [Value::Number(since.0)]);
        }
        if filter.refused {
            sql.and("imap_refused + pop_refused > 0", []);
        }
        let subtree = filter.unit.as_ref().and_then(Subtree::of);
        if let Some(subtree) = &subtree {
            sql.and(
                "EXISTS (SELECT 1 FROM app_users_seen s JOIN users u ON u.address = s.address WHERE \
                 s.issuer = apps_seen.issuer AND s.app = apps_seen.app AND (u.unit = $ OR substr(u.unit, 1, CAST($ AS INTEGER)) = $))",
                subtree.values(),
            );
        }
        if let Some(after) = &filter.after {
            let (last, issuer, app) = (Value::Number(after.last.0), &after.issuer, &after.app);
            sql.and(
                "(last_seen < $ OR (last_seen = $ AND (issuer > $ OR (issuer = $ AND app > $))))",
                [
                    last.clone(),
                    last,
                    Value::Text(issuer.clone()),
                    Value::Text(issuer.clone()),
                    Value::Text(app.clone()),
                ],
            );
        }
        let limit = if filter.limit == 0 { 100 } else { filter.limit.min(500) };
        sql.push(" ORDER BY last_seen DESC, issuer, app LIMIT $", [Value::Number(i64::from(limit))]);
        let rows = sql.fetch(&self.pool).await?;
        let mut apps = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut app = from_row(row)?;
            self.put_names(&mut app, subtree.as_ref()).await?;
            apps.push(app);
        }
        Ok(apps)
    }

    async fn put_names(&self, app: &mut AppSeen, subtree: Option<&Subtree>) -> Result<(), sqlx::Error> {
        let key = [Value::Text(app.issuer.clone()), Value::Text(app.app.clone())];
        let (tables, inside) = match subtree {
            Some(_) => (
                "app_users_seen s JOIN users u ON u.address = s.address",
                " AND (u.unit = $ OR substr(u.unit, 1, CAST($ AS INTEGER)) = $)",
            ),
            None => ("app_users_seen s", ""),
        };
        let inside_values = || subtree.map(|subtree| subtree.values().to_vec()).unwrap_or_default();
        if subtree.is_some() {
            let mut sql = Sql::new(&format!("SELECT count(*) FROM {tables} WHERE 1 = 1"));
            sql.and("s.issuer = $ AND s.app = $", key.clone());
            sql.push(inside, inside_values());
            app.users = sql.fetch(&self.pool).await?.first().map_or(Ok(0), |row| unsigned(row, 0))?;
        }
        let mut sql = Sql::new(&format!("SELECT s.address FROM {tables} WHERE 1 = 1"));
        sql.and("s.issuer = $ AND s.app = $", key.clone());
        sql.push(inside, inside_values());
        sql.push(" ORDER BY s.last_seen DESC, s.address LIMIT 5", []);
        app.some_users = texts(&sql.fetch(&self.pool).await?)?;
        let mut sql = Sql::new("SELECT program FROM app_programs_seen WHERE 1 = 1");
        sql.and("issuer = $ AND app = $", key);
        sql.push(" ORDER BY last_seen DESC, program LIMIT 20", []);
        app.programs = texts(&sql.fetch(&self.pool).await?)?;
        Ok(())
    }
}

fn texts(rows: &[AnyRow]) -> Result<Vec<String>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn unsigned(row: &AnyRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn from_row(row: &AnyRow) -> Result<AppSeen, sqlx::Error> {
    let users = unsigned(row, 8)?;
    let last_cause: String = row.try_get(9)?;
    Ok(AppSeen {
        issuer: row.try_get(0)?,
        app: row.try_get(1)?,
        first: UnixTime(row.try_get(2)?),
        last: UnixTime(row.try_get(3)?),
        imap: Verdicts { accepted: unsigned(row, 4)?, refused: unsigned(row, 5)? },
        pop: Verdicts { accepted: unsigned(row, 6)?, refused: unsigned(row, 7)? },
        users,
        users_at_least: i64::try_from(users).is_ok_and(|users| users >= USERS),
        some_users: Vec::new(),
        programs: Vec::new(),
        last_refusal: Some(last_cause).filter(|cause| !cause.is_empty()),
    })
}
