//! The `rustls` settings of our listeners: which versions, key exchanges, tickets and ALPN. Called by `serve`, whose
//! handshake goes `LazyConfigAcceptor` -> [`Acceptance::answer`] -> `into_stream`.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs, aws_lc_rs::cipher_suite},
    server::{ClientHello, ProducesTickets},
    version::{TLS12, TLS13},
};

use super::certificates::Resolver;
use crate::model::Service;

/// Newest first. Older ones are broken (RFC 8996), and `rustls` has none of them.
pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// In the order we prefer. SHA-256 has instructions of its own on processors of today and SHA-384 mostly has none: of the
/// key schedule's work in a handshake, AES-128 with SHA-256 leaves a fraction. Both are far beyond reach, so a client that
/// puts AES-256 first, as those built on OpenSSL do, is not followed in that.
pub(super) const SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// Tickets given to a TLS 1.3 client at the end of a handshake. Each ticket is good for one reconnect and each
/// reconnect brings a new one, so one is enough for a program that keeps one connection or five; the second that
/// `rustls` would send by default costs CPU and bytes in every handshake.
const TICKETS: usize = 1;

/// The settings could not be made: the crypto library refused.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct SetupError(#[from] rustls::Error);

/// Settings for HTTPS: HTTP/2 and HTTP/1.1 by ALPN. `resolver` may be the mail listeners' own.
pub fn web(resolver: &Arc<Resolver>) -> Result<Arc<ServerConfig>, SetupError> {
    let mut settings = settings(resolver, aws_lc_rs::Ticketer::new()?)?;
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(settings))
}

/// How one listener answers a ClientHello.
#[derive(Clone, Debug)]
pub struct Acceptance {
    alpn: &'static [u8],
    /// For clients that offer our protocol by ALPN: it is confirmed.
    named: Arc<ServerConfig>,
    /// For all others. `rustls` ends a handshake whose ALPN offers lack ours, but a program built on an HTTP library may
    /// offer `http/1.1` whatever it speaks; so these get an answer without ALPN.
    plain: Arc<ServerConfig>,
}

impl Acceptance {
    /// Settings for listeners of `service`. All of them may share one `resolver`, and one reload then serves all.
    pub fn new(service: Service, resolver: &Arc<Resolver>) -> Result<Self, SetupError> {
        let alpn = alpn(service);
        let plain = settings(resolver, aws_lc_rs::Ticketer::new()?)?;
        let mut named = plain.clone();
        named.alpn_protocols = vec![alpn.to_vec()];
        Ok(Self { alpn, named: Arc::new(named), plain: Arc::new(plain) })
    }

    /// The settings to go on with, for a client that greets with `hello`.
    pub fn answer(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let offers_ours = hello.alpn().is_some_and(|mut offers| offers.any(|offer| offer == self.alpn));
        if offers_ours { self.named.clone() } else { self.plain.clone() }
    }
}

/// The registered ALPN protocol ids (IANA, "TLS ALPN Protocol IDs"; RFC 2595 as their reference).
const fn alpn(service: Service) -> &'static [u8] {
    match service {
        Service::Imap => b"imap",
        Service::Pop => b"pop3",
    }
}

