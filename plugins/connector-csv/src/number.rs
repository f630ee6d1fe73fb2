//! Numbers as people and office programs write them: `1.234,50`, `1,23,456.78`, `(€ 5.00)`, `１２`, `19.99 EUR`, `5-`.
//!
//! Pure. A number keeps its digits. A text that is one number with a decimal point and another with a decimal comma (`1.234`) is
//! ambiguous, and [`read`] never chooses: the caller knows the column's other values or the configuration. Leaves that to `column`.

use crate::currency::{currency, has_no_cents, has_no_comma};

/// The sign between whole and fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decimal {
    Point,
    Comma,
}

/// The signs that may stand between groups of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Thousands {
    /// Whichever the value is written with.
    #[default]
    Any,
    Comma,
    Point,
    Apostrophe,
    Space,
    /// There are none.
    None,
}

/// What a percent sign means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Percent {
    /// The value is set aside.
    #[default]
    Refuse,
    /// `19 %` is 0.19.
    Fraction,
    /// `19 %` is 19.
    Number,
}

/// How numbers are written, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Style {
    pub(crate) decimal: Option<Decimal>,
    pub(crate) thousands: Thousands,
    pub(crate) percent: Percent,
}

/// A number that was read: one in JSON's spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) json: String,
    /// Which decimal sign the text shows by itself; `None` where either gives this number.
    pub(crate) decimal: Option<Decimal>,
    pub(crate) currency: Option<String>,
}

/// Why a text is no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// It is no number at all, or not one in the configured style.
    NotANumber,
    /// It is one number with a decimal point and another with a decimal comma.
    Ambiguous { with_point: String, with_comma: String },
    /// It has a percent sign and no setting says what that means.
    Percent,
}

/// Read a number.
pub(crate) fn read(text: &str, style: Style) -> Result<Number, NumberError> {
    let plain = plain(text);
    let parts = parts(&plain).ok_or(NumberError::NotANumber)?;
    let around = around(parts.before, parts.after).ok_or(NumberError::NotANumber)?;
    if around.is_percent && style.percent == Percent::Refuse {
        return Err(NumberError::Percent);
    }
    let finish = |unsigned: &str| {
        let mut json = unsigned.to_owned();
        if around.is_percent && style.percent == Percent::Fraction {
            json = hundredth(&json);
        }
        if around.is_negative {
            json.insert(0, '-');
        }
        json
    };
    let by = |decimal| (style.decimal != Some(opposite(decimal))).then(|| digits(&parts, decimal, style.thousands))?;
    let (decimal, unsigned) =
        match (by(Decimal::Point), by(Decimal::Comma)) {
            (None, None) => return Err(NumberError::NotANumber),
            (Some(point), None) => (Some(Decimal::Point), point),
            (None, Some(comma)) => (Some(Decimal::Comma), comma),
            (Some(point), Some(comma)) if point == comma => (None, point),
            // Money without cents has no fraction of three digits either.
            (Some(point), Some(comma)) if around.currency.as_deref().is_some_and(has_no_cents) => {
                if comma.contains('.') { (Some(Decimal::Point), point) } else { (Some(Decimal::Comma), comma) }
            }
            (Some(point), Some(comma))
                if comma.contains('.') && around.currency.as_deref().is_some_and(has_no_comma) =>
            {
                (Some(Decimal::Point), point)
            }
            (Some(point), Some(comma)) => {
                return Err(NumberError::Ambiguous { with_point: finish(&point), with_comma: finish(&comma) });
            }
        };
    // What the configuration says is no evidence, and neither is a sign that only grouping of this column could have.
    let decimal = decimal.filter(|_| style.decimal.is_none() && style.thousands != Thousands::None);
    Ok(Number { json: finish(&unsigned), decimal, currency: around.currency })
}

fn opposite(decimal: Decimal) -> Decimal {
    match decimal {
        Decimal::Point => Decimal::Comma,
        Decimal::Comma => Decimal::Point,
    }
}

/// The Arabic decimal sign and the Arabic sign between groups, which mean nothing else.
const ARABIC_DECIMAL: char = '\u{66b}';
const ARABIC_THOUSANDS: char = '\u{66c}';

