//! One aggregate over events, kept up to date event by event.
//!
//! State is kept per source identity and merged when it is read, so that tying identities together, or apart, costs
//! nothing. For that, the result depends only on the set of events taken in: not on their order, nor on how they were
//! cut into states, nor on when each came. Taking an event in once only is the caller's job.
//!
//! What is kept:
//!
//! | leaf | state |
//! | --- | --- |
//! | aggregate over all time | one tally |
//! | aggregate over a window of days | a tally for each calendar day that has events |
//! | aggregate over an exact window, and every list | each event's time and value |
//!
//! A state may be cut anywhere: a chunk that was sealed away is one more state of its identity. So a state that grows is
//! stored in chunks ([`LeafStates`]), and one more event rewrites the last of them only. An identity's leaves are a row for
//! each kind of event that feeds them ([`LeafGroups`]).
//!
//! An event later than `now` when it came is kept by itself and counts once `now` has reached it. `now` never goes back.

mod groups;
mod state;
mod states;
mod tally;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use kith_model::time::Timestamp;
use sha2::{Digest, Sha256};

pub use self::groups::LeafGroups;
use self::state::Entry;
pub use self::state::{LeafState, MAX_STATE_BYTES};
pub use self::states::{LeafStates, SealedChunk, UnreadableState};
use self::tally::Tally;
use crate::eval::{Scope, ranked};
use crate::event::EventFacts;
use crate::tree::{LeafId, Node, Text, write_events};
use crate::value::Value;
use crate::window::Window;
use crate::zone::Zone;

/// Part of every leaf's hash; another meaning or another encoding of states gets another number, so that states of the
/// old kind are never read as the new.
const STATE_VERSION: &str = "leaf-4 ";

/// What is made of the chosen events' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    Sum,
    Mean,
    Least,
    Greatest,
    First,
    Last,
    Distinct,
    List,
}

/// An aggregate: which events, in which window, what is taken of each, what is made of it.
#[derive(Debug)]
pub struct Leaf {
    id: LeafId,
    /// Empty for all events.
    name: Arc<str>,
    window: Window,
    filter: Option<Node>,
    item: Option<Node>,
    aggregate: Aggregate,
    text: String,
}

/// The moments of a window at some `now`, both included, and its first day.
#[derive(Clone, Copy)]
struct Span {
    from: i64,
    to: i64,
    first_day: i32,
}

impl Span {
    fn holds(&self, time: i64) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

impl Leaf {
    pub(crate) fn new(
        name: Arc<str>,
        window: Window,
        filter: Option<Node>,
        item: Option<Node>,
        aggregate: Aggregate,
        context: &str,
    ) -> Leaf {
        let mut leaf = Leaf { id: LeafId(0), name, window, filter, item, aggregate, text: String::new() };
        leaf.text = leaf.to_string();
        let digest = Sha256::new()
            .chain_update(STATE_VERSION)
            .chain_update(context)
            .chain_update([0])
            .chain_update(&leaf.text)
            .finalize();
        let group = Sha256::digest(leaf.name.as_bytes());
        let bytes = group.iter().take(2).chain(digest.iter().take(6));
        leaf.id = LeafId(bytes.fold(0, |id, byte| (id << 8) | u64::from(*byte)));
        leaf
    }

    /// The hash of the canonical text and of the context that it was parsed in.
    pub fn id(&self) -> LeafId {
        self.id
    }

    /// The canonical text: equal for equal leaves, however they were written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the events it looks at; `None` for all.
    pub fn event_name(&self) -> Option<&str> {
        (!self.name.is_empty()).then_some(self.name.as_ref())
    }

    /// What it evaluates of each event.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Node> {
        [&self.filter, &self.item].into_iter().flatten()
    }

    /// The condition that its events meet.
    pub(crate) fn filter(&self) -> Option<&Node> {
        self.filter.as_ref()
    }

    /// What it takes of each event.
    pub(crate) fn item(&self) -> Option<&Node> {
        self.item.as_ref()
    }

    /// What it makes of that.
    pub(crate) fn aggregate(&self) -> Aggregate {
        self.aggregate
    }

    /// The window it looks at.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Whether it is one of the events that the leaf looks at, by its name: `events('*')` are those that the person did,
    /// and not those in which the kernel tells of its own work.
    pub fn concerns(&self, event: &EventFacts<'_>) -> bool {
        if self.name.is_empty() { event.is_activity() } else { *self.name == *event.name() }
    }

