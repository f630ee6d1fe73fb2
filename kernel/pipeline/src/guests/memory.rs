//! What the calls under way may take in memory together. A call has its share before its sandbox is made, and counts with all
//! that it may take, so that no number of greedy calls passes the whole; a call that waits for its share holds none.

use std::collections::HashMap;

use kith_model::id::WorkspaceId;

use super::{CLASSES, GuestClass};

/// The memory that is held.
pub(super) struct Memory {
    limit: u64,
    held: u64,
    of_class: [u64; CLASSES],
    /// By class as well.
    of_workspace: HashMap<(WorkspaceId, usize), u64>,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Memory {
        Memory { limit, held: 0, of_class: [0; CLASSES], of_workspace: HashMap::new() }
    }

    /// What a call counts with. One that may take more than there is at all runs when nothing else does.
    fn counted(&self, amount: u64) -> u64 {
        amount.min(self.limit)
    }

    /// Whether there is room for a call.
    ///
    /// Requests and the work that nobody waits for leave a quarter to each other, and fits, which last for minutes, a half. Of
    /// what its class may take a workspace gets no more than is left free: alone it comes to about a half, two come to a third
    /// each, so that there is always something for one that has nothing yet.
    pub(super) fn has_room(&self, workspace: WorkspaceId, class: GuestClass, amount: u64) -> bool {
        let amount = self.counted(amount);
        let own = self.of_workspace.get(&(workspace, class as usize)).copied().unwrap_or(0);
        let of = |class: GuestClass| self.of_class[class as usize];
        let background = of(GuestClass::Model) + of(GuestClass::Fit) + of(GuestClass::Channel);
        let (held, most) = match class {
            GuestClass::Request => (of(class), self.limit / 4 * 3),
            // A shadow's memory is none of this, and its calls ask for nothing.
            GuestClass::Model | GuestClass::Channel | GuestClass::Fit | GuestClass::Shadow => {
                (background, self.limit / 4 * 3)
            }
        };
        let is_fair = held == 0 || own + amount <= most.saturating_sub(held);
        let fits = class != GuestClass::Fit || of(class) == 0 || of(class) + amount <= self.limit / 2;
        amount <= self.limit - self.held && is_fair && fits
    }

    /// Take a call's share, where there is room for it.
    pub(super) fn take(&mut self, workspace: WorkspaceId, class: GuestClass, amount: u64) -> bool {
        let has_room = self.has_room(workspace, class, amount);
        if has_room {
            let amount = self.counted(amount);
            self.held += amount;
            self.of_class[class as usize] += amount;
            *self.of_workspace.entry((workspace, class as usize)).or_default() += amount;
            self.show();
        }
        has_room
    }

    /// A call has ended.
    pub(super) fn give_back(&mut self, workspace: WorkspaceId, class: GuestClass, amount: u64) {
        let amount = self.counted(amount);
        debug_assert!(self.held >= amount, "a call gives back what it took");
        self.held -= amount;
        self.of_class[class as usize] -= amount;
        if let Some(own) = self.of_workspace.get_mut(&(workspace, class as usize)) {
            *own -= amount;
            if *own == 0 {
                self.of_workspace.remove(&(workspace, class as usize));
            }
        }
        self.show();
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
    fn show(&self) {
        metrics::gauge!("kith_guest_memory_bytes").set(self.held as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Take as much as there is; how many calls.
    fn fill(memory: &mut Memory, workspace: u32, class: GuestClass, amount: u64) -> usize {
        std::iter::repeat_with(|| memory.take(WorkspaceId(workspace), class, amount)).take_while(|taken| *taken).count()
    }

    #[test]
    fn a_workspace_leaves_something_to_the_next_and_all_stay_within_the_whole() {
        let mut memory = Memory::new(768 * MIB);
        let calls: Vec<usize> =
            (0..6).map(|workspace| fill(&mut memory, workspace, GuestClass::Request, 16 * MIB)).collect();
        assert!((17..=19).contains(&calls[0]), "about a half of three quarters: {calls:?}");
        assert!(calls.iter().take(4).all(|calls| *calls >= 1), "{calls:?}");
        assert!(memory.held <= 768 * MIB);
        assert!(memory.take(WorkspaceId(9), GuestClass::Model, 64 * MIB), "requests leave a part to models");
        for (workspace, calls) in calls.into_iter().enumerate() {
            let workspace = WorkspaceId(u32::try_from(workspace).unwrap());
            (0..calls).for_each(|_| memory.give_back(workspace, GuestClass::Request, 16 * MIB));
        }
        memory.give_back(WorkspaceId(9), GuestClass::Model, 64 * MIB);
        assert_eq!((memory.held, memory.of_class, memory.of_workspace.len()), (0, [0; CLASSES], 0));
    }

    #[test]
    fn the_least_of_all_hosts_has_room_for_a_call_of_each_kind() {
        let mut memory = Memory::new(256 * MIB);
        assert!(memory.take(WorkspaceId(1), GuestClass::Fit, 80 * MIB));
        assert!(!memory.take(WorkspaceId(2), GuestClass::Fit, 80 * MIB), "fits hold what they have for minutes");
        assert!(memory.take(WorkspaceId(1), GuestClass::Model, 80 * MIB));
        assert!(!memory.take(WorkspaceId(2), GuestClass::Channel, 80 * MIB), "this is the requests'");
        assert!(memory.take(WorkspaceId(2), GuestClass::Request, 80 * MIB));
        let mut small = Memory::new(256 * MIB);
        assert!(
            small.take(WorkspaceId(1), GuestClass::Request, 4 << 30),
            "what may take more than there is runs alone"
        );
        assert!(!small.take(WorkspaceId(2), GuestClass::Request, 1));
    }
}
