//! The model of `guest-columns` for a host that hands over JSON: rows as a list of objects in, a list of objects out.
//!
//! It is a plugin of Extism, whose interface is a handful of imported functions over the bytes of the host:
//! <https://extism.org/docs/concepts/pdk/>. The benchmark of calls runs it beside the kernel's own way.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code, reason = "the interface of Extism is imported functions")]

use serde::{Deserialize, Serialize};

#[link(wasm_import_module = "extism:host/env")]
unsafe extern "C" {
    fn input_length() -> u64;
    fn input_load_u8(offset: u64) -> u32;
    fn input_load_u64(offset: u64) -> u64;
    fn alloc(length: u64) -> u64;
    fn store_u8(offset: u64, byte: u32);
    fn store_u64(offset: u64, bytes: u64);
    fn output_set(offset: u64, length: u64);
}

#[derive(Deserialize)]
struct Row<'a> {
    recency_days: Option<f64>,
    orders: Option<f64>,
    spent: Option<f64>,
    visits: Option<f64>,
    opened: Option<f64>,
    returned: Option<f64>,
    #[serde(borrow)]
    city: Option<&'a str>,
    #[serde(borrow)]
    plan: Option<&'a str>,
}

#[derive(Serialize)]
struct Output {
    tier: &'static str,
    weight: f64,
}

fn evaluate_row(row: &Row<'_>) -> Output {
    let numbers = [
        (row.recency_days, -0.03),
        (row.orders, 0.4),
        (row.spent, 0.002),
        (row.visits, 0.05),
        (row.opened, 0.3),
        (row.returned, -0.8),
    ];
    let mut sum: f64 = numbers.iter().map(|(value, factor)| value.unwrap_or(0.0) * factor).sum();
    sum += row.city.map_or(0.0, |city| if city.starts_with('L') { 0.2 } else { -0.1 });
    sum += match row.plan {
        Some("pro") => 0.7,
        Some("team") => 0.4,
        _ => 0.0,
    };
    let weight = 1.0 / (1.0 + libm::exp(-sum));
    let tier = match weight {
        weight if weight > 0.8 => "gold",
        weight if weight > 0.5 => "silver",
        _ => "bronze",
    };
    Output { tier, weight }
}

/// What the host handed over, eight bytes at a time as Extism's own kit reads it.
fn input() -> Vec<u8> {
    // SAFETY: the functions are Extism's, with the types that its documentation gives, and no offset is behind the length.
    unsafe {
        let length = input_length();
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let whole = length - length % 8;
        (0..whole).step_by(8).for_each(|at| bytes.extend(input_load_u64(at).to_le_bytes()));
        bytes.extend((whole..length).map(|at| input_load_u8(at).to_le_bytes()[0]));
        bytes
    }
}

fn answer(bytes: &[u8]) {
    let length = bytes.len() as u64;
    // SAFETY: as above; what is written lies within what was allocated.
    unsafe {
        let at = alloc(length);
        let (words, rest) = bytes.as_chunks::<8>();
        for (word, offset) in words.iter().zip((at..).step_by(8)) {
            store_u64(offset, u64::from_le_bytes(*word));
        }
        for (byte, offset) in rest.iter().zip(at + length - rest.len() as u64..) {
            store_u8(offset, u32::from(*byte));
        }
        output_set(at, length);
    }
}

/// Judge all rows; 0 for success, as Extism wants it.
#[unsafe(no_mangle)]
pub extern "C" fn evaluate() -> i32 {
    let input = input();
    let Ok(rows) = serde_json::from_slice::<Vec<Row<'_>>>(&input) else { return 1 };
    let Ok(output) = serde_json::to_vec(&rows.iter().map(evaluate_row).collect::<Vec<_>>()) else { return 1 };
    answer(&output);
    0
}
