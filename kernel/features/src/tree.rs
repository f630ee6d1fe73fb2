//! The tree that an expression is compiled to, and its canonical text.
//!
//! One type serves both readings of an expression: the tree as it was written, with `events(…)` in it, which the naive
//! evaluation walks, and the compiled one, in which each of these has become a leaf.

use std::fmt;
use std::sync::Arc;

use kith_model::id::AudienceId;
use serde::{Deserialize, Serialize};

use crate::functions::{self, Function};
use crate::pattern::Pattern;
use crate::value::{Arithmetic, Comparison, Value, write_quoted};
use crate::window::Window;

/// Names one aggregate over events by hashes: of the event's name in the upper two bytes, of its canonical text in the
/// others, so that equal ones are kept once and those that the same events feed lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeafId(pub u64);

impl LeafId {
    /// What all leaves over events of one name have in common; names may share it.
    pub fn group(self) -> u16 {
        u16::from_be_bytes([self.0.to_be_bytes()[0], self.0.to_be_bytes()[1]])
    }
}

/// What a condition can ask of a profile without looking at its events; also the name of a column of the index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureName {
    /// `traits.x`
    Trait(Arc<str>),
    /// `tags.x`
    Tag(Arc<str>),
    /// `scores.x`
    Score(Arc<str>),
    /// `profile.created_at`
    CreatedAt,
    /// `profile.identifiers.x`: the list of the profile's identifiers of that type
    Identifiers(Arc<str>),
    /// An aggregate over events.
    Leaf(LeafId),
    /// Membership of an audience. No expression reads it.
    Audience(AudienceId),
}

/// CEL's macros over lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Macro {
    Filter,
    Map,
    Exists,
    All,
    ExistsOne,
}

/// A macro over a list, such as `list.exists(x, condition)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MacroCall {
    pub(crate) kind: Macro,
    pub(crate) over: Node,
    /// The variable's number: how many lambdas enclose this one.
    pub(crate) slot: usize,
    /// The condition; for a map with two arguments absent.
    pub(crate) condition: Option<Node>,
    /// What a map makes of each item.
    pub(crate) item: Option<Node>,
}

/// `&&` and `||`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connective {
    And,
    Or,
}

/// How much faster the left side of a comparison grows than the right while time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace(pub(crate) i8);

impl Pace {
    /// Neither moves, or both alike.
    pub(crate) const NONE: Pace = Pace(0);
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Literal(Value),
    Feature(FeatureName),
    Now,
    /// The variable of the enclosing lambda of this number.
    Variable(usize),
    /// A field of the event that a leaf is looking at.
    EventField(Arc<[Arc<str>]>),
    /// The profile's events; an empty name means all. Only in the tree as written.
    Events(Arc<str>, Window),
    Field(Box<Node>, Arc<str>),
    Index(Box<Node>, Box<Node>),
    Has(Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>, Pace),
    Calculate(Arithmetic, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Choose(Box<[Node; 3]>),
    List(Vec<Node>),
    /// What a map makes of an item: a value under each name, in the order of the names, none of them twice.
    Object(Vec<(Arc<str>, Node)>),
    MacroCall(Box<MacroCall>),
    Call(Function, Vec<Node>),
    /// A text that a regular expression is found in.
    Matches(Box<Node>, Pattern),
}

impl Node {
    /// Whether its form tells that it is no truth value, whatever it meets.
    pub(crate) fn is_never_bool(&self) -> bool {
        match self {
            Node::Literal(value) => !matches!(value, Value::Bool(_)),
            Node::Now | Node::Negate(_) | Node::Calculate(..) | Node::List(_) | Node::Object(_) | Node::Events(..) => {
                true
            }
            Node::Call(Function::First | Function::Last, list) => list.first().is_some_and(Node::makes_objects),
            Node::Choose(parts) => parts[1].is_never_bool() && parts[2].is_never_bool(),
            Node::MacroCall(each) => matches!(each.kind, Macro::Filter | Macro::Map),
            Node::Call(function, _) => functions::spec(*function).is_never_bool,
            Node::Feature(name) => matches!(name, FeatureName::Identifiers(_) | FeatureName::CreatedAt),
            _ => false,
        }
    }

