//! Counting and selecting profiles by a condition, without looking at profiles.
//!
//! Each feature has a column over the dense ordinals of a workspace's profiles: a bitmap for each text and truth value,
//! ordered numbers in blocks, and a bitmap of who has a value at all. A condition becomes set algebra over them, with
//! exactly the meaning that [`Expression::evaluate`] has for each profile; what has no column gives `None`, and the caller
//! evaluates profile by profile.
//!
//! The caller feeds it in log order and says which log position an answer is for.

mod column;
mod numbers;
mod plan;

use std::collections::{HashMap, HashSet};

use kith_model::time::Timestamp;
use roaring::RoaringBitmap;

use self::column::Column;
pub use self::column::MAX_TEXT_VALUES;
use self::plan::Planner;
use crate::expression::Expression;
use crate::leaf::{Leaf, LeafState};
use crate::tree::FeatureName;
use crate::value::Value;
use crate::zone::Zone;

/// The index of one workspace.
///
/// Traits, tags and scores are taken to be fed completely: a name that was never set is null for everybody, unless it was
/// [excluded](Index::exclude). Leaves count from when they are [tracked](Index::track).
#[derive(Debug, Clone, Default)]
pub struct Index {
    population: RoaringBitmap,
    columns: HashMap<FeatureName, Column>,
    excluded: HashSet<FeatureName>,
    /// Stands for traits, tags and scores that nobody has.
    nobody: Column,
}

impl Index {
    /// An index of nobody.
    pub fn new() -> Index {
        Index::default()
    }

    /// Everybody.
    pub fn population(&self) -> &RoaringBitmap {
        &self.population
    }

    /// A profile that may have no feature yet.
    pub fn insert_ordinal(&mut self, ordinal: u32) {
        self.population.insert(ordinal);
    }

    /// Remove a profile that is no more from everything.
    pub fn clear_ordinal(&mut self, ordinal: u32) {
        self.population.remove(ordinal);
        self.columns.values_mut().for_each(|column| column.clear(ordinal));
    }

    /// Keep a column for this leaf. Who is not set has the value that the leaf has without any event, so that only
    /// profiles with events need be set.
    pub fn track(&mut self, leaf: &Leaf) {
        let default = leaf.value(&LeafState::default(), Timestamp(0), &Zone::utc());
        self.columns.entry(FeatureName::Leaf(leaf.id())).or_insert_with(|| Column::new(default));
    }

    /// Whether conditions on this feature are answered.
    pub fn tracks(&self, feature: &FeatureName) -> bool {
        self.column(feature).is_some()
    }

    /// Drop a feature's column and answer no condition on it from here on; [`Index::set`] ignores it.
    pub fn exclude(&mut self, feature: FeatureName) {
        self.columns.remove(&feature);
        self.excluded.insert(feature);
    }

    /// Drop a feature's column: a leaf or an audience that is no longer kept up.
    pub fn forget(&mut self, feature: &FeatureName) {
        self.columns.remove(feature);
    }

    /// Set a profile's value of a feature; null takes it away.
    pub fn set(&mut self, ordinal: u32, feature: &FeatureName, value: &Value) {
        self.population.insert(ordinal);
        if self.excluded.contains(feature) {
            return;
        }
        match self.columns.get_mut(feature) {
            Some(column) => column.set(ordinal, value),
            None => {
                let default = match feature {
                    FeatureName::Audience(_) => Value::Bool(false),
                    _ => Value::Null,
                };
                let mut column = Column::new(default);
                column.set(ordinal, value);
                self.columns.insert(feature.clone(), column);
            }
        }
    }

    /// The profiles for which a feature is `true`, e.g. the members of an audience.
    pub fn members(&self, feature: &FeatureName) -> Option<&RoaringBitmap> {
        self.column(feature).map(Column::those_true)
    }

    /// How many profiles meet the condition; `None` when something in it has no index.
    pub fn count(&self, condition: &Expression, now: Timestamp) -> Option<u64> {
        let planner = Planner::new(self, now);
        let plan = planner.plan(condition.compiled(), false)?;
        Some(planner.count(&plan, None))
    }

    /// The profiles that meet the condition; `None` when something in it has no index.
    pub fn select(&self, condition: &Expression, now: Timestamp) -> Option<RoaringBitmap> {
        let planner = Planner::new(self, now);
        let plan = planner.plan(condition.compiled(), false)?;
        Some(planner.select(&plan, None).into_owned())
    }

    fn column(&self, feature: &FeatureName) -> Option<&Column> {
        if let Some(column) = self.columns.get(feature) {
            return Some(column);
        }
        let complete = matches!(feature, FeatureName::Trait(_) | FeatureName::Tag(_) | FeatureName::Score(_));
        (complete && !self.excluded.contains(feature)).then_some(&self.nobody)
    }
}

#[cfg(test)]
mod tests;
