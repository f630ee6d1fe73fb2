//! Addresses that no record which counts has any more: a correction took the place of whatever named them, or it was taken back.
//!
//! That the identifiers of a corrected record are one person stays evidence, and so does what was said under them. Where to write
//! to is what the corrected record says: whoever mends a mistyped address wants nothing sent to the one before.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use kith_model::change::Change;
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Evidence, Identifier, IdentityRules};
use kith_store::{Key, ReadError, Store, row};

use super::parted::is_address_type;
use super::retracted::{self, Spell};
use super::{Person, ProfileLookup};
use crate::profiles::facts::each_row;

/// Events that are read at once.
const PAGE_EVENTS: usize = 500;

/// How much of a person's events is read: of those that are superseded, and as much of the others. Of a person with more of the
/// first any address may be one of theirs, and one that none of the first of the others names is left out: rather than to an address
/// that was corrected nothing is sent.
#[derive(Clone, Copy)]
struct Room {
    events: usize,
    bytes: usize,
}

const MAX: Room = Room { events: 20_000, bytes: 32 << 20 };

impl Room {
    /// Look at events below `prefix` until `look` has seen enough; whether there was room for all.
    fn each(
        &mut self,
        store: &dyn Store,
        prefix: &Key,
        mut look: impl FnMut(&Key, Change) -> ControlFlow<()>,
    ) -> Result<bool, ReadError> {
        let mut range = prefix.range();
        loop {
            let page = store.scan(&range, PAGE_EVENTS)?;
            for (key, value) in &page.rows {
                let Some(left) = self.events.checked_sub(1).zip(self.bytes.checked_sub(value.len())) else {
                    return Ok(false);
                };
                (self.events, self.bytes) = left;
                if look(key, row::decode::<Change>(value)?).is_break() {
                    return Ok(true);
                }
            }
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(true),
            }
        }
    }
}

/// Leave out the addresses of a person that no events but superseded ones, or those taken back, have named. A suppression of
/// one holds all the same. Of whom events were taken back, what is known of that is noted.
pub(in super::super) fn leave_out(
    store: &dyn Store,
    by: (WorkspaceId, &IdentityRules),
    found: &mut ProfileLookup,
) -> Result<(), ReadError> {
    let ProfileLookup::Person(person) = found else { return Ok(()) };
    let gone = only_superseded(store, by, person, MAX).and_then(|(gone, spells)| {
        retracted::note(store, by.0, person, spells)?;
        Ok(gone)
    });
    match gone {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => {
            let is_gone = |identifier: &Identifier| by.1.judge(identifier).is_ok_and(|form| gone.contains(&form));
            let (gone, kept) = std::mem::take(&mut person.identifiers).into_iter().partition(is_gone);
            person.identifiers = kept;
            person.parted.extend::<Vec<Identifier>>(gone);
        }
        Err(error @ ReadError::Io { .. }) => return Err(error),
        Err(error) => *found = ProfileLookup::Unreadable(error.to_string()),
    }
    Ok(())
}

