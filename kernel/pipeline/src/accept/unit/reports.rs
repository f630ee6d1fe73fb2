//! What became of each event, counted for the answer and for the source, and kept aside where something of it was refused.

use kith_model::event::RejectedRecord;

use super::notes::Note;
use super::{Draft, tying};
use crate::accept::alone::{MESSAGE_ID_CONFLICT, conflict_words};
use crate::accept::aside::Part;
use crate::accept::named::LeftOut;
use crate::accept::rules::RuledDraft;
use crate::accept::validate;
use crate::rows::RawForm;
use crate::views::Verdict;

/// Records that no connector could read in one unit: each letter may have 70 KiB, and events come beside them.
const MAX_UNIT_LETTERS: usize = 256;

impl Draft<'_> {
    /// Count what of a taken event could not be followed or names nobody, and keep the first of each kind aside.
    pub(super) fn note(
        &mut self,
        ruled: &RuledDraft<'_>,
        index: usize,
        left_out: &[LeftOut],
        tied: tying::TyingOutcome,
    ) {
        self.acceptance.not_followed += tied.not_followed;
        self.acceptance.identifiers_left_out += left_out.len() as u64;
        for (code, message) in self.first_of_kind(left_out).into_iter().chain(tied.notes) {
            let part = self.submission.part(index, ruled, code, message, RawForm::Taken);
            self.counts.set_aside += 1;
            self.kept.add(self.submission, part, &mut self.letters);
        }
    }

    /// What to keep aside of values that name nobody: the first of each type and reason.
    fn first_of_kind(&mut self, left_out: &[LeftOut]) -> Vec<Note> {
        let first = left_out.iter().filter(|value| self.left_out.insert((value.kind.clone(), value.why.code())));
        first.map(|value| (value.why.code(), format!("the event was taken without an identifier: {value}"))).collect()
    }

    /// Count a verdict, and keep aside what was refused; `heard` says what became of a refusal of consent in it.
    pub(super) fn report(&mut self, ruled: &RuledDraft<'_>, index: usize, verdict: Verdict, heard: &str) {
        match verdict {
            Verdict::Accepted => self.acceptance.accepted += 1,
            Verdict::Corrected => self.acceptance.corrected += 1,
            Verdict::Duplicate => self.acceptance.duplicate += 1,
            Verdict::Dropped => self.acceptance.dropped += 1,
            Verdict::Conflict { message_id } => {
                self.acceptance.conflict += 1;
                let message = conflict_words(&message_id) + heard;
                self.reject(self.submission.part(index, ruled, MESSAGE_ID_CONFLICT, message, RawForm::Sent));
            }
            Verdict::Rejected(RejectedRecord { code, message, .. }) => {
                self.reject(self.submission.part(index, ruled, &code, message + heard, RawForm::Sent));
            }
        }
    }

    /// Refuse what the connector could not read, from that number on, as much of it as one unit keeps; where the next unit goes on.
    pub(super) fn reject_unread(&mut self, from: usize) -> usize {
        let mut next = from;
        for record in self.submission.rejected.iter().skip(from) {
            // What is only counted takes no room.
            if self.letters.len() >= MAX_UNIT_LETTERS && self.kept.has_room(self.submission.parts_of) {
                break;
            }
            self.reject(Part { record: with_word_on_consent(record.clone()), form: self.submission.form() });
            next += 1;
        }
        next
    }

    pub(super) fn reject(&mut self, part: Part) {
        self.acceptance.rejected_count += 1;
        self.counts.set_aside += 1;
        self.counts.reject(&part.record.code);
        if self.acceptance.rejected.len() < self.submission.most_listed() {
            self.acceptance.rejected.push(self.submission.listed(&part.record));
        }
        self.kept.add(self.submission, part, &mut self.letters);
    }
}

/// What a connector could not read, with the word that a consent in it was not taken where it may hold one. A connector that
/// took a refusal out of it says so itself.
fn with_word_on_consent(mut record: RejectedRecord) -> RejectedRecord {
    if validate::mentions_consent(&record.raw) && !validate::mentions_consent(&record.message) {
        record.message.push_str("; what it says of consent was not taken");
    }
    record
}
