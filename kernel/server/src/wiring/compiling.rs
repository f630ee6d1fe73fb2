//! Turns at the compiler. Compiling takes up to half a minute and a gigabyte, so that one component is compiled at a time;
//! workspaces take turns, few wait of each, and one whose caller has gone is not begun.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kith_model::budget::{Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_pipeline::Patience;
use parking_lot::{Condvar, Mutex};

/// How often one that waits looks whether somebody still wants it: an asker who leaves is a future that is dropped, and tells
/// nobody.
const LOOK: Duration = Duration::from_millis(50);

/// When one that was turned away may come again: by then some that waited have been compiled or given up.
const COME_BACK: Duration = Duration::from_secs(10);

/// Why nothing is compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileRefusal {
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error("nobody waits for the component to be compiled any more")]
    GivenUp,
}

/// Who compiles and who waits.
#[derive(Default)]
pub(super) struct CompileQueue {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    is_busy: bool,
    /// The workspace that had the last turn; the next one after it that waits has the next.
    last: Option<WorkspaceId>,
    /// Tickets of those who wait, in the order in which they came. No list is empty.
    waiting: BTreeMap<WorkspaceId, VecDeque<u64>>,
    next_ticket: u64,
}

/// The compiler, until it is dropped.
pub(super) struct CompileTurn<'a>(&'a CompileQueue);

impl CompileQueue {
    /// Wait for a turn.
    ///
    /// # Errors
    /// Where too many of the workspace wait, or nobody waits for this one any more.
    pub(super) fn take(&self, workspace: WorkspaceId, patience: &Patience) -> Result<CompileTurn<'_>, CompileRefusal> {
        let limit = table::COMPILES_WAITING.default;
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let waiting = state.waiting.entry(workspace).or_default();
        if waiting.len() as u64 >= limit {
            return Err(table::COMPILES_WAITING.exhausted(limit, Some(COME_BACK)).into());
        }
        waiting.push_back(ticket);
        loop {
            if patience.is_asker_gone() {
                state.leave(workspace, ticket);
                self.moved.notify_all();
                return Err(CompileRefusal::GivenUp);
            }
            if !state.is_busy && state.next() == Some((workspace, ticket)) {
                state.leave(workspace, ticket);
                (state.is_busy, state.last) = (true, Some(workspace));
                return Ok(CompileTurn(self));
            }
            self.moved.wait_for(&mut state, LOOK);
        }
    }
}

#[cfg(test)]
impl CompileQueue {
    /// How many of a workspace wait.
    pub(super) fn waiting(&self, workspace: WorkspaceId) -> usize {
        self.state.lock().waiting.get(&workspace).map_or(0, VecDeque::len)
    }
}

impl State {
    fn next(&self) -> Option<(WorkspaceId, u64)> {
        let after = self.waiting.iter().find(|(workspace, _)| Some(**workspace) > self.last);
        let (workspace, waiting) = after.or_else(|| self.waiting.iter().next())?;
        Some((*workspace, *waiting.front()?))
    }

    fn leave(&mut self, workspace: WorkspaceId, ticket: u64) {
        if let Some(waiting) = self.waiting.get_mut(&workspace) {
            waiting.retain(|other| *other != ticket);
            if waiting.is_empty() {
                self.waiting.remove(&workspace);
            }
        }
    }
}

impl Drop for CompileTurn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_busy = false;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use kith_pipeline::Asker;

    use super::*;

    const FIRST: WorkspaceId = WorkspaceId(1);
    const SECOND: WorkspaceId = WorkspaceId(2);

    fn wait_for(queue: &CompileQueue, workspace: WorkspaceId, waiting: usize) {
        while queue.waiting(workspace) != waiting {
            std::thread::yield_now();
        }
    }

    #[test]
    fn workspaces_take_turns_whoever_came_first() {
        let (queue, patience) = (CompileQueue::default(), Patience::default());
        let (told, heard) = channel();
        let turn = queue.take(FIRST, &patience).unwrap();
        std::thread::scope(|scope| {
            for (number, workspace) in [(1, FIRST), (2, FIRST), (1, SECOND)] {
                let (queue, told, patience) = (&queue, told.clone(), &patience);
                scope.spawn(move || {
                    let _turn = queue.take(workspace, patience).unwrap();
                    told.send(workspace).unwrap();
                });
                wait_for(queue, workspace, number);
            }
            drop(turn);
            let order: Vec<WorkspaceId> = (0..3).map(|_| heard.recv().unwrap()).collect();
            assert_eq!(order, [SECOND, FIRST, FIRST]);
        });
    }

    #[test]
    fn few_wait_of_a_workspace_and_none_whose_caller_has_gone() {
        let (queue, patience) = (CompileQueue::default(), Patience::default());
        let asker = Asker::default();
        let of_asker = asker.patience();
        let turn = queue.take(FIRST, &patience).unwrap();
        let limit = usize::try_from(table::COMPILES_WAITING.default).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..limit).map(|_| scope.spawn(|| queue.take(FIRST, &of_asker).map(drop))).collect();
            wait_for(&queue, FIRST, limit);
            match queue.take(FIRST, &patience).map(drop) {
                Err(CompileRefusal::Exhausted(exhausted)) => {
                    assert_eq!(exhausted.budget.name, "compiles-waiting");
                    assert!(exhausted.retry_after.is_some());
                }
                other => panic!("{other:?}"),
            }
            drop(asker);
            assert!(waiting.into_iter().all(|one| one.join().unwrap() == Err(CompileRefusal::GivenUp)));
        });
        drop(turn);
        assert!(queue.take(FIRST, &patience).is_ok(), "nobody waits any more");
    }
}
