//! A sheet of a workbook as rows, and a file out of an archive. Pure: bytes in, bytes out. Runs in a child process with limits of its
//! own (`child`), because workbooks come from anywhere and their readers are large.

mod shown;

use std::io::{Cursor, Read, Write};

use calamine::{DataType, Reader, Sheet, SheetVisible, Sheets, open_workbook_auto_from_rs};
use zip::ZipArchive;

use self::shown::SheetDisplay;
use super::wellformed;
use crate::cli::args::UnpackArgs;

/// The rows and columns that a sheet of Excel can have; a file that names more is broken or meant to harm.
const MAX_ROWS: u32 = 1 << 20;
const MAX_COLUMNS: u32 = 1 << 14;

/// Cells that are written, empty ones among them.
const MAX_CELLS: u64 = 100_000_000;

/// How much larger what is written may be than the file. Text packs to a tenth, rows of a sheet that are all alike to a hundredth.
const MAX_RATIO: u64 = 200;

/// Below this no ratio is asked for.
const FREE_BYTES: u64 = 64 << 20;

/// Whether a file that begins so is one that is unpacked: a ZIP archive (workbooks of today are) or an old workbook.
pub(super) fn is_packed(begin: &[u8]) -> bool {
    begin.starts_with(b"PK\x03\x04") || begin.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
}

/// What is written, behind its byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The rows of a sheet.
    Rows,
    /// A file as it was.
    File,
}

impl Content {
    fn byte(self) -> u8 {
        match self {
            Content::Rows => b'R',
            Content::File => b'F',
        }
    }

    /// The content that begins with this byte.
    pub(super) fn of(byte: u8) -> Option<Content> {
        [Content::Rows, Content::File].into_iter().find(|content| content.byte() == byte)
    }
}

/// Write the rows of the chosen sheet, or the chosen file of the archive, behind a byte that says which. What a person should know of
/// what was left out.
pub(super) fn unpack(bytes: &[u8], args: &UnpackArgs, to: impl Write) -> Result<Option<String>, String> {
    let mut to = BoundedWriter { to, written: 0, limit: FREE_BYTES.max(bytes.len() as u64 * MAX_RATIO) };
    if bytes.starts_with(b"PK") {
        let mut archive =
            ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("the ZIP archive is broken: {error}"))?;
        let is_workbook = archive.file_names().any(|name| name == "[Content_Types].xml" || name == "content.xml");
        if !is_workbook {
            return entry(&mut archive, args.entry.as_deref(), &mut to).map(|()| None);
        }
        insist_on_whole(&mut archive)?;
    }
    let book = open_workbook_auto_from_rs(Cursor::new(bytes))
        .map_err(|error| format!("the workbook does not read: {error}"))?;
    sheet(bytes, book, args.sheet.as_deref(), &mut to)
}

/// Refuse a workbook of which a part that holds cells or their texts is not whole: it would be read up to the mistake, without a word.
fn insist_on_whole(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<(), String> {
    let holds_cells = |name: &&str| {
        let is_sheet = name.starts_with("xl/worksheets/") && name.ends_with(".xml");
        is_sheet || matches!(*name, "xl/sharedStrings.xml" | "xl/workbook.xml" | "content.xml")
    };
    let names: Vec<String> = archive.file_names().filter(holds_cells).map(str::to_owned).collect();
    for name in names {
        let part = archive.by_name(&name).map_err(|error| format!("`{name}` cannot be unpacked: {error}"))?;
        let problem = wellformed::problem(part).map_err(|error| format!("`{name}` cannot be unpacked: {error}"))?;
        if let Some(problem) = problem {
            return Err(format!("the workbook is broken: in `{name}` {problem}; save it again, or as CSV"));
        }
    }
    Ok(())
}

/// A writer that ends an expansion without end.
struct BoundedWriter<W> {
    to: W,
    written: u64,
    limit: u64,
}

impl<W: Write> Write for BoundedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written += bytes.len() as u64;
        if self.written > self.limit {
            let message = format!(
                "what is packed in it is more than {MAX_RATIO} times as large, and more than {} MiB",
                FREE_BYTES >> 20
            );
            return Err(std::io::Error::other(message));
        }
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn unwritten(error: std::io::Error) -> String {
    error.to_string()
}

fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, chosen: Option<&str>, to: &mut impl Write) -> Result<(), String> {
    // What a Mac adds is nobody's data.
    let is_file = |name: &&str| !name.ends_with('/') && !name.starts_with("__MACOSX/") && !name.ends_with(".DS_Store");
    let names: Vec<String> = archive.file_names().filter(is_file).map(str::to_owned).collect();
    let name = match (chosen, &names[..]) {
        (Some(chosen), _) if names.iter().any(|name| name == chosen) => chosen.to_owned(),
        (Some(chosen), _) => return Err(format!("the archive has no file `{chosen}`; it has: {}", some(&names))),
        (None, [only]) => only.clone(),
        (None, []) => return Err("the archive is empty".to_owned()),
        (None, _) => return Err(format!("the archive has several files; choose one with --entry: {}", some(&names))),
    };
    let mut file = archive.by_name(&name).map_err(|error| format!("`{name}` cannot be unpacked: {error}"))?;
    to.write_all(&[Content::File.byte()]).map_err(unwritten)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return to.flush().map_err(unwritten),
            Ok(length) => to.write_all(&piece[..length]).map_err(unwritten)?,
            Err(error) => return Err(format!("`{name}` cannot be unpacked: {error}")),
        }
    }
}

