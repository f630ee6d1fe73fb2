//! What a connector makes of several requests in one call: the same as of each alone, however they are cut into calls. A server
//! cuts them as they come, so that nobody could foresee what a connector makes that does otherwise.

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
const NAME: &str = "several requests in one call";

/// Requests that are tried together.
const MOST: usize = 16;

/// Requests of cases with the same configuration, secrets and time.
struct Group {
    like: Readable,
    requests: Vec<SourceRequest>,
}

/// Call a connector for the requests of its cases together; where what it makes depends on that, a report that says so.
pub(super) fn check(plugin: &Plugin, files: &[PathBuf], clock: &ManualClock) -> Option<CaseReport> {
    if plugin.manifest().kind != PluginKind::Connector || plugin.abi() == Abi::V0_1 {
        return None;
    }
    let mut groups: Vec<Group> = Vec::new();
    // Those that cannot be run have failed by themselves.
    for case in files.iter().filter_map(|file| read(plugin, file).ok()) {
        let Input::Request(request) = &case.input else { continue };
        let request = SourceRequest::clone(request);
        match groups.iter_mut().find(|group| is_like(&group.like, &case)) {
            Some(group) => group.requests.push(request),
            None => groups.push(Group { requests: vec![request], like: case }),
        }
    }
    let outcome = groups.into_iter().find_map(|Group { like, requests }| {
        clock.set(like.now);
        let prepared = local::prepare(plugin, like.setup, like.now);
        // With a configuration that is not taken the cases themselves have failed.
        prepared.and_then(|prepared| compared(&prepared, requests)).unwrap_or_default()
    })?;
    Some(CaseReport { name: NAME.to_owned(), outcome, output: Vec::new(), remarks: Vec::new(), figures: None })
}

fn is_like(one: &Readable, other: &Readable) -> bool {
    let LocalSetup { config, secrets, .. } = &one.setup;
    let has_same = |(name, value): (&String, &Secret)| {
        other.setup.secrets.get(name).is_some_and(|of| of.expose() == value.expose())
    };
    *config == other.setup.config
        && one.now == other.now
        && secrets.len() == other.setup.secrets.len()
        && secrets.iter().all(has_same)
}

/// Where what comes of these requests depends on how many are in a call.
fn compared(prepared: &Prepared<'_>, mut requests: Vec<SourceRequest>) -> Result<Option<CaseOutcome>, Failure> {
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
