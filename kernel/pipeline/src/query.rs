//! Reading: one profile, an audience, a count. Everything here blocks on the store and belongs on a blocking thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_features::{EventFacts, Expression, ExpressionError, FeatureName, LeafId, Value};
use kith_model::change::Change;
use kith_model::event::{Event, RecordedEvent};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::profile::{Contribution, IdentityHead, Provenance, Score, Tag, fold_traits};
use kith_store::keys::PersonRow;
use kith_store::{Key, KeyRange, ReadError, Store};
use roaring::RoaringBitmap;

use crate::accept::people::{each_row, read_person};
use crate::people_scan::each_profile;
use crate::react::state::{Evaluation, ProfileFacts, ProfileState, read_profile};
use crate::rows::{self, Derived, Kept, OutputValue};
use crate::shared::{Shared, WorkspaceShared};
use crate::views::{AudienceStatus, Count, EventPage, MemberPage, ProfileView, Removal};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no such workspace")]
    UnknownWorkspace,
    #[error("there is no such audience")]
    UnknownAudience,
    #[error("there is no such installation")]
    UnknownInstallation,
    #[error("the condition cannot be used:\n{0}")]
    Expression(#[from] ExpressionError),
    #[error("`{0}` is not a cursor that this list gave out")]
    Cursor(String),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] kith_store::CommitError),
}

pub(crate) fn known(shared: &Shared, workspace: WorkspaceId) -> Result<Arc<WorkspaceShared>, QueryError> {
    shared.workspace(workspace).ok_or(QueryError::UnknownWorkspace)
}

/// The profile that an identifier belongs to now.
pub(crate) fn find(
    shared: &Shared,
    workspace: WorkspaceId,
    identifier: &Identifier,
) -> Result<Option<ProfileId>, QueryError> {
    let alias = shared.store.get(&[Key::alias(workspace, identifier)])?.pop().flatten();
    let Some(alias) = alias else { return Ok(None) };
    let identity: SourceIdentityId = rows::decode("an alias", &alias)?;
    current(shared, workspace, identity)
}

