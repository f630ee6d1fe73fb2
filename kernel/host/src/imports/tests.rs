//! What every import costs at the largest input that a guest can give it, which interface refuses what, and that none outlasts
//! its call.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use kith_model::plugin::{Grants, PluginFault, PluginKind, ReceiveError, ReplayScope, SourceRequest, TimeSpent};
use kith_model::sending::OutboundRequest;
use kith_model::time::{ManualClock, Timestamp};
use parking_lot::Mutex;

use super::secrets::{MAX_SIGNED_BYTES, Secrets};
use crate::bindings::current::{clock, config, http, http_types, kv, log, secrets};
use crate::bindings::v0_1::mail;
use crate::egress::{BodyRule, admit};
use crate::guests::{CONNECTOR, NOW, binding, core, host, host_with};
use crate::policy::Policy;
use crate::state::{CallClass, CallState, InstallationContext, thread_cpu_time};
use crate::{Binding, KeyPage, KeyQuery, KeyValue, KeyValueError, Limits, LineLevel, Setting, assemble};

/// What an import may take of a processor.
const MOST: Duration = Duration::from_millis(50);

/// The largest text that a guest can hand over at once.
const OUTPUT_BYTES: usize = 16 << 20;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A connector that keeps a state of its own.
fn component() -> Vec<u8> {
    let state = "[capabilities.kv]\nbytes = 16777216\nreason = \"to test\"\n";
    let manifest = CONNECTOR.to_owned() + state;
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32) unreachable))"#;
    assemble(&core(PluginKind::Connector, wat), &manifest).unwrap()
}

/// A connector that may do everything, as it is bound.
fn installed(clock: Arc<ManualClock>, kv_bytes: u64) -> Arc<InstallationContext> {
    let grants = Grants {
        http: vec!["peer.example".into()],
        secrets: [("signing".to_owned(), vec!["peer.example".to_owned()])].into(),
        kv_bytes,
        ..Grants::default()
    };
    let secrets = BTreeMap::from([("signing".to_owned(), SECRET.into())]);
    let bound = host().load(&component()).unwrap().bind(Binding { grants, secrets, ..binding() }).unwrap();
    let mut installed = Arc::into_inner(bound.installed).expect("nobody else has it yet");
    installed.clock = clock;
    // The API takes no larger body.
    installed.config = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
    Arc::new(installed)
}

fn state() -> CallState {
    CallState::new(installed(Arc::new(ManualClock::new(NOW)), OUTPUT_BYTES as u64), CallClass::Plain)
}

#[test]
fn a_line_and_a_panic_are_told_without_what_of_the_configuration_is_not_shown() {
    let unshown = BTreeSet::from(["/token".to_owned()]);
    let config = serde_json::json!({ "url": "u", "token": "s3cret" });
    let bound = host().load(&component()).unwrap().bind(Binding { config, unshown, ..binding() }).unwrap();
    let mut state = CallState::new(bound.installed, CallClass::Plain);
    let said = "panicked: s3cret of u, Basic czNjcmV0".to_owned();
    log::Host::write(&mut state, log::Level::Error, said).unwrap();
    let kept = state.installed.observed.lines(None, 1).lines.remove(0);
    assert_eq!(kept.text, "panicked: … of u, Basic …");
    assert_eq!(state.panic.as_deref(), Some("… of u, Basic …"));
}

/// It is kept nowhere and takes nothing of what the call may log.
#[test]
fn a_line_below_the_level_costs_nothing_but_its_call() {
    let mut warning = Arc::into_inner(installed(Arc::new(ManualClock::new(NOW)), 0)).expect("nobody else has it yet");
    warning.log_level = LineLevel::Warn;
    let mut state = CallState::new(Arc::new(warning), CallClass::Plain);
    assert_eq!(log::Host::least(&mut state).unwrap(), log::Level::Warn);
    for _ in 0..2 {
        log::Host::write(&mut state, log::Level::Info, text("x")).unwrap();
    }
    log::Host::write(&mut state, log::Level::Warn, "look".to_owned()).unwrap();
    let seen = &state.installed.observed;
    assert_eq!((seen.usage().lines, seen.usage().lines_cut, state.host_calls), (1, 0, 4));
    assert_eq!(seen.lines(None, 2).lines[0].text, "look");
}

