//! Who computes, who waits, and who is told so.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::*;

const WAIT: Duration = Duration::from_secs(20);

fn caller(workspace: u32, installation: u32) -> Caller {
    let (workspace, installation) = (WorkspaceId(workspace), InstallationId(installation));
    Caller { workspace, installation, class: GuestClass::Request, bytes: 1, memory_bytes: 1 }
}

/// A call that tells that it began, and ends when the test says so.
fn held(guests: &Guests, caller: Caller) -> (GuestCall<()>, Receiver<()>, SyncSender<()>) {
    let (began, begins) = sync_channel(1);
    let (let_go, go_on) = sync_channel::<()>(1);
    let work = move || {
        began.send(()).unwrap();
        go_on.recv_timeout(WAIT).unwrap();
    };
    (guests.run(caller, work).unwrap(), begins, let_go)
}

#[test]
fn one_installation_cannot_hold_every_slot() {
    let guests = Guests::with_slots(3, 1_000).unwrap();
    let greedy: Vec<_> = (0..4).map(|_| held(&guests, caller(1, 1))).collect();
    greedy[..2].iter().for_each(|(_, begins, _)| begins.recv_timeout(WAIT).unwrap());
    assert_eq!(guests.run(caller(1, 2), || 7).unwrap().wait(), Ok(7), "of the same workspace");
    assert_eq!(guests.run(caller(2, 1), || 8).unwrap().wait(), Ok(8), "of another");
    assert!(greedy[2..].iter().all(|(_, begins, _)| begins.try_recv().is_err()));
    greedy.iter().for_each(|(_, _, let_go)| let_go.send(()).unwrap());
    greedy.into_iter().for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
    guests.stop();
}

/// A workspace with two models in long fits left no thread to the fit of another.
#[test]
fn a_workspace_has_one_fit_under_way_and_leaves_the_other_threads_to_others() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let fit = |workspace, installation| Caller { class: GuestClass::Fit, ..caller(workspace, installation) };
    let (first, begins, let_go) = held(&guests, fit(1, 1));
    begins.recv_timeout(WAIT).unwrap();
    let (second, second_begins, let_second_go) = held(&guests, fit(1, 2));
    assert_eq!(guests.run(fit(2, 1), || 7).unwrap().wait(), Ok(7), "another workspace's fit");
    let model = Caller { class: GuestClass::Model, ..caller(1, 1) };
    assert_eq!(guests.run(model, || 8).unwrap().wait(), Ok(8), "the same model's values");
    assert!(second_begins.try_recv().is_err(), "the second of the workspace waits for the first");
    let_go.send(()).unwrap();
    second_begins.recv_timeout(WAIT).unwrap();
    let_second_go.send(()).unwrap();
    assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(())));
    guests.stop();
}

#[test]
fn who_has_enough_waiting_is_told_at_once_and_workspaces_take_turns() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let (blocked, begins, let_go) = held(&guests, caller(1, 1));
    begins.recv_timeout(WAIT).unwrap();
    let (other, begins, let_other_go) = held(&guests, caller(3, 1));
    begins.recv_timeout(WAIT).unwrap();
    let (tell, order) = sync_channel(256);
    let call = |workspace| {
        let tell = tell.clone();
        guests.run(caller(workspace, 1), move || tell.send(workspace).unwrap())
    };
    let waiting: Vec<_> = std::iter::from_fn(|| call(1).ok()).take(1_000).collect();
    assert_eq!(waiting.len() as u64, table::GUEST_CALLS_WAITING.default);
    let late: Vec<_> = (0..2).map(|_| call(2).unwrap()).collect();
    let large = Caller { bytes: 128 << 20, ..caller(2, 1) };
    assert!(guests.run(large, || ()).is_err(), "what waits is bounded in bytes");
    let_other_go.send(()).unwrap();
    late.into_iter().for_each(|call| assert_eq!(call.wait(), Ok(())));
    let_go.send(()).unwrap();
    waiting.into_iter().for_each(|call| assert_eq!(call.wait(), Ok(())));
    assert_eq!((blocked.wait(), other.wait()), (Ok(()), Ok(())));
    let order: Vec<u32> = order.try_iter().collect();
    assert!(order.iter().rposition(|workspace| *workspace == 2) <= Some(4), "{order:?}");
    guests.stop();
}

