//! Audiences: their size, their members, why somebody is in one or not, and whom a removal would touch.

use std::ops::ControlFlow;
use std::sync::Arc;

use kith_features::FeatureName;
use kith_model::id::{AudienceId, InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::profile::IdentityHead;
use kith_store::keys::PersonRow;
use kith_store::{Key, row};
use roaring::RoaringBitmap;

use super::count::in_index;
use super::{QueryError, page, profile, workspace};
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::{self, load_sealed};
use crate::profiles::scan::{WalkCoverage, each_profile};
use crate::react::faults::key_of;
use crate::rows::derived::Track;
use crate::shared::KernelState;
use crate::turns::{Deadline, Patience};
use crate::views::{AudienceExplanation, AudienceProgress, AudienceStatus, MemberPage, PageRequest, Removal};

/// Why a profile is in an audience or not: the condition's parts with their values.
pub(crate) fn explain(
    shared: &KernelState,
    id: WorkspaceId,
    audience: AudienceId,
    of: ProfileId,
    patience: &Patience,
) -> Result<Option<AudienceExplanation>, QueryError> {
    let deadline = Deadline::new(patience);
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let found = compiled.plan.audience(audience).ok_or(QueryError::UnknownAudience)?;
    let (as_of, complete) = {
        let projection = workspace.projection.read();
        (projection.as_of, Arc::clone(&projection.complete))
    };
    let Some(of) = profile::computed(shared, id, of)? else { return Ok(None) };
    let mut people = person::read_profile(shared.store.as_ref(), id, of)?;
    if people.is_empty() {
        return Ok(None);
    }
    deadline.go_on()?;
    let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now: as_of.time };
    load_sealed(shared.store.as_ref(), id, &mut people, &found.condition, view)?;
    deadline.go_on()?;
    let state = Profile::new(people.iter().collect(), view);
    let leaf = |leaf| state.leaf_value(leaf);
    let condition = found.condition.explain(&state, &leaf, as_of.time);
    Ok(Some(AudienceExplanation { refuses_profiling: state.objects(), condition }))
}

/// The size of an audience, or how far its computation has come. Until it is computed for everybody as it is defined now it
/// has no size: neither that of an older definition nor a mixture of two.
pub(crate) fn status(
    shared: &KernelState,
    id: WorkspaceId,
    audience: AudienceId,
) -> Result<AudienceStatus, QueryError> {
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let plan = compiled.plan.audience(audience).ok_or(QueryError::UnknownAudience)?;
    let projection = workspace.projection.read();
    let is_computed = projection.generation == compiled.generation && projection.done.contains(&plan.task());
    let members = projection.index.members(&FeatureName::Audience(audience)).map_or(0, RoaringBitmap::len);
    let pending = in_index(&projection, &plan.condition).map(|counted| counted.unknown.len());
    let faults = projection.faults.get(&key_of(plan));
    let fault = faults.and_then(|faults| faults.present(|ordinal| projection.profile(ordinal)));
    let total = projection.index.population().len();
    let progress = projection.advance.map_or(AudienceProgress { done: 0, total }, |advance| AudienceProgress {
        done: advance.done,
        total: advance.of,
    });
    let as_of = workspace.as_of(shared.store.as_ref(), &projection);
    Ok(AudienceStatus {
        fault,
        size: is_computed.then_some(members),
        pending,
        progress: (!is_computed).then_some(progress),
        as_of: as_of.position,
        as_of_time: as_of.time,
    })
}

/// A page of an audience's members, in the order of their ordinals.
pub(crate) fn members(
    shared: &KernelState,
    id: WorkspaceId,
    audience: AudienceId,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<MemberPage, QueryError> {
    let workspace = workspace(shared, id)?;
    if workspace.compiled.load().plan.audience(audience).is_none() {
        return Err(QueryError::UnknownAudience);
    }
    let from: u32 = match cursor {
        None => 0,
        Some(text) => text.parse().map_err(|_| page::unknown(text))?,
    };
    let projection = workspace.projection.read();
    let members = projection.index.members(&FeatureName::Audience(audience));
    let mut ordinals: Vec<u32> = members.map_or(Vec::new(), |members| members.range(from..).take(limit + 1).collect());
    let next = if ordinals.len() > limit { ordinals.pop().map(|ordinal| ordinal.to_string()) } else { None };
    let members = ordinals.into_iter().filter_map(|ordinal| projection.profile(ordinal)).collect();
    Ok(MemberPage { members, next })
}

/// Identifiers of one person that a list shows.
const MAX_SHOWN: usize = 16;

/// Members of one person of which the strongest are shown; a person may have hundreds of devices.
const MAX_READ: usize = 64;

/// The identifiers of each of these profiles, the strongest first.
pub(crate) fn identifiers(
    shared: &KernelState,
    id: WorkspaceId,
    profiles: &[ProfileId],
    patience: &Patience,
) -> Result<Vec<Vec<Identifier>>, QueryError> {
    let deadline = Deadline::new(patience);
    let rules = workspace(shared, id)?.compiled.load().setup.identity_rules.clone();
    let read = |identities: &[SourceIdentityId]| -> Result<Vec<Option<IdentityHead>>, QueryError> {
        let keys = identities.iter().map(|identity| Key::person(id, *identity, PersonRow::Head));
        let rows = shared.store.get(&keys.collect::<Vec<_>>())?;
        Ok(rows.into_iter().map(|row| row.map(|row| row::decode(&row)).transpose()).collect::<Result<_, _>>()?)
    };
    let roots = read(&profiles.iter().map(|profile| profile.0).collect::<Vec<_>>())?;
    let mut all = Vec::with_capacity(roots.len());
    for root in roots {
        deadline.go_on()?;
        let members = root.and_then(|head| head.root).map(|root| root.members).unwrap_or_default();
        let heads = read(&members[..members.len().min(MAX_READ)])?;
        let mut identifiers: Vec<Identifier> = heads.into_iter().flatten().map(|head| head.identifier).collect();
        identifiers.sort_by(|one, other| rules.rank(one).cmp(&rules.rank(other)));
        identifiers.truncate(MAX_SHOWN);
        all.push(identifiers);
    }
    Ok(all)
}

/// What the removal of an installation would take away: the people who hold values of it, and the audiences that read them.
pub(crate) fn removal(
    shared: &KernelState,
    id: WorkspaceId,
    installation: InstallationId,
) -> Result<Removal, QueryError> {
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let readers = compiled.plan.audiences.iter().filter(|audience| audience.models.contains(&installation));
    let audiences = readers.map(|audience| audience.audience.id).collect();
    let outputs = compiled.plan.outputs.iter().filter(|(_, (of, _))| *of == installation);
    let in_index = workspace.projection.read().index.holders_of_any(outputs.map(|(output, _)| output));
    let people = match in_index {
        Some(people) => people,
        None => holders_by_rows(shared, id, installation)?,
    };
    Ok(Removal { people, audiences })
}

/// How many people hold a value of an installation, as the rows say: until the reactor has come by, the index lacks what was just
/// installed, and of whom a value is computed anew it knows nothing.
fn holders_by_rows(shared: &KernelState, id: WorkspaceId, installation: InstallationId) -> Result<u64, QueryError> {
    let mut people = 0;
    let _: ControlFlow<(), WalkCoverage> = each_profile(&shared.store, id, |_, members| {
        let outputs = members[0].derived.as_ref().map(|derived| &derived.outputs);
        let holds = outputs.and_then(|outputs| outputs.get(&(installation, Track::Live)));
        people += u64::from(holds.is_some_and(|output| profile::values_of(output) > 0));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(people)
}
