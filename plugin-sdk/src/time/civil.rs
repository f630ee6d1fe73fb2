//! The Gregorian calendar and the clock, as numbers.

pub(super) const DAY_MS: i64 = 86_400_000;

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` for a day that does not exist or a year outside of 0..=9999.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    // Howard Hinnant's algorithm: years begin in March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of the day that is so many days from 1970-01-01.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // As above, the other way.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to the day of a year, from 1.
pub(super) fn days_from_ordinal(year: i64, day: i64) -> Option<i64> {
    let length = if is_leap(year) { 366 } else { 365 };
    (1..=length).contains(&day).then_some(())?;
    Some(days_from_civil(year, 1, 1)? + day - 1)
}

/// Days from 1970-01-01 to a weekday (Monday is 1) of a week of ISO 8601.
pub(super) fn days_from_week(year: i64, week: i64, weekday: i64) -> Option<i64> {
    if !(1..=53).contains(&week) || !(1..=7).contains(&weekday) {
        return None;
    }
    // The fourth of January is in the first week, and 1970-01-01 was a Thursday.
    let monday_of = |year| days_from_civil(year, 1, 4).map(|fourth| fourth - (fourth + 3).rem_euclid(7));
    let monday = monday_of(year)?;
    let is_of_next_year = week == 53 && monday_of(year + 1).is_some_and(|next| monday + 52 * 7 >= next);
    (!is_of_next_year).then_some(monday + (week - 1) * 7 + weekday - 1)
}

/// Milliseconds from midnight; a leap second (60) counts as the second after. `None` for a time that does not exist.
pub fn clock_ms(hour: i64, minute: i64, second: i64) -> Option<i64> {
    ((0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second))
        .then_some((hour * 3600 + minute * 60 + second) * 1000)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
