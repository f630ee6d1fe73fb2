//! Fits in the catalogue: that one begins, what came of it, which fit a version uses, and that it waits where it can read none.
//! The kernel runs them; `api/fits.rs` has the routes, `fitting/schedule.rs` begins those that are due.

pub(crate) mod champion;
mod choice;
pub(crate) mod drift;
mod guard;
mod kept;
pub(crate) mod schedule;

use std::sync::Arc;

use kith_model::id::{InstallationId, InstallationName, WorkspaceId};
use kith_model::plugin::{Fitted, InstallationMode, Manifest, is_dev};
use kith_pipeline::{FitError, FitInput, FitSlot, WAITS_FOR_FIT};
use serde_json::json;

use crate::api::installations::named;
use crate::api::plugins::computes;
use crate::app::App;
use crate::auth::KeyId;
use crate::catalogue::{
    Actor, Catalogue, CatalogueError, Draft, FitCause, FitInputRow, FitRow, FitStatus, InstallationRow, WaitRow,
    WorkspaceTables,
};
use crate::error::ApiError;

pub(crate) use choice::use_fit;
pub(crate) use guard::{alarm, unreported};

/// Why a fit begins, and what is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It is due.
    Scheduled,
    /// Somebody asked for it.
    Asked,
    /// Somebody asked for it, to be used also where another was chosen by hand.
    AskedToUse,
}

impl Wish {
    fn cause(self) -> FitCause {
        match self {
            Wish::Scheduled => FitCause::Scheduled,
            Wish::Asked | Wish::AskedToUse => FitCause::Asked,
        }
    }
}

/// A fit that is written down and has yet to run.
pub(crate) struct BegunFit {
    pub(crate) row: FitRow,
    wish: Wish,
    /// While it is held, nobody begins another of the same installation.
    slot: FitSlot,
}

/// Write down that a fit begins.
pub(crate) fn begin(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    name: &str,
    wish: Wish,
) -> Result<BegunFit, ApiError> {
    app.change(workspace, actor, |draft| {
        let installation = InstallationRow::clone(named(draft.tables(), name)?);
        let plugin = draft.tables().plugin_of(&installation).cloned();
        let plugin = plugin.filter(|plugin| computes(plugin.manifest.kind)).ok_or_else(|| ApiError::Conflict {
            code: "not-fitted",
            message: format!("`{name}` is neither a tag model nor a scorer; only those are fitted"),
        })?;
        // One that the kernel stopped may have failed on its fit, and would fail on it again before it had another.
        if !matches!(installation.mode, InstallationMode::Live | InstallationMode::Quarantined) {
            let message = format!("`{name}` is switched off; set its mode to `live` first");
            return Err(ApiError::Conflict { code: "not-live", message });
        }
        // Somebody may have begun one since the schedule was looked at.
        if wish == Wish::Scheduled && !schedule::is_due(draft.tables(), &installation, draft.now()) {
            let message = format!("no fit of `{name}` is due any more");
            return Err(ApiError::Conflict { code: "not-due", message });
        }
        let slot = app.kernel.take_fit_slot(workspace, installation.id).ok_or_else(|| ApiError::Conflict {
            code: "fit-under-way",
            message: format!("a fit of `{name}` is under way; wait for it"),
        })?;
        let fits = fits_of(draft.tables(), installation.id);
        let version = fits.last().map_or(1, |fit| fit.version + 1);
        let row = FitRow {
            installation: installation.id,
            version,
            status: FitStatus::Running,
            cause: wish.cause(),
            plugin_version: installation.version,
            digest: plugin.digest.clone(),
            state_version: plugin.manifest.state_version,
            started_at: draft.now(),
            finished_at: None,
            rows: None,
            inputs: Vec::new(),
            metrics: Vec::new(),
            state_bytes: 0,
            error: None,
            held_out: None,
        };
        draft.put_fit(row.clone());
        let after = json!({ "fit": version, "cause": row.cause, "use": wish == Wish::AskedToUse });
        draft.audit("installation.fit", name, None, Some(after))?;
        Ok(BegunFit { row, wish, slot })
    })
}

