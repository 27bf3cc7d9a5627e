//! `portcullis mailbox`: looking after the embedded mail store, one mailbox at a time. Works on the files, beside a
//! gateway that is running or without one: folders are locked one by one while they are worked on.

mod import;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{ConfigFile, remote::show};
use crate::maildir::{Finding, Mail, MailError, Settings, Weight};
use crate::model::UserId;

/// Check and mend a mailbox of the embedded store, or bring mail into it
///
/// All of these may be used while the gateway is running: each folder is locked for as long as it is worked on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, and all is in order; 1 something is wrong, or was left out; 2 it could not be done.

Examples:
    portcullis mailbox check  --config config/portcullis.toml ann@example.com
    portcullis mailbox repair --config config/portcullis.toml ann@example.com Archive
    portcullis mailbox import maildir --config config/portcullis.toml ann@example.com /var/vmail/ann/Maildir --dry-run")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Repair(Repair),
    Rebuild(Rebuild),
    Reindex(Reindex),
    Import(import::Arguments),
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            match &self.command {
                Command::Check(check) => check.run().await,
                Command::Repair(repair) => repair.run().await,
                Command::Rebuild(rebuild) => rebuild.run().await,
                Command::Reindex(reindex) => reindex.run().await,
                Command::Import(import) => import.run().await,
            }
        })
    }
}

/// Whose mailbox.
#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    config: ConfigFile,
    /// The mailbox's owner
    #[arg(value_name = "OWNER", value_parser = owner)]
    owner: UserId,
    /// For programs
    #[arg(long)]
    json: bool,
}

fn owner(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

impl Target {
    /// The store, for reading.
    fn open(&self) -> anyhow::Result<Arc<Mail>> {
        let settings = self.settings()?;
        if !settings.root.is_dir() {
            bail!("{}: there is no mail yet", settings.root.display());
        }
        Ok(Mail::new(settings)?)
    }

    /// The store, for changing what is in it: by the user whose files they are.
    fn open_as_owner(&self) -> anyhow::Result<Arc<Mail>> {
        let settings = self.settings()?;
        let mine = rustix::process::geteuid().as_raw();
        let mut dirs = settings.root.ancestors().filter_map(|dir| std::fs::metadata(dir).ok());
        if let Some(owner) = dirs.next().map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))
            && owner != mine
        {
            bail!(
                "{}: belongs to the user with number {owner}, and this is number {mine}: the gateway could not read what is \
                 made now. Run this as that user (sudo -u '#{owner}' portcullis ...)",
                settings.root.display()
            );
        }
        Ok(Mail::new(settings)?)
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        Ok(self.config.read()?.maildir_settings())
    }

    /// An error of the store, in words for whoever looks after it.
    fn explain(&self, error: MailError) -> anyhow::Error {
        let owner = &self.owner;
        match &error {
            MailError::NoSuchFolder { name } if *name == owner.to_string() => {
                anyhow::anyhow!(
                    "{owner} has no mailbox in this store; one is made at the first sign-in, or by an import"
                )
            }
            MailError::NoSuchFolder { name } => anyhow::anyhow!("{owner} has no folder {name:?}"),
            MailError::Locked => {
                anyhow::anyhow!(
                    "a folder of {owner} is busy: another program has had it locked for ten seconds; try again"
                )
            }
            _ => anyhow::Error::new(error).context(format!("the mailbox of {owner}")),
        }
    }
}

/// Prints a table, or the same for programs.
fn tell(json: bool, value: &Value, columns: &[(&str, &str)]) -> anyhow::Result<()> {
    if json {
        super::say(&value.to_string())?;
        return Ok(());
    }
    for line in show::table(value, columns) {
        if !super::say(&line)? {
            break;
        }
    }
    Ok(())
}

/// Compare a mailbox's files with its indexes; changes nothing
///
/// Tells of files that no index knows, messages in an index without a file, sizes that differ, two files of one message,
/// what calls that were cut short left behind, and identities that two folders share. What other programs do all the
/// time (deliveries, changed flags) is told with --notes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 in order, notes aside; 1 something is wrong: see `mend`; 2 the mailbox cannot be read.

Examples:
    portcullis mailbox check --config config/portcullis.toml ann@example.com
    portcullis mailbox check --config config/portcullis.toml ann@example.com INBOX --notes --json")]
struct Check {
    #[command(flatten)]
    target: Target,
    /// Only this folder
    folder: Option<String>,
    /// Also tell of what is worth knowing and not wrong
    #[arg(long)]
    notes: bool,
}

impl Check {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let mail = self.target.open()?;
        let checked = mail.check(&self.target.owner, self.folder.as_deref()).await;
        let checked = checked.map_err(|error| self.target.explain(error))?;
        let told: Vec<&Finding> =
            checked.findings.iter().filter(|f| self.notes || f.weight != Weight::Note).collect();
        let items: Vec<Value> = told.iter().map(|finding| row(finding)).collect();
        let wrong = checked.findings.iter().filter(|f| f.weight != Weight::Note).count();
        let notes = checked.findings.len() - wrong;
        let (folders, messages) = (checked.folders, checked.messages);
        let value =
            json!({ "folders": folders, "messages": messages, "wrong": wrong, "notes": notes, "items": items });
        if self.target.json {
            super::say(&value.to_string())?;
        } else {
            if !told.is_empty() {
                let columns = [
                    ("folder", "folder"),
                    ("uid", "uid"),
                    ("what", "kind"),
                    ("mend", "mend"),
                    ("file", "file"),
                    ("text", "text"),
                ];
                tell(false, &value, &columns)?;
            }
            let state = if wrong == 0 { "in order".to_owned() } else { format!("{wrong} wrong") };
            super::say(&format!("{folders} folders, {messages} messages: {state}, {notes} notes"))?;
        }
        Ok(ExitCode::from(u8::from(wrong > 0)))
    }
}