#[test]
fn inputs_that_wait_have_a_budget_each_and_together() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let blocked = [held(&guests, caller(1, 1)), held(&guests, caller(3, 1))];
    blocked.iter().for_each(|(_, begins, _)| begins.recv_timeout(WAIT).unwrap());
    let input = |workspace, bytes| guests.run(Caller { bytes, ..caller(workspace, 1) }, || ());
    let ended = |workspace| input(workspace, 1).err().map(|exhausted| exhausted.budget.name);
    let all = usize::try_from(table::GUEST_INPUT_WAITING.default).unwrap();
    let first = input(1, all).unwrap();
    assert_eq!(ended(1), Some("guest-input-waiting"));
    let second = input(2, all).unwrap();
    assert_eq!(ended(4), Some("host-guest-input-waiting"));
    blocked.iter().for_each(|(_, _, let_go)| let_go.send(()).unwrap());
    assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(())));
    assert_eq!(ended(4), None, "what began waits no more");
    blocked.into_iter().for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
    guests.stop();
}

#[test]
fn a_stop_finishes_what_is_under_way_and_tells_those_who_wait() {
    let guests = Arc::new(Guests::with_slots(2, 1_000).unwrap());
    let (under_way, begins, let_go) = held(&guests, caller(1, 1));
    begins.recv_timeout(WAIT).unwrap();
    let waiting = guests.run(caller(1, 1), || ()).unwrap();
    let stopping = std::thread::spawn({
        let guests = Arc::clone(&guests);
        move || guests.stop()
    });
    assert_eq!(waiting.wait(), Err(ExecutorStopped));
    let_go.send(()).unwrap();
    assert_eq!(under_way.wait(), Ok(()));
    stopping.join().unwrap();
    assert_eq!(guests.run(caller(1, 1), || ()).unwrap().wait(), Err(ExecutorStopped));
}

/// What waits may hold another's place, which is given up where it is dropped; and that makes room, with no call that begins.
#[test]
fn a_place_is_given_up_with_what_holds_it_and_makes_room() {
    let guests = Arc::new(Guests::with_slots(2, 1_000).unwrap());
    let (under_way, begins, let_go) = held(&guests, caller(1, 1));
    begins.recv_timeout(WAIT).unwrap();
    let place = guests.place(caller(1, 1), Box::new(|| ())).unwrap();
    let room = guests.room(GuestClass::Request);
    drop(place);
    block_on(async { tokio::time::timeout(WAIT, room).await }).unwrap();
    let inner = guests.place(caller(1, 1), Box::new(|| ())).unwrap();
    let outer = guests.place(caller(1, 1), Box::new(move || drop(inner))).unwrap();
    let last = guests.run(caller(1, 1), || ()).unwrap();
    let stopping = std::thread::spawn({
        let guests = Arc::clone(&guests);
        move || guests.stop()
    });
    assert_eq!(last.wait(), Err(ExecutorStopped));
    let_go.send(()).unwrap();
    stopping.join().unwrap();
    assert_eq!((under_way.wait(), outer.give_up()), (Ok(()), None));
}

/// A call that waits for a peer until the test says so; it tells that it waits, and that it computes again.
fn waiting_for_a_peer(guests: &Guests, caller: Caller) -> (GuestCall<()>, Receiver<()>, SyncSender<()>) {
    let (waits, is_waiting) = sync_channel(1);
    let (answer, answered) = sync_channel::<()>(1);
    let work = move || {
        slot::without(|| {
            waits.send(()).unwrap();
            answered.recv_timeout(WAIT).unwrap();
        });
    };
    (guests.run(caller, work).unwrap(), is_waiting, answer)
}

/// Two installations whose peers never answer held every thread, and everybody's requests waited for half a minute.
#[test]
fn waiting_for_a_peer_holds_no_slot_and_all_who_return_compute_in_turn() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let calls = usize::try_from(table::GUEST_CALLS.default).unwrap();
    let mute: Vec<_> =
        [1, 2].into_iter().flat_map(|installation| vec![caller(1, installation); calls / 2 + 1]).collect();
    let mute: Vec<_> = mute.into_iter().map(|caller| waiting_for_a_peer(&guests, caller)).collect();
    mute.iter().for_each(|(_, is_waiting, _)| is_waiting.recv_timeout(WAIT).unwrap());
    assert_eq!(guests.run(caller(2, 1), || 7).unwrap().wait(), Ok(7), "another workspace's call");
    assert_eq!(guests.run(caller(1, 3), || 8).unwrap().wait(), Ok(8), "another installation's call");
    let (computing, begins, let_go) = held(&guests, caller(1, 1));
    begins.recv_timeout(WAIT).unwrap();
    mute.iter().for_each(|(_, _, answer)| answer.send(()).unwrap());
    let (first, second) = mute.into_iter().partition::<Vec<_>, _>(|(call, ..)| call.place.caller.installation.0 == 1);
    second.into_iter().for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
    let_go.send(()).unwrap();
    first.into_iter().for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
    assert_eq!(computing.wait(), Ok(()));
    guests.stop();
}

