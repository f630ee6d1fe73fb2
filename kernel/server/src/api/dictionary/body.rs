//! The bodies of the dictionary's requests and answers.

use kith_model::dictionary::{DatedEntry, Entry, Sensitivity, Subject, ValueType};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::view::time;
use crate::error::ApiError;

/// Which entries are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DictionaryQuery {
    /// `event`, `property` or `trait`; all unless told.
    #[param(pattern = "^(event|property|trait)$")]
    pub(super) kind: Option<String>,
    /// Of properties: those of this event.
    pub(super) event: Option<String>,
    /// `public`, `internal`, `personal` or `sensitive`; all unless told.
    #[param(pattern = "^(public|internal|personal|sensitive)$")]
    pub(super) sensitivity: Option<String>,
    /// `false` for those whose name never came, `true` for the others.
    pub(super) came: Option<bool>,
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    pub(super) limit: Option<usize>,
    /// The `next` of the page before.
    pub(super) cursor: Option<String>,
}

/// Of a property: which event's.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubjectQuery {
    /// Of a property, the name of the events that have it; `*` stands for every event.
    pub(super) event: Option<String>,
}

/// What to write down; what is absent has its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewDictionaryEntry {
    /// What it means, for people.
    meaning: String,
    /// The person or the team who answers for it.
    owner: String,
    /// `text`, `number`, `boolean`, `time`, `list` or `object`: what values are supposed to be. Events have none.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(text|number|boolean|time|list|object)$")]
    value_type: Option<ValueType>,
    /// `internal` unless told; `public`, `personal` (it tells of a person) or `sensitive` (it is masked, and granted by name).
    #[schema(value_type = String, pattern = "^(public|internal|personal|sensitive)$")]
    sensitivity: Sensitivity,
}

/// What to change of an entry, as a merge patch (RFC 7396): what is absent stays, `null` brings the default back.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PatchDictionaryEntry {
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    meaning: Option<Value>,
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    owner: Option<Value>,
    /// `text`, `number`, `boolean`, `time`, `list` or `object`.
    #[serde(rename = "type", deserialize_with = "present")]
    #[schema(value_type = Option<String>, pattern = "^(text|number|boolean|time|list|object)$")]
    value_type: Option<Value>,
    /// `public`, `internal`, `personal` or `sensitive`.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<String>, pattern = "^(public|internal|personal|sensitive)$")]
    sensitivity: Option<Value>,
}

/// What is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl PatchDictionaryEntry {
    /// The patch as it was sent.
    pub(super) fn document(self) -> Value {
        let PatchDictionaryEntry { meaning, owner, value_type, sensitivity } = self;
        let all = [("meaning", meaning), ("owner", owner), ("type", value_type), ("sensitivity", sensitivity)];
        Value::Object(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

impl NewDictionaryEntry {
    /// The entry, if it can be one of the subject.
    pub(super) fn checked(self, subject: &Subject, place: &str) -> Result<Entry, ApiError> {
        let NewDictionaryEntry { meaning, owner, value_type, sensitivity } = self;
        let entry = Entry { meaning, owner, value_type, sensitivity };
        entry.check(subject).map_err(|(field, problem)| ApiError::at(format!("{place}{field}"), problem))?;
        Ok(entry)
    }

    pub(super) fn of(entry: &Entry) -> NewDictionaryEntry {
        let Entry { meaning, owner, value_type, sensitivity } = entry.clone();
        NewDictionaryEntry { meaning, owner, value_type, sensitivity }
    }
}

/// An entry of the dictionary.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DictionaryEntryBody {
    /// `event`, `property` or `trait`.
    kind: &'static str,
    name: String,
    /// Of a property: the events that have it, `*` for every event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// How a condition asks for it, and a grant names it.
    written: String,
    #[serde(flatten)]
    entry: NewDictionaryEntry,
    changed_at: String,
    /// Whether the name has come.
    came: bool,
    /// Of what is sensitive: the installations that read it. One to which it is not granted is held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) readers: Vec<ReaderBody>,
}

impl DictionaryEntryBody {
    pub(super) fn new(subject: &Subject, described: &DatedEntry, came: bool) -> DictionaryEntryBody {
        DictionaryEntryBody {
            kind: subject.kind(),
            name: subject.name().to_owned(),
            event: subject.event().map(str::to_owned),
            written: subject.to_string(),
            entry: NewDictionaryEntry::of(&described.entry),
            changed_at: time(described.changed_at),
            came,
            readers: Vec::new(),
        }
    }
}

/// An installation that reads something sensitive.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReaderBody {
    pub(super) installation: String,
    /// Whether its grants name it.
    pub(super) granted: bool,
}

/// One entry of a document.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentEntry {
    /// `event`, `property` or `trait`.
    #[schema(pattern = "^(event|property|trait)$")]
    pub(super) kind: String,
    #[schema(min_length = 1, max_length = 256)]
    pub(super) name: String,
    /// Of a property, the name of the events that have it; `*` stands for every event.
    pub(super) event: Option<String>,
    /// What it means, for people.
    #[serde(default)]
    pub(super) meaning: String,
    /// The person or the team who answers for it.
    #[serde(default)]
    pub(super) owner: String,
    #[serde(default, rename = "type")]
    #[schema(value_type = Option<String>, pattern = "^(text|number|boolean|time|list|object)$")]
    pub(super) value_type: Option<ValueType>,
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(public|internal|personal|sensitive)$")]
    pub(super) sensitivity: Sensitivity,
}

impl DocumentEntry {
    pub(super) fn entry(&self) -> NewDictionaryEntry {
        let DocumentEntry { meaning, owner, value_type, sensitivity, .. } = self.clone();
        NewDictionaryEntry { meaning, owner, value_type, sensitivity }
    }
}

/// A dictionary as one document.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DictionaryDocument {
    pub(super) entries: Vec<DocumentEntry>,
    /// Whether entries that the document does not have are removed; they stay unless told.
    #[serde(default)]
    pub(super) remove_others: bool,
    /// Whether nothing is changed, and the answer says what would be.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// What a document changed, or would change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DictionaryChanges {
    pub(super) changes: Vec<DictionaryChange>,
    /// Entries that are as the document has them.
    pub(super) unchanged: usize,
    /// Whether nothing was changed.
    pub(super) dry_run: bool,
}

/// What happens to one entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DictionaryChange {
    /// `add`, `change` or `remove`.
    #[serde(rename = "do")]
    pub(super) act: &'static str,
    pub(super) written: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<NewDictionaryEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<NewDictionaryEntry>,
    /// Of what becomes sensitive: the installations that read it. One to which it is not granted is held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) readers: Vec<ReaderBody>,
}

/// What an entry says of a name of the catalogue.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CatalogEntryBody {
    #[serde(flatten)]
    entry: NewDictionaryEntry,
}

impl CatalogEntryBody {
    pub(crate) fn new(entry: &Entry) -> CatalogEntryBody {
        CatalogEntryBody { entry: NewDictionaryEntry::of(entry) }
    }
}
