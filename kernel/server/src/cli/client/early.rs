//! Uploads whose answer comes before all of the body was sent. A server that refuses a large file says why and ends the connection,
//! and the client, which is still writing, meets a broken pipe. Here the break ends the body and not the request: what the server
//! said lies in the socket and is read.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Whether the server has stopped reading. An agent with this connector carries one request: with a second one, the break of the
/// first would end the other's body early, and a server that reads on would take half a file for the whole.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlyAnswer {
    is_cut: Arc<AtomicBool>,
}

impl EarlyAnswer {
    /// The body of the one request.
    pub(super) fn body<R: Read>(&self, inner: R) -> CutBody<R> {
        CutBody { inner, of: self.clone() }
    }

    fn is_cut(&self) -> bool {
        // One thread writes the body and asks; the order of other memory does not hang on it.
        self.is_cut.load(Ordering::Relaxed)
    }
}

impl<In: Transport> Connector<In> for EarlyAnswer {
    type Out = CutTransport<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| CutTransport { inner, of: self.clone() }))
    }
}

/// A body that ends where the server reads no more: nobody needs the rest of a file that is refused.
pub(super) struct CutBody<R> {
    inner: R,
    of: EarlyAnswer,
}

impl<R: Read> Read for CutBody<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.of.is_cut() { Ok(0) } else { self.inner.read(buffer) }
    }
}

/// A connection that goes on being read once it can no longer be written to. It stands below TLS, whose records of the rest go nowhere.
#[derive(Debug)]
pub(super) struct CutTransport<In> {
    inner: In,
    of: EarlyAnswer,
}

impl<In: Transport> Transport for CutTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.of.is_cut() {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if is_break(error.kind()) => {
                self.of.is_cut.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.of.is_cut() && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_break(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::super::{ApiError, Client};
    use super::*;

    /// A server that reads the head, lets the body begin, reads `body` bytes of it, and then answers and ends the connection.
    fn refusing(body: u64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            if body > 0 && head.to_lowercase().contains("expect: 100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }
            std::io::copy(&mut Read::by_ref(&mut stream).take(body), &mut std::io::sink()).unwrap();
            let text = r#"{"code":"not-found","message":"no installation `nope`"}"#;
            let length = text.len();
            let head = format!("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            // At once, as servers do: of several writes the later ones may wait in the system, and the end throws them away.
            stream.write_all(format!("{head}{text}").as_bytes()).unwrap();
        });
        format!("http://{address}")
    }

    /// A file of 60 MB whose source is not there ended with "Broken pipe" and no word of the server's, which had answered.
    #[test]
    fn what_the_server_said_is_read_wherever_it_stopped_reading() {
        for body in [0, 1, 64 << 10, 4 << 20] {
            let client = Client::new(&refusing(body), None);
            let refused = client.upload("/x", "text/csv", std::io::repeat(b'x').take(64 << 20)).unwrap_err();
            let ApiError::Refused(problem) = refused else { panic!("{body}: {refused:?}") };
            assert_eq!((problem.http_status, problem.message.as_str()), (404, "no installation `nope`"), "{body}");
        }
    }

    #[test]
    fn a_connection_that_ends_without_a_word_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || drop(listener.accept().unwrap()));
        let client = Client::new(&format!("http://{address}"), None);
        let broken = client.upload("/x", "text/csv", std::io::repeat(b'x').take(64 << 20)).unwrap_err();
        assert!(matches!(broken, ApiError::Broken { .. }), "{broken:?}");
    }
}
