//! What was odd in a document, and where.

use std::fmt;

/// Most flags that one document gives; a last one says that there are more.
pub const MAX_FLAGS: usize = 16;

/// The longest path of a flag, in bytes.
const MAX_PATH_BYTES: usize = 96;

/// Something that JSON does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the table at the front of the crate describes each")]
pub enum Oddity {
    HalfSurrogate,
    InvalidUtf8,
    NotANumber,
    Undefined,
    LooseLiteral,
    NumberForm,
    NumberTooLarge,
    ControlCharacter,
    BadEscape,
    TrailingComma,
    DuplicateKey,
    TooDeep,
    TrailingBytes,
    /// There is more than [`MAX_FLAGS`] tell.
    MoreFlags,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Oddity; 14] = [
        Oddity::HalfSurrogate,
        Oddity::InvalidUtf8,
        Oddity::NotANumber,
        Oddity::Undefined,
        Oddity::LooseLiteral,
        Oddity::NumberForm,
        Oddity::NumberTooLarge,
        Oddity::ControlCharacter,
        Oddity::BadEscape,
        Oddity::TrailingComma,
        Oddity::DuplicateKey,
        Oddity::TooDeep,
        Oddity::TrailingBytes,
        Oddity::MoreFlags,
    ];

    /// The code of its flag.
    pub fn code(self) -> &'static str {
        match self {
            Oddity::HalfSurrogate => "half-surrogate",
            Oddity::InvalidUtf8 => "invalid-utf8",
            Oddity::NotANumber => "not-a-number",
            Oddity::Undefined => "undefined",
            Oddity::LooseLiteral => "loose-literal",
            Oddity::NumberForm => "number-form",
            Oddity::NumberTooLarge => "number-too-large",
            Oddity::ControlCharacter => "control-character",
            Oddity::BadEscape => "bad-escape",
            Oddity::TrailingComma => "trailing-comma",
            Oddity::DuplicateKey => "duplicate-key",
            Oddity::TooDeep => "too-deep",
            Oddity::TrailingBytes => "trailing-bytes",
            Oddity::MoreFlags => "more-flags",
        }
    }
}

/// Something odd, and where: `half-surrogate:properties.title`, `not-a-number:products[1].price`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// What.
    pub oddity: Oddity,
    /// The keys on the way to it; empty for the document itself.
    pub path: String,
}

impl Flag {
    /// As it is written where the document lies under `key` of another: `half-surrogate:properties.title`.
    pub fn under(&self, key: &str) -> String {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        format!("{}:{key}{separator}{}", self.oddity.code(), self.path)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.oddity.code())?;
        if self.path.is_empty() { Ok(()) } else { write!(f, ":{}", self.path) }
    }
}

/// The flags of a document, at most [`MAX_FLAGS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Vec<Flag>);

impl Flags {
    /// Whether nothing was odd.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &Flag> {
        self.0.iter()
    }

    /// Whether one of them tells of this.
    pub fn has(&self, oddity: Oddity) -> bool {
        self.0.iter().any(|flag| flag.oddity == oddity)
    }

    /// Whether there is room for one more that is told with its place.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() + 1 < MAX_FLAGS
    }

    /// Add one; the same again, and what has no room, is told once.
    pub(crate) fn add(&mut self, oddity: Oddity, mut path: String) {
        path.truncate(path.floor_char_boundary(MAX_PATH_BYTES));
        let flag = Flag { oddity, path };
        if self.0.contains(&flag) {
            return;
        }
        if self.has_room() {
            self.0.push(flag);
        } else if self.0.last().is_none_or(|last| last.oddity != Oddity::MoreFlags) {
            self.0.push(Flag { oddity: Oddity::MoreFlags, path: String::new() });
        }
    }
}
