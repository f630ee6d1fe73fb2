//! The channel's role: messages out, receipts in. Leaves consent, caps, schedule and dead letters to the kernel's gate and outbox.

use crate::{Event, Identifier, Rejection, Timestamp};

/// A plugin that delivers messages to people through somebody's service.
pub trait Channel {
    /// Try to deliver; one outcome for each message, in the same order.
    fn send(messages: Vec<Message>) -> Vec<Outcome>;

    /// Turn a provider's call about earlier messages into receipts.
    fn receive(callback: Callback) -> Result<Vec<Receipt>, Rejection> {
        let _ = callback;
        Err(Rejection::new(404, "no-callback", "this channel takes no callbacks"))
    }
}

/// Something to deliver to one person. The kernel's gate has already passed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Stable over all attempts: the receiver's key against doubles.
    pub id: String,
    /// From 1.
    pub attempt: u32,
    /// The person's identifiers that the grant allows.
    pub recipient: Vec<Identifier>,
    /// The profile's id.
    pub profile: String,
    /// What is delivered, as a JSON object.
    pub payload: String,
    /// When the kernel decided to send it.
    pub created_at: Timestamp,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted by the other side, with its id for the message, if it gave one.
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
}

/// One fact about a message, e.g. the event `Message Opened`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The [`Message::id`] it is about.
    pub message_id: String,
    /// What happened.
    pub event: Event,
}
