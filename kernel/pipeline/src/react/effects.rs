//! What follows from a computation, as values, and the one place that turns them into operations of a commit. The
//! computation itself writes nothing and makes no key.

use kith_model::audience::{Action, Cause};
use kith_model::change::{Change, Movement};
use kith_model::delivery::DeliveryState;
use kith_model::id::{AudienceId, Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{JobId, Key, Operation, row};
use xxhash_rust::xxh3::xxh3_128;

use super::readiness::Readiness;
use crate::rows::derived::{Cursor, Entries, ModelVersion};
use crate::rows::outbox::outbox;
use crate::rows::{Aside, DeliveryRow};

/// What an action is taken for: with the audience, the person and the number of the entry it names a message for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Enter,
    Exit,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intent {
    pub id: JobId,
    pub audience: AudienceId,
    pub step: Step,
    pub profile: ProfileId,
    pub action: Action,
    pub at: Timestamp,
    /// The newest position of the log behind it.
    pub cause: Position,
}

/// What follows from a computation.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// A profile entered or left an audience.
    Moved {
        audience: AudienceId,
        profile: ProfileId,
        movement: Movement,
        cause: Cause,
        at: Timestamp,
    },
    /// What is remembered of a person's entries.
    Remembered {
        identity: SourceIdentityId,
        entries: Entries,
    },
    Send(Box<Intent>),
    /// A profile is to be looked at when time has come; `from` is the timer that this one replaces.
    Wake {
        profile: SourceIdentityId,
        from: Option<Timestamp>,
        at: Option<Timestamp>,
    },
    /// What is kept of an identity, encoded.
    Kept {
        identity: SourceIdentityId,
        row: Vec<u8>,
    },
    /// What is kept of a group of an identity's leaves, encoded; nothing where nothing is left.
    Leaves {
        identity: SourceIdentityId,
        group: u16,
        row: Option<Vec<u8>>,
    },
    /// A part of a leaf that is complete, encoded.
    Sealed {
        identity: SourceIdentityId,
        leaf: u64,
        number: u32,
        row: Vec<u8>,
    },
    /// Rows that are wanted no longer: sealed parts, what a removed model was told to have emitted, dead letters of people who have
    /// been answered for, and what was kept of these.
    Dropped {
        keys: Vec<Key>,
    },
    /// What is kept of what models emitted, encoded.
    Emitted {
        key: Key,
        row: Vec<u8>,
    },
    /// What is kept of whom a model has no answer for, encoded.
    Uncomputed {
        key: Key,
        row: Vec<u8>,
    },
    /// A model runs as it never ran before.
    Version {
        number: u32,
        version: ModelVersion,
    },
    /// A row of the people for whom a condition passes its budget, encoded; nothing where nobody is left. Without a chunk it is
    /// the head.
    Fault {
        audience: AudienceId,
        token: u64,
        chunk: Option<u32>,
        row: Option<Vec<u8>>,
    },
    /// Something that did not work; the same name replaces what it said before.
    Letter {
        key: Key,
        aside: Aside,
    },
}

/// The name of a message: the same for the same entry of the same person, whatever is restarted, replayed or rebuilt.
pub(crate) fn message_id(
    workspace: WorkspaceId,
    audience: AudienceId,
    profile: ProfileId,
    entry: u32,
    step: Step,
) -> JobId {
    let step = match step {
        Step::Enter => "enter",
        Step::Exit => "exit",
    };
    xxh3_128(format!("{} {} {profile} {entry} {step}", workspace.0, audience.0).as_bytes()).to_be_bytes()
}

/// How far a pass came.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub cursor: Cursor,
    /// Present where it changed.
    pub readiness: Option<Readiness>,
}

