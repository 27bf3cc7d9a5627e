//! SCIM 2.0 (RFC 7643, RFC 7644) under `/scim/v2`: identity providers make, change and remove users and groups. One file a
//! resource; what they share is the language: names ([`path`]), filters ([`filter`], [`matches`]), PATCH ([`patch`]), checked
//! bodies ([`document`]), pages and attributes asked for ([`ask`]).
//!
//! A request goes: [`Call`] (whose token; the scope `scim`) -> body and query understood -> the row as it is -> the row as it
//! is to be -> `store::provision`, which expects the version that was read. Settings of users and groups are not the
//! provider's: it says who there is, whether they are active, and who is in which group.

mod ask;
mod budget;
mod discovery;
mod document;
mod error;
mod filter;
mod groups;
mod matches;
mod members;
mod patch;
mod path;
mod schema;
mod search;
mod users;

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

pub(super) use error::in_scim_form;

use super::{
    Actor, Control, Peer,
    problem::{Problem, ProblemKind},
};
use crate::model::{UnitPath, UnixTime};
use crate::store::Role;

/// Where all of it is.
const AT: &str = "/scim/v2";
/// A change that others keep getting ahead of is tried so often.
const TRIES: usize = 20;
/// Rows that are looked at for a filter that names no key; past it the filter is refused.
const MOST_SCANNED: u64 = 100_000;

/// What the operator says about SCIM: `[scim]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The unit of new users; for the token of a subtree's admin it is that subtree's top.
    pub unit: UnitPath,
    /// The attribute of the enterprise extension that names a user's unit; none: providers say nothing of units.
    pub unit_attribute: Option<UnitAttribute>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { unit: UnitPath::root(), unit_attribute: None }
    }
}

/// An attribute of the enterprise extension (RFC 7643 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitAttribute {
    /// `organization`.
    Organization,
    /// `department`.
    Department,
}

impl UnitAttribute {
    const fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Department => "department",
        }
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .merge(discovery::routes())
        .merge(users::routes())
        .merge(groups::routes())
        .merge(search::routes())
}

/// A provider's request: who, where it reached us, and what it says of versions.
struct Call {
    actor: Actor,
    /// Address of the service, as the caller knows it.
    at: String,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl FromRequestParts<Arc<Control>> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Arc<Control>) -> Result<Self, Problem> {
        let actor = Actor::from_request_parts(parts, control).await?;
        let word = |name| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
        Ok(Self {
            actor,
            at: address(parts),
            if_match: word(header::IF_MATCH),
            if_none_match: word(header::IF_NONE_MATCH),
        })
    }
}

/// Plain HTTP is spoken on loopback alone; by any other name a TLS terminator or our own TLS is in between.
fn address(parts: &Parts) -> String {
    let host = parts.uri.authority().map(|authority| authority.as_str().to_owned()).or_else(|| {
        let host = parts.headers.get(header::HOST)?;
        host.to_str().ok().map(str::to_owned)
    });
    let host = host.unwrap_or_default();
    let name = host.rsplit_once(':').map_or(&*host, |(name, port)| if port.contains(']') { &host } else { name });
    let is_local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    let is_plain = parts.extensions.get::<Peer>().is_some_and(|peer| peer.at.ip().is_loopback()) && is_local;
    format!("{}://{host}{AT}", if is_plain { "http" } else { "https" })
}

impl Call {
    /// The top of what the caller reaches.
    fn top(&self) -> UnitPath {
        match self.actor.role() {
            Role::Admin(unit) | Role::AccountAccess(unit) => unit.clone(),
            Role::Super | Role::Auditor | Role::User => UnitPath::root(),
        }
    }

    /// Whether `If-Match`, if there is one, names this version.
    fn expects(&self, version: i64) -> Result<(), Problem> {
        let Some(tags) = &self.if_match else { return Ok(()) };
        if names(tags, version) {
            return Ok(());
        }
        let detail = format!("If-Match names another version than {}: read it again", tag(version));
        Err(Problem::new(ProblemKind::VersionChanged, detail))
    }

    /// Whether the caller has this version already.
    fn has(&self, version: i64) -> bool {
        self.if_none_match.as_deref().is_some_and(|tags| names(tags, version))
    }

    /// Somebody else was first each time.
    fn overtaken() -> Problem {
        Problem::new(ProblemKind::VersionChanged, "it is being changed all the time: try again")
    }
}

/// A version as an entity tag.
fn tag(version: i64) -> String {
    format!("W/\"{version}\"")
}

fn names(tags: &str, version: i64) -> bool {
    let own = format!("\"{version}\"");
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

/// A resource with its version and its place.
fn resource(status: StatusCode, version: i64, body: Value) -> Response {
    let place = body.pointer("/meta/location").and_then(Value::as_str).map(str::to_owned);
    let mut response = error::answer(status, body);
    head(response.headers_mut(), version, place.as_deref().filter(|_| status == StatusCode::CREATED));
    response
}

fn head(headers: &mut HeaderMap, version: i64, place: Option<&str>) {
    for (name, value) in [(header::ETAG, Some(tag(version))), (header::LOCATION, place.map(str::to_owned))] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
}

/// `meta` of a resource.
fn meta(at: &str, (kind, path): (&str, &str), id: &str, times: (UnixTime, UnixTime), version: i64) -> Value {
    serde_json::json!({
        "resourceType": kind,
        "created": times.0.to_string(),
        "lastModified": times.1.to_string(),
        "location": format!("{at}/{path}/{id}"),
        "version": tag(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_weak_or_strong_alone_or_among_others() {
        for (tags, expected) in [
            ("W/\"7\"", true),
            ("\"7\"", true),
            ("*", true),
            ("\"6\", W/\"7\"", true),
            ("7", false),
            ("W/\"77\"", false),
        ] {
            assert_eq!(names(tags, 7), expected, "{tags}");
        }
    }
}
