//! Responsible for the beginning of an answer: how much of it may be read, and what its first lines say where the rest of the head is
//! more than is read, is malformed, or never comes. A receiver that has written a status has decided about the message.

use std::sync::atomic::{AtomicU64, Ordering};

use kith_model::sending::InboundResponse;
use parking_lot::Mutex;

/// Headers of an answer that are read.
pub(super) const MAX_HEADERS: usize = 100;
/// What may be read before an answer's head is complete: the head itself and every informational (1xx) answer before it.
/// hyper skips those without end, so that a peer could keep a thread busy with them.
pub(super) const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// No head is awaited: what is read is a body, which is bounded where it is read.
const UNBOUNDED: u64 = u64::MAX;

/// The head of the answer that a connection awaits, shared by whoever reads the stream and whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Head {
    /// Bytes that may still be read before it is complete.
    left: AtomicU64,
    /// What was read of it, [`MAX_HEAD_BYTES`] at most. Empty while none is awaited.
    heard: Mutex<Vec<u8>>,
}

impl Default for Head {
    fn default() -> Head {
        Head { left: AtomicU64::new(MAX_HEAD_BYTES), heard: Mutex::default() }
    }
}

impl Head {
    /// A head is awaited from now on.
    pub(super) fn expect(&self) {
        *self.heard.lock() = Vec::new();
        self.left.store(MAX_HEAD_BYTES, Ordering::Relaxed);
    }

    /// The head has arrived.
    pub(super) fn arrived(&self) {
        self.left.store(UNBOUNDED, Ordering::Relaxed);
        *self.heard.lock() = Vec::new();
    }

    /// Note bytes that were read.
    pub(super) fn read(&self, bytes: &[u8]) {
        let count = bytes.len() as u64;
        // The reader of the head may lift the bound between this read and its account, which must then stand; hence no
        // load and store. That there was nothing to change is not an error.
        let less = |left: u64| (left != UNBOUNDED).then(|| left.saturating_sub(count));
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            let mut heard = self.heard.lock();
            let room = (MAX_HEAD_BYTES as usize).saturating_sub(heard.len());
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// The answer as far as its first lines tell, where its status came: with the whole headers among these, and without a body.
    pub(super) fn answer(&self) -> Option<InboundResponse> {
        let heard = self.heard.lock();
        let mut rest = heard.as_slice();
        loop {
            let status = status(line(&mut rest)?)?;
            if (100..200).contains(&status) {
                // Behind an informational answer comes the next one, or the answer itself.
                while !line(&mut rest)?.is_empty() {}
                continue;
            }
            let lines = std::iter::from_fn(|| line(&mut rest)).take_while(|line| !line.is_empty());
            let headers = lines.filter_map(header).take(MAX_HEADERS).collect();
            return Some(InboundResponse { status, headers, body: Vec::new(), truncated: true });
        }
    }
}

/// The next whole line, without its end.
fn line<'h>(rest: &mut &'h [u8]) -> Option<&'h [u8]> {
    let end = memchr::memchr(b'\n', rest)?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// The status of a status line.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..13).unwrap_or(line)).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let digits = rest.trim_start().get(..3)?;
    let ends = rest.trim_start().as_bytes().get(3).is_none_or(|byte| *byte == b' ');
    let is_http = version.starts_with("HTTP/1.") && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|status| is_http && ends && *status >= 100)
}

/// A header line that is one.
fn header(line: &[u8]) -> Option<(String, String)> {
    let colon = memchr::memchr(b':', line)?;
    let name = hyper::header::HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii()).into_owned();
    Some((name.as_str().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(heard: &str) -> Option<(u16, Vec<(String, String)>)> {
        let head = Head::default();
        head.expect();
        // However it is cut.
        heard.as_bytes().chunks(3).for_each(|piece| head.read(piece));
        head.answer().map(|answer| (answer.status, answer.headers))
    }

    #[test]
    fn a_whole_status_line_says_what_came_of_a_request() {
        for (heard, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503 Service Unavailable\r\nretry-after: 7\r\nx: y", Some(503)),
            ("HTTP/1.1 404\r\n", Some(404)),
            ("HTTP/1.1 204 \n", Some(204)),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Created\r\n",
                Some(201),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20", None),
            ("HTTP/1.1 100 Continue\r\nx: y\r\n", None),
            ("HTTP/1.1 200 OK", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 20x OK\r\n", None),
            ("HTTP/1.1 099 Odd\r\n", None),
            ("HTTP/1.1\r\n", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
            ("\r\nHTTP/1.1 200 OK\r\n", None),
            ("ü\n", None),
            ("", None),
        ] {
            assert_eq!(answered(heard).map(|(status, _)| status), expected, "{heard:?}");
        }
        let (_, headers) =
            answered("HTTP/1.1 503 Busy\r\nRetry-After:  7 \r\nb ad: x\r\nnone\r\nX: y\r\nhalf: z").unwrap();
        let plain = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(headers, [plain("retry-after", "7"), plain("x", "y")]);
    }

    #[test]
    fn what_is_kept_of_a_head_is_bounded_and_given_up_with_it() {
        let head = Head::default();
        head.expect();
        head.read(b"HTTP/1.1 200 OK\r\n");
        for _ in 0..100 {
            head.read(&[b'x'; 1_000]);
        }
        assert!(head.is_spent() && head.heard.lock().len() == MAX_HEAD_BYTES as usize);
        assert_eq!(head.answer().map(|answer| answer.status), Some(200));
        head.arrived();
        head.read(b"HTTP/1.1 500 a body that looks like an answer\r\n");
        assert!(!head.is_spent() && head.answer().is_none() && head.heard.lock().capacity() == 0);
        head.expect();
        assert_eq!(head.answer(), None, "of the answer before nothing is left");
    }
}
