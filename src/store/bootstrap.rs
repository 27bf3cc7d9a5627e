//! The one-time secret that makes the first super admin, or an API token for one, while nobody administers yet. Called by
//! `serve` at start and by `admin`.

use std::time::Duration;

use sqlx::AnyConnection;

use super::{
    AccessError, ApiTokenId, AuditEvent, EditError, NewApiToken, Role, Store, StoreError, audit, edit,
    feed::Write,
    roles::{self, count},
    rows::Failed,
    tokens,
};
use crate::model::{Secret, UnixTime, UserId};

/// What a bootstrap secret starts with.
const PREFIX: &str = "pcb_";
/// Secrets that may be good at once: each node makes one when it starts.
const MOST: i64 = 16;

impl Store {
    /// Makes a bootstrap secret that is good for `lifetime`, while there is neither a super admin nor a live super API
    /// token; otherwise `None`. To be asked at every start, and printed once: only its hash is kept. Nodes that start
    /// together each have their own; the first one used ends them all.
    pub async fn make_bootstrap(&self, lifetime: Duration, now: UnixTime) -> Result<Option<Secret>, AccessError> {
        let secret = tokens::fresh(PREFIX)?;
        let mut write = Write::begin(self, "making a bootstrap secret").await?;
        if !put(&mut write.tx, &secret, lifetime, now).await.map_err(|error| write.failed(error))? {
            return Ok(None);
        }
        write.commit(now).await?;
        Ok(Some(secret))
    }

    /// Exchanges a bootstrap secret for a super admin's API token called `bootstrap` that lives until `expires_at`, with
    /// an audit row. Works once.
    ///
    /// Errors: [`AccessError::Bootstrap`] for a secret that is wrong, used or too old, or when somebody administers
    /// already, also in the audit log; to slow down guessing is the caller's business.
    pub async fn exchange_bootstrap(
        &self,
        secret: &Secret,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<(ApiTokenId, Secret), AccessError> {
        let new = NewApiToken { name: "bootstrap".into(), role: Role::Super, scopes: Vec::new(), expires_at };
        tokens::check(&new, now)?;
        let token = tokens::fresh(tokens::PREFIX)?;
        let mut write = Write::begin(self, "using a bootstrap secret").await?;
        let exchanged = exchange(&mut write.tx, secret, &new, &token, now).await;
        let Some(id) = exchanged.map_err(|error| write.failed(error))? else {
            drop(write);
            return Err(self.bootstrap_refused(None, now));
        };
        write.commit(now).await?;
        Ok((id, token))
    }

    /// Exchanges a bootstrap secret for the role of super admin, with an audit row; who is no user yet is made one of the
    /// root. Works once.
    ///
    /// Errors: as for [`Store::exchange_bootstrap`].
    pub async fn bootstrap_admin(&self, secret: &Secret, user: &UserId, now: UnixTime) -> Result<(), AccessError> {
        let mut write = Write::begin(self, "using a bootstrap secret").await?;
        let spent = spend(&mut write.tx, secret, now).await;
        if !spent.map_err(|error| write.failed(error))? {
            drop(write);
            return Err(self.bootstrap_refused(Some(user), now));
        }
        match edit::make_user(&mut write, user, "bootstrap", now).await {
            Ok(_) => {}
            Err(EditError::Store(error)) => return Err(error.into()),
            Err(other) => return Err(AccessError::Bad { field: "user", problem: other.to_string() }),
        }
        let put = roles::put(&mut write.tx, user, &Role::Super, "bootstrap", now).await;
        put.map_err(|error| write.failed(error))?;
        let mut event = AuditEvent::new(now, "role.changed", "done");
        event.user = Some(user.to_string());
        event.detail = Some(format!("by bootstrap: {} -> {}", Role::User, Role::Super));
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.commit(now).await?;
        Ok(())
    }

    /// Whether a bootstrap secret is good now: nobody administers yet.
    pub async fn bootstrap_waits(&self, now: UnixTime) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT hash FROM bootstrap_secrets WHERE expires_at > $1 LIMIT 1").bind(now.0);
        let found = query.fetch_optional(&self.pool).await;
        let found = found.map_err(|error| StoreError::sql("looking for bootstrap secrets", &self.path, error))?;
        Ok(found.is_some())
    }

