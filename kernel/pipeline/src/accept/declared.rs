//! The events that a source's plugin may emit, as its manifest names them and its grant leaves them: what an admin agreed to. An
//! event of another name is set aside by itself, because what stands beside it in the request has done nothing wrong.

use std::sync::Arc;

use kith_model::event::{DraftEvent, EventKind, RejectedRecord};
use kith_model::plugin::Manifest;

use crate::setup::Installed;

/// The code of an event that the plugin may not emit.
const UNDECLARED_EVENT: &str = "undeclared-event";

/// Names that the refusal lists; a manifest may have hundreds.
const MAX_LISTED: usize = 12;

/// The names of the `track` events that a source's plugin may emit.
#[derive(Clone)]
pub(crate) struct DeclaredEvents {
    /// The plugin and its version.
    plugin: String,
    names: Arc<[String]>,
}

impl DeclaredEvents {
    /// What the manifest of an installed plugin names; `None` where it may emit any.
    pub(super) fn of(installed: &Installed) -> Option<DeclaredEvents> {
        let names = Arc::clone(installed.emits.as_ref()?);
        Some(DeclaredEvents { plugin: format!("{}@{}", installed.plugin, installed.plugin_version), names })
    }

    /// The same of a plugin that is not installed.
    pub(super) fn of_manifest(manifest: &Manifest) -> Option<DeclaredEvents> {
        let names = Arc::from(manifest.emitted_names()?);
        Some(DeclaredEvents { plugin: format!("{}@{}", manifest.id, manifest.version), names })
    }

    /// The refusal of an event that is not among them, as it came: a rule may have given it another name since.
    pub(crate) fn refusal(&self, came: &DraftEvent) -> Option<RejectedRecord> {
        if came.kind != EventKind::Track || self.names.contains(&came.name) {
            return None;
        }
        let listed: Vec<String> = self.names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
        let more = match self.names.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let message = format!(
            "{} may not emit `{}`: `emits` under [capabilities] of its manifest, less what its grant leaves out, names \
             {named}{more}; a version of the plugin that declares the event, or a wider grant, can take this record",
            self.plugin, came.name
        );
        Some(RejectedRecord { place: 0, code: UNDECLARED_EVENT.to_owned(), message, raw: String::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_event_the_plugin_and_what_it_may_emit() {
        let declared = |names: &[&str]| DeclaredEvents {
            plugin: "acme/shop@1.2.0".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let event = |kind, name: &str| DraftEvent { kind, name: name.to_owned(), ..DraftEvent::default() };
        let two = declared(&["Order", "Refund"]);
        assert_eq!(two.refusal(&event(EventKind::Track, "Refund")), None);
        for kind in [EventKind::Identify, EventKind::Page, EventKind::Group] {
            assert_eq!(two.refusal(&event(kind, "Other")), None, "{kind:?}: nobody builds on its name");
        }
        let refused = two.refusal(&event(EventKind::Track, "order")).unwrap();
        assert_eq!(refused.code, UNDECLARED_EVENT);
        assert!(
            refused.message.starts_with("acme/shop@1.2.0 may not emit `order`: `emits` under [capabilities]")
                && refused.message.contains("names `Order`, `Refund`;"),
            "{}",
            refused.message
        );
        let many: Vec<String> = (0..40).map(|number| format!("E{number}")).collect();
        let many = declared(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(many.refusal(&event(EventKind::Track, "x")).unwrap().message.contains("`E11` and 28 more;"));
    }
}
