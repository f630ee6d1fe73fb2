//! How far an installation has polled and when it is next: a row, and pure functions over it.

use kith_model::budget::table;
use kith_model::polling::PollError;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rows::rows;

/// Polls of an installation that are remembered.
pub(crate) const MAX_HISTORY: usize = 50;

/// The first back-off after a failure; it doubles with each that follows.
const FIRST_BACK_OFF_MS: u64 = 60_000;

/// No back-off is longer than this or the interval, whichever is more.
const LONGEST_BACK_OFF_MS: u64 = 3_600_000;

/// Polls in a row that bring nothing new, though more is waiting, and are followed by another at once: a connector that reads again
/// what it has read has that many for it.
const FRUITLESS_AT_ONCE: usize = 4;

/// The first wait after a poll that brought only what came before; a second longer with each that follows.
const FRUITLESS_MS: u64 = 1_000;

/// What the other side asks for is waited for up to a week.
const LONGEST_ASKED_MS: u64 = 7 * 86_400_000;

/// The most of a reason that is remembered.
const MAX_REASON_BYTES: usize = 512;

/// How far an installation has polled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PollRow {
    /// One more with each time that an admin has it fetched from the start: a page that was asked for before is not kept then.
    pub epoch: u64,
    /// Polls that were begun.
    pub polls: u64,
    pub cursor: Option<Vec<u8>>,
    /// When the page was begun that left the cursor.
    pub since: Option<Timestamp>,
    /// When the last poll was begun.
    pub polled_at: Option<Timestamp>,
    pub wait: PollWait,
    /// Failures in a row.
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    /// The last polls, the oldest first.
    pub history: Vec<PollEntry>,
}

/// What an installation waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PollWait {
    /// Nothing: another page is there, or somebody wants it now.
    #[default]
    Nothing,
    /// The interval since the last poll.
    Interval,
    /// After a failure.
    BackOff { until: Timestamp },
    /// A change of the installation, which was as it was put in force at this time.
    Change { of: Timestamp },
}

/// One poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollEntry {
    /// From 1.
    pub(crate) number: u64,
    pub at: Timestamp,
    pub took_ms: u64,
    pub pages: u32,
    pub requests: u32,
    /// Events that were taken, corrections among them.
    pub events: u64,
    /// Events that had come before.
    pub repeats: u64,
    /// Parts that became dead letters.
    pub rejected: u64,
    pub(crate) ended: PollEnd,
    /// The hash of the cursor that it left.
    pub(crate) cursor: Option<u64>,
}

/// How a poll ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PollEnd {
    /// A process was ended within it, or something overtook it.
    CutOff,
    /// Nothing is waiting at the other side.
    Complete,
    /// Its turn was over, and more is waiting.
    More,
    /// The other side, or the kernel, could not.
    Later { reason: String },
    /// Somebody has to change something.
    Permanent { reason: String },
    /// The plugin failed.
    Fault { code: String, reason: String },
}

rows! {
    PollRow: "how far an installation has polled", Poll, 1;
}

/// How often an installation polls, and since when it is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PollTerms {
    pub interval_ms: u64,
    pub changed_at: Timestamp,
}

impl PollRow {
    /// When it polls next; `None` where only a change or somebody's word lets it.
    pub(crate) fn due_at(&self, terms: PollTerms, now: Timestamp) -> Option<Timestamp> {
        let at_once = self.polled_at.map_or(Timestamp(0), |at| at.min(now));
        // A change that the clock has yet to come to would undo each back-off until then.
        let has_changed = terms.changed_at > at_once && terms.changed_at <= now;
        match self.wait {
            PollWait::Nothing => Some(at_once),
            PollWait::Interval => Some(later(at_once, terms.interval_ms)),
            PollWait::BackOff { .. } if has_changed => Some(at_once),
            PollWait::BackOff { until } => Some(until),
            PollWait::Change { of } => (of != terms.changed_at).then_some(at_once),
        }
    }

