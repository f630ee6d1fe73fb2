//! Paths into a JSON document, e.g. `data.items` or `emails.0.address`, and the plain values at their ends.
//!
//! Works on bytes, so that numbers keep their digits and nothing but what is asked for is read. Leaves what a value means to
//! `record`, `paging` and `since`.

use std::borrow::Cow;

use kith_plugin_sdk::json;

/// The bytes of the value at a path; the document itself for the empty path. A key is found before a path into an object, so that
/// `@odata.nextLink` is one key; a number is a place in a list. Of a key that comes twice the last holds.
pub(crate) fn find<'a>(value: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let value = value.trim_ascii();
    if path.is_empty() {
        return Some(value);
    }
    match value.first()? {
        b'{' => {
            let (entries, _) = json::members(value).ok()?;
            let get = |key: &str| -> Option<&'a [u8]> {
                entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
            };
            // Each step goes one key deeper, and the path has few.
            get(path).or_else(|| path.match_indices('.').find_map(|(at, _)| find(get(&path[..at])?, &path[at + 1..])))
        }
        b'[' => {
            let (place, rest) = path.split_once('.').unwrap_or((path, ""));
            let place: usize = place.parse().ok()?;
            let item = json::elements(value).ok()?.get(place).copied()?;
            find(item, rest)
        }
        _ => None,
    }
}

/// A text, or a number or truth value as it is written; `None` for `null`, an empty text, a list, an object.
pub(crate) fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = value.trim_ascii();
    let text = match value.first()? {
        b'"' => json::text(value)?,
        b'{' | b'[' => return None,
        _ => Cow::Borrowed(std::str::from_utf8(value).ok().filter(|word| *word != "null")?),
    };
    (!text.trim().is_empty()).then_some(text)
}

/// Whether a value is `null` or an empty text.
pub(crate) fn is_nothing(value: &[u8]) -> bool {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    value == b"null" || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// The keys of an object that hold something of a kind, for a message to a person.
pub(crate) fn keys(value: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> String {
    let entries = json::members(value).map(|(entries, _)| entries).unwrap_or_default();
    let names: Vec<String> = entries
        .iter()
        .filter(|(_, value)| is_wanted(value))
        .take(10)
        .map(|(name, _)| format!("`{name:.60}`"))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_through_objects_and_lists_and_finds_whole_keys_first() {
        let document = br#" {"a.b":1,"a":{"b":2,"c":[{"d":"x"},{"d":9007199254740993}]},"x.y":{"z":null},"a.b.c":true,"k":1,"k":2} "#;
        for (path, expected) in [
            ("a.b", Some("1")),
            ("a.c.1.d", Some("9007199254740993")),
            ("a.c.0.d", Some("\"x\"")),
            ("x.y.z", Some("null")),
            ("a.b.c", Some("true")),
            ("k", Some("2")),
            ("a.c.2.d", None),
            ("a.c.x", None),
            ("a.d", None),
            ("a.b.d", None),
        ] {
            assert_eq!(find(document, path), expected.map(str::as_bytes), "{path}");
        }
        assert_eq!(find(b" [1] ", ""), Some(&b"[1]"[..]));
    }

    #[test]
    fn plain_values_are_texts_and_numbers_as_they_are_written() {
        for (value, expected) in [
            (r#""caf\u00e9""#, Some("café")),
            ("12345678901234567890123", Some("12345678901234567890123")),
            ("false", Some("false")),
            ("null", None),
            (r#"" ""#, None),
            ("{}", None),
            ("[1]", None),
        ] {
            assert_eq!(plain(value.as_bytes()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn keys_are_named_for_a_person() {
        assert_eq!(keys(br#"{"total":1,"items":[],"more":[]}"#, |value| value.starts_with(b"[")), "`items`, `more`");
        assert_eq!(keys(b"[1]", |_| true), "");
    }
}
