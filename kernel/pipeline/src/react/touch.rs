//! Why a profile is looked at, and what of it changed: what has to be computed follows from this and from nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::{FeatureName, LeafId, Value};
use kith_model::audience::Cause;
use kith_model::id::{InstallationId, Position};

use crate::plan::Task;
use crate::rows::derived::Waker;

/// Which models have to look at a profile again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Models {
    /// Those that read what changed.
    #[default]
    Readers,
    All,
}

/// Whether react has seen the profile before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    #[default]
    Known,
    New,
}

/// Whether the person may have begun or ended to object to profiling, so that everything has to be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Profiling {
    #[default]
    AsBefore,
    MayHaveChanged,
}

/// What changed about a profile.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touch {
    pub cause: Cause,
    /// The newest position behind the change.
    pub position: Position,
    /// Leaves that took an event in, with their value before; unknown where nobody looked.
    pub leaves: BTreeMap<LeafId, Value>,
    pub features: BTreeSet<FeatureName>,
    pub wakers: BTreeSet<Waker>,
    /// Work of a sweep that comes by.
    pub tasks: Option<Arc<BTreeSet<Task>>>,
    pub models: Models,
    pub acquaintance: Acquaintance,
    pub profiling: Profiling,
    /// The models that somebody wants asked again, also about inputs that they could not take.
    pub replayed: BTreeSet<InstallationId>,
    /// What set off the values that models gave in this computation.
    pub answered: BTreeMap<InstallationId, Cause>,
}

impl Touch {
    /// What decides about an audience that reads these models. Somebody who has never had a value of one gets it for what made
    /// them known, though it comes with a change; where the values of a version make way for another's, it is the change.
    pub(crate) fn cause_for(&self, models: &BTreeSet<InstallationId>) -> Cause {
        let answered = models.iter().filter_map(|model| self.answered.get(model).copied()).reduce(Cause::and);
        match (self.cause, answered) {
            (cause, None) => cause,
            (Cause::Change, Some(answered)) => answered,
            (cause, Some(answered)) => cause.and(answered),
        }
    }

    /// Note that a leaf took an event in; the earliest value before counts.
    pub(crate) fn leaf(&mut self, leaf: LeafId, before: impl FnOnce() -> Value) {
        self.leaves.entry(leaf).or_insert_with(before);
    }
}
