//! `portcullis mailbox import imap`: another server's account, by IMAP over TLS with a password that the admin has.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::ConfigVerifierExt;

use super::{Batch, Common, Outcome, progress::Progress};
use crate::maildir::{Flags, Importer, Incoming, Numbering, Staging};
use crate::model::{Secret, UnixTime};
use crate::upstream::{Fetched, Piece, RemoteFolder, Source, SourceLogin, SourceServer};

/// Where the password may be.
const VARIABLE: &str = "PORTCULLIS_IMPORT_PASSWORD";
/// Messages that are asked for at once.
const ASKED: usize = 100;

/// Bring in an account of another IMAP server
///
/// The password is read from --password-file, else from the variable PORTCULLIS_IMPORT_PASSWORD, else asked for on the
/// terminal; it is sent over TLS only, to a server whose certificate is good, and is written nowhere. With --on-behalf-of
/// the user is a master user there (SASL PLAIN). Folders are opened read-only: nothing changes there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 all was taken; 2 it could not be done. A run that broke off goes on where it was when it is started again.

Examples:
    portcullis mailbox import imap --config config/portcullis.toml ann@example.com imap.old.example.com --user ann \\
        --password-file ann.password --dry-run
    portcullis mailbox import imap --config config/portcullis.toml ann@example.com imap.old.example.com:993 \\
        --user admin --on-behalf-of ann@example.com --only INBOX")]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The server, and its port for TLS if that is not 993
    #[arg(value_name = "HOST[:PORT]", value_parser = server)]
    server: (String, u16),
    /// The account's name there
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Read this account, with --user as a master user
    #[arg(long, value_name = "NAME")]
    on_behalf_of: Option<String>,
    /// A file that holds the password in its first line
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Believe certificates of the authorities in this PEM file; without it those the system believes
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Only this folder, by its name here (`A/B`); may be given several times
    #[arg(long, value_name = "FOLDER")]
    only: Vec<String>,
}

fn server(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?}: write HOST or HOST:PORT");
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?)
        }
        _ => (text, 993),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(['/', '@', ' ']) { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

impl Arguments {
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let (host, port) = self.server.clone();
        let server = SourceServer { host, port, tls: Arc::new(self.tls()?) };
        let login = SourceLogin {
            user: self.user.clone(),
            password: self.password()?,
            on_behalf_of: self.on_behalf_of.clone(),
        };
        let mail = self.common.mail()?;
        let importer = self.common.importer(mail.as_deref()).await?;
        let mut source = Source::connect(&server).await?;
        source.sign_in(&login).await?;
        drop(login);
        let folders = source.folders().await?;
        let folders: Vec<RemoteFolder> =
            folders.into_iter().filter(|f| self.only.is_empty() || self.only.contains(&f.name)).collect();
        let mut outcomes = Vec::new();
        for folder in &folders {
            outcomes.push(self.folder(importer.as_ref(), &mut source, folder).await?);
        }
        source.leave().await;
        // A server where nobody ever subscribed says nothing with that.
        if let Some(importer) = importer.filter(|_| !self.common.dry_run && folders.iter().any(|f| f.subscribed)) {
            let wanted: Vec<(String, bool)> =
                folders.iter().filter(|f| f.name != "INBOX").map(|f| (f.name.clone(), f.subscribed)).collect();
            importer.subscribe(&wanted).await?;
        }
        self.common.report(&outcomes)
    }

    async fn folder(
        &self,
        importer: Option<&Importer>,
        source: &mut Source,
        remote: &RemoteFolder,
    ) -> anyhow::Result<Outcome> {
        let name = &remote.name;
        let mut outcome = Outcome::new(name);
        let selected = source.examine(remote).await.with_context(|| format!("the folder {name:?}"))?;
        // A server that does not tell UIDNEXT has at least used the UIDs it shows.
        let uid_next = match selected.uid_next {
            0 if selected.exists == 0 => 1,
            0 => source.uids(1).await?.last().map_or(1, |last| last.saturating_add(1)),
            told => told,
        };
        let numbering = Some(selected.uid_validity).filter(|validity| *validity > 0);
        let numbering = numbering.map(|uid_validity| Numbering { uid_validity, uid_next });
        let account = self.on_behalf_of.as_ref().unwrap_or(&self.user);
        let place = format!("imap:{account}@{}:{}/{name};{}", self.server.0, self.server.1, selected.uid_validity);
        outcome.there = selected.exists as usize;
        if self.common.dry_run {
            let (keeps, upto) = self.common.would(importer, name, numbering, &place).await?;
            let left = if selected.exists == 0 { 0 } else { source.uids(after(upto)).await?.len() };
            (outcome.keeps_uids, outcome.taken) = (keeps, left);
            outcome.before = outcome.there.saturating_sub(left);
            return Ok(outcome);
        }
        let Some(importer) = importer else { return Ok(outcome) };
        let folder = self.common.folder(importer, numbering, &place, &mut outcome).await?;
        let uids = if selected.exists == 0 { Vec::new() } else { source.uids(after(folder.upto())).await? };
        outcome.before = outcome.there.saturating_sub(uids.len());
        let mut batch = Batch::new(folder);
        let mut progress = Progress::new(name, uids.len());
        for asked in uids.chunks(ASKED) {
            fetch(source, asked, &mut batch, &mut outcome, &mut progress).await?;
        }
        batch.take(&mut outcome).await?;
        batch.folder.reserve(uid_next).await?;
        Ok(outcome)
    }

    fn tls(&self) -> anyhow::Result<ClientConfig> {
        let Some(file) = &self.ca_file else {
            return ClientConfig::with_platform_verifier().context("the system's certificate authorities");
        };
        let read = || {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file)? {
                roots.add(certificate?)?;
            }
            anyhow::Ok(roots)
        };
        let roots = read().with_context(|| format!("{}: cannot be read", file.display()))?;
        if roots.is_empty() {
            bail!("{}: there is no certificate in it", file.display());
        }
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    fn password(&self) -> anyhow::Result<Secret> {
        if let Some(file) = &self.password_file {
            return from_file(file);
        }
        if let Ok(password) = std::env::var(VARIABLE) {
            return Ok(Secret::new(password));
        }
        if !std::io::stdin().is_terminal() {
            bail!("there is no password: name a --password-file, or set {VARIABLE}");
        }
        ask(&format!("Password of {} at {}: ", self.user, self.server.0))
    }
}

