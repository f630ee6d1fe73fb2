//! Hostile guests, one for each way a call can end badly. In each the host lives and says what happened in a typed fault.

use std::sync::Arc;

use kith_model::budget::table;
use kith_model::plugin::{
    ComputeModel, Connector, EmittedEvent, Grants, LimitRequest, PluginFault, ReceiveError, ReplayScope, SourceRequest,
    TimeSpent,
};
use kith_model::table::Table;
use kith_model::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::guests::{
    ECHO, NOW, SCORER, binding, composed, connector, emitter, floats, host, host_with, nested, poster, rows, runtime,
    scorer, scorer_of, scorer_with,
};
use crate::{BindError, Binding, Limits, LoadError};

fn bound(component: &[u8]) -> Arc<dyn ComputeModel> {
    host().load(component).unwrap().compute(binding()).unwrap()
}

fn fault_of(component: &[u8]) -> PluginFault {
    bound(component).compute(&[], rows(&[1.0, 2.0])).unwrap_err()
}

#[test]
fn an_honest_guest_answers() {
    let input = Table { rows: 3, columns: vec![floats("x", &[Some(1.5), None, Some(-0.0)])] };
    assert_eq!(bound(&scorer(ECHO)).compute(&[], input.clone()), Ok(input));
}

/// What tools compose is a component in a component; it runs as the same by itself, and its limits are the same.
#[test]
fn a_plugin_in_nested_components_runs_within_its_limits() {
    let packed = |body: &str| {
        let composed = nested(&nested(&scorer(body)));
        crate::pack(&composed, SCORER, crate::Carried::Refused, table::COMPONENT_SIZE.default).unwrap()
    };
    let input = Table { rows: 2, columns: vec![floats("x", &[Some(1.5), None])] };
    assert_eq!(bound(&packed(ECHO)).compute(&[], input.clone()), Ok(input));
    let grows = "(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";
    assert_eq!(fault_of(&packed(grows)), PluginFault::MemoryExceeded { limit_bytes: 64 * 1024 * 1024 });
}

/// Writes nothing down, and traps where it is not given the text that [`scorer`]s have at 64.
const LOG_OF_ITS_OWN: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "write") (param $level i32) (param $at i32) (param $length i32)
            (if (i32.ne (local.get $length) (i32.const 41)) (then unreachable))
            (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 112)) (then unreachable))))
    (core instance $i (instantiate $m))
    (type $levels (enum "debug" "info" "warn" "error"))
    (export $level "level" (type $levels))
    (func $write (param "level" $level) (param "message" string)
        (canon lift (core func $i "write") (memory $i "memory") (realloc (func $i "realloc"))))
    (export "write" (func $write)))"#;

/// Where one nested component calls another, a text goes from one memory to the other.
#[test]
fn nested_components_call_each_other() {
    let calling = scorer(&format!("(call $log (i32.const 1) (i32.const 64) (i32.const 41)){ECHO}"));
    let log = wat::parse_str(LOG_OF_ITS_OWN).unwrap();
    let components = composed(&calling, Some(("kith:plugin/log@0.2.0", &log)));
    let packed = crate::pack(&components, SCORER, crate::Carried::Refused, table::COMPONENT_SIZE.default).unwrap();
    let bound_here = binding();
    let observed = Arc::clone(&bound_here.observed);
    let model = host().load(&packed).unwrap().compute(bound_here).unwrap();
    assert_eq!(model.compute(&[], rows(&[1.0])), Ok(rows(&[1.0])));
    assert_eq!(observed.usage().lines, 0, "the host's log was not asked");
}

