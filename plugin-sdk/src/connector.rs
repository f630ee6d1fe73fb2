//! The connector's role: bytes in, events out. Leaves authentication, decompression and storage to the kernel.

use crate::{Event, PollAnswer, PollFailure, Problem, Rejection, Timestamp, Turn, Wanted};

/// A plugin that turns what a source sends, or what it can fetch, into events.
pub trait Connector {
    /// Turn a request, or a piece of a file, into events. One bad record goes into [`Received::rejected`]; only a request that is
    /// wholly unusable is rejected.
    fn receive(request: Request) -> Result<Received, Rejection>;

    /// The same for requests that came at the same time, one answer for each, in their order. The kernel asks this way, mostly with
    /// one; by default each is received by itself. To be written where something that all of them need is made once. What is
    /// answered to a request may depend on that request and the configuration alone: where a call of several fails, the kernel
    /// makes it again for a part of them. A connector that is granted hosts or state is only ever asked about one.
    fn receive_all(requests: Vec<Request>) -> Vec<Result<Received, Rejection>> {
        requests.into_iter().map(Self::receive).collect()
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

    /// The first turn of a page that is fetched from the other side. Must not depend on anything but `wanted` and the configuration;
    /// see [`Turn`]. The kernel asks where the manifest has `[poll]`.
    fn poll(wanted: &Wanted) -> Result<Turn, PollFailure> {
        let _ = wanted;
        Err(PollFailure::permanent("this connector does not poll"))
    }

    /// The next turn of a page, after the answers to the requests of the turn before, in their order.
    fn polled(wanted: &Wanted, answers: Vec<PollAnswer>) -> Result<Turn, PollFailure> {
        let _ = (wanted, answers);
        Err(PollFailure::permanent("this connector does not poll"))
    }
}

/// The attribute of a request that holds a record which was set aside.
const REPLAY: &str = "replay";

/// The attribute of a whole request that was set aside.
const AGAIN: &str = "again";

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

    /// Whether the body is one record that was set aside before and comes again by itself. It is UTF-8 whatever the
    /// configuration says; `resume` is what [`Received::resume`] said of the piece that it came in, and `path` is the input's.
    pub fn is_replay(&self) -> bool {
        self.attributes.iter().any(|(name, _)| name == REPLAY)
    }

    /// Whether it was set aside before, as one record or whole, and comes again without its headers but the content type. Who sent
    /// it was checked when it came.
    pub fn comes_again(&self) -> bool {
        self.attributes.iter().any(|(name, _)| name == REPLAY || name == AGAIN)
    }

    /// The same request as the kernel sends it with a record that was set aside, for unit tests.
    #[must_use]
    pub fn as_replay(mut self) -> Request {
        self.attributes.push((REPLAY.to_owned(), String::new()));
        self
    }

    /// The same request as the kernel sends it where the whole of it was set aside, for unit tests.
    #[must_use]
    pub fn as_again(mut self) -> Request {
        self.attributes.push((AGAIN.to_owned(), String::new()));
        self
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

/// The most bytes of the offending input that a [`Rejected`] keeps: the largest message that Segment's clients send, so that
/// it can be corrected and tried again. The kernel bounds how many are kept.
const MAX_RAW_BYTES: usize = 32 * 1024;

impl Rejected {
    /// A rejected part; `raw` is cut at 32 KiB.
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
    /// Handed to the next call of the same input, and again with a record of this piece that comes by itself
    /// ([`Request::is_replay`]): what a header said. For that it is wanted of a complete request too; more than 4 KiB are not
    /// kept.
    pub resume: Option<Vec<u8>>,
    /// Sent once the events are durable; absent means the kernel's own answer with counts and rejected parts.
    pub answer: Option<Answer>,
    /// What was assumed about the input where nothing said it, for a person: `("encoding", "windows-1252, a guess")`. Those of the last
    /// piece stand in the kernel's own answer.
    pub notes: Vec<(String, String)>,
}
