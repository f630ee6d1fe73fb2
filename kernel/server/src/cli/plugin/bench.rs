//! `kith plugin bench`: what calls of one plugin take, in the host that servers have. Processor time is what is compared: it
//! counts the calls alone, and other work of the machine changes it little.

use std::time::Duration;

use kith_host::{Plugin, Policy, Usage};
use kith_model::plugin::{Manifest, PluginKind};
use kith_model::table::{ColumnType, RecordField};
use kith_model::time::Timestamp;
use serde_json::{Map, Value, json};

use super::local::{self, CallReport, Input, LocalSetup, Prepared};
use super::run::{clock, documents, read, refuse_meaningless, request};
use super::secrets;
use crate::cli::args::PluginBenchArgs;
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, json_argument, print_json};

/// One person who changed, some, many, and as many as a call may have.
const SIZES: [u32; 4] = [1, 100, 1_000, 4_096];

/// What calls of one size took; the median of them where they differ.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    /// Rows, events or messages.
    things: u64,
    cpu: Duration,
    /// Of the longest call.
    call: Duration,
    fuel: u64,
    memory_peak_bytes: u64,
    output_bytes: u64,
}

pub(super) fn run(args: &PluginBenchArgs, format: AnswerFormat) -> Result<(), Failure> {
    let component = local::component(&args.call.path, &args.call.tools, format)?;
    let clock = clock(&args.call);
    let now = clock.now();
    let plugin = local::load(&component, args.call.size.plugin_bytes, clock)?;
    let manifest = plugin.manifest();
    let inputs = inputs(args, manifest, now)?;
    let setup = LocalSetup {
        config: args.call.config.as_deref().map_or(Ok(Value::Null), |config| json_argument("--config", config))?,
        secrets: local::secrets(manifest, secrets::texts(&args.call.secret)?)?,
        fuel: args.call.fuel.then_some(u64::MAX),
    };
    let mut prepared = local::prepare(&plugin, setup, now)?;
    if let Some(path) = &args.call.fit {
        prepared.learn(&documents(&read(path)?)?)?;
    }
    let measured = inputs.iter().map(|input| measure(&prepared, manifest, input, args.repeat));
    let measured = measured.collect::<Result<Vec<Measured>, Failure>>()?;
    let policy = prepared.policy();
    if format.is_json() {
        return print_json(&document(&plugin, args.repeat, &policy, &measured));
    }
    output::say(text(&plugin, args, &policy, &measured))
}

/// What is measured, in the order in which it is told.
fn inputs(args: &PluginBenchArgs, manifest: &Manifest, now: Timestamp) -> Result<Vec<Input>, Failure> {
    let kind = manifest.kind;
    let body = args.input.as_deref().map(read).transpose()?;
    refuse_meaningless(&args.call, kind)?;
    if !args.rows.is_empty() && !matches!(kind, PluginKind::TagModel | PluginKind::Scorer) {
        return Err(Failure::Usage(format!("a {kind} is asked about no rows; leave --rows out")));
    }
    let missing = || Failure::Usage(format!("nobody can make up what a {kind} is given; name a file with --input"));
    match kind {
        PluginKind::Connector => {
            let body = body.ok_or_else(missing)?;
            Ok(vec![request(args.call.target.as_deref(), &args.call.headers, body, now)])
        }
        PluginKind::Channel => Ok(vec![Input::Messages(documents(&body.ok_or_else(missing)?)?)]),
        PluginKind::TagModel | PluginKind::Scorer => {
            let given = body.map(|body| documents(&body)).transpose()?;
            if given.as_ref().is_some_and(Vec::is_empty) {
                return Err(Failure::Usage("the file of --input has no row".to_owned()));
            }
            let sizes = if args.rows.is_empty() { &SIZES[..] } else { args.rows.as_slice() };
            let row = |index: u32| match &given {
                Some(rows) => rows[index as usize % rows.len()].clone(),
                None => made_row(manifest, index),
            };
            let of_size = |size: &u32| Input::Rows { fit: None, rows: (0..*size).map(row).collect() };
            Ok(sizes.iter().map(of_size).collect())
        }
    }
}

/// A row of a model's inputs, the same for the same number: values of each input's type that differ from row to row, some absent.
fn made_row(manifest: &Manifest, index: u32) -> Value {
    let made = |(place, name, column_type): (u32, &String, &ColumnType)| {
        let seed = u64::from(index) * 31 + u64::from(place) * 7;
        let value = if (index + place) % 11 == 10 { Value::Null } else { made_value(column_type, seed) };
        (name.clone(), value)
    };
    let inputs = (0_u32..).zip(&manifest.inputs).map(|(place, input)| (place, &input.name, &input.column_type));
    Value::Object(inputs.map(made).collect::<Map<String, Value>>())
}

