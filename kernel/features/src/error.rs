//! What is wrong with an expression, and where.

use std::fmt;

/// Lines longer than this are cut around the place when they are shown.
const MAX_SHOWN_CHARS: usize = 100;

/// Why a text is not an expression that can be kept up to date. Its `Display` shows the line with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what to do, in one line.
    pub message: String,
    /// Place, message, the line and a caret.
    pub rendered: String,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for ExpressionError {}

impl ExpressionError {
    /// An error at a byte of the text.
    pub(crate) fn at_byte(text: &str, byte: usize, message: impl Into<String>) -> ExpressionError {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        ExpressionError::at(text, line, column, message)
    }

    /// An error at a line and column.
    pub(crate) fn at(text: &str, line: usize, column: usize, message: impl Into<String>) -> ExpressionError {
        let message = message.into();
        // One column for each character, so that the caret stands where it should.
        let shown: Vec<char> = text
            .lines()
            .nth(line - 1)
            .unwrap_or_default()
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let from = if shown.len() <= MAX_SHOWN_CHARS { 0 } else { column.saturating_sub(MAX_SHOWN_CHARS / 2) };
        let to = (from + MAX_SHOWN_CHARS).min(shown.len());
        let cut = |there: bool| if there { "…" } else { "" };
        let excerpt: String = shown[from.min(to)..to].iter().collect();
        let indent = " ".repeat(column - 1 - from.min(column - 1) + usize::from(from > 0));
        let rendered = format!(
            "line {line}, column {column}: {message}\n  {}{excerpt}{}\n  {indent}^",
            cut(from > 0),
            cut(to < shown.len())
        );
        ExpressionError { line, column, message, rendered }
    }
}
