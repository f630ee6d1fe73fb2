//! The checks that stand before a change of an installation.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use kith_host::{Asking, CheckError, GrantedHost, HostPort, Plugin, check_secret};
use kith_model::budget::table;
use kith_model::id::InstallationName;
use kith_model::network::Network;
use kith_model::plugin::{Grants, InstallationMode, LimitRequest, Manifest, PluginFault, PluginKind, purpose_problem};
use kith_model::polling::parse_interval;
use kith_model::sending::MAX_SENDING;
use kith_pipeline::Patience;
use serde_json::Value;

use super::wanted::WantedPoll;
use crate::api::convert::{bad_config, config_mistakes, refused_config};
use crate::api::extract::check_text;
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::{Draft, InstallationRow, PluginRow, WorkspaceTables};
use crate::error::{ApiError, Mistake};
use crate::wiring::{Loading, sensitive_inputs};

/// The name asked for, or one after the plugin that is free.
pub(super) fn free_name(
    tables: &WorkspaceTables,
    manifest: &Manifest,
    wanted: Option<&str>,
) -> Result<InstallationName, ApiError> {
    if let Some(wanted) = wanted {
        let name: InstallationName =
            wanted.parse().map_err(|error: kith_model::id::InvalidId| ApiError::at("name", error.to_string()))?;
        if let Some(there) = tables.installation(wanted) {
            let (plugin, version) = (&there.plugin, &there.version);
            let message =
                format!("there is an installation `{name}` already, of {plugin} {version}, and nothing was done to it");
            return Err(ApiError::Conflict { code: "name-taken", message });
        }
        return Ok(name);
    }
    let base: String = manifest.id.name().chars().take(58).collect();
    let candidates = std::iter::once(base.clone()).chain((2_u32..).map(|number| format!("{base}-{number}")));
    let free = candidates.take(10_000).find(|name| tables.installation(name).is_none());
    let free = free.and_then(|name| name.parse().ok());
    free.ok_or_else(|| ApiError::at("name", "no name after the plugin is free; give one"))
}

/// The configuration that a change puts in place: checked once, when the change is rehearsed, because others wait for the
/// change itself.
pub(super) struct CheckedConfig<'a> {
    app: &'a App,
    patience: &'a Patience,
    /// Whose it is, where there is an installation already.
    installation: Option<String>,
    rehearsed: RefCell<Vec<RehearsedConfig>>,
}

struct RehearsedConfig {
    /// Of the component whose schema it was checked against.
    digest: String,
    wanted: WantedConfig,
    config: Value,
}

/// What a configuration is made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WantedConfig {
    /// What somebody wrote; `None` for what the schema has without it.
    Written(Option<Value>),
    /// What an installation has with an earlier version, of which the plugin makes its own.
    Earlier { from: semver::Version, config: Value },
    /// What an installation has with a later version, of which an earlier one makes nothing.
    Later { from: semver::Version, config: Value },
}

impl WantedConfig {
    /// What an installation has with `from`, for the version that it is to have.
    pub(super) fn kept(from: &semver::Version, version: &semver::Version, config: Value) -> WantedConfig {
        let from = from.clone();
        match from.cmp(version) {
            Ordering::Less => WantedConfig::Earlier { from, config },
            Ordering::Equal => WantedConfig::Written(Some(config)),
            Ordering::Greater => WantedConfig::Later { from, config },
        }
    }
}

