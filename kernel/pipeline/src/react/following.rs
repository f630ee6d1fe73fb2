//! From touches to effects: the computation of each touched profile is applied to what is in hand, models that answer at once
//! are heard before audiences decide, and timers are set.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{FeatureName, Value};
use kith_model::audience::{Action, Cause, Membership, ReEntry, Reach};
use kith_model::change::Movement;
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, row};

use super::computation::{self, Decided, Decision, FirstValue, Need, Survey};
use super::effects::{self, Effect, Intent, Step};
use super::feed::leaves_of;
use super::inbox::Incoming;
use super::models::InputRow;
use super::objections::Objection;
use super::reactor::{PassError, Reactor};
use super::touch::{Acquaintance, Touch};
use crate::plan::{Task, feature};
use crate::profiles::evaluation::{LeafValues, Profile, output_of};
use crate::profiles::person::Person;
use crate::rows::derived::{Entries, EntryMark, Freshness, Track, Waker};
use crate::shared::CompiledSetup;

/// A touched profile on its way.
struct Work {
    profile: ProfileId,
    members: Vec<SourceIdentityId>,
    touch: Touch,
    survey: Survey,
    /// What has been computed of leaves so far: the survey's, and what models' inputs asked for.
    leaf_values: LeafValues,
}

impl Reactor {
    /// Compute what follows from all touches so far.
    pub(super) fn compute_touched(&mut self) -> Result<(), PassError> {
        let touched = std::mem::take(&mut self.pass.touched);
        self.pass.met.clear();
        if touched.is_empty() {
            return Ok(());
        }
        let mut works = Vec::with_capacity(touched.len());
        for (profile, touch) in touched {
            let surveyed = self.survey(profile, touch);
            works.extend(self.readable(profile, surveyed)?.flatten());
        }
        self.run_models(&mut works)?;
        for work in works {
            self.decide(work)?;
        }
        Ok(())
    }

    /// Find out what a touch reaches, and note what it changes about the profile itself.
    fn survey(&mut self, profile: ProfileId, mut touch: Touch) -> Result<Option<Work>, ReadError> {
        let compiled = Arc::clone(&self.compiled);
        let members = self.identities.load_profile(profile)?;
        if members.is_empty() {
            return Ok(None);
        }
        for task in touch.tasks.clone().iter().flat_map(|tasks| tasks.iter()) {
            match task {
                Task::Retract(removed) => {
                    touch.features.extend(self.retract(*removed, profile, &members));
                    self.forget_emitted(*removed, &members)?;
                }
                Task::Undo(number) => self.take_back(*number, profile, &members, &mut touch),
                Task::Model(..) | Task::Audience(..) => {}
            }
        }
        let objection = self.objection(&compiled, profile, &members);
        if objection == Objection::TakenBack {
            // All is computed again, and nothing of it is news.
            touch.cause = touch.cause.and(Cause::Undo);
        }
        if objection == Objection::Made {
            touch.features.extend(self.take_back_from_objector(&compiled, profile, &members));
        }
        self.load_sealed_of(&compiled, &members, &touch)?;
        let people = self.identities.people(&members);
        let view = Reactor::view(&compiled, &self.readiness, self.now());
        let room = LeafValues::with_capacity_and_hasher(touch.leaves.len(), Default::default());
        let surveyed = Profile::new(people, view).knowing(room);
        let survey = computation::survey(&surveyed, &touch);
        let leaf_values = surveyed.known();
        if touch.acquaintance == Acquaintance::New {
            // The row says from here on that the person is known.
            self.identities.derived_mut(profile.0);
        }
        Ok(Some(Work { profile, members, touch, survey, leaf_values }))
    }

