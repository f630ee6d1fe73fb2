//! What a file's beginning shows of how it is cut: line ends, delimiter, escapes. Leaves the encoding to `encoding`, and what columns
//! hold to `column`.

use crate::header;
use crate::record::{self, Dialect, Escape, FieldSpan, Found, LineEnd};
use crate::settings::Delimiter;

/// What is asked for, and what the file must have.
pub(crate) struct Wanted<'w> {
    /// `None`: to be found.
    pub(crate) delimiter: Option<Delimiter>,
    pub(crate) quote: Option<u8>,
    /// `None`: to be found.
    pub(crate) escape: Option<Escape>,
    pub(crate) trim: bool,
    /// The columns that the header must name, or how many columns there are.
    pub(crate) columns: Columns<'w>,
}

pub(crate) enum Columns<'w> {
    Named(&'w [String]),
    Count(usize),
}

/// What separates fields most often.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Records that are looked at.
const MAX_RECORDS: usize = 200;

/// How the file is cut. `sample` is its beginning, all of it if `complete`.
pub(crate) fn dialect(wanted: &Wanted<'_>, sample: &[u8], complete: bool) -> Dialect {
    let line_end = line_end(sample, wanted.quote, complete);
    let delimiters: Vec<Delimiter> = match wanted.delimiter {
        Some(delimiter) => vec![delimiter],
        None => DELIMITERS.into_iter().map(Delimiter::Byte).collect(),
    };
    let has_escapes = wanted.quote.is_some_and(|quote| sample.windows(2).any(|pair| pair == [b'\\', quote]));
    let escapes: &[Escape] = match wanted.escape {
        Some(Escape::None) => &[Escape::None],
        Some(Escape::Backslash) => &[Escape::Backslash],
        None if has_escapes => &[Escape::None, Escape::Backslash],
        None => &[Escape::None],
    };
    let mut best: Option<(Score, Dialect)> = None;
    for &delimiter in &delimiters {
        for &escape in escapes {
            let dialect = Dialect { delimiter, quote: wanted.quote, escape, line_end, trim: wanted.trim };
            let score = score(dialect, &wanted.columns, sample, complete);
            // Of two that fit equally well the first is the more usual.
            if best.as_ref().is_none_or(|(held, _)| score > *held) {
                best = Some((score, dialect));
            }
        }
    }
    best.map_or(
        Dialect {
            delimiter: Delimiter::Byte(b','),
            quote: wanted.quote,
            escape: Escape::None,
            line_end,
            trim: wanted.trim,
        },
        |(_, dialect)| dialect,
    )
}

/// A file whose lines, outside of quotes, have no `\n` has lines that `\r` ends.
fn line_end(sample: &[u8], quote: Option<u8>, complete: bool) -> LineEnd {
    let looked_at = if complete { sample } else { sample.strip_suffix(b"\r").unwrap_or(sample) };
    let ends = |byte: u8| {
        let mut is_quoted = false;
        let is_end = |at: &u8| {
            is_quoted ^= Some(*at) == quote;
            !is_quoted && *at == byte
        };
        looked_at.iter().any(is_end)
    };
    if ends(b'\r') && !ends(b'\n') { LineEnd::Return } else { LineEnd::Feed }
}

/// How well a dialect fits; the greater the better, field by field.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    has_columns: bool,
    has_several: bool,
    /// Records with as many fields as the first, in thousandths.
    alike: usize,
    fields: usize,
}

fn score(dialect: Dialect, columns: &Columns<'_>, sample: &[u8], complete: bool) -> Score {
    let (mut at, mut spans, mut alike, mut all, mut fields) = (0, Vec::new(), 0, 0, 0);
    let mut has_columns = false;
    while at < sample.len() && all < MAX_RECORDS {
        let rest = &sample[at..];
        let end = match record::find(rest, dialect, complete, &mut spans) {
            Found::Record(end) => end,
            Found::Unfinished if !complete => break,
            Found::Broken(end) => {
                all += 1;
                at += end;
                continue;
            }
            // Which dialect fits is all that is asked here: of a quote that is never closed the lines behind it tell as well.
            Found::Unfinished => {
                all += 1;
                match record::line(rest, dialect.line_end, complete) {
                    Some((_, end)) => at += end,
                    None => break,
                }
                continue;
            }
        };
        if !record::is_blank(&rest[..end], &spans) {
            if fields == 0 {
                fields = spans.len();
                has_columns = fits(columns, rest, &spans);
            }
            all += 1;
            alike += usize::from(spans.len() == fields);
        }
        at += end;
    }
    Score { has_columns, has_several: fields > 1, alike: alike * 1000 / all.max(1), fields }
}

fn fits(columns: &Columns<'_>, record: &[u8], spans: &[FieldSpan]) -> bool {
    match columns {
        Columns::Count(count) => spans.len() == *count,
        Columns::Named(wanted) => {
            let fields: Vec<_> =
                spans.iter().map(|field| String::from_utf8_lossy(&record[field.span.clone()])).collect();
            let names = header::names(&fields, header::Duplicates::Number);
            wanted.iter().all(|column| !header::places(column, &names).is_empty())
        }
    }
}

/// Excel's first line `sep=;`, which names the delimiter: the delimiter, and where the next line begins.
pub(crate) fn named_delimiter(bytes: &[u8], complete: bool) -> Option<(u8, usize)> {
    // A file of old Macintoshes ends lines with `\r`; Excel for Windows alone writes this line, but does not read it alone.
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    let content = match end {
        Some(end) => &bytes[..end],
        None if complete => bytes,
        None => return None,
    };
    let next = match end {
        Some(end) if bytes[end..].starts_with(b"\r\n") => end + 2,
        Some(end) => end + 1,
        None => bytes.len(),
    };
    let plain = content.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(content);
    match plain {
        [s, e, p, b'=', delimiter] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") && delimiter.is_ascii() => {
            Some((*delimiter, next))
        }
        _ => None,
    }
}
