//! The rules of the lifecycle: which stage somebody is in, given what is known of him and the bounds.
//!
//! Pure: times in milliseconds in, a stage out. The order of the rules is the order of precedence, and the README's table says the same.

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// A stage of the lifecycle: a value of the tag, as the manifest declares them.
pub(crate) use crate::LifecycleValue as Stage;

/// Bounds between the stages. Days are whole periods of 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Bounds {
    /// New for this many days after the first order (or activity).
    pub(crate) new_days: i64,
    /// At risk from this many days of silence on.
    pub(crate) at_risk_days: i64,
    /// Dormant from this many days of silence on, which is also the silence that somebody is won back from.
    pub(crate) dormant_days: i64,
    /// Won back for this many days after the order that ended the silence.
    pub(crate) won_back_days: i64,
    /// Loyal with this many orders …
    pub(crate) loyal_orders: usize,
    /// … within this many days.
    pub(crate) loyal_days: i64,
}

impl Bounds {
    /// What is wrong with the bounds together, each of which is sensible alone.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.at_risk_days >= self.dormant_days {
            return Err(format!(
                "`at_risk_days` is {} and `dormant_days` is {}; the first must be smaller, or nobody is ever at risk",
                self.at_risk_days, self.dormant_days
            ));
        }
        Ok(())
    }
}

/// What is known of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Person<'a> {
    /// Times of all orders, ascending.
    pub(crate) orders: &'a [i64],
    /// First and last time that anything was heard of him.
    pub(crate) first_activity: Option<i64>,
    pub(crate) last_activity: Option<i64>,
}

/// The stage of a person at `now`; `None` for somebody who never ordered or did anything.
///
/// Customers are judged by their orders alone: reading mails keeps nobody from being at risk. Those who never ordered are judged by their activity.
pub(crate) fn stage(person: &Person<'_>, bounds: &Bounds, now: i64) -> Option<Stage> {
    let first = person.orders.first().copied().or(person.first_activity)?;
    let last = person.orders.last().copied().or(person.last_activity).unwrap_or(first);
    let (since_first, silence) = (days_between(first, now), days_between(last, now));
    Some(if was_won_back(person.orders, bounds, now) {
        Stage::WonBack
    } else if since_first < bounds.new_days {
        Stage::New
    } else if silence >= bounds.dormant_days {
        Stage::Dormant
    } else if silence >= bounds.at_risk_days {
        Stage::AtRisk
    } else if recent_orders(person.orders, bounds.loyal_days, now) >= bounds.loyal_orders {
        Stage::Loyal
    } else {
        Stage::Active
    })
}

/// Whether an order of the last `won_back_days` came after a silence of `dormant_days` or more.
fn was_won_back(orders: &[i64], bounds: &Bounds, now: i64) -> bool {
    orders
        .windows(2)
        .rev()
        .take_while(|pair| days_between(pair[1], now) < bounds.won_back_days)
        .any(|pair| days_between(pair[0], pair[1]) >= bounds.dormant_days)
}

/// Orders of the last `days` days.
fn recent_orders(orders: &[i64], days: i64, now: i64) -> usize {
    orders.iter().rev().take_while(|time| days_between(**time, now) < days).count()
}

