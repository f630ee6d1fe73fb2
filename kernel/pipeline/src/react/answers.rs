//! What is made of the answers of models: the outputs that are kept, what a job says of the model itself, and whose values
//! count as they were because a model was stopped.

use std::sync::Arc;

use kith_features::FeatureName;
use kith_model::audience::Cause;
use kith_model::id::{InstallationId, ProfileId};
use kith_model::plugin::PluginFault;
use kith_store::{Key, ReadError, row};

use super::computation;
use super::effects::Effect;
use super::models::{self, JobResult, RowOutcome};
use super::reactor::{PassError, Reactor};
use crate::plan::ModelPlan;
use crate::profiles::facts::get_one;
use crate::rows::Aside;
use crate::rows::derived::{Freshness, ModelVersion, Output, Track};
use crate::shared::{Culprit, MAX_STRIKES};

/// People whose pending values one pass turns into held ones.
const DEMOTED_PEOPLE: u64 = 1_000;

impl Reactor {
    /// Take in what came of jobs since the last pass.
    pub(super) fn take_results(&mut self) -> Result<(), PassError> {
        let compiled = Arc::clone(&self.compiled);
        for result in self.workspace.inbox.take() {
            let Some((_, model)) = compiled.plan.model(result.installation) else { continue };
            for (profile, output) in self.judge(model, result)? {
                self.answer(model, profile, output)?;
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
        let (cause, position) = match before.as_ref().map(|before| before.freshness) {
            Some(Freshness::Pending { cause, position, .. }) => (cause, position),
            _ => (Cause::Change, self.pass.cursor.position),
        };
        let shown: Vec<_> = computation::shown(model, &output).collect();
        let held: Vec<_> = before.iter().flat_map(|before| computation::shown(model, before)).collect();
        let changed: Vec<FeatureName> =
            shown.into_iter().filter(|value| !held.contains(value)).map(|(feature, _)| feature).collect();
        let touch = self.touch(profile, cause, position)?;
        touch.features.extend(changed);
        if let Some(derived) = self.identities.derived_mut(profile.0) {
            derived.outputs.insert((model.installed.id, Track::Live), output);
        }
        Ok(())
    }

    /// What a job's rows come to: the outputs of those whose inputs are still the ones that it saw.
    pub(super) fn judge(
        &mut self,
        model: &ModelPlan,
        result: JobResult,
    ) -> Result<Vec<(ProfileId, Output)>, PassError> {
        let now = self.now();
        let mut outputs = Vec::new();
        let mut number = None;
        let (mut good, mut passing, mut waiting, mut unreadable) = (0_u64, None, 0_u64, None);
        let mut refused = (0_usize, None);
        let queue = self.queues.entry(model.installed.id).or_default();
        queue.end(result.took);
        for (row, outcome) in result.rows {
            let held = match self.held(model.installed.id, row.profile)? {
                Some(held) if held.awaited() == Some(row.inputs) => held,
                _ => continue,
            };
            let position = match held.freshness {
                Freshness::Pending { position, .. } => position,
                _ => self.pass.cursor.position,
            };
            let output = match outcome {
                RowOutcome::Values(values) => {
                    good += 1;
                    let version = *number.get_or_insert_with(|| self.number(&result.version));
                    let inputs = row.inputs;
                    Output { version, cause: position, at: now, inputs, values, freshness: Freshness::Fresh }
                }
                RowOutcome::Faulted(fault) => {
                    self.note_fault(model.installed.id, row.profile, &fault)?;
                    if matches!(fault, PluginFault::Permanent(_)) {
                        refused = (refused.0 + 1, Some(fault));
                    }
                    Output { freshness: Freshness::Faulted { inputs: row.inputs }, ..held }
                }
                RowOutcome::Later(fault) => {
                    // Rows that were left over beside too many failures go into the next job, which need not wait.
                    if models::needs_fit(&fault) {
                        unreadable = Some(fault);
                    } else if models::is_passing(&fault) {
                        passing = Some(fault);
                        waiting += 1;
                    }
                    continue;
                }
            };
            if let Some(queue) = self.queues.get_mut(&model.installed.id) {
                queue.stale.remove(row.ordinal);
            }
            outputs.push((row.profile, output));
        }
        self.note_job(model.installed.id, good, passing.map(|fault| (fault, waiting)))?;
        if let (0, (people @ MAX_STRIKES.., Some(fault))) = (good, refused) {
            let reason = format!("it refused all {people} people whom it was asked about at once, the last: {fault}");
            self.shared.hold(self.workspace.id, model.installed.id, &reason);
        }
        // A job that began before a fit was put to use says nothing of that one.
        if let Some(fault) = unreadable.filter(|_| model.version() == result.version) {
            self.shared.wait_for_fit(&self.workspace, &model.installed, &fault);
        }
        Ok(outputs)
    }

    /// The number of a model version; a new one where this is its first answer. It is given in the pass that keeps the answer:
    /// were it given when the job begins and that pass failed, the next one would give it to another version.
    fn number(&mut self, version: &ModelVersion) -> u32 {
        let projection = self.workspace.projection.read();
        let all = projection.versions.iter().chain(&self.pass.changes.versions);
        let count = projection.versions.len() + self.pass.changes.versions.len();
        let found = all.enumerate().find(|(_, known)| known.as_ref() == version).map(|(number, _)| number);
        drop(projection);
        let number = u32::try_from(found.unwrap_or(count)).unwrap_or(u32::MAX);
        if found.is_none() {
            self.pass.changes.versions.push(Arc::new(version.clone()));
            self.pass.effects.push(Effect::Version { number, version: version.clone() });
        }
        number
    }

    /// The output that is held of a profile now; `None` where there is no such profile any more.
    fn held(&mut self, installation: InstallationId, profile: ProfileId) -> Result<Option<Output>, PassError> {
        if self.identities.load_profile(profile)?.is_empty() {
            return Ok(None);
        }
        let derived = self.identities.person(profile.0).and_then(|root| root.derived.as_ref());
        Ok(derived.and_then(|derived| derived.outputs.get(&(installation, Track::Live))).cloned())
    }

    /// Note how a job went: it ends strikes and pauses, or begins a pause.
    fn note_job(
        &mut self,
        installation: InstallationId,
        good: u64,
        passing: Option<(PluginFault, u64)>,
    ) -> Result<(), PassError> {
        let now = self.now();
        if good > 0 {
            self.workspace.forgive(installation);
            metrics::counter!("kith_model_rows_total").increment(good);
        }
        let queue = self.queues.entry(installation).or_default();
        match passing {
            None => queue.resume(),
            Some((fault, people)) => {
                queue.pause(now);
                self.letter_of(installation, &fault, people)?;
            }
        }
        Ok(())
    }

    /// A row that a model cannot take: one dead letter for each kind of fault, and a strike over this person's data.
    fn note_fault(
        &mut self,
        installation: InstallationId,
        profile: ProfileId,
        fault: &PluginFault,
    ) -> Result<(), PassError> {
        self.letter_of(installation, fault, 1)?;
        let (shared, workspace) = (Arc::clone(&self.shared), Arc::clone(&self.workspace));
        shared.strike(&workspace, installation, fault, Culprit::Profile(profile));
        Ok(())
    }

    /// The dead letter of an installation and a kind of fault, with one more in its count.
    fn letter_of(&mut self, installation: InstallationId, fault: &PluginFault, people: u64) -> Result<(), ReadError> {
        let key = Key::set_aside(self.workspace.id, Some(installation)).followed_by(fault.code().as_bytes());
        let held = match self.pass.letters.get(&key) {
            Some(held) => Some(held.clone()),
            None => get_one(self.shared.store.as_ref(), &key)?.map(|row| row::decode::<Aside>(&row)).transpose()?,
        };
        let before = match held {
            Some(Aside::Computation { profiles, .. }) => profiles,
            _ => 0,
        };
        let aside = Aside::Computation {
            at: self.now(),
            code: fault.code().to_owned(),
            message: fault.to_string(),
            profiles: before + people,
        };
        self.letter(key, aside);
        Ok(())
    }

    /// A model was stopped: what waited for it counts as it was.
    pub(super) fn demote(&mut self) -> Result<(), PassError> {
        let waiting: Vec<InstallationId> =
            self.queues.iter().filter(|(_, queue)| !queue.demoted.is_empty()).map(|(id, _)| *id).collect();
        let compiled = Arc::clone(&self.compiled);
        for id in waiting {
            let Some((_, model)) = compiled.plan.model(id) else { continue };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.give_up();
            let next: Vec<u32> =
                queue.demoted.iter().take(usize::try_from(DEMOTED_PEOPLE).unwrap_or(usize::MAX)).collect();
            next.iter().for_each(|ordinal| {
                queue.demoted.remove(*ordinal);
            });
            self.pass.has_more |= !queue.demoted.is_empty();
            let profiles: Vec<ProfileId> = {
                let projection = self.workspace.projection.read();
                next.iter().filter_map(|ordinal| projection.profile(*ordinal)).collect()
            };
            for profile in profiles {
                let Some(held) = self.held(id, profile)? else { continue };
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
        self.touch(profile, Cause::Change, position)?.features.extend(features);
        if let Some(derived) = self.identities.derived_mut(profile.0) {
            derived.outputs.insert((model.installed.id, Track::Live), output);
        }
        Ok(())
    }
}
