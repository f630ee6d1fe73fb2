//! Both versions of the contract: components that were built with the SDK of 0.1 and are kept as files, and a channel of 0.2.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::delivery::{Message, Outcome};
use kith_model::event::DraftEvent;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::plugin::{
    Batch, Callback, Cancellation, Grants, HeldBatches, PluginFault, PluginKind, ReceiveError, Received, ReplayScope,
    SourceRequest,
};
use kith_model::polling::{PollError, PollTurn, WantedPage};
use kith_model::sending::{InboundResponse, MAX_ROUNDS, OutboundRequest, SendFailure, Sent, SentAnswer, Step};
use kith_model::table::{Cell, ColumnBuilder, ColumnType, RecordField, Table, Values};
use kith_model::time::Timestamp;

use crate::guests::{
    CONNECTOR, ECHO, NOW, SCORER, binding, channel, checking, connector, connector_of_lists, core, floats, host,
    host_with, migrating, poller, runtime, scorer_of,
};
use crate::peers::{Answer, Peer, answer};
use crate::{Abi, Asking, BindError, Binding, CheckError, Limits, Observed, PackageError, assemble, inspect};

const CHANNEL_0_1: &[u8] = include_bytes!("../tests/fixtures/0.1/channel.wasm");
const CONNECTOR_0_1: &[u8] = include_bytes!("../tests/fixtures/0.1/connector.wasm");
const TAGGER_0_1: &[u8] = include_bytes!("../tests/fixtures/0.1/tagger.wasm");

fn message(id: &str) -> Message {
    let recipient = [("user_id", "u1"), ("email", "ada@example.com"), ("phone", "+49"), ("customer", "c7")];
    Message {
        id: id.into(),
        attempt: 1,
        recipient: recipient.map(|(kind, value)| Identifier::new(kind, value)).to_vec(),
        profile: ProfileId(SourceIdentityId([7; 16])),
        payload: r#"{"text":"hello"}"#.into(),
        inputs: vec![("city".into(), "\"Ulm\"".into())],
        created_at: Timestamp(1),
    }
}

fn callback(body: &str) -> Callback {
    let (method, path) = ("POST".to_owned(), "/".to_owned());
    let (query, headers) = (String::new(), Vec::new());
    Callback { method, path, query, headers, body: body.as_bytes().to_vec(), received_at: Timestamp(5) }
}

