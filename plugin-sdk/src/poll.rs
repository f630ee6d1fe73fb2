//! A connector's poll: a page is fetched in two pure calls, requests out and answers in, between which the kernel sends.
//! Leaves schedule, back-off, time-outs and the keeping of the cursor to the kernel.
//!
//! ```
//! use kith_plugin_sdk::{Connector, Event, Page, PollAnswer, PollFailure, Received, Rejection, Request, Turn, Wanted, http, testing};
//!
//! struct Orders;
//!
//! impl Connector for Orders {
//!     fn receive(_: Request) -> Result<Received, Rejection> {
//!         Err(Rejection::new(404, "no-push", "this connector only polls"))
//!     }
//!
//!     fn poll(wanted: &Wanted) -> Result<Turn, PollFailure> {
//!         let after = wanted.cursor_text().unwrap_or("0");
//!         Ok(http::Request::get(format!("https://example.com/orders?after={after}")).into())
//!     }
//!
//!     fn polled(_: &Wanted, answers: Vec<PollAnswer>) -> Result<Turn, PollFailure> {
//!         let mut page = Page::default();
//!         for answer in answers {
//!             let order = answer.success()?.text();
//!             page.events.push(Event::track("Order").with_identifier("user_id", &order).with_message_id(&order));
//!             page.cursor = order.into_bytes();
//!         }
//!         Ok(page.into())
//!     }
//! }
//!
//! // The unit test: no network.
//! let (page, record) = testing::Host::new().http_answer(Ok(http::Response::new(200).with_body("17"))).poll::<Orders>(None);
//! assert_eq!(page.unwrap().cursor, b"17");
//! assert_eq!(record.requests[0].url(), "https://example.com/orders?after=0");
//! let busy = http::Response::new(429).with_header("retry-after", "60");
//! let (page, _) = testing::Host::new().http_answer(Ok(busy)).poll::<Orders>(Some(b"17"));
//! assert_eq!(page.unwrap_err().after_seconds(), Some(60));
//! ```

use std::fmt;

use crate::{Event, Failure, Rejected, Timestamp, http};

/// Which page is wanted; the same in every call for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// [`Page::cursor`] of the page before; `None` at the very first, and where an admin has it fetched from the start.
    pub cursor: Option<Vec<u8>>,
    /// When the kernel began this page, by its clock.
    pub now: Timestamp,
    /// When it began the last page that it kept; `None` where `cursor` is.
    pub since: Option<Timestamp>,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

impl Wanted {
    /// The cursor as text; `None` where there is none or it is no UTF-8.
    pub fn cursor_text(&self) -> Option<&str> {
        self.cursor.as_deref().and_then(|cursor| std::str::from_utf8(cursor).ok())
    }
}

/// A request of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollRequest {
    /// The request.
    pub request: http::Request,
    /// Handed back as [`PollAnswer::resume`]: a poll keeps nothing between two calls.
    pub resume: Option<Vec<u8>>,
}

impl From<http::Request> for PollRequest {
    fn from(request: http::Request) -> PollRequest {
        PollRequest { request, resume: None }
    }
}

/// What comes next for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Send these, several at once; their answers come in one call of [`Connector::polled`](crate::Connector::polled). At least
    /// one, and at most sixteen for a page over all its rounds.
    Send(Vec<PollRequest>),
    /// The page is complete.
    Page(Page),
}

impl From<http::Request> for Turn {
    fn from(request: http::Request) -> Turn {
        Turn::Send(vec![request.into()])
    }
}

impl From<PollRequest> for Turn {
    fn from(request: PollRequest) -> Turn {
        Turn::Send(vec![request])
    }
}

impl From<Page> for Turn {
    fn from(page: Page) -> Turn {
        Turn::Page(page)
    }
}

