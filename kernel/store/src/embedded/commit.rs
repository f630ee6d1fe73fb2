//! The caller's side of a commit: everything that many threads can do beside each other before the one writer has to look.

use std::sync::mpsc::{Receiver, sync_channel};

use super::prepare::{self, Prepared};
use super::writer::{Command, MAX_GROUP_BYTES, MAX_GROUP_UNITS};
use super::{Embedded, Shared, read};
use crate::{CommitError, Committed, Key, ReadError, Unit};

/// What became of one unit.
pub(crate) type Verdict = Result<Committed, CommitError>;

/// A unit on its way, with its place in the caller's list.
type PlacedUnit = (usize, Prepared);

/// A command that the writer has, and the places that its verdicts belong to.
struct PendingCommand {
    places: Vec<usize>,
    reply: Receiver<Vec<Verdict>>,
}

/// Commit `units`, each judged alone; their verdicts in their order.
pub(crate) fn commit_all(store: &Embedded, units: Vec<Unit>) -> Vec<Verdict> {
    // What no verdict replaces was never judged, because the store closed.
    let mut verdicts: Vec<Verdict> = units.iter().map(|_| Err(CommitError::Closed)).collect();
    let mut placed: Vec<PlacedUnit> = Vec::with_capacity(units.len());
    for (place, unit) in units.into_iter().enumerate() {
        match prepare::prepare(unit) {
            Ok(prepared) => placed.push((place, prepared)),
            Err(error) => verdicts[place] = Err(error),
        }
    }
    if let Err(error) = check_preconditions(&store.shared, &mut placed, &mut verdicts) {
        store.shared.note_damage(&error);
        let refusal = CommitError::Read(error);
        placed.into_iter().for_each(|(place, _)| verdicts[place] = Err(refusal.clone()));
        return verdicts;
    }
    let asked: Vec<PendingCommand> = groups(placed).into_iter().map_while(|group| ask(&store.shared, group)).collect();
    for PendingCommand { places, reply } in asked {
        // The writer answers everything that it took; it ends only after a close, when nothing is left.
        for (place, verdict) in places.into_iter().zip(reply.recv().unwrap_or_default()) {
            if let Err(CommitError::Read(error)) = &verdict {
                store.shared.note_damage(error);
            }
            verdicts[place] = verdict;
        }
    }
    verdicts
}

/// Look the preconditions up here, so that the one writer seldom has to ask the engine. What is visible is durable, so that a
/// conflict of the first unit is final; one of a later unit is left to the writer, because a unit before it in the list may
/// be what makes its precondition hold.
fn check_preconditions(
    shared: &Shared,
    placed: &mut Vec<PlacedUnit>,
    verdicts: &mut [Verdict],
) -> Result<(), ReadError> {
    // Asked before the rows are read: a unit that comes in between is looked at again by the writer.
    let checked = shared.overlay.read().visible.sequence;
    let preconditions = placed.iter().flat_map(|(_, prepared)| &prepared.preconditions);
    let keys: Vec<Key> = preconditions.map(|precondition| precondition.key().clone()).collect();
    let mut values =
        if keys.is_empty() { Vec::new() } else { read::get(&shared.overlay, &*shared.engine, &keys)? }.into_iter();
    let mut first_is_refused = false;
    for (order, (place, prepared)) in placed.iter_mut().enumerate() {
        // The precondition comes first: a zip that ends takes nothing from its right side.
        let pairs = prepared.preconditions.iter().zip(values.by_ref());
        let broken = pairs.filter(|(precondition, value)| !precondition.holds(value.as_deref()));
        let broken: Vec<Key> = broken.map(|(precondition, _)| precondition.key().clone()).collect();
        if broken.is_empty() {
            prepared.checked = Some(checked);
        } else if order == 0 {
            verdicts[*place] = Err(CommitError::Conflict(broken));
            first_is_refused = true;
        }
    }
    if first_is_refused {
        placed.remove(0);
    }
    Ok(())
}

/// The units cut into what one group may hold. A list within those bounds, which is the usual one, stays whole.
fn groups(placed: Vec<PlacedUnit>) -> Vec<Vec<PlacedUnit>> {
    let mut groups: Vec<Vec<PlacedUnit>> = Vec::new();
    let mut bytes = 0;
    for (place, prepared) in placed {
        bytes += prepared.size_bytes;
        match groups.last_mut() {
            Some(group) if bytes <= MAX_GROUP_BYTES && group.len() < MAX_GROUP_UNITS => group.push((place, prepared)),
            _ => {
                bytes = prepared.size_bytes;
                groups.push(vec![(place, prepared)]);
            }
        }
    }
    groups
}

/// Hand a group to the writer; `None` once the store is closed.
fn ask(shared: &Shared, group: Vec<PlacedUnit>) -> Option<PendingCommand> {
    let (places, units) = group.into_iter().unzip();
    let (reply, answer) = sync_channel(1);
    shared.queue.send(Command::Commit { units, reply }).ok()?;
    Some(PendingCommand { places, reply: answer })
}
