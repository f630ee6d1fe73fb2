//! Reading the catalogue from the store, when it is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::dictionary::{DatedEntry, Dictionary};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::keys::Definition;
use kith_store::row::{self, Row};
use kith_store::{Key, KeyRange, ReadError, Store, Value};

use super::chain::audit_head;
use super::publishers::{HighestVersionRow, LeftSignatureRow, PublisherRow, Publishers, SignaturePolicyRow};
use super::tracking::TrackingPlanRow;
use super::undo::UndoRow;
use super::{
    AudienceRow, CatalogueError, CounterRow, DictionaryRow, FitRow, IdentityRulesRow, InstallationRow, PluginRow,
    RecordRulesRow, SUPPRESSIONS, WorkspaceRow, WorkspaceTables, of_installation,
};

/// How many rows are read at once.
const SCAN_ROWS: usize = 512;

/// All rows of a range.
pub(super) fn scan_all(store: &dyn Store, range: KeyRange) -> Result<Vec<(Key, Value)>, ReadError> {
    let (mut range, mut rows) = (range, Vec::new());
    loop {
        let page = store.scan(&range, SCAN_ROWS)?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(rows),
        }
    }
}

/// How many rows a range has.
pub(super) fn count_rows(store: &dyn Store, range: KeyRange) -> Result<u32, ReadError> {
    let (mut range, mut rows) = (range, 0_u32);
    loop {
        let page = store.scan(&range, SCAN_ROWS)?;
        rows = rows.saturating_add(u32::try_from(page.rows.len()).unwrap_or(u32::MAX));
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(rows),
        }
    }
}

/// All rows of one kind, each with what its key says.
fn raw_rows(
    store: &dyn Store,
    workspace: WorkspaceId,
    kind: Definition,
) -> Result<Vec<(Vec<u8>, Value)>, CatalogueError> {
    let prefix = Key::definitions(workspace, kind);
    let rows = scan_all(store, prefix.range())?;
    Ok(rows.into_iter().map(|(key, value)| (key.strip(&prefix).unwrap_or_default().to_vec(), value)).collect())
}

pub(super) fn rows_of<R: Row>(
    store: &dyn Store,
    workspace: WorkspaceId,
    kind: Definition,
) -> Result<Vec<(Vec<u8>, R)>, CatalogueError> {
    let rows = raw_rows(store, workspace, kind)?;
    rows.into_iter().map(|(name, value)| Ok((name, row::decode(&value)?))).collect()
}

fn number(bytes: &[u8], what: &'static str) -> Result<(u32, Vec<u8>), CatalogueError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(CatalogueError::Key { what })?;
    Ok((u32::from_be_bytes(*number), rest.to_vec()))
}

pub(super) fn counters(store: &dyn Store, workspace: WorkspaceId) -> Result<BTreeMap<String, u32>, CatalogueError> {
    let rows = rows_of(store, workspace, Definition::Counter)?.into_iter();
    let counters = rows.map(|(name, CounterRow(counted))| {
        let name = String::from_utf8(name).map_err(|_| CatalogueError::Key { what: "counter" })?;
        Ok((name, counted))
    });
    counters.collect()
}

