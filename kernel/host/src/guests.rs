//! Test guests: small core modules in WebAssembly text that speak the canonical ABI by hand, made into packages by the
//! same [`assemble`] as any vendor's. Text keeps each attack in view, and no other toolchain is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use kith_model::plugin::{Grants, PluginKind};
use kith_model::table::{Cell, Column, ColumnBuilder, ColumnType, Table};
use kith_model::time::{ManualClock, Timestamp};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
    ComponentSectionId, RawSection,
};
use wasmparser::{Parser, Payload};

use crate::abi::Abi;
use crate::package::world::{contract, is_optional};
use crate::{Binding, CompileMode, Host, HostConfig, Limits, MemoryKeyValue, assemble};

/// A score `x` for an input `x`.
pub(crate) const SCORER: &str = r#"
[plugin]
id = "test/scorer"
version = "1.0.0"
kind = "scorer"
abi = "0.2"
kernel = ">=0.1"
title = "Scorer"
description = "A test guest."
license = "Apache-2.0"
[inputs.x]
expression = "traits.x"
type = "float64"
reason = "to test"
[outputs.x]
type = "float64"
description = "the input"
"#;

pub(crate) const CONNECTOR: &str = r#"
[plugin]
id = "test/connector"
version = "1.0.0"
kind = "connector"
abi = "0.2"
kernel = ">=0.1"
title = "Connector"
description = "A test guest."
license = "Apache-2.0"
[capabilities]
emits = ["Tested"]
[[capabilities.http]]
host = "*"
methods = ["POST"]
reason = "to test"
[[capabilities.secrets]]
name = "signing"
hosts = ["*"]
reason = "to test"
"#;

/// A channel that is given addresses and numbers of people, and may post anywhere.
pub(crate) const CHANNEL: &str = r#"
[plugin]
id = "test/channel"
version = "1.0.0"
kind = "channel"
abi = "0.2"
kernel = ">=0.1"
title = "Channel"
description = "A test guest."
license = "Apache-2.0"
[[capabilities.http]]
host = "*"
methods = ["POST"]
reason = "to test"
[[capabilities.recipients]]
type = "email"
reason = "to test"
[[capabilities.recipients]]
type = "phone"
reason = "to test"
"#;

/// The core module `wat` with the component type of a kind's world, as the SDK's bindings leave it.
pub(crate) fn core(kind: PluginKind, wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let (mut resolve, package) = contract(Abi::CURRENT);
    let world = resolve.packages[package].worlds[kind.as_str()];
    // These guests are modules of few functions; only one that has something to say about configurations, or polls, exports that.
    let left_out = |key: &wit_parser::WorldKey| {
        let name = resolve.name_world_key(key);
        is_optional(&name) && !wat.contains(&name)
    };
    let left_out: Vec<_> = resolve.worlds[world].exports.keys().filter(|key| left_out(key)).cloned().collect();
    resolve.worlds[world].exports.retain(|key, _| !left_out.contains(key));
    // One that was made before there was this function has the interface without it.
    if !wat.contains("#migrate") {
        resolve.interfaces.iter_mut().for_each(|(_, interface)| drop(interface.functions.shift_remove("migrate")));
    }
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    module
}

/// The component in another one that hands over its imports and exports, as tools compose them. Its imports are instances that
/// stand before all else, as `wit-component` writes them.
pub(crate) fn nested(component: &[u8]) -> Vec<u8> {
    composed(component, None)
}

