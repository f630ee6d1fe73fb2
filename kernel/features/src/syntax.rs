//! From text to tree: CEL is parsed by the `cel` crate, then checked and translated here.
//!
//! All that could not be kept up to date is refused at this point, with its place and the reason, so that what comes
//! after cannot fail.

mod call;
mod doubts;
pub(crate) mod habits;
mod lists;
mod objects;
mod place;
mod words;

use std::sync::Arc;

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use cel::parser::Parser;

use crate::error::ExpressionError;
use crate::tree::{FeatureName, Macro, MacroCall, Node};
use crate::value::Value;
use crate::zone::Zone;

/// The longest text taken as an expression, in bytes.
///
/// Parsing time grows with the text, and a chain of n operators is a tree n deep; this bounds both. A condition written
/// by a person is some hundred bytes, one written by a program with a list of two hundred values a few thousand.
pub const MAX_EXPRESSION_BYTES: usize = kith_model::budget::table::EXPRESSION_TEXT.default as usize;

/// How many operators, calls, brackets and member accesses an expression may hold. The parser recurses once or more for
/// each in a chain; four times as many stay within a thread's stack of two megabytes.
pub const MAX_OPERATORS: usize = 1_000;

/// How deep the tree may be. Evaluation recurses this deep.
const MAX_DEPTH: usize = 100;

/// A text that is an expression.
pub(crate) struct ParsedExpression {
    pub(crate) node: Node,
    /// What cannot mean what it reads like: refused of a condition that is defined now.
    pub(crate) mistakes: Vec<ExpressionError>,
}

/// Parse and check. Dates in it are days of `zone`.
pub(crate) fn parse(text: &str, zone: &Zone) -> Result<ParsedExpression, ExpressionError> {
    if text.trim().is_empty() {
        return Err(ExpressionError::at(text, 1, 1, "the expression is empty"));
    }
    if text.len() > MAX_EXPRESSION_BYTES {
        kith_model::budget::table::EXPRESSION_TEXT.count();
        let message = format!("the expression has {} bytes; at most {MAX_EXPRESSION_BYTES} are taken", text.len());
        return Err(ExpressionError::at(text, 1, 1, message));
    }
    if let Some(byte) = place::surplus_operator(text, MAX_OPERATORS) {
        let message = format!("the expression has more than {MAX_OPERATORS} operators; split it");
        return Err(ExpressionError::at_byte(text, byte, message));
    }
    let parser = Parser::new().max_recursion_depth(MAX_DEPTH as u16);
    let (expression, info) = parser
        .parse_with_source_info(&words::without_long_numbers(&words::without_has_macro(text)))
        .map_err(|errors| match habits::first(text) {
            Some((byte, message)) => ExpressionError::at_byte(text, byte, message),
            None => place::syntax_error(text, &errors),
        })?;
    let scope = Vec::new();
    let mut translator = Translator { text, zone, info, scope, in_event: false, depth: 0, mistakes: Vec::new() };
    let node = translator.value(&expression)?;
    translator.insist_on_truth(&expression, &node);
    Ok(ParsedExpression { node, mistakes: translator.mistakes })
}

/// What kind of thing a part yields, beyond the values that everything can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Value,
    /// A list of whole events.
    Events,
    /// One whole event.
    Event,
}

struct Binding {
    name: String,
    event: bool,
}

struct Translator<'t> {
    text: &'t str,
    zone: &'t Zone,
    info: SourceInfo,
    /// Variables of the enclosing lambdas, outermost first.
    scope: Vec<Binding>,
    /// Whether we are inside a lambda over events.
    in_event: bool,
    depth: usize,
    mistakes: Vec<ExpressionError>,
}

type TranslationResult<T = (Node, Shape)> = Result<T, ExpressionError>;

