//! Audiences: defining, reading, paging through members, explaining, and counting any condition.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kith_model::audience::{Action, Audience, ConsentBasis, ReEntry, Reach};
use kith_model::id::Name;
use kith_model::plugin::PluginKind;
use kith_pipeline::{AudienceStatus, Kernel};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Allowed, Asked, Captured, Input, PageQuery, right};
use super::profiles::profile_id;
use super::view::{Listed, json as parsed, time};
use crate::app::App;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Mistake, Problem};

/// A message for each person who enters.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnEnter {
    /// The channel's installation.
    channel: String,
    /// What the message is for; consent is kept per purpose, e.g. `marketing`.
    purpose: String,
    /// `opt_in` unless told: the person agreed to the purpose. `not_refused`: the person did not refuse it.
    #[serde(default = "opt_in")]
    #[schema(value_type = Option<String>)]
    basis: ConsentBasis,
    /// What the message says.
    #[schema(value_type = Object)]
    payload: Value,
}

fn opt_in() -> ConsentBasis {
    ConsentBasis::OptIn
}

/// An audience to define.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAudience {
    name: String,
    /// The name unless told.
    title: Option<String>,
    /// A CEL expression over features that yields true or false.
    condition: String,
    on_enter: Option<OnEnter>,
}

/// What to change; absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchAudience {
    title: Option<String>,
    condition: Option<String>,
    /// `null` to send nothing any more.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<OnEnter>)]
    on_enter: Option<Option<OnEnter>>,
}

/// Tells a `null` from an absent field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AudienceBody {
    /// By which the routes know it.
    name: String,
    title: String,
    condition: String,
    on_enter: Option<OnEnter>,
    created_at: String,
    /// `null` while it is computed for the first time.
    size: Option<u64>,
    progress: Option<ProgressBody>,
    /// The log position that the size is exact for.
    as_of: u64,
}

/// Profiles looked at of how many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProgressBody {
    done: u64,
    total: u64,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberBody {
    profile: String,
}

/// A condition to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// A CEL expression over features that yields true or false.
    condition: String,
}

/// How many people meet a condition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountBody {
    count: u64,
    /// Whether the count is exact rather than an estimate.
    exact: bool,
    /// How many people there are.
    population: u64,
    /// The log position that the count is exact for.
    as_of: u64,
}

/// Whose membership is explained.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The person's profile id.
    profile: String,
}

fn audience_body(tables: &WorkspaceTables, audience: &Audience, status: &AudienceStatus) -> AudienceBody {
    let on_enter = audience.on_enter.as_ref().map(|action| OnEnter {
        channel: tables.installation_name(action.channel),
        purpose: action.purpose.clone(),
        basis: action.basis,
        payload: parsed(&action.payload),
    });
    AudienceBody {
        name: audience.name.to_string(),
        title: audience.title.clone(),
        condition: audience.condition.clone(),
        on_enter,
        created_at: time(audience.created_at),
        size: status.size,
        progress: status.progress.map(|(done, total)| ProgressBody { done, total }),
        as_of: status.as_of.0,
    }
}

fn named<'a>(tables: &'a WorkspaceTables, name: &str) -> Result<&'a Arc<Audience>, ApiError> {
    let missing = || ApiError::missing(format!("no audience `{}`", name.chars().take(64).collect::<String>()));
    tables.audience(name).ok_or_else(missing)
}

/// An audience as the routes show it, with its present size.
fn shown(app: &App, workspace: kith_model::id::WorkspaceId, name: &str) -> Result<AudienceBody, ApiError> {
    let tables = app.catalogue.workspace(workspace)?;
    let audience = named(&tables, name)?;
    let status = app.kernel.audience(workspace, audience.id)?;
    Ok(audience_body(&tables, audience, &status))
}

fn check_condition(condition: &str) -> Result<(), ApiError> {
    Kernel::check_expression(condition).map_err(|error| bad_expression("condition", &error))
}

