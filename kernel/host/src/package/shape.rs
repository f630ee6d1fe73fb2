//! Responsible for the shape of a component: what is admitted before anything is compiled. Compiling has no limits of its
//! own in wasmtime: 49 KiB of nested adapters cost it 3.6 CPU-seconds and a megabyte of tiny functions 4.5, so what cannot
//! occur in an honest plugin is refused here (what nested components unfold to in `nesting.rs`), and the rest is bounded by the
//! compiling child process (`compile.rs`).

use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, WasmFeatures};

use super::PackageError;
use super::nesting::{self, MAX_MEMORIES};
use super::place::Place;

/// An engine of JavaScript comes with its libraries and stubs as 11 modules; `wit-component` makes three of a crate.
const MAX_CORE_MODULES: u64 = 16;
/// Beside those that hold code, one that only renames types for each interface that is exported.
const MAX_NESTED_COMPONENTS: u64 = 64;
/// How deep one component is in others. A composition of compositions needs three.
pub(super) const MAX_DEPTH: usize = 4;
const MAX_FUNCTIONS: u64 = 20_000;
/// Imports, and exports, of all modules and components together. One with stubs for WASI has some 330.
const MAX_NAMES: u64 = 1_024;
/// Custom sections other than names, the manifest among them.
const MAX_CUSTOM_BYTES: u64 = 64 * 1024 + 4 * 1024;
/// Names of functions, which make backtraces readable, and of what a component holds.
const MAX_NAME_SECTION_BYTES: u64 = 1024 * 1024;

/// What a plugin may use of WebAssembly; `engine.rs` switches on no more but what wasmtime writes between nested components.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL
}

/// Refuse a component that is larger than the host takes.
pub(super) fn check_size(bytes: &[u8], max_bytes: u64) -> Result<(), PackageError> {
    let found = bytes.len() as u64;
    if found <= max_bytes {
        return Ok(());
    }
    Err(PackageError::TooMany { what: "bytes", found, limit: max_bytes, part: None })
}

/// Refuse, by name, the things that people upload in place of a component.
pub(super) fn check_is_component(bytes: &[u8]) -> Result<(), PackageError> {
    let not = |what, remedy| Err(PackageError::NotComponent { what, remedy });
    if Parser::is_component(bytes) {
        return Ok(());
    }
    let build = "build it with `kith plugin build`";
    match bytes {
        [] => not("an empty file", build),
        _ if Parser::is_core_wasm(bytes) => not(
            "a core WebAssembly module",
            "make a component of it: `kith plugin build` does of a Rust crate, `kith plugin pack` of a module that carries \
             its world",
        ),
        [0x7f, b'E', b'L', b'F', ..] => {
            not("native or precompiled code (ELF)", "upload the component itself; the kernel compiles it")
        }
        [b'\0', b'a', b's', b'm', rest @ ..] if rest.len() >= 4 => not("WebAssembly of an unknown version", build),
        [b'\0', ..] if b"\0asm".starts_with(&bytes[..bytes.len().min(4)]) => {
            Err(PackageError::Truncated { bytes: bytes.len() })
        }
        [0x1f, 0x8b, ..] => not("gzip data", "upload the component uncompressed"),
        _ if bytes.trim_ascii_start().starts_with(b"(") => not("WebAssembly text", "convert it to the binary form"),
        _ => not("unknown data", build),
    }
}

/// The error of a parser or validator as ours.
pub(super) fn malformed(error: &BinaryReaderError, bytes: usize) -> PackageError {
    if error.message().contains("unexpected end") {
        return PackageError::Truncated { bytes };
    }
    PackageError::Malformed { offset: error.offset(), message: error.message().to_owned() }
}

/// Counts of what costs time or memory to compile or instantiate.
#[derive(Default)]
struct Counts {
    core_modules: u64,
    nested_components: u64,
    memories: u64,
    functions: u64,
    imports: u64,
    exports: u64,
    custom_bytes: u64,
    name_bytes: u64,
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>, place: &Place) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => self.core_modules += 1,
            Payload::Version { encoding: Encoding::Component, .. } if !place.is_outermost() => {
                self.nested_components += 1;
            }
            Payload::MemorySection(section) => self.memories += u64::from(section.count()),
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::ImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ComponentImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ExportSection(section) => self.exports += u64::from(section.count()),
            Payload::ComponentExportSection(section) => self.exports += u64::from(section.count()),
            Payload::CustomSection(section) if matches!(section.name(), "name" | "component-name") => {
                self.name_bytes += section.data().len() as u64;
            }
            Payload::CustomSection(section) => self.custom_bytes += section.data().len() as u64,
            _ => {}
        }
    }

    fn check(&self, place: &Place) -> Result<(), PackageError> {
        let limits = [
            ("core modules", self.core_modules, MAX_CORE_MODULES),
            ("nested components", self.nested_components, MAX_NESTED_COMPONENTS),
            ("memories", self.memories, MAX_MEMORIES),
            ("functions", self.functions, MAX_FUNCTIONS),
            ("imports", self.imports, MAX_NAMES),
            ("exports", self.exports, MAX_NAMES),
            ("bytes of custom sections", self.custom_bytes, MAX_CUSTOM_BYTES),
            ("bytes of names", self.name_bytes, MAX_NAME_SECTION_BYTES),
        ];
        match limits.into_iter().find(|(_, found, limit)| found > limit) {
            Some((what, found, limit)) => Err(PackageError::TooMany { what, found, limit, part: place.name() }),
            None => Ok(()),
        }
    }
}

/// Count first (cheap, and stops at the first excess), then validate. All parts, however nested, count together.
pub(super) fn check(component: &[u8]) -> Result<(), PackageError> {
    let (mut counts, mut place) = (Counts::default(), Place::default());
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| malformed(&error, component.len()))?;
        place.follow(&payload);
        if place.depth() > MAX_DEPTH {
            let part = place.name().unwrap_or_default();
            return Err(PackageError::TooDeep { part, limit: MAX_DEPTH });
        }
        counts.add(&payload, &place);
        counts.check(&place)?;
    }
    nesting::check(component)
}
