//! The event and what it is made of: what connectors find and receipts carry. Leaves identity and storage to the kernel.

use std::ops::Range;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Timestamp = i64;

/// Something that names a person, e.g. `(email, a@b.c)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identifier {
    /// The type: `user_id`, `anonymous_id`, `email`, … (lower case, digits, `_`).
    pub kind: String,
    /// The value, as the source writes it.
    pub value: String,
}

impl Identifier {
    /// An identifier of a type with a value.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Identifier {
        Identifier { kind: kind.into(), value: value.into() }
    }
}

/// What an event is, in Segment's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EventKind {
    /// Somebody did something.
    #[default]
    Track,
    /// Facts about a person.
    Identify,
    /// Somebody saw a page.
    Page,
    /// Somebody saw an app's screen.
    Screen,
    /// Somebody belongs to a group.
    Group,
    /// Two identifiers name one person.
    Alias,
}

/// One event as a plugin found it. The kernel adds workspace, source and position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// The sender's id of this message; the kernel keeps an event once per source and id. Without one the kernel assigns one, and a
    /// repeat is stored again.
    pub message_id: Option<String>,
    /// `Order Completed`, a page's name, … May be empty for `Identify`, `Group` and `Alias`.
    pub name: String,
    /// When it happened; absent means when it was received.
    pub time: Option<Timestamp>,
    /// When the sender sent it by the sender's clock; the kernel moves `time` by the difference to its own.
    pub sent_at: Option<Timestamp>,
    /// Whom it is about.
    pub identifiers: Vec<Identifier>,
    /// A JSON object, or empty for none.
    pub properties: String,
    /// A JSON object of facts about the person, or empty for none.
    pub traits: String,
    /// A JSON object, or empty for none.
    pub context: String,
    /// What was odd in the input and how it was read: a code, and behind a colon the path, e.g. `half-surrogate:properties.title`. The
    /// kernel keeps the first sixteen, counts them by their code and shows them with the event.
    pub flags: Vec<String>,
    /// The time as it came, where `time` does not say all of it: another form, or one that could not be read.
    pub original_time: Option<String>,
    /// Named values for what later versions of the contract add.
    pub attributes: Vec<(String, String)>,
}

impl Event {
    /// An event of a kind with a name and nothing else.
    pub fn new(kind: EventKind, name: impl Into<String>) -> Event {
        Event { kind, name: name.into(), ..Event::default() }
    }

    /// Somebody did something.
    pub fn track(name: impl Into<String>) -> Event {
        Event::new(EventKind::Track, name)
    }

    /// The same with where it stands in the input: the line in a file (from 1) or the index in a batch (from 0), and its text in
    /// bytes of the body. What the kernel refuses is reported at that place and kept as that text, so that it can be corrected
    /// and tried again.
    #[must_use]
    pub fn at(mut self, place: u64, span: Option<Range<usize>>) -> Event {
        let text = match span {
            Some(span) => format!("{place}:{}-{}", span.start, span.end),
            None => place.to_string(),
        };
        self.attributes.push(("at".to_owned(), text));
        self
    }

    /// The same with one more identifier.
    #[must_use]
    pub fn with_identifier(mut self, kind: impl Into<String>, value: impl Into<String>) -> Event {
        self.identifiers.push(Identifier::new(kind, value));
        self
    }

    /// The same with the time at which it happened.
    #[must_use]
    pub fn with_time(mut self, time: Timestamp) -> Event {
        self.time = Some(time);
        self
    }

    /// The same with the sender's id of the message.
    #[must_use]
    pub fn with_message_id(mut self, message_id: impl Into<String>) -> Event {
        self.message_id = Some(message_id.into());
        self
    }

    /// The same with these properties, a JSON object.
    #[must_use]
    pub fn with_properties(mut self, properties: impl Into<String>) -> Event {
        self.properties = properties.into();
        self
    }
}
