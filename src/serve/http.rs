//! The HTTP listeners: accept, TLS where it belongs, then the API's router. Nothing here knows a path.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Extension};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admin::Peer;

/// Streams of one HTTP/2 connection that may be open at the same time.
const STREAMS: u32 = 64;
/// Pause after the system refused to accept (too many open files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One address of `listen.http`.
pub(super) struct Web {
    /// Absent on loopback, unless `http.tls` asks for it.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) router: Router,
    /// Open connections, over all addresses.
    pub(super) connections: Arc<Semaphore>,
    pub(super) handshake_limit: Duration,
    /// For the head of a request, and between two requests.
    pub(super) idle_limit: Duration,
}

impl Web {
    /// Serves until `closed`; then takes nothing new and lets requests under way finish.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, closed: CancellationToken) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = closed.cancelled() => break,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, from, place)) => {
                    let watcher = graceful.watcher();
                    let web = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _place = place;
                        web.connection(stream, from, watcher).await;
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        graceful.shutdown().await;
    }

    /// The next connection, once there is room for one. Cancel-safe.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, from) = listener.accept().await?;
        Ok((stream, from, place))
    }

    async fn connection(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let Ok(at) = stream.local_addr() else { return };
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = Peer { from: canonical(from), at: canonical(at), tls: self.tls.is_some() };
        let Some(tls) = &self.tls else { return self.requests(stream, peer, false, watcher).await };
        match timeout(self.handshake_limit, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await {
            Ok(Ok(stream)) => {
                let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.requests(stream, peer, two, watcher).await;
            }
            Ok(Err(error)) => debug!(%from, %error, "TLS handshake failed"),
            Err(_) => debug!(%from, "TLS handshake took too long"),
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: Peer,
        two: bool,
        watcher: hyper_util::server::graceful::Watcher,
    ) {
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(peer)));
        // The version is known from ALPN. To find it out from the first bytes knows no time limit.
        let server = auto::Builder::new(TokioExecutor::new());
        let mut server = if two { server.http2_only() } else { server.http1_only() };
        server.http1().timer(TokioTimer::new()).header_read_timeout(self.idle_limit);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(self.idle_limit)
            .keep_alive_timeout(self.idle_limit);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            debug!(from = %peer.from, %error, "HTTP connection ended");
        }
    }
}
