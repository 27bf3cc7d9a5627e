//! `portcullis me`: whose token this is, a person's own switches, and why they were refused.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{Access, fields};

/// Show whose token this is; turn a service off for myself; why I was refused
///
/// What an admin turned off stays off. My grants: `portcullis grants list --mine`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis me
    portcullis me switch imap off
    portcullis me refusal 7F3K2Q")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Turn a service off for myself, or take that back
    Switch {
        /// Which
        #[arg(value_parser = ["imap", "pop"])]
        service: String,
        /// `off`, or `on` to take it back
        #[arg(value_parser = ["on", "off"])]
        to: String,
    },
    /// Tell why I was refused, and what to do
    Refusal {
        /// The reference in the reply: `7F3K2Q`
        reference: String,
    },
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            None => self.access.run(async |remote| remote.send(Method::GET, &["me"], &[], None).await, fields),
            Some(What::Switch { service, to }) => {
                let body = json!({ "off": to == "off" });
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::PUT, &["me", "services", service], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
            Some(What::Refusal { reference }) => {
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::GET, &["me", "refusals", reference], &[], None).await
                };
                self.access.run(send, fields)
            }
        }
    }
}
