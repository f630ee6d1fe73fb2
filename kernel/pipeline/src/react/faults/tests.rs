//! People who come to a condition's fault and leave it, commits, abandoned passes, restarts and other conditions in any order: the
//! rows, the memory and a naive set say the same.

use kith_model::id::SourceIdentityId;
use kith_store::{Operation, Unit};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::effects::{Progress, operations};
use super::*;
use crate::rows::derived::Cursor;
use crate::tests::laws;

const WORKSPACE: WorkspaceId = WorkspaceId(1);

/// Ordinals in three chunks, on both sides of their bounds.
const ORDINALS: [u32; 6] =
    [0, CHUNK_ORDINALS - 1, CHUNK_ORDINALS, CHUNK_ORDINALS + 1, 2 * CHUNK_ORDINALS - 1, u32::MAX];

/// The profile of an ordinal.
fn profile(ordinal: u32) -> Option<ProfileId> {
    Some(ProfileId(SourceIdentityId(u128::from(ordinal).to_be_bytes())))
}

#[test]
fn a_fault_lasts_while_somebody_is_left_and_shows_one_of_them() {
    let mut set = FaultSet::default();
    assert_eq!(set.present(profile), None);
    set.insert(1, Timestamp(5));
    set.insert(2, Timestamp(9));
    let shown = |people, example| Some(ConditionFault { since: Timestamp(5), people, example: profile(example) });
    assert_eq!(set.present(profile), shown(2, 2));
    set.remove(2);
    assert_eq!(set.present(profile), shown(1, 1), "whoever is evaluated again is no example");
    assert_eq!(set.present(|_| None).map(|fault| fault.example), Some(None));
    set.remove(1);
    assert_eq!(set.present(profile), None);
    set.insert(1, Timestamp(11));
    assert_eq!(set.present(profile).map(|fault| fault.since), Some(Timestamp(11)), "another one begins");
}

/// Where a thousand audiences are edited at once, the rows of all of them were more than a unit holds.
#[test]
fn the_rows_of_many_people_are_deleted_in_parts() {
    let mut faults = Faults::default();
    let (one, other) = ((AudienceId(1), 1), (AudienceId(2), 2));
    let rows = u32::try_from(MAX_DELETED_ROWS).unwrap();
    (0..rows + 5).for_each(|chunk| faults.exhausted(one, chunk * CHUNK_ORDINALS, Timestamp(5)));
    (0..3).for_each(|chunk| faults.exhausted(other, chunk * CHUNK_ORDINALS, Timestamp(5)));
    let write = |faults: &mut Faults, is_current: bool| {
        let mut effects = Vec::new();
        let has_more = faults.effects(|_| is_current, &mut effects);
        faults.committed();
        (effects.len(), has_more)
    };
    let heads = 2;
    assert_eq!(write(&mut faults, true), (MAX_DELETED_ROWS + 5 + 3 + heads, false));
    assert_eq!(write(&mut faults, false), (MAX_DELETED_ROWS, true));
    assert_eq!(write(&mut faults, false), (5 + 3 + heads, false));
    assert_eq!((write(&mut faults, false), faults.is_empty()), ((0, false), true));
    // Those that are current are written whatever is deleted beside them.
    (0..rows + 5).for_each(|chunk| faults.exhausted(one, chunk * CHUNK_ORDINALS, Timestamp(5)));
    write(&mut faults, true);
    faults.exhausted(other, 7, Timestamp(6));
    let mut effects = Vec::new();
    assert!(faults.effects(|key| key == other, &mut effects));
    assert_eq!(effects.len(), MAX_DELETED_ROWS + 2, "a head and a chunk");
}

/// That of a pass that writes nothing else.
fn progress() -> Progress {
    Progress { cursor: Cursor::default(), readiness: None }
}

#[derive(Debug, Clone)]
enum Step {
    Exhausted { audience: usize, ordinal: u32 },
    Passed { audience: usize, ordinal: u32 },
    Leave { ordinal: u32 },
    Commit,
    Abandon,
    Restart,
    Edit { audience: usize },
    Delete { audience: usize },
}

fn arb_step() -> impl Strategy<Value = Step> {
    let (audience, ordinal) = (|| 0..2_usize, || select(&ORDINALS[..]));
    prop_oneof![
        6 => (audience(), ordinal()).prop_map(|(audience, ordinal)| Step::Exhausted { audience, ordinal }),
        4 => (audience(), ordinal()).prop_map(|(audience, ordinal)| Step::Passed { audience, ordinal }),
        1 => ordinal().prop_map(|ordinal| Step::Leave { ordinal }),
        4 => Just(Step::Commit),
        1 => Just(Step::Abandon),
        1 => Just(Step::Restart),
        1 => audience().prop_map(|audience| Step::Edit { audience }),
        1 => audience().prop_map(|audience| Step::Delete { audience }),
    ]
}

/// The people of one condition, without chunks and without copies.
#[derive(Debug, Clone, PartialEq)]
struct Naive {
    since: Timestamp,
    example: u32,
    people: BTreeSet<u32>,
}

type NaiveSets = BTreeMap<FaultKey, Naive>;

fn naive_exhausted(sets: &mut NaiveSets, key: FaultKey, ordinal: u32, now: Timestamp) {
    let set = sets.entry(key).or_insert(Naive { since: now, example: ordinal, people: BTreeSet::new() });
    if set.people.insert(ordinal) {
        set.example = ordinal;
    }
}

