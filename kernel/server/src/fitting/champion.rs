//! The fit in use as the champion: where an installation wants it so, a fit takes its place only if it is at least as good on what
//! is held out.

use std::cmp::Ordering;

use kith_pipeline::{HeldOut, Judged, Measure};

use crate::catalogue::{ChampionRow, FitUse, FittingRow, HeldOutRow, InstallationRow, JudgedRow};

/// What is kept of a comparison.
pub(super) fn row_of(held_out: HeldOut, rules: &FittingRow) -> HeldOutRow {
    let HeldOut { rows, drawn, of, has_truths, challenger, champion } = held_out;
    let judged = |judged: Judged| {
        let Judged { measures, unanswered, problem } = judged;
        JudgedRow { measures, unanswered, problem }
    };
    HeldOutRow {
        rows,
        drawn,
        of,
        measure: rules.measure.unwrap_or(Measure::usual(has_truths)),
        challenger: judged(challenger),
        champion: champion.map(|(fit, it)| ChampionRow { fit, judged: judged(it) }),
    }
}

/// How the fit stands to the one that was in use: greater where it is better. `None` where one of the two has not the figure.
pub(crate) fn compared(row: &HeldOutRow) -> Option<Ordering> {
    let figure = |judged: &JudgedRow| judged.measures.get(&row.measure).copied();
    let (one, other) = (figure(&row.challenger)?, figure(&row.champion.as_ref()?.judged)?);
    Some(row.measure.compare(one, other))
}

