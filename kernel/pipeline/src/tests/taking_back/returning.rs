//! What a version corrected is as it was before once that version is taken back.

use kith_model::event::DraftEvent;
use kith_model::id::SourceIdentityId;

use super::*;

/// What a row of a file says: the number of a user, a city, and whether it is an order.
type Content = (usize, u8, bool);

/// Rows of a file by their numbers.
type File = BTreeMap<usize, Content>;

/// Rows that no other row has a time in common with, so that of two facts one is the newer.
fn drafts_of(file: &File) -> Vec<DraftEvent> {
    let draft = |(row, (user, city, is_order)): (&usize, &Content)| {
        let content = 6 * user + 2 * usize::from(*city) + usize::from(*is_order);
        let before_ms = i64::try_from(*row).unwrap() * 5 * DAY + i64::try_from(content).unwrap() * 60_000;
        let (id, who, time) = (format!("row-{row}"), [("user_id", USERS[*user])], Timestamp(START.0 - before_ms));
        match is_order {
            true => event(&id, &who, "Order Completed", time),
            false => identify(&id, &who, &format!(r#"{{"city":{city}}}"#), time),
        }
    };
    file.iter().map(draft).collect()
}

/// A version reads a file whose rows correct those of before.
fn import(bench: &Bench, version: &str, drafts: Vec<DraftEvent>) -> (u64, u64, u64) {
    bench.configure(|setup| {
        setup.installations[0].digest = version.to_owned();
        setup.installations[0].corrects = true;
    });
    let taken = bench.try_import(drafts).unwrap().acceptance;
    (taken.accepted, taken.corrected, taken.duplicate)
}

fn says(id: &str, user: &str, traits: &str) -> DraftEvent {
    identify(id, &[("user_id", user)], traits, START)
}

fn fact(bench: &Bench, user: &str, name: &str) -> Option<String> {
    bench.profile("user_id", user)?.traits.get(name).map(|held| held.value.json.clone())
}

fn arb_file() -> impl Strategy<Value = File> {
    proptest::collection::btree_map(0..6_usize, (0..USERS.len(), 0..3_u8, any::<bool>()), 1..5)
}

proptest! {
    #![proptest_config(super::super::laws(8))]

    /// The naive answer: of each row the last that a good version said counts.
    #[test]
    fn what_is_left_is_what_the_good_versions_said_last(
        files in proptest::collection::vec((any::<bool>(), arb_file()), 1..7),
        restarts in any::<bool>(),
    ) {
        let (mut bench, fresh) = (Bench::new(audiences()), Bench::new(audiences()));
        let mut said: BTreeMap<usize, Vec<(bool, Content)>> = BTreeMap::new();
        for (is_bad, file) in &files {
            import(&bench, if *is_bad { BAD } else { GOOD }, drafts_of(file));
            for (row, content) in file {
                let of_row = said.entry(*row).or_default();
                // What is there already is a repeat, whoever sends it.
                if of_row.last().is_none_or(|(_, held)| held != content) {
                    of_row.push((*is_bad, *content));
                }
            }
        }
        read_by(&bench, GOOD);
        bench.settle();
        let gone: Vec<_> = said.values().filter(|of_row| of_row.last().is_some_and(|(is_bad, _)| *is_bad)).collect();
        let returned = gone.iter().filter(|of_row| of_row.iter().any(|(is_bad, _)| !is_bad)).count() as u64;
        let gone = gone.len() as u64;
        let (sent, before) = (bench.postbox.sent.lock().len(), bench.kernel.totals(WORKSPACE).unwrap().events);
        if files.iter().any(|(is_bad, _)| *is_bad) {
            let foreseen = preview(&bench);
            bench.configure(|setup| setup.undos = vec![undo(1)]);
            if restarts {
                bench.restart();
            }
            let taken_back = take_back(&bench, 1);
            prop_assert_eq!((taken_back.events, taken_back.returned, taken_back.lost), (gone, returned, 0));
            prop_assert_eq!(foretold(taken_back), foreseen);
        }
        let good = |of_row: &Vec<(bool, Content)>| of_row.iter().rev().find(|(is_bad, _)| !is_bad).map(|(_, said)| *said);
        let last: File = said.iter().filter_map(|(row, of_row)| Some((*row, good(of_row)?))).collect();
        if !last.is_empty() {
            import(&fresh, GOOD, drafts_of(&last));
        }
        fresh.settle();
        prop_assert_eq!(people(&bench), people(&fresh));
        prop_assert_eq!(sizes(&bench), sizes(&fresh));
        prop_assert_eq!(left(&bench), 0);
        prop_assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, before - gone + returned);
        prop_assert_eq!(bench.postbox.sent.lock().len(), sent, "a message left because of it");
    }
}

/// The corrected rows were in nobody's history any more.
#[test]
fn what_was_corrected_returns_wherever_the_process_ended() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), audiences(), |_| {});
    let rows = |user: &str, name: &str| -> Vec<DraftEvent> {
        (0..6).map(|row| event(&format!("row-{row}"), &[("user_id", user)], name, Timestamp(START.0 - DAY))).collect()
    };
    assert_eq!(import(&bench, GOOD, rows("u1", "Order Completed")), (6, 0, 0));
    assert_eq!(import(&bench, BAD, rows("u2", "Wrong")), (0, 6, 0));
    read_by(&bench, GOOD);
    bench.settle();
    let before = bench.kernel.totals(WORKSPACE).unwrap().events;
    assert_eq!(bench.count("events('Order Completed').size() > 0"), 0);
    // Of each process one slice is committed; the next one is not, and the process ends there.
    let allowed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&allowed);
    let refuse = move |unit: &Unit| is_slice(unit) && counted.swap(0, Ordering::SeqCst) == 0;
    *store.refuse.lock() = Some(Box::new(refuse));
    bench.configure(|setup| setup.undos = vec![undo(1)]);
    while !is_done(&bench, 1) {
        store.refused.lock().clear();
        allowed.store(1, Ordering::SeqCst);
        bench.restart();
        bench.wait_until("the process came to its end", || !store.refused.lock().is_empty() || is_done(&bench, 1));
    }
    *store.refuse.lock() = None;
    bench.settle();
    let taken_back = bench.kernel.taken_back(WORKSPACE, &undo(1)).unwrap();
    assert_eq!(
        taken_back,
        TakenBack { events: 6, left_empty: taken_back.left_empty, returned: 6, ..TakenBack::default() }
    );
    assert_eq!((left(&bench), bench.kernel.totals(WORKSPACE).unwrap().events), (0, before));
    assert_eq!(bench.count("events('Order Completed').size() == 6"), 1);
    assert_eq!(bench.count("events('Wrong').size() > 0"), 0);
    // It is known by what it says, and a version that reads it rightly corrects it.
    assert_eq!(import(&bench, GOOD, rows("u1", "Order Completed")), (0, 0, 6));
    assert_eq!(import(&bench, GOOD, rows("u1", "Wrong")), (0, 6, 0));
}

