//! What an admin does with dead letters: correct one, try one again, dismiss one. Which there are is a question
//! (`questions/letters.rs`).
//!
//! Letters of records are written by their workspace's lane alone, which counts them; so what changes them goes through it, as
//! steps of a submission without events.

mod retention;

use std::sync::Arc;

use kith_model::budget::Exhausted;
use kith_model::consent::Giver;
use kith_model::event::{EventOrigin, MAX_RAW_BYTES};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{ReplayScope, SourceRequest};
use kith_store::{Key, Operation, Unit, row};
use tokio::sync::oneshot;

use crate::accept::Submission;
use crate::accept::aside::{ReplayedLetter, draft, source_of, take_out};
use crate::guests::{Caller, GuestClass};
use crate::intake::{Arrival, Intake, IntakeError};
use crate::offload;
use crate::questions::letters::key_of;
use crate::questions::{self, QueryError};
use crate::react::replays;
use crate::rows::{Aside, Letter, RawForm};
use crate::shared::KernelState;
use crate::views::{DeadLetter, Edit, LetterCounts, LetterFilter, ListPage, ListedLetter, PageRequest, Replay};
use crate::{Kernel, Patience, deliver};

/// Whether a text was cut when it was kept.
pub(crate) fn is_cut(raw: &str) -> bool {
    // At most three bytes short of the bound, where a letter stood on it.
    raw.len() + 4 > MAX_RAW_BYTES
}

/// Why a letter's record cannot be tried again as it is; `None` where it can.
pub(crate) fn obstacle(letter: &Letter) -> Option<&'static str> {
    match letter.form {
        RawForm::Taken => Some("the event was taken; the letter says what of it was not followed. Dismiss it"),
        RawForm::Counted => Some("it holds no record, only how many more there were; send the input again"),
        RawForm::Older => Some(
            "an older release kept it without where it came from; correct its `raw` first, or send it to its source",
        ),
        RawForm::Sent | RawForm::Request | RawForm::Event if is_cut(&letter.record.raw) => {
            Some("only its beginning was kept; send the record to its source again")
        }
        RawForm::Sent if letter.came.is_none() => {
            Some("what its input began with is too large to be kept beside it; send the record to its source again")
        }
        RawForm::Sent | RawForm::Request | RawForm::Event => None,
    }
}

fn read(shared: &KernelState, key: &Key) -> Result<Option<Aside>, QueryError> {
    let row = shared.store.get(std::slice::from_ref(key))?.pop().flatten();
    Ok(row.map(|row| row::decode::<Aside>(&row)).transpose()?)
}

impl Kernel {
    /// A page of what did not work. A page may be empty and still have a next one.
    pub fn dead_letters(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<'_>,
    ) -> Result<ListPage<DeadLetter>, QueryError> {
        let page = self.letters(workspace, &LetterFilter::default(), page)?;
        Ok(ListPage { items: page.items.into_iter().map(|listed| listed.letter).collect(), next: page.next })
    }

    /// The same of those that meet a filter, each with its place.
    pub fn letters(
        &self,
        workspace: WorkspaceId,
        filter: &LetterFilter,
        page: PageRequest<'_>,
    ) -> Result<ListPage<ListedLetter>, QueryError> {
        questions::letters::letters(&self.shared, workspace, filter, page)
    }

    /// How many there are by source, kind and reason.
    pub fn letter_counts(
        &self,
        workspace: WorkspaceId,
        filter: &LetterFilter,
        patience: &Patience,
    ) -> Result<LetterCounts, QueryError> {
        questions::letters::counts(&self.shared, workspace, filter, patience)
    }

    /// One dead letter.
    pub fn letter(&self, workspace: WorkspaceId, id: &str) -> Result<Option<DeadLetter>, QueryError> {
        questions::letters::one(&self.shared, workspace, id)
    }

