//! Windows over events: which stretch of time an aggregate looks at.
//!
//! | window | at `now` it holds |
//! | --- | --- |
//! | none | every event up to and including `now` |
//! | shorter than two days: `'90m'`, `'36h'`, `'1d'` | exactly `(now − window, now]` |
//! | two days and longer: `'30d'` | the calendar day of `now` in the workspace's zone and the 29 before it, up to `now` |

use std::fmt;

use kith_model::time::{DAY_MS, Timestamp};

use crate::value::Duration;
use crate::zone::Zone;

/// The longest window, ten years. Beyond it, day by day bookkeeping costs more than it tells.
pub const MAX_WINDOW_DAYS: i32 = 3_650;

/// Which stretch of time an aggregate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All time up to now.
    Always,
    /// This many milliseconds back from now.
    Exact(i64),
    /// This many calendar days, today included.
    Days(i32),
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Always => f.write_str("all time"),
            Window::Exact(length) => Duration(*length).fmt(f),
            Window::Days(days) => write!(f, "{days}d"),
        }
    }
}

impl Window {
    /// Read `90m`, `36h` or `30d`.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Window, String> {
        let malformed = || format!("`{text}` is not a window; write a number and `m`, `h` or `d`, e.g. '90d'");
        let (unit_at, unit) = text.char_indices().next_back().ok_or_else(malformed)?;
        let number = &text[..unit_at];
        if number.is_empty() || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(malformed());
        }
        let unit_ms = match unit {
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => DAY_MS,
            _ => return Err(malformed()),
        };
        let too_long = || format!("a window of at most {MAX_WINDOW_DAYS}d; leave the window out for all time");
        let number: i32 = number.parse().map_err(|_| too_long())?;
        let length = i64::from(number) * unit_ms;
        match (length, unit) {
            (0, _) => Err("a window must be longer than nothing".into()),
            (length, _) if length > i64::from(MAX_WINDOW_DAYS) * DAY_MS => Err(too_long()),
            (length, _) if length < 2 * DAY_MS => Ok(Window::Exact(length)),
            (_, 'd') => Ok(Window::Days(number)),
            (length, _) => Err(format!(
                "windows of two days and more count calendar days; write '{}d' instead of '{text}'",
                length / DAY_MS
            )),
        }
    }

    /// Whether an event of this time is in the window at `now`.
    pub(crate) fn holds(&self, time: Timestamp, now: Timestamp, zone: &Zone) -> bool {
        time <= now
            && match self {
                Window::Always => true,
                Window::Exact(length) => time.0 > now.0.saturating_sub(*length),
                Window::Days(days) => time >= zone.start_of_day(first_day(*days, now, zone)),
            }
    }
}

/// The first of the last `days` days at `now`.
pub(crate) fn first_day(days: i32, now: Timestamp, zone: &Zone) -> i32 {
    zone.day(now).saturating_sub(days - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read() {
        for (text, window) in [
            ("90m", Window::Exact(90 * 60_000)),
            ("1d", Window::Exact(DAY_MS)),
            ("36h", Window::Exact(36 * 3_600_000)),
            ("2d", Window::Days(2)),
            ("3650d", Window::Days(3_650)),
        ] {
            assert_eq!(Window::parse(text), Ok(window), "{text}");
        }
        for text in ["", "d", "7", "7w", "-7d", "1.5d", "0d", "3651d", "48h", "99999999999d", "7 d", "é"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        assert!(Window::parse("72h").unwrap_err().contains("'3d'"));
    }
}