/// The least processor time of five runs: what else the machine does can only add to it.
fn cost<I, T>(make: impl Fn(&mut CallState) -> I, work: impl Fn(&mut CallState, I) -> T) -> Duration {
    let mut state = state();
    let mut run = || {
        let input = make(&mut state);
        let before = thread_cpu_time();
        black_box(work(&mut state, black_box(input)));
        thread_cpu_time().zip(before).map_or(Duration::ZERO, |(after, before)| after.saturating_sub(before))
    };
    (0..5).map(|_| run()).min().expect("it ran")
}

fn text(letter: &str) -> String {
    letter.repeat(OUTPUT_BYTES / letter.len())
}

fn request(url: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> OutboundRequest {
    OutboundRequest { method: "POST".into(), url: url.into(), headers, body, ..OutboundRequest::default() }
}

fn sent(url: String, headers: Vec<(String, String)>, body: Vec<u8>) -> http_types::Request {
    http_types::Request { method: "POST".into(), url, headers, body, sign: None, timeout_ms: None }
}

/// Each with whatever costs most of what a guest can hand over: most of these inputs are refused, and that must cost little.
#[test]
fn every_import_is_cheap_at_its_largest_input() {
    let none = |_: &mut CallState| ();
    let letters = |letter: &'static str| move |_: &mut CallState| text(letter);
    let check = |name: &str, cost: Duration| assert!(cost < MOST, "{name} took {cost:?} of a processor");
    for letter in ["x", "\u{202e}", "\n"] {
        check(
            "log.write",
            cost(letters(letter), |state, text| log::Host::write(state, log::Level::Error, text).is_ok()),
        );
    }
    check("config.get", cost(none, |state, ()| config::Host::get(state).map(|text| text.len()).ok()));
    check("clock.now", cost(none, |state, ()| clock::Host::now(state).ok()));
    check("secrets.stand-in", cost(letters("x"), |state, name| secrets::Host::stand_in(state, name).is_ok()));
    for digest in [secrets::Digest::Sha1, secrets::Digest::Sha256, secrets::Digest::Sha512] {
        let given = |digits: usize| move |_: &mut CallState| (vec![b'x'; MAX_SIGNED_BYTES], "0".repeat(digits));
        for digits in [40, 64, 128, OUTPUT_BYTES] {
            let verify = |state: &mut CallState, (message, signature)| {
                let key =
                    secrets::HmacKey { secret: "signing".into(), form: secrets::KeyForm::StandardWebhooks, digest };
                secrets::Host::verify_hmac(state, key, message, signature).is_ok_and(|holds| !holds)
            };
            check("secrets.verify-hmac", cost(given(digits), verify));
        }
    }
    check(
        "mail.send",
        cost(letters("x"), |state, server| {
            let message = mail::Message {
                from: String::new(),
                to: String::new(),
                subject: String::new(),
                text: String::new(),
                html: None,
                headers: Vec::new(),
            };
            mail::Host::send(state, server, message).is_ok()
        }),
    );
}

#[test]
fn state_is_cheap_at_its_largest_input() {
    let check = |name: &str, cost: Duration| assert!(cost < MOST, "{name} took {cost:?} of a processor");
    let (key, value) = ("k".repeat(256), vec![b'x'; 64 << 10]);
    let huge = (text("k"), vec![b'x'; OUTPUT_BYTES]);
    for (key, value) in [(key, value), huge] {
        let given = |_: &mut CallState| (key.clone(), value.clone());
        check("kv.set", cost(given, |state, (key, value)| kv::Host::set(state, key, value, Some(1)).is_ok()));
        let compared = |state: &mut CallState, (key, value): (String, Vec<u8>)| {
            kv::Host::compare_and_set(state, key, Some(value.clone()), value, None).is_ok()
        };
        check("kv.compare-and-set", cost(given, compared));
        let listed = |state: &mut CallState, (key, _): (String, Vec<u8>)| {
            kv::Host::list_keys(state, key.clone(), Some(key), u32::MAX).is_ok()
        };
        check("kv.list-keys", cost(given, listed));
        check("kv.get", cost(given, |state, (key, _)| kv::Host::get(state, key).is_ok()));
        check("kv.delete", cost(given, |state, (key, _)| kv::Host::delete(state, key).is_ok()));
    }
}

#[test]
fn a_request_is_cheap_at_its_largest_input() {
    let check = |name: &str, cost: Duration| assert!(cost < MOST, "{name} took {cost:?} of a processor");
    let refused: [fn() -> http_types::Request; 5] = [
        || sent(format!("https://peer.example/{}", text("x")), Vec::new(), Vec::new()),
        || sent("https://peer.example/".into(), vec![("x-a".into(), text("{{secret:"))], Vec::new()),
        || sent("https://peer.example/".into(), vec![("x".into(), "y".into()); OUTPUT_BYTES / 64], Vec::new()),
        || sent("https://peer.example/".into(), Vec::new(), text("{{secret:").into_bytes()),
        || sent(text("/"), Vec::new(), text("{{secret:").into_bytes()),
    ];
    for make in refused {
        let send = |state: &mut CallState, request| {
            let answer = http::Host::send(state, request).unwrap();
            assert!(matches!(answer, Err(http_types::Error::Denied(_))), "{answer:?}");
        };
        check("http.send", cost(|_| make(), send));
    }
    // The largest that is let out: looked at for stand-ins, filled in and signed.
    let largest = |filling: &'static str| {
        move |state: &mut CallState| {
            let stand_in = secrets::Host::stand_in(state, "signing".into()).unwrap().unwrap();
            let places = stand_in.repeat(15);
            let body = places.clone() + &filling.repeat(((1 << 20) - places.len()) / filling.len());
            let headers = (0..99).map(|number| (format!("x-{number}"), "{{secret:".repeat(60))).collect();
            request("https://peer.example/", headers, body.into_bytes())
        }
    };
    for filling in ["x", "{", "{{secret:", "{{secret:0123456789abcdef"] {
        let admitted =
            |state: &mut CallState, request| drop(admit(&state.installed, request, BodyRule::Whole).unwrap());
        check("admit", cost(largest(filling), admitted));
    }
}

