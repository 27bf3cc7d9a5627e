//! `portcullis policy export|plan|apply`: the policy as a file, beside a running gateway or without one.

mod show;

use std::{
    io::{self, IsTerminal, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::SystemTime,
};

use anyhow::bail;
use clap::Subcommand;

use super::{ConfigFile, EXIT_WRONG};
use crate::config::Config;
use crate::model::UnixTime;
use crate::policy::file;
use crate::serve;
use crate::store::{Store, StoreError};
use show::Shown;

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
        let document = serve::policy_document(&self.file, &config.homes())?;
        let name = self.file.display().to_string();
        let store = open(&config).await?;
        let plan = Shown::new(&store, &document, &name).await?;
        let told = if self.notify {
            let by = format!("{} with {name}", account());
            Some(store.warn(&document, (&name, &by), self.on, self.reason.as_deref()).await?)
        } else {
            None
        };
        if self.json {
            let mut json = plan.to_json();
            if let (Some(object), Some(told)) = (json.as_object_mut(), told) {
                object.insert("told".to_owned(), told.into());
            }
            super::say(&json.to_string())?;
        } else {
            super::say(&plan.to_text(&name))?;
            told.map(|told| super::say(&said(told))).transpose()?;
        }
        Ok(if plan.is_unchanged() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Apply {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let document = serve::policy_document(&self.file, &config.homes())?;
        let name = self.file.display().to_string();
        self.warn_of_another(&config);
        let store = open(&config).await?;
        let plan = Shown::new(&store, &document, &name).await?;
        super::say(&plan.to_text(&name))?;
        let version = plan.version();
        if let Some(expected) = self.expect.filter(|expected| *expected != version) {
            return Err(StoreError::Stale { expected, found: version }.into());
        }
        if plan.is_unchanged() {
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes && !confirmed()? {
            eprintln!("portcullis: nothing was changed; say --yes to apply without being asked");
            return Ok(ExitCode::from(1));
        }
        let by = format!("{} with {name}", account());
        let applied = if self.notify {
            let reason = self.reason.as_deref();
            store.apply_telling(&document, (&name, &by), Some(version), reason).await
        } else {
            store.apply_expecting(&document, &name, &by, Some(version)).await
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
