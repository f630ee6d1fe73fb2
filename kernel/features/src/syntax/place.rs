//! Places in the text: where a part begins, and what the parser's own errors mean.

use cel::ParseErrors;
use cel::common::ast::{Expr, IdedExpr, SourceInfo};

use crate::error::ExpressionError;

/// The byte at which a part is best pointed at: the name of a call or a field, the sign of an operator.
pub(super) fn start_of(text: &str, info: &SourceInfo, expression: &IdedExpr) -> usize {
    let start = info.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
    let Some(rest) = text.get(start..) else { return 0 };
    match (&expression.expr, rest.chars().next()) {
        // Calls are marked at their parenthesis; the name stands before it.
        (Expr::Call(_) | Expr::Comprehension(_) | Expr::Select(_), Some('(')) => {
            let before = text[..start].trim_end();
            let name =
                before.chars().rev().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').count();
            before.len() - name
        }
        (Expr::Select(_), Some('.')) => start + 1 + (rest[1..].len() - rest[1..].trim_start().len()),
        _ => start,
    }
}

/// Where the operator after the first `max` ones stands, if there are so many. Texts in quotes are skipped, and signs in
/// a row such as `&&` or `>=` count once.
pub(super) fn surplus_operator(text: &str, max: usize) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut operators = 0;
    let mut last = b' ';
    for (byte, letter) in text.bytes().enumerate() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == b'\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if matches!(letter, b'\'' | b'"') => quote = Some(letter),
            None => {
                let joined = matches!((last, letter), (b'=' | b'!' | b'<' | b'>', b'=') | (b'&', b'&') | (b'|', b'|'));
                operators += usize::from(!joined && b"+-*/%.([{!<>=?&|".contains(&letter));
            }
        }
        last = letter;
        if operators > max {
            return Some(byte);
        }
    }
    None
}

/// The first of the parser's errors, in plain words.
pub(super) fn syntax_error(text: &str, errors: &ParseErrors) -> ExpressionError {
    let Some(error) = errors.errors.first() else {
        return ExpressionError::at(text, 1, 1, "this is not an expression");
    };
    let (line, column) = match error.pos {
        (line, column) if line > 0 && column > 0 => (line.unsigned_abs(), column.unsigned_abs()),
        _ => return ExpressionError::at(text, 1, 1, "the expression is nested too deeply"),
    };
    ExpressionError::at(text, line, column, plain_words(&error.msg))
}

fn plain_words(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    if message.contains("'<EOF>'") && !message.starts_with("extraneous") {
        return "the expression ends too early".into();
    }
    for (start, meaning) in [
        ("mismatched input '", "unexpected"),
        ("extraneous input '", "unexpected"),
        ("no viable alternative at input '", "unexpected"),
        ("token recognition error at: '", "unexpected character"),
    ] {
        if let Some(rest) = message.strip_prefix(start) {
            let input = rest.split("' expecting").next().unwrap_or(rest).trim_end_matches('\'');
            let input: String = input.chars().take(40).collect();
            return format!("{meaning} `{input}`");
        }
    }
    // The rest are the parser's own errors in their debug form, which says nothing to a reader.
    for (inside, meaning) in [
        ("Recursion limit", "the expression is nested too deeply"),
        ("invalid string literal", "a text is written in a way that is not known, e.g. with an escape such as `\\q`"),
        ("invalid bytes literal", "bytes are not supported; write a text"),
        ("Error {", "this is not an expression"),
        ("Error(", "this is not an expression"),
        ("Incomplete `", "the expression is not complete"),
    ] {
        if message.contains(inside) {
            return meaning.into();
        }
    }
    if message.starts_with("missing '") {
        return message.split(" at '").next().unwrap_or(message).replace('\'', "`");
    }
    message.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use crate::Expression;

    #[test]
    fn no_message_shows_the_parsers_own_types() {
        let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(300), close.repeat(300));
        for (text, expected) in [
            (nested("(", ")"), "nested too deeply"),
            (nested("[", "]"), "nested too deeply"),
            (nested("size(", ")"), "nested too deeply"),
            (r"traits.a == '\q'".to_owned(), "unexpected character"),
            (r"traits.a == '\u12'".to_owned(), ""),
            ("traits.a == b'\\xzz'".to_owned(), ""),
            ("1 ? ".to_owned(), "not complete"),
        ] {
            let message = Expression::parse(&text).err().unwrap().message;
            assert!(message.contains(expected), "{text}: {message}");
            for internal in ["Error", "{", "Context", "::"] {
                assert!(!message.contains(internal), "{text}: {message}");
            }
        }
    }
}
