//! Responsible for handing one mail to a relay: resolve and connect as for a request, TLS, and one exchange of SMTP. A mail is
//! handed over once: where its end may have reached the relay and no answer came back, that is said, and nobody tries again.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kith_model::secret::Secret;
use kith_model::sending::{MailReply, MailSecurity, SendFailure};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::address::{Reach, admit};
use super::client::{Client, MAX_CONNECT, connect, server_name, within};
use super::request::Target;
use super::resolver::Share;
use crate::text::bounded;

/// What a relay may say in one exchange.
const MAX_SAID_BYTES: usize = 64 << 10;
/// The same in lines: the library reads an answer anew with each line of it.
const MAX_SAID_LINES: usize = 256;
/// A line of SMTP, its end included.
const MAX_LINE_BYTES: usize = 1_000;
/// Lines of one answer.
const MAX_LINES: usize = 64;
/// How long the farewell may take, of which nothing depends.
const MAX_FAREWELL: Duration = Duration::from_secs(1);

/// A mail that passed every check but the address.
pub(super) struct MailExchange {
    pub(super) target: Target,
    pub(super) reach: Reach,
    pub(super) look_ups: Arc<Share>,
    pub(super) security: MailSecurity,
    /// User and password.
    pub(super) login: Option<(String, Secret)>,
    pub(super) sender: Address,
    pub(super) to: Address,
    /// As it is sent, headers and all; of ASCII.
    pub(super) message: Vec<u8>,
    /// Connecting included.
    pub(super) wait: Duration,
    /// Set before the end of the mail is written: from then on the relay may have it.
    pub(super) is_whole: Arc<AtomicBool>,
}

