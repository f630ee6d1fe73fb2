//! Connectors that poll: when, what is kept of it, and what a stop, a change and a failure leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::budget::table;
use kith_model::event::{DraftEvent, RejectedRecord};
use kith_model::id::InstallationId;
use kith_model::plugin::*;
use kith_model::polling::{PollAnswer, PollError, PollTurn, PolledPage, WantedPage};
use kith_model::rules::{Act, RecordRules, Rule, Target};
use kith_model::sending::{InboundResponse, OutboundRequest, SendFailure, Sending, Transport};
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, Store, Unit};
use parking_lot::Mutex;

use super::delivery::watched::Watched;
use super::harness::*;
use crate::deliver::fetch::{Fetcher, NotNow, fetch};
use crate::poll::memory::Round;
use crate::{Activity, PollEntry, PollFrom, PollView, Polling, Role};

const FEED: InstallationId = InstallationId(5);
const INTERVAL_MS: u64 = 900_000;
const MINUTE: i64 = 60_000;

/// The other side, and the connector for it: records in order, two on a page, the cursor is how many came before.
#[derive(Default)]
struct Feed {
    records: Mutex<Vec<DraftEvent>>,
    rejected: Mutex<Vec<RejectedRecord>>,
    fails: Mutex<Option<PollError>>,
    /// The cursors that were asked for, and since when.
    asked: Mutex<Vec<(Option<String>, Option<Timestamp>)>>,
    /// Who asks for the page behind this cursor waits for the gate.
    gated: Mutex<Option<Option<String>>>,
    gate: Mutex<()>,
    /// Requests that are wanted for a page.
    requests: Mutex<usize>,
    /// It says without end that more is waiting.
    endless: Mutex<bool>,
    /// The same, each page being empty and behind a cursor of its own.
    drifts: Mutex<bool>,
    /// The same, each page having the first record alone, and a cursor of so many bytes; none where there are none.
    overlap_bytes: Mutex<usize>,
    wire: Arc<Wire>,
    /// In place of the wire.
    silent: Option<Arc<Silent>>,
}

/// Answers each request with its URL.
#[derive(Default)]
struct Wire(Mutex<Vec<String>>);

impl Transport for Wire {
    fn target(&self, _: &OutboundRequest) -> Result<String, SendFailure> {
        Ok("other.example:443".to_owned())
    }

    fn send(&self, request: OutboundRequest) -> Sending {
        self.0.lock().push(request.url.clone());
        let body = request.url.into_bytes();
        Box::pin(std::future::ready(Ok(InboundResponse { status: 200, headers: vec![], body, truncated: false })))
    }
}

impl Feed {
    fn of(records: usize) -> Arc<Feed> {
        let feed = Feed::default();
        feed.add(records);
        Arc::new(feed)
    }

    /// So many more records, each of another person.
    fn add(&self, records: usize) {
        let mut all = self.records.lock();
        for number in all.len()..all.len() + records {
            all.push(event(&format!("r{number}"), &[("user_id", &format!("u{number}"))], "Seen", START));
        }
    }

    fn page(&self, wanted: &WantedPage) -> PolledPage {
        let from = wanted.cursor.as_deref().map_or(0, |cursor| String::from_utf8_lossy(cursor).parse().unwrap());
        if *self.drifts.lock() {
            let cursor = (from + 1).to_string().into_bytes();
            return PolledPage { events: vec![], places: vec![], rejected: vec![], cursor, more: true };
        }
        let records = self.records.lock();
        let bytes = *self.overlap_bytes.lock();
        if bytes > 0 {
            let (events, cursor) = (records[..1].to_vec(), format!("{}{}", "0".repeat(bytes), from + 1).into_bytes());
            return PolledPage { events, places: vec![], rejected: vec![], cursor, more: true };
        }
        let to = records.len().min(from + 2);
        PolledPage {
            events: records[from..to].to_vec(),
            places: vec![],
            rejected: std::mem::take(&mut *self.rejected.lock()),
            cursor: to.to_string().into_bytes(),
            more: to < records.len() || *self.endless.lock(),
        }
    }

