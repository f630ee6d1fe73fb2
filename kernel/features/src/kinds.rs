//! Which kinds of values an expression can give, as far as its form tells, and which columns take them.
//!
//! What a sender or a plugin chooses, such as a property or a tag, may be anything; what a function or an operator makes is
//! known. So an input that is declared as something its expression never gives is found before anybody's values are missing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kith_model::table::{ColumnType, RecordField};

use crate::expression::Expression;
use crate::functions::Function;
use crate::tree::{FeatureName, Macro, MacroCall, Node};
use crate::value::{Arithmetic, Value};

/// A set of kinds of single values, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KindSet(u16);

impl KindSet {
    const NONE: KindSet = KindSet(0);
    const BOOL: KindSet = KindSet(1);
    const WHOLE: KindSet = KindSet(1 << 1);
    const FLOAT: KindSet = KindSet(1 << 2);
    const TEXT: KindSet = KindSet(1 << 3);
    const TIME: KindSet = KindSet(1 << 4);
    const DURATION: KindSet = KindSet(1 << 5);
    const LIST: KindSet = KindSet(1 << 6);
    const MAP: KindSet = KindSet(1 << 7);
    /// One of the person's events: an object some fields of which are known.
    const EVENT: KindSet = KindSet(1 << 8);
    const NUMBER: KindSet = KindSet(1 << 1 | 1 << 2);
    /// Whatever a sender may have written.
    const ANY: KindSet = KindSet((1 << 8) - 1);

    const SINGLE: [KindSet; 9] = [
        KindSet::BOOL,
        KindSet::WHOLE,
        KindSet::FLOAT,
        KindSet::TEXT,
        KindSet::TIME,
        KindSet::DURATION,
        KindSet::LIST,
        KindSet::MAP,
        KindSet::EVENT,
    ];

    fn or(self, other: KindSet) -> KindSet {
        KindSet(self.0 | other.0)
    }

    fn and(self, other: KindSet) -> KindSet {
        KindSet(self.0 & other.0)
    }

    fn without(self, other: KindSet) -> KindSet {
        KindSet(self.0 & !other.0)
    }

    fn has(self, any_of: KindSet) -> bool {
        self.0 & any_of.0 != 0
    }

    fn is_within(self, of: KindSet) -> bool {
        self.0 & !of.0 == 0
    }

    fn each(self) -> impl Iterator<Item = KindSet> {
        KindSet::SINGLE.into_iter().filter(move |kind| self.has(*kind))
    }
}

/// The kinds of values that an expression can give; what is absent or pending is always one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    own: KindSet,
    /// Of the items, where it is a list; `None` for anything.
    items: Option<Box<Kinds>>,
    /// Of the fields, where it is an object that is written out; `None` for whichever there are.
    fields: Option<BTreeMap<String, Kinds>>,
}

impl Expression {
    /// Which kinds of values it can give.
    pub fn kinds(&self) -> Kinds {
        of(self.written(), &mut Vec::new())
    }
}

impl Kinds {
    const fn single(own: KindSet) -> Kinds {
        Kinds { own, items: None, fields: None }
    }

    fn any() -> Kinds {
        Kinds::single(KindSet::ANY)
    }

    fn list(of: Kinds) -> Kinds {
        Kinds { own: KindSet::LIST, items: Some(Box::new(of)), fields: None }
    }

    fn object(fields: BTreeMap<String, Kinds>) -> Kinds {
        Kinds { own: KindSet::MAP, items: None, fields: Some(fields) }
    }

    fn or(self, other: Kinds) -> Kinds {
        // Where only one of the two is a list, its items are those of both.
        let items = match (self.own.has(KindSet::LIST), other.own.has(KindSet::LIST)) {
            (true, true) => match (self.items, other.items) {
                (Some(a), Some(b)) => Some(Box::new(a.or(*b))),
                _ => None,
            },
            (true, false) => self.items,
            (false, _) => other.items,
        };
        let fields = match (self.own.has(KindSet::MAP), other.own.has(KindSet::MAP)) {
            (true, true) => self.fields.zip(other.fields).map(|(a, b)| of_either(a, b)),
            (true, false) => self.fields,
            (false, _) => other.fields,
        };
        Kinds { own: self.own.or(other.own), items, fields }
    }

