//! What the react stage keeps of people. Derived rows can be computed again from the log; marks of entries cannot, because
//! they say what was sent, and so they lie in a key space of their own and survive the loss of the others.

mod timers;

use std::collections::{BTreeMap, BTreeSet};

use kith_features::{LeafGroups, LeafId, LeafState, LeafStates};
use kith_model::audience::{Cause, Membership};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::profile::Provenance;
use kith_model::time::Timestamp;
use kith_store::row::{self, Owner, Row};
use serde::{Deserialize, Serialize};

use self::timers::LeafTimers;

/// One value that a compute plugin gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutputValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl OutputValue {
    pub(crate) fn size_bytes(&self) -> usize {
        let text = if let OutputValue::Text(text) = self { text.len() } else { 0 };
        size_of::<OutputValue>() + text
    }
}

/// Which of an installation's runs a value belongs to. There is one track today; a version that is tried beside the one in
/// use will write to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Track {
    Live,
}

/// What names an installation's values on a profile.
pub(crate) type OutputKey = (InstallationId, Track);

/// How far an installation's values on a profile can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Freshness {
    /// Computed from the inputs as they are.
    Fresh,
    /// The inputs changed or were never computed: the value is unknown until the model has run.
    Pending { inputs: u64, cause: Cause, position: Position },
    /// The model changed and has yet to run; the older value counts until then.
    Outdated { inputs: u64 },
    /// The model cannot take these inputs: the older value counts, and they are not tried again.
    Faulted { inputs: u64 },
}

/// What one installation computed about a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Which [`ModelVersion`] made the values.
    pub version: u32,
    /// The newest log position that the computation had seen.
    pub cause: Position,
    pub at: Timestamp,
    /// Hash of the inputs that the values were computed from: equal inputs are not computed again.
    pub inputs: u64,
    /// In the order of the model version's outputs; empty before the first run.
    pub values: Vec<OutputValue>,
    pub freshness: Freshness,
    /// What had the values computed; behind all else in the row, where it is not an event.
    #[serde(skip)]
    pub set_off_by: Cause,
}

impl Output {
    /// A value that was never computed.
    pub(crate) fn never(inputs: u64, cause: Cause, position: Position) -> Output {
        let freshness = Freshness::Pending { inputs, cause, position };
        let (at, values) = (Timestamp(0), Vec::new());
        Output { version: 0, cause: position, at, inputs: 0, values, freshness, set_off_by: cause }
    }

    /// Values that were taken back: null, of inputs that nobody has.
    pub(crate) fn taken_back(self, freshness: Freshness) -> Output {
        let values = vec![OutputValue::Null; self.values.len()];
        Output { inputs: 0, values, freshness, ..self }
    }

    /// Whether its values were taken back and none has come in their place.
    pub(crate) fn is_taken_back(&self) -> bool {
        let is_null = |value: &OutputValue| *value == OutputValue::Null;
        self.inputs == 0 && !self.values.is_empty() && self.values.iter().all(is_null)
    }

    /// The hash of the inputs that the model still has to see; `None` where it has nothing to do.
    pub(crate) fn awaited(&self) -> Option<u64> {
        match self.freshness {
            Freshness::Pending { inputs, .. } | Freshness::Outdated { inputs } => Some(inputs),
            Freshness::Fresh | Freshness::Faulted { .. } => None,
        }
    }
}

/// What made a computed value; one row for each combination that ever ran, so that a value needs only its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelVersion {
    pub installation: InstallationId,
    pub digest: String,
    pub config_hash: u64,
    pub fit: u32,
    pub kind: OutputKind,
    pub outputs: Vec<String>,
}

impl ModelVersion {
    /// Where values that it gave come from.
    pub(crate) fn provenance(&self, output: &Output) -> Provenance {
        Provenance {
            installation: self.installation,
            digest: self.digest.clone(),
            fit: self.fit,
            cause: output.cause,
            computed_at: output.at,
        }
    }
}

impl Row for ModelVersion {
    const WHAT: &'static str = "a model version";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 2;
}

/// What a model's outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OutputKind {
    Tags,
    Scores,
}

/// What a timer wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Waker {
    Leaf(LeafId),
    Audience(AudienceId),
    /// A model whose inputs read `now`.
    Model(InstallationId),
}

/// Whether a person objected to profiling when react looked last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    #[default]
    Open,
    Objected,
}