/// The same with ASCII's digits, points, commas, spaces, apostrophes, minus and plus; marks of direction left out.
fn plain(text: &str) -> String {
    let mapped = text.chars().filter_map(|letter| match letter {
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\t' => Some(' '),
        '’' | '‘' | '＇' | '′' => Some('\''),
        '−' | '‐' | '‑' | '‒' | '–' | '—' | '﹣' | '－' | '⁻' => Some('-'),
        '＋' | '﹢' => Some('+'),
        '．' => Some('.'),
        '，' => Some(','),
        '（' => Some('('),
        '）' => Some(')'),
        '％' | '﹪' | '٪' => Some('%'),
        letter => Some(digit(letter).unwrap_or(letter)),
    });
    mapped.collect::<String>().trim().to_owned()
}

/// The zeros of the scripts whose digits stand in order behind them.
const ZEROS: [char; 17] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}', '\u{c66}',
    '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{1040}', '\u{17e0}', '\u{ff10}',
];

/// The ASCII digit of a decimal digit of another script.
pub(crate) fn digit(letter: char) -> Option<char> {
    if letter < '\u{660}' {
        return None;
    }
    let value =
        ZEROS.iter().find_map(|&zero| (u32::from(letter)).checked_sub(u32::from(zero)).filter(|&value| value < 10))?;
    char::from_digit(value, 10)
}

/// A text taken apart at its digits.
struct Parts<'t> {
    before: &'t str,
    /// Digits with the signs between them.
    core: &'t str,
    /// `e` and what follows, as JSON writes it.
    exponent: Option<&'t str>,
    after: &'t str,
}

fn is_separator(letter: char) -> bool {
    matches!(letter, '.' | ',' | '\'' | ' ' | ARABIC_DECIMAL | ARABIC_THOUSANDS)
}

fn parts(text: &str) -> Option<Parts<'_>> {
    let first = text.find(|letter: char| letter.is_ascii_digit())?;
    // `.5` and `,5`: the sign before the first digit is its own, unless it ends a word as in `kr.5`.
    let before = &text[..first];
    let leading = before.chars().next_back().filter(|letter| matches!(letter, '.' | ',' | &ARABIC_DECIMAL));
    let start = match leading {
        Some(sign) if !before[..first - sign.len_utf8()].ends_with(char::is_alphabetic) => first - sign.len_utf8(),
        _ => first,
    };
    let rest = &text[start..];
    let mut end = 0;
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let is_in = letter.is_ascii_digit() || {
            let next_is_digit = letters.peek().is_some_and(|(_, next)| next.is_ascii_digit());
            // `5.` and `5,`: a sign at the end belongs to the number.
            is_separator(letter) && (next_is_digit || matches!(letter, '.' | ','))
        };
        if !is_in {
            break;
        }
        end = at + letter.len_utf8();
    }
    let (core, after) = rest.split_at(end);
    // A price without cents: `5,-`, `19.–`, `1.234,-- €`, `500/-`. The dash is no minus.
    let mut after = match core.ends_with(['.', ',']) {
        true => after.trim_start_matches('-'),
        false => after.strip_prefix("/-").unwrap_or(after),
    };
    let mut exponent = None;
    if let Some(tail) = after.strip_prefix(['e', 'E']) {
        let digits = tail.strip_prefix(['+', '-']).unwrap_or(tail);
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        if length > 0 {
            let whole = tail.len() - digits.len() + length;
            exponent = Some(&after[..=whole]);
            after = &after[whole + 1..];
        }
    }
    Some(Parts { before: &text[..start], core, exponent, after })
}

/// What the text around the digits says.
struct Around {
    is_negative: bool,
    is_percent: bool,
    currency: Option<String>,
}

/// Read signs, brackets, percent and currency around the digits; `None` where something else stands there or one of them twice.
fn around(before: &str, after: &str) -> Option<Around> {
    let mut around = Around { is_negative: false, is_percent: false, currency: None };
    let mut words = [String::new(), String::new()];
    let (mut opened, mut closed, mut signs) = (0, 0, 0);
    for (is_before, side, word) in [(true, before, 0), (false, after, 1)] {
        for letter in side.chars() {
            match letter {
                '(' if is_before => opened += 1,
                ')' if !is_before => closed += 1,
                '-' => {
                    signs += 1;
                    around.is_negative = true;
                }
                '+' => signs += 1,
                '%' if !around.is_percent => around.is_percent = true,
                letter => words[word].push(letter),
            }
        }
    }
    if opened != closed || opened > 1 || signs + opened > 1 {
        return None;
    }
    around.is_negative |= opened == 1;
    for word in words.iter().filter(|word| !word.trim().is_empty()) {
        let named = currency(word)?;
        // `$ 5 USD` names one currency twice; a sign gives way to the code.
        match &around.currency {
            Some(first) if first.len() == 3 && first.is_ascii() => {}
            _ => around.currency = Some(named),
        }
    }
    if around.is_percent && around.currency.is_some() { None } else { Some(around) }
}

