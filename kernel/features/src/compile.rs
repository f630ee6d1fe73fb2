//! From the tree as written to the compiled one: everything that begins with `events(…)` becomes a leaf.
//!
//! | written | leaf | in its place |
//! | --- | --- | --- |
//! | `L.size()` | count of L | the leaf |
//! | `L.exists(e, p)` | count of L with p | leaf > 0 |
//! | `L.all(e, p)` | count of L without p | leaf == 0 |
//! | `L.exists_one(e, p)` | count of L with p | leaf == 1 |
//! | `L.first().f`, `L.last().f` | earliest, latest `e.f` | the leaf |
//! | `L.map(e, v).A()` with A of sum, min, max, avg, first, last, distinct, size | A of v over L | the leaf |
//! | `L.map(e, v)` | the list of v | the leaf |
//!
//! L is `events(…)` with any number of filters.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::functions::Function;
use crate::leaf::{Aggregate, Leaf};
use crate::tree::{FeatureName, LeafId, Macro, MacroCall, Node, Pace};
use crate::value::{Arithmetic, Comparison, Value};
use crate::window::Window;

/// The compiled tree with its leaves.
pub(crate) struct CompiledTree {
    pub(crate) tree: Node,
    pub(crate) leaves: BTreeMap<LeafId, Arc<Leaf>>,
    /// Whether `now` is used other than by comparing times with it, so that the value changes all the time.
    pub(crate) drifts: bool,
}

/// Compile a checked tree. States kept in one context are not read in another.
pub(crate) fn compile(written: &Node, context: &str) -> CompiledTree {
    let mut leaves = Leaves { context, by_id: BTreeMap::new() };
    let tree = replace(written, &mut leaves);
    let mut drifts = false;
    let (tree, pace) = with_pace(&tree, &mut drifts);
    CompiledTree { tree, leaves: leaves.by_id, drifts: drifts || pace != 0 }
}

/// The leaves found so far.
struct Leaves<'c> {
    context: &'c str,
    by_id: BTreeMap<LeafId, Arc<Leaf>>,
}

/// `events(…)` with its filters, joined.
struct EventSelection {
    name: Arc<str>,
    window: Window,
    filter: Option<Node>,
}

impl EventSelection {
    /// Also meeting this condition.
    fn and(mut self, condition: Node) -> EventSelection {
        self.filter = Some(match self.filter {
            Some(filter) => Node::And(Box::new(filter), Box::new(condition)),
            None => condition,
        });
        self
    }
}

fn chosen(node: &Node) -> Option<EventSelection> {
    match node {
        Node::Events(name, window) => Some(EventSelection { name: name.clone(), window: *window, filter: None }),
        Node::MacroCall(each) if each.kind == Macro::Filter => {
            let condition = each.condition.as_ref()?;
            Some(chosen(&each.over)?.and(of_event(condition)))
        }
        _ => None,
    }
}

/// A list of values made from events: which ones, and what is taken of each.
fn mapped(node: &Node) -> Option<(EventSelection, Node)> {
    let Node::MacroCall(each) = node else { return None };
    if each.kind != Macro::Map {
        return None;
    }
    let of = chosen(&each.over)?;
    let of = match &each.condition {
        Some(condition) => of.and(of_event(condition)),
        None => of,
    };
    Some((of, of_event(each.item.as_ref()?)))
}

/// The node with `e.a.b` made one step.
fn of_event(node: &Node) -> Node {
    let mut path = Vec::new();
    let mut inner = node;
    while let Node::Field(target, name) = inner {
        path.push(name.clone());
        inner = target;
    }
    if matches!(inner, Node::Variable(0)) && !path.is_empty() {
        path.reverse();
        return Node::EventField(path.into());
    }
    node.map_children(&mut of_event)
}

fn aggregate_of(function: Function) -> Option<Aggregate> {
    Some(match function {
        Function::Size => Aggregate::Count,
        Function::Sum => Aggregate::Sum,
        Function::Min => Aggregate::Least,
        Function::Max => Aggregate::Greatest,
        Function::Average => Aggregate::Mean,
        Function::First => Aggregate::First,
        Function::Last => Aggregate::Last,
        Function::Distinct => Aggregate::Distinct,
        _ => return None,
    })
}

fn replace(node: &Node, leaves: &mut Leaves<'_>) -> Node {
    match leaf_node(node, leaves) {
        Some(node) => node,
        None => node.map_children(&mut |child| replace(child, leaves)),
    }
}

