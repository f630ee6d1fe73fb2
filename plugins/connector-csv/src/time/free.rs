//! Times without a pattern: a date of numbers or with a month's name in any usual order, a time of day, a zone.
//!
//! Pure. Where two numbers before a year can both be the day, both readings are given, and nothing here chooses.

use std::ops::Range;

use kith_plugin_sdk::time::Form;

use super::count;
use crate::names;
use crate::zone::{Local, Zone, short};

/// What a text must have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Anything,
    /// A month's name.
    MonthName,
}

/// A time as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Free {
    /// With the day first (or in the one order that there is), with the month first, and with a year of two digits first.
    pub(crate) readings: [Option<Local>; 3],
    /// The zone that the text names.
    pub(crate) zone: Option<Zone>,
    pub(crate) clarity: Clarity,
}

/// How far the text says which of its numbers is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clarity {
    /// By a name, a year of four digits in front, or points before a year of four digits.
    Sure,
    /// By points alone: they are set where the day stands first, seldom where a year of two digits does.
    Points,
    /// Three numbers.
    Open,
}

/// The year that two digits stand for, as POSIX has it: 69 to 99 are the twentieth century's.
pub(crate) fn century(number: i64) -> i64 {
    number + if number >= 69 { 1900 } else { 2000 }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number {
        value: i64,
        digits: usize,
    },
    /// Folded.
    Word(String),
    Sign(char),
}

/// The least count since 1970, of nine digits: it is of 1973.
const LEAST_EPOCH: f64 = 1e8;

/// Words between the parts of a date, in the languages of `names`.
const FILLERS: [&str; 37] = [
    "t", "at", "of", "the", "on", "um", "uhr", "den", "der", "de", "del", "d", "da", "do", "le", "el", "a", "as",
    "las", "los", "il", "alle", "ore", "om", "kl", "o", "godz", "dne", "v", "в", "г", "года", "r", "h", "klo", "saat",
    "i",
];

/// What follows a number that counts: `1st`, `1er`, `1º`.
const ORDINALS: [&str; 14] = ["st", "nd", "rd", "th", "er", "ere", "re", "e", "eme", "º", "ª", "o", "a", "ste"];

/// Read a time in whatever form.
pub(crate) fn read(text: &str, need: Need) -> Option<Free> {
    if need == Need::Anything
        && let Some(free) = number(text)
    {
        return Some(free);
    }
    let (text, mut zone) = named_zone(text)?;
    let mut tokens = tokens(&names::without_weekday(&text));
    point_clock(&mut tokens);
    let clock_ms = clock(&mut tokens, &mut zone)?;
    let Dates { readings, clarity, has_name } = date(&tokens)?;
    if need == Need::MonthName && !has_name {
        return None;
    }
    let with_clock =
        |date: Option<Local>| date.map(|date| Local { clock_ms, ..date }).filter(|local| local.as_utc().is_some());
    Some(Free { readings: readings.map(with_clock), zone, clarity })
}

/// A time that is digits alone: a date and time without signs, a count since 1970 or of a spreadsheet, told by its length.
fn number(text: &str) -> Option<Free> {
    let whole = text.strip_prefix('-').unwrap_or(text);
    let digits = whole.bytes().take_while(u8::is_ascii_digit).count();
    let local = |local: Local, zone| Free { readings: [Some(local), None, None], zone, clarity: Clarity::Sure };
    let value = count::decimal(text)?;
    if text.contains(['e', 'E']) {
        // A smaller one is no count since 1970 by the number of its digits.
        let at = (value.abs() >= LEAST_EPOCH).then(|| count::unix(text))??;
        return Some(local(Local::from_utc(at)?, Some(Zone::UTC)));
    }
    if text.contains(',') {
        return None;
    }
    match digits {
        // As a count it would be of the year 2286 or later.
        17 if digits == text.len()
            && kith_plugin_sdk::time::read(text).is_some_and(|read| read.form == Form::Iso8601) =>
        {
            Some(local(Local::from_utc(kith_plugin_sdk::time::read(text)?.local_ms)?, None))
        }
        5 => count::excel(text).map(|days| local(days, None)),
        8 | 12 | 14 if digits == text.len() => {
            let part = |from: usize, to: usize| text.get(from..to).map_or(Some(0), |part| part.parse().ok());
            let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
            let clock_ms = kith_plugin_sdk::time::clock_ms(hour, minute, second);
            let date =
                Local { year: part(0, 4)?, month: part(4, 6)?, day: part(6, 8)?, clock_ms: clock_ms.unwrap_or(0) };
            match date.as_utc().filter(|_| clock_ms.is_some() && (1900..2200).contains(&date.year)) {
                Some(_) => Some(local(date, None)),
                None if digits == 12 => Some(local(Local::from_utc(count::unix(text)?)?, Some(Zone::UTC))),
                None => None,
            }
        }
        9..=19 => Some(local(Local::from_utc(count::unix(text)?)?, Some(Zone::UTC))),
        _ => None,
    }
}

