//! One message of a client becomes one event: which field is which, and what makes a message unusable.
//!
//! Properties, traits and context are handed on as the text that came. Leaves batches to the crate's root.

use std::borrow::Cow;

use kith_plugin_sdk::json::Unreadable;
use kith_plugin_sdk::{Event, EventKind, Identifier, Timestamp};

use crate::consent::{self, Said};
use crate::moment::{self, Moment};
use crate::object::{self, Object, ObjectWriter, Raw};

/// The kernel keeps message ids for seven days to recognise repeats; real ones have 36 to 70 bytes.
const MAX_MESSAGE_ID_BYTES: usize = 256;

/// Why a message is set aside.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into() }
    }
}

/// What a batch says for all of its messages.
#[derive(Default)]
pub(crate) struct Shared<'a> {
    /// The text of an object, or empty.
    pub(crate) context: &'a str,
    /// Bytes of all contexts, in case that the batch has several.
    pub(crate) context_bytes: usize,
    /// What they say of consents.
    pub(crate) consents: Vec<Said<'a>>,
    integrations: Option<Raw<'a>>,
    sent_at: Option<Timestamp>,
    /// What was odd in them.
    pub(crate) flags: Vec<String>,
}

impl<'a> Shared<'a> {
    /// The shared fields of a batch. What is wrong with one of them is flagged with each message, and costs none of them.
    pub(crate) fn read(batch: &Object<'a>, flags: Vec<String>) -> Shared<'a> {
        let mut shared = Shared { flags, ..Shared::default() };
        for (key, value) in batch.iter().filter(|(_, value)| !object::is_null(*value)) {
            match key {
                "context" => match object_field(key, value, &mut shared.flags) {
                    Field::Object(context) => shared.context = context,
                    Field::Odd => {}
                },
                "integrations" => shared.integrations = Some(value),
                "sentAt" => shared.sent_at = moment::sent_at(value),
                _ => {}
            }
        }
        for (_, context) in batch.all().filter(|(key, _)| *key == "context") {
            shared.context_bytes += context.get().len();
            consent::add_of_context(context, &mut shared.consents);
        }
        shared
    }
}

/// A message's fields, each as its text; `null` is the same as absent.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Raw<'a>>,
    event: Option<Raw<'a>>,
    name: Option<Raw<'a>>,
    category: Option<Raw<'a>>,
    user_id: Option<Raw<'a>>,
    anonymous_id: Option<Raw<'a>>,
    previous_id: Option<Raw<'a>>,
    group_id: Option<Raw<'a>>,
    message_id: Option<Raw<'a>>,
    timestamp: Option<Raw<'a>>,
    original_timestamp: Option<Raw<'a>>,
    sent_at: Option<Raw<'a>>,
    properties: &'a str,
    traits: &'a str,
    context: &'a str,
}

impl<'a> Fields<'a> {
    /// The field of a key that may hold anything.
    fn of(&mut self, key: &str) -> Option<&mut Option<Raw<'a>>> {
        Some(match key {
            "type" => &mut self.kind,
            "event" => &mut self.event,
            "name" => &mut self.name,
            "category" => &mut self.category,
            "userId" => &mut self.user_id,
            "anonymousId" => &mut self.anonymous_id,
            "previousId" => &mut self.previous_id,
            "groupId" => &mut self.group_id,
            "messageId" => &mut self.message_id,
            "timestamp" => &mut self.timestamp,
            "originalTimestamp" => &mut self.original_timestamp,
            "sentAt" => &mut self.sent_at,
            _ => return None,
        })
    }
}

