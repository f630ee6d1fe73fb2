//! How far a change of rules has come, as versions 1 and 2 have it: in the first a replay followed the log to wherever it ended, and
//! in neither was anybody's turn put off.

use std::collections::BTreeSet;

use kith_model::id::{Position, SourceIdentityId};
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

use super::ReweighTotals;

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct AppliedRules {
    digest: [u8; 16],
    phase: Phase,
    looks_at_events: bool,
    looked: ReweighTotals,
}

/// Version 2.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct WithoutPutOff {
    digest: [u8; 16],
    phase: super::Phase,
    looks_at_events: bool,
    looked: ReweighTotals,
}

impl From<WithoutPutOff> for super::AppliedRules {
    fn from(before: WithoutPutOff) -> super::AppliedRules {
        let WithoutPutOff { digest, phase, looks_at_events, looked } = before;
        super::AppliedRules { digest, phase, looks_at_events, looked, put_off: BTreeSet::new() }
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
enum Phase {
    Done,
    Few(Vec<SourceIdentityId>),
    Weigh(Vec<u8>),
    Replay(Position),
    Settle(Vec<u8>),
}

impl From<AppliedRules> for super::AppliedRules {
    fn from(before: AppliedRules) -> super::AppliedRules {
        let AppliedRules { digest, phase, looks_at_events, looked } = before;
        super::AppliedRules { digest, phase: phase.into(), looks_at_events, looked, put_off: BTreeSet::new() }
    }
}

impl From<Phase> for super::Phase {
    fn from(before: Phase) -> super::Phase {
        match before {
            Phase::Done => super::Phase::Done,
            Phase::Few(few) => super::Phase::Few(few),
            Phase::Weigh(from) => super::Phase::Weigh(from),
            Phase::Replay(after) => super::Phase::Replay { after, until: Position(u64::MAX) },
            Phase::Settle(from) => super::Phase::Settle(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_store::row;

    use super::*;

    #[test]
    fn a_change_that_a_release_before_began_goes_on() {
        let phases = [Phase::Done, Phase::Replay(Position(7)), Phase::Settle(vec![3])];
        let read = phases.map(|phase| {
            let before =
                AppliedRules { digest: [1; 16], phase, looks_at_events: true, looked: ReweighTotals::default() };
            let mut bytes = vec![1];
            row::write_postcard(&before, &mut bytes);
            row::decode::<super::super::AppliedRules>(&bytes).unwrap().phase
        });
        let of_two = WithoutPutOff {
            digest: [1; 16],
            phase: super::super::Phase::Settle(vec![5]),
            looks_at_events: false,
            looked: ReweighTotals::default(),
        };
        let mut bytes = vec![2];
        row::write_postcard(&of_two, &mut bytes);
        let of_two = row::decode::<super::super::AppliedRules>(&bytes).unwrap();
        assert_eq!((of_two.phase, of_two.put_off.len()), (super::super::Phase::Settle(vec![5]), 0));
        let replay = super::super::Phase::Replay { after: Position(7), until: Position(u64::MAX) };
        assert_eq!(read, [super::super::Phase::Done, replay, super::super::Phase::Settle(vec![3])]);
    }
}
