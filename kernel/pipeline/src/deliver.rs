//! The last stage: the outbox out. Each channel has a sender, a task that takes what is due, passes it through the gate and
//! lets the channel's plugin say what to send; the kernel sends many requests at once and commits what came of them. What was
//! delivered comes back as an event through the front door.
//!
//! A message may be sent twice when the process dies between the other side's answer and the commit; it then carries the
//! same id, which is the receiver's key against doubles. A channel whose receiver knows no such key is not sent to again: its
//! delivery is listed as unknown, for an admin.

mod answers;
mod blocking;
mod callbacks;
mod claims;
pub(crate) mod content;
mod exchange;
pub(crate) mod fetch;
pub(crate) mod gate;
mod halving;
pub(crate) mod hosts;
mod inputs;
mod load;
mod pieces;
pub(crate) mod receipts;
mod returns;
mod sending;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kith_model::id::WorkspaceId;
use kith_model::plugin::PluginKind;
use kith_store::QueueId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::rows::outbox::outbox;
use crate::shared::KernelState;
use crate::workers::{Ending, Phase, TaskScope};
use hosts::Hosts;
use sending::Sender;

/// Calls of 0.1's blocking `send` at once, over all channels: each holds a thread for as long as the other side likes.
const MAX_BLOCKING_SENDS: usize = 4;

/// The name of the senders' tasks. A sender ends when nothing of its channel is under way.
const SENDER: &str = "sender";

/// What is under way at a stop may take this long to end.
const GRACE: Duration = Duration::from_secs(10);

/// The commits after it may take this long more.
const LAST_COMMITS: Duration = Duration::from_secs(5);

/// What all senders share.
pub(crate) struct Deliveries {
    pub hosts: Hosts,
    /// Permits for guests that send themselves and wait.
    blocking_sends: Arc<Semaphore>,
    /// Outboxes that have a sender.
    senders: Mutex<BTreeSet<QueueId>>,
}

impl Deliveries {
    pub(crate) fn new() -> Deliveries {
        Deliveries {
            hosts: Hosts::default(),
            blocking_sends: Arc::new(Semaphore::new(MAX_BLOCKING_SENDS)),
            senders: Mutex::default(),
        }
    }

    /// Whether somebody looks into that outbox.
    #[cfg(test)]
    pub(crate) fn has_sender(&self, queue: QueueId) -> bool {
        self.senders.lock().contains(&queue)
    }
}

/// See to it that every channel has a sender, and that the senders look at what was configured. A removed channel has one for
/// as long as its outbox holds something: the process may have died between the commit that removed the channel and the
/// first look at it, and what nobody sends or skips is pending for good.
pub(crate) fn start_senders(shared: &Arc<KernelState>, workspace: WorkspaceId) {
    let Some(known) = shared.workspace(workspace).filter(|known| !known.is_stopping()) else { return };
    let compiled = known.compiled.load_full();
    let setup = &compiled.setup;
    let channels = setup.installations.iter().filter(|installed| installed.kind == PluginKind::Channel);
    for installed in channels.clone() {
        let limit = installed.sending.requests_per_host.max(1);
        shared.deliveries.hosts.limit(workspace, installed.id, limit);
    }
    for installed in channels {
        start_sender(shared, outbox(workspace, installed.id));
    }
    let left_over = setup.removed_channels.iter().map(|id| outbox(workspace, *id));
    // Where that cannot be read, the sender looks again and says what is wrong.
    let holds_something = |queue: &QueueId| !matches!(shared.store.next_due(*queue), Ok(None));
    for queue in left_over.filter(holds_something) {
        start_sender(shared, queue);
    }
    shared.workers.wake_workspace(workspace);
}

/// Start an outbox's sender, if it has none.
fn start_sender(shared: &Arc<KernelState>, queue: QueueId) {
    if shared.deliveries.senders.lock().insert(queue) {
        let sender = Sender::new(Arc::clone(shared), queue);
        shared.workers.task(SENDER, queue.workspace, sending::run(sender));
    }
}

/// Wait until what was under way when the workers were told to stop has ended and its outcomes are committed. What had not left
/// is handed back.
pub(crate) fn stop(shared: &KernelState, whose: TaskScope) {
    if let Ending::TimedOut { running } = shared.workers.wait_for_tasks(SENDER, whose, GRACE + LAST_COMMITS) {
        tracing::warn!(running, "senders did not end in time; what they sent is tried again under its id");
    }
}

/// The same of one workspace, which nobody sends for afterwards. A channel of contract 0.1 sends by itself, so that its calls
/// are waited for as well, however its sender ended.
pub(crate) fn close(shared: &KernelState, workspace: WorkspaceId) {
    let whose = TaskScope::Workspace(workspace);
    stop(shared, whose);
    if let Ending::TimedOut { running } = shared.workers.wait_for_tasks(blocking::TASK, whose, GRACE + LAST_COMMITS) {
        tracing::warn!(workspace = workspace.0, running, "channels that send by themselves did not end in time");
    }
    shared.deliveries.senders.lock().retain(|queue| queue.workspace != workspace);
    shared.deliveries.hosts.forget_workspace(workspace);
    shared.workers.forget_workspace(workspace);
}
