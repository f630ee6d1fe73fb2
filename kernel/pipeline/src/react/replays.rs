//! Dead letters of models that somebody wants tried again. The reactor takes such a request in, puts the letter's people into the
//! model's queue, a part with each pass, and says how many they are once that is durable: whatever ends after that, they are asked
//! about.
//!
//! A version is not asked again about inputs that it could not take unless something changes, so that failing on them once more says
//! nothing new of it. What comes of a replay is therefore no strike, and no reason to stop a version for whom it lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kith_model::audience::Cause;
use kith_model::id::InstallationId;
use kith_model::plugin::PluginFault;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::sync::oneshot;

use super::queues::Queue;
use super::reactor::{PassError, Reactor};
use super::uncomputed::{ASKED_PEOPLE, EMITTED};
use crate::rows::derived::Waker;
use crate::rows::uncomputed::{OrdinalSet, ReplayedPeople};
use crate::shared::{KernelState, Workspace};
use crate::views::Replay;
use crate::workers::Phase;

/// How long a request waits for the reactor, which may be at a long pass or not get past its work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody wants the people of a model's dead letter asked about again.
pub(crate) struct ReplayRequest {
    installation: InstallationId,
    /// The letter's, of [`PluginFault::CODES`].
    code: &'static str,
    reply: oneshot::Sender<Replay>,
}

impl ReplayRequest {
    fn answer(self, replay: Replay) {
        // Nobody waits for it any more: it is done none the less.
        drop(self.reply.send(replay));
    }
}

/// The requests of a workspace that its reactor has yet to take.
#[derive(Default)]
pub(crate) struct ReplayRequests(Mutex<VecDeque<ReplayRequest>>);

impl ReplayRequests {
    /// Take those for which somebody waits.
    fn take(&self) -> Vec<ReplayRequest> {
        let all = std::mem::take(&mut *self.0.lock());
        all.into_iter().filter(|request| !request.reply.is_closed()).collect()
    }

    /// Leave again, before all others, what a pass took that was given up.
    pub(super) fn put_back(&self, requests: impl DoubleEndedIterator<Item = ReplayRequest>) {
        let mut held = self.0.lock();
        requests.rev().for_each(|request| held.push_front(request));
    }
}

/// Have the reactor ask about the people of a model's dead letter again, and wait until that is durable.
pub(crate) async fn request(
    shared: &KernelState,
    workspace: &Workspace,
    installation: InstallationId,
    code: &str,
) -> Replay {
    let Some(code) = PluginFault::CODES.into_iter().find(|known| *known == code) else {
        return Replay::Impossible("another release wrote it, for a fault that this one does not know; dismiss it");
    };
    let (reply, answered) = oneshot::channel();
    workspace.replays.0.lock().push_back(ReplayRequest { installation, code, reply });
    shared.wake_reactor(workspace.id);
    let mut phase = workspace.phase();
    let failed = |code: &str, message: &str| Replay::Failed { code: code.to_owned(), message: message.to_owned() };
    tokio::select! {
        biased;
        answer = answered => answer.unwrap_or_else(|_| failed("unavailable", "the reactor was interrupted; try again")),
        _ = phase.wait_for(|phase| *phase != Phase::Running) => {
            failed("unavailable", "the workspace is being stopped; try again once it runs")
        }
        () = tokio::time::sleep(PATIENCE) => {
            failed("busy", "the workspace has too much to compute, or does not get past something; `kith status` says which. Try again")
        }
    }
}

/// The people of one model who are asked about again because somebody wants it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Replayed {
    /// Those who are to be put into the queue.
    to_ask: RoaringBitmap,
    /// Those who were put there with inputs on which the version in use has failed before, until what came of it is durable.
    asked: RoaringBitmap,
}

impl Replayed {
    /// What an earlier process left, of people on whom the version failed or who wait.
    pub(super) fn reopened(people: &ReplayedPeople, faulted: &RoaringBitmap, stale: &RoaringBitmap) -> Replayed {
        Replayed { to_ask: &people.to_ask.0 & faulted, asked: &people.asked.0 & stale }
    }

    /// What is written down of it while these wait.
    pub(super) fn people(&self, stale: &RoaringBitmap) -> ReplayedPeople {
        ReplayedPeople { to_ask: OrdinalSet(self.to_ask.clone()), asked: OrdinalSet(&self.asked & stale) }
    }

    /// Somebody was put into the queue with inputs on which the version in use has failed before.
    pub(super) fn note_asked(&mut self, ordinal: u32) {
        self.asked.insert(ordinal);
    }

    /// Whether that is so of somebody, and what came of it is not durable yet.
    pub(super) fn has_asked(&self, ordinal: u32) -> bool {
        self.asked.contains(ordinal)
    }

    /// Whether there is anybody who has no answer yet, of whom `stale` wait.
    pub(super) fn is_open(&self, stale: &RoaringBitmap) -> bool {
        !(self.to_ask.is_empty() && self.asked.is_disjoint(stale))
    }

    /// The next of those who are to be put into the queue.
    fn next(&mut self) -> Option<u32> {
        let next = self.to_ask.min()?;
        self.to_ask.remove(next);
        Some(next)
    }

    /// The pass that put somebody into the queue was given up.
    pub(super) fn ask_later(&mut self, ordinal: u32) {
        self.asked.remove(ordinal);
        self.to_ask.insert(ordinal);
    }
}

