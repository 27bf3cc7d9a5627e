//! `portcullis policy export|plan|apply`: the policy as a file, beside a running gateway or without one.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, EXIT_WRONG};
use crate::config::Config;
use crate::model::UnixTime;
use crate::policy::{Preview, Side, file};
use crate::serve;
use crate::store::{Plan, Store, StoreError};

/// Most pairs of user and app that a plan shows to people.
const SHOWN: usize = 10;
/// Longest reason, in characters.
const REASON_CHARS: usize = 500;

/// Write the policy to a file, see what a file would change, apply it
///
/// Works on the database, beside a running gateway too: what is applied is in force there within a second, open sessions
/// included.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, or nothing to do; 1 plan: the file would change something, apply: not confirmed; 2 wrong file, \
database out of reach, or changed meanwhile.

Examples:
    portcullis policy export --config config/portcullis.toml > policy.toml
    portcullis policy plan  --config config/portcullis.toml policy.toml
    portcullis policy plan  --config config/portcullis.toml policy.toml --notify --on 2026-12-18
    portcullis policy apply --config config/portcullis.toml policy.toml --yes --expect 4711")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(Export),
    Plan(PlanArguments),
    Apply(Apply),
}

/// Print the policy in the database as a policy file
///
/// Applied again, it changes nothing but who keeps the rows: the file. Grants and the users' own switches are no part of
/// it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 printed; 2 the database cannot be read.")]
struct Export {
    #[command(flatten)]
    config: ConfigFile,
}

/// Show what a policy file would change, and who would lose or gain access
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 the file would change nothing; 1 it would change something; 2 wrong file or database out of reach.")]
struct PlanArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The policy file
    file: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Tell everybody who would lose access, ahead of it: queues a notice to each
    #[arg(long)]
    notify: bool,
    /// What the notices name as the day, or the moment, of the change: 2026-12-18, 2026-12-18T18:00:00Z
    #[arg(long, value_name = "DATE", requires = "notify", value_parser = moment)]
    on: Option<UnixTime>,
    /// Why, for the notices
    #[arg(long, value_name = "TEXT", requires = "notify", value_parser = reason)]
    reason: Option<String>,
}

/// Apply a policy file: all of it in one transaction, or nothing
///
/// Shows the plan first and asks, where it is run at a terminal. Rows that the file names are the file's from then on; rows
/// of an earlier file that it no longer names are removed; rows of others stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 applied, or nothing to do; 1 not confirmed; 2 wrong file, database out of reach, or the policy was changed \
meanwhile.")]
struct Apply {
    #[command(flatten)]
    config: ConfigFile,
    /// The policy file
    file: PathBuf,
    /// Only while the policy has this version, which `plan` tells; without it, the version of the plan that is shown
    #[arg(long, value_name = "VERSION")]
    expect: Option<i64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Tell everybody who loses access: queues a notice to each, in the same transaction
    #[arg(long)]
    notify: bool,
    /// Why, for the notices
    #[arg(long, value_name = "TEXT", requires = "notify", value_parser = reason)]
    reason: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            match &self.command {
                Command::Export(export) => export.run().await,
                Command::Plan(plan) => plan.run().await,
                Command::Apply(apply) => apply.run().await,
            }
        })
    }
}

async fn open(config: &Config) -> anyhow::Result<Arc<Store>> {
    let settings = config.store_settings();
    if !settings.is_made().await? {
        bail!(
            "{}: there is no database yet, so there is no policy in it; `portcullis serve` makes it at its first start",
            config.data_dir.display()
        );
    }
    Ok(Store::open(&settings).await?)
}

