//! Special functions of the two models: log-gamma, digamma, and the one hypergeometric expression that BG/NBD needs.
//!
//! Pure and without iteration limits that depend on the platform. What the functions mean for customers is in `bg_nbd` and `gamma_gamma`.

/// The natural logarithm of Γ(x), for x > 0.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// ψ(x), the derivative of [`ln_gamma`], for x > 0. Absolute error below 1e-13 for x ≥ 1e-3.
pub(crate) fn digamma(x: f64) -> f64 {
    // The recurrence ψ(x) = ψ(x + 1) − 1/x carries small arguments to where seven terms of the asymptotic series suffice.
    let mut shifted = x;
    let mut recurrence = 0.0;
    while shifted < 10.0 {
        recurrence -= 1.0 / shifted;
        shifted += 1.0;
    }
    let inverse_square = 1.0 / (shifted * shifted);
    // B₂ₙ / 2n of Abramowitz and Stegun 6.3.18, n = 1 … 7, by Horner's rule.
    let series = [1.0 / 12.0, -691.0 / 32_760.0, 1.0 / 132.0, -1.0 / 240.0, 1.0 / 252.0, -1.0 / 120.0, 1.0 / 12.0]
        .into_iter()
        .fold(0.0, |sum, coefficient| sum * inverse_square + coefficient)
        * inverse_square;
    recurrence + libm::log(shifted) - 0.5 / shifted - series
}

/// (c / (a − 1)) · (1 − (1 − z)^(a−1) · ₂F₁(d, a − 1; c; z)) for 0 ≤ z < 1, a > 0 and c > −1.
///
/// This is BG/NBD's expected number of purchases after Euler's transformation of its ₂F₁. The transformed series neither
/// overflows for frequent buyers nor cancels, and writing ₂F₁(d, a − 1; c; z) = 1 + (a − 1)/c · H removes the singularities at a = 1 and c = 0,
/// both of which lie inside the range of fitted parameters.
pub(crate) fn drop_out_integral(a: f64, c: f64, d: f64, z: f64) -> f64 {
    let exponent = a - 1.0;
    let log_survivor = libm::log1p(-z);
    // ((1 − z)^(a−1) − 1) / (a − 1), which tends to ln(1 − z) as a tends to 1.
    let discount = if exponent.abs() < 1e-12 { log_survivor } else { libm::expm1(exponent * log_survivor) / exponent };
    -c * discount - libm::exp(exponent * log_survivor) * reduced_series(a, c, d, z)
}

/// H = Σₙ₌₁ (d)ₙ (a)ₙ₋₁ zⁿ / ((c + 1)ₙ₋₁ n!).
fn reduced_series(a: f64, c: f64, d: f64, z: f64) -> f64 {
    // With z as close to 1 as 1 − 1e-5 the terms fall below the last bit well within this many.
    const MAX_TERMS: u32 = 5_000_000;
    let mut term = d * z;
    let mut sum = term;
    for n in 1..MAX_TERMS {
        let n = f64::from(n);
        term *= (d + n) / (c + n) * ((a + n - 1.0) / (n + 1.0)) * z;
        sum += term;
        // Beyond this point terms shrink at least geometrically, so that the rest is at most term · ratio / (1 − ratio).
        let ratio = ((d + n) / (c + n) * ((a + n) / (n + 1.0)) * z).abs().max(z);
        if ratio < 1.0 && term.abs() <= (1.0 - ratio) * f64::EPSILON * 0.25 * sum.abs() {
            break;
        }
        if term == 0.0 {
            break;
        }
    }
    sum
}

