//! Files that come again: whole, in another order, with rows put in front, years later, under a source that was installed again,
//! corrected, and broken off anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::event::DraftEvent;
use kith_model::plugin::*;
use proptest::prelude::*;

use super::harness::*;
use crate::{Acceptance, Intake, IntakeError, Role};

/// A connector of lines `user|content|id`, each with so much filling that a file of some has several pieces. Its state is the
/// number of the line.
struct Lines;

const FILLING: usize = 6_000;

impl Connector for Lines {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let mut line = request.resume.as_deref().map_or(0, |state| u64::from_be_bytes(state.try_into().unwrap()));
        let (mut events, mut rejected, mut consumed) = (Vec::new(), Vec::new(), 0);
        while let Some(end) = request.body[consumed..].iter().position(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(&request.body[consumed..consumed + end]).into_owned();
            consumed += end + 1;
            line += 1;
            let parts: Vec<&str> = text.trim().split('|').collect();
            let [user, content, id, _] = parts.as_slice() else {
                let record = kith_model::event::RejectedRecord {
                    place: line,
                    code: "bad-line".into(),
                    message: "it has not four parts".into(),
                    raw: text,
                };
                rejected.push(record);
                continue;
            };
            let event = event("", &[("user_id", user)], "Order Completed", START);
            let message_id = (!id.is_empty()).then(|| (*id).to_owned());
            let properties = format!(r#"{{"content":"{content}"}}"#);
            let traits = if content.len() > 1 { format!(r#"{{"city":"{content}"}}"#) } else { String::new() };
            events.push(DraftEvent { message_id, properties, traits, ..event });
        }
        let resume = Some(line.to_be_bytes().to_vec());
        Ok(Received { events, places: Vec::new(), rejected, consumed, resume, answer: None, notes: Vec::new() })
    }
}

fn file(rows: &[(u8, u8, Option<u16>)]) -> Vec<u8> {
    let line = |(user, content, id): &(u8, u8, Option<u16>)| {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        format!("u{user}|{}|{id}|{}\n", char::from(b'a' + content), "x".repeat(FILLING))
    };
    rows.iter().map(line).collect::<String>().into_bytes()
}

fn bench() -> Bench {
    Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        setup.installations[0].role = Role::Connector(Arc::new(Lines));
    })
}

fn begin(bench: &Bench) -> Intake {
    let head = SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: vec![],
        body: vec![],
        complete: false,
        resume: None,
        received_at: kith_model::time::Clock::now(&bench.clock),
        replayed: ReplayScope::No,
    };
    bench
        .kernel
        .intake(WORKSPACE, bench.setup.lock().installations[0].id, head, crate::tests::harness::LIVE.giver)
        .unwrap()
}

fn import(bench: &Bench, file: &[u8]) -> Acceptance {
    let mut intake = begin(bench);
    bench.runtime.block_on(async {
        for piece in file.chunks(100_000) {
            intake.push(piece).await.unwrap();
        }
        intake.finish().await.unwrap().acceptance
    })
}

/// Accepted, corrected, duplicate, conflicts and rejected ones.
fn counts(acceptance: &Acceptance) -> (u64, u64, u64, u64, u64) {
    let Acceptance { accepted, corrected, duplicate, conflict, rejected_count, .. } = acceptance;
    (*accepted, *corrected, *duplicate, *conflict, *rejected_count)
}

/// How many events of each content each user has.
fn held(bench: &Bench) -> BTreeMap<(u8, u8), usize> {
    let mut held = BTreeMap::new();
    for user in 0..6_u8 {
        let identifier = kith_model::identity::Identifier::new("user_id", format!("u{user}"));
        let Some(profile) = bench.kernel.profile_by_identifier(WORKSPACE, &identifier).unwrap() else { continue };
        let page = bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(500)).unwrap().unwrap();
        for recorded in page.events {
            let content = recorded.event.properties.as_bytes()[12] - b'a';
            *held.entry((user, content)).or_default() += 1;
        }
    }
    held
}

fn expected(rows: &[(u8, u8, Option<u16>)]) -> BTreeMap<(u8, u8), usize> {
    let mut expected = BTreeMap::new();
    rows.iter().for_each(|(user, content, _)| *expected.entry((*user, *content)).or_default() += 1);
    expected
}

fn rows_without_ids() -> impl Strategy<Value = Vec<(u8, u8, Option<u16>)>> {
    proptest::collection::vec((0_u8..6, 0_u8..5, Just(None)), 1..120)
}