    /// The row as it is read: where the clock was ahead when it was written, what it waits for is counted from now.
    #[must_use]
    pub(crate) fn by_clock(mut self, now: Timestamp) -> PollRow {
        let Some(at) = self.polled_at.filter(|at| *at > now) else { return self };
        self.polled_at = Some(now);
        if let PollWait::BackOff { until } = &mut self.wait {
            *until = Timestamp(until.0.saturating_sub(at.0.saturating_sub(now.0)));
        }
        self
    }

    /// A page is kept: `cursor` is where the next one begins.
    pub(crate) fn kept(&mut self, cursor: Vec<u8>, began: Timestamp, more: bool) {
        self.cursor = Some(cursor);
        self.since = Some(began);
        self.wait = if more { PollWait::Nothing } else { PollWait::Interval };
        self.failures = 0;
        self.failing_since = None;
    }

    /// There was no page, for this reason.
    pub(crate) fn failed(&mut self, error: &PollError, now: Timestamp, terms: PollTerms) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.wait = match end_of(error) {
            PollEnd::Permanent { .. } => PollWait::Change { of: terms.changed_at },
            _ => {
                let asked_ms = match error {
                    PollError::Later { after_ms, .. } => after_ms.unwrap_or(0).min(LONGEST_ASKED_MS),
                    PollError::Permanent(_) | PollError::Fault(_) => 0,
                };
                let wait = back_off_ms(self.failures, terms.interval_ms).max(asked_ms);
                PollWait::BackOff { until: later(now, wait) }
            }
        };
    }

    /// Its turn is over, and more is said to be waiting. Where the turn brought nothing that `before` it had not, that is waited
    /// after as a failure is: a connector that says so without end would be asked without a pause. Records that came before are
    /// how one comes to those that are new, so that a few turns with nothing else go on at once, and each that follows is waited
    /// after a little longer.
    pub(crate) fn turned(&mut self, before: &PollRow, turn: &mut PollEntry, now: Timestamp, terms: PollTerms) {
        if turn.events > 0 {
            return;
        }
        let may_come_on = turn.rejected > 0 || (turn.repeats > 0 && self.cursor != before.cursor);
        if may_come_on && before.fruitless_polls() < FRUITLESS_AT_ONCE {
            return;
        }
        self.fails_on(before);
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let wait = match may_come_on {
            true => fruitless_ms(self.failures, terms.interval_ms),
            false => back_off_ms(self.failures, terms.interval_ms),
        };
        self.wait = PollWait::BackOff { until: later(now, wait) };
        if turn.ended == PollEnd::More {
            let reason = "nothing of what the last polls brought was new, and more is said to be waiting".to_owned();
            turn.ended = PollEnd::Later { reason };
        }
    }

    /// Count on how often it has failed from `before`: nothing that was kept since was new.
    fn fails_on(&mut self, before: &PollRow) {
        (self.failures, self.failing_since) = (before.failures, before.failing_since);
    }

    /// The last polls in a row that kept pages with nothing new on them, and did not come to the end.
    fn fruitless_polls(&self) -> usize {
        let is_fruitless = |entry: &&PollEntry| entry.events == 0 && entry.ended != PollEnd::Complete;
        self.history.iter().rev().take_while(is_fruitless).filter(|entry| entry.pages > 0).count()
    }

    /// More is said to wait behind a cursor that this poll has been at already: whoever asks again is answered the same, and so for
    /// ever. What its pages brought is kept; how often it has failed is counted on from `before`.
    pub(crate) fn went_round(&mut self, before: &PollRow, now: Timestamp, terms: PollTerms) -> PollEnd {
        let reason =
            "more is said to wait behind a cursor that was given before, so that the same pages would come for ever";
        let error = PollError::Later { after_ms: None, reason: reason.to_owned() };
        self.fails_on(before);
        self.failed(&error, now, terms);
        end_of(&error)
    }

    /// Somebody wants it now, perhaps from the start.
    pub(crate) fn asked(&mut self, from_start: bool) {
        self.wait = PollWait::Nothing;
        if from_start {
            self.epoch += 1;
            self.cursor = None;
            self.since = None;
        }
    }

    /// Remember a poll, in the place of what was remembered of the same one.
    pub(crate) fn remember(&mut self, entry: PollEntry) {
        self.polls = self.polls.max(entry.number);
        self.polled_at = Some(entry.at);
        self.history.retain(|held| held.number != entry.number);
        self.history.push(entry);
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
    }

    /// The hash of the cursor.
    pub(crate) fn cursor_hash(&self) -> Option<u64> {
        self.cursor.as_deref().map(xxhash_rust::xxh3::xxh3_64)
    }
}

