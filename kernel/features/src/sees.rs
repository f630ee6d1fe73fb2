//! What an expression may see of facts and of events: where it takes a whole object, everything in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::OBJECTS;
use crate::expression::Expression;
use crate::tree::{FeatureName, Node};

/// An event's name and a property's; `None` stands for any.
type Property = (Option<Arc<str>>, Option<Arc<str>>);

/// What an expression may see. It is never less than what it reads: whoever must not see something is refused by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sees {
    traits: BTreeSet<Arc<str>>,
    /// Whether it takes the facts of an event as a whole.
    every_trait: bool,
    /// Events by name, `None` for all of them; and their properties by name, `None` for all of these.
    properties: BTreeSet<Property>,
}

impl Sees {
    /// Whether it may see a fact of people.
    pub fn sees_trait(&self, name: &str) -> bool {
        self.every_trait || self.traits.contains(name)
    }

    /// Whether it may see a property of events; `None` stands for every name.
    pub fn sees_property(&self, event: Option<&str>, name: Option<&str>) -> bool {
        let meet = |seen: &Option<Arc<str>>, asked: Option<&str>| match (seen.as_deref(), asked) {
            (Some(seen), Some(asked)) => seen == asked,
            _ => true,
        };
        self.properties.iter().any(|(seen, property)| meet(seen, event) && meet(property, name))
    }

    fn of_person(&mut self, node: &Node) {
        if let Node::Feature(FeatureName::Trait(name)) = node {
            self.traits.insert(name.clone());
        }
        node.children().into_iter().for_each(|child| self.of_person(child));
    }

    fn of_event(&mut self, event: Option<&Arc<str>>, node: &Node) {
        if let Node::EventField(path) = node {
            self.of_path(event, path);
        }
        node.children().into_iter().for_each(|child| self.of_event(event, child));
    }

    fn of_path(&mut self, event: Option<&Arc<str>>, path: &[Arc<str>]) {
        let of_traits = |sees: &mut Sees, name: Option<&Arc<str>>| match name {
            Some(name) => drop(sees.traits.insert(name.clone())),
            None => sees.every_trait = true,
        };
        let first = path.first().map(AsRef::as_ref);
        match first {
            Some("properties") => drop(self.properties.insert((event.cloned(), path.get(1).cloned()))),
            Some("traits") => of_traits(self, path.get(1)),
            Some("context") => match path.get(1).map(AsRef::as_ref) {
                Some("traits") => of_traits(self, path.get(2)),
                None => self.every_trait = true,
                Some(_) => {}
            },
            Some("name" | "kind" | "time" | "source") => {}
            Some(own) if !OBJECTS.contains(&own) => {
                self.properties.insert((event.cloned(), path.first().cloned()));
            }
            _ => {
                self.properties.insert((event.cloned(), None));
                self.every_trait = true;
            }
        }
    }
}

impl Expression {
    /// What it may see.
    pub fn sees(&self) -> Sees {
        let mut sees = Sees::default();
        sees.of_person(self.compiled());
        for leaf in self.leaves() {
            let event: Option<Arc<str>> = leaf.event_name().map(Into::into);
            leaf.parts().for_each(|part| sees.of_event(event.as_ref(), part));
        }
        sees
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(text: &str) -> Sees {
        Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).sees()
    }

    #[test]
    fn facts_are_seen_where_they_are_named() {
        let plain = sees("traits.salary > 5 && has(traits.city)");
        assert!(plain.sees_trait("salary") && plain.sees_trait("city") && !plain.sees_trait("age"));
        assert!(!plain.sees_property(None, None));
        assert!(sees("traits['my salary'] == 1").sees_trait("my salary"));
        assert!(!sees("tags.salary == 'x' && scores.salary > 1.0").sees_trait("salary"));
        assert!(sees("events('*').exists(e, e.traits.salary == 1)").sees_trait("salary"));
        assert!(sees("events('*').exists(e, e.context.traits.salary == 1)").sees_trait("salary"));
        assert!(!sees("events('*').exists(e, e.context.ip == 'x')").sees_trait("salary"));
    }

    #[test]
    fn properties_are_seen_by_event_and_name() {
        let of = |text: &str, event: Option<&str>, name: Option<&str>| sees(text).sees_property(event, name);
        for text in [
            "events('Buy').map(e, e.total).sum() > 5",
            "events('Buy').exists(e, e.properties.total > 1)",
            "events('Buy').map(e, {'time': e.time, 'amount': e.total})",
        ] {
            assert!(of(text, Some("Buy"), Some("total")), "{text}");
            assert!(of(text, None, Some("total")) && of(text, Some("Buy"), None), "{text}");
            assert!(!of(text, Some("Sell"), Some("total")) && !of(text, Some("Buy"), Some("coupon")), "{text}");
        }
        assert!(of("events('*').exists(e, e.total > 1)", Some("Buy"), Some("total")));
        assert!(of("events('Buy').exists(e, e.properties['a b'] == 1)", Some("Buy"), Some("a b")));
        assert!(of("events('Buy').exists(e, e.items[0].sku == 'x')", Some("Buy"), Some("items")));
        assert!(!of("events('Buy').size() > 1", Some("Buy"), None), "how often is no property");
        assert!(!of("events('Buy').map(e, e.time).max() < now", Some("Buy"), None));
    }
}
