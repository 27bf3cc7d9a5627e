//! `portcullis cutoffs`: what issuers said against tokens and accounts, and forgetting it.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{Access, Remote, fields, table};

/// List what issuers said against tokens and accounts, and forget it
///
/// An issuer says by an identity event that sessions are revoked or that an account is disabled. Tokens it names are not
/// good here until it says otherwise, or an admin has its word forgotten.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis cutoffs list
    portcullis cutoffs forget https://id.example.com address ann@example.com --yes")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Forget one: tokens that were refused are good again
    Forget {
        /// The issuer, as the list shows it
        issuer: String,
        /// The kind, as the list shows it
        kind: String,
        /// The subject, as the list shows it; nothing for everybody
        #[arg(default_value = "")]
        subject: String,
        /// Needed: who was shut out may come in again
        #[arg(long)]
        yes: bool,
    },
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::List { limit } => {
                let columns = [
                    ("issuer", "issuer"),
                    ("kind", "kind"),
                    ("subject", "subject"),
                    ("account", "account"),
                    ("tokens until", "issued_until"),
                    ("event", "event"),
                    ("since", "changed_at"),
                ];
                self.access
                    .run(async |remote| remote.list(&["cutoffs"], &[], *limit).await, |list| table(list, &columns))
            }
            What::Forget { yes: false, .. } => {
                bail!("cutoffs forget lets tokens in that the issuer took back: say --yes")
            }
            What::Forget { issuer, kind, subject, .. } => {
                let body = json!({ "issuer": issuer, "kind": kind, "subject": subject });
                let send = async |remote: Remote<'_>| {
                    remote.send(Method::POST, &["cutoffs", "forget"], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
        }
    }
}
