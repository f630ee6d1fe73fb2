//! Who read people, and whose keys were refused, on its way into the audit log. A read leaves a note in memory and goes on; a
//! thread writes the notes down every second as one record of each key, and the rest when the server stops.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use kith_model::id::WorkspaceId;
use parking_lot::Mutex;
use serde_json::json;
use sha2::Sha256;

use crate::app::App;
use crate::auth::{Caller, KeyId, hex};
use crate::catalogue::{Actor, CatalogueError};
use crate::error::request_ids;

/// How often notes of reads are written down.
const PERIOD: Duration = Duration::from_secs(1);

/// Refusals are written down each so many periods: whoever tries keys is no reason to write every second.
const REFUSAL_PERIODS: u32 = 60;

/// Ids that one record names; of more it says how many.
const MAX_NAMED: usize = 32;

/// Keys of which refusals are told apart in one workspace; those of ids that no key has are one record anyway.
const MAX_REFUSED: usize = 256;

/// What one key has read since its last record.
#[derive(Debug, Default)]
struct ReadNote {
    /// How often, by action.
    actions: BTreeMap<&'static str, u64>,
    /// Ids of people and of what was asked for, and HMACs of identifiers and conditions.
    of: BTreeSet<String>,
    /// How many more of them there were.
    more: u64,
    /// Of the first request.
    actor: Option<Actor>,
}

impl ReadNote {
    fn add(&mut self, other: ReadNote) {
        for (action, count) in other.actions {
            *self.actions.entry(action).or_default() += count;
        }
        self.more += other.more;
        for name in other.of {
            self.name(name);
        }
        self.actor = self.actor.take().or(other.actor);
    }

    fn name(&mut self, name: String) {
        if self.of.len() < MAX_NAMED {
            self.of.insert(name);
        } else if !self.of.contains(&name) {
            self.more += 1;
        }
    }
}

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RefusedKey {
    /// Its check part does not fit, or no key has its id.
    Unknown,
    /// A key has its id and another secret.
    WrongSecret,
    /// It is revoked or has expired.
    Ended,
}

impl RefusedKey {
    fn as_str(self) -> &'static str {
        match self {
            RefusedKey::Unknown => "unknown",
            RefusedKey::WrongSecret => "wrong-secret",
            RefusedKey::Ended => "ended",
        }
    }
}

/// The id that stands for all keys that are none.
const NO_KEY: &str = "unknown";

#[derive(Debug, Default)]
struct Notes {
    reads: BTreeMap<(WorkspaceId, KeyId), ReadNote>,
    refusals: BTreeMap<(WorkspaceId, KeyId, RefusedKey), u64>,
}

/// What is still to be written down.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    notes: Mutex<Notes>,
    /// Held while notes are written down: whoever comes next finds all of them written, which the end of the server waits for.
    writing: Mutex<()>,
}

impl Reads {
    /// A caller has read something of people.
    pub(crate) fn note(&self, caller: &Caller, action: &'static str, of: impl IntoIterator<Item = String>) {
        let (request_id, client_request_id) = request_ids();
        let actor = Actor { key: caller.key.clone(), request_id, client_request_id };
        let mut notes = self.notes.lock();
        let note = notes.reads.entry((caller.workspace, caller.key.clone())).or_default();
        *note.actions.entry(action).or_default() += 1;
        note.actor.get_or_insert(actor);
        of.into_iter().for_each(|name| note.name(name));
    }

    /// A key was refused.
    pub(crate) fn refused(&self, workspace: WorkspaceId, key: &KeyId, why: RefusedKey) {
        // The ids that strangers make up are without end.
        let key = if why == RefusedKey::Unknown { KeyId::named(NO_KEY) } else { key.clone() };
        let mut notes = self.notes.lock();
        let is_full = notes.refusals.len() >= MAX_REFUSED;
        let place = (workspace, key, why);
        if !is_full || notes.refusals.contains_key(&place) {
            *notes.refusals.entry(place).or_default() += 1;
        } else {
            let rest = (workspace, KeyId::named(NO_KEY), RefusedKey::WrongSecret);
            *notes.refusals.entry(rest).or_default() += 1;
        }
    }

    fn take(&self, due: NoteKinds) -> Notes {
        let mut notes = self.notes.lock();
        let reads = std::mem::take(&mut notes.reads);
        let refusals = if due == NoteKinds::All { std::mem::take(&mut notes.refusals) } else { BTreeMap::new() };
        Notes { reads, refusals }
    }

    /// What could not be written down waits for the next time.
    fn put_back(&self, unwritten: Notes) {
        let mut notes = self.notes.lock();
        for (place, note) in unwritten.reads {
            notes.reads.entry(place).or_default().add(note);
        }
        for (place, count) in unwritten.refusals {
            *notes.refusals.entry(place).or_default() += count;
        }
    }
}

