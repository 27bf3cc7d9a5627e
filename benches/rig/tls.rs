//! TLS on both sides of a measurement: one certificate, a mail program's settings, and a server that does nothing
//! but handshakes.

use std::{fs, io::Read, path::Path, sync::Arc};

use anyhow::Context;
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Makes a self-signed certificate for `localhost` (ECDSA on P-256) and its key: `server.pem` and `server.key`.
pub fn make_certificate(dir: &Path) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(dir.join("server.pem"), made.cert.pem())?;
    fs::write(dir.join("server.key"), made.signing_key.serialize_pem())?;
    Ok(())
}

/// What a mail program of today offers: TLS 1.3 first, X25519MLKEM768 first. Without `tickets` each handshake is a
/// full one.
pub fn connector(dir: &Path, tickets: bool) -> anyhow::Result<TlsConnector> {
    let mut settings = settings(dir, aws_lc_rs::default_provider())?;
    if !tickets {
        settings.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(settings)))
}

/// The same, AES-128 with SHA-256 first: servers that go by the client's order and the gateway then take the same cipher.
pub fn even(dir: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Ok(Arc::new(settings(dir, provider)?))
}

/// The same for servers that know no post-quantum key exchange: X25519 first, so that all take it too, unless
/// `post_quantum` says that it may differ. Each handshake is a full one.
pub fn alike(dir: &Path, post_quantum: bool) -> anyhow::Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    if !post_quantum {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    }
    let mut settings = settings(dir, provider)?;
    settings.resumption = Resumption::disabled();
    Ok(Arc::new(settings))
}

fn settings(dir: &Path, provider: CryptoProvider) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("server.pem"))?)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The other side of the comparison, in a process of its own: accepts, handshakes, says goodbye to TLS, closes. The
/// code is what tokio-rustls shows in its own example, the settings are the library's own but for the tickets, which
/// are given as the gateway gives them (`src/tls/server.rs`). With `aes128` it also takes AES-128 with SHA-256 whatever the
/// client puts first, as the gateway does.
/// Runs until standard input ends.
pub fn bare(dir: &Path, aes128: bool) -> anyhow::Result<()> {
    let chain = vec![CertificateDer::from_pem_file(dir.join("server.pem"))?];
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key"))?;
    let mut provider = aws_lc_rs::default_provider();
    if aes128 {
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
    let mut settings = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    settings.ignore_client_order = aes128;
    settings.ticketer = aws_lc_rs::Ticketer::new()?;
    settings.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    settings.send_tls13_tickets = 1;
    let acceptor = TlsAcceptor::from(Arc::new(settings));

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening bare {}", listener.local_addr()?);
        println!("ready");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if stream.set_nodelay(true).is_ok()
                        && let Ok(mut stream) = acceptor.accept(stream).await
                    {
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await.context("waiting for the end of standard input")??;
        Ok(())
    })
}