/// ln(exp(x) + exp(y)) together with the share of the second term in the sum.
pub(crate) fn log_add(x: f64, y: f64) -> (f64, f64) {
    if x >= y {
        let ratio = libm::exp(y - x);
        (x + libm::log1p(ratio), ratio / (1.0 + ratio))
    } else {
        let ratio = libm::exp(x - y);
        (y + libm::log1p(ratio), 1.0 / (1.0 + ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64, tolerance: f64) {
        assert!(
            (actual - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{actual} is not {expected} within {tolerance}"
        );
    }

    #[test]
    fn log_gamma_agrees_with_closed_forms() {
        assert_close(ln_gamma(0.5), core::f64::consts::PI.sqrt().ln(), 1e-15);
        assert_close(ln_gamma(5.0), 24f64.ln(), 1e-15);
        assert_close(ln_gamma(1e-3), 6.907_178_885_383_853, 1e-14);
        assert_close(ln_gamma(1e5), 1_051_287.708_973_656_8, 1e-14);
        // Γ(x + 1) = x Γ(x).
        for step in 1..2_000 {
            let x = f64::from(step) * 0.037;
            assert_close(ln_gamma(x + 1.0), ln_gamma(x) + x.ln(), 1e-14);
        }
    }

    #[test]
    fn digamma_agrees_with_closed_forms() {
        const EULER: f64 = 0.577_215_664_901_532_9;
        assert_close(digamma(1.0), -EULER, 1e-14);
        assert_close(digamma(0.5), -EULER - 2.0 * core::f64::consts::LN_2, 1e-14);
        assert_close(digamma(10.0), 2.251_752_589_066_721, 1e-15);
        for step in 1..2_000 {
            let x = f64::from(step) * 0.037;
            assert_close(digamma(x + 1.0), digamma(x) + 1.0 / x, 1e-13);
        }
    }

    #[test]
    fn digamma_is_the_slope_of_log_gamma() {
        for x in [0.05, 0.3, 1.7, 9.9, 10.1, 250.0] {
            let step = 1e-5 * x;
            assert_close(digamma(x), (ln_gamma(x + step) - ln_gamma(x - step)) / (2.0 * step), 1e-8);
        }
    }

    /// `(a, c, d, z, value)` by mpmath with 60 digits: `c/(a-1)*(1-(1-z)**(a-1)*hyp2f1(d,a-1,c,z))`.
    const DROP_OUT_VALUES: [(f64, f64, f64, f64, f64); 12] = [
        (0.792886, 4.218639, 1.976046, 0.4740488634982375, 1.6872834115697702),
        (0.792886, 2.218639, 1.976046, 0.9, 1.2098432775372443),
        (0.792886, 2.218639, 1.976046, 0.9999, 23.560027753470547),
        (0.792886, 32.218639, 1.976046, 0.5, 22.853272179417784),
        (0.792886, 1002.218639, 1.976046, 0.99, 7715.696155955502),
        (0.792886, 3.218639, 1.976046, 0.001, 0.0012435745385852698),
        (0.3, -0.4, -0.9, 0.7, 0.7414818097365988),
        (2.5, 4.0, 0.7, 0.95, 2.622264796796265),
        (12.0, 40.0, 37.5, 0.8, 3.0215135572640096),
        (0.999999, 5.0, 1.5, 0.45, 2.239081484286241),
        (1.000001, 5.0, 1.5, 0.45, 2.239080430203232),
        (0.05, 120.0, 118.0, 0.6, 2.9972573181211953),
    ];

    #[test]
    fn drop_out_integral_agrees_with_arbitrary_precision() {
        for (a, c, d, z, expected) in DROP_OUT_VALUES {
            assert_close(drop_out_integral(a, c, d, z), expected, 2e-12);
        }
    }

    #[test]
    fn drop_out_integral_is_continuous_where_the_textbook_form_is_singular() {
        let around = |a: f64| drop_out_integral(a, 3.2, 1.1, 0.6);
        assert_close(around(1.0), around(1.0 + 1e-9), 1e-8);
        assert_close(around(1.0), around(1.0 - 1e-9), 1e-8);
        let around = |c: f64| drop_out_integral(0.4, c, 0.2, 0.6);
        assert_close(around(0.0), around(1e-9), 1e-8);
        assert_close(around(0.0), around(-1e-9), 1e-8);
        assert_eq!(drop_out_integral(0.4, 2.0, 0.2, 0.0), 0.0);
    }

    #[test]
    fn log_add_survives_far_apart_arguments() {
        let (sum, share) = log_add(-1000.0, -1000.0);
        assert_close(sum, -1000.0 + core::f64::consts::LN_2, 1e-15);
        assert_close(share, 0.5, 1e-15);
        assert_eq!(log_add(0.0, f64::NEG_INFINITY), (0.0, 0.0));
        assert_eq!(log_add(-5000.0, 0.0), (0.0, 1.0));
    }
}
