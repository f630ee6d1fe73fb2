//! What the benchmarks share: which parts of one are asked for, and the figures that stand for many.

#![allow(dead_code, reason = "each benchmark is a program of its own, and uses some of it")]

use std::time::Duration;

/// What the command line asks of a benchmark.
pub(crate) struct Asked {
    /// All of them where none is named.
    parts: Vec<String>,
    pub is_quick: bool,
    /// Sizes that are asked for.
    pub numbers: Vec<usize>,
}

impl Asked {
    /// `None` where there is nothing to measure: `cargo test` runs benchmarks once to see that they build.
    pub(crate) fn of(bench: &str) -> Option<Asked> {
        let (options, mut parts): (Vec<String>, Vec<String>) =
            std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
        if !options.iter().any(|option| option == "--bench") {
            println!("run `cargo bench --bench {bench}` to measure");
            return None;
        }
        println!("processors: {}", std::thread::available_parallelism().map_or(1, usize::from));
        let is_quick = parts.iter().any(|part| part == "quick");
        let numbers = parts.iter().filter_map(|part| part.parse().ok()).collect();
        parts.retain(|part| part != "quick" && part.parse::<usize>().is_err());
        Some(Asked { parts, is_quick, numbers })
    }

    /// Whether a part is to be measured.
    pub(crate) fn part(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| part == name)
    }
}

/// The value at `share` of the sorted durations, in milliseconds.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1e3
}

/// The one in the middle.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