/// Names for a message.
fn some(names: &[String]) -> String {
    let mut list = names.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 20 {
        list.push_str(&format!(" and {} more", names.len() - 20));
    }
    list
}

fn sheet(
    bytes: &[u8],
    mut book: Sheets<Cursor<&[u8]>>,
    chosen: Option<&str>,
    to: &mut impl Write,
) -> Result<Option<String>, String> {
    let sheets = book.sheets_metadata().to_vec();
    let names: Vec<String> = sheets.iter().map(|sheet| sheet.name.clone()).collect();
    let shown = || sheets.iter().find(|sheet| sheet.visible == SheetVisible::Visible).or(sheets.first());
    let name = match chosen {
        Some(chosen) if names.iter().any(|name| name == chosen) => chosen.to_owned(),
        Some(chosen) => return Err(format!("the workbook has no sheet `{chosen}`; it has: {}", some(&names))),
        None => shown().map(|sheet| sheet.name.clone()).ok_or("the workbook has no sheet")?,
    };
    let is_xlsx = matches!(book, Sheets::Xlsx(_));
    let mut shown = if is_xlsx { SheetDisplay::of(bytes, &name) } else { SheetDisplay::default() };
    shown.uncomputed(&name)?;
    to.write_all(&[Content::Rows.byte()]).map_err(unwritten)?;
    let mut rows = Rows::new(to);
    let unread = |error: &dyn std::fmt::Display| format!("the sheet `{name}` does not read: {error}");
    if let Sheets::Xlsx(book) = &mut book {
        let mut cells = book.worksheet_cells_reader(&name).map_err(|error| unread(&error))?;
        while let Some(cell) = cells.next_cell().map_err(|error| unread(&error))? {
            let number = cell.get_value().get_float().or(cell.get_value().get_int().map(|number| number as f64));
            match number.and_then(|number| shown.text(cell.get_position(), number)) {
                Some(text) => rows.text(cell.get_position(), &quoted(&text))?,
                None => rows.cell(cell.get_position(), cell.get_value())?,
            }
        }
    } else {
        let range = book.worksheet_range(&name).map_err(|error| unread(&error))?;
        let (top, left) = range.start().unwrap_or_default();
        for (row, column, value) in range.used_cells() {
            let at = |start: u32, offset: usize| u32::try_from(offset).unwrap_or(u32::MAX).saturating_add(start);
            rows.cell((at(top, row), at(left, column)), value)?;
        }
    }
    rows.end()?;
    // Whoever named a sheet knows of the others.
    Ok(if chosen.is_none() { left_out(&mut book, &name, &sheets) } else { None })
}

/// What is said of the sheets that were not read; `None` where no other has rows.
fn left_out(book: &mut Sheets<Cursor<&[u8]>>, read: &str, sheets: &[Sheet]) -> Option<String> {
    let mut others = Vec::new();
    for sheet in sheets.iter().filter(|sheet| sheet.name != read) {
        let count = row_count(book, &sheet.name);
        let hidden = if sheet.visible == SheetVisible::Visible { "" } else { ", hidden" };
        others.extend((count > 0).then(|| format!("`{}` ({count} rows{hidden})", sheet.name)));
    }
    let others = if others.is_empty() { None } else { Some(some(&others)) };
    others.map(|others| {
        format!("only `{read}` is read; not read: {others}. Choose another with --sheet, and import each by itself")
    })
}

/// The rows of a sheet that have cells with something in them; none of what cannot be read, since it is not.
fn row_count(book: &mut Sheets<Cursor<&[u8]>>, name: &str) -> usize {
    let Sheets::Xlsx(book) = book else {
        let range = book.worksheet_range(name);
        return range.map_or(0, |range| range.rows().filter(|row| row.iter().any(|cell| !cell.is_empty())).count());
    };
    let Ok(mut cells) = book.worksheet_cells_reader(name) else { return 0 };
    let (mut count, mut last) = (0, None);
    while let Ok(Some(cell)) = cells.next_cell() {
        let row = cell.get_position().0;
        if last != Some(row) && !text(cell.get_value()).is_empty() {
            (count, last) = (count + 1, Some(row));
        }
    }
    count
}