impl Client {
    /// Hand a mail to its relay. Runs on the runtime that it is polled on.
    pub(super) async fn hand_over(&self, mail: MailExchange) -> Result<MailReply, SendFailure> {
        // Waiting for one's turn says nothing about the host, whose time begins after it.
        let name = self.resolver.name(&mail.target, &mail.look_ups, mail.wait).await?;
        let exchange = async {
            let found = self.resolver.addresses(&mail.target, name).await?;
            let addresses = admit(found, &mail.reach).map_err(SendFailure::Denied)?;
            if mail.security == MailSecurity::Plain && !addresses.iter().all(|address| is_own_machine(*address)) {
                return Err(SendFailure::Denied("mail is sent without TLS to this machine alone".into()));
            }
            let mut relay = self.greet(&mail, &addresses).await?;
            let reply = say(&mut relay, &mail).await?;
            Ok((reply, relay))
        };
        let late = || SendFailure::Timeout(format!("no answer within {} ms", mail.wait.as_millis()));
        match timeout(mail.wait, exchange).await.unwrap_or_else(|_| Err(late())) {
            Ok((reply, mut relay)) => {
                // What a relay says to a farewell changes nothing, so that nobody waits for it.
                tokio::spawn(async move { drop(timeout(MAX_FAREWELL, relay.command(Quit)).await) });
                Ok(reply)
            }
            Err(failure) if mail.is_whole.load(Ordering::Relaxed) => {
                Err(SendFailure::Unknown(format!("the relay may have the whole mail: {failure}")))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Connect to a relay, encrypted as it is wanted, and tell it who we are.
    async fn greet(&self, mail: &MailExchange, addresses: &[SocketAddr]) -> Result<AsyncSmtpConnection, SendFailure> {
        let (_, stream) = within(MAX_CONNECT, "connecting", connect(addresses)).await??;
        let stream: Box<dyn Duplex> = match mail.security {
            MailSecurity::Plain => Box::new(stream),
            MailSecurity::Tls => Box::new(self.encrypt(mail, stream).await?),
            MailSecurity::StartTls => {
                let stream = start_tls(stream, &mail.hello().to_string()).await?;
                Box::new(self.encrypt(mail, stream).await?)
            }
        };
        let is_greeted = mail.security == MailSecurity::StartTls;
        let greeting = if is_greeted { GREETING } else { &[] };
        let stream = RelayStream { stream, greeting, heard: Heard::default(), is_greeting: true };
        let failed =
            |error: Error| SendFailure::Connection(format!("the relay does not greet: {}", bounded(&words(&error))));
        let mut relay =
            AsyncSmtpConnection::connect_with_transport(Box::new(stream), &mail.hello()).await.map_err(failed)?;
        if let Some((user, password)) = &mail.login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            // What a relay says of credentials may repeat them, so that nothing but the code is told on.
            let refused = |error: Error| {
                let code = error.status().map_or_else(|| "it offers no way to".to_owned(), |code| code.to_string());
                SendFailure::Connection(format!("the relay does not let us sign in: {code}"))
            };
            relay.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(refused)?;
        }
        Ok(relay)
    }

    async fn encrypt(&self, mail: &MailExchange, stream: TcpStream) -> Result<TlsStream<TcpStream>, SendFailure> {
        let server = server_name(&mail.target)?;
        let stream = within(MAX_CONNECT, "the TLS handshake", self.tls.connect(server, stream)).await?;
        stream.map_err(|error| SendFailure::Connection(format!("TLS: {error}")))
    }
}

impl MailExchange {
    /// What we call ourselves: the sender's domain, which is a name of ours where a server has none.
    fn hello(&self) -> ClientId {
        match self.sender.domain() {
            domain if domain.starts_with('[') => ClientId::default(),
            domain => ClientId::Domain(domain.to_owned()),
        }
    }
}

fn is_own_machine(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Hand over the mail.
async fn say(relay: &mut AsyncSmtpConnection, mail: &MailExchange) -> Result<MailReply, SendFailure> {
    if let Err(error) = relay.command(Mail::new(Some(mail.sender.clone()), Vec::new())).await {
        return refusal(&error);
    }
    if let Err(error) = relay.command(Rcpt::new(mail.to.clone(), Vec::new())).await {
        return refusal(&error);
    }
    match relay.command(Data).await {
        Ok(response) if response.has_code(354) => {}
        Ok(response) => return Err(out_of_turn(&response)),
        Err(error) => return refusal(&error),
    }
    // The end is asked for once all that comes before it has been written.
    let end = std::iter::from_fn(|| {
        mail.is_whole.store(true, Ordering::Relaxed);
        None
    });
    let taken = relay.message_iter(std::iter::once(mail.message.as_slice()).chain(end)).await;
    // Whatever it says now, it has said something of the whole mail.
    match taken {
        Ok(response) if response.code().severity == Severity::PositiveCompletion => {
            let lines: Vec<&str> = response.message().collect();
            Ok(reply(response.code().into(), &lines.join(" ")))
        }
        Ok(response) => Err(out_of_turn(&response)),
        Err(error) => refusal(&error),
    }
}

/// What a relay says that answers something else.
fn out_of_turn(response: &Response) -> SendFailure {
    SendFailure::Connection(format!("the relay answered {} where that says nothing", response.code()))
}

/// What a relay says when it does not; a failure where it says nothing that can be read.
fn refusal(error: &Error) -> Result<MailReply, SendFailure> {
    match error.status() {
        Some(code) => Ok(reply(code.into(), &words(error))),
        None => Err(SendFailure::Connection(bounded(&words(error)))),
    }
}

/// The words of an answer, without what the library says before them.
fn words(error: &Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// A reply with the enhanced status apart.
fn reply(code: u16, text: &str) -> MailReply {
    let text = text.trim();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = first.split('.');
    let class = parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
    let mut is_number =
        || parts.next().is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()));
    if class && is_number() && is_number() && parts.next().is_none() {
        MailReply { code, enhanced: Some(first.to_owned()), text: bounded(rest.trim()) }
    } else {
        MailReply { code, enhanced: None, text: bounded(text) }
    }
}

/// Ask a relay for TLS, in the clear. Nothing that it said before counts afterwards, and nothing may have come behind its consent:
/// whoever sits in between could have written it.
async fn start_tls(mut stream: TcpStream, hello: &str) -> Result<TcpStream, SendFailure> {
    let mut clear = Clear { stream: &mut stream, said: Vec::new(), left: MAX_SAID_BYTES };
    clear.answer(220, "it does not greet").await?;
    clear.say(&format!("EHLO {hello}\r\n")).await?;
    let offers = clear.answer(250, "it refuses EHLO").await?;
    if !offers.iter().any(|offer| offer.trim().eq_ignore_ascii_case("STARTTLS")) {
        return Err(SendFailure::Connection("the relay offers no STARTTLS; nothing was sent".into()));
    }
    clear.say("STARTTLS\r\n").await?;
    clear.answer(220, "it refuses STARTTLS").await?;
    if !clear.said.is_empty() {
        return Err(SendFailure::Connection("the relay said more before TLS began; nothing was sent".into()));
    }
    Ok(stream)
}

/// A connection before TLS.
struct Clear<'s> {
    stream: &'s mut TcpStream,
    /// Read and not yet looked at.
    said: Vec<u8>,
    left: usize,
}

impl Clear<'_> {
    async fn say(&mut self, line: &str) -> Result<(), SendFailure> {
        let failed = |error: io::Error| SendFailure::Connection(error.to_string());
        self.stream.write_all(line.as_bytes()).await.map_err(failed)
    }

    /// The lines of an answer without their codes, where it is this one.
    async fn answer(&mut self, code: u16, otherwise: &str) -> Result<Vec<String>, SendFailure> {
        let (wanted, mut lines) = (code.to_string(), Vec::new());
        while lines.len() < MAX_LINES {
            let line = self.line().await?;
            let Some(rest) = line.strip_prefix(&wanted) else {
                return Err(SendFailure::Connection(format!("{otherwise}: {}", bounded(&line))));
            };
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(lines);
            }
        }
        Err(SendFailure::TooLarge("an answer of the relay has too many lines".into()))
    }

    async fn line(&mut self) -> Result<String, SendFailure> {
        loop {
            if let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.said.len() > MAX_LINE_BYTES || self.left == 0 {
                return Err(SendFailure::TooLarge("the relay says too much".into()));
            }
            let mut buffer = [0; 512];
            let room = buffer.len().min(self.left);
            let read = self.stream.read(&mut buffer[..room]).await;
            let read = read.map_err(|error| SendFailure::Connection(error.to_string()))?;
            if read == 0 {
                return Err(SendFailure::Connection("the relay closed the connection".into()));
            }
            self.left -= read;
            self.said.extend_from_slice(&buffer[..read]);
        }
    }
}