fn settings(resolver: &Arc<Resolver>, ticketer: Arc<dyn ProducesTickets>) -> Result<ServerConfig, SetupError> {
    // Named here, not taken from the process default: which library does the cryptography is not an accident.
    let provider = CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() };
    let mut settings = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(resolver.clone());
    settings.ignore_client_order = true;
    // Tickets live with the client: a reconnect skips the certificate's signature, and we keep no table of sessions.
    settings.ticketer = ticketer;
    settings.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    settings.send_tls13_tickets = TICKETS;
    // A replayed first flight could sign in twice (RFC 8446 section 8), so there is no early data.
    settings.max_early_data_size = 0;
    // Records stay at 16 KiB: the buffers for them exist only while bytes are under way, so smaller ones would cost
    // throughput and save nothing on an idle connection.
    settings.max_fragment_size = None;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
        ServerConnection, pki_types::CertificateDer, server::Acceptor,
    };

    use super::{
        super::{Certificates, Pair},
        *,
    };

    /// A certificate for `names` and the client settings that trust it.
    fn certificate(names: &[&str]) -> (Pair, CertificateDer<'static>) {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = made.signing_key.serialize_pem();
        (Pair::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).unwrap(), made.cert.der().clone())
    }

    fn client(versions: &[&'static SupportedProtocolVersion], roots: &[&CertificateDer<'static>]) -> ClientConfig {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add((*root).clone()).unwrap();
        }
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth()
    }

    fn resolver(pairs: Vec<Pair>) -> Arc<Resolver> {
        Resolver::new(Certificates::new(pairs).unwrap())
    }

    /// A whole handshake in memory, and one greeting read by the client.
    fn handshake(
        acceptance: &Acceptance,
        config: &Arc<ClientConfig>,
        host: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let name = host.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        let mut acceptor = Acceptor::default();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        acceptor.read_tls(&mut wire.as_slice()).unwrap();
        let accepted = acceptor.accept().map_err(|(e, _)| e)?.unwrap();
        let settings = acceptance.answer(&accepted.client_hello());
        let mut server = accepted.into_connection(settings).map_err(|(e, _)| e)?;
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut |to| server.write_tls(to), &mut |from| client.read_tls(from));
            client.process_new_packets()?;
            pass(&mut |to| client.write_tls(to), &mut |from| server.read_tls(from));
            server.process_new_packets()?;
        }
        server.writer().write_all(b"* OK").unwrap();
        pass(&mut |to| server.write_tls(to), &mut |from| client.read_tls(from));
        client.process_new_packets()?;
        let mut greeting = [0; 4];
        client.reader().read_exact(&mut greeting).unwrap();
        Ok((client, server))
    }

    type Moved = std::io::Result<usize>;

    fn pass(from: &mut dyn FnMut(&mut dyn Write) -> Moved, to: &mut dyn FnMut(&mut dyn Read) -> Moved) {
        let mut wire = Vec::new();
        while from(&mut wire).unwrap() > 0 {}
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            to(&mut rest).unwrap();
        }
    }

    #[test]
    fn tls_1_3_with_a_post_quantum_key_exchange_is_what_a_modern_client_gets() {
        let (pair, root) = certificate(&["mail.example.com"]);
        let acceptance = Acceptance::new(Service::Imap, &resolver(vec![pair])).unwrap();
        let (client, server) =
            handshake(&acceptance, &Arc::new(client(&VERSIONS, &[&root])), "mail.example.com").unwrap();
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn a_tls_1_2_client_is_served() {
        let (pair, root) = certificate(&["mail.example.com"]);
        let acceptance = Acceptance::new(Service::Pop, &resolver(vec![pair])).unwrap();
        let config = Arc::new(client(&[&TLS12], &[&root]));
        let (_, server) = handshake(&acceptance, &config, "mail.example.com").unwrap();
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    }

    #[test]
    fn the_suite_is_the_one_we_prefer_whatever_the_client_puts_first() {
        let (pair, root) = certificate(&["mail.example.com"]);
        let acceptance = Acceptance::new(Service::Imap, &resolver(vec![pair])).unwrap();
        for (version, expected) in [
            (&TLS13, cipher_suite::TLS13_AES_128_GCM_SHA256),
            (&TLS12, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ] {
            // A client of this library puts AES-256 first.
            let config = Arc::new(client(&[version], &[&root]));
            let (_, server) = handshake(&acceptance, &config, "mail.example.com").unwrap();
            assert_eq!(server.negotiated_cipher_suite(), Some(expected));
        }
    }

    #[test]
    fn whatever_alpn_a_client_offers_it_gets_in() {
        let (pair, root) = certificate(&["mail.example.com"]);
        let acceptance = Acceptance::new(Service::Imap, &resolver(vec![pair])).unwrap();
        type Case<'a> = (&'a str, &'a [&'a [u8]], Option<&'a [u8]>);
        let cases: [Case<'_>; 5] = [
            ("none", &[], None),
            ("ours", &[b"imap"], Some(b"imap")),
            ("ours among others", &[b"h2", b"imap"], Some(b"imap")),
            ("an HTTP library's", &[b"http/1.1"], None),
            ("the other mail protocol", &[b"pop3"], None),
        ];
        for (name, offers, expected) in cases {
            let mut config = client(&VERSIONS, &[&root]);
            config.alpn_protocols = offers.iter().map(|o| o.to_vec()).collect();
            let (client, _) = handshake(&acceptance, &Arc::new(config), "mail.example.com").unwrap();
            assert_eq!(client.alpn_protocol(), expected, "{name}");
        }
    }

    #[test]
    fn a_reconnect_resumes_and_brings_a_ticket_for_the_next_one() {
        let (pair, root) = certificate(&["mail.example.com"]);
        let acceptance = Acceptance::new(Service::Imap, &resolver(vec![pair])).unwrap();
        for versions in [&[&TLS13][..], &[&TLS12][..]] {
            let config = Arc::new(client(versions, &[&root]));
            let kinds = [0; 3]
                .map(|_| handshake(&acceptance, &config, "mail.example.com").unwrap().1.handshake_kind().unwrap());
            assert_eq!(
                kinds,
                [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed],
                "{versions:?}"
            );
        }
    }

    #[test]
    fn a_reload_changes_the_next_handshake_and_no_open_session() {
        let (old, old_root) = certificate(&["mail.example.com"]);
        let (new, new_root) = certificate(&["mail.example.com"]);
        let resolver = resolver(vec![old]);
        let acceptance = Acceptance::new(Service::Imap, &resolver).unwrap();
        let trusts_old = Arc::new(client(&VERSIONS, &[&old_root]));
        let (mut open, mut server) = handshake(&acceptance, &trusts_old, "mail.example.com").unwrap();
        resolver.replace(Certificates::new(vec![new]).unwrap());
        let trusts_new = Arc::new(client(&VERSIONS, &[&new_root]));
        handshake(&acceptance, &trusts_new, "mail.example.com").unwrap();
        let stranger = Arc::new(client(&VERSIONS, &[&old_root]));
        assert!(handshake(&acceptance, &stranger, "mail.example.com").is_err(), "the old one is no longer shown");
        server.writer().write_all(b"* 1 EXISTS").unwrap();
        pass(&mut |to| server.write_tls(to), &mut |from| open.read_tls(from));
        open.process_new_packets().unwrap();
        let mut line = [0; 10];
        open.reader().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"* 1 EXISTS");
    }

    #[test]
    fn several_certificates_are_told_apart_by_name() {
        let (first, first_root) = certificate(&["mail.example.com"]);
        let (second, second_root) = certificate(&["*.example.org"]);
        let acceptance = Acceptance::new(Service::Imap, &resolver(vec![first, second])).unwrap();
        for (root, host, expected) in [
            (&first_root, "mail.example.com", true),
            (&second_root, "imap.example.org", true),
            (&second_root, "mail.example.com", false),
            (&first_root, "imap.example.org", false),
        ] {
            let config = Arc::new(client(&VERSIONS, &[root]));
            assert_eq!(handshake(&acceptance, &config, host).is_ok(), expected, "{host}");
        }
    }
}
