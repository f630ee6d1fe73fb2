//! The people for whom the version of a model in use has no answer: who they are, the dead letters that tell of them, and the end
//! of a version that fails on many of those for whom the one before it had values. Such a version is on trial from time to time:
//! it is asked again about those on whom it failed, and the same rule decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::PluginFault;
use kith_model::time::Timestamp;
use kith_store::{ReadError, Store};
use roaring::RoaringBitmap;

use super::effects::Effect;
use super::queues::Queues;
use super::reactor::{PassError, Reactor};
use crate::rows::derived::{Freshness, Output, Track};
use crate::rows::{Aside, computation_letter, computation_letters};
use crate::shared::MAX_STRIKES;
use crate::trials::{LOST, TrialKind};

/// A version is stopped that fails on so large a part of the people for whom the one before it had values: one in this many, and
/// [`MAX_STRIKES`] of them at least.
const LOST_ONE_IN: u64 = 4;

/// People about whom a version has been asked before the part that it failed on says how it does with all; of fewer, all of them.
const SAMPLE: u64 = 1_000;

/// People whom one pass puts into the queues of versions on trial.
const ASKED_PEOPLE: usize = 1_000;

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

/// How a version stands to the rule that ends one which fails on many people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Runs,
    /// It was stopped, for whatever reason.
    Stopped,
    /// It is asked again about those on whom it failed.
    OnTrial,
}

/// What the rule says of a version now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judgement {
    /// It goes on.
    Open,
    /// Its trial has ended well.
    Passed,
    /// It is to be stopped, for this reason.
    Lost(String),
}

/// How a version does while it is asked about everybody because it took another's place: with the people for whom that one had
/// values. Whoever sends what no version can take has no part in this.
///
/// It is in memory alone. Of a version that was stopped, the people's rows say as much at a start: on whom it failed, and for whom
/// it answered. One that runs has answered for its people or goes on with those who are left, and is judged by these.
#[derive(Debug, Default)]
pub(crate) struct Reevaluation {
    /// The version's.
    token: u64,
    stage: Stage,
    /// People on whom it failed.
    lost: RoaringBitmap,
    /// People for whom it answered.
    kept: RoaringBitmap,
    last: String,
    /// In a trial: people on whom it failed before and who are not in the queue yet.
    to_ask: RoaringBitmap,
    /// Those of them who were put there.
    asked_again: RoaringBitmap,
}

impl Reevaluation {
    /// What is known at a start of a version that was stopped: the people for whom it answered.
    pub(super) fn of_stopped(token: u64, kept: RoaringBitmap) -> Reevaluation {
        Reevaluation { token, kept, stage: Stage::Stopped, ..Reevaluation::default() }
    }

    /// The version is stopped. What it came to counts on only where its trial is to be judged by it.
    pub(super) fn stop(&mut self) {
        match self.stage {
            Stage::Runs => *self = Reevaluation::default(),
            Stage::Stopped => {}
            Stage::OnTrial => self.stage = Stage::Stopped,
        }
    }

    /// The version of that token is on trial: these are those on whom it failed, and of whom `stale` wait already.
    fn begin_trial(&mut self, token: u64, faulted: &RoaringBitmap, stale: &RoaringBitmap) {
        if self.stage == Stage::OnTrial && self.token == token {
            return;
        }
        let kept = if self.token == token { std::mem::take(&mut self.kept) } else { RoaringBitmap::new() };
        // Of a trial that was broken off.
        let asked_again = &self.asked_again & stale;
        let (stage, to_ask) = (Stage::OnTrial, faulted.clone());
        *self = Reevaluation { token, stage, kept, to_ask, asked_again, ..Reevaluation::default() };
    }

    /// The version runs, and no trial decides about it: it may have been stopped, and somebody wants it none the less.
    fn run(&mut self) {
        if self.stage != Stage::Runs {
            *self = Reevaluation::default();
        }
    }

    /// The next of those who are to be asked about again.
    fn next_to_ask(&mut self, count: usize) -> Vec<u32> {
        let next: Vec<u32> = self.to_ask.iter().take(count).collect();
        for ordinal in &next {
            self.to_ask.remove(*ordinal);
            self.asked_again.insert(*ordinal);
        }
        next
    }

    /// Somebody could not be put into the queue.
    pub(super) fn ask_again_later(&mut self, ordinal: u32) {
        if self.stage == Stage::OnTrial {
            self.to_ask.insert(ordinal);
        }
    }

    /// Whether there are people in a trial who were not asked about again yet.
    pub(super) fn asks_again(&self, stale: &RoaringBitmap) -> bool {
        self.stage == Stage::OnTrial && !(self.to_ask.is_empty() && self.asked_again.is_disjoint(stale))
    }

