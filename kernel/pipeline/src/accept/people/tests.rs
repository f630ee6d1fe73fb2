//! One-ID against its rule: whatever the order and the cutting, the partition is what `cluster` makes of the evidence, the
//! feed tells it, and the work for one more event does not grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::change::IdentityChange;
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, EdgeId, Evidence, Identifier, IdentityRules, Side, cluster, counting, ordered};
use kith_model::time::Timestamp;
use kith_store::{Store, Unit, memory};
use proptest::prelude::*;

use super::{EvidenceOutcome, Link, People, Work};

const WORKSPACE: WorkspaceId = WorkspaceId(1);

/// People over a store, and what a reader of the feed knows of them.
struct Bench {
    store: Arc<dyn Store>,
    people: People,
    rules: IdentityRules,
    /// Profile → members, by the feed alone.
    feed: BTreeMap<SourceIdentityId, Vec<SourceIdentityId>>,
}

/// Two identifiers at a time.
#[derive(Debug, Clone)]
struct TestEvidence {
    one: Identifier,
    other: Identifier,
    time: i64,
    evidence: Kind,
}

/// What kind of evidence: of an event, or that the one stands behind the other.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Of(Evidence),
    Behind(fn(Side) -> Evidence),
}

impl Kind {
    /// The edge between two identities, and the time that it has.
    fn edge(self, one: SourceIdentityId, other: SourceIdentityId, time: i64) -> (EdgeId, Timestamp) {
        let (low, high) = ordered(one, other);
        match self {
            Kind::Of(evidence) => (EdgeId { low, high, evidence }, Timestamp(time)),
            Kind::Behind(make) => (EdgeId::behind(one, other, make), Timestamp(0)),
        }
    }
}

impl Bench {
    fn new(rules: IdentityRules) -> Bench {
        let store: Arc<dyn Store> = Arc::new(memory());
        let people = People::open(Arc::clone(&store), WORKSPACE, [7; 32]).unwrap();
        Bench { store, people, rules, feed: BTreeMap::new() }
    }

    fn tell(&mut self, told: &TestEvidence) -> EvidenceOutcome {
        // Ids sort by age and then by a hash: the age is the same for all, so that the order of arrival decides nothing.
        let one = self.people.identify(&told.one, Timestamp(0)).unwrap();
        let other = self.people.identify(&told.other, Timestamp(0)).unwrap();
        let (edge, time) = told.evidence.edge(one, other, told.time);
        let message_id = format!("m{}", time.0);
        let link =
            Link { one, other, evidence: edge.evidence, time, source: InstallationId(1), message_id: &message_id };
        self.people.give_event(one);
        let followed = self.people.link(&link, &self.rules).unwrap();
        self.people.keep_event();
        followed
    }

    /// The end of a unit: what it tells the feed.
    fn end_unit(&mut self) -> IdentityChange {
        let identified = self.people.identified();
        for (gone, _) in &identified.gone {
            self.feed.remove(&gone.0);
        }
        for (profile, members) in &identified.profiles {
            self.feed.insert(profile.0, members.clone());
        }
        let mut operations = Vec::new();
        self.people.write(&mut operations);
        self.people.keep_unit();
        self.store.commit(Unit { operations, ..Unit::default() }).unwrap();
        identified
    }

    fn end_group(&mut self) {
        self.people.committed();
    }

    /// Those whose partition was put off have their turn.
    fn settle(&mut self) {
        self.people.put_off.identities_in_a_second = usize::MAX;
        while let Some(identity) = self.people.put_off.next() {
            let profile = self.people.current(identity).unwrap().profile;
            self.people.settle(profile.0, &self.rules).unwrap();
            self.people.keep_event();
            self.end_unit();
            self.end_group();
        }
    }

    /// Each as a unit and a group of its own.
    fn tell_all(&mut self, told: impl IntoIterator<Item = TestEvidence>) -> Vec<EvidenceOutcome> {
        let mut followed = Vec::new();
        for told in told {
            followed.push(self.tell(&told));
            self.end_unit();
            self.end_group();
        }
        followed
    }

