//! The channel's role: messages out, receipts in. Leaves sending, consent, caps, schedule and dead letters to the kernel.
//!
//! A channel never waits. It says which request each message needs, the kernel sends many of them at once, and the channel
//! says what each answer means:
//!
//! ```
//! use kith_plugin_sdk::http::{Request, Response};
//! use kith_plugin_sdk::{Channel, Message, Outcome, SentAnswer, Step};
//!
//! struct Post;
//!
//! impl Channel for Post {
//!     fn requests(messages: Vec<Message>) -> Vec<Step> {
//!         let request = |message: Message| Request::post("https://example.com/hook").body(message.payload);
//!         messages.into_iter().map(|message| request(message).into()).collect()
//!     }
//!
//!     fn outcomes(answers: Vec<SentAnswer>) -> Vec<Step> {
//!         let outcome = |answer: SentAnswer| match answer.result {
//!             Ok(response) if response.is_success() => Outcome::Delivered(None),
//!             Ok(response) => Outcome::Permanent(format!("status {}", response.status)),
//!             Err(error) => Outcome::Retry { after_seconds: None, reason: error.to_string() },
//!         };
//!         answers.into_iter().map(|answer| outcome(answer).into()).collect()
//!     }
//! }
//!
//! // The unit test: no network, no test host.
//! let message = Message { id: "msg_1".into(), payload: "{}".into(), ..Message::default() };
//! let steps = Post::requests(vec![message.clone()]);
//! assert_eq!(steps[0].request().unwrap().url(), "https://example.com/hook");
//! let outcomes = Post::outcomes(vec![SentAnswer::new(message, Ok(Response::new(204)))]);
//! assert_eq!(outcomes, [Step::Done(Outcome::Delivered(None))]);
//! ```

use crate::{Event, Identifier, Problem, Rejection, Timestamp, http, mail};

/// A plugin that delivers messages to people through somebody's service.
pub trait Channel {
    /// The first step for each message, in the same order; exactly one each.
    fn requests(messages: Vec<Message>) -> Vec<Step>;

    /// The next step for each answer to a request, in the same order; exactly one each. A step may be a further request, e.g. the
    /// message after a token; an attempt has at most four. A channel that sends no requests goes without it.
    fn outcomes(answers: Vec<SentAnswer>) -> Vec<Step> {
        let nothing = || Outcome::Permanent("this channel sends no requests".to_owned()).into();
        answers.iter().map(|_| nothing()).collect()
    }

    /// The next step for each mail that was sent, in the same order; exactly one each. By default as [`mail::outcome_of`] has it.
    fn mailed(sent: Vec<SentMail>) -> Vec<Step> {
        sent.iter().map(|sent| mail::outcome_of(&sent.result).into()).collect()
    }

    /// Whether the plugin could work with a configuration that the manifest's schema has admitted, defaults filled in. Asked before
    /// it is installed, changed or upgraded; must not depend on anything else.
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let _ = config;
        Ok(())
    }

    /// The configuration for this version of one that an installation has with an earlier version, `from_version`. Asked at an
    /// upgrade that brings no configuration of its own; what it gives is held against the manifest's schema and `validate`, and
    /// shown before it is in force. Must not depend on anything else. By default it stays as it is.
    fn migrate(from_version: &str, config: &str) -> Result<String, Vec<Problem>> {
        let _ = from_version;
        Ok(config.to_owned())
    }

    /// Turn a provider's call about earlier messages into receipts.
    fn receive(callback: Callback) -> Result<Vec<Receipt>, Rejection> {
        let _ = callback;
        Err(Rejection::new(404, "no-callback", "this channel takes no callbacks"))
    }
}

/// Something to deliver to one person. The kernel's gate has already passed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Stable over all attempts: the receiver's key against doubles.
    pub id: String,
    /// From 1.
    pub attempt: u32,
    /// The person's identifiers of the types that the manifest asks for (`[[capabilities.recipients]]`) and the grant allows.
    pub recipient: Vec<Identifier>,
    /// The profile's id.
    pub profile: String,
    /// What is delivered, as a JSON object.
    pub payload: String,
    /// The manifest's inputs by name, each value as JSON.
    pub inputs: Vec<(String, String)>,
    /// When the kernel decided to send it.
    pub created_at: Timestamp,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

