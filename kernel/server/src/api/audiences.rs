//! Audiences: defining, reading, paging through members, explaining, and counting any condition.

mod action;
mod body;
mod preview;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::audience::Audience;
use kith_model::budget::table;
use kith_model::id::{AudienceId, Name, WorkspaceId};
use kith_pipeline::{AudienceProgress, Kernel, PageRequest, Patience};
use serde_json::Value;

pub(crate) use body::{
    AudienceBody, Condition, CountBody, ExplainQuery, ExplainedBody, MemberBody, NewAudience, PatchAudience,
};
pub(crate) use preview::*;

use body::audience_body;

use super::etag::{self, IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, check_text, right};
use super::masks::Lens;
use super::profiles::{person, profile_id};
use super::sensitive::Mask;
use super::view::{IdentifierView, Page};
use action::Moment;

use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::{Actor, Draft, WorkspaceTables};
use crate::error::{ApiError, Mistake, Problem};
use crate::reads;

fn named<'a>(tables: &'a WorkspaceTables, name: &str) -> Result<&'a Arc<Audience>, ApiError> {
    let missing = || ApiError::missing(format!("no audience `{}`", name.chars().take(64).collect::<String>()));
    tables.audience(name).ok_or_else(missing)
}

/// The number of the audience of that name.
pub(super) fn id_of(app: &App, workspace: WorkspaceId, name: &str) -> Result<AudienceId, ApiError> {
    Ok(named(&*app.catalogue.workspace(workspace)?, name)?.id)
}

/// An audience as the routes show it, with its present size.
fn shown(app: &App, caller: &Caller, name: &str) -> Result<AudienceBody, ApiError> {
    let workspace = caller.workspace;
    let tables = app.catalogue.workspace(workspace)?;
    let audience = named(&tables, name)?;
    let status = app.kernel.audience(workspace, audience.id)?;
    let lens = Lens::new(app, caller, &audience.condition);
    let mut body = audience_body(&tables, audience, &status, lens);
    body.warnings = Some(doubts(app, caller, &audience.condition)?);
    Ok(body)
}

/// The tag of what people edit of an audience.
fn tag(audience: &Audience) -> String {
    // Whether it has acted is not.
    etag::tag(&Audience { has_acted: false, ..audience.clone() })
}

fn tagged(app: &App, caller: &Caller, name: &str) -> Result<TaggedBody<AudienceBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    Ok(TaggedBody { tag: tag(named(&tables, name)?), body: shown(app, caller, name)? })
}

fn check_condition(condition: &str) -> Result<(), ApiError> {
    Kernel::check_condition(condition).map_err(|error| bad_expression("condition", &error))
}

/// What may be a mistake in a condition, in words.
fn doubts(app: &App, caller: &Caller, condition: &str) -> Result<Vec<String>, ApiError> {
    let sees_values = caller.may(Scope::ProfilesRead) && mask(app, caller)?.hidden_in(condition).is_none();
    Ok(app.kernel.doubts(caller.workspace, condition, sees_values)?)
}

fn mask(app: &App, caller: &Caller) -> Result<Mask, ApiError> {
    Ok(Mask::new(&*app.catalogue.workspace(caller.workspace)?, caller))
}

/// Refuse a condition of which there is any doubt, where that is asked for.
fn insist_on_no_doubt(app: &App, caller: &Caller, condition: &str, strict: Option<bool>) -> Result<(), ApiError> {
    if strict != Some(true) {
        return Ok(());
    }
    let doubts = doubts(app, caller, condition)?;
    let mistakes = doubts.iter().map(|message| Mistake { path: "condition".to_owned(), message: message.clone() });
    match doubts.first() {
        None => Ok(()),
        Some(first) => Err(ApiError::BadInput {
            code: "doubtful-condition",
            message: format!("condition: {first}; without `strict` it is taken"),
            mistakes: mistakes.collect(),
        }),
    }
}

