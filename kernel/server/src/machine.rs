//! What the machine has, as far as the server's own share depends on it.

use std::fs;
use std::path::Path;

use kith_model::budget::table;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The part of the machine's memory that the calls of plugins under way may take together.
const GUESTS_PART: u64 = 4;

/// The part of the machine's memory that the process may take, in quarters.
const PROCESS_QUARTERS: u64 = 3;

/// Three quarters of the memory that this process may use, at least what the table of budgets says.
pub(crate) fn process_memory_bytes() -> u64 {
    let least = table::PROCESS_MEMORY.default;
    memory_bytes(Path::new("/")).map_or(least, |memory| (memory / 4 * PROCESS_QUARTERS).max(least))
}

/// The size of a page of memory.
pub(crate) fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// How many files this process may have open, once it has asked for all that the system allows it: the 1,024 that are usual at
/// first are less than the connections of one address, and without files the store cannot go on either.
pub(crate) fn open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A system that does not let it be raised leaves what there is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.map_or(current, |()| maximum).unwrap_or(u64::MAX)
}

/// A quarter of the memory that this process may use, at least what the table of budgets says.
pub(crate) fn guest_memory_bytes() -> u64 {
    let least = table::HOST_GUEST_MEMORY.default;
    memory_bytes(Path::new("/")).map_or(least, |memory| (memory / GUESTS_PART).max(least))
}

/// What the machine has, or the control groups (version 2) of this process allow, whichever is less. `root` is where the
/// system's files are.
fn memory_bytes(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    });
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    let limit_of = |path: &Path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse::<u64>().ok();
    let own = mount.join(group);
    let allowed = own.ancestors().take_while(|path| path.starts_with(&mount)).filter_map(limit_of);
    machine.into_iter().chain(allowed).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let less = maximum.map_or(1 << 16, |most| most - 1);
        setrlimit(Resource::Nofile, Rlimit { current: Some(less), maximum }).unwrap();
        assert!(open_files() > less);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn the_tightest_limit_above_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(memory_bytes(root.path()), None);
        write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        1 kB\n");
        assert_eq!(memory_bytes(root.path()), Some(16_000_000 << 10));
        write("proc/self/cgroup", "0::/pods/one\n");
        write("sys/fs/cgroup/pods/one/memory.max", "max\n");
        assert_eq!(memory_bytes(root.path()), Some(16_000_000 << 10));
        write("sys/fs/cgroup/pods/memory.max", "2147483648\n");
        assert_eq!(memory_bytes(root.path()), Some(2 << 30), "a group above it holds as well");
        assert!(guest_memory_bytes() >= table::HOST_GUEST_MEMORY.default);
    }
}
