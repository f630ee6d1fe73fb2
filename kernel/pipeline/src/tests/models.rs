//! Models beside the reactor: what their answers come to when passes fail, when they fail, and when they are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::audience::{Audience, ConsentBasis};
use kith_model::event::DraftEvent;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_store::{Operation, Unit};
use parking_lot::{Mutex, RwLock};
use sha2::Digest as _;

use super::delivery::watched::Watched;
use super::harness::*;
use super::provenance::upgraded;
use crate::guests::{Caller, GuestClass};
use crate::{DeadLetter, FailedPerson, Role, Setup};

/// So long that no pass waits for the model.
const SLOW: Duration = Duration::from_millis(300);

/// Grades everybody with one text, and takes so long for it.
struct Grade(String, Duration);

impl ComputeModel for Grade {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        std::thread::park_timeout(self.1);
        let mut grade = ColumnBuilder::new("grade", &ColumnType::Text);
        (0..rows.rows).for_each(|_| grade.push(Cell::Text(self.0.clone())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![grade.finish()] })
    }
}

/// Whether a unit writes what is computed of somebody.
pub(super) fn is_computed(unit: &Unit) -> bool {
    unit.operations.iter().any(|one| matches!(one, Operation::Put(key, _) if key.as_derived().is_some()))
}

/// Refuse the unit of that number, from 0, of those that write what is computed of somebody.
fn refuse_computed(store: &Watched, refused: usize) {
    let seen = AtomicUsize::new(0);
    let refuse = move |unit: &Unit| is_computed(unit) && seen.fetch_add(1, Ordering::SeqCst) == refused;
    *store.refuse.lock() = Some(Box::new(refuse));
}

/// The pass that took in a slow model's answer failed: the answer was gone, and so was the person from the model's queue.
#[test]
fn an_answer_that_could_not_be_committed_is_taken_in_again() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![audience(1, "tags.level == 'few'", None)], |_| {});
    *bench.level.takes.lock() = SLOW;
    refuse_computed(&store, 1);
    bench.send(orders("u1", 0, 1));
    bench.wait_until("it is a member", || bench.size(1) == Some(1));
    assert_eq!(store.refused.lock().len(), 1);
    assert_eq!(*bench.level.asked.lock(), 1, "the answer was not lost");
}

/// Where the guests' threads had no room for a job, nobody asked them again.
#[test]
fn a_job_that_found_no_room_begins_when_there_is_some() {
    let bench = Bench::new(vec![]);
    let caller =
        Caller { workspace: WORKSPACE, installation: LEVEL, class: GuestClass::Model, bytes: 1, memory_bytes: 1 };
    let (gate, begun) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
    let closed = gate.write();
    let fill = || {
        let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
        let work = move || {
            begun.fetch_add(1, Ordering::SeqCst);
            drop(gate.read());
        };
        bench.kernel.shared.guests.spawn(caller, work).is_ok()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    bench.wait_until("all threads are busy", || begun.load(Ordering::SeqCst) == threads.max(1) || !fill());
    bench.wait_until("nothing more may wait", || begun.load(Ordering::SeqCst) == threads.max(1) && !fill());
    bench.send(orders("u1", 0, 1));
    bench.wait_until("it is computed", || bench.kernel.progress(WORKSPACE).reacted >= bench.store.head());
    drop(closed);
    bench.wait_until("the model has answered", || tags(&bench, "u1").len() == 1);
}

/// A model that cannot take the data of `bad` people, of whom it knows that they have five orders, and answers for others.
pub(super) struct Picky(pub(super) Mutex<Option<PluginFault>>);

impl ComputeModel for Picky {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let is_bad = |row| matches!(rows.column("orders").unwrap().cell(row), Cell::Int64(5));
        match self.0.lock().clone() {
            Some(fault) if (0..rows.rows).any(is_bad) => Err(fault),
            _ => {
                let mut level = ColumnBuilder::new("level", &ColumnType::Text);
                (0..rows.rows).for_each(|_| level.push(Cell::Text("few".into())).unwrap());
                Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
            }
        }
    }
}

