//! The store of one process: the journal, an engine behind it, and two threads. The writer makes units durable and answers;
//! the applier follows and brings them into the engine. Which bytes go where is left to `journal` and `engine`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::directory::Directory;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Applied, Engine, EngineError};
use crate::journal::tail::{Heads, Tail};
use crate::journal::{End, Journal};
use crate::{
    ChangeLimits, Changes, CommitError, Committed, DiskRoom, EngineKind, Fence, Job, Key, KeyRange, OpenError, Page,
    QueueId, ReadError, ReadSet, Status, Store, Unit, Value, keys,
};

mod applier;
mod commit;
mod open;
mod overlay;
mod prepare;
mod read;
mod room;
mod rows;
mod writer;

pub use open::open;
use overlay::Overlay;
pub use prepare::MAX_UNIT_BYTES;
use writer::{Command, Queue};

/// What callers and the two threads share.
struct Shared {
    engine: Box<dyn Engine>,
    /// `None` in memory, where the tail holds the whole log.
    journal: Option<Arc<Journal>>,
    disk: Option<Disk>,
    queue: Queue,
    overlay: Overlay,
    tail: RwLock<Tail>,
    head: Mutex<Position>,
    head_moved: Condvar,
}

/// The directory of a store that is not in memory.
struct Disk {
    directory: Directory,
    engine: EngineKind,
    reserve_bytes: u64,
}

impl Shared {
    /// Remember that the engine is damaged, so that the next start fills a new one from the journal.
    fn suspect_engine(&self) {
        let Some(disk) = &self.disk else { return };
        let path = disk.directory.suspect(disk.engine);
        if let Err(error) = std::fs::File::create(&path) {
            tracing::error!(path = %path.display(), %error, "the damaged engine could not be marked; move its directory away before the next start, and it is filled again");
        }
    }

    fn note_damage(&self, error: &ReadError) {
        if let ReadError::Corrupt { .. } = error {
            tracing::error!(%error, "stored data is damaged");
            self.suspect_engine();
        }
    }

    fn read<T>(&self, read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let result = read();
        if let Err(error) = &result {
            self.note_damage(error);
        }
        result
    }
}

/// What a thread that cannot go on says of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EngineVerdict {
    /// Nothing speaks against it.
    Sound,
    /// The next start rebuilds it.
    Suspect,
}

/// Stop the process because a thread of the store cannot go on: units would be answered that no reader will see.
fn stop(shared: &Shared, thread: &str, problem: &str, engine: EngineVerdict) -> ! {
    tracing::error!(thread, problem, "the store cannot go on; the process stops");
    if engine == EngineVerdict::Suspect {
        shared.suspect_engine();
    }
    std::process::abort()
}

/// The embedded [`Store`]. Dropping it closes it.
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
}

/// A store in memory with the same semantics, for unit tests. It keeps its whole log and loses all when dropped.
///
/// # Panics
///
/// If the system gives no new thread.
pub fn memory() -> Embedded {
    let nothing = Applied::default();
    let shared = Arc::new(Shared {
        engine: Box::new(MemoryEngine::default()),
        journal: None,
        disk: None,
        queue: Queue::default(),
        overlay: Overlay::new(nothing, 64 << 20),
        tail: RwLock::new(Tail::new(1, usize::MAX, Heads::new())),
        head: Mutex::default(),
        head_moved: Condvar::new(),
    });
    let applier = start_applier(&shared).expect("without threads a test has nothing to test");
    start_writer(shared, applier, End::START).expect("without threads a test has nothing to test")
}

fn no_thread(source: std::io::Error) -> OpenError {
    OpenError::Io { what: "starting a thread of the store".to_owned(), source }
}

fn start_applier(shared: &Arc<Shared>) -> Result<JoinHandle<()>, OpenError> {
    let shared = shared.clone();
    let run = move || match catch_unwind(AssertUnwindSafe(|| applier::run(&shared))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let is_corrupt = matches!(error, EngineError::Corrupt { .. });
            let engine = if is_corrupt { EngineVerdict::Suspect } else { EngineVerdict::Sound };
            stop(&shared, "applier", &ReadError::from(error).to_string(), engine)
        }
        Err(_) => stop(&shared, "applier", "it panicked", EngineVerdict::Suspect),
    };
    Builder::new().name("store-applier".to_owned()).spawn(run).map_err(no_thread)
}

