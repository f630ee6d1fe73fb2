//! `kith consent`: what people said, and who must not be written to.

use serde_json::{Value, json};

use super::args::{ConsentCommand, IdentifierList};
use super::client::Client;
use super::output::{self, AnswerFormat, cut, field, section};
use super::{Failure, items, print_json, profile};

/// The widest value in a cell.
const MAX_CELL: usize = 60;

/// Identifiers that are sent at once; a body of the API has a MiB.
const AT_ONCE: usize = 1_000;

pub(crate) fn run(command: &ConsentCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        ConsentCommand::Show { person, from } => {
            let query = profile::parts_from(&["answers", "statements"], from)?;
            let id = field(&profile::find(client, person)?, "id");
            let answer = client.get(&format!("/api/v1/profiles/{id}/consent?{query}"))?;
            if format.is_json() { print_json(&answer) } else { output::say(report(&answer).trim_end()) }
        }
        ConsentCommand::List(part) => {
            output::say_list(&client.part("/api/v1/suppressions", &[], part)?, format, |listed| {
                let row = |item: &Value| ["digest", "type", "since", "reason"].map(|name| field(item, name)).to_vec();
                output::table(&["digest", "type", "since", "reason"], listed.iter().map(row).collect())
            })
        }
        ConsentCommand::Suppress { identifiers, reason } => {
            let identifiers = read(identifiers)?;
            if identifiers.len() > AT_ONCE {
                look_at(client, &identifiers)?;
            }
            let changed = send(client, "/api/v1/suppressions", &identifiers, Some(reason))?;
            done(format, changed, "suppressed", "on the list already, now with this reason")
        }
        ConsentCommand::Unsuppress { identifiers } => {
            let changed = send(client, "/api/v1/suppressions/remove", &read(identifiers)?, None)?;
            done(format, changed, "taken off the list", "not on it")
        }
        ConsentCommand::Check { identifiers } => {
            let mut checked = Vec::new();
            for part in read(identifiers)?.chunks(AT_ONCE) {
                let answer = client.post("/api/v1/suppressions/check", &json!({ "identifiers": part }))?;
                checked.extend_from_slice(items(&answer));
            }
            if format.is_json() { print_json(&json!({ "items": checked })) } else { output::say(check_table(&checked)) }
        }
    }
}

/// The identifiers of a list. All are looked at before the first is sent, so that a list is taken whole or not at all.
fn read(list: &IdentifierList) -> Result<Vec<String>, Failure> {
    let mut problems = Problems::default();
    let mut identifiers = Vec::with_capacity(list.identifiers.len());
    for text in &list.identifiers {
        problems.note("", text);
        identifiers.push(text.clone());
    }
    if let Some(path) = &list.file {
        let failed = |source| Failure::File { what: "read", path: path.clone(), source };
        let text = decoded(&std::fs::read(path).map_err(failed)?).map_err(failed)?;
        let mut lines = text.lines().map(unquoted).enumerate().filter(|(_, line)| !line.is_empty()).peekable();
        let heading = lines.peek().and_then(|(_, line)| heading(line));
        let lines = lines.skip(usize::from(heading.is_some()));
        for (index, line) in lines {
            let line = match heading {
                Some(Heading::Type(kind)) if !line.starts_with(&format!("{kind}:")) => format!("{kind}:{line}"),
                _ => line.to_owned(),
            };
            problems.note(&format!("{}, line {}: ", path.display(), index + 1), &line);
            identifiers.push(line);
        }
    }
    match problems.report() {
        Some(report) => Err(Failure::Usage(report)),
        None => Ok(identifiers),
    }
}

/// What the first line of a file says of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heading {
    /// Each has its type.
    Identifiers,
    /// They are values of this one.
    Type(&'static str),
}

