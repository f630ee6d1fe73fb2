//! What an answer means: a document to read, a reason to ask again later, or one to give up until somebody changes something.

use std::borrow::Cow;

use kith_plugin_sdk::http::{Error, Response};
use kith_plugin_sdk::{PollAnswer, PollFailure, Timestamp, json};

use crate::{address, path};

/// How much of what the other side said goes into a message for a person.
const MAX_QUOTED_CHARS: usize = 200;

/// The answer with a status of success, whole.
pub(crate) fn success(answer: PollAnswer, now: Timestamp) -> Result<Response, PollFailure> {
    let response = answer.result.map_err(no_answer)?;
    let status = response.status;
    let permanent = |meaning: &str| PollFailure::Permanent(describe(&response, meaning));
    let later = |meaning: &str| PollFailure::Later {
        after_seconds: response.retry_after_seconds(now),
        reason: describe(&response, meaning),
    };
    match status {
        200..=299 if answer.truncated => Err(PollFailure::later(
            "the answer broke off, or is larger than the kernel takes; where that stays so, ask for smaller pages (`paging.size`)",
        )),
        200..=299 => Ok(response),
        300..=399 => {
            let to =
                response.header("location").map(|to| format!(" (to {:.200})", address::shown(to))).unwrap_or_default();
            Err(permanent(&format!("redirects are not followed{to}; set `url` and `path` to the final address")))
        }
        401 => Err(permanent(
            "the API does not know the secret; set it anew with `kith plugin change NAME --secret token=…`",
        )),
        403 => Err(permanent("the API knows the secret and refuses this; give it the right to read there")),
        404 => Err(permanent("there is nothing at this address; correct `url` or `path`")),
        410 => Err(permanent("what was at this address is gone for good; the API's pages say what took its place")),
        408 | 425 | 429 => Err(later("the API asks to come again later")),
        500..=599 => Err(later("the API fails by itself")),
        400..=499 => Err(permanent(
            "the API does not take the request; look at `query` and at the parameters of `paging` and `since`",
        )),
        _ => Err(later("that is not the status of an answer")),
    }
}

/// What to do where a next page expires again and again.
pub(crate) fn expired(response: &Response) -> PollFailure {
    PollFailure::Permanent(describe(
        response,
        "the next page has expired, and reading from the first page again came no further than before: the API does not know its own \
         links or cursors for as long as the pages take; ask for larger pages (`paging.size`), and read from the start with \
         `kith plugin poll NAME --from-start`",
    ))
}

fn no_answer(error: Error) -> PollFailure {
    match error {
        Error::TooLarge(_) => PollFailure::permanent(format!("{error}; ask for smaller pages (`paging.size`)")),
        Error::Denied(_) => PollFailure::permanent(format!(
            "{error}; grant the host with `kith plugin change NAME --grant-http HOST`, or correct `url`"
        )),
        Error::Timeout(_) | Error::Connection(_) => PollFailure::later(error.to_string()),
    }
}

/// The document of an answer. One that is no JSON, or ends too early, may be whole the next time: a proxy's page, a broken
/// connection.
pub(crate) fn document(response: &Response) -> Result<Cow<'_, [u8]>, PollFailure> {
    let body = json::decoded(&response.body);
    let is_json = matches!(body.first(), Some(b'{' | b'['));
    if !is_json {
        let content_type = response.header("content-type").unwrap_or("no content type");
        return Err(PollFailure::later(describe(
            response,
            &format!(
                "the answer ({content_type:.100}) is no JSON object or list; where that stays so, correct `url` or `path`"
            ),
        )));
    }
    // As a member of an object, whose reader insists on an end of both, and on nothing behind it.
    let whole = [&b"{\"\":"[..], body.as_ref(), b"}"].concat();
    match json::members(&whole) {
        Ok((members, end)) if members.len() == 1 && end == whole.len() => Ok(body),
        _ => Err(PollFailure::later(format!(
            "the answer is no whole JSON document: it ends after {} bytes, or something follows its end",
            response.body.len()
        ))),
    }
}

/// The records of a document, each as its bytes, and the list that they stand in; or why it has none. `null` is an empty list.
pub(crate) fn records<'d>(document: &'d [u8], path: &str) -> Result<(Vec<&'d [u8]>, &'d [u8]), String> {
    let list = path::find(document, path);
    let reason = match list {
        Some(b"null") => return Ok((Vec::new(), b"null")),
        Some(list) => match json::elements(list) {
            Ok(records) => return Ok((records, list)),
            Err(_) if path.is_empty() => "is an object and no list; set `records` to the path of the list".to_owned(),
            Err(_) => format!("has no list at `{path}` (`records`)"),
        },
        None => format!("has nothing at `{path}` (`records`)"),
    };
    let lists = path::keys(document, |value| value.starts_with(b"["));
    let hint = match lists.as_str() {
        "" => format!("it begins with {}", quoted(&String::from_utf8_lossy(document))),
        lists => format!("there are lists at {lists}"),
    };
    Err(format!("the answer {reason}; {hint}"))
}

/// Status, what it means, and the beginning of what the other side said. Who does not let one in is not quoted: some APIs repeat the
/// key there that they were sent.
fn describe(response: &Response, meaning: &str) -> String {
    let status = response.status;
    let said = if matches!(status, 401 | 403) { String::new() } else { quoted(&response.text()) };
    if said.is_empty() { format!("status {status}: {meaning}") } else { format!("status {status}: {meaning}: {said}") }
}

fn quoted(text: &str) -> String {
    text.trim().chars().take(MAX_QUOTED_CHARS).map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}
