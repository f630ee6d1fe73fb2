//! What the server counts and times, and how Prometheus reads it. Other crates emit their own figures through the
//! `metrics` facade; this file only collects them.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use axum::http::Method;
use kith_pipeline::Acceptance;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds in seconds, from a cache hit to a slow fit.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The process's one recorder: the facade takes one, and tests start several servers in a process.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Where figures are read.
#[derive(Clone)]
pub struct Metrics(Option<PrometheusHandle>);

impl Metrics {
    /// The process's figures; collected from the first call on. Where the process collects them elsewhere, nothing is shown.
    pub fn of_process() -> Metrics {
        let handle = RECORDER.get_or_init(|| {
            let latency = Matcher::Suffix("_seconds".to_owned());
            let installed = PrometheusBuilder::new()
                .set_buckets_for_metric(latency, &LATENCY_BUCKETS_S)
                .and_then(PrometheusBuilder::install_recorder);
            installed.inspect_err(|error| tracing::warn!(%error, "figures are not collected here")).ok()
        });
        describe();
        Metrics(handle.clone())
    }

    /// The figures in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }

    /// Fold what histograms gathered; call every few seconds, or memory grows.
    pub fn upkeep(&self) {
        if let Some(handle) = &self.0 {
            handle.run_upkeep();
        }
    }

    /// A request was answered. `route` is one of the server's own; the method, which HTTP lets a caller make up, is one of
    /// the known ones or `other`, so that no caller makes a series.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let labels =
            [("method", known(method).to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        metrics::counter!("kith_http_requests_total", &labels).increment(1);
        metrics::histogram!("kith_http_request_seconds", &labels).record(took.as_secs_f64());
    }

    /// Records came in.
    pub(crate) fn ingested(&self, acceptance: &Acceptance) {
        count_records(acceptance);
    }

    /// Records were taken that have flags; the codes are a closed set.
    pub(crate) fn flagged(&self, counts: &BTreeMap<&'static str, u64>) {
        for (code, count) in counts {
            metrics::counter!("kith_ingest_flagged_total", "flag" => *code).increment(*count);
        }
    }
}

/// Count what became of records that came in, sent or polled.
pub(crate) fn count_records(acceptance: &Acceptance) {
    let Acceptance { accepted, duplicate, corrected, conflict, dropped, rejected_count, .. } = acceptance;
    let outcomes = [
        ("accepted", *accepted),
        ("duplicate", *duplicate),
        ("corrected", *corrected),
        ("conflict", *conflict),
        ("dropped", *dropped),
        // Each record is counted once.
        ("rejected", rejected_count.saturating_sub(*conflict)),
    ];
    for (outcome, count) in outcomes {
        metrics::counter!("kith_ingest_records_total", "outcome" => outcome).increment(count);
    }
}

/// The methods of RFC 9110 and PATCH.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}

fn describe() {
    metrics::describe_counter!("kith_http_requests_total", "Requests answered, by method, route and status");
    metrics::describe_histogram!("kith_http_request_seconds", "Time until a request was answered");
    metrics::describe_counter!("kith_ingest_records_total", "Records that came in, by what became of them");
    metrics::describe_counter!("kith_ingest_flagged_total", "Accepted records that have a flag, by its code");
    metrics::describe_counter!("kith_polls_total", "Polls of connectors that ended, by how");
    metrics::describe_counter!("kith_poll_pages_total", "Pages of polls that were kept");
    metrics::describe_counter!("kith_budget_exhausted_total", "Refusals because a budget ended, by budget");
    metrics::describe_counter!(
        "kith_trait_names_without_index_total",
        "Names of traits that are too many for the index"
    );
    metrics::describe_counter!("kith_failed_authentications_total", "Requests without a valid key");
    metrics::describe_counter!("kith_fits_total", "Fits that ended, by what came of them");
    metrics::describe_gauge!("kith_fit_alarms", "Installations whose newest fit is held or failed, by which");
    metrics::describe_gauge!("kith_http_connections", "Open connections");
    metrics::describe_gauge!("kith_disk_free_bytes", "What the disk of the data directory has left");
    metrics::describe_gauge!("kith_disk_reserve_bytes", "What it always keeps");
    metrics::describe_gauge!("kith_disk_full", "1 while writes are refused for want of room, else 0");
    metrics::describe_gauge!(
        "kith_workspaces_failing",
        "Workspaces whose work fails again and again at the same place"
    );
}
