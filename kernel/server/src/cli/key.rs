//! `kith key`: API keys of the workspace.

use serde_json::{Value, json};

use super::args::KeyCommand;
use super::client::{Client, encode};
use super::output::{self, field};
use super::{Failure, items, print_json};

pub(crate) fn run(command: &KeyCommand, client: &Client, json: bool) -> Result<(), Failure> {
    match command {
        KeyCommand::Create { title, scopes, source } => {
            let mut body = json!({ "title": title, "scopes": scopes });
            if let Some(source) = source {
                body["source"] = json!(source.as_str());
            }
            let answer = client.post("/api/v1/keys", &body)?;
            if json {
                print_json(&answer)?;
            } else {
                output::say(field(&answer, "key"))?;
                eprintln!("This is the only time the key is shown. Its id is {}.", field(&answer, "id"));
            }
        }
        KeyCommand::List => {
            let answer = client.get("/api/v1/keys")?;
            if json {
                print_json(&answer)?;
            } else {
                output::say(key_table(items(&answer)))?;
            }
        }
        KeyCommand::Revoke { id } => {
            client.delete(&format!("/api/v1/keys/{}", encode(id)))?;
            if json {
                print_json(&json!({ "revoked": id }))?;
            } else {
                output::say(format_args!("revoked {id}; requests with it are refused from now on"))?;
            }
        }
    }
    Ok(())
}

fn key_table(keys: &[Value]) -> String {
    let rows = keys
        .iter()
        .map(|key| {
            let scopes = key.get("scopes").and_then(Value::as_array);
            let scopes: Vec<String> = scopes.into_iter().flatten().map(output::plain).collect();
            let state = if key.get("revoked_at").is_none_or(Value::is_null) { "good" } else { "revoked" };
            vec![
                field(key, "id"),
                field(key, "title"),
                scopes.join(" "),
                field(key, "source"),
                field(key, "created_at"),
                state.to_owned(),
            ]
        })
        .collect();
    output::table(&["id", "title", "scopes", "source", "created", "state"], rows)
}