    /// Try a dead letter again: a delivery from the start of its schedule, a record through the connector of its source (or of
    /// `into`) with today's configuration, a computation by asking its model about the letter's people.
    pub async fn replay_letter(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        id: &str,
        into: Option<InstallationId>,
    ) -> Result<Replay, QueryError> {
        let shared = Arc::clone(&self.shared);
        let Some(key) = key_of(workspace, id) else {
            let (kernel, id) = (Arc::clone(self), id.to_owned());
            return offload::run(move || kernel.replay(workspace, &id)).await;
        };
        let known = questions::workspace(&shared, workspace)?;
        // Two at once would take a record without an id twice.
        let alone = known.changing_letters.lock().await;
        let (reader, name) = (Arc::clone(&shared), key.clone());
        let letter = match offload::run(move || read(&reader, &name)).await? {
            None => return Ok(Replay::NoLetter),
            Some(Aside::Record(letter)) => *letter,
            Some(Aside::Computation { code, .. }) => {
                // It is the reactor's, whose pass may be long.
                drop(alone);
                let installation = source_of(workspace, &key).map_or(InstallationId(0), |(source, _)| source);
                return Ok(replays::request(&shared, &known, installation, &code).await);
            }
            Some(Aside::Unreadable { .. }) => return Ok(Replay::Impossible("it tells of a row that cannot be read")),
            Some(Aside::Delivery { .. }) => return Ok(Replay::Impossible("try the delivery again under its own id")),
        };
        if let Some(obstacle) = obstacle(&letter) {
            return Ok(Replay::Impossible(obstacle));
        }
        let source = into.or_else(|| source_of(workspace, &key).map(|(source, _)| source)).unwrap_or(InstallationId(0));
        let head = SourceRequest {
            method: "POST".to_owned(),
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            complete: true,
            resume: None,
            received_at: letter.at,
            replayed: ReplayScope::Record,
        };
        // Nobody knows any more whose key it came with.
        let arrival = Arrival { origin: EventOrigin::Import, giver: Giver::RefusesOnly };
        let intake = match Intake::new(shared, workspace, source, head, arrival) {
            Ok(intake) => intake,
            Err(IntakeError::UnknownSource) => return Ok(Replay::SourceRemoved),
            Err(error) => return Ok(failed(error)),
        };
        Ok(match intake.again(ReplayedLetter { key, letter }).await {
            Ok(acceptance) => match acceptance.rejected.into_iter().next_back() {
                None => Replay::Taken { accepted: acceptance.accepted, duplicate: acceptance.duplicate },
                Some(record) => Replay::Refused { code: record.code, message: record.message },
            },
            Err(IntakeError::Refused(refusal)) => Replay::Refused { code: refusal.code, message: refusal.message },
            Err(error) => failed(error),
        })
    }

    /// Correct the text of a record that was set aside. Trying it again is another step.
    pub async fn edit_letter(&self, workspace: WorkspaceId, id: &str, raw: String) -> Result<Edit, QueryError> {
        let shared = Arc::clone(&self.shared);
        let Some(key) = key_of(workspace, id) else { return Ok(Edit::NoLetter) };
        let known = questions::workspace(&shared, workspace)?;
        let _alone = known.changing_letters.lock().await;
        let (reader, name) = (Arc::clone(&shared), key.clone());
        let letter = match offload::run(move || read(&reader, &name)).await? {
            Some(Aside::Record(letter)) => *letter,
            Some(Aside::Computation { .. } | Aside::Unreadable { .. } | Aside::Delivery { .. }) => {
                return Ok(Edit::Impossible("it holds no record of a sender".to_owned()));
            }
            None => return Ok(Edit::NoLetter),
        };
        if raw.is_empty() || is_cut(&raw) {
            return Ok(Edit::Impossible(format!("a record has 1 to {} bytes", MAX_RAW_BYTES - 4)));
        }
        if let RawForm::Taken | RawForm::Counted = letter.form {
            return Ok(Edit::Impossible(obstacle(&letter).unwrap_or_default().to_owned()));
        }
        if letter.form == RawForm::Event
            && let Err(problem) = draft::read(&raw)
        {
            return Ok(Edit::Impossible(format!("it is no event as the letter showed one: {problem}")));
        }
        if letter.record.raw == raw {
            return Ok(Edit::Unchanged);
        }
        // What somebody wrote was never seen by the rules, whatever it says of itself.
        let raw = if letter.form == RawForm::Event { draft::unruled(raw) } else { raw };
        let form = if letter.form == RawForm::Older { RawForm::Sent } else { letter.form };
        let came = letter.came.clone().or_else(|| (letter.form == RawForm::Older).then(Default::default));
        let record = kith_model::event::RejectedRecord { raw, ..letter.record.clone() };
        let letter = Letter { record, form, came, is_edited: true, ..letter };
        let put = Operation::Put(key.clone(), row::encode(&Aside::Record(Box::new(letter))));
        self.through_the_lane(workspace, &key, vec![put]).await?;
        Ok(Edit::Done)
    }