/// Something that must not be in the audit log, as what can be in it: whoever has it can be told by it, and nobody can be read
/// from it.
pub(crate) fn sealed(app: &App, kind: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(app.mask_key.as_slice()).expect("HMAC takes keys of any length");
    mac.update(kind.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    format!("{kind}:{}", hex(&mac.finalize().into_bytes()[..16]))
}

/// Which notes are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteKinds {
    Reads,
    All,
}

/// Write down what has been noted. Blocking.
pub(crate) fn write_down(app: &App, due: NoteKinds) {
    let _writing = app.reads.writing.lock();
    let mut notes = app.reads.take(due);
    let of_reads = notes.reads.keys().map(|(workspace, _)| *workspace);
    let workspaces: BTreeSet<_> = of_reads.chain(notes.refusals.keys().map(|(workspace, ..)| *workspace)).collect();
    for workspace in workspaces {
        match keep(app, workspace, &notes) {
            // A workspace that is no more has no log.
            Ok(()) | Err(CatalogueError::NoWorkspace(_)) => {
                notes.reads.retain(|(other, _), _| *other != workspace);
                notes.refusals.retain(|(other, ..), _| *other != workspace);
            }
            Err(error) => {
                tracing::error!(workspace = workspace.0, %error, "reads of people are not in the audit log yet")
            }
        }
    }
    app.reads.put_back(notes);
}

fn keep(app: &App, workspace: WorkspaceId, notes: &Notes) -> Result<(), CatalogueError> {
    let mut change = app.catalogue.begin(workspace, Actor::kernel())?;
    for ((_, key), note) in notes.reads.iter().filter(|((other, _), _)| *other == workspace) {
        let actor = note.actor.clone().unwrap_or_else(|| Actor { key: key.clone(), ..Actor::kernel() });
        let action = match note.actions.len() {
            1 => note.actions.keys().next().copied().unwrap_or_default(),
            _ => "people.read",
        };
        let target = if note.of.len() == 1 { note.of.first().cloned().unwrap_or_default() } else { String::new() };
        let after = json!({ "reads": note.actions, "of": note.of, "more": note.more });
        change.audit_by(&actor, action, target, None, Some(after))?;
    }
    for ((_, key, why), count) in notes.refusals.iter().filter(|((other, ..), _)| *other == workspace) {
        let after = json!({ "attempts": count, "why": why.as_str() });
        change.audit_by(&Actor::kernel(), "key.refused", key, None, Some(after))?;
    }
    drop(change.commit()?);
    Ok(())
}

/// Start the thread that writes down. It ends when the other end of `ended` is dropped.
pub(crate) fn begin(app: &Arc<App>, ended: Receiver<()>) -> io::Result<()> {
    let app = Arc::downgrade(app);
    let work = move || {
        let mut periods = 0_u32;
        while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let Some(app) = app.upgrade() else { return };
            periods = (periods + 1) % REFUSAL_PERIODS;
            write_down(&app, if periods == 0 { NoteKinds::All } else { NoteKinds::Reads });
        }
    };
    std::thread::Builder::new().name("kith-audit".to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_few_and_counts_the_others() {
        let reads = Reads::default();
        let shares = crate::shares::Shares::new(&kith_model::budget::table::CREDENTIAL_REQUESTS, 1);
        let _under_way = Arc::new(shares.take(KeyId::named("k"), 1).unwrap());
        let (workspace, key) = (WorkspaceId(1), KeyId::named("k"));
        let caller = Caller { workspace, key, scopes: BTreeSet::new(), source: None, _under_way };
        for number in 0..1_000 {
            reads.note(&caller, "profile.read", [format!("profile:{number}")]);
        }
        let notes = reads.take(NoteKinds::Reads);
        let note = notes.reads.values().next().unwrap();
        assert_eq!((note.of.len(), note.more, note.actions["profile.read"]), (32, 968, 1_000));
        reads.put_back(notes);
        reads.note(&caller, "profile.find", ["profile:0".to_owned()]);
        let note = reads.take(NoteKinds::Reads).reads.into_values().next().unwrap();
        assert_eq!((note.of.len(), note.more, note.actions.len()), (32, 968, 2), "what was put back is not lost");
    }

    #[test]
    fn whoever_makes_up_keys_makes_no_records() {
        let reads = Reads::default();
        for number in 0..10_000 {
            let key = KeyId::named(&number.to_string());
            reads.refused(WorkspaceId(1), &key, RefusedKey::Unknown);
            reads.refused(WorkspaceId(1), &key, RefusedKey::WrongSecret);
        }
        assert!(reads.take(NoteKinds::Reads).refusals.is_empty(), "they are not due yet");
        let refusals = reads.take(NoteKinds::All).refusals;
        assert!(refusals.len() <= MAX_REFUSED + 1, "{}", refusals.len());
        assert_eq!(refusals.values().sum::<u64>(), 20_000, "all are counted");
    }
}
