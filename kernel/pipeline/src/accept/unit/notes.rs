//! What is said of events that were taken, and of which something could not be followed or kept.

use std::borrow::Cow;

use super::EvidenceOutcome;
use crate::profiles::facts::{MAX_TRAIT_BYTES, MAX_TRAIT_NAME_BYTES, MAX_TRAITS};

/// Something about an event that was taken: a code and what a person reads.
pub(super) type Note = (&'static str, String);

pub(super) fn not_followed(followed: EvidenceOutcome) -> Option<Note> {
    match followed {
        // What joins nobody is counted, and found with the profile; one row for each would drown what needs a look.
        EvidenceOutcome::Quietly | EvidenceOutcome::Vetoed(_) => None,
        EvidenceOutcome::Shared(identifier) => {
            let message = format!(
                "shared identifier: `{identifier}` came with more others than one person has; it ties nobody to it that \
                 comes from now on, and where those were too many stronger ones, nobody that came before; this is said once"
            );
            Some(("shared-identifier", message))
        }
        EvidenceOutcome::TooConnected => {
            let message =
                "the identifiers of this event hang together with too many others to be weighed, so it ties nobody";
            Some(("evidence-not-followed", message.to_owned()))
        }
    }
}

pub(super) fn surplus_traits(names: &[Cow<'_, str>]) -> Note {
    let listed: Vec<String> = names.iter().take(8).map(|name| name.chars().take(64).collect()).collect();
    let message = format!(
        "{} traits found no room ({}): one identity has at most {MAX_TRAITS} names of at most {MAX_TRAIT_NAME_BYTES} bytes, \
         {MAX_TRAIT_BYTES} bytes in all",
        names.len(),
        listed.join(", ")
    );
    ("too-many-traits", message)
}