/// The heading that a column of addresses or numbers has where it is exported.
fn heading(line: &str) -> Option<Heading> {
    let plain: String = line.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    Some(match plain.as_str() {
        "identifier" | "identifiers" => Heading::Identifiers,
        "email" | "mail" | "emailaddress" => Heading::Type("email"),
        "phone" | "phonenumber" | "mobile" => Heading::Type("phone"),
        "userid" => Heading::Type("user_id"),
        "anonymousid" => Heading::Type("anonymous_id"),
        _ => return None,
    })
}

/// The text of a file: UTF-8, or UTF-16 as spreadsheets write it, with a mark in front or without.
fn decoded(bytes: &[u8]) -> std::io::Result<String> {
    type ToUnit = fn([u8; 2]) -> u16;
    let unit: Option<ToUnit> = match bytes {
        [0xff, 0xfe, ..] | [1..=u8::MAX, 0, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] | [0, 1..=u8::MAX, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    let invalid = |problem: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, problem.to_owned());
    let text = match unit {
        None => String::from_utf8(bytes.to_vec()).map_err(|_| invalid("it is neither UTF-8 nor UTF-16")),
        Some(unit) => {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
            String::from_utf16(&units).map_err(|_| invalid("it is no UTF-16"))
        }
    };
    text.map(|text| text.trim_start_matches('\u{feff}').to_owned())
}

/// A cell of a file with one column, without the quotes around it.
fn unquoted(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(line).trim()
}

/// Have all parts of a list looked at before the first changes anything.
fn look_at(client: &Client, identifiers: &[String]) -> Result<(), Failure> {
    for part in identifiers.chunks(AT_ONCE) {
        client.post("/api/v1/suppressions", &json!({ "identifiers": part, "dry_run": true }))?;
    }
    Ok(())
}

/// Problems that are shown one by one.
const MAX_PROBLEMS: usize = 20;

/// Which texts are no identifiers, and where they stand.
#[derive(Default)]
struct Problems {
    shown: Vec<String>,
    count: usize,
}

impl Problems {
    fn note(&mut self, place: &str, text: &str) {
        let Some(problem) = problem(text) else { return };
        self.count += 1;
        if self.shown.len() < MAX_PROBLEMS {
            self.shown.push(format!("{place}`{}` {problem}", cut(text, MAX_CELL)));
        }
    }

    fn report(self) -> Option<String> {
        let more = match self.count.checked_sub(self.shown.len()) {
            Some(0) | None => String::new(),
            Some(more) => format!("\n  and {} more", output::count(more as u64)),
        };
        let what = if self.count == 1 { "one is no identifier" } else { "some are no identifiers" };
        (self.count > 0).then(|| format!("{what}, and nothing was sent:\n  {}{more}", self.shown.join("\n  ")))
    }
}

/// Why a text is no `TYPE:VALUE`.
fn problem(text: &str) -> Option<&'static str> {
    let Some((kind, value)) = text.split_once(':') else {
        return Some(match text.contains('@') {
            true => "has no type; write it as email:ADDRESS",
            false => "has no type; write it as TYPE:VALUE, e.g. phone:+15550100",
        });
    };
    let is_of_kind = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !(1..=64).contains(&kind.len()) || !kind.bytes().all(is_of_kind) {
        return Some(
            "has no type before the colon: types have small letters, digits and `_`, e.g. email:ada@example.com",
        );
    }
    value.trim().is_empty().then_some("has no value behind the colon")
}

/// What became of identifiers that were sent.
#[derive(Default)]
struct ListChange {
    changed: u64,
    /// Those that were on the list before they were put on it, or were not when they were taken off.
    already: u64,
}

/// Send identifiers in parts.
fn send(client: &Client, path: &str, identifiers: &[String], reason: Option<&String>) -> Result<ListChange, Failure> {
    let mut all = ListChange::default();
    for part in identifiers.chunks(AT_ONCE) {
        let mut body = json!({ "identifiers": part });
        if let Some(reason) = reason {
            body["reason"] = json!(reason);
        }
        let answer = client.post(path, &body)?;
        all.changed += output::number(&answer, "changed");
        all.already += output::number(&answer, "already");
    }
    Ok(all)
}