    /// Whether it is a list of objects that are written out.
    fn makes_objects(&self) -> bool {
        matches!(self, Node::MacroCall(each) if matches!(each.item, Some(Node::Object(_))))
    }

    /// Whether its form tells that it is a list, whatever it meets; of a person without identifiers of a type these are absent.
    pub(crate) fn is_always_list(&self) -> bool {
        match self {
            Node::Literal(value) => matches!(value, Value::List(_)),
            Node::Feature(name) => matches!(name, FeatureName::Identifiers(_)),
            Node::List(_) | Node::Events(..) => true,
            Node::Calculate(Arithmetic::Add, a, b) => a.is_always_list() && b.is_always_list(),
            Node::Choose(parts) => parts[1].is_always_list() && parts[2].is_always_list(),
            Node::MacroCall(each) => matches!(each.kind, Macro::Filter | Macro::Map),
            Node::Call(function, _) => *function == Function::Distinct,
            _ => false,
        }
    }

    /// Whether its form tells that it is true, false or pending, whatever it meets.
    pub(crate) fn is_always_bool(&self) -> bool {
        match self {
            Node::Literal(value) => matches!(value, Value::Bool(_)),
            Node::Has(_)
            | Node::Not(_)
            | Node::And(..)
            | Node::Or(..)
            | Node::Compare(..)
            | Node::In(..)
            | Node::Matches(..) => true,
            Node::Choose(parts) => parts[1].is_always_bool() && parts[2].is_always_bool(),
            Node::MacroCall(each) => !matches!(each.kind, Macro::Filter | Macro::Map),
            Node::Call(function, _) => {
                matches!(function, Function::Contains | Function::StartsWith | Function::EndsWith)
            }
            _ => false,
        }
    }

    /// The direct children, in the order in which they are written.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match self {
            Node::Literal(_)
            | Node::Feature(_)
            | Node::Now
            | Node::Variable(_)
            | Node::EventField(_)
            | Node::Events(..) => Vec::new(),
            Node::Field(node, _) | Node::Has(node) | Node::Not(node) | Node::Negate(node) | Node::Matches(node, _) => {
                vec![node]
            }
            Node::Index(a, b)
            | Node::And(a, b)
            | Node::Or(a, b)
            | Node::Compare(_, a, b, _)
            | Node::Calculate(_, a, b)
            | Node::In(a, b) => vec![a, b],
            Node::Choose(parts) => parts.iter().collect(),
            Node::List(items) | Node::Call(_, items) => items.iter().collect(),
            Node::Object(fields) => fields.iter().map(|(_, value)| value).collect(),
            Node::MacroCall(each) => {
                [Some(&each.over), each.condition.as_ref(), each.item.as_ref()].into_iter().flatten().collect()
            }
        }
    }

    /// The same node with each direct child replaced.
    pub(crate) fn map_children(&self, change: &mut impl FnMut(&Node) -> Node) -> Node {
        let mut boxed = |node: &Node| Box::new(change(node));
        match self {
            Node::Literal(_)
            | Node::Feature(_)
            | Node::Now
            | Node::Variable(_)
            | Node::EventField(_)
            | Node::Events(..) => self.clone(),
            Node::Field(node, name) => Node::Field(boxed(node), name.clone()),
            Node::Has(node) => Node::Has(boxed(node)),
            Node::Not(node) => Node::Not(boxed(node)),
            Node::Negate(node) => Node::Negate(boxed(node)),
            Node::Matches(node, pattern) => Node::Matches(boxed(node), pattern.clone()),
            Node::Index(a, b) => Node::Index(boxed(a), boxed(b)),
            Node::And(a, b) => Node::And(boxed(a), boxed(b)),
            Node::Or(a, b) => Node::Or(boxed(a), boxed(b)),
            Node::Compare(comparison, a, b, pace) => Node::Compare(*comparison, boxed(a), boxed(b), *pace),
            Node::Calculate(operator, a, b) => Node::Calculate(*operator, boxed(a), boxed(b)),
            Node::In(a, b) => Node::In(boxed(a), boxed(b)),
            Node::Choose(parts) => Node::Choose(Box::new([change(&parts[0]), change(&parts[1]), change(&parts[2])])),
            Node::List(items) => Node::List(items.iter().map(change).collect()),
            Node::Object(fields) => {
                Node::Object(fields.iter().map(|(name, value)| (name.clone(), change(value))).collect())
            }
            Node::Call(function, arguments) => Node::Call(*function, arguments.iter().map(change).collect()),
            Node::MacroCall(each) => Node::MacroCall(Box::new(MacroCall {
                kind: each.kind,
                over: change(&each.over),
                slot: each.slot,
                condition: each.condition.as_ref().map(&mut *change),
                item: each.item.as_ref().map(change),
            })),
        }
    }

    /// Whether the test holds for this node or one below it.
    pub(crate) fn any(&self, test: &mut impl FnMut(&Node) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }

    /// How tightly the node's own operator binds.
    fn strength(&self) -> u8 {
        match self {
            Node::Choose(_) => 0,
            Node::Or(..) => 1,
            Node::And(..) => 2,
            Node::Compare(..) | Node::In(..) => 3,
            Node::Calculate(Arithmetic::Add | Arithmetic::Subtract, ..) => 4,
            Node::Calculate(..) => 5,
            Node::Not(_) | Node::Negate(_) => 6,
            // A negative number is written with an operator.
            Node::Literal(Value::Int(number)) if *number < 0 => 6,
            Node::Literal(Value::Float(number)) if *number < 0.0 => 6,
            _ => 7,
        }
    }
}

