//! What follows for a slice of profiles: models, audiences, messages, timers, and what the index shows of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{FeatureName, LeafId, Value};
use kith_model::audience::{Cause, Membership};
use kith_model::change::{Change, Movement};
use kith_model::delivery::DeliveryState;
use kith_model::id::{InstallationId, Position, ProfileId};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Operation, ReadError};

use super::{RETRY_MS, Ready, Shown, Touch, WorkspaceReactor};
use crate::deliver::outbox;
use crate::plan::{AudiencePlan, ModelPlan, Plan};
use crate::react::models;
use crate::react::state::{self, Evaluation, Person, ProfileFacts, ProfileState};
use crate::rows::{self, Aside, Computed, DeliveryRow, Derived, ModelVersion};

impl WorkspaceReactor {
    /// Everything that follows for a slice of profiles.
    pub(super) fn compute(
        &mut self,
        slice: &[(ProfileId, Touch)],
        now: Timestamp,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let plan = Arc::clone(&self.plan);
        let setup = Arc::clone(&self.setup);
        let view = Evaluation { plan: &plan, zone: &setup.zone, now };
        let (mut profiles, mut touches) = self.load(slice, &view)?;
        let before: Vec<Derived> = profiles.iter().map(|profile| profile.derived.clone()).collect();
        self.run_models(&mut profiles, &mut touches, &view, operations);
        for ((mut profile, touch), before) in profiles.into_iter().zip(&touches).zip(before) {
            profile.derived.ordinal = Some(profile.ordinal);
            self.move_between_audiences(&mut profile, touch.cause, &view, operations);
            self.set_timer(&mut profile, touch.retry, &view, operations)?;
            self.show(&profile, &plan);
            let (person, dirty) = self.person(profile.id.0)?;
            *dirty |= profile.derived != before;
            person.kept.derived = profile.derived;
        }
        Ok(())
    }

    /// The profiles of a slice; those that are no more are left out.
    fn load(
        &mut self,
        slice: &[(ProfileId, Touch)],
        view: &Evaluation<'_>,
    ) -> Result<(Vec<ProfileState>, Vec<Touch>), ReadError> {
        let (mut profiles, mut touches) = (Vec::with_capacity(slice.len()), Vec::with_capacity(slice.len()));
        for (id, touch) in slice {
            let (person, _) = self.person(id.0)?;
            let Some(root) = person.head.root.clone().filter(|_| person.head.profile == *id) else { continue };
            let derived = std::mem::take(&mut person.kept.derived);
            for member in &root.members {
                self.person(*member)?;
            }
            let people: Vec<&Person> = root
                .members
                .iter()
                .filter_map(|member| self.pass.people.get(member).map(|(person, _)| person))
                .collect();
            if let Some(profile) = state::assemble(*id, &people, derived, view) {
                profiles.push(profile);
                touches.push(*touch);
            }
        }
        Ok((profiles, touches))
    }

    /// Whether all of an expression's leaves have their history.
    fn is_computable(&self, mut leaves: impl Iterator<Item = LeafId>) -> bool {
        leaves.all(|leaf| self.ready.leaves.contains(&leaf))
    }

    fn run_models(
        &mut self,
        profiles: &mut [ProfileState],
        touches: &mut [Touch],
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) {
        let live: BTreeSet<_> = view.plan.models.iter().map(|model| model.installed.id).collect();
        for profile in profiles.iter_mut() {
            profile.derived.outputs.retain(|installation, _| live.contains(installation));
        }
        for model in &view.plan.models {
            if !self.is_computable(model.leaves.iter().copied()) || self.is_quarantined(model.installed.id) {
                continue;
            }
            let version = self.version(model, operations);
            let causes: Vec<Position> = touches.iter().map(|touch| touch.cause).collect();
            let ran = models::run(model, version, profiles, view.plan, view.zone, view.now, |index| causes[index]);
            if !ran.computed.is_empty() {
                self.shared.forgive(self.id, model.installed.id);
                metrics::counter!("kith_model_rows_total").increment(ran.computed.len() as u64);
            }
            for (fault, indexes) in ran.faults {
                self.shared.strike(self.id, model.installed.id, &fault);
                if fault.may_retry() {
                    indexes.iter().for_each(|index| touches[*index].retry = true);
                }
                let aside = Aside::Computation {
                    at: view.now,
                    code: fault.code().to_owned(),
                    message: fault.to_string(),
                    profiles: indexes.len() as u64,
                };
                let (first, cause) = (profiles[indexes[0]].id, touches[indexes[0]].cause);
                let key = Key::set_aside(self.id, Some(model.installed.id))
                    .followed_by(&view.now.0.to_be_bytes())
                    .followed_by(&cause.0.to_be_bytes())
                    .followed_by(&first.0.0[8..]);
                operations.push(Operation::Put(key, rows::encode(&aside)));
            }
        }
    }

