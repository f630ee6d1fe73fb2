//! Responsible for giving a component the host's functions that its kind's world imports, and no others, under the names of
//! the version of the contract that it was built against.

use kith_model::plugin::PluginKind;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance};

use crate::abi::Abi;
use crate::bindings::current::{clock, config, dataset, emitting, http, http_types, kv, log, secrets};
use crate::bindings::v0_1;
use crate::package::world::world_of;
use crate::state::CallState;

type Store<'a> = StoreContextMut<'a, CallState>;

/// Link what the world of `kind` imports.
pub(crate) fn link(linker: &mut Linker<CallState>, abi: Abi, kind: PluginKind) -> wasmtime::Result<()> {
    for name in &world_of(abi, kind).imports {
        let interface = name.split(['/', '@']).nth(1).unwrap_or_default();
        let mut instance = linker.instance(name)?;
        match (interface, abi) {
            ("log", abi) => link_log(&mut instance, abi)?,
            ("config", _) => link_config(&mut instance)?,
            ("secrets", abi) => link_secrets(&mut instance, abi)?,
            ("clock", _) => link_clock(&mut instance)?,
            ("kv", Abi::V0_1) => link_kv_0_1(&mut instance)?,
            ("kv", Abi::V0_2) => link_kv(&mut instance)?,
            ("dataset", Abi::V0_1) => link_dataset_0_1(&mut instance)?,
            ("dataset", Abi::V0_2) => link_dataset(&mut instance)?,
            ("emitting", _) => link_emitting(&mut instance)?,
            ("http", Abi::V0_1) => link_http_0_1(&mut instance)?,
            ("http", Abi::V0_2) => link_http(&mut instance)?,
            ("mail", _) => link_mail(&mut instance)?,
            // Interfaces that only define types have nothing to call.
            _ => {}
        }
    }
    Ok(())
}

/// Run an import and look at the clock after it, because a guest that calls nothing else is looked at by nobody.
fn timed<T>(
    mut store: Store<'_>,
    import: impl FnOnce(&mut CallState) -> wasmtime::Result<T>,
) -> wasmtime::Result<(T,)> {
    let given = import(store.data_mut())?;
    store.data_mut().look_at_wall()?;
    Ok((given,))
}

fn link_log(instance: &mut LinkerInstance<'_, CallState>, abi: Abi) -> wasmtime::Result<()> {
    instance.func_wrap("write", |store: Store<'_>, (level, message): (log::Level, String)| {
        timed(store, |state| log::Host::write(state, level, message)).map(|((),)| ())
    })?;
    if abi == Abi::V0_1 {
        return Ok(());
    }
    instance.func_wrap("least", |store: Store<'_>, (): ()| timed(store, log::Host::least))
}

fn link_config(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("get", |store: Store<'_>, (): ()| timed(store, config::Host::get))
}

fn link_secrets(instance: &mut LinkerInstance<'_, CallState>, abi: Abi) -> wasmtime::Result<()> {
    instance.func_wrap("stand-in", |store: Store<'_>, (name,): (String,)| {
        timed(store, |state| secrets::Host::stand_in(state, name))
    })?;
    if abi == Abi::V0_1 {
        return Ok(());
    }
    instance.func_wrap(
        "verify-hmac",
        |store: Store<'_>, (key, message, signature): (secrets::HmacKey, Vec<u8>, String)| {
            timed(store, |state| secrets::Host::verify_hmac(state, key, message, signature))
        },
    )
}

fn link_clock(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |store: Store<'_>, (): ()| timed(store, clock::Host::now))
}

/// What is the same in both versions.
fn link_kv_common(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("get", |store: Store<'_>, (key,): (String,)| timed(store, |state| kv::Host::get(state, key)))?;
    instance
        .func_wrap("delete", |store: Store<'_>, (key,): (String,)| timed(store, |state| kv::Host::delete(state, key)))
}

fn link_kv(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    link_kv_common(instance)?;
    instance.func_wrap("set", |store: Store<'_>, (key, value, ttl_ms): (String, Vec<u8>, Option<u64>)| {
        timed(store, |state| kv::Host::set(state, key, value, ttl_ms))
    })?;
    instance.func_wrap(
        "compare-and-set",
        |store: Store<'_>, (key, expected, value, ttl_ms): (String, Option<Vec<u8>>, Vec<u8>, Option<u64>)| {
            timed(store, |state| kv::Host::compare_and_set(state, key, expected, value, ttl_ms))
        },
    )?;
    instance.func_wrap("list-keys", |store: Store<'_>, (prefix, after, limit): (String, Option<String>, u32)| {
        timed(store, |state| kv::Host::list_keys(state, prefix, after, limit))
    })
}

/// What 0.1 keeps, it keeps for good.
fn link_kv_0_1(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    link_kv_common(instance)?;
    instance.func_wrap("set", |store: Store<'_>, (key, value): (String, Vec<u8>)| {
        timed(store, |state| kv::Host::set(state, key, value, None))
    })
}

fn link_dataset(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("next", |store: Store<'_>, (): ()| timed(store, dataset::Host::next))?;
    instance.func_wrap("rewind", |store: Store<'_>, (): ()| timed(store, dataset::Host::rewind).map(|((),)| ()))
}

fn link_dataset_0_1(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("next", |store: Store<'_>, (): ()| timed(store, v0_1::dataset::Host::next))
}

fn link_emitting(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("emit", |store: Store<'_>, (row, event): (u32, emitting::Emitted)| {
        timed(store, |state| emitting::Host::emit(state, row, event)).map(|((),)| ())
    })
}

fn link_http(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |store: Store<'_>, (request,): (http_types::Request,)| {
        timed(store, |state| http::Host::send(state, request))
    })
}

fn link_http_0_1(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |store: Store<'_>, (request,): (v0_1::http::Request,)| {
        timed(store, |state| v0_1::http::Host::send(state, request))
    })
}

fn link_mail(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |store: Store<'_>, (server, message): (String, v0_1::mail::Message)| {
        timed(store, |state| v0_1::mail::Host::send(state, server, message))
    })
}
