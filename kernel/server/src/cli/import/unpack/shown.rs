//! What `calamine` does not tell of a sheet's cells: that a number is shown with leading zeros, as ids and postal codes are, and that a
//! formula has no result. Runs in the child process that unpacks.

use std::io::{BufReader, Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

type Archive<'b> = ZipArchive<Cursor<&'b [u8]>>;

/// Most letters of a format's code: what spreadsheets write and read.
const MAX_CODE_LETTERS: usize = 255;

/// A number format that shows every digit of a whole number, with zeros in front and signs between: `00000`, `000\-00\-0000`,
/// `"ID-"00000`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mask(Vec<Piece>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Digit,
    Literal(char),
}

impl Mask {
    /// The mask that a format's code is; `None` for one that shows a number as a quantity, a date or a text. One that no
    /// spreadsheet has written is "General": every cell of its style would show all of its places.
    fn parse(code: &str) -> Option<Mask> {
        if code.chars().nth(MAX_CODE_LETTERS).is_some() {
            return None;
        }
        let (mut pieces, mut letters) = (Vec::new(), code.chars());
        while let Some(letter) = letters.next() {
            match letter {
                '0' => pieces.push(Piece::Digit),
                '\\' => pieces.push(Piece::Literal(letters.next()?)),
                '"' => loop {
                    match letters.next()? {
                        '"' => break,
                        literal => pieces.push(Piece::Literal(literal)),
                    }
                },
                '-' | ' ' | '(' | ')' => pieces.push(Piece::Literal(letter)),
                // What follows is of negative numbers, zero and texts.
                ';' => break,
                _ => return None,
            }
        }
        let digits = pieces.iter().filter(|piece| **piece == Piece::Digit).count();
        // One zero is the format of whole numbers.
        (digits > 1).then_some(Mask(pieces))
    }

    /// The number as the sheet shows it; digits for which there is no place stand before the first.
    fn show(&self, number: u64) -> String {
        let places = self.0.iter().filter(|piece| **piece == Piece::Digit).count();
        let digits = format!("{number:0places$}");
        let surplus = digits.len() - places;
        let (mut digits, mut shown) = (digits.chars(), String::new());
        let mut is_first = true;
        for piece in &self.0 {
            match piece {
                Piece::Literal(letter) => shown.push(*letter),
                Piece::Digit => {
                    let count = if std::mem::take(&mut is_first) { surplus + 1 } else { 1 };
                    shown.extend(digits.by_ref().take(count));
                }
            }
        }
        shown
    }
}

/// What is shown of a sheet's cells.
#[derive(Debug, Default)]
pub(super) struct SheetDisplay {
    masks: Vec<Option<Mask>>,
    /// Row, column and mask of the cells that have one, in the order of the sheet.
    cells: Vec<(u32, u32, u32)>,
    /// How far `cells` was asked for.
    at: usize,
    /// Formulas without a result, and the first one's place.
    uncomputed: Option<(u64, String)>,
}

impl SheetDisplay {
    /// Read the sheet of this name. A workbook in which something is where it is not looked for shows nothing: `calamine`, which reads
    /// the cells, says what is wrong with it.
    pub(super) fn of(bytes: &[u8], sheet: &str) -> SheetDisplay {
        let read = || {
            let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
            let path = path_of(&mut archive, sheet)?;
            let masks = masks(&mut archive).unwrap_or_default();
            let mut shown = SheetDisplay { masks, ..SheetDisplay::default() };
            shown.scan(&mut archive, &path)?;
            Some(shown)
        };
        read().unwrap_or_default()
    }

    /// A complaint about formulas that have no result.
    pub(super) fn uncomputed(&self, sheet: &str) -> Result<(), String> {
        let Some((count, first)) = &self.uncomputed else { return Ok(()) };
        Err(format!(
            "the sheet `{sheet}` has {count} formula(s) without a result, the first in {first}: the program that wrote it did not \
             compute them; open it in a spreadsheet, save it, and import it again"
        ))
    }

