//! `portcullis tokens`, `portcullis admins` and `portcullis bootstrap`: who may use the API.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Access, fields, table};

/// Make, list and revoke API tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis tokens make --name 'nightly report' --role auditor --scope audit:read
    portcullis tokens list
    portcullis tokens revoke 3")]
pub(in crate::cli) struct Tokens {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: TokenWhat,
}

#[derive(Debug, Subcommand)]
enum TokenWhat {
    /// List all tokens, without their secrets
    List,
    /// Make a token and print it, this once
    Make {
        /// What people call it
        #[arg(long)]
        name: String,
        #[command(flatten)]
        role: RoleArguments,
        /// Part of what the role may: directory, grants, sessions, audit, access, metrics, scim, each alone or with :read
        #[arg(long = "scope", value_name = "WORD")]
        scopes: Vec<String>,
        /// When it ends, as 2026-12-18T18:00:00Z; in 90 days if this is absent
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Revoke a token; it is not good any more from then on
    Revoke {
        /// Its number
        id: i64,
    },
}

#[derive(Debug, clap::Args)]
struct RoleArguments {
    /// The role
    #[arg(long, value_parser = ["super", "admin", "account_access", "auditor"])]
    role: String,
    /// The unit of an admin or account_access; all below it is theirs too
    #[arg(long, value_name = "PATH", required_if_eq_any([("role", "admin"), ("role", "account_access")]))]
    unit: Option<String>,
}

impl Tokens {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            TokenWhat::List => {
                let columns = [
                    ("id", "id"),
                    ("name", "name"),
                    ("role", "role"),
                    ("unit", "unit"),
                    ("scopes", "scopes"),
                    ("expires", "expires_at"),
                    ("last used", "last_used_at"),
                    ("made by", "made_by"),
                ];
                let send = async |remote: super::Remote<'_>| remote.send(Method::GET, &["tokens"], &[], None).await;
                self.access.run(send, |list| table(list, &columns))
            }
            TokenWhat::Make { name, role, scopes, expires_at } => {
                let mut body = json!({ "name": name, "role": role.role, "unit": role.unit, "scopes": scopes });
                if let (Some(at), Some(map)) = (expires_at, body.as_object_mut()) {
                    map.insert("expires_at".into(), Value::from(at.as_str()));
                }
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::POST, &["tokens"], &[], Some(&body)).await
                };
                self.access.run(send, secret)
            }
            TokenWhat::Revoke { id } => {
                let id = id.to_string();
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::DELETE, &["tokens", &id], &[], None).await
                };
                self.access.run(send, fields)
            }
        }
    }
}

/// The token alone, so that it can be piped into a file.
fn secret(made: &Value) -> Vec<String> {
    made.get("token").and_then(Value::as_str).map(str::to_owned).into_iter().collect()
}

/// Give people a role, and take it away
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis admins set ann@example.com --role admin --unit /Sales
    portcullis admins list
    portcullis admins remove ann@example.com")]
pub(in crate::cli) struct Admins {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: AdminWhat,
}

#[derive(Debug, Subcommand)]
enum AdminWhat {
    /// List everybody with a role
    List,
    /// Give a person a role in place of the one they have
    Set {
        /// Their address
        user: String,
        #[command(flatten)]
        role: RoleArguments,
    },
    /// Take a person's role away
    Remove {
        /// Their address
        user: String,
    },
}

impl Admins {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            AdminWhat::List => {
                let columns = [
                    ("user", "user"),
                    ("role", "role"),
                    ("unit", "unit"),
                    ("given by", "changed_by"),
                    ("given at", "changed_at"),
                ];
                let send = async |remote: super::Remote<'_>| remote.send(Method::GET, &["admins"], &[], None).await;
                self.access.run(send, |list| table(list, &columns))
            }
            AdminWhat::Set { user, role } => {
                let body = json!({ "role": role.role, "unit": role.unit });
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::PUT, &["admins", user], &[], Some(&body)).await
                };
                self.access.run(send, fields)
            }
            AdminWhat::Remove { user } => {
                let send = async |remote: super::Remote<'_>| {
                    remote.send(Method::DELETE, &["admins", user], &[], None).await
                };
                self.access.run(send, fields)
            }
        }
    }
}

/// Exchange the one-time secret of the first start for a super admin's API token, and print it
///
/// `serve` writes the secret to DATA_DIR/bootstrap-secret while nobody administers. It works once; the token lives for a day:
/// make a lasting one with it, or give a person the role.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Example:
    portcullis bootstrap --secret-file /var/lib/portcullis/bootstrap-secret > token")]
pub(in crate::cli) struct Bootstrap {
    #[command(flatten)]
    access: Access,
    /// The file that `serve` wrote
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
}

impl Bootstrap {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        let file = &self.secret_file;
        let text = fs::read_to_string(file).with_context(|| format!("--secret-file {}", file.display()))?;
        let body = json!({ "secret": text.trim() });
        let outcome = crate::cli::block_on(async {
            self.access.remote(false)?.send(Method::POST, &["bootstrap"], &[], Some(&body)).await
        })?;
        self.access.finish(outcome, secret)
    }
}
