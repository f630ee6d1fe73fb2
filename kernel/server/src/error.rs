//! Errors of the API: every way a request can end other than well, and the one place that turns it into an RFC 9457
//! problem document which also carries string `code` and `message`.
//!
//! What a client may know is in the document; what only the operator may know goes to the log under the same request id.

use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kith_model::budget::{Budget, BudgetUnit, Exhausted};
use kith_model::plugin::{PluginFault, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

tokio::task_local! {
    /// The ids of the request that the current task serves.
    pub(crate) static REQUEST_ID: RequestIds;
}

/// The ids of one request.
#[derive(Debug, Clone)]
pub(crate) struct RequestIds {
    /// The one that comes back to the caller.
    pub(crate) shown: String,
    /// The one that the server gave it.
    pub(crate) own: String,
    /// The visible characters of the one that the caller gave it.
    pub(crate) client: Option<String>,
}

/// The id that the caller knows the request by that the current task serves; empty outside of one.
pub(crate) fn request_id() -> String {
    REQUEST_ID.try_with(|ids| ids.shown.clone()).unwrap_or_default()
}

/// The server's own id of the request that the current task serves, and the caller's.
pub(crate) fn request_ids() -> (String, Option<String>) {
    REQUEST_ID.try_with(|ids| (ids.own.clone(), ids.client.clone())).unwrap_or_default()
}

/// One mistake in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mistake {
    /// Where it is, e.g. `config.columns[2]` or `?limit`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A problem document (RFC 9457) with string `code` and `message`, which Segment's and RudderStack's clients read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A URN that names the kind of problem.
    #[serde(rename = "type")]
    pub problem_type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// The same text as `detail`.
    pub message: String,
    /// Quote it when you ask the operator: the log has the rest under it.
    pub request_id: String,
    /// Each mistake with its path, for bad input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
    /// For a stream that broke off: what was durably taken before, as in a good answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub taken: Option<serde_json::Value>,
    /// For a change that needs a confirmation: what it touches, and the `token` that confirms just that. For a budget that
    /// ended: its name as `budget`, and its `limit`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub details: Option<serde_json::Value>,
}

/// The code of every answer, also of `/readyz`, while the disk has no room for a write.
pub const DISK_FULL: &str = "disk-full";

/// Every way a request can end other than well.
#[derive(Debug)]
pub enum ApiError {
    BadInput {
        code: &'static str,
        message: String,
        mistakes: Vec<Mistake>,
    },
    /// No credential, or one that is not (or no longer) good.
    Unauthenticated {
        message: &'static str,
    },
    /// A good credential that may not do this.
    Denied {
        message: String,
    },
    /// A good credential of a workspace that is suspended.
    Suspended,
    /// It does not exist, or belongs to another workspace.
    NotFound {
        what: String,
    },
    NoRoute,
    MethodNotAllowed,
    Conflict {
        code: &'static str,
        message: String,
    },
    /// An edit was made from a version that is no more.
    Stale {
        message: String,
        /// Of the version that there is, where there is one.
        tag: Option<String>,
    },
    /// It is done when it comes again with the token that `details` hold.
    Unconfirmed {
        code: &'static str,
        message: String,
        details: serde_json::Value,
    },
    /// A body is larger than its limit, which is a budget's but for what a connector leaves unread and for one commit.
    TooLarge {
        limit_bytes: usize,
        budget: Option<&'static Budget>,
    },
    UnsupportedMediaType {
        message: &'static str,
    },
    /// The client sent its request too slowly.
    TooSlow,
    /// A connector refuses the request.
    Refused(Refusal),
    /// A plugin did not do its work.
    Fault(PluginFault),
    /// Too much at once; nothing was taken.
    Overloaded {
        retry_after_s: u32,
    },
    /// A budget ended; nothing was taken.
    Exhausted(Exhausted),
    /// Something is not there for now; nothing was taken.
    Unavailable {
        code: &'static str,
        message: String,
        retry_after_s: u32,
    },
    /// A stream broke off after a part of it was durably taken.
    Partial {
        taken: serde_json::Value,
        cause: Box<ApiError>,
    },
    /// The operator's business. The text of `cause` goes to the log only.
    Internal {
        doing: &'static str,
        cause: Box<dyn Error + Send + Sync>,
    },
}

