//! Texts, numbers and words: what stands between brackets, commas and colons.

use std::io::Write as _;

use crate::{Numbers, Oddity};

/// A value that was written, or that cannot be; and how many bytes it took.
pub(crate) type Scalar = Result<usize, &'static str>;

/// Copy the text that begins at `bytes` (its quote) behind `out`; `odd` hears what was odd.
pub(crate) fn text(bytes: &[u8], out: &mut String, mut odd: impl FnMut(Oddity)) -> Scalar {
    out.push('"');
    let mut at = 1;
    loop {
        let run = bytes[at.min(bytes.len())..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count();
        let plain = &bytes[at.min(bytes.len())..][..run];
        match std::str::from_utf8(plain) {
            Ok(plain) => out.push_str(plain),
            Err(_) => {
                odd(Oddity::InvalidUtf8);
                out.push_str(&String::from_utf8_lossy(plain));
            }
        }
        at += run;
        match bytes.get(at) {
            None => return Err("a text does not end"),
            Some(b'"') => {
                out.push('"');
                return Ok(at + 1);
            }
            Some(b'\\') => at += escape(&bytes[at..], out, &mut odd)?,
            Some(control) => {
                odd(Oddity::ControlCharacter);
                push_control(*control, out);
                at += 1;
            }
        }
    }
}

/// Copy the escape that begins at `bytes`; how many bytes it takes.
fn escape(bytes: &[u8], out: &mut String, odd: &mut impl FnMut(Oddity)) -> Scalar {
    match bytes.get(1) {
        None => Err("a text does not end"),
        Some(known @ (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => {
            out.push('\\');
            out.push(char::from(*known));
            Ok(2)
        }
        Some(b'u') => Ok(unicode(bytes, out, odd)),
        // The backslash means nothing, and the character behind it is read as if it were not there.
        Some(_) => {
            odd(Oddity::BadEscape);
            Ok(1)
        }
    }
}

/// Copy `\uXXXX`, or the pair of them that makes one character; what makes none is U+FFFD.
fn unicode(bytes: &[u8], out: &mut String, odd: &mut impl FnMut(Oddity)) -> usize {
    let Some(unit) = unit(bytes) else {
        odd(Oddity::BadEscape);
        out.push(char::REPLACEMENT_CHARACTER);
        return 2 + bytes[2..].iter().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
    };
    let copied = match unit {
        0xd800..=0xdbff if self::unit(&bytes[6..]).is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => 12,
        0xd800..=0xdfff => {
            odd(Oddity::HalfSurrogate);
            out.push(char::REPLACEMENT_CHARACTER);
            return 6;
        }
        _ => 6,
    };
    out.extend(bytes[..copied].iter().map(|byte| char::from(*byte)));
    copied
}

/// The code unit that `\uXXXX` at the beginning of `bytes` writes.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
}

fn push_control(control: u8, out: &mut String) {
    match control {
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        _ => out.push_str(&format!("\\u{control:04x}")),
    }
}

/// The characters of a well-formed JSON text, without its quotes.
pub(crate) fn unescaped(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest.as_bytes().get(1) {
            Some(b'u') => {
                let first = unit(rest.as_bytes()).unwrap_or(0xfffd);
                let is_pair = (0xd800..=0xdbff).contains(&first);
                let second = is_pair.then(|| unit(rest.as_bytes().get(6..).unwrap_or_default())).flatten();
                let units = [Some(first), second].into_iter().flatten();
                out.extend(char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)));
                if second.is_some() { 12 } else { 6 }
            }
            Some(b'b') => pushed(&mut out, '\u{8}'),
            Some(b'f') => pushed(&mut out, '\u{c}'),
            Some(b'n') => pushed(&mut out, '\n'),
            Some(b'r') => pushed(&mut out, '\r'),
            Some(b't') => pushed(&mut out, '\t'),
            Some(other) => pushed(&mut out, char::from(*other)),
            None => 1,
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn pushed(out: &mut String, letter: char) -> usize {
    out.push(letter);
    2
}

/// Copy the number or word that begins at `bytes`.
pub(crate) fn other(bytes: &[u8], out: &mut String, numbers: Numbers, mut odd: impl FnMut(Oddity)) -> Scalar {
    let is_of_it = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    let length = bytes.iter().take_while(is_of_it).count();
    let Ok(token) = std::str::from_utf8(&bytes[..length]) else { return Err("a value is expected") };
    match token {
        "" => return Err("a value is expected"),
        "true" | "false" | "null" => out.push_str(token),
        _ => match word(token) {
            Some((becomes, oddity)) => {
                odd(oddity);
                out.push_str(becomes);
            }
            None => number(token, out, numbers, odd)?,
        },
    }
    Ok(length)
}

/// The words that languages print in place of JSON's own.
fn word(token: &str) -> Option<(&'static str, Oddity)> {
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    let is = |words: &[&str]| words.iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    if is(&["nan", "inf", "infinity"]) {
        return Some(("null", Oddity::NotANumber));
    }
    match token {
        "undefined" => Some(("null", Oddity::Undefined)),
        "None" | "nil" | "NULL" | "Null" => Some(("null", Oddity::LooseLiteral)),
        "True" | "TRUE" => Some(("true", Oddity::LooseLiteral)),
        "False" | "FALSE" => Some(("false", Oddity::LooseLiteral)),
        _ => None,
    }
}

/// The parts of a number as JSON has it, or nearly.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    part: &'a str,
    /// With its sign, without its `e`.
    exponent: &'a str,
}

impl<'a> Decimal<'a> {
    /// The parts of a token, with whether it is as JSON has it; `None` where it is no number.
    fn read(token: &'a str) -> Option<(Decimal<'a>, bool)> {
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (is_negative, unsigned) = match token.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, token.strip_prefix('+').unwrap_or(token)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, part) = match mantissa.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (mantissa, None),
        };
        let digits_of_exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
        let is_number = whole.len() + part.map_or(0, str::len) > 0
            && is_digits(whole)
            && part.is_none_or(is_digits)
            && digits_of_exponent.is_none_or(|digits| !digits.is_empty() && is_digits(digits));
        if !is_number {
            return None;
        }
        let is_json = !token.starts_with('+') && !whole.is_empty() && part != Some("") && !has_zeros_before(whole);
        let (part, exponent) = (part.unwrap_or_default(), exponent.unwrap_or_default());
        Some((Decimal { is_negative, whole, part, exponent }, is_json))
    }

    /// Whether 64 bits of floating point hold something near it.
    fn is_finite(&self) -> bool {
        // Everything shorter is: the greatest has 309 digits.
        if self.exponent.len() <= 2 && self.whole.len() < 200 {
            return true;
        }
        let text =
            format!("{}.{}e{}", self.whole, self.part, if self.exponent.is_empty() { "0" } else { self.exponent });
        text.parse::<f64>().is_ok_and(f64::is_finite)
    }
}

