//! Responsible for which interfaces each kind of plugin imports and exports, as `/wit` says, and for telling a vendor
//! where an import that no plugin has comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kith_model::plugin::PluginKind;
use wasmparser::{Parser, Payload};
use wit_parser::{Resolve, SourceMap, WorldItem};

use super::PackageError;
use crate::abi::Abi;
use crate::text::cut;

/// Every kind of plugins.
pub(crate) const KINDS: [PluginKind; 4] =
    [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel];

/// The contract's files with their texts, which `bindings.rs` reads as well.
pub(crate) fn sources(abi: Abi) -> [(&'static str, &'static str); 4] {
    macro_rules! files {
        ($version:literal) => {
            [
                ("types.wit", include_str!(concat!("../../../../wit/", $version, "/types.wit"))),
                ("columns.wit", include_str!(concat!("../../../../wit/", $version, "/columns.wit"))),
                ("host.wit", include_str!(concat!("../../../../wit/", $version, "/host.wit"))),
                ("worlds.wit", include_str!(concat!("../../../../wit/", $version, "/worlds.wit"))),
            ]
        };
    }
    match abi {
        Abi::V0_1 => files!("0.1.0"),
        Abi::V0_2 => files!("0.2.0"),
    }
}

/// What a kind of plugin imports and exports in a version of the contract.
pub(crate) struct World {
    /// Full names, e.g. `kith:plugin/log@0.2.0`.
    pub(crate) imports: BTreeSet<String>,
    /// Full name of an interface → its functions.
    pub(crate) exports: BTreeMap<String, Vec<String>>,
}

static WORLDS: LazyLock<BTreeMap<(Abi, &'static str), World>> = LazyLock::new(|| {
    let mut worlds = BTreeMap::new();
    for abi in Abi::ALL {
        let (resolve, package) = contract(abi);
        for kind in KINDS {
            let id = resolve.packages[package].worlds.get(kind.as_str()).expect("every kind has a world in /wit");
            worlds.insert((abi, kind.as_str()), read_world(&resolve, *id));
        }
    }
    worlds
});

fn read_world(resolve: &Resolve, id: wit_parser::WorldId) -> World {
    let world = &resolve.worlds[id];
    let functions = |item: &WorldItem| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.keys().cloned().collect(),
        WorldItem::Function(_) | WorldItem::Type { .. } => Vec::new(),
    };
    World {
        imports: world.imports.keys().map(|key| resolve.name_world_key(key)).collect(),
        exports: world.exports.iter().map(|(key, item)| (resolve.name_world_key(key), functions(item))).collect(),
    }
}

/// A version of the contract, parsed.
pub(crate) fn contract(abi: Abi) -> (Resolve, wit_parser::PackageId) {
    let mut map = SourceMap::new();
    sources(abi).iter().for_each(|(name, text)| map.push_str(name, *text));
    let group = map.parse().map_err(|(_, error)| error).expect("/wit is parsed by `bindgen!` at build time as well");
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).expect("/wit is resolved by `bindgen!` at build time as well");
    (resolve, package)
}

/// The world of a kind in a version of the contract.
pub(crate) fn world_of(abi: Abi, kind: PluginKind) -> &'static World {
    WORLDS.get(&(abi, kind.as_str())).expect("the map is built from all versions and kinds")
}

