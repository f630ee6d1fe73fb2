//! A number for what a document says, the same however it is spelt.

use crate::MAX_DEPTH;
use crate::scalar::{push_value_of, unescaped};
use crate::walk::{Walk, is_word};

/// A hash of what a well-formed document says: neither the order of keys, nor white space, nor how a text is escaped or a number is
/// written changes it. `hash` hashes bytes. What is not well-formed, or deeper than this crate reads, is hashed as it is.
pub fn fingerprint(text: &str, hash: fn(&[u8]) -> u64) -> u64 {
    let mut hashing = Hashing { walk: Walk::new(text), hash };
    hashing.value(0).unwrap_or_else(|| hash(text.as_bytes()))
}

struct Hashing<'a> {
    walk: Walk<'a>,
    hash: fn(&[u8]) -> u64,
}

impl Hashing<'_> {
    /// The depth is bounded, and so is the recursion.
    fn value(&mut self, depth: usize) -> Option<u64> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.walk.peek()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.text(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<u64> {
        self.walk.skip();
        let mut entries = Vec::new();
        while !self.walk.eat(b'}') {
            if !entries.is_empty() && !self.walk.eat(b',') {
                return None;
            }
            self.walk.peek().filter(|byte| *byte == b'"')?;
            let key = self.text()?;
            self.walk.eat(b':').then_some(())?;
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
        self.walk.skip();
        let mut bytes = vec![b'['];
        while !self.walk.eat(b']') {
            if bytes.len() > 1 && !self.walk.eat(b',') {
                return None;
            }
            bytes.extend_from_slice(&self.value(depth + 1)?.to_be_bytes());
        }
        Some((self.hash)(&bytes))
    }

    fn text(&mut self) -> Option<u64> {
        let inner = self.walk.quoted()?;
        if inner.contains('\\') { Some(self.said(&unescaped(inner))) } else { Some(self.said(inner)) }
    }

    fn said(&self, text: &str) -> u64 {
        // Turned, so that a text differs from the number or word of the same characters.
        (self.hash)(text.as_bytes()).rotate_left(1)
    }

    fn word(&mut self) -> Option<u64> {
        let token = self.walk.token()?;
        if is_word(token) {
            return Some((self.hash)(token.as_bytes()));
        }
        let mut number = Vec::with_capacity(token.len() + 4);
        push_value_of(token, &mut number);
        Some((self.hash)(&number))
    }
}
