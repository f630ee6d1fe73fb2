//! The bodies of the workspaces' routes, and what is checked of them before anything is held.

use std::collections::BTreeMap;

use kith_features::Zone;
use kith_model::budget::{Budget, table};
use kith_model::id::{InvalidId, Name};
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::extract::check_text;
use crate::api::view::time;
use crate::app::App;
use crate::catalogue::{Tables, WorkspaceRow, WorkspaceState, WorkspaceTables};
use crate::error::ApiError;

/// The largest limit that a host key may set: what is kept is mirrored in memory.
const MAX_KEPT: u64 = 1_000_000;

/// The same of a budget whose default is more: so many times that.
const MAX_TIMES: u64 = 100;

/// A workspace to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWorkspace {
    /// Lower-case letters, digits and `-`, at most 64, beginning with a letter.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    name: String,
    /// What people call it.
    #[serde(default)]
    title: String,
    /// Where calendar days begin, an IANA name. It stays.
    time_zone: String,
    /// How much it may keep, by the names of the budgets; the server's defaults hold for the others.
    #[serde(default)]
    budgets: BTreeMap<String, u64>,
}

/// Another state of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WantedState {
    Active,
    Suspended,
}

/// What to change of a workspace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchWorkspace {
    /// Its keys and what it holds stay the same.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    name: Option<String>,
    title: Option<String>,
    state: Option<WantedState>,
    /// Those that are named change; `null` brings the server's default back.
    #[serde(default)]
    budgets: BTreeMap<String, Option<u64>>,
}

/// A workspace as the host sees it: what was made in it, and nothing of its people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantBody {
    name: String,
    title: String,
    /// `active` or `suspended`.
    state: String,
    /// Since when it is suspended.
    suspended_since: Option<String>,
    /// Where calendar days begin.
    time_zone: String,
    created_at: String,
    /// How much it keeps and may keep.
    budgets: BTreeMap<String, KeptBody>,
}

/// How much of a budget is used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeptBody {
    kept: u64,
    limit: u64,
}

/// A workspace with its first admin key, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewWorkspaceBody {
    pub(super) key: String,
    #[serde(flatten)]
    pub(super) about: TenantBody,
}

/// A [`NewWorkspace`] that can be made.
pub(super) struct CheckedWorkspace {
    pub name: Name,
    pub title: String,
    pub time_zone: String,
    pub budgets: BTreeMap<String, u64>,
}

/// A [`PatchWorkspace`] that can be made.
pub(super) struct CheckedPatch {
    pub name: Option<Name>,
    pub title: Option<String>,
    pub state: Option<WantedState>,
    pub budgets: BTreeMap<String, Option<u64>>,
}

impl NewWorkspace {
    pub(super) fn checked(self) -> Result<CheckedWorkspace, ApiError> {
        let NewWorkspace { name, title, time_zone, budgets } = self;
        Zone::parse(&time_zone).map_err(|error| ApiError::at("time_zone", error.to_string()))?;
        budgets.iter().try_for_each(|(budget, limit)| check_budget(budget, Some(*limit)))?;
        Ok(CheckedWorkspace { name: read_name(&name)?, title: read_title(title)?, time_zone, budgets })
    }
}

impl PatchWorkspace {
    pub(super) fn checked(self) -> Result<CheckedPatch, ApiError> {
        let PatchWorkspace { name, title, state, budgets } = self;
        budgets.iter().try_for_each(|(budget, limit)| check_budget(budget, *limit))?;
        let name = name.as_deref().map(read_name).transpose()?;
        Ok(CheckedPatch { name, title: title.map(read_title).transpose()?, state, budgets })
    }
}

fn read_name(name: &str) -> Result<Name, ApiError> {
    name.parse().map_err(|error: InvalidId| ApiError::at("name", error.to_string()))
}

fn read_title(title: String) -> Result<String, ApiError> {
    check_text(&table::TITLE_TEXT, &title)?;
    Ok(title)
}

fn check_budget(name: &str, limit: Option<u64>) -> Result<(), ApiError> {
    let Some(budget) = table::OF_WORKSPACES.iter().find(|budget| budget.name == name) else {
        let known: Vec<&str> = table::OF_WORKSPACES.iter().map(|budget| budget.name).collect();
        let known = known.join("`, `");
        return Err(ApiError::at("budgets", format!("a workspace's own budgets are `{known}`")));
    };
    let most = MAX_KEPT.max(MAX_TIMES * budget.default);
    match limit {
        Some(limit) if !(1..=most).contains(&limit) => {
            Err(ApiError::at(format!("budgets.{name}"), format!("{limit} is not between 1 and {most}")))
        }
        _ => Ok(()),
    }
}

/// The name of a state, and since when a workspace is suspended.
pub(crate) fn state(row: &WorkspaceRow) -> (&'static str, Option<Timestamp>) {
    match row.state {
        WorkspaceState::Active => ("active", None),
        WorkspaceState::Suspended { since } => ("suspended", Some(since)),
        WorkspaceState::Deleted { .. } => ("deleted", None),
    }
}

pub(super) fn of(app: &App, all: &Tables, tables: &WorkspaceTables, now: Timestamp) -> TenantBody {
    let row = &tables.row;
    let (state, since) = state(row);
    let kept = |budget: &'static Budget| match budget.name {
        name if name == table::AUDIENCES_KEPT.name => tables.audiences.len() as u64,
        name if name == table::AGGREGATES_KEPT.name => app.kernel.aggregates(row.id) as u64,
        name if name == table::INSTALLATIONS_KEPT.name => tables.installed().count() as u64,
        name if name == table::SUPPRESSIONS_KEPT.name => tables.suppressions(),
        name if name == table::SETTINGS_WRITTEN.name => app.catalogue.written(tables),
        _ => all.good_keys(row.id, now) as u64,
    };
    let budgets = table::OF_WORKSPACES.iter().map(|budget| {
        let limit = row.budgets.get(budget.name).copied().unwrap_or(budget.default);
        (budget.name.to_owned(), KeptBody { kept: kept(budget), limit })
    });
    TenantBody {
        name: row.name.to_string(),
        title: row.title.clone(),
        state: state.to_owned(),
        suspended_since: since.map(time),
        time_zone: row.time_zone.clone(),
        created_at: time(row.created_at),
        budgets: budgets.collect(),
    }
}

/// A workspace as its audit log shows it.
pub(super) fn audited(row: &WorkspaceRow) -> Value {
    let (state, _) = state(row);
    json!({
        "name": row.name, "title": row.title, "state": state, "time_zone": row.time_zone, "budgets": row.budgets,
    })
}
