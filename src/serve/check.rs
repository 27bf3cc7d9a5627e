//! Everything that a start would read, read and reported; nothing is changed and no socket is bound. Called by `cli`.

use std::time::SystemTime;

use super::reload::{lines, policy_document};
use crate::config::Config;
use crate::issuer::Issuers;

/// Reads config, certificates, keys and policy file; a line for each thing found in order.
pub fn check(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = vec![format!("{}: config is in order", config.file.display())];
    for (key, path) in config.paths() {
        found.push(format!("{key} = {}", path.display()));
    }
    let warnings = match config.certificates(SystemTime::now().into()) {
        Ok((_, warnings)) => warnings,
        Err(errors) => anyhow::bail!(lines(&errors)),
    };
    Issuers::with_limits(config.issuer_settings()?, config.issuer_limits(), SystemTime::now().into())?;
    if let Some(file) = &config.policy_file {
        policy_document(file)?;
        found.push(format!("{}: policy is in order", file.display()));
    }
    found.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    Ok(found)
}
