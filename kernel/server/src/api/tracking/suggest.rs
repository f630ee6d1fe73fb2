//! A schema for an event that came without a plan: what its properties were so far.

use std::sync::Arc;

use axum::extract::State;
use kith_pipeline::{Catalog, CatalogEntry, Kind, NameKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::api::catalog::source_named;
use crate::api::extract::{Authority, Json, Query, right};
use crate::app::App;
use crate::error::{ApiError, Problem};

/// Of which event a schema is suggested.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SchemaQuery {
    /// The event's name.
    event: String,
    /// By what this source sent; by what all did unless told.
    source: Option<String>,
}

/// A schema of what came.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchemaSuggestion {
    event: String,
    /// By how many events it is made.
    events: u64,
    /// JSON Schema of their properties, for `schema` of an event of a tracking plan.
    #[schema(value_type = Object)]
    schema: Value,
}

/// A schema for the properties of an event by what came so far: its types are those that came, and required is what every one of the
/// events had. It is a beginning, to be read before it is used.
#[utoipa::path(
    get, path = "/api/v1/catalog/schema", tag = "tracking", params(SchemaQuery), security(("key" = ["profiles:read"])),
    responses((status = 200, body = SchemaSuggestion), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn suggest(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(query): Query<SchemaQuery>,
) -> Result<Json<SchemaSuggestion>, ApiError> {
    let caller = authority.caller;
    app.reads.note(&caller, "catalog.schema", std::iter::empty::<String>());
    app.offload(move |app| {
        let catalog = match &query.source {
            Some(source) => app.kernel.catalog_of(caller.workspace, source_named(app, &caller, source)?)?,
            None => app.kernel.catalog(caller.workspace)?,
        };
        suggestion(&catalog, &query.event).map(Json).ok_or_else(|| {
            let name = query.event.chars().take(64).collect::<String>();
            ApiError::missing(format!("no event `{name}` came so far"))
        })
    })
    .await
}

fn suggestion(catalog: &Catalog, event: &str) -> Option<SchemaSuggestion> {
    let is_event = |entry: &&CatalogEntry| entry.kind == NameKind::Event && entry.name == event;
    let events = catalog.entries.iter().find(is_event)?.seen.as_ref()?.count;
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let of_event = catalog.entries.iter().filter(|entry| entry.event.as_deref() == Some(event));
    for (entry, seen) in of_event.filter_map(|entry| Some((entry, entry.seen.as_ref()?))) {
        let mut types: Vec<&str> = Vec::new();
        for (kind, _) in seen.kinds.each().into_iter().filter(|(_, count)| *count > 0) {
            let of_kind = type_of(kind);
            if !types.contains(&of_kind) {
                types.push(of_kind);
            }
        }
        let types = if let [one] = types[..] { json!(one) } else { json!(types) };
        properties.insert(entry.name.clone(), json!({ "type": types }));
        if seen.count >= events {
            required.push(entry.name.clone());
        }
    }
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    Some(SchemaSuggestion { event: event.to_owned(), events, schema })
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "boolean",
        Kind::Number => "number",
        Kind::NumberText | Kind::Text => "string",
        Kind::List => "array",
        Kind::Object => "object",
    }
}
