//! Pieces that several answers share.

use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A moment as the API writes it: RFC 3339 in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_string()
}

/// Stored JSON text as JSON; the empty text is an empty object.
pub(crate) fn json(text: &str) -> Value {
    if text.is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Something that names a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IdentifierView {
    /// `user_id`, `anonymous_id`, `email`, …
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: String,
}

impl From<&Identifier> for IdentifierView {
    fn from(identifier: &Identifier) -> IdentifierView {
        IdentifierView { kind: identifier.kind.clone(), value: identifier.value.clone() }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Hand it in as `cursor` to get the next page; `null` at the end.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is always whole.
    pub(crate) fn whole(items: Vec<T>) -> Page<T> {
        Page { items, next: None }
    }
}
