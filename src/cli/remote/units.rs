//! `portcullis units`: the tree of units.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Access,
    directory::{Below, How, Resource, Says, Seen, Verbs},
    fields,
    settings::{Wishes, or_inherit},
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
        ("storage quota", "storage_quota"),
        ("in force", "effective_quota.storage"),
        ("message quota", "message_quota"),
        ("in force", "effective_quota.messages"),
        ("mail in force", "effective_mail"),
        ("read-only", "effective_read_only"),
        ("sessions per user", "effective_sessions_per_user"),
        ("bytes per day", "effective_bytes_per_day"),
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
    portcullis units set / --storage-quota 5G --message-quota 200000
    portcullis units set /Sales --mail dovecot --bytes-per-day 2G --preview
    portcullis units set /Archive --read-only true
    portcullis units move /Sales/Field /Staff/Field
    portcullis units remove /Staff/Field --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

/// What a unit sets.
#[derive(Debug, clap::Args)]
struct UnitWishes {
    #[command(flatten)]
    wishes: Wishes,
    /// What each mailbox may take up: bytes, 500M, 5G, none, or inherit
    #[arg(long, value_name = "SIZE")]
    storage_quota: Option<String>,
    /// How many messages each mailbox may hold: a number, none, or inherit
    #[arg(long, value_name = "COUNT")]
    message_quota: Option<String>,
    /// Where mail is: maildir, the name of an upstream, NAME/HOST for one of its servers, or inherit
    #[arg(long, value_name = "HOME")]
    mail: Option<String>,
    /// Whether mail can only be read there: true, false, or inherit
    #[arg(long, value_name = "YES", value_parser = ["true", "false", "inherit"])]
    read_only: Option<String>,
    /// How many sessions of each service a user may have open: a number, none, or inherit
    #[arg(long, value_name = "COUNT")]
    sessions_per_user: Option<String>,
    /// How much a user may receive and send in a day (UTC): bytes, 500M, 5G, none, or inherit
    #[arg(long, value_name = "SIZE")]
    bytes_per_day: Option<String>,
}

impl Says for UnitWishes {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let mut set = self.wishes.set()?;
        for (key, text) in [
            ("storage_quota", &self.storage_quota),
            ("message_quota", &self.message_quota),
            ("mail", &self.mail),
            ("sessions_per_user", &self.sessions_per_user),
            ("bytes_per_day", &self.bytes_per_day),
        ] {
            set.extend(text.iter().map(|text| (key.to_owned(), or_inherit(text))));
        }
        let read_only = |word: &String| word.parse::<bool>().map_or(Value::Null, Value::from);
        set.extend(self.read_only.iter().map(|word| ("read_only".to_owned(), read_only(word))));
        Ok(set)
    }
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Verb(Verbs<Below, UnitWishes>),
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
