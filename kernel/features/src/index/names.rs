//! Which trait names have columns: those that expressions read, and a bounded number of others.

use std::collections::HashSet;
use std::sync::Arc;

/// How many trait names that no expression reads have columns.
///
/// Names are the sender's choice, and one that writes `{"flag_123": true}` makes a new one with every person. A column of
/// one person takes about a kilobyte, so that two thousand cost two megabytes a workspace; a customer's traits are some
/// hundred.
pub const MAX_TRAIT_COLUMNS: usize = 2_000;

/// How many names without a column are remembered. Beyond it, no further name gets a column, because one that was
/// forgotten could not be told from a new one.
pub(super) const MAX_EXCLUDED_NAMES: usize = 10_000;

/// How complete a list is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Extent {
    /// It holds all.
    #[default]
    All,
    /// There are more.
    AtLeast,
}

/// Whether a column holds every profile's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    Complete,
    /// Values were left out before. They have to be set again, and until [`Index::complete`](super::Index::complete)
    /// conditions on it have no answer.
    Partial,
}

/// What is known of trait names.
#[derive(Debug, Clone, Default)]
pub(super) struct TraitNames {
    /// Those that expressions read.
    required: HashSet<Arc<str>>,
    /// Of the required: those that were excluded before, and whose values are not all set again.
    partial: HashSet<Arc<str>>,
    /// How many columns there are of names that are not required.
    surplus: usize,
    /// At most [`MAX_EXCLUDED_NAMES`]; `extent` says whether it is all of them.
    excluded: HashSet<Arc<str>>,
    extent: Extent,
}

/// Whether a name gets a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Excluded,
}

impl TraitNames {
    /// A name without a column wants one.
    pub(super) fn admit(&mut self, name: &Arc<str>) -> Admission {
        if self.required.contains(name) {
            return Admission::Admitted;
        }
        if self.lacks(name) {
            return Admission::Excluded;
        }
        if self.surplus < MAX_TRAIT_COLUMNS {
            self.surplus += 1;
            return Admission::Admitted;
        }
        if self.excluded.len() < MAX_EXCLUDED_NAMES {
            self.excluded.insert(name.clone());
        } else {
            self.extent = Extent::AtLeast;
        }
        Admission::Excluded
    }

    /// A column is empty. Its place is free, unless an expression reads it.
    pub(super) fn vacate(&mut self, name: &str) -> bool {
        if self.required.contains(name) {
            return false;
        }
        debug_assert!(self.surplus > 0, "a column of `{name}` was never counted");
        self.surplus = self.surplus.saturating_sub(1);
        true
    }

    pub(super) fn require(&mut self, name: &Arc<str>, has_column: bool) -> Coverage {
        if !self.required.contains(name) {
            if has_column {
                self.surplus = self.surplus.saturating_sub(1);
            } else if self.lacks(name) {
                self.excluded.remove(name);
                self.partial.insert(name.clone());
            }
            self.required.insert(name.clone());
        }
        if self.partial.contains(name) { Coverage::Partial } else { Coverage::Complete }
    }

    pub(super) fn complete(&mut self, name: &str) {
        self.partial.remove(name);
    }

    /// How many names have no column, at most [`MAX_EXCLUDED_NAMES`].
    pub(super) fn left_out(&self) -> usize {
        self.excluded.len()
    }

    /// Whether values of this name were left out.
    pub(super) fn lacks(&self, name: &str) -> bool {
        self.partial.contains(name)
            || self.excluded.contains(name)
            || (self.extent == Extent::AtLeast && !self.required.contains(name))
    }
}
