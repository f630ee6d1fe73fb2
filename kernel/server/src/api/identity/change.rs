//! Changes of the identity rules: dry runs, the undo of all that an identifier or a kind of evidence tied, and how far a change has
//! come.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use kith_model::identity::IdentityRules;
use kith_pipeline::{DryRun, RuleChange, RuleEffect, RuleProgress, change_token};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::identifier_at;
use super::rules::{IdentityRulesBody, put};
use crate::api::extract::{Authority, Json as Body, Query, right};
use crate::api::view::IdentifierView;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Problem};
use crate::wiring;

/// How long a dry run is waited for before its progress is answered.
const WAIT: Duration = Duration::from_secs(2);

/// How far a change of rules has come, or its dry run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleChangeProgress {
    /// `weigh`, `replay`, `settle`, in this order, then `done`; empty before the first.
    step: &'static str,
    /// Identifiers whose evidence was looked at.
    weighed: u64,
    /// Events whose evidence was offered.
    events: u64,
    /// Identifiers whose profile was looked at.
    settled: u64,
    /// Identifiers that there are.
    identifiers: u64,
    /// Events that there are.
    events_in_all: u64,
    /// Profiles that stay as they are, because too many others hang together with them.
    too_connected: u64,
    /// Identifiers and events with a row that cannot be read.
    unreadable: u64,
}

/// How many members of an audience would be somebody else.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TouchedBody {
    audience: String,
    members: u64,
}

/// People before and after. Each is a list of identifiers, of which a few are shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleExampleBody {
    before: Vec<Vec<IdentifierView>>,
    after: Vec<Vec<IdentifierView>>,
}

/// What a change would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EffectBody {
    /// The position of the log that the numbers hold for.
    as_of: u64,
    /// Whether they do: nothing came while it was looked.
    exact: bool,
    /// Whether everything was looked at; else the numbers are those of a part.
    complete: bool,
    people_before: u64,
    people_after: u64,
    /// People who would be several.
    parted: u64,
    /// People who would be made of several.
    joined: u64,
    /// Identifiers that would tie nobody any more.
    newly_shared: u64,
    /// Identifiers that would tie again.
    newly_free: u64,
    /// Identifiers that would name nobody any more.
    newly_blocked: u64,
    /// Identifiers that would name somebody again.
    newly_allowed: u64,
    too_connected: u64,
    unreadable: u64,
    /// Of each audience, the members who would be somebody else: people who come apart, are joined, or are no more.
    audiences: Vec<TouchedBody>,
    /// At most ten people who come apart and ten who are joined.
    examples: Vec<RuleExampleBody>,
}

/// A change of rules before it is made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DryRunBody {
    /// Names just this change; whoever sends it confirms it.
    token: String,
    /// `running`, `done` or `failed`; `applied` where the change was confirmed and made.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<RuleChangeProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<EffectBody>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Whether history is tied by the rules in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleChangeBody {
    /// `waiting`, `running` or `done`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<RuleChangeProgress>,
}

/// What is to be undone, or with `back` followed again: all that one identifier tied, or all that one kind of evidence did.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UndoBody {
    /// `TYPE:VALUE`, in any spelling. It goes on naming somebody, and ties nobody.
    identifier: Option<String>,
    /// `same_event`, `alias`, `spelling` or `same_id`, or one of them with a type, e.g. `spelling:phone`.
    evidence: Option<String>,
    /// Whether an undo is taken back.
    #[serde(default)]
    back: bool,
    /// The `token` of the answer without it.
    confirm: Option<String>,
}

/// Which dry run.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRunQuery {
    /// The `token` of the answer that began it.
    token: String,
}

fn progress_body(progress: RuleProgress) -> RuleChangeProgress {
    let RuleProgress { step, weighed, events, settled, identifiers, events_in_all, too_connected, unreadable } =
        progress;
    RuleChangeProgress { step, weighed, events, settled, identifiers, events_in_all, too_connected, unreadable }
}

