//! A profile in memory, as computations see it, and how it is read from its rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kith_features::{Facts, FeatureName, LeafId, LeafState, Value, Zone};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::profile::{Contribution, IdentityHead, fold_traits};
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, ReadError, Store};

use crate::plan::Plan;
use crate::profiles::facts::whole_contribution;
use crate::rows::{self, Derived, Kept, OutputValue};

/// One source identity.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub head: IdentityHead,
    pub contribution: Contribution,
    pub kept: Kept,
}

/// A profile put together from its members.
pub(crate) struct ProfileState {
    pub id: ProfileId,
    pub created_at: Timestamp,
    pub identifiers: Vec<Identifier>,
    pub ordinal: u32,
    pub members: Vec<SourceIdentityId>,
    pub traits: BTreeMap<String, Value>,
    pub leaf_values: HashMap<LeafId, Value>,
    pub derived: Derived,
}

/// The rows of one source identity; `None` if there is none of that id.
pub(crate) fn read_identity(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<Option<Person>, ReadError> {
    let key = |row| Key::person(workspace, identity, row);
    let keys = [key(PersonRow::Head), Key::contribution(workspace, identity, 0), key(PersonRow::Kept)];
    let mut values = store.get(&keys)?.into_iter();
    let mut next = || values.next().flatten();
    let (head, contribution, kept) = (next(), next(), next());
    let Some(head) = head else { return Ok(None) };
    Ok(Some(Person {
        head: rows::decode("an identity's head", &head)?,
        contribution: contribution.map_or(Ok(Contribution::default()), |row| {
            whole_contribution(store, workspace, identity, rows::decode("an identity's facts", &row)?)
        })?,
        kept: kept.map_or(Ok(Kept::default()), |row| rows::decode("what is computed of an identity", &row))?,
    }))
}

/// The rows of a profile, put together.
pub(crate) fn read_profile(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: ProfileId,
    view: &Evaluation<'_>,
) -> Result<Option<ProfileState>, ReadError> {
    let Some(mut root) = read_identity(store, workspace, id.0)? else { return Ok(None) };
    let Some(profile) = root.head.root.clone() else { return Ok(None) };
    let derived = std::mem::take(&mut root.kept.derived);
    let mut people = vec![root];
    for member in profile.members.iter().filter(|member| **member != id.0) {
        people.extend(read_identity(store, workspace, *member)?);
    }
    let people: Vec<&Person> = people.iter().collect();
    Ok(assemble(id, &people, derived, view))
}

/// What values are computed against.
pub(crate) struct Evaluation<'a> {
    pub plan: &'a Plan,
    pub zone: &'a Zone,
    pub now: Timestamp,
}

/// Put a profile together from its members' rows; `None` if the identity names no profile.
pub(crate) fn assemble(
    id: ProfileId,
    people: &[&Person],
    derived: Derived,
    view: &Evaluation<'_>,
) -> Option<ProfileState> {
    let root = people.iter().find(|person| person.head.profile == id && person.head.root.is_some())?;
    let profile = root.head.root.as_ref()?;
    let mut state = ProfileState {
        id,
        created_at: root.head.created_at,
        identifiers: people.iter().map(|person| person.head.identifier.clone()).collect(),
        ordinal: root.head.ordinal,
        members: profile.members.clone(),
        traits: fold_values(&profile.members, people),
        leaf_values: HashMap::new(),
        derived,
    };
    state.leaf_values = leaf_values(people, view);
    Some(state)
}

/// The members' facts folded into one value each.
fn fold_values(members: &[SourceIdentityId], people: &[&Person]) -> BTreeMap<String, Value> {
    let contributions = members.iter().copied().zip(people.iter().map(|person| &person.contribution));
    let folded = fold_traits(contributions);
    folded.into_iter().map(|(name, held)| (name, Value::from_json_text(&held.value.json))).collect()
}

/// The value of every leaf of the plan.
fn leaf_values(people: &[&Person], view: &Evaluation<'_>) -> HashMap<LeafId, Value> {
    let mut values = HashMap::new();
    for leaf in view.plan.program.leaves() {
        let states: Vec<&LeafState> = people.iter().filter_map(|person| person.kept.leaves.get(&leaf.id())).collect();
        values.insert(
            leaf.id(),
            match states.as_slice() {
                [only] => leaf.value(only, view.now, view.zone),
                many => leaf.value(&leaf.merge(many), view.now, view.zone),
            },
        );
    }
    values
}

/// When time alone may next change what is computed of this profile.
pub(crate) fn next_change(profile: &ProfileState, people: &[&Person], view: &Evaluation<'_>) -> Option<Timestamp> {
    let leaves = view.plan.program.leaves().filter_map(|leaf| {
        let states: Vec<&LeafState> = people.iter().filter_map(|person| person.kept.leaves.get(&leaf.id())).collect();
        match states.as_slice() {
            [] => None,
            [only] => leaf.next_change_at(only, view.now, view.zone),
            many => leaf.next_change_at(&leaf.merge(many), view.now, view.zone),
        }
    });
    let facts = ProfileFacts { state: profile, plan: view.plan };
    let leaf = |id| profile.leaf_values.get(&id).cloned().unwrap_or_default();
    let conditions = view.plan.audiences.iter();
    let conditions =
        conditions.filter_map(|audience| audience.condition.next_change_at(&facts, &leaf, view.now, view.zone));
    // A model that is given `now` runs again every day.
    let uses_now = view.plan.models.iter().any(|model| model.uses_now);
    let midnight = uses_now.then(|| view.zone.start_of_day(view.zone.day(view.now) + 1));
    leaves.chain(conditions).chain(midnight).min()
}

/// A profile as an expression sees it.
pub(crate) struct ProfileFacts<'a> {
    pub state: &'a ProfileState,
    pub plan: &'a Plan,
}

impl ProfileFacts<'_> {
    /// A tag or a score, by where the plan says it is.
    fn output(&self, feature: &FeatureName) -> Value {
        let Some((installation, index)) = self.plan.outputs.get(feature) else { return Value::Null };
        let computed = self.state.derived.outputs.get(installation);
        computed.and_then(|computed| computed.values.get(*index)).map_or(Value::Null, output_value)
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

impl Facts for ProfileFacts<'_> {
    fn trait_value(&self, name: &str) -> Value {
        self.state.traits.get(name).cloned().unwrap_or_default()
    }

    fn tag_value(&self, name: &str) -> Value {
        self.output(&FeatureName::Tag(name.into()))
    }

    fn score_value(&self, name: &str) -> Value {
        self.output(&FeatureName::Score(name.into()))
    }

    fn created_at(&self) -> Option<Timestamp> {
        Some(self.state.created_at)
    }

    fn identifiers(&self, kind: &str) -> Value {
        let of_kind = self.state.identifiers.iter().filter(|identifier| identifier.kind == kind);
        let values: Vec<Value> = of_kind.map(|identifier| Value::text(Arc::from(identifier.value.as_str()))).collect();
        if values.is_empty() { Value::Null } else { Value::List(values) }
    }
}
