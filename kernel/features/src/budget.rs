//! What one evaluation may cost, and what an expression costs at worst.
//!
//! Whoever writes an expression chooses its loops, and whoever sends events chooses how long the lists are. So an expression
//! that is dear whatever it meets is refused when it is parsed, and an evaluation that becomes dear by what it meets ends.

use std::cell::Cell;

use kith_model::budget::table;

use crate::tree::Node;
use crate::value::{Arithmetic, Value};

/// Most steps of one evaluation: a step is a node of the tree, an item of a list that is copied or compared, or 64 bytes of
/// a text. About two milliseconds.
pub const MAX_STEPS: u64 = table::EXPRESSION_STEPS.default;

/// Most bytes of texts and lists that one evaluation makes, those that it lets go again included.
pub const MAX_PRODUCED_BYTES: u64 = table::EXPRESSION_BYTES.default;

/// How many items a list is taken to have that is not written in the expression.
const ASSUMED_ITEMS: u64 = 32;

/// After so many steps, some tenths of a millisecond, an evaluation lets whoever waits have the processor: it would keep it for
/// the scheduler's slice of milliseconds, whatever its priority, and each step of a neighbour's request would wait for that.
const STEPS_OF_A_STRETCH: u64 = 8_192;

/// What is left of an evaluation's budget.
pub(crate) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { steps: Cell::new(MAX_STEPS), bytes: Cell::new(MAX_PRODUCED_BYTES) }
    }
}

impl Budget {
    /// For an evaluation that reads the person's events themselves, as lists.
    pub(crate) fn of_history() -> Budget {
        Budget { steps: Cell::new(20 * MAX_STEPS), bytes: Cell::new(4 * MAX_PRODUCED_BYTES) }
    }

    /// Whether nothing is left: what was evaluated since has no meaning.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.steps.get() == 0 || self.bytes.get() == 0
    }

    /// The steps and the bytes that are left.
    pub(crate) fn left(&self) -> (u64, u64) {
        (self.steps.get(), self.bytes.get())
    }

    /// Take what an evaluation took whose value is known; whether something is left.
    pub(crate) fn take(&self, steps: u64, bytes: u64) -> bool {
        take(&self.bytes, bytes, &table::EXPRESSION_BYTES);
        self.step(steps)
    }

    /// Take steps; whether something is left.
    pub(crate) fn step(&self, steps: u64) -> bool {
        let before = self.steps.get();
        take(&self.steps, steps, &table::EXPRESSION_STEPS);
        if before / STEPS_OF_A_STRETCH != self.steps.get() / STEPS_OF_A_STRETCH {
            std::thread::yield_now();
        }
        !self.is_exhausted()
    }

    /// Take what making a value of `value`'s size costs; whether something is left.
    pub(crate) fn make(&self, value: &Value) -> bool {
        match value {
            Value::List(_) | Value::Map(_) => {
                take(&self.bytes, value.heap_bytes() as u64, &table::EXPRESSION_BYTES);
                self.step(weight(value))
            }
            // A text is shared, not copied.
            _ => !self.is_exhausted(),
        }
    }

    /// Take what making a new text of so many bytes costs; whether something is left.
    pub(crate) fn write(&self, bytes: usize) -> bool {
        take(&self.bytes, bytes as u64, &table::EXPRESSION_BYTES);
        self.step(text_steps(bytes))
    }
}

/// Take from what is left; whatever takes the last of it is counted.
fn take(left: &Cell<u64>, amount: u64, budget: &'static kith_model::budget::Budget) {
    let before = left.get();
    left.set(before.saturating_sub(amount));
    if amount >= before && before > 0 {
        budget.count();
    }
}

/// The steps of looking at all of a value.
pub(crate) fn weight(value: &Value) -> u64 {
    match value {
        Value::Text(text) => text_steps(text.len()),
        Value::List(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Map(fields) => 1 + fields.values().map(weight).sum::<u64>(),
        _ => 1,
    }
}

fn text_steps(bytes: usize) -> u64 {
    1 + bytes as u64 / 64
}

/// The steps of a tree at worst, and the items of the list that it yields.
///
/// Lists that are written count as they are, all others as [`ASSUMED_ITEMS`]; loops multiply. An aggregate over events is one
/// step, since it is kept up to date event by event.
pub(crate) fn worst_case(node: &Node) -> (u64, u64) {
    let below: Vec<(u64, u64)> = node.children().into_iter().map(worst_case).collect();
    let steps = below.iter().fold(1_u64, |steps, child| steps.saturating_add(child.0));
    let items_of = |child: usize| below.get(child).map_or(1, |child| child.1);
    match node {
        Node::Literal(value) => match value {
            Value::List(items) => (weight(value), items.len() as u64),
            value => (weight(value), 1),
        },
        Node::Feature(_)
        | Node::Variable(_)
        | Node::EventField(_)
        | Node::Events(..)
        | Node::Field(..)
        | Node::Index(..) => (steps, ASSUMED_ITEMS),
        Node::List(items) => (steps, items.len() as u64),
        Node::Calculate(Arithmetic::Add, ..) => {
            let items = items_of(0).saturating_add(items_of(1));
            (steps.saturating_add(items), items)
        }
        Node::Choose(_) => (steps, items_of(1).max(items_of(2))),
        Node::In(..) => (steps.saturating_add(items_of(1)), 1),
        Node::Call(..) => (steps.saturating_add(items_of(0)), items_of(0)),
        Node::MacroCall(_) => {
            let over = below.first().map_or(0, |over| over.0);
            // The list is made once, the rest for each of its items.
            let each_item = steps.saturating_sub(over);
            (over.saturating_add(items_of(0).saturating_mul(each_item)), items_of(0))
        }
        Node::Now
        | Node::Has(_)
        | Node::Not(_)
        | Node::Negate(_)
        | Node::And(..)
        | Node::Or(..)
        | Node::Compare(..)
        | Node::Matches(..)
        | Node::Object(_)
        | Node::Calculate(..) => (steps, 1),
    }
}
