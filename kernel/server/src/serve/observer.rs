//! Writes down what the kernel reports: quarantines, after which the version before serves where there is one, and models that
//! wait for a fit. The kernel's threads only leave a note; a thread of its own changes the catalogue, because a change waits
//! for the kernel.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel as note_channel};
use std::sync::{Arc, Weak};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::InstallationMode;
use kith_pipeline::{Acceptance, Installed};
use serde_json::json;

use crate::api::installations::fall_back;
use crate::app::App;
use crate::catalogue::{Actor, Draft, InstallationRow, WaitRow};
use crate::error::ApiError;
use crate::metrics::count_records;

/// What is to be written down of an installation.
pub(super) struct Note {
    workspace: WorkspaceId,
    installation: InstallationId,
    reason: String,
    kind: HoldKind,
}

/// Why an installation no longer runs, or runs again.
enum HoldKind {
    /// Of the component of this digest.
    Quarantine { digest: String },
    /// It ended: the installation did its work in a trial.
    Recovery,
    /// Nothing ended but its backtest, of which nothing stays loaded.
    BacktestEnd,
    /// It cannot read this fit, with the component of this digest.
    WaitsForFit { fit: Option<u32>, digest: String },
}

/// The end that the kernel holds.
pub(super) struct Observer(Sender<Note>);

impl Observer {
    fn leave(&self, note: Note) {
        let (workspace, installation) = (note.workspace.0, note.installation.0);
        if self.0.send(note).is_err() {
            tracing::warn!(workspace, installation, "what holds an installation was not written down");
        }
    }
}

impl kith_pipeline::Observer for Observer {
    fn held(&self, workspace: WorkspaceId, installed: &Installed, reason: &str) {
        let kind = HoldKind::Quarantine { digest: installed.digest.clone() };
        self.leave(Note { workspace, installation: installed.id, reason: reason.to_owned(), kind });
    }

    fn recovered(&self, workspace: WorkspaceId, installation: InstallationId) {
        let reason = "it did its work again when it was tried".to_owned();
        self.leave(Note { workspace, installation, reason, kind: HoldKind::Recovery });
    }

    fn waits_for_fit(&self, workspace: WorkspaceId, installed: &Installed, reason: &str) {
        let fit = installed.fitted.as_ref().map(|fitted| fitted.version);
        let kind = HoldKind::WaitsForFit { fit, digest: installed.digest.clone() };
        self.leave(Note { workspace, installation: installed.id, reason: reason.to_owned(), kind });
    }

    fn backtest_ended(&self, workspace: WorkspaceId, installation: InstallationId) {
        self.leave(Note { workspace, installation, reason: String::new(), kind: HoldKind::BacktestEnd });
    }

    fn polled(&self, acceptance: &Acceptance) {
        count_records(acceptance);
    }
}

/// Both ends.
pub(super) fn channel() -> (Observer, Receiver<Note>) {
    let (sender, receiver) = note_channel();
    (Observer(sender), receiver)
}

/// Start the thread that writes down. It ends with the kernel.
pub(super) fn write_down(app: &Arc<App>, notes: Receiver<Note>) -> io::Result<()> {
    let app: Weak<App> = Arc::downgrade(app);
    let work = move || {
        for note in notes {
            let Some(app) = app.upgrade() else { return };
            if let Err(error) = keep(&app, &note) {
                tracing::error!(
                    installation = note.installation.0,
                    ?error,
                    "what holds an installation was not written down"
                );
            }
        }
    };
    std::thread::Builder::new().name("kith-observer".to_owned()).spawn(work).map(drop)
}

fn keep(app: &App, note: &Note) -> Result<(), ApiError> {
    if matches!(note.kind, HoldKind::BacktestEnd) {
        return app.make_anew(note.workspace);
    }
    if let HoldKind::Quarantine { digest } = &note.kind {
        match fall_back(app, note.workspace, (note.installation, digest), &note.reason) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(installation = note.installation.0, ?error, "the version before cannot serve again");
            }
        }
    }
    app.change(note.workspace, Actor::kernel(), |draft| {
        let row = draft.tables().installations.get(&note.installation).filter(|row| row.removed_at.is_none());
        let Some(row) = row.map(|row| InstallationRow::clone(row)) else { return Ok(()) };
        match &note.kind {
            HoldKind::Quarantine { .. } => quarantine(draft, row, &note.reason),
            // Where an admin was quicker, the admin's word holds.
            HoldKind::Recovery if row.mode != InstallationMode::Quarantined => Ok(()),
            HoldKind::Recovery => recover(draft, row, &note.reason),
            HoldKind::BacktestEnd => Ok(()),
            HoldKind::WaitsForFit { fit, digest } => {
                // Where an admin was quicker, the note is about what is no more.
                let is_same = draft.tables().plugin_of(&row).is_some_and(|plugin| plugin.digest == *digest);
                if !is_same || row.fit != *fit || row.waits_for_fit.is_some() {
                    return Ok(());
                }
                draft.audit("installation.wait-for-fit", &row.name, None, Some(json!({ "reason": note.reason })))?;
                // It read none of its state, so the values that people hold are of the version that was fitted.
                let fit = row.fit.and_then(|fit| draft.tables().fits.get(&(row.id, fit)));
                let serves = fit.map_or(&row.version, |fit| &fit.plugin_version).clone();
                let waits_for_fit = Some(WaitRow { since: draft.now(), why: note.reason.clone(), serves });
                draft.put_installation(InstallationRow { waits_for_fit, ..row });
                Ok(())
            }
        }
    })
}

fn recover(draft: &mut Draft<'_>, row: InstallationRow, reason: &str) -> Result<(), ApiError> {
    let before = Some(json!({ "mode": row.mode, "reason": row.mode_reason }));
    let after = Some(json!({ "mode": InstallationMode::Live, "reason": reason }));
    draft.audit("installation.recover", &row.name, before, after)?;
    let now = draft.now();
    let mode = InstallationMode::Live;
    draft.put_installation(InstallationRow { mode, mode_reason: None, mode_since: now, updated_at: now, ..row });
    Ok(())
}

fn quarantine(draft: &mut Draft<'_>, row: InstallationRow, reason: &str) -> Result<(), ApiError> {
    let before = Some(json!({ "mode": row.mode }));
    let after = Some(json!({ "mode": InstallationMode::Quarantined, "reason": reason }));
    draft.audit("installation.quarantine", &row.name, before, after)?;
    let mode_reason = Some(reason.to_owned());
    let updated_at = draft.now();
    draft.put_installation(InstallationRow {
        mode: InstallationMode::Quarantined,
        mode_reason,
        mode_since: updated_at,
        updated_at,
        ..row
    });
    Ok(())
}
