//! `portcullis mailbox import maildir`: a Maildir as Dovecot keeps it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;

use super::{Batch, Common, Outcome, progress::Progress};
use crate::maildir::{
    Importer, Incoming, MailError, Numbering,
    dovecot::{self, DovecotFolder, DovecotMessage, UidlFormat},
};
use crate::model::UnixTime;

/// Bring in a Maildir as Dovecot keeps it (Maildir++)
///
/// UIDs, UIDVALIDITY, flags, keywords, dates, subscriptions and what POP3 calls the messages are kept, so that mail programs
/// that move from Dovecot to this gateway fetch nothing again. Files get a second name where both mailboxes lie on one file
/// system and belong to one user, and are copied else. Stop Dovecot, or take its last changes by running this once more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 all was taken; 1 some messages were left out, a line for each; 2 it could not be done.

Examples:
    portcullis mailbox import maildir --config config/portcullis.toml ann@example.com /var/vmail/ann/Maildir --dry-run
    portcullis mailbox import maildir --config config/portcullis.toml ann@example.com /var/vmail/ann/Maildir \\
        --pop3-uidl-format %g --only INBOX --only Sent")]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The Maildir: the directory that has cur, new and tmp in it
    dir: PathBuf,
    /// Only this folder, by its name here (`A/B`); may be given several times
    #[arg(long, value_name = "FOLDER")]
    only: Vec<String>,
    /// What Dovecot's pop3_uidl_format says; ids that Dovecot has saved go before it
    #[arg(long, value_name = "FORMAT", default_value = "%08Xu%08Xv", value_parser = UidlFormat::parse)]
    pop3_uidl_format: UidlFormat,
}

impl Arguments {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let dir =
            std::fs::canonicalize(&self.dir).with_context(|| format!("{}: cannot be read", self.dir.display()))?;
        let folders = dovecot::folders(&dir)?;
        let subscribed = dovecot::subscriptions(&dir)?;
        let mail = self.common.mail()?;
        let importer = self.common.importer(mail.as_deref()).await?;
        let mut outcomes = Vec::new();
        for (name, path) in folders {
            if !self.only.is_empty() && !self.only.contains(&name) {
                continue;
            }
            let source = format!("maildir:{}", path.display());
            let found = dovecot::read(&path)?;
            outcomes.push(self.folder(importer.as_ref(), &name, &found, &source).await?);
        }
        if let Some(importer) = importer.filter(|_| !self.common.dry_run && !subscribed.is_empty()) {
            let all: Vec<String> = importer.folders().await?;
            let wanted: Vec<(String, bool)> = all
                .into_iter()
                .filter(|name| self.only.is_empty() || self.only.contains(name))
                .filter(|name| outcomes.iter().any(|o| o.folder == *name) && name != "INBOX")
                .map(|name| (name.clone(), subscribed.contains(&name)))
                .collect();
            importer.subscribe(&wanted).await?;
        }
        self.common.report(&outcomes)
    }

    async fn folder(
        &self,
        importer: Option<&Importer>,
        name: &str,
        found: &DovecotFolder,
        source: &str,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::new(name);
        outcome.there = found.messages.len();
        let uid_next = found.uid_next;
        let numbering = found.uid_validity.map(|uid_validity| Numbering { uid_validity, uid_next });
        if self.common.dry_run {
            let (keeps, upto) = self.common.would(importer, name, numbering, source).await?;
            outcome.keeps_uids = keeps;
            outcome.before = found.messages.iter().filter(|m| u64::from(m.uid) <= upto).count();
            outcome.taken = outcome.there - outcome.before;
            return Ok(outcome);
        }
        let Some(importer) = importer else { return Ok(outcome) };
        let folder = self.common.folder(importer, numbering, source, &mut outcome).await?;
        let upto = folder.upto();
        outcome.before = found.messages.iter().filter(|m| u64::from(m.uid) <= upto).count();
        let mut batch = Batch::new(folder);
        let mut progress = Progress::new(name, outcome.there - outcome.before);
        for message in found.messages.iter().filter(|m| u64::from(m.uid) > upto) {
            match batch.folder.stage_file(message.path.clone()).await {
                Ok(staged) => {
                    let said = self.said(name, found.uid_validity, message);
                    batch.add(staged, said, message.uid.into(), &mut outcome).await?;
                }
                Err(error @ (MailError::Damaged { .. } | MailError::Io { .. })) => {
                    outcome.left_out.push(format!(
                        "{}: {}",
                        message.path.display(),
                        crate::serve::in_one_line(&error.into())
                    ));
                    batch.pass(message.uid.into());
                }
                Err(error) => return Err(self.common.target.explain(error)),
            }
            progress.step();
        }
        batch.take(&mut outcome).await?;
        batch.folder.reserve(found.uid_next).await?;
        Ok(outcome)
    }

    fn said(&self, folder: &str, uid_validity: Option<u32>, message: &DovecotMessage) -> Incoming {
        let meta = std::fs::metadata(&message.path).ok();
        let time = |at: fn(&std::fs::Metadata) -> i64| meta.as_ref().map(|meta| UnixTime::from_secs(at(meta)));
        // POP3 shows INBOX alone.
        let uidl = || message.uidl.clone().or_else(|| self.pop3_uidl_format.id(uid_validity, message));
        Incoming {
            uid: Some(message.uid),
            flags: message.flags,
            keywords: message.keywords.clone(),
            date: time(std::os::unix::fs::MetadataExt::mtime).unwrap_or_default(),
            saved: time(std::os::unix::fs::MetadataExt::ctime),
            uidl: if folder == "INBOX" { uidl() } else { None },
        }
    }
}
