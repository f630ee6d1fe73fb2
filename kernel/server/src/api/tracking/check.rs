//! Trying records against a tracking plan, without storing anything.

use std::sync::Arc;

use axum::extract::State;
use kith_model::event::{DraftEvent, EventKind};
use kith_model::tracking::{Judgement, Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{PlanDocument, named, ready};
use crate::api::extract::{Authority, Json, Path, right};
use crate::app::App;
use crate::catalogue::tracking::{ExpectedRow, TrackingPlanRow};
use crate::error::{ApiError, Problem};

/// Records to try, and against what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanTrial {
    /// Events as the plan sees them; what else they have is not looked at.
    records: Vec<CheckedRecord>,
    /// A plan that is not stored, in the place of the stored one.
    #[serde(default)]
    plan: Option<PlanDocument>,
}

/// An event as a plan sees it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CheckedRecord {
    /// `track` unless told.
    #[serde(default, rename = "type")]
    #[schema(value_type = String, pattern = "^(track|identify|page|screen|group|alias)$")]
    kind: EventKind,
    #[serde(default)]
    event: Option<String>,
    /// In the place of `event`.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Value)]
    properties: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Value)]
    traits: Option<Value>,
}

/// What the plan says of the records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanTried {
    /// How many were tried.
    records: u64,
    /// How many are as the plan has them.
    as_planned: u64,
    /// How many would be taken although they are not.
    allowed: u64,
    /// How many would be taken with a flag.
    flagged: u64,
    /// How many would be set aside.
    rejected: u64,
    /// The first hundred that are not as the plan has them.
    mistakes: Vec<PlanMistakeBody>,
}

/// In what a record differs from the plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanMistakeBody {
    /// The record's place among those that were sent, from 0.
    index: u64,
    /// What would become of it: `allow`, `flag` or `reject`.
    #[schema(value_type = String, pattern = "^(allow|flag|reject)$")]
    policy: Policy,
    /// `unplanned-event` or `plan-violation`.
    code: &'static str,
    /// E.g. `properties.total`.
    place: String,
    message: String,
}

/// Mistakes that are listed; all are counted.
const MAX_LISTED: usize = 100;

impl CheckedRecord {
    fn draft(self) -> DraftEvent {
        let text = |object: Option<Value>| object.map_or_else(String::new, |object| object.to_string());
        DraftEvent {
            kind: self.kind,
            name: self.event.or(self.name).unwrap_or_default(),
            properties: text(self.properties),
            traits: text(self.traits),
            ..DraftEvent::default()
        }
    }
}

/// Try records against a tracking plan, or against one that is not stored. Nothing is kept of them.
#[utoipa::path(
    post, path = "/api/v1/tracking-plans/{id}/check", tag = "tracking",
    params(("id" = String, Path, pattern = "^[a-z][a-z0-9-]{0,63}$", description = "the plan's name")), security(("key" = ["audiences:read"])),
    request_body = PlanTrial,
    responses(
        (status = 200, body = PlanTried), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem),
    ),
)]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Path(name): Path<String>,
    Json(trial): Json<PlanTrial>,
) -> Result<Json<PlanTried>, ApiError> {
    let workspace = authority.caller.workspace;
    app.offload(move |app| {
        let row = match trial.plan {
            Some(document) => Arc::new(row_of(&name, document)?),
            None => Arc::clone(named(&*app.catalogue.workspace(workspace)?, &name)?),
        };
        let plan = ready(&row)?;
        let events: Vec<DraftEvent> = trial.records.into_iter().map(CheckedRecord::draft).collect();
        let judged = plan.judge(&events);
        let mistakes: Vec<(usize, &Judgement)> =
            (0..events.len()).filter_map(|index| Some((index, judged.of(index)?))).collect();
        let of = |policy: Policy| mistakes.iter().filter(|(_, judged)| judged.policy == policy).count() as u64;
        let shown = |(index, judged): &(usize, &Judgement)| PlanMistakeBody {
            index: *index as u64,
            policy: judged.policy,
            code: judged.code(),
            place: judged.place.clone(),
            message: judged.message.clone(),
        };
        Ok(Json(PlanTried {
            records: events.len() as u64,
            as_planned: (events.len() - mistakes.len()) as u64,
            allowed: of(Policy::Allow),
            flagged: of(Policy::Flag),
            rejected: of(Policy::Reject),
            mistakes: mistakes.iter().take(MAX_LISTED).map(shown).collect(),
        }))
    })
    .await
}

/// A plan that is not stored; which sources it is of plays no part.
fn row_of(name: &str, document: PlanDocument) -> Result<TrackingPlanRow, ApiError> {
    let PlanDocument { title, unplanned, events, traits, sources: _ } = document;
    Ok(TrackingPlanRow {
        name: super::name_of(name)?,
        title,
        sources: None,
        unplanned,
        events: events.into_iter().map(|(name, expected)| (name, expected.into())).collect(),
        traits: traits.map(ExpectedRow::from),
        updated_at: kith_model::time::Timestamp(0),
    })
}
