//! The connector `kith/segment`: takes what Segment's and RudderStack's own clients send over HTTP.
//!
//! Responsible for paths, batches and which message is set aside; `message` turns one message into an event, `object` takes the
//! texts of objects apart. Leaves authentication, decompression, de-duplication, the clock's correction and the answer to the kernel.

use kith_plugin_sdk::json::{self, Duplicates, Flags, Member, Numbers, Oddity, Outline};
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

impl Route {
    /// What the path says that a message is.
    fn kind(self) -> Option<EventKind> {
        match self {
            Route::Single(kind) => Some(kind),
            Route::Batch | Route::ByContent => None,
        }
    }
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
    let list = (!matches!(route, Route::Single(_))).then_some(BATCH);
    // Nearly every body that a client wrote is so, and is gone over once.
    if let Ok(text) = std::str::from_utf8(&body)
        && let Some(outline) = Outline::of(text, list)
        && (outline.records().is_some() || !matches!(route, Route::Batch))
    {
        return read_outline(&outline, &body, route, batch, reading, received);
    }
    let (entries, end) = json::members(&body)
        .map_err(|error| Rejection::new(400, "invalid-json", format!("the body is not a JSON object: {error}")))?;
    let (document, rest) = body.split_at(end);
    let is_batch = matches!(route, Route::Batch) || list.is_some_and(|list| entries.iter().any(|(key, _)| key == list));
    if is_batch {
        return read_batch(&entries, rest, reading, received);
    }
    let refusal = with_said(batch, received, |shared, received| {
        read_message(document, 0, route.kind(), shared, reading, received)
    });
    received.events.extend(refusal);
    set_aside_rest(rest, 1, received);
    Ok(())
}

/// The key of the list of messages.
const BATCH: &str = "batch";