/// Whole days from `from` to `to`; 0 where a client's clock was fast and `from` is later.
fn days_between(from: i64, to: i64) -> i64 {
    (to.saturating_sub(from) / DAY_MS).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        new_days: 30,
        at_risk_days: 90,
        dormant_days: 180,
        won_back_days: 30,
        loyal_orders: 3,
        loyal_days: 365,
    };
    const NOW: i64 = 20_000 * DAY_MS;

    /// The stage of somebody who ordered so many days ago, and did nothing else.
    fn after_orders(days_ago: &[i64]) -> Option<Stage> {
        let orders: Vec<i64> = days_ago.iter().map(|days| NOW - days * DAY_MS).collect();
        assert!(orders.is_sorted(), "days ago are written from the first order to the last");
        let (first_activity, last_activity) = (orders.first().copied(), orders.last().copied());
        stage(&Person { orders: &orders, first_activity, last_activity }, &BOUNDS, NOW)
    }

    fn after_activity(first_days_ago: i64, last_days_ago: i64) -> Option<Stage> {
        let (first, last) = (NOW - first_days_ago * DAY_MS, NOW - last_days_ago * DAY_MS);
        stage(&Person { orders: &[], first_activity: Some(first), last_activity: Some(last) }, &BOUNDS, NOW)
    }

    #[test]
    fn every_bound_holds_to_the_day() {
        for (days_ago, expected) in [
            // New for thirty days, the first of which is day 0.
            (&[0][..], Stage::New),
            (&[29], Stage::New),
            (&[30], Stage::Active),
            // At risk from day 90, dormant from day 180.
            (&[89], Stage::Active),
            (&[90], Stage::AtRisk),
            (&[179], Stage::AtRisk),
            (&[180], Stage::Dormant),
            (&[5_000], Stage::Dormant),
            // Loyal with the third order within a year.
            (&[300, 40], Stage::Active),
            (&[364, 300, 40], Stage::Loyal),
            (&[365, 300, 40], Stage::Active),
            (&[365, 364, 300, 40], Stage::Loyal),
            // Won back by an order after 180 days, for thirty days.
            (&[180, 0], Stage::WonBack),
            (&[179, 0], Stage::Active),
            (&[500, 29], Stage::WonBack),
            (&[500, 30], Stage::Active),
        ] {
            assert_eq!(after_orders(days_ago), Some(expected), "{days_ago:?}");
        }
    }

    #[test]
    fn precedence() {
        for (days_ago, expected) in [
            // A new customer is new however often he buys.
            (&[20, 15, 10, 5, 1][..], Stage::New),
            // Won back stays so when he buys again within the thirty days, and goes before loyal.
            (&[400, 25, 20, 1], Stage::WonBack),
            (&[400, 31, 20, 1], Stage::Loyal),
            // Loyal orders do not hide silence.
            (&[120, 110, 100, 95], Stage::AtRisk),
            (&[240, 230, 220, 200], Stage::Dormant),
        ] {
            assert_eq!(after_orders(days_ago), Some(expected), "{days_ago:?}");
        }
    }

    #[test]
    fn days_are_whole() {
        let orders = [NOW - 90 * DAY_MS + 1];
        let person = Person { orders: &orders, first_activity: None, last_activity: None };
        assert_eq!(stage(&person, &BOUNDS, NOW), Some(Stage::Active));
        assert_eq!(stage(&person, &BOUNDS, NOW + 1), Some(Stage::AtRisk));
    }

    #[test]
    fn prospects_are_judged_by_their_activity() {
        assert_eq!(after_activity(10, 3), Some(Stage::New));
        assert_eq!(after_activity(40, 3), Some(Stage::Active));
        assert_eq!(after_activity(200, 100), Some(Stage::AtRisk));
        assert_eq!(after_activity(300, 200), Some(Stage::Dormant));
    }

    #[test]
    fn customers_are_judged_by_their_orders_alone() {
        let orders = [NOW - 200 * DAY_MS];
        let browsing = Person { orders: &orders, first_activity: Some(NOW - 400 * DAY_MS), last_activity: Some(NOW) };
        assert_eq!(stage(&browsing, &BOUNDS, NOW), Some(Stage::Dormant));
        let orders = [NOW - DAY_MS];
        let first_order =
            Person { orders: &orders, first_activity: Some(NOW - 400 * DAY_MS), last_activity: Some(NOW) };
        assert_eq!(stage(&first_order, &BOUNDS, NOW), Some(Stage::New));
    }

    #[test]
    fn nothing_known_is_no_stage() {
        assert_eq!(stage(&Person { orders: &[], first_activity: None, last_activity: None }, &BOUNDS, NOW), None);
    }

    #[test]
    fn an_order_in_the_future_is_of_today() {
        assert_eq!(after_orders(&[-3]), Some(Stage::New));
        assert_eq!(after_orders(&[200, -1]), Some(Stage::WonBack));
    }

    #[test]
    fn bounds_that_contradict_each_other_are_named() {
        assert!(BOUNDS.check().is_ok());
        let wrong = Bounds { at_risk_days: 180, ..BOUNDS };
        assert!(wrong.check().unwrap_err().contains("`at_risk_days` is 180 and `dormant_days` is 180"));
    }
}