impl<'a> CheckedConfig<'a> {
    pub(super) fn new(app: &'a App, patience: &'a Patience) -> CheckedConfig<'a> {
        CheckedConfig { app, patience, installation: None, rehearsed: RefCell::default() }
    }

    /// Of an installation that there is: what its plugin logs meanwhile is in its log.
    pub(super) fn of(app: &'a App, patience: &'a Patience, installation: &str) -> CheckedConfig<'a> {
        CheckedConfig { installation: Some(installation.to_owned()), ..CheckedConfig::new(app, patience) }
    }

    /// Ask the plugin something about a configuration, with nothing but that; the fault where it failed.
    fn ask<T: Send + 'static>(
        &self,
        draft: &Draft<'_>,
        plugin: &PluginRow,
        question: impl FnOnce(&Plugin, &Asking) -> Result<T, CheckError> + Send + 'static,
    ) -> Result<Result<T, PluginFault>, ApiError> {
        let workspace = draft.tables().row.id;
        let loaded = self.app.wiring.components().load(workspace, &plugin.digest, Loading::Allowed(self.patience))?;
        let policy = self.app.wiring.effective_policy(&plugin.manifest, &Grants::default());
        let memory_bytes = policy.memory_bytes.value.saturating_add(policy.output_bytes.value);
        let row = self.installation.as_deref().and_then(|name| draft.tables().installation(name));
        let installation = row.map_or_else(|| plugin.manifest.id.to_string(), |row| row.name.to_string());
        let observed = self.app.wiring.observed_apart(draft.now());
        let asking = Asking { installation, observed: Arc::clone(&observed) };
        let said = self.app.kernel.ask_guest(workspace, memory_bytes, move || question(&loaded, &asking))?;
        if let Some(row) = row {
            self.app.wiring.observed(workspace, row.id, draft.now()).take_lines(&observed);
        }
        let unavailable = || ApiError::Unavailable {
            code: "closing",
            message: "the server is shutting down".to_owned(),
            retry_after_s: 2,
        };
        match said.ok_or_else(unavailable)? {
            Ok(said) => Ok(Ok(said)),
            Err(CheckError::Fault(fault)) => Ok(Err(fault)),
            Err(CheckError::Bind(error)) => {
                Err(ApiError::internal("binding a plugin to ask about its configuration", error))
            }
        }
    }

    /// Insist that the plugin could work with a configuration that its schema has admitted.
    fn insist_on_working(
        &self,
        draft: &Draft<'_>,
        plugin: &PluginRow,
        config: &Value,
        unshown: &BTreeSet<String>,
    ) -> Result<(), ApiError> {
        let (given, hidden) = (config.clone(), unshown.clone());
        match self.ask(draft, plugin, move |loaded, of| loaded.check_config(of, &given, &hidden))? {
            Ok(problems) if problems.is_empty() => Ok(()),
            Ok(problems) => Err(refused_config(problems)),
            Err(fault) => {
                let (id, version) = (&plugin.manifest.id, &plugin.manifest.version);
                let message =
                    format!("{id} {version} failed when it was to check this configuration: {}", fault.code());
                Err(ApiError::BadInput { code: "config-not-checked", message, mistakes: Vec::new() })
            }
        }
    }

    /// What the plugin makes of an earlier version's configuration.
    fn migrated(
        &self,
        draft: &Draft<'_>,
        plugin: &PluginRow,
        from: &semver::Version,
        config: &Value,
        unshown: &BTreeSet<String>,
    ) -> Result<Value, ApiError> {
        let (given, earlier, hidden) = (config.clone(), from.clone(), unshown.clone());
        let (id, version) = (&plugin.manifest.id, &plugin.manifest.version);
        let refused = |why: String, mistakes| {
            let message = format!(
                "{id} {version} makes nothing of the configuration of {from}: {why}; send a `config` with the upgrade"
            );
            Err(ApiError::BadInput { code: "config-not-migrated", message, mistakes })
        };
        match self.ask(draft, plugin, move |loaded, of| loaded.migrate_config(of, &earlier, &given, &hidden))? {
            Ok(Ok(migrated)) if kith_host::would_show(config, &migrated, unshown) => {
                refused("what is not shown now would lie where it is shown".to_owned(), Vec::new())
            }
            Ok(Ok(migrated)) => Ok(migrated),
            Ok(Err(problems)) => {
                let mistakes = config_mistakes(problems);
                let first = mistakes.first().map(|mistake| format!("{}: {}", mistake.path, mistake.message));
                refused(first.unwrap_or_else(|| "it does not say why".to_owned()), mistakes)
            }
            Err(fault) => refused(fault.code().to_owned(), Vec::new()),
        }
    }

    /// The whole configuration with defaults filled in. What of it lies at the places that are not shown is in no answer.
    pub(super) fn check(
        &self,
        draft: &Draft<'_>,
        plugin: &PluginRow,
        wanted: WantedConfig,
        unshown: &BTreeSet<String>,
    ) -> Result<Value, ApiError> {
        if draft.is_rehearsal() {
            let given = match &wanted {
                WantedConfig::Written(written) => written.clone().unwrap_or(Value::Null),
                WantedConfig::Earlier { from, config } => self.migrated(draft, plugin, from, config, unshown)?,
                WantedConfig::Later { config, .. } => config.clone(),
            };
            let shown = kith_host::parted(given.clone(), unshown).shown;
            let checked = kith_host::validate_unshown_config(&plugin.manifest, given, unshown).map_err(bad_config);
            let checked =
                checked.and_then(|config| self.insist_on_working(draft, plugin, &config, unshown).map(|()| config));
            let config = checked.map_err(|error| of_origin(error, &plugin.manifest, &wanted, (&shown, unshown)))?;
            let rehearsed = RehearsedConfig { digest: plugin.digest.clone(), wanted, config: config.clone() };
            self.rehearsed.borrow_mut().push(rehearsed);
            return Ok(config);
        }
        let rehearsed = self.rehearsed.borrow();
        let is_same = |checked: &&RehearsedConfig| checked.digest == plugin.digest && checked.wanted == wanted;
        match rehearsed.iter().rev().find(is_same) {
            Some(checked) => Ok(checked.config.clone()),
            None => {
                let message = "the installation was changed at the same moment; look again".to_owned();
                Err(ApiError::Conflict { code: "changed-meanwhile", message })
            }
        }
    }
}

