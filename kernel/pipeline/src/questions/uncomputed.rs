//! Whom the version of a model in use has no answer for.

use kith_model::id::{InstallationId, WorkspaceId};

use crate::Kernel;
use crate::react::uncomputed::LastFault;
use crate::views::UncomputedPeople;

impl Kernel {
    /// The people for whom the version in use of an installation has no answer, if there are any.
    pub fn uncomputed(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<UncomputedPeople> {
        let workspace = self.shared.workspace(workspace)?;
        let projection = workspace.projection.read();
        let uncomputed = projection.uncomputed.get(&installation)?;
        let (people, since) = (uncomputed.faulted.len(), uncomputed.since);
        // Where a letter was dismissed before a restart, nobody knows any more since when, nor why.
        let last = uncomputed.last.clone();
        let LastFault { at, code, message } = last.unwrap_or_else(|| LastFault::unknown(projection.as_of.time));
        Some(UncomputedPeople { people, since: since.unwrap_or(at), last_at: at, code, message })
    }
}
