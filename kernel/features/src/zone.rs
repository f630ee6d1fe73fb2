//! Calendar days in a workspace's time zone: which day a moment belongs to, and when a day begins.
//!
//! A day is a number: 0 is 1970-01-01 in that zone. Days never run backwards, whatever the clocks on the wall do: a
//! moment belongs to the last day that has begun.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use kith_model::time::{DAY_MS, Timestamp};

const HOUR_MS: i64 = 3_600_000;

/// How long before midnight a clock may be set back across it; beyond that the wall's date is the day.
const MAX_SET_BACK_MS: i64 = 3 * 3_600_000;

/// No clock was ever set by more than this: Samoa left out a day.
const MAX_CLOCK_STEP_MS: i64 = 2 * DAY_MS;

/// A time zone. Cheap to clone.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    /// `None` for UTC, whose days need no table.
    rules: Option<TimeZone>,
}

/// Why a text is not a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a known time zone; write a name of the IANA database, e.g. Europe/Berlin or UTC")]
pub struct UnknownZone(String);

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::utc()
    }
}

impl Zone {
    /// Coordinated Universal Time.
    pub fn utc() -> Zone {
        Zone { name: "UTC".into(), rules: None }
    }

    /// The zone of this name in the IANA database.
    ///
    /// # Errors
    /// [`UnknownZone`] when the database has no such name.
    pub fn parse(name: &str) -> Result<Zone, UnknownZone> {
        if matches!(name, "UTC" | "Etc/UTC") {
            return Ok(Zone { name: name.into(), rules: None });
        }
        let rules = TimeZone::get(name).map_err(|_| UnknownZone(name.chars().take(64).collect()))?;
        Ok(Zone { name: name.into(), rules: Some(rules) })
    }

    /// The name it was made from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The day that the moment belongs to. Moments outside the years −9999 to 9999 are taken in UTC.
    pub fn day(&self, time: Timestamp) -> i32 {
        let Some(rules) = &self.rules else { return day_number(time.0) };
        let Ok(moment) = jiff::Timestamp::from_millisecond(time.0) else { return day_number(time.0) };
        let wall_ms = time.0.saturating_add(i64::from(rules.to_offset(moment).seconds()) * 1_000);
        let day = day_number(wall_ms);
        // Where clocks go back from just after midnight to the day before, the new day has begun all the same.
        let nearly_over = wall_ms.rem_euclid(DAY_MS) >= DAY_MS - MAX_SET_BACK_MS;
        if nearly_over && day < i32::MAX && self.start_of_day(day + 1) <= time { day + 1 } else { day }
    }

    /// The date of the day that the moment belongs to; `None` beyond the years −9999 to 9999.
    pub(crate) fn date(&self, time: Timestamp) -> Option<Date> {
        civil_date(Timestamp(i64::from(self.day(time)) * DAY_MS))
    }

    /// The number of a date.
    pub(crate) fn day_of(date: Date) -> i32 {
        TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_or(0, |start| day_number(start.as_millisecond()))
    }

    /// The hour on the wall, from 0 to 23.
    pub(crate) fn hour(&self, time: Timestamp) -> i64 {
        self.on_the_wall(time).rem_euclid(DAY_MS) / HOUR_MS
    }

    /// A moment until which the hour on the wall stays what it is.
    pub(crate) fn next_hour(&self, time: Timestamp) -> Timestamp {
        let next = time.plus_ms(HOUR_MS - self.on_the_wall(time).rem_euclid(HOUR_MS));
        let moment = jiff::Timestamp::from_millisecond(time.0).ok();
        let set = self.rules.as_ref().zip(moment).and_then(|(rules, moment)| rules.following(moment).next());
        // Clocks are set in the middle of an hour, too.
        set.map_or(next, |set| next.min(Timestamp(set.timestamp().as_millisecond())))
    }

