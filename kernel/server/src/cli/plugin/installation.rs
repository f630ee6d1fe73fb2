//! Installations as people read them: a table, one with all that it has, and what a change changed.

use std::collections::BTreeSet;

use kith_model::plugin::Manifest;
use serde_json::Value;

use super::fits::{alarm, schedule, unreported};
use crate::cli::output::{self, cut, field};
use crate::cli::{digits, items};

/// What a change changed, a line for each thing, with what it was before, and what it warns of.
pub(super) fn changed(installation: &Value) -> String {
    let changes = installation.get("changed").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return format!("{} is as it was", field(installation, "name"));
    }
    let mut rows = Vec::new();
    for change in changes {
        let (path, before, after) = (field(change, "path"), &change["before"], &change["after"]);
        // The values of secrets are nobody's to see, nor is what of a configuration is only written.
        if path.starts_with("secrets.") || before == after {
            rows.push(vec![path, String::new(), "changed".to_owned()]);
        } else {
            differences(path, (before, after), &mut rows);
        }
    }
    output::table(&["changed", "before", "after"], rows) + &output::warnings(installation)
}

/// A row for each member in which two objects differ, and one for what else differs.
fn differences(path: String, (before, after): (&Value, &Value), rows: &mut Vec<Vec<String>>) {
    let (Some(had), Some(has)) = (before.as_object(), after.as_object()) else {
        let (before, after) = apart(&list(before), &list(after));
        rows.push(vec![path, before, after]);
        return;
    };
    let names: BTreeSet<&String> = had.keys().chain(has.keys()).collect();
    for name in names {
        let values = (&before[name], &after[name]);
        if values.0 != values.1 {
            differences(format!("{path}.{name}"), values, rows);
        }
    }
}

/// How much stands before the first letter that differs, where what comes before it is too long to be shown.
const SHOWN_BEFORE: usize = 20;

/// Two texts as cells. Of long ones that begin alike the part is shown in which they differ.
fn apart(before: &str, after: &str) -> (String, String) {
    let alike = before.chars().zip(after.chars()).take_while(|(one, other)| one == other).count();
    if alike < MAX_CELL {
        return (cut(before, MAX_CELL), cut(after, MAX_CELL));
    }
    let from = |text: &str| {
        let rest: String = text.chars().skip(alike - SHOWN_BEFORE).collect();
        format!("…{}", cut(&rest, MAX_CELL - 1))
    };
    (from(before), from(after))
}

/// The widest value in a cell.
const MAX_CELL: usize = 80;

fn list(value: &Value) -> String {
    match value.as_array() {
        Some(all) => all.iter().map(output::plain).collect::<Vec<_>>().join(", "),
        None => output::plain(value),
    }
}

/// What it may do: what was granted, as far as the plugin asks for it and the host allows it.
fn grant_rows(installation: &Value) -> Vec<Vec<String>> {
    let (grants, holds) = (&installation["grants"], &installation["effective_policy"]);
    let kind = field(installation, "kind");
    let mut rows = vec![vec!["secrets".to_owned(), list(&installation["secrets"])]];
    let reached: Vec<Value> = items(&holds["http"]).iter().map(|rule| rule["host"].clone()).collect();
    for (value, what) in [
        (&Value::Array(reached), "may reach"),
        (&holds["mail"], "may mail through"),
        (&holds["networks"], "in networks"),
        (&grants["sensitive"], "may read"),
        (&holds["kv_bytes"]["value"], "bytes of state"),
    ] {
        let value = list(value);
        if !value.is_empty() && value != "0" {
            rows.push(vec![what.to_owned(), value]);
        }
    }
    // One that signatures are only checked with is sent nowhere.
    let of_secrets = holds["secrets"].as_object().into_iter().flatten().map(|(name, hosts)| (name, list(hosts)));
    let of_secrets = of_secrets.filter(|(_, hosts)| !hosts.is_empty());
    rows.extend(of_secrets.map(|(name, hosts)| vec![format!("secret {name} to"), hosts]));
    rows.extend(in_vain(installation).map(|grant| vec!["granted in vain".to_owned(), grant]));
    if let Some(names) = installation["emits"].as_array() {
        rows.push(vec!["may emit".to_owned(), emitted(names)]);
    }
    if kind == "connector" {
        let consent = if grants["consent"] == "give" { "give: agrees and refuses" } else { "keep: only refuses" };
        rows.push(vec!["consent".to_owned(), consent.to_owned()]);
    }
    if kind == "channel" {
        rows.push(vec!["recipients".to_owned(), recipients(installation)]);
        rows.extend(purposes(installation).map(|purposes| vec!["carries".to_owned(), purposes]));
    }
    rows
}