/// It was installed, and failed at every call: the adapters between components counted with what was admitted without them.
#[test]
fn a_component_of_as_many_instances_as_are_admitted_runs() {
    let calling = scorer(&format!("(call $log (i32.const 1) (i32.const 64) (i32.const 41)){ECHO}"));
    let with_more = |instances: usize| {
        let more = "(core instance (instantiate $empty))".repeat(instances);
        let log = LOG_OF_ITS_OWN.replacen("(type $levels", &format!("(core module $empty) {more} (type $levels"), 1);
        let components = composed(&calling, Some(("kith:plugin/log@0.2.0", &wat::parse_str(log).unwrap())));
        crate::pack(&components, SCORER, crate::Carried::Refused, table::COMPONENT_SIZE.default)
    };
    let refused = with_more(32).unwrap_err().to_string();
    assert!(refused.contains("instances of modules") && refused.contains("at most 32 are admitted"), "{refused}");
    let most = (0..32).rev().find_map(|instances| with_more(instances).ok()).unwrap();
    let model = host().load(&most).unwrap().compute(binding()).unwrap();
    assert_eq!(model.compute(&[], rows(&[1.0])), Ok(rows(&[1.0])));
}

#[test]
fn an_infinite_loop_is_stopped_while_others_answer() {
    let host = host();
    let looping = host.load(&scorer("(loop $on (br $on)) unreachable")).unwrap().compute(binding()).unwrap();
    let honest = host.load(&scorer(ECHO)).unwrap().compute(binding()).unwrap();
    let attack = std::thread::spawn(move || looping.compute(&[], rows(&[1.0])));
    let mut answers = 0;
    while !attack.is_finished() {
        assert!(honest.compute(&[], rows(&[1.0])).is_ok());
        answers += 1;
    }
    assert_eq!(attack.join().unwrap(), Err(PluginFault::CpuExceeded { limit_ms: 200 }));
    assert!(answers > 10, "{answers}");
}

#[test]
fn an_infinite_loop_in_the_start_function_is_stopped() {
    let start = "(func $start (loop $on (br $on))) (start $start)";
    assert_eq!(fault_of(&scorer_with(ECHO, start, 1)), PluginFault::CpuExceeded { limit_ms: 200 });
}

#[test]
fn an_infinite_loop_after_the_result_is_stopped() {
    let post = r#"(func (export "cabi_post_kith:plugin/scoring@0.2.0#score") (param i32) (loop $on (br $on)))"#;
    assert_eq!(fault_of(&scorer_with(ECHO, post, 1)), PluginFault::CpuExceeded { limit_ms: 200 });
}

/// The host asks a guest for room for its input before it calls it.
#[test]
fn an_infinite_loop_where_the_host_asks_for_room_is_stopped() {
    let core = crate::guests::core(
        kith_model::plugin::PluginKind::Scorer,
        r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $on (br $on)) unreachable)
        (func (export "kith:plugin/scoring@0.2.0#score") (param i32 i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) unreachable))"#,
    );
    assert_eq!(fault_of(&crate::assemble(&core, SCORER).unwrap()), PluginFault::CpuExceeded { limit_ms: 200 });
}

/// Each handle is the host's memory, which counts for no memory of the guest's.
#[test]
fn a_flood_of_handles_is_stopped() {
    let flood = r#"(component
        (type $handle (resource (rep i32)))
        (core func $new (canon resource.new $handle))
        (core module $m
            (import "host" "new" (func $new (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "write") (param i32 i32 i32) (loop $on (drop (call $new (i32.const 1))) (br $on))))
        (core instance $i (instantiate $m (with "host" (instance (export "new" (func $new))))))
        (type $levels (enum "debug" "info" "warn" "error"))
        (export $level "level" (type $levels))
        (func $write (param "level" $level) (param "message" string)
            (canon lift (core func $i "write") (memory $i "memory") (realloc (func $i "realloc"))))
        (export "write" (func $write)))"#;
    let calling = scorer("(call $log (i32.const 1) (i32.const 64) (i32.const 41)) unreachable");
    let components = composed(&calling, Some(("kith:plugin/log@0.2.0", &wat::parse_str(flood).unwrap())));
    let packed = crate::pack(&components, SCORER, crate::Carried::Refused, table::COMPONENT_SIZE.default).unwrap();
    let fault = fault_of(&packed);
    assert_eq!(fault, PluginFault::LimitExceeded { what: "handles", limit: 1_000 });
    assert_eq!(fault.code(), "limit.handles");
}

