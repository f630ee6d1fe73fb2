//! The rows of consents: what one event said and what became of it.
//!
//! The statements of an identity are a ring: a sender who makes very many of them overwrites the oldest. The answers that count
//! lie in the summary with their own evidence, and are overwritten by nothing but newer answers.

use kith_model::consent::{AnswerOutcome, Giver};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use super::facts::each_row;
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
    pub heard: Vec<AnswerOutcome>,
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
