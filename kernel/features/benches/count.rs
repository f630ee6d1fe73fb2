//! Counting a condition over all profiles: the index, beside a plain scan of columns and an evaluation of every profile
//! in the same run.
//!
//! `cargo bench -p kith-features --bench count`. The scan is the least that a column store could do: hand-written for each
//! condition, over arrays of the smallest type, without nulls. The evaluation is what the kernel does where there is no
//! index. All run on one thread; figures are medians.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::hint::black_box;
use std::time::Instant;

use kith_features::index::Index;
use kith_features::{Expression, Facts, FeatureName, LeafId, Value};
use kith_model::time::Timestamp;

const RUNS: usize = 41;
const ORDERS: &str = "events('Order Completed', '30d').size()";

/// The same data as arrays.
struct Columns {
    region: Vec<u8>,
    sex: Vec<u8>,
    subscriber: Vec<bool>,
    blocked: Vec<bool>,
    spend: Vec<f64>,
    age: Vec<u8>,
    orders: Vec<u16>,
}

/// A condition and the scan that answers it.
struct Case {
    title: &'static str,
    condition: String,
    scan: fn(&Columns, usize) -> bool,
}

struct Row<'a> {
    columns: &'a Columns,
    row: usize,
    regions: &'a [Value],
    sexes: &'a [Value],
}

impl Facts for Row<'_> {
    fn trait_value(&self, name: &str) -> Value {
        match name {
            "region" => self.regions[usize::from(self.columns.region[self.row])].clone(),
            "sex" => self.sexes[usize::from(self.columns.sex[self.row])].clone(),
            "spend" => Value::Float(self.columns.spend[self.row]),
            "age" => Value::Int(i64::from(self.columns.age[self.row])),
            _ => Value::Null,
        }
    }

    fn tag_value(&self, name: &str) -> Value {
        let holds = match name {
            "subscriber" => self.columns.subscriber[self.row],
            "blocked" => self.columns.blocked[self.row],
            _ => false,
        };
        if holds { Value::Bool(true) } else { Value::Null }
    }

    fn score_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn created_at(&self) -> Option<Timestamp> {
        None
    }
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

fn columns(profiles: usize) -> Columns {
    let state = &mut 0x9e37_79b9_7f4a_7c15;
    let mut columns = Columns {
        region: Vec::new(),
        sex: Vec::new(),
        subscriber: Vec::new(),
        blocked: Vec::new(),
        spend: Vec::new(),
        age: Vec::new(),
        orders: Vec::new(),
    };
    for _ in 0..profiles {
        columns.region.push((random(state) % 20) as u8);
        columns.sex.push((random(state) % 2) as u8);
        columns.subscriber.push(random(state).is_multiple_of(10));
        columns.blocked.push(random(state).is_multiple_of(100));
        columns.spend.push((random(state) % 1_000_000) as f64 / 100.0);
        columns.age.push(18 + (random(state) % 70) as u8);
        columns.orders.push((random(state) % 40).saturating_sub(30) as u16);
    }
    columns
}

