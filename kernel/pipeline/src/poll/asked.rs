//! What people see of polls and ask for: a poll at once, and one from the start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::Refusal;
use kith_model::time::Timestamp;
use kith_store::{CommitError, Unit};

use super::schedule::{PollEntry, PollRow, PollTerms, PollWait};
use super::{Place, put, read, terms};
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
    /// When it polls next, if it is not asked before; `None` where it waits for a change.
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
    pub polls: Vec<PollRecord>,
}

/// One poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollRecord {
    pub at: Timestamp,
    pub took_ms: u64,
    pub pages: u32,
    pub requests: u32,
    /// Events that were taken.
    pub events: u64,
    /// Events that had come before.
    pub repeats: u64,
    /// Parts that became dead letters.
    pub rejected: u64,
    /// `complete`, `more`, `later`, `permanent`, `fault` or `cut-off`.
    pub outcome: &'static str,
    /// The same in words.
    pub reason: String,
    /// The hash of the cursor that it left, to tell whether it moved.
    pub cursor: Option<String>,
}

impl From<&PollEntry> for PollRecord {
    fn from(entry: &PollEntry) -> PollRecord {
        PollRecord {
            at: entry.at,
            took_ms: entry.took_ms,
            pages: entry.pages,
            requests: entry.requests,
            events: entry.events,
            repeats: entry.repeats,
            rejected: entry.rejected,
            outcome: entry.ended.as_str(),
            reason: entry.ended.words(),
            cursor: entry.cursor.map(|hash| format!("{hash:016x}")),
        }
    }
}

fn view(row: &PollRow, terms: PollTerms, place: Option<&Place>) -> PollView {
    let next_at = row.due_at(terms);
    PollView {
        interval_ms: terms.interval_ms,
        next_at,
        is_under_way: place.is_some_and(|place| place.is_under_way.load(Ordering::SeqCst)),
        cursor_bytes: row.cursor.as_ref().map(|cursor| cursor.len() as u64),
        failures: row.failures,
        failing_since: row.failing_since,
        waits_for_change: next_at.is_none() && matches!(row.wait, PollWait::Change { .. }),
        polls: row.history.iter().rev().map(PollRecord::from).collect(),
    }
}

/// How the installation polls by its setup, and why it does not run, if it does not.
fn polling(
    shared: &KernelState,
    workspace: WorkspaceId,
    installation: InstallationId,
) -> Result<(PollTerms, Option<String>), IntakeError> {
    let known = shared.workspace(workspace).ok_or_else(stopped)?;
    let compiled = known.compiled.load_full();
    let installed = compiled.setup.installation(installation).ok_or(IntakeError::UnknownSource)?;
    let terms = terms(installed).ok_or_else(|| {
        let message = "the installation does not poll: its plugin's manifest has no [poll]".to_owned();
        IntakeError::Refused(Refusal { status: 409, code: "does-not-poll".to_owned(), message })
    })?;
    let held = match &installed.activity {
        Activity::Held { why, .. } | Activity::Quarantined { why, .. } => Some(why.clone()),
        Activity::Running | Activity::WaitsForFit { .. } => None,
    };
    Ok((terms, held))
}

impl Kernel {
    /// How an installation polls, and what came of its last polls. Blocks.
    ///
    /// # Errors
    /// There is no such installation, it does not poll, or its row cannot be read.
    pub fn polls(&self, workspace: WorkspaceId, installation: InstallationId) -> Result<PollView, IntakeError> {
        let (terms, _) = polling(&self.shared, workspace, installation)?;
        let row = read(&self.shared, (workspace, installation)).map_err(|error| unread(CommitError::Read(error)))?;
        let place = self.shared.polls.place((workspace, installation));
        let row = match &place {
            Some(place) => place.present(row),
            None => row,
        };
        Ok(view(&row, terms, place.as_deref()))
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
        let (terms, held) = polling(&self.shared, workspace, installation)?;
        if let Some(why) = held {
            return Err(IntakeError::NotLive { why });
        }
        let whose = (workspace, installation);
        // It has one as soon as it polls.
        let place = self.shared.polls.place(whose).ok_or_else(stopped)?;
        let _writing = place.writing.lock().await;
        let shared = Arc::clone(&self.shared);
        let asked = offload::run(move || -> Result<PollRow, CommitError> {
            let mut row = read(&shared, whose)?;
            row.asked(from == PollFrom::Start);
            shared.commit(Unit { operations: vec![put(whose, &row)], ..Unit::default() })?;
            Ok(row)
        });
        let row = asked.await.map_err(unread)?;
        *place.uncommitted.lock() = None;
        place.bell.notify_one();
        Ok(view(&row, terms, Some(&place)))
    }
}

fn unread(error: CommitError) -> IntakeError {
    not_committed(&Arc::new(error))
}