fn effect_body(app: &App, caller: &Caller, effect: RuleEffect) -> Result<EffectBody, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let people = |people: &[Vec<kith_model::identity::Identifier>]| {
        people.iter().map(|one| one.iter().map(IdentifierView::from).collect()).collect()
    };
    Ok(EffectBody {
        as_of: effect.as_of.0,
        exact: effect.is_exact,
        complete: effect.is_complete,
        people_before: effect.people_before,
        people_after: effect.people_after,
        parted: effect.parted,
        joined: effect.joined,
        newly_shared: effect.newly_shared,
        newly_free: effect.newly_free,
        newly_blocked: effect.newly_nobody,
        newly_allowed: effect.newly_somebody,
        too_connected: effect.too_connected,
        unreadable: effect.unreadable,
        audiences: effect
            .audiences
            .iter()
            .map(|(audience, members)| TouchedBody { audience: tables.audience_name(*audience), members: *members })
            .collect(),
        examples: effect
            .examples
            .iter()
            .map(|example| RuleExampleBody { before: people(&example.before), after: people(&example.after) })
            .collect(),
    })
}

fn dry_run_body(app: &App, caller: &Caller, token: String, run: DryRun) -> Result<DryRunBody, ApiError> {
    let body = DryRunBody { token, state: "running", progress: None, effect: None, reason: None };
    Ok(match run {
        DryRun::Running(progress) => DryRunBody { progress: Some(progress_body(progress)), ..body },
        DryRun::Done(effect) => DryRunBody { state: "done", effect: Some(effect_body(app, caller, *effect)?), ..body },
        DryRun::Failed(reason) => DryRunBody { state: "failed", reason: Some(reason), ..body },
    })
}

/// Begin a dry run, and wait a moment for its end.
async fn dry_run_of(app: &Arc<App>, caller: &Caller, rules: IdentityRules) -> Result<DryRunBody, ApiError> {
    let workspace = caller.workspace;
    let tables = app.catalogue.workspace(workspace)?;
    let token = change_token(workspace, &tables.identity_rules(), &rules);
    let rules = wiring::in_force(&rules);
    drop(tables);
    app.reads.note(caller, "identity.dry-run", []);
    let name = token.clone();
    app.offload(move |app| app.kernel.begin_dry_run(workspace, rules, name)).await?;
    match app.kernel.dry_run_within(workspace, &token, WAIT).await {
        Some(run) => dry_run_body(app, caller, token, run),
        None => Err(superseded()),
    }
}

fn superseded() -> ApiError {
    ApiError::Conflict {
        code: "no-dry-run",
        message: "there is no such dry run any more; a workspace has one at a time, and the newest takes its place"
            .to_owned(),
    }
}

