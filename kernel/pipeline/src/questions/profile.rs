//! One person: who they are, what is known and computed of them, and their events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::{Event, RecordedEvent};
use kith_model::id::{Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{ANONYMOUS_ID, Identifier, PREVIOUS_ID, USER_ID};
use kith_model::profile::{IdentityHead, Provenance, Score, Tag, fold_traits};
use kith_model::time::Timestamp;
use kith_store::{Key, KeyRange, ReadError, Store, row};

use super::{QueryError, identity, page, workspace};
use crate::accept::rules::SourceRules;
use crate::profiles::evaluation::output_value;
use crate::profiles::facts::{get_one, read_facts_row, read_head, whole_contribution};
use crate::profiles::person;
use crate::rows::derived::{Derived, Output, OutputKind, OutputValue, Track};
use crate::shared::{Shared, Workspace};
use crate::views::{EventPage, ProfileView};

/// The profile that an identifier belongs to now: as it is spelled, in its normal form, or as the old id of an alias of whose
/// owner nothing else is known.
pub(crate) fn find(shared: &Shared, id: WorkspaceId, identifier: &Identifier) -> Result<Option<ProfileId>, QueryError> {
    let workspace = workspace(shared, id)?;
    let setup = Arc::clone(&workspace.compiled.load().setup);
    let mut forms = vec![identifier.trimmed()];
    forms.extend(setup.identity_rules.judge(identifier).ok().filter(|normal| *normal != forms[0]));
    if matches!(identifier.kind.as_str(), USER_ID | ANONYMOUS_ID) {
        let value = forms[forms.len() - 1].value.clone();
        forms.push(Identifier::new(PREVIOUS_ID, value));
    }
    // Where values are hashed by rule, a person is found by the value all the same.
    let rules = SourceRules::every(&setup.record_rules, &setup.realm_key);
    let hashes = rules.filter(|rules| rules.hashes_identifiers(&identifier.kind));
    forms.extend(hashes.and_then(|rules| rules.hashed_identifier(identifier, &setup.identity_rules)));
    for form in forms {
        let digest = kith_store::keys::alias_digest(&setup.realm_key, &form);
        if let Some(alias) = get_one(shared.store.as_ref(), &Key::alias(id, &digest))? {
            let identity: SourceIdentityId = row::decode(&alias)?;
            return Ok(Some(ProfileId(identity)));
        }
    }
    Ok(None)
}

/// A profile's source identities, the one that names it first.
pub(super) type Members = Vec<(SourceIdentityId, IdentityHead)>;

/// The members of the profile that an identity belongs to, as accept has tied them: what is known of somebody at once, before
/// anything is computed.
pub(super) fn members(
    shared: &Shared,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<(ProfileId, Members)>, ReadError> {
    let store = shared.store.as_ref();
    let Some(head) = read_head(store, workspace, id.0)? else { return Ok(None) };
    let id = head.profile;
    let root = if head.root.is_some() { Some(head) } else { read_head(store, workspace, id.0)? };
    let Some(root) = root.and_then(|head| head.root) else { return Ok(None) };
    let mut members = Vec::with_capacity(root.members.len());
    for member in root.members {
        if let Some(head) = read_head(store, workspace, member)? {
            members.push((member, head));
        }
    }
    Ok(Some((id, members)))
}

/// Members of which what was not followed is looked for; a profile may have hundreds of devices.
const MAX_MEMBERS_SEARCHED: usize = 64;

/// Everything on a profile.
pub(crate) fn profile(shared: &Shared, id: WorkspaceId, profile: ProfileId) -> Result<Option<ProfileView>, QueryError> {
    let workspace = workspace(shared, id)?;
    let Some((profile, members)) = members(shared, id, profile)? else { return Ok(None) };
    let store = shared.store.as_ref();
    let (mut contributions, mut consents) = (Vec::with_capacity(members.len()), Vec::new());
    for (member, _) in &members {
        let mut summary = read_facts_row(store, id, *member, 0)?.unwrap_or_default();
        consents.push((*member, std::mem::take(&mut summary.consents)));
        contributions.push((*member, whole_contribution(store, id, *member, summary)?));
    }
    let derived = get_one(store, &Key::derived(id, profile.0))?;
    let derived: Derived = derived.map_or(Ok(Derived::default()), |row| row::decode(&row))?;
    let (tags, scores) = outputs(&workspace, &derived);
    let ids: Vec<SourceIdentityId> = members.iter().take(MAX_MEMBERS_SEARCHED).map(|(member, _)| *member).collect();
    let plan = workspace.compiled.load_full();
    let memberships = derived.memberships.into_iter().filter(|(id, _)| plan.plan.audience(*id).is_some());
    let (not_followed, has_more_not_followed) = identity::not_followed_of(shared, id, &ids)?;
    Ok(Some(ProfileView {
        id: profile,
        created_at: members.iter().map(|(_, head)| head.created_at).min().unwrap_or_default(),
        consents,
        not_followed,
        // Members that are not looked through may have more.
        has_more_not_followed: has_more_not_followed || members.len() > ids.len(),
        traits: fold_traits(contributions.iter().map(|(identity, row)| (*identity, row))),
        members: shown(members),
        tags,
        scores,
        audiences: memberships.collect(),
        as_of: workspace.as_of(store, &workspace.projection.read()).position,
    }))
}

/// The identifiers of a person, each as it came. The old id of an alias is one only where nobody is known to have it.
fn shown(members: Members) -> Vec<(SourceIdentityId, Identifier)> {
    let is_alone = members.iter().all(|(_, head)| head.identifier.is_previous());
    let shown = members.into_iter().filter(|(_, head)| is_alone || !head.identifier.is_previous());
    shown.map(|(identity, head)| (identity, head.identifier)).collect()
}

/// The values of installations that are there, with the names and the origin that their model version gives.
pub(crate) fn outputs(workspace: &Workspace, derived: &Derived) -> (BTreeMap<String, Tag>, BTreeMap<String, Score>) {
    let (mut tags, mut scores) = (BTreeMap::new(), BTreeMap::new());
    let compiled = workspace.compiled.load();
    let projection = workspace.projection.read();
    let there = derived.outputs.iter().filter(|((id, track), output)| {
        *track == Track::Live && compiled.setup.installation(*id).is_some() && !output.values.is_empty()
    });
    for ((installation, _), output) in there {
        let Some(version) = projection.versions.get(output.version as usize) else { continue };
        let provenance = Provenance {
            installation: *installation,
            digest: version.digest.clone(),
            fit: version.fit,
            cause: output.cause,
            computed_at: output.at,
        };
        for (name, value) in version.outputs.iter().zip(&output.values) {
            match (version.kind, value) {
                (_, OutputValue::Null) => {}
                (OutputKind::Scores, value) => {
                    if let Some(value) = number(value) {
                        scores.insert(name.clone(), Score { value, provenance: provenance.clone() });
                    }
                }
                (OutputKind::Tags, value) => {
                    let json = output_value(value).to_json().to_string();
                    tags.insert(name.clone(), Tag { json, weight: None, provenance: provenance.clone() });
                }
            }
        }
    }
    (tags, scores)
}

/// How many values that are there an output has.
pub(crate) fn values_of(output: &Output) -> usize {
    output.values.iter().filter(|value| **value != OutputValue::Null).count()
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

/// A page of a profile's events, newest first by event time, over all its source identities. Of each identity no more is read
/// than the page may need.
pub(crate) fn events(
    shared: &Shared,
    id: WorkspaceId,
    profile: ProfileId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Option<EventPage>, QueryError> {
    workspace(shared, id)?;
    let Some((_, members)) = members(shared, id, profile)? else { return Ok(None) };
    let before = cursor.map(event_cursor).transpose()?;
    let from_where = (before, shared.clock.now());
    let mut events = Vec::new();
    for (member, _) in &members {
        events.extend(newest(shared.store.as_ref(), id, *member, from_where, limit + 1)?);
    }
    events.sort_unstable_by_key(|recorded| std::cmp::Reverse((recorded.event.time, recorded.position)));
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|last| format!("{}.{}", last.event.time.0, last.position));
    Ok(Some(EventPage { events, next }))
}

/// Events of one identity that are read at once.
const PAGE_EVENTS: usize = 1024;

/// The newest events of an identity before a moment and position, oldest first. The store is read forwards only, so it looks
/// for a beginning behind which there are enough events and not many more: a moment, and where a sender has dated very many
/// the same, a position within it. A page costs about what it holds, however long the history is.
fn newest(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    (before, now): (Option<(i64, u64)>, Timestamp),
    limit: usize,
) -> Result<VecDeque<RecordedEvent>, ReadError> {
    let most = 4 * limit;
    let at = |time: i64| Key::event(workspace, identity, Timestamp(time));
    let mut range: KeyRange = Key::events(workspace, identity).range();
    if let Some((time, position)) = before {
        range.to = at(time).followed_by(&position.to_be_bytes());
    }
    let whole = store.scan(&range, most + 1)?;
    let Some((_, oldest)) = whole.rows.first().filter(|_| whole.rows.len() > most) else {
        return last_of(store, range, limit);
    };
    let Change::Recorded(oldest) = row::decode(oldest)? else { return last_of(store, range, limit) };
    let to = range.to.clone();
    let amount = |from: &Key| {
        let rows = store.scan(&KeyRange { from: from.clone(), to: to.clone() }, most + 1)?.rows.len();
        Ok(match rows {
            few if few < limit => Amount::TooFew,
            many if many > most => Amount::TooMany,
            _ => Amount::Enough,
        })
    };
    let end = before.map_or(now.0, |(time, _)| time).saturating_add(1);
    let (mut time, mut found) = halve((oldest.time.0, end), |time| amount(&at(time)))?;
    if found == Amount::TooMany && before.is_none() && amount(&at(end))? != Amount::TooFew {
        // Senders whose clocks are ahead have dated that many later than now.
        (time, found) = halve((end.saturating_sub(1), i64::MAX), |time| amount(&at(time)))?;
    }
    range.from = at(time);
    if found == Amount::TooMany {
        let newest = before.filter(|(of, _)| *of == time).map_or(store.head_of(workspace).0, |(_, position)| position);
        let place = |position: i64| at(time).followed_by(&position.to_be_bytes());
        let end = i64::try_from(newest).unwrap_or(i64::MAX);
        range.from = place(halve((0, end), |position| amount(&place(position)))?.0);
    }
    last_of(store, range, limit)
}

/// How many events there are behind a beginning, beside how many are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    TooFew,
    Enough,
    TooMany,
}

/// A beginning between one with too many events behind it and one with too few: a place with enough, or the last place that
/// has too many.
fn halve(
    (mut too_many, mut too_few): (i64, i64),
    amount: impl Fn(i64) -> Result<Amount, ReadError>,
) -> Result<(i64, Amount), ReadError> {
    while let middle = too_many.midpoint(too_few)
        && too_many < middle
        && middle < too_few
    {
        match amount(middle)? {
            Amount::TooFew => too_few = middle,
            Amount::TooMany => too_many = middle,
            Amount::Enough => return Ok((middle, Amount::Enough)),
        }
    }
    Ok((too_many, Amount::TooMany))
}

/// The last events of a range, at most `limit`.
fn last_of(store: &dyn Store, mut range: KeyRange, limit: usize) -> Result<VecDeque<RecordedEvent>, ReadError> {
    let mut last: VecDeque<RecordedEvent> = VecDeque::new();
    loop {
        let page = store.scan(&range, PAGE_EVENTS)?;
        for (key, value) in page.rows {
            if last.len() == limit {
                last.pop_front();
            }
            if let Change::Recorded(event) = row::decode(&value)? {
                last.push_back(RecordedEvent { position: key.position(), event });
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(last),
        }
    }
}

fn event_cursor(text: &str) -> Result<(i64, u64), QueryError> {
    let parts = text.rsplit_once('.').and_then(|(time, position)| Some((time.parse().ok()?, position.parse().ok()?)));
    parts.ok_or_else(|| page::unknown(text))
}

/// Look at every event of one source identity up to a position, oldest first.
pub(crate) fn history(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    up_to: Position,
    mut look: impl FnMut(Event),
) -> Result<(), ReadError> {
    crate::profiles::facts::each_row(store, &Key::events(workspace, identity), |key, value| {
        if key.position() <= up_to
            && let Change::Recorded(event) = row::decode(value)?
        {
            look(event);
        }
        Ok(())
    })
}

/// The profile that an identity belongs to as it is computed.
pub(crate) fn computed(shared: &Shared, workspace: WorkspaceId, id: ProfileId) -> Result<Option<ProfileId>, ReadError> {
    person::current(shared.store.as_ref(), workspace, id.0)
}
