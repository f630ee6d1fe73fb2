//! A change of the workspaces themselves, which host keys alone make. Each act has a row in the audit log of the workspace that
//! it is about, where that one's people see it, and one in the host's own log.

use std::sync::Arc;

use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::keys::{Definition, SYSTEM};
use kith_store::{Key, Operation, Unit};
use serde_json::Value;

use super::{Actor, Draft, Rehearsal};
use crate::auth::KeyId;
use crate::catalogue::chain::{ChainPlace, Deed, title_of};
use crate::catalogue::locks::LockOfAll;
use crate::catalogue::publishers::PublisherRow;
use crate::catalogue::{
    Catalogue, CatalogueError, CounterRow, CredentialRow, Tables, WORKSPACES, WorkspaceRow, WorkspaceTables, put,
};

/// The counter of the audit log's rows.
const AUDIT: &str = "audit";

/// What was done to a workspace, for the audit logs.
pub struct Act {
    /// E.g. `workspace.create`.
    pub action: &'static str,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// The one change under way. Dropped without [`HostChange::commit`], it never happened.
pub struct HostChange<'a> {
    catalogue: &'a Catalogue,
    /// As it will be.
    tables: Tables,
    operations: Vec<Operation>,
    actor: Actor,
    now: Timestamp,
    writing: LockOfAll<'a>,
}

/// A change that is durable. It shows, and the next one may begin, when this is dropped.
#[must_use = "the change shows, and the next one may begin, as soon as this is dropped"]
pub struct HostCommitGuard<'a> {
    catalogue: &'a Catalogue,
    tables: Arc<Tables>,
    _writing: LockOfAll<'a>,
}

impl Drop for HostCommitGuard<'_> {
    fn drop(&mut self) {
        // Nobody else changes anything meanwhile.
        self.catalogue.tables.store(Arc::clone(&self.tables));
    }
}

impl<'a> HostChange<'a> {
    pub(in crate::catalogue) fn new(catalogue: &'a Catalogue, actor: Actor, writing: LockOfAll<'a>) -> HostChange<'a> {
        let (tables, now) = (Tables::clone(&catalogue.tables.load()), catalogue.clock.now());
        HostChange { catalogue, tables, operations: Vec::new(), actor, now, writing }
    }

    /// All workspaces and keys as they will be.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The moment of the change.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// An id that no workspace had before.
    pub fn next_workspace(&mut self) -> WorkspaceId {
        WorkspaceId(self.count(WORKSPACES))
    }

    /// Add or replace a workspace. One that is deleted is gone with its keys, but for the host's.
    pub fn put_workspace(&mut self, row: WorkspaceRow, act: Act) -> Result<(), CatalogueError> {
        let id = row.id;
        self.operations.push(put(SYSTEM, Definition::Workspace, &id.0.to_be_bytes(), &row));
        self.audit(&act, row.name.as_str());
        let known = self.tables.workspaces.get(&id).map(|tables| WorkspaceTables::clone(tables));
        let is_deleted = row.state.is_deleted();
        let tables = known.map_or_else(|| WorkspaceTables::empty(row.clone()), |tables| tables.with_row(row.clone()));
        // Its people see that the host did it; whose key it was is the host's.
        let host = Actor { key: KeyId::named("host"), ..self.actor.clone() };
        let mut draft = Draft::new(self.catalogue, tables, host, Rehearsal::No);
        draft.audit(act.action, &row.name, act.before, act.after)?;
        self.operations.append(&mut draft.operations);
        if is_deleted {
            self.tables.workspaces.remove(&id);
            self.tables.credentials.retain(|_, key| key.workspace != id || key.is_host());
        } else {
            self.tables.workspaces.insert(id, Arc::new(draft.tables));
        }
        Ok(())
    }

    /// Add a credential, of whichever workspace it names.
    pub fn put_credential(&mut self, row: CredentialRow) {
        self.operations.push(put(SYSTEM, Definition::Credential, row.id.as_str().as_bytes(), &row));
        self.tables.credentials.insert(row.id.clone(), Arc::new(row));
    }

    /// Add or replace a publisher of the host.
    pub fn put_publisher(&mut self, row: PublisherRow, act: &Act) {
        let name = row.name.to_string();
        self.operations.push(put(SYSTEM, Definition::Publisher, name.as_bytes(), &row));
        self.audit(act, &name);
        self.tables.publishers.insert(name, Arc::new(row));
    }

    /// Remove a publisher of the host.
    pub fn remove_publisher(&mut self, name: &str, act: &Act) {
        let key = Key::definition(SYSTEM, Definition::Publisher, name.as_bytes());
        self.operations.push(Operation::Delete(key));
        self.audit(act, name);
        self.tables.publishers.remove(name);
    }

    /// Write down in the host's log what became of a host key: those of a workspace are in that one's log as well, which goes
    /// with it.
    pub fn audit_host_key(&mut self, action: &'static str, id: &KeyId) {
        let act = Act { action, before: None, after: None };
        self.audit(&act, id.as_str());
    }

    /// Write down in the host's log what became of a master key, by its id.
    pub fn audit_master_key(&mut self, action: &'static str, id: &str) {
        self.audit(&Act { action, before: None, after: None }, id);
    }

    /// Commit the change: durable on return. It shows when what is given is dropped.
    pub fn commit(self) -> Result<HostCommitGuard<'a>, CatalogueError> {
        let HostChange { catalogue, tables, operations, writing, .. } = self;
        let fence = catalogue.fence.get().cloned();
        catalogue.store.commit(Unit { operations, fence, ..Unit::default() })?;
        Ok(HostCommitGuard { catalogue, tables: Arc::new(tables), _writing: writing })
    }

    fn count(&mut self, what: &str) -> u32 {
        let counted = self.tables.host_counters.entry(what.to_owned()).or_default();
        *counted += 1;
        let counted = *counted;
        self.operations.push(put(SYSTEM, Definition::Counter, what.as_bytes(), &CounterRow(counted)));
        counted
    }

    fn audit(&mut self, act: &Act, target: &str) {
        let place = ChainPlace { workspace: SYSTEM, place: self.count(AUDIT), now: self.now };
        let deed = Deed {
            actor: &self.actor,
            title: title_of(&self.tables, &self.actor),
            action: act.action,
            target: target.to_owned(),
            before: act.before.clone(),
            after: act.after.clone(),
        };
        self.operations.extend(self.tables.host_audit_head.follow(place, deed));
    }
}

impl WorkspaceTables {
    fn with_row(self, row: WorkspaceRow) -> WorkspaceTables {
        WorkspaceTables { row, ..self }
    }
}
