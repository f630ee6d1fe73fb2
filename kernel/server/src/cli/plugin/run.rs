//! `kith plugin run`: one call of one plugin. What it makes is told in lines of JSON on standard output, what the call took on
//! standard error.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use kith_model::plugin::{PluginKind, ReplayScope, SourceRequest};
use kith_model::time::{Clock, ManualClock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::local::{self, CallReport, Input, LocalSetup};
use crate::cli::args::PluginRunArgs;
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, json_argument, print_json};

/// Standard input, where a file is named.
const STANDARD_INPUT: &str = "-";

pub(super) fn run(args: &PluginRunArgs, format: AnswerFormat) -> Result<(), Failure> {
    let component = local::component(&args.path, &args.tools, format)?;
    let clock: Arc<dyn Clock> = match args.clock {
        Some(now) => Arc::new(ManualClock::new(now)),
        None => Arc::new(SystemClock),
    };
    let now = clock.now();
    let plugin = local::load(&component, clock)?;
    let setup = LocalSetup {
        config: args.config.as_deref().map_or(Ok(Value::Null), |config| json_argument("--config", config))?,
        secrets: local::secrets(plugin.manifest(), &args.secret)?,
        fuel: args.fuel.then_some(u64::MAX),
    };
    let input = input(args, plugin.manifest().kind, now)?;
    let report = local::call(&plugin, setup, &input, now)?;
    show(&report, format)?;
    match report.problem {
        None => Ok(()),
        Some(problem) => Err(Failure::Failed(problem)),
    }
}

fn show(report: &CallReport, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        let log: Vec<Value> =
            report.log.iter().map(|line| json!({ "level": line.level.as_str(), "text": line.text })).collect();
        let figures = local::figures(&report.usage);
        return print_json(&json!({ "output": report.output, "log": log, "figures": figures }));
    }
    for line in &report.output {
        output::say(digits::line(line))?;
    }
    for line in &report.log {
        output::tell(&format!("{}: {}", line.level.as_str(), output::visible(&line.text)), format);
    }
    output::tell(&local::figures_text(&report.usage), format);
    Ok(())
}

/// What a plugin of a kind is called with.
fn input(args: &PluginRunArgs, kind: PluginKind, now: Timestamp) -> Result<Input, Failure> {
    let body = read(&args.input)?;
    if args.fit.is_some() && !matches!(kind, PluginKind::TagModel | PluginKind::Scorer) {
        return Err(Failure::Usage(format!("a {kind} learns nothing; leave --fit out")));
    }
    Ok(match kind {
        PluginKind::Connector => {
            let (path, query) = args.target.split_once('?').unwrap_or((args.target.as_str(), ""));
            Input::Request(Box::new(SourceRequest {
                method: "POST".to_owned(),
                path: path.to_owned(),
                query: query.to_owned(),
                headers: args.headers.clone(),
                body,
                complete: true,
                resume: None,
                received_at: now,
                replayed: ReplayScope::No,
            }))
        }
        PluginKind::TagModel | PluginKind::Scorer => {
            let fit = args.fit.as_deref().map(|path| documents(&read(path)?)).transpose()?;
            Input::Rows { fit, rows: documents(&body)? }
        }
        PluginKind::Channel => Input::Messages(documents(&body)?),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { what: "read", path: path.to_path_buf(), source };
    if path != Path::new(STANDARD_INPUT) {
        return std::fs::read(path).map_err(failed);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// One JSON document in each line.
fn documents(bytes: &[u8]) -> Result<Vec<Value>, Failure> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let document = |(line, number): (&str, u32)| {
        serde_json::from_str(line)
            .map_err(|error| Failure::Usage(format!("line {number} of the input is not JSON: {error}")))
    };
    lines.map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_a_document_in_each_line() {
        assert_eq!(documents(b"{\"a\":1}\n\n[2]\r\n").unwrap(), [json!({ "a": 1 }), json!([2])]);
        let refused = documents(b"{}\nx\n").unwrap_err();
        assert!(refused.to_string().starts_with("line 2 of the input is not JSON"), "{refused}");
    }
}