/// The same with an instance of a second component, which imports nothing, in the place of the import of that name.
pub(crate) fn composed(component: &[u8], provided: Option<(&str, &[u8])>) -> Vec<u8> {
    let (mut outer, mut imports, mut exports) = (Component::new(), Vec::new(), Vec::new());
    let (mut is_head, mut inside) = (true, 0_i32);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.unwrap();
        let is_own = inside == 0;
        match &payload {
            Payload::End(_) => inside -= 1,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                is_head = false;
                inside += 1;
            }
            Payload::ComponentImportSection(section) if is_own => {
                imports.extend(section.clone().into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if is_own => {
                exports.extend(section.clone().into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
        if let (true, Some((id, range))) = (is_head, payload.as_section()) {
            outer.section(&RawSection { id, data: &component[range] });
        }
    }
    outer.section(&RawSection { id: ComponentSectionId::Component.into(), data: component });
    let kind = ComponentExportKind::Instance;
    let (mut instances, mut aliases, mut given) =
        (ComponentInstanceSection::new(), ComponentAliasSection::new(), ComponentExportSection::new());
    let imported = u32::try_from(imports.len()).unwrap();
    let mut inner = imported;
    if let Some((_, provider)) = provided {
        outer.section(&RawSection { id: ComponentSectionId::Component.into(), data: provider });
        instances.instantiate(1, Vec::<(&str, ComponentExportKind, u32)>::new());
        inner += 1;
    }
    let from = |name: &str, index| if provided.is_some_and(|(other, _)| other == name) { imported } else { index };
    let arguments = imports.iter().zip(0..imported);
    instances.instantiate(0, arguments.map(|(name, index)| (name.as_str(), kind, from(name, index))));
    for (name, index) in exports.iter().zip(inner + 1..) {
        aliases.alias(Alias::InstanceExport { instance: inner, kind, name });
        given.export(name.as_str(), kind, index, None);
    }
    outer.section(&instances).section(&aliases).section(&given);
    outer.finish()
}

/// Memory, an allocator that never frees, and the log.
fn frame(functions: &str, pages: u32) -> String {
    format!(
        r#"(module
        (import "kith:plugin/log@0.2.0" "write" (func $log (param i32 i32 i32)))
        (memory (export "memory") {pages})
        (data (i32.const 64) "panicked: the till is empty, src/lib.rs:7")
        (data (i32.const 128) "line\0a\1b[31mforged")
        (global $next (mut i32) (i32.const 4096))
        (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (block $fits
                (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
                        (i32.div_u (i32.sub (global.get $next) (i32.mul (memory.size) (i32.const 65536))) (i32.const 65536)))))
                    (then unreachable)))
            (local.get $at))
        {functions})"#
    )
}

/// What `score` of an honest guest does: give the input's columns back.
pub(crate) const ECHO: &str = r#"
    (i32.store (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (local.get $rows))
    (i32.store (i32.const 24) (local.get $columns))
    (i32.store (i32.const 28) (local.get $count))
    (i32.const 16)"#;

/// A scorer whose `score` runs `body`, with more functions beside it.
pub(crate) fn scorer_with(body: &str, functions: &str, pages: u32) -> Vec<u8> {
    assembled_scorer(SCORER, body, functions, pages)
}

/// A scorer of that manifest whose `score` runs `body`.
pub(crate) fn scorer_of(manifest: &str, body: &str) -> Vec<u8> {
    assembled_scorer(manifest, body, "", 1)
}

fn assembled_scorer(manifest: &str, body: &str, functions: &str, pages: u32) -> Vec<u8> {
    let score = format!(
        r#"(func $score (export "kith:plugin/scoring@0.2.0#score")
            (param $state i32) (param $state_len i32) (param $rows i32) (param $columns i32) (param $count i32)
            (result i32) {body})
        (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) i32.const 0)
        {functions}"#
    );
    assemble(&core(PluginKind::Scorer, &frame(&score, pages)), manifest).unwrap()
}

pub(crate) fn scorer(body: &str) -> Vec<u8> {
    scorer_with(body, "", 1)
}

/// `receive` with one answer, the result of 80 bytes that `$one` leaves, however many requests there are.
const RECEIVE: &str = r#"
    (func (export "kith:plugin/source@0.2.0#receive") (param $requests i32) (param $count i32) (result i32)
        (i32.store (i32.const 3072) (call $one (local.get $requests)))
        (i32.store (i32.const 3076) (i32.const 1))
        (i32.const 3072))"#;

/// A scorer that may emit `Won` and whose `score` runs `body`, which may call `$emit`. There are texts at 512 (`Won`), 520 (`{"a":1}`)
/// and 536 (`key`).
pub(crate) fn emitter(body: &str) -> Vec<u8> {
    let wat = frame("", 1).replace(
        "(module",
        r#"(module
        (import "kith:plugin/emitting@0.2.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32)))"#,
    );
    let functions = format!(
        r#"(data (i32.const 512) "Won") (data (i32.const 520) "{{\"a\":1}}") (data (i32.const 536) "key")
        (func (export "kith:plugin/scoring@0.2.0#score")
            (param $state i32) (param $state_len i32) (param $rows i32) (param $columns i32) (param $count i32)
            (result i32) {body})
        (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) i32.const 0))"#
    );
    let wat = format!("{}{functions}", wat.trim_end().strip_suffix(')').unwrap());
    assemble(&core(PluginKind::Scorer, &wat), &format!("{SCORER}[capabilities]\nemits = [\"Won\"]\n")).unwrap()
}