    /// Take an event in. Returns whether the state changed.
    ///
    /// `now` is the kernel's clock, not the event's time; it never goes back from one call to the next.
    pub fn apply(&self, state: &mut LeafState, event: &EventFacts<'_>, now: Timestamp, zone: &Zone) -> bool {
        let span = self.span(now, zone);
        if !self.concerns(event) || event.time().0 < span.from {
            return false;
        }
        let scope = Scope::of_event(event, zone);
        if self.filter.as_ref().is_some_and(|filter| !scope.evaluate(filter).is_true()) {
            return false;
        }
        let value = self.item.as_ref().map(|item| scope.evaluate(item)).unwrap_or_default();
        let value = self.aggregate.taken(value);
        // An event is all known: a pending value is the profile's.
        debug_assert!(!value.is_unknown(), "a leaf's item is unknown: {}", self.text);
        if !self.aggregate.counts(&value) {
            return false;
        }
        self.settle(state, now, zone);
        let entry = Entry { time: event.time().0, tie: event.tie(), value };
        if self.keeps_entries() || event.time() > now {
            state.insert(entry);
        } else {
            self.tally_entry(state, entry, zone);
        }
        true
    }

    /// Forget what no later window can hold, and put events that `now` has reached into their tallies. The value stays
    /// the same; [`Leaf::apply`] does this by itself.
    pub fn settle(&self, state: &mut LeafState, now: Timestamp, zone: &Zone) {
        let span = self.span(now, zone);
        if self.window.is_of_days() {
            state.days.retain(|(day, _)| *day >= span.first_day);
        }
        let expired = state.entries.partition_point(|entry| entry.time < span.from);
        state.entries.drain(..expired);
        if !self.keeps_entries() {
            let reached = state.entries.partition_point(|entry| entry.time <= span.to);
            let settled: Vec<Entry> = state.entries.drain(..reached).collect();
            settled.into_iter().for_each(|entry| self.tally_entry(state, entry, zone));
        }
    }

    /// The states of several source identities as one.
    pub fn merge(&self, states: &[&LeafState]) -> LeafState {
        let mut merged = LeafState::default();
        for state in states {
            for (day, tally) in &state.days {
                merged.day(*day, self.aggregate).merge(tally);
            }
            merged.entries.extend(state.entries.iter().cloned());
        }
        merged.entries.sort_by(Entry::order);
        merged
    }

    /// The value at `now`.
    pub fn value(&self, state: &LeafState, now: Timestamp, zone: &Zone) -> Value {
        self.value_of(&[state], now, zone)
    }

    /// The value at `now` of several states: of a profile's identities and of the chunks that were sealed away. It is the
    /// value of [`Leaf::merge`] of them, which is not made.
    pub fn value_of<S: Borrow<LeafState>>(&self, states: &[S], now: Timestamp, zone: &Zone) -> Value {
        let span = self.span(now, zone);
        let entries = || states.iter().flat_map(|state| state.borrow().entries_in(&span));
        let tallies = || states.iter().flat_map(|state| state.borrow().tallies_in(&span));
        match self.aggregate {
            Aggregate::List => {
                if let [state] = states {
                    let entries = state.borrow().entries_in(&span);
                    return Value::List(entries.iter().map(|entry| entry.value.clone()).collect());
                }
                let mut ordered: Vec<&Entry> = entries().collect();
                ordered.sort_by(|one, other| one.order(other));
                Value::List(ordered.into_iter().map(|entry| entry.value.clone()).collect())
            }
            Aggregate::Distinct => {
                let tallied = tallies().flat_map(Tally::distinct);
                tally::distinct(tallied.chain(entries().map(|entry| &entry.value)))
            }
            aggregate => {
                // Of most people one tally is all there is.
                if let [state] = states
                    && let Some(only) = state.borrow().only_tally(&span)
                {
                    return only.value();
                }
                let mut total = Tally::empty(aggregate);
                tallies().for_each(|tally| total.merge(tally));
                entries().for_each(|entry| total.add(entry));
                total.value()
            }
        }
    }

