//! `portcullis mailboxes`: shared mailboxes, their members and what those may do.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Access,
    directory::{Below, Resource, Says, Verbs},
};

const MAILBOXES: Resource = Resource {
    path: "mailboxes",
    key: "address",
    columns: &[
        ("address", "address"),
        ("name", "name"),
        ("unit", "unit"),
        ("members", "members"),
        ("version", "version"),
        ("kept by", "managed_by"),
    ],
    wrapped: false,
};

/// List, make, change and remove shared mailboxes
///
/// A member is an address, which may read and write, or ADDRESS=read. A session of whoever is a member no more ends within a
/// second.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis mailboxes add support@example.com --name Support --unit /Sales --member ann@example.com
    portcullis mailboxes set support@example.com --add bea@example.com=read --drop ann@example.com
    portcullis mailboxes show support@example.com
    portcullis mailboxes remove support@example.com --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: Verbs<Below, Wish>,
}

#[derive(Debug, Args)]
struct Wish {
    /// What people call it; empty for nothing
    #[arg(long = "name", value_name = "TEXT")]
    label: Option<String>,
    /// The unit it belongs to; empty for none
    #[arg(long, value_name = "PATH")]
    unit: Option<String>,
    /// A member, as often as needed: these and no others
    #[arg(long = "member", value_name = "ADDRESS[=RIGHTS]", conflicts_with_all = ["add", "drop"])]
    members: Vec<String>,
    /// A member beside those there are, or with other rights, as often as needed
    #[arg(long, value_name = "ADDRESS[=RIGHTS]")]
    add: Vec<String>,
    /// A member no more, as often as needed
    #[arg(long, value_name = "ADDRESS")]
    drop: Vec<String>,
    /// For a new one at the address of a former user: open that user's mail to the members
    #[arg(long)]
    take_over: bool,
}

/// `ann@example.com`, or `ann@example.com=read`.
fn member(text: &String) -> Value {
    // An address may hold the sign itself, rights do not.
    match text.rsplit_once('=') {
        Some((user, rights @ ("read" | "write"))) => json!({ "user": user, "rights": rights }),
        _ => json!({ "user": text }),
    }
}

impl Says for Wish {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let text = |text: &String| if text.is_empty() { Value::Null } else { text.as_str().into() };
        let mut set = Map::new();
        set.extend(self.label.iter().map(|name| ("name".to_owned(), text(name))));
        set.extend(self.unit.iter().map(|unit| ("unit".to_owned(), text(unit))));
        for (key, list) in [("members", &self.members), ("add", &self.add)] {
            if !list.is_empty() {
                set.insert(key.to_owned(), list.iter().map(member).collect());
            }
        }
        if !self.drop.is_empty() {
            set.insert("remove".to_owned(), self.drop.clone().into());
        }
        if self.take_over {
            set.insert("take_over".to_owned(), true.into());
        }
        Ok(set)
    }
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        self.what.run(&self.access, &MAILBOXES)
    }
}
