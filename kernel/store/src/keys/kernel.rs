//! Keys of what belongs to the kernel and its admins: definitions, plugins' own state, the audit log, queues and leases.

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;

use super::{
    AUDIT, DEFINITION, JOB_BODY, JOB_CLAIMED, JOB_DUE, JOB_TIME, Key, LEASE, META, PLUGIN_EXPIRY, PLUGIN_STATE, POLL,
    SYSTEM, from_sortable, sortable,
};
use crate::{JobId, QueueId};

/// Below [`Key::plugin_expiries`]: by key, in the order of time, and up to when time has passed.
const BY_KEY: u8 = 0x00;
const BY_TIME: u8 = 0x01;
const PASSED: u8 = 0x02;

/// The kinds of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Definition {
    Workspace = 0x01,
    Credential = 0x02,
    Plugin = 0x03,
    Artifact = 0x04,
    Installation = 0x05,
    Audience = 0x06,
    Fit = 0x07,
    FittedState = 0x08,
    Secret = 0x09,
    Counter = 0x0a,
    ModelVersion = 0x0b,
    AuditHead = 0x0c,
    IdentityRules = 0x0d,
    DictionaryEntry = 0x10,
    RecordRules = 0x11,
    TrackingPlan = 0x12,
    Publisher = 0x13,
    SignaturePolicy = 0x14,
    HighestVersion = 0x15,
    LeftSignature = 0x16,
    Root = 0x17,
    SealedConfig = 0x18,
    Undo = 0x19,
    ShadowReport = 0x1a,
    SealedShadow = 0x1b,
    TakenBack = 0x1c,
    BacktestReport = 0x1d,
}

impl Key {
    /// A row that belongs to the kernel as a whole.
    pub fn meta(name: &str) -> Key {
        Key::new(META, SYSTEM, 0, &[name.as_bytes()])
    }

    /// All definitions of one kind.
    pub fn definitions(workspace: WorkspaceId, kind: Definition) -> Key {
        Key::new(DEFINITION, workspace, 0, &[&[kind as u8]])
    }

    /// One definition, by its number or by a text that names it.
    pub fn definition(workspace: WorkspaceId, kind: Definition, name: &[u8]) -> Key {
        Key::new(DEFINITION, workspace, 0, &[&[kind as u8], name])
    }

    /// A plugin's own key-value state.
    pub fn plugin_state(workspace: WorkspaceId, installation: InstallationId, key: &str) -> Key {
        Key::new(PLUGIN_STATE, workspace, 0, &[&installation.0.to_be_bytes(), key.as_bytes()])
    }

    /// What is kept for a time of a plugin's own state.
    pub fn plugin_expiries(workspace: WorkspaceId, installation: InstallationId) -> Key {
        Key::new(PLUGIN_EXPIRY, workspace, 0, &[&installation.0.to_be_bytes()])
    }

    /// Until when a key of a plugin's own state is kept.
    pub fn plugin_expiry(workspace: WorkspaceId, installation: InstallationId, key: &str) -> Key {
        Key::plugin_expiries(workspace, installation).followed_by(&[BY_KEY]).followed_by(key.as_bytes())
    }

    /// Up to when time has passed for what is kept for a time.
    pub fn plugin_time_passed(workspace: WorkspaceId, installation: InstallationId) -> Key {
        Key::plugin_expiries(workspace, installation).followed_by(&[PASSED])
    }

    /// Where those that expire from `until` on begin, in the order of [`Key::plugin_expiry_at`].
    pub fn plugin_expiries_until(workspace: WorkspaceId, installation: InstallationId, until: Timestamp) -> Key {
        let all = Key::plugin_expiries(workspace, installation);
        all.followed_by(&[BY_TIME]).followed_by(&sortable(until))
    }

    /// A key's place in the order in which they expire.
    pub fn plugin_expiry_at(
        workspace: WorkspaceId,
        installation: InstallationId,
        expires_at: Timestamp,
        key: &str,
    ) -> Key {
        Key::plugin_expiries_until(workspace, installation, expires_at).followed_by(key.as_bytes())
    }

    /// The time and the key that a key of [`Key::plugin_expiry_at`] names.
    pub fn as_plugin_expiry_at(
        &self,
        workspace: WorkspaceId,
        installation: InstallationId,
    ) -> Option<(Timestamp, &str)> {
        let by_time = Key::plugin_expiries(workspace, installation).followed_by(&[BY_TIME]);
        let (time, key) = self.strip(&by_time)?.split_first_chunk::<8>()?;
        Some((from_sortable(*time), str::from_utf8(key).ok()?))
    }

    /// How far an installation has polled.
    pub fn poll(workspace: WorkspaceId, installation: InstallationId) -> Key {
        Key::new(POLL, workspace, 0, &[&installation.0.to_be_bytes()])
    }

    /// The audit log of a workspace, oldest first.
    pub fn audit(workspace: WorkspaceId, at: Option<(Timestamp, u32)>) -> Key {
        let all = Key::new(AUDIT, workspace, 0, &[]);
        at.map_or(all.clone(), |(time, number)| all.followed_by(&sortable(time)).followed_by(&number.to_be_bytes()))
    }

    /// The jobs of a queue, the next due first.
    pub(crate) fn jobs_due(queue: QueueId) -> Key {
        Key::new(JOB_DUE, queue.workspace, 0, &[&queue.queue.to_be_bytes()])
    }

    /// A job's place in the order of [`Key::jobs_due`].
    pub(crate) fn job_due(queue: QueueId, due_at: Timestamp, id: &JobId) -> Key {
        Key::new(JOB_DUE, queue.workspace, 0, &[&queue.queue.to_be_bytes(), &sortable(due_at), id])
    }

    /// The time and the job that a key of [`Key::jobs_due`] names.
    pub(crate) fn as_job_due(&self, queue: QueueId) -> Option<(Timestamp, JobId)> {
        let (time, id) = self.strip(&Key::jobs_due(queue))?.split_first_chunk::<8>()?;
        Some((from_sortable(*time), id.try_into().ok()?))
    }

    /// When a job is due next.
    pub(crate) fn job_time(queue: QueueId, id: &JobId) -> Key {
        Key::new(JOB_TIME, queue.workspace, 0, &[&queue.queue.to_be_bytes(), id])
    }

    /// What a job holds.
    pub(crate) fn job_body(queue: QueueId, id: &JobId) -> Key {
        Key::new(JOB_BODY, queue.workspace, 0, &[&queue.queue.to_be_bytes(), id])
    }

    /// The jobs of a queue that are claimed.
    pub(crate) fn jobs_claimed(queue: QueueId) -> Key {
        Key::new(JOB_CLAIMED, queue.workspace, 0, &[&queue.queue.to_be_bytes()])
    }

    /// A job that is claimed.
    pub(crate) fn job_claimed(queue: QueueId, id: &JobId) -> Key {
        Key::jobs_claimed(queue).followed_by(id)
    }

    /// The job that a key of [`Key::jobs_claimed`] names.
    pub(crate) fn as_job_claimed(&self, queue: QueueId) -> Option<JobId> {
        self.strip(&Key::jobs_claimed(queue))?.try_into().ok()
    }

    /// Who holds a lease.
    pub(crate) fn lease(name: &str) -> Key {
        Key::new(LEASE, SYSTEM, 0, &[name.as_bytes()])
    }
}
