//! Random histories: who does what, what is changed about the configuration, how time passes, and when the process dies.

use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;

use super::naive::CONDITIONS;
use crate::tests::harness::{event, identify};

/// What an event says beside whom it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Order,
    Added,
    Seen,
    City(&'static str),
    /// Nothing: it only ties its identifiers together.
    Link,
    /// The same, with stronger evidence.
    Alias,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedEvent {
    pub number: usize,
    pub identifiers: Vec<Identifier>,
    pub content: Content,
    /// How long before it is sent it happened.
    pub ago_ms: i64,
}

/// An event that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentEvent {
    pub told: PlannedEvent,
    pub time: Timestamp,
    /// Whether a correction took its place.
    pub is_superseded: bool,
}

impl PlannedEvent {
    /// The identifier whose event it is.
    pub(super) fn owner(&self) -> Identifier {
        let rank = |identifier: &&Identifier| match identifier.kind.as_str() {
            "user_id" => (0, identifier.value.clone()),
            "email" => (1, identifier.value.clone()),
            _ => (2, identifier.value.clone()),
        };
        self.identifiers.iter().min_by_key(rank).unwrap().clone()
    }

    /// What an order comes to; every third does not say.
    pub(super) fn amount(&self) -> Option<usize> {
        (!self.number.is_multiple_of(3)).then_some(self.number)
    }

    /// Whether a correction can say something else of it and leave its evidence as it is.
    fn can_be_corrected(&self) -> bool {
        !matches!(self.content, Content::Link | Content::Alias)
    }

    /// Whether it says something beside whom it names.
    pub(super) fn has_content(&self) -> bool {
        !matches!(self.content, Content::Link | Content::Alias | Content::Seen)
    }
}

impl SentEvent {
    pub(super) fn draft(&self) -> DraftEvent {
        let told = &self.told;
        let identifiers: Vec<(&str, &str)> =
            told.identifiers.iter().map(|identifier| (identifier.kind.as_str(), identifier.value.as_str())).collect();
        let (id, time) = (format!("m{}", told.number), self.time);
        match told.content {
            Content::Order => DraftEvent {
                properties: told.amount().map_or_else(String::new, |amount| format!(r#"{{"amount":{amount}}}"#)),
                ..event(&id, &identifiers, "Order Completed", time)
            },
            Content::Added => event(&id, &identifiers, "Product Added", time),
            Content::Seen => event(&id, &identifiers, "Page Seen", time),
            Content::City(city) => identify(&id, &identifiers, &format!(r#"{{"city":"{city}"}}"#), time),
            Content::Link => identify(&id, &identifiers, "", time),
            Content::Alias => DraftEvent { kind: EventKind::Alias, ..identify(&id, &identifiers, "", time) },
        }
    }
}

/// The tag model: whether it is there and runs, and from how many orders on its value is `many`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    Absent,
    Held,
    Running { many: usize },
}

/// One step of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch of events.
    Send(Vec<PlannedEvent>),
    /// The same as imported history, which sets nothing off.
    Import(Vec<PlannedEvent>),
    /// Imported events come again with other content. The time is moved by `ago_ms` from what it was.
    Correct(Vec<PlannedEvent>),
    /// Define the audience of that slot, or change its condition.
    Define {
        slot: usize,
        condition: usize,
    },
    Delete {
        slot: usize,
    },
    Model(Model),
    /// Give the model another configuration, which changes nothing about what it says.
    Reconfigure,
    /// Let time pass.
    Wait {
        ms: i64,
    },
    /// Die when so many commits more are durable, whatever is under way then.
    DieAfter {
        commits: u64,
    },
    /// The same, and be dead for so long: windows end before what was taken last is computed.
    DieForLong {
        commits: u64,
        ms: i64,
    },
    /// Stop and start.
    Restart,
}

impl Step {
    /// The events that it brings, if it brings any.
    pub(super) fn told(&self) -> Option<&Vec<PlannedEvent>> {
        match self {
            Step::Send(told) | Step::Import(told) | Step::Correct(told) => Some(told),
            _ => None,
        }
    }

    /// Whether time passes.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self, Step::Wait { .. } | Step::DieForLong { .. })
    }

    /// Whether it changes the configuration, which never sets a message off.
    pub(super) fn is_change(&self) -> bool {
        matches!(self, Step::Define { .. } | Step::Delete { .. } | Step::Model(_) | Step::Reconfigure)
    }
}

/// Steps after which everything is computed and looked at.
pub(super) type Round = Vec<Step>;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    pub(super) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.index(at + 1));
        }
    }
}

const HOUR: i64 = 3_600_000;

/// Makes one history.
pub(super) struct Author {
    random: Random,
    events: usize,
    /// Those that can be corrected.
    imported: Vec<PlannedEvent>,
}

/// Slots of audiences.
pub(super) const SLOTS: usize = 4;

impl Author {
    pub(super) fn new(seed: u64) -> Author {
        Author { random: Random(seed), events: 0, imported: Vec::new() }
    }