/// The zone in `…[Europe/Berlin]` or `… Europe/Berlin`, and the text without it and without remarks in brackets.
fn named_zone(text: &str) -> Option<(String, Option<Zone>)> {
    let mut text = halves(text);
    if let (Some(open), Some(close)) = (text.find('['), text.rfind(']')) {
        let zone = Zone::find(text.get(open + 1..close)?)?;
        text.truncate(open);
        return Some((text, Some(zone)));
    }
    while let (Some(open), Some(close)) = (text.find('('), text.find(')')) {
        if open > close {
            return None;
        }
        text.replace_range(open..=close, " ");
    }
    let last = text.trim_end().rsplit(' ').next().unwrap_or_default();
    if last.contains('/')
        && last.starts_with(char::is_alphabetic)
        && let Some(zone) = Zone::find(last)
    {
        let end = text.trim_end().len() - last.len();
        text.truncate(end);
        return Some((text, Some(zone)));
    }
    Some((text, None))
}

/// `a.m.` and `p. m.` as words without points; the rest stays, since names of zones have capitals.
fn halves(text: &str) -> String {
    let mut text = text.to_owned();
    for (written, plain) in
        [("a.m.", "am"), ("p.m.", "pm"), ("A.M.", "am"), ("P.M.", "pm"), ("a. m.", "am"), ("p. m.", "pm")]
    {
        if text.contains(written) {
            text = text.replace(written, plain);
        }
    }
    text
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            let mut number = letter.to_string();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            // Longer ones are no part of a date.
            let value = number.parse().unwrap_or(i64::MAX);
            tokens.push(Token::Number { value, digits: number.len() });
        } else if is_counter(letter) {
            tokens.push(Token::Word(letter.to_string()));
        } else if letter.is_alphabetic() || matches!(letter, 'º' | 'ª') {
            let mut word = letter.to_string();
            // An accent may stand by itself.
            let is_in =
                |next: &char| (next.is_alphabetic() && !is_counter(*next)) || matches!(next, '\u{300}'..='\u{36f}');
            while let Some(next) = letters.next_if(is_in) {
                word.push(next);
            }
            tokens.push(Token::Word(names::fold(&word)));
        } else {
            tokens.push(Token::Sign(letter));
        }
    }
    tokens
}

/// Signs of Chinese, Japanese and Korean that stand behind a number of years, months and so on.
fn is_counter(letter: char) -> bool {
    matches!(
        letter,
        '年' | '月' | '日' | '号' | '時' | '时' | '点' | '分' | '秒' | '년' | '월' | '일' | '시' | '분' | '초'
    )
}

fn value(token: Option<&Token>, most_digits: usize) -> Option<i64> {
    match token {
        Some(Token::Number { value, digits }) if *digits <= most_digits => Some(*value),
        _ => None,
    }
}

fn is_word(token: Option<&Token>, words: &[&str]) -> bool {
    matches!(token, Some(Token::Word(word)) if words.contains(&word.as_str()))
}

fn is_sign(token: Option<&Token>, sign: char) -> bool {
    token == Some(&Token::Sign(sign))
}

/// Make colons of the points in a time of day behind a date, as Oracle, Finns and Italians write it: `05-JAN-26 10.30.00.000000 AM`.
fn point_clock(tokens: &mut [Token]) {
    let is_part = |at: usize| matches!(tokens.get(at), Some(Token::Number { digits: 1 | 2, .. }));
    let is_minute = |at: usize| matches!(tokens.get(at), Some(Token::Number { digits: 2, .. }));
    // The five before are the three parts of a date and what stands between them.
    let begins = |at: &usize| {
        let is_behind = is_sign(tokens.get(at - 1), ' ') && is_part(*at) && is_sign(tokens.get(at + 1), '.');
        let end = tokens.get(at + 3);
        is_behind && is_minute(at + 2) && (end.is_none() || is_sign(end, ' ') || is_sign(end, '.'))
    };
    let Some(start) = (6..tokens.len()).find(begins) else { return };
    let has_seconds = is_sign(tokens.get(start + 3), '.') && is_minute(start + 4);
    tokens[start + 1] = Token::Sign(':');
    if has_seconds {
        tokens[start + 3] = Token::Sign(':');
    }
}

