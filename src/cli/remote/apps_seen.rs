//! `portcullis apps-seen`: which apps have knocked, and letting one in.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Access, Remote, fields, table};

/// List the apps that have knocked, let in or not, and let one in somewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis apps-seen list --refused
    portcullis apps-seen allow CLIENT-ID --unit /Sales --service imap")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List apps, the last used first
    List {
        /// Used by users of this unit or below it
        #[arg(long, value_name = "PATH")]
        unit: Option<String>,
        /// Refused at least once
        #[arg(long)]
        refused: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 500)]
        limit: usize,
    },
    /// Put an app on a unit's list
    Allow {
        /// The app's client ID
        app: String,
        /// In this unit and what inherits from it
        #[arg(long, value_name = "PATH")]
        unit: String,
        /// By this protocol
        #[arg(long, value_parser = ["imap", "pop"])]
        service: String,
    },
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List { unit, refused, limit } => {
                let mut query: Vec<(&str, String)> = unit.iter().map(|unit| ("unit", unit.clone())).collect();
                query.extend(refused.then(|| ("refused", "true".to_owned())));
                let columns = [
                    ("app", "app"),
                    ("name", "name"),
                    ("users", "users"),
                    ("last", "last"),
                    ("imap", "imap_words"),
                    ("pop", "pop_words"),
                    ("last refusal", "last_refusal"),
                    ("programs", "programs"),
                ];
                self.access.run(
                    async |remote| remote.list(&["apps-seen"], &query, *limit).await,
                    |list| table(&counted(list), &columns),
                )
            }
            What::Allow { app, unit, service } => {
                let body = json!({ "app": app, "unit": unit, "service": service });
                let send = async |remote: Remote<'_>| {
                    remote.send(Method::POST, &["apps-seen", "allow"], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
        }
    }
}

/// `12 in, 3 refused` in place of the two numbers of each service.
fn counted(list: &Value) -> Value {
    let mut list = list.clone();
    for item in list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        for service in ["imap", "pop"] {
            let number =
                |key: &str| item.get(service).and_then(|of| of.get(key)).and_then(Value::as_u64).unwrap_or(0);
            let words = format!("{} in, {} refused", number("accepted"), number("refused"));
            if let Some(map) = item.as_object_mut() {
                map.insert(format!("{service}_words"), words.into());
            }
        }
    }
    list
}