impl Translator<'_> {
    fn refuse<T>(&self, at: &IdedExpr, message: impl Into<String>) -> TranslationResult<T> {
        Err(ExpressionError::at_byte(self.text, place::start_of(self.text, &self.info, at), message))
    }

    /// A part that must yield a value.
    fn value(&mut self, expression: &IdedExpr) -> TranslationResult<Node> {
        let (node, shape) = self.part(expression)?;
        match shape {
            Shape::Value => Ok(node),
            Shape::Events => self.refuse(
                expression,
                "a list of whole events is no value; take a field of each, e.g. `.map(e, e.time)`, or count it with `.size()`",
            ),
            Shape::Event => self.refuse(expression, "a whole event is no value; name one of its fields, e.g. `e.time`"),
        }
    }

    fn part(&mut self, expression: &IdedExpr) -> TranslationResult {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.refuse(expression, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let value = |node| Ok((node, Shape::Value));
        let result = match &expression.expr {
            Expr::Literal(literal) => value(self.literal(expression, literal)?),
            Expr::Ident(name) => self.name(expression, name),
            Expr::Select(select) => self.select(expression, select),
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.value(item)).collect::<TranslationResult<Vec<_>>>()?;
                value(fold_list(items))
            }
            Expr::Comprehension(comprehension) => self.each(expression, comprehension),
            Expr::Call(call) => self.call(expression, call),
            Expr::Map(_) => self.refuse(expression, objects::MISPLACED),
            Expr::Struct(_) => self.refuse(expression, "messages are not supported"),
            Expr::Unspecified => self.refuse(expression, "an expression is missing here"),
        };
        self.depth -= 1;
        result
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> TranslationResult<Node> {
        Ok(Node::Literal(match literal {
            LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
            LiteralValue::Int(number) => Value::Int(*number.inner()),
            LiteralValue::Double(number) => self.long_number(at).unwrap_or_else(|| Value::float(*number.inner())),
            LiteralValue::String(text) => Value::text(text.inner()),
            LiteralValue::Null => Value::Null,
            LiteralValue::UInt(number) => match i64::try_from(*number.inner()) {
                Ok(number) => Value::Int(number),
                Err(_) => return self.refuse(at, "whole numbers go up to 9223372036854775807"),
            },
            LiteralValue::Bytes(_) => return self.refuse(at, "bytes are not supported; write a text"),
        }))
    }

    /// The whole number beyond 64 bits that stands here, if one does.
    fn long_number(&self, at: &IdedExpr) -> Option<Value> {
        let rest = self.text.get(place::start_of(self.text, &self.info, at)..)?;
        let (sign, rest) = match rest.strip_prefix('-') {
            Some(rest) => (-1.0, rest.trim_start()),
            None => (1.0, rest),
        };
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, behind) = rest.split_at(end);
        let is_whole = words::is_long(digits) && !behind.starts_with(['.', 'e', 'E']);
        is_whole.then(|| digits.parse().ok().map(|number: f64| Value::float(sign * number)))?
    }

    fn binding(&self, name: &str) -> Option<(usize, bool)> {
        let slot = self.scope.iter().rposition(|binding| binding.name == name)?;
        Some((slot, self.scope[slot].event))
    }

    fn name(&self, at: &IdedExpr, name: &str) -> TranslationResult {
        if let Some((slot, event)) = self.binding(name) {
            return Ok((Node::Variable(slot), if event { Shape::Event } else { Shape::Value }));
        }
        match name {
            "now" if self.in_event => self.refuse(
                at,
                "`now` cannot be used on single events, as it would change them all with time; use a window: `events(name, '90d')`",
            ),
            "now" => Ok((Node::Now, Shape::Value)),
            "traits" | "tags" | "scores" => self.refuse(at, format!("name one of the {name}, e.g. `{name}.x`")),
            "profile" => self.refuse(at, "name a field: `profile.created_at` or `profile.identifiers.email`"),
            "events" => self.refuse(at, "`events` is a function: `events('Order Completed', '90d')`"),
            _ => self.refuse(at, self.unknown_name(at, name)),
        }
    }

    fn select(&mut self, at: &IdedExpr, select: &SelectExpr) -> TranslationResult {
        let (node, shape) = self.member(at, &select.operand, &select.field)?;
        if !select.test {
            return Ok((node, shape));
        }
        match shape {
            Shape::Value => Ok((Node::Has(Box::new(node)), Shape::Value)),
            _ => self.refuse(at, "has(…) takes a field"),
        }
    }

    /// `operand.name` or `operand['name']`.
    fn member(&mut self, at: &IdedExpr, operand: &IdedExpr, name: &str) -> TranslationResult {
        if let Some(feature) = self.feature(at, operand, name)? {
            if self.in_event {
                return self.refuse(
                    at,
                    format!(
                        "`{feature}` cannot be used on single events, only their own fields; \
                         filter afterwards: `.map(e, e.time).filter(t, t > {feature})`"
                    ),
                );
            }
            return Ok((Node::Feature(feature), Shape::Value));
        }
        let (node, shape) = self.part(operand)?;
        match shape {
            Shape::Events => self.refuse(at, "a list of events has no fields; take them with `.map(e, e.field)`"),
            Shape::Value | Shape::Event => {
                let field = Node::Field(Box::new(node), name.into());
                self.doubt_lists(at, &field);
                Ok((field, Shape::Value))
            }
        }
    }

    fn feature(&self, at: &IdedExpr, operand: &IdedExpr, name: &str) -> TranslationResult<Option<FeatureName>> {
        let named: Arc<str> = name.into();
        Ok(match &operand.expr {
            Expr::Ident(root) if self.binding(root).is_none() => match root.as_str() {
                "traits" => Some(FeatureName::Trait(named)),
                "tags" => Some(FeatureName::Tag(named)),
                "scores" => Some(FeatureName::Score(named)),
                "profile" if name == "created_at" => Some(FeatureName::CreatedAt),
                "profile" => {
                    return self.refuse(
                        at,
                        format!(
                            "a profile has no `{name}`; there are `profile.created_at` and `profile.identifiers.email`; \
                             what is known of the person is `traits.{name}`"
                        ),
                    );
                }
                _ => None,
            },
            Expr::Select(inner) if !inner.test && inner.field == "identifiers" => match &inner.operand.expr {
                Expr::Ident(root) if root == "profile" && self.binding(root).is_none() => {
                    Some(FeatureName::Identifiers(named))
                }
                _ => None,
            },
            _ => None,
        })
    }

    fn each(&mut self, at: &IdedExpr, comprehension: &ComprehensionExpr) -> TranslationResult {
        let Some((kind, condition, item)) = macro_parts(comprehension) else {
            return self.refuse(at, "this macro is not supported; there are filter, map, exists, all and exists_one");
        };
        let (over, shape) = self.part(&comprehension.iter_range)?;
        let over_events = match shape {
            Shape::Value => false,
            Shape::Events => true,
            Shape::Event => return self.refuse(&comprehension.iter_range, "an event is no list"),
        };
        let slot = self.scope.len();
        let outer = self.in_event;
        self.in_event |= over_events;
        self.scope.push(Binding { name: comprehension.iter_var.clone(), event: over_events });
        let condition = condition.map(|condition| self.truth(condition)).transpose();
        let item = item.map(|item| self.mapped(item)).transpose();
        self.scope.pop();
        self.in_event = outer;
        let each = MacroCall { kind, over, slot, condition: condition?, item: item? };
        let shape = if over_events && kind == Macro::Filter { Shape::Events } else { Shape::Value };
        Ok((Node::MacroCall(Box::new(each)), shape))
    }
}