    /// Read the sealed parts of the leaves that may be looked at.
    fn load_sealed_of(
        &mut self,
        compiled: &CompiledSetup,
        members: &[SourceIdentityId],
        touch: &Touch,
    ) -> Result<(), ReadError> {
        let is_any_sealed = |id: &SourceIdentityId| self.identities.person(*id).is_some_and(Person::has_sealed_leaves);
        if !members.iter().any(is_any_sealed) {
            return Ok(());
        }
        let mut wanted: BTreeSet<_> = touch.leaves.keys().copied().collect();
        wanted.extend(touch.wakers.iter().filter_map(|waker| match waker {
            Waker::Leaf(leaf) => Some(*leaf),
            Waker::Audience(_) | Waker::Model(_) => None,
        }));
        // What expressions will read is known only when they are evaluated; a person with sealed leaves has few of them.
        wanted.extend(leaves_of(&self.features_of(members)));
        let now = self.now();
        for leaf in wanted.iter().filter_map(|leaf| compiled.plan.program.leaf(*leaf)) {
            for member in members {
                self.identities.load_sealed(*member, leaf, now, &compiled.setup.zone)?;
            }
        }
        Ok(())
    }

    /// Take back what a removed installation wrote; the features that are null for the profile since. They are looked at where
    /// it wrote nothing as well: of a model that was never heard what it would say was unknown, and it is null now.
    pub(super) fn retract(
        &mut self,
        installation: InstallationId,
        profile: ProfileId,
        members: &[SourceIdentityId],
    ) -> BTreeSet<FeatureName> {
        let key = (installation, Track::Live);
        let holds = |id: &&SourceIdentityId| {
            let derived = self.identities.person(**id).and_then(|person| person.derived.as_ref());
            derived.is_some_and(|derived| derived.outputs.contains_key(&key))
        };
        let holders: Vec<SourceIdentityId> = members.iter().filter(holds).copied().collect();
        let is_held = !holders.is_empty();
        for id in holders {
            if let Some(derived) = self.identities.derived_mut(id) {
                derived.outputs.remove(&key);
            }
            tracing::trace!(installation = installation.0, %profile, "values were taken back");
        }
        let mut features = self.compiled.plan.unwritten.clone();
        if is_held {
            let projection = self.workspace.projection.read();
            let versions = projection.versions.iter().filter(|version| version.installation == installation);
            features.extend(
                versions.flat_map(|version| version.outputs.iter().map(|output| feature(version.kind, output))),
            );
        }
        features
    }

    /// Run the models that the touches reach, each after those whose outputs it reads, and wait a moment for those that are
    /// quick: their values then come in the same commit as what caused them.
    fn run_models(&mut self, works: &mut [Work]) -> Result<(), PassError> {
        let compiled = Arc::clone(&self.compiled);
        for (place, model) in (0_u32..).zip(&compiled.plan.models) {
            let mut rows: Vec<InputRow> = Vec::new();
            for work in works.iter_mut().filter(|work| work.survey.models.contains(&place)) {
                rows.extend(self.need(&compiled, place, work));
            }
            if rows.is_empty() || !model.installed.activity.is_running() {
                continue;
            }
            if let Some(result) = self.run_now(model, rows) {
                self.hear(result, works)?;
            }
        }
        Ok(())
    }

    /// What a model has to do for one profile: its row, if it has to run.
    fn need(&mut self, compiled: &CompiledSetup, place: u32, work: &mut Work) -> Option<InputRow> {
        let model = &compiled.plan.models[place as usize];
        let installation = model.installed.id;
        let zone = &compiled.setup.zone;
        let today = zone.start_of_day(zone.day(self.now()));
        let (need, ordinal, before) = {
            let people = self.identities.people(&work.members);
            let view = Reactor::view(compiled, &self.readiness, self.now());
            let profile = Profile::new(people, view).knowing(std::mem::take(&mut work.leaf_values));
            let root = profile.root();
            let before = root.derived.as_ref().and_then(|d| d.outputs.get(&(installation, Track::Live))).cloned();
            let queue = self.queues.get(&installation);
            let first = if queue.is_some_and(|queue| queue.expecting.contains(root.ordinal)) {
                FirstValue::Expected
            } else if self.is_settled(model) {
                FirstValue::Settled
            } else {
                FirstValue::OfAChange
            };
            let need = computation::need(model, &profile, &work.touch, today, first);
            work.leaf_values = profile.known();
            (need, root.ordinal, before)
        };
        if model.uses_now {
            let midnight = zone.start_of_day(zone.day(self.now()) + 1);
            work.survey.timers.push((Waker::Model(installation), Some(midnight)));
        }
        let (output, row) = match need {
            Need::Nothing => return None,
            Need::Fresh => {
                self.unqueue(installation, ordinal);
                let fresh =
                    before.clone().map(|held| crate::rows::derived::Output { freshness: Freshness::Fresh, ..held });
                (fresh?, None)
            }
            Need::Run { row, output } => {
                let queue = self.queues.entry(installation).or_default();
                queue.stale.insert(ordinal);
                let failed = before.as_ref().map(|before| before.freshness);
                if work.touch.replayed.contains(&installation)
                    && failed == Some(Freshness::Faulted { inputs: row.inputs })
                {
                    queue.replayed.note_asked(ordinal);
                }
                (output, Some(row))
            }
            Need::Wait { output } => {
                self.unqueue(installation, ordinal);
                (output, None)
            }
        };
        if before.is_none() && work.touch.acquaintance == Acquaintance::New && model.installed.activity.is_running() {
            self.queues.entry(installation).or_default().expecting.insert(ordinal);
        }
        if before.as_ref() != Some(&output) {
            self.put_output(work, model, output);
        }
        row
    }

