//! The client routes: what unmodified Segment and RudderStack clients call. Success is exactly 200, after the commit;
//! nothing here ever redirects; every error body carries string `code` and `message`.
//!
//! What the body means is the source's connector's work; this file authenticates, bounds and decompresses.

use std::sync::{Arc, Once};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use kith_model::budget::table;
use kith_model::consent::Giver;
use kith_model::event::EventOrigin;
use kith_model::plugin::SourceRequest;
use kith_pipeline::{Arrival, IntakeReceipt, Kernel, offload};
use serde_json::{Value, json};

use super::browsers;
use super::extract::{BodyLimit, Path, read_body};
use super::intake::{
    PartPlace, TakenBody, count_metrics, counts, gunzip, looks_gzip, own_answer, says_gzip, source_request,
};
use super::reservation::Reservation;
use crate::app::App;
use crate::auth::{self, Caller};
use crate::error::{ApiError, Problem};
use crate::public::{self, ServerEnd};

macro_rules! client_calls {
    ($($name:ident $path:tt;)*) => {
        $(
            /// Take events from a Segment-compatible client. Basic auth with the write key as user, or `writeKey` in the body.
            #[utoipa::path(
                post, path = $path, tag = "ingest", security(("write_key" = ["ingest"])),
                params(("writeKey" = Option<String>, Query, description = "where there is no authorization header, e.g. of a beacon")),
                request_body(
                    description = "JSON, also gzipped, under any content type",
                    content((Object = "application/json"), (Object = "text/plain")),
                ),
                responses(
                    (
                        status = 200, description = "durable: counts and rejected parts, or the connector's own answer",
                        content((TakenBody = "application/json"), (Vec<u8> = "*/*")),
                    ),
                    (status = 400, body = Problem), (status = 401, body = Problem), (status = 413, body = Problem),
                    (status = 429, body = Problem), (status = 503, body = Problem),
                ),
            )]
            pub(crate) async fn $name(State(app): State<Arc<App>>, request: Request) -> Response {
                answer_call(app, ClientCall::Take(origin_of($path)), request).await
            }
        )*

        /// The paths of all client calls.
        const CALL_PATHS: &[&str] = &[$($path),*];
    };
}

client_calls! {
    batch "/v1/batch";
    batch_short "/v1/b";
    import "/v1/import";
    track "/v1/track";
    track_short "/v1/t";
    identify "/v1/identify";
    identify_short "/v1/i";
    page "/v1/page";
    page_short "/v1/p";
    screen "/v1/screen";
    screen_short "/v1/s";
    group "/v1/group";
    group_short "/v1/g";
    alias "/v1/alias";
    alias_short "/v1/a";
    beacon "/beacon/v1/batch";
}

/// The events of a call are as good as seen by whoever sends it, but for those that it calls history.
fn origin_of(path: &str) -> EventOrigin {
    if path == IMPORT_PATH { EventOrigin::Import } else { EventOrigin::Client }
}

/// Where clients send history.
const IMPORT_PATH: &str = "/v1/import";

/// What a browser's client asks for before its first event.
#[utoipa::path(
    get, path = "/v1/projects/{writeKey}/settings", tag = "ingest", params(("writeKey" = String, Path)),
    responses(
        (status = 200, body = Object, description = "Settings in the form of Segment's browser client"),
        (status = 404, body = Problem),
        (status = 503, body = Problem, description = "also where the server is not told its public address"),
    ),
)]
pub(crate) async fn settings(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    reached: Option<Extension<ServerEnd>>,
    Path(write_key): Path<String>,
) -> Result<Response, ApiError> {
    match app.authenticate_sender(&write_key) {
        Ok(caller) if caller.source.is_some() => {}
        Err(error @ (ApiError::Unavailable { .. } | ApiError::Exhausted(_))) => return Err(error),
        Ok(_) | Err(_) => {
            return Ok(browsers::no_project());
        }
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let public = app.config.http.public_url.as_ref();
    let place = public::place(public, reached.map(|Extension(reached)| reached), host);
    let (protocol, host) = place.ok_or_else(unknown_address)?;
    let settings: Value = json!({
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": format!("{host}/v1"),
                "protocol": protocol.as_str(),
                "unbundledIntegrations": [],
                "addBundledMetadata": true,
                "maybeBundledConfigIds": {},
                "versionSettings": { "version": "4.4.7", "componentTypes": ["browser"] },
            },
        },
        "plan": {
            "track": { "__default": { "enabled": true, "integrations": {} } },
            "identify": { "__default": { "enabled": true } },
            "group": { "__default": { "enabled": true } },
        },
        "edgeFunction": {},
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": { "sampleRate": 0 },
        "legacyVideoPluginsEnabled": false,
        "remotePlugins": [],
    });
    Ok((cross_origin(), Json(settings)).into_response())
}

