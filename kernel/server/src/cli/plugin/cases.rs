//! `kith plugin test`: the cases in a plugin's folder, `cases/*.json`, each a call with what has to come of it. The page
//! `docs/plugins.md` has their format.

mod together;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_host::Plugin;
use kith_model::plugin::{PluginKind, ReplayScope, SourceRequest};
use kith_model::time::{ManualClock, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::local::{self, CallReport, Input, LocalSetup};
use crate::cli::args::{PluginTestArgs, header, target};
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, print_json};

/// Where the cases lie in a plugin's folder.
const FOLDER: &str = "cases";

/// The time of a case that says none: the same whenever it is run. 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// Lines that are shown before and behind what differs.
const CONTEXT: usize = 3;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    config: Value,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// RFC 3339.
    now: Option<String>,
    input: Value,
    /// What `kith plugin run` tells, a line each.
    output: Vec<Value>,
}

/// The input of a connector's case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text as it is, any other JSON as it is written.
    body: Value,
}

/// The input of a model's case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRows {
    fit: Option<Vec<Value>>,
    rows: Vec<Value>,
}

/// The input of a channel's case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMessages {
    messages: Vec<Value>,
}

/// What came of a case.
struct CaseReport {
    name: String,
    outcome: CaseOutcome,
    output: Vec<Value>,
    remarks: Vec<String>,
    /// Of the call, where there was one.
    figures: Option<Value>,
}

enum CaseOutcome {
    Passed,
    /// The lines in which the output is another than was expected.
    Differs(String),
    /// Why the plugin was not called.
    Unusable(String),
}

impl CaseReport {
    fn document(&self) -> Value {
        let (difference, problem) = match &self.outcome {
            CaseOutcome::Passed => (None, None),
            CaseOutcome::Differs(difference) => (Some(difference), None),
            CaseOutcome::Unusable(problem) => (None, Some(problem)),
        };
        json!({ "name": self.name, "passed": self.has_passed(), "output": self.output, "difference": difference,
            "problem": problem, "remarks": self.remarks, "figures": self.figures })
    }

    fn has_passed(&self) -> bool {
        matches!(self.outcome, CaseOutcome::Passed)
    }

    fn text(&self) -> String {
        let name = &self.name;
        match &self.outcome {
            CaseOutcome::Passed => format!("ok      {name}"),
            CaseOutcome::Differs(difference) => format!("FAILED  {name}\n{difference}"),
            CaseOutcome::Unusable(problem) => format!("FAILED  {name}\ncannot be run: {}", output::visible(problem)),
        }
    }
}

pub(super) fn run(args: &PluginTestArgs, format: AnswerFormat) -> Result<(), Failure> {
    let files = files(&args.dir)?;
    let component = local::component(args.component.as_deref().unwrap_or(&args.dir), &args.tools, format)?;
    let clock = ManualClock::new(NOW);
    let plugin = local::load(&component, args.size.plugin_bytes, Arc::new(clock.clone()))?;
    let mut reports: Vec<CaseReport> = files.iter().map(|file| case(&plugin, file, &clock)).collect();
    reports.extend(together::check(&plugin, &files, &clock));
    let failed = reports.iter().filter(|report| !report.has_passed()).count();
    if format.is_json() {
        let cases: Vec<Value> = reports.iter().map(CaseReport::document).collect();
        print_json(&json!({ "cases": cases, "failed": failed }))?;
    } else {
        for report in &reports {
            output::say(report.text())?;
            for remark in &report.remarks {
                output::tell(&format!("{}: {}", report.name, output::visible(remark)), format);
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => {
            let of = output::counted(reports.len() as u64, "case");
            let differs = reports.iter().any(|report| matches!(report.outcome, CaseOutcome::Differs(_)));
            let signs = if differs { ": `-` is what was expected, `+` what came" } else { "" };
            Err(Failure::Failed(format!("{failed} of {of} failed{signs}")))
        }
    }
}

/// The cases of a folder, in the order of their names.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = dir.join(FOLDER);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    if files.is_empty() {
        let message =
            format!("{} has no cases; write one, e.g. first.json, as docs/plugins.md has it", folder.display());
        return Err(Failure::Usage(message));
    }
    Ok(files)
}

/// Run one case. One that cannot be run is told of as one that failed, because the others have nothing to do with it.
fn case(plugin: &Plugin, file: &Path, clock: &ManualClock) -> CaseReport {
    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match compared(plugin, file, clock) {
        Ok((expected, report)) => CaseReport {
            name,
            outcome: difference(&expected, &report.output).map_or(CaseOutcome::Passed, CaseOutcome::Differs),
            output: report.output,
            remarks: report.remarks,
            figures: Some(local::figures(&report.usage)),
        },
        Err(problem) => CaseReport {
            name,
            outcome: CaseOutcome::Unusable(problem),
            output: Vec::new(),
            remarks: Vec::new(),
            figures: None,
        },
    }
}

/// A case that can be run.
struct Readable {
    setup: LocalSetup,
    now: Timestamp,
    input: Input,
    output: Vec<Value>,
}

fn read(plugin: &Plugin, file: &Path) -> Result<Readable, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let case: Case = serde_json::from_value(digits::read_argument(&text)?).map_err(|error| error.to_string())?;
    let now = match &case.now {
        None => NOW,
        Some(text) => text.parse::<Timestamp>().map_err(|error| error.to_string())?,
    };
    let input = input(plugin.manifest().kind, case.input, now)?;
    let secrets: Vec<String> = case.secrets.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let secrets = local::secrets(plugin.manifest(), &secrets).map_err(|failure| failure.to_string())?;
    let setup = LocalSetup { config: case.config, secrets, fuel: None };
    Ok(Readable { setup, now, input, output: case.output })
}