/// A mistake in an expression, with its place in the text.
pub(crate) fn bad_expression(path: &str, error: &kith_features::ExpressionError) -> ApiError {
    let message = format!("line {}, column {}: {}", error.line, error.column, error.message);
    let mistakes = vec![Mistake { path: path.to_owned(), message }];
    ApiError::BadInput { code: "bad-expression", message: format!("{path}: {error}"), mistakes }
}

fn audited(audience: &Audience) -> Option<Value> {
    serde_json::to_value(audience).ok()
}

/// Define an audience. Its members are computed in the background.
#[utoipa::path(
    post, path = "/api/v1/audiences", tag = "audiences", security(("key" = ["audiences:write"])),
    request_body = NewAudience,
    responses(
        (status = 201, body = AudienceBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesWrite>,
    Json(wanted): Json<NewAudience>,
) -> Result<(StatusCode, Json<AudienceBody>), ApiError> {
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    let name: Name =
        wanted.name.parse().map_err(|error: kith_model::id::InvalidId| ApiError::at("name", error.to_string()))?;
    app.offload(move |app| {
        wanted.title.as_deref().map_or(Ok(()), |title| check_text(&table::TITLE_TEXT, title))?;
        check_condition(&wanted.condition)?;
        mask(app, &caller)?.insist(&wanted.condition)?;
        insist_on_no_doubt(app, &caller, &wanted.condition, wanted.strict)?;
        let edit = |draft: &mut Draft<'_>| {
            if draft.tables().audience(name.as_str()).is_some() {
                let message = format!("there is an audience `{name}` already");
                return Err(ApiError::Conflict { code: "name-taken", message });
            }
            draft.tables().insist_on_room(&table::AUDIENCES_KEPT, draft.tables().audiences.len())?;
            let audience = Audience {
                id: draft.next_audience()?,
                title: wanted.title.clone().unwrap_or_else(|| name.to_string()),
                name: name.clone(),
                condition: wanted.condition.clone(),
                on_enter: action::read(draft.tables(), Moment::Enter, wanted.on_enter.as_ref())?,
                on_exit: action::read(draft.tables(), Moment::Exit, wanted.on_exit.as_ref())?,
                has_acted: false,
                created_at: draft.now(),
                waves: 0,
            };
            Ok((None, audience))
        };
        save(app, &caller, &actor, wanted.previewed.as_deref(), edit)?;
        Ok((StatusCode::CREATED, Json(shown(app, &caller, name.as_str())?)))
    })
    .await
}

/// The code of a change that was rehearsed beside another one.
const CHANGED_MEANWHILE: &str = "changed-meanwhile";

/// So often is a change rehearsed anew because another one of the same audience came in between.
const MAX_TRIES: usize = 4;