/// All that react keeps of one source identity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Derived {
    /// The profile that it belongs to, where that is not its own.
    pub profile: Option<ProfileId>,
    /// The members of the profile that it names, sorted, where it has more than itself.
    pub members: Vec<SourceIdentityId>,
    /// Incremental state of the expressions' leaves over this identity's events: behind the rest in its row while it is small,
    /// then in a row for each group.
    #[serde(skip)]
    pub leaves: LeafGroups,
    /// The groups of leaves that have a row, so that each can be asked for by its name. All of them, or none.
    groups: BTreeSet<u16>,
    /// The rest only on an identity that names a profile.
    pub outputs: BTreeMap<OutputKey, Output>,
    pub memberships: BTreeMap<AudienceId, Membership>,
    /// When time alone may change something, by what it changes; each waker once, and none of them a leaf's.
    timers: BTreeMap<Waker, Timestamp>,
    /// The timer row that stands for the earliest of all timers.
    pub timer_row: Option<Timestamp>,
    /// The timers of leaves, which lie beside their states.
    #[serde(skip)]
    leaf_timers: LeafTimers,
    /// Behind the leaves in the row; of the identity that named the profile at that time.
    #[serde(skip)]
    pub standing: Standing,
}

/// The row of a group of leaves, encoded; `None` where it is to be deleted.
pub(crate) type GroupRow = (u16, Option<Vec<u8>>);

/// The states of a group of leaves, and when time alone may change them for the profile that the identity names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeafRow {
    pub timers: Vec<(LeafId, Timestamp)>,
    #[serde(with = "leaf_bytes")]
    pub states: LeafStates,
}

/// A [`LeafRow`] to be written, of what an identity holds.
#[derive(Serialize)]
struct HeldLeafRow<'a> {
    timers: &'a [(LeafId, Timestamp)],
    #[serde(serialize_with = "leaf_bytes::serialize")]
    states: &'a LeafStates,
}

impl Row for LeafRow {
    const WHAT: &'static str = "a group of an identity's leaves";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 1;
}

/// The leaves of an identity lie in its own row up to about so many bytes: an event then rewrites one row and a reading reads
/// one, and above it no event rewrites a history.
const MAX_OWN_BYTES: usize = 1_024;

/// The version that has all leaves in rows of their own.
const APART: u8 = 3;

/// The version that does not tell who objected.
const WITHOUT_STANDING: u8 = 4;

/// The version that does not tell what set values off.
const WITHOUT_SET_OFF: u8 = 5;

/// What set values off, of those that no event did.
type SetOff = Vec<(OutputKey, Cause)>;

impl Row for Derived {
    const WHAT: &'static str = "what is computed of an identity";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 6;

    fn before(version: u8, body: &[u8]) -> Option<Result<Derived, String>> {
        match version {
            APART => Some(row::read_postcard(body)),
            WITHOUT_STANDING => Some(Derived::with_leaves(body).and_then(|(derived, rest)| {
                if rest.is_empty() { Ok(derived) } else { Err(format!("{} bytes lie behind the row", rest.len())) }
            })),
            WITHOUT_SET_OFF => Some(Derived::with_leaves(body).and_then(|(mut derived, rest)| {
                derived.standing = row::read_postcard(rest)?;
                Ok(derived)
            })),
            _ => None,
        }
    }

    fn body(&self, bytes: &mut Vec<u8>) {
        row::write_postcard(self, bytes);
        let mut own: Vec<u16> = if self.groups.is_empty() { self.leaf_groups().collect() } else { Vec::new() };
        own.sort_unstable();
        own.dedup();
        let none = LeafStates::default();
        let row_of = |group: &u16| {
            let states = self.leaves.group(*group).unwrap_or(&none);
            (*group, HeldLeafRow { timers: self.leaf_timers.of_group(*group), states })
        };
        let rows: Vec<(u16, HeldLeafRow<'_>)> = own.iter().map(row_of).collect();
        row::write_postcard(&rows, bytes);
        row::write_postcard(&self.standing, bytes);
        let set_off = self.outputs.iter().filter(|(_, output)| output.set_off_by != Cause::Event);
        let set_off: SetOff = set_off.map(|(key, output)| (*key, output.set_off_by)).collect();
        row::write_postcard(&set_off, bytes);
    }

    fn from_body(body: &[u8]) -> Result<Derived, String> {
        let (mut derived, rest) = Derived::with_leaves(body)?;
        let (standing, rest) = row::take_postcard(rest)?;
        derived.standing = standing;
        for (key, cause) in row::read_postcard::<SetOff>(rest)? {
            if let Some(output) = derived.outputs.get_mut(&key) {
                output.set_off_by = cause;
            }
        }
        Ok(derived)
    }
}

impl Derived {
    /// The row as far as its leaves, and the bytes behind these.
    fn with_leaves(body: &[u8]) -> Result<(Derived, &[u8]), String> {
        let (mut derived, rest) = row::take_postcard::<Derived>(body)?;
        let (rows, rest) = row::take_postcard::<Vec<(u16, LeafRow)>>(rest)?;
        for (group, leaves) in rows {
            derived.take_in(group, leaves);
        }
        Ok((derived, rest))
    }

