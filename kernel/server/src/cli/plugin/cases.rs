//! `kith plugin test`: the cases in a plugin's folder, `cases/*.json`, each a call with what has to come of it. The page
//! `docs/plugins.md` has their format.

mod together;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_host::Plugin;
use kith_model::objects::Objects;
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
        Ok((input, expected, report)) => CaseReport {
            name,
            outcome: difference(&expected, &report.output, |place| name_of(&input, place))
                .map_or(CaseOutcome::Passed, CaseOutcome::Differs),
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
    let case = Case::deserialize(Objects(digits::read_argument(&text)?)).map_err(|error| error.to_string())?;
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

/// What a case gives and expects, and what came of it.
fn compared(plugin: &Plugin, file: &Path, clock: &ManualClock) -> Result<(Input, Vec<Value>, CallReport), String> {
    let Readable { setup, now, input, output } = read(plugin, file)?;
    clock.set(now);
    let report = local::call(plugin, setup, &input, now).map_err(|failure| failure.to_string())?;
    Ok((input, output, report))
}

/// What a plugin of a kind is called with.
fn input(kind: PluginKind, written: Value, now: Timestamp) -> Result<Input, String> {
    let unread = |error: serde_json::Error| error.to_string();
    Ok(match kind {
        PluginKind::Connector => {
            let request = WrittenRequest::deserialize(Objects(written)).map_err(unread)?;
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
            let WrittenRows { fit, rows } = WrittenRows::deserialize(Objects(written)).map_err(unread)?;
            Input::Rows { fit, rows }
        }
        PluginKind::Channel => {
            let WrittenMessages { messages } = WrittenMessages::deserialize(Objects(written)).map_err(unread)?;
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

/// Values that are shown of those that differ.
const MAX_DIFFERENT: usize = 10;

/// The values in which what came differs from what was expected, each under the name of its place; `None` where it is the same.
fn difference(expected: &[Value], came: &[Value], name: impl Fn(usize) -> String) -> Option<String> {
    fn same(pair: &(&Value, &Value)) -> bool {
        is_same(pair.0, pair.1)
    }
    let before = expected.iter().zip(came).take_while(same).count();
    let most = expected.len().min(came.len()) - before;
    let behind = expected.iter().rev().zip(came.iter().rev()).take_while(same).count().min(most);
    let (expected, came) = (&expected[before..expected.len() - behind], &came[before..came.len() - behind]);
    let places = expected.len().max(came.len());
    let differ: Vec<usize> = (0..places)
        .filter(|place| expected.get(*place).zip(came.get(*place)).is_none_or(|pair| !same(&pair)))
        .collect();
    let shown = differ.iter().take(MAX_DIFFERENT).map(|&place| {
        let name = name(before + place);
        match (expected.get(place), came.get(place)) {
            (Some(expected), None) => format!("{name} did not come:\n{}", signed("-", &lines(expected))),
            (None, Some(came)) => format!("{name} was not expected:\n{}", signed("+", &lines(came))),
            (expected, came) => {
                let of = |value: Option<&Value>| value.map(lines).unwrap_or_default();
                format!("{name}:\n{}", changed(&of(expected), &of(came)))
            }
        }
    });
    let mut shown: Vec<String> = shown.collect();
    if differ.len() > MAX_DIFFERENT {
        shown.push(format!("… and {} more differ", differ.len() - MAX_DIFFERENT));
    }
    (!shown.is_empty()).then(|| shown.join("\n"))
}

fn lines(value: &Value) -> Vec<String> {
    digits::pretty(value).lines().map(str::to_owned).collect()
}

fn signed(sign: &str, lines: &[String]) -> String {
    lines.iter().map(|line| format!("{sign} {line}")).collect::<Vec<_>>().join("\n")
}

/// The lines in which two values differ, with some before and behind them.
fn changed(expected: &[String], came: &[String]) -> String {
    let before = common(expected.iter().zip(came));
    let most = expected.len().min(came.len()) - before;
    let behind = common(expected.iter().rev().zip(came.iter().rev())).min(most);
    let (expected_end, came_end) = (expected.len() - behind, came.len() - behind);
    let all = [
        signed(" ", &came[before.saturating_sub(CONTEXT)..before]),
        signed("-", &expected[before..expected_end]),
        signed("+", &came[before..came_end]),
        signed(" ", &came[came_end..(came_end + CONTEXT).min(came.len())]),
    ];
    all.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The longest input that stands beside the name of its row.
const MAX_INPUT: usize = 100;

/// What a value of the output is called: that of a row is told with the row.
fn name_of(input: &Input, place: usize) -> String {
    match input {
        Input::Rows { rows, .. } => match rows.get(place) {
            Some(row) => format!("row {}, of {}", place + 1, output::cut(&digits::line(row), MAX_INPUT)),
            None => format!("row {}", place + 1),
        },
        Input::Request(_) | Input::Messages(_) => format!("line {}", place + 1),
    }
}

/// How many pairs are of one line twice, up to the first that is not.
fn common<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> usize {
    pairs.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(expected: &[Value], came: &[Value]) -> Option<String> {
        let rows = vec![json!({ "spent": 20 }), json!({ "spent": 100 }), json!({})];
        let input = Input::Rows { fit: None, rows };
        difference(expected, came, |place| name_of(&input, place))
    }

    #[test]
    fn only_what_differs_is_shown_with_the_row_that_it_is_of() {
        let expected = [json!({ "a": 1, "b": [1, 2] }), json!({ "level": "high" }), json!({ "c": 3 })];
        assert_eq!(differs(&expected, &expected), None);
        assert_eq!(differs(&[json!({ "n": 2 })], &[json!({ "n": 2.0 })]), None, "however a number is written");
        let written = digits::read(r#"{"n":1.50,"t":"1.50"}"#).unwrap();
        assert_eq!(differs(std::slice::from_ref(&written), &[json!({ "n": 1.5, "t": "1.50" })]), None);
        assert!(differs(&[written], &[json!({ "n": "1.50", "t": "1.50" })]).is_some(), "a text is no number");
        let mut came = expected.clone();
        came[1] = json!({ "level": "low" });
        let shown = ["row 2, of {\"spent\":100}:", "  {", "-   \"level\": \"high\"", "+   \"level\": \"low\"", "  }"];
        assert_eq!(differs(&expected, &came).unwrap().lines().collect::<Vec<_>>(), shown);
        let shorter = differs(&expected, &expected[..2]).unwrap();
        assert_eq!(shorter, "row 3, of {} did not come:\n- {\n-   \"c\": 3\n- }");
        let longer = differs(&expected[..2], &expected).unwrap();
        assert!(longer.starts_with("row 3, of {} was not expected:\n+ {"), "{longer}");
        let inserted = [&expected[..1], &[json!({ "new": 1 })], &expected[1..]].concat();
        assert!(differs(&expected, &inserted).unwrap().starts_with("row 2, of {\"spent\":100} was not expected:"));
        let many = |level: &str| vec![json!({ "level": level }); 100];
        assert!(differs(&many("high"), &many("low")).unwrap().ends_with("\n… and 90 more differ"));
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
