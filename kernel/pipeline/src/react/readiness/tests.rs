//! Definitions that come and go, first computations in slices, events and restarts in any order: what is called complete holds
//! each event once.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::row;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::setup::{Undo, Undone};
use crate::tests::harness::{audience, setup_of};

/// Leaves that there are to choose from.
const LEAVES: u32 = 3;

/// A plan with the leaves whose bits are set.
fn plan(chosen: u8) -> Plan {
    let wanted = (0..LEAVES).filter(|number| chosen & (1 << number) != 0);
    let condition = |number: u32| audience(number + 1, &format!("events('event {number}').size() > 1"), None);
    Plan::new(&setup_of(wanted.map(condition).collect())).unwrap()
}

fn leaves(plan: &Plan) -> LeafSet {
    plan.program.leaves().map(|leaf| leaf.id()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Configure(u8),
    /// A slice of so many people, the last of them perhaps cut behind one event.
    Slice {
        people: usize,
        is_cut: bool,
    },
    Event {
        person: u8,
        moment: u8,
    },
    Restart,
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..1_u8 << LEAVES).prop_map(Step::Configure),
        4 => (1..3_usize, any::<bool>()).prop_map(|(people, is_cut)| Step::Slice { people, is_cut }),
        4 => (0..5_u8, 0..4_u8).prop_map(|(person, moment)| Step::Event { person, moment }),
        1 => Just(Step::Restart),
    ]
}

/// How often a leaf of a person has taken each event.
type Taken = BTreeMap<Vec<u8>, usize>;

/// A workspace without its rows: whose events there are, and what the leaves have taken of them.
struct World {
    plan: Plan,
    readiness: Readiness,
    events: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    taken: BTreeMap<(LeafId, Vec<u8>), Taken>,
    count: u8,
}

impl World {
    fn new() -> World {
        let plan = plan(0);
        let readiness = Readiness::default().under(&plan);
        World { plan, readiness, events: BTreeMap::new(), taken: BTreeMap::new(), count: 0 }
    }

    fn take(&mut self, leaf: LeafId, person: &[u8], event: &[u8]) {
        *self.taken.entry((leaf, person.to_vec())).or_default().entry(event.to_vec()).or_default() += 1;
    }

    fn event(&mut self, person: u8, moment: u8) {
        // Events of one moment follow each other as they came.
        self.count += 1;
        let (person, event) = (vec![person], vec![moment, self.count]);
        for leaf in leaves(&self.plan) {
            if self.readiness.takes(leaf, &person, &event) {
                self.take(leaf, &person, &event);
            }
        }
        self.events.entry(person).or_default().insert(event);
    }

