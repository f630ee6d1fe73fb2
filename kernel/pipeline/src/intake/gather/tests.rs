//! Who waits for whom, and what a call takes along.

use kith_model::plugin::ReplayScope;
use kith_model::time::{ManualClock, Timestamp};

use super::together::APART_MS;
use super::*;
use crate::guests::GuestClass;

const OF: SourceKey = (WorkspaceId(1), InstallationId(1));

/// What a connector does with requests together.
#[derive(Clone, Copy)]
enum Way {
    Well,
    /// It fails so on each call with the request `bad`.
    Fails(fn() -> PluginFault),
    /// The host panics in each such call.
    Panics,
    /// It fails so on each call for several.
    Shy(fn() -> PluginFault),
    /// It forgets the last answer, unless there is but one request.
    Forgets,
}

/// A connector that notes its calls and answers each request with its own body as `resume`.
struct Noting {
    way: Way,
    calls: Mutex<Vec<Vec<String>>>,
    /// The faults of calls for several that it was told of.
    told: Mutex<Vec<PluginFault>>,
}

impl Noting {
    fn new(way: Way) -> Arc<Noting> {
        Arc::new(Noting { way, calls: Mutex::default(), told: Mutex::default() })
    }

    fn called(&self, requests: &[&SourceRequest]) -> Result<Vec<Received>, PluginFault> {
        let bodies: Vec<String> =
            requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
        let is_bad = bodies.iter().any(|body| body == "bad");
        self.calls.lock().push(bodies);
        if let (Way::Fails(fault), true) = (self.way, is_bad) {
            return Err(fault());
        }
        if let (Way::Shy(fault), 2..) = (self.way, requests.len()) {
            return Err(fault());
        }
        assert!(!(is_bad && matches!(self.way, Way::Panics)), "a test of a panic");
        Ok(requests.iter().map(|request| echoed(request)).collect())
    }

    /// How many requests each call was for.
    fn sizes(&self) -> Vec<usize> {
        self.calls.lock().iter().map(Vec::len).collect()
    }
}

fn echoed(request: &SourceRequest) -> Received {
    Received {
        events: vec![],
        places: vec![],
        rejected: vec![],
        consumed: request.body.len(),
        resume: Some(request.body.clone()),
        answer: None,
        notes: vec![],
    }
}

impl Connector for Noting {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        self.called(&[request]).map(|mut all| all.remove(0)).map_err(ReceiveError::Fault)
    }

    fn receive_all(&self, requests: &[&SourceRequest]) -> Result<Vec<Result<Received, ReceiveError>>, PluginFault> {
        let mut all = self.called(requests)?;
        if matches!(self.way, Way::Forgets) {
            all.pop();
        }
        Ok(all.into_iter().map(Ok).collect())
    }

    fn failed_together(&self, fault: &PluginFault) {
        self.told.lock().push(fault.clone());
    }

    fn takes_several(&self) -> bool {
        true
    }
}

fn request(body: &str) -> Arc<SourceRequest> {
    Arc::new(SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: vec![],
        body: body.as_bytes().to_vec(),
        complete: true,
        resume: None,
        received_at: Timestamp(0),
        replayed: ReplayScope::No,
    })
}

/// Requests with these bodies that are to be called, and those who wait for them.
fn taken(connector: &Arc<Noting>, bodies: &[&str]) -> (Vec<Waiting>, Vec<oneshot::Receiver<Answered>>) {
    let waiting = |(body, number): (&&str, u64)| {
        let (reply, answered) = oneshot::channel();
        let connector = Arc::clone(connector) as Arc<dyn Connector>;
        (Waiting { of: OF, number, connector, request: request(body), reply, place: None, failed: None }, answered)
    };
    bodies.iter().zip(0..).map(waiting).unzip()
}

/// What each was answered: its own body, or the fault.
fn answers(waiting: Vec<oneshot::Receiver<Answered>>) -> Vec<Result<String, PluginFault>> {
    let answer = |answered: oneshot::Receiver<Answered>| match answered.blocking_recv().unwrap().received {
        Ok(received) => Ok(String::from_utf8(received.resume.unwrap()).unwrap()),
        Err(ReceiveError::Fault(fault)) => Err(fault),
        Err(ReceiveError::Refused(refusal)) => panic!("it refuses nothing: {refusal:?}"),
    };
    waiting.into_iter().map(answer).collect()
}

fn own(body: &str) -> Result<String, PluginFault> {
    Ok(body.to_owned())
}

fn trap() -> PluginFault {
    PluginFault::Trapped { message: "no".into(), backtrace: vec![] }
}

