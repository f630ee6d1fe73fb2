//! What people see of polls and ask for: a poll at once, and one from the start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::Refusal;
use kith_model::time::Timestamp;
use kith_store::CommitError;

use super::schedule::{PollEntry, PollRow, PollTerms};
use super::{Place, commit, read, terms};
use crate::intake::{IntakeError, not_committed, stopped};
use crate::setup::Activity;
use crate::shared::KernelState;
use crate::{Kernel, offload};

/// Where a poll of an installation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollFrom {
    /// Where the last one ended.
    Cursor,
    /// As the very first: what came before is recognised, where the connector gives it the same ids.
    Start,
}

/// How an installation polls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollView {
    /// The time between two polls.
    pub interval_ms: u64,
    /// When it polls next, if it is not asked before, and not before now; `None` where it waits for a change, or does not run.
    pub next_at: Option<Timestamp>,
    pub is_under_way: bool,
    /// Bytes of the cursor; `None` where the next poll begins at the start.
    pub cursor_bytes: Option<u64>,
    /// Failures since it last worked.
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    /// Whether nothing helps but a change, or somebody who asks.
    pub waits_for_change: bool,
    /// The last polls, the newest first.
    pub polls: Vec<PollEntry>,
}

/// How an installation polls by its setup.
struct Standing {
    terms: PollTerms,
    now: Timestamp,
    /// When it may poll at the earliest; `None` where it does not run, and is not tried again.
    earliest: Option<Timestamp>,
    /// Why it does not run, if it does not.
    held: Option<String>,
}

fn view(row: PollRow, standing: &Standing, place: Option<&Place>) -> PollView {
    let Standing { terms, now, earliest, .. } = *standing;
    let row = row.by_clock(now);
    let due = row.due_at(terms, now);
    PollView {
        interval_ms: terms.interval_ms,
        next_at: due.zip(earliest).map(|(due, earliest)| due.max(earliest)),
        is_under_way: place.is_some_and(|place| place.is_under_way.load(Ordering::SeqCst)),
        cursor_bytes: row.cursor.as_ref().map(|cursor| cursor.len() as u64),
        failures: row.failures,
        failing_since: row.failing_since,
        waits_for_change: due.is_none(),
        polls: row.history.into_iter().rev().collect(),
    }
}

/// How the installation polls by its setup.
fn standing(
    shared: &KernelState,
    workspace: WorkspaceId,
    installation: InstallationId,
) -> Result<Standing, IntakeError> {
    let known = shared.workspace(workspace).ok_or_else(stopped)?;
    let compiled = known.compiled.load_full();
    let installed = compiled.setup.installation(installation).ok_or(IntakeError::UnknownSource)?;
    let terms = terms(installed).ok_or_else(|| {
        let message = "the installation does not poll: its plugin's manifest has no [poll]".to_owned();
        IntakeError::Refused(Refusal { status: 409, code: "does-not-poll".to_owned(), message })
    })?;
    let now = shared.clock.now();
    let (earliest, held) = match &installed.activity {
        Activity::Held { why, .. } => (None, Some(why.clone())),
        activity @ Activity::Quarantined { why, .. } => {
            let trial = known.trials.due_at(installation, activity);
            (trial.map(|trial| trial.max(now)), Some(why.clone()))
        }
        Activity::Running | Activity::WaitsForFit { .. } => (Some(now), None),
    };
    Ok(Standing { terms, now, earliest, held })
}

/// Insist that an installation runs.
fn insist_on_running(standing: &mut Standing) -> Result<(), IntakeError> {
    standing.held.take().map_or(Ok(()), |why| Err(IntakeError::NotLive { why }))
}

impl Kernel {
    /// How an installation polls, and what came of its last polls. Blocks.
    ///
    /// # Errors
    /// There is no such installation, it does not poll, or its row cannot be read.
    pub fn polls(&self, workspace: WorkspaceId, installation: InstallationId) -> Result<PollView, IntakeError> {
        let standing = standing(&self.shared, workspace, installation)?;
        let row = read(&self.shared, (workspace, installation)).map_err(|error| unread(CommitError::Read(error)))?;
        let place = self.shared.polls.place((workspace, installation));
        let row = match &place {
            Some(place) => place.present(row),
            None => row,
        };
        Ok(view(row, &standing, place.as_deref()))
    }

    /// Insist that an installation would poll now if it were asked to.
    ///
    /// # Errors
    /// As for [`Kernel::polls`]; it does not run.
    pub fn insist_on_polling(&self, workspace: WorkspaceId, installation: InstallationId) -> Result<(), IntakeError> {
        insist_on_running(&mut standing(&self.shared, workspace, installation)?)?;
        self.shared.polls.place((workspace, installation)).map(drop).ok_or_else(stopped)
    }

    /// Have an installation poll now. A poll that is under way serves, unless it is to begin at the start: then nothing of that
    /// one counts that is not kept yet. Asking again changes nothing.
    ///
    /// # Errors
    /// As for [`Kernel::polls`]; it does not run, or this cannot be written down.
    pub async fn poll_now(
        &self,
        workspace: WorkspaceId,
        installation: InstallationId,
        from: PollFrom,
    ) -> Result<PollView, IntakeError> {
        let mut standing = standing(&self.shared, workspace, installation)?;
        insist_on_running(&mut standing)?;
        let whose = (workspace, installation);
        // It has one as soon as it polls.
        let place = self.shared.polls.place(whose).ok_or_else(stopped)?;
        let _writing = place.writing.lock().await;
        let shared = Arc::clone(&self.shared);
        let asked = offload::run(move || -> Result<PollRow, CommitError> {
            let mut row = read(&shared, whose)?;
            row.asked(from == PollFrom::Start);
            commit(&shared, whose, &row)?;
            Ok(row)
        });
        let row = asked.await.map_err(unread)?;
        *place.uncommitted.lock() = None;
        place.bell.notify_one();
        Ok(view(row, &standing, Some(&place)))
    }
}

fn unread(error: CommitError) -> IntakeError {
    not_committed(&Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_poll_is_now_at_the_earliest_and_none_of_what_does_not_run() {
        let terms = PollTerms { interval_ms: 60_000, changed_at: Timestamp(0) };
        let mut row = PollRow::default();
        row.remember(PollEntry::begun(1, Timestamp(5)));
        let next = |row: &PollRow, now: i64, runs: bool| {
            let earliest = runs.then_some(Timestamp(now));
            let standing = Standing { terms, now: Timestamp(now), earliest, held: None };
            view(row.clone(), &standing, None).next_at
        };
        assert_eq!(next(&row, 7, true), Some(Timestamp(7)));
        assert_eq!(next(&row, 7, false), None);
        row.kept(Vec::new(), Timestamp(5), false);
        assert_eq!(next(&row, 7, true), Some(Timestamp(60_005)));
        assert_eq!(next(&row, 70_000, true), Some(Timestamp(70_000)));
    }
}
