//! What the history of somebody says without the events that are taken back, and with what such events refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use kith_model::change::Change;
use kith_model::consent::{Consents, Giver, Outcome, is_consent, refusal};
use kith_model::event::Event;
use kith_model::id::{InstallationId, Position, SourceIdentityId};
use kith_model::identity::{Edge, Evidence};
use kith_model::profile::Contribution;
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};

use super::Gone;
use crate::accept::people::hear_again;
use crate::accept::readers::ReadBy;
use crate::accept::taking_back::{EventUndo, consents};
use crate::accept::unit::Workspace;
use crate::profiles::consents::{StatementRow, read_statements};
use crate::profiles::facts::{each_row_until, record_event, record_some};

/// How much of histories may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    rows: usize,
    bytes: usize,
}

/// What is read of one person. A slice that has read as much of several is cut, so that nobody waits long behind it.
pub(super) const HISTORY: Room = Room { rows: if cfg!(test) { 200 } else { 50_000 }, bytes: 32 << 20 };

/// Why the events of a person stay.
#[derive(Debug)]
pub(super) enum Stays {
    Unreadable(ReadError),
    /// There is more of the person than is read.
    TooMuch,
}

impl From<ReadError> for Stays {
    fn from(error: ReadError) -> Stays {
        Stays::Unreadable(error)
    }
}

impl Room {
    /// What is left of it once a person was read, of whom this is left.
    pub(super) fn without(self, left: Room) -> Room {
        let rows = self.rows.saturating_sub(HISTORY.rows - left.rows);
        Room { rows, bytes: self.bytes.saturating_sub(HISTORY.bytes - left.bytes) }
    }

    pub(super) fn is_over(self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.rows.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        (self.rows, self.bytes) = left.unwrap_or_default();
        left.is_some()
    }

    /// Look at every row below `prefix`.
    pub(super) fn each(
        &mut self,
        store: &dyn Store,
        prefix: &Key,
        mut look: impl FnMut(&Key, &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), Stays> {
        let looked = each_row_until(store, prefix, |key, value| match self.takes(value.len()) {
            true => look(key, value).map(ControlFlow::Continue),
            false => Ok(ControlFlow::Break(())),
        })?;
        if looked.is_break() { Err(Stays::TooMuch) } else { Ok(()) }
    }
}

/// An event as what is kept of its statements names it. A source that repeats the ids of its messages has several of one id.
type StatementName = (InstallationId, String, Timestamp, Timestamp);

/// With which right an event spoke of consents, and whom it answered.
#[derive(Default)]
struct Right {
    giver: Giver,
    answers: BTreeMap<String, Vec<SourceIdentityId>>,
}

/// The rights of an identity's events, as far as their statements are kept.
#[derive(Default)]
pub(super) struct Rights(BTreeMap<StatementName, Right>);

impl Rights {
    fn of(statements: Vec<StatementRow>) -> Rights {
        let mut rights: BTreeMap<StatementName, Right> = BTreeMap::new();
        for StatementRow { source, message_id, received_at, time, giver, answers, .. } in statements {
            let name = (source, message_id, received_at, time);
            match rights.get_mut(&name) {
                // Of two events that nothing tells apart nobody knows which might.
                Some(right) if right.giver != giver => *right = Right::default(),
                Some(right) => right.answers.extend(answers),
                None => drop(rights.insert(name, Right { giver, answers })),
            }
        }
        Rights(rights)
    }

    fn find(&self, event: &Event) -> Option<&Right> {
        let time = event.time.min(event.received_at);
        self.0.get(&(event.source, event.message_id.clone(), event.received_at, time))
    }
}

/// What an identity's history says without what is taken back.
#[derive(Default)]
pub(super) struct Rest {
    /// With the consents that refused something, which stay.
    pub facts: Contribution,
    /// With what was refused by events that are gone.
    pub consents: Consents,
    pub has_events: bool,
    /// The ids of messages that other events of the source have, too.
    pub ids: BTreeSet<String>,
}

/// What is asked of a history.
pub(super) struct Asked<'a> {
    pub undo: &'a EventUndo,
    pub read: &'a ReadBy,
    pub gone: &'a [Gone],
    /// Whether something is said of consents.
    pub of_consents: bool,
}

/// How an event stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Stands,
    /// A correction took its place, and what it said of consents stays.
    Superseded,
    /// It was taken back or is to be, and what it refused stays.
    Gone,
}

impl Asked<'_> {
    fn standing(&self, event: &Event, position: Position) -> Standing {
        if self.read.has(event, position) { Standing::Gone } else { Standing::Stands }
    }
}

impl Workspace {
    /// What the history of an identity says without these events, and without the others that were read by the same, whose turn
    /// comes; of consents where that is asked.
    pub(super) fn rest_of(
        &self,
        identity: SourceIdentityId,
        asked: &Asked<'_>,
        room: &mut Room,
    ) -> Result<Rest, Stays> {
        let mut rest = Rest::default();
        if !asked.of_consents && asked.gone.iter().all(|(_, event)| event.traits.is_empty()) {
            // Nothing is asked of it but whether it has another one.
            let positions: BTreeSet<Position> = asked.gone.iter().map(|(position, _)| *position).collect();
            let page = self.store.scan(&Key::events(self.id, identity).range(), asked.gone.len() + 1)?;
            rest.has_events = page.rows.iter().any(|(key, _)| !positions.contains(&key.position()));
            return Ok(rest);
        }
        self.hear_rest(&mut rest, identity, identity, asked, room)?;
        Ok(rest)
    }

