//! What a connector makes of several requests in one call, and what a tag model or a scorer says of rows: the same as of each
//! alone, however they are cut into calls, and of a model whatever its instance was asked about before. A server cuts them as
//! they come, so that nobody could foresee what a plugin makes that does otherwise.

use std::path::PathBuf;

use kith_host::{Abi, Plugin};
use kith_model::plugin::{PluginKind, SourceRequest};
use kith_model::secret::Secret;
use kith_model::time::ManualClock;
use serde_json::Value;

use super::{CaseOutcome, CaseReport, Readable, difference, read};
use crate::cli::Failure;
use crate::cli::plugin::local::{self, Input, LocalSetup, Prepared};

/// What it is called beside the cases.
const OF_REQUESTS: &str = "several requests in one call";
const OF_ROWS: &str = "rows cut into calls";

/// Requests or rows that are tried together.
const MOST: usize = 16;

/// Requests or rows of cases with the same configuration, secrets and time, and the same rows to learn from.
struct Group<T> {
    like: Readable,
    inputs: Vec<T>,
}

/// Call a plugin for the requests or rows of its cases together; where what comes of them depends on that, a report that says
/// so.
pub(super) fn check(plugin: &Plugin, files: &[PathBuf], clock: &ManualClock) -> Option<CaseReport> {
    let (name, outcome) = match plugin.manifest().kind {
        PluginKind::Connector if plugin.abi() != Abi::V0_1 => {
            let requests = |input: &Input| match input {
                Input::Request(request) => vec![SourceRequest::clone(request)],
                Input::Rows { .. } | Input::Messages(_) => Vec::new(),
            };
            (OF_REQUESTS, tried(plugin, groups(plugin, files, requests), clock, requests_cut))
        }
        PluginKind::TagModel | PluginKind::Scorer => {
            let rows = |input: &Input| match input {
                Input::Rows { rows, .. } => rows.clone(),
                Input::Request(_) | Input::Messages(_) => Vec::new(),
            };
            (OF_ROWS, tried(plugin, groups(plugin, files, rows), clock, rows_cut))
        }
        PluginKind::Connector | PluginKind::Channel => return None,
    };
    let (name, outcome) = (name.to_owned(), outcome?);
    Some(CaseReport { name, outcome, output: Vec::new(), remarks: Vec::new(), figures: None })
}

/// The cases that can be run in their groups. Those that cannot have failed by themselves.
fn groups<T>(plugin: &Plugin, files: &[PathBuf], inputs: impl Fn(&Input) -> Vec<T>) -> Vec<Group<T>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    for case in files.iter().filter_map(|file| read(plugin, file).ok()) {
        let of_case = inputs(&case.input);
        match groups.iter_mut().find(|group| is_like(&group.like, &case)) {
            Some(group) => group.inputs.extend(of_case),
            None => groups.push(Group { inputs: of_case, like: case }),
        }
    }
    groups
}

/// The first difference in a group.
fn tried<T>(
    plugin: &Plugin,
    groups: Vec<Group<T>>,
    clock: &ManualClock,
    cut: impl Fn(&Prepared<'_>, Vec<T>) -> Result<Option<CaseOutcome>, Failure>,
) -> Option<CaseOutcome> {
    groups.into_iter().find_map(|Group { like, inputs }| {
        clock.set(like.now);
        let prepared = local::prepare(plugin, like.setup, like.now).and_then(|mut prepared| {
            fit_of(&like.input).map_or(Ok(()), |rows| prepared.learn(rows))?;
            Ok(prepared)
        });
        // With a configuration that is not taken, or without a fit, the cases themselves have failed.
        prepared.and_then(|prepared| cut(&prepared, inputs)).unwrap_or_default()
    })
}

/// What a model learns from first.
fn fit_of(input: &Input) -> Option<&[Value]> {
    match input {
        Input::Rows { fit, .. } => fit.as_deref(),
        Input::Request(_) | Input::Messages(_) => None,
    }
}

fn is_like(one: &Readable, other: &Readable) -> bool {
    let LocalSetup { config, secrets, .. } = &one.setup;
    let has_same = |(name, value): (&String, &Secret)| {
        other.setup.secrets.get(name).is_some_and(|of| of.expose() == value.expose())
    };
    *config == other.setup.config
        && one.now == other.now
        && fit_of(&one.input) == fit_of(&other.input)
        && secrets.len() == other.setup.secrets.len()
        && secrets.iter().all(has_same)
}

/// Where what comes of these requests depends on how many are in a call.
pub(super) fn requests_cut(
    prepared: &Prepared<'_>,
    mut requests: Vec<SourceRequest>,
) -> Result<Option<CaseOutcome>, Failure> {
    let mut alone = prepared.receive_cut(&requests, 1)?;
    // One that fails takes the call with it; a server makes that again without it.
    let fails = |lines: &Vec<Value>| lines.iter().any(|line| line.get("fault").is_some());
    let mut kept = alone.iter().map(|lines| !fails(lines)).collect::<Vec<bool>>().into_iter();
    requests.retain(|_| kept.next().unwrap_or_default());
    alone.retain(|lines| !fails(lines));
    // Each comes twice, so that one case is enough to see what a request leaves to the next.
    requests.extend_from_within(..);
    alone.extend_from_within(..);
    requests.truncate(MOST);
    alone.truncate(MOST);
    for size in 2..=requests.len() {
        let cut = prepared.receive_cut(&requests, size)?;
        if let Some(difference) =
            difference((&alone.concat()[..], &cut.concat()[..]), 0.0, |place| format!("line {}", place + 1))
        {
            let words = format!("in calls of {size} requests something else comes of them than of each alone:");
            return Ok(Some(CaseOutcome::Differs(format!("{words}\n{difference}"))));
        }
    }
    Ok(None)
}

/// Where what is said of these rows depends on how they are cut, or on what an instance was asked about before.
fn rows_cut(prepared: &Prepared<'_>, rows: Vec<Value>) -> Result<Option<CaseOutcome>, Failure> {
    let (mut alone, mut kept) = (Vec::new(), Vec::new());
    for row in rows {
        let line = prepared.answers_cut(std::slice::from_ref(&row), 1)?;
        if line.iter().all(|line| line.get("fault").is_none()) {
            alone.extend(line);
            kept.push(row);
        }
    }
    // Each comes twice, so that one row is enough to see what it leaves to the next.
    kept.extend_from_within(..);
    alone.extend_from_within(..);
    kept.truncate(MOST);
    alone.truncate(MOST);
    for size in 1..=kept.len() {
        let mut fresh = Vec::with_capacity(kept.len());
        for some in kept.chunks(size) {
            fresh.extend(prepared.answers_cut(some, size)?);
        }
        let of_one_instance = prepared.answers_cut(&kept, size)?;
        for (said, how) in [(fresh, ""), (of_one_instance, ", one after the other in one instance,")] {
            if let Some(difference) = difference((&alone[..], &said[..]), 0.0, |place| format!("row {}", place + 1)) {
                let words = format!("in calls of {size}{how} something else is said of them than of each alone:");
                return Ok(Some(CaseOutcome::Differs(format!("{words}\n{difference}"))));
            }
        }
    }
    Ok(None)
}
