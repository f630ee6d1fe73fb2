//! `kith plugin list|upload|install|…`: plugins and installations on a server.

use kith_model::id::Name;
use kith_model::plugin::{Grants, PluginId};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::asked::asked_for;
use super::backtest::backtest;
use super::fits::{TakesOver, fit, fit_table, fits_of, one_fit};
use super::grants::{GrantsFile, held_version, installed_manifest, manifest_of, of_people, pin, template};
use super::installation::{changed, installations, installed, one_installation, with_to_do};
use super::kv::{clear_kv, kv};
use super::policy::policy_table;
use super::polls::polls_text;
use super::removal::remove;
use super::secrets::secrets;
use super::seen::{Follow, logs, usage_table};
use super::shadow::shadow;
use super::upgrade::upgrade;
use super::uploads::{self, uploaded};
use super::written;
use crate::cli::args::{
    ConsentGrantArg, FittingArgs, InstallArgs, InstallSubject, InstallationChangeArgs, LimitArg, PinArgs,
    PluginCommand, PluginReference, SendingArgs, YankArgs,
};
use crate::cli::client::{ApiError, Client, encode};
use crate::cli::consent::Consent;
use crate::cli::output::{self, AnswerFormat, Step, cut, field};
use crate::cli::{Failure, items, json_argument, print_json};

pub(crate) fn run(command: &PluginCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let (answer, shown) = match command {
        PluginCommand::Install(args) => shown(install(client, args, format)?, installed),
        PluginCommand::Installations => shown(client.whole(INSTALLATIONS)?, |answer| installations(items(answer))),
        PluginCommand::Show { installation } => {
            let answer = client.get(&path(installation))?;
            // What it sees and writes is in its manifest, where a program reads it.
            let manifest = if format.is_json() { None } else { installed_manifest(client, &answer).ok() };
            shown(answer, |answer| one_installation(answer, manifest.as_ref()))
        }
        PluginCommand::Policy { installation } => {
            shown(client.get(&format!("{}/policy", path(installation)))?, policy_table)
        }
        PluginCommand::Disable { installation } => set_mode(client, installation, "disabled")?,
        PluginCommand::Enable { installation } => set_mode(client, installation, "live")?,
        PluginCommand::Change(args) => {
            let answer = change(client, args)?;
            shown(answer, |answer| with_to_do(changed(answer), std::slice::from_ref(answer)))
        }
        PluginCommand::Upgrade(args) => {
            let answer = upgrade(client, args, format)?;
            shown(answer, |answer| with_to_do(changed(answer), std::slice::from_ref(answer)))
        }
        PluginCommand::Remove { installation, yes } => {
            remove(client, installation, Consent::from_flag(*yes, format))?;
            (json!({ "removed": installation.as_str() }), format!("{installation} is removed"))
        }
        PluginCommand::Fit { installation, takes_over } => {
            let step = Step::begin(format!("fitting {installation}"), format);
            let answer = fit(client, installation, TakesOver::from_flag(*takes_over), &step)?;
            step.end(&format!("version {}", field(&answer, "version")));
            shown(answer, |answer| one_fit(installation, answer))
        }
        PluginCommand::UseFit { installation, number } => {
            let answer = client.post(&format!("{}/fits/{number}/use", path(installation)), &json!({}))?;
            shown(answer, |answer| fit_table(std::slice::from_ref(answer)))
        }
        PluginCommand::Fits { installation } => {
            let fits = client.whole(&format!("{}/fits", path(installation)))?;
            let of = if format.is_json() { Value::Null } else { client.get(&path(installation))? };
            shown(fits, |answer| fits_of(&of, items(answer)))
        }
        PluginCommand::Poll { installation, from_start } => {
            let body = json!({ "from_start": from_start });
            shown(client.post(&format!("{}/poll", path(installation)), &body)?, |_| {
                format!("{installation} polls now; `kith plugin polls {installation}` shows what comes of it")
            })
        }
        PluginCommand::Polls { installation } => {
            shown(client.get(&format!("{}/polls", path(installation)))?, polls_text)
        }
        PluginCommand::Usage { installation } => {
            shown(client.get(&format!("{}/usage", path(installation)))?, usage_table)
        }
        PluginCommand::Logs { installation, follow, limit } => {
            return logs(client, installation, *limit, Follow::from_flag(*follow), format);
        }
        PluginCommand::Kv { installation, prefix, part } => {
            return kv(client, installation, prefix.as_deref(), part, format);
        }
        PluginCommand::ClearKv { installation, yes } => {
            return clear_kv(client, installation, Consent::from_flag(*yes, format), format);
        }
        of_versions => versions_command(of_versions, client, format)?,
    };
    if format.is_json() { print_json(&answer) } else { output::say(shown) }
}

