//! Responsible for what a plugin says, without the values of its configuration that are not shown: in the plugin's log lines, its
//! panics, and all words of its answers that are kept. [`Hidden::bounded`] is the one way to keep them, because a value
//! that was cut before it is looked for is not found. A value is found as it is, with letters of it escaped as
//! addresses and JSON escape them, as hexadecimal digits, and as base64 also within what was encoded with it. What a
//! plugin disguises in another way is not found.

use std::ops::Range;

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use memchr::memmem;
use serde_json::Value;

use crate::manifest::Parted;
use crate::text::{MAX_TEXT_BYTES, bounded, cut};

/// Shorter values stand in most sentences by chance, and taking them out there would tell them.
pub const SHORTEST_HIDDEN: usize = 4;

/// So far behind the end of what is kept of a text a value may reach that begins before it, and is still found.
const MARGIN_BYTES: usize = 4096;

/// What takes the place of a value. A text that was cut ends with it too.
const PLACEHOLDER: char = '…';

/// The values of a configuration that nothing shows.
#[derive(Default)]
pub(crate) struct Hidden(Vec<HiddenValue>);

impl Hidden {
    /// The values of the part that is not shown. One that stands in the part that is shown as well stays as it is: it is nothing new
    /// there, and whoever writes guesses into what is shown would see by its disappearance which one is right.
    pub(crate) fn new(parted: &Parted) -> Hidden {
        let (mut unshown, mut shown) = (Vec::new(), Vec::new());
        collect_leaves(&parted.unshown, Names::LeftOut, &mut unshown);
        collect_leaves(&parted.shown, Names::Collected, &mut shown);
        let shown = joined(&shown);
        let shown = Haystack::new(&shown);
        let long = unshown.iter().filter(|value| value.chars().count() >= SHORTEST_HIDDEN);
        Hidden(long.map(|value| HiddenValue::new(value)).filter(|value| !value.is_in(&shown)).collect())
    }

    /// A text that is kept whole, with each of the values taken out.
    fn without(&self, text: String) -> String {
        self.told(&text, text.len()).unwrap_or(text)
    }

    /// As much of a text that the plugin says as is kept, harmless, with each of the values taken out. They are looked for before
    /// it is cut: a part of one that is encoded is like nothing.
    pub(crate) fn bounded(&self, text: &str) -> String {
        if self.0.is_empty() {
            return bounded(text);
        }
        let kept = cut(text, MAX_TEXT_BYTES);
        let around = cut(text, MAX_TEXT_BYTES + MARGIN_BYTES);
        let mut told = self.told(around, kept.len()).unwrap_or_else(|| kept.to_owned());
        if kept.len() < text.len() {
            told.push(PLACEHOLDER);
        }
        // A value that is longer than the margin may have its beginning at the end, and escapes may have made one.
        self.without(bounded(&told))
    }

    /// A text up to `end`, with those of the values taken out that begin before it; `None` where none does.
    fn told(&self, text: &str, end: usize) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let haystack = Haystack::new(text);
        let places = self.0.iter().flat_map(|value| value.places_in(&haystack));
        let mut found: Vec<Range<usize>> = places.filter(|place| place.start < end).collect();
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|place| place.start);
        let (mut told, mut done) = (String::with_capacity(end), 0);
        for place in found {
            let (start, behind) = (text.floor_char_boundary(place.start), text.ceil_char_boundary(place.end));
            if start >= done {
                told.push_str(&text[done..start]);
                told.push(PLACEHOLDER);
            }
            done = done.max(behind);
        }
        told.push_str(text.get(done..end).unwrap_or_default());
        Some(told)
    }
}

/// Whether the names of an object's members count among its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Collected,
    LeftOut,
}