    fn cursors(&self) -> Vec<Option<String>> {
        self.asked.lock().iter().map(|(cursor, _)| cursor.clone()).collect()
    }
}

impl Connector for Feed {
    fn receive(&self, _: &SourceRequest) -> Result<Received, ReceiveError> {
        Err(ReceiveError::Refused(Refusal { status: 404, code: "no-push".into(), message: "it only polls".into() }))
    }

    fn poll(&self, wanted: &WantedPage) -> Result<PollTurn, PollError> {
        let cursor = wanted.cursor.as_deref().map(|cursor| String::from_utf8_lossy(cursor).into_owned());
        self.asked.lock().push((cursor.clone(), wanted.since));
        if self.gated.lock().as_ref() == Some(&cursor) {
            drop(self.gate.lock());
        }
        if let Some(error) = self.fails.lock().clone() {
            return Err(error);
        }
        match *self.requests.lock() {
            0 => Ok(PollTurn::Page(self.page(wanted))),
            many => {
                let request = |number: usize| OutboundRequest {
                    method: "GET".into(),
                    url: format!("https://other.example/{number}"),
                    resume: Some(number.to_string().into_bytes()),
                    ..OutboundRequest::default()
                };
                Ok(PollTurn::Send((0..many).map(request).collect()))
            }
        }
    }

    fn polled(&self, wanted: &WantedPage, answers: &[PollAnswer]) -> Result<PollTurn, PollError> {
        for (place, answer) in answers.iter().enumerate() {
            let body = &answer.result.as_ref().unwrap().body;
            assert_eq!(String::from_utf8_lossy(body), format!("https://other.example/{place}"));
            assert_eq!((answer.round, answer.resume.clone()), (1, Some(place.to_string().into_bytes())));
        }
        Ok(PollTurn::Page(self.page(wanted)))
    }

    fn transport(&self) -> Option<Arc<dyn Transport>> {
        match &self.silent {
            Some(silent) => Some(silent.clone()),
            None => Some(self.wire.clone()),
        }
    }
}

fn bench(feed: &Arc<Feed>) -> Bench {
    bench_over(Arc::new(kith_store::memory()), feed)
}

fn bench_over(store: Arc<dyn Store>, feed: &Arc<Feed>) -> Bench {
    let role = Role::Connector(feed.clone());
    let polling = Polling { interval_ms: INTERVAL_MS, changed_at: START };
    Bench::over(store, vec![], |setup| {
        let mut installed = installed(FEED.0, "feed", PluginKind::Connector, role);
        installed.poll = Some(polling);
        installed.emits = Some(Arc::from(["Seen".to_owned()]));
        setup.installations.push(installed);
        setup.source_names.insert(FEED, "feed".to_owned());
    })
}

fn polls(bench: &Bench) -> PollView {
    bench.kernel.polls(WORKSPACE, FEED).unwrap()
}

/// Wait for the end of the poll of that number, from 1.
fn polled(bench: &Bench, number: usize) -> PollEntry {
    bench.wait_until("a poll has ended", || {
        let view = polls(bench);
        view.polls.len() >= number && view.polls[0].outcome() != "cut-off" && !view.is_under_way
    });
    polls(bench).polls[0].clone()
}

fn later(bench: &Bench, milliseconds: i64) {
    bench.clock.advance_ms(milliseconds);
    bench.kernel.shared.polls.wake_all();
}

fn ask(bench: &Bench, from: PollFrom) {
    bench.wait_for(bench.kernel.poll_now(WORKSPACE, FEED, from)).unwrap();
}

/// People whose records came.
fn people(bench: &Bench) -> u64 {
    bench.count("events('Seen').size() >= 1")
}

fn numbers(cursors: &[&str]) -> Vec<Option<String>> {
    cursors.iter().map(|cursor| (!cursor.is_empty()).then(|| (*cursor).to_owned())).collect()
}

fn set(bench: &Bench, change: impl FnOnce(&mut crate::Installed)) {
    bench.configure(|setup| {
        let feed = setup.installations.iter_mut().find(|installed| installed.id == FEED).unwrap();
        change(feed);
    });
}

