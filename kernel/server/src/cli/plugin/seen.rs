//! `kith plugin usage|logs`: what an installation's calls do, without the operator's log.

use std::time::Duration;

use kith_model::id::Name;
use serde_json::{Value, json};

use super::remote::path;
use crate::cli::client::{ApiError, Client, pause};
use crate::cli::output::{self, AnswerFormat, field, number};
use crate::cli::{Failure, items, print_json};

/// How often new lines are asked for.
const LOOK: Duration = Duration::from_millis(1_000);

/// Whether lines that come later are shown too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    No,
    Yes,
}

impl Follow {
    pub(super) fn from_flag(follow: bool) -> Follow {
        if follow { Follow::Yes } else { Follow::No }
    }
}

/// Show the latest lines and, where they are followed, each that comes, until the command is stopped. As JSON what is followed is
/// one object to a line.
pub(super) fn logs(
    client: &Client,
    installation: &Name,
    limit: u64,
    follow: Follow,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let mut tail = Tail::begin(client, installation, limit)?;
    if follow == Follow::No {
        if format.is_json() {
            return print_json(&tail.answer);
        }
        return match tail.lines() {
            [] => output::say("nothing is logged since the server began"),
            lines => output::say(lines.iter().map(line).collect::<Vec<_>>().join("\n")),
        };
    }
    loop {
        tail.show(format)?;
        if tail.lines().is_empty() {
            pause(LOOK);
        }
        tail.look(format)?;
    }
}

/// The lines of an installation, as they come.
pub(super) struct Tail<'a> {
    client: &'a Client,
    path: String,
    /// What the server said last.
    answer: Value,
    /// Since when its lines are numbered.
    since: String,
    /// Whether the server answered the last look.
    server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Answers,
    IsAway,
}

impl<'a> Tail<'a> {
    /// Begin with so many of the latest lines.
    pub(super) fn begin(client: &'a Client, installation: &Name, limit: u64) -> Result<Tail<'a>, Failure> {
        let path = format!("{}/logs", path(installation));
        let answer = client.get(&format!("{path}?limit={limit}"))?;
        let since = field(&answer, "since");
        Ok(Tail { client, path, answer, since, server: Server::Answers })
    }

    /// Begin with the first line of an installation that is not there yet.
    pub(super) fn from_start(client: &'a Client, installation: &Name) -> Tail<'a> {
        let path = format!("{}/logs", path(installation));
        Tail { client, path, answer: Value::Null, since: String::new(), server: Server::Answers }
    }

    /// The same without the lines so far.
    pub(super) fn passed(mut self) -> Tail<'a> {
        self.answer["items"] = json!([]);
        self
    }

    fn lines(&self) -> &[Value] {
        items(&self.answer)
    }

    /// Show the lines of the last look; to people equal ones that follow each other as one.
    pub(super) fn show(&self, format: AnswerFormat) -> Result<(), Failure> {
        if format.is_json() {
            return self.lines().iter().try_for_each(output::say);
        }
        grouped(self.lines()).into_iter().try_for_each(output::say)
    }

    /// Look for lines that came since. A server that is being started again is waited for: until it answers there are none.
    pub(super) fn look(&mut self, format: AnswerFormat) -> Result<(), Failure> {
        match self.look_once(format) {
            Err(Failure::Api(error)) if is_away(&error) => {
                if self.server == Server::Answers {
                    output::tell(&format!("{error}; it is asked again"), format);
                }
                self.server = Server::IsAway;
                if self.answer.is_object() {
                    self.answer["items"] = json!([]);
                }
                Ok(())
            }
            looked => {
                self.server = Server::Answers;
                looked
            }
        }
    }

    fn look_once(&mut self, format: AnswerFormat) -> Result<(), Failure> {
        let (path, next) = (&self.path, number(&self.answer, "next"));
        self.answer = self.client.get(&format!("{path}?limit=500&from={next}"))?;
        // The server was started again, and so were the numbers.
        if field(&self.answer, "since") != self.since {
            self.answer = self.client.get(&format!("{path}?limit=500&from=0"))?;
            self.since = field(&self.answer, "since");
        }
        let gone = number(&self.answer, "gone");
        if gone > 0 {
            output::tell(&format!("{} lines came too fast to be kept", output::count(gone)), format);
        }
        Ok(())
    }
}

/// Whether a server may answer later that did not now: it stops, is started, or has too much to do.
fn is_away(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } | ApiError::Broken { .. } => true,
        ApiError::Refused(problem) => problem.http_status == 503,
        ApiError::Address { .. } | ApiError::OtherProtocol { .. } | ApiError::NotJson { .. } => false,
    }
}

/// Lines as people read them: of equal ones that follow each other the first, and how many there were up to when.
fn grouped(lines: &[Value]) -> Vec<String> {
    let alike = |one: &Value, other: &Value| one["level"] == other["level"] && one["text"] == other["text"];
    let shown = lines.chunk_by(alike).map(|group| match group {
        [first, .., last] => {
            format!("{} ({} times up to {})", line(first), output::count(group.len() as u64), field(last, "at"))
        }
        group => group.iter().map(line).collect(),
    });
    shown.collect()
}

fn line(line: &Value) -> String {
    // A text of several lines does not look like several.
    let text = field(line, "text").replace('\n', "\n    ");
    format!("{} {:<5} {text}", field(line, "at"), field(line, "level"))
}

