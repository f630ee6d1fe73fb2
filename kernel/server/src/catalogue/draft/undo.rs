//! Taking back what a version wrote.

use std::sync::Arc;

use kith_model::id::InstallationId;
use kith_pipeline::Undone;
use kith_store::keys::Definition;
use kith_store::{Key, Operation};

use super::Draft;
use crate::catalogue::undo::UndoRow;
use crate::catalogue::{CatalogueError, of_installation, put};

impl Draft<'_> {
    /// Take back what the version of that digest wrote as an installation, in the place of an earlier undo of the same.
    pub fn put_undo(
        &mut self,
        installation: InstallationId,
        digest: &str,
        of: Undone,
    ) -> Result<Arc<UndoRow>, CatalogueError> {
        let number = self.count("undo")?;
        let (at, by) = (self.now, self.actor.key.clone());
        let digest = digest.to_owned();
        let row = Arc::new(UndoRow { number, installation, digest, of, at, by, is_ended: false });
        self.keep_undo(&row);
        Ok(row)
    }

    /// Take back no more of what the version of that digest wrote as an installation. What was taken back stays so.
    pub fn end_undo(&mut self, installation: InstallationId, digest: &str) {
        if let Some(row) = self.tables.undos.get(&(installation, digest.to_owned())) {
            let ended = UndoRow { is_ended: true, ..UndoRow::clone(row) };
            self.keep_undo(&Arc::new(ended));
        }
    }

    fn keep_undo(&mut self, row: &Arc<UndoRow>) {
        let name = of_installation(row.installation, row.digest.as_bytes());
        self.operations.push(put(self.workspace(), Definition::Undo, &name, &**row));
        self.tables.undos.insert((row.installation, row.digest.clone()), Arc::clone(row));
        self.alters_setup = true;
    }

    /// Forget that what the version of that digest wrote as an installation is taken back: nothing is left of the installation.
    pub fn drop_undo(&mut self, installation: InstallationId, digest: &str) {
        let name = of_installation(installation, digest.as_bytes());
        self.operations.push(Operation::Delete(Key::definition(self.workspace(), Definition::Undo, &name)));
        self.tables.undos.remove(&(installation, digest.to_owned()));
        self.alters_setup = true;
    }
}
