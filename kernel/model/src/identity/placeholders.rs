//! Values that stand where a value is missing. They tie strangers together, because everybody who has none has the same.
//!
//! The words come from what senders really send: the texts of an absent value in several languages and databases, the default
//! ids of tracking libraries, unfilled templates, masked numbers. They are found in every quoting and case.

use super::rules::Shape;

/// The values themselves, in lower case and without quotes and brackets.
const WORDS: [&str; 98] = [
    "#div/0!",
    "#n/a",
    "#n/a!",
    "#name?",
    "#null!",
    "#num!",
    "#ref!",
    "#value!",
    "-1",
    "-1.0",
    "0",
    "@null",
    "anonymous",
    "anonymous id",
    "anonymous user",
    "anonymous_id",
    "anonymousid",
    "anonymoususer",
    "customer id",
    "customer_id",
    "customerid",
    "default",
    "distinct id",
    "distinct_id",
    "distinctid",
    "dummy",
    "e-mail",
    "email",
    "empty",
    "false",
    "guest",
    "guest user",
    "id",
    "inf",
    "infinity",
    "invalid",
    "k.a",
    "k.a.",
    "keine angabe",
    "missing",
    "n.a",
    "n.a.",
    "n/a",
    "na",
    "nan",
    "nil",
    "no email",
    "no value",
    "none",
    "not applicable",
    "not available",
    "not found",
    "not provided",
    "not set",
    "not_authenticated",
    "not_available",
    "not_provided",
    "not_set",
    "notset",
    "null",
    "object object",
    "object undefined",
    "object null",
    "optional(nil",
    "object htmlelement",
    "object promise",
    "placeholder",
    "redacted",
    "tbd",
    "test",
    "testing",
    "true",
    "undefined",
    "unbekannt",
    "unidentified",
    "unknown",
    "unspecified",
    "user id",
    "user_id",
    "userid",
    "void",
    "your user id",
    "your-user-id",
    "your_user_id",
    "your_email",
    "string",
    "not_identified",
    "customer",
    "deleted",
    "desconocido",
    "gast",
    "inconnu",
    "onbekend",
    "sconosciuto",
    "xxx",
    "неизвестно",
    "不明",
    "未知",
];

/// What spreadsheets write of a cell that has no result where that does not end as their other errors do, and the labels of pivot
/// tables for cells with nothing in them; whole values, in lower case.
const OF_SHEETS: [&str; 21] = [
    "#nv",
    "#n/d",
    "#n/b",
    "#i/t",
    "#н/д",
    "#yok",
    "#rif",
    "#getting_data",
    "#daten_abrufen",
    "(leer)",
    "(blank)",
    "(blanks)",
    "(vide)",
    "(en blanco)",
    "(vacío)",
    "(vacío/a)",
    "(vuoto)",
    "(em branco)",
    "(vazio)",
    "(leeg)",
    "(puste)",
];

/// Of these a value may consist several times: `undefined undefined` is a first and a last name that are missing.
const MISSING: [&str; 10] =
    ["null", "undefined", "nil", "none", "nan", "unknown", "anonymous", "n/a", "empty", "missing"];

/// Names before the `@` that no person has, whatever the domain.
const LOCALS: [&str; 22] = [
    "anonymous",
    "donotreply",
    "do-not-reply",
    "fake",
    "guest",
    "invalid",
    "keine",
    "n/a",
    "no-email",
    "no-mail",
    "no-reply",
    "no.email",
    "no_email",
    "noemail",
    "nomail",
    "none",
    "noreply",
    "notprovided",
    "not-provided",
    "null",
    "undefined",
    "unknown",
];

/// Names that are placeholders where the domain repeats them (`test@test.com`) or is one for examples.
const REPEATED: [&str; 17] = [
    "abc", "na", "asdf", "demo", "dummy", "email", "example", "foo", "mail", "name", "no", "none", "qwerty", "sample",
    "test", "user", "xyz",
];

/// A value of one letter or digit, so many times, is a masked or made-up one. Shorter ones are customer 1111.
const REPEATS: usize = 7;

