//! The data dictionary of a workspace: what the names of events, of their properties and of facts mean, who answers for them,
//! what they are supposed to be, and how sensitive they are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Most entries of a workspace: as many names as it counts.
pub const MAX_ENTRIES: usize = 5_000;

/// The longest name of an event, a property or a fact, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// The longest meaning, in bytes.
pub const MAX_MEANING_BYTES: usize = 2_000;

/// The longest owner, in bytes.
pub const MAX_OWNER_BYTES: usize = 200;

/// Stands for every event where a property is described.
pub const EVERY_EVENT: &str = "*";

/// What an entry describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// Events of a name.
    Event {
        /// The name.
        name: String,
    },
    /// A property of events of a name, or of every event.
    Property {
        /// The name of the events, or [`EVERY_EVENT`].
        event: String,
        /// The property's name.
        name: String,
    },
    /// A fact of people.
    Trait {
        /// The name.
        name: String,
    },
}

impl Subject {
    /// The kind, as the API spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Event { .. } => "event",
            Subject::Property { .. } => "property",
            Subject::Trait { .. } => "trait",
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Subject::Event { name } | Subject::Property { name, .. } | Subject::Trait { name } => name,
        }
    }

    /// Of a property: the events that have it.
    pub fn event(&self) -> Option<&str> {
        match self {
            Subject::Property { event, .. } => Some(event),
            Subject::Event { .. } | Subject::Trait { .. } => None,
        }
    }

    /// Its place in a list, and its name in a store: an event, then its properties, then facts.
    pub fn key(&self) -> String {
        match self {
            Subject::Event { name } => format!("0\u{1}{name}\u{1}"),
            Subject::Property { event, name } => format!("0\u{1}{event}\u{1}{name}"),
            Subject::Trait { name } => format!("1\u{1}{name}\u{1}"),
        }
    }

    /// Whether there can be such a subject.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        for (what, name) in [("name", Some(self.name())), ("event", self.event())] {
            let Some(name) = name else { continue };
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(format!("{what}: has 1 to {MAX_NAME_BYTES} bytes"));
            }
            if name.chars().any(char::is_control) {
                return Err(format!("{what}: has a control character, which no list could show"));
            }
        }
        Ok(())
    }
}

/// Quoted as conditions write texts.
fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `.name`, or `['the name']` where it is no plain word.
fn member(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if is_plain { format!(".{name}") } else { format!("[{}]", quoted(name)) }
}

/// As conditions ask for it, which is also how a grant names it: `traits.salary`, `events('Order Completed')`,
/// `events('Order Completed').properties.coupon`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Event { name } => write!(f, "events({})", quoted(name)),
            Subject::Property { event, name } => write!(f, "events({}).properties{}", quoted(event), member(name)),
            Subject::Trait { name } => write!(f, "traits{}", member(name)),
        }
    }
}

/// What values are supposed to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    Text,
    Number,
    Boolean,
    /// A moment, e.g. `2026-11-21T10:00:00Z`.
    Time,
    List,
    Object,
}

/// How much harm a value can do in the wrong hands. The last two are those of the European law: data about somebody who can be
/// told (article 4), and what must not be used without more (article 9, and what a company protects as well, such as pay).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Anybody may know it.
    Public,
    /// It is the company's own, and tells of nobody.
    #[default]
    Internal,
    /// It tells of a person.
    Personal,
    /// It is masked for whoever may not read sensitive data, and a plugin reads it where a grant names it.
    Sensitive,
}

impl Sensitivity {
    /// All of them, from the least.
    pub const ALL: [Sensitivity; 4] =
        [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Personal, Sensitivity::Sensitive];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Sensitivity::Public => "public",
            Sensitivity::Internal => "internal",
            Sensitivity::Personal => "personal",
            Sensitivity::Sensitive => "sensitive",
        }
    }
}

/// What is written down of a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it means, for people.
    pub meaning: String,
    /// The person or the team who answers for it.
    pub owner: String,
    /// What its values are supposed to be; events have none.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub value_type: Option<ValueType>,
    #[serde(default)]
    pub sensitivity: Sensitivity,
}

impl Entry {
    /// Whether it can be written down of a subject.
    ///
    /// # Errors
    /// The field and what is wrong, in words.
    pub fn check(&self, subject: &Subject) -> Result<(), (&'static str, String)> {
        for (field, text, most) in
            [("meaning", &self.meaning, MAX_MEANING_BYTES), ("owner", &self.owner, MAX_OWNER_BYTES)]
        {
            if text.len() > most {
                return Err((field, format!("has {} bytes; {most} are allowed", text.len())));
            }
        }
        match (subject, self.value_type) {
            (Subject::Event { .. }, Some(_)) => Err(("type", "an event has no value of its own; leave it out".into())),
            _ => Ok(()),
        }
    }
}

