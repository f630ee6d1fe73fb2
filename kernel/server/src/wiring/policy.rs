//! What an installation may do, item by item: by its manifest with the configuration filled in, its grants, the host's
//! ceiling, and what the data dictionary calls sensitive.

use kith_host::{PolicyItem, SeenSensitive, policy_items};
use kith_model::plugin::{InputSpec, Manifest};

use super::{Wiring, inputs};
use crate::api::sensitive;
use crate::catalogue::{InstallationRow, PluginRow, WorkspaceTables};

impl Wiring {
    /// Each thing that an installation may do, with who asked, who gave and who decided.
    pub(crate) fn policy_items(
        &self,
        tables: &WorkspaceTables,
        row: &InstallationRow,
        plugin: &PluginRow,
    ) -> Vec<PolicyItem> {
        // Of an installation whose inputs cannot be filled in, which does not run, they are shown as the manifest has them.
        let inputs = inputs(row, &plugin.manifest).unwrap_or_else(|_| plugin.manifest.inputs.clone());
        let sensitive = seen(tables, &inputs);
        let manifest = Manifest { inputs, ..plugin.manifest.clone() };
        policy_items(&manifest, &row.grants, &self.ceiling, &sensitive)
    }
}

/// What of the sensitive each of the inputs sees.
fn seen(tables: &WorkspaceTables, inputs: &[InputSpec]) -> Vec<SeenSensitive> {
    let mut all: Vec<SeenSensitive> = Vec::new();
    for input in inputs {
        for (name, _) in sensitive::seen_by(&tables.dictionary, std::iter::once(input.expression.as_str())) {
            match all.iter_mut().find(|seen| seen.name == name) {
                Some(seen) => seen.inputs.push(input.name.clone()),
                None => all.push(SeenSensitive { name, inputs: vec![input.name.clone()] }),
            }
        }
    }
    all
}
