//! Dead letters as the pipeline shows them, and what came of doing something about one.

use std::collections::BTreeSet;

use kith_model::delivery::DeliveryState;
use kith_model::event::RejectedRecord;
use kith_model::id::{InstallationId, Position, ProfileId};
use kith_model::time::Timestamp;

use super::DeliveryView;

/// Something that did not work and is kept until somebody deals with it.
#[derive(Debug, Clone, PartialEq)]
pub enum DeadLetter {
    /// An input that could not become an event.
    Record(Box<RecordLetter>),
    /// A compute plugin's batch that failed; the profiles keep their older values.
    Computation {
        id: String,
        installation: InstallationId,
        /// When it last happened.
        at: Timestamp,
        /// When it happened first.
        since: Timestamp,
        code: String,
        message: String,
        profiles: u64,
        /// The plugin and its version; empty where the letter does not say.
        plugin: String,
        /// The columns of its input.
        inputs: Vec<String>,
        /// Whom it happened to last, the newest last.
        people: Vec<FailedPerson>,
    },
    /// Something stored that cannot be read, or is too large to be written; the work went on without it.
    Unreadable { id: String, at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
    /// A message that was given up.
    Delivery(DeliveryView),
}

/// A person on whom a compute plugin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedPerson {
    pub profile: ProfileId,
    /// SHA-256 of the row that the plugin was given, as one line of JSON with a member for each column; `None` where it was given
    /// none, and in letters of a release that did not say.
    pub row_sha256: Option<[u8; 32]>,
}

/// A record that was set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordLetter {
    pub id: String,
    pub source: InstallationId,
    pub first_at: Timestamp,
    /// When the same record last came and was refused for the same reason.
    pub last_at: Timestamp,
    pub times: u64,
    pub record: RejectedRecord,
    /// In which it came; absent where that is not known.
    pub path: Option<String>,
    /// Whether an admin has corrected it.
    pub is_edited: bool,
    /// Whether all of it was kept.
    pub is_whole: bool,
    /// Why it cannot be tried again as it is.
    pub obstacle: Option<&'static str>,
}

/// What a dead letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterKind {
    Record,
    Computation,
    Delivery,
    Unreadable,
}

impl LetterKind {
    /// All of them.
    pub const ALL: [LetterKind; 4] =
        [LetterKind::Record, LetterKind::Computation, LetterKind::Delivery, LetterKind::Unreadable];

    /// The kind as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            LetterKind::Record => "record",
            LetterKind::Computation => "computation",
            LetterKind::Delivery => "delivery",
            LetterKind::Unreadable => "unreadable",
        }
    }
}

impl DeadLetter {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            DeadLetter::Record(letter) => &letter.id,
            DeadLetter::Computation { id, .. } | DeadLetter::Unreadable { id, .. } => id,
            DeadLetter::Delivery(view) => &view.id,
        }
    }

    /// The source, model or channel that it is of; 0 for what cannot be read.
    pub fn source(&self) -> InstallationId {
        match self {
            DeadLetter::Record(letter) => letter.source,
            DeadLetter::Computation { installation, .. } => *installation,
            DeadLetter::Unreadable { .. } => InstallationId(0),
            DeadLetter::Delivery(view) => view.channel,
        }
    }

    /// What it is, its reason, and when it last happened.
    pub fn about(&self) -> (LetterKind, &str, Timestamp) {
        match self {
            DeadLetter::Record(letter) => (LetterKind::Record, &letter.record.code, letter.last_at),
            DeadLetter::Computation { code, at, .. } => (LetterKind::Computation, code, *at),
            DeadLetter::Unreadable { at, .. } => (LetterKind::Unreadable, "unreadable", *at),
            DeadLetter::Delivery(view) => (LetterKind::Delivery, view.state.name(), view.dead_at()),
        }
    }

    /// When it happened first.
    pub fn first_at(&self) -> Timestamp {
        match self {
            DeadLetter::Record(letter) => letter.first_at,
            DeadLetter::Computation { since, .. } => *since,
            DeadLetter::Unreadable { .. } | DeadLetter::Delivery(_) => self.about().2,
        }
    }

    /// How often it happened; of a computation, to how many people.
    pub fn times(&self) -> u64 {
        match self {
            DeadLetter::Record(letter) => letter.times,
            DeadLetter::Computation { profiles, .. } => *profiles,
            DeadLetter::Unreadable { .. } | DeadLetter::Delivery(_) => 1,
        }
    }

    /// What it takes in an answer that shows it whole, about.
    pub(crate) fn len_bytes(&self) -> usize {
        const OTHER_BYTES: usize = 256;
        let of_texts = match self {
            DeadLetter::Record(letter) => letter.record.raw.len() + letter.record.message.len(),
            DeadLetter::Computation { message, .. } => message.len(),
            DeadLetter::Unreadable { problem, raw, .. } => problem.len() + raw.len(),
            DeadLetter::Delivery(view) => view.payload.len(),
        };
        of_texts + OTHER_BYTES
    }

    /// What is searched for a text.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            DeadLetter::Record(letter) => vec![letter.record.message.clone(), letter.record.raw.clone()],
            DeadLetter::Computation { message, .. } => vec![message.clone()],
            DeadLetter::Unreadable { problem, raw, .. } => {
                vec![problem.clone(), String::from_utf8_lossy(raw).into_owned()]
            }
            DeadLetter::Delivery(view) => match &view.state {
                DeliveryState::Dead { reason, .. } => vec![reason.clone(), view.payload.clone()],
                _ => vec![view.payload.clone()],
            },
        }
    }
}

