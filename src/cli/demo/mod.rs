//! `portcullis demo`: everything a first look needs, made in one folder, and the gateway over it.

mod certificates;
mod material;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;

use crate::config::Config;

/// Make a complete gateway in a folder and run it on this machine
///
/// Makes a certificate authority and certificate, a signing key and its issuer, units, users and sample mail, then
/// serves IMAPS, POP3S and the HTTP API on loopback and prints a line to paste that reads a message with curl. What is in the folder
/// already is used again, so edit policy.toml there and watch sessions fall.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 stopped by Ctrl-C or SIGTERM; 2 the folder cannot be used, or a port is taken.

Examples:
    portcullis demo
    portcullis demo --dir /tmp/gate --port-base 20000")]
pub(super) struct Arguments {
    /// Folder to make everything in
    #[arg(long, value_name = "DIR", default_value = "./portcullis-demo")]
    dir: PathBuf,
    /// IMAPS listens on N + 93, POP3S on N + 95 and HTTP on N + 80
    #[arg(long, value_name = "N", default_value_t = 1900, value_parser = clap::value_parser!(u16).range(0..=65_440))]
    port_base: u16,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let made = material::make(&self.dir, self.port_base)
            .with_context(|| format!("{}: cannot make the demo there", self.dir.display()))?;
        let mut config = Config::load(&made.config)?;
        // Containers often have no IPv6 at all.
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let loopback = |port| {
            let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
            addresses.into_iter().filter(|address| address.is_ipv4() || six).collect::<Vec<_>>()
        };
        config.listen.imaps = loopback(self.port_base + 93);
        config.listen.pop3s = loopback(self.port_base + 95);
        config.listen.http = loopback(self.port_base + 80);
        let arguments = self;
        super::serve::run(&config, crate::serve::Start::Alone, |bound| arguments.explain(&made, bound))
    }

    /// What to paste, in words.
    fn explain(&self, made: &material::Made, bound: &[crate::serve::Bound]) {
        let program =
            std::env::current_exe().map_or_else(|_| "portcullis".to_owned(), |path| quoted(&short(&path)));
        let config = quoted(&made.config.display().to_string());
        let port = |name: &str| bound.iter().find(|b| b.name == name).map_or(0, |b| b.address.port());
        let text = format!(
            "
The demo is in {dir}. To read a message, paste this into another terminal:

curl --cacert {ca} --url 'imaps://localhost:{imaps}/INBOX;MAILINDEX=1' --user {user}: --oauth2-bearer \"$({program} \
             token --config {config} --user {user} --app {app})\"

The same by POP3: --url 'pop3s://localhost:{pop3s}/1'. A refusal: --user {refused} --app {app}. Why it is refused:
{program} explain --config {config} --user {refused} --app {app} --service imap

The API is at http://localhost:{http}/api/v1. The first API token is made, within 15 minutes of a start, by:
{program} bootstrap --url http://localhost:{http} --secret-file {secret}",
            dir = self.dir.display(),
            ca = quoted(&made.ca.display().to_string()),
            imaps = port("imaps"),
            pop3s = port("pop3s"),
            http = port("http"),
            secret = quoted(&made.bootstrap.display().to_string()),
            user = material::USER,
            refused = material::REFUSED,
            app = material::APP,
        );
        // Whoever started it may have stopped reading; it serves all the same.
        let _ = super::say(&text);
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.,+=@:".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path below the current folder without its front part, as a person would type it.
fn short(path: &std::path::Path) -> String {
    std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .map_or_else(|| path.display().to_string(), |rest| rest.display().to_string())
}
