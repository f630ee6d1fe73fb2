//! Responsible for the one way to call a guest: a store with every limit set, fresh or of the calls before in the same pass, and
//! whatever goes wrong turned into a [`PluginFault`]. No other file reads a wasmtime error.
//!
//! Calls are synchronous and run on the caller's thread, which must be free to block. A guest that computes is stopped by
//! epochs; a host call that waits is a future under a timeout of what is left of the call (`imports/http.rs`).

use std::sync::Arc;

use kith_model::budget::{Budget, table};
use kith_model::plugin::PluginFault;
use kith_model::spent::{self, Spent};
use wasmtime::component::{ComponentNamedList, Instance, Lift, Lower};
use wasmtime::{Engine, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::exports::LinkedComponent;
use crate::observed::SeenCall;
use crate::state::{CallClass, CallState, InstallationContext};
use crate::text::bounded;

/// Calls of one instance: enough that a fresh one costs nothing beside them, few enough that what a guest leaks or keeps has an end.
const MAX_CALLS: u32 = 64;

/// A store with every limit set and, from its first call on, the plugin's instance in it. It is of one installation and of calls of
/// one class, each of which has the limits of a call anew but for the memory, which stays what the instance has.
pub(crate) struct Sandbox {
    store: Store<CallState>,
    instance: Option<Instance>,
    class: CallClass,
    /// Calls that began in it.
    calls: u32,
}

impl Sandbox {
    /// A fresh one.
    pub(crate) fn new(engine: &Engine, installed: &Arc<InstallationContext>, class: CallClass) -> Sandbox {
        let mut store = Store::new(engine, CallState::new(installed.clone(), class));
        store.limiter(|state| &mut state.memory);
        // Each value that comes of the guest has as much again.
        store.set_hostcall_fuel(usize::try_from(installed.policy.output_bytes.value).unwrap_or(usize::MAX));
        // No interface has resources, so only the parts of a composed plugin hold some of each other's.
        store.set_max_component_handles(usize::try_from(table::GUEST_HANDLES.default).unwrap_or(usize::MAX));
        store.epoch_deadline_callback(|mut store| store.data_mut().look_at_clocks().map(UpdateDeadline::Continue));
        Sandbox { store, instance: None, class, calls: 0 }
    }

    /// Call a function of the component, with a state that was prepared.
    pub(crate) fn call<P, R>(
        &mut self,
        component: &LinkedComponent,
        prepare: impl FnOnce(&mut CallState),
        function: &str,
        params: P,
    ) -> Result<R, PluginFault>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        let Sandbox { store, instance, class, calls } = self;
        if *calls > 0 {
            store.data_mut().renew(*class);
        }
        *calls += 1;
        prepare(store.data_mut());
        run(store, *class, |store| {
            let instance = match *instance {
                Some(instance) => instance,
                None => *instance.insert(component.instantiate(store)?),
            };
            component.call(store, instance, function, params)
        })
    }

    /// Whether the last call was refused memory because those before it had left too little. What came of it says nothing of the
    /// plugin.
    pub(crate) fn is_crowded(&self) -> bool {
        self.store.data().memory.is_crowded()
    }

    /// Whether another call may be made in it, after all of them went well. A metered one is made in an instance of its own: what a
    /// guest has allocated before would be seen in its fuel.
    pub(crate) fn may_go_on(&self) -> bool {
        let state = self.store.data();
        self.calls < MAX_CALLS && state.installed.fuel.is_none() && state.memory.is_ample()
    }
}

/// Run `call` in a store whose state is that of a call which begins.
fn run<T>(
    store: &mut Store<CallState>,
    class: CallClass,
    call: impl FnOnce(&mut Store<CallState>) -> wasmtime::Result<T>,
) -> Result<T, PluginFault> {
    let installed = Arc::clone(&store.data().installed);
    store.set_epoch_deadline(1);
    let given = installed.fuel.map(|fuel| fuel.saturating_mul(store.data().requests));
    if let Some(fuel) = given {
        store.set_fuel(fuel).map_err(|error| PluginFault::Unavailable(format!("{error:#}")))?;
    }
    let result = call(store).map_err(|error| fault(store.data(), &error));
    let (state, left) = (store.data(), store.get_fuel().unwrap_or_default());
    let elapsed = state.elapsed();
    metrics::histogram!("kith_plugin_call_seconds", "kind" => installed.kind.as_str()).record(elapsed.as_secs_f64());
    let cpu = state.processor();
    let fuel = given.unwrap_or_default().saturating_sub(left);
    spent::add(Spent { processor: cpu, fuel });
    installed.observed.call(&SeenCall {
        elapsed,
        cpu,
        memory_bytes: state.memory.used_bytes,
        host_calls: state.host_calls,
        fuel,
        state_writes: state.kv_written.writes,
        state_written_bytes: state.kv_written.bytes,
    });
    result.inspect_err(|fault| match fault {
        // It went as whoever asked wanted it to.
        PluginFault::Cancelled => {}
        // It is made again in a fresh instance, and counts then.
        _ if state.memory.is_crowded() => {}
        // The request that it is of is called alone as well, and its fault counts then, once; where it is of none, whoever made
        // the call says so.
        fault if state.requests > 1 => {
            let (installation, plugin) = (&installed.installation, &installed.plugin);
            let (code, requests) = (fault.code(), state.requests);
            tracing::debug!(installation, plugin, code, requests, "a call for several requests failed: {fault}");
        }
        fault => report_call(&installed, class, fault),
    })
}

