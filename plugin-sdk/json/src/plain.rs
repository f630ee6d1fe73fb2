//! Whether a text is well-formed and nothing in it is odd, found without writing it: what nearly all documents are.

use std::borrow::Cow;

/// Objects of more keys are not looked at, because each key is compared with all before it.
const MAX_KEYS: usize = 32;

/// Whether a text is an object of at most `most` levels that [`read_as`](crate::read_as) would give back as it is but for white space,
/// without a flag. A few that would come back so are not told from others: those whose keys have escapes or are more than 32 in
/// one object, and those with `\u` or an exponent in them.
///
/// ```
/// assert!(kith_json::is_plain_object(r#"{"total": 5.5, "lines": [{"sku": "a\n"}]}"#, 3));
/// assert!(!kith_json::is_plain_object(r#"{"total": 5.5, "lines": [{"sku": "a\n"}]}"#, 2));
/// assert!(!kith_json::is_plain_object(r#"{"total": 05}"#, 3));
/// ```
pub fn is_plain_object(text: &str, most: usize) -> bool {
    Look::new(text, Writes::Nothing).is_plain_object(most)
}

/// The text of such an object as it would be written, without white space but in texts; `None` for another text.
pub(crate) fn written(text: &str, most: usize) -> Option<Cow<'_, str>> {
    let mut look = Look::new(text, Writes::Text);
    look.is_plain_object(most).then(|| look.written())
}

/// What a look keeps of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    Nothing,
    /// The text without white space.
    Text,
}

/// A place in a text that is taken for plain until something in it is not.
pub(crate) struct Look<'a> {
    text: &'a str,
    at: usize,
    writes: Writes,
    /// The text up to `from` without white space. Texts without any are not copied.
    written: String,
    from: usize,
    /// The keys of all objects that are open.
    keys: Vec<&'a str>,
}

impl<'a> Look<'a> {
    pub(crate) fn new(text: &'a str, writes: Writes) -> Look<'a> {
        Look { text, at: 0, writes, written: String::new(), from: 0, keys: Vec::new() }
    }

    fn is_plain_object(&mut self, most: usize) -> bool {
        self.peek() == Some(b'{') && self.value(most).is_some() && self.peek().is_none()
    }

    /// The next byte that is no white space; the look stands on it afterwards.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let next = self.text.as_bytes().get(self.at).copied();
        if next.is_some_and(|byte| byte > b' ') { next } else { self.peek_behind_blanks() }
    }

    fn peek_behind_blanks(&mut self) -> Option<u8> {
        let blanks = self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        if blanks > 0 && self.writes == Writes::Text {
            if self.written.is_empty() {
                self.written.reserve(self.text.len() - self.from);
            }
            self.written.push_str(&self.text[self.from..self.at]);
            self.from = self.at + blanks;
        }
        self.at += blanks;
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Where the look stands in the text.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Where it stands in what is written. It has to stand on a byte that was peeked at, or right behind a value.
    pub(crate) fn written_place(&self) -> usize {
        self.written.len() + self.at - self.from
    }

    /// What was looked at, without white space.
    pub(crate) fn written(mut self) -> Cow<'a, str> {
        let last = &self.text[self.from..self.at];
        if self.written.is_empty() {
            return Cow::Borrowed(last);
        }
        self.written.push_str(last);
        Cow::Owned(self.written)
    }

    /// A value that is plain; `levels` may be opened in it, which bounds the recursion.
    pub(crate) fn value(&mut self, levels: usize) -> Option<()> {
        match self.peek()? {
            b'{' => {
                let levels = levels.checked_sub(1)?;
                self.object(|look, _| look.value(levels))
            }
            b'[' => {
                let levels = levels.checked_sub(1)?;
                self.list(|look| look.value(levels))
            }
            b'"' => self.quoted().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    /// An object that begins here; `value` goes past the value behind each of its keys, which have no escapes.
    pub(crate) fn object(&mut self, mut value: impl FnMut(&mut Look<'a>, &'a str) -> Option<()>) -> Option<()> {
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        let first = self.keys.len();
        loop {
            (self.peek()? == b'"').then_some(())?;
            let key = self.quoted()?;
            let before = &self.keys[first..];
            let is_usual = before.len() < MAX_KEYS && !key.contains('\\') && !before.contains(&key);
            is_usual.then_some(())?;
            self.keys.push(key);
            (self.peek()? == b':').then_some(())?;
            self.at += 1;
            value(self, key)?;
            if self.ends(b'}')? {
                self.keys.truncate(first);
                return Some(());
            }
        }
    }

    /// A list that begins here; `item` goes past each of its elements.
    pub(crate) fn list(&mut self, mut item: impl FnMut(&mut Look<'a>) -> Option<()>) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            item(self)?;
            if self.ends(b']')? {
                return Some(());
            }
        }
    }

    /// Go past the bracket that closes, or past a comma.
    fn ends(&mut self, bracket: u8) -> Option<bool> {
        let next = self.peek().filter(|byte| *byte == bracket || *byte == b',')?;
        self.at += 1;
        Some(next == bracket)
    }

    /// What stands between the quotes of a text that begins here.
    fn quoted(&mut self) -> Option<&'a str> {
        let from = self.at + 1;
        self.at = from;
        loop {
            self.at += plain_bytes(self.rest());
            match (self.rest().first()?, self.rest().get(1)) {
                (b'"', _) => break,
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => self.at += 2,
                _ => return None,
            }
        }
        let inner = self.text.get(from..self.at);
        self.at += 1;
        inner
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.rest().first() == Some(&b'-'));
        let from = self.at;
        let whole = self.digits()?;
        (whole == 1 || self.text.as_bytes()[from] != b'0').then_some(())?;
        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        // Of so many digits one has to look whether a float holds the number.
        (self.at - from < MAX_DIGITS && self.is_end()).then_some(())
    }

