//! Operators and functions: which there are and what they may be applied to.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::{Shape, TranslationResult, Translator, habits, place, words};
use crate::functions::{FUNCTIONS, Function, FunctionSpec};
use crate::pattern::Pattern;
use crate::tree::{Node, Pace};
use crate::value::{Arithmetic, Comparison, Value, parse_duration};
use crate::window::Window;

impl Translator<'_> {
    pub(super) fn call(&mut self, at: &IdedExpr, call: &CallExpr) -> TranslationResult {
        if call.target.is_none() {
            if call.func_name == "events" {
                return self.events(at, &call.args);
            }
            if self.is_has(at, call) {
                return self.has(at, &call.args);
            }
            if let Some(node) = self.operator(at, call)? {
                return Ok(node);
            }
        }
        self.function(at, call)
    }

    /// Whether it is the `has` that was renamed before the parser.
    fn is_has(&self, at: &IdedExpr, call: &CallExpr) -> bool {
        let start = place::start_of(self.text, &self.info, at);
        call.func_name == words::HAS && self.text.get(start..).is_some_and(|rest| rest.starts_with("has"))
    }

    /// `has(…)`: whether a value is there; of events, whether there are any.
    fn has(&mut self, at: &IdedExpr, arguments: &[IdedExpr]) -> TranslationResult {
        let [argument] = arguments else { return self.refuse(at, "write `has(x)`, e.g. `has(traits.city)`") };
        let (node, shape) = self.part(argument)?;
        let events = match (shape, node) {
            (Shape::Value, node) => {
                let has = Node::Has(Box::new(node));
                self.doubt_lists(argument, &has);
                return Ok((has, Shape::Value));
            }
            (Shape::Event, Node::Call(_, mut list)) if !list.is_empty() => list.swap_remove(0),
            (Shape::Event, _) => return self.refuse(argument, "name a field of the event, e.g. `has(e.total)`"),
            (Shape::Events, node) => node,
        };
        let count = Node::Call(Function::Size, vec![events]);
        let none = Node::Literal(Value::Int(0));
        Ok((Node::Compare(Comparison::Greater, Box::new(count), Box::new(none), Pace::NONE), Shape::Value))
    }

    fn operator(&mut self, at: &IdedExpr, call: &CallExpr) -> TranslationResult<Option<(Node, Shape)>> {
        if let operators::LOGICAL_AND | operators::LOGICAL_OR = call.func_name.as_str() {
            let [a, b] = call.args.as_slice() else { return self.refuse(at, "an operand is missing").map(Some) };
            let (a, b) = (Box::new(self.truth(a)?), Box::new(self.truth(b)?));
            let is_and = call.func_name == operators::LOGICAL_AND;
            return Ok(Some((if is_and { Node::And(a, b) } else { Node::Or(a, b) }, Shape::Value)));
        }
        let binary: fn(Box<Node>, Box<Node>) -> Node = match call.func_name.as_str() {
            operators::EQUALS => |a, b| Node::Compare(Comparison::Equal, a, b, Pace::NONE),
            operators::NOT_EQUALS => |a, b| Node::Compare(Comparison::NotEqual, a, b, Pace::NONE),
            operators::LESS => |a, b| Node::Compare(Comparison::Less, a, b, Pace::NONE),
            operators::LESS_EQUALS => |a, b| Node::Compare(Comparison::LessOrEqual, a, b, Pace::NONE),
            operators::GREATER => |a, b| Node::Compare(Comparison::Greater, a, b, Pace::NONE),
            operators::GREATER_EQUALS => |a, b| Node::Compare(Comparison::GreaterOrEqual, a, b, Pace::NONE),
            operators::ADD => |a, b| Node::Calculate(Arithmetic::Add, a, b),
            operators::SUBSTRACT => |a, b| Node::Calculate(Arithmetic::Subtract, a, b),
            operators::MULTIPLY => |a, b| Node::Calculate(Arithmetic::Multiply, a, b),
            operators::DIVIDE => |a, b| Node::Calculate(Arithmetic::Divide, a, b),
            operators::MODULO => |a, b| Node::Calculate(Arithmetic::Remainder, a, b),
            operators::IN => Node::In,
            _ => return self.other_operator(at, call),
        };
        let [a, b] = call.args.as_slice() else { return self.refuse(at, "an operand is missing") };
        let (a, b) = (self.value(a)?, self.value(b)?);
        let node = binary(Box::new(a), Box::new(b));
        self.doubt_negated_side(at, &node);
        self.doubt_sides(at, &node);
        self.doubt_lists(at, &node);
        Ok(Some((node, Shape::Value)))
    }

    fn other_operator(&mut self, at: &IdedExpr, call: &CallExpr) -> TranslationResult<Option<(Node, Shape)>> {
        let node = match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [operand]) => Node::Not(Box::new(self.truth(operand)?)),
            (operators::NEGATE, [operand]) => match self.value(operand)? {
                Node::Literal(value @ (Value::Int(_) | Value::Float(_))) => Node::Literal(value.negated()),
                operand => Node::Negate(Box::new(operand)),
            },
            (operators::CONDITIONAL, [condition, yes, no]) => {
                Node::Choose(Box::new([self.truth(condition)?, self.value(yes)?, self.value(no)?]))
            }
            (operators::INDEX, [target, index]) => return self.index(at, target, index).map(Some),
            _ => return Ok(None),
        };
        self.doubt_lists(at, &node);
        Ok(Some((node, Shape::Value)))
    }

    fn index(&mut self, at: &IdedExpr, target: &IdedExpr, index: &IdedExpr) -> TranslationResult {
        if let Expr::Literal(LiteralValue::String(name)) = &index.expr {
            return self.member(at, target, name.inner());
        }
        let (node, shape) = self.part(target)?;
        match shape {
            Shape::Value => {
                let index = self.value(index)?;
                Ok((Node::Index(Box::new(node), Box::new(index)), Shape::Value))
            }
            Shape::Events => {
                self.refuse(at, "events are not numbered; take `.first()` or `.last()` and one field of it")
            }
            Shape::Event => self.refuse(at, "a field is named by a text in quotes"),
        }
    }

    fn events(&mut self, at: &IdedExpr, arguments: &[IdedExpr]) -> TranslationResult {
        if self.in_event || !self.scope.is_empty() {
            return self.refuse(at, "events(…) cannot stand inside another list's condition; count it beside it");
        }
        let (name, window) = match arguments {
            [name] => (name, None),
            [name, window] => (name, Some(window)),
            _ => return self.refuse(at, "write `events('Order Completed')` or `events('Order Completed', '90d')`"),
        };
        let name = match self.value(name)? {
            Node::Literal(Value::Text(name)) if name.as_ref() == "*" => "".into(),
            Node::Literal(Value::Text(name)) => name,
            _ => return self.refuse(arguments.first().unwrap_or(at), "an event's name is a text in quotes"),
        };
        let window = match window {
            None => Window::Always,
            Some(window) => match self.value(window)? {
                Node::Literal(Value::Text(text)) => match Window::parse(&text) {
                    Ok(parsed) => parsed,
                    Err(message) => return self.refuse(window, message),
                },
                _ => return self.refuse(window, "a window is a text in quotes, e.g. '90d'"),
            },
        };
        Ok((Node::Events(name, window), Shape::Events))
    }

    fn function(&mut self, at: &IdedExpr, call: &CallExpr) -> TranslationResult {
        let name = call.func_name.as_str();
        if name == "matches" {
            return self.matches(at, call);
        }
        let Some(&FunctionSpec { function, others, as_function, as_method, example, .. }) =
            FUNCTIONS.iter().find(|spec| spec.name == name)
        else {
            return self.refuse(at, unknown_function(name));
        };
        let arguments: Vec<&IdedExpr> = call.target.iter().map(AsRef::as_ref).chain(&call.args).collect();
        let wrong_style = if call.target.is_some() { !as_method } else { !as_function };
        if wrong_style || arguments.len() != others + 1 {
            let spelling = match (as_method, others) {
                (true, 0) => format!("write `x.{name}()`"),
                (true, _) => format!("write `x.{name}(y)`"),
                (false, _) => format!("write `{name}(x)`"),
            };
            return self.refuse(at, format!("{spelling}, e.g. `{}`", example.0));
        }
        let (target, shape) = self.part(arguments[0])?;
        let shape = match (shape, function) {
            (Shape::Value, _) | (Shape::Events, Function::Size) => Shape::Value,
            (Shape::Events, Function::First | Function::Last) => Shape::Event,
            (Shape::Events, _) => {
                let message =
                    format!("`{name}` needs values; take a field of each event: `.map(e, e.revenue).{name}()`");
                return self.refuse(at, message);
            }
            (Shape::Event, _) => return self.refuse(arguments[0], "a whole event is no value; name one of its fields"),
        };
        let mut nodes = vec![target];
        for argument in &arguments[1..] {
            nodes.push(self.value(argument)?);
        }
        let node = self.fold(at, function, nodes)?;
        self.doubt_lists(at, &node);
        Ok((node, shape))
    }

    /// `x.matches('…')`: the pattern is a literal, so that a mistake in it has a place and it is read once.
    fn matches(&mut self, at: &IdedExpr, call: &CallExpr) -> TranslationResult {
        let (Some(target), [pattern]) = (&call.target, call.args.as_slice()) else {
            return self.refuse(at, "write `x.matches('…')`, e.g. `traits.email.matches('@example[.](org|com)$')`");
        };
        let Node::Literal(Value::Text(text)) = self.value(pattern)? else {
            return self.refuse(pattern, "a pattern is a text in quotes, e.g. `traits.zip.matches('^[0-9]{5}$')`");
        };
        let target = self.value(target)?;
        match Pattern::parse(&text) {
            Ok(pattern) => {
                let node = Node::Matches(Box::new(target), pattern);
                self.doubt_lists(at, &node);
                Ok((node, Shape::Value))
            }
            Err(message) => self.refuse(pattern, message),
        }
    }

    /// Read literal times and durations once, here, where a mistake has a place.
    fn fold(&self, at: &IdedExpr, function: Function, arguments: Vec<Node>) -> TranslationResult<Node> {
        let folded = match (function, arguments.as_slice()) {
            (Function::Duration, [Node::Literal(Value::Text(text))]) => match parse_duration(text) {
                Some(length) => Value::Duration(length),
                None => return self.refuse(at, format!("`{text}` is not a duration; write e.g. '7d', '36h' or '90m'; months and years have no fixed length")),
            },
            (Function::Timestamp, [Node::Literal(literal @ Value::Text(text))]) => match literal.as_time(self.zone) {
                Some(time) => Value::Time(time),
                None => {
                    let message = format!("`{text}` is not a time; write e.g. '2026-11-21T10:00:00Z' or '2026-11-21'");
                    return self.refuse(at, message);
                }
            },
            _ => return Ok(Node::Call(function, arguments)),
        };
        Ok(Node::Literal(folded))
    }
}

fn unknown_function(name: &str) -> String {
    match name {
        "filter" | "map" | "exists" | "all" | "exists_one" | "existsOne" => {
            return format!(
                "write `list.{name}(e, …)` with a variable and what to do with it; `has(x)` asks whether x is there"
            );
        }
        words::HAS => return "unknown function `haS`; write `has(x)`".into(),
        _ => {}
    }
    if let Some(told) = habits::call(name) {
        return told;
    }
    let known: Vec<&str> = FUNCTIONS.iter().map(|spec| spec.name).collect();
    format!("unknown function `{name}`; there are events, has, matches, {}", known.join(", "))
}
