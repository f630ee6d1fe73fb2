//! What was said of a person's consents, each statement with its proof and what became of it.

mod reasons;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kith_model::consent::{AnswerOutcome, Consent, EVERYTHING, Outcome, fold};
use kith_model::id::SourceIdentityId;
use kith_model::identity::Identifier;
use kith_pipeline::{ConsentView, PAGE_BYTES, StatementView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, Path, Query, WrittenJson, right};
use super::profiles::{LeftOutBody, no_profile, person, profile_id};
use super::view::{IdentifierView, time, written_bytes};
use crate::app::App;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};
use reasons::AnswerContext;

/// A person's consents.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConsentHistoryBody {
    profile: String,
    /// The newest answer of each identity and key, with why it counts or not and what would end it. Of an address that came with
    /// the person and is not theirs, and of another user with an address of theirs, the refusals.
    answers: Vec<AnswerBody>,
    /// Why nothing is computed of the person, where they object to profiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    objection: Option<String>,
    /// Why nothing is sent to the person, where one of the identifiers is suppressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<String>,
    /// What events said, the oldest first.
    statements: Vec<StatementBody>,
    /// What has no room in this answer, and where it is read on: answers and statements end with some 2 MiB each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOutBody>,
    /// How many older statements are not shown, because each identity's last 128 are kept.
    overwritten: u64,
}

/// Where the parts of an answer begin that may be too long for one; at their beginnings where it is not said.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConsentQuery {
    /// Leave out so many answers: the `from` of what an answer left out.
    answers_from: Option<usize>,
    /// Show no statements before this place, in the same way.
    statements_from: Option<String>,
}

/// What an identity said of one key, or of all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConsentBody {
    identity: String,
    /// A purpose, `PURPOSE@CHANNEL` or `*@CHANNEL`, in lower case; absent for an answer about all purposes.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    allowed: bool,
    /// What was said in place of `true`, as JSON text, where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    /// The earlier of the event's own time and its receipt.
    time: String,
    /// By which answers are ordered. Of history that a trusted source imports it is its own time.
    received_at: String,
    /// The source's installation.
    source: String,
    /// The event that said it.
    message_id: String,
    /// The other identities whose refusals an agreement ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<String>,
}

/// An answer with its reasons.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerBody {
    #[serde(flatten)]
    answer: ConsentBody,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<IdentifierView>,
    /// Whether it decides about messages; a refusal that was answered in part does.
    in_force: bool,
    why: String,
    /// What would end it, or bring it back.
    until: String,
}

/// What one event said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatementBody {
    identity: String,
    identifier: Option<IdentifierView>,
    time: String,
    received_at: String,
    /// The source's installation.
    source: String,
    /// The event.
    message_id: String,
    said: Vec<SaidBody>,
}

/// One answer of a statement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SaidBody {
    /// A purpose, `PURPOSE@CHANNEL`, or `*`.
    key: String,
    allows: bool,
    /// What was said in place of `true`, as JSON text, where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
    /// Whether it counted when it came.
    counted: bool,
    /// Why not, where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// One answer that counts.
pub(super) fn consent_body(
    tables: &WorkspaceTables,
    identity: SourceIdentityId,
    key: &str,
    consent: &Consent,
) -> ConsentBody {
    ConsentBody {
        identity: identity.to_string(),
        purpose: (key != EVERYTHING).then(|| key.to_owned()),
        allowed: consent.refused.is_none(),
        said: consent.refused.clone(),
        time: time(consent.time),
        received_at: time(consent.received_at),
        source: tables.installation_name(consent.source),
        message_id: consent.message_id.clone(),
        answers: consent.answers.iter().map(ToString::to_string).collect(),
    }
}

fn statement_body(
    tables: &WorkspaceTables,
    identifiers: &BTreeMap<SourceIdentityId, Identifier>,
    statement: &StatementView,
) -> StatementBody {
    StatementBody {
        identity: statement.identity.to_string(),
        identifier: identifiers.get(&statement.identity).map(IdentifierView::from),
        time: time(statement.time),
        received_at: time(statement.received_at),
        source: tables.installation_name(statement.source),
        message_id: statement.message_id.clone(),
        said: statement.heard.iter().map(said_body).collect(),
    }
}

fn said_body(heard: &AnswerOutcome) -> SaidBody {
    let why = match heard.outcome {
        Outcome::Counted => None,
        Outcome::SourceMayNotAgree => Some(
            "its source may not agree to anything; where it may, grant it `consent: give` (`--grant-consent give`)",
        ),
        Outcome::NotNewer => Some("something was said that is newer"),
        Outcome::NoRoom => Some("the identity has answered as many keys as are kept"),
        Outcome::NameTooLong => Some("no purpose or channel has so long a name"),
        Outcome::NotPlain => {
            Some("it is written in letters that only read as this, and whoever agrees has to write plainly")
        }
    };
    SaidBody {
        key: heard.key.clone(),
        allows: heard.refused.is_none(),
        said: heard.refused.clone(),
        counted: why.is_none(),
        why,
    }
}

/// What the answers of an answer take, about.
const ANSWERS_BYTES: usize = PAGE_BYTES / 2;

fn body(tables: &WorkspaceTables, view: &ConsentView, answers_from: usize) -> ConsentHistoryBody {
    let told = AnswerContext { tables, view };
    let mut explained = fold::Explained::of(&view.contributors);
    let is_shown = |answer: &fold::Answer<'_>| answer.beside.is_none() || answer.consent.refused.is_some();
    let shown = explained.answers().iter().enumerate().filter(|(_, answer)| is_shown(answer));
    let shown: Vec<usize> = shown.map(|(place, _)| place).collect();
    let mut left_out = Vec::new();
    let (mut answers, mut bytes, mut rest) = (Vec::new(), 0, shown.into_iter().skip(answers_from));
    while bytes < ANSWERS_BYTES
        && let Some(place) = rest.next()
    {
        let why = explained.why(place);
        let answer = told.answer(&explained.answers()[place], &why);
        bytes += written_bytes(&answer);
        answers.push(answer);
    }
    let count = rest.count() as u64;
    let from = answers_from.saturating_add(answers.len()).to_string();
    left_out.extend((count > 0).then_some(LeftOutBody { part: "answers", count, from }));
    let further = view.further_statements.clone();
    left_out.extend(further.map(|(count, from)| LeftOutBody { part: "statements", count, from }));
    ConsentHistoryBody {
        profile: view.id.to_string(),
        answers,
        objection: view.objection.clone(),
        suppressed: view.suppressed.clone(),
        statements: view.statements.iter().map(|said| statement_body(tables, &view.identifiers, said)).collect(),
        left_out,
        overwritten: view.overwritten,
    }
}

/// What was said of a person's consents: the answers that count, and every statement with its source, its time, its event and
/// whether it counted.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/consent", tag = "profiles", params(("id" = String, Path), ConsentQuery),
    security(("key" = ["profiles:read"])),
    responses(
        (status = 200, body = ConsentHistoryBody), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Query(query): Query<ConsentQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    let profile = profile_id(&id)?;
    app.reads.note(&authority.caller, "profile.consent", [person(profile)]);
    let begin = query.answers_from.unwrap_or(0);
    app.ask(move |app, patience| {
        let found = app.kernel.consents(workspace, profile, query.statements_from.as_deref(), patience)?;
        let view = found.ok_or_else(|| no_profile(&id))?;
        WrittenJson::of(&body(&*app.catalogue.workspace(workspace)?, &view, begin))
    })
    .await
}