fn start_writer(shared: Arc<Shared>, applier: JoinHandle<()>, end: End) -> Result<Embedded, OpenError> {
    let for_writer = shared.clone();
    let run = move || {
        if catch_unwind(AssertUnwindSafe(|| writer::run(&for_writer, end))).is_err() {
            stop(&for_writer, "writer", "it panicked", EngineVerdict::Sound);
        }
    };
    match Builder::new().name("store-writer".to_owned()).spawn(run) {
        Ok(writer) => Ok(Embedded { shared, threads: Mutex::new(Some((writer, applier))) }),
        Err(error) => {
            stop_applier(&shared, applier);
            Err(no_thread(error))
        }
    }
}

fn stop_applier(shared: &Shared, applier: JoinHandle<()>) {
    shared.overlay.close();
    // Its panics are caught in the thread.
    drop(applier.join());
}

impl Embedded {
    /// Carry out what was asked for, bring all of it into the engine, and stop. Later commits are refused, reads go on.
    pub fn close(&self) {
        self.shared.queue.close();
        if let Some((writer, applier)) = self.threads.lock().take() {
            drop(writer.join());
            stop_applier(&self.shared, applier);
        }
    }

    /// Wait until the engine has all that was committed so far. Nothing needs this for correctness.
    pub fn settle(&self) {
        self.shared.overlay.settle();
    }

    /// What the store says about itself.
    pub fn status(&self) -> Status {
        let (visible, applied) = {
            let layers = self.shared.overlay.read();
            (layers.visible, layers.applied)
        };
        let (segments, journal_bytes) = self.shared.journal.as_ref().map_or((0, 0), |journal| journal.size());
        Status {
            engine: self.shared.engine.name(),
            head: Position(visible.position),
            applied: Position(applied.position),
            units: visible.sequence,
            applied_units: applied.sequence,
            journal_bytes,
            segments,
            overlay_bytes: self.shared.overlay.bytes(),
        }
    }

    fn answer<T>(&self, command: Command, reply: &Receiver<Result<T, CommitError>>) -> Result<T, CommitError> {
        self.shared.queue.send(command)?;
        // The writer answers everything that it took; it ends only after a close, when nothing is left.
        let answer = reply.recv().unwrap_or(Err(CommitError::Closed));
        if let Err(CommitError::Read(error)) = &answer {
            self.shared.note_damage(error);
        }
        answer
    }

    fn range_below_reserved(range: &KeyRange) -> KeyRange {
        let end = Key::least_of(keys::RESERVED);
        KeyRange { from: range.from.clone(), to: range.to.clone().min(end) }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for Embedded {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        self.shared.read(|| read::get(&self.shared.overlay, &*self.shared.engine, keys))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        let range = Embedded::range_below_reserved(range);
        self.shared.read(|| read::scan(&self.shared.overlay, &*self.shared.engine, None, &range, limit))
    }

    fn read_set(&self) -> ReadSet {
        ReadSet::of_nothing(self.shared.overlay.read().visible.sequence)
    }

    fn is_unchanged(&self, read: &ReadSet) -> bool {
        self.shared.overlay.stripes.are_unchanged(read)
    }

    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        commit::commit_all(self, units)
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        let (head, newest) = {
            let tail = self.shared.tail.read();
            if let Some(changes) = tail.changes(workspace, after, limits) {
                return Ok(changes);
            }
            (tail.head(), tail.head_of(workspace))
        };
        let Some(journal) = &self.shared.journal else {
            return Ok(Changes { records: Vec::new(), up_to: after });
        };
        let mut changes = journal.changes(workspace, after, newest, limits)?;
        if changes.up_to >= newest {
            // Up to the head, as it was when the newest record was asked for, the rest of the log is other workspaces'.
            changes.up_to = changes.up_to.max(head);
        }
        Ok(changes)
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.shared.tail.read().head_of(workspace)
    }