    /// The earliest later moment at which the value may change though no event comes; `None` when it never does.
    pub fn next_change_at(&self, state: &LeafState, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let span = self.span(now, zone);
        let arrival = state.entries.iter().find(|entry| entry.time > span.to).map(|entry| Timestamp(entry.time));
        let oldest = state.entries.iter().find(|entry| span.holds(entry.time));
        let departure = match self.window {
            Window::Always => None,
            Window::Exact(length) => oldest.map(|entry| Timestamp(entry.time.saturating_add(length))),
            Window::Days(_) | Window::Months(_) => {
                let tallied = state.days.iter().map(|(day, _)| *day).find(|day| *day >= span.first_day);
                let single = oldest.map(|entry| zone.day(Timestamp(entry.time)));
                let oldest = [tallied, single].into_iter().flatten().min();
                oldest.map(|day| zone.start_of_day(self.window.day_without(day)))
            }
        };
        [arrival, departure].into_iter().flatten().min()
    }

    /// [`Leaf::next_change_at`] of several states: that of [`Leaf::merge`] of them, which is not made.
    ///
    /// It is the least of theirs. An arrival is that of the earliest coming event; a departure is that of the oldest event
    /// or day, and leaving comes in the order of age, so in both cases the first of all is the first of one of them.
    pub fn next_change_of<S: Borrow<LeafState>>(&self, states: &[S], now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        states.iter().filter_map(|state| self.next_change_at(state.borrow(), now, zone)).min()
    }

    /// Whether nothing in the state can count at `now` or later, so that a chunk of it can be dropped.
    pub fn is_expired(&self, state: &LeafState, now: Timestamp, zone: &Zone) -> bool {
        let span = self.span(now, zone);
        let is_past = |entry: &Entry| entry.time < span.from;
        state.entries.last().is_none_or(is_past) && state.days.last().is_none_or(|(day, _)| *day < span.first_day)
    }

    fn keeps_entries(&self) -> bool {
        self.aggregate == Aggregate::List || matches!(self.window, Window::Exact(_))
    }

    fn span(&self, now: Timestamp, zone: &Zone) -> Span {
        match self.window {
            Window::Always => Span { from: i64::MIN, to: now.0, first_day: i32::MIN },
            Window::Exact(length) => {
                Span { from: now.0.saturating_sub(length).saturating_add(1), to: now.0, first_day: i32::MIN }
            }
            Window::Days(_) | Window::Months(_) => {
                let first_day = self.window.first_day(now, zone);
                Span { from: zone.start_of_day(first_day).0, to: now.0, first_day }
            }
        }
    }

    fn tally_entry(&self, state: &mut LeafState, entry: Entry, zone: &Zone) {
        let day = if self.window.is_of_days() { zone.day(Timestamp(entry.time)) } else { 0 };
        state.day(day, self.aggregate).add(&entry);
    }
}

impl Aggregate {
    /// What it takes of a value: where numbers are added up or put in order, a text that is a number counts as the number.
    fn taken(self, value: Value) -> Value {
        match self {
            Aggregate::Sum | Aggregate::Mean | Aggregate::Least | Aggregate::Greatest => ranked(value),
            _ => value,
        }
    }

    /// Whether a value plays a part; those that do not need not be kept.
    fn counts(self, value: &Value) -> bool {
        match self {
            Aggregate::Count | Aggregate::First | Aggregate::Last | Aggregate::List => true,
            Aggregate::Sum | Aggregate::Mean => matches!(value, Value::Int(_) | Value::Float(_)),
            Aggregate::Least | Aggregate::Greatest | Aggregate::Distinct => !value.is_null(),
        }
    }

    fn method(self) -> &'static str {
        match self {
            Aggregate::Count => ".size()",
            Aggregate::Sum => ".sum()",
            Aggregate::Mean => ".avg()",
            Aggregate::Least => ".min()",
            Aggregate::Greatest => ".max()",
            Aggregate::First => ".first()",
            Aggregate::Last => ".last()",
            Aggregate::Distinct => ".distinct()",
            Aggregate::List => "",
        }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let no_leaf = |_| None;
        let text = |node| Text { node, leaf: &no_leaf };
        write_events(f, &self.name, &self.window)?;
        if let Some(filter) = &self.filter {
            write!(f, ".filter(e, {})", text(filter))?;
        }
        if let Some(item) = &self.item {
            write!(f, ".map(e, {})", text(item))?;
        }
        f.write_str(self.aggregate.method())
    }
}
