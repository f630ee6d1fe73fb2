//! How deep lists and objects lie in each other, before anything is made of them.

/// Whether lists and objects lie more than `most` deep in each other in a JSON text. What is no JSON is another check's to find.
///
/// ```
/// assert!(kith_json::is_deeper_than(r#"{"a":[1]}"#, 1));
/// assert!(!kith_json::is_deeper_than(r#"{"a":"[[["}"#, 1));
/// ```
pub fn is_deeper_than(text: &str, most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