    /// Who shares a profile with whom, as the heads say.
    fn partition(&mut self, identifiers: &BTreeSet<Identifier>) -> BTreeSet<BTreeSet<Identifier>> {
        let mut profiles: BTreeMap<SourceIdentityId, BTreeSet<Identifier>> = BTreeMap::new();
        for identifier in identifiers {
            let identity = self.people.identify(identifier, Timestamp(0)).unwrap();
            let (profile, root) = self.people.root(identity).unwrap();
            assert!(root.members.contains(&identity) && root.members.is_sorted() && root.members[0] == profile.0);
            profiles.entry(profile.0).or_default().insert(identifier.clone());
        }
        profiles.into_values().collect()
    }

    /// The same as the feed tells it.
    fn told_partition(&mut self, identifiers: &BTreeSet<Identifier>) -> BTreeSet<BTreeSet<Identifier>> {
        let mut names = BTreeMap::new();
        for identifier in identifiers {
            names.insert(self.people.identify(identifier, Timestamp(0)).unwrap(), identifier.clone());
        }
        let mut alone: BTreeSet<SourceIdentityId> = names.keys().copied().collect();
        let mut profiles = BTreeSet::new();
        for members in self.feed.values() {
            members.iter().for_each(|member| assert!(alone.remove(member), "a member of two profiles"));
            profiles.insert(members.iter().map(|member| names[member].clone()).collect());
        }
        profiles.extend(alone.into_iter().map(|identity| BTreeSet::from([names[&identity].clone()])));
        profiles
    }

    fn work_of(&mut self, told: Vec<TestEvidence>) -> Work {
        let before = self.people.work();
        self.tell_all(told);
        let after = self.people.work();
        Work { rows_read: after.rows_read - before.rows_read, edges: after.edges - before.edges }
    }
}

/// What the rule makes of all that was told.
fn expected(told: &[TestEvidence], rules: &IdentityRules) -> BTreeSet<BTreeSet<Identifier>> {
    let mut identities: BTreeMap<SourceIdentityId, Identifier> = BTreeMap::new();
    let mut ids: BTreeMap<Identifier, SourceIdentityId> = BTreeMap::new();
    let mut edges: BTreeMap<EdgeId, Edge> = BTreeMap::new();
    for told in told {
        let mut id = |identifier: &Identifier| {
            let next = ids.len() as u128;
            let id = *ids.entry(identifier.clone()).or_insert_with(|| SourceIdentityId::new(0, next << 64));
            identities.insert(id, identifier.clone());
            id
        };
        let (one, other) = (id(&told.one), id(&told.other));
        if one != other {
            let (id, time) = told.evidence.edge(one, other, told.time);
            let edge = Edge { id, time, source: InstallationId(1), message_id: format!("m{}", time.0) };
            edges.entry(id).and_modify(|held| held.time = held.time.min(time)).or_insert(edge);
        }
    }
    let edges: Vec<Edge> = edges.into_values().collect();
    let counting = counting(&identities, &edges, rules);
    let clustering = cluster(&identities, &counting.behind, counting.edges, &BTreeSet::new(), rules);
    let name = |id: SourceIdentityId| identities[&id].clone();
    let components = clustering.components.into_iter();
    components.map(|component| component.members.into_iter().map(name).collect()).collect()
}

fn arb_told() -> impl Strategy<Value = TestEvidence> {
    let identifier = || {
        prop_oneof![
            3 => (0..24u8).prop_map(|n| Identifier::new("user_id", format!("u{n}"))),
            2 => (0..4u8).prop_map(|n| Identifier::new("anonymous_id", format!("a{n}"))),
            1 => (0..6u8).prop_map(|n| Identifier::new("previous_id", format!("p{n}"))),
            2 => (0..24u8).prop_map(|n| Identifier::new("email", format!("e{n}"))),
        ]
    };
    let evidence = prop_oneof![
        2 => Just(Kind::Of(Evidence::Alias)),
        12 => Just(Kind::Of(Evidence::SameEvent)),
        1 => Just(Kind::Behind(Evidence::Spelling)),
        1 => Just(Kind::Behind(Evidence::SameId)),
        1 => Just(Kind::Behind(Evidence::ByHand)),
    ];
    (identifier(), identifier(), 0..30i64, evidence).prop_map(|(one, other, time, evidence)| TestEvidence {
        one,
        other,
        time,
        evidence,
    })
}

