//! The allocator of the process, which the program sets: of what pages its memory is, and how long it keeps freed ones before it
//! gives them back to the system.
//!
//! A page that is given back and taken again is cleared by the system each time: with the allocator's own second of delay that
//! is some hundredths of what a server under load computes (docs/benchmarks.md). Five seconds keep what a burst of events takes
//! and gives.

use std::ffi::c_long;

use libmimalloc_sys::mi_option_t;

/// Have memory in pages of the usual size, which the environment can forbid by `MIMALLOC_ALLOW_THP=1`. The allocator asks for huge
/// ones, and the system then clears two megabytes where some bytes are wanted and takes them for resident: with 62,000 people a
/// server had 481 MB in place of 705, and the processor time of an event was the same (docs/benchmarks.md).
pub fn use_small_pages() {
    if std::env::var_os("MIMALLOC_ALLOW_THP").is_some() {
        return;
    }
    // A system that does not know the call has none to do without.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// `mi_option_purge_delay` of `mimalloc.h`, in milliseconds; the bindings have no name for it.
const PURGE_DELAY: mi_option_t = 15;
/// What the option holds where nobody set it: by this value the number above is known to be the delay.
const UNSET_MS: c_long = 1_000;
const DELAY_MS: c_long = 5_000;

/// Keep freed pages for a while, unless the environment says otherwise by `MIMALLOC_PURGE_DELAY`.
pub fn keep_freed_pages() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: both functions read or write one integer of a static table, under an index that they check against the table's
    // length, and take no pointers. The option is read each time pages are freed, so a change holds from then on; it is set
    // before the first thread is started.
    #[allow(unsafe_code, reason = "the library has its settings behind C functions only; see the proof above")]
    unsafe {
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == UNSET_MS {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS);
        }
    }
}

/// Give all freed pages back to the system now. What is freed on a thread that does nothing more would stay: the allocator looks at
/// its delays where it is asked for memory, and at those of what all threads share after ten times as long.
pub fn give_back() {
    // SAFETY: the function takes no pointers. It works on the calling thread's own heap and, under the library's locks, on what all
    // threads share of freed pages.
    #[allow(unsafe_code, reason = "as above")]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_unless_the_environment_says_otherwise() {
        use_small_pages();
        let is_said = std::env::var_os("MIMALLOC_ALLOW_THP").is_some();
        assert!(is_said || rustix::thread::transparent_huge_pages_are_disabled().unwrap());
    }

    #[test]
    fn the_number_is_that_of_the_delay() {
        keep_freed_pages();
        // SAFETY: as above.
        #[allow(unsafe_code, reason = "as above")]
        let delay = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let is_said = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
        assert!(is_said || delay == DELAY_MS, "{delay}");
    }
}
