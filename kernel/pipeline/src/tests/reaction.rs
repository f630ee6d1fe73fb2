//! What follows from events: tags, audiences, messages, and time passing.

use kith_model::audience::{Action, Audience, ConsentBasis, ReEntry, Reach};
use kith_model::delivery::{DeliveryState, Outcome};
use kith_model::event::DraftEvent;
use kith_model::id::InstallationId;
use kith_store::{Key, Operation, Unit};

use super::delivery::watched::Watched;
use super::harness::*;
use crate::{Activity, DeadLetter};

#[test]
fn a_model_runs_exactly_where_its_inputs_changed() {
    let bench = Bench::new(vec![]);
    bench.send([orders("u1", 0, 2), orders("u2", 0, 3)].concat());
    let tag = |user| bench.profile("user_id", user).unwrap().tags["level"].json.clone();
    assert_eq!((tag("u1"), tag("u2")), ("\"few\"".into(), "\"many\"".into()));
    let before = *bench.level.rows.lock();
    bench.send(vec![event("v1", &[("user_id", "u1")], "Product Viewed", START)]);
    bench.settle();
    assert_eq!(*bench.level.rows.lock(), before, "a page view is no input of the model");
    bench.send(orders("u1", 2, 1));
    assert_eq!(tag("u1"), "\"many\"");
    assert_eq!(*bench.level.rows.lock(), before + 1, "only one person's inputs changed");
    let provenance = bench.profile("user_id", "u1").unwrap().tags["level"].provenance.clone();
    assert_eq!((provenance.installation, provenance.digest.as_str()), (InstallationId(2), "digest-of-level"));
}

#[test]
fn an_audience_is_entered_by_an_event_and_left_by_time() {
    let bench =
        Bench::new(vec![audience(1, "events('Product Added', '14d').size() >= 1 && tags.level == 'few'", None)]);
    bench.send(vec![event("m1", &[("user_id", "u1")], "Product Added", START)]);
    bench.settle();
    assert_eq!(bench.size(1), Some(1));
    assert_eq!(bench.count("events('Product Added', '14d').size() >= 1"), 1);
    bench.advance(13 * DAY, || bench.kernel.progress(WORKSPACE).backlog == 0);
    bench.settle();
    assert_eq!(bench.size(1), Some(1), "the fourteenth day is still within the window");
    bench.advance(DAY, || bench.size(1) == Some(0));
    assert_eq!(bench.count("events('Product Added', '14d').size() >= 1"), 0);
    assert_eq!(bench.count("events('Product Added', '15d').size() >= 1"), 1, "no index has it, so history is read");
}

#[test]
fn a_new_expression_is_computed_from_history_and_goes_on_live() {
    let mut bench = Bench::new(vec![]);
    for user in 0..50 {
        bench.send(vec![event(&format!("m{user}"), &[("user_id", &format!("u{user}"))], "Product Added", START)]);
    }
    bench.settle();
    bench.configure(|setup| setup.audiences.push(audience(7, "events('Product Added').size() >= 2", None)));
    for user in 0..20 {
        bench.send(vec![event(&format!("n{user}"), &[("user_id", &format!("u{user}"))], "Product Added", START)]);
    }
    bench.settle();
    assert_eq!(bench.size(7), Some(20), "what came before, while and after it was defined counts once");
    bench.restart();
    bench.settle();
    assert_eq!(bench.size(7), Some(20), "the index is built again from what is stored");
    let page = bench.kernel.audience_members(WORKSPACE, kith_model::id::AudienceId(7), PageRequest::first(15)).unwrap();
    let rest = bench
        .kernel
        .audience_members(
            WORKSPACE,
            kith_model::id::AudienceId(7),
            PageRequest { limit: 15, cursor: page.next.as_deref() },
        )
        .unwrap();
    assert_eq!((page.members.len(), rest.members.len(), rest.next), (15, 5, None));
}

