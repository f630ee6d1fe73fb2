//! One plugin in the host that servers have, on this machine and without one of them: admitted, configured and called as
//! a server does it, under the same limits, with nothing stored and nothing sent. What goes in and comes out is
//! `local/lines.rs`.

mod lines;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kith_host::{
    Abi, BindError, Binding, CheckError, ConfigProblem, Host, HostConfig, Limits, MemoryKeyValue, Observed, Plugin,
    SeenLine, Usage,
};
use kith_model::plugin::{Cancellation, Grants, Manifest, PluginFault, ReceiveError, SourceRequest};
use kith_model::secret::Secret;
use kith_model::time::{Clock, Timestamp};
use serde_json::{Value, json};

use super::{BuildStep, build_crate, remote};
use crate::cli::args::Tools;
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, serve};

/// What the installation is called that there is none of.
const NAME: &str = "local";

/// How a plugin is installed for one call.
pub(super) struct LocalSetup {
    pub(super) config: Value,
    pub(super) secrets: BTreeMap<String, Secret>,
    /// How many steps it has, where they are counted.
    pub(super) fuel: Option<u64>,
}

/// What a plugin is called with.
pub(super) enum Input {
    /// Of a connector: a whole request.
    Request(Box<SourceRequest>),
    /// Of a tag model or a scorer: the rows that it learns from first, if it does, and those that it is asked about.
    Rows { fit: Option<Vec<Value>>, rows: Vec<Value> },
    /// Of a channel.
    Messages(Vec<Value>),
}

/// What came of a call.
pub(super) struct CallReport {
    /// What the plugin made, each thing as a JSON object; a fault or a refusal is one of them.
    pub(super) output: Vec<Value>,
    /// Why it did not go well, in the words that a server has for it.
    pub(super) problem: Option<String>,
    pub(super) usage: Usage,
    pub(super) log: Vec<SeenLine>,
}

/// The same without what the host saw.
struct Answer {
    output: Vec<Value>,
    problem: Option<String>,
}

impl Answer {
    fn well(output: Vec<Value>) -> Answer {
        Answer { output, problem: None }
    }

    fn fault(fault: &PluginFault) -> Answer {
        Answer { output: vec![lines::fault(fault)], problem: Some(words(fault)) }
    }
}

/// A fault with its code.
fn words(fault: &PluginFault) -> String {
    format!("{}: {fault}", fault.code())
}

/// The component at a path: of a crate the one that is built from it.
pub(super) fn component(path: &Path, tools: &Tools, format: AnswerFormat) -> Result<Vec<u8>, Failure> {
    if !path.is_dir() {
        return std::fs::read(path).map_err(|source| Failure::File { what: "read", path: path.to_path_buf(), source });
    }
    let mut shown = BuildStep::begin(format!("building {}", path.display()), format);
    let built = build_crate(path, tools, &mut shown)?;
    shown.end(&built.path.display().to_string());
    Ok(built.component)
}

/// Load a component as a server that it is uploaded to.
pub(super) fn load(component: &[u8], clock: Arc<dyn Clock>) -> Result<Plugin, Failure> {
    kith::declared::inspect(component).map_err(|error| Failure::Failed(error.to_string()))?;
    let config = HostConfig {
        cache_directory: None,
        // Nothing is kept that would have to be known again.
        mac_key: [0; 32].into(),
        ceiling: Limits::default(),
        allow_loopback: false,
        allow_plain_http: false,
        clock,
        compile: serve::compile_in_child()?,
    };
    let host = Host::new(config).map_err(serve::server_failure("starting the plugin host"))?;
    host.load(component).map_err(serve::server_failure("loading the plugin"))
}

/// The secrets of these `NAME=VALUE`, each of which the manifest asks for.
pub(super) fn secrets(manifest: &Manifest, pairs: &[String]) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut secrets = BTreeMap::new();
    for (name, value) in remote::secrets(pairs)? {
        if !manifest.capabilities.secrets.iter().any(|request| request.name == name) {
            return Err(Failure::Usage(format!("the manifest asks for no secret `{name}`")));
        }
        secrets.insert(name, Secret::from(value.as_str().unwrap_or_default()));
    }
    Ok(secrets)
}

/// Call a plugin once.
pub(super) fn call(plugin: &Plugin, setup: LocalSetup, input: &Input, now: Timestamp) -> Result<CallReport, Failure> {
    let LocalSetup { config, secrets, fuel } = setup;
    let manifest = plugin.manifest();
    let config = kith_host::validate_config(manifest, config).map_err(|error| Failure::Failed(error.to_string()))?;
    check(plugin, &config)?;
    let observed = Arc::new(Observed::new(now, Arc::default()));
    let binding = Binding {
        installation: NAME.to_owned(),
        grants: grants(manifest, &secrets),
        config,
        secrets,
        state: Arc::new(MemoryKeyValue::default()),
        observed: Arc::clone(&observed),
        fuel,
    };
    let Answer { output, problem } = match input {
        Input::Request(request) => receive(plugin, binding, request)?,
        Input::Rows { fit, rows } => compute(plugin, binding, fit.as_deref(), rows)?,
        Input::Messages(messages) => requests(plugin, binding, messages, now)?,
    };
    let log = observed.lines(Some(0), usize::MAX).lines;
    Ok(CallReport { output, problem, usage: observed.usage(), log })
}

