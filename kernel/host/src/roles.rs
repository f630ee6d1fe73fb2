//! Responsible for the four roles: binding a loaded plugin to an installation's configuration, grants, secrets and state,
//! and implementing the model's role traits with it. How a guest is called is `call.rs`; what it may return, `verify.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::delivery::{Message, Outcome};
use kith_model::plugin::{
    Callback, Channel, ComputeModel, Connector, Fitted, Grants, Manifest, PluginFault, PluginKind, PolledPage, Receipt,
    ReceiveError, Received, SourceRequest,
};
use kith_model::table::Table;
use serde_json::Value;
use wasmtime::Engine;

use crate::bindings::{channel, connector};
use crate::call::{report, run};
use crate::convert;
use crate::engine::Metering;
use crate::host::{Compiled, HostCore, LoadError, Plugin};
use crate::imports::http::HttpGate;
use crate::imports::secrets::Secrets;
use crate::manifest::{ConfigMistake, validate_config};
use crate::policy::effective_policy;
use crate::state::{CallClass, Installed, KeyValue};
use crate::verify;

/// What makes a plugin an installation.
pub struct Binding {
    /// The installation's name, for logs and metrics.
    pub installation: String,
    pub config: Value,
    pub grants: Grants,
    /// Secret name → value.
    pub secrets: BTreeMap<String, String>,
    pub state: Arc<dyn KeyValue>,
    /// Meter the plugin, and give each call this much fuel. Where a reproducible budget matters; it costs speed.
    pub fuel: Option<u64>,
}

/// Why a plugin does not become an installation.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{plugin} is a {kind}, not a {asked}")]
    WrongKind { plugin: String, kind: PluginKind, asked: &'static str },
    #[error("the configuration does not fit: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigMistake>),
    #[error("the grant of the mail server `{0}` cannot be given: this kernel sends no mail yet; remove it")]
    Mail(String),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A plugin bound to an installation.
struct Bound {
    /// Keeps the engine and its ticker alive.
    core: Arc<HostCore>,
    manifest: Manifest,
    installed: Arc<Installed>,
    compiled: Compiled,
    metering: Metering,
}

impl Bound {
    fn engine(&self) -> Result<&Engine, PluginFault> {
        self.core.engines.get(self.metering).map_err(|error| PluginFault::Unavailable(format!("{error:#}")))
    }

    /// Count a fault that was found after the call, so that no fault goes unseen.
    fn reported<T>(&self, checked: Result<T, PluginFault>) -> Result<T, PluginFault> {
        checked.inspect_err(|fault| report(&self.installed, fault))
    }
}

impl Plugin {
    /// Bind a connector.
    ///
    /// # Errors
    /// [`BindError`] for another kind of plugin, a configuration that does not fit, or a grant that cannot be given.
    pub fn connector(&self, binding: Binding) -> Result<Arc<dyn Connector>, BindError> {
        self.expect("connector", &[PluginKind::Connector])?;
        let bound = self.bind(binding)?;
        let Compiled::Connector(pre) = bound.compiled.clone() else { unreachable!("the kind was checked") };
        Ok(Arc::new(WasmConnector { bound, pre }))
    }

    /// Bind a tag model or a scorer.
    ///
    /// # Errors
    /// As for [`Plugin::connector`].
    pub fn compute(&self, binding: Binding) -> Result<Arc<dyn ComputeModel>, BindError> {
        self.expect("tag-model or scorer", &[PluginKind::TagModel, PluginKind::Scorer])?;
        Ok(Arc::new(WasmModel { bound: self.bind(binding)? }))
    }

    /// Bind a channel.
    ///
    /// # Errors
    /// As for [`Plugin::connector`].
    pub fn channel(&self, binding: Binding) -> Result<Arc<dyn Channel>, BindError> {
        self.expect("channel", &[PluginKind::Channel])?;
        let bound = self.bind(binding)?;
        let Compiled::Channel(pre) = bound.compiled.clone() else { unreachable!("the kind was checked") };
        Ok(Arc::new(WasmChannel { bound, pre }))
    }

    fn expect(&self, asked: &'static str, kinds: &[PluginKind]) -> Result<(), BindError> {
        let manifest = self.manifest();
        if kinds.contains(&manifest.kind) {
            return Ok(());
        }
        Err(BindError::WrongKind { plugin: manifest.id.to_string(), kind: manifest.kind, asked })
    }

    fn bind(&self, binding: Binding) -> Result<Bound, BindError> {
        let manifest = self.manifest().clone();
        if let Some(server) = binding.grants.mail.first() {
            return Err(BindError::Mail(server.clone()));
        }
        let config = validate_config(&manifest, binding.config).map_err(BindError::Config)?;
        let settings = &self.core.config;
        let policy = effective_policy(&manifest, &binding.grants, &settings.ceiling);
        let fuel = binding.fuel.or(binding.grants.limits.fuel);
        let fuel = fuel.map(|asked| policy.fuel.map_or(asked, |limit| asked.min(limit.value)));
        let metering = if fuel.is_some() { Metering::On } else { Metering::Off };
        let secrets = Secrets::new(binding.secrets, &policy).map_err(|error| BindError::Random(error.to_string()))?;
        let installed = Arc::new(Installed {
            installation: binding.installation,
            plugin: format!("{}@{}", manifest.id, manifest.version),
            policy,
            config: config.to_string(),
            secrets,
            http: HttpGate::new(self.core.tls.clone(), settings.allow_loopback, settings.allow_plain_http),
            state: binding.state,
            clock: settings.clock.clone(),
            runtime: settings.runtime.clone(),
            fuel,
        });
        let compiled = self.compiled(metering)?;
        Ok(Bound { core: self.core.clone(), manifest, installed, compiled, metering })
    }
}

struct WasmConnector {
    bound: Bound,
    pre: connector::ConnectorPre<crate::state::CallState>,
}

impl Connector for WasmConnector {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let bound = &self.bound;
        let engine = bound.engine().map_err(ReceiveError::Fault)?;
        let wit = convert::request_to_wit(request);
        let called = run(
            engine,
            &bound.installed,
            CallClass::Plain,
            |_| {},
            |store| {
                let instance = self.pre.instantiate(&mut *store)?;
                instance.kith_plugin_source().call_receive(store, &wit)
            },
        );
        match called.map_err(ReceiveError::Fault)? {
            Ok(received) => {
                let received = convert::received_from_wit(received);
                let checked = verify::received(&bound.manifest, request, &received);
                bound.reported(checked).map(|()| received).map_err(ReceiveError::Fault)
            }
            Err(rejection) => {
                let refusal = convert::refusal(rejection.status, &rejection.code, &rejection.message);
                bound.reported(verify::refusal(&refusal)).map_err(ReceiveError::Fault)?;
                Err(ReceiveError::Refused(refusal))
            }
        }
    }

    fn poll(&self, cursor: Option<&[u8]>) -> Result<PolledPage, PluginFault> {
        let bound = &self.bound;
        let called = run(
            bound.engine()?,
            &bound.installed,
            CallClass::Plain,
            |_| {},
            |store| {
                let instance = self.pre.instantiate(&mut *store)?;
                instance.kith_plugin_source().call_poll(store, cursor)
            },
        )?;
        let page = convert::page_from_wit(called.map_err(convert::failure_from_wit)?);
        bound.reported(verify::events(&bound.manifest, &page.events)).map(|()| page)
    }
}

