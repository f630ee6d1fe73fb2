//! What is an expression and cannot mean what it reads like. A condition that is defined now is refused for it; one that was
//! defined before goes on.

use cel::common::ast::IdedExpr;

use super::{Translated, Translator, habits, place};
use crate::error::ExpressionError;
use crate::functions::Function;
use crate::tree::Node;
use crate::value::{Comparison, Value};

impl Translator<'_> {
    pub(super) fn doubt(&mut self, at: &IdedExpr, message: impl Into<String>) {
        let byte = place::start_of(self.text, &self.info, at);
        self.mistakes.push(ExpressionError::at_byte(self.text, byte, message));
    }

    /// A part that is asked whether it holds.
    pub(super) fn truth(&mut self, expression: &IdedExpr) -> Translated<Node> {
        let node = self.value(expression)?;
        self.insist_on_truth(expression, &node);
        Ok(node)
    }

    /// What is never true or false is no condition.
    pub(super) fn insist_on_truth(&mut self, at: &IdedExpr, node: &Node) {
        if !node.is_never_bool() {
            return;
        }
        let example = match node {
            Node::Literal(Value::Text(_)) => {
                "`traits.city == 'Oslo'`; of several texts, `traits.city in ['Oslo', 'Rome']`"
            }
            Node::Literal(Value::Int(_) | Value::Float(_)) => "`traits.age > 40`",
            Node::Literal(Value::Null) => "`!has(traits.city)`",
            Node::Now => "`traits.renewed < now`",
            Node::Call(Function::Size, _) => "`events('Order Completed').size() > 0`",
            Node::List(_) | Node::Literal(Value::List(_)) => "`traits.city in ['Oslo', 'Rome']`",
            Node::Each(_) => "`events('Order Completed').exists(e, e.total > 50)`",
            _ => "`… > 0`",
        };
        self.doubt(
            at,
            format!("it is never true or false, and a condition has to be: compare it with something, e.g. {example}"),
        );
    }

    /// `!` binds more tightly than a comparison: `!traits.city in ['Oslo']` asks whether a truth value is in the list.
    pub(super) fn doubt_negated_side(&mut self, at: &IdedExpr, node: &Node) {
        let is_bool = |node: &Node| match node {
            Node::Literal(Value::Bool(_)) => true,
            Node::Literal(Value::List(items)) => items.iter().any(|item| matches!(item, Value::Bool(_))),
            Node::Literal(_) => false,
            _ => true,
        };
        let (sign, other) = match node {
            Node::In(a, b) if matches!(a.as_ref(), Node::Not(_)) => ("in", b),
            Node::Compare(Comparison::Equal, a, b, _) if matches!(a.as_ref(), Node::Not(_)) => ("==", b),
            Node::Compare(Comparison::NotEqual, a, b, _) if matches!(a.as_ref(), Node::Not(_)) => ("!=", b),
            Node::Compare(_, a, _, _) if matches!(a.as_ref(), Node::Not(_)) => {
                return self.doubt(at, "`!` stands for what is directly behind it; write `!(a < b)` with brackets");
            }
            _ => return,
        };
        if !is_bool(other) {
            let message = format!("`!` stands for what is directly behind it; write `!(a {sign} b)` with brackets");
            self.doubt(at, message);
        }
    }

    pub(super) fn unknown_name(&self, at: &IdedExpr, name: &str) -> String {
        if let Some(told) = habits::name(name) {
            return told.to_owned();
        }
        let before = &self.text[..place::start_of(self.text, &self.info, at).min(self.text.len())];
        if before.ends_with('-') && !before.ends_with(" -") && before.contains('.') {
            return format!("unknown name `{name}`; a name with a dash is written in brackets: `traits['first-name']`");
        }
        format!(
            "unknown name `{name}`; there are traits, tags, scores, profile, now and events(…); a trait is written \
             `traits.{name}`, a text `'{name}'`"
        )
    }
}
