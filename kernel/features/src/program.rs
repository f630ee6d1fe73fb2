//! All expressions of a workspace together: which leaves there are and which of them an event can feed.
//!
//! A leaf is found by the name of its events and, where its filter demands one, by a value: `e.sku == 'A1'` and
//! `e.plan in ['gold', 'silver']` at the top of a filter hold for no event with another value there, so that a thousand
//! leaves over a thousand articles cost one look-up for each event. There is no index by the mere presence of a property,
//! because `!has(e.coupon)` holds on what is absent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::event::EventFacts;
use crate::expression::Expression;
use crate::leaf::Leaf;
use crate::tree::{LeafId, Node};
use crate::value::{Comparison, Value, parse_moment};

/// The leaves of a set of expressions, each once.
#[derive(Debug, Clone, Default)]
pub struct Program {
    leaves: BTreeMap<LeafId, Arc<Leaf>>,
    /// The same, to be asked some times for each event.
    by_id: HashMap<LeafId, Arc<Leaf>, RandomState>,
    by_event_name: HashMap<String, Routes, RandomState>,
    of_every_event: Routes,
}

impl Program {
    /// Collect the leaves of these expressions.
    pub fn new<'a>(expressions: impl IntoIterator<Item = &'a Expression>) -> Program {
        let leaves: BTreeMap<LeafId, Arc<Leaf>> =
            expressions.into_iter().flat_map(Expression::leaves).map(|leaf| (leaf.id(), leaf.clone())).collect();
        let mut by_name: HashMap<Option<&str>, Vec<&Arc<Leaf>>> = HashMap::new();
        for leaf in leaves.values() {
            by_name.entry(leaf.event_name()).or_default().push(leaf);
        }
        let mut program = Program::default();
        for (name, leaves) in by_name {
            match name {
                Some(name) => drop(program.by_event_name.insert(name.to_owned(), Routes::of(&leaves))),
                None => program.of_every_event = Routes::of(&leaves),
            }
        }
        program.by_id = leaves.iter().map(|(id, leaf)| (*id, Arc::clone(leaf))).collect();
        Program { leaves, ..program }
    }

    /// The leaves that an event may change. All others stay as they are.
    pub fn leaves_for<'p>(&'p self, event: &'p EventFacts<'_>) -> impl Iterator<Item = &'p Arc<Leaf>> {
        let named = self.by_event_name.get(event.name());
        let unnamed = event.is_activity().then_some(&self.of_every_event);
        named.into_iter().chain(unnamed).flat_map(move |routes| routes.leaves_for(event))
    }

    /// The leaf of this id.
    pub fn leaf(&self, id: LeafId) -> Option<&Arc<Leaf>> {
        self.by_id.get(&id)
    }

    /// All leaves, by id.
    pub fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf>> {
        self.leaves.values()
    }
}

type Path = Arc<[Arc<str>]>;
type ByValue = HashMap<Key, Vec<Arc<Leaf>>, RandomState>;

/// The ways from the events of one name to leaves.
#[derive(Debug, Clone, Default)]
struct Routes {
    /// Leaves that every event of the name may feed.
    plain: Vec<Arc<Leaf>>,
    /// Leaves that demand a value of a field: for each field the leaves by value.
    by_value: Vec<(Path, ByValue)>,
}

impl Routes {
    fn of(leaves: &[&Arc<Leaf>]) -> Routes {
        let demands: Vec<Vec<Demand>> = leaves.iter().map(|leaf| demands(leaf.filter())).collect();
        let mut uses: HashMap<(&Path, &Key), usize> = HashMap::new();
        for demand in demands.iter().flatten() {
            demand.keys.iter().for_each(|key| *uses.entry((&demand.path, key)).or_default() += 1);
        }
        let shared = |demand: &Demand| demand.keys.iter().map(|key| uses[&(&demand.path, key)]).sum::<usize>();
        let mut routes = Routes::default();
        let mut places: HashMap<Path, usize> = HashMap::new();
        for (leaf, demands) in leaves.iter().zip(&demands) {
            // Of several the one that the fewest others share: `e.sku == 'A1'` rather than `e.currency == 'EUR'`.
            let Some(demand) = demands.iter().min_by_key(|demand| shared(demand)) else {
                routes.plain.push((*leaf).clone());
                continue;
            };
            let place = *places.entry(demand.path.clone()).or_insert_with(|| {
                routes.by_value.push((demand.path.clone(), ByValue::default()));
                routes.by_value.len() - 1
            });
            for key in &demand.keys {
                routes.by_value[place].1.entry(key.clone()).or_default().push((*leaf).clone());
            }
        }
        routes
    }

    fn leaves_for<'p>(&'p self, event: &'p EventFacts<'_>) -> impl Iterator<Item = &'p Arc<Leaf>> {
        let demanding = self.by_value.iter().filter_map(|(path, leaves)| leaves.get(&key(&event.field(path))?));
        self.plain.iter().chain(demanding.flatten())
    }
}

/// A condition that holds only for events with one of these values in a field.
struct Demand {
    path: Path,
    /// Each once.
    keys: Vec<Key>,
}

/// A value by the language's equality: equal values have equal keys. A text that is a number equals that number, and so do
/// all texts that are; whether they equal each other is for the condition to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Int(i64),
    /// The bits of a float that is no whole number of 64 bits.
    Float(u64),
    Text(Arc<str>),
}

/// The key of an event's value. Values of other kinds equal no literal that has a key.
fn key(value: &Value) -> Option<Key> {
    Some(match value {
        Value::Bool(truth) => Key::Bool(*truth),
        Value::Int(number) => Key::Int(*number),
        Value::Float(number) => match value.as_whole() {
            Some(whole) => Key::Int(whole),
            None => Key::Float(number.to_bits()),
        },
        Value::Text(text) => match value.as_number() {
            Some(number) => return key(&number),
            None => Key::Text(text.clone()),
        },
        _ => return None,
    })
}

