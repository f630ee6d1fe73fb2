//! Responsible for what is in a WebAssembly file, part by part, also in one that would be refused: for a vendor who looks for the
//! reason. Nothing is compiled or run.

use wasmparser::{Encoding, Parser, Payload};

use super::place::Place;
use super::{ABI_SECTION, MANIFEST_SECTION, digest, shape};

/// What is in a file. Where reading ends early, what was read until then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// SHA-256, in hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: usize,
    /// The manifest as it was written.
    pub manifest_toml: Option<String>,
    /// The version of the contract, as the file says it.
    pub abi: Option<String>,
    /// Of the outermost component, or `module::name` of a module.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The outermost component or module first, and each with its own parts behind it. Empty for what is no WebAssembly.
    pub parts: Vec<AnatomyPart>,
    /// Why there is no more of it.
    pub broken: Option<String>,
}

/// A component or a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnatomyPart {
    /// As errors name it, e.g. `the module 0 of the nested component 1`; nothing for the outermost.
    pub name: Option<String>,
    pub is_module: bool,
    /// Bytes, those of its parts among them.
    pub size: usize,
    /// In the order in which each kind first comes.
    pub sections: Vec<AnatomySection>,
    pub custom_sections: Vec<(String, usize)>,
    /// Of modules.
    pub functions: u64,
    pub memories: Vec<MemoryPages>,
    pub imports: u64,
    pub exports: u64,
}

/// All sections of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnatomySection {
    pub kind: &'static str,
    pub count: u64,
    pub bytes: usize,
}

/// How large a memory is, in pages of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPages {
    pub initial: u64,
    pub maximum: Option<u64>,
}

/// What is in a file.
pub fn anatomy(bytes: &[u8]) -> Anatomy {
    let mut found = Anatomy { digest: digest(bytes), size: bytes.len(), ..Anatomy::default() };
    if !Parser::is_component(bytes) && !Parser::is_core_wasm(bytes) {
        return found;
    }
    let (mut place, mut open, mut size) = (Place::default(), Vec::new(), bytes.len());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => {
                found.broken = Some(shape::malformed(&error, bytes.len()).to_string());
                break;
            }
        };
        place.follow(&payload);
        match &payload {
            Payload::Version { encoding, .. } => {
                open.push(found.parts.len());
                let is_module = *encoding == Encoding::Module;
                found.parts.push(AnatomyPart { name: place.name(), is_module, size, ..AnatomyPart::default() });
            }
            Payload::End(_) => drop(open.pop()),
            payload => {
                if let Payload::ModuleSection { unchecked_range, .. }
                | Payload::ComponentSection { unchecked_range, .. } = payload
                {
                    size = unchecked_range.len();
                }
                if place.is_outermost() {
                    found.look_at(payload);
                }
                if let Some(part) = open.last().and_then(|index| found.parts.get_mut(*index)) {
                    part.look_at(payload);
                }
            }
        }
    }
    found
}

impl Anatomy {
    /// What the outermost component or module says. What cannot be read is the validator's to tell.
    fn look_at(&mut self, payload: &Payload<'_>) {
        let text = |data: &[u8]| Some(String::from_utf8_lossy(data).into_owned());
        match payload {
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                self.manifest_toml = text(section.data());
            }
            Payload::CustomSection(section) if section.name() == ABI_SECTION => self.abi = text(section.data()),
            Payload::ComponentImportSection(imports) => {
                self.imports.extend(imports.clone().into_iter().flatten().map(|import| import.name.name.to_owned()));
            }
            Payload::ComponentExportSection(exports) => {
                self.exports.extend(exports.clone().into_iter().flatten().map(|export| export.name.name.to_owned()));
            }
            Payload::ImportSection(imports) => {
                let imports = imports.clone().into_imports().flatten();
                self.imports.extend(imports.map(|import| format!("{}::{}", import.module, import.name)));
            }
            Payload::ExportSection(exports) => {
                self.exports.extend(exports.clone().into_iter().flatten().map(|export| export.name.to_owned()));
            }
            _ => {}
        }
    }
}

