//! What a call of a tag model costs with 0 to 10,000 rows of 8 columns: in the sandbox, natively, and in Extism with JSON.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use guest_columns::Columns;
use kith_host::Host;
use kith_plugin_sdk::TagModel as _;
use kith_tests::{Random, build, build_module, root};
use serde_json::{Value, json};

use crate::columns::{NUMBERS, TEXTS, batch, binding, config};
use crate::figures::median;

/// Rows of a call, and how many calls are timed.
const SIZES: [(usize, usize); 5] = [(0, 2_000), (1, 2_000), (100, 1_000), (1_000, 500), (10_000, 101)];
/// Starts of a host with an empty and with a filled cache.
const STARTS: usize = 5;

/// The median time of calls, in microseconds; what `prepare` gives is made outside of the measurement.
fn timed<T>(calls: usize, mut prepare: impl FnMut() -> T, mut call: impl FnMut(T)) -> f64 {
    median((0..calls).map(|_| {
        let prepared = prepare();
        let begun = Instant::now();
        call(prepared);
        begun.elapsed().as_secs_f64() * 1e6
    }))
}

/// The rows as a sender of JSON writes them.
fn rows_as_json(rows: &kith_plugin_sdk::Table) -> Vec<u8> {
    let numbers = NUMBERS.map(|name| (name, rows.float64(name).unwrap()));
    let texts = TEXTS.map(|name| (name, rows.text(name).unwrap()));
    let row = |at: usize| {
        let numbers = numbers.iter().map(|(name, column)| ((*name).to_owned(), json!(column.get(at))));
        let texts = texts.iter().map(|(name, column)| ((*name).to_owned(), json!(column.get(at))));
        Value::Object(numbers.chain(texts).collect())
    };
    serde_json::to_vec(&(0..rows.len()).map(row).collect::<Vec<_>>()).unwrap()
}

/// Microseconds of a call of Extism, of one instance and of an instance each; `None` where it is not installed.
fn extism(module: &Path, rows: &[u8], calls: usize) -> Option<(f64, f64)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rows).unwrap();
    let mut command = Command::new("python3");
    command.arg(root().join("tests/benches/calls_extism.py")).arg(module).arg(file.path()).arg(calls.to_string());
    let output = command.output().ok()?;
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut figures = printed.split_whitespace().map(|figure| figure.parse().unwrap());
    Some((figures.next()?, figures.next()?))
}

/// How long a host takes until a component can be called: compiled, and read from its cache.
fn starts(component: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let load = |place: &Path| {
        let begun = Instant::now();
        Host::new(config(Some(place.to_owned()))).unwrap().load(component).unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    };
    let cold = median((0..STARTS).map(|number| load(&folder.path().join(number.to_string()))));
    let warm = median((0..STARTS).map(|number| load(&folder.path().join(number.to_string()))));
    println!(
        "\na host that loads one component: {cold:.1} ms with an empty cache, {warm:.1} ms with its code in the cache"
    );
}

pub(crate) fn run() {
    let built = build("tests/guests/columns");
    let module = build_module("guest-columns-json");
    let plugin = Host::new(config(None)).unwrap().load(&built.component).unwrap();
    let model = plugin.compute(binding()).unwrap();
    println!(
        "\na call of a tag model, rows of 8 columns, medians in microseconds; an instance for each call but where told"
    );
    println!(
        "{:>7} {:>10} {:>10} {:>8} {:>13} {:>13} {:>14}",
        "rows", "sandboxed", "native", "ratio", "Extism, one", "Extism, each", "Extism/ours"
    );
    for (rows, calls) in SIZES {
        let (table, native_rows) = batch(&mut Random::new(7), rows);
        let ours = timed(calls, || table.clone(), |table| assert_eq!(model.compute(&[], table).unwrap().rows, rows));
        let native = timed(
            calls,
            || native_rows.clone(),
            |table| assert_eq!(Columns::evaluate(&[], &table).unwrap().len(), rows),
        );
        print!("{rows:>7} {ours:>10.1} {native:>10.1} {:>8.2}", ours / native);
        match extism(&module, &rows_as_json(&native_rows), calls) {
            Some((one, each)) => println!(" {one:>13.1} {each:>13.1} {:>14.1}", one / ours),
            None => println!(" {:>13} {:>13} {:>14}", "not here", "not here", "-"),
        }
    }
    println!("Extism is called through its Python host (`pip install extism`); its answers are not parsed");
    starts(&built.component);
}
