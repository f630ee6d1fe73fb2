//! What the host gives the stages of its memory and disk.

use kith_model::budget::table;

/// What the host gives the stages.
#[derive(Debug, Clone, Copy)]
pub struct HostLimits {
    /// What all calls of plugins under way may take in memory together; requests of polls and answers to them take a quarter as much
    /// again.
    pub guest_memory_bytes: u64,
    /// What one source may bring in an hour.
    pub source_bytes: u64,
    /// What the imports of a workspace under way may remember of their rows.
    pub import_memory_bytes: u64,
    /// What the process may take.
    pub process_memory_bytes: u64,
}

/// The least memory for plugins that any host has, and the usual volume.
impl Default for HostLimits {
    fn default() -> HostLimits {
        HostLimits {
            guest_memory_bytes: table::HOST_GUEST_MEMORY.default,
            source_bytes: table::SOURCE_BYTES.default,
            import_memory_bytes: table::IMPORT_MEMORY.default,
            process_memory_bytes: table::PROCESS_MEMORY.default,
        }
    }
}
