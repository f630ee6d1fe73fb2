//! Tracking plans: what sources are expected to send, edited as one document each.

mod check;
mod places;
mod suggest;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::budget::table;
use kith_model::id::{InstallationName, Name, WorkspaceId};
use kith_model::objects::Objects;
use kith_model::plugin::PluginKind;
use kith_model::tracking::{Policy, TrackingPlan};
use kith_pipeline::Patience;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub(crate) use check::*;
pub(crate) use suggest::*;

use super::etag::{self, IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, check_text, right};
use super::installations::merged;
use super::view::{Page, time};
use super::words;
use crate::app::App;
use crate::catalogue::tracking::{ExpectedRow, TrackingPlanRow};
use crate::catalogue::{Actor, Draft, WorkspaceTables};
use crate::error::{ApiError, Mistake, Problem};
use crate::processor;
use crate::wiring::tracking::compile;
use places::MeasuredPlans;

/// The longest name of an event that an event can have.
const MAX_EVENT_NAME: usize = 256;

/// What sources are expected to send. What is absent or null has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PlanDocument {
    /// For people; the name unless told.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "or_default")]
    title: String,
    /// The sources that it is of, by their names; all that no other plan names, unless told. A source has one plan.
    #[schema(value_type = Option<Vec<String>>)]
    sources: Option<BTreeSet<String>>,
    /// What becomes of `track` events whose name is not among `events`: `allow` takes and counts them, `flag` takes them with a
    /// flag, `reject` sets them aside.
    #[schema(value_type = Option<String>, pattern = "^(allow|flag|reject)$")]
    #[serde(deserialize_with = "or_default")]
    unplanned: Policy,
    /// What is expected of each event, by its name.
    #[schema(value_type = Option<BTreeMap<String, ExpectedBody>>)]
    #[serde(deserialize_with = "or_default")]
    events: BTreeMap<String, ExpectedBody>,
    /// What is expected of traits, whatever event brings them.
    traits: Option<ExpectedBody>,
}

/// What is expected of the properties of one event, or of traits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExpectedBody {
    /// What becomes of an event that does not meet the schema: `allow`, `flag` or `reject`.
    #[schema(value_type = Option<String>, pattern = "^(allow|flag|reject)$")]
    #[serde(deserialize_with = "or_default")]
    policy: Policy,
    /// JSON Schema (2020-12) of the properties as one object; any are as expected where there is none.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// For people.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "or_default")]
    description: String,
}

/// A value, or its default where there is null: so a change puts back what it names.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(reader).map(Option::unwrap_or_default)
}

/// A tracking plan: its document, with its name and when it was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanBody {
    name: String,
    title: String,
    sources: Option<BTreeSet<String>>,
    #[schema(value_type = String, pattern = "^(allow|flag|reject)$")]
    unplanned: Policy,
    events: BTreeMap<String, ExpectedBody>,
    traits: Option<ExpectedBody>,
    updated_at: String,
}

impl From<&ExpectedRow> for ExpectedBody {
    fn from(row: &ExpectedRow) -> ExpectedBody {
        ExpectedBody { policy: row.policy, schema: row.schema.clone(), description: row.description.clone() }
    }
}

impl From<ExpectedBody> for ExpectedRow {
    fn from(body: ExpectedBody) -> ExpectedRow {
        ExpectedRow { policy: body.policy, schema: body.schema, description: body.description }
    }
}

impl From<&TrackingPlanRow> for PlanDocument {
    fn from(row: &TrackingPlanRow) -> PlanDocument {
        PlanDocument {
            title: row.title.clone(),
            sources: row.sources.as_ref().map(|names| names.iter().map(ToString::to_string).collect()),
            unplanned: row.unplanned,
            events: row.events.iter().map(|(name, expected)| (name.clone(), expected.into())).collect(),
            traits: row.traits.as_ref().map(ExpectedBody::from),
        }
    }
}

