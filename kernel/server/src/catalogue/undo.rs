//! What versions of plugins wrote and somebody takes back.

use kith_model::id::InstallationId;
use kith_model::time::Timestamp;
use kith_pipeline::{Undo, Undone};
use serde::{Deserialize, Serialize};

use crate::auth::KeyId;

/// That what a version of a plugin wrote is taken back, the last time that somebody said so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoRow {
    /// Of the workspace's own, so that the same again is told from what is done.
    pub number: u32,
    pub installation: InstallationId,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Version 1 had none.
    #[serde(default)]
    pub of: Undone,
    pub at: Timestamp,
    pub by: KeyId,
}

impl UndoRow {
    /// The same for the kernel.
    pub fn undo(&self) -> Undo {
        Undo { number: self.number, installation: self.installation, digest: self.digest.clone(), of: self.of }
    }
}