impl PollEntry {
    /// A poll that begins.
    pub(crate) fn begun(number: u64, at: Timestamp) -> PollEntry {
        PollEntry {
            number,
            at,
            took_ms: 0,
            pages: 0,
            requests: 0,
            events: 0,
            repeats: 0,
            rejected: 0,
            ended: PollEnd::CutOff,
            cursor: None,
        }
    }

    /// How a poll ends that has had as many pages as one may have, and of which more is said to be there.
    pub(crate) fn end_of_pages(&self) -> PollEnd {
        if self.events + self.repeats + self.rejected > 0 {
            return PollEnd::More;
        }
        let reason = format!("{} pages had nothing on them, and more is said to be waiting", self.pages);
        PollEnd::Later { reason }
    }

    /// `complete`, `more`, `later`, `permanent`, `fault` or `cut-off`.
    pub fn outcome(&self) -> &'static str {
        self.ended.as_str()
    }

    /// The same in words.
    pub fn reason(&self) -> String {
        self.ended.words()
    }

    /// The hash of the cursor that it left, to tell whether it moved.
    pub fn cursor(&self) -> Option<String> {
        self.cursor.map(|hash| format!("{hash:016x}"))
    }
}

impl PollEnd {
    /// A label of a metric and of answers.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            PollEnd::CutOff => "cut-off",
            PollEnd::Complete => "complete",
            PollEnd::More => "more",
            PollEnd::Later { .. } => "later",
            PollEnd::Permanent { .. } => "permanent",
            PollEnd::Fault { .. } => "fault",
        }
    }

    /// The same in words.
    pub(crate) fn words(&self) -> String {
        match self {
            PollEnd::CutOff => {
                "the server stopped or the installation changed within it; what was not kept comes again".to_owned()
            }
            PollEnd::Complete => "nothing more is waiting".to_owned(),
            PollEnd::More => "more is waiting".to_owned(),
            PollEnd::Later { reason } => format!("tried again: {reason}"),
            PollEnd::Permanent { reason } => format!("waits for a change of the installation: {reason}"),
            PollEnd::Fault { reason, .. } => format!("the plugin failed: {reason}"),
        }
    }
}

/// What a failure comes to.
pub(crate) fn end_of(error: &PollError) -> PollEnd {
    use kith_model::plugin::FaultOwner;
    let cut = |text: String| text[..text.floor_char_boundary(MAX_REASON_BYTES)].to_owned();
    let reason = cut(error.to_string());
    match error {
        PollError::Later { .. } => PollEnd::Later { reason },
        PollError::Permanent(_) => PollEnd::Permanent { reason },
        PollError::Fault(fault) => match fault.owner() {
            FaultOwner::Plugin => PollEnd::Fault { code: fault.code().to_owned(), reason },
            FaultOwner::Request => PollEnd::Permanent { reason },
            FaultOwner::Peer | FaultOwner::Host => PollEnd::Later { reason },
        },
    }
}

/// How long the failure of that number is waited after.
pub(crate) fn back_off_ms(failures: u32, interval_ms: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    (FIRST_BACK_OFF_MS << doublings).min(interval_ms.max(LONGEST_BACK_OFF_MS))
}

