//! `portcullis notices`: who was told what, and how far it has come.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Access, Outcome, Remote, fields, table};

/// List and show notices, send again those that failed
///
/// People are told of changes that cost an app of theirs its access, where whoever made the change asked for it (`--notify`),
/// and of grants that were cut.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis notices list --state failed
    portcullis notices show 17
    portcullis notices retry 17
    portcullis notices retry --failed
    portcullis notices list --mine")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List notices, the newest first
    List {
        /// To this person
        #[arg(long, value_name = "ADDRESS")]
        user: Option<String>,
        /// About this
        #[arg(long, value_parser = ["access_change", "team_grant_cut"])]
        kind: Option<String>,
        /// That have come so far
        #[arg(long, value_parser = ["console", "queued", "sending", "sent", "failed"])]
        state: Option<String>,
        /// To me, asked with my own access token
        #[arg(long, conflicts_with_all = ["user", "kind", "state"])]
        mine: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one notice and how it is delivered
    Show {
        /// Its number
        id: i64,
    },
    /// Send a notice again over the channels that did not take it
    Retry {
        /// Its number
        #[arg(required_unless_present = "failed")]
        id: Option<i64>,
        /// Every notice that has failed, up to 1,000 at a time
        #[arg(long, conflicts_with = "id")]
        failed: bool,
    },
}

const COLUMNS: [(&str, &str); 7] = [
    ("id", "id"),
    ("state", "state"),
    ("kind", "kind"),
    ("to", "recipient"),
    ("deed", "deed"),
    ("by", "by"),
    ("made", "made_at"),
];

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List { user, kind, state, mine, limit } => {
                let given = [("user", user), ("kind", kind), ("state", state)];
                let query: Vec<(&str, String)> =
                    given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
                let path: &[&str] = if *mine { &["me", "notices"] } else { &["notices"] };
                self.access
                    .run(async |remote| remote.list(path, &query, *limit).await, |list| table(list, &COLUMNS))
            }
            What::Show { id } => {
                let id = id.to_string();
                self.access.run(async |remote| remote.send(Method::GET, &["notices", &id], &[], None).await, whole)
            }
            What::Retry { id: Some(id), .. } => {
                let id = id.to_string();
                self.access.run(async |remote| again(&remote, &id).await, whole)
            }
            What::Retry { id: None, .. } => self.access.run(async |remote| all_again(&remote).await, fields),
        }
    }
}

async fn again(remote: &Remote<'_>, id: &str) -> anyhow::Result<Outcome> {
    remote.send(Method::POST, &["notices", id, "retry"], &[], None).await
}

/// Each that has failed; one that somebody else has queued meanwhile is no error.
async fn all_again(remote: &Remote<'_>) -> anyhow::Result<Outcome> {
    let list = match remote.list(&["notices"], &[("state", "failed".to_owned())], 1_000).await? {
        Outcome::Done(list) => list,
        refused @ Outcome::Refused(_) => return Ok(refused),
    };
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ids = items.iter().filter_map(|item| item.get("id")?.as_i64());
    let (mut queued, mut left) = (0, 0);
    for id in ids {
        match again(remote, &id.to_string()).await? {
            Outcome::Done(_) => queued += 1,
            Outcome::Refused(_) => left += 1,
        }
    }
    Ok(Outcome::Done(json!({ "queued": queued, "left": left, "more": list.get("more") })))
}

/// The notice's own fields, then what is lost, then each channel.
fn whole(notice: &Value) -> Vec<String> {
    let mut head = notice.clone();
    let mut lists = Vec::new();
    if let Some(map) = head.as_object_mut() {
        for key in ["lost", "deliveries"] {
            lists.push(json!({ "items": map.remove(key) }));
        }
    }
    let mut lines = fields(&head);
    let columns: [&[(&str, &str)]; 2] = [
        &[("app", "app"), ("name", "app_name"), ("mailbox", "mailbox"), ("services", "services"), ("why", "why")],
        &[
            ("channel", "channel"),
            ("state", "state"),
            ("tries", "attempts"),
            ("next", "next_at"),
            ("problem", "problem"),
        ],
    ];
    for (list, columns) in lists.iter().zip(columns) {
        if list.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
            lines.push(String::new());
            lines.extend(table(list, columns));
        }
    }
    lines
}
