//! A tag model over 100,000 rows of 8 columns: in the sandbox and natively, the same code on the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_columns::Columns;
use kith_host::{Binding, CompileMode, Host, HostConfig, Limits, MemoryKeyValue};
use kith_model::plugin::Grants;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::SystemClock;
use kith_plugin_sdk::TagModel as _;
use kith_tests::{Random, build};

use crate::figures::median;

const ROWS: usize = 100_000;
/// Rows of one call. The kernel's own batches have at most 4,096 people; the figures of all releases are of this number.
const BATCH: usize = 10_000;
const ROUNDS: usize = 101;
pub(crate) const NUMBERS: [&str; 6] = ["recency_days", "orders", "spent", "visits", "opened", "returned"];
pub(crate) const TEXTS: [&str; 2] = ["city", "plan"];
const CITIES: [&str; 4] = ["London", "Lima", "Paris", "Kuala Lumpur"];
const PLANS: [&str; 3] = ["free", "team", "pro"];

/// One batch, as the host takes it and as the plugin sees it.
pub(crate) fn batch(random: &mut Random, rows: usize) -> (Table, kith_plugin_sdk::Table) {
    let mut native = kith_plugin_sdk::Table::new(rows);
    let mut columns = Vec::new();
    for name in NUMBERS {
        let values: Vec<f64> = (0..rows).map(|_| random.below(1000) as f64 / 10.0).collect();
        let mut column = ColumnBuilder::new(name, &ColumnType::Float64);
        values.iter().for_each(|value| column.push(Cell::Float64(*value)).unwrap());
        columns.push(column.finish());
        native = native.with_float64(name, values.into_iter().map(Some));
    }
    for (name, choice) in TEXTS.into_iter().zip([&CITIES[..], &PLANS[..]]) {
        #[allow(clippy::cast_possible_truncation, reason = "below the number of choices")]
        let values: Vec<&str> = (0..rows).map(|_| choice[random.below(choice.len() as u64) as usize]).collect();
        let mut column = ColumnBuilder::new(name, &ColumnType::Text);
        values.iter().for_each(|value| column.push(Cell::Text((*value).into())).unwrap());
        columns.push(column.finish());
        native = native.with_text(name, values.into_iter().map(Some));
    }
    (Table { rows, columns }, native)
}

/// A host that keeps its code in a folder, if one is given.
pub(crate) fn config(cache_directory: Option<PathBuf>) -> HostConfig {
    HostConfig {
        cache_directory,
        mac_key: [1; 32].into(),
        ceiling: Limits::default(),
        allow_loopback: false,
        allow_plain_http: false,
        clock: Arc::new(SystemClock),
        compile: CompileMode::InProcess,
    }
}

/// The model's installation.
pub(crate) fn binding() -> Binding {
    Binding {
        installation: "columns".into(),
        config: serde_json::json!({}),
        unshown: BTreeSet::new(),
        grants: Grants::default(),
        secrets: BTreeMap::new(),
        state: Arc::new(MemoryKeyValue::default()),
        observed: Arc::default(),
        fuel: None,
    }
}

/// The time that an answer to each of these tables takes. The kernel makes each just before the call that takes it, and so does
/// every side here, outside of its measurement.
fn timed<'t, T: Clone + 't>(tables: impl Iterator<Item = &'t T>, mut rows_of: impl FnMut(T) -> usize) -> Duration {
    tables
        .map(|table| {
            let table = table.clone();
            let begun = Instant::now();
            let rows = rows_of(table);
            let took = begun.elapsed();
            assert_eq!(rows, BATCH);
            took
        })
        .sum()
}

pub(crate) fn run() {
    let built = build("tests/guests/columns");
    let plugin = Host::new(config(None)).unwrap().load(&built.component).unwrap();
    let model = plugin.compute(binding()).unwrap();
    let mut random = Random::new(7);
    let batches: Vec<_> = (0..ROWS / BATCH).map(|_| batch(&mut random, BATCH)).collect();
    let (mut fresh, mut passed, mut native) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tables = || batches.iter().map(|(table, _)| table);
        fresh.push(timed(tables(), |table| model.compute(&[], table).unwrap().rows));
        // Whatever begins and ends the pass is part of it.
        let begun = Instant::now();
        let mut pass = model.pass(&[]);
        let around = begun.elapsed();
        let calls = timed(tables(), |table| pass.answer(table).unwrap().table.rows);
        let begun = Instant::now();
        drop(pass);
        passed.push(around + calls + begun.elapsed());
        let rows = batches.iter().map(|(_, table)| table);
        native.push(timed(rows, |table| Columns::evaluate(&[], &table).unwrap().len()));
    }
    let middle = |times: &[Duration]| Duration::from_secs_f64(median(times.iter().map(Duration::as_secs_f64)));
    println!("\ntag model, {ROWS} rows x 8 columns, batches of {BATCH}, median of {ROUNDS}");
    for (name, times) in [("an instance each", &fresh), ("an instance a pass", &passed), ("native", &native)] {
        let time = middle(times);
        let rate = ROWS as f64 / time.as_secs_f64() / 1e6;
        println!("  {name:<20} {rate:>8.2} M rows/s   {:>8.2} ms", time.as_secs_f64() * 1e3);
    }
    for (name, times) in [("an instance each", &fresh), ("an instance a pass", &passed)] {
        // A shared machine changes its speed between rounds and seldom within one, so each round has a ratio of its own.
        let mut ratios: Vec<f64> =
            times.iter().zip(&native).map(|(guest, native)| guest.div_duration_f64(*native)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let [low, median, high] = [ROUNDS / 10, ROUNDS / 2, ROUNDS - 1 - ROUNDS / 10].map(|place| ratios[place]);
        println!("  {name:<20} {median:>8.2} x native    four rounds in five between {low:.2} and {high:.2}");
    }
}
