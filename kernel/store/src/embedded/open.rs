//! Opening a store: lock, journal, engine, and the units that the engine lacks.

use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;

use kith_model::id::Position;
use parking_lot::{Condvar, Mutex, RwLock};

use super::overlay::Overlay;
use super::room::Room;
use super::writer::{Draft, Leases, Queue};
use super::{Disk, Embedded, Shared, no_thread, start_applier, start_writer, stop_applier};
use crate::directory::{self, Directory, Format};
use crate::engine::history::History;
use crate::engine::{Applied, Engine, EngineError, redb, sled};
use crate::journal::tail::Tail;
use crate::journal::{self, End, Journal, Reach, Survey};
use crate::{EngineKind, Key, KeyRange, OpenError, ReadError, StoreConfig};

/// Replayed units are shown to readers in groups of this many bytes.
const REPLAY_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// How an engine's files are opened.
type StartEngine<'a> = dyn Fn(EngineKind, &Path, u64) -> Result<Box<dyn Engine>, EngineError> + Sync + 'a;

/// Open the store of `config`, or make a new one. On return it holds every unit that was ever answered.
pub fn open(config: StoreConfig) -> Result<Embedded, OpenError> {
    open_with(config, &start_engine)
}

fn open_with(config: StoreConfig, start: &StartEngine<'_>) -> Result<Embedded, OpenError> {
    let started = std::time::Instant::now();
    let directory = directory::open(&config.directory)?;
    let OpenedDirectory { journal, reach: Reach { end, heads }, engine, applied } =
        open_both(&directory, &config, start)?;
    let missing = end.next_sequence - 1 - applied.sequence;
    let journal = Arc::new(journal);
    let shared = Arc::new(Shared {
        engine: Box::new(History::new(engine, Arc::clone(&journal))),
        journal: Some(journal),
        disk: Some(Disk { directory, engine: config.engine, reserve_bytes: config.disk_reserve_bytes }),
        queue: Queue::default(),
        overlay: Overlay::new(applied, config.overlay_bytes),
        tail: RwLock::new(Tail::new(applied.position + 1, config.tail_bytes, heads)),
        head: Mutex::new(Position(end.next_position - 1)),
        head_moved: Condvar::new(),
    });
    let applier = start_applier(&shared)?;
    if let Err(error) = replay(&shared, applied) {
        stop_applier(&shared, applier);
        return Err(OpenError::Replay(error));
    }
    let store = start_writer(shared, applier, end)?;
    tracing::info!(
        directory = %config.directory.display(), engine = %config.engine, head = end.next_position - 1, replayed_units = missing,
        milliseconds = started.elapsed().as_millis(), "the store is open"
    );
    Ok(store)
}

fn start_engine(kind: EngineKind, path: &Path, cache_bytes: u64) -> Result<Box<dyn Engine>, EngineError> {
    Ok(match kind {
        EngineKind::Sled => Box::new(sled::open(path, cache_bytes)?),
        EngineKind::Redb => Box::new(redb::open(path, cache_bytes)?),
    })
}

/// What was found in an engine's place.
enum FoundEngine {
    Absent,
    Usable(Box<dyn Engine>, Applied),
    /// It is to be moved aside, for this reason.
    Unusable(String),
}

/// Open the engine in `path`, and ask it how far it has come.
fn try_engine(
    config: &StoreConfig,
    path: &Path,
    start: &StartEngine<'_>,
) -> Result<(Box<dyn Engine>, Applied), EngineError> {
    let engine = start(config.engine, path, config.cache_bytes)?;
    if let Some(applied) = engine.applied()? {
        return Ok((engine, applied));
    }
    let all = KeyRange { from: Key::least_of(0), to: Key::least_of(crate::keys::ENGINE) };
    if engine.scan(&all, 1, 1)?.rows.is_empty() {
        return Ok((engine, Applied::default()));
    }
    let problem = "it holds rows but not how far it has come".to_owned();
    Err(EngineError::Corrupt { engine: engine.name(), problem })
}

/// Look at the engine that is there, and make none. What the system refuses now is an error and no reason to give it up.
fn find_engine(directory: &Directory, config: &StoreConfig, start: &StartEngine<'_>) -> Result<FoundEngine, OpenError> {
    let kind = config.engine;
    if directory.format() == Format::Before {
        // Whatever is there is of the format before, and goes with the upgrade.
        return Ok(FoundEngine::Absent);
    }
    if directory.suspect(kind).exists() {
        return Ok(FoundEngine::Unusable("it was found damaged while it was in use".to_owned()));
    }
    if !directory.has_engine(kind)? {
        return Ok(FoundEngine::Absent);
    }
    let path = directory.engine(kind);
    match try_engine(config, &path, start) {
        Ok((engine, applied)) => Ok(FoundEngine::Usable(engine, applied)),
        Err(EngineError::Io { source, .. }) => Err(OpenError::EngineUnavailable { engine: kind, path, source }),
        Err(error @ EngineError::Corrupt { .. }) => Ok(FoundEngine::Unusable(error.to_string())),
    }
}

