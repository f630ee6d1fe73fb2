//! What the kernel makes of one event by itself, before it looks at anything that is stored: for whoever tries a plugin without a
//! server.

use kith_model::event::{DraftEvent, RejectedRecord};
use kith_model::identity::IdentityRules;
use kith_model::plugin::Manifest;

use super::aside::draft;
use super::declared::DeclaredEvents;
use super::rules::RuledDraft;
use super::validate;

/// Why an event that a plugin made would be set aside in a workspace that has neither rules nor plans of its own.
pub fn refusal_of(event: &DraftEvent, manifest: &Manifest) -> Option<RejectedRecord> {
    let ruled = RuledDraft::plain(event);
    let refused = validate::check(&ruled.event, &IdentityRules::default()).err();
    refused.or_else(|| DeclaredEvents::of_manifest(manifest)?.refusal(&ruled.came))
}

/// An event as JSON, as a dead letter keeps one of which nobody knows what the sender wrote.
pub fn event_text(event: &DraftEvent) -> String {
    draft::write(event)
}
