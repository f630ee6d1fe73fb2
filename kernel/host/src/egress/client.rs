//! Responsible for sending one HTTP request: resolve, take a kept connection to an admitted address or make one, and one
//! exchange. Nothing is followed or proxied, and nothing is sent twice: a request is repeated only where it is certain that
//! no byte of it left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use kith_model::sending::{AnswerRoom, InboundResponse, SendFailure};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

use super::address::{Reach, admit};
use super::body::{self, BodyEnd, BodyRule};
use super::connection::Connection;
use super::head::{Head, MAX_HEAD_BYTES};
use super::pool::{Place, Pool};
use super::request::Target;
use super::resolver::{Resolver, Share};

pub(super) const MAX_CONNECT: Duration = Duration::from_secs(3);
/// How long a connection may take to be ready for another request after an answer.
const MAX_READY: Duration = Duration::from_millis(500);

/// A request that passed every check but the address.
pub(crate) struct Exchange {
    pub(super) target: Target,
    pub(super) reach: Reach,
    /// The look-ups of names that its installation may have.
    pub(super) look_ups: Arc<Share>,
    pub(super) request: Request<Full<Bytes>>,
    /// How long to wait for the answer's head, connecting included.
    pub(super) answer_wait: Duration,
    pub(super) body: BodyRule,
    /// Where a body that is wanted whole is kept.
    pub(super) room: Option<Arc<dyn AnswerRoom>>,
}

impl Exchange {
    /// The host's name or address, for the log.
    pub(crate) fn host(&self) -> &str {
        &self.target.host
    }
}

/// Sends the requests of all installations; one for a host.
pub(crate) struct Client {
    pub(super) tls: TlsConnector,
    pub(super) resolver: Resolver,
    pool: Arc<Pool>,
}

impl Client {
    /// A client with no connection: TLS 1.2 and 1.3 with Mozilla's roots, compiled in.
    pub(crate) fn new() -> Result<Client, rustls::Error> {
        Client::trusting(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// The same with these roots.
    pub(super) fn trusting(roots: RootCertStore) -> Result<Client, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client { tls: Arc::new(config).into(), resolver: Resolver::default(), pool: Arc::default() })
    }

    /// Send a request and read its answer. Runs on the runtime that it is polled on, and leaves connections there.
    pub(crate) async fn exchange(&self, exchange: Exchange) -> Result<InboundResponse, SendFailure> {
        let Exchange { target, reach, look_ups, request, answer_wait, body, room } = exchange;
        // Waiting for one's turn says nothing about the host, whose time begins after it.
        let name = self.resolver.name(&target, &look_ups, answer_wait).await?;
        let awaited = Mutex::new(None);
        let answer = async {
            let found = self.resolver.addresses(&target, name).await?;
            let addresses = admit(found, &reach).map_err(SendFailure::Denied)?;
            self.answer(&target, &addresses, request, &awaited).await
        };
        let late = |_| SendFailure::Timeout(format!("no answer within {} ms", answer_wait.as_millis()));
        let answered = timeout(answer_wait, answer).await.map_err(late).flatten();
        let (place, connection, response) = match (answered, body) {
            (Ok(answered), _) => answered,
            (Err(failure), BodyRule::Whole) => return Err(failure),
            // A receiver that has written its status has decided, whatever becomes of the rest of what it writes.
            (Err(failure), BodyRule::StatusDecides) => {
                let awaited: Option<Arc<Head>> = awaited.into_inner();
                return awaited.and_then(|head| head.answer()).ok_or(failure);
            }
        };
        let (head, incoming) = response.into_parts();
        let (headers, is_head_cut) = match body {
            BodyRule::Whole => check_size(&head.headers).map(|()| (texts(&head.headers, u64::MAX), false))?,
            BodyRule::StatusDecides => (texts(&head.headers, MAX_HEAD_BYTES), size_of(&head.headers) > MAX_HEAD_BYTES),
        };
        let (bytes, end) = body::read(body, incoming, room.as_deref()).await?;
        if end == BodyEnd::Whole {
            self.keep(place, connection);
        }
        let truncated = end == BodyEnd::Cut || is_head_cut;
        Ok(InboundResponse { status: head.status.as_u16(), headers, body: bytes, truncated })
    }

