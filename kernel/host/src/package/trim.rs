//! Responsible for leaving out what a plugin does not need: debug information above all.

use std::ops::Range;

use wasm_encoder::{Component, ComponentSectionId, Module, RawSection};
use wasmparser::{Parser, Payload};

use super::shape::MAX_DEPTH;
use super::{PackageError, shape};

/// The module without the custom sections that a plugin does not need.
pub(super) fn module(module: &[u8]) -> Result<Vec<u8>, PackageError> {
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
            stripped.section(&RawSection { id, data: within(module, range)? });
        }
    }
    Ok(stripped.finish())
}

/// The same of a component and of all in it; what an earlier packing appended is left out too.
pub(super) fn component(bytes: &[u8]) -> Result<Vec<u8>, PackageError> {
    trimmed(bytes, 0)
}

fn trimmed(bytes: &[u8], depth: usize) -> Result<Vec<u8>, PackageError> {
    if depth > MAX_DEPTH {
        return Err(PackageError::TooDeep { part: "a nested component".to_owned(), limit: MAX_DEPTH });
    }
    let mut kept = Component::new();
    let mut inside = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| shape::malformed(&error, bytes.len()))?;
        // The parts are trimmed by themselves; here their sections are only passed over.
        let is_own = inside == 0;
        match payload {
            Payload::End(_) => inside = inside.saturating_sub(1),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => inside += 1,
            _ => {}
        }
        if !is_own {
            continue;
        }
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                let data = &module(within(bytes, unchecked_range.clone())?)?;
                kept.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data });
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                let data = &trimmed(within(bytes, unchecked_range.clone())?, depth + 1)?;
                kept.section(&RawSection { id: ComponentSectionId::Component.into(), data });
            }
            Payload::CustomSection(section) if !matches!(section.name(), "component-name" | "producers") => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    kept.section(&RawSection { id, data: within(bytes, range)? });
                }
            }
        }
    }
    Ok(kept.finish())
}

/// A section's bytes, which a file that was cut off has not.
fn within(bytes: &[u8], range: Range<usize>) -> Result<&[u8], PackageError> {
    bytes.get(range).ok_or(PackageError::Truncated { bytes: bytes.len() })
}