/// What stands in place of a node that begins with events, if it does.
fn leaf_node(node: &Node, leaves: &mut Leaves<'_>) -> Option<Node> {
    let mut leaf = |of: EventSelection, item: Option<Node>, aggregate: Aggregate| {
        let leaf = Leaf::new(of.name, of.window, of.filter, item, aggregate, leaves.context);
        let id = leaf.id();
        leaves.by_id.entry(id).or_insert_with(|| Arc::new(leaf));
        Node::Feature(FeatureName::Leaf(id))
    };
    let against = |comparison, leaf, number| {
        Node::Compare(comparison, Box::new(leaf), Box::new(Node::Literal(Value::Int(number))), Pace::NONE)
    };
    match node {
        Node::Call(function, arguments) => {
            let (aggregate, list) = (aggregate_of(*function)?, arguments.first()?);
            if let Some((of, item)) = mapped(list) {
                let item = (aggregate != Aggregate::Count).then_some(item);
                return Some(leaf(of, item, aggregate));
            }
            (aggregate == Aggregate::Count).then(|| chosen(list)).flatten().map(|of| leaf(of, None, aggregate))
        }
        Node::Field(..) => {
            let (of, item, aggregate) = end_of_list(node)?;
            Some(leaf(of, Some(item), aggregate))
        }
        Node::MacroCall(each) => match each.kind {
            Macro::Filter => None,
            Macro::Map => mapped(node).map(|(of, item)| leaf(of, Some(item), Aggregate::List)),
            Macro::Exists => counted(each, Polarity::Meeting)
                .map(|of| against(Comparison::Greater, leaf(of, None, Aggregate::Count), 0)),
            Macro::ExistsOne => counted(each, Polarity::Meeting)
                .map(|of| against(Comparison::Equal, leaf(of, None, Aggregate::Count), 1)),
            Macro::All => counted(each, Polarity::Failing)
                .map(|of| against(Comparison::Equal, leaf(of, None, Aggregate::Count), 0)),
        },
        _ => None,
    }
}

/// `L.first().a.b` or `L.last().a.b`.
fn end_of_list(node: &Node) -> Option<(EventSelection, Node, Aggregate)> {
    let mut path = Vec::new();
    let mut inner = node;
    while let Node::Field(target, name) = inner {
        path.push(name.clone());
        inner = target;
    }
    path.reverse();
    let (aggregate, list) = match inner {
        Node::Call(Function::First, list) => (Aggregate::First, list.first()?),
        Node::Call(Function::Last, list) => (Aggregate::Last, list.first()?),
        _ => return None,
    };
    Some((chosen(list)?, Node::EventField(path.into()), aggregate))
}

/// Which events a quantifier counts: those that meet its condition, or those that do not.
#[derive(Clone, Copy)]
enum Polarity {
    Meeting,
    Failing,
}

fn counted(each: &MacroCall, which: Polarity) -> Option<EventSelection> {
    let condition = of_event(each.condition.as_ref()?);
    let condition = match which {
        Polarity::Meeting => condition,
        Polarity::Failing => Node::Not(Box::new(condition)),
    };
    Some(chosen(&each.over)?.and(condition))
}

/// Note on each comparison how fast its sides drift apart while time passes; the second result is the pace of the node
/// itself: 1 for `now` and `now - x`, −1 for `x - now`. `drifts` is set where a moving value is used in another way.
fn with_pace(node: &Node, drifts: &mut bool) -> (Node, i8) {
    let mut paces = Vec::new();
    let changed = node.map_children(&mut |child| {
        let (child, pace) = with_pace(child, drifts);
        paces.push(pace);
        child
    });
    let pace = match (&changed, paces.as_slice()) {
        (Node::Now, _) => return (changed, 1),
        (Node::Negate(_), [pace]) => pace.checked_neg(),
        (Node::Calculate(Arithmetic::Add, ..), [a, b]) => a.checked_add(*b),
        (Node::Calculate(Arithmetic::Subtract, ..), [a, b]) => a.checked_sub(*b),
        // Its next value is found where it is evaluated.
        (Node::Call(function, _), [1]) if function.is_of_calendar() => Some(0),
        (Node::Choose(_), [0, yes, no]) if yes == no => Some(*yes),
        (Node::Compare(comparison, left, right, _), [a, b]) => match a.checked_sub(*b) {
            Some(pace) => return (Node::Compare(*comparison, left.clone(), right.clone(), Pace(pace)), 0),
            None => None,
        },
        (_, paces) if paces.iter().all(|pace| *pace == 0) => Some(0),
        _ => None,
    };
    *drifts |= pace.is_none();
    (changed, pace.unwrap_or(0))
}
