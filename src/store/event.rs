//! One row of the audit log, as a value. What it may hold: threats.md section 8.

use std::borrow::Cow;

use sqlx::{Row, any::AnyRow};

use crate::model::{Reference, Service, SessionId, UnixTime};

/// Longest field, in bytes.
const MOST_BYTES: usize = 256;

/// One thing that happened. Fields are cut at 256 bytes and control characters are escaped when it is queued.
///
/// Never holds tokens, SASL messages, passwords or mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub time: UnixTime,
    /// What: `login`, `session.ended`, `legacy_password`, `policy.applied`, `grant.removed`, ...
    pub event: Cow<'static, str>,
    /// `yes`, `no`, `done`, ...
    pub outcome: Cow<'static, str>,
    /// The cause of a no or an end: `token_expired`, `policy_app`, ... (threats.md section 7).
    pub reason: Option<Cow<'static, str>>,
    /// What the peer was told to quote.
    pub reference: Option<Reference>,
    /// The protocol.
    pub service: Option<Service>,
    /// The session.
    pub session: Option<SessionId>,
    /// The address that connected.
    pub peer: Option<String>,
    /// The TLS version.
    pub tls: Option<String>,
    /// The token's issuer.
    pub issuer: Option<String>,
    /// The key that signed the token.
    pub kid: Option<String>,
    /// The user the peer claimed to be, as sent.
    pub claimed: Option<String>,
    /// The user the token proved.
    pub user: Option<String>,
    /// Whose mailbox.
    pub owner: Option<String>,
    /// The app's client ID.
    pub app: Option<String>,
    /// The user's unit.
    pub unit: Option<String>,
    /// The place of the fact that decided.
    pub place: Option<String>,
    /// The number of the last change that was taken into account.
    pub policy_version: Option<i64>,
    /// The first 16 hexadecimal digits of the token's SHA-256.
    pub fingerprint: Option<String>,
    /// What the program says it is (IMAP ID).
    pub program: Option<String>,
    /// Anything else, in words: for an admin change, who, before and after.
    pub detail: Option<String>,
}

/// The columns, in the order [`AuditEvent::from_row`] reads them; `number` comes before them.
pub(super) const COLUMNS: &str = "time, event, outcome, reason, reference, service, session, peer, tls, issuer, kid, claimed, \
                       address, owner, app, unit, place, policy_version, fingerprint, program, detail";

/// How many columns these are.
pub(super) const WIDTH: usize = 21;

impl AuditEvent {
    /// An event about nothing in particular yet.
    pub fn new(time: UnixTime, event: impl Into<Cow<'static, str>>, outcome: impl Into<Cow<'static, str>>) -> Self {
        Self { time, event: event.into(), outcome: outcome.into(), ..Self::default() }
    }

