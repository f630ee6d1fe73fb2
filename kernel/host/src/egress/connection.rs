//! Responsible for one connection to a peer: the task that drives it, and a bound on what is read before an answer's head.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use kith_model::sending::SendFailure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::head::{Head, MAX_HEAD_BYTES, MAX_HEADERS};

/// A stream that fails once the budget is spent. The read that spends it is let through: it is no longer than hyper's
/// buffer, and may hold the beginning of a body.
struct MeteredStream<S> {
    stream: S,
    head: Arc<Head>,
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_spent() {
            return Poll::Ready(Err(io::Error::other("the head of the answer is too large")));
        }
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.head.read(&buffer.filled()[filled..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
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
    /// Of the answer that is awaited.
    pub(super) head: Arc<Head>,
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
        let head = Arc::new(Head::default());
        let stream = MeteredStream { stream, head: Arc::clone(&head) };
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES as usize)
            .max_header_size(MAX_HEAD_BYTES as usize)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendFailure::Connection(error.to_string()))?;
        // An error of the connection reaches the exchange through `sender`.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, head, driver })
    }

    /// What an error of the exchange means.
    pub(super) fn failure(&self, error: &hyper::Error) -> SendFailure {
        if error.is_parse_too_large() || self.head.is_spent() {
            return SendFailure::TooLarge(format!(
                "the answer has more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes before its body"
            ));
        }
        SendFailure::Connection(error.to_string())
    }
}
