//! A store that shows a test each unit, refuses those that the test wants refused, as too large or for a while, does not read
//! what it shall not, counts the rows that it hands out, notes what is asked for, and lets the test do something in the middle
//! of a look.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::*;
use parking_lot::Mutex;

/// What is to be refused.
type Refusal = Box<dyn FnMut(&Unit) -> bool + Send>;

/// What is to be done once before the first scan that begins at a key.
type Interruption = (Key, Box<dyn FnOnce() + Send>);

/// What is to be done once before the first look at just these rows.
type LookInterruption = (Vec<Key>, Box<dyn FnOnce() + Send>);

/// Which rows.
type Row = Box<dyn Fn(&Key) -> bool + Send>;

pub(in crate::tests) struct Watched {
    pub(in crate::tests) inner: Arc<dyn Store>,
    pub(in crate::tests) refuse: Mutex<Option<Refusal>>,
    /// What is larger than a unit may be.
    pub(in crate::tests) too_large: Mutex<Option<Refusal>>,
    pub(in crate::tests) refused: Mutex<Vec<Unit>>,
    pub(in crate::tests) committed: Mutex<Vec<Unit>>,
    /// Rows that cannot be read now, and those that were asked for.
    pub(in crate::tests) unreadable: Mutex<Option<Row>>,
    pub(in crate::tests) unread: Mutex<Vec<Key>>,
    pub(in crate::tests) interruption: Mutex<Option<Interruption>>,
    pub(in crate::tests) look_interruption: Mutex<Option<LookInterruption>>,
    /// How many rows were handed out, or asked for and not found.
    pub(in crate::tests) rows_read: AtomicUsize,
    /// What was asked for, where the test wants to know.
    pub(in crate::tests) asked: Mutex<Option<Vec<Asked>>>,
}

/// What a reader asks for.
#[derive(Debug, Clone)]
pub(in crate::tests) enum Asked {
    Row(Key),
    Rows(KeyRange),
}

impl Watched {
    pub(in crate::tests) fn new() -> Arc<Watched> {
        Arc::new(Watched {
            inner: Arc::new(memory()),
            refuse: Mutex::new(None),
            too_large: Mutex::new(None),
            refused: Mutex::default(),
            committed: Mutex::default(),
            unreadable: Mutex::new(None),
            unread: Mutex::default(),
            interruption: Mutex::default(),
            look_interruption: Mutex::default(),
            rows_read: AtomicUsize::new(0),
            asked: Mutex::default(),
        })
    }

    fn judge(&self, unit: Unit) -> Result<Committed, CommitError> {
        if self.refuse.lock().as_mut().is_some_and(|refuse| refuse(&unit)) {
            self.refused.lock().push(unit);
            let (free_bytes, reserve_bytes) = (0, 1);
            return Err(CommitError::DiskFull { path: "test".into(), free_bytes, reserve_bytes });
        }
        if self.too_large.lock().as_mut().is_some_and(|is_too_large| is_too_large(&unit)) {
            return Err(CommitError::TooLarge { bytes: MAX_UNIT_BYTES + 1, limit: MAX_UNIT_BYTES });
        }
        self.committed.lock().push(unit.clone());
        self.inner.commit(unit)
    }
}

impl Store for Watched {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        if let Some(unreadable) = self.unreadable.lock().as_ref()
            && let Some(key) = keys.iter().find(|key| unreadable(key))
        {
            self.unread.lock().push(key.clone());
            let source = Arc::new(std::io::Error::other("on purpose"));
            return Err(ReadError::Io { what: "a row".into(), source });
        }
        let interruption = self.look_interruption.lock().take_if(|(of, _)| of == keys);
        if let Some((_, interrupt)) = interruption {
            interrupt();
        }
        self.rows_read.fetch_add(keys.len(), Ordering::SeqCst);
        if let Some(asked) = self.asked.lock().as_mut() {
            asked.extend(keys.iter().cloned().map(Asked::Row));
        }
        self.inner.get(keys)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        let interruption = self.interruption.lock().take_if(|(from, _)| *from == range.from);
        if let Some((_, interrupt)) = interruption {
            interrupt();
        }
        if let Some(asked) = self.asked.lock().as_mut() {
            asked.push(Asked::Rows(range.clone()));
        }
        let page = self.inner.scan(range, limit)?;
        self.rows_read.fetch_add(page.rows.len(), Ordering::SeqCst);
        Ok(page)
    }

    fn read_set(&self) -> ReadSet {
        self.inner.read_set()
    }

    fn is_unchanged(&self, read: &ReadSet) -> bool {
        self.inner.is_unchanged(read)
    }

    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        units.into_iter().map(|unit| self.judge(unit)).collect()
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        self.inner.changes(workspace, after, limits)
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.inner.head_of(workspace)
    }

    fn head(&self) -> Position {
        self.inner.head()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        self.inner.wait_for_change(after, timeout)
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        self.inner.claim(queue, now, limit, lease_ms)
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        self.inner.claimed(queue, limit)
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        self.inner.next_due(queue)
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        self.inner.lease(name, owner, now, ttl_ms)
    }
}
