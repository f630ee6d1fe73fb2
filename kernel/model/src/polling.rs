//! Polling for a connector of contract 0.2: the plugin says which requests it wants for a page and reads the answers, the
//! kernel sends. Both calls are pure, as a channel's are ([`crate::sending`]); one of contract 0.1 fetches a page in one call.

use crate::event::{DraftEvent, RejectedRecord};
use crate::plugin::{PluginFault, RecordPlace};
use crate::sending::{InboundResponse, OutboundRequest, SendFailure};
use crate::time::Timestamp;

/// Which page is wanted; the same in every call for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedPage {
    /// [`PolledPage::cursor`] of the page before.
    pub cursor: Option<Vec<u8>>,
    /// When the kernel began this page.
    pub now: Timestamp,
    /// When it began the last page that it kept.
    pub since: Option<Timestamp>,
}

/// What comes next for a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PollTurn {
    /// Send these and hand over all answers at once.
    Send(Vec<OutboundRequest>),
    /// The page is complete.
    Page(PolledPage),
}

/// One page of a poll.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolledPage {
    pub events: Vec<DraftEvent>,
    /// Where each event stands on the page, in the same order.
    pub places: Vec<RecordPlace>,
    pub rejected: Vec<RejectedRecord>,
    pub cursor: Vec<u8>,
    /// Whether another page is waiting now.
    pub more: bool,
}

/// The answer to a request of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PollAnswer {
    /// Which round of the page it answers, from 1.
    pub round: u32,
    /// [`OutboundRequest::resume`] of the request.
    pub resume: Option<Vec<u8>>,
    pub result: Result<InboundResponse, SendFailure>,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PollError {
    /// The other side cannot now.
    #[error("{reason}")]
    Later {
        /// Not before so long.
        after_ms: Option<u64>,
        reason: String,
    },
    /// Asking again will not help until somebody changes something.
    #[error("{0}")]
    Permanent(String),
    /// The call itself failed.
    #[error(transparent)]
    Fault(#[from] PluginFault),
}

impl PollError {
    /// What a failure in the words of contract 0.1 says.
    pub fn of_failure(failure: PluginFault) -> PollError {
        match failure {
            PluginFault::Transient(reason) => PollError::Later { after_ms: None, reason },
            PluginFault::Permanent(reason) | PluginFault::BadInput(reason) => PollError::Permanent(reason),
            fault => PollError::Fault(fault),
        }
    }
}
