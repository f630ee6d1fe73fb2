//! The figures of ARCHITECTURE.md: each beside the yardstick that it is measured against, in one run.
//!
//! `cargo bench --bench kernel` prints them; nothing here passes or fails. `-- columns`, `-- calls`, `-- engine` or `-- ingest`
//! measures that part alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has to stop, and to say where"
)]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod calls;
mod columns;
mod engine;
mod figures;
mod ingest;
mod wire;

use figures::Asked;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let Some(asked) = Asked::of("kernel") else { return };
    if asked.part("columns") {
        columns::run();
    }
    if asked.part("calls") {
        calls::run();
    }
    let alone = (asked.part("engine") || asked.part("ingest")).then(engine::run);
    if let (Some(alone), true) = (alone, asked.part("ingest")) {
        ingest::run(alone);
    }
}