#[test]
fn each_request_gets_its_own_answer_and_the_one_that_fails_takes_no_neighbour_along() {
    let bodies = ["a", "b", "c", "d", "e", "bad", "g", "h"];
    let well = Noting::new(Way::Well);
    let (requests, waiting) = taken(&well, &bodies);
    assert_eq!(call(well.as_ref(), requests), Together::Works);
    assert_eq!(answers(waiting), bodies.map(own));
    assert_eq!(well.sizes(), [8]);

    let failing = Noting::new(Way::Fails(trap));
    let (requests, waiting) = taken(&failing, &bodies);
    assert_eq!(call(failing.as_ref(), requests), Together::Fails);
    assert_eq!(answers(waiting), bodies.map(|body| if body == "bad" { Err(trap()) } else { own(body) }));
    assert_eq!(failing.sizes(), [8, 4, 4, 2, 1, 1, 2], "halves, until it is alone");
}

/// A panic in a call of several dropped all of them, and each was told that the server is shutting down.
#[test]
fn a_request_that_the_host_panics_on_takes_no_neighbour_along() {
    let panicking = Noting::new(Way::Panics);
    let (requests, waiting) = taken(&panicking, &["a", "b", "bad", "bad", "e", "f"]);
    assert_eq!(call(panicking.as_ref(), requests), Together::Fails);
    let gone: Vec<bool> = waiting.into_iter().map(|answered| answered.blocking_recv().is_err()).collect();
    assert_eq!(gone, [false, false, true, true, false, false]);
    assert_eq!(panicking.sizes(), [6, 3, 1, 2, 1, 1, 3, 1, 2], "halves, until each of the two is alone");
}

#[test]
fn all_that_a_connector_fails_on_are_answered() {
    let failing = Noting::new(Way::Fails(trap));
    let (requests, waiting) = taken(&failing, &["bad"; 5]);
    call(failing.as_ref(), requests);
    assert_eq!(answers(waiting), vec![Err(trap()); 5]);
}

/// Each call with it costs the whole limit.
#[test]
fn what_passes_its_time_has_each_called_alone_in_a_turn_of_its_own() {
    let slow = || PluginFault::CpuExceeded { limit_ms: 200 };
    let guests = Guests::start(1_000).unwrap();
    let (workspace, installation) = OF;
    let caller = Caller { workspace, installation, class: GuestClass::Request, bytes: 1, memory_bytes: 1 };
    for has_turns in [false, true] {
        let failing = Noting::new(Way::Fails(slow));
        let (mut requests, waiting) = taken(&failing, &["a", "b", "bad", "d"]);
        if has_turns {
            requests.iter_mut().for_each(|one| one.place = Some(guests.place(caller, Box::new(|| ())).unwrap()));
        }
        assert_eq!(call(failing.as_ref(), requests), Together::Fails);
        assert_eq!(answers(waiting), [own("a"), own("b"), Err(slow()), own("d")]);
        assert_eq!(failing.sizes(), [4, 1, 1, 1, 1]);
    }
    guests.stop();
}

#[test]
fn another_number_of_answers_than_of_requests_is_a_fault_of_the_call() {
    let forgetful = Noting::new(Way::Forgets);
    let (requests, waiting) = taken(&forgetful, &["a", "b"]);
    assert_eq!(call(forgetful.as_ref(), requests), Together::Fails);
    assert_eq!(answers(waiting), [own("a"), own("b")], "alone it forgets none");
    assert_eq!(forgetful.sizes(), [2, 1, 1]);
}

#[test]
fn nobody_is_called_for_who_has_gone() {
    let well = Noting::new(Way::Well);
    let (requests, mut waiting) = taken(&well, &["a", "b", "c"]);
    drop(waiting.remove(1));
    call(well.as_ref(), requests);
    assert_eq!(*well.calls.lock(), [["a", "c"]]);
    let (requests, waiting) = taken(&well, &["d"]);
    drop(waiting);
    call(well.as_ref(), requests);
    assert_eq!(well.sizes(), [2], "nor alone");
}

/// Calls of several that failed were in no figure, and their neighbours waited for each of them.
#[test]
fn a_fault_of_a_call_that_no_request_has_alone_is_told_of_once_and_handed_to_the_last() {
    let slow = || PluginFault::CpuExceeded { limit_ms: 200 };
    for fault in [trap as fn() -> PluginFault, slow] {
        let shy = Noting::new(Way::Shy(fault));
        let (requests, waiting) = taken(&shy, &["a", "b", "c", "d"]);
        assert_eq!(call(shy.as_ref(), requests), Together::Fails);
        let all: Vec<Answered> = waiting.into_iter().map(|answered| answered.blocking_recv().unwrap()).collect();
        assert!(all.iter().all(|answered| answered.received.is_ok()));
        let faults: Vec<Option<PluginFault>> = all.into_iter().map(|answered| answered.fault_of_none).collect();
        assert_eq!(faults, [None, None, None, Some(fault())]);
        assert_eq!(*shy.told.lock(), [fault()]);
    }
}

