//! Responsible for the four roles: binding a loaded plugin to an installation's configuration, grants, secrets and state,
//! and implementing the model's role traits with it, one file each. How a guest is called is `call.rs`; what it may return,
//! `verify.rs`.

mod channel;
mod connector;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::plugin::{Channel, ComputeModel, Connector, Grants, Manifest, PluginFault, PluginKind, ReceiveError};
use kith_model::secret::Secret;
use kith_model::sending::PureChannel;
use parking_lot::Mutex;
use serde_json::{Value, json};
use wasmtime::Engine;
use wasmtime::component::{ComponentNamedList, Lift, Lower};

use self::channel::{WasmChannel, WasmPureChannel};
use self::connector::WasmConnector;
use self::model::WasmModel;
use crate::abi::Abi;
use crate::bindings::current::checking;
use crate::call::{Sandbox, report};
use crate::convert;
use crate::egress::Gate;
use crate::engine::Metering;
use crate::exports::LinkedComponent;
use crate::hidden::Hidden;
use crate::host::{HostCore, LoadError, Plugin};
use crate::imports::secrets::Secrets;
use crate::key_value::{KeyValue, MemoryKeyValue};
use crate::manifest::{parted, write_only};
use crate::observed::Observed;
use crate::policy::effective_policy;
use crate::state::{CallClass, CallState, InstallationContext, StateWrites};
use crate::verify;

/// What makes a plugin an installation.
pub struct Binding {
    /// The installation's name, for logs and metrics.
    pub installation: String,
    /// What [`validate_config`](crate::validate_config) made of what an admin wrote. It is not checked again: a plugin goes on
    /// working by rules that have become stricter since.
    pub config: Value,
    /// JSON pointers to what of it is not shown, beside what the manifest says so of.
    pub unshown: BTreeSet<String>,
    pub grants: Grants,
    /// Secret name → value.
    pub secrets: BTreeMap<String, Secret>,
    pub state: Arc<dyn KeyValue>,
    /// Sees what its calls do.
    pub observed: Arc<Observed>,
    /// Meter the plugin, and give each call this much fuel. Where a reproducible budget matters; it costs speed.
    pub fuel: Option<u64>,
}

/// Why a plugin does not become an installation.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{plugin} is a {kind}, not a {asked}")]
    WrongKind { plugin: String, kind: PluginKind, asked: &'static str },
    #[error("{plugin} is a channel of contract {abi}; bind it as such")]
    OtherContract { plugin: String, abi: Abi },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Something in a configuration that a plugin could not work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The keys from the top, e.g. `time.zone`; empty for the whole.
    pub key: String,
    pub message: String,
}

/// Whose configuration a plugin is asked about, which its log lines are told of.
#[derive(Clone, Default)]
pub struct Asking {
    /// The installation's name, or the plugin's where there is none yet.
    pub installation: String,
    /// Where the lines are seen.
    pub observed: Arc<Observed>,
}

/// Why a plugin did not say what it thinks of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Fault(#[from] PluginFault),
}

/// The function by which a plugin checks its configuration.
const VALIDATE: &str = "validate";

/// The function by which a plugin makes its configuration of an earlier version's.
const MIGRATE: &str = "migrate";

/// Problems of one configuration that are shown.
const MAX_PROBLEMS: usize = 32;

/// A plugin bound to an installation.
pub(crate) struct BoundPlugin {
    /// Keeps the engine and its ticker alive.
    core: Arc<HostCore>,
    manifest: Manifest,
    pub(crate) installed: Arc<InstallationContext>,
    compiled: LinkedComponent,
    metering: Metering,
}

impl BoundPlugin {
    fn engine(&self) -> Result<&Engine, PluginFault> {
        self.core.engines.get(self.metering).map_err(|error| PluginFault::Unavailable(format!("{error:#}")))
    }

    /// Call a function of the component in a fresh instance.
    fn call<P, R>(&self, class: CallClass, function: &str, params: P) -> Result<R, PluginFault>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        self.call_with(class, |_| {}, function, params)
    }

    /// Call a function of the component in a fresh instance, with a state that was prepared.
    fn call_with<P, R>(
        &self,
        class: CallClass,
        prepare: impl FnOnce(&mut CallState),
        function: &str,
        params: P,
    ) -> Result<R, PluginFault>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        self.sandbox(class)?.call(&self.compiled, prepare, function, params)
    }

    /// A fresh sandbox.
    fn sandbox(&self, class: CallClass) -> Result<Sandbox, PluginFault> {
        Ok(Sandbox::new(self.engine()?, &self.installed, class))
    }

    /// A guest's refusal, or the fault that it is none.
    fn refused(&self, status: u16, code: &str, message: &str) -> ReceiveError {
        let refusal = convert::refusal(&self.installed.hidden, status, code, message);
        match self.reported(verify::refusal(&refusal)) {
            Ok(()) => ReceiveError::Refused(refusal),
            Err(fault) => ReceiveError::Fault(fault),
        }
    }

    /// Count a fault that was found after the call, so that no fault goes unseen.
    fn reported<T>(&self, checked: Result<T, PluginFault>) -> Result<T, PluginFault> {
        checked.inspect_err(|fault| report(&self.installed, fault))
    }
}