/// One page of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The events, oldest first where the other side has an order. One without an id gets one by what it says, so that the same
    /// record of a page that comes again is the same event; those that are alike are told apart by their number on a page.
    pub events: Vec<Event>,
    /// The parts that could not become events. One that is tried again comes to [`Connector::receive`](crate::Connector::receive) as a
    /// [replay](crate::Request::is_replay) with the path `poll`.
    pub rejected: Vec<Rejected>,
    /// Where the next page begins; kept in the same commit as the last of the events, which is that of all of them up to 1,000. At
    /// most 64 KiB.
    pub cursor: Vec<u8>,
    /// Whether another page is waiting now.
    pub more: bool,
}

/// The answer to a request of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollAnswer {
    /// Which round of the page this answers, from 1.
    pub round: u32,
    /// What the request came with as `resume`.
    pub resume: Option<Vec<u8>>,
    /// The answer, or why there is none. Any status is an answer.
    pub result: Result<http::Response, http::Error>,
    /// Whether the answer's headers or body were more or slower than the kernel's limits, or broke. The status counts all the same.
    pub truncated: bool,
}

impl PollAnswer {
    /// The whole answer to a request of the first round, as a unit test writes it.
    pub fn new(result: Result<http::Response, http::Error>) -> PollAnswer {
        PollAnswer { round: 1, resume: None, result, truncated: false }
    }

    /// The answer where it is whole and its status is 2xx.
    ///
    /// # Errors
    /// What a poll makes of everything else: 408, 425, 429, 5xx and no answer mean later, by `Retry-After` where it says seconds; an
    /// answer that is cut or broken means later too; any other status is for good.
    pub fn success(self) -> Result<http::Response, PollFailure> {
        let response = self.result?;
        if !response.is_success() {
            return Err(PollFailure::of_status(&response));
        }
        if self.truncated {
            return Err(PollFailure::later("the answer is larger than the kernel takes, or broke"));
        }
        Ok(response)
    }
}

/// Why there is no page. The words go to the log and to the admin: name the thing and say what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollFailure {
    /// The other side cannot now: the kernel asks again.
    Later {
        /// Not before this many seconds, e.g. what `Retry-After` said; absent means by the kernel's schedule.
        after_seconds: Option<u32>,
        /// What went wrong.
        reason: String,
    },
    /// Asking again will not help until somebody changes something.
    Permanent(String),
}

impl PollFailure {
    /// The other side cannot now.
    pub fn later(reason: impl Into<String>) -> PollFailure {
        PollFailure::Later { after_seconds: None, reason: reason.into() }
    }

    /// Asking again will not help until somebody changes something.
    pub fn permanent(reason: impl Into<String>) -> PollFailure {
        PollFailure::Permanent(reason.into())
    }

    /// What a status other than 2xx means; see [`PollAnswer::success`].
    pub fn of_status(response: &http::Response) -> PollFailure {
        let reason = format!("status {}", response.status);
        match response.status {
            408 | 425 | 429 | 500..=599 => {
                let after_seconds = response.header("retry-after").and_then(|wait| wait.trim().parse().ok());
                PollFailure::Later { after_seconds, reason }
            }
            _ => PollFailure::Permanent(reason),
        }
    }

    /// How many seconds the kernel is to wait at least, where that was said.
    pub fn after_seconds(&self) -> Option<u32> {
        match self {
            PollFailure::Later { after_seconds, .. } => *after_seconds,
            PollFailure::Permanent(_) => None,
        }
    }
}

impl fmt::Display for PollFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PollFailure::Later { after_seconds: Some(seconds), reason } => {
                write!(f, "not before {seconds} s: {reason}")
            }
            PollFailure::Later { after_seconds: None, reason } => write!(f, "later: {reason}"),
            PollFailure::Permanent(reason) => write!(f, "permanent failure: {reason}"),
        }
    }
}

impl std::error::Error for PollFailure {}

