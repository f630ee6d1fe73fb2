//! Bounds on the figures of fits: one that breaks a bound is held, and what was in use stays in use.

use std::collections::BTreeMap;

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
            let Some(value) = figure(metrics) else { return Some(format!("`{name}` is not among its figures")) };
            let before = in_use.and_then(|fit| Some((fit.version, figure(&fit.metrics)?)));
            passed(*bound, value, before).map(|how| format!("`{name}` is {value}, {how}"))
        })
        .collect();
    (!mistakes.is_empty()).then(|| mistakes.join("; "))
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
    use crate::fitting::tests::succeeded;

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
        assert_eq!(both, "`auc` is not among its figures; `mae` is 2, more than 1");
        assert_eq!(broken(&BTreeMap::new(), &[], None), None);
    }
}
