//! The bytes of a document as UTF-8, or nearly: marks and other encodings are undone before anything is read.

use std::borrow::Cow;

/// The bytes without a byte order mark and without NUL and blanks around them; UTF-16, which a mark or its zeros give away, as UTF-8.
pub fn decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    match utf16(bytes) {
        Some(text) => Cow::Owned(trimmed(text.as_bytes()).to_vec()),
        None => Cow::Borrowed(trimmed(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))),
    }
}

/// The text of bytes that are unmistakably UTF-16: a mark, or a bracket with a zero beside it. Half a pair is U+FFFD in it.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (is_little, rest) = match bytes {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        [b'{' | b'[', 0, ..] => (true, bytes),
        [0, b'{' | b'[', ..] => (false, bytes),
        _ => return None,
    };
    let (pairs, _) = rest.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| if is_little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
    let letters = char::decode_utf16(pairs.iter().map(unit));
    Some(letters.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let from = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let bytes = &bytes[from..];
    let to = bytes.iter().rposition(|byte| !is_blank(byte) && *byte != 0).map_or(0, |last| last + 1);
    &bytes[..to]
}
