//! One large file through `kith import`: rows a second until they are acknowledged and until all is computed, the disk and the
//! memory that it takes, the same file again, and one that is broken off in the middle by a kill of the server; beside the same
//! file into PostgreSQL by `COPY`, where one answers (`PGHOST` and its like name it), and into DuckDB, where `DUCKDB_PYTHON` names a
//! Python that has it.
//!
//! `cargo bench --bench import` takes a million rows; nothing here passes or fails. A number takes so many, `-- quick` a
//! twentieth.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has to stop, and to say where")]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod figures;

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kith_tests::{Process, component, kith, settle};
use serde_json::{Value, json};

use crate::figures::Asked;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 1_000_000;

/// Orders of some hundred thousand people, eight columns.
fn write_file(path: &Path, rows: usize) -> u64 {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(file, "order,customer,email,time,total,currency,city,channel").unwrap();
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    for row in 0..rows {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let person = (bits >> 33) % (rows as u64 / 5).max(1);
        let city = ["Oslo", "Rome", "Bern", "Lima", "Kyoto"][usize::try_from(person % 5).unwrap()];
        let (day, minute) = (1 + bits % 28, (bits >> 20) % 1440);
        let (hour, minute) = (minute / 60, minute % 60);
        writeln!(
            file,
            "o{row},c{person},c{person}@example.com,2026-03-{day:02}T{hour:02}:{minute:02}:00Z,{}.{:02},EUR,{city},web",
            bits % 900,
            (bits >> 8) % 100
        )
        .unwrap();
    }
    file.flush().unwrap();
    std::fs::metadata(path).unwrap().len()
}

fn install(server: &Process) {
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], component("kith/csv").component.clone()).is(201);
    let config = json!({
        "event": { "name": "Order Completed" }, "identifiers": { "user_id": "customer", "email": "email" },
        "message_id": "order", "time": { "column": "time" }, "traits": { "city": "city" },
        "properties": { "total": { "column": "total", "type": "number" }, "currency": "currency", "channel": "channel" },
    });
    let body = json!({ "plugin": "kith/csv", "name": "orders", "config": config });
    admin.post("/api/v1/installations", &body).is(201);
    let audience = json!({ "name": "buyers", "condition": "events('Order Completed').size() >= 3" });
    admin.post("/api/v1/audiences", &audience).is(201);
    settle(&admin);
}