/// A mistake in an expression, with its place in the text.
pub(crate) fn bad_expression(path: &str, error: &kith_features::ExpressionError) -> ApiError {
    let message = format!("line {}, column {}: {}", error.line, error.column, error.message);
    let mistakes = vec![Mistake { path: path.to_owned(), message }];
    ApiError::BadInput { code: "bad-expression", message: format!("{path}: {error}"), mistakes }
}

fn enter_action(tables: &WorkspaceTables, wanted: OnEnter) -> Result<Action, ApiError> {
    let channel = tables
        .installation(&wanted.channel)
        .filter(|row| tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Channel));
    let missing = || ApiError::at("on_enter.channel", format!("no installed channel `{}`", wanted.channel));
    let channel = channel.ok_or_else(missing)?.id;
    if !wanted.payload.is_object() {
        return Err(ApiError::at("on_enter.payload", "write a JSON object"));
    }
    if wanted.purpose.is_empty() {
        return Err(ApiError::at("on_enter.purpose", "say what the message is for, e.g. marketing"));
    }
    let payload = wanted.payload.to_string();
    Ok(Action {
        channel,
        purpose: wanted.purpose,
        basis: wanted.basis,
        payload,
        re_entry: ReEntry::default(),
        existing: Reach::default(),
        imports: Reach::default(),
    })
}

fn audited(audience: &Audience) -> Option<Value> {
    serde_json::to_value(audience).ok()
}

/// Define an audience. Its members are computed in the background.
#[utoipa::path(
    post, path = "/api/v1/audiences", tag = "audiences", security(("key" = ["audiences:write"])),
    request_body = NewAudience,
    responses((status = 201, body = AudienceBody), (status = 400, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesWrite>,
    Input(wanted): Input<NewAudience>,
) -> Result<(StatusCode, Json<AudienceBody>), ApiError> {
    let (workspace, actor) = (allowed.caller.workspace, allowed.actor());
    let name: Name =
        wanted.name.parse().map_err(|error: kith_model::id::InvalidId| ApiError::at("name", error.to_string()))?;
    check_condition(&wanted.condition)?;
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            if draft.tables().audience(name.as_str()).is_some() {
                let message = format!("there is an audience `{name}` already");
                return Err(ApiError::Conflict { code: "name-taken", message });
            }
            let on_enter = wanted.on_enter.map(|action| enter_action(draft.tables(), action)).transpose()?;
            let audience = Audience {
                id: draft.next_audience()?,
                title: wanted.title.unwrap_or_else(|| name.to_string()),
                name: name.clone(),
                condition: wanted.condition,
                on_enter,
                on_exit: None,
                created_at: draft.now(),
            };
            draft.audit("audience.create", &name, None, audited(&audience))?;
            draft.put_audience(audience)?;
            Ok(())
        })?;
        Ok((StatusCode::CREATED, Json(shown(app, workspace, name.as_str())?)))
    })
    .await
}

/// All audiences of the workspace.
#[utoipa::path(
    get, path = "/api/v1/audiences", tag = "audiences", security(("key" = ["audiences:read"])),
    responses((status = 200, body = Listed<AudienceBody>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesRead>,
) -> Result<Json<Listed<AudienceBody>>, ApiError> {
    let workspace = allowed.caller.workspace;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let all = tables.audiences.values().map(|audience| {
            let status = app.kernel.audience(workspace, audience.id)?;
            Ok(audience_body(&tables, audience, &status))
        });
        Ok(Json(Listed::whole(all.collect::<Result<_, ApiError>>()?)))
    })
    .await
}

