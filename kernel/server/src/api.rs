//! The HTTP side: every route in one table, and what surrounds all of them — request ids, figures, panics, and answers for
//! what is no route.
//!
//! What a route does is in its own small file; how errors look is `error.rs`; connections are `serve.rs`.

mod abi;
mod audiences;
mod audit;
mod browsers;
mod callers;
mod catalog;
mod consent;
mod convert;
mod deliveries;
mod dictionary;
mod dry_run;
mod etag;
mod extract;
mod fits;
mod health;
mod hooks;
mod identity;
mod imports;
mod ingest;
pub(crate) mod installations;
mod intake;
mod keys;
mod letters;
pub(crate) mod masks;
pub mod openapi;
mod people;
pub(crate) mod plugins;
mod polls;
mod profiles;
mod provenance;
mod publishers;
mod quality;
mod records;
mod reservation;
mod rules;
pub(crate) mod sensitive;
mod signatures;
mod suppressions;
mod tracking;
mod unread;
mod view;
mod words;
mod workspace;
mod workspaces;

#[cfg(test)]
pub(crate) mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::callers::{InVain, Peer, refusal_delay};
pub use self::intake::is_hidden_header;
use crate::app::App;
use crate::auth::hex;
use crate::error::{ApiError, REQUEST_ID, RequestIds};
use crate::processor;

/// What senders call.
fn intake_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(ingest::batch))
        .routes(routes!(ingest::batch_short))
        .routes(routes!(ingest::import))
        .routes(routes!(ingest::track))
        .routes(routes!(ingest::track_short))
        .routes(routes!(ingest::identify))
        .routes(routes!(ingest::identify_short))
        .routes(routes!(ingest::page))
        .routes(routes!(ingest::page_short))
        .routes(routes!(ingest::screen))
        .routes(routes!(ingest::screen_short))
        .routes(routes!(ingest::group))
        .routes(routes!(ingest::group_short))
        .routes(routes!(ingest::alias))
        .routes(routes!(ingest::alias_short))
        .routes(routes!(ingest::beacon))
        .routes(routes!(ingest::settings))
        .routes(routes!(browsers::source_config))
        .routes(routes!(browsers::pixel))
        .routes(routes!(browsers::pixel_of_data))
        .routes(routes!(hooks::hook))
        .routes(routes!(hooks::callback))
        .routes(routes!(records::receive))
        .routes(routes!(imports::read))
}

/// With what the server's host calls.
fn host_routes(router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    router
        .routes(routes!(workspaces::create, workspaces::list))
        .routes(routes!(workspaces::read, workspaces::change, workspaces::remove))
        .routes(routes!(audit::of_host))
        .routes(routes!(openapi::describe))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::figures))
}

/// These, and those of plugins, who signs them, and where they are at work.
fn with_plugin_routes(routes: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    routes
        .routes(routes!(plugins::upload, plugins::list))
        .routes(routes!(plugins::read))
        .routes(routes!(plugins::remove))
        .routes(routes!(plugins::yank))
        .routes(routes!(plugins::unyank))
        .routes(routes!(plugins::written))
        .routes(routes!(plugins::values))
        .routes(routes!(plugins::events))
        .routes(routes!(plugins::ranges))
        .routes(routes!(plugins::undo, plugins::cancel_undo))
        .routes(routes!(abi::abi))
        .routes(routes!(signatures::read, signatures::replace))
        .routes(routes!(publishers::list))
        .routes(routes!(publishers::read, publishers::replace, publishers::remove))
        .routes(routes!(publishers::add_key))
        .routes(routes!(publishers::revoke_key))
        .routes(routes!(publishers::host::list))
        .routes(routes!(publishers::host::read, publishers::host::replace, publishers::host::remove))
        .routes(routes!(publishers::host::add_key))
        .routes(routes!(publishers::host::revoke_key))
        .routes(routes!(installations::create, installations::list))
        .routes(routes!(installations::read, installations::change, installations::remove))
        .routes(routes!(installations::policy))
        .routes(routes!(installations::usage))
        .routes(routes!(installations::logs))
        .routes(routes!(installations::kv, installations::clear_kv))
        .routes(routes!(installations::read_shadow, installations::put_shadow, installations::end_shadow))
        .routes(routes!(installations::begin_backtest, installations::read_backtest, installations::end_backtest))
        .routes(routes!(fits::begin))
        .routes(routes!(fits::list))
        .routes(routes!(fits::put_in_use))
        .routes(routes!(polls::list))
        .routes(routes!(polls::begin))
}

