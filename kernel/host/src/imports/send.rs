//! Responsible for sending one HTTP request: resolve once, connect to what was admitted, TLS, one exchange, and the
//! connection is closed. Nothing is reused, followed, retried or proxied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::address::admit;
use super::request::Target;

const MAX_CONNECT: Duration = Duration::from_secs(3);
const MAX_FIRST_BYTE: Duration = Duration::from_secs(10);
const MAX_RESPONSE_BYTES: usize = 5 * 1024 * 1024;
const MAX_RESPONSE_HEADERS: usize = 100;
const MAX_RESPONSE_HEADER_BYTES: usize = 64 * 1024;

/// Why an exchange failed, in words for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SendError {
    Denied(String),
    Timeout(String),
    Connection(String),
    TooLarge(String),
}

/// TLS 1.2 and 1.3 with Mozilla's roots, compiled in.
pub(super) fn tls() -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Send `request` to `target` and read the whole answer.
pub(super) async fn exchange(
    tls: &Arc<ClientConfig>,
    target: &Target,
    loopback_granted: bool,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, SendError> {
    let name = target.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found =
        within(MAX_CONNECT, "resolving the host", tokio::net::lookup_host((name.as_str(), target.port))).await?;
    let found = found.map_err(|_| SendError::Connection("the host does not resolve".into()))?;
    let addresses = admit(found.collect(), loopback_granted).map_err(SendError::Denied)?;
    let stream = within(MAX_CONNECT, "connecting", connect(&addresses)).await??;
    if !target.https {
        return converse(stream, request).await;
    }
    let server = ServerName::try_from(name).map_err(|_| SendError::Denied("the host has no name for TLS".into()))?;
    let connecting = TlsConnector::from(tls.clone()).connect(server, stream);
    let stream = within(MAX_CONNECT, "the TLS handshake", connecting).await?;
    let stream = stream.map_err(|error| SendError::Connection(format!("TLS: {error}")))?;
    converse(stream, request).await
}

async fn within<F: Future>(limit: Duration, what: &str, future: F) -> Result<F::Output, SendError> {
    let late = |_| SendError::Timeout(format!("{what} took more than {} s", limit.as_secs()));
    timeout(limit, future).await.map_err(late)
}

/// Connect to the first of the admitted addresses that answers.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, SendError> {
    let mut last = SendError::Connection("the host has no address".into());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let is_that = stream.peer_addr().is_ok_and(|peer| peer == *address);
                let other = || SendError::Denied("the connection went to another address".into());
                return if is_that { Ok(stream) } else { Err(other()) };
            }
            Err(error) => last = SendError::Connection(format!("connecting: {}", error.kind())),
        }
    }
    Err(last)
}

/// Ends the task that drives a connection when the exchange ends or is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, SendError> {
    let broke = |error: hyper::Error| {
        if error.is_parse_too_large() {
            SendError::TooLarge(format!(
                "the answer has more than {MAX_RESPONSE_HEADERS} headers or {MAX_RESPONSE_HEADER_BYTES} bytes of them"
            ))
        } else {
            SendError::Connection(error.to_string())
        }
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_RESPONSE_HEADERS)
        .max_buf_size(MAX_RESPONSE_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    // An error of the connection reaches the exchange through `sender`.
    let _driver = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let sending = within(MAX_FIRST_BYTE, "the first byte of the answer", sender.send_request(request));
    let (head, body) = sending.await?.map_err(broke)?.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            SendError::TooLarge(format!("the answer has more than {MAX_RESPONSE_BYTES} bytes"))
        } else {
            SendError::Connection(error.to_string())
        }
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
