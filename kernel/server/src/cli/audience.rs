//! `kith audience`: define, change, count, list, and say why somebody is in.

use serde_json::{Value, json};

use super::args::{ActionArgs, AudienceChangeArgs, AudienceCommand, AudienceCreateArgs, Basis, Reach};
use super::client::{ApiError, Client, encode};
use super::consent::Consent;
use super::output::{self, cut, field, number};
use super::{Failure, items, json_argument, print_json, profile};

pub(crate) fn run(command: &AudienceCommand, client: &Client, json: bool) -> Result<(), Failure> {
    let answer = match command {
        AudienceCommand::Create(args) => {
            let consent = Consent::from_flag(args.actions.yes);
            save(consent, definition(args)?, |body| client.post("/api/v1/audiences", body))?
        }
        AudienceCommand::Change(args) => {
            let consent = Consent::from_flag(args.actions.yes);
            save(consent, change(args)?, |body| client.patch(&path(args.audience.as_str()), body))?
        }
        AudienceCommand::List => client.get("/api/v1/audiences")?,
        AudienceCommand::Show { audience } => client.get(&path(audience.as_str()))?,
        AudienceCommand::Members { audience, limit } => json!({ "items": members(client, audience.as_str(), *limit)? }),
        AudienceCommand::Count { condition } => {
            client.post("/api/v1/audiences/count", &json!({ "condition": condition }))?
        }
        AudienceCommand::Preview { condition } => {
            client.post("/api/v1/audiences/preview", &json!({ "condition": condition }))?
        }
        AudienceCommand::Explain { audience, person } => {
            let found = profile::find(client, person)?;
            client.get(&format!("{}/explain?profile={}", path(audience.as_str()), field(&found, "id")))?
        }
    };
    if json {
        return print_json(&answer);
    }
    output::say(match command {
        AudienceCommand::Create(_) | AudienceCommand::Change(_) | AudienceCommand::Show { .. } => {
            audience_table(&[answer])
        }
        AudienceCommand::List => audience_table(items(&answer)),
        AudienceCommand::Members { .. } => member_table(items(&answer)),
        AudienceCommand::Count { .. } => count_line(&answer),
        AudienceCommand::Preview { .. } => preview_line(&answer),
        // An explanation is a tree; JSON shows it as it is.
        AudienceCommand::Explain { .. } => format!("{answer:#}"),
    })
}

fn path(audience: &str) -> String {
    format!("/api/v1/audiences/{}", encode(audience))
}

fn definition(args: &AudienceCreateArgs) -> Result<Value, Failure> {
    let title = args.title.as_deref().unwrap_or_else(|| args.name.as_str());
    let mut body = json!({ "name": args.name.as_str(), "title": title, "condition": args.condition });
    put_actions(&mut body, &args.actions)?;
    Ok(body)
}

fn change(args: &AudienceChangeArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    for (name, value) in [("title", &args.title), ("condition", &args.condition)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    for (name, is_ended) in [("on_enter", args.no_channel), ("on_exit", args.no_on_exit_channel)] {
        if is_ended {
            body[name] = Value::Null;
        }
    }
    put_actions(&mut body, &args.actions)?;
    Ok(body)
}

fn put_actions(body: &mut Value, args: &ActionArgs) -> Result<(), Failure> {
    if let (Some(channel), Some(purpose), Some(payload)) = (&args.channel, &args.purpose, &args.payload) {
        body["on_enter"] = json!({
            "channel": channel.as_str(),
            "purpose": purpose,
            "basis": basis(args.basis),
            "payload": json_argument("--payload", payload)?,
            "re_entry": re_entry(&args.re_entry),
            "existing": reach(args.existing),
            "imports": reach(args.imports),
        });
    }
    let on_exit = (&args.on_exit_channel, &args.on_exit_purpose, &args.on_exit_payload);
    if let (Some(channel), Some(purpose), Some(payload)) = on_exit {
        body["on_exit"] = json!({
            "channel": channel.as_str(),
            "purpose": purpose,
            "basis": basis(args.on_exit_basis),
            "payload": json_argument("--on-exit-payload", payload)?,
            "re_entry": re_entry(&args.on_exit_re_entry),
        });
    }
    Ok(())
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::OptIn => "opt_in",
        Basis::NotRefused => "not_refused",
    }
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Skip => "skip",
        Reach::Send => "send",
    }
}

