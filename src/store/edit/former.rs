//! Addresses that were somebody's. Mail stays where it is when its user or shared mailbox is removed or gets another address,
//! and a grant names its mailbox by address: so whoever has the address next finds what was left there. Here it is kept what
//! an address was, and in which unit, until it is in use again. Called by `people`, `import`, `units` and `apply`.

use std::collections::HashMap;

use sqlx::{AnyConnection, Row};

use super::{
    EditError, find, put,
    work::{Done, Work},
};
use crate::model::{Place, UnitPath, UserId};
use crate::store::rows::{self, Failed};

/// What an address was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    /// A user's own.
    User,
    /// A shared mailbox's.
    Mailbox,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mailbox => "mailbox",
        }
    }
}

/// An address that is nobody's now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    kind: Kind,
    /// The unit it was in; none: a mailbox of no unit, or not known.
    unit: Option<UnitPath>,
}

/// Those of these addresses that were somebody's.
pub(super) async fn among(c: &mut AnyConnection, ids: &[&UserId]) -> Result<HashMap<UserId, Former>, Failed> {
    let sql = "SELECT address, kind, unit FROM former_addresses WHERE address IN ";
    let found = rows::some(c, sql, ids.iter().map(|id| id.as_str())).await?;
    let read = |row: &sqlx::any::AnyRow| {
        let kind = if row.try_get::<String, _>(1)? == Kind::User.word() { Kind::User } else { Kind::Mailbox };
        let unit = row.try_get::<Option<String>, _>(2)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
        Ok((UserId::parse(row.try_get(0)?)?, Former { kind, unit }))
    };
    found.iter().map(read).collect()
}

/// From now on the address is nobody's.
pub(in crate::store) async fn note(
    c: &mut AnyConnection,
    id: &UserId,
    (kind, unit): (Kind, Option<&UnitPath>),
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO former_addresses (address, kind, unit) VALUES ($1, $2, $3) \
         ON CONFLICT (address) DO UPDATE SET kind = excluded.kind, unit = excluded.unit",
    );
    let query = query.bind(id.as_str()).bind(kind.word()).bind(unit.map(UnitPath::as_str));
    query.execute(c).await.map(drop)
}

/// The address is in use again.
pub(in crate::store) async fn forget(c: &mut AnyConnection, id: &UserId) -> Result<(), sqlx::Error> {
    put::remove(c, "DELETE FROM former_addresses WHERE address = $1", &[id.as_str()]).await
}

/// Those that are in use again, however they came to be.
pub(in crate::store) async fn forget_used(c: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM former_addresses WHERE address IN (SELECT address FROM users) \
               OR address IN (SELECT address FROM mailboxes)";
    put::remove(c, sql, &[]).await
}

/// The unit goes: what was in it, or below it, was above it from now on. Whoever makes a unit of this path again does not
/// get it.
pub(in crate::store) async fn leave_unit(c: &mut AnyConnection, unit: &UnitPath) -> Result<(), sqlx::Error> {
    let above = unit.parent().unwrap_or_else(UnitPath::root);
    let (length, begin) = find::below(unit);
    let query = sqlx::query(
        "UPDATE former_addresses SET unit = $4 WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3",
    );
    query.bind(unit.as_str()).bind(length).bind(begin).bind(above.as_str()).execute(c).await.map(drop)
}

impl Work<'_> {
    /// Takes an address into use in the unit `to`, unless the mail that is under it is not for whoever asks to open, or to
    /// have elsewhere.
    pub(super) async fn take_address(
        &mut self,
        (id, place, to): (&UserId, &Place, Option<&UnitPath>),
        former: Option<&Former>,
        (kind, take_over): (Kind, bool),
    ) -> Done {
        let Some(Former { kind: was, unit }) = former else { return Ok(()) };
        let opens_a_users = kind == Kind::Mailbox && *was == Kind::User;
        if let Some(top) = self.within() {
            let refused = |what: &str| {
                Err(EditError::OutOfReach { place: place.clone(), what: what.to_owned(), top: top.clone() }.into())
            };
            if !unit.as_ref().is_some_and(|unit| unit.is_within(top)) {
                return refused("would open the mail of a former user or shared mailbox that was not in this unit");
            }
            if opens_a_users && take_over {
                return refused("would open the mail of a former user");
            }
            if let (Some(from), Some(to)) = (unit, to) {
                self.keeps_home(place, from, to).await?;
            }
        }
        if opens_a_users && !take_over {
            return Err(EditError::Left { place: place.clone() }.into());
        }
        Ok(forget(self.tx, id).await?)
    }
}
