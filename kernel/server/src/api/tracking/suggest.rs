//! A schema for an event that came without a plan: what its properties were so far.

use std::cmp::Reverse;
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
    /// Properties that are not in it, those that came most seldom: it has 500 of them at most.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
}

/// Properties of a schema that is suggested.
const MAX_PROPERTIES: usize = 500;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
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
    let mut came: Vec<_> = of_event.filter_map(|entry| Some((entry, entry.seen.as_ref()?))).collect();
    // Of those that came as often the first by name.
    came.sort_by_key(|(_, seen)| Reverse(seen.count));
    let left_out = came.len().saturating_sub(MAX_PROPERTIES);
    came.truncate(MAX_PROPERTIES);
    came.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    for (entry, seen) in came {
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
    Some(SchemaSuggestion { event: event.to_owned(), events, schema, left_out })
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

#[cfg(test)]
mod tests {
    use kith_model::id::Position;

    use super::*;

    fn entry(kind: NameKind, name: &str, event: Option<&str>, count: u64) -> CatalogEntry {
        let mut entry = CatalogEntry {
            kind,
            name: name.to_owned(),
            event: event.map(str::to_owned),
            seen: Some(Default::default()),
            people: None,
            values: Vec::new(),
            has_many_values: false,
        };
        if let Some(seen) = &mut entry.seen {
            (seen.count, seen.kinds.numbers) = (count, count);
        }
        entry
    }

    #[test]
    fn a_schema_has_the_properties_that_came_most_often_and_says_how_many_it_leaves_out() {
        let mut entries = vec![entry(NameKind::Event, "Paid", None, 1_000)];
        let name = |number: u64| format!("p{number:04}");
        entries.extend((0..=500).map(|number| entry(NameKind::Property, &name(number), Some("Paid"), 400 + number)));
        let catalog = Catalog { entries, others: 0, as_of: Position(1) };
        let suggested = suggestion(&catalog, "Paid").unwrap();
        assert_eq!((suggested.events, suggested.left_out), (1_000, 1));
        let properties = suggested.schema["properties"].as_object().unwrap();
        assert_eq!((properties.len(), properties.contains_key("p0000")), (500, false), "the rarest is left out");
        let fewer = Catalog { entries: catalog.entries[..3].to_vec(), ..catalog };
        let suggested = suggestion(&fewer, "Paid").unwrap();
        assert_eq!(serde_json::to_value(&suggested).unwrap().get("left_out"), None);
    }
}
