//! What people see: tables, numbers, times and progress. Programs get JSON through `--json` instead.

use std::fmt::Display;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::Failure;
use super::client::{ApiError, CopyOutcome};
use super::digits;

/// What a number is called that the server cannot tell yet.
const NOT_KNOWN: &str = "not known yet";

/// How a command answers, made once from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerFormat {
    /// Tables and sentences on standard output, progress on standard error.
    Text,
    /// One JSON value on standard output for a program, which is shown no progress.
    Json,
}

impl AnswerFormat {
    pub(crate) fn is_json(self) -> bool {
        self == AnswerFormat::Json
    }
}

/// Print a text and a line's end on standard output.
///
/// # Errors
/// [`Failure::Unread`] where whoever reads has gone, as `head` does once it has its lines: a command ends there without a
/// word.
pub(crate) fn say(text: impl Display) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(unwritten)
}

/// Say something to people on standard error; a program finds it in the answer.
pub(crate) fn tell(note: &str, format: AnswerFormat) {
    if !format.is_json() {
        // Nobody may be reading it, which is no reason to panic.
        drop(writeln!(std::io::stderr(), "{note}"));
    }
}

/// Say on standard error what may be a mistake in what was asked for.
pub(crate) fn warn_of(warnings: Option<&Value>) {
    for warning in warnings.and_then(Value::as_array).into_iter().flatten() {
        warn(&plain(warning));
    }
}

/// A table below what there is, unless it has no rows.
pub(crate) fn section(text: &mut String, header: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(header, rows));
        text.push('\n');
    }
}

/// What an answer warns of, behind what is shown of it.
pub(crate) fn warnings(answer: &Value) -> String {
    let warnings = answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
    warnings.map(|warning| format!("\n\nwarning: {}", plain(warning))).collect()
}

/// Say on standard error what is likely not meant, to programs too.
pub(crate) fn warn(warning: &str) {
    // Nobody may be reading it, which is no reason to panic.
    drop(writeln!(std::io::stderr(), "warning: {warning}"));
}

/// Print a list for people, or as JSON. That it is a part, where it is one, is said on standard error with the flags that show the
/// rest: those of [`PartArgs`](super::args::PartArgs), which every list that may be cut has.
pub(crate) fn say_list(
    answer: &Value,
    format: AnswerFormat,
    table: impl FnOnce(&[Value]) -> String,
) -> Result<(), Failure> {
    if format.is_json() {
        return super::print_json(answer);
    }
    say(table(super::items(answer)))?;
    if let Some(hint) = more(answer) {
        tell(&hint, format);
    }
    Ok(())
}

/// How to see the rest of a list that was cut.
fn more(answer: &Value) -> Option<String> {
    let next = answer.get("next").and_then(Value::as_str)?;
    let shown = count(super::items(answer).len() as u64);
    Some(format!("{shown} are shown and there are more: add --cursor {next}, or --all"))
}

/// A number with the thing that is counted, which ends in `s` where there are several: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    match (number, thing) {
        (1, _) => format!("1 {thing}"),
        (_, "person") => format!("{} people", count(number)),
        _ => format!("{} {thing}s", count(number)),
    }
}

/// Let somebody write to standard output.
pub(crate) fn copy(
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<CopyOutcome, ApiError>,
) -> Result<(), Failure> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    match write(&mut output)? {
        CopyOutcome::Whole => output.flush().map_err(unwritten),
        CopyOutcome::Unwritten(error) => Err(unwritten(error)),
    }
}

/// Lines of JSON on their way into one document, `{"items": [...]}`, however many there are: an export for a program.
pub(crate) struct ItemsDocument<W> {
    out: W,
    is_inside_line: bool,
    has_items: bool,
}

impl<W: std::io::Write> ItemsDocument<W> {
    pub(crate) fn begin(mut out: W) -> std::io::Result<ItemsDocument<W>> {
        out.write_all(b"{\"items\":[")?;
        Ok(ItemsDocument { out, is_inside_line: false, has_items: false })
    }

    pub(crate) fn end(mut self) -> std::io::Result<()> {
        self.out.write_all(b"\n]}\n")
    }
}

