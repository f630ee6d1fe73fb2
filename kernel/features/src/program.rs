//! All expressions of a workspace together: which leaves there are and which of them an event concerns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::expression::Expression;
use crate::leaf::Leaf;
use crate::tree::LeafId;

/// The leaves of a set of expressions, each once.
#[derive(Debug, Clone, Default)]
pub struct Program {
    leaves: BTreeMap<LeafId, Arc<Leaf>>,
    by_event_name: HashMap<String, Vec<Arc<Leaf>>>,
    of_every_event: Vec<Arc<Leaf>>,
}

impl Program {
    /// Collect the leaves of these expressions.
    pub fn new<'a>(expressions: impl IntoIterator<Item = &'a Expression>) -> Program {
        let mut program = Program::default();
        for leaf in expressions.into_iter().flat_map(Expression::leaves) {
            if program.leaves.insert(leaf.id(), leaf.clone()).is_some() {
                continue;
            }
            match leaf.event_name() {
                Some(name) => program.by_event_name.entry(name.to_owned()).or_default().push(leaf.clone()),
                None => program.of_every_event.push(leaf.clone()),
            }
        }
        program
    }

    /// The leaves that an event of this name may change.
    pub fn leaves_for(&self, event_name: &str) -> impl Iterator<Item = &Arc<Leaf>> {
        let named = self.by_event_name.get(event_name).map(Vec::as_slice).unwrap_or_default();
        named.iter().chain(&self.of_every_event)
    }

    /// The leaf of this id.
    pub fn leaf(&self, id: LeafId) -> Option<&Arc<Leaf>> {
        self.leaves.get(&id)
    }

    /// All leaves, by id.
    pub fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf>> {
        self.leaves.values()
    }
}
