//! One plugin in the host that servers have, on this machine and without one of them: admitted, configured and called as
//! a server does it, under the same limits, with nothing stored and nothing sent. What goes in and comes out is
//! `local/lines.rs`, what a channel is answered `local/answers.rs`, and where compiled code is kept `local/code.rs`.

mod answers;
mod code;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use axum::http::HeaderName;
use kith_host::{
    Abi, Asking, BindError, Binding, CheckError, ChildPriority, ConfigError, ConfigProblem, Host, HostConfig, Limits,
    LinePage, MemoryKeyValue, Observed, Plugin, Policy, Usage,
};
use kith_model::plugin::{
    Cancellation, ComputeModel, Grants, Manifest, PluginFault, ReceiveError, Received, Refusal, SourceRequest,
};
use kith_model::secret::Secret;
use kith_model::time::{Clock, Timestamp};
use kith_pipeline::{AnswerToRow, GivenRow, answers_cut, answers_to, dataset_of, no_rows};
use serde_json::{Value, json};

use super::{BuildStep, build_crate};
use crate::cli::args::Tools;
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, serve};

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
    pub(super) problem: Option<Problem>,
    /// What of the input did not reach the plugin, and why.
    pub(super) remarks: Vec<String>,
    pub(super) usage: Usage,
    /// The lines that are kept of what it logged.
    pub(super) log: LinePage,
}

/// Why a call did not go well, with the code and in the words that a server has for it.
pub(super) struct Problem {
    code: String,
    message: String,
}

impl Problem {
    fn of(fault: &PluginFault) -> Problem {
        Problem { code: fault.code().to_owned(), message: words(fault) }
    }

    fn refused(refusal: &Refusal) -> Problem {
        let message = format!("{} {}: {}", refusal.status, refusal.code, refusal.message);
        Problem { code: refusal.code.clone(), message }
    }
}

impl From<Problem> for Failure {
    fn from(Problem { code, message }: Problem) -> Failure {
        Failure::Coded { code, message }
    }
}

/// The same without what the host saw.
#[derive(Default)]
struct Answer {
    output: Vec<Value>,
    problem: Option<Problem>,
    remarks: Vec<String>,
}

impl Answer {
    fn well(output: Vec<Value>) -> Answer {
        Answer { output, ..Answer::default() }
    }

    fn fault(fault: &PluginFault) -> Answer {
        Answer { output: vec![lines::fault(fault)], problem: Some(Problem::of(fault)), ..Answer::default() }
    }

    /// A line for each row: its values and events, or the fault for which it has none.
    fn of_rows(manifest: &Manifest, answers: Vec<Result<AnswerToRow, PluginFault>>) -> Answer {
        let faults: Vec<&PluginFault> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        let problem = faults.first().map(|first| match (faults.len(), answers.len()) {
            (1, 1) => Problem::of(first),
            (failed, all) => {
                let of = output::counted(all as u64, "row");
                let message = format!("{failed} of {of} failed, the first on {}", words(first));
                Problem { message, ..Problem::of(first) }
            }
        });
        let line = |answer: Result<AnswerToRow, PluginFault>| match answer {
            Ok(answer) => lines::outputs(manifest, answer),
            Err(fault) => lines::fault(&fault),
        };
        Answer { problem, ..Answer::well(answers.into_iter().map(line).collect()) }
    }
}

/// A fault with its code, which some begin with by themselves.
fn words(fault: &PluginFault) -> String {
    output::coded(fault.code(), &fault.to_string())
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

/// Load a component as a server that it is uploaded to and that takes components of so many bytes.
pub(super) fn load(component: &[u8], max_bytes: u64, clock: Arc<dyn Clock>) -> Result<Plugin, Failure> {
    kith::declared::inspect(component, max_bytes).map_err(|error| Failure::Failed(error.to_string()))?;
    let kept = code::KeptCode::of_user();
    let (cache_directory, mac_key) = kept.map(|kept| (kept.directory, kept.mac_key)).unzip();
    let config = HostConfig {
        cache_directory,
        // Without a folder nothing is kept.
        mac_key: mac_key.unwrap_or_default(),
        ceiling: Limits::default(),
        allow_loopback: false,
        allow_plain_http: false,
        clock,
        // Whoever calls it waits for this and nothing else.
        compile: serve::compile_in_child(ChildPriority::Usual)?,
    };
    let host = Host::new(config).map_err(serve::server_failure("starting the plugin host"))?;
    host.load(component).map_err(serve::server_failure("loading the plugin"))
}

/// The secrets that are given by their names, each of which the manifest asks for and a server would take.
pub(super) fn secrets(
    manifest: &Manifest,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut secrets = BTreeMap::new();
    for (name, value) in given {
        let request = manifest.capabilities.secrets.iter().find(|request| request.name == name);
        let request = request.ok_or_else(|| Failure::Usage(format!("the manifest asks for no secret `{name}`")))?;
        kith_host::check_secret(request, &value)
            .map_err(|problem| Failure::Usage(format!("the secret `{name}` {problem}")))?;
        secrets.insert(name, Secret::from(value));
    }
    Ok(secrets)
}

/// A plugin that may be called, with a configuration that it takes.
pub(super) struct Prepared<'p> {
    plugin: &'p Plugin,
    /// As the manifest's schema completes it.
    config: Value,
    /// What the plugin logged when it was asked about it.
    asked: Arc<Observed>,
    secrets: BTreeMap<String, Secret>,
    fuel: Option<u64>,
    now: Timestamp,
    /// What a model has learnt beforehand.
    state: Vec<u8>,
}

