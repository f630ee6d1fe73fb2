//! Minimisation of a smooth function of a few variables: BFGS with a weak-Wolfe line search.
//!
//! Deterministic: no randomness, no clock, the same steps for the same function. What is minimised, and whether the result makes sense, is the
//! models' business.

/// More iterations than any likelihood of four parameters needs; CDNOW takes about thirty.
const MAX_ITERATIONS: usize = 200;
/// Bisections and doublings of one step length.
const MAX_LINE_SEARCH_STEPS: usize = 60;
/// Armijo's condition: the share of the promised decrease that a step must reach.
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// Wolfe's condition: how much of the slope may be left after a step.
const CURVATURE: f64 = 0.9;
/// The share of the value that may be rounding: within it a value tells nothing about a step, and the slope alone decides.
const VALUE_NOISE: f64 = 1e-14;
/// The search stops once no component of the gradient is larger.
const GRADIENT_TARGET: f64 = 1e-9;
/// Where rounding stops the search before the target, this still counts as a minimum.
const GRADIENT_ACCEPTED: f64 = 1e-7;

/// Where a search ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Minimum<const N: usize> {
    pub(crate) point: [f64; N],
    pub(crate) value: f64,
    /// The largest component of the gradient.
    pub(crate) gradient: f64,
    pub(crate) iterations: usize,
}

/// Why no minimum was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NoConvergence {
    /// The largest component of the gradient at the best point.
    pub(crate) gradient: f64,
    pub(crate) iterations: usize,
}

type Matrix<const N: usize> = [[f64; N]; N];

#[derive(Clone, Copy)]
struct Sample<const N: usize> {
    point: [f64; N],
    value: f64,
    gradient: [f64; N],
}

/// Find a local minimum of `function`, which gives its value and its gradient, from `start`.
///
/// Points where the function is not finite are walls that the line search turns back from.
pub(crate) fn minimize<const N: usize>(
    function: impl Fn(&[f64; N]) -> (f64, [f64; N]),
    start: [f64; N],
) -> Result<Minimum<N>, NoConvergence> {
    let sample = |point: [f64; N]| {
        let (value, gradient) = function(&point);
        Sample { point, value, gradient }
    };
    let mut current = sample(start);
    let mut inverse_hessian = scaled_identity(1.0);
    let mut is_scaled = false;
    let mut iterations = 0;
    while largest(&current.gradient) > GRADIENT_TARGET && iterations < MAX_ITERATIONS {
        iterations += 1;
        let mut direction = times(&inverse_hessian, &current.gradient).map(|component| -component);
        if dot(&direction, &current.gradient) >= 0.0 {
            // Rounding spoiled the approximation: begin again with steepest descent.
            inverse_hessian = scaled_identity(1.0);
            is_scaled = false;
            direction = current.gradient.map(|component| -component);
        }
        let Some(next) = search_line(&sample, &current, &direction) else { break };
        let step = minus(&next.point, &current.point);
        let change = minus(&next.gradient, &current.gradient);
        let curvature = dot(&step, &change);
        if curvature > 0.0 {
            if !is_scaled {
                inverse_hessian = scaled_identity(curvature / dot(&change, &change));
                is_scaled = true;
            }
            update(&mut inverse_hessian, &step, &change, curvature);
        }
        current = next;
    }
    let gradient = largest(&current.gradient);
    if current.value.is_finite() && gradient <= GRADIENT_ACCEPTED {
        Ok(Minimum { point: current.point, value: current.value, gradient, iterations })
    } else {
        Err(NoConvergence { gradient, iterations })
    }
}

/// The lowest minimum; where none was found, the failure that came closest.
pub(crate) fn best<const N: usize, const TRIES: usize>(
    results: [Result<Minimum<N>, NoConvergence>; TRIES],
) -> Result<Minimum<N>, NoConvergence> {
    results
        .into_iter()
        .reduce(|kept, next| match (kept, next) {
            (Ok(kept), Ok(next)) => Ok(if next.value < kept.value { next } else { kept }),
            (Ok(minimum), Err(_)) | (Err(_), Ok(minimum)) => Ok(minimum),
            (Err(kept), Err(next)) => Err(if next.gradient < kept.gradient { next } else { kept }),
        })
        .unwrap_or(Err(NoConvergence { gradient: f64::INFINITY, iterations: 0 }))
}

