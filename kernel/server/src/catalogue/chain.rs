//! Writing the audit log: each record has the hash of the one before, so that a record which is changed, left out or moved
//! shows. A workspace has a chain, and the host has one.

use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Operation, Store, row};
use serde_json::Value;

use super::{Actor, AuditHead, AuditRow, CatalogueError, Tables, put, rows_of};
use crate::audit::settled;

/// Something that somebody did, before it has its place in a chain.
pub(super) struct Deed<'a> {
    pub actor: &'a Actor,
    /// The key's title at that time.
    pub title: String,
    pub action: &'a str,
    pub target: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Where a chain lies, and the number of the next row in its keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainPlace {
    pub workspace: WorkspaceId,
    pub place: u32,
    pub now: Timestamp,
}

impl AuditHead {
    /// The operations that put a deed behind the last record, which is this one from then on.
    pub(super) fn follow(&mut self, place: ChainPlace, deed: Deed<'_>) -> [Operation; 2] {
        let ChainPlace { workspace, place, now } = place;
        let mut record = AuditRow {
            at: now,
            actor: deed.actor.key.clone(),
            action: deed.action.to_owned(),
            target: deed.target,
            request_id: deed.actor.request_id.clone(),
            before: deed.before.map(settled),
            after: deed.after.map(settled),
            number: Some(self.number + 1),
            actor_title: deed.title,
            client_request_id: deed.actor.client_request_id.clone(),
            previous: self.hash.clone(),
            hash: String::new(),
        };
        record.hash = record.clone().entry().expected_hash();
        *self = AuditHead { number: self.number + 1, hash: record.hash.clone(), at: self.at.max(now) };
        let key = Key::audit(workspace, Some((self.at, place)));
        [Operation::Put(key, row::encode(&record)), put(workspace, Definition::AuditHead, &[], self)]
    }
}

/// The end of a chain; its beginning where nothing was written down yet.
pub(super) fn audit_head(store: &dyn Store, workspace: WorkspaceId) -> Result<AuditHead, CatalogueError> {
    let mut rows = rows_of(store, workspace, Definition::AuditHead)?;
    Ok(rows.pop().map(|(_, head)| head).unwrap_or_default())
}

/// The title of an actor's key, cut to what a record keeps of it.
pub(super) fn title_of(tables: &Tables, actor: &Actor) -> String {
    const MAX_TITLE: usize = 128;
    let row = tables.credentials.get(&actor.key);
    row.map(|row| row.title.chars().take(MAX_TITLE).collect()).unwrap_or_default()
}
