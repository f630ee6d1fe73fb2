//! Who waits for whom, and what a call takes along.

use kith_model::plugin::ReplayScope;
use kith_model::time::ManualClock;

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
    /// It forgets the last answer, unless there is but one request.
    Forgets,
}

/// A connector that notes its calls and answers each request with its own body as `resume`.
struct Noting {
    way: Way,
    calls: Mutex<Vec<Vec<String>>>,
}

impl Noting {
    fn new(way: Way) -> Arc<Noting> {
        Arc::new(Noting { way, calls: Mutex::default() })
    }

    fn called(&self, requests: &[&SourceRequest]) -> Result<Vec<Received>, PluginFault> {
        let bodies: Vec<String> =
            requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
        let is_bad = bodies.iter().any(|body| body == "bad");
        self.calls.lock().push(bodies);
        if let (Way::Fails(fault), true) = (self.way, is_bad) {
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
        (Waiting { of: OF, number, connector, request: request(body), reply, place: None }, answered)
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
    gathering.part(OF);
    gathering.forget_workspace(OF.0);
    assert!(gathering.state.lock().sources.is_empty());
}
