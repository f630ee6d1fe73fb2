//! Who is one person: the rules, what was not followed, the merges that hold, and why two identifiers are one person.

mod by_hand;
mod change;
mod rules;
mod splits;

use std::sync::Arc;

use axum::extract::State;
use kith_model::identity::{Identifier, Veto};
use kith_pipeline::{EvidenceView, MergeView, NotFollowed, PageRequest, Step};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, PageQuery, Path, Query, WrittenJson, right};
use super::profiles::{EventBody, event_body, no_profile, person, profile_id};
use super::sensitive::Mask;
use super::view::{IdentifierView, Page, time};
use crate::app::App;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};
use crate::processor;

pub(crate) use by_hand::{__path_merge, __path_split, merge, split};
pub(crate) use change::{
    __path_begin_dry_run, __path_dry_run, __path_rule_change, __path_undo, begin_dry_run, dry_run, rule_change, undo,
};
pub(crate) use rules::{__path_read, __path_replace, read, replace};
pub(crate) use splits::{__path_splits, __path_unsplit, splits, unsplit};

/// One end of a piece of evidence.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EvidenceEndBody {
    #[serde(flatten)]
    identifier: IdentifierView,
    /// The profile that it belongs to now.
    profile: String,
}

/// A piece of evidence that two identifiers are one person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EvidenceBody {
    /// `same_event`: one event carries both. `alias`: an alias names both. `spelling`: one is the other's normal form.
    /// `same_id`: the old id of an alias is this user's or this device's. `by_hand`: somebody said so. `former_form`: one was the
    /// other's normal form by earlier rules.
    evidence: String,
    identifiers: Vec<EvidenceEndBody>,
    /// When the event happened that gave it; absent for what a rule gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// The source of that event.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The id of that event's message; for what somebody said, the id of their key.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

/// Evidence that joins nobody, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotFollowedBody {
    #[serde(flatten)]
    evidence: EvidenceBody,
    /// `limit`: the person would have more values of a type than allowed. `shared`: an identifier of it came with too many
    /// others. `must_not_link`: somebody parted them. `too_many_members` and `surplus`: there is too much of it.
    rule: String,
    /// What a person reads.
    reason: String,
}

/// Two people whom a piece of evidence made one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MergeBody {
    /// The profile that kept its id.
    winner: String,
    /// The id that leads to the winner since.
    loser: String,
    #[serde(flatten)]
    evidence: EvidenceBody,
}

/// A step between two identifiers of a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepBody {
    #[serde(flatten)]
    evidence: EvidenceBody,
    /// The event that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventBody>,
}

/// The shortest way of evidence between two identifiers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhyBody {
    /// Whether both are of one person now.
    same: bool,
    /// As many as have room: an answer ends behind the step with which it passes some 4 MiB.
    steps: Vec<StepBody>,
    /// Where the rest of the way begins: hand it in as `from`; `null` where this is all of it.
    next: Option<String>,
}

/// Which two.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhyQuery {
    /// `TYPE:VALUE` of the other end.
    #[param(pattern = "^[^:]+:.+$")]
    with: String,
    /// `TYPE:VALUE` to begin with; the identifier that names the profile where it is absent.
    #[param(pattern = "^[^:]+:.+$")]
    from: Option<String>,
}

fn evidence_body(tables: &WorkspaceTables, view: &EvidenceView) -> EvidenceBody {
    let edge = &view.edge;
    let ends = view.identifiers.iter().zip(view.profiles);
    let is_of_rule = edge.id.evidence.is_of_rule();
    EvidenceBody {
        evidence: edge.id.evidence.as_str().to_owned(),
        identifiers: ends
            .map(|(identifier, profile)| EvidenceEndBody {
                identifier: identifier.into(),
                profile: profile.to_string(),
            })
            .collect(),
        time: (!is_of_rule).then(|| time(edge.time)),
        source: (!is_of_rule).then(|| tables.installation_name(edge.source)),
        message_id: (!is_of_rule).then(|| edge.message_id.clone()),
    }
}

/// A veto's name and what a person reads.
fn veto_text(veto: &Veto) -> (&'static str, String) {
    match veto {
        Veto::Limit { kind } => ("limit", format!("one person would have more `{kind}` than the identity rules allow")),
        Veto::MustNotLink => ("must_not_link", "somebody said that they are not one person".to_owned()),
        Veto::TooManyMembers => ("too_many_members", "one person would have too many identifiers".to_owned()),
        Veto::Shared => (
            "shared",
            "one of them came with too many others, or the identity rules say that it ties nobody".to_owned(),
        ),
        Veto::Unfollowed => ("unfollowed", "the identity rules do not follow evidence of this kind".to_owned()),
        Veto::Surplus => ("surplus", "one of them has as much evidence as it keeps".to_owned()),
    }
}

