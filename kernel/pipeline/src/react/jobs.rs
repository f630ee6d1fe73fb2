//! The reactor's side of models: which people go into a job, and what is made of its answer.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use kith_features::FeatureName;
use kith_model::audience::Cause;
use kith_model::id::{InstallationId, ProfileId};
use kith_model::plugin::PluginFault;
use kith_store::{Key, ReadError, row};
use roaring::RoaringBitmap;

use super::computation;
use super::models::{self, InputRow, Job, JobResult, RowOutcome};
use super::reactor::{PassError, Reactor};
use crate::guests::{Caller, GuestClass};
use crate::plan::ModelPlan;
use crate::profiles::evaluation::Profile;
use crate::profiles::facts::get_one;
use crate::rows::Aside;
use crate::rows::derived::{Freshness, ModelVersion, Output, Track};
use crate::shared::{Culprit, MAX_STRIKES};

/// How long a pass waits for a quick model.
const GRACE: Duration = Duration::from_millis(25);

/// People whose pending values one pass turns into held ones.
const DEMOTED_PEOPLE: u64 = 1_000;

impl Reactor {
    /// Run a model on these rows and wait a moment for it; its answer, if it came. A later one goes to the inbox.
    pub(super) fn run_now(&mut self, model: &ModelPlan, mut rows: Vec<InputRow>) -> Option<JobResult> {
        let now = self.now();
        let queue = self.queues.entry(model.installed.id).or_default();
        if !queue.is_free(now) || !queue.is_quick() {
            return None;
        }
        let mut bytes = 0;
        let fitting = rows.iter().take(models::MAX_BATCH_ROWS).take_while(|row| {
            bytes += models::row_bytes(row);
            bytes <= models::MAX_BATCH_BYTES
        });
        let count = fitting.count().max(1);
        rows.truncate(count);
        let (sender, receiver) = sync_channel(1);
        if !self.start_job(model, rows, Some(sender)) {
            return None;
        }
        match receiver.recv_timeout(GRACE) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => return None,
        }
        let mut results = self.workspace.inbox.take();
        let found = results.iter().position(|result| result.installation == model.installed.id);
        let result = found.map(|index| results.swap_remove(index));
        results.into_iter().for_each(|other| self.workspace.inbox.put(other));
        result
    }

    /// Hand a job to the guests' threads; whether they took it.
    fn start_job(
        &mut self,
        model: &ModelPlan,
        rows: Vec<InputRow>,
        told: Option<std::sync::mpsc::SyncSender<()>>,
    ) -> bool {
        let people: RoaringBitmap = rows.iter().map(|row| row.ordinal).collect();
        let version = self.version(model);
        let job = Job::new(model, version, rows);
        let (shared, workspace) = (Arc::clone(&self.shared), Arc::clone(&self.workspace));
        let kind = model.installed.kind.as_str();
        let caller = Caller {
            workspace: workspace.id,
            installation: model.installed.id,
            class: GuestClass::Model,
            bytes: job.size_bytes(),
        };
        let work = move || {
            let result = job.run();
            metrics::histogram!("kith_model_batch_seconds", "kind" => kind).record(result.took.as_secs_f64());
            workspace.inbox.put(result);
            // Whoever waits has gone when this fails, and finds the result in the inbox like any other.
            match told.map(|told| told.send(())) {
                Some(Ok(())) => {}
                _ => shared.wake_reactor(workspace.id),
            }
        };
        let taken = self.shared.guests.spawn(caller, work).is_ok();
        if taken {
            self.queues.entry(model.installed.id).or_default().begin(people);
        }
        taken
    }

    /// The number of the model as it is now; a new one where it never ran like this.
    fn version(&mut self, model: &ModelPlan) -> u32 {
        let wanted = ModelVersion {
            installation: model.installed.id,
            digest: model.installed.digest.clone(),
            config_hash: model.installed.config_hash,
            fit: model.fit(),
            kind: model.kind,
            outputs: model.installed.outputs.iter().map(|output| output.name.clone()).collect(),
        };
        let projection = self.workspace.projection.read();
        let all = projection.versions.iter().chain(&self.pass.changes.versions);
        let count = projection.versions.len() + self.pass.changes.versions.len();
        let found = all.enumerate().find(|(_, version)| ***version == wanted).map(|(number, _)| number);
        drop(projection);
        let number = u32::try_from(found.unwrap_or(count)).unwrap_or(u32::MAX);
        if found.is_none() {
            self.pass.changes.versions.push(Arc::new(wanted.clone()));
            self.pass.effects.push(super::effects::Effect::Version { number, version: wanted });
        }
        number
    }

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
                    let (version, inputs) = (result.version, row.inputs);
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
        if let Some(fault) = unreadable.filter(|_| self.version(model) == result.version) {
            self.shared.wait_for_fit(&self.workspace, &model.installed, &fault);
        }
        Ok(outputs)
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

    /// Give each model that is free the next of its stale people; whether the reactor should look again at once.
    pub(super) fn dispatch(&mut self) -> Result<bool, PassError> {
        let compiled = Arc::clone(&self.compiled);
        let now = self.now();
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let id = model.installed.id;
            let queue = self.queues.entry(id).or_default();
            if queue.stale.is_empty() || !queue.is_free(now) {
                continue;
            }
            let next: Vec<u32> = queue.stale.iter().take(models::MAX_BATCH_ROWS).collect();
            let rows = self.gather(model, &next)?;
            if rows.is_empty() {
                continue;
            }
            // A version that the job's values will name is durable, and known to readers, before the job begins: the next pass
            // starts with nothing of this one.
            self.version(model);
            if !self.pass.effects.is_empty() {
                self.commit()?;
            }
            self.start_job(model, rows, None);
        }
        self.identities.abandon();
        Ok(self.pass.has_more)
    }

    /// The rows of these people; those who are no more, or have nothing to do, leave the queue.
    fn gather(&mut self, model: &ModelPlan, ordinals: &[u32]) -> Result<Vec<InputRow>, PassError> {
        let compiled = Arc::clone(&self.compiled);
        let zone = &compiled.setup.zone;
        let today = zone.start_of_day(zone.day(self.now()));
        let profiles: Vec<(u32, Option<ProfileId>)> = {
            let projection = self.workspace.projection.read();
            ordinals.iter().map(|ordinal| (*ordinal, projection.profile(*ordinal))).collect()
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (ordinal, profile) in profiles {
            let row = match profile {
                Some(profile) => self.row_of(model, profile, today)?,
                None => None,
            };
            match row {
                Some(row) => {
                    bytes += models::row_bytes(&row);
                    rows.push(row);
                }
                None => {
                    if let Some(queue) = self.queues.get_mut(&model.installed.id) {
                        queue.stale.remove(ordinal);
                    }
                }
            }
            if bytes > models::MAX_BATCH_BYTES || self.identities.pass_bytes() > 2 * self.budget.bytes {
                break;
            }
        }
        Ok(rows)
    }

    fn row_of(
        &mut self,
        model: &ModelPlan,
        profile: ProfileId,
        today: kith_model::time::Timestamp,
    ) -> Result<Option<InputRow>, PassError> {
        let members = self.identities.load_profile(profile)?;
        if members.is_empty() {
            return Ok(None);
        }
        let leaves: Vec<_> = model.leaves().filter_map(|leaf| self.compiled.plan.program.leaf(leaf)).cloned().collect();
        for leaf in &leaves {
            for member in &members {
                self.identities.load_sealed(*member, leaf)?;
            }
        }
        let people = self.identities.people(&members);
        let view = Reactor::view(&self.compiled, &self.readiness, self.now());
        let state = Profile::new(people, view);
        let held = state.root().derived.as_ref().and_then(|d| d.outputs.get(&(model.installed.id, Track::Live)));
        let awaited = held.and_then(Output::awaited);
        Ok(models::inputs(model, &state, today).filter(|row| awaited == Some(row.inputs)))
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