/// Take a configuration as a server does.
pub(super) fn prepare(plugin: &Plugin, setup: LocalSetup, now: Timestamp) -> Result<Prepared<'_>, Failure> {
    let LocalSetup { config, secrets, fuel } = setup;
    let asking = asking(now);
    let config = taken(plugin, &asking, numbers(config))??;
    Ok(Prepared { plugin, config, asked: asking.observed, secrets, fuel, now, state: Vec::new() })
}

/// Call a plugin once.
pub(super) fn call(plugin: &Plugin, setup: LocalSetup, input: &Input, now: Timestamp) -> Result<CallReport, Failure> {
    prepare(plugin, setup, now)?.call(input)
}

impl Prepared<'_> {
    /// Call it once, as if it had never been called before.
    pub(super) fn call(&self, input: &Input) -> Result<CallReport, Failure> {
        let (plugin, (binding, observed)) = (self.plugin, self.binding());
        observed.take_lines(&self.asked);
        let Answer { output, problem, remarks } = match input {
            Input::Request(request) => receive(plugin, binding, request)?,
            Input::Rows { fit, rows } => self.compute(binding, fit.as_deref(), rows)?,
            Input::Messages(messages) => requests(plugin, binding, messages, self.now)?,
        };
        let log = observed.lines(Some(0), usize::MAX);
        Ok(CallReport { output, problem, remarks, usage: observed.usage(), log })
    }

    /// What a connector makes of each of these requests, so many of them in each call. As where a server calls for several, it is
    /// granted nothing in which a call could leave a trace.
    pub(super) fn receive_cut(&self, requests: &[SourceRequest], size: usize) -> Result<Vec<Vec<Value>>, Failure> {
        let (mut binding, _) = self.binding();
        binding.grants.kv_bytes = 0;
        let connector = self.plugin.connector(binding).map_err(unbound)?;
        let mut made = Vec::with_capacity(requests.len());
        for some in requests.chunks(size.max(1)) {
            let handed: Vec<SourceRequest> = some.iter().map(|request| handed_on(request).0).collect();
            let answers = match connector.receive_all(&handed.iter().collect::<Vec<_>>()) {
                Ok(answers) => answers,
                Err(fault) => vec![Err(ReceiveError::Fault(fault)); some.len()],
            };
            let line = |(request, answer)| answer_of(self.plugin.manifest(), request, answer).output;
            made.extend(some.iter().zip(answers).map(line));
        }
        Ok(made)
    }

    /// What a model says of each of these rows in one pass, so many of them in each call.
    pub(super) fn answers_cut(&self, rows: &[Value], size: usize) -> Result<Vec<Value>, Failure> {
        let manifest = self.plugin.manifest();
        let rows = lines::rows(manifest, rows)?;
        let model = self.plugin.compute(self.binding().0).map_err(unbound)?;
        Ok(Answer::of_rows(manifest, answers_cut(manifest, &model, &self.state, &rows, size)).output)
    }

    /// The fault with which a model that is asked about no row ends, where it does.
    pub(super) fn fault_of_no_rows(&self) -> Result<Option<Value>, Failure> {
        let model = self.plugin.compute(self.binding().0).map_err(unbound)?;
        let answer = no_rows(self.plugin.manifest()).and_then(|rows| model.answer(&self.state, rows));
        Ok(answer.err().as_ref().map(lines::fault))
    }

    /// Have a model learn of these rows, for all calls that follow.
    pub(super) fn learn(&mut self, rows: &[Value]) -> Result<(), Failure> {
        let manifest = self.plugin.manifest();
        let dataset = lines::fit_rows(manifest, rows, self.now)?;
        let model = self.plugin.compute(self.binding().0).map_err(unbound)?;
        let (state, _) = learn(manifest, &model, &dataset).map_err(|fault| Problem::of(&fault))?;
        self.state = state;
        Ok(())
    }

    fn compute(&self, binding: Binding, fit: Option<&[Value]>, rows: &[Value]) -> Result<Answer, Failure> {
        let manifest = self.plugin.manifest();
        let dataset = fit.map(|rows| lines::fit_rows(manifest, rows, self.now)).transpose()?;
        let rows = lines::rows(manifest, rows)?;
        let model = self.plugin.compute(binding).map_err(unbound)?;
        let fitted = match dataset {
            None => Ok((self.state.clone(), Vec::new())),
            Some(dataset) => learn(manifest, &model, &dataset),
        };
        Ok(match fitted {
            Ok((state, remarks)) => {
                Answer { remarks, ..Answer::of_rows(manifest, answers_to(manifest, &model, &state, &rows)) }
            }
            Err(fault) => Answer::fault(&fault),
        })
    }

    /// The limits of a call.
    pub(super) fn policy(&self) -> Policy {
        let manifest = self.plugin.manifest();
        kith_host::effective_policy(manifest, &grants(manifest, &self.secrets), &Limits::default())
    }

    fn binding(&self) -> (Binding, Arc<Observed>) {
        let observed = Arc::new(Observed::new(self.now, Arc::default()));
        let binding = Binding {
            installation: NAME.to_owned(),
            grants: grants(self.plugin.manifest(), &self.secrets),
            config: self.config.clone(),
            unshown: BTreeSet::new(),
            secrets: self.secrets.clone(),
            state: Arc::new(MemoryKeyValue::default()),
            observed: Arc::clone(&observed),
            fuel: self.fuel,
        };
        (binding, observed)
    }
}

