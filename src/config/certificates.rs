//! Opens the PEM files that the config names. Called by `serve` at start and on each reload, and by `check`.

use std::{fs, io, path::PathBuf};

use super::{Config, PemFiles};
use crate::model::UnixTime;
use crate::tls::{Certificates, Pair, PairError, PairFile, PairWarning};

/// A certificate or key that cannot be used: the file, what is wrong, how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum PemFileError {
    /// The file does not open.
    #[error("{}: {key} cannot be read ({source}): {}", file.display(), remedy(source))]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The content does not fit.
    #[error("{}: {source}: {}", file.display(), source.remedy())]
    Unusable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: PairError,
    },
}

/// A certificate that clients will refuse, though it can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemWarning {
    /// Its own facts are against it.
    #[error("{}: {warning}", file.display())]
    Pair {
        /// Which file.
        file: PathBuf,
        /// Why.
        warning: PairWarning,
    },
    /// None of the certificates has the name that mail programs are told to use.
    #[error("no certificate names the host {hostname}: clients set up with that name will refuse it")]
    Hostname {
        /// `hostname` of the config.
        hostname: String,
    },
}

/// Larger than any chain; a bound for a path that names something else by mistake.
const MAX_PEM: u64 = 1024 * 1024;

impl Config {
    /// Reads all certificates and keys, with what clients would hold against them at the moment `now`.
    pub fn certificates(&self, now: UnixTime) -> Result<(Certificates, Vec<PemWarning>), Vec<PemFileError>> {
        let mut pairs = Vec::new();
        let mut warnings = Vec::new();
        let mut errors = Vec::new();
        for files in &self.tls {
            match read(files, ("tls.certificate", "tls.private_key")) {
                Ok(pair) => {
                    let file = files.certificate.clone();
                    warnings.extend(pair.warning(now).map(|warning| PemWarning::Pair { file, warning }));
                    pairs.push(pair);
                }
                Err(error) => errors.push(error),
            }
        }
        if !pairs.is_empty() && !pairs.iter().any(|pair| pair.covers(&self.hostname)) {
            warnings.push(PemWarning::Hostname { hostname: self.hostname.clone() });
        }
        match Certificates::new(pairs) {
            Some(certificates) if errors.is_empty() => Ok((certificates, warnings)),
            _ => Err(errors),
        }
    }
}

/// A certificate and its key; `keys` are those of the config that name the files.
pub(super) fn read(files: &PemFiles, keys: (&'static str, &'static str)) -> Result<Pair, PemFileError> {
    let certificate = bytes(&files.certificate, keys.0)?;
    let private_key = zeroize::Zeroizing::new(bytes(&files.private_key, keys.1)?);
    Pair::from_pem(&certificate, &private_key).map_err(|source| {
        let file = match source.file() {
            PairFile::Certificate => files.certificate.clone(),
            PairFile::PrivateKey => files.private_key.clone(),
        };
        PemFileError::Unusable { file, source }
    })
}

/// A PEM file's content, within a bound.
pub(super) fn bytes(file: &std::path::Path, key: &'static str) -> Result<Vec<u8>, PemFileError> {
    let read = || match fs::metadata(file)? {
        meta if !meta.is_file() => Err(io::Error::other("it is no file")),
        meta if meta.len() > MAX_PEM => Err(io::Error::other("it is larger than 1 MiB")),
        _ => fs::read(file),
    };
    read().map_err(|source| PemFileError::Unreadable { file: file.to_owned(), key, source })
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "put a PEM file there (certs/README.md says how to make one), or correct the path"
        }
        io::ErrorKind::PermissionDenied => "let the gateway's user read it",
        _ => "correct the path",
    }
}