/// One audience with its size.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:read"])),
    responses((status = 200, body = AudienceBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesRead>,
    Captured(name): Captured<String>,
) -> Result<Json<AudienceBody>, ApiError> {
    let workspace = allowed.caller.workspace;
    app.offload(move |app| shown(app, workspace, &name).map(Json)).await
}

/// Change an audience: what is absent stays.
#[utoipa::path(
    patch, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:write"])),
    request_body = PatchAudience,
    responses((status = 200, body = AudienceBody), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesWrite>,
    Captured(name): Captured<String>,
    Input(patch): Input<PatchAudience>,
) -> Result<Json<AudienceBody>, ApiError> {
    let (workspace, actor) = (allowed.caller.workspace, allowed.actor());
    patch.condition.as_deref().map(check_condition).transpose()?;
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let before = Audience::clone(named(draft.tables(), &name)?);
            let mut audience = before.clone();
            audience.title = patch.title.unwrap_or(audience.title);
            audience.condition = patch.condition.unwrap_or(audience.condition);
            if let Some(action) = patch.on_enter {
                audience.on_enter = action.map(|action| enter_action(draft.tables(), action)).transpose()?;
            }
            draft.audit("audience.change", &name, audited(&before), audited(&audience))?;
            draft.put_audience(audience)?;
            Ok(())
        })?;
        shown(app, workspace, &name).map(Json)
    })
    .await
}

/// Remove an audience.
#[utoipa::path(
    delete, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:write"])),
    responses((status = 204), (status = 404, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesWrite>,
    Captured(name): Captured<String>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (allowed.caller.workspace, allowed.actor());
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let before = Audience::clone(named(draft.tables(), &name)?);
            draft.remove_audience(before.id);
            draft.audit("audience.remove", &name, audited(&before), None)?;
            Ok(StatusCode::NO_CONTENT)
        })
    })
    .await
}

/// An audience's members.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}/members", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name"), PageQuery),
    security(("key" = ["audiences:read"])),
    responses((status = 200, body = Listed<MemberBody>), (status = 404, body = Problem)),
)]
pub(crate) async fn members(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesRead>,
    Captured(name): Captured<String>,
    Asked(page): Asked<PageQuery>,
) -> Result<Json<Listed<MemberBody>>, ApiError> {
    let (workspace, limit) = (allowed.caller.workspace, page.limit()?);
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let id = named(&tables, &name)?.id;
        let page = app.kernel.audience_members(workspace, id, limit, page.cursor.as_deref())?;
        let items = page.members.iter().map(|profile| MemberBody { profile: profile.to_string() }).collect();
        Ok(Json(Listed { items, next: page.next }))
    })
    .await
}

/// Why a person is, or is not, in an audience.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}/explain", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name"), ExplainQuery),
    security(("key" = ["audiences:read"])),
    responses((status = 200, body = Object), (status = 404, body = Problem)),
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesRead>,
    Captured(name): Captured<String>,
    Asked(query): Asked<ExplainQuery>,
) -> Result<Json<Value>, ApiError> {
    let workspace = allowed.caller.workspace;
    let profile = profile_id(&query.profile)?;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let audience = named(&tables, &name)?;
        let explained = app.kernel.explain(workspace, audience.id, profile)?;
        let explained = explained.ok_or_else(|| ApiError::missing(format!("no profile `{profile}`")))?;
        Ok(Json(json!({ "audience": name, "profile": profile.to_string(), "explanation": explained })))
    })
    .await
}

/// Count the people who meet a condition.
#[utoipa::path(
    post, path = "/api/v1/audiences/count", tag = "audiences", security(("key" = ["audiences:read"])),
    request_body = Condition,
    responses((status = 200, body = CountBody), (status = 400, body = Problem)),
)]
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::AudiencesRead>,
    Input(wanted): Input<Condition>,
) -> Result<Json<CountBody>, ApiError> {
    let workspace = allowed.caller.workspace;
    let counted = app.offload(move |app| app.kernel.count(workspace, &wanted.condition)).await?;
    let (count, population, as_of) = (counted.count, counted.population, counted.as_of.0);
    Ok(Json(CountBody { count, exact: true, population, as_of }))
}
