//! Regular expressions: of linear time in the text, compiled once, where the condition is written.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// The most memory that one takes: a hundred alternatives are some ten kilobytes, `\\w{1000}` is some megabytes.
const MAX_BYTES: usize = 256 << 10;

/// A regular expression; two are equal where they are written alike.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with it, in one line.
    pub(crate) fn parse(text: &Arc<str>) -> Result<Pattern, String> {
        let built = RegexBuilder::new(text).size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES).nest_limit(50).build();
        match built {
            Ok(regex) => Ok(Pattern { text: text.clone(), regex }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("this pattern takes too much memory; repeat less, e.g. `{1,20}`, or use several".into())
            }
            Err(error) => {
                // The library draws the place over several lines; its last one says what is wrong.
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(format!("this pattern is not understood: {reason}"))
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is found anywhere in the text.
    pub(crate) fn is_found_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}