/// The key of a literal. A text that names a moment equals times too, so it has none.
fn literal_key(literal: &Value) -> Option<Key> {
    let is_moment = matches!(literal, Value::Text(text) if parse_moment(text).is_some());
    if is_moment { None } else { key(literal) }
}

/// The demands that a filter makes: all of them must hold.
fn demands(filter: Option<&Node>) -> Vec<Demand> {
    let mut demands = Vec::new();
    let mut open: Vec<&Node> = filter.into_iter().collect();
    while let Some(node) = open.pop() {
        match node {
            Node::And(a, b) => open.extend([b.as_ref(), a.as_ref()]),
            Node::Compare(Comparison::Equal, a, b, _) => match (a.as_ref(), b.as_ref()) {
                (Node::EventField(path), Node::Literal(literal)) | (Node::Literal(literal), Node::EventField(path)) => {
                    demands.extend(demand(path, std::slice::from_ref(literal)));
                }
                _ => {}
            },
            Node::In(item, list) => {
                if let (Node::EventField(path), Node::Literal(Value::List(literals))) = (item.as_ref(), list.as_ref()) {
                    demands.extend(demand(path, literals));
                }
            }
            _ => {}
        }
    }
    demands
}

fn demand(path: &Path, literals: &[Value]) -> Option<Demand> {
    let mut keys = Vec::new();
    for literal in literals {
        let key = literal_key(literal)?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Some(Demand { path: path.clone(), keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeafState;
    use crate::tests::{at, event};
    use crate::zone::Zone;

    fn program(texts: impl IntoIterator<Item = String>) -> Program {
        let expressions: Vec<Expression> = texts.into_iter().map(|text| Expression::parse(&text).unwrap()).collect();
        Program::new(&expressions)
    }

    #[test]
    fn a_thousand_leaves_over_one_property_cost_one_look_up() {
        let by_article =
            (0..1_000).map(|n| format!("events('order').exists(e, e.currency == 'EUR' && e.sku == 'a{n}')"));
        let program = program(by_article);
        let routes = &program.by_event_name["order"];
        assert_eq!((program.leaves().count(), routes.plain.len(), routes.by_value.len()), (1_000, 0, 1));
        assert_eq!(routes.by_value[0].0.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["sku"]);
        let order = |properties| event("order", at("2026-11-21T10:00:00Z"), "m1", properties);
        for (properties, fed) in [(r#"{"sku":"a7","currency":"EUR"}"#, 1), (r#"{"sku":"b"}"#, 0), ("", 0)] {
            let order = order(properties);
            assert_eq!(program.leaves_for(&EventFacts::new(&order, "shop")).count(), fed, "{properties}");
        }
    }

    #[test]
    fn a_leaf_is_found_by_every_value_that_equals_its_literal() {
        // Condition, properties, and whether the index may leave the leaf out.
        for (condition, properties, fed) in [
            ("e.x == 1", r#"{"x":1.0}"#, true),
            ("1.0 == e.x", r#"{"x":1}"#, true),
            ("e.x == 0.0", r#"{"x":-0.0}"#, true),
            ("e.x == 9007199254740993", r#"{"x":9007199254740992.0}"#, false),
            ("e.x == 9223372036854775807", r#"{"x":9223372036854775808}"#, false),
            ("e.x == 1.5", r#"{"x":1.5}"#, true),
            ("e.x == '1'", r#"{"x":1}"#, true),
            ("e.x == 1", r#"{"x":"1"}"#, true),
            ("e.x == 1", r#"{"x":"1.0"}"#, true),
            ("e.x == 1", r#"{"x":"01"}"#, false),
            ("e.x in ['1.50', 'a']", r#"{"x":1.5}"#, true),
            ("e.x == true", r#"{"x":true}"#, true),
            ("e.x == true", r#"{"x":1}"#, false),
            ("e.x in ['a', 7]", r#"{"x":7.0}"#, true),
            ("e.x in ['a', 7]", r#"{"x":"b"}"#, false),
            ("e.x in []", r#"{"x":"b"}"#, false),
            ("e.x.y == 'a'", r#"{"x":{"y":"a"}}"#, true),
            ("e.x.y == 'a'", r#"{"x":"a"}"#, false),
            ("e.properties.x == 'a'", r#"{"x":"a"}"#, true),
            ("e.source == 'shop' && e.x > 1", r#"{"x":2}"#, true),
            ("e.kind == 'page'", "{}", false),
            ("e.x == 'a' && e.y == 'b'", r#"{"x":"a","y":"b"}"#, true),
            // No index: a text that names a moment, what holds on what is absent, and what is no conjunct.
            ("e.time == '2026-11-21T10:00:00Z'", "{}", true),
            ("e.x == null", "{}", true),
            ("e.x in ['a', null]", "{}", true),
            ("!has(e.x)", "{}", true),
            ("e.x != 'a'", "{}", true),
            ("e.x == 'a' || e.y == 'b'", r#"{"y":"b"}"#, true),
            ("!(e.x == 'a')", "{}", true),
        ] {
            let program = program([format!("events('order').filter(e, {condition}).size()")]);
            let order = event("order", at("2026-11-21T10:00:00Z"), "m1", properties);
            let facts = EventFacts::new(&order, "shop");
            assert_eq!(program.leaves_for(&facts).count() == 1, fed, "{condition} on {properties}");
            let leaf = program.leaves().next().unwrap();
            let applied = leaf.apply(&mut LeafState::default(), &facts, order.time, &Zone::utc());
            assert!(!applied || fed, "{condition} on {properties} is left out");
        }
    }
}
