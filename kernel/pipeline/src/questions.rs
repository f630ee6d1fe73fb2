//! Reading: one profile, an audience, a count. Everything here blocks on the store and belongs on a blocking thread.
//!
//! A question takes one consistent view of what readers see and works from that: what it answers is exact for the position
//! and the time that it names.

pub(crate) mod audience;
pub(crate) mod catalog;
pub(crate) mod consents;
pub(crate) mod count;
pub(crate) mod events;
pub(crate) mod identity;
pub(crate) mod letters;
pub(crate) mod page;
pub(crate) mod profile;
pub(crate) mod provenance;
pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod taking_back;
pub(crate) mod totals;
pub(crate) mod uncomputed;
pub(crate) mod written;

use std::sync::Arc;

use kith_features::ExpressionError;
use kith_model::id::WorkspaceId;
use kith_store::ReadError;

use crate::shared::{KernelState, Workspace};
use crate::turns::TurnError;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("there is no such workspace")]
    UnknownWorkspace,
    #[error("there is no such audience")]
    UnknownAudience,
    #[error("there is no such installation")]
    UnknownInstallation,
    #[error("the condition cannot be used:\n{0}")]
    Expression(#[from] ExpressionError),
    #[error("`{0}` is not a cursor that this list gave out")]
    Cursor(String),
    #[error(transparent)]
    Turn(#[from] TurnError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] kith_store::CommitError),
    #[error("the change was not kept: {0}")]
    NotKept(Arc<kith_store::CommitError>),
}

pub(crate) fn workspace(shared: &KernelState, workspace: WorkspaceId) -> Result<Arc<Workspace>, QueryError> {
    shared.workspace(workspace).ok_or(QueryError::UnknownWorkspace)
}
