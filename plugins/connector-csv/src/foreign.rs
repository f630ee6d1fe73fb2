//! Files that are no text, named by their first bytes, so that a person reads what was sent instead of what is wrong with its "lines".

/// What a file that begins so is, and what to do with it. `None` for what may be text.
pub(crate) fn named(begin: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 14] = [
        (
            b"PK\x03\x04",
            "a ZIP archive or an Excel workbook (.xlsx); `kith import` reads both, or save the sheet as CSV",
        ),
        (b"PK\x05\x06", "an empty ZIP archive"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "an old Excel workbook (.xls); `kith import` reads it, or save the sheet as CSV",
        ),
        (b"%PDF-", "a PDF document; export the table as CSV where it comes from"),
        (b"\x1f\x8b", "gzip within gzip; pack it once"),
        (b"BZh", "packed with bzip2; unpack it, or pack it with gzip"),
        (b"\xfd7zXZ\0", "packed with xz; unpack it, or pack it with gzip"),
        (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it, or pack it with gzip"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
        (b"Rar!\x1a\x07", "a RAR archive; unpack it"),
        (b"PAR1", "a Parquet file; write it as CSV or NDJSON"),
        (b"Obj\x01", "an Avro file; write it as CSV or NDJSON"),
        (b"SQLite format 3\0", "an SQLite database; export the table as CSV"),
        (b"{\\rtf", "a document of a word processor (RTF); save it as CSV"),
    ];
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| begin.starts_with(magic)) {
        return Some(name);
    }
    let text = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin).trim_ascii_start();
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") || begins(b"<table") {
        return Some("an HTML page, perhaps the message of an error or of a login in place of the export");
    }
    if begins(b"<?xml") {
        return Some("an XML document; export the table as CSV or NDJSON");
    }
    None
}
