//! The tables, as migrations of one embedded list: the same text for SQLite and PostgreSQL. Only BIGINT and TEXT;
//! times are milliseconds since 1970, flags 0 or 1, lists one TEXT. A released migration is never edited.
//!
//! PostgreSQL would sort TEXT by the rules of some language, which change with its libraries; there the word `TEXT` is
//! written as `TEXT COLLATE "C"`: bytes, as SQLite compares them. So a migration uses that word for types of columns only.
//!
//! `managed_by` says who keeps a row: `file` for `policy.toml`; rows of others are not the file's to remove.

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, MigrationType},
};

use super::Location;

/// Settings (`imap`, `pop`): NULL inherits, `off`, `any`, `only:id,id`; `*_until` is when they end.
const FIRST: &str = "
CREATE TABLE portcullis (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, number BIGINT NOT NULL);
INSERT INTO counters (name, number) VALUES ('change', 0), ('audit', 0), ('grant', 0);
CREATE TABLE changes (number BIGINT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, at BIGINT NOT NULL);
CREATE TABLE units (
    path TEXT PRIMARY KEY, imap TEXT, imap_until BIGINT, pop TEXT, pop_until BIGINT, managed_by TEXT NOT NULL);
CREATE TABLE user_groups (
    name TEXT PRIMARY KEY, priority BIGINT NOT NULL,
    imap TEXT, imap_until BIGINT, pop TEXT, pop_until BIGINT, managed_by TEXT NOT NULL);
CREATE TABLE users (
    address TEXT PRIMARY KEY, unit TEXT NOT NULL, suspended BIGINT NOT NULL,
    imap TEXT, imap_until BIGINT, pop TEXT, pop_until BIGINT, managed_by TEXT NOT NULL);
CREATE INDEX users_by_manager ON users (managed_by, address);
CREATE TABLE group_members (
    address TEXT NOT NULL, name TEXT NOT NULL, managed_by TEXT NOT NULL, PRIMARY KEY (address, name));
CREATE INDEX group_members_by_manager ON group_members (managed_by, address, name);
CREATE TABLE own_switches (address TEXT NOT NULL, service TEXT NOT NULL, PRIMARY KEY (address, service));
CREATE TABLE mailboxes (address TEXT PRIMARY KEY, name TEXT, unit TEXT, managed_by TEXT NOT NULL);
CREATE TABLE mailbox_members (
    mailbox TEXT NOT NULL, address TEXT NOT NULL, managed_by TEXT NOT NULL, PRIMARY KEY (mailbox, address));
CREATE TABLE apps (
    id TEXT PRIMARY KEY, name TEXT, trust TEXT NOT NULL, units TEXT NOT NULL, delegation TEXT NOT NULL,
    managed_by TEXT NOT NULL);
CREATE TABLE grants (
    address TEXT NOT NULL, owner TEXT NOT NULL, app TEXT NOT NULL, number BIGINT NOT NULL,
    state TEXT NOT NULL, removed_at BIGINT, made_at BIGINT NOT NULL, changed_at BIGINT NOT NULL,
    changed_by TEXT NOT NULL, PRIMARY KEY (address, owner, app));
CREATE INDEX grants_by_app ON grants (app, address);
CREATE TABLE audit (
    number BIGINT PRIMARY KEY, time BIGINT NOT NULL, event TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT,
    reference TEXT, service TEXT, session BIGINT, peer TEXT, tls TEXT, issuer TEXT, kid TEXT, claimed TEXT,
    address TEXT, owner TEXT, app TEXT, unit TEXT, place TEXT, policy_version BIGINT, fingerprint TEXT,
    program TEXT, detail TEXT);
CREATE INDEX audit_by_reference ON audit (reference) WHERE reference IS NOT NULL;
CREATE INDEX audit_by_address ON audit (address, number);
CREATE INDEX audit_by_app ON audit (app, number);
CREATE INDEX audit_by_reason ON audit (reason, number) WHERE reason IS NOT NULL;
";

/// What was seen of apps and of passwords, the nodes, and what they ask of one another (`seen`, `legacy`, `nodes`).
/// Empty texts stand for "none", so that they can be part of a key.
const SEEN: &str = "
CREATE TABLE apps_seen (
    issuer TEXT NOT NULL, app TEXT NOT NULL, first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL,
    imap_accepted BIGINT NOT NULL, imap_refused BIGINT NOT NULL, pop_accepted BIGINT NOT NULL,
    pop_refused BIGINT NOT NULL, users BIGINT NOT NULL, last_cause TEXT NOT NULL, PRIMARY KEY (issuer, app));
CREATE INDEX apps_seen_by_use ON apps_seen (last_seen);
CREATE TABLE app_users_seen (
    issuer TEXT NOT NULL, app TEXT NOT NULL, address TEXT NOT NULL, first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL, PRIMARY KEY (issuer, app, address));
CREATE TABLE app_programs_seen (
    issuer TEXT NOT NULL, app TEXT NOT NULL, program TEXT NOT NULL, last_seen BIGINT NOT NULL,
    PRIMARY KEY (issuer, app, program));