#[test]
fn pages_are_fetched_while_more_is_waiting_and_again_after_the_interval() {
    let feed = Feed::of(5);
    let bench = bench(&feed);
    let first = polled(&bench, 1);
    assert_eq!((first.pages, first.events, first.repeats, first.outcome()), (3, 5, 0, "complete"), "{first:?}");
    assert_eq!(feed.cursors(), numbers(&["", "2", "4"]));
    assert_eq!(people(&bench), 5);
    let view = polls(&bench);
    assert_eq!((view.next_at, view.cursor_bytes), (Some(START.plus_ms(15 * MINUTE)), Some(1)));

    feed.records.lock().push(event("other", &[("user_id", "u9")], "Undeclared", START));
    feed.add(1);
    let rejected = RejectedRecord { place: 7, code: "bad".into(), message: "no".into(), raw: "{".into() };
    feed.rejected.lock().push(rejected);
    later(&bench, 15 * MINUTE);
    let second = polled(&bench, 2);
    assert_eq!((second.pages, second.events, second.rejected), (1, 1, 2), "{second:?}");
    assert_eq!(feed.asked.lock()[3], (Some("5".to_owned()), Some(START)));
    assert_ne!(second.cursor, first.cursor);
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!(people(&bench), 6);
}

#[test]
fn each_record_of_a_page_that_becomes_no_event_is_a_letter() {
    let feed = Feed::of(1);
    let refused =
        |place: u64| RejectedRecord { place, code: "bad".into(), message: "no".into(), raw: place.to_string() };
    feed.rejected.lock().extend((0..300).map(refused));
    let bench = bench(&feed);
    let first = polled(&bench, 1);
    assert_eq!((first.pages, first.events, first.rejected, first.outcome()), (1, 1, 300, "complete"), "{first:?}");
    let letters = bench.store.scan(&Key::set_aside(WORKSPACE, Some(FEED)).range(), 1_000).unwrap();
    assert_eq!(letters.rows.len(), 300);
}

#[test]
fn a_failure_is_waited_after_and_success_ends_that() {
    let feed = Feed::of(1);
    let busy = |after_ms| Some(PollError::Later { after_ms, reason: "busy".into() });
    *feed.fails.lock() = busy(None);
    let bench = bench(&feed);
    let first = polled(&bench, 1);
    assert_eq!((first.outcome(), first.reason().as_str()), ("later", "tried again: busy"));
    assert_eq!(polls(&bench).next_at, Some(START.plus_ms(MINUTE)));
    *feed.fails.lock() = busy(Some(600_000));
    later(&bench, MINUTE);
    polled(&bench, 2);
    let view = polls(&bench);
    assert_eq!((view.next_at, view.failures), (Some(START.plus_ms(11 * MINUTE)), 2));
    assert_eq!(view.failing_since, Some(START));
    *feed.fails.lock() = None;
    later(&bench, 10 * MINUTE);
    assert_eq!(polled(&bench, 3).outcome(), "complete");
    let view = polls(&bench);
    assert_eq!((view.failures, view.failing_since), (0, None));
    assert!(bench.notes.0.lock().is_empty(), "the other side's failures are no strikes");
}

/// A secret is put right, say: what it failed for may be over.
#[test]
fn a_change_ends_what_is_waited_for_after_a_failure() {
    let feed = Feed::of(1);
    *feed.fails.lock() = Some(PollError::Later { after_ms: Some(86_400_000), reason: "busy".into() });
    let bench = bench(&feed);
    assert_eq!(polled(&bench, 1).outcome(), "later");
    *feed.fails.lock() = None;
    bench.clock.advance_ms(2);
    set(&bench, |feed| feed.poll = Some(Polling { interval_ms: INTERVAL_MS, changed_at: START.plus_ms(1) }));
    assert_eq!(polled(&bench, 2).outcome(), "complete");
}