    /// The text that a cell with this number shows; `None` where it is the number. Cells are asked for in their order.
    pub(super) fn text(&mut self, at: (u32, u32), number: f64) -> Option<String> {
        while self.cells.get(self.at).is_some_and(|(row, column, _)| (*row, *column) < at) {
            self.at += 1;
        }
        let (row, column, mask) = self.cells.get(self.at)?;
        // Of sixteen digits spreadsheets have lost the last: shown as a text it would be an id like any other.
        let is_whole = (0.0..1e15).contains(&number) && number.fract() == 0.0;
        if (*row, *column) != at || !is_whole {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of fifteen digits")]
        let number = number as u64;
        Some(self.masks.get(*mask as usize)?.as_ref()?.show(number))
    }

    fn scan(&mut self, archive: &mut Archive<'_>, path: &str) -> Option<()> {
        let mut xml = xml(archive, path)?;
        let (mut buffer, mut cell, mut row) = (Vec::new(), Cell::default(), 0);
        let mut inside = CellPart::Other;
        loop {
            buffer.clear();
            match xml.read_event_into(&mut buffer).ok()? {
                Event::Eof => return Some(()),
                Event::Start(element) => match element.local_name().as_ref() {
                    b"row" => row = attribute(&element, b"r").and_then(|row| row.parse().ok()).unwrap_or(row + 1),
                    b"c" => cell = Cell::new(&element, row, cell.next_column(row)),
                    b"f" => cell.has_formula = true,
                    b"v" | b"t" => inside = CellPart::Value,
                    _ => {}
                },
                Event::Empty(element) => match element.local_name().as_ref() {
                    b"row" => row = attribute(&element, b"r").and_then(|row| row.parse().ok()).unwrap_or(row + 1),
                    b"c" => cell = Cell::new(&element, row, cell.next_column(row)),
                    b"f" => cell.has_formula = true,
                    _ => {}
                },
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if inside == CellPart::Value => {
                    cell.has_value = true;
                }
                Event::End(element) => match element.local_name().as_ref() {
                    b"v" | b"t" => inside = CellPart::Other,
                    b"c" => self.take(&cell),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    fn take(&mut self, cell: &Cell) {
        if cell.has_formula && !cell.has_value && !cell.is_text {
            let (count, _) = self.uncomputed.get_or_insert_with(|| (0, name_of(cell.row, cell.column)));
            *count += 1;
        }
        let has_mask = self.masks.get(cell.style as usize).is_some_and(Option::is_some);
        if cell.has_value && !cell.is_text && has_mask {
            self.cells.push((cell.row - 1, cell.column, cell.style));
        }
    }
}

#[derive(PartialEq, Eq)]
enum CellPart {
    Value,
    Other,
}

/// A cell on the way through a sheet. Rows are counted from one, columns from zero.
#[derive(Default)]
struct Cell {
    row: u32,
    column: u32,
    style: u32,
    is_text: bool,
    has_formula: bool,
    has_value: bool,
}

impl Cell {
    fn new(element: &BytesStart<'_>, row: u32, next: u32) -> Cell {
        let place = attribute(element, b"r").and_then(|place| place_of(&place));
        let (row, column) = place.unwrap_or((row.max(1), next));
        let style = attribute(element, b"s").and_then(|style| style.parse().ok()).unwrap_or_default();
        let is_text = attribute(element, b"t").is_some_and(|kind| kind != "n");
        Cell { row, column, style, is_text, has_formula: false, has_value: false }
    }

    /// The column of a cell that does not say its own.
    fn next_column(&self, row: u32) -> u32 {
        if self.row == row { self.column.saturating_add(1) } else { 0 }
    }
}

/// `B3` as row 3 and column 1.
fn place_of(place: &str) -> Option<(u32, u32)> {
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic).count();
    let column = place[..letters]
        .bytes()
        .try_fold(0_u32, |column, letter| {
            column.checked_mul(26)?.checked_add(u32::from(letter.to_ascii_uppercase() - b'A') + 1)
        })?
        .checked_sub(1)?;
    Some((place[letters..].parse().ok().filter(|row| *row > 0)?, column))
}

fn name_of(row: u32, column: u32) -> String {
    let (mut letters, mut rest) = (Vec::new(), column + 1);
    while rest > 0 {
        let letter = u8::try_from((rest - 1) % 26).unwrap_or_default();
        letters.insert(0, char::from(b'A' + letter));
        rest = (rest - 1) / 26;
    }
    format!("{}{row}", letters.into_iter().collect::<String>())
}

/// An attribute by its local name.
fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let found = element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name)?;
    plain(&found.value)
}

/// The text of an attribute's value.
fn plain(value: &[u8]) -> Option<String> {
    Some(quick_xml::escape::unescape(std::str::from_utf8(value).ok()?).ok()?.into_owned())
}

fn xml<'a>(archive: &'a mut Archive<'_>, path: &str) -> Option<Reader<BufReader<impl Read + 'a>>> {
    Some(Reader::from_reader(BufReader::new(archive.by_name(path).ok()?)))
}

/// The elements of a part, with the names of those around each.
fn elements(archive: &mut Archive<'_>, path: &str, mut see: impl FnMut(&[u8], &BytesStart<'_>)) -> Option<()> {
    let (mut xml, mut buffer, mut around) = (xml(archive, path)?, Vec::new(), vec![Vec::new()]);
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer).ok()? {
            Event::Eof => return Some(()),
            Event::Start(element) => {
                see(around.last().map(Vec::as_slice).unwrap_or_default(), &element);
                around.push(element.local_name().as_ref().to_vec());
            }
            Event::Empty(element) => see(around.last().map(Vec::as_slice).unwrap_or_default(), &element),
            Event::End(_) => drop(around.pop()),
            _ => {}
        }
    }
}

