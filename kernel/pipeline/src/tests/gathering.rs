//! Requests of a source that come while its connector has no place for them are called together, and answered each by itself.

use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::table;
use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::Identifier;
use kith_model::plugin::*;
use parking_lot::{Condvar, Mutex};
use tokio::task::JoinHandle;

use super::harness::*;
use crate::{IntakeError, IntakeReceipt, Role};

/// A connector that makes one event of each request, of the person whom the body names, and answers with that. A call with `hold`
/// lasts until it is let go; with `bad` it traps, and with `shy` unless that is alone.
#[derive(Default)]
struct Busy {
    calls: Mutex<Vec<Vec<String>>>,
    /// The faults of calls of several that it was told of.
    told: Mutex<Vec<PluginFault>>,
    held: Mutex<usize>,
    may_go: Mutex<usize>,
    changed: Condvar,
}

impl Busy {
    fn called(&self, requests: &[&SourceRequest]) -> Result<Vec<Received>, PluginFault> {
        let bodies: Vec<String> =
            requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
        let has = |what: &str| bodies.iter().any(|body| body == what);
        let (holds, is_bad) = (has("hold"), has("bad") || (has("shy") && bodies.len() > 1));
        self.calls.lock().push(bodies);
        if holds {
            *self.held.lock() += 1;
            let mut may_go = self.may_go.lock();
            self.changed.wait_while(&mut may_go, |may_go| *may_go == 0);
            *may_go -= 1;
        }
        if is_bad {
            return Err(PluginFault::Trapped { message: "it is bad".into(), backtrace: vec![] });
        }
        Ok(requests.iter().map(|request| made_of(request)).collect())
    }

    fn let_go(&self, calls: usize) {
        *self.may_go.lock() += calls;
        self.changed.notify_all();
    }
}

fn made_of(request: &SourceRequest) -> Received {
    let who = String::from_utf8_lossy(&request.body).into_owned();
    let event = DraftEvent {
        kind: EventKind::Track,
        name: "Seen".into(),
        identifiers: vec![Identifier::new("user_id", who)],
        ..DraftEvent::default()
    };
    let answer = Answer { status: 200, content_type: "text/plain".into(), body: request.body.clone() };
    Received {
        events: vec![event],
        places: vec![],
        rejected: vec![],
        consumed: request.body.len(),
        resume: None,
        answer: Some(answer),
        notes: vec![],
    }
}

impl Connector for Busy {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        self.called(&[request]).map(|mut all| all.remove(0)).map_err(ReceiveError::Fault)
    }

    fn receive_all(&self, requests: &[&SourceRequest]) -> Result<Vec<Result<Received, ReceiveError>>, PluginFault> {
        Ok(self.called(requests)?.into_iter().map(Ok).collect())
    }

    fn failed_together(&self, fault: &PluginFault) {
        self.told.lock().push(fault.clone());
    }

    fn takes_several(&self) -> bool {
        true
    }
}

type Sent = JoinHandle<Result<IntakeReceipt, IntakeError>>;

fn send(bench: &Bench, body: &str) -> Sent {
    let (kernel, request) = (Arc::clone(&bench.kernel), bench.request_of(body));
    bench.runtime.spawn(async move { kernel.receive(WORKSPACE, SOURCE, request, LIVE).await })
}

/// Send to a source that has no place for another call, and see that it waits.
fn wait_with(bench: &Bench, body: &str) -> Sent {
    let waiting = || bench.kernel.shared.gathering.waiting(WORKSPACE, SOURCE);
    let before = waiting();
    let sent = send(bench, body);
    bench.wait_until("it waits", || waiting() == before + 1);
    sent
}

/// A bench whose source has no place for another call, and those who hold all of them.
fn busy() -> (Bench, Arc<Busy>, Vec<Sent>) {
    let busy = Arc::new(Busy::default());
    let role = Role::Connector(Arc::clone(&busy) as Arc<dyn Connector>);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], |setup| setup.installations[0].role = role);
    let places = std::thread::available_parallelism().map_or(1, usize::from);
    let places = places.min(usize::try_from(table::GUEST_CALLS.default).unwrap());
    let hold = |number: usize| {
        let sent = send(&bench, "hold");
        bench.wait_until("it is called at once", || *busy.held.lock() == number);
        sent
    };
    let holding: Vec<Sent> = (1..=places).map(hold).collect();
    assert!(busy.calls.lock().iter().all(|call| call.len() == 1), "and alone");
    (bench, busy, holding)
}