/// What comes next for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this request; its answer comes in a later call of [`Channel::outcomes`].
    Send {
        /// The request. Its time-out is this message's alone.
        request: http::Request,
        /// Handed back as [`SentAnswer::resume`]: a channel keeps nothing between two calls.
        resume: Option<Vec<u8>>,
    },
    /// Send this mail; what comes of it comes in a later call of [`Channel::mailed`].
    Mail {
        /// The mail.
        mail: Box<mail::Mail>,
        /// Handed back as [`SentMail::resume`].
        resume: Option<Vec<u8>>,
    },
    /// The attempt ended.
    Done(Outcome),
}

impl Step {
    /// The request, where the step is to send one.
    pub fn request(&self) -> Option<&http::Request> {
        match self {
            Step::Send { request, .. } => Some(request),
            Step::Mail { .. } | Step::Done(_) => None,
        }
    }

    /// The mail, where the step is to send one.
    pub fn mail(&self) -> Option<&mail::Mail> {
        match self {
            Step::Mail { mail, .. } => Some(mail),
            Step::Send { .. } | Step::Done(_) => None,
        }
    }

    /// The outcome, where the attempt ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Step::Send { .. } | Step::Mail { .. } => None,
            Step::Done(outcome) => Some(outcome),
        }
    }
}

impl From<mail::Mail> for Step {
    fn from(mail: mail::Mail) -> Step {
        Step::Mail { mail: Box::new(mail), resume: None }
    }
}

impl From<http::Request> for Step {
    fn from(request: http::Request) -> Step {
        Step::Send { request, resume: None }
    }
}

impl From<Outcome> for Step {
    fn from(outcome: Outcome) -> Step {
        Step::Done(outcome)
    }
}

/// The answer to a request of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentAnswer {
    /// The message that the request was for.
    pub message: Message,
    /// Which request of the attempt this answers, from 1.
    pub round: u32,
    /// What the step gave as `resume`.
    pub resume: Option<Vec<u8>>,
    /// The answer, or why there is none. Any status is an answer.
    pub result: Result<http::Response, http::Error>,
    /// Whether the answer's headers or body were more or slower than the kernel's limits, or broke. The status counts all the same.
    pub truncated: bool,
}

impl SentAnswer {
    /// The whole answer to the first request of a message, as a unit test writes it.
    pub fn new(message: Message, result: Result<http::Response, http::Error>) -> SentAnswer {
        SentAnswer { message, round: 1, resume: None, result, truncated: false }
    }
}

/// A mail of a message that was handed to a relay, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMail {
    /// The message that the mail was for.
    pub message: Message,
    /// Which request of the attempt it was, from 1.
    pub round: u32,
    /// What the step gave as `resume`.
    pub resume: Option<Vec<u8>>,
    /// What the relay said, or why it said nothing.
    pub result: Result<mail::Reply, http::Error>,
}

impl SentMail {
    /// What came of the first mail of a message, as a unit test writes it.
    pub fn new(message: Message, result: Result<mail::Reply, http::Error>) -> SentMail {
        SentMail { message, round: 1, resume: None, result }
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A provider took it and will try to deliver it, with its id for the message, if it gave one. Receipts tell the rest.
    Accepted(Option<String>),
    /// The other side has it, with its id for the message, if it gave one.
    Delivered(Option<String>),
    /// Try again.
    Retry {
        /// Not before this many seconds; absent means by the kernel's schedule.
        after_seconds: Option<u32>,
        /// What went wrong.
        reason: String,
    },
    /// Will never work for this message.
    Permanent(String),
    /// The endpoint is gone: nothing more should be sent there, this message included.
    Stop(String),
}

/// A call from the provider about earlier messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// `POST`, …
    pub method: String,
    /// The path as the provider asked for it.
    pub path: String,
    /// What follows the `?`, or empty.
    pub query: String,
    /// Names in lower case. Credentials are not among them.
    pub headers: Vec<(String, String)>,
    /// The body, already decompressed.
    pub body: Vec<u8>,
    /// When the kernel received it.
    pub received_at: Timestamp,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

/// One fact about a message, e.g. the event `Message Opened`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The [`Message::id`] it is about.
    pub message_id: String,
    /// What happened.
    pub event: Event,
}