#[test]
fn endless_host_calls_are_stopped() {
    let body = "(loop $on (call $log (i32.const 0) (i32.const 128) (i32.const 0)) (br $on)) unreachable";
    let host = host_with(None, Limits { log_bytes: u64::MAX, ..Limits::default() });
    let model = host.load(&scorer(body)).unwrap().compute(binding()).unwrap();
    let fault = model.compute(&[], rows(&[1.0])).unwrap_err();
    assert_eq!(fault, PluginFault::LimitExceeded { what: "host calls", limit: 10_000 });
}

/// Bulk operations are checked at their start only; the memory limit bounds each one.
#[test]
fn a_storm_of_copies_is_stopped() {
    let body = "(loop $on (memory.copy (i32.const 0) (i32.const 32768) (i32.const 32768)) (br $on)) unreachable";
    assert_eq!(fault_of(&scorer(body)), PluginFault::CpuExceeded { limit_ms: 200 });
}

/// A guest that lives with the refusal is not at fault.
#[test]
fn memory_grows_to_the_limit_and_no_further() {
    let grow = "(if (i32.ne (i32.const -1) (memory.grow (i32.const 60000))) (then unreachable))";
    assert!(bound(&scorer(&format!("{grow}{ECHO}"))).compute(&[], rows(&[1.0])).is_ok());
    let fault =
        fault_of(&scorer("(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable"));
    assert_eq!(fault, PluginFault::MemoryExceeded { limit_bytes: 64 * 1024 * 1024 });
}

#[test]
fn a_huge_initial_memory_is_refused() {
    let fault = fault_of(&scorer_with(ECHO, "", 20_000));
    assert_eq!(fault, PluginFault::MemoryExceeded { limit_bytes: 64 * 1024 * 1024 });
}

#[test]
fn a_huge_table_is_refused() {
    let fault = fault_of(&scorer_with(ECHO, "(table 10000000 funcref)", 1));
    assert!(matches!(&fault, PluginFault::Trapped { message, .. } if message.contains("table")), "{fault:?}");
}

#[test]
fn a_giant_result_is_refused() {
    // One column of a name with 30 MiB; the memory is there, the host does not copy it.
    let body = r#"
        (drop (memory.grow (i32.const 600)))
        (i32.store (i32.const 20) (local.get $rows))
        (i32.store (i32.const 24) (i32.const 1024))
        (i32.store (i32.const 28) (i32.const 1))
        (i32.store (i32.const 1028) (i32.const 31457280))
        (i32.const 16)"#;
    let fault = fault_of(&scorer(body));
    assert_eq!(fault, PluginFault::LimitExceeded { what: "output bytes", limit: 16 * 1024 * 1024 });
}

#[test]
fn a_flood_of_the_log_is_cut_and_ends_with_the_host_calls() {
    let body = "(loop $on (call $log (i32.const 1) (i32.const 128) (i32.const 16)) (br $on)) unreachable";
    let bound = binding();
    let observed = Arc::clone(&bound.observed);
    let model = host().load(&scorer(body)).unwrap().compute(bound).unwrap();
    let limit = table::GUEST_HOST_CALLS.default;
    let fault = model.compute(&[], rows(&[1.0])).unwrap_err();
    assert_eq!(fault, PluginFault::LimitExceeded { what: "host calls", limit });
    let usage = observed.usage();
    // Each line counts with its 16 bytes and 32 more.
    assert_eq!((usage.lines, usage.lines - usage.lines_cut), (limit, 64 * 1024 / 48));
    assert_eq!(usage.last_fault.unwrap().fault, fault);
}

#[test]
fn deep_recursion_is_a_trap() {
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let fault = fault_of(&scorer_with("(drop (call $deep (i32.const 1))) unreachable", deep, 1));
    let PluginFault::Trapped { message, backtrace } = fault else { panic!("{fault:?}") };
    assert_eq!(message, "call stack exhausted");
    assert!(backtrace[0].contains("deep"), "{backtrace:?}");
}