/// How much of what a version made is shown, in characters.
const MAX_MADE: usize = 300;

/// A refusal of a configuration that nobody wrote says where it comes from, and how another one is given. `shown` is what of it is
/// shown.
fn of_origin(
    error: ApiError,
    manifest: &Manifest,
    wanted: &WantedConfig,
    (shown, unshown): (&Value, &BTreeSet<String>),
) -> ApiError {
    let (code, message, mistakes) = match error {
        ApiError::BadInput { code: code @ ("bad-config" | "config-not-checked"), message, mistakes } => {
            (code, message, mistakes)
        }
        other => return other,
    };
    let Manifest { id, version, .. } = manifest;
    let whose = match wanted {
        WantedConfig::Written(_) => return ApiError::BadInput { code, message, mistakes },
        WantedConfig::Earlier { from, config } => {
            let does = if kith_host::parted(config.clone(), unshown).shown == *shown {
                format!("leaves the configuration of {from} as it is")
            } else {
                let made: String = shown.to_string().chars().take(MAX_MADE).collect();
                format!("makes {made} of the configuration of {from}")
            };
            format!("`migrate` of {id} {version} {does}, and {version} does not take it")
        }
        WantedConfig::Later { from, .. } => {
            format!("{id} {version} does not take the configuration of {from}, and on the way back nothing is migrated")
        }
    };
    let message = format!("{whose}: {message}; send a `config` with the upgrade, in which `null` takes a key out");
    ApiError::BadInput { code, message, mistakes }
}

/// Only secrets that the manifest asks for can be set, to values that have room in a request and are of the form that it asks for.
pub(super) fn check_secrets<'a>(
    manifest: &Manifest,
    secrets: impl Iterator<Item = (&'a String, Option<&'a String>)> + Clone,
) -> Result<(), ApiError> {
    for value in secrets.clone().filter_map(|(_, value)| value) {
        check_text(&table::SECRET_TEXT, value)?;
    }
    for (name, value) in secrets {
        let place = || format!("secrets.{name}");
        let request = manifest.capabilities.secrets.iter().find(|request| request.name == *name);
        let request =
            request.ok_or_else(|| ApiError::at(place(), format!("{} asks for no such secret", manifest.id)))?;
        // One that cannot be used would be found out at the first message, long after whoever gave it is gone.
        value.map_or(Ok(()), |value| check_secret(request, value)).map_err(|problem| ApiError::at(place(), problem))?;
    }
    Ok(())
}

/// An installation that is live has every secret without which its plugin cannot work: it would fail at each message, and every
/// one of them would be given up.
pub(super) fn check_complete(
    manifest: &Manifest,
    mode: InstallationMode,
    has: &BTreeSet<String>,
) -> Result<(), ApiError> {
    if mode != InstallationMode::Live {
        return Ok(());
    }
    let needed = manifest.capabilities.secrets.iter().filter(|request| !request.optional);
    match needed.map(|request| &request.name).find(|name| !has.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::at(
            format!("secrets.{name}"),
            format!("{} needs this secret; give it, or set `mode` to `disabled` until there is one", manifest.id),
        )),
    }
}

/// Sensitive things that a grant names at most.
const MAX_SENSITIVE: usize = 500;

