//! State in rows: what it counts, what expires, what of calls at once is set, and that it does what the state in memory does.

use kith_host::{Expected, MemoryKeyValue};

use super::expired::PassedRow;
use super::*;

const ONE: InstallationId = InstallationId(1);

fn states() -> States {
    States::new(Arc::new(kith_store::memory()))
}

fn setting<'a>(key: &'a str, value: &[u8], quota_bytes: u64) -> Setting<'a> {
    Setting { key, value: value.to_vec(), expires_at: None, expected: Expected::Anything, quota_bytes }
}

fn until(expires_at: i64, setting: Setting<'_>) -> Setting<'_> {
    Setting { expires_at: Some(Timestamp(expires_at)), ..setting }
}

fn keys(page: &KeyPage) -> Vec<&str> {
    page.keys.iter().map(|kept| kept.key.as_str()).collect()
}

/// How many rows the store has of an installation's state.
fn rows(states: &States) -> usize {
    let of = |key: Key| states.store.scan(&key.range(), 10_000).unwrap().rows.len();
    of(Key::plugin_state(WorkspaceId(1), ONE, "")) + of(Key::plugin_expiries(WorkspaceId(1), ONE))
}

#[test]
fn each_installation_has_its_own_state_within_its_quota() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    let other = states.of(WorkspaceId(1), InstallationId(2));
    let foreign = states.of(WorkspaceId(2), ONE);
    let now = Timestamp(0);
    let set = |key, value, quota| one.set(setting(key, value, quota), now);
    assert_eq!(set("a", b"12345", 10), Ok(true));
    assert_eq!(one.get("a", now).unwrap().as_deref(), Some(b"12345".as_slice()));
    assert_eq!((other.get("a", now).unwrap(), foreign.get("a", now).unwrap()), (None, None));
    assert_eq!(set("b", b"12345", 10), Err(KeyValueError::Quota { quota_bytes: 10 }));
    assert_eq!(set("a", b"123456789", 10), Ok(true), "replacing counts the new value only");
    let head = states.store.head();
    assert_eq!(set("a", b"123456789", 10), Ok(true));
    one.delete("b").unwrap();
    assert_eq!(states.store.head(), head, "what changes nothing writes nothing");
    one.delete("a").unwrap();
    assert_eq!(set("b", b"123456789", 10), Ok(true), "what was deleted counts no longer");
    assert_eq!(one.get("a", now).unwrap(), None);
    assert!(set(&"k".repeat(300), b"", 10_000).is_err());
}

/// Each write added up all that was kept to learn how much room is left, so that with 5,000 keys a call passed its processor time.
#[test]
fn a_write_looks_at_no_other_key() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    let set = |number: usize| one.set(setting(&format!("k{number}"), b"1", 100_000), Timestamp(0));
    assert!((0..5_000).all(|number| set(number) == Ok(true)));
    // Whoever read all keys would find no room any more.
    let unseen = Operation::Put(Key::plugin_state(WorkspaceId(1), ONE, "unseen"), vec![0; 200_000]);
    states.store.commit(Unit { operations: vec![unseen], ..Unit::default() }).unwrap();
    assert_eq!(set(5_000), Ok(true));
    assert_eq!(set(0), Ok(true));
    one.delete("k1").unwrap();
    assert_eq!(set(1), Ok(true));
}

#[test]
fn what_has_expired_is_absent_at_once_and_for_good() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(one.set(until(10, setting(key, b"1", 100)), Timestamp(0)), Ok(true));
    }
    assert_eq!(one.set(setting("kept", b"1", 100), Timestamp(0)), Ok(true));
    assert_eq!(one.get("a", Timestamp(9)).unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(one.get("a", Timestamp(10)).unwrap(), None);
    let compared = Setting { expected: Expected::Value(b"1"), ..setting("b", b"2", 100) };
    assert_eq!(one.set(compared, Timestamp(10)), Ok(false), "it is not there to be compared with");
    drop(one);
    // As after a start, with a clock that was set back: what was seen absent is absent.
    let again = states.of(WorkspaceId(1), ONE);
    assert_eq!((again.get("a", Timestamp(0)).unwrap(), again.get("b", Timestamp(0)).unwrap()), (None, None));
    let query = KeyQuery { prefix: "", after: None, limit: 9 };
    assert_eq!(keys(&again.list(query, Timestamp(10)).unwrap()), ["kept"]);
    assert_eq!(keys(&again.list(query, Timestamp(0)).unwrap()), ["kept"]);
    assert_eq!((rows(&states), again.used().unwrap()), (1, Used { keys: 1, bytes: 5 }));
}