    /// Send a request to the first of the admitted addresses that there is a connection to, and wait for the head of its answer. What comes
    /// of it meanwhile is in `awaited`, also for whoever waits no longer.
    async fn answer(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        mut request: Request<Full<Bytes>>,
        awaited: &Mutex<Option<Arc<Head>>>,
    ) -> Result<(Place, Connection, Response<Incoming>), SendFailure> {
        let place = |address| Place { https: target.https, host: target.host.clone(), address };
        let kept = || {
            addresses.iter().map(|address| place(*address)).find_map(|place| {
                let connection = self.pool.take(&place)?;
                Some((place, connection))
            })
        };
        // Each turn uses up one kept connection, and a new one ends the loop.
        loop {
            let (is_new, (place, mut connection)) = match kept() {
                Some(kept) => (false, kept),
                None => {
                    let (address, connection) = self.open(target, addresses).await?;
                    (true, (place(address), connection))
                }
            };
            connection.head.expect();
            *awaited.lock() = Some(Arc::clone(&connection.head));
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    connection.head.arrived();
                    return Ok((place, connection, response));
                }
                // The other side closed a kept connection before anything was written: the request did not leave.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => {
                        *awaited.lock() = None;
                        request = unsent;
                    }
                    _ => return Err(connection.failure(error.error())),
                },
            }
        }
    }

    /// Connect to the first of the admitted addresses that answers, with TLS where the target asks for it.
    async fn open(&self, target: &Target, addresses: &[SocketAddr]) -> Result<(SocketAddr, Connection), SendFailure> {
        let (address, stream) = within(MAX_CONNECT, "connecting", connect(addresses)).await??;
        if !target.https {
            return Ok((address, Connection::start(stream).await?));
        }
        let server = server_name(target)?;
        let stream = within(MAX_CONNECT, "the TLS handshake", self.tls.connect(server, stream)).await?;
        let stream = stream.map_err(|error| SendFailure::Connection(format!("TLS: {error}")))?;
        Ok((address, Connection::start(stream).await?))
    }

    /// Keep a connection whose answer was read to its end, once it can take another request.
    fn keep(&self, place: Place, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        if connection.sender.is_ready() {
            return self.pool.put(place, connection);
        }
        // Its driver has not come round yet, or a request that was answered early is still being written.
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(MAX_READY, connection.sender.ready()).await {
                pool.put(place, connection);
            }
        });
    }
}

/// What a header takes in an answer.
fn size(name: &HeaderName, value: &HeaderValue) -> u64 {
    (name.as_str().len() + value.len() + 4) as u64
}

fn size_of(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| size(name, value)).sum()
}

/// The first headers, of so many bytes at most.
fn texts(headers: &HeaderMap, max_bytes: u64) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let within = headers.iter().scan(0_u64, |taken, (name, value)| {
        *taken += size(name, value);
        (*taken <= max_bytes).then(|| (name.as_str().to_owned(), text(value)))
    });
    within.collect()
}

/// Insist that the headers of an answer are within the limit. The bound on reading alone lets more through: the read that
/// spends it is as long as hyper's buffer.
fn check_size(headers: &HeaderMap) -> Result<(), SendFailure> {
    let size = size_of(headers);
    if size <= MAX_HEAD_BYTES {
        return Ok(());
    }
    Err(SendFailure::TooLarge(format!("the headers of the answer have {size} bytes; {MAX_HEAD_BYTES} are read")))
}

/// The outcome of `future`, or which part took too long.
pub(super) async fn within<F: Future>(limit: Duration, what: &str, future: F) -> Result<F::Output, SendFailure> {
    let late = |_| SendFailure::Timeout(format!("{what} took more than {} s", limit.as_secs()));
    timeout(limit, future).await.map_err(late)
}

/// The name that a host has to prove.
pub(super) fn server_name(target: &Target) -> Result<ServerName<'static>, SendFailure> {
    let name = ServerName::try_from(target.bare_host().to_owned());
    name.map_err(|_| SendFailure::Denied("the host has no name for TLS".into()))
}

/// Connect to the first address that answers, and to no other than one of these.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<(SocketAddr, TcpStream), SendFailure> {
    let mut last = SendFailure::Connection("the host has no address".into());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                if !stream.peer_addr().is_ok_and(|peer| peer == *address) {
                    return Err(SendFailure::Denied("the connection went to another address".into()));
                }
                // Requests are written whole; waiting for more to send would only delay them.
                drop(stream.set_nodelay(true));
                return Ok((*address, stream));
            }
            Err(error) => last = SendFailure::Connection(format!("connecting: {}", error.kind())),
        }
    }
    Err(last)
}
