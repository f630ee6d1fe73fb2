//! The codec, on a row that has changed its layout twice.

use serde::{Deserialize, Serialize};

use super::*;

/// A row as version 1 had it; version 1 is read no longer.
#[derive(Serialize)]
struct First {
    name: String,
}

/// A row as version 2 had it.
#[derive(Serialize, Deserialize)]
struct Second {
    name: String,
    size: u32,
}

/// A row as version 3 has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Parcel {
    name: String,
    size: u64,
    fragile: bool,
}

impl Row for Parcel {
    const WHAT: &'static str = "a parcel";
    const OWNER: Owner = Owner::Store;
    const VERSION: u8 = 3;

    fn before(version: u8, body: &[u8]) -> Option<Result<Parcel, String>> {
        let second = |Second { name, size }| Parcel { name, size: u64::from(size), fragile: false };
        (version == 2).then(|| read_postcard(body).map(second))
    }
}

/// A row whose body is text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note(String);

impl Row for Note {
    const WHAT: &'static str = "a note";
    const OWNER: Owner = Owner::Catalogue;
    const VERSION: u8 = 7;

    fn body(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.0.as_bytes());
    }

    fn from_body(body: &[u8]) -> Result<Note, String> {
        String::from_utf8(body.to_vec()).map(Note).map_err(|error| error.to_string())
    }
}

fn versioned<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![version];
    write_postcard(value, &mut bytes);
    bytes
}

fn parcel() -> Parcel {
    Parcel { name: "vase".to_owned(), size: 1 << 40, fragile: true }
}

#[test]
fn a_row_reads_back() {
    let bytes = encode(&parcel());
    assert_eq!(bytes[0], 3);
    assert_eq!(decode::<Parcel>(&bytes).unwrap(), parcel());
}

#[test]
fn a_row_chooses_its_body() {
    let note = Note("line".to_owned());
    assert_eq!(encode(&note), b"\x07line");
    assert_eq!(decode::<Note>(b"\x07line").unwrap(), note);
    assert!(matches!(decode::<Note>(b"\x07\xff"), Err(ReadError::Corrupt { what, .. }) if what == "a note"));
}

#[test]
fn the_version_before_reads() {
    let old = versioned(2, &Second { name: "vase".to_owned(), size: 9 });
    let expected = Parcel { name: "vase".to_owned(), size: 9, fragile: false };
    assert_eq!(decode::<Parcel>(&old).unwrap(), expected);
    let error = decode::<Parcel>(&old[..3]).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt { .. }), "an old row can be damaged, too: {error}");
}

#[test]
fn a_version_that_is_not_read_is_named() {
    let newer = versioned(4, &parcel());
    let error = decode::<Parcel>(&newer).unwrap_err();
    assert!(matches!(error, ReadError::Version { what: "a parcel", found: 4, written: 3, .. }));
    assert_eq!(error.row(), Some(newer.as_slice()));
    assert!(!format!("{error:?}{error}").contains("118"), "it shows nothing of the row: {error:?}");
    assert_eq!(
        error.to_string(),
        "a parcel has version 4, which this release does not read (it writes version 3); run the release that wrote it"
    );
    let oldest = versioned(1, &First { name: "vase".to_owned() });
    assert!(matches!(decode::<Parcel>(&oldest), Err(ReadError::Version { found: 1, written: 3, .. })));
}

#[test]
fn nothing_else_reads() {
    assert!(matches!(decode::<Parcel>(b""), Err(ReadError::Corrupt { what, .. }) if what == "a parcel"));
    let bytes = encode(&parcel());
    for length in 1..bytes.len() {
        assert!(decode::<Parcel>(&bytes[..length]).is_err(), "cut at {length}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(decode::<Parcel>(&longer), Err(ReadError::Corrupt { .. })));
}

#[test]
fn the_format_describes_the_rows_of_the_model() {
    fn line<R: Row>() -> String {
        format!("| {} | {} | {} | postcard |", R::WHAT, R::OWNER.name(), R::VERSION)
    }
    let lines = [
        line::<kith_model::change::Change>(),
        line::<kith_model::profile::IdentityHead>(),
        line::<kith_model::id::SourceIdentityId>(),
        line::<kith_model::identity::Edge>(),
        line::<kith_model::identity::MustNotLink>(),
        line::<u32>(),
        line::<kith_model::id::Position>(),
    ];
    let format = include_str!("../../FORMAT.md");
    for line in lines {
        assert!(format.contains(&line), "FORMAT.md lacks {line}");
    }
}