/// What is done to the versions that a server holds.
fn versions_command(
    command: &PluginCommand,
    client: &Client,
    format: AnswerFormat,
) -> Result<(Value, String), Failure> {
    Ok(match command {
        PluginCommand::List => shown(client.whole("/api/v1/plugins")?, |answer| plugin_table(&versions(answer))),
        PluginCommand::Upload(args) => shown(uploads::upload(client, args, format)?, |answer| {
            uploaded(plugin_table(std::slice::from_ref(answer)), answer)
        }),
        PluginCommand::Delete { plugin, version, yes } => {
            let consequences = format!("{plugin} {version} is had again only by uploading the same bytes.");
            Consent::from_flag(*yes, format).insist(&consequences, &format!("delete {plugin} {version}"))?;
            client.delete(&version_path(plugin, version))?;
            let text = format!("{plugin} {version} is deleted");
            (json!({ "deleted": format!("{plugin}@{version}") }), text)
        }
        PluginCommand::Yank(args) => {
            let done = format!("{} {} is yanked: it is offered to nobody any more", args.plugin, args.version);
            (yank(client, args, "yank")?, done)
        }
        PluginCommand::Unyank(args) => {
            (yank(client, args, "unyank")?, format!("{} {} is offered again", args.plugin, args.version))
        }
        PluginCommand::Shadow(args) => shadow(client, args)?,
        PluginCommand::Backtest(args) => backtest(client, args, format)?,
        PluginCommand::Written(args) => written::written(client, args)?,
        PluginCommand::Undo(args) => written::undo(client, args, format)?,
        PluginCommand::Abi => shown(client.get("/api/v1/abi")?, abi_table),
        PluginCommand::Grants { subject } => template(client, subject)?,
        _ => return Err(Failure::Usage("this command works on this machine and needs no server".to_owned())),
    })
}

fn yank(client: &Client, args: &YankArgs, action: &str) -> Result<Value, Failure> {
    let path = format!("{}/{action}", version_path(&args.plugin, &args.version));
    Ok(client.post(&path, &json!({ "reason": args.reason }))?)
}

fn version_path(plugin: &PluginId, version: &semver::Version) -> String {
    format!("/api/v1/plugins/{plugin}/{}", encode(&version.to_string()))
}

pub(super) const INSTALLATIONS: &str = "/api/v1/installations";

pub(super) fn path(installation: &Name) -> String {
    format!("{INSTALLATIONS}/{}", encode(installation.as_str()))
}

fn shown(answer: Value, show: impl FnOnce(&Value) -> String) -> (Value, String) {
    let text = show(&answer);
    (answer, text)
}

fn set_mode(client: &Client, installation: &Name, mode: &str) -> Result<(Value, String), Failure> {
    let answer = client.patch(&path(installation), &json!({ "mode": mode }))?;
    let text = with_to_do(format!("{installation} is {mode}"), std::slice::from_ref(&answer));
    Ok((answer, text))
}

fn install(client: &Client, args: &InstallArgs, format: AnswerFormat) -> Result<Value, Failure> {
    let (plugin, fetched) = match &args.plugin {
        InstallSubject::Held(plugin) => (plugin.clone(), None),
        InstallSubject::Registry(reference) => {
            let fetched = uploads::fetch(reference, &args.registry, format)?;
            (fetched.plugin(), Some(fetched))
        }
    };
    let mut body = installation(args, &plugin)?;
    if let Some(fetched) = &fetched {
        uploads::send_fetched(client, fetched, format)?;
        // These bytes, whatever is uploaded meanwhile.
        if body.get("digest").is_none() {
            body["digest"] = json!(fetched.digest);
        }
    }
    match held_version(client, &plugin.id, plugin.version.as_ref()) {
        Ok(listed) => agreed(args, &listed, &mut body, format)?,
        Err(error) if args.grants.is_some() => return Err(error),
        // The server refuses it, and says what there is in its place.
        Err(_) => {}
    }
    client.post(INSTALLATIONS, &body).map_err(going_back)
}

