//! Events that models emit: through the door of everybody's events, each once for good whatever fails or is computed again, no news
//! where the answer is none, and an end to what a model's own events set off.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::budget::table;
use kith_model::event::{Event, EventOrigin};
use kith_model::plugin::*;
use kith_model::rules::{Act, RecordRules, Rule, Target};
use kith_model::table::{Cell, Table};
use kith_store::{Key, Operation, Unit};
use parking_lot::Mutex;

use super::delivery::watched::Watched;
use super::harness::*;
use super::models::is_computed;
use crate::{DeadLetter, Patience, Replay, Role, Setup, ShadowVersion};

const REACHED: &str = "Level Reached";

/// What is said of somebody with so many orders.
type Saying = fn(i64) -> Vec<EmittedEvent>;

/// Answers as [`Level`] does, and emits what it is told to say.
struct Herald {
    level: Arc<Level>,
    says: Mutex<Saying>,
}

impl Herald {
    fn new(says: Saying) -> Arc<Herald> {
        Arc::new(Herald { level: Arc::default(), says: Mutex::new(says) })
    }
}

impl ComputeModel for Herald {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.answer(state, rows).map(|answer| answer.table)
    }

    fn answer(&self, state: &[u8], rows: Table) -> Result<ModelAnswer, PluginFault> {
        let (says, orders) = (*self.says.lock(), rows.column("orders").unwrap());
        let of_row = |row: u32| match orders.cell(row as usize) {
            Cell::Int64(orders) => says(orders).into_iter().map(|event| (row, event)).collect(),
            _ => Vec::new(),
        };
        let events = (0..u32::try_from(rows.rows).unwrap()).flat_map(of_row).collect();
        Ok(ModelAnswer { table: self.level.compute(state, rows)?, events })
    }
}

fn reached(properties: &str, key: &str) -> EmittedEvent {
    EmittedEvent { name: REACHED.into(), properties: properties.into(), key: key.into() }
}

