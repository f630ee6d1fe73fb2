//! One channel's sender: takes what is due as long as there is room, and lets each message go its own way, so that a slow one
//! holds up no other.

use std::sync::Arc;
use std::time::Duration;

use kith_model::delivery::Message;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::sending::SendingLimits;
use kith_model::time::Timestamp;
use kith_store::{JobId, QueueId};
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::answers::AnsweredRequest;
use super::claims::{self, ClaimOutcome};
use super::gate::grounds::Grounds;
use super::load::Load;
use super::receipts::{self, End, EndedAttempt};
use super::returns::{self, Return};
use super::{GRACE, LAST_COMMITS, Phase, answers, blocking, exchange, gate, inputs};
use crate::offload;
use crate::rows::DeliveryRow;
use crate::setup::{Installed, Role, Setup};
use crate::shared::KernelState;

/// An outbox in which something is due later is looked at at least so often, because the kernel's clock may be a test's.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// After an error the same work is tried again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two claims that are likely to find busy hosts alone.
const CROWDED: Duration = Duration::from_millis(100);

/// A message that cannot be sent now for a reason that is not its own comes back after this long.
pub(super) const HELD_BACK_MS: i64 = 2_000;

/// Batches of answers of one channel that are read and committed at once.
const MAX_ANSWER_BATCHES: usize = 4;

/// Where there is room for fewer messages than this, more is waited for.
const MIN_CLAIM: usize = 32;

/// How long small batches wait for company.
pub(super) const GATHERING: Duration = Duration::from_millis(5);

/// A message that passed the gate.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub id: JobId,
    /// As it was at the claim.
    pub row: DeliveryRow,
    pub message: Message,
    /// Whom its receipts belong to.
    pub person: Identifier,
    /// Why the gate let it through.
    pub grounds: Grounds,
    /// When the attempt ends at the latest; before the claim's lease does.
    pub deadline: Instant,
}

/// A message that waits only until the channel may have another one under way.
pub(super) struct NextInTurn<'a>(&'a Sender);

impl Drop for NextInTurn<'_> {
    fn drop(&mut self) {
        self.0.load.lock().next_in_turn -= 1;
        self.0.room.notify_one();
    }
}

/// One channel's sender.
pub(super) struct Sender {
    pub shared: Arc<KernelState>,
    pub queue: QueueId,
    /// How far the workspace is on its way to a stop.
    phase: watch::Receiver<Phase>,
    /// Rings when something is put into the outbox or the channel changes.
    bell: Arc<Notify>,
    load: Mutex<Load>,
    /// Rings when the load gets smaller, for the one who claims.
    room: Notify,
    /// The same for those who are next in turn.
    turns: Notify,
    /// Bounded by the load, as is `returns`: a message is in one of them or in none.
    answers: UnboundedSender<AnsweredRequest>,
    returns: UnboundedSender<Return>,
    inbox: Mutex<Option<Inbox>>,
    pub batches: Arc<Semaphore>,
}

/// The ends that the sender's own task reads.
struct Inbox {
    answers: UnboundedReceiver<AnsweredRequest>,
    returns: UnboundedReceiver<Return>,
}

/// What the sender may do now.
pub(super) enum Standing {
    Running {
        setup: Arc<Setup>,
        installed: Box<Installed>,
    },
    /// The channel is there and does not run: its messages stay pending.
    Held,
    Removed,
}

impl Sender {
    pub(super) fn new(shared: Arc<KernelState>, queue: QueueId) -> Arc<Sender> {
        let (answers, answered) = unbounded_channel();
        let (returns, returned) = unbounded_channel();
        let bell = shared.workers.bell(queue);
        // Without its workspace it has nothing to do.
        let nothing = || watch::channel(Phase::Stopping).1;
        let phase = shared.workspace(queue.workspace).map_or_else(nothing, |known| known.phase());
        Arc::new(Sender {
            shared,
            queue,
            phase,
            bell,
            load: Mutex::default(),
            room: Notify::new(),
            turns: Notify::new(),
            answers,
            returns,
            inbox: Mutex::new(Some(Inbox { answers: answered, returns: returned })),
            batches: Arc::new(Semaphore::new(MAX_ANSWER_BATCHES)),
        })
    }

    pub(super) fn workspace(&self) -> WorkspaceId {
        self.queue.workspace
    }

