//! A tag model that misbehaves as its configuration says: it loops, eats memory, traps, answers too few rows, floods the log,
//! fails for the time being, burns processor time, emits events, repeats the records that it is given, learns from a labelled past,
//! counts the calls of its instance, or takes offence at the row of one person. What the kernel makes of each is tested in
//! `tests/e2e/hostile.rs`, `tests/e2e/datapath/` and `tests/e2e/cli.rs`.
//!
//! The crate beside it, `tag-model-next`, builds this file as version 0.2.0, because upgrades need two versions: each reads
//! only the fits of its own version. Neither declares a `state_version`; the tests pack them again with manifests that do.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use kith_plugin_sdk::{Dataset, Emitted, Failure, Fitted, Problem, Table, TagModel, config, emit, export, log};
use serde::Deserialize;

/// The version that this build is, which is also the format of its fits.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The guest.
pub struct Hostile;

#[derive(Deserialize)]
struct Settings {
    how: String,
    burn_millions: u64,
    burn_fit_millions: u64,
    migrate: Option<String>,
}

impl TagModel for Hostile {
    fn fit(mut dataset: Dataset) -> Result<Fitted, Failure> {
        let settings: Settings = config::get()?;
        let learnt = Learnt::of(&mut dataset);
        (0..settings.burn_fit_millions * 1_000_000).for_each(|step| {
            black_box(step);
        });
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let mut metrics = vec![("rows".to_owned(), learnt.rows as f64)];
        if settings.how == "learn" {
            dataset.rewind();
            let is_same = Learnt::of(&mut dataset) == learnt;
            metrics.push(("labels".to_owned(), learnt.labels));
            metrics.push(("is_same".to_owned(), f64::from(u8::from(is_same))));
        }
        Ok(Fitted { state: VERSION.as_bytes().to_vec(), metrics })
    }

    fn migrate(from_version: &str, text: &str) -> Result<String, Vec<Problem>> {
        let settings: Settings = config::read(text)?;
        match settings.migrate.as_deref() {
            Some("change") => Ok(text.replace("\"change\"", "\"done\"")),
            Some("refuse") => Err(vec![Problem::new("how", format!("{from_version} went another way"))]),
            Some("trap") => panic!("the guest gives up on {from_version}"),
            Some("beyond") => Ok(text.replace("\"beyond\"", "\"further\"")),
            _ => Ok(text.to_owned()),
        }
    }

    fn evaluate(state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let settings: Settings = config::get()?;
        if !state.is_empty() && state != VERSION.as_bytes() {
            let found = String::from_utf8_lossy(state);
            let problem = format!("the fit is of version {found}, this is {VERSION}; fit again");
            match settings.how.as_str() {
                "trap-on-fit" => panic!("{problem}"),
                "null-on-fit" => {
                    let nothing = || std::iter::repeat_n(None::<&str>, rows.len());
                    let table = Table::new(rows.len()).with_text("hostile", nothing());
                    return Ok(table.with_text("hostile_version", nothing()));
                }
                "refuse-fit" => return Err(Failure::permanent(problem)),
                _ => return Err(Failure::unreadable_state(problem)),
            }
        }
        let poisoned = rows.text("poison")?.iter().any(|poison| poison.is_some());
        let mut length = rows.len();
        match settings.how.as_str() {
            "loop" => while black_box(true) {},
            "memory" => eat(),
            "trap" => panic!("the guest gives up on {} rows", rows.len()),
            "short" => length = length.saturating_sub(1),
            "emit" => tell(rows, "City Reached")?,
            "emit-other" => tell(rows, "Other")?,
            "emit-flood" => (0..5_000).for_each(|key| emit(0, Emitted::new("City Reached").with_key(key.to_string()))),
            "flood" => (0..100_000).for_each(|line| log::info(format!("line {line} of a flood"))),
            "records" => return repeat(rows),
            "count" => return Ok(count(rows)),
            "refuse" => return Err(Failure::permanent("this can never work")),
            "transient" => return Err(Failure::transient("not today")),
            "trap-on-poison" if poisoned => panic!("the guest gives up on a poisoned row"),
            "refuse-poison" if poisoned => return Err(Failure::bad_input("a poisoned row")),
            _ => {}
        }
        (0..settings.burn_millions * 1_000_000).for_each(|step| {
            black_box(step);
        });
        let city: Vec<_> = rows.text("city")?.iter().take(length).collect();
        let version = std::iter::repeat_n(Some(VERSION), length);
        let table = Table::new(length).with_text("hostile", city).with_text("hostile_version", version);
        if settings.how == "learn" {
            return Ok(table.with_boolean("again", std::iter::repeat_n(Some(false), length)));
        }
        Ok(table)
    }
}

/// What one pass over a data set came to.
#[derive(PartialEq, Default)]
struct Learnt {
    rows: usize,
    /// Their sum.
    labels: f64,
    ids: Vec<u64>,
    cut_offs: Vec<i64>,
}

impl Learnt {
    fn of(dataset: &mut Dataset) -> Learnt {
        let mut learnt = Learnt::default();
        for batch in dataset {
            learnt.rows += batch.rows.len();
            learnt.labels += batch.labelled().map(|(_, label)| label).sum::<f64>();
            learnt.ids.extend(batch.ids);
            learnt.cut_offs.extend(batch.cut_offs.into_iter().flatten());
        }
        learnt
    }
}

export!(Hostile as tag_model);

/// Emit an event about everybody who has a city, once for each city.
fn tell(rows: &Table, name: &str) -> Result<(), Failure> {
    for (row, city) in rows.text("city")?.iter().enumerate() {
        let Some(city) = city else { continue };
        let properties = format!(r#"{{"city":"{city}"}}"#);
        emit(row, Emitted::new(name).with_properties(properties).with_key(city));
    }
    Ok(())
}

/// Say the records of an input that a test declares: how many orders there are, and of each the day, the amount and the category.
fn repeat(rows: &Table) -> Result<Table, Failure> {
    let orders = rows.records("orders", |orders| {
        Ok((orders.timestamp("time")?, orders.float64("amount")?, orders.text("category")?))
    })?;
    let (time, amount, category) = orders.fields();
    let order = |place: usize| {
        let day = time.get(place).map(|time| time / 86_400_000);
        format!("{day:?} {:?} {:?};", amount.get(place), category.get(place))
    };
    let said = (0..rows.len()).map(|row| {
        let places = orders.places(row)?;
        Some(format!("{}: {}", places.len(), places.map(order).collect::<String>()))
    });
    let version = std::iter::repeat_n(Some(VERSION), rows.len());
    Ok(Table::new(rows.len()).with_text("hostile", said).with_text("hostile_version", version))
}

/// Say how many calls the instance has had.
fn count(rows: &Table) -> Table {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = (CALLS.fetch_add(1, Ordering::Relaxed) + 1).to_string();
    let calls = std::iter::repeat_n(Some(calls.as_str()), rows.len());
    let version = std::iter::repeat_n(Some(VERSION), rows.len());
    Table::new(rows.len()).with_text("hostile", calls).with_text("hostile_version", version)
}

/// Take memory until there is none.
fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
