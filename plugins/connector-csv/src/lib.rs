//! The connector `kith/csv`: CSV, other delimited text and NDJSON, in pieces of any size, by a mapping in its configuration.
//!
//! Responsible for going through the input record by record and for where the next piece goes on. `record` finds records, `encoding`
//! decodes them, `event` maps them, `settings` and `time` read the configuration. Leaves upload, decompression and progress to the kernel.

use std::borrow::Cow;

use kith_plugin_sdk::{Connector, Event, Failure, Received, Rejected, Rejection, Request, config, export};
use serde::{Deserialize, Serialize};

use crate::encoding::Piece;
use crate::event::{Problem, Row};
use crate::record::{Dialect, FieldSpan, Found};
use crate::settings::{Encoding, Format, Mapping, Settings};

mod encoding;
mod event;
mod json;
mod record;
mod settings;
mod time;
mod validate;

/// The connector.
pub struct Csv;

/// A record of more bytes than this is set aside. An event's stored body is far smaller, and without a bound one quote that is never
/// closed would swallow the rest of a file.
const MAX_RECORD_BYTES: usize = 256 * 1024;

impl Connector for Csv {
    fn validate(config: &str) -> Result<(), Vec<kith_plugin_sdk::Problem>> {
        validate::validate(config)
    }

    fn receive(request: Request) -> Result<Received, Rejection> {
        let mut settings: Settings = config::get()?;
        let mut progress = Progress::resume(request.resume.as_deref())?;
        if request.is_replay() {
            // One record that was set aside comes as the text that it was shown as.
            (settings.encoding, progress.big_endian, progress.skipping) = (Encoding::Utf8, Some(false), false);
        }
        let body = &request.body;
        let (mark, big_endian) = match progress.big_endian {
            Some(big_endian) => (0, big_endian),
            None => match encoding::start(settings.encoding, body, request.complete) {
                Some(start) => (start.mark, start.big_endian),
                None => return Ok(Received { resume: request.resume, ..Received::default() }),
            },
        };
        let piece = Piece::new(settings.encoding, big_endian, mark, body);
        let mut reading = Reading::new(&settings, &piece, request.complete, progress)?;
        reading.progress.big_endian = Some(big_endian);
        reading.run()?;

        let mut received = Received { events: reading.events, rejected: reading.rejected, ..Received::default() };
        if request.complete {
            received.consumed = body.len() as u64;
            if piece.has_half_a_unit(body.len()) {
                let message = "the file ends with half a UTF-16 unit; it was cut, or it is not UTF-16";
                received.rejected.push(Rejected::new(reading.progress.line + 1, "undecodable", message, ""));
            }
        } else {
            received.consumed = piece.input_bytes(reading.at) as u64;
        }
        received.resume = Some(reading.progress.to_bytes()?);
        Ok(received)
    }
}

export!(Csv as connector);

/// Where the next piece goes on.
#[derive(Serialize, Deserialize, Default)]
struct Progress {
    /// The columns' names, once they are known.
    header: Option<Vec<String>>,
    /// Lines already behind us.
    line: u64,
    /// The byte order, once the beginning was seen.
    big_endian: Option<bool>,
    /// Inside a line that is too long and already reported: whatever comes is dropped up to its end.
    skipping: bool,
}

impl Progress {
    fn resume(bytes: Option<&[u8]>) -> Result<Progress, Failure> {
        match bytes {
            None => Ok(Progress::default()),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| Failure::bad_input(format!("the place to go on from does not read: {error}"))),
        }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self)
            .map_err(|error| Failure::permanent(format!("the place to go on from does not write: {error}")))
    }
}

/// The way through one piece.
struct Reading<'p> {
    format: Format,
    dialect: Dialect,
    mapping: Mapping,
    /// A header line is still to come.
    header_line: bool,
    columns: &'p [String],
    piece: &'p Piece<'p>,
    complete: bool,
    /// Which field of a line each of the mapping's columns is.
    places: Vec<usize>,
    progress: Progress,
    /// Bytes of the piece already behind us.
    at: usize,
    events: Vec<Event>,
    rejected: Vec<Rejected>,
}

