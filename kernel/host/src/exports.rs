//! Responsible for a component's code, ready to be instantiated, and for calling the functions that its
//! kind's world exports, under the names of the version of the contract that it was built against.

use std::sync::Arc;

use kith_model::plugin::PluginKind;
use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower,
};

use crate::abi::Abi;
use crate::link::link;
use crate::package::world::{is_later, is_optional, world_of};
use crate::state::CallState;

/// A component, compiled, linked and with its exports found.
#[derive(Clone)]
pub(crate) struct LinkedComponent {
    pre: InstancePre<CallState>,
    /// The functions of the world's exports by name; few, so that a search is as fast as a map.
    functions: Arc<[(String, ComponentExportIndex)]>,
}

impl LinkedComponent {
    /// Link a component to the imports of its kind's world, and find its exports.
    pub(crate) fn new(abi: Abi, kind: PluginKind, component: &Component) -> wasmtime::Result<LinkedComponent> {
        let mut linker: Linker<CallState> = Linker::new(component.engine());
        link(&mut linker, abi, kind)?;
        let pre = linker.instantiate_pre(component)?;
        let mut functions = Vec::new();
        for (interface, names) in &world_of(abi, kind).exports {
            if is_optional(interface) && component.get_export_index(None, interface).is_none() {
                continue;
            }
            let missing = || wasmtime::Error::msg(format!("it does not export `{interface}`"));
            let instance = component.get_export_index(None, interface).ok_or_else(missing)?;
            for name in names {
                match component.get_export_index(Some(&instance), name) {
                    Some(function) => functions.push((name.clone(), function)),
                    None if is_later(name) => {}
                    None => return Err(wasmtime::Error::msg(format!("`{interface}` has no function `{name}`"))),
                }
            }
        }
        Ok(LinkedComponent { pre, functions: functions.into() })
    }

    /// Whether the component has a function of that name.
    pub(crate) fn has(&self, function: &str) -> bool {
        self.functions.iter().any(|(name, _)| name == function)
    }

    /// Instantiate the component in `store`.
    pub(crate) fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<Instance> {
        self.pre.instantiate(store)
    }

    /// Call one of the functions of its instance in `store`.
    pub(crate) fn call<P, R>(
        &self,
        store: &mut Store<CallState>,
        instance: Instance,
        function: &str,
        params: P,
    ) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        let found = self.functions.iter().find(|(name, _)| name == function);
        let (_, index) = found.ok_or_else(|| wasmtime::Error::msg(format!("its world has no `{function}`")))?;
        let (result,) = instance.get_typed_func::<P, (R,)>(&mut *store, index)?.call(&mut *store, params)?;
        Ok(result)
    }
}