pub(crate) fn not_followed_body(tables: &WorkspaceTables, found: &NotFollowed) -> NotFollowedBody {
    let (rule, reason) = veto_text(&found.veto);
    NotFollowedBody { evidence: evidence_body(tables, &found.evidence), rule: rule.to_owned(), reason }
}

fn merge_body(tables: &WorkspaceTables, merge: &MergeView) -> MergeBody {
    MergeBody {
        winner: merge.winner.to_string(),
        loser: merge.loser.to_string(),
        evidence: evidence_body(tables, &merge.evidence),
    }
}

fn step_body(tables: &WorkspaceTables, step: &Step, mask: &Mask) -> StepBody {
    StepBody {
        evidence: evidence_body(tables, &step.evidence),
        event: step.event.as_ref().map(|event| event_body(tables, event, mask)),
    }
}

/// All evidence that joins nobody, and by which rule. A page may be short, even empty, and still have a next one.
#[utoipa::path(
    get, path = "/api/v1/identity/not-followed", tag = "identity", params(PageQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = Page<NotFollowedBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn not_followed(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let (workspace, limit) = (authority.caller.workspace, page.limit()?);
    let cursor = page.cursor;
    app.offload(move |app| {
        let found = app.kernel.not_followed(workspace, PageRequest { limit, cursor: cursor.as_deref() })?;
        let of = found.items.iter().flat_map(|found| found.evidence.profiles).map(person);
        app.reads.note(&authority.caller, "identity.not-followed", of);
        let tables = app.catalogue.workspace(workspace)?;
        let items = found.items.iter().map(|found| not_followed_body(&tables, found)).collect();
        WrittenJson::of(&Page { items, next: found.next })
    })
    .await
}

/// All merges that hold, person by person, with the evidence of each. `limit` is a number of people, whose merges come
/// together. A page may be short and still have a next one; it is empty then only where 200,000 pieces of evidence merged nobody.
#[utoipa::path(
    get, path = "/api/v1/identity/merges", tag = "identity", params(PageQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = Page<MergeBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn merges(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let (workspace, limit) = (authority.caller.workspace, page.limit()?);
    let cursor = page.cursor;
    app.ask(move |app, patience| {
        let found = app.kernel.merges(workspace, PageRequest { limit, cursor: cursor.as_deref() }, patience)?;
        let of = found.items.iter().flat_map(|merge| [merge.winner, merge.loser]).map(person);
        app.reads.note(&authority.caller, "identity.merges", of);
        let tables = app.catalogue.workspace(workspace)?;
        let items = found.items.iter().map(|merge| merge_body(&tables, merge)).collect();
        WrittenJson::of(&Page { items, next: found.next })
    })
    .await
}

/// `TYPE:VALUE`, as a parameter or a member has it.
pub(super) fn identifier_at(place: &str, text: &str) -> Result<Identifier, ApiError> {
    text.split_once(':')
        .filter(|(kind, value)| !kind.is_empty() && !value.is_empty())
        .map(|(kind, value)| Identifier::new(kind, value))
        .ok_or_else(|| ApiError::at(place, "write TYPE:VALUE, e.g. email:ada@example.com"))
}

/// Why two identifiers are one person: the shortest way of evidence, with the events that gave it.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/why", tag = "identity", params(("id" = String, Path), WhyQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = WhyBody), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn why(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Query(query): Query<WhyQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    let profile = profile_id(&id)?;
    let with = identifier_at("?with", &query.with)?;
    let from = query.from.as_deref().map(|text| identifier_at("?from", text)).transpose()?;
    app.reads.note(&authority.caller, "identity.why", [person(profile)]);
    // Its steps are as large as their events.
    processor::is_large_from_now_on();
    app.ask(move |app, patience| {
        let found = app.kernel.why(workspace, profile, (from.as_ref(), &with), patience)?;
        let way = found.ok_or_else(|| no_profile(&id))?;
        let tables = app.catalogue.workspace(workspace)?;
        let mask = Mask::new(&tables, &authority.caller);
        let same = way.is_some();
        let (steps, next) = way.map_or_else(Default::default, |way| (way.steps, way.next));
        let steps = steps.iter().map(|step| step_body(&tables, step, &mask)).collect();
        WrittenJson::of(&WhyBody { same, steps, next: next.map(|next| next.to_string()) })
    })
    .await
}
