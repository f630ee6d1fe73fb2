//! How bytes are letters: by an encoding of the WHATWG standard, or by a code page of DOS, which that standard leaves out and old
//! accounting programs still write.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// A code page of DOS: bytes below 128 are ASCII's, and each other is one letter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodePage {
    name: &'static str,
    /// The letters of the bytes from 128 on.
    letters: &'static str,
}

/// The code pages, each with its letters from 128 to 255.
static CODE_PAGES: [CodePage; 4] = [
    CodePage {
        name: "cp437",
        letters: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    },
    CodePage {
        name: "cp850",
        letters: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
    },
    CodePage {
        name: "cp852",
        letters: "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠšŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}",
    },
    CodePage {
        name: "cp858",
        letters: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈ€ÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
    },
];

/// How bytes are letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Standard(&'static Encoding),
    Dos(&'static CodePage),
}

impl From<&'static Encoding> for Charset {
    fn from(encoding: &'static Encoding) -> Charset {
        Charset::Standard(encoding)
    }
}

impl Charset {
    /// The code page of this name, in whatever way it is written: `cp850`, `IBM850`, `850`, `dos-850`.
    pub(crate) fn code_page(name: &str) -> Option<Charset> {
        let number =
            ["cp", "ibm", "dos", "oem", "pc"].iter().find_map(|begin| name.strip_prefix(begin)).unwrap_or(name);
        let number = number.trim_start_matches(['-', '_']);
        CODE_PAGES.iter().find(|page| page.name.strip_prefix("cp") == Some(number)).map(Charset::Dos)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Charset::Standard(encoding) => encoding.name(),
            Charset::Dos(page) => page.name,
        }
    }

    pub(crate) fn is_utf8(self) -> bool {
        self == Charset::Standard(UTF_8)
    }

    pub(crate) fn is_utf16(self) -> bool {
        self.is_utf16_be() || self == Charset::Standard(UTF_16LE)
    }

    pub(crate) fn is_utf16_be(self) -> bool {
        self == Charset::Standard(UTF_16BE)
    }

    /// The text of whole characters, and whether some were none.
    pub(crate) fn decode(self, bytes: &[u8]) -> (Cow<'_, str>, bool) {
        match self {
            Charset::Standard(encoding) => encoding.decode_without_bom_handling(bytes),
            Charset::Dos(page) => (page.decode(bytes).into(), false),
        }
    }

    /// After how many bytes `count` bytes of text are written; all where they are not.
    pub(crate) fn bytes_of(self, bytes: &[u8], count: usize) -> usize {
        let (mut produced, mut buffer) = (0, [0; 32]);
        let mut decoder = match self {
            Charset::Standard(encoding) => Some(encoding.new_decoder_without_bom_handling()),
            Charset::Dos(_) => None,
        };
        for (at, byte) in bytes.iter().enumerate() {
            produced += match &mut decoder {
                Some(decoder) => decoder.decode_to_utf8(std::slice::from_ref(byte), &mut buffer, false).2,
                None => self.decode(std::slice::from_ref(byte)).0.len(),
            };
            if produced >= count {
                return at + 1;
            }
        }
        bytes.len()
    }
}

impl CodePage {
    fn decode(&self, bytes: &[u8]) -> String {
        let letters: Vec<char> = self.letters.chars().collect();
        let letter = |byte: &u8| match byte.checked_sub(128) {
            None => char::from(*byte),
            Some(place) => letters.get(usize::from(place)).copied().unwrap_or(char::REPLACEMENT_CHARACTER),
        };
        bytes.iter().map(letter).collect()
    }

    /// The bytes of a text; `None` where it has a letter that the page has not.
    #[cfg(test)]
    pub(crate) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |letter: char| match u8::try_from(letter).ok().filter(u8::is_ascii) {
            Some(byte) => Some(byte),
            None => u8::try_from(self.letters.chars().position(|held| held == letter)? + 128).ok(),
        };
        text.chars().map(byte).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_page_has_a_letter_for_each_byte_and_many_names() {
        for page in &CODE_PAGES {
            assert_eq!(page.letters.chars().count(), 128, "{}", page.name);
            let all: Vec<u8> = (0..=255).collect();
            let (text, had_errors) = Charset::Dos(page).decode(&all);
            assert!(!had_errors);
            assert_eq!(page.encode(&text).as_ref(), Some(&all), "{}", page.name);
            for count in 1..text.len() {
                let bytes = Charset::Dos(page).bytes_of(&all, count);
                assert!(page.decode(&all[..bytes]).len() >= count && page.decode(&all[..bytes - 1]).len() < count);
            }
        }
        for name in ["cp850", "ibm850", "850", "dos-850", "cp-850", "oem850", "cp437", "437", "ibm852", "cp858"] {
            assert!(Charset::code_page(name).is_some(), "{name}");
        }
        for name in ["cp1252", "1252", "utf-8", "cp", "", "ibm866"] {
            assert_eq!(Charset::code_page(name), None, "{name}");
        }
        let sold =
            Charset::code_page("cp850").unwrap().decode(b"K\x84ufer m\x94chte gro\xe1e B\x81cher").0.into_owned();
        assert_eq!(sold, "Käufer möchte große Bücher");
    }
}
