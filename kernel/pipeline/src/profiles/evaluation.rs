//! A profile as an expression sees it. Everything is read when an expression asks for it, so that an evaluation costs what
//! the expression reads, not what the profile holds.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use kith_features::{
    Expression, Facts, FeatureName, Leaf, LeafId, LeafSet, LeafState, PartValues, UnreadableState, Value, Zone,
};
use kith_model::consent::fold::{self, ProfilingAnswer};
use kith_model::profile::TraitValue;
use kith_model::time::Timestamp;

use super::person::Person;
use crate::plan::Plan;
use crate::rows::derived::{Freshness, Output, OutputValue, Track};

/// What values are computed against.
#[derive(Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub plan: &'a Plan,
    pub zone: &'a Zone,
    /// Leaves whose history has been read for everybody; the others are unknown.
    pub complete: &'a LeafSet,
    pub now: Timestamp,
}

/// A profile put together from its members, the one that names it first.
pub(crate) struct Profile<'a> {
    pub people: Vec<&'a Person>,
    pub view: Evaluation<'a>,
    /// Leaf values that were asked for.
    values: RefCell<LeafValues>,
    /// Values of what several audiences have in their conditions.
    parts: PartValues<'a>,
    /// Tags and scores that count in the place of those that are stored.
    instead: Option<&'a BTreeMap<FeatureName, Value>>,
}

/// Values of leaves, asked for many times for each event.
pub(crate) type LeafValues = HashMap<LeafId, Value, RandomState>;

impl<'a> Profile<'a> {
    /// The profile of these members; `people` begins with the one that names it and is not empty.
    pub(crate) fn new(people: Vec<&'a Person>, view: Evaluation<'a>) -> Profile<'a> {
        debug_assert!(
            people.first().is_some_and(|root| !root.members().is_empty()),
            "the first member names the profile"
        );
        let parts = PartValues::new(&view.plan.shared);
        Profile { people, view, values: RefCell::default(), parts, instead: None }
    }

    /// The same profile with values of leaves that are known of it at the same moment.
    pub(crate) fn knowing(self, values: LeafValues) -> Profile<'a> {
        Profile { values: RefCell::new(values), ..self }
    }

    /// The same profile as it would be with these tags and scores. Nothing that is stored changes.
    pub(crate) fn with_outputs(self, instead: &'a BTreeMap<FeatureName, Value>) -> Profile<'a> {
        let parts = PartValues::new(&self.view.plan.shared);
        Profile { instead: Some(instead), parts, ..self }
    }

    /// The values of leaves that were asked for, for [`Profile::knowing`].
    pub(crate) fn known(self) -> LeafValues {
        self.values.into_inner()
    }

    /// The member that names the profile.
    pub(crate) fn root(&self) -> &'a Person {
        self.people[0]
    }

    /// Whether the person objects to profiling: then nothing is computed of them.
    pub(crate) fn objects(&self) -> bool {
        let rules = &self.view.plan.identity_rules;
        let said = self.people.iter().filter_map(|person| {
            let consent = person.profiling.as_ref()?;
            Some(ProfilingAnswer { identity: person.id, form: rules.judge(&person.identifier).ok(), consent })
        });
        fold::objects(&said.collect::<Vec<_>>())
    }

    /// The value of an expression for this profile.
    pub(crate) fn evaluate(&self, expression: &Expression) -> Value {
        self.evaluate_at(expression, self.view.now)
    }

    /// The same; `None` where the budget of one evaluation ends before it is known. What several audiences have in their
    /// conditions is evaluated once.
    pub(crate) fn evaluate_within(&self, expression: &Expression) -> Option<Value> {
        let value = expression.evaluate_sharing(self, &|leaf| self.leaf_value(leaf), self.view.now, &self.parts);
        if value.is_none() {
            metrics::counter!("kith_evaluations_out_of_budget_total").increment(1);
        }
        value
    }

    /// The same at another moment, with the leaves as they are.
    pub(crate) fn evaluate_at(&self, expression: &Expression, now: Timestamp) -> Value {
        expression.evaluate_within(self, &|leaf| self.leaf_value(leaf), now).unwrap_or_else(|| {
            // Nobody can tell: whoever waits for the value sees one more pending person.
            metrics::counter!("kith_evaluations_out_of_budget_total").increment(1);
            Value::Unknown
        })
    }

    /// The value of a leaf; unknown while its history is being read.
    pub(crate) fn leaf_value(&self, id: LeafId) -> Value {
        if let Some(value) = self.values.borrow().get(&id) {
            return value.clone();
        }
        let value = match self.view.plan.program.leaf(id) {
            Some(leaf) if self.view.complete.contains(id) => self.value_so_far(leaf),
            _ => Value::Unknown,
        };
        self.values.borrow_mut().insert(id, value.clone());
        value
    }

    /// The value of a leaf of the events that it has taken in, whether its history has been read to the end or not; unknown
    /// where its state cannot be read.
    pub(crate) fn value_so_far(&self, leaf: &Leaf) -> Value {
        let (now, zone) = (self.view.now, self.view.zone);
        let value = self.with_leaf_states(leaf.id(), |states| leaf.value_of(states, now, zone));
        value.unwrap_or_else(|error| {
            tracing::error!(profile = %self.root().id, %error, "a leaf's value is unknown");
            Value::Unknown
        })
    }

    /// The value of a leaf of the events that it has taken in, as [`Profile::value_so_far`] gives it, and when time alone may
    /// next change it.
    pub(crate) fn look_at(&self, leaf: &Leaf) -> (Value, Option<Timestamp>) {
        let (now, zone) = (self.view.now, self.view.zone);
        let looked = self.with_leaf_states(leaf.id(), |states| {
            (leaf.value_of(states, now, zone), leaf.next_change_of(states, now, zone))
        });
        let Ok((value, next_change)) = looked else { return (self.value_so_far(leaf), None) };
        if self.view.complete.contains(leaf.id()) {
            self.values.borrow_mut().insert(leaf.id(), value.clone());
        }
        (value, next_change)
    }

    /// Look at all states of a leaf: of each member the live part and the sealed ones.
    fn with_leaf_states<T>(
        &self,
        id: LeafId,
        look: impl FnOnce(&[Cow<'a, LeafState>]) -> T,
    ) -> Result<T, UnreadableState> {
        // Most people are one identity whose leaf has a part, which needs no list.
        if let [person] = self.people.as_slice()
            && !person.sealed.contains_key(&id)
        {
            let state = person.derived.as_ref().map_or(Ok(None), |derived| derived.leaves.read(id))?;
            return Ok(look(state.as_slice()));
        }
        let mut states = Vec::new();
        for person in &self.people {
            if let Some(derived) = &person.derived {
                states.extend(derived.leaves.read(id)?);
            }
            states.extend(person.sealed.get(&id).map(Cow::Borrowed));
        }
        Ok(look(&states))
    }

    /// The winning value of a trait over all members.
    pub(crate) fn trait_of(&self, name: &str) -> Option<&'a TraitValue> {
        let held = self.people.iter().filter_map(|person| Some((person.contribution.traits.get(name)?, person.id)));
        held.max_by(|(one, at), (other, beside)| (one.rank(name), at).cmp(&(other.rank(name), beside)))
            .map(|(value, _)| value)
    }

    /// The value of a feature that has a column of its own.
    pub(crate) fn feature(&self, feature: &FeatureName) -> Value {
        match feature {
            FeatureName::Trait(name) => self.trait_value(name),
            FeatureName::Tag(_) | FeatureName::Score(_) => self.output(feature),
            FeatureName::CreatedAt => self.created_at().map_or(Value::Null, Value::Time),
            FeatureName::Identifiers(kind) => self.identifiers(kind),
            FeatureName::Leaf(leaf) => self.leaf_value(*leaf),
            FeatureName::Audience(audience) => {
                let derived = self.root().derived.as_ref();
                Value::Bool(derived.is_some_and(|derived| derived.memberships.contains_key(audience)))
            }
        }
    }

    /// What the installation that makes a tag or a score gave for it.
    fn output(&self, feature: &FeatureName) -> Value {
        if let Some(value) = self.instead.and_then(|instead| instead.get(feature)) {
            return value.clone();
        }
        let Some((installation, index)) = self.view.plan.outputs.get(feature) else { return Value::Null };
        let derived = self.root().derived.as_ref();
        let output = derived.and_then(|derived| derived.outputs.get(&(*installation, Track::Live)));
        if output.is_none() && self.objects() {
            // No model will ever be asked.
            return Value::Null;
        }
        output.map_or(Value::Unknown, |output| output_of(output, *index))
    }
}