/// The number that the digits are with this decimal sign, unsigned and as JSON writes it; `None` where they are none.
fn digits(parts: &Parts<'_>, decimal: Decimal, thousands: Thousands) -> Option<String> {
    let sign = match decimal {
        Decimal::Point => '.',
        Decimal::Comma => ',',
    };
    let is_decimal = |letter: char| letter == sign || letter == ARABIC_DECIMAL;
    let (whole, fraction) = match parts.core.rfind(is_decimal) {
        Some(at) => {
            let width = parts.core[at..].chars().next().map_or(1, char::len_utf8);
            (&parts.core[..at], &parts.core[at + width..])
        }
        None => (parts.core, ""),
    };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut digits = ungrouped(whole, sign, thousands, parts.exponent.is_some())?;
    let significant = digits.trim_start_matches('0');
    digits = if significant.is_empty() { "0".to_owned() } else { significant.to_owned() };
    if !fraction.is_empty() {
        digits.push('.');
        digits.push_str(fraction);
    }
    if let Some(exponent) = parts.exponent {
        digits.push_str(&exponent.to_ascii_lowercase());
    }
    Some(digits)
}

/// The whole part without the signs between its groups, which must be all the same and where groups end: after three digits
/// each, or in India after three and then two each.
fn ungrouped(whole: &str, decimal: char, thousands: Thousands, has_exponent: bool) -> Option<String> {
    let Some(separator) = whole.chars().find(|letter| !letter.is_ascii_digit()) else { return Some(whole.to_owned()) };
    let is_allowed = match thousands {
        Thousands::Any => true,
        Thousands::Comma => matches!(separator, ',' | ARABIC_THOUSANDS),
        Thousands::Point => separator == '.',
        Thousands::Apostrophe => separator == '\'',
        Thousands::Space => separator == ' ',
        Thousands::None => false,
    };
    if !is_allowed || separator == decimal || separator == ARABIC_DECIMAL || has_exponent {
        return None;
    }
    let groups: Vec<&str> = whole.split(separator).collect();
    let are_digits = groups.iter().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    let [first, middle @ .., last] = &groups[..] else { return None };
    let is_begun = first.len() <= 3 && !first.starts_with('0');
    let by_threes = middle.iter().all(|group| group.len() == 3);
    let by_twos = first.len() <= 2 && !middle.is_empty() && middle.iter().all(|group| group.len() == 2);
    (are_digits && is_begun && last.len() == 3 && (by_threes || by_twos)).then(|| groups.concat())
}

/// A hundredth, digit by digit.
fn hundredth(number: &str) -> String {
    if let Some((mantissa, exponent)) = number.split_once('e') {
        let exponent: i64 = exponent.parse().unwrap_or(i64::MAX);
        return format!("{mantissa}e{}", exponent.saturating_sub(2));
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let padded = format!("{whole:0>3}");
    let (head, tail) = padded.split_at(padded.len() - 2);
    format!("{head}.{tail}{fraction}")
}

/// The whole number that a number in JSON's spelling is: `12`, `12.0` and `1.2e1` are 12. `None` for others and beyond 64 bits.
pub(crate) fn whole(json: &str) -> Option<i64> {
    let (sign, unsigned) = json.strip_prefix('-').map_or(("", json), |unsigned| ("-", unsigned));
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let exponent: i64 = exponent.parse().ok()?;
    let all = format!("{whole}{fraction}");
    if all.bytes().all(|byte| byte == b'0') {
        return Some(0);
    }
    // How many zeros follow the digits, or how many digits would stand behind the point.
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let digits = if shift >= 0 {
        let zeros = usize::try_from(shift).ok().filter(|zeros| *zeros <= 19)?;
        all + &"0".repeat(zeros)
    } else {
        let cut = usize::try_from(shift.checked_neg()?).ok()?;
        let keep = all.len().checked_sub(cut)?;
        if !all[keep..].bytes().all(|byte| byte == b'0') {
            return None;
        }
        all[..keep].to_owned()
    };
    format!("{sign}{digits}").parse().ok()
}

#[cfg(test)]
mod tests;