    fn head(&self) -> Position {
        *self.shared.head.lock()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        let mut head = self.shared.head.lock();
        self.shared.head_moved.wait_while_for(&mut head, |head| *head <= after, timeout);
        *head
    }

    fn disk(&self) -> Result<Option<DiskRoom>, ReadError> {
        room::of_disk(&self.shared)
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        let limit = limit.min(writer::MAX_CLAIMED_JOBS);
        // Most questions find nothing due, and need no unit.
        let due = writer::due_range(queue, now);
        let page =
            self.shared.read(|| read::scan(&self.shared.overlay, &*self.shared.engine, None, &due, limit.min(1)))?;
        if page.rows.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = sync_channel(1);
        self.answer(Command::Claim { queue, now, limit, lease_ms, reply }, &answer)
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        let mut range = Key::jobs_claimed(queue).range();
        let mut jobs = Vec::new();
        while jobs.len() < limit {
            let wanted = limit - jobs.len();
            let page =
                self.shared.read(|| read::scan(&self.shared.overlay, &*self.shared.engine, None, &range, wanted))?;
            let ids: Vec<crate::JobId> = page.rows.iter().filter_map(|(key, _)| key.as_job_claimed(queue)).collect();
            let keys: Vec<Key> = ids.iter().map(|id| Key::job_body(queue, id)).collect();
            let bodies = self.shared.read(|| read::get(&self.shared.overlay, &*self.shared.engine, &keys))?;
            for (id, body) in ids.into_iter().zip(bodies) {
                match body.map(|body| rows::read_job_body(&body)) {
                    Some(Ok((due_at, body))) => jobs.push(Job { queue, id, due_at, body }),
                    // One job that cannot be read costs the others nothing.
                    Some(Err(error)) => self.shared.note_damage(&error),
                    // It was acknowledged between the two looks.
                    None => {}
                }
            }
            match page.next {
                Some(next) => range.from = next,
                None => break,
            }
        }
        Ok(jobs)
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        let all = Key::jobs_due(queue).range();
        let page = self.shared.read(|| read::scan(&self.shared.overlay, &*self.shared.engine, None, &all, 1))?;
        Ok(page.rows.first().and_then(|(key, _)| key.as_job_due(queue)).map(|(due_at, _)| due_at))
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        let bytes = name.len() + owner.len();
        if bytes > prepare::MAX_KEY_BYTES / 2 {
            return Err(CommitError::TooLarge { bytes, limit: prepare::MAX_KEY_BYTES / 2 });
        }
        let (reply, answer) = sync_channel(1);
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.answer(Command::Lease { name, owner, now, ttl_ms, reply }, &answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    /// Its queue stood still: every claim began with it, and failed.
    #[test]
    fn a_job_that_cannot_be_read_costs_the_others_nothing() {
        let store = memory();
        let queue = QueueId { workspace: WorkspaceId(1), queue: 1 };
        let enqueue = |id: u8| {
            let (due_at, body) = (Timestamp(id.into()), Vec::new());
            Operation::Enqueue { queue, id: [id; 16], due_at, body }
        };
        let damage = |id: u8| Operation::Put(Key::job_body(queue, &[id; 16]), vec![9]);
        let commit = |operations: Vec<Operation>| store.commit(Unit { operations, ..Unit::default() }).unwrap();
        let ids = |jobs: Vec<Job>| -> Vec<u8> { jobs.iter().map(|job| job.id[0]).collect() };
        commit((1..=4).map(enqueue).collect());
        commit(vec![damage(1)]);
        assert_eq!(ids(store.claim(queue, Timestamp(9), 1, 100).unwrap()), [0; 0]);
        assert_eq!(ids(store.claim(queue, Timestamp(9), 3, 100).unwrap()), [2, 3, 4]);
        commit(vec![damage(2)]);
        assert_eq!(ids(store.claimed(queue, 1).unwrap()), [3]);
        assert_eq!(ids(store.claimed(queue, 9).unwrap()), [3, 4]);
    }
}
