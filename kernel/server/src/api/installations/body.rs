//! What answers tell of installations.

use std::collections::BTreeMap;

use kith_host::Policy;
use kith_model::plugin::{Grants, InstallationMode, Manifest, PluginKind, is_dev};
use kith_model::polling::interval_text;
use kith_pipeline::{Activity, HostState, HostView, WAITS_FOR_FIT};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::changes::ChangeBody;
use super::fallback::stopped_versions;
use super::fitting_rules::{FittingBody, StateVersionBody, fitting_body, rules, state_version};
use super::policy::PolicyBody;
use super::seen::WITHHELD_WORDS;
use super::shadow::ShadowVersionBody;
use super::uncomputed::{UncomputedBody, uncomputed};
use crate::api::etag;
use crate::api::plugins::{YankedBody, yanked_below};
use crate::api::signatures::{SignatureBody, signature_body};
use crate::api::view::time;
use crate::app::App;
use crate::catalogue::draft::unshown::unshown_places;
use crate::catalogue::{BacktestRow, InstallationRow, WorkspaceTables};
use crate::error::ApiError;

/// An installation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstallationBody {
    /// Its name, by which the routes know it.
    name: String,
    plugin: String,
    version: String,
    /// Whether that is of the dev channel, `0.2.0-dev`: its bytes may change, and the installation with them.
    dev: bool,
    kind: String,
    digest: String,
    /// Present where its version is given to nobody any more who does not run it yet: why, and what to take instead.
    yanked: Option<YankedBody>,
    /// Of the version that it runs. One that is not good any more, e.g. because its key was revoked, goes on running; it is not
    /// installed anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<SignatureBody>,
    /// What is wanted: `live` or `disabled`; `quarantined` where the kernel switched it off.
    #[schema(value_type = String)]
    mode: InstallationMode,
    /// Why the kernel changed the mode. The words of the plugin, here, in `activity` and in `fitting.alarm`, need the scope
    /// `profiles:read` and, where the data dictionary calls something sensitive, `sensitive:read`.
    mode_reason: Option<String>,
    /// The version that serves again where the kernel stops this one for its faults: the one that ran before.
    falls_back_to: Option<String>,
    /// Other versions that the kernel stopped here for their faults, each with why, in words as `mode_reason`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stopped_versions: BTreeMap<String, String>,
    activity: ActivityBody,
    /// Absent where there are none, and without the scopes that the words of the plugin need.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncomputed: Option<UncomputedBody>,
    #[schema(value_type = Value)]
    config: Value,
    #[schema(value_type = Object)]
    grants: Grants,
    /// What of the configuration is written and never shown, e.g. `auth.token`, and whether it is set. It stays as it is where a
    /// change leaves it out; `null` takes it out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config_set: BTreeMap<String, bool>,
    /// The names of the secrets that are set; their values are never shown.
    secrets: Vec<String>,
    /// What it may really do: manifest request ∩ grant ∩ host ceiling, each number with who set it, e.g.
    /// `"messages_at_once": {"value": 8, "source": "grant"}`.
    #[schema(value_type = Option<Object>)]
    effective_policy: Value,
    /// In the answer to a new installation what its plugin asks for, item by item, as `…/{id}/policy` has it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<PolicyBody>,
    /// The fit in use.
    fit: Option<u32>,
    /// For a tag model or a scorer, when it is fitted without being asked, and which fits are put in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    fitting: Option<FittingBody>,
    /// For a tag model or a scorer, the forms of the state that it has and needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_version: Option<StateVersionBody>,
    /// The version that runs beside this one, if any does.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowVersionBody>,
    /// For a connector that polls, how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<PollSettingBody>,
    /// The names of the `track` events that it may emit, `*` for any; absent for a model that emits none.
    #[serde(skip_serializing_if = "Option::is_none")]
    emits: Option<Vec<String>>,
    /// For a channel, the hosts that it sends to.
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_hosts: Option<Vec<HostBody>>,
    /// What the change changed, in the answer to it; of a dry run, what it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<ChangeBody>>,
    /// What comes of the change elsewhere, in the answer to it: audiences whose messages the channel refuses from then on, because
    /// it does not carry their purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// The id of the write key that was made with it.
    write_key_id: Option<String>,
    /// The write key itself, only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    write_key: Option<String>,
    created_at: String,
    updated_at: String,
}

/// How often an installation polls.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PollSettingBody {
    /// The time between two polls, e.g. `15m`.
    interval: String,
    /// Who said so: `manifest` or `installation`.
    source: String,
    /// Why the plugin polls, in its own words.
    reason: String,
}

/// What ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitsFor {
    Fit,
}

