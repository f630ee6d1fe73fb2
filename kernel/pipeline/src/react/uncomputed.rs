//! The people for whom the version of a model in use has no answer: who they are, the dead letters that tell of them, and the end
//! of a version that fails on many of those for whom the one before it had values (`reevaluation.rs`). Such a version is on trial from
//! time to time: it is asked again about those on whom it failed, and the same rule decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::id::InstallationId;
use kith_model::plugin::PluginFault;
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};
use roaring::RoaringBitmap;

use super::effects::Effect;
use super::queues::{Queue, Queues};
use super::reactor::{PassError, Reactor};
use super::reevaluation::{Judgement, Reevaluation, Stage};
use super::replays::Replayed;
use crate::plan::Plan;
use crate::rows::derived::{Freshness, Output, Track};
use crate::rows::uncomputed::{OrdinalSet, UncomputedRow};
use crate::rows::{Aside, computation_letter, computation_letters};
use crate::shared::Workspace;
use crate::trials::TrialKind;

/// People whom one pass puts into the queues of models that are asked about them again.
pub(super) const ASKED_PEOPLE: usize = 1_000;

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
    /// The people of whom each dead letter tells, by its code: as of the last commit those without an answer, and who came to it since.
    letters: LetterPeople,
}

/// The people of whom dead letters of one model tell, by the letters' codes.
type LetterPeople = BTreeMap<&'static str, RoaringBitmap>;

impl Uncomputed {
    /// A dead letter tells of these people.
    pub(crate) fn tell_of(&mut self, code: &'static str, people: impl Iterator<Item = u32>) {
        self.letters.entry(code).or_default().extend(people);
    }