#[test]
fn a_fault_that_a_request_has_alone_is_none_of_the_call() {
    for (way, told) in [(Way::Fails(trap), 0), (Way::Panics, 0), (Way::Well, 0), (Way::Forgets, 1)] {
        let connector = Noting::new(way);
        let (requests, waiting) = taken(&connector, &["a", "bad", "c"]);
        call(connector.as_ref(), requests);
        let handed = waiting.into_iter().filter_map(|answered| answered.blocking_recv().ok()?.fault_of_none).count();
        assert_eq!((connector.told.lock().len(), handed), (told, told));
    }
}

/// Whoever has gone may have taken the fault along: it is told of, and nobody is blamed.
#[test]
fn a_fault_of_a_call_is_handed_to_nobody_where_a_request_was_not_called_alone() {
    let shy = Noting::new(Way::Shy(trap));
    let (mut requests, mut waiting) = taken(&shy, &["a", "b", "c"]);
    let failed = Arc::new(FailedCall::new(Arc::clone(&shy) as Arc<dyn Connector>, trap(), 3));
    requests.iter_mut().for_each(|one| one.failed = Some(Arc::clone(&failed)));
    drop(failed);
    drop(waiting.remove(1));
    requests.into_iter().for_each(Waiting::alone);
    assert!(waiting.into_iter().all(|answered| answered.blocking_recv().unwrap().fault_of_none.is_none()));
    assert_eq!(*shy.told.lock(), [trap()]);
}

/// Requests of one source with these bodies, each of the connector, that wait.
fn gathered(connectors: &[&Arc<Noting>], bodies: &[&str]) -> (Gathering, ManualClock) {
    let clock = ManualClock::new(Timestamp(0));
    let gathering = Gathering::new(Arc::new(clock.clone()));
    for (place, body) in bodies.iter().enumerate() {
        let (waiting, _) = taken(connectors[place % connectors.len()], &[*body]);
        let waiting = waiting.into_iter().map(|waiting| Waiting { number: place as u64, ..waiting });
        gathering.state.lock().sources.entry(OF).or_default().waiting.extend(waiting);
    }
    (gathering, clock)
}

fn numbers(taken: &[Waiting]) -> Vec<u64> {
    taken.iter().map(|waiting| waiting.number).collect()
}

#[test]
fn a_call_is_bounded_in_requests_and_in_bytes() {
    let connector = Noting::new(Way::Well);
    let (gathering, _) = gathered(&[&connector], &vec!["x"; max_requests() + 3]);
    assert_eq!(gathering.take(OF, 1).len(), max_requests());
    assert_eq!(numbers(&gathering.take(OF, 17)), [17, 16, 18], "the first ones have gone with the other");
    assert!(gathering.take(OF, 3).is_empty(), "its turn comes to nothing");

    let (half, third) = ("x".repeat(max_bytes() / 2), "x".repeat(max_bytes() / 3));
    let huge = "x".repeat(max_bytes() * 2);
    let (gathering, _) = gathered(&[&connector], &[&half, &huge, &third, &third, "x"]);
    assert_eq!(numbers(&gathering.take(OF, 0)), [0, 2, 4], "what does not fit has a turn of its own");
    assert_eq!(numbers(&gathering.take(OF, 1)), [1], "one request is taken however large it is");
    assert_eq!(numbers(&gathering.take(OF, 3)), [3]);
    assert!(gathering.state.lock().sources.is_empty());
}

#[test]
fn a_call_is_for_one_connector_as_it_ran() {
    let (old, new) = (Noting::new(Way::Well), Noting::new(Way::Well));
    let (gathering, _) = gathered(&[&old, &new], &["a", "b", "c", "d"]);
    assert_eq!(numbers(&gathering.take(OF, 0)), [0, 2]);
    assert_eq!(numbers(&gathering.take(OF, 1)), [1, 3]);
}

#[test]
fn what_failed_together_is_called_one_by_one_for_a_while() {
    let connector = Noting::new(Way::Well);
    let (gathering, clock) = gathered(&[&connector], &["a", "b", "c", "d"]);
    gathering.part(OF);
    assert_eq!(numbers(&gathering.take(OF, 0)), [0]);
    clock.advance_ms(APART_MS - 1);
    assert_eq!(numbers(&gathering.take(OF, 1)), [1]);
    clock.advance_ms(1);
    assert_eq!(numbers(&gathering.take(OF, 2)), [2, 3]);
    assert_eq!([gathering.fails_together(OF, 1), gathering.fails_together(OF, 1)], [1, 2]);
    gathering.part(OF);
    let (waiting, _) = taken(&connector, &["e", "f"]);
    gathering.state.lock().sources.entry(OF).or_default().waiting.extend(waiting);
    clock.advance_ms(2 * APART_MS - 1);
    assert_eq!(gathering.take(OF, 0).len(), 1, "twice as long for the second time");
    clock.advance_ms(1);
    let (waiting, _) = taken(&connector, &["g"]);
    gathering.state.lock().sources.entry(OF).or_default().waiting.extend(waiting);
    assert_eq!(gathering.take(OF, 1).len(), 2);
    gathering.forget_workspace(OF.0);
    assert!(gathering.state.lock().sources.is_empty());
}