fn granted(peer: &Peer) -> Binding {
    let secrets = [("signing".to_owned(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".into())].into();
    let grants = Grants {
        http: vec![peer.place()],
        secrets: [("signing".to_owned(), vec![peer.place()])].into(),
        kv_bytes: 1_024,
        ..Grants::default()
    };
    let config = serde_json::json!({ "url": format!("http://{}/in", peer.place()) });
    Binding { grants, secrets, config, ..binding() }
}

#[test]
fn a_channel_of_0_1_sends_as_ever() {
    let peer = Peer::new(|request| match request {
        request if request.contains("x-count: 1\r\n") => Answer::Write(answer(200, "id-1")),
        request if request.contains("x-count: 2\r\n") => Answer::Write(answer(429, "")),
        _ => Answer::Write(answer(500, "")),
    });
    assert_eq!(inspect(CHANNEL_0_1).unwrap().abi, Abi::V0_1);
    let plugin = host().load(CHANNEL_0_1).unwrap();
    let channel = plugin.channel(granted(&peer)).unwrap();
    let outcomes = channel.send(&[message("a"), message("b"), message("c")]).unwrap();
    let permanent = Outcome::Permanent { reason: "refused".into() };
    let retry = Outcome::Retry { after_ms: Some(7_000), reason: "busy".into() };
    assert_eq!(outcomes, [Outcome::Delivered { provider_id: Some("id-1".into()) }, retry, permanent]);
    let first = &peer.requests()[0];
    assert!(first.ends_with(r#"{"text":"hello"}"#), "{first}");
    assert!(
        first.contains("x-recipient: u1,ada@example.com,+49,c7\r\n"),
        "it asks for nothing and is given all: {first}"
    );
    assert!(first.contains(&format!("x-now: {}\r\n", NOW.0)), "{first}");
    assert!(first.contains("webhook-id: a\r\n") && first.contains("webhook-signature: v1,"), "{first}");
    assert!(first.contains("x-key: whsec_"), "the stand-in gave way to the value: {first}");

    let receipts = channel.receive(&callback("msg_9")).unwrap();
    assert_eq!((receipts[0].message_id.as_str(), receipts[0].event.name.as_str()), ("msg_9", "Message Opened"));
    assert!(matches!(channel.receive(&callback("")), Err(ReceiveError::Refused(refusal)) if refusal.status == 400));
}

#[test]
fn a_grant_narrows_whom_a_channel_of_0_1_is_told_of() {
    let peer = Peer::new(|_| Answer::Write(answer(200, "")));
    let mut binding = granted(&peer);
    binding.grants.recipients = Some(vec!["email".into(), "phone".into()]);
    host().load(CHANNEL_0_1).unwrap().channel(binding).unwrap().send(&[message("a")]).unwrap();
    let first = &peer.requests()[0];
    assert!(first.contains("x-recipient: ada@example.com,+49\r\n"), "{first}");
}

fn request(body: &str) -> SourceRequest {
    SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
        complete: true,
        resume: None,
        received_at: Timestamp(0),
        replayed: ReplayScope::No,
    }
}

#[test]
fn a_connector_of_0_1_is_called_for_each_request_by_itself() {
    let observed = Arc::new(Observed::default());
    let bound = Binding { observed: Arc::clone(&observed), ..binding() };
    let connector = host().load(CONNECTOR_0_1).unwrap().connector(bound).unwrap();
    assert!(!connector.takes_several());
    let requests = ["ada", "grace\nada", "joan"].map(request);
    let answers = connector.receive_all(&requests.each_ref()).unwrap();
    let events = |answer: Result<Received, ReceiveError>| answer.unwrap().events.len();
    assert_eq!(answers.into_iter().map(events).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(observed.usage().calls, 3);
}

#[test]
fn requests_of_one_call_are_answered_each_by_itself_and_as_many_come_back() {
    let observed = Arc::new(Observed::default());
    let bound = Binding { observed: Arc::clone(&observed), ..binding() };
    let connector = host().load(&connector_of_lists()).unwrap().connector(bound).unwrap();
    assert!(connector.takes_several());
    let receive = |bodies: &[&str]| {
        let requests: Vec<SourceRequest> = bodies.iter().map(|body| request(body)).collect();
        connector.receive_all(&requests.iter().collect::<Vec<_>>())
    };
    let consumed = |answers: Vec<Result<Received, ReceiveError>>| -> Vec<usize> {
        answers.into_iter().map(|answer| answer.unwrap().consumed).collect()
    };
    assert_eq!(consumed(receive(&["a", "bb", "", "dddd"]).unwrap()), [1, 2, 0, 4]);
    assert_eq!(observed.usage().calls, 1);
    let short = PluginFault::InvalidOutput("2 answers came back for 3".into());
    assert_eq!(receive(&["a", "b", "c"]), Err(short));
    let trapped = receive(&["a", "t"]).unwrap_err();
    assert!(matches!(trapped, PluginFault::Trapped { .. }), "{trapped}");
    assert_eq!(observed.usage().last_fault, None, "whose it is shows where each is called alone");
    assert!(matches!(connector.receive(&request("t")), Err(ReceiveError::Fault(PluginFault::Trapped { .. }))));
    assert_eq!(observed.usage().faults.iter().map(|(_, count)| count).sum::<u64>(), 1);
}

/// What a call has done is there after it has failed, and is done again with the rest.
#[test]
fn who_may_send_or_keeps_state_is_asked_about_one_request() {
    let state = CONNECTOR.to_owned() + "[capabilities.kv]\nbytes = 1024\nreason = \"to test\"\n";
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32) unreachable))"#;
    let component = assemble(&core(PluginKind::Connector, wat), &state).unwrap();
    let takes_several = |grants: Grants| {
        host().load(&component).unwrap().connector(Binding { grants, ..binding() }).unwrap().takes_several()
    };
    assert!(takes_several(Grants::default()));
    assert!(!takes_several(Grants { kv_bytes: 1_024, ..Grants::default() }));
    assert!(!takes_several(Grants { http: vec!["peer.example".into()], ..Grants::default() }));
}

#[test]
fn a_call_for_several_requests_has_the_limits_of_several() {
    let fuel = |requests: &[&SourceRequest]| {
        let bound = Binding { fuel: Some(10_000), ..binding() };
        host().load(&connector_of_lists()).unwrap().connector(bound).unwrap().receive_all(requests)
    };
    let (endless, short) = (request("loop"), request("a"));
    assert_eq!(fuel(&[&endless]).unwrap_err(), PluginFault::FuelExhausted { limit: 10_000 });
    assert_eq!(fuel(&[&short, &endless]).unwrap_err(), PluginFault::FuelExhausted { limit: 20_000 });
    let host = host_with(None, Limits { cpu_ms: 20, ..Limits::default() });
    let connector = host.load(&connector_of_lists()).unwrap().connector(binding()).unwrap();
    let timed = |requests: usize| connector.receive_all(&vec![&endless; requests]).unwrap_err();
    assert_eq!(timed(2), PluginFault::CpuExceeded { limit_ms: 40 });
    assert_eq!(timed(16), PluginFault::CpuExceeded { limit_ms: 40 }, "its neighbours wait for it");
}

#[test]
fn a_connector_and_a_model_of_0_1_run() {
    let connector = host().load(CONNECTOR_0_1).unwrap().connector(binding()).unwrap();
    let request = request("ada\n\ngrace");
    let received = connector.receive(&request).unwrap();
    let who = |event: &DraftEvent| event.identifiers[0].value.clone();
    assert_eq!(received.events.iter().map(who).collect::<Vec<_>>(), ["ada", "grace"]);
    assert_eq!(received.rejected[0].code, "empty");
    let wanted = WantedPage::default();
    let PollTurn::Page(page) = connector.poll(&wanted).unwrap() else { panic!("0.1 fetches a page in one call") };
    assert_eq!(page.cursor, b"first");
    assert!(connector.transport().is_none());

    let model = host().load(TAGGER_0_1).unwrap().compute(binding()).unwrap();
    let rows = |values: &[Option<f64>]| Table { rows: values.len(), columns: vec![floats("spent", values)] };
    let batch = |rows: Table| Batch { ids: vec![1; rows.rows], rows, labels: None, cut_offs: None };
    let data = HeldBatches::from(vec![batch(rows(&[Some(10.0), None])), batch(rows(&[Some(20.0)]))]);
    let fitted = model.fit(Box::new(data), &Cancellation::default()).unwrap();
    assert_eq!(fitted.metrics, [("average".to_owned(), 15.0)]);
    let tags = model.compute(&fitted.state, rows(&[Some(14.0), Some(16.0), None])).unwrap();
    let column = tags.column("spender").unwrap();
    assert!(matches!(&column.values, Values::Boolean(bits) if bits[0] & 0b11 == 0b10), "{column:?}");
    assert!(column.is_valid(1) && !column.is_valid(2));
}

/// What `score` does of a guest whose input has records with an `amount` for their second field: the sum of each row's amounts, each
/// times its place among them. Places after the canonical ABI: of a column the offsets stand at 24 and the fields at 32, a field has
/// 40 bytes and its values at 24.
const WEIGH: &str = r#"(local $offset i32) (local $amounts i32) (local $row i32) (local $first i32) (local $place i32) (local $sum f64)
    (local.set $amounts (i32.load offset=64 (i32.load offset=32 (local.get $columns))))
    (block $done (loop $rows_left
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (local.set $offset (i32.add (i32.load offset=24 (local.get $columns)) (i32.mul (local.get $row) (i32.const 4))))
        (local.set $first (i32.load (local.get $offset)))
        (local.set $place (local.get $first))
        (local.set $sum (f64.const 0))
        (block $end (loop $next
            (br_if $end (i32.ge_u (local.get $place) (i32.load offset=4 (local.get $offset))))
            (local.set $sum (f64.add (local.get $sum) (f64.mul
                (f64.load (i32.add (local.get $amounts) (i32.mul (local.get $place) (i32.const 8))))
                (f64.convert_i32_u (i32.add (i32.const 1) (i32.sub (local.get $place) (local.get $first)))))))
            (local.set $place (i32.add (local.get $place) (i32.const 1)))
            (br $next)))
        (f64.store (i32.add (i32.const 2048) (i32.mul (local.get $row) (i32.const 8))) (local.get $sum))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $rows_left)))
    (i32.store8 (i32.const 1100) (i32.const 120))
    (i32.store (i32.const 1024) (i32.const 1100)) (i32.store (i32.const 1028) (i32.const 1))
    (i32.store8 (i32.const 1044) (i32.const 2))
    (i32.store (i32.const 1048) (i32.const 2048)) (i32.store (i32.const 1052) (local.get $rows))
    (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (local.get $rows))
    (i32.store (i32.const 24) (i32.const 1024)) (i32.store (i32.const 28) (i32.const 1))
    (i32.const 16)"#;

/// What is absent has its place among what is there; and no answer is of records.
#[test]
fn a_model_is_given_records_with_a_column_for_each_field() {
    let field = |name: &str, column_type| RecordField { name: name.into(), column_type };
    let order = ColumnType::Records(vec![field("time", ColumnType::Timestamp), field("amount", ColumnType::Float64)]);
    let manifest = SCORER.replacen(
        "type = \"float64\"",
        "type = \"records\"\nfields = { time = \"timestamp\", amount = \"float64\" }",
        1,
    );
    let mut orders = ColumnBuilder::new("x", &order);
    let record = |amount: Option<f64>| vec![Cell::Timestamp(1), amount.map_or(Cell::Null, Cell::Float64)];
    orders.push(Cell::Records(vec![record(Some(1.5)), record(None), record(Some(2.0))])).unwrap();
    orders.push(Cell::Null).unwrap();
    orders.push(Cell::Records(vec![record(Some(4.0))])).unwrap();
    let rows = Table { rows: 3, columns: vec![orders.finish()] };
    let score = |body: &str| {
        let model = host().load(&scorer_of(&manifest, body)).unwrap().compute(binding()).unwrap();
        model.compute(&[], rows.clone())
    };
    assert_eq!(score(WEIGH).unwrap().column("x").unwrap().values, Values::Float64(vec![7.5, 0.0, 4.0]));
    let refused = score(ECHO).unwrap_err().to_string();
    assert!(refused.contains("the output `x` is of type Records"), "{refused}");
}

/// It gives a page or requests, and neither sends nor keeps anything itself.
#[test]
fn a_poll_is_pure() {
    let poll = |body: &str| {
        let connector = host().load(&poller(body)).unwrap().connector(binding()).unwrap();
        assert!(connector.transport().is_some());
        connector.poll(&WantedPage::default())
    };
    let page = "(i32.store (i32.const 2052) (i32.const 1))
        (i32.store (i32.const 2072) (i32.const 528)) (i32.store (i32.const 2076) (i32.const 4))
        (i32.store (i32.const 2080) (i32.const 1)) (i32.const 2048)";
    let Ok(PollTurn::Page(page)) = poll(page) else { panic!("a page") };
    assert_eq!((page.cursor.as_slice(), page.more, page.events.len()), (&b"next"[..], true, 0));
    let nothing = poll("(i32.const 2048)").unwrap_err();
    assert!(
        matches!(&nothing, PollError::Fault(PluginFault::InvalidOutput(why)) if why.contains("neither")),
        "{nothing:?}"
    );
    let sends = "(call $send (i32.const 512) (i32.const 4) (i32.const 600) (i32.const 20) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
        (i32.store (i32.const 2048) (i32.const 1)) (i32.store (i32.const 2052) (i32.const 1))
        (i32.store (i32.const 2056) (i32.load (i32.const 264))) (i32.store (i32.const 2060) (i32.load (i32.const 268)))
        (i32.const 2048)";
    let refused = poll(sends).unwrap_err();
    assert!(matches!(&refused, PollError::Permanent(why) if why.contains("sends nothing itself")), "{refused:?}");
}

/// A connector that is to be polled exports what it is asked by; every one of 0.1 does.
#[test]
fn what_cannot_poll_is_refused_where_its_manifest_says_so() {
    let polls = |manifest: &str| format!("{manifest}[poll]\nreason = \"to test\"\n");
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/source@0.2.0#receive") (param i32 i32) (result i32) unreachable))"#;
    let module = core(PluginKind::Connector, wat);
    assert!(assemble(&module, CONNECTOR).is_ok());
    assert!(matches!(assemble(&module, &polls(CONNECTOR)), Err(PackageError::NoPoll)));
}

#[test]
fn a_plugin_is_asked_about_its_configuration_where_it_has_something_to_say() {
    let config = serde_json::json!({ "url": "x" });
    let check =
        |component: &[u8]| host().load(component).unwrap().check_config(&Asking::default(), &config, &BTreeSet::new());
    let fine = checking("(i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16)");
    assert_eq!(check(&fine).unwrap(), []);
    // One problem: its key and its words are texts of the guest's data.
    let problem = checking(
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 256)) (i32.store (i32.const 24) (i32.const 1))
        (i32.store (i32.const 256) (i32.const 64)) (i32.store (i32.const 260) (i32.const 8))
        (i32.store (i32.const 264) (i32.const 128)) (i32.store (i32.const 268) (i32.const 16)) (i32.const 16)",
    );
    let said = check(&problem).unwrap();
    assert_eq!(
        (said[0].key.as_str(), said[0].message.as_str()),
        ("panicked", "line\\n\\u{1b}[31mforged"),
        "made visible"
    );
    let trap = check(&checking("unreachable")).unwrap_err();
    assert!(matches!(trap, CheckError::Fault(PluginFault::Trapped { .. })), "{trap:?}");
    let endless = check(&checking("(loop $again (br $again)) unreachable")).unwrap_err();
    assert!(matches!(endless, CheckError::Fault(PluginFault::CpuExceeded { .. })), "{endless:?}");
    // What was built before there was such a function has nothing to say, in both versions of the contract.
    for silent in [connector("unreachable").as_slice(), CONNECTOR_0_1, TAGGER_0_1, CHANNEL_0_1] {
        assert_eq!(check(silent).unwrap(), []);
    }
}

