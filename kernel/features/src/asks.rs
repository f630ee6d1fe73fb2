//! What a condition asks for by name, so that somebody can say of which names there are none.

use std::sync::Arc;

use crate::event::OBJECTS;
use crate::expression::Expression;
use crate::functions::Function;
use crate::leaf::{Aggregate, Leaf};
use crate::syntax::habits;
use crate::tree::{FeatureName, Node};
use crate::value::{Arithmetic, Comparison, Value, parse_moment};

/// Something that a condition asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A trait, a tag or a score.
    Feature(FeatureName),
    /// That a trait, tag or score is this text.
    FeatureIs(FeatureName, Arc<str>),
    /// Events of a name.
    Event(Arc<str>),
    /// A property of events; an empty name of theirs means all.
    Property {
        event: Arc<str>,
        property: Arc<str>,
    },
    /// That a property is this text.
    PropertyIs {
        event: Arc<str>,
        property: Arc<str>,
        text: Arc<str>,
    },
    /// An event's own field by its bare name, which would be a property's if the event had no such field.
    OwnField {
        event: Arc<str>,
        field: Arc<str>,
    },
    /// A sum, a mean, the least or the greatest of a property.
    Summed {
        event: Arc<str>,
        property: Arc<str>,
    },
    /// Whether a trait is less or more than a number, or than a time or a text that names one; also on which day, or how long
    /// before another it is.
    Ordered(FeatureName, Comparand),
    /// A field of a trait, or of a property of events; what to write where that is a function and no field.
    Field {
        of: FeatureName,
        field: Arc<str>,
        meant: Option<String>,
    },
    PropertyField {
        event: Arc<str>,
        property: Arc<str>,
        field: Arc<str>,
        meant: Option<String>,
    },
    /// Whether a trait is true or false.
    Truth(FeatureName),
    /// The identifiers of a type.
    Identifiers(Arc<str>),
    /// A text that reads like a date of a way of writing that is none here.
    OddDate(Arc<str>),
}

/// What something is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparand {
    Number,
    Time,
}

impl Expression {
    /// All that it asks for, each once, in the order in which it is written.
    pub fn asks(&self) -> Vec<Ask> {
        let mut asks = Asks(Vec::new());
        if let Node::Feature(name @ FeatureName::Trait(_)) = self.compiled() {
            asks.note(Ask::Truth(name.clone()));
        }
        asks.of_person(self.compiled());
        self.leaves().for_each(|leaf| asks.of_leaf(leaf));
        asks.0
    }
}

struct Asks(Vec<Ask>);

impl Asks {
    fn note(&mut self, ask: Ask) {
        if !self.0.contains(&ask) {
            self.0.push(ask);
        }
    }

    fn of_person(&mut self, node: &Node) {
        if let Node::Feature(name @ (FeatureName::Trait(_) | FeatureName::Tag(_) | FeatureName::Score(_))) = node {
            self.note(Ask::Feature(name.clone()));
        }
        for (asked, compared) in ordered(node).into_iter().chain(taken_for_times(node)) {
            if let Node::Feature(name @ FeatureName::Trait(_)) = asked {
                self.note(Ask::Feature(name.clone()));
                self.note(Ask::Ordered(name.clone(), compared));
            }
        }
        if let Node::Field(target, field) = node
            && let Node::Feature(of @ FeatureName::Trait(_)) = target.as_ref()
        {
            self.note(Ask::Feature(of.clone()));
            let meant = habits::field(field, &of.to_string());
            self.note(Ask::Field { of: of.clone(), field: field.clone(), meant });
        }
        if let Node::Feature(FeatureName::Identifiers(kind)) = node {
            self.note(Ask::Identifiers(kind.clone()));
        }
        for asked in truths(node) {
            if let Node::Feature(name @ FeatureName::Trait(_)) = asked {
                self.note(Ask::Feature(name.clone()));
                self.note(Ask::Truth(name.clone()));
            }
        }
        self.note_odd_date(node);
        for (asked, text) in compared(node) {
            if let Node::Feature(name @ (FeatureName::Trait(_) | FeatureName::Tag(_))) = asked {
                self.note(Ask::Feature(name.clone()));
                self.note(Ask::FeatureIs(name.clone(), text));
            }
        }
        node.children().into_iter().for_each(|child| self.of_person(child));
    }