/// The texts and numbers of a value.
pub(crate) fn collect_leaves(value: &Value, names: Names, leaves: &mut Vec<String>) {
    match value {
        Value::String(text) => leaves.push(text.clone()),
        Value::Number(number) => leaves.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect_leaves(item, names, leaves)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            leaves.extend((names == Names::Collected).then(|| name.clone()));
            collect_leaves(member, names, leaves);
        }),
        Value::Bool(_) | Value::Null => {}
    }
}

/// Texts as one, in which no value stands that stands in none of them.
pub(crate) fn joined(texts: &[String]) -> String {
    texts.join("\0")
}

/// A text in which values are looked for, in the forms that each of theirs is compared with.
pub(crate) struct Haystack<'t> {
    plain: &'t str,
    /// With hexadecimal digits in one case.
    lower: String,
    /// With base64 of one alphabet: that for addresses has two other letters.
    base64: String,
    /// Whether anything may be escaped in it.
    has_escapes: bool,
}

impl<'t> Haystack<'t> {
    pub(crate) fn new(text: &'t str) -> Haystack<'t> {
        Haystack {
            plain: text,
            lower: text.to_ascii_lowercase(),
            base64: text.replace('-', "+").replace('_', "/"),
            has_escapes: text.contains(['%', '+', '\\']),
        }
    }
}

/// A value, and how it may be written.
pub(crate) struct HiddenValue {
    plain: String,
    hex: String,
    /// What of its base64 is the same whatever stands before and behind it, by how many bytes stand before it in a group of three.
    base64: [Base64Core; 3],
}

struct Base64Core {
    letters: String,
    /// Whether the letter before them, and the one behind, has some bits of the value too.
    shares: (bool, bool),
}

impl HiddenValue {
    pub(crate) fn new(value: &str) -> HiddenValue {
        let (plain, hex) = (value.to_owned(), HEXLOWER.encode(value.as_bytes()));
        HiddenValue { plain, hex, base64: [0, 1, 2].map(|before| Base64Core::new(value, before)) }
    }

    /// Whether a text has the value in it in one of these forms.
    pub(crate) fn is_in(&self, text: &Haystack<'_>) -> bool {
        self.whole_places_in(text).next().is_some()
    }

    /// Where a text has it, and where its beginning stands at the end of a text that was cut.
    fn places_in(&self, text: &Haystack<'_>) -> Vec<Range<usize>> {
        let forms = [(text.plain, &self.plain), (text.lower.as_str(), &self.hex)];
        let begun = forms.into_iter().filter_map(|(text, form)| begun_at_end(text.strip_suffix(PLACEHOLDER)?, form));
        self.whole_places_in(text).chain(begun).collect()
    }

    fn whole_places_in<'h>(&'h self, text: &'h Haystack<'_>) -> impl Iterator<Item = Range<usize>> + 'h {
        let starts = text.has_escapes.then(|| text.plain.char_indices()).into_iter().flatten();
        let escaped = starts.filter_map(move |(start, _)| {
            let length = escaped_length(&text.plain[start..], &self.plain)?;
            Some(start..start + length)
        });
        places_of(text.plain, &self.plain)
            .chain(escaped)
            .chain(places_of(&text.lower, &self.hex))
            .chain(self.base64.iter().flat_map(move |core| core.places_in(&text.base64)))
    }
}

impl Base64Core {
    fn new(value: &str, before: usize) -> Base64Core {
        let padded = [&[0; 2][..before], value.as_bytes()].concat();
        let letters = BASE64_NOPAD.encode(&padded);
        let is_open = !padded.len().is_multiple_of(3);
        // Two bytes before it reach into the third letter, one into the second.
        let first = if before == 0 { 0 } else { before + 1 };
        let own = &letters[first..letters.len() - usize::from(is_open)];
        Base64Core { letters: own.to_owned(), shares: (before > 0, is_open) }
    }

    fn places_in<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let is_letter = move |at: Option<usize>| {
            at.and_then(|at| text.as_bytes().get(at))
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte))
        };
        places_of(text, &self.letters).map(move |place| {
            let before = self.shares.0 && is_letter(place.start.checked_sub(1));
            let behind = self.shares.1 && is_letter(Some(place.end));
            place.start - usize::from(before)..place.end + usize::from(behind)
        })
    }
}