    /// What the rule says of the version of that token, of which these have yet to be asked about; `is_settled` where that is nobody
    /// else.
    fn judge(&self, token: u64, stale: &RoaringBitmap, is_settled: bool) -> Judgement {
        if self.stage == Stage::Stopped {
            return Judgement::Open;
        }
        let is_done = is_settled && stale.is_empty() && self.to_ask.is_empty();
        if let Some(reason) = self.verdict(token, is_done) {
            return Judgement::Lost(reason);
        }
        let has_sample = is_done || self.lost.len() + self.kept.len() >= SAMPLE;
        let passes = self.stage == Stage::OnTrial && has_sample && !self.asks_again(stale);
        if passes { Judgement::Passed } else { Judgement::Open }
    }

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
        (is_much && self.token == token)
            .then(|| format!("it failed on {lost} of {asked}{LOST}, the last: {}", self.last))
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
        for queue in self.queues.values_mut() {
            // Who is asked about again has no answer yet.
            if queue.uncomputed.faulted.is_empty() && !queue.asks_again() {
                (queue.uncomputed.since, queue.uncomputed.last) = (None, None);
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
    /// count on. One that is on trial for that, and does not any more, runs for good.
    pub(super) fn hold_those_that_lose_many(&mut self) {
        let compiled = Arc::clone(&self.compiled);
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let (id, is_settled) = (model.installed.id, self.is_settled(model));
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            match queue.reevaluation.judge(model.token, &queue.stale, is_settled) {
                Judgement::Open => {}
                Judgement::Passed => {
                    queue.reevaluation.stage = Stage::Runs;
                    self.shared.pass_trial(&self.workspace, id, TrialKind::People);
                }
                Judgement::Lost(reason) => {
                    queue.reevaluation.stage = Stage::Stopped;
                    self.shared.hold(self.workspace.id, id, &reason);
                }
            }
        }
    }

    /// Another setup is in force: versions that were stopped may be on trial by now, or were let run by somebody.
    pub(super) fn follow_trials(&mut self) {
        let compiled = Arc::clone(&self.compiled);
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let id = model.installed.id;
            if self.workspace.trials.under_way(id) == Some(TrialKind::People) {
                let queue = self.queues.entry(id).or_default();
                queue.reevaluation.begin_trial(model.token, &queue.uncomputed.faulted, &queue.stale);
            } else if let Some(queue) = self.queues.get_mut(&id) {
                queue.reevaluation.run();
            }
        }
    }

    /// Put people into the queue of a version on trial on whom it failed before: the same inputs are not tried otherwise. Their older
    /// values count as they did.
    pub(super) fn ask_again(&mut self) -> Result<(), PassError> {
        let mut people = self.budget.people.min(ASKED_PEOPLE);
        let on_trial: Vec<InstallationId> =
            self.queues.iter().filter(|(_, queue)| !queue.reevaluation.to_ask.is_empty()).map(|(id, _)| *id).collect();
        for id in on_trial {
            let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.reevaluation.stage == Stage::OnTrial)
            else {
                continue;
            };
            let next = queue.reevaluation.next_to_ask(people);
            people -= next.len();
            self.pass.has_more |= !queue.reevaluation.to_ask.is_empty();
            self.pass.asked_again.extend(next.iter().map(|ordinal| (id, *ordinal)));
            for ordinal in next {
                let Some(profile) = self.workspace.projection.read().profile(ordinal) else { continue };
                if self.leaves_out() {
                    self.leave_out(profile.0);
                    continue;
                }
                let held = self.held(id, profile);
                let Some(held) = self.readable(profile, held)?.flatten() else { continue };
                let has_values = !held.values.is_empty() && !held.is_taken_back();
                let (Freshness::Faulted { inputs }, true) = (held.freshness, has_values) else { continue };
                // Before the commit, in which the letters go of those who are neither faulted nor waiting.
                self.queues.entry(id).or_default().stale.insert(ordinal);
                if let Some(derived) = self.identities.derived_mut(profile.0) {
                    let again = Output { freshness: Freshness::Outdated { inputs }, ..held };
                    derived.outputs.insert((id, Track::Live), again);
                }
            }
        }
        Ok(())
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
    fn a_trial_ends_when_those_on_whom_it_failed_were_asked_about_again() {
        let (nobody, faulted) = (RoaringBitmap::new(), RoaringBitmap::from([0, 1, 2]));
        let mut tried = asked(3, 9);
        assert!(matches!(tried.judge(7, &nobody, true), Judgement::Lost(_)));
        tried.stage = Stage::Stopped;
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Open, "it is stopped once");
        tried.stop();
        tried.begin_trial(7, &faulted, &nobody);
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Open, "nobody was asked about yet");
        assert_eq!((tried.next_to_ask(2), tried.next_to_ask(2)), (vec![0, 1], vec![2]));
        assert_eq!(tried.judge(7, &faulted, true), Judgement::Open, "they wait");
        for ordinal in 0..3 {
            tried.note(7, ordinal, Some(&trap()));
        }
        let Judgement::Lost(reason) = tried.judge(7, &nobody, true) else { panic!("{tried:?}") };
        assert!(reason.starts_with("it failed on 3 of 12 people"), "{reason}");
        tried.stop();
        tried.begin_trial(7, &faulted, &nobody);
        tried.next_to_ask(3);
        tried.note(7, 0, Some(&trap()));
        tried.note(7, 1, None);
        tried.note(7, 2, None);
        assert_eq!(tried.judge(7, &nobody, false), Judgement::Open, "others have yet to be asked about");
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Passed);
    }

    #[test]
    fn who_lets_a_stopped_version_run_is_not_told_again_of_those_whom_it_lost_before() {
        let nobody = RoaringBitmap::new();
        let mut wanted = asked(3, 9);
        wanted.stage = Stage::Stopped;
        wanted.run();
        assert_eq!(wanted.judge(7, &nobody, true), Judgement::Open);
        let mut broken_off = asked(3, 9);
        broken_off.begin_trial(7, &RoaringBitmap::from([0, 1, 2]), &nobody);
        broken_off.next_to_ask(2);
        broken_off.stop();
        broken_off.begin_trial(7, &RoaringBitmap::from([2]), &RoaringBitmap::from([0, 1]));
        broken_off.next_to_ask(1);
        assert!(broken_off.asks_again(&RoaringBitmap::from([1])), "who waits since then is one of the trial's");
        let other = Reevaluation::of_stopped(7, RoaringBitmap::from([4]));
        assert_eq!(other.judge(7, &nobody, true), Judgement::Open);
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
