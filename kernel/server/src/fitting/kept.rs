//! What comes of a fit that went well: its state is kept, and put in use unless something holds it or somebody chose another. So
//! many are kept.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::budget::table;
use kith_model::id::InstallationId;
use kith_model::plugin::Fitted;
use serde_json::json;

use super::{Wish, champion, drift, fits_of, guard};
use crate::catalogue::{CatalogueError, Draft, FitRow, FitStatus, InstallationRow};

/// Keep a fit that went well, of which `done` is all but what it learnt.
pub(super) fn put_fitted(
    draft: &mut Draft<'_>,
    present: InstallationRow,
    done: FitRow,
    fitted: &Fitted,
    wish: Wish,
) -> Result<(), CatalogueError> {
    let (id, version) = (done.installation, done.version);
    let in_use = present.fit.and_then(|fit| draft.tables().fits.get(&(id, fit)));
    let error = why_held(&present, &done, &fitted.metrics, in_use.map(AsRef::as_ref));
    let status = if error.is_some() { FitStatus::Held } else { FitStatus::Succeeded };
    if let Some(why) = &error {
        draft.audit("installation.hold-fit", &present.name, None, Some(json!({ "fit": version, "why": why })))?;
    }
    let state_bytes = fitted.state.len() as u64;
    draft.put_fit(FitRow { status, error, metrics: fitted.metrics.clone(), state_bytes, ..done });
    // Of a choice that the version cannot read nothing is left to keep.
    let is_free = !present.fit_is_chosen || present.waits_for_fit.is_some() || wish == Wish::AskedToUse;
    if is_free && status == FitStatus::Succeeded {
        draft.put_state(id, version, fitted.state.clone());
        let fit = Some(version);
        draft.put_installation(InstallationRow { fit, fit_is_chosen: false, waits_for_fit: None, ..present });
    } else {
        draft.keep_state(id, version, fitted.state.clone());
    }
    Ok(())
}

/// What holds a fit with these figures, in words; `None` where nothing does.
fn why_held(
    present: &InstallationRow,
    done: &FitRow,
    metrics: &[(String, f64)],
    in_use: Option<&FitRow>,
) -> Option<String> {
    let broken = guard::broken(&present.fitting.guard, metrics, in_use);
    // Of labels the inputs are those of the past, and else those of now: they differ without anybody having moved.
    let alike = in_use.filter(|fit| fit.held_out.is_some() == done.held_out.is_some());
    let drifted = drift::beyond(present.fitting.drift, &done.inputs, alike);
    let outdone = champion::outdone(present, done.held_out.as_ref());
    let reasons: Vec<String> = broken.into_iter().chain(drifted).chain(outdone).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Take out the fits that are beyond what is kept of an installation.
pub(super) fn forget_oldest(draft: &mut Draft<'_>, id: InstallationId) {
    let in_use = draft.tables().installations.get(&id).and_then(|row| row.fit);
    let kept = usize::try_from(table::FITS_KEPT.default).unwrap_or(usize::MAX);
    for version in beyond(fits_of(draft.tables(), id).rev(), in_use, kept) {
        draft.remove_fit(id, version);
        table::FITS_KEPT.count();
    }
}

/// Of an installation's fits, the newest first, those beyond the newest `kept` of their kind. One in use is never among them, nor
/// the newest good one of each form of state, for a way back to a version that reads it.
fn beyond<'a>(fits: impl Iterator<Item = &'a FitRow>, in_use: Option<u32>, kept: usize) -> Vec<u32> {
    let mut of_kind: BTreeMap<bool, usize> = BTreeMap::new();
    let mut forms = BTreeSet::new();
    let is_beyond = |fit: &&FitRow| {
        let seen = of_kind.entry(has_state(fit)).or_default();
        *seen += 1;
        let is_newest_of_form = fit.status == FitStatus::Succeeded && forms.insert(fit.state_version);
        *seen > kept && fit.status != FitStatus::Running && in_use != Some(fit.version) && !is_newest_of_form
    };
    fits.filter(is_beyond).map(|fit| fit.version).collect()
}

/// Whether a fit's state is kept.
pub(super) fn has_state(fit: &FitRow) -> bool {
    match fit.status {
        FitStatus::Succeeded | FitStatus::Held => true,
        FitStatus::Running | FitStatus::Failed => false,
    }
}

#[cfg(test)]
mod tests {
    use kith_pipeline::Measure;

    use super::*;
    use crate::api::tests::installation_row;
    use crate::catalogue::{DriftBounds, FitInputRow, HeldOutRow, JudgedRow};
    use crate::fitting::tests::succeeded;

    /// The first fit of a version with labels was held for what it read of the past.
    #[test]
    fn inputs_of_the_past_are_not_held_against_those_of_now() {
        let mut present = installation_row(901, "level");
        present.fitting.drift = DriftBounds { max_shift: None, max_absent_change: Some(0.25) };
        let fit = |version, absent, has_labels: bool| {
            let challenger = JudgedRow { measures: BTreeMap::new(), unanswered: 0, problem: None };
            let held_out = HeldOutRow { rows: 0, drawn: 0, of: 0, measure: Measure::Auc, challenger, champion: None };
            let (name, mean, deviation) = ("orders".to_owned(), None, None);
            let inputs = vec![FitInputRow { name, present: 10 - absent, absent, mean, deviation }];
            FitRow { inputs, held_out: has_labels.then_some(held_out), ..succeeded(version, "1.0.0", None) }
        };
        let held = |done: &FitRow, in_use: &FitRow| why_held(&present, done, &[], Some(in_use)).is_some();
        assert!(held(&fit(2, 9, false), &fit(1, 0, false)) && held(&fit(2, 9, true), &fit(1, 0, true)));
        assert!(!held(&fit(2, 9, true), &fit(1, 0, false)) && !held(&fit(2, 9, false), &fit(1, 0, true)));
    }

    #[test]
    fn so_many_fits_are_kept_and_the_one_in_use() {
        let kept = usize::try_from(table::FITS_KEPT.default).unwrap();
        let newest = 3 * u32::try_from(kept).unwrap();
        // Each third one failed.
        let fits: Vec<FitRow> = (1..=newest)
            .map(|version| {
                let status = if version % 3 == 0 { FitStatus::Failed } else { FitStatus::Succeeded };
                FitRow { status, ..succeeded(version, "1.0.0", None) }
            })
            .collect();
        let gone = beyond(fits.iter().rev(), Some(2), kept);
        let left: Vec<u32> = (1..=newest).filter(|version| !gone.contains(version)).collect();
        assert_eq!(
            left.iter().filter(|version| *version % 3 == 0).count(),
            kept,
            "those that failed have room of their own"
        );
        let with_state: Vec<u32> = left.iter().copied().filter(|version| version % 3 != 0).collect();
        assert_eq!((with_state.len(), with_state[0], with_state[1]), (kept + 1, 2, newest / 2 + 1));
        assert_eq!(left.last(), Some(&newest), "whatever came of it, so that no number is given twice");
        assert!(beyond(fits.iter().rev(), None, usize::MAX).is_empty());
        // A schedule fits on after an upgrade, and the way back needs what the earlier version reads.
        let forms = |version| succeeded(version, "1.0.0", Some(if version < 3 { 1 } else { 2 }));
        let fits: Vec<FitRow> = (1..=newest).map(forms).collect();
        let gone = beyond(fits.iter().rev(), None, kept);
        assert!(gone.contains(&1) && !gone.contains(&2), "{gone:?}");
    }
}
