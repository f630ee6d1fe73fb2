//! What each node of the tree means. One evaluator serves the compiled tree, the naive reading and the conditions
//! inside leaves, so that there is one meaning.

mod objects;
mod parts;

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;

use kith_model::time::Timestamp;

use self::parts::joined;
pub(crate) use self::parts::{PartId, parts_of};
pub use self::parts::{PartValues, SharedParts};
use crate::budget::{Budget, weight};
use crate::event::EventFacts;
use crate::facts::{Facts, NoFacts};
use crate::functions::Function;
use crate::sum::ExactSum;
use crate::tree::{Connective, FeatureName, LeafId, Macro, MacroCall, Node, Pace};
use crate::value::{Arithmetic, Comparison, Value, parse_duration};
use crate::window::Window;
use crate::zone::Zone;

/// Where values come from.
pub(crate) struct Scope<'a> {
    pub(crate) facts: &'a dyn Facts,
    pub(crate) leaf_value: &'a dyn Fn(LeafId) -> Value,
    /// The profile's events, for the naive reading: name and window → list.
    pub(crate) events: &'a dyn Fn(&str, &Window) -> Value,
    /// The event that a leaf is looking at.
    pub(crate) event: Option<&'a EventFacts<'a>>,
    pub(crate) now: Timestamp,
    /// Whose days dates are.
    pub(crate) zone: &'a Zone,
    /// The earliest later moment at which a comparison with `now` may turn out otherwise.
    pub(crate) next_change_at: Cell<Option<Timestamp>>,
    pub(crate) budget: Budget,
    /// Leaves that a loop asked for.
    pub(crate) leaves: RefCell<Vec<(LeafId, Value)>>,
}

