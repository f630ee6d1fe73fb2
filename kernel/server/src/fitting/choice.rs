//! Choosing the fit in use by hand.

use kith_model::id::InstallationId;
use serde_json::json;

use super::kept::has_state;
use super::{fits_of, may_read};
use crate::api::installations::named;
use crate::catalogue::{Draft, FitRow, FitStatus, InstallationRow};
use crate::error::ApiError;

/// Put a fit that is kept in use. Where there is a newer one that is good, it is a choice, and none takes its place by itself; with
/// the newest the choice ends.
pub(crate) fn use_fit(draft: &mut Draft<'_>, name: &str, number: u32) -> Result<InstallationId, ApiError> {
    let row = InstallationRow::clone(named(draft.tables(), name)?);
    let id = row.id;
    let missing = || ApiError::missing(format!("no fit {number} of `{name}`"));
    let plugin = draft.tables().plugin_of(&row).cloned().ok_or_else(missing)?;
    let fit = draft.tables().fits.get(&(id, number)).cloned().ok_or_else(missing)?;
    if !has_state(&fit) {
        let message =
            format!("fit {number} of `{name}` has learnt nothing; `kith plugin fits {name}` shows which have");
        return Err(ApiError::Conflict { code: "no-state", message });
    }
    if !may_read(&row, &plugin.manifest, &fit) {
        let message = format!(
            "fit {number} of `{name}` was made by version {}, and version {} reads states of another form",
            fit.plugin_version, row.version
        );
        return Err(ApiError::Conflict { code: "other-form", message });
    }
    let is_good = |fit: &&FitRow| {
        (fit.status == FitStatus::Succeeded || fit.version == number) && may_read(&row, &plugin.manifest, fit)
    };
    let newest = fits_of(draft.tables(), id).rev().find(is_good).map(|fit| fit.version);
    let fit_is_chosen = newest != Some(number);
    if row.fit == Some(number) && row.fit_is_chosen == fit_is_chosen && row.waits_for_fit.is_none() {
        return Ok(id);
    }
    draft.use_state(id, number)?;
    if fit.status == FitStatus::Held {
        // Whoever puts it in use has seen why it was held.
        draft.put_fit(FitRow { status: FitStatus::Succeeded, error: None, ..FitRow::clone(&fit) });
    }
    let seen = |fit: Option<u32>, is_chosen: bool| json!({ "fit": fit, "chosen": is_chosen });
    let (before, mut after) = (seen(row.fit, row.fit_is_chosen), seen(Some(number), fit_is_chosen));
    if fit.status == FitStatus::Held {
        after["was_held"] = json!(fit.error);
    }
    draft.audit("installation.use-fit", name, Some(before), Some(after))?;
    let (fit, updated_at) = (Some(number), draft.now());
    draft.put_installation(InstallationRow { fit, fit_is_chosen, waits_for_fit: None, updated_at, ..row });
    Ok(id)
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{Fitted, PluginKind};
    use kith_pipeline::Measure;

    use super::*;
    use crate::api::tests::FIRST;
    use crate::api::tests::installations::plugin_row;
    use crate::catalogue::{
        Actor, ChampionRow, DriftBounds, FitBound, FitInputRow, FitUse, HeldOutRow, JudgedRow, WaitRow,
    };
    use crate::fitting::kept::put_fitted;
    use crate::fitting::tests::{LEVEL, succeeded, with_level};
    use crate::fitting::{Wish, alarm, choose_fit};
    use crate::serve::tests::TestServer;

    /// Change the catalogue past the kernel, which would have to load a component.
    fn change<T>(server: &TestServer, edit: impl FnOnce(&mut Draft<'_>) -> T) -> T {
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let done = edit(&mut change);
        drop(change.commit().unwrap());
        done
    }

    /// The fit in use, whether it was chosen, the state in use, and the status of the newest fit.
    fn stands(server: &TestServer) -> (Option<u32>, bool, Vec<u8>, FitStatus) {
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        let row = tables.installation("level").unwrap();
        let newest = fits_of(&tables, LEVEL).last().unwrap().status;
        (row.fit, row.fit_is_chosen, tables.states[&LEVEL].1.to_vec(), newest)
    }

    fn fit(server: &TestServer, version: u32, auc: f64, wish: Wish) {
        change(server, |draft| {
            let present = InstallationRow::clone(draft.tables().installation("level").unwrap());
            let fitted = Fitted { state: vec![version as u8], metrics: vec![("auc".to_owned(), auc)] };
            put_fitted(draft, present, succeeded(version, "1.0.0", None), &fitted, wish).unwrap();
        });
    }

    fn alarmed(server: &TestServer) -> Option<(u32, String)> {
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        let fit = alarm(&tables, tables.installation("level").unwrap())?;
        Some((fit.version, fit.error.clone().unwrap()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_that_breaks_a_bound_is_held_until_somebody_uses_it() {
        let server = with_level();
        fit(&server, 1, 0.8, Wish::Asked);
        change(&server, |draft| {
            let mut row = InstallationRow::clone(draft.tables().installation("level").unwrap());
            let bound = FitBound { min: Some(0.7), ..FitBound::default() };
            row.fitting.guard.insert("auc".to_owned(), bound);
            draft.put_installation(row);
        });
        fit(&server, 2, 0.6, Wish::AskedToUse);
        assert_eq!(stands(&server), (Some(1), false, vec![1], FitStatus::Held));
        assert_eq!(alarmed(&server), Some((2, "`auc` is 0.6, less than 0.7".to_owned())));
        change(&server, |draft| use_fit(draft, "level", 2)).unwrap();
        assert_eq!(stands(&server), (Some(2), false, vec![2], FitStatus::Succeeded), "it is the newest");
        assert_eq!(alarmed(&server), None);
        fit(&server, 3, 0.75, Wish::Scheduled);
        assert_eq!(stands(&server), (Some(3), false, vec![3], FitStatus::Succeeded));
    }

    /// Where a source broke and everybody lost an input, a fit was put in use that had learnt from its absence.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_whose_inputs_have_moved_is_held_until_somebody_uses_it() {
        let server = with_level();
        let fit = |version: u32, absent: u64, guard: &str| {
            change(&server, |draft| {
                let mut present = InstallationRow::clone(draft.tables().installation("level").unwrap());
                present.fitting.drift = DriftBounds { max_shift: Some(0.5), max_absent_change: Some(0.25) };
                let bound = FitBound { min: Some(0.9), ..FitBound::default() };
                present.fitting.guard =
                    [(guard.to_owned(), bound)].into_iter().filter(|(name, _)| !name.is_empty()).collect();
                let orders = FitInputRow {
                    name: "orders".to_owned(),
                    present: 10 - absent,
                    absent,
                    mean: Some(2.0),
                    deviation: Some(1.0),
                };
                let done = FitRow { inputs: vec![orders], ..succeeded(version, "1.0.0", None) };
                let fitted = Fitted { state: vec![version as u8], metrics: vec![("auc".to_owned(), 0.5)] };
                put_fitted(draft, present, done, &fitted, Wish::Scheduled).unwrap();
            });
        };
        fit(1, 0, "");
        fit(2, 1, "");
        assert_eq!(stands(&server), (Some(2), false, vec![2], FitStatus::Succeeded));
        fit(3, 9, "auc");
        assert_eq!(stands(&server), (Some(2), false, vec![2], FitStatus::Held));
        let why = "`auc` is 0.5, less than 0.9; the inputs are not those that fit 2 learnt from: input `orders`: the share of \
                   people without it has changed by more than 0.25";
        assert_eq!(alarmed(&server), Some((3, why.to_owned())));
        change(&server, |draft| use_fit(draft, "level", 3)).unwrap();
        fit(4, 9, "");
        assert_eq!(stands(&server), (Some(4), false, vec![4], FitStatus::Succeeded), "people are as in the fit in use");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_takes_the_place_of_one_that_is_no_better() {
        let server = with_level();
        // Figures of the fit and, where there is one, of the fit in use.
        let fit = |version: u32, auc: f64, champion: Option<(u32, f64)>| {
            change(&server, |draft| {
                let mut present = InstallationRow::clone(draft.tables().installation("level").unwrap());
                present.fitting.uses = FitUse::Better;
                let measures = |auc| [(Measure::Auc, auc)].into();
                let judged = |auc| JudgedRow { measures: measures(auc), unanswered: 0, problem: None };
                let champion = champion.map(|(fit, auc)| ChampionRow { fit, judged: judged(auc) });
                let (measure, challenger) = (Measure::Auc, judged(auc));
                let held_out = Some(HeldOutRow { rows: 9, drawn: 9, of: 9, measure, challenger, champion });
                let done = FitRow { held_out, ..succeeded(version, "1.0.0", None) };
                let fitted = Fitted { state: vec![version as u8], metrics: Vec::new() };
                put_fitted(draft, present, done, &fitted, Wish::AskedToUse).unwrap();
            });
        };
        fit(1, 0.6, None);
        assert_eq!(stands(&server), (Some(1), false, vec![1], FitStatus::Succeeded), "there was no champion");
        fit(2, 0.55, Some((1, 0.6)));
        assert_eq!(stands(&server), (Some(1), false, vec![1], FitStatus::Held));
        let why = "`auc` is 0.55 on the 9 rows held out, and 0.6 in fit 1";
        assert_eq!(alarmed(&server), Some((2, why.to_owned())));
        fit(3, 0.7, Some((1, 0.6)));
        assert_eq!((stands(&server), alarmed(&server)), ((Some(3), false, vec![3], FitStatus::Succeeded), None));
        fit(4, 0.65, Some((3, 0.7)));
        change(&server, |draft| use_fit(draft, "level", 4)).unwrap();
        assert_eq!(stands(&server), (Some(4), false, vec![4], FitStatus::Succeeded), "by hand it is used all the same");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fit_that_was_chosen_stays_in_use_until_another_is() {
        let server = with_level();
        fit(&server, 1, 0.8, Wish::Asked);
        fit(&server, 2, 0.8, Wish::Asked);
        let uses = |number| change(&server, |draft| use_fit(draft, "level", number)).unwrap();
        uses(1);
        assert_eq!(stands(&server), (Some(1), true, vec![1], FitStatus::Succeeded));
        for (version, wish) in [(3, Wish::Scheduled), (4, Wish::Asked)] {
            fit(&server, version, 0.8, wish);
            assert_eq!(stands(&server), (Some(1), true, vec![1], FitStatus::Succeeded), "{wish:?}");
        }
        fit(&server, 5, 0.8, Wish::AskedToUse);
        assert_eq!(stands(&server), (Some(5), false, vec![5], FitStatus::Succeeded));
        uses(3);
        assert_eq!(stands(&server), (Some(3), true, vec![3], FitStatus::Succeeded), "it was kept");
        uses(5);
        fit(&server, 6, 0.8, Wish::Scheduled);
        assert_eq!(stands(&server), (Some(6), false, vec![6], FitStatus::Succeeded), "the newest ended the choice");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_upgrade_keeps_the_choice_that_it_can_read() {
        let server = with_level();
        fit(&server, 1, 0.8, Wish::Asked);
        fit(&server, 2, 0.8, Wish::Asked);
        change(&server, |draft| use_fit(draft, "level", 1)).unwrap();
        let upgraded = |state_version| {
            let mut draft = server.app().catalogue.rehearse(FIRST, Actor::kernel()).unwrap();
            let before = InstallationRow::clone(draft.tables().installation("level").unwrap());
            let mut row = InstallationRow { version: "1.1.0".parse().unwrap(), ..before.clone() };
            let mut manifest = plugin_row("level", PluginKind::TagModel).manifest;
            manifest.state_version = state_version;
            choose_fit(&mut draft, &before, &mut row, &manifest).unwrap();
            (row.fit, row.fit_is_chosen, row.waits_for_fit.is_some())
        };
        assert_eq!(upgraded(None), (Some(1), true, false));
        assert_eq!(upgraded(Some(2)), (Some(1), true, true), "the way back finds what was chosen");
        // What ends the wait ends the choice.
        change(&server, |draft| {
            let mut row = InstallationRow::clone(draft.tables().installation("level").unwrap());
            let (since, why) = (draft.now(), String::new());
            row.waits_for_fit = Some(WaitRow { since, why, serves: row.version.clone() });
            draft.put_installation(row);
        });
        fit(&server, 3, 0.8, Wish::Scheduled);
        assert_eq!(stands(&server), (Some(3), false, vec![3], FitStatus::Succeeded));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_used_is_refused() {
        let server = with_level();
        fit(&server, 1, 0.8, Wish::Asked);
        change(&server, |draft| {
            draft.put_fit(FitRow { status: FitStatus::Failed, ..succeeded(2, "1.0.0", None) });
            draft.put_fit(succeeded(3, "2.0.0", Some(2)));
        });
        let refused = |name: &str, number| {
            let mut draft = server.app().catalogue.rehearse(FIRST, Actor::kernel()).unwrap();
            use_fit(&mut draft, name, number).unwrap_err()
        };
        assert!(matches!(refused("none", 1), ApiError::NotFound { .. }));
        assert!(matches!(refused("level", 4), ApiError::NotFound { .. }));
        assert!(matches!(refused("level", 2), ApiError::Conflict { code: "no-state", .. }));
        assert!(matches!(refused("level", 3), ApiError::Conflict { code: "other-form", .. }));
    }
}
