//! From a change to the expressions that it may concern.
//!
//! An expression that compares a leaf with numbers only, as `orders >= 3` does, is looked at when a step of the leaf
//! crosses one of them; the thresholds of all expressions on a leaf stand in one ordered list, so that a step finds those
//! between its ends by binary search. Every other expression is looked at whenever something that it reads changes.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use kith_model::time::Timestamp;

use crate::eval::Scope;
use crate::expression::Expression;
use crate::facts::NoFacts;
use crate::tree::{FeatureName, LeafId, Node};
use crate::value::{Comparison, Value};
use crate::zone::Zone;

/// Which readers (audiences, model inputs; a number each, the caller's) a change may concern. A reader that is not visited
/// has the same value after the change as before.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    by_leaf: HashMap<LeafId, LeafReaders, RandomState>,
    /// Readers by what they read, but for leaves.
    by_feature: HashMap<FeatureName, Vec<u32>, RandomState>,
}

/// The readers of one leaf.
#[derive(Debug, Clone, Default)]
struct LeafReaders {
    /// All of them.
    all: Vec<u32>,
    /// Those that any change may concern.
    any_change: Vec<u32>,
    /// In ascending order of place.
    edges: Vec<Edge>,
    /// Numbers that readers compare with by `==` or `!=`, ascending.
    equalities: Vec<(Value, Vec<u32>)>,
}

/// A place on the line of numbers at which comparisons turn out otherwise, with the readers that make them.
#[derive(Debug, Clone)]
struct Edge {
    number: Value,
    side: Side,
    readers: Vec<u32>,
}

/// On which side of its number an edge lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// `<` and `>=` turn between what is below the number and the number.
    Below,
    /// `<=` and `>` turn between the number and what is above it.
    Above,
}

/// How one expression uses features.
#[derive(Default)]
struct Uses {
    thresholds: Vec<(LeafId, Comparison, Value)>,
    /// Leaves that are used otherwise than by comparing them with a number.
    other: BTreeSet<LeafId>,
    features: BTreeSet<FeatureName>,
}

impl Reach {
    /// The reach of changes into these expressions.
    pub fn new<'a>(readers: impl IntoIterator<Item = (u32, &'a Expression)>) -> Reach {
        let mut reach = Reach::default();
        for (reader, expression) in readers {
            let mut uses = Uses::default();
            uses.note(expression.compiled(), expression.zone());
            reach.add(reader, uses);
        }
        reach
    }

    fn add(&mut self, reader: u32, uses: Uses) {
        for feature in uses.features {
            self.by_feature.entry(feature).or_default().push(reader);
        }
        let thresholds = uses.thresholds.iter().map(|(leaf, ..)| *leaf);
        let leaves: BTreeSet<LeafId> = thresholds.chain(uses.other.iter().copied()).collect();
        for leaf in leaves {
            self.by_leaf.entry(leaf).or_default().all.push(reader);
        }
        for leaf in &uses.other {
            self.by_leaf.entry(*leaf).or_default().any_change.push(reader);
        }
        for (leaf, comparison, number) in uses.thresholds {
            if !uses.other.contains(&leaf) {
                self.by_leaf.entry(leaf).or_default().add(reader, comparison, number);
            }
        }
    }

    /// Visit each reader once that a change of the leaf from `before` to `after` may concern.
    pub fn for_leaf(&self, leaf: LeafId, before: &Value, after: &Value, mut visit: impl FnMut(u32)) {
        let Some(readers) = self.by_leaf.get(&leaf).filter(|_| before != after) else { return };
        let Some(order) = number_order(before, after) else {
            // To or from null, unknown or no number at all, every comparison may turn.
            return readers.all.iter().copied().for_each(visit);
        };
        let mut concerned = readers.any_change.clone();
        if order.is_ne() {
            let (low, high) = if order.is_lt() { (before, after) } else { (after, before) };
            let crossed = readers.place(low)..readers.place(high);
            readers.edges[crossed].iter().for_each(|edge| concerned.extend(&edge.readers));
            for number in [before, after] {
                concerned.extend(readers.equal_to(number));
            }
        }
        concerned.sort_unstable();
        concerned.dedup();
        concerned.into_iter().for_each(&mut visit);
    }

    /// Visit each reader of a feature: a trait, a tag, a score, the time of creation, a type of identifiers.
    pub fn for_feature(&self, feature: &FeatureName, visit: impl FnMut(u32)) {
        let readers = match feature {
            FeatureName::Leaf(leaf) => self.by_leaf.get(leaf).map(|readers| &readers.all),
            feature => self.by_feature.get(feature),
        };
        readers.into_iter().flatten().copied().for_each(visit);
    }
}