fn shuffled<T: Clone>(items: &[T], mut state: u64) -> Vec<T> {
    let mut items = items.to_vec();
    for at in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, (state >> 33) as usize % (at + 1));
    }
    items
}

proptest! {
    #![proptest_config(crate::tests::laws(96))]

    /// The shortcuts, the bounds and the retractions change nothing of the rule, and the feed carries the state after each
    /// unit however units are cut: in order of time, backwards and at random; also where partitions are put off.
    #[test]
    fn the_partition_is_the_rules_whatever_the_order_and_the_cutting(
        told in proptest::collection::vec(arb_told(), 1..160),
        cuts in proptest::collection::vec(1..9usize, 1..40),
        seed in any::<u64>(),
        few_members in any::<bool>(),
        shared_above in 1..5usize,
        users in 1..3usize,
        room in prop::sample::select(vec![usize::MAX, 0, 12]),
    ) {
        let mut rules = IdentityRules { shared_above, ..IdentityRules::default() };
        rules.limits.insert("user_id".to_owned(), users);
        if few_members {
            rules.max_members = 6;
        }
        let identifiers: BTreeSet<Identifier> =
            told.iter().flat_map(|told| [told.one.clone(), told.other.clone()]).collect();
        let expected = expected(&told, &rules);
        let mut in_order = told.clone();
        in_order.sort_by_key(|told| (matches!(told.evidence, Kind::Of(Evidence::SameEvent)), told.time));
        let backwards: Vec<TestEvidence> = in_order.iter().rev().cloned().collect();
        for order in [in_order, backwards, shuffled(&told, seed)] {
            let mut bench = Bench::new(rules.clone());
            bench.people.put_off.identities_in_a_second = room;
            let mut rest = order.as_slice();
            for (number, cut) in cuts.iter().cycle().enumerate() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                now.iter().for_each(|told| drop(bench.tell(told)));
                bench.end_unit();
                if number % 3 == 0 {
                    bench.end_group();
                }
                rest = later;
            }
            bench.end_group();
            bench.settle();
            prop_assert_eq!(&bench.partition(&identifiers), &expected);
            prop_assert_eq!(&bench.told_partition(&identifiers), &expected);
        }
    }
}

fn told(one: (&str, String), other: (&str, String), time: i64) -> TestEvidence {
    let (one, other) = (Identifier::new(one.0, one.1), Identifier::new(other.0, other.1));
    TestEvidence { one, other, time, evidence: Kind::Of(Evidence::SameEvent) }
}

#[test]
fn s4_a_merge_and_a_split_in_one_unit_leave_no_trace_in_the_feed() {
    let mut bench = Bench::new(IdentityRules::default());
    let on_device = |user: &str, time| told(("user_id", user.into()), ("anonymous_id", "device".into()), time);
    bench.tell(&told(("anonymous_id", "device".into()), ("anonymous_id", "device".into()), 0));
    bench.end_unit();
    bench.end_group();
    // First u2 joins the device, then u1 turns out to have been there before.
    bench.tell(&on_device("u2", 20));
    bench.tell(&on_device("u1", 10));
    let identified = bench.end_unit();
    let device = bench.people.identify(&Identifier::new("anonymous_id", "device"), Timestamp(0)).unwrap();
    let second = bench.people.identify(&Identifier::new("user_id", "u2"), Timestamp(0)).unwrap();
    assert_eq!(identified.profiles.len(), 1, "{identified:?}");
    assert!(identified.profiles[0].1.contains(&device));
    assert!(identified.gone.iter().all(|(gone, _)| gone.0 != second), "u2 named no profile before, and names one now");
}

/// 10,000 events, each with a new user on one device; the time of each is told by `time`.
fn shared_device(time: impl Fn(i64) -> i64) -> (Work, Work, usize) {
    let mut bench = Bench::new(IdentityRules::default());
    let event = |n: i64| told(("user_id", format!("u{n}")), ("anonymous_id", "kiosk".into()), time(n));
    let first = bench.work_of((0..100).map(event).collect());
    let said = bench.tell_all((100..9_900).map(event));
    let last = bench.work_of((9_900..10_000).map(event).collect());
    (first, last, said.iter().filter(|followed| matches!(followed, EvidenceOutcome::Shared(_))).count())
}

