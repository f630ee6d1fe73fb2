//! The people for whom the version of a model in use has no answer: who they are, the dead letters that tell of them, and the end
//! of a version that fails on many of those for whom the one before it had values.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::PluginFault;
use kith_model::time::Timestamp;
use kith_store::{ReadError, Store};
use roaring::RoaringBitmap;

use super::effects::Effect;
use super::queues::Queues;
use super::reactor::Reactor;
use crate::rows::derived::{Freshness, Output, Track};
use crate::rows::{Aside, computation_letter, computation_letters};
use crate::shared::MAX_STRIKES;

/// A version is stopped that fails on so large a part of the people for whom the one before it had values: one in this many, and
/// [`MAX_STRIKES`] of them at least.
const LOST_ONE_IN: u64 = 4;

/// People about whom a version has been asked before the part that it failed on says how it does with all; of fewer, all of them.
const SAMPLE: u64 = 1_000;

/// The last fault over somebody for whom a model has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastFault {
    pub at: Timestamp,
    pub code: String,
    pub message: String,
}

impl LastFault {
    /// One of which nothing is kept.
    pub(crate) fn unknown(at: Timestamp) -> LastFault {
        LastFault { at, code: String::new(), message: String::new() }
    }
}

/// The people for whom a model's version in use has no answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uncomputed {
    /// People whom it cannot take as they are now: their older values count, where they have any.
    pub faulted: RoaringBitmap,
    /// Since when there are any; `None` where there are none.
    pub since: Option<Timestamp>,
    pub last: Option<LastFault>,
    /// The people of whom dead letters tell. They are tried again by themselves, and some may have been answered for.
    told_of: RoaringBitmap,
    /// The codes of these letters.
    letters: BTreeSet<&'static str>,
}

impl Uncomputed {
    /// A dead letter tells of these people.
    pub(crate) fn tell_of(&mut self, code: &'static str, people: impl Iterator<Item = u32>) {
        self.letters.insert(code);
        self.told_of.extend(people);
    }

    /// The version failed on somebody.
    pub(crate) fn note(&mut self, now: Timestamp, fault: &PluginFault) {
        self.since.get_or_insert(now);
        self.last = Some(LastFault { at: now, code: fault.code().to_owned(), message: fault.to_string() });
    }

    fn set(&mut self, ordinal: u32, is_faulted: bool) {
        if is_faulted {
            self.faulted.insert(ordinal);
        } else {
            self.faulted.remove(ordinal);
        }
    }
}

/// How a version does while it is asked about everybody because it took another's place: with the people for whom that one had
/// values. Whoever sends what no version can take has no part in this.
#[derive(Debug, Default)]
pub(crate) struct Reevaluation {
    /// The version's.
    token: u64,
    /// People on whom it failed.
    lost: RoaringBitmap,
    /// People for whom it answered.
    kept: RoaringBitmap,
    last: String,
}

impl Reevaluation {
    /// What the version of that token came to with somebody.
    pub(crate) fn note(&mut self, token: u64, ordinal: u32, fault: Option<&PluginFault>) {
        if self.token != token {
            *self = Reevaluation { token, ..Reevaluation::default() };
        }
        match fault {
            None => {
                self.lost.remove(ordinal);
                self.kept.insert(ordinal);
            }
            // What a machine beside it could not do says nothing of the version, nor does what no column can say.
            Some(fault) if fault.is_strike() || matches!(fault, PluginFault::Permanent(_)) => {
                self.kept.remove(ordinal);
                self.lost.insert(ordinal);
                self.last = fault.to_string();
            }
            Some(_) => {}
        }
    }

    /// Why the version of that token is to be stopped, if it is. `is_done` where nobody is left to be asked about.
    fn verdict(&self, token: u64, is_done: bool) -> Option<String> {
        let (lost, asked) = (self.lost.len(), self.lost.len() + self.kept.len());
        let is_much = lost >= MAX_STRIKES as u64 && lost * LOST_ONE_IN >= asked && (asked >= SAMPLE || is_done);
        (is_much && self.token == token).then(|| {
            format!(
                "it failed on {lost} of {asked} people for whom the version before it had values, the last: {}",
                self.last
            )
        })
    }
}

