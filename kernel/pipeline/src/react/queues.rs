//! The people whom each model has yet to see, as bitmaps of ordinals: a queue of a million costs some kilobytes, and it is
//! built again at a start from what the people's rows say. A model has one job under way at a time, so a slow one delays
//! only what reads its outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kith_model::id::{InstallationId, ProfileId};
use kith_model::time::Timestamp;
use roaring::RoaringBitmap;

use super::models::BRIEF;
use super::reactor::Pass;
use super::reevaluation::Reevaluation;
use super::replays::Replayed;
use super::uncomputed::Uncomputed;

/// The first pause after a passing failure; it doubles with each further one.
const FIRST_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 5 * 60_000;

/// A model whose jobs take longer than this on average is not waited for: its values come when they come.
const QUICK: Duration = Duration::from_millis(20);

/// One model's queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// People whose values are pending or outdated.
    pub stale: RoaringBitmap,
    /// People whose pending values count as their older ones now, because the model was stopped.
    pub demoted: RoaringBitmap,
    /// People who became known while the model ran, unless it was stopped or the process ended since. Where they have no value
    /// of it yet, what an upgrade says of them first is news.
    pub expecting: RoaringBitmap,
    /// Whether a job is under way, or its result not wholly taken in.
    is_under_way: bool,
    /// Not before this, after a passing failure.
    not_before: Option<Timestamp>,
    failures: u32,
    /// Moving average of what a job took.
    took: Duration,
    refusals: Refusals,
    /// Whom its version in use has no answer for.
    pub uncomputed: Uncomputed,
    pub reevaluation: Reevaluation,
    /// Whom it is asked about again because somebody wants it.
    pub replayed: Replayed,
}

/// The people whom one version of a model has refused since it last answered for anybody.
#[derive(Default)]
struct Refusals {
    /// The version's.
    token: u64,
    people: BTreeSet<ProfileId>,
}

impl Queue {
    /// Whether a job may begin.
    pub(crate) fn is_free(&self, now: Timestamp) -> bool {
        !self.is_under_way && self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// Whether the pass may wait a moment for the model's answer.
    pub(crate) fn is_quick(&self) -> bool {
        self.took <= QUICK
    }

    /// Whether the model answers so fast that its jobs go on to a next batch.
    pub(crate) fn is_brief(&self) -> bool {
        self.took < BRIEF
    }

    /// A job began, or its result is to be taken in again.
    pub(crate) fn begin(&mut self) {
        self.is_under_way = true;
    }

    /// The job under way ended, and its result is taken in.
    pub(crate) fn end(&mut self, took: Duration) {
        self.is_under_way = false;
        self.took = (self.took * 3 + took) / 4;
    }

    /// The model is stopped: what is known of how its version does counts no more.
    pub(crate) fn stop(&mut self) {
        self.demoted = self.stale.clone();
        self.expecting.clear();
        self.reevaluation.stop();
    }

    /// Whether people wait to be asked about again on whom the version failed: in a trial, or because somebody wants it.
    pub(crate) fn asks_again(&self) -> bool {
        self.reevaluation.asks_again(&self.stale) || self.replayed.is_open(&self.stale)
    }

    /// Whether a job is under way, or its result not wholly taken in.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// The job under way is not known of any more, or was not taken by anybody.
    pub(crate) fn give_up(&mut self) {
        self.is_under_way = false;
    }

    /// Something passing went wrong.
    pub(crate) fn pause(&mut self, now: Timestamp) {
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE_MS);
        self.failures += 1;
        self.not_before = Some(now.plus_ms(pause));
    }

    /// The model did its work.
    pub(crate) fn resume(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// The version of that token refused these people, and answered for nobody beside them; how many it has refused.
    pub(crate) fn refuse(&mut self, token: u64, people: impl Iterator<Item = ProfileId>) -> usize {
        if self.refusals.token != token {
            self.refusals = Refusals { token, people: BTreeSet::new() };
        }
        self.refusals.people.extend(people);
        self.refusals.people.len()
    }

    /// The model answered for somebody, or is held: earlier refusals count no more.
    pub(crate) fn forgive(&mut self) {
        self.refusals.people.clear();
    }

    /// Whether people wait whom no job is under way for: nobody tells the reactor when a pause ends, or when the guests'
    /// threads can take a job.
    pub(crate) fn waits(&self) -> bool {
        !self.stale.is_empty() && !self.is_under_way
    }
}

/// All queues of a workspace.
pub(crate) type Queues = BTreeMap<InstallationId, Queue>;

/// Put back what a pass that was given up took out of the queues.
pub(super) fn put_back(queues: &mut Queues, pass: &Pass) {
    let mut each = |people: &[(InstallationId, u32)], put: fn(&mut Queue, u32)| {
        for (id, ordinal) in people {
            if let Some(queue) = queues.get_mut(id) {
                put(queue, *ordinal);
            }
        }
    };
    each(&pass.unqueued, |queue, ordinal| {
        queue.stale.insert(ordinal);
    });
    each(&pass.undemoted, |queue, ordinal| {
        queue.demoted.insert(ordinal);
    });
    each(&pass.asked_again, |queue, ordinal| queue.reevaluation.ask_again_later(ordinal));
    each(&pass.replayed, |queue, ordinal| queue.replayed.ask_later(ordinal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_end_with_success() {
        let mut queue = Queue::default();
        let mut now = Timestamp(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            queue.pause(now);
            let until = queue.not_before.unwrap();
            pauses.push((until.0 - now.0) / 1_000);
            assert!(!queue.is_free(now));
            now = until;
            assert!(queue.is_free(now));
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], 300);
        queue.resume();
        queue.pause(now);
        assert_eq!(queue.not_before.unwrap().0 - now.0, 1_000);
    }
}
