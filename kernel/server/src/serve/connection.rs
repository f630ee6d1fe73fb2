//! One connection from its acceptance to its end: a first byte and a handshake in time, then requests that know their peer.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use kith_model::budget::table;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::tls::Tls;
use crate::api::Peer;
use crate::config::HttpLimits;
use crate::pace::PacedStream;
use crate::public::{Protocol, ServerEnd};

/// What each connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) limits: HttpLimits,
    pub(super) tls: Option<Arc<Tls>>,
}

/// For a year, no browser or client goes to this host without TLS.
static STRICT_TRANSPORT: (HeaderName, HeaderValue) =
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));

impl Serving {
    /// Serve one connection.
    pub(super) async fn connection(self, stream: TcpStream, peer: IpAddr, watcher: Watcher) {
        let HttpLimits { head_timeout, body_timeout, .. } = self.limits;
        // hyper's own timer begins with the first byte; a connection that never sends one would stay for ever.
        match timeout(head_timeout, stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return table::HEAD_TIME.count(),
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without nodelay");
        }
        let own = stream.local_addr().ok();
        let stream = PacedStream::new(stream, body_timeout);
        let Some(tls) = &self.tls else {
            return self.requests(stream, peer, own, Protocol::Http, watcher).await;
        };
        match timeout(head_timeout, tls.acceptor().accept(stream)).await {
            Ok(Ok(mut stream)) => {
                if begins(&mut stream, head_timeout).await {
                    self.requests(stream, peer, own, Protocol::Https, watcher).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => table::HEAD_TIME.count(),
        }
    }

    async fn requests<S>(&self, stream: S, peer: IpAddr, own: Option<SocketAddr>, protocol: Protocol, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let reached = own.map(|address| ServerEnd { address, protocol });
        let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            reached.map(|reached| request.extensions_mut().insert(reached));
            let answering = router.clone().oneshot(request);
            async move {
                let mut response = answering.await?;
                if protocol == Protocol::Https {
                    let (name, value) = STRICT_TRANSPORT.clone();
                    response.headers_mut().insert(name, value);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.head_timeout);
        if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await {
            if error.is_timeout() {
                table::HEAD_TIME.count();
            }
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// Whether a first byte comes in time behind the handshake, for the same reason as before it.
async fn begins(stream: &mut tokio_rustls::server::TlsStream<PacedStream<TcpStream>>, wait: Duration) -> bool {
    let Ok(first) = timeout(wait, stream.fill_buf()).await else {
        table::HEAD_TIME.count();
        return false;
    };
    first.is_ok_and(|bytes| !bytes.is_empty())
}