    /// Of the items that it counts as where a list is asked for: what is no list is one of itself alone.
    fn as_items(&self) -> Kinds {
        let alone = Kinds { own: self.own.without(KindSet::LIST), items: None, fields: self.fields.clone() };
        match (self.own.has(KindSet::LIST), &self.items) {
            (false, _) => alone,
            (true, Some(items)) => alone.or(Kinds::clone(items)),
            (true, None) => Kinds::any().or(alone),
        }
    }

    /// Whether a column of this type can hold any of what comes. A number that may have a fraction fits no column of whole
    /// numbers: all that have one would be absent.
    pub fn fit(&self, column: &ColumnType) -> bool {
        let scalars = |kinds: KindSet| self.own.has(kinds);
        let list_of = |fit: &dyn Fn(&Kinds) -> bool| {
            let is_list = self.own.has(KindSet::LIST);
            is_list && self.items.as_ref().is_none_or(|items| items.own == KindSet::NONE || fit(items))
        };
        let list = |item: ColumnType| list_of(&|items| items.fit(&item));
        match column {
            ColumnType::Boolean => scalars(KindSet::BOOL),
            ColumnType::Int64 => {
                let may_have_fraction = self.own.is_within(KindSet::NUMBER) && self.own.has(KindSet::FLOAT);
                scalars(KindSet::WHOLE.or(KindSet::DURATION).or(KindSet::TEXT)) && !may_have_fraction
            }
            ColumnType::Float64 => scalars(KindSet::NUMBER.or(KindSet::DURATION).or(KindSet::TEXT)),
            ColumnType::Timestamp => scalars(KindSet::TIME.or(KindSet::TEXT)),
            ColumnType::Text => scalars(KindSet::BOOL.or(KindSet::NUMBER).or(KindSet::TEXT).or(KindSet::TIME)),
            ColumnType::Int64List => list(ColumnType::Int64),
            ColumnType::Float64List => list(ColumnType::Float64),
            ColumnType::TimestampList => list(ColumnType::Timestamp),
            ColumnType::TextList => list(ColumnType::Text),
            ColumnType::Records(declared) => list_of(&|items| items.fit_fields(declared)),
        }
    }

    /// Whether records of these fields can hold it: an object that is written out has just these, each of its type.
    fn fit_fields(&self, declared: &[RecordField]) -> bool {
        let fit = |fields: &BTreeMap<String, Kinds>| {
            let fit = |field: &RecordField| fields.get(&field.name).is_some_and(|kinds| kinds.fit(&field.column_type));
            fields.len() == declared.len() && declared.iter().all(fit)
        };
        self.own.has(KindSet::MAP) && self.fields.as_ref().is_none_or(fit)
    }

    /// The fields of its items by their names, where it is a list of objects that are written out.
    pub fn record_fields(&self) -> Option<&BTreeMap<String, Kinds>> {
        let items = self.items.as_ref().filter(|_| self.own == KindSet::LIST)?;
        items.fields.as_ref().filter(|_| items.own == KindSet::MAP)
    }

    /// The type of column that suits best; `None` where none does.
    pub fn column(&self) -> Option<ColumnType> {
        let scalars = [ColumnType::Boolean, ColumnType::Int64, ColumnType::Float64, ColumnType::Timestamp];
        let lists = [ColumnType::Int64List, ColumnType::Float64List, ColumnType::TimestampList, ColumnType::TextList];
        // A text fits columns of numbers and of times too, if it is written as one.
        let may_be_text = self.own.has(KindSet::TEXT);
        let items_may = self.items.as_ref().is_none_or(|items| items.own.has(KindSet::TEXT));
        let text = may_be_text.then_some(ColumnType::Text);
        let texts = (self.own.is_within(KindSet::LIST) && items_may).then_some(ColumnType::TextList);
        let mut candidates = text.into_iter().chain(texts).chain(scalars).chain([ColumnType::Text]).chain(lists);
        candidates.find(|column| self.fit(column))
    }

