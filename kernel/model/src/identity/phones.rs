//! Telephone numbers to E.164, where the country can be told: by `+`, by the prefix for calls abroad, or by the workspace's
//! region. The tables are those of ITU-T E.164 and of the countries' dialling plans.
//!
//! libphonenumber's ports know the length of each country's numbers as well, which finds mistyped ones; whether a number is in
//! use nobody needs to know here. They were left out, because each brings hundreds of kilobytes of tables and second
//! versions of crates that the product has already.

/// Digits of a number: E.164 has at most fifteen, and what has fewer than five is a short code or a house number.
const DIGITS: std::ops::RangeInclusive<usize> = 5..=15;

/// Digits of a number of which no country is known: one that is shorter has no area code either, and is somebody else's in each
/// town.
const ALONE: std::ops::RangeInclusive<usize> = 7..=15;

/// From so many digits on that only count up, count down or repeat one, nobody was given them.
const MIN_RUN: usize = 5;

/// From so many digits on that only repeat a group.
const MIN_GROUPS: usize = 9;

/// The longest group.
const MAX_GROUP: usize = 4;

/// The shortest number with its country: a calling code and four digits.
const MIN_WHOLE: usize = 7;

/// Calling codes of two digits. Those of one are 1 and 7; all others have three.
const TWO_DIGITS: [u8; 43] = [
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62,
    63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95,
];

/// Ranges of calling codes of three digits that are given.
const THREE_DIGITS: [(u16, u16); 26] = [
    (211, 213),
    (216, 216),
    (218, 218),
    (220, 258),
    (260, 269),
    (290, 291),
    (297, 299),
    (350, 359),
    (370, 383),
    (385, 387),
    (389, 389),
    (420, 421),
    (423, 423),
    (500, 509),
    (590, 599),
    (670, 670),
    (672, 683),
    (685, 692),
    (800, 800),
    (808, 808),
    (850, 850),
    (852, 853),
    (855, 856),
    (870, 870),
    (878, 883),
    (886, 888),
];

/// The same, continued: the Gulf, the Caucasus and central Asia.
const THREE_DIGITS_MORE: [(u16, u16); 4] = [(960, 968), (970, 977), (979, 979), (992, 998)];

/// A country: its ISO code, its calling code, what is dialled before a number inside of it and not from abroad, and what is
/// dialled for calls abroad where that is not `00`.
struct Country(&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const COUNTRIES: [Country; 82] = [
    Country("AE", "971", "0", ""), Country("AL", "355", "0", ""), Country("AR", "54", "0", ""), Country("AT", "43", "0", ""),
    Country("AU", "61", "0", "0011"), Country("BA", "387", "0", ""), Country("BD", "880", "0", ""), Country("BE", "32", "0", ""),
    Country("BG", "359", "0", ""), Country("BR", "55", "0", ""), Country("BY", "375", "80", "810"), Country("CA", "1", "1", "011"),
    Country("CH", "41", "0", ""), Country("CL", "56", "", ""), Country("CN", "86", "0", ""), Country("CO", "57", "", ""),
    Country("CY", "357", "", ""), Country("CZ", "420", "", ""), Country("DE", "49", "0", ""), Country("DK", "45", "", ""),
    Country("DZ", "213", "0", ""), Country("EE", "372", "", ""), Country("EG", "20", "0", ""), Country("ES", "34", "", ""),
    Country("FI", "358", "0", ""), Country("FR", "33", "0", ""), Country("GB", "44", "0", ""), Country("GR", "30", "", ""),
    Country("HK", "852", "", "001"), Country("HR", "385", "0", ""), Country("HU", "36", "06", ""), Country("ID", "62", "0", ""),
    Country("IE", "353", "0", ""), Country("IL", "972", "0", ""), Country("IN", "91", "0", ""), Country("IQ", "964", "0", ""),
    Country("IR", "98", "0", ""), Country("IS", "354", "", ""), Country("IT", "39", "", ""), Country("JO", "962", "0", ""),
    Country("JP", "81", "0", "010"), Country("KE", "254", "0", "000"), Country("KR", "82", "0", ""), Country("KW", "965", "", ""),
    Country("KZ", "7", "8", "810"), Country("LB", "961", "0", ""), Country("LI", "423", "", ""), Country("LK", "94", "0", ""),
    Country("LT", "370", "0", ""), Country("LU", "352", "", ""), Country("LV", "371", "", ""), Country("MA", "212", "0", ""),
    Country("MD", "373", "0", ""), Country("ME", "382", "0", ""), Country("MK", "389", "0", ""), Country("MT", "356", "", ""),
    Country("MX", "52", "", ""), Country("MY", "60", "0", ""), Country("NG", "234", "0", "009"), Country("NL", "31", "0", ""),
    Country("NO", "47", "", ""), Country("NZ", "64", "0", ""), Country("PE", "51", "0", ""), Country("PH", "63", "0", ""),
    Country("PK", "92", "0", ""), Country("PL", "48", "", ""), Country("PT", "351", "", ""), Country("QA", "974", "", ""),
    Country("RO", "40", "0", ""), Country("RS", "381", "0", ""), Country("RU", "7", "8", "810"), Country("SA", "966", "0", ""),
    Country("SE", "46", "0", ""), Country("SG", "65", "", "001"), Country("SI", "386", "0", ""), Country("SK", "421", "0", ""),
    Country("TH", "66", "0", "001"), Country("TR", "90", "0", ""), Country("TW", "886", "0", "002"), Country("UA", "380", "0", ""),
    Country("US", "1", "1", "011"), Country("ZA", "27", "0", ""),
];

/// Whether a text is a country code that telephone numbers can be read by.
pub(super) fn is_region(text: &str) -> bool {
    country(text).is_some()
}

fn country(region: &str) -> Option<&'static Country> {
    COUNTRIES.iter().find(|country| country.0 == region)
}

