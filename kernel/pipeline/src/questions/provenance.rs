//! Where something of a person comes from: the version and the fit that computed a value, what it was computed of and the event
//! behind it; the event that stated a fact; the version of the connector that read an event.
//!
//! A value has the number of its version and a hash of its inputs, an event the number of its source. All else is found from these.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{EventFacts, Expression, FeatureName, Leaf};
use kith_model::audience::Cause;
use kith_model::change::Change;
use kith_model::event::RecordedEvent;
use kith_model::id::{Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::profile::{Provenance, TraitValue};
use kith_model::time::Timestamp;
use kith_store::{ChangeLimits, Key, KeyRange, ReadError, row};

use super::{QueryError, events, profile, workspace};
use crate::Kernel;
use crate::accept::readers::{Reader, reader_of};
use crate::plan::{ModelPlan, Plan};
use crate::profiles::evaluation::{Evaluation, Profile, output_value};
use crate::profiles::facts::{bucket_of, get_one, read_facts_row};
use crate::profiles::person::{self, load_sealed};
use crate::react::models;
use crate::react::projection::Projection;
use crate::rows::derived::{Derived, Output, OutputKind, OutputValue, Track};
use crate::shared::{CompiledSetup, KernelState};
use crate::turns::{Deadline, Patience};

/// What kind of value a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComputedKind {
    Tag,
    Score,
}

impl From<OutputKind> for ComputedKind {
    fn from(kind: OutputKind) -> ComputedKind {
        match kind {
            OutputKind::Tags => ComputedKind::Tag,
            OutputKind::Scores => ComputedKind::Score,
        }
    }
}

/// An event with what read it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventProvenance {
    pub recorded: RecordedEvent,
    /// The connector's version and the digest of its component; `None` for what no connector read, and for what came before this
    /// was noted.
    pub reader: Option<(String, String)>,
    /// Whether it is part of the person's history still: a correction takes the place of what it corrects.
    pub counts: bool,
}

/// Where a fact comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct FactProvenance {
    pub value: TraitValue,
    pub identity: SourceIdentityId,
    /// The event that stated it, if it is found.
    pub event: Option<EventProvenance>,
}

/// Where a computed value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueProvenance {
    /// The value as JSON text.
    pub json: String,
    pub provenance: Provenance,
    /// Those of the installation as it is now, with what they say now.
    pub inputs: Vec<InputProvenance>,
    pub state: InputState,
    /// What had it computed, as far as that was noted: of a value of before it says an event whatever it was.
    pub set_off_by: Cause,
    /// The event at the position that the value names, where it is one of the person.
    pub cause: Option<EventProvenance>,
    /// Where it is none, because a fit, a change or time set the value off: the last event of the person that the inputs read, of those
    /// that had come by that position.
    pub behind: Option<EventProvenance>,
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProvenance {
    pub name: String,
    pub expression: String,
    /// What it says of the person now, as JSON text; `None` where that cannot be told or is longer than [`MAX_INPUT_BYTES`].
    pub json: Option<String>,
}

/// Whether inputs are those that a value was computed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputState {
    /// They are, as their hash says.
    AsComputed,
    /// The person's events or facts, or the version, its configuration or its fit, are others by now.
    Changed,
    /// One of them is not known now, or nothing is computed of the person.
    Unknown,
}

/// What an input is shown with at most, in bytes.
pub const MAX_INPUT_BYTES: usize = 16 << 10;

/// Events that are looked through for one: of one moment for that which stated a fact, of a person for the last that inputs read.
const MAX_EVENTS_SEARCHED: usize = 512;

/// What one record of the log takes at most, so that one is read and no more.
const ONE_RECORD: ChangeLimits = ChangeLimits { records: 1, bytes: 1 };

impl Kernel {
    /// Where a tag or a score of a person comes from; `None` where there is none of that name, or no such person. Blocks, like the
    /// questions below.
    pub fn value_provenance(
        &self,
        workspace: WorkspaceId,
        profile: ProfileId,
        (kind, name): (ComputedKind, &str),
        patience: &Patience,
    ) -> Result<Option<ValueProvenance>, QueryError> {
        value_provenance(&self.shared, workspace, profile, (kind, name), patience)
    }

    /// Where a fact of a person comes from.
    pub fn fact_provenance(
        &self,
        workspace: WorkspaceId,
        profile: ProfileId,
        name: &str,
    ) -> Result<Option<FactProvenance>, QueryError> {
        fact_provenance(&self.shared, workspace, profile, name)
    }

    /// Where the event at a position of the log comes from, if it is one of the person.
    pub fn event_provenance(
        &self,
        workspace: WorkspaceId,
        profile: ProfileId,
        position: Position,
    ) -> Result<Option<EventProvenance>, QueryError> {
        super::workspace(&self.shared, workspace)?;
        let Some((_, members)) = profile::member_ids(&self.shared, workspace, profile)? else { return Ok(None) };
        Ok(event_at(&self.shared, workspace, &members, position)?)
    }
}