/// How much is sent at once is said of channels alone, and within what the server itself can be told: a channel that may
/// send nothing would be live and never send, and a larger number would be lowered unseen. `before` is what was granted till now.
pub(super) fn check_grants(kind: PluginKind, grants: &Grants, before: &Grants) -> Result<(), ApiError> {
    let LimitRequest { messages_at_once, requests_per_host, .. } = grants.limits;
    for (name, limit) in [("messages_at_once", messages_at_once), ("requests_per_host", requests_per_host)] {
        let message = match limit {
            Some(_) if kind != PluginKind::Channel => format!("a {kind} sends no messages; leave it out"),
            Some(0) => "must be at least 1; to send nothing, switch the installation off".to_owned(),
            Some(limit) if limit > MAX_SENDING => format!("must be at most {MAX_SENDING}"),
            Some(_) | None => continue,
        };
        return Err(ApiError::at(format!("grants.limits.{name}"), message));
    }
    check_rate(kind, grants)?;
    if grants.consent.is_some() && kind != PluginKind::Connector {
        return Err(ApiError::at("grants.consent", format!("a {kind} tells of nobody's consent; leave it out")));
    }
    check_purposes(kind, grants)?;
    if grants.sensitive.len() > MAX_SENSITIVE {
        return Err(ApiError::at("grants.sensitive", format!("at most {MAX_SENSITIVE}")));
    }
    for (place, range) in grants.networks.iter().enumerate() {
        let message = match range.parse::<Network>() {
            Ok(network) if network.is_private() => continue,
            Ok(_) => "is no private range; hosts with public addresses need none".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(ApiError::at(format!("grants.networks[{place}]"), message));
    }
    check_hosts(grants, before)
}

/// Who sends nothing has no limit of it, and whoever is to send nothing is granted no host.
fn check_rate(kind: PluginKind, grants: &Grants) -> Result<(), ApiError> {
    let message = match (kind, grants.limits.requests_per_minute) {
        (PluginKind::TagModel | PluginKind::Scorer, Some(_)) => format!("a {kind} sends no requests; leave it out"),
        (_, Some(0)) => "must be at least 1; to let nothing out, grant no host".to_owned(),
        _ => return Ok(()),
    };
    Err(ApiError::at("grants.limits.requests_per_minute", message))
}

/// Purposes are granted to channels alone, as they are compared: one that is written otherwise would be carried by
/// nothing.
fn check_purposes(kind: PluginKind, grants: &Grants) -> Result<(), ApiError> {
    if grants.purposes.is_some() && kind != PluginKind::Channel {
        return Err(ApiError::at("grants.purposes", format!("a {kind} carries no messages; leave it out")));
    }
    for (place, name) in grants.purposes.iter().flatten().enumerate() {
        if let Some(problem) = purpose_problem(name) {
            return Err(ApiError::at(format!("grants.purposes[{place}]"), problem));
        }
    }
    Ok(())
}

/// What names no host would have no effect, which whoever grants it would hear of only from the policy. One that was granted when
/// nobody looked may stay, because a change of something else sends it back as it is.
fn check_hosts(grants: &Grants, before: &Grants) -> Result<(), ApiError> {
    check_each_host::<GrantedHost>("grants.http", &grants.http, &before.http)?;
    check_each_host::<HostPort>("grants.mail", &grants.mail, &before.mail)?;
    let is_portless = |text: &String| text.parse::<HostPort>().is_ok_and(|relay| relay.port.is_none());
    let mut new = grants.mail.iter().enumerate().filter(|(_, text)| !before.mail.contains(text));
    if let Some((place, text)) = new.find(|(_, text)| is_portless(text)) {
        let message = format!("`{text}` names no port; relays have several, so write e.g. `{text}:587`");
        return Err(ApiError::at(format!("grants.mail[{place}]"), message));
    }
    for (name, hosts) in &grants.secrets {
        let had = before.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        check_each_host::<HostPort>(&format!("grants.secrets.{name}"), hosts, had)?;
    }
    Ok(())
}

fn check_each_host<H>(list: &str, hosts: &[String], had: &[String]) -> Result<(), ApiError>
where
    H: FromStr<Err: Display>,
{
    for (place, text) in hosts.iter().enumerate().filter(|(_, text)| !had.contains(text)) {
        text.parse::<H>().map_err(|error| ApiError::at(format!("{list}[{place}]"), error.to_string()))?;
    }
    Ok(())
}

/// The time between two polls that is asked for; `None` for the manifest's. One of another version, which does not poll, may stay.
pub(super) fn poll_interval(manifest: &Manifest, wanted: Option<&WantedPoll>) -> Result<Option<u64>, ApiError> {
    let Some(text) = wanted.and_then(|wanted| wanted.interval.as_deref()) else { return Ok(None) };
    let place = "poll.interval";
    if manifest.poll.is_none() {
        let message = format!("{} does not poll: its manifest has no [poll]; leave it out", manifest.id);
        return Err(ApiError::at(place, message));
    }
    parse_interval(text).map(Some).map_err(|problem| ApiError::at(place, problem))
}

/// A plugin reads what the data dictionary calls sensitive only where a grant names it.
pub(super) fn check_sensitive(draft: &Draft<'_>, row: &InstallationRow, plugin: &PluginRow) -> Result<(), ApiError> {
    let seen = sensitive_inputs(draft.tables(), row, plugin);
    let missing: Vec<&str> = seen
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !row.grants.sensitive.iter().any(|g| g == name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} reads {}, which the data dictionary calls sensitive; grant it by name in `grants.sensitive`, or say `grants: \
         \"later\"`, which holds it until then",
        plugin.manifest.id,
        missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    );
    let mistakes = missing
        .iter()
        .map(|name| Mistake { path: "grants.sensitive".to_owned(), message: format!("`{name}` is not among them") });
    Err(ApiError::BadInput { code: "sensitive-not-granted", message, mistakes: mistakes.collect() })
}