/// Read one workspace.
pub(super) fn load(store: &dyn Store, row: WorkspaceRow) -> Result<WorkspaceTables, CatalogueError> {
    let workspace = row.id;
    let mut tables = WorkspaceTables::empty(row);
    for (_, row) in rows_of::<PluginRow>(store, workspace, Definition::Plugin)? {
        let key = (row.manifest.id.clone(), row.manifest.version.clone());
        tables.plugins.insert(key, Arc::new(row));
    }
    for (_, row) in rows_of::<InstallationRow>(store, workspace, Definition::Installation)? {
        tables.installations.insert(row.id, Arc::new(row));
    }
    for (_, row) in rows_of::<AudienceRow>(store, workspace, Definition::Audience)? {
        let those = if row.removed_at.is_some() { &mut tables.removed_audiences } else { &mut tables.audiences };
        those.insert(row.audience.id, Arc::new(row.audience));
    }
    for (_, row) in rows_of::<FitRow>(store, workspace, Definition::Fit)? {
        tables.fits.insert((row.installation, row.version), Arc::new(row));
    }
    for (name, sealed) in raw_rows(store, workspace, Definition::Secret)? {
        let (installation, name) = number(&name, "secret")?;
        let name = String::from_utf8(name).map_err(|_| CatalogueError::Key { what: "secret" })?;
        tables.secrets.insert((InstallationId(installation), name), sealed);
    }
    for (name, sealed) in raw_rows(store, workspace, Definition::SealedConfig)? {
        let (installation, _) = number(&name, "unshown configuration")?;
        tables.sealed_configs.insert(InstallationId(installation), sealed);
    }
    let rules = rows_of::<IdentityRulesRow>(store, workspace, Definition::IdentityRules)?.pop();
    tables.identity_rules = rules.map(|(_, IdentityRulesRow(rules))| Arc::new(rules));
    for (_, row) in rows_of::<TrackingPlanRow>(store, workspace, Definition::TrackingPlan)? {
        tables.tracking.insert(row.name.to_string(), Arc::new(row));
    }
    for (_, row) in rows_of::<UndoRow>(store, workspace, Definition::Undo)? {
        tables.undos.insert((row.installation, row.digest.clone()), Arc::new(row));
    }
    let mut dictionary = Dictionary::default();
    for (_, row) in rows_of::<DictionaryRow>(store, workspace, Definition::DictionaryEntry)? {
        dictionary.put(row.subject, DatedEntry { entry: row.entry, changed_at: row.changed_at });
    }
    tables.dictionary = Arc::new(dictionary);
    let rules = rows_of::<RecordRulesRow>(store, workspace, Definition::RecordRules)?.pop();
    tables.record_rules = rules.map_or_else(Arc::default, |(_, RecordRulesRow(rules))| Arc::new(rules));
    tables.counters = counters(store, workspace)?;
    if !tables.counters.contains_key(SUPPRESSIONS) {
        // A release before did not count them.
        let kept = count_rows(store, Key::suppressions(workspace).range())?;
        tables.counters.insert(SUPPRESSIONS.to_owned(), kept);
    }
    tables.audit_head = audit_head(store, workspace)?;
    load_trust(store, &mut tables)?;
    let in_use: Vec<(InstallationId, u32)> =
        tables.installed().filter_map(|row| row.fit.map(|fit| (row.id, fit))).collect();
    for (id, fit) in in_use {
        let name = of_installation(id, &fit.to_be_bytes());
        let key = Key::definition(workspace, Definition::FittedState, &name);
        let state = store.get(&[key])?.pop().flatten().ok_or(CatalogueError::Key { what: "fitted state" })?;
        tables.states.insert(id, (fit, state));
    }
    Ok(tables)
}

/// The publishers of a workspace, or of the host.
pub(super) fn publishers(store: &dyn Store, workspace: WorkspaceId) -> Result<Publishers, CatalogueError> {
    let rows = rows_of::<PublisherRow>(store, workspace, Definition::Publisher)?;
    Ok(rows.into_iter().map(|(_, row)| (row.name.to_string(), Arc::new(row))).collect())
}

/// Who may sign a workspace's plugins, what is asked of them, and what it has installed.
fn load_trust(store: &dyn Store, tables: &mut WorkspaceTables) -> Result<(), CatalogueError> {
    let workspace = tables.row.id;
    tables.publishers = publishers(store, workspace)?;
    let policy = rows_of::<SignaturePolicyRow>(store, workspace, Definition::SignaturePolicy)?.pop();
    tables.signature_policy = policy.map(|(_, SignaturePolicyRow(policy))| policy).unwrap_or_default();
    for (_, row) in rows_of::<HighestVersionRow>(store, workspace, Definition::HighestVersion)? {
        tables.raise_highest(&row.plugin, &row.version);
    }
    for (_, row) in rows_of::<LeftSignatureRow>(store, workspace, Definition::LeftSignature)? {
        tables.left_signatures.insert(row.digest.clone(), Arc::new(row));
    }
    // A release before did not write it down.
    let installed: Vec<Arc<InstallationRow>> = tables.installations.values().cloned().collect();
    for row in installed {
        tables.raise_highest(&row.plugin, &row.version);
    }
    Ok(())
}
