//! Promises about the way to a server, kept on real sockets: who is connected to, in which order, for how long it is tried,
//! and what is said when it fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{breaker::Stage, *};
use crate::metrics::{Metrics, UpstreamFailure};
use crate::model::{Blame, Secret, Service, UserId};
use crate::tls::{self, Pair};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority of a test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn roots(&self) -> RootCertStore {
        tls::roots(self.pem.as_bytes()).unwrap()
    }

    fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A server for this name; with `asks` one that wants a certificate of this authority.
    fn acceptor(&self, name: &str, asks: bool) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let builder =
            ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let builder = if asks {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, tls::provider()).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    (listener, address)
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn settings(imap: &[Address]) -> Settings {
    let mut settings = Settings::new("dovecot", LoginBy::Token { mechanism: None });
    settings.imap = imap.to_vec();
    settings.tls = None;
    settings.health = None;
    settings.connect = PATIENCE;
    settings
}

fn trusting(authority: &Authority, name: &str, imap: &[Address]) -> Settings {
    let name = Some(ServerName::try_from(name.to_owned()).unwrap());
    Settings { tls: Some(Trust { roots: Some(authority.roots()), name, certificate: None }), ..settings(imap) }
}

fn made(settings: &Settings) -> (Arc<Upstreams>, Arc<Upstream>) {
    let upstreams = Upstreams::new(std::slice::from_ref(settings), EMBEDDED, &Metrics::new()).unwrap();
    let upstream = Arc::clone(upstreams.find(Some("dovecot")).unwrap().unwrap());
    (upstreams, upstream)
}

fn ann() -> UserId {
    UserId::parse("ann@example.com").unwrap()
}

fn ends() -> Ends {
    Ends { peer: "192.0.2.1:56324".parse().unwrap(), ours: "192.0.2.2:993".parse().unwrap() }
}

/// To the server of first choice.
async fn connect(upstream: &Upstream) -> Result<Connected, UpstreamError> {
    let candidates = upstream.candidates(Service::Imap, &ann(), None)?;
    upstream.connect(&candidates[0], &ann(), ends()).await
}

async fn error(upstream: &Upstream) -> UpstreamError {
    connect(upstream).await.map(|_| ()).unwrap_err()
}

fn hosts(servers: &[Arc<Server>]) -> Vec<&str> {
    servers.iter().map(|server| &**server.address().host()).collect()
}

fn order(upstream: &Upstream) -> Vec<String> {
    let servers = upstream.candidates(Service::Imap, &ann(), None).unwrap();
    hosts(&servers).into_iter().map(str::to_owned).collect()
}

fn three() -> Settings {
    Settings { tls: Some(Trust::default()), ..settings(&["a:993", "b:993", "c:993"].map(address)) }
}

/// Three servers that nobody will connect to, without the system's authorities.
fn apart() -> (Arc<Upstreams>, Arc<Upstream>) {
    let authority = Authority::new();
    let trust = Trust { roots: Some(authority.roots()), ..Trust::default() };
    made(&Settings { tls: Some(trust), ..three() })
}

fn server(upstream: &Upstream, host: &str) -> Arc<Server> {
    upstream.candidates(Service::Imap, &ann(), Some(host)).unwrap().remove(0)
}