#[test]
fn what_is_for_good_waits_for_a_change_or_somebody_who_asks() {
    let feed = Feed::of(1);
    *feed.fails.lock() = Some(PollError::Permanent("no such list".into()));
    let bench = bench(&feed);
    assert_eq!(polled(&bench, 1).outcome(), "permanent");
    let view = polls(&bench);
    assert!(view.waits_for_change && view.next_at.is_none());
    ask(&bench, PollFrom::Cursor);
    polled(&bench, 2);
    assert!(polls(&bench).waits_for_change);
    *feed.fails.lock() = None;
    set(&bench, |feed| feed.poll = Some(Polling { interval_ms: INTERVAL_MS, changed_at: START.plus_ms(1) }));
    assert_eq!(polled(&bench, 3).outcome(), "complete");
}

/// The first page is kept with its cursor; the second is under way when the process ends, and comes again.
#[test]
fn a_restart_goes_on_behind_the_last_page_that_was_kept() {
    let feed = Feed::of(5);
    *feed.gated.lock() = Some(Some("2".to_owned()));
    let held = feed.gate.lock();
    let mut bench = bench(&feed);
    bench.wait_until("the second page is asked for", || feed.cursors().len() == 2);
    bench.restart();
    bench.wait_until("it is asked for again", || feed.cursors().len() == 3);
    drop(held);
    let last = polled(&bench, 2);
    assert_eq!((last.pages, last.events, last.outcome()), (2, 3, "complete"), "{last:?}");
    assert_eq!(feed.cursors(), numbers(&["", "2", "2", "4"]));
    assert_eq!(polls(&bench).polls[1].outcome(), "cut-off");
    assert_eq!(people(&bench), 5);
}

#[test]
fn a_poll_under_way_of_what_is_switched_off_changes_nothing() {
    let feed = Feed::of(2);
    *feed.gated.lock() = Some(None);
    let held = feed.gate.lock();
    let bench = bench(&feed);
    bench.wait_until("it is asked", || feed.cursors().len() == 1);
    let off = Activity::Held { since: START, why: "off".into() };
    set(&bench, |feed| feed.activity = off);
    assert!(bench.wait_for(bench.kernel.poll_now(WORKSPACE, FEED, PollFrom::Cursor)).is_err(), "it does not run");
    drop(held);
    bench.wait_until("the poll has ended", || !polls(&bench).is_under_way);
    assert_eq!((polls(&bench).polls.len(), polls(&bench).cursor_bytes), (0, None));
    assert_eq!(polls(&bench).next_at, None, "as long as it is off");
    assert_eq!(people(&bench), 0);
    set(&bench, |feed| feed.activity = Activity::Running);
    assert_eq!(polled(&bench, 1).events, 2);
    assert_eq!(feed.cursors(), numbers(&["", ""]));
}

/// Neither is a request sent by what was changed, with the secrets of before, nor a page kept that it gave.
#[test]
fn a_poll_under_way_of_what_is_changed_changes_nothing() {
    for requests in [0, 1] {
        let (feed, other) = (Feed::of(2), Feed::of(1));
        *feed.requests.lock() = requests;
        *feed.gated.lock() = Some(None);
        let held = feed.gate.lock();
        let bench = bench(&feed);
        bench.wait_until("it is asked", || feed.cursors().len() == 1);
        set(&bench, |feed| feed.role = Role::Connector(other.clone()));
        drop(held);
        assert_eq!(polled(&bench, 1).events, 1, "what the other one has");
        assert_eq!(feed.wire.0.lock().len(), 0);
        assert_eq!((other.cursors(), people(&bench)), (numbers(&[""]), 1));
    }
}

#[test]
fn a_rule_made_while_a_page_is_fetched_holds_for_it() {
    let feed = Feed::of(2);
    *feed.gated.lock() = Some(None);
    let held = feed.gate.lock();
    let bench = bench(&feed);
    bench.wait_until("it is asked", || feed.cursors().len() == 1);
    let rule = Rule {
        id: "no-seen".to_owned(),
        act: Act::Drop,
        what: Target::Event,
        name: "Seen".to_owned(),
        event: None,
        to: None,
        sources: vec![],
    };
    bench.configure(|setup| setup.record_rules = RecordRules { version: 1, rules: vec![rule] }.into());
    drop(held);
    assert_eq!(polled(&bench, 1).outcome(), "complete");
    assert_eq!((feed.cursors(), people(&bench)), (numbers(&[""]), 0));
}

