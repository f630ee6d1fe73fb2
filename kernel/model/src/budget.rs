//! Budgets: what somebody else chooses the size of, and how much of it they get.
//!
//! A [`Budget`] is an entry of one table ([`table::ALL`]): what is counted, whose it is, the default, and where it is set.
//! Work asks for its share before it begins, from [`Permits`] where the share comes back when the work ends, or from an
//! [`Allowance`] where it comes back with time. A refusal is always the same [`Exhausted`]: it says which budget of whom
//! ended and when to come back, and counts itself in `kith_budget_exhausted_total`.

pub mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Timestamp;

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetUnit {
    /// Held, read, written or produced.
    Bytes,
    /// Of an evaluation.
    Steps,
    /// Milliseconds of a processor.
    ProcessorMs,
    /// Milliseconds on the wall.
    WallMs,
    /// Under way at the same time.
    AtOnce,
    /// Kept until something removes them.
    Kept,
    /// In one request, call or value.
    Items,
}

impl BudgetUnit {
    /// The unit in a sentence, after a number.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetUnit::Bytes => "bytes",
            BudgetUnit::Steps => "steps",
            BudgetUnit::ProcessorMs => "ms of processor time",
            BudgetUnit::WallMs => "ms",
            BudgetUnit::AtOnce => "at once",
            BudgetUnit::Kept => "kept",
            BudgetUnit::Items => "items",
        }
    }
}

/// Who has a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetOwner {
    /// The whole process.
    Host,
    Workspace,
    Installation,
    /// A key of the API.
    Credential,
    /// An address that connections come from.
    Peer,
    /// One request.
    Request,
    /// One call of a plugin.
    Call,
    /// One evaluation of an expression.
    Evaluation,
}

impl BudgetOwner {
    /// The owner in a sentence, with its article.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetOwner::Host => "the server",
            BudgetOwner::Workspace => "the workspace",
            BudgetOwner::Installation => "the installation",
            BudgetOwner::Credential => "the key",
            BudgetOwner::Peer => "the address",
            BudgetOwner::Request => "a request",
            BudgetOwner::Call => "a call",
            BudgetOwner::Evaluation => "an evaluation",
        }
    }
}

/// One budget: an entry of the table in `SECURITY.md`.
#[derive(Debug, PartialEq, Eq)]
pub struct Budget {
    /// Stable: in answers, as a metric's label and in `SECURITY.md`.
    pub name: &'static str,
    pub owner: BudgetOwner,
    pub unit: BudgetUnit,
    /// In the unit.
    pub default: u64,
    /// Over which time the default is spent; `None` where what was taken comes back when the work ends.
    pub period: Option<Duration>,
    /// Where an operator or an admin sets it: a flag of `kith serve`, a field of a grant; `fixed` where nobody does.
    pub setting: &'static str,
}

impl Budget {
    /// The refusal of what would pass `limit`. To be made where the refusal is given, for it is counted here.
    pub fn exhausted(&'static self, limit: u64, retry_after: Option<Duration>) -> Exhausted {
        self.count();
        Exhausted { budget: self, limit, retry_after }
    }

    /// Count a refusal that is given in words of its own: a fault of a plugin, a mistake with its place, a connection's end.
    pub fn count(&self) {
        metrics::counter!("kith_budget_exhausted_total", "budget" => self.name).increment(1);
    }
}

