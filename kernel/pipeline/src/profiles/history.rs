//! The events of a person, oldest first: for what is computed from the history itself.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use kith_model::change::Change;
use kith_model::event::Event;
use kith_model::id::{Position, SourceIdentityId, WorkspaceId};
use kith_store::{Key, ReadError, Store, row};

use super::facts::each_row_until;
use super::person::Person;

/// Bytes of one person's history that is held as a whole.
const MAX_HISTORY_BYTES: usize = 16 << 20;

/// How long one person's history is read.
const HISTORY_TIME: Duration = Duration::from_secs(10);

/// Events between two looks at the time, and at whether anybody wants them still.
const EVENTS_BETWEEN_LOOKS: usize = 256;

/// What an event takes in memory besides its texts, about.
const EVENT_BYTES: usize = 512;

/// Look at every event of one source identity up to a position, oldest first, until `look` has seen enough; what it ends with.
pub(crate) fn history(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    up_to: Position,
    mut look: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadError> {
    each_row_until(store, &Key::events(workspace, identity), |key, value| {
        if key.position() <= up_to
            && let Change::Recorded(event) = row::decode(value)?
        {
            return Ok(look(event));
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// All events of the members of a profile up to a position; `None` where they are too many, or are not wanted any more.
pub(crate) fn whole_history(
    store: &dyn Store,
    workspace: WorkspaceId,
    people: &[Person],
    up_to: Position,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Vec<Event>>, ReadError> {
    let (started, mut events, mut bytes) = (Instant::now(), Vec::new(), 0);
    for person in people {
        let read = history(store, workspace, person.id, up_to, |event| {
            bytes += EVENT_BYTES + event.properties.len() + event.traits.len() + event.context.len();
            events.push(event);
            let is_look_due = events.len().is_multiple_of(EVENTS_BETWEEN_LOOKS);
            let is_over = is_look_due && (started.elapsed() > HISTORY_TIME || !is_wanted());
            if is_over || bytes > MAX_HISTORY_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if read.is_break() {
            return Ok(None);
        }
    }
    Ok(Some(events))
}
