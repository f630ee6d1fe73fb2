//! Days come, go and stay bounded, whatever clocks do; the counts against a naive recount are in `unit/tests/counted.rs`.

use kith_store::{Unit, memory};
use proptest::prelude::*;

use super::*;

const WORKSPACE: WorkspaceId = WorkspaceId(1);
const SOURCE: InstallationId = InstallationId(7);

fn brought(accepted: u64) -> SourceCounts {
    SourceCounts { accepted, ..SourceCounts::default() }
}

fn stored(store: &Arc<dyn Store>) -> SourceDays {
    read_days(store.as_ref(), WORKSPACE, SOURCE).unwrap()
}

proptest! {
    /// Whatever the order of days, the crashes and the groups: the sum is all, each day that is kept is whole, and what is kept
    /// is bounded and the newest.
    #[test]
    fn days_are_whole_bounded_and_sum_up(
        steps in prop::collection::vec((prop_oneof![4 => 100_i32..300, 1 => 9_000_i32..9_010], 1_u64..5, 0_u8..4), 1..250),
    ) {
        let store: Arc<dyn Store> = Arc::new(memory());
        let mut quality = Quality::new(Arc::clone(&store), WORKSPACE);
        let (mut units, mut all) = (Vec::new(), 0);
        let mut naive: BTreeMap<i32, u64> = BTreeMap::new();
        let mut pending: Vec<(i32, u64)> = Vec::new();
        for (day, accepted, end) in steps {
            let mut operations = Vec::new();
            quality.write(SOURCE, day, &brought(accepted), &mut operations).unwrap();
            if end == 3 {
                quality.forget_unit();
                continue;
            }
            quality.keep_unit();
            pending.push((day, accepted));
            units.push(Unit { operations, ..Unit::default() });
            match end {
                // The group goes on.
                0 => {}
                1 => {
                    for unit in units.drain(..) {
                        store.commit(unit).unwrap();
                    }
                    quality.committed();
                    for (day, accepted) in pending.drain(..) {
                        *naive.entry(day).or_default() += accepted;
                        all += accepted;
                    }
                }
                // The process dies, and nothing of the group is there.
                _ => {
                    units.clear();
                    pending.clear();
                    quality.committed_in_part();
                    if day % 2 == 0 {
                        quality = Quality::new(Arc::clone(&store), WORKSPACE);
                    }
                }
            }
        }
        let stored = stored(&store);
        let kept: u64 = stored.days.values().map(|counts| counts.accepted).sum();
        prop_assert_eq!(kept + stored.older.accepted, all);
        prop_assert!(stored.days.len() <= KEPT_DAYS);
        if naive.len() <= KEPT_DAYS {
            let days: BTreeMap<i32, u64> = stored.days.iter().map(|(day, counts)| (*day, counts.accepted)).collect();
            prop_assert_eq!(days, naive);
        }
    }
}

#[test]
fn the_day_under_way_stays_also_behind_a_clock_that_was_ahead() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut quality = Quality::new(Arc::clone(&store), WORKSPACE);
    let ahead = i32::try_from(KEPT_DAYS).unwrap();
    for day in (1_000..1_000 + ahead).chain([10]) {
        let mut operations = Vec::new();
        quality.write(SOURCE, day, &brought(1), &mut operations).unwrap();
        quality.keep_unit();
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        quality.committed();
    }
    let stored = stored(&store);
    assert_eq!(
        (stored.days.len(), stored.older.accepted),
        (KEPT_DAYS, 1),
        "a day before all that are kept is one of the older"
    );
}

#[test]
fn reasons_of_plugins_are_bounded_and_displace_none_of_the_kernel() {
    let mut counts = SourceCounts::default();
    for reason in 0..1_000 {
        counts.reject(&format!("my-{reason}-{}", "x".repeat(reason)));
    }
    counts.reject("missing-identifier");
    counts.reject("plan-violation");
    assert_eq!(counts.rejected_count(), 1_002);
    assert_eq!(counts.rejected[flag::OTHER], 1_000 - MAX_OWN_REASONS as u64);
    assert_eq!((counts.rejected["missing-identifier"], counts.rejected["plan-violation"]), (1, 1));
    assert!(counts.rejected.keys().all(|code| code.len() <= MAX_REASON_BYTES));
    let mut sum = SourceCounts::default();
    sum.add(&counts);
    sum.add(&counts);
    assert_eq!((sum.rejected_count(), sum.rejected.len()), (2_004, counts.rejected.len()));
}
