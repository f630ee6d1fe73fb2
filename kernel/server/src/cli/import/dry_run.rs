//! What `kith import --dry-run` shows.

use serde_json::Value;

use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, digits, print_json};

/// Show what a file would become; a failure where rows would be rejected, so that a script stops before it imports.
pub(super) fn show(answer: &Value, format: AnswerFormat) -> Result<(), Failure> {
    if format.is_json() {
        print_json(answer)?;
    } else {
        output::say(report(answer).trim_end())?;
    }
    match output::number(answer, "rejected_count") {
        0 => Ok(()),
        count => {
            Err(Failure::Rejected(format!("{} would be rejected; nothing is stored", output::counted(count, "row"))))
        }
    }
}

/// What was assumed about the file, a line each.
pub(super) fn notes(answer: &Value) -> String {
    let notes = list(answer, "notes")
        .iter()
        .map(|note| format!("{}: {}\n", output::field(note, "name"), output::field(note, "note")));
    notes.collect()
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn report(answer: &Value) -> String {
    let mut text = notes(answer);
    let events: Vec<Vec<String>> = list(answer, "events").iter().map(event).collect();
    if !events.is_empty() {
        text.push('\n');
        text.push_str(&output::table(&["event", "time", "identifiers", "properties", "traits"], events));
        text.push('\n');
    }
    let shown = list(answer, "events").len();
    let count = output::number(answer, "event_count");
    let are = if shown == 1 { "is" } else { "are" };
    text.push_str(&format!("\n{} would be stored, of which {shown} {are} shown\n", output::counted(count, "event")));
    let by_plan = ["unplanned", "violations"].map(|name| output::number(answer, name));
    if by_plan != [0, 0] {
        let [unplanned, violations] = by_plan.map(output::count);
        text.push_str(&format!(
            "by the source's tracking plan: {unplanned} events are not in it, {violations} do not meet their schema\n"
        ));
    }
    let dropped = output::number(answer, "dropped_count");
    if dropped > 0 {
        text.push_str(&format!("{} would be dropped by rule\n", output::counted(dropped, "event")));
    }
    let writing: Vec<&str> = list(answer, "writing_audiences").iter().filter_map(Value::as_str).collect();
    if !writing.is_empty() {
        text.push_str(&format!(
            "who moves because of them may be written to: {} with `imports` at `send`\n",
            writing.join(", ")
        ));
    }
    let codes = answer.get("rejected_codes").and_then(Value::as_object).into_iter().flatten();
    let codes: Vec<Vec<String>> =
        codes.map(|(code, count)| vec![code.clone(), output::count(count.as_u64().unwrap_or_default())]).collect();
    if codes.is_empty() {
        return text;
    }
    text.push_str(&format!("\n{}\n", output::table(&["would be rejected", "rows"], codes)));
    let reasons = list(answer, "rejected").iter().take(MAX_REASONS);
    let reasons = reasons.map(|record| ["line", "code", "message"].map(|name| output::field(record, name)).to_vec());
    text.push_str(&format!("\n{}\n", output::table(&["line", "code", "reason"], reasons.collect())));
    text
}

/// Reasons that are shown; the counts above tell of the rest.
const MAX_REASONS: usize = 20;

fn event(event: &Value) -> Vec<String> {
    let identifiers = list(event, "identifiers")
        .iter()
        .map(|identifier| format!("{}:{}", output::field(identifier, "type"), output::field(identifier, "value")));
    let name = match output::field(event, "name") {
        name if name.is_empty() => output::field(event, "kind"),
        name => name,
    };
    let time = match event.get("time") {
        Some(Value::String(time)) => time.clone(),
        _ => "when received".to_owned(),
    };
    let object = |name: &str| match event.get(name) {
        Some(Value::Object(object)) if !object.is_empty() => digits::line(&Value::Object(object.clone())),
        _ => String::new(),
    };
    vec![name, time, identifiers.collect::<Vec<_>>().join(" "), object("properties"), object("traits")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_shows_events_assumptions_and_reasons() {
        let answer = serde_json::json!({
            "notes": [{"name": "encoding", "note": "windows-1252, a guess"}],
            "events": [{"kind": "track", "name": "Order", "time": "2026-01-05T00:00:00Z",
                "identifiers": [{"type": "user_id", "value": "7"}], "properties": {"total": 1.5}, "traits": {}}],
            "event_count": 1200, "writing_audiences": ["welcome", "carts"], "rejected_count": 1, "rejected_codes": {"ambiguous-number": 1},
            "rejected": [{"line": 3, "code": "ambiguous-number", "message": "`1.234` is two numbers"}],
        });
        let report = report(&answer);
        for word in [
            "encoding: windows-1252, a guess",
            "user_id:7",
            "2026-01-05",
            "{\"total\":1.5}",
            "1,200 events would be stored",
            "may be written to: welcome, carts with `imports` at `send`",
            "ambiguous-number",
        ] {
            assert!(report.contains(word), "no `{word}` in {report}");
        }
        assert!(matches!(show(&answer, AnswerFormat::Json), Err(Failure::Rejected(_))));
    }
}
