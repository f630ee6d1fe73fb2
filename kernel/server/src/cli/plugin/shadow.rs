//! `kith plugin shadow`: a version that runs beside an installation's live one, and how the two differ.

use std::time::Duration;

use serde_json::{Value, json};

use super::remote::path;
use crate::cli::args::ShadowArgs;
use crate::cli::client::{ApiError, Client};
use crate::cli::output::{self, field, number};
use crate::cli::{Failure, items};

pub(super) fn shadow(client: &Client, args: &ShadowArgs) -> Result<(Value, String), Failure> {
    let (installation, path) = (&args.installation, format!("{}/shadow", path(&args.installation)));
    if args.off {
        let ended = ended(client, &path)?;
        let text = match &ended {
            Some(version) => format!("{version} runs beside that of {installation} no more"),
            None => format!("there is none: no version ran beside that of {installation}"),
        };
        return Ok((json!({ "installation": installation.as_str(), "shadow": null, "ended": ended }), text));
    }
    let answer = match &args.version {
        Some(version) => client.put(&path, &json!({ "version": version.to_string() }))?,
        None => client.get(&path)?,
    };
    let text = report(installation.as_str(), &answer);
    Ok((answer, text))
}

/// End what an installation tries; the version that it tried, or none where there was none, which is no failure.
pub(super) fn ended(client: &Client, path: &str) -> Result<Option<String>, Failure> {
    let tried = match client.get(path) {
        Ok(answer) => Some(field(&answer, "version")),
        // Where it is the installation that is not there, the next answer says so.
        Err(ApiError::Refused(problem)) if problem.http_status == 404 => None,
        Err(error) => return Err(error.into()),
    };
    client.delete(path)?;
    Ok(tried)
}

/// What came of the two versions, side by side.
fn report(installation: &str, answer: &Value) -> String {
    let [version, live, since, counts] = ["version", "live_version", "since", "counts"].map(|name| field(answer, name));
    let runs = if answer["running"] == true { "runs" } else { "is to run, and does not now," };
    let mut text = format!("{version} {runs} beside {live} of {installation}, since {since}.\n");
    let compared = number(answer, "compared");
    if compared == 0 && skipped(answer).is_empty() {
        return format!(
            "{text}Nothing is compared yet: it is asked about whom the live version is asked about from now on."
        );
    }
    text.push_str(&format!("{} {counts} compared{}\n\n", output::count(compared), skipped(answer)));
    text.push_str(&sides(&live, &version, answer));
    text.push_str(&outputs(answer, "shadow"));
    text.push_str(&told(answer));
    text
}

/// How often each output of the two versions was the same, the other one being the shadow or the backtest.
pub(super) fn outputs(answer: &Value, other: &str) -> String {
    let outputs = items(&answer["outputs"]);
    if outputs.is_empty() {
        return String::new();
    }
    let only = format!("only_{other}");
    let row = |output: &Value| {
        let counted = ["equal", "changed", "only_live", &only].map(|name| output::count(number(output, name)));
        [vec![field(output, "name")], counted.to_vec()].concat()
    };
    let header = ["output", "equal", "changed", "only live", &format!("only {other}")];
    format!("\n\n{}", output::table(&header, outputs.iter().map(row).collect()))
}

/// What was not compared, behind a comma.
fn skipped(answer: &Value) -> String {
    let reasons = [
        ("busy", "while it was busy"),
        ("no_room", "for want of room"),
        ("given_up", "while it rested after failures"),
    ];
    let told = reasons.iter().filter(|(name, _)| number(&answer["skipped"], name) > 0);
    told.map(|(name, why)| format!(", {} skipped {why}", output::count(number(&answer["skipped"], name)))).collect()
}

