//! Waiting for something that happens by itself: looked at again and again, up to a deadline.

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer on two busy cores; what does has gone wrong.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Wait until `look` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait(what, || look().ok_or_else(String::new))
}

/// Wait until `holds`.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait(what, || if holds() { Ok(()) } else { Err(String::new()) });
}

/// Wait until `look` sees what it looks for; where it does not, the last thing that it saw is told.
#[track_caller]
pub fn wait_until_seen(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    wait(what, || look().map_err(|seen| format!("; {seen}")));
}

#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(begun.elapsed() < DEADLINE, "waited {} s in vain: {what}{seen}", DEADLINE.as_secs());
        std::thread::park_timeout(PERIOD);
    }
}