/// Refuse a minimum of which a coordinate is farther from 0 than `limit`.
pub(crate) fn within<const N: usize>(minimum: Minimum<N>, limit: f64) -> Result<Minimum<N>, NoConvergence> {
    if minimum.point.iter().all(|coordinate| coordinate.abs() <= limit) {
        Ok(minimum)
    } else {
        Err(NoConvergence { gradient: minimum.gradient, iterations: minimum.iterations })
    }
}

/// A point along `direction` that meets the weak Wolfe conditions, by bisection; the best decrease where rounding hides one.
fn search_line<const N: usize>(
    sample: &impl Fn([f64; N]) -> Sample<N>,
    from: &Sample<N>,
    direction: &[f64; N],
) -> Option<Sample<N>> {
    let slope = dot(direction, &from.gradient);
    // In logarithms a step of more than two is a factor of more than seven: first steps stay below.
    let mut length = (2.0 / largest(direction)).min(1.0);
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut best: Option<Sample<N>> = None;
    for _ in 0..MAX_LINE_SEARCH_STEPS {
        let mut point = from.point;
        for (coordinate, component) in point.iter_mut().zip(direction) {
            *coordinate += length * component;
        }
        let next = sample(point);
        let allowed = from.value + SUFFICIENT_DECREASE * length * slope + VALUE_NOISE * from.value.abs();
        let is_lower = next.value <= allowed && largest(&next.gradient).is_finite();
        if !is_lower {
            high = length;
        } else if dot(direction, &next.gradient) < CURVATURE * slope {
            low = length;
            best = Some(next);
        } else {
            return Some(next);
        }
        length = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * length };
    }
    best
}

/// H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ with ρ = 1 / sᵀy (Nocedal and Wright, equation 6.17).
fn update<const N: usize>(inverse_hessian: &mut Matrix<N>, step: &[f64; N], change: &[f64; N], curvature: f64) {
    let projected = times(inverse_hessian, change);
    let factor = (1.0 + dot(change, &projected) / curvature) / curvature;
    for (row, values) in inverse_hessian.iter_mut().enumerate() {
        for (column, value) in values.iter_mut().enumerate() {
            *value += factor * step[row] * step[column]
                - (projected[row] * step[column] + step[row] * projected[column]) / curvature;
        }
    }
}

fn scaled_identity<const N: usize>(scale: f64) -> Matrix<N> {
    core::array::from_fn(|row| core::array::from_fn(|column| if row == column { scale } else { 0.0 }))
}

fn times<const N: usize>(matrix: &Matrix<N>, vector: &[f64; N]) -> [f64; N] {
    core::array::from_fn(|row| dot(&matrix[row], vector))
}

fn minus<const N: usize>(left: &[f64; N], right: &[f64; N]) -> [f64; N] {
    core::array::from_fn(|index| left[index] - right[index])
}

fn dot<const N: usize>(left: &[f64; N], right: &[f64; N]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The largest magnitude; infinite where a component is not a number.
fn largest<const N: usize>(vector: &[f64; N]) -> f64 {
    vector
        .iter()
        .fold(0.0, |largest, component| if component.is_nan() { f64::INFINITY } else { largest.max(component.abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_rosenbrocks_valley() {
        let rosenbrock = |[x, y]: &[f64; 2]| {
            let (u, v) = (1.0 - x, y - x * x);
            (u * u + 100.0 * v * v, [-2.0 * u - 400.0 * x * v, 200.0 * v])
        };
        let minimum = minimize(rosenbrock, [-1.2, 1.0]).unwrap();
        assert!((minimum.point[0] - 1.0).abs() < 1e-8 && (minimum.point[1] - 1.0).abs() < 1e-8, "{minimum:?}");
    }

    #[test]
    fn turns_back_from_walls() {
        // Defined for x > 0 only; the minimum is at 1e-3, a first step goes far below zero.
        let walled = |[x]: &[f64; 1]| {
            if *x <= 0.0 { (f64::NAN, [f64::NAN]) } else { (x * 1e3 - x.ln(), [1e3 - 1.0 / x]) }
        };
        let minimum = minimize(walled, [5.0]).unwrap();
        assert!((minimum.point[0] - 1e-3).abs() < 1e-9, "{minimum:?}");
    }

    #[test]
    fn a_function_without_a_minimum_is_no_convergence() {
        assert!(minimize(|[x]: &[f64; 1]| (-x, [-1.0]), [0.0]).is_err());
        assert!(minimize(|_: &[f64; 1]| (f64::NAN, [f64::NAN]), [0.0]).is_err());
    }
}
