//! `portcullis mailbox import`: mail that moves in from elsewhere. A file for each kind of source; what they share is
//! here.

mod imap;
mod maildir;
mod mbox;
mod progress;

use std::{process::ExitCode, sync::Arc};

use serde_json::{Value, json};

use super::{Target, about, tell};
use crate::maildir::{Importer, Incoming, Into as Folder, Mail, Numbering, Staged};

/// Messages that are made durable in one go.
const BATCH: usize = 200;

/// Bring mail in from a Dovecot Maildir, an mbox, or another IMAP server
///
/// Messages keep their flags, keywords and dates. Into a folder that never had a message they come with their UIDs and
/// UIDVALIDITY where the source has them, so that mail programs fetch nothing again. The source is only read. A run that was
/// cut short goes on where it was when it is started again, and takes nothing twice; so does one that is started again
/// later for what has come meanwhile. Let no new mail reach both: where the old and the new mailbox gave out the same UIDs,
/// the folder gets a new UIDVALIDITY, and mail programs fetch it again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 all was taken; 1 some messages were left out, a line for each; 2 it could not be done.

Examples:
    portcullis mailbox import maildir --config config/portcullis.toml ann@example.com /var/vmail/ann/Maildir --dry-run
    portcullis mailbox import mbox --config config/portcullis.toml ann@example.com /var/mail/ann
    portcullis mailbox import imap --config config/portcullis.toml ann@example.com imap.old.example.com \\
        --user ann --password-file ann.password")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Maildir(maildir::Arguments),
    Mbox(mbox::Arguments),
    Imap(imap::Arguments),
}

impl Arguments {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Maildir(arguments) => arguments.run().await,
            Command::Mbox(arguments) => arguments.run().await,
            Command::Imap(arguments) => Box::pin(arguments.run()).await,
        }
    }
}

/// What all imports take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    target: Target,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

/// What becomes of one folder.
#[derive(Debug)]
struct Outcome {
    folder: String,
    /// Messages there are in the source.
    there: usize,
    /// Of them, those an earlier run took.
    before: usize,
    taken: usize,
    left_out: Vec<String>,
    keywords_left_out: usize,
    /// Messages that have other UIDs although the folder keeps them.
    renumbered: usize,
    keeps_uids: bool,
    /// The whole folder has other UIDs than before.
    is_renumbered: bool,
}

impl Outcome {
    fn new(folder: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            there: 0,
            before: 0,
            taken: 0,
            left_out: Vec::new(),
            keywords_left_out: 0,
            renumbered: 0,
            keeps_uids: false,
            is_renumbered: false,
        }
    }
}

impl Common {
    /// The store; for a dry run nothing where there is none, because none may be made.
    fn mail(&self) -> anyhow::Result<Option<Arc<Mail>>> {
        match self.dry_run {
            true if !self.target.settings()?.root.is_dir() => Ok(None),
            true => self.target.open().map(Some),
            false => self.target.open_as_owner().map(Some),
        }
    }

    /// The mailbox, to bring mail into; for a dry run nothing where there is none.
    async fn importer(&self, mail: Option<&Mail>) -> anyhow::Result<Option<Importer>> {
        let owner = &self.target.owner;
        let Some(mail) = mail else { return Ok(None) };
        let opened =
            if self.dry_run { mail.importer_if_there(owner).await } else { mail.importer(owner).await.map(Some) };
        opened.map_err(|error| self.target.explain(error))
    }

    /// What a dry run tells of a folder: whether UIDs would be kept, and how far an earlier run came.
    async fn would(
        &self,
        importer: Option<&Importer>,
        folder: &str,
        numbering: Option<Numbering>,
        source: &str,
    ) -> anyhow::Result<(bool, u64)> {
        let Some(importer) = importer else { return Ok((numbering.is_some_and(|n| n.can_be_kept()), 0)) };
        let (_, keeps, upto) =
            importer.would(folder, numbering, source).await.map_err(|error| self.target.explain(error))?;
        Ok((keeps, upto))
    }

    /// The folder of a source's messages.
    async fn folder(
        &self,
        importer: &Importer,
        numbering: Option<Numbering>,
        source: &str,
        outcome: &mut Outcome,
    ) -> anyhow::Result<Folder> {
        let folder = importer.folder(&outcome.folder, numbering, source).await;
        let folder = folder.map_err(|error| self.target.explain(error))?;
        (outcome.keeps_uids, outcome.is_renumbered) = (folder.keeps_uids(), folder.is_renumbered());
        Ok(folder)
    }

    /// Tells what was done, or would be.
    fn report(&self, outcomes: &[Outcome]) -> anyhow::Result<ExitCode> {
        let row = |o: &Outcome| {
            json!({
                "folder": o.folder, "messages": o.there, "taken_before": o.before, "taken": o.taken,
                "left_out": o.left_out.len(), "keywords_left_out": o.keywords_left_out, "renumbered": o.renumbered,
                "uids": if o.keeps_uids { "kept" } else { "new" },
            })
        };
        let items: Vec<Value> = outcomes.iter().map(row).collect();
        let columns = [
            ("folder", "folder"),
            ("messages", "messages"),
            ("taken before", "taken_before"),
            (if self.dry_run { "to take" } else { "taken" }, "taken"),
            ("left out", "left_out"),
            ("uids", "uids"),
        ];
        tell(self.target.json, &json!({ "items": items, "dry_run": self.dry_run }), &columns)?;
        let mut all = true;
        for outcome in outcomes {
            for what in &outcome.left_out {
                eprintln!("portcullis: {}: left out: {what}", outcome.folder);
                all = false;
            }
            if outcome.is_renumbered {
                let folder = &outcome.folder;
                eprintln!(
                    "portcullis: {folder}: mail came here and there since the last run, under the same UIDs: the folder has \
                     a new UIDVALIDITY"
                );
            }
            if outcome.renumbered > 0 {
                let (folder, count) = (&outcome.folder, outcome.renumbered);
                eprintln!(
                    "portcullis: {folder}: {count} messages have new UIDs: mail was delivered before they came"
                );
            }
            if outcome.keywords_left_out > 0 {
                let count = outcome.keywords_left_out;
                eprintln!("portcullis: {}: {count} keywords cannot be kept here and were left out", outcome.folder);
            }
        }
        if self.dry_run && !self.target.json {
            super::super::say("this was a dry run: nothing was changed")?;
        }
        Ok(ExitCode::from(u8::from(!all)))
    }
}

/// Messages that wait to be made durable together.
struct Batch {
    folder: Folder,
    waiting: Vec<(Staged, Incoming)>,
    /// Where the source goes on after them.
    upto: u64,
}

impl Batch {
    fn new(folder: Folder) -> Self {
        let upto = folder.upto();
        Self { folder, waiting: Vec::new(), upto }
    }

    /// Adds a message; `upto` is where the source goes on after it.
    async fn add(
        &mut self,
        staged: Staged,
        said: Incoming,
        upto: u64,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        self.waiting.push((staged, said));
        self.upto = upto;
        if self.waiting.len() >= BATCH { self.take(outcome).await } else { Ok(()) }
    }

    /// A message was left out on purpose.
    fn pass(&mut self, upto: u64) {
        self.upto = upto;
    }

    async fn take(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        if self.upto == self.folder.upto() {
            return Ok(());
        }
        let taken = about(
            self.folder.take(std::mem::take(&mut self.waiting), self.upto).await,
            &format!("the folder {:?}", outcome.folder),
        )?;
        outcome.taken += taken.messages;
        outcome.renumbered += taken.renumbered;
        outcome.keywords_left_out += taken.keywords_left_out;
        Ok(())
    }
}
