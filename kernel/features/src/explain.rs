//! Why a condition holds, does not, or cannot be told yet: each part with its text, its value and its truth.

use kith_model::time::Timestamp;
use serde::{Serialize, Serializer};

use crate::budget::Budget;
use crate::eval::Scope;
use crate::expression::Expression;
use crate::facts::Facts;
use crate::tree::{LeafId, Node};
use crate::value::Value;

/// A part of a condition for one profile at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// The part as the language writes it.
    pub text: String,
    /// Its value, in JSON as [`Value::to_json`] gives it.
    #[serde(serialize_with = "as_json")]
    pub value: Value,
    /// Whether it holds.
    pub truth: Truth,
    /// Of `&&`, `||`, `!` and `? :` the operands, all of them evaluated; of anything else the features and aggregates
    /// that it reads.
    pub parts: Vec<Part>,
}

/// Whether a part of a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// It is null or no boolean, which counts as not holding.
    Null,
    /// It hangs on a pending value.
    Unknown,
}

impl Truth {
    /// The truth of a condition with this value.
    pub fn of(value: &Value) -> Truth {
        match value {
            Value::Bool(true) => Truth::True,
            Value::Bool(false) => Truth::False,
            Value::Unknown => Truth::Unknown,
            _ => Truth::Null,
        }
    }
}

impl Serialize for Truth {
    /// `true`, `false`, `null` or `"unknown"`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Truth::True => serializer.serialize_bool(true),
            Truth::False => serializer.serialize_bool(false),
            Truth::Null => serializer.serialize_none(),
            Truth::Unknown => serializer.serialize_str("unknown"),
        }
    }
}

fn as_json<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_json().serialize(serializer)
}

/// The longest value that is shown whole, in bytes of its JSON; of a longer one a quarter as many letters are.
const MAX_SHOWN_BYTES: usize = 4 << 10;

impl Part {
    /// Cut the values of this part and of those in it that are long: each is a text then, which begins like its JSON and ends with
    /// `…`. How many there were.
    pub fn cut_long_values(&mut self) -> usize {
        let json = self.value.to_json().to_string();
        let is_long = json.len() > MAX_SHOWN_BYTES;
        if is_long {
            let beginning: String = json.chars().take(MAX_SHOWN_BYTES / 4).collect();
            self.value = Value::Text(format!("{beginning}…").into());
        }
        usize::from(is_long) + self.parts.iter_mut().map(Part::cut_long_values).sum::<usize>()
    }
}

impl Expression {
    /// The condition part by part.
    pub fn explain(&self, facts: &dyn Facts, leaf_value: &dyn Fn(LeafId) -> Value, now: Timestamp) -> Part {
        // A part is evaluated for itself and within the parts around it.
        let budget = Budget::of_history();
        self.part(self.compiled(), &Scope { budget, ..Scope::new(facts, leaf_value, now, self.zone()) })
    }

    fn part(&self, node: &Node, scope: &Scope<'_>) -> Part {
        let value = scope.evaluate(node);
        let parts = operands(node).into_iter().map(|operand| self.part(operand, scope)).collect();
        Part { text: self.text_of(node), truth: Truth::of(&value), value, parts }
    }
}

fn operands(node: &Node) -> Vec<&Node> {
    let mut operands = Vec::new();
    match node {
        Node::And(..) => collect(node, &mut operands, &|node| !matches!(node, Node::And(..))),
        Node::Or(..) => collect(node, &mut operands, &|node| !matches!(node, Node::Or(..))),
        Node::Not(_) | Node::Choose(_) => return node.children(),
        Node::Feature(_) => {}
        _ => {
            collect(node, &mut operands, &|node| matches!(node, Node::Feature(_)));
            operands.retain(|node| matches!(node, Node::Feature(_)));
            let mut seen: Vec<&Node> = Vec::new();
            operands.retain(|node| {
                !seen.contains(node) && {
                    seen.push(node);
                    true
                }
            });
        }
    }
    operands
}

