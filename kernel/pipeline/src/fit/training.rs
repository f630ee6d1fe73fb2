//! Labelled rows: of each person one for each cut-off before which something is known of them, with what came after it.
//!
//! The inputs of a row are those of its cut-off: events up to it, and windows that end with it. The label is that of the events
//! behind it, up to the end of the horizon. Neither is ever shown an event of the other side, so that a model cannot learn from
//! what it is to foretell.

use std::collections::{BTreeMap, HashMap};

use hmac::{Hmac, Mac as _};
use kith_features::{EventFacts, Expression, Facts, LeafId, LeafState, NoFacts, Program, Value, Zone};
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{InstallationId, ProfileId};
use kith_model::plugin::{Batch, InputSpec, Training};
use kith_model::table::{Cell, ColumnType, Table};
use kith_model::time::Timestamp;
use sha2::Sha256;

use super::FitError;
use super::rows::{Rows, Source};

/// What the key of the ids is derived for, so that it is no other key of the workspace.
const PURPOSE: &[u8] = b"kith data set ids 1";

/// One person in so many is held out.
const HELD_OUT: u64 = 5;

/// Rows of the past with what came after them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labelled {
    /// The model's inputs as of the cut-offs.
    pub rows: Table,
    /// Of each row's person.
    pub ids: Vec<u64>,
    pub cut_offs: Vec<Timestamp>,
    /// True is 1.
    pub labels: Vec<Option<f64>>,
}

/// A part of all people, by their ids: each is in one of them, in every fit of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those from whom the model learns.
    Learning,
    /// Those whom no fit of a model with labels is ever shown, so that fits can be compared by what they say of them.
    HeldOut,
}

impl Part {
    /// The part of the person with this id, by its upper half: a plugin splits people by the last digits, and who is left has all of
    /// those.
    pub(crate) fn of(id: u64) -> Part {
        if (id >> 32).is_multiple_of(HELD_OUT) { Part::HeldOut } else { Part::Learning }
    }
}

/// Gives people the ids by which one installation's data sets tell them apart, and which tell nothing else of them.
pub(crate) struct PeopleIds(Hmac<Sha256>);

impl PeopleIds {
    pub(crate) fn new(realm_key: &[u8; 32], installation: InstallationId) -> PeopleIds {
        let mut mac = Hmac::<Sha256>::new_from_slice(realm_key).expect("HMAC takes keys of any length");
        mac.update(PURPOSE);
        mac.update(&installation.0.to_be_bytes());
        let key = mac.finalize().into_bytes();
        PeopleIds(Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length"))
    }

    /// The same for as long as the person has the same oldest source identity.
    pub(crate) fn id(&self, profile: ProfileId) -> u64 {
        let mut mac = self.0.clone();
        mac.update(&profile.0.0);
        mac.finalize().into_bytes().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
    }
}

/// How a model learns from the history, ready to evaluate.
pub(crate) struct TrainingPlan {
    /// The aggregates of its inputs.
    before: Program,
    label: Expression,
    /// The aggregates of the label.
    behind: Program,
    horizon_ms: i64,
    every_ms: i64,
    cut_offs: u32,
    /// Of each input, whether what has no history is taken as it is now. Otherwise there is nothing of it.
    timeless: Vec<bool>,
}

impl TrainingPlan {
    pub(crate) fn new(training: &Training, inputs: &[(InputSpec, Expression)], label: Expression) -> TrainingPlan {
        TrainingPlan {
            before: Program::new(inputs.iter().map(|(_, input)| input)),
            behind: Program::new([&label]),
            label,
            horizon_ms: i64::try_from(training.horizon_ms).unwrap_or(i64::MAX),
            every_ms: i64::try_from(training.every_ms).unwrap_or(i64::MAX),
            cut_offs: training.cut_offs,
            timeless: inputs.iter().map(|(spec, _)| training.timeless.contains(&spec.name)).collect(),
        }
    }

    /// The cut-offs of a fit that begins at `start`, the earliest first.
    fn cut_offs(&self, start: Timestamp) -> Vec<Timestamp> {
        let last = start.plus_ms(-self.horizon_ms);
        (0..i64::from(self.cut_offs)).rev().map(|number| last.plus_ms(-number.saturating_mul(self.every_ms))).collect()
    }

    /// Whether the label is true or false, and never a number.
    pub(super) fn has_truths(&self) -> bool {
        let kinds = self.label.kinds();
        kinds.fit(&ColumnType::Boolean) && !kinds.fit(&ColumnType::Float64)
    }

    /// The label of the events behind a cut-off, up to `end`, the horizon's.
    fn label(&self, behind: &[Event], end: Timestamp, view: &PastView<'_>) -> Option<f64> {
        let mut states = States::default();
        states.take_in(&self.behind, behind, end, view);
        let leaf_value = |id: LeafId| states.value(&self.behind, id, end, view.zone);
        match self.label.evaluate(&NoFacts, &leaf_value, end) {
            Value::Bool(holds) => Some(f64::from(u8::from(holds))),
            value => match value.to_cell(&ColumnType::Float64, view.zone) {
                Ok(Cell::Float64(number)) => Some(number),
                _ => None,
            },
        }
    }
}

/// What rows of the past are evaluated with.
pub(super) struct PastView<'a> {
    pub(super) zone: &'a Zone,
    pub(super) source_names: &'a HashMap<InstallationId, String>,
}

