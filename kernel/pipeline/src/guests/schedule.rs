//! Which call is next: in turns of workspaces, and then of a workspace's installations. Pure but for what a chosen call does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use kith_model::budget::{Exhausted, table};
use kith_model::id::{InstallationId, WorkspaceId};

use super::memory::Memory;
use super::{Caller, GuestClass};

/// How long whoever is turned away should wait: room comes when others end, which nobody can foresee.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A call that waits.
pub(super) struct Job {
    /// Names it for whoever gives up waiting for it.
    pub number: u64,
    pub caller: Caller,
    pub work: Box<dyn FnOnce() + Send>,
}

/// The calls of one installation.
#[derive(Default)]
struct Calls {
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    /// Calls that waited for a peer and want to compute on.
    returning: VecDeque<SyncSender<()>>,
    computing: usize,
    /// Those that compute, wait for a peer, or want to compute on.
    under_way: usize,
}

impl Calls {
    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.returning.is_empty()
    }
}

/// The calls of one workspace.
#[derive(Default)]
struct Tenant {
    installations: HashMap<InstallationId, Calls>,
    /// Installations that have work, the next one first; each once.
    turns: VecDeque<InstallationId>,
    under_way: usize,
}

/// How much of one class may be under way at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassLimits {
    pub class: GuestClass,
    /// Calls that compute.
    pub slots: usize,
    /// Calls under way; each holds a thread.
    pub threads: usize,
    /// Calls of one workspace under way.
    pub of_workspace: usize,
}

impl ClassLimits {
    /// One fewer than there are slots, so that there is always one that the installation cannot hold.
    fn computing(&self) -> usize {
        self.slots - 1
    }

    fn of_installation() -> usize {
        usize::try_from(table::GUEST_CALLS.default).unwrap_or(usize::MAX)
    }

    /// Whether a workspace may have one more under way. Where calls wait for peers, a workspace gets no more threads than are
    /// left free, so that no number of mute peers leaves none to the others.
    fn has_thread(&self, own: usize, all: usize) -> bool {
        let is_fair = self.threads <= self.slots || own < self.threads.saturating_sub(all);
        own < self.of_workspace && is_fair
    }
}

/// The calls of one class.
pub(super) struct Side {
    tenants: BTreeMap<WorkspaceId, Tenant>,
    /// Workspaces that have work, the next one first; each once.
    turns: VecDeque<WorkspaceId>,
    waiting_bytes: usize,
    computing: usize,
    under_way: usize,
    /// Chosen calls for which a thread is on its way.
    pub ready: VecDeque<Job>,
    /// Threads that wait for a call.
    pub idle: usize,
    most: ClassLimits,
}

/// What happens next.
pub(super) enum Turn {
    Begin(Job),
    /// A call computes on.
    Resume(SyncSender<()>),
}

impl Side {
    pub(super) fn new(most: ClassLimits) -> Side {
        let (tenants, turns, ready) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Side { tenants, turns, waiting_bytes: 0, computing: 0, under_way: 0, ready, idle: 0, most }
    }

    /// Let a call wait for its turn.
    pub(super) fn admit(&mut self, job: Job) -> Result<(), Exhausted> {
        let (caller, bytes) = (job.caller, job.caller.bytes);
        let refused =
            |budget: &'static kith_model::budget::Budget| Err(budget.exhausted(budget.default, Some(RETRY_AFTER)));
        let fits = |waiting: usize, budget: &kith_model::budget::Budget| {
            waiting == 0 || (waiting + bytes) as u64 <= budget.default
        };
        if !fits(self.waiting_bytes, &table::HOST_GUEST_INPUT_WAITING) {
            return refused(&table::HOST_GUEST_INPUT_WAITING);
        }
        let calls =
            self.tenants.get(&caller.workspace).and_then(|tenant| tenant.installations.get(&caller.installation));
        let (waiting, waiting_bytes) = calls.map_or((0, 0), |calls| (calls.waiting.len(), calls.waiting_bytes));
        if waiting as u64 >= table::GUEST_CALLS_WAITING.default {
            return refused(&table::GUEST_CALLS_WAITING);
        }
        if !fits(waiting_bytes, &table::GUEST_INPUT_WAITING) {
            return refused(&table::GUEST_INPUT_WAITING);
        }
        self.waiting_bytes += bytes;
        self.enqueue(caller, |calls| {
            calls.waiting_bytes += bytes;
            calls.waiting.push_back(job);
        });
        Ok(())
    }