impl LeafReaders {
    fn add(&mut self, reader: u32, comparison: Comparison, number: Value) {
        let side = match comparison {
            Comparison::Equal | Comparison::NotEqual => {
                let place = self.equalities.binary_search_by(|(held, _)| total_order(held, &number));
                match place {
                    Ok(place) => self.equalities[place].1.push(reader),
                    Err(place) => self.equalities.insert(place, (number, vec![reader])),
                }
                return;
            }
            Comparison::Less | Comparison::GreaterOrEqual => Side::Below,
            Comparison::LessOrEqual | Comparison::Greater => Side::Above,
        };
        let place =
            self.edges.binary_search_by(|edge| total_order(&edge.number, &number).then_with(|| edge.side.cmp(&side)));
        match place {
            Ok(place) => self.edges[place].readers.push(reader),
            Err(place) => self.edges.insert(place, Edge { number, side, readers: vec![reader] }),
        }
    }

    /// How many edges lie below the number.
    fn place(&self, number: &Value) -> usize {
        self.edges.partition_point(|edge| match edge.side {
            Side::Below => total_order(&edge.number, number).is_le(),
            Side::Above => total_order(&edge.number, number).is_lt(),
        })
    }

    fn equal_to(&self, number: &Value) -> &[u32] {
        let place = self.equalities.binary_search_by(|(held, _)| total_order(held, number));
        place.map_or(&[], |place| &self.equalities[place].1)
    }
}

impl Uses {
    fn note(&mut self, node: &Node, zone: &Zone) {
        if let Node::Compare(comparison, a, b, _) = node {
            for (comparison, leaf, other) in [(*comparison, a, b), (comparison.swapped(), b, a)] {
                if let (Node::Feature(FeatureName::Leaf(leaf)), Some(number)) =
                    (leaf.as_ref(), constant_number(other, zone))
                {
                    self.thresholds.push((*leaf, comparison, number));
                    return;
                }
            }
        }
        match node {
            Node::Feature(FeatureName::Leaf(leaf)) => drop(self.other.insert(*leaf)),
            Node::Feature(feature) => drop(self.features.insert(feature.clone())),
            _ => {}
        }
        node.children().into_iter().for_each(|child| self.note(child, zone));
    }
}

/// The value of a node that is the same number for everybody at all times.
fn constant_number(node: &Node, zone: &Zone) -> Option<Value> {
    let varies = node.any(&mut |node| matches!(node, Node::Feature(_) | Node::Now | Node::Variable(_)));
    let constant = || Scope::new(&NoFacts, &|_| Value::Null, Timestamp(0), zone).evaluate(node);
    (!varies).then(constant).filter(is_number)
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

/// The order of two numbers; `None` where one is none.
fn number_order(a: &Value, b: &Value) -> Option<Ordering> {
    (is_number(a) && is_number(b)).then(|| total_order(a, b))
}

/// The language's order between numbers, which is total: no NaN is a value.
fn total_order(a: &Value, b: &Value) -> Ordering {
    debug_assert!(is_number(a) && is_number(b), "{a} and {b} are not both numbers");
    a.compare_alike(b).unwrap_or(Ordering::Equal)
}