#[test]
fn who_enters_gets_one_message_and_the_receipt_comes_back_as_an_event() {
    let bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused))]);
    bench.send(vec![
        event("m1", &[("user_id", "u1")], "Product Added", START),
        identify("m2", &[("user_id", "u2")], r#"{"consent":{"marketing":false}}"#, START),
        event("m3", &[("user_id", "u2")], "Product Added", START),
    ]);
    bench.settle();
    bench.send(vec![event("m4", &[("user_id", "u1")], "Product Added", START)]);
    bench.settle();
    let sent = bench.postbox.sent.lock().clone();
    assert_eq!(sent.len(), 1, "one for who entered, none for who refused: {sent:?}");
    let profile = bench.profile("user_id", "u1").unwrap();
    let events = bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(10)).unwrap().unwrap().events;
    assert!(events.iter().any(|recorded| recorded.event.name == "Message Delivered"), "{events:?}");
    let deliveries =
        bench.kernel.deliveries(WORKSPACE, &crate::DeliveryFilter::default(), PageRequest::first(10)).unwrap().items;
    let skipped = deliveries.iter().filter(|delivery| matches!(delivery.state, DeliveryState::Skipped { .. })).count();
    let delivered =
        deliveries.iter().filter(|delivery| matches!(delivery.state, DeliveryState::Delivered { .. })).count();
    assert_eq!((delivered, skipped), (1, 1));
}

/// An event that came before its person's windows had moved on, and was computed after, left a member in the audience for good:
/// neither before nor after it, at the later time, did the leaf meet the condition, and the timer that was due was replaced.
#[test]
fn an_event_that_waited_while_a_window_moved_on_lets_nobody_stay() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), vec![audience(1, "events('A', '7d').size() >= 2", None)], |_| {});
    let day = 24 * 3_600_000;
    let of = |user: &str, number: i64, days: i64| {
        event(&format!("{user}-{number}"), &[("user_id", user)], "A", START.plus_ms(days * day))
    };
    let users = ["u1", "u2", "u3"];
    bench.send(users.iter().flat_map(|user| [of(user, 1, 0), of(user, 2, 0)]).collect());
    bench.settle();
    assert_eq!(bench.size(1), Some(3));
    bench.clock.advance_ms(6 * day);
    bench.settle();
    // Accepted, and the process ends before it is computed.
    let setup = bench.setup.lock().clone();
    let promised = Key::promised(WORKSPACE);
    let is_computed = move |unit: &Unit| {
        unit.operations.iter().any(|operation| matches!(operation, Operation::Put(key, _) if *key == promised))
    };
    *store.refuse.lock() = Some(Box::new(is_computed));
    bench.send(users.iter().map(|user| of(user, 3, 5)).collect());
    bench.clock.advance_ms(3 * day);
    bench.kernel.stop();
    *store.refuse.lock() = None;
    bench.restart_with(vec![setup]);
    bench.settle();
    assert_eq!(bench.count("events('A', '7d').size() >= 2"), 0);
    assert_eq!(bench.size(1), Some(0));
}

