//! `portcullis settings`: which apps a unit, user or group admits by IMAP and POP3, its own setting and the one in force.
//! And what other commands take of settings.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Access, Remote,
    directory::{How, Says, Seen},
    fields, table,
};

/// Settings, where several may be named at once.
#[derive(Debug, Args)]
pub(super) struct Wishes {
    /// IMAP: off, any, client IDs between commas, or inherit
    #[arg(long, value_name = "APPS")]
    imap: Option<String>,
    /// POP3: the same
    #[arg(long, value_name = "APPS")]
    pop: Option<String>,
    /// When what --imap and --pop say ends by itself, as 2026-12-18T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Says for Wishes {
    fn set(&self) -> anyhow::Result<Map<String, Value>> {
        let mut set = Map::new();
        for (service, apps) in [("imap", &self.imap), ("pop", &self.pop)] {
            if let Some(apps) = apps {
                set.insert(service.to_owned(), setting(apps, self.until.as_deref())?);
            }
        }
        if self.until.is_some() && set.is_empty() {
            bail!("--until: name with --imap or --pop what is to end then");
        }
        Ok(set)
    }
}

/// What a unit or user says of one thing, or that it says nothing any more.
pub(super) fn or_inherit(text: &str) -> Value {
    match text.trim() {
        "inherit" => Value::Null,
        text => Value::from(text),
    }
}

/// A setting as the API takes it.
fn setting(apps: &str, until: Option<&str>) -> anyhow::Result<Value> {
    match (apps.trim(), until) {
        ("inherit", None) => Ok(Value::Null),
        ("inherit", Some(_)) => bail!("--until: to inherit has no end; it ends with a setting of its own"),
        (apps, None) => Ok(Value::from(apps)),
        (apps, Some(until)) => Ok(json!({ "apps": apps, "until": until })),
    }
}

/// Show and change which apps a unit, user or group admits
///
/// A unit without a setting of its own inherits its parent's; a group's beats the unit's, a user's beats both. `any` admits
/// every app, `off` none, and a list of client IDs those alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis settings show --unit /Sales
    portcullis settings set --unit /Sales imap CLIENT-ID,CLIENT-ID --preview
    portcullis settings set --user leaver@example.com imap any --until 2026-12-18T18:00:00Z
    portcullis settings inherit --unit /Sales imap")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the settings of its own, and what is in force there and from where
    Show {
        #[command(flatten)]
        place: Place,
    },
    /// Give a service a setting of its own
    Set {
        #[command(flatten)]
        place: Place,
        /// Which service
        #[arg(value_parser = ["imap", "pop"])]
        service: String,
        /// off, any, or client IDs between commas
        apps: String,
        /// When it ends by itself, as 2026-12-18T18:00:00Z
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        seen: Seen,
    },
    /// Drop the setting of its own: it inherits again
    Inherit {
        #[command(flatten)]
        place: Place,
        /// Which service
        #[arg(value_parser = ["imap", "pop"])]
        service: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        seen: Seen,
    },
}

/// Whose settings.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Of this unit
    #[arg(long, value_name = "PATH")]
    unit: Option<String>,
    /// Of this user alone
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// Of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

impl Place {
    fn path(&self) -> [&str; 2] {
        match (&self.unit, &self.user, &self.group) {
            (Some(unit), ..) => ["units", unit],
            (None, Some(user), _) => ["users", user],
            (None, None, group) => ["groups", group.as_deref().unwrap_or_default()],
        }
    }
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Show { place } => {
                let send = async |remote: Remote<'_>| remote.send(Method::GET, &place.path(), &[], None).await;
                self.access.run(send, both)
            }
            What::Set { place, service, apps, until, how, seen } => {
                if apps.trim() == "inherit" {
                    bail!("settings set: to inherit again, use `portcullis settings inherit`");
                }
                self.change(place, service, &setting(apps, until.as_deref())?, how, seen)
            }
            What::Inherit { place, service, how, seen } => self.change(place, service, &Value::Null, how, seen),
        }
    }

    fn change(&self, place: &Place, service: &str, to: &Value, how: &How, seen: &Seen) -> anyhow::Result<ExitCode> {
        let set = json!({ (service): to });
        let body = if place.unit.is_some() { json!({ "set": set }) } else { set };
        how.send(&self.access, Some(seen), (Method::PATCH, &place.path()), Some(&body), both)
    }
}

/// A line for each service. A group has nothing in force: its settings only count for its members.
fn both(answer: &Value) -> Vec<String> {
    let of = |service: &str| {
        let own = answer.get(service).cloned().unwrap_or_else(|| "inherit".into());
        let force = answer.get("effective").and_then(|effective| effective.get(service)).cloned();
        json!({ "service": service, "own": own, "force": force })
    };
    let list = json!({ "items": [of("imap"), of("pop")] });
    let mut lines = table(&list, &[("service", "service"), ("its own", "own"), ("in force", "force")]);
    let version = answer.get("version").map(|version| json!({ "version": version }));
    lines.extend(version.iter().flat_map(fields));
    lines
}