fn value_provenance(
    shared: &KernelState,
    id: WorkspaceId,
    profile: ProfileId,
    (kind, name): (ComputedKind, &str),
    patience: &Patience,
) -> Result<Option<ValueProvenance>, QueryError> {
    let deadline = Deadline::new(patience);
    let workspace = workspace(shared, id)?;
    let Some((profile, members)) = profile::member_ids(shared, id, profile)? else { return Ok(None) };
    let derived = get_one(shared.store.as_ref(), &Key::derived(id, profile.0))?;
    let derived: Derived = derived.map_or(Ok(Derived::default()), |row| row::decode(&row))?;
    let compiled = workspace.compiled.load_full();
    let found = find(&compiled, &workspace.projection.read(), &derived, (kind, name));
    let Some((provenance, output, json)) = found else { return Ok(None) };
    let (inputs, state) = match compiled.plan.model(provenance.installation) {
        Some((_, model)) => {
            let (now, complete) = {
                let projection = workspace.projection.read();
                (projection.as_of.time, Arc::clone(&projection.complete))
            };
            let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now };
            inputs_of(shared, id, (profile, model, &output), view, &deadline)?
        }
        None => (Vec::new(), InputState::Unknown),
    };
    let cause = event_at(shared, id, &members, provenance.cause)?;
    let model = compiled.plan.model(provenance.installation).filter(|_| cause.is_none());
    let behind = match model {
        Some((_, model)) => {
            let inputs = inputs_through(&compiled.plan, model);
            behind(shared, id, &members, (&inputs, provenance.cause), &deadline)?
        }
        None => None,
    };
    Ok(Some(ValueProvenance { json, provenance, inputs, state, set_off_by: output.set_off_by, cause, behind }))
}

/// The inputs of a model, and those of the models whose values they read.
fn inputs_through<'p>(plan: &'p Plan, model: &'p ModelPlan) -> Vec<&'p Expression> {
    let (mut found, mut inputs) = (BTreeSet::from([model.installed.id]), Vec::new());
    let mut next = vec![model];
    while let Some(model) = next.pop() {
        for (_, input) in &model.inputs {
            let reads = input.reads();
            let tags = reads.tags.iter().map(|name| FeatureName::Tag(name.as_str().into()));
            let scores = reads.scores.iter().map(|name| FeatureName::Score(name.as_str().into()));
            let writers = tags.chain(scores).filter_map(|feature| plan.outputs.get(&feature));
            for (_, writer) in writers.filter_map(|(id, _)| plan.model(*id)) {
                if found.insert(writer.installed.id) {
                    next.push(writer);
                }
            }
            inputs.push(input);
        }
    }
    inputs
}

/// The last event of a person that inputs read, of those up to a position: one that an aggregate looks at, or that stated a fact.
fn behind(
    shared: &KernelState,
    id: WorkspaceId,
    members: &[SourceIdentityId],
    (inputs, until): (&[&Expression], Position),
    deadline: &Deadline<'_>,
) -> Result<Option<EventProvenance>, QueryError> {
    let leaves: Vec<&Arc<Leaf>> = inputs.iter().flat_map(|input| input.leaves()).collect();
    let is_read = |recorded: &RecordedEvent| {
        let event = EventFacts::new(&recorded.event, "");
        recorded.position <= until && leaves.iter().any(|leaf| leaf.concerns(&event))
    };
    let mut positions = Vec::new();
    if !leaves.is_empty() {
        let newest = events::newest_of(shared, id, members, MAX_EVENTS_SEARCHED, deadline, is_read)?;
        positions.extend(newest.map(|recorded| recorded.position));
    }
    let traits: BTreeSet<&String> = inputs.iter().flat_map(|input| &input.reads().traits).collect();
    for name in traits {
        deadline.go_on()?;
        if let Some((value, identity)) = held_fact(shared, id, members, name)? {
            positions.extend(position_of(shared, id, identity, &value)?.filter(|position| *position <= until));
        }
    }
    let mut last: Option<EventProvenance> = None;
    for position in positions {
        let found = event_at(shared, id, members, position)?;
        let place = |found: &EventProvenance| (found.recorded.event.time, found.recorded.position);
        last = last.into_iter().chain(found).max_by_key(place);
    }
    Ok(last)
}

/// The value of that name that an installation which is there holds of a person.
fn find(
    compiled: &CompiledSetup,
    projection: &Projection,
    derived: &Derived,
    (kind, name): (ComputedKind, &str),
) -> Option<(Provenance, Output, String)> {
    derived.outputs.iter().find_map(|((installation, track), output)| {
        if *track != Track::Live || compiled.setup.installation(*installation).is_none() || output.values.is_empty() {
            return None;
        }
        let version = projection.versions.get(output.version as usize)?;
        let place = version.outputs.iter().position(|known| known == name)?;
        let value = output.values.get(place).filter(|value| **value != OutputValue::Null)?;
        let json = output_value(value).to_json().to_string();
        (ComputedKind::from(version.kind) == kind).then(|| (version.provenance(output), output.clone(), json))
    })
}