/// Aggregates over a part of a history.
#[derive(Default)]
struct States(BTreeMap<LeafId, LeafState>);

impl States {
    fn take_in(&mut self, program: &Program, events: &[Event], now: Timestamp, view: &PastView<'_>) {
        for event in events {
            let source = view.source_names.get(&event.source).map_or("", String::as_str);
            let facts = EventFacts::new(event, source);
            for leaf in program.leaves_for(&facts) {
                leaf.apply(self.0.entry(leaf.id()).or_default(), &facts, now, view.zone);
            }
        }
    }

    fn value(&self, program: &Program, id: LeafId, now: Timestamp, zone: &Zone) -> Value {
        let states = self.0.get(&id).map_or(&[][..], std::slice::from_ref);
        program.leaf(id).map_or(Value::Unknown, |leaf| leaf.value_of(states, now, zone))
    }
}

/// A row of the past.
pub(super) struct PastRow {
    pub(super) cells: Vec<Cell>,
    pub(super) cut_off: Timestamp,
    pub(super) label: Option<f64>,
}

/// One person's way through the cut-offs, the earliest first. Events are taken in once; a row is made when it is asked for.
pub(super) struct Past {
    /// By time.
    events: Vec<Event>,
    /// How many of them the aggregates hold.
    known: usize,
    states: States,
    /// When the person first did something; `None` for nobody who did.
    began: Option<Timestamp>,
    cut_offs: std::vec::IntoIter<Timestamp>,
}

impl Past {
    /// The past of a person with these events, in any order, in a fit that begins at `start`.
    pub(super) fn new(plan: &TrainingPlan, mut events: Vec<Event>, start: Timestamp) -> Past {
        events.sort_by_key(|event| event.time);
        // What the kernel tells of its own work is nothing that a person did.
        let began = events.iter().find(|event| event.origin != EventOrigin::Kernel).map(|event| event.time);
        let cut_offs = plan.cut_offs(start).into_iter();
        Past { events, known: 0, states: States::default(), began, cut_offs }
    }

    /// The row of the next cut-off that has one: at which the person had done something, and every input is a cell of its column.
    pub(super) fn next_row(
        &mut self,
        plan: &TrainingPlan,
        inputs: &[(InputSpec, Expression)],
        person: &dyn Facts,
        view: &PastView<'_>,
    ) -> Option<PastRow> {
        while let Some(cut_off) = self.cut_offs.next() {
            let until = |time: Timestamp| self.events.partition_point(|event| event.time <= time);
            let end = cut_off.plus_ms(plan.horizon_ms);
            let (known, behind) = (until(cut_off), until(end));
            self.states.take_in(&plan.before, &self.events[self.known..known], cut_off, view);
            self.known = known;
            if self.began.is_none_or(|began| began > cut_off) {
                continue;
            }
            if let Some(cells) = self.cells(plan, inputs, person, cut_off, view.zone) {
                let label = plan.label(&self.events[known..behind], end, view);
                return Some(PastRow { cells, cut_off, label });
            }
        }
        None
    }

    /// The inputs at a cut-off; `None` where one of them is unknown, or no cell of its column.
    fn cells(
        &self,
        plan: &TrainingPlan,
        inputs: &[(InputSpec, Expression)],
        person: &dyn Facts,
        cut_off: Timestamp,
        zone: &Zone,
    ) -> Option<Vec<Cell>> {
        let leaf_value = |id: LeafId| self.states.value(&plan.before, id, cut_off, zone);
        let cell = |((spec, input), timeless): (&(InputSpec, Expression), &bool)| {
            let facts: &dyn Facts = if *timeless { person } else { &NoFacts };
            let value = input.evaluate(facts, &leaf_value, cut_off);
            if value.is_unknown() { None } else { value.to_cell(&spec.column_type, zone).ok() }
        };
        inputs.iter().zip(&plan.timeless).map(cell).collect()
    }
}

/// The labelled rows of a part of all people, batch by batch, each of bounded size. Blocking.
pub(crate) struct LabelledBatches(Rows);

impl LabelledBatches {
    /// Those of the model that `source` is of; none where it learns without labels.
    pub(crate) fn new(source: Source, part: Part) -> LabelledBatches {
        LabelledBatches(Rows::new(source, part))
    }
}

impl Iterator for LabelledBatches {
    type Item = Result<Labelled, FitError>;

    fn next(&mut self) -> Option<Result<Labelled, FitError>> {
        let Batch { rows, ids, labels, cut_offs } = match self.0.next_batch().transpose()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Labelled { rows, ids, labels: labels?, cut_offs: cut_offs? }))
    }
}

#[cfg(test)]
mod tests;
