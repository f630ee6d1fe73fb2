//! Responsible for what a manifest's texts may be, each by itself: words that people read, licences, names of events, hosts. Of a
//! manifest that was admitted before there were these checks nothing is asked anew.

use std::ops::Range;

use kith_model::event::MAX_EVENT_NAME_BYTES;
use kith_model::plugin::purpose_problem;

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

/// What to write in place of TOML that does not read: its parser says what it met, and not what somebody meant.
pub(super) fn toml_remedy(problem: &str) -> &'static str {
    if problem.contains("duplicate key") {
        return "leave one of the two, or give one another name";
    }
    "write it as TOML: `key = \"text\"`, `key = 5`, `key = [\"text\"]` or `[table]`"
}

/// How many lines a text may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    One,
    Several,
}

/// What a text is that is no SPDX expression, with what to write: ids joined by AND, OR and WITH, with parentheses. Ids are those that
/// SPDX lists, also those that it would have replaced; `LicenseRef-` names a vendor's own.
pub(super) fn license_problem(text: &str) -> Option<String> {
    let (mut open, mut next, mut unlisted) = (0_usize, Next::Licence, None);
    for token in text.replace('(', " ( ").replace(')', " ) ").split(' ').filter(|token| !token.is_empty()) {
        next = match (token, next) {
            ("(", Next::Licence) => {
                open += 1;
                Next::Licence
            }
            (")", Next::Join) if open > 0 => {
                open -= 1;
                Next::Join
            }
            ("WITH", Next::Join) => Next::Exception,
            ("AND" | "OR", Next::Join) => Next::Licence,
            (id, Next::Licence) if is_listed(id) => Next::Join,
            (id, Next::Exception) if is_listed_exception(id) => Next::Join,
            (id, Next::Licence | Next::Exception) if has_form_of_id(id) => {
                unlisted.get_or_insert_with(|| unlisted_problem(id, next));
                Next::Join
            }
            _ => return Some(malformed_problem(text)),
        };
    }
    if open > 0 || next != Next::Join { Some(malformed_problem(text)) } else { unlisted }
}

fn malformed_problem(text: &str) -> String {
    format!("`{}` is no SPDX expression; write e.g. \"Apache-2.0\" or \"MIT OR Apache-2.0\"", bounded(text))
}

/// What may follow in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Licence,
    Exception,
    Join,
}

/// Whether SPDX lists a licence, or whoever wrote the id has it as its own.
fn is_listed(id: &str) -> bool {
    // `+` stands for later versions, once.
    let bare = id.strip_suffix('+').unwrap_or(id);
    !bare.ends_with('+') && spdx::license_id(bare).is_some() || has_ref(id, "LicenseRef-")
}

fn is_listed_exception(id: &str) -> bool {
    spdx::exception_id(id).is_some() || has_ref(id, "AdditionRef-")
}

/// Whether an id is one of somebody's own, of this document or of another one.
fn has_ref(id: &str, prefix: &str) -> bool {
    let is_own = |id: &str| id.strip_prefix(prefix).is_some_and(is_idstring);
    match id.strip_prefix("DocumentRef-").and_then(|rest| rest.split_once(':')) {
        Some((document, rest)) => is_idstring(document) && is_own(rest),
        None => is_own(id),
    }
}

fn is_idstring(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

fn has_form_of_id(id: &str) -> bool {
    !JOINS.iter().any(|join| join.eq_ignore_ascii_case(id))
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

/// What is said of an id that SPDX does not list.
fn unlisted_problem(id: &str, place: Next) -> String {
    if place == Next::Exception {
        return format!("`{id}` is no exception that SPDX lists (https://spdx.org/licenses/exceptions-index.html)");
    }
    let names = || spdx::identifiers::LICENSES.iter().map(|license| license.name);
    let same = names().find(|name| name.eq_ignore_ascii_case(id));
    match same
        .or_else(|| spdx::imprecise_license_id(id).filter(|(_, length)| *length == id.len()).map(|(id, _)| id.name))
    {
        Some(near) => format!("`{id}` is no licence that SPDX lists; did you mean `{near}`?"),
        None => format!(
            "`{id}` is no licence that SPDX lists (https://spdx.org/licenses); write the id of one that is, or `LicenseRef-{id}` for \
             a licence of your own"
        ),
    }
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

/// The purposes that a channel carries messages for; `None` where the manifest says nothing of them.
pub(super) fn read_purposes(section: &Section<'_, '_>) -> Option<Vec<String>> {
    section.table.get("purposes")?;
    let names = section.required_texts("purposes", "one purpose at least, or leave it out for every one");
    for (name, place) in &names {
        if let Some(problem) = purpose_problem(name) {
            section.notes.add(place, format!("`{}` in `purposes` {problem}", bounded(name)));
        }
    }
    note_doubles(section, "purposes", &names);
    Some(names.into_iter().map(|(name, _)| name.to_owned()).collect())
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
            "GPL-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR Apache-2.0",
            "(MIT AND BSD-3-Clause) OR GPL-2.0-or-later WITH Classpath-exception-2.0",
            "GPL-2.0+",
            "LicenseRef-acme",
            "DocumentRef-a:LicenseRef-b",
        ] {
            assert_eq!(license_problem(license), None, "{license}");
        }
        for other in [
            "MIT/Apache-2.0",
            "MIT OR",
            "OR MIT",
            "(MIT",
            "MIT)",
            "",
            "MIT,",
            "()",
            "see LICENSE",
            "Foo 2.0",
            "MIT with x",
        ] {
            let problem = license_problem(other).unwrap_or_else(|| panic!("{other}"));
            assert!(problem.contains("is no SPDX expression; write e.g."), "{problem}");
        }
    }

    #[test]
    fn a_licence_is_one_that_spdx_lists_or_somebodys_own() {
        for (license, words) in [
            ("Foo", "`Foo` is no licence that SPDX lists (https://spdx.org/licenses)"),
            ("Foo", "or `LicenseRef-Foo` for a licence of your own"),
            ("MIT OR Foo", "`Foo` is no licence"),
            ("apache-2.0", "did you mean `Apache-2.0`?"),
            ("Apache", "did you mean `Apache-2.0`?"),
            ("MIT++", "`MIT++` is no licence"),
            ("LicenseRef-", "`LicenseRef-` is no licence"),
            ("MIT WITH Foo", "`Foo` is no exception that SPDX lists"),
        ] {
            let problem = license_problem(license).unwrap_or_else(|| panic!("{license}"));
            assert!(problem.contains(words), "{problem}");
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
