//! Why a condition holds, or does not: each part with its text, its value and its truth.

use kith_model::time::Timestamp;
use serde::{Serialize, Serializer};

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
    /// Whether it holds; `None` where it is null or no boolean, which counts as not holding.
    pub truth: Option<bool>,
    /// Of `&&`, `||`, `!` and `? :` the operands, all of them evaluated; of anything else the features and aggregates
    /// that it reads.
    pub parts: Vec<Part>,
}

fn as_json<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_json().serialize(serializer)
}

impl Expression {
    /// The condition part by part.
    pub fn explain(&self, facts: &dyn Facts, leaf_value: &dyn Fn(LeafId) -> Value, now: Timestamp) -> Part {
        self.part(self.compiled(), &Scope::new(facts, leaf_value, now))
    }

    fn part(&self, node: &Node, scope: &Scope<'_>) -> Part {
        let value = scope.evaluate(node);
        let parts = operands(node).into_iter().map(|operand| self.part(operand, scope)).collect();
        Part { text: self.text_of(node), truth: value.truth(), value, parts }
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
        let truth = part.truth.map_or("-".to_owned(), |truth| truth.to_string());
        lines.push(format!("{}{} = {} ({truth})", "  ".repeat(depth), part.text, part.value));
        part.parts.iter().for_each(|part| outline(part, depth + 1, lines));
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
                format!("{whole} = null (-)"),
                "  traits.city == 'Rome' = true (true)".into(),
                "    traits.city = 'Rome' (-)".into(),
                format!("  {leaf} > 0 || now - traits.seen > duration('1d') = true (true)"),
                format!("    {leaf} > 0 = false (false)"),
                format!("      {leaf} = 0 (-)"),
                "    now - traits.seen > duration('1d') = true (true)".into(),
                "      traits.seen = '2026-11-20T00:00:00Z' (-)".into(),
                "  !tags.vip = null (-)".into(),
                "    tags.vip = null (-)".into(),
            ]
        );
        let json = serde_json::to_value(&part.parts[0]).unwrap();
        assert_eq!(json["parts"][0]["value"], "Rome");
    }
}