fn fail(server: &Arc<Server>, times: usize) {
    for _ in 0..times {
        let mut lease = server.lease().map_err(|error| error.to_string()).unwrap_or_else(|error| panic!("{error}"));
        lease.failed(Stage::Greeting, UpstreamFailure::Greeting, &"it said nothing");
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_what_is_open_is_counted_until_it_is_dropped() {
    let (listener, there) = listen().await;
    let (upstreams, upstream) = made(&settings(std::slice::from_ref(&there)));
    let mut connected = connect(&upstream).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    far.write_all(b"* OK hello\r\n").await.unwrap();
    let mut greeting = [0; 12];
    connected.stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"* OK hello\r\n");
    connected.stream.write_all(b"a LOGOUT\r\n").await.unwrap();
    connected.stream.shutdown().await.unwrap();
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "a LOGOUT\r\n");
    assert!(connected.stream.socket().nodelay().unwrap());
    assert_eq!(connected.lease.server().address(), &there);
    assert_eq!((upstreams.report()[0].open, upstream.sticky.len()), (1, 1));
    assert!(size_of::<Connected>() <= 80, "an idle session holds one: {}", size_of::<Connected>());
    drop(connected);
    assert_eq!((upstreams.report()[0].open, upstream.sticky.len()), (0, 0));
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_name_and_the_next_handshake_is_short() {
    let authority = Authority::new();
    let (listener, there) = listen().await;
    let acceptor = authority.acceptor("mail.internal", false);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let _ = tls.write_all(b"* OK\r\n").await;
                let _ = tls.read(&mut [0; 1]).await;
            }
        }
    });
    let there = std::slice::from_ref(&there);
    let (upstreams, upstream) = made(&trusting(&authority, "mail.internal", there));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut connected = connect(&upstream).await.unwrap();
        connected.stream.read_exact(&mut [0; 6]).await.unwrap();
        let Stream::Tls(tls) = &connected.stream else { panic!("no TLS") };
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(expected));
    }
    let other = Authority::new();
    for (name, untrue) in [
        ("another name", trusting(&authority, "other.internal", there)),
        ("another authority", trusting(&other, "mail.internal", there)),
    ] {
        let error = error(&made(&untrue).1).await;
        assert!(matches!(error, UpstreamError::Certificate { .. }), "{name}: {error}");
        assert_eq!((error.failure(), error.blame()), (Some(UpstreamFailure::Certificate), Blame::Dependency));
        let text = error.to_string();
        let start = format!("{} of upstream dovecot has a certificate that is not believed: ", there[0]);
        assert!(text.starts_with(&start), "{text}");
    }
    // What the files hold later counts for connections from then on.
    let mut later = trusting(&other, "mail.internal", there);
    later.login = LoginBy::Master { user: "gate".into(), secret: Secret::new("hush"), form: None };
    upstreams.renew(&[later]).unwrap();
    assert!(matches!(error(&upstream).await, UpstreamError::Certificate { .. }));
    assert!(matches!(&*upstream.login(), LoginBy::Master { user, .. } if user == "gate"));
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let (certificate, key) = authority.pair("gate.example.com");
    let acceptor = authority.acceptor("mail.internal", true);
    for (own, expected) in [(true, 1), (false, 0)] {
        let (listener, there) = listen().await;
        let mut settings = trusting(&authority, "mail.internal", &[there]);
        if let (true, Some(trust)) = (own, &mut settings.tls) {
            trust.certificate = Some(Pair::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap());
        }
        let acceptor = acceptor.clone();
        let far = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            acceptor.accept(tcp).await.map_or(0, |tls| tls.get_ref().1.peer_certificates().unwrap().len())
        });
        let (_, upstream) = made(&settings);
        let connected = connect(&upstream).await;
        assert_eq!(far.await.unwrap(), expected, "with our own: {own}");
        drop(connected);
    }
}

