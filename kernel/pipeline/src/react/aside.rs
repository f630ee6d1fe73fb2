//! What a pass keeps aside as dead letters and goes on without: what cannot be read, and what was tried alone and is left out.

use kith_model::id::{InstallationId, Position, SourceIdentityId, WorkspaceId};
use kith_store::{Key, ReadError, UnreadRow};
use xxhash_rust::xxh3::xxh3_128;

use super::reactor::{PassError, Reactor};
use crate::rows::Aside;
use crate::rows::derived::Cursor;

impl Reactor {
    /// Keep something aside that did not work; one of the same name replaces it.
    pub(super) fn letter(&mut self, key: Key, aside: Aside) {
        self.pass.letters.insert(key, aside);
    }

    /// What was read of somebody; `None` where it cannot be read and is kept aside, because one person's row must not stop
    /// everybody else's work.
    ///
    /// # Errors
    /// Where nothing can be read at all.
    pub(super) fn readable<T>(
        &mut self,
        who: impl std::fmt::Display,
        read: Result<T, ReadError>,
    ) -> Result<Option<T>, PassError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error @ ReadError::Io { .. }) => Err(error.into()),
            Err(error) => {
                self.set_aside_person(&error, &who.to_string());
                Ok(None)
            }
        }
    }

    /// Keep aside a record of the log that cannot be read, with its bytes, and go on without it.
    pub(super) fn set_aside(&mut self, position: Position, error: &ReadError, raw: &[u8]) {
        let of_when = Cursor { position, time: self.now() };
        let (key, aside) = unreadable(self.workspace.id, of_when, error.to_string(), raw, raw);
        self.letter(key, aside);
    }

    fn set_aside_person(&mut self, error: &ReadError, who: &str) {
        let of_when = Cursor { position: self.pass.cursor.position, time: self.now() };
        let (key, aside) = unreadable_person(self.workspace.id, of_when, error, who);
        self.letter(key, aside);
    }

    /// Leave a person out, and keep that aside.
    pub(super) fn leave_out(&mut self, identity: SourceIdentityId) {
        let error = left_out(format!("source identity {identity}"));
        self.set_aside_person(&error, &identity.to_string());
    }
}

/// The dead letter of somebody who cannot be read: it says who that is and has the bytes of the row that is in the way, where it
/// is a row that is there, and their name in its place otherwise.
pub(super) fn unreadable_person(workspace: WorkspaceId, of_when: Cursor, error: &ReadError, who: &str) -> (Key, Aside) {
    let raw = error.row().unwrap_or(who.as_bytes());
    unreadable(workspace, of_when, format!("{who}: {error}"), who.as_bytes(), raw)
}

/// The dead letter of something that cannot be read. There is one for each `name`, however often somebody comes across it: a person
/// who cannot be read may be sent events for years. `raw` is what there is of it.
pub(super) fn unreadable(
    workspace: WorkspaceId,
    of_when: Cursor,
    problem: String,
    name: &[u8],
    raw: &[u8],
) -> (Key, Aside) {
    let Cursor { position, time: at } = of_when;
    tracing::error!(workspace = workspace.0, position = position.0, %problem, "something cannot be read; it is kept aside");
    let key = Key::set_aside(workspace, Some(InstallationId(0))).followed_by(&xxh3_128(name).to_be_bytes());
    let raw = raw[..raw.len().min(UnreadRow::MAX_BYTES)].to_vec();
    (key, Aside::Unreadable { at, position, problem, raw })
}

/// Why something is left out that was tried alone.
pub(super) fn left_out(what: String) -> ReadError {
    let problem = "what follows from it is larger than a commit, or the computation panics on it".to_owned();
    ReadError::Corrupt { what, problem, row: None }
}
