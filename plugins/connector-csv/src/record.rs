//! Where a record ends and what its fields are, on bytes, by RFC 4180 with any delimiter and quote.
//!
//! Pure: it sees a window of bytes and says what it found there. Leaves decoding to `encoding` and what the fields mean to `event`.
//!
//! The lines inside of a quoted field are never records, whatever is wrong with the field: who writes into a cell would write whole
//! rows otherwise. So a record whose quoting is broken reaches as far as every reader of CSV takes it: a quote opens a field only at
//! its beginning, the next one that is not doubled closes it, and what follows up to the delimiter belongs to it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::settings::Delimiter;

/// How lines are cut into fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dialect {
    pub(crate) delimiter: Delimiter,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Escape,
    pub(crate) line_end: LineEnd,
    pub(crate) trim: bool,
}

/// Whether a backslash takes the meaning from the byte behind it, as in exports of MySQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Escape {
    None,
    Backslash,
}

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LineEnd {
    /// `\n` or `\r\n`.
    Feed,
    /// `\r` alone, as the first Macintoshes had it.
    Return,
}

impl LineEnd {
    pub(crate) fn byte(self) -> u8 {
        match self {
            LineEnd::Feed => b'\n',
            LineEnd::Return => b'\r',
        }
    }
}

/// One field: where its content stands, without the quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    pub(crate) span: Range<usize>,
    pub(crate) is_quoted: bool,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record, which ends (line end included) before this place.
    Record(usize),
    /// The bytes end before the record does.
    Unfinished,
    /// A record that cannot be read, which ends before this place: a quoted field is followed by something else than a delimiter.
    Broken(usize),
}

/// Whether every field of a record is empty, or spaces: spreadsheets write such rows behind the last one, and between tables.
pub(crate) fn is_blank(record: &[u8], fields: &[FieldSpan]) -> bool {
    fields.iter().all(|field| record[field.span.clone()].iter().all(u8::is_ascii_whitespace))
}

/// Find the first record of `bytes` and put its fields into `fields`. `complete` says that nothing follows `bytes`.
pub(crate) fn find(bytes: &[u8], dialect: Dialect, complete: bool, fields: &mut Vec<FieldSpan>) -> Found {
    fields.clear();
    match dialect.delimiter {
        Delimiter::Whitespace => {
            let Some((line, end)) = line(bytes, dialect.line_end, complete) else { return Found::Unfinished };
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
            let mut at = 0;
            while let Some(gap) = bytes[at..line].iter().position(|byte| !is_space(byte)) {
                let start = at + gap;
                at = bytes[start..line].iter().position(is_space).map_or(line, |length| start + length);
                fields.push(FieldSpan { span: start..at, is_quoted: false });
            }
            Found::Record(end)
        }
        Delimiter::Byte(delimiter) => find_delimited(bytes, delimiter, dialect, complete, fields),
    }
}

fn find_delimited(bytes: &[u8], delimiter: u8, dialect: Dialect, complete: bool, fields: &mut Vec<FieldSpan>) -> Found {
    let line_end = dialect.line_end;
    let mut is_broken = false;
    let mut at = 0;
    loop {
        let start = if dialect.trim { at + spaces(&bytes[at..], delimiter) } else { at };
        let is_quoted = dialect.quote.is_some_and(|quote| bytes.get(start) == Some(&quote));
        let content = if is_quoted {
            match closing_quote(bytes, start + 1, bytes[start], dialect.escape) {
                Some(close) => start + 1..close,
                None => return Found::Unfinished,
            }
        } else {
            at..plain_end(bytes, at, delimiter, dialect)
        };
        let mut after = content.end + usize::from(is_quoted);
        if is_quoted && dialect.trim {
            after += spaces(&bytes[after..], delimiter);
        }
        if is_quoted && !ends_field(&bytes[after..], delimiter, line_end) {
            is_broken = true;
            after = plain_end(bytes, after, delimiter, dialect);
        }
        let found = |end: usize| if is_broken { Found::Broken(end) } else { Found::Record(end) };
        let span = if is_quoted { content } else { content.start..before_return(bytes, &content, line_end) };
        match &bytes[after..] {
            [byte, ..] if *byte == delimiter => {
                fields.push(FieldSpan { span: content_until(&span, after, is_quoted), is_quoted });
                at = after + 1;
            }
            [byte, ..] if *byte == line_end.byte() => {
                fields.push(FieldSpan { span, is_quoted });
                return found(after + 1);
            }
            [b'\r', b'\n', ..] => {
                fields.push(FieldSpan { span, is_quoted });
                return found(after + 2);
            }
            _ if !complete => return Found::Unfinished,
            _ => {
                fields.push(FieldSpan { span, is_quoted });
                return found(bytes.len());
            }
        }
    }
}

/// Whether a field may end before these bytes. Of a `\r` alone the next byte says it.
fn ends_field(rest: &[u8], delimiter: u8, line_end: LineEnd) -> bool {
    match rest {
        [] | [b'\r'] | [b'\r', b'\n', ..] => true,
        [byte, ..] => *byte == delimiter || *byte == line_end.byte(),
    }
}