#[test]
fn a_panic_is_a_trap_with_its_text_and_place() {
    let panic =
        "(func $_ZN4till4open17h0123456789abcdefE (call $log (i32.const 3) (i32.const 64) (i32.const 41)) unreachable)";
    let fault = fault_of(&scorer_with("(call $_ZN4till4open17h0123456789abcdefE) unreachable", panic, 1));
    let PluginFault::Trapped { message, backtrace } = fault else { panic!("{fault:?}") };
    assert_eq!(message, "the till is empty, src/lib.rs:7");
    assert!(backtrace[0].contains("till::open") && backtrace[0].contains("0x"), "{backtrace:?}");
    assert!(backtrace[1].contains("score"), "{backtrace:?}");
}

#[test]
fn fuel_is_exact_and_by_choice() {
    let host = host();
    let plugin = host.load(&scorer("(loop $on (br $on)) unreachable")).unwrap();
    let metered = plugin.compute(Binding { fuel: Some(100_000), ..binding() }).unwrap();
    assert_eq!(metered.compute(&[], rows(&[1.0])), Err(PluginFault::FuelExhausted { limit: 100_000 }));
    let grants = Grants { limits: LimitRequest { fuel: Some(50_000), ..LimitRequest::default() }, ..Grants::default() };
    let granted = plugin.compute(Binding { grants, ..binding() }).unwrap();
    assert_eq!(granted.compute(&[], rows(&[1.0])), Err(PluginFault::FuelExhausted { limit: 50_000 }));
}

/// A schema from before schemas were measured, which refers to itself.
#[test]
fn a_plugin_whose_schema_would_not_be_admitted_today_goes_on_running() {
    let schema = "[config.properties.loop]\n\"$ref\" = \"#/$defs/x\"\n[config.\"$defs\".x]\ntype = \"integer\"\n";
    let mut component = scorer_of(&format!("{SCORER}{schema}"), ECHO);
    let (reference, circle) = (b"\"#/$defs/x\"", b"\"#\"        ");
    let at = component.windows(reference.len()).position(|bytes| bytes == reference).unwrap();
    component[at..at + circle.len()].copy_from_slice(circle);
    let refused = crate::inspect(&component).unwrap_err().to_string();
    assert!(refused.contains("[config].properties.loop.$ref refers to itself"), "{refused}");
    let config = serde_json::json!({ "loop": 1 });
    let scorer = host().load(&component).unwrap().compute(Binding { config, ..binding() }).unwrap();
    assert!(scorer.compute(&[], rows(&[1.0])).is_ok());
}

/// Regression: the policy showed the fuel that a manifest asks for, and without a grant nothing metered it.
#[test]
fn fuel_that_the_manifest_alone_asks_for_is_in_force() {
    let manifest = format!("{SCORER}[limits]\nfuel = 40_000\n");
    let component = scorer_of(&manifest, "(loop $on (br $on)) unreachable");
    let plugin = host().load(&component).unwrap().compute(binding()).unwrap();
    assert_eq!(plugin.compute(&[], rows(&[1.0])), Err(PluginFault::FuelExhausted { limit: 40_000 }));
}

