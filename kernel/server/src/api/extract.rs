//! What handlers take from a request: the caller with the right that the route needs, JSON bodies, paths and queries, each
//! refusing with a problem document that names the place of the mistake.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use kith_json::Oddity;
use kith_model::budget::{Budget, table};
use kith_model::objects::Objects;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::openapi::queries;
use super::reservation::Reservation;
use super::unread::TooSlow;
use super::words;
use crate::app::App;
use crate::auth::{self, Caller, KeyId, Scope};
use crate::catalogue::Actor;
use crate::error::{ApiError, request_ids};
use crate::processor;

/// A scope as a type, so that a route's signature says what it needs.
pub(crate) trait Right: Send + Sync + 'static {
    const SCOPE: Scope;
    /// Does as well.
    const OR: Option<Scope> = None;
}

/// Seeing the process's figures, which are its host's too.
pub(crate) struct Figures;

impl Right for Figures {
    const SCOPE: Scope = Scope::MetricsRead;
    const OR: Option<Scope> = Some(Scope::WorkspacesAdmin);
}

macro_rules! rights {
    ($($right:ident)*) => {
        /// One type for each scope.
        pub(crate) mod right {
            $(
                pub(crate) struct $right;
                impl super::Right for $right {
                    const SCOPE: crate::auth::Scope = crate::auth::Scope::$right;
                }
            )*
        }
    };
}

rights! { Ingest ProfilesRead DictionaryWrite IdentityWrite PluginsAdmin AudiencesRead AudiencesWrite DeliveriesRead DeliveriesWrite KeysAdmin MetricsRead AuditRead WorkspacesAdmin }

/// A caller who holds the right `R`. Stands before the body among a handler's arguments, so that nobody else's body is read.
pub(crate) struct Authority<R> {
    pub(crate) caller: Caller,
    right: PhantomData<R>,
}

impl<R> Authority<R> {
    /// The caller as the author of a change.
    pub(crate) fn actor(&self) -> Actor {
        let (request_id, client_request_id) = request_ids();
        Actor { key: self.caller.key.clone(), request_id, client_request_id }
    }
}

impl<R: Right> FromRequestParts<Arc<App>> for Authority<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Authority<R>, ApiError> {
        let text = auth::presented(&parts.headers)?
            .ok_or(ApiError::Unauthenticated { message: "send a key: `authorization: Bearer KEY`" })?;
        let caller = match R::SCOPE {
            Scope::Ingest => app.authenticate_sender(&text)?,
            _ => app.authenticate(&text)?,
        };
        if !R::OR.is_some_and(|scope| caller.may(scope)) {
            caller.require(R::SCOPE)?;
        }
        queries::check(parts)?;
        match R::SCOPE {
            // What is sent has budgets of its own.
            Scope::Ingest => {}
            // Whoever takes a key away that asks for too much does not wait behind it.
            Scope::KeysAdmin | Scope::WorkspacesAdmin => app.processor.begin_at_once(caller.workspace),
            _ => app.processor.begin(caller.workspace).await?,
        }
        // The body, which is read later, counts for this key.
        parts.extensions.insert(caller.key.clone());
        Ok(Authority { caller, right: PhantomData })
    }
}

/// That the consequences of a removal were seen.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Confirmation {
    /// The `token` of the answer that named what the removal touches.
    pub(crate) confirm: Option<String>,
}

/// Why a body did not come: it was too slow, or its connection ended.
#[allow(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
pub(crate) fn cut(error: axum::Error) -> ApiError {
    // Each layer that a body passes wraps its error.
    let mut causes = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |cause| cause.source());
    if causes.any(|cause| cause.is::<TooSlow>()) {
        return ApiError::TooSlow;
    }
    ApiError::BadInput {
        code: "body-cut",
        message: "the body ended before its time; send the request again".to_owned(),
        mistakes: Vec::new(),
    }
}

/// How large a body may be, and by which budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit {
    pub(super) budget: &'static Budget,
    pub(super) bytes: usize,
}