fn naive_passed(sets: &mut NaiveSets, key: FaultKey, ordinal: u32) {
    let Some(set) = sets.get_mut(&key) else { return };
    set.people.remove(&ordinal);
    match set.people.last() {
        None => drop(sets.remove(&key)),
        Some(last) if set.example == ordinal => set.example = *last,
        Some(_) => {}
    }
}

struct World {
    store: Box<dyn Store>,
    faults: Faults,
    durable: NaiveSets,
    pass: NaiveSets,
    /// Of each audience, where it is defined.
    tokens: [Option<u64>; 2],
    next_token: u64,
    now: Timestamp,
}

impl World {
    fn new() -> World {
        World {
            store: Box::new(kith_store::memory()),
            faults: Faults::default(),
            durable: NaiveSets::new(),
            pass: NaiveSets::new(),
            tokens: [Some(1), Some(2)],
            next_token: 3,
            now: Timestamp(0),
        }
    }

    fn key(&self, audience: usize) -> Option<FaultKey> {
        Some((AudienceId(u32::try_from(audience).unwrap()), self.tokens[audience]?))
    }

    fn step(&mut self, step: &Step) {
        self.now = self.now.plus_ms(1);
        match *step {
            Step::Exhausted { audience, ordinal } => {
                let Some(key) = self.key(audience) else { return };
                self.faults.exhausted(key, ordinal, self.now);
                naive_exhausted(&mut self.pass, key, ordinal, self.now);
            }
            Step::Passed { audience, ordinal } => {
                let Some(key) = self.key(audience) else { return };
                self.faults.passed(key, ordinal);
                naive_passed(&mut self.pass, key, ordinal);
            }
            Step::Leave { ordinal } => {
                self.faults.leave(ordinal);
                let keys: Vec<FaultKey> = self.pass.keys().copied().collect();
                keys.into_iter().for_each(|key| naive_passed(&mut self.pass, key, ordinal));
            }
            Step::Commit => self.commit(),
            Step::Abandon => self.abandon(),
            Step::Restart => {
                self.abandon();
                self.faults = Faults::read(self.store.as_ref(), WORKSPACE).unwrap();
            }
            // Another plan is taken over between two passes.
            Step::Edit { audience } => {
                self.abandon();
                self.tokens[audience] = Some(self.next_token);
                self.next_token += 1;
            }
            Step::Delete { audience } => {
                self.abandon();
                self.tokens[audience] = None;
            }
        }
    }

    fn abandon(&mut self) {
        self.faults.abandon();
        self.pass.clone_from(&self.durable);
    }

    fn commit(&mut self) {
        let current: Vec<FaultKey> = (0..2).filter_map(|audience| self.key(audience)).collect();
        let mut effects = Vec::new();
        self.faults.effects(|key| current.contains(&key), &mut effects);
        let mut written = operations(WORKSPACE, effects, &progress());
        written.retain(|operation| match operation {
            Operation::Put(key, _) | Operation::Delete(key) => key.as_fault().is_some(),
            _ => false,
        });
        for operation in &written {
            let held = |key: &Key| self.store.get(std::slice::from_ref(key)).unwrap().pop().flatten();
            let is_needed = match operation {
                Operation::Put(key, row) => held(key).is_none_or(|held| *held != **row),
                Operation::Delete(key) => held(key).is_some(),
                _ => false,
            };
            assert!(is_needed, "{operation:?} changes nothing");
        }
        self.store.commit(Unit { operations: written, ..Unit::default() }).unwrap();
        if let Some(shown) = self.faults.committed() {
            assert_eq!(shown, *self.faults.durable());
        }
        self.pass.retain(|key, _| current.contains(key));
        self.durable.clone_from(&self.pass);
    }

    fn check(&self) {
        let read = Faults::read(self.store.as_ref(), WORKSPACE).unwrap();
        assert_eq!(read.durable(), self.faults.durable());
        let shown = |set: &Naive| ConditionFault {
            since: set.since,
            people: set.people.len() as u64,
            example: profile(set.example),
        };
        let expected: Vec<_> = self.durable.iter().map(|(key, set)| (*key, Some(shown(set)))).collect();
        let found: Vec<_> = read.durable().iter().map(|(key, set)| (*key, set.present(profile))).collect();
        assert_eq!(found, expected);
        for (key, ordinal) in self.pass.keys().flat_map(|key| ORDINALS.map(|ordinal| (*key, ordinal))) {
            assert_eq!(self.faults.contains(key, ordinal), self.pass[&key].people.contains(&ordinal));
        }
        let mut rows = 0;
        each_row(self.store.as_ref(), &Key::faults(WORKSPACE), |_, _| {
            rows += 1;
            Ok(())
        })
        .unwrap();
        let chunks =
            |set: &Naive| set.people.iter().map(|ordinal| ordinal / CHUNK_ORDINALS).collect::<BTreeSet<_>>().len();
        assert_eq!(rows, self.durable.values().map(|set| 1 + chunks(set)).sum::<usize>());
    }
}

proptest! {
    #![proptest_config(laws(256))]

    #[test]
    fn rows_and_memory_say_what_a_naive_set_says(steps in proptest::collection::vec(arb_step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // What was changed last is durable, too.
        world.commit();
        world.check();
    }
}
