//! Whether a text is well-formed and nothing in it is odd, found without writing it: what nearly all documents are.

/// Objects of more keys are not looked at, because each key is compared with all before it.
const MAX_KEYS: usize = 16;

/// Whether a text is an object of at most `most` levels that [`read_as`](crate::read_as) would give back as it is but for white space,
/// without a flag. A few that would come back so are not told from others: those whose keys have escapes or are more than sixteen in
/// one object, and those with `\u` or an exponent in them.
///
/// ```
/// assert!(kith_json::is_plain_object(r#"{"total": 5.5, "lines": [{"sku": "a\n"}]}"#, 3));
/// assert!(!kith_json::is_plain_object(r#"{"total": 5.5, "lines": [{"sku": "a\n"}]}"#, 2));
/// assert!(!kith_json::is_plain_object(r#"{"total": 05}"#, 3));
/// ```
pub fn is_plain_object(text: &str, most: usize) -> bool {
    Look::new(text).is_plain_object(most)
}

/// Whether a text is such an object, and has no white space but in texts: then it is as it would be written.
pub(crate) fn is_written_object(text: &str, most: usize) -> bool {
    let mut look = Look::new(text);
    look.is_plain_object(most) && !look.has_blanks
}

struct Look<'a> {
    text: &'a str,
    at: usize,
    /// Whether white space was passed over.
    has_blanks: bool,
}

impl<'a> Look<'a> {
    fn new(text: &'a str) -> Look<'a> {
        Look { text, at: 0, has_blanks: false }
    }

    fn is_plain_object(&mut self, most: usize) -> bool {
        self.peek() == Some(b'{') && self.value(most).is_some() && self.peek().is_none()
    }

    /// The next byte that is no white space; the look stands on it afterwards.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.at += blanks;
        self.has_blanks |= blanks > 0;
        rest.get(blanks).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// A value that is plain; `levels` may be opened in it, which bounds the recursion.
    fn value(&mut self, levels: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(levels.checked_sub(1)?),
            b'[' => self.list(levels.checked_sub(1)?),
            b'"' => self.quoted().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, levels: usize) -> Option<()> {
        self.at += 1;
        let (mut keys, mut count) = ([""; MAX_KEYS], 0);
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            (self.peek()? == b'"').then_some(())?;
            let key = self.quoted()?;
            let is_usual = count < MAX_KEYS && !key.contains('\\') && !keys[..count].contains(&key);
            is_usual.then_some(())?;
            keys[count] = key;
            count += 1;
            (self.peek()? == b':').then_some(())?;
            self.at += 1;
            self.value(levels)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn list(&mut self, levels: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(levels)?;
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
            let rest = self.rest();
            let run = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
            self.at += run;
            match (rest[run], rest.get(run + 1)) {
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
            assert!(is_written_object(&read.text, 3) && (read.text == text) == is_written_object(text, 3), "{text}");
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
}
