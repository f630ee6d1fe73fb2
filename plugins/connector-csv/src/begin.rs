//! How a file begins: what it is, its encoding, its delimiter, and what its first rows show of its columns. Whatever is found is part
//! of the progress, so that all pieces are read in one way, and is told to the sender in notes.

use std::collections::BTreeMap;

use kith_plugin_sdk::{Failure, Rejection, Request};
use serde::{Deserialize, Serialize};

use crate::Reading;
use crate::charset::Charset;
use crate::column::{Ids, Numbers, Times};
use crate::consent::Unclear;
use crate::encoding::{self, Piece, Source};
use crate::envelope;
use crate::errors::Errors;
use crate::event::{Exactness, Seen};
use crate::foreign;
use crate::json_records::Position;
use crate::record::{Dialect, Escape, LineEnd};
use crate::sample::{self, Columns, Wanted};
use crate::settings::{Delimiter, Format, Mapping, Settings};
use crate::skip::Skip;
use crate::zone::Local;

/// So much of a file is looked at before its first row is read: as much as the kernel hands over at once. What is found depends on
/// these bytes alone, however the file is cut. Tests have files that are longer.
pub(crate) const SAMPLE_BYTES: usize = if cfg!(test) { 200 } else { 256 * 1024 };

/// The media type of rows that `kith import` makes of a workbook: CSV in UTF-8 in which texts alone are quoted.
const ROWS: &str = "application/vnd.kith.rows+csv";

/// What was found out at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    #[serde(serialize_with = "write_encoding", deserialize_with = "read_encoding")]
    pub(crate) charset: Charset,
    encoding_source: Source,
    pub(crate) format: Format,
    pub(crate) dialect: Dialect,
    /// The fields without quotes are numbers and truth values.
    is_typed: bool,
    /// The delimiter was found and not configured.
    is_delimiter_found: bool,
}

fn write_encoding<S: serde::Serializer>(charset: &Charset, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(charset.name())
}

fn read_encoding<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Charset, D::Error> {
    let name = String::deserialize(deserializer)?;
    encoding::named(&name).map_err(|_| serde::de::Error::custom("no such encoding"))
}

impl Begun {
    pub(crate) fn exactness(&self) -> Exactness {
        if self.is_typed { Exactness::Unquoted } else { Exactness::Text }
    }
}

/// The beginning of a file.
pub(crate) struct Start {
    pub(crate) begun: Begun,
    /// The length of the byte order mark.
    pub(crate) mark: usize,
    /// Where the first record begins in the decoded text, behind a line that names the delimiter.
    pub(crate) at: usize,
    /// Lines before it.
    pub(crate) lines: u64,
    /// Which array of the one object that the file is holds the rows.
    pub(crate) envelope: Option<String>,
}

impl Start {
    /// Begin with the first row inside the object that the file is, where it is one.
    fn open(&mut self, settings: &Settings, text: &[u8], complete: bool) -> Result<(), Rejection> {
        let mapping = settings.mapping()?;
        let Some((name, at)) = envelope::find(text, complete, settings.rows.as_deref(), &mapping)? else {
            return Ok(());
        };
        self.lines = text[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        (self.at, self.envelope) = (at, Some(name));
        Ok(())
    }
}

/// Find out what the file is.
pub(crate) fn begin(settings: &Settings, request: &Request) -> Result<Start, Rejection> {
    if let Some(what) = foreign::named(&request.body) {
        return Err(Rejection::new(415, "not-text", format!("this is no CSV or JSON but {what}")));
    }
    let is_typed = request.header("content-type").is_some_and(|media_type| media_type.starts_with(ROWS));
    let (sample, complete) = first(request);
    let set = if is_typed || request.is_replay() { Some(encoding_rs::UTF_8.into()) } else { settings.encoding()? };
    let found = encoding::find(set, sample);
    let text = Piece::new(found.charset, found.mark, sample);
    let format = match settings.format {
        _ if is_typed => Format::Csv,
        Some(format) => format,
        None if looks_like_json(&text.bytes) => Format::Json,
        None => Format::Csv,
    };
    let named = if format == Format::Csv { sample::named_delimiter(&text.bytes, complete) } else { None };
    let (at, lines) = named.map_or((0, 0), |(_, next)| (next, 1));
    let set = if is_typed { Some(Delimiter::Byte(b',')) } else { settings.delimiter()? };
    let delimiter = set.or(named.map(|(delimiter, _)| Delimiter::Byte(delimiter)));
    let columns = settings.mapping()?.columns;
    let wanted = Wanted {
        delimiter,
        quote: if is_typed { Some(b'"') } else { settings.quote()? },
        escape: if is_typed { Some(Escape::None) } else { settings.escape()? },
        trim: settings.trim && !is_typed,
        columns: match settings.columns.len() {
            0 => Columns::Named(&columns),
            count => Columns::Count(count),
        },
    };
    let mut dialect = sample::dialect(&wanted, &text.bytes[at..], complete);
    if format == Format::Json {
        dialect.line_end = LineEnd::Feed;
    }
    let begun = Begun {
        charset: found.charset,
        encoding_source: found.source,
        format,
        dialect,
        is_typed,
        is_delimiter_found: delimiter.is_none(),
    };
    let mut start = Start { begun, mark: found.mark, at, lines, envelope: None };
    if format == Format::Json && !request.is_replay() {
        start.open(settings, &text.bytes, complete)?;
    }
    Ok(start)
}

/// The bytes that are looked at, and whether they are all.
fn first(request: &Request) -> (&[u8], bool) {
    let length = request.body.len().min(SAMPLE_BYTES);
    (&request.body[..length], request.complete && length == request.body.len())
}

/// A header line may begin with a bracket, but not so.
fn looks_like_json(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    match text.split_first() {
        Some((b'{', rest)) => matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}')),
        Some((b'[', rest)) => matches!(rest.trim_ascii_start().first(), Some(b'{' | b']')),
        _ => false,
    }
}

