//! One certificate chain with its private key, read from PEM bytes, with errors that say which file to mend and how.
//! Called by `serve` and `cli` through `tls`; the caller reads the files and names them.

use std::sync::Arc;

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{PemObject, SectionKind},
    },
    sign::{CertifiedKey, SigningKey},
};

use super::x509::{self, Facts, Malformed};
use crate::model::UnixTime;

/// A certificate chain (the server's own certificate first) and the key that belongs to it.
#[derive(Clone, Debug)]
pub struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    facts: Facts,
}

/// Which of the two files an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFile {
    /// The file named by `tls.certificate`.
    Certificate,
    /// The file named by `tls.private_key`.
    PrivateKey,
}

/// Why a chain and key cannot serve. Never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A block does not decode.
    #[error("PEM block {block} is damaged: {problem}")]
    Pem {
        /// Which file.
        file: PairFile,
        /// Which block of the file, counted from 1.
        block: usize,
        /// What the PEM reader found.
        problem: String,
    },
    /// No `CERTIFICATE` block.
    #[error("it holds no certificate")]
    NoCertificate,
    /// No private key, but a certificate: the two files are likely swapped.
    #[error("it holds a certificate, and no private key")]
    CertificateForKey,
    /// No certificate, but a private key: the two files are likely swapped.
    #[error("it holds a private key, and no certificate")]
    KeyForCertificate,
    /// No private key block.
    #[error("it holds no private key")]
    NoKey,
    /// More than one private key block.
    #[error("it holds {0} private keys")]
    ManyKeys(usize),
    /// The key asks for a passphrase.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// A kind of key that TLS here cannot sign with.
    #[error("the private key is of a kind that cannot be used")]
    UnusableKey,
    /// A certificate is not readable.
    #[error("certificate {position} is malformed: {problem}")]
    Certificate {
        /// Which certificate of the file, counted from 1.
        position: usize,
        /// Which part.
        problem: Malformed,
    },
    /// The key fits a later certificate of the chain.
    #[error("the private key belongs to certificate {0} of the file, not to the first")]
    WrongOrder(usize),
    /// The key fits none of the certificates.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

impl PairError {
    /// The file to look into.
    pub fn file(&self) -> PairFile {
        match self {
            Self::Pem { file, .. } => *file,
            Self::NoCertificate | Self::KeyForCertificate | Self::Certificate { .. } | Self::WrongOrder(_) => {
                PairFile::Certificate
            }
            Self::CertificateForKey
            | Self::NoKey
            | Self::ManyKeys(_)
            | Self::EncryptedKey
            | Self::UnusableKey
            | Self::Mismatch => PairFile::PrivateKey,
        }
    }

    /// How to mend it, as an order.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Pem { .. } => "copy the file again from where it was issued",
            Self::NoCertificate => "give a PEM file with `-----BEGIN CERTIFICATE-----`, the server's own one first",
            Self::CertificateForKey | Self::KeyForCertificate => "swap what certificate and private_key name",
            Self::NoKey => "give a PEM file with `-----BEGIN PRIVATE KEY-----`",
            Self::ManyKeys(_) => "keep only the key of this certificate in the file",
            Self::EncryptedKey => {
                "store it without a passphrase, readable by the gateway's user only: openssl pkey -in KEY -out KEY.plain"
            }
            Self::UnusableKey => "use an ECDSA P-256 or P-384 key, RSA of 2048 bits or more, or Ed25519",
            Self::Certificate { .. } => "copy the certificate again from where it was issued",
            Self::WrongOrder(_) => "put the server's own certificate first, then each one's issuer",
            Self::Mismatch => "give the key that the certificate was requested with",
        }
    }
}

/// A pair that works, but that clients will refuse. Not an error: a wrong clock must not keep the gateway down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairWarning {
    /// Validity has ended.
    #[error("the certificate expired at {0}: renew it")]
    Expired(UnixTime),
    /// Validity has not begun.
    #[error("the certificate is not valid before {0}: check this machine's clock")]
    NotYetValid(UnixTime),
    /// It names no host at all, so no client can match it.
    #[error("the certificate has no subjectAltName: clients will refuse it")]
    NoNames,
}

impl Pair {
    /// Reads a chain and a key from the bytes of their PEM files. One file may hold both and be given twice.
    pub fn from_pem(certificate: &[u8], private_key: &[u8]) -> Result<Self, PairError> {
        let chain = read_chain(certificate)?;
        let key = read_key(private_key)?;
        let facts = chain
            .iter()
            .enumerate()
            .map(|(at, der)| {
                x509::read(der).map_err(|problem| PairError::Certificate { position: at + 1, problem })
            })
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .next()
            .ok_or(PairError::NoCertificate)?;
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key);
        let certified = matched(chain, key.map_err(|_| PairError::UnusableKey)?)?;
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// The names and addresses in the server certificate's `subjectAltName`, lower case.
    pub fn names(&self) -> &[String] {
        &self.facts.names
    }

    /// First and last moment of the server certificate's validity.
    pub fn validity(&self) -> (UnixTime, UnixTime) {
        (self.facts.not_before, self.facts.not_after)
    }