#[test]
fn a_plugin_makes_its_configuration_of_an_earlier_versions() {
    let (config, from) = (serde_json::json!({ "url": "x" }), semver::Version::new(0, 1, 0));
    let migrate = |component: &[u8]| {
        host().load(component).unwrap().migrate_config(&Asking::default(), &from, &config, &BTreeSet::new())
    };
    // A result's text, or its list of problems, is told by its first byte.
    let given = |at: &str, length: &str| {
        migrating(&format!(
            "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) {at}) (i32.store (i32.const 24) {length})
            (i32.const 16)"
        ))
    };
    assert_eq!(migrate(&given("(local.get $at)", "(local.get $length)")).unwrap(), Ok(config.clone()));
    for nonsense in [given("(local.get $from)", "(local.get $from_length)"), given("(i32.const 64)", "(i32.const 8)")] {
        let fault = migrate(&nonsense).unwrap_err();
        assert!(matches!(fault, CheckError::Fault(PluginFault::InvalidOutput(_))), "{fault:?}");
    }
    let problem = migrating(
        "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 256)) (i32.store (i32.const 24) (i32.const 1))
        (i32.store (i32.const 256) (i32.const 64)) (i32.store (i32.const 260) (i32.const 8))
        (i32.store (i32.const 264) (i32.const 128)) (i32.store (i32.const 268) (i32.const 16)) (i32.const 16)",
    );
    let said = migrate(&problem).unwrap().unwrap_err();
    assert_eq!((said[0].key.as_str(), said[0].message.as_str()), ("panicked", "line\\n\\u{1b}[31mforged"));
    let endless = migrate(&migrating("(loop $again (br $again)) unreachable")).unwrap_err();
    assert!(matches!(endless, CheckError::Fault(PluginFault::CpuExceeded { .. })), "{endless:?}");
    // What was built before there was such a function gives it back as it is, in both versions of the contract.
    let (without_either, checking_alone) = (connector("unreachable"), checking("unreachable"));
    for silent in [without_either.as_slice(), &checking_alone, CONNECTOR_0_1, TAGGER_0_1, CHANNEL_0_1] {
        assert_eq!(migrate(silent).unwrap(), Ok(config.clone()));
    }
}

