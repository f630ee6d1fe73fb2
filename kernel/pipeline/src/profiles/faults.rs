//! The people for whom a condition passes the budget of one evaluation. They are unknown to the audience and stay where they
//! are; whoever looks at the audience sees how many they are and since when.

use kith_model::id::ProfileId;
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use crate::views::ConditionFault;

/// Of one condition.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    since: Timestamp,
    /// By ordinal; never empty.
    people: RoaringBitmap,
    example: ProfileId,
}

impl Faults {
    /// The condition passed its budget for somebody.
    pub(crate) fn exhausted(&self, ordinal: u32, profile: ProfileId, now: Timestamp) {
        let mut state = self.0.lock();
        let state = state.get_or_insert_with(|| State { since: now, people: RoaringBitmap::new(), example: profile });
        state.people.insert(ordinal);
        state.example = profile;
    }

    /// The condition was evaluated for somebody.
    pub(crate) fn passed(&self, ordinal: u32) {
        let mut state = self.0.lock();
        if let Some(faults) = state.as_mut()
            && faults.people.remove(ordinal)
            && faults.people.is_empty()
        {
            *state = None;
        }
    }

    /// What is to be said of it now.
    pub(crate) fn present(&self) -> Option<ConditionFault> {
        let state = self.0.lock();
        let state = state.as_ref()?;
        Some(ConditionFault { since: state.since, people: state.people.len(), example: state.example })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_while_somebody_is_left() {
        let profile: ProfileId = "0190000000007000800000000000abcd".parse().unwrap();
        let faults = Faults::default();
        faults.exhausted(1, profile, Timestamp(5));
        faults.exhausted(2, profile, Timestamp(9));
        faults.exhausted(2, profile, Timestamp(9));
        assert_eq!(faults.present(), Some(ConditionFault { since: Timestamp(5), people: 2, example: profile }));
        faults.passed(1);
        assert_eq!(faults.present().map(|fault| fault.people), Some(1));
        faults.passed(2);
        assert_eq!(faults.present(), None);
    }
}
