//! How slow a peer may be: who sends a body a byte at a time, or never reads an answer, would hold a connection for as long
//! as it likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kith_model::budget::table;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The rate in bytes a second at which a peer earns the time back that it was waited for.
const LEAST_RATE: u64 = 1_024;

/// How much longer a peer may be waited for: a grace at most, which waiting uses up and what it moves gives back.
pub(crate) struct Pace {
    grace: Duration,
    left: Duration,
    /// Since when it is waited for, and when that becomes too long.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    pub(crate) fn new(grace: Duration) -> Pace {
        Pace { grace, left: grace, waiting: None }
    }

    /// Nothing moves: ready once the peer was waited for too long.
    pub(crate) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, alarm) = self.waiting.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + left)))
        });
        alarm.as_mut().poll(context)
    }

    /// The peer moved so many bytes.
    pub(crate) fn moved(&mut self, bytes: usize) {
        let waited = self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.settle(waited, bytes);
    }

    fn settle(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_millis((bytes as u64).saturating_mul(1_000) / LEAST_RATE);
        self.left = (self.left.saturating_sub(waited) + earned).min(self.grace);
    }
}

/// A connection that ends when its peer takes an answer too slowly. What the peer sends has timers of its own, since between
/// two requests nothing is due.
pub(crate) struct PacedStream<S> {
    stream: S,
    writing: Pace,
}

impl<S> PacedStream<S> {
    pub(crate) fn new(stream: S, grace: Duration) -> PacedStream<S> {
        PacedStream { stream, writing: Pace::new(grace) }
    }

    fn judge(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.writing.moved(*result.as_ref().unwrap_or(&0));
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.writing.poll_too_slow(context));
                table::BODY_TIME.count();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes its answer too slowly")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn a_peer_is_waited_for_by_the_grace_and_by_what_it_moves() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(seconds(30));
        // What went fast gives no credit for later.
        pace.settle(seconds(0), 100 << 20);
        assert_eq!(pace.left, seconds(30));
        pace.settle(seconds(20), 5 * LEAST_RATE as usize);
        assert_eq!(pace.left, seconds(15));
        // A byte now and then gains nothing.
        (0..20).for_each(|_| pace.settle(seconds(1), 1));
        assert!(pace.left < seconds(1));
    }

    #[tokio::test]
    async fn a_peer_that_never_reads_loses_its_connection() {
        let (near, far) = tokio::io::duplex(64);
        let error = PacedStream::new(near, Duration::ZERO).write_all(&[0; 10_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut waiting = Pace::new(Duration::from_secs(3_600));
        let polled = poll_fn(|context| Poll::Ready(waiting.poll_too_slow(context).is_pending()));
        assert!(polled.await, "an hour is not over");
        drop(far);
    }
}
