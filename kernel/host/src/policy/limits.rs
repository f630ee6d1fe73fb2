//! Limits that are asked for or granted above what a server gives.

use kith_model::plugin::{Grants, LimitRequest};
use kith_model::sending::MAX_SENDING;

use super::Limits;

/// What a server gives at most that is started in any way, against which a manifest is held.
pub(crate) fn highest_ceiling() -> Limits {
    Limits { messages_at_once: MAX_SENDING, requests_per_host: MAX_SENDING, ..Limits::default() }
}

/// The limits that are above a ceiling, and so of no effect: the name of each, what is asked for, and the ceiling.
pub(crate) fn above(limits: &LimitRequest, ceiling: &Limits) -> Vec<(&'static str, u64, u64)> {
    let asked = [
        ("memory_bytes", limits.memory_bytes, ceiling.memory_bytes),
        ("cpu_ms", limits.cpu_ms, ceiling.cpu_ms),
        ("wall_ms", limits.wall_ms, ceiling.wall_ms),
        ("output_bytes", limits.output_bytes, ceiling.output_bytes),
        ("log_bytes", limits.log_bytes, ceiling.log_bytes),
        ("host_calls", limits.host_calls, ceiling.host_calls),
        ("messages_at_once", limits.messages_at_once, ceiling.messages_at_once),
        ("requests_per_host", limits.requests_per_host, ceiling.requests_per_host),
        ("requests_per_minute", limits.requests_per_minute, ceiling.requests_per_minute),
    ];
    let above = asked.into_iter().filter_map(|(name, asked, most)| Some((name, asked?, most)));
    above.filter(|(_, asked, most)| asked > most).collect()
}

/// Limits that are granted above the server's. How much is sent at once differs from server to server, and may be granted for all.
pub(super) fn in_vain(grants: &Grants, ceiling: &Limits) -> impl Iterator<Item = String> {
    let Limits { messages_at_once, requests_per_host, .. } = highest_ceiling();
    let ceiling = Limits { messages_at_once, requests_per_host, ..ceiling.clone() };
    let above = above(&grants.limits, &ceiling).into_iter();
    above.map(|(name, asked, most)| format!("limits: `{name}` of {asked} is above the server's {most}"))
}
