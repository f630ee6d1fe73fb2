//! `kith plugin run`: one call of one plugin, or what it makes of an earlier version's configuration. What it makes is told in
//! lines of JSON on standard output, what the call took on standard error.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use kith_model::plugin::{PluginKind, ReplayScope, SourceRequest};
use kith_model::time::{Clock, ManualClock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::local::{self, CallReport, Input, LocalSetup};
use super::secrets;
use crate::cli::args::{CallArgs, PluginRunArgs};
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, json_argument, print_json};

/// Standard input, where a file is named.
const STANDARD_INPUT: &str = "-";

pub(super) fn run(args: &PluginRunArgs, format: AnswerFormat) -> Result<(), Failure> {
    let component = local::component(&args.call.path, &args.call.tools, format)?;
    let clock = clock(&args.call);
    let now = clock.now();
    let plugin = local::load(&component, args.call.size.plugin_bytes, clock)?;
    let config = args.call.config.as_deref().map_or(Ok(Value::Null), |config| json_argument("--config", config))?;
    if let Some(from) = &args.migrate_from {
        let report = local::migrate(&plugin, from, config, now)?;
        show(&report, format)?;
        return report.problem.map_or(Ok(()), |problem| Err(problem.into()));
    }
    let setup = LocalSetup {
        config,
        secrets: local::secrets(plugin.manifest(), secrets::texts(&args.call.secret)?)?,
        fuel: args.call.fuel.then_some(u64::MAX),
    };
    let kind = plugin.manifest().kind;
    refuse_meaningless(&args.call, kind)?;
    let input = input(args, kind, now)?;
    let report = local::call(&plugin, setup, &input, now)?;
    show(&report, format)?;
    report.problem.map_or(Ok(()), |problem| Err(problem.into()))
}

/// What tells a plugin the time: the machine, unless another one is given.
pub(super) fn clock(args: &CallArgs) -> Arc<dyn Clock> {
    match args.clock {
        Some(now) => Arc::new(ManualClock::new(now)),
        None => Arc::new(SystemClock),
    }
}

/// Refuse what says nothing to a plugin of this kind: whoever gives it expects something of it.
pub(super) fn refuse_meaningless(args: &CallArgs, kind: PluginKind) -> Result<(), Failure> {
    let is_model = matches!(kind, PluginKind::TagModel | PluginKind::Scorer);
    let is_connector = kind == PluginKind::Connector;
    for (is_given, has_meaning, why, flag) in [
        (args.fit.is_some(), is_model, "learns nothing", "--fit"),
        (!args.headers.is_empty(), is_connector, "is given no request", "--header"),
        (args.target.is_some(), is_connector, "is given no request", "--target"),
        (args.clock.is_some(), !is_model, "sees no clock", "--clock"),
    ] {
        if is_given && !has_meaning {
            return Err(Failure::Usage(format!("a {kind} {why}; leave {flag} out")));
        }
    }
    Ok(())
}

fn show(report: &CallReport, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        let log: Vec<Value> =
            report.log.lines.iter().map(|line| json!({ "level": line.level.as_str(), "text": line.text })).collect();
        return print_json(&json!({
            "output": report.output, "remarks": report.remarks, "log": log, "log_lines_gone": report.log.gone,
            "log_lines_cut": report.usage.lines_cut, "figures": local::figures(&report.usage),
        }));
    }
    for line in &report.output {
        output::say(digits::line(line))?;
    }
    for remark in &report.remarks {
        output::tell(&output::visible(remark), format);
    }
    let gone = not_shown(report.log.gone, "earlier", "because the latest are kept");
    gone.iter().for_each(|said| output::tell(said, format));
    for line in &report.log.lines {
        output::tell(&format!("{}: {}", line.level.as_str(), output::visible(&line.text)), format);
    }
    let cut = not_shown(report.usage.lines_cut, "later", "because a call had logged what it may");
    cut.iter().for_each(|said| output::tell(said, format));
    output::tell(&local::figures_text(&report.usage), format);
    Ok(())
}

/// How many lines of the log are not shown, and why.
fn not_shown(lines: u64, which: &str, why: &str) -> Option<String> {
    (lines > 0).then(|| format!("not shown of the log: {}, {why}", output::counted(lines, &format!("{which} line"))))
}

