//! The connector `kith/segment`: takes what Segment's and RudderStack's own clients send over HTTP.
//!
//! Responsible for paths, batches and which message is set aside; `message` turns one message into an event, `object` takes the
//! texts of objects apart. Leaves authentication, decompression, de-duplication, the clock's correction and the answer to the kernel.

use kith_plugin_sdk::json::{self, Document, Duplicates, Flags, Member, Numbers, Oddity};
use kith_plugin_sdk::{Connector, Event, EventKind, Received, Rejected, Rejection, Request, config, export};
use serde::Deserialize;

use crate::message::Shared;
use crate::object::{Object, ObjectWriter};

mod consent;
mod message;
mod moment;
mod object;

/// The connector.
pub struct Segment;

#[derive(Deserialize)]
struct Settings {
    #[serde(default = "default_max_message_bytes")]
    max_message_bytes: usize,
}

/// Segment's own limit, which its clients keep to.
fn default_max_message_bytes() -> usize {
    32 * 1024
}

/// A batch's shared context is copied into each of its messages, so a small body could ask for a huge answer. Real ones need about
/// 1 KiB for 100 messages.
const MAX_SHARED_BYTES: usize = 16 * 1024 * 1024;

/// What a path takes.
#[derive(Clone, Copy)]
enum Route {
    Single(EventKind),
    Batch,
    /// A path of the kernel's own: the body says what it is.
    ByContent,
}

impl Connector for Segment {
    fn receive(request: Request) -> Result<Received, Rejection> {
        let route = route(&request.path)?;
        if !request.complete {
            // A JSON document is read as a whole; the kernel's limit on a body bounds how often this is answered.
            return Ok(Received { resume: request.resume, ..Received::default() });
        }
        let settings: Settings = config::get()?;
        let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
        read_body(&json::decoded(&request.body), route, &settings, &mut received)?;
        Ok(received)
    }
}

export!(Segment as connector);

/// The kind by the path's last part. A trailing slash and capitals are accepted, since a redirect would be counted as delivered by
/// some clients.
fn route(path: &str) -> Result<Route, Rejection> {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    Ok(match last.as_str() {
        "track" | "t" => Route::Single(EventKind::Track),
        "identify" | "i" => Route::Single(EventKind::Identify),
        "page" | "p" => Route::Single(EventKind::Page),
        "screen" | "s" => Route::Single(EventKind::Screen),
        "group" | "g" => Route::Single(EventKind::Group),
        "alias" | "a" => Route::Single(EventKind::Alias),
        "batch" | "b" | "import" => Route::Batch,
        "records" | "" => Route::ByContent,
        _ => {
            return Err(Rejection::new(
                404,
                "unknown-path",
                format!(
                    "there is no `{last}` here; send to /v1/batch or to one of /v1/track, identify, page, screen, group, alias"
                ),
            ));
        }
    })
}

fn read_body(body: &[u8], route: Route, settings: &Settings, received: &mut Received) -> Result<(), Rejection> {
    let (entries, end) = json::members(body)
        .map_err(|error| Rejection::new(400, "invalid-json", format!("the body is not a JSON object: {error}")))?;
    let (document, rest) = body.split_at(end);
    let is_batch = |(name, _): &Member<'_>| name == "batch";
    let kind = match route {
        Route::Batch => return read_batch(&entries, rest, settings, received),
        Route::ByContent if entries.iter().any(is_batch) => return read_batch(&entries, rest, settings, received),
        Route::ByContent => None,
        Route::Single(kind) => Some(kind),
    };
    let refusal = read_message(document, 0, kind, &Shared::default(), settings, received);
    received.events.extend(refusal);
    set_aside_rest(rest, 1, received);
    Ok(())
}

/// What follows the end of the document was written by somebody, and is not read: it must not be lost without a word.
fn set_aside_rest(rest: &[u8], place: u64, received: &mut Received) {
    if !rest.trim_ascii().is_empty() {
        let message = "bytes follow the end of the JSON document; send one object, and many messages in its `batch`";
        received.rejected.push(Rejected::new(place, "trailing-bytes", message, &String::from_utf8_lossy(rest)));
    }
}