/// The normal forms of the addresses that superseded events have named and nothing else does; and when those of these events that
/// were taken back could set something off.
fn only_superseded(
    store: &dyn Store,
    (workspace, rules): (WorkspaceId, &IdentityRules),
    person: &Person,
    most: Room,
) -> Result<(BTreeSet<Identifier>, Vec<Spell>), ReadError> {
    let own: Vec<_> = person.consents.iter().filter(|said| said.beside.is_none()).collect();
    let members: Vec<SourceIdentityId> = own.iter().map(|said| said.identity).collect();
    let addresses: BTreeSet<&Identifier> =
        own.iter().filter_map(|said| said.form.as_ref()).filter(|form| is_address_type(&form.kind, rules)).collect();
    let (mut gone, mut spells) = (BTreeSet::new(), Vec::new());
    let mut room = most;
    for member in &members {
        let had_room = room.each(store, &Key::superseded_of(workspace, *member), |key, change| {
            if let Change::TakenBack(taken_back) = &change {
                spells.push((taken_back.position, key.position()));
            }
            if let Change::Superseded(superseded) | Change::TakenBack(superseded) = change {
                gone.extend(forms(&superseded.event, rules).filter(|form| addresses.contains(form)));
            }
            ControlFlow::Continue(())
        })?;
        if !had_room {
            gone.extend(addresses.iter().copied().cloned());
            spells.push(retracted::ANY);
            break;
        }
    }
    if gone.is_empty() {
        return Ok((gone, spells));
    }
    // What an alias or a person said is no record.
    for said in own.iter().filter(|said| said.form.is_some()) {
        each_row(store, &Key::edges(workspace, said.identity), |_, value| {
            let Edge { id, .. } = row::decode(value)?;
            if matches!(id.evidence, Evidence::Alias | Evidence::ByHand(_))
                && let Some(form) = &said.form
            {
                gone.remove(form);
            }
            Ok(())
        })?;
    }
    let mut room = most;
    for member in &members {
        let had_room = room.each(store, &Key::events(workspace, *member), |_, change| {
            if let Change::Recorded(event) = change
                && event.origin != EventOrigin::Kernel
            {
                for form in forms(&event, rules) {
                    gone.remove(&form);
                }
            }
            if gone.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !had_room || gone.is_empty() {
            break;
        }
    }
    Ok((gone, spells))
}

/// The normal forms of the identifiers that came with an event.
fn forms<'e>(event: &'e Event, rules: &'e IdentityRules) -> impl Iterator<Item = Identifier> + 'e {
    event.identifiers.iter().filter_map(|identifier| rules.judge(identifier).ok())
}

#[cfg(test)]
mod tests {
    use kith_model::change::SupersededEvent;
    use kith_model::consent::fold::{ConsentRow, Contributor};
    use kith_model::event::EventKind;
    use kith_model::id::{InstallationId, Position, ProfileId};
    use kith_model::time::Timestamp;
    use kith_store::{Operation, Unit};

    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);

    fn email(name: &str) -> Identifier {
        Identifier::new("email", format!("{name}@x.io"))
    }

    fn event(identity: SourceIdentityId, address: &str) -> Event {
        Event {
            message_id: "m".into(),
            kind: EventKind::Track,
            name: "Order Completed".into(),
            time: Timestamp(5),
            received_at: Timestamp(5),
            source: InstallationId(1),
            identity,
            identifiers: vec![email(address)],
            properties: String::new(),
            traits: String::new(),
            context: String::new(),
            origin: EventOrigin::Import,
            flags: Vec::new(),
            original_time: None,
            place: 0,
            reader: 0,
        }
    }

    /// All superseded events of a person were read at each of their messages.
    #[test]
    fn of_more_superseded_events_than_are_read_every_address_may_be_one_of_theirs() {
        let store = kith_store::memory();
        let id = |number: u8| SourceIdentityId([number; 16]);
        let superseded = || {
            let record = Change::Superseded(SupersededEvent { position: Position(1), event: event(id(1), "gone") });
            let row = Some(Key::superseded(WORKSPACE, id(1), Timestamp(5)));
            Operation::Append { workspace: WORKSPACE, record: row::encode(&record), row }
        };
        let recorded = Operation::Append {
            workspace: WORKSPACE,
            record: row::encode(&Change::Recorded(event(id(1), "kept"))),
            row: Some(Key::event(WORKSPACE, id(1), Timestamp(5))),
        };
        let operations = vec![superseded(), superseded(), superseded(), recorded];
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        let said = (1..).zip(["gone", "kept", "unnamed"]).map(|(number, name)| Contributor {
            identity: id(number),
            kind: "email".into(),
            form: Some(email(name)),
            row: ConsentRow::Absent,
            beside: None,
        });
        let person = Person {
            profile: ProfileId(id(1)),
            identifiers: Vec::new(),
            parted: Vec::new(),
            consents: said.collect(),
            suppressed: None,
            retraction: None,
        };
        let rules = IdentityRules::default();
        let found = |most: Room| -> Vec<Identifier> {
            only_superseded(&store, (WORKSPACE, &rules), &person, most).unwrap().0.into_iter().collect()
        };
        assert_eq!(found(MAX), [email("gone")]);
        assert_eq!(found(Room { events: 2, ..MAX }), [email("gone"), email("unnamed")]);
        assert_eq!(found(Room { bytes: 10, ..MAX }), [email("gone"), email("kept"), email("unnamed")]);
    }
}