/// The level, once for each.
fn each_level(orders: i64) -> Vec<EmittedEvent> {
    vec![reached(&format!(r#"{{"orders":{orders}}}"#), if orders >= 3 { "many" } else { "few" })]
}

fn heralded(herald: &Arc<Herald>) -> impl FnOnce(&mut Setup) + use<> {
    let herald = Arc::clone(herald);
    move |setup| {
        let model = &mut setup.installations[1];
        model.role = Role::TagModel(herald);
        model.emits = Some(Arc::from([REACHED.to_owned()]));
    }
}

fn bench(herald: &Arc<Herald>) -> Bench {
    Bench::over(Arc::new(kith_store::memory()), vec![], heralded(herald))
}

/// What was emitted of somebody, oldest first.
fn told(bench: &Bench, user: &str) -> Vec<Event> {
    told_of(bench, "user_id", user)
}

fn told_of(bench: &Bench, kind: &str, value: &str) -> Vec<Event> {
    let Some(profile) = bench.profile(kind, value) else { return Vec::new() };
    let page = bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(1_000)).unwrap().unwrap();
    let mut events: Vec<Event> = page.events.into_iter().map(|recorded| recorded.event).collect();
    events.retain(|event| event.name == REACHED);
    events.sort_by_key(|event| event.time);
    events
}

/// Nothing that was emitted waits for the lane any more.
fn is_handed_over(bench: &Bench) -> bool {
    bench.settle();
    bench.store.scan(&Key::emissions(WORKSPACE).range(), 1).unwrap().rows.is_empty()
}

/// The model has been heard of everybody: what comes next is judged by itself.
fn wait_for_answers(bench: &Bench) {
    bench.settle();
    let pending = || bench.kernel.count(WORKSPACE, "tags.level == 'few'").unwrap().pending;
    bench.wait_until("the model has answered", || pending() == 0);
}

/// The next version has been heard of the first person.
fn wait_for_the_next(bench: &Bench) {
    let by = || Some(bench.profile("user_id", "u1")?.tags.get("level")?.provenance.digest.clone());
    bench.wait_until("the next version has answered", || by().as_deref() == Some("digest-of-the-next"));
}

fn wait_for_told(bench: &Bench, user: &str, count: usize) {
    bench.wait_until(&format!("{count} events are told of {user}"), || told(bench, user).len() == count);
    bench.wait_until("nothing waits", || is_handed_over(bench));
}

/// Change the setup, and wait until all of it is computed for everybody.
fn configure(bench: &Bench, change: impl FnOnce(&mut Setup)) {
    bench.configure(change);
    bench.wait_until("the setup is in force", || bench.kernel.progress(WORKSPACE).backlog == 0);
    bench.settle();
}

/// Another version of the model.
fn upgrade(setup: &mut Setup) {
    setup.installations[1].digest = "digest-of-the-next".into();
    setup.installations[1].plugin_version = semver::Version::new(2, 0, 0);
}

#[test]
fn what_a_model_emits_is_an_event_of_the_person_once_for_good() {
    let mut bench = bench(&Herald::new(each_level));
    bench.send(orders("u1", 0, 1));
    wait_for_told(&bench, "u1", 1);
    let first = told(&bench, "u1").remove(0);
    assert_eq!((first.source, first.origin, first.time), (LEVEL, EventOrigin::Kernel, START));
    assert_eq!(first.properties, r#"{"orders":1}"#);
    assert!(first.message_id.starts_with("kith-emit-"), "{}", first.message_id);
    bench.send(orders("u1", 1, 1));
    bench.settle();
    bench.restart();
    configure(&bench, upgrade);
    wait_for_the_next(&bench);
    bench.send(orders("u2", 0, 1));
    wait_for_told(&bench, "u2", 1);
    assert_eq!(told(&bench, "u1").len(), 1, "the same key is the same event, of another version too");
    // Long after the door itself has forgotten.
    bench.clock.advance_ms(40 * DAY);
    bench.send(orders("u1", 2, 1));
    wait_for_told(&bench, "u1", 2);
    assert_eq!(bench.count(&format!("events('{REACHED}').size() == 2")), 1);
    let installations = BTreeSet::from([LEVEL]);
    let written = |digest| bench.kernel.written(WORKSPACE, digest, &installations, &Patience::default()).unwrap();
    let of =
        |digest| written(digest).events.iter().map(|range| (range.version.clone(), range.events)).collect::<Vec<_>>();
    assert_eq!(of("digest-of-level"), [("1.0.0".to_owned(), 1)]);
    assert_eq!(of("digest-of-the-next"), [("2.0.0".to_owned(), 2)]);
}

/// Whether a unit has what waits for the lane, or brings an event of it.
fn is_of_emission(unit: &Unit) -> bool {
    let waiting = Key::emissions(WORKSPACE).range();
    let is_of = |one: &Operation| matches!(one, Operation::Delete(key) if waiting.from <= *key && *key < waiting.to);
    unit.operations.iter().any(is_of)
}

/// The process ended between the answer's commit and the lane's.
#[test]
fn what_was_emitted_before_the_end_comes_in_after_it_and_once() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), vec![], heralded(&Herald::new(each_level)));
    *store.refuse.lock() = Some(Box::new(is_of_emission));
    bench.send(orders("u1", 0, 1));
    bench.wait_until("the lane could not take it", || !store.refused.lock().is_empty());
    assert_eq!(told(&bench, "u1").len(), 0);
    *store.refuse.lock() = None;
    bench.restart();
    wait_for_told(&bench, "u1", 1);
    // It was durable, and the row that says so was lost: the id is known.
    let rows = |unit: &Unit| {
        let mine = Key::emissions(WORKSPACE).range();
        let is_mine = |one: &&Operation| matches!(one, Operation::Put(key, _) if mine.from <= *key && *key < mine.to);
        unit.operations.iter().filter(is_mine).cloned().collect::<Vec<_>>()
    };
    let operations: Vec<Operation> = store.committed.lock().iter().flat_map(rows).collect();
    assert_eq!(operations.len(), 1);
    store.inner.commit(Unit { operations: operations.clone(), ..Unit::default() }).unwrap();
    bench.restart();
    bench.wait_until("nothing waits", || is_handed_over(&bench));
    assert_eq!(told(&bench, "u1").len(), 1);
    // Also where the rules have changed since: that made of it a message with the id of another one.
    configure(&bench, |setup| {
        let drops = rule(Act::Drop, Target::Property, "orders", Vec::new());
        setup.record_rules = Arc::new(RecordRules { version: 1, rules: vec![drops] });
    });
    store.inner.commit(Unit { operations, ..Unit::default() }).unwrap();
    bench.restart();
    bench.wait_until("nothing waits", || is_handed_over(&bench));
    assert_eq!(told(&bench, "u1").len(), 1);
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    assert!(letters.is_empty(), "{letters:?}");
}