/// A name after a dot, or in brackets where it is no plain word.
pub(crate) fn write_member(f: &mut impl fmt::Write, name: &str) -> fmt::Result {
    let plain = name.chars().next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    // `in` and the literals' names are words of the language.
    if plain && !matches!(name, "in" | "true" | "false" | "null") {
        write!(f, ".{name}")
    } else {
        f.write_char('[')?;
        write_quoted(f, name)?;
        f.write_char(']')
    }
}

impl fmt::Display for FeatureName {
    /// As the language writes it; leaves and audiences, which it cannot name, by their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (root, name) = match self {
            FeatureName::Trait(name) => ("traits", name),
            FeatureName::Tag(name) => ("tags", name),
            FeatureName::Score(name) => ("scores", name),
            FeatureName::Identifiers(name) => ("profile.identifiers", name),
            FeatureName::CreatedAt => return f.write_str("profile.created_at"),
            FeatureName::Leaf(id) => return write!(f, "leaf({:016x})", id.0),
            FeatureName::Audience(id) => return write!(f, "audience({})", id.0),
        };
        f.write_str(root)?;
        write_member(f, name)
    }
}

/// How a node's text is written: `leaf` gives the text of a leaf.
pub(crate) struct Text<'a> {
    pub(crate) node: &'a Node,
    pub(crate) leaf: &'a dyn Fn(LeafId) -> Option<String>,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, self.node)
    }
}