impl AnatomyPart {
    fn look_at(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::CustomSection(section) => {
                self.custom_sections.push((section.name().to_owned(), section.data().len()));
            }
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::ImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ComponentImportSection(section) => self.imports += u64::from(section.count()),
            Payload::ExportSection(section) => self.exports += u64::from(section.count()),
            Payload::ComponentExportSection(section) => self.exports += u64::from(section.count()),
            Payload::MemorySection(section) => {
                let memories = section.clone().into_iter().flatten();
                self.memories
                    .extend(memories.map(|memory| MemoryPages { initial: memory.initial, maximum: memory.maximum }));
            }
            _ => {}
        }
        let Some((_, range)) = payload.as_section() else { return };
        let kind = kind(payload);
        let known = self.sections.iter().position(|section| section.kind == kind).unwrap_or_else(|| {
            self.sections.push(AnatomySection { kind, ..AnatomySection::default() });
            self.sections.len() - 1
        });
        self.sections[known].count += 1;
        self.sections[known].bytes += range.len();
    }
}

/// What a section is called.
fn kind(payload: &Payload<'_>) -> &'static str {
    match payload {
        Payload::CustomSection(_) => "custom",
        Payload::TypeSection(_) | Payload::ComponentTypeSection(_) => "types",
        Payload::CoreTypeSection(_) => "core types",
        Payload::ImportSection(_) | Payload::ComponentImportSection(_) => "imports",
        Payload::ExportSection(_) | Payload::ComponentExportSection(_) => "exports",
        Payload::FunctionSection(_) => "functions",
        Payload::TableSection(_) => "tables",
        Payload::MemorySection(_) => "memories",
        Payload::GlobalSection(_) => "globals",
        Payload::TagSection(_) => "tags",
        Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => "start",
        Payload::ElementSection(_) => "elements",
        Payload::DataCountSection { .. } => "data count",
        Payload::DataSection(_) => "data",
        Payload::CodeSectionStart { .. } => "code",
        Payload::ModuleSection { .. } => "modules",
        Payload::ComponentSection { .. } => "components",
        Payload::InstanceSection(_) => "core instances",
        Payload::ComponentInstanceSection(_) => "instances",
        Payload::ComponentAliasSection(_) => "aliases",
        Payload::ComponentCanonicalSection(_) => "canonical functions",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::{ECHO, SCORER, nested, scorer};

    #[test]
    fn every_part_of_a_plugin_is_told() {
        let component = scorer(ECHO);
        let found = anatomy(&component);
        let inspected = super::super::inspect(&component).unwrap();
        assert_eq!((found.digest, found.size), (inspected.digest, component.len()));
        assert_eq!((found.manifest_toml.as_deref(), found.abi.as_deref()), (Some(SCORER), Some("0.2")));
        assert_eq!((found.imports, found.exports, found.broken), (inspected.imports, inspected.exports, None));
        let [whole, module, ..] = found.parts.as_slice() else { panic!("{:?}", found.parts) };
        assert!(whole.name.is_none() && !whole.is_module && whole.size == component.len());
        let sections: Vec<&str> = whole.custom_sections.iter().map(|(name, _)| name.as_str()).collect();
        assert!(sections.ends_with(&[MANIFEST_SECTION, ABI_SECTION]), "{sections:?}");
        assert!(whole.sections.iter().any(|section| section.kind == "modules" && section.count == 3));
        assert_eq!((module.name.as_deref(), module.functions), (Some("the module 0"), 3));
        assert_eq!(module.memories, [MemoryPages { initial: 1, maximum: None }]);
    }

    #[test]
    fn what_would_be_refused_is_told_as_far_as_it_goes() {
        let module = wat::parse_str(r#"(module (import "env" "f" (func)) (memory 2 3) (func (export "g")))"#).unwrap();
        let found = anatomy(&module);
        assert_eq!((found.imports, found.exports), (vec!["env::f".to_owned()], vec!["g".to_owned()]));
        assert_eq!(found.parts[0].memories, [MemoryPages { initial: 2, maximum: Some(3) }]);
        let composed = nested(&scorer(ECHO));
        let names: Vec<Option<String>> = anatomy(&composed).parts.into_iter().map(|part| part.name).collect();
        let expected = [None, Some("the nested component 0"), Some("the module 0 of the nested component 0")];
        assert_eq!(names[..3].iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        let cut = anatomy(&composed[..composed.len() / 2]);
        assert!(cut.broken.unwrap().contains("ends in the middle") && !cut.parts.is_empty());
        assert!(anatomy(b"hello").parts.is_empty());
        for end in 0..composed.len() {
            drop(anatomy(&composed[..end]));
        }
    }
}
