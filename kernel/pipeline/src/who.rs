//! The kernel's answers about who is one person.

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Identifier, IdentityRules, Veto};
use kith_store::CommitError;

use crate::accept::by_hand::{Statement, StatementOutcome};
use crate::offload;
use crate::questions::{identity, profile};
use crate::turns::Patience;
use crate::views::{DryRun, ListPage, MergeView, NotFollowed, PageRequest, RuleChange, Split, Way};
use crate::{Kernel, QueryError, dry_run};

/// Why what somebody said about who is one person was not done.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("no identifier `{0}`")]
    Unknown(Identifier),
    #[error("`{0}` and `{1}` are the same identifier")]
    Same(Identifier, Identifier),
    #[error("a rule forbids it")]
    Vetoed(Veto),
    #[error("too many identifiers hang together with these for them to be weighed")]
    TooConnected,
    #[error("too much is waiting, or the workspace is being stopped")]
    Unavailable,
    #[error(transparent)]
    Commit(Arc<CommitError>),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Kernel {
    /// Part two identifiers for good: they are two people from now on, whatever evidence says.
    ///
    /// # Errors
    /// [`StatementError`]; nothing has changed.
    pub async fn part(
        &self,
        workspace: WorkspaceId,
        one: &Identifier,
        other: &Identifier,
    ) -> Result<(), StatementError> {
        let (one, other) = self.both(workspace, one, other).await?;
        self.state(workspace, Statement::Part { one, other }).await
    }

    /// Make two identifiers one person; `by` is the id of the key of whoever says so. Where both are of the person, as user ids
    /// are, the loser stands behind the winner and counts no more.
    ///
    /// # Errors
    /// [`StatementError`]; nothing has changed.
    pub async fn join(
        &self,
        workspace: WorkspaceId,
        winner: &Identifier,
        loser: &Identifier,
        by: &str,
    ) -> Result<(), StatementError> {
        let (winner, loser) = self.both(workspace, winner, loser).await?;
        let statement = Statement::Join { winner, loser, by: by.to_owned(), at: self.shared.clock.now() };
        self.state(workspace, statement).await
    }

    async fn both(
        &self,
        workspace: WorkspaceId,
        one: &Identifier,
        other: &Identifier,
    ) -> Result<(SourceIdentityId, SourceIdentityId), StatementError> {
        let (shared, asked) = (Arc::clone(&self.shared), [one.clone(), other.clone()]);
        let found = offload::run(move || {
            let [one, other] = &asked;
            Ok::<_, QueryError>([profile::find(&shared, workspace, one)?, profile::find(&shared, workspace, other)?])
        });
        match found.await? {
            [None, _] => Err(StatementError::Unknown(one.clone())),
            [_, None] => Err(StatementError::Unknown(other.clone())),
            [Some(first), Some(second)] if first == second => Err(StatementError::Same(one.clone(), other.clone())),
            [Some(first), Some(second)] => Ok((first.0, second.0)),
        }
    }

    async fn state(&self, workspace: WorkspaceId, statement: Statement) -> Result<(), StatementError> {
        if self.shared.is_closing() || self.shared.workspace(workspace).is_none_or(|known| known.is_stopping()) {
            return Err(StatementError::Unavailable);
        }
        let answered = self.shared.accept.state(workspace, statement).await;
        match answered.map_err(|_| StatementError::Unavailable)?.map_err(StatementError::Commit)? {
            StatementOutcome::Done => Ok(()),
            StatementOutcome::Vetoed(veto) => Err(StatementError::Vetoed(veto)),
            StatementOutcome::TooConnected => Err(StatementError::TooConnected),
        }
    }

    /// Take a split of two identifiers back: evidence decides again. Whether there was one.
    ///
    /// # Errors
    /// [`StatementError`]; nothing has changed.
    pub async fn unpart(
        &self,
        workspace: WorkspaceId,
        one: &Identifier,
        other: &Identifier,
    ) -> Result<bool, StatementError> {
        let (one, other) = self.both(workspace, one, other).await?;
        let shared = Arc::clone(&self.shared);
        let is_parted = offload::run(move || identity::is_parted(&shared, workspace, one, other)).await?;
        if is_parted {
            self.state(workspace, Statement::Allow { one, other }).await?;
        }
        Ok(is_parted)
    }

    /// A page of the identifiers that somebody parted.
    pub fn splits(&self, workspace: WorkspaceId, page: PageRequest<'_>) -> Result<ListPage<Split>, QueryError> {
        identity::splits(&self.shared, workspace, page)
    }

    /// Begin to find out what a change of the identity rules would do; see [`Kernel::dry_run`].
    ///
    /// # Errors
    /// Dry runs of other workspaces are under way.
    pub fn begin_dry_run(&self, workspace: WorkspaceId, rules: IdentityRules, token: String) -> Result<(), QueryError> {
        dry_run::begin(&self.shared, workspace, rules, token)
    }

    /// The newest dry run, if it is of the change that a [`change_token`](crate::change_token) names.
    pub fn dry_run(&self, workspace: WorkspaceId, token: &str) -> Option<DryRun> {
        dry_run::newest(&self.shared, workspace, token)
    }

    /// The same once it has ended, or as it is after `patience`.
    pub async fn dry_run_within(&self, workspace: WorkspaceId, token: &str, patience: Duration) -> Option<DryRun> {
        dry_run::newest_within(&self.shared, workspace, token, patience).await
    }

    /// Whether history is tied by the identity rules in force.
    pub fn rule_change(&self, workspace: WorkspaceId) -> Result<RuleChange, QueryError> {
        dry_run::change_under_way(&self.shared, workspace)
    }

    /// A page of all evidence that joins nobody. A page may be short, even empty, and still have a next one.
    pub fn not_followed(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<'_>,
    ) -> Result<ListPage<NotFollowed>, QueryError> {
        identity::not_followed(&self.shared, workspace, page)
    }

    /// A page of all merges that hold, each of a number of people. It is given up when whoever asks goes.
    pub fn merges(
        &self,
        workspace: WorkspaceId,
        page: PageRequest<'_>,
        patience: &Patience,
    ) -> Result<ListPage<MergeView>, QueryError> {
        identity::merges(&self.shared, workspace, page, identity::MAX_LOOKED_AT, patience)
    }

    /// The way of evidence from one identifier of a profile to another identifier; `None` within where they are two people,
    /// and without where there is no such profile. It is given up when whoever asks goes.
    pub fn why(
        &self,
        workspace: WorkspaceId,
        id: ProfileId,
        (from, with): (Option<&Identifier>, &Identifier),
        patience: &Patience,
    ) -> Result<Option<Option<Way>>, QueryError> {
        let Some((current, _)) = profile::member_ids(&self.shared, workspace, id)? else { return Ok(None) };
        let from = match from {
            Some(from) => profile::find(&self.shared, workspace, from)?,
            None => Some(current),
        };
        let with = profile::find(&self.shared, workspace, with)?;
        match (from, with) {
            (Some(from), Some(with)) => identity::why(&self.shared, workspace, (from.0, with.0), patience).map(Some),
            _ => Ok(Some(None)),
        }
    }
}
