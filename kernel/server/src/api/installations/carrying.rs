//! Audiences that send through a channel for a purpose that it does not carry: else the gate alone would say so, of each message
//! that would leave.

use std::collections::BTreeSet;

use kith_model::plugin::Purposes;

use crate::catalogue::{InstallationRow, WorkspaceTables};

/// The audiences whose messages a channel refuses for their purpose, as a warning each.
pub(super) fn refused(tables: &WorkspaceTables, row: &InstallationRow) -> BTreeSet<String> {
    let Some(plugin) = tables.plugin_of(row) else { return BTreeSet::new() };
    let purposes = Purposes::of(&plugin.manifest.capabilities, &row.grants);
    let actions = tables.audiences.values().flat_map(|audience| {
        let actions = [&audience.on_enter, &audience.on_exit].into_iter().flatten();
        actions.map(move |action| (&audience.name, action))
    });
    let refused = actions.filter(|(_, action)| action.channel == row.id && !purposes.carries(&action.purpose));
    refused
        .map(|(name, action)| {
            let purpose = &action.purpose;
            format!(
                "audience `{name}` sends for `{purpose}`, which the channel does not carry: its messages are skipped"
            )
        })
        .collect()
}

/// Those of them that a change makes so.
pub(super) fn newly_refused(
    tables: &WorkspaceTables,
    before: &InstallationRow,
    after: &InstallationRow,
) -> Vec<String> {
    let known = refused(tables, before);
    refused(tables, after).into_iter().filter(|warning| !known.contains(warning)).collect()
}
