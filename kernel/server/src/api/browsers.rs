//! What browsers ask for beside the client calls: RudderStack's configuration, pixels of pages and mails that can run no
//! script, and whether they may send at all.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kith_model::event::EventOrigin;
use serde_json::{Map, Value, json};

use super::ingest::{self, cross_origin};
use super::intake::source_request;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, FailedAuthentication, Problem};

/// Headers that a browser may be told to send, in bytes of their list.
const MAX_ASKED_HEADERS: usize = 1024;

/// What is allowed where a browser does not say what it wants.
const USUAL_HEADERS: &str = "authorization, content-type, content-encoding, x-retry-count";

/// Answer a browser's question whether it may send. Every header is allowed that it asks for: clients add their own, e.g.
/// RudderStack's `anonymousid`, and what a page could not send to a stranger's server it could not read an answer of either.
pub(super) fn may_send(headers: &HeaderMap, methods: &'static str) -> Response {
    let is_list = |asked: &&HeaderValue| {
        let is_of_list = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(byte);
        asked.len() <= MAX_ASKED_HEADERS && asked.as_bytes().iter().all(is_of_list)
    };
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(is_list).cloned();
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods)),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(HeaderValue::from_static(USUAL_HEADERS))),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
        // A cache must not give the answer to one list for another one.
        (header::VARY, HeaderValue::from_static("access-control-request-headers")),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

/// The parameters of a query, each as it was written last.
fn parameters(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// The write key in a query. Beacons and pixels have no headers to put it in, and it is public anyway.
pub(super) fn key_in_query(uri: &Uri) -> Option<String> {
    uri.query()?;
    let is_key = |(name, _): &(String, String)| name.eq_ignore_ascii_case("writeKey");
    parameters(uri).into_iter().rfind(is_key).map(|(_, key)| key)
}

/// What RudderStack's browser client asks for before its first event: which destinations it has to load itself, which are none.
#[utoipa::path(
    get, path = "/sourceConfig", tag = "ingest", security(("write_key" = ["ingest"])),
    params(("writeKey" = Option<String>, Query, description = "where there is no authorization header")),
    responses(
        (status = 200, body = Object, description = "Configuration in the form of RudderStack's browser client"),
        (status = 401, body = Problem), (status = 503, body = Problem),
    ),
)]
pub(crate) async fn source_config(State(app): State<Arc<App>>, headers: HeaderMap, uri: Uri) -> Response {
    (cross_origin(), configuration(&app, &headers, &uri)).into_response()
}