#[test]
fn an_installation_has_few_calls_under_way_and_a_workspace_leaves_threads_to_others() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let calls = usize::try_from(table::GUEST_CALLS.default).unwrap();
    let mute: Vec<_> = (0..=calls).map(|_| waiting_for_a_peer(&guests, caller(1, 1))).collect();
    mute[..calls].iter().for_each(|(_, is_waiting, _)| is_waiting.recv_timeout(WAIT).unwrap());
    let others: Vec<_> = (2..6).flat_map(|installation| vec![caller(1, installation); calls]).collect();
    let others: Vec<_> = others.into_iter().map(|caller| waiting_for_a_peer(&guests, caller)).collect();
    assert_eq!(guests.run(caller(2, 1), || 7).unwrap().wait(), Ok(7));
    assert!(mute[calls].1.try_recv().is_err(), "one more than the installation may have");
    let under_way = others.iter().filter(|(_, is_waiting, _)| is_waiting.try_recv().is_ok()).count();
    assert!(calls + under_way <= WAITING_THREADS / 2, "{under_way}");
    // Whoever waits still when the test ends is told so.
    mute.iter().chain(&others).for_each(|(_, _, answer)| answer.send(()).unwrap());
    mute.into_iter().chain(others).for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
    guests.stop();
}

#[test]
fn a_call_waits_until_there_is_memory_for_it_and_who_gives_up_is_told_why() {
    let guests = Guests::with_slots(3, 100).unwrap();
    let large = |workspace| Caller { memory_bytes: 60, ..caller(workspace, 1) };
    let (first, begins, let_go) = held(&guests, large(1));
    begins.recv_timeout(WAIT).unwrap();
    let refused = block_on(guests.run(large(2), || ()).unwrap().finish_soon(Duration::from_millis(1))).unwrap_err();
    assert_eq!((refused.budget.name, refused.limit), ("host-guest-memory", 100));
    let second = guests.run(large(2), || 7).unwrap();
    assert_eq!(guests.run(caller(3, 1), || 8).unwrap().wait(), Ok(8), "a small one has room beside them");
    let_go.send(()).unwrap();
    assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(7)));
    guests.stop();
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

#[cfg(target_os = "linux")]
#[test]
fn every_thread_of_plugins_yields_to_the_kernel() {
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let own = rustix::process::getpriority_process(None).unwrap();
    for (class, nice) in GuestClass::ALL.into_iter().zip([5, 10, 15, 10, 19]) {
        let given =
            guests.run(Caller { class, ..caller(1, 1) }, || rustix::process::getpriority_process(None).unwrap());
        assert_eq!(given.unwrap().wait(), Ok((own + nice).min(crate::yielding::LEAST_PRIORITY)), "{class:?}");
    }
    guests.stop();
}

/// On every processor but one, and with the next call on all of them again.
#[cfg(target_os = "linux")]
#[test]
fn a_call_that_lasts_leaves_a_processor_to_others() {
    use rustix::thread::sched_getaffinity;
    let guests = Guests::with_slots(2, 1_000).unwrap();
    let all = sched_getaffinity(None).unwrap();
    let processors = |lasts: bool| {
        let work = move || {
            // Of several calls of a plugin each may last.
            for _ in 0..if lasts { 3 } else { 0 } {
                kith_model::slot::lasts();
            }
            sched_getaffinity(None).unwrap()
        };
        guests.run(Caller { class: GuestClass::Fit, ..caller(1, 1) }, work).unwrap().wait().unwrap()
    };
    for _ in 0..4 {
        assert_eq!(processors(true).count(), (all.count() - 1).max(1));
        assert_eq!(processors(false), all);
    }
    guests.stop();
}
