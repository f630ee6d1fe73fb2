//! The memory of files against a map, with parts so small that every step is taken often, and a death after each commit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_model::id::Position;
use kith_model::time::Timestamp;
use kith_store::{ChangeLimits, Changes, Committed, Fence, Job, Page, QueueId, Value, memory};
use proptest::prelude::*;

use super::*;
use crate::accept::imports::{ImportRow, PieceRow};

const WORKSPACE: WorkspaceId = WorkspaceId(3);

const SMALL: Sizes = Sizes { fresh_rows: 300, fresh_blocks: 12, fanout: 3, segment_rows: 200, step_bytes: 6_000 };

/// A store that takes so many commits and no more.
struct Mortal {
    store: kith_store::Embedded,
    left: AtomicU64,
}

impl Store for Mortal {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        self.store.get(keys)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.store.scan(range, limit)
    }

    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        let take = |unit| {
            let has_left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if has_left.is_ok() { self.store.commit(unit) } else { Err(CommitError::Closed) }
        };
        units.into_iter().map(take).collect()
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        self.store.changes(workspace, after, limits)
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.store.head_of(workspace)
    }

    fn head(&self) -> Position {
        self.store.head()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        self.store.wait_for_change(after, timeout)
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        self.store.claim(queue, now, limit, lease_ms)
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        self.store.claimed(queue, limit)
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        self.store.next_due(queue)
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        self.store.lease(name, owner, now, ttl_ms)
    }
}

fn open(store: &Arc<Mortal>) -> FileRows {
    let mut rows = FileRows::open(Arc::clone(store) as Arc<dyn Store>, WORKSPACE).unwrap();
    rows.sizes = SMALL;
    rows
}

fn mortal(commits: u64) -> Arc<Mortal> {
    Arc::new(Mortal { store: memory(), left: AtomicU64::new(commits) })
}

/// Rows with and without an identity, so that blocks are of both kinds.
fn held(number: u64, digest: u64) -> RememberedRow {
    RememberedRow {
        digest,
        of: (!number.is_multiple_of(3)).then(|| SourceIdentityId(u128::from(number).to_be_bytes())),
    }
}

fn id(number: u64) -> RowHash {
    hash("shop", &format!("row {number}"))
}

/// Take a group of rows as one unit; whether it is durable.
fn take(store: &Arc<Mortal>, rows: &mut FileRows, group: &[(u64, u64)]) -> bool {
    for (number, digest) in group {
        rows.remember(id(*number), held(*number, *digest));
    }
    let mut operations = Vec::new();
    rows.write(&mut operations);
    rows.keep_unit();
    let is_durable = store.commit(Unit { operations, ..Unit::default() }).is_ok();
    if is_durable {
        rows.committed()
    } else {
        rows.committed_in_part().unwrap()
    }
    is_durable
}

fn check(rows: &FileRows, model: &BTreeMap<u64, u64>, strangers: std::ops::Range<u64>) {
    for (number, digest) in model {
        assert_eq!(rows.look(id(*number)).unwrap(), Some(held(*number, *digest)), "row {number}");
    }
    for number in strangers {
        assert_eq!(rows.look(id(number)).unwrap(), None, "row {number} never came");
    }
}

/// Whatever rows come, in whatever groups, and whenever the process dies: what was durable is known as it came last, and
/// nothing else is.
fn live(groups: &[Vec<(u64, u64)>], commits: &[u64]) {
    let store = mortal(u64::MAX);
    let mut rows = open(&store);
    let mut model = BTreeMap::new();
    let mut deaths = commits.iter();
    let mut next_death = || store.left.store(deaths.next().copied().unwrap_or(u64::MAX), Ordering::SeqCst);
    next_death();
    for group in groups {
        while !take(&store, &mut rows, group) {
            next_death();
            rows = open(&store);
            check(&rows, &model, 1_000_000..1_000_050);
        }
        model.extend(group.iter().copied());
        if rows.step().is_err() {
            check(&rows, &model, 0..0);
            next_death();
            rows = open(&store);
            check(&rows, &model, 1_000_000..1_000_050);
        }
    }
    check(&rows, &model, 1_000_000..1_001_000);
    store.left.store(u64::MAX, Ordering::SeqCst);
    // Nothing that a death left behind stays.
    let mut rows = open(&store);
    for _ in 0..300 {
        rows.step().unwrap();
    }
    check(&rows, &model, 0..0);
    let mut range = Key::all_file_runs(WORKSPACE).range();
    while let Some((key, _)) = store.scan(&range, 1).unwrap().rows.first() {
        let run = key.as_file_run(WORKSPACE).unwrap();
        assert!(rows.runs.iter().any(|listed| listed.row.number == run), "run {run} counts for nothing");
        range.from = Key::file_run(WORKSPACE, run).range().to;
    }
}