#[test]
fn s3_the_last_of_ten_thousand_users_on_one_device_costs_no_more_than_the_first() {
    for time in [|n| n, |_| 7, |n: i64| -n] as [fn(i64) -> i64; 3] {
        let (first, last, said) = shared_device(time);
        assert!(last.rows_read <= 2 * first.rows_read.max(100), "{last:?} after {first:?}");
        assert!(last.edges <= 2 * first.edges.max(100), "{last:?} after {first:?}");
        assert!(said <= 1, "a shared identifier is reported once, not {said} times");
    }
}

#[test]
fn s3_one_user_with_ever_more_devices_costs_the_same_for_each() {
    let mut bench = Bench::new(IdentityRules::default());
    let event = |n: i64| told(("user_id", "u".into()), ("anonymous_id", format!("d{n}")), n);
    let first = bench.work_of((0..100).map(event).collect());
    bench.tell_all((100..1_900).map(event));
    let last = bench.work_of((1_900..2_000).map(event).collect());
    assert!(last.rows_read <= 2 * first.rows_read.max(100), "{last:?} after {first:?}");
    assert!(last.edges <= 2 * first.edges.max(100), "{last:?} after {first:?}");
    let user = bench.people.identify(&Identifier::new("user_id", "u"), Timestamp(0)).unwrap();
    assert_eq!(bench.people.root(user).unwrap().1.members.len(), IdentityRules::default().max_members);
}

/// Each event of another device moves its evidence to the front of the order, and the last device out of the profile: a partition of
/// all for each event, unless it is put off.
#[test]
fn one_user_with_many_devices_whose_events_come_newest_first_costs_the_same_for_each() {
    let mut bench = Bench::new(IdentityRules::default());
    bench.people.put_off.identities_in_a_second = 0;
    let event = |n: i64| told(("user_id", "u".into()), ("anonymous_id", format!("d{}", n % 500)), -n);
    let first = bench.work_of((0..100).map(event).collect());
    bench.tell_all((100..1_900).map(event));
    let last = bench.work_of((1_900..2_000).map(event).collect());
    assert!(last.rows_read <= 2 * first.rows_read.max(100), "{last:?} after {first:?}");
    assert!(last.edges <= 2 * first.edges.max(100), "{last:?} after {first:?}");
    let all: Vec<TestEvidence> = (0..2_000).map(event).collect();
    let identifiers = all.iter().flat_map(|told| [told.one.clone(), told.other.clone()]).collect();
    let (expected, waiting) = (expected(&all, &bench.rules), bench.people.put_off.waiting().len());
    assert!((1..=501).contains(&waiting), "{waiting} wait");
    assert_ne!(bench.partition(&identifiers), expected, "nobody had a turn");
    bench.settle();
    assert_eq!(bench.partition(&identifiers), expected);
    assert_eq!(bench.told_partition(&identifiers), expected);
}

#[test]
fn s3_what_hangs_together_beyond_the_bound_is_reported_and_left_out() {
    let mut bench = Bench::new(IdentityRules::default());
    // Devices in a chain of users, each tied to two of them: everything is connected by vetoed evidence.
    let chain = (0..3_000).flat_map(|n: i64| {
        let device = ("anonymous_id", format!("d{n}"));
        [
            told(("user_id", format!("u{n}")), device.clone(), 10 * n),
            told(("user_id", format!("u{}", n + 1)), device, 10 * n + 5),
        ]
    });
    bench.tell_all(chain);
    let late = told(("user_id", "u1500".into()), ("anonymous_id", "d1400".into()), 1);
    assert_eq!(bench.tell(&late), EvidenceOutcome::TooConnected);
    let before = bench.people.work();
    assert_eq!(
        (bench.tell(&late), bench.people.work().rows_read - before.rows_read < 4),
        (EvidenceOutcome::Quietly, true)
    );
    assert_eq!(bench.end_unit(), IdentityChange::default());
}