    pub(super) fn write(mut self, rounds: usize) -> Vec<Round> {
        let mut history: Vec<Round> = vec![(0..SLOTS).map(|slot| self.define(slot)).collect()];
        if self.random.below(2) == 0 {
            history.push(vec![Step::Model(Model::Running { many: 3 })]);
        }
        history.extend((0..rounds).map(|_| self.round()));
        history
    }

    fn define(&mut self, slot: usize) -> Step {
        Step::Define { slot, condition: self.random.index(CONDITIONS.len()) }
    }

    fn round(&mut self) -> Round {
        let mut round = match self.random.below(10) {
            0..3 => vec![self.send()],
            3 => vec![self.send(), self.send(), self.send()],
            4 => vec![self.wait()],
            5 => vec![self.change()],
            6 => {
                let slot = self.random.index(SLOTS);
                vec![self.define(slot), self.define(slot)]
            }
            _ => (0..2 + self.random.below(4)).map(|_| self.any()).collect(),
        };
        if self.random.below(3) == 0 {
            let commits = 1 + self.random.below(8);
            let at = self.random.index(round.len());
            round.insert(at, Step::DieAfter { commits });
        } else if self.random.below(5) == 0 {
            // Soon: what is taken shall not be computed any more.
            let step = Step::DieForLong { commits: 1 + self.random.below(2), ms: self.half_days() };
            let at = self.random.index(round.len());
            round.insert(at, step);
        }
        if self.random.below(6) == 0 {
            let at = self.random.index(round.len() + 1);
            round.insert(at, Step::Restart);
        }
        round
    }

    fn any(&mut self) -> Step {
        match self.random.below(11) {
            0..4 => self.send(),
            4 => self.wait(),
            5..7 => self.import(),
            7..9 if !self.imported.is_empty() => self.correct(),
            _ => self.change(),
        }
    }

    fn change(&mut self) -> Step {
        let slot = self.random.index(SLOTS);
        match self.random.below(9) {
            0..3 => self.define(slot),
            3 => Step::Delete { slot },
            4 => Step::Model(Model::Absent),
            5 => Step::Model(Model::Held),
            6 => Step::Reconfigure,
            _ => Step::Model(Model::Running { many: 2 + self.random.index(2) }),
        }
    }

    /// Half days, so that no window ends near the present: a few minutes pass when a message has to be sent again.
    fn wait(&mut self) -> Step {
        Step::Wait { ms: self.half_days() }
    }

    fn half_days(&mut self) -> i64 {
        12 * HOUR * (1 + self.random.below(5)).cast_signed()
    }

    fn import(&mut self) -> Step {
        let batch = self.batch();
        self.imported.extend(batch.iter().filter(|told| told.can_be_corrected()).cloned());
        Step::Import(batch)
    }

    /// Often of one person, often twice the same, in one file.
    fn correct(&mut self) -> Step {
        let corrections = (0..1 + self.random.below(4)).map(|_| {
            let newest = self.imported.len().min(4);
            let told = &self.imported[self.imported.len() - 1 - self.random.index(newest)];
            let (number, identifiers) = (told.number, told.identifiers.clone());
            let content = match self.random.below(5) {
                0 => Content::Order,
                1 => Content::Added,
                2 => Content::Seen,
                _ => Content::City(["Oslo", "Rome"][self.random.index(2)]),
            };
            // The time of evidence is that of the event that brought it first.
            let hours = if identifiers.len() == 1 { self.random.below(48).cast_signed() } else { 0 };
            PlannedEvent { number, identifiers, content, ago_ms: hours * HOUR }
        });
        Step::Correct(corrections.collect())
    }

    fn send(&mut self) -> Step {
        Step::Send(self.batch())
    }

    fn batch(&mut self) -> Vec<PlannedEvent> {
        (0..1 + self.random.below(3)).map(|_| self.told()).collect()
    }

    fn told(&mut self) -> PlannedEvent {
        let number = self.events;
        self.events += 1;
        let mut identifiers = vec![self.identifier()];
        let content = match self.random.below(12) {
            0..3 => Content::Order,
            3..5 => Content::Added,
            5 => Content::Seen,
            6..9 => Content::City(["Oslo", "Rome"][self.random.index(2)]),
            9..11 => Content::Link,
            _ => Content::Alias,
        };
        let others = match content {
            Content::Link | Content::Alias => 1,
            _ => self.random.index(4) / 2,
        };
        for _ in 0..others {
            let other = self.identifier();
            if !identifiers.contains(&other) {
                identifiers.push(other);
            }
        }
        // Each at a moment of its own, in the half hour before a full hour, so that the order of facts and of evidence is plain.
        let hours = self.random.below(96).cast_signed();
        let ago_ms = hours * HOUR + HOUR / 2 - i64::try_from(number).unwrap();
        PlannedEvent { number, identifiers, content, ago_ms }
    }

    fn identifier(&mut self) -> Identifier {
        let (kind, letter, many, domain) =
            [("user_id", "u", 3, ""), ("anonymous_id", "a", 4, ""), ("email", "e", 4, "@x.io")][self.random.index(3)];
        Identifier::new(kind, format!("{letter}{}{domain}", self.random.below(many)))
    }
}
