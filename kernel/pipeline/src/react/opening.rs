//! Opening a workspace's reactor: what it had come to, and the index built from the people's rows.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use kith_features::{FeatureName, Value};
use kith_model::id::{InstallationId, Position, ProfileId, WorkspaceId};
use kith_store::keys::{Definition, DeliveryMover};
use kith_store::{Key, Operation, ReadError, Unit, row};

use super::aside::unreadable_person;
use super::effects::{CURSOR, READINESS};
use super::emitted::Emissions;
use super::faults::Faults;
use super::projection::{Projection, note_ordinal};
use super::queues::Queues;
use super::reactor::Reactor;
use super::readiness::Readiness;
use super::seen::SeenBook;
use super::uncomputed::{self, UncomputedRows};
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::facts::{each_row, get_one};
use crate::profiles::person::{Person, next_ordinal};
use crate::profiles::scan::{ProfilePages, Unreadable};
use crate::rows::DeliveryTotals;
use crate::rows::derived::{Cursor, ModelVersion, Output, Track};
use crate::shared::{KernelState, Workspace};

/// What a reactor begins with.
pub(super) struct ReactorStart {
    pub readiness: Readiness,
    pub cursor: Cursor,
    pub promised: Position,
    pub delivery_totals: DeliveryTotals,
    /// The ordinal of the next identity that comes.
    pub next_ordinal: u32,
    pub queues: Queues,
    pub uncomputed: UncomputedRows,
    pub seen: SeenBook,
    pub emissions: Emissions,
    pub faults: Faults,
}

/// What the index is told of one profile.
struct Entry {
    ordinal: u32,
    profile: ProfileId,
    values: Vec<(FeatureName, Value)>,
    /// The models that have yet to see it.
    stale: Vec<InstallationId>,
    /// The models whose version in use cannot take it.
    faulted: Vec<InstallationId>,
}

/// Open a workspace: read what was computed before, and build the index from it with a thread for each processor.
pub(crate) fn open(shared: &Arc<KernelState>, workspace: &Arc<Workspace>) -> Result<Reactor, ReadError> {
    let store = shared.store.as_ref();
    let id = workspace.id;
    let cursor = get_one(store, &Key::progress(id, CURSOR))?;
    let cursor: Cursor = cursor.map_or(Ok(Cursor::default()), |row| row::decode(&row))?;
    let promised = get_one(store, &Key::promised(id))?;
    let promised: Cursor = promised.map_or(Ok(Cursor::default()), |row| row::decode(&row))?;
    let readiness = get_one(store, &Key::progress(id, READINESS))?;
    let readiness: Readiness = readiness.map_or(Ok(Readiness::default()), |row| row::decode(&row))?;
    let compiled = workspace.compiled.load_full();
    let readiness = readiness.under(&compiled.plan);
    let mut projection = Projection { as_of: cursor, ..Projection::default() };
    each_row(store, &Key::definitions(id, Definition::ModelVersion), |_, value| {
        projection.versions.push(Arc::new(row::decode::<ModelVersion>(value)?));
        Ok(())
    })?;
    projection.track(&compiled.plan, &readiness);
    let (mut queues, left_out) = build(shared, workspace, &readiness, &mut projection)?;
    let uncomputed = uncomputed::reopen(store, workspace, &compiled.plan, &mut queues)?;
    keep_aside(shared, id, cursor, &left_out);
    projection.left_out = left_out.len();
    projection.generation = 0;
    let seen = SeenBook::read(store, id)?;
    projection.seen = seen.clone();
    let faults = Faults::read(store, id)?;
    projection.faults = faults.durable().clone();
    *workspace.projection.write() = projection;
    let totals = get_one(store, &Key::delivery_totals(id, DeliveryMover::Reactor))?;
    let delivery_totals: DeliveryTotals = totals.map_or(Ok(DeliveryTotals::default()), |row| row::decode(&row))?;
    let emissions = Emissions::read(store, id)?;
    let next_ordinal = next_ordinal(store, id)?;
    let promised = promised.position;
    let opened = ReactorStart {
        readiness,
        cursor,
        promised,
        delivery_totals,
        next_ordinal,
        queues,
        uncomputed,
        seen,
        emissions,
        faults,
    };
    Ok(Reactor::new(Arc::clone(shared), Arc::clone(workspace), opened))
}

/// Of so many who cannot be read there are letters. Where a whole store cannot be read these are enough to see why, and one commit.
const MAX_LETTERS: usize = 1_000;

/// Keep aside who is left out of the index.
fn keep_aside(shared: &KernelState, workspace: WorkspaceId, as_of: Cursor, left_out: &[Unreadable]) {
    if left_out.is_empty() {
        return;
    }
    let letter = |(identity, error): &Unreadable| {
        let (key, aside) = unreadable_person(workspace, as_of, error, &identity.to_string());
        Operation::Put(key, row::encode(&aside))
    };
    let operations = left_out.iter().take(MAX_LETTERS).map(letter).collect();
    // The log has them too, and the next start comes across the same ones.
    if let Err(error) = shared.commit(Unit { operations, ..Unit::default() }) {
        tracing::error!(workspace = workspace.0, %error, "who cannot be read could not be kept aside");
    }
}