/// The way through a record that is too long to be looked at whole, piece by piece: it ends where [`find`] would have its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outline {
    /// Where a field begins.
    Begin,
    /// In a field without quotes, or behind the closing quote of one.
    Plain,
    Quoted,
    /// Behind a quote, which closes the field unless another one follows.
    Quote,
    /// Behind a backslash that escapes.
    PlainEscape,
    QuotedEscape,
}

impl Outline {
    /// Go on through `bytes`: where the record ends, or `None` where it goes on behind them.
    pub(crate) fn over(&mut self, bytes: &[u8], dialect: Dialect) -> Option<usize> {
        let escapes = |byte: u8| dialect.escape == Escape::Backslash && byte == b'\\';
        let is_delimiter = |byte: u8| dialect.delimiter == Delimiter::Byte(byte);
        let has_quotes = matches!(dialect.delimiter, Delimiter::Byte(_));
        for (at, &byte) in bytes.iter().enumerate() {
            *self = match *self {
                Outline::Quoted if Some(byte) == dialect.quote => Outline::Quote,
                Outline::Quoted if escapes(byte) => Outline::QuotedEscape,
                Outline::Quoted | Outline::QuotedEscape => Outline::Quoted,
                Outline::PlainEscape => Outline::Plain,
                Outline::Quote if Some(byte) == dialect.quote => Outline::Quoted,
                Outline::Begin if has_quotes && Some(byte) == dialect.quote => Outline::Quoted,
                _ if is_delimiter(byte) => Outline::Begin,
                _ if byte == dialect.line_end.byte() => return Some(at + 1),
                Outline::Begin if dialect.trim && matches!(byte, b' ' | b'\t') => Outline::Begin,
                Outline::Begin | Outline::Plain | Outline::Quote if has_quotes && escapes(byte) => Outline::PlainEscape,
                _ => Outline::Plain,
            };
        }
        None
    }

    /// Whether a quoted field is open.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Outline::Quoted | Outline::QuotedEscape)
    }
}

/// Before a delimiter a `\r` is content.
fn content_until(span: &Range<usize>, after: usize, is_quoted: bool) -> Range<usize> {
    if is_quoted { span.clone() } else { span.start..after }
}

/// Where a field without quotes ends.
fn plain_end(bytes: &[u8], from: usize, delimiter: u8, dialect: Dialect) -> usize {
    let ends = |byte: u8| byte == delimiter || byte == dialect.line_end.byte();
    let mut at = from;
    loop {
        let escape = |byte: u8| dialect.escape == Escape::Backslash && byte == b'\\';
        let Some(length) = bytes[at..].iter().position(|&byte| ends(byte) || escape(byte)) else { return bytes.len() };
        at += length;
        if ends(bytes[at]) {
            return at;
        }
        at = (at + 2).min(bytes.len());
    }
}

/// The length of the spaces and tabs at the beginning, the delimiter not among them.
fn spaces(bytes: &[u8], delimiter: u8) -> usize {
    bytes.iter().take_while(|&&byte| matches!(byte, b' ' | b'\t') && byte != delimiter).count()
}

/// Where the content ends without the `\r` of a `\r\n`.
fn before_return(bytes: &[u8], content: &Range<usize>, line_end: LineEnd) -> usize {
    let has_return = line_end == LineEnd::Feed && bytes[content.clone()].last() == Some(&b'\r');
    if has_return { content.end - 1 } else { content.end }
}

/// The quote that closes a field; a doubled one stands for itself, and so does one behind a backslash where that escapes.
fn closing_quote(bytes: &[u8], from: usize, quote: u8, escape: Escape) -> Option<usize> {
    let mut at = from;
    loop {
        let escapes = |byte: u8| escape == Escape::Backslash && byte == b'\\';
        at += bytes.get(at..)?.iter().position(|&byte| byte == quote || escapes(byte))?;
        if bytes[at] == quote && bytes.get(at + 1) != Some(&quote) {
            return Some(at);
        }
        at += 2;
    }
}

/// The text of an escaped field, as `SELECT … INTO OUTFILE` writes it.
pub(crate) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        plain.push(match letters.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('0') => '\0',
            Some('Z') => '\u{1a}',
            Some(other) => other,
            None => '\\',
        });
    }
    plain
}