/// Turn one message into an event. `kind` is what the path says, where it says one.
pub(crate) fn read(object: &Object<'_>, kind: Option<EventKind>, shared: &Shared<'_>) -> Result<Event, Problem> {
    let mut rest = Vec::new();
    let mut flags = Vec::new();
    let fields = fields(object, &mut rest, &mut flags);
    let kind = match kind {
        Some(kind) => kind,
        None => kind_of(fields.kind)?,
    };
    if let (None, Some(integrations)) = (object.get("integrations"), shared.integrations) {
        rest.push(("integrations", integrations));
    }

    let context = object::merge(shared.context, fields.context).map_err(unreadable)?;
    let about = About::read(&context)?;
    let mut event = Event { kind, ..Event::default() };
    event.message_id = message_id(&fields)?;
    event.sent_at = fields.sent_at.and_then(moment::sent_at).or(shared.sent_at);
    let Moment { time, original } = moment::of(fields.timestamp, fields.original_timestamp, event.sent_at, &mut flags);
    (event.time, event.original_time) = (time, original);
    event.name = name(kind, &fields)?;
    let own_traits = if kind == EventKind::Group { "" } else { fields.traits };
    let traits = object::merge(about.traits, own_traits).map_err(unreadable)?;
    let traits = consent::with_all(traits, &consent::said(object, kind, shared)).map_err(unreadable)?;
    event.identifiers = identifiers(kind, &fields, &traits, about.external_ids)?;
    event.properties = properties(kind, &fields)?;
    event.traits = if object::is_empty_object(&traits) { String::new() } else { traits.into_owned() };
    event.context = with_rest(context, &rest);
    event.flags = flags;
    Ok(event)
}

/// What there is of a refusal of consent in a message that becomes no event: an event that says that and no more. An agreement
/// in it counts for nothing.
pub(crate) fn refusal(object: &Object<'_>, kind: Option<EventKind>, shared: &Shared<'_>) -> Option<Event> {
    let kind = kind.or_else(|| kind_of(object.get("type")).ok()).unwrap_or(EventKind::Identify);
    let refused = consent::refused(&consent::said(object, kind, shared))?;
    let readable = |key: &str| object.get(key).filter(|value| id(key, Some(*value)).is_ok());
    let part = |key: &str| object.get(key).filter(|value| object::is_object(*value)).map_or("", |value| value.get());
    let fields = Fields {
        user_id: readable("userId"),
        anonymous_id: readable("anonymousId"),
        timestamp: object.get("timestamp"),
        original_timestamp: object.get("originalTimestamp"),
        ..Fields::default()
    };
    let about = About::read(part("context")).unwrap_or_default();
    let own_traits = if kind == EventKind::Group { "" } else { part("traits") };
    let traits = object::merge(about.traits, own_traits).unwrap_or_default();
    let identifiers = identifiers(EventKind::Identify, &fields, &traits, about.external_ids).ok()?;
    let event = Event {
        kind: EventKind::Identify,
        time: moment::of(fields.timestamp, fields.original_timestamp, None, &mut Vec::new()).time,
        sent_at: object.get("sentAt").and_then(moment::sent_at).or(shared.sent_at),
        identifiers,
        traits: refused,
        ..Event::default()
    };
    (!event.identifiers.is_empty()).then_some(event)
}

fn unreadable(error: Unreadable) -> Problem {
    Problem::new("unreadable-json", format!("it cannot be read: {error}"))
}

fn fields<'o, 'a>(object: &'o Object<'a>, rest: &mut Vec<(&'o str, Raw<'a>)>, flags: &mut Vec<String>) -> Fields<'a> {
    let mut fields = Fields::default();
    for (key, value) in object.iter().filter(|(_, value)| !object::is_null(*value)) {
        let part = match key {
            "properties" => &mut fields.properties,
            "traits" => &mut fields.traits,
            "context" => &mut fields.context,
            _ => {
                if IDS.contains(&key) && id(key, Some(value)).is_err() {
                    // It names nobody, and costs the message nothing that something else in it names.
                    flags.push(format!("not-an-id:{key}"));
                    rest.push((key, value));
                    continue;
                }
                match fields.of(key) {
                    Some(field) => *field = Some(value),
                    None if TRANSPORT.contains(&key) => {}
                    None => rest.push((key, value)),
                }
                continue;
            }
        };
        match object_field(key, value, flags) {
            Field::Object(text) => *part = text,
            // Nothing that a client sent is lost: it stands with the fields that nobody knows.
            Field::Odd => rest.push((key, value)),
        }
    }
    fields
}

/// Fields that hold an id: a text or a number.
const IDS: [&str; 4] = ["userId", "anonymousId", "previousId", "messageId"];

/// What a message says of its way here: it differs between attempts, or is a credential that browsers repeat in every body.
const TRANSPORT: [&str; 5] = ["writeKey", "receivedAt", "_metadata", "retryCount", "attempt"];

/// What stands where an object belongs.
enum Field<'a> {
    /// The text of an object, or empty.
    Object(&'a str),
    /// Something else, which is flagged.
    Odd,
}

