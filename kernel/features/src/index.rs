//! Counting and selecting profiles by a condition, without looking at profiles.
//!
//! Each feature has a column over the dense ordinals of a workspace's profiles: a bitmap for each text and truth value,
//! ordered numbers in blocks, a bitmap of the profiles that have a value at all, and one of those whose value is pending.
//! A condition becomes set algebra over them, with exactly the meaning that [`Expression::evaluate`] has for each profile;
//! a condition on something without a column gives `None`, and the caller evaluates profile by profile.
//!
//! | feature | has a column | without one, conditions on it are |
//! | --- | --- | --- |
//! | trait | from its first value on, or from [`Index::require`]; beyond a [quota](MAX_TRAIT_COLUMNS) none | true of null: nobody has it; beyond the quota not answered |
//! | `profile.created_at` | from its first value on | not answered |
//! | leaf, tag, score, audience | from [`Index::track`] and its like to [`Index::forget`] | not answered |
//! | identifiers of a type | from the first person on who has one; beyond a [quota](MAX_IDENTIFIER_COLUMNS) none | true of null: nobody has one; beyond the quota not answered |
//!
//! The column of identifiers knows who has one of the type, not which: that somebody has a certain one, the caller finds out
//! from where identifiers lie, see [`Expression::required_identifiers`].
//!
//! The caller feeds it in log order and says which log position an answer is for.

mod column;
mod names;
mod numbers;
mod plan;
mod texts;

use std::collections::HashMap;

use foldhash::fast::RandomState;
use kith_model::id::AudienceId;
use kith_model::time::Timestamp;
use roaring::RoaringBitmap;

use crate::asks::Comparand;

use self::column::Column;
use self::names::{Admission, TraitNames};
pub use self::names::{Coverage, MAX_TRAIT_COLUMNS};
use self::plan::Planner;
pub use self::texts::MAX_TEXT_VALUES;
use crate::expression::Expression;
use crate::leaf::{Leaf, LeafState};
use crate::tree::FeatureName;
use crate::value::Value;
use crate::zone::Zone;

/// The profiles that a condition tells apart; all others do not meet it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Those that meet it.
    pub holds: RoaringBitmap,
    /// Those with a pending value in something that the condition reads, for which it is neither true nor false.
    pub unknown: RoaringBitmap,
}

/// A [`Selection`] of which the larger part is only counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SelectionCount {
    pub holds: u64,
    pub unknown: RoaringBitmap,
}

/// The profiles that are asked for: those of whom a condition holds, or those of whom it does not; of whom it is unknown is on
/// neither side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Holds,
    Fails,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Holds => Side::Fails,
            Side::Fails => Side::Holds,
        }
    }
}

/// How many types of identifiers have columns. Types are the sender's choice; a customer has some ten.
pub const MAX_IDENTIFIER_COLUMNS: usize = 256;

/// Which types of identifiers have columns. None ever leaves its place, because people who have one of a type that was refused
/// would be missing in a column that it got later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct IdentifierTypes {
    columns: usize,
    /// Whether one was refused, so that of a type without a column it is not known that nobody has one.
    is_passed: bool,
}

impl IdentifierTypes {
    fn admit(&mut self) -> Admission {
        if self.columns == MAX_IDENTIFIER_COLUMNS {
            self.is_passed = true;
            return Admission::Excluded;
        }
        self.columns += 1;
        Admission::Admitted
    }
}

/// The index of one workspace.
#[derive(Debug, Clone, Default)]
pub struct Index {
    population: RoaringBitmap,
    columns: HashMap<FeatureName, Column, RandomState>,
    names: TraitNames,
    identifier_types: IdentifierTypes,
    /// Stands for traits, and types of identifiers, that nobody has.
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

    /// Keep a column for this leaf. A profile that is not set has the value that the leaf has without any event, so that
    /// only profiles with events need be set.
    pub fn track(&mut self, leaf: &Leaf) {
        let default = leaf.value(&LeafState::default(), Timestamp(0), &Zone::utc());
        self.columns.entry(FeatureName::Leaf(leaf.id())).or_insert_with(|| Column::new(default));
    }

    /// Keep a column for the members of this audience. A profile that is not set is no member.
    pub fn track_audience(&mut self, audience: AudienceId) {
        let feature = FeatureName::Audience(audience);
        self.columns.entry(feature).or_insert_with(|| Column::new(Value::Bool(false)));
    }

    /// Keep a column for a tag or a score. A profile that is not set has null.
    pub fn track_output(&mut self, output: &FeatureName) {
        debug_assert!(matches!(output, FeatureName::Tag(_) | FeatureName::Score(_)), "{output} is no output");
        self.columns.entry(output.clone()).or_default();
    }

    /// Drop the column of a leaf, an audience, a tag or a score that is no longer kept up. Until it is tracked again,
    /// [`Index::set`] ignores it: a value that comes late must not make a column in which all others are missing.
    pub fn forget(&mut self, feature: &FeatureName) {
        debug_assert!(
            !matches!(feature, FeatureName::Trait(_) | FeatureName::Identifiers(_) | FeatureName::CreatedAt),
            "{feature} is always kept up"
        );
        self.columns.remove(feature);
    }

    /// An expression reads this feature: if it is a trait, the quota does not exclude it from here on.
    pub fn require(&mut self, feature: &FeatureName) -> Coverage {
        let FeatureName::Trait(name) = feature else { return Coverage::Complete };
        let coverage = self.names.require(name, self.columns.contains_key(feature));
        self.columns.entry(feature.clone()).or_default();
        coverage
    }

    /// Every profile's value of this feature has been set since [`Index::require`] said [`Coverage::Partial`].
    pub fn complete(&mut self, feature: &FeatureName) {
        if let FeatureName::Trait(name) = feature {
            self.names.complete(name);
        }
    }

