//! The one pass: from bytes to well-formed JSON, with a stack in place of recursion.

use std::borrow::Cow;

use crate::scalar;
use crate::scan::Scan;
use crate::{Document, Duplicates, Flags, MAX_DEPTH, Numbers, Oddity, Unreadable};

/// A list or object that is open.
struct Frame {
    is_object: bool,
    /// Where it begins in what is written.
    from: usize,
    /// The first of its entries among all that are remembered.
    first_entry: usize,
    /// Elements that were begun.
    count: usize,
}

/// An entry of an object that is open, or was a moment ago: places in what is written.
#[derive(Clone, Copy)]
struct Entry {
    key: usize,
    /// Behind the key's closing quote.
    key_end: usize,
    /// Behind its value.
    end: usize,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of the list or object that was just opened or of which a comma was just read.
    EntryOrEnd,
    CommaOrEnd,
}

pub(crate) struct Writer<'a> {
    scan: Scan<'a>,
    out: String,
    stack: Vec<Frame>,
    entries: Vec<Entry>,
    flags: Flags,
    duplicates: Duplicates,
    numbers: Numbers,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a [u8], duplicates: Duplicates, numbers: Numbers) -> Writer<'a> {
        let out = String::with_capacity(bytes.len());
        let (stack, entries, flags) = (Vec::new(), Vec::new(), Flags::default());
        Writer { scan: Scan::new(bytes), out, stack, entries, flags, duplicates, numbers }
    }

    pub(crate) fn document(mut self) -> Result<Document, Unreadable> {
        let mut next = Next::Value;
        loop {
            self.scan.skip_blanks();
            next = match next {
                Next::Value => self.value()?,
                Next::EntryOrEnd => self.entry()?,
                Next::CommaOrEnd if self.stack.is_empty() => break,
                Next::CommaOrEnd => self.comma()?,
            };
        }
        if self.scan.at < self.scan.bytes.len() {
            self.flags.add(Oddity::TrailingBytes, String::new());
        }
        Ok(Document { text: self.out, flags: self.flags })
    }

    /// Something is odd at the place that is written now.
    fn odd(&mut self, oddity: Oddity) {
        let path = if self.flags.has_room() { self.path() } else { String::new() };
        self.flags.add(oddity, path);
    }

    /// The keys and indices on the way to the place that is written now.
    fn path(&self) -> String {
        let mut path = String::new();
        for (depth, frame) in self.stack.iter().enumerate() {
            if frame.is_object {
                let last = self.stack.get(depth + 1).map_or(self.entries.len(), |inner| inner.first_entry);
                let Some(entry) = self.entries[frame.first_entry..last].last() else { break };
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&self.out[entry.key + 1..entry.key_end - 1]);
            } else {
                path.push_str(&format!("[{}]", frame.count.saturating_sub(1)));
            }
        }
        path
    }

    /// A value begins here.
    fn value(&mut self) -> Result<Next, Unreadable> {
        match self.scan.peek() {
            None => Err(self.scan.problem("the document ends too early")),
            Some(bracket @ (b'{' | b'[')) => {
                if self.stack.len() >= MAX_DEPTH {
                    self.odd(Oddity::TooDeep);
                    self.skip_nested()?;
                    self.out.push_str("null");
                    return Ok(self.ended());
                }
                let (from, first_entry) = (self.out.len(), self.entries.len());
                self.stack.push(Frame { is_object: bracket == b'{', from, first_entry, count: 0 });
                self.out.push(char::from(bracket));
                self.scan.at += 1;
                Ok(Next::EntryOrEnd)
            }
            Some(b'"') => {
                self.scalar(|bytes, out, odd| scalar::text(bytes, out, odd))?;
                Ok(self.ended())
            }
            Some(_) => {
                let numbers = self.numbers;
                self.scalar(|bytes, out, odd| scalar::other(bytes, out, numbers, odd))?;
                Ok(self.ended())
            }
        }
    }

    /// Copy a text, number or word, and tell what was odd in it.
    fn scalar(
        &mut self,
        copy: impl FnOnce(&[u8], &mut String, &mut dyn FnMut(Oddity)) -> scalar::Scalar,
    ) -> Result<(), Unreadable> {
        let mut odd: [Option<Oddity>; 4] = [None; 4];
        let mut tell = |oddity: Oddity| {
            let room = odd.iter_mut().find(|held| held.is_none_or(|held| held == oddity));
            if let Some(room) = room {
                *room = Some(oddity);
            }
        };
        let length = copy(&self.scan.bytes[self.scan.at..], &mut self.out, &mut tell)
            .map_err(|problem| self.scan.problem(problem))?;
        self.scan.at += length;
        for oddity in odd.into_iter().flatten() {
            self.odd(oddity);
        }
        Ok(())
    }

    /// A value has ended.
    fn ended(&mut self) -> Next {
        if let Some(frame) = self.stack.last()
            && frame.is_object
            && let Some(entry) = self.entries.last_mut()
        {
            entry.end = self.out.len();
        }
        Next::CommaOrEnd
    }

    fn is_closing(&self, byte: u8) -> bool {
        self.stack.last().is_some_and(|frame| byte == if frame.is_object { b'}' } else { b']' })
    }

    /// An entry begins here, or the list or object ends.
    fn entry(&mut self) -> Result<Next, Unreadable> {
        match self.scan.peek() {
            None => return Err(self.scan.problem("the document ends too early")),
            Some(byte) if self.is_closing(byte) => {
                if self.stack.last().is_some_and(|frame| frame.count > 0) {
                    self.odd_of_frame(Oddity::TrailingComma);
                }
                return Ok(self.close());
            }
            Some(_) => {}
        }
        let Some(frame) = self.stack.last_mut() else { return Err(self.scan.problem("a value is expected")) };
        let (is_object, is_first) = (frame.is_object, frame.count == 0);
        frame.count += 1;
        if !is_first {
            self.out.push(',');
        }
        if is_object {
            self.key()?;
        }
        Ok(Next::Value)
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), Unreadable> {
        if self.scan.peek() != Some(b'"') {
            return Err(self.scan.problem("a key is expected"));
        }
        let key = self.out.len();
        let mut is_odd = None;
        let length = scalar::text(&self.scan.bytes[self.scan.at..], &mut self.out, |oddity| is_odd = Some(oddity))
            .map_err(|problem| self.scan.problem(problem))?;
        self.scan.at += length;
        self.entries.push(Entry { key, key_end: self.out.len(), end: self.out.len() });
        if let Some(oddity) = is_odd {
            self.odd(oddity);
        }
        self.scan.skip_blanks();
        if self.scan.peek() != Some(b':') {
            return Err(self.scan.problem("`:` is expected"));
        }
        self.scan.at += 1;
        self.out.push(':');
        Ok(())
    }

    fn comma(&mut self) -> Result<Next, Unreadable> {
        match self.scan.peek() {
            None => Err(self.scan.problem("the document ends too early")),
            Some(b',') => {
                self.scan.at += 1;
                Ok(Next::EntryOrEnd)
            }
            Some(byte) if self.is_closing(byte) => Ok(self.close()),
            Some(_) => Err(self.scan.problem("`,` or the end of a list or object is expected")),
        }
    }

    /// Something is odd of the list or object itself, not of its last entry.
    fn odd_of_frame(&mut self, oddity: Oddity) {
        let Some(frame) = self.stack.pop() else { return };
        let inner = self.entries.split_off(frame.first_entry);
        self.odd(oddity);
        self.entries.extend(inner);
        self.stack.push(frame);
    }

    /// The list or object ends here.
    fn close(&mut self) -> Next {
        self.scan.at += 1;
        let Some(frame) = self.stack.pop() else { return Next::CommaOrEnd };
        if frame.is_object && self.entries.len() > frame.first_entry + 1 {
            let again = repeated(&self.out, &self.entries[frame.first_entry..]);
            if !again.is_empty() {
                self.tell_of_duplicates(&frame, &again);
            }
        }
        self.entries.truncate(frame.first_entry);
        self.out.push(if frame.is_object { '}' } else { ']' });
        self.ended()
    }

    /// Tell of keys that come again behind these entries of an object that has ended, and leave out all but the last.
    fn tell_of_duplicates(&mut self, frame: &Frame, again: &[usize]) {
        let entries = self.entries.split_off(frame.first_entry);
        for index in again {
            let key = &self.out[entries[*index].key + 1..entries[*index].key_end - 1];
            let path = if self.flags.has_room() { self.path() } else { String::new() };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            self.flags.add(Oddity::DuplicateKey, path);
        }
        if self.duplicates == Duplicates::LastHolds {
            let kept = entries.iter().enumerate().filter(|(index, _)| again.binary_search(index).is_err());
            let parts: Vec<&str> = kept.map(|(_, entry)| &self.out[entry.key..entry.end]).collect();
            let whole = parts.join(",");
            self.out.truncate(frame.from + 1);
            self.out.push_str(&whole);
        }
    }

    /// Pass over a list or object without looking at what is in it.
    fn skip_nested(&mut self) -> Result<(), Unreadable> {
        let from = self.scan.at;
        let mut depth = 0_usize;
        let mut in_text = false;
        while let Some(byte) = self.scan.peek() {
            self.scan.at += 1;
            match byte {
                b'\\' if in_text => self.scan.at += 1,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(Unreadable { at: from, problem: "a list or object does not end" })
    }
}

/// Objects of so many keys are compared pair by pair, which needs no memory.
const FEW_KEYS: usize = 8;

/// The entries whose key comes again behind them, in their order.
fn repeated(out: &str, entries: &[Entry]) -> Vec<usize> {
    let raw = |entry: &Entry| &out[entry.key + 1..entry.key_end - 1];
    if entries.len() <= FEW_KEYS {
        let is_plain = |entry: &Entry| !raw(entry).contains('\\');
        let differs = |(index, entry): (usize, &Entry)| entries[..index].iter().all(|before| raw(before) != raw(entry));
        if entries.iter().all(is_plain) && entries.iter().enumerate().all(differs) {
            return Vec::new();
        }
    }
    // Keys are compared by what they say, not by how it is escaped.
    let name = |entry: &Entry| match raw(entry) {
        escaped if escaped.contains('\\') => Cow::Owned(scalar::unescaped(escaped)),
        plain => Cow::Borrowed(plain),
    };
    let mut names: Vec<(Cow<'_, str>, usize)> = entries.iter().map(name).zip(0..).collect();
    names.sort_unstable();
    let mut again: Vec<usize> = names.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].1).collect();
    again.sort_unstable();
    again
}