/// Problems as a guest told them, as many as are shown. It may quote what it was given.
fn problems(hidden: &Hidden, said: Vec<checking::Problem>) -> Vec<ConfigProblem> {
    let problem = |problem: checking::Problem| ConfigProblem {
        key: hidden.bounded(&problem.key),
        message: hidden.bounded(&problem.message),
    };
    said.into_iter().take(MAX_PROBLEMS).map(problem).collect()
}

impl Plugin {
    /// Bind a connector.
    ///
    /// # Errors
    /// [`BindError`] for another kind of plugin, or a grant that cannot be given.
    pub fn connector(&self, binding: Binding) -> Result<Arc<dyn Connector>, BindError> {
        self.expect("connector", &[PluginKind::Connector])?;
        Ok(Arc::new(WasmConnector { bound: self.bind(binding)?, abi: self.abi() }))
    }

    /// Bind a tag model or a scorer.
    ///
    /// # Errors
    /// As for [`Plugin::connector`].
    pub fn compute(&self, binding: Binding) -> Result<Arc<dyn ComputeModel>, BindError> {
        self.expect("tag-model or scorer", &[PluginKind::TagModel, PluginKind::Scorer])?;
        Ok(Arc::new(WasmModel { bound: self.bind(binding)?, abi: self.abi() }))
    }

    /// Bind a channel of contract 0.1, which sends its requests itself.
    ///
    /// # Errors
    /// As for [`Plugin::connector`], and for a channel of another contract.
    pub fn channel(&self, binding: Binding) -> Result<Arc<dyn Channel>, BindError> {
        self.expect_channel(Abi::V0_1)?;
        Ok(Arc::new(WasmChannel { bound: self.bind(binding)? }))
    }

    /// Bind a channel of contract 0.2, for which the kernel sends.
    ///
    /// # Errors
    /// As for [`Plugin::connector`], and for a channel of another contract.
    pub fn pure_channel(&self, binding: Binding) -> Result<Arc<dyn PureChannel>, BindError> {
        self.expect_channel(Abi::V0_2)?;
        Ok(Arc::new(WasmPureChannel { bound: self.bind(binding)? }))
    }

    /// What the plugin says of a configuration that its schema has admitted: what it could not work with, each with its key. A
    /// plugin without that function has nothing to say. It runs within what the host's ceiling and the manifest give any call,
    /// and holds no grant, secret or state. What lies at the places `unshown` is in no line that it logs, and in no
    /// problem.
    ///
    /// # Errors
    /// [`CheckError`] where it cannot be asked, or fails.
    pub fn check_config(
        &self,
        asking: &Asking,
        config: &Value,
        unshown: &BTreeSet<String>,
    ) -> Result<Vec<ConfigProblem>, CheckError> {
        let bound = self.bind_bare(asking, config, unshown)?;
        if !bound.compiled.has(VALIDATE) {
            return Ok(Vec::new());
        }
        let text = bound.installed.config.clone();
        let said: Result<(), Vec<checking::Problem>> = bound.call(CallClass::Plain, VALIDATE, (text.as_str(),))?;
        Ok(said.err().map(|said| problems(&bound.installed.hidden, said)).unwrap_or_default())
    }