fn made_value(column_type: &ColumnType, seed: u64) -> Value {
    let list = |item: ColumnType| (0..seed % 4).map(|at| made_value(&item, seed + at)).collect();
    match column_type {
        ColumnType::Boolean => json!(seed.is_multiple_of(2)),
        ColumnType::Int64 => json!(seed % 1_000),
        #[allow(clippy::cast_precision_loss, reason = "a made number of four digits")]
        ColumnType::Float64 => json!((seed % 10_000) as f64 / 4.0),
        ColumnType::Timestamp => json!(moment(seed)),
        ColumnType::Text => json!(format!("text-{}", seed % 97)),
        ColumnType::Int64List => list(ColumnType::Int64),
        ColumnType::Float64List => list(ColumnType::Float64),
        ColumnType::TimestampList => list(ColumnType::Timestamp),
        ColumnType::TextList => list(ColumnType::Text),
        ColumnType::Records(fields) => (0..seed % 4).map(|at| made_record(fields, seed + at)).collect(),
    }
}

/// A record some of whose fields are absent.
fn made_record(fields: &[RecordField], seed: u64) -> Value {
    let made = |(place, field): (u64, &RecordField)| {
        let is_absent = (seed + place) % 7 == 6;
        let value = if is_absent { Value::Null } else { made_value(&field.column_type, seed * 5 + place) };
        (field.name.clone(), value)
    };
    Value::Object((0..).zip(fields).map(made).collect::<Map<String, Value>>())
}

/// A minute of 2025.
fn moment(seed: u64) -> String {
    const BEGIN: i64 = 1_735_689_600_000;
    let minutes = i64::try_from(seed % 525_600).unwrap_or_default();
    Timestamp(BEGIN + minutes * 60_000).to_string()
}

/// Call with one input until there are enough calls to tell what one takes. The first is not counted: it is slower.
fn measure(prepared: &Prepared<'_>, manifest: &Manifest, input: &Input, repeat: u32) -> Result<Measured, Failure> {
    let mut usages = Vec::new();
    let mut last = called(prepared, input)?;
    for _ in 0..repeat {
        last = called(prepared, input)?;
        usages.push(last.usage.clone());
    }
    let things = match input {
        Input::Rows { rows, .. } => rows.len(),
        Input::Messages(messages) => messages.len(),
        Input::Request(_) => last.output.iter().filter(|line| line.get("event").is_some()).count(),
    };
    let output_bytes = match input {
        Input::Rows { .. } => column_bytes(manifest, &last.output),
        _ => last.output.iter().map(|line| digits::line(line).len() + 1).sum(),
    };
    Ok(Measured {
        things: things as u64,
        cpu: median(&usages, |usage| usage.cpu).unwrap_or_default(),
        call: median(&usages, |usage| usage.longest).unwrap_or_default(),
        fuel: median(&usages, |usage| usage.fuel).unwrap_or_default(),
        memory_peak_bytes: usages.iter().map(|usage| usage.memory_peak_bytes).max().unwrap_or_default(),
        output_bytes: output_bytes as u64,
    })
}

/// One call, which has to go well: what does not is measured by nobody.
fn called(prepared: &Prepared<'_>, input: &Input) -> Result<CallReport, Failure> {
    let mut report = prepared.call(input)?;
    report.problem.take().map_or(Ok(report), |problem| Err(problem.into()))
}

/// The middle one, of two the lower.
fn median<T: Ord + Copy>(usages: &[Usage], figure: impl Fn(&Usage) -> T) -> Option<T> {
    let mut figures: Vec<T> = usages.iter().map(figure).collect();
    figures.sort_unstable();
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

/// What a model's answers take as columns: a bit for each truth, eight bytes for each number and moment, and of a text its bytes
/// and where it ends.
fn column_bytes(manifest: &Manifest, lines: &[Value]) -> usize {
    let column = |name: &String, column_type: &ColumnType| match column_type {
        ColumnType::Boolean => lines.len().div_ceil(8),
        ColumnType::Text => lines.iter().map(|line| line[name].as_str().map_or(0, str::len) + 4).sum(),
        _ => 8 * lines.len(),
    };
    manifest.outputs.iter().map(|output| column(&output.name, &output.column_type)).sum()
}

/// What is counted of a kind.
fn thing(kind: PluginKind) -> &'static str {
    match kind {
        PluginKind::Connector => "event",
        PluginKind::TagModel | PluginKind::Scorer => "row",
        PluginKind::Channel => "message",
    }
}

impl Measured {
    fn cpu_us_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.divisor()
    }

    fn per_second(&self) -> f64 {
        self.divisor() / self.cpu.as_secs_f64().max(1e-9)
    }

    fn fuel_each(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "shown rounded")]
        let fuel = self.fuel as f64;
        fuel / self.divisor()
    }

    #[allow(clippy::cast_precision_loss, reason = "a number of rows")]
    fn divisor(&self) -> f64 {
        self.things.max(1) as f64
    }
}