    /// The profile that `identity` belongs to.
    pub(crate) fn profile_of(&self, identity: SourceIdentityId) -> ProfileId {
        self.profile.unwrap_or(ProfileId(identity))
    }

    /// The members of the profile that `identity` names; empty where it names none.
    pub(crate) fn members_of(&self, identity: SourceIdentityId) -> Vec<SourceIdentityId> {
        match self.profile {
            Some(_) => Vec::new(),
            None if self.members.is_empty() => vec![identity],
            None => self.members.clone(),
        }
    }

    /// What time alone may change, and when.
    pub(crate) fn timers(&self) -> impl Iterator<Item = (Waker, Timestamp)> {
        let of_leaves = self.leaf_timers.iter().map(|(leaf, at)| (Waker::Leaf(leaf), at));
        of_leaves.chain(self.timers.iter().map(|(waker, at)| (*waker, *at)))
    }

    /// When a waker is to be woken.
    pub(crate) fn timer(&self, waker: Waker) -> Option<Timestamp> {
        match waker {
            Waker::Leaf(leaf) => self.leaf_timers.get(leaf),
            waker => self.timers.get(&waker).copied(),
        }
    }

    /// The earliest of all timers.
    pub(crate) fn earliest_timer(&self) -> Option<Timestamp> {
        self.leaf_timers.earliest().into_iter().chain(self.timers.values().copied()).min()
    }

    /// Set when a waker is to be woken, `None` for never; when it was to be before. The timers of leaves are written with their
    /// states, those of others with the identity's own row.
    pub(crate) fn set_timer(&mut self, waker: Waker, at: Option<Timestamp>) -> Option<Timestamp> {
        match (waker, at) {
            (Waker::Leaf(leaf), at) => self.leaf_timers.set(leaf, at),
            (waker, Some(at)) => self.timers.insert(waker, at),
            (waker, None) => self.timers.remove(&waker),
        }
    }

    /// About how many bytes of memory it takes beside itself.
    pub(crate) fn size_bytes(&self) -> usize {
        // An entry of a small map, with its place in the map.
        const ENTRY_BYTES: usize = 48;
        let values = self.outputs.values().flat_map(|output| &output.values);
        let values: usize = values.map(OutputValue::size_bytes).sum();
        let maps = self.memberships.len() + self.timers.len() + 4 * self.outputs.len();
        let entries = maps + self.leaf_timers.group_count();
        let timers = self.leaf_timers.len() * size_of::<(LeafId, Timestamp)>();
        self.leaves.size_bytes()
            + timers
            + self.members.len() * size_of::<SourceIdentityId>()
            + entries * ENTRY_BYTES
            + values
    }

    /// The groups of leaves that have a row.
    pub(crate) fn groups(&self) -> &BTreeSet<u16> {
        &self.groups
    }

    /// Take in a group of leaves that was read.
    pub(crate) fn take_in(&mut self, group: u16, row: LeafRow) {
        self.leaf_timers.take_in(group, row.timers);
        if !row.states.is_empty() {
            self.leaves.insert(group, row.states);
        }
    }

    /// The groups of leaves that have states or timers.
    fn leaf_groups(&self) -> impl Iterator<Item = u16> {
        self.leaves.groups().chain(self.leaf_timers.groups())
    }

