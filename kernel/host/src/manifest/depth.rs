//! How deep the values of a TOML text lie in one another. The parser bounds tables in tables and names in one dotted key each
//! by itself; the two multiply, and whatever walks the result needs a stack for the product.

/// The deepest that a manifest's values may lie: a schema written by hand needs some twenty.
pub(super) const MAX_DEPTH: usize = 100;

/// The first byte at which a value would lie deeper than [`MAX_DEPTH`]. A text that is no TOML has some answer; what is read
/// as TOML afterwards is never deeper than was counted here.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let mut scan = Scan { header: 0, within: Vec::new(), depth: 0, names: 0, before_value: 0, is_header: false };
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at += match bytes[at] {
            b'#' => line_end(&bytes[at..]),
            quote @ (b'"' | b'\'') => quoted(&bytes[at..], quote),
            other => {
                if scan.take(other) > MAX_DEPTH {
                    return Some(at);
                }
                1
            }
        };
    }
    None
}

/// What is open at a place of the text.
struct Scan {
    /// Names of the header that the place stands under.
    header: usize,
    /// What each open bracket adds: itself, and the names before it.
    within: Vec<usize>,
    /// Their sum.
    depth: usize,
    /// Dots since the last name began.
    names: usize,
    /// Names of the key whose value comes.
    before_value: usize,
    is_header: bool,
}

impl Scan {
    /// Take a byte that is in no text and no comment; how deep the place behind it is.
    fn take(&mut self, byte: u8) -> usize {
        match byte {
            b'.' => self.names += 1,
            b'=' => (self.before_value, self.names) = (self.names + 1, 0),
            b'[' if self.within.is_empty() && self.before_value == 0 => (self.is_header, self.names) = (true, 0),
            b'{' | b'[' => {
                self.within.push(self.before_value + 1);
                self.depth += self.before_value + 1;
                (self.before_value, self.names) = (0, 0);
            }
            b'}' | b']' => {
                self.depth -= self.within.pop().unwrap_or_default();
                (self.before_value, self.names) = (0, if self.is_header { self.names } else { 0 });
            }
            b',' => (self.before_value, self.names) = (0, 0),
            b'\n' if self.is_header => {
                (self.header, self.is_header) = (self.names + 1, false);
                (self.names, self.before_value) = (0, 0);
            }
            b'\n' if self.within.is_empty() => (self.names, self.before_value) = (0, 0),
            _ => {}
        }
        let header = if self.is_header { 0 } else { self.header };
        header + self.depth + self.before_value + self.names
    }
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// How long the text in quotes is that begins here; one without an end goes to the end of its line or, in three quotes, of all.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let is_long = rest.starts_with(&[quote; 3]);
    let end = [quote; 3];
    let mut at = if is_long { 3 } else { 1 };
    while at < rest.len() {
        match rest[at] {
            b'\\' if quote == b'"' => at += 2,
            b'\n' if !is_long => return at,
            // A long text may end with one or two quotes of its own.
            _ if is_long && rest[at..].starts_with(&end) => {
                return at + rest[at..].iter().take(5).take_while(|byte| **byte == quote).count();
            }
            _ if rest[at] == quote && !is_long => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(tables: usize, names: usize) -> String {
        let key = vec!["a"; names].join(".");
        format!("x = {}1{}\n", format!("{{{key}=").repeat(tables), "}".repeat(tables))
    }

    #[test]
    fn tables_and_dotted_names_are_counted_together() {
        for (text, is_deep) in [
            (nested(79, 70), true),
            (nested(40, 70), true),
            (nested(10, 12), true),
            (nested(79, 1), true),
            (nested(40, 1), false),
            (nested(3, 20), false),
            (format!("[{}]\nx = 1\n", vec!["a"; 120].join(".")), true),
            (format!("[{}]\n{}", vec!["a"; 60].join("."), nested(15, 3)), true),
            (format!("[{}]\n{}", vec!["a"; 20].join("."), nested(15, 3)), false),
            (format!("{} = 1\n", vec!["a"; 120].join(".")), true),
            (format!("x = {}{}\n", "[".repeat(120), "]".repeat(120)), true),
            (format!("x = \"{}\"\ny = '{}'\n", "{a.b=".repeat(200), "[".repeat(200)), false),
            (format!("# {}\nx = '''\n{}\n'''\n", "{".repeat(200), "{".repeat(200)), false),
            (format!("x = [\"\"\" \"\"\"\", {{y={}}}]\n", nested(40, 70).trim().trim_start_matches("x = ")), true),
            (format!("x = [''' ''''', {{y={}}}]\n", nested(40, 70).trim().trim_start_matches("x = ")), true),
            (format!("x = [\"\", '', {{y={}}}]\n", nested(40, 70).trim().trim_start_matches("x = ")), true),
            ("x = 1.5\n".repeat(300), false),
            ("[[a.b]]\nx = [1.5, 2.5]\n[a.b.c]\ny = { z = 1.5, w = [{ q = 1 }] }\n".repeat(100), false),
        ] {
            assert_eq!(too_deep(&text).is_some(), is_deep, "{}", &text[..text.len().min(80)]);
        }
    }

    proptest! {
        /// What is let through is no deeper as a value than was counted.
        #[test]
        fn nothing_deeper_is_let_through(
            parts in prop::collection::vec(
                prop::sample::select(vec!["{a=", "{a.b.c=", "[", "]", "}", "1", "a", ".", "=", ",", "\n", "\"", "'", "\"\"\"", "'''", "\"\"\"\"", " ", "[a.b]\n", "x", "\\"]),
                0..400,
            ),
            before in prop::sample::select(vec!["", "1.5", "\"a\"", "\"\"\"a\"\"\"", "\"\"\"a\"\"\"\"", "\"\"\"a\"\"\"\"\"", "'''a''''", "'''a'''''", "''", "'\"'", "\"'\\\"\""]),
            (tables, names) in (0..90_usize, 1..90_usize),
        ) {
            let behind = format!("y = [{before}, {{ {} }}]\n", nested(tables, names).trim());
            for text in [parts.concat(), nested(tables, names), behind] {
                if too_deep(&text).is_none() && let Ok(value) = toml::from_str::<serde_json::Value>(&text) {
                    prop_assert!(depth_of(&value) <= MAX_DEPTH + 1);
                }
            }
        }
    }

    fn depth_of(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            serde_json::Value::Object(fields) => 1 + fields.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }
}
