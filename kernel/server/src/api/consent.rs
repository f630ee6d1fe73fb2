//! What was said of a person's consents, each statement with its proof and what became of it.

mod reasons;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kith_model::consent::{AnswerOutcome, Consent, EVERYTHING, Outcome, fold};
use kith_model::id::SourceIdentityId;
use kith_model::identity::Identifier;
use kith_pipeline::{ConsentView, StatementView};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Authority, Path, right};
use super::profiles::{no_profile, person, profile_id};
use super::view::{IdentifierView, time};
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
    /// How many older statements are not shown, because each identity's last 128 are kept.
    overwritten: u64,
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

fn body(tables: &WorkspaceTables, view: &ConsentView) -> ConsentHistoryBody {
    let told = AnswerContext { tables, view };
    let explained = fold::explained(&view.contributors);
    let shown = explained.iter().filter(|(answer, _)| answer.beside.is_none() || answer.consent.refused.is_some());
    ConsentHistoryBody {
        profile: view.id.to_string(),
        answers: shown.map(|(answer, why)| told.answer(answer, why)).collect(),
        objection: view.objection.clone(),
        suppressed: view.suppressed.clone(),
        statements: view.statements.iter().map(|said| statement_body(tables, &view.identifiers, said)).collect(),
        overwritten: view.overwritten,
    }
}

/// What was said of a person's consents: the answers that count, and every statement with its source, its time, its event and
/// whether it counted.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/consent", tag = "profiles", params(("id" = String, Path)),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = ConsentHistoryBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
) -> Result<Json<ConsentHistoryBody>, ApiError> {
    let workspace = authority.caller.workspace;
    let profile = profile_id(&id)?;
    app.reads.note(&authority.caller, "profile.consent", [person(profile)]);
    let found = app.offload(move |app| app.kernel.consents(workspace, profile)).await?;
    let view = found.ok_or_else(|| no_profile(&id))?;
    Ok(Json(body(&*app.catalogue.workspace(workspace)?, &view)))
}
