//! Reading people: one profile with where everything on it came from, and its events.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use kith_model::consent::CONSENT;
use kith_model::event::RecordedEvent;
use kith_model::id::{AudienceId, ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::profile::Provenance;
use kith_pipeline::{LeftOut, PageRequest, Patience, PersonRead, ProfileStart, ProfileView, Whom};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::consent::{ConsentBody, consent_body};
use super::extract::{Authority, PageQuery, Path, Query, WrittenJson, right};
use super::identity::{NotFollowedBody, not_followed_body};
use super::people::{self, FoundPeople, PeopleQuery};
use super::sensitive::Mask;
use super::view::{IdentifierView, Page, json, time};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};
use crate::processor;
use crate::reads;

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfileBody {
    id: String,
    created_at: String,
    identifiers: Vec<ProfileIdentifierBody>,
    /// The answers that count, of each identity and key; all that was said is under `/consent`.
    consents: Vec<ConsentBody>,
    /// Evidence about these identifiers that joins nobody to this person, and by which rule; a hundred pieces at most.
    not_followed: Vec<NotFollowedBody>,
    /// Whether there may be more of it; `GET /api/v1/identity/not-followed` lists all.
    not_followed_more: bool,
    traits: BTreeMap<String, TraitBody>,
    tags: BTreeMap<String, TagBody>,
    scores: BTreeMap<String, ScoreBody>,
    audiences: Vec<MembershipBody>,
    /// The log position up to which tags, scores and audiences are computed.
    as_of: u64,
    /// What is `null` or left out because the data dictionary calls it sensitive and the key has no scope `sensitive:read`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<String>,
    /// What has no room in this answer, and where it is read on. A part of a person ends with some 1 MiB.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOutBody>,
}

/// What of a part of a person has no room in an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftOutBody {
    /// `traits`, `tags`, `scores` or `consents` of a profile; `answers` or `statements` of consents.
    pub(super) part: &'static str,
    /// How many that follow are not in the answer.
    pub(super) count: u64,
    /// The first of them: hand it in as the parameter `PART_from`, e.g. `traits_from`.
    pub(super) from: String,
}

/// Where the parts of a person begin that may be too long for one answer; at their beginnings where it is not said.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProfileQuery {
    /// Show no traits whose names come before this one: the `from` of what an answer left out.
    traits_from: Option<String>,
    /// The same of tags.
    tags_from: Option<String>,
    /// The same of scores.
    scores_from: Option<String>,
    /// The same of consents, by the identity that answered.
    consents_from: Option<String>,
}

impl ProfileQuery {
    fn start(self) -> Result<ProfileStart, ApiError> {
        let consents = self.consents_from.as_deref().map(str::parse::<ProfileId>).transpose();
        let consents = consents.map_err(|error| ApiError::at("?consents_from", error.to_string()))?;
        Ok(ProfileStart {
            traits: self.traits_from,
            tags: self.tags_from,
            scores: self.scores_from,
            consents: consents.map(|identity| identity.0),
        })
    }
}

/// An identifier with the source identity that it made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfileIdentifierBody {
    #[serde(flatten)]
    identifier: IdentifierView,
    identity: String,
}

/// A fact and where it came from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TraitBody {
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    time: String,
    /// The source's installation.
    source: String,
    message_id: String,
    identity: String,
}

/// A tag and where it came from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagBody {
    #[schema(value_type = Value)]
    value: Box<RawValue>,
    weight: Option<f64>,
    from: ProvenanceBody,
}

/// A score and where it came from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoreBody {
    value: f64,
    from: ProvenanceBody,
}

/// Which computation set a value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProvenanceBody {
    installation: String,
    /// SHA-256 of the plugin's component.
    digest: String,
    /// The fitted state's version; 0 where none was fitted.
    fit: u32,
    /// The log position of the newest event that the computation had seen of this person.
    cause: u64,
    computed_at: String,
}

/// Membership in an audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MembershipBody {
    audience: String,
    since: String,
    /// The log position of the event that brought the person in.
    cause: u64,
}

/// A stored event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    position: u64,
    message_id: String,
    kind: String,
    name: String,
    time: String,
    received_at: String,
    source: String,
    identity: String,
    identifiers: Vec<IdentifierView>,
    #[schema(value_type = Object)]
    properties: Box<RawValue>,
    #[schema(value_type = Object)]
    traits: Box<RawValue>,
    #[schema(value_type = Object)]
    context: Box<RawValue>,
    /// What was odd in the record and what was done about it: a code, and behind a colon the place, e.g. `clock-corrected` or
    /// `half-surrogate:properties.title`.
    flags: Vec<String>,
    /// The time as the sender wrote it, where `time` is another moment or does not say all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_time: Option<String>,
    /// Where it stood in what brought it, if its connector said: the line of the file from 1, or the index in the request from 0.
    /// Otherwise 0.
    place: u64,
    /// What is `null` because the data dictionary calls it sensitive and the key has no scope `sensitive:read`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<String>,
}