fn index_of(columns: &Columns, orders: &Expression, regions: &[Value], sexes: &[Value]) -> Index {
    let mut index = Index::new();
    let trait_name = |name: &str| FeatureName::Trait(name.into());
    let (region, sex, spend, age) = (trait_name("region"), trait_name("sex"), trait_name("spend"), trait_name("age"));
    let (subscriber, blocked) = (FeatureName::Tag("subscriber".into()), FeatureName::Tag("blocked".into()));
    orders.leaves().for_each(|leaf| index.track(leaf));
    let leaf = FeatureName::Leaf(orders.reads().leaves[0]);
    [&subscriber, &blocked].into_iter().for_each(|tag| index.track_output(tag));
    for (ordinal, row) in (0..).zip(0..columns.region.len()) {
        index.set(ordinal, &region, &regions[usize::from(columns.region[row])]);
        index.set(ordinal, &sex, &sexes[usize::from(columns.sex[row])]);
        index.set(ordinal, &spend, &Value::Float(columns.spend[row]));
        index.set(ordinal, &age, &Value::Int(i64::from(columns.age[row])));
        index.set(ordinal, &leaf, &Value::Int(i64::from(columns.orders[row])));
        for (name, holds) in [(&subscriber, columns.subscriber[row]), (&blocked, columns.blocked[row])] {
            if holds {
                index.set(ordinal, name, &Value::Bool(true));
            }
        }
    }
    index
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            title: "5 terms: 3 regions, sex, tag, not tag, spend",
            condition:
                "traits.region in ['r1', 'r4', 'r7'] && traits.sex == 'f' && tags.subscriber && tags.blocked != true \
                        && traits.spend >= 5000"
                    .into(),
            scan: |c, row| {
                matches!(c.region[row], 1 | 4 | 7)
                    && c.sex[row] == 0
                    && c.subscriber[row]
                    && !c.blocked[row]
                    && c.spend[row] >= 5_000.0
            },
        },
        Case {
            title: "5 terms, dense: sex, not tag, spend, age, orders",
            condition: format!(
                "traits.sex == 'f' && tags.blocked != true && traits.spend >= 2000 && traits.age < 60 && {ORDERS} < 5"
            ),
            scan: |c, row| {
                c.sex[row] == 0 && !c.blocked[row] && c.spend[row] >= 2_000.0 && c.age[row] < 60 && c.orders[row] < 5
            },
        },
        Case {
            title: "behaviour: at least 3 orders in 30 days",
            condition: format!("{ORDERS} >= 3"),
            scan: |c, row| c.orders[row] >= 3,
        },
        Case {
            title: "numbers only: spend between, or age",
            condition: "traits.spend >= 5000 && traits.spend < 6000 || traits.age > 80".into(),
            scan: |c, row| c.spend[row] >= 5_000.0 && c.spend[row] < 6_000.0 || c.age[row] > 80,
        },
        Case {
            title: "two tags",
            condition: "tags.subscriber && traits.sex == 'm'".into(),
            scan: |c, row| c.subscriber[row] && c.sex[row] == 1,
        },
    ]
}

/// The median time of a call, in milliseconds, with its answer.
fn median_ms(runs: usize, mut call: impl FnMut() -> u64) -> (f64, u64) {
    let mut times = Vec::with_capacity(runs);
    let mut answer = 0;
    for _ in 0..runs {
        let start = Instant::now();
        answer = black_box(call());
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    (times[runs / 2], answer)
}

fn main() {
    let now = Timestamp(1_800_000_000_000);
    let regions: Vec<Value> = (0..20).map(|region| Value::text(format!("r{region}"))).collect();
    let sexes = [Value::text("f"), Value::text("m")];
    let orders = Expression::parse(ORDERS).unwrap_or_else(|error| panic!("{error}"));
    println!(
        "{:>9}  {:<48} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "profiles", "condition", "count", "index ms", "scan ms", "÷ scan", "each ms"
    );
    for profiles in [100_000, 1_000_000] {
        let columns = columns(profiles);
        let start = Instant::now();
        let index = index_of(&columns, &orders, &regions, &sexes);
        let filled = start.elapsed();
        for case in cases() {
            let condition = Expression::parse(&case.condition).unwrap_or_else(|error| panic!("{error}"));
            let (index_ms, counted) =
                median_ms(RUNS, || index.count(&condition, now).map_or(u64::MAX, |counted| counted.holds));
            let (scan_ms, scanned) =
                median_ms(RUNS, || (0..profiles).filter(|row| (case.scan)(&columns, *row)).count() as u64);
            let (each_ms, evaluated) = median_ms(3, || {
                let holds = |row: &usize| {
                    let facts = Row { columns: &columns, row: *row, regions: &regions, sexes: &sexes };
                    let leaf_value = |_: LeafId| Value::Int(i64::from(columns.orders[*row]));
                    condition.evaluate(&facts, &leaf_value, now).is_true()
                };
                (0..profiles).filter(holds).count() as u64
            });
            assert!(counted == scanned && counted == evaluated, "{}: {counted}, {scanned}, {evaluated}", case.title);
            println!(
                "{profiles:>9}  {:<48} {counted:>9} {index_ms:>9.3} {scan_ms:>9.3} {:>8.2} {each_ms:>8.1}",
                case.title,
                index_ms / scan_ms
            );
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = profiles as f64 * 6.0 / filled.as_secs_f64() / 1e6;
        println!("{profiles:>9}  filled in {} ms, about {rate:.1} million values a second", filled.as_millis());
    }
}