    fn is_quarantined(&self, installation: InstallationId) -> bool {
        let setup = self.known.setup.load();
        let known = setup.installations.iter().find(|installed| installed.id == installation);
        known.is_some_and(|installed| !installed.activity.is_running())
    }

    /// The number of the model as it is now; a new one where it never ran like this.
    fn version(&mut self, model: &ModelPlan, operations: &mut Vec<Operation>) -> u32 {
        let wanted = ModelVersion {
            installation: model.installed.id,
            digest: model.installed.digest.clone(),
            config_hash: model.installed.config_hash,
            fit: model.fit(),
            scores: model.is_scorer,
            outputs: model.installed.outputs.iter().map(|output| output.name.clone()).collect(),
        };
        let known = self.known.versions.read();
        let all = known.iter().map(Arc::as_ref).chain(&self.pass.versions);
        let count = known.len() + self.pass.versions.len();
        let found = all.enumerate().find(|(_, version)| **version == wanted).map(|(number, _)| number);
        drop(known);
        let number = u32::try_from(found.unwrap_or(count)).unwrap_or(u32::MAX);
        if found.is_none() {
            let name = number.to_be_bytes();
            let key = Key::definition(self.id, Definition::ModelVersion, &name);
            operations.push(Operation::Put(key, rows::encode(&wanted)));
            self.pass.versions.push(wanted);
        }
        number
    }

    fn move_between_audiences(
        &mut self,
        profile: &mut ProfileState,
        cause: Position,
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) {
        let wanted = view.plan.audience_ids();
        profile.derived.memberships.retain(|audience, _| wanted.contains(audience));
        for plan in &view.plan.audiences {
            if !self.is_computable(plan.condition.reads().leaves.iter().copied()) {
                continue;
            }
            let facts = ProfileFacts { state: profile, plan: view.plan };
            let leaf = |id| profile.leaf_values.get(&id).cloned().unwrap_or_default();
            let belongs = plan.condition.evaluate(&facts, &leaf, view.now).is_true();
            let audience = plan.audience.id;
            let was_member = profile.derived.memberships.contains_key(&audience);
            if belongs == was_member {
                continue;
            }
            if belongs {
                profile.derived.memberships.insert(audience, Membership { since: view.now, cause });
                self.enter(plan, profile, view.now, operations);
            } else {
                profile.derived.memberships.remove(&audience);
            }
            let change = Change::Membership {
                audience,
                profile: profile.id,
                movement: if belongs { Movement::Entered } else { Movement::Left },
                cause: Cause::Event,
                at: view.now,
            };
            operations.push(Operation::Append { workspace: self.id, record: rows::encode(&change), row: None });
        }
    }

    /// What entering an audience sets off.
    fn enter(&self, plan: &AudiencePlan, profile: &ProfileState, now: Timestamp, operations: &mut Vec<Operation>) {
        let Some(action) = &plan.audience.on_enter else { return };
        let send_key = format!("{} {} {} {}", self.id.0, plan.audience.id.0, profile.id, now.0);
        let id = xxhash_rust::xxh3::xxh3_128(send_key.as_bytes()).to_be_bytes();
        let row = DeliveryRow {
            channel: action.channel,
            audience: plan.audience.id,
            profile: profile.id,
            purpose: action.purpose.clone(),
            basis: action.basis,
            payload: action.payload.clone(),
            created_at: now,
            state: DeliveryState::Pending { attempts: 0, due_at: now, last_reason: None }.into(),
        };
        operations.push(Operation::Put(Key::delivery(self.id, &id), rows::encode(&row)));
        let queue = outbox(self.id, action.channel);
        operations.push(Operation::Enqueue { queue, id, due_at: now, body: Vec::new() });
    }

