//! One record becomes one event: identifiers, name, time, properties, traits, and an id that is the same for the same version of
//! the same record. A record that cannot become one is set aside with its reason.

use kith_plugin_sdk::json::{self, Duplicates, Numbers, Oddity};
use kith_plugin_sdk::time::Form;
use kith_plugin_sdk::{Event, EventKind, Identifier, Timestamp, time};

use crate::consent;
use crate::hash::hash;
use crate::path;
use crate::selection;
use crate::settings::{Kind, Resource, TimeAt, TimeFormat};

/// As long as the ids that the kernel keeps for recognising repeats.
const MAX_MESSAGE_ID_BYTES: usize = 256;

/// A record of more bytes than this is set aside: it is a document and no record.
const MAX_RECORD_BYTES: usize = 256 * 1024;

/// The longest value that is quoted to a person, in bytes.
const MAX_QUOTED_BYTES: usize = 64;

/// The trait that tells of consents.
pub(crate) const CONSENT: &str = "consent";

/// Why a record is set aside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into() }
    }
}

/// A record as well-formed JSON, and what was odd in it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) text: String,
    flags: Vec<String>,
}

impl Record {
    /// Read the bytes of a record.
    pub(crate) fn read(bytes: &[u8]) -> Result<Record, Problem> {
        if bytes.len() > MAX_RECORD_BYTES {
            let message = format!("the record has {} bytes, at most {MAX_RECORD_BYTES} are taken", bytes.len());
            return Err(Problem::new("record-too-long", message));
        }
        let document = json::read_as(bytes, Duplicates::LastHolds, Numbers::Kept)
            .map_err(|error| Problem::new("unreadable-json", format!("the record cannot be read: {error}")))?;
        if !document.text.starts_with('{') {
            return Err(Problem::new("not-an-object", "the record is not a JSON object"));
        }
        if document.flags.has(Oddity::TooDeep) {
            let message = format!("lists and objects lie more than {} levels deep in each other", json::MAX_DEPTH);
            return Err(Problem::new("too-deep", message));
        }
        let flags = document.flags.iter().map(ToString::to_string).collect();
        Ok(Record { text: document.text, flags })
    }

    fn at(&self, path: &str) -> Option<&[u8]> {
        path::find(self.text.as_bytes(), path)
    }

    /// The id at a path: a text, or a whole number as it is written.
    fn id(&self, path: &str) -> Option<String> {
        self.at(path).and_then(id)
    }
}

/// The id that a value is. `5001.0` is `5001`; a number whose last digits were cut (`1.2e+21`) names nothing, and nor does a truth
/// value.
fn id(value: &[u8]) -> Option<String> {
    let text = path::plain(value)?;
    if value.starts_with(b"\"") {
        return Some(text.trim().to_owned());
    }
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => &*text,
    };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| whole.to_owned())
}

/// Turn a record into an event.
pub(crate) fn event(record: &Record, resource: &Resource) -> Result<Event, Problem> {
    let kind = match resource.kind {
        Kind::Track => EventKind::Track,
        Kind::Identify => EventKind::Identify,
    };
    let mut event = Event { kind, flags: record.flags.clone(), ..Event::default() };
    event.message_id = Some(message_id(record, resource)?);
    event.identifiers = identifiers(record, resource, &mut event.flags)?;
    event.name = name(record, resource)?;
    if let Some(at) = &resource.time {
        let (time, original) = time_of(record, at)?;
        (event.time, event.original_time) = (Some(time), original);
    }
    let text = record.text.as_bytes();
    let (properties, traits) = (resource.properties.as_ref(), resource.traits.as_ref());
    // Where the configuration says what tells of consent, nothing else does.
    let is_consent = |key: &str| !resource.consent.is_empty() && key.eq_ignore_ascii_case(CONSENT);
    let all = || selection::without(text, &resource.omit, is_consent);
    let is_track = resource.kind == Kind::Track;
    event.properties = match properties {
        Some(chosen) => selection::chosen(text, chosen),
        None if is_track => all(),
        None => String::new(),
    };
    event.traits = match traits {
        Some(chosen) => selection::chosen(text, chosen),
        None if is_track => String::new(),
        None => all(),
    };
    if let Some(consent) = consent::of(text, &resource.consent) {
        event.traits = selection::with_member(&event.traits, CONSENT, &consent);
    }
    Ok(event)
}

