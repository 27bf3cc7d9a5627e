//! `portcullis completions` and `portcullis man`: made from the same definitions that parse the arguments.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;

/// Print a completion script for a shell
///
/// Made from the definitions that parse the arguments, so it is never behind them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 printed; 2 no such shell.

Examples:
    portcullis completions bash > /etc/bash_completion.d/portcullis
    portcullis completions zsh > ~/.zfunc/_portcullis
    portcullis completions fish > ~/.config/fish/completions/portcullis.fish")]
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
#[command(after_help = "\
Exit codes: 0 written; 2 the folder cannot be used.

Examples:
    portcullis man | man -l -
    portcullis man --dir /usr/local/share/man/man1")]
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
            None => clap_mangen::Man::new(command.disable_help_subcommand(true)).render(&mut io::stdout())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
