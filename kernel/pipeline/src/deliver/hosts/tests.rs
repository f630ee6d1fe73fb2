//! Circuits, lines and limits of receiving hosts.

use kith_model::sending::MailReply;

use super::*;

const FAILED: Signal = Signal::Failed { pause_ms: None };

fn open(until: i64, failures: u32) -> Circuit {
    Circuit::Open { until: Timestamp(until), failures }
}

#[test]
fn a_circuit_takes_each_signal_as_the_table_says() {
    let now = Timestamp(10_000);
    let closed = |failures| Circuit::Closed { failures };
    let half = |failures| Circuit::HalfOpen { failures };
    let wait = |until| Admission::Wait { until: Timestamp(until) };
    let table = [
        (closed(0), Signal::Asked, closed(0), Admission::Go),
        (closed(4), Signal::Answered, closed(0), Admission::Go),
        (closed(0), FAILED, closed(1), Admission::Go),
        (closed(3), FAILED, closed(4), Admission::Go),
        (closed(4), FAILED, open(11_000, 5), Admission::Go),
        (closed(0), Signal::Failed { pause_ms: Some(7_000) }, open(17_000, 1), Admission::Go),
        (closed(0), Signal::Failed { pause_ms: Some(99_000_000) }, open(310_000, 1), Admission::Go),
        (closed(2), Signal::Abandoned, closed(2), Admission::Go),
        (open(10_001, 5), Signal::Asked, open(10_001, 5), wait(10_001)),
        (open(10_000, 5), Signal::Asked, half(5), Admission::Go),
        (open(10_001, 5), FAILED, open(10_001, 5), Admission::Go),
        (open(10_001, 5), Signal::Answered, closed(0), Admission::Go),
        (half(5), Signal::Asked, half(5), wait(11_000)),
        (half(5), Signal::Answered, closed(0), Admission::Go),
        (half(5), FAILED, open(12_000, 6), Admission::Go),
        (half(6), FAILED, open(14_000, 7), Admission::Go),
        (half(12), FAILED, open(266_000, 13), Admission::Go),
        (half(13), FAILED, open(310_000, 14), Admission::Go),
        (half(u32::MAX), FAILED, open(310_000, u32::MAX), Admission::Go),
        (half(5), Signal::Failed { pause_ms: Some(60_000) }, open(70_000, 6), Admission::Go),
        (half(5), Signal::Abandoned, open(10_000, 5), Admission::Go),
    ];
    for (before, signal, after, admission) in table {
        let transition = step(before, signal, now);
        assert_eq!((transition.circuit, transition.admission), (after, admission), "{before:?} + {signal:?}");
    }
}

#[test]
fn the_end_of_a_request_says_whether_its_host_is_well() {
    let answer = |status, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(InboundResponse { status, headers, body: vec![], truncated: false })
    };
    let text = String::new;
    let table = [
        (answer(200, &[]), Some(Signal::Answered)),
        (answer(404, &[]), Some(Signal::Answered)),
        (answer(410, &[]), Some(Signal::Answered)),
        (answer(429, &[]), Some(FAILED)),
        (answer(429, &[("retry-after", "7")]), Some(Signal::Failed { pause_ms: Some(7_000) })),
        (answer(503, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), Some(FAILED)),
        (answer(500, &[]), Some(FAILED)),
        (Err(SendFailure::Timeout(text())), Some(FAILED)),
        (Err(SendFailure::Connection(text())), Some(FAILED)),
        (Err(SendFailure::TooLarge(text())), Some(Signal::Answered)),
        (Err(SendFailure::Denied(text())), None),
        (Err(SendFailure::Busy(text())), None),
        (Err(SendFailure::Unknown(text())), Some(FAILED)),
    ];
    for (result, expected) in table {
        assert_eq!(signal(&result), expected, "{result:?}");
        assert_eq!(signal_of(&Sent::Request(result)), expected);
    }
    for (code, expected) in [(250, Signal::Answered), (450, Signal::Answered), (550, Signal::Answered), (421, FAILED)] {
        let reply = MailReply { code, enhanced: None, text: text() };
        assert_eq!(signal_of(&Sent::Mail(Ok(reply))), Some(expected), "{code}");
    }
}