/// Grants that have no effect, each with the reason. Where a secret may go is granted with the hosts, asked for or not.
fn in_vain(installation: &Value) -> impl Iterator<Item = String> {
    let all = items(&installation["effective_policy"]["without_effect"]).iter().map(output::plain);
    all.filter(|grant| !grant.starts_with("secrets: the manifest does not send"))
}

/// The names of events that it may emit.
fn emitted(names: &[Value]) -> String {
    match names {
        [] => "no events".to_owned(),
        [any] if any == "*" => "any event".to_owned(),
        names => names.iter().map(output::plain).collect::<Vec<_>>().join(", "),
    }
}

/// How the signature of the version that it runs stands.
fn signature_rows(installation: &Value) -> Option<Vec<String>> {
    let signature = installation.get("signature")?;
    let parts = ["state", "publisher", "problem"].map(|name| field(signature, name));
    let said: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Some(vec!["signature".to_owned(), said.join(": ")])
}

/// Why a channel sends nothing, where it is given nobody.
fn sends_nothing(installation: &Value) -> Option<String> {
    let is_given_nobody = installation["effective_policy"]["recipients"].as_array().is_some_and(Vec::is_empty);
    (field(installation, "kind") == "channel" && is_given_nobody).then(|| recipients(installation))
}

/// Which types of a person's identifiers a channel is given, and why none where it is given none: then it sends nothing.
fn recipients(installation: &Value) -> String {
    let granted = &installation["grants"]["recipients"];
    let given = installation["effective_policy"]["recipients"].as_array();
    match (granted, given.is_some_and(Vec::is_empty)) {
        (Value::Null, true) => "none, and so it sends nothing: the plugin asks for none".to_owned(),
        (_, true) => {
            "none, and so it sends nothing: `kith plugin change NAME --grant-recipient TYPE` grants what the plugin asks for".to_owned()
        }
        (Value::Null, false) => "all that the plugin asks for".to_owned(),
        (granted, false) => list(granted),
    }
}

/// The purposes that a channel carries messages for, where those are not all.
fn purposes(installation: &Value) -> Option<String> {
    let names = installation["effective_policy"]["purposes"].as_array()?;
    Some(match names.as_slice() {
        [] => "messages for no purpose, and so it sends nothing".to_owned(),
        names => format!("messages for {}", names.iter().map(output::plain).collect::<Vec<_>>().join(", ")),
    })
}

fn installation_table(installations: &[Value]) -> String {
    let rows = installations
        .iter()
        .map(|installation| {
            let columns = ["name", "plugin", "version", "kind", "mode", "fit"];
            let mut row = columns.map(|name| cut(&field(installation, name), 60)).to_vec();
            let activity = installation.get("activity").unwrap_or(&Value::Null);
            let [state, since, why] = ["state", "since", "why"].map(|name| field(activity, name));
            let state = if state == "held" { cut(&format!("held since {since}: {why}"), 120) } else { state };
            let alarm = &installation["fitting"]["alarm"];
            row.push(match alarm.is_object() {
                true => format!("{state}; fit {} {}", field(alarm, "fit"), field(alarm, "status")),
                false => state,
            });
            row
        })
        .collect();
    output::table(&["installation", "plugin", "version", "kind", "mode", "fit", "activity"], rows)
}

pub(super) fn installations(installations: &[Value]) -> String {
    with_to_do(installation_table(installations), installations)
}

