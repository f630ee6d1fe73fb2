//! What was said of a person's consents, with its proof, and the identifiers that nothing may be sent to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::change::{Change, SupersededEvent};
use kith_model::consent::fold::{self, Contributor};
use kith_model::consent::{AnswerOutcome, Giver};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Identifier, Unfit};
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, ReadError, Store, row};

use super::page::{self, PAGE_BYTES, Window};
use super::{QueryError, catalog, profile, workspace};
use crate::Kernel;
use crate::deliver::gate;
use crate::profiles::consents::{StatementRow, read_statements};
use crate::profiles::facts::{each_row, get_one, read_facts_row, read_head};
use crate::profiles::suppressions::{self, ListChanges, SuppressionChange, SuppressionPlace, SuppressionRow};
use crate::turns::Patience;
use crate::views::PageRequest;

/// All that was said of a person's consents.
#[derive(Debug, Clone)]
pub struct ConsentView {
    pub id: ProfileId,
    /// The person's identities, and those beside them that forbid messages.
    pub identifiers: BTreeMap<SourceIdentityId, Identifier>,
    /// What each of them said last of each key; [`fold::Explained`] says why an answer counts or not.
    pub contributors: Vec<Contributor>,
    /// The statements that are kept, the oldest first, as many as have room.
    pub statements: Vec<StatementView>,
    /// How many that follow have none, and where the first of them stands.
    pub further_statements: Option<(u64, String)>,
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
    /// Whether the event was taken back since: what it agreed to does not count any more, and what it refused does.
    pub is_taken_back: bool,
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

/// Where a statement stands among those of a person: by its receipt, its time and its event, then by its identity and how many
/// that one made before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StatementPlace(Timestamp, Timestamp, String, SourceIdentityId, u32);

impl StatementPlace {
    fn read(text: &str) -> Option<StatementPlace> {
        let mut parts = text.splitn(5, '.');
        let mut next = || parts.next();
        let (received_at, time) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let identity: ProfileId = next()?.parse().ok()?;
        let number = next()?.parse().ok()?;
        Some(StatementPlace(Timestamp(received_at), Timestamp(time), next()?.to_owned(), identity.0, number))
    }

    fn text(&self) -> String {
        let StatementPlace(received_at, time, message_id, identity, number) = self;
        format!("{}.{}.{identity}.{number}.{message_id}", received_at.0, time.0)
    }
}

/// What the statements of an answer take, about; its answers are as much again.
const STATEMENTS_BYTES: usize = PAGE_BYTES / 2;

/// What a statement takes in an answer, about.
fn statement_bytes(row: &StatementRow) -> usize {
    const STATEMENT_BYTES: usize = 768;
    const ANSWER_BYTES: usize = 192;
    let said = |heard: &AnswerOutcome| heard.key.len() + heard.refused.as_ref().map_or(0, String::len) + ANSWER_BYTES;
    row.message_id.len() + row.heard.iter().map(said).sum::<usize>() + STATEMENT_BYTES
}

impl Kernel {
    /// What was said of a person's consents; statements from a place on that an earlier view named, or from the oldest on. Blocks, and is
    /// given up when whoever asks goes.
    pub fn consents(
        &self,
        id: WorkspaceId,
        profile: ProfileId,
        from: Option<&str>,
        patience: &Patience,
    ) -> Result<Option<ConsentView>, QueryError> {
        let (shared, store) = (&self.shared, self.shared.store.as_ref());
        let setup = Arc::clone(&workspace(shared, id)?.compiled.load().setup);
        let by = (id, &setup.realm_key, &setup.identity_rules);
        let Some((profile, members)) = profile::members(shared, id, profile)? else { return Ok(None) };
        let contributors = gate::contributors(store, by, profile)?;
        let from = from.map(|text| StatementPlace::read(text).ok_or_else(|| page::unknown(text))).transpose()?;
        // Of hundreds of identities the statements have hundreds of MB.
        let (mut statements, mut count, mut overwritten) = (Window::new(from, STATEMENTS_BYTES), 0, 0);
        for (identity, _) in &members {
            patience.go_on()?;
            let consents = read_facts_row(store, id, *identity, 0)?.unwrap_or_default().consents;
            let rows = read_statements(store, id, *identity)?;
            let taken_back = taken_back(store, id, *identity, &rows)?;
            overwritten += u64::from(consents.statements).saturating_sub(rows.len() as u64);
            for row in rows {
                let place = StatementPlace(row.received_at, row.time, row.message_id.clone(), *identity, row.number);
                if !statements.is_behind(&place) {
                    count += 1;
                    let bytes = statement_bytes(&row);
                    statements.put(place, statement(*identity, row, &taken_back), bytes);
                }
            }
        }
        let (statements, next) = statements.into_parts();
        let further_statements = next.map(|next| (count - statements.len() as u64, next.text()));
        let statements = statements.into_values().collect();
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
        Ok(Some(ConsentView {
            id: profile,
            identifiers,
            contributors,
            statements,
            further_statements,
            overwritten,
            objection,
            suppressed,
        }))
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

/// An event as its statement names it.
type StatementName = (InstallationId, String, Timestamp, Timestamp);

/// The events of an identity that were taken back, of those that agreed to something by these statements.
fn taken_back(
    store: &dyn Store,
    id: WorkspaceId,
    identity: SourceIdentityId,
    statements: &[StatementRow],
) -> Result<BTreeSet<StatementName>, ReadError> {
    let mut taken_back = BTreeSet::new();
    let agrees = |row: &StatementRow| row.heard.iter().any(|heard| heard.refused.is_none());
    let agreeing: BTreeSet<&str> =
        statements.iter().filter(|row| agrees(row)).map(|row| row.message_id.as_str()).collect();
    if agreeing.is_empty() {
        return Ok(taken_back);
    }
    each_row(store, &Key::superseded_of(id, identity), |_, value| {
        if let Change::TakenBack(SupersededEvent { event, .. }) = row::decode(value)?
            && agreeing.contains(event.message_id.as_str())
        {
            let time = event.time.min(event.received_at);
            taken_back.insert((event.source, event.message_id, event.received_at, time));
        }
        Ok(())
    })?;
    Ok(taken_back)
}

fn statement(identity: SourceIdentityId, row: StatementRow, taken_back: &BTreeSet<StatementName>) -> StatementView {
    let name = (row.source, row.message_id.clone(), row.received_at, row.time);
    StatementView {
        is_taken_back: taken_back.contains(&name),
        identity,
        time: row.time,
        received_at: row.received_at,
        source: row.source,
        message_id: row.message_id,
        giver: row.giver,
        heard: row.heard,
    }
}

fn shown(id: WorkspaceId, key: &Key, row: SuppressionRow) -> Suppression {
    // Behind the workspace lies the shard, which follows from the digest.
    let digest = key.strip(&Key::suppressions(id)).and_then(|rest| rest.get(2..)).unwrap_or_default();
    Suppression { digest: page::to_hex(digest), kind: row.kind, since: row.since, reason: row.reason }
}