fn provenance(tables: &WorkspaceTables, from: &Provenance) -> ProvenanceBody {
    ProvenanceBody {
        installation: tables.installation_name(from.installation),
        digest: from.digest.clone(),
        fit: from.fit,
        cause: from.cause.0,
        computed_at: time(from.computed_at),
    }
}

fn profile_body(tables: &WorkspaceTables, view: &ProfileView, mask: &Mask) -> ProfileBody {
    let mut withheld = Vec::new();
    let member = |(identity, identifier): &(SourceIdentityId, Identifier)| ProfileIdentifierBody {
        identifier: identifier.into(),
        identity: identity.to_string(),
    };
    let traits = view.traits.iter().map(|(name, folded)| {
        let hidden = mask.hides_trait(name);
        withheld.extend(hidden.then(|| format!("traits.{name}")));
        let body = TraitBody {
            value: json(if hidden { "null" } else { &folded.value.json }),
            time: time(folded.value.time),
            source: tables.installation_name(folded.value.source),
            message_id: folded.value.message_id.clone(),
            identity: folded.identity.to_string(),
        };
        (name.clone(), body)
    });
    let traits = traits.collect();
    let tags = view.tags.iter().map(|(name, tag)| {
        let from = provenance(tables, &tag.provenance);
        (name.clone(), TagBody { value: json(&tag.json), weight: tag.weight, from })
    });
    let scores = view.scores.iter().map(|(name, score)| {
        (name.clone(), ScoreBody { value: score.value, from: provenance(tables, &score.provenance) })
    });
    let hides = |id: &AudienceId| tables.audiences.get(id).is_some_and(|audience| mask.hides_audience(audience));
    // Whether somebody is in one of these is not told either way.
    withheld.extend(tables.audiences.keys().any(hides).then(|| "audiences".to_owned()));
    let shown = view.audiences.iter().filter(|(id, _)| !hides(id));
    let audiences = shown.map(|(id, membership)| MembershipBody {
        audience: tables.audience_name(*id),
        since: time(membership.since),
        cause: membership.cause.0,
    });
    // They are what the fact `consent` said.
    let hides_consents = mask.hides_trait(CONSENT);
    withheld.extend(hides_consents.then(|| "consents".to_owned()));
    let consents = view.consents.iter().filter(|_| !hides_consents).flat_map(|(identity, consents)| {
        consents.answers().map(|(key, consent)| consent_body(tables, *identity, key, consent))
    });
    ProfileBody {
        id: view.id.to_string(),
        created_at: time(view.created_at),
        identifiers: view.members.iter().map(member).collect(),
        consents: consents.collect(),
        not_followed_more: view.has_more_not_followed,
        not_followed: view.not_followed.iter().map(|found| not_followed_body(tables, found)).collect(),
        traits,
        tags: tags.collect(),
        scores: scores.collect(),
        audiences: audiences.collect(),
        as_of: view.as_of.0,
        withheld,
        left_out: view
            .left_out
            .iter()
            .filter(|left| !hides_consents || left.part != "consents")
            .map(left_out_body)
            .collect(),
    }
}

fn left_out_body(left: &LeftOut) -> LeftOutBody {
    LeftOutBody { part: left.part, count: left.count, from: left.from.clone() }
}

pub(crate) fn event_body(tables: &WorkspaceTables, recorded: &RecordedEvent, mask: &Mask) -> EventBody {
    let event = &recorded.event;
    let mut withheld = Vec::new();
    EventBody {
        position: recorded.position.0,
        message_id: event.message_id.clone(),
        kind: event.kind.as_str().to_owned(),
        name: event.name.clone(),
        time: time(event.time),
        received_at: time(event.received_at),
        source: tables.installation_name(event.source),
        identity: event.identity.to_string(),
        identifiers: event.identifiers.iter().map(IdentifierView::from).collect(),
        properties: mask.properties(&event.name, &event.properties, &mut withheld),
        traits: mask.traits(&event.traits, &mut withheld),
        context: mask.context(&event.context, &mut withheld),
        flags: event.flags.clone(),
        original_time: event.original_time.clone(),
        place: event.place,
        withheld,
    }
}

/// A person as the audit log names them.
pub(crate) fn person(id: ProfileId) -> String {
    format!("profile:{id}")
}

/// An id that does not parse names nobody.
pub(crate) fn profile_id(text: &str) -> Result<ProfileId, ApiError> {
    text.parse().map_err(|_| no_profile(text))
}

pub(crate) fn no_profile(text: &str) -> ApiError {
    ApiError::missing(format!("no profile `{}`", text.chars().take(64).collect::<String>()))
}

/// One person whole, or a page of people.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FoundBody {
    One(Box<ProfileBody>),
    Page(FoundPeople),
}

