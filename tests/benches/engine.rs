//! The store alone: units of 100 events as ingest makes them, without HTTP, plugins or identities.

use std::time::{Duration, Instant};

use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{EngineKind, Key, Operation, Store, StoreConfig, Unit};
use kith_tests::Random;

const EVENT_BYTES: usize = 420;
const RUN: Duration = Duration::from_secs(8);
const PEOPLE: u64 = 100_000;

fn unit(random: &mut Random) -> Unit {
    let mut operations = Vec::with_capacity(200);
    for _ in 0..100 {
        let identity = SourceIdentityId::new(0, u128::from(random.below(PEOPLE)) << 64);
        let row = Key::event(WorkspaceId(1), identity, Timestamp(random.below(1 << 40).cast_signed()));
        let record = vec![7; EVENT_BYTES];
        operations.push(Operation::Append { workspace: WorkspaceId(1), record, row: Some(row) });
        let seen = Key::dedupe(WorkspaceId(1), 1, InstallationId(1), u128::from(random.bits()));
        operations.push(Operation::Put(seen, vec![0; 8]));
    }
    Unit { operations, ..Unit::default() }
}

/// Events a second that sled behind the journal takes, its applier caught up.
pub(crate) fn run() -> f64 {
    println!("\nstore alone, units of 100 events of {EVENT_BYTES} bytes, one committer, engine caught up at the end");
    let mut sled = 0.0;
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let folder = tempfile::tempdir().unwrap();
        let store = kith_store::open(StoreConfig { engine, ..StoreConfig::new(folder.path()) }).unwrap();
        let mut random = Random::new(3);
        let begun = Instant::now();
        let mut events = 0;
        while begun.elapsed() < RUN {
            store.commit(unit(&mut random)).unwrap();
            events += 100;
        }
        let acknowledged = begun.elapsed();
        store.settle();
        let rate = f64::from(events) / begun.elapsed().as_secs_f64();
        println!(
            "  {engine:?}: {:>8.0} events/s acknowledged, {rate:>8.0} events/s applied",
            f64::from(events) / acknowledged.as_secs_f64()
        );
        if matches!(engine, EngineKind::Sled) {
            sled = rate;
        }
    }
    sled
}