/// A connector whose `receive` runs `receive`, which is given the place of the first request.
pub(crate) fn connector(receive: &str) -> Vec<u8> {
    let functions = format!(r#"(func $one (param $request i32) (result i32) {receive}) {RECEIVE}"#);
    assemble(&core(PluginKind::Connector, &frame(&functions, 1)), CONNECTOR).unwrap()
}

/// A connector that takes the whole of each request, and of a request that begins with `t` traps, with `l` never ends. Of a list of
/// three it gives two answers. A request has 72 bytes, its body at 32 and 36.
pub(crate) fn connector_of_lists() -> Vec<u8> {
    let functions = r#"
        (func (export "kith:plugin/source@0.2.0#receive") (param $requests i32) (param $count i32) (result i32)
            (local $answers i32) (local $place i32) (local $request i32) (local $first i32)
            (local.set $answers (call $realloc (i32.const 0) (i32.const 0) (i32.const 8)
                (i32.mul (local.get $count) (i32.const 80))))
            (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $place) (local.get $count)))
                (local.set $request (i32.add (local.get $requests) (i32.mul (local.get $place) (i32.const 72))))
                (local.set $first (i32.load8_u (i32.load offset=32 (local.get $request))))
                (if (i32.eq (local.get $first) (i32.const 116)) (then unreachable))
                (if (i32.eq (local.get $first) (i32.const 108)) (then (loop $on (br $on))))
                (i64.store offset=24 (i32.add (local.get $answers) (i32.mul (local.get $place) (i32.const 80)))
                    (i64.extend_i32_u (i32.load offset=36 (local.get $request))))
                (local.set $place (i32.add (local.get $place) (i32.const 1)))
                (br $next)))
            (i32.store (i32.const 3072) (local.get $answers))
            (i32.store (i32.const 3076) (i32.sub (local.get $count) (i32.eq (local.get $count) (i32.const 3))))
            (i32.const 3072))"#;
    assemble(&core(PluginKind::Connector, &frame(functions, 1)), CONNECTOR).unwrap()
}

