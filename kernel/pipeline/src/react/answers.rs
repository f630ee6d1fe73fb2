//! What is made of the answers of models: the outputs that are kept, what a job says of the model itself, and whose values
//! count as they were because a model was stopped.

use std::ops::Range;
use std::sync::Arc;

use kith_features::FeatureName;
use kith_model::audience::Cause;
use kith_model::id::{InstallationId, ProfileId};
use kith_model::plugin::PluginFault;
use kith_store::{ReadError, row};

use super::computation;
use super::effects::Effect;
use super::inbox::Incoming;
use super::models::{self, InputRow, JobResult, RowOutcome};
use super::reactor::{PassError, Reactor};
use super::replays::Replayed;
use crate::plan::{ModelPlan, Task};
use crate::profiles::facts::get_one;
use crate::rows::derived::{Freshness, ModelVersion, Output, OutputValue, Track};
use crate::rows::{Aside, ComputationSubject, MAX_NAMED_PEOPLE, computation_letter};
use crate::shared::{Culprit, MAX_STRIKES};
use crate::trials::TrialKind;

/// What a job says of the model itself, whatever became of its people meanwhile.
#[derive(Default)]
struct Verdict<'a> {
    /// Rows that were answered for.
    good: u64,
    /// The people whom the model cannot take, each of them asked about alone; without those of replays.
    faults: Vec<(ProfileId, &'a PluginFault)>,
    /// People who were left over beside too many failures.
    left: u64,
    /// The last passing fault, and how many people wait for its end.
    passing: Option<(&'a PluginFault, u64)>,
    /// The first of these people, as many as a letter names.
    waiting: Vec<ProfileId>,
    /// The last fault over the fitted state.
    unreadable: Option<&'a PluginFault>,
}

impl Verdict<'_> {
    /// The verdict of these rows. People who were asked about again because somebody wants it count where they were answered for.
    fn of<'a>(rows: &'a [(InputRow, RowOutcome)], replayed: &Replayed) -> Verdict<'a> {
        let mut verdict = Verdict::default();
        for (row, outcome) in rows {
            match outcome {
                RowOutcome::Values(_) => verdict.good += 1,
                RowOutcome::Faulted(_) if replayed.has_asked(row.ordinal) => {}
                RowOutcome::Faulted(fault) => verdict.faults.push((row.profile, fault)),
                RowOutcome::Later(fault) if models::needs_fit(fault) => verdict.unreadable = Some(fault),
                RowOutcome::Later(fault) if models::is_passing(fault) => {
                    let (_, people) = verdict.passing.unwrap_or((fault, 0));
                    verdict.passing = Some((fault, people + 1));
                    if verdict.waiting.len() < MAX_NAMED_PEOPLE {
                        verdict.waiting.push(row.profile);
                    }
                }
                RowOutcome::Later(_) => verdict.left += 1,
            }
        }
        verdict
    }
}

/// Rows of a result that are taken in before the pass looks at its budget again.
const ROWS_AT_ONCE: usize = 64;

/// People whose pending values one pass turns into held ones.
const DEMOTED_PEOPLE: usize = 1_000;

impl Reactor {
    /// Take in what came of jobs since the last pass, within the budget. The rest lies in the inbox again once the pass is
    /// durable, and all of it where the pass fails.
    pub(super) fn take_results(&mut self) -> Result<(), PassError> {
        let compiled = Arc::clone(&self.compiled);
        let all = self.workspace.inbox.take();
        self.pass.taken.extend(all.iter().cloned());
        let mut people = self.budget.people;
        for Incoming { result, mut next } in all {
            let Some((_, model)) = compiled.plan.model(result.installation) else { continue };
            while next < result.rows.len() && people > 0 && self.identities.pass_bytes() <= self.budget.bytes {
                if self.leaves_out() {
                    let (row, _) = &result.rows[next];
                    self.unqueue(result.installation, row.ordinal);
                    self.leave_out(row.profile.0);
                    (next, people) = (next + 1, people - 1);
                    continue;
                }
                let count = (result.rows.len() - next).min(people).min(ROWS_AT_ONCE);
                for (profile, output) in self.judge(model, &result, next..next + count)? {
                    self.answer(model, profile, output)?;
                }
                (next, people) = (next + count, people - count);
            }
            if next < result.rows.len() {
                self.pass.rest.push(Incoming { result, next });
                self.pass.has_more = true;
            } else {
                self.note_job(model, &result)?;
            }
        }
        Ok(())
    }

