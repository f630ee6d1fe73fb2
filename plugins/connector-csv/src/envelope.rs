//! JSON files that are one object, in which an array holds the rows: `{"data": [{…}, {…}]}`, as answers of APIs are.
//!
//! Pure. What is looked at is the file's beginning, so that a file of any length is read piece by piece.

use kith_plugin_sdk::Rejection;

use crate::settings::{Mapping, Part};

/// An array in the object.
struct Array {
    /// The keys that lead to it, joined by points.
    path: String,
    /// Where its first item begins, behind the bracket.
    at: usize,
    /// It is empty.
    is_empty: bool,
}

/// What stands in an object.
#[derive(Default)]
struct Content {
    /// The arrays that are empty, or whose first item is an object.
    arrays: Vec<Array>,
    /// The paths of all that is no array or object.
    plain: Vec<String>,
    /// Where the object ends; `None` where the text ends before.
    end: Option<usize>,
}

/// The array that holds the rows, and where its first item begins. `None` for a file that is no such object: it has several records,
/// or is one record itself.
pub(crate) fn find(
    text: &[u8],
    complete: bool,
    chosen: Option<&str>,
    mapping: &Mapping,
) -> Result<Option<(String, usize)>, Rejection> {
    let begin = text.len() - text.trim_ascii_start().len();
    if text.get(begin) != Some(&b'{') {
        return Ok(None);
    }
    let mut content = Content::default();
    let end = Scan { text, at: begin, content: &mut content }.object("");
    content.end = end;
    // Something behind it is the next record.
    if content.end.is_some_and(|end| !text[end..].trim_ascii().is_empty()) && chosen.is_none() {
        return Ok(None);
    }
    if let Some(chosen) = chosen {
        return match content.arrays.iter().find(|array| array.path == chosen) {
            Some(array) => Ok(Some((array.path.clone(), array.at))),
            None if content.end.is_some() || !complete => Err(Rejection::new(
                400,
                "no-rows",
                format!("the file has no array `{chosen}`, which `rows` names; it has: {}", names(&content.arrays)),
            )),
            None => Ok(None),
        };
    }
    let names_somebody = mapping
        .identifiers
        .iter()
        .flat_map(|(_, template)| &template.parts)
        .any(|part| matches!(part, Part::Column(column) if content.plain.contains(&mapping.columns[*column])));
    if names_somebody {
        return Ok(None);
    }
    let full: Vec<&Array> = content.arrays.iter().filter(|array| !array.is_empty).collect();
    match (&full[..], &content.arrays[..]) {
        ([only], _) => Ok(Some((only.path.clone(), only.at))),
        ([], [only]) => Ok(Some((only.path.clone(), only.at))),
        ([], _) => Ok(None),
        _ => Err(several(&content.arrays)),
    }
}

fn names(arrays: &[Array]) -> String {
    let names: Vec<String> = arrays.iter().map(|array| format!("`{}`", array.path)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn several(arrays: &[Array]) -> Rejection {
    let message = format!(
        "the file is one object with several arrays: {}; set `rows` to the one that holds the rows",
        names(arrays)
    );
    Rejection::new(400, "several-arrays", message)
}

/// What is said of a file that ends before its rows do.
pub(crate) const NOT_CLOSED: &str = "the list that holds the rows, or the object around it, is not closed where the file ends: the file was \
                                     cut, and rows may be missing";

/// What is wrong with the text behind the rows; an array of objects in it is another candidate for rows. `is_all` says that nothing
/// follows.
pub(crate) fn problem_behind(text: &[u8], is_all: bool, rows: &str) -> Result<Option<&'static str>, Rejection> {
    let mut content = Content::default();
    let mut scan = Scan { text, at: 0, content: &mut content };
    // The objects in which the array stands, from the inside to the outside.
    let mut path = rows;
    loop {
        path = path.rsplit_once('.').map_or("", |(outer, _)| outer);
        if scan.rest_of_object(path).is_none() {
            break;
        }
        if path.is_empty() {
            scan.content.end = Some(scan.at);
            break;
        }
    }
    let full = content.arrays.iter().any(|array| !array.is_empty);
    if full {
        content.arrays.insert(0, Array { path: rows.to_owned(), at: 0, is_empty: false });
        return Err(several(&content.arrays));
    }
    Ok(match content.end {
        Some(end) if is_all && text[end..].trim_ascii().is_empty() => None,
        Some(_) => Some("behind the object that holds the rows something follows, which is not taken"),
        None if is_all => Some(NOT_CLOSED),
        None => {
            Some("the object that holds the rows goes on too far behind them; set `rows` to their name to pass over it")
        }
    })
}

/// The way through an object.
struct Scan<'s> {
    text: &'s [u8],
    at: usize,
    content: &'s mut Content,
}

/// Objects within objects that are looked into.
const MAX_DEPTH: usize = 8;

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        while self.text.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Past an object whose `{` stands here; its end. `None` where the text ends before it does, or is no JSON.
    fn object(&mut self, path: &str) -> Option<usize> {
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(self.at);
        }
        self.member(path)?;
        self.rest_of_object(path)
    }

    /// The same from behind a member on.
    fn rest_of_object(&mut self, path: &str) -> Option<usize> {
        loop {
            match self.next()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(self.at);
                }
                b'"' => self.member(path)?,
                _ => return None,
            }
        }
    }

    fn member(&mut self, path: &str) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        let from = self.at;
        self.text_value()?;
        let key: String = serde_json::from_slice(&self.text[from..self.at]).ok()?;
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        if self.next()? != b':' {
            return None;
        }
        self.at += 1;
        match self.next()? {
            b'{' if path.matches('.').count() < MAX_DEPTH => self.object(&path).map(drop),
            b'[' => {
                let (bracket, mut inside) =
                    (self.at, Scan { text: self.text, at: self.at + 1, content: &mut *self.content });
                let first = inside.next();
                if matches!(first, Some(b'{' | b']')) {
                    let is_empty = first == Some(b']');
                    self.content.arrays.push(Array { path, at: bracket + 1, is_empty });
                }
                self.brackets()
            }
            b'{' => self.brackets(),
            _ => {
                self.content.plain.push(path);
                self.plain_value()
            }
        }
    }

    /// Past a text whose quote stands here.
    fn text_value(&mut self) -> Option<()> {
        let mut is_escaped = false;
        for (offset, &byte) in self.text.get(self.at + 1..)?.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    self.at += offset + 2;
                    return Some(());
                }
                _ => {}
            }
        }
        None
    }

    /// Past a number, a truth value, a text.
    fn plain_value(&mut self) -> Option<()> {
        if self.text.get(self.at) == Some(&b'"') {
            return self.text_value();
        }
        let length = self.text.get(self.at..)?.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
        self.at += length;
        Some(())
    }

    /// Past an array or object whose bracket stands here.
    fn brackets(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                b'"' => {
                    self.text_value()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}