/// What is answered where nobody said under which address browsers reach the server.
fn unknown_address() -> ApiError {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            "a browser's client asked where to send, and the server does not know: start it with --public-url"
        );
    });
    let message =
        "the server was not told under which address browsers reach it; whoever runs it gives it --public-url";
    ApiError::Unavailable { code: "no-public-url", message: message.to_owned(), retry_after_s: 300 }
}

/// Browsers may send from any page: the write key is public there, and no cookie is ever heeded.
pub(super) fn cross_origin() -> [(header::HeaderName, &'static str); 1] {
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")]
}

/// A client call whose path is not spelt as in the list, e.g. with a slash at its end or in capitals; and a browser's
/// question whether it may send. `None` for anything else.
pub(crate) fn as_client_call(method: &Method, path: &str) -> Option<ClientCall> {
    let spelt = path.trim_end_matches('/').to_ascii_lowercase();
    let is_call = CALL_PATHS.contains(&spelt.as_str());
    let is_config = spelt == "/sourceconfig";
    let is_settings = spelt.starts_with("/v1/projects/") && spelt.ends_with("/settings");
    match *method {
        Method::POST if is_call => Some(ClientCall::Take(origin_of(&spelt))),
        Method::OPTIONS if is_call => Some(ClientCall::MaySend("POST")),
        Method::OPTIONS if is_config || is_settings => Some(ClientCall::MaySend("GET")),
        Method::GET if is_config => Some(ClientCall::SourceConfig),
        _ => None,
    }
}

/// What a client asks under one of the client paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCall {
    Take(EventOrigin),
    /// By which method.
    MaySend(&'static str),
    /// RudderStack's configuration.
    SourceConfig,
}

/// Answer a call that [`as_client_call`] recognised.
pub(crate) async fn answer_call(app: Arc<App>, call: ClientCall, request: Request) -> Response {
    match call {
        ClientCall::Take(origin) => (cross_origin(), take(app, origin, request).await).into_response(),
        ClientCall::MaySend(methods) => browsers::may_send(request.headers(), methods),
        ClientCall::SourceConfig => {
            let (parts, _) = request.into_parts();
            browsers::source_config(State(app), parts.headers, parts.uri).await
        }
    }
}

/// Take one client request.
async fn take(app: Arc<App>, origin: EventOrigin, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let gzip = says_gzip(&parts.headers)?;
    let by_header = match presented(&parts.headers, &parts.uri)? {
        Some(text) => Some((write_key_of(&app, &text)?, text)),
        None => None,
    };
    let limit = match by_header {
        Some(_) => BodyLimit { budget: &table::CLIENT_BODY, bytes: app.config.http.max_body_bytes },
        None => BodyLimit::of(&table::STRANGER_BODY),
    };
    refuse_announced(&parts.headers, limit)?;
    let mut memory = match &by_header {
        Some((caller, _)) => Reservation::of_key(&app, &caller.key)?,
        None => Reservation::of_stranger(&app)?,
    };
    let body = read_body(body, limit, &mut memory).await?;
    let (body, _memory) = match (gzip || looks_gzip(&body), &by_header) {
        (false, _) => (body.into(), memory),
        (true, Some(_)) => unzipped(&app, body, memory).await?,
        // Nothing is decompressed for a sender who is not known.
        (true, None) => return Err(COMPRESSED_BY_STRANGER),
    };
    let caller = sender(&app, by_header, &body)?;
    let mut source_request = source_request(&app, &parts.method, &parts.uri, &parts.headers);
    if browsers::key_in_query(&parts.uri).is_some() {
        // No plugin sees a key.
        source_request.query.clear();
    }
    source_request.body = body;
    let receipted = submit(&app, &caller, source_request, origin).await?;
    Ok(match receipted.answer {
        Some(answer) => own_answer(answer, Some(StatusCode::OK)),
        None => Json(counts(&receipted.acceptance, PartPlace::Index)).into_response(),
    })
}

/// Hand a request to the connector of the sender's source.
pub(super) async fn submit(
    app: &Arc<App>,
    caller: &Caller,
    request: SourceRequest,
    origin: EventOrigin,
) -> Result<IntakeReceipt, ApiError> {
    app.insist_on_standing_of_sender(&caller.key)?;
    let source = caller.source.ok_or(NO_WRITE_KEY)?;
    // A write key is public: it stands in the pages of a shop.
    let arrival = Arrival { origin, giver: Giver::RefusesOnly };
    let receipted = Kernel::receive(&app.kernel, caller.workspace, source, request, arrival).await?;
    count_metrics(app, &receipted.acceptance);
    Ok(receipted)
}

/// The key that a request comes with beside its body.
fn presented(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, ApiError> {
    match (auth::presented(headers)?, browsers::key_in_query(uri)) {
        (Some(one), Some(other)) if one != other => Err(ApiError::Unauthenticated {
            message: "the write keys in the authorization header and in the address differ",
        }),
        (one, other) => Ok(one.or(other)),
    }
}

pub(super) const NO_WRITE_KEY: ApiError =
    ApiError::Unauthenticated { message: "send a source's write key, not another kind of key" };

pub(super) fn write_key_of(app: &App, text: &str) -> Result<Caller, ApiError> {
    let caller = app.authenticate_sender(text)?;
    if caller.source.is_some() { Ok(caller) } else { Err(NO_WRITE_KEY) }
}

/// A body that says that it is too large is not begun.
fn refuse_announced(headers: &HeaderMap, limit: BodyLimit) -> Result<(), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit.bytes) { Err(limit.passed()) } else { Ok(()) }
}

