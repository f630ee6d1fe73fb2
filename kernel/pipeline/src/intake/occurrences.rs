//! Ids for rows of files that come without one: the content, and how many equal rows came before it in the same file. So a row
//! that is put in front, another order of rows and other line ends change nothing, and two equal rows of one file are two.

use std::collections::{BTreeMap, HashMap};

use kith_model::event::DraftEvent;
use kith_model::identity::is_missing_id;
use kith_model::plugin::Refusal;

use crate::accept::content;
use crate::accept::dedupe::MADE_ID;

/// Different rows without an id that one file may have, in the memory of its import.
const MAX_ROWS: usize = 4 << 20;

/// What one import has counted of rows without an id.
#[derive(Debug, Default)]
pub(crate) struct Occurrences {
    /// How often each content came.
    seen: HashMap<u64, u32>,
}

impl Occurrences {
    /// Go on where an import was left.
    pub(crate) fn go_on(&mut self, seen: BTreeMap<u64, u32>) {
        self.seen.extend(seen);
    }

    /// Give each event without an id one; their contents.
    ///
    /// # Errors
    /// The file has too many different rows without an id.
    pub(crate) fn name(&mut self, events: &mut [DraftEvent]) -> Result<Vec<u64>, Refusal> {
        let mut contents = Vec::new();
        let is_unnamed = |event: &&mut DraftEvent| event.message_id.as_deref().is_none_or(is_missing_id);
        for event in events.iter_mut().filter(is_unnamed) {
            let content = content::content_hash(event);
            #[allow(clippy::cast_possible_truncation, reason = "a half of the hash")]
            let half = content as u64;
            contents.push(half);
            let seen = self.seen.entry(half).or_default();
            *seen += 1;
            event.message_id = Some(format!("{MADE_ID}{content:032x}-{seen}"));
            if self.seen.len() > MAX_ROWS {
                return Err(Refusal {
                    status: 413,
                    code: "too-many-rows-without-id".into(),
                    message: format!(
                        "a file has at most {MAX_ROWS} different rows without an id; what came before is taken: name the \
                         column that holds each row's id in the source's configuration, or cut the file"
                    ),
                });
            }
        }
        Ok(contents)
    }
}