fn configuration(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Json<Value>, ApiError> {
    let key = auth::presented(headers)?.or_else(|| key_in_query(uri)).ok_or(ingest::NO_WRITE_KEY)?;
    let caller = ingest::write_key_of(app, &key)?;
    let tables = app.catalogue.workspace(caller.workspace)?;
    let row = caller.source.and_then(|source| tables.installations.get(&source)).ok_or(ingest::NO_WRITE_KEY)?;
    let disabled = json!({ "enabled": false });
    Ok(Json(json!({
        "source": {
            "id": caller.key.as_str(),
            "name": row.name.as_str(),
            "writeKey": key,
            "enabled": true,
            "workspaceId": tables.row.name.as_str(),
            "updatedAt": row.updated_at.to_string(),
            "config": { "statsCollection": { "errors": disabled, "metrics": disabled } },
            "sourceDefinition": { "name": "Javascript", "category": null },
            "connections": [],
            "destinations": [],
            "dataplanes": {},
        },
        "updatedAt": row.updated_at.to_string(),
    })))
}

/// A transparent picture of one pixel.
const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Take a call of RudderStack's pixel: what a message would hold as parameters, e.g. `userId`, `event`, `properties.price`.
/// Without a `messageId` each time that the picture is fetched is an event.
#[utoipa::path(
    get, path = "/pixel/v1/{call}", tag = "ingest", security(("write_key" = ["ingest"])),
    params(
        ("call" = String, Path, pattern = "^(track|page|identify|screen|group|alias)$", description = "`track`, `page`, `identify`, `screen`, `group` or `alias`"),
        ("writeKey" = Option<String>, Query),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/gif", description = "a transparent pixel, once it is durable"),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub(crate) async fn pixel(State(app): State<Arc<App>>, headers: HeaderMap, uri: Uri) -> Result<Response, ApiError> {
    let message = message(&parameters(&uri));
    take_pixel(app, &headers, &uri, message).await
}

/// Take a call of Segment's pixel: the message with its `writeKey` as base64 of JSON.
#[utoipa::path(
    get, path = "/v1/pixel/{call}", tag = "ingest", security(("write_key" = ["ingest"])),
    params(
        ("call" = String, Path, pattern = "^(track|page|identify|screen|group|alias)$", description = "`track`, `page`, `identify`, `screen`, `group` or `alias`"),
        ("data" = Option<String>, Query, description = "base64 of the message as JSON, its `writeKey` included"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/gif", description = "a transparent pixel, once it is durable"),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub(crate) async fn pixel_of_data(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let found = parameters(&uri).into_iter().rfind(|(name, _)| name == "data");
    let message = match found {
        // Who sends it stands in it.
        None => Map::new(),
        Some((_, text)) => match decoded(&text) {
            Some(message) => message,
            // Nobody who has not said who he is learns what is wrong with what he sends.
            None if auth::presented(&headers)?.is_none() && key_in_query(&uri).is_none() => {
                return Err(ingest::NO_WRITE_KEY);
            }
            None => return Err(ApiError::at("?data", "write base64 of a JSON object")),
        },
    };
    take_pixel(app, &headers, &uri, message).await
}

/// Base64 as it stands in addresses: of either alphabet, with its padding or without, a `+` become a blank.
fn decoded(text: &str) -> Option<Map<String, Value>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = text.trim().replace([' ', '-'], "+").replace('_', "/");
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The message that parameters spell, names with dots as objects within each other.
fn message(parameters: &[(String, String)]) -> Map<String, Value> {
    /// What a mail or a page nests is one or two deep.
    const MAX_DEPTH: usize = 8;
    let mut message = Map::new();
    for (name, value) in parameters.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("writeKey")) {
        let parts: Vec<&str> = name.splitn(MAX_DEPTH, '.').collect();
        put(&mut message, &parts, value);
    }
    message
}

/// Put a text below a path; what is no object on the way gives way to one.
fn put(place: &mut Map<String, Value>, path: &[&str], value: &str) {
    match path {
        [] => {}
        [last] => {
            place.insert((*last).to_owned(), Value::String(value.to_owned()));
        }
        [first, rest @ ..] => {
            let mut within = match place.remove(*first) {
                Some(Value::Object(within)) => within,
                _ => Map::new(),
            };
            put(&mut within, rest, value);
            place.insert((*first).to_owned(), Value::Object(within));
        }
    }
}

async fn take_pixel(
    app: Arc<App>,
    headers: &HeaderMap,
    uri: &Uri,
    mut message: Map<String, Value>,
) -> Result<Response, ApiError> {
    let in_message = message.remove("writeKey").and_then(|key| key.as_str().map(str::to_owned));
    let key = auth::presented(headers)?.or_else(|| key_in_query(uri)).or(in_message).ok_or(ingest::NO_WRITE_KEY)?;
    let caller = ingest::write_key_of(&app, &key)?;
    let call = uri.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    if !["track", "page", "identify", "screen", "group", "alias"].contains(&call.as_str()) {
        return Err(ApiError::NoRoute);
    }
    let mut taken = source_request(&app, &Method::POST, uri, headers);
    // The connector is given the call that it stands for.
    (taken.path, taken.query) = (format!("/v1/{call}"), String::new());
    taken.body = Value::Object(message).to_string().into_bytes();
    ingest::submit(&app, &caller, taken, EventOrigin::Client).await?;
    let headers = [(header::CONTENT_TYPE, "image/gif"), (header::CACHE_CONTROL, "no-store")];
    Ok((cross_origin(), headers, PIXEL).into_response())
}

/// An answer to whoever asks with a key that is none, counted as such.
pub(super) fn no_project() -> Response {
    (Extension(FailedAuthentication), ApiError::missing("no such project")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_spell_a_message() {
        let uri: Uri =
            "/pixel/v1/track?writeKey=k&userId=u%201&event=Opened&properties.a.b=1&properties.c=%C3%A9&a=1&a.b=2"
                .parse()
                .unwrap();
        assert_eq!(key_in_query(&uri).as_deref(), Some("k"));
        let message = Value::Object(message(&parameters(&uri)));
        let expected = json!({
            "userId": "u 1", "event": "Opened", "properties": { "a": { "b": "1" }, "c": "é" }, "a": { "b": "2" },
        });
        assert_eq!(message, expected);
    }

    #[test]
    fn data_is_read_in_every_form_of_base64() {
        for (bytes, forms) in [
            (r#"{"a":"?>?>"}"#, ["eyJhIjoiPz4/PiJ9", "eyJhIjoiPz4_PiJ9"]),
            (r#"{"event":"x"}"#, ["eyJldmVudCI6IngifQ==", "eyJldmVudCI6IngifQ"]),
        ] {
            let expected: Map<String, Value> = serde_json::from_str(bytes).unwrap();
            for form in forms {
                assert_eq!(decoded(form), Some(expected.clone()), "{form}");
            }
        }
        for none in ["", "%", "bnVsbA==", "W10="] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }

    #[test]
    fn whatever_header_a_browser_asks_for_is_allowed_within_bounds() {
        let allowed = |asked: &str| {
            let mut headers = HeaderMap::new();
            if !asked.is_empty() {
                headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, asked.parse().unwrap());
            }
            let answer = may_send(&headers, "POST");
            answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap().to_owned()
        };
        for asked in ["anonymousid,authorization,content-type", "x-anything, x-b", "*"] {
            assert_eq!(allowed(asked), asked);
        }
        let long = "x".repeat(MAX_ASKED_HEADERS + 1);
        for bad in ["", "a\"b", "a;b", "a:b", long.as_str()] {
            assert_eq!(allowed(bad), USUAL_HEADERS, "{bad}");
        }
    }
}
