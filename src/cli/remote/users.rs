//! `portcullis users`: which unit each user is in, suspension, exceptions of their own.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::{
    Access,
    directory::{Resource, Says, Verbs, Which},
    settings::{Wishes, or_inherit},
};

const USERS: Resource = Resource {
    path: "users",
    key: "address",
    columns: &[
        ("address", "address"),
        ("unit", "unit"),
        ("suspended", "suspended"),
        ("imap in force", "effective.imap"),
        ("pop in force", "effective.pop"),
        ("off by themselves", "own_off"),
        ("groups", "groups"),
        ("mail in force", "effective_mail"),
        ("version", "version"),
        ("kept by", "managed_by"),
    ],
    wrapped: false,
};

/// List, make, change and remove users
///
/// A user is in exactly one unit. A setting of the user's own is an exception: it beats the unit's and the groups', and
/// --until ends it by itself. Open sessions follow each change within a second.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis users list --below /Sales
    portcullis users add ann@example.com --unit /Sales
    portcullis users set ann@example.com --suspended true
    portcullis users set ann@example.com --mail dovecot/mail2.internal --preview
    portcullis users set ann@example.com --imap any --until 2026-12-18T18:00:00Z
    portcullis users remove ann@example.com --preview")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: Verbs<Filter, Wish>,
}

#[derive(Debug, Args)]
struct Filter {
    /// In this unit or below it
    #[arg(long, value_name = "PATH")]
    below: Option<String>,
    /// Members of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Whose address begins so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

impl Which for Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let parts = [("below", &self.below), ("group", &self.group), ("prefix", &self.prefix)];
        parts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

#[derive(Debug, Args)]
struct Wish {
    /// The unit; a new user needs one
    #[arg(long, value_name = "PATH")]
    unit: Option<String>,
    /// Whether nothing is allowed any more
    #[arg(long, value_name = "YES")]
    suspended: Option<bool>,
    #[command(flatten)]
    settings: Wishes,
    /// Where the user's mail is: maildir, the name of an upstream, NAME/HOST for one of its servers, or inherit
    #[arg(long, value_name = "HOME")]
    mail: Option<String>,
}

impl Says for Wish {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let mut set = self.settings.set()?;
        set.extend(self.unit.iter().map(|unit| ("unit".to_owned(), unit.as_str().into())));
        set.extend(self.suspended.map(|suspended| ("suspended".to_owned(), suspended.into())));
        set.extend(self.mail.iter().map(|home| ("mail".to_owned(), or_inherit(home))));
        Ok(set)
    }
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        self.what.run(&self.access, &USERS)
    }
}