/// What other rules would do: people who come apart or are joined, identifiers that cease or begin to tie, members of audiences
/// touched, with examples. It changes nothing. What takes longer than a moment goes on in the background, and
/// `GET /api/v1/identity/dry-run` tells how far it is and what came of it.
#[utoipa::path(
    post, path = "/api/v1/identity/rules/dry-run", tag = "identity", security(("key" = ["identity:write", "profiles:read"])),
    request_body = IdentityRulesBody,
    responses(
        (status = 200, body = DryRunBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn begin_dry_run(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Body(wanted): Body<IdentityRulesBody>,
) -> Result<Json<DryRunBody>, ApiError> {
    let rules = wanted.checked()?;
    Ok(Json(dry_run_of(&app, &authority.caller, rules).await?))
}

/// How far a dry run has come, and what came of it.
#[utoipa::path(
    get, path = "/api/v1/identity/dry-run", tag = "identity", security(("key" = ["identity:write", "profiles:read"])), params(DryRunQuery),
    responses((status = 200, body = DryRunBody), (status = 400, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn dry_run(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Query(query): Query<DryRunQuery>,
) -> Result<Json<DryRunBody>, ApiError> {
    let run = app.kernel.dry_run(authority.caller.workspace, &query.token).ok_or_else(superseded)?;
    Ok(Json(dry_run_body(&app, &authority.caller, query.token, run)?))
}

/// Whether history is tied by the identity rules in force, and how far a change of them has come. They are in force for what
/// comes from the beginning.
#[utoipa::path(
    get, path = "/api/v1/identity/rules/change", tag = "identity", security(("key" = ["profiles:read"])),
    responses((status = 200, body = RuleChangeBody)),
)]
pub(crate) async fn rule_change(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
) -> Result<Json<RuleChangeBody>, ApiError> {
    let workspace = authority.caller.workspace;
    let change = app.offload(move |app| app.kernel.rule_change(workspace)).await?;
    let (state, progress) = match change {
        RuleChange::Waiting => ("waiting", None),
        RuleChange::Running(progress) => ("running", Some(progress)),
        RuleChange::Done(progress) => ("done", Some(progress)),
    };
    Ok(Json(RuleChangeBody { state, progress: progress.map(progress_body) }))
}

/// The rules with what is to be undone, or without it.
fn undone(before: &IdentityRules, wanted: &UndoBody) -> Result<IdentityRules, ApiError> {
    let mut rules = before.clone();
    let (list, entry, place) = match (&wanted.identifier, &wanted.evidence) {
        (Some(identifier), None) => {
            let came = identifier_at("identifier", identifier)?;
            let normal = before.judge(&came).map_err(|why| {
                ApiError::at("identifier", format!("it {}, so it names nobody and ties nobody", why.reason()))
            })?;
            (&mut rules.ties_nobody, normal.to_string(), "identifier")
        }
        (None, Some(evidence)) => {
            IdentityRules::check_evidence(evidence).map_err(|error| ApiError::at("evidence", error.to_string()))?;
            (&mut rules.unfollowed, evidence.clone(), "evidence")
        }
        _ => return Err(ApiError::at("", "give either `identifier` or `evidence`")),
    };
    match wanted.back {
        false if !list.insert(entry.clone()) => Err(ApiError::at(place, format!("`{entry}` ties nobody already"))),
        true if !list.remove(&entry) => Err(ApiError::at(place, format!("`{entry}` was not undone"))),
        _ => Ok(()),
    }?;
    rules.check().map_err(|error| ApiError::at(error.field, error.problem))?;
    Ok(rules)
}

/// Undo all that one identifier tied, or all that one kind of evidence did. The first request changes nothing: it is answered with
/// what would change and a `token`, and the change is made when it comes again with that token in `confirm`. What was tied comes
/// apart in the background, no message leaves because of it, and it can be taken back with `back`.
#[utoipa::path(
    post, path = "/api/v1/identity/undo", tag = "identity", security(("key" = ["identity:write", "profiles:read"])),
    request_body = UndoBody,
    responses(
        (status = 200, body = DryRunBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Body(wanted): Body<UndoBody>,
) -> Result<Json<DryRunBody>, ApiError> {
    let caller = &authority.caller;
    let workspace = caller.workspace;
    let before = app.catalogue.workspace(workspace)?.identity_rules();
    let rules = undone(&before, &wanted)?;
    if let (Some(text), false) = (&wanted.identifier, wanted.back) {
        let identifier = identifier_at("identifier", text)?;
        let known = app.offload(move |app| app.kernel.profile_by_identifier(workspace, &identifier)).await?;
        known.ok_or_else(|| ApiError::missing(format!("no identifier `{text}`")))?;
    }
    let Some(token) = wanted.confirm else {
        return Ok(Json(dry_run_of(&app, caller, rules).await?));
    };
    // Whoever confirms has seen what it does: the token alone could be worked out.
    let is_of_it = token == change_token(workspace, &before, &rules);
    if is_of_it && !matches!(app.kernel.dry_run(workspace, &token), Some(DryRun::Done(_))) {
        return Err(superseded());
    }
    let action = if wanted.back { "identity.undo-back" } else { "identity.undo" };
    put(&app, workspace, authority.actor(), action, rules, Some(token.clone())).await?;
    Ok(Json(DryRunBody { token, state: "applied", progress: None, effect: None, reason: None }))
}