/// Fit in the background, and keep what comes of it.
pub(crate) fn run(app: &Arc<App>, workspace: WorkspaceId, author: KeyId, begun: BegunFit) {
    let keeper = Arc::clone(app);
    let BegunFit { row, wish, slot } = begun;
    app.kernel.fit(slot, row.digest.clone(), move |outcome, slot| {
        let (installation, fit) = (row.installation.0, row.version);
        let outcome = outcome.map_err(|error| error.to_string());
        if let Err(error) = &outcome {
            tracing::warn!(workspace = workspace.0, installation, fit, error, "a fit failed");
        }
        if let Err(error) = keep(&keeper, workspace, &author, BegunFit { row, wish, slot }, outcome) {
            tracing::error!(workspace = workspace.0, installation, fit, ?error, "a fit's result was not kept");
        }
    });
}

/// Keep what came of a fit, and put its state to use. The kernel does it, whatever became meanwhile of the key that asked for it
/// and of its workspace: else the fit would be under way for good.
fn keep(
    app: &App,
    workspace: WorkspaceId,
    author: &KeyId,
    begun: BegunFit,
    outcome: Result<Fitted, String>,
) -> Result<(), ApiError> {
    let BegunFit { row, wish, slot } = begun;
    let id = row.installation;
    let row = FitRow { rows: Some(slot.rows_done()), ..row };
    let inputs = slot.inputs().into_iter().map(|input| {
        let FitInput { name, present, absent, mean, deviation } = input;
        FitInputRow { name, present, absent, mean, deviation }
    });
    let held_out = slot.held_out();
    let mut came_to = FitStatus::Failed;
    let stored = app.change(workspace, Actor::kernel(), |draft| {
        // Whoever begins the next one waits for this change, so that its place is free as soon as its outcome shows.
        drop(slot);
        let Some(present) = present(draft, id) else { return Ok(()) };
        let name = present.name.clone();
        let outcome = outcome.as_ref().map_err(String::clone).and_then(|fitted| {
            let plugin = draft.tables().plugin_of(&present);
            match plugin.is_some_and(|plugin| may_read(&present, &plugin.manifest, &row)) {
                true => Ok(fitted),
                false => Err(format!("version {} was put in its place while it ran; fit again", present.version)),
            }
        });
        match outcome {
            Ok(fitted) => {
                let (status, finished_at) = (FitStatus::Succeeded, Some(draft.now()));
                let held_out = held_out.map(|held_out| champion::row_of(held_out, &present.fitting));
                let done = FitRow { status, finished_at, inputs: inputs.collect(), held_out, ..row.clone() };
                kept::put_fitted(draft, present, done, fitted, wish)?;
            }
            Err(error) => put_failed(draft, &row, error),
        }
        kept::forget_oldest(draft, id);
        came_to = draft.tables().fits.get(&(id, row.version)).map_or(came_to, |fit| fit.status);
        say_ended(draft, &name, (row.version, came_to), author)
    });
    let outcome = match came_to {
        _ if stored.is_err() => "failed",
        FitStatus::Succeeded => "succeeded",
        FitStatus::Held => "held",
        FitStatus::Running | FitStatus::Failed => "failed",
    };
    metrics::counter!("kith_fits_total", "outcome" => outcome).increment(1);
    // A state that the kernel does not take is a failed fit too; what was in use stays in use.
    stored.or_else(|refused| {
        tracing::error!(?refused, "a fitted state was not put to use");
        app.change(workspace, Actor::kernel(), |draft| {
            let Some(present) = present(draft, id) else { return Ok(()) };
            put_failed(draft, &row, "the fitted state could not be put to use; the log has more".to_owned());
            say_ended(draft, &present.name, (row.version, FitStatus::Failed), author)
        })
    })
}

/// End the fits that were under way when the process before this one ended, once and for all, with a line of the audit log. When
/// they ended nobody knows: what is written down is when it was found. To be called before any fit begins.
pub(crate) fn end_interrupted(catalogue: &Catalogue) {
    for (workspace, tables) in &catalogue.tables().workspaces {
        let interrupted = tables.fits.values().filter(|fit| fit.status == FitStatus::Running);
        let interrupted: Vec<FitRow> = interrupted.map(|fit| FitRow::clone(fit)).collect();
        if interrupted.is_empty() {
            continue;
        }
        if let Err(error) = end_all(catalogue, *workspace, &interrupted) {
            // For want of disk, say; the next start does it.
            tracing::error!(workspace = workspace.0, ?error, "fits that were interrupted show as if they ran");
        }
    }
}

fn end_all(catalogue: &Catalogue, workspace: WorkspaceId, interrupted: &[FitRow]) -> Result<(), CatalogueError> {
    let mut change = catalogue.begin(workspace, Actor::kernel())?;
    for fit in interrupted {
        put_failed(&mut change, fit, FitError::Stopping.to_string());
        let Some(present) = present(&change, fit.installation) else { continue };
        let after = json!({ "fit": fit.version, "status": FitStatus::Failed, "interrupted": true });
        change.audit("installation.fitted", &present.name, None, Some(after))?;
    }
    drop(change.commit()?);
    Ok(())
}