    /// What the plugin makes of a configuration that an installation has with an earlier version, `from`; or why it cannot, each
    /// with its key. A plugin without that function gives it back as it is. It runs as [`Plugin::check_config`] does, and what
    /// it makes is not yet held against its schema.
    ///
    /// # Errors
    /// [`CheckError`] where it cannot be asked, or fails.
    pub fn migrate_config(
        &self,
        asking: &Asking,
        from: &semver::Version,
        config: &Value,
        unshown: &BTreeSet<String>,
    ) -> Result<Result<Value, Vec<ConfigProblem>>, CheckError> {
        let bound = self.bind_bare(asking, config, unshown)?;
        if !bound.compiled.has(MIGRATE) {
            return Ok(Ok(config.clone()));
        }
        let (from, text) = (from.to_string(), bound.installed.config.clone());
        let said: Result<String, Vec<checking::Problem>> =
            bound.call(CallClass::Plain, MIGRATE, (from.as_str(), text.as_str()))?;
        let migrated = match said {
            Ok(migrated) => migrated,
            Err(said) => return Ok(Err(problems(&bound.installed.hidden, said))),
        };
        let read = serde_json::from_str::<Value>(&migrated).ok().filter(Value::is_object);
        let no_object =
            || PluginFault::InvalidOutput("what it migrated a configuration to is no JSON object".to_owned());
        Ok(Ok(bound.reported(read.ok_or_else(no_object))?))
    }

    /// Bind it to a configuration alone: no grant, no secret and no state.
    fn bind_bare(&self, asking: &Asking, config: &Value, unshown: &BTreeSet<String>) -> Result<BoundPlugin, BindError> {
        self.bind(Binding {
            installation: asking.installation.clone(),
            config: config.clone(),
            unshown: unshown.clone(),
            grants: Grants::default(),
            secrets: BTreeMap::new(),
            state: Arc::new(MemoryKeyValue::default()),
            observed: Arc::clone(&asking.observed),
            fuel: None,
        })
    }

    fn expect_channel(&self, abi: Abi) -> Result<(), BindError> {
        self.expect("channel", &[PluginKind::Channel])?;
        match self.abi() {
            found if found == abi => Ok(()),
            abi => Err(BindError::OtherContract { plugin: self.manifest().id.to_string(), abi }),
        }
    }

    fn expect(&self, asked: &'static str, kinds: &[PluginKind]) -> Result<(), BindError> {
        let manifest = self.manifest();
        if kinds.contains(&manifest.kind) {
            return Ok(());
        }
        Err(BindError::WrongKind { plugin: manifest.id.to_string(), kind: manifest.kind, asked })
    }

    /// Whether binding it would compile it first, because the code in memory does not count fuel.
    pub fn compiles_to_bind(&self, binding: &Binding) -> bool {
        let fuel = [binding.fuel, binding.grants.limits.fuel, self.manifest().limits.fuel];
        fuel.iter().any(Option::is_some) && !self.is_metered()
    }

    pub(crate) fn bind(&self, binding: Binding) -> Result<BoundPlugin, BindError> {
        let manifest = self.manifest().clone();
        let config = if binding.config.is_null() { json!({}) } else { binding.config };
        let mut unshown = write_only(&manifest);
        unshown.extend(binding.unshown);
        let settings = &self.core.config;
        let policy = effective_policy(&manifest, &binding.grants, &settings.ceiling);
        // Whatever the policy shows is in force, also where the manifest alone asks for it.
        let fuel = match (binding.fuel, policy.fuel) {
            (Some(asked), Some(limit)) => Some(asked.min(limit.value)),
            (asked, limit) => asked.or(limit.map(|limit| limit.value)),
        };
        let metering = if fuel.is_some() { Metering::On } else { Metering::Off };
        let gate = Gate::new(self.core.client.clone(), settings, &policy);
        let secrets = Secrets::new(binding.secrets, &policy).map_err(|error| BindError::Random(error.to_string()))?;
        let installed = Arc::new(InstallationContext {
            installation: binding.installation,
            plugin: format!("{}@{}", manifest.id, manifest.version),
            kind: manifest.kind,
            policy,
            emits: manifest.emitted_names().map(Arc::from),
            config: config.to_string(),
            hidden: Hidden::new(&parted(config, &unshown)),
            secrets,
            gate,
            state: binding.state,
            clock: settings.clock.clone(),
            observed: binding.observed,
            log_level: settings.ceiling.log_level,
            network: self.core.network.clone(),
            fuel,
            state_writes: Mutex::new(StateWrites::new(settings.clock.now())),
        });
        let compiled = self.compiled(metering)?;
        Ok(BoundPlugin { core: self.core.clone(), manifest, installed, compiled, metering })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::{checking, host};

    #[test]
    fn who_checks_a_configuration_logs_nothing_of_it_that_is_not_shown() {
        let (config, unshown) = (json!({ "token": "s3cret" }), BTreeSet::from(["/token".to_owned()]));
        let plugin = host().load(&checking("unreachable")).unwrap();
        let bound = plugin.bind_bare(&Asking::default(), &config, &unshown).unwrap();
        assert_eq!(bound.installed.hidden.bounded("it is s3cret"), "it is …");
    }
}
