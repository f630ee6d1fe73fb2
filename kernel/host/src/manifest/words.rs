//! Responsible for what a manifest's texts may be, each by itself: words that people read, licences, names of events, hosts. Of a
//! manifest that was admitted before there were these checks nothing is asked anew.

use std::ops::Range;

use kith_model::event::MAX_EVENT_NAME_BYTES;

use super::reader::{Reading, Section};
use crate::text::{bounded, steers};

/// What joins the licences of an expression.
const JOINS: [&str; 3] = ["AND", "OR", "WITH"];

/// Any name of an event.
const ANY_EVENT: &str = "*";

/// Whether a text may stand where people read it. One of several lines may have line breaks and tabs; nothing may steer a terminal or
/// turn the direction of reading.
pub(super) fn is_readable(text: &str, lines: Lines) -> bool {
    let is_break = |letter: char| lines == Lines::Several && matches!(letter, '\n' | '\r' | '\t');
    text.chars().all(|letter| is_break(letter) || !steers(letter))
}

/// How many lines a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    One,
    Several,
}

/// Whether a text has the form of an SPDX expression: ids joined by AND, OR and WITH, with parentheses. Which ids there are is not
/// looked up, because new ones come and `LicenseRef-` names a vendor's own.
pub(super) fn is_license(text: &str) -> bool {
    let (mut open, mut is_id_next) = (0_usize, true);
    for token in text.replace('(', " ( ").replace(')', " ) ").split(' ').filter(|token| !token.is_empty()) {
        match (token, is_id_next) {
            ("(", true) => open += 1,
            (")", false) if open > 0 => open -= 1,
            (join, false) if JOINS.contains(&join) => is_id_next = true,
            (id, true) if is_license_id(id) => is_id_next = false,
            _ => return false,
        }
    }
    open == 0 && !is_id_next
}

fn is_license_id(id: &str) -> bool {
    !JOINS.iter().any(|join| join.eq_ignore_ascii_case(id))
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+:".contains(&byte))
}

/// The names of events that a plugin may emit, each as an event may have it.
pub(super) fn read_emits(section: &Section<'_, '_>) -> Vec<String> {
    let names = section.texts("emits");
    if section.notes.reading() == Reading::New {
        for (name, place) in &names {
            if let Some(problem) = event_name_problem(name) {
                section.notes.add(place, format!("`emits` in [capabilities] has {problem}"));
            } else if names.len() > 1 && *name == ANY_EVENT {
                section.notes.add(place, "`*` in `emits` stands for any event; leave it or the names out");
            }
        }
        note_doubles(section, "emits", &names);
    }
    names.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// What a text is that is no name of an event, with what to write.
fn event_name_problem(name: &str) -> Option<String> {
    let shown = bounded(name);
    if name.trim().is_empty() {
        return Some("an empty name; write the name of an event".to_owned());
    }
    if name.len() > MAX_EVENT_NAME_BYTES {
        return Some(format!(
            "a name of {} bytes; write at most {MAX_EVENT_NAME_BYTES}, the most that an event's has",
            name.len()
        ));
    }
    if !is_readable(name, Lines::One) {
        return Some(format!("`{shown}`, with control characters; write the name without them"));
    }
    if name.trim() != name {
        return Some(format!("`{shown}`, with spaces around it; write `{}`", name.trim()));
    }
    if name != ANY_EVENT && name.contains(ANY_EVENT) {
        return Some(format!("`{shown}`, and no patterns are read: write the names, or `*` alone for any"));
    }
    None
}

/// Note each text of a list that stands there a second time.
pub(super) fn note_doubles(section: &Section<'_, '_>, key: &str, texts: &[(&str, Range<usize>)]) {
    for (index, (text, place)) in texts.iter().enumerate() {
        if texts[..index].iter().any(|(before, _)| before == text) {
            section.notes.add(place, format!("`{}` stands in `{key}` twice; remove one", bounded(text)));
        }
    }
}

/// The same of a list in which a manifest that was admitted before may have doubles.
pub(super) fn note_doubles_in_new(section: &Section<'_, '_>, key: &str, texts: &[(&str, Range<usize>)]) {
    if section.notes.reading() == Reading::New {
        note_doubles(section, key, texts);
    }
}

/// Whether a secret may be wanted at a host that the plugin asks to reach. Both may be patterns.
pub(super) fn is_asked_for(host: &str, asked: &[&str]) -> bool {
    asked.iter().any(|asked| covers(asked, host) || covers(host, asked))
}

/// Whether a pattern stands for a host, or for all that another pattern does.
fn covers(pattern: &str, host: &str) -> bool {
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    pattern == "*" || pattern == host || pattern.strip_prefix("*.").is_some_and(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_has_the_form_of_an_expression() {
        for license in [
            "Apache-2.0",
            "MIT OR Apache-2.0",
            "(MIT AND BSD-3-Clause) OR GPL-2.0-or-later WITH Classpath-exception-2.0",
            "GPL-2.0+",
            "LicenseRef-acme",
            "DocumentRef-a:LicenseRef-b",
        ] {
            assert!(is_license(license), "{license}");
        }
        for other in
            ["Apache 2.0", "MIT/Apache-2.0", "see LICENSE", "MIT OR", "OR MIT", "(MIT", "MIT)", "", "MIT,", "()"]
        {
            assert!(!is_license(other), "{other}");
        }
    }

    #[test]
    fn patterns_of_hosts_cover_what_they_stand_for() {
        for (pattern, host, does) in [
            ("*", "a.example", true),
            ("a.example", "a.example", true),
            ("*.example", "a.example", true),
            ("*.example", "*.a.example", true),
            ("*.example", "example", false),
            ("*.example", "anexample", false),
            ("a.example", "b.example", false),
            ("a.example", "*", false),
        ] {
            assert_eq!(covers(pattern, host), does, "{pattern} {host}");
        }
    }
}
