//! The data path whole, over the in-memory store, with roles as closures and a clock that stands still.

mod accept;
mod backtests;
mod by_hand;
mod champions;
mod costs;
mod counts;
mod delivery;
mod emits;
mod failures;
mod faults;
mod fits;
mod gathering;
pub(crate) mod harness;
mod histories;
mod identity;
mod models;
mod polls;
mod profiling;
mod provenance;
mod reaction;
mod refusals;
mod repeats;
mod replays;
mod rules;
mod shadows;
mod taking_back;
mod training;
mod uncomputed;
mod undoing;
mod who;

/// A number from the environment.
fn setting(name: &str) -> Option<u32> {
    #[allow(clippy::disallowed_methods, reason = "a switch of the tests, not of the product")]
    let text = std::env::var(name);
    text.ok().and_then(|text| text.parse().ok())
}

/// How a law is tried: in so many cases, or as many times more as `KITH_TEST_TIMES` says. Which ones is for `PROPTEST_RNG_SEED`,
/// which `.cargo/config.toml` sets.
pub(crate) fn laws(cases: u32) -> proptest::test_runner::Config {
    let cases = cases * setting("KITH_TEST_TIMES").unwrap_or(1);
    proptest::test_runner::Config { cases, failure_persistence: None, ..proptest::test_runner::Config::default() }
}