/// Why a fit is not shown to be as good as the one in use, in words; `None` where it is, and where it need not be: nothing is in use
/// that answers for anybody, or every fit is used.
pub(super) fn outdone(present: &InstallationRow, held_out: Option<&HeldOutRow>) -> Option<String> {
    let in_use = present.fit.filter(|_| present.waits_for_fit.is_none())?;
    if present.fitting.uses == FitUse::Always {
        return None;
    }
    let Some(row) = held_out else {
        return Some("its version has no `[training]`, so that nobody is held out to compare fits by".to_owned());
    };
    let Some(champion) = row.champion.as_ref().filter(|champion| champion.fit == in_use) else {
        return Some(format!("fit {in_use} was put in use meanwhile, and it was not compared with that; fit again"));
    };
    if champion.judged.problem.is_some() {
        // What nothing is known of may answer for everybody.
        let answers_nobody = row.drawn > 0 && row.challenger.unanswered == row.drawn;
        return row.challenger.problem.clone().filter(|_| answers_nobody);
    }
    if let Some(problem) = &row.challenger.problem {
        return Some(format!("it could not be compared with fit {in_use}: {problem}"));
    }
    // The measures are of those for whom both have an answer: who answers for few may look good by them.
    let [unanswered, before] = [row.challenger.unanswered, champion.judged.unanswered];
    if unanswered > before {
        let drawn = row.drawn;
        return Some(format!(
            "it has no answer for {unanswered} of the {drawn} rows held out, and fit {in_use} has none for {before}"
        ));
    }
    let name = row.measure.name();
    match compared(row) {
        // Until somebody chooses another, no fit can be told to be as good.
        None if row.challenger.measures.keys().any(|told| told.is_of_truths() != row.measure.is_of_truths()) => {
            Some(format!("`{name}` is no measure of its labels; `--fit-measure` of `kith plugin change` sets another"))
        }
        None => Some(format!("`{name}` cannot be told of it and of fit {in_use} by the {} rows held out", row.rows)),
        Some(Ordering::Less) => {
            let figure = |judged: &JudgedRow| judged.measures.get(&row.measure).copied().unwrap_or_default();
            let (one, other) = (figure(&row.challenger), figure(&champion.judged));
            Some(format!("`{name}` is {one} on the {} rows held out, and {other} in fit {in_use}", row.rows))
        }
        Some(Ordering::Equal | Ordering::Greater) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kith_model::time::Timestamp;

    use super::*;
    use crate::api::tests::installation_row;
    use crate::catalogue::WaitRow;

    fn judged(auc: Option<f64>) -> JudgedRow {
        let measures = auc.map(|auc| (Measure::Auc, auc)).into_iter().collect();
        JudgedRow { measures, unanswered: 0, problem: None }
    }

    fn held_out(challenger: Option<f64>, champion: Option<f64>) -> HeldOutRow {
        let champion = Some(ChampionRow { fit: 3, judged: judged(champion) });
        HeldOutRow { rows: 40, drawn: 50, of: 60, measure: Measure::Auc, challenger: judged(challenger), champion }
    }

    #[test]
    fn a_fit_that_is_not_as_good_says_by_how_much() {
        let mut present = installation_row(901, "level");
        let look = |present: &InstallationRow, one, other| outdone(present, Some(&held_out(one, other)));
        present.fitting.uses = FitUse::Better;
        assert_eq!(look(&present, Some(0.1), Some(0.9)), None, "nothing is in use");
        present.fit = Some(3);
        assert_eq!(look(&present, Some(0.75), Some(0.75)), None, "as good is good enough");
        assert_eq!(look(&present, Some(0.8), Some(0.75)), None);
        let worse = look(&present, Some(0.7), Some(0.75)).unwrap();
        assert_eq!(worse, "`auc` is 0.7 on the 40 rows held out, and 0.75 in fit 3");
        let other = HeldOutRow { measure: Measure::Rmse, ..held_out(Some(0.8), Some(0.75)) };
        let why = "`rmse` is no measure of its labels; `--fit-measure` of `kith plugin change` sets another";
        assert_eq!(outdone(&present, Some(&other)).as_deref(), Some(why));
        let untold = look(&present, None, Some(0.75)).unwrap();
        assert_eq!(untold, "`auc` cannot be told of it and of fit 3 by the 40 rows held out");
        let mut row = held_out(Some(0.9), Some(0.75));
        (row.challenger.unanswered, row.champion.as_mut().unwrap().judged.unanswered) = (10, 10);
        assert_eq!(outdone(&present, Some(&row)), None, "neither can take these");
        row.challenger.unanswered = 11;
        let fewer = outdone(&present, Some(&row)).unwrap();
        assert_eq!(fewer, "it has no answer for 11 of the 50 rows held out, and fit 3 has none for 10");
        let other = outdone(&InstallationRow { fit: Some(4), ..present.clone() }, Some(&held_out(None, None)));
        assert_eq!(other.unwrap(), "fit 4 was put in use meanwhile, and it was not compared with that; fit again");
        assert!(outdone(&present, None).unwrap().contains("no `[training]`"));

        let mut row = held_out(Some(0.1), None);
        row.champion.as_mut().unwrap().judged.problem = Some("the version cannot read it".to_owned());
        assert_eq!(outdone(&present, Some(&row)), None, "what answers for nobody is no champion");
        row.challenger =
            JudgedRow { unanswered: 50, problem: Some("it answers for nobody".to_owned()), ..judged(None) };
        assert_eq!(outdone(&present, Some(&row)).as_deref(), Some("it answers for nobody"), "and nor is this");
        let mut row = held_out(None, None);
        row.challenger.problem = Some("it answered for nobody".to_owned());
        let why = outdone(&present, Some(&row)).unwrap();
        assert_eq!(why, "it could not be compared with fit 3: it answered for nobody");

        let (since, serves) = (Timestamp(0), present.version.clone());
        let waits_for_fit = Some(WaitRow { since, why: String::new(), serves });
        let waiting = InstallationRow { waits_for_fit, ..present.clone() };
        assert_eq!(look(&waiting, Some(0.1), Some(0.9)), None, "the version cannot read what is in use");
        present.fitting.uses = FitUse::Always;
        assert_eq!(look(&present, Some(0.1), Some(0.9)), None);
    }

    #[test]
    fn what_is_kept_of_a_comparison_names_its_measure() {
        let of = |has_truths, measure| {
            let judged = Judged { measures: BTreeMap::from([(Measure::Mae, 0.5)]), unanswered: 2, problem: None };
            let (challenger, champion) = (judged.clone(), Some((7, judged)));
            let held_out = HeldOut { rows: 4, drawn: 5, of: 6, has_truths, challenger, champion };
            row_of(held_out, &FittingRow { measure, ..FittingRow::default() })
        };
        assert_eq!(of(true, None).measure, Measure::Auc);
        assert_eq!(compared(&of(true, None)), None);
        assert_eq!(of(false, None).measure, Measure::Rmse);
        let row = of(false, Some(Measure::Mae));
        assert_eq!((row.rows, row.drawn, row.of, row.champion.as_ref().unwrap().fit), (4, 5, 6, 7));
        assert_eq!((row.challenger.unanswered, compared(&row)), (2, Some(Ordering::Equal)));
    }
}
