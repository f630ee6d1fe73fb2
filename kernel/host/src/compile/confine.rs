//! Responsible for taking every right from the compiling child but to read its input, write its output and use memory: its
//! output is loaded as code, and it runs as the user who owns the data and `host.key`.

/// Whether [`confine`] knows this system: Linux on x86-64 and AArch64. Elsewhere only the limits of the process hold, among
/// them that it opens no file.
pub const CONFINES: bool = cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));

/// Give up all rights, for good: no new privileges, and a filter over system calls (seccomp) that leaves memory, time, random
/// bits, reading the standard input, writing the two standard outputs, and the end. Everything else fails with EPERM, so that
/// what the standard library merely tries does no harm.
///
/// # Errors
/// When the system refuses; nothing is to be compiled then.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn confine() -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| format!("the compiling process cannot give up its rights: {error}");
    let filter = filter().map_err(|error| refused(&error))?;
    // Sets "no new privileges" too.
    seccompiler::apply_filter_all_threads(&filter).map_err(|error| refused(&error))
}

/// Nothing is given up here; see [`CONFINES`].
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn confine() -> Result<(), String> {
    Ok(())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

    /// Memory, locks, time, signals of its own, random bits, and the end.
    const FREE: [i64; 26] = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_gettimeofday,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getrusage,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_mprotect,
    ];
    let on = |descriptor: u64| {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, descriptor)?;
        SeccompRule::new(vec![is])
    };
    let mut rules: std::collections::BTreeMap<_, _> = FREE.into_iter().map(|call| (call, Vec::new())).collect();
    for reads in [libc::SYS_read, libc::SYS_readv] {
        rules.insert(reads, vec![on(0)?]);
    }
    for writes in [libc::SYS_write, libc::SYS_writev] {
        rules.insert(writes, vec![on(1)?, on(2)?]);
    }
    // The standard library asks how much there is to read before it reads to the end.
    for asks in [libc::SYS_fstat, libc::SYS_lseek] {
        rules.insert(asks, vec![on(0)?]);
    }
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, eperm, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}
