//! `portcullis directory import`: users from a CSV list.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{
    ConfigFile,
    remote::import::{self, Answer, Place},
};
use crate::policy::import::read_users;
use crate::store::{Actor, Imported, Store};

/// Largest list, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Bring users in from a list
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 imported, or nothing to do, or a dry run without mistakes; 1 some lines are wrong, so nothing was changed; \
2 no such list, or database or API out of reach.

Examples:
    portcullis directory import --config config/portcullis.toml users.csv --dry-run
    portcullis directory import --config config/portcullis.toml users.csv
    portcullis directory import --url https://mail.example.com:1980 --token-file token users.csv")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Import),
}

/// Make and change users from a CSV file: address,unit,suspended,groups
///
/// The first line names the columns; only address is needed. An empty field leaves a known user's value as it is; groups are
/// names between semicolons, and a user is added to them, never removed from others. Users who are not on the list stay.
/// All lines are carried out in one transaction, or none where one is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 imported, or nothing to do, or a dry run without mistakes; 1 some lines are wrong, so nothing was changed; \
2 no such list, or database or API out of reach.")]
struct Import {
    /// The config file (TOML), which names the database
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CONFIG", required_unless_present = "url")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// The list
    file: PathBuf,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Command::Import(import) = &self.command;
        super::block_on(import.run())
    }
}

impl Import {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let name = self.file.display();
        let size = std::fs::metadata(&self.file).with_context(|| format!("{name}: cannot read the list"))?.len();
        if size > MOST_BYTES {
            bail!("{name}: the list has more than {} MiB: import it in parts", MOST_BYTES / 1024 / 1024);
        }
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("{name}: cannot read the list; it has to be UTF-8"))?;
        if let Some(access) = self.place.access() {
            return match import::send(&access, text, self.dry_run).await? {
                Answer::Report(imported) => self.report(&imported),
                Answer::Refused(problem) => {
                    eprintln!("portcullis: {name}: {problem}");
                    Ok(ExitCode::from(1))
                }
            };
        }
        let Some(path) = self.config.clone() else {
            bail!("name the config file with --config, or an API with --url")
        };
        let config = ConfigFile { path }.read()?;
        let lines = read_users(&text).with_context(|| name.to_string())?;
        let settings = config.store_settings();
        if !settings.is_made().await? {
            bail!(
                "{}: there is no database yet; `portcullis serve` makes it at its first start",
                config.data_dir.display()
            );
        }
        let store = Store::open(&settings).await?;
        let by = format!("{} with {name}", super::policy::account());
        let imported = store.import(&lines, Actor::all(&by), self.dry_run).await?;
        self.report(&imported)
    }

    fn report(&self, imported: &Imported) -> anyhow::Result<ExitCode> {
        let name = self.file.display();
        for (line, wrong) in &imported.wrong {
            eprintln!("{name}:{line}: {wrong}");
        }
        let Imported { made, changed, same, wrong_count, .. } = imported;
        if *wrong_count > 0 {
            let more = wrong_count.saturating_sub(imported.wrong.len());
            let more = if more > 0 { format!(" ({more} not shown)") } else { String::new() };
            eprintln!("portcullis: {wrong_count} lines of {name} are wrong{more}; nothing was changed");
            return Ok(ExitCode::from(1));
        }
        let would = if self.dry_run { "would be " } else { "" };
        super::say(&format!("{made} users {would}made, {changed} {would}changed, {same} as before"))?;
        Ok(ExitCode::SUCCESS)
    }
}
