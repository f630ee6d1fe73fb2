//! Calls that find no place: each is told which budget it waited for.

use std::sync::mpsc::channel;

use kith_tests::{Answer, wait_until};
use serde_json::json;

use super::{Attack, Ground, is_exhausted, walk};

pub(super) const MEMORY: &[Attack] = &[("host-guest-memory", host_guest_memory)];

#[test]
fn calls_together_have_an_end_of_memory() {
    walk(&Ground::of_process(&["--guest-memory", "80"]), MEMORY);
}

pub(super) const CALLS: &[Attack] = &[("guest-calls-waiting", guest_calls_waiting), ("guest-calls", guest_calls)];

#[test]
fn an_installation_has_so_many_calls() {
    walk(&Ground::of_process(&[]), CALLS);
}

pub(super) const PLACES: &[Attack] = &[("guest-queue-time", guest_queue_time)];

#[test]
fn nobody_waits_for_a_place_without_end() {
    walk(&Ground::of_process(&[]), PLACES);
}

/// Calls that wait for a peer take all that there is; whoever comes then is told so. As many refusals as are asked for.
fn crowded(ground: &Ground, sources: &[&str], calls: usize, refused: usize) -> Vec<Answer> {
    let limits = json!({ "memory_bytes": 4 << 20, "output_bytes": 1 << 20 });
    let senders: Vec<_> = sources.iter().map(|source| ground.hostile(source, limits.clone())).collect();
    hold(ground, &senders, calls, refused)
}

fn hold(ground: &Ground, senders: &[impl Fn(&str) -> Answer + Sync], calls: usize, refused: usize) -> Vec<Answer> {
    ground.receiver.hold();
    let body = format!("hold 0 http://{}/", ground.receiver.host());
    let (answered, answers) = channel();
    std::thread::scope(|scope| {
        for sender in senders {
            for _ in 0..calls {
                let (body, answered) = (&body, answered.clone());
                scope.spawn(move || answered.send(sender(body)).ok());
            }
        }
        let all = answers.iter().take(refused).collect();
        ground.receiver.release();
        all
    })
}

/// The server has room for one call of the largest kind.
fn host_guest_memory(ground: &Ground) {
    let sender = ground.hostile("greedy", json!({}));
    let refused = hold(ground, &[sender], 2, 1);
    is_exhausted(&refused[0], 429, "host-guest-memory");
}

/// Sixteen are under way and 64 wait: the others are told at once.
fn guest_calls_waiting(ground: &Ground) {
    for refused in crowded(ground, &["busy"], 82, 2) {
        is_exhausted(&refused, 429, "guest-calls-waiting");
    }
}

/// Sixteen are under way: one more waits in vain.
fn guest_calls(ground: &Ground) {
    let refused = crowded(ground, &["full"], 17, 1);
    is_exhausted(&refused[0], 429, "guest-calls");
}

/// Two installations hold what threads their workspace may have, so that the call of a third waits in vain.
fn guest_queue_time(ground: &Ground) {
    let limits = json!({ "memory_bytes": 4 << 20, "output_bytes": 1 << 20 });
    let [one, two, late] = ["one", "two", "late"].map(|source| ground.hostile(source, limits.clone()));
    ground.receiver.hold();
    let body = format!("hold 0 http://{}/", ground.receiver.host());
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| one(&body).is(200));
            scope.spawn(|| two(&body).is(200));
        }
        wait_until("they wait for the peer", || ground.receiver.arrived().len() == 24);
        is_exhausted(&late("ada"), 429, "guest-queue-time");
        ground.receiver.release();
    });
}