pub(super) fn usage_table(usage: &Value) -> String {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let counted = |name: &str| output::count(number(usage, name));
    let seconds = |value: &Value| output::seconds(Duration::from_secs_f64(value.as_f64().unwrap_or_default().max(0.0)));
    let ms = |name: &str| format!("{:.1} ms", usage["call_ms"][name].as_f64().unwrap_or_default());
    let faults = ["plugin", "request", "peer", "host"]
        .map(|owner| (owner, number(&usage["faults"], owner)))
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(owner, count)| format!("{} of the {owner}", output::count(count)))
        .collect::<Vec<_>>();
    let mut rows = vec![
        row("counted since", field(usage, "since")),
        row("calls", counted("calls")),
        row("half of them within", ms("p50")),
        row("99 of 100 within", ms("p99")),
        row("the longest", ms("longest")),
        row("processor time", seconds(&usage["cpu_seconds"])),
        row("most memory of a call", output::size(number(usage, "memory_peak_bytes"))),
        row("calls to the host", counted("host_calls")),
    ];
    for (name, what) in [("rows", "rows"), ("fuel", "fuel"), ("state_writes", "writes to its state")] {
        if number(usage, name) > 0 {
            rows.push(row(what, counted(name)));
        }
    }
    if number(usage, "requests") > 0 {
        let [sent, received] = ["sent_bytes", "received_bytes"].map(|name| output::size(number(usage, name)));
        rows.push(row("requests", format!("{}, {sent} sent, {received} received", counted("requests"))));
    }
    let cut = number(usage, "log_lines_cut");
    let cut = if cut > 0 { format!(", {} of them cut", output::count(cut)) } else { String::new() };
    rows.push(row("lines logged", format!("{}{cut}", counted("log_lines"))));
    rows.push(row("faults", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") }));
    let last = &usage["last_fault"];
    if last.is_object() {
        let [at, plugin, code] = ["at", "plugin", "code"].map(|name| field(last, name));
        let message = match last["message"].as_str() {
            Some(message) => output::visible(message),
            None => "its words need profiles:read and, where something is sensitive, sensitive:read".to_owned(),
        };
        rows.push(row("the last one", format!("{at}, {plugin}, {}", output::coded(&code, &message))));
    }
    output::table(&["what", "value"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_shown_with_the_last_fault() {
        let usage = json!({
            "since": "2026-11-21T10:00:00.000Z", "calls": 12_345, "rows": 0,
            "faults": { "plugin": 2, "request": 0, "peer": 1, "host": 0 },
            "last_fault": { "at": "2026-11-21T11:00:00.000Z", "plugin": "acme/rank@1.0.0", "code": "trap", "owner": "plugin",
                "message": "trapped: index out of bounds" },
            "cpu_seconds": 3.25, "call_ms": { "p50": 0.383, "p99": 4.6, "longest": 210.0 }, "memory_peak_bytes": 1_310_720,
            "host_calls": 90, "fuel": 0, "state_writes": 0, "state_written_bytes": 0, "requests": 3, "sent_bytes": 1_024,
            "received_bytes": 2_048, "log_lines": 2_000, "log_lines_cut": 635,
        });
        insta::assert_snapshot!(usage_table(&usage), @r"
         what                    value
        ───────────────────────────────────────────────────────────────────────────────────────────────────────
         counted since           2026-11-21T10:00:00.000Z
         calls                   12,345
         half of them within     0.4 ms
         99 of 100 within        4.6 ms
         the longest             210.0 ms
         processor time          3.25 s
         most memory of a call   1280.0 KiB
         calls to the host       90
         requests                3, 1,024 B sent, 2,048 B received
         lines logged            2,000, 635 of them cut
         faults                  2 of the plugin, 1 of the peer
         the last one            2026-11-21T11:00:00.000Z, acme/rank@1.0.0, trap: trapped: index out of bounds
        ");
    }

    #[test]
    fn equal_lines_that_follow_each_other_are_one() {
        let line = |at: &str, text: &str| json!({ "at": at, "level": "error", "text": text });
        let lines = [line("1", "a"), line("2", "a"), line("3", "a"), line("4", "b"), line("5", "a")];
        assert_eq!(grouped(&lines), ["1 error a (3 times up to 3)", "4 error b", "5 error a"]);
        assert!(grouped(&[]).is_empty());
    }

    #[test]
    fn a_server_that_stops_is_waited_for_and_one_that_refuses_is_not() {
        let refused = |http_status| {
            let problem = crate::cli::client::Problem { http_status, ..Default::default() };
            is_away(&ApiError::Refused(Box::new(problem)))
        };
        assert_eq!([503, 401, 404].map(refused), [true, false, false]);
        let base_url = || "http://a".to_owned();
        let source = || Box::new(ureq::Error::ConnectionFailed);
        assert!(is_away(&ApiError::Unreachable { base_url: base_url(), source: source() }));
        assert!(is_away(&ApiError::Broken { base_url: base_url(), source: source() }));
        assert!(!is_away(&ApiError::OtherProtocol { base_url: base_url(), source: source() }));
    }

    #[test]
    fn a_line_cannot_move_the_cursor() {
        let shown = line(&json!({ "at": "2026-11-21T10:00:00.000Z", "level": "warn", "text": "a\u{1b}[2Jb\nc" }));
        assert!(shown.starts_with("2026-11-21T10:00:00.000Z warn  a") && !shown.contains('\u{1b}'), "{shown}");
        assert!(shown.ends_with("\n    c"), "{shown}");
    }
}