/// Whether a value, in lower case, stands for a missing one.
pub(super) fn is_placeholder(value: &str, shape: Shape) -> bool {
    let bare = unquoted(value);
    !bare.chars().any(char::is_alphanumeric)
        || is_among(&WORDS, bare)
        || is_repeated_word(bare)
        || is_one_letter(bare, shape)
        || is_template(value)
        || matches!(value, "\\n" | "\\\\n")
        || is_of_sheet(value)
        || is_of_sheet(bare)
        || (bare.contains(char::is_whitespace) && is_among(&WORDS, &one_spaced(bare)))
        || bare.rsplit_once('@').is_some_and(|(local, domain)| is_placeholder_address(local, domain))
}

/// Whether a value is one of these. Most differ from it in their length or their first letter, and are not compared further: every
/// identifier of every event comes by here.
fn is_among(words: &[&str], value: &str) -> bool {
    let first = value.as_bytes().first();
    words.iter().any(|word| word.len() == value.len() && word.as_bytes().first() == first && *word == value)
}

/// Whether a value is a formula's error, in whichever language, or a pivot table's label for nothing. An error begins with `#` and ends with
/// `!` or `?`; LibreOffice numbers its own.
fn is_of_sheet(value: &str) -> bool {
    let is_error = || {
        let name = value.strip_prefix('#').and_then(|rest| rest.strip_suffix(['!', '?']));
        name.is_some_and(|name| (2..=24).contains(&name.len()) && !name.contains(char::is_whitespace))
    };
    let number = value.strip_prefix("err:").filter(|number| number.len() == 3 && number.starts_with('5'));
    is_among(&OF_SHEETS, value)
        || is_error()
        || number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a value is written as spreadsheets write numbers that are too long for a cell: `1.23E+11`.
pub(super) fn is_rounded(value: &str) -> bool {
    let Some((number, exponent)) = value.split_once("E+") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    whole.len() == 1 && digits(whole) && digits(fraction) && exponent.len() == 2 && digits(exponent)
}

/// Whether the id of a message stands for a missing one: what is left of a variable or a cell that had none. Numbers such as
/// `0` and `1111111` are rows and orders of somebody.
pub fn is_missing_id(id: &str) -> bool {
    let id = id.trim().to_lowercase();
    let bare = unquoted(&id);
    is_repeated_word(bare)
        || is_of_sheet(&id)
        || is_of_sheet(bare)
        || matches!(bare, "na" | "n.a" | "n.a.")
        || (bare.starts_with('#') || bare.starts_with("object ")) && is_among(&WORDS, bare)
        || !id.is_empty() && !id.chars().any(char::is_alphanumeric)
        || bare.len() >= REPEATS && bare.starts_with('0') && is_one_letter(bare, Shape::Any)
        || is_template(&id)
}

/// Without quotes and brackets around it, however many.
fn unquoted(value: &str) -> &str {
    let around = |letter: char| {
        letter.is_whitespace()
            || matches!(
                letter,
                '"' | '\''
                    | '`'
                    | '´'
                    | '‘'
                    | '’'
                    | '‚'
                    | '“'
                    | '”'
                    | '„'
                    | '«'
                    | '»'
                    | '('
                    | ')'
                    | '<'
                    | '>'
                    | '['
                    | ']'
                    | '\\'
            )
    };
    value.trim_matches(around)
}

fn one_spaced(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_repeated_word(value: &str) -> bool {
    let mut words = value.split([' ', '\t', '_', '-', ',', '.', ':', ';', '|', '+']).filter(|word| !word.is_empty());
    let mut any = false;
    words.all(|word| {
        any = true;
        is_among(&MISSING, unquoted(word))
    }) && any
}

/// All zeros, and one letter or digit again and again; telephone numbers of one digit are none at any length.
fn is_one_letter(value: &str, shape: Shape) -> bool {
    let mut letters = value.chars().filter(|letter| letter.is_alphanumeric());
    let Some(first) = letters.next() else { return true };
    let is_joined = value.chars().all(|letter| {
        letter == first || matches!(letter, '-' | '_' | '.' | ' ' | ':' | '/' | '+' | '(' | ')' | '*' | '#')
    });
    is_joined && (first == '0' || shape == Shape::Phone || letters.count() + 1 >= REPEATS)
}

/// A template that nobody filled in: `{{user.id}}`, `${id}`, `<%= id %>`, `%user_id%`, `{userId}`, `*|EMAIL|*`, `[[id]]`.
fn is_template(value: &str) -> bool {
    let holds = |open: &str, close: &str| value.find(open).is_some_and(|at| value[at + open.len()..].contains(close));
    // Nearly every value has none of these, and a search for each of the nine takes longer than all other checks.
    let may_hold = value.bytes().any(|byte| matches!(byte, b'{' | b'<' | b'[' | b'*' | b'%'));
    if may_hold
        && [("{{", "}}"), ("${", "}"), ("#{", "}"), ("<%", "%>"), ("[[", "]]"), ("*|", "|*"), ("{%", "%}")]
            .into_iter()
            .any(|(open, close)| holds(open, close))
    {
        return true;
    }
    let inside = |open: char, close: char| value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let is_name = |name: &str| {
        name.starts_with(|letter: char| letter.is_alphabetic() || matches!(letter, '_' | '%' | '$'))
            && name
                .chars()
                .all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | ' ' | '%' | '$' | '@'))
    };
    // Identifiers of Windows stand in braces: `{3f2504e0-4f89-11d3-9a0c-0305e82c3301}`.
    let is_guid = |name: &str| name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    // URL-encoded braces, and the forms that tag managers and SQL drivers have.
    if may_hold && (value.contains("%7b%7b") || value.contains("%24%7b")) {
        return true;
    }
    let is_word = |name: &str| {
        name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'))
    };
    let doubled = ["__", "@@", "$$"]
        .into_iter()
        .any(|around| value.strip_prefix(around).and_then(|rest| rest.strip_suffix(around)).is_some_and(is_word));
    doubled
        || value.strip_prefix(['$', ':']).is_some_and(is_word)
        || inside('{', '}').is_some_and(|name| is_name(name) && !is_guid(name))
        || inside('%', '%').is_some_and(is_name)
}

