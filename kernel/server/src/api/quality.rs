//! How the data of each source is: what came of it by day, and what changed since the week before.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kith_model::flag::CLOCK_CORRECTED;
use kith_model::plugin::PluginKind;
use kith_model::time::{DAY_MS, Timestamp};
use kith_pipeline::{NameChange, NameKind, SourceCounts, SourceQuality, WhatChanged};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::catalog::{CROWD, source_named};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use super::view::{Page, time};
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::{InstallationRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// Days that are listed unless told.
const DEFAULT_DAYS: i32 = 14;

/// The most that there are.
const MAX_DAYS: i32 = 92;

/// What came of records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountsBody {
    /// Events that are new.
    accepted: u64,
    /// Records that came before as they are.
    repeated: u64,
    /// Events that took the place of others with the same id.
    corrected: u64,
    /// Records that a rule of the workspace took out.
    dropped: u64,
    /// Live events that happened more than a day before they were received.
    late: u64,
    /// Events whose time was corrected by the sender's clock.
    clock_corrected: u64,
    /// Records that were rejected.
    rejected: u64,
    /// Records of which something lies among the dead letters: rejected, or taken without a part.
    set_aside: u64,
    /// Events whose name is not in the tracking plan.
    unplanned: u64,
    /// Events that do not meet the tracking plan's schema.
    violations: u64,
    /// Events that were taken with a flag, by its code.
    flags: BTreeMap<String, u64>,
    /// Records that were rejected, by the reason's code.
    reasons: BTreeMap<String, u64>,
}

/// The counts of one day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DayBody {
    /// The date in the workspace's zone.
    day: String,
    #[serde(flatten)]
    counts: CountsBody,
}

/// What changed of a name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NameChangeBody {
    /// `new`, `new-kind` or `stopped`.
    what: &'static str,
    /// `event`, `property` or `trait`.
    kind: &'static str,
    name: String,
    /// Of a property: its event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The kind of value that is new, e.g. `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_kind: Option<&'static str>,
    /// The kinds that came before; of a new name those that came.
    kinds: Vec<&'static str>,
    /// Since when; of what stopped when it came last.
    at: String,
}

/// How the data of a source is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityBody {
    source: String,
    /// The tracking plan that it has.
    plan: Option<String>,
    /// The day under way in the workspace's zone; the week ends with it.
    today: String,
    /// All since counts are kept.
    total: CountsBody,
    /// The last seven days, today included.
    week: CountsBody,
    /// The seven days before them.
    week_before: CountsBody,
    /// Values that came as texts that are written as numbers, since names are counted: they count as numbers.
    number_texts: u64,
    /// What of the source's names changed within seven days. Names that came of fewer than twenty people are told to those alone
    /// who may read people, and none to whom audiences are closed.
    changes: Vec<NameChangeBody>,
    /// Days with records, the newest first.
    days: Vec<DayBody>,
}

/// Of how many days.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct QualityQuery {
    /// How many days are listed, today included; 14 unless told.
    #[param(minimum = 1, maximum = 92)]
    days: Option<i32>,
}

impl From<&SourceCounts> for CountsBody {
    fn from(counts: &SourceCounts) -> CountsBody {
        CountsBody {
            accepted: counts.accepted,
            repeated: counts.repeated,
            corrected: counts.corrected,
            dropped: counts.dropped,
            late: counts.late,
            clock_corrected: counts.flagged.get(CLOCK_CORRECTED).copied().unwrap_or_default(),
            rejected: counts.rejected_count(),
            set_aside: counts.set_aside,
            unplanned: counts.unplanned,
            violations: counts.violations,
            flags: counts.flagged.clone(),
            reasons: counts.rejected.clone(),
        }
    }
}

impl From<NameChange> for NameChangeBody {
    fn from(change: NameChange) -> NameChangeBody {
        let (what, new_kind) = match change.what {
            WhatChanged::New => ("new", None),
            WhatChanged::NewKind(kind) => ("new-kind", Some(kind.as_str())),
            WhatChanged::Stopped => ("stopped", None),
        };
        let kind = match change.kind {
            NameKind::Event => "event",
            NameKind::Property => "property",
            NameKind::Trait => "trait",
            // Plugins write these, no source does.
            NameKind::Tag => "tag",
            NameKind::Score => "score",
        };
        let kinds = change.kinds.into_iter().map(|kind| kind.as_str()).collect();
        NameChangeBody { what, kind, name: change.name, event: change.event, new_kind, kinds, at: time(change.at) }
    }
}

/// The date of a day.
fn date(day: i32) -> String {
    let midnight = Timestamp(i64::from(day) * DAY_MS).to_string();
    midnight.split('T').next().unwrap_or_default().to_owned()
}

fn body(
    caller: &Caller,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    quality: SourceQuality,
    days: i32,
) -> QualityBody {
    let reads_people = caller.may(Scope::ProfilesRead);
    let may_see = |change: &NameChange| reads_people || (caller.may(Scope::AudiencesRead) && change.people >= CROWD);
    let listed = quality.days.range(quality.today.saturating_sub(days - 1)..).rev();
    QualityBody {
        source: row.name.to_string(),
        plan: tables.plan_of(&row.name).map(|plan| plan.name.to_string()),
        today: date(quality.today),
        total: (&quality.total).into(),
        week: (&quality.week).into(),
        week_before: (&quality.week_before).into(),
        number_texts: quality.number_texts,
        days: listed.map(|(day, counts)| DayBody { day: date(*day), counts: counts.into() }).collect(),
        changes: quality.changes.into_iter().filter(may_see).map(NameChangeBody::from).collect(),
    }
}

/// The quality of each source's data, in the order of their installation. Days are not listed here.
#[utoipa::path(
    get, path = "/api/v1/sources/quality", tag = "tracking", params(PageQuery), security(("key" = ["metrics:read"])),
    responses((status = 200, body = Page<QualityBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::MetricsRead>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let sources = tables.installed().filter(|row| is_source(&tables, row)).map(|row| (row.id.0, row));
        let page = Page::of(sources, &page, |row| {
            let quality = app.kernel.source_quality(caller.workspace, row.id)?;
            let body = body(&caller, &tables, row, quality, 0);
            Ok(QualityBody { days: Vec::new(), ..body })
        })?;
        WrittenJson::of(&page)
    })
    .await
}

fn is_source(tables: &WorkspaceTables, row: &InstallationRow) -> bool {
    tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Connector)
}

/// The quality of a source's data: what came of its records day by day and in all, and what changed since the week before.
#[utoipa::path(
    get, path = "/api/v1/sources/{id}/quality", tag = "tracking",
    params(("id" = String, Path, description = "the source's name"), QualityQuery), security(("key" = ["metrics:read"])),
    responses((status = 200, body = QualityBody), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::MetricsRead>,
    Path(name): Path<String>,
    Query(query): Query<QualityQuery>,
) -> Result<Json<QualityBody>, ApiError> {
    let caller = authority.caller;
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ApiError::at("?days", format!("{days} is not between 1 and {MAX_DAYS}")));
    }
    if caller.may(Scope::ProfilesRead) {
        app.reads.note(&caller, "source.quality", std::iter::empty::<String>());
    }
    app.offload(move |app| {
        let source = source_named(app, &caller, &name)?;
        let tables = app.catalogue.workspace(caller.workspace)?;
        let row = super::installations::named(&tables, &name)?;
        let quality = app.kernel.source_quality(caller.workspace, source)?;
        Ok(Json(body(&caller, &tables, row, quality, days)))
    })
    .await
}
