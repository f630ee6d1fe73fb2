//! Bytes of a file to text. Responsible for every encoding of the WHATWG standard and for finding out which one a file has; decoding
//! happens line by line, so that undecodable bytes cost only their record.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use kith_plugin_sdk::Failure;
use serde::{Deserialize, Serialize};

use crate::charset::Charset;

/// What a piece of a file is read as: UTF-8, in which every delimiter, quote and line end is one byte.
pub(crate) struct Piece<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The input held bytes that are no text, which are U+FFFD in `bytes`.
    is_lossy: bool,
    /// Where the input's own bytes have another length than `bytes`: for the end of each line the place in `bytes` and in the input.
    places: Option<Vec<(usize, usize)>>,
    /// The bytes of the input before `bytes`: the byte order mark.
    mark: usize,
    input: &'a [u8],
    charset: Charset,
    has_half_a_unit: bool,
}

/// How an encoding was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The configuration names it.
    Set,
    Mark,
    /// The bytes are valid, or have zeros where UTF-16 has them.
    Bytes,
    /// By how often letters follow one another.
    Guess,
}

/// A file's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) charset: Charset,
    /// The length of the byte order mark.
    pub(crate) mark: usize,
    pub(crate) source: Source,
}

/// Names of encodings that the standard does not know and exports of data frames and databases use.
const ALIASES: [(&str, &str); 11] = [
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
    ("cp65001", "utf-8"),
    ("utf8mb4", "utf-8"),
    ("utf-8-sig", "utf-8"),
    ("mac-roman", "macintosh"),
    ("mac_roman", "macintosh"),
    ("macroman", "macintosh"),
    ("cp10000", "macintosh"),
];

/// The encoding of a name in the configuration.
pub(crate) fn named(name: &str) -> Result<Charset, Failure> {
    let lower = name.trim().to_lowercase();
    if let Some(page) = Charset::code_page(&lower) {
        return Ok(page);
    }
    let label = ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, label)| label);
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding != encoding_rs::REPLACEMENT && encoding != encoding_rs::X_USER_DEFINED => {
            Ok(encoding.into())
        }
        _ => Err(Failure::permanent(format!(
            "the encoding `{name}` is none of the WHATWG Encoding Standard and no code page of DOS that is known; write e.g. `utf-8`, `windows-1252`, `gb18030`, `macroman`, `cp850` or `auto`"
        ))),
    }
}

/// The encoding of a file that begins so. `set` is the configuration's.
pub(crate) fn find(set: Option<Charset>, sample: &[u8]) -> Found {
    let marked = Encoding::for_bom(sample).map(|(encoding, mark)| (Charset::from(encoding), mark));
    match (set, marked) {
        // `utf-16` says nothing of the order, and then the mark does.
        (Some(set), Some((charset, mark))) if set == charset || (set.is_utf16() && charset.is_utf16()) => {
            Found { charset, mark, source: Source::Set }
        }
        (Some(charset), _) => Found { charset, mark: 0, source: Source::Set },
        (None, Some((charset, mark))) => Found { charset, mark, source: Source::Mark },
        (None, None) => {
            let (encoding, source) = guess(sample);
            Found { charset: encoding.into(), mark: 0, source }
        }
    }
}

fn guess(sample: &[u8]) -> (&'static Encoding, Source) {
    if let Some(encoding) = unmarked_utf16(sample) {
        return (encoding, Source::Bytes);
    }
    // All its bytes are ASCII's; the escapes into and out of Japanese are nothing else's.
    if sample.is_ascii() && sample.windows(2).any(|pair| pair == b"\x1b$") {
        return (encoding_rs::ISO_2022_JP, Source::Bytes);
    }
    if is_json(sample) {
        // JSON is UTF-8 by RFC 8259, section 8.1; what is damaged in it costs its record.
        return (UTF_8, Source::Bytes);
    }
    // One damaged line makes no file of UTF-8 one of another encoding; a line of another encoding is hardly ever valid UTF-8.
    let (mut valid, mut invalid) = (0, 0);
    let mut lines = sample.split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
    while let Some(line) = lines.next() {
        match std::str::from_utf8(line) {
            Ok(text) => valid += usize::from(!text.is_ascii()),
            // The sample may end within a character.
            Err(error) if lines.peek().is_none() && error.error_len().is_none() => valid += 1,
            Err(_) => invalid += 1,
        }
    }
    if invalid == 0 || valid >= invalid {
        return (UTF_8, Source::Bytes);
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(sample, true);
    (detector.guess(None, chardetng::Utf8Detection::Deny), Source::Guess)
}

/// Whether a file begins as objects of JSON or a list of them do. A header line may begin with `[` as well: `[id];[name]`.
fn is_json(sample: &[u8]) -> bool {
    let begins = |bytes: &[u8], with: u8| -> Option<usize> {
        let at = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
        (bytes[at] == with).then_some(at + 1)
    };
    let object = |bytes: &[u8]| begins(bytes, b'{').is_some_and(|at| begins(&bytes[at..], b'"').is_some());
    object(sample) || begins(sample, b'[').is_some_and(|at| object(&sample[at..]))
}

/// UTF-16 without a mark: of ASCII's letters, which every header line has, each second byte is zero.
fn unmarked_utf16(sample: &[u8]) -> Option<&'static Encoding> {
    let (pairs, _) = sample[..sample.len().min(4096)].as_chunks::<2>();
    let zeros = |at: usize| pairs.iter().filter(|pair| pair[at] == 0 && pair[1 - at] != 0).count();
    let (high, low) = (zeros(0), zeros(1));
    match pairs.len() {
        0 => None,
        all if low * 4 > all && high * 20 < all => Some(UTF_16LE),
        all if high * 4 > all && low * 20 < all => Some(UTF_16BE),
        _ => None,
    }
}

