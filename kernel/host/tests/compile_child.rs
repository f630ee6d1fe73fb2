//! Compiling in a child process, with this very program as the child: it has no test harness, so that its standard output
//! is the machine code and nothing else.

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_host::{
    CONFINES, ChildPriority, CompileError, CompileMode, Host, HostConfig, Limits, LoadError, MemoryKeyValue, assemble,
    compile_child_main, confine,
};
use kith_model::plugin::{Grants, PluginFault};
use kith_model::table::Table;
use kith_model::time::SystemClock;

const MANIFEST: &str = r#"
[plugin]
id = "test/scorer"
version = "1.0.0"
kind = "scorer"
abi = "0.2"
kernel = ">=0.1"
title = "Scorer"
description = "Traps."
license = "Apache-2.0"
[inputs.x]
expression = "traits.x"
type = "float64"
reason = "to test"
[outputs.x]
type = "float64"
description = "nothing"
"#;

const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 64)
    (func $falls (export "kith:plugin/scoring@0.2.0#score") (param i32 i32 i32 i32 i32) (result i32) unreachable)
    (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) unreachable)
    (func (export "kith:plugin/scorer-checking@0.2.0#validate") (param i32 i32) (result i32) unreachable)
    (func (export "kith:plugin/scorer-checking@0.2.0#migrate") (param i32 i32 i32 i32) (result i32) unreachable))"#;

fn component() -> Vec<u8> {
    let mut module = wat::parse_str(MODULE).expect("the module is well formed");
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.2.0");
    let (package, _) = resolve.push_path(wit).expect("the contract parses");
    let world = resolve.packages[package].worlds["scorer"];
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the type can be embedded");
    assemble(&module, MANIFEST).expect("the module makes a component")
}

fn host(command: PathBuf, args: &[&str], cache_directory: Option<PathBuf>) -> Host {
    let config = HostConfig {
        cache_directory,
        mac_key: [7; 32].into(),
        ceiling: Limits::default(),
        allow_loopback: false,
        allow_plain_http: false,
        clock: Arc::new(SystemClock),
        compile: CompileMode::Child { command, args: args.iter().map(OsString::from).collect() },
    };
    Host::new(config).expect("the host starts")
}

fn binding(fuel: Option<u64>) -> kith_host::Binding {
    kith_host::Binding {
        installation: "test".into(),
        config: serde_json::Value::Null,
        unshown: Default::default(),
        grants: Grants::default(),
        secrets: Default::default(),
        state: Arc::new(MemoryKeyValue::default()),
        observed: Arc::default(),
        fuel,
    }
}

/// What the child of [`a_child_can_reach_nothing_but_its_pipes`] does: try what a component that took the compiler over would.
fn rights() -> ExitCode {
    let (key, port) = (std::env::args().nth(2).expect("a key"), std::env::args().nth(3).expect("a port"));
    let before = std::fs::read(&key).is_ok() && TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
    confine().expect("it can be confined");
    let tried = [
        ("read the key", std::fs::read(&key).is_ok()),
        ("write beside it", std::fs::write(format!("{key}.new"), "x").is_ok()),
        ("remove it", std::fs::remove_file(&key).is_ok()),
        ("connect", TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()),
        ("listen", std::net::TcpListener::bind("127.0.0.1:0").is_ok()),
        ("run a program", Command::new("/bin/true").status().is_ok()),
        ("start a thread", std::thread::Builder::new().spawn(|| ()).is_ok()),
        ("see itself", std::fs::read("/proc/self/status").is_ok()),
    ];
    let could: Vec<_> = tried.iter().filter(|(_, could)| *could).map(|(what, _)| *what).collect();
    if before && could.is_empty() {
        return ExitCode::SUCCESS;
    }
    // The one way left to say it.
    eprintln!("before: {before}; after: {could:?}");
    ExitCode::FAILURE
}

