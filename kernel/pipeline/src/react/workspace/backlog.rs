//! The first computation of what is new in a plan: leaves from history, then every profile once, a slice with each pass.

use std::collections::BTreeSet;

use kith_features::{EventFacts, LeafId};
use kith_model::change::Change;
use kith_model::id::{Position, ProfileId, SourceIdentityId};
use kith_store::keys::PersonRow;
use kith_store::{Key, Operation, ReadError};

use std::sync::Arc;

use super::{Ready, SLICE_ROWS, WorkspaceReactor};
use crate::profiles::facts::each_row;
use crate::rows;

/// The first computation of something new, going over all people in key order.
pub(super) enum Backlog {
    /// Leaves from history; identities before `next` are done.
    Leaves { leaves: BTreeSet<LeafId>, next: Key },
    /// Every profile, for models and audiences.
    Profiles { next: Key },
}

impl WorkspaceReactor {
    /// A slice of the first computation of what is new.
    pub(super) fn continue_backlog(
        &mut self,
        cursor: Position,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        match self.backlog.take() {
            None => Ok(()),
            Some(Backlog::Leaves { leaves, next }) => {
                let done = self.backfill_leaves(&leaves, &next, cursor);
                self.backlog = Some(Backlog::Leaves { leaves: leaves.clone(), next });
                self.pass.backlog = Some(match done? {
                    Some(next) => Some(Backlog::Leaves { leaves, next }),
                    None => {
                        let mut ready = self.ready.clone();
                        ready.leaves.extend(leaves);
                        self.set_ready(ready, operations);
                        Some(Backlog::Profiles { next: Key::people(self.id) })
                    }
                });
                Ok(())
            }
            Some(Backlog::Profiles { next }) => {
                let done = self.sweep(&next, cursor);
                self.backlog = Some(Backlog::Profiles { next });
                self.pass.backlog = Some(match done? {
                    Some(next) => Some(Backlog::Profiles { next }),
                    None => {
                        let ready = Ready {
                            leaves: self.ready.leaves.clone(),
                            tokens: self.plan.tokens(),
                            audiences: self.plan.audience_ids(),
                        };
                        self.set_ready(ready, operations);
                        None
                    }
                });
                Ok(())
            }
        }
    }

    fn set_ready(&mut self, ready: Ready, operations: &mut Vec<Operation>) {
        operations.push(Operation::Put(Key::progress(self.id, "ready"), rows::encode(&ready)));
        self.pass.ready = Some(ready);
    }

    /// The identities of the next slice of people rows, and where the slice after it begins.
    fn slice(&mut self, next: &Key) -> Result<(Vec<SourceIdentityId>, Option<Key>), ReadError> {
        let mut range = Key::people(self.id).range();
        range.from = next.clone();
        let page = self.shared.store.scan(&range, SLICE_ROWS)?;
        let heads = page.rows.iter().filter_map(|(key, _)| key.as_person());
        let identities = heads.filter(|(_, row)| *row == PersonRow::Head as u8).map(|(identity, _)| identity).collect();
        Ok((identities, page.next))
    }

    /// Read the history of a slice of identities into new leaves.
    fn backfill_leaves(
        &mut self,
        leaves: &BTreeSet<LeafId>,
        next: &Key,
        cursor: Position,
    ) -> Result<Option<Key>, ReadError> {
        let (identities, after) = self.slice(next)?;
        let plan = Arc::clone(&self.plan);
        let zone = self.setup.zone.clone();
        let now = self.now;
        for identity in identities {
            let mut history = Vec::new();
            let events = Key::events(self.id, identity);
            each_row(self.shared.store.as_ref(), &events, |key, value| {
                let position = key.as_bytes().last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                if let (true, Change::Recorded(event)) = (position <= cursor.0, rows::decode("an event", value)?) {
                    history.push(event);
                }
                Ok(())
            })?;
            let (person, dirty) = self.person(identity)?;
            let wanted = |leaf: &LeafId| leaves.contains(leaf);
            let held = &mut person.kept.leaves;
            let before = held.len();
            held.retain(|leaf, _| !wanted(leaf) && plan.program.leaf(*leaf).is_some());
            *dirty |= before != held.len();
            for event in &history {
                let source = plan.source_names.get(&event.source).map_or("", String::as_str);
                let facts = EventFacts::new(event, source);
                for leaf in plan.program.leaves_for(&event.name).filter(|leaf| wanted(&leaf.id())) {
                    *dirty |= leaf.apply(held.entry(leaf.id()).or_default(), &facts, now, &zone);
                }
            }
        }
        Ok(after)
    }

    /// Look at a slice of profiles.
    fn sweep(&mut self, next: &Key, cursor: Position) -> Result<Option<Key>, ReadError> {
        let (identities, after) = self.slice(next)?;
        for identity in identities {
            if self.is_profile(ProfileId(identity))? {
                self.touch(ProfileId(identity), cursor);
                self.pass.looked += 1;
            }
        }
        Ok(after)
    }
}
