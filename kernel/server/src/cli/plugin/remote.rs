//! `kith plugin list|upload|install|…`: plugins and installations on a server.

use std::path::Path;
use std::time::Duration;

use kith_model::id::Name;
use serde_json::{Value, json};

use crate::cli::args::{ConsentGrantArg, InstallArgs, InstallationChangeArgs, LimitArg, PluginCommand, SendingArgs};
use crate::cli::client::{ApiError, Client, encode, pause};
use crate::cli::consent::Consent;
use crate::cli::output::{self, AnswerFormat, Step, cut, field};
use crate::cli::{Failure, digits, items, json_argument, print_json};

/// How often a running fit is looked at.
const FIT_POLL: Duration = Duration::from_millis(200);

pub(crate) fn run(command: &PluginCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let (answer, shown) = match command {
        PluginCommand::List => shown(client.whole("/api/v1/plugins")?, |answer| plugin_table(&versions(answer))),
        PluginCommand::Upload { file } => {
            shown(upload(client, file, format)?, |answer| plugin_table(std::slice::from_ref(answer)))
        }
        PluginCommand::Delete { plugin, version } => {
            client.delete(&format!("/api/v1/plugins/{plugin}/{}", encode(&version.to_string())))?;
            let text = format!("{plugin} {version} is deleted");
            (json!({ "deleted": format!("{plugin}@{version}") }), text)
        }
        PluginCommand::Install(args) => shown(client.post(INSTALLATIONS, &installation(args)?)?, installed),
        PluginCommand::Installations => shown(client.whole(INSTALLATIONS)?, |answer| installations(items(answer))),
        PluginCommand::Show { installation } => shown(client.get(&path(installation))?, one_installation),
        PluginCommand::Disable { installation } => set_mode(client, installation, "disabled")?,
        PluginCommand::Enable { installation } => set_mode(client, installation, "live")?,
        PluginCommand::Change(args) => shown(change(client, args)?, changed),
        PluginCommand::Remove { installation, yes } => {
            remove(client, installation, Consent::from_flag(*yes))?;
            (json!({ "removed": installation.as_str() }), format!("{installation} is removed"))
        }
        PluginCommand::Fit { installation } => {
            let step = Step::begin(format!("fitting {installation}"), format);
            let answer = fit(client, installation, &step)?;
            step.end(&format!("version {}", field(&answer, "version")));
            shown(answer, |answer| fit_table(std::slice::from_ref(answer)))
        }
        PluginCommand::Fits { installation } => {
            shown(client.whole(&format!("{}/fits", path(installation)))?, |answer| fit_table(items(answer)))
        }
        PluginCommand::New(_) | PluginCommand::Check { .. } | PluginCommand::Build(_) => {
            return Err(Failure::Usage("this command works on this machine and needs no server".to_owned()));
        }
    };
    if format.is_json() { print_json(&answer) } else { output::say(shown) }
}

const INSTALLATIONS: &str = "/api/v1/installations";

