//! API tokens: secrets of programs that use the API, kept as hashes. Called by `admin`.

use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{AnyConnection, Row, any::AnyRow};
use zeroize::Zeroize;

use super::{AccessError, AuditEvent, Role, Store, StoreError, audit, bootstrap, feed::Write, roles, rows::Failed};
use crate::model::{Secret, UnixTime};

/// What an API token starts with, so that people and scanners of source code know one when they see it.
pub(super) const PREFIX: &str = "pct_";
/// Most API tokens, expired ones included until they are cleared away.
const MOST: i64 = 1_000;
/// Longest life of a token.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Expired tokens are listed for so long.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// `last_used_at` is that exact: one write for all uses in this span.
const COARSE: Duration = Duration::from_secs(300);
/// Most scopes of a token.
const SCOPES: usize = 32;
/// Longest scope, in bytes.
const SCOPE_BYTES: usize = 64;
/// Longest name, in characters.
const NAME_CHARS: usize = 100;

/// An API token's row in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiTokenId(pub i64);

/// An API token, without its secret, which nobody has but its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its number; never used again for another.
    pub id: ApiTokenId,
    /// What people call it.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// What its bearer may do of that, as words for `admin` to read; none: all of it.
    pub scopes: Vec<String>,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: UnixTime,
    /// From this moment on it is not good any more.
    pub expires_at: UnixTime,
    /// When it was last used, to about five minutes.
    pub last_used_at: Option<UnixTime>,
}

/// What an API token is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiToken {
    /// What people call it: 1 to 100 characters, no control characters.
    pub name: String,
    /// Any role but [`Role::User`]: a person's own page is for that person's own token.
    pub role: Role,
    /// At most 32 different words of 1 to 64 small letters, digits and `_.:-`; none: all that the role may.
    pub scopes: Vec<String>,
    /// Later than now, by at most 366 days.
    pub expires_at: UnixTime,
}

impl Store {
    /// Makes an API token, with an audit row. The secret, `pct_` and 43 characters of base64url (32 random bytes), is
    /// returned this once and kept nowhere. `by` is who makes it; that they may give away that role is the caller's to
    /// check. A first super token ends every bootstrap link.
    ///
    /// Errors: a value out of its bounds, 1,000 tokens already, the database.
    pub async fn make_api_token(
        &self,
        new: &NewApiToken,
        by: &str,
        now: UnixTime,
    ) -> Result<(ApiTokenId, Secret), AccessError> {
        check(new, now)?;
        let secret = fresh(PREFIX)?;
        let mut write = Write::begin(self, "making an API token").await?;
        let number = put(&mut write.tx, new, &secret, by, now).await.map_err(|error| write.failed(error))?;
        let Some(id) = number else { return Err(AccessError::Full { what: "API tokens", most: MOST }) };
        write.commit(now).await?;
        Ok((id, secret))
    }

    /// The live API token with this secret. A wrong, revoked or expired one is `None`.
    ///
    /// The database is searched for the secret's SHA-256: how long that takes may tell something of the hash, which
    /// tells nobody the 256 random bits it was made from.
    pub async fn find_api_token(&self, secret: &Secret, now: UnixTime) -> Result<Option<ApiToken>, StoreError> {
        let Some(hash) = hash(secret, PREFIX) else { return Ok(None) };
        let failed = |error: Failed| error.at("looking an API token up", &self.path);
        let sql = "SELECT number, name, role, unit, scopes, made_by, made_at, expires_at, last_used_at \
                   FROM api_tokens WHERE hash = $1 AND expires_at > $2";
        let query = sqlx::query(sql).bind(hash).bind(now.0);
        let row = query.fetch_optional(&self.pool).await.map_err(|error| failed(error.into()))?;
        let Some(row) = row else { return Ok(None) };
        let token = read(&row).map_err(failed)?;
        if token.last_used_at.is_none_or(|used| used.until(now) >= COARSE) {
            self.note_use(token.id, now).await;
        }
        Ok(Some(token))
    }

