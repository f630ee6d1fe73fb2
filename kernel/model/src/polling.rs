//! Polling for a connector of contract 0.2: the plugin says which requests it wants for a page and reads the answers, the
//! kernel sends. Both calls are pure, as a channel's are ([`crate::sending`]); one of contract 0.1 fetches a page in one call.

use crate::budget::table;
use crate::event::{DraftEvent, RejectedRecord};
use crate::plugin::{PluginFault, RecordPlace};
use crate::sending::{InboundResponse, OutboundRequest, SendFailure};
use crate::time::Timestamp;

/// The time between two polls where the manifest names none.
pub const DEFAULT_INTERVAL_MS: u64 = 15 * 60_000;

/// The longest time between two polls.
const MAX_INTERVAL_MS: u64 = 30 * 86_400_000;

/// The units of a length of time, the largest first.
const UNITS: [(char, u64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];

/// The milliseconds of a time between two polls as people write it, e.g. `15m`.
///
/// # Errors
/// What is wrong with it and what to write. One that is too short counts against its budget.
pub fn parse_interval(text: &str) -> Result<u64, String> {
    let interval_ms =
        span_ms(text).ok_or_else(|| format!("`{text}` is no time between two polls; write e.g. 90s, 15m, 6h or 1d"))?;
    if interval_ms < table::POLL_INTERVAL.default {
        table::POLL_INTERVAL.count();
        let least = interval_text(table::POLL_INTERVAL.default);
        return Err(format!("`{text}` is too short; the least time between two polls is {least}"));
    }
    if interval_ms > MAX_INTERVAL_MS {
        return Err(format!("`{text}` is too long; write at most {}", interval_text(MAX_INTERVAL_MS)));
    }
    Ok(interval_ms)
}

/// The milliseconds of a length of time as people write it, e.g. `60d`: a whole number and its unit. `None` for what is none; one
/// that no number holds is the longest.
pub fn span_ms(text: &str) -> Option<u64> {
    let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number = text.trim_end_matches(unit);
    if number.is_empty() || text.len() != number.len() + 1 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(factor))
}

/// A length of time as people write it, in the largest unit of which it is a multiple.
pub fn interval_text(interval_ms: u64) -> String {
    let whole = UNITS.into_iter().find(|(_, factor)| interval_ms > 0 && interval_ms.is_multiple_of(*factor));
    whole
        .map_or_else(|| format!("{}s", interval_ms / 1_000), |(unit, factor)| format!("{}{unit}", interval_ms / factor))
}

/// Which page is wanted; the same in every call for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedPage {
    /// [`PolledPage::cursor`] of the page before.
    pub cursor: Option<Vec<u8>>,
    /// When the kernel began this page.
    pub now: Timestamp,
    /// When it began the last page that it kept.
    pub since: Option<Timestamp>,
}

/// What comes next for a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PollTurn {
    /// Send these and hand over all answers at once.
    Send(Vec<OutboundRequest>),
    /// The page is complete.
    Page(PolledPage),
}

/// One page of a poll.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolledPage {
    pub events: Vec<DraftEvent>,
    /// Where each event stands on the page, in the same order.
    pub places: Vec<RecordPlace>,
    pub rejected: Vec<RejectedRecord>,
    pub cursor: Vec<u8>,
    /// Whether another page is waiting now.
    pub more: bool,
}

/// The answer to a request of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PollAnswer {
    /// Which round of the page it answers, from 1.
    pub round: u32,
    /// [`OutboundRequest::resume`] of the request.
    pub resume: Option<Vec<u8>>,
    pub result: Result<InboundResponse, SendFailure>,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PollError {
    /// The other side cannot now.
    #[error("{reason}")]
    Later {
        /// Not before so long.
        after_ms: Option<u64>,
        reason: String,
    },
    /// Asking again will not help until somebody changes something.
    #[error("{0}")]
    Permanent(String),
    /// The call itself failed.
    #[error(transparent)]
    Fault(#[from] PluginFault),
}

impl PollError {
    /// What a failure in the words of contract 0.1 says.
    pub fn of_failure(failure: PluginFault) -> PollError {
        match failure {
            PluginFault::Transient(reason) => PollError::Later { after_ms: None, reason },
            PluginFault::Permanent(reason) | PluginFault::BadInput(reason) => PollError::Permanent(reason),
            fault => PollError::Fault(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_between_polls_reads_as_it_is_written() {
        for (text, interval_ms) in
            [("1m", 60_000), ("90s", 90_000), ("15m", 900_000), ("6h", 21_600_000), ("30d", MAX_INTERVAL_MS)]
        {
            assert_eq!(parse_interval(text), Ok(interval_ms), "{text}");
            assert_eq!(interval_text(interval_ms), text);
        }
        assert_eq!(parse_interval("60s"), Ok(60_000));
        assert_eq!(interval_text(3_600_000), "1h");
    }

    #[test]
    fn a_time_between_polls_has_a_least_and_a_most() {
        for (text, word) in [
            ("59s", "too short"),
            ("0m", "too short"),
            ("31d", "too long"),
            ("99999999999999999999d", "too long"),
            ("", "is no time"),
            ("m", "is no time"),
            ("15", "is no time"),
            ("1mm", "is no time"),
            ("-1m", "is no time"),
            ("1.5h", "is no time"),
            ("15 m", "is no time"),
        ] {
            let refused = parse_interval(text).unwrap_err();
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }
}