    /// Keep an answer that came after its cause was committed, and touch its readers with that cause.
    fn answer(&mut self, model: &ModelPlan, profile: ProfileId, output: Output) -> Result<(), PassError> {
        let Some(derived) = self.identities.person(profile.0).and_then(|root| root.derived.as_ref()) else {
            return Ok(());
        };
        let before = derived.outputs.get(&(model.installed.id, Track::Live)).cloned();
        let cause = computation::cause_of_answer(before.as_ref(), &output, self.is_settled(model));
        let position = match before.as_ref().map(|before| before.freshness) {
            Some(Freshness::Pending { position, .. }) => position,
            _ => self.pass.cursor.position,
        };
        let shown: Vec<_> = computation::shown(model, &output).collect();
        let held: Vec<_> = before.iter().flat_map(|before| computation::shown(model, before)).collect();
        let changed: Vec<FeatureName> =
            shown.into_iter().filter(|value| !held.contains(value)).map(|(feature, _)| feature).collect();
        let touch = self.touch(profile, cause, position)?;
        touch.features.extend(changed);
        self.identities.note_bytes(output.values.iter().map(OutputValue::size_bytes).sum());
        if let Some(derived) = self.identities.derived_mut(profile.0) {
            derived.outputs.insert((model.installed.id, Track::Live), output);
        }
        Ok(())
    }

    /// Whether the model has been asked about everybody as it is now.
    pub(super) fn is_settled(&self, model: &ModelPlan) -> bool {
        self.readiness.done.contains(&Task::Model(model.installed.id, model.token))
    }

    /// What these rows of a job come to: the outputs of those whose inputs are still the ones that it saw.
    pub(super) fn judge(
        &mut self,
        model: &ModelPlan,
        result: &JobResult,
        rows: Range<usize>,
    ) -> Result<Vec<(ProfileId, Output)>, PassError> {
        let now = self.now();
        let mut outputs = Vec::new();
        let (mut number, present) = (None, self.numbered(&result.version));
        let is_running = model.installed.activity.is_running();
        for (row, outcome) in &result.rows[rows] {
            let held = self.held(model.installed.id, row.profile);
            let held = match self.readable(row.profile, held)? {
                // The call was under way when the version was stopped and what it had written was taken back.
                Some(Some(held)) if held.is_taken_back() && !is_running => continue,
                Some(Some(held)) if held.awaited() == Some(row.inputs) => held,
                Some(_) => continue,
                None => {
                    self.unqueue(model.installed.id, row.ordinal);
                    continue;
                }
            };
            let (position, set_off_by) = match held.freshness {
                Freshness::Pending { position, cause, .. } => (position, cause),
                _ => (self.pass.cursor.position, Cause::Change),
            };
            self.note_reevaluated(model, (row.ordinal, outcome), &held, present);
            let output = match outcome {
                RowOutcome::Values(answer) => {
                    self.take_emitted(model, result, (row, answer.events.as_slice()), &held)?;
                    let version = *number.get_or_insert_with(|| self.number(&result.version));
                    let (inputs, values) = (row.inputs, answer.values.clone());
                    let freshness = Freshness::Fresh;
                    Output { version, cause: position, at: now, inputs, values, freshness, set_off_by }
                }
                RowOutcome::Faulted(fault) => {
                    self.letter_of(result, fault, 1, &[row.profile])?;
                    let uncomputed = &mut self.queues.entry(model.installed.id).or_default().uncomputed;
                    uncomputed.tell_of(fault.code(), std::iter::once(row.ordinal));
                    uncomputed.note(now, fault);
                    Output { freshness: Freshness::Faulted { inputs: row.inputs }, ..held }
                }
                // They are in the queue still.
                RowOutcome::Later(_) => continue,
            };
            self.unqueue(model.installed.id, row.ordinal);
            outputs.push((row.profile, output));
        }
        Ok(outputs)
    }

    /// Note what the version whose number is `present` came to with somebody, where they have a value of another one and are asked about
    /// because it took that one's place.
    fn note_reevaluated(
        &mut self,
        model: &ModelPlan,
        (ordinal, outcome): (u32, &RowOutcome),
        held: &Output,
        present: Option<u32>,
    ) {
        let is_reevaluated = matches!(held.freshness, Freshness::Outdated { .. })
            && !held.values.is_empty()
            && !held.is_taken_back()
            && present != Some(held.version);
        let queue = self.queues.entry(model.installed.id).or_default();
        let counts = !queue.replayed.has_asked(ordinal) || queue.reevaluation.counts(model.token, ordinal);
        match outcome {
            RowOutcome::Values(_) if is_reevaluated && counts => queue.reevaluation.note(model.token, ordinal, None),
            RowOutcome::Faulted(fault) if is_reevaluated && counts => {
                queue.reevaluation.note(model.token, ordinal, Some(fault));
            }
            RowOutcome::Values(_) | RowOutcome::Faulted(_) | RowOutcome::Later(_) => {}
        }
    }

