//! The rejected rows of an import in a file of their own, as they stand in the input and under its header line, to be corrected
//! and sent again; beside it a file with the reasons.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::resume::plain;
use crate::cli::{Failure, args::ImportArgs, output};

/// How the rows of a file stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowForm {
    /// Under a header line; one may take several lines.
    Table,
    /// Each on a line of its own.
    Lines,
}

/// What was written.
pub(super) struct RejectedFiles {
    pub(super) rows: PathBuf,
    pub(super) reasons: PathBuf,
    /// How many rows were found in the input.
    pub(super) count: u64,
}

/// Write the rows that `answer` lists as rejected; `None` where it lists none.
pub(super) fn write(args: &ImportArgs, content_type: &str, answer: &Value) -> Result<Option<RejectedFiles>, Failure> {
    let listed = answer.get("rejected").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines: BTreeMap<u64, &Value> = listed.iter().map(|record| (output::number(record, "line"), record)).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let rows = args.rejected.clone().unwrap_or_else(|| beside(&args.file));
    let reasons = PathBuf::from(format!("{}.reasons.csv", rows.display()));
    let failed = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Failure::File { what, path, source }
    };
    let input = File::open(&args.file).map_err(failed("open", &args.file))?;
    let input = plain(input).map_err(failed("read", &args.file))?;
    let mut output = BufWriter::new(File::create(&rows).map_err(failed("write", &rows))?);
    let form = if content_type.contains("csv") { RowForm::Table } else { RowForm::Lines };
    let count = copy_text(input, &mut output, form, &lines).map_err(failed("write", &rows))?;
    output.flush().map_err(failed("write", &rows))?;
    let mut text = String::from("line,code,reason\n");
    for (line, record) in &lines {
        let reason = output::field(record, "message").replace(['\n', '\r'], " ").replace('"', "\"\"");
        text.push_str(&format!("{line},{},\"{reason}\"\n", output::field(record, "code")));
    }
    std::fs::write(&reasons, text).map_err(failed("write", &reasons))?;
    Ok(Some(RejectedFiles { rows, reasons, count }))
}

/// `orders.csv.gz` has its rejected rows in `orders.csv.rejected.csv`.
fn beside(file: &Path) -> PathBuf {
    let text = file.to_string_lossy();
    let text = text.strip_suffix(".gz").unwrap_or(&text);
    if text.ends_with(".rows.csv") {
        return PathBuf::from(format!("{text}.rejected.rows.csv"));
    }
    let ending = Path::new(text).extension().map_or("csv".into(), |ending| ending.to_string_lossy());
    PathBuf::from(format!("{text}.rejected.{ending}"))
}

/// How two bytes are a unit of UTF-16, and back.
type FromBytes = fn([u8; 2]) -> u16;
type ToBytes = fn(u16) -> [u8; 2];

/// The same for a file of any encoding: of one that begins as UTF-16 does, the rows are UTF-16 as well.
fn copy_text(
    mut input: impl Read,
    output: &mut impl Write,
    form: RowForm,
    lines: &BTreeMap<u64, &Value>,
) -> std::io::Result<u64> {
    let mut mark = Vec::new();
    input.by_ref().take(2).read_to_end(&mut mark)?;
    let (read, write): (FromBytes, ToBytes) = match mark.as_slice() {
        [0xff, 0xfe] => (u16::from_le_bytes, u16::to_le_bytes),
        [0xfe, 0xff] => (u16::from_be_bytes, u16::to_be_bytes),
        _ => return copy(mark.as_slice().chain(input), output, form, lines),
    };
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|unit| read(*unit)).collect();
    let (text, mut rows) = (String::from_utf16_lossy(&units), Vec::new());
    let found = copy(text.as_bytes(), &mut rows, form, lines)?;
    output.write_all(&mark)?;
    for unit in String::from_utf8_lossy(&rows).encode_utf16() {
        output.write_all(&write(unit))?;
    }
    Ok(found)
}

/// Copy the header line of a table, and the rows that begin on these lines; how many were found.
fn copy(
    input: impl Read,
    output: &mut impl Write,
    form: RowForm,
    lines: &BTreeMap<u64, &Value>,
) -> std::io::Result<u64> {
    let mut input = Lines::new(input);
    let (mut number, mut found) = (0_u64, 0);
    let mut line = Vec::new();
    let mut header = 1;
    while input.next(&mut line)? {
        number += 1;
        if number == header && form == RowForm::Table && !lines.contains_key(&header) {
            output.write_all(&line)?;
            // The header is the first line that has something in it, behind one that names the delimiter.
            header += u64::from(number == 1 && names_delimiter(&line) || line.trim_ascii().is_empty());
            continue;
        }
        if !lines.contains_key(&number) {
            continue;
        }
        found += 1;
        let mut quotes = Quotes::default();
        // All of the row, however long: one that stops inside of its quotes would have those behind it inside of them.
        loop {
            end_line(output, &line)?;
            if form == RowForm::Lines || !quotes.are_open_behind(&line) || !input.next(&mut line)? {
                break;
            }
            number += 1;
        }
    }
    Ok(found)
}

/// Whether a line is Excel's first one, `sep=;`.
fn names_delimiter(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    line.len() <= 5 && line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"sep="))
}

/// Write a line, with an end where it is the last one and has none.
fn end_line(output: &mut impl Write, line: &[u8]) -> std::io::Result<()> {
    output.write_all(line)?;
    if line.ends_with(b"\n") || line.ends_with(b"\r") { Ok(()) } else { output.write_all(b"\n") }
}

