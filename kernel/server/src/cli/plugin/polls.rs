//! `kith plugin polls`: how an installation polls, and what came of its last polls.

use serde_json::Value;

use crate::cli::output::{self, cut, field};

/// How it stands, and a line for each of the last polls, the newest first.
pub(super) fn polls_text(answer: &Value) -> String {
    let [interval, next, failing, failures] =
        ["interval", "next_at", "failing_since", "failures"].map(|name| field(answer, name));
    let next = match next.as_str() {
        "" if answer["waits_for_change"] == true => "only after a change, or by `kith plugin poll`".to_owned(),
        "" => "not while it does not run".to_owned(),
        _ => next,
    };
    let cursor = match answer.get("cursor_bytes").and_then(Value::as_u64) {
        Some(bytes) => output::size(bytes),
        None => "none: it begins at the start".to_owned(),
    };
    let failing = if failing.is_empty() { "no".to_owned() } else { format!("since {failing}, {failures} in a row") };
    let under_way = if answer["under_way"] == true { "yes" } else { "no" };
    let rows = [
        ("polls every", interval),
        ("under way", under_way.to_owned()),
        ("next", next),
        ("cursor", cursor),
        ("failing", failing),
    ];
    let rows = rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect();
    let state = output::table(&["what", "value"], rows);
    let polls = answer.get("polls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let polls: Vec<Vec<String>> = polls
        .iter()
        .map(|poll| {
            let columns = ["at", "took_ms", "pages", "requests", "events", "repeats", "rejected", "outcome", "reason"];
            columns.map(|name| cut(&field(poll, name), 120)).to_vec()
        })
        .collect();
    if polls.is_empty() {
        return format!("{state}\n\nit has not polled yet");
    }
    let head = ["at", "ms", "pages", "requests", "events", "repeats", "rejected", "outcome", ""];
    format!("{state}\n\n{}", output::table(&head, polls))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn polls_are_shown_to_people() {
        let text = polls_text(&json!({
            "interval": "15m", "next_at": null, "under_way": false, "cursor_bytes": 12, "failures": 2,
            "failing_since": "2026-11-21T10:00:00.000Z", "waits_for_change": true,
            "polls": [{
                "at": "2026-11-21T10:00:00.000Z", "took_ms": 5, "pages": 1, "requests": 2, "events": 7, "repeats": 0,
                "rejected": 1, "outcome": "permanent", "reason": "waits for a change: status 404", "cursor": null,
            }],
        }));
        for part in ["15m", "only after a change", "12 B", "since 2026-11-21T10:00:00.000Z, 2 in a row", "status 404"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let off = json!({ "interval": "15m", "next_at": null, "waits_for_change": false });
        assert!(polls_text(&off).contains("not while it does not run"));
        let never = json!({ "interval": "15m", "next_at": "2026-11-21T10:00:00.000Z", "under_way": true, "polls": [] });
        let text = polls_text(&never);
        assert!(text.contains("begins at the start") && text.ends_with("it has not polled yet"), "{text}");
    }
}
