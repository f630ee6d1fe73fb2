//! The long forms of tests: the same tests with more cases, started by `.ci/long`.

/// `short` cases, or as many times more as `KITH_TEST_TIMES` says.
pub fn cases(short: u64) -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a switch of the tests, not of the product")]
    let times = std::env::var("KITH_TEST_TIMES");
    short * times.ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}