/// A new installation for people, with what is shown of it only now.
pub(super) fn installed(answer: &Value) -> String {
    let mut text = installations(std::slice::from_ref(answer));
    if let Some(why) = sends_nothing(answer) {
        text.push_str(&format!("\n\nNobody is written to through it. Recipients: {why}"));
    }
    for grant in in_vain(answer) {
        text.push_str(&format!("\n\ngranted in vain: {grant}"));
    }
    if answer["fitting"]["learns"] == true && answer["fit"].is_null() {
        let name = field(answer, "name");
        text.push_str(&format!(
            "\n\n{name} learns, and has learned nothing yet: `kith plugin fit {name}` fits it to everybody's data, \
             `kith plugin change {name} --fit-every 7d` again and again"
        ));
    }
    let write_key = field(answer, "write_key");
    if !write_key.is_empty() {
        text.push_str(&format!("\n\nwrite key for its senders, shown only now: {write_key}"));
    }
    text
}

/// The columns that a plugin is given, each with its expression, and those that it answers with.
fn column_rows(manifest: &Manifest) -> Vec<Vec<String>> {
    let cell = |text: &str| cut(&output::visible(text), MAX_CELL);
    let sees = manifest.inputs.iter();
    let sees = sees.map(|input| vec![format!("sees {}", input.name), cell(&input.expression)]);
    let writes = manifest.outputs.iter().map(|output| {
        let values = if output.values.is_empty() { String::new() } else { format!(" ({})", output.values.join(", ")) };
        vec![format!("writes {}", output.name), cell(&format!("{}{values}", output.description))]
    });
    sees.chain(writes).collect()
}

/// All of one installation for people: what it is, how it stands, and what it may do.
pub(super) fn one_installation(answer: &Value, manifest: Option<&Manifest>) -> String {
    let named = |what: &str, value: String| vec![what.to_owned(), value];
    let dev = if answer["dev"] == true { ", a dev version whose bytes may change" } else { "" };
    let plugin = format!("{} {}, a {}{dev}", field(answer, "plugin"), field(answer, "version"), field(answer, "kind"));
    let mut rows = vec![named("installation", field(answer, "name")), named("plugin", plugin)];
    let why = [field(answer, "mode"), field(answer, "mode_reason")];
    rows.push(named("mode", why.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": ")));
    rows.extend(back_rows(answer));
    let activity = &answer["activity"];
    let [state, since, why] = ["state", "since", "why"].map(|name| field(activity, name));
    rows.extend(signature_rows(answer));
    rows.push(named("activity", if state == "held" { format!("held since {since}: {why}") } else { state }));
    let optional =
        [("fit", "fit in use"), ("write_key_id", "write key"), ("created_at", "created"), ("updated_at", "changed")];
    let optional =
        optional.into_iter().map(|(name, what)| (what, field(answer, name))).filter(|(_, value)| !value.is_empty());
    rows.extend(optional.map(|(what, value)| named(what, value)));
    let state_version = &answer["state_version"];
    if state_version.is_object() {
        let [has, needs] = ["has", "needs"].map(|name| field(state_version, name));
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        rows.push(named("form of its state", format!("has {}, needs {}", or_none(has), or_none(needs))));
    }
    let poll = &answer["poll"];
    if poll.is_object() {
        rows.push(named("polls every", format!("{}, set by {}", field(poll, "interval"), field(poll, "source"))));
    }
    rows.extend(schedule(&answer["fitting"]).map(|schedule| named("fitted", schedule)));
    for (figure, bound) in answer["fitting"]["guard"].as_object().into_iter().flatten() {
        rows.push(named(&format!("a fit's {figure}"), output::plain(bound)));
    }
    let drift = &answer["fitting"]["drift"];
    if drift.is_object() {
        rows.push(named("a fit's inputs", output::plain(drift)));
    }
    if answer["fitting"]["use"] == "better" {
        let measure = field(&answer["fitting"], "measure");
        let by = if measure.is_empty() { measure } else { format!(" by {measure}") };
        rows.push(named(
            "a fit is used",
            format!("if it is at least as good{by} as the one in use on who is held out"),
        ));
    }
    rows.extend(manifest.into_iter().flat_map(column_rows));
    rows.extend(grant_rows(answer));
    for host in answer.get("receiving_hosts").and_then(Value::as_array).into_iter().flatten() {
        let [name, state, under_way, reason] =
            ["host", "state", "under_way", "reason"].map(|member| field(host, member));
        let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
        let under_way = if under_way.is_empty() { under_way } else { format!(", {under_way} under way") };
        rows.push(named(&format!("sends to {name}"), format!("{state}{under_way}{reason}")));
    }
    for (name, limit) in answer["effective_policy"].as_object().into_iter().flatten() {
        let is_told = concerns(name, &field(answer, "kind"));
        if let (true, Some(value), Some(source)) = (is_told, limit.get("value"), limit.get("source")) {
            rows.push(named(
                &name.replace('_', " "),
                format!("{}, set by {}", output::plain(value), output::plain(source)),
            ));
        }
    }
    let config = digits::pretty(&answer["config"]);
    let unshown = unshown(answer);
    let text = format!("{}\n\nconfiguration:\n{config}{unshown}", output::table(&["what", "value"], rows));
    with_to_do(text, std::slice::from_ref(answer))
}