CREATE TABLE legacy_sign_ins (
    claimed TEXT NOT NULL, program TEXT NOT NULL, peer TEXT NOT NULL, service TEXT NOT NULL, how TEXT NOT NULL,
    attempts BIGINT NOT NULL, first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL,
    PRIMARY KEY (claimed, program, peer, service, how));
CREATE INDEX legacy_sign_ins_by_use ON legacy_sign_ins (last_seen);
CREATE TABLE nodes (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, started BIGINT NOT NULL, beat BIGINT NOT NULL, at BIGINT NOT NULL,
    sessions BIGINT NOT NULL);
INSERT INTO counters (name, number) VALUES ('session_request', 0);
CREATE TABLE session_requests (
    number BIGINT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, asked_by TEXT NOT NULL, at BIGINT NOT NULL);
CREATE TABLE session_answers (
    request BIGINT NOT NULL, node TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (request, node));
";

/// Each audit row's hash, the hash of the last (row `audit` of the counters), and where the chain begins: the last row that
/// does not belong to it (row `audit_start`). Rows from before have no hash. See `chain`.
const CHAIN: &str = "
ALTER TABLE audit ADD COLUMN hash TEXT;
ALTER TABLE counters ADD COLUMN hash TEXT;
INSERT INTO counters (name, number, hash) SELECT 'audit_start', number, '' FROM counters WHERE name = 'audit';
UPDATE counters SET hash = '' WHERE name = 'audit';
";

/// Who may use the API and the console. Secrets stand here as the hexadecimal SHA-256 of theirs; `scopes` has one word
/// a line.
const ACCESS: &str = "
INSERT INTO counters (name, number) VALUES ('api_token', 0), ('role', 0);
CREATE TABLE api_tokens (
    number BIGINT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL, unit TEXT,
    scopes TEXT NOT NULL, made_by TEXT NOT NULL, made_at BIGINT NOT NULL, expires_at BIGINT NOT NULL,
    last_used_at BIGINT);
CREATE TABLE admins (
    address TEXT PRIMARY KEY, role TEXT NOT NULL, unit TEXT, changed_by TEXT NOT NULL, changed_at BIGINT NOT NULL);
CREATE TABLE bootstrap_secrets (hash TEXT PRIMARY KEY, made_at BIGINT NOT NULL, expires_at BIGINT NOT NULL);
";

/// What issuers said of their tokens and accounts, and which events they said it in. `issued_until`: tokens issued at or
/// before it are refused. `account`: open, disabled or purged, since `account_at`. Rows without `expires_at` stay.
const CUTOFFS: &str = "
CREATE TABLE cutoffs (
    issuer TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, issued_until BIGINT, account TEXT NOT NULL,
    account_at BIGINT, event TEXT NOT NULL, changed_at BIGINT NOT NULL, expires_at BIGINT,
    PRIMARY KEY (issuer, kind, subject));
CREATE INDEX cutoffs_by_end ON cutoffs (expires_at);
CREATE TABLE events_seen (
    issuer TEXT NOT NULL, id TEXT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (issuer, id));
CREATE INDEX events_seen_by_end ON events_seen (expires_at);
";

/// `version` is the number of the row's last change; members of shared mailboxes have rights, `read` or `write`. The
/// counter `policy` is the number of the last change of the directory, grants and switches of users left out.
const VERSIONS: &str = "
ALTER TABLE units ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE user_groups ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mailboxes ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mailbox_members ADD COLUMN rights TEXT NOT NULL DEFAULT 'write';
CREATE INDEX users_by_unit ON users (unit, address);
CREATE INDEX group_members_by_name ON group_members (name, address);
CREATE INDEX mailbox_members_by_address ON mailbox_members (address, mailbox);
INSERT INTO counters (name, number) VALUES ('policy', 0);
";

/// What identity providers say of users and groups, as JSON, under an id of ours that is never used again. Rows live and
/// die with their user or group.
const SCIM: &str = "
CREATE TABLE scim_users (
    id TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE, external_id TEXT, document TEXT NOT NULL,
    made_at BIGINT NOT NULL, changed_at BIGINT NOT NULL);
CREATE INDEX scim_users_by_external_id ON scim_users (external_id);
CREATE TABLE scim_groups (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, external_id TEXT, document TEXT NOT NULL,
    made_at BIGINT NOT NULL, changed_at BIGINT NOT NULL);
";

/// What people are told, and over which channels. `body` is JSON. A notice without deliveries is for the console and the
/// API alone. `lease` names whoever is sending, until `lease_until`.
const OUTBOX: &str = "
INSERT INTO counters (name, number) VALUES ('notice', 0);
CREATE TABLE notices (
    number BIGINT PRIMARY KEY, kind TEXT NOT NULL, recipient TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL,
    made_by TEXT NOT NULL, made_at BIGINT NOT NULL, read_at BIGINT);