/// Find people. With `identifier` alone the one who has it, whole; with anything else a page of people with the columns that are
/// asked for, in the order of rows. A page may hold less than its limit, even nobody, and still have a next one.
#[utoipa::path(
    get, path = "/api/v1/profiles", tag = "profiles", security(("key" = ["profiles:read"])),
    params(
        ("identifier" = Option<String>, Query, pattern = "^[^:]+:.+$", description = "`TYPE:VALUE`, e.g. `email:ada@example.com`"),
        ("prefix" = Option<String>, Query, pattern = "^[^:]+:.+$", description = "`TYPE:BEGINNING`, without regard to case"),
        ("columns" = Option<String>, Query, description = "e.g. `id,identifiers.email,traits.city,tags.level`"),
        ("trait.NAME" = Option<String>, Query, description = "the value of a trait, e.g. `trait.city=Oslo`; for several, one for each"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "the `next` of the page before"),
    ),
    responses(
        (status = 200, body = FoundBody, description = "with `identifier` alone a profile, else a page of people"),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn find(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<WrittenJson, ApiError> {
    let (caller, asked) = (authority.caller, PeopleQuery::read(&parameters)?);
    if !asked.is_of_one() {
        return people::found(&app, caller, asked).await;
    }
    let identifier = asked.search.identifier.unwrap_or_else(|| Identifier::new("", ""));
    let text = identifier.to_string();
    let (whom, start) = (AskedFor::Identifier(identifier), ProfileStart::default());
    whole(&app, PersonAsked { caller, whom, start, text }).await
}

/// Identities of a person that are read like everything else; each may have half a MiB of facts, and what more of them takes is
/// much by the choice of whoever sent it.
const FEW_IDENTITIES: usize = 8;

/// Whom a request names.
enum AskedFor {
    Id(ProfileId),
    Identifier(Identifier),
}

/// A person whom somebody asks for.
struct PersonAsked {
    caller: Caller,
    whom: AskedFor,
    start: ProfileStart,
    /// What was asked for.
    text: String,
}

/// What a look at a person came to.
struct PersonAnswer {
    /// Who it is.
    found: Option<ProfileId>,
    body: Result<WrittenJson, ApiError>,
}

impl PersonAsked {
    /// The person as an answer; `None` for one of more identities than `most`.
    fn answer(&self, app: &App, most: usize, patience: &Patience) -> Result<Option<PersonAnswer>, ApiError> {
        let workspace = self.caller.workspace;
        let whom = match &self.whom {
            AskedFor::Id(id) => Whom::Id(*id),
            AskedFor::Identifier(identifier) => Whom::Identifier(identifier),
        };
        let view = match app.kernel.profile_within(workspace, whom, (&self.start, most), patience)? {
            Some(PersonRead::Large) => return Ok(None),
            Some(PersonRead::Whole(view)) => view,
            None => return Ok(Some(PersonAnswer { found: None, body: Err(no_profile(&self.text)) })),
        };
        let tables = app.catalogue.workspace(workspace)?;
        let body = profile_body(&tables, &view, &Mask::new(&tables, &self.caller));
        let (found, body) = (Some(view.id), WrittenJson::of(&FoundBody::One(Box::new(body))));
        Ok(Some(PersonAnswer { found, body }))
    }
}

/// The person who is asked for, whom one look finds and reads where there is not much of them.
async fn whole(app: &Arc<App>, asked: PersonAsked) -> Result<WrittenJson, ApiError> {
    let asked = Arc::new(asked);
    let few = Arc::clone(&asked);
    let mut answer = app.ask(move |app, patience| few.answer(app, FEW_IDENTITIES, patience)).await?;
    if answer.is_none() {
        processor::is_large_from_now_on();
        let all = Arc::clone(&asked);
        answer = app.ask(move |app, patience| all.answer(app, usize::MAX, patience)).await?;
    }
    let PersonAnswer { found, body } = answer.ok_or_else(|| no_profile(&asked.text))?;
    if let AskedFor::Identifier(_) = &asked.whom {
        // That somebody is not there is an answer too.
        let sealed = || reads::sealed(app, "identifier", &asked.text);
        app.reads.note(&asked.caller, "profile.find", [found.map_or_else(sealed, person)]);
    }
    body
}

/// Read a person. The id of a profile that was merged into another gives the other. What has no room is told in `left_out`, and
/// read with one of the parameters.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}", tag = "profiles", params(("id" = String, Path), ProfileQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = ProfileBody), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Query(query): Query<ProfileQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    let (profile, start) = (profile_id(&id)?, query.start()?);
    app.reads.note(&caller, "profile.read", [person(profile)]);
    whole(&app, PersonAsked { caller, whom: AskedFor::Id(profile), start, text: id }).await
}

/// A person's events, newest first.
#[utoipa::path(
    get, path = "/api/v1/profiles/{id}/events", tag = "profiles", params(("id" = String, Path), PageQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = Page<EventBody>), (status = 404, body = Problem)),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    let (profile, limit) = (profile_id(&id)?, page.limit()?);
    app.reads.note(&authority.caller, "profile.events", [person(profile)]);
    let cursor = page.cursor;
    app.offload(move |app| {
        let page = PageRequest { limit, cursor: cursor.as_deref() };
        let found = app.kernel.profile_events(workspace, profile, page)?.ok_or_else(|| no_profile(&id))?;
        let tables = app.catalogue.workspace(workspace)?;
        let mask = Mask::new(&tables, &authority.caller);
        let items = found.events.iter().map(|event| event_body(&tables, event, &mask)).collect();
        WrittenJson::of(&Page { items, next: found.next })
    })
    .await
}
