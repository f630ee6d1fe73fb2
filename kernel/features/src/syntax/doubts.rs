//! What is an expression and cannot mean what it reads like. A condition that is defined now is refused for it; one that was
//! defined before goes on.

use cel::common::ast::IdedExpr;

use super::{TranslationResult, Translator, habits, place};
use crate::error::ExpressionError;
use crate::functions::Function;
use crate::tree::{FeatureName, Node};
use crate::value::{Arithmetic, Comparison, Value};

/// `1 < x < 5`, `'traits.x' == 1`, `x > '30 days ago'`.
fn compared(comparison: Comparison, a: &Node, b: &Node) -> Option<&'static str> {
    let is_ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if is_ordered && [a, b].into_iter().any(|side| matches!(side, Node::Compare(..))) {
        return Some("truths are neither less nor more; `1 < x < 5` is written `1 < x && x < 5`");
    }
    let text = |node: &Node| match node {
        Node::Literal(Value::Text(text)) => Some(text.to_lowercase()),
        _ => None,
    };
    // What is compared with a field may be any text that somebody writes: `traits.page == 'profile.html'`.
    let are_literals = [a, b].into_iter().all(|side| matches!(side, Node::Literal(_)));
    [a, b].into_iter().filter_map(text).find_map(|text| {
        if are_literals && ["traits.", "tags.", "scores.", "profile."].iter().any(|root| text.starts_with(root)) {
            return Some("names stand without quotes: `traits.x`");
        }
        let rest = text.strip_prefix("now").map(str::trim_start);
        let is_moment = rest.is_some_and(|rest| rest.starts_with(['-', '+', '(']))
            || (text.ends_with(" ago") && text.starts_with(|letter: char| letter.is_ascii_digit()));
        (is_ordered && is_moment).then_some("a moment before is written without quotes: `now - duration('30d')`")
    })
}

/// `2026-11-21` without quotes, which is a difference.
fn date(year: &Node, month: &Node, day: &Node) -> Option<&'static str> {
    let is_in = |node: &Node, from: i64, to: i64| matches!(node, Node::Literal(Value::Int(number)) if (from..=to).contains(number));
    (is_in(year, 1900, 2100) && is_in(month, 1, 12) && is_in(day, 1, 31))
        .then_some("a date is written in quotes: `'2026-11-21'`")
}

impl Translator<'_> {
    pub(super) fn doubt(&mut self, at: &IdedExpr, message: impl Into<String>) {
        let byte = place::start_of(self.text, &self.info, at);
        self.mistakes.push(ExpressionError::at_byte(self.text, byte, message));
    }

    /// A part that is asked whether it holds.
    pub(super) fn truth(&mut self, expression: &IdedExpr) -> TranslationResult<Node> {
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
            Node::MacroCall(_) => "`events('Order Completed').exists(e, e.total > 50)`",
            Node::Feature(FeatureName::Identifiers(_)) => "`has(profile.identifiers.email)`",
            Node::Feature(_) => "`profile.created_at > now - duration('30d')`",
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

    /// Sides that are an expression and never what their writer meant.
    pub(super) fn doubt_sides(&mut self, at: &IdedExpr, node: &Node) {
        let told = match node {
            Node::Compare(comparison, a, b, _) => compared(*comparison, a, b),
            Node::Calculate(Arithmetic::Add | Arithmetic::Subtract, a, b) if matches!(a.as_ref(), Node::Now) => {
                self.length_of_time(b)
            }
            Node::Calculate(Arithmetic::Subtract, a, day) => match a.as_ref() {
                Node::Calculate(Arithmetic::Subtract, year, month) => date(year, month, day),
                _ => None,
            },
            _ => None,
        };
        if let Some(told) = told {
            self.doubt(at, told);
        }
    }

    /// `now - 30`, `now - '30d'`: a time less what is none gives nothing.
    fn length_of_time(&self, node: &Node) -> Option<&'static str> {
        let Node::Literal(value) = node else { return None };
        let is_number = matches!(value, Value::Int(_) | Value::Float(_));
        let is_text = matches!(value, Value::Text(_)) && value.as_time(self.zone).is_none();
        (is_number || is_text).then_some("a length of time is written `duration('30d')`: `now - duration('30d')`")
    }

    pub(super) fn unknown_name(&self, at: &IdedExpr, name: &str) -> String {
        if let Some(told) = habits::name(name) {
            return told.to_owned();
        }
        let before = &self.text[..place::start_of(self.text, &self.info, at).min(self.text.len())];
        if before.ends_with('-') && !before.ends_with(" -") && before.contains('.') {
            return format!("unknown name `{name}`; a name with a dash is written in brackets: `traits['first-name']`");
        }
        let identifier = habits::identifier(name).map_or_else(String::new, |kind| {
            format!(", an identifier is asked for with `'…' in profile.identifiers.{kind}`")
        });
        format!(
            "unknown name `{name}`; there are traits, tags, scores, profile, now and events(…); a trait is written \
             `traits.{name}`{identifier}, a text `'{name}'`"
        )
    }
}
