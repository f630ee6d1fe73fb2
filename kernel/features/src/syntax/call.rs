//! Operators and functions: which there are and what they may be applied to.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::{Shape, Translated, Translator};
use crate::tree::{FUNCTIONS, Function, Node};
use crate::value::{Arithmetic, Comparison, Value, parse_duration};
use crate::window::Window;

impl Translator<'_> {
    pub(super) fn call(&mut self, at: &IdedExpr, call: &CallExpr) -> Translated {
        if call.target.is_none() {
            if call.func_name == "events" {
                return self.events(at, &call.args);
            }
            if let Some(node) = self.operator(at, call)? {
                return Ok(node);
            }
        }
        self.function(at, call)
    }

    fn operator(&mut self, at: &IdedExpr, call: &CallExpr) -> Translated<Option<(Node, Shape)>> {
        let binary: fn(Box<Node>, Box<Node>) -> Node = match call.func_name.as_str() {
            operators::LOGICAL_AND => Node::And,
            operators::LOGICAL_OR => Node::Or,
            operators::EQUALS => |a, b| Node::Compare(Comparison::Equal, a, b, 0),
            operators::NOT_EQUALS => |a, b| Node::Compare(Comparison::NotEqual, a, b, 0),
            operators::LESS => |a, b| Node::Compare(Comparison::Less, a, b, 0),
            operators::LESS_EQUALS => |a, b| Node::Compare(Comparison::LessOrEqual, a, b, 0),
            operators::GREATER => |a, b| Node::Compare(Comparison::Greater, a, b, 0),
            operators::GREATER_EQUALS => |a, b| Node::Compare(Comparison::GreaterOrEqual, a, b, 0),
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
        Ok(Some((binary(Box::new(a), Box::new(b)), Shape::Value)))
    }

    fn other_operator(&mut self, at: &IdedExpr, call: &CallExpr) -> Translated<Option<(Node, Shape)>> {
        let node = match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, [operand]) => Node::Not(Box::new(self.value(operand)?)),
            (operators::NEGATE, [operand]) => match self.value(operand)? {
                Node::Literal(value @ (Value::Int(_) | Value::Float(_))) => Node::Literal(value.negated()),
                operand => Node::Negate(Box::new(operand)),
            },
            (operators::CONDITIONAL, [condition, yes, no]) => {
                Node::Choose(Box::new([self.value(condition)?, self.value(yes)?, self.value(no)?]))
            }
            (operators::INDEX, [target, index]) => return self.index(at, target, index).map(Some),
            _ => return Ok(None),
        };
        Ok(Some((node, Shape::Value)))
    }

    fn index(&mut self, at: &IdedExpr, target: &IdedExpr, index: &IdedExpr) -> Translated {
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

    fn events(&mut self, at: &IdedExpr, arguments: &[IdedExpr]) -> Translated {
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

    fn function(&mut self, at: &IdedExpr, call: &CallExpr) -> Translated {
        let name = call.func_name.as_str();
        let Some(&(_, function, others, as_function, as_method)) = FUNCTIONS.iter().find(|entry| entry.0 == name)
        else {
            return self.refuse(at, unknown_function(name));
        };
        let arguments: Vec<&IdedExpr> = call.target.iter().map(AsRef::as_ref).chain(&call.args).collect();
        let wrong_style = if call.target.is_some() { !as_method } else { !as_function };
        if wrong_style || arguments.len() != others + 1 {
            let example = match (as_method, others) {
                (true, 0) => format!("write `x.{name}()`"),
                (true, _) => format!("write `x.{name}(y)`"),
                (false, _) => format!("write `{name}(x)`"),
            };
            return self.refuse(at, example);
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
        Ok((self.fold(at, function, nodes)?, shape))
    }

    /// Read literal times and durations once, here, where a mistake has a place.
    fn fold(&self, at: &IdedExpr, function: Function, arguments: Vec<Node>) -> Translated<Node> {
        let folded = match (function, arguments.as_slice()) {
            (Function::Duration, [Node::Literal(Value::Text(text))]) => match parse_duration(text) {
                Some(length) => Value::Duration(length),
                None => return self.refuse(at, format!("`{text}` is not a duration; write e.g. '7d', '36h' or '90m'")),
            },
            (Function::Timestamp, [Node::Literal(literal @ Value::Text(text))]) => match literal.as_time() {
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
            format!("write `list.{name}(e, …)` with a variable and what to do with it")
        }
        "matches" => "regular expressions are not supported; there are contains, startsWith and endsWith".into(),
        _ => {
            let known: Vec<&str> = FUNCTIONS.iter().map(|entry| entry.0).collect();
            format!("unknown function `{name}`; there are events, has, {}", known.join(", "))
        }
    }
}