fn path(installation: &Name) -> String {
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

/// The numbers of a model that runs may change between two looks; after so many it is better switched off first.
const MAX_CONFIRMATIONS: usize = 5;

/// Remove an installation. Where people or audiences lose something, that is shown and asked about first.
fn remove(client: &Client, installation: &Name, consent: Consent) -> Result<(), Failure> {
    let mut confirmation = String::new();
    for _ in 0..MAX_CONFIRMATIONS {
        let problem = match client.delete(&format!("{}{confirmation}", path(installation))) {
            Ok(_) => return Ok(()),
            Err(ApiError::Refused(problem)) if problem.code == "confirmation-required" => problem,
            Err(error) => return Err(error.into()),
        };
        let details = Value::Object(problem.details);
        consent.insist(&consequences(installation, &details), &format!("remove {installation}"))?;
        confirmation = format!("?confirm={}", encode(&field(&details, "token")));
    }
    Err(Failure::Failed(format!(
        "what {installation} holds changes too fast to confirm; switch it off first, then remove it"
    )))
}

/// What goes with an installation.
fn consequences(installation: &Name, details: &Value) -> String {
    let people = output::count(output::number(details, "people"));
    let mut text = format!("{people} people hold a tag or score of {installation}; it goes with the installation.");
    let audiences = details.get("audiences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !audiences.is_empty() {
        let names: Vec<String> = audiences.iter().map(output::plain).collect();
        text.push_str(&format!("\nThese audiences read it and change: {}.", names.join(", ")));
    }
    text
}

fn upload(client: &Client, file: &Path, format: AnswerFormat) -> Result<Value, Failure> {
    let failed = |what| move |source| Failure::File { what, path: file.to_path_buf(), source };
    let component = std::fs::File::open(file).map_err(failed("open"))?;
    let bytes = component.metadata().map_err(failed("read"))?.len();
    let step = Step::over_bytes(format!("uploading {}", file.display()), bytes, format);
    let answer = client.upload("/api/v1/plugins", "application/wasm", step.bar().wrap_read(component))?;
    step.end("verified and compiled");
    Ok(answer)
}

/// The body that installs a plugin.
fn installation(args: &InstallArgs) -> Result<Value, Failure> {
    let secrets = secrets(&args.secret)?;
    let name = args.name.as_ref().map_or_else(|| args.plugin.id.name(), Name::as_str);
    // A secret may go where the plugin may go; finer grants are given over the API.
    let secret_hosts: serde_json::Map<String, Value> =
        secrets.keys().map(|name| (name.clone(), json!(args.grant_http))).collect();
    let mut body = json!({
        "name": name,
        "plugin": args.plugin.id.to_string(),
        "config": json_argument("--config", &args.config)?,
        "grants": { "http": args.grant_http, "secrets": secret_hosts, "kv_bytes": args.grant_kv },
    });
    if !args.grant_network.is_empty() {
        body["grants"]["networks"] = json!(args.grant_network);
    }
    if !args.grant_recipient.is_empty() {
        body["grants"]["recipients"] = json!(args.grant_recipient);
    }
    if !args.grant_sensitive.is_empty() {
        body["grants"]["sensitive"] = json!(args.grant_sensitive);
    }
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
    if args.disabled {
        body["mode"] = json!("disabled");
    }
    if let Some(version) = &args.plugin.version {
        body["version"] = json!(version.to_string());
    }
    Ok(body)
}

/// Secrets as they are given, by name.
fn secrets(pairs: &[String]) -> Result<serde_json::Map<String, Value>, Failure> {
    let read = |pair: &String| match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), json!(value))),
        None => Err(Failure::Usage(format!("--secret `{}` must be NAME=VALUE", cut(pair, 8)))),
    };
    pairs.iter().map(read).collect()
}

impl SendingArgs {
    /// Put what was asked for into an installation's grants.
    fn apply(&self, grants: &mut Value) {
        let asked = [("messages_at_once", self.messages_at_once), ("requests_per_host", self.requests_per_host)];
        for (name, bound) in asked {
            match bound {
                Some(LimitArg::At(limit)) => grants["limits"][name] = json!(limit),
                Some(LimitArg::None) => grants["limits"][name] = Value::Null,
                None => {}
            }
        }
    }
}

fn change(client: &Client, args: &InstallationChangeArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    let mut secrets = secrets(&args.secret)?;
    secrets.extend(args.forget_secret.iter().map(|name| (name.clone(), Value::Null)));
    let path = path(&args.installation);
    let mut tag = None;
    if args.changes_grants() {
        let (mut present, read) = client.get_tagged(&path)?;
        body["grants"] = grants(present["grants"].take(), args, &secrets);
        tag = read;
    }
    if !secrets.is_empty() {
        body["secrets"] = Value::Object(secrets);
    }
    if let Some(config) = &args.config {
        body["config"] = json_argument("--config", config)?;
    }
    if body == json!({}) {
        let message = "nothing to change; give --config, --secret, a --grant or a limit such as --messages-at-once";
        return Err(Failure::Usage(message.to_owned()));
    }
    if args.grants_later && body.get("grants").is_none() {
        body["grants"] = json!("later");
    }
    Ok(client.patch_if(&path, &body, tag.as_deref())?)
}