/// Keep the audience that `edit` makes, and with it the one that was there before. Where it would write to people who are
/// members already, somebody must have seen how many.
fn save(
    app: &App,
    caller: &Caller,
    actor: &Actor,
    previewed: Option<&str>,
    edit: impl Fn(&mut Draft<'_>) -> Result<(Option<Audience>, Audience), ApiError>,
) -> Result<(), ApiError> {
    for _ in 1..MAX_TRIES {
        match save_once(app, caller, actor, previewed, &edit) {
            Err(ApiError::Conflict { code: CHANGED_MEANWHILE, .. }) => {}
            saved => return saved,
        }
    }
    save_once(app, caller, actor, previewed, &edit)
}

fn save_once(
    app: &App,
    caller: &Caller,
    actor: &Actor,
    previewed: Option<&str>,
    edit: impl Fn(&mut Draft<'_>) -> Result<(Option<Audience>, Audience), ApiError>,
) -> Result<(), ApiError> {
    let workspace = caller.workspace;
    // Counting takes longer than other changes may be held up, so it comes before the change.
    let mut rehearsal = app.catalogue.rehearse(workspace, actor.clone())?;
    let (before, expected) = edit(&mut rehearsal)?;
    // Parsed here, it is not parsed while others wait.
    rehearsal.put_audience(expected.clone());
    let rehearsed = app.rehearsed(&rehearsal, &Patience::default())?;
    let is_previewed = preview::is_needed(before.as_ref(), &expected);
    if is_previewed {
        // Whoever confirms a number has to be shown it.
        caller.require(Scope::ProfilesRead)?;
        preview::insist(app, workspace, &expected.condition, previewed)?;
    }
    app.change_as_rehearsed(workspace, actor.clone(), Some(&rehearsed), |draft| {
        let (before, audience) = edit(draft)?;
        // Another change in between may have made of this one a change that writes to people whom nobody has counted.
        let is_unseen = preview::is_needed(before.as_ref(), &audience) && !is_previewed;
        if is_unseen || audience.condition != expected.condition {
            let message = "the audience was changed at the same moment; look again".to_owned();
            return Err(ApiError::Conflict { code: CHANGED_MEANWHILE, message });
        }
        if before.as_ref() == Some(&audience) {
            return Ok(());
        }
        let what = if before.is_some() { "audience.change" } else { "audience.create" };
        draft.audit(what, &audience.name, before.as_ref().and_then(audited), audited(&audience))?;
        draft.put_audience(audience);
        Ok(())
    })
}

/// All audiences of the workspace.
#[utoipa::path(
    get, path = "/api/v1/audiences", tag = "audiences", params(PageQuery), security(("key" = ["audiences:read"])),
    responses((status = 200, body = Page<AudienceBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| {
        let workspace = caller.workspace;
        let tables = app.catalogue.workspace(workspace)?;
        let all = tables.audiences.iter().map(|(id, audience)| (id.0, audience));
        let show = |audience: &Arc<Audience>| {
            let status = app.kernel.audience(workspace, audience.id)?;
            let lens = Lens::new(app, &caller, &audience.condition);
            Ok(audience_body(&tables, audience, &status, lens))
        };
        WrittenJson::of(&Page::of(all, &page, show)?)
    })
    .await
}

/// One audience with its size.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:read"])),
    responses((status = 200, body = AudienceBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Path(name): Path<String>,
) -> Result<TaggedBody<AudienceBody>, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| tagged(app, &caller, &name)).await
}

/// Change an audience: what is absent stays. With the tag of a read in `If-Match` it is refused where somebody else has changed it
/// since.
#[utoipa::path(
    patch, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:write"])),
    request_body = PatchAudience,
    responses(
        (status = 200, body = AudienceBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesWrite>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(patch): Json<PatchAudience>,
) -> Result<TaggedBody<AudienceBody>, ApiError> {
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    app.offload(move |app| {
        patch.title.as_deref().map_or(Ok(()), |title| check_text(&table::TITLE_TEXT, title))?;
        if let Some(condition) = &patch.condition {
            check_condition(condition)?;
            mask(app, &caller)?.insist(condition)?;
            insist_on_no_doubt(app, &caller, condition, patch.strict)?;
        }
        let edit = |draft: &mut Draft<'_>| {
            let before = Audience::clone(named(draft.tables(), &name)?);
            if_match.check(&format!("audience `{name}`"), || tag(&before))?;
            if patch.condition.is_some() || patch.on_enter.is_some() || patch.on_exit.is_some() {
                // Who meets it would be told by where its messages go, or by those that it sent before.
                Mask::new(draft.tables(), &caller).insist(&before.condition)?;
            }
            let mut audience = before.clone();
            audience.title = patch.title.clone().unwrap_or(audience.title);
            audience.condition = patch.condition.clone().unwrap_or(audience.condition);
            if let Some(action) = &patch.on_enter {
                let before = before.on_enter.as_ref();
                audience.on_enter = action::patched(draft.tables(), Moment::Enter, before, action.as_ref())?;
            }
            if let Some(action) = &patch.on_exit {
                let before = before.on_exit.as_ref();
                audience.on_exit = action::patched(draft.tables(), Moment::Exit, before, action.as_ref())?;
            }
            if preview::is_needed(Some(&before), &audience) && before.condition == audience.condition {
                audience.waves = before.waves.saturating_add(1);
            }
            Ok((Some(before), audience))
        };
        save(app, &caller, &actor, patch.previewed.as_deref(), edit)?;
        tagged(app, &caller, &name)
    })
    .await
}

/// Remove an audience.
#[utoipa::path(
    delete, path = "/api/v1/audiences/{id}", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name")), security(("key" = ["audiences:write"])),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesWrite>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let before = Audience::clone(named(draft.tables(), &name)?);
            if_match.check(&format!("audience `{name}`"), || tag(&before))?;
            draft.remove_audience(before.id);
            draft.audit("audience.remove", &name, audited(&before), None)?;
            Ok(StatusCode::NO_CONTENT)
        })
    })
    .await
}

