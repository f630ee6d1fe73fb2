//! The four roles as traits, and what goes in and comes out of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Dataset, PluginFault};
use crate::delivery::{Message, Outcome};
use crate::event::{DraftEvent, RejectedRecord};
use crate::polling::{PollAnswer, PollError, PollTurn, WantedPage};
use crate::sending::Transport;
use crate::table::Table;
use crate::time::Timestamp;

/// A request to a source, or a piece of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case; no credentials.
    pub headers: Vec<(String, String)>,
    /// The bytes not yet consumed, decompressed.
    pub body: Vec<u8>,
    /// Whether `body` ends the input.
    pub complete: bool,
    /// What the connector answered as `resume` for the piece before.
    pub resume: Option<Vec<u8>>,
    pub received_at: Timestamp,
    pub replayed: ReplayScope,
}

/// Whether a request was set aside before, and comes again without its headers: who sent it was checked when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayScope {
    #[default]
    No,
    /// The body is one record by itself, in UTF-8.
    Record,
    /// The body is that of the whole request.
    Request,
}

/// The exact HTTP answer that a client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Where a record stands in its input, as far as the connector says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordPlace {
    /// The line in a file (from 1) or the index in a batch (from 0).
    pub place: Option<u64>,
    /// Its text, in bytes of the body.
    pub span: Option<Range<usize>>,
}

/// What a connector made of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub events: Vec<DraftEvent>,
    /// Where each event stands in the input, in the same order; of what lies behind the last of these nothing is known.
    pub places: Vec<RecordPlace>,
    pub rejected: Vec<RejectedRecord>,
    /// How many bytes of the body these came from.
    pub consumed: usize,
    /// For the next piece of the input, and for a record of this piece that comes again by itself.
    pub resume: Option<Vec<u8>>,
    /// `None` means the kernel's own answer with counts and rejected parts.
    pub answer: Option<Answer>,
    /// What the plugin assumed about the input, name and text.
    pub notes: Vec<(String, String)>,
}

/// A connector refuses a whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

/// How a connector's `receive` can end other than well.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceiveError {
    Refused(Refusal),
    Fault(PluginFault),
}

/// What fitting gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    pub state: Vec<u8>,
    pub metrics: Vec<(String, f64)>,
}

/// Bytes in, events out.
pub trait Connector: Send + Sync {
    /// Turn a request, or a piece of a file, into events.
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError>;
    /// The same for several requests: an answer for each, in their order. A fault is one of a call for all of them, and says
    /// nothing of any: whoever wants to know of which it is makes smaller calls.
    fn receive_all(&self, requests: &[&SourceRequest]) -> Result<Vec<Result<Received, ReceiveError>>, PluginFault> {
        Ok(requests.iter().map(|request| self.receive(request)).collect())
    }
    /// A call for several requests failed so, and none of them did where it was called alone: the fault is counted here.
    fn failed_together(&self, fault: &PluginFault) {
        let _ = fault;
    }
    /// Whether [`Connector::receive_all`] is one call that leaves nothing behind, so that requests gain by it and it can be made
    /// again after a fault.
    fn takes_several(&self) -> bool {
        false
    }
    /// The first turn of a page that is fetched from the other side.
    fn poll(&self, wanted: &WantedPage) -> Result<PollTurn, PollError> {
        let _ = wanted;
        Err(PollError::Permanent("this connector does not poll".to_owned()))
    }
    /// The next turn of a page, after the answers to the requests of the one before, in their order.
    fn polled(&self, wanted: &WantedPage, answers: &[PollAnswer]) -> Result<PollTurn, PollError> {
        let _ = answers;
        self.poll(wanted)
    }
    /// What sends this installation's requests, under its grants and with its secrets; `None` where it never asks for one.
    fn transport(&self) -> Option<Arc<dyn Transport>> {
        None
    }
}

/// Tells a long call that nobody wants its answer any more. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Let the call end as soon as it can; for good.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the call is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// An event that a model tells of a person beside its answer, not yet checked. It happens when the answer is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedEvent {
    /// Of a `track` event.
    pub name: String,
    /// A JSON object as text, or empty for none.
    pub properties: String,
    /// What makes it one: the same name and key of the same person are one event for good. Empty: its properties are that.
    pub key: String,
}

impl EmittedEvent {
    /// What an event counts beside its texts.
    const OWN_BYTES: usize = 64;

    /// What it counts of the bytes that a call may emit.
    pub fn size_bytes(&self) -> usize {
        EmittedEvent::OWN_BYTES + self.name.len() + self.properties.len() + self.key.len()
    }
}

/// What a model says of a table of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAnswer {
    pub table: Table,
    /// Events, each with the number of the row that it is of, from 0; in the order in which they were emitted.
    pub events: Vec<(u32, EmittedEvent)>,
}

/// Columns in, columns out: the shape that tag models and scorers share.
pub trait ComputeModel: Send + Sync {
    /// Learn from the rows of `dataset`. Ends soon after `cancellation` with [`PluginFault::Cancelled`].
    fn fit(&self, dataset: Box<dyn Dataset>, cancellation: &Cancellation) -> Result<Fitted, PluginFault>;
    /// One row of outputs for each row of `rows`, in the same order; one column for each output of the manifest.
    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault>;
    /// The same with the events that it emits; by default none.
    fn answer(&self, state: &[u8], rows: Table) -> Result<ModelAnswer, PluginFault> {
        Ok(ModelAnswer { table: self.compute(state, rows)?, events: Vec::new() })
    }
    /// Begin a pass over several tables with one state, on this thread. Its answers are those of [`ComputeModel::answer`]; what the
    /// model sets up for one table may serve the next, and ends with the pass.
    fn pass<'a>(&'a self, state: &'a [u8]) -> Box<dyn ModelPass + 'a> {
        Box::new(CallEach { model: self, state })
    }
}

/// A model that is asked about one table after another.
pub trait ModelPass {
    /// What the model says of the next table.
    fn answer(&mut self, rows: Table) -> Result<ModelAnswer, PluginFault>;
}

/// A pass in which nothing of one table serves the next.
struct CallEach<'a, M: ?Sized> {
    model: &'a M,
    state: &'a [u8],
}

impl<M: ComputeModel + ?Sized> ModelPass for CallEach<'_, M> {
    fn answer(&mut self, rows: Table) -> Result<ModelAnswer, PluginFault> {
        self.model.answer(self.state, rows)
    }
}

/// A call from a provider about earlier messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Callback {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub received_at: Timestamp,
}

/// A fact about a message, as an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub message_id: String,
    pub event: DraftEvent,
}

/// A channel of contract 0.1, which sends its requests itself. Contract 0.2's is [`crate::sending::PureChannel`].
pub trait Channel: Send + Sync {
    /// Try to deliver; one outcome for each message, in the same order.
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault>;
    /// Turn a provider's callback into receipts.
    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError>;
}
