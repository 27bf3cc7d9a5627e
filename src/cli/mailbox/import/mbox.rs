//! `portcullis mailbox import mbox`: one file with many messages.

use std::{
    fs::File,
    io::{BufReader, Seek, SeekFrom},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};

use super::{Batch, Common, Outcome, progress::Progress};
use crate::maildir::{
    Incoming, Numbering,
    mbox::{Mbox, MboxMessage, Quoting},
};
use crate::model::UnixTime;

/// Bring in an mbox
///
/// Flags come from the headers Status and X-Status, keywords from X-Keywords, UIDs from X-UID and X-IMAPbase, as UW-IMAP and
/// Dovecot write them; these headers do not become part of the message. The date is that of the `From ` line, taken as UTC.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 all was taken; 2 it could not be done.

Examples:
    portcullis mailbox import mbox --config config/portcullis.toml ann@example.com /var/mail/ann --dry-run
    portcullis mailbox import mbox --config config/portcullis.toml ann@example.com ~/mail/lists --folder Lists")]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The file
    file: PathBuf,
    /// Where the messages go
    #[arg(long, value_name = "FOLDER", default_value = "INBOX")]
    folder: String,
    /// How lines that begin with `From ` were written down: rd as `>From `, `>>From ` and so on; o as `>From ` alone
    #[arg(long, value_name = "rd|o", default_value = "rd", value_parser = quoting)]
    quoting: Quoting,
}

fn quoting(text: &str) -> Result<Quoting, String> {
    match text {
        "rd" => Ok(Quoting::Rd),
        "o" => Ok(Quoting::O),
        _ => Err("write rd (mboxrd) or o (mboxo)".to_owned()),
    }
}

impl Arguments {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let file = std::fs::canonicalize(&self.file)
            .with_context(|| format!("{}: cannot be read", self.file.display()))?;
        let source = format!("mbox:{}", file.display());
        let mail = self.common.mail()?;
        let importer = self.common.importer(mail.as_deref()).await?;
        let mut outcome = Outcome::new(&self.folder);
        // First all of it, without the text: how much there is, and whether it can be read to its end.
        let starts = self.starts(&mut outcome)?;
        let first = self.open(0)?.message()?.and_then(|first| first.base);
        let numbering =
            first.map(|(uid_validity, used)| Numbering { uid_validity, uid_next: used.saturating_add(1) });
        if self.common.dry_run {
            let would = self.common.would(importer.as_ref(), &self.folder, numbering, &source).await?;
            outcome.keeps_uids = would.0;
            outcome.before = starts.iter().filter(|at| **at < would.1).count();
            outcome.taken = outcome.there - outcome.before;
            return self.common.report(&[outcome]);
        }
        let Some(importer) = importer else { bail!("{} has no mailbox", self.common.target.owner) };
        let folder = self.common.folder(&importer, numbering, &source, &mut outcome).await?;
        outcome.before = starts.iter().filter(|at| **at < folder.upto()).count();
        let mut progress = Progress::new(&self.folder, outcome.there - outcome.before);
        let mut mbox = self.open(folder.upto())?;
        let (mut batch, mut last, mut reserved) = (Batch::new(folder), 0, 0);
        while let Some(message) = self.wrong(mbox.message())? {
            reserved = reserved.max(message.base.map_or(0, |(_, used)| used.saturating_add(1)));
            if message.internal {
                batch.pass(mbox.at());
                continue;
            }
            let mut staging = batch.folder.stage().await?;
            staging.write(&message.header).await?;
            while let Some(line) = self.wrong(mbox.line())? {
                staging.write(&line).await?;
            }
            let staged = staging.finish().await?;
            let said = said(&message, &mut last);
            batch.add(staged, said, mbox.at(), &mut outcome).await?;
            progress.step();
        }
        batch.pass(mbox.at());
        batch.take(&mut outcome).await?;
        batch.folder.reserve(reserved).await?;
        drop(progress);
        self.common.report(&[outcome])
    }

    fn open(&self, at: u64) -> anyhow::Result<Mbox<BufReader<File>>> {
        let read = || {
            let mut file = File::open(&self.file)?;
            if file.metadata()?.len() < at {
                let problem = format!("the file has become shorter than the {at} bytes that were read before");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
            }
            file.seek(SeekFrom::Start(at))?;
            Mbox::new(BufReader::with_capacity(256 * 1024, file), at, self.quoting)
        };
        self.wrong(read())
    }

    /// Where each message begins.
    fn starts(&self, outcome: &mut Outcome) -> anyhow::Result<Vec<u64>> {
        let mut mbox = self.open(0)?;
        let mut starts = Vec::new();
        loop {
            let at = mbox.at();
            let Some(message) = self.wrong(mbox.message())? else { break };
            while self.wrong(mbox.line())?.is_some() {}
            if !message.internal {
                starts.push(at);
            }
        }
        outcome.there = starts.len();
        Ok(starts)
    }

    fn wrong<T>(&self, outcome: std::io::Result<T>) -> anyhow::Result<T> {
        outcome.with_context(|| format!("{}: cannot be read as an mbox", self.file.display()))
    }
}

/// UIDs of an mbox count as long as they ascend.
fn said(message: &MboxMessage, last: &mut u32) -> Incoming {
    let uid = message.uid.filter(|uid| *uid > *last);
    *last = uid.unwrap_or(*last);
    let date = message.date.unwrap_or_else(|| UnixTime::from(std::time::SystemTime::now()));
    let (flags, keywords) = (message.flags, message.keywords.clone());
    Incoming { uid, flags, keywords, date, saved: None, uidl: None }
}
