//! Responsible for one connection to a peer: the task that drives it, and a bound on what is read before an answer's head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use kith_model::sending::SendFailure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

const MAX_HEADERS: usize = 100;
/// What may be read before an answer's head is complete: the head itself and every informational (1xx) answer before it.
/// hyper skips those without end, so that a peer could keep a thread busy with them.
pub(super) const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// Bytes that may still be read before the head of an answer is complete.
#[derive(Debug, Clone)]
struct HeadBudget(Arc<AtomicU64>);

impl HeadBudget {
    /// No head is awaited: what is read is a body, which is bounded where it is read.
    const UNBOUNDED: u64 = u64::MAX;

    fn spend(&self, bytes: u64) {
        // The reader of the head may lift the bound between this read and its account, which must then stand; hence no
        // load and store. That there was nothing to change is not an error.
        let less = |left: u64| (left != HeadBudget::UNBOUNDED).then(|| left.saturating_sub(bytes));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A stream that fails once the budget is spent. The read that spends it is let through: it is no longer than hyper's
/// buffer, and may hold the beginning of a body.
struct Metered<S> {
    stream: S,
    budget: HeadBudget,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.is_spent() {
            return Poll::Ready(Err(io::Error::other("the head of the answer is too large")));
        }
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.budget.spend((buffer.filled().len() - filled) as u64);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// One connection. Dropping it closes it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    budget: HeadBudget,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Begin to speak HTTP/1.1 over a stream.
    pub(super) async fn start<S>(stream: S) -> Result<Connection, SendFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let budget = HeadBudget(Arc::new(AtomicU64::new(MAX_HEAD_BYTES)));
        let stream = Metered { stream, budget: budget.clone() };
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES as usize)
            .max_header_size(MAX_HEAD_BYTES as usize)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendFailure::Connection(error.to_string()))?;
        // An error of the connection reaches the exchange through `sender`.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, budget, driver })
    }

    /// A head is awaited from now on.
    pub(super) fn expect_head(&self) {
        self.budget.0.store(MAX_HEAD_BYTES, Ordering::Relaxed);
    }

    /// The head has arrived.
    pub(super) fn expect_body(&self) {
        self.budget.0.store(HeadBudget::UNBOUNDED, Ordering::Relaxed);
    }

    /// What an error of the exchange means.
    pub(super) fn failure(&self, error: &hyper::Error) -> SendFailure {
        if error.is_parse_too_large() || self.budget.is_spent() {
            return SendFailure::TooLarge(format!(
                "the answer has more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes before its body"
            ));
        }
        SendFailure::Connection(error.to_string())
    }
}
