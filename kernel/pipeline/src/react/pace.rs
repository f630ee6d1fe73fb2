//! When a workspace's next pass begins.

use std::time::Duration;

use super::queues::Queue;
use super::reactor::Reactor;
use crate::plan::ModelPlan;
use crate::pool::Turn;

/// How often a workspace with people who wait for a model looks again when nothing wakes it.
const WAITING: Duration = Duration::from_millis(50);

/// A timer is waited for no longer than so at once, because the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// A pass over what came begins this long after the one before ended, or later. Each commit wakes the reactor, and what many small
/// ones bring costs less in one pass, which has one call of each model and one commit. Nobody who waits for an audience notices.
const PACE: Duration = Duration::from_millis(10);

/// What there is to do after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Records that came while it ran, or that it has appended itself.
    News,
    /// What it did not get to.
    Work,
}

impl Reactor {
    /// When to look again, though nothing wakes the reactor.
    pub(super) fn rest(&self, left: Left) -> Turn {
        match left {
            Left::Work => Turn::Again,
            Left::News => Turn::Rest { least: PACE, most: Some(PACE) },
            Left::Nothing if self.read_bytes > 0 => Turn::Rest { least: PACE, most: self.next_look() },
            Left::Nothing => self.next_look().map_or(Turn::Idle, Turn::After),
        }
    }

    /// How long nothing happens by itself; `None` where only a wake brings anything.
    fn next_look(&self) -> Option<Duration> {
        let waits = |model: &ModelPlan| {
            let queue = self.queues.get(&model.installed.id);
            model.installed.activity.is_running() && queue.is_some_and(Queue::waits)
        };
        if self.emissions.waits() || self.compiled.plan.models.iter().any(waits) {
            return Some(WAITING);
        }
        let left_ms = self.next_timer?.0.saturating_sub(self.shared.clock.now().0);
        Some(Duration::from_millis(left_ms.try_into().unwrap_or_default()).clamp(PACE, LONGEST_WAIT))
    }
}