    /// The moment at which clocks show this, in milliseconds as if they were UTC's. What is left out when clocks are put forward is
    /// the moment at which they are, and of what they show twice the first is meant; so a later clock is never an earlier moment.
    pub(crate) fn at_clock(&self, local_ms: i64) -> Timestamp {
        let at = |offset: Offset| Timestamp(local_ms.saturating_sub(i64::from(offset.seconds()) * 1_000));
        let shown = jiff::Timestamp::from_millisecond(local_ms).ok().map(|shown| TimeZone::UTC.to_datetime(shown));
        let Some((rules, shown)) = self.rules.as_ref().zip(shown) else { return Timestamp(local_ms) };
        match rules.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } => at(before),
            AmbiguousOffset::Gap { after, .. } => {
                let before = jiff::Timestamp::from_millisecond(at(after).0).ok();
                let set = before.and_then(|before| rules.following(before).next());
                set.map_or(at(after), |set| Timestamp(set.timestamp().as_millisecond()))
            }
        }
    }

    /// The first clock that shows `time` or later.
    pub(crate) fn first_clock_at(&self, time: Timestamp) -> i64 {
        self.first_clock(time, |at| at >= time)
    }

    /// The first clock that shows a time after `time`.
    pub(crate) fn first_clock_after(&self, time: Timestamp) -> i64 {
        self.first_clock(time, |at| at > time)
    }

    /// The first clock about `time` from which on the times that clocks show are past.
    fn first_clock(&self, time: Timestamp, is_past: impl Fn(Timestamp) -> bool) -> i64 {
        if self.rules.is_none() {
            return time.0.saturating_add(i64::from(!is_past(time)));
        }
        let wall = self.on_the_wall(time);
        let (mut low, mut high) = (wall.saturating_sub(MAX_CLOCK_STEP_MS), wall.saturating_add(MAX_CLOCK_STEP_MS));
        while low < high {
            let middle = low + (high - low) / 2;
            if is_past(self.at_clock(middle)) { high = middle } else { low = middle + 1 }
        }
        high
    }

    /// Milliseconds of the clock on the wall.
    fn on_the_wall(&self, time: Timestamp) -> i64 {
        let moment = jiff::Timestamp::from_millisecond(time.0).ok();
        let offset = self.rules.as_ref().zip(moment).map_or(0, |(rules, moment)| rules.to_offset(moment).seconds());
        time.0.saturating_add(i64::from(offset) * 1_000)
    }

    /// The first moment of a day.
    pub fn start_of_day(&self, day: i32) -> Timestamp {
        let in_utc = Timestamp(i64::from(day) * DAY_MS);
        let Some(rules) = &self.rules else { return in_utc };
        let Some(date) = civil_date(in_utc) else { return in_utc };
        // A midnight that clocks skip is moved to the first moment after the gap; one that comes twice is the first.
        rules.to_timestamp(date.at(0, 0, 0, 0)).map_or(in_utc, |start| Timestamp(start.as_millisecond()))
    }
}

fn day_number(milliseconds: i64) -> i32 {
    let day = milliseconds.div_euclid(DAY_MS);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

fn civil_date(midnight_in_utc: Timestamp) -> Option<Date> {
    let moment = jiff::Timestamp::from_millisecond(midnight_in_utc.0).ok()?;
    Some(moment.to_zoned(TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let day = berlin.day(at("2026-03-29T10:00:00Z"));
        assert_eq!(berlin.start_of_day(day), at("2026-03-28T23:00:00Z"));
        assert_eq!(berlin.start_of_day(day + 1), at("2026-03-29T22:00:00Z"), "the day is 23 hours long");
        assert_eq!(berlin.day(at("2026-03-29T21:59:59.999Z")), day);
        assert_eq!(berlin.day(at("2026-03-29T22:00:00Z")), day + 1);
        assert_eq!(Zone::utc().day(Timestamp(-1)), -1);
        assert_eq!(Zone::utc().start_of_day(-1), Timestamp(-DAY_MS));
        assert!(Zone::parse("Mars/Base").is_err());
    }

    #[test]
    fn a_later_clock_is_never_an_earlier_moment() {
        for (name, around) in [
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
            ("America/Havana", "2023-11-05T04:00:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z"),
            ("Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("UTC", "2026-01-01T00:00:00Z"),
        ] {
            let zone = Zone::parse(name).unwrap();
            let middle = at(around).0;
            let mut last = Timestamp(i64::MIN);
            for minute in -3_000..3_000 {
                let local_ms = middle + minute * 60_000;
                let moment = zone.at_clock(local_ms);
                assert!(moment >= last, "{name} at {local_ms}");
                let (first, later) = (zone.first_clock_at(moment), zone.first_clock_after(moment));
                assert!(first <= local_ms && local_ms < later, "{name} at {local_ms}: {first} {later}");
                assert!(zone.at_clock(first) == moment && zone.at_clock(first - 1) < moment, "{name} at {local_ms}");
                assert!(zone.at_clock(later) > moment && zone.at_clock(later - 1) == moment, "{name} at {local_ms}");
                last = moment;
            }
        }
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let clock = |text: &str| berlin.at_clock(at(text).0);
        assert_eq!(clock("2026-07-01T12:00:00Z"), at("2026-07-01T10:00:00Z"));
        assert_eq!(clock("2026-03-29T02:30:00Z"), at("2026-03-29T01:00:00Z"), "left out");
        assert_eq!(clock("2026-10-25T02:30:00Z"), at("2026-10-25T00:30:00Z"), "the first of two");
    }

    #[test]
    fn a_moment_belongs_to_the_last_day_that_has_begun() {
        // Sao Paulo skipped midnight in spring; St John's set clocks back at 00:01; Samoa skipped a whole day.
        for (name, around) in [
            ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
            ("America/Havana", "2023-11-05T04:00:00Z"),
            ("America/St_Johns", "2006-10-29T02:31:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z"),
            ("Europe/Berlin", "2026-10-25T00:00:00Z"),
        ] {
            let zone = Zone::parse(name).unwrap();
            let middle = at(around).0;
            let mut last = i32::MIN;
            for minute in -3_000..3_000 {
                let time = Timestamp(middle + minute * 60_000);
                let day = zone.day(time);
                assert!(day >= last, "{name}: day {day} after {last} at {time}");
                assert!(zone.start_of_day(day) <= time, "{name} at {time}");
                assert!(zone.start_of_day(day + 1) > time, "{name} at {time}");
                last = day;
            }
        }
    }
}