    /// Keep an output, and note what readers of it have to look at.
    fn put_output(&mut self, work: &mut Work, model: &crate::plan::ModelPlan, output: crate::rows::derived::Output) {
        let key = (model.installed.id, Track::Live);
        let Some(derived) = self.identities.derived_mut(work.profile.0) else { return };
        let before = derived.outputs.get(&key);
        // What comes in the place of what was taken back is no news.
        if !output.is_taken_back() && before.is_some_and(crate::rows::derived::Output::is_taken_back) {
            work.touch.cause = work.touch.cause.and(Cause::Undo);
        }
        let plan = &self.compiled.plan;
        for (index, spec) in model.installed.outputs.iter().enumerate() {
            let value = output_of(&output, index);
            if before.is_some_and(|before| output_of(before, index) == value) {
                continue;
            }
            let feature = model.feature(&spec.name);
            plan.audience_reach.for_feature(&feature, |reader| {
                work.survey.audiences.insert(reader);
            });
            plan.model_reach.for_feature(&feature, |reader| {
                work.survey.models.insert(reader);
            });
            work.survey.values.push((feature, value));
        }
        derived.outputs.insert(key, output);
    }

    /// Take in what a quick model answered for profiles that are being computed; `works` ascend by profile.
    fn hear(&mut self, incoming: Incoming, works: &mut [Work]) -> Result<(), PassError> {
        let compiled = Arc::clone(&self.compiled);
        self.pass.taken.push(incoming.clone());
        let Incoming { result, next } = incoming;
        let Some((_, model)) = compiled.plan.model(result.installation) else { return Ok(()) };
        let is_settled = self.is_settled(model);
        for (profile, output) in self.judge(model, &result, next..result.rows.len())? {
            if let Ok(place) = works.binary_search_by_key(&profile, |work| work.profile) {
                let work = &mut works[place];
                let held = self.identities.person(profile.0).and_then(|root| root.derived.as_ref());
                let before = held.and_then(|derived| derived.outputs.get(&(model.installed.id, Track::Live)));
                let cause = computation::cause_of_answer(before, &output, is_settled);
                work.touch.answered.insert(model.installed.id, cause);
                self.put_output(work, model, output);
            }
        }
        self.note_job(model, &result)
    }