#[test]
fn a_table_that_breaks_the_contract_is_refused() {
    let cases = [
        // One row more than came in.
        ("(i32.store (i32.const 20) (i32.add (local.get $rows) (i32.const 1)))", "3 rows came back for 2"),
        // No columns.
        ("(i32.store (i32.const 28) (i32.const 0))", "the output `x` is missing"),
        // The same column twice, past the end: garbage that fails to lift, or a double name.
        ("(i32.store8 (i32.load (i32.load (i32.const 24))) (i32.const 121))", "the column `y` is not among"),
        // Another type: the same buffers as int64.
        ("(i32.store8 offset=20 (i32.load (i32.const 24)) (i32.const 1))", "is of type Int64"),
        // One value less than rows.
        ("(i32.store offset=28 (i32.load (i32.const 24)) (i32.const 1))", "1 values for 2 rows"),
        // A NaN.
        ("(f64.store offset=8 (i32.load offset=24 (i32.load (i32.const 24))) (f64.const nan))", "must be finite"),
        ("(f64.store (i32.load offset=24 (i32.load (i32.const 24))) (f64.const inf))", "must be finite"),
        // Names and buffers that point nowhere, a discriminant that does not exist, bytes that are no text.
        ("(i32.store offset=4 (i32.load (i32.const 24)) (i32.const 0x7fffffff))", "out of bounds"),
        ("(i32.store offset=24 (i32.load (i32.const 24)) (i32.const 0x7ffffff8))", "out of bounds"),
        ("(i32.store8 offset=20 (i32.load (i32.const 24)) (i32.const 77))", "discriminant"),
        ("(i32.store8 (i32.load (i32.load (i32.const 24))) (i32.const 255))", "utf-8"),
        ("(i32.store (i32.const 16) (i32.const 9))", "discriminant"),
    ];
    let host = host();
    for (breach, expected) in cases {
        let body = ECHO.trim_end().strip_suffix("(i32.const 16)").unwrap();
        let component = scorer(&format!("{body}{breach}(i32.const 16)"));
        let model = host.load(&component).unwrap().compute(binding()).unwrap();
        let fault = model.compute(&[], rows(&[1.0, 2.0])).unwrap_err();
        let text = match &fault {
            PluginFault::InvalidOutput(text) => text.clone(),
            PluginFault::Trapped { message, .. } => message.clone(),
            other => panic!("{breach}: {other:?}"),
        };
        assert!(text.contains(expected), "{breach}: {fault:?}");
    }
}

#[test]
fn what_a_guest_emits_comes_with_its_answer_and_in_bounds() {
    let emit = "(call $emit (i32.const 1) (i32.const 512) (i32.const 3) (i32.const 520) (i32.const 7)
        (i32.const 536) (i32.const 3))";
    let model = bound(&emitter(&format!("{emit}{ECHO}")));
    let answer = model.answer(&[], rows(&[1.0, 2.0])).unwrap();
    let won = EmittedEvent { name: "Won".into(), properties: r#"{"a":1}"#.into(), key: "key".into() };
    assert_eq!((answer.table, answer.events), (rows(&[1.0, 2.0]), vec![(1, won)]));
    let fault = model.answer(&[], rows(&[1.0])).unwrap_err();
    assert!(fault.to_string().contains("an event of row 1 was emitted, and there are 1"), "{fault}");
    let fault = fault_of(&emitter(&format!("{}{ECHO}", emit.replace("(i32.const 3)", "(i32.const 2)"))));
    assert!(fault.to_string().contains("the event `Wo` is not among those that `emits`"), "{fault}");
    let fault = fault_of(&emitter(&format!("(loop $on {emit} (br $on)) unreachable")));
    assert_eq!(fault, PluginFault::LimitExceeded { what: "events", limit: 4_096 });
}

#[test]
fn a_polite_failure_is_no_strike() {
    let body = r#"
        (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 1))
        (i32.store (i32.const 24) (i32.const 128)) (i32.store (i32.const 28) (i32.const 16)) (i32.const 16)"#;
    let fault = fault_of(&scorer(body));
    assert_eq!(fault, PluginFault::Transient("line\\n\\u{1b}[31mforged".into()));
    assert!(!fault.is_strike() && fault.may_retry());
}

fn request(complete: bool) -> SourceRequest {
    SourceRequest {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: Vec::new(),
        body: b"12345678".to_vec(),
        complete,
        resume: None,
        received_at: Timestamp(0),
        replayed: ReplayScope::No,
    }
}