/// A budget ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub budget: &'static Budget,
    /// The limit that held, in the budget's unit.
    pub limit: u64,
    /// When it may go better; `None` where the same thing is refused again whenever it comes.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { name, owner, unit, period, .. } = self.budget;
        write!(f, "{} has used up the budget `{name}`: {} {}", owner.as_str(), self.limit, unit.as_str())?;
        match period {
            Some(period) if period.as_secs() == 3_600 => f.write_str(" an hour")?,
            Some(period) => write!(f, " in {} s", period.as_secs())?,
            None => {}
        }
        match self.retry_after {
            Some(wait) => write!(f, "; try again in {} s", wait.as_secs().max(1)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Exhausted {}

/// A number of units that work under way holds and gives back.
#[derive(Debug)]
pub struct Permits {
    budget: &'static Budget,
    limit: u64,
    held: AtomicU64,
}

impl Permits {
    /// How long a caller is told to wait: what is held comes back when others end, which nobody can foresee.
    const WAIT: Duration = Duration::from_secs(1);

    pub fn new(budget: &'static Budget, limit: u64) -> Arc<Permits> {
        Arc::new(Permits { budget, limit, held: AtomicU64::new(0) })
    }

    /// Take `amount`, given back when the permit is dropped.
    ///
    /// # Errors
    /// [`Exhausted`] where less is left; for good where `amount` passes the limit itself.
    pub fn take(self: &Arc<Permits>, amount: u64) -> Result<Permit, Exhausted> {
        if amount > self.limit {
            return Err(self.budget.exhausted(self.limit, None));
        }
        let room = |held: u64| held.checked_add(amount).filter(|sum| *sum <= self.limit);
        match self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(_) => Ok(Permit { permits: Arc::clone(self), amount }),
            Err(_) => Err(self.budget.exhausted(self.limit, Some(Permits::WAIT))),
        }
    }

    /// What is held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// The limit that holds.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// A share of a budget, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    amount: u64,
}

impl Permit {
    /// Take `more`, given back with the rest.
    ///
    /// # Errors
    /// As [`Permits::take`]; what is held stays held.
    pub fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        let permits = Arc::clone(&self.permits);
        if self.amount.saturating_add(more) > permits.limit {
            return Err(permits.budget.exhausted(permits.limit, None));
        }
        let mut taken = permits.take(more)?;
        self.amount += std::mem::take(&mut taken.amount);
        Ok(())
    }

    /// How much is held of the same permits, this one included.
    pub fn held_by_all(&self) -> u64 {
        self.permits.held()
    }

    /// How much it holds.
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.permits.held.fetch_sub(self.amount, Ordering::AcqRel);
        debug_assert!(before >= self.amount, "a permit gives back what it took");
    }
}

/// What may be spent over a period: it comes back evenly with time, a whole period's worth at most.
#[derive(Debug, Clone)]
pub struct Allowance {
    budget: &'static Budget,
    limit: u64,
    period: Duration,
    /// Units spent and not yet back, as of `as_of`.
    spent: u64,
    as_of: Timestamp,
}

impl Allowance {
    /// The whole limit is there at once. `period` holds where the budget names none.
    pub fn new(budget: &'static Budget, limit: u64, now: Timestamp) -> Allowance {
        let period = budget.period.unwrap_or(Duration::from_secs(3_600));
        Allowance { budget, limit, period, spent: 0, as_of: now }
    }

