//! How the keys of consents are spelled. A key is what a person reads: writers differ in case, blanks and the forms of letters,
//! and whoever wants a refusal to miss its purpose writes it with letters that nobody sees or that only look alike.
//!
//! So a refusal counts for the purpose that it reads as, and an agreement only where nothing but case and blanks is different.

use unicode_normalization::UnicodeNormalization;

use super::AT;

/// Letters of another script with the Latin ones that they are taken for, in one case of letters or in both.
type LookAlikes = &'static [(char, char)];

/// Of those in front the small letters are taken for small ones; of those behind the capitals alone.
const CYRILLIC: [LookAlikes; 2] = [
    &[
        ('а', 'a'),
        ('с', 'c'),
        ('ԁ', 'd'),
        ('е', 'e'),
        ('ԍ', 'g'),
        ('һ', 'h'),
        ('і', 'i'),
        ('ј', 'j'),
        ('ӏ', 'l'),
        ('о', 'o'),
        ('р', 'p'),
        ('ԛ', 'q'),
        ('ѕ', 's'),
        ('ѵ', 'v'),
        ('ԝ', 'w'),
        ('х', 'x'),
        ('у', 'y'),
        ('ү', 'y'),
    ],
    &[('в', 'b'), ('н', 'h'), ('к', 'k'), ('м', 'm'), ('т', 't')],
];

const GREEK: [LookAlikes; 2] = [
    &[
        ('α', 'a'),
        ('γ', 'y'),
        ('ι', 'i'),
        ('κ', 'k'),
        ('ν', 'v'),
        ('ο', 'o'),
        ('ρ', 'p'),
        ('υ', 'u'),
        ('ω', 'w'),
        ('χ', 'x'),
    ],
    &[('β', 'b'), ('ε', 'e'), ('η', 'h'), ('μ', 'm'), ('τ', 't'), ('ζ', 'z')],
];

/// Capitals as they are seen: the small letter of one may be taken for another letter, as that of `Ν` is for a v.
const CAPITALS: LookAlikes = &[
    ('Α', 'a'),
    ('Β', 'b'),
    ('Ϲ', 'c'),
    ('Ε', 'e'),
    ('Η', 'h'),
    ('Ι', 'i'),
    ('Ϳ', 'j'),
    ('Κ', 'k'),
    ('Μ', 'm'),
    ('Ν', 'n'),
    ('Ο', 'o'),
    ('Ρ', 'p'),
    ('Τ', 't'),
    ('Χ', 'x'),
    ('Υ', 'y'),
    ('Ζ', 'z'),
    ('А', 'a'),
    ('В', 'b'),
    ('С', 'c'),
    ('Ԁ', 'd'),
    ('Е', 'e'),
    ('Ԍ', 'g'),
    ('Н', 'h'),
    ('Һ', 'h'),
    ('І', 'i'),
    ('Ј', 'j'),
    ('К', 'k'),
    ('Ӏ', 'l'),
    ('М', 'm'),
    ('О', 'o'),
    ('Р', 'p'),
    ('Ԛ', 'q'),
    ('Ѕ', 's'),
    ('Т', 't'),
    ('Ѵ', 'v'),
    ('Ԝ', 'w'),
    ('Х', 'x'),
    ('У', 'y'),
    ('Ү', 'y'),
];

/// Small letters that are another letter in their compatibility form.
const RARE: LookAlikes = &[('ϲ', 'c'), ('ϳ', 'j')];

/// How often a key is read at most until it reads as itself; one written in good faith does so at once.
const MAX_READINGS: usize = 4;

/// A key as it is compared: by what it reads as, in small letters and without blanks around it.
pub fn reading(key: &str) -> String {
    let mut key = key.to_owned();
    for _ in 0..MAX_READINGS {
        if is_settled(&key) {
            break;
        }
        let read = read_once(&key);
        if read == key {
            break;
        }
        key = read;
    }
    key
}

fn read_once(key: &str) -> String {
    let visible: String = as_seen(key).nfkc().filter(|letter| !is_invisible(*letter)).collect();
    let visible = as_seen(&visible).to_lowercase();
    // The dot of a capital İ.
    let visible = visible.replace("i\u{307}", "i");
    let key: String = visible.nfkc().filter(|letter| !is_invisible(*letter)).map(plain_sign).collect();
    match key.trim().split_once(AT) {
        Some((purpose, channel)) => format!("{}{AT}{}", unmixed(purpose.trim_end()), unmixed(channel.trim_start())),
        None => unmixed(key.trim()),
    }
}

