//! The events of one person, newest first, a page at a time, over all source identities together.
//!
//! The store is read forwards only, so a page goes back in time by stretches, the newest first, and reads each in all
//! histories side by side. One that holds many more events than the page is not read to its end but cut shorter. So a page
//! costs about as many rows as it shows, however long the histories are and however many of them there are.

use kith_model::change::Change;
use kith_model::event::{Event, RecordedEvent};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, KeyRange, ReadError, Store, row};

use super::page::{PAGE_BYTES, PageRoom};
use super::{QueryError, page, profile, workspace};
use crate::shared::KernelState;
use crate::turns::Deadline;
use crate::views::{EventPage, PageRequest};

/// How many rows are read at first, until it is known how large they are.
const FIRST_ROWS: usize = 8;

/// How far back the first stretch goes: an hour. Each that was not too long is followed by one four times as long.
const FIRST_STRETCH: i128 = 3_600_000 << POSITION_BITS;

/// A page of a profile's events, newest first by event time, over all its source identities.
pub(crate) fn events(
    shared: &KernelState,
    id: WorkspaceId,
    profile: ProfileId,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<Option<EventPage>, QueryError> {
    workspace(shared, id)?;
    let Some((_, members)) = profile::member_ids(shared, id, profile)? else { return Ok(None) };
    let before = cursor.map(parse_cursor).transpose()?;
    // One more tells whether a page follows.
    let wanted = limit + 1;
    let most = 2 * wanted + 8;
    let histories = Histories { store: shared.store.as_ref(), workspace: id, members, most };
    let mut events = histories.newest(before, shared.clock.now(), wanted)?;
    let mut room = PageRoom::new(limit);
    let shown = events.iter().take_while(|recorded| {
        let is_shown = !room.is_full();
        room.take(size(&recorded.event));
        is_shown
    });
    let shown = shown.count();
    let read: usize = events.iter().map(|recorded| size(&recorded.event)).sum();
    // Where bytes ended the reading there may be more; the next page tells.
    let has_more = events.len() > shown || read >= PAGE_BYTES;
    events.truncate(shown);
    let next = events.last().filter(|_| has_more).map(|last| format!("{}.{}", last.event.time.0, last.position));
    Ok(Some(EventPage { events, next }))
}

/// Events that are read at once while one is searched.
const SEARCHED_AT_ONCE: usize = 64;

/// The newest event of a person that is meant, among the newest so many.
pub(super) fn newest_of(
    shared: &KernelState,
    id: WorkspaceId,
    members: &[SourceIdentityId],
    most: usize,
    deadline: &Deadline<'_>,
    is_meant: impl Fn(&RecordedEvent) -> bool,
) -> Result<Option<RecordedEvent>, QueryError> {
    let (store, members) = (shared.store.as_ref(), members.to_vec());
    let histories = Histories { store, workspace: id, members, most: 2 * SEARCHED_AT_ONCE };
    let (mut before, mut searched) = (None, 0);
    while searched < most {
        deadline.go_on()?;
        let events = histories.newest(before, shared.clock.now(), SEARCHED_AT_ONCE)?;
        let Some(last) = events.last() else { break };
        (before, searched) = (Some(Place::new(last.event.time.0, last.position.0)), searched + events.len());
        let found = events.into_iter().find(&is_meant);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What an event takes in an answer, about.
pub(super) fn size(event: &Event) -> usize {
    event.properties.len() + event.traits.len() + event.context.len() + event.name.len() + 256
}

fn parse_cursor(text: &str) -> Result<Place, QueryError> {
    let parts = text.rsplit_once('.').and_then(|(time, position)| Some((time.parse().ok()?, position.parse().ok()?)));
    parts.map(|(time, position)| Place::new(time, position)).ok_or_else(|| page::unknown(text))
}

/// Where an event stands in a history: by its time, then by its position in the log. Both are one number, so that what lies
/// between two places can be divided, down to the events of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(i128);

const POSITION_BITS: u32 = 64;

impl Place {
    const FIRST: Place = Place(i128::MIN);
    const LAST: Place = Place(i128::MAX);

    fn new(time: i64, position: u64) -> Place {
        Place((i128::from(time) << POSITION_BITS) | i128::from(position))
    }

    fn time(self) -> i64 {
        i64::try_from(self.0 >> POSITION_BITS).unwrap_or(i64::MAX)
    }

    fn position(self) -> u64 {
        u64::try_from(self.0 & i128::from(u64::MAX)).unwrap_or(u64::MAX)
    }

    fn key(self, workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::event(workspace, identity, Timestamp(self.time())).followed_by(&self.position().to_be_bytes())
    }
}

/// What the histories hold between two places.
enum Stretch {
    /// All events, the newest first.
    Events(Vec<RecordedEvent>),
    /// More than [`Histories::most`], or several of more than [`PAGE_BYTES`], at this place and behind it.
    TooMany(Place),
}

/// The histories of the members of one profile.
struct Histories<'s> {
    store: &'s dyn Store,
    workspace: WorkspaceId,
    members: Vec<SourceIdentityId>,
    /// Events that one stretch may have: more than are wanted, so that few stretches are too long, and not many more, because
    /// those of a stretch that is too long are read in vain.
    most: usize,
}

impl Histories<'_> {
    /// The newest events before a place; at least as many as are wanted, if there are, or [`PAGE_BYTES`] of them.
    fn newest(&self, before: Option<Place>, now: Timestamp, wanted: usize) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut end = before.unwrap_or(Place::LAST);
        // All from `crowded` to `end` is known to be too much, and all that is not before `end` is found.
        let mut crowded = match self.between(Place::FIRST, end)? {
            Stretch::Events(all) => return Ok(all),
            Stretch::TooMany(from) => from,
        };
        let (mut found, mut length): (Vec<RecordedEvent>, _) = (Vec::new(), FIRST_STRETCH);
        let bytes_of = |found: &[RecordedEvent]| found.iter().map(|recorded| size(&recorded.event)).sum::<usize>();
        if before.is_none() {
            // Senders whose clocks are ahead may have dated something later than now.
            let now = Place::new(now.0.saturating_add(1), 0);
            match self.between(now, end)? {
                Stretch::Events(events) => (found, end) = (events, now),
                Stretch::TooMany(from) => crowded = from,
            }
        }
        while found.len() < wanted && bytes_of(&found) < PAGE_BYTES && end > Place::FIRST {
            end = self.without_gap(end, length);
            let remaining = end.0.saturating_sub(crowded.0);
            length = length.min(remaining / 4).max(1);
            let begin = Place(end.0.saturating_sub(length));
            match self.between(begin, end)? {
                Stretch::Events(events) => {
                    found.extend(events);
                    (end, length) = (begin, length.saturating_mul(4));
                    if end <= crowded {
                        crowded = Place::FIRST;
                    }
                }
                Stretch::TooMany(from) => crowded = from,
            }
        }
        Ok(found)
    }

    /// Within one moment no event stands behind the newest position of the log: a stretch shorter than a moment ends there.
    fn without_gap(&self, end: Place, length: i128) -> Place {
        if length >> POSITION_BITS > 0 {
            return end;
        }
        let newest = Place::new(Place(end.0.saturating_sub(1)).time(), self.store.head_of(self.workspace).0 + 1);
        end.min(newest)
    }

    /// The events from one place to before another.
    fn between(&self, begin: Place, end: Place) -> Result<Stretch, ReadError> {
        let (mut rows, mut bytes, mut events, mut oldest) = (0_usize, 0_usize, Vec::new(), Place::LAST);
        for member in &self.members {
            let mut range = KeyRange { from: begin.key(self.workspace, *member), to: end.key(self.workspace, *member) };
            loop {
                // As many as fit by the size of those before.
                let fitting = bytes.checked_div(rows).map_or(FIRST_ROWS, |each| PAGE_BYTES / each.max(1) + 1);
                let page = self.store.scan(&range, fitting.min(self.most + 1 - rows))?;
                rows += page.rows.len();
                bytes += page.rows.iter().map(|(_, value)| value.len()).sum::<usize>();
                for (key, value) in page.rows {
                    if let Change::Recorded(event) = row::decode(&value)? {
                        oldest = oldest.min(Place::new(event.time.0, key.position().0));
                        events.push(RecordedEvent { position: key.position(), event });
                    }
                }
                if rows > self.most || (rows > 1 && bytes > PAGE_BYTES) {
                    return Ok(Stretch::TooMany(if oldest < end { oldest } else { begin }));
                }
                match page.next {
                    Some(next) => range.from = next,
                    None => break,
                }
            }
        }
        events.sort_unstable_by_key(|recorded| std::cmp::Reverse((recorded.event.time, recorded.position)));
        Ok(Stretch::Events(events))
    }
}
