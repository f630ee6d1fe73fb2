//! The zone of times that name none: an offset, or the name of a place whose offset changes through the year.
//!
//! A local time that daylight saving leaves out (02:30 in spring) is read as if the clock had not been put forward, and of one that
//! comes twice (02:30 in autumn) the first is meant, as RFC 5545 has it.

use std::cell::RefCell;
use std::rc::Rc;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use kith_plugin_sdk::Failure;
use kith_plugin_sdk::time::{days_from_civil, parse_rfc3339};

/// A date and a time on the clock, without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Local {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    /// Milliseconds from midnight; that of the next day is in it.
    pub(crate) clock_ms: i64,
}

impl Local {
    /// The time if it were one of UTC; `None` for a day that does not exist.
    pub(crate) fn as_utc(&self) -> Option<i64> {
        Some(days_from_civil(self.year, self.month, self.day)? * 86_400_000 + self.clock_ms)
    }
}

/// A zone.
#[derive(Debug, Clone)]
pub(crate) enum Zone {
    Offset(i64),
    Place(TimeZone, OddHours),
}

/// An hour of a clock that is put forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OddHour {
    /// No clock showed it.
    Skipped,
    /// Clocks showed it twice.
    Doubled,
}

/// The moments of the value at hand that lie in such an hour, one for each way in which it can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct OddHours(Rc<RefCell<Vec<(i64, OddHour)>>>);

impl Zone {
    pub(crate) const UTC: Zone = Zone::Offset(0);

    /// The zone of the configuration: `UTC`, `+01:00` or `Europe/Berlin`.
    pub(crate) fn parse(text: &str) -> Result<Zone, Failure> {
        Zone::find(text).ok_or_else(|| {
            Failure::permanent(format!(
                "the time zone `{text}` is neither `UTC`, an offset such as `+01:00`, nor a name of the IANA database such as `Europe/Berlin`"
            ))
        })
    }

    /// An offset, or a name of the IANA database.
    pub(crate) fn find(text: &str) -> Option<Zone> {
        if text == "UTC" {
            return Some(Zone::UTC);
        }
        if text.starts_with(['+', '-', 'Z', 'z']) {
            return offset_ms(text).map(Zone::Offset);
        }
        TimeZone::get(text).ok().map(|zone| Zone::Place(zone, OddHours::default()))
    }

    /// The moment at which clocks of the zone show `local`; `None` for a day that does not exist.
    pub(crate) fn moment(&self, local: Local) -> Option<i64> {
        let as_utc = local.as_utc()?;
        match self {
            Zone::Offset(offset_ms) => Some(as_utc - offset_ms),
            Zone::Place(zone, odd) => {
                let found = zone.to_ambiguous_timestamp(local.civil()?);
                let hour = match found.offset() {
                    AmbiguousOffset::Unambiguous { .. } => None,
                    AmbiguousOffset::Gap { .. } => Some(OddHour::Skipped),
                    AmbiguousOffset::Fold { .. } => Some(OddHour::Doubled),
                };
                let at = found.compatible().ok()?.as_millisecond();
                odd.0.borrow_mut().extend(hour.map(|hour| (at, hour)));
                Some(at)
            }
        }
    }

    /// Whether a value that was read as this moment names an odd hour of the zone. What was noted of the value is forgotten.
    pub(crate) fn odd_hour(&self, at: i64) -> Option<OddHour> {
        let Zone::Place(_, odd) = self else { return None };
        std::mem::take(&mut *odd.0.borrow_mut()).into_iter().find(|(moment, _)| *moment == at).map(|(_, hour)| hour)
    }
}

impl Zone {
    /// What the zone's clocks show at a moment, as if it were one of UTC.
    pub(crate) fn local_ms(&self, at: i64) -> i64 {
        match self {
            Zone::Offset(offset_ms) => at.saturating_add(*offset_ms),
            Zone::Place(zone, _) => match jiff::Timestamp::from_millisecond(at) {
                Ok(moment) => at + i64::from(zone.to_offset(moment).seconds()) * 1_000,
                Err(_) => at,
            },
        }
    }
}

/// An offset has the same forms as in RFC 3339, so a whole time with it tells what it is.
pub(crate) fn offset_ms(offset: &str) -> Option<i64> {
    if offset.is_empty() {
        return None;
    }
    parse_rfc3339(&format!("1970-01-01T00:00:00{offset}")).map(|time| -time)
}

/// Short names of zones that one country alone uses, or RFC 2822 defines. `IST`, `BST`, `CST` of China and their like name several.
const SHORT: [(&str, i64); 34] = [
    ("utc", 0),
    ("gmt", 0),
    ("ut", 0),
    ("z", 0),
    ("wet", 0),
    ("west", 60),
    ("cet", 60),
    ("cest", 120),
    ("mez", 60),
    ("mesz", 120),
    ("eet", 120),
    ("eest", 180),
    ("msk", 180),
    ("jst", 540),
    ("kst", 540),
    ("hkt", 480),
    ("sgt", 480),
    ("wib", 420),
    ("aest", 600),
    ("aedt", 660),
    ("acst", 570),
    ("acdt", 630),
    ("awst", 480),
    ("nzst", 720),
    ("nzdt", 780),
    ("sast", 120),
    ("est", -300),
    ("edt", -240),
    ("cst", -360),
    ("cdt", -300),
    ("mst", -420),
    ("mdt", -360),
    ("pst", -480),
    ("pdt", -420),
];

/// The zone that a folded short name stands for.
pub(crate) fn short(folded: &str) -> Option<Zone> {
    let (_, minutes) = SHORT.iter().find(|(name, _)| *name == folded)?;
    Some(Zone::Offset(minutes * 60_000))
}

impl Local {
    /// What a clock of UTC shows; `None` outside of the years that RFC 3339 writes.
    pub(crate) fn from_utc(at: i64) -> Option<Local> {
        let (days, clock_ms) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
        // The inverse of `days_from_civil`, by the same algorithm of Howard Hinnant: years begin in March.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (0..=9999).contains(&year).then_some(Local { year, month, day, clock_ms })
    }

    /// The same for `jiff`.
    fn civil(&self) -> Option<DateTime> {
        // Midnight at the end of a day is that of the next.
        let Local { year, month, day, clock_ms } = Local::from_utc(self.as_utc()?)?;
        let (hour, minute) = (clock_ms / 3_600_000, clock_ms / 60_000 % 60);
        DateTime::new(
            i16::try_from(year).ok()?,
            i8::try_from(month).ok()?,
            i8::try_from(day).ok()?,
            i8::try_from(hour).ok()?,
            i8::try_from(minute).ok()?,
            i8::try_from(clock_ms / 1000 % 60).ok()?,
            i32::try_from(clock_ms % 1000 * 1_000_000).ok()?,
        )
        .ok()
    }
}