/// The purpose and the channel of a key in Latin letters, each where it has as many of these as of others, and all others are seen
/// as Latin ones.
fn as_seen(key: &str) -> String {
    key.split_inclusive([AT, '＠', '﹫']).map(|part| latin_as_seen(part).unwrap_or_else(|| part.to_owned())).collect()
}

fn latin_as_seen(part: &str) -> Option<String> {
    let is_other = |letter: &char| is_cyrillic(*letter) || is_greek(*letter);
    let others = part.chars().filter(is_other).count();
    let latin = part.nfkc().filter(char::is_ascii_alphabetic).count();
    if others == 0 || others > latin {
        return None;
    }
    let tables = [CAPITALS, RARE, CYRILLIC[0], GREEK[0]];
    let seen = |letter: char| tables.into_iter().flatten().find(|(own, _)| *own == letter).map(|(_, latin)| *latin);
    part.chars().map(|letter| if is_other(&letter) { seen(letter) } else { Some(letter) }).collect()
}

/// Whether a key is written as what it reads as, but for case, blanks and the two forms that one letter with its accent has.
pub fn is_plain(key: &str) -> bool {
    let key: String = key.trim().to_lowercase().nfc().collect();
    let written = match key.split_once(AT) {
        Some((purpose, channel)) => format!("{}{AT}{}", purpose.trim_end(), channel.trim_start()),
        None => key,
    };
    written == reading(&written)
}

/// Whether a key is its own reading, as most are: it is looked at wherever consents are read.
pub(super) fn is_settled(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

/// Whether nothing is seen of a letter, whether or not it does something, or nobody has said what it looks like.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
                | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{10ffff}'
        )
}

/// Signs that are taken for others.
fn plain_sign(letter: char) -> char {
    match letter {
        '∗' | '⁎' | '٭' | '✱' | '＊' => '*',
        '‐' | '‑' | '‒' | '–' | '—' | '−' => '-',
        'ı' | 'ɩ' => 'i',
        'ɑ' => 'a',
        'ɡ' => 'g',
        'ᴏ' => 'o',
        letter => letter,
    }
}

/// A purpose or a channel in the letters of one script, where it is written in look-alikes of another.
fn unmixed(text: &str) -> String {
    let of = |is_one: fn(char) -> bool| text.chars().filter(|letter| is_one(*letter)).count();
    match (of(is_cyrillic), of(is_greek)) {
        (0, 0) => text.to_owned(),
        (count, 0) => of_script(text, count, is_cyrillic, CYRILLIC),
        (0, count) => of_script(text, count, is_greek, GREEK),
        _ => {
            let latin = in_latin(&in_latin(text, CYRILLIC), GREEK);
            if latin == text { latin } else { unmixed(&latin) }
        }
    }
}

/// The same where `count` letters are of one other script.
fn of_script(text: &str, count: usize, is_own: fn(char) -> bool, tables: [LookAlikes; 2]) -> String {
    let [of_small, of_capitals] = tables;
    let latin =
        |letter: char| of_small.iter().chain(of_capitals).find(|(own, _)| *own == letter).map(|(_, latin)| *latin);
    let own =
        |letter: char| of_capitals.iter().chain(of_small).find(|(_, latin)| *latin == letter).map(|(own, _)| *own);
    let others: Vec<char> = text.chars().filter(|letter| letter.is_alphabetic() && !is_own(*letter)).collect();
    // A word of that script, unless each of its letters is taken for another.
    let is_taken = |letter: char| !is_own(letter) || of_small.iter().any(|(own, _)| *own == letter);
    let word = |text: String| if text.chars().all(is_taken) { in_latin(&text, tables) } else { text };
    if others.is_empty() {
        return word(text.to_owned());
    }
    let all_own = || word(text.chars().map(|letter| own(letter).unwrap_or(letter)).collect());
    let has_latin_alone = others.iter().any(|letter| own(*letter).is_none());
    let has_own_alone = text.chars().any(|letter| is_own(letter) && latin(letter).is_none());
    match (has_latin_alone, has_own_alone) {
        (false, true) => all_own(),
        // Each letter could be of either: the word is of the script that most are of.
        (false, false) if count > others.len() => all_own(),
        _ => in_latin(text, tables),
    }
}

fn in_latin(text: &str, tables: [LookAlikes; 2]) -> String {
    let latin = |letter: char| {
        let found = tables.into_iter().flatten().find(|(own, _)| *own == letter);
        found.map_or(letter, |(_, latin)| *latin)
    };
    text.chars().map(latin).collect()
}

fn is_cyrillic(letter: char) -> bool {
    matches!(letter, '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}' | '\u{2de0}'..='\u{2dff}' | '\u{a640}'..='\u{a69f}')
}

fn is_greek(letter: char) -> bool {
    matches!(letter, '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}')
}
