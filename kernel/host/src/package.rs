//! Responsible for packages: making a plugin's component from its core module and manifest ([`assemble`]) or from what
//! another tool made ([`pack`]), and telling what a component is and whether it may be admitted, without running or
//! compiling anything ([`inspect`]).
//!
//! The limits on a component's shape are `package/shape.rs`, those on what its nested components unfold to
//! `package/nesting.rs`; which imports and exports a kind has is `package/world.rs`, and what packing leaves out `package/trim.rs`.
//! Whether the functions behind those names have the right types is seen when the component is loaded (`roles.rs`).

mod anatomy;
pub(crate) mod nesting;
mod place;
mod shape;
mod trim;
pub(crate) mod world;

pub use anatomy::{Anatomy, AnatomyPart, AnatomySection, MemoryPages, anatomy};
use kith_model::budget::table;
use kith_model::plugin::{Manifest, PluginKind};
use sha2::{Digest, Sha256};
use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{Parser, Payload};

use crate::abi::Abi;
use crate::manifest::{ManifestError, parse_kept_manifest, parse_manifest};

/// The custom section that holds the manifest as it was written.
pub const MANIFEST_SECTION: &str = "kith:manifest";
/// The custom section that holds the ABI version.
pub const ABI_SECTION: &str = "kith:abi";

/// Why bytes are not a plugin that may be admitted, or could not be made into one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PackageError {
    /// The bytes are something else.
    #[error("this is {what}, not a WebAssembly component; {remedy}")]
    NotComponent { what: &'static str, remedy: &'static str },
    #[error("the component ends in the middle, after {bytes} bytes; upload the whole file")]
    Truncated { bytes: usize },
    #[error("the component is malformed at byte {offset}: {message}")]
    Malformed { offset: usize, message: String },
    /// `part` is where the last of them are, if not in the outermost component.
    #[error("the component has {found} {what}{}; at most {limit} are admitted", last_in(part.as_deref()))]
    TooMany { what: &'static str, found: u64, limit: u64, part: Option<String> },
    #[error("{part} is more than {limit} components deep; compose the plugin of fewer layers")]
    TooDeep { part: String, limit: usize },
    #[error(
        "{part} instantiates a component or a module that it imports or takes out of an instance; write that into the component \
         that instantiates it"
    )]
    ForeignComponent { part: String },
    #[error(
        "the component has no `{0}` section; build it with `kith plugin build`, or give a component of another tool its manifest \
         with `kith plugin pack`"
    )]
    MissingSection(&'static str),
    /// Only of packing; `plugin` is what it says that it is, where that can be read.
    #[error("the component carries a manifest already{}; give --replace to put this one in its place", of_plugin(plugin.as_deref()))]
    Packed { plugin: Option<String> },
    #[error("the component has the section `{0}` twice")]
    DoubleSection(&'static str),
    #[error("{0}")]
    Manifest(ManifestError),
    #[error("the component is built against ABI `{found}`; this kernel has {}", Abi::listed())]
    Abi { found: String },
    #[error(
        "the component exports the interfaces of ABI {found}, but says {said}; write `abi = \"{found}\"` in plugin.toml"
    )]
    OtherAbi { said: Abi, found: Abi },
    #[error("a {kind} may not import `{import}`; {remedy}")]
    UndeclaredImport { kind: PluginKind, import: String, remedy: String },
    #[error("the manifest says {kind}, which exports `{expected}`, but this component exports {found}")]
    WrongWorld { kind: PluginKind, expected: String, found: String },
    /// The core module needs something that no plugin has.
    #[error("the module imports `{module}::{name}`; {remedy}")]
    ForeignImport { module: String, name: String, remedy: String },
    /// The core module was not built with the SDK.
    #[error(
        "the module holds no component type; export the plugin with the SDK's macro, e.g. `kith_plugin_sdk::export!(Shop as connector)`, \
         or link what `wit-bindgen` made of the world"
    )]
    NoComponentType,
    #[error(
        "the manifest has [poll], and the component does not export `polling`; build it with the SDK of ABI 0.2, or remove the table"
    )]
    NoPoll,
    #[error("no component can be made of the module: {0}")]
    Encode(String),
    /// More than one of these.
    #[error("{}", all_of(.0))]
    Several(Vec<PackageError>),
}