    /// Whether a value is of a kind that is one of these.
    #[cfg(test)]
    pub(crate) fn include(&self, value: &Value) -> bool {
        let of = Kinds::of_value(value).own;
        let is_own = of.is_within(self.own) || of == KindSet::MAP && self.own.has(KindSet::EVENT);
        let items = match value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        is_own && self.items.as_ref().is_none_or(|kinds| items.iter().all(|item| kinds.include(item)))
    }

    fn of_value(value: &Value) -> Kinds {
        match value {
            Value::Null | Value::Unknown => Kinds::single(KindSet::NONE),
            Value::Bool(_) => Kinds::single(KindSet::BOOL),
            Value::Int(_) => Kinds::single(KindSet::WHOLE),
            Value::Float(_) => Kinds::single(KindSet::FLOAT),
            Value::Text(_) => Kinds::single(KindSet::TEXT),
            Value::Time(_) => Kinds::single(KindSet::TIME),
            Value::Duration(_) => Kinds::single(KindSet::DURATION),
            Value::List(items) => Kinds::list(union(items.iter().map(Kinds::of_value))),
            Value::Map(_) => Kinds::single(KindSet::MAP),
        }
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if KindSet::ANY.is_within(self.own) {
            return f.write_str("anything");
        }
        let mut words: Vec<String> = Vec::new();
        let mut say = |kinds: KindSet, text: &str| {
            if self.own.has(kinds) {
                words.push(text.to_owned());
            }
        };
        say(KindSet::BOOL, "true or false");
        match self.own.and(KindSet::NUMBER) {
            KindSet::WHOLE => say(KindSet::WHOLE, "a whole number"),
            _ => say(KindSet::NUMBER, "a number that may have a fraction"),
        }
        say(KindSet::TEXT, "a text");
        say(KindSet::TIME, "a time");
        say(KindSet::DURATION, "a length of time");
        match &self.fields {
            Some(fields) if !fields.is_empty() => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                say(KindSet::MAP, &format!("an object of `{}`", names.join("`, `")));
            }
            _ => say(KindSet::MAP.or(KindSet::EVENT), "an object"),
        }
        if self.own.has(KindSet::LIST) {
            words.push(match &self.items {
                Some(items) if items.own != KindSet::NONE => format!("a list, each item {items}"),
                _ => "a list".to_owned(),
            });
        }
        if words.is_empty() {
            f.write_str("nothing, whomever it is asked of")
        } else {
            f.write_str(&words.join(" or "))
        }
    }
}

fn union(all: impl Iterator<Item = Kinds>) -> Kinds {
    all.fold(Kinds::single(KindSet::NONE), Kinds::or)
}

