//! What waits for a workspace's lane: bounded in number and bytes, with a share for each source, and taken in turns.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::budget::{Budget, table};
use kith_model::id::InstallationId;

use super::Submission;
use super::unit::{Progress, draft_bytes};
use crate::views::Acceptance;

/// Submissions that may wait for one lane; past it requests are told to come back.
pub(crate) const MAX_WAITING: usize = 512;

/// Bytes of drafts that may wait for one lane.
const MAX_WAITING_BYTES: usize = table::WORKSPACE_WAITING.default as usize;

/// Bytes of drafts that may wait for all lanes together.
const MAX_TOGETHER_BYTES: usize = table::HOST_WAITING.default as usize;

/// A source may fill a quarter of its lane, so that one sender in a hurry leaves room for the others.
const SHARES: usize = 4;
const _: () = assert!(MAX_WAITING_BYTES / SHARES == table::SOURCE_WAITING.default as usize);

/// A submission that was admitted and is not answered yet.
pub(super) struct Open {
    pub submission: Submission,
    /// What it takes of the lane's room until it is answered.
    pub bytes: usize,
    /// How much of it is durable.
    pub progress: Progress,
    /// What is to be answered about that much.
    pub acceptance: Acceptance,
}

impl Open {
    /// Count in what a durable unit of it brought.
    pub(super) fn note(&mut self, unit: Acceptance) {
        self.acceptance.add(unit, self.submission.most_listed());
    }
}

/// From here on a submission is large. Large ones have room of their own: one body of the largest size takes more than a
/// source's share, and else no single event of the same source had any beside it.
const LARGE_BYTES: usize = 1 << 20;

/// The same for small submissions and for large ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BySize<T> {
    small: T,
    large: T,
}

impl<T> BySize<T> {
    /// Of a submission of so many bytes.
    pub(super) fn of(&self, bytes: usize) -> &T {
        if bytes < LARGE_BYTES { &self.small } else { &self.large }
    }

    fn of_mut(&mut self, bytes: usize) -> &mut T {
        if bytes < LARGE_BYTES { &mut self.small } else { &mut self.large }
    }
}

impl BySize<usize> {
    pub(super) fn add(&mut self, bytes: usize) {
        *self.of_mut(bytes) += bytes;
    }

    pub(super) fn add_all(&mut self, others: BySize<usize>) {
        self.small += others.small;
        self.large += others.large;
    }
}

/// Bytes that wait, of all lanes together.
#[derive(Debug, Default)]
pub(super) struct WaitingBytes(BySize<AtomicUsize>);

impl WaitingBytes {
    /// Whether `bytes` more fit. The first ones always do.
    pub(super) fn fit(&self, bytes: usize) -> bool {
        let waiting = self.0.of(bytes).load(Ordering::SeqCst);
        waiting == 0 || waiting + bytes <= MAX_TOGETHER_BYTES
    }

    pub(super) fn take(&self, bytes: usize) {
        self.0.of(bytes).fetch_add(bytes, Ordering::SeqCst);
    }

    pub(super) fn free(&self, freed: BySize<usize>) {
        self.0.small.fetch_sub(freed.small, Ordering::SeqCst);
        self.0.large.fetch_sub(freed.large, Ordering::SeqCst);
    }
}

/// Room that is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Room {
    submissions: usize,
    bytes: usize,
}

impl Room {
    /// Whether `bytes` more fit into a `share`-th part. The first one always fits: nothing is larger than a request may be.
    fn fits(self, bytes: usize, share: usize) -> bool {
        let within = self.submissions < MAX_WAITING / share && self.bytes + bytes <= MAX_WAITING_BYTES / share;
        self.submissions == 0 || within
    }

    fn take(&mut self, bytes: usize) {
        self.submissions += 1;
        self.bytes += bytes;
    }