const COMPRESSED_BY_STRANGER: ApiError = ApiError::Unauthenticated {
    message: "a compressed body needs the write key in the authorization header (Basic, as user name)",
};

/// A compressed body as the client meant it.
async fn unzipped(app: &App, body: Bytes, mut memory: Reservation) -> Result<(Vec<u8>, Reservation), ApiError> {
    let limit_bytes = app.config.http.max_body_bytes;
    offload::run(move || {
        let compressed = body.len();
        let plain = gunzip(&body, limit_bytes, |bytes| Ok(memory.grow_to(compressed + bytes)?))?;
        Ok((plain, memory))
    })
    .await
}

/// The sender by header, by body, or by both where they agree.
fn sender(app: &App, by_header: Option<(Caller, String)>, body: &[u8]) -> Result<Caller, ApiError> {
    // A body that is no JSON object is the connector's to judge, not a reason to refuse the sender.
    let in_body = kith_json::member(body, "writeKey");
    match (by_header, in_body) {
        (Some((caller, text)), Some(in_body)) if in_body == text => Ok(caller),
        (Some(_), Some(_)) => Err(ApiError::Unauthenticated {
            message: "the write keys in the authorization header and in the body differ",
        }),
        (Some((caller, _)), None) => Ok(caller),
        (None, Some(in_body)) => write_key_of(app, &in_body),
        (None, None) => Err(ApiError::Unauthenticated {
            message: "send the source's write key: Basic auth with the key as user name, or `writeKey` in the body",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_recognised_however_they_are_spelt() {
        for path in ["/v1/batch", "/v1/batch/", "/V1/Batch", "/v1/t//"] {
            assert_eq!(as_client_call(&Method::POST, path), Some(ClientCall::Take(EventOrigin::Client)), "{path}");
        }
        for path in ["/v1/import", "/v1/Import/"] {
            assert_eq!(as_client_call(&Method::POST, path), Some(ClientCall::Take(EventOrigin::Import)), "{path}");
        }
        assert_eq!(as_client_call(&Method::OPTIONS, "/v1/b"), Some(ClientCall::MaySend("POST")));
        assert_eq!(as_client_call(&Method::OPTIONS, "/sourceConfig/"), Some(ClientCall::MaySend("GET")));
        assert_eq!(as_client_call(&Method::GET, "/sourceConfig/"), Some(ClientCall::SourceConfig));
        assert_eq!(as_client_call(&Method::POST, "/sourceConfig"), None);
        assert_eq!(as_client_call(&Method::GET, "/v1/batch"), None);
        assert_eq!(as_client_call(&Method::POST, "/v1/other"), None);
    }
}
