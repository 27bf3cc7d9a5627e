//! The `portcullis` command: reads arguments, calls the rooms below, prints for people or programs, picks the exit
//! code. One file a command.

mod audit;
mod check;
mod demo;
mod directory;
mod explain;
mod legacy;
mod mailbox;
mod manual;
mod policy;
mod remote;
mod serve;
mod setup;
mod token;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Exit code for a wrong config file, policy file, key or argument, and for "cannot tell".
const EXIT_WRONG: u8 = 2;

/// A gateway for IMAPS and POP3S: mail programs come in with an OAuth token only, where policy says so, for as long
/// as it says so.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
To try it on your own machine, with everything made for you:
    portcullis demo

To run it:
    portcullis check --config config/portcullis.toml
    portcullis serve --config config/portcullis.toml

To learn why somebody cannot get in:
    portcullis explain --config config/portcullis.toml --user ann@example.com --app CLIENT-ID --service imap
    portcullis audit   --config config/portcullis.toml --reference 7F3K2Q

To change who gets in, over the API of a running gateway (PORTCULLIS_URL, PORTCULLIS_TOKEN_FILE):
    portcullis units set /Sales --imap off --preview
    portcullis users list --below /Sales";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Demo(demo::Arguments),
    Token(token::Arguments),
    Explain(explain::Arguments),
    Check(check::Arguments),
    Audit(audit::Arguments),
    Legacy(legacy::Arguments),
    Policy(policy::Arguments),
    Setup(setup::Arguments),
    Directory(directory::Arguments),
    Mailbox(mailbox::Arguments),
    Grants(remote::grants::Arguments),
    Sessions(remote::sessions::Arguments),
    #[command(name = "apps-seen")]
    AppsSeen(remote::apps_seen::Arguments),
    Units(remote::units::Arguments),
    Users(remote::users::Arguments),
    Groups(remote::groups::Arguments),
    Mailboxes(remote::mailboxes::Arguments),
    Apps(remote::apps::Arguments),
    Settings(remote::settings::Arguments),
    Changes(remote::changes::Arguments),
    Cutoffs(remote::cutoffs::Arguments),
    Notices(remote::notices::Arguments),
    Me(remote::me::Arguments),
    Tokens(remote::access::Tokens),
    Admins(remote::access::Admins),
    Bootstrap(remote::access::Bootstrap),
    Completions(manual::CompletionArguments),
    Man(manual::ManArguments),
}

/// The config file every command but `demo` reads.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The config file (TOML); config/portcullis.toml in the source explains each key
    #[arg(long = "config", value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    path: PathBuf,
}

impl ConfigFile {
    fn read(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.path)?)
    }
}

/// Runs the command the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The one crypto backend, before anything can ask for another.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match arguments.command {
        Command::Serve(arguments) => arguments.run(),
        Command::Demo(arguments) => arguments.run(),
        Command::Token(arguments) => arguments.run(),
        Command::Explain(arguments) => arguments.run(),
        Command::Check(arguments) => arguments.run(),
        Command::Audit(arguments) => arguments.run(),
        Command::Legacy(arguments) => arguments.run(),
        Command::Policy(arguments) => arguments.run(),
        Command::Setup(arguments) => arguments.run(),
        Command::Directory(arguments) => arguments.run(),
        Command::Mailbox(arguments) => arguments.run(),
        Command::Grants(arguments) => arguments.run(),
        Command::Sessions(arguments) => arguments.run(),
        Command::AppsSeen(arguments) => arguments.run(),
        Command::Units(arguments) => arguments.run(),
        Command::Users(arguments) => arguments.run(),
        Command::Groups(arguments) => arguments.run(),
        Command::Mailboxes(arguments) => arguments.run(),
        Command::Apps(arguments) => arguments.run(),
        Command::Settings(arguments) => arguments.run(),
        Command::Changes(arguments) => arguments.run(),
        Command::Cutoffs(arguments) => arguments.run(),
        Command::Notices(arguments) => arguments.run(),
        Command::Me(arguments) => arguments.run(),
        Command::Tokens(arguments) => arguments.run(),
        Command::Admins(arguments) => arguments.run(),
        Command::Bootstrap(arguments) => arguments.run(),
        Command::Completions(arguments) => arguments.run(),
        Command::Man(arguments) => arguments.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("portcullis: {}", crate::serve::in_one_line(&error));
        ExitCode::from(EXIT_WRONG)
    })
}

/// Prints one line; false once nobody reads any more (`| head`, `| grep -q`), which is no fault.
fn say(line: &str) -> io::Result<bool> {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A runtime for the commands that ask the database or an issuer once.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
