//! `portcullis groups`: named sets of users whose settings beat the unit's.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::{
    Access,
    directory::{All, Resource, Says, Verbs},
    settings::Wishes,
};

const GROUPS: Resource = Resource {
    path: "groups",
    key: "name",
    columns: &[
        ("name", "name"),
        ("priority", "priority"),
        ("imap", "imap"),
        ("pop", "pop"),
        ("version", "version"),
        ("kept by", "managed_by"),
    ],
    wrapped: false,
};

/// List, make, change and remove groups
///
/// A group's setting beats the unit's; of several groups the one of highest priority that sets the service wins. The members:
/// `portcullis users list --group NAME`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis groups add pilot@example.com --priority 10 --imap any --add ann@example.com
    portcullis groups set pilot@example.com --add bea@example.com --drop ann@example.com
    portcullis users list --group pilot@example.com
    portcullis groups remove pilot@example.com --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: Verbs<All, Wish>,
}

#[derive(Debug, Args)]
struct Wish {
    /// The highest wins
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    #[command(flatten)]
    settings: Wishes,
    /// A member, as often as needed: these and no others
    #[arg(long = "member", value_name = "ADDRESS", conflicts_with_all = ["add", "drop"])]
    members: Vec<String>,
    /// A member beside those there are, as often as needed
    #[arg(long, value_name = "ADDRESS")]
    add: Vec<String>,
    /// A member no more, as often as needed
    #[arg(long, value_name = "ADDRESS")]
    drop: Vec<String>,
}

impl Says for Wish {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let mut set = self.settings.set()?;
        set.extend(self.priority.map(|priority| ("priority".to_owned(), priority.into())));
        for (key, list) in [("members", &self.members), ("add", &self.add), ("remove", &self.drop)] {
            if !list.is_empty() {
                set.insert(key.to_owned(), list.clone().into());
            }
        }
        Ok(set)
    }
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        self.what.run(&self.access, &GROUPS)
    }
}