/// What the two versions used, and how they failed.
fn sides(live: &str, shadow: &str, answer: &Value) -> String {
    let both = |what: &str, value: &dyn Fn(&Value) -> String| {
        vec![what.to_owned(), value(&answer["live"]), value(&answer["shadow"])]
    };
    let ms = |name: &'static str| {
        move |side: &Value| format!("{:.1} ms", side["call_ms"][name].as_f64().unwrap_or_default())
    };
    let processor = |side: &Value| {
        output::seconds(Duration::from_secs_f64(side["cpu_seconds"].as_f64().unwrap_or_default().max(0.0)))
    };
    let mut rows = vec![
        both("calls", &|side| output::count(number(side, "calls"))),
        both("half of them within", &ms("p50")),
        both("99 of 100 within", &ms("p99")),
        both("the longest", &ms("longest")),
        both("processor time", &processor),
    ];
    if ["live", "shadow"].iter().any(|side| number(&answer[*side], "fuel") > 0) {
        rows.push(both("fuel", &|side| output::count(number(side, "fuel"))));
    }
    rows.push(both("failures", &failures));
    let [live, shadow] = [format!("live {live}"), format!("shadow {shadow}")];
    output::table(&["what", &live, &shadow], rows)
}

fn failures(side: &Value) -> String {
    let counted = side["failures"].as_object().into_iter().flatten();
    let told: Vec<String> =
        counted.map(|(code, count)| format!("{} {code}", output::count(count.as_u64().unwrap_or_default()))).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// The last failure and the examples, where the key may see them.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    let last = &answer["last_failure"];
    if last.is_object() {
        let message = match last["message"].as_str() {
            Some(message) => output::visible(message),
            None => "its words need profiles:read and, where something is sensitive, sensitive:read".to_owned(),
        };
        text.push_str(&format!(
            "\n\nThe shadow failed last at {}, {}: {message}",
            field(last, "at"),
            field(last, "code")
        ));
    }
    if answer["examples"].is_null() {
        text.push_str("\n\nExamples need profiles:read and, where something is sensitive, sensitive:read.");
        return text;
    }
    let examples = items(&answer["examples"]).iter().map(example).collect::<Vec<_>>();
    if !examples.is_empty() {
        let table = output::table(&["profile", "output", "live", "shadow"], examples);
        text.push_str(&format!("\n\nThe latest differences since the server began:\n{table}"));
    }
    text
}

fn example(example: &Value) -> Vec<String> {
    let value = |name: &str| output::cut(&output::visible(&example[name].to_string()), MAX_VALUE);
    vec![field(example, "profile"), field(example, "output"), value("live"), value("shadow")]
}

/// Characters of a value in a table.
const MAX_VALUE: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        let side = |calls: u64, failures: Value| {
            json!({ "calls": calls, "failures": failures, "cpu_seconds": 0.5, "fuel": 0,
                "call_ms": { "p50": 1.0, "p99": 2.5, "longest": 3.0 } })
        };
        json!({
            "version": "0.2.0", "live_version": "0.1.0", "since": "2026-11-21T10:00:00.000Z", "running": true, "counts": "people",
            "compared": 1_200, "skipped": { "busy": 30, "no_room": 0, "given_up": 2 },
            "outputs": [{ "name": "level", "equal": 1_190, "changed": 9, "only_live": 0, "only_shadow": 1 }],
            "live": side(3, json!({})), "shadow": side(5, json!({ "trap": 1 })),
            "last_failure": { "at": "2026-11-21T11:00:00.000Z", "code": "trap", "message": "trap: unreachable" },
            "examples": [{ "at": "2026-11-21T11:00:00.000Z", "profile": "p1", "output": "level", "live": "few", "shadow": null }],
        })
    }

    #[test]
    fn what_differs_is_told_side_by_side() {
        let text = report("levels", &answer());
        for part in [
            "0.2.0 runs beside 0.1.0 of levels, since 2026-11-21T10:00:00.000Z.",
            "1,200 people compared, 30 skipped while it was busy, 2 skipped while it rested after failures",
            "live 0.1.0",
            "1 trap",
            "only shadow",
            "1,190",
            "The shadow failed last at 2026-11-21T11:00:00.000Z, trap: trap: unreachable",
            "The latest differences since the server began:",
            "\"few\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("fuel"), "{text}");
    }

    #[test]
    fn who_may_not_see_people_is_told_what_that_needs() {
        let hidden = json!({ "examples": null, "last_failure": { "at": "x", "code": "trap", "message": null } });
        assert_eq!(told(&hidden).matches("profiles:read").count(), 2);
        let nothing = report("levels", &json!({ "version": "0.2.0", "running": false, "compared": 0 }));
        assert!(nothing.contains("does not now") && nothing.contains("Nothing is compared yet"), "{nothing}");
    }
}