/// The nearest nodes below that are wanted, in the order in which they are written.
fn collect<'a>(node: &'a Node, found: &mut Vec<&'a Node>, wanted: &impl Fn(&Node) -> bool) {
    for child in node.children() {
        if wanted(child) { found.push(child) } else { collect(child, found, wanted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Someone, at};

    fn outline(part: &Part, depth: usize, lines: &mut Vec<String>) {
        let truth = match serde_json::to_value(part.truth).unwrap() {
            serde_json::Value::Null => "-".to_owned(),
            truth => truth.to_string(),
        };
        lines.push(format!("{}{} = {} ({truth})", "  ".repeat(depth), part.text, part.value));
        part.parts.iter().for_each(|part| outline(part, depth + 1, lines));
    }

    /// Regression: a condition of 8 KiB that reads a trait of half a MiB in each of its parts was explained in hundreds of MB.
    #[test]
    fn long_values_are_cut_and_counted() {
        let reads: Vec<String> = (0..20).map(|number| format!("traits.long == 'x{number}'")).collect();
        let mut someone = Someone::default();
        someone.traits.insert("long".into(), Value::Text("y".repeat(500_000).into()));
        let expression = Expression::parse(&reads.join(" || ")).unwrap();
        let mut explained = expression.explain(&someone, &|_| Value::Null, at("2026-11-21T00:00:00Z"));
        assert_eq!(explained.cut_long_values(), 20, "each of them reads it");
        assert!(serde_json::to_string(&explained).unwrap().len() < 1 << 20);
        assert_eq!(explained.cut_long_values(), 0);
    }

    #[test]
    fn each_part_shows_its_value() {
        let text = "traits.city == 'Rome' && (events('order','30d').exists(e, e.revenue > 5) || now - traits.seen > duration('1d')) && !tags.vip";
        let mut someone = Someone::default();
        someone.traits.insert("city".into(), Value::text("Rome"));
        someone.traits.insert("seen".into(), Value::text("2026-11-20T00:00:00Z"));
        let expression = Expression::parse(text).unwrap();
        let part = expression.explain(&someone, &|_| Value::Int(0), at("2026-11-21T10:00:00Z"));
        let mut lines = Vec::new();
        outline(&part, 0, &mut lines);
        let leaf = "events('order', '30d').filter(e, e.revenue > 5).size()";
        let whole = format!("traits.city == 'Rome' && ({leaf} > 0 || now - traits.seen > duration('1d')) && !tags.vip");
        assert_eq!(
            lines,
            [
                format!("{whole} = true (true)"),
                "  traits.city == 'Rome' = true (true)".into(),
                "    traits.city = 'Rome' (-)".into(),
                format!("  {leaf} > 0 || now - traits.seen > duration('1d') = true (true)"),
                format!("    {leaf} > 0 = false (false)"),
                format!("      {leaf} = 0 (-)"),
                "    now - traits.seen > duration('1d') = true (true)".into(),
                "      traits.seen = '2026-11-20T00:00:00Z' (-)".into(),
                "  !tags.vip = true (true)".into(),
                "    tags.vip = null (-)".into(),
            ]
        );
        let json = serde_json::to_value(&part.parts[0]).unwrap();
        assert_eq!(json["parts"][0]["value"], "Rome");
    }
    #[test]
    fn a_pending_part_is_unknown_and_not_false() {
        let mut someone = Someone::default();
        someone.tags.insert("vip".into(), Value::Unknown);
        let expression = Expression::parse("tags.vip && traits.nothing == 1 || tags.vip == 'x'").unwrap();
        let part = expression.explain(&someone, &|_| Value::Null, at("2026-11-21T10:00:00Z"));
        let json = serde_json::to_value(&part).unwrap();
        assert_eq!((&json["truth"], &json["value"]), (&"unknown".into(), &serde_json::Value::Null));
        assert_eq!(json["parts"][0]["truth"], false);
        assert_eq!(json["parts"][1]["truth"], "unknown");
    }
}
