//! Dry runs of a change of the identity rules: the steps of the change itself over what is stored, without a commit.
//!
//! One runs for a workspace at a time, on a thread of its own that yields to all other work. What it would change it keeps in
//! memory, so a change that touches more than [`MAX_ROWS`] rows is told as far as it was seen, and said to be incomplete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kith_features::FeatureName;
use kith_model::id::{AudienceId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Identifier, IdentityRules, Standing};
use kith_store::keys::PersonRow;
use kith_store::{Key, ReadError, row};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::sync::watch;

use crate::accept::counts::read_counts;
use crate::accept::people::{People, Standings};
use crate::accept::reweigh::{AppliedRules, Phase, ReweighTotals, applied, digest};
use crate::profiles::facts::each_row;
use crate::questions::{QueryError, workspace};
use crate::shared::KernelState;
use crate::turns::TurnError;
use crate::views::{DryRun, RuleChange, RuleEffect, RuleExample, RuleProgress};
use crate::yielding::yield_to_others;

/// Rows of identities and evidence that a dry run keeps in memory, at about half a kilobyte each.
const MAX_ROWS: usize = 400_000;

/// As much as a question that looks at everybody yields.
const NICE: i32 = 10;

/// Its caches are this part of those that all lanes have together.
const CACHE_SHARES: usize = 8;

/// Most dry runs of all workspaces at once: each has caches of its own.
const MAX_RUNNING: usize = 2;

/// People whom an answer shows, of those who would come apart and of those who would be joined.
const MAX_EXAMPLES: usize = 10;

/// Identifiers of one person that an example shows.
const MAX_SHOWN: usize = 8;

/// A dry run under way or ended.
struct Run {
    /// See [`change_token`].
    token: String,
    state: Mutex<DryRun>,
    is_given_up: AtomicBool,
    /// Turned to `true` once the state is the last one.
    has_ended: watch::Sender<bool>,
}

/// The newest dry run of each workspace.
#[derive(Default)]
pub(crate) struct DryRuns(Mutex<BTreeMap<WorkspaceId, Arc<Run>>>);

/// What names a change of a workspace's rules, so that what is confirmed is what was looked at.
pub fn change_token(workspace: WorkspaceId, before: &IdentityRules, after: &IdentityRules) -> String {
    let hex = |digest: [u8; 16]| data_encoding::HEXLOWER.encode(&digest[..8]);
    format!("{:x}-{}{}", workspace.0, hex(digest(before)), hex(digest(after)))
}

/// Begin a dry run of these rules under the name `token`, unless the same one is there already.
pub(crate) fn begin(
    shared: &Arc<KernelState>,
    id: WorkspaceId,
    rules: IdentityRules,
    token: String,
) -> Result<(), QueryError> {
    let known = workspace(shared, id)?;
    let setup = Arc::clone(&known.compiled.load().setup);
    let before = setup.identity_rules.clone();
    let mut runs = shared.dry_runs.0.lock();
    if let Some(run) = runs.get(&id) {
        if run.token == token && matches!(*run.state.lock(), DryRun::Running(_)) {
            return Ok(());
        }
        run.is_given_up.store(true, Ordering::SeqCst);
    }
    let running =
        |run: &&Arc<Run>| matches!(*run.state.lock(), DryRun::Running(_)) && !run.is_given_up.load(Ordering::SeqCst);
    if runs.values().filter(running).count() >= MAX_RUNNING {
        return Err(QueryError::Turn(TurnError::busy()));
    }
    let run = Arc::new(Run {
        token,
        state: Mutex::new(DryRun::Running(RuleProgress::default())),
        is_given_up: AtomicBool::new(false),
        has_ended: watch::Sender::new(false),
    });
    runs.insert(id, Arc::clone(&run));
    let (shared, realm_key) = (Arc::clone(shared), setup.realm_key);
    let begun = std::thread::Builder::new().name("kith-dry-run".into()).spawn(move || {
        yield_to_others(NICE);
        let ended = look(&shared, id, realm_key, &before, &rules, &run);
        *run.state.lock() = ended.unwrap_or_else(|error| {
            tracing::warn!(workspace = id.0, %error, "a dry run of identity rules ended early");
            DryRun::Failed(error.to_string())
        });
        run.has_ended.send_replace(true);
    });
    begun.map(drop).map_err(|source| {
        QueryError::Read(ReadError::Io { what: "a thread for the dry run".into(), source: Arc::new(source) })
    })
}

/// The newest dry run of a workspace, if it is of the change that `token` names.
pub(crate) fn newest(shared: &KernelState, id: WorkspaceId, token: &str) -> Option<DryRun> {
    let runs = shared.dry_runs.0.lock();
    let run = runs.get(&id).filter(|run| run.token == token);
    run.map(|run| run.state.lock().clone())
}