#[test]
fn a_line_has_an_end_and_a_closed_host_none() {
    let hosts = Hosts::default();
    let target = Target { workspace: WorkspaceId(1), host: "a.example:443".into() };
    let (channel, now) = (InstallationId(3), Timestamp(0));
    let mut lined_up = Vec::new();
    for _ in 0..6 {
        let Place::InLine { slots, .. } = hosts.line_up(&target, channel, 2, now) else { panic!("no room") };
        lined_up.push(slots);
    }
    assert!(hosts.is_crowded(WorkspaceId(1), channel) && !hosts.is_crowded(WorkspaceId(2), channel));
    let away = |now| match hosts.line_up(&target, channel, 2, now) {
        Place::Away { until } => until,
        Place::InLine { .. } => panic!("there is no room"),
    };
    assert_eq!([away(now), away(now)], [Timestamp(SENT_AWAY_MS); 2]);
    let (first, second) = (slot(lined_up.remove(0)), slot(lined_up.remove(0)));
    assert_eq!(hosts.depart(&target, &first, now), Admission::Go);
    hosts.arrive(&target, first, Some(Signal::Failed { pause_ms: Some(5_000) }), "429", now);
    assert_eq!(away(now), Timestamp(5_000));
    assert_eq!(hosts.depart(&target, &second, now), Admission::Wait { until: Timestamp(5_000) });
    hosts.leave_line(&target, channel);
    let [view] = &hosts.views(WorkspaceId(1))[..] else { panic!("one host") };
    assert_eq!((view.state, view.under_way, view.paused_until), (HostState::Open, 0, Some(Timestamp(5_000))));
    assert_eq!(view.reason.as_deref(), Some("429"));
    let Place::InLine { slots, .. } = hosts.line_up(&target, channel, 2, Timestamp(5_000)) else { panic!("no room") };
    let trial = slot(slots);
    assert_eq!(hosts.depart(&target, &trial, Timestamp(5_000)), Admission::Go, "one tries it out");
    assert_eq!(away(Timestamp(5_000)), Timestamp(5_000 + TRIAL_MS), "the others do not");
    hosts.arrive(&target, trial, None, "", Timestamp(5_000));
    assert_eq!(hosts.views(WorkspaceId(1))[0].state, HostState::Open, "an abandoned trial leaves it open");
}

/// Lower a limit while a line waits: permits that came back once went to the line, and the old limit stayed in force.
#[test]
fn a_lower_limit_holds_although_others_wait() {
    let hosts = Hosts::default();
    let target = Target { workspace: WorkspaceId(1), host: "a.example:443".into() };
    let (channel, now) = (InstallationId(3), Timestamp(0));
    let line_up = |limit| match hosts.line_up(&target, channel, limit, now) {
        Place::InLine { slots, .. } => slots,
        Place::Away { .. } => panic!("no room"),
    };
    let go = |slots| {
        let slot = slot(slots);
        assert_eq!(hosts.depart(&target, &slot, now), Admission::Go);
        slot
    };
    let mut under_way: Vec<Slot> = (0..4).map(|_| go(line_up(4))).collect();
    let slots = line_up(4);
    hosts.limit(WorkspaceId(1), channel, 3);
    let mut waiting = Box::pin(slots.acquire());
    assert!(poll(&mut waiting).is_none());
    let mut end_one = || {
        let slot = under_way.pop().unwrap();
        hosts.arrive(&target, slot, Some(Signal::Answered), "", now);
    };
    end_one();
    assert!(poll(&mut waiting).is_none(), "three are still under way");
    end_one();
    assert!(poll(&mut waiting).is_some(), "the third may go");
}

