//! What an installation may do, item by item: by its manifest with the configuration filled in, its grants, the host's
//! ceiling, and what the data dictionary calls sensitive.

use kith_host::{LABEL_ITEM, PolicyItem, SeenSensitive, policy_items};
use kith_model::plugin::Manifest;

use super::{Wiring, inputs, training};
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
        let training = training(row, &plugin.manifest).unwrap_or_else(|_| plugin.manifest.training.clone());
        let of_inputs = inputs.iter().map(|input| (input.name.clone(), input.expression.clone()));
        let of_label = training.iter().map(|training| (LABEL_ITEM.to_owned(), training.label.clone()));
        let sensitive = seen(tables, of_inputs.chain(of_label));
        let manifest = Manifest { inputs, training, ..plugin.manifest.clone() };
        policy_items(&manifest, &row.grants, &self.ceiling, &sensitive)
    }
}

/// What of the sensitive each of the inputs and the label sees.
fn seen(tables: &WorkspaceTables, expressions: impl Iterator<Item = (String, String)>) -> Vec<SeenSensitive> {
    let mut all: Vec<SeenSensitive> = Vec::new();
    for (input, expression) in expressions {
        for (name, _) in sensitive::seen_by(&tables.dictionary, std::iter::once(expression.as_str())) {
            match all.iter_mut().find(|seen| seen.name == name) {
                Some(seen) => seen.inputs.push(input.clone()),
                None => all.push(SeenSensitive { name, inputs: vec![input.clone()] }),
            }
        }
    }
    all
}
