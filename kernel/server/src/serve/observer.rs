//! Writes down what the kernel reports: quarantines. The kernel's threads only leave a note; a thread of its own changes the
//! catalogue, because a change waits for the kernel.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel as note_channel};
use std::sync::{Arc, Weak};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::InstallationMode;
use serde_json::json;

use crate::app::App;
use crate::catalogue::{Actor, InstallationRow};
use crate::error::ApiError;

/// A quarantine to write down.
pub(super) struct Quarantine {
    workspace: WorkspaceId,
    installation: InstallationId,
    reason: String,
}

/// The end that the kernel holds.
pub(super) struct Observer(Sender<Quarantine>);

impl kith_pipeline::Observer for Observer {
    fn held(&self, workspace: WorkspaceId, installation: InstallationId, reason: &str) {
        let note = Quarantine { workspace, installation, reason: reason.to_owned() };
        if self.0.send(note).is_err() {
            tracing::warn!(workspace = workspace.0, installation = installation.0, "a quarantine was not written down");
        }
    }
}

/// Both ends.
pub(super) fn channel() -> (Observer, Receiver<Quarantine>) {
    let (sender, receiver) = note_channel();
    (Observer(sender), receiver)
}

/// Start the thread that writes down. It ends with the kernel.
pub(super) fn write_down(app: &Arc<App>, notes: Receiver<Quarantine>) -> io::Result<()> {
    let app: Weak<App> = Arc::downgrade(app);
    let work = move || {
        for note in notes {
            let Some(app) = app.upgrade() else { return };
            if let Err(error) = keep(&app, &note) {
                tracing::error!(installation = note.installation.0, ?error, "a quarantine was not written down");
            }
        }
    };
    std::thread::Builder::new().name("kith-observer".to_owned()).spawn(work).map(drop)
}

fn keep(app: &App, note: &Quarantine) -> Result<(), ApiError> {
    app.change(note.workspace, Actor::kernel(), |draft| {
        let row = draft.tables().installations.get(&note.installation).filter(|row| row.removed_at.is_none());
        let Some(row) = row.map(|row| InstallationRow::clone(row)) else { return Ok(()) };
        let before = Some(json!({ "mode": row.mode }));
        let after = Some(json!({ "mode": InstallationMode::Quarantined, "reason": note.reason }));
        draft.audit("installation.quarantine", &row.name, before, after)?;
        let mode_reason = Some(note.reason.clone());
        let updated_at = draft.now();
        draft.put_installation(InstallationRow {
            mode: InstallationMode::Quarantined,
            mode_reason,
            mode_since: Some(updated_at),
            updated_at,
            ..row
        })?;
        Ok(())
    })
}