/// Show what a version asks for, and have it agreed to: by a file of grants, by `--yes`, or on a terminal.
fn agreed(args: &InstallArgs, listed: &Value, body: &mut Value, format: AnswerFormat) -> Result<(), Failure> {
    let manifest = manifest_of(listed)?;
    if let Some(file) = &args.grants {
        GrantsFile::read(file)?.put_into(&manifest, body)?;
    }
    // The version that was shown, and its bytes, whatever is uploaded meanwhile.
    body["version"] = json!(manifest.version);
    pin(body, listed);
    // Those that do not read the server refuses.
    let grants = Grants::deserialize(&body["grants"]).unwrap_or_default();
    let asked = asked_for(&manifest, &grants, &signature(&listed["signature"]));
    let consent = Consent::from_flag(args.yes || args.grants.is_some(), format);
    consent.show(&asked, &format!("install {} {} with that", manifest.id, manifest.version))
}

/// The body that installs a plugin.
fn installation(args: &InstallArgs, plugin: &PluginReference) -> Result<Value, Failure> {
    let secrets = secrets(&args.secret)?;
    let name = args.name.as_ref().map_or_else(|| plugin.id.name(), Name::as_str);
    // A secret may go where the plugin may go; finer grants are given over the API.
    let hosts: Vec<&String> = args.grant_http.iter().chain(&args.grant_mail).collect();
    let secret_hosts: serde_json::Map<String, Value> =
        secrets.keys().map(|name| (name.clone(), json!(hosts))).collect();
    let mut body = json!({
        "name": name,
        "plugin": plugin.id.to_string(),
        "config": json_argument("--config", &args.config)?,
        "grants": { "http": args.grant_http, "secrets": secret_hosts, "kv_bytes": args.grant_kv },
    });
    let (relays, networks) = (json!(args.grant_mail), json!(args.grant_network));
    put_named(&mut body["grants"], [("mail", relays), ("networks", networks)]);
    put_named(&mut body["grants"], of_people(&args.grant_recipient, &args.grant_purpose, &args.grant_sensitive));
    if args.grant_consent {
        body["grants"]["consent"] = json!("give");
    }
    args.sending.apply(&mut body["grants"]);
    if !secrets.is_empty() {
        body["secrets"] = Value::Object(secrets);
    }
    if args.grants_later {
        body["grants"] = json!("later");
    }
    if let Some(interval) = &args.poll_interval {
        body["poll"] = json!({ "interval": interval });
    }
    if args.disabled {
        body["mode"] = json!("disabled");
    }
    if let Some(fitting) = args.fitting.wanted()? {
        body["fitting"] = fitting;
    }
    if let Some(version) = &plugin.version {
        body["version"] = json!(version.to_string());
    }
    args.pin.apply(&mut body);
    Ok(body)
}

impl PinArgs {
    /// Put what was asked for into a request for a version.
    pub(super) fn apply(&self, body: &mut Value) {
        if let Some(digest) = &self.digest {
            body["digest"] = json!(digest);
        }
        if self.allow_downgrade {
            body["allow_downgrade"] = json!(true);
        }
    }
}

/// A refusal that speaks of the way back, in the words of the command line.
pub(super) fn going_back(error: ApiError) -> Failure {
    match error {
        ApiError::Refused(mut problem) if problem.code == "downgrade" => {
            // The rest of the sentence says how a program answers; in what stands before it may be somebody's reason.
            let why = problem.message.rsplit_once("; send").map_or(&*problem.message, |(why, _)| why);
            problem.message = format!("{why}; to go back, add --allow-downgrade");
            ApiError::Refused(problem).into()
        }
        ApiError::Refused(mut problem) if problem.code == "version-yanked" => {
            problem.message = problem.message.replace("`allow_downgrade: true`", "--allow-downgrade");
            ApiError::Refused(problem).into()
        }
        other => other.into(),
    }
}

impl SendingArgs {
    /// Put what was asked for into an installation's grants.
    fn apply(&self, grants: &mut Value) {
        let asked = [("messages_at_once", self.messages_at_once), ("requests_per_host", self.requests_per_host)];
        let asked = asked.into_iter().filter_map(|(name, bound)| Some((name, bound?)));
        for (name, bound) in asked.chain(self.limits.iter().map(|(name, bound)| (name.as_str(), *bound))) {
            grants["limits"][name] = match bound {
                LimitArg::At(limit) => json!(limit),
                LimitArg::None => Value::Null,
            };
        }
    }

