//! Light rules of records: what is dropped, renamed or hashed of what comes in, read and replaced as one document, and tried.

use std::sync::Arc;

use axum::extract::State;
use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::Identifier;
use kith_model::rules::{Act, RecordRules, Rule, Target};
use kith_pipeline::RuleTrial;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::etag::{self, IfMatch, TaggedBody};
use super::extract::{Authority, Json, WrittenJson, right};
use super::sensitive::Mask;
use super::view::{IdentifierView, json};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};

/// Records that one trial takes.
const MAX_TRIED: usize = 100;

/// A rule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleBody {
    /// Names the rule in the flags of what it touched, e.g. `no-ssn`.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    id: String,
    /// `drop`, `rename` or `hash`.
    #[serde(rename = "do")]
    #[schema(value_type = String, pattern = "^(drop|rename|hash)$")]
    act: Act,
    /// `event`, `property`, `trait` or `identifier`.
    #[schema(value_type = String, pattern = "^(event|property|trait|identifier)$")]
    what: Target,
    /// The name of the event, property or fact, or the type of the identifiers; upper and lower case differ.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Of a property: the name of the events that it is taken from; every event unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The new name, of `rename` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// The names of the sources that it holds for; all unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
}

impl From<RuleBody> for Rule {
    fn from(body: RuleBody) -> Rule {
        let RuleBody { id, act, what, name, event, to, sources } = body;
        Rule { id, act, what, name, event, to, sources }
    }
}

impl From<&Rule> for RuleBody {
    fn from(rule: &Rule) -> RuleBody {
        let Rule { id, act, what, name, event, to, sources } = rule.clone();
        RuleBody { id, act, what, name, event, to, sources }
    }
}

/// The rules to be in force.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRecordRules {
    /// At most 200.
    rules: Vec<RuleBody>,
}

/// The rules in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordRulesBody {
    /// One more with each change; flags name it. 0 where there never was a rule.
    version: u32,
    rules: Vec<RuleBody>,
    /// What may be a mistake, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A record to try rules on, as a connector would find it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriedRecord {
    /// `track` unless told.
    #[serde(default, rename = "type")]
    #[schema(value_type = String, pattern = "^(track|identify|page|screen|group|alias)$")]
    kind: EventKind,
    /// The event's name.
    #[serde(default)]
    name: String,
    #[serde(default)]
    identifiers: Vec<TriedIdentifier>,
    #[serde(default)]
    #[schema(value_type = Value)]
    properties: Option<Box<RawValue>>,
    #[serde(default)]
    #[schema(value_type = Value)]
    traits: Option<Box<RawValue>>,
    #[serde(default)]
    #[schema(value_type = Value)]
    context: Option<Box<RawValue>>,
}

/// An identifier of a record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriedIdentifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

/// Which rules to try on which records.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesTrial {
    /// At most 100.
    records: Vec<TriedRecord>,
    /// Rules to try; those in force unless told.
    rules: Option<Vec<RuleBody>>,
    /// The name of the source that the records come from; with none only rules for all sources hold.
    #[serde(default)]
    source: String,
}

/// What rules make of records. Hashes are not those that would be stored, so that nobody finds out by trying whose hash one is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RulesTried {
    /// In the order of the records.
    items: Vec<TriedBody>,
}

/// What rules make of one record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TriedBody {
    /// Whether the whole event is dropped; nothing of it is stored then.
    dropped: bool,
    name: String,
    identifiers: Vec<IdentifierView>,
    #[schema(value_type = Value)]
    properties: Box<RawValue>,
    #[schema(value_type = Value)]
    traits: Box<RawValue>,
    #[schema(value_type = Value)]
    context: Box<RawValue>,
    /// Which rules touched it.
    flags: Vec<String>,
}

impl TriedBody {
    fn new(tried: &RuleTrial) -> TriedBody {
        TriedBody {
            dropped: tried.is_dropped,
            name: tried.event.name.clone(),
            identifiers: tried.event.identifiers.iter().map(IdentifierView::from).collect(),
            properties: json(&tried.event.properties),
            traits: json(&tried.event.traits),
            context: json(&tried.event.context),
            flags: tried.flags.clone(),
        }
    }
}

/// Types of identifiers that clients' facts become as well.
const OF_FACTS: [&str; 2] = ["email", "phone"];

/// What may be a mistake in rules.
fn doubts(tables: &WorkspaceTables, rules: &[Rule]) -> Vec<String> {
    let mut doubts = Vec::new();
    for rule in rules {
        let of_identifier = |other: &Rule| other.what == Target::Identifier && other.name == rule.name;
        if rule.what == Target::Trait
            && rule.act != Act::Rename
            && OF_FACTS.contains(&rule.name.as_str())
            && !rules.iter().any(of_identifier)
        {
            doubts.push(format!(
                "`{}`: the fact `{}` is an identifier too, which stays as it comes; a rule of the identifier takes that",
                rule.id, rule.name
            ));
        }
        for source in rule.sources.iter().filter(|source| tables.installation(source).is_none()) {
            doubts.push(format!("`{}`: there is no source `{source}` so far", rule.id));
        }
    }
    doubts
}