#[test]
fn what_has_expired_unseen_and_is_there_still_does_not_come_back() {
    let states = states();
    let set_all = |state: &StoredState, from: i64| {
        for number in 0..200 {
            state.set(until(from + 10, setting(&format!("{number:03}"), b"1", 10_000)), Timestamp(from)).unwrap();
        }
    };
    let one = states.of(WorkspaceId(1), ONE);
    set_all(&one, 0);
    // Another key is asked for, and 136 of those that have expired are left.
    assert_eq!(one.get("other", Timestamp(10)).unwrap(), None);
    assert_eq!(one.used().unwrap().keys, 136);
    drop(one);
    let again = states.of(WorkspaceId(1), ONE);
    let shadow = SeenState(Arc::clone(&again));
    let query = KeyQuery { prefix: "", after: None, limit: 9 };
    assert_eq!(
        (shadow.get("199", Timestamp(0)).unwrap(), keys(&shadow.list(query, Timestamp(0)).unwrap())),
        (None, vec![])
    );
    assert_eq!((again.get("199", Timestamp(0)).unwrap(), again.used().unwrap().keys), (None, 72));
    assert!(keys(&again.list(query, Timestamp(0)).unwrap()).is_empty());
    // What is kept from now on is kept by the clock as it was set back.
    assert_eq!(again.set(until(5, setting("new", b"1", 10_000)), Timestamp(0)), Ok(true));
    assert_eq!(keys(&again.list(query, Timestamp(4)).unwrap()), ["new"]);
    assert_eq!((again.get("new", Timestamp(5)).unwrap(), rows(&states)), (None, 0));
    set_all(&again, 20);
    assert_eq!(again.get("other", Timestamp(30)).unwrap(), None);
    again.clear().1.unwrap();
    assert_eq!(rows(&states), 0, "nothing is left of what has passed either");
}

#[test]
fn a_write_for_which_there_is_no_room_takes_out_all_that_has_expired() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    for number in 0..200 {
        one.set(until(10, setting(&format!("{number:03}"), b"1", 800)), Timestamp(0)).unwrap();
    }
    let large = [b'x'; 797];
    assert_eq!(one.set(setting("new", &large, 800), Timestamp(9)), Err(KeyValueError::Quota { quota_bytes: 800 }));
    assert_eq!(one.set(setting("new", &large, 800), Timestamp(10)), Ok(true));
    assert_eq!((rows(&states), one.used().unwrap()), (1, Used { keys: 1, bytes: 800 }));
}

#[test]
fn a_shadow_reads_the_live_state_and_writes_none() {
    let states = states();
    let live = states.of(WorkspaceId(1), ONE);
    let shadow = SeenState(Arc::clone(&live));
    live.set(setting("a", b"1", 100), Timestamp(0)).unwrap();
    live.set(until(10, setting("b", b"1", 100)), Timestamp(0)).unwrap();
    let (head, now) = (states.store.head(), Timestamp(10));
    assert_eq!((shadow.get("b", Timestamp(9)).unwrap(), shadow.get("b", now).unwrap()), (Some(b"1".to_vec()), None));
    let query = KeyQuery { prefix: "", after: None, limit: 9 };
    assert_eq!(keys(&shadow.list(query, Timestamp(9)).unwrap()), ["a", "b"]);
    assert_eq!(keys(&shadow.list(query, now).unwrap()), ["a"]);
    assert_eq!(shadow.set(setting("a", b"2", 100), now), Ok(true));
    assert_eq!(shadow.set(setting("c", b"beyond the quota", 1), now), Ok(true));
    shadow.delete("a").unwrap();
    let compared = |key, expected| shadow.set(Setting { expected, ..setting(key, b"3", 100) }, now);
    assert_eq!(compared("a", Expected::Value(b"1")), Ok(true), "it is answered as if it were made");
    assert_eq!(compared("a", Expected::Value(b"2")), Ok(false), "nothing was written");
    assert_eq!((compared("a", Expected::Absent), compared("b", Expected::Absent)), (Ok(false), Ok(true)));
    assert!(shadow.set(setting(&"k".repeat(300), b"", 10_000), now).is_err());
    assert_eq!(shadow.get("a", now).unwrap(), Some(b"1".to_vec()));
    assert_eq!((states.store.head(), rows(&states)), (head, 4), "what has expired is not taken out either");
}

