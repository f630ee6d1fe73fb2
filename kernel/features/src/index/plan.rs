//! From a condition to set algebra over columns, and its evaluation.
//!
//! A condition holds, does not hold, or is unknown, and De Morgan's laws hold for these three. So negations are pushed down to
//! single comparisons, and of each of these only the set for which it holds (or, below a negation, does not) is needed; a
//! profile for which it is unknown is in neither.

use std::borrow::Cow;

use kith_model::time::Timestamp;
use roaring::RoaringBitmap;

use super::column::{Column, Parts};
use super::{Index, Side};
use crate::budget::{MAX_STEPS, worst_case};
use crate::eval::Scope;
use crate::facts::{Facts, NoFacts};
use crate::tree::{FeatureName, LeafId, Node};
use crate::value::{Arithmetic, Comparison, Value};
use crate::zone::Zone;

/// A set of profiles.
#[derive(Debug, Clone)]
pub(super) enum Plan<'a> {
    Everybody,
    /// The union; no profile is in two parts.
    Parts(Parts<'a>),
    All(Vec<Plan<'a>>),
    Any(Vec<Plan<'a>>),
    /// Everybody else.
    Except(Box<Plan<'a>>),
}

impl<'a> Plan<'a> {
    fn nobody() -> Plan<'a> {
        Plan::Parts(Parts::default())
    }

    fn bitmap(bitmap: &'a RoaringBitmap) -> Plan<'a> {
        Plan::Parts(Parts { bitmaps: vec![bitmap], ..Parts::default() })
    }

    fn constant(holds: bool) -> Plan<'a> {
        if holds { Plan::Everybody } else { Plan::nobody() }
    }

    fn is_nobody(&self) -> bool {
        matches!(self, Plan::Parts(parts) if parts.is_empty())
    }

    fn except(self) -> Plan<'a> {
        match self {
            Plan::Everybody => Plan::nobody(),
            Plan::Except(plan) => *plan,
            plan if plan.is_nobody() => Plan::Everybody,
            plan => Plan::Except(Box::new(plan)),
        }
    }

    fn all(plans: impl IntoIterator<Item = Plan<'a>>) -> Plan<'a> {
        let mut parts = Vec::new();
        for plan in plans {
            match plan {
                Plan::Everybody => {}
                Plan::All(inner) => parts.extend(inner),
                plan if plan.is_nobody() => return plan,
                plan => parts.push(plan),
            }
        }
        match parts.len() {
            0 => Plan::Everybody,
            1 => parts.remove(0),
            _ => Plan::All(parts),
        }
    }

    fn any(plans: impl IntoIterator<Item = Plan<'a>>) -> Plan<'a> {
        let mut parts = Vec::new();
        for plan in plans {
            match plan {
                Plan::Everybody => return Plan::Everybody,
                Plan::Any(inner) => parts.extend(inner),
                plan if plan.is_nobody() => {}
                plan => parts.push(plan),
            }
        }
        match parts.len() {
            0 => Plan::nobody(),
            1 => parts.remove(0),
            _ => Plan::Any(parts),
        }
    }

    /// Whether columns of numbers are looked through; that is left for the last, on who is still in question.
    fn looks_through(&self) -> bool {
        match self {
            Plan::Everybody => false,
            Plan::Parts(parts) => !parts.ranges.is_empty(),
            Plan::All(plans) | Plan::Any(plans) => plans.iter().any(Plan::looks_through),
            Plan::Except(plan) => plan.looks_through(),
        }
    }

    /// At most how many profiles.
    fn at_most(&self, population: u64) -> u64 {
        match self {
            Plan::Everybody | Plan::Except(_) => population,
            Plan::Parts(parts) => {
                let bitmaps: u64 = parts.bitmaps.iter().map(|bitmap| bitmap.len()).sum();
                bitmaps
                    + parts.singles.len() as u64
                    + parts.ranges.iter().map(|(numbers, _)| numbers.len()).sum::<u64>()
            }
            Plan::All(plans) => plans.iter().map(|plan| plan.at_most(population)).min().unwrap_or(population),
            Plan::Any(plans) => plans.iter().map(|plan| plan.at_most(population)).sum::<u64>().min(population),
        }
    }
}

/// The value of one feature, and null for all others.
struct SingleFeature<'a> {
    name: &'a FeatureName,
    value: &'a Value,
}

impl SingleFeature<'_> {
    fn get(&self, matches: impl Fn(&FeatureName) -> bool) -> Value {
        if matches(self.name) { self.value.clone() } else { Value::Null }
    }
}

impl Facts for SingleFeature<'_> {
    fn trait_value(&self, name: &str) -> Value {
        self.get(|feature| matches!(feature, FeatureName::Trait(own) if **own == *name))
    }

    fn tag_value(&self, name: &str) -> Value {
        self.get(|feature| matches!(feature, FeatureName::Tag(own) if **own == *name))
    }

    fn score_value(&self, name: &str) -> Value {
        self.get(|feature| matches!(feature, FeatureName::Score(own) if **own == *name))
    }

    fn created_at(&self) -> Option<Timestamp> {
        self.get(|feature| matches!(feature, FeatureName::CreatedAt)).as_time(&Zone::utc())
    }

    fn identifiers(&self, kind: &str) -> Value {
        self.get(|feature| matches!(feature, FeatureName::Identifiers(own) if **own == *kind))
    }
}