/// Entries name messages. An audience that never sent any keeps none of them, and one that did keeps them for good, so that no
/// two entries ever get the same name.
#[test]
fn entries_are_counted_from_the_first_action_on() {
    let silent = |condition: &str| audience(1, condition, None);
    let to_members = |condition: &str| {
        let mut audience = audience(1, condition, Some(ConsentBasis::NotRefused));
        let action = audience.on_enter.as_mut().unwrap();
        (action.existing, action.re_entry) = (Reach::Send, ReEntry::Always);
        audience
    };
    let bench = Bench::new(vec![silent("traits.plan == 'team'")]);
    let mut number = 0;
    let mut is_on = |plan: &str| {
        number += 1;
        let traits = format!(r#"{{"plan":"{plan}"}}"#);
        bench.send(vec![identify(&format!("m{number}"), &[("user_id", "u1")], &traits, START.plus_ms(number))]);
        bench.settle();
    };
    let becomes = |audience: Audience| {
        bench.configure(|setup| setup.audiences = vec![audience]);
        bench.settle();
    };
    let key = |bench: &Bench| Key::entries(WORKSPACE, bench.profile("user_id", "u1").unwrap().id.0);
    ["team", "free", "team"].into_iter().for_each(&mut is_on);
    assert_eq!(bench.store.get(&[key(&bench)]).unwrap(), [None]);
    becomes(to_members("traits.plan in ['team']"));
    assert_eq!(bench.postbox.sent.lock().len(), 1, "a member from before");
    ["free", "team"].into_iter().for_each(&mut is_on);
    assert_eq!(bench.postbox.sent.lock().len(), 2, "an entry");
    becomes(Audience { has_acted: true, ..silent("traits.plan == 'team' && true") });
    ["free", "team"].into_iter().for_each(&mut is_on);
    becomes(to_members("traits.plan in ['team', 'teams']"));
    let sent: std::collections::BTreeSet<String> =
        bench.postbox.sent.lock().iter().map(|message| message.id.clone()).collect();
    assert_eq!(sent.len(), 3, "the entry in between has a name of its own: {sent:?}");
}

#[test]
fn a_message_that_fails_for_good_is_a_dead_letter_that_can_be_replayed() {
    let bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused))]);
    *bench.postbox.answer.lock() = Some(Outcome::Permanent { reason: "410 gone".into() });
    bench.send(vec![event("m1", &[("user_id", "u1")], "Product Added", START)]);
    bench.settle();
    let mut letters = Vec::new();
    let mut cursor = None;
    loop {
        let page = bench.kernel.dead_letters(WORKSPACE, PageRequest { limit: 10, cursor: cursor.as_deref() }).unwrap();
        letters.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let [DeadLetter::Delivery(letter)] = letters.as_slice() else { panic!("{letters:?}") };
    *bench.postbox.answer.lock() = None;
    assert_eq!(bench.kernel.replay(WORKSPACE, &letter.id).unwrap(), crate::Replay::Begun);
    // A sender that has not been told yet how the first attempt ended puts the message off for a moment.
    bench.advance(0, || {
        bench.clock.advance_ms(1_000);
        bench.postbox.sent.lock().len() == 2
    });
    bench.settle();
    assert_eq!(bench.kernel.replay(WORKSPACE, &letter.id).unwrap(), crate::Replay::NoLetter, "it is delivered now");
    let ids: Vec<String> = bench.postbox.sent.lock().iter().map(|message| message.id.clone()).collect();
    assert_eq!(ids, [letter.id.clone(), letter.id.clone()], "the receiver sees the same id again");
}

#[test]
fn three_strikes_quarantine_a_model_and_the_old_values_stay() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 1));
    bench.settle();
    *bench.level.fails.lock() = true;
    for user in ["u1", "u2", "u3"] {
        bench.send(orders(user, 1, 1));
        bench.settle();
    }
    assert_eq!(*bench.notes.0.lock(), [InstallationId(2)]);
    assert_eq!(bench.profile("user_id", "u1").unwrap().tags["level"].json, "\"few\"");
    assert_eq!(
        bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items.len(),
        1,
        "one for a kind of fault"
    );
    *bench.level.fails.lock() = false;
    bench.configure(|setup| setup.installations[1].activity = Activity::Held { since: START, why: "off".into() });
    bench.settle();
    bench.configure(|setup| setup.installations[1].activity = Activity::Running);
    bench.send(orders("u1", 2, 2));
    assert_eq!(bench.profile("user_id", "u1").unwrap().tags["level"].json, "\"many\"");
}

#[test]
fn a_slow_model_that_failed_from_the_start_runs_when_it_is_well() {
    let bench = Bench::new(vec![]);
    // So long that no pass waits for it.
    *bench.level.takes.lock() = std::time::Duration::from_millis(60);
    *bench.level.fails.lock() = true;
    for user in ["u1", "u2", "u3"] {
        bench.send(orders(user, 0, 1));
        bench.settle();
    }
    assert_eq!(*bench.notes.0.lock(), [InstallationId(2)]);
    *bench.level.fails.lock() = false;
    bench.configure(|setup| setup.installations[1].activity = Activity::Held { since: START, why: "off".into() });
    bench.settle();
    bench.configure(|setup| {
        setup.installations[1].activity = Activity::Running;
        setup.installations[1].config_hash += 1;
    });
    bench.send(orders("u1", 1, 1));
    assert_eq!(bench.profile("user_id", "u1").unwrap().tags["level"].json, "\"few\"");
    assert_eq!(bench.profile("user_id", "u2").unwrap().tags["level"].json, "\"few\"");
}

#[test]
fn a_merge_sends_no_message_twice_and_moves_the_counts_together() {
    let bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused))]);
    bench.send(vec![
        event("m1", &[("anonymous_id", "a1")], "Product Added", START),
        event("m2", &[("user_id", "u1")], "Product Added", START),
    ]);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(2), 2));
    bench.send(vec![identify("m3", &[("anonymous_id", "a1"), ("user_id", "u1")], "", START)]);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(1), 2));
    assert_eq!(bench.count("events('Product Added').size() == 2"), 1);
}

