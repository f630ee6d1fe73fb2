//! Work that yields the processor to all other: its threads have a lower priority than those that answer at once.

/// The highest nice value.
#[cfg(target_os = "linux")]
pub(crate) const LEAST_PRIORITY: i32 = 19;

/// How much a question that looks at everybody yields: as much as a model that computes for everybody.
const QUESTION: i32 = 10;

/// Lower the calling thread's priority for good, by a nice value. On Linux it is the thread's own, and begins as the process's.
pub(crate) fn yield_to_others(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::getpriority_process(None)
        .and_then(|process| rustix::process::setpriority_process(None, (process + nice).min(LEAST_PRIORITY)))
    {
        tracing::debug!(%error, "a thread keeps the usual priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Answer a question on a thread of its own, which yields and is gone with its answer: only a privileged process may raise the
/// priority of a thread again, so the caller's stays as it is. A panic goes on in the caller.
pub(crate) fn question<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            yield_to_others(QUESTION);
            work()
        });
        answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