/// Whether an installation runs. What it wrote stays and counts while it is held.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum ActivityBody {
    Running,
    Held {
        since: String,
        why: String,
        /// `fit` where it goes on by itself once it has been fitted.
        #[serde(skip_serializing_if = "Option::is_none")]
        waits_for: Option<WaitsFor>,
        /// When the kernel tries an installation again that it stopped after faults: a good answer then puts it back, a fault
        /// stops it for twice as long. A version that was stopped because it failed on many people is asked about these again.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_trial_at: Option<String>,
    },
}

impl From<Activity> for ActivityBody {
    fn from(activity: Activity) -> ActivityBody {
        match activity {
            Activity::Running => ActivityBody::Running,
            Activity::Held { since, why } | Activity::Quarantined { since, why } => {
                ActivityBody::Held { since: time(since), why, waits_for: None, next_trial_at: None }
            }
            Activity::WaitsForFit { since, why } => {
                ActivityBody::Held { since: time(since), why, waits_for: Some(WaitsFor::Fit), next_trial_at: None }
            }
        }
    }
}

/// Whether a receiving host is tried.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostStateBody {
    /// Messages go to it.
    Sending,
    /// It failed too often and is left alone for a while.
    Paused,
    /// One request tries whether it answers again.
    Trying,
}

/// A host that a channel sends to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HostBody {
    /// With its port.
    host: String,
    /// Requests on their way; `null` where the words of plugins are withheld, as `failures` and `reason`.
    under_way: Option<u64>,
    state: HostStateBody,
    /// Failures in a row.
    failures: Option<u32>,
    /// Nothing is sent to it before this moment.
    paused_until: Option<String>,
    /// Why nothing is.
    reason: Option<String>,
}

impl HostBody {
    /// Each request is a message to somebody, so that their number is for who may read people.
    fn of(host: HostView, shows_people: bool) -> HostBody {
        let HostView { channel: _, host, under_way, state, failures, paused_until, reason } = host;
        let state = match state {
            HostState::Closed => HostStateBody::Sending,
            HostState::Open => HostStateBody::Paused,
            HostState::HalfOpen => HostStateBody::Trying,
        };
        HostBody {
            host,
            under_way: shows_people.then_some(under_way),
            state,
            failures: shows_people.then_some(failures),
            paused_until: paused_until.map(time),
            reason: reason.filter(|_| shows_people),
        }
    }
}

fn receiving_hosts(
    app: &App,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    shows_people: bool,
) -> Option<Vec<HostBody>> {
    let is_channel = tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Channel);
    let all = is_channel.then(|| app.kernel.receiving_hosts(tables.row.id));
    let own = |host: &HostView| host.channel == row.id;
    all.map(|all| all.into_iter().filter(own).map(|host| HostBody::of(host, shows_people)).collect())
}

fn poll(tables: &WorkspaceTables, row: &InstallationRow) -> Option<PollSettingBody> {
    let asked = tables.plugin_of(row)?.manifest.poll.as_ref()?;
    let source = if row.poll_interval_ms.is_some() { "installation" } else { "manifest" };
    Some(PollSettingBody {
        interval: interval_text(row.poll_interval_ms.unwrap_or(asked.interval_ms)),
        source: source.to_owned(),
        reason: asked.reason.clone(),
    })
}

/// An activity without what the plugin itself said.
fn without_words(activity: Activity) -> Activity {
    match activity {
        Activity::Quarantined { since, why: _ } => Activity::Quarantined { since, why: stopped() },
        Activity::WaitsForFit { since, why: _ } => {
            Activity::WaitsForFit { since, why: format!("{WAITS_FOR_FIT}; {WITHHELD_WORDS}") }
        }
        Activity::Running => Activity::Running,
        Activity::Held { since, why } => Activity::Held { since, why },
    }
}

fn stopped() -> String {
    format!("the kernel switched it off after faults; {WITHHELD_WORDS}")
}

/// Whether it runs, and when it is tried again.
fn activity(app: &App, tables: &WorkspaceTables, row: &InstallationRow, shows_words: bool) -> ActivityBody {
    let activity = app.wiring.activity(tables, row);
    let activity = if shows_words { activity } else { without_words(activity) };
    match activity.into() {
        ActivityBody::Held { since, why, waits_for, .. } => {
            let next_trial_at = app.kernel.next_trial(tables.row.id, row.id).map(time);
            ActivityBody::Held { since, why, waits_for, next_trial_at }
        }
        ActivityBody::Running => ActivityBody::Running,
    }
}