/// A connector whose `poll` runs `poll`, which may call `$send`; `polled` is never asked. There are texts at 512 (`POST`), 528 (`next`)
/// and 600 (a URL of twenty bytes). Places after the canonical ABI, of a result of 36 bytes.
pub(crate) fn poller(poll: &str) -> Vec<u8> {
    let wat = frame("", 1).replace(
        "(module",
        r#"(module
        (import "kith:plugin/http@0.2.0" "send"
            (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
    );
    let functions = format!(
        r#"(data (i32.const 512) "POST") (data (i32.const 528) "next") (data (i32.const 600) "https://example.com/")
        (func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/polling@0.2.0#poll") (param i32 i32 i32 i64 i32 i64 i32 i32) (result i32) {poll})
        (func (export "kith:plugin/polling@0.2.0#polled") (param i32 i32 i32 i64 i32 i64 i32 i32 i32 i32) (result i32)
            unreachable))"#
    );
    let wat = format!("{}{functions}", wat.trim_end().strip_suffix(')').unwrap());
    assemble(&core(PluginKind::Connector, &wat), CONNECTOR).unwrap()
}

/// A connector that says of every configuration what `validate` gives.
pub(crate) fn checking(validate: &str) -> Vec<u8> {
    configured(&format!(
        r#"(func (export "kith:plugin/connector-checking@0.2.0#validate") (param $at i32) (param $length i32) (result i32) {validate})"#
    ))
}

/// A connector that makes of every configuration what `migrate` gives.
pub(crate) fn migrating(migrate: &str) -> Vec<u8> {
    configured(&format!(
        r#"(func (export "kith:plugin/connector-checking@0.2.0#validate") (param i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/connector-checking@0.2.0#migrate")
            (param $from i32) (param $from_length i32) (param $at i32) (param $length i32) (result i32) {migrate})"#
    ))
}

/// A connector that says something of configurations and nothing else.
fn configured(functions: &str) -> Vec<u8> {
    let functions = format!(
        r#"(func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32) unreachable)
        {functions}"#
    );
    assemble(&core(PluginKind::Connector, &frame(&functions, 1)), CONNECTOR).unwrap()
}

/// A connector whose `receive` posts `hello` to `url`, signed if asked for, and gives back the answer's body as `resume` or refuses
/// with the error's words. Places after the canonical ABI, of a result of 80 bytes at 2048.
pub(crate) fn poster(url: &str, signed: bool) -> Vec<u8> {
    let wat = frame("", 1).replace(
        "(module",
        r#"(module
        (import "kith:plugin/http@0.2.0" "send"
            (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
    );
    let url_length = url.len();
    let signed = i32::from(signed);
    let functions = format!(
        r#"(data (i32.const 512) "POST") (data (i32.const 520) "hello") (data (i32.const 528) "signing")
        (data (i32.const 544) "msg_1") (data (i32.const 600) "{url}")
        (func $one (param $request i32) (result i32)
            (call $send (i32.const 512) (i32.const 4) (i32.const 600) (i32.const {url_length}) (i32.const 0) (i32.const 0)
                (i32.const 520) (i32.const 5) (i32.const {signed}) (i32.const 0) (i32.const 528) (i32.const 7)
                (i32.const 544) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 256))
            (if (i32.load8_u (i32.const 256)) (then
                (i32.store (i32.const 2048) (i32.const 1))
                (i32.store16 (i32.const 2056) (i32.const 502))
                (i32.store (i32.const 2060) (i32.const 512))
                (i32.store (i32.const 2064) (i32.const 4))
                (i32.store (i32.const 2068) (i32.load (i32.const 264)))
                (i32.store (i32.const 2072) (i32.load (i32.const 268))))
            (else
                (i32.store (i32.const 2080) (i32.const 1))
                (i32.store (i32.const 2084) (i32.load (i32.const 272)))
                (i32.store (i32.const 2088) (i32.load (i32.const 276)))))
            (i32.const 2048)) {RECEIVE})"#
    );
    let wat = format!("{}{functions}", wat.trim_end().strip_suffix(')').unwrap());
    assemble(&core(PluginKind::Connector, &wat), CONNECTOR).unwrap()
}

/// The functions of [`channel`]. Sizes and places after the canonical ABI: a message has 64 bytes, an answer 112, a step 148.
const CHANNEL_FUNCTIONS: &str = r#"
        (func $text (param $to i32) (param $at i32) (param $length i32)
            (i32.store (local.get $to) (local.get $at))
            (i32.store (i32.add (local.get $to) (i32.const 4)) (local.get $length)))
        (func $send (param $message i32) (param $step i32) (local $recipient i32)
            (call $text (i32.add (local.get $step) (i32.const 4)) (i32.const 512) (i32.const 4))
            (call $text (i32.add (local.get $step) (i32.const 12)) (i32.const 600) (global.get $url_length))
            (if (i32.load (i32.add (local.get $message) (i32.const 16))) (then
                (local.set $recipient (i32.load (i32.add (local.get $message) (i32.const 12))))
                (call $text (i32.add (local.get $step) (i32.const 28))
                    (i32.load (i32.add (local.get $recipient) (i32.const 8)))
                    (i32.load (i32.add (local.get $recipient) (i32.const 12))))))
            (i32.store8 (i32.add (local.get $step) (i32.const 68)) (i32.const 1))
            (call $text (i32.add (local.get $step) (i32.const 72))
                (i32.load (local.get $message)) (i32.load (i32.add (local.get $message) (i32.const 4)))))
        (func $done (param $step i32) (param $outcome i32)
            (i32.store8 (local.get $step) (i32.const 2))
            (i32.store8 (i32.add (local.get $step) (i32.const 4)) (local.get $outcome)))
        (func $read (param $answer i32) (param $step i32) (local $status i32) (local $id i32)
            (if (i32.load8_u (i32.add (local.get $answer) (i32.const 80))) (then
                (call $done (local.get $step) (i32.const 2))
                (call $text (i32.add (local.get $step) (i32.const 16))
                    (i32.load (i32.add (local.get $answer) (i32.const 88)))
                    (i32.load (i32.add (local.get $answer) (i32.const 92))))
                return))
            (local.set $status (i32.load16_u (i32.add (local.get $answer) (i32.const 84))))
            (if (i32.eq (local.get $status) (i32.const 401)) (then
                (call $send (local.get $answer) (local.get $step))
                return))
            (if (i32.lt_u (local.get $status) (i32.const 300)) (then
                (call $done (local.get $step) (i32.eq (local.get $status) (i32.const 200)))
                (i32.store8 (i32.add (local.get $step) (i32.const 8)) (i32.const 1))
                (call $text (i32.add (local.get $step) (i32.const 12))
                    (i32.load (i32.add (local.get $answer) (i32.const 96)))
                    (i32.load (i32.add (local.get $answer) (i32.const 100))))
                return))
            (call $done (local.get $step)
                (select (i32.const 4) (i32.const 3) (i32.eq (local.get $status) (i32.const 410))))
            (call $text (i32.add (local.get $step) (i32.const 8))
                (i32.load (i32.add (local.get $answer) (i32.const 72)))
                (i32.load (i32.add (local.get $answer) (i32.const 76)))))
        (func $steps (param $count i32) (result i32)
            (call $text (i32.const 16)
                (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 148)))
                (local.get $count))
            (i32.load (i32.const 16)))
        (func (export "kith:plugin/delivering@0.2.0#requests") (param $at i32) (param $count i32) (result i32)
            (local $step i32) (local $left i32)
            (local.set $step (call $steps (local.get $count)))
            (local.set $left (local.get $count))
            (block $end (loop $next
                (br_if $end (i32.eqz (local.get $left)))
                (call $send (local.get $at) (local.get $step))
                (local.set $at (i32.add (local.get $at) (i32.const 64)))
                (local.set $step (i32.add (local.get $step) (i32.const 148)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br $next)))
            (i32.const 16))
        (func (export "kith:plugin/delivering@0.2.0#outcomes") (param $at i32) (param $count i32) (result i32)
            (local $step i32) (local $left i32)
            (local.set $step (call $steps (local.get $count)))
            (local.set $left (local.get $count))
            (block $end (loop $next
                (br_if $end (i32.eqz (local.get $left)))
                (call $read (local.get $at) (local.get $step))
                (local.set $at (i32.add (local.get $at) (i32.const 112)))
                (local.set $step (i32.add (local.get $step) (i32.const 148)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br $next)))
            (i32.const 16))
        (func (export "kith:plugin/delivering@0.2.0#receive") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32)
            unreachable)"#;

/// A channel that posts to `url` the value of the first identifier that it is given (nothing without one), with the
/// message's id as what it wants handed back, and reads answers so: 200 is delivered, with the body as the provider's id;
/// 202 is accepted; 401 sends the same once more; 410 stops; another status is for good, with the `resume` as the reason;
/// and no answer is tried again.
pub(crate) fn channel(url: &str) -> Vec<u8> {
    channel_of(CHANNEL, url)
}

/// The same with another manifest.
pub(crate) fn channel_of(manifest: &str, url: &str) -> Vec<u8> {
    let url_length = url.len();
    let functions = format!(
        r#"(data (i32.const 512) "POST") (data (i32.const 600) "{url}") (global $url_length i32 (i32.const {url_length}))
        {CHANNEL_FUNCTIONS}"#
    );
    assemble(&core(PluginKind::Channel, &frame(&functions, 1)), manifest).unwrap()
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

pub(crate) fn runtime() -> tokio::runtime::Handle {
    RUNTIME.handle().clone()
}

/// 2026-01-01.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) fn host_with(cache_directory: Option<PathBuf>, ceiling: Limits) -> Host {
    let config = HostConfig {
        cache_directory,
        mac_key: [7; 32].into(),
        ceiling,
        allow_loopback: true,
        allow_plain_http: true,
        clock: Arc::new(ManualClock::new(NOW)),
        compile: CompileMode::InProcess,
    };
    Host::new(config).unwrap()
}

pub(crate) fn host() -> Host {
    host_with(None, Limits { cpu_ms: 200, wall_ms: 5_000, ..Limits::default() })
}

pub(crate) fn binding() -> Binding {
    Binding {
        installation: "test".into(),
        config: serde_json::Value::Null,
        unshown: BTreeSet::new(),
        grants: Grants::default(),
        secrets: BTreeMap::new(),
        state: Arc::new(MemoryKeyValue::default()),
        observed: Arc::default(),
        fuel: None,
    }
}

pub(crate) fn floats(name: &str, values: &[Option<f64>]) -> Column {
    let mut column = ColumnBuilder::new(name, &ColumnType::Float64);
    for value in values {
        column.push(value.map_or(Cell::Null, Cell::Float64)).unwrap();
    }
    column.finish()
}

pub(crate) fn rows(values: &[f64]) -> Table {
    let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
    Table { rows: values.len(), columns: vec![floats("x", &values)] }
}
