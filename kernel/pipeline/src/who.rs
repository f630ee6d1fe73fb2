//! The kernel's answers about who is one person.

use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::identity::Identifier;

use crate::questions::{identity, profile};
use crate::views::{MergeView, NotFollowed, Paged, Step};
use crate::{Kernel, QueryError};

impl Kernel {
    /// A page of all evidence that joins nobody. A page may be short, even empty, and still have a next one.
    pub fn not_followed(
        &self,
        workspace: WorkspaceId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Paged<NotFollowed>, QueryError> {
        identity::not_followed(&self.shared, workspace, limit, cursor)
    }

    /// A page of all merges that hold, of `limit` people at most. A page may be empty and still have a next one.
    pub fn merges(
        &self,
        workspace: WorkspaceId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Paged<MergeView>, QueryError> {
        identity::merges(&self.shared, workspace, limit, cursor)
    }

    /// The way of evidence from one identifier of a profile to another identifier; `None` within where they are two people,
    /// and without where there is no such profile.
    pub fn why(
        &self,
        workspace: WorkspaceId,
        id: ProfileId,
        from: Option<&Identifier>,
        with: &Identifier,
    ) -> Result<Option<Option<Vec<Step>>>, QueryError> {
        let Some(current) = profile::profile(&self.shared, workspace, id)? else { return Ok(None) };
        let from = match from {
            Some(from) => profile::find(&self.shared, workspace, from)?,
            None => Some(current.id),
        };
        let with = profile::find(&self.shared, workspace, with)?;
        match (from, with) {
            (Some(from), Some(with)) => identity::why(&self.shared, workspace, from.0, with.0).map(Some),
            _ => Ok(Some(None)),
        }
    }
}
