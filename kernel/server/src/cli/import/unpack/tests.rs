//! Workbooks and archives that are made here.

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A workbook with these sheets: name, state, and rows of XML.
fn workbook(sheets: &[(&str, &str, &str)]) -> Vec<u8> {
    let entries: String = sheets
        .iter()
        .enumerate()
        .map(|(at, (name, state, _))| {
            format!(r#"<sheet name="{name}" sheetId="{n}" state="{state}" r:id="rId{n}"/>"#, n = at + 1)
        })
        .collect();
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let book = format!(r#"<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>{entries}</sheets></workbook>"#);
    let targets: String = (1..=sheets.len())
        .map(|n| {
            format!(r#"<Relationship Id="rId{n}" Type="{relations}/worksheet" Target="worksheets/sheet{n}.xml"/>"#)
        })
        .collect();
    let targets = format!(
        r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{targets}</Relationships>"#
    );
    let styles = format!(
        r##"<styleSheet xmlns="{main}"><numFmts><numFmt numFmtId="164" formatCode="00000"/><numFmt numFmtId="165" formatCode="000\-00\-0000"/><numFmt numFmtId="166" formatCode="#,##0.00"/></numFmts><cellStyleXfs><xf numFmtId="164"/></cellStyleXfs><cellXfs count="5"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="166"/></cellXfs></styleSheet>"##
    );
    let mut files = vec![
        ("[Content_Types].xml".to_owned(), "<Types/>".to_owned()),
        ("xl/workbook.xml".to_owned(), book),
        ("xl/_rels/workbook.xml.rels".to_owned(), targets),
        ("xl/styles.xml".to_owned(), styles),
    ];
    for (at, (_, _, rows)) in sheets.iter().enumerate() {
        let sheet = format!(r#"<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>"#);
        files.push((format!("xl/worksheets/sheet{}.xml", at + 1), sheet));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    archive(&files)
}

/// As the sheet shows them with `[h]:mm:ss`, whatever the number of days.
#[test]
fn durations_keep_their_days() {
    for (hours, shown) in [
        (0.0, "00:00:00"),
        (1.5, "01:30:00"),
        (24.0, "24:00:00"),
        (30.0, "30:00:00"),
        (100.5, "100:30:00"),
        (-6.0, "-06:00:00"),
        (1.0 / 3_600.0, "00:00:01"),
        (0.25 / 3_600.0, "00:00:00.250"),
        (9_999.0, "9999:00:00"),
    ] {
        assert_eq!(duration(hours / 24.0), shown, "{hours}");
    }
    for seconds in (0..400_000_i64).step_by(977) {
        let text = duration(seconds as f64 / 86_400.0);
        let parts: Vec<i64> = text.split(':').map(|part| part.parse().unwrap()).collect();
        assert_eq!(3_600 * parts[0] + 60 * parts[1] + parts[2], seconds, "{text}");
    }
}

fn unpacked(bytes: &[u8], sheet: Option<&str>, entry: Option<&str>) -> Result<String, String> {
    noted(bytes, sheet, entry).map(|(text, _)| text)
}

fn noted(bytes: &[u8], sheet: Option<&str>, entry: Option<&str>) -> Result<(String, Option<String>), String> {
    let mut out = Vec::new();
    let args = UnpackArgs { sheet: sheet.map(str::to_owned), entry: entry.map(str::to_owned) };
    unpack(bytes, &args, &mut out).map(|note| (String::from_utf8(out).unwrap(), note))
}

const HEADER: &str = r#"<row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" t="inlineStr"><is><t>a "b"</t></is></c><c r="C1" t="inlineStr"><is><t>when</t></is></c></row>"#;

#[test]
fn texts_are_quoted_and_numbers_dates_and_gaps_are_kept() {
    let rows = format!(
        r#"{HEADER}<row r="3"><c r="A3"><v>12</v></c><c r="C3" s="1"><v>45292.5</v></c></row><row r="4"><c r="B4"><v>1.234</v></c></row><row r="5"><c r="A5" t="b"><v>1</v></c><c r="B5" t="str"><v>1.234</v></c><c r="C5" t="e"><v>#N/A</v></c></row>"#
    );
    let book = workbook(&[("Old", "hidden", ""), ("Orders", "visible", &rows)]);
    let expected =
        "R\"id\",\"a \"\"b\"\"\",\"when\"\n\n12,,\"2024-01-01T12:00:00\"\n,1.234,\ntrue,\"1.234\",\"#N/A\"\n";
    assert_eq!(unpacked(&book, None, None).as_deref(), Ok(expected));
    assert_eq!(unpacked(&book, Some("Old"), None).as_deref(), Ok("R"));
    let missing = unpacked(&book, Some("New"), None).unwrap_err();
    assert_eq!(missing, "the workbook has no sheet `New`; it has: Old, Orders");
}

/// Sheets behind the first are another file: who does not name one is told of those that have rows.
#[test]
fn sheets_that_are_not_read_are_named_with_their_rows() {
    let cells = |count: usize| -> String {
        (1..=count).map(|row| format!(r#"<row r="{row}"><c r="A{row}"><v>{row}</v></c></row>"#)).collect()
    };
    let (two, three) = (cells(2), cells(3));
    let book = workbook(&[
        ("Orders", "visible", &two),
        ("Returns", "visible", &three),
        ("Empty", "visible", r#"<row r="1"><c r="A1" s="2"/></row>"#),
        ("Lists", "hidden", &two),
    ]);
    let (text, note) = noted(&book, None, None).unwrap();
    assert_eq!(text, "R1\n2\n");
    let note = note.unwrap();
    assert!(
        note.starts_with("only `Orders` is read; not read: `Returns` (3 rows), `Lists` (2 rows, hidden)."),
        "{note}"
    );
    assert_eq!(noted(&book, Some("Returns"), None).unwrap(), ("R1\n2\n3\n".to_owned(), None));
    let one = workbook(&[("Orders", "visible", &two), ("Empty", "visible", "")]);
    assert_eq!(noted(&one, None, None).unwrap().1, None);
}

/// Shown as a text, a number of which a spreadsheet has lost the last digits would be an id like any other.
#[test]
fn a_number_of_more_digits_than_a_spreadsheet_keeps_stays_a_number() {
    for (number, written) in [
        ("999999999999999", "\"999999999999999\""),
        ("1000000000000000", "1000000000000000"),
        ("4539578763621486", "4539578763621486"),
        ("6.03E+16", "60300000000000000"),
    ] {
        let rows = format!(r#"<row r="1"><c r="A1" s="2"><v>{number}</v></c></row>"#);
        assert_eq!(
            unpacked(&workbook(&[("S", "visible", &rows)]), None, None).unwrap(),
            format!("R{written}\n"),
            "{number}"
        );
    }
}

/// Wherever the sheet was cut, and whatever stands in its place, it is no sheet with fewer rows.
#[test]
fn a_sheet_that_is_not_whole_is_broken_and_not_empty() {
    let text = format!(r#"{HEADER}<row r="2"><c r="A2"><v>12</v></c></row>"#);
    for cut in (0..text.len()).step_by(7) {
        let part = format!("<worksheet><sheetData>{}", &text[..cut]);
        let files = [("[Content_Types].xml", "<Types/>"), ("xl/worksheets/sheet1.xml", part.as_str())];
        let error = unpacked(&archive(&files), None, None).unwrap_err();
        assert!(error.contains("the workbook is broken: in `xl/worksheets/sheet1.xml`"), "{cut}: {error}");
    }
    for part in ["", "no xml", "<worksheet><sheetData></worksheet></sheetData>"] {
        let files = [("[Content_Types].xml", "<Types/>"), ("xl/worksheets/sheet1.xml", part)];
        assert!(unpacked(&archive(&files), None, None).unwrap_err().contains("the workbook is broken"), "{part}");
    }
}

#[test]
fn dates_of_cells_are_dates_and_times_of_day_stay_with_them() {
    for (serial, written) in [
        ("45292", "2024-01-01"),
        ("45292.5", "2024-01-01T12:00:00"),
        ("45292.0000115741", "2024-01-01T00:00:01"),
        ("0.5", "12:00:00"),
    ] {
        let rows = format!(r#"<row r="1"><c r="A1" s="1"><v>{serial}</v></c></row>"#);
        let text = unpacked(&workbook(&[("S", "visible", &rows)]), None, None).unwrap();
        assert_eq!(text, format!("R\"{written}\"\n"), "{serial}");
    }
}

#[test]
fn one_file_of_an_archive_is_read() {
    let one = archive(&[("orders.csv", "id\n1\n"), ("__MACOSX/._orders.csv", "x")]);
    assert_eq!(unpacked(&one, None, None).as_deref(), Ok("Fid\n1\n"));
    let two = archive(&[("a.csv", "id\n1\n"), ("b.csv", "id\n2\n")]);
    assert!(unpacked(&two, None, None).unwrap_err().contains("choose one with --entry: a.csv, b.csv"));
    assert_eq!(unpacked(&two, None, Some("b.csv")).as_deref(), Ok("Fid\n2\n"));
    assert!(unpacked(&two, None, Some("c.csv")).unwrap_err().contains("has no file `c.csv`"));
}

#[test]
fn what_is_broken_or_packed_to_do_harm_is_refused() {
    let bomb = archive(&[("a.csv", &"a".repeat(80 << 20))]);
    assert!(bomb.len() < 1 << 20);
    assert!(unpacked(&bomb, None, None).unwrap_err().contains("times as large"), "an expansion without end");
    let far = workbook(&[("S", "visible", r#"<row r="4000000"><c r="A4000000"><v>1</v></c></row>"#)]);
    assert!(unpacked(&far, None, None).is_err());
    let wide = workbook(&[("S", "visible", r#"<row r="1"><c r="XFD1"><v>1</v></c></row>"#)]);
    assert!(unpacked(&wide, None, None).unwrap().len() > 16_000);
    for bytes in
        [b"PK\x03\x04".as_slice(), b"PK\x03\x04 and nothing that follows", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 no more"]
    {
        assert!(unpacked(bytes, None, None).is_err());
    }
    let whole = workbook(&[("S", "visible", HEADER)]);
    for end in (0..whole.len()).step_by(101) {
        drop(unpacked(&whole[..end], None, None));
    }
}

/// A postal code or id that the sheet shows with zeros in front is the text that is shown; a quantity stays a number.
#[test]
fn ids_are_taken_as_the_sheet_shows_them() {
    let rows = format!(
        r#"{HEADER}<row r="2"><c r="A2" s="2"><v>123</v></c><c r="B2" s="3"><v>12345678</v></c><c r="C2" s="4"><v>1234.5</v></c></row><row r="3"><c r="A3" s="2"><v>1.5</v></c><c r="B3" s="2"><v>-7</v></c><c r="C3" s="2" t="str"><v>7</v></c></row><row><c s="2"><v>8</v></c><c s="0"><v>8</v></c><c s="2"><f>1+8</f><v>9</v></c></row>"#
    );
    let text = unpacked(&workbook(&[("S", "visible", &rows)]), None, None).unwrap();
    let expected =
        "R\"id\",\"a \"\"b\"\"\",\"when\"\n\"00123\",\"012-34-5678\",1234.5\n1.5,-7,\"7\"\n\"00008\",8,\"00009\"\n";
    assert_eq!(text, expected);
}

/// A formula that nobody computed is no empty cell.
#[test]
fn a_formula_without_a_result_is_told_with_its_place() {
    for (cell, is_fine) in [
        (r#"<c r="B2"><f>1+1</f></c>"#, false),
        (r#"<c r="B2"><f>1+1</f><v></v></c>"#, false),
        (r#"<c r="B2"><f>1+1</f><v/></c>"#, false),
        (r#"<c r="B2"><f t="shared" si="0"/></c>"#, false),
        (r#"<c r="B2"><f>1+1</f><v>2</v></c>"#, true),
        (r#"<c r="B2" t="str"><f>""</f><v></v></c>"#, true),
        (r#"<c r="B2" s="2"/>"#, true),
    ] {
        let rows = format!(r#"{HEADER}<row r="2"><c r="A2"><v>1</v></c>{cell}</row>"#);
        let read = unpacked(&workbook(&[("Other", "hidden", ""), ("S", "visible", &rows)]), None, None);
        match read {
            Ok(_) => assert!(is_fine, "{cell}"),
            Err(error) => {
                assert!(!is_fine && error.contains("`S` has 1 formula(s) without a result, the first in B2"), "{error}")
            }
        }
    }
}
