//! The API's description, OpenAPI 3.1, generated from the handlers themselves.

mod refusals;

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use crate::error::ApiError;

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
pub fn document() -> &'static OpenApi {
    static DOCUMENT: OnceLock<OpenApi> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut document = super::routes().into_openapi();
        for (path, item) in &mut document.paths.paths {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            methods.into_iter().flatten().for_each(|operation| refusals::add(path, operation));
        }
        document
    })
}

/// This description.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operation", responses((status = 200, body = Object)),
)]
pub(crate) async fn describe() -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "application/json")], text()?).into_response())
}

/// The description as text, made once: whoever has no key can ask for it as often as he likes.
fn text() -> Result<Bytes, ApiError> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text.clone());
    }
    let text =
        serde_json::to_vec(document()).map_err(|error| ApiError::internal("writing the API's description", error))?;
    Ok(TEXT.get_or_init(|| text.into()).clone())
}
