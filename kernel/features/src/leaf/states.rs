//! Leaf states of one source identity as one row.
//!
//! ```text
//! row    = table, then the states, one after the other in the order of the table
//! table  = list of (leaf, first sealed chunk, next sealed chunk, length of the state in bytes), ascending by leaf
//! ```
//!
//! Reading a row reads its table. A state is decoded when it is asked for, and encoded again when it changed; all others
//! are copied as they are. So an event costs what it touches, whatever else the identity has, and memory holds little more
//! than the row.
//!
//! A state that grows is sealed into chunks, which are rows of their own with the caller. The table tells their numbers,
//! so that a row can be read without them and a chunk can be named without a scan.

use std::borrow::Cow;
use std::ops::Range;

use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Leaf, LeafState};
use crate::event::EventFacts;
use crate::tree::LeafId;
use crate::zone::Zone;

/// A row, or a state in it, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableState {
    /// The row's table.
    #[error("a row of leaf states cannot be read: {0}")]
    Row(String),
    /// The state of one leaf; the others are not concerned.
    #[error("the state of leaf {:016x} cannot be read: {problem}", leaf.0)]
    Leaf { leaf: LeafId, problem: String },
}

/// A part of a leaf's state that leaves the row for one of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedChunk {
    pub leaf: LeafId,
    /// Its number among the chunks of the leaf and the identity.
    pub number: u32,
    pub state: LeafState,
}

/// Leaf states of one source identity that are stored together.
#[derive(Debug, Clone)]
pub struct LeafStates(Form);

#[derive(Debug, Clone)]
enum Form {
    /// The row, whose table was read before, and whether it tells of sealed chunks.
    Packed {
        row: Box<[u8]>,
        has_sealed: bool,
    },
    Open(Open),
}

/// A row whose table is read.
#[derive(Debug, Clone, Default)]
struct Open {
    /// Ascending by leaf.
    slots: Vec<Slot>,
    /// The row as it was read; slots point into it.
    bytes: Box<[u8]>,
    /// Whether a slot was dropped since.
    has_dropped: bool,
}

#[derive(Debug, Clone)]
struct Slot {
    leaf: LeafId,
    /// The numbers of the sealed chunks.
    sealed: Range<u32>,
    held: SlotState,
}

/// The part of a leaf's state that is in the row.
#[derive(Debug, Clone)]
enum SlotState {
    Encoded(Range<usize>),
    /// Decoded, and still what its bytes say.
    Read(Range<usize>, Box<LeafState>),
    Changed(Box<LeafState>),
}

/// About the bytes of a line of the table, room for which spares the row a copy: a hash, and three small numbers.
const LINE_BYTES: usize = 16;

/// About what an event adds to the states that it feeds: room for it spares them a copy.
const GROWTH_BYTES: usize = 64;

/// A line of the table.
#[derive(Serialize, Deserialize)]
struct Line {
    leaf: LeafId,
    first_sealed: u32,
    next_sealed: u32,
    state_bytes: u32,
}

impl Default for LeafStates {
    fn default() -> LeafStates {
        LeafStates(Form::Open(Open::default()))
    }
}

impl LeafStates {
    /// The states in a row that [`LeafStates::encode`] wrote. No bytes are the states of an identity without any.
    ///
    /// # Errors
    /// [`UnreadableState::Row`] when the table cannot be read or does not fit the row.
    pub fn decode(row: &[u8]) -> Result<LeafStates, UnreadableState> {
        Open::read(row.into()).map(|open| LeafStates(Form::Open(open)))
    }

