//! Messages seen before: per source and message id, recorded in the same commit as the message's effect. What a sender told as
//! it happened is known for seven days, what a file told for ever (see [`super::files`]).
//!
//! The rows of the seven days lie by the day of receipt. A clock that was ahead once leaves rows of a day that is still to come, so a look-up asks
//! every stored day from the window's first to the newest there is, and a day goes when enough newer ones are stored, never
//! because a clock says that it is old: one jump of the clock forgets nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use kith_model::event::{Event, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::time::{DAY_MS, Timestamp};
use kith_store::{CommitError, Key, KeyRange, Operation, ReadError, Store};
use xxhash_rust::xxh3::xxh3_128;

use super::files::{self, FileRows, RememberedRow};
use super::never_seen::{FilterPart, NeverSeen};

/// What the ids begin with that are made of a row's content and of how many equal ones came before it in its file.
pub(crate) const MADE_ID: &str = "kith-row-";

/// From whom a message comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageOrigin<'s> {
    pub source: InstallationId,
    /// The source's name: what files told is remembered under it.
    pub name: &'s str,
    pub origin: EventOrigin,
    pub received_at: Timestamp,
}

/// For how long a repeat of what was told as it happened is recognised.
pub(crate) const WINDOW_DAYS: u32 = 7;

/// The stored days that are kept: those of the window, the newest, and one that may be of a wrong clock.
const KEPT_DAYS: usize = WINDOW_DAYS as usize + 2;

/// Messages that one filter holds before the next is begun: 0.3 MB at one false alarm in a hundred, and each day has one.
const FILTER_ITEMS: usize = 1 << 18;

/// Rows out of the window that one group deletes beside its own.
const MAX_EXPIRED_ROWS: usize = 4096;

/// Whether a message came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recognition {
    /// It did not; this is what [`SeenMessages::remember`] needs once the message is accepted.
    Never(Unseen),
    /// The same message.
    Same,
    /// A different one with the same id, which became an event of this identity as far as that is known; with what
    /// [`SeenMessages::remember`] needs if this one corrects it.
    Other(Option<SourceIdentityId>, Unseen),
}

/// A message that was never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unseen {
    message: MessageKey,
    day: u32,
    digest: u64,
    /// Under what a file's row is remembered.
    row: Option<files::RowHash>,
    is_made: bool,
}

/// A source and the hash of an id.
type MessageKey = (InstallationId, u128);

/// Messages of the work under way: the digest and the day of each. With the standard library's hash, because senders choose ids.
type MessageDigests = HashMap<MessageKey, (u64, u32)>;

/// One workspace's memory of messages. Filters answer most of the "never" without a look into the store.
pub(crate) struct SeenMessages {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    filters: NeverSeen,
    files: FileRows,
    /// The days of which there are rows, or will be with this group.
    days: BTreeSet<u32>,
    group: MessageDigests,
    unit: MessageDigests,
    /// Days whose rows are to be deleted, and may be there still.
    expired: VecDeque<u32>,
    /// Whether the group deletes rows already: the store would give the same ones to its next unit again.
    deletes: bool,
}

fn day_of(time: Timestamp) -> u32 {
    u32::try_from(time.0.div_euclid(DAY_MS)).unwrap_or(0)
}

/// The day of a key, and what the day's filters hold of it.
fn of_day(key: &Key) -> FilterPart<'_> {
    let bytes = key.as_bytes().get(7..).unwrap_or_default();
    match bytes.split_first_chunk::<4>() {
        Some((day, bytes)) => FilterPart { group: u32::from_be_bytes(*day), bytes },
        None => FilterPart { group: 0, bytes },
    }
}

impl SeenMessages {
    /// The messages that are stored.
    pub(crate) fn open(store: Arc<dyn Store>, workspace: WorkspaceId) -> Result<SeenMessages, ReadError> {
        let days = stored_days(store.as_ref(), workspace)?;
        let all = Key::dedupe_days(workspace, None).range();
        let filters = NeverSeen::over(Arc::clone(&store), all, FILTER_ITEMS, of_day);
        let (group, unit) = (HashMap::new(), HashMap::new());
        let expired = VecDeque::new();
        let files = FileRows::open(Arc::clone(&store), workspace)?;
        let mut seen = SeenMessages { store, workspace, filters, files, days, group, unit, expired, deletes: false };
        seen.expire(None);
        Ok(seen)
    }