/// Rows on their way out: texts in quotes, numbers and truth values without, so that the reader can tell `1.234` from "1.234". A
/// row of the sheet is a line of its own, so that lines are counted as the sheet counts rows.
struct Rows<'w, W> {
    to: &'w mut W,
    /// The row that is being filled.
    row: u32,
    line: String,
    columns: u32,
    /// The columns of the first row; others are filled up to them.
    width: u32,
    cells: u64,
}

impl<'w, W: Write> Rows<'w, W> {
    fn new(to: &'w mut W) -> Rows<'w, W> {
        Rows { to, row: 0, line: String::new(), columns: 0, width: 0, cells: 0 }
    }

    fn cell(&mut self, at: (u32, u32), value: &impl DataType) -> Result<(), String> {
        self.text(at, &text(value))
    }

    /// A cell as it is written.
    fn text(&mut self, (row, column): (u32, u32), text: &str) -> Result<(), String> {
        if row >= MAX_ROWS || column >= MAX_COLUMNS {
            return Err(format!("the sheet has a cell in row {row} and column {column}, beyond what a sheet can have"));
        }
        if text.is_empty() {
            return Ok(());
        }
        if row < self.row || (row == self.row && column < self.columns) {
            return Err(format!(
                "the sheet has the cell in row {} and column {} twice or out of order",
                row + 1,
                column + 1
            ));
        }
        while self.row < row {
            self.next_row()?;
        }
        // The cells between the last one and this are empty.
        let commas = column - self.columns.saturating_sub(1);
        self.line.extend((0..commas).map(|_| ','));
        self.line.push_str(text);
        self.columns = column + 1;
        self.count(u64::from(commas) + 1)
    }

    fn count(&mut self, cells: u64) -> Result<(), String> {
        self.cells += cells;
        if self.cells > MAX_CELLS { Err(format!("the sheet has more than {MAX_CELLS} cells")) } else { Ok(()) }
    }

    fn next_row(&mut self) -> Result<(), String> {
        // An empty row stays an empty line, which means nothing.
        if self.columns > 0 {
            self.width = if self.width == 0 { self.columns } else { self.width };
            let missing = self.width.saturating_sub(self.columns);
            self.line.extend((0..missing).map(|_| ','));
            self.count(u64::from(missing))?;
        }
        self.line.push('\n');
        self.to.write_all(self.line.as_bytes()).map_err(unwritten)?;
        self.line.clear();
        (self.columns, self.row) = (0, self.row + 1);
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        if self.columns > 0 {
            self.next_row()?;
        }
        self.to.flush().map_err(unwritten)
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A cell as it is written; empty for an empty one.
fn text(value: &impl DataType) -> String {
    if let Some(whole) = value.get_int() {
        return whole.to_string();
    }
    if let Some(number) = value.get_float() {
        return if number.is_finite() { number.to_string() } else { String::new() };
    }
    if let Some(truth) = value.get_bool() {
        return truth.to_string();
    }
    if let Some(text) = value.get_string().filter(|text| !text.is_empty()) {
        return quoted(text);
    }
    if let Some(time) = value.get_datetime() {
        if time.is_duration() {
            return quoted(&duration(time.as_f64()));
        }
        let (year, month, day, hour, minute, second, ms) = time.to_ymd_hms_milli();
        let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
        let clock = format!("{hour:02}:{minute:02}:{second:02}{fraction}");
        let date = format!("{year:04}-{month:02}-{day:02}");
        // Less than a day is a time of day; a cell with a date alone holds its midnight.
        let is_clock = time.as_f64() < 1.0;
        let is_date = (hour, minute, second, ms) == (0, 0, 0, 0);
        return quoted(&match (is_clock, is_date) {
            (true, _) => clock,
            (false, true) => date,
            (false, false) => format!("{date}T{clock}"),
        });
    }
    let iso = value.get_datetime_iso().or_else(|| value.get_duration_iso());
    iso.map(quoted).or_else(|| value.get_error().map(|error| quoted(&error.to_string()))).unwrap_or_default()
}

/// A number of days as hours, minutes and seconds. The hours go on behind a day's, as the sheet shows them: `30:00:00`.
fn duration(days: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "a number that is too large becomes the largest")]
    let ms = (days * 86_400_000.0).round() as i64;
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let fraction = if ms.is_multiple_of(1_000) { String::new() } else { format!(".{:03}", ms % 1_000) };
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}")
}

#[cfg(test)]
mod tests;
