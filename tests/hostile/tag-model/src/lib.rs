//! A tag model that misbehaves as its configuration says: it loops, eats memory, traps, answers too few rows, or floods
//! the log. What the host makes of each is tested in `tests/e2e/hostile.rs`.

use std::hint::black_box;

use kith_plugin_sdk::{Failure, Table, TagModel, config, export, log};
use serde::Deserialize;

/// The guest.
pub struct Hostile;

#[derive(Deserialize)]
struct Settings {
    how: String,
}

impl TagModel for Hostile {
    fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let settings: Settings = config::get()?;
        let mut length = rows.len();
        match settings.how.as_str() {
            "loop" => while black_box(true) {},
            "memory" => eat(),
            "trap" => panic!("the guest gives up on {} rows", rows.len()),
            "short" => length = length.saturating_sub(1),
            "flood" => (0..100_000).for_each(|line| log::info(format!("line {line} of a flood"))),
            _ => {}
        }
        let city: Vec<_> = rows.text("city")?.iter().take(length).collect();
        Ok(Table::new(length).with_text("hostile", city))
    }
}

export!(Hostile as tag_model);

/// Take memory until there is none.
fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