#[test]
fn nothing_is_written_without_a_grant_and_each_write_costs_what_it_takes() {
    let clock = Arc::new(ManualClock::new(NOW));
    let mut without = CallState::new(installed(clock.clone(), 0), CallClass::Plain);
    let refusals = [
        kv::Host::get(&mut without, "k".into()).unwrap().map(drop),
        kv::Host::set(&mut without, "k".into(), b"v".to_vec(), None).unwrap(),
        kv::Host::compare_and_set(&mut without, "k".into(), None, b"v".to_vec(), None).unwrap().map(drop),
        kv::Host::list_keys(&mut without, String::new(), None, 1).unwrap().map(drop),
        kv::Host::delete(&mut without, "k".into()).unwrap(),
    ];
    for refusal in refusals {
        assert!(matches!(&refusal, Err(kv::Error::Quota(why)) if why.contains("no state is granted")), "{refusal:?}");
    }
    // Calls without end, each within what one call may: the bytes of an hour end, and come back with time.
    let installed = installed(clock.clone(), 16 << 20);
    let write = |installed: &Arc<InstallationContext>| {
        let mut call = CallState::new(installed.clone(), CallClass::Plain);
        kv::Host::set(&mut call, "k".into(), vec![0; 64 << 10], None).unwrap()
    };
    let written = std::iter::repeat_with(|| write(&installed)).take_while(Result::is_ok).take(10_000).count();
    assert_eq!(written, (256 << 20) / ((64 << 10) + 1));
    let refused = write(&installed);
    assert!(matches!(&refused, Err(kv::Error::Quota(why)) if why.contains("`kv-written`")), "{refused:?}");
    clock.advance_ms(60_000);
    assert!(write(&installed).is_ok());
    let mut call = CallState::new(installed, CallClass::Plain);
    let deletions = (0..2_000).filter(|_| kv::Host::delete(&mut call, "d".into()).unwrap().is_ok()).count();
    assert_eq!(deletions, 1_000, "each deletion is a commit");
    assert_eq!((call.kv_written.writes, call.kv_written.bytes), (1_000, 1_000), "what was refused was not written");
    assert_eq!(without.kv_written.writes, 0);
}

#[test]
fn a_key_without_a_name_is_refused_for_good() {
    let mut state = state();
    let refusals = [
        kv::Host::get(&mut state, String::new()).unwrap().map(drop),
        kv::Host::set(&mut state, String::new(), b"v".to_vec(), None).unwrap(),
        kv::Host::compare_and_set(&mut state, String::new(), None, b"v".to_vec(), None).unwrap().map(drop),
        kv::Host::delete(&mut state, String::new()).unwrap(),
    ];
    for refusal in refusals {
        assert!(matches!(&refusal, Err(kv::Error::Quota(why)) if why.contains("1 to 256 bytes")), "{refusal:?}");
    }
    assert!(kv::Host::list_keys(&mut state, String::new(), None, 1).unwrap().is_ok(), "all keys begin with nothing");
}