#[test]
fn an_upgrade_goes_on_at_the_cursor_and_a_removal_leaves_none() {
    let feed = Feed::of(3);
    let bench = bench(&feed);
    polled(&bench, 1);
    set(&bench, |feed| feed.digest = "another".into());
    ask(&bench, PollFrom::Cursor);
    polled(&bench, 2);
    assert_eq!(feed.cursors(), numbers(&["", "2", "3"]));
    bench.configure(|setup| setup.installations.retain(|installed| installed.id != FEED));
    let key = Key::poll(WORKSPACE, FEED);
    bench.wait_until("its row is gone", || bench.store.get(std::slice::from_ref(&key)).unwrap()[0].is_none());
    assert!(bench.kernel.polls(WORKSPACE, FEED).is_err());
}

/// Also records without an id, which get one by what they say.
#[test]
fn from_the_start_nothing_is_taken_twice() {
    let feed = Feed::of(5);
    feed.records.lock().iter_mut().for_each(|record| record.message_id = None);
    let bench = bench(&feed);
    assert_eq!(polled(&bench, 1).events, 5);
    later(&bench, MINUTE);
    ask(&bench, PollFrom::Start);
    let again = polled(&bench, 2);
    assert_eq!((again.events, again.repeats, again.pages), (0, 5, 3), "{again:?}");
    assert_eq!(feed.asked.lock()[3], (None, None));
    assert_eq!(bench.count("events('Seen').size() == 1"), 5);
}

/// A page that was asked for before is not kept: the one from the start would be lost by its cursor.
#[test]
fn from_the_start_overtakes_a_poll_under_way() {
    let feed = Feed::of(4);
    let bench = bench(&feed);
    polled(&bench, 1);
    feed.add(1);
    *feed.gated.lock() = Some(Some("4".to_owned()));
    let held = feed.gate.lock();
    ask(&bench, PollFrom::Cursor);
    bench.wait_until("it is asked", || feed.cursors().len() == 3);
    ask(&bench, PollFrom::Start);
    *feed.gated.lock() = None;
    drop(held);
    let again = polled(&bench, 2);
    assert_eq!((again.events, again.repeats), (1, 4), "{again:?}");
    assert_eq!(feed.cursors(), numbers(&["", "2", "4", "", "2", "4"]));
}

#[test]
fn a_plugin_that_fails_again_and_again_is_stopped_and_tried_again() {
    let feed = Feed::of(1);
    let trap = PluginFault::Trapped { message: "panicked: no".into(), backtrace: vec![] };
    *feed.fails.lock() = Some(PollError::Fault(trap));
    let bench = bench(&feed);
    for (number, minutes) in [(1, 1), (2, 2)] {
        assert_eq!(polled(&bench, number).outcome(), "fault");
        later(&bench, minutes * MINUTE);
    }
    bench.wait_until("it is stopped", || *bench.notes.0.lock() == [FEED]);
    polled(&bench, 3);
    *feed.fails.lock() = None;
    later(&bench, 10 * MINUTE);
    assert_eq!(polled(&bench, 4).outcome(), "complete", "the trial");
    ask(&bench, PollFrom::Cursor);
}

#[test]
fn requests_are_sent_and_their_answers_handed_over_in_order() {
    let feed = Feed::of(1);
    *feed.requests.lock() = 16;
    let bench = bench(&feed);
    let first = polled(&bench, 1);
    assert_eq!((first.requests, first.events, first.outcome()), (16, 1, "complete"), "{first:?}");
    assert_eq!(feed.wire.0.lock().len(), 16);
}

#[test]
fn a_page_that_asks_for_too_many_requests_is_a_fault_of_its_plugin() {
    let feed = Feed::of(1);
    *feed.requests.lock() = 17;
    let bench = bench(&feed);
    let first = polled(&bench, 1);
    assert_eq!((first.outcome(), first.requests), ("fault", 0), "{first:?}");
    assert!(first.reason().contains("passed the limit of 16 requests for a page"), "{first:?}");
    assert!(feed.wire.0.lock().is_empty());
}