    /// While something else is written, this waits for the next use.
    async fn note_use(&self, id: ApiTokenId, now: UnixTime) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        let query = sqlx::query("UPDATE api_tokens SET last_used_at = $1 WHERE number = $2").bind(now.0).bind(id.0);
        if let Err(error) = query.execute(&self.pool).await {
            tracing::warn!(token = id.0, %error, "could not note that an API token was used");
        }
    }

    /// Every API token, oldest first, at most 1,000; expired ones for 30 days more.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let failed = |error: Failed| error.at("reading the API tokens", &self.path);
        let sql = "SELECT number, name, role, unit, scopes, made_by, made_at, expires_at, last_used_at \
                   FROM api_tokens ORDER BY number LIMIT $1";
        let rows = sqlx::query(sql).bind(MOST).fetch_all(&self.pool).await.map_err(|error| failed(error.into()))?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }

    /// Ends an API token at once, with an audit row; returns what it was, `None` if there is none with that number.
    /// That `by` may do so is the caller's to check.
    pub async fn revoke_api_token(
        &self,
        id: ApiTokenId,
        by: &str,
        now: UnixTime,
    ) -> Result<Option<ApiToken>, StoreError> {
        let mut write = Write::begin(self, "revoking an API token").await?;
        let sql = "DELETE FROM api_tokens WHERE number = $1 \
                   RETURNING number, name, role, unit, scopes, made_by, made_at, expires_at, last_used_at";
        let gone = sqlx::query(sql).bind(id.0).fetch_optional(&mut *write.tx).await;
        let Some(row) = gone.map_err(|error| write.failed(error))? else { return Ok(None) };
        let token = read(&row).map_err(|error| write.failed(error))?;
        let event = event("api_token.revoked", id, &token.name, &token.role, by, now);
        let inserted = audit::insert(&mut write.tx, vec![event]).await;
        inserted.map_err(|error| write.failed(error))?;
        write.commit(now).await?;
        Ok(Some(token))
    }
}

/// Refuses what is out of bounds.
pub(super) fn check(new: &NewApiToken, now: UnixTime) -> Result<(), AccessError> {
    let bad = |field, problem: &str| Err(AccessError::Bad { field, problem: problem.to_owned() });
    let length = new.name.chars().count();
    if length == 0 || length > NAME_CHARS || new.name.trim() != new.name || new.name.chars().any(char::is_control) {
        return bad("name", "write 1 to 100 characters, no control characters, no white space at the ends");
    }
    if new.role == Role::User {
        return bad(
            "role",
            "an API token is super, admin or auditor; a person's own page takes that person's token",
        );
    }
    if new.scopes.len() > SCOPES {
        return bad("scopes", "write at most 32");
    }
    for (place, scope) in new.scopes.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.:-".contains(&b);
        if scope.is_empty() || scope.len() > SCOPE_BYTES || !scope.bytes().all(plain) {
            return bad("scopes", "write each with 1 to 64 small letters, digits and _ . : -");
        }
        if new.scopes.iter().take(place).any(|earlier| earlier == scope) {
            return bad("scopes", "write each once");
        }
    }
    if new.expires_at <= now || new.expires_at > now + LONGEST {
        return bad("expires_at", "choose a moment within the next 366 days");
    }
    Ok(())
}

/// Writes a checked token and its audit row; `None` if there are as many as there may be.
pub(super) async fn put(
    connection: &mut AnyConnection,
    new: &NewApiToken,
    secret: &Secret,
    by: &str,
    now: UnixTime,
) -> Result<Option<ApiTokenId>, Failed> {
    let c = connection;
    // First, so that two nodes do this one after the other and the limit holds.
    let next = sqlx::query("UPDATE counters SET number = number + 1 WHERE name = 'api_token' RETURNING number");
    let number: i64 = next.fetch_one(&mut *c).await?.try_get(0)?;
    clear(c, now).await?;
    if roles::count(c, "SELECT count(*) FROM api_tokens").await? >= MOST {
        return Ok(None);
    }
    sqlx::query(
        "INSERT INTO api_tokens (number, hash, name, role, unit, scopes, made_by, made_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(number)
    .bind(digest_of(secret))
    .bind(&new.name)
    .bind(new.role.word())
    .bind(new.role.unit().map(ToString::to_string))
    .bind(new.scopes.join("\n"))
    .bind(by)
    .bind(now.0)
    .bind(new.expires_at.0)
    .execute(&mut *c)
    .await?;
    if new.role == Role::Super {
        bootstrap::forget(c).await?;
    }
    let id = ApiTokenId(number);
    let mut event = event("api_token.made", id, &new.name, &new.role, by, now);
    let detail = event.detail.unwrap_or_default();
    event.detail = Some(format!("{detail}, until {}, scopes {:?}", new.expires_at, new.scopes));
    audit::insert(c, vec![event]).await?;
    Ok(Some(id))
}

/// Clears away what expired long ago.
async fn clear(connection: &mut AnyConnection, now: UnixTime) -> Result<(), sqlx::Error> {
    let query = sqlx::query("DELETE FROM api_tokens WHERE expires_at <= $1").bind((now - KEPT).0);
    query.execute(connection).await.map(drop)
}

pub(super) fn event(
    what: &'static str,
    id: ApiTokenId,
    name: &str,
    role: &Role,
    by: &str,
    now: UnixTime,
) -> AuditEvent {
    let mut event = AuditEvent::new(now, what, "done");
    event.unit = role.unit().map(ToString::to_string);
    event.detail = Some(format!("by {by}: token {} {name:?}, {role}", id.0));
    event
}

fn read(row: &AnyRow) -> Result<ApiToken, Failed> {
    Ok(ApiToken {
        id: ApiTokenId(row.try_get(0)?),
        name: row.try_get(1)?,
        role: Role::from_columns(row, 2)?,
        scopes: row.try_get::<String, _>(4)?.lines().map(str::to_owned).collect(),
        made_by: row.try_get(5)?,
        made_at: UnixTime(row.try_get(6)?),
        expires_at: UnixTime(row.try_get(7)?),
        last_used_at: row.try_get::<Option<i64>, _>(8)?.map(UnixTime),
    })
}

/// A new secret: the prefix and 32 random bytes.
pub(super) fn fresh(prefix: &str) -> Result<Secret, AccessError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| AccessError::Random)?;
    let mut text = String::with_capacity(prefix.len() + 43);
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    bytes.zeroize();
    Ok(Secret::new(text))
}