/// An entry with when it was last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedEntry {
    pub entry: Entry,
    pub changed_at: Timestamp,
}

/// All entries of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionary {
    /// By their subjects' keys, which is the order of lists.
    entries: BTreeMap<String, (Subject, DatedEntry)>,
    /// How many of them are sensitive.
    sensitive: usize,
}

impl Dictionary {
    /// Write an entry down.
    pub fn put(&mut self, subject: Subject, described: DatedEntry) {
        self.remove(&subject);
        self.sensitive += usize::from(described.entry.sensitivity == Sensitivity::Sensitive);
        self.entries.insert(subject.key(), (subject, described));
    }

    /// Take an entry out.
    pub fn remove(&mut self, subject: &Subject) {
        if let Some((_, gone)) = self.entries.remove(&subject.key()) {
            self.sensitive -= usize::from(gone.entry.sensitivity == Sensitivity::Sensitive);
        }
    }

    /// What is written down of a subject.
    pub fn get(&self, subject: &Subject) -> Option<&DatedEntry> {
        self.entries.get(&subject.key()).map(|(_, described)| described)
    }

    /// All entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &DatedEntry)> {
        self.entries.values().map(|(subject, described)| (subject, described))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether anything is sensitive.
    pub fn has_sensitive(&self) -> bool {
        self.sensitive > 0
    }

    /// What is sensitive.
    pub fn sensitive(&self) -> impl Iterator<Item = (&Subject, &DatedEntry)> {
        let all = if self.has_sensitive() { Some(self.iter()) } else { None };
        all.into_iter().flatten().filter(|(_, described)| described.entry.sensitivity == Sensitivity::Sensitive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(event: &str, name: &str) -> Subject {
        Subject::Property { event: event.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn subjects_are_written_as_conditions_write_them() {
        let salary = Subject::Trait { name: "salary".to_owned() };
        let odd = Subject::Trait { name: "it's 1".to_owned() };
        let event = Subject::Event { name: "Order Completed".to_owned() };
        assert_eq!(salary.to_string(), "traits.salary");
        assert_eq!(odd.to_string(), r"traits['it\'s 1']");
        assert_eq!(event.to_string(), "events('Order Completed')");
        assert_eq!(property("*", "total price").to_string(), "events('*').properties['total price']");
        assert_ne!(property("a.b", "c").to_string(), property("a", "b.c").to_string());
    }

    #[test]
    fn an_event_is_followed_by_its_properties_and_facts_come_last() {
        let mut dictionary = Dictionary::default();
        let described =
            |sensitivity| DatedEntry { entry: Entry { sensitivity, ..Entry::default() }, changed_at: Timestamp(0) };
        for subject in [
            Subject::Trait { name: "a".into() },
            property("B", "x"),
            Subject::Event { name: "B".into() },
            property("A", "y"),
            property("B", "w"),
        ] {
            dictionary.put(subject, described(Sensitivity::Internal));
        }
        let order: Vec<String> = dictionary.iter().map(|(subject, _)| subject.to_string()).collect();
        let written =
            ["events('A').properties.y", "events('B')", "events('B').properties.w", "events('B').properties.x"];
        assert_eq!(order[..4], written);
        assert!(!dictionary.has_sensitive() && dictionary.sensitive().next().is_none());
        dictionary.put(property("B", "x"), described(Sensitivity::Sensitive));
        dictionary.put(property("B", "x"), described(Sensitivity::Sensitive));
        assert_eq!((dictionary.sensitive().count(), dictionary.len()), (1, 5));
        dictionary.remove(&property("B", "x"));
        assert!(!dictionary.has_sensitive());
    }

    #[test]
    fn what_cannot_be_described_is_refused() {
        assert!(property("", "x").check().unwrap_err().starts_with("event"));
        assert!(property("A", "a\u{1}b").check().unwrap_err().starts_with("name"));
        assert!(Subject::Trait { name: "x".repeat(257) }.check().is_err());
        let of_event = Entry { value_type: Some(ValueType::Text), ..Entry::default() };
        assert_eq!(of_event.check(&Subject::Event { name: "A".into() }).unwrap_err().0, "type");
        assert!(of_event.check(&property("A", "x")).is_ok());
        let long = Entry { owner: "x".repeat(201), ..Entry::default() };
        assert_eq!(long.check(&property("A", "x")).unwrap_err().0, "owner");
    }
}
