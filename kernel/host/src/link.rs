//! Responsible for giving a component the host's functions that its kind's world imports, and no others, under the names of
//! the version of the contract that it was built against.

use kith_model::plugin::PluginKind;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance};

use crate::abi::Abi;
use crate::bindings::current::{clock, config, dataset, http, http_types, kv, log, secrets};
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
            ("log", _) => link_log(&mut instance)?,
            ("config", _) => link_config(&mut instance)?,
            ("secrets", _) => link_secrets(&mut instance)?,
            ("clock", _) => link_clock(&mut instance)?,
            ("kv", _) => link_kv(&mut instance)?,
            ("dataset", _) => link_dataset(&mut instance)?,
            ("http", Abi::V0_1) => link_http_0_1(&mut instance)?,
            ("http", Abi::V0_2) => link_http(&mut instance)?,
            ("mail", _) => link_mail(&mut instance)?,
            // Interfaces that only define types have nothing to call.
            _ => {}
        }
    }
    Ok(())
}

fn link_log(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("write", |mut store: Store<'_>, (level, message): (log::Level, String)| {
        log::Host::write(store.data_mut(), level, message)
    })
}

fn link_config(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("get", |mut store: Store<'_>, (): ()| Ok((config::Host::get(store.data_mut())?,)))
}

fn link_secrets(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("stand-in", |mut store: Store<'_>, (name,): (String,)| {
        Ok((secrets::Host::stand_in(store.data_mut(), name)?,))
    })
}

fn link_clock(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("now", |mut store: Store<'_>, (): ()| Ok((clock::Host::now(store.data_mut())?,)))
}

fn link_kv(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance
        .func_wrap("get", |mut store: Store<'_>, (key,): (String,)| Ok((kv::Host::get(store.data_mut(), key)?,)))?;
    instance.func_wrap("set", |mut store: Store<'_>, (key, value): (String, Vec<u8>)| {
        Ok((kv::Host::set(store.data_mut(), key, value)?,))
    })?;
    instance
        .func_wrap("delete", |mut store: Store<'_>, (key,): (String,)| Ok((kv::Host::delete(store.data_mut(), key)?,)))
}

fn link_dataset(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("next", |mut store: Store<'_>, (): ()| Ok((dataset::Host::next(store.data_mut())?,)))
}

fn link_http(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |mut store: Store<'_>, (request,): (http_types::Request,)| {
        Ok((http::Host::send(store.data_mut(), request)?,))
    })
}

fn link_http_0_1(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |mut store: Store<'_>, (request,): (v0_1::http::Request,)| {
        Ok((v0_1::http::Host::send(store.data_mut(), request)?,))
    })
}

fn link_mail(instance: &mut LinkerInstance<'_, CallState>) -> wasmtime::Result<()> {
    instance.func_wrap("send", |mut store: Store<'_>, (server, message): (String, v0_1::mail::Message)| {
        Ok((v0_1::mail::Host::send(store.data_mut(), server, message)?,))
    })
}