    /// The number of a model version; a new one where this is its first answer. It is given in the pass that keeps the answer:
    /// were it given when the job begins and that pass failed, the next one would give it to another version.
    fn number(&mut self, version: &ModelVersion) -> u32 {
        if let Some(number) = self.numbered(version) {
            return number;
        }
        let count = self.workspace.projection.read().versions.len() + self.pass.changes.versions.len();
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        self.pass.changes.versions.push(Arc::new(version.clone()));
        self.pass.effects.push(Effect::Version { number, version: version.clone() });
        number
    }

    /// The number of a model version that has answered for somebody.
    pub(super) fn numbered(&self, version: &ModelVersion) -> Option<u32> {
        let projection = self.workspace.projection.read();
        let mut all = projection.versions.iter().chain(&self.pass.changes.versions);
        all.position(|known| known.as_ref() == version).and_then(|number| u32::try_from(number).ok())
    }

    /// The output that is held of a profile now; `None` where there is no such profile any more.
    pub(super) fn held(
        &mut self,
        installation: InstallationId,
        profile: ProfileId,
    ) -> Result<Option<Output>, ReadError> {
        if self.identities.load_profile(profile)?.is_empty() {
            return Ok(None);
        }
        let derived = self.identities.person(profile.0).and_then(|root| root.derived.as_ref());
        Ok(derived.and_then(|derived| derived.outputs.get(&(installation, Track::Live))).cloned())
    }

    /// Note what a job says of the model itself: it ends strikes and pauses, or counts against the model, or begins a pause.
    pub(super) fn note_job(&mut self, model: &ModelPlan, result: &JobResult) -> Result<(), PassError> {
        let (id, now) = (model.installed.id, self.now());
        // A job that began before another version or fit was put to use says nothing of that one.
        let is_present = model.version() == result.version;
        let queue = self.queues.entry(id).or_default();
        let verdict = Verdict::of(&result.rows, &queue.replayed);
        queue.end(result.took);
        match verdict.passing {
            // Beside somebody good, who was left over goes into the next job, which need not wait.
            None if verdict.good > 0 || verdict.left == 0 || !is_present => queue.resume(),
            None | Some(_) => queue.pause(now),
        }
        if verdict.good > 0 {
            queue.forgive();
            self.shared.forgive(self.workspace.id, id);
            metrics::counter!("kith_model_rows_total").increment(verdict.good);
        }
        if let Some((fault, people)) = verdict.passing {
            let is_passing =
                |outcome: &RowOutcome| matches!(outcome, RowOutcome::Later(fault) if models::is_passing(fault));
            let waiting = result.rows.iter().filter(|(_, outcome)| is_passing(outcome)).map(|(row, _)| row.ordinal);
            queue.uncomputed.tell_of(fault.code(), waiting);
            self.letter_of(result, fault, people, &verdict.waiting)?;
        }
        if is_present {
            // Of people on whom it failed before, more than one job may hold no other.
            let is_judged_by_people = self.workspace.trials.under_way(id) == Some(TrialKind::People);
            if verdict.good == 0 && !is_judged_by_people {
                self.count_faults(model, &verdict.faults);
            }
            if let Some(fault) = verdict.unreadable {
                self.shared.wait_for_fit(&self.workspace, &model.installed, fault);
            }
        }
        Ok(())
    }

    /// Count the faults of a job in which nobody was answered for. A version that has answered for somebody before gets one
    /// strike for all of them, whoever they are, because one sender may have made them all; and what it refuses is no fault
    /// of its own. One that never has is held as soon as it has failed on enough people.
    fn count_faults(&mut self, model: &ModelPlan, faults: &[(ProfileId, &PluginFault)]) {
        let (shared, workspace, id) = (Arc::clone(&self.shared), Arc::clone(&self.workspace), model.installed.id);
        let has_answered = self.numbered(&model.version()).is_some();
        let strikes = faults.iter().rev().filter(|(_, fault)| fault.is_strike());
        for (profile, fault) in strikes.take(if has_answered { 1 } else { MAX_STRIKES }) {
            shared.strike(&workspace, id, fault, Culprit::Profile(*profile));
        }
        let refused = || faults.iter().filter(|(_, fault)| matches!(fault, PluginFault::Permanent(_)));
        let Some((_, last)) = refused().next_back().filter(|_| !has_answered) else { return };
        let queue = self.queues.entry(id).or_default();
        let people = queue.refuse(model.token, refused().map(|(profile, _)| *profile));
        if people >= MAX_STRIKES {
            queue.forgive();
            let reason = format!("it refused all {people} people whom it was asked about, the last: {last}");
            shared.hold(workspace.id, id, &reason);
        }
    }

