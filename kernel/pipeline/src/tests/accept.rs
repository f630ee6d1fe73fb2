//! The first stage through the front door: what one sender does is that sender's alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kith_model::event::{DraftEvent, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::plugin::*;
use kith_model::time::Clock;
use kith_store::{CommitError, Key, Operation, Store, Unit, memory};
use tokio::sync::oneshot;

use super::delivery::watched::Watched;
use super::harness::*;
use crate::accept::by_hand::Statement;
use crate::accept::{Accept, Submission};
use crate::{Acceptance, IntakeError, IntakeReceipt, Role};

/// A connector whose answer is told by the first letters of what it is sent.
struct BodyConnector;

impl Connector for BodyConnector {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let body = request.body.as_slice();
        if body.starts_with(b"memory") {
            return Err(ReceiveError::Fault(PluginFault::MemoryExceeded { limit_bytes: 64 << 20 }));
        }
        if body.starts_with(b"trap") {
            return Err(ReceiveError::Fault(PluginFault::Trapped { message: "no".into(), backtrace: vec![] }));
        }
        let (events, places, rejected) = (vec![], vec![], vec![]);
        Ok(Received { events, places, rejected, consumed: body.len(), resume: None, answer: None, notes: vec![] })
    }
}

fn post(bench: &Bench, body: &[u8]) -> Result<IntakeReceipt, IntakeError> {
    let request = SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: vec![],
        body: body.to_vec(),
        complete: true,
        resume: None,
        received_at: bench.clock.now(),
        replayed: ReplayScope::No,
    };
    bench.runtime.block_on(bench.kernel.receive(WORKSPACE, SOURCE, request, crate::tests::harness::LIVE))
}

fn told() -> Bench {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.installations[0].role = Role::Connector(Arc::new(BodyConnector)));
    bench
}

#[test]
fn s11_a_request_that_is_too_much_for_the_connector_is_refused_and_the_source_goes_on() {
    let bench = told();
    for number in 0..10 {
        for what in ["memory", "trap"] {
            let large = format!("{what} {number} {}", "x".repeat(1 << 20));
            match (what, post(&bench, large.as_bytes())) {
                ("memory", Err(IntakeError::Refused(refusal))) => {
                    assert_eq!((refusal.status, refusal.code.as_str()), (413, "limit.memory"));
                }
                ("trap", Err(IntakeError::Fault(PluginFault::Trapped { .. }))) => {}
                (_, answer) => panic!("{answer:?}"),
            }
        }
        assert!(post(&bench, b"trap: the same small request, again and again").is_err());
    }
    assert!(post(&bench, b"fine").is_ok());
    assert!(bench.notes.0.lock().is_empty(), "nobody is quarantined");
}

#[test]
fn s11_a_connector_that_fails_on_unlike_small_requests_is_quarantined() {
    let bench = told();
    for number in 0..3 {
        assert!(post(&bench, format!("trap {number}").as_bytes()).is_err());
    }
    assert_eq!(*bench.notes.0.lock(), [SOURCE]);
}

/// Whoever sent a few bytes was told to send fewer, and the connector that looped on them was never blamed.
#[test]
fn a_connector_that_passes_its_limits_on_small_requests_is_at_fault_itself() {
    let bench = told();
    for number in 0..3 {
        let answer = post(&bench, format!("memory {number}").as_bytes());
        assert!(matches!(answer, Err(IntakeError::Fault(PluginFault::MemoryExceeded { .. }))), "{answer:?}");
    }
    assert_eq!(*bench.notes.0.lock(), [SOURCE]);
}