fn put_failed(draft: &mut Draft<'_>, row: &FitRow, error: String) {
    let (finished_at, error) = (Some(draft.now()), Some(error));
    draft.put_fit(FitRow { status: FitStatus::Failed, finished_at, error, ..row.clone() });
}

/// An installation that was not removed meanwhile.
fn present(draft: &Draft<'_>, id: InstallationId) -> Option<InstallationRow> {
    let present = draft.tables().installations.get(&id).filter(|row| row.removed_at.is_none());
    present.map(|row| InstallationRow::clone(row))
}

/// Write into the audit log that a fit has ended, and who had asked for it.
fn say_ended(
    draft: &mut Draft<'_>,
    name: &InstallationName,
    (fit, status): (u32, FitStatus),
    author: &KeyId,
) -> Result<(), ApiError> {
    let after = json!({ "fit": fit, "status": status, "asked_by": author.to_string() });
    draft.audit("installation.fitted", name, None, Some(after))?;
    Ok(())
}

/// Choose the fit of an installation that is to have another version: the one that somebody chose, or the newest that this one
/// may be asked about. Without one it waits, and what `before` wrote serves until it has been fitted.
pub(crate) fn choose_fit(
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    row: &mut InstallationRow,
    manifest: &Manifest,
) -> Result<(), ApiError> {
    let Some(newest) = row.fit else {
        // It learnt nothing yet, which every version can read.
        row.waits_for_fit = None;
        return Ok(());
    };
    let in_use = draft.tables().fits.get(&(row.id, newest));
    if row.fit_is_chosen && in_use.is_some_and(|fit| may_read(row, manifest, fit)) {
        row.waits_for_fit = None;
        return Ok(());
    }
    let kept = fits_of(draft.tables(), row.id).rev().filter(|fit| fit.status == FitStatus::Succeeded);
    let chosen = kept.map(FitRow::clone).find(|fit| may_read(row, manifest, fit));
    if let Some(fit) = chosen {
        if fit.version != newest {
            draft.use_state(row.id, fit.version)?;
        }
        (row.fit, row.fit_is_chosen, row.waits_for_fit) = (Some(fit.version), false, None);
        return Ok(());
    }
    // What was chosen stays so while it waits, for the way back; the fit that ends the wait ends the choice.
    let has = draft.tables().fits.get(&(row.id, newest)).and_then(|fit| fit.state_version);
    let form = |version: Option<u32>| version.map_or("no declared version".to_owned(), |it| format!("version {it}"));
    let why = format!(
        "{WAITS_FOR_FIT}: {} reads a state of {}, its fit has one of {}; run `kith plugin fit {}`",
        row.version,
        form(manifest.state_version),
        form(has),
        row.name
    );
    let serves = before.waits_for_fit.as_ref().map_or(&before.version, |waits| &waits.serves).clone();
    row.waits_for_fit = Some(WaitRow { since: draft.now(), why, serves });
    Ok(())
}

/// Whether the installed version may be asked about the fit in use, where there is one.
pub(crate) fn reads_its_fit(tables: &WorkspaceTables, row: &InstallationRow, manifest: &Manifest) -> bool {
    let fit = row.fit.and_then(|fit| tables.fits.get(&(row.id, fit)));
    fit.is_none_or(|fit| may_read(row, manifest, fit))
}

/// Whether the installed version may be asked about the state of a fit. Where neither version declares a form, the guest says
/// whether it can read it. Of a dev version, the bytes that made the fit may have declared another form than the present ones.
fn may_read(row: &InstallationRow, manifest: &Manifest, fit: &FitRow) -> bool {
    let is_same = fit.plugin_version == row.version && !is_dev(&row.version);
    is_same || fit.state_version == manifest.state_version
}

/// The fits of an installation, oldest first.
fn fits_of(tables: &WorkspaceTables, id: InstallationId) -> impl DoubleEndedIterator<Item = &FitRow> {
    tables.fits.range((id, 0)..=(id, u32::MAX)).map(|(_, row)| row.as_ref())
}

#[cfg(test)]
pub(crate) mod tests {
    use kith_model::plugin::PluginKind;
    use kith_model::time::Timestamp;
    use kith_store::CommitError;