fn picky(fault: PluginFault) -> Bench {
    Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        setup.installations[1].role = Role::TagModel(Arc::new(Picky(Mutex::new(Some(fault)))));
    })
}

/// Orders of three people whose data the model cannot take.
fn bad(turn: usize) -> Vec<DraftEvent> {
    (0..3).flat_map(|user| orders(&format!("bad-{turn}-{user}"), 0, 5)).collect()
}

pub(super) fn trap() -> PluginFault {
    PluginFault::Trapped { message: "panicked: five".into(), backtrace: vec![] }
}

/// Three people of one request were enough to hold a model for everybody, whatever it had answered for others.
#[test]
fn one_sender_does_not_switch_a_model_off() {
    for fault in [PluginFault::Permanent("five".into()), trap()] {
        let bench = picky(fault);
        bench.send(orders("good", 0, 1));
        bench.settle();
        bench.send(bad(0));
        bench.settle();
        bench.send(bad(1).into_iter().chain(orders("other", 0, 1)).collect());
        bench.settle();
        bench.send(bad(2));
        bench.settle();
        assert_eq!(*bench.notes.0.lock(), []);
        assert_eq!(tags(&bench, "other")["level"], "\"few\"");
        assert!(tags(&bench, "bad-0-0").is_empty());
    }
}

/// A model that refused one person at a time never came to three in one job, and nobody was told that it works for nobody.
#[test]
fn a_model_that_has_answered_for_nobody_is_held_after_three_people() {
    let bench = picky(PluginFault::Permanent("five".into()));
    for (user, held) in [("u1", 0), ("u2", 0), ("u2", 0), ("u3", 1)] {
        bench.send(orders(user, 0, 5));
        bench.settle();
        bench.wait_until("it is held", || bench.notes.0.lock().len() == held);
    }
}

/// One that has answered before is held for three jobs in a row which it cannot take, each of other people.
#[test]
fn a_model_that_traps_in_three_jobs_in_a_row_is_held() {
    let bench = picky(trap());
    bench.send(orders("good", 0, 1));
    for (turn, held) in [(0, 0), (1, 0), (2, 1)] {
        bench.settle();
        bench.send(bad(turn));
        bench.settle();
        bench.wait_until("it is held", || bench.notes.0.lock().len() == held);
    }
}

fn tags(bench: &Bench, user: &str) -> BTreeMap<String, String> {
    let profile = bench.profile("user_id", user);
    profile.iter().flat_map(|profile| &profile.tags).map(|(name, tag)| (name.clone(), tag.json.clone())).collect()
}

/// A second model, whose tag is one text for everybody, and which takes so long.
fn graded(store: Arc<Watched>, text: &str, takes: Duration) -> Bench {
    Bench::over(store, vec![], |setup| {
        let role = Role::TagModel(Arc::new(Grade(text.to_owned(), takes)));
        let mut grade = installed(4, "grade", PluginKind::TagModel, role);
        grade.inputs.clone_from(&setup.installations[1].inputs);
        let outputs = setup.installations[1].outputs.iter().cloned();
        let outputs = outputs.map(|output| OutputSpec { name: "grade".into(), values: vec![text.into()], ..output });
        grade.outputs = outputs.collect();
        setup.installations.push(grade);
    })
}