    /// Take a dead letter out without doing anything about it; whether there was one.
    pub async fn dismiss_letter(&self, workspace: WorkspaceId, id: &str) -> Result<bool, QueryError> {
        let shared = Arc::clone(&self.shared);
        let known = questions::workspace(&shared, workspace)?;
        let _alone = known.changing_letters.lock().await;
        let (reader, id) = (Arc::clone(&shared), id.to_owned());
        let found = offload::run(move || {
            let key = match key_of(workspace, &id) {
                Some(key) => key,
                None => match questions::letters::letter_of_delivery(&reader, workspace, &id)? {
                    Some(key) => key,
                    None => return Ok(None),
                },
            };
            Ok::<_, QueryError>(read(&reader, &key)?.map(|aside| (key, aside)))
        });
        match found.await? {
            None => Ok(false),
            Some((key, Aside::Record(_))) => {
                let operations = take_out(workspace, &key);
                self.through_the_lane(workspace, &key, operations).await?;
                Ok(true)
            }
            Some((key, Aside::Computation { .. } | Aside::Delivery { .. } | Aside::Unreadable { .. })) => {
                let unit = Unit { operations: vec![Operation::Delete(key)], ..Unit::default() };
                offload::run(move || shared.commit(unit)).await?;
                Ok(true)
            }
        }
    }

    /// Write rows of letters in a commit of their workspace's lane.
    pub(crate) async fn through_the_lane(
        &self,
        workspace: WorkspaceId,
        key: &Key,
        operations: Vec<Operation>,
    ) -> Result<(), QueryError> {
        let (reply, answered) = oneshot::channel();
        let source = source_of(workspace, key).map_or(InstallationId(0), |(source, _)| source);
        let nothing = Submission::of_nothing(workspace, source, self.shared.clock.now(), reply);
        let submission = Submission { with: operations, ..nothing };
        self.shared.accept.submit(submission).await.map_err(|_| QueryError::UnknownWorkspace)?;
        match answered.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(QueryError::NotKept(error)),
            Err(_) => Err(QueryError::UnknownWorkspace),
        }
    }

    /// Run a plugin for somebody who waits and whose installation does not run yet, within what all plugins may take together.
    /// Blocks; `None` where the kernel stops.
    ///
    /// # Errors
    /// [`Exhausted`] where too many wait already.
    pub fn ask_guest<T: Send + 'static>(
        &self,
        workspace: WorkspaceId,
        memory_bytes: u64,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Exhausted> {
        let (installation, class) = (InstallationId(0), GuestClass::Request);
        let caller = Caller { workspace, installation, class, bytes: 0, memory_bytes };
        Ok(self.shared.guests.run(caller, call)?.wait().ok())
    }

    /// Try a dead delivery again.
    pub fn replay(&self, workspace: WorkspaceId, dead_letter: &str) -> Result<Replay, QueryError> {
        let replayed = questions::letters::replay(&self.shared, workspace, dead_letter)?;
        if replayed == Replay::Begun {
            // Its channel may have been removed, and then nobody looks into that outbox any more.
            deliver::start_senders(&self.shared, workspace);
        }
        Ok(replayed)
    }
}

/// A replay that came to nothing for a reason that is not the record's.
fn failed(error: IntakeError) -> Replay {
    let code = match &error {
        IntakeError::UnknownSource => "source-removed",
        IntakeError::NotLive { .. } => "source-not-live",
        IntakeError::Refused(_) => "refused",
        IntakeError::Fault(fault) => fault.code(),
        IntakeError::TooLarge { .. } => "too-large",
        // A replay has no name.
        IntakeError::ImportUnderWay { .. } | IntakeError::ImportElsewhere { .. } => "busy",
        IntakeError::Exhausted(_) => "busy",
        IntakeError::DiskFull => "disk-full",
        IntakeError::Unavailable { .. } => "unavailable",
    };
    Replay::Failed { code: code.to_owned(), message: error.to_string() }
}
