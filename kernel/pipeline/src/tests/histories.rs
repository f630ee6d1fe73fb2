//! One random history of everything at once: people whose identifiers tie them together and part them, audiences and a model
//! that change under them, time, restarts, and deaths of the process between two commits. After each round the naive answer,
//! computed from the list of events by a few lines of its own, has to be the kernel's; and messages leave for events and for
//! time alone, one for each entry.

mod bounds;
mod life;
mod look;
mod mortal;
mod naive;
mod repeats;
mod steps;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kith_store::EngineKind;

use life::World;
use steps::{Author, Round};

/// Rounds of one history.
const ROUNDS: usize = 10;

/// Histories on each engine in the short form.
const HISTORIES: u64 = 8;

/// How long the search for a smaller history that fails as well may take.
const SHRINKING: Duration = Duration::from_secs(120);

/// Live through a history; what went wrong.
fn live(history: &[Round], engine: EngineKind, seed: u64) -> Result<(), String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(engine, seed);
        for round in history {
            world.round(round)?;
        }
        world.end()
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

/// A history that fails too, from which no round and no step can be taken without that it passes.
fn smallest(mut history: Vec<Round>, engine: EngineKind, seed: u64) -> Vec<Round> {
    let deadline = Instant::now() + SHRINKING;
    // What hangs on an interleaving may not show every time.
    let fails = |history: &[Round]| (0..2).any(|_| live(history, engine, seed).is_err());
    let mut is_smaller = true;
    while std::mem::take(&mut is_smaller) {
        for at in (0..history.len()).rev() {
            let mut fewer = history.clone();
            fewer.remove(at);
            if Instant::now() < deadline && fails(&fewer) {
                history = fewer;
                is_smaller = true;
            }
        }
        for at in (0..history.len()).rev() {
            for step in (0..history[at].len()).rev() {
                let mut fewer = history.clone();
                fewer[at].remove(step);
                if Instant::now() < deadline && fails(&fewer) {
                    history = fewer;
                    is_smaller = true;
                }
            }
        }
    }
    history
}

fn histories(engine: EngineKind, first_seed: u64) {
    let times = u64::from(super::setting("KITH_TEST_TIMES").unwrap_or(1));
    let seeds = match super::setting("KITH_TEST_SEED").map(u64::from) {
        Some(seed) => seed..seed + 1,
        None => first_seed..first_seed + HISTORIES * times,
    };
    for seed in seeds {
        let history = Author::new(seed).write(ROUNDS);
        if let Err(problem) = live(&history, engine, seed) {
            let smallest = smallest(history, engine, seed);
            let mut text = String::new();
            for round in &smallest {
                writeln!(text, "  {round:?}").unwrap();
            }
            let again = live(&smallest, engine, seed).err().unwrap_or("it passes now and then".to_owned());
            panic!("KITH_TEST_SEED={seed} on {engine}: {problem}\nThe smallest history that fails: {again}\n{text}");
        }
    }
}

#[test]
fn random_histories_on_sled_end_where_the_naive_answer_says() {
    histories(EngineKind::Sled, 1);
}

#[test]
fn random_histories_on_redb_end_where_the_naive_answer_says() {
    histories(EngineKind::Redb, 1_000_001);
}
