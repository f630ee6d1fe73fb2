//! Which names there are: of events, their properties, traits, tags and scores, with how often they came and with which values.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kith_features::FeatureName;
use kith_model::dictionary::Entry;
use kith_model::id::InstallationId;
use kith_model::plugin::PluginKind;
use kith_pipeline::{CatalogEntry, Kinds, NameKind, NameUsage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::dictionary::{CatalogEntryBody, subject_of};
use super::extract::{Authority, PageQuery, Query, WrittenJson, right};
use super::masks::Lens;
use super::sensitive::Mask;
use super::view::{self, Page, time};
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};

/// A name that came of fewer people may be that of one, and is listed for those alone who may read people.
pub(super) const CROWD: u64 = 20;

/// Which names are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CatalogQuery {
    /// `event`, `property`, `trait`, `tag` or `score`; all unless told.
    #[param(pattern = "^(event|property|trait|tag|score)$")]
    kind: Option<String>,
    /// Of properties: those of this event.
    event: Option<String>,
    /// Names that came from this source, with what it alone sent.
    source: Option<String>,
    /// `false` for names of which the data dictionary has no entry, `true` for the others. Tags and scores are described by
    /// their plugins.
    described: Option<bool>,
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// A name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CatalogBody {
    /// `event`, `property`, `trait`, `tag` or `score`.
    kind: &'static str,
    name: String,
    /// Of a property: the events that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// How a condition asks for it.
    written: String,
    /// How often it came in events; absent of what plugins write, and where it is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// How many people have a value; absent of events and their properties, and where it is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<u64>,
    /// When it was first received; needs `profiles:read`, as all that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kinds: Option<KindsBody>,
    /// When a value of each kind was first received.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kinds_since: BTreeMap<&'static str, String>,
    /// Of a property: how many of its events came without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<u64>,
    /// The most frequent values, where there are few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValueBody>,
    /// Whether there are too many different values to list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_many_values: bool,
    /// Whether values are left out because they are sensitive and the key has no scope `sensitive:read`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    withheld: bool,
    /// What the data dictionary says of it; of a tag or a score what the plugin says that writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    dictionary: Option<CatalogEntryBody>,
}

/// How often a name came with a value of each kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KindsBody {
    nulls: u64,
    booleans: u64,
    numbers: u64,
    /// Texts that are written as numbers, and count as such.
    number_texts: u64,
    texts: u64,
    lists: u64,
    objects: u64,
}

impl From<Kinds> for KindsBody {
    fn from(kinds: Kinds) -> KindsBody {
        let Kinds { nulls, booleans, numbers, number_texts, texts, lists, objects } = kinds;
        KindsBody { nulls, booleans, numbers, number_texts, texts, lists, objects }
    }
}

/// A value, and how many events or people have it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ValueBody {
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    count: u64,
}

/// The names that came or that plugins write, in the order of kinds and names: an event, then its properties.
#[utoipa::path(
    get, path = "/api/v1/catalog", tag = "audiences", params(CatalogQuery), security(("key" = ["audiences:read"])),
    responses(
        (status = 200, body = Page<CatalogBody>), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Query(query): Query<CatalogQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    let kind = query.kind.as_deref().map(kind_named).transpose()?;
    let reads_people = caller.may(Scope::ProfilesRead);
    if reads_people {
        app.reads.note(&caller, "catalog.list", std::iter::empty::<String>());
    }
    app.offload(move |app| {
        let catalog = match &query.source {
            Some(source) => app.kernel.catalog_of(caller.workspace, source_named(app, &caller, source)?)?,
            None => app.kernel.catalog(caller.workspace)?,
        };
        let of_events: BTreeMap<String, u64> = (catalog.entries.iter())
            .filter(|entry| entry.kind == NameKind::Event)
            .filter_map(|entry| Some((entry.name.clone(), entry.seen.as_ref()?.count)))
            .collect();
        let tables = app.catalogue.workspace(caller.workspace)?;
        let mask = Mask::new(&tables, &caller);
        let wanted = catalog.entries.into_iter().filter(|entry| {
            kind.is_none_or(|kind| entry.kind == kind)
                && query.event.as_ref().is_none_or(|event| entry.event.as_ref() == Some(event))
                && (reads_people || is_of_many(entry))
                && query.described.is_none_or(|asked| described(&tables, entry).is_some() == asked)
        });
        let keyed = wanted.map(|entry| {
            let (kind, name, property) = entry.place();
            (format!("{}\u{1}{name}\u{1}{property}", kind as u8), entry)
        });
        let page = PageQuery::asked(query.limit, query.cursor.clone());
        let page = Page::of(keyed, &page, |entry| {
            let of_event = entry.event.as_ref().and_then(|event| of_events.get(event)).copied();
            let dictionary = described(&tables, &entry);
            let is_hidden = match (entry.kind, &entry.event) {
                (NameKind::Trait, _) => mask.hides_trait(&entry.name),
                (NameKind::Property, Some(event)) => mask.hides_property(event, &entry.name),
                _ => false,
            };
            let body = shown(app, &caller, entry, of_event);
            let withheld = is_hidden && !body.values.is_empty();
            let values = if is_hidden { Vec::new() } else { body.values };
            Ok(CatalogBody { dictionary, withheld, values, ..body })
        })?;
        WrittenJson::of(&page)
    })
    .await
}

