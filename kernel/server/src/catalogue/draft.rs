//! One change of the catalogue: edited in memory, then committed whole together with its audit rows.

pub mod host;
mod tracking;
mod trust;
mod undo;
pub mod unshown;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use kith_model::audience::Audience;
use kith_model::budget::{Exhausted, table};
use kith_model::dictionary::{DatedEntry, Entry, Subject};
use kith_model::id::{AudienceId, InstallationId, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::rules::{RecordRules, Rule};
use kith_model::time::Timestamp;
use kith_pipeline::Undone;
use kith_store::keys::{Definition, SYSTEM};
use kith_store::{Key, Operation, Unit};

use super::chain::{ChainPlace, Deed, title_of};
use super::locks::Lock;
use super::sealed::Place;
use super::written::{bytes, once_each};
use super::{
    AudienceRow, Catalogue, CatalogueError, CounterRow, CredentialRow, DictionaryRow, FitRow, IdentityRulesRow,
    InstallationRow, PluginRow, RecordRulesRow, SUPPRESSIONS, WorkspaceTables, of_installation, put, scan_all,
};
use crate::auth::KeyId;

/// Who makes a change, and in which request.
#[derive(Debug, Clone)]
pub struct Actor {
    pub key: KeyId,
    /// The server's own.
    pub request_id: String,
    /// The caller's.
    pub client_request_id: Option<String>,
}

impl Actor {
    /// What the kernel does by itself.
    pub fn kernel() -> Actor {
        Actor { key: KeyId::kernel(), request_id: String::new(), client_request_id: None }
    }
}

/// Whether a draft is one to learn from, which holds nobody up, or part of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    Yes,
    No,
}

/// A change on paper. It becomes one only as part of a [`Change`].
pub struct Draft<'a> {
    catalogue: &'a Catalogue,
    tables: WorkspaceTables,
    credentials: BTreeMap<KeyId, Arc<CredentialRow>>,
    operations: Vec<Operation>,
    actor: Actor,
    rehearsal: Rehearsal,
    now: Timestamp,
    alters_setup: bool,
    revokes: bool,
    touched: BTreeSet<InstallationId>,
}

/// The one change under way. Dropped without [`Change::commit`], it never happened.
pub struct Change<'a> {
    draft: Draft<'a>,
    writing: Lock<'a>,
}

/// A change that is durable. It shows, and the next one may begin, when this is dropped: what follows from changes follows in
/// their order, and whoever sees one finds that it is in force.
#[must_use = "the change shows, and the next one may begin, as soon as this is dropped"]
pub struct CommitGuard<'a> {
    catalogue: &'a Catalogue,
    workspace: Arc<WorkspaceTables>,
    credentials: BTreeMap<KeyId, Arc<CredentialRow>>,
    _writing: Lock<'a>,
}

impl Drop for CommitGuard<'_> {
    fn drop(&mut self) {
        self.catalogue.show(&self.workspace, &self.credentials);
    }
}

impl<'a> Deref for Change<'a> {
    type Target = Draft<'a>;

    fn deref(&self) -> &Draft<'a> {
        &self.draft
    }
}

impl<'a> DerefMut for Change<'a> {
    fn deref_mut(&mut self) -> &mut Draft<'a> {
        &mut self.draft
    }
}

