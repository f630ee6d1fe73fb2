//! From a value to what made it, from a version to what it wrote, and the way back: what a version wrote is taken back, nothing
//! leaves because of it, and what is left is what the events alone say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kith_model::audience::{Cause, ConsentBasis, ReEntry, Reach};
use kith_model::id::Position;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};

use super::harness::*;
use crate::{
    Activity, ComputedKind, DeadLetter, Edit, InputState, PageRequest, Patience, Replay, Role, Setup, Undo,
    UndoProgress, Undone, Written, WrittenValues,
};

const GENEROUS: &str = "digest-of-generous";

/// The level of everybody is `many`.
struct Generous;

impl ComputeModel for Generous {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        (0..rows.rows).for_each(|_| level.push(Cell::Text("many".into())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// The model is of the version that says `many` of everybody.
pub(super) fn upgraded(setup: &mut Setup) {
    let model = &mut setup.installations[1];
    model.role = Role::TagModel(Arc::new(Generous));
    model.digest = GENEROUS.into();
    model.plugin_version = semver::Version::new(2, 0, 0);
    model.activity = Activity::Running;
}

/// Change the setup, and wait until all of it is computed for everybody.
fn configure(bench: &Bench, change: impl FnOnce(&mut Setup)) {
    bench.configure(change);
    bench.wait_until("the setup is in force", || bench.kernel.progress(WORKSPACE).backlog == 0);
    bench.settle();
}

fn undo(number: u32) -> Undo {
    Undo { number, installation: LEVEL, digest: GENEROUS.into(), of: Undone::Values }
}

fn progress(bench: &Bench, number: u32) -> UndoProgress {
    bench.kernel.undo_progress(WORKSPACE, number).unwrap()
}

fn written(bench: &Bench, digest: &str) -> Written {
    let installations = BTreeSet::from([SOURCE, LEVEL]);
    bench.kernel.written(WORKSPACE, digest, &installations, &Patience::default()).unwrap()
}

fn levels(bench: &Bench) -> BTreeMap<String, String> {
    let level = |user: &str| {
        let profile = bench.profile("user_id", user)?;
        Some((user.to_owned(), profile.tags.get("level")?.json.clone()))
    };
    ["u1", "u2", "u3"].into_iter().filter_map(level).collect()
}

/// Two people under the first version, all three under the second; the messages that left. Who is in because of a change is
/// written to as well.
fn with_two_versions() -> (Bench, usize) {
    let mut many = audience(1, "tags.level == 'many'", Some(ConsentBasis::NotRefused));
    let action = many.on_enter.as_mut().unwrap();
    (action.existing, action.re_entry) = (Reach::Send, ReEntry::Always);
    let bench = Bench::new(vec![many]);
    bench.send([orders("u1", 0, 3), orders("u2", 0, 1)].concat());
    bench.settle();
    configure(&bench, upgraded);
    bench.send(orders("u3", 0, 1));
    bench.settle();
    assert_eq!((levels(&bench).len(), bench.size(1)), (3, Some(3)));
    // To the first by his own events, to the others by the mistake of the second version.
    let sent = bench.postbox.sent.lock().len();
    assert_eq!(sent, 3);
    (bench, sent)
}

#[test]
fn a_value_leads_to_its_version_its_inputs_and_the_event_behind_it() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 3));
    bench.settle();
    bench.send(vec![identify("said", &[("user_id", "u1")], r#"{"city":"Oslo"}"#, START)]);
    let id = bench.profile("user_id", "u1").unwrap().id;
    let of = |name| {
        let patience = Patience::default();
        bench.kernel.value_provenance(WORKSPACE, id, (ComputedKind::Tag, name), &patience).unwrap()
    };
    let found = of("level").unwrap();
    assert_eq!((found.json.as_str(), found.state), ("\"many\"", InputState::AsComputed));
    let provenance = &found.provenance;
    assert_eq!((provenance.installation, provenance.digest.as_str(), provenance.fit), (LEVEL, "digest-of-level", 0));
    let [input] = found.inputs.as_slice() else { panic!("{:?}", found.inputs) };
    assert_eq!((input.name.as_str(), input.json.as_deref()), ("orders", Some("3")));
    let cause = found.cause.unwrap();
    assert_eq!((cause.recorded.event.name.as_str(), cause.recorded.position), ("Order Completed", provenance.cause));
    let reader = Some(("1.0.0".to_owned(), "digest-of-source".to_owned()));
    assert!(cause.counts && cause.reader == reader);
    assert!(of("score").is_none());

    let fact = bench.kernel.fact_provenance(WORKSPACE, id, "city").unwrap().unwrap();
    let event = fact.event.unwrap();
    assert_eq!((fact.value.json.as_str(), event.recorded.event.message_id.as_str()), ("\"Oslo\"", "said"));
    assert_eq!(event.reader, reader);
    let at = |position| bench.kernel.event_provenance(WORKSPACE, id, position).unwrap();
    assert_eq!(at(event.recorded.position), Some(event));
    for nowhere in [Position(0), Position(u64::MAX)] {
        assert_eq!(at(nowhere), None);
    }
    bench.send(orders("u2", 0, 1));
    let other = bench.profile("user_id", "u2").unwrap().id;
    let found = bench.kernel.event_provenance(WORKSPACE, other, provenance.cause).unwrap();
    assert_eq!(found, None, "nobody sees the events of another through a person");

    *bench.level.fails.lock() = true;
    bench.send(orders("u1", 3, 1));
    bench.settle();
    let held = of("level").unwrap();
    let found = (held.json.as_str(), held.state);
    assert_eq!(found, ("\"many\"", InputState::Changed), "the value is of other inputs");
}

/// Regression: of a value that a fit, another version or the installation had set off no event was told.
#[test]
fn a_value_that_a_change_set_off_leads_to_the_last_event_that_its_inputs_read() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 2));
    bench.send(vec![identify("said", &[("user_id", "u1")], r#"{"city":"Oslo"}"#, START)]);
    bench.send(orders("u2", 0, 1));
    bench.settle();
    configure(&bench, upgraded);
    let id = bench.profile("user_id", "u1").unwrap().id;
    let level = (ComputedKind::Tag, "level");
    let of = || bench.kernel.value_provenance(WORKSPACE, id, level, &Patience::default()).unwrap().unwrap();
    let found = of();
    assert_eq!((found.provenance.digest.as_str(), found.state), (GENEROUS, InputState::AsComputed));
    assert_eq!((&found.cause, found.set_off_by), (&None, Cause::Change), "the upgrade set it off");
    let behind = found.behind.unwrap();
    assert_eq!(behind.recorded.event.message_id, "u1-1", "no input reads what was said later");
    assert!(behind.counts && behind.recorded.position < found.provenance.cause);
    bench.send(orders("u1", 2, 1));
    bench.settle();
    let found = of();
    assert_eq!(found.set_off_by, Cause::Event);
    assert_eq!((found.cause.unwrap().recorded.event.message_id.as_str(), found.behind), ("u1-2", None));
}

#[test]
fn a_connector_leads_to_the_events_that_each_of_its_versions_read() {
    let mut bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 2));
    bench.configure(|setup| setup.installations[0].digest = "second".into());
    bench.send(orders("u1", 2, 3));
    bench.settle();
    bench.restart();
    bench.send(orders("u2", 0, 1));
    bench.configure(|setup| setup.installations[0].digest = "digest-of-source".into());
    bench.send(orders("u2", 1, 1));
    bench.settle();
    let counted = |digest| written(&bench, digest).events.iter().map(|range| range.events).collect::<Vec<_>>();
    assert_eq!((counted("digest-of-source"), counted("second"), counted("third")), (vec![3], vec![4], vec![]));
    let listed = |digest: &str| {
        let (mut ids, mut next) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 2, cursor: next.as_deref() };
            let sources = BTreeSet::from([SOURCE]);
            let found = bench.kernel.events_written(WORKSPACE, digest, &sources, page).unwrap();
            ids.extend(found.items.into_iter().map(|recorded| recorded.event.message_id));
            next = found.next;
            if next.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(listed("second"), ["u1-2", "u1-3", "u1-4", "u2-0"]);
    assert_eq!(listed("digest-of-source"), ["u1-0", "u1-1", "u2-1"]);
}

#[test]
fn what_a_version_wrote_is_taken_back_once_and_no_message_leaves() {
    let (mut bench, sent) = with_two_versions();
    let all = written(&bench, GENEROUS);
    let [WrittenValues { installation, people, .. }] = all.values.as_slice() else { panic!("{:?}", all.values) };
    assert_eq!((*installation, people["level"], all.messages, all.is_all), (LEVEL, 3, 3, true));
    let page = bench.kernel.values_written(WORKSPACE, GENEROUS, PageRequest::first(10)).unwrap();
    assert_eq!((page.items.len(), page.next), (3, None));
    assert_eq!(written(&bench, "digest-of-level").values[0].people["level"], 0, "nothing of it is left");

    // Nothing runs that could be asked in its place.
    configure(&bench, |setup| {
        setup.installations[1].activity = Activity::Held { since: START, why: "wrong".into() };
        setup.undos.push(undo(1));
    });
    bench.wait_until("it is taken back", || progress(&bench, 1) == UndoProgress::Done);
    assert_eq!((levels(&bench).len(), bench.size(1)), (0, Some(0)));
    assert_eq!(written(&bench, GENEROUS).values[0].people["level"], 0);
    let counted = bench.kernel.count(WORKSPACE, "tags.level == 'many'").unwrap();
    assert_eq!((counted.count, counted.pending), (0, 0));

    // It was taken back once: what the version writes afterwards is its own again, whatever restarts.
    configure(&bench, upgraded);
    bench.wait_until("it is computed again", || bench.size(1) == Some(3));
    bench.restart();
    bench.wait_until("the setup is in force", || bench.kernel.progress(WORKSPACE).backlog == 0);
    assert_eq!((levels(&bench).len(), progress(&bench, 1)), (3, UndoProgress::Done));
    assert_eq!(bench.postbox.sent.lock().len(), sent);
}

#[test]
fn the_version_before_serves_and_all_is_as_the_events_alone_say() {
    let (mut bench, sent) = with_two_versions();
    let level = bench.level.clone();
    // So slow that what is to be taken back is still there when the sweep comes by.
    *level.takes.lock() = Duration::from_millis(300);
    bench.configure(|setup| {
        let model = &mut setup.installations[1];
        model.role = Role::TagModel(level);
        model.digest = "digest-of-level".into();
        model.plugin_version = semver::Version::new(1, 0, 0);
        setup.undos.push(undo(1));
    });
    // Wherever the process ends meanwhile, it goes on from there.
    bench.restart();
    bench.wait_until("it is taken back", || progress(&bench, 1) == UndoProgress::Done);
    bench.settle();
    assert_eq!(bench.size(1), Some(1));
    let fresh = Bench::new(vec![audience(1, "tags.level == 'many'", None)]);
    fresh.send([orders("u1", 0, 3), orders("u2", 0, 1), orders("u3", 0, 1)].concat());
    fresh.settle();
    assert_eq!(fresh.size(1), Some(1));
    assert_eq!(levels(&bench), levels(&fresh));
    assert_eq!(written(&bench, GENEROUS).values[0].people["level"], 0);
    assert_eq!(bench.postbox.sent.lock().len(), sent);
}

/// Nobody is held to what was taken back by a version that cannot say anything else, and nobody is written to when one can.
#[test]
fn what_the_version_before_cannot_say_is_null_and_no_news_later() {
    let (bench, sent) = with_two_versions();
    let level = bench.level.clone();
    *level.fails.lock() = true;
    bench.configure(|setup| {
        let model = &mut setup.installations[1];
        model.role = Role::TagModel(level);
        model.digest = "digest-of-level".into();
        model.plugin_version = semver::Version::new(1, 0, 0);
        setup.undos.push(undo(1));
    });
    bench.wait_until("it is taken back", || progress(&bench, 1) == UndoProgress::Done);
    configure(&bench, |setup| {
        setup.installations[1].activity = Activity::Held { since: START, why: "it fails".into() };
    });
    assert_eq!((levels(&bench).len(), bench.size(1)), (0, Some(0)));
    configure(&bench, upgraded);
    bench.wait_until("it is computed again", || bench.size(1) == Some(3));
    assert_eq!((levels(&bench).len(), bench.postbox.sent.lock().len()), (3, sent));
}

/// An event that was set aside is of the version that made it, whichever version is there when it is tried again.
#[test]
fn an_event_that_is_tried_again_is_of_the_version_that_made_it() {
    let bench = Bench::new(vec![]);
    let name = "N".repeat(300);
    let mut refused = orders("u1", 0, 1);
    refused[0].name.clone_from(&name);
    bench.send(refused);
    configure(&bench, |setup| {
        let source = &mut setup.installations[0];
        (source.digest, source.plugin_version) = ("digest-of-next".into(), semver::Version::new(2, 0, 0));
    });
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    let [DeadLetter::Record(letter)] = letters.as_slice() else { panic!("{letters:?}") };
    let corrected = letter.record.raw.replace(&name, "Order Completed");
    assert_eq!(bench.wait_for(bench.kernel.edit_letter(WORKSPACE, &letter.id, corrected)).unwrap(), Edit::Done);
    let replayed = bench.wait_for(bench.kernel.replay_letter(WORKSPACE, &letter.id, None)).unwrap();
    assert_eq!(replayed, Replay::Taken { accepted: 1, duplicate: 0 });
    let read = |digest| written(&bench, digest).events.into_iter().map(|events| events.events).sum::<u64>();
    assert_eq!((read("digest-of-source"), read("digest-of-next")), (1, 0));
    bench.send(orders("u1", 1, 1));
    assert_eq!((read("digest-of-source"), read("digest-of-next")), (1, 1));
}

/// The version that ran was said to have read up to then, and the one before it to read still.
#[test]
fn what_is_tried_again_ends_the_range_of_no_version_that_runs() {
    let bench = Bench::new(vec![]);
    let name = "N".repeat(300);
    let mut refused = orders("u1", 0, 2);
    refused[1].name.clone_from(&name);
    bench.send(refused);
    configure(&bench, |setup| {
        let source = &mut setup.installations[0];
        (source.digest, source.plugin_version) = ("digest-of-next".into(), semver::Version::new(2, 0, 0));
    });
    let is_over = |digest| written(&bench, digest).events.last().map(|events| events.up_to.is_some());
    assert_eq!(is_over("digest-of-source"), Some(true), "another one is in use, though it has read nothing yet");
    bench.send(orders("u1", 2, 1));
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    let [DeadLetter::Record(letter)] = letters.as_slice() else { panic!("{letters:?}") };
    let corrected = letter.record.raw.replace(&name, "Order Completed");
    assert_eq!(bench.wait_for(bench.kernel.edit_letter(WORKSPACE, &letter.id, corrected)).unwrap(), Edit::Done);
    let replayed = bench.wait_for(bench.kernel.replay_letter(WORKSPACE, &letter.id, None)).unwrap();
    assert_eq!(replayed, Replay::Taken { accepted: 1, duplicate: 0 });
    assert_eq!((is_over("digest-of-source"), is_over("digest-of-next")), (Some(true), Some(false)));
    let read = |digest| written(&bench, digest).events.into_iter().map(|events| events.events).sum::<u64>();
    assert_eq!((read("digest-of-source"), read("digest-of-next")), (2, 1));
}
