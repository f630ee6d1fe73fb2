//! What cannot become an event, or a part of one that found no room, is kept aside: within a quota of its request and one of
//! its source, because a small request can hold a hundred thousand parts that nobody can read.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::budget::table;
use kith_model::event::RejectedRecord;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{Key, Operation, ReadError, Store, row};

use super::Submission;
use super::counts::Counts;
use super::validate;
use crate::rows::Aside;

/// Parts of one request that are kept singly; an answer lists as many. The rest is one counted row.
pub(crate) const MAX_KEPT_PARTS: u64 = table::REJECTED_PARTS.default;

/// Rows that are kept of one source; older ones go when newer ones come.
const MAX_KEPT_ROWS: u64 = table::REJECTED_KEPT.default;

/// Old rows that one unit deletes at most.
const MAX_DROPPED_ROWS: u64 = 1_024;

/// What was kept aside of one request so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeptParts {
    singly: u64,
    rest: u64,
}

impl KeptParts {
    /// Keep a part singly while there is room, else count it.
    pub(super) fn add(&mut self, submission: &Submission, record: RejectedRecord, operations: &mut Vec<Operation>) {
        if self.singly >= MAX_KEPT_PARTS {
            self.rest += 1;
            return;
        }
        operations.push(put(submission, self.singly, record));
        self.singly += 1;
    }

    /// The request ends: one row for all that was only counted.
    pub(super) fn end(&mut self, submission: &Submission, operations: &mut Vec<Operation>) {
        let rest = std::mem::take(&mut self.rest);
        if rest > 0 {
            table::REJECTED_PARTS.count();
            let record = RejectedRecord {
                place: 0,
                code: "more-parts".into(),
                message: format!("{rest} more parts of this request were refused; {MAX_KEPT_PARTS} are kept"),
                raw: String::new(),
            };
            operations.push(put(submission, self.singly, record));
        }
    }
}

fn put(submission: &Submission, number: u64, mut record: RejectedRecord) -> Operation {
    validate::cut(&mut record.raw);
    validate::cut(&mut record.message);
    validate::cut(&mut record.code);
    // The same input again lands on the same row: time and content name it, not chance.
    let content = xxhash_rust::xxh3::xxh3_64(record.raw.as_bytes());
    let key = Key::set_aside(submission.workspace, Some(submission.source))
        .followed_by(&submission.received_at.0.to_be_bytes())
        .followed_by(&number.to_be_bytes())
        .followed_by(&content.to_be_bytes());
    Operation::Put(key, row::encode(&Aside::Record { at: submission.received_at, record }))
}

/// Keeps the rows of each source within their number.
pub(super) struct Quota {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// Sources of which the group deletes rows already: the store would give the same rows to its next unit again.
    group: BTreeSet<InstallationId>,
    unit: Option<InstallationId>,
}

impl Quota {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> Quota {
        Quota { store, workspace, group: BTreeSet::new(), unit: None }
    }

    /// Count the rows that a unit adds, and delete the oldest ones beyond the quota.
    pub(super) fn add(
        &mut self,
        source: InstallationId,
        added: u64,
        counts: &mut Counts,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        if added == 0 {
            return Ok(());
        }
        let held = counts.set_aside.entry(source).or_default();
        *held += added;
        let beyond = held.saturating_sub(MAX_KEPT_ROWS).min(MAX_DROPPED_ROWS);
        if beyond == 0 || self.group.contains(&source) {
            return Ok(());
        }
        self.unit = Some(source);
        table::REJECTED_KEPT.count();
        let range = Key::set_aside(self.workspace, Some(source)).range();
        let page = self.store.scan(&range, usize::try_from(beyond).unwrap_or(usize::MAX))?;
        let dropped = page.rows.len() as u64;
        *held -= dropped;
        counts.set_aside_dropped += dropped;
        operations.extend(page.rows.into_iter().map(|(key, _)| Operation::Delete(key)));
        Ok(())
    }

    pub(super) fn keep_unit(&mut self) {
        self.group.extend(self.unit.take());
    }

    pub(super) fn forget_unit(&mut self) {
        self.unit = None;
    }

    pub(super) fn ended(&mut self) {
        self.unit = None;
        self.group.clear();
    }
}
