//! What cannot become an event, or a part of one that found no room, is kept aside: within a quota of its request and one of
//! its source, because a small request can hold a hundred thousand parts that nobody can read.
//!
//! A letter is named by when it first came and by the hash of its text and of why it was refused. So a file that is sent twice
//! leaves no letter twice: the letter says how often and when last.

pub(crate) mod draft;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kith_model::budget::{Budget, table};
use kith_model::event::{DraftEvent, RejectedRecord};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::RecordPlace;
use kith_model::time::Timestamp;
use kith_model::tracking::Judgements;
use kith_store::{Key, Operation, ReadError, Store, row};
use xxhash_rust::xxh3::Xxh3;

use super::Submission;
use super::counts::Counts;
use super::rules::RuledDraft;
use super::validate;
use crate::rows::{Aside, Letter, LetterTime, RawForm, RecordOrigin};

/// Rows that are kept of one source; older ones go when newer ones come.
const MAX_KEPT_ROWS: u64 = table::REJECTED_KEPT.default;

/// Old rows that one unit deletes at most.
const MAX_DROPPED_ROWS: u64 = 1_024;

/// The connector's state that is kept with a letter, in bytes: the header of a file with some hundred columns.
const MAX_RESUME_BYTES: usize = 4 << 10;

/// What the events of a submission were read from.
pub(crate) struct Input {
    pub path: String,
    pub query: String,
    pub content_type: String,
    pub body: Vec<u8>,
    /// The connector's state behind it.
    pub resume: Option<Vec<u8>>,
    /// Where each of the events stands in it.
    pub places: Vec<RecordPlace>,
    /// What the source's tracking plan says of them.
    pub judged: Judgements,
    /// Where the connector failed on the whole of it.
    pub has_failed: bool,
}

/// What a submission is to whoever keeps its parts: how many are kept singly, while the rest is one counted row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PartsOf {
    /// Its sender is answered, and has what was refused still.
    #[default]
    Request,
    /// Nobody is answered, and the other side is not asked for it again: as many as are kept of its source.
    Page,
}

impl PartsOf {
    fn budget(self) -> &'static Budget {
        match self {
            PartsOf::Request => &table::REJECTED_PARTS,
            PartsOf::Page => &table::REJECTED_KEPT,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            PartsOf::Request => "request",
            PartsOf::Page => "page",
        }
    }
}

/// The letter that the events of a submission come from. It goes in the commit in which all of them are taken; otherwise it
/// stays, with the newer reason.
pub(crate) struct ReplayedLetter {
    pub key: Key,
    pub letter: Letter,
}

/// A part that is refused, or of which something was left out.
pub(super) struct Part {
    pub record: RejectedRecord,
    pub form: RawForm,
}

impl Submission {
    /// Where the event number `index` stands in the input, if the connector said.
    pub(super) fn place_of(&self, index: usize) -> Option<u64> {
        self.input.as_deref().and_then(|input| input.places.get(index)).and_then(|place| place.place)
    }

    /// A part of the event number `index` at the place and with the text that it has in the input, as far as the connector said.
    /// Where rules take something out of it, it is the event as they leave it: what is not to be stored is in no letter either.
    pub(super) fn part(
        &self,
        index: usize,
        ruled: &RuledDraft<'_>,
        code: &str,
        message: String,
        form: RawForm,
    ) -> Part {
        let input = self.input.as_deref();
        let place = input.and_then(|input| input.places.get(index));
        let span = place.and_then(|place| place.span.clone()).filter(|_| !ruled.hides);
        let sent = span.zip(input).and_then(|(span, input)| {
            let text = std::str::from_utf8(input.body.get(span)?).ok()?;
            // Of UTF-16 half the bytes are zeros.
            (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
        });
        let form = if sent.is_none() && form == RawForm::Sent { RawForm::Event } else { form };
        let record = RejectedRecord {
            place: self.place_of(index).unwrap_or(index as u64),
            code: code.to_owned(),
            message,
            raw: sent
                .unwrap_or_else(|| if ruled.hides { ruled_text(&ruled.event) } else { validate::excerpt(&ruled.came) }),
        };
        Part { record, form }
    }

    /// What the text of a part is that the connector could not read.
    pub(super) fn form(&self) -> RawForm {
        if self.input.as_ref().is_some_and(|input| input.has_failed) { RawForm::Request } else { RawForm::Sent }
    }

    fn letter(&self, part: Part) -> Letter {
        let Part { mut record, form } = part;
        validate::cut(&mut record.raw);
        validate::cut(&mut record.message);
        validate::cut(&mut record.code);
        let input = self.input.as_deref();
        let fits = |input: &&Input| input.resume.as_ref().is_none_or(|resume| resume.len() <= MAX_RESUME_BYTES);
        let came = input.filter(fits).map(|input| RecordOrigin {
            path: input.path.clone(),
            query: input.query.clone(),
            content_type: input.content_type.clone(),
            resume: input.resume.clone(),
        });
        let (at, origin) = (self.received_at, self.origin);
        let reader = self.sender.reader.as_deref().cloned();
        Letter { at, last_at: at, times: 1, record, form, came, origin, is_edited: false, reader }
    }
}

/// An event as the rules left it, as JSON.
fn ruled_text(event: &DraftEvent) -> String {
    let mut text = draft::write_ruled(event);
    validate::cut(&mut text);
    text
}

/// What was kept aside of one request so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KeptParts {
    singly: u64,
    rest: u64,
    /// Parts that became no event.
    refused: u64,
}

