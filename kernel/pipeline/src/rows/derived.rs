//! What the react stage keeps of people. Derived rows can be computed again from the log; marks of entries cannot, because
//! they say what was sent, and so they lie in a key space of their own and survive the loss of the others.

use std::collections::BTreeMap;

use kith_features::{LeafId, LeafState, LeafStates};
use kith_model::audience::{Cause, Membership};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row};
use serde::{Deserialize, Serialize};

/// One value that a compute plugin gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutputValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
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
}

impl Output {
    /// A value that was never computed.
    pub(crate) fn never(inputs: u64, cause: Cause, position: Position) -> Output {
        let freshness = Freshness::Pending { inputs, cause, position };
        Output { version: 0, cause: position, at: Timestamp(0), inputs: 0, values: Vec::new(), freshness }
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

/// All that react keeps of one source identity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Derived {
    /// The profile that it belongs to, where that is not its own.
    pub profile: Option<ProfileId>,
    /// The members of the profile that it names, sorted, where it has more than itself.
    pub members: Vec<SourceIdentityId>,
    /// Incremental state of the expressions' leaves over this identity's events.
    #[serde(with = "leaf_bytes")]
    pub leaves: LeafStates,
    /// The rest only on an identity that names a profile.
    pub outputs: BTreeMap<OutputKey, Output>,
    pub memberships: BTreeMap<AudienceId, Membership>,
    /// When time alone may change something, by what it changes; each waker once.
    pub timers: BTreeMap<Waker, Timestamp>,
    /// The timer row that stands for the earliest of `timers`.
    pub timer_row: Option<Timestamp>,
}

impl Row for Derived {
    const WHAT: &'static str = "what is computed of an identity";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 2;
}

impl Derived {
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