    /// What was heard under a normal form besides what an identity said there that is one of its spellings, or was.
    pub(super) fn rest_of_form(
        &self,
        form: SourceIdentityId,
        identity: SourceIdentityId,
        asked: &Asked<'_>,
        room: &mut Room,
    ) -> Result<Rest, Stays> {
        let mut rest = Rest::default();
        // It was said under its spellings, and is in their histories.
        let mut heard = BTreeSet::from([form, identity]);
        room.each(self.store.as_ref(), &Key::edges(self.id, form), |_, value| {
            let Edge { id, .. } = row::decode(value)?;
            let other = if id.low == form { id.high } else { id.low };
            let is_spelling = match id.evidence {
                Evidence::Spelling(_) => id.stands_behind() == Some(other),
                Evidence::Former(_) => id.stands_behind() == Some(form),
                Evidence::Alias | Evidence::SameEvent | Evidence::SameId(_) | Evidence::ByHand(_) => false,
            };
            heard.extend(is_spelling.then_some(other));
            Ok(())
        })?;
        for spelling in heard {
            self.hear_rest(&mut rest, spelling, form, asked, room)?;
        }
        Ok(rest)
    }

    /// Take in what a history says of an identity, which may be the form of what is spelled.
    fn hear_rest(
        &self,
        rest: &mut Rest,
        identity: SourceIdentityId,
        of: SourceIdentityId,
        asked: &Asked<'_>,
        room: &mut Room,
    ) -> Result<(), Stays> {
        let store = self.store.as_ref();
        let rights = match asked.of_consents {
            true => Some(Rights::of(read_statements(store, self.id, identity)?)),
            false => None,
        };
        // Whom somebody answers is noted of the identity alone that was named.
        let is_own = identity == of;
        let ids: BTreeSet<&str> = asked.gone.iter().map(|(_, event)| event.message_id.as_str()).collect();
        let positions: BTreeSet<Position> = asked.gone.iter().map(|(position, _)| *position).collect();
        let mut hear = |event: &Event, standing: Standing| {
            rest.take_facts(event, standing);
            if let Some(rights) = &rights {
                rest.hear(rights, event, standing, is_own);
            }
            let is_same = ids.contains(event.message_id.as_str()) && asked.undo.sources.contains(&event.source);
            if is_same && standing == Standing::Stands {
                rest.ids.insert(event.message_id.clone());
            }
        };
        let mut has_events = false;
        room.each(store, &Key::events(self.id, identity), |key, value| {
            let position = key.position();
            has_events |= !positions.contains(&position);
            if let Change::Recorded(event) = row::decode(value)? {
                hear(&event, asked.standing(&event, position));
            }
            Ok(())
        })?;
        if asked.of_consents {
            room.each(store, &Key::superseded_of(self.id, identity), |_, value| {
                match row::decode::<Change>(value)? {
                    Change::Superseded(before) => {
                        let standing = match asked.standing(&before.event, before.position) {
                            Standing::Stands => Standing::Superseded,
                            gone => gone,
                        };
                        hear(&before.event, standing);
                    }
                    Change::TakenBack(before) => hear(&before.event, Standing::Gone),
                    _ => {}
                }
                Ok(())
            })?;
        }
        rest.has_events |= has_events;
        Ok(())
    }
}

impl Rest {
    fn take_facts(&mut self, event: &Event, standing: Standing) {
        match standing {
            Standing::Stands => record_event(&mut self.facts, event),
            Standing::Superseded => record_some(&mut self.facts, event, |name, _| is_consent(name)),
            Standing::Gone => {
                record_some(&mut self.facts, event, |name, said| is_consent(name) && refusal(said.get()).is_some())
            }
        }
    }

    /// Take in what an event says of consents. One that is gone agrees to nothing, and so does one of which nobody knows any more
    /// whether it may.
    fn hear(&mut self, rights: &Rights, event: &Event, standing: Standing, is_own: bool) {
        let said = consents(event);
        if said.is_empty() {
            return;
        }
        let right = rights.find(event);
        let (giver, is_gone) = (right.map(|right| right.giver).unwrap_or_default(), standing == Standing::Gone);
        for text in said {
            let heard = hear_again(&mut self.consents, event, text, giver, is_gone);
            let counted = heard.iter().filter(|answer| answer.refused.is_none() && answer.outcome == Outcome::Counted);
            for answer in counted.filter(|_| is_own) {
                if let Some(answered) = right.and_then(|right| right.answers.get(&answer.key))
                    && let Some(consent) = self.consents.agreement_mut(&answer.key)
                {
                    consent.answers.clone_from(answered);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ends_with_rows_or_with_bytes() {
        let mut room = Room { rows: 2, bytes: 10 };
        assert_eq!([4, 7, 1].map(|bytes| room.takes(bytes)), [true, false, false]);
        let mut room = Room { rows: 1, bytes: 10 };
        assert_eq!([4, 4].map(|bytes| room.takes(bytes)), [true, false]);
        let left = Room { rows: HISTORY.rows - 3, bytes: HISTORY.bytes };
        assert_eq!((HISTORY.without(left), HISTORY.without(left).is_over()), (left, false));
        assert!(Room { rows: 3, bytes: 1 }.without(left).is_over());
    }
}