    /// The event as one JSON object; absent fields are left out.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value.into());
            }
        };
        put("time", Some(self.time.to_string()));
        put("event", Some(self.event.to_string()));
        put("outcome", Some(self.outcome.to_string()));
        put("reason", self.reason.as_ref().map(ToString::to_string));
        put("reference", self.reference.map(|reference| reference.to_string()));
        put("service", self.service.map(|service| service.word().to_owned()));
        put("session", self.session.map(|session| session.to_string()));
        for (name, text) in self.texts() {
            put(name, text.cloned());
        }
        put("policy_version", self.policy_version.map(|version| version.to_string()));
        serde_json::Value::Object(object)
    }

    /// The free texts by name, in the order of the columns.
    pub(super) fn texts(&self) -> [(&'static str, Option<&String>); 13] {
        [
            ("peer", self.peer.as_ref()),
            ("tls", self.tls.as_ref()),
            ("issuer", self.issuer.as_ref()),
            ("kid", self.kid.as_ref()),
            ("claimed", self.claimed.as_ref()),
            ("user", self.user.as_ref()),
            ("owner", self.owner.as_ref()),
            ("app", self.app.as_ref()),
            ("unit", self.unit.as_ref()),
            ("place", self.place.as_ref()),
            ("fingerprint", self.fingerprint.as_ref()),
            ("program", self.program.as_ref()),
            ("detail", self.detail.as_ref()),
        ]
    }

    /// Every text cut and escaped.
    pub(super) fn clean(mut self) -> Self {
        let texts = [
            &mut self.peer,
            &mut self.tls,
            &mut self.issuer,
            &mut self.kid,
            &mut self.claimed,
            &mut self.user,
            &mut self.owner,
            &mut self.app,
            &mut self.unit,
            &mut self.place,
            &mut self.fingerprint,
            &mut self.program,
            &mut self.detail,
        ];
        for text in texts.into_iter().flatten() {
            if let Some(cleaned) = clean(text) {
                *text = cleaned;
            }
        }
        for text in [&mut self.event, &mut self.outcome].into_iter().chain(&mut self.reason) {
            if let Some(cleaned) = clean(text) {
                *text = Cow::Owned(cleaned);
            }
        }
        self
    }

    pub(super) fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let text = |column: usize| row.try_get::<Option<String>, _>(column);
        Ok(Self {
            time: UnixTime(row.try_get(0)?),
            event: row.try_get::<String, _>(1)?.into(),
            outcome: row.try_get::<String, _>(2)?.into(),
            reason: text(3)?.map(Cow::Owned),
            reference: text(4)?.and_then(|reference| Reference::parse(&reference)),
            service: text(5)?.and_then(|service| Service::from_word(&service)),
            session: row
                .try_get::<Option<i64>, _>(6)?
                .and_then(|session| u64::try_from(session).ok())
                .map(SessionId),
            peer: text(7)?,
            tls: text(8)?,
            issuer: text(9)?,
            kid: text(10)?,
            claimed: text(11)?,
            user: text(12)?,
            owner: text(13)?,
            app: text(14)?,
            unit: text(15)?,
            place: text(16)?,
            policy_version: row.try_get(17)?,
            fingerprint: text(18)?,
            program: text(19)?,
            detail: text(20)?,
        })
    }
}

/// One column's value, as it is bound, hashed and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(Option<i64>),
    Text(Option<Cow<'static, str>>),
}

/// The columns of `COLUMNS` that are numbers, by their place.
const NUMBERS: [usize; 3] = [0, 6, 17];

impl AuditEvent {
    /// The columns' values, in the order of [`COLUMNS`].
    pub(super) fn into_values(self) -> [Value; WIDTH] {
        let own = |text: Option<String>| Value::Text(text.map(Cow::Owned));
        [
            Value::Number(Some(self.time.0)),
            Value::Text(Some(self.event)),
            Value::Text(Some(self.outcome)),
            Value::Text(self.reason),
            own(self.reference.map(|reference| reference.to_string())),
            Value::Text(self.service.map(|service| Cow::Borrowed(service.word()))),
            Value::Number(self.session.map(|session| i64::try_from(session.0).unwrap_or(i64::MAX))),
            own(self.peer),
            own(self.tls),
            own(self.issuer),
            own(self.kid),
            own(self.claimed),
            own(self.user),
            own(self.owner),
            own(self.app),
            own(self.unit),
            own(self.place),
            Value::Number(self.policy_version),
            own(self.fingerprint),
            own(self.program),
            own(self.detail),
        ]
    }
}

/// The values of a row as they stand in the database, whatever they are: the columns of [`COLUMNS`] from column `first` on.
pub(super) fn raw_values(row: &AnyRow, first: usize) -> Result<Vec<Value>, sqlx::Error> {
    let value = |at: usize| {
        Ok(if NUMBERS.contains(&at) {
            Value::Number(row.try_get(first + at)?)
        } else {
            Value::Text(row.try_get::<Option<String>, _>(first + at)?.map(Cow::Owned))
        })
    };
    (0..WIDTH).map(value).collect()
}

/// `None` if the text may stay as it is.
fn clean(text: &str) -> Option<String> {
    // Nearly every text is short and of printable ASCII, and each is looked at twice on its way to the database.
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if text.len() <= MOST_BYTES && (plain || !text.chars().any(char::is_control)) {
        return None;
    }
    let mut cleaned = String::with_capacity(MOST_BYTES);
    for c in text.chars() {
        let piece = if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        if cleaned.len() + piece.len() > MOST_BYTES {
            break;
        }
        cleaned.push_str(&piece);
    }
    Some(cleaned)
}