/// One value of an installation's output: unknown while it is pending, and where the model failed before it ever gave one.
pub(crate) fn output_of(output: &Output, index: usize) -> Value {
    match output.freshness {
        Freshness::Pending { .. } => Value::Unknown,
        Freshness::Faulted { .. } if output.values.is_empty() => Value::Unknown,
        Freshness::Fresh | Freshness::Outdated { .. } | Freshness::Faulted { .. } => {
            output.values.get(index).map_or(Value::Null, output_value)
        }
    }
}

/// An output as the expression language's value.
pub(crate) fn output_value(value: &OutputValue) -> Value {
    match value {
        OutputValue::Null => Value::Null,
        OutputValue::Bool(value) => Value::Bool(*value),
        OutputValue::Int(value) => Value::Int(*value),
        OutputValue::Float(value) => Value::float(*value),
        OutputValue::Text(value) => Value::text(value.as_str()),
    }
}

impl Facts for Profile<'_> {
    fn trait_value(&self, name: &str) -> Value {
        self.trait_of(name).map_or(Value::Null, |held| Value::from_json_text(&held.json))
    }

    fn tag_value(&self, name: &str) -> Value {
        self.output(&FeatureName::Tag(name.into()))
    }

    fn score_value(&self, name: &str) -> Value {
        self.output(&FeatureName::Score(name.into()))
    }

    fn created_at(&self) -> Option<Timestamp> {
        self.people.iter().map(|person| person.created_at).min()
    }

    fn identifiers(&self, kind: &str) -> Value {
        let is_shown = |person: &&Person| person.identifier.kind == kind && !person.is_in_background;
        let mut of_kind: Vec<&Person> = self.people.iter().copied().filter(is_shown).collect();
        of_kind.sort_by_key(|person| person.id);
        let values: Vec<Value> =
            of_kind.into_iter().map(|person| Value::text(Arc::from(person.identifier.value.as_str()))).collect();
        if values.is_empty() { Value::Null } else { Value::List(values) }
    }
}
