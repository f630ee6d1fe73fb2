//! Peers for tests: an HTTP server on this machine that answers as it is told and counts what it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::guests::runtime;

/// What a peer does with a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Writes this and waits for the next request on the same connection.
    Write(Vec<u8>),
    /// Writes this and closes the connection.
    WriteAndClose(Vec<u8>),
    /// Writes this and then nothing, until the other side closes.
    WriteAndHang(Vec<u8>),
    /// Writes this again and again, until the other side closes.
    Flood(Vec<u8>),
}

/// A peer; it ends with the test's runtime.
pub(crate) struct Peer {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    /// Connections that the other side closed.
    closed: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// A peer that answers each request, told by its head and body as one text, as `answer` says.
    pub(crate) fn new(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Peer {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let peer = Peer {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            closed: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, closed, requests) = (peer.connections.clone(), peer.closed.clone(), peer.requests.clone());
        let answer = Arc::new(answer);
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, closed, requests) = (answer.clone(), closed.clone(), requests.clone());
                tokio::spawn(async move {
                    serve(stream, answer.as_ref(), &requests).await;
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        peer
    }

    /// `127.0.0.1:port`.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    /// What was asked, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: &(impl Fn(&str) -> Answer + Send + Sync), requests: &Mutex<Vec<String>>) {
    while let Some(request) = read_request(&mut stream).await {
        let answer = answer(&request);
        requests.lock().push(request);
        match answer {
            Answer::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Answer::WriteAndClose(bytes) => return drop(stream.write_all(&bytes).await),
            Answer::WriteAndHang(bytes) => {
                drop(stream.write_all(&bytes).await);
                // Ends when the other side closes.
                drop(stream.read(&mut [0; 1]).await);
                return;
            }
            Answer::Flood(bytes) => while stream.write_all(&bytes).await.is_ok() {},
        }
    }
}

/// A request with its body, where the head says how long that is.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => received.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
}

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