/// Nobody grants a plugin what they may not see themselves: it may be a plugin of their own, and tell them. `before` is what was
/// granted till now.
pub(super) fn check_granting(caller: &Caller, grants: &Grants, before: &Grants) -> Result<(), ApiError> {
    match grants.sensitive.iter().find(|name| !before.sensitive.contains(name)) {
        Some(name) if !caller.may(Scope::SensitiveRead) => Err(unseen("`grants.sensitive` names", name)),
        Some(_) | None => Ok(()),
    }
}

/// For the same reason nobody decides how something sensitive is read that others granted, by which version and with what
/// configuration, who may not see it.
pub(super) fn check_sight(
    draft: &Draft<'_>,
    row: &InstallationRow,
    plugin: &PluginRow,
    caller: &Caller,
) -> Result<(), ApiError> {
    let seen = sensitive_inputs(draft.tables(), row, plugin);
    match seen.iter().map(|(name, _)| name).find(|name| row.grants.sensitive.contains(name)) {
        Some(name) if !caller.may(Scope::SensitiveRead) => Err(unseen("the plugin is granted to read", name)),
        Some(_) | None => Ok(()),
    }
}

fn unseen(what: &str, name: &str) -> ApiError {
    // Who grants it writes what they like.
    let name: String = name.chars().take(128).collect();
    let why = "nobody has a plugin read what they may not see themselves";
    ApiError::Denied { message: format!("{what} `{name}`, and {why}; the key has no scope `sensitive:read`") }
}

