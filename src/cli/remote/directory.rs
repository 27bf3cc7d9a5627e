//! What the commands for units, users, groups, mailboxes and apps share: list, show, add, set and remove, each over the same
//! four requests.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Access, Remote, fields, show::preview, table};

/// One kind of thing in the directory.
pub(super) struct Resource {
    /// Its path after `/api/v1/`.
    pub(super) path: &'static str,
    /// The field with its name.
    pub(super) key: &'static str,
    /// What a list shows: headings and keys.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Whether a change is sent inside `set`.
    pub(super) wrapped: bool,
}

/// Which things a list is to show.
pub(super) trait Which: Args {
    /// The words of the query.
    fn query(&self) -> Vec<(&'static str, String)>;
}

/// What is said of a thing.
pub(super) trait Says: Args {
    /// The fields that are named, and no others.
    fn set(&self) -> anyhow::Result<Map<String, Value>>;
}

/// All of them.
#[derive(Debug, Args)]
pub(super) struct All {}

impl Which for All {
    fn query(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Those of a unit.
#[derive(Debug, Args)]
pub(super) struct Below {
    /// Of this unit or below it
    #[arg(long, value_name = "PATH")]
    below: Option<String>,
}

impl Which for Below {
    fn query(&self) -> Vec<(&'static str, String)> {
        self.below.iter().map(|unit| ("below", unit.clone())).collect()
    }
}

/// How a change is made.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Change nothing; show who would lose or gain access, and which open sessions would end
    #[arg(long)]
    preview: bool,
    /// Tell everybody who loses access to something by it: queues a notice to each; a preview tells how many there are
    #[arg(long, conflicts_with = "preview")]
    notify: bool,
    /// Why, for the audit log and the notices
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl How {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<_> = self.preview.then(|| ("preview", "true".to_owned())).into_iter().collect();
        query.extend(self.notify.then(|| ("notify", "true".to_owned())));
        query.extend(self.reason.iter().map(|why| ("reason", why.clone())));
        query
    }

    /// How the answer is shown.
    fn show<'a>(
        &self,
        otherwise: impl FnOnce(&Value) -> Vec<String> + 'a,
    ) -> impl FnOnce(&Value) -> Vec<String> + 'a {
        let tried = self.preview;
        move |answer| if tried { preview(answer) } else { otherwise(answer) }
    }

    /// Sends a change, all of which the API answers alike.
    pub(super) fn send(
        &self,
        access: &Access,
        seen: Option<&Seen>,
        request: (Method, &[&str]),
        body: Option<&Value>,
        show: impl FnOnce(&Value) -> Vec<String>,
    ) -> anyhow::Result<ExitCode> {
        let (method, path) = request;
        let seen = seen.map(Seen::words).transpose()?;
        let send =
            async |remote: Remote<'_>| remote.send_if(seen.as_deref(), method, path, &self.query(), body).await;
        access.run(send, self.show(show))
    }
}

/// Which version a change is meant for.
#[derive(Debug, Args)]
pub(super) struct Seen {
    /// Only while it has this version, which `show` tells; without it, whatever version it has
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
}

impl Seen {
    /// As `If-Match` has it.
    fn words(&self) -> anyhow::Result<String> {
        let Some(text) = &self.if_match else { return Ok("*".to_owned()) };
        match text.trim_matches('"').parse::<i64>() {
            Ok(version) => Ok(format!("\"{version}\"")),
            Err(_) => bail!("--if-match {text:?}: write the version that `show` tells, a number"),
        }
    }
}

/// What can be done with each of them. `W` is what a list goes by, `S` what can be said.
#[derive(Debug, Subcommand)]
pub(super) enum Verbs<W: Args, S: Args> {
    /// List them
    List {
        #[command(flatten)]
        which: W,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Show one, with its version
    Show {
        /// Its name, as the list shows it
        name: String,
    },
    /// Add one
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        says: S,
        #[command(flatten)]
        how: How,
    },
    /// Change one: what is not named stays as it is
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        says: S,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        seen: Seen,
    },
    /// Remove one
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        seen: Seen,
        /// Needed, unless it is a preview: it cannot be taken back
        #[arg(long)]
        yes: bool,
    },
}

impl<W: Which, S: Says> Verbs<W, S> {
    pub(super) fn run(&self, access: &Access, of: &Resource) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { which, limit } => access.run(
                async |remote| remote.list(&[of.path], &which.query(), *limit).await,
                |list| table(list, of.columns),
            ),
            Self::Show { name } => {
                access.run(async |remote| remote.send(Method::GET, &[of.path, name], &[], None).await, fields)
            }
            Self::Add { name, says, how } => {
                let body = json!({ (of.key): name, "set": says.set()? });
                how.send(access, None, (Method::POST, &[of.path]), Some(&body), fields)
            }
            Self::Set { name, says, how, seen } => {
                let set = says.set()?;
                if set.is_empty() {
                    bail!("{} set {name}: say what is to change; --help lists what can", of.path);
                }
                let set = Value::Object(set);
                let body = if of.wrapped { json!({ "set": set }) } else { set };
                how.send(access, Some(seen), (Method::PATCH, &[of.path, name]), Some(&body), fields)
            }
            Self::Remove { name, how, yes, .. } if !*yes && !how.preview => bail!(
                "{} remove {name} cannot be taken back: say --yes, or --preview to see whom it touches",
                of.path
            ),
            Self::Remove { name, how, seen, .. } => {
                how.send(access, Some(seen), (Method::DELETE, &[of.path, name]), None, fields)
            }
        }
    }
}
