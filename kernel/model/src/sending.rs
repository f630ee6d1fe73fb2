//! Sending for a channel of contract 0.2: the plugin says which requests it wants and reads the answers, the kernel sends.
//!
//! Both calls of the plugin are pure, because a call that waits for a stranger's server would hold a thread and the other
//! messages of its batch for as long as that server likes.

mod mail;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::delivery::{Message, Outcome};
use crate::plugin::{Callback, PluginFault, Receipt, ReceiveError};

pub use mail::{MailLogin, MailReply, MailSecurity, Mailbox, OutboundMail};

/// How many requests one attempt of one message may take, e.g. a token, the message, and a repeat of both. An answer after
/// the last must end the attempt; a plugin that asks for another has broken the contract.
pub const MAX_ROUNDS: u32 = 4;

/// The most that [`SendingLimits`] can be set to: each message under way holds memory, each request a connection.
pub const MAX_SENDING: u64 = 10_000;

/// What a transport says that only sends requests.
const NO_MAIL: &str = "no mail is sent here";

/// How much one channel sends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendingLimits {
    /// Messages under way.
    pub messages_at_once: usize,
    /// Requests under way to one receiving host.
    pub requests_per_host: usize,
}

impl SendingLimits {
    /// Where nobody says otherwise.
    pub const DEFAULT: SendingLimits = SendingLimits { messages_at_once: 256, requests_per_host: 128 };
}

impl Default for SendingLimits {
    fn default() -> SendingLimits {
        SendingLimits::DEFAULT
    }
}

/// How the host signs a request with a secret that the plugin never sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Standard Webhooks 1.0: adds `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    StandardWebhooks {
        /// The name of the secret (`whsec_…`).
        secret: String,
        /// Stable over all attempts of one delivery.
        message_id: String,
    },
}

/// A request that a channel wants to have sent. Stand-ins of secrets are still in it; the transport fills them in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub sign: Option<Signature>,
    /// Waiting for the answer's head at most this long; the transport's own limit bounds it and replaces an absent one.
    pub timeout_ms: Option<u32>,
    /// Handed back with the answer ([`SentAnswer::resume`]): a pure plugin keeps nothing between two calls.
    pub resume: Option<Vec<u8>>,
}

impl OutboundRequest {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.url.len() + headers + self.body.len() + self.resume.as_ref().map_or(0, Vec::len)
    }
}

/// What the other side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundResponse {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether headers or body were more or slower than their limits, or broke. The status is whole, and so is each header that is here.
    pub truncated: bool,
}

impl InboundResponse {
    /// About what it takes in memory: its headers and its body.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + headers.sum::<usize>()
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// Not granted, not a public address, or not a request at all; trying again will not help.
    #[error("not allowed: {0}")]
    Denied(String),
    #[error("no answer in time: {0}")]
    Timeout(String),
    /// The connection could not be made, or broke before the answer's head.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The sender is too busy with other requests of the installation; the request did not leave. It says nothing about the host.
    #[error("not sent: {0}")]
    Busy(String),
    /// The answer's head is larger than the limit.
    #[error("answer too large: {0}")]
    TooLarge(String),
    /// The other side may have it: a mail was handed over whole, and the connection ended before the relay said what it did with
    /// it. Whoever repeats it may send it twice.
    #[error("unknown whether it was taken: {0}")]
    Unknown(String),
}

/// What a channel wants to have sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    Request(OutboundRequest),
    Mail(Box<OutboundMail>),
}

impl Outbound {
    /// What is handed back with the answer.
    pub fn resume(&self) -> Option<&Vec<u8>> {
        match self {
            Outbound::Request(request) => request.resume.as_ref(),
            Outbound::Mail(mail) => mail.resume.as_ref(),
        }
    }

    /// That it has no answer.
    pub fn failed(&self, failure: SendFailure) -> Sent {
        match self {
            Outbound::Request(_) => Sent::Request(Err(failure)),
            Outbound::Mail(_) => Sent::Mail(Err(failure)),
        }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Outbound::Request(request) => request.bytes(),
            Outbound::Mail(mail) => mail.bytes(),
        }
    }
}

