//! A number for what a document says, the same however it is spelt.

use crate::MAX_DEPTH;
use crate::scalar::{push_value_of, unescaped};

/// A hash of what a well-formed document says: neither the order of keys, nor white space, nor how a text is escaped or a number is
/// written changes it. `hash` hashes bytes. What is not well-formed, or deeper than this crate reads, is hashed as it is.
pub fn fingerprint(text: &str, hash: fn(&[u8]) -> u64) -> u64 {
    let mut walk = Walk { text, at: 0, hash };
    walk.value(0).unwrap_or_else(|| hash(text.as_bytes()))
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    hash: fn(&[u8]) -> u64,
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
    fn value(&mut self, depth: usize) -> Option<u64> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.text(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<u64> {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.eat(b'}') {
            if !entries.is_empty() && !self.eat(b',') {
                return None;
            }
            self.peek().filter(|byte| *byte == b'"')?;
            let key = self.text()?;
            self.eat(b':').then_some(())?;
            entries.push((key, self.value(depth + 1)?));
        }
        // Of a key that comes again the last holds: it is the first here, since the sort keeps their order.
        entries.reverse();
        entries.sort_by_key(|(key, _)| *key);
        entries.dedup_by_key(|(key, _)| *key);
        let mut bytes = Vec::with_capacity(1 + entries.len() * 16);
        bytes.push(b'{');
        for (key, value) in entries {
            bytes.extend_from_slice(&key.to_be_bytes());
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Some((self.hash)(&bytes))
    }

    fn list(&mut self, depth: usize) -> Option<u64> {
        self.at += 1;
        let mut bytes = vec![b'['];
        while !self.eat(b']') {
            if bytes.len() > 1 && !self.eat(b',') {
                return None;
            }
            bytes.extend_from_slice(&self.value(depth + 1)?.to_be_bytes());
        }
        Some((self.hash)(&bytes))
    }

    fn text(&mut self) -> Option<u64> {
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
        let said = if inner.contains('\\') { unescaped(inner) } else { return Some(self.said(inner)) };
        Some(self.said(&said))
    }

    fn said(&self, text: &str) -> u64 {
        // Turned, so that a text differs from the number or word of the same characters.
        (self.hash)(text.as_bytes()).rotate_left(1)
    }

    fn word(&mut self) -> Option<u64> {
        let rest = &self.text[self.at..];
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
        let token = rest.get(..length).filter(|token| !token.is_empty())?;
        self.at += length;
        if token.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Some((self.hash)(token.as_bytes()));
        }
        let mut number = Vec::with_capacity(length + 4);
        push_value_of(token, &mut number);
        Some((self.hash)(&number))
    }
}