/// The kinds of a node; `variables` are those of the lambdas around it.
fn of(node: &Node, variables: &mut Vec<Kinds>) -> Kinds {
    match node {
        Node::Literal(value) => Kinds::of_value(value),
        Node::Feature(FeatureName::CreatedAt) | Node::Now => Kinds::single(KindSet::TIME),
        Node::Feature(FeatureName::Identifiers(_)) => Kinds::list(Kinds::single(KindSet::TEXT)),
        Node::Feature(_) | Node::EventField(_) => Kinds::any(),
        Node::Variable(slot) => variables.get(*slot).cloned().unwrap_or_else(Kinds::any),
        Node::Events(..) => Kinds::list(Kinds::single(KindSet::EVENT)),
        Node::Field(target, name) => of_field(&of(target, variables), name),
        Node::Index(target, index) => match (of(target, variables), index.as_ref()) {
            (target, Node::Literal(Value::Text(name))) => of_field(&target, name),
            (target, _) if target.own == KindSet::LIST => target.as_items(),
            _ => Kinds::any(),
        },
        Node::Has(_)
        | Node::Not(_)
        | Node::And(..)
        | Node::Or(..)
        | Node::Compare(..)
        | Node::In(..)
        | Node::Matches(..) => Kinds::single(KindSet::BOOL),
        Node::Negate(operand) => {
            let own = of(operand, variables).own;
            let of_text = if own.has(KindSet::TEXT) { KindSet::NUMBER } else { KindSet::NONE };
            Kinds::single(own.and(KindSet::NUMBER.or(KindSet::DURATION)).or(of_text))
        }
        Node::Calculate(operator, a, b) => calculated(&of(a, variables), *operator, &of(b, variables)),
        Node::Choose(parts) => of(&parts[1], variables).or(of(&parts[2], variables)),
        Node::List(items) => Kinds::list(union(items.iter().map(|item| of(item, variables)))),
        Node::Object(fields) => {
            let field = |(name, value): &(Arc<str>, Node)| (name.as_ref().to_owned(), of(value, variables));
            Kinds::object(fields.iter().map(field).collect())
        }
        Node::MacroCall(each) => of_macro(each, variables),
        Node::Call(function, arguments) => {
            let target = arguments.first().map_or(Kinds::single(KindSet::NONE), |target| of(target, variables));
            called(*function, &target)
        }
    }
}

/// The fields of one object or another.
fn of_either(mut a: BTreeMap<String, Kinds>, b: BTreeMap<String, Kinds>) -> BTreeMap<String, Kinds> {
    for (name, kinds) in b {
        let held = a.remove(&name);
        a.insert(name, union(held.into_iter().chain([kinds])));
    }
    a
}

/// The fields of an object that is written out, and those that every event has of its own.
fn of_field(target: &Kinds, name: &str) -> Kinds {
    if let (KindSet::MAP, Some(fields)) = (target.own, &target.fields) {
        return fields.get(name).cloned().unwrap_or(Kinds::single(KindSet::NONE));
    }
    match name {
        _ if target.own != KindSet::EVENT => Kinds::any(),
        "time" => Kinds::single(KindSet::TIME),
        "name" | "kind" | "source" => Kinds::single(KindSet::TEXT),
        "properties" | "traits" | "context" => Kinds::single(KindSet::MAP),
        _ => Kinds::any(),
    }
}

fn of_macro(each: &MacroCall, variables: &mut Vec<Kinds>) -> Kinds {
    let items = of(&each.over, variables).as_items();
    match (each.kind, &each.item) {
        (Macro::Filter, _) => Kinds::list(items),
        (Macro::Map, Some(item)) => {
            variables.resize(each.slot, Kinds::any());
            variables.push(items);
            let made = of(item, variables);
            variables.truncate(each.slot);
            Kinds::list(made)
        }
        (Macro::Map, None) => Kinds::list(Kinds::any()),
        (Macro::Exists | Macro::All | Macro::ExistsOne, _) => Kinds::single(KindSet::BOOL),
    }
}

fn called(function: Function, target: &Kinds) -> Kinds {
    match function {
        Function::Size
        | Function::Int
        | Function::Year
        | Function::Month
        | Function::Day
        | Function::Weekday
        | Function::Hour => Kinds::single(KindSet::WHOLE),
        // Whole numbers add up to one, unless it is too large.
        Function::Sum if target.as_items().own.is_within(KindSet::WHOLE) => Kinds::single(KindSet::WHOLE),
        Function::Sum => Kinds::single(KindSet::NUMBER),
        Function::Average | Function::Double => Kinds::single(KindSet::FLOAT),
        // A text that is a number counts as one.
        Function::Min | Function::Max => {
            let items = target.as_items();
            if items.own.has(KindSet::TEXT) { items.or(Kinds::single(KindSet::NUMBER)) } else { items }
        }
        Function::First | Function::Last => target.as_items(),
        Function::Distinct => Kinds::list(target.as_items()),
        Function::Contains | Function::StartsWith | Function::EndsWith => Kinds::single(KindSet::BOOL),
        Function::Lower | Function::Upper | Function::Text => Kinds::single(KindSet::TEXT),
        Function::Timestamp => Kinds::single(KindSet::TIME),
        Function::Duration => Kinds::single(KindSet::DURATION),
    }
}