/// Makes plans of conditions at one moment, and carries them out.
pub(super) struct Planner<'a> {
    index: &'a Index,
    now: Timestamp,
    zone: &'a Zone,
}

impl<'a> Planner<'a> {
    pub(super) fn new(index: &'a Index, now: Timestamp, zone: &'a Zone) -> Planner<'a> {
        Planner { index, now, zone }
    }

    /// The profiles on one side of the condition.
    pub(super) fn plan(&self, node: &Node, side: Side) -> Option<Plan<'a>> {
        let both = |a: &Node, b: &Node| Some([self.plan(a, side)?, self.plan(b, side)?]);
        match node {
            Node::And(a, b) if side == Side::Holds => both(a, b).map(Plan::all),
            Node::Or(a, b) if side == Side::Fails => both(a, b).map(Plan::all),
            Node::And(a, b) | Node::Or(a, b) => both(a, b).map(Plan::any),
            Node::Not(operand) => self.plan(operand, side.other()),
            Node::Choose(parts) => {
                let (holds, pending) = (self.plan(&parts[0], Side::Holds)?, self.unknown(&parts[0])?);
                // Two values that are not true may be different ones.
                let is_told = side == Side::Holds || pending.is_nobody() || parts[1..].iter().all(Node::is_always_bool);
                if !is_told {
                    return None;
                }
                let (yes, no) = (self.plan(&parts[1], side)?, self.plan(&parts[2], side)?);
                let fails = Plan::any([holds.clone(), pending.clone()]).except();
                // Where the condition is unknown, equal branches decide.
                let either = Plan::all([pending, yes.clone(), no.clone()]);
                Some(Plan::any([Plan::all([holds, yes]), Plan::all([fails, no]), either]))
            }
            Node::Feature(name) => self.decided(name, Comparison::Equal, &Value::Bool(true), side),
            Node::Has(target) => match target.as_ref() {
                Node::Feature(name) => {
                    let comparison = if side == Side::Holds { Comparison::NotEqual } else { Comparison::Equal };
                    self.decided(name, comparison, &Value::Null, Side::Holds)
                }
                _ => self.by_value(node, side),
            },
            Node::Compare(comparison, a, b, _) => {
                self.comparison(*comparison, a, b, side).or_else(|| self.by_value(node, side))
            }
            Node::In(item, list) => self.contained(item, list, side).or_else(|| self.by_value(node, side)),
            _ => self.by_value(node, side),
        }
    }

    /// The profiles with a pending value in something that the condition reads, for which it is neither true, as `holds`
    /// says, nor false.
    pub(super) fn undecided(&self, node: &Node, holds: &Plan<'a>) -> Option<RoaringBitmap> {
        let mut pending = RoaringBitmap::new();
        self.pending_columns(node).into_iter().for_each(|unknown| pending |= unknown);
        if pending.is_empty() {
            return Some(pending);
        }
        let fails = self.plan(node, Side::Fails)?;
        for decided in [holds, &fails] {
            let decided = self.select(decided, Some(&pending)).into_owned();
            pending -= decided;
        }
        Some(pending)
    }

    /// The profiles for which a condition is unknown; `None` where set algebra cannot tell.
    fn unknown(&self, node: &Node) -> Option<Plan<'a>> {
        if self.pending_columns(node).is_empty() {
            return Some(Plan::nobody());
        }
        match node {
            Node::And(a, b) | Node::Or(a, b) => {
                // `&&` is decided by an operand that does not hold, `||` by one that does.
                let decisive = if matches!(node, Node::And(..)) { Side::Fails } else { Side::Holds };
                let either = Plan::any([self.unknown(a)?, self.unknown(b)?]);
                let decided = Plan::any([self.plan(a, decisive)?, self.plan(b, decisive)?]);
                Some(Plan::all([either, decided.except()]))
            }
            Node::Not(operand) => self.unknown(operand),
            // Whether the branches are equal cannot be told from their truth.
            Node::Choose(parts) if !self.pending_columns(&parts[0]).is_empty() => None,
            Node::Choose(parts) => {
                let holds = self.plan(&parts[0], Side::Holds)?;
                let yes = Plan::all([holds.clone(), self.unknown(&parts[1])?]);
                let no = Plan::all([holds.except(), self.unknown(&parts[2])?]);
                Some(Plan::any([yes, no]))
            }
            _ => {
                let name = only_feature(node)?;
                let column = self.index.column(&name)?;
                let strict = self.value_given(node, &name, &Value::Unknown).is_unknown();
                Some(if strict { Plan::bitmap(&column.unknown) } else { Plan::nobody() })
            }
        }
    }

    /// The pending profiles of each column that a node reads, where there are any.
    fn pending_columns(&self, node: &Node) -> Vec<&'a RoaringBitmap> {
        let columns = features(node).into_iter().filter_map(|name| self.index.column(&name));
        columns.map(|column| &column.unknown).filter(|unknown| !unknown.is_empty()).collect()
    }

    /// The value of a node that reads no feature. Where its budget ends it has none, and people are asked one by one.
    fn constant(&self, node: &Node) -> Option<Value> {
        let reads = node.any(&mut |node| matches!(node, Node::Feature(_)));
        let value = || Scope::new(&NoFacts, &|_| Value::Null, self.now, self.zone).evaluate(node);
        (!reads).then(value).filter(|value| !value.is_unknown())
    }

    fn comparison(&self, comparison: Comparison, a: &Node, b: &Node, side: Side) -> Option<Plan<'a>> {
        match (self.constant(a), self.constant(b)) {
            (Some(a), Some(b)) => {
                Some(Plan::constant(a.compared(comparison, &b, self.zone) == Value::Bool(side == Side::Holds)))
            }
            (None, Some(b)) => self.against(comparison, a, &b, side),
            (Some(a), None) => self.against(comparison.swapped(), b, &a, side),
            (None, None) => None,
        }
    }

    /// A feature, or a sum or difference of it with a constant, against a constant.
    fn against(&self, comparison: Comparison, node: &Node, literal: &Value, side: Side) -> Option<Plan<'a>> {
        let (operator, a, b) = match node {
            Node::Feature(name) => return self.decided(name, comparison, literal, side),
            Node::Calculate(operator @ (Arithmetic::Add | Arithmetic::Subtract), a, b) => (*operator, a, b),
            _ => return None,
        };
        // Only with times: there, moving a term to the other side loses nothing.
        let (feature, term, first) = match (a.as_ref(), b.as_ref()) {
            (Node::Feature(name), term) => (name, self.constant(term)?, true),
            (term, Node::Feature(name)) => (name, self.constant(term)?, false),
            _ => return None,
        };
        let (comparison, other) = match (operator, first, &term, literal) {
            // x + d ⋛ t and d + x ⋛ t
            (Arithmetic::Add, _, Value::Duration(_), Value::Time(_)) => {
                (comparison, literal.calculate(Arithmetic::Subtract, &term, self.zone))
            }
            // x − d ⋛ t and x − t ⋛ d
            (Arithmetic::Subtract, true, Value::Duration(_), Value::Time(_))
            | (Arithmetic::Subtract, true, Value::Time(_), Value::Duration(_)) => {
                (comparison, literal.calculate(Arithmetic::Add, &term, self.zone))
            }
            // t − x ⋛ d
            (Arithmetic::Subtract, false, Value::Time(_), Value::Duration(_)) => {
                (comparison.swapped(), term.calculate(Arithmetic::Subtract, literal, self.zone))
            }
            _ => return None,
        };
        matches!(other, Value::Time(_)).then(|| self.decided(feature, comparison, &other, side))?
    }

    /// The profiles whose value of a feature compares so with a literal, or is known and does not.
    fn decided(&self, name: &FeatureName, comparison: Comparison, literal: &Value, side: Side) -> Option<Plan<'a>> {
        let (comparison, side) = match comparison {
            Comparison::NotEqual => (Comparison::Equal, side.other()),
            comparison => (comparison, side),
        };
        let column = self.index.column(name)?;
        let stored = Plan::Parts(column.compared(comparison, literal, self.zone)?);
        let default = column.default.compared(comparison, literal, self.zone).is_true();
        let holds = with_default(column, stored, default);
        Some(if side == Side::Fails { known_except(column, holds) } else { holds })
    }

    fn contained(&self, item: &Node, list: &Node, side: Side) -> Option<Plan<'a>> {
        let (Node::Feature(name), Some(list)) = (item, self.constant(list)) else { return None };
        if matches!(list, Value::Map(_)) {
            return None;
        }
        let items = list.into_items()?;
        let plans: Option<Vec<Plan<'a>>> =
            items.iter().map(|item| self.decided(name, Comparison::Equal, item, Side::Holds)).collect();
        let plan = Plan::any(plans?);
        Some(if side == Side::Fails { known_except(self.index.column(name)?, plan) } else { plan })
    }

    /// A condition of any form on one feature with few different values: it is evaluated once for each, where that is cheap;
    /// the index waits meanwhile.
    fn by_value(&self, node: &Node, side: Side) -> Option<Plan<'a>> {
        if let Some(value) = self.constant(node) {
            return Some(Plan::constant(value.holds() == Some(side == Side::Holds)));
        }
        let name = only_feature(node)?;
        let column = self.index.column(&name)?;
        // A value that is there is unknown only where the evaluation's budget ended: then people are asked one by one.
        let meets = |value: &Value| match self.value_given(node, &name, value) {
            Value::Unknown if !value.is_unknown() => None,
            value => Some(value.holds() == Some(side == Side::Holds)),
        };
        let values = column.values()?;
        if worst_case(node).0.saturating_mul(values.len() as u64) > 10 * MAX_STEPS {
            return None;
        }
        let mut bitmaps = Vec::new();
        for (value, bitmap) in values {
            if meets(&value)? {
                bitmaps.push(bitmap);
            }
        }
        let stored = Plan::Parts(Parts { bitmaps, ..Parts::default() });
        Some(with_default(column, stored, meets(&column.default)?))
    }

    /// The value of a node that reads one feature, given that feature's value.
    fn value_given(&self, node: &Node, name: &FeatureName, value: &Value) -> Value {
        let leaf_value = |id: LeafId| if *name == FeatureName::Leaf(id) { value.clone() } else { Value::Null };
        Scope::new(&SingleFeature { name, value }, &leaf_value, self.now, self.zone).evaluate(node)
    }

    /// The profiles of the plan, of those within.
    pub(super) fn select(&self, plan: &Plan<'a>, within: Option<&RoaringBitmap>) -> Cow<'a, RoaringBitmap> {
        match plan {
            Plan::Everybody => match within {
                Some(within) => Cow::Owned(within.clone()),
                None => Cow::Borrowed(self.index.population()),
            },
            Plan::Parts(parts) => parts.select(within),
            Plan::All(plans) => {
                let mut selected: Option<Cow<'a, RoaringBitmap>> = None;
                for plan in self.in_order(plans) {
                    let next = self.select(plan, selected.as_deref().or(within));
                    let done = next.is_empty();
                    selected = Some(next);
                    if done {
                        break;
                    }
                }
                selected.unwrap_or_default()
            }
            Plan::Any(plans) => {
                let mut selected = RoaringBitmap::new();
                plans.iter().for_each(|plan| selected |= self.select(plan, within).as_ref());
                Cow::Owned(selected)
            }
            Plan::Except(plan) => {
                let base = within.unwrap_or(self.index.population());
                Cow::Owned(base - self.select(plan, within).as_ref())
            }
        }
    }

    /// How many profiles of the plan are within.
    pub(super) fn count(&self, plan: &Plan<'a>, within: Option<&RoaringBitmap>) -> u64 {
        match plan {
            Plan::Everybody => within.unwrap_or(self.index.population()).len(),
            Plan::Parts(parts) => {
                let bitmaps = parts.bitmaps.iter().map(|bitmap| match within {
                    Some(within) => bitmap.intersection_len(within),
                    None => bitmap.len(),
                });
                let ranges = parts.ranges.iter().map(|(numbers, range)| numbers.count(*range, within));
                let singles =
                    parts.singles.iter().filter(|single| within.is_none_or(|within| within.contains(**single)));
                bitmaps.chain(ranges).sum::<u64>() + singles.count() as u64
            }
            Plan::All(plans) => {
                let ordered = self.in_order(plans);
                let Some((last, first)) = ordered.split_last() else { return 0 };
                let first: Vec<Plan<'a>> = first.iter().map(|plan| (*plan).clone()).collect();
                let selected = self.select(&Plan::all(first), within);
                if selected.is_empty() { 0 } else { self.count(last, Some(&selected)) }
            }
            Plan::Any(_) => self.select(plan, within).len(),
            Plan::Except(plan) => within.unwrap_or(self.index.population()).len() - self.count(plan, within),
        }
    }

    /// The most selective first; what looks through numbers last; what takes few away between.
    fn in_order<'p>(&self, plans: &'p [Plan<'a>]) -> Vec<&'p Plan<'a>> {
        let population = self.index.population().len();
        let mut ordered: Vec<&Plan<'a>> = plans.iter().collect();
        ordered.sort_by_cached_key(|plan| (plan.looks_through(), plan.at_most(population)));
        ordered
    }
}

