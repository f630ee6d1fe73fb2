//! What the calls of plugins on a thread have used since it was last asked. The host says it of each call; whoever runs several
//! and wants to know what they came to asks, and needs no word from the role that it calls.

use std::cell::Cell;
use std::time::Duration;

/// What calls used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub processor: Duration,
    /// Of calls that are metered.
    pub fuel: u64,
}

thread_local! {
    static SPENT: Cell<Spent> = const { Cell::new(Spent { processor: Duration::ZERO, fuel: 0 }) };
}

/// A call on this thread used so much.
pub fn add(spent: Spent) {
    let before = SPENT.get();
    let (processor, fuel) = (before.processor.saturating_add(spent.processor), before.fuel.saturating_add(spent.fuel));
    SPENT.set(Spent { processor, fuel });
}

/// What calls on this thread have used since this was last asked.
pub fn take() -> Spent {
    SPENT.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_used_is_told_once_and_to_their_thread_alone() {
        assert_eq!(take(), Spent::default());
        add(Spent { processor: Duration::from_millis(2), fuel: 3 });
        add(Spent { processor: Duration::from_millis(1), fuel: u64::MAX });
        std::thread::spawn(|| assert_eq!(take(), Spent::default())).join().unwrap();
        assert_eq!(take(), Spent { processor: Duration::from_millis(3), fuel: u64::MAX });
        assert_eq!(take(), Spent::default());
    }
}