/// Call with what the batch of a message that was set aside said for all of its messages.
fn with_said<T>(batch: &[u8], received: &mut Received, call: impl FnOnce(&Shared<'_>, &mut Received) -> T) -> T {
    let said = json::members(batch).map(|(said, _)| said).unwrap_or_default();
    let (own, flags) = own_fields(&said, received);
    let own = Object::read(&own).unwrap_or_default();
    call(&Shared::read(&own, flags), received)
}

/// A body in which nothing is odd.
fn read_outline(
    outline: &Outline<'_>,
    body: &[u8],
    route: Route,
    batch: &[u8],
    reading: &Reading<'_>,
    received: &mut Received,
) -> Result<(), Rejection> {
    let Some(records) = outline.records() else {
        let message = Message { bytes: body, object: Some(Object::of(outline.entries())), ..Message::default() };
        let refusal =
            with_said(batch, received, |shared, received| take(message, route.kind(), shared, reading, received));
        received.events.extend(refusal);
        return Ok(());
    };
    let mut own = ObjectWriter::beginning_with("", 256);
    outline.entries().filter(|(name, _)| SHARED.contains(name)).for_each(|(name, value)| own.entry(name, value));
    let messages = records.iter().map(|record| {
        let object = Some(Object::of(outline.entries_of(record)));
        Message { bytes: &body[record.span()], object, ..Message::default() }
    });
    take_batch((own.finish(), Vec::new()), received, messages.len(), |shared, received| {
        (0..)
            .zip(messages)
            .filter_map(|(place, message)| take(Message { place, ..message }, None, shared, reading, received))
            .collect()
    })
}

/// What follows the end of the document was written by somebody, and is not read: it must not be lost without a word.
fn set_aside_rest(rest: &[u8], place: u64, received: &mut Received) {
    if !rest.trim_ascii().is_empty() {
        let message = "bytes follow the end of the JSON document; send one object, and many messages in its `batch`";
        received.rejected.push(Rejected::new(place, "trailing-bytes", message, &String::from_utf8_lossy(rest)));
    }
}

/// A batch whose parts are read one by one, because something in it is odd.
fn read_batch(
    entries: &[Member<'_>],
    rest: &[u8],
    reading: &Reading<'_>,
    received: &mut Received,
) -> Result<(), Rejection> {
    let mut batch = Vec::new();
    let mut lists = entries.iter().filter(|(name, _)| name == BATCH).peekable();
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
    let own = own_fields(entries, received);
    let messages = batch.len();
    take_batch(own, received, messages, |shared, received| {
        let messages = (0..).zip(batch);
        messages.filter_map(|(place, message)| read_message(message, place, None, shared, reading, received)).collect()
    })?;
    set_aside_rest(rest, messages as u64, received);
    Ok(())
}

/// The messages of a batch, with what it says for all of them: its own fields as the text of an object, and what was odd in them.
/// `take` takes them and gives back what they refuse.
fn take_batch(
    (own, flags): (String, Vec<String>),
    received: &mut Received,
    messages: usize,
    take: impl FnOnce(&Shared<'_>, &mut Received) -> Vec<Event>,
) -> Result<(), Rejection> {
    // A message that is set aside is read with it when it comes again.
    received.resume = Some(own.clone().into_bytes());
    let own = Object::read(&own).unwrap_or_default();
    let shared = Shared::read(&own, flags);
    if shared.context_bytes.saturating_mul(messages) > MAX_SHARED_BYTES {
        let message = "the batch's `context`, repeated in each message, is too large; send fewer messages at once";
        return Err(Rejection::new(413, "too-large", message));
    }
    received.events.reserve(messages);
    // Behind the events, so that a message and what it refuses are not taken for two of one place.
    let refusals = take(&shared, received);
    received.events.extend(refusals);
    Ok(())
}

/// What a batch says for all of its messages.
const SHARED: [&str; 3] = ["context", "integrations", "sentAt"];

/// The batch's own fields as the text of an object, and what was odd in them. One that cannot be read is set aside alone.
fn own_fields(entries: &[Member<'_>], received: &mut Received) -> (String, Vec<String>) {
    let mut own = ObjectWriter::beginning_with("", 256);
    let mut flags = Vec::new();
    for (name, value) in entries.iter().filter(|(name, _)| SHARED.contains(&name.as_ref())) {
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

/// A message on its way to become an event.
#[derive(Default)]
struct Message<'m> {
    /// As it came.
    bytes: &'m [u8],
    /// Its place in the batch.
    place: u64,
    /// What it says, or what of it can be read; `None` for what is no object.
    object: Option<Object<'m>>,
    /// What was odd in it.
    flags: Flags,
    /// Why it cannot be taken, where that is found already.
    problem: Option<message::Problem>,
}

/// A message by itself, whatever it is.
fn read_message(
    bytes: &[u8],
    place: u64,
    kind: Option<EventKind>,
    shared: &Shared<'_>,
    reading: &Reading<'_>,
    received: &mut Received,
) -> Option<Event> {
    let (text, flags, problem) = match json::read_as(bytes, Duplicates::Kept, Numbers::Kept) {
        Ok(document) => {
            let problem = document.flags.has(Oddity::TooDeep).then(too_deep);
            (document.text, document.flags, problem)
        }
        Err(error) => {
            let problem = message::Problem::new("unreadable-json", format!("the message cannot be read: {error}"));
            (readable_part(bytes), Flags::default(), Some(problem))
        }
    };
    let message = Message { bytes, place, object: Object::read(&text).ok(), flags, problem };
    take(message, kind, shared, reading, received)
}

/// One message becomes an event or is set aside. What it refuses is given back where it is set aside, as an event of its own:
/// nobody who refused may be written to because of a mistake elsewhere in the message.
fn take(
    message: Message<'_>,
    kind: Option<EventKind>,
    shared: &Shared<'_>,
    reading: &Reading<'_>,
    received: &mut Received,
) -> Option<Event> {
    let Message { bytes, place, object, flags, problem } = message;
    let found = match (problem.or_else(|| too_large(bytes.len(), reading.settings)), &object) {
        (Some(problem), _) => Err(problem),
        (None, None) => Err(message::Problem::new("not-an-object", "the message is not a JSON object")),
        (None, Some(object)) => message::read(object, kind, shared),
    };
    match found {
        Ok(mut event) => {
            event.flags.splice(..0, flags.iter().map(ToString::to_string).chain(shared.flags.iter().cloned()));
            received.events.push(reading.at(event, place, bytes));
            None
        }
        Err(problem) => {
            let refusal = object.and_then(|object| message::refusal(&object, kind, shared));
            let refusal = refusal.map(|event| event.at(place, None));
            let word = if refusal.is_some() { "; the refusal of consent in it was taken" } else { "" };
            let raw = String::from_utf8_lossy(bytes);
            received.rejected.push(Rejected::new(place, problem.code, problem.message + word, &raw));
            refusal
        }
    }
}

fn too_large(size_bytes: usize, settings: &Settings) -> Option<message::Problem> {
    let limit = settings.max_message_bytes;
    let message = || format!("the message has {size_bytes} bytes, at most {limit} are taken");
    (size_bytes > limit).then(|| message::Problem::new("too-large", message()))
}

fn too_deep() -> message::Problem {
    let message = format!("lists and objects lie more than {} levels deep in each other", json::MAX_DEPTH);
    message::Problem::new("too-deep", message)
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