impl InstallationChangeArgs {
    /// Whether a part of the grants changes: a new secret is granted to somebody too.
    fn changes_grants(&self) -> bool {
        !self.grant_http.is_empty()
            || !self.grant_network.is_empty()
            || !self.grant_recipient.is_empty()
            || !self.grant_sensitive.is_empty()
            || self.grant_kv.is_some()
            || self.grant_consent.is_some()
            || !self.secret.is_empty()
            || self.sending.messages_at_once.is_some()
            || self.sending.requests_per_host.is_some()
    }
}

/// The grants after a change. The API takes them as a whole, so what does not change is sent back as it is.
fn grants(mut grants: Value, args: &InstallationChangeArgs, secrets: &serde_json::Map<String, Value>) -> Value {
    let before = grants["http"].clone();
    if !args.grant_http.is_empty() {
        grants["http"] = json!(args.grant_http);
        // A secret that may go where the plugin may go follows it; finer grants are the API's.
        let of_secrets = grants["secrets"].as_object_mut().into_iter().flatten();
        of_secrets.filter(|(_, hosts)| **hosts == before).for_each(|(_, hosts)| *hosts = json!(args.grant_http));
    }
    for (name, _) in secrets.iter().filter(|(_, value)| !value.is_null()) {
        if grants["secrets"].get(name).is_none() {
            grants["secrets"][name.as_str()] = grants["http"].clone();
        }
    }
    if !args.grant_network.is_empty() {
        grants["networks"] = json!(args.grant_network);
    }
    if !args.grant_recipient.is_empty() {
        grants["recipients"] = json!(args.grant_recipient);
    }
    if !args.grant_sensitive.is_empty() {
        grants["sensitive"] = json!(args.grant_sensitive);
    }
    if let Some(bytes) = args.grant_kv {
        grants["kv_bytes"] = json!(bytes);
    }
    match args.grant_consent {
        Some(ConsentGrantArg::Give) => grants["consent"] = json!("give"),
        Some(ConsentGrantArg::Keep) => drop(grants.as_object_mut().and_then(|grants| grants.remove("consent"))),
        None => {}
    }
    args.sending.apply(&mut grants);
    grants
}

/// What can be changed of an installation, as it is now: of a channel also how much it sends at once, and who says so.
fn changed(installation: &Value) -> String {
    let list = |value: &Value| match value.as_array() {
        Some(all) => all.iter().map(output::plain).collect::<Vec<_>>().join(", "),
        None => output::plain(value),
    };
    let grants = &installation["grants"];
    let mut rows = vec![
        vec!["config".to_owned(), cut(&digits::line(&installation["config"]), 200)],
        vec!["secrets".to_owned(), list(&installation["secrets"])],
        vec!["http".to_owned(), list(&grants["http"])],
    ];
    if grants.get("networks").is_some() {
        rows.push(vec!["networks".to_owned(), list(&grants["networks"])]);
    }
    if grants.get("sensitive").is_some() {
        rows.push(vec!["sensitive".to_owned(), list(&grants["sensitive"])]);
    }
    let of_secrets = grants["secrets"].as_object().into_iter().flatten();
    rows.extend(of_secrets.map(|(name, hosts)| vec![format!("secret {name} to"), list(hosts)]));
    if field(installation, "kind") == "connector" {
        let consent = if grants["consent"] == "give" { "give" } else { "keep" };
        rows.push(vec!["consent".to_owned(), consent.to_owned()]);
    }
    if field(installation, "kind") == "channel" {
        rows.push(vec!["recipients".to_owned(), list(&grants["recipients"])]);
        for name in ["messages_at_once", "requests_per_host"] {
            let limit = &installation["effective_policy"][name];
            let value = format!("{}, set by {}", field(limit, "value"), field(limit, "source"));
            rows.push(vec![name.replace('_', " "), value]);
        }
    }
    output::table(&["what", "value"], rows)
}