    /// The rows of the groups of leaves that have changed since they were written, which they are from now on; `None` for
    /// one that is to be deleted, since nothing is left in it. And whether the identity's own row has to be written as well:
    /// because its leaves are in it, or because [`Derived::groups`] is another now.
    pub(crate) fn changed_groups(&mut self) -> (Vec<GroupRow>, bool) {
        let mut groups: BTreeSet<u16> = self.leaf_timers.take_changed().collect();
        groups.extend(self.leaves.changed());
        if groups.is_empty() {
            return (Vec::new(), false);
        }
        if self.groups.is_empty() {
            groups.iter().for_each(|group| self.leaves.compact_group(*group));
            let timers = self.leaf_timers.len() * size_of::<(LeafId, Timestamp)>();
            if self.leaves.size_bytes() + timers <= MAX_OWN_BYTES {
                return (Vec::new(), true);
            }
            groups.extend(self.leaf_groups());
        }
        let (mut rows, mut is_list_new) = (Vec::with_capacity(groups.len()), false);
        for group in groups {
            let mut states = self.leaves.take(group);
            states.compact();
            let row = LeafRow { timers: self.leaf_timers.of_group(group).to_vec(), states };
            let is_empty = row.timers.is_empty() && row.states.is_empty();
            is_list_new |= if is_empty { self.groups.remove(&group) } else { self.groups.insert(group) };
            rows.push((group, (!is_empty).then(|| row::encode(&row))));
            if !row.states.is_empty() {
                self.leaves.insert(group, row.states);
            }
        }
        (rows, is_list_new)
    }
}

/// Leaf states are a byte string of their own inside the row, so that reading a row decodes none of them.
mod leaf_bytes {
    use kith_features::LeafStates;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(states: &LeafStates, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&states.encode())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeafStates, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = LeafStates;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of leaf states")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<LeafStates, E> {
                LeafStates::decode(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What is remembered of one person's entries into one audience, for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryMark {
    /// How often the person has entered: the number of the latest entry, never lowered.
    pub entries: u32,
    /// When an entry last set an action off; the same for exits.
    pub fired_at: Option<Timestamp>,
    pub exit_fired_at: Option<Timestamp>,
}

impl EntryMark {
    /// What two contributors remember, as one.
    pub(crate) fn fold(self, other: EntryMark) -> EntryMark {
        EntryMark {
            entries: self.entries.max(other.entries),
            fired_at: self.fired_at.max(other.fired_at),
            exit_fired_at: self.exit_fired_at.max(other.exit_fired_at),
        }
    }
}

/// One source identity's marks. A profile's are the fold over its members, so a merge needs no rewrite and both sides of a
/// split keep what they remember.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entries(pub BTreeMap<AudienceId, EntryMark>);

impl Row for Entries {
    const WHAT: &'static str = "a person's entries";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 1;
}

/// How far react has come: the newest position and the latest time that it has worked off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub position: Position,
    pub time: Timestamp,
}

impl Row for Cursor {
    const WHAT: &'static str = "how far a workspace is computed";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 1;
}

/// A part of a leaf's state that is complete: only its live part goes on growing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SealedLeaf(pub LeafState);

impl Row for SealedLeaf {
    const WHAT: &'static str = "a sealed part of a leaf";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kith_features::{EventFacts, Expression, Leaf, Zone};
    use kith_model::event::{Event, EventKind, EventOrigin};

    use super::*;

    fn leaf(text: &str) -> Arc<Leaf> {
        Expression::parse(text).unwrap().leaves().next().unwrap().clone()
    }

    fn order() -> Event {
        Event {
            message_id: "m".into(),
            kind: EventKind::Track,
            name: "order".into(),
            time: Timestamp(5),
            received_at: Timestamp(5),
            source: InstallationId(1),
            identity: SourceIdentityId([7; 16]),
            identifiers: Vec::new(),
            properties: String::new(),
            traits: String::new(),
            context: String::new(),
            origin: EventOrigin::Client,
            flags: Vec::new(),
            original_time: None,
            place: 0,
            reader: 0,
        }
    }

    fn named(name: &str) -> Arc<Leaf> {
        leaf(&format!("events('{name}', '30d').size()"))
    }

    fn apply(derived: &mut Derived, leaf: &Leaf, event: &Event) {
        let facts = EventFacts::new(event, "shop");
        assert!(derived.leaves.apply(leaf, &facts, Timestamp(5), &Zone::utc()).unwrap());
    }

    fn again(derived: &Derived) -> Derived {
        row::decode(&row::encode(derived)).unwrap()
    }

    /// More leaves than an identity's own row takes, each in a group of its own.
    fn many() -> (Derived, Vec<GroupRow>) {
        let mut derived = Derived::default();
        for number in 0..60 {
            let event = Event { name: format!("event {number}"), ..order() };
            apply(&mut derived, &named(&event.name), &event);
        }
        let (written, is_list_new) = derived.changed_groups();
        assert!(is_list_new && written.len() > 50, "{}", written.len());
        (derived, written)
    }

