//! `portcullis apps`: the app catalogue.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::{
    Access,
    directory::{All, Resource, Says, Verbs},
};

const APPS: Resource = Resource {
    path: "apps",
    key: "id",
    columns: &[
        ("id", "id"),
        ("name", "name"),
        ("trust", "trust"),
        ("limited to", "units"),
        ("service account in", "delegation"),
        ("read-only", "read_only"),
        ("version", "version"),
        ("kept by", "managed_by"),
    ],
    wrapped: false,
};

/// List, make, change and remove apps of the catalogue: names, and how far each app is trusted
///
/// An app is named by its client ID; one that ends in * is every ID with that beginning. Which apps have knocked:
/// `portcullis apps-seen list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis apps add CLIENT-ID --name 'Sales Mail' --trust limited --unit /Sales
    portcullis apps set CLIENT-ID --trust blocked --preview
    portcullis apps set CLIENT-ID --read-only true
    portcullis apps remove CLIENT-ID --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: Verbs<All, Wish>,
}

#[derive(Debug, Args)]
struct Wish {
    /// What people call it; empty for nothing
    #[arg(long = "name", value_name = "TEXT")]
    label: Option<String>,
    /// How far it is trusted; limited: in the units named by --unit alone
    #[arg(long, value_parser = ["trusted", "limited", "blocked"])]
    trust: Option<String>,
    /// A unit that a limited app is limited to, as often as needed
    #[arg(long = "unit", value_name = "PATH")]
    units: Vec<String>,
    /// A unit in which it may act as a service account, as often as needed; empty for none
    #[arg(long, value_name = "PATH")]
    delegation: Vec<String>,
    /// Whether it may only read, wherever it is let in
    #[arg(long, value_name = "YES")]
    read_only: Option<bool>,
}

impl Says for Wish {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let mut set = Map::new();
        let name = |name: &String| if name.is_empty() { Value::Null } else { name.as_str().into() };
        set.extend(self.label.iter().map(|text| ("name".to_owned(), name(text))));
        set.extend(self.trust.iter().map(|trust| ("trust".to_owned(), trust.as_str().into())));
        set.extend(self.read_only.map(|read_only| ("read_only".to_owned(), read_only.into())));
        for (key, list) in [("units", &self.units), ("delegation", &self.delegation)] {
            if !list.is_empty() {
                let named = list.iter().filter(|unit| !unit.is_empty());
                set.insert(key.to_owned(), named.cloned().map(Value::from).collect());
            }
        }
        Ok(set)
    }
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        self.what.run(&self.access, &APPS)
    }
}
