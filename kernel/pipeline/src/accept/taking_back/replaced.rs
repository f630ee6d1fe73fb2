//! What counts again once a correction is taken back: the event whose place it took. The log has that one in front of the correction,
//! in the same commit, and a row of its own says how it stands.

use std::collections::BTreeMap;

use kith_model::change::{Change, SupersededEvent};
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{Position, WorkspaceId};
use kith_store::{ChangeLimits, Key, ReadError, Store, row};

use crate::accept::readers::ReadBy;
use crate::profiles::facts::get_one;

/// Corrections of one event, each behind the other, that are looked through at most.
const MAX_CORRECTIONS: usize = if cfg!(test) { 8 } else { 256 };

const ONE_RECORD: ChangeLimits = ChangeLimits { records: 1, bytes: 1 };

/// An event that returns to its history, and the key of the row that says that it was superseded.
#[derive(Debug, Clone)]
pub(crate) struct Returning {
    pub row: Key,
    pub event: SupersededEvent,
}

/// What returns where one event is taken back.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    pub returning: Vec<Returning>,
    /// Events that would return and cannot.
    pub lost: u64,
}

/// What a part of the log tells of corrections.
#[derive(Debug, Default)]
pub(crate) struct Corrections {
    /// Where the part begins.
    first: Option<Position>,
    /// What was superseded, by where the log says so.
    superseded: BTreeMap<Position, SupersededEvent>,
}

impl Corrections {
    /// Take in a record of the log, in its order.
    pub(super) fn take(&mut self, position: Position, record: &Change) {
        self.first.get_or_insert(position);
        if let Change::Superseded(superseded) = record {
            self.superseded.insert(position, superseded.clone());
        }
    }

    /// What was superseded by a record at a position, of which the log is asked where it lies in front of this part.
    fn at(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
        position: Position,
    ) -> Result<Option<SupersededEvent>, ReadError> {
        if self.first.is_some_and(|first| first <= position) {
            return Ok(self.superseded.get(&position).cloned());
        }
        let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
        let found = store.changes(workspace, Position(before), ONE_RECORD)?;
        let record = found.records.first().filter(|record| record.position == position);
        Ok(match record.map(|record| row::decode::<Change>(&record.bytes)) {
            Some(Ok(Change::Superseded(superseded))) => Some(superseded),
            _ => None,
        })
    }
}

impl ReadBy {
    /// What returns where one of these events is taken back: what it had superseded, unless that is one of these too or was taken
    /// back before; then it is what that one had superseded.
    pub(crate) fn replaced(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
        (position, event): (Position, &Event),
        corrections: &Corrections,
    ) -> Result<Replaced, ReadError> {
        let mut replaced = Replaced::default();
        // Files alone correct.
        if event.origin != EventOrigin::Import {
            return Ok(replaced);
        }
        let (mut open, mut looked_at) = (vec![position], 0);
        while let Some(correction) = open.pop() {
            let mut at = correction;
            while let Some(before) = at.0.checked_sub(1) {
                at = Position(before);
                let found = corrections.at(store, workspace, at)?;
                let Some(event) = found.filter(|found| found.event.message_id == event.message_id) else { break };
                looked_at += 1;
                if looked_at > MAX_CORRECTIONS {
                    replaced.lost += 1;
                    return Ok(replaced);
                }
                let key = Key::superseded(workspace, event.event.identity, event.event.time);
                let key = key.followed_by(&at.0.to_be_bytes());
                match get_one(store, &key)?.map(|held| row::decode::<Change>(&held)) {
                    Some(Ok(Change::Superseded(_))) if !self.has(&event.event, event.position) => {
                        replaced.returning.push(Returning { row: key, event });
                    }
                    Some(Ok(Change::Superseded(_) | Change::TakenBack(_))) => open.push(event.position),
                    _ => replaced.lost += 1,
                }
            }
        }
        Ok(replaced)
    }
}
