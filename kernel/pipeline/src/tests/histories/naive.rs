//! The naive answer: who is one person, and who meets a condition, from the list of all events and nothing else. It shares no
//! code with what it judges.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::identity::Identifier;
use kith_model::time::Timestamp;

use super::steps::{Content, Model, SentEvent};
use crate::tests::harness::{DAY, START};

/// The conditions that audiences have.
pub(super) const CONDITIONS: [&str; 9] = [
    "events('Order Completed').size() >= 2",
    "events('Product Added', '3d').size() >= 1",
    "traits.city == 'Oslo'",
    "!has(traits.city)",
    "tags.level == 'many'",
    "events('Product Added', '36h').size() >= 1 && events('Order Completed').size() == 0",
    "tags.level == 'few' && events('Product Added', '3d').size() >= 1",
    "traits.city == 'Rome' || events('Order Completed').size() >= 3",
    "events('Order Completed', '3d').size() == 0 && events('Order Completed').size() >= 1",
];

/// A person's identifiers.
pub(super) type Group = BTreeSet<Identifier>;

/// What is known of a person.
#[derive(Debug, Clone, Default)]
pub(super) struct Person {
    orders: Vec<i64>,
    /// When each order was, and what it came to.
    amounts: Vec<(i64, Option<usize>)>,
    added: Vec<i64>,
    pub(super) city: Option<&'static str>,
}

/// Everybody, as the events say.
pub(super) fn people(events: &[SentEvent]) -> BTreeMap<Group, Person> {
    let groups = groups(events);
    let mut people: BTreeMap<Group, Person> = groups.iter().map(|group| (group.clone(), Person::default())).collect();
    let mut newest: BTreeMap<Group, i64> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.is_superseded) {
        let group = group_of(&groups, &event.told.owner());
        let person = people.get_mut(&group).unwrap();
        match event.told.content {
            Content::Order => {
                person.orders.push(event.time.0);
                person.amounts.push((event.time.0, event.told.amount()));
            }
            Content::Added => person.added.push(event.time.0),
            Content::City(city) => {
                let held = newest.entry(group).or_insert(i64::MIN);
                if event.time.0 > *held {
                    *held = event.time.0;
                    person.city = Some(city);
                }
            }
            Content::Link | Content::Alias | Content::Seen => {}
        }
    }
    people
}

/// The group that an identifier is in.
pub(super) fn group_of(groups: &[Group], identifier: &Identifier) -> Group {
    groups.iter().find(|group| group.contains(identifier)).unwrap().clone()
}

/// The partition: the strongest and earliest evidence first, and none that would give a person two user ids or three
/// addresses.
pub(super) fn groups(events: &[SentEvent]) -> Vec<Group> {
    let mut edges: BTreeMap<(bool, Identifier, Identifier), i64> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for event in events {
        for identifier in &event.told.identifiers {
            if !groups.iter().any(|group| group.contains(identifier)) {
                groups.push(BTreeSet::from([identifier.clone()]));
            }
        }
        let owner = event.told.owner();
        for other in event.told.identifiers.iter().filter(|other| **other != owner) {
            let (lesser, greater) = if *other < owner { (other, &owner) } else { (&owner, other) };
            let is_weaker = event.told.content != Content::Alias;
            let earliest = edges.entry((is_weaker, lesser.clone(), greater.clone())).or_insert(i64::MAX);
            *earliest = event.time.0.min(*earliest);
        }
    }
    let mut in_order: Vec<_> = edges.into_iter().map(|((weak, one, other), time)| (weak, time, one, other)).collect();
    in_order.sort();
    for (_, _, one, other) in in_order {
        let (one, other) = (group_of(&groups, &one), group_of(&groups, &other));
        let together: Group = one.union(&other).cloned().collect();
        let of = |kind: &str| together.iter().filter(|identifier| identifier.kind == kind).count();
        if one != other && of("user_id") <= 1 && of("email") <= 2 {
            groups.retain(|group| *group != one && *group != other);
            groups.push(together);
        }
    }
    groups.sort();
    groups
}

impl Person {
    /// Whether the person meets a condition; `None` where that hangs on what a model said before it was stopped.
    pub(super) fn meets(&self, condition: usize, model: Model, now: Timestamp) -> Option<bool> {
        let orders = self.orders.len();
        let day = |time: i64| (time - START.0).div_euclid(DAY);
        let within_3d = |time: &&i64| day(now.0) - day(**time) < 3;
        let added_3d = self.added.iter().filter(within_3d).count();
        let added_36h = self.added.iter().filter(|time| **time > now.0 - DAY * 3 / 2).count();
        let orders_3d = self.orders.iter().filter(within_3d).count();
        Some(match condition {
            0 => orders >= 2,
            1 => added_3d >= 1,
            2 => self.city == Some("Oslo"),
            3 => self.city.is_none(),
            4 => self.level(model)? == Some("many"),
            5 => added_36h >= 1 && orders == 0,
            6 => self.level(model)? == Some("few") && added_3d >= 1,
            7 => self.city == Some("Rome") || orders >= 3,
            _ => orders_3d == 0 && orders >= 1,
        })
    }

    /// What is said by the model that repeats its records.
    pub(super) fn repeated(&self) -> String {
        let mut amounts = self.amounts.clone();
        amounts.sort_unstable();
        repeated(amounts.into_iter())
    }

    /// What the model says; `None` where it said it before it was stopped.
    pub(super) fn level(&self, model: Model) -> Option<Option<&'static str>> {
        match model {
            Model::Absent => Some(None),
            Model::Held => None,
            Model::Running { many } => Some(Some(if self.orders.len() >= many { "many" } else { "few" })),
        }
    }
}

/// Orders in the order of time, as a text.
pub(super) fn repeated(orders: impl Iterator<Item = (i64, Option<usize>)>) -> String {
    let order = |(time, amount): (i64, Option<usize>)| format!(" {}:{amount:?}", time - START.0);
    format!("orders{}", orders.map(order).collect::<String>())
}