impl DeliveryView {
    /// When it was given up; when it was made, where it was not.
    fn dead_at(&self) -> Timestamp {
        match self.state {
            DeliveryState::Dead { at, .. } | DeliveryState::Unknown { since: at, .. } => at,
            DeliveryState::Pending { .. }
            | DeliveryState::Sending { .. }
            | DeliveryState::Delivered { .. }
            | DeliveryState::Accepted { .. }
            | DeliveryState::Skipped { .. } => self.created_at,
        }
    }
}

/// Which dead letters a list holds: those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Sources, models and channels.
    pub sources: Option<BTreeSet<InstallationId>>,
    pub kind: Option<LetterKind>,
    pub code: Option<String>,
    /// That last happened then or later.
    pub since: Option<Timestamp>,
    /// That last happened before.
    pub until: Option<Timestamp>,
    /// That have this text in the record, the payload or the reason, whatever the case.
    pub text: Option<String>,
}

/// A dead letter and the cursor of the page that begins with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedLetter {
    pub place: String,
    pub letter: DeadLetter,
}

/// Dead letters of one source, kind and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterCount {
    pub source: InstallationId,
    pub kind: LetterKind,
    pub code: String,
    pub letters: u64,
    /// How often these happened.
    pub times: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// Dead letters by source, kind and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterCounts {
    pub counts: Vec<LetterCount>,
    /// Letters of further sources, kinds and reasons than are told apart.
    pub others: u64,
    /// Whether all were counted.
    pub is_whole: bool,
}

/// What came of the wish to try a dead letter again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// A message is in its outbox.
    Begun,
    /// A model is asked again about so many people of the computation's letter, which goes once it has answered for them.
    AskedAgain { installation: InstallationId, code: &'static str, people: u64 },
    /// A record was taken, and its letter is gone.
    Taken { accepted: u64, duplicate: u64 },
    /// A record was refused again; its letter stays, with this reason.
    Refused { code: String, message: String },
    /// It could not be tried; the letter stays as it is.
    Failed { code: String, message: String },
    /// It cannot be tried as it is.
    Impossible(&'static str),
    /// There is no dead letter of that id.
    NoLetter,
    /// The message's audience was removed, and a message of that never leaves.
    AudienceRemoved,
    /// The record's source was removed.
    SourceRemoved,
    /// The model was removed, so that nobody can be asked.
    InstallationRemoved,
    /// The model does not run, so that it cannot be asked now.
    NotRunning { installation: InstallationId },
    /// Nobody of whom the computation's letter tells waits for an answer any more.
    NobodyWaits,
}

/// What came of the wish to correct a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    Done,
    /// It was like that already.
    Unchanged,
    NoLetter,
    Impossible(String),
}
