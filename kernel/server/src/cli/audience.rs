//! `kith audience`: define, count, list, and say why somebody is in.

use serde_json::{Value, json};

use super::args::{AudienceCommand, AudienceCreateArgs, Basis};
use super::client::{Client, encode};
use super::output::{self, cut, field, number};
use super::{Failure, items, json_argument, print_json, profile};

pub(crate) fn run(command: &AudienceCommand, client: &Client, json: bool) -> Result<(), Failure> {
    let answer = match command {
        AudienceCommand::Create(args) => client.post("/api/v1/audiences", &definition(args)?)?,
        AudienceCommand::List => client.get("/api/v1/audiences")?,
        AudienceCommand::Show { audience } => client.get(&path(audience.as_str()))?,
        AudienceCommand::Members { audience, limit } => json!({ "items": members(client, audience.as_str(), *limit)? }),
        AudienceCommand::Count { condition } => {
            client.post("/api/v1/audiences/count", &json!({ "condition": condition }))?
        }
        AudienceCommand::Explain { audience, person } => {
            let found = profile::find(client, person)?;
            client.get(&format!("{}/explain?profile={}", path(audience.as_str()), field(&found, "id")))?
        }
    };
    if json {
        print_json(&answer);
        return Ok(());
    }
    match command {
        AudienceCommand::Create(_) | AudienceCommand::Show { .. } => println!("{}", audience_table(&[answer])),
        AudienceCommand::List => println!("{}", audience_table(items(&answer))),
        AudienceCommand::Members { .. } => println!("{}", member_table(items(&answer))),
        AudienceCommand::Count { .. } => println!("{}", count_line(&answer)),
        // An explanation is a tree; JSON shows it as it is.
        AudienceCommand::Explain { .. } => print_json(&answer),
    }
    Ok(())
}

fn path(audience: &str) -> String {
    format!("/api/v1/audiences/{}", encode(audience))
}

fn definition(args: &AudienceCreateArgs) -> Result<Value, Failure> {
    let title = args.title.as_deref().unwrap_or_else(|| args.name.as_str());
    let mut body = json!({ "name": args.name.as_str(), "title": title, "condition": args.condition });
    if let (Some(channel), Some(purpose), Some(payload)) = (&args.channel, &args.purpose, &args.payload) {
        let basis = match args.basis {
            Basis::OptIn => "opt_in",
            Basis::NotRefused => "not_refused",
        };
        body["on_enter"] = json!({
            "channel": channel.as_str(),
            "purpose": purpose,
            "basis": basis,
            "payload": json_argument("--payload", payload)?,
        });
    }
    Ok(body)
}

/// Members over as many pages as `limit` takes.
fn members(client: &Client, audience: &str, limit: u64) -> Result<Vec<Value>, Failure> {
    let mut members = Vec::new();
    let mut cursor = String::new();
    loop {
        let wanted = limit.saturating_sub(members.len() as u64).min(200);
        if wanted == 0 {
            return Ok(members);
        }
        let page = client.get(&format!("{}/members?limit={wanted}{cursor}", path(audience)))?;
        members.extend_from_slice(items(&page));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", encode(next)),
            None => return Ok(members),
        }
    }
}

fn audience_table(audiences: &[Value]) -> String {
    let rows = audiences
        .iter()
        .map(|audience| {
            let size = audience.get("size").and_then(Value::as_u64);
            let size = size.map_or_else(|| "computing".to_owned(), output::count);
            vec![field(audience, "name"), size, field(audience, "title"), cut(&field(audience, "condition"), 80)]
        })
        .collect();
    output::table(&["audience", "size", "title", "condition"], rows)
}

fn member_table(members: &[Value]) -> String {
    let rows = members.iter().map(|member| vec![field(member, "profile")]).collect();
    output::table(&["profile"], rows)
}

fn count_line(answer: &Value) -> String {
    let exact = if answer.get("exact") == Some(&Value::Bool(true)) { "exactly" } else { "about" };
    let counted = output::count(number(answer, "count"));
    format!("{counted} profiles, {exact}, as of log position {}", field(answer, "as_of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_without_a_size_is_still_computed() {
        let audiences = [
            json!({"name": "carts", "size": 1204, "title": "Carts", "condition": "true"}),
            json!({"name": "new", "size": null, "title": "New", "condition": "false"}),
        ];
        insta::assert_snapshot!(audience_table(&audiences), @r"
         audience   size        title   condition
        ──────────────────────────────────────────
         carts      1,204       Carts   true
         new        computing   New     false
        ");
    }
}