    fn set_timer(
        &mut self,
        profile: &mut ProfileState,
        retry: bool,
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let mut people = Vec::with_capacity(profile.members.len());
        for member in &profile.members {
            self.person(*member)?;
        }
        people
            .extend(profile.members.iter().filter_map(|member| self.pass.people.get(member).map(|(person, _)| person)));
        let due = state::next_change(profile, &people, view);
        let due = if retry {
            Some(due.map_or(view.now.plus_ms(RETRY_MS), |due| due.min(view.now.plus_ms(RETRY_MS))))
        } else {
            due
        };
        // A timer that fired has had its row deleted; one that stands is moved.
        if profile.derived.timer != due || due.is_some_and(|due| due <= view.now) {
            if let Some(old) = profile.derived.timer {
                operations.push(Operation::Delete(Key::timer(self.id, old, profile.id.0)));
            }
            if let Some(due) = due {
                operations.push(Operation::Put(Key::timer(self.id, due, profile.id.0), Vec::new()));
            }
            profile.derived.timer = due;
        }
        Ok(())
    }

    /// Note for the index what is new about a profile.
    fn show(&mut self, profile: &ProfileState, plan: &Plan) {
        let now = shown(profile, plan, &self.ready);
        let before = self.pass.values.get(&profile.id).or_else(|| self.shown.get(&profile.id));
        match before {
            Some(before) => changes(profile.ordinal, before, &now, &mut self.pass.index),
            // What the index holds is not at hand: begin anew.
            None => {
                self.pass.gone.push(profile.ordinal);
                changes(profile.ordinal, &Shown::new(), &now, &mut self.pass.index);
            }
        }
        self.pass.profiles.push((profile.ordinal, profile.id));
        self.pass.values.insert(profile.id, now);
    }
}

/// What has to be set in the index so that it shows `now` in place of `before`.
fn changes(ordinal: u32, before: &Shown, now: &Shown, index: &mut Vec<(u32, FeatureName, Value)>) {
    let mut before = before.iter().peekable();
    for (feature, value) in now {
        while let Some((lost, _)) = before.next_if(|(held, _)| held < feature) {
            index.push((ordinal, lost.clone(), Value::Null));
        }
        let held = before.next_if(|(held, _)| held == feature);
        if held.is_none_or(|(_, held)| held != value) {
            index.push((ordinal, feature.clone(), value.clone()));
        }
    }
    index.extend(before.map(|(lost, _)| (ordinal, lost.clone(), Value::Null)));
}

/// What the index shows of a profile.
pub(super) fn shown(profile: &ProfileState, plan: &Plan, ready: &Ready) -> Shown {
    let mut values = vec![(FeatureName::CreatedAt, Value::Time(profile.created_at))];
    values.extend(profile.traits.iter().map(|(name, value)| (FeatureName::Trait(name.as_str().into()), value.clone())));
    for (feature, (installation, index)) in &plan.outputs {
        let computed: Option<&Computed> = profile.derived.outputs.get(installation);
        if let Some(value) = computed.and_then(|computed| computed.values.get(*index)) {
            values.push((feature.clone(), state::output_value(value)));
        }
    }
    let leaves = profile.leaf_values.iter().filter(|(leaf, _)| ready.leaves.contains(leaf));
    values.extend(leaves.map(|(leaf, value)| (FeatureName::Leaf(*leaf), value.clone())));
    let audiences = profile.derived.memberships.keys();
    values.extend(audiences.map(|audience| (FeatureName::Audience(*audience), Value::Bool(true))));
    values.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_told_what_is_new_what_differs_and_what_is_lost() {
        let tag = |name: &str| FeatureName::Tag(name.into());
        let before = vec![(tag("a"), Value::Int(1)), (tag("b"), Value::Int(2)), (tag("d"), Value::Int(4))];
        let now = vec![(tag("b"), Value::Int(2)), (tag("c"), Value::Int(3)), (tag("d"), Value::Int(5))];
        let mut index = Vec::new();
        changes(9, &before, &now, &mut index);
        let expected = [(9, tag("a"), Value::Null), (9, tag("c"), Value::Int(3)), (9, tag("d"), Value::Int(5))];
        assert_eq!(index, expected);
        index.clear();
        changes(9, &now, &Shown::new(), &mut index);
        assert_eq!(index.len(), 3);
        assert!(index.iter().all(|(_, _, value)| *value == Value::Null));
    }
}