/// Every route there is.
fn routes() -> OpenApiRouter<Arc<App>> {
    with_plugin_routes(host_routes(intake_routes()))
        .routes(routes!(profiles::find))
        .routes(routes!(people::export))
        .routes(routes!(profiles::read))
        .routes(routes!(profiles::events))
        .routes(routes!(provenance::provenance))
        .routes(routes!(identity::read, identity::replace))
        .routes(routes!(identity::begin_dry_run))
        .routes(routes!(identity::dry_run))
        .routes(routes!(identity::rule_change))
        .routes(routes!(identity::undo))
        .routes(routes!(identity::splits, identity::unsplit))
        .routes(routes!(identity::not_followed))
        .routes(routes!(identity::merges, identity::merge))
        .routes(routes!(identity::split))
        .routes(routes!(identity::why))
        .routes(routes!(consent::read))
        .routes(routes!(audiences::create, audiences::list))
        .routes(routes!(audiences::count))
        .routes(routes!(audiences::preview))
        .routes(routes!(audiences::read, audiences::change, audiences::remove))
        .routes(routes!(audiences::members))
        .routes(routes!(people::export_members))
        .routes(routes!(audiences::explain))
        .routes(routes!(catalog::list))
        .routes(routes!(quality::list))
        .routes(routes!(quality::read))
        .routes(routes!(tracking::suggest))
        .routes(routes!(tracking::list))
        .routes(routes!(tracking::read, tracking::replace, tracking::change, tracking::remove))
        .routes(routes!(tracking::check))
        .routes(routes!(dictionary::list))
        .routes(routes!(dictionary::import))
        .routes(routes!(dictionary::read, dictionary::put, dictionary::change, dictionary::remove))
        .routes(routes!(rules::read, rules::replace))
        .routes(routes!(rules::try_out))
        .routes(routes!(deliveries::list))
        .routes(routes!(letters::list))
        .routes(routes!(letters::counts))
        .routes(routes!(letters::replay_many))
        .routes(routes!(letters::dismiss_many))
        .routes(routes!(letters::read, letters::edit, letters::dismiss))
        .routes(routes!(letters::replay))
        .routes(routes!(suppressions::add, suppressions::list))
        .routes(routes!(suppressions::check))
        .routes(routes!(suppressions::remove))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(workspace::read))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
}

/// The whole HTTP side over a running server.
pub fn router(app: Arc<App>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .method_not_allowed_fallback(other_method)
        .fallback(no_route)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), callers::by_address))
        .layer(from_fn(one_host))
        .layer(from_fn_with_state(Arc::clone(&app), unread::read_first))
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

/// Insist on exactly one `Host`: of two, a proxy before this server may have judged the other one.
async fn one_host(request: Request, next: Next) -> Response {
    let named = request.headers().get_all(header::HOST).iter().count();
    if named == 1 || (named == 0 && request.version() < Version::HTTP_11) {
        return next.run(request).await;
    }
    let message = format!("the request has {named} `host` headers; send exactly one");
    ApiError::BadInput { code: "bad-host", message, mistakes: Vec::new() }.into_response()
}

/// A path that is in no route: a client call that is spelt differently, or nothing.
async fn no_route(State(app): State<Arc<App>>, request: Request) -> Response {
    match ingest::as_client_call(request.method(), request.uri().path()) {
        Some(call) => ingest::answer_call(app, call, request).await,
        None if hooks::is_address(request.uri().path()) => hooks::answer(app, request).await,
        None => ApiError::NoRoute.into_response(),
    }
}

/// A route that has other methods: a browser's question whether it may send, or a mistake.
async fn other_method(State(app): State<Arc<App>>, request: Request) -> Response {
    match ingest::as_client_call(request.method(), request.uri().path()) {
        Some(call) => ingest::answer_call(app, call, request).await,
        None if hooks::is_address(request.uri().path()) => hooks::answer(app, request).await,
        None => ApiError::MethodNotAllowed.into_response(),
    }
}

/// A panic in a handler ends the request, not the process.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    ApiError::internal("handling a request: it panicked", text).into_response()
}

/// A method's name is the caller's to choose; the log shows so many characters of it.
const MAX_SHOWN_METHOD: usize = 16;

/// The header that carries a request's id in both directions.
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Give the request an id, and count and time its answer.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (id, ids) = ids_of(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let shown: String = method.as_str().chars().take(MAX_SHOWN_METHOD).collect();
    let span =
        tracing::info_span!("request", request_id = ids.own, client_request_id = ids.client, method = shown, route);
    let started = Instant::now();
    let mut response = REQUEST_ID.scope(ids, processor::counted(next.run(request))).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), started.elapsed());
    app.metrics.answered(&method, &route, status, took);
    span.in_scope(|| tracing::debug!(status, took_ms = took.as_secs_f64() * 1_000.0, "answered"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), id);
    }
    response
}

/// Visible characters of a caller's id that are kept.
const MAX_CLIENT_ID: usize = 64;

/// The id that comes back to the caller, its own where that is a plain one; and the ids under which the log and the audit log
/// know the request. A caller could give one id to many requests, so the server's own is always there.
fn ids_of(request: &Request) -> (String, RequestIds) {
    let given = request.headers().get(&X_REQUEST_ID);
    let visible = given.map(|id| id.as_bytes().iter().filter(|byte| byte.is_ascii_graphic()).take(MAX_CLIENT_ID));
    let client: Option<String> = visible.map(|bytes| bytes.map(|byte| char::from(*byte)).collect());
    let client = client.filter(|id: &String| !id.is_empty());
    let mut bits = [0_u8; 8];
    let own = match getrandom::fill(&mut bits) {
        Ok(()) => hex(&bits),
        Err(_) => "unnumbered".to_owned(),
    };
    let is_plain = |id: &&str| {
        (1..=MAX_CLIENT_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let plain = given.and_then(|id| id.to_str().ok()).filter(is_plain);
    let shown = plain.map_or_else(|| own.clone(), str::to_owned);
    (shown.clone(), RequestIds { shown, own, client })
}