impl<'a> Piece<'a> {
    /// `mark` is the length of the byte order mark that `body` begins with.
    pub(crate) fn new(charset: Charset, mark: usize, body: &'a [u8]) -> Piece<'a> {
        let bytes = &body[mark..];
        let input = body;
        if charset.is_utf8() {
            return Piece {
                bytes: Cow::Borrowed(bytes),
                is_lossy: false,
                places: None,
                mark,
                input,
                charset,
                has_half_a_unit: false,
            };
        }
        let (mut decoded, mut places, mut is_lossy, mut start) =
            (String::with_capacity(bytes.len() * 2), Vec::new(), false, 0);
        let width = if charset.is_utf16() { 2 } else { 1 };
        while start < bytes.len() {
            let end = line_end(charset, &bytes[start..]).map_or(bytes.len(), |length| start + length);
            // In all encodings a line begins in the state in which a text begins (RFC 1468 says so of ISO-2022-JP), and no character
            // of several bytes has one that is a line end.
            let whole = start + (end - start) / width * width;
            let (text, had_errors) = charset.decode(&bytes[start..whole]);
            is_lossy |= had_errors;
            decoded.push_str(&text);
            start = end;
            // Half a unit at the end is left for the next piece.
            places.push((decoded.len(), mark + whole));
        }
        let has_half_a_unit = !bytes.len().is_multiple_of(width);
        Piece {
            bytes: Cow::Owned(decoded.into_bytes()),
            is_lossy,
            places: Some(places),
            mark,
            input,
            charset,
            has_half_a_unit,
        }
    }

    /// The text of a part of the piece, or `None` where it holds bytes that are no text.
    pub(crate) fn decode<'p>(&self, part: &'p [u8]) -> Option<Cow<'p, str>> {
        let text = std::str::from_utf8(part).ok()?;
        if self.is_lossy && text.contains(char::REPLACEMENT_CHARACTER) { None } else { Some(Cow::Borrowed(text)) }
    }

    /// The text of a part of the piece, whatever it takes: for reports.
    pub(crate) fn decode_lossy<'p>(&self, part: &'p [u8]) -> Cow<'p, str> {
        String::from_utf8_lossy(part)
    }

    /// Whether the input ends within a unit of UTF-16.
    pub(crate) fn has_half_a_unit(&self) -> bool {
        self.has_half_a_unit
    }

    /// How many bytes of the input the first `count` bytes of the piece are, the byte order mark included.
    pub(crate) fn input_bytes(&self, count: usize) -> usize {
        let Some(places) = &self.places else { return self.mark + count };
        let (before, from) = match places.partition_point(|(decoded, _)| *decoded <= count) {
            0 => (0, self.mark),
            after => places[after - 1],
        };
        if before == count {
            return from;
        }
        // Within a line: decode it again, byte by byte, up to the place.
        from + self.charset.bytes_of(&self.input[from..], count - before)
    }

    /// The bytes of the input that a part of the piece is, or the lines that it stands in.
    pub(crate) fn input_span(&self, part: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let Some(places) = &self.places else { return self.mark + part.start..self.mark + part.end };
        let start = match places.partition_point(|(decoded, _)| *decoded <= part.start) {
            0 => self.mark,
            after => places[after - 1].1,
        };
        let end = places
            .get(places.partition_point(|(decoded, _)| *decoded < part.end))
            .map_or(self.input.len(), |(_, end)| *end);
        start..end
    }
}

/// Where the first line ends, its end included: `\n`, or `\r` that no `\n` follows.
fn line_end(charset: Charset, bytes: &[u8]) -> Option<usize> {
    if !charset.is_utf16() {
        return bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).map(|at| at + 1);
    }
    let low = usize::from(charset.is_utf16_be());
    let (pairs, _) = bytes.as_chunks::<2>();
    let at = pairs.iter().position(|pair| matches!(pair[low], b'\n' | b'\r') && pair[1 - low] == 0)?;
    Some(at * 2 + 2)
}