impl From<Exhausted> for ApiError {
    fn from(exhausted: Exhausted) -> ApiError {
        ApiError::Exhausted(exhausted)
    }
}

impl ApiError {
    /// Bad input with one mistake at `path`.
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> ApiError {
        let message = message.into();
        let path = path.into();
        let mistakes = vec![Mistake { path: path.clone(), message: message.clone() }];
        ApiError::BadInput { code: "bad-input", message: format!("{path}: {message}"), mistakes }
    }

    /// A body is larger than its budget. To be made where it is refused, for it is counted here.
    pub(crate) fn too_large(budget: &'static Budget, limit_bytes: usize) -> ApiError {
        budget.count();
        ApiError::TooLarge { limit_bytes, budget: Some(budget) }
    }

    /// There is no room for what was to be stored. The one answer of a full disk, also in the middle of a stream.
    pub(crate) fn disk_full() -> ApiError {
        let message = "the server's disk is nearly full: nothing is stored until whoever runs it makes room; what was not \
                       taken can come again then";
        ApiError::Unavailable { code: DISK_FULL, message: message.to_owned(), retry_after_s: 60 }
    }

    /// `what` is not here, e.g. "no installation `orders`".
    pub(crate) fn missing(what: impl Into<String>) -> ApiError {
        ApiError::NotFound { what: what.into() }
    }