    /// Whether the source sent this message before.
    pub(crate) fn look(
        &mut self,
        sent: &MessageOrigin<'_>,
        message_id: &str,
        digest: u64,
    ) -> Result<Recognition, ReadError> {
        let day = day_of(sent.received_at);
        let message = (sent.source, xxh3_128(message_id.as_bytes()));
        let hash = files::hash(sent.name, message_id);
        let is_made = message_id.starts_with(MADE_ID);
        let unseen =
            Unseen { message, day, digest, row: (sent.origin == EventOrigin::Import).then_some(hash), is_made };
        if sent.origin != EventOrigin::Kernel
            && let Some(held) = self.files.look(hash)?.filter(|held| *held != RememberedRow::FORGOTTEN)
        {
            return Ok(if held.digest == digest { Recognition::Same } else { Recognition::Other(held.of, unseen) });
        }
        let verdict = |held: u64| if held == digest { Recognition::Same } else { Recognition::Other(None, unseen) };
        if let Some((held, _)) = self.unit.get(&message).or_else(|| self.group.get(&message)) {
            return Ok(verdict(*held));
        }
        let days = self.days.range(day.saturating_sub(WINDOW_DAYS)..).copied();
        let mut keys: Vec<Key> = days.map(|day| Key::dedupe(self.workspace, day, sent.source, message.1)).collect();
        keys.retain(|key| self.filters.may_be_stored(key));
        if let Some(value) = self.store.get(&keys)?.into_iter().flatten().next_back() {
            let held = value.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| ReadError::Corrupt {
                what: format!("the record of message `{message_id}`"),
                problem: format!("{} bytes where 8 belong", value.len()),
                row: None,
            })?;
            return Ok(verdict(held));
        }
        Ok(Recognition::Never(unseen))
    }

    /// Whether a row of a file that is under way is another one of the same id: whoever corrects it has to wait, because its
    /// event is not in the store yet.
    pub(crate) fn is_under_way(&self, sent: &MessageOrigin<'_>, message_id: &str, digest: u64) -> bool {
        let hash = files::hash(sent.name, message_id);
        self.files.is_under_way(hash) && self.files.look(hash).ok().flatten().is_some_and(|held| held.digest != digest)
    }

    /// The message is accepted, with the unit, as an event of `identity`.
    pub(crate) fn remember(&mut self, unseen: Unseen, identity: SourceIdentityId) {
        if let Some(row) = unseen.row {
            let of = (!unseen.is_made).then_some(identity);
            self.files.remember(row, RememberedRow { digest: unseen.digest, of });
            return;
        }
        self.unit.insert(unseen.message, (unseen.digest, unseen.day));
        if self.days.insert(unseen.day) {
            self.expire(Some(unseen.day));
        }
    }

    /// An event of a source of that name is taken back with the unit: its message, should it come again, is new.
    pub(crate) fn forget(&mut self, source: &str, event: &Event, operations: &mut Vec<Operation>) {
        if event.origin == EventOrigin::Import {
            self.files.remember(files::hash(source, &event.message_id), RememberedRow::FORGOTTEN);
            return;
        }
        let hash = xxh3_128(event.message_id.as_bytes());
        let key = Key::dedupe(self.workspace, day_of(event.received_at), event.source, hash);
        operations.push(Operation::Delete(key));
    }

    /// An event of a source of that name, which a file told, counts again with the unit, by the digest of its content.
    pub(crate) fn bring_back(&mut self, source: &str, event: &Event, digest: u64) {
        let of = (!event.message_id.starts_with(MADE_ID)).then_some(event.identity);
        self.files.remember(files::hash(source, &event.message_id), RememberedRow { digest, of });
    }

    /// Give up the oldest days when there are enough newer ones. Today stays also where a clock that was ahead for weeks has
    /// left enough newer days, or no repeat would be recognised after it is right again.
    fn expire(&mut self, today: Option<u32>) {
        while self.days.len() > KEPT_DAYS {
            let Some(day) = self.days.iter().copied().find(|day| Some(*day) != today) else { return };
            self.days.remove(&day);
            self.filters.forget(day);
            self.expired.push_back(day);
        }
    }

    /// The rows of the unit, and the end of some that have expired.
    pub(crate) fn write(&mut self, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        for ((source, hash), (digest, day)) in &self.unit {
            let key = Key::dedupe(self.workspace, *day, *source, *hash);
            operations.push(Operation::Put(key, digest.to_be_bytes().into()));
        }
        self.files.write(operations);
        let Some(day) = self.expired.front().copied().filter(|_| !self.deletes) else { return Ok(()) };
        self.deletes = true;
        let page = self.store.scan(&Key::dedupe_days(self.workspace, Some(day)).range(), MAX_EXPIRED_ROWS)?;
        if page.rows.is_empty() {
            self.expired.pop_front();
        }
        operations.extend(page.rows.into_iter().map(|(key, _)| Operation::Delete(key)));
        Ok(())
    }

    /// The unit is part of the group.
    pub(crate) fn keep_unit(&mut self) {
        self.group.extend(self.unit.drain());
        self.files.keep_unit();
    }

    /// The unit was too large or could not be built: nothing of it stays.
    pub(crate) fn forget_unit(&mut self) {
        self.unit.clear();
        self.files.forget_unit();
        self.deletes = false;
    }

    /// The group is durable.
    pub(crate) fn committed(&mut self) {
        self.files.committed();
        self.ended();
    }

    /// Not all of the group is durable.
    pub(crate) fn committed_in_part(&mut self) -> Result<(), ReadError> {
        self.ended();
        self.files.committed_in_part()
    }

    /// One step of the work that keeps look-ups quick.
    pub(crate) fn step(&mut self) -> Result<(), CommitError> {
        self.files.step()
    }

    /// The group has ended, durable or not: a filter may say "perhaps" of what is not there.
    fn ended(&mut self) {
        self.forget_unit();
        for ((source, hash), (_, day)) in self.group.drain() {
            self.filters.insert(&Key::dedupe(self.workspace, day, source, hash));
        }
    }
}

