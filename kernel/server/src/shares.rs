//! A budget for each of many owners, addresses or keys, so that one of them cannot take what is there for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use kith_model::budget::{Budget, Exhausted, Permit, Permits};
use parking_lot::Mutex;

/// The budget of each owner that holds something of it; nothing is kept of the others.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    budget: &'static Budget,
    limit: u64,
    owners: Arc<Mutex<HashMap<K, Arc<Permits>>>>,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Shares<K> {
        Shares { budget: self.budget, limit: self.limit, owners: Arc::clone(&self.owners) }
    }
}

/// What an owner holds of its budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash> {
    shares: Shares<K>,
    owner: K,
    /// Present until it is dropped.
    permit: Option<Permit>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(crate) fn new(budget: &'static Budget, limit: u64) -> Shares<K> {
        Shares { budget, limit, owners: Arc::default() }
    }

    /// Take `amount` of the owner's budget.
    ///
    /// # Errors
    /// [`Exhausted`] where the owner holds too much already.
    pub(crate) fn take(&self, owner: K, amount: u64) -> Result<Share<K>, Exhausted> {
        let mut owners = self.owners.lock();
        let permits = owners.entry(owner.clone()).or_insert_with(|| Permits::new(self.budget, self.limit));
        let taken = permits.take(amount);
        if taken.is_err() && Arc::strong_count(permits) == 1 {
            owners.remove(&owner);
        }
        Ok(Share { shares: self.clone(), owner, permit: Some(taken?) })
    }
}

impl<K: Eq + Hash> Share<K> {
    /// What the owner holds in all.
    pub(crate) fn held(&self) -> u64 {
        self.permit.as_ref().map_or(0, Permit::held_by_all)
    }

    /// Take more, given back with the rest.
    pub(crate) fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        // Present until it is dropped, so that there is always something to grow.
        self.permit.as_mut().map_or(Ok(()), |permit| permit.grow(more))
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        // Under the lock, or an owner who takes again meanwhile would have two budgets. Each permit holds its owner's permits,
        // so that the one reference of the table means that nobody has any of them.
        let mut owners = self.shares.owners.lock();
        drop(self.permit.take());
        if owners.get(&self.owner).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            owners.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_model::budget::table;

    use super::*;

    #[test]
    fn an_owner_has_so_much_and_leaves_the_others_theirs() {
        let shares = Shares::new(&table::PEER_CONNECTIONS, 2);
        let held = [shares.take("ada", 1), shares.take("ada", 1)];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(shares.take("ada", 1).unwrap_err().budget.name, "peer-connections");
        assert!(shares.take("bob", 1).is_ok());
        assert!(shares.take("eve", 3).is_err());
        assert_eq!(shares.owners.lock().len(), 1, "nothing is kept of who holds nothing");
        drop(held);
        assert!(shares.owners.lock().is_empty());
    }

    #[test]
    fn a_share_that_grew_comes_back_whole() {
        let shares = Shares::new(&table::CREDENTIAL_MEMORY, 10);
        let mut share = shares.take("ada", 0).unwrap();
        share.grow(6).unwrap();
        assert!(share.grow(5).unwrap_err().retry_after.is_none(), "it alone would pass the limit");
        let other = shares.take("ada", 4).unwrap();
        assert!(shares.take("ada", 1).unwrap_err().retry_after.is_some());
        drop((share, other));
        assert!(shares.owners.lock().is_empty());
        assert!(shares.take("ada", 10).is_ok());
    }
}
