//! A version that runs beside an installation's live one: it is asked the same, nothing of it counts, and what came of it is shown
//! beside what came of the live one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::ProfileId;
use kith_model::plugin::{InstallationMode, PluginKind};
use kith_pipeline::{OutputComparison, ShadowExample, ShadowFailure, ShadowSide, ShadowView, SkippedCounts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::body::tag;
use super::edit::{CheckedConfig, WantedConfig, check_sight};
use super::seen::may_read_words;
use super::trial::Trial;
use super::versions::{check_digest, pick_version};
use super::widening::widened;
use super::{named, present_version};
use crate::api::etag::{IfMatch, TaggedBody};
use crate::api::extract::{Authority, Json, Path, right};
use crate::api::plugins::insist_on_offered;
use crate::api::profiles::person;
use crate::api::signatures::insist_on_trust;
use crate::api::view::time;
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::draft::unshown::unshown_places;
use crate::catalogue::{CatalogueError, Draft, InstallationRow, PluginRow, ShadowRow};
use crate::error::{ApiError, Problem};
use crate::wiring::ShadowProblem;

/// What the audit log calls each change of it.
const ACTION: &str = "installation.shadow";

/// Which version is to run beside the live one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedShadow {
    version: String,
    /// `sha256:` and the digest that its component must have.
    #[schema(pattern = "^(sha256:)?[0-9A-Fa-f]{64}$")]
    digest: Option<String>,
}

/// A version that runs beside the live one.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ShadowVersionBody {
    version: String,
    since: String,
}

impl From<&ShadowRow> for ShadowVersionBody {
    fn from(shadow: &ShadowRow) -> ShadowVersionBody {
        ShadowVersionBody { version: shadow.version.to_string(), since: time(shadow.since) }
    }
}

/// What came of a version that runs beside the live one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShadowBody {
    version: String,
    digest: String,
    /// Since when it runs beside the live one.
    since: String,
    live_version: String,
    /// What it makes of the live version's configuration, without what is never shown.
    #[schema(value_type = Value)]
    config: Value,
    /// Whether it is asked. It is not while its installation is held, nor where it cannot be made to run.
    running: bool,
    /// What was compared: `people` or `requests`.
    counts: String,
    /// How many both versions were asked about.
    compared: u64,
    /// How many the live version alone was asked about, because there was no room for more.
    skipped: SkippedBody,
    /// Of those for whom both gave something, in the order of their names.
    outputs: Vec<OutputBody>,
    live: SideBody,
    shadow: SideBody,
    /// How the shadow failed last; `message` is `null` without the scopes of `examples`.
    last_failure: Option<FailureBody>,
    /// The latest differences, the newest first, since the server began; `null` without the scope `profiles:read`, or where the
    /// data dictionary calls something sensitive and the key has no `sensitive:read`.
    examples: Option<Vec<ExampleBody>>,
}

/// What was not compared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedBody {
    /// A comparison of the same installation was under way or waiting.
    busy: u64,
    /// What waits of all installations had no room for it.
    no_room: u64,
    /// The shadow had failed on everybody it was asked about, and was left alone for a while.
    given_up: u64,
}

/// How often an output of the two versions was the same. Of a connector the outputs are `events`, `rejected`, `answer` and
/// `consumed`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputBody {
    name: String,
    /// Both gave the same, or nothing.
    equal: u64,
    changed: u64,
    only_live: u64,
    only_shadow: u64,
}

/// What one of two versions did where they were compared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SideBody {
    /// Of a connector's calls those for one request, as the shadow's are.
    calls: u64,
    /// By the fault's code: people or requests for which it gave nothing. `refused` are a connector's refusals.
    #[schema(value_type = Object)]
    failures: BTreeMap<String, u64>,
    cpu_seconds: f64,
    /// Of an installation with a limit of it.
    fuel: u64,
    call_ms: ShadowTimesBody,
}

/// How long calls took, in milliseconds. The quantiles are up to a half more than it was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShadowTimesBody {
    p50: f64,
    p99: f64,
    longest: f64,
}

