//! The API's description, OpenAPI 3.1, generated from the handlers themselves.

mod operations;
pub(super) mod queries;
mod refusals;
mod schemas;

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi, Required};
use utoipa::{Modify, OpenApi as _};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Kith",
        description = "A customer-data kernel: people and events in, tags, scores and audiences from plugins, messages out.",
    ),
    modifiers(&Schemes),
    tags(
        (name = "ingest", description = "Sending events and records"),
        (name = "profiles", description = "Reading people"),
        (name = "identity", description = "Who is one person, and why"),
        (name = "plugins", description = "Uploading and listing plugins"),
        (name = "publishers", description = "Who may sign plugins, and with which keys"),
        (name = "installations", description = "Plugins at work"),
        (name = "audiences", description = "Conditions over people, and who meets them"),
        (name = "dictionary", description = "What names mean, how sensitive they are, and rules of what comes in"),
        (name = "tracking", description = "What sources are expected to send, and how their data is"),
        (name = "deliveries", description = "Messages"),
        (name = "dead-letters", description = "What failed, and doing something about it"),
        (name = "keys", description = "Credentials"),
        (name = "audit", description = "Who changed what, and who read people"),
        (name = "workspace", description = "The workspace as a whole"),
        (name = "workspaces", description = "All workspaces of the server, for its host"),
        (name = "operation", description = "Running the server"),
    ),
)]
struct Description;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let scheme = |scheme| SecurityScheme::Http(Http::new(scheme));
        components.add_security_scheme("key", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("write_key", scheme(HttpAuthScheme::Basic));
    }
}

/// The description without the routes.
pub(super) fn base() -> OpenApi {
    Description::openapi()
}

/// The whole description.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut document = super::routes().into_openapi();
        for address in ["/hooks/{key}", "/callbacks/{key}"] {
            by_any_method(&mut document, address);
        }
        for (path, item) in &mut document.paths.paths {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            methods.into_iter().flatten().for_each(|operation| refusals::add(path, operation));
        }
        // Texts, numbers and lists of them can always be written.
        let mut document = serde_json::to_value(document).unwrap_or_default();
        schemas::settle(&mut document);
        operations::settle(&mut document);
        document
    })
}

/// Describe an address that is called by whatever method, with or without a path behind it, as what it is. The router has it
/// once, and gives the rest to the same handler.
fn by_any_method(document: &mut OpenApi, address: &str) {
    let Some(mut item) = document.paths.paths.get(address).cloned() else { return };
    let Some(post) = item.post.clone() else { return };
    let by = |method: &str, has_body: bool| {
        let mut operation = post.clone();
        operation.operation_id = operation.operation_id.map(|handler| format!("{method}_{handler}"));
        operation.request_body = operation.request_body.filter(|_| has_body);
        operation
    };
    (item.get, item.delete) = (Some(by("get", false)), Some(by("delete", false)));
    (item.put, item.patch) = (Some(by("put", true)), Some(by("patch", true)));
    let mut beyond = item.clone();
    let operations = [&mut beyond.get, &mut beyond.post, &mut beyond.put, &mut beyond.patch, &mut beyond.delete];
    operations.into_iter().flatten().for_each(with_path);
    document.paths.paths.insert(address.to_owned(), item);
    document.paths.paths.insert(format!("{address}/{{path}}"), beyond);
}

fn with_path(operation: &mut Operation) {
    operation.operation_id = operation.operation_id.take().map(|handler| format!("{handler}_with_path"));
    let path = ParameterBuilder::new()
        .name("path")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("the path that the plugin is given, of one part or of many"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()));
    operation.parameters.get_or_insert_default().push(path.build().into());
}

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operation", responses((status = 200, body = Object, description = "This document")),
)]
pub(crate) async fn describe(_: queries::KnownQuery) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

/// The description as text, made once: whoever has no key can ask for it as often as he likes.
fn text() -> Bytes {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    TEXT.get_or_init(|| document().to_string().into()).clone()
}
