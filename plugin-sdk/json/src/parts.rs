//! The parts of a document, found without being read: a part ends where its brackets are closed, whatever stands between them. So a
//! message that nobody can read costs no other of its batch.

use std::borrow::Cow;
use std::ops::Range;

use crate::scan::Scan;
use crate::{Unreadable, read};

/// A key of an object, and the bytes of its value.
pub type Member<'a> = (Cow<'a, str>, &'a [u8]);

/// A key of an object, and the text of its value.
pub type Entry<'a> = (Cow<'a, str>, &'a str);

/// The entries of an object, each value as its bytes; and where the object ends.
///
/// # Errors
/// Where it is no object, or does not end.
pub fn members(bytes: &[u8]) -> Result<(Vec<Member<'_>>, usize), Unreadable> {
    let mut entries = Vec::new();
    let end = each_member(bytes, |key, value| entries.push((key, &bytes[value])))?;
    Ok((entries, end))
}

/// The entries of an object in a document, each value as its text.
///
/// # Errors
/// Where it is no object, or does not end.
///
/// ```
/// let entries = kith_json::entries(r#"{"a": [1, {}], "b": "c"}"#).unwrap();
/// assert_eq!(entries, [("a".into(), "[1, {}]"), ("b".into(), "\"c\"")]);
/// ```
pub fn entries(text: &str) -> Result<Vec<Entry<'_>>, Unreadable> {
    let mut entries = Vec::with_capacity(USUAL_ENTRIES);
    each_member(text.as_bytes(), |key, value| entries.push((key, &text[value])))?;
    Ok(entries)
}

/// Room for what an object has as a rule.
const USUAL_ENTRIES: usize = 8;

/// Tell of each entry of an object and of the place of its value, which begins and ends between characters: what ends it is ASCII.
fn each_member<'a>(bytes: &'a [u8], mut tell: impl FnMut(Cow<'a, str>, Range<usize>)) -> Result<usize, Unreadable> {
    let mut scan = Scan::new(bytes);
    scan.open(b'{', "an object is expected")?;
    while !scan.closes(b'}')? {
        let key = scan.value()?;
        let at = scan.at;
        let key = text(&bytes[key]).ok_or(Unreadable { at, problem: "a key is expected" })?;
        scan.skip_blanks();
        if scan.peek() != Some(b':') {
            return Err(scan.problem("`:` is expected"));
        }
        scan.at += 1;
        tell(key, scan.value()?);
    }
    Ok(scan.at)
}

/// The elements of a list, each as its bytes. Where one does not end, it is the last and has all that follows, so that those before it
/// stand.
///
/// # Errors
/// Where it is no list.
pub fn elements(bytes: &[u8]) -> Result<Vec<&[u8]>, Unreadable> {
    let mut items = Vec::new();
    each_element(bytes, |item| items.push(&bytes[item]))?;
    Ok(items)
}

/// The elements of a list in a document, each as its text.
///
/// # Errors
/// Where it is no list.
pub fn items(text: &str) -> Result<Vec<&str>, Unreadable> {
    let mut items = Vec::new();
    each_element(text.as_bytes(), |item| items.push(&text[item]))?;
    Ok(items)
}

fn each_element(bytes: &[u8], mut tell: impl FnMut(Range<usize>)) -> Result<(), Unreadable> {
    let mut scan = Scan::new(bytes);
    scan.open(b'[', "a list is expected")?;
    while scan.closes(b']') == Ok(false) {
        let from = scan.at;
        match scan.value() {
            Ok(item) => tell(item),
            Err(_) => {
                tell(from..from + bytes[from..].trim_ascii_end().len());
                break;
            }
        }
    }
    Ok(())
}

/// The text under a key of the object that `bytes` hold, the last where the key comes again; `None` where there is none.
pub fn member(bytes: &[u8], key: &str) -> Option<String> {
    let bytes = crate::decoded(bytes);
    // Most that are asked do not have it; without escapes it would stand there as it is.
    if std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains(key) && !text.contains('\\')) {
        return None;
    }
    let (entries, _) = members(&bytes).ok()?;
    let value = entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)?;
    text(value).map(Cow::into_owned)
}

/// The text that `bytes` hold as a JSON text; `None` where they hold something else.
pub fn text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let bytes = bytes.trim_ascii();
    let inner = bytes.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\')
        && let Ok(plain) = std::str::from_utf8(inner)
    {
        return Some(Cow::Borrowed(plain));
    }
    let read = read(bytes).ok()?;
    let inner = read.text.strip_prefix('"')?.strip_suffix('"')?;
    Some(Cow::Owned(crate::scalar::unescaped(inner)))
}

impl Scan<'_> {
    fn open(&mut self, bracket: u8, problem: &'static str) -> Result<(), Unreadable> {
        self.skip_blanks();
        if self.peek() != Some(bracket) {
            return Err(self.problem(problem));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether the bracket closes here; commas before the next entry, or before the end, are passed over.
    fn closes(&mut self, bracket: u8) -> Result<bool, Unreadable> {
        self.skip_blanks();
        while self.peek() == Some(b',') {
            self.at += 1;
            self.skip_blanks();
        }
        match self.peek() {
            None => Err(self.problem("the document ends too early")),
            Some(byte) if byte == bracket => {
                self.at += 1;
                Ok(true)
            }
            Some(b':' | b']' | b'}') => Err(self.problem("a value is expected")),
            Some(_) => Ok(false),
        }
    }

    /// Where the bytes of the value lie that begins here. A bracket that closes an outer one closes the inner ones too, because a bracket is
    /// forgotten more easily than doubled; one that closes nothing means nothing.
    fn value(&mut self) -> Result<Range<usize>, Unreadable> {
        self.skip_blanks();
        let from = self.at;
        let mut open = Vec::new();
        let mut open_lists = 0_usize;
        loop {
            match self.peek() {
                None if open.is_empty() && self.at > from => break,
                None => return Err(self.problem("the document ends too early")),
                Some(b'"') => self.skip_text()?,
                Some(bracket @ (b'{' | b'[')) => {
                    open.push(bracket);
                    open_lists += usize::from(bracket == b'[');
                    self.at += 1;
                }
                Some(b',' | b':' | b'}' | b']') if open.is_empty() => break,
                Some(bracket @ (b'}' | b']')) => {
                    self.at += 1;
                    let opens = if bracket == b'}' { b'{' } else { b'[' };
                    let count = if bracket == b'}' { open.len() - open_lists } else { open_lists };
                    if count > 0 {
                        while let Some(closed) = open.pop() {
                            open_lists -= usize::from(closed == b'[');
                            if closed == opens {
                                break;
                            }
                        }
                    }
                    if open.is_empty() {
                        break;
                    }
                }
                Some(_) => self.at += 1,
            }
        }
        let length = self.bytes[from..self.at].trim_ascii_end().len();
        if length == 0 { Err(self.problem("a value is expected")) } else { Ok(from..from + length) }
    }

    fn skip_text(&mut self) -> Result<(), Unreadable> {
        let from = self.at;
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                None => return Err(Unreadable { at: from, problem: "a text does not end" }),
                Some(run) if rest[run] == b'"' => {
                    self.at += run + 1;
                    return Ok(());
                }
                Some(run) => self.at += run + 2,
            }
        }
    }
}
