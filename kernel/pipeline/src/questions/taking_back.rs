//! How far something has come that is taken back, and what taking the events of a version back would come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::delivery::DeliveryState;
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{ChangeLimits, Store};

use super::{QueryError, letters};
use crate::Kernel;
use crate::accept::readers::ReadBy;
use crate::accept::taking_back::{TakenBack, TakenBackRow};
use crate::react::projection::Advance;
use crate::setup::{Undo, Undone};
use crate::shared::KernelState;
use crate::turns::{Patience, QuestionTurn};
use crate::views::{DeliveryFilter, PageRequest};
use crate::yielding;

/// How far something has come that is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoProgress {
    /// Other work comes before it.
    Waiting,
    /// So many of so many people were looked at; where events are taken back, so many of so many records of the log.
    UnderWay {
        done: u64,
        of: u64,
    },
    Done,
}

/// What taking back the events of a version would come to, as one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoPreview {
    pub source: InstallationId,
    pub takes_back: TakenBack,
    /// Messages since the version first read: so many at most are because of it.
    pub messages: MessagesSince,
    /// Whether all was looked at; else there is more.
    pub is_all: bool,
}

/// Messages since a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessagesSince {
    /// Those that left, or may have.
    pub left: u64,
    /// Those that wait.
    pub waiting: u64,
}

/// Records of the log that a preview looks at, at most.
const MAX_RECORDS: usize = 200_000;

/// Records that are read at once.
const LOG: ChangeLimits = ChangeLimits { records: 512, bytes: 1 << 20 };

/// Deliveries that a preview looks at, at most.
const MAX_DELIVERIES: usize = 10_000;

/// Deliveries that are read at once.
const DELIVERIES_AT_ONCE: usize = 512;

impl Kernel {
    /// How far the undo with that number has come. One that the setup does not name is over.
    pub fn undo_progress(&self, workspace: WorkspaceId, number: u32) -> Result<UndoProgress, QueryError> {
        let workspace = super::workspace(&self.shared, workspace)?;
        let setup = Arc::clone(&workspace.compiled.load().setup);
        let Some(undo) = setup.undos.iter().find(|undo| undo.number == number) else { return Ok(UndoProgress::Done) };
        if undo.of == Undone::Events {
            let row = TakenBackRow::read(self.shared.store.as_ref(), workspace.id, undo)?;
            return Ok(row.map_or(UndoProgress::Waiting, |row| match (row.is_done, row.progress()) {
                (true, _) => UndoProgress::Done,
                (false, _) if row.from.is_none() => UndoProgress::Waiting,
                (false, (done, of)) => UndoProgress::UnderWay { done, of },
            }));
        }
        let projection = workspace.projection.read();
        Ok(match projection.advance {
            _ if projection.undone.contains(&number) => UndoProgress::Done,
            Some(Advance { done, of }) => UndoProgress::UnderWay { done, of },
            None => UndoProgress::Waiting,
        })
    }

    /// What an undo of events, and those of the same version before it, have come to so far.
    pub fn taken_back(&self, workspace: WorkspaceId, undo: &Undo) -> Result<TakenBack, QueryError> {
        let workspace = super::workspace(&self.shared, workspace)?;
        let row = TakenBackRow::last(self.shared.store.as_ref(), workspace.id, undo)?;
        Ok(row.map(|row| row.taken_back).unwrap_or_default())
    }

    /// The installations as which the version of that digest read events, of these.
    pub fn sources_of(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        installations: &BTreeSet<InstallationId>,
    ) -> Result<BTreeSet<InstallationId>, QueryError> {
        let workspace = super::workspace(&self.shared, workspace)?;
        let store = self.shared.store.as_ref();
        let mut sources = BTreeSet::new();
        for source in installations {
            let read = ReadBy::find(store, workspace.id, (*source, digest), store.head_of(workspace.id))?;
            if read.since().is_some() {
                sources.insert(*source);
            }
        }
        Ok(sources)
    }

    /// What taking back the events would come to that the version of that digest read as these installations. Looks at a bounded
    /// part of the log, and blocks.
    pub fn preview_undo(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        sources: &BTreeSet<InstallationId>,
        patience: &Patience,
    ) -> Result<Vec<UndoPreview>, QueryError> {
        let known = super::workspace(&self.shared, workspace)?;
        let turn = known.turns.take(patience)?;
        let mut room = MAX_RECORDS;
        yielding::aside(|| {
            let preview =
                |source: &InstallationId| preview(&self.shared, (workspace, *source), digest, &mut room, &turn);
            sources.iter().map(preview).collect()
        })
    }
}

fn preview(
    shared: &KernelState,
    (workspace, source): (WorkspaceId, InstallationId),
    digest: &str,
    room: &mut usize,
    turn: &QuestionTurn<'_>,
) -> Result<UndoPreview, QueryError> {
    let store = shared.store.as_ref();
    let mut preview =
        UndoPreview { source, takes_back: TakenBack::default(), messages: MessagesSince::default(), is_all: true };
    let read = ReadBy::find(store, workspace, (source, digest), store.head_of(workspace))?;
    preview.takes_back.unreadable += read.unreadable;
    for stretch in read.stretches() {
        preview.is_all &= count((store, workspace), &read, stretch, &mut preview.takes_back, room, turn)?;
    }
    if let Some(since) = read.since() {
        let (messages, is_all) = messages_since(shared, workspace, since, turn)?;
        preview.messages = messages;
        preview.is_all &= is_all;
    }
    Ok(preview)
}

/// Count what of a stretch would be taken back, as far as there is room; whether all of it was looked at.
fn count(
    (store, workspace): (&dyn Store, WorkspaceId),
    read: &ReadBy,
    (mut at, up_to): (Position, Position),
    counted: &mut TakenBack,
    room: &mut usize,
    turn: &QuestionTurn<'_>,
) -> Result<bool, QueryError> {
    while at < up_to {
        if *room == 0 {
            return Ok(false);
        }
        turn.go_on()?;
        let found = read.read(store, workspace, (at, up_to), LOG)?;
        *room = room.saturating_sub(found.looked_at.max(1));
        counted.unreadable += found.unreadable;
        for event in &found.events {
            counted.count(&event.1);
            let replaced = found.replaced(store, workspace, read, event)?;
            counted.returned += replaced.returning.len() as u64;
            counted.lost += replaced.lost;
        }
        at = found.at;
    }
    Ok(true)
}

/// How many messages there are since a moment; whether all were looked at.
pub(super) fn messages_since(
    shared: &KernelState,
    workspace: WorkspaceId,
    since: Timestamp,
    turn: &QuestionTurn<'_>,
) -> Result<(MessagesSince, bool), QueryError> {
    let (mut messages, mut cursor): (MessagesSince, Option<String>) = (MessagesSince::default(), None);
    for _ in 0..MAX_DELIVERIES / DELIVERIES_AT_ONCE {
        turn.go_on()?;
        let page = PageRequest { limit: DELIVERIES_AT_ONCE, cursor: cursor.as_deref() };
        let found = letters::deliveries(shared, workspace, &DeliveryFilter::default(), page)?;
        // The newest come first.
        let newer = found.items.iter().take_while(|delivery| delivery.created_at >= since);
        for delivery in newer.clone() {
            match delivery.state {
                DeliveryState::Pending { .. } => messages.waiting += 1,
                DeliveryState::Skipped { .. } => {}
                _ => messages.left += 1,
            }
        }
        cursor = found.next;
        if cursor.is_none() || newer.count() < found.items.len() {
            return Ok((messages, true));
        }
    }
    Ok((messages, false))
}
