//! What the demo shows at its end: each step with its count, rate and time, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::output;

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) what: String,
    /// How many, where something is counted.
    pub(crate) count: Option<u64>,
    /// What the line adds for people, e.g. what the count is made of.
    pub(crate) note: String,
    /// How long it took, where the line is a step of its own.
    pub(crate) took: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Something that was done so many times, with its time.
    pub(crate) fn step(&mut self, what: impl Into<String>, count: u64, took: Duration, note: impl Into<String>) {
        self.lines.push(Line { what: what.into(), count: Some(count), note: note.into(), took: Some(took) });
    }

    /// Something that was waited for.
    pub(crate) fn wait(&mut self, what: impl Into<String>, took: Duration, note: impl Into<String>) {
        self.lines.push(Line { what: what.into(), count: None, note: note.into(), took: Some(took) });
    }

    /// Something that is there.
    pub(crate) fn fact(&mut self, what: impl Into<String>, count: u64, note: impl Into<String>) {
        self.lines.push(Line { what: what.into(), count: Some(count), note: note.into(), took: None });
    }

    /// The table for people.
    pub(crate) fn table(&self, total: Duration) -> String {
        let row = |line: &Line| {
            let took = line.took.map_or_else(String::new, output::seconds);
            // A rate of a handful of things says nothing.
            let many = line.count.filter(|count| *count >= 50);
            let rate = many.zip(line.took).map_or_else(String::new, |(count, took)| output::rate(count, took));
            let count = line.count.map_or_else(String::new, output::count);
            vec![line.what.clone(), count, rate, took, line.note.clone()]
        };
        let mut rows: Vec<Vec<String>> = self.lines.iter().map(row).collect();
        rows.push(vec!["all of it".to_owned(), String::new(), String::new(), output::seconds(total), String::new()]);
        output::table(&["what", "count", "per second", "took", "note"], rows)
    }

    /// The same for programs.
    pub(crate) fn json(&self, total: Duration) -> Value {
        let line = |line: &Line| {
            let mut object = json!({ "what": line.what, "note": line.note });
            if let Some(count) = line.count {
                object["count"] = json!(count);
            }
            if let Some(took) = line.took {
                object["seconds"] = json!(rounded(took.as_secs_f64()));
            }
            if let Some((count, took)) = line.count.zip(line.took) {
                #[allow(clippy::cast_precision_loss, reason = "shown rounded")]
                let rate = count as f64 / took.as_secs_f64().max(1e-6);
                object["per_second"] = json!(rate.round());
            }
            object
        };
        let steps: Vec<Value> = self.lines.iter().map(line).collect();
        json!({ "steps": steps, "seconds": rounded(total.as_secs_f64()) })
    }
}

/// Milliseconds are precise enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.step("events from the clickstream", 31_106, Duration::from_millis(2_000), "600 users");
        report.fact("profiles", 2_960, "");
        report
    }

    #[test]
    fn the_table_has_counts_rates_and_times() {
        insta::assert_snapshot!(report().table(Duration::from_secs(130)), @r"
         what                           count   per second         took   note
        ────────────────────────────────────────────────────────────────────────────
         events from the clickstream   31,106       15,553       2.00 s   600 users
         profiles                       2,960
         all of it                                           2 min 10 s
        ");
    }

    #[test]
    fn programs_get_the_same() {
        let json = report().json(Duration::from_secs(130));
        assert_eq!(json["steps"][0]["per_second"], 15_553.0);
        assert_eq!(json["steps"][1].get("seconds"), None);
        assert_eq!(json["seconds"], 130.0);
    }
}
