//! Messages that an event had set off which was taken back with what a version of its connector read. Such a message leaves only where
//! what it was made for holds all the same: the person is a member since then, or is none where it was made for leaving.

use std::collections::BTreeMap;

use kith_model::audience::Membership;
use kith_model::change::Movement;
use kith_model::id::{AudienceId, Position, WorkspaceId};
use kith_store::{Key, ReadError, Store, row};

use super::{Person, Verdict, refuse};
use crate::profiles::facts::get_one;
use crate::react::effects::CURSOR;
use crate::rows::DeliveryRow;
use crate::rows::derived::{Cursor, Derived};

/// When an event could set something off that was taken back: from its place in the log on, and up to where that says that it is in
/// no history any more.
pub(in crate::deliver) type Spell = (Position, Position);

/// Of a person of whom more events are superseded than are read any may be the cause of anything.
pub(super) const ANY: Spell = (Position(0), Position(u64::MAX));

/// What is known of a person of whom events were taken back.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::deliver) struct Retraction {
    pub spells: Vec<Spell>,
    /// How far the log was computed.
    pub computed: Position,
    /// Not older than that.
    pub memberships: BTreeMap<AudienceId, Membership>,
}

impl Retraction {
    /// What becomes of a message by it; `None` where it is for others to decide.
    pub(super) fn verdict(&self, row: &DeliveryRow) -> Option<Verdict> {
        // Of a message of before causes were noted any of them may be the cause.
        let may_be_of = |spell: &&Spell| row.cause.is_none_or(|cause| spell.0 <= cause && cause < spell.1);
        let mut own = self.spells.iter().filter(may_be_of).peekable();
        own.peek()?;
        if own.any(|spell| *spell != ANY && spell.1 > self.computed) {
            return Some(Verdict::Later);
        }
        let member = self.memberships.get(&row.audience);
        let holds = match row.movement {
            Movement::Entered => member.is_some_and(|member| member.since <= row.created_at),
            Movement::Left => member.is_none(),
        };
        (!holds).then(|| refuse("what set it off was taken back"))
    }
}

/// Note what is known of a person of whom events were taken back.
pub(super) fn note(
    store: &dyn Store,
    workspace: WorkspaceId,
    person: &mut Person,
    spells: Vec<Spell>,
) -> Result<(), ReadError> {
    if spells.is_empty() {
        return Ok(());
    }
    let cursor = get_one(store, &Key::progress(workspace, CURSOR))?;
    let computed = cursor.map(|cursor| row::decode::<Cursor>(&cursor)).transpose()?.map(|cursor| cursor.position);
    // Read behind the cursor, it is not older.
    let derived = get_one(store, &Key::derived(workspace, person.profile.0))?;
    let derived = derived.map(|derived| row::decode::<Derived>(&derived)).transpose()?;
    let memberships = derived.map(|derived| derived.memberships).unwrap_or_default();
    person.retraction = Some(Retraction { spells, computed: computed.unwrap_or_default(), memberships });
    Ok(())
}

#[cfg(test)]
mod tests {
    use kith_model::audience::ConsentBasis;
    use kith_model::delivery::DeliveryState;
    use kith_model::id::{InstallationId, ProfileId, SourceIdentityId};
    use kith_model::time::Timestamp;

    use super::*;

    fn message(movement: Movement, cause: Option<u64>) -> DeliveryRow {
        DeliveryRow {
            channel: InstallationId(3),
            audience: AudienceId(1),
            movement,
            profile: ProfileId(SourceIdentityId([1; 16])),
            purpose: "marketing".into(),
            basis: ConsentBasis::OptIn,
            payload: "{}".into(),
            created_at: Timestamp(50),
            state: DeliveryState::Pending { attempts: 0, due_at: Timestamp(50), last_reason: None },
            cause: cause.map(Position),
        }
    }

    /// What of a message of somebody who is a member since then: `-` for others to decide, `?` later, `x` refused.
    fn told(row: &DeliveryRow, since: Option<i64>, computed: u64) -> char {
        let membership = |since| (AudienceId(1), Membership { since: Timestamp(since), cause: Position(1) });
        let retraction = Retraction {
            spells: vec![(Position(5), Position(20)), (Position(6), Position(8))],
            computed: Position(computed),
            memberships: since.map(membership).into_iter().collect(),
        };
        match retraction.verdict(row) {
            None => '-',
            Some(Verdict::Later) => '?',
            Some(Verdict::Refuse { reason }) if reason.contains("taken back") => 'x',
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_is_refused_where_nothing_but_what_was_taken_back_speaks_for_it() {
        let entered = |cause| message(Movement::Entered, cause);
        let at = |cause: u64| told(&entered(Some(cause)), None, 30);
        assert_eq!([4, 5, 19, 20].map(at), ['-', 'x', 'x', '-'], "by when it could be the cause");
        let member = |since| told(&entered(Some(7)), Some(since), 30);
        assert_eq!([50, 51].map(member), ['-', 'x'], "a member since then, or again");
        let left = |since| told(&message(Movement::Left, Some(7)), since, 30);
        assert_eq!([left(None), left(Some(51))], ['-', 'x']);
        assert_eq!(told(&entered(Some(7)), Some(50), 19), '?', "what follows is not computed yet");
        assert_eq!([told(&entered(None), None, 30), told(&entered(None), Some(50), 30)], ['x', '-'], "not noted");
    }
}
