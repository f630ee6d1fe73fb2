//! Rows of people as lines of a file. A spreadsheet takes a cell that begins like a formula for one, and runs it: such texts get
//! an apostrophe in front, which spreadsheets do not show.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::api::view::json;
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

    /// Add a row, whose cells are JSON.
    pub(super) fn line(self, names: &[String], cells: &[String], text: &mut String) {
        match self {
            Format::Csv => csv_line(cells.iter().map(|value| cell(value)), text),
            Format::Ndjson => {
                let object: BTreeMap<&str, Box<RawValue>> =
                    names.iter().map(String::as_str).zip(cells.iter().map(|cell| json(cell))).collect();
                // Texts as keys and JSON as values can always be written.
                text.push_str(&serde_json::to_string(&object).unwrap_or_default());
                text.push('\n');
            }
        }
    }
}

/// A JSON value as a cell: texts as they are, lists of texts with `; ` between, nothing for null. Everything else stands as it is
/// stored, numbers with all of their digits.
fn cell(value: &str) -> String {
    let value = json(value);
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_or_else(|_| escaped(text), |text: String| escaped(&text)),
        Some(b'[') => match serde_json::from_str::<Vec<String>>(text) {
            // A text that has the separator in it would read as two.
            Ok(items) if items.iter().all(|item| !item.contains(';')) => escaped(&items.join("; ")),
            _ => text.to_owned(),
        },
        _ if text == "null" => String::new(),
        _ => text.to_owned(),
    }
}

/// A text that no spreadsheet takes for a formula which does something. A telephone number or a negative number stands as it is, or
/// what reads the file again would have another one: of digits, spaces, points, brackets and minuses a spreadsheet makes a number at
/// most, because a formula that reads a cell, calls or sends needs a letter, and one that divides or compares another sign.
fn escaped(text: &str) -> String {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number_sign = |byte: u8| byte.is_ascii_digit() || b" ().-".contains(&byte);
    if digits.bytes().any(|byte| byte.is_ascii_digit()) && digits.bytes().all(is_number_sign) {
        return text.to_owned();
    }
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
    use serde_json::{Value, json};

    use super::*;

    fn line(cells: &[Value]) -> String {
        let (cells, mut text) = (cells.iter().map(Value::to_string).collect::<Vec<_>>(), String::new());
        Format::Csv.line(&[], &cells, &mut text);
        text
    }

    /// Whatever number a sender wrote stands in a file digit by digit; one that no float is near is a text in JSON.
    #[test]
    fn numbers_stand_in_files_as_they_came() {
        let whole = (1..60_usize).map(|digits| "1234567890".repeat(6)[..digits].to_owned());
        let fractions = (1..40_usize).map(|digits| format!("0.{}", &"1029384756".repeat(4)[..digits]));
        let forms = ["1.10", "-0.0", "1e21", "1E-7", "100000000000000000000.0", "9007199254740993", "0.1e400"];
        for number in whole.chain(fractions).chain(forms.map(str::to_owned)) {
            let (mut csv, mut lines) = (String::new(), String::new());
            let cells = [number.clone(), format!("{{\"a\":[{number}]}}")];
            Format::Csv.line(&[], &cells, &mut csv);
            let json = if number == "0.1e400" { format!("\"{number}\"") } else { number.clone() };
            assert!(csv.starts_with(&format!("{number},")), "{number}: {csv}");
            Format::Ndjson.line(&["n".to_owned(), "o".to_owned()], &cells, &mut lines);
            assert_eq!(lines, format!("{{\"n\":{json},\"o\":{{\"a\":[{json}]}}}}\n"));
        }
    }

    #[test]
    fn a_cell_is_no_formula_and_a_number_stays_one() {
        for (value, expected) in [
            (json!("=1+1"), "'=1+1"),
            (json!("+4712345678"), "+4712345678"),
            (json!("+49 (171) 123-45.67"), "+49 (171) 123-45.67"),
            (json!("-5.50"), "-5.50"),
            (json!("+1-2"), "+1-2"),
            (json!("+"), "'+"),
            (json!("-()"), "'-()"),
            (json!("+1+2"), "'+1+2"),
            (json!("+1*2"), "'+1*2"),
            (json!("-1E5"), "'-1E5"),
            (json!("+A1"), "'+A1"),
            (json!("+1,2"), "\"'+1,2\""),
            (json!("--1"), "--1"),
            (json!("-1\n=2"), "\"'-1\n=2\""),
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
            (json!(["a; b", "c"]), r#""[""a; b"",""c""]""#),
            (json!(["a", 1]), r#""[""a"",1]""#),
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
