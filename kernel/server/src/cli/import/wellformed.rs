//! Whether XML is whole: every element is closed by its own name, and nothing stands outside of the root. The reader of workbooks takes
//! what it finds up to a mistake, so that a file that was cut would be one with fewer rows, or with none.

use std::io::{self, BufRead, BufReader, Read};

/// Elements that lie in each other in a sheet are few; a file with more is meant to harm.
const MAX_DEPTH: usize = 1_000;

/// The longest name of an element that is looked at.
const MAX_NAME_BYTES: usize = 256;

/// What is wrong with an XML text, if anything is.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn problem(xml: impl Read) -> io::Result<Option<String>> {
    let mut xml = BufReader::with_capacity(64 << 10, xml);
    let begin = xml.fill_buf()?;
    if begin.starts_with(&[0xff, 0xfe]) || begin.starts_with(&[0xfe, 0xff]) {
        return Ok(None); // UTF-16, which hardly anybody writes, is left to the reader
    }
    let mut scan = Scan::default();
    loop {
        let bytes = xml.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(scan.end().err());
        }
        if let Err(problem) = bytes.iter().try_for_each(|byte| scan.take(*byte)) {
            return Ok(Some(problem));
        }
        xml.consume(length);
    }
}

/// What the scan is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Inside {
    #[default]
    Text,
    /// Behind `<`, up to the end of a name or of a mark such as `!--`.
    Name,
    /// Behind an element's name.
    Tag,
    /// A value in these quotes.
    Value(u8),
    /// What ends with `?>`, `-->` or `]]>`.
    Until(&'static [u8]),
    /// What begins with `<!` and is no comment.
    Declaration,
}

#[derive(Default)]
struct Scan {
    inside: Inside,
    /// The names of the elements that are open.
    open: Vec<Vec<u8>>,
    name: Vec<u8>,
    has_root: bool,
    /// The byte before, and the one before that.
    last: [u8; 2],
}

impl Scan {
    fn take(&mut self, byte: u8) -> Result<(), String> {
        match self.inside {
            Inside::Text if byte == b'<' => {
                self.name.clear();
                self.inside = Inside::Name;
            }
            // Behind a mark of the encoding, which is no text, the root has not begun.
            Inside::Text
                if self.open.is_empty() && !byte.is_ascii_whitespace() && (self.has_root || byte.is_ascii()) =>
            {
                return Err("text stands outside of its root".to_owned());
            }
            Inside::Text => {}
            Inside::Name => self.in_name(byte)?,
            Inside::Tag if byte == b'>' => self.end_of_tag()?,
            Inside::Tag if matches!(byte, b'"' | b'\'') => self.inside = Inside::Value(byte),
            Inside::Tag if byte == b'<' => return Err(format!("`<` stands inside of {}", self.shown())),
            Inside::Tag => {}
            Inside::Value(quote) if byte == quote => self.inside = Inside::Tag,
            Inside::Value(_) => {}
            Inside::Until(end) => {
                let last = [self.last[0], self.last[1], byte];
                if last.ends_with(end) {
                    self.inside = Inside::Text;
                }
            }
            Inside::Declaration if byte == b'>' => self.inside = Inside::Text,
            Inside::Declaration => {}
        }
        self.last = [self.last[1], byte];
        Ok(())
    }

    fn in_name(&mut self, byte: u8) -> Result<(), String> {
        match (self.name.as_slice(), byte) {
            ([], b'?') => self.inside = Inside::Until(b"?>"),
            (b"!-", b'-') => self.inside = Inside::Until(b"-->"),
            (b"![CDATA", b'[') => self.inside = Inside::Until(b"]]>"),
            (b"!", letter) if letter != b'-' && letter != b'[' => self.inside = Inside::Declaration,
            (_, b'>') => self.end_of_tag()?,
            (_, space) if space.is_ascii_whitespace() => self.inside = Inside::Tag,
            (_, b'<') => return Err(format!("`<` stands inside of {}", self.shown())),
            (name, _) if name.len() >= MAX_NAME_BYTES => return Err("an element has too long a name".to_owned()),
            (name, b'/') if !name.is_empty() => self.inside = Inside::Tag,
            _ => self.name.push(byte),
        }
        Ok(())
    }

    fn end_of_tag(&mut self) -> Result<(), String> {
        self.inside = Inside::Text;
        if let Some(name) = self.name.strip_prefix(b"/") {
            return match self.open.pop() {
                Some(opened) if opened == name => Ok(()),
                Some(opened) => Err(format!("`<{}>` is closed by {}", String::from_utf8_lossy(&opened), self.shown())),
                None => Err(format!("{} closes what is not open", self.shown())),
            };
        }
        if self.name.is_empty() || self.name.starts_with(b"!") {
            return Err("`<` has no name behind it".to_owned());
        }
        if self.open.is_empty() && self.has_root {
            return Err(format!("{} stands behind its root", self.shown()));
        }
        self.has_root = true;
        if self.last[1] != b'/' {
            if self.open.len() >= MAX_DEPTH {
                return Err(format!("it has more than {MAX_DEPTH} levels"));
            }
            self.open.push(std::mem::take(&mut self.name));
        }
        Ok(())
    }

    fn end(self) -> Result<(), String> {
        match self.open.last() {
            Some(opened) => Err(format!("it ends before `<{}>` is closed", String::from_utf8_lossy(opened))),
            None if self.inside != Inside::Text => Err("it ends within a tag".to_owned()),
            None if !self.has_root => Err("it holds no element".to_owned()),
            None => Ok(()),
        }
    }

    fn shown(&self) -> String {
        format!("`<{}>`", String::from_utf8_lossy(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\u{feff}<?xml version=\"1.0\"?>\n<!DOCTYPE w>\n<!-- <a> -->\n<x:w a='>' b=\"<\"><r><c/>é &lt;<![CDATA[<no>]]></r><s k=\"/\"></s ></x:w>\n<!-- end -->\n";

    fn is_whole(text: &str) -> bool {
        problem(text.as_bytes()).unwrap().is_none()
    }

    #[test]
    fn xml_that_was_cut_anywhere_is_not_whole() {
        assert_eq!(problem(WHOLE.as_bytes()).unwrap(), None);
        let end = WHOLE.find("</x:w>").unwrap() + "</x:w>".len();
        for cut in (0..end).filter(|cut| WHOLE.is_char_boundary(*cut)) {
            assert!(!is_whole(&WHOLE[..cut]), "{}", &WHOLE[..cut]);
        }
    }

    #[test]
    fn what_is_no_xml_is_told() {
        for (text, told) in [
            ("", "holds no element"),
            ("no xml at all", "outside of its root"),
            ("<a><b></a></b>", "`<b>` is closed by `</a>`"),
            ("<a></a><b></b>", "behind its root"),
            ("<a></a> x", "outside of its root"),
            ("</a>", "not open"),
            ("<a", "within a tag"),
            ("<a <b></b></a>", "stands inside of"),
            ("<a>< b></a>", ""),
        ] {
            let problem = problem(text.as_bytes()).unwrap();
            assert!(problem.as_ref().is_some_and(|problem| problem.contains(told)), "{text}: {problem:?}");
        }
    }
}