fn calculated(a: &Kinds, operator: Arithmetic, b: &Kinds) -> Kinds {
    let pairs = a.own.each().flat_map(|one| b.own.each().map(move |other| (one, other)));
    let own = pairs.fold(KindSet::NONE, |all, (one, other)| all.or(of_pair(one, operator, other)));
    let items = match (&a.items, &b.items) {
        (Some(one), Some(other)) => Some(Box::new(Kinds::clone(one).or(Kinds::clone(other)))),
        _ => None,
    };
    Kinds { own, items, fields: None }
}

/// What two single kinds come to, as [`Value::calculate`] has it.
fn of_pair(a: KindSet, operator: Arithmetic, b: KindSet) -> KindSet {
    let moment = KindSet::TIME.or(KindSet::TEXT);
    let is_sum_or_difference = matches!(operator, Arithmetic::Add | Arithmetic::Subtract);
    match (a, operator, b) {
        (KindSet::WHOLE, Arithmetic::Divide, KindSet::WHOLE) => KindSet::FLOAT,
        (KindSet::WHOLE, _, KindSet::WHOLE) => KindSet::WHOLE,
        (a, _, b) if a.has(KindSet::NUMBER) && b.has(KindSet::NUMBER) => KindSet::FLOAT,
        (KindSet::TEXT, Arithmetic::Add, KindSet::TEXT) => KindSet::TEXT,
        (KindSet::LIST, Arithmetic::Add, KindSet::LIST) => KindSet::LIST,
        // A text that is written as a number is one.
        (KindSet::TEXT, _, b) if b.has(KindSet::NUMBER) => KindSet::NUMBER,
        (a, _, KindSet::TEXT) if a.has(KindSet::NUMBER) => KindSet::NUMBER,
        (KindSet::DURATION, _, KindSet::DURATION) if is_sum_or_difference => KindSet::DURATION,
        (KindSet::DURATION, Arithmetic::Divide, KindSet::DURATION) => KindSet::FLOAT,
        (KindSet::DURATION, Arithmetic::Add, b) if b.has(moment) => KindSet::TIME,
        (a, _, KindSet::DURATION) if is_sum_or_difference && a.has(moment) => KindSet::TIME,
        (KindSet::TIME, Arithmetic::Subtract, b) if b.has(moment) => KindSet::DURATION,
        (a, Arithmetic::Subtract, KindSet::TIME) if a.has(moment) => KindSet::DURATION,
        _ => KindSet::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Kinds {
        Expression::parse(text).unwrap().kinds()
    }

    #[test]
    fn what_an_expression_gives_is_told_by_its_form() {
        for (text, said, column) in [
            ("events('A').size()", "a whole number", "int64"),
            ("events('A').map(e, e.total).sum()", "a number that may have a fraction", "float64"),
            ("[1, 2].sum()", "a whole number", "int64"),
            ("events('A').map(e, e.total).avg()", "a number that may have a fraction", "float64"),
            ("events('A').map(e, e.time)", "a list, each item a time", "timestamp-list"),
            ("events('A').map(e, e.time).max()", "a time", "timestamp"),
            ("events('A').last().time", "a time", "timestamp"),
            ("events('A').map(e, e.name).distinct()", "a list, each item a text", "text-list"),
            ("events('A').map(e, e.total)", "a list, each item anything", "text-list"),
            ("traits.city", "anything", "text"),
            ("traits.city.lower()", "a text", "text"),
            ("now - profile.created_at", "a length of time", "int64"),
            ("now - duration('3d')", "a time", "timestamp"),
            ("events('A').exists(e, e.total > 3)", "true or false", "boolean"),
            ("traits.a > 3 || has(traits.b)", "true or false", "boolean"),
            ("profile.identifiers.email", "a list, each item a text", "text-list"),
            ("traits.a ? 1 : 'x'", "a whole number or a text", "text"),
            ("1 / 2", "a number that may have a fraction", "float64"),
            ("traits.birthday.year()", "a whole number", "int64"),
            ("-events('A').size()", "a whole number", "int64"),
            ("events('A').map(e, {'t': e.time, 'n': e.n}).map(r, r.t).max()", "a time", "timestamp"),
            ("events('A').map(e, {'t': e.time}).last().t", "a time", "timestamp"),
        ] {
            let kinds = kinds(text);
            assert_eq!(kinds.to_string(), said, "{text}");
            let best = kinds.column().map(|column| serde_json::to_value(column).unwrap());
            assert_eq!(best, Some(column.into()), "{text}");
        }
    }

    #[test]
    fn columns_take_what_converts_and_nothing_else() {
        for (text, fitting, others) in [
            ("events('A').size()", vec!["int64", "float64", "text"], vec!["boolean", "timestamp", "int64-list"]),
            ("events('A').map(e, e.total).sum()", vec!["float64", "text"], vec!["int64", "boolean", "text-list"]),
            ("events('A').map(e, e.time).max()", vec!["timestamp", "text"], vec!["int64", "float64", "boolean"]),
            ("events('A').map(e, e.time)", vec!["timestamp-list", "text-list"], vec!["int64-list", "timestamp"]),
            ("traits.country", vec!["text", "float64", "boolean", "text-list"], vec![]),
            ("events('A').last().properties", vec![], vec!["text"]),
            ("now - now", vec!["int64", "float64"], vec!["text", "timestamp"]),
        ] {
            let kinds = kinds(text);
            let column = |name: &str| serde_json::from_value::<ColumnType>(name.into()).unwrap();
            for name in fitting {
                assert!(kinds.fit(&column(name)), "{text} as {name}");
            }
            for name in others {
                assert!(!kinds.fit(&column(name)), "{text} as {name}");
            }
        }
    }

    #[test]
    fn records_are_of_the_fields_and_types_that_are_written() {
        let records = |fields: &[(&str, ColumnType)]| {
            let field = |(name, column_type): &(&str, ColumnType)| RecordField {
                name: (*name).to_owned(),
                column_type: column_type.clone(),
            };
            ColumnType::Records(fields.iter().map(field).collect())
        };
        let order = records(&[("time", ColumnType::Timestamp), ("amount", ColumnType::Float64)]);
        let written = "events('A').map(e, {'time': e.time, 'amount': e.total})";
        assert!(kinds(written).fit(&order));
        assert!(kinds("traits.orders").fit(&order), "whatever a sender wrote");
        assert_eq!(kinds(written).to_string(), "a list, each item an object of `amount`, `time`");
        assert_eq!((kinds(written).column(), kinds("traits.orders").record_fields()), (None, None));
        assert_eq!(kinds(written).record_fields().unwrap()["time"].to_string(), "a time");
        for (text, other) in [
            (written, records(&[("time", ColumnType::Timestamp)])),
            (written, records(&[("time", ColumnType::Timestamp), ("amuont", ColumnType::Float64)])),
            (written, records(&[("time", ColumnType::Float64), ("amount", ColumnType::Float64)])),
            (written, ColumnType::TextList),
            ("events('A').map(e, e.total * 2)", order.clone()),
            ("events('A').size()", order),
        ] {
            assert!(!kinds(text).fit(&other), "{text} as {other:?}");
        }
    }
}
