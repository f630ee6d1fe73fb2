//! What the requests of polls and the answers to them may take in memory together: of a request from when it is wanted, of an
//! answer from its first byte, until the connector has been called with it. So a peer that is waited for holds hardly anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kith_model::budget::{Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::sending::{AnswerRoom, InboundResponse, SendFailure};
use parking_lot::Mutex;

/// The share of the calls' memory that lies beside it for answers.
const SHARE: u64 = 4;

/// The memory that is held.
pub(crate) struct AnswerMemory {
    limit: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: u64,
    of_workspaces: HashMap<WorkspaceId, u64>,
}

impl AnswerMemory {
    /// Beside so much memory of all calls under way together.
    pub(crate) fn beside(guest_memory_bytes: u64) -> Arc<AnswerMemory> {
        Arc::new(AnswerMemory { limit: guest_memory_bytes / SHARE, held: Mutex::default() })
    }

    /// What there is.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Take so many bytes, if there are. A workspace has no more than it leaves free, so that there is always something for one that
    /// has nothing yet.
    fn take(&self, workspace: WorkspaceId, bytes: u64) -> Result<(), Exhausted> {
        let mut held = self.held.lock();
        let own = held.of_workspaces.get(&workspace).copied().unwrap_or(0);
        if own.saturating_add(bytes) > self.limit.saturating_sub(held.all.saturating_add(bytes)) {
            return Err(table::HOST_GUEST_MEMORY.exhausted(self.limit, None));
        }
        held.all += bytes;
        *held.of_workspaces.entry(workspace).or_default() += bytes;
        Ok(())
    }

    fn give_back(&self, workspace: WorkspaceId, bytes: u64) {
        let mut held = self.held.lock();
        debug_assert!(held.all >= bytes, "a round gives back what it took");
        held.all -= bytes;
        if let Some(own) = held.of_workspaces.get_mut(&workspace) {
            *own -= bytes;
            if *own == 0 {
                held.of_workspaces.remove(&workspace);
            }
        }
    }
}

/// What the requests of one round and the answers to them hold, until it is dropped.
pub(crate) struct Round {
    memory: Arc<AnswerMemory>,
    workspace: WorkspaceId,
    requests: u64,
    /// Of all answers that are here or on their way.
    answers: AtomicU64,
    /// The memory ended.
    exhausted: Mutex<Option<Exhausted>>,
}

impl Round {
    /// A round with so many bytes of requests.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(crate) fn begin(
        memory: &Arc<AnswerMemory>,
        workspace: WorkspaceId,
        requests: u64,
    ) -> Result<Arc<Round>, Exhausted> {
        memory.take(workspace, requests)?;
        let (memory, answers, exhausted) = (Arc::clone(memory), AtomicU64::new(0), Mutex::default());
        Ok(Arc::new(Round { memory, workspace, requests, answers, exhausted }))
    }

    /// Why there is no memory for the answers, if one was refused.
    pub(crate) fn exhausted(&self) -> Option<Exhausted> {
        *self.exhausted.lock()
    }

    fn take(&self, bytes: u64) -> Result<(), SendFailure> {
        let limit = table::POLL_ANSWERS.default;
        let room = |answers: u64| answers.checked_add(bytes).filter(|sum| *sum <= limit);
        if self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            table::POLL_ANSWERS.count();
            let reason = format!("the answers of this round have more than {limit} bytes together");
            return Err(SendFailure::TooLarge(reason));
        }
        self.memory.take(self.workspace, bytes).map_err(|exhausted| {
            self.answers.fetch_sub(bytes, Ordering::Relaxed);
            *self.exhausted.lock() = Some(exhausted);
            SendFailure::Busy(exhausted.to_string())
        })
    }

    fn give_back(&self, bytes: u64) {
        self.answers.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.give_back(self.workspace, bytes);
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.memory.give_back(self.workspace, self.requests + *self.answers.get_mut());
    }
}

/// The room of one answer of a round.
pub(crate) struct Room {
    round: Arc<Round>,
    taken: AtomicU64,
}

impl Room {
    pub(crate) fn of(round: &Arc<Round>) -> Arc<Room> {
        Arc::new(Room { round: Arc::clone(round), taken: AtomicU64::new(0) })
    }