/// Take the time of day and what follows it out of the tokens; midnight where there is none, `None` for one that does not exist.
fn clock(tokens: &mut Vec<Token>, zone: &mut Option<Zone>) -> Option<i64> {
    const HOURS: [&str; 5] = ["時", "时", "点", "시", "h"];
    const MINUTES: [&str; 3] = ["分", "분", "m"];
    const SECONDS: [&str; 3] = ["秒", "초", "s"];
    let starts = |at: &usize| {
        let next = tokens.get(at + 1);
        value(tokens.get(*at), 2).is_some()
            && ((is_sign(next, ':') && value(tokens.get(at + 2), 2).is_some())
                || is_word(next, &HOURS)
                || is_word(next, &["am", "pm"])
                || (is_sign(next, ' ') && is_word(tokens.get(at + 2), &["am", "pm"])))
    };
    let Some(start) = (0..tokens.len()).find(starts) else { return Some(0) };
    let mut at = start + 1;
    let (hour, mut minute, mut second, mut fraction_ms) = (value(tokens.get(start), 2)?, 0, 0, 0);
    if is_sign(tokens.get(at), ':') {
        minute = value(tokens.get(at + 1), 2)?;
        at += 2;
        if is_sign(tokens.get(at), ':') {
            second = value(tokens.get(at + 1), 2)?;
            at += 2;
        }
        if let (Some(Token::Sign('.' | ',' | ':')), Some(Token::Number { value, digits })) =
            (tokens.get(at), tokens.get(at + 1))
        {
            // Finer than a millisecond is cut off.
            fraction_ms = match u32::try_from(*digits).ok()? {
                digits @ 0..=3 => value * 10_i64.pow(3 - digits),
                digits @ 4..=18 => value / 10_i64.pow(digits - 3),
                _ => return None,
            };
            at += 2;
        }
    } else if is_word(tokens.get(at), &HOURS) {
        at += 1;
        if let (Some(number), true) = (value(tokens.get(at), 2), start + 2 == at) {
            minute = number;
            at += 1 + usize::from(is_word(tokens.get(at + 1), &MINUTES));
            if let (Some(number), true) = (value(tokens.get(at), 2), is_word(tokens.get(at + 1), &SECONDS)) {
                second = number;
                at += 2;
            }
        }
    }
    let skip_spaces = |mut at: usize| {
        while is_sign(tokens.get(at), ' ') {
            at += 1;
        }
        at
    };
    let (half, span) = half(tokens, start..at, skip_spaces(at));
    let (start, at) = (span.start, span.end);
    let hour = match half {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        None => hour,
    };
    let (end, offset) = offset(tokens, skip_spaces(at))?;
    if let Some(offset) = offset {
        // `10:00+01:00[Europe/Paris]`: the offset tells the hour that is meant.
        *zone = Some(offset);
    }
    tokens.drain(start..end.max(at));
    if (hour, minute, second, fraction_ms) == (24, 0, 0, 0) {
        return Some(86_400_000);
    }
    Some(kith_plugin_sdk::time::clock_ms(hour, minute, second)? + fraction_ms)
}

/// Whether `am` or `pm` stands behind the time in `span`, or their like before it, and the span with them; `after` is where the next
/// token that is no space stands.
fn half(tokens: &[Token], mut span: Range<usize>, after: usize) -> (Option<bool>, Range<usize>) {
    let mut half = None;
    if is_word(tokens.get(after), &["am", "pm"]) {
        half = Some(is_word(tokens.get(after), &["pm"]));
        span.end = after + 1;
    }
    let before = span
        .start
        .checked_sub(1)
        .map(|before| if is_sign(tokens.get(before), ' ') { before.saturating_sub(1) } else { before });
    if let Some(before) = before {
        let (am, pm) = (["上午", "午前", "오전"], ["下午", "午後", "오후"]);
        if is_word(tokens.get(before), &am) || is_word(tokens.get(before), &pm) {
            half = Some(is_word(tokens.get(before), &pm));
            span.start = before;
        }
    }
    (half, span)
}

