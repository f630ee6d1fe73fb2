//! From orders to what the models see: repeat purchase days, recency, age and mean spend as of a day.
//!
//! Days are UTC days since 1970-01-01. Orders of one day are one purchase, the first purchase day makes a customer and is not a repeat.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The UTC day of a moment in milliseconds.
pub(crate) fn day_of(timestamp_ms: i64) -> i64 {
    timestamp_ms.div_euclid(DAY_MS)
}

/// One customer as of a day, times in units of `time_unit_days`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct History {
    /// Repeat purchases: days with an order, the first one not counted.
    pub(crate) frequency: f64,
    /// From the first to the last purchase.
    pub(crate) recency: f64,
    /// From the first purchase to the day.
    pub(crate) age: f64,
    /// Mean amount of the repeat purchases; 0 without any, `None` where amounts are missing.
    pub(crate) mean_spend: Option<f64>,
}

/// A customer's purchase days in time order, each with what was spent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Purchases {
    days: Vec<(i64, f64)>,
    has_amounts: bool,
}

/// No order has a larger amount, in whichever currency. Whoever may send events could else keep every later fit from
/// converging with one of them.
const MAX_AMOUNT: f64 = 1e12;

impl Purchases {
    /// Merge orders by day. `amounts` belong to `times` one by one; where their number differs or one is beyond [`MAX_AMOUNT`],
    /// what the customer spent is unknown.
    pub(crate) fn new(times_ms: &[i64], amounts: &[f64]) -> Purchases {
        let has_amounts = amounts.len() == times_ms.len() && amounts.iter().all(|amount| amount.abs() <= MAX_AMOUNT);
        let mut days: Vec<(i64, f64)> = times_ms
            .iter()
            .enumerate()
            .map(|(index, &time)| (day_of(time), if has_amounts { amounts[index] } else { 0.0 }))
            .collect();
        // Stable: amounts of one day keep their order, so that their sum does not depend on how the list came.
        days.sort_by_key(|&(day, _)| day);
        days.dedup_by(|later, kept| {
            let is_same_day = later.0 == kept.0;
            if is_same_day {
                kept.1 += later.1;
            }
            is_same_day
        });
        Purchases { days, has_amounts }
    }

    /// The history up to and including the day `as_of`; `None` where there was no purchase yet.
    pub(crate) fn as_of(&self, as_of: i64, time_unit_days: f64) -> Option<History> {
        let days = &self.days[..self.days.partition_point(|&(day, _)| day <= as_of)];
        let (&(first, _), &(last, _)) = (days.first()?, days.last()?);
        let repeats = &days[1..];
        let mean_spend = if repeats.is_empty() {
            0.0
        } else {
            repeats.iter().map(|&(_, amount)| amount).sum::<f64>() / repeats.len() as f64
        };
        Some(History {
            frequency: repeats.len() as f64,
            recency: (last - first) as f64 / time_unit_days,
            age: (as_of - first) as f64 / time_unit_days,
            mean_spend: self.has_amounts.then_some(mean_spend),
        })
    }

    /// Purchase days after `from` up to and including `to`.
    pub(crate) fn purchases_between(&self, from: i64, to: i64) -> usize {
        self.days.partition_point(|&(day, _)| day <= to) - self.days.partition_point(|&(day, _)| day <= from)
    }
}

/// The day of a date `YYYY-MM-DD`.
pub(crate) fn parse_day(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<i64>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) {
        return None;
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that leap days come last.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_days() {
        for (date, day) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11_016),
            ("2024-12-31", 20_088),
            ("1997-09-30", 10_134),
            ("0001-01-01", -719_162),
        ] {
            assert_eq!(parse_day(date), Some(day), "{date}");
        }
        for date in [
            "",
            "1997",
            "1997-9-30",
            "1997-02-29",
            "1997-13-01",
            "1997-00-01",
            "1997-01-32",
            "1997-09-30T",
            "+997-01-01",
        ] {
            assert_eq!(parse_day(date), None, "{date}");
        }
    }

    #[test]
    fn orders_of_one_utc_day_are_one_purchase() {
        let day = 10_000 * DAY_MS;
        let purchases = Purchases::new(
            &[day + 5, day + DAY_MS - 1, day + DAY_MS, day + 9 * DAY_MS + 7, day + 9 * DAY_MS],
            &[1.0, 2.0, 4.0, 8.0, 16.0],
        );
        let history = purchases.as_of(10_014, 7.0).unwrap();
        assert_eq!(
            history,
            History { frequency: 2.0, recency: 9.0 / 7.0, age: 2.0, mean_spend: Some((4.0 + 24.0) / 2.0) }
        );
        assert_eq!(purchases.as_of(10_000, 7.0).unwrap().frequency, 0.0);
        assert_eq!(purchases.as_of(9_999, 7.0), None);
        assert_eq!(purchases.purchases_between(10_000, 10_009), 2);
        assert_eq!(purchases.purchases_between(10_001, 10_008), 0);
    }

    #[test]
    fn missing_amounts_leave_spend_unknown() {
        assert_eq!(Purchases::new(&[0, DAY_MS], &[1.0]).as_of(5, 1.0).unwrap().mean_spend, None);
        assert_eq!(Purchases::new(&[0, DAY_MS], &[1.0, f64::NAN]).as_of(5, 1.0).unwrap().mean_spend, None);
        assert_eq!(Purchases::new(&[0], &[7.0]).as_of(5, 1.0).unwrap().mean_spend, Some(0.0));
        assert_eq!(Purchases::new(&[], &[]).as_of(5, 1.0), None);
    }

    #[test]
    fn days_before_1970_are_days_too() {
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(0), 0);
    }
}