#[test]
fn a_membership_that_a_merge_brings_outlives_a_restart() {
    let mut bench =
        Bench::new(vec![audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused))]);
    bench.send(vec![event("m1", &[("anonymous_id", "a1")], "Product Viewed", START)]);
    bench.clock.advance_ms(1);
    bench.send(vec![event("m2", &[("user_id", "u1")], "Product Added", START)]);
    bench.settle();
    // The older profile keeps its name and takes over the younger one's membership.
    bench.send(vec![identify("m3", &[("anonymous_id", "a1"), ("user_id", "u1")], "", START)]);
    bench.settle();
    bench.restart();
    bench.send(vec![event("m4", &[("anonymous_id", "a1")], "Product Viewed", START)]);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(1), 1));
}

#[test]
fn a_fit_sees_every_profile() {
    let bench = Bench::new(vec![]);
    bench.send((0..30).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
    bench.settle();
    assert_eq!(bench.fit(LEVEL).unwrap().state, b"30");
    assert!(matches!(bench.fit(SOURCE), Err(crate::FitError::NotAModel { .. })));
}

/// Who signs up comes with two identifiers in one event, as every official client sends them: that is no merge of two people.
#[test]
fn who_is_new_with_two_identifiers_is_written_to() {
    let bench = Bench::new(vec![
        audience(1, "traits.city == 'Oslo'", Some(ConsentBasis::NotRefused)),
        audience(2, "!has(traits.phone)", Some(ConsentBasis::NotRefused)),
    ]);
    let both = [("user_id", "u1"), ("anonymous_id", "a1")];
    bench.send(vec![identify("m1", &both, r#"{"city":"Oslo"}"#, START)]);
    bench.settle();
    assert_eq!(bench.postbox.sent.lock().len(), 2, "somebody who is new");
    let another_device = [("user_id", "u1"), ("anonymous_id", "a2")];
    bench.send(vec![identify("m2", &[("user_id", "u1")], r#"{"city":"Rome"}"#, START.plus_ms(1))]);
    bench.settle();
    bench.send(vec![identify("m3", &another_device, r#"{"city":"Oslo"}"#, START.plus_ms(2))]);
    bench.settle();
    assert_eq!(bench.postbox.sent.lock().len(), 3, "somebody who comes back on another device");
}

/// A model that was removed before it had ever run left what it would have said unknown for good, and nobody was looked at
/// when that became null.
#[test]
fn the_values_of_a_removed_model_that_never_ran_are_null() {
    let bench =
        Bench::over(std::sync::Arc::new(kith_store::memory()), vec![audience(1, "!has(tags.level)", None)], |setup| {
            setup.installations[1].activity = Activity::Held { since: START, why: "off".into() };
        });
    bench.send(orders("u1", 0, 1));
    bench.settle();
    assert_eq!(bench.size(1), Some(0), "it may still say something");
    bench.configure(|setup| setup.installations.retain(|installed| installed.id != InstallationId(2)));
    bench.settle();
    assert_eq!(bench.size(1), Some(1), "it says nothing any more");
}

/// A pass that could not be committed had moved on to the timers after those that it had woken: nobody left by time before
/// another timer was due.
#[test]
fn timers_of_a_pass_that_failed_are_due_again() {
    let store = super::delivery::watched::Watched::new();
    let fresh = audience(1, "events('Product Added', '14d').size() >= 1", None);
    let bench = Bench::over(store.clone(), vec![fresh], |_| {});
    bench.send(vec![event("m1", &[("user_id", "u1")], "Product Added", START)]);
    bench.settle();
    assert_eq!(bench.size(1), Some(1));
    let refused = std::sync::atomic::AtomicBool::new(false);
    *store.refuse.lock() = Some(Box::new(move |_| !refused.swap(true, std::sync::atomic::Ordering::SeqCst)));
    bench.advance(14 * DAY, || bench.size(1) == Some(0));
    assert_eq!(store.refused.lock().len(), 1);
}

/// Who had left an audience, became one person with a member and left again was sent the same message twice under one id.
#[test]
fn who_leaves_again_without_having_entered_again_gets_no_second_message() {
    let mut of_carts = audience(1, "events('Product Added').size() > events('Order Completed').size()", None);
    of_carts.on_exit = audience(1, "true", Some(ConsentBasis::NotRefused)).on_enter;
    let bench = Bench::new(vec![of_carts]);
    let told = |id: &str, user: &str, name: &str| {
        bench.send(vec![event(id, &[("user_id", user)], name, START)]);
        bench.settle();
    };
    told("m1", "u1", "Product Added");
    told("m2", "u1", "Order Completed");
    // The profile that has left is the older one, whose name stays.
    bench.clock.advance_ms(1);
    bench.send(vec![event("m3", &[("anonymous_id", "a1")], "Product Added", START)]);
    bench.settle();
    bench.send(vec![identify("m4", &[("user_id", "u1"), ("anonymous_id", "a1")], "", START)]);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(1), 1));
    told("m5", "u1", "Order Completed");
    assert_eq!(bench.size(1), Some(0));
    let ids: std::collections::BTreeSet<String> = bench.postbox.sent.lock().iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids.len(), bench.postbox.sent.lock().len(), "each id leaves once");
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().delivered, ids.len() as u64);
}

/// What was sealed of a list over a short window stayed for good, and each look at it read all of that.
#[test]
fn sealed_parts_that_no_window_reaches_are_dropped() {
    const LIST: &str = "events('scan', '36h').map(e, e.code)";
    const HOURS: i64 = 10 * 24;
    let bench = Bench::new(vec![audience(1, &format!("'c-239-0' in {LIST}"), None)]);
    for hour in 0..HOURS {
        let scans = (0..20).map(|n| {
            let time = START.plus_ms(hour * DAY / 24);
            let scan = event(&format!("m{hour}-{n}"), &[("device_id", "d1")], "scan", time);
            DraftEvent { properties: serde_json::json!({ "code": format!("c-{hour}-{n}") }).to_string(), ..scan }
        });
        bench.send(scans.collect());
        bench.settle();
        bench.clock.advance_ms(if hour + 1 < HOURS { DAY / 24 } else { 0 });
    }
    let device = bench.profile("device_id", "d1").unwrap();
    let chunks = kith_store::Key::all_chunks(WORKSPACE, device.id.0);
    let kept = bench.store.scan(&chunks.range(), 1_000).unwrap().rows.len();
    // A part of this list has more than a hundred scans; there were 4,800 of them, and a window has 720.
    assert!((2..10).contains(&kept), "{kept} sealed parts are kept");
    assert_eq!(bench.size(1), Some(1));
    assert_eq!(bench.count(&format!("{LIST}.size() == {}", 36 * 20)), 1);
}

/// Between an event and the one in its place everybody was looked at who was met there: whoever was a member left, and came again.
#[test]
fn nobody_leaves_and_comes_again_because_an_event_is_corrected() {
    let mut payers = audience(1, "events('Paid').size() > 0", Some(ConsentBasis::NotRefused));
    let always = |action: Action| Action { re_entry: ReEntry::Always, imports: Reach::Send, ..action };
    payers.on_enter = payers.on_enter.map(always);
    payers.on_exit.clone_from(&payers.on_enter);
    let bench = Bench::new(vec![payers, audience(2, "events('Seen').size() > 0", None)]);
    bench.configure(|setup| setup.installations[0].corrects = true);
    // As many that the feed is cut between two of them, wherever a pass begins.
    let people = 0..2_500_i64;
    let name = |user: i64| if user < 9 { "Paid" } else { "Seen" };
    let came = |days: i64| {
        let time = kith_model::time::Timestamp(START.0 - days * DAY);
        let one = |user| event(&format!("m-{user}"), &[("user_id", &format!("u{user}"))], name(user), time);
        people.clone().map(one).collect::<Vec<_>>()
    };
    bench.send(came(0)[..1_000].to_vec());
    bench.try_import(came(0)[1_000..].to_vec()).unwrap();
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2), bench.postbox.sent.lock().len()), (Some(9), Some(2_491), 9));
    bench.clock.advance_ms(1_000);
    assert_eq!(bench.try_import(came(1)).unwrap().acceptance.corrected, 2_500);
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2), bench.postbox.sent.lock().len()), (Some(9), Some(2_491), 9));
    let is_as_before = |user: i64| {
        let person = bench.profile("user_id", &format!("u{user}")).unwrap();
        person.audiences.values().all(|membership| membership.since == START)
    };
    assert!(people.clone().all(is_as_before), "members as before");
}
