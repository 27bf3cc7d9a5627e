//! `config/portcullis.toml` as values. Called by `serve` and `cli`. Reads the file and the PEM files it names; decides
//! nothing about mail.
//!
//! Relative paths: relative to the folder that the config file is in, except that a config file in a folder named
//! `config` means the folder above. So `config/portcullis.toml` with `certs/server.pem` works in a checkout, from any
//! working directory, and `/etc/portcullis/portcullis.toml` with the same line means `/etc/portcullis/certs`.

mod certificates;
mod issuers;
mod limits;
mod notify;
mod read;
mod rooms;
mod sections;
mod setup;
mod signin;
mod upstream_files;
mod upstreams;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use certificates::{PemFileError, PemWarning};
pub use issuers::{Introspection, Issuer};
pub use limits::{AuditLimits, HttpLimits, Jwks, Limit, Limits, NotifyLimits};
pub use notify::{Notify, NotifySecretError, Smtp, Webhook};
pub use rooms::SecretFileError;
pub use signin::SignIn;
pub use upstream_files::UpstreamFileError;
pub use upstreams::{SecretSource, Upstream, UpstreamLogin};

use crate::admin::{ScimSettings, SetupSettings};
use crate::issuer::KeySource;
use crate::model::Secret;
use crate::policy::file::FileError;

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not open.
    #[error(
        "{}: the config file cannot be read ({source}): name it with --config; config/portcullis.toml in the source \
         tree is a start",
        file.display()
    )]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds mistakes: all of them.
    #[error(transparent)]
    Wrong(FileError),
}

/// The whole config file. Paths are resolved; nothing they name has been opened yet.
#[derive(Clone, Debug)]
pub struct Config {
    /// The config file itself.
    pub file: PathBuf,
    /// The gateway's own name, as mail programs are set up with.
    pub hostname: String,
    /// Database and embedded mail.
    pub data_dir: PathBuf,
    /// What is listened on.
    pub listen: Listen,
    /// How the HTTP listeners behave.
    pub http: Http,
    /// What identity providers may say.
    pub scim: ScimSettings,
    /// Certificate chains and keys; the first is the default. At least one.
    pub tls: Vec<PemFiles>,
    /// Who may issue tokens. At least one; no two have the same address.
    pub issuers: Vec<Issuer>,
    /// What people are told about setting up their mail programs.
    pub setup: SetupSettings,
    /// How signing keys are fetched.
    pub jwks: Jwks,
    /// Where state is kept.
    pub database: Database,
    /// The declarative policy file, if one is used.
    pub policy_file: Option<PathBuf>,
    /// The mail servers behind the gate; no two have the same name.
    pub upstreams: Vec<Upstream>,
    /// Where mail is of which policy says nothing: `maildir`, or the name of an upstream.
    pub mail_default: String,
    /// The audit trail.
    pub audit: Audit,
    /// Where notices go.
    pub notify: Notify,
    /// Every limit.
    pub limits: Limits,
    /// Networks whose addresses have no limit of connections.
    pub trusted_networks: Vec<ipnet::IpNet>,
    /// Whether an open session ends when the token it came in with expires.
    pub sessions_end_with_token: bool,
    /// What is logged.
    pub log: Log,
}

/// `[listen]`: each a list of addresses; empty means off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// IMAP over TLS.
    pub imaps: Vec<SocketAddr>,
    /// POP3 over TLS.
    pub pop3s: Vec<SocketAddr>,
    /// The API, metrics, health and readiness.
    pub http: Vec<SocketAddr>,
    /// Networks whose connections start with a PROXY header; from all others there is none.
    pub proxy_protocol_from: Vec<ipnet::IpNet>,
}

/// `[http]`: what holds for every address of `listen.http`.
#[derive(Clone, Debug)]
pub struct Http {
    /// TLS on loopback addresses too; beyond loopback there is nothing else.
    pub tls: bool,
    /// Names by which it may be asked, beside `hostname` and, on loopback, this machine's own.
    pub hosts: Vec<String>,
    /// Where it is reached from outside, without a slash at the end.
    pub public_url: Option<String>,
    /// An access token needs one of these scopes to be taken by the API; none: API tokens alone are taken.
    pub scope: Vec<String>,
    /// Where people sign in at the console, if they can.
    pub signin: Option<SignIn>,
    /// Its bounds.
    pub limits: HttpLimits,
}

/// One certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub private_key: PathBuf,
}

/// `[database]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `sqlite:FILE`, in `data_dir` if relative, or `postgres://..`. Never printed: there may be a password in it.
    pub url: Secret,
    /// How long known users may still come in while the database is down, in seconds.
    pub grace_s: u64,
}

/// `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether logins are refused while events can be neither written nor held.
    pub required: bool,
    /// Its numbers.
    pub limits: AuditLimits,
}

/// `[log]`, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter: `info`, or `info,portcullis::gate=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the file. The error tells every mistake found, each with its line.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// Reads the text of `file`, whose place makes relative paths whole.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        sections::read(text, file).map_err(|problems| {
            ConfigError::Wrong(FileError::from_problems(problems).in_file(file.display().to_string()))
        })
    }

    /// Every path the file names, resolved, with its key: what `check` prints, and `serve` watches.
    pub fn paths(&self) -> Vec<(&'static str, &Path)> {
        let mut paths: Vec<(&'static str, &Path)> = vec![("data_dir", &self.data_dir)];
        for pair in &self.tls {
            paths.extend([("tls.certificate", &*pair.certificate), ("tls.private_key", &*pair.private_key)]);
        }
        for issuer in &self.issuers {
            if let Some(KeySource::File(file)) = &issuer.keys {
                paths.push(("issuer.jwks_file", file));
            }
            paths.extend(issuer.ca_file.iter().map(|file| ("issuer.ca_file", &**file)));
            paths.extend(issuer.private_key_file.iter().map(|file| ("issuer.private_key_file", &**file)));
            let secret = issuer.introspection.as_ref().and_then(|i| i.client_secret_file.as_deref());
            paths.extend(secret.map(|file| ("issuer.introspection.client_secret_file", file)));
        }
        let secret = self.http.signin.as_ref().and_then(|signin| signin.client_secret_file.as_deref());
        paths.extend(secret.map(|file| ("http.signin.client_secret_file", file)));
        paths.extend(self.policy_file.iter().map(|file| ("policy.file", &**file)));
        paths.extend(self.upstreams.iter().flat_map(Upstream::paths));
        paths.extend(self.notify.paths());
        paths
    }
}

/// The folder that relative paths start from; see the head of this file.
fn base_of(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "config"));
    above.unwrap_or(folder).to_owned()
}
