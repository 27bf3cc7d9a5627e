//! `portcullis token`: a token for development, signed with an issuer's key that the config holds.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow};

use super::ConfigFile;
use crate::config::{Config, Issuer};
use crate::model::{ClientId, Service, UnixTime};
use crate::token::{Mint, SigningKey, sign};

/// Print an access token, for development
///
/// Works only for an issuer whose private key the config holds (private_key_file), as `portcullis demo` sets one up; a
/// real issuer hands out its tokens itself. The token goes to standard output alone, ready for $(..).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 the token is printed; 2 there is no key to sign with, or an argument is wrong.

Example:
    portcullis token --config portcullis-demo/portcullis.toml --user ann@example.com --app demo-app --ttl 15m")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The user the token is to speak for
    #[arg(long, value_name = "ADDRESS")]
    user: String,
    /// The app (client ID) it is to be issued to
    #[arg(long, value_name = "CLIENT-ID")]
    app: String,
    /// Its scope; by default every scope the issuer's config names
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// How long it is good: 90s, 15m, 1h, ...
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// The issuer to sign as, if the config holds keys of several
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let issuer = self.signer(&config)?;
        let file = issuer.private_key_file.as_deref().context("the issuer has no private_key_file")?;
        let name = file.display();
        let pem = fs::read_to_string(file)
            .with_context(|| format!("{name}: cannot read the issuer's private key (issuer.private_key_file)"))?;
        let key = SigningKey::from_pem(&pem).with_context(|| name.to_string())?;
        let mut id = [0u8; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| anyhow!("the system gives no random numbers"))?;
        let user = issuer.rules.user(&self.user).context("--user")?;
        let token = sign(
            &Mint {
                issuer: issuer.rules.url.clone(),
                audience: issuer.rules.audience.clone(),
                user_claim: issuer.rules.user_claim.clone(),
                user: user.to_string(),
                app: ClientId::parse(&self.app).context("--app")?.to_string(),
                scope: self.scope.clone().unwrap_or_else(|| every_scope(issuer)),
                issued_at: UnixTime::from(SystemTime::now()),
                lifetime: self.ttl,
                id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
                extra: serde_json::Map::new(),
            },
            &key,
        )?;
        println!("{}", token.reveal());
        Ok(ExitCode::SUCCESS)
    }

    fn signer<'c>(&self, config: &'c Config) -> anyhow::Result<&'c Issuer> {
        let wanted = |issuer: &&Issuer| self.issuer.as_ref().is_none_or(|url| *url == issuer.rules.url);
        let mut able = config.issuers.iter().filter(wanted).filter(|issuer| issuer.private_key_file.is_some());
        let first = able.next().ok_or_else(|| {
            anyhow!(
                "{}: no such issuer has a private_key_file, so no token can be signed; ask the issuer itself for one",
                config.file.display()
            )
        })?;
        if able.next().is_some() {
            return Err(anyhow!("several issuers have a private_key_file: name one with --issuer"));
        }
        Ok(first)
    }
}

/// The scopes for both services, each once.
fn every_scope(issuer: &Issuer) -> String {
    let rules = &issuer.rules;
    let mut scopes: Vec<&str> = Vec::new();
    for scope in [Service::Imap, Service::Pop].iter().flat_map(|service| rules.scopes_for(*service)) {
        if !scopes.contains(&scope.as_str()) {
            scopes.push(scope);
        }
    }
    scopes.join(" ")
}