/// A list of literals is itself one.
fn fold_list(items: Vec<Node>) -> Node {
    let literal = |item: &Node| match item {
        Node::Literal(value) => Some(value.clone()),
        _ => None,
    };
    match items.iter().map(literal).collect() {
        Some(values) => Node::Literal(Value::List(values)),
        None => Node::List(items),
    }
}

/// Which macro was expanded to this comprehension, with its condition and what it makes of an item.
fn macro_parts(comprehension: &ComprehensionExpr) -> Option<(Macro, Option<&IdedExpr>, Option<&IdedExpr>)> {
    if comprehension.iter_var2.is_some() {
        return None;
    }
    let Expr::Call(step) = &comprehension.loop_step.expr else { return None };
    let argument = |index: usize| step.args.get(index);
    match step.func_name.as_str() {
        operators::LOGICAL_OR => Some((Macro::Exists, Some(argument(1)?), None)),
        operators::LOGICAL_AND => Some((Macro::All, Some(argument(1)?), None)),
        operators::ADD => Some((Macro::Map, None, Some(appended(&comprehension.loop_step)?))),
        operators::CONDITIONAL if matches!(comprehension.accu_init.expr, Expr::Literal(_)) => {
            Some((Macro::ExistsOne, Some(argument(0)?), None))
        }
        operators::CONDITIONAL => {
            let item = appended(argument(1)?)?;
            match &item.expr {
                Expr::Ident(name) if *name == comprehension.iter_var => Some((Macro::Filter, Some(argument(0)?), None)),
                _ => Some((Macro::Map, Some(argument(0)?), Some(item))),
            }
        }
        _ => None,
    }
}

/// What `@result + [item]` appends.
fn appended(step: &IdedExpr) -> Option<&IdedExpr> {
    match &step.expr {
        Expr::Call(call) if call.func_name == operators::ADD => match &call.args.get(1)?.expr {
            Expr::List(list) => list.elements.first(),
            _ => None,
        },
        _ => None,
    }
}
