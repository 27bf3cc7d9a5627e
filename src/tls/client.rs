//! The `rustls` settings of our own connections to mail servers, and the authorities that these are checked against.
//! Called by `config`, which reads the files, and `upstream`.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
    sign::SingleCertAndKey,
};

use super::{
    Pair, SetupError,
    server::{SUITES, VERSIONS},
};

/// Why a file of authorities cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// No `CERTIFICATE` block.
    #[error("it holds no certificate")]
    Empty,
    /// A block that cannot be read.
    #[error("certificate {position} of it cannot be used: {problem}")]
    Certificate {
        /// Which certificate of the file, counted from 1.
        position: usize,
        /// What the reader found.
        problem: String,
    },
}

/// The authorities in the bytes of a PEM file; keys and other blocks beside them are passed over.
///
/// # Errors
/// One certificate that cannot be used is an error, not skipped: which one it was would show at the first sign-in.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    for (at, found) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let wrong = |problem| RootsError::Certificate { position: at + 1, problem };
        let certificate = found.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(RootsError::Empty) } else { Ok(roots) }
}

/// The cryptography of our own connections: the same versions and suites, in the same order, as for those we accept.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() })
}

/// Settings for a connection whose server `verifier` checks; with `own` a server that asks is shown that certificate.
///
/// There is no ALPN: some servers of today end the handshake when they are asked for a name they do not know.
///
/// # Errors
/// The crypto library refused.
pub fn client(verifier: Arc<dyn ServerCertVerifier>, own: Option<&Pair>) -> Result<ClientConfig, SetupError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS)?;
    // The word is rustls' own: what is given here checks the certificate's chain and its name.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(match own {
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.certified))))
        }
        None => builder.with_no_client_auth(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn authorities_are_read_all_or_none() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (one, other) = (made("a.example.com"), made("b.example.com"));
        let two = format!("{}{}{}", one.cert.pem(), one.signing_key.serialize_pem(), other.cert.pem());
        assert_eq!(roots(two.as_bytes()).unwrap().len(), 2, "a key beside them is passed over");
        assert_eq!(roots(b"").unwrap_err(), RootsError::Empty);
        assert_eq!(roots(one.signing_key.serialize_pem().as_bytes()).unwrap_err(), RootsError::Empty);
        let damaged = format!("{}-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", one.cert.pem());
        let told = roots(damaged.as_bytes()).unwrap_err().to_string();
        assert!(told.starts_with("certificate 2 of it cannot be used: "), "{told}");
    }
}
