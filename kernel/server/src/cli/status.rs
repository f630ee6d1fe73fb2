//! `kith status`: whether the server can do its work, what the workspace holds, and how far the work behind the log has come.

use serde_json::{Value, json};

use super::client::{ApiError, Client};
use super::output::{self, AnswerFormat, count, field, number};
use super::plugin::fails_on;
use super::{Failure, items, print_json};

pub(crate) fn run(client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let version = field(&client.get("/healthz")?, "version");
    // A server that is not ready says why with a status of its own, which is an answer here and no failure.
    let ready = match client.get("/readyz") {
        Err(ApiError::Refused(problem)) if problem.http_status == 503 => problem.document.unwrap_or_default(),
        other => other?,
    };
    let workspace = seen(client.get("/api/v1/workspace"))?;
    // Of those that the kernel switched off, or that fail, a key learns that may look at plugins.
    let installations = seen(client.whole("/api/v1/installations"))?;
    let stopped = installations.as_ref().map(|all| stopped(items(all)));
    let failing: Vec<String> = installations.iter().flat_map(items).filter_map(fails_on).collect();
    if format.is_json() {
        let mut answer = workspace.unwrap_or_else(|| json!({}));
        answer["server"] = json!({ "url": client.base_url(), "version": version, "readiness": ready });
        answer["stopped"] = json!(stopped);
        answer["failing"] = json!(failing);
        return print_json(&answer);
    }
    let report = report(client.base_url(), &version, &ready, workspace.as_ref(), stopped.as_deref());
    output::say(with_failing(report, &failing))
}

/// A report, and below it what plugins have no answer for.
fn with_failing(mut report: String, failing: &[String]) -> String {
    if !failing.is_empty() {
        report.push('\n');
    }
    failing.iter().for_each(|line| report.push_str(&format!("\n{line}")));
    report
}

/// An answer, or none where the key may not ask.
fn seen(answer: Result<Value, ApiError>) -> Result<Option<Value>, ApiError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ApiError::Refused(problem)) if problem.http_status == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Installations that the kernel switched off, with what it says of them.
fn stopped(installations: &[Value]) -> Vec<String> {
    let stopped = installations.iter().filter(|installation| installation["mode"] == "quarantined");
    stopped
        .map(|installation| format!("{}: {}", field(installation, "name"), field(installation, "mode_reason")))
        .collect()
}

fn report(url: &str, version: &str, ready: &Value, workspace: Option<&Value>, stopped: Option<&[String]>) -> String {
    let state = match field(ready, "status").as_str() {
        "ready" => "it is ready".to_owned(),
        other => {
            let since = field(ready, "since");
            let since = if since.is_empty() { since } else { format!(" since {since}") };
            format!("it is not ready: {other}{since}. {}", field(ready, "problem"))
        }
    };
    let mut text = format!("Kith {version} at {url}: {}\n\n", state.trim_end());
    match workspace {
        Some(workspace) => text.push_str(&output::table(&["of this workspace", ""], rows(workspace))),
        None => text.push_str("what the workspace holds needs a key with `metrics:read`"),
    }
    match stopped {
        None => text.push_str("\n\nwhether a plugin was stopped needs a key with `plugins:admin`"),
        Some([]) => {}
        Some(stopped) => {
            text.push_str("\n\nstopped by the kernel, `kith plugin show NAME` has more:");
            stopped.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
        }
    }
    text
}

/// The figures of a workspace in words.
fn rows(workspace: &Value) -> Vec<Vec<String>> {
    let [totals, progress] = ["totals", "progress"].map(|name| &workspace[name]);
    let deliveries = &totals["deliveries"];
    let title = field(workspace, "title");
    let name = field(workspace, "name");
    let name = if title.is_empty() { name } else { format!("{name} ({title})") };
    let behind = number(progress, "head").saturating_sub(number(progress, "reacted"));
    // What is missing is withheld from the key.
    let figure = |object: &Value, name: &str| {
        object.get(name).and_then(Value::as_u64).map_or_else(|| "needs `profiles:read`".to_owned(), count)
    };
    [
        ("name", name),
        ("state", field(workspace, "state")),
        ("time zone", field(workspace, "time_zone")),
        ("people", figure(totals, "profiles")),
        ("identifiers of people", figure(totals, "identifiers")),
        ("events", figure(totals, "events")),
        ("tags", figure(totals, "tags")),
        ("scores", figure(totals, "scores")),
        ("messages delivered", figure(deliveries, "delivered")),
        ("messages under way", figure(deliveries, "pending")),
        ("messages not sent, e.g. for want of consent", figure(deliveries, "skipped")),
        ("messages given up", figure(deliveries, "dead")),
        ("dead letters of records and computations", figure(totals, "set_aside")),
        ("log records not worked off yet", count(behind)),
        ("people who wait for a first computation", figure(progress, "backlog")),
    ]
    .map(|(what, value)| vec![what.to_owned(), value])
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Value {
        json!({ "name": "default", "title": "", "state": "active", "time_zone": "UTC", "created_at": "x",
            "totals": { "profiles": 600, "identifiers": 1200, "events": 31106, "tags": 3, "scores": 0, "set_aside": 2,
                "deliveries": { "delivered": 1, "pending": 2, "skipped": 3, "dead": 4 } },
            "progress": { "head": 50, "reacted": 48, "backlog": 7 } })
    }

    #[test]
    fn a_status_says_in_words_how_the_server_and_the_workspace_are() {
        let ready = json!({ "status": "ready", "head": 50 });
        insta::assert_snapshot!(report("http://a", "0.1.0", &ready, Some(&workspace()), Some(&[])), @r"
        Kith 0.1.0 at http://a: it is ready

         of this workspace
        ───────────────────────────────────────────────────────
         name                                          default
         state                                         active
         time zone                                     UTC
         people                                        600
         identifiers of people                         1,200
         events                                        31,106
         tags                                          3
         scores                                        0
         messages delivered                            1
         messages under way                            2
         messages not sent, e.g. for want of consent   3
         messages given up                             4
         dead letters of records and computations      2
         log records not worked off yet                2
         people who wait for a first computation       7
        ");
    }

    #[test]
    fn what_a_version_has_no_answer_for_stands_below() {
        assert_eq!(with_failing("it is ready".into(), &[]), "it is ready");
        assert_eq!(with_failing("it is ready".into(), &["level fails".into()]), "it is ready\n\nlevel fails");
    }

    #[test]
    fn what_is_wrong_and_what_the_key_may_not_see_is_said() {
        let full = json!({ "status": "disk-full", "problem": "the disk is nearly full" });
        let stopped = stopped(&[
            json!({ "name": "clv", "mode": "quarantined", "mode_reason": "three faults" }),
            json!({ "name": "rfm", "mode": "live" }),
        ]);
        let text = report("http://a", "0.1.0", &full, Some(&workspace()), Some(&stopped));
        assert!(
            text.starts_with("Kith 0.1.0 at http://a: it is not ready: disk-full. the disk is nearly full\n"),
            "{text}"
        );
        assert!(text.ends_with("has more:\n  clv: three faults"), "{text}");
        let text = report("http://a", "0.1.0", &json!({ "status": "ready" }), None, None);
        assert!(text.contains("`metrics:read`") && text.contains("`plugins:admin`"), "{text}");
    }
}