impl KeptParts {
    /// Whether another part is kept singly.
    pub(super) fn has_room(&self, of: PartsOf) -> bool {
        self.singly < of.budget().default
    }

    /// Keep a part singly while there is room, else count it.
    pub(super) fn add(&mut self, submission: &Submission, part: Part, letters: &mut Vec<Letter>) {
        self.refused += u64::from(part.form != RawForm::Taken);
        if !self.has_room(submission.parts_of) {
            self.rest += 1;
            return;
        }
        letters.push(submission.letter(part));
        self.singly += 1;
    }

    /// The submission ends: one row for all that was only counted.
    pub(super) fn end(&mut self, submission: &Submission, letters: &mut Vec<Letter>) {
        let rest = std::mem::take(&mut self.rest);
        if rest > 0 {
            let (budget, of) = (submission.parts_of.budget(), submission.parts_of.as_str());
            budget.count();
            let record = RejectedRecord {
                place: 0,
                code: "more-parts".into(),
                message: format!("{rest} more parts of this {of} were refused; {} are kept", budget.default),
                raw: String::new(),
            };
            letters.push(submission.letter(Part { record, form: RawForm::Counted }));
        }
    }
}

/// The hash of why a record was refused and of its text, or of the reason's words where there is no text.
fn content(record: &RejectedRecord) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(record.code.as_bytes());
    hash.update(&[0]);
    hash.update(if record.raw.is_empty() { record.message.as_bytes() } else { record.raw.as_bytes() });
    hash.digest128().to_be_bytes()
}

/// Takes a letter out, and with it that its content is known.
pub(crate) fn take_out(workspace: WorkspaceId, key: &Key) -> Vec<Operation> {
    let mut operations = vec![Operation::Delete(key.clone())];
    if let Some((source, name)) = source_of(workspace, key) {
        operations.extend(
            name.last_chunk::<16>().map(|content| Operation::Delete(Key::letter_content(workspace, source, content))),
        );
    }
    operations
}

/// Whose a letter is, and what its name is behind that.
pub(crate) fn source_of(workspace: WorkspaceId, key: &Key) -> Option<(InstallationId, &[u8])> {
    let (source, name) = key.strip(&Key::set_aside(workspace, None))?.split_first_chunk::<4>()?;
    Some((InstallationId(u32::from_be_bytes(*source)), name))
}

/// Keeps letters, those of each source within their number.
pub(super) struct Quota {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// Sources of which the group deletes rows already, and where its next unit goes on: the store has what is deleted still.
    group: HashMap<InstallationId, Key>,
    /// Letters as the units of the group leave them, which the store does not have yet; `None` for those that they delete.
    letters: HashMap<Key, Option<Letter>>,
    /// When a content first came, of those.
    contents: HashMap<Key, Timestamp>,
    unit: UnitLetters,
}

/// The same of the unit under way.
#[derive(Default)]
struct UnitLetters {
    /// Of which source it deletes rows, and up to where.
    dropped: Option<(InstallationId, Key)>,
    letters: HashMap<Key, Option<Letter>>,
    contents: HashMap<Key, Timestamp>,
}

impl Quota {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> Quota {
        Quota {
            store,
            workspace,
            group: HashMap::new(),
            letters: HashMap::new(),
            contents: HashMap::new(),
            unit: UnitLetters::default(),
        }
    }

    /// Keep the letters of a unit, and where it is the last one of its submission, do what that does with other letters.
    pub(super) fn keep(
        &mut self,
        submission: &Submission,
        letters: Vec<Letter>,
        kept: Option<KeptParts>,
        counts: &mut Counts,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let (letters, of_again) = match &submission.again {
            None => (letters, Vec::new()),
            Some(_) => letters.into_iter().partition(|letter| letter.form == RawForm::Taken),
        };
        let added = self.put(submission.source, letters, operations)?;
        self.drop_oldest(submission.source, added, counts, operations)?;
        let Some(kept) = kept else { return Ok(()) };
        let mut gone: Vec<Key> = deleted(submission).cloned().collect();
        if let Some(again) = &submission.again {
            if kept.refused == 0 {
                operations.extend(take_out(self.workspace, &again.key));
                gone.push(again.key.clone());
            } else {
                let newest = of_again.into_iter().next_back().map(|letter| letter.record);
                let RejectedRecord { code, message, .. } = newest.unwrap_or_else(|| again.letter.record.clone());
                let record = RejectedRecord { code, message, ..again.letter.record.clone() };
                let last_at = again.letter.last_at.max(submission.received_at);
                let letter = Letter { record, last_at, ..again.letter.clone() };
                operations.push(Operation::Put(again.key.clone(), row::encode(&Aside::Record(Box::new(letter)))));
            }
        }
        for key in gone {
            // Its quota may have dropped it meanwhile.
            let is_there = self.store.get(std::slice::from_ref(&key))?.pop().flatten().is_some();
            if let Some((source, _)) = source_of(self.workspace, &key).filter(|_| is_there) {
                let held = counts.set_aside.entry(source).or_default();
                *held = held.saturating_sub(1);
            }
            self.unit.letters.insert(key, None);
        }
        Ok(())
    }