proptest! {
    #![proptest_config(super::laws(12))]

    /// Rows without an id are what they hold, as often as they are there: another order, other line ends and rows put anywhere
    /// bring only what is new.
    #[test]
    fn rows_without_ids_are_known_by_content_and_number(
        (rows, more) in (rows_without_ids(), rows_without_ids()),
        seed in any::<u64>(),
    ) {
        let bench = bench();
        prop_assert_eq!(counts(&import(&bench, &file(&rows))), (rows.len() as u64, 0, 0, 0, 0));
        let mut all: Vec<_> = rows.iter().chain(&more).copied().collect();
        let mut random = seed;
        for at in (1..all.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            all.swap(at, usize::try_from(random >> 33).unwrap() % (at + 1));
        }
        let text = String::from_utf8(file(&all)).unwrap().replace('\n', "\r\n");
        let again = import(&bench, text.as_bytes());
        prop_assert_eq!(counts(&again), (more.len() as u64, 0, rows.len() as u64, 0, 0));
        bench.clock.advance_ms(1_000 * DAY);
        prop_assert_eq!(counts(&import(&bench, &file(&all))), (0, 0, all.len() as u64, 0, 0));
        prop_assert_eq!(held(&bench), expected(&all));
    }

    /// An import that is broken off anywhere, by its sender or with the process, goes on there: nothing is lost or doubled, and
    /// the answer tells of the whole file.
    #[test]
    fn an_import_that_is_broken_off_goes_on_where_it_was(
        rows in proptest::collection::vec((0_u8..6, 0_u8..5, proptest::option::of(0_u16..400)), 60..200),
        cuts in proptest::collection::vec((0_usize..1_000, any::<bool>()), 1..4),
    ) {
        // One content for each id.
        let rows: Vec<_> =
            rows.into_iter().map(|(user, content, id)| id.map_or((user, content, None), |id| ((id % 6) as u8, (id % 5) as u8, Some(id)))).collect();
        let mut file = file(&rows);
        file.extend_from_slice(b"bad\n");
        let whole = { let other = bench(); counts(&import(&other, &file)) };
        let mut bench = bench();
        for (share, dies) in cuts {
            let until = file.len() * share / 1_000;
            let source = bench.setup.lock().installations[0].id;
            let left = bench.kernel.import_state(WORKSPACE, source, "file").unwrap().map_or(0, |state| state.bytes);
            let from = usize::try_from(left).unwrap();
            let intake = begin(&bench);
            if from > 0 {
                let elsewhere = begin(&bench).named("file", 7).err();
                let is_told = matches!(elsewhere, Some(IntakeError::ImportElsewhere { bytes }) if bytes == left);
                prop_assert!(is_told);
            }
            let mut intake = intake.named("file", left).unwrap();
            let is_held = matches!(begin(&bench).named("file", left), Err(IntakeError::ImportUnderWay { .. }));
            prop_assert!(is_held);
            if until > from {
                bench.runtime.block_on(async {
                    for piece in file[from..until].chunks(90_000) {
                        intake.push(piece).await.unwrap();
                    }
                });
            }
            drop(intake);
            if dies {
                bench.restart();
            }
        }
        let source = bench.setup.lock().installations[0].id;
        let state = bench.kernel.import_state(WORKSPACE, source, "file").unwrap();
        let from = state.as_ref().map_or(0, |state| state.bytes);
        let mut intake = begin(&bench).named("file", from).unwrap();
        prop_assert_eq!(intake.went_on().is_some(), from > 0);
        let end = bench.runtime.block_on(async {
            for piece in file[usize::try_from(from).unwrap()..].chunks(90_000) {
                intake.push(piece).await.unwrap();
            }
            intake.finish().await.unwrap().acceptance
        });
        prop_assert_eq!(counts(&end), whole);
        let listed: Vec<u64> = end.rejected.iter().map(|record| record.place).collect();
        prop_assert_eq!(listed, vec![rows.len() as u64 + 1]);
        prop_assert_eq!(bench.kernel.import_state(WORKSPACE, source, "file").unwrap(), None);
        let mut once: Vec<_> = rows.clone();
        let mut seen = std::collections::BTreeSet::new();
        once.retain(|(_, _, id)| id.is_none_or(|id| seen.insert(id)));
        prop_assert_eq!(held(&bench), expected(&once));
    }
}

/// A process that ends between two units of a piece leaves rows that are taken and a piece that comes again: they are rows of the file
/// that were taken, not repeats of it, and the row that the file does have twice is the one repeat.
#[test]
fn rows_of_a_piece_that_was_cut_off_are_no_repeats() {
    let bench = bench();
    let mut rows: Vec<_> = (0..120_u16).map(|id| ((id % 6) as u8, 0, Some(id))).collect();
    rows[5] = rows[4];
    let file = file(&rows);
    let mut intake = begin(&bench).named("file", 0).unwrap();
    bench.runtime.block_on(intake.push(&file[..300_000])).unwrap();
    drop(intake);
    let source = bench.setup.lock().installations[0].id;
    let taken = bench.kernel.import_state(WORKSPACE, source, "file").unwrap().unwrap().acceptance;
    assert!(taken.accepted > 1 && taken.duplicate == 1, "{taken:?}");
    // With the piece's last unit goes how far the import has come; what its first ones brought stays.
    let import = crate::accept::files::hash("source", "file");
    let operations = vec![kith_store::Operation::Delete(kith_store::Key::import(WORKSPACE, import, 0, 0))];
    bench.store.commit(kith_store::Unit { operations, ..Default::default() }).unwrap();
    assert_eq!(bench.kernel.import_state(WORKSPACE, source, "file").unwrap(), None);
    let mut intake = begin(&bench).named("file", 0).unwrap();
    let end = bench.runtime.block_on(async {
        for piece in file.chunks(90_000) {
            intake.push(piece).await.unwrap();
        }
        intake.finish().await.unwrap().acceptance
    });
    assert_eq!(counts(&end), (119, 0, 1, 0, 0));
    assert_eq!(end.records(), rows.len() as u64);
}

