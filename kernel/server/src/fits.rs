//! Fits under way: which installation is being fitted and how far it is. What came of a fit is in the catalogue.

use std::collections::BTreeMap;

use kith_model::id::{InstallationId, WorkspaceId};
use parking_lot::Mutex;

/// How far a fit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FitProgress {
    pub(crate) version: u32,
    pub(crate) rows_done: u64,
    pub(crate) rows_total: u64,
}

/// The fits under way, at most one for an installation.
#[derive(Default)]
pub(crate) struct FitsUnderWay(Mutex<BTreeMap<(WorkspaceId, InstallationId), FitProgress>>);

impl FitsUnderWay {
    /// Note that a fit begins; `false` when one is under way already.
    pub(crate) fn begin(&self, workspace: WorkspaceId, installation: InstallationId, version: u32) -> bool {
        let mut under_way = self.0.lock();
        if under_way.contains_key(&(workspace, installation)) {
            return false;
        }
        under_way.insert((workspace, installation), FitProgress { version, rows_done: 0, rows_total: 0 });
        true
    }

    /// Note how far it is.
    pub(crate) fn advance(&self, workspace: WorkspaceId, installation: InstallationId, done: u64, total: u64) {
        if let Some(progress) = self.0.lock().get_mut(&(workspace, installation)) {
            (progress.rows_done, progress.rows_total) = (done, total);
        }
    }

    /// How far the installation's fit is, if one is under way.
    pub(crate) fn progress(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<FitProgress> {
        self.0.lock().get(&(workspace, installation)).copied()
    }

    /// Note that it ended.
    pub(crate) fn end(&self, workspace: WorkspaceId, installation: InstallationId) {
        self.0.lock().remove(&(workspace, installation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fit_at_a_time() {
        let (workspace, installation) = (WorkspaceId(1), InstallationId(2));
        let fits = FitsUnderWay::default();
        assert!(fits.begin(workspace, installation, 1));
        assert!(!fits.begin(workspace, installation, 2));
        fits.advance(workspace, installation, 5, 10);
        let progress = fits.progress(workspace, installation).unwrap();
        assert_eq!((progress.version, progress.rows_done, progress.rows_total), (1, 5, 10));
        fits.end(workspace, installation);
        assert!(fits.begin(workspace, installation, 2));
    }
}
