//! Telling whether what was read has changed since, without reading it again.
//!
//! The writer notes for each stripe of keys the newest unit that changed one of them. A reader notes the newest unit that was
//! visible before it began, and the stripes of all that it asks for, rows that are not there among them. This is the check of
//! read sets that transactional memories make with striped versions.
//!
//! **Why no change is missed.** A reader takes the number of the newest visible unit first and reads then. What it reads holds
//! every unit up to that number, because rows and number are shown together under one lock. Each later unit has a greater number,
//! and the writer notes it in the stripes of its rows before it shows them, hence before whoever committed it is answered. So a
//! look at the stripes that comes after such an answer finds a greater number there. A unit that is shown between the reader's
//! number and its reading counts as a change although the reader may have seen it, and so does one that is noted and not yet
//! answered, and one of another key of the same stripe: all three cost one more reading and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    ChangeLimits, Changes, CommitError, Committed, DiskRoom, Fence, Job, Key, KeyRange, Page, QueueId, ReadError,
    Store, Unit, Value,
};

/// How many stripes there are, of eight bytes each. Of fifteen keys one shares its stripe with one of 1,000 rows that change
/// meanwhile in a ninth of all cases.
const STRIPES: u64 = 1 << 17;

/// A read set of more keys counts as changed, so that it takes no more than 4 KiB.
const MAX_KEYS: usize = 1_024;

/// For each stripe the newest unit that changed one of its keys.
#[derive(Debug)]
pub(crate) struct Stripes(Box<[AtomicU64]>);

impl Stripes {
    pub(crate) fn new() -> Stripes {
        Stripes((0..STRIPES).map(|_| AtomicU64::new(0)).collect())
    }

    /// Note that the unit changes the row, before readers see it. For the one thread that shows units to readers, in their order.
    pub(crate) fn note(&self, key: &Key, sequence: u64) {
        if let Some(stripe) = stripe_of(key) {
            let before = self.0[stripe as usize].swap(sequence, Ordering::SeqCst);
            debug_assert!(before <= sequence, "units are shown in their order");
        }
    }

    /// Whether no unit that readers could not see yet when the reading began has changed any of it.
    pub(crate) fn are_unchanged(&self, read: &ReadSet) -> bool {
        let is_old = |stripe: &u32| self.0[*stripe as usize].load(Ordering::SeqCst) <= read.after;
        read.stripes.as_ref().is_some_and(|stripes| stripes.iter().all(is_old))
    }
}

fn stripe_of(key: &Key) -> Option<u32> {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 2^17")]
    let stripe = (xxh3_64(key.noted()?) % STRIPES) as u32;
    Some(stripe)
}

/// What was read, and as of when at the earliest, for [`Store::is_unchanged`]. The one that is made by default always counts as
/// changed.
#[derive(Debug, Clone, Default)]
pub struct ReadSet {
    /// The newest unit that readers saw before anything was read.
    after: u64,
    /// Of all keys that were asked for; `None` where it cannot be told of something that was read whether it has changed.
    stripes: Option<Vec<u32>>,
}

impl ReadSet {
    /// Nothing, as of a moment at which readers saw the units up to `after`.
    pub(crate) fn of_nothing(after: u64) -> ReadSet {
        ReadSet { after, stripes: Some(Vec::new()) }
    }

    /// What it takes in memory beside itself.
    pub fn size_bytes(&self) -> usize {
        self.stripes.as_ref().map_or(0, |stripes| size_of_val(stripes.as_slice()))
    }

    fn add(&mut self, stripe: Option<u32>) {
        match (&mut self.stripes, stripe) {
            (Some(stripes), Some(stripe)) if stripes.len() < MAX_KEYS => stripes.push(stripe),
            _ => self.stripes = None,
        }
    }

    /// All keys of a range that lies within one stripe; of a wider one nobody can tell.
    fn add_range(&mut self, range: &KeyRange) {
        let within = range.from.noted().map(|part| Key::from_bytes(part.to_vec()).range());
        let is_within = within.is_some_and(|stripe| range.to <= stripe.to);
        self.add(stripe_of(&range.from).filter(|_| is_within));
    }
}

/// A store through which rows are read that are to be looked after. It notes them by itself, so that no reader can leave one
/// out; after a question other than for rows nobody can tell any more whether the answers have changed.
pub struct Reading {
    store: Arc<dyn Store>,
    read: Mutex<ReadSet>,
}

impl Reading {
    /// Begin: what is committed from here on counts as a change.
    pub fn begin(store: Arc<dyn Store>) -> Reading {
        let read = Mutex::new(store.read_set());
        Reading { store, read }
    }

    /// What was read.
    pub fn end(self) -> ReadSet {
        let mut read = self.read.into_inner();
        if let Some(stripes) = &mut read.stripes {
            stripes.sort_unstable();
            stripes.dedup();
            stripes.shrink_to_fit();
        }
        read
    }

    /// The store, for what is not noted.
    fn unnoted(&self) -> &dyn Store {
        self.read.lock().stripes = None;
        &*self.store
    }
}

impl Store for Reading {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        let mut read = self.read.lock();
        keys.iter().for_each(|key| read.add(stripe_of(key)));
        drop(read);
        self.store.get(keys)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.read.lock().add_range(range);
        self.store.scan(range, limit)
    }

    fn read_set(&self) -> ReadSet {
        self.store.read_set()
    }

    fn is_unchanged(&self, read: &ReadSet) -> bool {
        self.store.is_unchanged(read)
    }

    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        self.unnoted().commit_all(units)
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        self.unnoted().changes(workspace, after, limits)
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.unnoted().head_of(workspace)
    }

    fn head(&self) -> Position {
        self.unnoted().head()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        self.unnoted().wait_for_change(after, timeout)
    }

    fn disk(&self) -> Result<Option<DiskRoom>, ReadError> {
        self.unnoted().disk()
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        self.unnoted().claim(queue, now, limit, lease_ms)
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        self.unnoted().claimed(queue, limit)
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        self.unnoted().next_due(queue)
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        self.unnoted().lease(name, owner, now, ttl_ms)
    }
}