/// The profile that a source identity belongs to now.
fn current(
    shared: &Shared,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<Option<ProfileId>, QueryError> {
    let head: Option<IdentityHead> = read_person(shared.store.as_ref(), workspace, identity, PersonRow::Head)?;
    Ok(head.map(|head| head.profile))
}

struct Gathered {
    id: ProfileId,
    members: Vec<(SourceIdentityId, IdentityHead)>,
}

fn gather(shared: &Shared, workspace: WorkspaceId, id: ProfileId) -> Result<Option<Gathered>, QueryError> {
    let store = shared.store.as_ref();
    let head = |identity| read_person::<IdentityHead>(store, workspace, identity, PersonRow::Head);
    let Some(id) = current(shared, workspace, id.0)? else { return Ok(None) };
    let Some(root) = head(id.0)?.and_then(|head| head.root) else { return Ok(None) };
    let mut members = Vec::with_capacity(root.members.len());
    for member in root.members {
        if let Some(head) = head(member)? {
            members.push((member, head));
        }
    }
    Ok(Some(Gathered { id, members }))
}

/// Everything on a profile.
pub(crate) fn profile(
    shared: &Shared,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<ProfileView>, QueryError> {
    let known = known(shared, workspace)?;
    let Some(Gathered { id, members }) = gather(shared, workspace, id)? else { return Ok(None) };
    let store = shared.store.as_ref();
    let mut contributions: Vec<(SourceIdentityId, Contribution)> = Vec::new();
    for (member, _) in &members {
        if let Some(row) = read_person(store, workspace, *member, PersonRow::Contribution)? {
            contributions.push((*member, row));
        }
    }
    let Kept { derived, .. } = read_person(store, workspace, id.0, PersonRow::Kept)?.unwrap_or_default();
    let (tags, scores) = outputs(&known, &derived);
    let audiences = known.plan.load().audience_ids();
    Ok(Some(ProfileView {
        id,
        created_at: members.iter().map(|(_, head)| head.created_at).min().unwrap_or_default(),
        traits: fold_traits(contributions.iter().map(|(identity, row)| (*identity, row))),
        members: members.into_iter().map(|(identity, head)| (identity, head.identifier)).collect(),
        tags,
        scores,
        audiences: derived.memberships.into_iter().filter(|(id, _)| audiences.contains(id)).collect(),
        as_of: shared.reacted(),
    }))
}

/// A derived row's values with the names and the origin that their model version gives.
fn outputs(known: &WorkspaceShared, derived: &Derived) -> (BTreeMap<String, Tag>, BTreeMap<String, Score>) {
    let (mut tags, mut scores) = (BTreeMap::new(), BTreeMap::new());
    let live: std::collections::BTreeSet<_> =
        known.setup.load().installations.iter().map(|installed| installed.id).collect();
    let versions = known.versions.read();
    for (installation, computed) in derived.outputs.iter().filter(|(id, _)| live.contains(id)) {
        let Some(version) = versions.get(computed.version as usize) else { continue };
        let provenance = Provenance {
            installation: *installation,
            digest: version.digest.clone(),
            fit: version.fit,
            cause: computed.cause,
            computed_at: computed.at,
        };
        for (name, value) in version.outputs.iter().zip(&computed.values) {
            match (version.scores, value) {
                (_, OutputValue::Null) => {}
                (true, value) => {
                    if let Some(value) = number(value) {
                        scores.insert(name.clone(), Score { value, provenance: provenance.clone() });
                    }
                }
                (false, value) => {
                    let json = crate::react::state::output_value(value).to_json().to_string();
                    tags.insert(name.clone(), Tag { json, weight: None, provenance: provenance.clone() });
                }
            }
        }
    }
    (tags, scores)
}

#[allow(clippy::cast_precision_loss, reason = "scores are floating point numbers")]
fn number(value: &OutputValue) -> Option<f64> {
    match value {
        OutputValue::Float(value) => Some(*value),
        OutputValue::Int(value) => Some(*value as f64),
        OutputValue::Bool(value) => Some(f64::from(u8::from(*value))),
        OutputValue::Null | OutputValue::Text(_) => None,
    }
}

/// A page of a profile's events, newest first by event time, over all its source identities.
pub(crate) fn events(
    shared: &Shared,
    workspace: WorkspaceId,
    id: ProfileId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Option<EventPage>, QueryError> {
    let Some(Gathered { members, .. }) = gather(shared, workspace, id)? else { return Ok(None) };
    let before = cursor.map(event_cursor).transpose()?;
    let mut events = Vec::new();
    for (member, _) in &members {
        history(shared.store.as_ref(), workspace, *member, |position, event| {
            if before.is_none_or(|before| (event.time.0, position.0) < before) {
                events.push(RecordedEvent { position, event });
            }
        })?;
    }
    events.sort_unstable_by_key(|recorded| std::cmp::Reverse((recorded.event.time, recorded.position)));
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|last| format!("{}.{}", last.event.time.0, last.position));
    Ok(Some(EventPage { events, next }))
}

fn event_cursor(text: &str) -> Result<(i64, u64), QueryError> {
    let parts = text.rsplit_once('.').and_then(|(time, position)| Some((time.parse().ok()?, position.parse().ok()?)));
    parts.ok_or_else(|| QueryError::Cursor(text.chars().take(64).collect()))
}

/// Look at every event of one source identity, oldest first.
pub(crate) fn history(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    mut look: impl FnMut(Position, Event),
) -> Result<(), ReadError> {
    each_row(store, &Key::events(workspace, identity), |key, value| {
        let position = key.as_bytes().last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if let Change::Recorded(event) = rows::decode("an event", value)? {
            look(Position(position), event);
        }
        Ok(())
    })
}

/// How many profiles meet a condition: from the index where it can answer, else by looking at every profile.
pub(crate) fn count(shared: &Shared, workspace: WorkspaceId, condition: &str) -> Result<Count, QueryError> {
    let known = known(shared, workspace)?;
    let expression = Expression::parse(condition)?;
    let now = shared.clock.now();
    // While something new is computed for the first time, the columns of its leaves are not yet filled for everybody.
    let is_settled = known.outstanding().is_none();
    if is_settled || expression.reads().leaves.is_empty() {
        let index = known.index.read();
        if let Some(count) = index.count(&expression, now) {
            let population = index.population().len();
            let as_of = shared.reacted();
            return Ok(Count { count, pending: 0, population, exact: is_settled, as_of, as_of_time: now });
        }
    }
    let as_of = shared.reacted();
    let setup = known.setup.load_full();
    let plan = known.plan.load_full();
    let view = Evaluation { plan: &plan, zone: &setup.zone, now };
    let wanted: Vec<LeafId> = expression.reads().leaves.to_vec();
    let is_kept = is_settled && wanted.iter().all(|leaf| plan.program.leaf(*leaf).is_some());
    let (mut count, mut population) = (0, 0);
    each_profile(&shared.store, workspace, &view, |profile| {
        population += 1;
        let belongs = if is_kept {
            let leaf = |id| profile.leaf_values.get(&id).cloned().unwrap_or_default();
            expression.evaluate(&ProfileFacts { state: &profile, plan: &plan }, &leaf, now).is_true()
        } else {
            evaluate_from_history(shared, workspace, &profile, &expression, &view)?.is_true()
        };
        count += u64::from(belongs);
        Ok(())
    })?;
    Ok(Count { count, pending: 0, population, exact: is_settled, as_of, as_of_time: now })
}

/// The meaning of an expression: build the list of events, evaluate.
fn evaluate_from_history(
    shared: &Shared,
    workspace: WorkspaceId,
    profile: &ProfileState,
    expression: &Expression,
    view: &Evaluation<'_>,
) -> Result<Value, ReadError> {
    let mut events = Vec::new();
    for member in &profile.members {
        history(shared.store.as_ref(), workspace, *member, |_, event| events.push(event))?;
    }
    let source = |event: &Event| view.plan.source_names.get(&event.source).map_or("", String::as_str);
    let facts: Vec<EventFacts<'_>> = events.iter().map(|event| EventFacts::new(event, source(event))).collect();
    let profile = ProfileFacts { state: profile, plan: view.plan };
    Ok(kith_features::naive::evaluate(expression, &profile, &facts, view.now, view.zone))
}

/// Why a profile is in an audience or not: the condition's parts with their values.
pub(crate) fn explain(
    shared: &Shared,
    workspace: WorkspaceId,
    audience: AudienceId,
    id: ProfileId,
) -> Result<Option<serde_json::Value>, QueryError> {
    let known = known(shared, workspace)?;
    let setup = known.setup.load_full();
    let plan = known.plan.load_full();
    let found = plan.audiences.iter().find(|plan| plan.audience.id == audience).ok_or(QueryError::UnknownAudience)?;
    let view = Evaluation { plan: &plan, zone: &setup.zone, now: shared.clock.now() };
    let Some(id) = current(shared, workspace, id.0)? else { return Ok(None) };
    let Some(profile) = read_profile(shared.store.as_ref(), workspace, id, &view)? else { return Ok(None) };
    let leaf = |id| profile.leaf_values.get(&id).cloned().unwrap_or_default();
    let facts = ProfileFacts { state: &profile, plan: &plan };
    Ok(Some(serde_json::json!(found.condition.explain(&facts, &leaf, view.now))))
}

/// The size of an audience, or how far its first computation has come.
pub(crate) fn audience(shared: &Shared, workspace: WorkspaceId, id: AudienceId) -> Result<AudienceStatus, QueryError> {
    let known = known(shared, workspace)?;
    if !known.plan.load().audience_ids().contains(&id) {
        return Err(QueryError::UnknownAudience);
    }
    let is_computed = known.computed.read().contains(&id);
    let size =
        is_computed.then(|| known.index.read().members(&FeatureName::Audience(id)).map_or(0, RoaringBitmap::len));
    let progress = if is_computed { None } else { known.outstanding() };
    Ok(AudienceStatus { size, pending: 0, progress, as_of: shared.reacted(), as_of_time: shared.clock.now() })
}

/// What would go with an installation.
pub(crate) fn removal(
    shared: &Shared,
    workspace: WorkspaceId,
    installation: InstallationId,
) -> Result<Removal, QueryError> {
    let known = known(shared, workspace)?;
    if !known.setup.load().installations.iter().any(|installed| installed.id == installation) {
        return Err(QueryError::UnknownInstallation);
    }
    let plan = known.plan.load_full();
    let mut removal = Removal::default();
    each_row(shared.store.as_ref(), &Key::people(workspace), |key, value| {
        if key.as_person().is_some_and(|(_, row)| row == PersonRow::Kept as u8) {
            let kept: Kept = rows::decode("what is computed of an identity", value)?;
            let holds = |values: &rows::Computed| values.values.iter().any(|value| *value != OutputValue::Null);
            removal.people += u64::from(kept.derived.outputs.get(&installation).is_some_and(holds));
        }
        Ok(())
    })?;
    let written = |feature: &FeatureName| plan.outputs.get(feature).is_some_and(|(writer, _)| *writer == installation);
    let reads = |condition: &Expression| {
        let reads = condition.reads();
        let tags = reads.tags.iter().map(|name| FeatureName::Tag(name.as_str().into()));
        let scores = reads.scores.iter().map(|name| FeatureName::Score(name.as_str().into()));
        tags.chain(scores).any(|feature| written(&feature))
    };
    let touched = plan.audiences.iter().filter(|audience| reads(&audience.condition));
    removal.audiences = touched.map(|audience| audience.audience.id).collect();
    Ok(removal)
}

/// A page of an audience's members, in the order of their ordinals.
pub(crate) fn members(
    shared: &Shared,
    workspace: WorkspaceId,
    id: AudienceId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<MemberPage, QueryError> {
    let known = known(shared, workspace)?;
    if !known.plan.load().audience_ids().contains(&id) {
        return Err(QueryError::UnknownAudience);
    }
    let from: u32 = match cursor {
        None => 0,
        Some(text) => text.parse().map_err(|_| QueryError::Cursor(text.chars().take(64).collect()))?,
    };
    let mut page: Vec<u32> = {
        let index = known.index.read();
        let members = index.members(&FeatureName::Audience(id));
        members.map_or(Vec::new(), |members| members.range(from..).take(limit + 1).collect())
    };
    let ordinals = known.ordinals.read();
    let next = if page.len() > limit { page.pop().map(|ordinal| ordinal.to_string()) } else { None };
    let members = page.iter().filter_map(|ordinal| ordinals.get(*ordinal as usize).copied().flatten()).collect();
    Ok(MemberPage { members, next })
}

/// Rows, and the cursor of the page after them.
pub(crate) type Rows = (Vec<(Key, kith_store::Value)>, Option<String>);

/// A page of rows below `prefix`, after the cursor that the last page gave.
pub(crate) fn page(store: &dyn Store, prefix: &Key, limit: usize, cursor: Option<&str>) -> Result<Rows, QueryError> {
    let mut range: KeyRange = prefix.range();
    if let Some(text) = cursor {
        let rest = from_hex(text).ok_or_else(|| QueryError::Cursor(text.chars().take(64).collect()))?;
        range.from = prefix.followed_by(&rest);
    }
    let page = store.scan(&range, limit)?;
    let next = page.next.and_then(|next| next.strip(prefix).map(to_hex));
    Ok((page.rows, next))
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or(0);
        (0..text.len()).step_by(2).map(pair).collect()
    })
}

/// Count what a workspace holds, by looking at its rows.
pub(crate) fn totals(shared: &Shared, workspace: WorkspaceId) -> Result<crate::views::Totals, QueryError> {
    let known = known(shared, workspace)?;
    let store = shared.store.as_ref();
    let mut totals = crate::views::Totals { profiles: known.index.read().population().len(), ..Default::default() };
    each_row(store, &Key::aliases(workspace), |_, _| {
        totals.identifiers += 1;
        Ok(())
    })?;
    each_row(store, &Key::all_events(workspace), |_, _| {
        totals.events += 1;
        Ok(())
    })?;
    each_row(store, &Key::people(workspace), |key, value| {
        if key.as_person().is_some_and(|(_, row)| row == PersonRow::Kept as u8) {
            let kept: Kept = rows::decode("what is computed of an identity", value)?;
            let (tags, scores) = outputs(&known, &kept.derived);
            totals.tags += tags.len() as u64;
            totals.scores += scores.len() as u64;
        }
        Ok(())
    })?;
    each_row(store, &Key::deliveries(workspace), |_, value| {
        let row: rows::DeliveryRow = rows::decode("a delivery", value)?;
        match row.state {
            rows::StoredDeliveryState::Pending { .. } => totals.pending += 1,
            rows::StoredDeliveryState::Delivered { .. } => totals.delivered += 1,
            rows::StoredDeliveryState::Skipped { .. } => totals.skipped += 1,
            rows::StoredDeliveryState::Dead { .. } => totals.dead += 1,
        }
        Ok(())
    })?;
    each_row(store, &Key::set_aside(workspace, None), |_, _| {
        totals.set_aside += 1;
        Ok(())
    })?;
    Ok(totals)
}