impl Queue {
    /// Have the people of the dead letter of that code asked about again; how many they are.
    fn replay(&mut self, code: &str) -> u64 {
        let Some(people) = self.uncomputed.told_by(code) else { return 0 };
        let (faulted, waiting) = (people & &self.uncomputed.faulted, people & &self.stale);
        let people = faulted.union_len(&waiting);
        if people > 0 {
            // They are asked about at once, and not when a pause has ended.
            self.resume();
        }
        self.replayed.to_ask |= faulted;
        people
    }

    /// What a pass brought is durable. Of a job that is under way, or not wholly taken in, it is to be known still whom it was about
    /// because of a replay.
    pub(super) fn forget_replayed(&mut self) {
        if !self.is_under_way() {
            self.replayed.asked &= &self.stale;
        }
    }
}

impl Reactor {
    /// Take in which dead letters are to be tried again, and put their people into the queues, as many as a pass may.
    pub(super) fn replay(&mut self) -> Result<(), PassError> {
        for request in self.workspace.replays.take() {
            let replay = self.take_replay(&request);
            self.pass.replays.push((request, replay));
        }
        let compiled = Arc::clone(&self.compiled);
        let mut people = self.budget.people.min(ASKED_PEOPLE);
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let id = model.installed.id;
            while people > 0 && self.identities.pass_bytes() <= self.budget.bytes {
                let Some(ordinal) = self.queues.get_mut(&id).and_then(|queue| queue.replayed.next()) else { break };
                people -= 1;
                self.pass.replayed.push((id, ordinal));
                self.replay_one(id, ordinal)?;
            }
            self.pass.has_more |= self.queues.get(&id).is_some_and(|queue| !queue.replayed.to_ask.is_empty());
        }
        Ok(())
    }

    /// What is said to a request once the pass is durable.
    fn take_replay(&mut self, request: &ReplayRequest) -> Replay {
        let (installation, code) = (request.installation, request.code);
        let Some((_, model)) = self.compiled.plan.model(installation) else { return Replay::InstallationRemoved };
        if !model.installed.activity.is_running() {
            return Replay::NotRunning { installation };
        }
        match self.queues.entry(installation).or_default().replay(code) {
            0 if code == EMITTED => Replay::Impossible(
                "it tells of events that a model emitted and for which there was no room; they are told when the model emits them \
                 again on a later day. Dismiss it",
            ),
            0 => Replay::NobodyWaits,
            people => Replay::AskedAgain { installation, code, people },
        }
    }

    /// Have a model look at somebody again, whatever it could not take of them before. What it answers is a change, and no event of
    /// theirs.
    fn replay_one(&mut self, installation: InstallationId, ordinal: u32) -> Result<(), PassError> {
        let Some(profile) = self.workspace.projection.read().profile(ordinal) else { return Ok(()) };
        if self.leaves_out() {
            self.leave_out(profile.0);
            return Ok(());
        }
        let members = self.identities.load_profile(profile);
        if self.readable(profile, members)?.is_none_or(|members| members.is_empty()) {
            return Ok(());
        }
        let position = self.pass.cursor.position;
        let touch = self.touch(profile, Cause::Change, position)?;
        touch.wakers.insert(Waker::Model(installation));
        touch.replayed.insert(installation);
        Ok(())
    }

    /// The pass is durable: say so to whom it was for.
    pub(super) fn answer_replays(&mut self) {
        std::mem::take(&mut self.pass.replays).into_iter().for_each(|(request, replay)| request.answer(replay));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_to_be_asked_about_until_what_came_of_it_is_durable() {
        let people = |people: &[u32]| people.iter().copied().collect::<RoaringBitmap>();
        let mut queue = Queue::default();
        queue.uncomputed.faulted = people(&[1, 2, 3]);
        queue.uncomputed.tell_of("trap", [1, 2, 7].into_iter());
        queue.uncomputed.tell_of("limit.cpu", [3].into_iter());
        queue.stale = people(&[7]);
        assert_eq!((queue.replay("trap"), queue.replay("limit.wall")), (3, 0), "one of them waits already");
        assert_eq!((queue.replayed.next(), queue.replayed.next(), queue.replayed.next()), (Some(1), Some(2), None));
        [1, 2].into_iter().for_each(|ordinal| queue.replayed.note_asked(ordinal));
        queue.replayed.ask_later(2);
        queue.stale.insert(1);
        let written = queue.replayed.people(&queue.stale);
        assert_eq!((written.to_ask.0.clone(), written.asked.0.clone()), (people(&[2]), people(&[1])));
        assert_eq!(Replayed::reopened(&written, &people(&[2]), &people(&[1])), queue.replayed);
        assert_eq!(Replayed::reopened(&written, &people(&[]), &people(&[])), Replayed::default(), "they are gone");

        assert!(queue.replayed.has_asked(1) && !queue.replayed.has_asked(2) && queue.replayed.is_open(&queue.stale));
        assert_eq!(queue.replayed.next(), Some(2));
        queue.begin();
        queue.stale = people(&[]);
        queue.forget_replayed();
        assert!(queue.replayed.has_asked(1), "its job is not taken in as a whole");
        queue.end(Duration::ZERO);
        queue.forget_replayed();
        assert_eq!(queue.replayed, Replayed::default());
    }
}