    use super::*;
    use crate::api::tests::installations::{keep as keep_installation, plugin_row};
    use crate::api::tests::{FIRST, installation_row};
    use crate::catalogue::AuditFilter;
    use crate::catalogue::sealed::KeyRing;
    use crate::serve::tests::{TestServer, server};

    pub(crate) const LEVEL: InstallationId = InstallationId(901);

    /// A server with the tag model `level`, 1.0.0.
    pub(crate) fn with_level() -> TestServer {
        let server = server();
        keep_installation(&server, &installation_row(LEVEL.0, "level"), PluginKind::TagModel, &[]);
        server
    }

    pub(crate) fn succeeded(version: u32, plugin_version: &str, state_version: Option<u32>) -> FitRow {
        FitRow {
            installation: LEVEL,
            version,
            status: FitStatus::Succeeded,
            cause: FitCause::Asked,
            plugin_version: plugin_version.parse().unwrap(),
            digest: String::new(),
            state_version,
            started_at: Timestamp(0),
            finished_at: Some(Timestamp(1)),
            rows: Some(1),
            inputs: Vec::new(),
            metrics: Vec::new(),
            state_bytes: 1,
            error: None,
            held_out: None,
        }
    }

    fn newest_fit(server: &TestServer) -> FitRow {
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        fits_of(&tables, LEVEL).last().unwrap().clone()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_version_uses_the_newest_fit_that_it_may_be_asked_about() {
        let server = with_level();
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let fits = [succeeded(1, "1.0.0", None), succeeded(2, "1.1.0", Some(2)), succeeded(3, "1.2.0", Some(3))];
        for fit in fits {
            change.put_state(LEVEL, fit.version, vec![b'0' + fit.version as u8]);
            change.put_fit(fit);
        }
        let failed = FitRow { status: FitStatus::Failed, ..succeeded(4, "1.3.0", Some(2)) };
        change.put_fit(failed);
        drop(change.commit().unwrap());

        let before =
            InstallationRow { version: "1.2.0".parse().unwrap(), fit: Some(3), ..installation_row(LEVEL.0, "level") };
        let choose = |before: &InstallationRow, version: &str, state_version: Option<u32>| {
            let mut draft = server.app().catalogue.rehearse(FIRST, Actor::kernel()).unwrap();
            let mut row = InstallationRow { version: version.parse().unwrap(), ..before.clone() };
            let manifest = Manifest { state_version, ..plugin_row("level", PluginKind::TagModel).manifest };
            choose_fit(&mut draft, before, &mut row, &manifest).unwrap();
            let used = draft.tables().states[&LEVEL].1.to_vec();
            (row, used)
        };
        for (version, state_version, fit) in [
            ("1.3.0", Some(3), 3),
            ("1.1.0", Some(2), 2),
            ("1.1.5", Some(2), 2),
            ("1.0.0", None, 1),
            ("0.9.0", None, 1),
        ] {
            let (row, used) = choose(&before, version, state_version);
            assert_eq!((row.fit, row.waits_for_fit), (Some(fit), None), "{version}");
            assert_eq!(used, [b'0' + fit as u8], "{version}");
        }
        let (waiting, _) = choose(&before, "2.0.0", Some(4));
        let waits = waiting.waits_for_fit.clone().unwrap();
        assert_eq!((waiting.fit, waits.serves.to_string().as_str()), (Some(3), "1.2.0"));
        let why = "waits to be fitted: 2.0.0 reads a state of version 4, its fit has one of version 3; \
                   run `kith plugin fit level`";
        assert_eq!(waits.why, why);
        let (further, _) = choose(&waiting, "3.0.0", Some(5));
        let waits = further.waits_for_fit.unwrap();
        assert_eq!(waits.serves.to_string(), "1.2.0", "what people hold is of the version that ran last");
        let unfitted = installation_row(LEVEL.0, "level");
        assert_eq!(choose(&unfitted, "2.0.0", Some(4)).0.waits_for_fit, None, "there is nothing to read");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_of_a_version_that_is_no_longer_there_is_not_used() {
        let server = with_level();
        let begun = begin(server.app(), FIRST, Actor::kernel(), "level", Wish::Asked).unwrap();
        assert!(begin(server.app(), FIRST, Actor::kernel(), "level", Wish::Asked).is_err(), "one at a time");
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let mut plugin = plugin_row("level", PluginKind::TagModel);
        (plugin.manifest.version, plugin.manifest.state_version) = (semver::Version::new(2, 0, 0), Some(2));
        let row = InstallationRow { version: plugin.manifest.version.clone(), ..installation_row(LEVEL.0, "level") };
        change.put_plugin(plugin);
        change.put_installation(row);
        drop(change.commit().unwrap());
        let fitted = Fitted { state: vec![1], metrics: Vec::new() };
        keep(server.app(), FIRST, &KeyId::kernel(), begun, Ok(fitted)).unwrap();
        let fit = newest_fit(&server);
        assert_eq!(fit.status, FitStatus::Failed);
        assert_eq!(fit.error.unwrap(), "version 2.0.0 was put in its place while it ran; fit again");
        begin(server.app(), FIRST, Actor::kernel(), "level", Wish::Asked).unwrap();
    }

    /// A key that was revoked while its fit ran lost the result, and the fit was under way for good.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_ends_whatever_became_of_who_asked_for_it() {
        let server = with_level();
        let begun = begin(server.app(), FIRST, Actor::kernel(), "level", Wish::Asked).unwrap();
        server.app().catalogue.count_as_written(FIRST, 2 << 30);
        let gone = KeyId::named("gone");
        keep(server.app(), FIRST, &gone, begun, Err("it saw nobody".to_owned())).unwrap();
        let fit = newest_fit(&server);
        assert_eq!((fit.status, fit.error.as_deref()), (FitStatus::Failed, Some("it saw nobody")));
    }

    /// Each start put the end of a fit that an earlier stop had interrupted to its own time, and no line said that it had ended.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_interrupted_fit_ends_once() {
        let server = with_level();
        begin(server.app(), FIRST, Actor::kernel(), "level", Wish::AskedToUse).unwrap();
        let clock = Arc::clone(&server.app().clock);
        let started = || {
            let catalogue = Catalogue::open(server.shared_store(), Arc::clone(&clock), KeyRing::fixed()).unwrap();
            end_interrupted(&catalogue);
            let fit = fits_of(&catalogue.workspace(FIRST).unwrap(), LEVEL).last().unwrap().clone();
            let (lines, _) = catalogue.audit(FIRST, &AuditFilter::default(), None, 100).unwrap();
            let begun = lines.iter().find(|line| line.action == "installation.fit").unwrap();
            assert_eq!(begun.after.as_ref().unwrap()["use"], true, "and who asked for it to be used did so there");
            let ended: Vec<_> = lines.into_iter().filter(|line| line.action == "installation.fitted").collect();
            (fit, ended)
        };
        let (first, lines) = started();
        assert_eq!(first.status, FitStatus::Failed);
        assert_eq!(first.error.as_deref(), Some("the server stopped before it was done; fit again"));
        assert_eq!((first.finished_at, lines.len()), (Some(clock.now()), 1));
        assert_eq!(lines[0].after, Some(json!({ "fit": 1, "status": "failed", "interrupted": true })));
        server.clock.advance_ms(60_000);
        let (again, lines) = started();
        assert_eq!((again.finished_at, lines.len()), (first.finished_at, 1));
    }