/// Bind the channel of 0.2 that posts to `url`.
fn pure(url: &str, binding: Binding) -> std::sync::Arc<dyn kith_model::sending::PureChannel> {
    host().load(&channel(url)).unwrap().pure_channel(Binding { config: serde_json::Value::Null, ..binding }).unwrap()
}

fn response(status: u16, body: &str) -> Result<InboundResponse, SendFailure> {
    Ok(InboundResponse { status, headers: Vec::new(), body: body.as_bytes().to_vec(), truncated: false })
}

fn answered(id: &str, round: u32, result: Result<InboundResponse, SendFailure>) -> SentAnswer {
    SentAnswer { message: message(id), round, resume: Some(id.as_bytes().to_vec()), result: Sent::Request(result) }
}

#[test]
fn a_channel_of_0_2_says_what_to_send_and_what_came_of_it() {
    let channel = pure("https://a.example/in", binding());
    let steps = channel.requests(&[message("a"), message("b")]).unwrap();
    let expected = |id: &str| {
        Step::Send(OutboundRequest {
            method: "POST".into(),
            url: "https://a.example/in".into(),
            // Of the four identifiers the manifest asks for two, and the first of these is given.
            body: b"ada@example.com".to_vec(),
            resume: Some(id.as_bytes().to_vec()),
            ..OutboundRequest::default()
        })
    };
    assert_eq!(steps, [expected("a"), expected("b")]);
    assert_eq!(channel.requests(&[]).unwrap(), []);
    let steps = channel
        .outcomes(&[
            answered("a", 1, response(200, "p1")),
            answered("b", 1, response(202, "p2")),
            answered("c", 1, response(401, "")),
            answered("d", 1, response(410, "")),
            answered("e", 1, response(404, "")),
            answered("f", 1, Err(SendFailure::Timeout("late".into()))),
            answered("g", MAX_ROUNDS, response(401, "")),
        ])
        .unwrap();
    let done = |outcome| Step::Done(outcome);
    assert_eq!(
        steps[..6],
        [
            done(Outcome::Delivered { provider_id: Some("p1".into()) }),
            done(Outcome::Accepted { provider_id: Some("p2".into()) }),
            expected("c"),
            done(Outcome::Stop { reason: "d".into() }),
            done(Outcome::Permanent { reason: "e".into() }),
            done(Outcome::Retry { after_ms: None, reason: "late".into() }),
        ]
    );
    // One request too many ends the attempt of its message and no other's.
    assert!(matches!(&steps[6], Step::Done(Outcome::Retry { reason, .. }) if reason.contains("more than 4 requests")));
}