    /// The row. States that did not change are copied, not encoded; where none did the row is at hand.
    pub fn encode(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Form::Packed { row, .. } => Cow::Borrowed(row),
            Form::Open(open) if !open.is_changed() => Cow::Borrowed(&open.bytes),
            Form::Open(open) => Cow::Owned(open.encode()),
        }
    }

    /// Whether there is nothing in it, as far as what was changed has been compacted.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Packed { row, .. } => row.is_empty(),
            Form::Open(open) => open.slots.is_empty(),
        }
    }

    /// Turn everything that was decoded into bytes again: what is to stay in memory takes no more than its row.
    pub fn compact(&mut self) {
        if let Form::Open(open) = &mut self.0 {
            let has_sealed = open.has_sealed();
            let row = if open.is_changed() { open.encode().into() } else { std::mem::take(&mut open.bytes) };
            self.0 = Form::Packed { row, has_sealed };
        }
    }

    /// About how many bytes of memory it takes.
    pub fn size_bytes(&self) -> usize {
        let held = match &self.0 {
            Form::Packed { row, .. } => row.len(),
            Form::Open(open) => open.size_bytes(),
        };
        size_of::<LeafStates>() + held
    }

    /// Whether something was changed since it was read or compacted, so that the row has to be written: compact what is
    /// written, not what is still to be.
    pub fn is_changed(&self) -> bool {
        match &self.0 {
            Form::Packed { .. } => false,
            Form::Open(open) => open.is_changed(),
        }
    }

    /// The leaves that have a state or sealed chunks, ascending.
    pub fn ids(&self) -> impl Iterator<Item = LeafId> {
        let ids: Vec<LeafId> = self.look().slots.iter().map(|slot| slot.leaf).collect();
        ids.into_iter()
    }

    /// The part of a leaf's state that is in the row, decoded and kept so.
    ///
    /// # Errors
    /// [`UnreadableState::Leaf`] when its bytes are none.
    pub fn get(&mut self, leaf: LeafId) -> Result<Option<&LeafState>, UnreadableState> {
        let open = self.open();
        match open.place(leaf) {
            Ok(place) => open.decoded(place).map(|state| Some(&*state)),
            Err(_) => Ok(None),
        }
    }

    /// The same for a reader that may not change anything: what is not decoded is decoded for this call alone.
    ///
    /// # Errors
    /// As [`LeafStates::get`].
    pub fn read(&self, leaf: LeafId) -> Result<Option<Cow<'_, LeafState>>, UnreadableState> {
        match &self.0 {
            Form::Open(open) => open.state(leaf),
            Form::Packed { row, .. } => {
                let bytes = packed_state(row, leaf);
                Ok(bytes.map(|bytes| decode_state(leaf, bytes)).transpose()?.map(Cow::Owned))
            }
        }
    }

    /// The part of a leaf's state that is in the row, for changing; an empty one where there is none.
    ///
    /// # Errors
    /// As [`LeafStates::get`].
    pub fn state_mut(&mut self, leaf: LeafId) -> Result<&mut LeafState, UnreadableState> {
        let open = self.open();
        let place = open.place(leaf).unwrap_or_else(|place| {
            open.slots.insert(place, Slot { leaf, sealed: 0..0, held: SlotState::Changed(Box::default()) });
            place
        });
        open.changed(place)
    }

    /// Take an event in, as [`Leaf::apply`] does. A leaf that it does not concern gets no state and no change.
    ///
    /// # Errors
    /// As [`LeafStates::get`].
    pub fn apply(
        &mut self,
        leaf: &Leaf,
        event: &EventFacts<'_>,
        now: Timestamp,
        zone: &Zone,
    ) -> Result<bool, UnreadableState> {
        let open = self.open();
        match open.place(leaf.id()) {
            Ok(place) => {
                let applied = leaf.apply(open.decoded(place)?, event, now, zone);
                if applied {
                    open.changed(place)?;
                }
                Ok(applied)
            }
            Err(place) => {
                let mut state = LeafState::default();
                let applied = leaf.apply(&mut state, event, now, zone);
                if applied {
                    let held = SlotState::Changed(Box::new(state));
                    open.slots.insert(place, Slot { leaf: leaf.id(), sealed: 0..0, held });
                }
                Ok(applied)
            }
        }
    }

    /// The numbers of a leaf's sealed chunks. Its value is that of all of them and of the state in the row.
    pub fn sealed(&self, leaf: LeafId) -> Range<u32> {
        if !self.has_sealed() {
            return 0..0;
        }
        let open = self.look();
        open.place(leaf).map_or(0..0, |place| open.slots[place].sealed.clone())
    }

    /// Whether any leaf has sealed chunks.
    pub fn has_sealed(&self) -> bool {
        match &self.0 {
            Form::Packed { has_sealed, .. } => *has_sealed,
            Form::Open(open) => open.has_sealed(),
        }
    }

    /// Take out what grew too large ([`LeafState::is_large`]), as chunks to be written in the same commit as the row.
    pub fn seal_large(&mut self) -> Vec<SealedChunk> {
        self.seal_where(LeafState::is_large)
    }

    pub(crate) fn seal_where(&mut self, is_chosen: impl Fn(&LeafState) -> bool) -> Vec<SealedChunk> {
        let Form::Open(open) = &mut self.0 else { return Vec::new() };
        let mut chunks = Vec::new();
        for slot in &mut open.slots {
            if let SlotState::Changed(state) = &mut slot.held
                && is_chosen(state)
            {
                chunks.push(SealedChunk { leaf: slot.leaf, number: slot.sealed.end, state: state.seal() });
                slot.sealed.end += 1;
            }
        }
        chunks
    }

    /// The leaf's chunks before this number are gone: nothing in them can count any more ([`Leaf::is_expired`]).
    ///
    /// # Errors
    /// As [`LeafStates::get`].
    pub fn forget_sealed(&mut self, leaf: LeafId, before: u32) -> Result<(), UnreadableState> {
        let open = self.open();
        if let Ok(place) = open.place(leaf)
            && open.slots[place].sealed.start < before
        {
            open.changed(place)?;
            let sealed = &mut open.slots[place].sealed;
            *sealed = before.min(sealed.end)..sealed.end;
        }
        Ok(())
    }

    /// Drop a leaf; the numbers of its chunks, which are to be deleted.
    pub fn remove(&mut self, leaf: LeafId) -> Range<u32> {
        let open = self.open();
        let Ok(place) = open.place(leaf) else { return 0..0 };
        open.has_dropped = true;
        open.slots.remove(place).sealed
    }

    /// Drop all leaves but those that pass the test; the dropped ones with the numbers of their chunks.
    pub fn retain(&mut self, mut is_kept: impl FnMut(LeafId) -> bool) -> Vec<(LeafId, Range<u32>)> {
        let mut dropped = Vec::new();
        let open = self.open();
        open.slots.retain(|slot| {
            let kept = is_kept(slot.leaf);
            if !kept {
                dropped.push((slot.leaf, slot.sealed.clone()));
            }
            kept
        });
        open.has_dropped |= !dropped.is_empty();
        dropped
    }

    fn open(&mut self) -> &mut Open {
        if let Form::Packed { row, .. } = &mut self.0 {
            self.0 = Form::Open(unpacked(std::mem::take(row)));
        }
        match &mut self.0 {
            Form::Open(open) => open,
            Form::Packed { .. } => unreachable!("it was opened above"),
        }
    }

    fn look(&self) -> Cow<'_, Open> {
        match &self.0 {
            Form::Packed { row, .. } => Cow::Owned(unpacked(row.clone())),
            Form::Open(open) => Cow::Borrowed(open),
        }
    }
}