impl BodyLimit {
    /// A budget's default.
    pub(super) fn of(budget: &'static Budget) -> BodyLimit {
        BodyLimit { budget, bytes: usize::try_from(budget.default).unwrap_or(usize::MAX) }
    }

    /// The refusal of a larger body.
    pub(super) fn passed(self) -> ApiError {
        ApiError::too_large(self.budget, self.bytes)
    }
}

/// Read a whole body within its limit, setting memory aside for each piece before it is added. What comes after them is
/// `unread.rs`'s part.
pub(super) async fn read_body(
    mut body: Body,
    limit: BodyLimit,
    memory: &mut Reservation,
) -> Result<bytes::Bytes, ApiError> {
    let mut whole = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await.transpose().map_err(cut)? {
        // Trailers say nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        if piece.len() > limit.bytes - whole.len() {
            return Err(limit.passed());
        }
        memory.grow_to(whole.len() + piece.len())?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// A JSON body, of a request or of an answer.
pub(crate) struct Json<T>(pub(crate) T);

/// Parse JSON; a mistake is named by its path. A key that comes twice in an object is one: which of the two is meant nobody can
/// tell, and readers differ in which they take.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if let Ok(read) = kith_json::read(bytes)
        && let Some(twice) = read.flags.iter().find(|flag| flag.oddity == Oddity::DuplicateKey)
    {
        return Err(ApiError::at(twice.path.clone(), "the key stands there twice; leave one"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|error| {
        if !error.inner().is_data() {
            return no_json(bytes, error.inner());
        }
        let message = words::plain(&error.inner().to_string());
        let path = place(&error.path().to_string(), &message);
        ApiError::at(path, message)
    })?;
    reader.end().map_err(|error| no_json(bytes, &error))?;
    Ok(value)
}

/// Of what is no JSON no field can be named; the line tells the place.
fn no_json(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let message = if bytes.is_empty() { "is empty; send JSON".to_owned() } else { format!("is no JSON: {error}") };
    ApiError::at(WHOLE_BODY, message)
}

/// The place of a mistake that is in no field.
const WHOLE_BODY: &str = "body";

/// The field that a mistake is about. Of one that is missing the reader knows only where it would stand.
fn place(path: &str, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    match (path, missing) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => WHOLE_BODY.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    }
}

/// A JSON body of more is read where blocking work is done, and counts like it: the threads that answer everybody are few.
const LARGE_BODY: usize = 64 << 10;

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json<T>, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::UnsupportedMediaType { message: "send JSON with `content-type: application/json`" });
        }
        let key = request.extensions().get::<KeyId>().cloned();
        let mut memory = match &key {
            Some(key) => Reservation::of_key(app, key)?,
            None => Reservation::of_stranger(app)?,
        };
        let bytes = read_body(request.into_body(), BodyLimit::of(&table::JSON_BODY), &mut memory).await?;
        key.iter().try_for_each(|key| app.insist_on_standing(key))?;
        if bytes.len() <= LARGE_BODY {
            return parse(&bytes).map(Json);
        }
        // So does everything that is done with it.
        processor::is_large_from_now_on();
        app.offload(move |_| parse(&bytes)).await.map(Json)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A JSON answer that was written where it was computed: it may be long by its caller's choice.
pub(crate) struct WrittenJson(Vec<u8>);

impl WrittenJson {
    pub(crate) fn of(answer: &impl Serialize) -> Result<WrittenJson, ApiError> {
        serde_json::to_vec(answer).map(WrittenJson).map_err(|error| ApiError::internal("writing an answer", error))
    }
}

impl IntoResponse for WrittenJson {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// The parts of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Path<T>, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(value)| Path(value))
            .map_err(|rejection| ApiError::at("path", rejection.body_text()))
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Query<T>, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, app).await;
        query.map(|axum::extract::Query(value)| Query(value)).map_err(|rejection| {
            let text = rejection.body_text();
            let (path, message) = query_mistake(&text);
            ApiError::at(path, message)
        })
    }
}