impl<'a> Change<'a> {
    pub(super) fn new(draft: Draft<'a>, writing: Lock<'a>) -> Change<'a> {
        Change { draft, writing }
    }

    /// Commit the change: durable on return. One that changes nothing writes nothing.
    pub fn commit(self) -> Result<CommitGuard<'a>, CatalogueError> {
        let Change { mut draft, writing } = self;
        let catalogue = draft.catalogue;
        draft.insist_on_writing()?;
        let operations = once_each(std::mem::take(&mut draft.operations));
        if !operations.is_empty() {
            let (workspace, limit) = (draft.workspace(), draft.tables.limit(&table::SETTINGS_WRITTEN));
            let (fence, bytes) = (catalogue.fence.get().cloned(), bytes(&operations));
            catalogue.store.commit(Unit { operations, fence, ..Unit::default() })?;
            catalogue.written.charge(workspace, limit, bytes);
        }
        let (workspace, credentials) = (Arc::new(draft.tables), draft.credentials);
        Ok(CommitGuard { catalogue, workspace, credentials, _writing: writing })
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        catalogue: &'a Catalogue,
        tables: WorkspaceTables,
        actor: Actor,
        rehearsal: Rehearsal,
    ) -> Draft<'a> {
        let now = catalogue.clock.now();
        Draft {
            catalogue,
            tables,
            credentials: BTreeMap::new(),
            operations: Vec::new(),
            actor,
            rehearsal,
            now,
            alters_setup: false,
            revokes: false,
            touched: BTreeSet::new(),
        }
    }

    /// The workspace as it will be.
    pub fn tables(&self) -> &WorkspaceTables {
        &self.tables
    }

    /// Whether the change will not be made.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal == Rehearsal::Yes
    }

    /// The moment of the change.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who makes the change.
    pub fn actor(&self) -> &KeyId {
        &self.actor.key
    }

    /// Whether the running kernel has to learn of the change.
    pub fn alters_setup(&self) -> bool {
        self.alters_setup
    }

    /// The installations that the change is about.
    pub fn touched(&self) -> &BTreeSet<InstallationId> {
        &self.touched
    }

    fn workspace(&self) -> WorkspaceId {
        self.tables.row.id
    }

    /// Insist that the workspace may write what the draft writes, where it writes anything.
    ///
    /// # Errors
    /// [`Exhausted`], where it has written as much within the hour as it may.
    pub fn insist_on_writing(&self) -> Result<(), Exhausted> {
        if self.operations.is_empty() || self.is_never_too_much() {
            return Ok(());
        }
        self.catalogue.written.insist(self.workspace(), self.tables.limit(&table::SETTINGS_WRITTEN))
    }

    /// Whether it is made however much was written: what the kernel does by itself, and the end of keys, one of which may be the
    /// one that writes so much, and of a publisher's, which may be stolen.
    fn is_never_too_much(&self) -> bool {
        let mut keys = self.credentials.values();
        self.revokes
            || self.actor.key == KeyId::kernel()
            || (!self.credentials.is_empty() && keys.all(|row| row.revoked_at.is_some()))
    }

    fn count(&mut self, what: &str) -> Result<u32, CatalogueError> {
        let counted = self.tables.counters.entry(what.to_owned()).or_default();
        *counted += 1;
        let counted = *counted;
        self.operations.push(put(self.workspace(), Definition::Counter, what.as_bytes(), &CounterRow(counted)));
        Ok(counted)
    }

    /// A number that no installation of the workspace had before.
    pub fn next_installation(&mut self) -> Result<InstallationId, CatalogueError> {
        self.count("installation").map(InstallationId)
    }

    /// A number that no audience of the workspace had before.
    pub fn next_audience(&mut self) -> Result<AudienceId, CatalogueError> {
        self.count("audience").map(AudienceId)
    }

    /// Add or replace a plugin version.
    pub fn put_plugin(&mut self, row: PluginRow) {
        let name = format!("{}@{}", row.manifest.id, row.manifest.version);
        self.operations.push(put(self.workspace(), Definition::Plugin, name.as_bytes(), &row));
        let key = (row.manifest.id.clone(), row.manifest.version.clone());
        self.tables.plugins.insert(key, Arc::new(row));
    }

    /// Take a plugin version out.
    pub fn remove_plugin(&mut self, row: &PluginRow) {
        let name = format!("{}@{}", row.manifest.id, row.manifest.version);
        self.operations.push(Operation::Delete(Key::definition(self.workspace(), Definition::Plugin, name.as_bytes())));
        self.tables.plugins.remove(&(row.manifest.id.clone(), row.manifest.version.clone()));
    }

    /// Add or replace an installation. What came of a shadow or a backtest, and what is sealed for the first, goes with that.
    pub fn put_installation(&mut self, row: InstallationRow) {
        if let Some(before) = self.tables.installations.get(&row.id) {
            let has_ended = [
                (Definition::ShadowReport, before.shadow.is_some() && before.shadow != row.shadow),
                (Definition::BacktestReport, before.backtest.is_some() && before.backtest != row.backtest),
            ];
            for (report, _) in has_ended.into_iter().filter(|(_, has_ended)| *has_ended) {
                let key = Key::definition(self.workspace(), report, &row.id.0.to_be_bytes());
                self.operations.push(Operation::Delete(key));
            }
        }
        self.forget_sealed_shadow(&row);
        self.operations.push(put(self.workspace(), Definition::Installation, &row.id.0.to_be_bytes(), &row));
        self.touched.insert(row.id);
        self.tables.installations.insert(row.id, Arc::new(row));
        self.alters_setup = true;
    }

    /// Delete what belongs to an installation: secrets, fits with their states. What the plugin keeps of its own may be more than
    /// one commit takes, and goes after it.
    pub fn clear_installation(&mut self, id: InstallationId) -> Result<(), CatalogueError> {
        let workspace = self.workspace();
        let kinds = [
            Definition::Secret,
            Definition::SealedConfig,
            Definition::SealedShadow,
            Definition::Fit,
            Definition::FittedState,
            Definition::ShadowReport,
            Definition::BacktestReport,
        ];
        let owned = kinds.map(|kind| Key::definition(workspace, kind, &id.0.to_be_bytes()));
        for prefix in owned.into_iter().chain([Key::poll(workspace, id)]) {
            let rows = scan_all(self.catalogue.store.as_ref(), prefix.range())?;
            self.operations.extend(rows.into_iter().map(|(key, _)| Operation::Delete(key)));
        }
        self.tables.secrets.retain(|(owner, _), _| *owner != id);
        self.tables.sealed_configs.remove(&id);
        self.tables.sealed_shadows.remove(&id);
        self.tables.fits.retain(|(owner, _), _| *owner != id);
        self.tables.states.remove(&id);
        // The events of a source outlive it, and are taken back to the end.
        let of_values = self.tables.undos.values().filter(|row| row.installation == id && row.of == Undone::Values);
        let digests: Vec<String> = of_values.map(|row| row.digest.clone()).collect();
        digests.iter().for_each(|digest| self.drop_undo(id, digest));
        self.alters_setup = true;
        Ok(())
    }

    /// Set a secret of an installation.
    pub fn put_secret(&mut self, id: InstallationId, name: &str, value: &str) -> Result<(), CatalogueError> {
        let place = Place::Secret { workspace: self.workspace(), installation: id, name };
        let sealed = self.catalogue.sealer.seal(place, value.as_bytes())?;
        let key = of_installation(id, name.as_bytes());
        let key = Key::definition(self.workspace(), Definition::Secret, &key);
        self.operations.push(Operation::Put(key, sealed.clone()));
        self.tables.secrets.insert((id, name.to_owned()), sealed.into());
        self.alters_setup = true;
        Ok(())
    }

    /// Forget a secret of an installation.
    pub fn remove_secret(&mut self, id: InstallationId, name: &str) {
        let key = of_installation(id, name.as_bytes());
        self.operations.push(Operation::Delete(Key::definition(self.workspace(), Definition::Secret, &key)));
        self.tables.secrets.remove(&(id, name.to_owned()));
        self.alters_setup = true;
    }

    /// Add or replace a fit's row.
    pub fn put_fit(&mut self, row: FitRow) {
        let name = of_installation(row.installation, &row.version.to_be_bytes());
        self.operations.push(put(self.workspace(), Definition::Fit, &name, &row));
        self.tables.fits.insert((row.installation, row.version), Arc::new(row));
    }

    /// Take a fit out, with its state. To be called for none that is in use.
    pub fn remove_fit(&mut self, id: InstallationId, version: u32) {
        let name = of_installation(id, &version.to_be_bytes());
        for kind in [Definition::Fit, Definition::FittedState] {
            self.operations.push(Operation::Delete(Key::definition(self.workspace(), kind, &name)));
        }
        self.tables.fits.remove(&(id, version));
    }

    /// Keep a fitted state, and what is in use in use.
    pub fn keep_state(&mut self, id: InstallationId, version: u32, state: Vec<u8>) {
        let name = of_installation(id, &version.to_be_bytes());
        let key = Key::definition(self.workspace(), Definition::FittedState, &name);
        self.operations.push(Operation::Put(key, state));
    }

    /// Keep a fitted state and put it to use.
    pub fn put_state(&mut self, id: InstallationId, version: u32, state: Vec<u8>) {
        self.keep_state(id, version, state.clone());
        self.tables.states.insert(id, (version, state.into()));
        self.alters_setup = true;
    }

    /// Put the state of an earlier fit to use again.
    pub fn use_state(&mut self, id: InstallationId, version: u32) -> Result<(), CatalogueError> {
        let name = of_installation(id, &version.to_be_bytes());
        let key = Key::definition(self.workspace(), Definition::FittedState, &name);
        let state = self.catalogue.store.get(&[key])?.pop().flatten();
        let state = state.ok_or(CatalogueError::Key { what: "fitted state" })?;
        self.tables.states.insert(id, (version, state));
        self.alters_setup = true;
        Ok(())
    }

    /// Add or replace an audience.
    pub fn put_audience(&mut self, mut audience: Audience) {
        audience.has_acted = audience.counts_entries();
        let name = audience.id.0.to_be_bytes();
        let row = AudienceRow { audience: audience.clone(), removed_at: None };
        self.operations.push(put(self.workspace(), Definition::Audience, &name, &row));
        self.tables.audiences.insert(audience.id, Arc::new(audience));
        self.alters_setup = true;
    }

    /// Remove an audience. Its name stays, for what it sent.
    pub fn remove_audience(&mut self, id: AudienceId) {
        let Some(audience) = self.tables.audiences.remove(&id) else { return };
        let row = AudienceRow { audience: Audience::clone(&audience), removed_at: Some(self.now) };
        self.operations.push(put(self.workspace(), Definition::Audience, &id.0.to_be_bytes(), &row));
        self.tables.removed_audiences.insert(id, audience);
        self.alters_setup = true;
    }

    /// Replace the identity rules.
    pub fn put_identity_rules(&mut self, rules: IdentityRules) {
        self.operations.push(put(self.workspace(), Definition::IdentityRules, &[], &IdentityRulesRow(rules.clone())));
        self.tables.identity_rules = Some(Arc::new(rules));
        self.alters_setup = true;
    }

    /// Write down an entry of the dictionary.
    pub fn put_entry(&mut self, subject: Subject, entry: Entry) {
        let changed_at = self.now;
        let key = subject.key();
        let row = DictionaryRow { subject: subject.clone(), entry: entry.clone(), changed_at };
        self.operations.push(put(self.workspace(), Definition::DictionaryEntry, key.as_bytes(), &row));
        Arc::make_mut(&mut self.tables.dictionary).put(subject, DatedEntry { entry, changed_at });
        self.alters_setup = true;
    }

    /// Take an entry out of the dictionary.
    pub fn remove_entry(&mut self, subject: &Subject) {
        let key = Key::definition(self.workspace(), Definition::DictionaryEntry, subject.key().as_bytes());
        self.operations.push(Operation::Delete(key));
        Arc::make_mut(&mut self.tables.dictionary).remove(subject);
        self.alters_setup = true;
    }

    /// Replace the rules of records; they get the next version.
    pub fn put_record_rules(&mut self, rules: Vec<Rule>) {
        let version = self.tables.record_rules.version.saturating_add(1);
        let rules = RecordRules { version, rules };
        self.operations.push(put(self.workspace(), Definition::RecordRules, &[], &RecordRulesRow(rules.clone())));
        self.tables.record_rules = Arc::new(rules);
        self.alters_setup = true;
    }

    /// Insist that the workspace may have one more key.
    ///
    /// # Errors
    /// [`Exhausted`], where it has as many good ones as it may.
    pub fn insist_on_room_for_key(&self) -> Result<(), Exhausted> {
        let kept = self.catalogue.tables.load().good_keys(self.workspace(), self.now);
        self.tables.insist_on_room(&table::KEYS_KEPT, kept)
    }

    /// Add or replace a credential. Its workspace is the draft's.
    pub fn put_credential(&mut self, mut row: CredentialRow) {
        row.workspace = self.workspace();
        self.operations.push(put(SYSTEM, Definition::Credential, row.id.as_str().as_bytes(), &row));
        self.credentials.insert(row.id.clone(), Arc::new(row));
    }

    /// Put identifiers on the list to which nothing is sent, or take them off it, by these rows. What is not on it is not taken
    /// off; whether anything is to be changed.
    ///
    /// # Errors
    /// [`Exhausted`], where the list becomes longer than it may.
    pub fn change_suppressions(&mut self, rows: Vec<Operation>) -> Result<bool, CatalogueError> {
        let rows = once_each(rows);
        let keys = rows.iter().filter_map(|row| match row {
            Operation::Put(key, _) | Operation::Delete(key) => Some(key.clone()),
            _ => None,
        });
        let present = self.catalogue.store.get(&keys.collect::<Vec<_>>())?;
        let mut kept = self.tables.suppressions();
        let mut changes = Vec::with_capacity(rows.len());
        for (row, present) in rows.into_iter().zip(present) {
            match (&row, present) {
                (Operation::Put(..), None) => kept += 1,
                (Operation::Put(..), Some(_)) => {}
                (_, Some(_)) => kept = kept.saturating_sub(1),
                (_, None) => continue,
            }
            changes.push(row);
        }
        let limit = self.tables.limit(&table::SUPPRESSIONS_KEPT);
        if kept > limit && kept > self.tables.suppressions() {
            return Err(table::SUPPRESSIONS_KEPT.exhausted(limit, None).into());
        }
        if changes.is_empty() {
            return Ok(false);
        }
        if kept != self.tables.suppressions() {
            let counted = CounterRow(u32::try_from(kept).unwrap_or(u32::MAX));
            self.operations.push(put(self.workspace(), Definition::Counter, SUPPRESSIONS.as_bytes(), &counted));
            self.tables.counters.insert(SUPPRESSIONS.to_owned(), counted.0);
        }
        self.operations.extend(changes);
        Ok(true)
    }

    /// Write down what was done.
    pub fn audit(
        &mut self,
        action: &str,
        target: impl ToString,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CatalogueError> {
        let actor = self.actor.clone();
        self.audit_by(&actor, action, target, before, after)
    }

    /// Write down what somebody did, as the next row of the chain.
    pub fn audit_by(
        &mut self,
        actor: &Actor,
        action: &str,
        target: impl ToString,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CatalogueError> {
        let place = ChainPlace { workspace: self.workspace(), place: self.count("audit")?, now: self.now };
        let title = title_of(&self.catalogue.tables.load(), actor);
        let deed = Deed { actor, title, action, target: target.to_string(), before, after };
        self.operations.extend(self.tables.audit_head.follow(place, deed));
        Ok(())
    }
}
