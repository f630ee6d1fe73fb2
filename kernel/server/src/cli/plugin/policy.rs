//! `kith plugin policy`: what an installation may do, a line for each thing, with who asked, who gave and who decided.

use serde_json::Value;

use crate::cli::items;
use crate::cli::output::{self, cut, field};

/// The widest cell of names, and of a reason.
const MAX_NAMES: usize = 60;
const MAX_REASON: usize = 100;

pub(super) fn policy_table(policy: &Value) -> String {
    let row = |item: &Value| {
        let cell = |side: &str| cut(&side_text(&item[side]), MAX_NAMES);
        let (kind, name) = (field(item, "kind"), field(item, "name"));
        // Of some kinds there is one, which has the kind's name.
        let what = if kind == name { kind } else { format!("{kind} {name}") };
        vec![
            cut(&what, MAX_NAMES),
            cell("effective"),
            field(item, "decided_by"),
            cell("asked"),
            cell("granted"),
            cell("ceiling"),
            cut(&field(item, "reason"), MAX_REASON),
        ]
    };
    let header = ["what", "holds", "decided by", "asked for", "granted", "host's ceiling", "reason"];
    let mut text = output::table(&header, items(policy).iter().map(row).collect());
    for grant in policy["without_effect"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n\nwithout effect: {}", output::plain(grant)));
    }
    text + &output::warnings(policy)
}

/// What a side says: nothing, a number, or names, of which there may be none.
fn side_text(side: &Value) -> String {
    match side {
        Value::Array(names) if names.is_empty() => "none".to_owned(),
        Value::Array(names) => names.iter().map(output::plain).collect::<Vec<_>>().join(", "),
        other => other.as_u64().map(output::count).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_item_is_a_line_with_its_reason() {
        let policy = json!({
            "items": [
                {
                    "kind": "http", "name": "a.example", "reason": "to post", "asked": ["POST *"], "granted": ["a.example"],
                    "ceiling": null, "effective": ["POST a.example:443"], "decided_by": "grant",
                },
                {
                    "kind": "limit", "name": "cpu_ms", "reason": null, "asked": null, "granted": null, "ceiling": 1500,
                    "effective": 1500, "decided_by": "host",
                },
                {
                    "kind": "recipient", "name": "phone", "reason": "to call", "asked": ["phone"], "granted": [],
                    "ceiling": null, "effective": [], "decided_by": "grant",
                },
                {
                    "kind": "consent", "name": "consent", "reason": "to refuse", "asked": ["refuse"], "granted": ["refuse"],
                    "ceiling": null, "effective": ["refuse"], "decided_by": "grant",
                },
            ],
            "without_effect": ["http: the manifest does not ask for `b.example`"],
        });
        let text = policy_table(&policy);
        let lines: Vec<&str> = text.lines().collect();
        let cells =
            |line: usize| lines[line].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        assert_eq!(cells(0), ["what", "holds", "decided by", "asked for", "granted", "host's ceiling", "reason"]);
        assert_eq!(cells(2), ["http a.example", "POST a.example:443", "grant", "POST *", "a.example", "to post"]);
        assert_eq!(cells(3), ["limit cpu_ms", "1,500", "host", "1,500"]);
        assert_eq!(cells(4), ["recipient phone", "none", "grant", "phone", "none", "to call"]);
        assert_eq!(cells(5)[..2], ["consent", "refuse"]);
        assert!(text.ends_with("without effect: http: the manifest does not ask for `b.example`"), "{text}");
    }
}