    fn is_empty(&self) -> bool {
        self.messages_at_once.is_none() && self.requests_per_host.is_none() && self.limits.is_empty()
    }
}

fn change(client: &Client, args: &InstallationChangeArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    let mut secrets = secrets(&args.secret)?;
    secrets.extend(args.forget_secret.iter().map(|name| (name.clone(), Value::Null)));
    let path = path(&args.installation);
    if let Some(config) = &args.config {
        body["config"] = json_argument("--config", config)?;
    }
    let mut tag = None;
    if let Some(file) = &args.grants {
        let file = GrantsFile::read(file)?;
        let (present, read) = client.get_tagged(&path)?;
        file.put_into(&installed_manifest(client, &present)?, &mut body)?;
        tag = read;
    } else if args.changes_grants() {
        let (mut present, read) = client.get_tagged(&path)?;
        body["grants"] = grants(present["grants"].take(), args, &secrets)?;
        tag = read;
    }
    if !secrets.is_empty() {
        body["secrets"] = Value::Object(secrets);
    }
    if let Some(interval) = &args.poll_interval {
        body["poll"] = json!({ "interval": Some(interval).filter(|interval| *interval != "default") });
    }
    if let Some(fitting) = args.fitting.wanted()? {
        body["fitting"] = fitting;
    }
    if body == json!({}) {
        let message = "nothing to change; give --config, --secret, a --grant, --grants, --revoke, --poll-interval, --fit-every, --fit-guard, --fit-drift, --fit-use, --fit-measure, or a limit such as --limit cpu_ms=200; `kith plugin upgrade` \
                       changes the version";
        return Err(Failure::Usage(message.to_owned()));
    }
    if args.grants_later && body.get("grants").is_none() {
        body["grants"] = json!("later");
    }
    Ok(client.patch_if(&path, &body, tag.as_deref())?)
}

impl FittingArgs {
    /// What was asked for, as the API takes it.
    fn wanted(&self) -> Result<Option<Value>, Failure> {
        let mut wanted = json!({});
        if let Some(every) = &self.fit_every {
            wanted["every"] = json!((every != "never").then_some(every));
        }
        if let Some(guard) = &self.fit_guard {
            wanted["guard"] = json_argument("--fit-guard", guard)?;
        }
        if let Some(drift) = &self.fit_drift {
            wanted["drift"] = json_argument("--fit-drift", drift)?;
        }
        if let Some(which) = &self.fit_use {
            wanted["use"] = json!(which);
        }
        if let Some(measure) = &self.fit_measure {
            wanted["measure"] = json!((measure != "usual").then_some(measure));
        }
        Ok((wanted != json!({})).then_some(wanted))
    }
}

impl InstallationChangeArgs {
    /// Whether a part of the grants changes: a new secret is granted to somebody too.
    fn changes_grants(&self) -> bool {
        !self.grant_http.is_empty()
            || !self.grant_mail.is_empty()
            || !self.grant_network.is_empty()
            || !self.grant_recipient.is_empty()
            || !self.grant_purpose.is_empty()
            || !self.grant_sensitive.is_empty()
            || self.grant_kv.is_some()
            || self.grant_consent.is_some()
            || !self.grant_secret.is_empty()
            || !self.revoke.is_empty()
            || !self.secret.is_empty()
            || !self.sending.is_empty()
    }
}

/// Put those lists into grants that name something.
fn put_named<const N: usize>(grants: &mut Value, lists: [(&str, Value); N]) {
    for (kind, list) in lists.into_iter().filter(|(_, list)| *list != json!([])) {
        grants[kind] = list;
    }
}

/// The hosts that grants let a plugin reach.
fn reach(grants: &Value) -> Value {
    [&grants["http"], &grants["mail"]].into_iter().filter_map(Value::as_array).flatten().cloned().collect()
}