impl<W: std::io::Write> std::io::Write for ItemsDocument<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n").unwrap_or(part);
            // A line may come in pieces; its first one is behind a comma.
            if !line.is_empty() && !self.is_inside_line {
                self.out.write_all(if self.has_items { b",\n" } else { b"\n" })?;
                self.has_items = true;
            }
            self.out.write_all(line)?;
            self.is_inside_line = if line.len() < part.len() { false } else { self.is_inside_line || !line.is_empty() };
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Copy an export that comes as lines of JSON, as one document.
pub(crate) fn copy_items(
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<CopyOutcome, ApiError>,
) -> Result<(), Failure> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut document = ItemsDocument::begin(&mut output).map_err(unwritten)?;
    if let CopyOutcome::Unwritten(error) = write(&mut document)? {
        return Err(unwritten(error));
    }
    document.end().and_then(|()| output.flush()).map_err(unwritten)
}

/// Why an answer could not be written, which is no failure where its reader had enough.
pub(crate) fn unwritten(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Answer(error),
    }
}

/// A line under the header and nothing else, so that a table is easy to read and to cut with other tools.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with a header; columns whose every cell is a number are set to the right.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    let is_numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| looks_like_number(cell))
    };
    let right: Vec<bool> = (0..header.len()).map(is_numeric).collect();
    let cell = |column: usize, text: &str| {
        let cell = Cell::new(visible(text));
        if right.get(column) == Some(&true) { cell.set_alignment(CellAlignment::Right) } else { cell }
    };
    table.set_header(header.iter().enumerate().map(|(column, text)| cell(column, text)));
    for row in &rows {
        table.add_row(row.iter().enumerate().map(|(column, text)| cell(column, text)));
    }
    table.trim_fmt()
}

/// A count, or a time that something took.
fn looks_like_number(text: &str) -> bool {
    let digits = text.trim_end_matches(" s").replace(" min ", "");
    digits.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.' | '-'))
}

/// A whole number with its thousands apart: `31,106`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes: `244,496 B` or `1.9 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes_f64 = bytes as f64;
    match bytes {
        0..10_240 => format!("{} B", count(bytes)),
        10_240..10_485_760 => format!("{:.1} KiB", bytes_f64 / KIB),
        _ => format!("{:.1} MiB", bytes_f64 / KIB / KIB),
    }
}

/// How long something took: `0.42 s`, `3 min 12 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 120 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

/// Things per second as a whole number with its thousands apart.
pub(crate) fn rate(things: u64, duration: Duration) -> String {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "shown rounded"
    )]
    let per_second = (things as f64 / duration.as_secs_f64().max(1e-6)).round() as u64;
    count(per_second)
}

/// A JSON value as a table's cell: texts without quotes, nothing for null.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(digits::plain(text)),
        other => digits::line(other),
    }
}

/// Whether a character shows nothing itself and changes how others are shown, their order above all, as U+202E does. What joins letters
/// or keeps them apart stays, because whole scripts are written with it.
fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A text without what a terminal would take for a command, or shows in another order than it stands: whoever sends events or
/// names a key chooses these texts.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => visible.push(character),
            _ if character.is_control() || is_format(character) => visible.extend(character.escape_default()),
            _ => visible.push(character),
        }
    }
    visible
}

/// The member `name` of a JSON object as a cell; nothing where there is none.
pub(crate) fn field(object: &Value, name: &str) -> String {
    object.get(name).map_or_else(String::new, plain)
}

