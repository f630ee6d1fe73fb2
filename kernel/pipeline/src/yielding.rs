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

/// The processors that the calling thread may use while it steps aside for nobody.
pub(crate) struct ProcessorSet(#[cfg(target_os = "linux")] rustix::thread::CpuSet);

impl ProcessorSet {
    /// Run the calling thread, and what it starts, on all processors but the first that it may use, where there are several.
    /// Work that takes seconds then never stands before work that takes a millisecond and needs a processor at once: a lower
    /// priority alone lets the system run it to the end of its time slice first.
    pub(crate) fn step() -> Option<ProcessorSet> {
        #[cfg(target_os = "linux")]
        {
            use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
            let all = sched_getaffinity(None).ok()?;
            let first = (0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor))?;
            let mut others = all;
            others.unset(first);
            // Where the system refuses, the thread runs wherever it did.
            (all.count() > 1 && sched_setaffinity(None, &others).is_ok()).then_some(ProcessorSet(all))
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Run the calling thread, which is the one that stepped aside, wherever it might before.
    pub(crate) fn back(self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::thread::sched_setaffinity(None, &self.0) {
            tracing::debug!(%error, "a thread leaves a processor to others for good");
        }
    }
}

/// Leave a processor to others for as long as the calling thread runs.
pub fn leave_a_processor_to_others() {
    let _for_good = ProcessorSet::step();
}

/// Work on a thread of its own, which yields to all others and is gone with the work: only a privileged process may raise the
/// priority of a thread again, so the caller's stays as it is. A panic goes on in the caller.
pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            yield_to_others(QUESTION);
            leave_a_processor_to_others();
            work()
        });
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::*;

    #[test]
    fn one_processor_is_left_and_never_the_last() {
        let after = |times: u32| {
            let left = move || {
                (0..times).for_each(|_| leave_a_processor_to_others());
                sched_getaffinity(None).unwrap()
            };
            std::thread::spawn(left).join().unwrap()
        };
        let all = after(0);
        let one_less = after(1);
        assert_eq!(one_less.count(), (all.count() - 1).max(1));
        assert!((0..CpuSet::MAX_CPU).all(|number| all.is_set(number) || !one_less.is_set(number)));
        assert_eq!(after(all.count() + 1).count(), 1);
        assert_eq!(after(0), all, "other threads run where they did");
        let returned = || {
            ProcessorSet::step().into_iter().for_each(ProcessorSet::back);
            sched_getaffinity(None).unwrap()
        };
        assert_eq!(std::thread::spawn(returned).join().unwrap(), all);
    }
}