/// Read all profiles into the index; who could not be read.
fn build(
    shared: &Arc<KernelState>,
    workspace: &Arc<Workspace>,
    readiness: &Readiness,
    projection: &mut Projection,
) -> Result<(Queues, Vec<Unreadable>), ReadError> {
    let compiled = workspace.compiled.load_full();
    let as_of = projection.as_of;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut queues, mut left_out) = (Queues::new(), Vec::new());
    std::thread::scope(|scope| {
        // A page has megabytes of values: no more of them wait than there are threads.
        let (sender, pages) = sync_channel(threads);
        for mut walk in ProfilePages::parts(&shared.store, workspace.id, threads) {
            let (sender, compiled) = (sender.clone(), &compiled);
            scope.spawn(move || {
                let view = Evaluation {
                    plan: &compiled.plan,
                    zone: &compiled.setup.zone,
                    complete: &readiness.complete,
                    now: as_of.time,
                };
                while let Some(page) = walk.next_page().transpose() {
                    let unreadable = walk.take_unreadable();
                    let page = page.and_then(|profiles| entries(shared, workspace, profiles, view, unreadable));
                    // The receiver is gone after another thread's error.
                    if sender.send(page).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for page in pages {
            let (entries, unreadable) = page?;
            let room = MAX_LETTERS.saturating_sub(left_out.len());
            let with_room = |(place, (identity, error)): (usize, Unreadable)| {
                (identity, if place < room { error } else { error.without_row() })
            };
            left_out.extend(unreadable.into_iter().enumerate().map(with_room));
            for entry in entries {
                note_ordinal(&mut projection.ordinals, entry.ordinal, entry.profile);
                for (feature, value) in &entry.values {
                    projection.index.set(entry.ordinal, feature, value);
                }
                for model in entry.stale {
                    queues.entry(model).or_default().stale.insert(entry.ordinal);
                }
                for model in entry.faulted {
                    queues.entry(model).or_default().uncomputed.faulted.insert(entry.ordinal);
                }
            }
        }
        Ok::<_, ReadError>(())
    })?;
    Ok((queues, left_out))
}

/// What the index is told of these profiles, but for those who cannot be read.
fn entries(
    shared: &KernelState,
    workspace: &Workspace,
    profiles: Vec<Vec<Person>>,
    view: Evaluation<'_>,
    mut unreadable: Vec<Unreadable>,
) -> Result<(Vec<Entry>, Vec<Unreadable>), ReadError> {
    let mut entries = Vec::with_capacity(profiles.len());
    for mut people in profiles {
        let sealed = people.iter_mut().try_for_each(|person| {
            let sealed = person.sealed_leaves();
            let leaves = sealed.into_iter().filter_map(|leaf| view.plan.program.leaf(leaf));
            person.load_sealed(shared.store.as_ref(), workspace.id, leaves)
        });
        match sealed {
            Ok(()) => entries.push(entry(&people, view)),
            Err(error @ ReadError::Io { .. }) => return Err(error),
            Err(error) => unreadable.extend(people.first().map(|root| (root.id, error))),
        }
    }
    Ok((entries, unreadable))
}

/// What the index shows of a profile.
fn entry(people: &[Person], view: Evaluation<'_>) -> Entry {
    let profile = Profile::new(people.iter().collect(), view);
    let root = profile.root();
    let mut features = std::collections::BTreeSet::from([FeatureName::CreatedAt]);
    for person in people {
        features.insert(FeatureName::Identifiers(person.identifier.kind.as_str().into()));
        features.extend(person.contribution.traits.keys().map(|name| FeatureName::Trait(name.as_str().into())));
    }
    features.extend(view.plan.outputs.keys().cloned());
    let mut values: Vec<(FeatureName, Value)> =
        features.into_iter().map(|feature| (feature.clone(), profile.feature(&feature))).collect();
    let held = people.iter().filter_map(|person| person.derived.as_ref()).flat_map(|derived| derived.leaves.ids());
    for leaf in held.collect::<std::collections::BTreeSet<_>>() {
        if let Some(leaf) = view.plan.program.leaf(leaf) {
            values.push((FeatureName::Leaf(leaf.id()), profile.value_so_far(leaf)));
        }
    }
    let derived = root.derived.iter();
    let memberships = derived.clone().flat_map(|derived| derived.memberships.keys());
    values.extend(memberships.map(|audience| (FeatureName::Audience(*audience), Value::Bool(true))));
    let outputs = derived.flat_map(|derived| &derived.outputs).filter(|((_, track), _)| *track == Track::Live);
    let those = |holds: fn(&Output) -> bool| {
        let held = outputs.clone().filter(|(_, output)| holds(output));
        held.map(|((installation, _), _)| *installation).collect::<Vec<_>>()
    };
    let (stale, faulted) = (those(|output| output.awaited().is_some()), those(Output::is_faulted));
    Entry { ordinal: root.ordinal, profile: ProfileId(root.id), values, stale, faulted }
}
