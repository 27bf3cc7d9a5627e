//! `portcullis units`: the tree of units.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{
    Access,
    directory::{Below, How, Resource, Seen, Verbs},
    fields,
    settings::Wishes,
};

const UNITS: Resource = Resource {
    path: "units",
    key: "path",
    columns: &[
        ("path", "path"),
        ("imap", "imap"),
        ("imap in force", "effective.imap"),
        ("pop", "pop"),
        ("pop in force", "effective.pop"),
        ("version", "version"),
        ("kept by", "managed_by"),
    ],
    wrapped: true,
};

/// List, make, change, move and remove units
///
/// A unit is named by its path, as /Sales/Field; the root is /. Open sessions follow each change within a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis units list --below /Sales
    portcullis units add /Sales/Field --imap CLIENT-ID,CLIENT-ID --pop off
    portcullis units set /Sales --imap off --preview
    portcullis units set /Sales --imap inherit --if-match 4
    portcullis units move /Sales/Field /Staff/Field
    portcullis units remove /Staff/Field --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Verb(Verbs<Below, Wishes>),
    /// Move a unit with all below it, or rename it
    Move {
        /// Its path
        from: String,
        /// Its new path; the unit above that one must exist
        to: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        seen: Seen,
    },
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Verb(verb) => verb.run(&self.access, &UNITS),
            What::Move { from, to, how, seen } => {
                let body = json!({ "path": to });
                how.send(&self.access, Some(seen), (Method::PATCH, &[UNITS.path, from]), Some(&body), fields)
            }
        }
    }
}