/// An audience's members with their identifiers.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}/members", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name"), PageQuery),
    security(("key" = ["audiences:read", "profiles:read"])),
    responses(
        (status = 200, body = Page<MemberBody>), (status = 404, body = Problem), (status = 409, body = Problem),
    ),
)]
pub(crate) async fn members(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    // Whoever may define an audience would learn of its members whether they meet any condition.
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MemberBody>>, ApiError> {
    let (caller, limit) = (authority.caller, page.limit()?);
    let workspace = caller.workspace;
    // Whoever may define an audience would learn of its members whether they meet any condition.
    caller.require(Scope::ProfilesRead)?;
    app.ask(move |app, patience| {
        let tables = app.catalogue.workspace(workspace)?;
        let audience = named(&tables, &name)?;
        Mask::new(&tables, &caller).insist(&audience.condition)?;
        let id = audience.id;
        let status = app.kernel.audience(workspace, id)?;
        if let (None, Some(AudienceProgress { done, total })) = (status.size, status.progress) {
            // A part of them would be taken for all.
            let message = format!("the audience is being computed, {done} of {total} profiles so far; ask again");
            return Err(ApiError::Conflict { code: "not-computed", message });
        }
        let page = app.kernel.audience_members(workspace, id, PageRequest { limit, cursor: page.cursor.as_deref() })?;
        let of = page.members.iter().map(|profile| person(*profile));
        app.reads.note(&caller, "audience.members", of.chain([format!("audience:{name}")]));
        let identifiers = app.kernel.identifiers(workspace, &page.members, patience)?;
        let items = page.members.iter().zip(&identifiers).map(|(profile, of_one)| MemberBody {
            profile: profile.to_string(),
            identifiers: of_one.iter().map(IdentifierView::from).collect(),
        });
        Ok(Json(Page { items: items.collect(), next: page.next }))
    })
    .await
}

/// Why a person is, or is not, in an audience: `holds` says whether the person belongs in it (`null` while that is not known), and
/// `explanation` has each part of the condition with its value. Who refuses to be profiled is in none.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}/explain", tag = "audiences",
    params(("id" = String, Path, description = "the audience's name"), ExplainQuery),
    security(("key" = ["audiences:read", "profiles:read"])),
    responses((status = 200, body = ExplainedBody), (status = 403, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    // Of a condition that somebody else defines for the asker the truth alone tells any value.
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    Query(query): Query<ExplainQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    let profile = profile_id(&query.profile)?;
    app.reads.note(&authority.caller, "audience.explain", [person(profile)]);
    app.ask(move |app, patience| {
        let tables = app.catalogue.workspace(workspace)?;
        let audience = named(&tables, &name)?;
        Mask::new(&tables, &authority.caller).insist(&audience.condition)?;
        let explained = app.kernel.explain(workspace, audience.id, profile, patience)?;
        let mut explained = explained.ok_or_else(|| ApiError::missing(format!("no profile `{profile}`")))?;
        let (holds, cut) = (explained.holds(), explained.condition.cut_long_values());
        WrittenJson::of(&ExplainedBody {
            audience: name,
            profile: profile.to_string(),
            holds,
            refuses_profiling: explained.refuses_profiling,
            explanation: explained.condition,
            cut,
        })
    })
    .await
}

/// Count the people who meet a condition. Conditions of one's own choice tell together any value of anybody, however their
/// numbers are rounded, so that this needs the scope for people.
#[utoipa::path(
    post, path = "/api/v1/audiences/count", tag = "audiences", security(("key" = ["audiences:read", "profiles:read"])),
    request_body = Condition,
    responses(
        (status = 200, body = CountBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    _people: Authority<right::ProfilesRead>,
    Json(wanted): Json<Condition>,
) -> Result<Json<CountBody>, ApiError> {
    let caller = authority.caller;
    app.reads.note(&caller, "audience.count", [reads::sealed(&app, "condition", &wanted.condition)]);
    app.ask(move |app, patience| {
        mask(app, &caller)?.insist(&wanted.condition)?;
        let counted = app.kernel.count_for(caller.workspace, &wanted.condition, patience)?;
        Ok(Json(CountBody::new(counted, doubts(app, &caller, &wanted.condition)?)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use kith_model::audience::{Action, ConsentBasis, ReEntry, Reach};
    use kith_model::id::AudienceId;
    use kith_model::plugin::PluginKind;
    use kith_model::time::Timestamp;

    use super::*;
    use crate::api::tests::installations::keep;
    use crate::api::tests::{FIRST, installation_row};
    use crate::serve::tests::server;

    fn audience(existing: Reach) -> Audience {
        let on_enter = Action {
            channel: kith_model::id::InstallationId(901),
            purpose: "x".to_owned(),
            basis: ConsentBasis::OptIn,
            payload: "{}".to_owned(),
            re_entry: ReEntry::Always,
            existing,
            imports: Reach::Skip,
        };
        Audience {
            id: AudienceId(1),
            name: "all".parse().unwrap(),
            title: String::new(),
            condition: "true".to_owned(),
            on_enter: Some(on_enter),
            on_exit: None,
            has_acted: false,
            created_at: Timestamp(0),
            waves: 0,
        }
    }

    /// Regression: whether a change needs a preview was decided before it was made. Where its audience wrote to existing
    /// members at that moment and no longer did when the change came to be made, it began to write to them, and nobody had
    /// seen to how many.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_that_another_one_makes_write_to_members_is_refused() {
        let server = server();
        keep(&server, &installation_row(901, "post"), PluginKind::Channel, &[]);
        let app = Arc::clone(server.app());
        let is_rehearsal = AtomicBool::new(true);
        let edit = |_: &mut Draft<'_>| {
            let writes = is_rehearsal.swap(false, Ordering::Relaxed);
            let before = audience(if writes { Reach::Send } else { Reach::Skip });
            Ok((Some(before), audience(Reach::Send)))
        };
        let scopes = [Scope::All].into();
        let key = crate::auth::KeyId::named("test");
        let _under_way = Arc::new(app.credential_requests.take(key.clone(), 1).unwrap());
        let caller = Caller { workspace: FIRST, key, scopes, source: None, _under_way };
        let saved = tokio::task::block_in_place(|| save_once(&app, &caller, &Actor::kernel(), None, edit));
        assert!(matches!(saved, Err(ApiError::Conflict { code: CHANGED_MEANWHILE, .. })), "{saved:?}");
        // One that writes to nobody is made of what the other one left.
        let is_first = AtomicBool::new(true);
        let edit = |_: &mut Draft<'_>| {
            let mut present = audience(Reach::Skip);
            let other = if is_first.swap(false, Ordering::Relaxed) { "traits.a == 1" } else { "traits.a == 2" };
            present.condition = other.to_owned();
            Ok((Some(present.clone()), Audience { title: "new".into(), ..present }))
        };
        tokio::task::block_in_place(|| save(&app, &caller, &Actor::kernel(), None, edit)).unwrap();
    }
}