/// The inputs of a model as they are of a person now, and whether an output was computed of these.
fn inputs_of(
    shared: &KernelState,
    id: WorkspaceId,
    (profile, model, output): (ProfileId, &ModelPlan, &Output),
    view: Evaluation<'_>,
    deadline: &Deadline<'_>,
) -> Result<(Vec<InputProvenance>, InputState), QueryError> {
    let store = shared.store.as_ref();
    let mut people = person::read_profile(store, id, profile)?;
    let named = |json: Vec<Option<String>>| {
        let inputs = model.inputs.iter().zip(json);
        let inputs = inputs.map(|((spec, _), json)| {
            let json = json.filter(|json| json.len() <= MAX_INPUT_BYTES);
            InputProvenance { name: spec.name.clone(), expression: spec.expression.clone(), json }
        });
        inputs.collect::<Vec<_>>()
    };
    if people.is_empty() {
        return Ok((named(vec![None; model.inputs.len()]), InputState::Unknown));
    }
    for (_, input) in &model.inputs {
        deadline.go_on()?;
        load_sealed(store, id, &mut people, input, view)?;
    }
    let state = Profile::new(people.iter().collect(), view);
    let today = view.zone.start_of_day(view.zone.day(view.now));
    let state_of_inputs = match models::inputs(model, &state, today) {
        Some(row) if row.inputs == output.inputs => InputState::AsComputed,
        Some(_) => InputState::Changed,
        None => InputState::Unknown,
    };
    let mut said = Vec::with_capacity(model.inputs.len());
    for (_, input) in &model.inputs {
        deadline.go_on()?;
        let value = state.evaluate(input);
        said.push((!value.is_unknown()).then(|| value.to_json().to_string()));
    }
    Ok((named(said), state_of_inputs))
}

fn fact_provenance(
    shared: &KernelState,
    id: WorkspaceId,
    profile: ProfileId,
    name: &str,
) -> Result<Option<FactProvenance>, QueryError> {
    workspace(shared, id)?;
    let Some((_, members)) = profile::member_ids(shared, id, profile)? else { return Ok(None) };
    let Some((value, identity)) = held_fact(shared, id, &members, name)? else { return Ok(None) };
    let position = position_of(shared, id, identity, &value)?;
    let event = position.map(|position| event_at(shared, id, &members, position)).transpose()?.flatten();
    Ok(Some(FactProvenance { value, identity, event }))
}

/// A fact of a person, and whose of these identities it is.
fn held_fact(
    shared: &KernelState,
    id: WorkspaceId,
    members: &[SourceIdentityId],
    name: &str,
) -> Result<Option<(TraitValue, SourceIdentityId)>, ReadError> {
    let store = shared.store.as_ref();
    let mut held: Option<(TraitValue, SourceIdentityId)> = None;
    for member in members {
        let Some(mut facts) = read_facts_row(store, id, *member, 0)? else { continue };
        if facts.is_split {
            let Some(bucket) = read_facts_row(store, id, *member, bucket_of(name))? else { continue };
            facts = bucket;
        }
        let Some(value) = facts.facts.traits.remove(name) else { continue };
        let wins = held.as_ref().is_none_or(|(held, of)| (value.rank(name), *member) > (held.rank(name), *of));
        if wins {
            held = Some((value, *member));
        }
    }
    Ok(held)
}

/// Where the event that stated a fact stands, if it is part of the identity's history.
fn position_of(
    shared: &KernelState,
    id: WorkspaceId,
    identity: SourceIdentityId,
    value: &TraitValue,
) -> Result<Option<Position>, ReadError> {
    let mut range: KeyRange = Key::event(id, identity, value.time).range();
    if value.time >= value.received_at {
        // The sender's clock may have been ahead, and the fact's time was cut.
        range.to = Key::event(id, identity, Timestamp(i64::MAX)).range().to;
    }
    let page = shared.store.scan(&range, MAX_EVENTS_SEARCHED)?;
    for (key, row) in page.rows {
        if let Change::Recorded(event) = row::decode(&row)?
            && event.message_id == value.message_id
            && event.source == value.source
        {
            return Ok(Some(key.position()));
        }
    }
    Ok(None)
}

/// The event at a position of the log, if it is one of these identities.
fn event_at(
    shared: &KernelState,
    id: WorkspaceId,
    members: &[SourceIdentityId],
    position: Position,
) -> Result<Option<EventProvenance>, ReadError> {
    let store = shared.store.as_ref();
    let Some(before) = position.0.checked_sub(1) else { return Ok(None) };
    if position > store.head_of(id) {
        return Ok(None);
    }
    let changes = store.changes(id, Position(before), ONE_RECORD)?;
    let Some(record) = changes.records.first().filter(|record| record.position == position) else { return Ok(None) };
    let Change::Recorded(event) = row::decode::<Change>(&record.bytes)? else { return Ok(None) };
    if !members.contains(&event.identity) {
        return Ok(None);
    }
    let key = Key::event(id, event.identity, event.time).followed_by(&position.0.to_be_bytes());
    let counts = get_one(store, &key)?.is_some();
    let reader = reader_of(store, id, &event, position)?.map(|row| {
        let Reader { version, digest } = row.reader;
        (version, digest)
    });
    Ok(Some(EventProvenance { recorded: RecordedEvent { position, event }, reader, counts }))
}
