//! `kith workspace`: the workspaces of a server, with a host key.

use kith_model::id::Name;
use serde_json::{Map, Value, json};

use super::args::WorkspaceCommand;
use super::client::{ApiError, Client, encode};
use super::consent::Consent;
use super::output::{self, AnswerFormat, field};
use super::{Failure, print_json};

pub(crate) fn run(command: &WorkspaceCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let patch = |name: &Name, body: Value| client.patch(&path(name), &body);
    let (answer, text) = match command {
        WorkspaceCommand::Create(args) => {
            let title = args.title.clone().unwrap_or_default();
            let (budgets, time_zone) = (limits(&args.budgets), &args.time_zone);
            let body = json!({ "name": args.name, "title": title, "time_zone": time_zone, "budgets": budgets });
            let answer = client.post("/api/v1/workspaces", &body)?;
            if !format.is_json() {
                eprintln!("This is the first admin key of {}, shown this once:", args.name);
            }
            let key = field(&answer, "key");
            (answer, key)
        }
        WorkspaceCommand::List(part) => {
            return output::say_list(&client.part("/api/v1/workspaces", &[], part)?, format, table);
        }
        WorkspaceCommand::Show { name } => shown(client.get(&path(name))?),
        WorkspaceCommand::Rename { name, new_name } => shown(patch(name, json!({ "name": new_name }))?),
        WorkspaceCommand::Change(args) => {
            let mut body = json!({ "budgets": limits(&args.budgets) });
            if let Some(title) = &args.title {
                body["title"] = json!(title);
            }
            shown(patch(&args.name, body)?)
        }
        WorkspaceCommand::Suspend { name } => {
            let answer = patch(name, json!({ "state": "suspended" }))?;
            (answer, format!("{name} is suspended; `kith workspace resume {name}` lets it go on"))
        }
        WorkspaceCommand::Resume { name } => (patch(name, json!({ "state": "active" }))?, format!("{name} is active")),
        WorkspaceCommand::Delete { name, yes } => {
            delete(client, name, Consent::from_flag(*yes, format))?;
            (
                json!({ "deleted": name }),
                format!("{name} is deleted: nobody reaches what it held; its rows stay on the server's disk"),
            )
        }
    };
    if format.is_json() { print_json(&answer) } else { output::say(text) }
}

fn path(name: &Name) -> String {
    format!("/api/v1/workspaces/{}", encode(name.as_str()))
}

fn limits(budgets: &[(String, Option<u64>)]) -> Map<String, Value> {
    budgets.iter().map(|(name, limit)| (name.clone(), json!(limit))).collect()
}

/// What is made in a workspace while the question is asked changes the token; after so many the person is told.
const MAX_CONFIRMATIONS: usize = 5;

/// Delete a workspace, once the person has seen what goes with it.
fn delete(client: &Client, name: &Name, consent: Consent) -> Result<(), Failure> {
    let mut confirmation = String::new();
    for _ in 0..MAX_CONFIRMATIONS {
        let problem = match client.delete(&format!("{}{confirmation}", path(name))) {
            Ok(_) => return Ok(()),
            Err(ApiError::Refused(problem)) if problem.code == "confirmation-required" => problem,
            Err(error) => return Err(error.into()),
        };
        let details = Value::Object(problem.details);
        consent.insist(&consequences(name, &details), &format!("delete {name}"))?;
        confirmation = format!("?confirm={}", encode(&field(&details, "token")));
    }
    Err(Failure::Failed(format!("{name} changes too fast to confirm; suspend it first, then delete it")))
}

fn consequences(name: &Name, details: &Value) -> String {
    let number = |what| output::count(output::number(details, what));
    format!(
        "{} people, {} audiences and {} installations go with {name}.",
        number("people"),
        number("audiences"),
        number("installations")
    )
}

/// One workspace as lines.
fn shown(answer: Value) -> (Value, String) {
    let members = ["name", "title", "state", "suspended_since", "time_zone", "created_at"];
    let mut rows: Vec<Vec<String>> =
        members.iter().map(|member| vec![(*member).to_owned(), field(&answer, member)]).collect();
    for (budget, kept) in answer.get("budgets").and_then(Value::as_object).into_iter().flatten() {
        rows.push(vec![budget.clone(), format!("{} of {}", field(kept, "kept"), field(kept, "limit"))]);
    }
    let text = output::table(&["what", "value"], rows);
    (answer, text)
}

fn table(workspaces: &[Value]) -> String {
    let row = |workspace: &Value| {
        ["name", "title", "state", "time_zone", "created_at"].map(|member| field(workspace, member)).to_vec()
    };
    output::table(&["name", "title", "state", "time zone", "created"], workspaces.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_with_a_workspace_is_said_in_numbers() {
        let details = json!({ "people": 31_106, "audiences": 2, "installations": 5, "token": "t" });
        let text = consequences(&"shop".parse().unwrap(), &details);
        assert_eq!(text, "31,106 people, 2 audiences and 5 installations go with shop.");
    }

    #[test]
    fn a_workspace_is_shown_with_what_it_keeps() {
        let (_, text) = shown(json!({ "name": "shop", "budgets": { "keys-kept": { "kept": 1, "limit": 7 } } }));
        assert!(text.contains("shop") && text.contains("1 of 7"), "{text}");
    }
}