/// A number's normal form: E.164 where the country can be told, else its digits. What has letters is none: an extension or a
/// word is not one person's.
pub(super) fn normal(value: &str, region: Option<&str>) -> Option<String> {
    let plain = digits(without_fraction(value.strip_prefix("tel:").unwrap_or(value)))?;
    if let Some(whole) = plain.strip_prefix('+') {
        return whole_number(whole);
    }
    if !DIGITS.contains(&plain.len()) && !plain.starts_with('0') {
        return None;
    }
    let country = region.and_then(country);
    let abroad = country.map(|country| country.3).filter(|prefix| !prefix.is_empty()).unwrap_or("00");
    if let Some(whole) = [abroad, "00"].into_iter().find_map(|prefix| plain.strip_prefix(prefix)).and_then(whole_number)
    {
        return Some(whole);
    }
    if let Some(country) = country {
        if plain.starts_with(country.1) && plain.len() >= shortest_with_code(country) {
            return whole_number(&plain);
        }
        let national = plain.strip_prefix(country.2).unwrap_or(&plain);
        return whole_number(&format!("{}{national}", country.1));
    }
    ALONE.contains(&plain.len()).then_some(plain)
}

/// The digits of a number as they stand where its country is not known: as it was written without one, and of a number of the
/// region as it is dialled inside of it, with and without the prefix for that.
pub(super) fn national(value: &str, region: Option<&str>) -> Vec<String> {
    let mut forms: Vec<String> = normal(value, None).filter(|number| !number.starts_with('+')).into_iter().collect();
    if let Some(country) = region.and_then(country)
        && let Some(whole) = normal(value, region)
        && let Some(inside) = whole.strip_prefix('+').and_then(|digits| digits.strip_prefix(country.1))
    {
        forms.extend([format!("{}{inside}", country.2), inside.to_owned()]);
    }
    forms.retain(|digits| ALONE.contains(&digits.len()));
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Whether a number, in its normal form, was typed by somebody who had to type one: it counts up or down (`1234567890`), or repeats
/// one digit or a group of them (`+1 555 555 5555`, `123123123`), wholly or behind its country or the zero of an area code.
pub(super) fn is_made_up(normal: &str) -> bool {
    let digits = normal.strip_prefix('+').unwrap_or(normal);
    let national = normal.strip_prefix('+').and_then(calling_code).map_or(digits, |code| &digits[code.len()..]);
    [digits, national, national.trim_start_matches('0')].into_iter().any(is_pattern)
}

fn is_pattern(digits: &str) -> bool {
    let values: Vec<u8> = digits.bytes().map(|digit| digit.wrapping_sub(b'0')).collect();
    let goes_by = |step: u8| values.windows(2).all(|pair| (pair[0] + step) % 10 == pair[1]);
    let repeats = |group: usize| {
        values.len().is_multiple_of(group) && values.chunks(group).all(|chunk| *chunk == values[..group])
    };
    (values.len() >= MIN_RUN && [0, 1, 9].into_iter().any(goes_by))
        || (values.len() >= MIN_GROUPS && (2..=MAX_GROUP).any(|group| values.len() >= 3 * group && repeats(group)))
}

/// From so many digits on a number that begins with its country's calling code has it, though the `+` is missing: WhatsApp and
/// spreadsheets write numbers so. Numbers inside of the country are shorter.
fn shortest_with_code(country: &Country) -> usize {
    match country.0 {
        "DK" | "NO" | "SG" => 10,
        "AU" | "BE" | "CH" | "ES" | "FR" | "HU" | "KZ" | "NL" | "PL" | "RO" | "RU" | "SE" | "TH" | "ZA" => 11,
        _ => 12,
    }
}

/// A number without the `.0` that a data frame or a spreadsheet writes behind one that it took for a quantity: it is no digit. Points
/// that part groups of digits are several, or stand before more than a zero.
fn without_fraction(value: &str) -> &str {
    let is_quantity = |whole: &str| {
        let digits = whole.strip_prefix('+').unwrap_or(whole);
        digits.len() >= *DIGITS.start() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    value.strip_suffix(".0").filter(|whole| is_quantity(whole)).unwrap_or(value)
}

/// The digits of a number, behind a `+` where it has one; `None` for what is no number.
fn digits(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '0'..='9' => plain.push(letter),
            '+' | '\u{ff0b}' if plain.is_empty() => plain.push('+'),
            // Full-width and Arabic digits, as keyboards in those countries write them.
            '\u{ff10}'..='\u{ff19}' => plain.push(digit(letter, '\u{ff10}')?),
            '\u{660}'..='\u{669}' => plain.push(digit(letter, '\u{660}')?),
            '\u{6f0}'..='\u{6f9}' => plain.push(digit(letter, '\u{6f0}')?),
            '(' | ')' | '[' | ']' | '-' | '.' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' => {}
            letter if letter.is_whitespace() => {}
            _ => return None,
        }
    }
    Some(plain)
}

