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
    /// Whether somebody ended it before it was done. Before version 3 there was no row of such a one.
    #[serde(default)]
    pub is_ended: bool,
}

impl UndoRow {
    /// The same for the kernel.
    pub fn undo(&self) -> Undo {
        Undo { number: self.number, installation: self.installation, digest: self.digest.clone(), of: self.of }
    }
}

#[cfg(test)]
mod tests {
    use kith_store::row;

    use super::*;

    #[test]
    fn rows_of_the_release_before_are_read() {
        let row = UndoRow {
            number: 3,
            installation: InstallationId(2),
            digest: "d".into(),
            of: Undone::Events,
            at: Timestamp(5),
            by: KeyId::kernel(),
            is_ended: true,
        };
        let read: UndoRow = row::decode(&row::encode(&row)).unwrap();
        assert!(read.is_ended);
        let mut before = serde_json::to_value(&row).unwrap();
        before.as_object_mut().unwrap().remove("is_ended");
        let bytes = [vec![2], serde_json::to_vec(&before).unwrap()].concat();
        let read: UndoRow = row::decode(&bytes).unwrap();
        assert_eq!((read.number, read.is_ended), (3, false));
    }
}