    /// An error that is the operator's business.
    pub(crate) fn internal(doing: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> ApiError {
        ApiError::Internal { doing, cause: cause.into() }
    }
}

/// How an error is answered.
struct ErrorAnswer {
    status: StatusCode,
    code: String,
    title: &'static str,
    message: String,
    retry_after_s: Option<u32>,
    mistakes: Vec<Mistake>,
    taken: Option<serde_json::Value>,
    details: Option<serde_json::Value>,
}

fn error_answer(
    status: StatusCode,
    code: impl Into<String>,
    title: &'static str,
    message: impl Into<String>,
) -> ErrorAnswer {
    let (code, message) = (code.into(), message.into());
    ErrorAnswer { status, code, title, message, retry_after_s: None, mistakes: Vec::new(), taken: None, details: None }
}

/// The longest wait that clients heed, in seconds (Segment's stop at 300).
const MAX_RETRY_AFTER_S: u32 = 300;

/// The one table from errors to answers.
fn describe(error: ApiError) -> ErrorAnswer {
    match error {
        ApiError::BadInput { code, message, mistakes } => {
            ErrorAnswer { mistakes, ..error_answer(StatusCode::BAD_REQUEST, code, "Bad input", message) }
        }
        ApiError::Unauthenticated { message } => {
            error_answer(StatusCode::UNAUTHORIZED, "unauthenticated", "No valid credential", message)
        }
        ApiError::Denied { message } => error_answer(StatusCode::FORBIDDEN, "denied", "Not allowed", message),
        ApiError::Suspended => {
            let message = "the workspace is suspended; whoever runs the server can resume it";
            error_answer(StatusCode::FORBIDDEN, "workspace-suspended", "Not allowed", message)
        }
        ApiError::NotFound { what } => error_answer(StatusCode::NOT_FOUND, "not-found", "Not found", what),
        ApiError::NoRoute => error_answer(
            StatusCode::NOT_FOUND,
            "no-route",
            "Not found",
            "no such route; /api/v1/openapi.json lists all",
        ),
        ApiError::MethodNotAllowed => error_answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "this route has other methods; the allow header names them",
        ),
        ApiError::Conflict { code, message } => error_answer(StatusCode::CONFLICT, code, "Conflict", message),
        ApiError::Stale { message, tag } => {
            let answer =
                error_answer(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", "Precondition failed", message);
            ErrorAnswer { details: Some(serde_json::json!({ "etag": tag })), ..answer }
        }
        ApiError::Unconfirmed { code, message, details } => {
            let answer = error_answer(StatusCode::CONFLICT, code, "Confirmation required", message);
            ErrorAnswer { details: Some(details), ..answer }
        }
        ApiError::TooLarge { limit_bytes, budget } => {
            let message = format!("the body is larger than {limit_bytes} bytes");
            let details = budget.map(|budget| serde_json::json!({ "budget": budget.name, "limit": limit_bytes }));
            ErrorAnswer { details, ..error_answer(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", message) }
        }
        ApiError::UnsupportedMediaType { message } => {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            error_answer(status, "unsupported-media-type", "Unsupported media type", message)
        }
        ApiError::TooSlow => {
            let message = "the request did not arrive in time; send it again";
            error_answer(StatusCode::REQUEST_TIMEOUT, "too-slow", "Request timeout", message)
        }
        ApiError::Refused(refusal) => refused_answer(refusal),
        ApiError::Fault(fault) => fault_answer(&fault),
        ApiError::Overloaded { retry_after_s } => {
            let message = "more requests than can be taken now; nothing of this one was";
            let answer = error_answer(StatusCode::TOO_MANY_REQUESTS, "overloaded", "Overloaded", message);
            ErrorAnswer { retry_after_s: Some(retry_after_s), ..answer }
        }
        ApiError::Exhausted(exhausted) => exhausted_answer(exhausted),
        ApiError::Unavailable { code, message, retry_after_s } => {
            let answer = error_answer(StatusCode::SERVICE_UNAVAILABLE, code, "Unavailable for now", message);
            ErrorAnswer { retry_after_s: Some(retry_after_s), ..answer }
        }
        ApiError::Partial { taken, cause } => ErrorAnswer { taken: Some(taken), ..describe(*cause) },
        ApiError::Internal { doing, cause } => {
            tracing::error!(request_id = request_id(), doing, error = chain(cause.as_ref()), "internal error");
            let message = "something went wrong here; the log has more under the request id";
            error_answer(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", message)
        }
    }
}

/// Whatever a plugin says, a refusal must never look like success or like a redirect to a client.
fn refused_answer(refusal: Refusal) -> ErrorAnswer {
    let status = StatusCode::from_u16(refusal.status).ok().filter(|status| (400..600).contains(&status.as_u16()));
    error_answer(status.unwrap_or(StatusCode::BAD_REQUEST), refusal.code, "Refused by the connector", refusal.message)
}

/// 429 where the budget comes back; else the same thing is refused whenever it comes.
fn exhausted_answer(exhausted: Exhausted) -> ErrorAnswer {
    let status = match (exhausted.retry_after, exhausted.budget.unit) {
        (Some(_), _) => StatusCode::TOO_MANY_REQUESTS,
        // The request is not at fault: it is taken once something that is kept is removed.
        (None, BudgetUnit::Kept) => StatusCode::CONFLICT,
        (None, _) => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let wait = exhausted.retry_after.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(MAX_RETRY_AFTER_S));
    let answer = error_answer(status, "budget-exhausted", "Budget exhausted", exhausted.to_string());
    let details = serde_json::json!({ "budget": exhausted.budget.name, "limit": exhausted.limit });
    ErrorAnswer { retry_after_s: wait, details: Some(details), ..answer }
}

/// A fault's own text may quote the guest, so it goes to the log; the client learns the kind.
fn fault_answer(fault: &PluginFault) -> ErrorAnswer {
    tracing::warn!(request_id = request_id(), code = fault.code(), error = %fault, "a plugin did not do its work");
    if let PluginFault::BadInput(message) = fault {
        return error_answer(StatusCode::BAD_REQUEST, fault.code(), "Refused by the plugin", message.clone());
    }
    let message = match fault.is_of_limit() {
        true => format!("the plugin failed: it {fault}"),
        false => format!("the plugin failed: {}", fault.code()),
    };
    let answer = if fault.may_retry() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    let retry_after_s = fault.may_retry().then_some(5);
    ErrorAnswer { retry_after_s, ..error_answer(answer, fault.code(), "Plugin failure", message) }
}

/// An error with its sources, for the log.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Marks the answer to a request without a valid key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailedAuthentication;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let has_failed = matches!(self, ApiError::Unauthenticated { .. });
        let answer = describe(self);
        let problem = Problem {
            problem_type: format!("urn:kith:problem:{}", answer.code),
            title: answer.title.to_owned(),
            status: answer.status.as_u16(),
            detail: answer.message.clone(),
            code: answer.code,
            message: answer.message,
            request_id: request_id(),
            errors: answer.mistakes,
            taken: answer.taken,
            details: answer.details,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (answer.status, content_type, body).into_response();
        if has_failed {
            response.extensions_mut().insert(FailedAuthentication);
        }
        let headers = response.headers_mut();
        if let Some(seconds) = answer.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.clamp(1, MAX_RETRY_AFTER_S)));
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kith\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::TimeSpent;

    use super::*;

    async fn rendered(error: ApiError) -> (StatusCode, Option<String>, serde_json::Value) {
        let response = error.into_response();
        let status = response.status();
        let retry = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, retry, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_answer_has_code_and_message_and_hides_what_is_internal() {
        let secret = std::io::Error::other("/var/lib/kith/secret-path");
        let (status, _, body) = rendered(ApiError::internal("reading", secret)).await;
        assert_eq!(status, 500);
        assert!(!body.to_string().contains("secret-path"));
        assert!(body["code"].is_string() && body["message"].is_string());
    }

    /// A sender of a few bytes was told to send fewer events.
    #[tokio::test]
    async fn a_plugin_that_passes_a_limit_is_told_of_in_words_and_nobody_else_is_blamed() {
        let (status, retry, body) = rendered(ApiError::Fault(PluginFault::CpuExceeded { limit_ms: 300 })).await;
        assert_eq!((status.as_u16(), retry, &body["code"]), (500, None, &"limit.cpu".into()));
        assert_eq!(body["message"], "the plugin failed: it passed the limit of 300 ms of processor time");
        let late = |spent| rendered(ApiError::Fault(PluginFault::DeadlineExceeded { limit_ms: 300, spent }));
        let (status, retry, _) = late(TimeSpent::Computing).await;
        assert_eq!((status.as_u16(), retry), (500, None), "it computed for all of it, and will again");
        let (status, retry, _) = late(TimeSpent::WaitingForPeers).await;
        assert_eq!((status.as_u16(), retry.as_deref()), (503, Some("5")), "a peer was slow, and may not be next time");
        let trap = PluginFault::Trapped { message: "ada".into(), backtrace: vec![] };
        assert_eq!(rendered(ApiError::Fault(trap)).await.2["message"], "the plugin failed: trap");
    }

    #[tokio::test]
    async fn a_refusal_never_looks_like_success() {
        for status in [200, 204, 301, 399, 999] {
            let refusal = Refusal { status, code: "x".into(), message: "y".into() };
            let (answered, _, _) = rendered(ApiError::Refused(refusal)).await;
            assert_eq!(answered, 400, "{status}");
        }
    }

    #[tokio::test]
    async fn waits_are_whole_seconds_that_clients_heed() {
        let (status, retry, _) = rendered(ApiError::Overloaded { retry_after_s: 4_000 }).await;
        assert_eq!((status.as_u16(), retry.as_deref()), (429, Some("300")));
    }

    #[tokio::test]
    async fn a_budget_that_ended_is_named_and_only_one_that_comes_back_invites_again() {
        let budget = &kith_model::budget::table::QUESTIONS_WAITING;
        let wait = std::time::Duration::from_secs(7);
        let (status, retry, body) = rendered(ApiError::Exhausted(budget.exhausted(8, Some(wait)))).await;
        assert_eq!((status.as_u16(), retry.as_deref()), (429, Some("7")));
        assert_eq!((&body["budget"], &body["limit"]), (&"questions-waiting".into(), &8.into()));
        let (status, retry, _) = rendered(ApiError::Exhausted(budget.exhausted(8, None))).await;
        assert_eq!((status.as_u16(), retry), (413, None));
        let kept = &kith_model::budget::table::KEYS_KEPT;
        let (status, retry, _) = rendered(ApiError::Exhausted(kept.exhausted(8, None))).await;
        assert_eq!((status.as_u16(), retry), (409, None));
    }
}