    /// Give an installation work, and a place in the turns.
    fn enqueue(&mut self, caller: Caller, put: impl FnOnce(&mut Calls)) {
        let tenant = self.tenants.entry(caller.workspace).or_default();
        let calls = tenant.installations.entry(caller.installation).or_default();
        let had_work = calls.has_work();
        put(calls);
        if !had_work {
            if tenant.turns.is_empty() {
                self.turns.push_back(caller.workspace);
            }
            tenant.turns.push_back(caller.installation);
        }
    }

    /// What is next, if anything can begin or go on.
    pub(super) fn next(&mut self, memory: &mut Memory) -> Option<Turn> {
        for _ in 0..self.turns.len() {
            if self.computing >= self.most.slots {
                return None;
            }
            let workspace = self.turns.pop_front()?;
            let Some(tenant) = self.tenants.get_mut(&workspace) else { continue };
            let has_thread = self.idle > self.ready.len() && self.most.has_thread(tenant.under_way, self.under_way);
            let turn = tenant.next(&self.most, has_thread, memory);
            if !tenant.turns.is_empty() {
                self.turns.push_back(workspace);
            }
            if let Some(turn) = turn {
                self.computing += 1;
                if let Turn::Begin(job) = &turn {
                    self.under_way += 1;
                    self.waiting_bytes -= job.caller.bytes;
                }
                return Some(turn);
            }
        }
        None
    }

    /// A call waits for a peer, and computes no more for as long.
    pub(super) fn leave(&mut self, caller: Caller) {
        self.computing -= 1;
        if let Some(calls) = self.calls(caller) {
            calls.computing -= 1;
        }
    }

    /// Its peer has answered: it wants to compute on, and is told when it may.
    pub(super) fn come_back(&mut self, caller: Caller, told: SyncSender<()>) {
        self.enqueue(caller, |calls| calls.returning.push_back(told));
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, caller: Caller) {
        self.computing -= 1;
        self.under_way -= 1;
        if let Some(calls) = self.calls(caller) {
            calls.computing -= 1;
            calls.under_way -= 1;
        }
        if let Some(tenant) = self.tenants.get_mut(&caller.workspace) {
            tenant.under_way -= 1;
        }
        self.tidy(caller);
    }

    /// Take a call out that still waits; the budget for which it waited.
    pub(super) fn withdraw(&mut self, caller: Caller, number: u64, memory: &Memory) -> Option<Exhausted> {
        let tenant = self.tenants.get_mut(&caller.workspace)?;
        let calls = tenant.installations.get_mut(&caller.installation)?;
        let place = calls.waiting.iter().position(|job| job.number == number)?;
        calls.waiting.remove(place);
        calls.waiting_bytes -= caller.bytes;
        self.waiting_bytes -= caller.bytes;
        let (own, is_full) = (calls.under_way, calls.under_way >= ClassLimits::of_installation());
        if !calls.has_work() {
            tenant.turns.retain(|installation| *installation != caller.installation);
            if tenant.turns.is_empty() {
                self.turns.retain(|workspace| *workspace != caller.workspace);
            }
        }
        debug_assert!(own <= ClassLimits::of_installation());
        self.tidy(caller);
        Some(if is_full {
            table::GUEST_CALLS.exhausted(table::GUEST_CALLS.default, Some(RETRY_AFTER))
        } else if memory.has_room(caller.workspace, caller.class, caller.memory_bytes) {
            table::GUEST_QUEUE_TIME.exhausted(table::GUEST_QUEUE_TIME.default, Some(RETRY_AFTER))
        } else {
            table::HOST_GUEST_MEMORY.exhausted(memory.limit(), Some(RETRY_AFTER))
        })
    }

