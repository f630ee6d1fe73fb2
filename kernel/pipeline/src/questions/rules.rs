//! What rules of records would make of some: nothing is stored.

use kith_model::event::DraftEvent;
use kith_model::id::WorkspaceId;
use kith_model::rules::{RecordRules, Rule};

use super::{QueryError, workspace};
use crate::Kernel;
use crate::accept::rules::{RuledDraft, SourceRules};

/// What rules make of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrial {
    /// What would be checked and stored.
    pub event: DraftEvent,
    /// Which rules touched it.
    pub flags: Vec<String>,
    /// Whether the whole event is dropped.
    pub is_dropped: bool,
}

impl Kernel {
    /// What rules, those in force unless told, make of records of a source. Hashes are made with `key` and not with the
    /// workspace's own: otherwise whoever may try rules could find out by trying whose hash a stored one is.
    pub fn try_rules(
        &self,
        id: WorkspaceId,
        rules: Option<Vec<Rule>>,
        source: &str,
        records: &[DraftEvent],
        key: &[u8; 32],
    ) -> Result<Vec<RuleTrial>, QueryError> {
        let setup = workspace(&self.shared, id)?.compiled.load().setup.clone();
        let present = setup.record_rules.as_ref();
        let proposed = rules.map(|rules| RecordRules { version: present.version.saturating_add(1), rules });
        let rules = SourceRules::of(proposed.as_ref().unwrap_or(present), source, key);
        let tried = records.iter().map(|record| {
            let RuledDraft { event, flags, is_dropped, .. } =
                RuledDraft::new(record, rules.as_ref(), &setup.identity_rules);
            RuleTrial { event: event.into_owned(), flags, is_dropped }
        });
        Ok(tried.collect())
    }
}