/// Fit now and wait for the end.
pub(crate) fn fit(client: &Client, installation: &Name, step: &Step) -> Result<Value, Failure> {
    let mut fit = client.post(&format!("{}/fit", path(installation)), &json!({}))?;
    let version = field(&fit, "version");
    while field(&fit, "status") == "running" {
        if let Some(progress) = fit.get("progress").filter(|progress| progress.is_object()) {
            let [done, total] = ["rows_done", "rows_total"].map(|name| output::count(output::number(progress, name)));
            step.say(format!("{done} of {total} profiles"));
        }
        pause(FIT_POLL);
        let fits = client.get(&format!("{}/fits", path(installation)))?;
        fit = items(&fits)
            .iter()
            .find(|listed| field(listed, "version") == version)
            .cloned()
            .ok_or_else(|| Failure::Failed(format!("fit {version} of {installation} is no longer listed")))?;
    }
    match field(&fit, "status").as_str() {
        "failed" => Err(Failure::Failed(format!("fitting {installation}: {}", field(&fit, "error")))),
        _ => Ok(fit),
    }
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
                cut(&field(plugin, "title"), 60),
            ]
        })
        .collect();
    output::table(&["plugin", "version", "kind", "size", "sha-256", "title"], rows)
}

fn installation_table(installations: &[Value]) -> String {
    let rows = installations
        .iter()
        .map(|installation| {
            let columns = ["name", "plugin", "version", "kind", "mode", "fit"];
            let mut row = columns.map(|name| cut(&field(installation, name), 60)).to_vec();
            let activity = installation.get("activity").unwrap_or(&Value::Null);
            let [state, since, why] = ["state", "since", "why"].map(|name| field(activity, name));
            row.push(if state == "held" { cut(&format!("held since {since}: {why}"), 120) } else { state });
            row
        })
        .collect();
    output::table(&["installation", "plugin", "version", "kind", "mode", "fit", "activity"], rows)
}

fn installations(installations: &[Value]) -> String {
    with_to_do(installation_table(installations), installations)
}

fn one_installation(answer: &Value) -> String {
    with_to_do(digits::pretty(answer), std::slice::from_ref(answer))
}

/// A text, and below it what is to be done for installations that wait for somebody.
fn with_to_do(mut text: String, installations: &[Value]) -> String {
    let waits = |installation: &&Value| installation["activity"]["waits_for"] == "fit";
    let is_stopped = |installation: &&Value| installation["mode"] == "quarantined";
    let waiting = installations.iter().filter(waits).map(|installation| field(installation, "name"));
    let waiting = waiting
        .map(|name| format!("{name} waits to be fitted, its old values serve until then: `kith plugin fit {name}`"));
    let stopped = installations.iter().filter(is_stopped).map(|installation| {
        let name = field(installation, "name");
        let enable = format!("`kith plugin enable {name}`");
        if let Some(next) = installation["activity"]["next_trial_at"].as_str() {
            return format!(
                "{name} was stopped by the kernel and is tried again from {next} on; once its cause is mended, {enable} does not wait"
            );
        }
        match field(installation, "kind").as_str() {
            "tag-model" | "scorer" => format!(
                "{name} was stopped by the kernel: if it failed on its fit, `kith plugin fit {name}`; then {enable}"
            ),
            _ => format!("{name} was stopped by the kernel: once its cause is mended, {enable}"),
        }
    });
    let to_do: Vec<String> = waiting.chain(stopped).collect();
    if !to_do.is_empty() {
        text.push('\n');
    }
    to_do.iter().for_each(|line| text.push_str(&format!("\n{line}")));
    text
}

fn installed(answer: &Value) -> String {
    let mut text = installations(std::slice::from_ref(answer));
    let write_key = field(answer, "write_key");
    if !write_key.is_empty() {
        text.push_str(&format!("\n\nwrite key for its senders, shown only now: {write_key}"));
    }
    text
}

fn fit_table(fits: &[Value]) -> String {
    let rows = fits
        .iter()
        .map(|fit| {
            let columns = ["version", "status", "started_at", "finished_at"];
            let mut row = columns.map(|name| field(fit, name)).to_vec();
            row.push(metrics(fit).join("\n"));
            row
        })
        .collect();
    output::table(&["fit", "status", "started", "finished", "metrics"], rows)
}

