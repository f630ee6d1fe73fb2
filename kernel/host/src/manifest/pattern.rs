//! Responsible for how large a regular expression becomes: `\w{2700}` is eight bytes and 2,700 states, each of which is held in
//! memory and may be looked at for each letter. The count is about what the compiler makes of the text, and takes one pass over it;
//! what is wrong with the text is the compiler's to say.

/// States of what stands for nearly every letter: one for each form of a letter in UTF-8.
const NEARLY_ANY: u64 = 10;

/// States of a class of Unicode's, such as all letters.
const OF_UNICODE: u64 = 200;

/// A group that is open.
#[derive(Debug, Default)]
struct Open {
    /// Of what stands in it so far.
    states: u64,
    /// Of the last part, which a repetition would repeat.
    last: u64,
}

impl Open {
    fn add(&mut self, states: u64) {
        self.states = self.states.saturating_add(states);
        self.last = states;
    }

    fn repeat(&mut self, times: u64) {
        let more = self.last.saturating_mul(times.saturating_sub(1));
        self.states = self.states.saturating_add(more);
        self.last = self.last.saturating_add(more);
    }
}

/// How many states a pattern has about, with its repetitions written out. Whether a bracket within a class opens another one, the
/// dialects say otherwise; the reading that makes more of it holds.
pub(super) fn states(pattern: &str) -> u64 {
    states_where(pattern, false).max(states_where(pattern, true))
}

fn states_where(pattern: &str, classes_nest: bool) -> u64 {
    let (mut groups, mut open) = (Vec::new(), Open::default());
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '(' => groups.push(std::mem::take(&mut open)),
            ')' => {
                let closed = std::mem::replace(&mut open, groups.pop().unwrap_or_default());
                open.add(closed.states.saturating_add(1));
            }
            '[' => {
                let class = &rest[..class_bytes(rest, classes_nest)];
                rest = &rest[class.len()..];
                open.add(class_states(class));
            }
            '{' => match bounds(rest) {
                Some((times, bytes)) => {
                    rest = &rest[bytes..];
                    open.repeat(times);
                }
                None => open.add(1),
            },
            '*' | '+' | '?' => open.states = open.states.saturating_add(1),
            '\\' => {
                let escaped = rest.chars().next();
                rest = &rest[escaped.map_or(0, char::len_utf8)..];
                if let (Some('p' | 'P'), Some(end)) = (escaped, rest.find('}').filter(|_| rest.starts_with('{'))) {
                    rest = &rest[end + 1..];
                }
                open.add(match escaped {
                    Some('p' | 'P') => OF_UNICODE,
                    Some('W' | 'D' | 'S') => NEARLY_ANY,
                    _ => 1,
                });
            }
            '.' => open.add(NEARLY_ANY),
            _ => open.add(1),
        }
    }
    // What is open at the end is a mistake, and counts all the same.
    groups.iter().fold(open.states, |all, group| all.saturating_add(group.states))
}

fn class_states(class: &str) -> u64 {
    let of_unicode = (class.matches("\\p").count() + class.matches("\\P").count()) as u64;
    let is_wide =
        class.contains('^') || !class.is_ascii() || ["\\W", "\\D", "\\S"].iter().any(|wide| class.contains(wide));
    1 + of_unicode * OF_UNICODE + if is_wide { NEARLY_ANY } else { 0 }
}

/// How many bytes of a text belong to the class that has begun before it, its end included.
fn class_bytes(text: &str, classes_nest: bool) -> usize {
    let mut letters = text.char_indices();
    let mut depth = 0_usize;
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '[' if classes_nest => depth += 1,
            ']' if depth == 0 => return place + 1,
            ']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// How often at most a repetition repeats whose bounds begin a text (`3}`, `3,}`, `3,5}`), and how many bytes they take; nothing
/// where they are none.
fn bounds(text: &str) -> Option<(u64, usize)> {
    let end = text.find('}')?;
    let (least, most) = text[..end].split_once(',').map_or((&text[..end], None), |(least, most)| (least, Some(most)));
    let number = |text: &str| match text.trim() {
        "" => Some(0),
        // One that is too long for a number repeats more often than anything admits.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    let least = number(least)?;
    let times = match most {
        None => least,
        Some("") => least.saturating_add(1),
        Some(most) => number(most)?.max(least),
    };
    // What is repeated no time is compiled all the same.
    Some((times.max(1), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_as_what_they_stand_for() {
        for (pattern, least, most) in [
            ("", 0, 0),
            ("abc", 3, 3),
            ("^a+$", 3, 5),
            (r"\w{2700}x1", 2_700, 2_720),
            (r"(\w{50}){50}", 2_500, 2_700),
            (r"(?:(?:a{10}){10}){10}", 1_000, 1_500),
            (r"((((a{9}){9}){9}){9}){9}", 59_049, 120_000),
            ("a{3,}", 3, 5),
            ("a{,3}b", 3, 6),
            ("a{2,900}", 900, 910),
            ("[{]{5}", 5, 5),
            (r"[\]{9}]{5}", 5, 7),
            ("[[a-z]&&[b-d]]{100}", 100, 120),
            (r"[[a]\w{900}]", 900, 920),
            (r"^\p{L}+$", 200, 210),
            (r"\p{L}{5}", 1_000, 1_000),
            (r"[\p{L}\P{M}]{9}", 3_600, 3_700),
            (".{500}", 5_000, 5_000),
            ("[^@]{50}", 550, 550),
            (r"\{900}", 5, 6),
            ("a{b}", 4, 4),
            ("a{99999999999999999999}", u64::MAX, u64::MAX),
            ("((((a{1000}", 1_000, 1_010),
            ("))){5}", 3, 20),
        ] {
            let states = states(pattern);
            assert!((least..=most).contains(&states), "{pattern}: {states}");
        }
    }

    /// Whatever the text is, the count ends, and a text in front makes it no smaller.
    #[test]
    fn any_text_has_a_count() {
        const PARTS: [&str; 12] = ["(", ")", "[", "]", "{", "}", "{3}", "{2,5}", "\\", "é", "a", ",9"];
        for number in 0..PARTS.len().pow(4) {
            let parts = (0_u32..4).map(|place| PARTS[number / PARTS.len().pow(place) % PARTS.len()]);
            let text: String = parts.collect();
            assert!(states(&format!("b{text}")) >= states(&text), "{text}");
        }
    }
}