/// The operations that carry out the effects of a pass, and note how far it came.
pub(crate) fn operations(workspace: WorkspaceId, effects: Vec<Effect>, progress: &Progress) -> Vec<Operation> {
    let mut operations = Vec::with_capacity(effects.len() + 3);
    effects.into_iter().for_each(|effect| carry_out(workspace, effect, &mut operations));
    let cursor = row::encode(&progress.cursor);
    // The promise of the second: whoever has lost the first knows from it what has been answered for already.
    operations.push(Operation::Put(Key::progress(workspace, CURSOR), cursor.clone()));
    operations.push(Operation::Put(Key::promised(workspace), cursor));
    if let Some(readiness) = &progress.readiness {
        operations.push(Operation::Put(Key::progress(workspace, READINESS), row::encode(readiness)));
    }
    operations
}

/// The names of the rows of [`Key::progress`].
pub(crate) const CURSOR: &str = "cursor";
pub(crate) const READINESS: &str = "readiness";

fn carry_out(workspace: WorkspaceId, effect: Effect, operations: &mut Vec<Operation>) {
    match effect {
        Effect::Moved { audience, profile, movement, cause, at } => {
            let change = Change::Membership { audience, profile, movement, cause, at };
            operations.push(Operation::Append { workspace, record: row::encode(&change), row: None });
        }
        Effect::Remembered { identity, entries } => {
            operations.push(Operation::Put(Key::entries(workspace, identity), row::encode(&entries)));
        }
        Effect::Send(intent) => send(workspace, *intent, operations),
        Effect::Wake { profile, from, at } => {
            operations.extend(from.map(|from| Operation::Delete(Key::timer(workspace, from, profile))));
            operations.extend(at.map(|at| Operation::Put(Key::timer(workspace, at, profile), Vec::new())));
        }
        Effect::Kept { identity, row } => operations.push(Operation::Put(Key::derived(workspace, identity), row)),
        Effect::Leaves { identity, group, row } => {
            operations.push(put_or_delete(Key::leaves(workspace, identity, group), row));
        }
        Effect::Sealed { identity, leaf, number, row } => {
            operations.push(Operation::Put(Key::chunk(workspace, identity, leaf, number), row));
        }
        Effect::Dropped { keys } => operations.extend(keys.into_iter().map(Operation::Delete)),
        Effect::Emitted { key, row } | Effect::Uncomputed { key, row } => operations.push(Operation::Put(key, row)),
        Effect::Version { number, version } => {
            let key = Key::definition(workspace, Definition::ModelVersion, &number.to_be_bytes());
            operations.push(Operation::Put(key, row::encode(&version)));
        }
        Effect::Fault { audience, token, chunk, row } => {
            let key = match chunk {
                None => Key::fault(workspace, audience, token),
                Some(chunk) => Key::fault_chunk(workspace, audience, token, chunk),
            };
            operations.push(put_or_delete(key, row));
        }
        Effect::Letter { key, aside } => operations.push(Operation::Put(key, row::encode(&aside))),
    }
}

fn put_or_delete(key: Key, row: Option<Vec<u8>>) -> Operation {
    match row {
        Some(row) => Operation::Put(key, row),
        None => Operation::Delete(key),
    }
}

/// The states in which a pass makes deliveries.
pub(crate) fn deliveries(effects: &[Effect]) -> impl Iterator<Item = DeliveryState> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Send(intent) => Some(intent.state()),
        _ => None,
    })
}

impl Intent {
    fn state(&self) -> DeliveryState {
        DeliveryState::Pending { attempts: 0, due_at: self.at, last_reason: None }
    }
}

fn send(workspace: WorkspaceId, intent: Intent, operations: &mut Vec<Operation>) {
    let state = intent.state();
    let Intent { id, audience, step, profile, action, at, cause } = intent;
    let queue = outbox(workspace, action.channel);
    let delivery = DeliveryRow {
        channel: action.channel,
        audience,
        movement: match step {
            Step::Enter => Movement::Entered,
            Step::Exit => Movement::Left,
        },
        profile,
        purpose: action.purpose,
        basis: action.basis,
        payload: action.payload,
        created_at: at,
        state,
        cause: Some(cause),
    };
    operations.push(Operation::Put(Key::delivery(workspace, &id), row::encode(&delivery)));
    operations.push(Operation::Put(Key::delivery_by_time(workspace, at, &id), Vec::new()));
    operations.push(Operation::Enqueue { queue, id, due_at: at, body: Vec::new() });
}