/// What is no word is a time; the server says what is wrong with it.
fn re_entry(text: &str) -> Value {
    match text {
        "never" | "always" => json!(text),
        time => json!({ "after": time }),
    }
}

/// A count moves while people think; after so many previews of one change there is more to it than that.
const MAX_PREVIEWS: usize = 5;

/// Send a definition. Where it writes to people who are members already, their number is shown and asked about first.
fn save(consent: Consent, mut body: Value, send: impl Fn(&Value) -> Result<Value, ApiError>) -> Result<Value, Failure> {
    for _ in 0..MAX_PREVIEWS {
        let preview = match send(&body) {
            Err(ApiError::Refused(problem))
                if ["preview-required", "preview-changed"].contains(&problem.code.as_str()) =>
            {
                Value::Object(problem.details)
            }
            other => return Ok(other?),
        };
        consent.insist(&preview_line(&preview), "write to them")?;
        body["previewed"] = preview.get("token").cloned().unwrap_or_default();
    }
    Err(Failure::Failed("the number of people changes too fast to confirm; try again later".to_owned()))
}

fn preview_line(preview: &Value) -> String {
    let [count, pending, would_send] = ["count", "pending", "would_send"].map(|name| number(preview, name));
    let mut text = format!("{} people meet the condition", output::count(count));
    if pending > 0 {
        text.push_str(&format!(", of {} it is not known yet", output::count(pending)));
    }
    format!("{text}; writing to existing members sends up to {} messages", output::count(would_send))
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
    let pending = match number(answer, "pending") {
        0 => String::new(),
        pending => format!(", {} more not known yet", output::count(pending)),
    };
    format!("{counted} profiles, {exact}{pending}, as of log position {}", field(answer, "as_of"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::cli::client::Problem;

    fn parsed(arguments: &[&str]) -> AudienceCommand {
        let all = ["kith", "audience"].iter().chain(arguments);
        let Command::Audience(command) = Cli::try_parse_from(all).unwrap().command else { panic!("{arguments:?}") };
        command
    }

    #[test]
    fn both_actions_are_said_by_flags() {
        let AudienceCommand::Create(args) = parsed(&[
            "create",
            "all",
            "--condition",
            "true",
            "--channel",
            "post",
            "--purpose",
            "x",
            "--payload",
            "{}",
            "--re-entry",
            "30d",
            "--existing",
            "send",
            "--on-exit-channel",
            "post",
            "--on-exit-purpose",
            "y",
            "--on-exit-payload",
            "{\"a\":1}",
            "--on-exit-re-entry",
            "never",
        ]) else {
            panic!("not create")
        };
        let body = definition(&args).unwrap();
        assert_eq!(
            (&body["on_enter"]["re_entry"], &body["on_enter"]["existing"]),
            (&json!({ "after": "30d" }), &json!("send"))
        );
        assert_eq!((&body["on_exit"]["re_entry"], &body["on_exit"]["payload"]), (&json!("never"), &json!({ "a": 1 })));
        assert_eq!(body["on_exit"].get("existing"), None);
    }

    #[test]
    fn a_change_says_only_what_changes() {
        let AudienceCommand::Change(args) = parsed(&["change", "all", "--title", "All", "--no-on-exit-channel"]) else {
            panic!("not change")
        };
        assert_eq!(change(&args).unwrap(), json!({ "title": "All", "on_exit": null }));
    }

    #[test]
    fn a_definition_that_writes_to_members_is_sent_again_with_the_token_of_what_was_shown() {
        let sent = std::cell::RefCell::new(Vec::new());
        let server = |body: &Value| {
            sent.borrow_mut().push(body.get("previewed").cloned());
            if body.get("previewed") == Some(&json!("2-abc")) {
                return Ok(json!({ "name": "all" }));
            }
            let details = json!({ "count": 2, "would_send": 2, "token": "2-abc" }).as_object().cloned().unwrap();
            let code = "preview-required".to_owned();
            Err(ApiError::Refused(Box::new(Problem { code, details, ..Problem::default() })))
        };
        assert_eq!(save(Consent::Given, json!({}), server).unwrap()["name"], "all");
        assert_eq!(*sent.borrow(), [None, Some(json!("2-abc"))]);
    }

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