impl From<&TrackingPlanRow> for PlanBody {
    fn from(row: &TrackingPlanRow) -> PlanBody {
        let PlanDocument { title, sources, unplanned, events, traits } = row.into();
        let (name, updated_at) = (row.name.to_string(), time(row.updated_at));
        PlanBody { name, title, sources, unplanned, events, traits, updated_at }
    }
}

fn tag(row: &TrackingPlanRow) -> String {
    etag::tag(&PlanDocument::from(row))
}

fn tagged(row: &TrackingPlanRow) -> TaggedBody<PlanBody> {
    TaggedBody { tag: tag(row), body: row.into() }
}

fn named<'a>(tables: &'a WorkspaceTables, name: &str) -> Result<&'a Arc<TrackingPlanRow>, ApiError> {
    let missing = || ApiError::missing(format!("no tracking plan `{}`", name.chars().take(64).collect::<String>()));
    tables.tracking.get(name).ok_or_else(missing)
}

/// The row of a document: everything that is wrong in it is named with its place, and its schemas were made ready once.
fn checked(draft: &Draft<'_>, name: &Name, document: PlanDocument) -> Result<TrackingPlanRow, ApiError> {
    check_text(&table::TITLE_TEXT, &document.title)?;
    for (event, expected) in &document.events {
        if event.is_empty() || event.len() > MAX_EVENT_NAME {
            let place = event.chars().take(64).collect::<String>();
            return Err(ApiError::at(
                format!("events.{place}"),
                format!("an event's name has 1 to {MAX_EVENT_NAME} bytes"),
            ));
        }
        check_text(&table::MANIFEST_WORDS, &expected.description)?;
    }
    let sources = document.sources.map(|sources| {
        let known = |(place, source): (usize, String)| is_connector(draft.tables(), place, &source);
        sources.into_iter().enumerate().map(known).collect::<Result<BTreeSet<InstallationName>, ApiError>>()
    });
    let row = TrackingPlanRow {
        title: if document.title.is_empty() { name.to_string() } else { document.title },
        name: name.clone(),
        sources: sources.transpose()?,
        unplanned: document.unplanned,
        events: document.events.into_iter().map(|(name, expected)| (name, expected.into())).collect(),
        traits: document.traits.map(ExpectedRow::from),
        updated_at: draft.now(),
    };
    insist_on_one_plan_each(draft.tables(), &row)?;
    insist_on_room(draft.tables(), &row)?;
    Ok(row)
}

/// Insist that the workspace has room for the plan. One that becomes no larger is taken, or who has too many could not put them in
/// order.
fn insist_on_room(tables: &WorkspaceTables, row: &TrackingPlanRow) -> Result<(), ApiError> {
    let bytes = |row: &TrackingPlanRow| {
        let document = serde_json::to_vec(&PlanDocument::from(row));
        document.map(|text| text.len() as u64).map_err(|error| ApiError::internal("writing a tracking plan", error))
    };
    let before = tables.tracking.get(row.name.as_str());
    if before.is_none() && tables.tracking.len() as u64 >= table::TRACKING_PLANS_KEPT.default {
        return Err(table::TRACKING_PLANS_KEPT.exhausted(table::TRACKING_PLANS_KEPT.default, None).into());
    }
    let (is, was) = (bytes(row)?, before.map_or(Ok(0), |before| bytes(before))?);
    let others = tables.tracking.values().filter(|other| other.name != row.name);
    let all = others.map(|other| bytes(other)).sum::<Result<u64, ApiError>>()?.saturating_add(is);
    if all > table::TRACKING_PLAN_BYTES_KEPT.default && is > was {
        return Err(table::TRACKING_PLAN_BYTES_KEPT.exhausted(table::TRACKING_PLAN_BYTES_KEPT.default, None).into());
    }
    Ok(())
}