#[test]
fn an_attempt_of_a_channel_of_0_2_from_message_to_outcome() {
    let peer = Peer::new(|request| {
        assert!(request.ends_with("\r\n\r\n+49"), "{request}");
        Answer::Write(answer(200, "p7"))
    });
    let mut binding = granted(&peer);
    binding.grants.recipients = Some(vec!["phone".into()]);
    let channel = pure(&format!("http://{}/in", peer.place()), binding);
    let mut steps = channel.requests(&[message("a")]).unwrap();
    let Step::Send(mut request) = steps.remove(0) else { panic!("it is to be sent") };
    let resume = request.resume.take();
    let result = Sent::Request(runtime().block_on(channel.transport().send(request)));
    let answer = SentAnswer { message: message("a"), round: 1, resume, result };
    let provider_id = Some("p7".to_owned());
    assert_eq!(channel.outcomes(&[answer]).unwrap(), [Step::Done(Outcome::Delivered { provider_id })]);
}

#[test]
fn a_channel_is_bound_after_its_own_contract() {
    let (old, new) = (host().load(CHANNEL_0_1).unwrap(), host().load(&channel("")).unwrap());
    assert!(matches!(old.pure_channel(binding()).err().unwrap(), BindError::OtherContract { abi: Abi::V0_1, .. }));
    assert!(matches!(new.channel(binding()).err().unwrap(), BindError::OtherContract { abi: Abi::V0_2, .. }));
    assert!(matches!(new.connector(binding()).err().unwrap(), BindError::WrongKind { .. }));
}

#[test]
fn a_pure_channel_cannot_reach_out_itself() {
    for import in ["kith:plugin/http@0.2.0", "kith:plugin/kv@0.2.0"] {
        assert!(
            !crate::package::world::world_of(Abi::V0_2, kith_model::plugin::PluginKind::Channel)
                .imports
                .contains(import)
        );
    }
    let said_otherwise = crate::guests::CHANNEL.replace("abi = \"0.2\"", "abi = \"0.1\"");
    let core = crate::guests::core(
        kith_model::plugin::PluginKind::Channel,
        r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#,
    );
    let error = crate::assemble(&core, &said_otherwise).unwrap_err().to_string();
    assert!(error.contains("write `abi = \"0.2\"`"), "{error}");
}
