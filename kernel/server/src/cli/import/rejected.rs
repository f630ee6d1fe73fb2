//! The rejected rows of an import in a file of their own, as they stand in the input and under its header line, to be corrected
//! and sent again; beside it a file with the reasons.

use std::collections::{BTreeMap, BTreeSet};
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

/// What became of the files of rejected rows.
#[derive(Default)]
pub(super) struct RejectedFiles {
    pub(super) written: Option<Written>,
    /// What a person should know of the files of earlier imports.
    pub(super) notes: Vec<String>,
}

/// What was written.
pub(super) struct Written {
    pub(super) rows: PathBuf,
    pub(super) reasons: PathBuf,
    /// How many rows were found in the input. Where it is none, as in a list of JSON on one line, there is no file of them.
    pub(super) count: u64,
}

/// A file of rejected rows with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    rows: PathBuf,
    reasons: PathBuf,
}

/// What an earlier import has left in the place of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Both as an import of this input writes them.
    AsWritten,
    /// Somebody has changed the rows, or they are of something else.
    Changed,
}

/// Pairs that are looked for. Who keeps more than these of one file is told to tidy up.
const MAX_PAIRS: u32 = 1_000;

/// Write the rows that `answer` lists as rejected.
///
/// What was corrected is somebody's work, and is never written over: the rows then go into a further file. What an import wrote and
/// nobody changed gives way to the new rows, or goes where none are rejected any more, so that no old file looks like today's.
pub(super) fn write(args: &ImportArgs, content_type: &str, answer: &Value) -> Result<RejectedFiles, Failure> {
    let listed = answer.get("rejected").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines: BTreeMap<u64, &Value> = listed.iter().map(|record| (output::number(record, "line"), record)).collect();
    let first = args.rejected.clone().unwrap_or_else(|| beside(&args.file));
    let form = if content_type.contains("csv") { RowForm::Table } else { RowForm::Lines };
    let mut files = RejectedFiles::default();
    let mut place = None;
    for number in 1..=MAX_PAIRS {
        let pair = Pair::numbered(&first, number);
        let left = pair.left(&args.file, form);
        match left {
            Left::Changed => files.notes.push(format!(
                "{} is kept: it was changed since an import wrote it, or is of another one",
                pair.rows.display()
            )),
            Left::AsWritten if place.is_some() || lines.is_empty() => {
                pair.remove()?;
                files.notes.push(format!("{} of an earlier import is removed with its reasons", pair.rows.display()));
            }
            Left::AsWritten | Left::Nothing => {
                place.get_or_insert(pair);
            }
        }
        if left == Left::Nothing {
            break;
        }
    }
    if lines.is_empty() {
        return Ok(files);
    }
    let Some(pair) = place else {
        let message = format!("{MAX_PAIRS} changed files of rejected rows stand beside {}", first.display());
        return Err(Failure::Failed(format!("{message}; move them away, or name another with --rejected")));
    };
    let count = pair.write(&args.file, form, &lines)?;
    files.written = Some(Written { rows: pair.rows, reasons: pair.reasons, count });
    Ok(files)
}

impl Pair {
    /// `orders.csv.rejected.csv`, then `orders.csv.rejected-2.csv`.
    fn numbered(first: &Path, number: u32) -> Pair {
        let rows = match number {
            1 => first.to_owned(),
            _ => {
                let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                // The ending says how the rows are read again.
                let ending = if name.ends_with(".rows.csv") {
                    ".rows.csv"
                } else {
                    &name[name.rfind('.').unwrap_or(name.len())..]
                };
                let stem = name.strip_suffix(ending).unwrap_or(&name);
                first.with_file_name(format!("{stem}-{number}{ending}"))
            }
        };
        let reasons = PathBuf::from(format!("{}.reasons.csv", rows.display()));
        Pair { rows, reasons }
    }

