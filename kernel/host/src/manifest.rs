//! Responsible for `plugin.toml`: reading it into [`Manifest`] and naming every mistake in it, with its place and the
//! remedy, all at once. What a table of it may hold is `manifest/sections.rs`, and of columns `manifest/columns.rs`; walking
//! TOML with places is `manifest/reader.rs`; the configuration's schema is `manifest/config.rs`; what editors are told is
//! `manifest/editor.rs`.

mod columns;
mod config;
mod depth;
mod editor;
mod keys;
mod mail;
mod pattern;
mod planned;
mod reader;
mod schema;
mod sections;
mod training;
mod unshown;
mod words;

use std::fmt;

use kith_model::budget::table;
use kith_model::plugin::Manifest;

pub use config::{ConfigError, ConfigMistake, validate_config, validate_unshown_config};
pub use editor::manifest_schema;
pub use keys::LIMITS as LIMIT_NAMES;
pub use planned::PlannedSchema;
use reader::Reading;
pub use reader::mistake_in;
pub(crate) use sections::METHODS;
pub use unshown::{Parted, dotted, filled_in_write_only, joined, parted, would_show, write_only, writes};

/// The largest manifest that is read. The biggest of ours is 4 KiB; a schema of 64 KiB is more than anyone will fill in.
pub const MAX_MANIFEST_BYTES: usize = table::MANIFEST_TEXT.default as usize;

/// One thing wrong in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMistake {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for ManifestMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Everything that is wrong in a manifest, in the order of the file. There is at least one mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    pub mistakes: Vec<ManifestMistake>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            write!(f, "{}plugin.toml:{mistake}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Read a manifest.
///
/// # Errors
/// [`ManifestError`] with every mistake: bad TOML, unknown keys (with the nearest known one), missing or ill-formed
/// values, what the plugin's kind does not allow, what contradicts itself, and texts and schemas beyond their budgets.
pub fn parse_manifest(text: &str) -> Result<Manifest, ManifestError> {
    parse(text, Reading::New)
}

/// Read a manifest that was admitted before, perhaps when less was refused: it goes on working.
///
/// # Errors
/// As for [`parse_manifest`], but for what is beyond a budget, and for what would do harm to nobody but whoever reads it.
pub fn parse_kept_manifest(text: &str) -> Result<Manifest, ManifestError> {
    parse(text, Reading::Kept)
}

fn parse(text: &str, reading: Reading) -> Result<Manifest, ManifestError> {
    if text.len() > MAX_MANIFEST_BYTES {
        table::MANIFEST_TEXT.count();
        let message = format!("the manifest has {} bytes; at most {MAX_MANIFEST_BYTES} are read", text.len());
        return Err(ManifestError { mistakes: vec![ManifestMistake { line: 1, column: 1, message }] });
    }
    let notes = reader::Notes::new(text, reading);
    // One that was admitted was read, so it is not so deep that it cannot be.
    if reading == Reading::New
        && let Some(at) = depth::too_deep(text)
    {
        let message =
            format!("values lie more than {} deep in one another here; write a flatter table", depth::MAX_DEPTH);
        notes.add(&(at..at), message);
        return Err(ManifestError { mistakes: notes.into_mistakes() });
    }
    let manifest = sections::read(text, &notes);
    match (manifest, notes.into_mistakes()) {
        (Some(manifest), mistakes) if mistakes.is_empty() => Ok(manifest),
        (_, mistakes) => Err(ManifestError { mistakes }),
    }
}

#[cfg(test)]
mod tests;
