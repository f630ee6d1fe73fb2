//! What an installation's calls do, without the operator's log: figures with the last fault, and the latest log lines. Both begin
//! anew with the server.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use kith_host::{SeenFault, SeenLine, Usage};
use kith_model::plugin::FaultOwner;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::named;
use crate::api::extract::{Authority, Json, Path, Query, page_limit, right};
use crate::api::masks::Sight;
use crate::api::sensitive::Mask;
use crate::api::view::time;
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::error::{ApiError, Problem};

/// Figures of an installation's calls since the server began.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageBody {
    /// When counting began.
    since: String,
    /// Calls that ended, well or not.
    calls: u64,
    /// Rows that a tag model or a scorer was given.
    rows: u64,
    faults: FaultCountsBody,
    last_fault: Option<LastFaultBody>,
    cpu_seconds: f64,
    call_ms: CallTimesBody,
    /// The most memory that a call had.
    memory_peak_bytes: u64,
    /// Calls of the plugin to the host.
    host_calls: u64,
    /// Of an installation with a limit of it.
    fuel: u64,
    state_writes: u64,
    state_written_bytes: u64,
    /// Requests over HTTP that were let out, by its calls and for it.
    requests: u64,
    /// Their bodies, as the plugin wrote them.
    sent_bytes: u64,
    /// The bodies of the answers, as far as they were read.
    received_bytes: u64,
    log_lines: u64,
    /// Log lines that were cut, because their call had logged what it may.
    log_lines_cut: u64,
}

/// Faults by whose they are: the plugin's own, the input's or the configuration's, another machine's, the server's.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct FaultCountsBody {
    plugin: u64,
    request: u64,
    peer: u64,
    host: u64,
}

/// How long calls took, in milliseconds. The quantiles are up to a quarter more than it was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CallTimesBody {
    p50: f64,
    p99: f64,
    longest: f64,
}

/// The last fault of an installation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastFaultBody {
    at: String,
    /// The version that it was a fault of, as `vendor/name@version`.
    plugin: String,
    code: String,
    /// `plugin`, `request`, `peer` or `host`.
    owner: String,
    /// `null` without the scope `profiles:read`, or where the data dictionary calls something sensitive and the key has no
    /// `sensitive:read`: a plugin may name people in it.
    message: Option<String>,
}

/// Which log lines.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LinesQuery {
    /// The `next` of the answer before; the latest lines unless told.
    from: Option<u64>,
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// Log lines of an installation, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinesBody {
    items: Vec<LineBody>,
    /// How many of the lines that were asked for are kept no more.
    gone: u64,
    /// The `from` of those that come after these.
    next: u64,
    /// When counting began: with another one the numbers have begun anew, from 0.
    since: String,
}

/// A line that a plugin logged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineBody {
    number: u64,
    at: String,
    /// `debug`, `info`, `warn` or `error`.
    level: String,
    text: String,
}

impl From<SeenLine> for LineBody {
    fn from(line: SeenLine) -> LineBody {
        let SeenLine { number, at, level, text } = line;
        LineBody { number, at: time(at), level: level.as_str().to_owned(), text }
    }
}

/// Insist that a caller may read what a plugin says in its own words, which may name people, and what of them is sensitive.
pub(super) fn insist_on_words(app: &App, caller: &Caller) -> Result<(), ApiError> {
    caller.require(Scope::ProfilesRead)?;
    if may_read_words(app, caller)? { Ok(()) } else { caller.require(Scope::SensitiveRead) }
}

/// Whether a caller may read these words, and what else of an installation tells of people.
pub(crate) fn may_read_words(app: &App, caller: &Caller) -> Result<bool, ApiError> {
    let mask = Mask::new(&*app.catalogue.workspace(caller.workspace)?, caller);
    Ok(mask.sight_of_records(caller.sight()) == Sight::People)
}

/// What stands where such words are withheld.
pub(crate) const WITHHELD_WORDS: &str =
    "why needs the scope `profiles:read`, and `sensitive:read` where the dictionary calls something sensitive";

fn usage_body(usage: Usage, shows_words: bool) -> UsageBody {
    let mut faults = FaultCountsBody::default();
    for (owner, count) in &usage.faults {
        match owner {
            FaultOwner::Plugin => faults.plugin = *count,
            FaultOwner::Request => faults.request = *count,
            FaultOwner::Peer => faults.peer = *count,
            FaultOwner::Host => faults.host = *count,
        }
    }
    let last_fault = usage.last_fault.map(|SeenFault { at, plugin, fault }| LastFaultBody {
        at: time(at),
        plugin,
        code: fault.code().to_owned(),
        owner: fault.owner().as_str().to_owned(),
        message: shows_words.then(|| fault.to_string()),
    });
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    UsageBody {
        since: time(usage.since),
        calls: usage.calls,
        rows: usage.rows,
        faults,
        last_fault,
        cpu_seconds: usage.cpu.as_secs_f64(),
        call_ms: CallTimesBody { p50: ms(usage.p50), p99: ms(usage.p99), longest: ms(usage.longest) },
        memory_peak_bytes: usage.memory_peak_bytes,
        host_calls: usage.host_calls,
        fuel: usage.fuel,
        state_writes: usage.state_writes,
        state_written_bytes: usage.state_written_bytes,
        requests: usage.requests,
        sent_bytes: usage.sent_bytes,
        received_bytes: usage.received_bytes,
        log_lines: usage.lines,
        log_lines_cut: usage.lines_cut,
    }
}

/// What an installation's calls have come to since the server began: how many, how long, what they used, and the last fault.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/usage", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = UsageBody), (status = 404, body = Problem)),
)]
pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
) -> Result<Json<UsageBody>, ApiError> {
    let caller = &authority.caller;
    let tables = app.catalogue.workspace(caller.workspace)?;
    let id = named(&tables, &name)?.id;
    let usage = app.wiring.observed(caller.workspace, id, app.clock.now()).usage();
    let shows_words = may_read_words(&app, caller)?;
    if shows_words && usage.last_fault.is_some() {
        app.reads.note(caller, "installation.usage", []);
    }
    Ok(Json(usage_body(usage, shows_words)))
}

/// The latest log lines of an installation, or those from a number on. 64 KiB of them are kept, in memory.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/logs", tag = "installations",
    params(("id" = String, Path, description = "the installation's name"), LinesQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses(
        (status = 200, body = LinesBody), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    Query(query): Query<LinesQuery>,
) -> Result<Json<LinesBody>, ApiError> {
    let caller = &authority.caller;
    let limit = page_limit(query.limit)?;
    insist_on_words(&app, caller)?;
    let tables = app.catalogue.workspace(caller.workspace)?;
    let id = named(&tables, &name)?.id;
    let observed = app.wiring.observed(caller.workspace, id, app.clock.now());
    let page = observed.lines(query.from, limit);
    if !page.lines.is_empty() {
        app.reads.note(caller, "installation.logs", []);
    }
    let items = page.lines.into_iter().map(LineBody::from).collect();
    Ok(Json(LinesBody { items, gone: page.gone, next: page.next, since: time(observed.usage().since) }))
}