/// The quotes of a row, line by line. A quote counts where a field begins.
struct Quotes {
    is_open: bool,
    before: u8,
}

impl Default for Quotes {
    fn default() -> Quotes {
        Quotes { is_open: false, before: b',' }
    }
}

impl Quotes {
    /// Whether a quoted field goes on behind the row's next line.
    fn are_open_behind(&mut self, line: &[u8]) -> bool {
        for &byte in line {
            match byte {
                b'"' if self.is_open => self.is_open = false,
                // A doubled one, or the beginning of a field.
                b'"' if matches!(self.before, b'"' | b',' | b';' | b'\t' | b'|') => self.is_open = true,
                _ => {}
            }
            self.before = byte;
        }
        self.is_open
    }
}

/// Lines with their ends, which may be LF, CR LF or CR.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Lines<R> {
        Lines { input, buffer: Vec::new(), at: 0 }
    }

    /// More bytes; whether there were any.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.resize(64 << 10, 0);
        self.at = 0;
        let read = self.input.read(&mut self.buffer)?;
        self.buffer.truncate(read);
        Ok(read > 0)
    }

    /// The next line; false at the end.
    fn next(&mut self, line: &mut Vec<u8>) -> std::io::Result<bool> {
        line.clear();
        loop {
            if self.at == self.buffer.len() && !self.fill()? {
                return Ok(!line.is_empty());
            }
            let rest = &self.buffer[self.at..];
            if line.ends_with(b"\r") {
                if rest[0] == b'\n' {
                    line.push(b'\n');
                    self.at += 1;
                }
                return Ok(true);
            }
            match rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(end) => {
                    line.extend_from_slice(&rest[..=end]);
                    self.at += end + 1;
                    if line.ends_with(b"\n") {
                        return Ok(true);
                    }
                }
                None => {
                    line.extend_from_slice(rest);
                    self.at = self.buffer.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn copied(input: &str, form: RowForm, lines: &[(u64, &str)]) -> (String, u64) {
        let records: Vec<(u64, Value)> = lines.iter().map(|(line, code)| (*line, json!({ "code": code }))).collect();
        let lines = records.iter().map(|(line, record)| (*line, record)).collect();
        let mut output = Vec::new();
        let found = copy(input.as_bytes(), &mut output, form, &lines).unwrap();
        (String::from_utf8(output).unwrap(), found)
    }

    /// Whatever the line ends and wherever rows begin, the rejected rows stand as they stood in the input.
    #[test]
    fn rejected_rows_are_copied_as_they_stand_under_the_header() {
        for end in ["\n", "\r\n", "\r"] {
            let input = ["id,note", "1,a", "2,\"two", "lines, \"\"quoted\"\"\"", "3,x", "4,\"open", "5,y"].join(end);
            let lines = [(3, "bad-time"), (5, "bad-time"), (6, "broken-quoting")];
            let expected = ["id,note", "2,\"two", "lines, \"\"quoted\"\"\"", "3,x", "4,\"open", "5,y"].join(end) + "\n";
            assert_eq!(copied(&input, RowForm::Table, &lines), (expected, 3), "{end:?}");
        }
        for sep in ["sep=;\r\n", "\u{feff}sep=;\n", "\"sep=,\"\n", "SEP=\t\r\n", "\n", "sep=;\n\n"] {
            let (input, rest) = (format!("{sep}id;t\n1;1,5\n2;abc\n"), format!("{sep}id;t\n2;abc\n"));
            let line = input.lines().count() as u64;
            assert_eq!(copied(&input, RowForm::Table, &[(line, "bad-number")]), (rest, 1), "{sep:?}");
        }
        assert_eq!(copied("{\"a\":1}\n{\"a\":\"\n", RowForm::Lines, &[(2, "invalid-json")]), ("{\"a\":\"\n".into(), 1));
        let long = format!("id\n{}\n", "x".repeat(200_000));
        assert_eq!(copied(&long, RowForm::Table, &[(2, "bad-time")]), (long.clone(), 1));
        // Behind a row that was cut inside of its quotes the next one would be a part of it.
        let cell = format!("id,note\n1,\"{}\"\n", "2,b\n".repeat(100_000));
        let rest = "2,x\n3,y\n";
        let lines = [(2, "record-too-long"), (100_004, "bad-time")];
        assert_eq!(copied(&format!("{cell}{rest}"), RowForm::Table, &lines), (format!("{cell}3,y\n"), 2));
    }

    #[test]
    fn rows_of_a_file_in_utf_16_stay_in_it() {
        for (mark, write) in [([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xfe, 0xff], u16::to_be_bytes)]
        {
            let encoded = |text: &str| [mark.to_vec(), text.encode_utf16().flat_map(write).collect()].concat();
            let record = json!({ "code": "bad-time" });
            let mut output = Vec::new();
            let input = encoded("id,note\n1,Ċa\n2,ü\n");
            copy_text(input.as_slice(), &mut output, RowForm::Table, &BTreeMap::from([(3, &record)])).unwrap();
            assert_eq!(output, encoded("id,note\n2,ü\n"));
        }
    }

    #[test]
    fn the_files_stand_beside_the_input() {
        assert_eq!(beside(Path::new("/d/orders.csv.gz")), Path::new("/d/orders.csv.rejected.csv"));
        assert_eq!(beside(Path::new("/d/orders.ndjson")), Path::new("/d/orders.ndjson.rejected.ndjson"));
        assert_eq!(beside(Path::new("b.rows.csv")), Path::new("b.rows.csv.rejected.rows.csv"));
        assert_eq!(beside(Path::new("orders")), Path::new("orders.rejected.csv"));
    }
}
