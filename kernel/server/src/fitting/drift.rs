//! How far what a fit read of its inputs has moved from what the fit in use learnt from, and bounds on that: a fit beyond one is held,
//! and what was in use stays in use.

use crate::catalogue::{DriftBounds, FitInputRow, FitRow};

/// How far the mean of an input has moved, in standard deviations: |m₁ − m₂| / √((s₁² + s₂²) / 2), the standardised difference of
/// P. C. Austin, "Balance diagnostics for comparing the distribution of baseline covariates between treatment groups in
/// propensity-score matched samples", Statistics in Medicine 28 (2009), which holds of shares too. Infinite where all had one value
/// and all have another; `None` where one of the two has no mean or no deviation.
pub(crate) fn shift(input: &FitInputRow, before: &FitInputRow) -> Option<f64> {
    let [(mean, deviation), (mean_before, deviation_before)] = [some_figures(input)?, some_figures(before)?];
    // As `hypot`, because the square of a large deviation is more than a float can hold.
    let pooled = deviation.hypot(deviation_before) / std::f64::consts::SQRT_2;
    let moved = (mean - mean_before).abs();
    Some(if moved == 0.0 { 0.0 } else { moved / pooled })
}

fn some_figures(input: &FitInputRow) -> Option<(f64, f64)> {
    if input.present > 0 { input.mean.zip(input.deviation) } else { None }
}

/// The share of people who have not the input.
#[allow(clippy::cast_precision_loss, reason = "numbers of people in a share")]
pub(crate) fn absent_share(input: &FitInputRow) -> f64 {
    let all = input.present.saturating_add(input.absent).max(1) as f64;
    input.absent as f64 / all
}

/// Which inputs are beyond the bounds, in words; `None` where none is, and where there is nothing that they moved from. The figures
/// themselves are left out: they tell of people, and whoever looks after plugins need not see any.
pub(super) fn beyond(bounds: DriftBounds, inputs: &[FitInputRow], in_use: Option<&FitRow>) -> Option<String> {
    let in_use = in_use?;
    let mistakes: Vec<String> = inputs
        .iter()
        .filter_map(|input| {
            let before = in_use.inputs.iter().find(|before| before.name == input.name)?;
            let has_moved = bounds.max_shift.zip(shift(input, before)).filter(|(most, shift)| shift > most);
            let moved =
                has_moved.map(|(most, _)| format!("its mean has moved by more than {most} standard deviations"));
            let change = (absent_share(input) - absent_share(before)).abs();
            let has_changed = bounds.max_absent_change.filter(|most| change > *most);
            let changed =
                has_changed.map(|most| format!("the share of people without it has changed by more than {most}"));
            let how: Vec<String> = moved.into_iter().chain(changed).collect();
            (!how.is_empty()).then(|| format!("input `{}`: {}", input.name, how.join(", and ")))
        })
        .collect();
    let fit = in_use.version;
    (!mistakes.is_empty())
        .then(|| format!("the inputs are not those that fit {fit} learnt from: {}", mistakes.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fitting::tests::succeeded;

    fn input(name: &str, (present, absent): (u64, u64), mean: f64, deviation: f64) -> FitInputRow {
        let (mean, deviation) = (Some(mean), Some(deviation));
        FitInputRow { name: name.to_owned(), present, absent, mean, deviation }
    }

    #[test]
    fn a_mean_moves_in_standard_deviations() {
        let of = |mean, deviation| input("orders", (10, 0), mean, deviation);
        assert_eq!(shift(&of(3.0, 2.0), &of(2.0, 2.0)), Some(0.5));
        assert_eq!(shift(&of(2.0, 2.0), &of(3.0, 2.0)), Some(0.5), "either way");
        assert_eq!(shift(&of(7.0, 1.0), &of(2.0, 7.0)), Some(1.0), "the root of half of 1 and 49 is 5");
        assert_eq!(shift(&of(2.0, 0.0), &of(2.0, 0.0)), Some(0.0));
        assert_eq!(shift(&of(3.0, 0.0), &of(2.0, 0.0)), Some(f64::INFINITY));
        assert!(shift(&of(1e300, 1e300), &of(0.0, 1e300)).unwrap() < 1.5, "squares would be infinite");
        let of_before = FitInputRow { deviation: None, ..of(2.0, 0.0) };
        assert_eq!(shift(&of(3.0, 1.0), &of_before), None, "a release before kept no deviation");
        assert_eq!(shift(&of(3.0, 1.0), &input("orders", (0, 10), 0.0, 0.0)), None, "and of nobody there is no mean");
    }

    #[test]
    fn inputs_beyond_a_bound_are_said_without_their_figures() {
        let mut in_use = succeeded(3, "1.0.0", None);
        in_use.inputs = vec![input("orders", (10, 0), 2.0, 1.0), input("spent", (5, 5), 10.0, 1.0)];
        let now =
            [input("orders", (5, 5), 4.0, 1.0), input("spent", (5, 5), 10.5, 1.0), input("new", (1, 9), 0.0, 0.0)];
        let look =
            |max_shift, max_absent_change, in_use| beyond(DriftBounds { max_shift, max_absent_change }, &now, in_use);
        let learnt = "the inputs are not those that fit 3 learnt from: ";
        let (mean, share) =
            ("its mean has moved by more than", "the share of people without it has changed by more than");
        let both = look(Some(1.0), Some(0.25), Some(&in_use)).unwrap();
        assert_eq!(both, format!("{learnt}input `orders`: {mean} 1 standard deviations, and {share} 0.25"));
        let each = look(Some(0.25), None, Some(&in_use)).unwrap();
        let of = |name: &str| format!("input `{name}`: {mean} 0.25 standard deviations");
        assert_eq!(each, format!("{learnt}{}; {}", of("orders"), of("spent")));
        assert_eq!(look(Some(2.0), Some(0.5), Some(&in_use)), None, "at the bound is within it");
        assert_eq!(look(None, None, Some(&in_use)), None);
        assert_eq!(look(Some(0.0), Some(0.0), None), None, "there is nothing that they moved from");
    }
}