/// Read the first rows for what they show of the columns, before the first of them becomes an event.
pub(crate) fn learn(
    settings: &Settings,
    request: &Request,
    start: &Start,
    progress: &mut Progress,
) -> Result<(), Rejection> {
    let (sample, complete) = first(request);
    let piece = Piece::new(start.begun.charset, start.mark, sample);
    let mut reading = Reading::new(settings, start.begun, &piece, complete, progress.clone())?;
    reading.at = start.at;
    reading.run()?;
    let learnt = reading.progress();
    progress.numbers = learnt.numbers.into_iter().map(|(column, numbers)| (column, numbers.evidence())).collect();
    progress.dates = learnt.dates.into_iter().map(|(column, dates)| (column, dates.evidence())).collect();
    progress.times = learnt.times.evidence();
    Ok(())
}

/// Where the next piece goes on.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub(crate) struct Progress {
    /// What was found out at the beginning.
    pub(crate) begun: Option<Begun>,
    /// The columns' names, once they are known.
    pub(crate) header: Option<Vec<String>>,
    /// Lines already behind us.
    pub(crate) line: u64,
    /// Records behind us, the header and blank rows not among them.
    pub(crate) rows: u64,
    /// Rows of which every field is empty.
    #[serde(default)]
    pub(crate) blank: u64,
    /// Of columns that are ids, by name.
    #[serde(default)]
    ids: BTreeMap<String, Ids>,
    /// Which array of the one object that the file is holds the rows.
    #[serde(default)]
    pub(crate) envelope: Option<String>,
    /// Inside a record that is too long and already reported: whatever comes is dropped up to its end.
    pub(crate) skipping: Option<Skip>,
    pub(crate) position: Position,
    /// What columns of numbers show, by name.
    numbers: BTreeMap<String, Numbers>,
    /// The same of dates and times that are properties or traits.
    #[serde(default)]
    dates: BTreeMap<String, Times>,
    /// Rows that refuse everything because their `consent` is no object of purposes.
    #[serde(default)]
    refusing: u64,
    /// Cells of consents that are neither yes nor no.
    #[serde(default)]
    unclear: Unclear,
    /// Cells that hold the error of a formula.
    #[serde(default)]
    errors: Errors,
    /// The year in which the first piece was received.
    #[serde(default)]
    year: Option<i64>,
    /// Rows say something of consent, and when they were true is nowhere.
    #[serde(default)]
    has_undated_consent: bool,
    times: Times,
    /// The column of the times.
    time_column: Option<String>,
}