/// A configuration that does not read, an answer that does not read as what it should be.
impl From<Failure> for PollFailure {
    fn from(failure: Failure) -> PollFailure {
        match failure {
            Failure::Transient(reason) => PollFailure::later(reason),
            Failure::BadInput(reason) | Failure::Permanent(reason) | Failure::UnreadableState(reason) => {
                PollFailure::Permanent(reason)
            }
        }
    }
}

impl From<http::Error> for PollFailure {
    fn from(error: http::Error) -> PollFailure {
        PollFailure::from(Failure::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connector, Received, Rejection, Request, testing};

    /// A token first, then as many pages at once as it names.
    struct Rounds;

    impl Connector for Rounds {
        fn receive(_: Request) -> Result<Received, Rejection> {
            Ok(Received::default())
        }

        fn poll(_: &Wanted) -> Result<Turn, PollFailure> {
            Ok(http::Request::post("https://x/token").into())
        }

        fn polled(wanted: &Wanted, answers: Vec<PollAnswer>) -> Result<Turn, PollFailure> {
            if answers.iter().all(|answer| answer.round == 1) {
                let request = |part: &str| PollRequest {
                    request: http::Request::get(format!("https://x/{part}")),
                    resume: Some(part.into()),
                };
                return Ok(Turn::Send(vec![request("a"), request("b")]));
            }
            let parts: Vec<Vec<u8>> = answers.iter().filter_map(|answer| answer.resume.clone()).collect();
            let more = wanted.cursor.is_none();
            Ok(Page { cursor: parts.concat(), more, ..Page::default() }.into())
        }
    }

    #[test]
    fn rounds_are_driven_and_answered_in_order() {
        let host = || testing::Host::new().http(|_| Ok(http::Response::new(200)));
        let (page, record) = host().poll::<Rounds>(None);
        assert_eq!(page, Ok(Page { cursor: b"ab".to_vec(), more: true, ..Page::default() }));
        let urls: Vec<&str> = record.requests.iter().map(http::Request::url).collect();
        assert_eq!(urls, ["https://x/token", "https://x/a", "https://x/b"]);
        assert!(!host().poll::<Rounds>(Some(b"ab")).0.unwrap().more);
    }

    #[test]
    fn what_is_no_success_is_later_or_for_good() {
        let of = |response: http::Response| PollAnswer::new(Ok(response)).success().unwrap_err();
        let busy = of(http::Response::new(429).with_header("Retry-After", " 30 "));
        assert_eq!(busy, PollFailure::Later { after_seconds: Some(30), reason: "status 429".to_owned() });
        assert_eq!(of(http::Response::new(503)).after_seconds(), None);
        assert!(matches!(of(http::Response::new(404)), PollFailure::Permanent(_)));
        let cut = PollAnswer { truncated: true, ..PollAnswer::new(Ok(http::Response::new(200))) };
        assert!(matches!(cut.success(), Err(PollFailure::Later { .. })));
        let gone = PollAnswer::new(Err(http::Error::Timeout("10 s".to_owned()))).success();
        assert!(matches!(gone, Err(PollFailure::Later { .. })));
        let denied = PollAnswer::new(Err(http::Error::Denied("not granted".to_owned()))).success();
        assert!(matches!(denied, Err(PollFailure::Permanent(_))));
    }

    /// A poll that sends for itself.
    struct Impure;

    impl Connector for Impure {
        fn receive(_: Request) -> Result<Received, Rejection> {
            Ok(Received::default())
        }

        fn poll(_: &Wanted) -> Result<Turn, PollFailure> {
            http::Request::get("https://x/").send()?;
            Ok(Page::default().into())
        }
    }

    #[test]
    fn a_poll_sends_nothing_itself() {
        let (page, record) = testing::Host::new().http(|_| Ok(http::Response::new(200))).poll::<Impure>(None);
        assert!(matches!(page, Err(PollFailure::Permanent(why)) if why.contains("itself")));
        assert!(record.requests.is_empty());
    }
}