    pub(super) fn channel(&self) -> InstallationId {
        InstallationId(self.queue.queue)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(super) fn standing(&self) -> Standing {
        let Some(workspace) = self.shared.workspace(self.workspace()) else { return Standing::Removed };
        let setup = Arc::clone(&workspace.compiled.load().setup);
        match gate::installed(&setup, self.channel()).cloned() {
            None => Standing::Removed,
            Some(installed) if !installed.activity.is_running() => Standing::Held,
            Some(installed) => Standing::Running { setup, installed: Box::new(installed) },
        }
    }

    /// Whether a message of the channel may leave now.
    pub(super) fn may_send(&self) -> bool {
        let Some(workspace) = self.shared.workspace(self.workspace()) else { return false };
        let setup = Arc::clone(&workspace.compiled.load().setup);
        let is_live = |installed: &Installed| installed.activity.is_running();
        !self.is_stopping() && gate::installed(&setup, self.channel()).is_some_and(is_live)
    }

    /// How much the channel may send at once, as it is configured now.
    pub(super) fn limits(&self) -> SendingLimits {
        let setup = self.shared.workspace(self.workspace()).map(|known| Arc::clone(&known.compiled.load().setup));
        let limits = setup.and_then(|setup| setup.installation(self.channel()).map(|installed| installed.sending));
        let SendingLimits { messages_at_once, requests_per_host } = limits.unwrap_or_default();
        SendingLimits { messages_at_once: messages_at_once.max(1), requests_per_host: requests_per_host.max(1) }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Whether a message is claimed and not yet committed.
    pub(super) fn has(&self, id: &JobId) -> bool {
        self.load.lock().has(id)
    }

    /// Take messages into the load; each leaves it through [`Sender::release`].
    fn take(&self, outgoing: &[Arc<Outgoing>]) {
        let mut load = self.load.lock();
        outgoing.iter().for_each(|one| load.take(Arc::clone(one)));
    }

    /// A message has a request of that size.
    pub(super) fn weigh(&self, id: &JobId, request_bytes: usize) {
        self.load.lock().weigh(id, request_bytes);
    }

    /// Whether no more may be held in memory.
    pub(super) fn is_full(&self) -> bool {
        self.load.lock().is_full()
    }

    /// What became of these messages is durable.
    pub(super) fn release(&self, ids: impl IntoIterator<Item = JobId>) {
        let mut load = self.load.lock();
        ids.into_iter().for_each(|id| load.remove(&id));
        drop(load);
        self.note_room();
    }

    /// Of these, the ones whose end is the caller's to write down.
    pub(super) fn begin_ends(&self, mut ended: Vec<EndedAttempt>) -> Vec<EndedAttempt> {
        let mut load = self.load.lock();
        ended.retain(|one| load.begin_end(&one.outgoing.id));
        ended
    }

    /// A message waits for its host: it no longer counts as under way.
    pub(super) fn join_line(&self) {
        self.load.lock().in_line += 1;
        self.note_room();
    }

    pub(super) fn leave_line(&self) {
        self.load.lock().in_line -= 1;
    }

    /// Leave the line for the host, unless as many messages are under way as the channel may have.
    pub(super) fn try_leave_line(&self) -> bool {
        let limits = self.limits();
        let mut load = self.load.lock();
        let may_leave = load.has_turn(limits);
        load.in_line -= usize::from(may_leave);
        may_leave
    }

    /// Ends when there may be room for another message. To be asked for before the look whether there is.
    pub(super) fn ask_for_turn(&self) -> Notified<'_> {
        self.turns.notified()
    }

    /// Count somebody as next in turn, for as long as what is given is kept.
    pub(super) fn note_next_in_turn(&self) -> NextInTurn<'_> {
        self.load.lock().next_in_turn += 1;
        NextInTurn(self)
    }

    /// The load has become smaller, or may be larger.
    fn note_room(&self) {
        self.turns.notify_waiters();
        self.room.notify_one();
    }

    /// How many messages are claimed and not yet committed.
    fn under_way(&self) -> usize {
        self.load.lock().under_way()
    }

    /// Whether anything of it waits to be committed.
    fn is_idle(&self) -> bool {
        let load = self.load.lock();
        load.under_way() == 0 && load.returning == 0
    }