/// The bytes of one state of a row that was packed here, without making its table.
fn packed_state(row: &[u8], wanted: LeafId) -> Option<&[u8]> {
    const PACKED: &str = "the row was written by `compact`, in this process";
    if row.is_empty() {
        return None;
    }
    let (lines, mut rest) = postcard::take_from_bytes::<usize>(row).expect(PACKED);
    let (mut before, mut found) = (0, None);
    for _ in 0..lines {
        let (line, behind) = postcard::take_from_bytes::<Line>(rest).expect(PACKED);
        rest = behind;
        let bytes = line.state_bytes as usize;
        if line.leaf == wanted {
            found = Some(before..before + bytes);
        }
        before += bytes;
    }
    found.map(|range| &rest[range])
}

/// The table of a row that was packed here.
fn unpacked(row: Box<[u8]>) -> Open {
    Open::read(row).expect("the row was written by `compact`, in this process")
}

impl Open {
    fn read(row: Box<[u8]>) -> Result<Open, UnreadableState> {
        if row.is_empty() {
            return Ok(Open::default());
        }
        let problem = |problem: &str| UnreadableState::Row(problem.to_owned());
        let (lines, bytes) =
            postcard::take_from_bytes::<Vec<Line>>(&row).map_err(|error| problem(&error.to_string()))?;
        let mut slots: Vec<Slot> = Vec::with_capacity(lines.len());
        let mut at = row.len() - bytes.len();
        for line in lines {
            if slots.last().is_some_and(|slot| slot.leaf >= line.leaf) || line.first_sealed > line.next_sealed {
                return Err(problem("its table is out of order"));
            }
            let to = at + line.state_bytes as usize;
            let sealed = line.first_sealed..line.next_sealed;
            slots.push(Slot { leaf: line.leaf, sealed, held: SlotState::Encoded(at..to) });
            at = to;
        }
        if at != row.len() {
            return Err(problem(&format!("its table tells of {at} bytes, and {} are there", row.len())));
        }
        Ok(Open { slots, bytes: row, has_dropped: false })
    }

