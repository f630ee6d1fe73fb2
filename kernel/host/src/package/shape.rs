//! Responsible for the shape of a component: what is admitted before anything is compiled, and how a core module is
//! trimmed. Compiling has no limits of its own in wasmtime: 49 KiB of nested adapters cost it 3.6 CPU-seconds and a
//! megabyte of tiny functions 4.5, so what cannot occur in an honest plugin is refused here, and the rest is bounded by
//! the compiling child process (`compile.rs`).

use kith_model::budget::table;
use wasm_encoder::{Module, RawSection};
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, Validator, WasmFeatures};

use super::PackageError;

/// Our largest plugin is under 1 MiB; this leaves room for models compiled into the code.
const MAX_COMPONENT_BYTES: usize = table::COMPONENT_SIZE.default as usize;
/// `wit-component` makes three: the plugin, a shim and a fix-up.
const MAX_CORE_MODULES: u64 = 8;
/// Nested components that only rename types, one for each exported interface.
const MAX_NESTED_COMPONENTS: u64 = 8;
const MAX_MEMORIES: u64 = 4;
const MAX_FUNCTIONS: u64 = 20_000;
/// Imports, and exports, of all modules and components together.
const MAX_NAMES: u64 = 256;
/// Custom sections other than function names, the manifest among them.
const MAX_CUSTOM_BYTES: u64 = 64 * 1024 + 4 * 1024;
/// Function names, which make backtraces readable.
const MAX_NAME_SECTION_BYTES: u64 = 1024 * 1024;

/// What a plugin may use of WebAssembly; `engine.rs` switches on no more.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL
}

/// Refuse, by name, the things that people upload in place of a component.
pub(super) fn check_is_component(bytes: &[u8]) -> Result<(), PackageError> {
    let not = |what, remedy| Err(PackageError::NotComponent { what, remedy });
    if bytes.len() > MAX_COMPONENT_BYTES {
        let found = bytes.len() as u64;
        return Err(PackageError::TooMany { what: "bytes", found, limit: MAX_COMPONENT_BYTES as u64 });
    }
    if Parser::is_component(bytes) {
        return Ok(());
    }
    let build = "build it with `kith plugin build`";
    match bytes {
        [] => not("an empty file", build),
        _ if Parser::is_core_wasm(bytes) => not("a core WebAssembly module", build),
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
    fn check(&self) -> Result<(), PackageError> {
        let limits = [
            ("core modules", self.core_modules, MAX_CORE_MODULES),
            ("nested components", self.nested_components, MAX_NESTED_COMPONENTS),
            ("memories", self.memories, MAX_MEMORIES),
            ("functions", self.functions, MAX_FUNCTIONS),
            ("imports", self.imports, MAX_NAMES),
            ("exports", self.exports, MAX_NAMES),
            ("bytes of custom sections", self.custom_bytes, MAX_CUSTOM_BYTES),
            ("bytes of function names", self.name_bytes, MAX_NAME_SECTION_BYTES),
        ];
        match limits.into_iter().find(|(_, found, limit)| found > limit) {
            Some((what, found, limit)) => Err(PackageError::TooMany { what, found, limit }),
            None => Ok(()),
        }
    }
}

/// Count first (cheap, and stops at the first excess), then validate.
pub(super) fn check(component: &[u8]) -> Result<(), PackageError> {
    let mut counts = Counts::default();
    // Whether each component or module that encloses the present place is a nested component.
    let mut inside: Vec<Encoding> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| malformed(&error, component.len()))?;
        let nested = inside.len() > 1 && inside.last() == Some(&Encoding::Component);
        match payload {
            Payload::Version { encoding, .. } => inside.push(encoding),
            Payload::End(_) => drop(inside.pop()),
            Payload::ModuleSection { .. } if nested => {
                return Err(PackageError::Nested { what: "a module in a nested component" });
            }
            Payload::ComponentCanonicalSection(_) if nested => {
                return Err(PackageError::Nested { what: "functions in a nested component" });
            }
            Payload::ModuleSection { .. } => counts.core_modules += 1,
            Payload::ComponentSection { .. } => counts.nested_components += 1,
            Payload::MemorySection(section) => counts.memories += u64::from(section.count()),
            Payload::FunctionSection(section) => counts.functions += u64::from(section.count()),
            Payload::ImportSection(section) => counts.imports += u64::from(section.count()),
            Payload::ComponentImportSection(section) => counts.imports += u64::from(section.count()),
            Payload::ExportSection(section) => counts.exports += u64::from(section.count()),
            Payload::ComponentExportSection(section) => counts.exports += u64::from(section.count()),
            Payload::CustomSection(section) if section.name() == "name" => {
                counts.name_bytes += section.data().len() as u64;
            }
            Payload::CustomSection(section) => counts.custom_bytes += section.data().len() as u64,
            _ => {}
        }
        counts.check()?;
    }
    Validator::new_with_features(features())
        .validate_all(component)
        .map(drop)
        .map_err(|error| malformed(&error, component.len()))
}

/// The module without the custom sections that a plugin does not need: debug information above all.
pub(super) fn strip(module: &[u8]) -> Result<Vec<u8>, PackageError> {
    let mut stripped = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| PackageError::Encode(format!("the module is malformed: {error}")))?;
        let keep = match &payload {
            Payload::CustomSection(section) => {
                section.name() == "name"
                    || section.name() == "producers"
                    || section.name().starts_with("component-type")
            }
            _ => true,
        };
        if let (true, Some((id, range))) = (keep, payload.as_section()) {
            stripped.section(&RawSection { id, data: &module[range] });
        }
    }
    Ok(stripped.finish())
}
