//! What the caches of people's rows may take.

use std::sync::atomic::{AtomicU64, Ordering};

/// The least that a workspace's cache takes.
const LEAST_SHARE: u64 = 2 << 20;

/// Bytes of all workspaces' caches together.
#[derive(Debug)]
pub(crate) struct CacheBytes(AtomicU64);

impl Default for CacheBytes {
    fn default() -> CacheBytes {
        CacheBytes(AtomicU64::new(part_of(0)))
    }
}

/// A part of what the process may take; of little memory and of much some all the same. A person who is not in them is read from the
/// engine, which costs as much as computing what an event changes.
fn part_of(process_bytes: u64) -> u64 {
    (process_bytes / 16).clamp(48 << 20, 512 << 20)
}

impl CacheBytes {
    /// Let them have their part of what the process may take.
    pub(crate) fn set_process_memory(&self, bytes: u64) {
        self.0.store(part_of(bytes), Ordering::Relaxed);
    }

    /// What one of so many workspaces has.
    pub(crate) fn share(&self, workspaces: usize) -> u64 {
        (self.0.load(Ordering::Relaxed) / workspaces.max(1) as u64).max(LEAST_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_share_a_part_of_the_memory() {
        let caches = CacheBytes::default();
        for (process, workspaces, expected) in [
            (0, 1, 48 << 20),
            (3 << 30, 1, 192 << 20),
            (3 << 30, 3, 64 << 20),
            (64 << 30, 1, 512 << 20),
            (64 << 30, 0, 512 << 20),
            (3 << 30, 1_000, LEAST_SHARE),
        ] {
            caches.set_process_memory(process);
            assert_eq!(caches.share(workspaces), expected, "{process} bytes, {workspaces} workspaces");
        }
    }
}