/// A connector's account must add up.
#[test]
fn a_connector_cannot_swallow_input() {
    let host = host();
    let receive = |consumed: u64| {
        let body = format!("(i64.store (i32.const 1048) (i64.const {consumed})) (i32.const 1024)");
        host.load(&connector(&body)).unwrap().connector(binding()).unwrap()
    };
    assert!(receive(8).receive(&request(true)).is_ok());
    assert!(receive(3).receive(&request(false)).is_ok());
    assert!(receive(3).receive(&request(true)).is_err());
    assert!(receive(9).receive(&request(false)).is_err());
}

fn posting(url: &str, host_name: &str, grants: &[&str], signed: bool, limits: Limits) -> Arc<dyn Connector> {
    let host = host_with(None, limits);
    let grants = Grants {
        http: grants.iter().map(|host| (*host).to_owned()).collect(),
        secrets: [("signing".to_owned(), vec![host_name.to_owned()])].into(),
        ..Grants::default()
    };
    let secrets = [("signing".to_owned(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".into())].into();
    host.load(&poster(url, signed)).unwrap().connector(Binding { grants, secrets, ..binding() }).unwrap()
}

/// What a guest that posts was answered, or the fault of its call; its refusal as a permanent one.
fn answered(plugin: &Arc<dyn Connector>) -> Result<Vec<u8>, PluginFault> {
    let nothing = SourceRequest { body: Vec::new(), ..request(true) };
    match plugin.receive(&nothing) {
        Ok(received) => Ok(received.resume.unwrap_or_default()),
        Err(ReceiveError::Refused(refusal)) => Err(PluginFault::Permanent(refusal.message)),
        Err(ReceiveError::Fault(fault)) => Err(fault),
    }
}

/// Answers one connection with `answer` and gives back what it was sent.
fn server(answer: &'static [u8]) -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = runtime().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"hello") {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                read => received.extend_from_slice(&piece[..read]),
            }
        }
        stream.write_all(answer).await.unwrap();
        received
    });
    (port, task)
}

#[test]
fn a_granted_request_is_sent_and_signed() {
    let (port, task) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
    let place = format!("127.0.0.1:{port}");
    let plugin = posting(&format!("http://{place}/in?a=1"), &place, &[&place], true, Limits::default());
    assert_eq!(answered(&plugin).unwrap(), b"fine");
    let sent = String::from_utf8(runtime().block_on(task).unwrap()).unwrap();
    assert!(sent.starts_with("POST /in?a=1 HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains(&format!("host: {place}\r\n")), "{sent}");
    assert!(sent.contains("webhook-id: msg_1\r\n"), "{sent}");
    assert!(sent.contains(&format!("webhook-timestamp: {}\r\n", NOW.0 / 1000)), "{sent}");
    // HMAC-SHA256 of `msg_1.1767225600.hello`, computed with another implementation.
    assert!(sent.contains("webhook-signature: v1,12ZgCwbmTCSLz7/J8lx6dLy6oMii15TKEuQkUQspL4Q=\r\n"), "{sent}");
    assert!(!sent.contains("whsec_"), "{sent}");
}

/// What is not granted, and what is granted but not public.
#[test]
fn requests_that_may_not_leave_are_denied() {
    for (url, grants) in [
        ("https://example.com/", &[][..]),
        ("https://example.com/", &["example.org"]),
        ("http://127.0.0.1:9/", &["127.0.0.1"]),
        ("https://127.0.0.1/", &["127.0.0.1"]),
        ("https://localhost/", &["localhost"]),
        ("https://169.254.169.254/latest", &["169.254.169.254"]),
        ("http://169.254.169.254:80/latest", &["169.254.169.254:80"]),
        ("http://10.0.0.1:8080/", &["10.0.0.1:8080"]),
        ("http://[::ffff:10.0.0.1]:80/", &["[::ffff:10.0.0.1]:80"]),
        ("http://[64:ff9b::a00:1]:80/", &["[64:ff9b::a00:1]:80"]),
        ("http://0.0.0.0:80/", &["0.0.0.0:80"]),
        ("http://user@localhost:80/", &["localhost:80"]),
        ("ftp://localhost:80/", &["localhost:80"]),
    ] {
        let error = answered(&posting(url, "example.com", grants, false, Limits::default())).unwrap_err();
        let PluginFault::Permanent(text) = &error else { panic!("{url}: {error:?}") };
        assert!(!text.is_empty() && !text.contains("refused"), "{url}: {text}");
    }
}

#[test]
fn a_secret_stays_where_it_is_granted() {
    let place = "127.0.0.1:9";
    let plugin = posting(&format!("http://{place}/"), "example.com", &[place], true, Limits::default());
    let error = answered(&plugin).unwrap_err().to_string();
    assert!(error.contains("the secret `signing` may not be sent to `127.0.0.1`"), "{error}");
}

/// The call's time includes the time in the host.
#[test]
fn a_peer_that_never_answers_ends_the_call() {
    let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let place = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let limits = Limits { wall_ms: 150, ..Limits::default() };
    let plugin = posting(&format!("http://{place}/"), &place, &[&place], false, limits);
    let late = PluginFault::DeadlineExceeded { limit_ms: 150, spent: TimeSpent::WaitingForPeers };
    assert_eq!(answered(&plugin), Err(late));
}

/// Redirects are answers, and answers have limits.
#[test]
fn answers_are_bounded_and_not_followed() {
    let post = |answer: &'static [u8]| {
        let (port, task) = server(answer);
        let place = format!("127.0.0.1:{port}");
        let answer = answered(&posting(&format!("http://{place}/"), &place, &[&place], false, Limits::default()));
        runtime().block_on(task).unwrap();
        answer
    };
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 5\r\n\r\nmoved";
    assert_eq!(post(redirect).unwrap(), b"moved");
    let mut headers = String::from("HTTP/1.1 200 OK\r\n");
    (0..200).for_each(|index| headers.push_str(&format!("x-{index}: 1\r\n")));
    headers.push_str("\r\n");
    let fault = post(headers.leak().as_bytes()).unwrap_err();
    assert!(fault.to_string().contains("headers"), "{fault}");
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(100_000));
    let fault = post(long.leak().as_bytes()).unwrap_err();
    assert!(fault.to_string().contains("65536"), "{fault}");
    let mut large = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    large.resize(4_000_000, b'x');
    assert!(post(large.leak()).is_ok());
}