/// What SMTP is spoken over.
trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for S {}

/// A greeting for the library, which waits for one: a relay greets once, before TLS.
const GREETING: &[u8] = b"220 TLS has begun\r\n";

/// What a relay has said, as far as it bounds what it may say.
#[derive(Default)]
struct Heard {
    bytes: usize,
    lines: usize,
    /// Of the line that is being said.
    column: usize,
    /// Whether the line has more than spaces behind its code.
    has_text: bool,
    /// Whether the last byte is the first of a line's end.
    is_ending: bool,
}

impl Heard {
    /// Take in what a relay says, and make ASCII of it, which is all that the library reads: letters beyond it are in no code.
    /// `is_greeting`: the library does not survive an offer of spaces alone.
    fn take(&mut self, said: &mut [u8], is_greeting: bool) -> io::Result<()> {
        self.bytes += said.len();
        for byte in said {
            if !byte.is_ascii() {
                *byte = b'?';
            }
            self.lines += usize::from(*byte == b'\n');
            if self.lines > MAX_SAID_LINES {
                return Err(io::Error::other("the relay says too many lines"));
            }
            if *byte == b'\n' && self.is_ending {
                // Three digits, a sign and the first byte of the end stand in each.
                if is_greeting && self.column > 5 && !self.has_text {
                    return Err(io::Error::other("the relay says a blank line"));
                }
                (self.column, self.has_text, self.is_ending) = (0, false, false);
            } else {
                self.has_text |= self.column >= 4 && !char::from(*byte).is_whitespace();
                self.column += 1;
                self.is_ending = *byte == b'\r';
            }
        }
        Ok(())
    }
}

/// A connection to a relay, of which no more is read than a relay may say.
struct RelayStream {
    stream: Box<dyn Duplex>,
    /// Read before anything of the stream is.
    greeting: &'static [u8],
    heard: Heard,
    /// Whether nothing was said to it but who we are.
    is_greeting: bool,
}

impl fmt::Debug for RelayStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayStream").finish_non_exhaustive()
    }
}

impl AsyncTokioStream for RelayStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsyncRead for RelayStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let greeting = self.greeting;
            let (now, later) = greeting.split_at(buffer.remaining().min(greeting.len()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        if self.heard.bytes >= MAX_SAID_BYTES {
            return Poll::Ready(Err(io::Error::other("the relay says too much")));
        }
        // The read that spends what is left is no longer than the library's buffer.
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let is_greeting = self.is_greeting;
        match self.heard.take(&mut buffer.filled_mut()[filled..], is_greeting) {
            Ok(()) => polled,
            Err(error) => {
                // The library would say goodbye and wait for an answer to that.
                self.heard.bytes = MAX_SAID_BYTES;
                Poll::Ready(Err(error))
            }
        }
    }
}

impl AsyncWrite for RelayStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_greeting &= bytes.starts_with(b"EHLO ");
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
    use super::*;

    /// Whether a relay may say these in turn, and what is made of them.
    fn heard(parts: &[&[u8]], is_greeting: bool) -> Result<Vec<u8>, String> {
        let (mut heard, mut said) = (Heard::default(), Vec::new());
        for part in parts {
            let mut part = part.to_vec();
            heard.take(&mut part, is_greeting).map_err(|error| error.to_string())?;
            said.extend(part);
        }
        Ok(said)
    }

    #[test]
    fn letters_of_any_alphabet_are_read() {
        assert_eq!(heard(&[b"250 gr\xfc\xdfe\r\n"], false), Ok(b"250 gr??e\r\n".to_vec()));
    }

    #[test]
    fn a_blank_offer_is_refused_however_it_comes() {
        let blank: [&[&[u8]]; 4] = [&[b"250-  \r\n"], &[b"250-", b" \r", b"\n"], &[b"250-\n\r\n"], &[b"250 \r\r\n"]];
        for parts in blank {
            assert_eq!(heard(parts, true), Err("the relay says a blank line".to_owned()), "{parts:?}");
            assert!(heard(parts, false).is_ok(), "{parts:?}: of a mail it says as much as any");
        }
        assert!(heard(&[b"220 a\r\n250-\r\n250- SIZE\r\n250 \r\n"], true).is_ok());
    }

    #[test]
    fn a_relay_says_so_many_lines_and_no_more() {
        let lines = |count: usize| b"250-\n".repeat(count);
        assert!(heard(&[&lines(MAX_SAID_LINES)], false).is_ok());
        assert!(heard(&[&lines(MAX_SAID_LINES), b"250 a\r\n"], false).is_err());
    }
}