/// Count and log the fault of a call, also for the budget that it has used up.
pub(crate) fn report_call(installed: &InstallationContext, class: CallClass, fault: &PluginFault) {
    if let Some(budget) = ended(class, fault) {
        budget.count();
    }
    report(installed, fault);
}

/// The budget of a call that ended, where it was one.
fn ended(class: CallClass, fault: &PluginFault) -> Option<&'static Budget> {
    Some(match (fault, class) {
        (PluginFault::MemoryExceeded { .. }, _) => &table::GUEST_MEMORY,
        (PluginFault::CpuExceeded { .. }, CallClass::Plain) => &table::GUEST_PROCESSOR,
        (PluginFault::CpuExceeded { .. }, CallClass::Fit) => &table::FIT_PROCESSOR,
        (PluginFault::DeadlineExceeded { .. }, CallClass::Plain) => &table::GUEST_TIME,
        (PluginFault::DeadlineExceeded { .. }, CallClass::Fit) => &table::FIT_TIME,
        (PluginFault::LimitExceeded { what: "output bytes", .. }, _) => &table::GUEST_OUTPUT,
        (PluginFault::LimitExceeded { what: "events", .. }, _) => &table::GUEST_EVENTS,
        (PluginFault::LimitExceeded { what: "bytes of events", .. }, _) => &table::GUEST_EVENT_BYTES,
        (PluginFault::LimitExceeded { what: "handles", .. }, _) => &table::GUEST_HANDLES,
        (PluginFault::LimitExceeded { .. }, _) => &table::GUEST_HOST_CALLS,
        _ => return None,
    })
}

/// Count and log a fault. Only here, so that none is counted twice. The log names installation and plugin; the figure does
/// not, because names are as many as tenants choose, and would show one tenant's to whoever reads the metrics of all.
pub(crate) fn report(installed: &InstallationContext, fault: &PluginFault) {
    metrics::counter!(
        "kith_plugin_faults_total",
        "kind" => installed.kind.as_str(), "code" => fault.code(), "owner" => fault.owner().as_str(),
    )
    .increment(1);
    installed.observed.fault(&installed.plugin, fault, installed.clock.now());
    let (installation, plugin) = (&installed.installation, &installed.plugin);
    tracing::warn!(installation, plugin, code = fault.code(), "{fault}");
    if let PluginFault::Trapped { backtrace, .. } = fault {
        tracing::debug!(installation, plugin, ?backtrace, "where it trapped");
    }
}

/// What a failed call means.
fn fault(state: &CallState, error: &wasmtime::Error) -> PluginFault {
    if let Some(stopped) = &state.stopped {
        return stopped.clone();
    }
    let trap = error.downcast_ref::<Trap>().copied();
    if let (Some(Trap::OutOfFuel), Some(limit)) = (trap, state.installed.fuel) {
        return PluginFault::FuelExhausted { limit: limit.saturating_mul(state.requests) };
    }
    if state.memory.refused {
        return PluginFault::MemoryExceeded { limit_bytes: state.memory.limit_bytes };
    }
    let backtrace = backtrace(error);
    let message = match (&state.panic, trap) {
        (Some(panic), _) => Some(panic.clone()),
        (None, _) if state.memory.table_refused => Some("asked for a larger table than the host gives".to_owned()),
        (None, Some(trap)) => Some(trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
        (None, None) => None,
    };
    if let Some(message) = message {
        return PluginFault::Trapped { message, backtrace };
    }
    let text = error.root_cause().to_string();
    // wasmtime's types for these errors are private; their texts are all there is to know them by. Tests hold them in place.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        return PluginFault::LimitExceeded { what: "output bytes", limit: state.installed.policy.output_bytes.value };
    }
    if text.contains("store handle limit exceeded") {
        return PluginFault::LimitExceeded { what: "handles", limit: table::GUEST_HANDLES.default };
    }
    PluginFault::InvalidOutput(state.installed.hidden.bounded(&text))
}

/// The guest's frames, innermost first: offset in the module and demangled name.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    // The first line of its text is a title; each further one begins with the frame's number.
    let text = trace.to_string();
    let frame = |line: &str| line.split_once(": ").map_or(line, |(_, frame)| frame).trim().to_owned();
    text.lines().skip(1).map(|line| bounded(&frame(line))).collect()
}