#[tokio::test]
async fn the_proxy_header_goes_ahead_of_everything() {
    let header = proxy_header(Some(ends()));
    let authority = Authority::new();
    let (listener, there) = listen().await;
    let plain = Settings { proxy_protocol: true, ..settings(std::slice::from_ref(&there)) };
    let mut connected = connect(&made(&plain).1).await.unwrap();
    connected.stream.write_all(b"a").await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let mut seen = vec![0; header.len() + 1];
    far.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, [&header[..], b"a"].concat());

    let secured = Settings { proxy_protocol: true, ..trusting(&authority, "mail.internal", &[there]) };
    let acceptor = authority.acceptor("mail.internal", false);
    let length = header.len();
    let far = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; length];
        tcp.read_exact(&mut seen).await.unwrap();
        (seen, acceptor.accept(tcp).await.is_ok())
    });
    assert!(connect(&made(&secured).1).await.is_ok());
    assert_eq!(far.await.unwrap(), (header, true));
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    let (listener, there) = listen().await;
    drop(listener);
    let refused = error(&made(&settings(std::slice::from_ref(&there))).1).await;
    assert!(matches!(refused, UpstreamError::Refused { .. }), "{refused}");
    assert_eq!(refused.to_string(), format!("{there} of upstream dovecot refuses connections"));

    // The system takes the connection, and nobody ever says a word.
    let (hanging, there) = listen().await;
    let authority = Authority::new();
    let mut settings = trusting(&authority, "mail.internal", &[there]);
    settings.connect = Duration::from_millis(100);
    let begun = Instant::now();
    let silent = error(&made(&settings).1).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(silent, UpstreamError::TimedOut { step: "the TLS handshake", .. }), "{silent}");
    assert!(silent.to_string().ends_with("did not answer within 0.1 s (the TLS handshake)"), "{silent}");
    drop(hanging);

    let (listener, there) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.write_all(b"* OK this is no TLS\r\n").await;
            let _ = tcp.read(&mut [0; 1]).await;
        }
    });
    let plain = error(&made(&trusting(&authority, "mail.internal", &[there])).1).await;
    assert!(matches!(plain, UpstreamError::Tls { .. }), "{plain}");
    assert_eq!(plain.failure(), Some(UpstreamFailure::Tls));

    let (upstreams, upstream) = apart();
    let no_pop = upstream.candidates(Service::Pop, &ann(), None).map(|_| ()).unwrap_err();
    assert!(matches!(no_pop, UpstreamError::NoServer { .. }) && no_pop.blame() == Blame::Us, "{no_pop}");
    let no_host = upstream.candidates(Service::Imap, &ann(), Some("d")).map(|_| ()).unwrap_err();
    assert!(matches!(no_host, UpstreamError::NoHost { .. }) && no_host.blame() == Blame::Us, "{no_host}");
    let unknown = upstreams.find(Some("cyrus")).map(|_| ()).unwrap_err();
    assert!(matches!(unknown, UpstreamError::Unknown { .. }) && unknown.blame() == Blame::Us, "{unknown}");
}

#[tokio::test]
async fn a_names_addresses_are_remembered_for_as_long_as_they_answer() {
    let (listener, there) = listen().await;
    let named = address(&format!("localhost:{}", there.port()));
    let (_, upstream) = made(&settings(&[named]));
    let known = || {
        let server = &upstream.servers_for(Service::Imap)[0];
        let known = server.known();
        known.as_ref().map(|known| (known.asked, known.addresses.to_vec()))
    };
    let connected = connect(&upstream).await.unwrap();
    let (asked, addresses) = known().unwrap();
    assert!(addresses.contains(&listener.local_addr().unwrap()), "{addresses:?}");
    assert!(addresses.iter().all(|address| address.ip().is_loopback()), "without TLS only this machine");
    drop((connected, connect(&upstream).await.unwrap()));
    assert_eq!(known(), Some((asked, addresses)), "not asked again");
    drop(listener);
    assert!(matches!(error(&upstream).await, UpstreamError::Refused { .. }));
    assert_eq!(known(), None, "asked again, once they no longer answer");
}

#[tokio::test]
async fn what_policy_says_counts_and_else_the_default() {
    let own = [settings(&[]), Settings { name: "cyrus".into(), ..settings(&[]) }];
    let found = |default: &str, mail: Option<&str>| {
        let upstreams = Upstreams::new(&own, default, &Metrics::new()).unwrap();
        upstreams.find(mail).unwrap().map(|upstream| upstream.name().to_owned())
    };
    for (default, mail, expected) in [
        ("maildir", None, None),
        ("maildir", Some("cyrus"), Some("cyrus")),
        ("cyrus", None, Some("cyrus")),
        ("cyrus", Some("dovecot"), Some("dovecot")),
        ("cyrus", Some("maildir"), None),
    ] {
        assert_eq!(found(default, mail).as_deref(), expected, "{default} {mail:?}");
    }
}

