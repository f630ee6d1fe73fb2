//! Where something of a person comes from: from a tag, a score, a fact or an event to the plugin, its version and digest, the fit,
//! the inputs and the event behind it.

use std::sync::Arc;

use axum::extract::State;
use kith_model::audience::Cause;
use kith_model::event::EventOrigin;
use kith_model::id::{InstallationId, Position, ProfileId};
use kith_pipeline::{
    ComputedKind, EventProvenance, FactProvenance, InputProvenance, InputState, Patience, ValueProvenance,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, Path, Query, WrittenJson, right};
use super::profiles::{EventBody, event_body, no_profile, person, profile_id};
use super::sensitive::Mask;
use super::view::{json, time};
use crate::app::App;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};

/// What is asked about: exactly one of these.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OriginQuery {
    /// The name of a tag.
    tag: Option<String>,
    /// The name of a score.
    score: Option<String>,
    /// The name of a trait.
    #[serde(rename = "trait")]
    fact: Option<String>,
    /// The log position of an event: the `position` of an event, or the `cause` of a value.
    event: Option<u64>,
}

/// What is asked about, once it is known to be one thing.
enum Subject {
    Value(ComputedKind, String),
    Fact(String),
    Event(u64),
}

impl OriginQuery {
    fn subject(self) -> Result<Subject, ApiError> {
        let named = [
            self.tag.map(|name| Subject::Value(ComputedKind::Tag, name)),
            self.score.map(|name| Subject::Value(ComputedKind::Score, name)),
            self.fact.map(Subject::Fact),
            self.event.map(Subject::Event),
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(subject), None) => Ok(subject),
            _ => Err(ApiError::at("?tag", "ask for one thing: `tag`, `score`, `trait` or `event`")),
        }
    }
}

/// Where something of a person comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginBody {
    /// `tag`, `score`, `trait` or `event`.
    kind: &'static str,
    /// The name of the value; of an event its name.
    name: String,
    #[schema(value_type = Option<Value>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    /// The plugin that computed the value, or that read or emitted the event; `null` for what the kernel wrote itself.
    by: Option<OriginPluginBody>,
    /// The fitted state that a value was computed by; 0 where none was fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<u32>,
    /// When the value was computed, or the event received.
    at: String,
    /// Of a computed value, the inputs of the installation as it is now, with what they say of the person now.
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Vec<OriginInputBody>>,
    /// Whether the value was computed of these: `as_computed`; `changed` where they, or the version, its configuration or its fit,
    /// are others by now; `unknown` while that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs_are: Option<&'static str>,
    /// The log position of the newest event that the computation had seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<u64>,
    /// What had it computed: an `event` of the person, `time` that passed, an `import`, a `merge`, an `undo`, a `change` of the
    /// version, its configuration, its fit or the installation, or a `rebuild` from the log; absent where it was not noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_off_by: Option<&'static str>,
    /// The event behind it: that at `cause`, or where that is none of the person's, the last one that the inputs had read by then, as
    /// far as the newest 512 tell; `null` where none is found any more.
    event: Option<OriginEventBody>,
    /// What is `null` because the data dictionary calls it sensitive and the key has no scope `sensitive:read`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<String>,
}

/// A version of a plugin, as what it wrote leads to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginPluginBody {
    installation: String,
    /// `vendor/name`; `null` where nothing is known of the installation any more.
    plugin: Option<String>,
    /// `null` where the version was deleted, or was not noted when the event came.
    version: Option<String>,
    /// SHA-256 of the component; `null` where it was not noted when the event came.
    digest: Option<String>,
}

/// One input of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginInputBody {
    name: String,
    /// `null` where it reads what the key may not see.
    expression: Option<String>,
    /// `null` where it is not known, too long to be shown, or reads what the key may not see.
    #[schema(value_type = Value)]
    value: Box<RawValue>,
}

/// An event with what read it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginEventBody {
    /// The version of the connector that read it, or of the model that emitted it; `null` for what the kernel wrote itself.
    by: Option<OriginPluginBody>,
    /// Whether it is part of the person's history still; what a correction took the place of is not.
    counts: bool,
    event: EventBody,
}

/// The version of an installation's plugin that has a digest.
pub(super) fn plugin_of(
    tables: &WorkspaceTables,
    installation: InstallationId,
    digest: Option<&str>,
    version: Option<&str>,
) -> OriginPluginBody {
    let row = tables.installations.get(&installation);
    let known = || {
        let (plugin, digest) = (&row?.plugin, digest?);
        let found = tables.versions(plugin).find(|version| version.digest == digest)?;
        Some(found.manifest.version.to_string())
    };
    OriginPluginBody {
        installation: tables.installation_name(installation),
        plugin: row.map(|row| row.plugin.to_string()),
        version: version.map(str::to_owned).or_else(known),
        digest: digest.map(str::to_owned),
    }
}

fn origin_event(tables: &WorkspaceTables, found: &EventProvenance, mask: &Mask) -> OriginEventBody {
    OriginEventBody {
        by: reader_of(tables, found),
        counts: found.counts,
        event: event_body(tables, &found.recorded, mask),
    }
}

/// The version of the connector that read an event, or of the model that emitted it. A message's end is told by the kernel itself,
/// which names the channel.
fn reader_of(tables: &WorkspaceTables, found: &EventProvenance) -> Option<OriginPluginBody> {
    let event = &found.recorded.event;
    let reader = found.reader.as_ref();
    if event.origin == EventOrigin::Kernel && reader.is_none() {
        return None;
    }
    let (version, digest) = (reader.map(|(version, _)| version.as_str()), reader.map(|(_, digest)| digest.as_str()));
    Some(plugin_of(tables, event.source, digest, version))
}