    /// The people of whom the dead letter of that code tells.
    pub(super) fn told_by(&self, code: &str) -> Option<&RoaringBitmap> {
        self.letters.get(code)
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

/// The people of whom dead letters tell and who have no answer, by model.
pub(super) type LettersLeft = BTreeMap<InstallationId, LetterPeople>;

/// What is durable of each model, where there is anything.
pub(super) type UncomputedRows = BTreeMap<InstallationId, UncomputedRow>;

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

    /// The people of whom dead letters of models tell and who have no answer once what has moved is durable. A letter that tells of
    /// nobody else goes with the pass.
    pub(super) fn answer_letters(&mut self, moved: &[Moved]) -> LettersLeft {
        let told = self.queues.iter().filter(|(_, queue)| !queue.uncomputed.letters.is_empty());
        let (mut left, mut keys) = (LettersLeft::new(), Vec::new());
        for (id, queue) in told {
            let mut unanswered = queue.uncomputed.faulted.clone();
            for moved in moved.iter().filter(|moved| moved.installation == *id) {
                if moved.is_faulted {
                    unanswered.insert(moved.ordinal);
                } else {
                    unanswered.remove(moved.ordinal);
                }
            }
            unanswered |= &queue.stale;
            for (code, people) in &queue.uncomputed.letters {
                let people = people & &unanswered;
                if people.is_empty() {
                    keys.push(computation_letter(self.workspace.id, *id, code));
                } else {
                    left.entry(*id).or_default().insert(*code, people);
                }
            }
        }
        // What a job of this very pass has told of those who are answered for by now.
        keys.iter().for_each(|key| drop(self.pass.letters.remove(key)));
        if !keys.is_empty() {
            self.pass.effects.push(Effect::Dropped { keys });
        }
        left
    }

    /// What is to be durable of each model with the pass; what has changed of it is among the pass's effects.
    pub(super) fn keep_uncomputed(&mut self, left: &LettersLeft) -> UncomputedRows {
        let workspace = self.workspace.id;
        let row = |(id, queue): (&InstallationId, &Queue)| {
            let letters = left.get(id).into_iter().flatten();
            let letters = letters.map(|(code, people)| ((*code).to_owned(), OrdinalSet(people.clone()))).collect();
            let (tally, replayed) = (queue.reevaluation.tally(), queue.replayed.people(&queue.stale));
            let row = UncomputedRow { tally, letters, replayed };
            (row != UncomputedRow::default()).then_some((*id, row))
        };
        let rows: UncomputedRows = self.queues.iter().filter_map(row).collect();
        let durable = &self.durable_uncomputed;
        let changed = rows.iter().filter(|(id, row)| durable.get(id) != Some(row));
        let written = changed
            .map(|(id, row)| Effect::Uncomputed { key: UncomputedRow::key(workspace, *id), row: row::encode(row) });
        self.pass.effects.extend(written);
        let gone = durable.keys().filter(|id| !rows.contains_key(id));
        let keys: Vec<Key> = gone.map(|id| UncomputedRow::key(workspace, *id)).collect();
        if !keys.is_empty() {
            self.pass.effects.push(Effect::Dropped { keys });
        }
        rows
    }

    /// The pass is durable.
    pub(super) fn take_uncomputed(&mut self, moved: Vec<Moved>, mut left: LettersLeft, rows: UncomputedRows) {
        self.durable_uncomputed = rows;
        for Moved { installation, ordinal, is_faulted } in moved {
            if let Some(queue) = self.queues.get_mut(&installation) {
                queue.uncomputed.set(ordinal, is_faulted);
            }
        }
        for (id, queue) in &mut self.queues {
            queue.uncomputed.letters = left.remove(id).unwrap_or_default();
            queue.forget_replayed();
            // Who is asked about again has no answer yet.
            if queue.uncomputed.faulted.is_empty() && !queue.asks_again() {
                (queue.uncomputed.since, queue.uncomputed.last) = (None, None);
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

/// Take up at a start what an earlier process left of models, for whom the queues know already from the people's rows: how versions
/// did, of whom their dead letters tell, and who is asked about again because somebody wants it.
pub(super) fn reopen(
    store: &dyn Store,
    workspace: &Workspace,
    plan: &Plan,
    queues: &mut Queues,
) -> Result<UncomputedRows, ReadError> {
    let rows = UncomputedRow::read_all(store, workspace.id)?;
    for model in &plan.models {
        let id = model.installed.id;
        let row = rows.get(&id);
        if let Some(row) = row {
            let (activity, trial) = (&model.installed.activity, workspace.trials.under_way(id));
            let queue = queues.entry(id).or_default();
            queue.reevaluation = Reevaluation::reopened(row.tally.clone(), activity, trial);
            queue.replayed = Replayed::reopened(&row.replayed, &queue.uncomputed.faulted, &queue.stale);
        }
        let letters = computation_letters(store, workspace.id, id)?;
        if !letters.is_empty() {
            read_letters(letters, row, queues.entry(id).or_default());
        }
    }
    Ok(rows)
}

/// Take up the dead letters of a model's computations.
fn read_letters(letters: Vec<(&'static str, Aside)>, row: Option<&UncomputedRow>, queue: &mut Queue) {
    let uncomputed = &mut queue.uncomputed;
    for (name, letter) in letters {
        let Aside::Computation { at, since, code, message, .. } = letter else { continue };
        let people = match row.and_then(|row| row.letters.get(name)) {
            Some(OrdinalSet(people)) => people.clone(),
            None if name == EMITTED => continue,
            // Of a release that did not write it down.
            None => &uncomputed.faulted | &queue.stale,
        };
        uncomputed.letters.insert(name, people);
        let since = if since.0 == 0 { at } else { since };
        if !uncomputed.faulted.is_empty() {
            uncomputed.since = Some(uncomputed.since.map_or(since, |known| known.min(since)));
            if uncomputed.last.as_ref().is_none_or(|last| last.at < at) {
                uncomputed.last = Some(LastFault { at, code, message });
            }
        }
    }
}

/// The code of letters that may tell of events which a model emitted and for which there was no room: nobody emits them again.
pub(super) const EMITTED: &str = "limit.events";
