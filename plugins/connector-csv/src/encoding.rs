//! Bytes of a file to text. Responsible for the encodings that exports of shops and office programs have; decoding happens record by
//! record, so that undecodable bytes cost only their record.
//!
//! Written here and not taken from a library: of the single-byte encodings 32 characters are not their own byte, UTF-16 is in std, and a
//! general library brings half a megabyte of tables for encodings that no configuration can choose.

use std::borrow::Cow;

use crate::settings::Encoding;

/// Windows-1252's characters at 0x80 to 0x9F, as the WHATWG Encoding Standard has them; the five unassigned bytes are themselves.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// What a piece of a file is read as: bytes in which every delimiter, quote and line end is one ASCII byte.
pub(crate) struct Piece<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    single_byte: Option<Encoding>,
    /// UTF-16 held half a surrogate pair, which is U+FFFD in `bytes`.
    is_lossy: bool,
    /// Where the input's own bytes have another length than `bytes`.
    is_utf16: bool,
    /// The bytes of the input before `bytes`: the byte order mark.
    mark: usize,
}

/// Where the text begins and in which byte order it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The length of the byte order mark.
    pub(crate) mark: usize,
    pub(crate) big_endian: bool,
}

/// How the input begins; `None` when more bytes are needed to tell.
pub(crate) fn start(encoding: Encoding, bytes: &[u8], complete: bool) -> Option<Start> {
    if bytes.len() < 3 && !complete {
        return None;
    }
    let mark = match encoding {
        Encoding::Utf8 if bytes.starts_with(b"\xef\xbb\xbf") => 3,
        Encoding::Utf16 | Encoding::Utf16Le if bytes.starts_with(b"\xff\xfe") => 2,
        Encoding::Utf16 | Encoding::Utf16Be if bytes.starts_with(b"\xfe\xff") => {
            return Some(Start { mark: 2, big_endian: true });
        }
        _ => 0,
    };
    Some(Start { mark, big_endian: encoding == Encoding::Utf16Be })
}

impl<'a> Piece<'a> {
    pub(crate) fn new(encoding: Encoding, big_endian: bool, mark: usize, body: &'a [u8]) -> Piece<'a> {
        let bytes = &body[mark..];
        match encoding {
            Encoding::Utf8 => {
                Piece { bytes: Cow::Borrowed(bytes), single_byte: None, is_lossy: false, is_utf16: false, mark }
            }
            Encoding::Windows1252 | Encoding::Latin1 => Piece {
                bytes: Cow::Borrowed(bytes),
                single_byte: Some(encoding),
                is_lossy: false,
                is_utf16: false,
                mark,
            },
            Encoding::Utf16 | Encoding::Utf16Le | Encoding::Utf16Be => {
                let (pairs, _) = bytes.as_chunks::<2>();
                let units = pairs
                    .iter()
                    .map(|pair| if big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
                let mut is_lossy = false;
                let text: String = char::decode_utf16(units)
                    .map(|letter| {
                        letter.unwrap_or_else(|_| {
                            is_lossy = true;
                            char::REPLACEMENT_CHARACTER
                        })
                    })
                    .collect();
                Piece { bytes: Cow::Owned(text.into_bytes()), single_byte: None, is_lossy, is_utf16: true, mark }
            }
        }
    }

    /// The text of a part of the piece, or `None` where it holds bytes that are no text.
    pub(crate) fn decode<'p>(&self, part: &'p [u8]) -> Option<Cow<'p, str>> {
        match self.single_byte {
            Some(encoding) if !part.is_ascii() => Some(Cow::Owned(decode_single_byte(encoding, part))),
            _ => {
                let text = std::str::from_utf8(part).ok()?;
                if self.is_lossy && text.contains(char::REPLACEMENT_CHARACTER) {
                    None
                } else {
                    Some(Cow::Borrowed(text))
                }
            }
        }
    }

    /// The text of a part of the piece, whatever it takes: for reports.
    pub(crate) fn decode_lossy<'p>(&self, part: &'p [u8]) -> Cow<'p, str> {
        self.decode(part).unwrap_or_else(|| String::from_utf8_lossy(part))
    }

    /// Whether an input of this many bytes ends within a unit of UTF-16.
    pub(crate) fn has_half_a_unit(&self, input_bytes: usize) -> bool {
        self.is_utf16 && !input_bytes.is_multiple_of(2)
    }

    /// How many bytes of the input the first `count` bytes of the piece are, the byte order mark included.
    pub(crate) fn input_bytes(&self, count: usize) -> usize {
        if !self.is_utf16 {
            return self.mark + count;
        }
        // One unit of UTF-16 for each character of up to three bytes, two for one of four. Counted at first bytes.
        let units: usize = self.bytes[..count]
            .iter()
            .map(|byte| match byte {
                0x80..=0xbf => 0,
                0xf0.. => 2,
                _ => 1,
            })
            .sum();
        self.mark + units * 2
    }
}

fn decode_single_byte(encoding: Encoding, part: &[u8]) -> String {
    part.iter()
        .map(|&byte| match (encoding, byte) {
            (Encoding::Windows1252, 0x80..=0x9f) => WINDOWS_1252[usize::from(byte - 0x80)],
            // ISO 8859-1 is the first 256 characters of Unicode.
            (_, byte) => char::from(byte),
        })
        .collect()
}