/// What a plugin may emit; `None` of a model that emits nothing.
fn emits(manifest: &Manifest, policy: &Policy) -> Option<Vec<String>> {
    let is_source = matches!(manifest.kind, PluginKind::Connector | PluginKind::Channel);
    let may_emit = is_source || !manifest.capabilities.emits.is_empty();
    may_emit.then(|| policy.emits.clone().unwrap_or_else(|| vec!["*".to_owned()]))
}

/// An installation as an answer, with or without what tells of people: the words of plugins and numbers of messages.
pub(super) fn installation_body(
    app: &App,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    shows_words: bool,
    write_key: Option<String>,
) -> Result<InstallationBody, ApiError> {
    let plugin = tables.plugin_of(row);
    let words = |why: &str| if shows_words { why.to_owned() } else { stopped() };
    let policy = plugin.map(|plugin| app.wiring.effective_policy(&plugin.manifest, &row.grants));
    let emits = plugin.zip(policy.as_ref()).and_then(|(plugin, policy)| emits(&plugin.manifest, policy));
    let effective_policy =
        serde_json::to_value(policy).map_err(|error| ApiError::internal("showing an effective policy", error))?;
    Ok(InstallationBody {
        name: row.name.to_string(),
        plugin: row.plugin.to_string(),
        version: row.version.to_string(),
        dev: is_dev(&row.version),
        kind: plugin.map_or_else(String::new, |plugin| plugin.manifest.kind.to_string()),
        digest: plugin.map_or_else(String::new, |plugin| plugin.digest.clone()),
        yanked: plugin.and_then(|plugin| yanked_below(tables, plugin)),
        signature: plugin.map(|plugin| signature_body(&app.catalogue.tables(), tables, plugin)),
        mode: row.mode,
        mode_reason: row.mode_reason.as_deref().map(words),
        falls_back_to: row.falls_back_to.as_ref().map(|before| before.version.to_string()),
        stopped_versions: stopped_versions(tables, row, words),
        activity: activity(app, tables, row, shows_words),
        uncomputed: uncomputed(app, tables, row, shows_words),
        config: row.config.clone(),
        config_set: config_set(row, plugin.map(|plugin| &plugin.manifest)),
        grants: row.grants.clone(),
        secrets: tables.secret_names(row.id),
        effective_policy,
        policy: None,
        fit: row.fit,
        fitting: fitting_body(app, tables, row, shows_words),
        state_version: state_version(tables, row),
        shadow: row.shadow.as_ref().map(ShadowVersionBody::from),
        poll: poll(tables, row),
        emits,
        receiving_hosts: receiving_hosts(app, tables, row, shows_words),
        changed: None,
        warnings: Vec::new(),
        write_key_id: row.write_key.as_ref().map(ToString::to_string),
        write_key,
        created_at: time(row.created_at),
        updated_at: time(row.updated_at),
    })
}

/// What of a configuration is never shown, and whether it is set.
fn config_set(row: &InstallationRow, manifest: Option<&Manifest>) -> BTreeMap<String, bool> {
    let places = manifest.map(|manifest| unshown_places(row, manifest)).unwrap_or_default();
    places.into_iter().map(|path| (kith_host::dotted(&path), row.unshown.paths.contains(&path))).collect()
}

impl InstallationBody {
    /// The same as the answer to a change.
    pub(super) fn with_changes(self, changed: Vec<ChangeBody>, warnings: Vec<String>) -> InstallationBody {
        InstallationBody { changed: Some(changed), warnings, ..self }
    }
}

/// The tag of what people edit of an installation.
pub(super) fn tag(tables: &WorkspaceTables, row: &InstallationRow) -> String {
    let secrets: Vec<_> = (tables.secrets.range((row.id, String::new())..))
        .take_while(|((owner, _), _)| *owner == row.id)
        .map(|((_, name), sealed)| (name, sealed.as_ref()))
        .collect();
    etag::tag(&(public(row), row.id, &row.name, secrets, row.unshown.changes))
}

/// An installation as the audit log shows it.
pub(super) fn public(row: &InstallationRow) -> Value {
    let mut shown = json!({
        "plugin": row.plugin,
        "version": row.version,
        "config": row.config,
        "grants": row.grants,
        "fitting": rules(&row.fitting),
        "mode": row.mode,
        "poll_interval": row.poll_interval_ms.map(interval_text),
        "shadow": row.shadow.as_ref().map(|shadow| &shadow.version),
    });
    if let Some(backtest) = &row.backtest {
        let BacktestRow { version, config, since } = backtest;
        shown["backtest"] = json!({ "version": version, "config": config, "since": time(*since) });
    }
    if !row.unshown.paths.is_empty() {
        let set: Vec<String> = row.unshown.paths.iter().map(|path| kith_host::dotted(path)).collect();
        shown["config_set"] = json!(set);
    }
    shown
}