impl Text<'_> {
    /// The child, in parentheses where its operator binds more loosely than `strength`.
    fn write_within(&self, f: &mut fmt::Formatter<'_>, node: &Node, strength: u8) -> fmt::Result {
        if node.strength() >= strength {
            return self.write(f, node);
        }
        f.write_str("(")?;
        self.write(f, node)?;
        f.write_str(")")
    }

    fn write_infix(&self, f: &mut fmt::Formatter<'_>, node: &Node, sign: &str, a: &Node, b: &Node) -> fmt::Result {
        let strength = node.strength();
        // `a - (b - c)` needs its parentheses, `a && (b && c)` does not.
        let loose = matches!(node, Node::And(..) | Node::Or(..));
        self.write_within(f, a, strength)?;
        write!(f, " {sign} ")?;
        self.write_within(f, b, if loose { strength } else { strength + 1 })
    }

    fn write_list(&self, f: &mut fmt::Formatter<'_>, items: &[Node]) -> fmt::Result {
        items.iter().enumerate().try_for_each(|(index, item)| {
            f.write_str(if index == 0 { "" } else { ", " })?;
            self.write(f, item)
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
        match node {
            Node::Literal(value) => write!(f, "{value}"),
            Node::Feature(FeatureName::Leaf(id)) => match (self.leaf)(*id) {
                Some(text) => f.write_str(&text),
                None => write!(f, "{}", FeatureName::Leaf(*id)),
            },
            Node::Feature(name) => write!(f, "{name}"),
            Node::Now => f.write_str("now"),
            Node::Variable(slot) => write_variable(f, *slot),
            Node::EventField(path) => {
                write_variable(f, 0)?;
                path.iter().try_for_each(|name| write_member(f, name))
            }
            Node::Events(name, window) => write_events(f, name, window),
            Node::Field(target, name) => {
                self.write_within(f, target, 7)?;
                write_member(f, name)
            }
            Node::Index(target, index) => {
                self.write_within(f, target, 7)?;
                f.write_str("[")?;
                self.write(f, index)?;
                f.write_str("]")
            }
            Node::Has(target) => {
                f.write_str("has(")?;
                self.write(f, target)?;
                f.write_str(")")
            }
            Node::Not(operand) => {
                f.write_str("!")?;
                self.write_within(f, operand, 7)
            }
            Node::Negate(operand) => {
                f.write_str("-")?;
                self.write_within(f, operand, 7)
            }
            Node::And(a, b) => self.write_infix(f, node, "&&", a, b),
            Node::Or(a, b) => self.write_infix(f, node, "||", a, b),
            Node::Compare(comparison, a, b, _) => self.write_infix(f, node, comparison_sign(*comparison), a, b),
            Node::Calculate(operator, a, b) => self.write_infix(f, node, arithmetic_sign(*operator), a, b),
            Node::In(a, b) => self.write_infix(f, node, "in", a, b),
            Node::Choose(parts) => {
                self.write_within(f, &parts[0], 1)?;
                f.write_str(" ? ")?;
                self.write_within(f, &parts[1], 1)?;
                f.write_str(" : ")?;
                self.write_within(f, &parts[2], 0)
            }
            Node::List(items) => {
                f.write_str("[")?;
                self.write_list(f, items)?;
                f.write_str("]")
            }
            Node::Object(fields) => self.write_object(f, fields),
            Node::MacroCall(each) => self.write_each(f, each),
            Node::Call(function, arguments) => self.write_call(f, *function, arguments),
            Node::Matches(target, pattern) => {
                self.write_within(f, target, 7)?;
                f.write_str(".matches(")?;
                write_quoted(f, pattern.text())?;
                f.write_str(")")
            }
        }
    }

    fn write_object(&self, f: &mut fmt::Formatter<'_>, fields: &[(Arc<str>, Node)]) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in fields.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write_quoted(f, name)?;
            f.write_str(": ")?;
            self.write(f, value)?;
        }
        f.write_str("}")
    }

    fn write_each(&self, f: &mut fmt::Formatter<'_>, each: &MacroCall) -> fmt::Result {
        let name = match each.kind {
            Macro::Filter => "filter",
            Macro::Map => "map",
            Macro::Exists => "exists",
            Macro::All => "all",
            Macro::ExistsOne => "exists_one",
        };
        self.write_within(f, &each.over, 7)?;
        write!(f, ".{name}(")?;
        write_variable(f, each.slot)?;
        for part in [&each.condition, &each.item].into_iter().flatten() {
            f.write_str(", ")?;
            self.write(f, part)?;
        }
        f.write_str(")")
    }

    fn write_call(&self, f: &mut fmt::Formatter<'_>, function: Function, arguments: &[Node]) -> fmt::Result {
        let spec = functions::spec(function);
        let written = match arguments.split_first() {
            Some((target, rest)) if spec.as_method => {
                self.write_within(f, target, 7)?;
                f.write_str(".")?;
                rest
            }
            _ => arguments,
        };
        write!(f, "{}(", spec.name)?;
        self.write_list(f, written)?;
        f.write_str(")")
    }
}

fn write_variable(f: &mut fmt::Formatter<'_>, slot: usize) -> fmt::Result {
    match slot {
        0 => f.write_str("e"),
        slot => write!(f, "e{slot}"),
    }
}

pub(crate) fn write_events(f: &mut fmt::Formatter<'_>, name: &str, window: &Window) -> fmt::Result {
    f.write_str("events(")?;
    write_quoted(f, if name.is_empty() { "*" } else { name })?;
    if *window != Window::Always {
        write!(f, ", '{window}'")?;
    }
    f.write_str(")")
}

pub(crate) fn comparison_sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "==",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn arithmetic_sign(operator: Arithmetic) -> &'static str {
    match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    }
}