/// Which version serves again where this one is stopped, and which were stopped.
fn back_rows(answer: &Value) -> Vec<Vec<String>> {
    let back = field(answer, "falls_back_to");
    let back = (!back.is_empty()).then(|| vec!["if it fails".to_owned(), format!("{back} serves again")]);
    let stopped = answer["stopped_versions"].as_object().into_iter().flatten();
    let stopped = stopped.map(|(version, why)| vec![format!("{version} was stopped"), output::plain(why)]);
    back.into_iter().chain(stopped).collect()
}

/// Whether a limit means anything for a plugin of that kind. That of state stands among the grants.
fn concerns(limit: &str, kind: &str) -> bool {
    match limit {
        "fit_cpu_ms" | "fit_wall_ms" => matches!(kind, "tag-model" | "scorer"),
        "messages_at_once" | "requests_per_host" => kind == "channel",
        "requests_per_minute" => matches!(kind, "connector" | "channel"),
        limit => limit != "kv_bytes",
    }
}

/// What of a configuration is only written, and whether it is set.
fn unshown(answer: &Value) -> String {
    let all = answer["config_set"].as_object().into_iter().flatten();
    let state = |is_set: &Value| if is_set.as_bool() == Some(true) { "set" } else { "not set" };
    let all: Vec<String> = all.map(|(name, is_set)| format!("{name} ({})", state(is_set))).collect();
    if all.is_empty() { String::new() } else { format!("\nnever shown: {}", all.join(", ")) }
}

/// What is to be done where a version has no answer for some people.
pub(crate) fn fails_on(installation: &Value) -> Option<String> {
    let uncomputed = installation.get("uncomputed")?;
    let (name, people) = (field(installation, "name"), output::counted(output::number(uncomputed, "people"), "person"));
    Some(format!(
        "{name} {} has no answer for {people} since {}, whose older values count: {}; `kith dead-letters list --source {name}` has \
         more, `kith plugin upgrade {name} --version VERSION --allow-downgrade` goes back to a version that had",
        field(installation, "version"),
        field(uncomputed, "since"),
        cut(&field(&uncomputed["last_fault"], "message"), 200)
    ))
}

