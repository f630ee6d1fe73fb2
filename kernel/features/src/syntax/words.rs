//! The text cut into words and signs, for what is looked at before the parser or after it has failed.

/// What a piece of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a number.
    Word,
    /// A text in quotes.
    Quoted,
    /// One sign, or several in a row that belong together.
    Sign,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    /// Where it begins, in bytes.
    pub(super) at: usize,
}

impl Piece<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Quoted && self.text == text
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// Signs that are read together.
const JOINED: [&str; 14] = ["===", "!==", "==", "!=", "<=", ">=", "<>", "=>", "=<", "=~", "!~", "&&", "||", "//"];

/// The pieces of a text, without the spaces and comments between.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        } else if let Some(length) = quoted(rest) {
            (Kind::Quoted, length)
        } else if is_of_word(letter) {
            let length = rest.find(|letter| !is_of_word(letter)).unwrap_or(rest.len());
            (Kind::Word, length)
        } else {
            let joined = JOINED.into_iter().find(|sign| rest.starts_with(sign));
            (Kind::Sign, joined.map_or(letter.len_utf8(), str::len))
        };
        if kind == Kind::Sign && rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        pieces.push(Piece { kind, text: &rest[..length], at });
        at += length;
    }
    pieces
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of the text in quotes that `rest` begins with; all of it where the quotes do not end.
fn quoted(rest: &str) -> Option<usize> {
    let prefix = rest.bytes().take(2).take_while(|byte| b"rRbB".contains(byte)).count();
    let quotes = &rest[prefix..];
    let quote = quotes.chars().next().filter(|letter| matches!(letter, '\'' | '"'))?;
    let is_raw = rest[..prefix].contains(['r', 'R']);
    let triple = quote.to_string().repeat(3);
    let end: &str = if quotes.starts_with(&triple) { &triple } else { &triple[..1] };
    let body = &quotes[end.len()..];
    let mut escaped = false;
    for (place, letter) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if letter == '\\' && !is_raw {
            escaped = true;
        } else if body[place..].starts_with(end) {
            return Some(prefix + end.len() + place + end.len());
        }
    }
    Some(rest.len())
}

/// The text with `has(` under a name that the parser has no macro for: its macro takes fields alone. Of the same length, so
/// that places stay.
pub(super) fn without_has_macro(text: &str) -> String {
    let pieces = pieces(text);
    let mut changed = String::with_capacity(text.len());
    let mut from = 0;
    for (place, piece) in pieces.iter().enumerate() {
        let is_member = place.checked_sub(1).is_some_and(|before| pieces[before].is("."));
        let is_called = pieces.get(place + 1).is_some_and(|next| next.is("("));
        if piece.is("has") && is_called && !is_member {
            changed.push_str(&text[from..piece.at]);
            changed.push_str(HAS);
            from = piece.end();
        }
    }
    changed.push_str(&text[from..]);
    changed
}

/// The text with whole numbers beyond 64 bits as numbers with an exponent, which the parser takes where it takes no digits more. Of the
/// same length, so that places stay; what they are is read where they stand.
pub(super) fn without_long_numbers(text: &str) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut from = 0;
    let pieces = pieces(text);
    for (place, piece) in pieces.iter().enumerate() {
        let beside = |at: Option<usize>| at.and_then(|at| pieces.get(at)).is_some_and(|piece| piece.is("."));
        let is_part = beside(place.checked_sub(1)) || beside(Some(place + 1));
        if piece.kind == Kind::Word && !is_part && is_long(piece.text) {
            changed.push_str(&text[from..piece.at]);
            changed.push_str(&piece.text[..piece.text.len() - 2]);
            changed.push_str("e0");
            from = piece.end();
        }
    }
    changed.push_str(&text[from..]);
    changed
}

/// Whether a word is a whole number beyond 64 bits.
pub(super) fn is_long(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit()) && word.len() > 18 && word.parse::<i64>().is_err()
}

/// Stands for `has` before the parser. Who writes it himself is told that there is no such function.
pub(super) const HAS: &str = "haS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_quotes_are_one_piece() {
        for (text, expected) in [
            ("a.b == 'it\\'s' && c", vec!["a", ".", "b", "==", "'it\\'s'", "&&", "c"]),
            (r"x == r'a\' + b", vec!["x", "==", r"r'a\'", "+", "b"]),
            ("'''has('x')'''==1", vec!["'''has('x')'''", "==", "1"]),
            ("\"a'b\"<>2", vec!["\"a'b\"", "<>", "2"]),
            ("'open", vec!["'open"]),
            ("a // has(x)\n= é", vec!["a", "=", "é"]),
            ("“x”", vec!["“", "x", "”"]),
            ("r == 1", vec!["r", "==", "1"]),
        ] {
            assert_eq!(pieces(text).iter().map(|piece| piece.text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn long_numbers_stay_where_they_are() {
        for (text, expected) in [
            ("n > 123456789012345678901", "n > 1234567890123456789e0"),
            ("n > 9223372036854775807", "n > 9223372036854775807"),
            (
                "n > -9223372036854775809 && '123456789012345678901'",
                "n > -92233720368547758e0 && '123456789012345678901'",
            ),
            (
                "123456789012345678901.5 == x1234567890123456789012",
                "123456789012345678901.5 == x1234567890123456789012",
            ),
        ] {
            assert_eq!(without_long_numbers(text), expected);
        }
    }

    #[test]
    fn has_is_renamed_where_it_is_the_function() {
        for (text, expected) in [
            ("has(x) && has (y)", "haS(x) && haS (y)"),
            ("'has(x)' == r'\\' && has(x)", "'has(x)' == r'\\' && haS(x)"),
            ("traits.has == 1 && x.has(y)", "traits.has == 1 && x.has(y)"),
            ("has", "has"),
        ] {
            assert_eq!(without_has_macro(text), expected);
        }
    }
}
