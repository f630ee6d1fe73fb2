//! Numbers with more digits than a machine's have, on their way through the commands: `serde_json`'s values would round them, and a
//! command gives back what the server said.
//!
//! Such a number is held as a text behind a mark while an answer is a [`Value`], and is a number again where it is written. A text
//! that begins with the mark by itself gets a second one, so that neither is taken for the other.

use std::borrow::Cow;

use kith_json::Oddity;
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A letter of private use, which no sender has reason to write.
const MARK: char = '\u{f0000}';

/// The mark as JSON may write it.
const ESCAPED_MARK: &[u8] = b"\\udb80\\udc00";

/// What stands between the mark and the digits.
const DIGITS: char = '#';

/// Read JSON, number for number.
pub(crate) fn read(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(&marked(text))
}

/// Read JSON that somebody wrote for a command.
///
/// # Errors
/// Why it is none, or which key stands there twice: of the two only one would be sent.
pub(crate) fn read_argument(text: &str) -> Result<Value, String> {
    if let Some(key) = twice(text) {
        return Err(format!("the key `{key}` stands there twice; leave one"));
    }
    read(text).map_err(|error| error.to_string())
}

/// The path of a key that stands twice in JSON.
pub(crate) fn twice(text: &str) -> Option<String> {
    let read = kith_json::read(text.as_bytes()).ok()?;
    read.flags.iter().find(|flag| flag.oddity == Oddity::DuplicateKey).map(|flag| flag.path.clone())
}

/// A value as JSON on one line.
pub(crate) fn line(value: &Value) -> String {
    // A value that came from JSON, or was made of JSON's own types, can always be written.
    serde_json::to_string(&ExactValue(value)).unwrap_or_default()
}

/// A value as JSON for a reader.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(&ExactValue(value)).unwrap_or_default()
}

/// A text of a value as it came, or the digits of a number.
pub(crate) fn plain(text: &str) -> &str {
    let Some(rest) = text.strip_prefix(MARK) else { return text };
    rest.strip_prefix(DIGITS).unwrap_or(rest)
}

/// The digits that a marked text stands for.
fn digits(text: &str) -> Option<&str> {
    text.strip_prefix(MARK)?.strip_prefix(DIGITS)
}

/// JSON with its long numbers as marked texts.
fn marked(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let inside = &bytes[at + 1..];
                let is_marked = inside.starts_with(MARK.encode_utf8(&mut [0; 4]).as_bytes())
                    || inside.get(..ESCAPED_MARK.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(ESCAPED_MARK));
                if is_marked {
                    out.push_str(&text[copied..=at]);
                    out.push(MARK);
                    copied = at + 1;
                }
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let end = at + bytes[at..].iter().take_while(is_of_number).count();
                let number = &text[at..end];
                // What is no number stays, for the reader to refuse.
                if serde_json::from_str::<&RawValue>(number).is_ok() && !is_of_machine(number) {
                    out.push_str(&text[copied..at]);
                    out.push_str(&format!("\"{MARK}{DIGITS}{number}\""));
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return text.into();
    }
    out.push_str(&text[copied..]);
    out.into()
}

/// Whether a number reads and writes as it stands.
fn is_of_machine(number: &str) -> bool {
    serde_json::from_str::<Value>(number).is_ok_and(|value| format!("{value}") == number)
}

/// A value that is written number for number.
struct ExactValue<'v>(&'v Value);

impl Serialize for ExactValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) => match digits(text) {
                Some(number) => {
                    RawValue::from_string(number.to_owned()).map_err(S::Error::custom)?.serialize(serializer)
                }
                None => plain(text).serialize(serializer),
            },
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&ExactValue(item)))?;
                list.end()
            }
            Value::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, field)| object.serialize_entry(plain(name), &ExactValue(field)))?;
                object.end()
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_written_number_for_number() {
        for text in [
            r#"{"m":[0.1234567890123456789,1.10,-0.0,1E400],"n":123456789012345678901}"#,
            r#"[1,-7,1.5,"1.10","\"123456789012345678901",{"1.10":2}]"#,
            "123456789012345678901",
            "[\"\u{f0000}\",\"\u{f0000}#1.10\",{\"\u{f0000}#7\":\"\u{f0000}\u{f0000}\"}]",
        ] {
            assert_eq!(line(&read(text).unwrap()), text);
        }
        assert_eq!(line(&read(r#"["\uDB80\uDC00#1"]"#).unwrap()), "[\"\u{f0000}#1\"]");
        assert_eq!(plain(read("1.10").unwrap().as_str().unwrap()), "1.10");
        for no_json in ["{", "1.", "01", "-", "1e", "[1.10", "\"\\", "nul"] {
            assert!(read(no_json).is_err(), "{no_json}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_no_argument() {
        let error = read_argument(r#"{"a":{"priority":1,"priority":2}}"#).unwrap_err();
        assert!(error.contains("a.priority"), "{error}");
        assert!(read_argument(r#"{"a":{"priority":1},"priority":2}"#).is_ok());
    }

    /// Numbers of every length and form, and texts of the letters that matter here.
    #[test]
    fn every_number_and_text_comes_back() {
        let mut numbers = Vec::new();
        for whole in ["0", "7", "1234567890", "9223372036854775808", "123456789012345678901234567890"] {
            for fraction in ["", ".0", ".10", ".1234567890123456789"] {
                for exponent in ["", "e5", "E-7", "e+400"] {
                    numbers.extend(["", "-"].map(|sign| format!("{sign}{whole}{fraction}{exponent}")));
                }
            }
        }
        const LETTERS: [char; 6] = [MARK, '#', '"', '\\', '1', 'é'];
        let texts = (0..LETTERS.len().pow(3)).map(|number| {
            (0..3_u32).map(|place| LETTERS[number / LETTERS.len().pow(place) % LETTERS.len()]).collect::<String>()
        });
        for (number, text) in numbers.iter().cycle().zip(texts) {
            let json = format!("{{\"a\":[{number},{}],\"b\":{number}}}", Value::from(text));
            let value = read(&json).unwrap();
            assert_eq!(line(&value), json);
            assert_eq!(pretty(&value).split_whitespace().collect::<String>(), json);
        }
    }
}