impl Progress {
    pub(crate) fn resume(bytes: Option<&[u8]>) -> Result<Progress, Failure> {
        match bytes {
            None => Ok(Progress::default()),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| Failure::bad_input(format!("the place to go on from does not read: {error}"))),
        }
    }

    /// What comes is one record in UTF-8, whatever the file was.
    pub(crate) fn read_one_text(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.charset = encoding_rs::UTF_8.into();
        }
        self.skipping = None;
        self.position = Position::Lines;
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self)
            .map_err(|error| Failure::permanent(format!("the place to go on from does not write: {error}")))
    }

    /// Note when the file is read; all of it is read as of the moment at which it began.
    pub(crate) fn note_year(&mut self, received_at: i64) {
        let year = || Local::from_utc(received_at).filter(|_| received_at > 0).map(|local| local.year);
        self.year = self.year.or_else(year);
    }

    /// What is seen so far, by the numbers of the mapping's columns.
    pub(crate) fn seen(&mut self, columns: &[String]) -> Seen {
        let year = self.year;
        let as_of = |times: Times| times.read_in(year);
        let numbers = columns.iter().map(|column| self.numbers.remove(column).unwrap_or_default()).collect();
        let dates = columns.iter().map(|column| as_of(self.dates.remove(column).unwrap_or_default())).collect();
        let ids = columns.iter().map(|column| self.ids.remove(column).unwrap_or_default()).collect();
        Seen {
            numbers,
            dates,
            times: as_of(std::mem::take(&mut self.times)),
            refusing: self.refusing,
            unclear: std::mem::take(&mut self.unclear),
            errors: std::mem::take(&mut self.errors),
            ids,
        }
    }

    pub(crate) fn note_seen(&mut self, mapping: &Mapping, seen: Seen) {
        self.numbers = mapping.columns.iter().cloned().zip(seen.numbers).collect();
        self.numbers.retain(|_, numbers| *numbers != Numbers::default());
        let plain = |times: Times| times.read_in(None);
        self.dates = mapping.columns.iter().cloned().zip(seen.dates.into_iter().map(plain)).collect();
        self.dates.retain(|_, dates| *dates != Times::default());
        self.ids = mapping.columns.iter().cloned().zip(seen.ids).collect();
        self.ids.retain(|_, ids| *ids != Ids::default());
        self.refusing = seen.refusing;
        self.unclear = seen.unclear;
        self.errors = seen.errors;
        self.has_undated_consent = mapping.says_consent() && mapping.time.is_none();
        self.times = plain(seen.times);
        self.time_column = mapping.time.as_ref().map(|time| time.template.name(&mapping.columns));
    }

    /// What was assumed, for a person: name and value.
    pub(crate) fn notes(&self, complete: bool) -> Vec<(String, String)> {
        let mut notes = Vec::new();
        if let Some(begun) = &self.begun {
            begun.notes(&mut notes);
        }
        for (column, numbers) in &self.numbers {
            notes.extend(numbers.note().map(|note| (format!("column {column}"), note)));
        }
        for (column, dates) in &self.dates {
            notes.extend(dates.note().map(|note| (format!("column {column}"), note)));
        }
        if let (Some(column), Some(note)) = (&self.time_column, self.times.note()) {
            notes.push((format!("column {column}"), note));
        }
        for (column, ids) in &self.ids {
            notes.extend(ids.note().map(|note| (format!("column {column}"), note)));
        }
        if self.blank > 0 {
            notes.push(("blank rows".to_owned(), format!("{} skipped, in which every cell is empty", self.blank)));
        }
        if let Some(name) = &self.envelope {
            let note = format!("the items of `{name}` in the one object that the file is");
            notes.push(("rows".to_owned(), note));
        }
        if self.refusing > 0 {
            let note = format!(
                "{} rows refuse everything, because the trait `consent` is no object of purposes in them; map each purpose to its \
                 column with the setting `consent`, e.g. {{\"news\": \"newsletter\"}}",
                self.refusing
            );
            notes.push(("consent".to_owned(), note));
        }
        notes.extend(self.errors.note().map(|note| ("errors".to_owned(), note)));
        notes.extend(self.unclear.notes().into_iter().map(|note| ("consent".to_owned(), note)));
        if self.has_undated_consent {
            let note = "the rows have no `time`: what they agree to counts only of whom has refused nothing, and ends no refusal, \
                        since nobody knows which was said last; what they refuse counts from now. Set `time` to the column that \
                        says when the consent was given";
            notes.push(("consent".to_owned(), note.to_owned()));
        }
        if complete && self.rows == 0 {
            let is_csv = self.begun.is_some_and(|begun| begun.format == Format::Csv);
            let what =
                if is_csv && self.line > 0 { "the file has a header line and no rows" } else { "the file is empty" };
            notes.push(("rows".to_owned(), what.to_owned()));
        }
        notes
    }
}

impl Begun {
    fn notes(&self, notes: &mut Vec<(String, String)>) {
        let name = self.charset.name();
        let encoding = match self.encoding_source {
            Source::Set | Source::Bytes => name.to_owned(),
            Source::Mark => format!("{name}, by its byte order mark"),
            Source::Guess => format!("{name}, a guess; set `encoding` where letters look wrong"),
        };
        notes.push(("encoding".to_owned(), encoding));
        if self.format == Format::Json {
            notes.push(("format".to_owned(), "JSON".to_owned()));
            return;
        }
        let delimiter = match self.dialect.delimiter {
            Delimiter::Whitespace => "whitespace".to_owned(),
            Delimiter::Byte(b'\t') => "tab".to_owned(),
            Delimiter::Byte(byte) => format!("`{}`", char::from(byte)),
        };
        let found = if self.is_delimiter_found { ", found" } else { "" };
        notes.push(("delimiter".to_owned(), delimiter + found));
        if self.dialect.escape == Escape::Backslash {
            notes.push(("escape".to_owned(), "backslashes, as MySQL writes".to_owned()));
        }
        if self.dialect.line_end == LineEnd::Return {
            notes.push(("line ends".to_owned(), "carriage returns".to_owned()));
        }
    }
}