/// A page of 256 keys of 256 bytes is the largest there is.
#[test]
fn keys_are_listed_in_pages_with_an_end() {
    let mut state = state();
    for number in 0..300 {
        let key = format!("{number:0256}");
        kv::Host::set(&mut state, key, Vec::new(), None).unwrap().unwrap();
    }
    let list =
        |state: &mut CallState, after, limit| kv::Host::list_keys(state, "0".into(), after, limit).unwrap().unwrap();
    let first = list(&mut state, None, u32::MAX);
    assert_eq!((first.keys.len(), first.next.as_ref()), (256, first.keys.last()));
    let rest = list(&mut state, first.next, 100);
    assert_eq!((rest.keys.len(), rest.next), (44, None));
    assert_eq!(list(&mut state, None, 0).keys.len(), 1);
    let long = kv::Host::list_keys(&mut state, String::new(), Some("k".repeat(257)), 1).unwrap();
    assert!(matches!(&long, Err(kv::Error::Quota(why)) if why.contains("256 bytes")), "{:?}", long.is_ok());
}

#[test]
fn what_is_kept_for_a_time_ends_with_it_and_is_compared_while_it_lasts() {
    let clock = Arc::new(ManualClock::new(NOW));
    let installed = installed(clock.clone(), 100);
    let mut call = CallState::new(installed.clone(), CallClass::Plain);
    let mut other = CallState::new(installed, CallClass::Plain);
    let read = |call: &mut CallState| kv::Host::get(call, "lock".into()).unwrap().unwrap();
    let take = |call: &mut CallState, expected: Option<&str>, value: &str| {
        let expected = expected.map(|text| text.as_bytes().to_vec());
        kv::Host::compare_and_set(call, "lock".into(), expected, value.as_bytes().to_vec(), Some(1_000)).unwrap()
    };
    assert!(take(&mut call, None, "one").unwrap());
    assert!(!take(&mut other, None, "two").unwrap(), "it is held");
    assert!(!take(&mut other, Some("two"), "two").unwrap());
    clock.advance_ms(999);
    assert_eq!(read(&mut other).as_deref(), Some(b"one".as_slice()));
    assert!(take(&mut call, Some("one"), "one").unwrap(), "kept for another second");
    clock.advance_ms(999);
    assert!(read(&mut other).is_some());
    clock.advance_ms(1);
    assert!(read(&mut other).is_none());
    clock.set(NOW);
    assert!(read(&mut other).is_none(), "a clock that is set back brings nothing back");
    assert!(take(&mut other, None, "two").unwrap());
    let page = kv::Host::list_keys(&mut call, String::new(), None, 9).unwrap().unwrap();
    assert_eq!((page.keys, page.next), (vec!["lock".to_owned()], None));
    assert!(kv::Host::set(&mut call, "for ever".into(), Vec::new(), Some(u64::MAX)).unwrap().is_ok());
    assert!(kv::Host::get(&mut call, "for ever".into()).unwrap().unwrap().is_some());
    let huge = kv::Host::set(&mut call, "big".into(), vec![0; 95], None).unwrap();
    assert!(matches!(&huge, Err(kv::Error::Quota(why)) if why.contains("100 bytes")), "{huge:?}");
    assert_eq!((call.kv_written.writes, other.kv_written.writes), (3, 1), "what was not set was not written");
}