#[test]
fn a_turn_ends_after_so_many_pages_and_another_goes_on() {
    let feed = Feed::of(80);
    let bench = bench(&feed);
    let last = polled(&bench, 2);
    let first = polls(&bench).polls[1].clone();
    assert_eq!((first.pages, first.events, first.outcome()), (32, 64, "more"), "{first:?}");
    assert_eq!((last.pages, last.events, last.outcome()), (8, 16, "complete"), "{last:?}");
    assert_eq!(people(&bench), 80);
}

#[test]
fn a_turn_that_brings_nothing_is_waited_after_though_more_is_said_to_be_there() {
    let feed = Feed::of(0);
    *feed.endless.lock() = true;
    let bench = bench(&feed);
    for (number, due) in [(1, 1), (2, 3)] {
        let last = polled(&bench, number);
        assert_eq!((last.pages, last.outcome()), (if number == 1 { 2 } else { 1 }, "later"), "{last:?}");
        assert!(last.reason().contains("cursor that was given before"), "{last:?}");
        assert_eq!(polls(&bench).next_at, Some(START.plus_ms(due * MINUTE)));
        *feed.endless.lock() = number == 1;
        later(&bench, i64::try_from(number).unwrap() * MINUTE);
    }
    assert_eq!(polled(&bench, 3).outcome(), "complete");
    assert_eq!(polls(&bench).failures, 0);
}

/// Each empty page names another one, which is empty too.
#[test]
fn pages_without_end_that_have_nothing_on_them_are_told_of_and_waited_after() {
    let feed = Feed::of(1);
    *feed.drifts.lock() = true;
    let bench = bench(&feed);
    for (number, due) in [(1, 1), (2, 3)] {
        let last = polled(&bench, number);
        assert_eq!((last.pages, last.outcome()), (32, "later"), "{last:?}");
        assert!(last.reason().contains("32 pages had nothing on them"), "{last:?}");
        assert_eq!(polls(&bench).next_at, Some(START.plus_ms(due * MINUTE)));
        later(&bench, i64::try_from(number).unwrap() * MINUTE);
    }
}

/// Each page has a record that came before and leads to another one, and it was asked for them without a pause.
#[test]
fn pages_without_end_that_have_nothing_new_on_them_are_waited_after_longer_each_time() {
    let feed = Feed::of(1);
    *feed.overlap_bytes.lock() = 1;
    let bench = bench(&feed);
    bench.wait_until("it comes to its fourth poll", || polls(&bench).polls.len() >= 4);
    let last = polled(&bench, 6);
    assert_eq!((last.pages, last.events, last.repeats, last.outcome()), (32, 0, 32, "later"), "{last:?}");
    assert!(last.reason().contains("nothing of what the last polls brought was new"), "{last:?}");
    let outcomes: Vec<&str> = polls(&bench).polls.iter().map(PollEntry::outcome).collect();
    assert_eq!(outcomes, ["later", "more", "more", "more", "more", "more"], "the first one brought something");
    assert_eq!(polls(&bench).next_at, Some(START.plus_ms(1_000)));
    later(&bench, 1_000);
    assert_eq!(polled(&bench, 7).outcome(), "later");
    assert_eq!((polls(&bench).next_at, polls(&bench).failures), (Some(START.plus_ms(3_000)), 2));
}

/// The cursor was written with each page and counted for nothing.
#[test]
fn the_cursor_counts_for_what_a_source_may_bring() {
    let feed = Feed::of(1);
    *feed.overlap_bytes.lock() = 60_000;
    *feed.gated.lock() = Some(None);
    let held = feed.gate.lock();
    let bench = bench(&feed);
    bench.wait_until("it is asked", || feed.cursors().len() == 1);
    let brought = usize::try_from(table::SOURCE_BYTES.default).unwrap() - 100_000;
    bench.kernel.shared.volumes.brought((WORKSPACE, FEED), brought, START);
    drop(held);
    let first = polled(&bench, 1);
    assert_eq!((first.pages, first.events, first.repeats, first.outcome()), (2, 1, 1, "later"), "{first:?}");
    assert!(first.reason().contains("source-bytes"), "{first:?}");
}