proptest! {
    #![proptest_config(crate::tests::laws(24))]

    #[test]
    fn what_was_durable_is_known_for_ever_whenever_the_process_dies(
        groups in proptest::collection::vec(proptest::collection::vec((0_u64..3_000, 0_u64..4), 1..120), 1..60),
        commits in proptest::collection::vec(0_u64..40, 0..12),
    ) {
        live(&groups, &commits);
    }
}

#[test]
fn a_death_at_every_single_commit_loses_nothing() {
    let groups: Vec<Vec<(u64, u64)>> =
        (0..40).map(|group| (0..60).map(|row| ((group * 37 + row * 7) % 1_500, group % 3)).collect()).collect();
    for commit in 0..110 {
        live(&groups, &[commit]);
    }
}

#[test]
fn runs_are_merged_into_few_and_their_rows_lie_in_blocks_that_an_engine_keeps_whole() {
    let store = mortal(u64::MAX);
    let mut rows = open(&store);
    for group in 0..200_u64 {
        assert!(take(&store, &mut rows, &(0..50).map(|row| (group * 50 + row, 1)).collect::<Vec<_>>()));
        rows.step().unwrap();
    }
    assert!(rows.runs.len() <= 9, "{} runs", rows.runs.len());
    assert!(rows.runs.iter().any(|run| run.row.level >= 3), "levels are merged into the next");
    let page = store.scan(&Key::all_file_runs(WORKSPACE).range(), 100_000).unwrap();
    assert!(page.rows.iter().all(|(_, value)| value.len() < 4_096));
}

#[test]
fn a_damaged_block_is_found_by_its_checksum_and_no_other_row_is_lost() {
    let store = mortal(u64::MAX);
    let mut rows = open(&store);
    let group: Vec<(u64, u64)> = (0..400).map(|number| (number, 1)).collect();
    assert!(take(&store, &mut rows, &group));
    rows.step().unwrap();
    let run = rows.runs[0].row.number;
    let (key, value) = store.scan(&Key::file_blocks(WORKSPACE, run).range(), 1).unwrap().rows[0].clone();
    let mut damaged = value.to_vec();
    damaged[100] ^= 1;
    store.commit(Unit { operations: vec![Operation::Put(key, damaged)], ..Unit::default() }).unwrap();
    let looked: Vec<_> = (0..400).map(|number| rows.look(id(number))).collect();
    let refused = looked.iter().filter(|looked| matches!(looked, Err(ReadError::Corrupt { .. }))).count();
    assert!((90..=160).contains(&refused), "{refused} rows are in the block");
    assert!(looked.iter().all(|looked| looked.is_err() || matches!(looked, Ok(Some(_)))));
}

#[test]
fn a_filter_has_the_bits_that_the_format_names_and_few_false_alarms() {
    let mut filter = FilterRow::for_rows(10_000);
    (0..10_000).for_each(|number| filter.insert(id(number)));
    assert!((0..10_000).all(|number| filter.may_hold(id(number))));
    let false_alarms = (10_000..110_000).filter(|number| filter.may_hold(id(*number))).count();
    assert!(false_alarms < 1_500, "{false_alarms} of 100,000");
    // What is stored must mean the same in every release.
    let mut one = FilterRow::for_rows(12);
    one.insert(5 | (9 << 64));
    let bytes = row::encode(&one);
    let bits: Vec<u64> = bytes[1..17].chunks(8).map(|word| u64::from_be_bytes(word.try_into().unwrap())).collect();
    let expected = (0..7_u64).map(|probe| 5 + probe * 9).fold([0_u64; 2], |mut bits, bit| {
        bits[usize::try_from(bit / 64).unwrap()] |= 1 << (bit % 64);
        bits
    });
    assert_eq!(bits, expected);
    assert_eq!(hash("shop", "1"), 253_911_034_454_220_869_124_109_813_704_529_614_872);
}

#[test]
fn the_format_describes_the_rows() {
    use kith_store::row::Row;
    fn line<R: Row>(body: &str) -> String {
        format!("| {} | {} | {} | {body} |", R::WHAT, R::OWNER.name(), R::VERSION)
    }
    let format = include_str!("../../../../store/FORMAT.md");
    let rows = [line::<Block>("see below"), line::<FilterRow>("see below"), line::<RunsRow>("postcard")];
    let imports = [line::<ImportRow>("postcard"), line::<PieceRow>("postcard")];
    rows.iter().chain(&imports).for_each(|line| assert!(format.contains(line), "FORMAT.md lacks {line}"));
}
