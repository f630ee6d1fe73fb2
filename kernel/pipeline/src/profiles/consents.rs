//! The rows of consents: what one event said and what became of it.
//!
//! The statements of an identity are a ring: a sender who makes very many of them overwrites the oldest. The answers that count
//! lie in the summary with their own evidence, and are overwritten by nothing but newer answers.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::consent::{AnswerOutcome, Giver, Outcome};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Evidence};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use super::facts::each_row;

/// Statements of one identity that are kept.
pub(crate) const MAX_STATEMENTS: u32 = 128;

/// What an event said of consents, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatementRow {
    /// How many came before it.
    pub number: u32,
    pub time: Timestamp,
    pub received_at: Timestamp,
    pub source: InstallationId,
    pub message_id: String,
    pub giver: Giver,
    pub heard: Vec<AnswerOutcome>,
    /// Whom each agreement that counted answers, by its key; see [`Consent::answers`](kith_model::consent::Consent::answers).
    pub answers: BTreeMap<String, Vec<SourceIdentityId>>,
    /// The normal form of the identifier, where it was heard under that too.
    pub form: Option<SourceIdentityId>,
}

/// [`StatementRow`] before it was kept whom it answers and where else it was heard.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct StatementRowV1 {
    number: u32,
    time: Timestamp,
    received_at: Timestamp,
    source: InstallationId,
    message_id: String,
    giver: Giver,
    heard: Vec<AnswerOutcome>,
}

impl Row for StatementRow {
    const WHAT: &'static str = "a statement of consent";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<StatementRow, String>> {
        (version == 1).then(|| {
            let StatementRowV1 { number, time, received_at, source, message_id, giver, heard } = read_postcard(body)?;
            let (answers, form) = (BTreeMap::new(), None);
            Ok(StatementRow { number, time, received_at, source, message_id, giver, heard, answers, form })
        })
    }
}

impl StatementRow {
    /// Whether it agreed to a key, and that counted.
    pub(crate) fn agreed_to(&self, key: &str) -> bool {
        let agreed = |answer: &AnswerOutcome| answer.refused.is_none() && answer.outcome == Outcome::Counted;
        self.heard.iter().any(|answer| answer.key == key && agreed(answer))
    }
}

/// The operation that keeps a statement.
pub(crate) fn keep(workspace: WorkspaceId, identity: SourceIdentityId, statement: &StatementRow) -> Operation {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 128")]
    let slot = (statement.number % MAX_STATEMENTS) as u8;
    Operation::Put(Key::statement(workspace, identity, slot), row::encode(statement))
}

/// The statements of an identity that are kept, the oldest first.
pub(crate) fn read_statements(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<Vec<StatementRow>, ReadError> {
    let mut statements: Vec<StatementRow> = Vec::new();
    each_row(store, &Key::statements(workspace, identity), |_, value| {
        statements.push(row::decode(value)?);
        Ok(())
    })?;
    statements.sort_by_key(|statement| statement.number);
    Ok(statements)
}

/// The normal forms under which an identity is heard too, as far as rows say so: those that what it said was heard under when it
/// came, and those that it is a spelling of now or was by earlier rules.
pub(crate) fn forms_of(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<BTreeSet<SourceIdentityId>, ReadError> {
    let mut forms: BTreeSet<SourceIdentityId> =
        read_statements(store, workspace, identity)?.into_iter().filter_map(|statement| statement.form).collect();
    each_row(store, &Key::edges(workspace, identity), |_, value| {
        let Edge { id, .. } = row::decode(value)?;
        let other = if id.low == identity { id.high } else { id.low };
        let is_form = match id.evidence {
            Evidence::Spelling(_) => id.stands_behind() == Some(identity),
            // The form of earlier rules stands behind what is spelled.
            Evidence::Former(_) => id.stands_behind() == Some(other),
            Evidence::Alias | Evidence::SameEvent | Evidence::SameId(_) | Evidence::ByHand(_) => false,
        };
        forms.extend(is_form.then_some(other));
        Ok(())
    })?;
    Ok(forms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_release_before_are_read() {
        let (time, source, message_id) = (Timestamp(5), InstallationId(1), "m".to_owned());
        let before = StatementRowV1 {
            number: 3,
            time,
            received_at: time,
            source,
            message_id: message_id.clone(),
            giver: Giver::MayAgree,
            heard: Vec::new(),
        };
        let mut bytes = vec![1];
        row::write_postcard(&before, &mut bytes);
        let read: StatementRow = row::decode(&bytes).unwrap();
        let (giver, heard, answers, form) = (Giver::MayAgree, Vec::new(), BTreeMap::new(), None);
        let expected =
            StatementRow { number: 3, time, received_at: time, source, message_id, giver, heard, answers, form };
        assert_eq!(read, expected);
    }
}