    /// The answer, held to its room: of a failure nothing is held.
    pub(crate) fn settled(&self, answer: Result<InboundResponse, SendFailure>) -> Result<InboundResponse, SendFailure> {
        let taken = |response: InboundResponse| {
            // The headers come first and are bounded, and are counted with the rest.
            let missing = response.bytes().saturating_sub(self.taken.load(Ordering::Relaxed) as usize);
            self.take(missing).map(|()| response)
        };
        answer.and_then(taken).inspect_err(|_| self.round.give_back(self.taken.swap(0, Ordering::Relaxed)))
    }
}

impl AnswerRoom for Room {
    fn take(&self, bytes: usize) -> Result<(), SendFailure> {
        self.round.take(bytes as u64)?;
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn answer(bytes: u64) -> Result<InboundResponse, SendFailure> {
        let body = vec![b'x'; usize::try_from(bytes).unwrap()];
        Ok(InboundResponse { status: 200, headers: Vec::new(), body, truncated: false })
    }

    #[test]
    fn answers_are_handed_over_up_to_the_budget_of_a_round() {
        let memory = AnswerMemory::beside(SHARE * 64 * MIB);
        let round = Round::begin(&memory, WorkspaceId(1), 0).unwrap();
        let limit = table::POLL_ANSWERS.default;
        assert!(Room::of(&round).settled(answer(limit - 1)).is_ok());
        assert!(Room::of(&round).settled(answer(1)).is_ok());
        assert!(matches!(Room::of(&round).settled(answer(1)), Err(SendFailure::TooLarge(_))));
        assert!(round.exhausted().is_none(), "it is the page that is too large");
        let failure = || Err(SendFailure::Timeout("10 s".to_owned()));
        assert_eq!(Room::of(&round).settled(failure()), failure());
        assert_eq!(memory.held.lock().all, limit);
        drop(round);
        let held = memory.held.lock();
        assert_eq!((held.all, held.of_workspaces.len()), (0, 0));
    }

    #[test]
    fn headers_take_room_as_bodies_do() {
        let memory = AnswerMemory::beside(SHARE * 64 * MIB);
        let round = Round::begin(&memory, WorkspaceId(1), 0).unwrap();
        let limit = table::POLL_ANSWERS.default;
        let with_headers = |bytes: usize| {
            let headers = vec![("link".to_owned(), "x".repeat(bytes - 4))];
            answer(1).map(|answer| InboundResponse { headers, ..answer })
        };
        let room = Room::of(&round);
        room.take(1).unwrap();
        assert!(room.settled(with_headers(1 << 10)).is_ok());
        assert_eq!(memory.held.lock().all, 1 + (1 << 10));
        let rest = usize::try_from(limit).unwrap() - (1 << 10) - 1;
        assert!(matches!(Room::of(&round).settled(with_headers(rest)), Err(SendFailure::TooLarge(_))));
        assert!(Room::of(&round).settled(with_headers(rest - 1)).is_ok());
    }

    #[test]
    fn what_came_of_an_answer_that_broke_off_is_given_back() {
        let memory = AnswerMemory::beside(SHARE * 64 * MIB);
        let round = Round::begin(&memory, WorkspaceId(1), MIB).unwrap();
        let room = Room::of(&round);
        room.take(3 << 20).unwrap();
        assert_eq!(memory.held.lock().all, 4 * MIB);
        assert!(room.settled(Err(SendFailure::Connection("it broke".to_owned()))).is_err());
        assert_eq!(memory.held.lock().all, MIB);
        let room = Room::of(&round);
        room.take(1 << 20).unwrap();
        assert!(room.settled(answer(2 * MIB)).is_ok());
        assert_eq!(memory.held.lock().all, 3 * MIB, "what came in pieces is counted once");
    }

    #[test]
    fn a_workspace_leaves_something_to_the_next_and_all_stay_within_the_whole() {
        let memory = AnswerMemory::beside(SHARE * 16 * MIB);
        let one = Round::begin(&memory, WorkspaceId(1), 8 * MIB).unwrap();
        let refused = Room::of(&one).settled(answer(1));
        assert!(matches!(refused, Err(SendFailure::Busy(_))), "it has as much as is left");
        assert_eq!(one.exhausted().map(|exhausted| exhausted.limit), Some(16 * MIB));
        let _two = Round::begin(&memory, WorkspaceId(2), 4 * MIB).unwrap();
        assert!(Round::begin(&memory, WorkspaceId(3), 3 * MIB).is_err());
        let _three = Round::begin(&memory, WorkspaceId(3), 2 * MIB).unwrap();
        drop(one);
        assert!(Round::begin(&memory, WorkspaceId(1), 5 * MIB).is_ok());
    }
}