/// The mode asked for. Quarantine is the kernel's to impose, and a shadow is a version beside one that is live.
pub(super) fn read_mode(wanted: &str) -> Result<InstallationMode, ApiError> {
    let message = match wanted {
        "live" => return Ok(InstallationMode::Live),
        "disabled" => return Ok(InstallationMode::Disabled),
        "shadow" => {
            "an installation is `live` or `disabled`; a version that runs beside the live one is named in `PUT …/shadow`"
        }
        "quarantined" => "the kernel alone quarantines; use `disabled` to switch it off",
        _ => "write `live` or `disabled`",
    };
    Err(ApiError::at("mode", message))
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{
        Capabilities, InputSpec, MailRequest, PollRequest, RecipientRequest, SecretForm, SecretRequest, Training,
    };
    use kith_model::table::ColumnType;
    use serde_json::json;

    use super::super::widening::widened;
    use super::*;

    fn channel(recipients: &[&str], inputs: &[&str]) -> Manifest {
        let reason = || "to write to them".to_owned();
        let recipients = recipients.iter().map(|kind| RecipientRequest { kind: (*kind).to_owned(), reason: reason() });
        let inputs = inputs.iter().map(|expression| InputSpec {
            name: "input".to_owned(),
            expression: (*expression).to_owned(),
            column_type: ColumnType::Text,
            reason: reason(),
        });
        Manifest {
            id: "test/mail".parse().unwrap(),
            version: semver::Version::new(1, 0, 0),
            kind: PluginKind::Channel,
            abi: "0.2".to_owned(),
            kernel: semver::VersionReq::STAR,
            title: String::new(),
            description: String::new(),
            license: String::new(),
            inputs: inputs.collect(),
            outputs: Vec::new(),
            config_schema: None,
            capabilities: Capabilities { recipients: recipients.collect(), ..Capabilities::default() },
            idempotent: true,
            state_version: None,
            poll: None,
            training: None,
            limits: LimitRequest::default(),
        }
    }

    #[test]
    fn a_configuration_that_nobody_wrote_is_refused_with_where_it_comes_from() {
        let (before, made) = (json!({ "threshold": 7, "token": "s3cret" }), json!({ "limit": 7, "token": "s3cret" }));
        let (manifest, unshown) = (channel(&[], &[]), BTreeSet::from(["/token".to_owned()]));
        let [earlier, later] = ["0.9.0", "1.1.0"].map(|version| version.parse::<semver::Version>().unwrap());
        let told = |wanted: WantedConfig, given: &Value| {
            let mistakes = vec![Mistake { path: "config".to_owned(), message: "x".to_owned() }];
            let refused = ApiError::BadInput { code: "bad-config", message: "config: x".to_owned(), mistakes };
            let shown = kith_host::parted(given.clone(), &unshown).shown;
            match of_origin(refused, &manifest, &wanted, (&shown, &unshown)) {
                ApiError::BadInput { code: "bad-config", message, mistakes } if mistakes[0].path == "config" => message,
                other => panic!("{other:?}"),
            }
        };
        let kept = |from: &semver::Version| WantedConfig::kept(from, &manifest.version, before.clone());
        let out = "does not take it: config: x; send a `config` with the upgrade, in which `null` takes a key out";
        assert_eq!(told(kept(&manifest.version), &before), "config: x", "the same version");
        assert_eq!(told(WantedConfig::Written(Some(before.clone())), &before), "config: x", "somebody wrote it");
        assert_eq!(
            told(kept(&earlier), &before),
            format!("`migrate` of test/mail 1.0.0 leaves the configuration of 0.9.0 as it is, and 1.0.0 {out}")
        );
        assert_eq!(
            told(kept(&earlier), &made),
            format!(
                "`migrate` of test/mail 1.0.0 makes {{\"limit\":7}} of the configuration of 0.9.0, and 1.0.0 {out}"
            )
        );
        assert!(told(kept(&later), &before).starts_with(
            "test/mail 1.0.0 does not take the configuration of 1.1.0, and on the way back nothing is migrated: config: x"
        ));
    }

    #[test]
    fn a_channel_that_wants_to_see_more_needs_consent_for_just_that() {
        let present = channel(&["email"], &["traits.name"]);
        assert!(widened(&present, &channel(&["email"], &[])).is_empty());
        let next = channel(&["email", "phone", "*"], &["traits.name", "traits.city"]);
        assert_eq!(
            widened(&present, &next),
            [
                "to be given a recipient's `phone` (to write to them)",
                "to be given every identifier of a recipient (to write to them)",
                "to see `traits.city` (to write to them)"
            ]
        );
    }

    #[test]
    fn a_model_that_wants_to_learn_from_more_needs_consent_for_that() {
        let learning = |label: &str| Manifest {
            training: Some(Training {
                label: label.to_owned(),
                horizon_ms: 1,
                every_ms: 1,
                cut_offs: 1,
                predicts: String::new(),
                timeless: Vec::new(),
            }),
            ..channel(&[], &[])
        };
        let (one, other) = (learning("events('a').size()"), learning("events('b').size()"));
        assert_eq!(widened(&channel(&[], &[]), &one), ["to learn from `events('a').size()`"]);
        assert_eq!(widened(&one, &other), ["to learn from `events('b').size()`"]);
        assert!(widened(&one, &one).is_empty());
    }

    #[test]
    fn a_channel_that_wants_to_send_mail_needs_consent_for_each_relay() {
        let mailing = |hosts: &[&str]| {
            let mut manifest = channel(&[], &[]);
            let request = |host: &&str| MailRequest { host: (*host).to_owned(), reason: String::new() };
            manifest.capabilities.mail = hosts.iter().map(request).collect();
            manifest
        };
        assert_eq!(widened(&mailing(&["a.example"]), &mailing(&["a.example", "*:25"])), ["mail through `*:25`"]);
    }

    #[test]
    fn a_connector_polls_by_its_manifest_or_as_an_admin_says_within_bounds() {
        let mut manifest = channel(&[], &[]);
        let wanted = |interval: &str| WantedPoll { interval: Some(interval.to_owned()) };
        assert!(poll_interval(&manifest, Some(&wanted("5m"))).is_err(), "it does not poll");
        assert!(matches!(poll_interval(&manifest, None), Ok(None)));
        manifest.poll = Some(PollRequest { interval_ms: 900_000, reason: String::new() });
        assert!(matches!(poll_interval(&manifest, Some(&wanted("5m"))), Ok(Some(300_000))));
        assert!(matches!(poll_interval(&manifest, Some(&WantedPoll { interval: None })), Ok(None)));
        assert!(
            poll_interval(&manifest, Some(&wanted("59s"))).is_err()
                && poll_interval(&manifest, Some(&wanted("x"))).is_err()
        );
        assert_eq!(widened(&channel(&[], &[]), &manifest), ["to poll by itself"]);
    }

    #[test]
    fn a_connector_that_wants_to_emit_more_needs_consent_for_just_that() {
        let connector = |emits: &[&str]| {
            let mut manifest = channel(&[], &[]);
            manifest.kind = PluginKind::Connector;
            manifest.capabilities.emits = emits.iter().map(|name| (*name).to_owned()).collect();
            manifest
        };
        assert_eq!(widened(&connector(&["A"]), &connector(&["A", "B"])), ["to emit `B`"]);
        // A connector that names none may emit any.
        for any in [&[][..], &["*"]] {
            assert_eq!(widened(&connector(&["A"]), &connector(any)), ["to emit events of any name"]);
            assert!(widened(&connector(any), &connector(&["A"])).is_empty());
        }
    }

    #[test]
    fn a_channel_that_wants_to_carry_more_needs_consent_for_just_that() {
        let carrying = |purposes: Option<&[&str]>| {
            let mut manifest = channel(&[], &[]);
            manifest.capabilities.purposes = purposes.map(|all| all.iter().map(|name| (*name).to_owned()).collect());
            manifest
        };
        let (some, more) = (carrying(Some(&["service"])), carrying(Some(&["service", "news"])));
        assert_eq!(widened(&some, &more), ["to carry messages for `news`"]);
        assert_eq!(widened(&some, &carrying(None)), ["to carry messages for every purpose"]);
        assert!(widened(&more, &some).is_empty() && widened(&carrying(None), &more).is_empty());
    }

    #[test]
    fn purposes_are_granted_to_channels_as_they_are_compared() {
        let refused = |kind, name: &str| {
            let grants = Grants { purposes: Some(vec!["service".to_owned(), name.to_owned()]), ..Grants::default() };
            match check_grants(kind, &grants, &Grants::default()) {
                Ok(()) => None,
                Err(ApiError::BadInput { mistakes, .. }) => Some(mistakes[0].path.clone()),
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(PluginKind::Channel, "news"), None);
        for bad in ["News", "", "*", "news@email"] {
            assert_eq!(refused(PluginKind::Channel, bad).as_deref(), Some("grants.purposes[1]"), "{bad}");
        }
        assert_eq!(refused(PluginKind::Connector, "news").as_deref(), Some("grants.purposes"));
    }

    #[test]
    fn who_is_live_has_the_secrets_that_its_plugin_needs() {
        let mut manifest = channel(&[], &[]);
        manifest.capabilities.secrets = ["signing", "second"]
            .map(|name| SecretRequest {
                name: name.to_owned(),
                hosts: Vec::new(),
                reason: String::new(),
                optional: name == "second",
                form: SecretForm::Text,
            })
            .to_vec();
        let check = |mode, has: &[&str]| {
            let has = has.iter().map(|name| (*name).to_owned()).collect();
            check_complete(&manifest, mode, &has).is_ok()
        };
        assert!(!check(InstallationMode::Live, &[]) && !check(InstallationMode::Live, &["second"]));
        assert!(check(InstallationMode::Live, &["signing"]) && check(InstallationMode::Disabled, &[]));
    }

    #[test]
    fn limits_of_sending_are_for_channels_and_within_the_servers() {
        let check = |kind, messages_at_once, requests_per_host| {
            let limits = LimitRequest { messages_at_once, requests_per_host, ..LimitRequest::default() };
            match check_grants(kind, &Grants { limits, ..Grants::default() }, &Grants::default()) {
                Ok(()) => None,
                Err(ApiError::BadInput { mistakes, .. }) => Some(mistakes[0].path.clone()),
                Err(other) => panic!("{other:?}"),
            }
        };
        let (messages, requests) = ("grants.limits.messages_at_once", "grants.limits.requests_per_host");
        for (kind, messages_at_once, requests_per_host, place) in [
            (PluginKind::Channel, Some(1), Some(MAX_SENDING), None),
            (PluginKind::Channel, Some(0), None, Some(messages)),
            (PluginKind::Channel, None, Some(MAX_SENDING + 1), Some(requests)),
            (PluginKind::Scorer, None, None, None),
            (PluginKind::Connector, Some(8), None, Some(messages)),
            (PluginKind::TagModel, None, Some(8), Some(requests)),
        ] {
            assert_eq!(check(kind, messages_at_once, requests_per_host).as_deref(), place, "{kind}");
        }
    }

    #[test]
    fn a_rate_is_for_who_sends_and_lets_something_out() {
        let is_taken = |kind, requests_per_minute| {
            let limits = LimitRequest { requests_per_minute, ..LimitRequest::default() };
            check_grants(kind, &Grants { limits, ..Grants::default() }, &Grants::default()).is_ok()
        };
        for kind in [PluginKind::Connector, PluginKind::Channel] {
            assert!(is_taken(kind, Some(1)) && !is_taken(kind, Some(0)), "{kind}");
        }
        assert!(is_taken(PluginKind::Scorer, None) && !is_taken(PluginKind::Scorer, Some(1)));
        assert!(!is_taken(PluginKind::TagModel, Some(1)));
    }

    /// The first place that is refused, and its words.
    fn refused_host(http: &[&str], secret: &[&str], before: &Grants) -> Option<(String, String)> {
        let list = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<String>>();
        let secrets = [("token".to_owned(), list(secret))].into();
        match check_grants(PluginKind::Channel, &Grants { http: list(http), secrets, ..Grants::default() }, before) {
            Ok(()) => None,
            Err(ApiError::BadInput { mistakes, .. }) => Some((mistakes[0].path.clone(), mistakes[0].message.clone())),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_host_is_not_granted() {
        let none = Grants::default();
        assert_eq!(refused_host(&["GET,HEAD a.example", "a.example:9"], &[], &none), None);
        assert!(refused_host(&[], &["GET a.example"], &none).is_some(), "a secret goes with any method");
        let good = ["a.example", "A.example:8443", "127.0.0.1:9", "[::1]:9", "[::1]", "localhost:7700"];
        assert_eq!(refused_host(&good, &good, &none), None);
        for bad in [
            "https://x.example",
            "x.example/path",
            "a b",
            "",
            "*",
            "*.example",
            "x.example:99999",
            "x.example:0",
            "x.example:",
            "127.0.0.1:",
            "127.1",
            "b\u{fc}cher.example",
            "user@x.example",
        ] {
            let (place, words) = refused_host(&["a.example", bad], &[], &none).unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(place, "grants.http[1]", "{bad}");
            assert!(words.contains("is not a host; write `api.example.com`"), "{words}");
            let (place, _) = refused_host(&[], &[bad], &none).unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(place, "grants.secrets.token[0]", "{bad}");
            // It may stay where it stands, and go nowhere else.
            let before = Grants { http: vec![bad.to_owned()], ..Grants::default() };
            assert_eq!(refused_host(&[bad], &[], &before), None, "{bad}");
            assert!(refused_host(&[bad], &[bad], &before).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_relay_is_granted_with_its_port() {
        let refused = |relay: &str, before: &str| {
            let granting = |relay: &str| Grants { mail: vec![relay.to_owned()], ..Grants::default() };
            match check_grants(PluginKind::Channel, &granting(relay), &granting(before)) {
                Ok(()) => None,
                Err(ApiError::BadInput { mistakes, .. }) => Some(mistakes[0].path.clone()),
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(refused("smtp.example.com:587", ""), None);
        assert_eq!(refused("smtp.example.com", "").as_deref(), Some("grants.mail[0]"));
        assert_eq!(refused("smtp://smtp.example.com", "").as_deref(), Some("grants.mail[0]"));
        assert_eq!(refused("smtp.example.com", "smtp.example.com"), None, "it may stay");
    }
}