/// An agreement of a version that was taken back before would be heard again.
#[test]
fn what_was_taken_back_before_does_not_return() {
    let bench = Bench::new(vec![]);
    let third = Undo { number: 2, digest: "digest-of-the-third".into(), ..undo(2) };
    import(&bench, GOOD, vec![says("a", "u1", r#"{"city":"Rome","consent":{"calls":false}}"#)]);
    import(&bench, BAD, vec![says("a", "u1", r#"{"city":"Oslo","consent":{"news":true}}"#)]);
    import(&bench, &third.digest, vec![says("a", "u1", r#"{"city":"Bern","consent":{"calls":true}}"#)]);
    read_by(&bench, GOOD);
    bench.settle();
    let taken_back = take_back(&bench, 1);
    assert_eq!((taken_back.events, taken_back.returned), (0, 0), "the event is another version's now");
    assert_eq!(fact(&bench, "u1", "city").as_deref(), Some("\"Bern\""));
    bench.configure(|setup| setup.undos = vec![undo(1), third.clone()]);
    bench.wait_until("it is taken back", || is_done(&bench, 2));
    bench.settle();
    let taken_back = bench.kernel.taken_back(WORKSPACE, &third).unwrap();
    assert_eq!((taken_back.events, taken_back.returned, taken_back.lost), (1, 1, 0));
    assert_eq!(fact(&bench, "u1", "city").as_deref(), Some("\"Rome\""));
    assert_eq!(held_by_each(&bench, "user_id", "u1"), [("calls".to_owned(), true)]);
}

/// What people had agreed to and refused in what was corrected is as it was, and not wider.
#[test]
fn what_was_corrected_to_another_person_is_the_first_ones_again() {
    let bench = Bench::new(vec![]);
    let file = |user: &str, city: &str, said: bool| {
        let moves = format!(r#"{{"city":"{city}","consent":{{"post":{said}}}}}"#);
        vec![says("a", "u1", &moves), says("b", user, r#"{"plan":"gold","consent":{"calls":true}}"#)]
    };
    import(&bench, GOOD, file("u1", "Rome", false));
    import(&bench, BAD, file("u2", "Oslo", true));
    read_by(&bench, GOOD);
    bench.settle();
    assert_eq!([fact(&bench, "u1", "plan"), fact(&bench, "u2", "plan")], [None, Some("\"gold\"".to_owned())]);
    let taken_back = take_back(&bench, 1);
    assert_eq!((taken_back.events, taken_back.returned, taken_back.lost), (2, 2, 0));
    let facts = ["city", "plan"].map(|name| fact(&bench, "u1", name));
    assert_eq!(facts, [Some("\"Rome\"".to_owned()), Some("\"gold\"".to_owned())]);
    let said = [("calls".to_owned(), false), ("post".to_owned(), true)];
    assert_eq!(held_by_each(&bench, "user_id", "u1"), said);
    assert_eq!((fact(&bench, "u2", "plan"), held_by_each(&bench, "user_id", "u2")), (None, vec![]));
}

/// What cannot return is counted before and after.
#[test]
fn what_nothing_is_left_of_is_told() {
    let bench = Bench::new(vec![]);
    let row = |city: u8| vec![says("a", "u1", &format!(r#"{{"city":{city}}}"#))];
    import(&bench, GOOD, row(0));
    import(&bench, BAD, row(1));
    import(&bench, GOOD, vec![says("b", "u2", r#"{"city":0}"#)]);
    // More corrections of one row than are looked through.
    for city in 1..12 {
        import(&bench, BAD, vec![says("b", "u2", &format!(r#"{{"city":{city}}}"#))]);
    }
    read_by(&bench, GOOD);
    bench.settle();
    assert_eq!((preview(&bench).returned, preview(&bench).lost), (1, 1));
    let identity: SourceIdentityId = bench.profile("user_id", "u1").unwrap().id.0;
    let rows = bench.store.scan(&Key::superseded_of(WORKSPACE, identity).range(), 10).unwrap().rows;
    let operations = rows.into_iter().map(|(key, _)| Operation::Delete(key)).collect();
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    assert_eq!((preview(&bench).returned, preview(&bench).lost), (0, 2));
    let taken_back = take_back(&bench, 1);
    assert_eq!((taken_back.events, taken_back.returned, taken_back.lost), (2, 0, 2));
    assert_eq!(take_back(&bench, 2), taken_back, "asked for again, what was taken back is told still");
}