#[tokio::test]
async fn a_server_is_given_no_more_connections_than_its_bound() {
    let (listener, there) = listen().await;
    let (upstreams, upstream) = made(&Settings { connections: 2, ..settings(&[there]) });
    let first = connect(&upstream).await.unwrap();
    let second = connect(&upstream).await.unwrap();
    let full = error(&upstream).await;
    assert!(matches!(full, UpstreamError::Full { limit: 2, .. }) && full.failure().is_none(), "{full}");
    assert!(upstreams.report()[0].up, "a server that is full has not failed");
    drop(first);
    let third = connect(&upstream).await.unwrap();
    assert_eq!(upstreams.report()[0].open, 2);
    drop((second, third, listener));
}

#[tokio::test]
async fn an_owner_stays_where_sessions_are_and_goes_on_where_that_server_is_down() {
    let (_, upstream) = apart();
    let usual = order(&upstream);
    let (first, second, third) = (usual[0].as_str(), usual[1].as_str(), usual[2].as_str());
    assert_eq!(order(&upstream), usual, "the same each time");
    // The first is down, so that a session is opened at the second; then the first is back.
    fail(&server(&upstream, first), 3);
    assert_eq!(order(&upstream), [second, third]);
    let mut lease = server(&upstream, second).lease().map_err(|error| error.to_string()).unwrap();
    lease.keep(&upstream.sticky, &ann());
    upstream.servers_for(Service::Imap).iter().for_each(|server| server.succeeded(Stage::SignIn));
    assert_eq!(order(&upstream), [second, first, third], "where the session is");
    let bob = UserId::parse("bob@example.com").unwrap();
    let others = upstream.candidates(Service::Imap, &bob, None).unwrap();
    assert_eq!((others.len(), upstream.sticky.len()), (3, 1), "another's session moves nobody");
    fail(&server(&upstream, second), 3);
    assert_eq!(order(&upstream), [first, third], "a server that is down keeps nobody");
    upstream.servers_for(Service::Imap).iter().for_each(|server| server.succeeded(Stage::SignIn));
    drop(lease);
    assert_eq!((order(&upstream), upstream.sticky.len()), (usual.clone(), 0), "nothing is kept of who has left");
    assert_eq!(hosts(&upstream.candidates(Service::Imap, &ann(), Some("B")).unwrap()), ["b"], "a pin is that host");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_failed_is_tried_again_by_one_after_a_pause() {
    for looked_at in [false, true] {
        let authority = Authority::new();
        let trust = Trust { roots: Some(authority.roots()), ..Trust::default() };
        let health = looked_at.then_some(Duration::from_secs(10));
        let (upstreams, upstream) = made(&Settings { tls: Some(trust), health, ..three() });
        let usual = order(&upstream);
        let first = server(&upstream, &usual[0]);
        fail(&first, 2);
        assert_eq!(order(&upstream), usual, "twice is not enough");
        fail(&first, 1);
        assert_eq!(order(&upstream), usual[1..]);
        assert!(first.lease().is_err_and(|error| matches!(error, UpstreamError::Resting { .. })));
        let standing = upstreams.report().into_iter().find(|standing| !standing.up).unwrap();
        assert_eq!(standing.cause.as_deref(), Some("it said nothing"));
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut expected = usual.clone();
        if looked_at {
            expected.rotate_left(1);
        }
        assert_eq!(order(&upstream), expected, "last where somebody looks at the servers, else in its place");
        let trial = first.lease().map_err(|error| error.to_string()).unwrap();
        assert_eq!(order(&upstream), usual[1..], "one tries");
        drop(trial);
        assert_eq!(order(&upstream), expected, "whoever gave up leaves the trial to the next");
        fail(&first, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(order(&upstream), usual[1..], "the second pause is longer");
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut trial = first.lease().map_err(|error| error.to_string()).unwrap();
        trial.succeeded();
        assert_eq!(order(&upstream), usual);
        for host in &usual {
            fail(&server(&upstream, host), 3);
        }
        let down = upstream.candidates(Service::Imap, &ann(), None).map(|_| ()).unwrap_err();
        assert_eq!(down.to_string(), "upstream dovecot has no IMAP server that answers: it said nothing");
    }
}

#[tokio::test]
async fn a_server_where_nobody_can_sign_in_is_not_used_again_because_it_greets() {
    let (listener, there) = listen().await;
    let (_say, says) = watch::channel("* OK ready\r\n");
    tokio::spawn(greeter(listener, says));
    let own = Settings { health: Some(Duration::from_millis(5)), ..settings(&[there]) };
    let metrics = Metrics::new();
    let upstreams = Upstreams::new(&[own], "dovecot", &metrics).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&upstreams).run(stop.clone()));
    let upstream = Arc::clone(upstreams.find(None).unwrap().unwrap());
    let only = server(&upstream, "127.0.0.1");
    for _ in 0..3 {
        only.lease().map_err(|error| error.to_string()).unwrap().failed(
            Stage::SignIn,
            UpstreamFailure::Timeout,
            &"late",
        );
        // Some looks, all of them good.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let standing = upstreams.report().remove(0);
    assert_eq!((standing.up, standing.cause.as_deref()), (false, Some("late")));
    assert!(upstreams.obstacles().is_empty(), "a node where nobody tries would never be ready again");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!upstreams.report().remove(0).up, "a look is no sign-in");
    let mut trial = server(&upstream, "127.0.0.1").lease().map_err(|error| error.to_string()).unwrap();
    trial.succeeded();
    let standing = upstreams.report().remove(0);
    assert_eq!((standing.up, standing.cause), (true, None));
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

/// A server whose greeting is whatever `says` holds.
async fn greeter(listener: TcpListener, says: watch::Receiver<&'static str>) {
    while let Ok((mut tcp, _)) = listener.accept().await {
        let says = *says.borrow();
        let _ = tcp.write_all(says.as_bytes()).await;
        tokio::spawn(async move { tcp.read(&mut [0; 64]).await });
    }
}

async fn until(upstreams: &Upstreams, up: bool) -> Standing {
    let waited = timeout(PATIENCE, async {
        loop {
            let standing = upstreams.report().remove(0);
            if standing.up == up {
                return standing;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never up = {up}: {:?}", upstreams.report()))
}

#[tokio::test]
async fn looks_find_a_server_down_and_well_again_and_hold_up_nobody() {
    let (listener, there) = listen().await;
    let (say, says) = watch::channel("* OK ready\r\n");
    tokio::spawn(greeter(listener, says));
    let health = Some(Duration::from_millis(10));
    let own = Settings { health, connections: 1, proxy_protocol: true, ..settings(&[there]) };
    let upstreams = Upstreams::new(&[own], "dovecot", &Metrics::new()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&upstreams).run(stop.clone()));
    assert!(until(&upstreams, true).await.cause.is_none());
    assert!(upstreams.obstacles().is_empty());
    say.send("* BYE overloaded\r\n").unwrap();
    let standing = until(&upstreams, false).await;
    let cause = standing.cause.unwrap();
    assert!(cause.ends_with("does not greet as a server for IMAP: \"* BYE overloaded\""), "{cause}");
    assert_eq!(upstreams.obstacles(), ["no server that mail is on answers for IMAP"]);
    say.send("* OK ready\r\n").unwrap();
    let standing = until(&upstreams, true).await;
    assert_eq!((standing.open, standing.cause), (0, None), "looks do not count as connections");
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_look_at_a_server_that_wants_the_proxy_header_is_a_connection_of_our_own() {
    let (listener, there) = listen().await;
    let health = Some(Duration::from_secs(600));
    let (upstreams, _) = made(&Settings { health, proxy_protocol: true, ..settings(&[there]) });
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&upstreams).run(stop.clone()));
    let (mut tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    tcp.write_all(b"* OK ready\r\n").await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, read_line(&mut tcp, &mut all)).await.unwrap();
    assert_eq!(all, [&proxy_header(None)[..], b"a LOGOUT\r\n"].concat());
    stop.cancel();
    drop(tcp);
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

/// Reads up to the end of LOGOUT.
async fn read_line(tcp: &mut TcpStream, all: &mut Vec<u8>) {
    while !all.ends_with(b"LOGOUT\r\n") {
        assert!(tcp.read_buf(all).await.unwrap() > 0, "{all:?}");
    }
}
