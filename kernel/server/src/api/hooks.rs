//! Addresses for callers who can set no header: a provider's webhook is told one address and calls it as it likes. The key in
//! the path is a write key of the source, or a callback key of the channel, made with `kith key create --source NAME`; another
//! one takes its place when it is revoked.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use kith_model::budget::table;
use kith_model::event::EventOrigin;
use kith_model::plugin::{Callback, SourceRequest};

use super::browsers;
use super::extract::{BodyLimit, read_body};
use super::ingest::{self, cross_origin};
use super::intake::{PartPlace, TakenBody, count_metrics, counts, own_answer, source_request};
use super::reservation::Reservation;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, FailedAuthentication, Problem};

macro_rules! addresses {
    ($($name:ident $path:tt $what:literal;)*) => {
        $(
            #[doc = $what]
            #[utoipa::path(
                post, path = $path, tag = "ingest",
                params(("key" = String, Path, description = "a key of the source or channel, which is the credential")),
                request_body(content = Vec<u8>, description = "whatever the other side sends", content_type = "application/octet-stream"),
                responses(
                    (
                        status = 200, description = "durable: counts, or the connector's own answer",
                        content((TakenBody = "application/json"), (Vec<u8> = "*/*")),
                    ),
                    (status = "default", description = "the connector's own answer", content((Vec<u8> = "*/*"))),
                    (status = 400, body = Problem), (status = 401, body = Problem, description = "it is not signed as it has to be"),
                    (status = 404, body = Problem), (status = 413, body = Problem),
                    (status = 503, body = Problem),
                ),
            )]
            pub(crate) async fn $name(State(app): State<Arc<App>>, request: Request) -> Response {
                answer(app, request).await
            }
        )*
    };
}

addresses! {
    hook "/hooks/{key}" "Hand a call to a source's connector. What follows the key is the path that it is given; any method will do.";
    callback "/callbacks/{key}" "Hand a receiver's report on messages to a channel's plugin: each fact becomes an event of the person.";
}

/// Whether a path is such an address, with or without more behind the key.
pub(crate) fn is_address(path: &str) -> bool {
    address(path).is_some()
}

/// The kind of an address, its key, and the path that the plugin is given.
fn address(path: &str) -> Option<(Kind, &str, &str)> {
    let hook = path.strip_prefix("/hooks/").map(|rest| (Kind::Hook, rest));
    let (kind, rest) = hook.or_else(|| path.strip_prefix("/callbacks/").map(|rest| (Kind::Callback, rest)))?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (key, path) = rest.split_at(end);
    (!key.is_empty()).then_some((kind, key, if path.is_empty() { "/" } else { path }))
}

/// Who is at the other end of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A source's connector.
    Hook,
    /// A channel's plugin.
    Callback,
}

/// Who is called under a key in an address; a key that is none is no address.
fn caller(app: &App, key: &str) -> Result<Caller, ApiError> {
    match ingest::write_key_of(app, key) {
        Err(ApiError::Unauthenticated { .. }) => Err(ApiError::missing("nothing is called under this address")),
        other => other,
    }
}

/// The methods that a browser is told of; whoever is none may use any.
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";

/// What an address takes, for whoever asks. The router knows of one method, for the others come here by its way out.
fn allow() -> [(HeaderName, HeaderValue); 1] {
    [(header::ALLOW, HeaderValue::from_static(METHODS))]
}

/// Answer a call of an address, by whatever method. A page may call a source's; a browser's question whether it may is no call.
pub(crate) async fn answer(app: Arc<App>, request: Request) -> Response {
    match address(request.uri().path()) {
        Some((Kind::Hook, ..)) if request.method() == Method::OPTIONS => {
            (allow(), browsers::may_send(request.headers(), METHODS)).into_response()
        }
        Some((Kind::Hook, ..)) => (cross_origin(), take(app, request).await).into_response(),
        Some((Kind::Callback, ..)) if request.method() == Method::OPTIONS => {
            (allow(), ApiError::MethodNotAllowed).into_response()
        }
        Some((Kind::Callback, ..)) => take(app, request).await.into_response(),
        None => ApiError::NoRoute.into_response(),
    }
}

async fn take(app: Arc<App>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (kind, key, path) = address(parts.uri.path()).ok_or(ApiError::NoRoute)?;
    let caller = match caller(&app, key) {
        Ok(caller) => caller,
        // Whoever tries addresses tries keys.
        Err(error @ ApiError::NotFound { .. }) => {
            return Ok((axum::Extension(FailedAuthentication), error).into_response());
        }
        Err(error) => return Err(error),
    };
    let mut taken = source_request(&app, &parts.method, &parts.uri, &parts.headers);
    // No plugin sees a key.
    taken.path = path.to_owned();
    let _memory = fill(&app, &caller, body, &mut taken).await?;
    if kind == Kind::Callback {
        let channel = caller.source.ok_or(ingest::NO_WRITE_KEY)?;
        let SourceRequest { method, path, query, headers, body, received_at, .. } = taken;
        let callback = Callback { method, path, query, headers, body, received_at };
        let acceptance = app.kernel.callback(caller.workspace, channel, callback).await?;
        count_metrics(&app, &acceptance);
        return Ok(Json(counts(&acceptance, PartPlace::Index)).into_response());
    }
    let receipted = ingest::submit(&app, &caller, taken, EventOrigin::Client).await?;
    Ok(match receipted.answer {
        Some(answer) => own_answer(answer, None),
        None => Json(counts(&receipted.acceptance, PartPlace::Index)).into_response(),
    })
}

/// Read the body into the request; the memory that is set aside for it.
async fn fill(app: &App, caller: &Caller, body: Body, taken: &mut SourceRequest) -> Result<Reservation, ApiError> {
    let limit = BodyLimit { budget: &table::CLIENT_BODY, bytes: app.config.http.max_body_bytes };
    let mut memory = Reservation::of_key(app, &caller.key)?;
    taken.body = read_body(body, limit, &mut memory).await?.into();
    app.insist_on_standing_of_sender(&caller.key)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_key_and_the_path_behind_it() {
        assert_eq!(address("/hooks/k"), Some((Kind::Hook, "k", "/")));
        assert_eq!(address("/hooks/k/v1/track"), Some((Kind::Hook, "k", "/v1/track")));
        assert_eq!(address("/callbacks/k/"), Some((Kind::Callback, "k", "/")));
        for none in ["/hooks/", "/hooks", "/callbacks//x", "/hook/k", "/v1/hooks/k"] {
            assert_eq!(address(none), None, "{none}");
        }
    }
}