fn document(plugin: &Plugin, repetitions: u32, policy: &Policy, measured: &[Measured]) -> Value {
    let manifest = plugin.manifest();
    let run = |measured: &Measured| {
        json!({
            "count": measured.things,
            "per_second": measured.per_second(),
            "cpu_us_each": measured.cpu_us_each(),
            "fuel_each": measured.fuel_each(),
            "cpu_ms": measured.cpu.as_secs_f64() * 1_000.0,
            "call_ms": measured.call.as_secs_f64() * 1_000.0,
            "memory_peak_bytes": measured.memory_peak_bytes,
            "output_bytes": measured.output_bytes,
        })
    };
    json!({
        "id": manifest.id.to_string(),
        "version": manifest.version.to_string(),
        "kind": manifest.kind.as_str(),
        "digest": plugin.digest(),
        "of": thing(manifest.kind),
        "repetitions": repetitions,
        "limits": {
            "memory_bytes": policy.memory_bytes.value,
            "cpu_ms": policy.cpu_ms.value,
            "output_bytes": policy.output_bytes.value,
            "fuel": policy.fuel.map(|fuel| fuel.value),
        },
        "runs": measured.iter().map(run).collect::<Vec<_>>(),
    })
}

fn text(plugin: &Plugin, args: &PluginBenchArgs, policy: &Policy, measured: &[Measured]) -> String {
    let manifest = plugin.manifest();
    let of = thing(manifest.kind);
    let each = format!("cpu/{of}");
    let fuel_each = format!("fuel/{of}");
    let (things, second) = (format!("{of}s"), format!("{of}s/s"));
    let mut header = vec![things.as_str(), second.as_str(), each.as_str(), "call", "memory", "output"];
    if args.call.fuel {
        header.push(&fuel_each);
    }
    let row = |measured: &Measured| {
        let mut row = vec![
            output::count(measured.things),
            output::rate(measured.things.max(1), measured.cpu.max(Duration::from_nanos(1))),
            format!("{:.2} µs", measured.cpu_us_each()),
            format!("{:.2} ms", measured.call.as_secs_f64() * 1_000.0),
            output::size(measured.memory_peak_bytes),
            output::size(measured.output_bytes),
        ];
        if args.call.fuel {
            row.push(format!("{:.0}", measured.fuel_each()));
        }
        row
    };
    let table = output::table(&header, measured.iter().map(row).collect());
    let fuel = policy.fuel.map(|fuel| format!(", fuel {}", output::count(fuel.value))).unwrap_or_default();
    format!(
        "{} {}, the median of {}\n\n{table}\n\nA call may take {} of memory, {} ms of processor time and {} of output{fuel}.",
        manifest.id,
        manifest.version,
        output::counted(u64::from(args.repeat), "call"),
        output::size(policy.memory_bytes.value),
        output::count(policy.cpu_ms.value),
        output::size(policy.output_bytes.value),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command, PluginCommand};

    const MANIFEST: &str = r#"
[plugin]
id = "acme/try"
version = "0.1.0"
kind = "tag-model"
abi = "0.2"
kernel = ">=0.1"
title = "Try"
description = "To try"
license = "Apache-2.0"
[inputs.a]
expression = "traits.a"
type = "float64"
reason = "To try"
[inputs.b]
expression = "traits.b"
type = "text-list"
reason = "To try"
[outputs.o]
type = "text"
description = "To try"
[outputs.p]
type = "boolean"
description = "To try"
"#;

    #[test]
    fn made_rows_are_the_same_each_time_and_differ() {
        let manifest = kith_host::parse_manifest(MANIFEST).unwrap();
        assert_eq!(made_row(&manifest, 0), json!({ "a": 0.0, "b": ["text-7", "text-8", "text-9"] }));
        assert_eq!(made_row(&manifest, 2), json!({ "a": 15.5, "b": ["text-69"] }));
        assert_eq!(made_row(&manifest, 9), json!({ "a": 69.75, "b": null }));
        assert_eq!(made_value(&ColumnType::Timestamp, 61), json!("2025-01-01T01:01:00.000Z"));
    }

    /// What checks a signed time could be measured only with a request that was signed just now.
    #[test]
    fn the_clock_is_frozen_where_a_time_is_given() {
        let read = Cli::try_parse_from(["kith", "plugin", "bench", "it.wasm", "--clock", "2026-11-21T10:00:00Z"]);
        let Command::Plugin(PluginCommand::Bench(args)) = read.unwrap().command else {
            panic!("this is another command");
        };
        assert_eq!(clock(&args.call).now().to_string(), "2026-11-21T10:00:00.000Z");
        assert!(refuse_meaningless(&args.call, PluginKind::Connector).is_ok());
    }

    #[test]
    fn answers_are_measured_as_columns() {
        let manifest = kith_host::parse_manifest(MANIFEST).unwrap();
        let lines = [json!({ "o": "high", "p": true }), json!({ "o": null, "p": false })];
        assert_eq!(column_bytes(&manifest, &lines), 4 + 2 * 4 + 1);
    }
}
