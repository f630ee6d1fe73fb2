//! The one text for what a document says, whichever way it is spelt.

use crate::MAX_DEPTH;
use crate::scalar::{push_value_of, unescaped};
use crate::walk::{Walk, is_word};

/// Write what a well-formed document says in one way: keys sorted, of a repeated one the last, no white space, each number as its
/// digits and its exponent, each text with as few escapes as there can be. Two documents have the same text if and only if
/// they say the same. `None` for what is not well-formed, or deeper than this crate reads.
pub fn canonical(text: &str) -> Option<String> {
    let mut writing = Writing(Walk::new(text));
    let said = writing.value(0)?;
    writing.0.peek().is_none().then_some(said)
}

struct Writing<'a>(Walk<'a>);

impl Writing<'_> {
    /// The depth is bounded, and so is the recursion.
    fn value(&mut self, depth: usize) -> Option<String> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.0.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.quoted(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<String> {
        self.0.skip();
        let mut entries = std::collections::BTreeMap::new();
        let mut is_first = true;
        while !self.0.eat(b'}') {
            if !is_first && !self.0.eat(b',') {
                return None;
            }
            is_first = false;
            self.0.peek().filter(|byte| *byte == b'"')?;
            let key = self.quoted()?;
            self.0.eat(b':').then_some(())?;
            entries.insert(key, self.value(depth + 1)?);
        }
        let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
        Some(format!("{{{}}}", entries.join(",")))
    }

    fn list(&mut self, depth: usize) -> Option<String> {
        self.0.skip();
        let mut items = Vec::new();
        while !self.0.eat(b']') {
            if !items.is_empty() && !self.0.eat(b',') {
                return None;
            }
            items.push(self.value(depth + 1)?);
        }
        Some(format!("[{}]", items.join(",")))
    }

    fn quoted(&mut self) -> Option<String> {
        let inner = self.0.quoted()?;
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
        let token = self.0.token()?;
        if is_word(token) {
            return matches!(token, "true" | "false" | "null").then(|| token.to_owned());
        }
        let mut number = Vec::with_capacity(token.len() + 4);
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
