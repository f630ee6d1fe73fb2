//! Parts that several conditions have in common: what stands between `&&` and `||` is evaluated once for a person, whichever
//! condition asks for it first.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};

use super::Scope;
use crate::expression::Expression;
use crate::tree::{Connective, Node, Text};
use crate::value::Value;

/// Names a part by a hash of its canonical text and of the zone that it was parsed in: equal parts have one name, whichever
/// expressions they stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartId(u128);

impl PartId {
    fn of(node: &Node, context: &str) -> PartId {
        // A leaf is named by its id.
        let text = Text { node, leaf: &|_| None }.to_string();
        let digest = Sha256::new().chain_update(context).chain_update([0]).chain_update(text).finalize();
        PartId(digest.iter().take(16).fold(0, |id, byte| (id << 8) | u128::from(*byte)))
    }
}

/// The parts of a tree, in the order in which they are written.
pub(crate) fn parts_of(tree: &Node, context: &str) -> Vec<PartId> {
    match tree {
        Node::And(a, b) | Node::Or(a, b) => [parts_of(a, context), parts_of(b, context)].concat(),
        part => vec![PartId::of(part, context)],
    }
}

fn count_parts(tree: &Node) -> usize {
    match tree {
        Node::And(a, b) | Node::Or(a, b) => count_parts(a) + count_parts(b),
        _ => 1,
    }
}

/// The parts that at least two of a workspace's conditions have, or one of them twice.
#[derive(Debug, Clone, Default)]
pub struct SharedParts(HashSet<PartId, RandomState>);

impl SharedParts {
    /// Those of these conditions.
    pub fn among<'a>(conditions: impl IntoIterator<Item = &'a Expression>) -> SharedParts {
        let mut met: HashSet<PartId, RandomState> = HashSet::default();
        let parts = conditions.into_iter().flat_map(Expression::parts);
        SharedParts(parts.filter(|part| !met.insert(**part)).copied().collect())
    }
}

/// The value of a part, and what it took of the budget of whoever asked first: all others are charged the same, so that what an
/// evaluation may cost does not depend on those before it.
#[derive(Debug)]
struct HeldValue {
    value: Value,
    steps: u64,
    bytes: u64,
}

/// The values of shared parts, of one person as it is at one moment.
#[derive(Debug)]
pub struct PartValues<'p> {
    shared: &'p SharedParts,
    held: RefCell<HashMap<PartId, HeldValue, RandomState>>,
}

impl<'p> PartValues<'p> {
    /// None of them is known yet.
    pub fn new(shared: &'p SharedParts) -> PartValues<'p> {
        PartValues { shared, held: RefCell::default() }
    }

    /// Whether there is nothing that two conditions share.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.0.is_empty()
    }
}

/// True or false, or unknown where what is pending may yet decide; `b` is asked for where `a` does not decide.
pub(super) fn joined(connective: Connective, a: &Value, b: impl FnOnce() -> Value) -> Value {
    let decisive = connective == Connective::Or;
    let a = a.holds();
    if a == Some(decisive) {
        return Value::Bool(decisive);
    }
    match (a, b().holds()) {
        (_, Some(b)) if b == decisive => Value::Bool(decisive),
        (None, _) | (_, None) => Value::Unknown,
        _ => Value::Bool(!decisive),
    }
}

impl Scope<'_> {
    /// [`Scope::evaluate`] of a tree with these parts, with the values of those that are shared.
    pub(crate) fn evaluate_parts(&self, tree: &Node, parts: &[PartId], values: &PartValues<'_>) -> Value {
        let value = self.part(tree, &mut parts.iter(), values);
        if self.budget.is_exhausted() { Value::Unknown } else { value }
    }

    /// The value of what begins with the next of these parts.
    fn part(&self, node: &Node, parts: &mut std::slice::Iter<'_, PartId>, values: &PartValues<'_>) -> Value {
        let (connective, a, b) = match node {
            Node::And(a, b) => (Connective::And, a, b),
            Node::Or(a, b) => (Connective::Or, a, b),
            part => {
                return match parts.next().filter(|id| values.shared.0.contains(*id)) {
                    Some(id) => self.shared(part, *id, values),
                    None => self.value(part, &mut Vec::new()),
                };
            }
        };
        // Where nothing is left, all that follows has no meaning, and nothing of it is held.
        if !self.budget.step(1) {
            return Value::Unknown;
        }
        let a = self.part(a, parts, values);
        let mut is_decided = true;
        let value = joined(connective, &a, || {
            is_decided = false;
            self.part(b, parts, values)
        });
        if is_decided && let Some(skipped) = count_parts(b).checked_sub(1) {
            parts.nth(skipped);
        }
        value
    }

    fn shared(&self, part: &Node, id: PartId, values: &PartValues<'_>) -> Value {
        if let Some(held) = values.held.borrow().get(&id) {
            return if self.budget.take(held.steps, held.bytes) { held.value.clone() } else { Value::Unknown };
        }
        let (steps, bytes) = self.budget.left();
        let value = self.value(part, &mut Vec::new());
        if !self.budget.is_exhausted() {
            let (steps_left, bytes_left) = self.budget.left();
            let held = HeldValue { value: value.clone(), steps: steps - steps_left, bytes: bytes - bytes_left };
            values.held.borrow_mut().insert(id, held);
        }
        value
    }
}