fn is_connector(tables: &WorkspaceTables, place: usize, source: &str) -> Result<InstallationName, ApiError> {
    let row = tables
        .installation(source)
        .filter(|row| tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Connector));
    let unknown = || ApiError::at(format!("sources[{place}]"), format!("there is no source `{source}`"));
    row.map(|row| row.name.clone()).ok_or_else(unknown)
}

/// The plan of a row, ready to judge. A schema that is none or too much is refused, with its place in the document.
fn ready(row: &TrackingPlanRow) -> Result<TrackingPlan, ApiError> {
    compile(row, |place, mistake| {
        let path = format!("{place}.schema{}", mistake.path.replace('/', "."));
        let message = format!("{path}: {}", mistake.message);
        let mistakes = vec![Mistake { path, message: mistake.message.clone() }];
        Err(ApiError::BadInput { code: "bad-schema", message, mistakes })
    })
}

fn insist_on_one_plan_each(tables: &WorkspaceTables, row: &TrackingPlanRow) -> Result<(), ApiError> {
    let others = tables.tracking.values().filter(|other| other.name != row.name);
    for other in others {
        let shared = match (&row.sources, &other.sources) {
            (None, None) => Some("every source that no other plan names".to_owned()),
            (Some(one), Some(other)) => one.intersection(other).next().map(|source| format!("the source `{source}`")),
            _ => None,
        };
        if let Some(shared) = shared {
            let message = format!("the tracking plan `{}` is of {shared} already; a source has one plan", other.name);
            return Err(ApiError::Conflict { code: "plan-taken", message });
        }
    }
    Ok(())
}

/// Keep the plan that `edit` makes of the present one.
fn save(
    app: &Arc<App>,
    (workspace, actor): (WorkspaceId, Actor),
    name: &Name,
    if_match: &IfMatch,
    edit: impl Fn(Option<&TrackingPlanRow>) -> Result<PlanDocument, ApiError>,
) -> Result<TaggedBody<PlanBody>, ApiError> {
    // Made on paper first, so that the schemas are ready before anybody has to wait for the change.
    let rehearsed: RefCell<Option<PlanDocument>> = RefCell::new(None);
    let measured = MeasuredPlans::default();
    app.change_after_loading(workspace, actor, &Patience::default(), |draft| {
        let before = draft.tables().tracking.get(name.as_str()).cloned();
        if_match.check_made(&format!("tracking plan `{name}`"), before.as_deref().map(|before| move || tag(before)))?;
        let row = checked(draft, name, edit(before.as_deref())?)?;
        if before.as_deref().is_some_and(|before| PlanDocument::from(before) == PlanDocument::from(&row)) {
            return Ok(before.as_deref().map(tagged));
        }
        let document = PlanDocument::from(&row);
        if draft.is_rehearsal() {
            measured.insist(&draft.tables().tracking, &row)?;
            ready(&row)?;
            rehearsed.replace(Some(document));
        } else if rehearsed.borrow().as_ref() != Some(&document) {
            let message = "the tracking plan was changed at the same moment; look again".to_owned();
            return Err(ApiError::Conflict { code: "changed-meanwhile", message });
        } else {
            // Another plan may have taken the room since.
            measured.insist(&draft.tables().tracking, &row)?;
        }
        let shown = |row: &TrackingPlanRow| serde_json::to_value(PlanDocument::from(row)).ok();
        let action = if before.is_some() { "tracking-plan.change" } else { "tracking-plan.create" };
        draft.audit(action, name, before.as_deref().and_then(shown), shown(&row))?;
        let answer = tagged(&row);
        draft.put_tracking_plan(row);
        Ok(Some(answer))
    })?
    .ok_or_else(|| ApiError::missing("the tracking plan is gone"))
}

fn name_of(text: &str) -> Result<Name, ApiError> {
    text.parse().map_err(|error: kith_model::id::InvalidId| ApiError::at("name", error.to_string()))
}

