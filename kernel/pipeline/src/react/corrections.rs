//! What follows from a correction, and from taking an event back: the leaves that the event fed are made again from the history
//! that is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::{EventFacts, FeatureName, LeafId, Value};
use kith_model::audience::Cause;
use kith_model::change::{Change, SupersededEvent};
use kith_model::event::Event;
use kith_model::id::{Position, SourceIdentityId};
use kith_store::{ChangeLimits, Key, KeyRange, LogRecord, ReadError, row};
use serde_json::value::RawValue;

use super::effects::Effect;
use super::feed::RecordError;
use super::objections::is_of_profiling;
use super::reactor::{FEED_BYTES, Reactor};
use super::touch::Profiling;
use super::walks::PAGE_EVENTS;
use crate::profiles::facts::read_contribution;
use crate::setup::Undone;

/// Whether a record is a part of what the one behind it says: an event that another takes the place of, or who belongs to whom by it.
/// Between the two nobody is looked at.
pub(super) fn is_one_with_next(record: &LogRecord) -> bool {
    let change = row::decode::<Change>(&record.bytes);
    matches!(change, Ok(Change::Superseded(_) | Change::Identified(_)))
}

impl Reactor {
    /// Read on until the last of the records is at an end of what is said, however little a pass takes on.
    pub(super) fn complete(&self, records: &mut Vec<LogRecord>) -> Result<(), ReadError> {
        let one = ChangeLimits { records: 1, bytes: FEED_BYTES };
        while let Some(last) = records.last().filter(|last| is_one_with_next(last)) {
            let more = self.shared.store.changes(self.workspace.id, last.position, one)?.records;
            if more.is_empty() {
                break;
            }
            records.extend(more);
        }
        Ok(())
    }

    /// An event is no longer part of its person's history, which the store has without it already; or it is again, and the store has it.
    pub(super) fn gone(&mut self, position: Position, gone: &SupersededEvent, cause: Cause) -> Result<(), RecordError> {
        let event = &gone.event;
        let identity = event.identity;
        if !self.identities.load(identity)? {
            let what = format!("source identity {identity}");
            let problem = "the log names it, but it has no rows".to_owned();
            return Err(ReadError::Corrupt { what, problem, row: None }.into());
        }
        let Some(person) = self.identities.person(identity) else { return Ok(()) };
        let (profile, is_known) = (person.profile(), person.derived.is_some());
        // Where nothing was computed of it yet, its next event brings all there is.
        if !is_known {
            return self.look_at_forms(event, cause, position);
        }
        self.touch(profile, cause, position)?;
        self.identities.load_profile(profile)?;
        let facts = self.take_back_traits(event, identity)?;
        let leaves = self.rebuild(position, gone)?;
        if let Some(touch) = self.pass.touched.get_mut(&profile) {
            leaves.into_iter().for_each(|leaf| touch.leaf(leaf, || Value::Unknown));
            touch.features.extend(facts.into_iter().map(|name| FeatureName::Trait(name.as_str().into())));
            if is_of_profiling(event) {
                touch.profiling = Profiling::MayHaveChanged;
            }
        }
        self.look_at_forms(event, cause, position)
    }

    /// Events of a part of the feed that are taken back in it. Whoever was not met before has not come, and whoever was has what
    /// else came.
    pub(super) fn gone_within(&self, records: &[LogRecord]) -> BTreeSet<Position> {
        if !self.compiled.setup.undos.iter().any(|undo| undo.of == Undone::Events) {
            return BTreeSet::new();
        }
        let gone = records.iter().filter_map(|record| match row::decode::<Change>(&record.bytes) {
            Ok(Change::TakenBack(gone)) => Some(gone.position),
            _ => None,
        });
        gone.collect()
    }

    /// The facts are what accept has made of them; the names of those that the event stated, and of those that are others since,
    /// e.g. because they have found room.
    fn take_back_traits(&mut self, event: &Event, identity: SourceIdentityId) -> Result<BTreeSet<String>, ReadError> {
        if event.traits.is_empty() {
            return Ok(BTreeSet::new());
        }
        let stated = serde_json::from_str::<BTreeMap<String, &RawValue>>(&event.traits).unwrap_or_default();
        let mut names: BTreeSet<String> = stated.into_keys().collect();
        let (contribution, profiling) = read_contribution(self.shared.store.as_ref(), self.workspace.id, identity)?;
        if let Some(person) = self.identities.person_mut(identity) {
            let before = std::mem::replace(&mut person.contribution, contribution);
            let now = &person.contribution.traits;
            let is_other = |name: &&String| now.get(*name) != before.traits.get(*name);
            names.extend(now.keys().chain(before.traits.keys()).filter(is_other).cloned());
            person.profiling = profiling;
        }
        Ok(names)
    }

    /// Make the leaves again that the event fed, of what came before `position` and was fed to them; all that it fed. One that
    /// was made again behind the event within this part of the feed is without it already: the store was as far then as the
    /// whole part, so that a thousand events of one person that are taken back together are one look at the history.
    fn rebuild(&mut self, position: Position, gone: &SupersededEvent) -> Result<BTreeSet<LeafId>, RecordError> {
        let identity = gone.event.identity;
        let person_key = super::readiness::key_of(identity, self.workspace.id);
        let fed: BTreeSet<LeafId> = self.fed_by(&gone.event).collect();
        let has_it =
            |leaf: &LeafId| self.pass.rebuilt.get(&(identity, *leaf)).is_none_or(|rebuilt| *rebuilt < gone.position);
        let wanted: BTreeSet<LeafId> = fed.iter().copied().filter(has_it).collect();
        if wanted.is_empty() {
            return Ok(fed);
        }
        self.pass.rebuilt.extend(wanted.iter().map(|leaf| ((identity, *leaf), position)));
        let keys = self.identities.drop_leaves(identity, |leaf| !wanted.contains(&leaf));
        if !keys.is_empty() {
            self.pass.effects.push(Effect::Dropped { keys });
        }
        let all = Key::events(self.workspace.id, identity).range();
        let mut range = KeyRange { from: all.from, to: all.to };
        loop {
            let page = self.shared.store.scan(&range, PAGE_EVENTS)?;
            for (key, value) in &page.rows {
                // What comes later in the feed is taken in there.
                if key.position() < position
                    && let Change::Recorded(event) = row::decode::<Change>(value)?
                {
                    // A walk that has not come to this event yet will bring it.
                    let takes = |leaf| self.readiness.takes(leaf, person_key.as_bytes(), key.as_bytes());
                    let taken: BTreeSet<LeafId> = wanted.iter().copied().filter(|leaf| takes(*leaf)).collect();
                    self.take_past(identity, &event, &taken)?;
                }
            }
            match page.next {
                Some(next) => range.from = next,
                None => break,
            }
        }
        Ok(fed)
    }

    /// The leaves that an event feeds.
    fn fed_by(&self, event: &Event) -> impl Iterator<Item = LeafId> + use<> {
        let compiled = Arc::clone(&self.compiled);
        let source = compiled.plan.source_names.get(&event.source).map_or("", String::as_str);
        let facts = EventFacts::new(event, source);
        compiled.plan.program.leaves_for(&facts).map(|leaf| leaf.id()).collect::<Vec<_>>().into_iter()
    }
}