    /// As the reactor's walk over histories does it.
    fn slice(&mut self, people: usize, is_cut: bool) {
        match self.readiness.work() {
            Work::Nothing => {}
            Work::Sweep => self.readiness = std::mem::take(&mut self.readiness).swept(None),
            Work::Backfill => {
                let Walk { wanted, next } = self.readiness.backfills[0].clone();
                let (first, mut resume) = match next {
                    Place::Start => (Vec::new(), None),
                    Place::At { person, events } => (person, events),
                };
                let known: Vec<Vec<u8>> = self.events.keys().filter(|person| **person >= first).cloned().collect();
                let mut place = known.get(people).map(|next| Place::At { person: next.clone(), events: None });
                for (index, person) in known.iter().take(people).enumerate() {
                    let from = resume.take();
                    if from.is_none() {
                        wanted.iter().for_each(|leaf| drop(self.taken.remove(&(*leaf, person.clone()))));
                    }
                    let from = from.unwrap_or_default();
                    let mut events: Vec<Vec<u8>> = self.events[person].range(from..).cloned().collect();
                    let is_last = index + 1 == people.min(known.len());
                    if is_cut && is_last && events.len() > 1 {
                        place = Some(Place::At { person: person.clone(), events: Some(events[1].clone()) });
                        events.truncate(1);
                    }
                    for event in events {
                        wanted.iter().for_each(|leaf| self.take(*leaf, person, &event));
                    }
                }
                self.readiness = std::mem::take(&mut self.readiness).backfilled(place);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Configure(chosen) => {
                self.plan = plan(*chosen);
                self.readiness = std::mem::take(&mut self.readiness).under(&self.plan);
            }
            Step::Slice { people, is_cut } => self.slice(*people, *is_cut),
            Step::Event { person, moment } => self.event(*person, *moment),
            Step::Restart => {
                let stored: Readiness = row::decode(&row::encode(&self.readiness)).unwrap();
                self.readiness = stored.under(&self.plan);
            }
        }
    }

    /// What is called complete has taken each event of everybody, and none twice.
    fn check(&self) {
        let wanted = leaves(&self.plan);
        for leaf in self.readiness.complete.iter() {
            assert!(wanted.contains(leaf), "what nobody wants is not complete");
            for (person, events) in &self.events {
                let taken = self.taken.get(&(leaf, person.clone())).cloned().unwrap_or_default();
                assert!(taken.values().all(|times| *times == 1), "an event twice: {taken:?}");
                assert!(taken.keys().eq(events), "of {events:?} of {person:?} there are {taken:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(Config::with_cases(400))]

    #[test]
    fn what_is_called_complete_holds_each_event_once(steps in proptest::collection::vec(arb_step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        while world.readiness.work() != Work::Nothing {
            world.slice(2, false);
            world.check();
        }
        prop_assert_eq!(&world.readiness.complete, &leaves(&world.plan));
    }
}

/// Each change of a setup, whatever it concerned, began a first computation from the start again.
#[test]
fn a_change_keeps_the_progress_of_what_it_does_not_concern() {
    let at = |person: u8| Some(Place::At { person: vec![person], events: None });
    let under_way = Readiness::default().under(&plan(0b001)).backfilled(at(7));
    let with_another = under_way.under(&plan(0b011));
    assert_eq!(
        with_another.backfills.iter().map(|walk| Some(walk.next.clone())).collect::<Vec<_>>(),
        [at(7), Some(Place::Start)]
    );
    let without_it = with_another.under(&plan(0b001));
    assert_eq!(without_it.backfills.iter().map(|walk| Some(walk.next.clone())).collect::<Vec<_>>(), [at(7)]);
}

/// A condition that was changed and changed back while the other one was computed counted as ready, without the events that had
/// come meanwhile.
#[test]
fn what_was_not_kept_up_for_a_while_begins_from_nothing() {
    let first = plan(0b001);
    let ready = Readiness::default().under(&first).backfilled(None);
    assert_eq!(ready.complete, leaves(&first));
    let changed = ready.under(&plan(0b010));
    assert!(changed.complete.is_empty(), "from the first commit under the other plan on");
    let back: Readiness = row::decode::<Readiness>(&row::encode(&changed)).unwrap().under(&first);
    assert!(back.complete.is_empty());
    assert_eq!(
        (back.backfills[0].wanted.clone(), back.backfills[0].next.clone()),
        (leaves(&first).into_iter().collect(), Place::Start)
    );
}

/// What is taken back comes in a walk of its own, since its cause is another, and once; nothing that begins later joins it.
#[test]
fn an_undo_is_walked_alone_and_once() {
    let with = |chosen: u8, number: u32| {
        let mut plan = plan(chosen);
        plan.undos.push(Undo { number, installation: InstallationId(9), digest: "ab".into(), of: Undone::Values });
        plan
    };
    let mut readiness = Readiness::default().under(&with(1, 7)).under(&with(3, 7));
    let alone = |walk: &Walk<Task>| walk.wanted.len() == 1 || !walk.wanted.iter().any(is_undo);
    assert!(readiness.sweeps.len() == 3 && readiness.sweeps.iter().all(alone), "{:?}", readiness.sweeps);
    while readiness.work() != Work::Nothing {
        readiness = match readiness.work() {
            Work::Backfill => readiness.backfilled(None),
            _ => readiness.swept(None),
        };
    }
    assert_eq!(readiness.undone, BTreeSet::from([7]));
    assert!(!readiness.done.iter().any(is_undo));
    assert!(readiness.clone().under(&with(3, 7)).sweeps.is_empty(), "it is done");
    let again = readiness.under(&with(3, 8));
    assert!(again.undone.is_empty());
    assert_eq!(again.sweeps, [Walk { wanted: BTreeSet::from([Task::Undo(8)]), next: Place::Start }]);
}