fn row(finding: &Finding) -> Value {
    let mend = match finding.weight {
        Weight::Note => None,
        Weight::Repair => Some("repair"),
        Weight::Rebuild => Some("rebuild"),
    };
    let Finding { folder, kind, uid, file, text, .. } = finding;
    json!({ "folder": folder, "uid": uid, "kind": kind, "mend": mend, "file": file, "text": text })
}

/// Mend what can be mended without renumbering
///
/// Records what other programs did, writes damaged indexes anew, removes files and directories that were left by calls that
/// were cut short. Of two files of one message with the same content one is removed. A file whose content is another than it
/// was becomes a message of its own, under a new UID; no other message is renumbered.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 mended, or nothing to mend; 2 it could not be done.

Examples:
    portcullis mailbox repair --config config/portcullis.toml ann@example.com
    portcullis mailbox repair --config config/portcullis.toml ann@example.com Archive --json")]
struct Repair {
    #[command(flatten)]
    target: Target,
    /// Only this folder
    folder: Option<String>,
}

impl Repair {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let mail = self.target.open_as_owner()?;
        let done = mail.repair(&self.target.owner, self.folder.as_deref()).await;
        let done = done.map_err(|error| self.target.explain(error))?;
        let items: Vec<Value> =
            done.iter().map(|(folder, what)| json!({ "folder": folder, "done": what })).collect();
        if items.is_empty() && !self.target.json {
            super::say("nothing to mend")?;
        } else {
            tell(self.target.json, &json!({ "items": items }), &[("folder", "folder"), ("done", "done")])?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Make indexes anew from the files, with new UIDs and a new UIDVALIDITY
///
/// The last resort: every IMAP program fetches every message of the folder again. Flags stay, and as far as the old index can
/// be read also keywords, dates, and what POP3 calls the messages. Without --yes it only says what it would do.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 made anew; 1 not done, because --yes is missing; 2 it could not be done.

Examples:
    portcullis mailbox rebuild --config config/portcullis.toml ann@example.com Archive
    portcullis mailbox rebuild --config config/portcullis.toml ann@example.com Archive --yes")]
struct Rebuild {
    #[command(flatten)]
    target: Target,
    /// Only this folder
    folder: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

impl Rebuild {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let what = self.folder.as_ref().map_or_else(|| "every folder".to_owned(), |folder| format!("{folder:?}"));
        if !self.yes {
            let mail = self.target.open()?;
            let checked = mail.check(&self.target.owner, self.folder.as_deref()).await;
            let checked = checked.map_err(|error| self.target.explain(error))?;
            eprintln!(
                "portcullis: this gives {what} of {} a new UIDVALIDITY: IMAP programs fetch {} messages again. Say --yes to \
                 do it",
                self.target.owner, checked.messages
            );
            return Ok(ExitCode::from(1));
        }
        eprintln!("portcullis: making the index of {what} of {} anew, with a new UIDVALIDITY", self.target.owner);
        let mail = self.target.open_as_owner()?;
        let rebuilt = mail.rebuild(&self.target.owner, self.folder.as_deref()).await;
        let rebuilt = rebuilt.map_err(|error| self.target.explain(error))?;
        let item = |r: &crate::maildir::Rebuilt| json!({ "folder": r.folder, "messages": r.messages, "before": r.before, "after": r.after });
        let items: Vec<Value> = rebuilt.iter().map(item).collect();
        let columns =
            [("folder", "folder"), ("messages", "messages"), ("uidvalidity was", "before"), ("is", "after")];
        tell(self.target.json, &json!({ "items": items }), &columns)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Drop what is only kept to be quick
///
/// The cache of envelopes, structures and headers is filled again as mail programs ask, and indexes are written anew as short
/// as they can be. Nothing that a mail program sees changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 2 it could not be done.

Examples:
    portcullis mailbox reindex --config config/portcullis.toml ann@example.com")]
struct Reindex {
    #[command(flatten)]
    target: Target,
    /// Only this folder
    folder: Option<String>,
}

impl Reindex {
    async fn run(&self) -> anyhow::Result<ExitCode> {
        let mail = self.target.open_as_owner()?;
        let folders = mail.reindex(&self.target.owner, self.folder.as_deref()).await;
        let folders = folders.map_err(|error| self.target.explain(error))?;
        let items: Vec<Value> = folders.iter().map(|folder| json!({ "folder": folder })).collect();
        tell(self.target.json, &json!({ "items": items }), &[("folder", "folder")])?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What went wrong with a file or server, and for whom.
fn about<T, E: Into<anyhow::Error>>(outcome: Result<T, E>, what: &str) -> anyhow::Result<T> {
    outcome.map_err(Into::into).with_context(|| what.to_owned())
}
