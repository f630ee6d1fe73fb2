//! Where a list stands and one value belongs: nothing is equal to it, less or more, and no text is found in it. Such a condition
//! holds for nobody, and its opposite for everybody, so that it is refused with what to write.

use cel::common::ast::IdedExpr;

use super::{Translator, habits};
use crate::functions::{self, Function};
use crate::tree::{FeatureName, LeafId, Node, Text, comparison_sign};
use crate::value::{Arithmetic, Comparison, Value};

/// A part that is longer is named in words, not quoted.
const MAX_QUOTED_CHARS: usize = 80;

impl Translator<'_> {
    /// Refuse a list that stands where no list can.
    pub(super) fn doubt_lists(&mut self, at: &IdedExpr, node: &Node) {
        if let Some(told) = misplaced(node) {
            self.doubt(at, told);
        }
    }
}

/// What is said of a list that stands where one value belongs, if one does.
fn misplaced(node: &Node) -> Option<String> {
    match node {
        Node::Compare(comparison, a, b, _) => compared(*comparison, a, b),
        Node::Calculate(operator, a, b) => {
            let are_joined = *operator == Arithmetic::Add && a.is_always_list() && b.is_always_list();
            let list = [a, b].into_iter().find(|side| side.is_always_list() && !are_joined)?;
            Some(format!("{} is a list and no number; take {}", named(list), taken(list)))
        }
        Node::Negate(list) if list.is_always_list() => {
            Some(format!("{} is a list and no number; take {}", named(list), taken(list)))
        }
        Node::In(item, list) if item.is_always_list() && !holds_lists(list) => {
            let (named, item, list) = (named(item), quoted(item), quoted(list));
            Some(format!("{named} is a list and no item of another; write `{item}.exists(i, i in {list})`"))
        }
        Node::Field(list, field) if list.is_always_list() => {
            let of_items = || format!("those of its items are `{}.map(i, i.{field})`", quoted(list));
            let told = habits::field(field, &quoted(list)).unwrap_or_else(of_items);
            Some(format!("{} is a list and has no field `{field}`; {told}", named(list)))
        }
        Node::Has(list) if list.is_always_list() && !is_of_identifiers(list) => {
            let (named, list) = (named(list), quoted(list));
            Some(format!("{named} is a list and always there; whether there is anything in it is `{list}.size() > 0`"))
        }
        Node::Matches(list, pattern) if list.is_always_list() => {
            let pattern = quoted(&Node::Literal(Value::text(pattern.text())));
            Some(tested(list, "matches", &pattern))
        }
        Node::Call(function, arguments) => called(*function, arguments),
        _ => None,
    }
}

/// A list is equal to lists alone, and neither less nor more than anything. One that is written out may be compared with a trait
/// that is a list, and one of identifiers with `null`, which it is of who has none.
fn compared(comparison: Comparison, a: &Node, b: &Node) -> Option<String> {
    let is_null = |node: &Node| matches!(node, Node::Literal(Value::Null));
    let is_written = |node: &Node| matches!(node, Node::List(_) | Node::Literal(_));
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    let (list, other) = match (a.is_always_list(), b.is_always_list()) {
        (true, true) if is_equality => return None,
        (true, _) => (a, b),
        (_, true) => (b, a),
        _ => return None,
    };
    let may_be_equal = (is_written(list) && !matches!(other, Node::Literal(_)) && !other.is_always_bool())
        || (is_of_identifiers(list) && is_null(other));
    if is_equality && may_be_equal {
        return None;
    }
    let (named, list_text, other_text, sign) = (named(list), quoted(list), quoted(other), comparison_sign(comparison));
    Some(match comparison {
        Comparison::Equal if !is_null(other) => {
            format!("{named} is a list and equals no single value; write `{other_text} in {list_text}`")
        }
        Comparison::NotEqual if !is_null(other) => {
            format!("{named} is a list and equals no single value; write `!({other_text} in {list_text})`")
        }
        Comparison::Equal | Comparison::NotEqual => {
            format!("{named} is a list and never `null`; whether it is empty is `{list_text}.size() == 0`")
        }
        _ if is_of_identifiers(list) => format!(
            "{named} is a list, which is neither less nor more than anything; of one of it write \
             `{list_text}.exists(i, i {sign} {other_text})`, how many there are is `{list_text}.size()`"
        ),
        _ => format!("{named} is a list, which is neither less nor more than anything; take {}", taken(list)),
    })
}

/// Functions of one value, and those that look for a text in another.
fn called(function: Function, arguments: &[Node]) -> Option<String> {
    let (target, others) = arguments.split_first()?;
    let spec = functions::spec(function);
    let is_test = matches!(function, Function::Contains | Function::StartsWith | Function::EndsWith);
    if let Some(list) = others.iter().find(|other| is_test && other.is_always_list()) {
        let (named, list, target, name) = (named(list), quoted(list), quoted(target), spec.name);
        return Some(format!(
            "`{name}` looks for one text and {named} is a list; write `{list}.exists(i, {target}.{name}(i))`"
        ));
    }
    let is_written = matches!(target, Node::List(_) | Node::Literal(_));
    if !target.is_always_list() || function.is_of_lists() || (function == Function::Contains && is_written) {
        return None;
    }
    let list = quoted(target);
    if function == Function::Contains {
        let part = quoted(others.first()?);
        return Some(format!(
            "{} is a list; whether `{part}` is one of it is `{part} in {list}`, whether it is a part of one is \
             `{list}.exists(i, i.contains({part}))`",
            named(target)
        ));
    }
    if is_test {
        return Some(tested(target, spec.name, &quoted(others.first()?)));
    }
    let of_item = if spec.as_method { format!("i.{}()", spec.name) } else { format!("{}(i)", spec.name) };
    Some(format!("`{}` is of one value and {} is a list; write `{list}.map(i, {of_item})`", spec.name, named(target)))
}

fn tested(list: &Node, test: &str, part: &str) -> String {
    let (named, list) = (named(list), quoted(list));
    format!("`{test}` is asked of one text and {named} is a list; write `{list}.exists(i, i.{test}({part}))`")
}

fn is_of_identifiers(node: &Node) -> bool {
    matches!(node, Node::Feature(FeatureName::Identifiers(_)))
}

/// Whether a list has a list in it, so that one may be its item.
fn holds_lists(node: &Node) -> bool {
    match node {
        Node::Literal(Value::List(items)) => items.iter().any(|item| matches!(item, Value::List(_))),
        Node::List(items) => items.iter().any(Node::is_always_list),
        _ => false,
    }
}

/// What one number there is in a list.
fn taken(list: &Node) -> String {
    let list = quoted(list);
    if list == ELIDED {
        return "`.sum()`, `.max()` or another one number of it, or `.size()`, how many there are".to_owned();
    }
    format!("`{list}.sum()`, `{list}.max()` or another one value of it, or `{list}.size()`, how many there are")
}

/// What stands for a part that is too long to be quoted.
const ELIDED: &str = "…";

/// A part as it is written, if it is short.
fn quoted(node: &Node) -> String {
    let leaf = |_: LeafId| None;
    let text = Text { node, leaf: &leaf }.to_string();
    if text.chars().count() > MAX_QUOTED_CHARS { ELIDED.to_owned() } else { text }
}

/// A list by its text, or as what stands there.
fn named(node: &Node) -> String {
    match quoted(node) {
        long if long == ELIDED => "this".to_owned(),
        text => format!("`{text}`"),
    }
}