/// The hash under which a secret is kept; `None` for what does not look like one.
pub(super) fn hash(secret: &Secret, prefix: &str) -> Option<String> {
    let rest = secret.reveal().strip_prefix(prefix)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (rest.len() == 43 && rest.bytes().all(plain)).then(|| digest_of(secret))
}

/// The hexadecimal SHA-256. No salt and no slow hash: nobody guesses 256 random bits.
pub(super) fn digest_of(secret: &Secret) -> String {
    let digest = digest::digest(&digest::SHA256, secret.reveal().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::model::UnitPath;
    use crate::store::AuditFilter;
    use crate::store::tests::ground::{Ground, on_both};

    on_both! {
        a_token_is_found_by_its_secret_until_it_expires_and_the_secret_is_nowhere_in_the_database;
        a_revoked_token_is_dead_at_once_on_every_node_and_its_number_is_not_used_again;
        the_last_use_is_noted_to_five_minutes;
        what_is_out_of_bounds_is_refused_by_name_and_changes_nothing;
        there_are_so_many_tokens_at_most_and_long_expired_ones_make_room;
    }

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn new(name: &str) -> NewApiToken {
        let role = Role::Admin(UnitPath::parse("/Sales").unwrap());
        NewApiToken {
            name: name.into(),
            role,
            scopes: vec!["users:read".into(), "grants:write".into()],
            expires_at: NOW + DAY,
        }
    }

    async fn a_token_is_found_by_its_secret_until_it_expires_and_the_secret_is_nowhere_in_the_database(
        ground: Ground,
    ) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let (id, secret) = store.make_api_token(&new("backup"), "root@example.com", NOW).await.unwrap();
        let (other, second) = store.make_api_token(&new("backup"), "root@example.com", NOW).await.unwrap();
        assert_ne!((id, secret.reveal()), (other, second.reveal()));
        assert!(secret.reveal().starts_with("pct_") && secret.reveal().len() == 47);

        let found = store.find_api_token(&secret, NOW).await.unwrap().unwrap();
        assert_eq!((found.id, found.role, found.scopes), (id, new("").role, new("").scopes));
        assert_eq!((found.made_by.as_str(), found.made_at, found.expires_at), ("root@example.com", NOW, NOW + DAY));
        let last = NOW + DAY - Duration::from_millis(1);
        assert!(store.find_api_token(&secret, last).await.unwrap().is_some());
        assert_eq!(store.find_api_token(&secret, NOW + DAY).await.unwrap(), None, "expired");
        let mut wrong = secret.reveal().to_owned();
        let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
        wrong.push(last);
        for wrong in [wrong.as_str(), "", "pct_", &secret.reveal()[4..], "pct_%' OR 1=1 --"] {
            assert_eq!(store.find_api_token(&Secret::new(wrong), NOW).await.unwrap(), None, "{wrong}");
        }

        let told = store.audit_recent(&AuditFilter::default()).await.unwrap();
        assert_eq!((told.len(), &*told[0].event, told[0].unit.as_deref()), (2, "api_token.made", Some("/Sales")));
        let detail = told[1].detail.as_deref().unwrap();
        assert!(detail.starts_with("by root@example.com: token 1 \"backup\", admin of /Sales, until"), "{detail}");
        store.close().await.unwrap();
        for file in std::fs::read_dir(ground.dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let text = &secret.reveal().as_bytes()[4..];
            assert!(!bytes.windows(text.len()).any(|window| window == text));
        }
    }

    async fn a_revoked_token_is_dead_at_once_on_every_node_and_its_number_is_not_used_again(ground: Ground) {
        let settings = ground.settings();
        let (one, two) = (Store::open(&settings).await.unwrap(), Store::open(&settings).await.unwrap());
        let (id, secret) = one.make_api_token(&new("a"), "root@example.com", NOW).await.unwrap();
        assert!(two.find_api_token(&secret, NOW).await.unwrap().is_some());
        let gone = one.revoke_api_token(id, "ann@example.com", NOW).await.unwrap().unwrap();
        assert_eq!((gone.id, gone.name.as_str()), (id, "a"));
        assert_eq!(two.find_api_token(&secret, NOW).await.unwrap(), None);
        assert_eq!(one.revoke_api_token(id, "ann@example.com", NOW).await.unwrap(), None);
        let told = one.audit_recent(&AuditFilter::default()).await.unwrap();
        assert_eq!(&*told[0].event, "api_token.revoked");
        assert_eq!(told[0].detail.as_deref(), Some("by ann@example.com: token 1 \"a\", admin of /Sales"));
        let (next, _) = one.make_api_token(&new("b"), "root@example.com", NOW).await.unwrap();
        assert!(next > id);
    }

    async fn the_last_use_is_noted_to_five_minutes(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let (_, secret) = store.make_api_token(&new("a"), "root@example.com", NOW).await.unwrap();
        let noted = async |at: u64| {
            store.find_api_token(&secret, NOW + Duration::from_secs(at)).await.unwrap().unwrap();
            let used = store.api_tokens().await.unwrap()[0].last_used_at.unwrap();
            NOW.until(used).as_secs()
        };
        assert_eq!(store.api_tokens().await.unwrap()[0].last_used_at, None);
        for (at, expected) in [(10, 10), (309, 10), (310, 310), (311, 310)] {
            assert_eq!(noted(at).await, expected, "used at {at}");
        }
    }

    async fn what_is_out_of_bounds_is_refused_by_name_and_changes_nothing(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let many = |count: usize| (0..count).map(|place| format!("s{place}")).collect::<Vec<_>>();
        let table: [(&str, NewApiToken, &str); 12] = [
            ("no name", NewApiToken { name: String::new(), ..new("") }, "name"),
            ("a long name", new(&"ä".repeat(101)), "name"),
            ("a name with a line end", new("a\nb"), "name"),
            ("a name that ends in a blank", new("a "), "name"),
            ("a user's role", NewApiToken { role: Role::User, ..new("a") }, "role"),
            ("a capital", NewApiToken { scopes: vec!["Users".into()], ..new("a") }, "scopes"),
            ("an empty scope", NewApiToken { scopes: vec![String::new()], ..new("a") }, "scopes"),
            ("a scope twice", NewApiToken { scopes: vec!["a".into(), "a".into()], ..new("a") }, "scopes"),
            ("a long scope", NewApiToken { scopes: vec!["a".repeat(65)], ..new("a") }, "scopes"),
            ("33 scopes", NewApiToken { scopes: many(33), ..new("a") }, "scopes"),
            ("no life", NewApiToken { expires_at: NOW, ..new("a") }, "expires_at"),
            ("a long life", NewApiToken { expires_at: UnixTime((NOW + LONGEST).0 + 1), ..new("a") }, "expires_at"),
        ];
        for (name, new, expected) in table {
            let error = store.make_api_token(&new, "root@example.com", NOW).await.unwrap_err();
            assert!(matches!(error, AccessError::Bad { field, .. } if field == expected), "{name}: {error}");
        }
        assert!(store.api_tokens().await.unwrap().is_empty());
        let most = NewApiToken { scopes: many(32), expires_at: NOW + LONGEST, ..new(&"ä".repeat(100)) };
        store.make_api_token(&most, "root@example.com", NOW).await.unwrap();
    }

    async fn there_are_so_many_tokens_at_most_and_long_expired_ones_make_room(ground: Ground) {
        let store = Store::open(&ground.settings()).await.unwrap();
        let fill = "INSERT INTO api_tokens (number, hash, name, role, scopes, made_by, made_at, expires_at) \
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                    SELECT -i, 'h' || i, 'x', 'auditor', '', 'x', 0, $1 FROM n";
        sqlx::query(fill).bind((NOW + DAY).0).execute(&store.pool).await.unwrap();
        let error = store.make_api_token(&new("a"), "root@example.com", NOW).await.unwrap_err();
        assert!(matches!(error, AccessError::Full { most: 1000, .. }), "{error}");
        let later = NOW + DAY + KEPT;
        let next = NewApiToken { expires_at: later + DAY, ..new("a") };
        store.make_api_token(&next, "root@example.com", later).await.unwrap();
        assert_eq!(store.api_tokens().await.unwrap().len(), 1);
    }
}
