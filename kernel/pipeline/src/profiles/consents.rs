//! The rows of consents: what one event said and what became of it, and the summary's layout of the version before.
//!
//! The statements of an identity are a ring: a sender who makes very many of them overwrites the oldest. The answers that count
//! lie in the summary with their own evidence, and are overwritten by nothing but newer answers.

use kith_model::consent::{Consent, Consents, Giver, Heard};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::profile::Contribution;
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use super::facts::{FactTotals, FactsRow, each_row};
use crate::rows;

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
    pub heard: Vec<Heard>,
}

rows::rows! {
    StatementRow: "a statement of consent", Accept, 1;
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

impl Row for FactsRow {
    const WHAT: &'static str = "a part of an identity's facts";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 3;

    fn before(version: u8, body: &[u8]) -> Option<Result<FactsRow, String>> {
        (version == 2).then(|| read_postcard::<WithoutEvidence>(body).map(FactsRow::from))
    }
}

/// A row of facts of version 2, whose consents had no evidence and were dated up to a day past their receipt.
#[derive(Deserialize)]
struct WithoutEvidence {
    totals: FactTotals,
    is_split: bool,
    consents: BareConsents,
    facts: Contribution,
}

#[derive(Deserialize)]
struct BareConsents {
    all: Option<BareConsent>,
    purposes: std::collections::BTreeMap<String, BareConsent>,
}

#[derive(Deserialize)]
struct BareConsent {
    received_at: Timestamp,
    time: Timestamp,
    refused: Option<String>,
}

impl From<WithoutEvidence> for FactsRow {
    fn from(before: WithoutEvidence) -> FactsRow {
        let WithoutEvidence { totals, is_split, consents, facts } = before;
        let consents = Consents {
            all: consents.all.map(Consent::from),
            purposes: consents.purposes.into_iter().map(|(key, consent)| (key, consent.into())).collect(),
            statements: 0,
        };
        FactsRow { totals, is_split, consents, facts }
    }
}

impl From<BareConsent> for Consent {
    fn from(before: BareConsent) -> Consent {
        let BareConsent { received_at, time, refused } = before;
        // Nobody knows any more where it came from, nor whom it answered: what other identities refused holds.
        Consent {
            received_at,
            time: time.min(received_at),
            refused,
            source: InstallationId(0),
            message_id: String::new(),
            answers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a row as the version before wrote it: its structs had these fields in this order.
    #[derive(Serialize)]
    struct Before<'a> {
        totals: FactTotals,
        is_split: bool,
        all: Option<(i64, i64, Option<&'a str>)>,
        purposes: std::collections::BTreeMap<&'a str, (i64, i64, Option<&'a str>)>,
        facts: Contribution,
    }

    #[test]
    fn a_row_of_the_version_before_keeps_its_answers() {
        let before = Before {
            totals: FactTotals { names: 1, bytes: 9 },
            is_split: false,
            all: Some((5, 90_000_000, Some("false"))),
            purposes: [("news", (7, 6, None))].into(),
            facts: Contribution::default(),
        };
        let mut bytes = vec![2];
        kith_store::row::write_postcard(&before, &mut bytes);
        let read: FactsRow = row::decode(&bytes).unwrap();
        let all = read.consents.all.unwrap();
        assert_eq!((all.received_at, all.time, all.refused.as_deref()), (Timestamp(5), Timestamp(5), Some("false")));
        let news = &read.consents.purposes["news"];
        assert_eq!((news.received_at, news.time, &news.refused), (Timestamp(7), Timestamp(6), &None));
        assert_eq!(read.totals.bytes, 9);
    }
}