/// `RESOURCE/ID@VERSION`, or `RESOURCE/ID` where changed records correct earlier ones. Without a field for the version it is a hash of
/// what the record says.
fn message_id(record: &Record, resource: &Resource) -> Result<String, Problem> {
    let id = record.id(&resource.id).ok_or_else(|| {
        let message = format!("there is no text or whole number at `{}` (`id`)", resource.id);
        Problem::new("missing-id", message)
    })?;
    let name = &resource.name;
    let whole = if resource.corrects {
        format!("{name}/{id}")
    } else {
        let path = resource.version.as_deref().or(resource.since.as_ref().map(|since| since.field.as_str()));
        match path.and_then(|path| path::plain(record.at(path)?)) {
            Some(version) => format!("{name}/{id}@{version}"),
            None => format!("{name}/{id}@{:016x}", json::fingerprint(&record.text, hash)),
        }
    };
    if whole.len() > MAX_MESSAGE_ID_BYTES {
        let message = format!("id and version have {} bytes, at most {MAX_MESSAGE_ID_BYTES} are taken", whole.len());
        return Err(Problem::new("bad-message-id", message));
    }
    Ok(whole)
}

fn identifiers(record: &Record, resource: &Resource, flags: &mut Vec<String>) -> Result<Vec<Identifier>, Problem> {
    let mut identifiers = Vec::new();
    let paths = resource.identifiers.iter().flat_map(|(kind, paths)| paths.all().iter().map(move |path| (kind, path)));
    for (kind, path) in paths {
        let Some(value) = record.at(path) else { continue };
        let items = if value.starts_with(b"[") { json::elements(value).unwrap_or_default() } else { vec![value] };
        for item in items {
            match id(item) {
                Some(id) => {
                    let identifier = Identifier::new(kind, id);
                    if !identifiers.contains(&identifier) {
                        identifiers.push(identifier);
                    }
                }
                // It names nobody, and costs nothing that something else in the record names.
                None if path::is_nothing(item) => {}
                None => flags.push(format!("not-an-id:{path}")),
            }
        }
    }
    if identifiers.is_empty() {
        let paths: Vec<&str> =
            resource.identifiers.values().flat_map(|paths| paths.all()).map(String::as_str).collect();
        let message = format!("the record names nobody: there is no text or whole number at {}", paths.join(", "));
        return Err(Problem::new("missing-identifier", message));
    }
    Ok(identifiers)
}

fn name(record: &Record, resource: &Resource) -> Result<String, Problem> {
    if resource.kind == Kind::Identify {
        return Ok(String::new());
    }
    let event = &resource.event;
    let Some(path) = &event.path else { return Ok(event.name.clone().unwrap_or_default()) };
    match record.at(path).and_then(path::plain).map(|name| name.trim().to_owned()) {
        Some(name) => Ok(event.rename.get(&name).cloned().unwrap_or(name)),
        // The name beside the path is that of records without one.
        None => event.name.clone().ok_or_else(|| {
            Problem::new("missing-event-name", format!("there is no text at `{path}`, the name of what happened"))
        }),
    }
}

/// The time, and the text where it says more.
fn time_of(record: &Record, at: &TimeAt) -> Result<(Timestamp, Option<String>), Problem> {
    let path = &at.path;
    let text = record.at(path).and_then(path::plain);
    let text = text.ok_or_else(|| Problem::new("missing-time", format!("there is no time at `{path}`")))?;
    let bad = |why: &str| {
        let shown = &text[..text.floor_char_boundary(MAX_QUOTED_BYTES)];
        Problem::new("bad-time", format!("`{shown}` at `{path}` is no time {why}"))
    };
    let counted = |unit: i64| text.trim().parse::<i64>().ok().and_then(|count| count.checked_mul(unit));
    let read = match at.format {
        TimeFormat::Auto => {
            let reading =
                time::read(&text).ok_or_else(|| bad("that is read; name the `format` of counts since 1970"))?;
            let original =
                (reading.form != Form::Rfc3339).then(|| text[..text.floor_char_boundary(MAX_QUOTED_BYTES)].to_owned());
            return Ok((reading.at_offset(at.offset_ms().unwrap_or_default()), original));
        }
        TimeFormat::Unix => counted(1_000),
        TimeFormat::UnixMs => counted(1),
    };
    // A year that RFC 3339 cannot write is no time.
    let time = read.filter(|time| time::rfc3339(*time).is_some());
    time.map(|time| (time, None)).ok_or_else(|| bad("by `format`"))
}