/// What a plugin of a kind is called with.
fn input(args: &PluginRunArgs, kind: PluginKind, now: Timestamp) -> Result<Input, Failure> {
    let body = read(&args.input)?;
    Ok(match kind {
        PluginKind::Connector => request(args.call.target.as_deref(), &args.call.headers, body, now),
        PluginKind::TagModel | PluginKind::Scorer => {
            let fit = args.call.fit.as_deref().map(|path| documents(&read(path)?)).transpose()?;
            Input::Rows { fit, rows: documents(&body)? }
        }
        PluginKind::Channel => Input::Messages(documents(&body)?),
    })
}

/// A whole request to a connector.
pub(super) fn request(target: Option<&str>, headers: &[(String, String)], body: Vec<u8>, now: Timestamp) -> Input {
    let target = target.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Input::Request(Box::new(SourceRequest {
        method: "POST".to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers.to_vec(),
        body,
        complete: true,
        resume: None,
        received_at: now,
        replayed: ReplayScope::No,
    }))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { what: "read", path: path.to_path_buf(), source };
    if path != Path::new(STANDARD_INPUT) {
        return std::fs::read(path).map_err(failed);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// One JSON document in each line.
pub(super) fn documents(bytes: &[u8]) -> Result<Vec<Value>, Failure> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let document = |(line, number): (&str, u32)| {
        if let Some(key) = digits::twice(line) {
            return Err(Failure::Usage(format!("line {number} of the input has the key `{key}` twice; leave one")));
        }
        digits::read(line).map_err(|error| Failure::Usage(format!("line {number} of the input is not JSON: {error}")))
    };
    lines.map(document).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command, PluginCommand};

    #[test]
    fn the_input_is_a_document_in_each_line() {
        assert_eq!(documents(b"{\"a\":1}\n\n[2]\r\n").unwrap(), [json!({ "a": 1 }), json!([2])]);
        let refused = documents(b"{}\nx\n").unwrap_err();
        assert!(refused.to_string().starts_with("line 2 of the input is not JSON"), "{refused}");
        let twice = documents(b"{\"n\":1}\n{\"n\":1,\"n\":2}\n").unwrap_err();
        assert_eq!(twice.to_string(), "line 2 of the input has the key `n` twice; leave one");
    }

    /// A model was given a header and a clock, and nothing came of either.
    #[test]
    fn what_says_nothing_to_a_kind_is_refused() {
        let refusal = |kind, arguments: &[&str]| {
            let all = ["kith", "plugin", "run", "it.wasm"];
            let read = Cli::try_parse_from(all.iter().chain(arguments)).unwrap();
            let Command::Plugin(PluginCommand::Run(args)) = read.command else {
                panic!("{arguments:?} is another command");
            };
            refuse_meaningless(&args.call, kind).err().map(|failure| failure.to_string())
        };
        let (model, scorer, channel) = (PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel);
        let (header, clock) = (["--header", "a: b"], ["--clock", "2026-11-21T10:00:00Z"]);
        for (kind, arguments, refused) in [
            (model, &header, Some("a tag-model is given no request; leave --header out")),
            (channel, &["--target", "/in"], Some("a channel is given no request; leave --target out")),
            (scorer, &clock, Some("a scorer sees no clock; leave --clock out")),
            (PluginKind::Connector, &["--fit", "x"], Some("a connector learns nothing; leave --fit out")),
            (PluginKind::Connector, &header, None),
            (channel, &clock, None),
            (model, &["--fit", "x"], None),
        ] {
            assert_eq!(refusal(kind, arguments).as_deref(), refused, "{arguments:?}");
        }
    }

    #[test]
    fn a_migration_is_tried_with_a_configuration_and_nothing_else() {
        let read = |more: &[&str]| {
            let words = ["kith", "plugin", "run", "it.wasm", "--migrate-from"];
            Cli::try_parse_from(words.iter().chain(more)).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(read(&["0.1.0", "--config", "{}"]), Ok(()));
        assert!(read(&["0.1.0"]).unwrap_err().contains("--config"), "of nothing nothing is made");
        assert!(read(&["0.1.0", "--config", "{}", "--input", "x"]).unwrap_err().contains("--input"));
        assert!(read(&["first", "--config", "{}"]).is_err());
    }

    /// The first lines and the last were not there, and nothing said so.
    #[test]
    fn lines_that_are_not_shown_are_counted() {
        let said = not_shown(4_352, "later", "because a call had logged what it may");
        let expected = "not shown of the log: 4,352 later lines, because a call had logged what it may";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(not_shown(0, "later", ""), None);
    }
}
