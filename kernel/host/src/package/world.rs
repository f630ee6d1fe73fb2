//! Responsible for which interfaces each kind of plugin imports and exports, as `/wit` says, and for telling a vendor
//! where an import that no plugin has comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kith_model::plugin::PluginKind;
use wasmparser::{Parser, Payload};
use wit_parser::{Resolve, SourceMap, WorldKey};

use super::PackageError;

/// The contract's files, which `bindings.rs` reads as well.
const WIT: [(&str, &str); 4] = [
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("columns.wit", include_str!("../../../../wit/columns.wit")),
    ("host.wit", include_str!("../../../../wit/host.wit")),
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
];

/// The names that a world imports and exports.
struct World {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

static WORLDS: LazyLock<BTreeMap<&'static str, World>> = LazyLock::new(|| {
    let (resolve, package) = contract();
    let kinds = [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel];
    let world = |kind: PluginKind| {
        let id = resolve.packages[package].worlds.get(kind.as_str()).expect("every kind has a world in /wit");
        let world = &resolve.worlds[*id];
        let names = |keys: Vec<&WorldKey>| keys.into_iter().map(|key| resolve.name_world_key(key)).collect();
        let (imports, exports) = (names(world.imports.keys().collect()), names(world.exports.keys().collect()));
        (kind.as_str(), World { imports, exports })
    };
    kinds.map(world).into()
});

/// The contract, parsed.
pub(crate) fn contract() -> (Resolve, wit_parser::PackageId) {
    let mut sources = SourceMap::new();
    WIT.iter().for_each(|(name, text)| sources.push_str(name, *text));
    let group =
        sources.parse().map_err(|(_, error)| error).expect("/wit is parsed by `bindgen!` at build time as well");
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).expect("/wit is resolved by `bindgen!` at build time as well");
    (resolve, package)
}

fn world_of(kind: PluginKind) -> &'static World {
    WORLDS.get(kind.as_str()).expect("the map is built from all kinds")
}

fn list(names: &BTreeSet<String>) -> String {
    match names.len() {
        0 => "nothing".into(),
        _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn check_exports(kind: PluginKind, exports: BTreeSet<String>) -> Result<(), PackageError> {
    let expected = &world_of(kind).exports;
    if exports == *expected {
        return Ok(());
    }
    let expected = expected.iter().cloned().collect::<Vec<_>>().join("`, `");
    Err(PackageError::WrongWorld { kind, expected, found: list(&exports) })
}

/// Whether a component's names are those of its kind's world.
pub(super) fn check_component(kind: PluginKind, imports: &[String], exports: &[String]) -> Result<(), PackageError> {
    let allowed = &world_of(kind).imports;
    if let Some(import) = imports.iter().find(|import| !allowed.contains(*import)) {
        let remedy = if import.starts_with("wasi:") {
            "plugins have no WASI; build for wasm32-unknown-unknown".to_owned()
        } else {
            format!("its world has {}", list(allowed))
        };
        return Err(PackageError::UndeclaredImport { kind, import: import.clone(), remedy });
    }
    check_exports(kind, exports.iter().cloned().collect())
}

/// Whether a core module was made with the SDK for this kind, and imports nothing that no plugin has.
pub(super) fn check_core(module: &[u8], kind: PluginKind) -> Result<(), PackageError> {
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
    check_exports(kind, world.exports.keys().map(|key| resolve.name_world_key(key)).collect())
}

/// Refuse imports of other systems, with the likely cause.
fn check_import(module: &str, name: &str) -> Result<(), PackageError> {
    let is_wasi = module.starts_with("wasi");
    let cause = match (module, name) {
        _ if is_wasi && name.starts_with("fd_") => "printing (`println!`, `eprintln!`) or files; use the SDK's log",
        _ if is_wasi && name.contains("clock") => {
            "`SystemTime::now` or `Instant::now`; take the time from an input column or the SDK's clock"
        }
        _ if is_wasi && name.contains("random") => "`HashMap` or the crate `getrandom`; use `BTreeMap` or a fixed seed",
        _ if is_wasi && (name.starts_with("environ") || name.starts_with("args")) => {
            "`std::env`; take settings from the plugin's configuration"
        }
        _ if is_wasi => "a build for a WASI target",
        ("env", _) => "an `extern \"C\"` function that nothing defines, often from a crate that binds C code",
        _ if module.starts_with("__wbindgen") || module == "wbg" => {
            "wasm-bindgen, often through the `js` feature of `getrandom` or `chrono`'s `wasmbind`; switch that off"
        }
        _ => return Ok(()),
    };
    let remedy = if is_wasi {
        format!("it comes from {cause}; plugins have no WASI, build for wasm32-unknown-unknown")
    } else {
        format!("it comes from {cause}")
    };
    Err(PackageError::ForeignImport { module: module.to_owned(), name: name.to_owned(), remedy })
}