/// What came of sending something: its answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    Request(Result<InboundResponse, SendFailure>),
    Mail(Result<MailReply, SendFailure>),
}

impl Sent {
    /// Why there is no answer.
    pub fn failure(&self) -> Option<&SendFailure> {
        match self {
            Sent::Request(result) => result.as_ref().err(),
            Sent::Mail(result) => result.as_ref().err(),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sent::Request(Ok(response)) => write!(f, "status {}", response.status),
            Sent::Mail(Ok(reply)) => reply.fmt(f),
            Sent::Request(Err(failure)) | Sent::Mail(Err(failure)) => failure.fmt(f),
        }
    }
}

/// What comes next for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this and hand over the answer.
    Send(OutboundRequest),
    /// The same of a mail.
    Mail(Box<OutboundMail>),
    /// The attempt ended.
    Done(Outcome),
}

/// The answer to a request of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct SentAnswer {
    pub message: Message,
    /// Which request of the attempt this answers, from 1 to [`MAX_ROUNDS`].
    pub round: u32,
    /// [`OutboundRequest::resume`] of that request.
    pub resume: Option<Vec<u8>>,
    pub result: Sent,
}

/// A channel of contract 0.2. Calls use the processor and never wait.
pub trait PureChannel: Send + Sync {
    /// The first step for each message, in the same order; exactly one each.
    fn requests(&self, messages: &[Message]) -> Result<Vec<Step>, PluginFault>;
    /// The next step for each answer, in the same order; exactly one each.
    fn outcomes(&self, answers: &[SentAnswer]) -> Result<Vec<Step>, PluginFault>;
    /// Turn a provider's callback into receipts.
    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError>;
    /// What sends this installation's requests, under its grants and with its secrets.
    fn transport(&self) -> Arc<dyn Transport>;
}

/// A request under way. Dropping it closes its connection.
pub type Sending = Pin<Box<dyn Future<Output = Result<InboundResponse, SendFailure>> + Send>>;

/// A mail under way. Dropping it closes its connection, and leaves open what became of the mail.
pub type SendingMail = Pin<Box<dyn Future<Output = Result<MailReply, SendFailure>> + Send>>;

/// Where an answer is kept, which is asked for room as its body arrives.
pub trait AnswerRoom: Send + Sync {
    /// Take room for so many bytes more.
    ///
    /// # Errors
    /// There is none; the exchange ends with this.
    fn take(&self, bytes: usize) -> Result<(), SendFailure>;
}

/// What sends the requests of one installation.
pub trait Transport: Send + Sync {
    /// Where the request goes, as `host:port` in lower case: the name that limits, back-off and circuits are kept under.
    ///
    /// # Errors
    /// [`SendFailure::Denied`] where the request may not leave at all.
    fn target(&self, request: &OutboundRequest) -> Result<String, SendFailure>;
    /// Send one request. A time-out is the request's own. The status counts as soon as it arrives, whatever becomes of the
    /// body; redirects are answers.
    fn send(&self, request: OutboundRequest) -> Sending;
    /// The same, within the room that there is for the answer. What does not ask for it as the body arrives is held to it by the
    /// caller afterwards.
    fn send_within(&self, request: OutboundRequest, _room: Arc<dyn AnswerRoom>) -> Sending {
        self.send(request)
    }
    /// Where the mail's relay is, as [`Transport::target`].
    ///
    /// # Errors
    /// [`SendFailure::Denied`] where the mail may not leave at all.
    fn mail_target(&self, _mail: &OutboundMail) -> Result<String, SendFailure> {
        Err(SendFailure::Denied(NO_MAIL.to_owned()))
    }
    /// Hand a mail to its relay, once: what came of it is a reply, or a failure that says whether the relay may have it.
    fn send_mail(&self, mail: OutboundMail) -> SendingMail {
        let target = self.mail_target(&mail);
        Box::pin(std::future::ready(target.and_then(|_| Err(SendFailure::Denied(NO_MAIL.to_owned())))))
    }
}