/// A pass was bounded by what people had, and not by what a model said of them: megabytes of texts went into one unit, and only
/// one that was larger than a unit may be was cut.
#[test]
fn what_a_model_answers_counts_with_what_a_pass_takes_on() {
    const PEOPLE: usize = 200;
    let store = Watched::new();
    let bench = graded(store.clone(), &"x".repeat(64 << 10), SLOW);
    bench.send((0..PEOPLE).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
    bench.wait_until("all are graded", || (0..PEOPLE).all(|user| tags(&bench, &format!("u{user}")).len() == 2));
    let largest = store.committed.lock().iter().map(Unit::size_bytes).max().unwrap();
    assert!(largest < 8 << 20, "{largest} bytes of {PEOPLE} answers of 64 KiB in one unit");
}

/// The pass that began a slow model's job failed, and the next gave the number of that model's version to another model: the
/// answer was shown as the other model's.
#[test]
fn an_answer_is_shown_as_that_of_the_model_which_gave_it() {
    let store = Watched::new();
    let bench = graded(store.clone(), "good", Duration::ZERO);
    *bench.level.takes.lock() = SLOW;
    refuse_computed(&store, 0);
    bench.send(orders("u1", 0, 1));
    bench.wait_until("both have answered", || tags(&bench, "u1").len() == 2);
    let shown = tags(&bench, "u1");
    assert_eq!((shown["level"].as_str(), shown["grade"].as_str()), ("\"few\"", "\"good\""));
    assert_eq!(store.refused.lock().len(), 1);
}

/// The people who were written to.
fn written_to(bench: &Bench) -> BTreeSet<String> {
    let sent = bench.postbox.sent.lock();
    sent.iter().map(|message| message.recipient[0].value.clone()).collect()
}

fn those_with_many() -> Vec<Audience> {
    vec![audience(1, "tags.level == 'many'", Some(ConsentBasis::NotRefused))]
}

/// Somebody became known, the model was upgraded before it had answered, and the message that follows from the first answer
/// never left.
#[test]
fn who_waits_for_a_first_answer_while_a_model_is_upgraded_is_written_to() {
    let bench = Bench::new(those_with_many());
    bench.send(orders("known", 0, 1));
    bench.settle();
    *bench.level.takes.lock() = SLOW;
    bench.send(orders("new", 0, 1));
    bench.wait_until("it is asked about", || *bench.level.asked.lock() == 2);
    bench.configure(upgraded);
    bench.wait_until("both are members", || bench.size(1) == Some(2));
    bench.settle();
    assert_eq!(written_to(&bench), ["new".to_owned()].into());
}

/// Who is written to where somebody comes, and somebody who was there does something, in one pass with a change of the model.
fn written_to_beside(change: impl FnOnce(&mut Setup)) -> BTreeSet<String> {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), those_with_many(), |_| {});
    bench.send(orders("known", 0, 1));
    bench.settle();
    *store.refuse.lock() = Some(Box::new(is_computed));
    bench.send(orders("new", 0, 1).into_iter().chain(orders("known", 1, 1)).collect());
    bench.wait_until("a pass was refused", || !store.refused.lock().is_empty());
    bench.configure(change);
    *store.refuse.lock() = None;
    bench.wait_until("both are members", || bench.size(1) == Some(2));
    bench.settle();
    written_to(&bench)
}

/// The same where they became known while the later version was asked about everybody. Who was known before is another thing,
/// also where they did something meanwhile: it is the version that says otherwise of them.
#[test]
fn who_comes_while_a_version_is_asked_about_everybody_is_written_to() {
    assert_eq!(written_to_beside(upgraded), ["new".to_owned()].into());
}

/// And where the later version reads more, so that nobody is asked about before a history has been read.
#[test]
fn who_comes_while_the_inputs_of_a_version_are_read_from_history_is_written_to() {
    let written_to = written_to_beside(|setup| {
        upgraded(setup);
        setup.installations[1].inputs.push(InputSpec {
            name: "returns".into(),
            expression: "events('Order Returned').size()".into(),
            column_type: ColumnType::Int64,
            reason: "to count".into(),
        });
    });
    assert_eq!(written_to, ["new".to_owned()].into());
}

/// A version that had failed on somebody when it was asked about everybody did not write to them for an event of their own
/// later, because the value before was another version's.
#[test]
fn whom_a_version_failed_on_is_written_to_for_an_event_of_their_own() {
    let bench = Bench::new(those_with_many());
    bench.send(orders("known", 0, 1));
    bench.settle();
    *bench.level.fails.lock() = true;
    bench.configure(|setup| setup.installations[1].digest = "of another version".into());
    bench.wait_until("it failed", || *bench.level.asked.lock() == 2);
    bench.settle();
    *bench.level.fails.lock() = false;
    bench.send(orders("known", 1, 2));
    bench.wait_until("it is a member", || bench.size(1) == Some(1));
    bench.settle();
    assert_eq!(written_to(&bench), ["known".to_owned()].into());
}