/// The same once it has ended, or as it is after `patience`.
pub(crate) async fn newest_within(
    shared: &KernelState,
    id: WorkspaceId,
    token: &str,
    patience: Duration,
) -> Option<DryRun> {
    let run = shared.dry_runs.0.lock().get(&id).filter(|run| run.token == token).cloned()?;
    let mut has_ended = run.has_ended.subscribe();
    // Time over is no error: how far it has come is the answer then.
    drop(tokio::time::timeout(patience, has_ended.wait_for(|has_ended| *has_ended)).await);
    newest(shared, id, token)
}

/// Whether history is tied by the rules in force, and how far a change of them has come.
pub(crate) fn change_under_way(shared: &KernelState, id: WorkspaceId) -> Result<RuleChange, QueryError> {
    let known = workspace(shared, id)?;
    let in_force = digest(&known.compiled.load().setup.identity_rules);
    let noted = applied(shared.store.as_ref(), id)?;
    let progress = |applied: &AppliedRules| progress(shared, id, &applied.phase, applied.looked);
    Ok(match &noted {
        Some(applied) if applied.digest != in_force => RuleChange::Waiting,
        Some(applied) if !applied.is_done() => RuleChange::Running(progress(applied)?),
        Some(applied) => RuleChange::Done(progress(applied)?),
        None => RuleChange::Done(RuleProgress::default()),
    })
}

fn progress(
    shared: &KernelState,
    id: WorkspaceId,
    phase: &Phase,
    looked: ReweighTotals,
) -> Result<RuleProgress, ReadError> {
    let counts = read_counts(shared.store.as_ref(), id)?;
    let step = match phase {
        Phase::Done => "done",
        Phase::Few(_) | Phase::Settle(_) => "settle",
        Phase::Weigh(_) => "weigh",
        Phase::Replay { .. } => "replay",
    };
    Ok(RuleProgress {
        step,
        weighed: looked.weighed,
        events: looked.events,
        settled: looked.settled,
        identifiers: counts.identifiers,
        events_in_all: counts.events,
        too_connected: looked.too_connected,
        unreadable: looked.unreadable,
    })
}

/// The whole dry run.
fn look(
    shared: &KernelState,
    id: WorkspaceId,
    realm_key: [u8; 32],
    before: &IdentityRules,
    after: &IdentityRules,
    run: &Run,
) -> Result<DryRun, QueryError> {
    let store = &shared.store;
    let as_of = store.head_of(id);
    let mut people = People::scratch(Arc::clone(store), id, realm_key)?;
    people.share_with(CACHE_SHARES);
    let mut work = AppliedRules::change(&mut people, id, before, after)?;
    let is_of_all = !matches!(work.phase, Phase::Few(_));
    let mut is_complete = true;
    while !work.is_done() {
        if shared.is_closing() || run.is_given_up.load(Ordering::SeqCst) {
            return Ok(DryRun::Failed("it was given up for another one, or because the kernel stops".into()));
        }
        work.step(store.as_ref(), id, &mut people, after)?;
        if people.pending() > MAX_ROWS {
            is_complete = false;
            break;
        }
        *run.state.lock() = DryRun::Running(progress(shared, id, &work.phase, work.looked)?);
    }
    let mut effect = effect(shared, id, &mut people, (before, after))?;
    if is_of_all && naming(before) != naming(after) {
        count_named(shared, id, (before, after), &mut effect)?;
    }
    (effect.as_of, effect.is_complete) = (as_of, is_complete);
    // Events that came meanwhile were read by some of the steps and not by others.
    effect.is_exact = is_complete && store.head_of(id) == as_of;
    (effect.too_connected, effect.unreadable) = (work.looked.too_connected, work.looked.unreadable);
    Ok(DryRun::Done(Box::new(effect)))
}

/// What of rules decides whether a value names somebody.
fn naming(rules: &IdentityRules) -> impl PartialEq + use<'_> {
    (&rules.blocked_values, &rules.allowed_values, &rules.types, &rules.phone_region)
}

/// How many identifiers cease or begin to name somebody.
fn count_named(
    shared: &KernelState,
    id: WorkspaceId,
    (before, after): (&IdentityRules, &IdentityRules),
    effect: &mut RuleEffect,
) -> Result<(), ReadError> {
    each_row(shared.store.as_ref(), &Key::people(id), |key, value| {
        if matches!(key.as_person(), Some((_, row)) if row == PersonRow::Head as u8) {
            let head: kith_model::profile::IdentityHead = row::decode(value)?;
            match (before.names_somebody(&head.identifier), after.names_somebody(&head.identifier)) {
                (true, false) => effect.newly_nobody += 1,
                (false, true) => effect.newly_somebody += 1,
                _ => {}
            }
        }
        Ok(())
    })
}