fn read_batch(
    entries: &[Member<'_>],
    rest: &[u8],
    settings: &Settings,
    received: &mut Received,
) -> Result<(), Rejection> {
    let mut batch = Vec::new();
    let mut lists = entries.iter().filter(|(name, _)| name == "batch").peekable();
    if lists.peek().is_none() {
        return Err(Rejection::new(400, "missing-batch", "there is no `batch`; send {\"batch\": [message, …]}"));
    }
    // Somebody who writes the key twice means both.
    for (_, list) in lists {
        batch.extend(json::elements(list).map_err(|error| {
            Rejection::new(
                400,
                "invalid-batch",
                format!("`batch` is not a list ({error}); send {{\"batch\": [message, …]}}"),
            )
        })?);
    }
    let (own, flags) = own_fields(entries, received);
    let own = Object::read(&own).unwrap_or_default();
    let shared = Shared::read(&own, flags);
    if shared.context_bytes.saturating_mul(batch.len()) > MAX_SHARED_BYTES {
        let message = "the batch's `context`, repeated in each message, is too large; send fewer messages at once";
        return Err(Rejection::new(413, "too-large", message));
    }
    received.events.reserve(batch.len());
    // Behind the events, so that a message and what it refuses are not taken for two of one place.
    let mut refusals = Vec::new();
    let messages = batch.len() as u64;
    for (place, message) in (0..).zip(batch) {
        refusals.extend(read_message(message, place, None, &shared, settings, received));
    }
    received.events.extend(refusals);
    set_aside_rest(rest, messages, received);
    Ok(())
}

/// The batch's own fields as the text of an object, and what was odd in them. One that cannot be read is set aside alone.
fn own_fields(entries: &[Member<'_>], received: &mut Received) -> (String, Vec<String>) {
    let mut own = ObjectWriter::beginning_with("", 256);
    let mut flags = Vec::new();
    for (name, value) in
        entries.iter().filter(|(name, _)| matches!(name.as_ref(), "context" | "integrations" | "sentAt"))
    {
        match json::read_as(value, Duplicates::Kept, Numbers::Kept) {
            Ok(document) => {
                own.entry(name, &document.text);
                flags.extend(document.flags.iter().map(|flag| flag.under(name)));
            }
            Err(error) => {
                let message =
                    format!("the batch's `{name}` cannot be read, and its messages are taken without it: {error}");
                received.rejected.push(Rejected::new(0, "unreadable-json", message, &String::from_utf8_lossy(value)));
            }
        }
    }
    (own.finish(), flags)
}

/// One message becomes an event or is set aside. What it refuses is given back where it is set aside, as an event of its own:
/// nobody who refused may be written to because of a mistake elsewhere in the message.
fn read_message(
    bytes: &[u8],
    place: u64,
    kind: Option<EventKind>,
    shared: &Shared<'_>,
    settings: &Settings,
    received: &mut Received,
) -> Option<Event> {
    let (text, flags, outcome) = match json::read_as(bytes, Duplicates::Kept, Numbers::Kept) {
        Ok(document) => {
            let outcome =
                check(bytes.len(), &document, settings).and_then(|()| message::read(&document.text, kind, shared));
            (document.text, document.flags, outcome)
        }
        Err(error) => {
            let problem = message::Problem::new("unreadable-json", format!("the message cannot be read: {error}"));
            (readable_part(bytes), Flags::default(), Err(problem))
        }
    };
    match outcome {
        Ok(mut event) => {
            event.place = Some(place);
            event.flags.splice(..0, flags.iter().map(ToString::to_string).chain(shared.flags.iter().cloned()));
            received.events.push(event);
            None
        }
        Err(problem) => {
            let refusal = message::refusal(&text, kind, shared).map(|event| Event { place: Some(place), ..event });
            let word = if refusal.is_some() { "; the refusal of consent in it was taken" } else { "" };
            let raw = String::from_utf8_lossy(bytes);
            received.rejected.push(Rejected::new(place, problem.code, problem.message + word, &raw));
            refusal
        }
    }
}

/// What of a message is judged before it is looked at.
fn check(size_bytes: usize, document: &Document, settings: &Settings) -> Result<(), message::Problem> {
    if size_bytes > settings.max_message_bytes {
        let limit = settings.max_message_bytes;
        let message = format!("the message has {size_bytes} bytes, at most {limit} are taken");
        return Err(message::Problem::new("too-large", message));
    }
    if document.flags.has(Oddity::TooDeep) {
        let message = format!("lists and objects lie more than {} levels deep in each other", json::MAX_DEPTH);
        return Err(message::Problem::new("too-deep", message));
    }
    Ok(())
}

/// The entries of a message that can be read although others cannot: a refusal may be among them.
fn readable_part(bytes: &[u8]) -> String {
    let mut part = ObjectWriter::beginning_with("", bytes.len());
    for (name, value) in json::members(bytes).map(|(entries, _)| entries).unwrap_or_default() {
        if let Ok(document) = json::read_as(value, Duplicates::Kept, Numbers::Kept) {
            part.entry(&name, &document.text);
        }
    }
    part.finish()
}

#[cfg(test)]
mod tests;