    /// Spend `amount`, or nothing.
    ///
    /// # Errors
    /// [`Exhausted`], with the time until there is enough; for good where `amount` passes the limit itself.
    pub fn spend(&mut self, amount: u64, now: Timestamp) -> Result<(), Exhausted> {
        self.refill(now);
        if amount > self.limit {
            return Err(self.budget.exhausted(self.limit, None));
        }
        let missing = (self.spent + amount).saturating_sub(self.limit);
        if missing > 0 {
            let wait = self.period.as_millis() * u128::from(missing) / u128::from(self.limit) + 1;
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX));
            return Err(self.budget.exhausted(self.limit, Some(wait)));
        }
        self.spent += amount;
        Ok(())
    }

    /// Spend `amount` that is spent already, though it may be more than is left: whoever asks next waits for it.
    pub fn charge(&mut self, amount: u64, now: Timestamp) {
        self.refill(now);
        self.spent = self.spent.saturating_add(amount);
    }

    /// Whether anything is left.
    ///
    /// # Errors
    /// [`Exhausted`], with the time until something is.
    pub fn check(&mut self, now: Timestamp) -> Result<(), Exhausted> {
        self.wait(now).map_or(Ok(()), |wait| Err(self.budget.exhausted(self.limit, Some(wait))))
    }

    /// The time until something is left, where nothing is; for whoever waits for it and is not refused.
    pub fn wait(&mut self, now: Timestamp) -> Option<Duration> {
        self.refill(now);
        let beyond = u128::from(self.spent.checked_sub(self.limit)?);
        let wait = self.period.as_millis() * beyond / u128::from(self.limit.max(1)) + 1;
        Some(Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// What is spent and not yet back.
    pub fn spent(&mut self, now: Timestamp) -> u64 {
        self.refill(now);
        self.spent
    }

    /// Whether nothing is spent, so that an entry of a table of allowances can go.
    pub fn is_full(&mut self, now: Timestamp) -> bool {
        self.spent(now) == 0
    }

    fn refill(&mut self, now: Timestamp) {
        let passed = u128::try_from(now.0.saturating_sub(self.as_of.0)).unwrap_or(0);
        let back = passed * u128::from(self.limit) / self.period.as_millis().max(1);
        // Time that brings no whole unit yet is kept, or many small looks would bring nothing.
        if back > 0 {
            self.spent = self.spent.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX));
            self.as_of = now;
        } else if now < self.as_of {
            self.as_of = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static AT_ONCE: Budget = Budget {
        name: "test-at-once",
        owner: BudgetOwner::Workspace,
        unit: BudgetUnit::AtOnce,
        default: 2,
        period: None,
        setting: "fixed",
    };
    static HOURLY: Budget = Budget {
        name: "test-hourly",
        owner: BudgetOwner::Installation,
        unit: BudgetUnit::Bytes,
        default: 3_600,
        period: Some(Duration::from_secs(3_600)),
        setting: "fixed",
    };

    #[test]
    fn permits_come_back_and_a_refusal_says_whose_budget_ended() {
        let permits = Permits::new(&AT_ONCE, 2);
        let first = permits.take(1).unwrap();
        let _second = permits.take(1).unwrap();
        let refused = permits.take(1).unwrap_err();
        let said = "the workspace has used up the budget `test-at-once`: 2 at once; try again in 1 s";
        assert_eq!(refused.to_string(), said);
        drop(first);
        assert!(permits.take(1).is_ok());
        assert_eq!(permits.take(3).unwrap_err().retry_after, None, "it can never be given");
        assert_eq!(permits.held(), 1);
        let mut growing = permits.take(0).unwrap();
        growing.grow(1).unwrap();
        assert_eq!((growing.amount(), permits.held()), (1, 2));
        assert!(growing.grow(1).unwrap_err().retry_after.is_some());
        assert_eq!(growing.grow(2).unwrap_err().retry_after, None);
        drop(growing);
        assert_eq!(permits.held(), 1, "all of it comes back");
    }

    #[test]
    fn an_allowance_comes_back_with_time() {
        let second = |seconds: i64| Timestamp(seconds * 1_000);
        let mut allowance = Allowance::new(&HOURLY, 3_600, second(0));
        assert!(allowance.spend(3_600, second(0)).is_ok());
        let refused = allowance.spend(60, second(0)).unwrap_err();
        assert_eq!(refused.retry_after.map(|wait| wait.as_secs()), Some(60));
        assert!(refused.to_string().contains("3600 bytes an hour"), "{refused}");
        assert!(allowance.spend(60, second(60)).is_ok());
        assert!(allowance.spend(1, second(60)).is_err());
        for tenth in 0..20 {
            let _ = allowance.is_full(Timestamp(60_000 + tenth * 100));
        }
        assert!(allowance.spend(1, Timestamp(61_900)).is_ok(), "small looks lose nothing");
        assert!(allowance.is_full(second(10_000)));
        assert_eq!(allowance.spend(4_000, second(10_000)).unwrap_err().retry_after, None);
    }

    #[test]
    fn a_clock_set_back_stops_no_allowance() {
        let mut allowance = Allowance::new(&HOURLY, 3_600, Timestamp(10_000_000));
        allowance.spend(3_600, Timestamp(10_000_000)).unwrap();
        assert!(allowance.spend(1, Timestamp(0)).is_err());
        assert!(allowance.spend(1, Timestamp(2_000)).is_ok());
    }

    #[test]
    fn each_budget_of_the_table_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = table::ALL.iter().map(|budget| budget.name).collect();
        assert_eq!(names.len(), table::ALL.len());
        for budget in table::ALL {
            assert!(budget.default > 0 && !budget.setting.is_empty(), "{}", budget.name);
            assert!(budget.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", budget.name);
        }
    }
}
