//! `portcullis changes`: many changes of the directory at once.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Access, directory::How, fields};

/// Longest list, in bytes; the gateway's http.body_bytes may be less.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Make many changes of the directory at once: all of them, or none
///
/// The file is a JSON list of changes, made in their order. Each has `kind` (unit, user, group, mailbox, app), `name`,
/// `action` (make, change, remove; move for a unit, with `to`), what is said in `set`, and the `version` it is meant for, if
/// that matters.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 the API refuses, and nothing was changed; 2 it cannot be reached, or an argument is wrong.

Examples:
    portcullis changes changes.json --preview
    portcullis changes changes.json --reason 'POP3 ends'

A file:
    [{\"kind\": \"unit\", \"name\": \"/Sales\", \"action\": \"change\", \"set\": {\"pop\": \"off\"}},
     {\"kind\": \"user\", \"name\": \"ann@example.com\", \"action\": \"make\", \"set\": {\"unit\": \"/Sales\"}}]")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    access: Access,
    /// The file; - reads standard input
    file: PathBuf,
    #[command(flatten)]
    how: How,
}

impl Arguments {
    pub(in crate::cli) fn run(&self) -> anyhow::Result<ExitCode> {
        let name = self.file.display();
        let text = self.text().with_context(|| format!("{name}: cannot read the changes"))?;
        let read: Value = serde_json::from_str(&text).with_context(|| format!("{name}: this is no JSON"))?;
        let body = match read {
            Value::Array(_) => json!({ "changes": read }),
            Value::Object(_) => read,
            _ => bail!("{name}: write a list of changes, or an object with the list in `changes`"),
        };
        self.how.send(&self.access, None, (Method::POST, &["changes"]), Some(&body), fields)
    }

    fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        let from: Box<dyn Read> = if self.file.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            Box::new(fs::File::open(&self.file)?)
        };
        if from.take(MOST_BYTES + 1).read_to_string(&mut text)? as u64 > MOST_BYTES {
            return Err(io::Error::other("it is larger than 64 MiB: make the changes in parts"));
        }
        Ok(text)
    }
}