    fn has_sealed(&self) -> bool {
        self.slots.iter().any(|slot| !slot.sealed.is_empty())
    }

    fn is_changed(&self) -> bool {
        self.has_dropped || self.slots.iter().any(|slot| matches!(slot.held, SlotState::Changed(_)))
    }

    fn encode(&self) -> Vec<u8> {
        let mut lines = Vec::with_capacity(self.slots.len());
        let mut states = Vec::with_capacity(self.bytes.len() + GROWTH_BYTES);
        for slot in &self.slots {
            let from = states.len();
            match &slot.held {
                SlotState::Encoded(range) | SlotState::Read(range, _) => {
                    states.extend_from_slice(&self.bytes[range.clone()])
                }
                SlotState::Changed(state) if state.is_empty() => {}
                SlotState::Changed(state) => {
                    states = postcard::to_extend(state.as_ref(), states)
                        .expect("a state holds only types that postcard can write, and memory to grow into");
                }
            }
            let state_bytes = u32::try_from(states.len() - from).expect("a state is sealed long before four gigabytes");
            if state_bytes > 0 || !slot.sealed.is_empty() {
                let Range { start: first_sealed, end: next_sealed } = slot.sealed;
                lines.push(Line { leaf: slot.leaf, first_sealed, next_sealed, state_bytes });
            }
        }
        if lines.is_empty() {
            return Vec::new();
        }
        let room = Vec::with_capacity(LINE_BYTES * lines.len() + states.len());
        let mut row = postcard::to_extend(&lines, room).expect("numbers can be written, and memory to grow into");
        row.append(&mut states);
        row
    }

    fn size_bytes(&self) -> usize {
        let decoded = |slot: &Slot| match &slot.held {
            SlotState::Encoded(_) => 0,
            SlotState::Read(_, state) | SlotState::Changed(state) => state.memory_bytes(),
        };
        self.bytes.len() + self.slots.capacity() * size_of::<Slot>() + self.slots.iter().map(decoded).sum::<usize>()
    }

    fn place(&self, leaf: LeafId) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&leaf, |slot| slot.leaf)
    }

    fn state(&self, leaf: LeafId) -> Result<Option<Cow<'_, LeafState>>, UnreadableState> {
        let Ok(place) = self.place(leaf) else { return Ok(None) };
        Ok(Some(match &self.slots[place].held {
            SlotState::Encoded(range) => Cow::Owned(decode_state(leaf, &self.bytes[range.clone()])?),
            SlotState::Read(_, state) | SlotState::Changed(state) => Cow::Borrowed(state),
        }))
    }

    /// The state of a slot, decoded if need be. Whoever changes it goes on to [`Open::changed`].
    fn decoded(&mut self, place: usize) -> Result<&mut LeafState, UnreadableState> {
        let slot = &mut self.slots[place];
        if let SlotState::Encoded(range) = &slot.held {
            let state = decode_state(slot.leaf, &self.bytes[range.clone()])?;
            slot.held = SlotState::Read(range.clone(), Box::new(state));
        }
        match &mut slot.held {
            SlotState::Read(_, state) | SlotState::Changed(state) => Ok(state),
            SlotState::Encoded(_) => unreachable!("it was decoded above"),
        }
    }

    fn changed(&mut self, place: usize) -> Result<&mut LeafState, UnreadableState> {
        self.decoded(place)?;
        let slot = &mut self.slots[place];
        slot.held = match std::mem::replace(&mut slot.held, SlotState::Encoded(0..0)) {
            SlotState::Read(_, state) => SlotState::Changed(state),
            held => held,
        };
        match &mut slot.held {
            SlotState::Changed(state) => Ok(state),
            SlotState::Encoded(_) | SlotState::Read(..) => unreachable!("it was decoded and marked above"),
        }
    }
}

fn decode_state(leaf: LeafId, bytes: &[u8]) -> Result<LeafState, UnreadableState> {
    // A leaf whose state is all sealed away has no bytes.
    if bytes.is_empty() {
        return Ok(LeafState::default());
    }
    let unreadable = |problem: String| UnreadableState::Leaf { leaf, problem };
    match postcard::take_from_bytes(bytes) {
        Ok((state, [])) => Ok(state),
        Ok((_, rest)) => Err(unreadable(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
