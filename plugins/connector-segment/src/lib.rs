//! The connector `kith/segment`: takes what Segment's and RudderStack's own clients send over HTTP.
//!
//! Responsible for paths, batches and which message is set aside; `message` turns one message into an event, `json` reads JSON without
//! taking it apart. Leaves authentication, decompression, de-duplication, the clock's correction and the answer to the kernel.

use kith_plugin_sdk::{Connector, Event, EventKind, Received, Rejected, Rejection, Request, config, export};
use serde::Deserialize;

use crate::json::{Object, Raw};
use crate::message::Shared;

mod consent;
mod json;
mod message;

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
        let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
        let batch = request.resume.as_deref().and_then(|batch| std::str::from_utf8(batch).ok()).unwrap_or("{}");
        // One undecodable message must not fail the others: they are found behind replacement characters.
        let lossy = std::str::from_utf8(&request.body).is_err();
        let body = String::from_utf8_lossy(&request.body);
        let reading = Reading { settings: &settings, body: &body, lossy };
        read_body(&reading, route, batch, &mut received)?;
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
    body: &'b str,
    /// Bytes that are no UTF-8 were replaced.
    lossy: bool,
}

impl Reading<'_> {
    /// The event at the place and with the text that its message has in the body.
    fn at(&self, event: Event, place: u64, text: &str) -> Event {
        let from = (text.as_ptr() as usize).checked_sub(self.body.as_ptr() as usize);
        let span = from.map(|from| from..from + text.len()).filter(|span| !self.lossy && span.end <= self.body.len());
        event.at(place, span)
    }
}

/// `batch` holds what the batch of a message that was set aside said for all of its messages.
fn read_body(reading: &Reading<'_>, route: Route, batch: &str, received: &mut Received) -> Result<(), Rejection> {
    let body = reading.body;
    let invalid = |error: serde_json::Error| {
        Rejection::new(400, "invalid-json", format!("the body is not a JSON object: {error}"))
    };
    let batch = Object::read(batch).map_err(invalid)?;
    let shared = Shared::read(&batch).map_err(bad_batch)?;
    match route {
        Route::Single(kind) => {
            let raw: Raw<'_> = serde_json::from_str(body).map_err(invalid)?;
            let refusal = read_message(raw, 0, Some(kind), &shared, reading, received);
            received.events.extend(refusal);
        }
        Route::Batch => read_batch(&Object::read(body).map_err(invalid)?, reading, received)?,
        Route::ByContent => {
            let object = Object::read(body).map_err(invalid)?;
            if object.get("batch").is_some() {
                read_batch(&object, reading, received)?;
            } else {
                let raw: Raw<'_> = serde_json::from_str(body).map_err(invalid)?;
                let refusal = read_message(raw, 0, None, &shared, reading, received);
                received.events.extend(refusal);
            }
        }
    }
    Ok(())
}

fn bad_batch(problem: message::Problem) -> Rejection {
    Rejection::new(400, problem.code, format!("in the batch's own fields: {}", problem.message))
}

/// What a batch says for all of its messages, as it says it: a message that is set aside is read with it when it comes again.
fn said_for_all(object: &Object<'_>) -> Vec<u8> {
    let said = object.all().filter(|(key, _)| matches!(*key, "context" | "integrations" | "sentAt"));
    let said: Vec<String> = said.map(|(key, value)| format!("\"{key}\":{}", value.get())).collect();
    format!("{{{}}}", said.join(",")).into_bytes()
}

fn read_batch(object: &Object<'_>, reading: &Reading<'_>, received: &mut Received) -> Result<(), Rejection> {
    let batch: Vec<Raw<'_>> = match object.get("batch") {
        Some(batch) => serde_json::from_str(batch.get()).map_err(|_| {
            Rejection::new(400, "invalid-batch", "`batch` is not a list; send {\"batch\": [message, …]}")
        })?,
        None => {
            return Err(Rejection::new(400, "missing-batch", "there is no `batch`; send {\"batch\": [message, …]}"));
        }
    };
    let shared = Shared::read(object).map_err(bad_batch)?;
    received.resume = Some(said_for_all(object));
    if shared.context_bytes.saturating_mul(batch.len()) > MAX_SHARED_BYTES {
        let message = "the batch's `context`, repeated in each message, is too large; send fewer messages at once";
        return Err(Rejection::new(413, "too-large", message));
    }
    received.events.reserve(batch.len());
    // Behind the events, whose places the kernel counts.
    let mut refusals = Vec::new();
    for (place, raw) in batch.into_iter().enumerate() {
        refusals.extend(read_message(raw, place as u64, None, &shared, reading, received));
    }
    received.events.extend(refusals);
    Ok(())
}

/// One message becomes an event or is set aside. What it refuses is given back where it is set aside, as an event of its own:
/// nobody who refused may be written to because of a mistake elsewhere in the message.
fn read_message(
    raw: Raw<'_>,
    place: u64,
    kind: Option<EventKind>,
    shared: &Shared<'_>,
    reading: &Reading<'_>,
    received: &mut Received,
) -> Option<Event> {
    let text = raw.get();
    let Settings { max_message_bytes } = *reading.settings;
    let outcome = if text.len() > max_message_bytes {
        Err(message::Problem::new(
            "too-large",
            format!("the message has {} bytes, at most {max_message_bytes} are taken", text.len()),
        ))
    } else if reading.lossy && text.contains(char::REPLACEMENT_CHARACTER) {
        Err(message::Problem::new("invalid-utf8", "the message is not UTF-8; send JSON in UTF-8"))
    } else {
        message::read(text, kind, shared)
    };
    match outcome {
        Ok(event) => {
            received.events.push(reading.at(event, place, text));
            None
        }
        Err(problem) => {
            let refusal = message::refusal(text, kind, shared);
            let word = if refusal.is_some() { "; the refusal of consent in it was taken" } else { "" };
            received.rejected.push(Rejected::new(place, problem.code, problem.message + word, text));
            refusal.map(|event| event.at(place, None))
        }
    }
}

#[cfg(test)]
mod tests;
