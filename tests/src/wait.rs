//! Waiting for something that happens by itself: looked at again and again, up to a deadline.

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer on two busy cores; what does has gone wrong.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Wait until `look` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {} s in vain: {what}", DEADLINE.as_secs());
        std::thread::park_timeout(PERIOD);
    }
}

/// Wait until `holds`.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}