#[test]
fn a_time_to_live_is_the_values() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    one.set(until(10, setting("a", b"1", 100)), Timestamp(0)).unwrap();
    one.set(until(20, setting("a", b"1", 100)), Timestamp(0)).unwrap();
    assert_eq!(rows(&states), 3, "the earlier end is gone");
    assert!(one.get("a", Timestamp(19)).unwrap().is_some());
    one.set(setting("a", b"1", 100), Timestamp(19)).unwrap();
    assert_eq!(rows(&states), 1);
    assert!(one.get("a", Timestamp(i64::MAX)).unwrap().is_some());
    assert_eq!(one.forget_expired(Timestamp(i64::MAX), 100), Ok(0));
}

#[test]
fn what_has_expired_is_removed_within_bounds_and_counts_no_longer() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    for number in 0..200 {
        let key = format!("{number:03}");
        one.set(until(number, setting(&key, b"", 600)), Timestamp(-1)).unwrap();
    }
    assert_eq!(one.used().unwrap(), Used { keys: 200, bytes: 600 });
    let full = one.set(setting("new", b"", 600), Timestamp(-1));
    assert_eq!(full, Err(KeyValueError::Quota { quota_bytes: 600 }));
    assert_eq!(one.set(setting("new", b"", 600), Timestamp(0)), Ok(true), "the one that has expired makes room");
    assert_eq!(one.forget_expired(Timestamp(199), 65), Ok(128), "two commits of the most that one takes");
    assert_eq!(one.used().unwrap(), Used { keys: 72, bytes: 216 });
    let first_left = states.store.get(&[one.key("128"), one.key("129")]).unwrap();
    assert!(matches!(first_left.as_slice(), [None, Some(_)]), "the first to expire goes first");
    assert_eq!(one.forget_expired(Timestamp(199), 1_000), Ok(71));
    assert_eq!((rows(&states), one.used().unwrap()), (1, Used { keys: 1, bytes: 3 }));
}

#[test]
fn keys_are_listed_in_parts_that_end_by_number_and_bytes() {
    let states = states();
    let one = states.of(WorkspaceId(1), ONE);
    let value = vec![0; 60 << 10];
    for number in 0..40 {
        one.set(setting(&format!("big/{number:02}"), &value, 16 << 20), Timestamp(0)).unwrap();
        one.set(until(5, setting(&format!("small/{number:02}"), b"", 16 << 20)), Timestamp(0)).unwrap();
    }
    let list =
        |prefix: &str, after: Option<&str>, limit| one.list(KeyQuery { prefix, after, limit }, Timestamp(0)).unwrap();
    let first = list("big/", None, 100);
    assert_eq!((first.keys.len(), first.next.as_deref()), (18, Some("big/17")), "a megabyte is looked through");
    assert_eq!(first.keys[0].value_bytes, 60 << 10);
    let second = list("big/", first.next.as_deref(), 100);
    assert_eq!(second.keys[0].key, "big/18");
    let small = list("small/", None, 16);
    assert_eq!((small.keys.len(), small.next.as_deref()), (16, Some("small/15")));
    assert_eq!(small.keys[0].expires_at, Some(Timestamp(5)));
    let rest = list("small/", Some("small/15"), 24);
    assert_eq!((rest.keys.len(), rest.next), (24, None));
    assert_eq!(list("small/", Some("z"), 9), KeyPage::default());
    assert_eq!(list("small/", Some("a"), 1).keys[0].key, "small/00");
    let cleared = one.clear();
    assert_eq!(cleared, (Used { keys: 80, bytes: 40 * (6 + (60 << 10)) + 40 * 8 }, Ok(())));
    assert_eq!((rows(&states), one.used().unwrap()), (0, Used::default()));
}