/// What the pending work changes.
fn effect(
    shared: &KernelState,
    id: WorkspaceId,
    people: &mut People,
    (before, after): (&IdentityRules, &IdentityRules),
) -> Result<RuleEffect, QueryError> {
    let standings = people.standings();
    let (_, grown) = people.growth();
    let profiles = read_counts(shared.store.as_ref(), id)?.profiles;
    let mut effect = RuleEffect {
        people_before: profiles,
        people_after: profiles.saturating_add_signed(grown),
        ..RuleEffect::default()
    };
    let moved: BTreeMap<SourceIdentityId, Option<ProfileId>> =
        standings.iter().map(|standing| (standing.identity, standing.before)).collect();
    let mut touched = RoaringBitmap::new();
    let mut parted = Vec::new();
    let mut joined = Vec::new();
    for standing in &standings {
        let (head, stored) = (people.current(standing.identity)?, people.stored(standing.identity)?);
        if let Some(stored) = &stored {
            match (stored.is_shared(before), head.is_shared(after) && !head.stands(Standing::Undecided)) {
                (false, true) => effect.newly_shared += 1,
                (true, false) => effect.newly_free += 1,
                _ => {}
            }
        }
        if standing.members_before == standing.members_after || stored.is_none() {
            continue;
        }
        touched.insert(head.ordinal);
        let parts = parts_now(people, &standing.members_before)?;
        if parts.len() > 1 {
            effect.parted += 1;
            parted.push((vec![standing.members_before.clone()], parts));
        }
        let parts = parts_before(people, standing, &moved)?;
        if parts.len() > 1 {
            effect.joined += 1;
            joined.push((parts, vec![standing.members_after.clone()]));
        }
    }
    for (parts_before, parts_after) in
        parted.into_iter().take(MAX_EXAMPLES).chain(joined.into_iter().take(MAX_EXAMPLES))
    {
        let before = shown(people, &parts_before)?;
        let after = shown(people, &parts_after)?;
        effect.examples.push(RuleExample { before, after });
    }
    effect.audiences = members_touched(shared, id, &touched)?;
    Ok(effect)
}

/// The people that members of one come to.
fn parts_now(people: &mut People, members: &[SourceIdentityId]) -> Result<Vec<Vec<SourceIdentityId>>, ReadError> {
    let mut parts: BTreeMap<ProfileId, Vec<SourceIdentityId>> = BTreeMap::new();
    for member in members {
        parts.entry(people.current(*member)?.profile).or_default().push(*member);
    }
    Ok(parts.into_values().collect())
}

/// The people that the members of one come from.
fn parts_before(
    people: &mut People,
    standing: &Standings,
    moved: &BTreeMap<SourceIdentityId, Option<ProfileId>>,
) -> Result<Vec<Vec<SourceIdentityId>>, ReadError> {
    let mut parts: BTreeMap<ProfileId, Vec<SourceIdentityId>> = BTreeMap::new();
    for member in &standing.members_after {
        let before = match moved.get(member) {
            Some(before) => *before,
            None => Some(people.current(*member)?.profile),
        };
        if let Some(before) = before {
            parts.entry(before).or_default().push(*member);
        }
    }
    Ok(parts.into_values().collect())
}

fn shown(people: &mut People, parts: &[Vec<SourceIdentityId>]) -> Result<Vec<Vec<Identifier>>, ReadError> {
    let mut all = Vec::new();
    for part in parts.iter().take(MAX_SHOWN) {
        let mut identifiers = Vec::new();
        for member in part.iter().take(MAX_SHOWN) {
            let head = people.current(*member)?;
            if !head.identifier.is_previous() {
                identifiers.push(head.identifier);
            }
        }
        all.push(identifiers);
    }
    Ok(all)
}

/// Of each audience, how many members would be somebody else.
fn members_touched(
    shared: &KernelState,
    id: WorkspaceId,
    touched: &RoaringBitmap,
) -> Result<Vec<(AudienceId, u64)>, QueryError> {
    let known = workspace(shared, id)?;
    let audiences: BTreeSet<AudienceId> =
        known.compiled.load().plan.audiences.iter().map(|audience| audience.audience.id).collect();
    let projection = known.projection.read();
    let of = audiences.into_iter().map(|audience| {
        let members = projection.index.members(&FeatureName::Audience(audience));
        (audience, members.map_or(0, |members| members.intersection_len(touched)))
    });
    Ok(of.filter(|(_, members)| *members > 0).collect())
}