/// PHP and others write an empty map as `[]`.
fn object_field<'a>(key: &str, value: Raw<'a>, flags: &mut Vec<String>) -> Field<'a> {
    if object::is_object(value) {
        return Field::Object(value.get());
    }
    if value.get() == "[]" {
        flags.push(format!("list-for-object:{key}"));
        return Field::Object("");
    }
    flags.push(format!("not-an-object:{key}"));
    Field::Odd
}

fn kind_of(kind: Option<Raw<'_>>) -> Result<EventKind, Problem> {
    let Some(kind) = kind else {
        return Err(Problem::new(
            "missing-type",
            "there is no `type`; it is track, identify, page, screen, group or alias",
        ));
    };
    Ok(match object::text(kind).as_deref() {
        Some("track") => EventKind::Track,
        Some("identify") => EventKind::Identify,
        Some("page") => EventKind::Page,
        Some("screen") => EventKind::Screen,
        Some("group") => EventKind::Group,
        Some("alias") => EventKind::Alias,
        _ => {
            let kind = crop(kind.get());
            let message = format!("the type {kind} is unknown; it is track, identify, page, screen, group or alias");
            return Err(Problem::new("unknown-type", message));
        }
    })
}

/// The beginning of a value for a message to a person.
pub(crate) fn crop(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

/// An id as text: a string, or a whole number as it is written. Empty is none.
fn id<'a>(key: &str, value: Option<Raw<'a>>) -> Result<Option<Cow<'a, str>>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let id = match value.get().as_bytes()[0] {
        b'"' => object::text(value),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(whole(value.get()))),
        _ => None,
    };
    match id {
        Some(id) if id.trim().is_empty() => Ok(None),
        Some(id) => Ok(Some(id)),
        None => Err(Problem::new("invalid-field", format!("`{key}` is not a text: {}", crop(value.get())))),
    }
}

/// A whole number without the zeros that some languages write behind its point: `777.0` is `777`, as it is in a file.
fn whole(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => number,
    }
}

fn message_id(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    match id("messageId", fields.message_id)? {
        Some(id) if id.len() > MAX_MESSAGE_ID_BYTES => Err(Problem::new(
            "invalid-message-id",
            format!("`messageId` has {} bytes, at most {MAX_MESSAGE_ID_BYTES} are taken", id.len()),
        )),
        id => Ok(id.map(Cow::into_owned)),
    }
}

fn name(kind: EventKind, fields: &Fields<'_>) -> Result<String, Problem> {
    let name = match kind {
        EventKind::Track => id("event", fields.event)?,
        EventKind::Page | EventKind::Screen => match id("name", fields.name)? {
            None => id("category", fields.category)?,
            name => name,
        },
        EventKind::Identify | EventKind::Group | EventKind::Alias => None,
    };
    match (kind, name) {
        (_, Some(name)) => Ok(name.into_owned()),
        (EventKind::Track, None) => {
            Err(Problem::new("missing-event-name", "there is no `event`, the name of what happened"))
        }
        // The names that Segment's browser library gives to calls without one.
        (EventKind::Page, None) => Ok("Loaded a Page".to_owned()),
        (EventKind::Screen, None) => Ok("Loaded a Screen".to_owned()),
        (EventKind::Identify | EventKind::Group | EventKind::Alias, None) => Ok(String::new()),
    }
}

/// What the context says about the person.
#[derive(Default)]
struct About<'a> {
    /// The text of an object, or empty.
    traits: &'a str,
    external_ids: Option<Raw<'a>>,
}

