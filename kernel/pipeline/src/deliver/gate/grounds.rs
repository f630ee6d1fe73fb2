//! What a verdict about a message rests on, so that it need not be reached again while all of that is as it was.
//!
//! A verdict comes of the setup, the message, the time and what the store has of the message's person, and of nothing else: the
//! person is read through a [`Reading`], which notes every row that is asked for, and [`super::judge`] reads nothing. The message
//! is its sender's alone while it is claimed, and of the time only [`super::not_due`] knows. So whoever asks for the time and finds
//! the setup and the rows unchanged would reach the same verdict.

use std::sync::{Arc, Weak};

use kith_model::id::{ProfileId, WorkspaceId};
use kith_store::{ReadError, ReadSet, Reading, Store};

use super::{ProfileLookup, person_behind};
use crate::setup::Setup;

/// What a verdict rests on beside its message and the time. The grounds that are made by default never hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grounds {
    /// The setup that was in force. Another one is never at its place in memory while this is kept.
    setup: Weak<Setup>,
    /// What was read of the person.
    read: ReadSet,
}

/// Who is behind a profile now, with all by which the gate decides about them, and what a verdict by that rests on.
pub(in crate::deliver) fn person_on_grounds(
    store: &Arc<dyn Store>,
    workspace: WorkspaceId,
    setup: &Arc<Setup>,
    profile: ProfileId,
) -> Result<(ProfileLookup, Grounds), ReadError> {
    let reading = Reading::begin(Arc::clone(store));
    let found = person_behind(&reading, (workspace, &setup.realm_key, &setup.identity_rules), profile)?;
    Ok((found, Grounds { setup: Arc::downgrade(setup), read: reading.end() }))
}

impl Grounds {
    /// Whether the setup is the one in force and nothing that was read has changed. A change that was answered before the question
    /// counts: a setup is in force before whoever changed it is answered, and the store says the same of its units.
    pub(crate) fn hold(&self, store: &dyn Store, in_force: &Arc<Setup>) -> bool {
        std::ptr::eq(self.setup.as_ptr(), Arc::as_ptr(in_force)) && store.is_unchanged(&self.read)
    }

    /// What they take in memory beside themselves.
    pub(in crate::deliver) fn size_bytes(&self) -> usize {
        self.read.size_bytes()
    }
}

/// What a verdict about a message to somebody rests on.
#[cfg(test)]
pub(crate) fn of_person(
    store: &Arc<dyn Store>,
    workspace: WorkspaceId,
    setup: &Arc<Setup>,
    profile: ProfileId,
) -> Grounds {
    person_on_grounds(store, workspace, setup, profile).unwrap().1
}