fn a_child_can_reach_nothing_but_its_pipes() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let key = directory.path().join("host.key");
    std::fs::write(&key, "secret").expect("it can be written");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it has an address").port().to_string();
    let this = std::env::current_exe().expect("the program has a path");
    let child = Command::new(this).arg("rights").arg(&key).arg(port).output().expect("it runs");
    assert!(child.status.success(), "{} {}", child.status, String::from_utf8_lossy(&child.stderr));
    assert!(key.exists());
}

/// The child waits for its component, and is confined already.
fn a_child_that_compiles_has_given_up_its_rights() {
    let this = std::env::current_exe().expect("the program has a path");
    let mut child =
        Command::new(this).arg("compile").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let status = format!("/proc/{}/status", child.id());
    let began = Instant::now();
    let has = |line: &str| std::fs::read_to_string(&status).is_ok_and(|text| text.lines().any(|found| found == line));
    while !(has("Seccomp:\t2") && has("NoNewPrivs:\t1")) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", std::fs::read_to_string(&status));
        std::thread::yield_now();
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("the system tells");
    for (limit, [soft, hard]) in [
        ("Max cpu time", ["20", "21"]),
        ("Max address space", ["1610612736"; 2]),
        ("Max file size", ["0"; 2]),
        ("Max open files", ["0"; 2]),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).expect(limit);
        let found: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
        assert_eq!(found, [soft, hard], "{limit}");
    }
    child.kill().expect("it runs still");
    child.wait().expect("it was started here");
}

/// The niceness of a process, where the system tells.
fn niceness(process: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    status.rsplit_once(')')?.1.split_ascii_whitespace().nth(16)?.parse().ok()
}

/// A developer waited minutes on a busy machine for a child that was the last of all.
fn a_child_yields_where_it_is_told_to_alone() {
    let this = std::env::current_exe().expect("the program has a path");
    let of_child = |how: &str| {
        let mut child =
            Command::new(&this).arg(how).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let status = format!("/proc/{}/status", child.id());
        let began = Instant::now();
        // It has its priority before it gives up its rights.
        while !std::fs::read_to_string(&status).is_ok_and(|text| text.lines().any(|line| line == "Seccomp:\t2")) {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", std::fs::read_to_string(&status));
            std::thread::yield_now();
        }
        let niceness = niceness(&child.id().to_string());
        child.kill().expect("it runs still");
        child.wait().expect("it was started here");
        niceness
    };
    let own = niceness("self");
    assert_eq!(of_child("compile"), own);
    assert!(own >= Some(5) || of_child("compile-yielding") == Some(5));
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("compile") => return compile_child_main(ChildPriority::Usual),
        Some("compile-yielding") => return compile_child_main(ChildPriority::Yielding),
        Some("rights") => return rights(),
        _ => {}
    }
    if CONFINES {
        a_child_that_compiles_has_given_up_its_rights();
        a_child_yields_where_it_is_told_to_alone();
        a_child_can_reach_nothing_but_its_pipes();
    }
    let this = std::env::current_exe().expect("the program has a path");
    let component = component();

    let directory = tempfile::tempdir().expect("there is room for a directory");
    let cache = Some(directory.path().join("code"));
    let plugin = host(this.clone(), &["compile"], cache.clone()).load(&component).expect("it compiles");
    for fuel in [None, Some(1_000_000)] {
        let scorer = plugin.compute(binding(fuel)).expect("it binds");
        let fault = scorer.compute(&[], Table::default()).expect_err("the guest traps");
        assert!(
            matches!(&fault, PluginFault::Trapped { backtrace, .. } if backtrace[0].contains("falls")),
            "{fault:?}"
        );
    }

    // What the child made is taken from the cache: a command that does not exist is not missed.
    host("/nonexistent".into(), &[], cache).load(&component).expect("it is in the cache");
    let missing = host("/nonexistent".into(), &[], None).load(&component).err();
    assert!(matches!(missing, Some(LoadError::Compile(CompileError::Child { .. }))), "{missing:?}");
    let died = host("/bin/false".into(), &[], None).load(&component).err();
    assert!(matches!(died, Some(LoadError::Compile(CompileError::Died(_)))), "{died:?}");
    ExitCode::SUCCESS
}