fn list(names: &BTreeSet<String>) -> String {
    match names.len() {
        0 => "nothing".into(),
        _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Whether a component may go without an interface of its world: one that was made before the interface was, or does not poll.
pub(crate) fn is_optional(interface: &str) -> bool {
    interface.contains("-checking@") || interface.contains("/polling@")
}

/// Whether a connector with these exports can be asked for a page. Every one of 0.1 has the function among its others.
pub(super) fn polls(abi: Abi, exports: &[String]) -> bool {
    match abi {
        Abi::V0_1 => true,
        Abi::V0_2 => exports.iter().any(|name| name.contains("/polling@")),
    }
}

/// Whether a component may go without a function of an interface that it has: one that was made before the function was.
pub(crate) fn is_later(function: &str) -> bool {
    function == "migrate"
}

/// What the names of its interfaces begin with.
const WASI: &str = "wasi:";

/// How many of its interfaces are named; all that there are of a version are some thirty.
const MAX_NAMED: usize = 32;

/// The longest name of an interface that is told whole.
const MAX_NAME_BYTES: usize = 100;

/// How to leave out WASI, all of which a component imports.
fn without_wasi(imports: &[String]) -> String {
    let wasi: BTreeSet<&str> = imports.iter().map(String::as_str).filter(|import| import.starts_with(WASI)).collect();
    let named: Vec<String> =
        wasi.iter().take(MAX_NAMED).map(|name| format!("`{}`", cut(name, MAX_NAME_BYTES))).collect();
    let more = if wasi.len() > MAX_NAMED { ", …" } else { "" };
    let names = format!("{}{more}", named.join(", "));
    format!(
        "plugins have no WASI; leave out what asks for it ({names}): in Rust build for wasm32-unknown-unknown, in C link \
         stubs (`wasi.c` of examples/tag-model-rhythm-c), in JavaScript have the tool stub it \
         (`componentize-qjs --stub-wasi`) or leave its features out (`componentize-js`)"
    )
}

/// Whether a name is that of an interface and not of a function. A tool may leave a function of its own among the exports, as
/// `componentize-qjs` leaves `init`, which it calls before it takes its snapshot; in a plugin nobody calls it.
fn is_interface(name: &str) -> bool {
    name.contains('/')
}

fn check_exports(abi: Abi, kind: PluginKind, exports: &BTreeSet<String>) -> Result<(), PackageError> {
    let are_of = |abi| {
        let world = &world_of(abi, kind).exports;
        let is_there = |name: &String| world.contains_key(name);
        exports.iter().filter(|name| is_interface(name)).all(is_there)
            && world.keys().all(|name| is_optional(name) || exports.contains(name))
    };
    if are_of(abi) {
        return Ok(());
    }
    if let Some(found) = Abi::ALL.into_iter().find(|abi| are_of(*abi)) {
        return Err(PackageError::OtherAbi { said: abi, found });
    }
    let needed = world_of(abi, kind).exports.keys().filter(|name| !is_optional(name));
    let expected = needed.cloned().collect::<Vec<_>>().join("`, `");
    Err(PackageError::WrongWorld { kind, expected, found: list(exports) })
}

/// What of a component's names is not its kind's world's. One that was built against another version of the contract is told that
/// alone, because none of its names is right.
pub(super) fn findings(abi: Abi, kind: PluginKind, imports: &[String], exports: &[String]) -> Vec<PackageError> {
    let exported = check_exports(abi, kind, &exports.iter().cloned().collect());
    if let Err(error @ PackageError::OtherAbi { .. }) = exported {
        return vec![error];
    }
    let allowed = &world_of(abi, kind).imports;
    let foreign = imports.iter().map(String::as_str).filter(|import| !allowed.contains(*import));
    let (wasi, others): (Vec<&str>, Vec<&str>) = foreign.partition(|import| import.starts_with(WASI));
    let undeclared = |import: String, remedy| PackageError::UndeclaredImport { kind, import, remedy };
    let mut found = Vec::new();
    if let Some(import) = wasi.first() {
        found.push(undeclared((*import).to_owned(), without_wasi(imports)));
    }
    if !others.is_empty() {
        let named: Vec<&str> = others.into_iter().take(MAX_NAMED).map(|import| cut(import, MAX_NAME_BYTES)).collect();
        found.push(undeclared(named.join("`, `"), format!("its world has {}", list(allowed))));
    }
    found.extend(exported.err());
    found
}

/// Whether a core module was made with the SDK for this kind, and imports nothing that no plugin has.
pub(super) fn check_core(module: &[u8], abi: Abi, kind: PluginKind) -> Result<(), PackageError> {
    let malformed = |error| PackageError::Encode(format!("the module is malformed: {error}"));
    let mut has_type = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(malformed)? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(malformed)?;
                    check_import(import.module, import.name)?;
                }
            }
            Payload::CustomSection(section) => has_type |= section.name().starts_with("component-type"),
            _ => {}
        }
    }
    if !has_type {
        return Err(PackageError::NoComponentType);
    }
    let (_, metadata) = wit_component::metadata::decode(module)
        .map_err(|error| PackageError::Encode(format!("the component type cannot be read: {error:#}")))?;
    let (resolve, world) = (&metadata.resolve, &metadata.resolve.worlds[metadata.world]);
    check_exports(abi, kind, &world.exports.keys().map(|key| resolve.name_world_key(key)).collect())
}

/// Refuse imports of other systems, with the likely cause.
fn check_import(module: &str, name: &str) -> Result<(), PackageError> {
    let is_wasi = module.starts_with("wasi");
    let cause = match (module, name) {
        _ if is_wasi && name.starts_with("fd_") => "printing (`println!`, `printf`) or files; write to the log",
        _ if is_wasi && name.contains("clock") => {
            "`SystemTime::now`, `Instant::now` or `time()`; take the time from an input column or the contract's clock"
        }
        _ if is_wasi && name.contains("random") => "`HashMap` or the crate `getrandom`; use `BTreeMap` or a fixed seed",
        _ if is_wasi && (name.starts_with("environ") || name.starts_with("args")) => {
            "`std::env` or `getenv`; take settings from the plugin's configuration"
        }
        _ if is_wasi => "a build for a WASI target",
        ("env", _) => "an `extern \"C\"` function that nothing defines, often from a crate that binds C code",
        _ if module.starts_with("__wbindgen") || module == "wbg" => {
            "wasm-bindgen, often through the `js` feature of `getrandom` or `chrono`'s `wasmbind`; switch that off"
        }
        _ => return Ok(()),
    };
    let remedy = if is_wasi {
        format!(
            "it comes from {cause}; plugins have no WASI: in Rust build for wasm32-unknown-unknown, in C link stubs (`wasi.c` of \
             examples/tag-model-rhythm-c)"
        )
    } else {
        format!("it comes from {cause}")
    };
    Err(PackageError::ForeignImport { module: module.to_owned(), name: name.to_owned(), remedy })
}