fn places_of<'t>(text: &'t str, part: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    memmem::find_iter(text.as_bytes(), part).map(|start| start..start + part.len())
}

/// Where at the end of a text the beginning of a value stands, where it is long enough to hide.
fn begun_at_end(text: &str, value: &str) -> Option<Range<usize>> {
    let most = value.len().min(text.len());
    let ends = |length: &usize| text.as_bytes().ends_with(&value.as_bytes()[..*length]);
    let length = (SHORTEST_HIDDEN..=most).rev().find(ends)?;
    Some(text.len() - length..text.len())
}

/// How long the value is that a text begins with, where some of its letters may be escaped.
fn escaped_length(text: &str, value: &str) -> Option<usize> {
    let mut rest = text;
    for letter in value.chars() {
        rest = behind_letter(rest, letter)?;
    }
    Some(text.len() - rest.len())
}

/// What follows a letter that a text begins with: as addresses and forms escape it, as JSON does, or as it is.
fn behind_letter(text: &str, letter: char) -> Option<&str> {
    let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
    let plain: &str = letter.encode_utf8(&mut utf8);
    match text.as_bytes().first()? {
        b'%' => {
            let digits = |rest: &str, byte: u8| behind_digits(rest.strip_prefix('%')?, u32::from(byte), 2);
            let behind = plain.bytes().try_fold(text, |rest, byte| Some(&rest[rest.len() - digits(rest, byte)?..]));
            behind.or_else(|| text.strip_prefix(letter))
        }
        b'+' if letter == ' ' => text.strip_prefix('+'),
        b'\\' => {
            let short = match letter {
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                '\u{8}' => Some('b'),
                '\u{c}' => Some('f'),
                '"' | '\\' | '/' | '\'' => Some(letter),
                _ => None,
            };
            let short = short.and_then(|short| text.strip_prefix('\\')?.strip_prefix(short));
            let units = letter.encode_utf16(&mut utf16);
            let digits = |rest: &str, unit: u16| behind_digits(rest.strip_prefix("\\u")?, u32::from(unit), 4);
            let long = || units.iter().try_fold(text, |rest, unit| Some(&rest[rest.len() - digits(rest, *unit)?..]));
            // As the host writes what steers a terminal.
            let own = || text.strip_prefix(&*letter.escape_unicode().to_string());
            short.or_else(long).or_else(own).or_else(|| text.strip_prefix(letter))
        }
        _ => text.strip_prefix(letter),
    }
}

