//! Who administers: the people who are super admin, admin of a subtree, or auditor. Called by `admin`, which asks on
//! every request, so that a role that is taken away has no afterlife.

use std::fmt;

use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{AuditEvent, Store, StoreError, audit, bootstrap, feed::Write, rows::Failed};
use crate::model::{UnitPath, UnixTime, UserId};

/// Most people with a role other than `user`.
pub(super) const MOST: i64 = 10_000;

/// What somebody may do through the API and the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, everywhere; the only role that gives roles.
    Super,
    /// Reads and changes this unit and what is below it; neither sees nor touches anything else.
    Admin(UnitPath),
    /// Looks after which apps have access, in this unit and below it: reads and changes grants and notices there, and
    /// nothing else. Is told when an app is cut off from a shared mailbox of these units, as super admins and admins are.
    AccountAccess(UnitPath),
    /// Reads everything, changes nothing.
    Auditor,
    /// Their own page. Everybody's role who has no other.
    User,
}

impl Role {
    /// The word kept in the database and shown to people: `super`, `admin`, `account_access`, `auditor`, `user`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Super => "super",
            Self::Admin(_) => "admin",
            Self::AccountAccess(_) => "account_access",
            Self::Auditor => "auditor",
            Self::User => "user",
        }
    }

    /// The subtree that the role is for.
    pub const fn unit(&self) -> Option<&UnitPath> {
        match self {
            Self::Admin(unit) | Self::AccountAccess(unit) => Some(unit),
            Self::Super | Self::Auditor | Self::User => None,
        }
    }

    /// Whether it reaches what is outside this unit: whoever has it is then not for an admin of the unit to suspend or move.
    pub fn reaches_beyond(&self, top: &UnitPath) -> bool {
        match self {
            Self::Super | Self::Auditor => true,
            Self::Admin(unit) | Self::AccountAccess(unit) => !unit.is_within(top),
            Self::User => false,
        }
    }

    /// Reads the word that [`Role::word`] writes. `admin` and `account_access` need a unit and no other role has
    /// one; `None` otherwise.
    pub fn from_word(word: &str, unit: Option<UnitPath>) -> Option<Self> {
        match (word, unit) {
            ("super", None) => Some(Self::Super),
            ("admin", Some(unit)) => Some(Self::Admin(unit)),
            ("account_access", Some(unit)) => Some(Self::AccountAccess(unit)),
            ("auditor", None) => Some(Self::Auditor),
            ("user", None) => Some(Self::User),
            _ => None,
        }
    }

    /// Two columns: `role, unit`.
    pub(super) fn from_columns(row: &AnyRow, role: usize) -> Result<Self, Failed> {
        let word: String = row.try_get(role)?;
        let unit = row.try_get::<Option<String>, _>(role + 1)?.map(|unit| UnitPath::parse(&unit)).transpose()?;
        let bad = || Failed::Bad(format!("a role is {word:?}, or its unit is amiss"));
        Self::from_word(&word, unit).ok_or_else(bad)
    }
}

/// `super`, `admin of /Sales`, ...
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(unit) => write!(f, "admin of {unit}"),
            Self::AccountAccess(unit) => write!(f, "account-access admin of {unit}"),
            other => f.write_str(other.word()),
        }
    }
}

/// A person with a role other than `user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Who gave it.
    pub changed_by: String,
    /// When.
    pub changed_at: UnixTime,
}