/// Make an engine where there is none.
fn new_engine(
    directory: &Directory,
    config: &StoreConfig,
    start: &StartEngine<'_>,
) -> Result<(Box<dyn Engine>, Applied), OpenError> {
    let kind = config.engine;
    let path = directory.create_engine(kind)?;
    try_engine(config, &path, start).map_err(|error| match error {
        EngineError::Io { source, .. } => OpenError::EngineUnavailable { engine: kind, path, source },
        EngineError::Corrupt { problem, .. } => OpenError::Engine { engine: kind, problem },
    })
}

/// What a directory holds: the checked journal with how far it reaches, and the engine with how far it has come.
struct OpenedDirectory {
    journal: Journal,
    reach: Reach,
    engine: Box<dyn Engine>,
    applied: Applied,
}

/// Open the journal and the engine. Both read what they have from its first to its last byte, so they do it at the same time.
/// What is refused is refused before a byte is changed: where the journal has lost units, the bytes that would be cut off and
/// the engine may be all that is left of them. An engine opens by recovering its own files, which changes none of its rows.
fn open_both(
    directory: &Directory,
    config: &StoreConfig,
    start: &StartEngine<'_>,
) -> Result<OpenedDirectory, OpenError> {
    let (survey, found) = std::thread::scope(|scope| {
        let finding = Builder::new().name("store-engine".to_owned());
        let finding = finding.spawn_scoped(scope, || find_engine(directory, config, start)).map_err(no_thread);
        let survey = journal::survey(&directory.journal());
        let found = finding.and_then(|engine| {
            let panicked = || FoundEngine::Unusable("opening it ended in a panic".to_owned());
            engine.join().unwrap_or_else(|_| Ok(panicked()))
        });
        (survey, found)
    });
    let survey = survey?;
    let found = judge(found?, directory, config, &survey)?;
    let units = survey.units();
    let (journal, reach) = survey.mend(config.segment_bytes)?;
    if directory.format() == Format::Before {
        directory.upgrade()?;
    }
    let (engine, applied) = match found {
        FoundEngine::Usable(engine, applied) => (engine, applied),
        FoundEngine::Absent => new_engine(directory, config, start)?,
        FoundEngine::Unusable(problem) => {
            tracing::warn!(
                engine = %config.engine, problem, units,
                "the engine cannot be used; it is moved aside and filled again from the journal"
            );
            directory.set_engine_aside(config.engine)?;
            new_engine(directory, config, start)?
        }
    };
    Ok(OpenedDirectory { journal, reach, engine, applied })
}

/// Hold an engine against the journal: one that is ahead of it shows that units are lost, and one that was filled from
/// another history, as of a journal from before a backup was restored, has rows of units that are not in this one.
fn judge(
    found: FoundEngine,
    directory: &Directory,
    config: &StoreConfig,
    survey: &Survey,
) -> Result<FoundEngine, OpenError> {
    let FoundEngine::Usable(engine, applied) = found else { return Ok(found) };
    if applied.sequence > survey.units() {
        let (segment, offset) = survey.end();
        return Err(OpenError::EngineAhead {
            engine: config.engine,
            applied: applied.sequence,
            journal: survey.units(),
            segment,
            offset,
            path: directory.engine(config.engine),
        });
    }
    if survey.fingerprint_at(applied.sequence)? == applied.fingerprint {
        return Ok(FoundEngine::Usable(engine, applied));
    }
    Ok(FoundEngine::Unusable(format!("it does not show that its {} units are those of this journal", applied.sequence)))
}

/// Hand the overlay every unit behind `applied`. What does not fit waits for the applier, which runs already.
fn replay(shared: &Shared, applied: Applied) -> Result<(), ReadError> {
    let Some(journal) = &shared.journal else { return Ok(()) };
    let end = End {
        next_sequence: applied.sequence + 1,
        next_position: applied.position + 1,
        fingerprint: applied.fingerprint,
    };
    // The units are on disk, and none of them asks for a lease.
    let mut leases = Leases::default();
    let mut draft = Draft::new(shared, end, Room::Unbounded, &mut leases);
    let mut bytes = 0;
    let mut waiting = false;
    journal.replay(end.next_sequence, |spot, record| {
        let effects = record.operations().map(|operation| Ok(operation?.to_effect())).collect::<Result<_, &str>>()?;
        draft.add(record.place, record.checksum, Some(spot), effects);
        bytes += record.size_bytes;
        waiting = true;
        if bytes >= REPLAY_GROUP_BYTES {
            shared.overlay.wait_for_room();
            draft.publish();
            bytes = 0;
            waiting = false;
        }
        Ok(())
    })?;
    if waiting {
        draft.publish();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
