//! Which people go into a job of a model, and when it begins.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use kith_model::id::{InstallationId, ProfileId};
use kith_store::ReadError;

use super::inbox::Incoming;
use super::models::{self, InputRow, Job};
use super::queues::Queue;
use super::reactor::{PassError, Reactor};
use crate::guests::{Caller, GuestClass};
use crate::plan::ModelPlan;
use crate::profiles::evaluation::Profile;
use crate::rows::derived::{Output, Track};
use crate::shadow;

/// How long a pass waits for a quick model.
const GRACE: Duration = Duration::from_millis(25);

/// How long people are read for one job beyond its first batch: whoever sent an event meanwhile waits for the reactor.
const GATHERING: Duration = Duration::from_millis(25);

impl Reactor {
    /// Run a model on these rows and wait a moment for it; its answer, if it came. A later one goes to the inbox.
    pub(super) fn run_now(&mut self, model: &ModelPlan, mut rows: Vec<InputRow>) -> Option<Incoming> {
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
        let _ = receiver.recv_timeout(GRACE);
        // Whoever tells of an answer from here on wakes the reactor instead. One who told after the grace and before this woke
        // nobody, so the inbox is looked into whether the answer came in time or not.
        drop(receiver);
        self.workspace.inbox.take_of(model.installed.id)
    }

    /// Hand a job to the guests' threads; whether they took it.
    fn start_job(
        &mut self,
        model: &ModelPlan,
        rows: Vec<InputRow>,
        told: Option<std::sync::mpsc::SyncSender<()>>,
    ) -> bool {
        let job = Job::new(model, rows);
        let (shared, workspace) = (Arc::clone(&self.shared), Arc::clone(&self.workspace));
        let kind = model.installed.kind.as_str();
        let caller = Caller {
            workspace: workspace.id,
            installation: model.installed.id,
            class: GuestClass::Model,
            bytes: job.size_bytes(),
            memory_bytes: model.installed.call_memory_bytes,
        };
        let asker = Arc::clone(&workspace);
        let wanted = move |job: &Job| {
            let compiled = asker.compiled.load();
            let model = compiled.plan.model(job.installation).map(|(_, model)| model);
            let is_present =
                |model: &ModelPlan| model.installed.activity.is_running() && model.version() == job.version;
            !asker.is_stopping() && model.is_some_and(is_present)
        };
        let work = move || {
            let (result, cells) = job.run_whole(wanted);
            let result = Arc::new(result);
            metrics::histogram!("kith_model_batch_seconds", "kind" => kind).record(result.took.as_secs_f64());
            workspace.inbox.put(Arc::clone(&result));
            // Whoever waits has gone when this fails, and finds the result in the inbox like any other.
            match told.map(|told| told.send(())) {
                Some(Ok(())) => {}
                _ => shared.wake_reactor(workspace.id),
            }
            // The answer is given, so that nothing of it waits for what is only compared.
            shadow::models::offer(&shared, &workspace, &result, cells);
        };
        let taken = self.shared.guests.spawn(caller, work).is_ok();
        if taken {
            self.queues.entry(model.installed.id).or_default().begin();
        }
        taken
    }

    /// Give each model that is free the next of its stale people; whether the reactor should look again at once.
    pub(super) fn dispatch(&mut self) -> Result<bool, PassError> {
        self.hold_those_that_lose_many();
        let compiled = Arc::clone(&self.compiled);
        let now = self.now();
        for model in compiled.plan.models.iter().filter(|model| model.installed.activity.is_running()) {
            let id = model.installed.id;
            let queue = self.queues.entry(id).or_default();
            if queue.stale.is_empty() || !queue.is_free(now) {
                continue;
            }
            let most = if queue.is_brief() { models::MAX_JOB_ROWS } else { models::MAX_BATCH_ROWS };
            let next: Vec<u32> = queue.stale.iter().take(most).collect();
            let rows = self.gather(model, &next)?;
            if rows.is_empty() {
                // Behind those who have left the queue there may be others.
                self.pass.has_more |= self.queues.get(&id).is_some_and(Queue::waits);
                continue;
            }
            self.start_job(model, rows, None);
        }
        if !self.pass.letters.is_empty() {
            self.commit()?;
        }
        // Nobody was changed for a job: whoever was read for one is as durable as before.
        self.identities.committed();
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
        let (begun, mut rows, mut bytes) = (Instant::now(), Vec::new(), 0);
        for (ordinal, profile) in profiles {
            let row = match profile {
                Some(profile) => {
                    let row = self.row_of(model, profile, today);
                    self.readable(profile, row)?.flatten()
                }
                None => None,
            };
            match row {
                Some(row) => {
                    bytes += models::row_bytes(&row);
                    rows.push(row);
                }
                None => self.unqueue(model.installed.id, ordinal),
            }
            let is_late = rows.len() >= models::MAX_BATCH_ROWS && begun.elapsed() > GATHERING;
            if is_late || bytes > models::MAX_BATCH_BYTES || self.identities.pass_bytes() > 2 * self.budget.bytes {
                break;
            }
        }
        Ok(rows)
    }

    /// A model need not look at this person any more, once the pass is durable.
    pub(super) fn unqueue(&mut self, installation: InstallationId, ordinal: u32) {
        if self.queues.get_mut(&installation).is_some_and(|queue| queue.stale.remove(ordinal)) {
            self.pass.unqueued.push((installation, ordinal));
        }
    }

    fn row_of(
        &mut self,
        model: &ModelPlan,
        profile: ProfileId,
        today: kith_model::time::Timestamp,
    ) -> Result<Option<InputRow>, ReadError> {
        let members = self.identities.load_profile(profile)?;
        if members.is_empty() {
            return Ok(None);
        }
        let (compiled, now) = (Arc::clone(&self.compiled), self.now());
        for leaf in model.leaves().filter_map(|leaf| compiled.plan.program.leaf(leaf)) {
            for member in &members {
                self.identities.load_sealed(*member, leaf, now, &compiled.setup.zone)?;
            }
        }
        let people = self.identities.people(&members);
        let view = Reactor::view(&compiled, &self.readiness, now);
        let state = Profile::new(people, view);
        let held = state.root().derived.as_ref().and_then(|d| d.outputs.get(&(model.installed.id, Track::Live)));
        let awaited = held.and_then(Output::awaited);
        Ok(models::inputs(model, &state, today).filter(|row| awaited == Some(row.inputs)))
    }
}