    /// Move the profile between audiences, set its timers, and note what the index shows of it.
    fn decide(&mut self, mut work: Work) -> Result<(), PassError> {
        let compiled = Arc::clone(&self.compiled);
        let now = self.now();
        let (decided, ordinal) = {
            let people = self.identities.people(&work.members);
            let view = Reactor::view(&compiled, &self.readiness, now);
            let profile = Profile::new(people, view).knowing(std::mem::take(&mut work.leaf_values));
            let decided = computation::decide(&profile, &work.survey.audiences, &work.touch, &self.readiness);
            (decided, profile.root().ordinal)
        };
        let Decided { mut decisions, timers, exhausted } = decided;
        self.faults.note(&compiled.plan, &work.survey.audiences, &exhausted, ordinal, now);
        if decisions.iter().any(|decision| counts_entries(&compiled, decision)) {
            // Before anything is changed: of whom it is not known what was sent moves nowhere.
            let entries = work.members.iter().try_for_each(|member| self.entries(*member).map(|_| ()));
            if self.readable(work.profile, entries)?.is_none() {
                decisions.clear();
            }
        }
        for decision in decisions {
            self.carry_out(&work, &compiled, &decision)?;
            if let Some(movement) = decision.movement {
                let value = Value::Bool(movement == Movement::Entered);
                work.survey.values.push((FeatureName::Audience(decision.audience), value));
            }
        }
        if work.touch.acquaintance == Acquaintance::New {
            self.show_memberships(&mut work);
        }
        self.pass.changes.values.extend(
            std::mem::take(&mut work.survey.values).into_iter().map(|(feature, value)| (ordinal, feature, value)),
        );
        work.survey.timers.extend(timers);
        self.set_timers(&work);
        Ok(())
    }

    /// A profile that the index does not know yet shows the memberships that it inherited.
    fn show_memberships(&self, work: &mut Work) {
        let derived = self.identities.person(work.profile.0).and_then(|root| root.derived.as_ref());
        let held = derived.iter().flat_map(|derived| derived.memberships.keys());
        let shown = held.map(|audience| (FeatureName::Audience(*audience), Value::Bool(true)));
        work.survey.values.extend(shown);
    }

    /// Carry a decision out: the membership, its record, what is remembered of it, and a message if an action fires.
    fn carry_out(&mut self, work: &Work, compiled: &CompiledSetup, decision: &Decision) -> Result<(), PassError> {
        let Some(plan) = compiled.plan.audience(decision.audience) else { return Ok(()) };
        let (now, cause) = (self.now(), decision.cause);
        let (action, step) = match decision.movement {
            Some(Movement::Left) => (plan.audience.on_exit.as_ref(), Step::Exit),
            Some(Movement::Entered) | None => (plan.audience.on_enter.as_ref(), Step::Enter),
        };
        if let Some(movement) = decision.movement {
            let membership = Membership { since: now, cause: work.touch.position };
            if let Some(derived) = self.identities.derived_mut(work.profile.0) {
                match movement {
                    Movement::Entered => {
                        derived.memberships.insert(decision.audience, membership);
                    }
                    Movement::Left => {
                        derived.memberships.remove(&decision.audience);
                    }
                }
            }
            let (audience, profile) = (decision.audience, work.profile);
            self.pass.effects.push(Effect::Moved { audience, profile, movement, cause, at: now });
        }
        if !plan.audience.counts_entries() {
            return Ok(());
        }
        let mut mark = self.remembered(&work.members, decision)?;
        if decision.movement == Some(Movement::Entered) && (cause != Cause::Rebuild || mark.entries == 0) {
            // A replay finds the entry that it made before, and does not make it again.
            mark.entries = mark.entries.saturating_add(1);
        }
        let fires = action.is_some_and(|action| fires(action, decision, step, mark, now));
        if let (Some(action), true) = (action, fires) {
            let id = effects::message_id(self.workspace.id, decision.audience, work.profile, mark.entries, step);
            // Each entry has a number of its own. But one who left and became one person with a member leaves again without
            // having entered again: of one entry there is one message each way.
            let is_new = cause < Cause::Import && step == Step::Enter;
            if is_new || !self.was_sent(&id)? {
                self.pass.sent.insert(id);
                match step {
                    Step::Enter => mark.fired_at = Some(now),
                    Step::Exit => mark.exit_fired_at = Some(now),
                }
                let (audience, profile) = (decision.audience, work.profile);
                let cause = work.touch.position;
                let intent = Intent { id, audience, step, profile, action: action.clone(), at: now, cause };
                self.pass.effects.push(Effect::Send(Box::new(intent)));
            }
        }
        self.remember(work.profile.0, decision, mark)
    }

    /// Whether there is a delivery of that id: what a definition sends to its members it sends once.
    fn was_sent(&self, id: &kith_store::JobId) -> Result<bool, ReadError> {
        if self.pass.sent.contains(id) {
            return Ok(true);
        }
        let key = Key::delivery(self.workspace.id, id);
        Ok(crate::profiles::facts::get_one(self.shared.store.as_ref(), &key)?.is_some())
    }

