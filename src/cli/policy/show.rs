//! A plan in words and in JSON: what a policy file would change, who would lose and gain access, which open sessions would
//! end.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::gate::{self, Listing, SessionInfo};
use crate::policy::{LiveSeat, Preview, Side, file::Document};
use crate::store::{Plan, Store};

/// Most pairs of user and app, and most sessions, that a plan shows to people.
const SHOWN: usize = 10;

/// A plan, and the sessions that were open when it was made.
pub(super) struct Shown {
    plan: Plan,
    live: Listing,
}

impl Shown {
    /// Asks the nodes that are running for their sessions, then the database for what the file would come to.
    pub(super) async fn new(store: &Store, document: &Document, name: &str) -> anyhow::Result<Self> {
        let mut live = gate::sessions_elsewhere(store).await?;
        live.sessions.retain(|info| info.seat().is_some());
        let seats: Vec<LiveSeat> = live.sessions.iter().filter_map(SessionInfo::seat).collect();
        Ok(Self { plan: store.plan(document, name, &seats).await?, live })
    }

    pub(super) fn version(&self) -> i64 {
        self.plan.version
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.plan.counts.is_unchanged()
    }

    fn is_complete(&self) -> bool {
        self.live.next.is_none() && self.live.missing.is_empty()
    }

    pub(super) fn to_text(&self, name: &str) -> String {
        let mut text = to_text(&self.plan, name);
        if self.is_unchanged() {
            return text;
        }
        let count = self.plan.preview.fall_count;
        let sessions = if count == 1 { "1 open session".to_owned() } else { format!("{count} open sessions") };
        let _ = write!(text, "\n{sessions} would end");
        for fall in self.plan.preview.falls.iter().take(SHOWN) {
            let Some(info) = self.live.sessions.get(fall.seat) else { continue };
            let (id, user, node) = (&info.id, &info.user, &info.node_name);
            let _ = write!(text, "\n  {id} of {user} by {} on {node}: {}", info.service, fall.refusal);
        }
        if count > SHOWN {
            let _ = write!(text, "\n  and {} more", count - SHOWN);
        }
        if !self.is_complete() {
            let silent: Vec<&str> = self.live.missing.iter().map(|node| node.name.as_str()).collect();
            let _ = match silent.as_slice() {
                [] => write!(text, "\n  (only the first 20,000 sessions were looked at)"),
                silent => write!(text, "\n  (without those of {}, which did not answer)", silent.join(", ")),
            };
        }
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = to_json(&self.plan);
        let first = self.plan.preview.falls.iter().filter_map(|fall| {
            let info = self.live.sessions.get(fall.seat)?;
            Some(json!({
                "id": info.id,
                "user": info.user,
                "mailbox": info.owner,
                "app": info.app,
                "service": info.service,
                "reason": fall.refusal.reason(),
                "detail": fall.refusal.to_string(),
            }))
        });
        let count = self.plan.preview.fall_count;
        let sessions =
            json!({ "count": count, "first": first.collect::<Vec<_>>(), "complete": self.is_complete() });
        if let Some(object) = json.as_object_mut() {
            object.insert("sessions".to_owned(), sessions);
        }
        json
    }
}

fn to_text(plan: &Plan, name: &str) -> String {
    let counts = &plan.counts;
    let mut text = format!("policy version {}; {name}: ", plan.version);
    if counts.is_unchanged() {
        text.push_str("nothing would change");
        return text;
    }
    let (added, changed, removed) = (counts.added, counts.changed, counts.removed);
    let _ = write!(text, "{added} added, {changed} changed, {removed} removed");
    for change in &plan.changes {
        let place = &change.place;
        let _ = match (&change.before, &change.after) {
            (None, Some(after)) => write!(text, "\n  + {place}: {after}"),
            (Some(before), None) => write!(text, "\n  - {place}: {before}"),
            (Some(before), Some(after)) if before == after => {
                write!(text, "\n  ~ {place}: kept by the file from now on")
            }
            (before, after) => {
                let words = |words: &Option<String>| words.clone().unwrap_or_default();
                write!(text, "\n  ~ {place}: {} -> {}", words(before), words(after))
            }
        };
    }
    let more = (added + changed + removed).saturating_sub(plan.changes.len());
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    for (what, side) in [("lose", &plan.preview.loses), ("gain", &plan.preview.gains)] {
        put_side(&mut text, what, side);
    }
    text
}

fn put_side(text: &mut String, what: &str, side: &Side) {
    if side.pair_count == 0 {
        let _ = write!(text, "\nnobody with an app in use would {what} access");
        return;
    }
    let _ = write!(
        text,
        "\n{} would {what} access (IMAP {}, POP {}):",
        people(side.user_count),
        side.imap_count,
        side.pop_count
    );
    for app in &side.apps {
        let name = app.name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        let _ = write!(text, "\n  {} with {name}({})", people(app.user_count), app.app);
    }
    for pair in side.pairs.iter().take(SHOWN) {
        let mailbox = if pair.owner == pair.user { String::new() } else { format!(" in {}", pair.owner) };
        let _ = write!(text, "\n  {}{mailbox} by {}", pair.user, pair.service);
        // Why somebody is not let in today does not matter to who looks at what will be.
        if what == "lose" {
            let _ = write!(text, ": {}", pair.refusal);
        }
    }
    let more = side.pair_count.saturating_sub(SHOWN);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
}

fn people(count: usize) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

fn to_json(plan: &Plan) -> Value {
    let changes: Vec<_> = plan
        .changes
        .iter()
        .map(|change| json!({ "place": change.place.to_string(), "before": change.before, "after": change.after }))
        .collect();
    let Preview { loses, gains, .. } = &plan.preview;
    json!({
        "version": plan.version,
        "added": plan.counts.added,
        "changed": plan.counts.changed,
        "removed": plan.counts.removed,
        "changes": changes,
        "loses": side_json(loses),
        "gains": side_json(gains),
    })
}

fn side_json(side: &Side) -> Value {
    let app = |app: &crate::policy::AppCount| json!({ "app": app.app.as_str(), "name": app.name, "users": app.user_count });
    let pair = |pair: &crate::policy::Pair| {
        json!({
            "user": pair.user.as_str(),
            "mailbox": pair.owner.as_str(),
            "app": pair.app.as_str(),
            "service": pair.service.word(),
            "reason": pair.refusal.reason(),
            "detail": pair.refusal.to_string(),
        })
    };
    json!({
        "users": side.user_count,
        "pairs": side.pair_count,
        "imap": side.imap_count,
        "pop": side.pop_count,
        "app_count": side.app_count,
        "apps": side.apps.iter().map(app).collect::<Vec<_>>(),
        "first": side.pairs.iter().map(pair).collect::<Vec<_>>(),
    })
}