impl Export {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let store = open(&self.config.read()?).await?;
        let (document, version) = store.export().await?;
        let text = format!("# The policy, version {version}.\n\n{}", file::write(&document));
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

impl PlanArguments {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let document = serve::policy_document(&self.file)?;
        let name = self.file.display().to_string();
        let store = open(&config).await?;
        let plan = store.plan(&document, &name, &[]).await?;
        let told = if self.notify {
            let by = format!("{} with {name}", account());
            Some(store.warn(&document, (&name, &by), self.on, self.reason.as_deref()).await?)
        } else {
            None
        };
        if self.json {
            let mut json = to_json(&plan);
            if let (Some(object), Some(told)) = (json.as_object_mut(), told) {
                object.insert("told".to_owned(), told.into());
            }
            super::say(&json.to_string())?;
        } else {
            super::say(&to_text(&plan, &name))?;
            told.map(|told| super::say(&said(told))).transpose()?;
        }
        Ok(if plan.counts.is_unchanged() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Apply {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let document = serve::policy_document(&self.file)?;
        let name = self.file.display().to_string();
        self.warn_of_another(&config);
        let store = open(&config).await?;
        let plan = store.plan(&document, &name, &[]).await?;
        super::say(&to_text(&plan, &name))?;
        if let Some(expected) = self.expect.filter(|expected| *expected != plan.version) {
            return Err(StoreError::Stale { expected, found: plan.version }.into());
        }
        if plan.counts.is_unchanged() {
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes && !confirmed()? {
            eprintln!("portcullis: nothing was changed; say --yes to apply without being asked");
            return Ok(ExitCode::from(1));
        }
        let by = format!("{} with {name}", account());
        let applied = if self.notify {
            let reason = self.reason.as_deref();
            store.apply_telling(&document, (&name, &by), Some(plan.version), reason).await
        } else {
            store.apply_expecting(&document, &name, &by, Some(plan.version)).await
        };
        let applied = match applied {
            Ok(applied) => applied,
            Err(error @ StoreError::Stale { .. }) => {
                eprintln!("portcullis: {error}");
                return Ok(ExitCode::from(EXIT_WRONG));
            }
            Err(error) => return Err(error.into()),
        };
        super::say(&format!("applied; the policy has version {}", store.policy_version().await?))?;
        if self.notify {
            super::say(&said(applied.told))?;
        }
        tracing::debug!(number = applied.number, "policy applied");
        Ok(ExitCode::SUCCESS)
    }

    /// The gateway applies the file of its config at every start and whenever that file changes.
    fn warn_of_another(&self, config: &Config) {
        let Some(own) = &config.policy_file else { return };
        let same = |file: &PathBuf| file.canonicalize().unwrap_or_else(|_| file.clone());
        if same(own) != same(&self.file) {
            eprintln!(
                "portcullis: warning: policy.file in the config is {}: the gateway applies it over this one at its next \
                 start",
                own.display()
            );
        }
    }
}

/// How many are told.
fn said(told: usize) -> String {
    match told {
        0 => "nobody loses access, so nobody is told".to_owned(),
        1 => "a notice to 1 person is queued".to_owned(),
        many => format!("notices to {many} people are queued"),
    }
}

/// A day, which begins at midnight UTC, or a moment; not one that has passed.
fn moment(text: &str) -> Result<UnixTime, String> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let day = day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|day| day.and_utc().timestamp_millis());
    let moment = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp_millis());
    let at = day.or_else(moment).ok_or("write a day or a moment: 2026-12-18, 2026-12-18T18:00:00Z")?;
    if UnixTime(at) < UnixTime::from(SystemTime::now()) {
        return Err("it has passed".to_owned());
    }
    Ok(UnixTime(at))
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text if text.chars().count() > REASON_CHARS => Err("write at most 500 characters".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Whose account the command runs in, for the audit log.
pub(super) fn account() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    user.unwrap_or_else(|| "the command line".to_owned())
}

/// Asks at a terminal; elsewhere the answer is no.
fn confirmed() -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Apply this? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn to_text(plan: &Plan, name: &str) -> String {
    let counts = &plan.counts;
    let mut text = format!("policy version {}; {name}: ", plan.version);
    if counts.is_unchanged() {
        text.push_str("nothing would change");
        return text;
    }
    let (added, changed, removed) = (counts.added, counts.changed, counts.removed);
    let _ = write!(text, "{added} added, {changed} changed, {removed} removed");
    for change in &plan.changes {
        let place = &change.place;
        let _ = match (&change.before, &change.after) {
            (None, Some(after)) => write!(text, "\n  + {place}: {after}"),
            (Some(before), None) => write!(text, "\n  - {place}: {before}"),
            (Some(before), Some(after)) if before == after => {
                write!(text, "\n  ~ {place}: kept by the file from now on")
            }
            (before, after) => {
                let words = |words: &Option<String>| words.clone().unwrap_or_default();
                write!(text, "\n  ~ {place}: {} -> {}", words(before), words(after))
            }
        };
    }
    let more = (added + changed + removed).saturating_sub(plan.changes.len());
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    for (what, side) in [("lose", &plan.preview.loses), ("gain", &plan.preview.gains)] {
        put_side(&mut text, what, side);
    }
    text
}

fn put_side(text: &mut String, what: &str, side: &Side) {
    if side.pair_count == 0 {
        let _ = write!(text, "\nnobody with an app in use would {what} access");
        return;
    }
    let _ = write!(
        text,
        "\n{} would {what} access (IMAP {}, POP {}):",
        people(side.user_count),
        side.imap_count,
        side.pop_count
    );
    for app in &side.apps {
        let name = app.name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        let _ = write!(text, "\n  {} with {name}({})", people(app.user_count), app.app);
    }
    for pair in side.pairs.iter().take(SHOWN) {
        let mailbox = if pair.owner == pair.user { String::new() } else { format!(" in {}", pair.owner) };
        let _ = write!(text, "\n  {}{mailbox} by {}", pair.user, pair.service);
        // Why somebody is not let in today does not matter to who looks at what will be.
        if what == "lose" {
            let _ = write!(text, ": {}", pair.refusal);
        }
    }
    let more = side.pair_count.saturating_sub(SHOWN);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
}

fn people(count: usize) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

fn to_json(plan: &Plan) -> serde_json::Value {
    let changes: Vec<_> = plan
        .changes
        .iter()
        .map(|change| json!({ "place": change.place.to_string(), "before": change.before, "after": change.after }))
        .collect();
    let Preview { loses, gains, .. } = &plan.preview;
    json!({
        "version": plan.version,
        "added": plan.counts.added,
        "changed": plan.counts.changed,
        "removed": plan.counts.removed,
        "changes": changes,
        "loses": side_json(loses),
        "gains": side_json(gains),
    })
}

fn side_json(side: &Side) -> serde_json::Value {
    let app = |app: &crate::policy::AppCount| json!({ "app": app.app.as_str(), "name": app.name, "users": app.user_count });
    let pair = |pair: &crate::policy::Pair| {
        json!({
            "user": pair.user.as_str(),
            "mailbox": pair.owner.as_str(),
            "app": pair.app.as_str(),
            "service": pair.service.word(),
            "reason": pair.refusal.reason(),
            "detail": pair.refusal.to_string(),
        })
    };
    json!({
        "users": side.user_count,
        "pairs": side.pair_count,
        "imap": side.imap_count,
        "pop": side.pop_count,
        "app_count": side.app_count,
        "apps": side.apps.iter().map(app).collect::<Vec<_>>(),
        "first": side.pairs.iter().map(pair).collect::<Vec<_>>(),
    })
}
