//! The place of a call among those that compute at the same time. Whoever runs a call lends its thread a [`Slot`]; work that
//! waits for somebody outside of the process gives it back for as long, so that a peer that never answers holds no place of
//! those who compute. Work that computes for long says so, and steps aside for what is short.

use std::cell::RefCell;
use std::sync::Arc;

/// A place that can be given back before its work ends.
pub trait Slot: Send + Sync {
    /// Others may compute in its place from now on.
    fn give_back(&self);
    /// Wait until there is a place again.
    fn take_again(&self);
    /// The work has computed for longer than others should stand behind it. Called on its own thread.
    fn lasts(&self);
}

thread_local! {
    static SLOT: RefCell<Option<Arc<dyn Slot>>> = const { RefCell::new(None) };
}

/// Run `work` on a thread that holds `slot` meanwhile.
pub fn hold<T>(slot: Arc<dyn Slot>, work: impl FnOnce() -> T) -> T {
    /// Also where the work panics: the thread's next work must not give back what is no longer its own.
    struct ClearOnDrop;
    impl Drop for ClearOnDrop {
        fn drop(&mut self) {
            SLOT.with_borrow_mut(Option::take);
        }
    }
    SLOT.with_borrow_mut(|held| *held = Some(slot));
    let _cleared = ClearOnDrop;
    work()
}

/// Wait for somebody outside with `wait`, without the thread's slot if it has one.
pub fn without<T>(wait: impl FnOnce() -> T) -> T {
    /// Taken again also where the wait panics, because whoever runs the call counts on it.
    struct TakeBackOnDrop(Option<Arc<dyn Slot>>);
    impl Drop for TakeBackOnDrop {
        fn drop(&mut self) {
            if let Some(slot) = &self.0 {
                slot.take_again();
            }
        }
    }
    let slot = SLOT.with_borrow(Clone::clone);
    if let Some(slot) = &slot {
        slot.give_back();
    }
    let _returning = TakeBackOnDrop(slot);
    wait()
}

/// Say that the work of the calling thread lasts, to its slot if it has one.
pub fn lasts() {
    if let Some(slot) = SLOT.with_borrow(Clone::clone) {
        slot.lasts();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    struct SlotCount(AtomicI32);

    impl Slot for SlotCount {
        fn give_back(&self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }

        fn take_again(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn lasts(&self) {
            self.0.fetch_add(10, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_slot_is_given_back_for_as_long_as_its_thread_waits() {
        let slot = Arc::new(SlotCount(AtomicI32::new(1)));
        let held = || slot.0.load(Ordering::SeqCst);
        assert_eq!(without(held), 1, "a thread without a slot gives none back");
        hold(slot.clone(), || {
            assert_eq!((without(held), held()), (0, 1));
            let panicked = std::panic::catch_unwind(|| without(|| panic!("on purpose")));
            assert!(panicked.is_err() && held() == 1);
        });
        lasts();
        assert_eq!(without(held), 1, "the work has ended, and its slot with it");
        hold(slot.clone(), lasts);
        assert_eq!(held(), 11);
    }
}
