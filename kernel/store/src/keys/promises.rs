//! Keys of promises: what was done or owed to somebody, which no computation over the facts would find again.

use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;

use super::{ASIDE, ASIDE_CONTENT, DELIVERY, DELIVERY_TIME, DELIVERY_TOTALS, EMISSION, EMITTED, ENTRY, Key, sortable};

/// Who moves deliveries from state to state, beside the accept lane, which keeps its own totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMover {
    /// The reactor makes them.
    Reactor,
    /// An admin has them tried again.
    Replay,
    /// A channel's sender.
    Sender(InstallationId),
}

impl Key {
    /// The entries into audiences that one source identity carries: which there were, and which fired.
    pub fn entries(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(ENTRY, workspace, identity, &[])
    }

    /// Up to where a workspace's events have been answered for: what they set off was sent, or was not to be. It lies apart
    /// from the cursor, so that whoever computes again from an older one knows it.
    pub fn promised(workspace: WorkspaceId) -> Key {
        Key::new(ENTRY, workspace, 0, &[])
    }

    /// The deliveries of a workspace.
    pub fn deliveries(workspace: WorkspaceId) -> Key {
        Key::new(DELIVERY, workspace, 0, &[])
    }

    /// One delivery.
    pub fn delivery(workspace: WorkspaceId, id: &[u8; 16]) -> Key {
        Key::new(DELIVERY, workspace, 0, &[id])
    }

    /// The deliveries of a workspace by the time at which they were made, the newest first.
    pub fn deliveries_by_time(workspace: WorkspaceId) -> Key {
        Key::new(DELIVERY_TIME, workspace, 0, &[])
    }

    /// The place of one delivery among those.
    pub fn delivery_by_time(workspace: WorkspaceId, made_at: Timestamp, id: &[u8; 16]) -> Key {
        Key::new(DELIVERY_TIME, workspace, 0, &[&sortable(made_at).map(|byte| !byte), id])
    }

    /// The totals of deliveries, by who moved them.
    pub fn all_delivery_totals(workspace: WorkspaceId) -> Key {
        Key::new(DELIVERY_TOTALS, workspace, 0, &[])
    }

    /// What one of them moved.
    pub fn delivery_totals(workspace: WorkspaceId, mover: DeliveryMover) -> Key {
        let (kind, number) = match mover {
            DeliveryMover::Reactor => (0_u8, 0),
            DeliveryMover::Replay => (1, 0),
            DeliveryMover::Sender(channel) => (2, channel.0),
        };
        Key::new(DELIVERY_TOTALS, workspace, 0, &[&[kind], &number.to_be_bytes()])
    }

    /// What an installation has emitted about one source identity: how much on one day, and behind it what [`Key::emitted`] names.
    pub fn emitted_by(workspace: WorkspaceId, identity: SourceIdentityId, installation: InstallationId) -> Key {
        Key::of_identity(EMITTED, workspace, identity, &[&installation.0.to_be_bytes()])
    }

    /// That an installation has emitted an event about one source identity, by the hash of the event's name and key.
    pub fn emitted(
        workspace: WorkspaceId,
        identity: SourceIdentityId,
        installation: InstallationId,
        event: u64,
    ) -> Key {
        Key::emitted_by(workspace, identity, installation).followed_by(&event.to_be_bytes())
    }

    /// The events of a workspace that were emitted and wait for the accept lane, by installation.
    pub fn emissions(workspace: WorkspaceId) -> Key {
        Key::new(EMISSION, workspace, 0, &[])
    }

    /// The same of one installation, in the order in which they were emitted.
    pub fn emissions_of(workspace: WorkspaceId, installation: InstallationId) -> Key {
        Key::emissions(workspace).followed_by(&installation.0.to_be_bytes())
    }

    /// Those that were emitted with one answer about one person.
    pub fn emission(workspace: WorkspaceId, installation: InstallationId, number: u64) -> Key {
        Key::emissions_of(workspace, installation).followed_by(&number.to_be_bytes())
    }

    /// The installation and the number that a key made by [`Key::emission`] names.
    pub fn as_emission(&self, workspace: WorkspaceId) -> Option<(InstallationId, u64)> {
        let (installation, number) = self.strip(&Key::emissions(workspace))?.split_first_chunk::<4>()?;
        Some((InstallationId(u32::from_be_bytes(*installation)), u64::from_be_bytes(number.try_into().ok()?)))
    }

    /// The dead letter of a record by when it first came and the hash of what it holds and why it was refused.
    pub fn letter(workspace: WorkspaceId, source: InstallationId, at: Timestamp, content: &[u8; 16]) -> Key {
        Key::set_aside(workspace, Some(source)).followed_by(&at.0.to_be_bytes()).followed_by(content)
    }

    /// Where it is written when a letter of some content first came.
    pub fn letter_content(workspace: WorkspaceId, source: InstallationId, content: &[u8]) -> Key {
        Key::new(ASIDE_CONTENT, workspace, 0, &[&source.0.to_be_bytes(), content])
    }

    /// The dead letters of one installation, newest last, or of all. What follows is the time and whatever tells two letters
    /// of one moment apart, all of fixed width.
    pub fn set_aside(workspace: WorkspaceId, installation: Option<InstallationId>) -> Key {
        let all = Key::new(ASIDE, workspace, 0, &[]);
        installation.map_or(all.clone(), |installation| all.followed_by(&installation.0.to_be_bytes()))
    }
}