#[test]
fn channels_that_share_a_host_have_limits_of_their_own_and_the_highest_together() {
    let hosts = Hosts::default();
    let target = Target { workspace: WorkspaceId(1), host: "a.example:443".into() };
    let (small, large, now) = (InstallationId(3), InstallationId(4), Timestamp(0));
    let mut under_way = Vec::new();
    let mut may_go = |channel, limit| {
        let Place::InLine { slots, .. } = hosts.line_up(&target, channel, limit, now) else { return false };
        let Some(slot) = slots.try_acquire() else { return false };
        let admission = hosts.depart(&target, &slot, now);
        under_way.push(slot);
        admission == Admission::Go
    };
    assert!(may_go(small, 1));
    assert!(!may_go(small, 1), "its own limit");
    assert!(may_go(large, 3) && may_go(large, 3));
    assert!(!may_go(large, 3), "three to the host in all");
    let shown: Vec<_> = hosts.views(WorkspaceId(1)).iter().map(|view| (view.channel, view.under_way)).collect();
    assert_eq!(shown, [(small, 1), (large, 2)]);
}

fn send_to(hosts: &Hosts, target: &Target, channel: InstallationId, signal: Option<Signal>, now: Timestamp) {
    let Place::InLine { slots, .. } = hosts.line_up(target, channel, 2, now) else { panic!("no room") };
    let slot = slot(slots);
    assert_eq!(hosts.depart(target, &slot, now), Admission::Go);
    hosts.arrive(target, slot, signal, "", now);
}

/// Hosts that had failed once were never forgotten, so that a channel to ever new dead names filled the memory.
#[test]
fn only_so_many_hosts_are_known_and_those_that_are_left_alone_go_last() {
    let hosts = Hosts::default();
    let channel = InstallationId(3);
    let target = |number: usize| Target { workspace: WorkspaceId(1), host: format!("{number}.example") };
    let now = |number: usize| Timestamp(i64::try_from(number).unwrap());
    let closes = Some(Signal::Failed { pause_ms: Some(MAX_BACK_OFF_MS) });
    let Place::InLine { .. } = hosts.line_up(&target(0), channel, 2, now(0)) else { panic!("no room") };
    for number in 1..table::MAX_HOSTS {
        send_to(&hosts, &target(number), channel, if number == 7 { Some(FAILED) } else { closes }, now(number));
    }
    let known = |number: usize| hosts.table.lock().get(&target(number)).is_some();
    let known_and_open = || {
        let table = hosts.table.lock();
        (table.len(), table.open())
    };
    assert_eq!(known_and_open(), (table::MAX_HOSTS, table::MAX_HOSTS - 2));
    send_to(&hosts, &target(9_000), channel, closes, now(9_000));
    assert!(!known(7) && known(1), "it may be tried at any time");
    send_to(&hosts, &target(9_001), channel, closes, now(9_001));
    assert!(!known(1) && known(2), "idle for longest");
    assert!(known(0), "somebody waits for it");
    assert_eq!(known_and_open(), (table::MAX_HOSTS, table::MAX_HOSTS - 1));
    send_to(&hosts, &target(9_002), channel, Some(Signal::Answered), now(400_000));
    assert_eq!(known_and_open(), (2, 0), "all pauses are over");
}

#[test]
fn a_removed_channel_leaves_neither_its_limit_nor_its_hosts() {
    let hosts = Hosts::default();
    let (large, small, now) = (InstallationId(3), InstallationId(4), Timestamp(0));
    let target = |workspace, host: &str| Target { workspace: WorkspaceId(workspace), host: host.into() };
    let [shared, own, others] = [target(1, "a.example"), target(1, "b.example"), target(2, "a.example")];
    for target in [&shared, &own, &others] {
        send_to(&hosts, target, large, Some(Signal::Failed { pause_ms: Some(1) }), now);
    }
    let Place::Away { .. } = hosts.line_up(&shared, small, 1, now) else { panic!("it is left alone") };
    assert_eq!(hosts.table.lock().open(), 3);
    hosts.forget_channel(WorkspaceId(1), large);
    assert_eq!(hosts.views(WorkspaceId(1)).iter().map(|view| view.channel).collect::<Vec<_>>(), [small]);
    assert_eq!(hosts.table.lock().get(&shared).unwrap().all.limit, 1);
    assert_eq!((hosts.views(WorkspaceId(2)).len(), hosts.table.lock().open()), (1, 2));
}

/// What a future that needs no waking gives at once.
fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    use std::task::{Context, Poll, Waker};
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn slot(slots: Slots) -> Slot {
    slots.try_acquire().expect("a slot is free")
}
