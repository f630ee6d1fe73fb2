//! The connector `kith/csv`: CSV, other delimited text and JSON, in pieces of any size, by a mapping in its configuration.
//!
//! Responsible for going through the input record by record and for where the next piece goes on. `begin` finds out how the file is
//! written, `record` and `json_records` find records, `encoding` decodes them, `event` maps them, `settings` reads the configuration.
//! Leaves upload, decompression and progress to the kernel.

use std::borrow::Cow;

use kith_plugin_sdk::webhook::Call;
use kith_plugin_sdk::{Connector, Event, Failure, Received, Rejected, Rejection, Request, config, export};

use crate::begin::{Begun, Progress};
use crate::encoding::Piece;
use crate::event::{Exactness, FieldText, Problem, Row, Seen};
use crate::record::{Dialect, Escape, FieldSpan, Found};
use crate::settings::{Format, Mapping, Settings, ShortRows};
use crate::skip::Skip;

mod begin;
mod charset;
mod column;
mod consent;
mod currency;
mod encoding;
mod envelope;
mod errors;
mod event;
mod foreign;
mod header;
mod json;
mod json_records;
mod mapping;
mod names;
mod number;
mod record;
mod sample;
mod settings;
mod skip;
mod time;
mod validate;
mod value;
mod zone;

/// The connector.
pub struct Csv;

/// A record of more bytes than this is set aside, up to its end: an event's stored body is far smaller.
const MAX_RECORD_BYTES: usize = 256 * 1024;

/// The name of the secret in the manifest that `signature` is checked with.
const SECRET: &str = "signing";

impl Connector for Csv {
    fn validate(config: &str) -> Result<(), Vec<kith_plugin_sdk::Problem>> {
        validate::validate(config)
    }

    fn receive(request: Request) -> Result<Received, Rejection> {
        let settings: Settings = config::get()?;
        // Before anything of it is looked at. What comes again was checked when it came.
        let signature = settings.signature.as_ref().filter(|_| !request.comes_again());
        if signature.is_some() && !request.complete {
            return Ok(Received { resume: request.resume, ..Received::default() });
        }
        let verified = signature.map(|signature| signature.verify(SECRET, &Call::from(&request))).transpose()?;
        let mut progress = Progress::resume(request.resume.as_deref())?;
        progress.note_year(request.received_at);
        if request.is_replay() {
            // One record that was set aside comes as the text that it was shown as.
            progress.read_one_text();
        }
        let body = &request.body;
        let mut mark = 0;
        let mut at = 0;
        let begun = match progress.begun {
            Some(begun) => begun,
            None if !request.complete && body.len() < begin::SAMPLE_BYTES => {
                return Ok(Received { resume: request.resume, ..Received::default() });
            }
            None => {
                let start = begin::begin(&settings, &request)?;
                (mark, at) = (start.mark, start.at);
                progress.line = start.lines;
                if start.envelope.is_some() {
                    progress.position = json_records::Position::Array;
                    progress.envelope.clone_from(&start.envelope);
                }
                progress.begun = Some(start.begun);
                begin::learn(&settings, &request, &start, &mut progress)?;
                start.begun
            }
        };
        let piece = Piece::new(begun.charset, mark, body);
        let mut reading = Reading::new(&settings, begun, &piece, request.complete, progress)?;
        reading.at = at;
        reading.run()?;
        if request.complete {
            reading.insist_on_end()?;
        }

        let consumed = piece.input_bytes(reading.at) as u64;
        let progress = reading.progress();
        let mut received = Received {
            events: reading.events,
            rejected: reading.rejected,
            notes: progress.notes(request.complete),
            ..Received::default()
        };
        if request.complete {
            received.consumed = body.len() as u64;
            if piece.has_half_a_unit() {
                let message = "the file ends with half a UTF-16 unit; it was cut, or it is not UTF-16";
                received.rejected.push(Rejected::new(progress.line + 1, "undecodable", message, ""));
            }
        } else {
            received.consumed = consumed;
        }
        received.resume = Some(progress.to_bytes()?);
        verified.iter().for_each(|verified| verified.name(&mut received.events));
        Ok(received)
    }
}

export!(Csv as connector);

/// The way through one piece.
struct Reading<'p> {
    format: Format,
    dialect: Dialect,
    exactness: Exactness,
    short_rows: ShortRows,
    /// The configuration says which array of an object holds the rows.
    chosen_rows: bool,
    duplicates: header::Duplicates,
    mapping: Mapping,
    /// A header line is still to come.
    header_line: bool,
    columns: &'p [String],
    piece: &'p Piece<'p>,
    complete: bool,
    /// Which field of a line each of the mapping's columns is.
    places: Vec<usize>,
    seen: Seen,
    progress: Progress,
    /// Bytes of the piece already behind us.
    at: usize,
    events: Vec<Event>,
    rejected: Vec<Rejected>,
}