    /// Put letters; how many of them are new. One whose content is known is counted in its letter.
    fn put(
        &mut self,
        source: InstallationId,
        letters: Vec<Letter>,
        operations: &mut Vec<Operation>,
    ) -> Result<u64, ReadError> {
        let mut by_content: BTreeMap<[u8; 16], Letter> = BTreeMap::new();
        for letter in letters {
            by_content.entry(content(&letter.record)).and_modify(|held| held.times += 1).or_insert(letter);
        }
        let keys: Vec<Key> =
            by_content.keys().map(|content| Key::letter_content(self.workspace, source, content)).collect();
        let known = self.store.get(&keys)?;
        let mut added = 0;
        for ((key, known), (content, mut letter)) in keys.into_iter().zip(known).zip(by_content) {
            let first_at = match self.contents.get(&key) {
                Some(at) => Some(*at),
                None => known.and_then(|known| row::decode::<LetterTime>(&known).ok()).map(|LetterTime(at)| at),
            };
            let name = |at| Key::letter(self.workspace, source, at, &content);
            match first_at.map(name).map(|name| Ok::<_, ReadError>((self.held(&name)?, name))).transpose()? {
                Some((Some(held), _)) => {
                    let times = held.times.saturating_add(letter.times);
                    letter = Letter { times, last_at: held.last_at.max(letter.last_at), ..held };
                }
                Some((None, _)) | None => {
                    added += 1;
                    operations.push(Operation::Put(key.clone(), row::encode(&LetterTime(letter.at))));
                    self.unit.contents.insert(key, letter.at);
                }
            }
            let name = Key::letter(self.workspace, source, letter.at, &content);
            operations.push(Operation::Put(name.clone(), row::encode(&Aside::Record(Box::new(letter.clone())))));
            self.unit.letters.insert(name, Some(letter));
        }
        Ok(added)
    }

    /// A letter as the group leaves it so far. One that cannot be read begins again.
    fn held(&self, name: &Key) -> Result<Option<Letter>, ReadError> {
        if let Some(held) = self.letters.get(name) {
            return Ok(held.clone());
        }
        let row = self.store.get(std::slice::from_ref(name))?.pop().flatten();
        Ok(row.and_then(|row| match row::decode::<Aside>(&row) {
            Ok(Aside::Record(letter)) => Some(*letter),
            Ok(Aside::Computation { .. } | Aside::Delivery { .. } | Aside::Unreadable { .. }) | Err(_) => None,
        }))
    }

    /// Count the rows that a unit adds, and delete the oldest ones beyond the quota.
    fn drop_oldest(
        &mut self,
        source: InstallationId,
        added: u64,
        counts: &mut Counts,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        if added == 0 {
            return Ok(());
        }
        let held = counts.set_aside.entry(source).or_default();
        *held += added;
        let beyond = held.saturating_sub(MAX_KEPT_ROWS).min(MAX_DROPPED_ROWS);
        if beyond == 0 {
            return Ok(());
        }
        table::REJECTED_KEPT.count();
        let mut range = Key::set_aside(self.workspace, Some(source)).range();
        if let Some(behind) = self.group.get(&source) {
            range.from = behind.clone();
        }
        let page = self.store.scan(&range, usize::try_from(beyond).unwrap_or(usize::MAX))?;
        self.unit.dropped = Some((source, page.next.unwrap_or(range.to)));
        for (key, _) in page.rows {
            // One that this unit, or one before it, has just written stays, or is gone already.
            if self.unit.letters.contains_key(&key) || self.letters.contains_key(&key) {
                continue;
            }
            *held -= 1;
            counts.set_aside_dropped += 1;
            operations.extend(take_out(self.workspace, &key));
            self.unit.letters.insert(key, None);
        }
        Ok(())
    }

    pub(super) fn keep_unit(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.group.extend(unit.dropped);
        self.letters.extend(unit.letters);
        self.contents.extend(unit.contents);
    }

    pub(super) fn forget_unit(&mut self) {
        self.unit = UnitLetters::default();
    }

    pub(super) fn ended(&mut self) {
        self.forget_unit();
        self.group.clear();
        self.letters.clear();
        self.contents.clear();
    }
}

/// The rows that a submission deletes with its last unit.
fn deleted(submission: &Submission) -> impl Iterator<Item = &Key> {
    let aside = Key::set_aside(submission.workspace, None);
    submission.with.iter().filter_map(move |operation| match operation {
        Operation::Delete(key) if key.strip(&aside).is_some() => Some(key),
        _ => None,
    })
}
