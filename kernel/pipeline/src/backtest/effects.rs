//! What other tags or scores of somebody come to: which of them differ, which audiences they would enter and leave, and what
//! would be sent because of that. It is the steps of the reactor after a model's answer, without one that writes.

use std::collections::{BTreeMap, BTreeSet};

use kith_features::{FeatureName, Value};
use kith_model::audience::Cause;
use kith_model::change::Movement;
use kith_model::id::{AudienceId, ProfileId};
use kith_store::{Key, ReadError, row};

use super::Kept;
use super::batch::Bench;
use super::report::{BacktestExample, BacktestLine, MessageCounts, MessageVerdict, definition};
use crate::deliver::gate::beforehand::{self, Imagined};
use crate::plan::{AudiencePlan, Task};
use crate::profiles::evaluation::Profile;
use crate::profiles::facts::get_one;
use crate::profiles::person::{Person, load_sealed};
use crate::react::effects::Step;
use crate::react::{Decision, fires};
use crate::rows::derived::{Entries, EntryMark, Track};
use crate::shadow::report::compare;
use crate::shadow::shown;

/// The audiences that are looked at, with what each is.
pub(super) type Lines = BTreeMap<AudienceId, u64>;

/// What would change of one person.
pub(super) struct Finding {
    profile: ProfileId,
    /// Of each feature what is live and what would be.
    values: Vec<(FeatureName, Value, Value)>,
    moves: Vec<Move>,
    undecided: Vec<AudienceId>,
    /// Whether what is live is not known yet, or may be of the version before.
    pub is_pending: bool,
}

/// Somebody would enter or leave an audience.
struct Move {
    audience: AudienceId,
    movement: Movement,
    /// `None` without an action.
    message: Option<MessageVerdict>,
}

impl Bench<'_> {
    /// What would change of these people, who are one, with the values `instead` of those that are live.
    pub(super) fn finding(
        &self,
        people: &mut [Person],
        instead: BTreeMap<FeatureName, Value>,
        lines: &Lines,
    ) -> Result<Finding, ReadError> {
        let (live, is_pending) = {
            let profile = Profile::new(people.iter().collect(), self.view());
            let live: Vec<Value> = instead.keys().map(|feature| profile.feature(feature)).collect();
            let is_pending = self.awaits_live(&profile) || live.iter().any(Value::is_unknown);
            (live, is_pending)
        };
        let differing = instead.iter().zip(&live).filter(|((_, value), live)| value != live);
        let mut places = BTreeSet::new();
        for ((feature, _), _) in differing {
            self.compiled.plan.audience_reach.for_feature(feature, |place| {
                places.insert(place);
            });
        }
        let audiences = places.iter().filter_map(|place| self.compiled.plan.audiences.get(*place as usize));
        // One that was changed since is another one.
        let same = audiences.filter(|plan| lines.get(&plan.audience.id) == Some(&definition(plan)));
        let audiences: Vec<&AudiencePlan> = same.collect();
        for plan in &audiences {
            load_sealed(self.shared.store.as_ref(), self.workspace.id, people, &plan.condition, self.view())?;
        }
        let profile = Profile::new(people.iter().collect(), self.view()).with_outputs(&instead);
        let id = ProfileId(profile.root().id);
        let (mut moves, mut undecided) = (Vec::new(), Vec::new());
        for plan in audiences {
            // Until it was computed for everybody, who is stored as a member says nothing.
            if !self.done.contains(&plan.task()) {
                undecided.push(plan.audience.id);
                continue;
            }
            let (audience, was_member) = (plan.audience.id, is_member(&profile, plan.audience.id));
            let value = profile.evaluate_within(&plan.condition).unwrap_or(Value::Unknown);
            let movement = match (value.is_unknown(), was_member, value.is_true()) {
                (true, ..) => {
                    undecided.push(audience);
                    continue;
                }
                (false, false, true) => Movement::Entered,
                (false, true, false) => Movement::Left,
                (false, true, true) | (false, false, false) => continue,
            };
            moves.push(Move { audience, movement, message: self.message(&profile, plan, movement)? });
        }
        let values = instead.iter().zip(live).map(|((feature, value), live)| (feature.clone(), live, value.clone()));
        Ok(Finding { profile: id, values: values.collect(), moves, undecided, is_pending })
    }

    /// Whether the live version has yet to look at somebody, or to answer.
    fn awaits_live(&self, profile: &Profile<'_>) -> bool {
        let installation = self.model.installed.id;
        let derived = profile.root().derived.as_ref();
        let output = derived.and_then(|derived| derived.outputs.get(&(installation, Track::Live)));
        let was_met = self.done.contains(&Task::Model(installation, self.model.token));
        !was_met || output.is_some_and(|output| output.awaited().is_some())
    }

    /// What would become of the message of somebody who moves because of another version.
    fn message(
        &self,
        profile: &Profile<'_>,
        plan: &AudiencePlan,
        movement: Movement,
    ) -> Result<Option<MessageVerdict>, ReadError> {
        let (action, step) = match movement {
            Movement::Entered => (&plan.audience.on_enter, Step::Enter),
            Movement::Left => (&plan.audience.on_exit, Step::Exit),
        };
        let Some(action) = action else { return Ok(None) };
        let audience = plan.audience.id;
        let decision = Decision { audience, movement: Some(movement), cause: Cause::Change };
        if !fires(action, &decision, step, self.mark(profile, audience)?, self.now) {
            return Ok(Some(MessageVerdict::NotDue));
        }
        let (store, at) = (self.shared.store.as_ref(), self.now);
        let message = Imagined { audience, movement, profile: ProfileId(profile.root().id), action, at };
        let refusal = beforehand::refusal(store, self.workspace.id, &self.compiled.setup, message)?;
        Ok(Some(refusal.map_or(MessageVerdict::Passes, |reason| MessageVerdict::Refused { reason: shown(&reason) })))
    }

    /// What all members together remember of an audience.
    fn mark(&self, profile: &Profile<'_>, audience: AudienceId) -> Result<EntryMark, ReadError> {
        let mut mark = EntryMark::default();
        for person in &profile.people {
            let key = Key::entries(self.workspace.id, person.id);
            let read = get_one(self.shared.store.as_ref(), &key)?;
            let entries: Entries = read.map_or(Ok(Entries::default()), |read| row::decode(&read))?;
            mark = entries.0.get(&audience).map_or(mark, |held| mark.fold(*held));
        }
        Ok(mark)
    }
}

