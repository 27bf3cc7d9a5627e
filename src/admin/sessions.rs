//! Live sessions of all nodes: who is in, and ending sessions. A session that is ended may come back at once if policy
//! allows; to keep somebody out, change what lets them in.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Actor, Area, Control,
    access::address,
    actor::now,
    extract::{Asked, Given, Named},
    page::{Page, PageQuery, cursor},
    problem::{Problem, ProblemKind},
    time::Time,
};
use crate::gate::{EndError, SessionFilter, SessionInfo, SessionKey};
use crate::model::{ClientId, Service, UnitPath, UnixTime};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, end_one)).routes(routes!(end))
}

/// A live session.
#[derive(Debug, Serialize, ToSchema)]
struct SessionItem {
    /// Its name among those of all nodes.
    #[schema(example = "k3f9a2xw.s17")]
    id: String,
    /// The node that holds it.
    node: String,
    /// Whose token it came in with.
    user: String,
    /// Whose mailbox it reads.
    owner: String,
    /// The app's client ID.
    app: String,
    /// What the app is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<String>,
    /// `imap` or `pop`.
    service: String,
    /// The user's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// Address and port it comes from.
    peer: String,
    /// When it was admitted.
    since: Time,
    /// Bytes received from it.
    received: u64,
    /// Bytes sent to it.
    sent: u64,
    /// The last command, without its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// When that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_at: Option<Time>,
    /// What the program calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// The TLS version.
    tls: String,
    /// The cause word, once it has been told to leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaving: Option<String>,
}

impl From<SessionInfo> for SessionItem {
    fn from(info: SessionInfo) -> Self {
        let command_at = info.command.is_some().then(|| UnixTime(info.command_ms).into());
        Self {
            id: info.id,
            node: info.node_name,
            user: info.user,
            owner: info.owner,
            app: info.app,
            app_name: info.app_name,
            service: info.service,
            unit: info.unit,
            peer: info.peer,
            since: UnixTime(info.since_ms).into(),
            received: info.received,
            sent: info.sent,
            command: info.command,
            command_at,
            program: info.program,
            tls: info.tls,
            leaving: info.leaving,
        }
    }
}

/// Which sessions: each that is given must match.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Of this user's tokens.
    user: Option<String>,
    /// In this mailbox.
    owner: Option<String>,
    /// Of this app.
    app: Option<String>,
    /// `imap` or `pop`.
    service: Option<String>,
    /// Of users in this unit or below it.
    unit: Option<String>,
    /// From this address or network.
    address: Option<String>,
}

impl Which {
    /// An admin of a subtree reaches the sessions of its users, and no others.
    fn read(&self, actor: &Actor) -> Result<SessionFilter, Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
        let unit = self.unit.as_deref().map(UnitPath::parse).transpose().map_err(|error| bad(error.to_string()))?;
        let unit = match (unit, actor.role()) {
            (Some(unit), _) if !actor.sees_unit(&unit) => {
                return Err(Problem::new(ProblemKind::NotFound, format!("there is no unit {unit}")));
            }
            (None, role) => role.unit().cloned(),
            (unit, _) => unit,
        };
        let app = self.app.as_deref().map(ClientId::parse).transpose().map_err(|error| bad(error.to_string()))?;
        let service = self.service.as_deref().map(|word| {
            Service::from_word(word).ok_or_else(|| bad(format!("service {word:?}: write imap or pop")))
        });
        let network = self.address.as_deref().map(|text| {
            let network = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
            network.map_err(|_| bad(format!("address {text:?}: write 192.0.2.1, or a network as 192.0.2.0/24")))
        });
        Ok(SessionFilter {
            user: self.user.as_deref().map(address).transpose()?,
            owner: self.owner.as_deref().map(address).transpose()?,
            app,
            service: service.transpose()?,
            unit,
            address: network.transpose()?,
            ..SessionFilter::default()
        })
    }
}

/// Live sessions.
#[derive(Debug, Serialize, ToSchema)]
struct Sessions {
    #[serde(flatten)]
    page: Page<SessionItem>,
    /// Nodes that are alive and did not answer in time: their sessions are not in the list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_nodes: Vec<String>,
}

/// List live sessions
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(Which, PageQuery), responses(
    (status = 200, body = Sessions, description = "Of all nodes"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn list(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Sessions>, Problem> {
    actor.may_read(Area::Sessions)?;
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let after = page.after()?.map(|key| {
        SessionKey::parse(&key)
            .ok_or_else(|| Problem::new(ProblemKind::BadRequest, "the cursor is of another list"))
    });
    let which = Which {
        user: query.user,
        owner: query.owner,
        app: query.app,
        service: query.service,
        unit: query.unit,
        address: query.address,
    };
    let limit = u32::try_from(page.limit()?).unwrap_or(u32::MAX);
    let filter = SessionFilter { after: after.transpose()?, limit, ..which.read(&actor)? };
    let found = control.gate.sessions(&filter).await?;
    let items = found.sessions.into_iter().map(SessionItem::from).collect();
    let next = found.next.map(|key| cursor(&key.to_string()));
    let missing_nodes = found.missing.into_iter().map(|node| node.name).collect();
    Ok(Json(Sessions { page: Page { items, next }, missing_nodes }))
}

/// [`Which`] and [`PageQuery`] in one: a query string has no parts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    user: Option<String>,
    owner: Option<String>,
    app: Option<String>,
    service: Option<String>,
    unit: Option<String>,
    address: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Control {
    /// A session that exists for whoever asks.
    async fn session_of(&self, actor: &Actor, id: &str) -> Result<(SessionKey, SessionInfo), Problem> {
        let absent = || Problem::new(ProblemKind::NotFound, format!("there is no session {id:?}, or not any more"));
        let key = SessionKey::parse(id).ok_or_else(absent)?;
        let info = self.gate.session(&key).await?.ok_or_else(absent)?;
        let unit = info.unit.as_deref().and_then(|unit| UnitPath::parse(unit).ok());
        let seen = actor.sees_all() || unit.is_some_and(|unit| actor.sees_unit(&unit));
        if seen { Ok((key, info)) } else { Err(absent()) }
    }
}

/// Look at one session
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Its name")), responses(
    (status = 200, body = SessionItem, description = "The session"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<String>,
) -> Result<Json<SessionItem>, Problem> {
    actor.may_read(Area::Sessions)?;
    control.session_of(&actor, &id).await.map(|(_, info)| Json(info.into()))
}

/// End one session
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Its name")), responses(
    (status = 204, description = "It is told to leave within a second"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn end_one(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    actor.may_write(Area::Sessions)?;
    let (key, _) = control.session_of(&actor, &id).await?;
    let filter = SessionFilter { key: Some(key), ..SessionFilter::default() };
    control.gate.end_sessions(&filter, actor.name(), now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End sessions of all nodes
///
/// Those that match every part given; at least one must be. They are told within a second.
#[utoipa::path(post, path = "/api/v1/sessions/end", tag = "sessions", request_body = Which, responses(
    (status = 202, description = "Every node is told"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem")))]
async fn end(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Given(which): Given<Which>,
) -> Result<StatusCode, Problem> {
    actor.may_write(Area::Sessions)?;
    control.gate.end_sessions(&which.read(&actor)?, actor.name(), now()).await?;
    Ok(StatusCode::ACCEPTED)
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => error.into(),
            everyone @ EndError::Everyone => Self::new(ProblemKind::BadRequest, everyone.to_string()),
        }
    }
}