/// What a pass changes in whom a model's version in use cannot take.
pub(super) struct Moved {
    installation: InstallationId,
    ordinal: u32,
    is_faulted: bool,
}

impl Reactor {
    /// What the profiles whose rows the pass writes change in whom models cannot take.
    pub(super) fn uncomputed_moved(&self) -> Vec<Moved> {
        let with_some: Vec<_> =
            self.queues.iter().filter(|(_, queue)| !queue.uncomputed.faulted.is_empty()).map(|(id, _)| *id).collect();
        let is_known = |id: &InstallationId, ordinal| {
            self.queues.get(id).is_some_and(|queue| queue.uncomputed.faulted.contains(ordinal))
        };
        let mut moved = Vec::new();
        for person in self.identities.changed() {
            let ordinal = person.ordinal;
            // What an identity keeps that is no profile's first member counts for nothing.
            let derived = person.derived.as_ref().filter(|_| person.profile().0 == person.id);
            let outputs = derived.into_iter().flat_map(|derived| &derived.outputs);
            let faulted = outputs.filter(|(_, output)| output.is_faulted()).map(|((id, _), _)| *id);
            let begun = faulted.filter(|id| !is_known(id, ordinal));
            moved.extend(begun.map(|installation| Moved { installation, ordinal, is_faulted: true }));
            for installation in with_some.iter().copied().filter(|id| is_known(id, ordinal)) {
                let output = derived.and_then(|derived| derived.outputs.get(&(installation, Track::Live)));
                if !output.is_some_and(Output::is_faulted) {
                    moved.push(Moved { installation, ordinal, is_faulted: false });
                }
            }
        }
        moved
    }

    /// The models of which everybody has been answered for of whom dead letters tell, once what has moved is durable. The letters
    /// go with the pass.
    pub(super) fn answer_letters(&mut self, moved: &[Moved]) -> Vec<InstallationId> {
        let told = self.queues.iter().filter(|(_, queue)| !queue.uncomputed.letters.is_empty());
        let (mut answered, mut keys) = (Vec::new(), Vec::new());
        for (id, queue) in told {
            let mut faulted = queue.uncomputed.faulted.clone();
            for moved in moved.iter().filter(|moved| moved.installation == *id) {
                if moved.is_faulted {
                    faulted.insert(moved.ordinal);
                } else {
                    faulted.remove(moved.ordinal);
                }
            }
            let told_of = &queue.uncomputed.told_of;
            if told_of.is_disjoint(&faulted) && told_of.is_disjoint(&queue.stale) {
                let codes = queue.uncomputed.letters.iter();
                keys.extend(codes.map(|code| computation_letter(self.workspace.id, *id, code)));
                answered.push(*id);
            }
        }
        // What a job of this very pass has told of those who are answered for by now.
        keys.iter().for_each(|key| drop(self.pass.letters.remove(key)));
        if !keys.is_empty() {
            self.pass.effects.push(Effect::Dropped { keys });
        }
        answered
    }

    /// The pass is durable.
    pub(super) fn take_uncomputed(&mut self, moved: Vec<Moved>, answered: &[InstallationId]) {
        for Moved { installation, ordinal, is_faulted } in moved {
            if let Some(queue) = self.queues.get_mut(&installation) {
                queue.uncomputed.set(ordinal, is_faulted);
            }
        }
        for uncomputed in self.queues.values_mut().map(|queue| &mut queue.uncomputed) {
            if uncomputed.faulted.is_empty() {
                (uncomputed.since, uncomputed.last) = (None, None);
            }
        }
        for id in answered {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.uncomputed.letters.clear();
                queue.uncomputed.told_of.clear();
            }
        }
    }

    /// Stop each version that took another's place and fails on many of the people for whom that one had values: those values
    /// count on. It is not tried again by itself, because it would fail on the same people.
    pub(super) fn hold_those_that_lose_many(&self) {
        let compiled = Arc::clone(&self.compiled);
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let Some(queue) = self.queues.get(&model.installed.id) else { continue };
            let is_done = queue.stale.is_empty() && self.is_settled(model);
            if let Some(reason) = queue.reevaluation.verdict(model.token, is_done) {
                self.shared.hold(self.workspace.id, model.installed.id, &reason);
            }
        }
    }
}

