//! What a value must be to name somebody, and its normal form: one function for rules, keys and look-ups.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::rules::{Case, IdentityRules, Shape};
use super::{Identifier, MAX_IDENTIFIER_BYTES, phones, placeholders};

/// Most letters before the `@` of an address, by RFC 5321.
const MAX_LOCAL_BYTES: usize = 64;

/// Longest label and longest name of a domain, by RFC 1035.
const MAX_LABEL_BYTES: usize = 63;
const MAX_DOMAIN_BYTES: usize = 253;

/// Why a value names nobody. It stays what it is beside that, e.g. a trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    Empty,
    /// Longer than its type may be.
    TooLong {
        limit: usize,
    },
    /// It stands where a value is missing: `n/a`, `(not set)`, `{{user.id}}`, `0000000000`, `test@test.com`.
    Placeholder,
    /// A number that a spreadsheet has rounded, `1.23E+11`: nobody knows whose it was.
    Rounded,
    /// The workspace's rules block it.
    Blocked,
    /// It does not look like what its type says.
    Shape(Shape),
}

impl Unfit {
    /// The code under which it is set aside.
    pub fn code(self) -> &'static str {
        match self {
            Unfit::Empty => "identifier-empty",
            Unfit::TooLong { .. } => "identifier-too-long",
            Unfit::Placeholder => "identifier-placeholder",
            Unfit::Rounded => "identifier-rounded",
            Unfit::Blocked => "identifier-blocked",
            Unfit::Shape(_) => "identifier-shape",
        }
    }

    /// What a person reads after the value.
    pub fn reason(self) -> String {
        match self {
            Unfit::Empty => "is empty".to_owned(),
            Unfit::TooLong { limit } => format!("has more than {limit} bytes"),
            Unfit::Placeholder => "stands for a value that is missing".to_owned(),
            Unfit::Rounded => {
                "is a number that a spreadsheet has rounded; format the column as text and export it again".to_owned()
            }
            Unfit::Blocked => "is blocked by the workspace's identity rules".to_owned(),
            Unfit::Shape(Shape::Email) => "is no e-mail address".to_owned(),
            Unfit::Shape(Shape::Phone) => "is no telephone number".to_owned(),
            Unfit::Shape(Shape::Any) => "is not of its type".to_owned(),
        }
    }
}

impl IdentityRules {
    /// The normal form of an identifier that may name a person.
    ///
    /// # Errors
    /// Why it names nobody.
    pub fn judge(&self, identifier: &Identifier) -> Result<Identifier, Unfit> {
        let (kind, raw) = (identifier.kind.as_str(), identifier.value.trim());
        let own = self.types.get(kind);
        let limit = own.and_then(|own| own.max_bytes).unwrap_or(MAX_IDENTIFIER_BYTES);
        if raw.len() > limit.min(MAX_IDENTIFIER_BYTES) {
            return Err(Unfit::TooLong { limit: limit.min(MAX_IDENTIFIER_BYTES) });
        }
        let shape = own.map_or(Shape::Any, |own| own.shape);
        let bare = without_invisible(raw, shape);
        let composed = composed(&bare);
        let cased = match own.map_or(Case::Keep, |own| own.case) {
            Case::Keep => composed,
            Case::Fold => fold_case(composed),
        };
        if cased.is_empty() {
            return Err(Unfit::Empty);
        }
        let folded = cased.to_lowercase();
        let is_in = |list: &std::collections::BTreeSet<String>| {
            !list.is_empty() && list.iter().any(|value| value.trim().to_lowercase() == folded)
        };
        if is_in(&self.blocked_values) || own.is_some_and(|own| is_in(&own.blocked_values)) {
            return Err(Unfit::Blocked);
        }
        if !is_in(&self.allowed_values) && placeholders::is_placeholder(&folded, shape) {
            return Err(Unfit::Placeholder);
        }
        if !is_in(&self.allowed_values) && placeholders::is_rounded(&cased) {
            return Err(Unfit::Rounded);
        }
        let value = match shape {
            Shape::Any => cased.into_owned(),
            Shape::Email if is_email(&cased) => cased.into_owned(),
            Shape::Phone => {
                let number = phones::normal(&cased, self.phone_region.as_deref()).ok_or(Unfit::Shape(shape))?;
                let is_allowed = || is_in(&self.allowed_values) || self.allowed_values.contains(&number);
                if phones::is_made_up(&number) && !is_allowed() {
                    return Err(Unfit::Placeholder);
                }
                number
            }
            Shape::Email => return Err(Unfit::Shape(shape)),
        };
        if value.len() > MAX_IDENTIFIER_BYTES {
            return Err(Unfit::TooLong { limit: MAX_IDENTIFIER_BYTES });
        }
        Ok(Identifier { kind: kind.to_owned(), value })
    }

    /// Whether the identifier may name a person.
    pub fn admits(&self, identifier: &Identifier) -> bool {
        self.judge(identifier).is_ok()
    }
}

/// Characters that are seen by nobody and come along when something is copied out of a page or a document.
fn is_invisible(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Without invisible characters at both ends, and in an address or a number without those inside, which no spaces are. Inside
/// of other values they may have a meaning: a joiner makes another letter in several scripts.
pub(super) fn without_invisible(value: &str, shape: Shape) -> Cow<'_, str> {
    let bare = value.trim_matches(is_invisible);
    let is_hidden = |letter: char| is_invisible(letter) && !letter.is_whitespace();
    match shape {
        Shape::Email | Shape::Phone if bare.contains(is_hidden) => Cow::Owned(bare.replace(is_hidden, "")),
        _ => Cow::Borrowed(bare),
    }
}

/// The composed form (NFC): `e` with an accent behind it and `é` are the same letter.
pub(super) fn composed<'v>(value: &'v Cow<'v, str>) -> Cow<'v, str> {
    match is_nfc_quick(value.chars()) {
        IsNormalized::Yes => Cow::Borrowed(value),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(value.nfc().collect()),
    }
}

/// In lower case, and composed again: a few letters come apart when their case changes.
pub(super) fn fold_case(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.chars().any(char::is_uppercase) {
        return value;
    }
    Cow::Owned(value.to_lowercase().nfc().collect())
}

/// A name and a domain with a dot. What a mail server would refuse beyond that is not found here: addresses of carriers break
/// the rules of the RFC, and reach people.
fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.rsplit_once('@') else { return false };
    let is_odd = |letter: char| {
        letter.is_whitespace()
            || letter.is_control()
            || matches!(letter, '@' | '<' | '>' | '(' | ')' | ',' | ';' | ':' | '"' | '\\' | '[' | ']')
    };
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.chars().all(|letter| {
                letter.is_alphanumeric() || letter == '-' || !letter.is_ascii() && !letter.is_whitespace()
            })
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=MAX_LOCAL_BYTES).contains(&local.len())
        && !local.contains(is_odd)
        && domain.len() <= MAX_DOMAIN_BYTES
        && domain.contains('.')
        && domain.split('.').all(is_label)
        && !domain.rsplit('.').next().is_some_and(|top| top.bytes().all(|byte| byte.is_ascii_digit()))
}
