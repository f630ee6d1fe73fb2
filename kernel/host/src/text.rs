//! Responsible for making a guest's texts safe to log and to show: bounded, and without characters that steer a terminal,
//! forge a line or turn the direction of reading.

/// The longest text of a guest that is kept.
pub(crate) const MAX_TEXT_BYTES: usize = 4096;

/// `text`, cut to at most `max_bytes` at a character's end.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// Whether a character steers a terminal, ends a line or turns the direction of reading.
pub(crate) fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// `text`, bounded, with control and direction characters written as escapes.
pub(crate) fn bounded(text: &str) -> String {
    let kept = cut(text, MAX_TEXT_BYTES);
    let mut safe = String::with_capacity(kept.len());
    for letter in kept.chars() {
        if steers(letter) { safe.extend(letter.escape_default()) } else { safe.push(letter) }
    }
    if kept.len() < text.len() {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_harmless() {
        assert_eq!(bounded("a\r\n\u{1b}[31mé\u{202e}"), "a\\r\\n\\u{1b}[31mé\\u{202e}");
        let long = bounded(&"é".repeat(MAX_TEXT_BYTES));
        assert!(long.len() <= MAX_TEXT_BYTES + '…'.len_utf8() && long.ends_with('…'));
    }
}