/// All tracking plans of the workspace, by their names.
#[utoipa::path(
    get, path = "/api/v1/tracking-plans", tag = "tracking", params(PageQuery), security(("key" = ["audiences:read"])),
    responses((status = 200, body = Page<PlanBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    // All plans together may be of megabytes.
    processor::is_large_from_now_on();
    app.offload(move |app| {
        let tables = app.catalogue.workspace(authority.caller.workspace)?;
        let all = tables.tracking.iter().map(|(name, row)| (name.clone(), row));
        WrittenJson::of(&Page::of(all, &page, |row| Ok(PlanBody::from(row.as_ref())))?)
    })
    .await
}

/// One tracking plan.
#[utoipa::path(
    get, path = "/api/v1/tracking-plans/{id}", tag = "tracking",
    params(("id" = String, Path, pattern = "^[a-z][a-z0-9-]{0,63}$", description = "the plan's name")), security(("key" = ["audiences:read"])),
    responses((status = 200, body = PlanBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Path(name): Path<String>,
) -> Result<TaggedBody<PlanBody>, ApiError> {
    let tables = app.catalogue.workspace(authority.caller.workspace)?;
    Ok(tagged(named(&tables, &name)?))
}

/// Make a tracking plan, or replace it: what is absent has its default. It holds for what is received from then on.
#[utoipa::path(
    put, path = "/api/v1/tracking-plans/{id}", tag = "tracking",
    params(("id" = String, Path, pattern = "^[a-z][a-z0-9-]{0,63}$", description = "the plan's name")), security(("key" = ["plugins:admin"])),
    request_body = PlanDocument,
    responses(
        (status = 200, body = PlanBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(document): Json<PlanDocument>,
) -> Result<TaggedBody<PlanBody>, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    let name = name_of(&name)?;
    app.offload(move |app| save(app, who, &name, &if_match, |_| Ok(document.clone()))).await
}

/// Change a tracking plan: merged into the present one (RFC 7396). What is absent stays, and `null` takes an event or a schema out.
#[utoipa::path(
    patch, path = "/api/v1/tracking-plans/{id}", tag = "tracking",
    params(("id" = String, Path, pattern = "^[a-z][a-z0-9-]{0,63}$", description = "the plan's name")), security(("key" = ["plugins:admin"])),
    request_body = PlanDocument,
    responses(
        (status = 200, body = PlanBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(patch): Json<serde_json::Map<String, Value>>,
) -> Result<TaggedBody<PlanBody>, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    let name = name_of(&name)?;
    let patch = Value::Object(patch);
    app.offload(move |app| {
        save(app, who, &name, &if_match, |before| {
            let before = before.ok_or_else(|| ApiError::missing(format!("no tracking plan `{name}`")))?;
            let present = serde_json::to_value(PlanDocument::from(before))
                .map_err(|error| ApiError::internal("writing a tracking plan", error))?;
            let document = merged(&present, &patch);
            serde_path_to_error::deserialize(Objects(&document))
                .map_err(|error| ApiError::at(error.path().to_string(), words::plain(&error.inner().to_string())))
        })
    })
    .await
}

/// Remove a tracking plan: its sources have the one of all, if there is one.
#[utoipa::path(
    delete, path = "/api/v1/tracking-plans/{id}", tag = "tracking",
    params(("id" = String, Path, pattern = "^[a-z][a-z0-9-]{0,63}$", description = "the plan's name")), security(("key" = ["plugins:admin"])),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let before = Arc::clone(named(draft.tables(), &name)?);
            if_match.check(&format!("tracking plan `{}`", before.name), || tag(&before))?;
            draft.audit(
                "tracking-plan.remove",
                &name,
                serde_json::to_value(PlanDocument::from(&*before)).ok(),
                None,
            )?;
            draft.remove_tracking_plan(&name);
            Ok(StatusCode::NO_CONTENT)
        })
    })
    .await
}
