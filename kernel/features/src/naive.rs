//! The meaning of an expression: build the list of events, evaluate.
//!
//! This is the definition that the incremental way is held to. It is also how a condition is evaluated where no state
//! is kept: for a preview, for history, for a check.

use kith_model::time::Timestamp;

use crate::budget::Budget;
use crate::eval::Scope;
use crate::event::{EventFacts, OBJECTS};
use crate::expression::Expression;
use crate::facts::Facts;
use crate::tree::Node;
use crate::value::Value;
use crate::zone::Zone;

/// The value of an expression for a profile with these events, in any order.
pub fn evaluate(
    expression: &Expression,
    facts: &dyn Facts,
    events: &[EventFacts<'_>],
    now: Timestamp,
    zone: &Zone,
) -> Value {
    let mut ordered: Vec<&EventFacts<'_>> = events.iter().collect();
    ordered.sort_by(|a, b| a.order(b));
    let names =
        |field: &&str| expression.written().any(&mut |node| matches!(node, Node::Field(_, name) if **name == **field));
    let objects: Vec<&str> = OBJECTS.into_iter().filter(names).collect();
    let list = |name: &str, window: &crate::window::Window| {
        // Without a name: all that the person did. What the kernel did is there by name.
        let concerns =
            |event: &EventFacts<'_>| if name.is_empty() { event.is_activity() } else { event.name() == name };
        let chosen = ordered.iter().filter(|event| concerns(event) && window.holds(event.time(), now, zone));
        Value::List(chosen.map(|event| event.to_value(&objects)).collect())
    };
    let budget = Budget::of_history();
    let scope = Scope { events: &list, budget, ..Scope::new(facts, &|_| Value::Null, now, zone) };
    scope.evaluate(expression.written())
}
