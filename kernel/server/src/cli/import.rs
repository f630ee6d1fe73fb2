//! `kith import`: a file streamed to a source's connector. A gzip file goes as it is; the server recognises and unpacks it. Workbooks
//! and ZIP archives are unpacked here.

mod child;
mod dry_run;
mod input;
mod rejected;
mod resume;
mod unpack;
mod wellformed;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::args::{ImportArgs, UnpackArgs};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, Step};
use super::{Failure, print_json};
use input::Input;

pub(crate) fn run(args: &ImportArgs, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let input = Input::open(args)?;
    let named = input.name().display();
    let args = &input.args(args);
    let failed = |what: &'static str| {
        let path = args.file.clone();
        move |source| Failure::File { what, path, source }
    };
    let file = File::open(&args.file).map_err(failed("open"))?;
    let bytes = file.metadata().map_err(failed("read"))?.len();
    let step = Step::over_bytes(format!("importing {named}"), bytes, format);
    let content_type = args.content_type.as_deref().unwrap_or_else(|| content_type(&args.file));
    if args.dry_run {
        let path = format!("{}?dry_run=true", records_path(args.source.as_str()));
        let mut answer = client.upload(&path, content_type, step.bar().wrap_read(file))?;
        step.end("read to the end; nothing is stored");
        input.tell(&mut answer);
        return dry_run::show(&answer, format);
    }
    drop(file);
    let mut answer = resume::send(args, client, content_type, &step)?;
    input.tell(&mut answer);
    let accepted = output::number(&answer, "accepted") + output::number(&answer, "corrected");
    let rate = output::rate(accepted, step.elapsed());
    step.end(&format!("{} events accepted, {rate} a second", output::count(accepted)));
    let rejected = output::number(&answer, "rejected_count");
    let rejected::RejectedFiles { written, notes } = rejected::write(args, content_type, &answer)?;
    notes.iter().for_each(|note| output::tell(note, format));
    if !notes.is_empty() {
        answer["rejected_files"] = notes.into();
    }
    if let Some(written) = &written {
        if written.count > 0 {
            answer["rejected_rows"] = written.rows.display().to_string().into();
        }
        answer["rejected_reasons"] = written.reasons.display().to_string().into();
    }
    if rejected > 0
        && let Some(letters) = letters_of(client, args.source.as_str())
    {
        answer["dead_letters"] = letters.into();
    }
    if format.is_json() {
        print_json(&answer)?;
    } else {
        output::say(report(&answer, args.source.as_str()).trim_end())?;
    }
    if rejected == 0 {
        return Ok(());
    }
    Err(Failure::Rejected(rejected_as(rejected, written)))
}

/// How many were rejected, and where they are to be corrected.
fn rejected_as(rejected: u64, written: Option<rejected::Written>) -> String {
    let mut told = format!("{} rejected", output::counted(rejected, "record"));
    match written {
        None => {}
        Some(rejected::Written { reasons, count: 0, .. }) => told.push_str(&format!(
            "; the reasons are in {}: none stands on a line of its own, so correct them in the file and import it again",
            reasons.display()
        )),
        Some(rejected::Written { rows, reasons, count }) => told.push_str(&format!(
            "; {} {} in {} as in the file, with the reasons in {}: correct and import that file",
            output::count(count),
            if count == 1 { "is" } else { "are" },
            rows.display(),
            reasons.display()
        )),
    }
    told
}

/// How many records of a source are kept as letters; `None` where this key may not ask.
fn letters_of(client: &Client, source: &str) -> Option<u64> {
    let answer = client.get(&format!("/api/v1/dead-letters/counts?type=record&source={}", encode(source))).ok()?;
    let is_whole = answer.get("whole") == Some(&Value::Bool(true));
    is_whole.then(|| output::number(&answer, "letters"))
}

/// Unpack a file from standard input and end the process.
pub(crate) fn unpack_child(args: &UnpackArgs) -> Result<(), Failure> {
    // The child has said why; its parent reads exactly that, and exit code 1.
    if child::main(args) == ExitCode::SUCCESS { Ok(()) } else { Err(Failure::Said) }
}

/// Where a source takes raw payloads.
pub(crate) fn records_path(source: &str) -> String {
    format!("/api/v1/sources/{}/records", encode(source))
}

/// The media type by the file's ending; `.gz` is looked through.
fn content_type(path: &Path) -> &'static str {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    // The rejected rows of a workbook, in which numbers are those of the sheet.
    if name.ends_with(".rows.csv") {
        return input::ROWS;
    }
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "ndjson" | "jsonl" => "application/x-ndjson",
        "json" => "application/json",
        _ => "text/csv",
    }
}

/// Rejections that are shown; the file of rejected rows has more.
const MAX_SHOWN: usize = 20;