/// A configuration as plugins are given it: with numbers, however they were written.
fn numbers(config: Value) -> Value {
    serde_json::from_str(&digits::line(&config)).unwrap_or(config)
}

/// Who asks a plugin about a configuration here.
fn asking(now: Timestamp) -> Asking {
    Asking { installation: NAME.to_owned(), observed: Arc::new(Observed::new(now, Arc::default())) }
}

/// What a version makes of the configuration of an earlier one, and whether it takes that itself.
pub(super) fn migrate(
    plugin: &Plugin,
    from: &semver::Version,
    config: Value,
    now: Timestamp,
) -> Result<CallReport, Failure> {
    let (asking, config) = (asking(now), numbers(config));
    let Answer { output, problem, remarks } = match plugin.migrate_config(&asking, from, &config, &BTreeSet::new()) {
        Ok(Ok(made)) => {
            let problem = taken(plugin, &asking, made.clone())?.err();
            Answer { problem, ..Answer::well(vec![made]) }
        }
        Ok(Err(problems)) => {
            let problem = Problem { code: "config-not-migrated".to_owned(), message: told(&problems) };
            Answer { problem: Some(problem), ..Answer::default() }
        }
        Err(CheckError::Fault(fault)) => Answer::fault(&fault),
        Err(CheckError::Bind(error)) => return Err(unbound(error)),
    };
    let log = asking.observed.lines(Some(0), usize::MAX);
    Ok(CallReport { output, problem, remarks, usage: asking.observed.usage(), log })
}

/// A configuration as the manifest's schema completes it, or why a server would not take it: what its schema or the plugin itself
/// says.
fn taken(plugin: &Plugin, asking: &Asking, config: Value) -> Result<Result<Value, Problem>, Failure> {
    let refused = |message: String| Problem { code: "bad-config".to_owned(), message };
    let config = match kith_host::validate_config(plugin.manifest(), config) {
        Ok(config) => config,
        Err(error @ ConfigError::Mistakes(_)) => return Ok(Err(refused(error.to_string()))),
        Err(ConfigError::Exhausted(exhausted)) => return Err(Failure::Failed(exhausted.to_string())),
    };
    match plugin.check_config(asking, &config, &BTreeSet::new()) {
        Ok(problems) if problems.is_empty() => Ok(Ok(config)),
        Ok(problems) => Ok(Err(refused(told(&problems)))),
        Err(CheckError::Fault(fault)) => Ok(Err(Problem::of(&fault))),
        Err(CheckError::Bind(error)) => Err(unbound(error)),
    }
}