    /// Of these, the ones that go back to the outbox: one that was cut off meanwhile has.
    pub(super) fn give_up(&self, mut returns: Vec<Return>) -> Vec<Return> {
        let mut load = self.load.lock();
        returns.retain(|one| load.begin_end(&one.id));
        returns.iter().for_each(|one| load.remove(&one.id));
        load.returning += returns.len();
        returns
    }

    /// They are back.
    pub(super) fn gave_up(&self, returns: &[Return]) {
        self.load.lock().returning -= returns.len();
        self.note_room();
    }

    /// How many more messages may be claimed.
    fn room(&self) -> usize {
        let limits = self.limits();
        self.load.lock().room(limits)
    }

    /// The same, a moment later where it is little: messages end in batches, and a claim, which is a commit of its own, for
    /// each of them would cost more than they do.
    async fn worthwhile_room(&self) -> usize {
        let room = self.room();
        if (1..MIN_CLAIM).contains(&room) && self.under_way() > 0 {
            let _ = timeout(GATHERING, self.room.notified()).await;
        }
        self.room()
    }

    /// Hand over what a request brought.
    pub(super) fn answer(&self, answered: AnsweredRequest) {
        // The other end is dropped only after the last message has left the load.
        let _ = self.answers.send(answered);
    }

    /// Put a message back into the outbox without counting its attempt.
    pub(super) fn hand_back(&self, id: JobId, due_at: Timestamp) {
        let _ = self.returns.send(Return { id, due_at });
    }

    /// An attempt has ended without a request.
    pub(super) fn end(self: &Arc<Self>, ended: Vec<EndedAttempt>) {
        let sender = Arc::clone(self);
        self.shared.workers.task("outcomes", self.workspace(), async move { receipts::commit(&sender, ended).await });
    }

    /// Whether the reactor has taken over a setup without the channel, so that it makes no more messages for it.
    pub(super) fn is_removal_in_force(&self) -> bool {
        let Some(workspace) = self.shared.workspace(self.workspace()) else { return true };
        let generation = workspace.compiled.load().generation;
        workspace.projection.read().generation >= generation
    }

    /// Sleep for a while, or until something is put into the outbox, or a stop.
    pub(super) async fn pause(&self) {
        self.sleep(Some(Instant::now() + PAUSE)).await;
    }

    /// Sleep until `until`, or until the bell or a stop.
    async fn sleep(&self, until: Option<Instant>) {
        let mut phase = self.phase();
        let woken = async {
            tokio::select! {
                () = self.bell.notified() => {}
                () = self.room.notified() => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
            }
        };
        match until {
            // Whether it was the time or the bell, the caller looks again.
            Some(until) => drop(timeout_at(until, woken).await),
            None => woken.await,
        }
    }
}

/// Send for one channel until the kernel stops or the channel is removed.
pub(super) async fn run(sender: Arc<Sender>) {
    let Some(inbox) = sender.inbox.lock().take() else { return };
    // The first to end is the claiming, once nothing is under way any more.
    tokio::select! {
        () = claim_while_running(&sender) => {}
        () = answers::collect(&sender, inbox.answers) => {}
        () = returns::collect(&sender, inbox.returns) => {}
    }
}

async fn claim_while_running(sender: &Arc<Sender>) {
    claims::take_back(sender).await;
    let mut last = Progress::Made;
    while !sender.is_stopping() {
        match sender.standing() {
            Standing::Running { .. } if last == Progress::Crowded => {
                wait_for_line(sender).await;
                // What is in force may be something else now.
                last = Progress::Made;
            }
            Standing::Running { setup, installed } => {
                // The limit may be another one now.
                sender.turns.notify_waiters();
                last = claim(sender, setup, *installed).await;
            }
            Standing::Held => sender.sleep(None).await,
            Standing::Removed => {
                wind_down(sender).await;
                claims::drain(sender).await;
                if !sender.is_stopping() {
                    leave(sender).await;
                }
                return;
            }
        }
    }
    wind_down(sender).await;
}

/// The channel is removed and its outbox is empty: nobody needs a sender there any more.
async fn leave(sender: &Sender) {
    let Sender { shared, queue, .. } = sender;
    shared.deliveries.hosts.forget_channel(sender.workspace(), sender.channel());
    shared.workers.forget_bell(*queue);
    shared.deliveries.senders.lock().remove(queue);
    // A dead letter may have been replayed since the last look into the outbox, by somebody who still found a sender there.
    let (store, queue) = (Arc::clone(&shared.store), *queue);
    // Where the drain has left a job, nobody can read it.
    let is_new = |due_at: Timestamp| due_at < claims::END_OF_TIME;
    if offload::run(move || store.next_due(queue)).await.is_ok_and(|due_at| due_at.is_some_and(is_new)) {
        super::start_sender(shared, queue);
    }
}