    fn bootstrap_refused(&self, user: Option<&UserId>, now: UnixTime) -> AccessError {
        let mut event = AuditEvent::new(now, "bootstrap.refused", "no");
        event.reason = Some("bootstrap_secret".into());
        event.user = user.map(ToString::to_string);
        // Queued, not written here: guessing must not keep the database busy. Refused it is, told or not.
        let _ = self.audit(event);
        AccessError::Bootstrap
    }
}

async fn put(
    connection: &mut AnyConnection,
    secret: &Secret,
    lifetime: Duration,
    now: UnixTime,
) -> Result<bool, Failed> {
    let c = connection;
    lock(c).await?;
    if administered(c, now).await? {
        return Ok(false);
    }
    let sql = "DELETE FROM bootstrap_secrets WHERE expires_at <= $1 OR hash IN \
               (SELECT hash FROM bootstrap_secrets ORDER BY made_at DESC, hash LIMIT 1000 OFFSET $2)";
    sqlx::query(sql).bind(now.0).bind(MOST - 1).execute(&mut *c).await?;
    let query = sqlx::query("INSERT INTO bootstrap_secrets (hash, made_at, expires_at) VALUES ($1, $2, $3)");
    query.bind(tokens::digest_of(secret)).bind(now.0).bind((now + lifetime).0).execute(&mut *c).await?;
    let mut event = AuditEvent::new(now, "bootstrap.made", "done");
    event.detail = Some(format!("by the gateway at start: good until {}", now + lifetime));
    audit::insert(c, vec![event]).await?;
    Ok(true)
}

async fn exchange(
    connection: &mut AnyConnection,
    secret: &Secret,
    new: &NewApiToken,
    token: &Secret,
    now: UnixTime,
) -> Result<Option<ApiTokenId>, Failed> {
    if !spend(connection, secret, now).await? {
        return Ok(None);
    }
    tokens::put(connection, new, token, "bootstrap", now).await
}

/// Uses the secret up; false if it is not good.
async fn spend(connection: &mut AnyConnection, secret: &Secret, now: UnixTime) -> Result<bool, Failed> {
    let c = connection;
    let Some(hash) = tokens::hash(secret, PREFIX) else { return Ok(false) };
    lock(c).await?;
    if administered(c, now).await? {
        return Ok(false);
    }
    let query = sqlx::query("DELETE FROM bootstrap_secrets WHERE hash = $1 AND expires_at > $2");
    Ok(query.bind(hash).bind(now.0).execute(&mut *c).await?.rows_affected() > 0)
}

/// One at a time on every node, in step with changes of roles.
async fn lock(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE counters SET number = number + 1 WHERE name = 'role'");
    query.execute(connection).await.map(drop)
}

/// Whether somebody can give roles.
async fn administered(connection: &mut AnyConnection, now: UnixTime) -> Result<bool, sqlx::Error> {
    if count(connection, "SELECT count(*) FROM admins WHERE role = 'super'").await? > 0 {
        return Ok(true);
    }
    let query = sqlx::query("SELECT number FROM api_tokens WHERE role = 'super' AND expires_at > $1 LIMIT 1");
    Ok(query.bind(now.0).fetch_optional(connection).await?.is_some())
}

