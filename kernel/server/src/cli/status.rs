//! `kith status`: what the workspace holds, and how far the work behind the log has come.

use serde_json::Value;

use super::client::Client;
use super::output::{self, AnswerFormat};
use super::{Failure, print_json};

pub(crate) fn run(client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let status = client.get("/api/v1/workspace")?;
    if format.is_json() {
        print_json(&status)?;
        return Ok(());
    }
    output::say(format_args!("{}\n", client.base_url()))?;
    output::say(output::table(&["what", "value"], flat_rows("", &status)))?;
    Ok(())
}

/// Every value of a nested object under its dotted name.
fn flat_rows(prefix: &str, value: &Value) -> Vec<Vec<String>> {
    let Value::Object(object) = value else {
        let shown = value.as_u64().map_or_else(|| output::plain(value), output::count);
        return vec![vec![prefix.to_owned(), shown]];
    };
    let member = |(name, value): (&String, &Value)| {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        flat_rows(&name, value)
    };
    object.iter().flat_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_shown_flat() {
        let status = serde_json::json!({"ready": true, "totals": {"events": 31106}});
        assert_eq!(flat_rows("", &status), [["ready", "true"], ["totals.events", "31,106"]]);
    }
}
