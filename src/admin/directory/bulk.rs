//! Many changes in one transaction: all of them are made, or none.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{
        Actor, Control,
        access::address,
        extract::{Asked, Given},
        problem::{Problem, ProblemKind},
    },
    Answered, How, Outcome,
    apps::AppWish,
    groups::GroupWish,
    mailboxes::MailboxWish,
    units::UnitWish,
    users::UserWish,
    words::{group, unit},
};
use crate::model::ClientId;
use crate::store::{Action, Directive, MOST_CHANGES, Wish};

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new().routes(routes!(changes))
}

/// Changes, made in their order, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// At most 10,000.
    #[schema(max_items = 10000)]
    changes: Vec<Item>,
}

/// One change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Item {
    /// Of what.
    kind: Kind,
    /// Its path, address, name or client ID.
    #[schema(example = "/Sales")]
    name: String,
    /// What is to be done.
    action: Verb,
    /// What a `make` or `change` says, as the resource's own requests do.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({ "imap": "off" }))]
    set: Option<Value>,
    /// Where a `move` of a unit leads.
    #[serde(default)]
    to: Option<String>,
    /// The version seen; absent: whatever it is.
    #[serde(default)]
    version: Option<i64>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Unit,
    User,
    Group,
    Mailbox,
    App,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Make,
    Change,
    Remove,
    Move,
}

/// What was changed.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// So many changes.
    changes: usize,
}

/// Make many changes at once
///
/// In one transaction and in their order. With `preview=true` the answer tells what they would come to together.
#[utoipa::path(post, path = "/api/v1/changes", tag = "directory", params(How), request_body = Changes, responses(
    (status = 200, body = Answered<Done>, description = "All are made; with `preview=true` what they would come to"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "A row is not of the `version` that its change names, or something else stands in the way; none is made"),
    (status = "default", body = Problem, content_type = "application/problem+json", description = "A problem; none is made")))]
async fn changes(
    State(control): State<Arc<Control>>,
    actor: Actor,
    Asked(how): Asked<How>,
    Given(body): Given<Changes>,
) -> Result<Response, Problem> {
    if body.changes.is_empty() || body.changes.len() > MOST_CHANGES {
        let detail = format!("{} changes: send 1 to {MOST_CHANGES} at once", body.changes.len());
        return Err(Problem::new(ProblemKind::BadRequest, detail));
    }
    let wishes = body.changes.iter().enumerate().map(|(at, item)| {
        item.wish().map_err(|problem| {
            Problem::new(ProblemKind::BadRequest, format!("changes[{at}]: {}", problem.detail()))
        })
    });
    let wishes = wishes.collect::<Result<Vec<Wish>, _>>()?;
    let count = wishes.len();
    match control.carry_out(&actor, wishes, &how).await.map_err(Problem::of_the_body)? {
        Outcome::Tried(answer) => Ok(*answer),
        Outcome::Made => Ok(Json(Done { changes: count }).into_response()),
    }
}

impl Item {
    fn wish(&self) -> Result<Wish, Problem> {
        let bad = |detail: &str| Problem::new(ProblemKind::BadRequest, detail);
        if self.action == Verb::Move {
            let (Kind::Unit, Some(to), None) = (self.kind, &self.to, &self.set) else {
                return Err(bad("only a unit is moved, with `to` and without `set`"));
            };
            let directive = Directive::MoveUnit { from: unit(&self.name)?, to: unit(to)? };
            return Ok(Wish { directive, expect: self.version });
        }
        if self.to.is_some() {
            return Err(bad("`to` is for a move"));
        }
        let directive = match self.kind {
            Kind::Unit => Directive::Unit(unit(&self.name)?, self.action(UnitWish::patch)?),
            Kind::User => Directive::User(address(&self.name)?, self.action(UserWish::patch)?),
            Kind::Group => Directive::Group(group(&self.name)?, self.action(GroupWish::patch)?),
            Kind::Mailbox => Directive::Mailbox(address(&self.name)?, self.action(MailboxWish::patch)?),
            Kind::App => {
                let id = ClientId::parse(&self.name).map_err(|error| bad(&error.to_string()))?;
                Directive::App(id, self.action(AppWish::patch)?)
            }
        };
        Ok(Wish { directive, expect: self.version })
    }

    fn action<W: DeserializeOwned + Default, P>(
        &self,
        patch: impl Fn(&W) -> Result<P, Problem>,
    ) -> Result<Action<P>, Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadRequest, detail);
        let wish: W = match &self.set {
            None => W::default(),
            Some(_) if self.action == Verb::Remove => return Err(bad("a removal has no `set`".into())),
            Some(set) => serde_json::from_value(set.clone()).map_err(|error| bad(format!("set: {error}")))?,
        };
        Ok(match self.action {
            Verb::Make => Action::Make(patch(&wish)?),
            Verb::Change => Action::Change(patch(&wish)?),
            Verb::Remove | Verb::Move => Action::Remove,
        })
    }
}