fn done(format: AnswerFormat, done: ListChange, changed: &str, already: &str) -> Result<(), Failure> {
    if format.is_json() {
        return print_json(&json!({ "changed": done.changed, "already": done.already }));
    }
    let already = match done.already {
        0 => String::new(),
        some => format!(", {} {already}", output::count(some)),
    };
    output::say(format_args!("{} {changed}{already}", output::count(done.changed)))
}

fn report(answer: &Value) -> String {
    let mut text = format!("profile {}\n", field(answer, "profile"));
    for (name, what) in [("objection", "objects to profiling"), ("suppressed", "gets nothing")] {
        if let Some(reason) = answer.get(name).and_then(Value::as_str) {
            text.push_str(&format!("{what}: {reason}\n"));
        }
    }
    let rows = |name: &str| answer.get(name).and_then(Value::as_array).into_iter().flatten();
    let answers = rows("answers").map(|answer| {
        let key = answer.get("purpose").and_then(Value::as_str).unwrap_or("*");
        let said = said(answer, "allowed");
        vec![
            key.to_owned(),
            said,
            cut(&whose(answer), MAX_CELL),
            field(answer, "received_at"),
            field(answer, "source"),
            field(answer, "message_id"),
        ]
    });
    section(&mut text, &["consent", "answer", "whose", "received", "source", "event"], answers.collect());
    for answer in rows("answers") {
        let key = answer.get("purpose").and_then(Value::as_str).unwrap_or("*");
        let in_force = answer.get("in_force").and_then(Value::as_bool).unwrap_or_default();
        let counts = if in_force { "in force" } else { "not in force" };
        let (why, until) = (field(answer, "why"), field(answer, "until"));
        text.push_str(&format!("\n`{key}` of {}: {counts}; {why}\n  until: {until}\n", whose(answer)));
    }
    let statements = rows("statements").flat_map(|statement| {
        let said_of = statement.get("said").and_then(Value::as_array).into_iter().flatten();
        said_of.map(move |part| {
            let why = part.get("why").and_then(Value::as_str).unwrap_or("counted");
            vec![
                field(statement, "received_at"),
                cut(&whose(statement), MAX_CELL),
                field(part, "key"),
                said(part, "allows"),
                field(statement, "source"),
                field(statement, "message_id"),
                why.to_owned(),
            ]
        })
    });
    let header = ["received", "said under", "of", "answer", "source", "event", "outcome"];
    section(&mut text, &header, statements.collect());
    let overwritten = output::number(answer, "overwritten");
    if overwritten > 0 {
        text.push_str(&format!("\n{} older statements are not kept\n", output::count(overwritten)));
    }
    text += &profile::left_out(answer, &format!("kith consent show {}", field(answer, "profile")));
    text
}

/// The identifier that something was said under.
fn whose(said: &Value) -> String {
    let identifier = said.get("identifier").filter(|found| found.is_object());
    identifier.map_or_else(String::new, |found| format!("{}:{}", field(found, "type"), field(found, "value")))
}

fn said(part: &Value, name: &str) -> String {
    let is_allowed = part.get(name).and_then(Value::as_bool).unwrap_or_default();
    if is_allowed { "allowed".to_owned() } else { cut(&format!("refused: {}", field(part, "said")), MAX_CELL) }
}

