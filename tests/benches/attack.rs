//! What a neighbour feels of each attack: requests of workspace B at a fixed rate, alone and while workspace A does one thing
//! after the other that no honest customer does. Quiet and attacked stretches alternate, so that each line has its own baseline
//! of the same minutes; the memory of the server stands beside it, and at the end what is left of it a minute later.
//!
//! `cargo bench --bench attack` prints a table; nothing here passes or fails. Names choose lines, `-- quick` takes one short
//! alternation of each. What is refused is the attacker's; of the neighbour's requests the table says how many were.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has to stop, and to say where")]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "attack/attacks.rs"]
mod attacks;
mod figures;
#[path = "attack/neighbour.rs"]
mod neighbour;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kith_tests::Process;

use crate::attacks::{ATTACKS, Attack, Stage};
use crate::figures::{Asked, median, percentile};
use crate::neighbour::{Neighbour, Stretch};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALTERNATIONS: usize = 5;
const STRETCH: Duration = Duration::from_secs(6);
/// Until what an attack left behind is done, so that the next quiet stretch is quiet.
const REST: Duration = Duration::from_secs(3);
/// After the last attack, until the memory is looked at.
const LATER: Duration = Duration::from_secs(60);

/// The largest that a server was seen to be, while `work` runs.
fn peak_bytes<T>(server: &Process, work: impl FnOnce() -> T) -> (T, u64) {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                peak.fetch_max(server.resident_bytes(), Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Ordering::SeqCst);
        result
    });
    (result, peak.into_inner())
}

/// One stretch of the neighbour's requests while the attack goes on.
fn attacked(neighbour: &Neighbour, stage: &Stage, attack: &Attack, length: Duration) -> Stretch {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let attacker = scope.spawn(|| (attack.run)(stage, &done));
        // What it costs to begin is the attack's, too.
        let stretch = neighbour.ask(length);
        done.store(true, Ordering::SeqCst);
        attacker.join().unwrap();
        stretch
    })
}

fn line(server: &Process, neighbour: &Neighbour, stage: &Stage, attack: &Attack, asked: &Asked) {
    let (alternations, length) = if asked.is_quick { (1, STRETCH / 3) } else { (ALTERNATIONS, STRETCH) };
    let (mut of_p50, mut of_p99, mut more_p99) = (Vec::new(), Vec::new(), Vec::new());
    let (mut quiet_p50, mut quiet_p99, mut p50s, mut p99s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut requests, mut refused) = (0, 0);
    let ((), peak) = peak_bytes(server, || {
        for _ in 0..alternations {
            let quiet = neighbour.ask(length);
            let beside = attacked(neighbour, stage, attack, length);
            let [alone50, alone99] = [0.5, 0.99].map(|share| percentile(&quiet.latencies, share));
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&beside.latencies, share));
            of_p50.push(p50 / alone50);
            of_p99.push(p99 / alone99);
            more_p99.push(p99 - alone99);
            quiet_p50.push(alone50);
            quiet_p99.push(alone99);
            p50s.push(p50);
            p99s.push(p99);
            requests += beside.latencies.len();
            refused += beside.refused;
            std::thread::park_timeout(REST);
        }
    });
    println!(
        "{:<28} {:>7.2} {:>8.2} {:>9.2} {:>9.2} {:>7.2} {:>7.2} {:>+8.1} {:>6}/{:<5} {:>6}",
        attack.name,
        median(quiet_p50),
        median(quiet_p99),
        median(p50s),
        median(p99s),
        median(of_p50),
        median(of_p99),
        median(more_p99),
        refused,
        requests,
        peak >> 20,
    );
}

fn main() {
    let Some(asked) = Asked::of("attack") else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Process::serve(folder.path(), &["--allow-loopback", "--allow-plain-http", "--log", "error"]);
    let neighbour = Neighbour::move_in(&server);
    let stage = Stage::set(&server);
    let empty = server.resident_bytes();
    stage.fill_caches();
    neighbour.ask(STRETCH);
    let before = server.resident_bytes();
    let (rate, empty, full) = (neighbour::RATE, empty >> 20, before >> 20);
    println!("a neighbour at {rate} requests/s; the server holds {empty} MiB when new, {full} MiB with full caches");
    println!("bounds: none of its requests refused, p50 <= 1.2 x, p99 <= 1.5 x or + 15 ms");
    println!(
        "{:<28} {:>7} {:>8} {:>9} {:>9} {:>7} {:>7} {:>8} {:>12} {:>6}",
        "", "alone50", "alone99", "beside50", "beside99", "x p50", "x p99", "+ ms p99", "refused", "MiB"
    );
    for attack in ATTACKS.iter().filter(|attack| asked.part(attack.name)) {
        line(&server, &neighbour, &stage, attack, &asked);
    }
    let begun = Instant::now();
    while begun.elapsed() < LATER {
        std::thread::park_timeout(LATER.saturating_sub(begun.elapsed()));
    }
    let after = server.resident_bytes();
    println!("a minute later the server holds {} MiB, {:+} MiB", after >> 20, (after as i64 - before as i64) >> 20);
}