    /// Take out what waits to begin of a workspace.
    pub(super) fn forget(&mut self, workspace: WorkspaceId) -> Vec<Job> {
        let Some(tenant) = self.tenants.get_mut(&workspace) else { return Vec::new() };
        let mut dropped = Vec::new();
        for calls in tenant.installations.values_mut() {
            self.waiting_bytes -= std::mem::take(&mut calls.waiting_bytes);
            dropped.extend(calls.waiting.drain(..));
        }
        let Tenant { installations, turns, .. } = tenant;
        turns.retain(|installation| installations.get(installation).is_some_and(Calls::has_work));
        installations.retain(|_, calls| calls.under_way > 0 || calls.has_work());
        if turns.is_empty() {
            self.turns.retain(|of| *of != workspace);
        }
        if installations.is_empty() {
            self.tenants.remove(&workspace);
        }
        dropped
    }

    /// Take out what waits to begin. What is under way, or has a thread on its way, ends as ever.
    pub(super) fn drop_waiting(&mut self) -> Vec<Job> {
        let mut dropped = Vec::new();
        self.turns.clear();
        self.waiting_bytes = 0;
        for (workspace, tenant) in &mut self.tenants {
            tenant.turns.clear();
            for (installation, calls) in &mut tenant.installations {
                dropped.extend(calls.waiting.drain(..));
                calls.waiting_bytes = 0;
                if calls.has_work() {
                    tenant.turns.push_back(*installation);
                }
            }
            if !tenant.turns.is_empty() {
                self.turns.push_back(*workspace);
            }
        }
        dropped
    }

    fn calls(&mut self, caller: Caller) -> Option<&mut Calls> {
        self.tenants.get_mut(&caller.workspace)?.installations.get_mut(&caller.installation)
    }

    /// Forget an installation and a workspace of which there is nothing.
    fn tidy(&mut self, caller: Caller) {
        let Some(tenant) = self.tenants.get_mut(&caller.workspace) else { return };
        if tenant.installations.get(&caller.installation).is_some_and(|calls| calls.under_way == 0 && !calls.has_work())
        {
            tenant.installations.remove(&caller.installation);
        }
        if tenant.installations.is_empty() {
            self.tenants.remove(&caller.workspace);
        }
    }
}

impl Tenant {
    fn next(&mut self, most: &ClassLimits, has_thread: bool, memory: &mut Memory) -> Option<Turn> {
        for _ in 0..self.turns.len() {
            let installation = self.turns.pop_front()?;
            let Some(calls) = self.installations.get_mut(&installation) else { continue };
            let turn = calls.next(most, has_thread, memory);
            if let Some(Turn::Begin(_)) = &turn {
                self.under_way += 1;
            }
            if calls.has_work() {
                self.turns.push_back(installation);
            }
            if turn.is_some() {
                return turn;
            }
        }
        None
    }
}

impl Calls {
    fn next(&mut self, most: &ClassLimits, has_thread: bool, memory: &mut Memory) -> Option<Turn> {
        if self.computing >= most.computing() {
            return None;
        }
        // What is under way holds memory, so that it goes first.
        if let Some(told) = self.returning.pop_front() {
            self.computing += 1;
            return Some(Turn::Resume(told));
        }
        let caller = self.waiting.front()?.caller;
        if !has_thread
            || self.under_way >= ClassLimits::of_installation()
            || !memory.take(caller.workspace, most.class, caller.memory_bytes)
        {
            return None;
        }
        let job = self.waiting.pop_front()?;
        self.waiting_bytes -= caller.bytes;
        self.computing += 1;
        self.under_way += 1;
        Some(Turn::Begin(job))
    }
}