CREATE INDEX notices_by_recipient ON notices (recipient, number);
CREATE INDEX notices_by_state ON notices (state, number);
CREATE INDEX notices_by_age ON notices (made_at);
CREATE TABLE deliveries (
    notice BIGINT NOT NULL, channel TEXT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL, lease TEXT NOT NULL, lease_until BIGINT NOT NULL, changed_at BIGINT NOT NULL,
    problem TEXT, PRIMARY KEY (notice, channel));
CREATE INDEX deliveries_by_turn ON deliveries (channel, state, next_at);
";

/// The last content of each Thunderbird add-on, by its SHA-256, and how many different ones there were.
const ADD_ONS: &str = "
CREATE TABLE thunderbird_add_ons (id TEXT PRIMARY KEY, digest TEXT NOT NULL, version BIGINT NOT NULL);
";

/// Sessions of the console, each by the hexadecimal SHA-256 of what is in its cookie. `subject`, `session` and `issued_at` are
/// the issuer's `sub`, `sid` and `iat`, for what it says later.
const WEB_SESSIONS: &str = "
CREATE TABLE web_sessions (
    hash TEXT PRIMARY KEY, address TEXT NOT NULL, issuer TEXT NOT NULL, subject TEXT NOT NULL, session TEXT,
    issued_at BIGINT NOT NULL, made_at BIGINT NOT NULL, used_at BIGINT NOT NULL, expires_at BIGINT NOT NULL);
CREATE INDEX web_sessions_by_address ON web_sessions (address, made_at);
";

/// What mailboxes of a unit may take up, in bytes and messages: NULL inherits, -1 is no limit.
const QUOTAS: &str = "
ALTER TABLE units ADD COLUMN storage_quota BIGINT;
ALTER TABLE units ADD COLUMN message_quota BIGINT;
";

/// Addresses that were a user's own (`user`) or a shared mailbox's (`mailbox`) and are nobody's now, with the unit they were in
/// (NULL: none, or not known). What is known of those from before: the grants and the audit log name them.
const FORMER: &str = "
CREATE TABLE former_addresses (address TEXT PRIMARY KEY, kind TEXT NOT NULL, unit TEXT);
CREATE INDEX former_addresses_by_unit ON former_addresses (unit);
INSERT INTO former_addresses (address, kind)
    SELECT used.address, max(used.kind) FROM (
        SELECT owner AS address, CASE WHEN owner = address THEN 'user' ELSE 'mailbox' END AS kind FROM grants
        UNION SELECT address, 'user' FROM audit WHERE event = 'user.removed' AND address IS NOT NULL
        UNION SELECT owner, 'mailbox' FROM audit WHERE event = 'mailbox.removed' AND owner IS NOT NULL) AS used
    WHERE used.address NOT IN (SELECT address FROM users) AND used.address NOT IN (SELECT address FROM mailboxes)
    GROUP BY used.address;
";

/// Where mail is, as `MailHome` is written, and whether it can only be read (NULL inherits; an app's 0 or 1); what users of a
/// unit may use up (NULL inherits, -1 is no limit).
const HOMES: &str = "
ALTER TABLE units ADD COLUMN mail TEXT;
ALTER TABLE units ADD COLUMN read_only BIGINT;
ALTER TABLE units ADD COLUMN sessions_per_user BIGINT;
ALTER TABLE units ADD COLUMN bytes_per_day BIGINT;
ALTER TABLE users ADD COLUMN mail TEXT;
ALTER TABLE apps ADD COLUMN read_only BIGINT NOT NULL DEFAULT 0;
";

/// What users whose bytes are limited have received and sent, by the day in UTC, counted from 1970-01-01.
const TRAFFIC: &str = "
CREATE TABLE traffic (address TEXT NOT NULL, day BIGINT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (address, day));
CREATE INDEX traffic_by_day ON traffic (day);
";

/// Every migration there is, oldest first.
pub(super) fn migrations(location: &Location) -> Vec<Migration> {
    let all = [
        (1, "directory, grants, changes, audit", FIRST),
        (2, "hashes of the audit log", CHAIN),
        (4, "versions of rows, rights of members", VERSIONS),
        (5, "API tokens, admins, bootstrap secrets", ACCESS),
        (6, "apps seen, legacy sign-ins, nodes", SEEN),
        (50, "cutoffs, events seen", CUTOFFS),
        (60, "what identity providers say of users and groups", SCIM),
        (61, "notices", OUTBOX),
        (62, "versions of Thunderbird add-ons", ADD_ONS),
        (63, "sessions of the console", WEB_SESSIONS),
        (70, "quotas of units", QUOTAS),
        (71, "former addresses", FORMER),
        (72, "where mail is, what is read-only, limits of users", HOMES),
        (73, "bytes of the day", TRAFFIC),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let sql = if location.is_server() {
            AssertSqlSafe(sql.replace(" TEXT", " TEXT COLLATE \"C\"")).into_sql_str()
        } else {
            sql.into_sql_str()
        };
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    all.into_iter().map(migration).collect()
}
