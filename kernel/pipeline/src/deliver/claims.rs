//! From the outbox to messages that may leave: claim, read, pass through the gate, fill in. Blocks on the store.

use std::sync::Arc;

use kith_model::delivery::{DeliveryInput, DeliveryState, Message};
use kith_model::time::Timestamp;
use kith_store::{CommitError, Job, Key, Operation, ReadError, Unit, row};
use tokio::time::Instant;

use super::gate::grounds::{Grounds, person_on_grounds};
use super::gate::{self, ProfileLookup, Verdict};
use super::inputs::{self, MessageInputs};
use super::pieces::Pieces;
use super::receipts::{advance, operations_of};
use super::sending::{HELD_BACK_MS, Outgoing, Sender, Standing};
use super::{content, exchange};
use crate::offload;
use crate::rows::outbox::dead_key;
use crate::rows::{Aside, ComputationSubject, DeliveryRow, DeliveryTotals};
use crate::setup::{Installed, Setup};

/// A claimed message that this process loses comes back after this long: longer than an attempt may take.
pub(super) const LEASE_MS: i64 = 120_000;

/// Messages that are claimed at once: their rows are read together.
const MAX_CLAIMED: usize = 512;

/// Later than anything is due, and not past the end of the store's order.
pub(super) const END_OF_TIME: Timestamp = Timestamp(i64::MAX / 2);

/// Messages of a removed channel that are taken out of its outbox at once.
const MAX_DRAINED: usize = 256;

/// What a look at the outbox found.
pub(super) enum ClaimOutcome {
    /// These may leave; others that were due may not have passed.
    Due {
        passed: Vec<Arc<Outgoing>>,
    },
    Nothing {
        next_due: Option<Timestamp>,
    },
}

/// Why an outbox was not worked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Claim up to `limit` messages and let through what may leave.
pub(super) fn claim(
    sender: &Sender,
    setup: &Arc<Setup>,
    installed: &Installed,
    limit: usize,
) -> Result<ClaimOutcome, ClaimError> {
    let store = sender.shared.store.as_ref();
    let now = sender.now();
    let jobs = match store.next_due(sender.queue)? {
        Some(due_at) if due_at <= now => store.claim(sender.queue, now, limit.min(MAX_CLAIMED), LEASE_MS)?,
        _ => Vec::new(),
    };
    if jobs.is_empty() {
        return Ok(ClaimOutcome::Nothing { next_due: store.next_due(sender.queue)? });
    }
    let mut pieces = Pieces::new(sender);
    // The kernel's clock may have jumped past the end of a lease, or an attempt's outcome be durable and this sender not told
    // yet. Such a message is not to be sent beside itself; it is looked at again when it has ended.
    let (under_way, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| sender.has(&job.id));
    for job in under_way {
        pieces.add(vec![put_off(&job, now.plus_ms(HELD_BACK_MS))], DeliveryTotals::default())?;
    }
    let deadline = Instant::now() + exchange::MAX_ATTEMPT;
    let deliveries = read_deliveries(sender, jobs, now, &mut pieces)?;
    let (store, workspace) = (&sender.shared.store, sender.workspace());
    let people = deliveries.iter().map(|(_, row)| person_on_grounds(store, workspace, setup, row.profile));
    let people = people.collect::<Result<Vec<(ProfileLookup, Grounds)>, ReadError>>()?;
    let mut passed = Vec::new();
    for ((job, row), person) in deliveries.into_iter().zip(people) {
        match look(sender, &Terms { setup, installed, deadline, now }, &job, row, person) {
            Look::Leaves(outgoing) => passed.push(Arc::from(outgoing)),
            Look::Stays(operations) => pieces.add(operations, DeliveryTotals::default())?,
            Look::Ends(row, input) => end(&mut pieces, &job, *row, input, now)?,
        }
    }
    pieces.finish()?;
    Ok(ClaimOutcome::Due { passed })
}

/// The rows of claimed messages. One that is missing or cannot be read is taken off the queue, the latter with a dead letter.
fn read_deliveries(
    sender: &Sender,
    jobs: Vec<Job>,
    now: Timestamp,
    pieces: &mut Pieces<'_>,
) -> Result<Vec<(Job, DeliveryRow)>, ClaimError> {
    let keys: Vec<Key> = jobs.iter().map(|job| Key::delivery(sender.workspace(), &job.id)).collect();
    let values = sender.shared.store.get(&keys)?;
    let mut deliveries = Vec::with_capacity(jobs.len());
    for (job, value) in jobs.into_iter().zip(values) {
        match value.map(|value| row::decode::<DeliveryRow>(&value)) {
            Some(Ok(row)) => deliveries.push((job, row)),
            None => pieces.add(vec![take_off(&job)], DeliveryTotals::default())?,
            Some(Err(error)) => {
                let id = crate::views::delivery_id(&job.id);
                tracing::error!(channel = sender.channel().0, id, %error, "a delivery cannot be read");
                let message = format!("{id}: {error}");
                let code = "unreadable-delivery".to_owned();
                let key = dead_key(sender.workspace(), sender.channel(), now, &job.id);
                let about = ComputationSubject::default();
                let aside = Aside::Computation { at: now, since: now, code, message, profiles: 1, about };
                let letter = Operation::Put(key, row::encode(&aside));
                // Whatever its state is, it was in the outbox.
                let moved = DeliveryTotals { pending: -1, dead: 1, ..DeliveryTotals::default() };
                pieces.add(vec![letter, take_off(&job)], moved)?;
            }
        }
    }
    Ok(deliveries)
}

