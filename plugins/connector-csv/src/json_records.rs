//! Where a JSON record ends: an object a line, objects over several lines, or the items of one array that is the whole file.
//!
//! Pure: it sees a window of bytes and says what stands at its beginning. Leaves reading the object to `json`.

use serde::{Deserialize, Serialize};

/// Where in the file the window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Default, Serialize, Deserialize)]
pub(crate) enum Position {
    /// Nothing but spaces so far.
    #[default]
    Begin,
    /// Among records that follow one another.
    Lines,
    /// In the array.
    Array,
    /// Behind it.
    End,
    /// Behind all that is looked at: whatever comes means nothing.
    Closed,
}

/// What stands at the beginning of the window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// So many bytes that mean nothing: spaces, commas between items.
    Gap(usize),
    /// The array begins or ends, behind so many bytes.
    Bracket(usize, Position),
    /// A record of so many bytes.
    Record(usize),
    /// The bytes end before the record does.
    Unfinished,
    /// What is no record, and ends before this place: a line on which one begins that does not end before the next does, or all
    /// that is left behind a bracket that is never closed. What stands inside of it is no record either.
    Broken(usize),
}

/// Look at the beginning of `bytes`; `complete` says that nothing follows them.
pub(crate) fn find(bytes: &[u8], position: Position, complete: bool) -> Found {
    // Lines that end with commas were cut out of an array.
    let is_gap = |byte: &u8| byte.is_ascii_whitespace() || (position != Position::Begin && *byte == b',');
    let gap = bytes.iter().position(|byte| !is_gap(byte)).unwrap_or(bytes.len());
    if gap > 0 {
        return Found::Gap(gap);
    }
    match (bytes.first(), position) {
        (Some(b'['), Position::Begin) => Found::Bracket(1, Position::Array),
        (Some(b']'), Position::Array) => Found::Bracket(1, Position::End),
        (Some(b'{' | b'['), Position::Array) => match balanced(bytes, Nesting::Free) {
            Balance::Ends(end) => Found::Record(end),
            balance => broken(bytes, balance, complete),
        },
        (Some(_), Position::Array) => match bytes.iter().position(|byte| matches!(byte, b',' | b']' | b'\n')) {
            Some(end) => Found::Record(end),
            None if complete => Found::Record(bytes.len()),
            None => Found::Unfinished,
        },
        (Some(b'{'), _) => object(bytes, complete),
        _ => line(bytes, complete),
    }
}

fn line(bytes: &[u8], complete: bool) -> Found {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => Found::Record(end + 1),
        None if complete => Found::Record(bytes.len()),
        None => Found::Unfinished,
    }
}

/// An object on a line of its own, or over several lines.
fn object(bytes: &[u8], complete: bool) -> Found {
    match balanced(bytes, Nesting::Lines) {
        Balance::Ends(end) => {
            // Another object may follow at once; anything else behind it makes the line unreadable.
            let rest = &bytes[end..];
            match rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
                None if !complete => Found::Unfinished,
                None | Some(b'\n' | b'{' | b',') => Found::Record(end),
                Some(_) => line(bytes, complete),
            }
        }
        balance => broken(bytes, balance, complete),
    }
}

fn broken(bytes: &[u8], balance: Balance, complete: bool) -> Found {
    match balance {
        Balance::Open if !complete => Found::Unfinished,
        Balance::Open => Found::Broken(bytes.len()),
        Balance::Broken | Balance::Ends(_) => {
            let line = bytes.iter().position(|&byte| byte == b'\n');
            Found::Broken(line.map_or(bytes.len(), |line| line + 1))
        }
    }
}

/// Whether a line may begin with an object that is part of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Nesting {
    Free,
    /// No: a `{` at the beginning of a line is the next record's, and the one before was cut.
    Lines,
}

enum Balance {
    /// All brackets are closed before this place.
    Ends(usize),
    Open,
    Broken,
}

fn balanced(bytes: &[u8], nesting: Nesting) -> Balance {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            // No text of JSON holds a line end.
            b'\n' if is_text => return Balance::Broken,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'\n' if nesting == Nesting::Lines && bytes.get(at + 1) == Some(&b'{') => return Balance::Broken,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Balance::Ends(at + 1);
                }
            }
            _ => {}
        }
    }
    Balance::Open
}

/// The way out of a record that is too long: to the end of its brackets, or to where it is seen to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    nesting: Nesting,
    depth: u64,
    is_text: bool,
    is_escaped: bool,
    is_line_begin: bool,
}

impl Skip {
    pub(crate) fn new(position: Position) -> Skip {
        let nesting = if position == Position::Array { Nesting::Free } else { Nesting::Lines };
        Skip { nesting, depth: 0, is_text: false, is_escaped: false, is_line_begin: false }
    }

    /// Go on through `bytes`: where the record ends, or `None` where it goes on behind them.
    pub(crate) fn over(&mut self, bytes: &[u8]) -> Option<usize> {
        let has_lines = self.nesting == Nesting::Lines;
        for (at, &byte) in bytes.iter().enumerate() {
            let is_line_begin = std::mem::take(&mut self.is_line_begin);
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\n' if self.is_text && has_lines => return Some(at + 1),
                b'\\' if self.is_text => self.is_escaped = true,
                b'"' => self.is_text = !self.is_text,
                _ if self.is_text => {}
                // An item of the array that is no object.
                b',' | b']' | b'\n' if self.depth == 0 => return Some(at),
                b'{' if is_line_begin && has_lines => return Some(at),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                b'\n' => self.is_line_begin = true,
                _ => {}
            }
        }
        None
    }
}
