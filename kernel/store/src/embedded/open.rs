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
use crate::directory::{self, Directory};
use crate::engine::history::History;
use crate::engine::{Applied, Engine, EngineError, redb, sled};
use crate::journal::tail::Tail;
use crate::journal::{self, End, Journal, Reach};
use crate::{EngineKind, Key, KeyRange, OpenError, ReadError, StoreConfig};

/// Replayed units are shown to readers in groups of this many bytes.
const REPLAY_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Open the store of `config`, or make a new one. On return it holds every unit that was ever answered.
pub fn open(config: StoreConfig) -> Result<Embedded, OpenError> {
    let started = std::time::Instant::now();
    let directory = directory::open(&config.directory)?;
    let OpenedDirectory { journal, reach: Reach { end, heads }, engine, applied } = open_both(&directory, &config)?;
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

/// Why an engine's directory cannot be used.
enum Unusable {
    Damaged(String),
    Refused(OpenError),
}

impl From<EngineError> for Unusable {
    fn from(error: EngineError) -> Unusable {
        match error {
            EngineError::Io { engine, source } => {
                Unusable::Damaged(format!("the {engine} engine could not read or write its files: {source}"))
            }
            error @ EngineError::Corrupt { .. } => Unusable::Damaged(error.to_string()),
        }
    }
}

fn try_engine(directory: &Directory, config: &StoreConfig) -> Result<(Box<dyn Engine>, Applied), Unusable> {
    let kind = config.engine;
    if directory.suspect(kind).exists() {
        return Err(Unusable::Damaged("it was found damaged while it was in use".to_owned()));
    }
    let path = directory.create_engine(kind).map_err(Unusable::Refused)?;
    let engine = start_engine(kind, &path, config.cache_bytes)?;
    let Some(applied) = engine.applied()? else {
        let all = KeyRange { from: Key::least_of(0), to: Key::least_of(crate::keys::ENGINE) };
        if engine.scan(&all, 1, 1)?.rows.is_empty() {
            return Ok((engine, Applied::default()));
        }
        return Err(Unusable::Damaged("it holds rows but not how far it has come".to_owned()));
    };
    Ok((engine, applied))
}

/// What a directory holds: the checked journal with how far it reaches, and the engine with how far it has come.
struct OpenedDirectory {
    journal: Journal,
    reach: Reach,
    engine: Box<dyn Engine>,
    applied: Applied,
}

/// Open the journal and the engine. Both read what they have from its first to its last byte,
/// so they do it at the same time. An engine that cannot be used is moved aside, and a new one starts from nothing.
fn open_both(directory: &Directory, config: &StoreConfig) -> Result<OpenedDirectory, OpenError> {
    let (journal, engine) = std::thread::scope(|scope| {
        let opening = Builder::new().name("store-engine".to_owned());
        let opening = opening.spawn_scoped(scope, || try_engine(directory, config)).map_err(no_thread);
        let journal = journal::open(&directory.journal(), config.segment_bytes);
        let engine = opening.map(|engine| {
            engine.join().unwrap_or_else(|_| Err(Unusable::Damaged("opening it ended in a panic".to_owned())))
        });
        (journal, engine)
    });
    let (journal, reach) = journal?;
    let units = reach.end.next_sequence - 1;
    let (engine, applied) = match engine? {
        Ok(engine) => engine,
        Err(Unusable::Refused(error)) => return Err(error),
        Err(Unusable::Damaged(problem)) => {
            tracing::warn!(
                engine = %config.engine, problem, units,
                "the engine cannot be used; it is moved aside and filled again from the journal"
            );
            directory.set_engine_aside(config.engine)?;
            try_engine(directory, config).map_err(|unusable| match unusable {
                Unusable::Refused(error) => error,
                Unusable::Damaged(problem) => OpenError::Engine { engine: config.engine, problem },
            })?
        }
    };
    if applied.sequence > units {
        let path = directory.engine(config.engine);
        return Err(OpenError::EngineAhead { engine: config.engine, applied: applied.sequence, journal: units, path });
    }
    Ok(OpenedDirectory { journal, reach, engine, applied })
}

/// Hand the overlay every unit behind `applied`. What does not fit waits for the applier, which runs already.
fn replay(shared: &Shared, applied: Applied) -> Result<(), ReadError> {
    let Some(journal) = &shared.journal else { return Ok(()) };
    let end = End { next_sequence: applied.sequence + 1, next_position: applied.position + 1 };
    // The units are on disk, and none of them asks for a lease.
    let mut leases = Leases::default();
    let mut draft = Draft::new(shared, end, Room::Unbounded, &mut leases);
    let mut bytes = 0;
    let mut waiting = false;
    journal.replay(end.next_sequence, |spot, record| {
        let effects = record.operations().map(|operation| Ok(operation?.to_effect())).collect::<Result<_, &str>>()?;
        draft.add(record.place, Some(spot), effects);
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