/// How a shadow failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailureBody {
    at: String,
    code: String,
    message: Option<String>,
}

/// Something for which the two versions gave different answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExampleBody {
    at: String,
    /// `null` of a connector: a request is of nobody yet.
    profile: Option<String>,
    output: String,
    /// `null` where the live version gave nothing. Long texts are cut.
    #[schema(value_type = Value)]
    live: Value,
    /// `null` where the shadow gave nothing.
    #[schema(value_type = Value)]
    shadow: Value,
}

impl FailureBody {
    pub(super) fn of(failure: ShadowFailure, shows_words: bool) -> FailureBody {
        let ShadowFailure { at, code, message } = failure;
        FailureBody { at: time(at), code, message: shows_words.then_some(message) }
    }
}

impl From<&ShadowSide> for SideBody {
    fn from(side: &ShadowSide) -> SideBody {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        SideBody {
            calls: side.calls,
            failures: side.failures.clone(),
            cpu_seconds: side.processor().as_secs_f64(),
            fuel: side.fuel,
            call_ms: ShadowTimesBody {
                p50: ms(side.quantile(50)),
                p99: ms(side.quantile(99)),
                longest: ms(side.longest()),
            },
        }
    }
}

impl From<&ShadowExample> for ExampleBody {
    fn from(example: &ShadowExample) -> ExampleBody {
        let value = |json: &Option<String>| {
            json.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null)
        };
        ExampleBody {
            at: time(example.at),
            profile: example.profile.map(|profile| profile.to_string()),
            output: example.output.clone(),
            live: value(&example.live),
            shadow: value(&example.shadow),
        }
    }
}

/// What came of the shadow of an installation, as far as the caller may see it, with the installation's tag.
fn shadow_body(app: &App, caller: &Caller, name: &str) -> Result<TaggedBody<ShadowBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let row = named(&tables, name)?;
    let missing = || ApiError::missing(format!("no version runs beside that of `{name}`"));
    let (shadow, plugin) = row.shadow.as_ref().zip(tables.shadow_of(row)).ok_or_else(missing)?;
    let view = app.kernel.shadow(caller.workspace, row.id);
    let running = view.is_some() && row.mode == InstallationMode::Live;
    let ShadowView { report, examples, last_failure } = view.unwrap_or_default();
    let shows_people = may_read_words(app, caller)?;
    if shows_people && (last_failure.is_some() || !examples.is_empty()) {
        let people: BTreeSet<ProfileId> = examples.iter().filter_map(|example| example.profile).collect();
        app.reads.note(caller, "installation.shadow", people.into_iter().map(person));
    }
    let SkippedCounts { busy, no_room, given_up } = report.skipped;
    let output = |(name, counted): (&String, &OutputComparison)| {
        let OutputComparison { equal, changed, only_live, only_shadow } = *counted;
        OutputBody { name: name.clone(), equal, changed, only_live, only_shadow }
    };
    let body = ShadowBody {
        version: shadow.version.to_string(),
        digest: plugin.digest.clone(),
        since: time(shadow.since),
        live_version: row.version.to_string(),
        config: shadow.config.clone(),
        running,
        counts: if plugin.manifest.kind == PluginKind::Connector { "requests" } else { "people" }.to_owned(),
        compared: report.compared,
        skipped: SkippedBody { busy, no_room, given_up },
        outputs: report.outputs.iter().map(output).collect(),
        live: SideBody::from(&report.live),
        shadow: SideBody::from(&report.shadow),
        last_failure: last_failure.map(|failure| FailureBody::of(failure, shows_people)),
        examples: shows_people.then(|| examples.iter().rev().map(ExampleBody::from).collect()),
    };
    Ok(TaggedBody { tag: tag(&tables, row), body })
}

/// What came of the version that runs beside the live one, compared with what came of that.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/shadow", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = ShadowBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read_shadow(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
) -> Result<TaggedBody<ShadowBody>, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| shadow_body(app, &caller, &name)).await
}