/// The first line: where its content ends, and where the next begins.
pub(crate) fn line(bytes: &[u8], line_end: LineEnd, complete: bool) -> Option<(usize, usize)> {
    let (content, end) = match bytes.iter().position(|&byte| byte == line_end.byte()) {
        Some(at) => (at, at + 1),
        None if complete => (bytes.len(), bytes.len()),
        None => return None,
    };
    Some((before_return(bytes, &(0..content), line_end), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Dialect = Dialect {
        delimiter: Delimiter::Byte(b','),
        quote: Some(b'"'),
        escape: Escape::None,
        line_end: LineEnd::Feed,
        trim: false,
    };

    #[track_caller]
    fn check(text: &str, dialect: Dialect, expected: &[&str], rest: &str) {
        let mut fields = Vec::new();
        let Found::Record(end) = find(text.as_bytes(), dialect, true, &mut fields) else {
            panic!("no record in {text:?}")
        };
        let found: Vec<&str> = fields.iter().map(|field| &text[field.span.clone()]).collect();
        assert_eq!((found.as_slice(), &text[end..]), (expected, rest), "{text:?}");
    }

    #[test]
    fn records_are_cut_as_rfc_4180_has_it() {
        check("a,b\nc", CSV, &["a", "b"], "c");
        check("a,b\r\nc", CSV, &["a", "b"], "c");
        check("a,b", CSV, &["a", "b"], "");
        check("a,b\r", CSV, &["a", "b"], "");
        check(",\n", CSV, &["", ""], "");
        check("\"a,b\r\nc\",d\r\n", CSV, &["a,b\r\nc", "d"], "");
        check("\"\",\"\"\"\"\n", CSV, &["", "\"\""], "");
        check("a \"b\" c,5\"\n", CSV, &["a \"b\" c", "5\""], "");
        check(" a, b\n", CSV, &[" a", " b"], "");
        let trimmed = Dialect { trim: true, ..CSV };
        check(" \"a,b\" ,\t\"c\"\t\nx", trimmed, &["a,b", "c"], "x");
        let plain = Dialect { quote: None, ..CSV };
        check("\"a,b\"\n", plain, &["\"a", "b\""], "");
        let tabs = Dialect { delimiter: Delimiter::Byte(b'\t'), trim: true, ..CSV };
        check("a\t\t\"b\"\t\n", tabs, &["a", "", "b", ""], "");
        let columns = Dialect { delimiter: Delimiter::Whitespace, ..CSV };
        check("  a  \t\"b c\r\nd", columns, &["a", "\"b", "c"], "d");
        check("\n", columns, &[], "");
        let mysql = Dialect { escape: Escape::Backslash, ..CSV };
        check("\"say \\\"hi\\\", ok\",b\n", mysql, &["say \\\"hi\\\", ok", "b"], "");
        check("a\\,b,\\N\n", mysql, &["a\\,b", "\\N"], "");
        check("a\\\nb,c\nd", mysql, &["a\\\nb", "c"], "d");
        check("\"C:\\dir\\\",b\n", CSV, &["C:\\dir\\", "b"], "");
        let old = Dialect { line_end: LineEnd::Return, ..CSV };
        check("a,\"b\r\n\"\rc", old, &["a", "b\r\n"], "c");
        assert_eq!(unescape("a\\tb\\\\n\\\"\\q\\"), "a\tb\\n\"q\\");
    }

    #[test]
    fn what_may_go_on_is_unfinished_and_what_cannot_is_broken() {
        let mut fields = Vec::new();
        for text in ["", "a", "a,b", "\"a", "\"a\"", "\"a\"\r", "a\r"] {
            assert_eq!(find(text.as_bytes(), CSV, false, &mut fields), Found::Unfinished, "{text:?}");
        }
        assert_eq!(find(b"\"a\nb", CSV, true, &mut fields), Found::Unfinished, "the quote is never closed");
        assert_eq!(find(b"\"a\"b,c\n", CSV, true, &mut fields), Found::Broken(7));
        assert_eq!(find(b"\"a\" ,c\nd", CSV, true, &mut fields), Found::Broken(7));
        assert_eq!(
            find(b"\"a\nx,y\n\" b,\"c\nd\"\ne", CSV, true, &mut fields),
            Found::Broken(17),
            "no line inside is a record"
        );
        assert_eq!(find(b"\"a\"b,c", CSV, false, &mut fields), Found::Unfinished);
        assert_eq!(find(b"\"a\"b", CSV, true, &mut fields), Found::Broken(4));
    }

    /// Every text of six of these letters: the way through a record piece by piece ends where the record is found to.
    #[test]
    fn a_record_ends_at_the_same_place_however_it_is_passed() {
        const LETTERS: [u8; 7] = [b'"', b',', b'\n', b'\r', b' ', b'\\', b'a'];
        let dialects = [Escape::None, Escape::Backslash].into_iter().flat_map(|escape| {
            let ends = [LineEnd::Feed, LineEnd::Return].into_iter();
            ends.flat_map(move |line_end| [false, true].map(|trim| Dialect { escape, line_end, trim, ..CSV }))
        });
        for dialect in dialects {
            for number in 0..LETTERS.len().pow(6) {
                let text: Vec<u8> =
                    (0_u32..6).map(|place| LETTERS[number / LETTERS.len().pow(place) % LETTERS.len()]).collect();
                let whole = match find(&text, dialect, false, &mut Vec::new()) {
                    Found::Record(end) | Found::Broken(end) => Some(end),
                    Found::Unfinished => None,
                };
                let mut outline = Outline::Begin;
                let passed = (0..text.len()).find(|at| outline.over(&text[*at..=*at], dialect).is_some());
                assert_eq!(passed.map(|at| at + 1), whole, "{:?} {dialect:?}", String::from_utf8_lossy(&text));
            }
        }
    }
}
