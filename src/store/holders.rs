//! Roles and API tokens that are for a unit. They go with the unit, and none waits for the next unit of the same path: that is
//! another one. Called by `edit` and `apply`.

use std::fmt;

use sqlx::{AnyConnection, Row};

use super::{
    ApiTokenId, AuditEvent, Role, edit,
    roles::{self, Put},
    rows::Failed,
    tokens,
};
use crate::model::{UnitPath, UnixTime, UserId};

/// How many an error names.
const NAMED: usize = 5;

/// Who may do something in a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Person { user: UserId, role: Role },
    Token { id: ApiTokenId, name: String, role: Role },
}

/// `ann@example.com is admin of /Sales`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { user, role } => write!(f, "{user} is {role}"),
            Self::Token { id, name, role } => write!(f, "API token {} {name:?} is {role}", id.0),
        }
    }
}

impl Holder {
    pub(super) fn unit(&self) -> Option<&UnitPath> {
        let (Self::Person { role, .. } | Self::Token { role, .. }) = self;
        role.unit()
    }

    /// The same for another unit.
    fn of(&self, unit: UnitPath) -> Self {
        let mut moved = self.clone();
        let (Self::Person { role, .. } | Self::Token { role, .. }) = &mut moved;
        if let Role::Admin(own) | Role::AccountAccess(own) = role {
            *own = unit;
        }
        moved
    }

    /// The audit row of a role that is no more.
    pub(super) fn ended(&self, by: &str, now: UnixTime) -> AuditEvent {
        match self {
            Self::Person { user, role } => roles::told(user, (role, &Role::User), by, now),
            Self::Token { id, name, role } => tokens::event("api_token.revoked", *id, name, role, by, now),
        }
    }
}

/// The first of them, for an error.
pub(super) fn words(holders: &[Holder]) -> String {
    let named: Vec<String> = holders.iter().take(NAMED).map(ToString::to_string).collect();
    let named = named.join("; ");
    match holders.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; {more} more"),
    }
}

/// The people and API tokens whose role is for this unit or one below it. Tokens that have run out before `now` are left out.
pub(super) async fn of_unit(c: &mut AnyConnection, unit: &UnitPath, now: UnixTime) -> Result<Vec<Holder>, Failed> {
    let (length, begin) = edit::below(unit);
    let sql = "SELECT address, role, unit FROM admins WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3 \
               ORDER BY address";
    let mut holders = Vec::new();
    for row in sqlx::query(sql).bind(unit.as_str()).bind(length).bind(&begin).fetch_all(&mut *c).await? {
        let role = Role::from_columns(&row, 1)?;
        holders.push(Holder::Person { user: UserId::parse(row.try_get(0)?)?, role });
    }
    let sql = "SELECT number, name, role, unit FROM api_tokens WHERE expires_at > $4 \
               AND (unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3) ORDER BY number";
    let query = sqlx::query(sql).bind(unit.as_str()).bind(length).bind(&begin).bind(now.0);
    for row in query.fetch_all(&mut *c).await? {
        let (id, role) = (ApiTokenId(row.try_get(0)?), Role::from_columns(&row, 2)?);
        holders.push(Holder::Token { id, name: row.try_get(1)?, role });
    }
    Ok(holders)
}

/// The unit has another path, so the role is for that; with its audit row.
pub(super) async fn follow(
    c: &mut AnyConnection,
    holder: &Holder,
    to: UnitPath,
    (by, now): (&str, UnixTime),
) -> Result<AuditEvent, Failed> {
    let (query, event) = match holder.of(to.clone()) {
        Holder::Person { user, role } => {
            let before = roles::of(c, &user).await?;
            let event = roles::told(&user, (&before, &role), by, now);
            let sql = "UPDATE admins SET unit = $1 WHERE address = $2";
            (sqlx::query(sql).bind(to.to_string()).bind(user.to_string()), event)
        }
        Holder::Token { id, name, role } => {
            let event = tokens::event("api_token.moved", id, &name, &role, by, now);
            (
                sqlx::query("UPDATE api_tokens SET unit = $1 WHERE number = $2").bind(to.to_string()).bind(id.0),
                event,
            )
        }
    };
    query.execute(c).await?;
    Ok(event)
}

/// Ends the role, or revokes the token. One that is for a unit is never the last super admin's.
pub(super) async fn end(c: &mut AnyConnection, holder: &Holder) -> Result<(), Failed> {
    match holder {
        Holder::Person { user, .. } => match roles::end(c, user).await? {
            Put::Done { .. } | Put::Same | Put::LastSuper | Put::Full => Ok(()),
        },
        Holder::Token { id, .. } => {
            let query = sqlx::query("DELETE FROM api_tokens WHERE number = $1").bind(id.0);
            Ok(query.execute(c).await.map(drop)?)
        }
    }
}