    /// Whether a client that connects to `host` will find that name in the certificate (RFC 9525 section 6.3:
    /// a wildcard stands for one whole label).
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let wild = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.facts.names.iter().any(|name| *name == host || Some(name) == wild.as_ref())
    }

    /// What a client would hold against this certificate at the moment `now`.
    pub fn warning(&self, now: UnixTime) -> Option<PairWarning> {
        if now > self.facts.not_after {
            return Some(PairWarning::Expired(self.facts.not_after));
        }
        if now < self.facts.not_before {
            return Some(PairWarning::NotYetValid(self.facts.not_before));
        }
        self.facts.names.is_empty().then_some(PairWarning::NoNames)
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let blocks = blocks(pem, PairFile::Certificate)?;
    let has_key = blocks.iter().any(|(kind, _)| is_key(*kind)) || is_encrypted(pem);
    let chain: Vec<_> = blocks
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    match (chain.is_empty(), has_key) {
        (true, true) => Err(PairError::KeyForCertificate),
        (true, false) => Err(PairError::NoCertificate),
        _ => Ok(chain),
    }
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PairError> {
    if is_encrypted(pem) {
        return Err(PairError::EncryptedKey);
    }
    let blocks = blocks(pem, PairFile::PrivateKey)?;
    let has_certificate = blocks.iter().any(|(kind, _)| *kind == SectionKind::Certificate);
    let keys: Vec<_> = blocks.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der)).collect();
    let count = keys.len();
    match (keys.into_iter().next(), count, has_certificate) {
        (Some(key), 1, _) => Ok(key),
        (Some(_), _, _) => Err(PairError::ManyKeys(count)),
        (None, _, true) => Err(PairError::CertificateForKey),
        (None, _, false) => Err(PairError::NoKey),
    }
}

/// Checks that the key signs for the first certificate; finds the one it does fit, for the message.
fn matched(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Result<CertifiedKey, PairError> {
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], key.clone()).keys_match().is_ok()
    };
    match chain.iter().position(fits) {
        Some(0) => Ok(CertifiedKey::new(chain, key)),
        Some(at) => Err(PairError::WrongOrder(at + 1)),
        None => Err(PairError::Mismatch),
    }
}

fn blocks(pem: &[u8], file: PairFile) -> Result<Vec<(SectionKind, Vec<u8>)>, PairError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .enumerate()
        .map(|(at, block)| {
            block.map_err(|error| PairError::Pem { file, block: at + 1, problem: error.to_string() })
        })
        .collect()
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

/// PKCS #8 with a passphrase (RFC 7468 section 11), or the older header that OpenSSL wrote (RFC 1421 section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |mark: &[u8]| memchr::memmem::find(pem, mark).is_some();
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn make(names: &[&str]) -> (String, String) {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn each_wrong_file_is_named_for_what_it_is() {
        let (cert, key) = make(&["mail.example.com"]);
        let (other_cert, other_key) = make(&["other.example.com"]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let short = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let rubbish_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let both_keys = format!("{key}{other_key}");
        let wrong_order = format!("{other_cert}{cert}");
        let second_bad = format!("{cert}{short}");
        let frame = Malformed("body");
        let cases: [(&str, &str, &str, PairError); 13] = [
            ("empty certificate file", "", &key, PairError::NoCertificate),
            ("text instead of a certificate", "hello", &key, PairError::NoCertificate),
            ("empty key file", &cert, "", PairError::NoKey),
            ("files swapped", &key, &cert, PairError::KeyForCertificate),
            ("certificate given twice", &cert, &cert, PairError::CertificateForKey),
            ("key encrypted", &cert, encrypted, PairError::EncryptedKey),
            ("key encrypted in the old way", &cert, old_encrypted, PairError::EncryptedKey),
            ("two keys", &cert, &both_keys, PairError::ManyKeys(2)),
            ("rubbish in a key block", &cert, rubbish_key, PairError::UnusableKey),
            ("issuer first", &wrong_order, &key, PairError::WrongOrder(2)),
            ("another key", &cert, &other_key, PairError::Mismatch),
            ("rubbish in a certificate", short, &key, PairError::Certificate { position: 1, problem: frame }),
            ("rubbish below", &second_bad, &key, PairError::Certificate { position: 2, problem: frame }),
        ];
        for (name, certificate, private_key, expected) in cases {
            let error = Pair::from_pem(certificate.as_bytes(), private_key.as_bytes()).unwrap_err();
            assert_eq!(error, expected, "{name}");
            assert!(!error.remedy().is_empty(), "{name}");
        }
        let damaged = cert.replacen("-----END", "-----ENX", 1);
        let error = Pair::from_pem(damaged.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(error, PairError::Pem { file: PairFile::Certificate, block: 1, .. }), "{error:?}");
    }

    #[test]
    fn one_file_may_hold_both() {
        let (cert, key) = make(&["mail.example.com"]);
        let both = format!("{key}{cert}");
        assert!(Pair::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
    }

    #[test]
    fn a_wildcard_covers_one_label_and_an_address_itself() {
        let (cert, key) = make(&["mail.example.com", "*.example.org", "127.0.0.1"]);
        let pair = Pair::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        for (host, expected) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("imap.example.org", true),
            ("a.imap.example.org", false),
            ("example.org", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("", false),
        ] {
            assert_eq!(pair.covers(host), expected, "{host}");
        }
    }

    #[test]
    fn a_certificate_out_of_its_time_is_a_warning_not_an_error() {
        let mut params = rcgen::CertificateParams::new(vec!["mail.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        let pair = Pair::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (from, to) = pair.validity();
        assert_eq!(pair.warning(from), None);
        assert_eq!(pair.warning(to), None);
        assert_eq!(pair.warning(UnixTime(from.0 - 1)), Some(PairWarning::NotYetValid(from)));
        assert_eq!(pair.warning(UnixTime(to.0 + 1)), Some(PairWarning::Expired(to)));
        let (cert, key) = make(&[]);
        let nameless = Pair::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(nameless.warning(from), Some(PairWarning::NoNames));
    }

    proptest! {
        #[test]
        fn any_two_files_give_an_answer(cert in "\\PC{0,200}", key in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Pair::from_pem(cert.as_bytes(), &key).is_err());
        }
    }
}