fn is_member(profile: &Profile<'_>, audience: AudienceId) -> bool {
    let derived = profile.root().derived.as_ref();
    derived.is_some_and(|derived| derived.memberships.contains_key(&audience))
}

/// Count what would change of one person.
pub(super) fn note(kept: &mut Kept, finding: &Finding) {
    let profile = finding.profile;
    for (feature, live, version) in &finding.values {
        let name = name(feature);
        if compare(&mut kept.report().outputs, name, something(live), something(version)) {
            let example = || BacktestExample { profile, live: told(live), version: told(version), message: None };
            kept.example(BacktestLine::Output(name.to_owned()), example);
        }
    }
    for moved in &finding.moves {
        let Move { audience, movement, message } = moved;
        let Some(effect) = kept.report().audiences.get_mut(audience) else { continue };
        let (count, messages, line) = match movement {
            Movement::Entered => (&mut effect.entered, &mut effect.on_enter, BacktestLine::Entered(*audience)),
            Movement::Left => (&mut effect.left, &mut effect.on_exit, BacktestLine::Left(*audience)),
        };
        *count += 1;
        message.iter().for_each(|verdict| add(messages, verdict));
        kept.example(line, || BacktestExample { profile, live: None, version: None, message: message.clone() });
    }
    for audience in &finding.undecided {
        if let Some(effect) = kept.report().audiences.get_mut(audience) {
            effect.undecided += 1;
        }
    }
}

fn add(messages: &mut MessageCounts, verdict: &MessageVerdict) {
    let count = match verdict {
        MessageVerdict::Passes => &mut messages.passes,
        MessageVerdict::Refused { .. } => &mut messages.refused,
        MessageVerdict::NotDue => &mut messages.not_due,
    };
    *count += 1;
}

/// The output that a feature is.
fn name(feature: &FeatureName) -> &str {
    match feature {
        FeatureName::Tag(name) | FeatureName::Score(name) => name,
        // A model writes nothing else.
        FeatureName::Trait(_)
        | FeatureName::CreatedAt
        | FeatureName::Identifiers(_)
        | FeatureName::Leaf(_)
        | FeatureName::Audience(_) => "",
    }
}

/// What there is of a value.
fn something(value: &Value) -> Option<&Value> {
    (!matches!(value, Value::Null | Value::Unknown)).then_some(value)
}

/// An output's value as an example shows it.
fn told(value: &Value) -> Option<String> {
    let json: serde_json::Value = match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => shown(text).into(),
        // An output is none of the others.
        Value::Null | Value::Unknown | Value::Time(_) | Value::Duration(_) | Value::List(_) | Value::Map(_) => {
            return None;
        }
    };
    Some(json.to_string())
}