impl<'a> Scope<'a> {
    /// A scope without events.
    pub(crate) fn new(
        facts: &'a dyn Facts,
        leaf_value: &'a dyn Fn(LeafId) -> Value,
        now: Timestamp,
        zone: &'a Zone,
    ) -> Scope<'a> {
        Scope {
            facts,
            leaf_value,
            events: &|_, _| Value::Null,
            event: None,
            now,
            zone,
            next_change_at: Cell::new(None),
            budget: Budget::default(),
            leaves: RefCell::default(),
        }
    }

    /// A scope with nothing in it but one event.
    pub(crate) fn of_event(event: &'a EventFacts<'a>, zone: &'a Zone) -> Scope<'a> {
        Scope { event: Some(event), ..Scope::new(&NoFacts, &|_| Value::Null, event.time(), zone) }
    }

    /// The value of a tree; where its budget ends, unknown, or null in a scope of one event, of which nothing is pending.
    pub(crate) fn evaluate(&self, node: &Node) -> Value {
        let value = self.value(node, &mut Vec::new());
        match (self.budget.is_exhausted(), self.event) {
            (false, _) => value,
            (true, None) => Value::Unknown,
            (true, Some(_)) => Value::Null,
        }
    }

    fn value(&self, node: &Node, variables: &mut Vec<Value>) -> Value {
        if !self.budget.step(1) {
            return Value::Unknown;
        }
        match node {
            Node::Literal(value) => self.made(value),
            Node::Feature(FeatureName::Leaf(id)) if !variables.is_empty() => self.leaf_in_loop(*id),
            Node::Feature(name) => self.charged(self.feature(name)),
            Node::Now => Value::Time(self.now),
            Node::Variable(slot) => variables.get(*slot).map(|value| self.made(value)).unwrap_or_default(),
            Node::EventField(path) => {
                self.charged(self.event.map(|event| event.field(path).into_owned()).unwrap_or_default())
            }
            Node::Events(name, window) => self.charged((self.events)(name, window)),
            Node::Field(target, name) if let Node::Variable(slot) = target.as_ref() => match variables.get(*slot) {
                // Of a loop's item only the field is copied.
                Some(Value::Map(fields)) => fields.get(name.as_ref()).map(|value| self.made(value)).unwrap_or_default(),
                Some(Value::Unknown) => Value::Unknown,
                _ => Value::Null,
            },
            Node::Field(target, name) => match self.value(target, variables) {
                Value::Map(mut fields) => fields.remove(name.as_ref()).unwrap_or_default(),
                Value::Unknown => Value::Unknown,
                _ => Value::Null,
            },
            Node::Index(target, index) => item_at(self.value(target, variables), &self.value(index, variables)),
            Node::Has(target) => match self.value(target, variables) {
                Value::Unknown => Value::Unknown,
                value => Value::Bool(!value.is_null()),
            },
            Node::Not(operand) => {
                self.value(operand, variables).holds().map_or(Value::Unknown, |holds| Value::Bool(!holds))
            }
            Node::Negate(operand) => self.value(operand, variables).negated(),
            Node::And(a, b) => self.connective(Connective::And, a, b, variables),
            Node::Or(a, b) => self.connective(Connective::Or, a, b, variables),
            Node::Compare(comparison, a, b, pace) => self.comparison(*comparison, a, b, *pace, variables),
            Node::Calculate(operator, a, b) => {
                let (a, b) = (self.value(a, variables), self.value(b, variables));
                self.calculated(*operator, &a, &b)
            }
            Node::In(item, list) => self.contained(item, list, variables),
            Node::Choose(parts) => self.chosen(parts, variables),
            Node::List(items) => list_of(items.iter().map(|item| self.value(item, variables))),
            Node::Object(fields) => self.object(fields, variables),
            Node::MacroCall(each) => self.each(each, variables),
            Node::Call(function, arguments) if function.is_of_calendar() => {
                let [of] = arguments.as_slice() else { return Value::Null };
                let value = self.value(of, variables);
                self.called_of_calendar(*function, of, &value)
            }
            Node::Call(function, arguments) => {
                let mut arguments = arguments.iter().map(|argument| self.value(argument, variables));
                let target = arguments.next().unwrap_or_default();
                self.called(*function, target, &arguments.next().unwrap_or_default())
            }
            Node::Matches(target, pattern) => match self.value(target, variables) {
                Value::Unknown => Value::Unknown,
                // Some steps for each letter, and always a number of them.
                value if self.budget.step(8 * weight(&value)) => {
                    Value::Bool(value.as_text().is_some_and(|text| pattern.is_found_in(&text)))
                }
                _ => Value::Unknown,
            },
        }
    }

    /// A copy of a value, if there is budget for it.
    fn made(&self, value: &Value) -> Value {
        if self.budget.make(value) { value.clone() } else { Value::Unknown }
    }

    /// A value that was made by somebody else: it is charged once it is there.
    fn charged(&self, value: Value) -> Value {
        if self.budget.make(&value) { value } else { Value::Unknown }
    }

    /// A leaf's value is put together from its states; a loop does that once.
    fn leaf_in_loop(&self, id: LeafId) -> Value {
        let held = self.leaves.borrow().iter().find(|(held, _)| *held == id).map(|(_, value)| self.made(value));
        held.unwrap_or_else(|| {
            let value = self.charged((self.leaf_value)(id));
            self.leaves.borrow_mut().push((id, value.clone()));
            value
        })
    }

    fn calculated(&self, operator: Arithmetic, a: &Value, b: &Value) -> Value {
        let has_room = match (a, b) {
            (Value::Text(a), Value::Text(b)) => self.budget.write(a.len() + b.len()),
            (Value::List(_), Value::List(_)) => self.budget.make(a) && self.budget.make(b),
            _ => true,
        };
        if has_room { a.calculate(operator, b, self.zone) } else { Value::Unknown }
    }

    fn called(&self, function: Function, target: Value, argument: &Value) -> Value {
        let has_room = match (function, &target) {
            (Function::Lower | Function::Upper | Function::Text, Value::Text(text)) => self.budget.write(text.len()),
            // Sorting compares each item some times.
            (Function::Distinct, list) => self.budget.step(4 * weight(list)),
            _ => self.budget.step(weight(&target)),
        };
        if has_room { call(function, target, argument, self.zone) } else { Value::Unknown }
    }

    /// A part of a date or time, on the workspace's calendar. Where it moves with time, note when it comes to its next value.
    fn called_of_calendar(&self, function: Function, of: &Node, value: &Value) -> Value {
        if value.is_unknown() {
            return Value::Unknown;
        }
        let Some(time) = value.as_time(self.zone) else { return Value::Null };
        if of.any(&mut |node| matches!(node, Node::Now)) {
            let next = match function {
                Function::Hour => self.zone.next_hour(time),
                _ => self.zone.start_of_day(self.zone.day(time).saturating_add(1)),
            };
            self.note_change(self.now.0.checked_add(next.0.saturating_sub(time.0).max(1)));
        }
        match function {
            Function::Hour => Value::Int(self.zone.hour(time)),
            function => match (function, self.zone.date(time)) {
                (Function::Year, Some(date)) => Value::Int(date.year().into()),
                (Function::Month, Some(date)) => Value::Int(date.month().into()),
                (Function::Day, Some(date)) => Value::Int(date.day().into()),
                (Function::Weekday, Some(date)) => Value::Int(date.weekday().to_monday_one_offset().into()),
                _ => Value::Null,
            },
        }
    }

    fn feature(&self, name: &FeatureName) -> Value {
        match name {
            FeatureName::Trait(name) => self.facts.trait_value(name),
            FeatureName::Tag(name) => self.facts.tag_value(name),
            FeatureName::Score(name) => self.facts.score_value(name),
            FeatureName::CreatedAt => self.facts.created_at().map_or(Value::Null, Value::Time),
            FeatureName::Identifiers(kind) => self.facts.identifiers(kind),
            FeatureName::Leaf(id) => (self.leaf_value)(*id),
            FeatureName::Audience(_) => Value::Null,
        }
    }

    fn chosen(&self, [condition, yes, no]: &[Node; 3], variables: &mut Vec<Value>) -> Value {
        match self.value(condition, variables) {
            Value::Bool(true) => self.value(yes, variables),
            // Whichever way the condition will turn out, equal branches give the same.
            Value::Unknown => {
                let yes = self.value(yes, variables);
                if yes == self.value(no, variables) { yes } else { Value::Unknown }
            }
            _ => self.value(no, variables),
        }
    }

    fn connective(&self, connective: Connective, a: &Node, b: &Node, variables: &mut Vec<Value>) -> Value {
        let a = self.value(a, variables);
        joined(connective, &a, || self.value(b, variables))
    }

    fn comparison(&self, comparison: Comparison, a: &Node, b: &Node, pace: Pace, variables: &mut Vec<Value>) -> Value {
        let a = self.value(a, variables);
        // Literals are compared in place: the common case, and the one where a list may be long.
        let other;
        let b = match b {
            Node::Literal(literal) => literal,
            b => {
                other = self.value(b, variables);
                &other
            }
        };
        if pace != Pace::NONE {
            self.note_crossing(&a, b, pace.0);
        }
        if !self.budget.step(weight(&a)) {
            return Value::Unknown;
        }
        a.compared(comparison, b, self.zone)
    }

    /// Note when `a` and `b` meet, given that `a − b` grows by `pace` for each unit of time.
    fn note_crossing(&self, a: &Value, b: &Value, pace: i8) {
        let difference = match (a, b) {
            (Value::Duration(a), Value::Duration(b)) => i128::from(*a) - i128::from(*b),
            _ => match (a.as_time(self.zone), b.as_time(self.zone)) {
                (Some(a), Some(b)) => i128::from(a.0) - i128::from(b.0),
                _ => return,
            },
        };
        // Equal now: a moment later they are not. Growing apart: they never meet again.
        let wait = match (difference.signum(), i128::from(pace).signum()) {
            (0, _) => 1,
            (side, direction) if side != direction => (difference.abs() / i128::from(pace).abs()).max(1),
            _ => return,
        };
        let Ok(wait) = i64::try_from(wait) else { return };
        self.note_change(self.now.0.checked_add(wait));
    }

    /// Note a moment at which something may turn out otherwise.
    fn note_change(&self, at: Option<i64>) {
        let Some(at) = at.map(Timestamp) else { return };
        let earliest = self.next_change_at.get().map_or(at, |known| known.min(at));
        self.next_change_at.set(Some(earliest));
    }

    fn contained(&self, item: &Node, list: &Node, variables: &mut Vec<Value>) -> Value {
        let item = self.value(item, variables);
        let other;
        let list = match list {
            Node::Literal(list) => list,
            list => {
                other = self.value(list, variables);
                &other
            }
        };
        if self.budget.step(weight(list)) { is_in(&item, list, self.zone) } else { Value::Unknown }
    }

    fn each(&self, each: &MacroCall, variables: &mut Vec<Value>) -> Value {
        let Some(items) = self.value(&each.over, variables).into_items() else { return Value::Unknown };
        // A lambda's number says where its variable is; outer ones that a leaf never binds stay null.
        variables.resize(each.slot, Value::Null);
        let mut kept = Vec::new();
        let (mut met, mut unknown) = (0_usize, 0_usize);
        let total = items.len();
        for (item, seen) in items.into_iter().zip(1..) {
            variables.push(item);
            let condition = each.condition.as_ref().map(|condition| self.value(condition, variables));
            unknown += usize::from(condition.as_ref().is_some_and(Value::is_unknown));
            let meets = condition.is_none_or(|condition| condition.is_true());
            met += usize::from(meets);
            if meets && let Some(body) = &each.item {
                kept.push(self.value(body, variables));
            }
            let item = variables.pop().unwrap_or_default();
            if meets && each.kind == Macro::Filter {
                kept.push(item);
            }
            // Nothing that follows changes the answer.
            let is_decided = match each.kind {
                Macro::Exists => met > 0,
                Macro::All => met + unknown < seen,
                Macro::ExistsOne => met > 1,
                Macro::Filter | Macro::Map => false,
            };
            if is_decided || self.budget.is_exhausted() {
                break;
            }
        }
        // With an item in question, only what no answer about it can change is known.
        match each.kind {
            Macro::Exists if met > 0 || unknown == 0 => Value::Bool(met > 0),
            Macro::All if met + unknown < total || unknown == 0 => Value::Bool(met == total),
            Macro::ExistsOne if met > 1 || unknown == 0 => Value::Bool(met == 1),
            Macro::Filter | Macro::Map if unknown == 0 => list_of(kept),
            _ => Value::Unknown,
        }
    }
}

