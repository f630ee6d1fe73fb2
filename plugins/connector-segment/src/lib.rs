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
        let route = route(&request.path)?;
        if !request.complete {
            // A JSON document is read as a whole; the kernel's limit on a body bounds how often this is answered.
            return Ok(Received { resume: request.resume, ..Received::default() });
        }
        let settings: Settings = config::get()?;
        let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
        match std::str::from_utf8(&request.body) {
            Ok(body) => read_body(body, route, &settings, false, &mut received)?,
            // One undecodable message must not fail the others: they are found behind replacement characters.
            Err(_) => read_body(&String::from_utf8_lossy(&request.body), route, &settings, true, &mut received)?,
        }
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

fn read_body(
    body: &str,
    route: Route,
    settings: &Settings,
    lossy: bool,
    received: &mut Received,
) -> Result<(), Rejection> {
    let invalid = |error: serde_json::Error| {
        Rejection::new(400, "invalid-json", format!("the body is not a JSON object: {error}"))
    };
    let shared = Shared::default();
    match route {
        Route::Single(kind) => {
            let raw: Raw<'_> = serde_json::from_str(body).map_err(invalid)?;
            let refusal = read_message(raw, 0, Some(kind), &shared, settings, lossy, received);
            received.events.extend(refusal);
        }
        Route::Batch => read_batch(&Object::read(body).map_err(invalid)?, settings, lossy, received)?,
        Route::ByContent => {
            let object = Object::read(body).map_err(invalid)?;
            if object.get("batch").is_some() {
                read_batch(&object, settings, lossy, received)?;
            } else {
                let raw: Raw<'_> = serde_json::from_str(body).map_err(invalid)?;
                let refusal = read_message(raw, 0, None, &shared, settings, lossy, received);
                received.events.extend(refusal);
            }
        }
    }
    Ok(())
}

fn read_batch(object: &Object<'_>, settings: &Settings, lossy: bool, received: &mut Received) -> Result<(), Rejection> {
    let batch: Vec<Raw<'_>> = match object.get("batch") {
        Some(batch) => serde_json::from_str(batch.get()).map_err(|_| {
            Rejection::new(400, "invalid-batch", "`batch` is not a list; send {\"batch\": [message, …]}")
        })?,
        None => {
            return Err(Rejection::new(400, "missing-batch", "there is no `batch`; send {\"batch\": [message, …]}"));
        }
    };
    let shared = Shared::read(object).map_err(|problem| {
        Rejection::new(400, problem.code, format!("in the batch's own fields: {}", problem.message))
    })?;
    if shared.context_bytes.saturating_mul(batch.len()) > MAX_SHARED_BYTES {
        let message = "the batch's `context`, repeated in each message, is too large; send fewer messages at once";
        return Err(Rejection::new(413, "too-large", message));
    }
    received.events.reserve(batch.len());
    // Behind the events, whose places the kernel counts.
    let mut refusals = Vec::new();
    for (place, raw) in batch.into_iter().enumerate() {
        refusals.extend(read_message(raw, place as u64, None, &shared, settings, lossy, received));
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
    settings: &Settings,
    lossy: bool,
    received: &mut Received,
) -> Option<Event> {
    let text = raw.get();
    let outcome = if text.len() > settings.max_message_bytes {
        Err(message::Problem::new(
            "too-large",
            format!("the message has {} bytes, at most {} are taken", text.len(), settings.max_message_bytes),
        ))
    } else if lossy && text.contains(char::REPLACEMENT_CHARACTER) {
        Err(message::Problem::new("invalid-utf8", "the message is not UTF-8; send JSON in UTF-8"))
    } else {
        message::read(text, kind, shared)
    };
    match outcome {
        Ok(event) => {
            received.events.push(event);
            None
        }
        Err(problem) => {
            let refusal = message::refusal(text, kind, shared);
            let word = if refusal.is_some() { "; the refusal of consent in it was taken" } else { "" };
            received.rejected.push(Rejected::new(place, problem.code, problem.message + word, text));
            refusal
        }
    }
}

#[cfg(test)]
mod tests;
