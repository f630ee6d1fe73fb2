//! Events: what a connector found ([`DraftEvent`]) and what the log holds ([`Event`]).

use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, Position, SourceIdentityId};
use crate::identity::Identifier;
use crate::time::Timestamp;

/// What an event is, in Segment's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    #[default]
    Track,
    Identify,
    Page,
    Screen,
    Group,
    Alias,
}

impl EventKind {
    /// The kind's name in the API, e.g. `track`.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Track => "track",
            EventKind::Identify => "identify",
            EventKind::Page => "page",
            EventKind::Screen => "screen",
            EventKind::Group => "group",
            EventKind::Alias => "alias",
        }
    }
}

/// How an event came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventOrigin {
    /// A sender told of it as it happened.
    #[default]
    Client,
    /// It was imported: it tells of the past, and sets nothing off unless that was asked for.
    Import,
    /// The kernel tells of its own work, such as a message that was delivered. It is no activity of the person: only a
    /// condition that names the event counts it.
    Kernel,
}

/// An event as a connector found it, not yet checked, tied to nobody and not stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DraftEvent {
    pub kind: EventKind,
    pub message_id: Option<String>,
    pub name: String,
    pub time: Option<Timestamp>,
    pub sent_at: Option<Timestamp>,
    pub identifiers: Vec<Identifier>,
    /// A JSON object as text, or empty for none; the same for `traits` and `context`.
    pub properties: String,
    pub traits: String,
    pub context: String,
    /// What was odd in the input and how it was read, as [`Event::flags`].
    pub flags: Vec<String>,
    /// The time as it came, where `time` does not say all of it.
    pub original_time: Option<String>,
}

/// A stored event. Immutable; it keeps the source identity it came with for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub message_id: String,
    pub kind: EventKind,
    pub name: String,
    /// When it happened, by the kernel's clock.
    pub time: Timestamp,
    pub received_at: Timestamp,
    pub source: InstallationId,
    pub identity: SourceIdentityId,
    pub identifiers: Vec<Identifier>,
    /// A JSON object as text, or empty for none; the same for `traits` and `context`.
    pub properties: String,
    pub traits: String,
    pub context: String,
    pub origin: EventOrigin,
    /// What was odd in it and what was done about it: a code, and behind a colon the place, e.g. `clock-corrected` or
    /// `half-surrogate:properties.title`. The codes are those of [`crate::flag`], and a plugin's own.
    pub flags: Vec<String>,
    /// The time as the sender wrote it, where `time` is another moment or does not say all of it.
    pub original_time: Option<String>,
    /// Where it stood in what brought it, if its connector said: the line of the file from 1, or the index in the request from 0.
    /// Otherwise 0.
    pub place: u64,
    /// Which version of its connector read it, by the number that the version has among those of the source. 0 for what no plugin
    /// read, and for an event of before they had numbers.
    pub reader: u32,
}

/// An event with its place in the log: proof that it is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    pub position: Position,
    pub event: Event,
}

/// A part of an input that could not become an event; kept aside, never dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRecord {
    /// The line in a file (from 1) or the index in a batch (from 0).
    pub place: u64,
    /// Stable, e.g. `missing-identifier`.
    pub code: String,
    pub message: String,
    /// The offending input as it came, cut at [`MAX_RAW_BYTES`].
    pub raw: String,
}

/// The longest name of an event, in bytes.
pub const MAX_EVENT_NAME_BYTES: usize = 256;

/// What is kept of a record that could not become an event, in bytes: the largest message that Segment's clients send.
pub const MAX_RAW_BYTES: usize = 32 << 10;
