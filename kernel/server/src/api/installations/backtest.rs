//! A version that is tried over what is stored: everybody is looked at once, nothing of it counts, and what an upgrade to it would
//! change is shown.

mod shown;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::ProfileId;
use kith_model::plugin::{InstallationMode, PluginKind};
use kith_pipeline::BacktestState;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::body::tag;
use super::changes::merged;
use super::edit::{CheckedConfig, WantedConfig, check_sensitive, check_sight};
use super::seen::may_read_words;
use super::shadow::refused;
use super::trial::Trial;
use super::versions::{check_digest, pick_version};
use super::widening::widened;
use super::{named, present_version};
use crate::api::etag::{IfMatch, TaggedBody};
use crate::api::extract::{Authority, Json, Path, right};
use crate::api::plugins::insist_on_offered;
use crate::api::profiles::person;
use crate::api::signatures::insist_on_trust;
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::draft::unshown::unshown_places;
use crate::catalogue::{BacktestRow, CatalogueError, Draft, InstallationRow, PluginRow, WorkspaceTables};
use crate::error::{ApiError, Problem};
use crate::wiring::ShadowProblem;

pub(crate) use shown::BacktestBody;
use shown::{BacktestSight, shown};

/// What the audit log calls each change of it.
const ACTION: &str = "installation.backtest";

/// Which version is to be tried over what is stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedBacktest {
    /// The live one too, to try another configuration.
    version: String,
    /// `sha256:` and the digest that its component must have.
    #[schema(pattern = "^(sha256:)?[0-9A-Fa-f]{64}$")]
    digest: Option<String>,
    /// What to change of the configuration with it: members take the place of present ones, `null` takes one out. What is never
    /// shown stays the installation's own.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    /// Let it see what it asks for beyond the live version, for the backtest alone.
    #[serde(default)]
    consent: bool,
}

/// What came of the backtest of an installation, as far as the caller may see it, with the installation's tag.
fn backtest_body(app: &App, caller: &Caller, name: &str) -> Result<TaggedBody<BacktestBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let row = named(&tables, name)?;
    let missing = || ApiError::missing(format!("no version is tried over what is stored by `{name}`"));
    let (backtest, plugin) = row.backtest.as_ref().zip(tables.backtest_of(row)).ok_or_else(missing)?;
    let view = app.kernel.backtest(caller.workspace, row.id);
    let shows_people = may_read_words(app, caller)?;
    if let Some(view) = view.as_ref().filter(|_| shows_people) {
        let people: BTreeSet<ProfileId> = view.examples.values().flatten().map(|example| example.profile).collect();
        if view.last_failure.is_some() || !people.is_empty() {
            app.reads.note(caller, "installation.backtest", people.into_iter().map(person));
        }
    }
    let sight = BacktestSight { people: shows_people, audiences: caller.may(Scope::AudiencesRead) };
    let body = shown(&tables, (row, backtest, plugin), view, sight);
    Ok(TaggedBody { tag: tag(&tables, row), body })
}

/// How far the version is that is tried over what is stored, and what it would change.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/backtest", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = BacktestBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read_backtest(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
) -> Result<TaggedBody<BacktestBody>, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| backtest_body(app, &caller, &name)).await
}

/// Try a version of a tag model or a scorer over what is stored: everybody is looked at once in the background, the version's
/// values are compared with the live ones, and audiences are decided as if they counted. Its values, its faults and its writes
/// count nowhere, nobody moves and nothing is sent. One runs for an installation at a time; asking for the one that is under way
/// again changes nothing, and one that has ended is begun anew.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/backtest", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")),
    security(("key" = ["plugins:admin", "profiles:read"])),
    request_body = WantedBacktest,
    responses(
        (status = 202, body = BacktestBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem, description = "somebody else has changed it"),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn begin_backtest(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(wanted): Json<WantedBacktest>,
) -> Result<(StatusCode, TaggedBody<BacktestBody>), ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.ask(move |app, patience| {
        let checked = CheckedConfig::of(app, patience, &name);
        let trial = Trial { workspace, actor, name: &name, if_match: &if_match, action: ACTION };
        trial.change(app, patience, |draft, before| tried(app, draft, before, &wanted, &checked, &caller))?;
        Ok((StatusCode::ACCEPTED, backtest_body(app, &caller, &name)?))
    })
    .await
}

