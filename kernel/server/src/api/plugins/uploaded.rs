//! What an upload makes of the version that is there, if one is: which bytes and which signature it has from then on.

use std::sync::Arc;

use kith_model::budget::{Exhausted, table};
use kith_model::plugin::is_dev;

use crate::api::signatures::{known, signature_state};
use crate::catalogue::publishers::{LeftSignatureRow, SignatureRow};
use crate::catalogue::{Draft, PluginRow, Tables, WorkspaceTables};
use crate::error::ApiError;
use crate::signatures::trust::{SignatureState, judge};

/// What an upload makes of a version.
pub(super) struct Upload {
    pub(super) row: PluginRow,
    /// The version, where it was here already; with other bytes only where it is of the dev channel.
    pub(super) before: Option<Arc<PluginRow>>,
}

/// The row of an upload. Of a version that is here it is that one's, with the signature that came where that takes the place of
/// the present one. The same bytes have the signature that they had before they were deleted, or a revoked one could be left away.
/// Of a dev version with other bytes it is a new one, which stays yanked.
pub(super) fn upload_of(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> Result<Upload, ApiError> {
    let Some(existing) = tables.plugins.get(&(row.manifest.id.clone(), row.manifest.version.clone())) else {
        check_kept(tables.plugins.values().map(|kept| kept.size_bytes), row.size_bytes)?;
        let left = tables.left_signatures.get(&row.digest).map(|left| left.signature.clone());
        let deleted = PluginRow { signature: left, ..row.clone() };
        return Ok(Upload { row: with_signature(all, tables, deleted, row.signature.as_ref()), before: None });
    };
    if existing.digest != row.digest && is_dev(&row.manifest.version) {
        let others = tables.plugins.values().filter(|kept| !Arc::ptr_eq(kept, existing));
        check_kept(others.map(|kept| kept.size_bytes), row.size_bytes)?;
        // A signature that is there is of the other bytes; what these had when they were here before, they have again.
        let left = tables.left_signatures.get(&row.digest).map(|left| left.signature.clone());
        let came = PluginRow { signature: left, yanked: existing.yanked.clone(), ..row.clone() };
        let row = with_signature(all, tables, came, row.signature.as_ref());
        return Ok(Upload { row, before: Some(Arc::clone(existing)) });
    }
    check_same(existing, &row.digest)?;
    let row = with_signature(all, tables, PluginRow::clone(existing), row.signature.as_ref());
    Ok(Upload { row, before: Some(Arc::clone(existing)) })
}

/// A version with the signature that came, where that takes the place of the one that it has.
fn with_signature(
    all: &Tables,
    tables: &WorkspaceTables,
    existing: PluginRow,
    came: Option<&SignatureRow>,
) -> PluginRow {
    match came.filter(|came| takes_place(all, tables, &existing, came)) {
        Some(came) => PluginRow { signature: Some(came.clone()), ..existing },
        None => existing,
    }
}

/// Keep the signature of a version that is deleted. There are as many as versions may be; beyond, the oldest that is not of a
/// revoked key goes.
pub(super) fn leave_signature(all: &Tables, draft: &mut Draft<'_>, row: &PluginRow) {
    let Some(signature) = row.signature.clone() else { return };
    draft.leave_signature(LeftSignatureRow { plugin: row.manifest.id.clone(), digest: row.digest.clone(), signature });
    let left = &draft.tables().left_signatures;
    if left.len() as u64 <= table::PLUGINS_KEPT.default {
        return;
    }
    let oldest = left.values().min_by_key(|left| {
        let state = judge(&left.plugin, Some(&left.signature), known(all, draft.tables())).state;
        (state == SignatureState::Revoked, left.signature.received_at)
    });
    if let Some(digest) = oldest.map(|left| left.digest.clone()) {
        draft.forget_left_signature(&digest);
    }
}

/// Whether a signature that came takes the place of the one that a version has.
pub(super) fn takes_place(all: &Tables, tables: &WorkspaceTables, existing: &PluginRow, came: &SignatureRow) -> bool {
    let state = signature_state(all, tables, existing);
    let is_same = existing.signature.as_ref().is_some_and(|present| present.text == came.text);
    match state {
        SignatureState::Valid => false,
        // Anybody has a key of his own: what a bad one leaves behind is made good by one that holds alone.
        SignatureState::Revoked | SignatureState::Forged => {
            let signed = PluginRow { signature: Some(came.clone()), ..existing.clone() };
            signature_state(all, tables, &signed) == SignatureState::Valid
        }
        // What came again stands otherwise than it did when it came.
        SignatureState::Unchecked | SignatureState::NotYetValid => true,
        SignatureState::Unsigned
        | SignatureState::UnknownKey
        | SignatureState::Expired
        | SignatureState::OtherNamespace => !is_same,
    }
}

/// Whether one more version of so many bytes may be kept beside those that are.
fn check_kept(kept: impl Iterator<Item = u64>, size_bytes: u64) -> Result<(), Exhausted> {
    let (versions, bytes) =
        kept.chain([size_bytes]).fold((0, 0_u64), |(versions, bytes), size| (versions + 1, bytes.saturating_add(size)));
    for (budget, used) in [(&table::PLUGINS_KEPT, versions), (&table::PLUGIN_BYTES_KEPT, bytes)] {
        if used > budget.default {
            return Err(budget.exhausted(budget.default, None));
        }
    }
    Ok(())
}

/// The bytes of a version that is not of the dev channel never change: the same ones again are fine, others are not.
fn check_same(existing: &PluginRow, digest: &str) -> Result<(), ApiError> {
    if existing.digest == digest {
        return Ok(());
    }
    let (id, version) = (&existing.manifest.id, &existing.manifest.version);
    let message = format!(
        "{id} {version} is here already with other bytes; raise the version in plugin.toml, or give it the ending `-dev` while you work on it"
    );
    Err(ApiError::Conflict { code: "version-exists", message })
}

#[cfg(test)]
mod tests {
    use std::iter::{once, repeat_n};

    use super::*;

    #[test]
    fn a_workspace_keeps_so_many_plugins_and_so_many_bytes() {
        let ended = |refused: Result<(), Exhausted>| refused.err().map(|exhausted| exhausted.budget.name);
        assert_eq!(ended(check_kept(repeat_n(1, 499), 1)), None);
        assert_eq!(ended(check_kept(repeat_n(1, 500), 1)), Some("plugins-kept"));
        let most = table::PLUGIN_BYTES_KEPT.default;
        assert_eq!(ended(check_kept(once(most - 1), 1)), None);
        assert_eq!(ended(check_kept(once(most), 1)), Some("plugin-bytes-kept"));
    }
}