fn check_table(checked: &[Value]) -> String {
    let rows = checked.iter().map(|item| {
        let is_suppressed = item.get("suppressed").and_then(Value::as_bool).unwrap_or_default();
        let standing = if is_suppressed { "suppressed" } else { "not on the list" };
        vec![field(item, "identifier"), standing.to_owned(), field(item, "since"), field(item, "reason")]
    });
    output::table(&["identifier", "standing", "since", "reason"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_each_statement_with_what_became_of_it() {
        let answer = json!({
            "profile": "0190",
            "objection": "consent for `profiling` is refused",
            "answers": [{ "identity": "0190", "purpose": "news", "allowed": false, "said": "false",
                "identifier": { "type": "user_id", "value": "ada" }, "in_force": true,
                "why": "nothing newer agrees to `news`", "until": "an agreement to `news`",
                "received_at": "2026-11-20T10:00:00.000Z", "source": "segment", "message_id": "m1" }],
            "statements": [{ "identity": "0190", "identifier": { "type": "user_id", "value": "ada" },
                "received_at": "2026-11-20T10:00:00.000Z", "source": "segment", "message_id": "m2",
                "said": [{ "key": "news", "allows": true, "counted": false, "why": "something was said that is newer" }] }],
            "overwritten": 3,
        });
        insta::assert_snapshot!(report(&answer), @r"
        profile 0190
        objects to profiling: consent for `profiling` is refused

         consent   answer           whose         received                   source    event
        ─────────────────────────────────────────────────────────────────────────────────────
         news      refused: false   user_id:ada   2026-11-20T10:00:00.000Z   segment   m1

        `news` of user_id:ada: in force; nothing newer agrees to `news`
          until: an agreement to `news`

         received                   said under    of     answer    source    event   outcome
        ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
         2026-11-20T10:00:00.000Z   user_id:ada   news   allowed   segment   m2      something was said that is newer

        3 older statements are not kept
        ");
    }

    /// Whatever stands in the lines, those that are no identifiers are named by their lines, and nothing is taken.
    #[test]
    fn lines_that_are_no_identifiers_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let fine = ["email:ada@example.com", "", "  phone:+15550100  ", "my_id:a:b"];
        let wrong = ["ada@example.com", "+15550100", "email:", ":x", "E-mail:x", "email"];
        for count in 0..=wrong.len() {
            let lines = fine.iter().chain(&wrong[..count]).copied().collect::<Vec<_>>().join("\r\n");
            std::fs::write(&path, format!("\u{feff}{lines}")).unwrap();
            let list = IdentifierList { identifiers: vec!["user_id:7".into()], file: Some(path.clone()) };
            match read(&list) {
                Ok(read) => assert_eq!((count, read.len()), (0, 4)),
                Err(Failure::Usage(report)) => {
                    for (place, text) in wrong[..count].iter().enumerate() {
                        let line = fine.len() + place + 1;
                        assert!(report.contains(&format!("line {line}: `{text}`")), "{report}");
                    }
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        // Spreadsheets write a heading, quotes, and UTF-16.
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        for (text, expected) in [
            ("email\r\nada@example.com\r\n\"bob@example.com\"\r\n", ["email:ada@example.com", "email:bob@example.com"]),
            ("E-Mail\nada@example.com\nemail:bob@example.com", ["email:ada@example.com", "email:bob@example.com"]),
            ("Phone\n+15550100\n+15550101\n", ["phone:+15550100", "phone:+15550101"]),
            ("identifier\nemail:ada@example.com\nuser_id:email\n", ["email:ada@example.com", "user_id:email"]),
            ("\n\nuser_id\n\n7\na:b", ["user_id:7", "user_id:a:b"]),
        ] {
            let marked = format!("\u{feff}{text}");
            let forms = [text.as_bytes().to_vec(), marked.as_bytes().to_vec(), little(&marked), big(&marked)];
            let bare = [little(text.trim_start()), big(text.trim_start())];
            for bytes in forms.into_iter().chain(bare) {
                std::fs::write(&path, &bytes).unwrap();
                let list = IdentifierList { identifiers: Vec::new(), file: Some(path.clone()) };
                assert_eq!(read(&list).unwrap(), expected, "{bytes:?}");
            }
        }
        std::fs::write(&path, b"email\n\xff\xffx").unwrap();
        let list = IdentifierList { identifiers: Vec::new(), file: Some(path.clone()) };
        assert!(matches!(read(&list), Err(Failure::File { .. })));
        std::fs::write(&path, "x\n".repeat(50)).unwrap();
        let list = IdentifierList { identifiers: Vec::new(), file: Some(path) };
        assert!(read(&list).unwrap_err().to_string().ends_with("and 30 more"));
    }
}