    /// What is in this place. The lines that the reasons name say which rows of the input stand there, so that nothing has to be
    /// kept to see a change: rows that are these, byte for byte, are as they were written.
    fn left(&self, input: &Path, form: RowForm) -> Left {
        let rows = match std::fs::read(&self.rows) {
            Ok(rows) => rows,
            // An import that found no rows left the reasons alone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match self.lines() {
                Some(_) => return Left::AsWritten,
                None => return Left::Nothing,
            },
            Err(_) => return Left::Changed,
        };
        let Some(lines) = self.lines() else { return Left::Changed };
        let none = Value::Null;
        let lines: BTreeMap<u64, &Value> = lines.into_iter().map(|line| (line, &none)).collect();
        let mut expected = Vec::new();
        let copied = File::open(input).and_then(plain).and_then(|input| copy_text(input, &mut expected, form, &lines));
        if copied.is_ok() && expected == rows { Left::AsWritten } else { Left::Changed }
    }

    /// The lines that the reasons name.
    fn lines(&self) -> Option<BTreeSet<u64>> {
        lines_of(&std::fs::read_to_string(&self.reasons).ok()?)
    }

    fn write(&self, input: &Path, form: RowForm, lines: &BTreeMap<u64, &Value>) -> Result<u64, Failure> {
        let failed = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| Failure::File { what, path, source }
        };
        let file = File::open(input).map_err(failed("open", input))?;
        let file = plain(file).map_err(failed("read", input))?;
        let mut output = BufWriter::new(File::create(&self.rows).map_err(failed("write", &self.rows))?);
        let count = copy_text(file, &mut output, form, lines).map_err(failed("write", &self.rows))?;
        output.flush().map_err(failed("write", &self.rows))?;
        if count == 0 {
            std::fs::remove_file(&self.rows).map_err(failed("remove", &self.rows))?;
        }
        let mut text = String::from(REASONS_HEADER);
        for (line, record) in lines {
            let reason = output::field(record, "message").replace(['\n', '\r'], " ").replace('"', "\"\"");
            text.push_str(&format!("{line},{},\"{reason}\"\n", output::field(record, "code")));
        }
        std::fs::write(&self.reasons, text).map_err(failed("write", &self.reasons))?;
        Ok(count)
    }

    fn remove(&self) -> Result<(), Failure> {
        for path in [&self.rows, &self.reasons] {
            match std::fs::remove_file(path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::File { what: "remove", path: path.clone(), source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const REASONS_HEADER: &str = "line,code,reason\n";

/// The lines that a file of reasons names; `None` where it is not as it was written.
fn lines_of(reasons: &str) -> Option<BTreeSet<u64>> {
    let rows = reasons.strip_prefix(REASONS_HEADER)?;
    rows.lines().map(|row| row.split(',').next()?.parse().ok()).collect()
}

/// `orders.csv.gz` has its rejected rows in `orders.csv.rejected.csv`.
pub(super) fn beside(file: &Path) -> PathBuf {
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

    struct Ground {
        folder: tempfile::TempDir,
        args: ImportArgs,
    }

    impl Ground {
        fn new(text: &str) -> Ground {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("o.csv");
            std::fs::write(&file, text).unwrap();
            let (source, unpack) = ("orders".parse().unwrap(), crate::cli::args::UnpackArgs::default());
            let args =
                ImportArgs { file, source, name: None, content_type: None, dry_run: false, rejected: None, unpack };
            Ground { folder, args }
        }

        /// An import in which these lines are rejected; the notes, and the file that was written.
        fn import(&self, lines: &[u64]) -> (Vec<String>, Option<String>) {
            let rejected: Vec<Value> =
                lines.iter().map(|line| json!({ "line": line, "code": "bad-time", "message": "a, \"b\"" })).collect();
            let files = write(&self.args, "text/csv", &json!({ "rejected": rejected })).unwrap();
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            (files.notes, files.written.map(|written| name(&written.rows)))
        }

        fn read(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.folder.path().join(name)).ok()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    /// "Run the same command again" is the advice after a break, and by then the rejected rows may have been corrected in place: they
    /// were written over without a word.
    #[test]
    fn corrected_rows_are_never_written_over() {
        let ground = Ground::new("id,total\n1,a\n2,b\n3,c\n");
        assert_eq!(ground.import(&[2, 3]), (vec![], Some("o.csv.rejected.csv".to_owned())));
        // Unchanged it gives way to what is rejected now.
        assert_eq!(ground.import(&[3, 4]), (vec![], Some("o.csv.rejected.csv".to_owned())));
        assert_eq!(ground.read("o.csv.rejected.csv").unwrap(), "id,total\n2,b\n3,c\n");
        let corrected = "id,total\n2,2.0\n3,3.0\n";
        std::fs::write(ground.folder.path().join("o.csv.rejected.csv"), corrected).unwrap();
        for _ in 0..2 {
            let (notes, written) = ground.import(&[3, 4]);
            assert!(notes.len() == 1 && notes[0].contains("o.csv.rejected.csv is kept"), "{notes:?}");
            assert_eq!(written.as_deref(), Some("o.csv.rejected-2.csv"));
            assert_eq!(ground.read("o.csv.rejected.csv").unwrap(), corrected);
            assert_eq!(ground.read("o.csv.rejected-2.csv").unwrap(), "id,total\n2,b\n3,c\n");
        }
        // Nothing is rejected any more: what nobody changed goes, and what somebody changed is told of.
        let (notes, written) = ground.import(&[]);
        assert_eq!((notes.len(), written), (2, None), "{notes:?}");
        assert!(notes[1].contains("o.csv.rejected-2.csv of an earlier import is removed"), "{notes:?}");
        assert_eq!(ground.names(), ["o.csv", "o.csv.rejected.csv", "o.csv.rejected.csv.reasons.csv"]);
        assert_eq!(ground.read("o.csv.rejected.csv").unwrap(), corrected);
    }

    /// The records of a list of JSON stand on one line, and the number of one is no line's.
    #[test]
    fn rows_that_are_on_no_line_leave_the_reasons_alone() {
        let ground = Ground::new("[{},{}]");
        ground.import(&[200]);
        assert_eq!(ground.names(), ["o.csv", "o.csv.rejected.csv.reasons.csv"]);
        let (notes, _) = ground.import(&[]);
        assert_eq!((notes.len(), ground.names()), (1, vec!["o.csv".to_owned()]), "{notes:?}");
    }

    /// Rows of another content under the same name, and a file that no import wrote, are somebody's too.
    #[test]
    fn what_is_not_known_to_be_an_imports_own_is_kept() {
        let ground = Ground::new("id\n1\n2\n");
        for (rows, reasons) in [
            ("mine", None),
            ("id\n1\n", None),
            ("id\n1\n", Some("line,code,reason\nmy note\n")),
            ("id\n7\n", Some("line,code,reason\n2,bad-time,\"x\"\n")),
        ] {
            let [rows_path, reasons_path] =
                ["o.csv.rejected.csv", "o.csv.rejected.csv.reasons.csv"].map(|name| ground.folder.path().join(name));
            std::fs::write(&rows_path, rows).unwrap();
            drop(std::fs::remove_file(&reasons_path));
            reasons.iter().for_each(|reasons| std::fs::write(&reasons_path, reasons).unwrap());
            let (notes, written) = ground.import(&[2]);
            assert_eq!((notes.len(), written.as_deref()), (1, Some("o.csv.rejected-2.csv")), "{rows}");
            assert_eq!(ground.read("o.csv.rejected.csv").unwrap(), rows);
        }
    }

    #[test]
    fn further_files_keep_their_ending() {
        for (first, second) in [
            ("/d/o.csv.rejected.csv", "/d/o.csv.rejected-2.csv"),
            ("b.xlsx.rejected.rows.csv", "b.xlsx.rejected-2.rows.csv"),
            ("plain", "plain-2"),
        ] {
            assert_eq!(Pair::numbered(Path::new(first), 2).rows, Path::new(second));
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