/// What the plugin itself says of its configuration.
fn check(plugin: &Plugin, config: &Value) -> Result<(), Failure> {
    let said = |problem: &ConfigProblem| match problem.key.as_str() {
        "" => format!("config: {}", problem.message),
        key => format!("config.{key}: {}", problem.message),
    };
    match plugin.check_config(NAME, config) {
        Ok(problems) if problems.is_empty() => Ok(()),
        Ok(problems) => Err(Failure::Failed(problems.iter().map(said).collect::<Vec<_>>().join("; "))),
        Err(CheckError::Fault(fault)) => Err(Failure::Failed(words(&fault))),
        Err(CheckError::Bind(error)) => Err(unbound(error)),
    }
}

/// All that the manifest asks for, but no host: nothing leaves.
fn grants(manifest: &Manifest, secrets: &BTreeMap<String, Secret>) -> Grants {
    let named = |name: &String| {
        let asked = manifest.capabilities.secrets.iter().find(|request| request.name == *name);
        let hosts = asked.into_iter().flat_map(|request| &request.hosts).filter(|host| !host.contains('*'));
        (name.clone(), hosts.cloned().collect::<Vec<String>>())
    };
    Grants {
        kv_bytes: manifest.capabilities.kv_bytes,
        secrets: secrets.keys().map(named).collect(),
        ..Grants::default()
    }
}

fn unbound(error: BindError) -> Failure {
    Failure::Failed(error.to_string())
}

fn receive(plugin: &Plugin, binding: Binding, request: &SourceRequest) -> Result<Answer, Failure> {
    let connector = plugin.connector(binding).map_err(unbound)?;
    Ok(match connector.receive(request) {
        Ok(received) => Answer::well(lines::received(plugin.manifest(), &received)),
        Err(ReceiveError::Refused(refusal)) => {
            let problem = format!("{} {}: {}", refusal.status, refusal.code, refusal.message);
            Answer { output: vec![lines::refused(&refusal)], problem: Some(problem) }
        }
        Err(ReceiveError::Fault(fault)) => Answer::fault(&fault),
    })
}

fn compute(plugin: &Plugin, binding: Binding, fit: Option<&[Value]>, rows: &[Value]) -> Result<Answer, Failure> {
    let manifest = plugin.manifest();
    let (rows, dataset) = (lines::table(manifest, rows)?, fit.map(|rows| lines::table(manifest, rows)).transpose()?);
    let model = plugin.compute(binding).map_err(unbound)?;
    let fitted = dataset.map(|dataset| model.fit(Box::new(std::iter::once(dataset)), &Cancellation::default()));
    let state = match fitted {
        None => Vec::new(),
        Some(Ok(fitted)) => fitted.state,
        Some(Err(fault)) => return Ok(Answer::fault(&fault)),
    };
    Ok(match model.compute(&state, rows) {
        Ok(table) => Answer::well(lines::outputs(manifest, &table)),
        Err(fault) => Answer::fault(&fault),
    })
}

fn requests(plugin: &Plugin, binding: Binding, messages: &[Value], now: Timestamp) -> Result<Answer, Failure> {
    if plugin.abi() == Abi::V0_1 {
        let message = "a channel of ABI 0.1 sends by itself, and nothing leaves here; build it for ABI 0.2";
        return Err(Failure::Usage(message.to_owned()));
    }
    let messages = lines::messages(messages, now)?;
    let channel = plugin.pure_channel(binding).map_err(unbound)?;
    Ok(match channel.requests(&messages) {
        Ok(steps) => Answer::well(steps.iter().map(lines::step).collect()),
        Err(fault) => Answer::fault(&fault),
    })
}

/// The figures of a call, for programs.
pub(super) fn figures(usage: &Usage) -> Value {
    json!({
        "calls": usage.calls,
        "call_ms": usage.longest.as_secs_f64() * 1_000.0,
        "cpu_ms": usage.cpu.as_secs_f64() * 1_000.0,
        "memory_peak_bytes": usage.memory_peak_bytes,
        "host_calls": usage.host_calls,
        "fuel": usage.fuel,
    })
}

/// The same for people.
pub(super) fn figures_text(usage: &Usage) -> String {
    let ms = |duration: std::time::Duration| format!("{:.1} ms", duration.as_secs_f64() * 1_000.0);
    let fuel = if usage.fuel > 0 { format!(", fuel {}", output::count(usage.fuel)) } else { String::new() };
    format!(
        "{}, the longest {}; {} of processor time, {} of memory, {} to the host{fuel}",
        output::counted(usage.calls, "call"),
        ms(usage.longest),
        ms(usage.cpu),
        output::size(usage.memory_peak_bytes),
        output::counted(usage.host_calls, "call"),
    )
}