fn is_placeholder_address(local: &str, domain: &str) -> bool {
    let site = domain.split('.').next().unwrap_or_default();
    let is_for_examples =
        matches!(site, "example" | "test" | "invalid" | "localhost" | "domain" | "yourdomain" | "company");
    let letters = || local.chars();
    let is_one = letters().next().is_some_and(|first| letters().all(|letter| letter == first));
    is_among(&LOCALS, local)
        || (local == site && (is_among(&REPEATED, local) || is_one))
        || (is_for_examples
            && matches!(local, "test" | "email" | "example" | "name" | "your" | "youremail" | "your.email"))
        || (local.len() >= REPEATS && is_one)
        || (local == "nobody" && matches!(site, "nowhere" | "nobody" | "none"))
        || (local == "no" && matches!(site, "email" | "mail" | "thanks"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is looked for in a value that may be a template.
    const SEARCHED: [(&str, &str); 9] = [
        ("{{", "}}"),
        ("${", "}"),
        ("#{", "}"),
        ("<%", "%>"),
        ("[[", "]]"),
        ("*|", "|*"),
        ("{%", "%}"),
        ("%7b%7b", ""),
        ("%24%7b", ""),
    ];

    #[test]
    fn each_of_the_words_is_found_and_none_that_is_nearly_one() {
        let parts = |word: &str| -> Vec<String> {
            let begun = word.char_indices().map(|(at, _)| word[..at].to_owned());
            begun.chain([word.to_owned(), format!("{word}x"), format!("x{word}")]).collect()
        };
        for words in [&WORDS[..], &OF_SHEETS, &LOCALS, &REPEATED, &MISSING] {
            for value in words.iter().flat_map(|word| parts(word)) {
                assert_eq!(is_among(words, &value), words.contains(&value.as_str()), "{value}");
            }
        }
    }

    proptest! {
        /// The look before the searches misses nothing that one of them would find.
        #[test]
        fn a_template_is_found_by_whichever_search(
            value in "[a{}<>%\\[\\]*|$#é ]{0,8}",
            (open, close) in prop::sample::select(SEARCHED.to_vec()),
            (before, between, behind) in ("[a%é]{0,2}", "[a}é]{0,2}", "[a#é]{0,2}"),
        ) {
            let found = |value: &str| {
                let holds = |(open, close): &(&str, &str)| {
                    value.find(open).is_some_and(|at| value[at + open.len()..].contains(close))
                };
                SEARCHED.iter().any(holds)
            };
            for value in [value, format!("{before}{open}{between}{close}{behind}")] {
                prop_assert!(!found(&value) || is_template(&value), "{}", value);
            }
        }
    }
}