impl<'a> About<'a> {
    fn read(context: &'a str) -> Result<About<'a>, Problem> {
        let mut about = About::default();
        // Most contexts have neither; looking for the words is cheaper than reading the object.
        if object::may_have(context, ["\"traits\"", "\"externalIds\""]) {
            let context = Object::read(context).map_err(unreadable)?;
            about.traits =
                context.get("traits").filter(|traits| object::is_object(*traits)).map_or("", |traits| traits.get());
            about.external_ids = context.get("externalIds");
        }
        Ok(about)
    }
}

fn identifiers(
    kind: EventKind,
    fields: &Fields<'_>,
    traits: &str,
    external_ids: Option<Raw<'_>>,
) -> Result<Vec<Identifier>, Problem> {
    let mut found = Vec::with_capacity(4);
    let mut add = |kind: &str, value: Option<Cow<'_, str>>| {
        // Where something of an id could not be read stands this, and people of whom the same part could not be read are not one.
        let Some(value) = value.filter(|value| !value.contains(char::REPLACEMENT_CHARACTER)) else { return };
        if !found.iter().any(|known: &Identifier| known.kind == kind && known.value == value) {
            found.push(Identifier::new(kind, value));
        }
    };
    add("user_id", id("userId", fields.user_id)?);
    add("anonymous_id", id("anonymousId", fields.anonymous_id)?);
    if kind == EventKind::Alias {
        let previous = id("previousId", fields.previous_id)?;
        if previous.is_none() {
            return Err(Problem::new(
                "missing-previous-id",
                "there is no `previousId`, the id that the new one replaces",
            ));
        }
        // A user's or a device's: the kernel finds out whose it is.
        add("previous_id", previous);
    }
    if object::may_have(traits, ["\"email\"", "\"phone\""]) {
        let traits = Object::read(traits).map_err(unreadable)?;
        for key in ["email", "phone"] {
            // A trait of another type is no identifier, but no reason to refuse the message either.
            add(key, id(key, traits.get(key)).unwrap_or_default());
        }
    }
    for external in external_ids.and_then(object::list).unwrap_or_default() {
        let Ok(external) = Object::read(external.get()) else { continue };
        let value = id("id", external.get("id")).unwrap_or_default();
        if let Some(kind) = external.get("type").and_then(object::text).and_then(|kind| identifier_kind(&kind)) {
            add(&kind, value);
        }
    }
    if found.is_empty() {
        let message =
            "nothing names a person; send `userId` or `anonymousId`, each a text or a number that is no placeholder";
        return Err(Problem::new("missing-identifier", message));
    }
    Ok(found)
}

/// Segment's `android.idfa` is `android_idfa` here: identifier types have lower-case letters, digits and `_`.
fn identifier_kind(kind: &str) -> Option<String> {
    let kind: String = kind
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' })
        .take(64)
        .collect();
    kind.bytes().any(|byte| byte != b'_').then_some(kind)
}

fn properties(kind: EventKind, fields: &Fields<'_>) -> Result<String, Problem> {
    let given = if object::is_empty_object(fields.properties) { "" } else { fields.properties };
    match kind {
        EventKind::Group => {
            let Some(group_id) = fields.group_id.filter(|value| matches!(id("groupId", Some(*value)), Ok(Some(_))))
            else {
                return Err(Problem::new(
                    "missing-group-id",
                    "there is no `groupId`, the group that the person belongs to",
                ));
            };
            let mut properties = ObjectWriter::beginning_with(given, 64 + fields.traits.len());
            properties.entry("groupId", group_id.get());
            if !fields.traits.is_empty() && !object::is_empty_object(fields.traits) {
                properties.entry("traits", fields.traits);
            }
            Ok(properties.finish())
        }
        EventKind::Page | EventKind::Screen if fields.name.is_some() || fields.category.is_some() => {
            let known = if given.is_empty() { Object::default() } else { Object::read(given).map_err(unreadable)? };
            let mut properties = ObjectWriter::beginning_with(given, 64);
            for (key, value) in [("name", fields.name), ("category", fields.category)] {
                if let (Some(value), None) = (value, known.get(key)) {
                    properties.entry(key, value.get());
                }
            }
            Ok(properties.finish())
        }
        _ => Ok(given.to_owned()),
    }
}

/// The context with the message's other fields under `message`, so that nothing that a client sent is lost.
fn with_rest(context: Cow<'_, str>, rest: &[(&str, Raw<'_>)]) -> String {
    let context = if object::is_empty_object(&context) { Cow::Borrowed("") } else { context };
    let mut message = ObjectWriter::beginning_with("", 64);
    let mut any = false;
    for (key, value) in rest.iter().filter(|(_, value)| !object::is_empty_object(value.get())) {
        message.entry(key, value.get());
        any = true;
    }
    if !any {
        return context.into_owned();
    }
    let message = message.finish();
    let is_taken =
        context.contains("\"message\"") && Object::read(&context).is_ok_and(|read| read.get("message").is_some());
    let mut whole = ObjectWriter::beginning_with(&context, message.len() + 16);
    whole.entry(if is_taken { "_message" } else { "message" }, &message);
    whole.finish()
}