    /// What all members together remember of an audience.
    fn remembered(&mut self, members: &[SourceIdentityId], decision: &Decision) -> Result<EntryMark, ReadError> {
        let mut mark = EntryMark::default();
        for member in members {
            let entries = self.entries(*member)?;
            mark = entries.0.get(&decision.audience).map_or(mark, |held| mark.fold(*held));
        }
        Ok(mark)
    }

    /// Let a profile that comes out of a split remember what all the parts of the former profile did: who was written to as a
    /// part of it must not be written to again as a part of something else.
    pub(super) fn remember_all(&mut self, profile: ProfileId, parts: &[SourceIdentityId]) -> Result<(), PassError> {
        let own = self.entries(profile.0).cloned();
        let Some(before) = self.readable(profile, own)? else { return Ok(()) };
        let mut marks = before.clone();
        for part in parts {
            let of_part = self.entries(*part).cloned();
            for (audience, held) in self.readable(*part, of_part)?.unwrap_or_default().0 {
                let mark = marks.0.entry(audience).or_default();
                *mark = mark.fold(held);
            }
        }
        if marks != before {
            *self.entries(profile.0)? = marks;
            self.pass.remembered.insert(profile.0);
        }
        Ok(())
    }

    fn entries(&mut self, identity: SourceIdentityId) -> Result<&mut Entries, ReadError> {
        if !self.pass.entries.contains_key(&identity) {
            let key = Key::entries(self.workspace.id, identity);
            let row = crate::profiles::facts::get_one(self.shared.store.as_ref(), &key)?;
            let entries = row.map_or(Ok(Entries::default()), |row| row::decode(&row))?;
            self.pass.entries.insert(identity, entries);
        }
        Ok(self.pass.entries.entry(identity).or_default())
    }

    fn remember(&mut self, identity: SourceIdentityId, decision: &Decision, mark: EntryMark) -> Result<(), PassError> {
        if self.entries(identity)?.0.insert(decision.audience, mark) != Some(mark) {
            self.pass.remembered.insert(identity);
        }
        Ok(())
    }

    /// Note when the profile's wakers are to be woken, and keep one timer row for the earliest.
    fn set_timers(&mut self, work: &Work) {
        let profile = work.profile.0;
        let Some((from, at)) = self.identities.set_timers(profile, &work.survey.timers) else { return };
        self.pass.effects.push(Effect::Wake { profile, from, at });
        if let Some(due) = at {
            self.next_timer = Some(self.next_timer.map_or(due, |next| next.min(due)));
            self.pass.earliest_timer = Some(self.pass.earliest_timer.map_or(due, |earliest| earliest.min(due)));
        }
    }
}

/// Whether the entries into the decision's audience are counted.
fn counts_entries(compiled: &CompiledSetup, decision: &Decision) -> bool {
    compiled.plan.audience(decision.audience).is_some_and(|plan| plan.audience.counts_entries())
}

/// Whether an action is taken: for a person's own event and for time always, for imports and for those who were members
/// before only if it asks for them, for everything else never; and then as often as it allows.
pub(crate) fn fires(action: &Action, decision: &Decision, step: Step, mark: EntryMark, now: Timestamp) -> bool {
    let is_asked = match decision.cause {
        Cause::Event | Cause::Time => decision.movement.is_some(),
        Cause::Import => action.imports == Reach::Send && decision.movement.is_some(),
        Cause::Change => action.existing == Reach::Send && step == Step::Enter,
        Cause::Merge | Cause::Undo | Cause::Rebuild => false,
    };
    let fired_at = match step {
        Step::Enter => mark.fired_at,
        Step::Exit => mark.exit_fired_at,
    };
    let may_again = match (action.re_entry, fired_at) {
        (_, None) | (ReEntry::Always, _) => true,
        (ReEntry::Never, Some(_)) => false,
        (ReEntry::After(pause_ms), Some(fired_at)) => now.0.saturating_sub(fired_at.0) >= pause_ms,
    };
    is_asked && may_again
}
