//! `portcullis check`: everything `serve` would read, read and reported, nothing changed.

use std::process::ExitCode;

use super::ConfigFile;
use crate::serve;

/// Validate the config, the policy, certificates, keys and folders, and change nothing
///
/// Looks at what `serve` would read: the config, certificates and keys, issuers' key files, the policy, the database
/// and the mail folder. No socket is bound, no file is made. Warnings are about what clients will stumble over.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 `serve` would start with these; 2 something is wrong, and each message says where and what to do.

Example:
    portcullis check --config config/portcullis.toml")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        for line in super::block_on(serve::check(&config))? {
            println!("{line}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
