//! Keys of derived rows: what the react stage computed from the facts, and can compute again.

use kith_model::id::{AudienceId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;

use super::{CHUNK, DERIVED, FAULT, Key, LEAVES, PROGRESS, TIMER, from_sortable, sortable};
use crate::KeyRange;

impl Key {
    /// What is computed of one source identity.
    pub fn derived(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(DERIVED, workspace, identity, &[])
    }

    /// The derived rows of a workspace, one for each source identity.
    pub fn derived_rows(workspace: WorkspaceId) -> Key {
        Key::whole(DERIVED, workspace)
    }

    /// The range of [`Key::derived_rows`] cut into `parts` of about the same size, for readers that share the work. The parts
    /// have the bounds of [`Key::people_parts`], so that one reader may walk both.
    pub fn derived_parts(workspace: WorkspaceId, parts: u16) -> Vec<KeyRange> {
        Key::parts(DERIVED, workspace, parts)
    }

    /// The identity of a key made by [`Key::derived`]; `None` for other keys.
    pub fn as_derived(&self) -> Option<SourceIdentityId> {
        self.as_identity(DERIVED).and_then(|(identity, rest)| rest.is_empty().then_some(identity))
    }

    /// The leaf states of one identity, a row for each group of leaves.
    pub fn all_leaves(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(LEAVES, workspace, identity, &[])
    }

    /// The leaf states of one identity and one group.
    pub fn leaves(workspace: WorkspaceId, identity: SourceIdentityId, group: u16) -> Key {
        Key::of_identity(LEAVES, workspace, identity, &[&group.to_be_bytes()])
    }

    /// The identity and the group of a key made by [`Key::leaves`]; `None` for other keys.
    pub fn as_leaves(&self) -> Option<(SourceIdentityId, u16)> {
        let (identity, rest) = self.as_identity(LEAVES)?;
        Some((identity, u16::from_be_bytes(rest.try_into().ok()?)))
    }

    /// The chunks of all leaves of one identity.
    pub fn all_chunks(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(CHUNK, workspace, identity, &[])
    }

    /// The chunks of one leaf of one identity, in their order.
    pub fn chunks(workspace: WorkspaceId, identity: SourceIdentityId, leaf: u64) -> Key {
        Key::of_identity(CHUNK, workspace, identity, &[&leaf.to_be_bytes()])
    }

    /// One sealed part of a leaf's state.
    pub fn chunk(workspace: WorkspaceId, identity: SourceIdentityId, leaf: u64, number: u32) -> Key {
        Key::of_identity(CHUNK, workspace, identity, &[&leaf.to_be_bytes(), &number.to_be_bytes()])
    }

    /// The timers of a workspace, the next due first.
    pub fn timers(workspace: WorkspaceId) -> Key {
        Key::new(TIMER, workspace, 0, &[])
    }

    /// One identity's timer.
    pub fn timer(workspace: WorkspaceId, due_at: Timestamp, identity: SourceIdentityId) -> Key {
        Key::new(TIMER, workspace, 0, &[&sortable(due_at), &identity.0])
    }

    /// The time and the identity of a key made by [`Key::timer`]; `None` for other keys.
    pub fn as_timer(&self) -> Option<(Timestamp, SourceIdentityId)> {
        let rest = self.strip(&Key::timers(self.workspace_of()?))?;
        let (time, identity) = rest.split_first_chunk::<8>()?;
        Some((from_sortable(*time), SourceIdentityId(identity.try_into().ok()?)))
    }

    /// How far a part of the react stage has come: a cursor over the feed, or what is ready.
    pub fn progress(workspace: WorkspaceId, name: &str) -> Key {
        Key::new(PROGRESS, workspace, 0, &[name.as_bytes()])
    }

    /// The faults of all conditions of a workspace.
    pub fn faults(workspace: WorkspaceId) -> Key {
        Key::new(FAULT, workspace, 0, &[])
    }

    /// The fault of one condition, which the audience and the condition's token name.
    pub fn fault(workspace: WorkspaceId, audience: AudienceId, token: u64) -> Key {
        Key::new(FAULT, workspace, 0, &[&audience.0.to_be_bytes(), &token.to_be_bytes()])
    }

    /// A chunk of the people of one condition's fault.
    pub fn fault_chunk(workspace: WorkspaceId, audience: AudienceId, token: u64, chunk: u32) -> Key {
        Key::fault(workspace, audience, token).followed_by(&chunk.to_be_bytes())
    }

    /// The audience and the token of a key made by [`Key::fault`] or [`Key::fault_chunk`], of the latter with the chunk; `None`
    /// for other keys.
    pub fn as_fault(&self) -> Option<(AudienceId, u64, Option<u32>)> {
        let rest = self.strip(&Key::faults(self.workspace_of()?))?;
        let (audience, rest) = rest.split_first_chunk::<4>()?;
        let (token, rest) = rest.split_first_chunk::<8>()?;
        let chunk = match rest {
            [] => None,
            chunk => Some(u32::from_be_bytes(chunk.try_into().ok()?)),
        };
        Some((AudienceId(u32::from_be_bytes(*audience)), u64::from_be_bytes(*token), chunk))
    }
}