    fn of_leaf(&mut self, leaf: &Leaf) {
        let event: Arc<str> = leaf.event_name().unwrap_or_default().into();
        if !event.is_empty() {
            self.note(Ask::Event(event.clone()));
        }
        leaf.parts().for_each(|part| self.of_event(&event, part));
        if let (Aggregate::Sum | Aggregate::Mean | Aggregate::Least | Aggregate::Greatest, Some(Node::EventField(path))) =
            (leaf.aggregate(), leaf.item())
            && let Some(property) = property_of(path)
        {
            self.note(Ask::Summed { event, property });
        }
    }

    /// A date as people write it, which stands beside something that it is less or more than.
    fn note_odd_date(&mut self, node: &Node) {
        let Node::Compare(comparison, a, b, _) = node else { return };
        if *comparison == Comparison::NotEqual || *comparison == Comparison::Equal {
            return;
        }
        for side in [a, b] {
            if let Node::Literal(Value::Text(text)) = side.as_ref()
                && is_odd_date(text)
            {
                self.note(Ask::OddDate(text.clone()));
            }
        }
    }

    fn of_event(&mut self, event: &Arc<str>, node: &Node) {
        self.note_odd_date(node);
        if let Node::EventField(path) = node {
            match (property_of(path), path.first()) {
                (Some(property), _) => {
                    self.note(Ask::Property { event: event.clone(), property: property.clone() });
                    if let Some(field) = path.get(whole_length(path)) {
                        let (event, field) = (event.clone(), field.clone());
                        let meant = habits::field(&field, &format!("e.{property}"));
                        self.note(Ask::PropertyField { event, property, field, meant });
                    }
                }
                (None, Some(field)) if !OBJECTS.contains(&field.as_ref()) => {
                    self.note(Ask::OwnField { event: event.clone(), field: field.clone() });
                }
                _ => {}
            }
        }
        for (asked, text) in compared(node) {
            if let Node::EventField(path) = asked
                && let Some(property) = property_of(path)
                && whole_property(path)
            {
                self.note(Ask::Property { event: event.clone(), property: property.clone() });
                self.note(Ask::PropertyIs { event: event.clone(), property, text });
            }
        }
        node.children().into_iter().for_each(|child| self.of_event(event, child));
    }
}

/// The fields that an event has of its own.
const OWN: [&str; 4] = ["name", "kind", "time", "source"];

/// The property that a path begins with.
fn property_of(path: &[Arc<str>]) -> Option<Arc<str>> {
    let first = path.first()?;
    match first.as_ref() {
        "properties" => path.get(1).cloned(),
        own if OWN.contains(&own) || OBJECTS.contains(&own) => None,
        _ => Some(first.clone()),
    }
}

/// Whether a path is that of a property and of nothing inside it.
fn whole_property(path: &[Arc<str>]) -> bool {
    path.len() == whole_length(path)
}

/// How many names of a path a property takes that it begins with.
fn whole_length(path: &[Arc<str>]) -> usize {
    1 + usize::from(path.first().is_some_and(|first| first.as_ref() == "properties"))
}

/// Whether a text is three numbers with signs of dates between them, or two and a month's name, and no date as it is written here.
fn is_odd_date(text: &str) -> bool {
    let numbers: Vec<&str> =
        text.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let has_year =
        numbers.iter().any(|number| number.len() == 4 && (number.starts_with("19") || number.starts_with("20")));
    let are_short = numbers.iter().all(|number| matches!(number.len(), 1 | 2 | 4));
    let is_of_dates = |letter: char| letter.is_ascii_digit() || letter.is_alphabetic() || "./-, :".contains(letter);
    let has_day = numbers.len() >= 3 || (numbers.len() == 2 && text.chars().any(char::is_alphabetic));
    has_year
        && are_short
        && has_day
        && text.len() <= 32
        && text.chars().all(is_of_dates)
        && parse_moment(text).is_none()
}

/// What is asked whether it is less or more than a number or a time.
fn ordered(node: &Node) -> Option<(&Node, Comparand)> {
    let Node::Compare(comparison, a, b, _) = node else { return None };
    if matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
        return None;
    }
    let other = |side: &Node| match side {
        Node::Literal(Value::Int(_) | Value::Float(_)) => Some(Comparand::Number),
        Node::Literal(Value::Text(text)) if parse_moment(text).is_some() => Some(Comparand::Time),
        _ => is_time(side).then_some(Comparand::Time),
    };
    match (other(a), other(b)) {
        (None, Some(compared)) => Some((a, compared)),
        (Some(compared), None) => Some((b, compared)),
        _ => None,
    }
}