/// How long a poll is waited after that brought only what came before, the failures before it and itself being so many.
fn fruitless_ms(failures: u32, interval_ms: u64) -> u64 {
    (FRUITLESS_MS * u64::from(failures)).min(interval_ms.max(LONGEST_BACK_OFF_MS))
}

fn later(time: Timestamp, wait_ms: u64) -> Timestamp {
    time.plus_ms(i64::try_from(wait_ms).unwrap_or(i64::MAX))
}

/// Pages of one poll: then others come first.
pub(crate) fn most_pages() -> u32 {
    u32::try_from(table::POLL_PAGES.default).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{PluginFault, TimeSpent};
    use kith_store::row::Row;

    use super::*;

    const MINUTE: i64 = 60_000;
    const TERMS: PollTerms = PollTerms { interval_ms: 900_000, changed_at: Timestamp(0) };
    const LATE: Timestamp = Timestamp(1 << 50);

    fn polled(at: i64) -> PollRow {
        let mut row = PollRow::default();
        row.remember(PollEntry::begun(1, Timestamp(at)));
        row
    }

    fn later_in(after_ms: Option<u64>) -> PollError {
        PollError::Later { after_ms, reason: "busy".to_owned() }
    }

    #[test]
    fn the_format_describes_the_row() {
        let (what, owner, version) = (PollRow::WHAT, PollRow::OWNER.name(), PollRow::VERSION);
        let line = format!("| `PollRow` | {what} | {owner} | {version} | postcard |");
        assert!(include_str!("../../../store/FORMAT.md").contains(&line), "FORMAT.md lacks {line}");
    }

    #[test]
    fn a_poll_is_due_at_once_and_then_by_the_interval() {
        assert_eq!(PollRow::default().due_at(TERMS, LATE), Some(Timestamp(0)), "the first one");
        let mut row = polled(MINUTE);
        row.kept(b"a".to_vec(), Timestamp(MINUTE), true);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(MINUTE)), "more is waiting");
        row.kept(b"b".to_vec(), Timestamp(MINUTE), false);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(16 * MINUTE)));
        let shorter = PollTerms { interval_ms: 60_000, ..TERMS };
        assert_eq!(row.due_at(shorter, LATE), Some(Timestamp(2 * MINUTE)), "a changed interval holds for what waits");
        row.asked(false);
        assert_eq!((row.due_at(TERMS, LATE), row.epoch), (Some(Timestamp(MINUTE)), 0));
        assert_eq!(row.cursor.as_deref(), Some(&b"b"[..]));
        row.asked(true);
        assert_eq!((row.cursor, row.since, row.epoch), (None, None, 1));
    }

    #[test]
    fn a_back_off_doubles_from_a_minute_to_an_hour_or_the_interval() {
        let minutes = |interval_ms| (1..=9).map(move |failures| back_off_ms(failures, interval_ms) / 60_000);
        assert_eq!(minutes(900_000).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(minutes(6 * 3_600_000).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(back_off_ms(u32::MAX, 900_000), 3_600_000);
    }

    #[test]
    fn a_failure_is_waited_after_and_a_page_ends_that() {
        let mut row = polled(0);
        row.failed(&later_in(None), Timestamp(0), TERMS);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(MINUTE)));
        row.failed(&later_in(Some(300_000)), Timestamp(MINUTE), TERMS);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(6 * MINUTE)), "what the other side asks for");
        row.failed(&later_in(Some(1)), Timestamp(6 * MINUTE), TERMS);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(10 * MINUTE)), "but not less than the kernel's own");
        assert_eq!((row.failures, row.failing_since), (3, Some(Timestamp(0))));
        row.kept(Vec::new(), Timestamp(10 * MINUTE), false);
        assert_eq!((row.failures, row.failing_since), (0, None));
        row.failed(&later_in(Some(u64::MAX)), Timestamp(0), TERMS);
        assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(7 * 86_400_000)));
    }

    #[test]
    fn a_change_ends_a_back_off() {
        let mut row = polled(MINUTE);
        row.failed(&later_in(None), Timestamp(MINUTE), TERMS);
        let changed = PollTerms { changed_at: Timestamp(MINUTE + 1), ..TERMS };
        assert_eq!(row.due_at(changed, Timestamp(MINUTE + 2)), Some(Timestamp(MINUTE)));
        assert_eq!(row.due_at(changed, Timestamp(MINUTE)), Some(Timestamp(2 * MINUTE)), "by a clock that was ahead");
        row.remember(PollEntry::begun(2, Timestamp(MINUTE + 2)));
        row.failed(&later_in(None), Timestamp(MINUTE + 2), changed);
        assert_eq!(row.due_at(changed, LATE), Some(Timestamp(3 * MINUTE + 2)), "but only once");
    }

    #[test]
    fn a_clock_that_was_ahead_holds_nothing_up() {
        let now = Timestamp(5 * MINUTE);
        let mut row = polled(1_000 * MINUTE);
        row.failed(&later_in(None), Timestamp(1_000 * MINUTE), TERMS);
        assert_eq!(row.clone().by_clock(now).due_at(TERMS, now), Some(Timestamp(6 * MINUTE)));
        row.kept(Vec::new(), Timestamp(1_000 * MINUTE), false);
        let read = row.clone().by_clock(now);
        assert_eq!(read.due_at(TERMS, now), Some(Timestamp(20 * MINUTE)));
        let later = Timestamp(6 * MINUTE);
        assert_eq!(read.by_clock(later).due_at(TERMS, later), Some(Timestamp(20 * MINUTE)));
        row.asked(false);
        assert_eq!(row.due_at(TERMS, now), Some(now));
    }

    #[test]
    fn a_turn_that_brings_nothing_and_says_there_is_more_is_waited_after() {
        let began = |at| PollEntry::begun(1, Timestamp(at));
        let mut row = polled(0);
        for (at, due) in [(0, 1), (1, 3), (3, 7)] {
            let before = row.clone();
            row.kept(b"further".to_vec(), Timestamp(at * MINUTE), true);
            row.turned(&before, &mut began(at * MINUTE), Timestamp(at * MINUTE), TERMS);
            assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(due * MINUTE)));
        }
        assert_eq!((row.failures, row.failing_since), (3, Some(Timestamp(0))));
        let before = row.clone();
        for (mut turn, goes_on) in [
            (PollEntry { events: 1, ..began(0) }, true),
            (PollEntry { rejected: 1, ..began(0) }, true),
            (PollEntry { repeats: 1, ..began(0) }, false),
        ] {
            row.kept(b"further".to_vec(), Timestamp(0), true);
            row.turned(&before, &mut turn, Timestamp(0), TERMS);
            assert_eq!(row.wait == PollWait::Nothing, goes_on, "{turn:?}");
        }
        row.kept(b"further yet".to_vec(), Timestamp(0), true);
        row.turned(&before, &mut PollEntry { repeats: 1, ..began(0) }, Timestamp(0), TERMS);
        assert_eq!(row.wait, PollWait::Nothing, "it comes to what is new");
    }

    /// A peer that answers each page with a known record and another cursor was asked without a pause.
    #[test]
    fn turns_that_bring_only_what_came_before_are_waited_after_a_little_longer_each_time() {
        let mut row = polled(0);
        let mut turned = |number: u64, new: u64, at: i64| {
            let before = row.clone();
            let began = PollEntry { ended: PollEnd::More, ..PollEntry::begun(number, Timestamp(at)) };
            let mut turn = PollEntry { pages: 32, events: new, repeats: 32, ..began };
            row.kept(number.to_string().into_bytes(), Timestamp(at), true);
            row.turned(&before, &mut turn, Timestamp(at), TERMS);
            let ended = turn.outcome();
            row.remember(turn);
            (row.due_at(TERMS, LATE), row.failures, ended)
        };
        let mut at = 10;
        for number in 2..=5 {
            assert_eq!(turned(number, 0, at), (Some(Timestamp(at)), 0, "more"), "an overlap is read at once");
        }
        for number in 6..=100 {
            let failures = u32::try_from(number - 5).unwrap();
            let due = at + i64::from(failures) * 1_000;
            assert_eq!(turned(number, 0, at), (Some(Timestamp(due)), failures, "later"), "{number}");
            at = due;
        }
        assert_eq!(turned(101, 1, at), (Some(Timestamp(at)), 0, "more"), "something new ends that");
        assert_eq!(turned(102, 0, at).2, "more");
        assert_eq!(fruitless_ms(u32::MAX, TERMS.interval_ms), LONGEST_BACK_OFF_MS, "no longer than after a failure");
    }

    /// Whatever a peer says, the row takes no more than this.
    #[test]
    fn a_row_is_bounded() {
        let mut row = PollRow::default();
        row.kept(vec![7; 64 << 10], Timestamp(0), true);
        for number in 1..=200 {
            let ended = end_of(&PollError::Permanent("x".repeat(1 << 20)));
            row.remember(PollEntry { ended, ..PollEntry::begun(number, Timestamp(i64::MAX)) });
        }
        let bytes = kith_store::row::encode(&row).len();
        assert!(bytes < (64 << 10) + MAX_HISTORY * (MAX_REASON_BYTES + 100), "{bytes}");
    }

    #[test]
    fn what_is_for_good_waits_for_a_change_or_a_word() {
        let bad = PluginFault::BadInput("no".to_owned());
        for error in [PollError::Permanent("no such list".to_owned()), PollError::Fault(bad)] {
            let mut row = polled(MINUTE);
            row.failed(&error, Timestamp(MINUTE), TERMS);
            assert_eq!(row.due_at(TERMS, LATE), None, "{error:?}");
            let changed = PollTerms { changed_at: Timestamp(6), ..TERMS };
            assert_eq!(row.due_at(changed, LATE), Some(Timestamp(MINUTE)));
            row.asked(false);
            assert_eq!(row.due_at(TERMS, LATE), Some(Timestamp(MINUTE)));
        }
    }

    #[test]
    fn whose_fault_it_is_says_what_it_comes_to() {
        let trap = PluginFault::Trapped { message: "no".to_owned(), backtrace: Vec::new() };
        let late = |spent| PluginFault::DeadlineExceeded { limit_ms: 1, spent };
        let ends = [
            (PollError::Fault(trap), "fault"),
            (PollError::Fault(late(TimeSpent::WaitingForPeers)), "later"),
            (PollError::Fault(late(TimeSpent::HeldUp)), "later"),
            (PollError::Fault(late(TimeSpent::Computing)), "fault"),
            (PollError::Fault(PluginFault::Unavailable("no".to_owned())), "later"),
            (later_in(None), "later"),
            (PollError::Permanent("ä".repeat(1_000)), "permanent"),
        ];
        for (error, end) in ends {
            assert_eq!(end_of(&error).as_str(), end, "{error:?}");
            assert!(end_of(&error).words().len() < MAX_REASON_BYTES + 100);
        }
    }

    #[test]
    fn the_last_polls_are_remembered_each_once() {
        let mut row = PollRow::default();
        for number in 1..=60 {
            row.remember(PollEntry::begun(number, Timestamp(0)));
            row.remember(PollEntry { pages: 2, ..PollEntry::begun(number, Timestamp(0)) });
        }
        let numbers: Vec<u64> = row.history.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (11..=60).collect::<Vec<_>>());
        assert!(row.history.iter().all(|entry| entry.pages == 2));
        assert_eq!(row.polls, 60);
    }
}