impl Output {
    /// Whether the version in use cannot take its person as it is.
    pub(crate) fn is_faulted(&self) -> bool {
        matches!(self.freshness, Freshness::Faulted { .. })
    }
}

/// Read the dead letters of models' computations at the start, for whom the queues know already.
pub(super) fn read_letters(
    store: &dyn Store,
    workspace: WorkspaceId,
    models: impl Iterator<Item = InstallationId>,
    queues: &mut Queues,
) -> Result<(), ReadError> {
    for id in models {
        let letters = computation_letters(store, workspace, id)?;
        if letters.is_empty() {
            continue;
        }
        let queue = queues.entry(id).or_default();
        let uncomputed = &mut queue.uncomputed;
        for (name, letter) in letters {
            let Aside::Computation { at, since, code, message, .. } = letter else { continue };
            if name == EMITTED {
                continue;
            }
            let since = if since.0 == 0 { at } else { since };
            if !uncomputed.faulted.is_empty() {
                uncomputed.since = Some(uncomputed.since.map_or(since, |known| known.min(since)));
                if uncomputed.last.as_ref().is_none_or(|last| last.at < at) {
                    uncomputed.last = Some(LastFault { at, code, message });
                }
            }
            uncomputed.letters.insert(name);
        }
        uncomputed.told_of = &uncomputed.faulted | &queue.stale;
    }
    Ok(())
}

/// The code of letters that may tell of events which a model emitted and for which there was no room: nobody emits them again.
const EMITTED: &str = "limit.events";

#[cfg(test)]
mod tests {
    use super::*;

    fn trap() -> PluginFault {
        PluginFault::Trapped { message: "boom".into(), backtrace: Vec::new() }
    }

    fn asked(lost: u32, kept: u32) -> Reevaluation {
        let mut reevaluation = Reevaluation::default();
        (0..lost).for_each(|ordinal| reevaluation.note(7, ordinal, Some(&trap())));
        (lost..lost + kept).for_each(|ordinal| reevaluation.note(7, ordinal, None));
        reevaluation
    }

    #[test]
    fn a_quarter_of_those_who_had_values_ends_a_version_and_a_few_do_not() {
        for (lost, kept, is_done, ends) in [
            (2, 1, true, false),
            (3, 0, true, true),
            (3, 9, true, true),
            (3, 10, true, false),
            (276, 349, true, true),
            (276, 349, false, false),
            (250, 750, false, true),
            (249, 751, false, false),
            (1, 1_000_000, true, false),
        ] {
            let verdict = asked(lost, kept).verdict(7, is_done);
            assert_eq!(verdict.is_some(), ends, "{lost} of {}: {verdict:?}", lost + kept);
        }
        let reason = asked(3, 1).verdict(7, true).unwrap();
        assert_eq!(
            reason,
            "it failed on 3 of 4 people for whom the version before it had values, the last: trap: boom"
        );
        assert_eq!(asked(3, 1).verdict(8, true), None, "it is another version");
    }

    #[test]
    fn somebody_counts_once_by_the_last_answer_and_what_is_no_fault_of_the_version_not_at_all() {
        let mut reevaluation = asked(3, 0);
        reevaluation.note(7, 0, None);
        reevaluation.note(7, 1, Some(&trap()));
        assert_eq!(reevaluation.verdict(7, true), None, "two are left");
        for fault in [PluginFault::BadInput("x".into()), PluginFault::Unavailable("x".into())] {
            reevaluation.note(7, 5, Some(&fault));
        }
        assert_eq!(reevaluation.verdict(7, true), None);
        reevaluation.note(7, 6, Some(&PluginFault::Permanent("not these".into())));
        assert!(reevaluation.verdict(7, true).unwrap().ends_with(
            "3 of 4 people for whom the version before it had values, the last: permanent failure: not these"
        ));
        reevaluation.note(8, 0, Some(&trap()));
        assert_eq!(reevaluation.verdict(8, true), None, "another version begins anew");
    }
}