impl<'p> Reading<'p> {
    fn new(
        settings: &'p Settings,
        piece: &'p Piece<'p>,
        complete: bool,
        progress: Progress,
    ) -> Result<Reading<'p>, Rejection> {
        let dialect = Dialect { delimiter: settings.delimiter()?, quote: settings.quote()?, trim: settings.trim };
        let is_csv = settings.format == Format::Csv;
        if is_csv && !settings.header && settings.columns.is_empty() {
            let failure = Failure::permanent("without a header line the configuration must name the `columns`");
            return Err(failure.into());
        }
        let mut reading = Reading {
            format: settings.format,
            dialect,
            mapping: settings.mapping()?,
            header_line: is_csv && settings.header && progress.header.is_none(),
            columns: &settings.columns,
            piece,
            complete,
            places: Vec::new(),
            progress,
            at: 0,
            events: Vec::new(),
            rejected: Vec::new(),
        };
        if is_csv && !settings.header && reading.progress.header.is_none() {
            reading.progress.header = Some(settings.columns.clone());
        }
        reading.place_columns()?;
        Ok(reading)
    }

    /// Find the mapping's columns among those of the file.
    fn place_columns(&mut self) -> Result<(), Rejection> {
        let Some(header) = &self.progress.header else { return Ok(()) };
        self.places.clear();
        for column in &self.mapping.columns {
            let place = header.iter().position(|name| name == column).ok_or_else(|| {
                let message = format!("the file has no column `{column}`; it has: {}", header.join(", "));
                Rejection::new(400, "unknown-column", message)
            })?;
            self.places.push(place);
        }
        Ok(())
    }

    /// Take record after record, as long as there are whole ones.
    fn run(&mut self) -> Result<(), Rejection> {
        let piece = self.piece;
        let mut spans = Vec::new();
        while self.at < piece.bytes.len() {
            let rest = &piece.bytes[self.at..];
            if self.progress.skipping {
                self.skip(rest);
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
                Found::Unfinished if is_all && !self.complete => return Ok(()),
                Found::Unfinished | Found::BrokenQuoting => match record::line(window, is_all && self.complete) {
                    Some((content, end)) => {
                        let message = "a quoted field is not closed before the next delimiter, or never; double the quotes inside it";
                        self.refuse(&rest[..content], Problem::new("broken-quoting", message))?;
                        self.pass(&rest[..end]);
                    }
                    None if is_all => return Ok(()),
                    None => {
                        let message = format!("the line has more than {MAX_RECORD_BYTES} bytes");
                        self.refuse(window, Problem::new("record-too-long", message))?;
                        self.progress.skipping = true;
                    }
                },
            }
        }
        Ok(())
    }

    fn find(&self, window: &[u8], complete: bool, spans: &mut Vec<FieldSpan>) -> Found {
        match self.format {
            Format::Csv => record::find(window, self.dialect, complete, spans),
            Format::Ndjson => match record::line(window, complete) {
                Some((content, end)) => {
                    spans.clear();
                    spans.push(FieldSpan { span: 0..content, is_quoted: false });
                    Found::Record(end)
                }
                None => Found::Unfinished,
            },
        }
    }

    fn skip(&mut self, rest: &[u8]) {
        let end = record::line(rest, self.complete).map(|(_, end)| end);
        self.progress.skipping = end.is_none();
        self.pass(&rest[..end.unwrap_or(rest.len())]);
    }

    /// Go on behind these bytes.
    fn pass(&mut self, bytes: &[u8]) {
        self.at += bytes.len();
        self.progress.line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }

    /// Set a record aside. A header that cannot be read is different: without it no line can.
    fn refuse(&mut self, record: &[u8], problem: Problem) -> Result<(), Rejection> {
        if self.header_line {
            return Err(Rejection::new(
                400,
                "bad-header",
                format!("the header line cannot be read: {}", problem.message),
            ));
        }
        let raw = self.piece.decode_lossy(record);
        // A refusal in it would otherwise be lost without a word: the line itself has no names of traits.
        let says_consent = self.mapping.traits.iter().any(|field| field.key.eq_ignore_ascii_case("\"consent\":"));
        let word = if says_consent { "; what it says of consent was not taken" } else { "" };
        self.rejected.push(Rejected::new(self.progress.line + 1, problem.code, problem.message + word, &raw));
        Ok(())
    }

    /// Make an event of a record, or set it aside. Blank lines are nothing.
    fn take(&mut self, record: &[u8], spans: &[FieldSpan]) -> Result<(), Rejection> {
        let is_blank = match spans {
            [] => true,
            [only] => !only.is_quoted && record[only.span.clone()].iter().all(u8::is_ascii_whitespace),
            _ => false,
        };
        if is_blank {
            return Ok(());
        }
        if self.header_line {
            return self.take_header(record, spans);
        }
        match self.read(record, spans) {
            Ok(event) => {
                let text = self.at..self.at + record.trim_ascii_end().len();
                let text = self.piece.input_bytes(text.start)..self.piece.input_bytes(text.end);
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
            fields.iter().map(|name| name.trim().to_owned()).collect()
        } else {
            self.columns.to_vec()
        };
        self.progress.header = Some(header);
        self.header_line = false;
        self.place_columns()
    }

    fn read(&self, record: &[u8], spans: &[FieldSpan]) -> Result<Event, Problem> {
        match self.format {
            Format::Ndjson => {
                let text = self.piece.decode(record).ok_or_else(undecodable)?;
                let object = json::object(text.trim())
                    .map_err(|error| Problem::new("invalid-json", format!("the line is not a JSON object: {error}")))?;
                event::read(&Row::Object(&object), &self.mapping)
            }
            Format::Csv => {
                let fields = self.fields(record, spans)?;
                let expected = self.progress.header.as_ref().map_or(0, Vec::len);
                if fields.len() != expected {
                    let message = format!("the line has {} fields where there are {expected} columns", fields.len());
                    return Err(Problem::new("wrong-field-count", message));
                }
                event::read(&Row::Fields { fields: &fields, places: &self.places }, &self.mapping)
            }
        }
    }

    fn fields<'r>(&self, record: &'r [u8], spans: &[FieldSpan]) -> Result<Vec<Cow<'r, str>>, Problem> {
        spans
            .iter()
            .map(|field| {
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
                Ok(text)
            })
            .collect()
    }
}

fn undecodable() -> Problem {
    Problem::new("undecodable", "the line holds bytes that are no text in the configured encoding")
}

#[cfg(test)]
mod tests;