/// Whether somebody signed with a secret is told of those that manifest and grant both name, and each question counts.
#[test]
fn a_signature_is_checked_with_granted_secrets_alone() {
    let asked = |state: &mut CallState, secret: &str, signature: &str| {
        let (form, digest) = (secrets::KeyForm::StandardWebhooks, secrets::Digest::Sha256);
        let key = secrets::HmacKey { secret: secret.into(), form, digest };
        secrets::Host::verify_hmac(state, key, b"msg_1.1767225600.hello".to_vec(), signature.into())
    };
    // Computed with another implementation.
    let right = "v1,12ZgCwbmTCSLz7/J8lx6dLy6oMii15TKEuQkUQspL4Q=";
    let mut state = state();
    assert!(asked(&mut state, "signing", right).unwrap());
    assert!(!asked(&mut state, "signing", &right.replace('1', "2")).unwrap());
    assert!(!asked(&mut state, "other", right).unwrap());
    let installed = installed(Arc::new(ManualClock::new(NOW)), 0);
    let mut ungranted = Arc::into_inner(installed).expect("nobody else has it");
    let policy = Policy { secrets: BTreeMap::new(), ..ungranted.policy.clone() };
    ungranted.secrets = Secrets::new(BTreeMap::from([("signing".to_owned(), SECRET.into())]), &policy).unwrap();
    let mut without = CallState::new(Arc::new(ungranted), CallClass::Plain);
    assert!(!asked(&mut without, "signing", right).unwrap(), "it is set, and not granted");
    let most = state.installed.policy.host_calls.value;
    let calls = (0..=most).take_while(|_| asked(&mut state, "signing", right).is_ok()).count();
    assert_eq!(calls as u64 + 3, most);
}

#[test]
fn a_message_longer_than_any_that_comes_has_no_signature() {
    let holds = |bytes: usize, signature: &str| {
        let (form, digest) = (secrets::KeyForm::StandardWebhooks, secrets::Digest::Sha256);
        let key = secrets::HmacKey { secret: "signing".into(), form, digest };
        secrets::Host::verify_hmac(&mut state(), key, vec![b'x'; bytes], signature.into()).unwrap()
    };
    // Both computed with another implementation.
    assert!(holds(MAX_SIGNED_BYTES, "TPWl1zx1XHfizmU854UZcOTJQtH1VK8zOfYSmXBgwAA="));
    assert!(!holds(MAX_SIGNED_BYTES + 1, "tIzaawxGGngtLH1cjXL2+9iYvPmJR5XHt78JtYMPGgM="));
}

/// A state whose reader takes its time.
struct Slow(Mutex<Sender<()>>);

impl KeyValue for Slow {
    fn get(&self, _: &str, _: Timestamp) -> Result<Option<Vec<u8>>, KeyValueError> {
        // Nobody sends: it is the wait alone.
        let (_nobody, waits) = channel::<()>();
        let _ = waits.recv_timeout(Duration::from_millis(60));
        let _ = self.0.lock().send(());
        Ok(None)
    }

    fn set(&self, _: Setting<'_>, _: Timestamp) -> Result<bool, KeyValueError> {
        Ok(true)
    }

    fn delete(&self, _: &str) -> Result<(), KeyValueError> {
        Ok(())
    }

    fn list(&self, _: KeyQuery<'_>, _: Timestamp) -> Result<KeyPage, KeyValueError> {
        Ok(KeyPage::default())
    }
}

/// The guest has no loop and calls nothing after the import, so that nothing but the import itself looks at the clock.
#[test]
fn a_call_that_is_past_its_time_ends_with_the_import() {
    let wat = r#"(module
        (import "kith:plugin/kv@0.2.0" "get" (func $get (param i32 i32 i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
        (func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32)
            (call $get (i32.const 64) (i32.const 1) (i32.const 256))
            (i32.store (i32.const 16) (i32.const 512)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)))"#;
    let manifest = CONNECTOR.to_owned() + "[capabilities.kv]\nbytes = 1024\nreason = \"to test\"\n";
    let component = assemble(&core(PluginKind::Connector, wat), &manifest).unwrap();
    let request = SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: Vec::new(),
        body: Vec::new(),
        complete: true,
        resume: None,
        received_at: Timestamp(0),
        replayed: ReplayScope::No,
    };
    let receive = |wall_ms| {
        let (told, read) = channel();
        let grants = Grants { kv_bytes: 1_024, ..Grants::default() };
        let binding = Binding { grants, state: Arc::new(Slow(Mutex::new(told))), ..binding() };
        let host = host_with(None, Limits { wall_ms, ..Limits::default() });
        let received = host.load(&component).unwrap().connector(binding).unwrap().receive(&request);
        assert!(read.try_recv().is_ok(), "the import began: {received:?}");
        received
    };
    assert!(receive(30_000).is_ok());
    let held_up = PluginFault::DeadlineExceeded { limit_ms: 50, spent: TimeSpent::HeldUp };
    assert_eq!(receive(50).unwrap_err(), ReceiveError::Fault(held_up), "no peer was asked, and it did not compute");
}