/// A list, strict in its items, so that no unknown value hides inside another.
fn list_of(items: impl IntoIterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.into_iter().collect();
    if items.iter().any(Value::is_unknown) { Value::Unknown } else { Value::List(items) }
}

fn item_at(target: Value, index: &Value) -> Value {
    match (target, index) {
        (Value::Unknown, _) | (_, Value::Unknown) => Value::Unknown,
        (Value::Map(mut fields), Value::Text(name)) => fields.remove(name.as_ref()).unwrap_or_default(),
        (Value::List(mut items), Value::Int(index)) => match usize::try_from(*index) {
            Ok(index) if index < items.len() => items.swap_remove(index),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

/// Whether a list has an item, or a map a name. What is absent has nothing, and what is no list is a list of itself alone.
fn is_in(item: &Value, container: &Value, zone: &Zone) -> Value {
    Value::Bool(match (item, container) {
        (Value::Unknown, _) | (_, Value::Unknown) => return Value::Unknown,
        (item, Value::List(items)) => items.iter().any(|other| item.equals(other, zone)),
        (Value::Text(name), Value::Map(fields)) => fields.contains_key(name.as_ref()),
        (_, Value::Null) => false,
        (item, alone) => item.equals(alone, zone),
    })
}

fn call(function: Function, target: Value, argument: &Value, zone: &Zone) -> Value {
    if target.is_unknown() || argument.is_unknown() {
        return Value::Unknown;
    }
    match function {
        Function::Size => match &target {
            Value::Map(fields) => count(fields.len()),
            Value::Text(text) => count(text.chars().count()),
            _ => count(target.into_items().unwrap_or_default().len()),
        },
        Function::Sum | Function::Min | Function::Max | Function::Average | Function::Distinct => {
            aggregate(function, target.into_items().unwrap_or_default())
        }
        Function::First => target.into_items().unwrap_or_default().into_iter().next().unwrap_or_default(),
        Function::Last => target.into_items().unwrap_or_default().pop().unwrap_or_default(),
        Function::Contains if matches!(target, Value::List(_)) => is_in(argument, &target, zone),
        Function::Contains => text_test(&target, argument, |text, part| text.contains(part)),
        Function::StartsWith => text_test(&target, argument, |text, part| text.starts_with(part)),
        Function::EndsWith => text_test(&target, argument, |text, part| text.ends_with(part)),
        Function::Lower => text_change(&target, str::to_lowercase),
        Function::Upper => text_change(&target, str::to_uppercase),
        Function::Int => target.to_int(),
        Function::Double => target.to_double(),
        Function::Text => target.to_text(),
        Function::Timestamp => target.as_time(zone).map_or(Value::Null, Value::Time),
        Function::Duration => match &target {
            Value::Duration(_) => target,
            Value::Text(text) => parse_duration(text).map_or(Value::Null, Value::Duration),
            _ => Value::Null,
        },
        // Answered where the moment is known at which they change.
        Function::Year | Function::Month | Function::Day | Function::Weekday | Function::Hour => Value::Null,
    }
}

/// A number of items.
pub(crate) fn count(items: usize) -> Value {
    Value::Int(i64::try_from(items).unwrap_or(i64::MAX))
}

fn text_test(target: &Value, argument: &Value, test: impl Fn(&str, &str) -> bool) -> Value {
    let holds = target.as_text().zip(argument.as_text()).is_some_and(|(text, part)| test(&text, &part));
    Value::Bool(holds)
}

fn text_change(target: &Value, change: impl Fn(&str) -> String) -> Value {
    target.as_text().map_or(Value::Null, |text| Value::text(change(&text)))
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

/// The mean of `numbers` numbers with this sum: null of none.
pub(crate) fn mean(sum: &ExactSum, numbers: u64) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2⁵³ events")]
    if numbers == 0 { Value::Null } else { Value::float(sum.rounded() / numbers as f64) }
}

/// The distinct values of a list that is sorted by [`Value::order`]: 1 and 1.0 are one value.
pub(crate) fn deduplicate(items: &mut Vec<Value>) {
    items.dedup_by(|later, earlier| {
        later.order(earlier).is_eq()
            || (is_number(later) && is_number(earlier) && later.compare_alike(earlier).is_some_and(Ordering::is_eq))
    });
}

/// What a value is among the least and the greatest: a text that is a number counts as the number.
pub(crate) fn ranked(value: Value) -> Value {
    match value {
        Value::Text(_) => value.as_number().unwrap_or(value),
        value => value,
    }
}

/// The order in which the greatest is found: any number is greater than what is none, so that one odd text among amounts is not
/// the largest of them.
pub(crate) fn greatness(a: &Value, b: &Value) -> Ordering {
    is_number(a).cmp(&is_number(b)).then_with(|| a.order(b))
}

/// Aggregates of a list. Nulls are left out; sums and means leave out all that is no number.
fn aggregate(function: Function, mut items: Vec<Value>) -> Value {
    items.retain(|item| !item.is_null());
    match function {
        Function::Sum | Function::Average => {
            let mut sum = ExactSum::default();
            let mut numbers = 0;
            for item in items.iter().filter_map(Value::as_number) {
                sum.add(&item);
                numbers += 1;
            }
            if function == Function::Sum { sum.value() } else { mean(&sum, numbers) }
        }
        Function::Min => items.into_iter().map(ranked).min_by(Value::order).unwrap_or_default(),
        Function::Max => items.into_iter().map(ranked).max_by(greatness).unwrap_or_default(),
        _ => {
            items.sort_by(Value::order);
            deduplicate(&mut items);
            Value::List(items)
        }
    }
}