/// Cancel the backtest that is under way, and forget what came of it. Without one nothing is changed.
#[utoipa::path(
    delete, path = "/api/v1/installations/{id}/backtest", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses(
        (status = 204), (status = 404, body = Problem),
        (status = 412, body = Problem, description = "somebody else has changed it"),
    ),
)]
pub(crate) async fn end_backtest(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.ask(move |app, patience| {
        let trial = Trial { workspace, actor, name: &name, if_match: &if_match, action: ACTION };
        trial.change(app, patience, |_, before| Ok(InstallationRow { backtest: None, ..before.clone() }))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The installation with the backtest that is asked for.
fn tried(
    app: &App,
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    wanted: &WantedBacktest,
    checked: &CheckedConfig<'_>,
    caller: &Caller,
) -> Result<InstallationRow, ApiError> {
    let present = present_version(draft.tables(), before)?;
    check_kind(present.manifest.kind)?;
    let next = pick_version(draft.tables(), &before.plugin, Some(&wanted.version))?;
    check_digest(&next, wanted.digest.as_deref())?;
    check_tried(before, (&present, &next), wanted.consent)?;
    let version = &next.manifest.version;
    if *version != before.version {
        insist_on_offered(draft.tables(), &next)?;
        insist_on_trust(app, draft.tables(), &next)?;
    }
    let whole = draft.whole_config(before).map_err(CatalogueError::from)?;
    let unshown = unshown_places(before, &next.manifest);
    let asked = match &wanted.config {
        // Before anything is compared: nobody learns whether a guess is what is there.
        Some(patch) if kith_host::writes(patch, &unshown) => return Err(changes_unshown()),
        Some(patch) => WantedConfig::Written(Some(merged(&whole, patch))),
        None => WantedConfig::kept(&before.version, version, whole.clone()),
    };
    let config = kith_host::parted(checked.check(draft, &next, asked, &unshown)?, &unshown);
    if config.unshown != kith_host::parted(whole, &before.unshown.paths).unshown {
        return Err(changes_unshown());
    }
    let backtest = BacktestRow { version: version.clone(), config: config.shown, since: draft.now() };
    let tried = InstallationRow { version: version.clone(), config: backtest.config.clone(), ..before.clone() };
    check_sensitive(draft, &tried, &next)?;
    check_sight(draft, &tried, &next, caller)?;
    if let Some(problem) = app.wiring.refuses_backtest(draft.tables(), before, &backtest, &next) {
        return Err(not_possible(&next, &problem));
    }
    if let Some(under_way) = under_way(app, draft.tables(), before) {
        if (&under_way.version, &under_way.config) == (&backtest.version, &backtest.config) {
            return Ok(before.clone());
        }
        let message =
            format!("{} {} is being tried over what is stored; cancel that, or wait", before.plugin, under_way.version);
        return Err(refused("backtest-under-way", message));
    }
    Ok(InstallationRow { backtest: Some(backtest), ..before.clone() })
}

fn changes_unshown() -> ApiError {
    let message = "what of the configuration is never shown is the installation's own in a backtest; leave it as it is, or have \
                   the version run beside the live one";
    refused("backtest-changes-unshown", message.to_owned())
}

/// The backtest of an installation that has not ended.
fn under_way<'r>(app: &App, tables: &WorkspaceTables, row: &'r InstallationRow) -> Option<&'r BacktestRow> {
    let backtest = row.backtest.as_ref()?;
    let view = app.kernel.backtest(tables.row.id, row.id)?;
    (!matches!(view.state, BacktestState::Ended(_))).then_some(backtest)
}

fn not_possible(next: &PluginRow, problem: &ShadowProblem) -> ApiError {
    let (code, why) = match problem {
        ShadowProblem::NoFit => (
            "backtest-without-fit",
            "it has no fit: the fit in use is of another form of state, and a backtest fits nothing; install the version under \
             another name, fit it, and compare the two"
                .to_owned(),
        ),
        ShadowProblem::Memory { asked, limit } => (
            "backtest-too-large",
            format!(
                "a call of it may take {asked} bytes of memory, and {limit} are there for backtests; grant `limits.memory_bytes` less"
            ),
        ),
        ShadowProblem::OtherInput(_) => ("backtest-asks-for-more", problem.to_string()),
    };
    let (id, version) = (&next.manifest.id, &next.manifest.version);
    refused(code, format!("{id} {version} cannot be tried over what is stored: {why}"))
}

/// Insist that something is stored of what such a plugin says.
fn check_kind(kind: PluginKind) -> Result<(), ApiError> {
    let (code, why) = match kind {
        PluginKind::TagModel | PluginKind::Scorer => return Ok(()),
        PluginKind::Connector => (
            "backtest-of-connector",
            "a connector has no backtest: the requests that it was given are not kept; use a shadow, `PUT …/shadow`, which is given \
             the same requests as the live version from now on",
        ),
        PluginKind::Channel => (
            "backtest-of-channel",
            "a channel has no backtest: it says nothing about people that could be compared; use a shadow where the kind has one, \
             and for a channel a workspace of your own",
        ),
    };
    Err(refused(code, why.to_owned()))
}

/// Insist that two versions can be compared, and that somebody agrees to what the second asks for beyond the first.
fn check_tried(
    row: &InstallationRow,
    (present, next): (&PluginRow, &PluginRow),
    consents: bool,
) -> Result<(), ApiError> {
    let (version, kind) = (&next.manifest.version, present.manifest.kind);
    if row.mode != InstallationMode::Live {
        let message = format!("`{}` is switched off; a backtest compares with what is live", row.name);
        return Err(refused("not-live", message));
    }
    if next.manifest.kind != kind {
        return Err(refused("other-kind", format!("version {version} is a {}, not a {kind}", next.manifest.kind)));
    }
    let more = widened(&present.manifest, &next.manifest);
    if more.is_empty() || consents {
        return Ok(());
    }
    let message = format!(
        "version {version} asks for more than the live one: {}; send `consent: true` to let it see that for the backtest",
        more.join(", ")
    );
    Err(refused("consent-required", message))
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::InputSpec;
    use kith_model::table::ColumnType;
    use kith_model::time::Timestamp;
    use serde_json::json;

    use super::super::body::public;
    use super::*;
    use crate::api::tests::installation_row;
    use crate::api::tests::installations::plugin_row;

    fn code(result: Result<(), ApiError>) -> &'static str {
        match result {
            Ok(()) => "taken",
            Err(ApiError::Conflict { code, .. }) => code,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_backtests_of_a_version_are_told_apart() {
        let row = |config: Value, since| {
            let version = semver::Version::new(2, 0, 0);
            let backtest = Some(BacktestRow { version, config, since: Timestamp(since) });
            public(&InstallationRow { backtest, ..installation_row(901, "level") })
        };
        let first = row(json!({ "a": 1 }), 0);
        let shown = json!({ "version": "2.0.0", "config": { "a": 1 }, "since": "1970-01-01T00:00:00.000Z" });
        assert_eq!(first["backtest"], shown);
        assert_ne!(first, row(json!({ "a": 2 }), 0));
        assert_ne!(first, row(json!({ "a": 1 }), 1));
    }

    #[test]
    fn a_backtest_is_of_a_model_that_is_live_and_sees_no_more_unasked() {
        let row = installation_row(901, "level");
        let version = |kind, inputs: &[&str]| {
            let mut plugin = plugin_row("level", kind);
            plugin.manifest.version = "2.0.0".parse().unwrap();
            let input = |expression: &&str| InputSpec {
                name: "a".to_owned(),
                expression: (*expression).to_owned(),
                column_type: ColumnType::Text,
                reason: String::new(),
            };
            plugin.manifest.inputs = inputs.iter().map(input).collect();
            plugin
        };
        let model = PluginKind::TagModel;
        let (present, next) = (version(model, &["traits.a"]), version(model, &["traits.b"]));
        let check =
            |row: &InstallationRow, next: &PluginRow, consents| code(check_tried(row, (&present, next), consents));
        assert_eq!(check(&row, &present, false), "taken", "the live version itself, with another configuration");
        assert_eq!(check(&row, &next, false), "consent-required");
        assert_eq!(check(&row, &next, true), "taken");
        assert_eq!(check(&row, &version(PluginKind::Scorer, &[]), true), "other-kind");
        let off = InstallationRow { mode: InstallationMode::Disabled, ..row.clone() };
        assert_eq!(check(&off, &present, true), "not-live");
        let kinds = [model, PluginKind::Scorer, PluginKind::Connector, PluginKind::Channel];
        let codes = kinds.map(|kind| code(check_kind(kind)));
        assert_eq!(codes, ["taken", "taken", "backtest-of-connector", "backtest-of-channel"]);
    }
}