/// What of the accepted records was not taken as it came, if anything.
fn oddities(answer: &Value) -> String {
    let flagged = answer.get("flagged").and_then(Value::as_object);
    let flags =
        flagged.into_iter().flatten().map(|(code, number)| (code.as_str(), number.as_u64().unwrap_or_default()));
    let others = [
        ("identifiers that name nobody", output::number(answer, "identifiers_left_out")),
        ("pieces of evidence that tie nobody", output::number(answer, "not_followed")),
    ];
    let said = flags.chain(others).filter(|(_, number)| *number > 0);
    let said: Vec<String> = said.map(|(what, number)| format!("{what}: {}", output::count(number))).collect();
    if said.is_empty() { String::new() } else { format!("of the accepted: {}\n", said.join(", ")) }
}

/// Counts, then the first reported rejections with their places.
fn report(answer: &Value, source: &str) -> String {
    let rejected = output::number(answer, "rejected_count");
    let conflicts = output::number(answer, "conflict");
    let counts = [
        ("accepted", "accepted"),
        ("corrected", "corrected"),
        ("duplicate", "duplicate"),
        ("rejected", "rejected_count"),
    ]
    .map(|(what, name)| vec![what.to_owned(), output::count(output::number(answer, name))]);
    let mut text = output::table(&["records", "count"], counts.to_vec());
    text.push('\n');
    // Rows of one file with the same id are no corrections of one another; the notes say what they may be.
    let conflicts = conflicts.saturating_sub(output::number(answer, "repeated_ids"));
    if conflicts > 0 {
        text.push_str(&format!(
            "{} of the rejected have the id of another record; `upsert` in the source's configuration makes them corrections\n",
            output::count(conflicts)
        ));
    }
    text.push_str(&oddities(answer));
    text.push_str(&dry_run::notes(answer));
    let listed = answer.get("rejected").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if listed.is_empty() {
        return text;
    }
    let rows = listed
        .iter()
        .take(MAX_SHOWN)
        .map(|record| ["line", "code", "message"].map(|name| output::field(record, name)).to_vec())
        .collect();
    text.push('\n');
    text.push_str(&output::table(&["line", "code", "reason"], rows));
    text.push('\n');
    let shown = listed.len().min(MAX_SHOWN) as u64;
    if rejected > shown {
        let more = output::count(rejected - shown);
        text.push_str(&format!("… and {more} more; "));
        // Equal records are one letter, and of many of one request some are only counted.
        match answer.get("dead_letters").and_then(Value::as_u64) {
            Some(letters) => text.push_str(&format!("{} letters of this source are kept", output::count(letters))),
            None => text.push_str("what is kept of them"),
        }
        text.push_str(&format!(": `kith dead-letters list --source {source}`\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_name_the_media_type() {
        for (name, expected) in [
            ("a.csv", "text/csv"),
            ("a.CSV.gz", "text/csv"),
            ("a.ndjson.gz", "application/x-ndjson"),
            ("a.jsonl", "application/x-ndjson"),
            ("a", "text/csv"),
        ] {
            assert_eq!(content_type(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_file_without_rows_is_not_named() {
        let written =
            |count| rejected::Written { rows: "o.rejected.json".into(), reasons: "o.reasons.csv".into(), count };
        let none = rejected_as(1, Some(written(0)));
        assert!(!none.contains("o.rejected.json") && none.contains("the reasons are in o.reasons.csv"), "{none}");
        let one = rejected_as(2, Some(written(1)));
        assert!(one.starts_with("2 records rejected; 1 is in o.rejected.json as in the file"), "{one}");
        assert_eq!(rejected_as(3, None), "3 records rejected");
    }

    /// Of lines of one order `upsert` would keep the last alone, so that it is no remedy for them.
    #[test]
    fn corrections_are_suggested_for_ids_of_earlier_files_alone() {
        for (conflicts, repeated, suggested) in
            [(2, 0, Some("2 of the rejected")), (5, 2, Some("3 of the rejected")), (2, 2, None), (1, 3, None)]
        {
            let answer =
                serde_json::json!({"conflict": conflicts, "rejected_count": conflicts, "repeated_ids": repeated});
            let report = report(&answer, "orders");
            assert_eq!(report.contains("`upsert` in the source's configuration"), suggested.is_some(), "{report}");
            assert!(suggested.is_none_or(|words| report.contains(words)), "{report}");
        }
    }

    #[test]
    fn rejections_are_listed_with_their_lines() {
        let answer = serde_json::json!({"accepted": 31106, "duplicate": 0, "rejected_count": 2, "dead_letters": 1408, "rejected": [
            {"line": 17, "code": "bad-time", "message": "`x` is not a time"}]});
        insta::assert_snapshot!(report(&answer, "orders"), @r"
         records      count
        ────────────────────
         accepted    31,106
         corrected        0
         duplicate        0
         rejected         2

         line   code       reason
        ─────────────────────────────────────
           17   bad-time   `x` is not a time
        … and 1 more; 1,408 letters of this source are kept: `kith dead-letters list --source orders`
        ");
    }
}
