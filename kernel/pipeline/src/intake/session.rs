//! Imports with a name: each piece writes down how far it came, and one that was killed goes on there.

use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::Refusal;
use kith_store::{CommitError, ReadError};

use super::{Intake, IntakeError, RETRY_AFTER_S, not_committed, version_of};
use crate::accept::files;
use crate::accept::imports::{self, Guard, ImportCheckpoint, ImportRow, Piece, Resent};
use crate::shared::KernelState;
use crate::views::{Acceptance, ImportState};

/// The longest name of an import.
const MAX_NAME_BYTES: usize = 128;

/// An import with a name.
pub(super) struct Session {
    import: u128,
    progress: ImportRow,
    guard: Arc<Guard>,
    /// Where it went on.
    went_on: Option<ImportState>,
    /// What comes again because a process ended within a piece.
    resent: Resent,
}

impl Session {
    /// The connector has taken so many bytes more.
    pub(super) fn took(&mut self, bytes: usize) {
        self.progress.bytes += bytes as u64;
    }

    /// Count what a piece brought again, and an earlier process had taken, as what it was.
    pub(super) fn restore(&mut self, piece: &mut Acceptance) {
        self.resent.restore(piece);
    }

    /// The next piece.
    pub(super) fn piece(&mut self, resume: Option<Vec<u8>>, contents: Vec<u64>) -> Piece {
        self.progress.pieces += 1;
        self.progress.resume = resume;
        Piece { import: self.import, progress: self.progress.clone(), contents, _guard: Arc::clone(&self.guard) }
    }
}

/// What names an import: the source by its name, and the name that the sender gave.
fn import_of(source: &str, name: &str) -> u128 {
    files::hash(source, name)
}

fn unreadable(error: ReadError) -> IntakeError {
    not_committed(&Arc::new(CommitError::Read(error)))
}

/// How far an import had come that was left by the connector as it is now.
fn left_by(
    shared: &KernelState,
    workspace: WorkspaceId,
    import: u128,
    version: u64,
) -> Result<Option<ImportCheckpoint>, IntakeError> {
    let left = imports::left(shared.store.as_ref(), workspace, import).map_err(unreadable)?;
    Ok(left.filter(|left| left.progress.version == version))
}

/// Begin an import from its first byte. Where the very first piece was cut off, its rows come again; what else is there is of another
/// configuration, or given up.
fn begin_anew(shared: &KernelState, workspace: WorkspaceId, import: u128) -> Result<Resent, CommitError> {
    let store = shared.store.as_ref();
    let resent = match imports::left(store, workspace, import)? {
        Some(_) => {
            imports::forget(store, workspace, import, 0)?;
            Resent::default()
        }
        None => imports::cut_off(store, workspace, import, 0)?,
    };
    imports::make_room(store, workspace, &shared.imports)?;
    Ok(resent)
}

impl ImportState {
    fn of(left: &ImportCheckpoint) -> ImportState {
        ImportState { bytes: left.progress.bytes, acceptance: left.acceptance.clone() }
    }
}

/// How far an import of that name has come; `None` where there is none to go on with. Blocks.
pub(crate) fn state(
    shared: &KernelState,
    workspace: WorkspaceId,
    source: InstallationId,
    name: &str,
) -> Result<Option<ImportState>, IntakeError> {
    let known = shared.workspace(workspace).ok_or(IntakeError::UnknownSource)?;
    let compiled = known.compiled.load_full();
    let installed = compiled.setup.installation(source).ok_or(IntakeError::UnknownSource)?;
    let import = import_of(installed.name.as_str(), name);
    Ok(left_by(shared, workspace, import, version_of(installed))?.as_ref().map(ImportState::of))
}

impl Intake {
    /// Write down under a name how far the import comes. `from` is where the bytes begin that will be pushed: 0, or where
    /// [`crate::Kernel::import_state`] says that the import of that name has come. Blocks.
    ///
    /// # Errors
    /// An import of that name is under way, or stands elsewhere.
    pub fn named(mut self, name: &str, from: u64) -> Result<Intake, IntakeError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let message = format!("the name of an import has 1 to {MAX_NAME_BYTES} bytes");
            return Err(IntakeError::Refused(Refusal { status: 400, code: "bad-import-name".into(), message }));
        }
        let (shared, workspace) = (Arc::clone(&self.shared), self.workspace);
        let import = import_of(&self.sender.name, name);
        let guard = Guard::take(&shared.imports, workspace, import)
            .ok_or(IntakeError::ImportUnderWay { retry_after_s: RETRY_AFTER_S })?;
        let left = left_by(&shared, workspace, import, self.asked.version)?;
        let store = shared.store.as_ref();
        let failed = |error: CommitError| not_committed(&Arc::new(error));
        let (progress, went_on, resent) = match left {
            Some(mut left) if from > 0 && left.progress.bytes == from => {
                // Units of a piece that was cut off.
                let cut = imports::cut_off(store, workspace, import, left.progress.pieces).map_err(failed)?;
                left.resent.extend(cut);
                let state = ImportState::of(&left);
                self.request.resume.clone_from(&left.progress.resume);
                self.make_room(left.contents.len())?;
                self.occurrences.go_on(left.contents);
                self.acceptance = left.acceptance;
                (left.progress, Some(state), left.resent)
            }
            left if from > 0 => {
                return Err(IntakeError::ImportElsewhere { bytes: left.map_or(0, |left| left.progress.bytes) });
            }
            _ => {
                let resent = begin_anew(&shared, workspace, import).map_err(failed)?;
                let (version, at) = (self.asked.version, self.request.received_at);
                (ImportRow { bytes: 0, resume: None, pieces: 0, version, at }, None, resent)
            }
        };
        self.session = Some(Session { import, progress, guard: Arc::new(guard), went_on, resent });
        Ok(self)
    }

    /// Where an import with a name went on, and what had come of it before.
    pub fn went_on(&self) -> Option<&ImportState> {
        self.session.as_ref()?.went_on.as_ref()
    }

    /// What came of it since it went on.
    pub fn taken_now(&self) -> Acceptance {
        self.went_on().map_or(self.acceptance.clone(), |before| self.acceptance.since(&before.acceptance))
    }

    /// The import has come to its end: nothing is to be gone on with.
    pub(super) async fn end_session(&mut self) {
        let Some(session) = self.session.take() else { return };
        let (shared, workspace) = (Arc::clone(&self.shared), self.workspace);
        let ended = crate::offload::run(move || {
            let ended = imports::forget(shared.store.as_ref(), workspace, session.import, 0);
            drop(session);
            ended
        });
        if let Err(error) = ended.await {
            tracing::warn!(workspace = self.workspace.0, %error, "an import that has ended would go on at its end");
        }
    }
}