/// The grants after a change. The API takes them as a whole, so what does not change is sent back as it is.
fn grants(
    mut grants: Value,
    args: &InstallationChangeArgs,
    secrets: &serde_json::Map<String, Value>,
) -> Result<Value, Failure> {
    let before = reach(&grants);
    // What is taken back can be given otherwise by the same command.
    for kind in &args.revoke {
        // Without `recipients` and `purposes` a channel is given all that its manifest asks for; none at all is an
        // empty list.
        grants[kind.as_str()] = json!([]);
    }
    put_named(&mut grants, [("http", json!(args.grant_http)), ("mail", json!(args.grant_mail))]);
    let after = reach(&grants);
    if !args.grant_http.is_empty() || !args.grant_mail.is_empty() {
        // A secret that may go where the plugin may go follows it; finer grants are the API's.
        let of_secrets = grants["secrets"].as_object_mut().into_iter().flatten();
        of_secrets.filter(|(_, hosts)| **hosts == before).for_each(|(_, hosts)| *hosts = after.clone());
    }
    for (name, _) in secrets.iter().filter(|(_, value)| !value.is_null()) {
        if grants["secrets"].get(name).is_none() {
            grants["secrets"][name.as_str()] = after.clone();
        }
    }
    let mut of_secrets: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for pair in &args.grant_secret {
        let (name, host) = pair
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--grant-secret `{pair}` must be NAME=HOST[:PORT]")))?;
        of_secrets.entry(name).or_default().push(host);
    }
    for (name, hosts) in of_secrets {
        grants["secrets"][name] = json!(hosts);
    }
    put_named(&mut grants, [("networks", json!(args.grant_network))]);
    put_named(&mut grants, of_people(&args.grant_recipient, &args.grant_purpose, &args.grant_sensitive));
    if let Some(bytes) = args.grant_kv {
        grants["kv_bytes"] = json!(bytes);
    }
    match args.grant_consent {
        Some(ConsentGrantArg::Give) => grants["consent"] = json!("give"),
        Some(ConsentGrantArg::Keep) => drop(grants.as_object_mut().and_then(|grants| grants.remove("consent"))),
        None => {}
    }
    args.sending.apply(&mut grants);
    Ok(grants)
}

/// All versions of all listed plugins.
fn versions(list: &Value) -> Vec<Value> {
    let versions_of = |plugin: &Value| plugin.get("versions").and_then(Value::as_array).cloned().unwrap_or_default();
    items(list).iter().flat_map(versions_of).collect()
}

fn plugin_table(plugins: &[Value]) -> String {
    let rows = plugins
        .iter()
        .map(|plugin| {
            vec![
                field(plugin, "id"),
                field(plugin, "version"),
                field(plugin, "kind"),
                output::size(output::number(plugin, "size_bytes")),
                cut(&field(plugin, "digest"), 17),
                signature(&plugin["signature"]),
                cut(&field(plugin, "title"), 60),
                cut(&field(&plugin["yanked"], "reason"), 60),
            ]
        })
        .collect();
    output::table(&["plugin", "version", "kind", "size", "sha-256", "signature", "title", "yanked"], rows)
}

/// The versions of the contract, each with how long it is loaded below.
fn abi_table(answer: &Value) -> String {
    let kinds = |abi: &Value| {
        let worlds = abi["worlds"].as_array().map(Vec::as_slice).unwrap_or_default();
        worlds.iter().map(|world| field(world, "kind")).collect::<Vec<_>>().join(", ")
    };
    let current = field(answer, "current");
    let status = |abi: &Value| match field(abi, "version") == current {
        true => format!("{}, for new plugins", field(abi, "status")),
        false => field(abi, "status"),
    };
    let row =
        |abi: &Value| vec![field(abi, "package"), status(abi), format!("kernel {}", field(abi, "since")), kinds(abi)];
    let mut text = output::table(&["contract", "status", "since", "kinds"], items(answer).iter().map(row).collect());
    for abi in items(answer) {
        text.push_str(&format!("\n\n{}: {}", field(abi, "version"), field(abi, "support")));
    }
    text
}

