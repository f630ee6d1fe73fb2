//! The connector's role: bytes in, events out. Leaves authentication, decompression and storage to the kernel.

use crate::{Event, Failure, Rejection, Timestamp};

/// A plugin that turns what a source sends, or what it can fetch, into events.
pub trait Connector {
    /// Turn a request, or a piece of a file, into events. One bad record goes into [`Received::rejected`]; only a request that is
    /// wholly unusable is rejected.
    fn receive(request: Request) -> Result<Received, Rejection>;

    /// Fetch the next page after `cursor` from the other side; `None` begins at the beginning.
    fn poll(cursor: Option<Vec<u8>>) -> Result<Page, Failure> {
        let _ = cursor;
        Err(Failure::permanent("this connector does not poll"))
    }
}

/// A request to the source, or a piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST`, …
    pub method: String,
    /// The path as the client asked for it, e.g. `/v1/batch`.
    pub path: String,
    /// What follows the `?`, or empty.
    pub query: String,
    /// Names in lower case. Credentials are not among them.
    pub headers: Vec<(String, String)>,
    /// The bytes not yet consumed. Already decompressed.
    pub body: Vec<u8>,
    /// Whether `body` ends the input. Where it does not, the plugin may consume a part, or nothing, to be called again with more.
    pub complete: bool,
    /// What the plugin answered as `resume` for the piece before.
    pub resume: Option<Vec<u8>>,
    /// When the kernel received it.
    pub received_at: Timestamp,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

impl Request {
    /// A complete `POST` of `body` to `path`, as a unit test writes it.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
        Request {
            method: "POST".to_owned(),
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            body: body.into(),
            complete: true,
            resume: None,
            received_at: 0,
            attributes: Vec::new(),
        }
    }

    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// A part of the input that could not become an event. It is kept aside and reported, never dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where: the line in a file (from 1) or the index in a batch (from 0).
    pub place: u64,
    /// Stable, e.g. `missing-identifier`.
    pub code: String,
    /// What is wrong and what to do, for a person.
    pub message: String,
    /// The offending input as it came.
    pub raw: String,
}

/// The most bytes of the offending input that a [`Rejected`] keeps: enough to recognise the record, small enough that a file of
/// nothing but bad lines does not become a second copy of itself.
const MAX_RAW_BYTES: usize = 4096;

impl Rejected {
    /// A rejected part; `raw` is cut at 4 KiB.
    pub fn new(place: u64, code: impl Into<String>, message: impl Into<String>, raw: &str) -> Rejected {
        let end = raw.floor_char_boundary(MAX_RAW_BYTES);
        Rejected { place, code: code.into(), message: message.into(), raw: raw[..end].to_owned() }
    }
}

/// The exact HTTP answer that a client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body's media type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What a connector made of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The events, in the order of the input.
    pub events: Vec<Event>,
    /// The parts that could not become events.
    pub rejected: Vec<Rejected>,
    /// How many bytes of `body` these came from. Must be all of them when the request was `complete`.
    pub consumed: u64,
    /// Handed to the next call of the same input.
    pub resume: Option<Vec<u8>>,
    /// Sent once the events are durable; absent means the kernel's own answer with counts and rejected parts.
    pub answer: Option<Answer>,
    /// What was assumed about the input where nothing said it, for a person: `("encoding", "windows-1252, a guess")`. Those of the last
    /// piece stand in the kernel's own answer.
    pub notes: Vec<(String, String)>,
}

/// One page of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The events, oldest first where the other side has an order.
    pub events: Vec<Event>,
    /// The parts that could not become events.
    pub rejected: Vec<Rejected>,
    /// Where the next poll goes on; kept in the same commit as the events.
    pub cursor: Vec<u8>,
    /// Whether another page is waiting now.
    pub more: bool,
}