/// The place of a mistake in a query, and the mistake.
fn query_mistake(text: &str) -> (String, &str) {
    let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
    match (missing, reason.split_once(": ")) {
        (Some(name), _) => (format!("?{name}"), "is missing; this needs it"),
        (None, Some((name, rest))) if is_name(name) => (format!("?{name}"), words::of_query(rest)),
        _ => ("query".to_owned(), reason),
    }
}

/// Insist that a text is within its budget.
pub(crate) fn check_text(budget: &'static Budget, text: &str) -> Result<(), ApiError> {
    if text.len() as u64 <= budget.default {
        return Ok(());
    }
    Err(budget.exhausted(budget.default, None).into())
}

/// Which page of a list.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    /// The page that a query of more fields asks for.
    pub(crate) fn asked(limit: Option<usize>, cursor: Option<String>) -> PageQuery {
        PageQuery { limit, cursor }
    }

    #[cfg(test)]
    pub(crate) fn new(limit: usize, cursor: Option<String>) -> PageQuery {
        PageQuery { limit: Some(limit), cursor }
    }

    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        page_limit(self.limit)
    }
}

/// How many items a page has at most.
pub(crate) fn page_limit(wanted: Option<usize>) -> Result<usize, ApiError> {
    match wanted.unwrap_or(50) {
        limit @ 1..=500 => Ok(limit),
        other => Err(ApiError::at("?limit", format!("{other} is not between 1 and 500"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code, reason = "only its parsing is tested")]
        inner: Vec<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code, reason = "only its parsing is tested")]
        number: u32,
    }

    #[test]
    fn a_mistake_is_named_by_its_path() {
        let mistake_at = |text: &str| match parse::<Outer>(text.as_bytes()) {
            Err(ApiError::BadInput { mistakes, .. }) => mistakes[0].path.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(mistake_at(r#"{"inner":[{"number":1},{"number":"x"}]}"#), "inner[1].number");
        assert_eq!(mistake_at(r#"{"inner":[],"workspace":2}"#), "workspace");
        assert_eq!(mistake_at(r#"{"inner":[{}]}"#), "inner[0].number");
        assert_eq!(mistake_at("{}"), "inner");
        assert_eq!(mistake_at(r#"{"inner":[],"inner":[]}"#), "inner");
        assert_eq!(mistake_at(r#"{"inner":[{"number":1},[1]]}"#), "inner[1]");
        for no_field in [r#"{"inner":[]}{}"#, "[[]]", "", "7", "{bad", r#"{"inner":[{"number":1,}]}"#] {
            assert_eq!(mistake_at(no_field), "body", "{no_field}");
        }
    }

    #[test]
    fn a_mistake_in_a_query_is_named_by_its_parameter() {
        let said = "Failed to deserialize query string: ";
        for (text, path) in [
            ("limit: invalid digit found in string", "?limit"),
            ("missing field `profile`", "?profile"),
            ("duplicate field `limit`", "query"),
        ] {
            let whole = format!("{said}{text}");
            let (place, message) = query_mistake(&whole);
            assert!(place == path && !message.contains(said), "{place}: {message}");
        }
    }

    /// However deep the object lies, and whatever reads it.
    #[test]
    fn a_key_that_stands_twice_is_a_mistake_wherever_it_stands() {
        for depth in 0..15 {
            let (open, close) = ("{\"a\":[".repeat(depth), "]}".repeat(depth));
            let text = format!("{open}{{\"priority\":1,\"b\":{{}},\"priority\":2}}{close}");
            match parse::<serde_json::Value>(text.as_bytes()) {
                Err(ApiError::BadInput { mistakes, .. }) => assert!(mistakes[0].path.ends_with("priority"), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
            assert!(parse::<serde_json::Value>(text.replacen("priority", "prior", 1).as_bytes()).is_ok(), "{text}");
        }
    }
}
