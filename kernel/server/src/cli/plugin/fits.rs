//! `kith plugin fit|fits`: fitting a model, and what came of each fit.

use std::time::Duration;

use kith_model::id::Name;
use serde_json::{Value, json};

use super::remote::path;
use crate::cli::client::{Client, pause};
use crate::cli::output::{self, Step, field};
use crate::cli::{Failure, items};

/// How often a running fit is looked at.
const FIT_POLL: Duration = Duration::from_millis(200);

/// Fit now and wait for the end.
pub(crate) fn fit(client: &Client, installation: &Name, step: &Step) -> Result<Value, Failure> {
    let mut fit = client.post(&format!("{}/fit", path(installation)), &json!({}))?;
    let version = field(&fit, "version");
    while field(&fit, "status") == "running" {
        if let Some(progress) = fit.get("progress").filter(|progress| progress.is_object()) {
            let [done, total] = ["rows_done", "rows_total"].map(|name| output::count(output::number(progress, name)));
            step.say(format!("{done} of {total} profiles"));
        }
        pause(FIT_POLL);
        let fits = client.get(&format!("{}/fits", path(installation)))?;
        fit = items(&fits)
            .iter()
            .find(|listed| field(listed, "version") == version)
            .cloned()
            .ok_or_else(|| Failure::Failed(format!("fit {version} of {installation} is no longer listed")))?;
    }
    match field(&fit, "status").as_str() {
        "failed" => Err(Failure::Failed(format!("fitting {installation}: {}", field(&fit, "error")))),
        _ => Ok(fit),
    }
}

pub(super) fn fit_table(fits: &[Value]) -> String {
    let rows = fits
        .iter()
        .map(|fit| {
            let in_use = if fit.get("in_use") == Some(&Value::Bool(true)) { "in use" } else { "" };
            let mut row = vec![field(fit, "version"), field(fit, "status"), in_use.to_owned()];
            row.extend(["plugin_version", "started_at", "finished_at"].map(|name| field(fit, name)));
            // A fit has figures, or a reason why it has none.
            let told: Vec<String> =
                metrics(fit).into_iter().chain(fit.get("error").and_then(Value::as_str).map(Into::into)).collect();
            row.push(told.join("\n"));
            row
        })
        .collect();
    output::table(&["fit", "status", "", "plugin", "started", "finished", "metrics, or why it failed"], rows)
}

/// `name = value` for each metric of a fit.
fn metrics(fit: &Value) -> Vec<String> {
    let line = |name: &str, value: &Value| match value.as_f64() {
        Some(number) => format!("{name} = {number:.4}"),
        None => format!("{name} = {value}"),
    };
    let metrics = fit.get("metrics").and_then(Value::as_object).into_iter().flatten();
    metrics.map(|(name, value)| line(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_say_which_is_in_use_and_why_one_failed() {
        let time = "2026-11-21T10:00:00.000Z";
        let fits = [
            json!({ "version": 2, "status": "failed", "in_use": false, "plugin_version": "0.2.0", "started_at": time,
                "finished_at": time, "metrics": {}, "error": "bad-input: fewer than 50 buyers" }),
            json!({ "version": 1, "status": "done", "in_use": true, "plugin_version": "0.1.0", "started_at": time,
                "finished_at": time, "metrics": { "mae": 0.51234 }, "error": null }),
        ];
        insta::assert_snapshot!(fit_table(&fits), @r"
         fit   status            plugin   started                    finished                   metrics, or why it failed
        ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
           2   failed             0.2.0   2026-11-21T10:00:00.000Z   2026-11-21T10:00:00.000Z   bad-input: fewer than 50 buyers
           1   done     in use    0.1.0   2026-11-21T10:00:00.000Z   2026-11-21T10:00:00.000Z   mae = 0.5123
        ");
    }
}