/// One event that the manifest does not name made the whole request a fault of the plugin, and its neighbours were lost with it.
#[test]
fn an_event_that_the_plugin_may_not_emit_is_set_aside_alone() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.installations[0].emits = Some(Arc::new(["A".to_owned()])));
    for round in 0..5 {
        let id = |what: &str| format!("{what}{round}");
        let sent = bench.send(vec![
            event(&id("m"), &[("user_id", "u1")], "A", START),
            event(&id("n"), &[("user_id", "u1")], "B", START),
            identify(&id("o"), &[("user_id", "u1")], r#"{"city":"Ulm"}"#, START),
        ]);
        assert_eq!((sent.acceptance.accepted, sent.acceptance.rejected_count), (2, 1));
        let refused = &sent.acceptance.rejected[0];
        assert_eq!((refused.place, refused.code.as_str()), (1, "undeclared-event"));
        assert!(
            refused.message.contains("test/source@1.0.0 may not emit `B`") && refused.message.contains("names `A`;")
        );
    }
    assert!(bench.notes.0.lock().is_empty(), "nobody is quarantined");
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    assert_eq!(letters.len(), 5);
    // What came as repeats of it is one once it was taken.
    bench.configure(|setup| setup.installations[0].emits = None);
    assert_eq!(bench.send(vec![event("n0", &[("user_id", "u1")], "B", START)]).acceptance.accepted, 1);
    bench.configure(|setup| setup.installations[0].emits = Some(Arc::new(["A".to_owned()])));
    assert_eq!(bench.send(vec![event("n0", &[("user_id", "u1")], "B", START)]).acceptance.duplicate, 1);
}

#[test]
fn s2a_an_identifier_of_spaces_refuses_nobody() {
    let bench = Bench::new(vec![]);
    let spaced = format!("u1{}", " ".repeat(5_000));
    let long = "x".repeat(6_000);
    let sent = bench.send(vec![
        event("m1", &[("user_id", &spaced)], "A", START),
        event("m2", &[("user_id", "u2"), ("email", &long)], "A", START),
        event("m3", &[("user_id", &long)], "A", START),
    ]);
    assert_eq!((sent.acceptance.accepted, sent.acceptance.rejected_count), (2, 1));
    assert_eq!(sent.acceptance.rejected[0].code, "identifier-too-long");
    for value in ["u1", spaced.as_str(), " u1 "] {
        assert!(bench.profile("user_id", value).is_some(), "{value:?} is the same person everywhere");
    }
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    assert_eq!(letters.len(), 2, "the identifier that was left out is reported, too");
}

#[test]
fn s2c_one_request_of_forty_thousand_new_people_is_taken() {
    let bench = Bench::new(vec![]);
    let events: Vec<DraftEvent> = (0..40_000)
        .map(|n| {
            let (user, device) = (format!("u{n}"), format!("d{n}"));
            event(&format!("m{n}"), &[("user_id", &user), ("anonymous_id", &device)], "A", START)
        })
        .collect();
    assert_eq!(bench.send(events).acceptance.accepted, 40_000);
    let totals = bench.kernel.totals(WORKSPACE).unwrap();
    assert_eq!((totals.events, totals.identifiers, totals.profiles), (40_000, 80_000, 40_000));
}

type Answered = oneshot::Receiver<Result<Acceptance, Arc<CommitError>>>;

/// Take submissions of a workspace.
fn admit(accept: &Accept, workspace: WorkspaceId) {
    let realm_key = kith_store::keys::UNKEYED_REALM;
    accept.set_rules(&crate::Setup { workspace, realm_key, ..setup_of(Vec::new()) });
}

fn submit(accept: &Accept, workspace: WorkspaceId, message_id: &str) -> Result<u64, String> {
    answer(begin(accept, workspace, message_id))
}

fn begin(accept: &Accept, workspace: WorkspaceId, message_id: &str) -> Answered {
    let (reply, answered) = oneshot::channel();
    let submission = Submission {
        workspace,
        source: SOURCE,
        sender: Arc::default(),
        piece: None,
        received_at: START,
        origin: EventOrigin::Client,
        giver: kith_model::consent::Giver::MayAgree,
        events: vec![event(message_id, &[("user_id", "u1")], "A", START)],
        rejected: vec![],
        moved: None,
        with: vec![],
        input: None,
        again: None,
        parts_of: Default::default(),
        reply,
    };
    assert!(accept.try_submit(submission).is_ok());
    answered
}