/// What the dictionary says of a name, or the plugin that writes it.
fn described(tables: &WorkspaceTables, entry: &CatalogEntry) -> Option<CatalogEntryBody> {
    if let Some(subject) = subject_of(entry) {
        return tables.dictionary.get(&subject).map(|described| CatalogEntryBody::new(&described.entry));
    }
    tables.installed().find_map(|row| {
        let plugin = tables.plugin_of(row)?;
        let kind = match entry.kind {
            NameKind::Tag => PluginKind::TagModel,
            _ => PluginKind::Scorer,
        };
        let output = plugin.manifest.outputs.iter().find(|output| output.name == entry.name);
        let output = output.filter(|_| plugin.manifest.kind == kind)?;
        let (meaning, owner) = (output.description.clone(), row.plugin.to_string());
        Some(CatalogEntryBody::new(&Entry { meaning, owner, ..Entry::default() }))
    })
}

fn kind_named(name: &str) -> Result<NameKind, ApiError> {
    let kinds = [NameKind::Event, NameKind::Property, NameKind::Trait, NameKind::Tag, NameKind::Score];
    let found = kinds.into_iter().find(|kind| kind_name(*kind) == name);
    found.ok_or_else(|| ApiError::at("?kind", "it is one of event, property, trait, tag and score"))
}

fn kind_name(kind: NameKind) -> &'static str {
    match kind {
        NameKind::Event => "event",
        NameKind::Property => "property",
        NameKind::Trait => "trait",
        NameKind::Tag => "tag",
        NameKind::Score => "score",
    }
}

/// Whether a name is known to many, so that it tells of nobody.
pub(super) fn is_of_many(entry: &CatalogEntry) -> bool {
    let is_of_plugin = matches!(entry.kind, NameKind::Tag | NameKind::Score);
    is_of_plugin || entry.seen.as_ref().map(NameUsage::people).max(entry.people) >= Some(CROWD)
}

/// The source of that name, which must be installed.
pub(super) fn source_named(app: &App, caller: &Caller, name: &str) -> Result<InstallationId, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    Ok(super::installations::named(&tables, name)?.id)
}

fn shown(app: &App, caller: &Caller, entry: CatalogEntry, of_event: Option<u64>) -> CatalogBody {
    let name = entry.name.as_str();
    let written = match entry.kind {
        NameKind::Event => format!("events({})", kith_features::Value::text(name)),
        NameKind::Property => FeatureName::Trait(name.into()).to_string().replacen("traits", "e.properties", 1),
        NameKind::Trait => FeatureName::Trait(name.into()).to_string(),
        NameKind::Tag => FeatureName::Tag(name.into()).to_string(),
        NameKind::Score => FeatureName::Score(name.into()).to_string(),
    };
    let lens = Lens::new(app, caller, &written);
    let count = entry.seen.as_ref().and_then(|seen| lens.number(seen.count));
    let people = entry.people.and_then(|people| lens.number(people));
    let seen = entry.seen.filter(|_| lens.is_clear());
    let value = |(json, count): (String, u64)| ValueBody { value: view::json(&json), count };
    CatalogBody {
        kind: kind_name(entry.kind),
        name: entry.name,
        event: entry.event,
        written,
        count,
        people,
        first_seen: seen.as_ref().map(|seen| time(seen.first)),
        last_seen: seen.as_ref().map(|seen| time(seen.last)),
        kinds_since: (seen.iter().flat_map(|seen| &seen.since)).map(|(kind, at)| (kind.as_str(), time(*at))).collect(),
        absent: (seen.as_ref().zip(of_event)).map(|(seen, events)| events.saturating_sub(seen.count)),
        // Events have no value of their own.
        kinds: seen.filter(|_| entry.kind != NameKind::Event).map(|seen| seen.kinds.into()),
        values: if lens.is_clear() { entry.values.into_iter().map(value).collect() } else { Vec::new() },
        has_many_values: lens.is_clear() && entry.has_many_values,
        withheld: false,
        dictionary: None,
    }
}