/// A text, and below it what is to be done for installations that wait for somebody.
pub(super) fn with_to_do(mut text: String, installations: &[Value]) -> String {
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
                "{name} was stopped by the kernel: `kith plugin upgrade {name} --version VERSION --allow-downgrade` goes back to a \
                 version that worked; if it failed on its fit, `kith plugin fit {name}`; then {enable}"
            ),
            _ => format!("{name} was stopped by the kernel: once its cause is mended, {enable}"),
        }
    });
    let failing = installations.iter().filter_map(fails_on);
    let is_yanked = |installation: &&Value| installation["yanked"].is_object();
    let yanked = installations.iter().filter(is_yanked).map(|installation| {
        let [name, plugin, version] = ["name", "plugin", "version"].map(|member| field(installation, member));
        let [reason, instead] = ["reason", "instead"].map(|member| field(&installation["yanked"], member));
        let instead = match instead.as_str() {
            "" => "the server holds no other version".to_owned(),
            instead => {
                let is_way_back = installation["yanked"]["allow_downgrade"] == true;
                let flag = if is_way_back { " --allow-downgrade" } else { "" };
                format!("`kith plugin upgrade {name} --version {instead}{flag}`")
            }
        };
        format!("{name} runs {plugin} {version}, which was yanked: {reason}; {instead}")
    });
    // One that is switched off does not go on.
    let is_revoked =
        |installation: &&Value| installation["signature"]["state"] == "revoked" && installation["mode"] != "disabled";
    let revoked = installations.iter().filter(is_revoked).map(|installation| {
        let (name, problem) = (field(installation, "name"), field(&installation["signature"], "problem"));
        format!(
            "{name} goes on with a version that is not to be trusted, {problem}: `kith plugin disable {name}` stops it"
        )
    });
    let of_fits = installations.iter().filter_map(alarm).chain(installations.iter().filter_map(unreported));
    let to_do: Vec<String> =
        waiting.chain(stopped).chain(failing).chain(yanked).chain(revoked).chain(of_fits).collect();
    if !to_do.is_empty() {
        text.push('\n');
    }
    to_do.iter().for_each(|line| text.push_str(&format!("\n{line}")));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_channel_that_can_write_to_nobody_says_so_when_it_is_installed() {
        let with = |kind: &str, given: Value| {
            installed(&json!({
                "name": "mail", "kind": kind, "grants": { "recipients": ["phone"] },
                "effective_policy": { "recipients": given },
            }))
        };
        assert!(with("channel", json!([])).contains("`kith plugin change NAME --grant-recipient TYPE`"));
        for (kind, given) in [("channel", json!(["email"])), ("scorer", json!([]))] {
            assert!(!with(kind, given.clone()).contains("Nobody is written to"), "{kind} {given}");
        }
    }

    /// What was granted and not asked for stood there as if it held.
    #[test]
    fn what_is_granted_and_not_asked_for_is_told_as_granted_in_vain() {
        let hosts = json!(["api.example.com", "b.example"]);
        let answer = json!({
            "name": "hook", "kind": "channel",
            "grants": { "http": hosts, "secrets": { "signing": hosts }, "kv_bytes": 200 },
            "effective_policy": {
                "http": [{ "host": "b.example", "methods": ["POST"] }], "mail": [], "networks": [],
                "secrets": { "signing": [] }, "kv_bytes": { "value": 0, "source": "manifest" },
                "without_effect": [
                    "http: the manifest does not ask for `api.example.com`",
                    "secrets: the manifest does not send `signing` to `b.example`",
                    "kv_bytes: the manifest asks for no state",
                ],
            },
        });
        let rows = grant_rows(&answer);
        let of = |what: &str| rows.iter().filter(|row| row[0] == what).map(|row| row[1].as_str()).collect::<Vec<_>>();
        assert_eq!(of("may reach"), ["b.example"]);
        assert_eq!((of("bytes of state").len(), of("secret signing to").len()), (0, 0));
        let vain =
            ["http: the manifest does not ask for `api.example.com`", "kv_bytes: the manifest asks for no state"];
        assert_eq!(of("granted in vain"), vain);
        let said = installed(&answer);
        assert!(vain.iter().all(|grant| said.contains(&format!("granted in vain: {grant}"))), "{said}");
    }

    #[test]
    fn a_model_that_learns_says_how_it_is_fitted_when_it_is_installed() {
        let with = |learns: bool, fit: Value| {
            installed(&json!({ "name": "clv", "kind": "scorer", "fit": fit, "fitting": { "learns": learns } }))
        };
        assert!(with(true, Value::Null).contains("nothing yet: `kith plugin fit clv`"));
        assert!(!with(true, json!(1)).contains("plugin fit") && !with(false, Value::Null).contains("plugin fit"));
    }

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
    fn for_whom_a_version_has_no_answer_is_told_with_the_way_back() {
        let failing = json!({ "name": "it", "version": "0.1.1", "kind": "tag-model", "mode": "live", "activity": {},
            "uncomputed": { "people": 276, "since": "2026-11-21T10:00:00.000Z",
                "last_fault": { "at": "2026-11-21T10:00:01.000Z", "code": "trap", "message": "trap: boom" } } });
        let text = installations(&[failing]);
        let told = "it 0.1.1 has no answer for 276 people since 2026-11-21T10:00:00.000Z, whose older values count: trap: boom; ";
        assert!(text.contains(told) && text.contains("--allow-downgrade"), "{text}");
    }

    #[test]
    fn who_runs_a_yanked_version_is_told_which_one_to_take() {
        let runs = |instead: Value| {
            let yanked = json!({ "reason": "it loses rows", "instead": instead });
            json!({ "name": "web", "plugin": "kith/csv", "version": "0.2.0", "activity": {}, "yanked": yanked })
        };
        let text = installations(&[runs(json!("0.3.0"))]);
        assert!(text.ends_with("was yanked: it loses rows; `kith plugin upgrade web --version 0.3.0`"), "{text}");
        assert!(installations(&[runs(Value::Null)]).ends_with("the server holds no other version"));
        let mut back = runs(json!("0.1.0"));
        back["yanked"]["allow_downgrade"] = json!(true);
        let text = installations(&[back]);
        assert!(text.ends_with("`kith plugin upgrade web --version 0.1.0 --allow-downgrade`"), "{text}");
    }

    #[test]
    fn who_runs_what_a_revoked_key_signed_is_told_until_it_is_switched_off() {
        let signed = |mode: &str| {
            let signature = json!({ "state": "revoked", "problem": "it is signed with key 1, which is revoked" });
            installations(&[json!({ "name": "web", "mode": mode, "activity": {}, "signature": signature })])
        };
        let told = "not to be trusted, it is signed with key 1, which is revoked: `kith plugin disable web` stops it";
        assert!(signed("live").ends_with(told) && signed("quarantined").contains(told));
        assert!(!signed("disabled").contains("goes on"), "{}", signed("disabled"));
    }

    #[test]
    fn a_change_shows_what_it_changed_and_no_secret() {
        let answer = json!({ "name": "hook", "changed": [
            { "path": "version", "before": "0.1.0", "after": "0.2.0" },
            { "path": "grants.http", "before": ["a.example"], "after": ["a.example", "b.example"] },
            { "path": "secrets.signing", "before": null, "after": null },
        ]});
        insta::assert_snapshot!(changed(&answer), @r"
         changed           before      after
        ────────────────────────────────────────────────────
         version           0.1.0       0.2.0
         grants.http       a.example   a.example, b.example
         secrets.signing               changed
        ");
        assert_eq!(changed(&json!({ "name": "hook", "changed": [] })), "hook is as it was");
        let grants = json!([{ "path": "grants.purposes", "before": null, "after": ["service"] }]);
        let text =
            changed(&json!({ "name": "hook", "changed": grants, "warnings": ["audience `news` sends for `x`"] }));
        assert!(text.ends_with("\n\nwarning: audience `news` sends for `x`"), "{text}");
    }

    #[test]
    fn of_an_object_only_what_changed_is_shown() {
        let limits = |wall_ms: Value| json!({ "cpu_ms": null, "memory_bytes": null, "wall_ms": wall_ms });
        let hosts = |last: &str| format!("{}{last}", "a.example, ".repeat(20));
        let answer = json!({ "name": "scorer", "changed": [
            { "path": "grants.limits", "before": limits(Value::Null), "after": limits(json!(500)) },
            { "path": "config.mail", "before": { "from": { "name": "a", "at": 1 } }, "after": { "from": { "at": 1 } } },
            { "path": "config.hosts", "before": hosts("b.example"), "after": hosts("c.example") },
        ]});
        insta::assert_snapshot!(changed(&answer), @r"
         changed                 before                           after
        ─────────────────────────────────────────────────────────────────────────────────────────
         grants.limits.wall_ms                                    500
         config.mail.from.name   a
         config.hosts            …example, a.example, b.example   …example, a.example, c.example
        ");
    }

    /// Of the grant, and of what comes of it.
    #[test]
    fn a_channel_that_is_given_nobody_says_so() {
        for (granted, given, said) in [
            (Value::Null, json!(["email"]), "all that the plugin asks for"),
            (Value::Null, json!([]), "the plugin asks for none"),
            (json!(["email", "phone"]), json!(["email"]), "email, phone"),
            (json!([]), json!([]), "--grant-recipient TYPE"),
            (json!(["fax"]), json!([]), "--grant-recipient TYPE"),
            // Of a plugin whose component is gone there is no policy.
            (Value::Null, Value::Null, "all that the plugin asks for"),
        ] {
            let policy = json!({ "recipients": given });
            let channel = json!({ "kind": "channel", "grants": { "recipients": granted }, "effective_policy": policy });
            let shown = recipients(&channel);
            assert!(shown.contains(said), "{channel}: {shown}");
            assert_eq!(shown.contains("sends nothing"), given == json!([]), "{channel}: {shown}");
        }
    }

    #[test]
    fn a_channel_says_what_it_carries_where_that_is_bounded() {
        let shown = |carried: Value| purposes(&json!({ "effective_policy": { "purposes": carried } }));
        assert_eq!(shown(Value::Null), None);
        assert_eq!(shown(json!(["news", "service"])).as_deref(), Some("messages for news, service"));
        assert!(shown(json!([])).is_some_and(|said| said.contains("it sends nothing")));
    }

    #[test]
    fn what_a_model_sees_and_writes_is_shown() {
        let text = include_str!("../../../../../plugins/tag-model-lifecycle/plugin.toml");
        let manifest = kith_host::parse_manifest(text).unwrap();
        let answer = json!({ "name": "stages", "kind": "tag-model" });
        let (shown, without) = (one_installation(&answer, Some(&manifest)), one_installation(&answer, None));
        for (input, output) in manifest.inputs.iter().zip(&manifest.outputs) {
            let told = [format!("sees {}", input.name), format!("writes {}", output.name)];
            assert!(told.iter().all(|told| shown.contains(told) && !without.contains(told)), "{shown}");
        }
    }

    #[test]
    fn one_installation_is_shown_to_people() {
        let answer = json!({
            "name": "web", "plugin": "kith/segment", "version": "0.1.0", "kind": "connector", "mode": "live", "mode_reason": null,
            "activity": { "state": "running" }, "config": { "a": 1 }, "secrets": [], "fit": null, "write_key_id": "k1",
            "grants": { "http": [], "secrets": { "sig": [] }, "kv_bytes": 0, "mail": [], "limits": {} },
            "emits": ["Order Completed", "Order Refunded"],
            "effective_policy": {
                "cpu_ms": { "value": 500, "source": "host" }, "http": [], "kv_bytes": { "value": 0, "source": "manifest" },
                // Of other kinds.
                "fit_cpu_ms": { "value": 9, "source": "host" }, "messages_at_once": { "value": 9, "source": "host" },
            },
            "created_at": "2026-11-21T10:00:00.000Z", "updated_at": "2026-11-21T10:00:00.000Z",
        });
        insta::assert_snapshot!(one_installation(&answer, None), @r#"
         what           value
        ────────────────────────────────────────────────
         installation   web
         plugin         kith/segment 0.1.0, a connector
         mode           live
         activity       running
         write key      k1
         created        2026-11-21T10:00:00.000Z
         changed        2026-11-21T10:00:00.000Z
         secrets
         may emit       Order Completed, Order Refunded
         consent        keep: only refuses
         cpu ms         500, set by host

        configuration:
        {
          "a": 1
        }
        "#);
        assert_eq!(unshown(&json!({ "config_set": {} })), "");
        let back = json!({ "falls_back_to": "0.1.0", "stopped_versions": { "0.3.0": "trap: boom" } });
        assert_eq!(back_rows(&back), [["if it fails", "0.1.0 serves again"], ["0.3.0 was stopped", "trap: boom"]]);
        let set = json!({ "config_set": { "auth.pin": false, "token": true } });
        assert_eq!(unshown(&set), "\nnever shown: auth.pin (not set), token (set)");
        let untold = json!({ "changed": [{ "path": "config.token", "before": null, "after": null }] });
        assert!(changed(&untold).lines().any(|line| line.contains("config.token") && line.contains("changed")));
        assert_eq!(emitted(&[json!("*")]), "any event");
        assert_eq!(emitted(&[]), "no events");
    }
}