/// Why a change of who may use the API was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A value cannot be taken.
    #[error("{field}: {problem}")]
    Bad {
        /// `name`, `role`, `scopes`, `expires_at`.
        field: &'static str,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// Without them nobody could give roles any more.
    #[error("{user} is the last super admin: make another person super admin first")]
    LastSuper {
        /// Who.
        user: UserId,
    },
    /// As many as there may be.
    #[error("there are {most} {what} already, which is the limit: remove some first")]
    Full {
        /// `API tokens` or `people with a role`.
        what: &'static str,
        /// The limit.
        most: i64,
    },
    /// The bootstrap secret is wrong, used, too old, or not needed any more; one text for all.
    #[error(
        "the bootstrap link is not good: it works once, for a limited time, and only while nobody administers yet; \
         start Portcullis anew for a fresh one"
    )]
    Bootstrap,
    /// The system gives no random bytes.
    #[error("no random bytes from the system: nothing secret can be made")]
    Random,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The role of a person; everybody has at least [`Role::User`].
    pub async fn role_of(&self, user: &UserId) -> Result<Role, StoreError> {
        let query = sqlx::query("SELECT role, unit FROM admins WHERE address = $1").bind(user.as_str());
        let failed = |error: Failed| error.at("reading a role", &self.path);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| failed(error.into()))?;
        row.map_or(Ok(Role::User), |row| Role::from_columns(&row, 0).map_err(failed))
    }

    /// Everybody with a role other than [`Role::User`], by address; at most 10,000.
    pub async fn admins(&self) -> Result<Vec<Admin>, StoreError> {
        let failed = |error: Failed| error.at("reading the admins", &self.path);
        let sql = "SELECT address, role, unit, changed_by, changed_at FROM admins ORDER BY address LIMIT $1";
        let rows = sqlx::query(sql).bind(MOST).fetch_all(&self.pool).await.map_err(|error| failed(error.into()))?;
        rows.iter().map(admin).collect::<Result<_, _>>().map_err(failed)
    }

    /// Gives a person a role, with an audit row; [`Role::User`] takes any other away. `by` is who does it, for the audit
    /// log. Says whether that was a change. The first super admin ends every bootstrap link.
    ///
    /// Errors: the last super admin stays one; there are at most 10,000 people with a role.
    pub async fn set_role(&self, user: &UserId, role: &Role, by: &str, now: UnixTime) -> Result<bool, AccessError> {
        let mut write = Write::begin(self, "changing a role").await?;
        let outcome = put(&mut write.tx, user, role, by, now).await;
        let before = match outcome.map_err(|error| write.failed(error))? {
            Put::Same => return Ok(false),
            Put::LastSuper => return Err(AccessError::LastSuper { user: user.clone() }),
            Put::Full => return Err(AccessError::Full { what: "people with a role", most: MOST }),
            Put::Done { before } => before,
        };
        let inserted = audit::insert(&mut write.tx, vec![told(user, (&before, role), by, now)]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.commit(now).await?;
        Ok(true)
    }
}

pub(super) enum Put {
    Same,
    LastSuper,
    Full,
    Done { before: Role },
}

pub(super) async fn put(
    connection: &mut AnyConnection,
    user: &UserId,
    role: &Role,
    by: &str,
    now: UnixTime,
) -> Result<Put, Failed> {
    let c = connection;
    if *role == Role::User {
        return end(c, user).await;
    }
    one_at_a_time(c).await?;
    let before = of(c, user).await?;
    if before == *role {
        return Ok(Put::Same);
    }
    if before == Role::Super && is_one_super(c).await? {
        return Ok(Put::LastSuper);
    }
    if before == Role::User && count(c, "SELECT count(*) FROM admins").await? >= MOST {
        return Ok(Put::Full);
    }
    let query = sqlx::query(
        "INSERT INTO admins (address, role, unit, changed_by, changed_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (address) DO UPDATE SET role = excluded.role, unit = excluded.unit, \
         changed_by = excluded.changed_by, changed_at = excluded.changed_at",
    );
    let query = query.bind(user.as_str()).bind(role.word()).bind(role.unit().map(UnitPath::as_str));
    query.bind(by).bind(now.0).execute(&mut *c).await?;
    if *role == Role::Super {
        bootstrap::forget(c).await?;
    }
    Ok(Put::Done { before })
}

/// Takes the role of a person away: because somebody wants it so, or because the person is being removed, in the same
/// transaction. Never [`Put::Full`].
pub(super) async fn end(connection: &mut AnyConnection, user: &UserId) -> Result<Put, Failed> {
    let c = connection;
    // Most people have none.
    if of(c, user).await? == Role::User {
        return Ok(Put::Same);
    }
    one_at_a_time(c).await?;
    let before = of(c, user).await?;
    if before == Role::Super && is_one_super(c).await? {
        return Ok(Put::LastSuper);
    }
    sqlx::query("DELETE FROM admins WHERE address = $1").bind(user.as_str()).execute(&mut *c).await?;
    Ok(if before == Role::User { Put::Same } else { Put::Done { before } })
}

/// The role of a person, in a transaction.
pub(super) async fn of(connection: &mut AnyConnection, user: &UserId) -> Result<Role, Failed> {
    let query = sqlx::query("SELECT role, unit FROM admins WHERE address = $1").bind(user.as_str());
    query.fetch_optional(connection).await?.map_or(Ok(Role::User), |row| Role::from_columns(&row, 0))
}

/// The audit row of a role that was changed.
pub(super) fn told(user: &UserId, (before, role): (&Role, &Role), by: &str, now: UnixTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, "role.changed", "done");
    event.user = Some(user.to_string());
    event.unit = role.unit().or(before.unit()).map(ToString::to_string);
    event.detail = Some(format!("by {by}: {before} -> {role}"));
    event
}