fn has_zeros_before(whole: &str) -> bool {
    whole.len() > 1 && whole.starts_with('0')
}

fn number(token: &str, out: &mut String, numbers: Numbers, mut odd: impl FnMut(Oddity)) -> Result<(), &'static str> {
    let Some((decimal, is_json)) = Decimal::read(token) else { return Err("no JSON value begins so") };
    if !decimal.is_finite() {
        odd(Oddity::NumberTooLarge);
        match numbers {
            Numbers::Kept => {}
            Numbers::Finite => {
                out.push_str("null");
                return Ok(());
            }
            Numbers::Texts => {
                out.push('"');
                out.push_str(token);
                out.push('"');
                return Ok(());
            }
        }
    }
    if is_json {
        out.push_str(token);
        return Ok(());
    }
    odd(Oddity::NumberForm);
    if has_zeros_before(decimal.whole) {
        out.push('"');
        out.push_str(token);
        out.push('"');
        return Ok(());
    }
    if decimal.is_negative {
        out.push('-');
    }
    out.push_str(if decimal.whole.is_empty() { "0" } else { decimal.whole });
    if !decimal.part.is_empty() {
        out.push('.');
        out.push_str(decimal.part);
    }
    if !decimal.exponent.is_empty() {
        out.push('e');
        out.push_str(decimal.exponent);
    }
    Ok(())
}

/// Write a number's value in the one way that all spellings of it share: sign, digits without zeros around them, exponent of ten.
pub(crate) fn push_value_of(token: &str, out: &mut Vec<u8>) {
    let Some((decimal, _)) = Decimal::read(token) else { return out.extend_from_slice(token.as_bytes()) };
    let exponent = match decimal.exponent {
        "" => Some(0),
        text => text.parse::<i64>().ok(),
    };
    let from = out.len();
    out.extend_from_slice(decimal.whole.as_bytes());
    out.extend_from_slice(decimal.part.as_bytes());
    let zeros = out[from..].iter().take_while(|digit| **digit == b'0').count();
    out.drain(from..from + zeros);
    if out.len() == from {
        return out.push(b'0');
    }
    let trailing = out[from..].iter().rev().take_while(|digit| **digit == b'0').count();
    out.truncate(out.len() - trailing);
    // The lengths of texts in memory fit.
    let shift = i64::try_from(trailing).unwrap_or_default() - i64::try_from(decimal.part.len()).unwrap_or_default();
    if decimal.is_negative {
        out.push(b'-');
    }
    let written = match exponent.and_then(|exponent| exponent.checked_add(shift)) {
        Some(exponent) => write!(out, "e{exponent}"),
        None => write!(out, "e{}{shift:+}", decimal.exponent),
    };
    written.expect("a list of bytes takes whatever is written to it");
}