    fn free(&mut self, bytes: usize) {
        self.submissions = self.submissions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl BySize<Room> {
    fn bytes(self) -> BySize<usize> {
        BySize { small: self.small.bytes, large: self.large.bytes }
    }

    fn is_free(self) -> bool {
        self.small.submissions + self.large.submissions == 0
    }
}

#[derive(Default)]
struct Source {
    waiting: VecDeque<Open>,
    /// Of what waits and of what is under way.
    room: BySize<Room>,
}

/// The queue of one lane.
#[derive(Default)]
pub(super) struct Waiting {
    sources: HashMap<InstallationId, Source>,
    /// Sources of which something waits, the next one first; each once.
    turns: VecDeque<InstallationId>,
    room: BySize<Room>,
    /// Nothing is admitted any more.
    pub is_closed: bool,
}

/// What a submission takes while it waits.
pub(crate) fn submission_bytes(submission: &Submission) -> usize {
    let rejected = submission.rejected.iter().map(|record| record.raw.len() + record.message.len() + 64);
    let input = submission.input.as_ref().map_or(0, |input| input.body.len());
    submission.events.iter().map(draft_bytes).sum::<usize>() + rejected.sum::<usize>() + input + size_of::<Submission>()
}

impl Waiting {
    /// Let a submission of `bytes` wait, or give it back with the budget that has no room for it.
    pub(super) fn admit(
        &mut self,
        submission: Submission,
        bytes: usize,
    ) -> Result<(), (Box<Submission>, &'static Budget)> {
        let source = submission.source;
        let room = self.sources.get(&source).map_or(BySize::default(), |source| source.room);
        if !room.of(bytes).fits(bytes, SHARES) {
            return Err((Box::new(submission), &table::SOURCE_WAITING));
        }
        if !self.room.of(bytes).fits(bytes, 1) {
            return Err((Box::new(submission), &table::WORKSPACE_WAITING));
        }
        let open = Open { submission, bytes, progress: Progress::default(), acceptance: Acceptance::default() };
        self.room.of_mut(bytes).take(bytes);
        let held = self.sources.entry(source).or_default();
        held.room.of_mut(bytes).take(bytes);
        if held.waiting.is_empty() {
            self.turns.push_back(source);
        }
        held.waiting.push_back(open);
        Ok(())
    }

    /// Bytes of all that waits.
    pub(super) fn bytes(&self) -> usize {
        self.room.small.bytes + self.room.large.bytes
    }

    /// The next submission, of the source whose turn it is.
    pub(super) fn next(&mut self) -> Option<Open> {
        let id = self.turns.pop_front()?;
        let source = self.sources.get_mut(&id)?;
        let open = source.waiting.pop_front();
        if !source.waiting.is_empty() {
            self.turns.push_back(id);
        }
        open
    }

    /// A submission of which only a part is done goes before the others of its source.
    /// The bytes that are free again, where the lane was closed meanwhile.
    pub(super) fn put_back(&mut self, open: Open) -> BySize<usize> {
        let mut freed = BySize::default();
        if self.is_closed {
            freed.add(open.bytes);
            return freed;
        }
        let id = open.submission.source;
        let source = self.sources.entry(id).or_default();
        if source.waiting.is_empty() {
            self.turns.push_back(id);
        }
        source.waiting.push_front(open);
        freed
    }

    /// A submission was answered.
    pub(super) fn done(&mut self, source: InstallationId, bytes: usize) {
        self.room.of_mut(bytes).free(bytes);
        if let Some(held) = self.sources.get_mut(&source) {
            held.room.of_mut(bytes).free(bytes);
            if held.room.is_free() {
                self.sources.remove(&source);
            }
        }
    }

    /// What was under way is lost: only what waits takes room. The bytes that are free again.
    pub(super) fn forget_under_way(&mut self) -> BySize<usize> {
        let before = self.room.bytes();
        self.room = BySize::default();
        for source in self.sources.values_mut() {
            source.room = BySize::default();
            for open in &source.waiting {
                source.room.of_mut(open.bytes).take(open.bytes);
                self.room.of_mut(open.bytes).take(open.bytes);
            }
        }
        self.sources.retain(|_, source| !source.waiting.is_empty());
        let after = self.room.bytes();
        BySize { small: before.small - after.small, large: before.large - after.large }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Admit nothing more, and drop what waits. The bytes that are free again.
    pub(super) fn close(&mut self) -> BySize<usize> {
        let mut freed = BySize::default();
        let waiting = self.sources.values().flat_map(|source| &source.waiting);
        waiting.for_each(|open| freed.add(open.bytes));
        *self = Waiting { is_closed: true, ..Waiting::default() };
        freed
    }
}

#[cfg(test)]
mod tests {
    use kith_model::event::EventOrigin;
    use kith_model::id::WorkspaceId;
    use kith_model::time::Timestamp;
    use tokio::sync::oneshot;

    use super::*;

    fn submission(source: u32) -> Submission {
        let nothing =
            Submission::of_nothing(WorkspaceId(1), InstallationId(source), Timestamp(0), oneshot::channel().0);
        Submission { origin: EventOrigin::Client, ..nothing }
    }

    #[test]
    fn a_source_that_fills_its_share_is_refused_and_others_are_not() {
        let mut waiting = Waiting::default();
        for bytes in [1 << 10, 1 << 20] {
            let admitted = (0..MAX_WAITING).take_while(|_| waiting.admit(submission(1), bytes).is_ok()).count();
            assert!((16..=MAX_WAITING / SHARES).contains(&admitted), "{admitted}");
            assert!(waiting.admit(submission(2), bytes).is_ok());
            while let Some(open) = waiting.next() {
                waiting.done(open.submission.source, open.bytes);
            }
            assert_eq!(waiting.room, BySize::default());
        }
        assert!(
            waiting.admit(submission(1), MAX_WAITING_BYTES + 1).is_ok(),
            "what comes alone is taken, however large"
        );
        assert!(waiting.admit(submission(1), LARGE_BYTES).is_err());
        assert!(waiting.admit(submission(1), LARGE_BYTES - 1).is_ok(), "small ones have room of their own");
        assert_eq!(waiting.close(), BySize { small: LARGE_BYTES - 1, large: MAX_WAITING_BYTES + 1 });
    }

    fn refusal(waiting: &mut Waiting, source: u32, bytes: usize) -> Option<&'static str> {
        waiting.admit(submission(source), bytes).err().map(|(_, budget)| budget.name)
    }

    #[test]
    fn a_refusal_names_the_budget_that_ended() {
        let mut waiting = Waiting::default();
        let share = MAX_WAITING_BYTES / SHARES;
        for source in 1..=4 {
            assert_eq!(refusal(&mut waiting, source, share), None);
            assert_eq!(refusal(&mut waiting, source, LARGE_BYTES), Some("source-waiting"));
        }
        assert_eq!(refusal(&mut waiting, 5, LARGE_BYTES), Some("workspace-waiting"));
        let all = WaitingBytes::default();
        all.take(MAX_TOGETHER_BYTES);
        assert!(!all.fit(LARGE_BYTES) && all.fit(LARGE_BYTES - 1), "small ones have room of their own");
        let mut freed = BySize::default();
        freed.add(MAX_TOGETHER_BYTES);
        all.free(freed);
        assert!(all.fit(MAX_TOGETHER_BYTES + 1), "the first ones always fit");
    }

    #[test]
    fn sources_take_turns_and_what_was_begun_goes_first() {
        let mut waiting = Waiting::default();
        for (number, source) in [1, 1, 1, 2, 3].into_iter().enumerate() {
            assert!(waiting.admit(submission(source), number).is_ok());
        }
        let mut taken = Vec::new();
        while let Some(open) = waiting.next() {
            taken.push(open.bytes);
            if taken.len() == 1 {
                waiting.put_back(open);
            }
        }
        assert_eq!(taken, [0, 3, 4, 0, 1, 2]);
    }
}