/// One change of a role at a time, on every node: two super admins who remove each other must not both succeed.
async fn one_at_a_time(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE counters SET number = number + 1 WHERE name = 'role'");
    query.execute(connection).await.map(drop)
}

async fn is_one_super(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    Ok(count(connection, "SELECT count(*) FROM admins WHERE role = 'super'").await? < 2)
}

pub(super) async fn count(connection: &mut AnyConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

fn admin(row: &AnyRow) -> Result<Admin, Failed> {
    Ok(Admin {
        user: UserId::parse(row.try_get(0)?)?,
        role: Role::from_columns(row, 1)?,
        changed_by: row.try_get(3)?,
        changed_at: UnixTime(row.try_get(4)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::store::AuditFilter;
    use crate::store::tests::ground::{Ground, on_both};

    on_both! {
        a_role_is_given_changed_and_taken_away_and_each_is_in_the_audit_log_with_who_did_it;
        the_last_super_admin_stays_one_even_when_two_remove_each_other;
    }

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn user(name: &str) -> UserId {
        UserId::parse(&format!("{name}@example.com")).unwrap()
    }

    fn sales() -> Role {
        Role::Admin(UnitPath::parse("/Sales").unwrap())
    }

    #[test]
    fn a_role_is_a_word_and_only_an_admin_has_a_unit() {
        let unit = || UnitPath::parse("/Sales").ok();
        let access = Role::AccountAccess(unit().unwrap());
        for role in [Role::Super, sales(), access, Role::Auditor, Role::User] {
            assert_eq!(Role::from_word(role.word(), role.unit().cloned()), Some(role));
        }
        for (word, unit) in [
            ("super", unit()),
            ("auditor", unit()),
            ("user", unit()),
            ("admin", None),
            ("account_access", None),
            ("root", None),
        ] {
            assert_eq!(Role::from_word(word, unit), None, "{word}");
        }
    }

    async fn a_role_is_given_changed_and_taken_away_and_each_is_in_the_audit_log_with_who_did_it(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let ann = user("ann");
        assert_eq!(store.role_of(&ann).await.unwrap(), Role::User);
        assert!(store.set_role(&ann, &sales(), "root@example.com", NOW).await.unwrap());
        assert!(!store.set_role(&ann, &sales(), "root@example.com", NOW).await.unwrap(), "nothing to change");
        assert_eq!(store.role_of(&ann).await.unwrap(), sales());
        assert!(store.set_role(&user("bob"), &Role::Auditor, "ann@example.com", NOW).await.unwrap());
        let admins = store.admins().await.unwrap();
        let found: Vec<_> = admins.iter().map(|admin| (admin.user.as_str(), admin.role.to_string())).collect();
        assert_eq!(
            found,
            [("ann@example.com", "admin of /Sales".to_owned()), ("bob@example.com", "auditor".to_owned())]
        );
        assert_eq!((admins[1].changed_by.as_str(), admins[1].changed_at), ("ann@example.com", NOW));

        assert!(store.set_role(&ann, &Role::User, "bob@example.com", NOW).await.unwrap());
        assert_eq!(store.role_of(&ann).await.unwrap(), Role::User);
        let filter = AuditFilter { user: Some("ann@example.com".into()), ..AuditFilter::default() };
        let told = store.audit_recent(&filter).await.unwrap();
        let told: Vec<_> = told.iter().map(|row| (&*row.event, row.detail.as_deref().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("role.changed", "by bob@example.com: admin of /Sales -> user"),
                ("role.changed", "by root@example.com: user -> admin of /Sales")
            ]
        );
    }

    async fn the_last_super_admin_stays_one_even_when_two_remove_each_other(ground: Ground) {
        let settings = ground.settings();
        let (one, two) = (Store::open(&settings).await.unwrap(), Store::open(&settings).await.unwrap());
        let (ann, bob) = (user("ann"), user("bob"));
        one.set_role(&ann, &Role::Super, "bootstrap", NOW).await.unwrap();
        for role in [Role::User, Role::Auditor, sales()] {
            let error = one.set_role(&ann, &role, "ann@example.com", NOW).await.unwrap_err();
            assert!(matches!(&error, AccessError::LastSuper { user } if *user == ann), "{error}");
        }
        two.set_role(&bob, &Role::Super, "ann@example.com", NOW).await.unwrap();
        let (first, second) = tokio::join!(
            one.set_role(&ann, &Role::User, "bob@example.com", NOW),
            two.set_role(&bob, &Role::User, "ann@example.com", NOW)
        );
        assert_ne!(first.is_ok(), second.is_ok(), "{first:?}, {second:?}");
        assert_eq!(one.admins().await.unwrap().len(), 1);
    }
}