fn digit(letter: char, zero: char) -> Option<char> {
    char::from_digit(u32::from(letter) - u32::from(zero), 10)
}

/// E.164 of a calling code and a number behind it, of which the prefix that is dialled inside of the country alone is left
/// out: `+49 (0)170 …` is one way to write both at once.
fn whole_number(digits: &str) -> Option<String> {
    let code = calling_code(digits)?;
    let national = &digits[code.len()..];
    let has_zero = COUNTRIES.iter().any(|country| country.1 == code && country.2 == "0");
    let national = if has_zero { national.strip_prefix('0').unwrap_or(national) } else { national };
    let length = code.len() + national.len();
    (MIN_WHOLE..=*DIGITS.end()).contains(&length).then(|| format!("+{code}{national}"))
}

/// The calling code that a number begins with.
fn calling_code(digits: &str) -> Option<&str> {
    if digits.starts_with(['1', '7']) {
        return digits.get(..1);
    }
    if let Some(two) = digits.get(..2)
        && two.parse().is_ok_and(|code: u8| TWO_DIGITS.contains(&code) || code == 98)
    {
        return Some(two);
    }
    let three = digits.get(..3)?;
    let code: u16 = three.parse().ok()?;
    let is_given = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&code));
    (is_given(&THREE_DIGITS) || is_given(&THREE_DIGITS_MORE)).then_some(three)
}
