//! A process that commits is killed at random moments. Whatever it had answered is there afterwards, once; whatever it had not
//! is there whole or not at all. This does not lose unsynced pages: the system survives, only the process does not.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{WORKSPACE, append, at_most, key, put, unit};
use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{EngineKind, Operation, Precondition, QueueId, Store, Unit};

const DIRECTORY: &str = "KITH_STORE_KILL_DIRECTORY";
const ENGINE: &str = "KITH_STORE_KILL_ENGINE";
const FIRST: &str = "KITH_STORE_KILL_FIRST";

const ROUNDS: u64 = 10;
const THREADS: u64 = 4;
const QUEUE: QueueId = QueueId { workspace: WorkspaceId(1), queue: 3 };

/// The rows that unit `number` puts; some are in parts in sled.
fn rows(number: u64) -> Vec<(kith_store::Key, Vec<u8>)> {
    let first = u32::try_from(number * 3).unwrap();
    let large = if number.is_multiple_of(7) { 9_000 } else { 50 };
    vec![
        (key(first), number.to_be_bytes().to_vec()),
        (key(first + 1), vec![number as u8; large]),
        (key(first + 2), vec![]),
    ]
}

fn job(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn unit_of(number: u64) -> Unit {
    let puts = rows(number).into_iter().map(|(key, bytes)| put(key, &bytes));
    let appends = [append(&number.to_be_bytes()), append(&(!number).to_be_bytes())];
    let enqueue = Operation::Enqueue { queue: QUEUE, id: job(number), due_at: Timestamp(0), body: vec![] };
    let preconditions = rows(number).into_iter().map(|(key, _)| Precondition::Absent(key)).collect();
    Unit { preconditions, ..unit(puts.chain(appends).chain([enqueue])) }
}

/// Not a test but the process that the test kills: it commits numbered units for ever and prints the answered ones.
#[test]
fn child_commits_until_it_is_killed() {
    let (Some(directory), Some(engine), Some(first)) =
        (std::env::var_os(DIRECTORY), std::env::var_os(ENGINE), std::env::var_os(FIRST))
    else {
        return;
    };
    let engine = if engine == "redb" { EngineKind::Redb } else { EngineKind::Sled };
    let next = AtomicU64::new(first.to_str().unwrap().parse().unwrap());
    let store = kith_store::open(crate::support::config(Path::new(&directory), engine)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    store.commit(unit_of(number)).unwrap();
                    // The parent may have killed us while others still print.
                    let _ = writeln!(std::io::stdout().lock(), "answered {number}");
                }
            });
        }
    });
}

fn start(directory: &Path, engine: EngineKind, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_commits_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ENGINE, engine.to_string())
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Start a child, kill it after it answered about `answers` units, and give back all numbers that it answered.
fn run_and_kill(directory: &Path, engine: EngineKind, first: u64, answers: u64) -> Vec<u64> {
    let mut child = start(directory, engine, first);
    let mut answered = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The harness prints a line of its own before the first; a line that the kill cut off has no end.
        if let Some((_, number)) = line.strip_suffix('\n').and_then(|line| line.split_once("answered ")) {
            answered.push(number.parse().unwrap());
        }
        line.clear();
        if answered.len() as u64 == answers {
            // SIGKILL. What is already in the pipe was answered, and is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(answered.len() as u64 >= answers, "the child stopped by itself");
    answered
}

/// Check that the store holds every answered unit and no unit in part; the least number that was never tried.
fn check(directory: &Path, engine: EngineKind, answered: &[u64], round: i64) -> u64 {
    let store = kith_store::open(crate::support::config(directory, engine)).unwrap();
    let mut present = Vec::new();
    loop {
        let after = Position(2 * present.len() as u64);
        let records = store.changes(WORKSPACE, after, at_most(2)).unwrap().records;
        let [first, second] = records.as_slice() else {
            assert!(records.is_empty(), "both records of a unit are there or none");
            break;
        };
        assert_eq!((first.position.0, second.position.0), (after.0 + 1, after.0 + 2));
        let number = u64::from_be_bytes(first.bytes[..].try_into().unwrap());
        assert_eq!(second.bytes[..], (!number).to_be_bytes());
        present.push(number);
    }
    let mut sorted = present.clone();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "no unit is there twice");
    for number in answered {
        assert!(sorted.binary_search(number).is_ok(), "unit {number} was answered and is lost");
    }
    let found = store.scan(&crate::support::keys(), usize::MAX).unwrap();
    let mut expected: Vec<_> = sorted.iter().flat_map(|number| rows(*number)).collect();
    expected.sort();
    assert_eq!(found.rows.len(), expected.len());
    let same =
        found.rows.iter().zip(&expected).all(|((key, value), (wanted, bytes))| key == wanted && value[..] == bytes[..]);
    assert!(same, "the rows are those of the present units");
    // Each round puts the jobs that it finds off until the next one.
    let mut jobs = Vec::new();
    loop {
        let claimed = store.claim(QUEUE, Timestamp(round), 700, 1).unwrap();
        if claimed.is_empty() {
            break;
        }
        jobs.extend(claimed.iter().map(|claimed| claimed.id));
    }
    jobs.sort_unstable();
    assert_eq!(jobs, sorted.iter().map(|number| job(*number)).collect::<Vec<_>>());
    sorted.last().copied().unwrap_or(0) + THREADS + 1
}

fn survive_kills(engine: EngineKind) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    let mut answered = Vec::new();
    let mut first = 1;
    for round in 0..ROUNDS {
        // Seeded, so that the rounds differ from each other and not from run to run.
        let answers = 1 + (round * 2_654_435_761) % 1_511;
        answered.extend(run_and_kill(&directory, engine, first, answers));
        first = check(&directory, engine, &answered, round.cast_signed());
    }
}

#[test]
fn sled_survives_kills() {
    survive_kills(EngineKind::Sled);
}

#[test]
fn redb_survives_kills() {
    survive_kills(EngineKind::Redb);
}