/// What becomes of one claimed message.
enum Look {
    Leaves(Box<Outgoing>),
    /// It does not leave; its place in the outbox, and what else is written of it.
    Stays(Vec<Operation>),
    /// Its delivery takes this step.
    Ends(Box<DeliveryRow>, DeliveryInput),
}

/// What holds for all messages of a claim.
struct Terms<'a> {
    setup: &'a Setup,
    installed: &'a Installed,
    /// When their attempts end.
    deadline: Instant,
    now: Timestamp,
}

fn look(
    sender: &Sender,
    terms: &Terms<'_>,
    job: &Job,
    row: DeliveryRow,
    (found, grounds): (ProfileLookup, Grounds),
) -> Look {
    let Terms { setup, installed, deadline, now } = *terms;
    let (recipient, person) = match gate::judge(setup, installed, &row, &found, now) {
        Verdict::Pass { recipient, person } => (recipient, person),
        Verdict::Later => return Look::Stays(vec![put_off(job, now.plus_ms(HELD_BACK_MS))]),
        Verdict::Early { due_at } => return Look::Stays(vec![put_off(job, due_at)]),
        Verdict::Settled => return Look::Stays(vec![take_off(job)]),
        Verdict::Refuse { reason } => return skip(row, reason),
        Verdict::Interrupted => return Look::Ends(Box::new(row), DeliveryInput::Interrupted),
    };
    let profile = match found {
        ProfileLookup::Person(person) => person.profile,
        ProfileLookup::Nobody | ProfileLookup::Unsteady | ProfileLookup::Unreadable(_) => row.profile,
    };
    let inputs = match inputs::fill(&sender.shared, sender.workspace(), installed, profile, now) {
        MessageInputs::Values(inputs) => inputs,
        MessageInputs::Later => return Look::Stays(vec![put_off(job, now.plus_ms(HELD_BACK_MS))]),
        MessageInputs::Pending(input) => return Look::Stays(wait_for_input(sender, job, row, &input, now)),
        MessageInputs::Never(problem) => {
            return skip(row, format!("the channel's inputs cannot be computed: {problem}"));
        }
    };
    let payload = match content::render(&row.payload, &inputs) {
        Ok(payload) => payload,
        Err(error) => return skip(row, format!("the message cannot be filled in: {error}")),
    };
    let attempts = match row.state {
        DeliveryState::Pending { attempts, .. } => attempts,
        _ => 0,
    };
    let message = Message {
        id: crate::views::delivery_id(&job.id),
        attempt: attempts + 1,
        recipient,
        profile,
        payload,
        inputs: inputs.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
        created_at: row.created_at,
    };
    Look::Leaves(Box::new(Outgoing { id: job.id, row, message, person, grounds, deadline }))
}

/// Whether a message that is about to leave may still leave as it is: it passed the gate when it was claimed, and since then its
/// audience may have been deleted or its person have refused it, and whoever did was answered that it holds. The person is read
/// again only where something that the gate decided by has changed since then. One that may not leave goes back to its outbox,
/// where its next claim decides and writes down why.
pub(super) async fn may_still_leave(sender: &Arc<Sender>, outgoing: &Arc<Outgoing>) -> bool {
    if passes_as_before(sender, outgoing) {
        return true;
    }
    let asking = (Arc::clone(sender), Arc::clone(outgoing));
    let passes = offload::run(move || passes_again(&asking.0, &asking.1)).await;
    passes.unwrap_or_else(|error| {
        tracing::error!(channel = sender.channel().0, %error, "a message waits, because its recipient cannot be read");
        false
    })
}

/// Whether the gate would decide about a message that it let through as it did then, because it would decide by the same. That the
/// channel runs is among it: it is part of the setup. Reads nothing and waits for nobody.
fn passes_as_before(sender: &Sender, outgoing: &Outgoing) -> bool {
    let Some(workspace) = sender.shared.workspace(sender.workspace()) else { return false };
    let setup = Arc::clone(&workspace.compiled.load().setup);
    gate::not_due(&outgoing.row, sender.now()).is_none() && outgoing.grounds.hold(sender.shared.store.as_ref(), &setup)
}

fn passes_again(sender: &Sender, outgoing: &Outgoing) -> Result<bool, ReadError> {
    let Standing::Running { setup, installed } = sender.standing() else { return Ok(false) };
    let by = (sender.workspace(), &setup.realm_key, &setup.identity_rules);
    let found = gate::person_behind(sender.shared.store.as_ref(), by, outgoing.row.profile)?;
    let verdict = gate::judge(&setup, &installed, &outgoing.row, &found, sender.now());
    Ok(matches!(verdict, Verdict::Pass { recipient, .. } if recipient == outgoing.message.recipient))
}