/// What a case expects, and what came of it.
fn compared(plugin: &Plugin, file: &Path, clock: &ManualClock) -> Result<(Vec<Value>, CallReport), String> {
    let Readable { setup, now, input, output } = read(plugin, file)?;
    clock.set(now);
    let report = local::call(plugin, setup, &input, now).map_err(|failure| failure.to_string())?;
    Ok((output, report))
}

/// What a plugin of a kind is called with.
fn input(kind: PluginKind, written: Value, now: Timestamp) -> Result<Input, String> {
    let unread = |error: serde_json::Error| error.to_string();
    Ok(match kind {
        PluginKind::Connector => {
            let request: WrittenRequest = serde_json::from_value(written).map_err(unread)?;
            let headers = request.headers.iter().map(|(name, value)| header(name, value));
            Input::Request(Box::new(SourceRequest {
                method: request.method.unwrap_or_else(|| "POST".to_owned()),
                path: target(request.path.as_deref().unwrap_or("/"))?,
                query: request.query,
                headers: headers.collect::<Result<_, String>>()?,
                body: match request.body {
                    Value::String(text) => digits::plain(&text).as_bytes().to_vec(),
                    document => digits::line(&document).into_bytes(),
                },
                complete: true,
                resume: None,
                received_at: now,
                replayed: ReplayScope::No,
            }))
        }
        PluginKind::TagModel | PluginKind::Scorer => {
            let WrittenRows { fit, rows } = serde_json::from_value(written).map_err(unread)?;
            Input::Rows { fit, rows }
        }
        PluginKind::Channel => {
            let WrittenMessages { messages } = serde_json::from_value(written).map_err(unread)?;
            Input::Messages(messages)
        }
    })
}

/// Whether two values are the same: of numbers it does not matter how they are written.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        // One of them has more digits than a machine's number, or is not written as a machine writes it.
        (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) if one != other => {
            let [one, other] = [one, other].map(|value| kith_json::canonical(&digits::line(value)));
            one.is_some() && one == other
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| is_same(one, other)))
        }
        (one, other) => one == other,
    }
}

/// The lines in which what came differs from what was expected; `None` where it is the same.
fn difference(expected: &[Value], came: &[Value]) -> Option<String> {
    if expected.len() == came.len() && expected.iter().zip(came).all(|(one, other)| is_same(one, other)) {
        return None;
    }
    let lines = |values: &[Value]| -> Vec<String> {
        digits::pretty(&Value::Array(values.to_vec())).lines().map(str::to_owned).collect()
    };
    let (expected, came) = (lines(expected), lines(came));
    let before = common(expected.iter().zip(&came));
    let most = expected.len().min(came.len()) - before;
    let behind = common(expected.iter().rev().zip(came.iter().rev())).min(most);
    let shown =
        |sign: &str, lines: &[String]| -> Vec<String> { lines.iter().map(|line| format!("{sign} {line}")).collect() };
    let (expected_end, came_end) = (expected.len() - behind, came.len() - behind);
    let all = [
        shown(" ", &came[before.saturating_sub(CONTEXT)..before]),
        shown("-", &expected[before..expected_end]),
        shown("+", &came[before..came_end]),
        shown(" ", &came[came_end..(came_end + CONTEXT).min(came.len())]),
    ];
    Some(all.concat().join("\n"))
}

/// How many pairs are of one line twice, up to the first that is not.
fn common<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> usize {
    pairs.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        let expected = [json!({ "a": 1, "b": [1, 2] }), json!({ "level": "high" }), json!({ "c": 3 })];
        assert_eq!(difference(&expected, &expected), None);
        assert_eq!(difference(&[json!({ "n": 2 })], &[json!({ "n": 2.0 })]), None, "however a number is written");
        let written = digits::read(r#"{"n":1.50,"t":"1.50"}"#).unwrap();
        assert_eq!(difference(std::slice::from_ref(&written), &[json!({ "n": 1.5, "t": "1.50" })]), None);
        assert!(difference(&[written], &[json!({ "n": "1.50", "t": "1.50" })]).is_some(), "a text is no number");
        let mut came = expected.clone();
        came[1] = json!({ "level": "low" });
        let shown = [
            "      ]",
            "    },",
            "    {",
            "-     \"level\": \"high\"",
            "+     \"level\": \"low\"",
            "    },",
            "    {",
            "      \"c\": 3",
        ];
        assert_eq!(difference(&expected, &came).unwrap().lines().collect::<Vec<_>>(), shown);
        let shorter = difference(&expected, &expected[..2]).unwrap();
        assert!(shorter.contains("-     \"c\": 3"), "{shorter}");
        assert!(difference(&[], &expected).unwrap().contains("+     \"level\": \"high\""));
    }

    #[test]
    fn a_case_that_cannot_be_read_says_what_it_has_too_much() {
        let refused = |kind, written: Value| input(kind, written, NOW).err();
        let named = |error: Option<String>| error.unwrap_or_default();
        assert!(named(refused(PluginKind::Scorer, json!({ "row": [] }))).contains("unknown field `row`"));
        assert!(named(refused(PluginKind::Channel, json!({}))).contains("missing field `messages`"));
        assert_eq!(refused(PluginKind::Connector, json!({ "body": [1] })), None);
        let header = json!({ "body": [1], "headers": { "a b": "c" } });
        assert!(named(refused(PluginKind::Connector, header)).contains("`a b` is no name of a header"));
    }
}
