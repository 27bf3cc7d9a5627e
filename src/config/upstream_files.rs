//! The files and variables that `[[upstream]]` names: authorities, certificates, secrets. Read by `serve` at start and on
//! each reload, and by `check`.

use std::{env, io, path::PathBuf, time::Duration};

use super::{Config, PemFileError, SecretSource, Upstream, UpstreamLogin, certificates, rooms::read_secret};
use crate::model::Secret;
use crate::tls::{self, RootsError};
use crate::upstream::{LoginBy, Settings, Trust};

/// A file or variable of an upstream that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFileError {
    /// A PEM file cannot be read, or its content does not fit.
    #[error(transparent)]
    Pem(PemFileError),
    /// The authorities cannot be used.
    #[error("{}: {source}: give the certificate, in PEM, of whoever signed those of upstream {upstream}", file.display())]
    Roots {
        /// Which upstream.
        upstream: String,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: RootsError,
    },
    /// The secret cannot be used.
    #[error(
        "{}: the secret of upstream {upstream} cannot be read ({source}): put it there, readable by the gateway's user \
         only, or correct upstream.login.secret_file",
        file.display()
    )]
    Secret {
        /// Which upstream.
        upstream: String,
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The variable cannot be used.
    #[error(
        "the secret of upstream {upstream} cannot be read ({problem}): set the environment variable {variable} for the \
         gateway, or correct upstream.login.secret_env"
    )]
    Variable {
        /// Which upstream.
        upstream: String,
        /// Which variable.
        variable: String,
        /// Why.
        problem: &'static str,
    },
}

impl Config {
    /// For `Upstreams::new`; reads the files and variables that hold authorities, certificates and secrets.
    ///
    /// # Errors
    /// One for each upstream that lacks something.
    pub fn upstream_settings(&self) -> Result<Vec<Settings>, Vec<UpstreamFileError>> {
        let (mut settings, mut errors) = (Vec::new(), Vec::new());
        for upstream in &self.upstreams {
            match upstream.settings() {
                Ok(own) => settings.push(own),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }
}

impl Upstream {
    fn settings(&self) -> Result<Settings, UpstreamFileError> {
        let mut trust = Trust { name: self.server_name.clone(), ..Trust::default() };
        if let Some(file) = &self.ca_file {
            let pem = certificates::bytes(file, "upstream.ca_file").map_err(UpstreamFileError::Pem)?;
            let wrong =
                |source| UpstreamFileError::Roots { upstream: self.name.clone(), file: file.clone(), source };
            trust.roots = Some(tls::roots(&pem).map_err(wrong)?);
        }
        let login = match &self.login {
            UpstreamLogin::Token(mechanism) => LoginBy::Token { mechanism: *mechanism },
            UpstreamLogin::Master { user, secret, form } => {
                LoginBy::Master { user: user.clone(), secret: self.secret(secret)?, form: form.clone() }
            }
            UpstreamLogin::Certificate(files) => {
                let keys = ("upstream.login.certificate", "upstream.login.private_key");
                trust.certificate = Some(certificates::read(files, keys).map_err(UpstreamFileError::Pem)?);
                LoginBy::Certificate
            }
        };
        Ok(Settings {
            name: self.name.clone(),
            imap: self.imap.clone(),
            pop: self.pop3.clone(),
            tls: self.tls.then_some(trust),
            login,
            proxy_protocol: self.proxy_protocol,
            client_address: self.client_address,
            connect: Duration::from_secs(self.connect_s),
            login_limit: Duration::from_secs(self.login_s),
            connections: usize::try_from(self.connections).unwrap_or(usize::MAX),
            health: (self.health_s > 0).then(|| Duration::from_secs(self.health_s)),
        })
    }

    fn secret(&self, source: &SecretSource) -> Result<Secret, UpstreamFileError> {
        // It goes into lines, and between NULs.
        let one_line = |secret: &Secret| !secret.reveal().chars().any(char::is_control);
        match source {
            SecretSource::File(file) => {
                let odd = || io::Error::other("it holds a control character, or more than one line");
                let read =
                    read_secret(file).and_then(|secret| if one_line(&secret) { Ok(secret) } else { Err(odd()) });
                let (upstream, file) = (self.name.clone(), file.clone());
                read.map_err(|source| UpstreamFileError::Secret { upstream, file, source })
            }
            SecretSource::Variable(variable) => {
                let wrong = |problem| UpstreamFileError::Variable {
                    upstream: self.name.clone(),
                    variable: variable.clone(),
                    problem,
                };
                let secret = env::var(variable).map(Secret::new).map_err(|error| match error {
                    env::VarError::NotPresent => wrong("it is not set"),
                    env::VarError::NotUnicode(_) => wrong("it is no UTF-8"),
                })?;
                match secret.reveal() {
                    "" => Err(wrong("it is empty")),
                    _ if !one_line(&secret) => Err(wrong("it holds a control character")),
                    _ => Ok(secret),
                }
            }
        }
    }
}