/// The member `name` of a JSON object as a whole number; 0 where there is none.
pub(crate) fn number(object: &Value, name: &str) -> u64 {
    object.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The member `name` of a JSON object as a whole number; a word where it is not known yet.
pub(crate) fn known(object: &Value, name: &str) -> String {
    object.get(name).and_then(Value::as_u64).map_or_else(|| NOT_KNOWN.to_owned(), count)
}

/// A text cut to `max` characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// One step of a longer job on standard error: a moving line on a terminal, one finished line everywhere.
pub(crate) struct Step {
    bar: ProgressBar,
    title: String,
    started: Instant,
    /// A program that reads the answer is told no steps.
    format: AnswerFormat,
}

impl Step {
    /// A step of unknown length.
    pub(crate) fn begin(title: impl Into<String>, format: AnswerFormat) -> Step {
        let title = title.into();
        let bar = ProgressBar::with_draw_target(None, draw_target(format));
        bar.set_style(style("{spinner} {prefix} {elapsed} {wide_msg}"));
        Step::started(bar, title, format)
    }

    /// A step over `bytes` bytes.
    pub(crate) fn over_bytes(title: impl Into<String>, bytes: u64, format: AnswerFormat) -> Step {
        let bar = ProgressBar::with_draw_target(Some(bytes), draw_target(format));
        bar.set_style(style("{spinner} {prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}"));
        Step::started(bar, title.into(), format)
    }

    fn started(bar: ProgressBar, title: String, format: AnswerFormat) -> Step {
        bar.set_prefix(title.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() && !format.is_json() {
            eprintln!("{title} …");
        }
        Step { bar, title, started: Instant::now(), format }
    }

    /// What is being done right now.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// A line that stays above the moving one.
    pub(crate) fn note(&self, line: &str) {
        if !self.format.is_json() {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    /// Whether somebody sees them: programs are shown none.
    pub(crate) fn shows_notes(&self) -> bool {
        !self.format.is_json()
    }

    /// The bar itself, for readers that count their bytes.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// End the step with one line that stays; gives the time it took.
    pub(crate) fn end(self, outcome: &str) -> Duration {
        let elapsed = self.started.elapsed();
        self.bar.finish_and_clear();
        if !self.format.is_json() {
            eprintln!("✓ {} — {outcome} ({})", self.title, seconds(elapsed));
        }
        elapsed
    }
}

impl Drop for Step {
    /// A step that ends with an error leaves no half-drawn line behind.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn draw_target(format: AnswerFormat) -> ProgressDrawTarget {
    let is_hidden = format.is_json() || !std::io::stderr().is_terminal();
    if is_hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_chose_moves_no_cursor() {
        assert_eq!(visible("\u{1b}]0;pwned\u{7}\u{1b}[2J ü\n"), "\\u{1b}]0;pwned\\u{7}\\u{1b}[2J ü\n");
        assert!(!table(&["name"], vec![vec!["\u{1b}[2J".to_owned()]]).contains("\u{1b}[2J"));
        assert_eq!(visible("a\u{202e}gpj.exe\u{2066}\u{200f}"), "a\\u{202e}gpj.exe\\u{2066}\\u{200f}");
        assert!(!table(&["name"], vec![vec!["a\u{202e}b".to_owned()]]).contains('\u{202e}'));
        assert_eq!(visible("שלום é 👍"), "שלום é 👍", "letters of any script stay");
    }

    #[test]
    fn a_table_sets_numbers_to_the_right() {
        let rows = vec![
            vec!["events".to_owned(), count(31_106), "orders".to_owned()],
            vec!["profiles".to_owned(), count(600), String::new()],
        ];
        insta::assert_snapshot!(table(&["what", "count", "note"], rows), @r"
         what        count   note
        ────────────────────────────
         events     31,106   orders
         profiles      600
        ");
    }

    /// However the pieces of an export are cut, the lines are one document.
    #[test]
    fn lines_become_one_document() {
        let lines = "{\"a\":1}\n{\"b\":\"x,y\"}\n\n{\"c\":[]}\n";
        for piece in 1..=lines.len() {
            let mut out = Vec::new();
            let mut document = ItemsDocument::begin(&mut out).unwrap();
            lines.as_bytes().chunks(piece).for_each(|piece| document.write_all(piece).unwrap());
            document.end().unwrap();
            let read: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, serde_json::json!({ "items": [{ "a": 1 }, { "b": "x,y" }, { "c": [] }] }), "{piece}");
        }
        let mut out = Vec::new();
        ItemsDocument::begin(&mut out).unwrap().end().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), serde_json::json!({ "items": [] }));
    }

    #[test]
    fn a_list_that_was_cut_says_how_to_go_on() {
        let whole = serde_json::json!({ "items": [1], "next": null });
        assert_eq!(more(&whole), None);
        let part = serde_json::json!({ "items": [1, 2], "next": "c7" });
        assert_eq!(more(&part).unwrap(), "2 are shown and there are more: add --cursor c7, or --all");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 1, 1200].map(|number| counted(number, "row")), ["0 rows", "1 row", "1,200 rows"]);
        assert_eq!([1, 2].map(|number| counted(number, "person")), ["1 person", "2 people"]);
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(size(2_048), "2,048 B");
        assert_eq!(size(244_496), "238.8 KiB");
        assert_eq!(seconds(Duration::from_millis(420)), "0.42 s");
        assert_eq!(seconds(Duration::from_secs(192)), "3 min 12 s");
        assert_eq!(rate(100, Duration::from_secs(2)), "50");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