    /// The dead letter of an installation and a kind of fault, with so many more in its count, of whom `named` are some.
    pub(super) fn letter_of(
        &mut self,
        result: &JobResult,
        fault: &PluginFault,
        people: u64,
        named: &[ProfileId],
    ) -> Result<(), ReadError> {
        let key = computation_letter(self.workspace.id, result.installation, fault.code());
        let held = match self.pass.letters.get(&key) {
            Some(held) => Some(held.clone()),
            // One that cannot be read begins again.
            None => get_one(self.shared.store.as_ref(), &key)?.and_then(|row| row::decode::<Aside>(&row).ok()),
        };
        let (before, people_before, since) = match held {
            Some(Aside::Computation { at, since, profiles, about, .. }) => {
                (profiles, about.people, if since.0 == 0 { at } else { since })
            }
            _ => (0, Vec::new(), self.now()),
        };
        let mut about = ComputationSubject { people: people_before, ..result.about.clone() };
        named.iter().for_each(|person| about.name(*person, result.digests.get(person).copied()));
        let aside = Aside::Computation {
            at: self.now(),
            since,
            code: fault.code().to_owned(),
            message: fault.to_string(),
            profiles: before + people,
            about,
        };
        self.letter(key, aside);
        Ok(())
    }

    /// A model was stopped: what waited for it counts as it was.
    pub(super) fn demote(&mut self) -> Result<(), PassError> {
        let waiting: Vec<InstallationId> =
            self.queues.iter().filter(|(_, queue)| !queue.demoted.is_empty()).map(|(id, _)| *id).collect();
        let compiled = Arc::clone(&self.compiled);
        let mut people = DEMOTED_PEOPLE.min(self.budget.people);
        for id in waiting {
            let Some((_, model)) = compiled.plan.model(id) else { continue };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.give_up();
            let next: Vec<u32> = queue.demoted.iter().take(people).collect();
            people -= next.len();
            next.iter().for_each(|ordinal| {
                queue.demoted.remove(*ordinal);
            });
            self.pass.undemoted.extend(next.iter().map(|ordinal| (id, *ordinal)));
            self.pass.has_more |= !queue.demoted.is_empty();
            let profiles: Vec<ProfileId> = {
                let projection = self.workspace.projection.read();
                next.iter().filter_map(|ordinal| projection.profile(*ordinal)).collect()
            };
            for profile in profiles {
                if self.leaves_out() {
                    self.leave_out(profile.0);
                    continue;
                }
                let held = self.held(id, profile);
                let Some(held) = self.readable(profile, held)?.flatten() else { continue };
                if let (Freshness::Pending { inputs, .. }, false) = (held.freshness, held.values.is_empty()) {
                    let before = Output { freshness: Freshness::Outdated { inputs }, ..held };
                    self.demoted(model, profile, before)?;
                }
            }
        }
        Ok(())
    }

    fn demoted(&mut self, model: &ModelPlan, profile: ProfileId, output: Output) -> Result<(), PassError> {
        let features: Vec<FeatureName> = computation::shown(model, &output).map(|(feature, _)| feature).collect();
        let position = self.pass.cursor.position;
        let cause = if output.is_taken_back() { Cause::Undo } else { Cause::Change };
        self.touch(profile, cause, position)?.features.extend(features);
        if let Some(derived) = self.identities.derived_mut(profile.0) {
            derived.outputs.insert((model.installed.id, Track::Live), output);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kith_model::id::SourceIdentityId;
    use roaring::RoaringBitmap;

    use super::*;
    use crate::rows::uncomputed::{OrdinalSet, ReplayedPeople};

    /// Whoever had a letter tried again a few times, because its people should have been mended, had the model stopped.
    #[test]
    fn a_model_is_not_blamed_for_whom_somebody_wants_asked_about_again() {
        let trap = || RowOutcome::Faulted(PluginFault::Trapped { message: "no".into(), backtrace: Vec::new() });
        let row = |ordinal: u8| {
            let profile = ProfileId(SourceIdentityId([ordinal; 16]));
            InputRow { profile, ordinal: u32::from(ordinal), inputs: 0, cells: Vec::new(), misfit: None }
        };
        let rows = [(row(1), trap()), (row(2), trap()), (row(3), RowOutcome::Values(models::RowAnswer::default()))];
        let people = RoaringBitmap::from([1, 3]);
        let written = ReplayedPeople { asked: OrdinalSet(people.clone()), ..ReplayedPeople::default() };
        let replayed = Replayed::reopened(&written, &RoaringBitmap::new(), &people);
        let blamed = |verdict: Verdict<'_>| verdict.faults.iter().map(|(profile, _)| *profile).collect::<Vec<_>>();
        let verdict = Verdict::of(&rows, &replayed);
        assert_eq!((verdict.good, blamed(verdict)), (1, vec![row(2).profile]));
        assert_eq!(blamed(Verdict::of(&rows, &Replayed::default())).len(), 2);
    }
}
