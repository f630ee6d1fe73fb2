//! The way out of a record that is too long to be looked at whole, across the pieces that a file comes in. It ends where the record
//! does, so that nothing inside of it is taken for a record.

use serde::{Deserialize, Serialize};

use crate::event::Problem;
use crate::json_records::{self, Position};
use crate::record::{self, Dialect, Outline};
use crate::settings::Format;

/// A record that was reported and is being passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The line on which it begins.
    pub(crate) line: u64,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// Fields of a line, or of several.
    Fields(Outline),
    /// To the end of the line.
    Line,
    /// Brackets of JSON.
    Brackets(json_records::Skip),
}

impl Skip {
    /// From where a record begins with these bytes.
    pub(crate) fn new(format: Format, position: Position, line: u64, record: &[u8]) -> Skip {
        let has_brackets = position == Position::Array || record.first() == Some(&b'{');
        let way = match format {
            Format::Csv => Way::Fields(Outline::Begin),
            Format::Json if has_brackets => Way::Brackets(json_records::Skip::new(position)),
            Format::Json => Way::Line,
        };
        Skip { line, way }
    }

    /// Where in these bytes the record ends; `None` where it goes on behind them.
    pub(crate) fn over(&mut self, bytes: &[u8], dialect: Dialect, complete: bool) -> Option<usize> {
        match &mut self.way {
            Way::Fields(outline) => outline.over(bytes, dialect),
            Way::Line => record::line(bytes, dialect.line_end, complete).map(|(_, end)| end),
            Way::Brackets(skip) => skip.over(bytes),
        }
    }

    /// What is wrong where the file ends inside of it: what stood behind its first lines may have been other records.
    pub(crate) fn problem_at_end(&self, last_line: u64) -> Option<Problem> {
        match self.way {
            Way::Fields(outline) if outline.is_open() => Some(not_closed(self.line, last_line)),
            Way::Brackets(_) => Some(Problem::new(
                "invalid-json",
                format!(
                    "the record of line {} is not closed where the file ends: nothing behind it is read",
                    self.line
                ),
            )),
            Way::Fields(_) | Way::Line => None,
        }
    }
}

/// What is said of a quoted field that goes on to the end of the file.
pub(crate) fn not_closed(first: u64, last: u64) -> Problem {
    let message = format!(
        "a quoted field of the record is not closed where the file ends: lines {first} to {last} are this record, and none of them is \
         read as another; close the quotes and double those inside them, or set `quote` to empty where nothing surrounds fields"
    );
    Problem::new("broken-quoting", message)
}