    /// A process that was taken over from went on to the end of its fit, and put it in the place of what its successor had.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_lost_the_lease_keeps_no_fit() {
        let server = with_level();
        let begun = begin(server.app(), FIRST, Actor::kernel(), "level", Wish::Asked).unwrap();
        server.store().lease("node", "another process", Timestamp(0), 0).unwrap().unwrap();
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.put_fit(succeeded(begun.row.version, "1.0.0", None));
        change.put_state(LEVEL, begun.row.version, vec![1]);
        assert!(matches!(change.commit().map(drop), Err(CatalogueError::Commit(CommitError::Fenced { .. }))));
        keep(server.app(), FIRST, &KeyId::kernel(), begun, Err("anything".to_owned())).unwrap_err();
        assert_eq!(newest_fit(&server).status, FitStatus::Running, "as it was when the lease was lost");
    }

    /// Of one version, the fit was taken for its own whatever form it has.
    #[test]
    fn other_bytes_of_a_dev_version_read_states_of_their_own_form_alone() {
        let mut row = installation_row(LEVEL.0, "level");
        let mut manifest = plugin_row("level", PluginKind::TagModel).manifest;
        manifest.state_version = Some(2);
        for (version, reads) in [("1.0.0", true), ("1.0.0-dev", false)] {
            row.version = version.parse().unwrap();
            assert_eq!(may_read(&row, &manifest, &succeeded(1, version, Some(1))), reads, "{version}");
            assert!(may_read(&row, &manifest, &succeeded(1, version, Some(2))), "{version}");
        }
    }
}