impl PackageError {
    /// Nothing where nothing was found, else what was.
    ///
    /// # Errors
    /// What was found, as one error.
    pub fn of(mut findings: Vec<PackageError>) -> Result<(), PackageError> {
        match findings.len() {
            0 => Ok(()),
            1 => Err(findings.remove(0)),
            _ => Err(PackageError::Several(findings)),
        }
    }

    /// Each thing that is wrong.
    pub fn findings(&self) -> &[PackageError] {
        match self {
            PackageError::Several(findings) => findings,
            finding => std::slice::from_ref(finding),
        }
    }
}

fn all_of(findings: &[PackageError]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn last_in(part: Option<&str>) -> String {
    part.map(|part| format!(" with all that is nested, the last in {part}")).unwrap_or_default()
}

fn of_plugin(plugin: Option<&str>) -> String {
    plugin.map(|plugin| format!(", of {plugin}")).unwrap_or_default()
}

/// What a component is, read from its bytes alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    pub manifest: Manifest,
    /// The manifest as it was written.
    pub manifest_toml: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub abi: Abi,
    /// The interfaces it imports: its whole authority.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Bytes.
    pub size: usize,
}

/// Make a plugin's component from the core module that its crate builds for `wasm32-unknown-unknown`.
///
/// # Errors
/// A mistake in the manifest, an import that no plugin has (with its likely cause), a module that was not made with the
/// SDK or plays another role than the manifest says, or a result that [`inspect`] would refuse.
pub fn assemble(core_wasm: &[u8], manifest_toml: &str) -> Result<Vec<u8>, PackageError> {
    let manifest = parse_manifest(manifest_toml).map_err(PackageError::Manifest)?;
    if Parser::is_component(core_wasm) {
        let remedy = "build it for wasm32-unknown-unknown without a component linker";
        return Err(PackageError::Encode(format!("the input is a component already; {remedy}")));
    }
    if !Parser::is_core_wasm(core_wasm) {
        return Err(PackageError::Encode("the input is not a WebAssembly module".into()));
    }
    let abi = abi_of(&manifest)?;
    let component = stamped(encoded(core_wasm, abi, manifest.kind)?, manifest_toml, abi);
    inspect(&component)?;
    Ok(component)
}

/// The component of a core module that carries its world, without what a plugin does not need.
fn encoded(core_wasm: &[u8], abi: Abi, kind: PluginKind) -> Result<Vec<u8>, PackageError> {
    let module = trim::module(core_wasm)?;
    world::check_core(core_wasm, abi, kind)?;
    wit_component::ComponentEncoder::default()
        .validate(false)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| PackageError::Encode(format!("{error:#}")))
}

/// What becomes of a manifest that a component carries already when it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    Refused,
    Replaced,
}

/// Make a plugin's component from a component that any tool of any language made, or from a core module that carries its world, as
/// `wit-bindgen` for C leaves it, and the manifest. As in [`assemble`], what a plugin does not need is left out, in nested
/// components too.
///
/// # Errors
/// A mistake in the manifest, bytes that are neither, a module that [`assemble`] would refuse, a manifest that a component
/// carries already, or a result that [`inspect_within`] would refuse.
pub fn pack(wasm: &[u8], manifest_toml: &str, carried: Carried, max_bytes: u64) -> Result<Vec<u8>, PackageError> {
    let manifest = parse_manifest(manifest_toml).map_err(PackageError::Manifest)?;
    let abi = abi_of(&manifest)?;
    let component = if Parser::is_core_wasm(wasm) {
        encoded(wasm, abi, manifest.kind)?
    } else {
        shape::check_is_component(wasm)?;
        if carried == Carried::Refused {
            refuse_packed(wasm)?;
        }
        trim::component(wasm)?
    };
    let packed = stamped(component, manifest_toml, abi);
    inspect_within(&packed, max_bytes)?;
    Ok(packed)
}

fn refuse_packed(component: &[u8]) -> Result<(), PackageError> {
    let sections = read_sections(component)?;
    if sections.manifest.is_none() && sections.abi.is_none() {
        return Ok(());
    }
    let manifest = sections.manifest.and_then(|text| parse_kept_manifest(&text).ok());
    Err(PackageError::Packed { plugin: manifest.map(|manifest| format!("{} {}", manifest.id, manifest.version)) })
}

/// The component with its manifest and the version of the contract behind it.
fn stamped(mut component: Vec<u8>, manifest_toml: &str, abi: Abi) -> Vec<u8> {
    for (name, data) in [(MANIFEST_SECTION, manifest_toml), (ABI_SECTION, abi.as_str())] {
        CustomSection { name: name.into(), data: data.as_bytes().into() }.append_to_component(&mut component);
    }
    component
}

