//! `portcullis check`: everything `serve` would read, read and reported, nothing changed.

use std::process::ExitCode;

use super::ConfigFile;
use crate::serve;

/// Validate the config, the policy, certificates, keys and folders, and change nothing
///
/// Exit code 0: `serve` would start with these. 2: something is wrong; the message says where and what to do.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        for line in serve::check(&config)? {
            println!("{line}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
