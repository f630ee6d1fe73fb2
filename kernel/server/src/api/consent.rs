//! What was said of a person's consents, each statement with its proof and what became of it.

mod reasons;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kith_model::consent::{AnswerOutcome, CONSENT, Consent, EVERYTHING, Outcome, fold};
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_pipeline::{ConsentView, PAGE_BYTES, StatementView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, Path, Query, WrittenJson, right};
use super::profiles::{LeftOutBody, no_profile, person, profile_id};
use super::sensitive::Mask;
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
    /// Show no answers before this place: the `from` of what an answer left out.
    answers_from: Option<String>,
    /// Show no statements before theirs, in the same way.
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
    /// Whether it counted when it came, and was not taken back since.
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
        said: statement.heard.iter().map(|heard| said_body(heard, statement.is_taken_back)).collect(),
    }
}

fn said_body(heard: &AnswerOutcome, is_taken_back: bool) -> SaidBody {
    let why = match heard.outcome {
        // What was refused stays refused.
        Outcome::Counted if is_taken_back && heard.refused.is_none() => {
            Some("it counted until its event was taken back, with what a version of its connector read")
        }
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

/// Where an answer stands among those of a person, whatever else is said between two looks: first by whether somebody gave it who is
/// beside the person, then by its identity and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AnswerPlace(bool, SourceIdentityId, String);

impl AnswerPlace {
    fn of(answer: &fold::Answer<'_>) -> AnswerPlace {
        AnswerPlace(answer.beside.is_some(), answer.identity, answer.key.to_owned())
    }

    fn read(text: &str) -> Option<AnswerPlace> {
        let mut parts = text.splitn(3, '.');
        let is_beside = match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let identity: ProfileId = parts.next()?.parse().ok()?;
        Some(AnswerPlace(is_beside, identity.0, parts.next()?.to_owned()))
    }

    fn text(&self) -> String {
        let AnswerPlace(is_beside, identity, key) = self;
        format!("{}.{identity}.{key}", u8::from(*is_beside))
    }
}

/// The answers that are shown, from a place on, in the order of their places.
fn shown_from(answers: &[fold::Answer<'_>], from: Option<&AnswerPlace>) -> Vec<(AnswerPlace, usize)> {
    let is_shown = |answer: &fold::Answer<'_>| answer.beside.is_none() || answer.consent.refused.is_some();
    let shown = answers.iter().enumerate().filter(|(_, answer)| is_shown(answer));
    let placed = shown.map(|(index, answer)| (AnswerPlace::of(answer), index));
    let mut found: Vec<_> = placed.filter(|(place, _)| from.is_none_or(|from| place >= from)).collect();
    found.sort_unstable();
    found
}

/// What the answers of an answer take, about.
const ANSWERS_BYTES: usize = PAGE_BYTES / 2;

fn body(tables: &WorkspaceTables, view: &ConsentView, answers_from: Option<&AnswerPlace>) -> ConsentHistoryBody {
    let told = AnswerContext { tables, view };
    let mut explained = fold::Explained::of(&view.contributors);
    let mut left_out = Vec::new();
    let mut rest = shown_from(explained.answers(), answers_from).into_iter();
    let (mut answers, mut bytes) = (Vec::new(), 0);
    while bytes < ANSWERS_BYTES
        && let Some((_, index)) = rest.next()
    {
        let why = explained.why(index);
        let answer = told.answer(&explained.answers()[index], &why);
        bytes += written_bytes(&answer);
        answers.push(answer);
    }
    let rest = rest.as_slice();
    let next = rest.first().map(|(place, _)| place.text());
    left_out.extend(next.map(|from| LeftOutBody { part: "answers", count: rest.len() as u64, from }));
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
/// whether it counted. They are what the fact `consent` said, and shown to nobody who may not see that.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/consent", tag = "profiles", params(("id" = String, Path), ConsentQuery),
    security(("key" = ["profiles:read"])),
    responses(
        (status = 200, body = ConsentHistoryBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem),
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
    Mask::new(&*app.catalogue.workspace(workspace)?, &authority.caller).insist_on_trait(CONSENT)?;
    let begin = query.answers_from.as_deref().map(|text| {
        AnswerPlace::read(text).ok_or_else(|| ApiError::at("?answers_from", "is no `from` of what an answer left out"))
    });
    let begin = begin.transpose()?;
    app.reads.note(&authority.caller, "profile.consent", [person(profile)]);
    app.ask(move |app, patience| {
        let found = app.kernel.consents(workspace, profile, query.statements_from.as_deref(), patience)?;
        let view = found.ok_or_else(|| no_profile(&id))?;
        WrittenJson::of(&body(&*app.catalogue.workspace(workspace)?, &view, begin.as_ref()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use kith_model::id::InstallationId;
    use kith_model::time::Timestamp;

    use super::*;

    #[test]
    fn a_page_of_answers_goes_on_where_it_was_whatever_was_said_meanwhile() {
        let consent = Consent {
            received_at: Timestamp(0),
            time: Timestamp(0),
            refused: None,
            source: InstallationId(1),
            message_id: String::new(),
            answers: Vec::new(),
        };
        let identity = |number: u8| {
            let id: ProfileId = format!("019000000000700080000000000000{number:02x}").parse().unwrap();
            id.0
        };
        let answer = |number: u8, key| {
            let (identity, consent) = (identity(number), &consent);
            fold::Answer { identity, kind: "user_id", form: None, key, consent, beside: None }
        };
        let before = [answer(2, "*"), answer(2, "a.b"), answer(5, "news")];
        let keys = |answers: &[fold::Answer<'_>], from: Option<&AnswerPlace>| {
            let found = shown_from(answers, from);
            found.into_iter().map(|(_, index)| answers[index].key.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&before, None), ["*", "a.b", "news"]);
        // After a page of one, somebody says more, and another identity joins.
        let next = AnswerPlace::read(&AnswerPlace::of(&before[1]).text()).unwrap();
        let after = [answer(5, "news"), answer(1, "first"), answer(2, "*"), answer(2, "*@email"), answer(2, "a.b")];
        assert_eq!(keys(&after, Some(&next)), ["a.b", "news"]);
        for bad in ["", "3", "0", "2.x.y", "0.x.y", "0.01900000000070008000000000000002"] {
            assert!(AnswerPlace::read(bad).is_none(), "{bad}");
        }
    }
    /// It was told as one that counts, and whoever proves an agreement by it proves a wrong one.
    #[test]
    fn an_agreement_that_was_taken_back_does_not_count_and_a_refusal_does() {
        let heard = |refused: Option<&str>| AnswerOutcome {
            key: "news".into(),
            refused: refused.map(str::to_owned),
            outcome: Outcome::Counted,
        };
        let counted = |refused, is_taken_back| said_body(&heard(refused), is_taken_back).counted;
        assert_eq!([counted(None, false), counted(None, true), counted(Some("false"), true)], [true, false, true]);
    }
}