/// Tell what a component is, and refuse what may not be admitted by a host that sets no other bound of its size. Nothing is
/// compiled or run.
///
/// # Errors
/// [`PackageError`], with everything that was found.
pub fn inspect(component: &[u8]) -> Result<Inspection, PackageError> {
    inspect_within(component, table::COMPONENT_SIZE.default)
}

/// The same for a host that takes components of so many bytes.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_within(component: &[u8], max_bytes: u64) -> Result<Inspection, PackageError> {
    let (inspected, findings) = look_within(component, max_bytes)?;
    PackageError::of(findings).map(|()| inspected)
}

/// What a component says that it is, and what of it does not fit that: whoever finds more tells all of it at once.
///
/// # Errors
/// As [`inspect`], for what hides everything else: bytes that are no component, or too much of one, and a manifest that cannot be
/// read.
pub fn look_within(component: &[u8], max_bytes: u64) -> Result<(Inspection, Vec<PackageError>), PackageError> {
    shape::check_size(component, max_bytes)?;
    look_with(component, parse_manifest)
}

/// The same of a component that was admitted before, perhaps when a manifest's texts and schema had no budgets and the host
/// took larger ones.
pub(crate) fn inspect_kept(component: &[u8]) -> Result<Inspection, PackageError> {
    let (inspected, findings) = look_with(component, parse_kept_manifest)?;
    PackageError::of(findings).map(|()| inspected)
}

fn look_with(
    component: &[u8],
    parse: impl FnOnce(&str) -> Result<Manifest, ManifestError>,
) -> Result<(Inspection, Vec<PackageError>), PackageError> {
    shape::check_is_component(component)?;
    shape::check(component)?;
    let sections = read_sections(component)?;
    let manifest_toml = sections.manifest.ok_or(PackageError::MissingSection(MANIFEST_SECTION))?;
    let abi = sections.abi.ok_or(PackageError::MissingSection(ABI_SECTION))?;
    let manifest = parse(&manifest_toml).map_err(PackageError::Manifest)?;
    let abi = Abi::parse(&abi).filter(|_| manifest.abi == abi).ok_or(PackageError::Abi { found: abi })?;
    let mut findings = world::findings(abi, manifest.kind, &sections.imports, &sections.exports);
    if findings.is_empty() && manifest.poll.is_some() && !world::polls(abi, &sections.exports) {
        findings.push(PackageError::NoPoll);
    }
    let inspected = Inspection {
        manifest,
        manifest_toml,
        digest: digest(component),
        abi,
        imports: sections.imports,
        exports: sections.exports,
        size: component.len(),
    };
    Ok((inspected, findings))
}

/// The version of the contract that a manifest names.
fn abi_of(manifest: &Manifest) -> Result<Abi, PackageError> {
    Abi::parse(&manifest.abi).ok_or_else(|| PackageError::Abi { found: manifest.abi.clone() })
}

/// SHA-256 in hexadecimal: an artifact's name.
pub(crate) fn digest(component: &[u8]) -> String {
    hex(&Sha256::digest(component))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// What the outermost component says about itself.
#[derive(Default)]
struct Sections {
    manifest: Option<String>,
    abi: Option<String>,
    imports: Vec<String>,
    exports: Vec<String>,
}

fn read_sections(component: &[u8]) -> Result<Sections, PackageError> {
    let mut sections = Sections::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| shape::malformed(&error, component.len()))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                keep(&mut sections.manifest, MANIFEST_SECTION, section.data(), section.data_offset())?;
            }
            Payload::CustomSection(section) if section.name() == ABI_SECTION => {
                keep(&mut sections.abi, ABI_SECTION, section.data(), section.data_offset())?;
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    let import = import.map_err(|error| shape::malformed(&error, component.len()))?;
                    sections.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(|error| shape::malformed(&error, component.len()))?;
                    sections.exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(sections)
}

fn keep(place: &mut Option<String>, name: &'static str, data: &[u8], offset: usize) -> Result<(), PackageError> {
    if place.is_some() {
        return Err(PackageError::DoubleSection(name));
    }
    let text = String::from_utf8(data.to_vec())
        .map_err(|_| PackageError::Malformed { offset, message: format!("the section `{name}` is not UTF-8") })?;
    *place = Some(text);
    Ok(())
}

#[cfg(test)]
mod tests;