/// Wait for a while until the lines of busy hosts are shorter: what is claimed next is likely for the same hosts, and would
/// only be sent back. But behind it there may be messages for others.
async fn wait_for_line(sender: &Sender) {
    let until = Instant::now() + CROWDED;
    let is_crowded = || sender.shared.deliveries.hosts.is_crowded(sender.workspace(), sender.channel());
    while is_crowded() && Instant::now() < until && !sender.is_stopping() {
        sender.sleep(Some(until)).await;
    }
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something left or will soon, or there was nothing to do.
    Made,
    /// All that was claimed is for hosts that are busy or left alone.
    Crowded,
}

/// Claim as much as there is room for, or sleep until there is room or something due.
async fn claim(sender: &Arc<Sender>, setup: Arc<Setup>, installed: Installed) -> Progress {
    if !inputs::are_complete(&sender.shared, sender.workspace(), &installed) {
        // Claimed messages would be put off one by one, and looked at again and again.
        sender.sleep(Some(Instant::now() + PAUSE)).await;
        return Progress::Made;
    }
    let room = match &installed.role {
        Role::Channel(_) => sender.room().min(blocking::room(sender.under_way())),
        _ => sender.worthwhile_room().await,
    };
    if room == 0 {
        sender.sleep(None).await;
        return Progress::Made;
    }
    let role = installed.role.clone();
    let idempotence = installed.idempotence;
    let claiming = Arc::clone(sender);
    let claimed = offload::run(move || claims::claim(&claiming, &setup, &installed, room)).await;
    match claimed {
        Ok(ClaimOutcome::Due { passed }) => {
            sender.take(&passed);
            match role {
                Role::PureChannel(channel) => exchange::begin(sender, &channel, idempotence, passed).await,
                Role::Channel(channel) => {
                    blocking::begin(sender, &channel, idempotence, passed);
                    Progress::Made
                }
                Role::Connector(_) | Role::TagModel(_) | Role::Scorer(_) => {
                    // Its kind says that it is a channel and its role says otherwise: nothing can be sent.
                    passed.iter().for_each(|one| sender.hand_back(one.id, sender.now().plus_ms(HELD_BACK_MS)));
                    Progress::Crowded
                }
            }
        }
        Ok(ClaimOutcome::Nothing { next_due }) => {
            let until = next_due.map(|due_at| {
                let wait_ms = due_at.0.saturating_sub(sender.now().0).max(1);
                Instant::now() + Duration::from_millis(wait_ms.unsigned_abs()).min(MAX_SLEEP)
            });
            sender.sleep(until).await;
            Progress::Made
        }
        Err(error) => {
            tracing::error!(workspace = sender.workspace().0, channel = sender.channel().0, %error, "an outbox cannot be worked");
            sender.sleep(Some(Instant::now() + PAUSE)).await;
            Progress::Made
        }
    }
}

/// Wait until nothing is under way any more; what does not end in time is cut off.
async fn wind_down(sender: &Arc<Sender>) {
    let deadline = Instant::now() + GRACE;
    while !sender.is_idle() {
        if timeout_at(deadline, sender.room.notified()).await.is_err() {
            break;
        }
    }
    // What is not written down in time is as it is after a crash: the next start takes it up again.
    let _ = timeout(LAST_COMMITS, cut_off(sender)).await;
}

/// End what is under way, but for messages whose outcome is known and being committed.
pub(super) async fn cut_off(sender: &Arc<Sender>) {
    let rest = sender.load.lock().begin_all_ends();
    if !rest.is_empty() {
        tracing::warn!(channel = sender.channel().0, messages = rest.len(), "messages under way were cut off");
    }
    let at = sender.now();
    let ended = rest.into_iter().map(|outgoing| EndedAttempt { outgoing, end: End::CutOff, at }).collect();
    receipts::write_down(sender, ended).await;
    // Outcomes that were being committed have a moment to get there.
    while !sender.is_idle() {
        sender.room.notified().await;
    }
}

#[cfg(test)]
mod tests;