/// The longest time between two looks at a message that waits for a tag or score: each look is a row written, and a model that
/// is held may have a message of everybody waiting for it.
const MAX_WAIT_MS: i64 = 600_000;

/// A message waits for a value that its channel's input reads. A model that runs is done in a moment; one that is held may be so
/// for days, and is not asked after every two seconds for each message.
fn wait_for_input(sender: &Sender, job: &Job, mut row: DeliveryRow, input: &str, now: Timestamp) -> Vec<Operation> {
    let waited_ms = now.0.saturating_sub(row.created_at.0);
    let mut operations = vec![put_off(job, now.plus_ms((waited_ms / 2).clamp(HELD_BACK_MS, MAX_WAIT_MS)))];
    let why = format!("waits for its channel's input `{input}`, which is not computed yet");
    if let DeliveryState::Pending { last_reason, .. } = &mut row.state
        && last_reason.as_deref() != Some(why.as_str())
    {
        *last_reason = Some(why);
        operations.push(Operation::Put(Key::delivery(sender.workspace(), &job.id), row::encode(&row)));
    }
    operations
}

fn put_off(job: &Job, due_at: Timestamp) -> Operation {
    Operation::Enqueue { queue: job.queue, id: job.id, due_at, body: Vec::new() }
}

fn take_off(job: &Job) -> Operation {
    Operation::Acknowledge { queue: job.queue, id: job.id }
}

fn skip(row: DeliveryRow, reason: String) -> Look {
    metrics::counter!("kith_deliveries_skipped_total").increment(1);
    Look::Ends(Box::new(row), DeliveryInput::Refused { reason })
}

/// Write down that a delivery takes a step without having been sent.
fn end(
    pieces: &mut Pieces<'_>,
    job: &Job,
    mut row: DeliveryRow,
    input: DeliveryInput,
    now: Timestamp,
) -> Result<(), ClaimError> {
    let mut moved = DeliveryTotals::default();
    let before = row.state.clone();
    advance(&mut row, input, now);
    moved.moved(&before, &row.state);
    pieces.add(operations_of(job.queue, &job.id, &row), moved)
}

/// Messages that are given back in one commit.
const MAX_RELEASED: usize = 256;

/// Give back what a process that is no more had claimed, so that it does not wait for the end of its lease. To be done before
/// this process claims anything of the outbox; the node's lease sees to it that no other one does.
pub(super) async fn take_back(sender: &Arc<Sender>) {
    while !sender.is_stopping() {
        let taking = Arc::clone(sender);
        match offload::run(move || take_some_back(&taking)).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(channel = sender.channel().0, %error, "what was claimed before is not taken back");
                sender.pause().await;
            }
        }
    }
}

fn take_some_back(sender: &Sender) -> Result<usize, ClaimError> {
    let claimed = sender.shared.store.claimed(sender.queue, MAX_RELEASED)?;
    let number = claimed.len();
    if number > 0 {
        let operations = claimed.iter().map(|job| put_off(job, job.due_at)).collect();
        sender.shared.commit(Unit { operations, ..Unit::default() })?;
        tracing::info!(
            channel = sender.channel().0,
            messages = number,
            "messages that were under way are taken up again"
        );
    }
    Ok(number)
}

/// Empty the outbox of a removed channel, what is due later too: none of it may ever leave. Goes on until nobody can put
/// anything into it any more, or the kernel stops.
pub(super) async fn drain(sender: &Arc<Sender>) {
    while !sender.is_stopping() {
        // Before the look into the outbox, because a pass of the reactor may just be committing what it made for the channel.
        let may_be_filled = !sender.is_removal_in_force();
        let draining = Arc::clone(sender);
        match offload::run(move || drain_some(&draining)).await {
            Ok(DrainProgress::Part) => {}
            Ok(DrainProgress::Empty) if may_be_filled => sender.pause().await,
            Ok(DrainProgress::Empty) => return,
            Err(error) => {
                tracing::error!(channel = sender.channel().0, %error, "the outbox of a removed channel is not empty");
                sender.pause().await;
            }
        }
    }
}

enum DrainProgress {
    Part,
    Empty,
}

fn drain_some(sender: &Sender) -> Result<DrainProgress, ClaimError> {
    let store = sender.shared.store.as_ref();
    let jobs = store.claim(sender.queue, END_OF_TIME, MAX_DRAINED, 0)?;
    if jobs.is_empty() {
        return Ok(DrainProgress::Empty);
    }
    let now = sender.now();
    let mut pieces = Pieces::new(sender);
    for (job, row) in read_deliveries(sender, jobs, now, &mut pieces)? {
        let input = match row.state {
            DeliveryState::Pending { .. } => DeliveryInput::Refused { reason: "its channel was removed".to_owned() },
            DeliveryState::Sending { .. } => DeliveryInput::Interrupted,
            _ => {
                pieces.add(vec![take_off(&job)], DeliveryTotals::default())?;
                continue;
            }
        };
        end(&mut pieces, &job, row, input, now)?;
    }
    pieces.finish()?;
    Ok(DrainProgress::Part)
}