/// As with messages to members: who was there before the version is not announced, now or later.
#[test]
fn a_first_computation_and_an_import_are_no_news() {
    let herald = Herald::new(|_| Vec::new());
    let bench = bench(&herald);
    bench.send(orders("u1", 0, 1));
    wait_for_answers(&bench);
    *herald.says.lock() = each_level;
    configure(&bench, upgrade);
    wait_for_the_next(&bench);
    bench.try_import(orders("u2", 0, 1)).unwrap();
    wait_for_answers(&bench);
    bench.send([orders("u1", 1, 1), orders("u2", 1, 1)].concat());
    wait_for_answers(&bench);
    bench.send([orders("u1", 2, 1), orders("u3", 0, 1)].concat());
    wait_for_told(&bench, "u3", 1);
    wait_for_told(&bench, "u1", 1);
    assert_eq!(told(&bench, "u1")[0].properties, r#"{"orders":3}"#, "what changed since is news");
    assert!(told(&bench, "u2").is_empty());
}

/// Somebody who became known while a version was asked about everybody was never told of.
#[test]
fn who_comes_while_a_version_is_asked_about_everybody_is_told_of() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], heralded(&Herald::new(each_level)));
    bench.send(orders("u1", 0, 1));
    wait_for_told(&bench, "u1", 1);
    // What comes and the upgrade are in one pass then.
    *store.refuse.lock() = Some(Box::new(is_computed));
    bench.send([orders("u1", 1, 2), orders("u2", 0, 1)].concat());
    bench.wait_until("a pass was refused", || !store.refused.lock().is_empty());
    bench.configure(upgrade);
    *store.refuse.lock() = None;
    wait_for_told(&bench, "u2", 1);
    wait_for_the_next(&bench);
    assert_eq!(told(&bench, "u1").len(), 1, "it is the version that says so of her");
}

/// What was remembered of a removed model's events stayed for good.
#[test]
fn what_is_remembered_of_a_removed_models_events_goes() {
    let bench = bench(&Herald::new(each_level));
    bench.send(orders("u1", 0, 3));
    wait_for_told(&bench, "u1", 1);
    let person = bench.profile("user_id", "u1").unwrap().id;
    let marks = || {
        let of_model = Key::emitted_by(WORKSPACE, person.0, LEVEL).range();
        bench.store.scan(&of_model, 10).unwrap().rows.len()
    };
    assert_eq!(marks(), 2, "that it was told, and how much today");
    configure(&bench, |setup| drop(setup.installations.remove(1)));
    bench.wait_until("nothing is left", || marks() == 0);
    assert_eq!(told(&bench, "u1").len(), 1, "the event is the person's");
}

/// A model whose own events are among its inputs went round without end.
#[test]
fn what_a_models_own_events_set_off_comes_to_an_end() {
    let says: Saying = |count| vec![reached("", &count.to_string())];
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        heralded(&Herald::new(says))(setup);
        setup.installations[1].inputs[0].expression =
            format!("events('Order Completed').size() + events('{REACHED}').size()");
    });
    bench.send(orders("u1", 0, 1));
    let letters = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    bench.wait_until("it is reported", || !letters().is_empty());
    let most = usize::try_from(table::PERSON_EVENTS.default).unwrap();
    wait_for_told(&bench, "u1", most);
    let letters = letters();
    let [DeadLetter::Computation { code, message, people, .. }] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((code.as_str(), people.len()), ("limit.events", 1));
    assert!(message.contains("24 events of one person in a day"), "{message}");
    let replayed = bench.wait_for(bench.kernel.replay_letter(WORKSPACE, letters[0].id(), None)).unwrap();
    assert!(matches!(replayed, Replay::Impossible(why) if why.contains("on a later day")), "{replayed:?}");
    // The next day has its own.
    bench.clock.advance_ms(DAY);
    bench.send(orders("u1", 1, 1));
    wait_for_told(&bench, "u1", 2 * most);
}

/// What a version said of somebody's history left as many marks of the person as it liked.
#[test]
fn what_is_no_news_counts_as_told_within_the_bounds_of_news() {
    const SAID: usize = 30;
    let says: Saying = |_| (0..SAID).map(|number| reached("", &number.to_string())).collect();
    let bench = bench(&Herald::new(says));
    bench.try_import(orders("u1", 0, 1)).unwrap();
    wait_for_answers(&bench);
    let most = usize::try_from(table::PERSON_EVENTS.default).unwrap();
    let person = bench.profile("user_id", "u1").unwrap().id;
    let kept = || {
        let of_model = Key::emitted_by(WORKSPACE, person.0, LEVEL).range();
        bench.store.scan(&of_model, 100).unwrap().rows.len()
    };
    bench.wait_until("it is told of", || kept() > 0);
    assert_eq!(kept(), most + 1, "a mark of each, and how many there were today");
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    let [DeadLetter::Computation { code, people, .. }] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((code.as_str(), people.len()), ("limit.events", 1));
    assert!(told(&bench, "u1").is_empty());
    // News of the same day have bounds of their own, and what left no mark is told when it is said again.
    bench.send(orders("u1", 1, 1));
    wait_for_told(&bench, "u1", SAID - most);
}