/// The part in which a sheet stands.
fn path_of(archive: &mut Archive<'_>, sheet: &str) -> Option<String> {
    let (mut id, mut target) = (None, None);
    elements(archive, "xl/workbook.xml", |_, element| {
        if element.local_name().as_ref() == b"sheet" && attribute(element, b"name").as_deref() == Some(sheet) {
            id = id_of(element);
        }
    })?;
    let id = id?;
    elements(archive, "xl/_rels/workbook.xml.rels", |_, element| {
        if attribute(element, b"Id").as_deref() == Some(&id) {
            target = attribute(element, b"Target");
        }
    })?;
    let target = target?;
    Some(target.strip_prefix('/').map_or_else(|| format!("xl/{target}"), str::to_owned))
}

/// The id of a relation, which alone of a sheet's ids has a prefix.
fn id_of(element: &BytesStart<'_>) -> Option<String> {
    let is_id = |key: &[u8]| key.ends_with(b":id");
    let found = element.attributes().flatten().find(|attribute| is_id(attribute.key.as_ref()))?;
    plain(&found.value)
}

/// The masks of the styles of cells, by their numbers.
fn masks(archive: &mut Archive<'_>) -> Option<Vec<Option<Mask>>> {
    let (mut codes, mut styles) = (std::collections::HashMap::new(), Vec::new());
    elements(archive, "xl/styles.xml", |around, element| match (around, element.local_name().as_ref()) {
        (b"numFmts", b"numFmt") => {
            let code = attribute(element, b"formatCode").and_then(|code| Mask::parse(&code));
            codes.extend(attribute(element, b"numFmtId").zip(code));
        }
        (b"cellXfs", b"xf") => styles.push(attribute(element, b"numFmtId").unwrap_or_default()),
        _ => {}
    })?;
    Some(styles.into_iter().map(|format| codes.get(&format).cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_shown_as_its_format_says() {
        for (code, number, shown) in [
            ("00000", 123, Some("00123")),
            ("00000", 0, Some("00000")),
            ("00000", 1_234_567, Some("1234567")),
            ("00000\\-0000", 12_345, Some("00001-2345")),
            ("000\\-00\\-0000", 12_345_678, Some("012-34-5678")),
            ("000-00-0000", 12_345_678, Some("012-34-5678")),
            ("\"ID-\"000", 7, Some("ID-007")),
            ("00000;-00000;00000;@", 7, Some("00007")),
            ("0", 7, None),
            ("0.00", 7, None),
            ("#,##0", 7, None),
            ("00.0", 7, None),
            ("00%", 7, None),
            ("0.00E+00", 7, None),
            ("yyyy-mm-dd", 7, None),
            ("General", 7, None),
            ("@", 7, None),
            ("[<=9999999]000-0000", 7, None),
            ("\"open", 7, None),
        ] {
            assert_eq!(Mask::parse(code).map(|mask| mask.show(number)).as_deref(), shown, "{code}");
        }
    }

    /// Each cell shows every place of its mask, so that a code of a million zeros would make a gigabyte of a thousand cells.
    #[test]
    fn a_longer_code_than_a_spreadsheet_writes_is_general() {
        for letter in ["0", "-", "é"] {
            let quoted = |letters: usize| format!("00\"{}\"", letter.repeat(letters - 4));
            assert_eq!(Mask::parse(&quoted(MAX_CODE_LETTERS)).map(|mask| mask.0.len()), Some(MAX_CODE_LETTERS - 2));
            for longer in [MAX_CODE_LETTERS + 1, MAX_CODE_LETTERS + 2, 100_000] {
                assert_eq!(Mask::parse(&quoted(longer)), None, "{letter} {longer}");
            }
        }
    }

    #[test]
    fn places_and_their_names_are_inverse() {
        for column in (0..16_384).step_by(7) {
            assert_eq!(place_of(&name_of(column + 1, column)), Some((column + 1, column)));
        }
        for none in ["", "A", "1", "A0", "A-1", "AAAAAAAAA1", "é1"] {
            assert_eq!(place_of(none), None, "{none}");
        }
    }
}