/// The UID after which there is more to take.
fn after(upto: u64) -> u32 {
    u32::try_from(upto.saturating_add(1)).unwrap_or(u32::MAX)
}

/// Takes these messages over.
async fn fetch(
    source: &mut Source,
    asked: &[u32],
    batch: &mut Batch,
    outcome: &mut Outcome,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    source.fetch(asked).await?;
    let mut staging: Option<Staging> = None;
    let mut found = Vec::new();
    while let Some(piece) = source.piece().await? {
        match piece {
            Piece::Bytes(bytes) => {
                let into = match &mut staging {
                    Some(staging) => staging,
                    None => staging.insert(batch.folder.stage().await?),
                };
                into.write(&bytes).await?;
            }
            Piece::Message(fetched) => {
                let whole = match staging.take() {
                    Some(staging) => staging,
                    None => batch.folder.stage().await?,
                };
                found.push((fetched.uid, whole.finish().await?, said(fetched)));
            }
        }
    }
    // Servers need not answer in order, and may answer what was not asked.
    found.sort_by_key(|(uid, ..)| *uid);
    found.dedup_by_key(|(uid, ..)| *uid);
    found.retain(|(uid, ..)| asked.binary_search(uid).is_ok());
    for (uid, staged, said) in found {
        batch.add(staged, said, uid.into(), outcome).await?;
        progress.step();
    }
    Ok(())
}

fn said(fetched: Fetched) -> Incoming {
    let mut flags = Flags::NONE;
    let mut keywords = Vec::new();
    for flag in fetched.flags {
        match Flags::from_name(&flag) {
            Some(flag) => flags = flags.union(flag),
            None if flag.starts_with('\\') => {}
            None => keywords.push(flag),
        }
    }
    let date = fetched.date.unwrap_or_else(|| UnixTime::from(std::time::SystemTime::now()));
    Incoming { uid: Some(fetched.uid), flags, keywords, date, saved: None, uidl: None }
}

/// The first line of a file.
fn from_file(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).map(Secret::new);
    let text = text.with_context(|| format!("{}: the password cannot be read", file.display()))?;
    let line = text.reveal().lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("{}: the first line is to hold the password, and is empty", file.display());
    }
    Ok(Secret::new(line))
}

/// Asks on the terminal, which shows nothing of what is typed.
fn ask(question: &str) -> anyhow::Result<Secret> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    eprint!("{question}");
    std::io::stderr().flush()?;
    let input = std::io::stdin();
    let before = tcgetattr(&input)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    tcsetattr(&input, OptionalActions::Flush, &before)?;
    eprintln!();
    let line = Secret::new(line);
    read.context("the password cannot be read")?;
    Ok(Secret::new(line.reveal().trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_and_perhaps_a_port() {
        for (text, expected) in [
            ("imap.example.com", Some(("imap.example.com", 993))),
            ("imap.example.com:1993", Some(("imap.example.com", 1993))),
            ("[::1]:1993", Some(("::1", 1993))),
            ("::1", Some(("::1", 993))),
            ("host:0", None),
            ("host:x", None),
            (":993", None),
            ("imaps://host", None),
            ("ann@host", None),
        ] {
            assert_eq!(server(text).ok(), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }
}