/// Whoever asked for a poll had the row written too, which counted for nothing.
#[test]
fn the_row_that_is_written_for_whoever_asks_counts_as_well() {
    let feed = Feed::of(1);
    *feed.fails.lock() = Some(PollError::Permanent("no such list".into()));
    let bench = bench(&feed);
    assert_eq!(polled(&bench, 1).outcome(), "permanent");
    let row = bench.store.get(&[Key::poll(WORKSPACE, FEED)]).unwrap()[0].as_ref().unwrap().len();
    let volumes = &bench.kernel.shared.volumes;
    volumes.brought((WORKSPACE, FEED), usize::try_from(table::SOURCE_BYTES.default).unwrap() - row - 1, START);
    assert!(volumes.check((WORKSPACE, FEED), START).is_ok());
    // The poll itself writes nothing yet.
    *feed.gated.lock() = Some(None);
    let held = feed.gate.lock();
    ask(&bench, PollFrom::Cursor);
    assert!(volumes.check((WORKSPACE, FEED), START).is_err());
    drop(held);
}

/// Nothing of a poll can be written, and it asked again every second.
#[test]
fn a_back_off_holds_though_it_cannot_be_committed() {
    let store = Watched::new();
    let of_poll = |unit: &Unit| {
        let key = Key::poll(WORKSPACE, FEED);
        unit.operations.iter().any(|operation| matches!(operation, Operation::Put(put, _) if *put == key))
    };
    *store.refuse.lock() = Some(Box::new(of_poll));
    let feed = Feed::of(1);
    *feed.fails.lock() = Some(PollError::Later { after_ms: None, reason: "busy".into() });
    let bench = bench_over(store.clone(), &feed);
    for (failures, due) in [(1, 1), (2, 3)] {
        bench.wait_until("it has failed once more", || polls(&bench).failures == failures);
        assert_eq!(polls(&bench).next_at, Some(START.plus_ms(due * MINUTE)));
        assert_eq!(feed.cursors().len(), store.refused.lock().len());
        if failures == 2 {
            *feed.fails.lock() = None;
            *store.refuse.lock() = None;
        }
        later(&bench, i64::from(failures) * MINUTE);
    }
    assert_eq!(polled(&bench, 3).outcome(), "complete");
    assert_eq!((polls(&bench).failures, feed.cursors().len(), people(&bench)), (0, 3, 1));
}

/// Never answers, at a host with this name.
struct Silent {
    host: String,
    asked: AtomicUsize,
}

impl Silent {
    fn at(host: &str) -> Arc<Silent> {
        Arc::new(Silent { host: host.to_owned(), asked: AtomicUsize::new(0) })
    }
}

impl Transport for Silent {
    fn target(&self, _: &OutboundRequest) -> Result<String, SendFailure> {
        Ok(format!("{}:443", self.host))
    }