/// The calls since the places were held.
fn later_calls(busy: &Busy, holding: &[Sent]) -> Vec<Vec<String>> {
    busy.calls.lock()[holding.len()..].to_vec()
}

fn answered(bench: &Bench, sent: Sent) -> Result<String, IntakeError> {
    let receipt = bench.wait_for(async { tokio::time::timeout(Duration::from_secs(20), sent).await });
    let receipt = receipt.expect("it is answered").expect("nothing panics")?;
    assert_eq!(receipt.acceptance.accepted + receipt.acceptance.duplicate, 1);
    Ok(String::from_utf8(receipt.answer.expect("the connector answers").body).unwrap())
}

#[test]
fn what_comes_while_a_source_is_busy_is_called_together_and_who_has_gone_is_not() {
    let (bench, busy, holding) = busy();
    let mut waiting: Vec<Sent> = ["ada", "bob", "cid", "dan"].map(|who| wait_with(&bench, who)).into();
    waiting.remove(1).abort();
    bench.wait_until("its client has gone", || bench.kernel.shared.gathering.waiting(WORKSPACE, SOURCE) == 3);
    busy.let_go(1);
    let answers: Vec<String> = waiting.into_iter().map(|sent| answered(&bench, sent).unwrap()).collect();
    assert_eq!(answers, ["ada", "cid", "dan"], "each gets its own answer");
    assert_eq!(later_calls(&busy, &holding), [["ada", "cid", "dan"]]);
    busy.let_go(holding.len() - 1);
    for sent in holding {
        assert_eq!(answered(&bench, sent).unwrap(), "hold");
    }
}

#[test]
fn a_request_that_fails_is_the_only_one_that_does_and_the_only_strike() {
    let (bench, busy, holding) = busy();
    let waiting = ["ada", "bob", "bad", "dan"].map(|who| wait_with(&bench, who));
    busy.let_go(holding.len());
    let answers = waiting.map(|sent| answered(&bench, sent));
    assert!(matches!(&answers[2], Err(IntakeError::Fault(PluginFault::Trapped { .. }))), "{:?}", answers[2]);
    for (place, who) in [(0, "ada"), (1, "bob"), (3, "dan")] {
        assert_eq!(answers[place].as_ref().unwrap(), who);
    }
    let calls = later_calls(&busy, &holding);
    assert_eq!(calls.iter().filter(|call| **call == ["bad"]).count(), 1, "{calls:?}");
    for sent in holding {
        assert_eq!(answered(&bench, sent).unwrap(), "hold");
    }
    assert_eq!(*bench.notes.0.lock(), []);
}

/// It was in no figure, and the source was called together again after a minute, each time.
#[test]
fn a_connector_that_fails_on_several_alone_is_told_of_and_called_one_by_one() {
    let (bench, busy, holding) = busy();
    let waiting = ["ada", "shy", "dan"].map(|who| wait_with(&bench, who));
    busy.let_go(holding.len());
    let answers = waiting.map(|sent| answered(&bench, sent).unwrap());
    assert_eq!(answers, ["ada", "shy", "dan"]);
    let trap = PluginFault::Trapped { message: "it is bad".into(), backtrace: vec![] };
    assert_eq!(*busy.told.lock(), [trap]);
    for sent in holding {
        assert_eq!(answered(&bench, sent).unwrap(), "hold");
    }
    let version = {
        let setup = bench.setup.lock();
        xxhash_rust::xxh3::xxh3_64(setup.installations[0].digest.as_bytes()) ^ setup.installations[0].config_hash
    };
    let times = bench.kernel.shared.gathering.fails_together((WORKSPACE, SOURCE), version);
    assert_eq!(times, 2, "the first one is remembered");
    assert_eq!(*bench.notes.0.lock(), [], "it answers each of them alone");
}