/// The days of which rows are stored, found by a seek for each.
fn stored_days(store: &dyn Store, workspace: WorkspaceId) -> Result<BTreeSet<u32>, ReadError> {
    let mut days = BTreeSet::new();
    let mut range: KeyRange = Key::dedupe_days(workspace, None).range();
    while let Some((key, _)) = store.scan(&range, 1)?.rows.first() {
        let day = of_day(key).group;
        days.insert(day);
        range.from = Key::dedupe_days(workspace, Some(day)).range().to;
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use kith_store::Unit;

    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);
    const SOURCE: InstallationId = InstallationId(1);

    fn on(day: i64) -> Timestamp {
        Timestamp(day * DAY_MS + 5)
    }

    fn sent(received_at: Timestamp) -> MessageOrigin<'static> {
        MessageOrigin { source: SOURCE, name: "shop", origin: EventOrigin::Client, received_at }
    }

    /// Take a message on a day as a group of its own; whether it was new.
    fn take(store: &Arc<dyn Store>, seen: &mut SeenMessages, message_id: &str, day: i64) -> bool {
        let Recognition::Never(unseen) = seen.look(&sent(on(day)), message_id, 7).unwrap() else { return false };
        seen.remember(unseen, SourceIdentityId([1; 16]));
        let mut operations = Vec::new();
        seen.write(&mut operations).unwrap();
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        seen.keep_unit();
        seen.committed();
        true
    }

    #[test]
    fn one_jump_of_the_clock_forgets_nothing_and_takes_nothing_twice() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        let mut seen = SeenMessages::open(Arc::clone(&store), WORKSPACE).unwrap();
        assert!((100..108).all(|day| take(&store, &mut seen, &format!("m{day}"), day)));
        assert!(take(&store, &mut seen, "ahead", 170), "the clock is two months ahead");
        for _ in 0..2 {
            assert!(
                (101..108).all(|day| !take(&store, &mut seen, &format!("m{day}"), 107)),
                "the clock is right again"
            );
            assert!(!take(&store, &mut seen, "ahead", 107), "taken on a day that is still to come");
            seen = SeenMessages::open(Arc::clone(&store), WORKSPACE).unwrap();
        }
    }

    #[test]
    fn rows_go_when_enough_newer_days_are_stored() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        let mut seen = SeenMessages::open(Arc::clone(&store), WORKSPACE).unwrap();
        for day in 100..130 {
            assert!(take(&store, &mut seen, "one", 10 * day) && take(&store, &mut seen, &format!("m{day}"), 10 * day));
        }
        let days = stored_days(store.as_ref(), WORKSPACE).unwrap();
        assert!(days.len() <= KEPT_DAYS + 1, "{days:?}");
        assert!(days.contains(&1290));
    }

    #[test]
    fn two_copies_in_one_group_on_both_sides_of_midnight_are_one_message() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        let mut seen = SeenMessages::open(store, WORKSPACE).unwrap();
        let before = Timestamp(101 * DAY_MS - 1);
        let Recognition::Never(unseen) = seen.look(&sent(before), "m", 7).unwrap() else { panic!("it was never seen") };
        seen.remember(unseen, SourceIdentityId([1; 16]));
        seen.keep_unit();
        assert_eq!(seen.look(&sent(before.plus_ms(1)), "m", 7).unwrap(), Recognition::Same);
        assert!(matches!(seen.look(&sent(before.plus_ms(1)), "m", 8).unwrap(), Recognition::Other(..)));
    }
}
