//! Everything that a start would read, read and reported; nothing is changed and no socket is bound. Called by `cli`.

use std::{fs, io, path::Path, time::SystemTime};

use anyhow::{Context, bail};
use rustix::fs::Access;

use super::{
    in_one_line,
    reload::{lines, policy_document, upstreams},
};
use crate::config::{Config, Issuer};
use crate::issuer::Issuers;
use crate::metrics::Metrics;
use crate::notify::Channels;
use crate::store::{Examined, NamedHome, examine};
use crate::tls::PairWarning;
use crate::token::SigningKey;
use crate::upstream::{self, Homes, Upstreams};

/// Reads config, certificates, keys, policy, database and mail folder; a line for each thing found in order. The error
/// tells everything that is wrong.
pub async fn check(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = vec![format!("{}: config is in order", config.file.display())];
    let mut wrong: Vec<String> = Vec::new();
    for (key, path) in config.paths() {
        found.push(format!("{key} = {}", path.display()));
    }
    let mut warnings = Vec::new();
    match config.certificates(SystemTime::now().into()) {
        Ok((_, told)) => warnings = told,
        Err(errors) => wrong.push(lines(&errors)),
    }
    let mut note = |outcome: anyhow::Result<Option<String>>| match outcome {
        Ok(line) => found.extend(line),
        Err(error) => wrong.push(in_one_line(&error)),
    };
    note(issuers(config));
    config.issuers.iter().for_each(|issuer| note(private_key(issuer)));
    if let Some(file) = &config.policy_file {
        let read = policy_document(file, &config.homes());
        note(read.map(|_| Some(format!("{}: policy is in order", file.display()))));
    }
    note(notices(config));
    note(servers(config));
    let mut homes = Vec::new();
    note(database(config).await.map(|(line, named)| {
        homes = named;
        Some(line)
    }));
    note(folders(config).map(|()| None));
    if !wrong.is_empty() {
        bail!(wrong.join("\n"));
    }
    found.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    found.extend(certificates_shown(config));
    found.extend(config.store_settings().warning().map(|warning| format!("warning: {warning}")));
    // What the file keeps will be as the file says, which was looked at.
    homes.retain(|named| !(named.of_file && config.policy_file.is_some()));
    found.extend(no_such_homes(&homes, &config.homes()).map(|warning| format!("warning: {warning}")));
    found.extend(config.setup.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    Ok(found)
}

fn issuers(config: &Config) -> anyhow::Result<Option<String>> {
    Issuers::with_limits(config.issuer_settings()?, config.issuer_limits(), SystemTime::now().into())?;
    Ok(None)
}

/// The key that `portcullis token` signs with.
fn private_key(issuer: &Issuer) -> anyhow::Result<Option<String>> {
    let Some(file) = &issuer.private_key_file else { return Ok(None) };
    let name = file.display();
    let pem = fs::read_to_string(file).with_context(|| {
        format!("{name}: the issuer's private key cannot be read: correct issuer.private_key_file, or remove it")
    })?;
    SigningKey::from_pem(&pem).with_context(|| name.to_string())?;
    Ok(None)
}

/// The files that `[notify]` names; nobody is written to.
fn notices(config: &Config) -> anyhow::Result<Option<String>> {
    Channels::new(config.notify_settings()?)?;
    let channels = config.notify.channels();
    Ok((!channels.is_empty()).then(|| format!("notices go by {}", channels.join(", "))))
}

/// The files that `[[upstream]]` names; no server is asked.
fn servers(config: &Config) -> anyhow::Result<Option<String>> {
    let made = Upstreams::new(&upstreams(config)?, &config.mail_default, &Metrics::new())?;
    let names: Vec<&str> = made.names().collect();
    Ok((!names.is_empty())
        .then(|| format!("mail is on {} too; mail.default = {}", names.join(", "), config.mail_default)))
}

/// What mail servers would hold against the certificates that we show them.
fn certificates_shown(config: &Config) -> Vec<String> {
    let warning = |own: upstream::Settings| {
        let pair = own.tls?.certificate?;
        // Nobody looks for us by a name.
        let warning = pair.warning(SystemTime::now().into()).filter(|it| *it != PairWarning::NoNames)?;
        Some(format!("warning: upstream.login.certificate of {}: {warning}", own.name))
    };
    upstreams(config).unwrap_or_default().into_iter().filter_map(warning).collect()
}

/// A line about the database, and the homes of mail that it names.
async fn database(config: &Config) -> anyhow::Result<(String, Vec<NamedHome>)> {
    Ok(match examine(&config.store_settings()).await? {
        Examined::Missing { path } => (format!("{path}: no database yet; the first start makes it"), Vec::new()),
        Examined::Ready { path, older: false, homes } => (format!("{path}: database is in order"), homes),
        Examined::Ready { path, older: true, homes } => {
            (format!("{path}: database is in order; the next start brings its tables up to date"), homes)
        }
    })
}

/// A warning for each of these homes that the config does not have: whoever's mail is there is let in nowhere.
pub(super) fn no_such_homes(named: &[NamedHome], homes: &Homes) -> impl Iterator<Item = String> {
    named.iter().filter_map(|NamedHome { home, place, others, .. }| {
        let wrong = homes.check(home).err()?;
        let others = if *others == 0 { String::new() } else { format!(" and {others} more") };
        Some(format!("{place}{others}: {wrong}; until then nobody comes in whose mail is there"))
    })
}

/// Whether data and mail can be kept where the config says; asked before anything is made there.
pub(super) fn folders(config: &Config) -> anyhow::Result<()> {
    for folder in [config.data_dir.clone(), config.maildir_settings().root] {
        usable(&folder).with_context(|| {
            format!(
                "{}: mail and database cannot be kept there: make it a folder that the gateway's user may read and \
                 write, or correct data_dir",
                folder.display()
            )
        })?;
    }
    Ok(())
}

/// A folder to read and write in, or a place where one can be made.
fn usable(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    if !fs::metadata(there)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut needed = Access::WRITE_OK | Access::EXEC_OK;
    if there == folder {
        needed |= Access::READ_OK;
    }
    Ok(rustix::fs::access(there, needed)?)
}
