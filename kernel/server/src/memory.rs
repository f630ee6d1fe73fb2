//! What the process takes of the machine's memory, and the bound above which it takes on nothing more.
//!
//! Bodies, calls of plugins and caches have budgets of their own. This one is for all of them together and for what grows with
//! what is stored: who would bring more is refused and may come again, before the system ends the process for everybody.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kith_model::budget::{Exhausted, table};
use parking_lot::Mutex;

use crate::{allocator, machine};

/// How old a figure may be before it is read again: reading it is a system call, and requests come by the thousand.
const MAX_AGE: Duration = Duration::from_millis(20);

/// When to come again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How often freed pages are given back while the process is beyond its bound.
const GIVE_BACK_PERIOD: Duration = Duration::from_millis(500);

/// What the system told of the process's memory.
#[derive(Debug)]
struct Figure {
    read_at: Instant,
    bytes: u64,
}

/// The process's memory and its bound.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    bound_bytes: u64,
    last: Mutex<Option<Figure>>,
    given_back_at: Mutex<Option<Instant>>,
    /// Whether it was beyond the bound when somebody looked last, so that the log tells each change once.
    is_beyond: AtomicBool,
}

impl ProcessMemory {
    pub(crate) fn new(bound_bytes: u64) -> ProcessMemory {
        ProcessMemory {
            bound_bytes,
            last: Mutex::new(None),
            given_back_at: Mutex::new(None),
            is_beyond: AtomicBool::new(false),
        }
    }

    /// Whether there is room for more work.
    ///
    /// # Errors
    /// The budget `process-memory`, while the process takes more than its bound.
    pub(crate) fn check(&self) -> Result<(), Exhausted> {
        let mut bytes = self.bytes();
        if bytes > self.bound_bytes && self.may_give_back() {
            // What is freed is nobody's: none is refused for it.
            allocator::give_back();
            *self.last.lock() = None;
            bytes = self.bytes();
        }
        let is_beyond = bytes > self.bound_bytes;
        if self.is_beyond.swap(is_beyond, Ordering::Relaxed) != is_beyond {
            let bound = self.bound_bytes;
            if is_beyond {
                tracing::warn!(bytes, bound, "the process takes more memory than its bound; bodies are refused");
            } else {
                tracing::info!(bytes, bound, "the process is within its bound of memory again");
            }
        }
        if is_beyond { Err(table::PROCESS_MEMORY.exhausted(self.bound_bytes, Some(RETRY_AFTER))) } else { Ok(()) }
    }

    /// Give back what is freed, from time to time and whatever the process takes: a burst is over, and its threads ask for nothing
    /// that would remind the allocator. Blocks for as long as the system takes.
    pub(crate) fn upkeep(&self) {
        allocator::give_back();
        *self.given_back_at.lock() = Some(Instant::now());
    }

    fn may_give_back(&self) -> bool {
        let mut given_back_at = self.given_back_at.lock();
        let may = given_back_at.is_none_or(|at| at.elapsed() >= GIVE_BACK_PERIOD);
        if may {
            *given_back_at = Some(Instant::now());
        }
        may
    }

    /// As read last; 0 where the system does not tell.
    fn bytes(&self) -> u64 {
        let mut last = self.last.lock();
        match &*last {
            Some(figure) if figure.read_at.elapsed() < MAX_AGE => figure.bytes,
            _ => {
                let bytes = anonymous_bytes(Path::new("/proc/self/statm")).unwrap_or(0);
                *last = Some(Figure { read_at: Instant::now(), bytes });
                bytes
            }
        }
    }
}

/// What is resident and no file's: the program's own code can be read again and counts for nothing.
fn anonymous_bytes(statm: &Path) -> Option<u64> {
    let text = fs::read_to_string(statm).ok()?;
    let mut pages = text.split_whitespace().skip(1).map(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * machine::page_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_pages_count_without_those_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("statm");
        fs::write(&file, "90000 5000 1000 4000 0 80000 0\n").unwrap();
        assert_eq!(anonymous_bytes(&file), Some(4000 * machine::page_bytes()));
        fs::write(&file, "90000\n").unwrap();
        assert_eq!(anonymous_bytes(&file), None);
        assert_eq!(anonymous_bytes(&folder.path().join("none")), None);
    }

    #[test]
    fn work_is_refused_above_the_bound_alone() {
        assert!(ProcessMemory::new(u64::MAX).check().is_ok());
        if anonymous_bytes(Path::new("/proc/self/statm")).is_some() {
            let refused = ProcessMemory::new(4096).check().unwrap_err();
            assert_eq!((refused.budget.name, refused.limit), ("process-memory", 4096));
            assert_eq!(refused.retry_after, Some(RETRY_AFTER));
        }
    }
}
