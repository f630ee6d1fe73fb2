//! Bounds on the figures of fits: one that breaks a bound is held, and what was in use stays in use.

use std::collections::{BTreeMap, BTreeSet};

use super::fits_of;
use crate::catalogue::{FitBound, FitRow, FitStatus, InstallationRow, WorkspaceTables};

/// Which bounds a fit with these figures breaks, in words; `None` where it breaks none. A figure that it has not is one that it
/// breaks every bound of.
pub(super) fn broken(
    guard: &BTreeMap<String, FitBound>,
    metrics: &[(String, f64)],
    in_use: Option<&FitRow>,
) -> Option<String> {
    let mistakes: Vec<String> = guard
        .iter()
        .filter_map(|(name, bound)| {
            let figure = |metrics: &[(String, f64)]| metrics.iter().find(|(of, _)| of == name).map(|(_, value)| *value);
            let Some(value) = figure(metrics) else { return Some(absent(name, metrics)) };
            let before = in_use.and_then(|fit| Some((fit.version, figure(&fit.metrics)?)));
            passed(*bound, value, before).map(|how| format!("`{name}` is {value}, {how}"))
        })
        .collect();
    (!mistakes.is_empty()).then(|| mistakes.join("; "))
}

/// Figures that are named at most where one is absent.
const MAX_NAMED: usize = 20;

/// What is said of a figure that a fit has not.
fn absent(name: &str, metrics: &[(String, f64)]) -> String {
    let has: Vec<String> = metrics.iter().take(MAX_NAMED).map(|(of, _)| format!("`{of}`")).collect();
    match has.as_slice() {
        [] => format!("`{name}` is not among its figures, of which there are none"),
        has => format!("`{name}` is not among its figures, which are {}", has.join(", ")),
    }
}

/// The names in an installation's bounds that no figure of its present version has had, so that every fit breaks them; nothing while
/// no fit of that version has told its figures.
pub(crate) fn unreported(tables: &WorkspaceTables, row: &InstallationRow) -> Vec<String> {
    let told = fits_of(tables, row.id).filter(|fit| fit.plugin_version == row.version && !fit.metrics.is_empty());
    let figures: BTreeSet<&String> = told.flat_map(|fit| fit.metrics.iter().map(|(name, _)| name)).collect();
    let bounds = row.fitting.guard.keys().filter(|name| !figures.is_empty() && !figures.contains(*name));
    bounds.cloned().collect()
}

/// How a figure passes its bound. `before` is the fit in use with its own.
fn passed(bound: FitBound, value: f64, before: Option<(u32, f64)>) -> Option<String> {
    let too_small = bound.min.filter(|min| value < *min).map(|min| format!("less than {min}"));
    let too_large = bound.max.filter(|max| value > *max).map(|max| format!("more than {max}"));
    let changed = bound.max_change.zip(before).filter(|(most, (_, was))| (value - was).abs() > *most);
    let changed = changed.map(|(most, (fit, was))| format!("and {was} in fit {fit}: a change of more than {most}"));
    too_small.or(too_large).or(changed)
}

/// The newest fit of an installation that has ended, where somebody has to look at it: it is held, or it failed.
pub(crate) fn alarm<'a>(tables: &'a WorkspaceTables, row: &InstallationRow) -> Option<&'a FitRow> {
    let newest = fits_of(tables, row.id).rev().find(|fit| fit.status != FitStatus::Running)?;
    matches!(newest.status, FitStatus::Held | FitStatus::Failed).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::FIRST;
    use crate::catalogue::Actor;
    use crate::fitting::tests::{LEVEL, succeeded, with_level};

    #[test]
    fn a_bound_says_how_it_is_broken() {
        let bound = |min, max, max_change| FitBound { min, max, max_change };
        let mut fit = succeeded(3, "1.0.0", None);
        fit.metrics = vec![("auc".to_owned(), 0.8)];
        let look = |bound, auc: f64, in_use| {
            broken(&BTreeMap::from([("auc".to_owned(), bound)]), &[("auc".to_owned(), auc)], in_use)
        };
        assert_eq!(look(bound(Some(0.7), Some(0.9), Some(0.05)), 0.8, Some(&fit)), None);
        assert_eq!(look(bound(Some(0.7), None, None), 0.7, None), None, "at the bound is within it");
        assert_eq!(look(bound(Some(0.7), None, None), 0.61, None).unwrap(), "`auc` is 0.61, less than 0.7");
        assert_eq!(look(bound(None, Some(0.9), None), 0.95, None).unwrap(), "`auc` is 0.95, more than 0.9");
        let changed = look(bound(None, None, Some(0.25)), 0.5, Some(&fit)).unwrap();
        assert_eq!(changed, "`auc` is 0.5, and 0.8 in fit 3: a change of more than 0.25");
        assert_eq!(look(bound(None, None, Some(0.25)), 0.5, None), None, "there is nothing that it changed from");
        let guard = BTreeMap::from([
            ("auc".to_owned(), bound(Some(0.7), None, None)),
            ("mae".to_owned(), bound(None, Some(1.0), None)),
        ]);
        let both = broken(&guard, &[("mae".to_owned(), 2.0)], Some(&fit)).unwrap();
        assert_eq!(both, "`auc` is not among its figures, which are `mae`; `mae` is 2, more than 1");
        assert_eq!(absent("auc", &[]), "`auc` is not among its figures, of which there are none");
        assert_eq!(broken(&BTreeMap::new(), &[], None), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bound_on_a_figure_that_no_fit_has_had_is_told() {
        let server = with_level();
        let tables = || server.app().catalogue.workspace(FIRST).unwrap();
        let mut row = InstallationRow::clone(&tables().installations[&LEVEL]);
        let bound = FitBound { min: Some(0.5), max: None, max_change: None };
        row.fitting.guard = BTreeMap::from([("auc".to_owned(), bound), ("acu".to_owned(), bound)]);
        assert_eq!(unreported(&tables(), &row), [""; 0], "nobody knows its figures yet");
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.put_fit(FitRow { metrics: vec![("auc".to_owned(), 0.8)], ..succeeded(1, "1.0.0", None) });
        drop(change.commit().unwrap());
        assert_eq!(unreported(&tables(), &row), ["acu"]);
        row.version = semver::Version::new(2, 0, 0);
        assert_eq!(unreported(&tables(), &row), [""; 0], "another version may have others");
    }
}
