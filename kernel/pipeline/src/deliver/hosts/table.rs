//! The hosts that are known, by workspace and name: a bounded number of them.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;

use super::{Circuit, Host, Target};

/// Hosts of all workspaces: a channel that may reach any host could name ever new ones, and each of them fail.
pub(super) const MAX_HOSTS: usize = 4096;

/// Every host that requests went to of late.
#[derive(Default)]
pub(super) struct Table {
    hosts: BTreeMap<Target, Host>,
    /// How many of them have a circuit that is not closed.
    open: usize,
}

/// Where the hosts of a workspace begin.
fn first_of(workspace: WorkspaceId) -> Target {
    Target { workspace, host: String::new() }
}

impl Table {
    pub(super) fn get(&self, target: &Target) -> Option<&Host> {
        self.hosts.get(target)
    }

    pub(super) fn get_mut(&mut self, target: &Target) -> Option<&mut Host> {
        self.hosts.get_mut(target)
    }

    /// A host, which from now on is known.
    pub(super) fn entry(&mut self, target: &Target, new: impl FnOnce() -> Host, now: Timestamp) -> &mut Host {
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(target) {
            self.make_room(now);
        }
        let host = self.hosts.entry(target.clone()).or_insert_with(new);
        host.used_at = now;
        host
    }

    /// Forget the hosts that are idle and that nobody has to leave alone; where there are none, the one that is idle for longest.
    fn make_room(&mut self, now: Timestamp) {
        self.hosts.retain(|_, host| !host.is_idle() || host.paused_until(now).is_some());
        if self.hosts.len() >= MAX_HOSTS {
            let idle = self.hosts.iter().filter(|(_, host)| host.is_idle());
            let oldest = idle.min_by_key(|(_, host)| host.used_at).map(|(target, _)| target.clone());
            oldest.and_then(|target| self.hosts.remove(&target));
        }
        self.open = self.hosts.values().filter(|host| is_open(host.circuit)).count();
    }

    /// Forget the hosts of a workspace.
    pub(super) fn forget_workspace(&mut self, workspace: WorkspaceId) {
        self.hosts.retain(|target, _| target.workspace != workspace);
        self.open = self.hosts.values().filter(|host| is_open(host.circuit)).count();
    }

    /// Put another circuit in the place of a host's. How many are open now.
    pub(super) fn set_circuit(&mut self, target: &Target, circuit: Circuit) -> usize {
        if let Some(host) = self.hosts.get_mut(target) {
            let before = std::mem::replace(&mut host.circuit, circuit);
            self.open = self.open + usize::from(is_open(circuit)) - usize::from(is_open(before));
        }
        self.open
    }

    /// The hosts of a workspace.
    pub(super) fn of_workspace(&self, workspace: WorkspaceId) -> impl Iterator<Item = (&Target, &Host)> {
        let from_first = self.hosts.range((Included(first_of(workspace)), Unbounded));
        from_first.take_while(move |(target, _)| target.workspace == workspace)
    }

    pub(super) fn of_workspace_mut(&mut self, workspace: WorkspaceId) -> impl Iterator<Item = &mut Host> {
        let from_first = self.hosts.range_mut((Included(first_of(workspace)), Unbounded));
        from_first.take_while(move |(target, _)| target.workspace == workspace).map(|(_, host)| host)
    }

    /// A channel sends nothing any more: its limits hold no longer, and a host that it alone has sent to is forgotten.
    pub(super) fn forget_channel(&mut self, workspace: WorkspaceId, channel: InstallationId) {
        self.of_workspace_mut(workspace).for_each(|host| host.forget(channel));
        let is_used = |host: &Host| !host.channels.is_empty() || !host.is_idle();
        self.hosts.retain(|target, host| target.workspace != workspace || is_used(host));
        self.open = self.hosts.values().filter(|host| is_open(host.circuit)).count();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open
    }
}

fn is_open(circuit: Circuit) -> bool {
    !matches!(circuit, Circuit::Closed { .. })
}