/// The stored profiles of a plan, and with `default` those that have the column's default.
fn with_default<'a>(column: &'a Column, stored: Plan<'a>, default: bool) -> Plan<'a> {
    if !default {
        return stored;
    }
    // Who is stored but not in the plan is who is left out.
    Plan::any([stored, Plan::Parts(column.stored()).except()])
}

/// The profiles of a column that are neither in the plan, which is of this column alone, nor pending.
fn known_except<'a>(column: &'a Column, plan: Plan<'a>) -> Plan<'a> {
    match plan {
        plan if column.unknown.is_empty() => plan.except(),
        Plan::Parts(mut parts) => {
            parts.bitmaps.push(&column.unknown);
            Plan::Parts(parts).except()
        }
        plan => Plan::any([plan, Plan::bitmap(&column.unknown)]).except(),
    }
}

/// The features that a node reads, each once.
fn features(node: &Node) -> Vec<FeatureName> {
    let mut names: Vec<FeatureName> = Vec::new();
    node.any(&mut |node| {
        if let Node::Feature(name) = node
            && !names.contains(name)
        {
            names.push(name.clone());
        }
        false
    });
    names
}

/// The feature that a node reads, where it is one.
fn only_feature(node: &Node) -> Option<FeatureName> {
    let mut names = features(node);
    names.pop().filter(|_| names.is_empty())
}