fn answer(answered: Answered) -> Result<u64, String> {
    let answer = answered.blocking_recv().expect("every submission is answered");
    answer.map(|acceptance| acceptance.accepted).map_err(|error| error.to_string())
}

#[test]
fn s2e_a_workspace_that_cannot_be_read_refuses_its_own_requests_only() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let damaged = WorkspaceId(2);
    let operations = vec![Operation::Put(Key::counts(damaged), vec![1, 255])];
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    let accept = Accept::start(Arc::clone(&store), Arc::new(|_| {})).unwrap();
    [WORKSPACE, damaged].into_iter().for_each(|workspace| admit(&accept, workspace));
    assert!(submit(&accept, damaged, "m1").unwrap_err().contains("totals"));
    let statement = Statement::Part { one: SourceIdentityId([1; 16]), other: SourceIdentityId([2; 16]) };
    let stated = accept.state(damaged, statement).blocking_recv().expect("every statement is answered");
    assert!(stated.is_err_and(|error| error.to_string().contains("totals")));
    assert_eq!(submit(&accept, WORKSPACE, "m1"), Ok(1));
    let operations = vec![Operation::Delete(Key::counts(damaged))];
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    assert_eq!(submit(&accept, damaged, "m1"), Ok(1), "it goes on when it can be read again");
    accept.stop();
}

#[test]
fn what_comes_while_a_workspace_cannot_be_read_is_not_refused_for_what_was_read_before() {
    let store = Watched::new();
    let accept = Arc::new(Accept::start(Arc::clone(&store) as Arc<dyn Store>, Arc::new(|_| {})).unwrap());
    let (sender, came) = std::sync::mpsc::channel();
    let (while_read, is_first) = (Arc::clone(&accept), AtomicBool::new(true));
    let unreadable = move |key: &Key| {
        let is_refused = *key == Key::counts(WORKSPACE) && is_first.swap(false, Ordering::SeqCst);
        if is_refused {
            sender.send(begin(&while_read, WORKSPACE, "m1")).unwrap();
        }
        is_refused
    };
    *store.unreadable.lock() = Some(Box::new(unreadable));
    admit(&accept, WORKSPACE);
    assert_eq!(answer(came.recv().unwrap()), Ok(1), "the rows can be read when its turn comes");
    *store.unreadable.lock() = None;
    accept.stop();
}

#[test]
fn h6_what_one_submission_brings_with_it_fails_that_one_alone() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let accept = Accept::start(Arc::clone(&store), Arc::new(|_| {})).unwrap();
    admit(&accept, WORKSPACE);
    let mut answers = Vec::new();
    for number in 0..24_u32 {
        let (reply, answered) = oneshot::channel();
        // Every third one has a step that the store refuses for good.
        let key = Key::meta(&"k".repeat(if number % 3 == 0 { 5_000 } else { 10 }));
        let submission = Submission {
            workspace: WORKSPACE,
            source: InstallationId(number % 5),
            sender: Arc::default(),
            piece: None,
            received_at: START,
            origin: EventOrigin::Client,
            giver: kith_model::consent::Giver::MayAgree,
            events: vec![event(&format!("m{number}"), &[("user_id", &format!("u{}", number / 3))], "A", START)],
            rejected: vec![],
            moved: None,
            with: vec![Operation::Put(key, vec![1])],
            input: None,
            again: None,
            parts_of: Default::default(),
            reply,
        };
        assert!(accept.try_submit(submission).is_ok());
        answers.push((number, answered));
    }
    for (number, answered) in answers {
        let answer = answered.blocking_recv().expect("every submission is answered");
        assert_eq!(answer.is_err(), number % 3 == 0, "{number}: {answer:?}");
    }
    accept.stop();
    let counts = crate::accept::counts::read_counts(store.as_ref(), WORKSPACE).unwrap();
    assert_eq!((counts.events, counts.identifiers), (16, 8));
    let identifier = Identifier::new("user_id", "u0");
    let digest = kith_store::keys::alias_digest(&kith_store::keys::UNKEYED_REALM, &identifier);
    assert!(store.get(&[Key::alias(WORKSPACE, &digest)]).unwrap()[0].is_some());
}
