//! Writing the audit log: each record has the hash of the one before, so that a record which is changed, left out or moved
//! shows. A workspace has a chain, and the host has one.

use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Operation, Store, row};
use serde_json::{Value, json};

use super::{Actor, AuditHead, AuditRow, CatalogueError, Tables, put, rows_of};
use crate::audit::settled;
use crate::auth::digest;

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
            before: deed.before.map(settled).map(cut),
            after: deed.after.map(settled).map(cut),
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

/// What a record shows of one side of a change at most: each change of a document keeps it twice, for good.
const MAX_SIDE_BYTES: usize = 32 << 10;

/// A side of a change as a record keeps it. Of a larger one it keeps how long it was and what it hashes to, so that whoever has
/// the document can show that it is the one.
fn cut(side: Value) -> Value {
    let text = side.to_string();
    if text.len() <= MAX_SIDE_BYTES {
        return side;
    }
    json!({ "left_out": { "bytes": text.len(), "sha256": digest(text.as_bytes()) } })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_what_is_small_and_names_what_is_large() {
        let of = |letters: usize| json!({ "schema": "x".repeat(letters) });
        let whole = MAX_SIDE_BYTES - of(0).to_string().len();
        assert_eq!(cut(of(whole)), of(whole));
        let large = of(whole + 1);
        let (bytes, sha256) = (MAX_SIDE_BYTES + 1, digest(large.to_string().as_bytes()));
        assert_eq!(cut(large), json!({ "left_out": { "bytes": bytes, "sha256": sha256 } }));
    }
}
