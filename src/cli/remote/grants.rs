//! `portcullis grants`: which apps people have let in, and cutting them off.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Access, fields, table};

/// List, disable, enable and remove grants: "this user lets this app read this mailbox"
///
/// Sessions under a grant end within a second of its being disabled or removed. After a removal only a token issued later
/// lets the app in again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis grants list --user ann@example.com
    portcullis grants disable 17 --reason 'lost phone'
    portcullis grants revoke --app CLIENT-ID --yes
    portcullis grants list --mine")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List grants in the order in which they were made
    List {
        /// Of this user
        #[arg(long, value_name = "ADDRESS")]
        user: Option<String>,
        /// To this mailbox
        #[arg(long, value_name = "ADDRESS")]
        owner: Option<String>,
        /// Of this app
        #[arg(long, value_name = "CLIENT-ID")]
        app: Option<String>,
        /// In this state
        #[arg(long, value_parser = ["active", "disabled", "removed"])]
        state: Option<String>,
        /// My own, asked with my own access token
        #[arg(long, conflicts_with_all = ["user", "owner", "app", "state"])]
        mine: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Show one grant
    Show {
        /// Its number
        id: i64,
    },
    /// Shut the app out, and keep the grant to enable it again
    Disable(Change),
    /// Let the app in again
    Enable(Change),
    /// Remove a disabled grant
    Remove {
        #[command(flatten)]
        change: Change,
        /// Remove it although it is active
        #[arg(long)]
        yes: bool,
    },
    /// Remove every grant of a user or of an app
    Revoke {
        /// Of this user
        #[arg(long, value_name = "ADDRESS", required_unless_present = "app")]
        user: Option<String>,
        /// Of this app
        #[arg(long, value_name = "CLIENT-ID")]
        app: Option<String>,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Needed: it cannot be taken back
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Change {
    /// The grant's number
    id: i64,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A grant of my own, asked with my own access token
    #[arg(long)]
    mine: bool,
}

const COLUMNS: [(&str, &str); 7] = [
    ("id", "id"),
    ("state", "state"),
    ("user", "user"),
    ("mailbox", "owner"),
    ("open", "open_sessions"),
    ("since", "made_at"),
    ("app", "app"),
];

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List { user, owner, app, state, mine, limit } => {
                let given = [("user", user), ("owner", owner), ("app", app), ("state", state)];
                let query: Vec<(&str, String)> =
                    given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
                let path: &[&str] = if *mine { &["me", "grants"] } else { &["grants"] };
                self.access
                    .run(async |remote| remote.list(path, &query, *limit).await, |list| table(list, &COLUMNS))
            }
            What::Show { id } => {
                let id = id.to_string();
                self.access.run(async |remote| remote.send(Method::GET, &["grants", &id], &[], None).await, fields)
            }
            What::Disable(change) => self.change(change, "disabled", false),
            What::Enable(change) => self.change(change, "active", false),
            What::Remove { change, yes } => self.change(change, "removed", *yes),
            What::Revoke { yes: false, .. } => bail!("grants revoke cannot be taken back: say --yes"),
            What::Revoke { user, app, reason, .. } => {
                let body = json!({ "user": user, "app": app, "reason": reason });
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::POST, &["grants", "revoke"], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
        }
    }

    fn change(&self, change: &Change, state: &str, yes: bool) -> anyhow::Result<ExitCode> {
        let id = change.id.to_string();
        let body = json!({ "state": state, "reason": change.reason, "yes": yes });
        let path: Vec<&str> = if change.mine { vec!["me", "grants", &id] } else { vec!["grants", &id] };
        let said = |grant: &Value| table(&json!({ "items": [grant] }), &COLUMNS);
        self.access.run(async |remote| remote.send(Method::PATCH, &path, &[], Some(&body)).await, said)
    }
}