/// Ends every bootstrap secret.
pub(super) async fn forget(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bootstrap_secrets").execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::model::UnitPath;
    use crate::store::AuditFilter;
    use crate::store::tests::ground::{Ground, on_both};

    on_both! {
        a_bootstrap_secret_makes_one_super_token_once_and_its_like_are_dead_then;
        a_bootstrap_secret_makes_one_person_super_admin_and_a_user_where_they_are_none;
        a_bootstrap_secret_dies_of_age_and_of_the_first_super_admin;
        no_more_than_sixteen_bootstrap_secrets_wait_and_the_oldest_go_first;
    }

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    async fn refused(store: &Store, secret: &Secret, now: UnixTime) -> bool {
        matches!(store.exchange_bootstrap(secret, now + DAY, now).await, Err(AccessError::Bootstrap))
    }

    async fn a_bootstrap_secret_makes_one_super_token_once_and_its_like_are_dead_then(ground: Ground) {
        let settings = ground.settings();
        let (one, two) = (Store::open(&settings).await.unwrap(), Store::open(&settings).await.unwrap());
        let first = one.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        let second = two.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        assert!(first.reveal().starts_with("pcb_") && first.reveal().len() == 47);
        let guess = tokens::fresh(PREFIX).unwrap();
        assert!(refused(&one, &guess, NOW).await && refused(&one, &Secret::new("pcb_"), NOW).await);
        assert_eq!(one.find_api_token(&first, NOW).await.unwrap(), None, "it is no API token itself");

        let (id, token) = two.exchange_bootstrap(&first, NOW + DAY, NOW).await.unwrap();
        let found = one.find_api_token(&token, NOW).await.unwrap().unwrap();
        assert_eq!((found.id, found.role, found.made_by.as_str()), (id, Role::Super, "bootstrap"));
        assert!(refused(&one, &first, NOW).await && refused(&one, &second, NOW).await, "used is used");
        assert_eq!(one.make_bootstrap(DAY, NOW).await.unwrap(), None);
        one.flush().await.unwrap();
        let told = one.audit_recent(&AuditFilter::default()).await.unwrap();
        let mut told: Vec<_> = told.iter().map(|row| &*row.event).collect();
        told.sort_unstable();
        let no = "bootstrap.refused";
        assert_eq!(told, ["api_token.made", "bootstrap.made", "bootstrap.made", no, no, no, no]);

        // Who lost the only way in gets a new one at the next start.
        assert!(one.make_bootstrap(DAY, NOW + DAY).await.unwrap().is_some());
    }

    async fn a_bootstrap_secret_makes_one_person_super_admin_and_a_user_where_they_are_none(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let (ann, bea) = (UserId::parse("ann@example.com").unwrap(), UserId::parse("bea@example.com").unwrap());
        assert!(!store.bootstrap_waits(NOW).await.unwrap());
        let secret = store.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        let other = store.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        assert!(store.bootstrap_waits(NOW).await.unwrap() && !store.bootstrap_waits(NOW + DAY).await.unwrap());
        let guess = tokens::fresh(PREFIX).unwrap();
        for (wrong, at) in [(&guess, NOW), (&secret, NOW + DAY)] {
            let error = store.bootstrap_admin(wrong, &ann, at).await.unwrap_err();
            assert!(matches!(error, AccessError::Bootstrap), "{error}");
        }
        assert_eq!(store.role_of(&ann).await.unwrap(), Role::User);
        store.bootstrap_admin(&secret, &ann, NOW).await.unwrap();
        assert_eq!(store.role_of(&ann).await.unwrap(), Role::Super);
        assert_eq!(store.read(|directory| directory.unit_of(&ann)), Some(UnitPath::root()));
        for used in [&secret, &other] {
            let error = store.bootstrap_admin(used, &bea, NOW).await.unwrap_err();
            assert!(matches!(error, AccessError::Bootstrap), "{error}");
        }
        assert_eq!(store.role_of(&bea).await.unwrap(), Role::User);
        let filter = AuditFilter { user: Some("ann@example.com".into()), ..AuditFilter::default() };
        let told = store.audit_recent(&filter).await.unwrap();
        let role = told.iter().find(|row| row.event == "role.changed").unwrap();
        assert_eq!(role.detail.as_deref(), Some("by bootstrap: user -> super"));
    }

    async fn a_bootstrap_secret_dies_of_age_and_of_the_first_super_admin(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let secret = store.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        assert!(refused(&store, &secret, NOW + DAY).await);
        let secret = store.make_bootstrap(DAY, NOW).await.unwrap().unwrap();
        let root = UserId::parse("root@example.com").unwrap();
        store.set_role(&root, &Role::Auditor, "file", NOW).await.unwrap();
        assert!(store.make_bootstrap(DAY, NOW).await.unwrap().is_some(), "an auditor cannot give roles");
        store.set_role(&root, &Role::Super, "file", NOW).await.unwrap();
        assert!(refused(&store, &secret, NOW).await);
        assert_eq!(store.make_bootstrap(DAY, NOW).await.unwrap(), None);
        assert_eq!(store.api_tokens().await.unwrap(), []);
    }

    async fn no_more_than_sixteen_bootstrap_secrets_wait_and_the_oldest_go_first(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let mut secrets = Vec::new();
        for second in 0..17 {
            let at = NOW + Duration::from_secs(second);
            secrets.push(store.make_bootstrap(DAY, at).await.unwrap().unwrap());
        }
        assert!(refused(&store, &secrets[0], NOW + Duration::from_secs(20)).await);
        store.exchange_bootstrap(&secrets[1], NOW + DAY, NOW + Duration::from_secs(20)).await.unwrap();
    }
}