    #[test]
    fn a_few_leaves_and_their_timers_lie_in_the_row_of_the_identity() {
        let (order_leaf, view) = (named("order"), named("view"));
        let mut derived = Derived::default();
        apply(&mut derived, &order_leaf, &order());
        let audience = Waker::Audience(AudienceId(3));
        derived.set_timer(audience, Some(Timestamp(70)));
        derived.set_timer(Waker::Leaf(order_leaf.id()), Some(Timestamp(80)));
        // A leaf of another member.
        derived.set_timer(Waker::Leaf(view.id()), Some(Timestamp(90)));
        assert_eq!(derived.changed_groups(), (vec![], true));
        assert_eq!(derived.changed_groups(), (vec![], false), "what is written has not changed");
        let mut read = again(&derived);
        assert!(read.timers().eq(derived.timers()) && read.earliest_timer() == Some(Timestamp(70)));
        assert!(read.leaves.read(order_leaf.id()).unwrap().is_some() && read.leaves.read(view.id()).unwrap().is_none());
        assert_eq!(row::encode(&read), row::encode(&derived));
        // What goes away goes from the row.
        read.set_timer(Waker::Leaf(view.id()), None);
        read.leaves.retain(|_| false);
        assert_eq!(read.changed_groups(), (vec![], true));
        let rest = again(&read);
        assert!(rest.leaves.is_empty());
        assert!(rest.timers().map(|(waker, _)| waker).eq([Waker::Leaf(order_leaf.id()), audience]));
    }

    #[test]
    fn many_leaves_lie_in_a_row_for_each_group_and_one_event_writes_one_of_them() {
        let (derived, written) = many();
        assert!(derived.groups().iter().eq(written.iter().map(|(group, _)| group)));
        assert!(row::encode(&derived).len() < 400, "the identity's row tells their numbers");
        let mut read = again(&derived);
        assert!(read.leaves.is_empty());
        for (group, row) in written {
            read.take_in(group, row::decode(&row.unwrap()).unwrap());
        }
        let event = Event { name: "event 7".to_owned(), ..order() };
        let of_event = named(&event.name);
        apply(&mut read, &of_event, &event);
        read.set_timer(Waker::Leaf(of_event.id()), Some(Timestamp(80)));
        let (changed, is_list_new) = read.changed_groups();
        assert_eq!((changed.len(), changed[0].0, is_list_new), (1, of_event.id().group(), false));
        let of_group: LeafRow = row::decode(changed[0].1.as_ref().unwrap()).unwrap();
        assert_eq!(of_group.timers, [(of_event.id(), Timestamp(80))]);
        // A timer that goes away takes its row along where nothing else is in it; one that is set again to the same does not
        // make a row.
        let view = named("view");
        read.set_timer(Waker::Leaf(view.id()), Some(Timestamp(90)));
        let (changed, is_list_new) = read.changed_groups();
        assert_eq!((changed.len(), is_list_new), (1, true));
        assert_eq!(read.set_timer(Waker::Leaf(of_event.id()), Some(Timestamp(80))), Some(Timestamp(80)));
        read.set_timer(Waker::Leaf(view.id()), None);
        assert_eq!(read.changed_groups(), (vec![(view.id().group(), None)], true));
        // Once all are gone the next ones lie in the identity's row.
        read.set_timer(Waker::Leaf(of_event.id()), None);
        read.leaves.retain(|_| false);
        let (deleted, is_list_new) = read.changed_groups();
        assert!(is_list_new && deleted.iter().all(|(_, row)| row.is_none()) && read.groups().is_empty());
    }

    #[test]
    fn what_set_values_off_is_in_the_row_and_a_row_of_before_does_not_tell() {
        let output = |cause| Output { values: vec![OutputValue::Int(3)], ..Output::never(7, cause, Position(5)) };
        let [one, two] = [1, 2].map(|number| (InstallationId(number), Track::Live));
        let outputs = BTreeMap::from([(one, output(Cause::Event)), (two, output(Cause::Change))]);
        let derived = Derived { outputs, standing: Standing::Objected, ..Derived::default() };
        let read = again(&derived);
        assert_eq!((&read.outputs, read.standing), (&derived.outputs, Standing::Objected));
        let mut bytes = vec![WITHOUT_SET_OFF];
        row::write_postcard(&derived, &mut bytes);
        row::write_postcard(&Vec::<(u16, LeafRow)>::new(), &mut bytes);
        row::write_postcard(&derived.standing, &mut bytes);
        let read: Derived = row::decode(&bytes).unwrap();
        assert_eq!((read.outputs[&two].set_off_by, read.standing), (Cause::Event, Standing::Objected));
    }

    #[test]
    fn a_row_of_the_version_before_is_read() {
        let (derived, _) = many();
        let mut bytes = vec![APART];
        row::write_postcard(&derived, &mut bytes);
        let read: Derived = row::decode(&bytes).unwrap();
        assert!(read.groups() == derived.groups() && read.timers().eq(derived.timers()));
    }
}
