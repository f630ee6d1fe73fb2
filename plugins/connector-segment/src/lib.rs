//! The connector `kith/segment`: takes what Segment's and RudderStack's own clients send over HTTP.
//!
//! Responsible for paths, batches and which message is set aside; `message` turns one message into an event, `object` takes the
//! texts of objects apart. Leaves authentication, decompression, de-duplication, the clock's correction and the answer to the kernel.

use kith_plugin_sdk::json::{self, Document, Duplicates, Flags, Member, Numbers, Oddity};
use kith_plugin_sdk::webhook::{self, Call};
use kith_plugin_sdk::{Connector, Event, EventKind, Problem, Received, Rejected, Rejection, Request, config, export};
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
    /// How whoever sends signs; without it nothing is signed.
    signature: Option<webhook::Signature>,
}

/// The name of the secret in the manifest.
const SECRET: &str = "signing";

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
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let settings: Settings = config::read(config)?;
        let problems = settings.signature.iter().flat_map(|signature| signature.problems("signature"));
        let problems: Vec<Problem> = problems.collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn receive(request: Request) -> Result<Received, Rejection> {
        // A record that was set aside comes without its batch.
        let route = match (route(&request.path)?, request.is_replay()) {
            (Route::Batch, true) => Route::ByContent,
            (route, _) => route,
        };
        if !request.complete {
            // A JSON document is read as a whole; the kernel's limit on a body bounds how often this is answered.
            return Ok(Received { resume: request.resume, ..Received::default() });
        }
        let settings: Settings = config::get()?;
        // Before anything of it is looked at. What comes again was checked when it came.
        let signature = settings.signature.as_ref().filter(|_| !request.comes_again());
        let verified = signature.map(|signature| signature.verify(SECRET, &Call::from(&request))).transpose()?;
        let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
        let batch = request.resume.as_deref().unwrap_or(b"{}");
        let reading = Reading { settings: &settings, body: &request.body };
        read_body(&reading, route, batch, &mut received)?;
        verified.iter().for_each(|verified| verified.name(&mut received.events));
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

/// A body on its way through.
struct Reading<'b> {
    settings: &'b Settings,
    body: &'b [u8],
}

impl Reading<'_> {
    /// The event at the place and with the bytes that its message has in the body. A body in UTF-16 has none of them.
    fn at(&self, event: Event, place: u64, message: &[u8]) -> Event {
        let from = (message.as_ptr() as usize).checked_sub(self.body.as_ptr() as usize);
        let span = from.map(|from| from..from + message.len()).filter(|span| span.end <= self.body.len());
        event.at(place, span)
    }
}

/// `batch` holds what the batch of a message that was set aside said for all of its messages.
fn read_body(reading: &Reading<'_>, route: Route, batch: &[u8], received: &mut Received) -> Result<(), Rejection> {
    let body = json::decoded(reading.body);
    let (entries, end) = json::members(&body)
        .map_err(|error| Rejection::new(400, "invalid-json", format!("the body is not a JSON object: {error}")))?;
    let (document, rest) = body.split_at(end);
    let is_batch = |(name, _): &Member<'_>| name == "batch";
    let kind = match route {
        Route::Batch => return read_batch(&entries, rest, reading, received),
        Route::ByContent if entries.iter().any(is_batch) => return read_batch(&entries, rest, reading, received),
        Route::ByContent => None,
        Route::Single(kind) => Some(kind),
    };
    let said = json::members(batch).map(|(said, _)| said).unwrap_or_default();
    let (own, flags) = own_fields(&said, received);
    let own = Object::read(&own).unwrap_or_default();
    let refusal = read_message(document, 0, kind, &Shared::read(&own, flags), reading, received);
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
    reading: &Reading<'_>,
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
    // A message that is set aside is read with it when it comes again.
    received.resume = Some(own.clone().into_bytes());
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
        refusals.extend(read_message(message, place, None, &shared, reading, received));
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
    reading: &Reading<'_>,
    received: &mut Received,
) -> Option<Event> {
    let (text, flags, outcome) = match json::read_as(bytes, Duplicates::Kept, Numbers::Kept) {
        Ok(document) => {
            let outcome = check(bytes.len(), &document, reading.settings)
                .and_then(|()| message::read(&document.text, kind, shared));
            (document.text, document.flags, outcome)
        }
        Err(error) => {
            let problem = message::Problem::new("unreadable-json", format!("the message cannot be read: {error}"));
            (readable_part(bytes), Flags::default(), Err(problem))
        }
    };
    match outcome {
        Ok(mut event) => {
            event.flags.splice(..0, flags.iter().map(ToString::to_string).chain(shared.flags.iter().cloned()));
            received.events.push(reading.at(event, place, bytes));
            None
        }
        Err(problem) => {
            let refusal = message::refusal(&text, kind, shared).map(|event| event.at(place, None));
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
