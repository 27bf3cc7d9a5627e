//! `portcullis sessions`: who is in, on all nodes, and ending sessions.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value};

use super::{Access, Remote, fields, table};

/// List, describe and end live sessions of all nodes
///
/// A session that is ended may come back at once if policy allows; to keep somebody out, change what lets them in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis sessions list --unit /Sales
    portcullis sessions show k3f9a2xw.s17
    portcullis sessions end --user ann@example.com --app CLIENT-ID")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List live sessions
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Show one session
    Show {
        /// Its name, as the list shows it
        id: String,
    },
    /// End one session, or all that match every part given
    End {
        /// The session's name
        #[arg(conflicts_with_all = ["user", "owner", "app", "service", "unit", "address"])]
        id: Option<String>,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Of this user's tokens
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// In this mailbox
    #[arg(long, value_name = "ADDRESS")]
    owner: Option<String>,
    /// Of this app
    #[arg(long, value_name = "CLIENT-ID")]
    app: Option<String>,
    /// By this protocol
    #[arg(long, value_parser = ["imap", "pop"])]
    service: Option<String>,
    /// Of users in this unit or below it
    #[arg(long, value_name = "PATH")]
    unit: Option<String>,
    /// From this address or network
    #[arg(long, value_name = "NETWORK")]
    address: Option<String>,
}

impl Which {
    fn given(&self) -> Vec<(&'static str, String)> {
        let parts = [
            ("user", &self.user),
            ("owner", &self.owner),
            ("app", &self.app),
            ("service", &self.service),
            ("unit", &self.unit),
            ("address", &self.address),
        ];
        parts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

const COLUMNS: [(&str, &str); 8] = [
    ("session", "id"),
    ("service", "service"),
    ("user", "user"),
    ("mailbox", "owner"),
    ("from", "peer"),
    ("since", "since"),
    ("last", "command"),
    ("app", "app"),
];

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List { which, limit } => {
                let query = which.given();
                self.access.run(
                    async |remote| remote.list(&["sessions"], &query, *limit).await,
                    |list| table(list, &COLUMNS),
                )
            }
            What::Show { id } => {
                self.access.run(async |remote| remote.send(Method::GET, &["sessions", id], &[], None).await, fields)
            }
            What::End { id: Some(id), .. } => self
                .access
                .run(async |remote| remote.send(Method::DELETE, &["sessions", id], &[], None).await, fields),
            What::End { id: None, which } => {
                let body: Map<String, Value> =
                    which.given().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
                if body.is_empty() {
                    bail!(
                        "sessions end: name a session, or --user, --owner, --app, --service, --unit or --address"
                    );
                }
                let body = Value::Object(body);
                let send = async |remote: Remote<'_>| {
                    remote.send(Method::POST, &["sessions", "end"], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
        }
    }
}
