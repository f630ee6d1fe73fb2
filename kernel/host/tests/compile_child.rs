//! Compiling in a child process, with this very program as the child: it has no test harness, so that its standard output
//! is the machine code and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use kith_host::{
    CompileError, CompileMode, Host, HostConfig, Limits, LoadError, MemoryKeyValue, assemble, compile_child_main,
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
    (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) unreachable))"#;

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
        mac_key: [7; 32],
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
        grants: Grants::default(),
        secrets: Default::default(),
        state: Arc::new(MemoryKeyValue::default()),
        fuel,
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("compile") {
        return compile_child_main();
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