fn input_body(input: InputProvenance, mask: &Mask, withheld: &mut Vec<String>) -> OriginInputBody {
    let hidden = mask.hidden_in(&input.expression).is_some();
    withheld.extend(hidden.then(|| format!("inputs.{}", input.name)));
    let value = input.json.filter(|_| !hidden);
    OriginInputBody {
        name: input.name,
        expression: (!hidden).then_some(input.expression),
        value: json(value.as_deref().unwrap_or("null")),
    }
}

fn of_value(
    tables: &WorkspaceTables,
    (kind, name): (ComputedKind, String),
    found: ValueProvenance,
    mask: &Mask,
) -> OriginBody {
    let mut withheld = Vec::new();
    let (from, set_off_by) = (&found.provenance, set_off_by(&found));
    let inputs = found.inputs.into_iter().map(|input| input_body(input, mask, &mut withheld)).collect();
    let inputs_are = match found.state {
        InputState::AsComputed => "as_computed",
        InputState::Changed => "changed",
        InputState::Unknown => "unknown",
    };
    OriginBody {
        kind: kind_name(kind),
        name,
        value: Some(json(&found.json)),
        by: Some(plugin_of(tables, from.installation, Some(&from.digest), None)),
        fit: Some(from.fit),
        at: time(from.computed_at),
        inputs: Some(inputs),
        inputs_are: Some(inputs_are),
        cause: Some(from.cause.0),
        set_off_by,
        event: found.cause.or(found.behind).map(|event| origin_event(tables, &event, mask)),
        withheld,
    }
}

/// What had a value computed.
fn set_off_by(found: &ValueProvenance) -> Option<&'static str> {
    match found.set_off_by {
        Cause::Event => found.cause.as_ref().map(|_| "event"),
        Cause::Time => Some("time"),
        Cause::Import => Some("import"),
        Cause::Merge => Some("merge"),
        Cause::Undo => Some("undo"),
        Cause::Change => Some("change"),
        Cause::Rebuild => Some("rebuild"),
    }
}

/// How a kind of computed value is called.
pub(super) fn kind_name(kind: ComputedKind) -> &'static str {
    match kind {
        ComputedKind::Tag => "tag",
        ComputedKind::Score => "score",
    }
}

fn of_fact(tables: &WorkspaceTables, name: String, found: &FactProvenance, mask: &Mask) -> OriginBody {
    let hidden = mask.hides_trait(&name);
    let event = found.event.as_ref();
    let by = match event {
        Some(event) => reader_of(tables, event),
        None => Some(plugin_of(tables, found.value.source, None, None)),
    };
    OriginBody {
        kind: "trait",
        value: Some(json(if hidden { "null" } else { &found.value.json })),
        by,
        fit: None,
        at: time(found.value.received_at),
        inputs: None,
        inputs_are: None,
        cause: event.map(|event| event.recorded.position.0),
        set_off_by: None,
        event: event.map(|event| origin_event(tables, event, mask)),
        withheld: hidden.then(|| format!("traits.{name}")).into_iter().collect(),
        name,
    }
}

fn of_event(tables: &WorkspaceTables, found: &EventProvenance, mask: &Mask) -> OriginBody {
    OriginBody {
        kind: "event",
        name: found.recorded.event.name.clone(),
        value: None,
        by: reader_of(tables, found),
        fit: None,
        at: time(found.recorded.event.received_at),
        inputs: None,
        inputs_are: None,
        cause: None,
        set_off_by: None,
        event: Some(origin_event(tables, found, mask)),
        withheld: Vec::new(),
    }
}

/// Where a tag, a score, a trait or an event of a person comes from: the plugin, its version and digest; for a computed value the
/// fit, the inputs and the event behind it.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/provenance", tag = "profiles", params(("id" = String, Path), OriginQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = OriginBody), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn provenance(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Query(query): Query<OriginQuery>,
) -> Result<WrittenJson, ApiError> {
    let (profile, subject) = (profile_id(&id)?, query.subject()?);
    app.reads.note(&authority.caller, "profile.provenance", [person(profile)]);
    app.ask(move |app, patience| {
        let workspace = authority.caller.workspace;
        let tables = app.catalogue.workspace(workspace)?;
        let mask = Mask::new(&tables, &authority.caller);
        if app.kernel.profile_named(workspace, profile)?.is_none() {
            return Err(no_profile(&id));
        }
        WrittenJson::of(&origin(app, (&*tables, profile), subject, &mask, patience)?)
    })
    .await
}

fn origin(
    app: &App,
    (tables, profile): (&WorkspaceTables, ProfileId),
    subject: Subject,
    mask: &Mask,
    patience: &Patience,
) -> Result<OriginBody, ApiError> {
    let workspace = tables.row.id;
    let missing = |what: &str, name: &str| {
        ApiError::missing(format!("the person has no {what} `{}`", name.chars().take(64).collect::<String>()))
    };
    match subject {
        Subject::Value(kind, name) => {
            let found = app.kernel.value_provenance(workspace, profile, (kind, &name), patience)?;
            let found = found.ok_or_else(|| missing(kind_name(kind), &name))?;
            Ok(of_value(tables, (kind, name), found, mask))
        }
        Subject::Fact(name) => {
            let found = app.kernel.fact_provenance(workspace, profile, &name)?;
            let found = found.ok_or_else(|| missing("trait", &name))?;
            Ok(of_fact(tables, name, &found, mask))
        }
        Subject::Event(position) => {
            let found = app.kernel.event_provenance(workspace, profile, Position(position))?;
            let found = found.ok_or_else(|| missing("event at position", &position.to_string()))?;
            Ok(of_event(tables, &found, mask))
        }
    }
}
