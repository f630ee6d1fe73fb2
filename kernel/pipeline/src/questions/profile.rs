//! One person: who they are, and what is known and computed of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::Event;
use kith_model::id::{Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{ANONYMOUS_ID, Identifier, PREVIOUS_ID, USER_ID};
use kith_model::profile::{IdentityHead, Provenance, Score, Tag, fold_traits};
use kith_store::{Key, ReadError, Store, row};

use super::{QueryError, identity, workspace};
use crate::accept::rules::SourceRules;
use crate::profiles::evaluation::output_value;
use crate::profiles::facts::{get_one, read_facts_row, read_head, whole_contribution};
use crate::profiles::person;
use crate::rows::derived::{Derived, Output, OutputKind, OutputValue, Track};
use crate::shared::{KernelState, Workspace};
use crate::views::ProfileView;

/// The profile that an identifier belongs to now: as it is spelled, in its normal form, or as the old id of an alias of whose
/// owner nothing else is known.
pub(crate) fn find(
    shared: &KernelState,
    id: WorkspaceId,
    identifier: &Identifier,
) -> Result<Option<ProfileId>, QueryError> {
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
        if let Some(found) = holder(shared, id, &form)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The profile that has an identifier in just this spelling, by its identity's own name.
pub(super) fn holder(
    shared: &KernelState,
    id: WorkspaceId,
    identifier: &Identifier,
) -> Result<Option<ProfileId>, QueryError> {
    let realm_key = workspace(shared, id)?.compiled.load().setup.realm_key;
    let digest = kith_store::keys::alias_digest(&realm_key, identifier);
    let alias = get_one(shared.store.as_ref(), &Key::alias(id, &digest))?;
    let identity: Option<SourceIdentityId> = alias.map(|alias| row::decode(&alias)).transpose()?;
    Ok(identity.map(ProfileId))
}

/// A profile's source identities, the one that names it first.
pub(super) type Members = Vec<(SourceIdentityId, IdentityHead)>;

/// The identities of the profile that an identity belongs to, as accept has tied them: what is known of somebody at once, before
/// anything is computed. The one that names the profile comes first.
pub(crate) fn member_ids(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<(ProfileId, Vec<SourceIdentityId>)>, ReadError> {
    let store = shared.store.as_ref();
    let Some(head) = read_head(store, workspace, id.0)? else { return Ok(None) };
    let id = head.profile;
    let root = if head.root.is_some() { Some(head) } else { read_head(store, workspace, id.0)? };
    Ok(root.and_then(|head| head.root).map(|root| (id, root.members)))
}

/// [`member_ids`] with who each of them is.
pub(super) fn members(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<(ProfileId, Members)>, ReadError> {
    let Some((id, ids)) = member_ids(shared, workspace, id)? else { return Ok(None) };
    let mut members = Vec::with_capacity(ids.len());
    for member in ids {
        if let Some(head) = read_head(shared.store.as_ref(), workspace, member)? {
            members.push((member, head));
        }
    }
    Ok(Some((id, members)))
}

/// Members of which what was not followed is looked for; a profile may have hundreds of devices.
const MAX_MEMBERS_SEARCHED: usize = 64;

/// Everything on a profile.
pub(crate) fn profile(
    shared: &KernelState,
    id: WorkspaceId,
    profile: ProfileId,
) -> Result<Option<ProfileView>, QueryError> {
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
pub(crate) fn computed(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<ProfileId>, ReadError> {
    person::current(shared.store.as_ref(), workspace, id.0)
}