/// How many bytes of a text follow so many hexadecimal digits of a number that it begins with.
fn behind_digits(text: &str, number: u32, digits: usize) -> Option<usize> {
    let (found, behind) = text.split_at_checked(digits)?;
    let is_same = found.bytes().all(|digit| digit.is_ascii_hexdigit()) && u32::from_str_radix(found, 16) == Ok(number);
    is_same.then_some(behind.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(shown: Value, unshown: Value) -> Hidden {
        Hidden::new(&Parted { shown, unshown, paths: Default::default() })
    }

    #[test]
    fn a_value_is_taken_out_in_each_of_its_forms() {
        let secret = "pä s\"c/ret\n";
        let hidden = hidden(json!({}), json!({ "token": secret, "pin": 271_828, "list": ["other"] }));
        for text in [
            secret.to_owned(),
            serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
            r#"p\u00E4 s\u0022c\/ret\u000a"#.to_owned(),
            "p%C3%A4%20s%22c%2Fret%0A".to_owned(),
            "p%c3%a4+s%22c/ret%0a".to_owned(),
            HEXLOWER.encode(secret.as_bytes()),
            HEXLOWER.encode(secret.as_bytes()).to_uppercase(),
            "271828".to_owned(),
            "other".to_owned(),
        ] {
            assert_eq!(hidden.without(format!("is <{text}>, {text}")), "is <…>, …", "{text}");
        }
        assert_eq!(hidden.without("nothing of it".to_owned()), "nothing of it");
    }

    #[test]
    fn a_value_is_found_within_base64_of_more() {
        for secret in ["s3cret", "s3cre", "s3cr", "???>>>~~~"] {
            let hidden = hidden(json!({}), json!({ "token": secret }));
            for before in ["", "a", "ad", "ada:"] {
                for behind in ["", "!", "!!", "!!!"] {
                    let whole = format!("{before}{secret}{behind}");
                    for text in [
                        data_encoding::BASE64.encode(whole.as_bytes()),
                        data_encoding::BASE64URL_NOPAD.encode(whole.as_bytes()),
                    ] {
                        let told = hidden.without(format!("Basic {text}."));
                        assert!(told.contains('…') && told.starts_with("Basic ") && told.ends_with('.'), "{told}");
                        // Only letters of what stands around it are left.
                        assert!(told.len() <= "Basic …=.".len() + 2 * (before.len() + behind.len()) + 4, "{told}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_shown_as_well_and_what_is_short_stays() {
        let unshown = json!({ "token": "s3cret", "pin": "12" });
        let of = |shown: Value| hidden(shown, unshown.clone()).without("s3cret and 12".to_owned());
        assert_eq!(of(json!({ "url": "https://a.example" })), "… and 12");
        // A guess is no more found out by it than any other text.
        for shown in [json!({ "url": "x s3cret" }), json!({ "s3cret": 1 }), json!({ "url": "czNjcmV0" })] {
            assert_eq!(of(shown), "s3cret and 12");
        }
    }

    #[test]
    fn the_beginning_of_a_value_at_the_end_of_a_cut_text_is_taken_out() {
        let hidden = hidden(json!({}), json!({ "token": "s3cret-of-many-letters" }));
        assert_eq!(hidden.without("it is s3cret-of…".to_owned()), "it is ……");
        assert_eq!(hidden.without("it is s3c…".to_owned()), "it is s3c…");
        assert_eq!(hidden.without("it is s3cret-of".to_owned()), "it is s3cret-of", "nothing was cut");
    }

    #[test]
    fn a_value_that_the_bound_cuts_is_taken_out_in_each_of_its_forms() {
        let secret = "s3cret-of-many-letters";
        let hidden = hidden(json!({}), json!({ "token": secret }));
        let escaped: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (hex, base64) = (HEXLOWER.encode(secret.as_bytes()), BASE64_NOPAD.encode(secret.as_bytes()));
        for form in [secret, &escaped, &hex, &base64] {
            // All of it but its last letter would be kept.
            let before = "x".repeat(MAX_TEXT_BYTES + 1 - form.len());
            let told = hidden.bounded(&format!("{before}{form} and more"));
            assert_eq!(told, format!("{before}……"), "{form}");
        }
        assert_eq!(hidden.bounded(&format!("{secret}\n{secret}")), "…\\n…");
        let long = hidden.bounded(&format!("{secret}{}", "é".repeat(MAX_TEXT_BYTES)));
        assert!(long.starts_with("…é") && long.ends_with("é…") && long.len() <= MAX_TEXT_BYTES, "{}", long.len());
    }

    #[test]
    fn odd_texts_are_no_trouble() {
        let hidden = hidden(json!({}), json!({ "token": "ä\\u%C3", "long": "aaaa" }));
        for text in ["", "%", "%C", "%é1", "\\", "\\u", "\\u00", "\\uää", "…", "ä…", "aaaaaaaaa", "éaaaaé"] {
            let told = hidden.without(text.to_owned());
            assert!(!told.contains("aaaa"), "{told}");
        }
        assert_eq!(hidden.without("x ä\\u%C3 y".to_owned()), "x … y");
    }
}