/// What a plugin says of a configuration.
fn told(problems: &[ConfigProblem]) -> String {
    let said = |problem: &ConfigProblem| match problem.key.as_str() {
        "" => format!("config: {}", problem.message),
        key => format!("config.{key}: {}", problem.message),
    };
    problems.iter().map(said).collect::<Vec<_>>().join("; ")
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
    let (handed, remarks) = handed_on(request);
    let answer = answer_of(plugin.manifest(), request, connector.receive(&handed));
    Ok(Answer { remarks, ..answer })
}

/// A request as a plugin sees it, and what of it none sees.
fn handed_on(request: &SourceRequest) -> (SourceRequest, Vec<String>) {
    let is_hidden = |(name, _): &(String, String)| {
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| kith::api::is_hidden_header(&name))
    };
    let (hidden, headers): (Vec<_>, Vec<_>) = request.headers.iter().cloned().partition(is_hidden);
    let remark = |(name, _)| format!("the header `{name}` is not handed on: no plugin sees it");
    (SourceRequest { headers, ..request.clone() }, hidden.into_iter().map(remark).collect())
}

fn answer_of(manifest: &Manifest, request: &SourceRequest, received: Result<Received, ReceiveError>) -> Answer {
    match received {
        Ok(received) => Answer::well(lines::received(manifest, &received, request.received_at)),
        Err(ReceiveError::Refused(refusal)) => {
            let problem = Some(Problem::refused(&refusal));
            Answer { output: vec![lines::refused(&refusal)], problem, ..Answer::default() }
        }
        Err(ReceiveError::Fault(fault)) => Answer::fault(&fault),
    }
}

/// What a model learns of these rows, and a remark where it cannot be given some.
fn learn(
    manifest: &Manifest,
    model: &Arc<dyn ComputeModel>,
    rows: &[GivenRow],
) -> Result<(Vec<u8>, Vec<String>), PluginFault> {
    let (dataset, left_out) = dataset_of(manifest, rows)?;
    let fitted = model.fit(Box::new(dataset), &Cancellation::default())?;
    let remark = |first: &PluginFault| {
        let rows = output::counted(left_out.len() as u64, "row");
        format!("nothing is learnt of {rows}, the first for {}", words(first))
    };
    Ok((fitted.state, left_out.first().map(remark).into_iter().collect()))
}

fn requests(plugin: &Plugin, binding: Binding, messages: &[Value], now: Timestamp) -> Result<Answer, Failure> {
    if plugin.abi() == Abi::V0_1 {
        let message = "a channel of ABI 0.1 sends by itself, and nothing leaves here; build it for ABI 0.2";
        return Err(Failure::Usage(message.to_owned()));
    }
    let messages = lines::messages(messages, now)?;
    let channel = plugin.pure_channel(binding).map_err(unbound)?;
    let (output, fault) = answers::exchange(channel.as_ref(), messages)?;
    let Some(fault) = fault else { return Ok(Answer::well(output)) };
    let Answer { output: end, problem, remarks } = Answer::fault(&fault);
    Ok(Answer { output: output.into_iter().chain(end).collect(), problem, remarks })
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

#[cfg(test)]
mod tests {
    use super::*;

    const ASKING: &str = r#"
        [plugin]
        id = "acme/asking"
        version = "0.1.0"
        kind = "connector"
        abi = "0.2"
        kernel = ">=0.1, <0.2"
        title = "Asking"
        description = "Asks for a secret"
        license = "Apache-2.0"

        [[capabilities.secrets]]
        name = "signing"
        hosts = []
        reason = "To check signatures with"
    "#;

    /// A case passed with a secret with which no server would have installed the plugin.
    #[test]
    fn a_secret_is_one_that_a_server_takes() {
        let standard = ASKING.replace("hosts = []", "hosts = []\nform = \"standard-webhooks\"");
        let manifest = kith_host::parse_manifest(&standard).unwrap();
        let taken = |name: &str, value: &str| {
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            secrets(&manifest, given).map_err(|failure| failure.to_string())
        };
        assert!(taken("signing", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        let refused = |name: &str, value: &str| taken(name, value).unwrap_err();
        assert!(
            refused("signing", "whsec_test").starts_with("the secret `signing` must be `whsec_` and the base64 of")
        );
        assert!(refused("signing", "").starts_with("the secret `signing` is empty"));
        assert_eq!(refused("other", "x"), "the manifest asks for no secret `other`");
    }
}
