//! A walk over a document that is taken for well-formed: where its values begin and end.

/// A place in a document.
pub(crate) struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(text: &'a str) -> Walk<'a> {
        Walk { text, at: 0 }
    }

    /// The next byte that is no white space; the walk stands on it afterwards.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Go past the byte that was peeked at.
    pub(crate) fn skip(&mut self) {
        self.at += 1;
    }

    /// Go past a byte, if it is the next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// What stands between the quotes of a text that begins here, with its escapes.
    pub(crate) fn quoted(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at + 1..];
        let mut end = 0;
        loop {
            match rest.as_bytes().get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.at += end + 2;
        rest.get(..end)
    }

    /// A number or a word that begins here.
    pub(crate) fn token(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
        let token = rest.get(..length).filter(|token| !token.is_empty())?;
        self.at += length;
        Some(token)
    }
}

/// Whether a token is a word such as `true`, and no number.
pub(crate) fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic())
}