/// A tag model or a scorer.
struct WasmModel {
    bound: Bound,
}

impl ComputeModel for WasmModel {
    fn fit(&self, dataset: Box<dyn Iterator<Item = Table> + Send>) -> Result<Fitted, PluginFault> {
        let bound = &self.bound;
        let give = |state: &mut crate::state::CallState| state.dataset = Some(dataset);
        let called = run(bound.engine()?, &bound.installed, CallClass::Fit, give, |store| match &bound.compiled {
            Compiled::TagModel(pre) => pre.instantiate(&mut *store)?.kith_plugin_tagging().call_fit(store),
            Compiled::Scorer(pre) => pre.instantiate(&mut *store)?.kith_plugin_scoring().call_fit(store),
            Compiled::Connector(_) | Compiled::Channel(_) => unreachable!("the kind was checked when it was bound"),
        })?;
        let fitted = convert::fitted_from_wit(called.map_err(convert::failure_from_wit)?);
        bound.reported(verify::fitted(&fitted)).map(|()| fitted)
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let bound = &self.bound;
        let count = rows.rows;
        let rows = convert::table_to_wit(rows);
        let called = run(
            bound.engine()?,
            &bound.installed,
            CallClass::Plain,
            |_| {},
            |store| match &bound.compiled {
                Compiled::TagModel(pre) => {
                    pre.instantiate(&mut *store)?.kith_plugin_tagging().call_evaluate(store, state, &rows)
                }
                Compiled::Scorer(pre) => {
                    pre.instantiate(&mut *store)?.kith_plugin_scoring().call_score(store, state, &rows)
                }
                Compiled::Connector(_) | Compiled::Channel(_) => unreachable!("the kind was checked when it was bound"),
            },
        )?;
        let table = convert::table_from_wit(called.map_err(convert::failure_from_wit)?);
        bound.reported(verify::outputs(&bound.manifest, count, &table)).map(|()| table)
    }
}

struct WasmChannel {
    bound: Bound,
    pre: channel::ChannelPre<crate::state::CallState>,
}

impl Channel for WasmChannel {
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault> {
        let bound = &self.bound;
        let wit: Vec<_> = messages.iter().map(convert::message_to_wit).collect();
        let outcomes = run(
            bound.engine()?,
            &bound.installed,
            CallClass::Plain,
            |_| {},
            |store| {
                let instance = self.pre.instantiate(&mut *store)?;
                instance.kith_plugin_delivering().call_send(store, &wit)
            },
        )?;
        if outcomes.len() != messages.len() {
            let problem = format!("{} outcomes came back for {} messages", outcomes.len(), messages.len());
            return bound.reported(Err(PluginFault::InvalidOutput(problem)));
        }
        Ok(outcomes.into_iter().map(convert::outcome_from_wit).collect())
    }

    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        let bound = &self.bound;
        let engine = bound.engine().map_err(ReceiveError::Fault)?;
        let wit = convert::callback_to_wit(callback);
        let called = run(
            engine,
            &bound.installed,
            CallClass::Plain,
            |_| {},
            |store| {
                let instance = self.pre.instantiate(&mut *store)?;
                instance.kith_plugin_delivering().call_receive(store, &wit)
            },
        );
        match called.map_err(ReceiveError::Fault)? {
            Ok(receipts) => {
                let receipts: Vec<Receipt> = receipts.into_iter().map(convert::receipt_from_wit).collect();
                let checked = verify::events(&bound.manifest, receipts.iter().map(|receipt| &receipt.event));
                bound.reported(checked).map(|()| receipts).map_err(ReceiveError::Fault)
            }
            Err(rejection) => {
                let refusal = convert::refusal(rejection.status, &rejection.code, &rejection.message);
                bound.reported(verify::refusal(&refusal)).map_err(ReceiveError::Fault)?;
                Err(ReceiveError::Refused(refusal))
            }
        }
    }
}