fn shown(tables: &WorkspaceTables) -> RecordRulesBody {
    let RecordRules { version, rules } = tables.record_rules.as_ref();
    RecordRulesBody {
        version: *version,
        rules: rules.iter().map(RuleBody::from).collect(),
        warnings: doubts(tables, rules),
    }
}

fn tagged(app: &App, caller: &Caller) -> Result<TaggedBody<RecordRulesBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    Ok(TaggedBody { tag: etag::tag(tables.record_rules.as_ref()), body: shown(&tables) })
}

fn checked(rules: Vec<RuleBody>) -> Result<Vec<Rule>, ApiError> {
    let rules: Vec<Rule> = rules.into_iter().map(Rule::from).collect();
    RecordRules::check(&rules).map_err(|error| ApiError::at(error.field, error.problem))?;
    Ok(rules)
}

/// The rules of records in force.
#[utoipa::path(
    get, path = "/api/v1/rules", tag = "dictionary", security(("key" = ["audiences:read"])),
    responses((status = 200, body = RecordRulesBody)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
) -> Result<TaggedBody<RecordRulesBody>, ApiError> {
    tagged(&app, &authority.caller)
}

/// Replace the rules of records. They hold for what comes from now on, and touch nothing that is stored. With the tag of a read
/// in `If-Match` it is refused where somebody else has changed them since.
#[utoipa::path(
    put, path = "/api/v1/rules", tag = "dictionary", security(("key" = ["dictionary:write"])),
    request_body = NewRecordRules,
    responses(
        (status = 200, body = RecordRulesBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    if_match: IfMatch,
    Json(wanted): Json<NewRecordRules>,
) -> Result<TaggedBody<RecordRulesBody>, ApiError> {
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    let rules = checked(wanted.rules)?;
    app.offload(move |app| {
        app.change(caller.workspace, actor, |draft| {
            let present = Arc::clone(&draft.tables().record_rules);
            if_match.check("the list of rules", || etag::tag(present.as_ref()))?;
            check_renames(draft.tables(), &caller, &present.rules, &rules)?;
            if present.rules == rules {
                return Ok(());
            }
            let audited = |rules: &RecordRules| serde_json::to_value(rules).ok();
            draft.put_record_rules(rules.clone());
            let after = audited(&draft.tables().record_rules.clone());
            draft.audit("rules.replace", "rules of records", audited(&present), after)?;
            Ok(())
        })?;
        tagged(app, &caller)
    })
    .await
}

/// Under another name something sensitive would be masked no more: who must not see it renames it not.
fn check_renames(tables: &WorkspaceTables, caller: &Caller, present: &[Rule], wanted: &[Rule]) -> Result<(), ApiError> {
    let mask = Mask::new(tables, caller);
    let new = wanted.iter().filter(|rule| rule.act == Act::Rename && !present.contains(rule));
    for rule in new {
        let is_hidden = match rule.what {
            Target::Trait => mask.hides_trait(&rule.name),
            Target::Event => mask.hides_something_of(&rule.name),
            Target::Property => mask.hides_any_property(rule.event.as_deref(), &rule.name),
            Target::Identifier => false,
        };
        if is_hidden {
            let message = format!(
                "the rule `{}` renames `{}`, which the data dictionary calls sensitive; the key has no scope `sensitive:read`",
                rule.id, rule.name
            );
            return Err(ApiError::Denied { message });
        }
    }
    Ok(())
}

/// Try rules on records: what would be stored of them, and which rules touched them. Nothing is stored.
#[utoipa::path(
    post, path = "/api/v1/rules/try", tag = "dictionary", security(("key" = ["dictionary:write"])),
    request_body = RulesTrial,
    responses((status = 200, body = RulesTried), (status = 400, body = Problem), (status = 413, body = Problem)),
)]
pub(crate) async fn try_out(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    Json(trial): Json<RulesTrial>,
) -> Result<WrittenJson, ApiError> {
    if trial.records.len() > MAX_TRIED {
        return Err(ApiError::at("records", format!("at most {MAX_TRIED} at once")));
    }
    let workspace = authority.caller.workspace;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| ApiError::internal("making a key for a trial", error))?;
    app.offload(move |app| {
        let rules = trial.rules.map(checked).transpose()?;
        let text = |json: Option<Box<RawValue>>| json.map_or_else(String::new, |json| json.get().to_owned());
        let records = trial.records.into_iter().map(|record| DraftEvent {
            kind: record.kind,
            name: record.name,
            identifiers: record.identifiers.into_iter().map(|one| Identifier::new(one.kind, one.value)).collect(),
            properties: text(record.properties),
            traits: text(record.traits),
            context: text(record.context),
            ..DraftEvent::default()
        });
        let records: Vec<DraftEvent> = records.collect();
        let tried = app.kernel.try_rules(workspace, rules, &trial.source, &records, &key)?;
        WrittenJson::of(&RulesTried { items: tried.iter().map(TriedBody::new).collect() })
    })
    .await
}
