//! Rows of people as lines of a file. A spreadsheet takes a cell that begins like a formula for one, and runs it: such texts get
//! an apostrophe in front, which spreadsheets do not show.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Ndjson,
}

impl Format {
    pub(super) fn read(text: &str) -> Result<Format, ApiError> {
        match text {
            "csv" => Ok(Format::Csv),
            "ndjson" => Ok(Format::Ndjson),
            _ => Err(ApiError::at("?format", "write `csv` or `ndjson`")),
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Ndjson => "application/x-ndjson",
        }
    }

    /// What stands before the first row.
    pub(super) fn head(self, names: &[String]) -> String {
        let mut text = String::new();
        if self == Format::Csv {
            csv_line(names.iter().map(|name| escaped(name)), &mut text);
        }
        text
    }

    /// Add a row.
    pub(super) fn line(self, names: &[String], cells: &[Value], text: &mut String) {
        match self {
            Format::Csv => csv_line(cells.iter().map(cell), text),
            Format::Ndjson => {
                let object: Map<String, Value> = names.iter().cloned().zip(cells.iter().cloned()).collect();
                text.push_str(&Value::Object(object).to_string());
                text.push('\n');
            }
        }
    }
}

/// A value as a cell: texts as they are, lists with `; ` between, nothing for null.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        // A number with a sign is one, and no formula.
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            escaped(&items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "))
        }
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A text that no spreadsheet takes for a formula.
fn escaped(text: &str) -> String {
    // Full-width signs become plain ones where the file is read under some settings.
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// RFC 4180: quotes where there are separators, quotes or line ends; lines end with CRLF.
fn csv_line(cells: impl Iterator<Item = String>, text: &mut String) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\r', '\n', ';', '\t']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&cell);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(cells: &[Value]) -> String {
        let mut text = String::new();
        Format::Csv.line(&[], cells, &mut text);
        text
    }

    #[test]
    fn a_cell_is_no_formula_and_a_number_stays_one() {
        for (value, expected) in [
            (json!("=1+1"), "'=1+1"),
            (json!("+4712345678"), "'+4712345678"),
            (json!("@SUM(A1)"), "'@SUM(A1)"),
            (json!("-x"), "'-x"),
            (json!("\t=1"), "\"'\t=1\""),
            (json!(-5), "-5"),
            (json!(1.5), "1.5"),
            (json!(null), ""),
            (json!(true), "true"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"x\""), "\"say \"\"x\"\"\""),
            (json!(["a", "b"]), "\"a; b\""),
            (json!(["=a"]), "'=a"),
            (json!({ "a": 1 }), "\"{\"\"a\"\":1}\""),
        ] {
            assert_eq!(line(&[value]), format!("{expected}\r\n"));
        }
        assert_eq!(Format::Csv.head(&["id".to_owned(), "traits.=x".to_owned()]), "id,traits.=x\r\n");
    }

    /// Read a line as RFC 4180 says.
    fn read(text: &str) -> Vec<String> {
        let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
        let mut rest = text.strip_suffix("\r\n").unwrap().chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '"' if quoted && rest.peek() == Some(&'"') => cell.extend(rest.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(std::mem::take(&mut cell)),
                c => cell.push(c),
            }
        }
        cells.push(cell);
        cells
    }

    /// Every text of up to four of these characters is read back as it was, or with the apostrophe that makes it a text.
    #[test]
    fn what_is_written_is_read_back() {
        const LETTERS: [char; 10] = ['=', '-', '@', ',', ';', '"', '\r', '\n', '\t', 'a'];
        for number in 0..LETTERS.len().pow(4) {
            let digits = (0_u32..4).map(|place| LETTERS[number / LETTERS.len().pow(place) % LETTERS.len()]);
            let text: String = digits.take(1 + number % 4).collect();
            let read = read(&line(&[json!(text), json!("b")]));
            assert!(read[0] == text || read[0].strip_prefix('\'') == Some(&text), "{text:?} became {read:?}");
            assert!(read.len() == 2 && !read[0].starts_with(['=', '+', '-', '@']), "{text:?} became {read:?}");
        }
    }
}