/// Who became one person was told of as each of the two.
#[test]
fn what_was_told_of_a_part_is_not_told_of_the_whole() {
    let bench = bench(&Herald::new(each_level));
    bench.send([orders("u1", 0, 1), vec![event("a", &[("email", "a@b.c")], "Order Completed", START)]].concat());
    wait_for_told(&bench, "u1", 1);
    bench.wait_until("the other is told of", || told_of(&bench, "email", "a@b.c").len() == 1);
    bench.send(vec![identify("one", &[("user_id", "u1"), ("email", "a@b.c")], "{}", START)]);
    bench.wait_until("they are one", || told(&bench, "u1").len() == 2);
    wait_for_answers(&bench);
    bench.wait_until("nothing waits", || is_handed_over(&bench));
    bench.send(orders("u1", 1, 1));
    wait_for_told(&bench, "u1", 3);
    bench.send(orders("u1", 2, 1));
    bench.wait_until("nothing waits", || is_handed_over(&bench));
    let mut said: Vec<String> = told(&bench, "u1").into_iter().map(|event| event.properties).collect();
    said.sort_unstable();
    assert_eq!(said, [r#"{"orders":1}"#, r#"{"orders":1}"#, r#"{"orders":3}"#]);
}

fn rule(act: Act, what: Target, name: &str, sources: Vec<String>) -> Rule {
    Rule { id: name.replace('_', "-"), act, what, name: name.into(), event: None, to: None, sources }
}

#[test]
fn what_is_emitted_obeys_the_rules_and_what_the_version_declares() {
    let says: Saying = |orders| match orders {
        1 => vec![reached(r#"{"secret":"x","level":"few"}"#, "1")],
        _ => vec![EmittedEvent { name: "Other".into(), ..reached("", "2") }],
    };
    let bench = bench(&Herald::new(says));
    configure(&bench, |setup| {
        let drops = rule(Act::Drop, Target::Property, "secret", Vec::new());
        let hashes = rule(Act::Hash, Target::Identifier, "user_id", vec!["level".into()]);
        setup.record_rules = Arc::new(RecordRules { version: 1, rules: vec![drops, hashes] });
    });
    bench.send(orders("u1", 0, 1));
    wait_for_told(&bench, "u1", 1);
    assert_eq!(told(&bench, "u1")[0].properties, r#"{"level":"few"}"#, "the person is nobody else for it");
    bench.send(orders("u1", 1, 1));
    let letters = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    bench.wait_until("the other is set aside", || !letters().is_empty());
    let shown = format!("{:?}", letters());
    assert_eq!(told(&bench, "u1").len(), 1);
    assert!(shown.contains("undeclared-event") && shown.contains("test/level@1.0.0 may not emit `Other`"), "{shown}");
}

#[test]
fn what_a_shadow_emits_is_counted_and_goes_nowhere() {
    let bench = bench(&Herald::new(each_level));
    bench.configure(|setup| {
        let live = &mut setup.installations[1];
        live.shadow = Some(Arc::new(ShadowVersion {
            plugin_version: semver::Version::new(2, 0, 0),
            digest: "digest-of-the-shadow".into(),
            config_hash: 0,
            since: START,
            inputs: live.inputs.clone(),
            outputs: live.outputs.clone(),
            call_memory_bytes: 1 << 20,
            role: Role::TagModel(Herald::new(|orders| vec![reached("", &format!("shadow-{orders}"))])),
        }));
    });
    bench.send(orders("u1", 0, 1));
    let report = || bench.kernel.shadow(WORKSPACE, LEVEL).unwrap().report;
    bench.wait_until("it is compared", || report().compared == 1);
    assert_eq!(report().outputs["(events)"].changed, 1);
    wait_for_told(&bench, "u1", 1);
    assert_eq!(told(&bench, "u1")[0].properties, r#"{"orders":1}"#);
}