    /// How many digits stand here, at least one.
    fn digits(&mut self) -> Option<usize> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(count)
    }

    fn word(&mut self) -> Option<()> {
        let word = ["true", "false", "null"].into_iter().find(|word| self.rest().starts_with(word.as_bytes()))?;
        self.at += word.len();
        self.is_end().then_some(())
    }

    /// Whether a number or a word ends here.
    fn is_end(&self) -> bool {
        matches!(self.rest().first(), Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
    }
}

/// How many bytes stand before the first quote, backslash or control character. Eight are looked at together, as in "Bit Twiddling
/// Hacks" (S. E. Anderson, "Determine if a word has a byte less than n"): in a difference the lowest byte that borrows is one that
/// is less.
fn plain_bytes(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const TOP: u64 = EACH * 0x80;
    let below = |word: u64, least: u8| word.wrapping_sub(EACH * u64::from(least)) & !word & TOP;
    let (words, _) = bytes.as_chunks::<8>();
    let mut count = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found =
            below(word, b' ') | below(word ^ (EACH * u64::from(b'"')), 1) | below(word ^ (EACH * u64::from(b'\\')), 1);
        if found != 0 {
            return count + found.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    count + bytes[count..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count()
}

/// Longer numbers are not told to be plain.
const MAX_DIGITS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Duplicates, Numbers, read_as};

    #[test]
    fn what_is_plain_is_read_as_it_stands() {
        let plain = [
            "{}",
            " { } \n",
            r#"{"a":{},"b":[],"c":[[1,-2.50,0,0.5],true,false,null,""]}"#,
            "{\"a\" : \"é\u{1f600} \\n\\\"\\\\\\/\" ,\t\"b\":\"}\"}",
        ];
        for text in plain {
            assert!(is_plain_object(text, 3), "{text}");
            let read = read_as(text.as_bytes(), Duplicates::LastHolds, Numbers::Kept).unwrap();
            assert!(read.flags.is_empty() && read.text.starts_with('{'), "{text}");
            assert_eq!(written(text, 3).as_deref(), Some(read.text.as_str()), "{text}");
            assert!(matches!(written(&read.text, 3), Some(Cow::Borrowed(_))), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object()), "{text}");
        }
    }

    #[test]
    fn what_is_odd_or_none_is_not_plain() {
        let many: Vec<String> = (0..=MAX_KEYS).map(|number| format!("\"{number}\":1")).collect();
        let others = [
            "",
            "[]",
            "null",
            "\u{feff}{}",
            "{}\0",
            "{\0}",
            "{} {}",
            "{",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1}"#,
            r#"{"a":1 2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a\n":1}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\"#,
            "{\"a\":\"\n\"}",
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":-}"#,
            r#"{"a":1e400}"#,
            r#"{"a":NaN}"#,
            r#"{"a":nul}"#,
            r#"{"a":truely}"#,
            r#"{"a":{"b":{"c":{}}}}"#,
        ];
        let digits = format!("{{\"a\":1{}}}", "0".repeat(400));
        let keys = format!("{{{}}}", many.join(","));
        for text in others.into_iter().chain([digits.as_str(), keys.as_str()]) {
            assert!(!is_plain_object(text, 3), "{text}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(!is_plain_object(&deep, 64) && is_plain_object(r#"{"a":{"b":{"c":{}}}}"#, 4));
    }

    #[test]
    fn a_run_of_plain_bytes_ends_where_a_byte_alone_would_end_it() {
        let naive = |bytes: &[u8]| bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count();
        for (filler, length) in [(b'a', 0), (b'a', 7), (b' ', 8), (0xc3, 9), (0x80, 16), (b'!', 23), (b'#', 24)] {
            let plain = vec![filler; length];
            assert_eq!(plain_bytes(&plain), length);
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = plain.clone();
                    bytes[place] = byte;
                    assert_eq!(plain_bytes(&bytes), naive(&bytes), "{bytes:?}");
                }
            }
        }
    }
}