/// The zone at this place and where it ends. `None` for an offset that does not exist.
fn offset(tokens: &[Token], at: usize) -> Option<(usize, Option<Zone>)> {
    let mut end = at;
    let mut zone = None;
    if let Some(Token::Word(word)) = tokens.get(at)
        && let Some(named) = short(word)
    {
        zone = Some(named);
        end = at + 1;
        if !matches!(word.as_str(), "utc" | "gmt" | "ut") {
            return Some((end, zone));
        }
    }
    let sign = match tokens.get(end) {
        Some(Token::Sign('+')) => 1,
        Some(Token::Sign('-')) => -1,
        _ => return Some((end, zone)),
    };
    let Some(Token::Number { value, digits }) = tokens.get(end + 1) else { return Some((end, zone)) };
    let (hours, minutes, next) = match digits {
        1 | 2 if is_sign(tokens.get(end + 2), ':') => (*value, self::value(tokens.get(end + 3), 2)?, end + 4),
        1 | 2 => (*value, 0, end + 2),
        4 => (value / 100, value % 100, end + 2),
        _ => return Some((end, zone)),
    };
    if matches!(tokens.get(next), Some(Token::Sign('/' | '.' | '-'))) {
        return Some((end, zone)); // a date follows
    }
    (hours <= 15 && minutes < 60).then_some(())?;
    Some((next, Some(Zone::Offset(sign * (hours * 60 + minutes) * 60_000))))
}

/// The date in a text.
struct Dates {
    readings: [Option<Local>; 3],
    clarity: Clarity,
    has_name: bool,
}

impl Dates {
    fn sure(date: Option<Local>, has_name: bool) -> Dates {
        Dates { readings: [date, None, None], clarity: Clarity::Sure, has_name }
    }
}

fn local(year: i64, month: i64, day: i64) -> Option<Local> {
    Some(Local { year, month, day, clock_ms: 0 })
}

/// A year of four digits, or of two.
fn year(number: (i64, usize)) -> Option<i64> {
    match number {
        (value, 4) => Some(value),
        (value, 2) => Some(century(value)),
        _ => None,
    }
}

/// The date that is left.
fn date(tokens: &[Token]) -> Option<Dates> {
    let (mut numbers, mut months, mut signs, mut counters) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Number { value, digits } => numbers.push((*value, *digits)),
            Token::Sign(sign) if matches!(sign, '/' | '.' | '-' | ',' | ' ' | '\'' | '’' | ':' | '،' | '、') => {
                signs.push(*sign)
            }
            Token::Sign(_) => return None,
            Token::Word(word) if word.chars().all(is_counter) => counters.push_str(word),
            Token::Word(word) => match names::month(word) {
                Some(month) => months.push((month, word)),
                None if at > 0 && value(tokens.get(at - 1), 2).is_some() && ORDINALS.contains(&word.as_str()) => {}
                None if FILLERS.contains(&word.as_str()) || names::is_weekday(word) => {}
                None => return None,
            },
        }
    }
    if months.len() == 2 {
        // A Tuesday in French, Spanish and Italian, and a Sunday in Turkish.
        months.retain(|(_, word)| *word != "mar" && *word != "paz");
    }
    match (&months[..], &numbers[..]) {
        ([(month, _)], [first, second]) => {
            let (day, own_year) = if first.1 == 4 { (second, first) } else { (first, second) };
            let date = (day.1 <= 2).then(|| local(year(*own_year)?, *month, day.0))?;
            Some(Dates::sure(date, true))
        }
        ([], [first, second, third]) if matches!(counters.as_str(), "年月日" | "年月" | "年月号" | "년월일") => {
            Some(Dates::sure(local(year(*first)?, second.0, third.0), true))
        }
        ([], [first, second, third]) if counters.is_empty() => of_numbers(*first, *second, *third, &signs),
        ([], [(value, 8)]) if counters.is_empty() => {
            Some(Dates::sure(local(value / 10_000, value / 100 % 100, value % 100), false))
        }
        _ => None,
    }
}

/// A date of three numbers with the same sign between them.
fn of_numbers(first: (i64, usize), second: (i64, usize), third: (i64, usize), signs: &[char]) -> Option<Dates> {
    let mut between = signs.iter().filter(|sign| !matches!(sign, ' ' | ',' | '\'' | ':'));
    let sign = between.next().copied().unwrap_or(' ');
    if second.1 > 2 || between.any(|other| *other != sign) {
        return None;
    }
    if first.1 == 4 {
        return (third.1 <= 2).then(|| Dates::sure(local(first.0, second.0, third.0), false));
    }
    if first.1 > 2 {
        return None;
    }
    let (day_first, month_first) = match year(third) {
        Some(year) => (local(year, second.0, first.0), local(year, first.0, second.0)),
        None => (None, None),
    };
    let year_first = if first.1 == 2 && third.1 <= 2 { local(century(first.0), second.0, third.0) } else { None };
    let (readings, clarity) = match (sign, year_first) {
        // Between day and month points are set where the day stands first, and nowhere else.
        ('.', None) => ([day_first, None, None], Clarity::Sure),
        ('.', _) => ([day_first, None, year_first], Clarity::Points),
        _ => ([day_first, month_first, year_first], Clarity::Open),
    };
    readings.iter().any(Option::is_some).then_some(Dates { readings, clarity, has_name: false })
}
