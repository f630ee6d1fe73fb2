//! JSON without taking it apart: an object becomes its keys and the text of each value, and texts are borrowed where they can be.
//!
//! It is well-formed by then: the SDK's `json` has read what the sender wrote. Leaves what the keys mean to `message`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kith_plugin_sdk::json::{self, Unreadable};

/// The text of a JSON value, known to be well-formed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    pub(crate) fn get(self) -> &'a str {
        self.0
    }
}

/// An object's entries in order. Of a repeated key the last holds, as in JavaScript.
#[derive(Debug, Default)]
pub(crate) struct Object<'a> {
    entries: Vec<(Cow<'a, str>, Raw<'a>)>,
    /// Values whose key came again.
    replaced: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Object<'a> {
    /// The object that a text holds.
    pub(crate) fn read(text: &'a str) -> Result<Object<'a>, Unreadable> {
        let entries = json::entries(text)?;
        let mut object = Object { entries: Vec::with_capacity(entries.len()), replaced: Vec::new() };
        for (key, value) in entries {
            // Looking for a repetition costs the square of the number of keys, which an attacker chooses.
            if object.entries.len() < MAX_CHECKED_KEYS {
                object.set(key, Raw(value));
            } else {
                object.entries.push((key, Raw(value)));
            }
        }
        Ok(object)
    }

    /// The object of entries none of whose keys comes again.
    pub(crate) fn of(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Object<'a> {
        let entries = entries.map(|(key, value)| (Cow::Borrowed(key), Raw(value))).collect();
        Object { entries, replaced: Vec::new() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Raw<'a>> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.entries.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// All entries, those whose key came again included, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.entries.iter().chain(&self.replaced).map(|(name, value)| (name.as_ref(), *value))
    }

    fn set(&mut self, key: Cow<'a, str>, value: Raw<'a>) {
        match self.entries.iter_mut().find(|(name, _)| *name == key) {
            Some(entry) => self.replaced.push((key, std::mem::replace(&mut entry.1, value))),
            None => self.entries.push((key, value)),
        }
    }
}

/// Messages have about ten fields and traits some dozens. Past this many keys an object is taken as it is, repetitions and all.
const MAX_CHECKED_KEYS: usize = 128;

/// The text of a JSON string, `None` for another type.
pub(crate) fn text<'a>(raw: Raw<'a>) -> Option<Cow<'a, str>> {
    json::text(raw.get().as_bytes())
}

/// Whether a value is `null`.
pub(crate) fn is_null(raw: Raw<'_>) -> bool {
    raw.get() == "null"
}

/// Whether a value is an object.
pub(crate) fn is_object(raw: Raw<'_>) -> bool {
    raw.get().starts_with('{')
}

/// Whether a value is an object without entries.
pub(crate) fn is_empty_object(object: &str) -> bool {
    object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).is_some_and(|inner| inner.trim().is_empty())
}

/// Whether one of these, each with its quotes, may stand somewhere in a text of JSON: a key of the object, or something else that is
/// written so. Escapes, which could spell it, are not read.
pub(crate) fn may_have(object: &str, quoted: [&str; 2]) -> bool {
    let bytes = object.as_bytes();
    let begins = |at: usize| quoted.iter().any(|key| bytes[at..].starts_with(key.as_bytes()));
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'"' => begins(at),
        b'\\' => bytes.get(at + 1) == Some(&b'u'),
        _ => false,
    })
}

/// An object that is written entry by entry, with the text of each value as it is.
pub(crate) struct ObjectWriter {
    text: String,
}

impl ObjectWriter {
    /// Begins with the entries of `object`, the text of an object or empty.
    pub(crate) fn beginning_with(object: &str, capacity: usize) -> ObjectWriter {
        let mut text = String::with_capacity(object.len() + capacity + 2);
        let inner = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim_end();
        text.push('{');
        text.push_str(inner);
        ObjectWriter { text }
    }

    /// Adds an entry whose value is the text of a JSON value.
    pub(crate) fn entry(&mut self, key: &str, value: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        if key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.text.push('"');
            self.text.push_str(key);
            self.text.push('"');
        } else {
            self.text.push_str(&serde_json::Value::from(key).to_string());
        }
        self.text.push(':');
        self.text.push_str(value);
    }

    /// Adds the entries of `object`, the text of an object or empty.
    pub(crate) fn entries_of(&mut self, object: &str) {
        let inner = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
        if !inner.is_empty() {
            if self.text.len() > 1 {
                self.text.push(',');
            }
            self.text.push_str(inner);
        }
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// The entries of `base` under those of `over`: where both have a key, `over` holds. Both are texts of objects or empty.
pub(crate) fn merge<'a>(base: &'a str, over: &'a str) -> Result<Cow<'a, str>, Unreadable> {
    if base.is_empty() || is_empty_object(base) || base == over {
        return Ok(Cow::Borrowed(over));
    }
    if over.is_empty() || is_empty_object(over) {
        return Ok(Cow::Borrowed(base));
    }
    let base = Object::read(base)?;
    let over_object = Object::read(over)?;
    // A set, since the number of keys is the sender's choice and asking each for each would cost its square.
    let held: BTreeSet<&str> = over_object.iter().map(|(key, _)| key).collect();
    let mut merged = ObjectWriter::beginning_with(over, 256);
    for (key, value) in base.iter().filter(|(key, _)| !held.contains(key)) {
        merged.entry(key, value.get());
    }
    Ok(Cow::Owned(merged.finish()))
}

/// The elements of a list, each as its text; `None` for another type.
pub(crate) fn list(raw: Raw<'_>) -> Option<Vec<Raw<'_>>> {
    Some(json::items(raw.get()).ok()?.into_iter().map(Raw).collect())
}
