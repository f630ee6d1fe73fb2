//! The figures of ARCHITECTURE.md: each beside the yardstick that it is measured against, in one run.
//!
//! `cargo bench --bench kernel` prints them; nothing here passes or fails. `-- columns`, `-- engine` or `-- ingest` measures that
//! part alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has to stop, and to say where"
)]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod columns;
mod engine;
mod ingest;
mod wire;

use std::time::Duration;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // `cargo test` runs benches once to see that they build; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run `cargo bench --bench kernel` to measure");
        return;
    }
    println!("processors: {}", std::thread::available_parallelism().map_or(1, usize::from));
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if asked("columns") {
        columns::run();
    }
    let alone = (asked("engine") || asked("ingest")).then(engine::run);
    if let (Some(alone), true) = (alone, asked("ingest")) {
        ingest::run(alone);
    }
}

/// The value at `share` of the sorted durations, in milliseconds.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1e3
}