/// Two bindings of one installation are there at once while it is changed.
#[test]
fn of_calls_at_once_that_expect_the_same_one_sets() {
    let states = states();
    let won = |expected: Expected<'_>| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u8)
                .map(|number| {
                    let state = states.of(WorkspaceId(1), ONE);
                    let setting = Setting { expected, ..setting("lock", &[number], 100) };
                    scope.spawn(move || state.set(setting, Timestamp(0)).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|set| *set).count()
        })
    };
    let kept = states.of(WorkspaceId(1), ONE);
    assert!(Arc::ptr_eq(&kept, &states.of(WorkspaceId(1), ONE)));
    assert_eq!(won(Expected::Absent), 1);
    kept.set(setting("lock", b"held", 100), Timestamp(0)).unwrap();
    assert_eq!(won(Expected::Value(b"held")), 1);
    assert_eq!(won(Expected::Value(b"other")), 0);
}

/// Four thousand steps at random, a hundred of them between two starts.
#[test]
fn state_in_rows_does_what_state_in_memory_does() {
    let (states, naive) = (states(), MemoryKeyValue::default());
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut now = Timestamp(0);
    let mut state = None;
    for step in 0..4_000 {
        if step % 100 == 0 {
            drop(state.take());
        }
        let state = state.get_or_insert_with(|| states.of(WorkspaceId(1), ONE));
        now = now.plus_ms(random(3).cast_signed());
        let key = ["a", "b", "b/1", "b/2", "b/3", "c"][random(6) as usize];
        let value = vec![b'0' + random(3) as u8; random(4) as usize];
        let other = vec![b'0' + random(3) as u8; random(4) as usize];
        let expires_at = (random(2) == 0).then(|| now.plus_ms(random(8).cast_signed()));
        match random(6) {
            0 => assert_eq!(state.get(key, now), naive.get(key, now), "{step}"),
            1 => assert_eq!(state.delete(key), naive.delete(key), "{step}"),
            2 => {
                let after = (random(2) == 0).then_some(key);
                let query =
                    KeyQuery { prefix: ["", "b", "b/"][random(3) as usize], after, limit: 1 + random(4) as usize };
                let (listed, expected) = (state.list(query, now).unwrap(), naive.list(query, now).unwrap());
                assert_eq!(listed.keys, expected.keys, "{step}");
                assert!(listed.next.is_some() || expected.next.is_none(), "{step}: the end was told too early");
            }
            of => {
                let expected = [Expected::Anything, Expected::Absent, Expected::Value(&other)][of as usize - 3];
                let setting = Setting { key, value, expires_at, expected, quota_bytes: 20 };
                assert_eq!(state.set(setting.clone(), now), naive.set(setting, now), "{step}");
            }
        }
    }
    let state = states.of(WorkspaceId(1), ONE);
    state.forget_expired(now, 1_000).unwrap();
    let kept = naive.list(KeyQuery { prefix: "", after: None, limit: 99 }, now).unwrap().keys;
    let bytes = kept.iter().map(|kept| kept.key.len() as u64 + kept.value_bytes).sum();
    assert_eq!(state.used().unwrap(), Used { keys: kept.len() as u64, bytes });
}

#[test]
fn the_format_describes_the_rows() {
    fn line<R: Row>(name: &str) -> String {
        format!("| `{name}` | {} | {} | {} | postcard |", R::WHAT, R::OWNER.name(), R::VERSION)
    }
    for line in [line::<ExpiryRow>("ExpiryRow"), line::<PassedRow>("PassedRow")] {
        assert!(include_str!("../../../../store/FORMAT.md").contains(&line), "FORMAT.md lacks {line}");
    }
    let row = ExpiryRow { expires_at: Timestamp(5) };
    assert_eq!((encode(&row), decode::<ExpiryRow>(&[1, 10]).unwrap()), (vec![1, 10], row));
}