    fn send(&self, _: OutboundRequest) -> Sending {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_page_without_time_is_no_failure_of_the_host() {
    let feed = Feed::of(1);
    let bench = bench(&feed);
    polled(&bench, 1);
    let fetched = |transport: Arc<dyn Transport>, wait_ms: u64| {
        let fetcher = Arc::new(Fetcher {
            shared: Arc::clone(&bench.kernel.shared),
            workspace: WORKSPACE,
            installation: FEED,
            transport,
            deadline: tokio::time::Instant::now() + Duration::from_millis(wait_ms),
        });
        bench.wait_for(fetch(&fetcher, vec![OutboundRequest::default(); 4])).unwrap().0
    };
    let too_long = || Err(SendFailure::Timeout("the page took too long".to_owned()));
    for _ in 0..2 {
        assert_eq!(fetched(Silent::at("other.example"), 20), [too_long(), too_long(), too_long(), too_long()]);
    }
    assert!(fetched(feed.wire.clone(), 0).iter().all(Result::is_err));
    assert_eq!(feed.wire.0.lock().len(), 0, "nothing leaves for a page that has no more time");
    assert!(fetched(feed.wire.clone(), 60_000).iter().all(Result::is_ok));
    let hosts = bench.kernel.shared.deliveries.hosts.views(WORKSPACE);
    assert_eq!((hosts.len(), hosts[0].failures, hosts[0].under_way), (1, 0, 0), "{hosts:?}");
}

/// As many as have a turn at once held all of them for as long as nothing came, and the workspace's others waited.
#[test]
fn peers_that_do_not_answer_keep_no_other_poll_waiting() {
    let feed = Feed::of(1);
    *feed.requests.lock() = 1;
    let silent: Vec<Arc<Silent>> = (0..20).map(|number| Silent::at(&format!("silent{number}.example"))).collect();
    let bench = bench(&feed);
    polled(&bench, 1);
    bench.configure(|setup| {
        for (number, silent) in (100..).zip(&silent) {
            let slow = Feed { requests: Mutex::new(1), silent: Some(silent.clone()), ..Feed::default() };
            let role = Role::Connector(Arc::new(slow));
            let mut installed = installed(number, &format!("slow-{number}"), PluginKind::Connector, role);
            installed.poll = Some(Polling { interval_ms: INTERVAL_MS, changed_at: START });
            setup.installations.push(installed);
        }
    });
    bench.wait_until("all of them are waited for", || {
        silent.iter().all(|silent| silent.asked.load(Ordering::SeqCst) == 1)
    });
    ask(&bench, PollFrom::Cursor);
    assert_eq!(polled(&bench, 2).outcome(), "complete");
}

#[test]
fn a_page_for_whose_requests_there_is_no_place_is_put_off() {
    let feed = Feed::of(1);
    let bench = bench(&feed);
    polled(&bench, 1);
    let shared = &bench.kernel.shared;
    let fetched = || {
        let fetcher = Arc::new(Fetcher {
            shared: Arc::clone(shared),
            workspace: WORKSPACE,
            installation: FEED,
            transport: feed.wire.clone(),
            deadline: tokio::time::Instant::now() + Duration::from_millis(20),
        });
        bench.wait_for(fetch(&fetcher, vec![OutboundRequest::default()])).map(|(answers, _)| answers.len())
    };
    // As many as one workspace has, of which another's are not kept waiting.
    let held: Vec<_> = (0..64).map(|_| bench.wait_for(shared.polls.requests.take(WORKSPACE))).collect();
    let Err(NotNow::NoRoom(refused)) = fetched() else { panic!("there was a place") };
    assert_eq!((refused.budget.name, refused.limit), ("poll-requests-at-once", 256));
    assert!(bench.wait_for(shared.polls.requests.take(kith_model::id::WorkspaceId(2))).is_some());
    let hosts = shared.deliveries.hosts.views(WORKSPACE);
    assert_eq!(hosts.iter().map(|host| host.under_way).sum::<u64>(), 0, "nothing was sent: {hosts:?}");
    drop(held);
    assert!(fetched().is_ok());
}

#[test]
fn a_page_for_whose_answers_there_is_no_memory_is_put_off() {
    let feed = Feed::of(1);
    let bench = bench(&feed);
    polled(&bench, 1);
    *feed.requests.lock() = 1;
    let memory = &bench.kernel.shared.polls.answers;
    // Half of what there is, which is as much as one workspace gets.
    let others = Round::begin(memory, WORKSPACE, memory.limit() / 2).unwrap();
    ask(&bench, PollFrom::Cursor);
    let refused = polled(&bench, 2);
    assert_eq!(refused.outcome(), "later", "{refused:?}");
    assert!(refused.reason().contains("`host-guest-memory`"), "{refused:?}");
    assert_eq!(bench.kernel.shared.deliveries.hosts.views(WORKSPACE).len(), 0, "nothing was sent");
    drop(others);
    ask(&bench, PollFrom::Cursor);
    assert_eq!(polled(&bench, 3).outcome(), "complete");
}