/// `name = value` for each metric of a fit.
fn metrics(fit: &Value) -> Vec<String> {
    let line = |name: &str, value: &Value| match value.as_f64() {
        Some(number) => format!("{name} = {number:.4}"),
        None => format!("{name} = {value}"),
    };
    let metrics = fit.get("metrics").and_then(Value::as_object).into_iter().flatten();
    metrics.map(|(name, value)| line(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_fit_is_told_how_to_begin_one() {
        let held = |name: &str, waits_for: Value| {
            let activity =
                json!({ "state": "held", "since": "2026-11-21T10:00:00.000Z", "why": "why", "waits_for": waits_for });
            json!({ "name": name, "activity": activity })
        };
        let all = [held("rfm", json!("fit")), held("off", Value::Null)];
        let text = installations(&all);
        assert!(text.ends_with("old values serve until then: `kith plugin fit rfm`"), "{text}");
        assert!(!installations(&all[1..]).contains("plugin fit"));
        let stopped =
            |kind| json!({ "name": "it", "kind": kind, "mode": "quarantined", "activity": { "state": "held" } });
        let text = installations(&[stopped("scorer")]);
        assert!(text.ends_with("`kith plugin fit it`; then `kith plugin enable it`"), "{text}");
        assert!(!installations(&[stopped("channel")]).contains("plugin fit"));
        let mut tried = stopped("scorer");
        tried["activity"]["next_trial_at"] = json!("2026-11-21T10:01:00.000Z");
        let text = installations(&[tried]);
        assert!(text.contains("tried again from 2026-11-21T10:01:00.000Z on"), "{text}");
    }

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
            grant_network: vec!["10.1.0.0/16".parse().unwrap()],
            grant_recipient: Vec::new(),
            grant_sensitive: Vec::new(),
            grant_kv: None,
            grant_consent: Some(ConsentGrantArg::Give),
            grants_later: false,
            sending: SendingArgs { messages_at_once: Some(LimitArg::None), ..Default::default() },
        };
        assert!(args.changes_grants());
        let secrets = secrets(&args.secret).unwrap();
        let expected = json!({
            "http": ["c.example"], "networks": ["10.1.0.0/16"], "kv_bytes": 5, "recipients": ["email"], "limits": { "messages_at_once": null }, "consent": "give",
            "secrets": { "signing": ["c.example"], "fine": ["b.example"], "token": ["c.example"] },
        });
        assert_eq!(grants(present.clone(), &args, &secrets), expected);
        let given = grants(present.clone(), &args, &secrets);
        let kept = InstallationChangeArgs { grant_consent: Some(ConsentGrantArg::Keep), ..args };
        assert_eq!(grants(given, &kept, &secrets).get("consent"), None);
        let none = InstallationChangeArgs { secret: vec!["signing=y".into()], grant_http: Vec::new(), ..kept };
        let secrets = super::secrets(&none.secret).unwrap();
        assert_eq!(
            grants(present, &none, &secrets)["secrets"],
            json!({ "signing": ["a.example"], "fine": ["b.example"] })
        );
    }

    #[test]
    fn an_installation_is_asked_for_with_its_grants_and_secrets() {
        let args = InstallArgs {
            plugin: crate::cli::args::PluginReference { id: "kith/webhook".parse().unwrap(), version: None },
            name: None,
            config: r#"{"url":"https://a.example/hook"}"#.into(),
            grant_http: vec!["a.example".into()],
            grant_network: Vec::new(),
            secret: vec!["signing=whsec_x=".into()],
            grant_recipient: Vec::new(),
            grant_sensitive: Vec::new(),
            grant_kv: 0,
            grant_consent: true,
            grants_later: false,
            disabled: false,
            sending: SendingArgs::default(),
        };
        let body = installation(&args).unwrap();
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
        let sending = SendingArgs { messages_at_once: Some(LimitArg::At(8)), ..Default::default() };
        let args = InstallArgs { sending, ..args };
        assert_eq!(installation(&args).unwrap()["grants"]["limits"], json!({ "messages_at_once": 8 }));
        let bad = InstallArgs { secret: vec!["signing".into()], ..args };
        assert_eq!(installation(&bad).unwrap_err().exit_code(), 2);
    }
}