    /// Set a profile's value of a feature; null takes it away. The profile is one of the population from here on.
    pub fn set(&mut self, ordinal: u32, feature: &FeatureName, value: &Value) {
        self.population.insert(ordinal);
        if let Some(column) = self.columns.get_mut(feature) {
            column.set(ordinal, value);
            self.drop_if_vacant(feature);
            return;
        }
        let admission = match feature {
            FeatureName::Trait(name) if !value.is_null() => self.names.admit(name),
            FeatureName::Identifiers(_) if !value.is_null() => self.identifier_types.admit(),
            FeatureName::CreatedAt => Admission::Admitted,
            _ => Admission::Excluded,
        };
        if admission == Admission::Admitted {
            self.columns.entry(feature.clone()).or_default().set(ordinal, value);
        }
    }

    /// Give a profile the default value of these features. It stays one of the population.
    ///
    /// The cost follows the list: a profile has some of a workspace's features, never all of them.
    pub fn clear<'a>(&mut self, ordinal: u32, features: impl IntoIterator<Item = &'a FeatureName>) {
        for feature in features {
            if let Some(column) = self.columns.get_mut(feature) {
                column.clear(ordinal);
                self.drop_if_vacant(feature);
            }
        }
    }

    /// Take a profile that is no more out of the population. [`Index::clear`] goes before it: an ordinal that is left in
    /// a column would still be counted.
    pub fn remove(&mut self, ordinal: u32) {
        debug_assert!(
            self.columns.values().all(|column| !column.has(ordinal)),
            "{ordinal} leaves the population with a value left"
        );
        self.population.remove(ordinal);
    }

    /// Names of traits that have no column because there are too many, up to a number.
    pub fn names_left_out(&self) -> usize {
        self.names.left_out()
    }

    /// The features that have a column, in no order.
    pub fn features(&self) -> impl Iterator<Item = &FeatureName> {
        self.columns.keys()
    }

    /// The profiles for which a feature is `true`, e.g. the members of an audience.
    pub fn members(&self, feature: &FeatureName) -> Option<&RoaringBitmap> {
        self.column(feature).map(Column::those_true)
    }

    /// How many profiles have a known value of a feature; `None` where it has no column.
    pub fn holders(&self, feature: &FeatureName) -> Option<u64> {
        self.column(feature).map(|column| column.len() - column.nulls.len() - column.unknown.len())
    }

    /// How many profiles have a value of at least one of these features; `None` where one of them has no column, or it is unknown of
    /// somebody.
    pub fn holders_of_any<'a>(&self, features: impl IntoIterator<Item = &'a FeatureName>) -> Option<u64> {
        let mut holders = RoaringBitmap::new();
        for feature in features {
            let column = self.column(feature).filter(|column| column.unknown.is_empty())?;
            holders |= column.stored().select(None).into_owned() - &column.nulls;
        }
        Some(holders.len())
    }

    /// How many profiles have a text that compares with no number of `than`, or where that is a time with no time; `None` where the
    /// feature has no column.
    pub fn incomparable(&self, feature: &FeatureName, than: Comparand) -> Option<u64> {
        let column = self.column(feature)?;
        Some(match than {
            Comparand::Number => column.wordy(),
            Comparand::Time => column.timeless(),
        })
    }

    /// How many profiles have a number; `None` where the feature has no column.
    pub fn numeric(&self, feature: &FeatureName) -> Option<u64> {
        self.column(feature).map(Column::numeric)
    }

    /// The texts and truth values of a feature, those that most profiles have first; `None` where there are more than `most`,
    /// or no column is kept.
    pub fn values(&self, feature: &FeatureName, most: usize) -> Option<Vec<(Value, u64)>> {
        let mut values = self.column(feature)?.listed(most)?;
        values.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.order(b)));
        Some(values)
    }

    /// How many profiles meet the condition, and those of which it is not known; `None` when something in it has no index.
    pub fn count(&self, condition: &Expression, now: Timestamp) -> Option<SelectionCount> {
        let planner = Planner::new(self, now, condition.zone());
        let plan = planner.plan(condition.compiled(), Side::Holds)?;
        let unknown = planner.undecided(condition.compiled(), &plan)?;
        Some(SelectionCount { holds: planner.count(&plan, None), unknown })
    }

    /// The profiles that meet the condition, and those of which it is not known; `None` when something in it has no
    /// index.
    pub fn select(&self, condition: &Expression, now: Timestamp) -> Option<Selection> {
        let planner = Planner::new(self, now, condition.zone());
        let plan = planner.plan(condition.compiled(), Side::Holds)?;
        let unknown = planner.undecided(condition.compiled(), &plan)?;
        Some(Selection { holds: planner.select(&plan, None).into_owned(), unknown })
    }

    /// A trait that nobody has leaves its place to another name.
    fn drop_if_vacant(&mut self, feature: &FeatureName) {
        if let FeatureName::Trait(name) = feature
            && self.columns.get(feature).is_some_and(Column::is_empty)
            && self.names.vacate(name)
        {
            self.columns.remove(feature);
        }
    }

    fn column(&self, feature: &FeatureName) -> Option<&Column> {
        match feature {
            FeatureName::Trait(name) if self.names.lacks(name) => None,
            FeatureName::Trait(_) => Some(self.columns.get(feature).unwrap_or(&self.nobody)),
            FeatureName::Identifiers(_) if !self.identifier_types.is_passed => {
                Some(self.columns.get(feature).unwrap_or(&self.nobody))
            }
            _ => self.columns.get(feature),
        }
    }
}

#[cfg(test)]
mod tests;
