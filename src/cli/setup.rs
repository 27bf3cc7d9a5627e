//! `portcullis setup`: what people have to be told so that their mail programs get in, as text, and the Thunderbird add-on as
//! a file.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, anyhow, bail};

use super::ConfigFile;
use crate::admin::{Guide, Package, SetupSettings, prepare};
use crate::config::Config;
use crate::issuer::Issuers;
use crate::store::AuditLog;

/// Print what people need to set up their mail programs
///
/// The same that the gateway tells on its page /setup: servers, ports, and what to write for each program that the tests run
/// against it; then the lines for the DNS of the mail domains that [setup] names.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "\
Exit codes: 0 done; 2 the config is wrong, or the add-on cannot be made.

Examples:
    portcullis setup --config config/portcullis.toml
    portcullis setup thunderbird --config config/portcullis.toml -o mail-sign-in.xpi"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: Option<ConfigFile>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Thunderbird(Thunderbird),
}

/// Write the Thunderbird add-on that tells where people sign in
///
/// The same file, byte for byte, that the gateway offers as /setup/thunderbird.xpi. Its version grows when its content
/// changes; the database keeps count.
#[derive(Debug, clap::Args)]
struct Thunderbird {
    #[command(flatten)]
    config: ConfigFile,
    /// Where to; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The issuer, if the config has add-ons for several
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        match (&self.what, &self.config) {
            (Some(What::Thunderbird(arguments)), _) => arguments.run(),
            (None, Some(config)) => print(&config.read()?),
            (None, None) => bail!("name the config file with --config"),
        }
    }
}

fn print(config: &Config) -> anyhow::Result<ExitCode> {
    let setup = config.admin_settings().setup;
    let guide = Guide { hostname: &config.hostname, setup: &setup };
    for line in lines(&guide) {
        if !super::say(&line)? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(guide: &Guide<'_>) -> Vec<String> {
    let setup = guide.setup;
    let mut lines = Vec::new();
    let smtp = setup.smtp.as_ref().map(|smtp| &smtp.server);
    for (what, server) in [("IMAP", setup.imaps.as_ref()), ("POP3", setup.pop3s.as_ref()), ("Sending", smtp)] {
        lines.extend(server.map(|server| format!("{what:<10} {server}")));
    }
    lines.push("User name  the whole mail address".to_owned());
    lines.push("Sign-in    OAuth2 (XOAUTH2 or OAUTHBEARER)".to_owned());
    for sign_in in &setup.sign_ins {
        lines.push(format!("Issuer     {}", sign_in.issuer));
        if !sign_in.scopes.is_empty() {
            lines.push(format!("Scope      {}", sign_in.scopes.join(" ")));
        }
    }
    lines.push(String::new());
    lines.push("Thunderbird".to_owned());
    lines.push(if setup.add_ons.is_empty() {
        "    needs an add-on: set client_id under [setup.thunderbird] in the config".to_owned()
    } else {
        "    portcullis setup thunderbird --config FILE -o mail-sign-in.xpi".to_owned()
    });
    for program in guide.programs() {
        lines.extend([String::new(), format!("{}: {}", program.name, program.about)]);
        lines.extend(program.settings.lines().map(|line| format!("    {line}")));
    }
    let records = guide.records();
    if !records.is_empty() {
        lines.extend([String::new(), "DNS".to_owned()]);
        lines.extend(records.iter().map(|record| format!("    {record}")));
    }
    lines
}

impl Thunderbird {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let setup = config.admin_settings().setup;
        let index = self.index(&setup, &config)?;
        let package = super::block_on(make(&config, &setup, index))?;
        let name = self.output.display();
        if self.output.as_os_str() == "-" {
            io::stdout().lock().write_all(&package.xpi)?;
        } else {
            fs::write(&self.output, &package.xpi)
                .with_context(|| format!("{name}: cannot be written (--output)"))?;
            super::say(&format!("{name}: {} version {}", package.id, package.version))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn index(&self, setup: &SetupSettings, config: &Config) -> anyhow::Result<usize> {
        let file = config.file.display();
        match (&self.issuer, setup.add_ons.as_slice()) {
            (_, []) => Err(anyhow!("{file}: there is no [setup.thunderbird]; write it with client_id")),
            (Some(url), add_ons) => add_ons
                .iter()
                .position(|add_on| add_on.issuer == *url)
                .ok_or_else(|| anyhow!("{file}: no [[setup.thunderbird]] is for the issuer {url}")),
            (None, [_]) => Ok(0),
            (None, _) => Err(anyhow!("{file}: there are several [[setup.thunderbird]]: name one with --issuer")),
        }
    }
}

async fn make(config: &Config, setup: &SetupSettings, index: usize) -> anyhow::Result<Package> {
    let issuers =
        Issuers::with_limits(config.issuer_settings()?, config.issuer_limits(), SystemTime::now().into())?;
    let add_on = prepare(setup, index, &issuers).await?;
    let store = config.store_settings();
    let number = if store.is_made().await? {
        AuditLog::open(&store).await?.add_on_version(add_on.id(), &add_on.digest()?).await?
    } else {
        // Before the first start: older than all that the gateway will ever offer.
        0
    };
    Ok(add_on.numbered(number)?)
}