fn command(server: &Process, file: &Path) -> Command {
    let mut command = Command::new(kith());
    command.args(["--url", server.url(), "--key", kith_tests::ADMIN_KEY, "--json", "import"]);
    command.arg(file).args(["--source", "orders"]);
    command
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => folder_bytes(&path),
            path => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn line(what: &str, rows: usize, acknowledged: Duration, computed: Duration, disk: u64, memory: u64) {
    let rate = |took: Duration| rows as f64 / took.as_secs_f64();
    println!(
        "{what:<28} {:>9.0} rows/s acknowledged {:>9.0} computed {:>8.1} MiB on disk {:>7.1} MiB resident",
        rate(acknowledged),
        rate(computed),
        mib(disk),
        mib(memory)
    );
}

/// Import the file whole and print a line; what the command answered.
fn measure(what: &str, server: &Process, data: &Path, file: &Path, rows: usize) -> Value {
    let begun = Instant::now();
    let output = command(server, file).output().unwrap();
    let acknowledged = begun.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    settle(&server.admin());
    line(what, rows, acknowledged, begun.elapsed(), folder_bytes(data), server.resident_bytes());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn main() {
    let Some(asked) = Asked::of("import") else { return };
    let rows = asked.numbers.first().copied().unwrap_or(if asked.is_quick { ROWS / 20 } else { ROWS });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    println!("{rows} rows, {:.1} MiB", mib(write_file(&file, rows)));

    let data = folder.path().join("whole");
    let server = Process::serve(&data, &[]);
    install(&server);
    let first = measure("first", &server, &data, &file, rows);
    assert_eq!(first["accepted"], rows);
    let again = measure("the same again", &server, &data, &file, rows);
    assert_eq!(again["duplicate"], rows);
    server.terminate();
    let begun = Instant::now();
    let server = Process::serve(&data, &[]);
    let third = measure("after a start, again", &server, &data, &file, rows);
    assert_eq!(third["duplicate"], rows);
    println!("{:<28} {:>9.2} s with the import", "the start", begun.elapsed().as_secs_f64());
    server.terminate();

    let data = folder.path().join("killed");
    let server = Process::serve(&data, &[]);
    install(&server);
    let begun = Instant::now();
    let mut client = command(&server, &file).stdout(std::process::Stdio::null()).spawn().unwrap();
    while server.admin().get("/api/v1/workspace").is(200)["totals"]["events"].as_u64().unwrap() < rows as u64 / 2 {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    server.kill();
    client.wait().unwrap();
    let broken_off = begun.elapsed();
    let server = Process::serve(&data, &[]);
    let rest = measure("killed, gone on with", &server, &data, &file, rows / 2);
    println!("{:<28} {:>9.2} s before the kill; went on at {}", "", broken_off.as_secs_f64(), rest["went_on"]);
    let taken = rest["accepted"].as_u64().unwrap() + rest["duplicate"].as_u64().unwrap();
    assert_eq!(taken, rows as u64);
    let events = server.admin().get("/api/v1/workspace").is(200)["totals"]["events"].clone();
    assert_eq!(events, rows, "nothing is lost or doubled");
    server.terminate();
    postgres(&file, rows);
    duckdb(&folder.path().join("orders.duckdb"), &file, rows);
}

/// The same into DuckDB, in a file on the same disk.
fn duckdb(database: &Path, file: &Path, rows: usize) {
    const LOAD: &str = "import duckdb, sys, time\n\
        base = duckdb.connect(sys.argv[1])\n\
        base.execute('CREATE TABLE orders (\"order\" TEXT PRIMARY KEY, customer TEXT, email TEXT, time TIMESTAMPTZ, \
        total DOUBLE, currency TEXT, city TEXT, channel TEXT)')\n\
        begun = time.monotonic()\n\
        base.execute(f\"COPY orders FROM '{sys.argv[2]}' (HEADER)\")\n\
        base.execute('CHECKPOINT')\n\
        print(time.monotonic() - begun)";
    #[allow(clippy::disallowed_methods, reason = "a switch of the measurement, not of the product")]
    let Ok(python) = std::env::var("DUCKDB_PYTHON") else {
        println!("no DuckDB; DUCKDB_PYTHON names a Python that has it");
        return;
    };
    let output = Command::new(python).args(["-c", LOAD]).args([database, file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let took = Duration::from_secs_f64(String::from_utf8_lossy(&output.stdout).trim().parse().unwrap());
    line("DuckDB, COPY", rows, took, took, std::fs::metadata(database).unwrap().len(), 0);
}

/// The same file by `COPY` into a table with a key.
fn postgres(file: &Path, rows: usize) {
    let psql = |sql: &str| {
        let output = Command::new("psql").args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    let table = "CREATE TABLE kith_orders (\"order\" text PRIMARY KEY, customer text, email text, time timestamptz, \
                 total float8, currency text, city text, channel text)";
    if psql("DROP TABLE IF EXISTS kith_orders").is_none() || psql(table).is_none() {
        println!("no PostgreSQL answers; PGHOST, PGUSER and PGDATABASE name one");
        return;
    }
    let begun = Instant::now();
    psql(&format!("\\copy kith_orders FROM '{}' CSV HEADER", file.display())).unwrap();
    let took = begun.elapsed();
    let size = psql("SELECT pg_total_relation_size('kith_orders')").unwrap();
    let size = String::from_utf8_lossy(&size).trim().parse().unwrap_or(0);
    line("PostgreSQL, COPY", rows, took, took, size, 0);
    psql("DROP TABLE kith_orders");
}
