//! Components on disk, compiled and loaded: in memory are those that something installed runs, on disk those that a workspace
//! has in its catalogue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use kith_host::{Host, Inspection, LoadError, Plugin};
use kith_model::id::WorkspaceId;
use kith_pipeline::{Patience, aside};
use parking_lot::Mutex;

use super::compiling::{CompileQueue, CompileTurn};
use super::{Loading, WiringError};
use crate::catalogue::artifacts::{ArtifactError, Artifacts};
use crate::declared;

/// A loaded plugin.
pub(crate) type LoadedPlugin = Arc<Plugin>;

/// The components of all workspaces.
pub(crate) struct Components {
    host: Host,
    artifacts: Artifacts,
    queue: CompileQueue,
    /// Of components that are looked at before they are compiled: whoever waits for the compiler keeps nobody from hearing that
    /// theirs is none.
    inspections: CompileQueue,
    /// By digest; the same for all workspaces. Whoever runs one keeps it loaded.
    loaded: Mutex<HashMap<String, Weak<Plugin>>>,
    /// The digests of uploads under way, and how many there are of each: their files stay, though no row names them yet.
    uploads: Mutex<BTreeMap<String, usize>>,
}

/// A component that is on disk and whose row is not yet written. Its file stays at least until this is dropped.
pub(crate) struct Upload<'a> {
    components: &'a Components,
    digest: String,
}

impl Components {
    pub(super) fn new(host: Host, artifacts: Artifacts) -> Components {
        let (loaded, uploads) = (Mutex::default(), Mutex::default());
        let (queue, inspections) = (CompileQueue::default(), CompileQueue::default());
        Components { host, artifacts, queue, inspections, loaded, uploads }
    }

    /// What a component says that it is. Whoever uploads chooses how long the look takes, so there is one at a time, beside
    /// everything else. Blocks while it waits for its turn.
    pub(crate) fn inspect(
        &self,
        workspace: WorkspaceId,
        component: &[u8],
        max_bytes: u64,
        patience: &Patience,
    ) -> Result<Inspection, WiringError> {
        let _turn = self.inspections.take(workspace, patience)?;
        Ok(aside(|| declared::inspect(component, max_bytes)).map_err(LoadError::Package)?)
    }

    /// Check that a component loads, and keep it. Blocks while it waits for its turn and compiles.
    pub(crate) fn admit(
        &self,
        workspace: WorkspaceId,
        component: &[u8],
        digest: &str,
        patience: &Patience,
    ) -> Result<Upload<'_>, WiringError> {
        // Held until the file is there, because two uploads of the same bytes would write it at the same time.
        let _turn = self.queue.take(workspace, patience)?;
        *self.uploads.lock().entry(digest.to_owned()).or_default() += 1;
        let upload = Upload { components: self, digest: digest.to_owned() };
        // It is loaded again when it is installed, from compiled code.
        drop(aside(|| self.host.load(component))?);
        self.artifacts.keep(component)?;
        Ok(upload)
    }

    /// The plugin of that digest, where it is loaded.
    pub(super) fn loaded(&self, digest: &str) -> Option<LoadedPlugin> {
        self.loaded.lock().get(digest).and_then(Weak::upgrade)
    }

    pub(crate) fn load(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        loading: Loading<'_>,
    ) -> Result<LoadedPlugin, WiringError> {
        if let Some(plugin) = self.loaded(digest) {
            return Ok(plugin);
        }
        let _turn = self.turn(workspace, digest, loading)?;
        // Whoever had the turn before may have loaded it.
        if let Some(plugin) = self.loaded(digest) {
            return Ok(plugin);
        }
        let component = self.artifacts.read(digest)?;
        let plugin = Arc::new(self.host.load(&component)?);
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, plugin| plugin.strong_count() > 0);
        loaded.insert(digest.to_owned(), Arc::downgrade(&plugin));
        Ok(plugin)
    }

    /// A turn at the compiler, for a component that has to be compiled.
    pub(super) fn turn(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        loading: Loading<'_>,
    ) -> Result<CompileTurn<'_>, WiringError> {
        match loading {
            Loading::Allowed(patience) | Loading::OnPaper(patience) => Ok(self.queue.take(workspace, patience)?),
            Loading::Done => Err(WiringError::NotLoaded { digest: digest.to_owned() }),
        }
    }

    /// Take a component and its compiled code from the disk, unless it is being uploaded or `is_used` by a workspace.
    pub(crate) fn sweep(&self, digest: &str, component: Option<&[u8]>, is_used: impl FnOnce() -> bool) {
        let uploads = self.uploads.lock();
        // Whoever uploads it from now on waits here, and then writes it again.
        if uploads.contains_key(digest) || is_used() {
            return;
        }
        let read = component.map(<[u8]>::to_vec).or_else(|| self.artifacts.read(digest).ok());
        if let Some(component) = read {
            self.host.forget(&component);
        }
        if let Err(error) = self.artifacts.remove(digest) {
            tracing::warn!(%error, "a component stays on disk that no workspace has");
        }
    }

    /// The digests of the components on disk.
    pub(crate) fn on_disk(&self) -> Result<BTreeSet<String>, ArtifactError> {
        self.artifacts.digests()
    }

    /// How many plugins are in memory.
    #[cfg(test)]
    pub(crate) fn loaded_count(&self) -> usize {
        self.loaded.lock().values().filter(|plugin| plugin.strong_count() > 0).count()
    }

    /// Hold the compiler, as one does that compiles for long.
    #[cfg(test)]
    pub(crate) fn hold_compiler(&self, workspace: WorkspaceId) -> impl Drop + '_ {
        self.queue.take(workspace, &Patience::default()).unwrap()
    }

    /// How many of a workspace wait for the compiler.
    #[cfg(test)]
    pub(crate) fn waiting(&self, workspace: WorkspaceId) -> usize {
        self.queue.waiting(workspace)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let mut uploads = self.components.uploads.lock();
        if let Some(count) = uploads.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                uploads.remove(&self.digest);
            }
        }
    }
}