impl<'p> Reading<'p> {
    fn new(
        settings: &'p Settings,
        begun: Begun,
        piece: &'p Piece<'p>,
        complete: bool,
        mut progress: Progress,
    ) -> Result<Reading<'p>, Rejection> {
        let is_csv = begun.format == Format::Csv;
        if is_csv && !settings.header && settings.columns.is_empty() {
            let failure = Failure::permanent("without a header line the configuration must name the `columns`");
            return Err(failure.into());
        }
        let mut mapping = settings.mapping()?;
        if begun.exactness() == Exactness::Unquoted
            && let Some(time) = &mut mapping.time
        {
            // Dates of cells were written so by the program that read the sheet.
            time.form.formats.insert(0, time::TimeFormat::Rfc3339);
        }
        if begun.exactness() == Exactness::Unquoted {
            let fields = mapping.properties.iter_mut().chain(&mut mapping.traits);
            fields.for_each(|field| {
                field.time.formats.insert(0, time::TimeFormat::Rfc3339);
                field.value_type.get_or_insert(settings::ValueType::Cell);
            });
        }
        if is_csv && !settings.header && progress.header.is_none() {
            progress.header = Some(settings.columns.clone());
        }
        let mut reading = Reading {
            format: begun.format,
            dialect: begun.dialect,
            exactness: begun.exactness(),
            short_rows: settings.short_rows,
            chosen_rows: settings.rows.is_some(),
            duplicates: settings.duplicate_columns,
            header_line: is_csv && settings.header && progress.header.is_none(),
            columns: &settings.columns,
            piece,
            complete,
            places: Vec::new(),
            seen: progress.seen(&mapping.columns),
            mapping,
            progress,
            at: 0,
            events: Vec::new(),
            rejected: Vec::new(),
        };
        reading.place_columns()?;
        Ok(reading)
    }

    /// Where the next piece goes on.
    fn progress(&mut self) -> Progress {
        let mut progress = std::mem::take(&mut self.progress);
        progress.note_seen(&self.mapping, std::mem::take(&mut self.seen));
        progress
    }

    /// Find the mapping's columns among those of the file.
    fn place_columns(&mut self) -> Result<(), Rejection> {
        let Some(header) = &self.progress.header else { return Ok(()) };
        self.places = header::find(&self.mapping.columns, header)?;
        Ok(())
    }

    /// Take record after record, as long as there are whole ones.
    fn run(&mut self) -> Result<(), Rejection> {
        let piece = self.piece;
        let mut spans = Vec::new();
        while self.at < piece.bytes.len() {
            let rest = &piece.bytes[self.at..];
            if let Some(skip) = self.progress.skipping {
                self.skip(skip, rest);
                continue;
            }
            if self.progress.envelope.is_some() && self.progress.position >= json_records::Position::End {
                if !self.close_envelope(rest)? {
                    return Ok(());
                }
                continue;
            }
            // What is found may depend on the record alone and not on where the input happens to be cut, so never look further.
            let is_all = rest.len() <= MAX_RECORD_BYTES;
            let window = if is_all { rest } else { &rest[..MAX_RECORD_BYTES] };
            match self.find(window, is_all && self.complete, &mut spans) {
                Found::Record(end) => {
                    self.take(&rest[..end], &spans)?;
                    self.pass(&rest[..end]);
                }
                Found::Broken(end) => {
                    self.refuse(&rest[..end], self.broken(&rest[..end]))?;
                    self.pass(&rest[..end]);
                }
                Found::Unfinished if is_all && !self.complete => return Ok(()),
                Found::Unfinished if is_all => {
                    let first = self.progress.line + 1;
                    self.refuse(
                        rest,
                        skip::not_closed(first, self.progress.line + self.lines(rest.trim_ascii_end()) + 1),
                    )?;
                    self.pass(rest);
                }
                Found::Unfinished => {
                    let message = format!(
                        "the record has more than {MAX_RECORD_BYTES} bytes; all of it is set aside, with each line inside its quotes \
                         or brackets"
                    );
                    self.refuse(window, Problem::new("record-too-long", message))?;
                    let skip = Skip::new(self.format, self.progress.position, self.progress.line + 1, rest);
                    self.progress.skipping = Some(skip);
                }
            }
        }
        Ok(())
    }

    fn lines(&self, bytes: &[u8]) -> u64 {
        let line_end = self.dialect.line_end.byte();
        bytes.iter().filter(|&&byte| byte == line_end).count() as u64
    }

    /// What is wrong with these bytes, which are no record and hold none.
    fn broken(&self, bytes: &[u8]) -> Problem {
        let lines = self.lines(bytes.trim_ascii_end());
        match self.format {
            Format::Csv => {
                let mut message =
                    "something follows the closing quote of a field; double the quotes inside it".to_owned();
                if lines > 0 {
                    message.push_str(&format!(
                        ". The quote that opens the field is closed {lines} lines further on: up to there all is this one record"
                    ));
                }
                Problem::new("broken-quoting", message)
            }
            Format::Json => {
                Problem::new("invalid-json", "the line is not a JSON object, and none that goes on behind it")
            }
        }
    }

    fn find(&mut self, window: &[u8], complete: bool, spans: &mut Vec<FieldSpan>) -> Found {
        if self.format == Format::Csv {
            return record::find(window, self.dialect, complete, spans);
        }
        spans.clear();
        match json_records::find(window, self.progress.position, complete) {
            json_records::Found::Gap(length) => Found::Record(length),
            json_records::Found::Bracket(length, position) => {
                self.progress.position = position;
                Found::Record(length)
            }
            json_records::Found::Record(end) => {
                if self.progress.position == json_records::Position::Begin {
                    self.progress.position = json_records::Position::Lines;
                }
                spans.push(FieldSpan { span: 0..end, is_quoted: false });
                Found::Record(end)
            }
            json_records::Found::Unfinished => Found::Unfinished,
            json_records::Found::Broken(end) => Found::Broken(end),
        }
    }

    /// Look at what stands behind the rows of an object; whether it was passed, or more of it is to come.
    fn close_envelope(&mut self, rest: &[u8]) -> Result<bool, Rejection> {
        if self.chosen_rows || self.progress.position == json_records::Position::Closed {
            self.progress.position = json_records::Position::Closed;
            self.pass(rest);
            return Ok(true);
        }
        let window = &rest[..rest.len().min(MAX_RECORD_BYTES)];
        let is_all = rest.len() <= MAX_RECORD_BYTES;
        if is_all && !self.complete {
            return Ok(false);
        }
        let name = self.progress.envelope.clone().unwrap_or_default();
        if let Some(message) = envelope::problem_behind(window, is_all, &name)? {
            self.refuse(window, Problem::new("invalid-json", message))?;
        }
        self.progress.position = json_records::Position::Closed;
        self.pass(rest);
        Ok(true)
    }

    /// Say that a list or a field is not closed where the file ends: rows that stood behind are missing.
    fn insist_on_end(&mut self) -> Result<(), Rejection> {
        if let Some(skip) = self.progress.skipping {
            let problem = skip.problem_at_end(self.progress.line);
            return problem.map_or(Ok(()), |problem| self.refuse_at(skip.line, b"", problem));
        }
        let is_open = match self.progress.position {
            json_records::Position::Array => true,
            json_records::Position::End => self.progress.envelope.is_some(),
            _ => false,
        };
        if is_open {
            self.refuse(b"", Problem::new("invalid-json", envelope::NOT_CLOSED))?;
        }
        Ok(())
    }

    fn skip(&mut self, mut skip: Skip, rest: &[u8]) {
        let end = skip.over(rest, self.dialect, self.complete);
        self.progress.skipping = end.is_none().then_some(skip);
        self.pass(&rest[..end.unwrap_or(rest.len())]);
    }

    /// Go on behind these bytes.
    fn pass(&mut self, bytes: &[u8]) {
        self.at += bytes.len();
        self.progress.line += self.lines(bytes);
    }

    /// Set a record aside. A header that cannot be read is different: without it no line can.
    fn refuse(&mut self, record: &[u8], problem: Problem) -> Result<(), Rejection> {
        self.refuse_at(self.progress.line + 1, record, problem)
    }

    fn refuse_at(&mut self, line: u64, record: &[u8], problem: Problem) -> Result<(), Rejection> {
        if self.header_line {
            return Err(Rejection::new(
                400,
                "bad-header",
                format!("the header line cannot be read: {}", problem.message),
            ));
        }
        let raw = self.piece.decode_lossy(without_line_end(record));
        // A refusal in it would otherwise be lost without a word: the line itself has no names of traits.
        let word = if self.mapping.says_consent() { "; what it says of consent was not taken" } else { "" };
        self.rejected.push(Rejected::new(line, problem.code, problem.message + word, &raw));
        Ok(())
    }

    /// Make an event of a record, or set it aside. Blank lines are nothing.
    fn take(&mut self, record: &[u8], spans: &[FieldSpan]) -> Result<(), Rejection> {
        if record::is_blank(record, spans) {
            // Before the header is nobody's table, and an empty line of one field is no row.
            self.progress.blank += u64::from(!self.header_line && self.format == Format::Csv && !spans.is_empty());
            return Ok(());
        }
        if self.header_line {
            return self.take_header(record, spans);
        }
        self.progress.rows += 1;
        match self.read(record, spans) {
            Ok(event) => {
                let text = self.piece.input_span(self.at..self.at + record.trim_ascii_end().len());
                self.events.push(event.at(self.progress.line + 1, Some(text)));
                Ok(())
            }
            Err(problem) => self.refuse(record.trim_ascii_end(), problem),
        }
    }

    fn take_header(&mut self, record: &[u8], spans: &[FieldSpan]) -> Result<(), Rejection> {
        let header = if self.columns.is_empty() {
            let fields = match self.fields(record, spans) {
                Ok(fields) => fields,
                Err(problem) => return self.refuse(record, problem),
            };
            let texts: Vec<Cow<'_, str>> = fields.into_iter().map(|field| field.text).collect();
            header::names(&texts, self.duplicates)
        } else {
            self.columns.to_vec()
        };
        self.progress.header = Some(header);
        self.header_line = false;
        self.place_columns()
    }

    fn read(&mut self, record: &[u8], spans: &[FieldSpan]) -> Result<Event, Problem> {
        match self.format {
            Format::Json => {
                let text = self.piece.decode(record).ok_or_else(undecodable)?;
                let (object, flags) = json::object(text.trim()).map_err(|error| {
                    Problem::new("invalid-json", format!("the record is not a JSON object: {error} of it"))
                })?;
                let event = event::read(&Row::Object(&object), &self.mapping, &mut self.seen)?;
                Ok(Event { flags: event.flags.into_iter().chain(flags).collect(), ..event })
            }
            Format::Csv => {
                let mut fields = self.fields(record, spans)?;
                let expected = self.progress.header.as_ref().map_or(0, Vec::len);
                let surplus = fields.get(expected..).unwrap_or_default();
                // Spreadsheets fill lines up with empty fields, in which nothing is lost.
                if surplus.iter().all(|field| field.text.is_empty()) {
                    fields.truncate(expected);
                }
                let is_short = fields.len() < expected && self.short_rows == ShortRows::Fill;
                if fields.len() != expected && !is_short {
                    let message = format!("the line has {} fields where there are {expected} columns", fields.len());
                    return Err(Problem::new("wrong-field-count", message));
                }
                let row = Row::Fields { fields: &fields, places: &self.places, exactness: self.exactness };
                event::read(&row, &self.mapping, &mut self.seen)
            }
        }
    }

    fn fields<'r>(&self, record: &'r [u8], spans: &[FieldSpan]) -> Result<Vec<FieldText<'r>>, Problem> {
        let field = |field: &FieldSpan| {
            let mut text = self.piece.decode(&record[field.span.clone()]).ok_or_else(undecodable)?;
            if let (true, Some(quote)) = (field.is_quoted, self.dialect.quote) {
                let quote = char::from(quote);
                if text.contains(quote) {
                    text = Cow::Owned(text.replace(&format!("{quote}{quote}"), quote.encode_utf8(&mut [0; 4])));
                }
            } else if self.dialect.trim {
                text = match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                    Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
                };
            }
            // `\N` alone is nothing, and no escaped letter.
            if self.dialect.escape == Escape::Backslash && text.contains('\\') && text != "\\N" {
                text = Cow::Owned(record::unescape(&text));
            }
            match event::text_of_formula(&text).or_else(|| event::text_behind_apostrophe(&text)) {
                Some(text) => Ok(FieldText { text: Cow::Owned(text), is_quoted: true }),
                None => Ok(FieldText { text, is_quoted: field.is_quoted }),
            }
        };
        spans.iter().map(field).collect()
    }
}

fn without_line_end(record: &[u8]) -> &[u8] {
    let end = record.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    &record[..end]
}

fn undecodable() -> Problem {
    Problem::new("undecodable", "the line holds bytes that are no text in the configured encoding")
}

#[cfg(test)]
mod tests;