#[test]
fn a_model_is_no_connector() {
    let plugin = host().load(&scorer(ECHO)).unwrap();
    assert!(matches!(plugin.connector(binding()).err().unwrap(), BindError::WrongKind { .. }));
}

/// One byte of the compiled code altered on disk.
#[test]
fn a_poisoned_cache_is_compiled_anew() {
    let directory = tempfile::tempdir().unwrap();
    let component = scorer(ECHO);
    let cached = directory.path().join("code");
    let start = || host_with(Some(cached.clone()), Limits::default());
    start().load(&component).unwrap();
    let file = std::fs::read_dir(&cached).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    for at in [0, 31, 32, good.len() / 2, good.len() - 1] {
        let mut poisoned = good.clone();
        poisoned[at] ^= 1;
        std::fs::write(&file, &poisoned).unwrap();
        let model = start().load(&component).unwrap().compute(binding()).unwrap();
        assert!(model.compute(&[], rows(&[1.0])).is_ok());
        assert_eq!(std::fs::read(&file).unwrap(), good, "byte {at}");
    }
    std::fs::write(&file, &good[..10]).unwrap();
    assert!(start().load(&component).is_ok());
}

#[test]
fn a_kernel_that_is_too_old_says_so() {
    let manifest = crate::guests::SCORER.replace("\">=0.1\"", "\">=7\"");
    let core = crate::guests::core(
        kith_model::plugin::PluginKind::Scorer,
        r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/scoring@0.2.0#score") (param i32 i32 i32 i32 i32) (result i32) unreachable)
        (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) unreachable))"#,
    );
    let refused = host().load(&crate::assemble(&core, &manifest).unwrap()).err().unwrap();
    assert!(matches!(refused, LoadError::Kernel { .. }) && refused.to_string().contains(">=7"), "{refused}");
}
