//! The refusals that operations share, described once and from what each operation takes, so that no handler can forget one.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

/// How problems are sent (RFC 9457).
const PROBLEM_TYPE: &str = "application/problem+json";

/// Describe what may come in place of an operation's own answers.
pub(super) fn add(path: &str, operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let is_refusal = status.starts_with('4') || status.starts_with('5');
        if let (true, RefOr::T(response)) = (is_refusal, response) {
            send_as_problem(response);
            if response.description.is_empty() {
                response.description = usual(status).to_owned();
            }
        }
    }
    for status in shared(path, operation) {
        let described = &mut operation.responses.responses;
        described.entry(status.to_owned()).or_insert_with(|| problem(usual(status)).into());
    }
}

/// A problem that was described as any JSON.
fn send_as_problem(response: &mut Response) {
    let is_problem = |content: &RefOr<Content>| match content {
        RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => schema.ref_location.ends_with("/Problem"),
        RefOr::T(_) | RefOr::Ref(_) => false,
    };
    if response.content.get("application/json").is_some_and(is_problem) {
        response.content.clear();
        response.content.insert(PROBLEM_TYPE.to_owned(), RefOr::T(problem_content()));
    }
}

fn problem_content() -> Content {
    Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
}

fn problem(description: &str) -> Response {
    ResponseBuilder::new().description(description).content(PROBLEM_TYPE, problem_content()).build()
}

/// What a refusal says, whatever refuses.
fn usual(status: &str) -> &'static str {
    match status {
        "400" => "the request has a mistake; `errors` says where",
        "401" => "the request has no valid key",
        "403" => "the key may not do this",
        "404" => "there is no such thing, or it is another workspace's",
        "408" => "the body came too slowly",
        "409" => {
            "what there is stands against it, as `code` and `message` say; where it needs a confirmation, the answer names what it touches and has the `token` for `confirm`"
        }
        "412" => "it was changed since the version that `If-Match` names",
        "413" => "the body, or a part of it, is larger than a budget allows",
        "415" => "the body has another content type or encoding",
        "429" => "a budget of the server, of the key or of the address has ended; retry-after says when it is back",
        "500" => "a mistake of the server or of a plugin; the log has more under the request id",
        "503" => "the server cannot do this for now; retry-after says when to come back",
        _ => "the request is refused, as `code` and `message` say",
    }
}

/// The status of each refusal that what the operation takes brings with it.
fn shared(path: &str, operation: &Operation) -> Vec<&'static str> {
    // What names no host, or two, is a mistake under every path.
    let mut refusals = vec!["400", "429", "500"];
    if path.contains('{') {
        refusals.push("404");
    }
    if operation.security.is_some() {
        refusals.extend(["401", "403", "503"]);
    }
    if operation.request_body.is_some() {
        refusals.extend(["408", "413", "415"]);
    }
    refusals
}