/// A source that is installed again under its name knows its files, however long ago they came; another source does not.
#[test]
fn rows_are_known_by_the_name_of_their_source() {
    let bench = bench();
    let rows: Vec<_> = (0..50_u16).map(|id| ((id % 6) as u8, 0, Some(id))).collect();
    assert_eq!(counts(&import(&bench, &file(&rows))), (50, 0, 0, 0, 0));
    bench.clock.advance_ms(19 * DAY);
    assert_eq!(counts(&import(&bench, &file(&rows))), (0, 0, 50, 0, 0));
    bench.configure(|setup| {
        let again = kith_model::id::InstallationId(9);
        setup.installations[0].id = again;
        setup.source_names.insert(again, "source".into());
    });
    assert_eq!(counts(&import(&bench, &file(&rows))), (0, 0, 50, 0, 0));
    bench.configure(|setup| {
        let other = kith_model::id::InstallationId(10);
        setup.installations[0].id = other;
        setup.installations[0].name = "other".parse().unwrap();
        setup.source_names.insert(other, "other".into());
    });
    assert_eq!(counts(&import(&bench, &file(&rows))), (50, 0, 0, 0, 0));
}

/// What a repeat, a conflict and a correction are is counted apart; what is corrected counts as what it is now, also by an
/// installation that took the place of the one that it came with.
#[test]
fn a_repeat_a_conflict_and_a_correction_are_three_things() {
    let bench = bench();
    let before = [(1, 0, Some(1)), (1, 0, Some(2)), (2, 0, Some(3))];
    let after = [(1, 0, Some(1)), (1, 1, Some(2)), (3, 0, Some(3)), (1, 0, Some(4))];
    assert_eq!(counts(&import(&bench, &file(&before))), (3, 0, 0, 0, 0));
    let refused = import(&bench, &file(&after));
    assert_eq!(counts(&refused), (1, 0, 1, 2, 2));
    assert!(refused.rejected.iter().all(|record| record.code == "message-id-conflict"), "{:?}", refused.rejected);
    assert_eq!(held(&bench), BTreeMap::from([((1, 0), 3), ((2, 0), 1)]));
    bench.configure(|setup| {
        let again = kith_model::id::InstallationId(9);
        setup.installations[0].id = again;
        setup.installations[0].corrects = true;
        setup.source_names.insert(again, "source".into());
    });
    assert_eq!(counts(&import(&bench, &file(&after))), (0, 2, 2, 0, 0));
    assert_eq!(counts(&import(&bench, &file(&after))), (0, 0, 4, 0, 0));
    assert_eq!(held(&bench), BTreeMap::from([((1, 0), 2), ((1, 1), 1), ((3, 0), 1)]));
    bench.settle();
    assert_eq!(bench.kernel.count(WORKSPACE, "events('Order Completed').size() == 3").unwrap().count, 1);
    assert_eq!(bench.kernel.count(WORKSPACE, "events('Order Completed').size() == 0").unwrap().count, 1);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, 4);
}

/// The second event of an id came when nobody remembered the first one. What took the place of both was counted as if it had taken
/// that of one.
#[test]
fn a_correction_in_the_place_of_several_events_counts_for_what_is_left() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.installations[0].corrects = true);
    let seen = |name: &str| vec![event("m-1", &[("user_id", "u1")], name, START)];
    assert_eq!(bench.send(seen("Seen")).acceptance.accepted, 1);
    bench.clock.advance_ms(9 * DAY);
    assert_eq!(bench.send(seen("Seen")).acceptance.accepted, 1);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, 2);
    assert_eq!(bench.try_import(seen("Paid")).unwrap().acceptance.corrected, 1);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, 1);
    assert_eq!(bench.count("events('Paid').size() == 1 && events('Seen').size() == 0"), 1);
}

/// Of one id that stands in a file several times the last counts.
#[test]
fn a_file_can_correct_its_own_rows() {
    let bench = bench();
    bench.configure(|setup| setup.installations[0].corrects = true);
    let rows: Vec<_> = (0..90_u8).map(|row| (row % 3, row % 5, Some(u16::from(row % 7)))).collect();
    let taken = import(&bench, &file(&rows));
    assert_eq!((taken.accepted, taken.rejected_count), (7, 0));
    let mut last = BTreeMap::new();
    for (user, content, id) in &rows {
        last.insert(*id, (*user, *content, *id));
    }
    assert_eq!(held(&bench), expected(&last.into_values().collect::<Vec<_>>()));
}
