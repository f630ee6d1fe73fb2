//! The one text for what a document says, whichever way it is spelt.

use crate::MAX_DEPTH;
use crate::scalar::{push_value_of, unescaped};

/// Write what a well-formed document says in one way: keys sorted, of a repeated one the last, no white space, each number as its
/// digits and its exponent, each text with as few escapes as there can be. Two documents have the same text if and only if
/// they say the same. `None` for what is not well-formed, or deeper than this crate reads.
pub fn canonical(text: &str) -> Option<String> {
    let mut walk = Walk { text, at: 0 };
    let said = walk.value(0)?;
    walk.peek().is_none().then_some(said)
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl Walk<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// The depth is bounded, and so is the recursion.
    fn value(&mut self, depth: usize) -> Option<String> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.quoted(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<String> {
        self.at += 1;
        let mut entries = std::collections::BTreeMap::new();
        let mut is_first = true;
        while !self.eat(b'}') {
            if !is_first && !self.eat(b',') {
                return None;
            }
            is_first = false;
            self.peek().filter(|byte| *byte == b'"')?;
            let key = self.quoted()?;
            self.eat(b':').then_some(())?;
            entries.insert(key, self.value(depth + 1)?);
        }
        let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
        Some(format!("{{{}}}", entries.join(",")))
    }

    fn list(&mut self, depth: usize) -> Option<String> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.eat(b']') {
            if !items.is_empty() && !self.eat(b',') {
                return None;
            }
            items.push(self.value(depth + 1)?);
        }
        Some(format!("[{}]", items.join(",")))
    }

    fn quoted(&mut self) -> Option<String> {
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
        let inner = rest.get(..end)?;
        let said = if inner.contains('\\') { unescaped(inner) } else { return Some(format!("\"{inner}\"")) };
        let mut written = String::with_capacity(said.len() + 2);
        written.push('"');
        for letter in said.chars() {
            match letter {
                '"' | '\\' => written.extend(['\\', letter]),
                control if control < ' ' => written.push_str(&format!("\\u{:04x}", u32::from(control))),
                letter => written.push(letter),
            }
        }
        written.push('"');
        Some(written)
    }

    fn word(&mut self) -> Option<String> {
        let rest = &self.text[self.at..];
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
        let token = rest.get(..length).filter(|token| !token.is_empty())?;
        self.at += length;
        if token.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return matches!(token, "true" | "false" | "null").then(|| token.to_owned());
        }
        let mut number = Vec::with_capacity(length + 4);
        push_value_of(token, &mut number);
        String::from_utf8(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_one_text() {
        for same in [
            &[r#"{"a":1,"b":"é"}"#, r#" { "b" : "\u00e9", "a" : 1.0 }"#, r#"{"a":9,"b":"é","a":10e-1}"#][..],
            &["0", "-0", "0.0", "0e9"],
            &["\"a/b\"", r#""a\/b""#, r#""\u0061/b""#],
            &[r#""\n""#, r#""\u000a""#, r#""\u000A""#],
            &["[1, [true,null]]", "[1,[true,null]]"],
        ] {
            for one in same {
                assert_eq!(canonical(one), canonical(same[0]), "{one}");
                assert!(canonical(one).is_some(), "{one}");
            }
        }
    }

    #[test]
    fn what_says_another_thing_has_another_text() {
        let all = [
            "1",
            "\"1\"",
            "-1",
            "10",
            "true",
            "\"true\"",
            "null",
            "[]",
            "{}",
            "[[]]",
            "[1]",
            "{\"1\":1}",
            "\"[1]\"",
            "1e1000",
        ];
        for (place, one) in all.iter().enumerate() {
            for other in &all[place + 1..] {
                assert_ne!(canonical(one), canonical(other), "{one} {other}");
            }
        }
        for broken in ["", "{", "[1", "\"", "1 2", "nul", "{\"a\"}", "[,]"] {
            assert_eq!(canonical(broken), None, "{broken}");
        }
        assert_eq!(canonical(&format!("{}{}", "[".repeat(200), "]".repeat(200))), None);
    }
}