/// A fraction vanished from a list of whole numbers. The person is set aside by name, and nobody else is.
#[test]
fn whom_a_list_of_whole_numbers_cannot_say_is_set_aside_by_name() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| {
        let input = &mut setup.installations[1].inputs[0];
        input.expression = "events('Order Completed').map(e, e.total)".into();
        input.column_type = ColumnType::Int64List;
    });
    let total = |user: &str, number: usize, total: &str| DraftEvent {
        properties: format!(r#"{{"total":{total}}}"#),
        ..orders(user, number, 1).remove(0)
    };
    bench.send(vec![total("u1", 0, "1"), total("u1", 1, "2.0"), total("u2", 0, "1"), total("u2", 1, "1.7")]);
    let listed = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    bench.wait_until("the one is set aside", || !listed().is_empty());
    assert_eq!(bench.count("tags.level == 'few'"), 1, "and the other has a tag");
    let letters = listed();
    let [DeadLetter::Computation { code, message, plugin, inputs, people, profiles, .. }] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!((code.as_str(), plugin.as_str(), *profiles), ("plugin.bad-input", "test/level@1.0.0", 1));
    assert_eq!(inputs.as_slice(), ["orders"]);
    let who = FailedPerson { profile: bench.profile("user_id", "u2").unwrap().id, row_sha256: None };
    assert_eq!(people.as_slice(), [who], "it was given nothing of them");
    assert!(message.contains("`orders` is declared int64-list, and item "), "{message}");
    assert!(bench.notes.0.lock().is_empty(), "nobody is blamed for it");
}

/// A letter of a model told of whom it was and not what the model had been given, so that nobody could tell whether the same input
/// came again.
#[test]
fn a_letter_tells_the_digest_of_the_row_that_a_model_was_given() {
    let row = |text: &str| Some(<[u8; 32]>::from(sha2::Sha256::digest(text)));
    // Asked about alone, and waiting for the end of something passing.
    for fault in [trap(), PluginFault::Transient("later".into())] {
        let bench = picky(fault);
        bench.send(orders("u1", 0, 5));
        let listed = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
        bench.wait_until("it is set aside", || !listed().is_empty());
        let letters = listed();
        let [DeadLetter::Computation { people, .. }] = letters.as_slice() else { panic!("{letters:?}") };
        let digests: Vec<_> = people.iter().map(|person| person.row_sha256).collect();
        assert_eq!(digests, [row(r#"{"orders":5}"#)]);
    }
}

/// An input that passed its budget left the person waiting for the model for ever, and nothing told of it.
#[test]
fn for_whom_an_input_passes_its_budget_is_set_aside_by_name_until_they_change() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| {
        let input = &mut setup.installations[1].inputs[0];
        input.expression = "traits.items.filter(a, traits.items.exists(b, a + b == 'x')).size()".into();
    });
    let items = |message: &str, user: &str, count: usize, at| {
        let items: Vec<String> = (0..count).map(|number| format!("\"i{number}\"")).collect();
        identify(message, &[("user_id", user)], &format!(r#"{{"items":[{}]}}"#, items.join(",")), at)
    };
    bench.send(vec![items("m1", "ada", 800, START), items("m2", "bob", 2, START)]);
    let listed = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    bench.wait_until("the one is set aside", || !listed().is_empty());
    bench.wait_until("the other has a tag", || tags(&bench, "bob").len() == 1);
    let letters = listed();
    let [DeadLetter::Computation { code, message, people, .. }] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(code, "plugin.bad-input");
    assert!(message.contains("`orders` takes more than one evaluation may"), "{message}");
    assert_eq!(people[0].profile, bench.profile("user_id", "ada").unwrap().id);
    assert!(tags(&bench, "ada").is_empty() && bench.notes.0.lock().is_empty(), "nobody is blamed for it");
    bench.send(vec![items("m3", "ada", 3, START.plus_ms(1))]);
    bench.wait_until("she has one too", || tags(&bench, "ada").len() == 1);
}
