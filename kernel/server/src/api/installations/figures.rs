//! Figures of one workspace's installations in Prometheus' text format: those of `…/usage`. They are written for whoever asks and
//! are series nowhere else, because names are as many as tenants choose, and nobody sees those of another workspace.

use std::time::Duration;

use kith_host::Usage;
use kith_model::plugin::FaultOwner;

use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::error::ApiError;

/// The name of a figure, its type, what it says, and its values with what tells them apart within an installation.
type Figure = (&'static str, &'static str, &'static str, fn(&Usage) -> Vec<(&'static str, String)>);

const FIGURES: [Figure; 12] = [
    ("calls_total", "counter", "Calls that ended, well or not", |usage| vec![("", usage.calls.to_string())]),
    ("rows_total", "counter", "Rows that a model was given", |usage| vec![("", usage.rows.to_string())]),
    ("faults_total", "counter", "Faults, by whose they are", |usage| {
        usage.faults.iter().map(|(owner, count)| (owned_by(*owner), count.to_string())).collect()
    }),
    ("call_seconds", "summary", "How long calls took, calls to the host included", |usage| {
        vec![(",quantile=\"0.5\"", seconds(usage.p50)), (",quantile=\"0.99\"", seconds(usage.p99))]
    }),
    ("cpu_seconds_total", "counter", "Processor time of calls", |usage| vec![("", seconds(usage.cpu))]),
    ("fuel_total", "counter", "Fuel of calls that are metered", |usage| vec![("", usage.fuel.to_string())]),
    ("memory_peak_bytes", "gauge", "The most memory that a call had", |usage| {
        vec![("", usage.memory_peak_bytes.to_string())]
    }),
    ("host_calls_total", "counter", "Calls of the plugin to the host", |usage| {
        vec![("", usage.host_calls.to_string())]
    }),
    ("state_written_bytes_total", "counter", "What calls wrote to their state", |usage| {
        vec![("", usage.state_written_bytes.to_string())]
    }),
    ("requests_total", "counter", "Requests over HTTP that were let out", |usage| {
        vec![("", usage.requests.to_string())]
    }),
    ("request_bytes_total", "counter", "Bodies of requests and answers, by which", |usage| {
        vec![(",way=\"sent\"", usage.sent_bytes.to_string()), (",way=\"received\"", usage.received_bytes.to_string())]
    }),
    ("log_lines_total", "counter", "Lines that were logged, by whether they were cut", |usage| {
        let kept = usage.lines.saturating_sub(usage.lines_cut);
        vec![(",cut=\"false\"", kept.to_string()), (",cut=\"true\"", usage.lines_cut.to_string())]
    }),
];

fn owned_by(owner: FaultOwner) -> &'static str {
    match owner {
        FaultOwner::Plugin => ",owner=\"plugin\"",
        FaultOwner::Request => ",owner=\"request\"",
        FaultOwner::Peer => ",owner=\"peer\"",
        FaultOwner::Host => ",owner=\"host\"",
    }
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

/// Whether a caller may see figures of calls, by which a plugin that sees people can count them.
pub(crate) fn may_see_figures(caller: &Caller) -> bool {
    [Scope::PluginsAdmin, Scope::ProfilesRead].into_iter().all(|scope| caller.may(scope))
}

/// The figures of the installations of the caller's workspace.
pub(crate) fn installation_figures(app: &App, caller: &Caller) -> Result<String, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let now = app.clock.now();
    let of = |id| app.wiring.observed(caller.workspace, id, now).usage();
    let usages = tables.installed().map(|row| (row.name.to_string(), row.plugin.to_string(), of(row.id)));
    Ok(written(&usages.collect::<Vec<_>>()))
}

/// The figures of installations by their names and plugins. Neither holds anything that a label would have to escape.
fn written(usages: &[(String, String, Usage)]) -> String {
    let mut text = String::new();
    for (name, kind, words, values) in FIGURES {
        let name = format!("kith_installation_{name}");
        text.push_str(&format!("# HELP {name} {words}\n# TYPE {name} {kind}\n"));
        for (installation, plugin, usage) in usages {
            for (label, value) in values(usage) {
                let labels = format!("installation=\"{installation}\",plugin=\"{plugin}\"{label}");
                text.push_str(&format!("{name}{{{labels}}} {value}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use kith_host::Observed;

    use super::*;

    #[test]
    fn each_figure_is_a_line_with_its_installation() {
        let usage = Usage { p99: Duration::from_millis(250), calls: 3, ..Observed::default().usage() };
        let text = written(&[("shop".to_owned(), "acme/shop".to_owned(), usage)]);
        for line in [
            "# TYPE kith_installation_calls_total counter",
            "kith_installation_calls_total{installation=\"shop\",plugin=\"acme/shop\"} 3",
            "kith_installation_call_seconds{installation=\"shop\",plugin=\"acme/shop\",quantile=\"0.99\"} 0.25",
            "kith_installation_faults_total{installation=\"shop\",plugin=\"acme/shop\",owner=\"peer\"} 0",
            "kith_installation_log_lines_total{installation=\"shop\",plugin=\"acme/shop\",cut=\"true\"} 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}: {text}");
        }
    }
}