/// Have another version run beside the live one, with no more than that has: it is asked about the same people, or given the same
/// requests, after the live one has answered. Its values, its faults, its writes and its requests to hosts count nowhere. With
/// the version that runs beside it already nothing is changed. An upgrade to that version, or to another, ends it.
#[utoipa::path(
    put, path = "/api/v1/installations/{id}/shadow", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")),
    security(("key" = ["plugins:admin", "profiles:read"])),
    request_body = WantedShadow,
    responses(
        (status = 200, body = ShadowBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem, description = "somebody else has changed it"),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn put_shadow(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(wanted): Json<WantedShadow>,
) -> Result<TaggedBody<ShadowBody>, ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.ask(move |app, patience| {
        let checked = CheckedConfig::of(app, patience, &name);
        let trial = Trial { workspace, actor, name: &name, if_match: &if_match, action: ACTION };
        trial.change(app, patience, |draft, before| shadowed(app, draft, before, &wanted, &checked, &caller))?;
        shadow_body(app, &caller, &name)
    })
    .await
}

/// Have no version run beside the live one any more. Its counts go with it. Without one nothing is changed.
#[utoipa::path(
    delete, path = "/api/v1/installations/{id}/shadow", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses(
        (status = 204), (status = 404, body = Problem),
        (status = 412, body = Problem, description = "somebody else has changed it"),
    ),
)]
pub(crate) async fn end_shadow(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.ask(move |app, patience| {
        let trial = Trial { workspace, actor, name: &name, if_match: &if_match, action: ACTION };
        trial.change(app, patience, |_, before| Ok(InstallationRow { shadow: None, ..before.clone() }))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) fn refused(code: &'static str, message: String) -> ApiError {
    ApiError::Conflict { code, message }
}

/// The installation with the version beside its own that is asked for.
fn shadowed(
    app: &App,
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    wanted: &WantedShadow,
    checked: &CheckedConfig<'_>,
    caller: &Caller,
) -> Result<InstallationRow, ApiError> {
    let present = present_version(draft.tables(), before)?;
    let next = pick_version(draft.tables(), &before.plugin, Some(&wanted.version))?;
    check_digest(&next, wanted.digest.as_deref())?;
    let version = &next.manifest.version;
    if before.shadow.as_ref().is_some_and(|shadow| shadow.version == *version) {
        return Ok(before.clone());
    }
    check_comparable(before, (&present, &next))?;
    insist_on_offered(draft.tables(), &next)?;
    insist_on_trust(app, draft.tables(), &next)?;
    let whole = draft.whole_config(before).map_err(CatalogueError::from)?;
    let unshown = unshown_places(before, &next.manifest);
    let config = checked.check(draft, &next, WantedConfig::kept(&before.version, version, whole), &unshown)?;
    // What another version had sealed lies there until it is overwritten.
    let unshown = before.shadow.as_ref().map(|shadow| shadow.unshown.clone()).unwrap_or_default();
    let mut shadow = ShadowRow { version: version.clone(), config: Value::Null, unshown, since: draft.now() };
    draft.put_shadow_config(before, &mut shadow, config, &next.manifest)?;
    let beside = InstallationRow { version: version.clone(), config: shadow.config.clone(), ..before.clone() };
    check_sight(draft, &beside, &next, caller)?;
    if let Some(problem) = app.wiring.refuses_shadow(draft.tables(), before, &shadow, (&present, &next)) {
        let code = match &problem {
            ShadowProblem::OtherInput(_) => "shadow-asks-for-more",
            ShadowProblem::NoFit => "shadow-without-fit",
            ShadowProblem::Memory { .. } => "shadow-too-large",
        };
        return Err(refused(
            code,
            format!("{} {version} cannot run beside {}: {problem}", before.plugin, before.version),
        ));
    }
    Ok(InstallationRow { shadow: Some(shadow), ..before.clone() })
}

/// Insist that two versions can be compared, and that the second has no more than the first.
fn check_comparable(row: &InstallationRow, (present, next): (&PluginRow, &PluginRow)) -> Result<(), ApiError> {
    let (version, kind) = (&next.manifest.version, present.manifest.kind);
    if kind == PluginKind::Channel {
        let message = "a channel has no shadow: what it makes of a message is sent by the kernel, and two versions would need two \
                       messages; use a workspace of your own to try one";
        return Err(refused("shadow-of-channel", message.to_owned()));
    }
    if row.mode != InstallationMode::Live {
        let message = format!("`{}` is switched off; a shadow runs beside what is live", row.name);
        return Err(refused("not-live", message));
    }
    if *version == row.version {
        return Err(refused("live-version", format!("{version} is the live version; name another one")));
    }
    if next.manifest.kind != kind {
        return Err(refused("other-kind", format!("version {version} is a {}, not a {kind}", next.manifest.kind)));
    }
    let more = widened(&present.manifest, &next.manifest);
    if more.is_empty() {
        return Ok(());
    }
    let message = format!(
        "version {version} asks for more than the live one: {}; a shadow has no more than that has, and an upgrade asks for consent",
        more.join(", ")
    );
    Err(refused("shadow-asks-for-more", message))
}

/// The shadow of an installation that is changed: another version of the installation ends it, and so does a switch or a
/// configuration of which it makes nothing.
pub(super) fn kept_shadow(
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    row: &InstallationRow,
    checked: &CheckedConfig<'_>,
) -> Option<ShadowRow> {
    let mut shadow = before.shadow.clone()?;
    if row.version != before.version || row.mode == InstallationMode::Disabled {
        return None;
    }
    if row.config == before.config && row.unshown == before.unshown {
        return Some(shadow);
    }
    let plugin = draft.tables().shadow_of(before)?.clone();
    let whole = draft.whole_config(row).ok()?;
    let unshown = unshown_places(row, &plugin.manifest);
    let config =
        checked.check(draft, &plugin, WantedConfig::kept(&row.version, &shadow.version, whole), &unshown).ok()?;
    draft.put_shadow_config(row, &mut shadow, config, &plugin.manifest).ok()?;
    Some(shadow)
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::HttpRequest;

    use super::*;
    use crate::api::tests::installation_row;
    use crate::api::tests::installations::plugin_row;

    fn version(kind: PluginKind, version: &str) -> PluginRow {
        let mut row = plugin_row("level", kind);
        row.manifest.version = version.parse().unwrap();
        row
    }

    #[test]
    fn a_shadow_is_of_the_same_kind_has_no_more_and_runs_beside_what_is_live() {
        let row = installation_row(901, "level");
        let code = |row: &InstallationRow, present: PluginKind, next: &PluginRow| match check_comparable(
            row,
            (&version(present, "1.0.0"), next),
        ) {
            Ok(()) => "taken",
            Err(ApiError::Conflict { code, .. }) => code,
            Err(other) => panic!("{other:?}"),
        };
        let model = PluginKind::TagModel;
        assert_eq!(code(&row, model, &version(model, "2.0.0")), "taken");
        assert_eq!(code(&row, model, &version(model, "0.9.0")), "taken", "nothing of an older one counts either");
        assert_eq!(code(&row, model, &version(model, "1.0.0")), "live-version");
        assert_eq!(code(&row, model, &version(PluginKind::Scorer, "2.0.0")), "other-kind");
        assert_eq!(code(&row, PluginKind::Channel, &version(PluginKind::Channel, "2.0.0")), "shadow-of-channel");
        let off = InstallationRow { mode: InstallationMode::Disabled, ..row.clone() };
        assert_eq!(code(&off, model, &version(model, "2.0.0")), "not-live");
        let mut wide = version(model, "2.0.0");
        let (host, methods, reason) = ("a.example".to_owned(), vec!["GET".to_owned()], String::new());
        wide.manifest.capabilities.http = vec![HttpRequest { host, methods, reason }];
        assert_eq!(code(&row, model, &wide), "shadow-asks-for-more");
    }
}