/// Whether its form tells that it is a time, or nothing.
fn is_time(node: &Node) -> bool {
    match node {
        Node::Literal(Value::Time(_)) | Node::Now | Node::Feature(FeatureName::CreatedAt) => true,
        Node::Call(Function::Timestamp, _) => true,
        Node::Calculate(Arithmetic::Add, a, b) => is_time(a) || is_time(b),
        Node::Calculate(Arithmetic::Subtract, a, b) => {
            is_time(a) && !is_time(b) && !matches!(b.as_ref(), Node::Feature(_))
        }
        _ => false,
    }
}

/// What a node takes for times beside a comparison: the parts of a date are of one, and so is the time since.
fn taken_for_times(node: &Node) -> Vec<(&Node, Comparand)> {
    let asked = match node {
        Node::Call(function, arguments) if function.is_of_calendar() || *function == Function::Timestamp => {
            arguments.first()
        }
        Node::Calculate(Arithmetic::Subtract, a, b) if is_time(a) => Some(b.as_ref()),
        Node::Calculate(Arithmetic::Subtract, a, b) if is_time(b) => Some(a.as_ref()),
        _ => None,
    };
    asked.map(|asked| (asked, Comparand::Time)).into_iter().collect()
}

/// What a node takes for true or false.
fn truths(node: &Node) -> Vec<&Node> {
    match node {
        Node::Not(asked) => vec![asked],
        Node::And(a, b) | Node::Or(a, b) => vec![a, b],
        Node::Compare(Comparison::Equal | Comparison::NotEqual, a, b, _) => match (a.as_ref(), b.as_ref()) {
            (asked, Node::Literal(Value::Bool(_))) | (Node::Literal(Value::Bool(_)), asked) => vec![asked],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What a node compares with texts for equality.
fn compared(node: &Node) -> Vec<(&Node, Arc<str>)> {
    match node {
        Node::Compare(Comparison::Equal | Comparison::NotEqual, a, b, _) => match (a.as_ref(), b.as_ref()) {
            (asked, Node::Literal(Value::Text(text))) | (Node::Literal(Value::Text(text)), asked) => {
                vec![(asked, text.clone())]
            }
            _ => Vec::new(),
        },
        Node::In(item, list) => match list.as_ref() {
            Node::Literal(Value::List(items)) => {
                let texts = items.iter().filter_map(|item| match item {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                });
                texts.map(|text| (item.as_ref(), text)).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_other_ways_of_writing_are_odd() {
        for text in [
            "01.09.2026",
            "1/9/2026",
            "2026.09.01",
            "2026/09/01",
            "1 Sep 2026",
            "September 1, 2026",
            "01-09-2026 10:00",
        ] {
            assert!(is_odd_date(text), "{text}");
        }
        for text in [
            "2026-09-01",
            "2026-09-01T10:00:00Z",
            "2026-09-01 10:00",
            "2026",
            "1.2.3",
            "10.000",
            "192.168.2.20",
            "A 2026",
            "",
        ] {
            assert!(!is_odd_date(text), "{text}");
        }
        let asks = Expression::parse("traits.a < '01.09.2026' && traits.b > 100 && now >= traits.c").unwrap().asks();
        for wanted in [
            Ask::OddDate("01.09.2026".into()),
            Ask::Ordered(FeatureName::Trait("b".into()), Comparand::Number),
            Ask::Ordered(FeatureName::Trait("c".into()), Comparand::Time),
        ] {
            assert!(asks.contains(&wanted), "{wanted:?} in {asks:?}");
        }
    }

    /// A comparison with a text that names a time, and what asks for a part of a date, were taken for granted.
    #[test]
    fn what_is_taken_for_a_time_is_told() {
        let timed = |text: &str| {
            let asks = Expression::parse(text).unwrap().asks();
            asks.contains(&Ask::Ordered(FeatureName::Trait("b".into()), Comparand::Time))
        };
        let times = ["now", "timestamp('2026-11-01')", "timestamp(traits.a)", "'2026-11-01'", "'2026-11-01T10:00:00Z'"];
        let moved = ["(now - duration('3d'))", "(duration('3d') + now)", "profile.created_at"];
        for time in times.iter().chain(&moved) {
            for sign in ["<", "<=", ">", ">="] {
                assert!(timed(&format!("traits.b {sign} {time}")), "{sign} {time}");
                assert!(timed(&format!("{time} {sign} traits.b")), "{time} {sign}");
            }
        }
        for part in ["year", "month", "day", "weekday", "hour"] {
            assert!(timed(&format!("traits.b.{part}() == 1")) && timed(&format!("{part}(traits.b) == 1")), "{part}");
        }
        for text in ["now - traits.b > duration('3d')", "traits.b - now > duration('3d')", "timestamp(traits.b) != now"]
        {
            assert!(timed(text), "{text}");
        }
        for text in [
            "traits.b > 5",
            "traits.b > 'm'",
            "traits.b > '01.09.2026'",
            "now - duration('3d') > traits.a",
            "has(traits.b)",
        ] {
            assert!(!timed(text), "{text}");
        }
    }

    #[test]
    fn fields_are_told_with_the_function_that_may_be_meant() {
        for (text, meant) in [
            ("traits.note.length > 2", Some("`traits.note.size()`")),
            ("traits.note.size > 2", Some("`traits.note.size()`")),
            ("traits.note.lower == 'a'", Some("`traits.note.lower()`")),
            ("traits.note.month == 2", Some("`traits.note.month()`")),
            ("traits.note.toLowerCase == 'a'", Some("`x.lower()`")),
            ("traits.note.street == 'a'", None),
        ] {
            let asks = Expression::parse(text).unwrap().asks();
            let told = asks.iter().find_map(|ask| match ask {
                Ask::Field { of, meant, .. } if of.to_string() == "traits.note" => Some(meant.clone()),
                _ => None,
            });
            match (told, meant) {
                (Some(Some(told)), Some(meant)) => assert!(told.contains(meant), "{text}: {told}"),
                (told, meant) => assert_eq!((told, meant), (Some(None), None), "{text}"),
            }
        }
        let asks = Expression::parse("events('A').exists(e, e.properties.note.length > 2 && e.a == 1)").unwrap().asks();
        let fields: Vec<&Ask> = asks.iter().filter(|ask| matches!(ask, Ask::PropertyField { .. })).collect();
        let [Ask::PropertyField { property, field, meant: Some(meant), .. }] = fields.as_slice() else {
            panic!("{fields:?}")
        };
        assert_eq!((property.as_ref(), field.as_ref()), ("note", "length"));
        assert!(meant.contains("`e.note.size()`"), "{meant}");
    }

    #[test]
    fn what_is_taken_for_true_or_false_is_told_from_what_is_compared() {
        let truths = |text: &str| -> Vec<String> {
            let asks = Expression::parse(text).unwrap().asks();
            asks.iter()
                .filter_map(|ask| if let Ask::Truth(name) = ask { Some(name.to_string()) } else { None })
                .collect()
        };
        assert_eq!(truths("traits.a"), ["traits.a"]);
        assert_eq!(truths("traits.a == true || !traits.b && false != traits.c"), ["traits.a", "traits.b", "traits.c"]);
        assert_eq!(truths("traits.a == 'true' && traits.b > 1 && has(traits.c)"), [""; 0]);
        let asks = Expression::parse("size(profile.identifiers.emial) > 0").unwrap().asks();
        assert_eq!(asks, [Ask::Identifiers("emial".into())]);
    }

    #[test]
    fn what_a_condition_asks_for_is_named() {
        let text = "traits.plan in ['gold', 'silver'] && tags.x != 'y' && scores.s > 1 && \
                    events('Buy').exists(e, e.coupon == 'X' && e.name != 'a' && e.properties.name == 'b') && \
                    events('Buy').map(e, e.total).sum() > 5 && events('*').exists(e, has(e.context.ip) && e.deep.x == 'q')";
        let asks = Expression::parse(text).unwrap().asks();
        let (buy, none): (Arc<str>, Arc<str>) = ("Buy".into(), "".into());
        let property =
            |event: &Arc<str>, property: &str| Ask::Property { event: event.clone(), property: property.into() };
        for wanted in [
            Ask::Feature(FeatureName::Trait("plan".into())),
            Ask::FeatureIs(FeatureName::Trait("plan".into()), "silver".into()),
            Ask::FeatureIs(FeatureName::Tag("x".into()), "y".into()),
            Ask::Feature(FeatureName::Score("s".into())),
            Ask::Event(buy.clone()),
            property(&buy, "coupon"),
            property(&buy, "name"),
            property(&none, "deep"),
            Ask::PropertyIs { event: buy.clone(), property: "coupon".into(), text: "X".into() },
            Ask::OwnField { event: buy.clone(), field: "name".into() },
            Ask::Summed { event: buy.clone(), property: "total".into() },
        ] {
            assert_eq!(asks.iter().filter(|ask| **ask == wanted).count(), 1, "{wanted:?} in {asks:?}");
        }
        assert!(!asks.contains(&property(&none, "ip")) && !asks.contains(&property(&none, "context")));
    }
}
