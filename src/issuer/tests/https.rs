//! Issuers with a certificate from a private authority.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A JWK Set over TLS on loopback, and the authority's certificate in PEM.
async fn start(body: String) -> (String, String) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Authority::from_params(&params, &ca_key)).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}/jwks", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, ca.pem())
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_the_settings_name_it() {
    let key = key();
    let (url, pem) = start(jwks(&[&key])).await;
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let issuers = |ca_file: Option<std::path::PathBuf>| {
        let rules = Rules::new("https://id.example.com", ["portcullis"]);
        let settings = Settings { ca_file, ..Settings::new(rules, Some(KeySource::Url(url.clone()))) };
        Issuers::with_limits(vec![settings], Limits::default(), NOW)
    };
    assert_eq!(issuers(Some(file.clone())).unwrap().refresh(NOW).await, 0);
    assert_eq!(issuers(None).unwrap().refresh(NOW).await, 1);
    for broken in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, broken).unwrap();
        let error = issuers(Some(file.clone())).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|text| text.contains("ca.pem")), "{broken:?}: {error:?}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(issuers(Some(file)), Err(IssuerError::CaFile { .. })));
}
