//! Models beside the reactor: what their answers come to when passes fail, when they fail, and when they are slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_store::{Operation, Unit};

use super::delivery::watched::Watched;
use super::harness::*;
use crate::Role;

/// So long that no pass waits for the model.
const SLOW: Duration = Duration::from_millis(300);

/// Grades everybody `good`.
struct Grade;

impl ComputeModel for Grade {
    fn fit(&self, _: Box<dyn Iterator<Item = Table> + Send>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let mut grade = ColumnBuilder::new("grade", ColumnType::Text);
        (0..rows.rows).for_each(|_| grade.push(Cell::Text("good".into())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![grade.finish()] })
    }
}

/// Whether a unit writes what is computed of somebody.
fn is_computed(unit: &Unit) -> bool {
    unit.operations.iter().any(|one| matches!(one, Operation::Put(key, _) if key.as_derived().is_some()))
}

/// Refuse the unit of that number, from 0, of those that write what is computed of somebody.
fn refuse_computed(store: &Watched, refused: usize) {
    let seen = AtomicUsize::new(0);
    let refuse = move |unit: &Unit| is_computed(unit) && seen.fetch_add(1, Ordering::SeqCst) == refused;
    *store.refuse.lock() = Some(Box::new(refuse));
}

fn tags(bench: &Bench, user: &str) -> BTreeMap<String, String> {
    let profile = bench.profile("user_id", user);
    profile.iter().flat_map(|profile| &profile.tags).map(|(name, tag)| (name.clone(), tag.json.clone())).collect()
}

/// The pass that began a slow model's job failed, and the next gave the number of that model's version to another model: the
/// answer was shown as the other model's.
#[test]
fn an_answer_is_shown_as_that_of_the_model_which_gave_it() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |setup| {
        let mut grade = installed(4, "grade", PluginKind::TagModel, Role::TagModel(Arc::new(Grade)));
        grade.inputs.clone_from(&setup.installations[1].inputs);
        let outputs = setup.installations[1].outputs.iter().cloned();
        let outputs = outputs.map(|output| OutputSpec { name: "grade".into(), values: vec!["good".into()], ..output });
        grade.outputs = outputs.collect();
        setup.installations.push(grade);
    });
    *bench.level.takes.lock() = SLOW;
    refuse_computed(&store, 0);
    bench.send(orders("u1", 0, 1));
    bench.wait_until("both have answered", || tags(&bench, "u1").len() == 2);
    let shown = tags(&bench, "u1");
    assert_eq!((shown["level"].as_str(), shown["grade"].as_str()), ("\"few\"", "\"good\""));
    assert_eq!(store.refused.lock().len(), 1);
}
