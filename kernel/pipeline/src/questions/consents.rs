//! What was said of a person's consents, with its proof, and the identifiers that nothing may be sent to.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::consent::fold::{self, Contributor};
use kith_model::consent::{AnswerOutcome, Giver};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Identifier, Unfit};
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, row};

use super::{QueryError, catalog, page, profile, workspace};
use crate::Kernel;
use crate::deliver::gate;
use crate::profiles::consents::read_statements;
use crate::profiles::facts::{get_one, read_facts_row, read_head};
use crate::profiles::suppressions::{self, ListChanges, SuppressionChange, SuppressionPlace, SuppressionRow};
use crate::views::PageRequest;

/// All that was said of a person's consents.
#[derive(Debug, Clone)]
pub struct ConsentView {
    pub id: ProfileId,
    /// The person's identities, and those beside them that forbid messages.
    pub identifiers: BTreeMap<SourceIdentityId, Identifier>,
    /// What each of them said last of each key; [`fold::explained`] says why an answer counts or not.
    pub contributors: Vec<Contributor>,
    /// Every statement that is kept, the oldest first.
    pub statements: Vec<StatementView>,
    /// Older statements that newer ones took the place of.
    pub overwritten: u64,
    /// Why nothing is computed of the person, if so.
    pub objection: Option<String>,
    /// Why nothing may be sent to one of the identifiers, if so.
    pub suppressed: Option<String>,
}

/// What one event said, and what became of it.
#[derive(Debug, Clone)]
pub struct StatementView {
    pub identity: SourceIdentityId,
    pub time: Timestamp,
    pub received_at: Timestamp,
    pub source: InstallationId,
    pub message_id: String,
    pub giver: Giver,
    pub heard: Vec<AnswerOutcome>,
}

/// A suppressed identifier, by its digest.
#[derive(Debug, Clone)]
pub struct Suppression {
    /// In hexadecimal.
    pub digest: String,
    /// The type of the identifier.
    pub kind: String,
    pub since: Timestamp,
    pub reason: String,
}

impl Kernel {
    /// What was said of a person's consents. Blocks.
    pub fn consents(&self, id: WorkspaceId, profile: ProfileId) -> Result<Option<ConsentView>, QueryError> {
        let (shared, store) = (&self.shared, self.shared.store.as_ref());
        let setup = Arc::clone(&workspace(shared, id)?.compiled.load().setup);
        let by = (id, &setup.realm_key, &setup.identity_rules);
        let Some((profile, members)) = profile::members(shared, id, profile)? else { return Ok(None) };
        let contributors = gate::contributors(store, by, profile)?;
        let (mut statements, mut overwritten) = (Vec::new(), 0);
        for (identity, _) in &members {
            let consents = read_facts_row(store, id, *identity, 0)?.unwrap_or_default().consents;
            let rows = read_statements(store, id, *identity)?;
            overwritten += u64::from(consents.statements).saturating_sub(rows.len() as u64);
            statements.extend(rows.into_iter().map(|row| StatementView {
                identity: *identity,
                time: row.time,
                received_at: row.received_at,
                source: row.source,
                message_id: row.message_id,
                giver: row.giver,
                heard: row.heard,
            }));
        }
        statements.sort_by(|one, other| {
            (one.received_at, one.time, &one.message_id).cmp(&(other.received_at, other.time, &other.message_id))
        });
        let objection = fold::objection(&contributors);
        let mut identifiers: BTreeMap<_, _> =
            members.into_iter().map(|(identity, head)| (identity, head.identifier)).collect();
        for beside in contributors.iter().filter(|contributor| contributor.beside.is_some()) {
            let head = read_head(store, id, beside.identity)?;
            identifiers.extend(head.map(|head| (beside.identity, head.identifier)));
        }
        // Of other users it is their refusals that count here, and not what nothing may be sent to.
        let addresses = contributors.iter().filter(|said| !matches!(said.beside, Some(fold::Bystander::User { .. })));
        let addresses: Vec<_> = addresses.filter_map(|said| identifiers.get(&said.identity).cloned()).collect();
        let suppressed = suppressions::reason(store, by, &addresses)?;
        Ok(Some(ConsentView { id: profile, identifiers, contributors, statements, overwritten, objection, suppressed }))
    }

    /// Whether nothing may be sent to an identifier, and why. Blocks.
    pub fn suppression(&self, id: WorkspaceId, identifier: &Identifier) -> Result<Option<Suppression>, QueryError> {
        let setup = Arc::clone(&workspace(&self.shared, id)?.compiled.load().setup);
        for form in suppressions::sought(identifier, (&setup.realm_key, &setup.identity_rules)) {
            let key = suppressions::key(id, &setup.realm_key, &form);
            if let Some(row) = get_one(self.shared.store.as_ref(), &key)? {
                return Ok(Some(shown(id, &key, row::decode(&row)?)));
            }
        }
        Ok(None)
    }

    /// Why an identifier on the list would keep nothing from anybody, if so: it is none of its type, or of a type that nobody has.
    pub fn unsuppressible(&self, id: WorkspaceId, identifier: &Identifier) -> Result<Option<String>, QueryError> {
        let of = workspace(&self.shared, id)?;
        let setup = Arc::clone(&of.compiled.load().setup);
        match setup.identity_rules.judge(identifier) {
            // What stands for a missing value today may name somebody under other rules.
            Ok(_) | Err(Unfit::Placeholder | Unfit::Blocked) => Ok(catalog::unknown_type(&of, &identifier.kind)),
            Err(unfit) => Ok(Some(format!("it {}", unfit.reason()))),
        }
    }

    /// The suppressed identifiers, each once, a page at a time in the order of their digests. Blocks.
    pub fn suppressions(
        &self,
        id: WorkspaceId,
        page: PageRequest<'_>,
    ) -> Result<(Vec<Suppression>, Option<String>), QueryError> {
        workspace(&self.shared, id)?;
        let (mut items, mut cursor) = (Vec::new(), page.cursor.map(str::to_owned));
        loop {
            let rest = PageRequest { limit: page.limit - items.len(), cursor: cursor.as_deref() };
            let (rows, next) = page::rows(self.shared.store.as_ref(), &Key::suppressions(id), rest)?;
            for (key, row) in &rows {
                let row: SuppressionRow = row::decode(row)?;
                if let SuppressionPlace::Entry(_) = row.place {
                    items.push(shown(id, key, row));
                }
            }
            cursor = next;
            if cursor.is_none() || items.len() == page.limit {
                return Ok((items, cursor));
            }
        }
    }

    /// The steps of a commit that change the list, for whoever writes down who did it.
    pub fn suppression_steps(
        &self,
        id: WorkspaceId,
        identifiers: &[Identifier],
        change: SuppressionChange<'_>,
    ) -> Result<Vec<Operation>, QueryError> {
        let setup = Arc::clone(&workspace(&self.shared, id)?.compiled.load().setup);
        let by = (id, &setup.realm_key, &setup.identity_rules);
        let mut list = ListChanges::new(self.shared.store.as_ref(), by);
        for identifier in identifiers {
            list.change(identifier, change)?;
        }
        Ok(list.steps())
    }
}

fn shown(id: WorkspaceId, key: &Key, row: SuppressionRow) -> Suppression {
    // Behind the workspace lies the shard, which follows from the digest.
    let digest = key.strip(&Key::suppressions(id)).and_then(|rest| rest.get(2..)).unwrap_or_default();
    Suppression { digest: page::to_hex(digest), kind: row.kind, since: row.since, reason: row.reason }
}
