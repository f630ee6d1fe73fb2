//! A batch on which a plugin fails is halved until the messages that it fails on are alone, so that one person's data never
//! costs the others of its batch their message.

use kith_model::delivery::Outcome;
use kith_model::plugin::{FaultOwner, PluginFault};
use kith_model::sending::Step;

/// A plugin that failed on so many single messages and took none is broken; the rest of the batch is not tried.
const MAX_ALONE: usize = 8;

/// One of a plugin's two calls.
type Plugin<'a, T> = dyn Fn(&[T]) -> Result<Vec<Step>, PluginFault> + 'a;

/// What a plugin gave for a batch.
pub(super) struct Steps {
    /// One for each item, in their order.
    pub steps: Vec<Result<Step, PluginFault>>,
    pub verdict: Verdict,
}

/// What the batch says about the plugin.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It took some of the items: where it failed, the item was the reason.
    Works,
    /// It failed on all of them.
    Fails { fault: PluginFault },
}

/// Call a plugin on `items` and see to it that each gets a step or a fault of its own.
pub(super) fn call<T>(items: &[T], plugin: &Plugin<'_, T>) -> Steps {
    let mut halving = Halving { steps: Vec::with_capacity(items.len()), taken: 0, alone: 0, last: None };
    halving.solve(items, plugin);
    let verdict = match halving.last {
        Some(fault) if halving.taken == 0 => Verdict::Fails { fault },
        _ => Verdict::Works,
    };
    debug_assert_eq!(halving.steps.len(), items.len());
    Steps { steps: halving.steps, verdict }
}

struct Halving {
    steps: Vec<Result<Step, PluginFault>>,
    /// Items that it took.
    taken: usize,
    /// Items that it failed on alone.
    alone: usize,
    last: Option<PluginFault>,
}

impl Halving {
    fn solve<T>(&mut self, items: &[T], plugin: &Plugin<'_, T>) {
        if let (Some(fault), true) = (&self.last, self.taken == 0 && self.alone >= MAX_ALONE) {
            let fault = fault.clone();
            self.steps.extend(items.iter().map(|_| Err(fault.clone())));
            return;
        }
        let fault = match plugin(items) {
            Ok(steps) if steps.len() == items.len() => {
                self.taken += items.len();
                self.steps.extend(steps.into_iter().map(Ok));
                return;
            }
            Ok(steps) => PluginFault::InvalidOutput(format!("{} steps for {} messages", steps.len(), items.len())),
            Err(fault) => fault,
        };
        self.last = Some(fault.clone());
        if items.len() < 2 {
            self.alone += items.len();
            self.steps.extend(items.iter().map(|_| Err(fault.clone())));
            return;
        }
        let (one, other) = items.split_at(items.len() / 2);
        self.solve(one, plugin);
        self.solve(other, plugin);
    }
}

/// What a fault means for the message that the plugin failed on: where trying again may help it is tried again, else it is a
/// dead letter that can be replayed.
pub(super) fn outcome_of(fault: &PluginFault) -> Outcome {
    let reason = fault.to_string();
    match fault.owner() {
        FaultOwner::Peer | FaultOwner::Host => Outcome::Retry { after_ms: None, reason },
        FaultOwner::Request | FaultOwner::Plugin => Outcome::Permanent { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn trap() -> PluginFault {
        PluginFault::Trapped { message: "panicked".into(), backtrace: vec![] }
    }

    fn done() -> Step {
        Step::Done(Outcome::Delivered { provider_id: None })
    }

    #[test]
    fn the_items_that_a_plugin_fails_on_are_alone_and_all_others_get_their_step() {
        for bad in [vec![], vec![0], vec![63], vec![5, 6, 40], (0..63).collect::<Vec<_>>()] {
            let items: Vec<usize> = (0..64).collect();
            let plugin = |items: &[usize]| match items.iter().any(|item| bad.contains(item)) {
                true => Err(trap()),
                false => Ok(vec![done(); items.len()]),
            };
            // Where the good one is the very last the plugin counts as broken before it is reached.
            let Steps { steps, verdict } = call(&items, &plugin);
            if bad.len() == 63 {
                assert_eq!(verdict, Verdict::Fails { fault: trap() });
                continue;
            }
            let failed: Vec<usize> = items.iter().copied().filter(|item| steps[*item].is_err()).collect();
            assert_eq!((failed, verdict), (bad.clone(), Verdict::Works));
        }
    }

    #[test]
    fn a_plugin_that_fails_on_everything_is_not_asked_for_each() {
        let calls = Cell::new(0);
        let plugin = |_: &[usize]| {
            calls.set(calls.get() + 1);
            Ok(vec![])
        };
        let Steps { steps, verdict } = call(&(0..64).collect::<Vec<usize>>(), &plugin);
        assert!(steps.iter().all(Result::is_err));
        assert!(matches!(verdict, Verdict::Fails { fault: PluginFault::InvalidOutput(_) }));
        assert!(calls.get() < 32, "{} calls", calls.get());
    }
}