/// How a signature stands, and whose it is.
fn signature(signature: &Value) -> String {
    let (state, publisher) = (field(signature, "state"), field(signature, "publisher"));
    if publisher.is_empty() { state } else { format!("{state}: {publisher}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::RegistryArgs;

    #[test]
    fn a_change_of_grants_keeps_what_it_does_not_name() {
        let present = json!({
            "http": ["a.example"], "secrets": { "signing": ["a.example"], "fine": ["b.example"] }, "kv_bytes": 5,
            "recipients": ["email"], "limits": { "messages_at_once": 8 },
        });
        let args = InstallationChangeArgs {
            installation: "hook".parse().unwrap(),
            config: None,
            secret: vec!["token=x".into()],
            forget_secret: Vec::new(),
            grant_http: vec!["c.example".into()],
            grant_mail: Vec::new(),
            grant_network: vec!["10.1.0.0/16".parse().unwrap()],
            grant_recipient: Vec::new(),
            grant_purpose: Vec::new(),
            grant_sensitive: Vec::new(),
            grant_kv: None,
            grant_consent: Some(ConsentGrantArg::Give),
            grants: None,
            grant_secret: Vec::new(),
            revoke: Vec::new(),
            poll_interval: None,
            grants_later: false,
            sending: SendingArgs { messages_at_once: Some(LimitArg::None), ..Default::default() },
            fitting: FittingArgs::default(),
        };
        assert!(args.changes_grants());
        let secrets = secrets(&args.secret).unwrap();
        let expected = json!({
            "http": ["c.example"], "networks": ["10.1.0.0/16"], "kv_bytes": 5, "recipients": ["email"], "limits": { "messages_at_once": null }, "consent": "give",
            "secrets": { "signing": ["c.example"], "fine": ["b.example"], "token": ["c.example"] },
        });
        let given = grants(present.clone(), &args, &secrets).unwrap();
        assert_eq!(given, expected);
        let kept = InstallationChangeArgs { grant_consent: Some(ConsentGrantArg::Keep), ..args };
        assert_eq!(grants(given.clone(), &kept, &secrets).unwrap().get("consent"), None);
        let sending = SendingArgs {
            limits: vec![("cpu_ms".to_owned(), LimitArg::At(5)), ("fuel".to_owned(), LimitArg::None)],
            ..Default::default()
        };
        let finer = vec!["signing=d.example".to_owned(), "signing=e.example".to_owned()];
        let finer = InstallationChangeArgs {
            grant_secret: finer,
            grant_network: Vec::new(),
            revoke: vec!["networks".to_owned(), "http".to_owned()],
            sending,
            ..kept
        };
        let made = grants(given, &finer, &secrets).unwrap();
        assert_eq!(made["limits"], json!({ "messages_at_once": null, "cpu_ms": 5, "fuel": null }));
        assert_eq!(made["secrets"]["signing"], json!(["d.example", "e.example"]));
        assert_eq!(
            (&made["networks"], &made["http"]),
            (&json!([]), &json!(["c.example"])),
            "taken back, and given anew"
        );
        let bad = InstallationChangeArgs { grant_secret: vec!["signing".to_owned()], ..finer };
        assert_eq!(grants(present.clone(), &bad, &secrets).unwrap_err().exit_code(), 2);
        let kept = InstallationChangeArgs { grant_secret: Vec::new(), revoke: Vec::new(), ..bad };
        let none = InstallationChangeArgs { secret: vec!["signing=y".into()], grant_http: Vec::new(), ..kept };
        let secrets = super::secrets(&none.secret).unwrap();
        assert_eq!(
            grants(present, &none, &secrets).unwrap()["secrets"],
            json!({ "signing": ["a.example"], "fine": ["b.example"] })
        );
    }

    #[test]
    fn versions_of_the_contract_say_how_long_they_are_loaded() {
        let abi = |version: &str, status: &str| {
            json!({
                "version": version, "package": format!("kith:plugin@{version}.0"), "status": status, "since": "0.1.0",
                "support": "loaded by this kernel", "worlds": [{ "kind": "connector" }, { "kind": "channel" }],
            })
        };
        let answer = json!({ "items": [abi("0.1", "frozen"), abi("0.2", "open")], "current": "0.2" });
        insta::assert_snapshot!(abi_table(&answer), @r"
         contract            status                  since          kinds
        ───────────────────────────────────────────────────────────────────────────────
         kith:plugin@0.1.0   frozen                  kernel 0.1.0   connector, channel
         kith:plugin@0.2.0   open, for new plugins   kernel 0.1.0   connector, channel

        0.1: loaded by this kernel

        0.2: loaded by this kernel
        ");
    }

    #[test]
    fn an_installation_is_asked_for_with_its_grants_and_secrets() {
        let webhook = PluginReference { id: "kith/webhook".parse().unwrap(), version: None };
        let installation = |args: &InstallArgs| installation(args, &webhook);
        let args = InstallArgs {
            plugin: InstallSubject::Held(webhook.clone()),
            name: None,
            config: r#"{"url":"https://a.example/hook"}"#.into(),
            grants: None,
            grant_http: vec!["a.example".into()],
            grant_mail: Vec::new(),
            grant_network: Vec::new(),
            secret: vec!["signing=whsec_x=".into()],
            grant_recipient: Vec::new(),
            grant_purpose: Vec::new(),
            grant_sensitive: Vec::new(),
            grant_kv: 0,
            grant_consent: true,
            poll_interval: None,
            grants_later: false,
            disabled: false,
            yes: false,
            pin: PinArgs { digest: Some("sha256:ab".into()), allow_downgrade: true },
            sending: SendingArgs::default(),
            fitting: FittingArgs { fit_every: Some("7d".to_owned()), ..FittingArgs::default() },
            registry: RegistryArgs::default(),
        };
        let body = installation(&args).unwrap();
        assert_eq!((&body["digest"], &body["allow_downgrade"]), (&json!("sha256:ab"), &json!(true)));
        assert_eq!(body["fitting"], json!({ "every": "7d" }));
        let guard = r#"{"auc": {"min": 0.7}, "mae": null}"#.to_owned();
        let never =
            FittingArgs { fit_every: Some("never".to_owned()), fit_guard: Some(guard), ..FittingArgs::default() };
        let expected = json!({ "every": null, "guard": { "auc": { "min": 0.7 }, "mae": null } });
        assert_eq!(never.wanted().unwrap(), Some(expected));
        for (drift, expected) in [(r#"{"max_shift": 0.5}"#, json!({ "max_shift": 0.5 })), ("null", json!(null))] {
            let args = FittingArgs { fit_drift: Some(drift.to_owned()), ..FittingArgs::default() };
            assert_eq!(args.wanted().unwrap(), Some(json!({ "drift": expected })));
        }
        for (measure, expected) in [("brier", json!("brier")), ("usual", json!(null))] {
            let (fit_use, fit_measure) = (Some("better".to_owned()), Some(measure.to_owned()));
            let args = FittingArgs { fit_use, fit_measure, ..FittingArgs::default() };
            assert_eq!(args.wanted().unwrap(), Some(json!({ "use": "better", "measure": expected })));
        }
        assert_eq!(FittingArgs::default().wanted().unwrap(), None);
        assert_eq!(body["name"], "webhook");
        assert_eq!(body["secrets"], json!({ "signing": "whsec_x=" }));
        assert_eq!(body["grants"]["secrets"], json!({ "signing": ["a.example"] }));
        assert_eq!(body["grants"]["consent"], "give");
        assert_eq!(body["grants"].get("recipients"), None, "all that the manifest asks for");
        assert_eq!(body["grants"].get("networks"), None);
        let grant_network = vec!["10.1.0.0/16".parse().unwrap()];
        let args = InstallArgs { grant_recipient: vec!["email".into()], grant_network, ..args };
        assert_eq!(installation(&args).unwrap()["grants"]["networks"], json!(["10.1.0.0/16"]));
        assert_eq!(installation(&args).unwrap()["grants"]["recipients"], json!(["email"]));
        assert_eq!(installation(&args).unwrap()["grants"].get("limits"), None, "the server's");
        let args = InstallArgs { grant_purpose: vec!["service".into()], ..args };
        assert_eq!(installation(&args).unwrap()["grants"]["purposes"], json!(["service"]));
        let sending = SendingArgs { messages_at_once: Some(LimitArg::At(8)), ..Default::default() };
        let args = InstallArgs { sending, ..args };
        assert_eq!(installation(&args).unwrap()["grants"]["limits"], json!({ "messages_at_once": 8 }));
        let args = InstallArgs { grant_mail: vec!["smtp.example:587".into()], ..args };
        let given = installation(&args).unwrap()["grants"].clone();
        assert_eq!(given["mail"], json!(["smtp.example:587"]));
        assert_eq!(given["secrets"], json!({ "signing": ["a.example", "smtp.example:587"] }));
        let bad = InstallArgs { secret: vec!["signing".into()], ..args };
        assert_eq!(installation(&bad).unwrap_err().exit_code(), 2);
    }
}
