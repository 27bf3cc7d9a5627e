//! `portcullis completions` and `portcullis man`: made from the same definitions that parse the arguments.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;

/// Print a completion script for a shell
///
/// For bash:  portcullis completions bash > /etc/bash_completion.d/portcullis
/// For zsh:   portcullis completions zsh > ~/.zfunc/_portcullis
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionArguments {
    /// The shell to write for
    shell: Shell,
}

impl CompletionArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        clap_complete::generate(self.shell, &mut Arguments::command(), "portcullis", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the manual pages, one for each command
#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Folder to write the pages to; without it the main page goes to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManArguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let command = Arguments::command();
        match &self.dir {
            Some(dir) => {
                fs::create_dir_all(dir).with_context(|| format!("{}: cannot make the folder", dir.display()))?;
                clap_mangen::generate_to(command, dir)
                    .with_context(|| format!("{}: cannot write the manual pages", dir.display()))?;
            }
            None => clap_mangen::Man::new(command).render(&mut io::stdout())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
