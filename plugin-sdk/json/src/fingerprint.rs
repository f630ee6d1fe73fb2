//! A number for what a document says, the same however it is spelt.

use crate::MAX_DEPTH;
use crate::scalar::{push_value_of, unescaped};
use crate::walk::{Walk, is_word};

/// A hash of what a well-formed document says: neither the order of keys, nor white space, nor how a text is escaped or a number is
/// written changes it. `hash` hashes bytes. What is not well-formed, or deeper than this crate reads, is hashed as it is.
pub fn fingerprint(text: &str, hash: fn(&[u8]) -> u64) -> u64 {
    // Room for what an event has, so that neither grows for it.
    let (parts, bytes) = (Vec::with_capacity(16), Vec::with_capacity(256));
    let mut hashing = Hashing { walk: Walk::new(text), hash, parts, bytes };
    hashing.value(0).unwrap_or_else(|| hash(text.as_bytes()))
}

struct Hashing<'a> {
    walk: Walk<'a>,
    hash: fn(&[u8]) -> u64,
    /// Hashes of the keys and values of all objects and lists that are open; elements of lists have no keys.
    parts: Vec<(u64, u64)>,
    /// What is hashed at the moment.
    bytes: Vec<u8>,
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
        let from = self.parts.len();
        while !self.walk.eat(b'}') {
            if self.parts.len() > from && !self.walk.eat(b',') {
                return None;
            }
            self.walk.peek().filter(|byte| *byte == b'"')?;
            let key = self.text()?;
            self.walk.eat(b':').then_some(())?;
            let value = self.value(depth + 1)?;
            self.parts.push((key, value));
        }
        let entries = &mut self.parts[from..];
        entries.sort_by_key(|(key, _)| *key);
        self.bytes.clear();
        self.bytes.push(b'{');
        for (place, (key, value)) in entries.iter().enumerate() {
            // Of a key that comes again the last holds: the sort keeps their order.
            if entries.get(place + 1).is_none_or(|(next, _)| next != key) {
                self.bytes.extend_from_slice(&key.to_be_bytes());
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
        }
        self.parts.truncate(from);
        Some((self.hash)(&self.bytes))
    }

    fn list(&mut self, depth: usize) -> Option<u64> {
        self.walk.skip();
        let from = self.parts.len();
        while !self.walk.eat(b']') {
            if self.parts.len() > from && !self.walk.eat(b',') {
                return None;
            }
            let value = self.value(depth + 1)?;
            self.parts.push((0, value));
        }
        self.bytes.clear();
        self.bytes.push(b'[');
        for (_, value) in self.parts.drain(from..) {
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
        Some((self.hash)(&self.bytes))
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
        self.bytes.clear();
        push_value_of(token, &mut self.bytes);
        Some((self.hash)(&self.bytes))
    }
}
