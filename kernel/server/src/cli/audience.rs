//! `kith audience`: define, change, count, list, and say why somebody is in.

use serde_json::{Value, json};

use super::args::{ActionArgs, AudienceChangeArgs, AudienceCommand, AudienceCreateArgs, Basis, Person, Reach};
use super::client::{ApiError, Client, encode};
use super::consent::Consent;
use super::output::{self, AnswerFormat, cut, field, warnings};
use super::{Failure, digits, items, json_argument, print_json, profile, text_argument};

pub(crate) fn run(command: &AudienceCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let answer = match command {
        AudienceCommand::Create(args) => {
            let consent = Consent::from_flag(args.actions.yes, format);
            save(consent, definition(args)?, |body| client.post("/api/v1/audiences", body))?
        }
        AudienceCommand::Change(args) => {
            let consent = Consent::from_flag(args.actions.yes, format);
            save(consent, change(args)?, |body| client.patch(&path(args.audience.as_str()), body))?
        }
        AudienceCommand::List => client.whole("/api/v1/audiences")?,
        AudienceCommand::Remove { audience } => {
            client.delete(&path(audience.as_str()))?;
            json!({ "removed": audience.as_str() })
        }
        AudienceCommand::Show { audience } => client.get(&path(audience.as_str()))?,
        AudienceCommand::Members { audience, columns, format: wanted, .. } if columns.is_some() || wanted.is_some() => {
            let written = profile::word(profile::export_format(*wanted, format));
            let parameters = [("columns", columns.as_deref()), ("format", Some(written))];
            let list = profile::with(&format!("{}/members/export", path(audience.as_str())), &parameters);
            return profile::export(client, &list, format);
        }
        AudienceCommand::Members { audience, part, .. } => {
            let members = client.part(&format!("{}/members", path(audience.as_str())), &[], part)?;
            return output::say_list(&members, format, member_table);
        }
        AudienceCommand::Count { condition } => {
            client.post("/api/v1/audiences/count", &json!({ "condition": text_argument(condition)? }))?
        }
        AudienceCommand::Preview { condition } => {
            client.post("/api/v1/audiences/preview", &json!({ "condition": text_argument(condition)? }))?
        }
        AudienceCommand::Explain { audience, person } => {
            // Who has the id needs no right to look people up.
            let id = match person {
                Person::Profile(id) => id.to_string(),
                Person::Identifier(_) => field(&profile::find(client, person)?, "id"),
            };
            client.get(&format!("{}/explain?profile={id}", path(audience.as_str())))?
        }
    };
    if format.is_json() {
        return print_json(&answer);
    }
    output::say(match command {
        AudienceCommand::Create(_) | AudienceCommand::Change(_) | AudienceCommand::Show { .. } => one_audience(&answer),
        AudienceCommand::Remove { audience } => format!("{audience} is removed"),
        AudienceCommand::List => audience_table(items(&answer)),
        // It was shown above, as it came.
        AudienceCommand::Members { .. } => return Ok(()),
        AudienceCommand::Count { .. } => count_line(&answer) + &warnings(&answer),
        AudienceCommand::Preview { .. } => preview_line(&answer) + &warnings(&answer),
        AudienceCommand::Explain { .. } => explanation(&answer),
    })
}

/// Why a person is in an audience or is not: the answer, then the condition part by part, each below the one that it is a part of.
fn explanation(answer: &Value) -> String {
    let [audience, profile] = ["audience", "profile"].map(|name| field(answer, name));
    let holds = match answer.get("holds") {
        Some(Value::Bool(true)) => "is in",
        Some(Value::Bool(false)) => "is not in",
        _ => "is not known to be in",
    };
    let mut text = format!("{profile} {holds} {audience}");
    if answer.get("refuses_profiling") == Some(&Value::Bool(true)) {
        text.push_str(", because the person objects to profiling");
    }
    text.push('\n');
    explain_part(&answer["explanation"], 0, &mut text);
    let cut = output::number(answer, "cut");
    if cut > 0 {
        text.push_str(&format!("\n{} are cut: kith profile get shows them\n", output::counted(cut, "long value")));
    }
    text
}

/// One part with its value, then its own parts.
fn explain_part(part: &Value, depth: usize, text: &mut String) {
    let (mark, value) = match part.get("truth") {
        Some(Value::Bool(true)) => ("yes", None),
        Some(Value::Bool(false)) => ("no", None),
        Some(Value::String(_)) => ("not known yet", None),
        // What is no condition has a value.
        _ => ("", part.get("value")),
    };
    let value = match value {
        Some(Value::Null) => "nothing".to_owned(),
        Some(value) => cut(&digits::line(value), 120),
        None => mark.to_owned(),
    };
    let indent = "  ".repeat(depth);
    text.push_str(&format!("\n{indent}{}: {value}", cut(&field(part, "text"), 200)));
    for inner in part.get("parts").and_then(Value::as_array).into_iter().flatten() {
        explain_part(inner, depth + 1, text);
    }
}

fn path(audience: &str) -> String {
    format!("/api/v1/audiences/{}", encode(audience))
}

fn definition(args: &AudienceCreateArgs) -> Result<Value, Failure> {
    let title = args.title.as_deref().unwrap_or_else(|| args.name.as_str());
    let condition = text_argument(&args.condition)?;
    let mut body = json!({ "name": args.name.as_str(), "title": title, "condition": condition });
    if args.strict {
        body["strict"] = json!(true);
    }
    put_actions(&mut body, &args.actions)?;
    for (action, prefix) in ACTIONS {
        let missing = ["channel", "purpose", "payload"].into_iter().find(|part| body[action].get(part).is_none());
        if let (Some(_), Some(part)) = (body.get(action), missing) {
            return Err(Failure::Usage(format!(
                "a message needs a channel, a purpose and a payload; give {prefix}{part} too"
            )));
        }
    }
    Ok(body)
}

/// The actions of an audience as the API names them, and how their flags begin.
const ACTIONS: [(&str, &str); 2] = [("on_enter", "--"), ("on_exit", "--on-exit-")];

fn change(args: &AudienceChangeArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    if let Some(title) = &args.title {
        body["title"] = json!(title);
    }
    if let Some(condition) = &args.condition {
        body["condition"] = json!(text_argument(condition)?);
    }
    if args.strict {
        body["strict"] = json!(true);
    }
    put_actions(&mut body, &args.actions)?;
    let ends =
        [("on_enter", "--no-channel", args.no_channel), ("on_exit", "--no-on-exit-channel", args.no_on_exit_channel)];
    for (action, flag, _) in ends.into_iter().filter(|(_, _, is_ended)| *is_ended) {
        if body.get(action).is_some() {
            return Err(Failure::Usage(format!("{flag} ends the message that another flag changes; give one of them")));
        }
        body[action] = Value::Null;
    }
    if body == json!({}) {
        let message = "nothing to change; give --condition, --title, or a flag of its messages such as --payload";
        return Err(Failure::Usage(message.to_owned()));
    }
    Ok(body)
}

fn put_actions(body: &mut Value, args: &ActionArgs) -> Result<(), Failure> {
    let payload = |name, text: &Option<String>| text.as_deref().map(|text| json_argument(name, text)).transpose();
    let on_enter = [
        ("channel", args.channel.as_ref().map(|channel| json!(channel.as_str()))),
        ("purpose", args.purpose.as_ref().map(|purpose| json!(purpose))),
        ("basis", args.basis.map(basis)),
        ("payload", payload("--payload", &args.payload)?),
        ("re_entry", args.re_entry.as_deref().map(re_entry)),
        ("existing", args.existing.map(reach)),
        ("imports", args.imports.map(reach)),
    ];
    let on_exit = [
        ("channel", args.on_exit_channel.as_ref().map(|channel| json!(channel.as_str()))),
        ("purpose", args.on_exit_purpose.as_ref().map(|purpose| json!(purpose))),
        ("basis", args.on_exit_basis.map(basis)),
        ("payload", payload("--on-exit-payload", &args.on_exit_payload)?),
        ("re_entry", args.on_exit_re_entry.as_deref().map(re_entry)),
        ("imports", args.on_exit_imports.map(reach)),
    ];
    put_action(body, "on_enter", on_enter);
    put_action(body, "on_exit", on_exit);
    Ok(())
}

/// Put the parts of an action that were given.
fn put_action(body: &mut Value, action: &str, parts: impl IntoIterator<Item = (&'static str, Option<Value>)>) {
    for (part, value) in parts {
        if let Some(value) = value {
            body[action][part] = value;
        }
    }
}

fn basis(basis: Basis) -> Value {
    match basis {
        Basis::OptIn => json!("opt_in"),
        Basis::NotRefused => json!("not_refused"),
    }
}

fn reach(reach: Reach) -> Value {
    match reach {
        Reach::Skip => json!("skip"),
        Reach::Send => json!("send"),
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
    let [count, would_send] = ["count", "would_send"].map(|name| people(preview, name));
    let pending = pending(preview);
    format!("{count} people meet the condition{pending}; writing to existing members sends up to {would_send} messages")
}

/// Whether numbers of people are not shown as they are, because the key may not read people.
fn is_masked(answer: &Value) -> bool {
    answer.get("masked").is_some_and(Value::is_string)
}

/// A number of people, as far as the key may see it.
fn people(answer: &Value, name: &str) -> String {
    match answer.get(name) {
        Some(Value::Null) if is_masked(answer) => "fewer than 20".to_owned(),
        _ => output::known(answer, name),
    }
}

/// How many people cannot be told yet, where there are any.
fn pending(answer: &Value) -> String {
    match answer.get("pending") {
        None => String::new(),
        Some(pending) if *pending == json!(0) => String::new(),
        Some(Value::Null) if is_masked(answer) => String::new(),
        Some(_) => format!(" (pending: {})", output::known(answer, "pending")),
    }
}

fn audience_table(audiences: &[Value]) -> String {
    let rows = audiences
        .iter()
        .map(|audience| {
            let [size, pending] = ["size", "pending"].map(|name| people(audience, name));
            let [on_enter, on_exit] = ["on_enter", "on_exit"].map(|action| field(&audience[action], "channel"));
            let condition = cut(&field(audience, "condition"), 80);
            vec![field(audience, "name"), size, pending, on_enter, on_exit, field(audience, "title"), condition]
        })
        .collect();
    output::table(&["audience", "size", "pending", "on enter", "on exit", "title", "condition"], rows)
}

/// All that there is to say of one audience.
fn one_audience(audience: &Value) -> String {
    let mut rows: Vec<Vec<String>> =
        ["name", "title", "condition", "created_at"].map(|name| vec![name.to_owned(), field(audience, name)]).to_vec();
    rows.extend(["size", "pending"].map(|name| vec![name.to_owned(), people(audience, name)]));
    if let Some(progress) = audience.get("progress").filter(|progress| progress.is_object()) {
        let [done, total] = ["done", "total"].map(|name| output::known(progress, name));
        rows.push(vec!["computed".to_owned(), format!("{done} of {total} profiles")]);
    }
    let as_of = format!("{}, log position {}", field(audience, "as_of_time"), field(audience, "as_of"));
    rows.push(vec!["as of".to_owned(), as_of]);
    for (action, _) in ACTIONS {
        rows.push(vec![action.to_owned(), action_cell(&audience[action])]);
    }
    output::table(&["what", "value"], rows) + &warnings(audience)
}

/// What an action sends: a line for each of its parts.
fn action_cell(action: &Value) -> String {
    let Some(parts) = action.as_object() else { return "nothing".to_owned() };
    let lines: Vec<String> = parts.iter().map(|(part, value)| format!("{part}: {}", output::plain(value))).collect();
    lines.join("\n")
}

fn member_table(members: &[Value]) -> String {
    let identifiers = |member: &Value| {
        let all = member.get("identifiers").and_then(Value::as_array).into_iter().flatten();
        let lines: Vec<String> =
            all.map(|found| cut(&format!("{}:{}", field(found, "type"), field(found, "value")), 60)).collect();
        lines.join("\n")
    };
    let rows = members.iter().map(|member| vec![field(member, "profile"), identifiers(member)]).collect();
    output::table(&["profile", "identifiers"], rows)
}

fn count_line(answer: &Value) -> String {
    let exact = if answer.get("exact") == Some(&Value::Bool(true)) { "exactly" } else { "about" };
    let counted = people(answer, "count");
    let pending = pending(answer);
    let behind = match answer.get("current") {
        Some(Value::Bool(false)) => "; what came since is not counted yet",
        _ => "",
    };
    let things = if counted == "1" { "profile" } else { "profiles" };
    format!("{counted} {things}, {exact}{pending}, as of log position {}{behind}", field(answer, "as_of"))
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

    fn changed(arguments: &[&str]) -> Result<Value, Failure> {
        let all: Vec<&str> = ["change", "all"].iter().chain(arguments).copied().collect();
        let AudienceCommand::Change(args) = parsed(&all) else { panic!("not change") };
        change(&args)
    }

    #[test]
    fn a_change_says_only_what_changes() {
        let both = changed(&["--title", "All", "--no-on-exit-channel"]).unwrap();
        assert_eq!(both, json!({ "title": "All", "on_exit": null }));
        let parts = changed(&["--re-entry", "30d", "--on-exit-imports", "send"]).unwrap();
        let expected = json!({ "on_enter": { "re_entry": { "after": "30d" } }, "on_exit": { "imports": "send" } });
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_change_of_nothing_or_of_what_it_ends_is_refused() {
        for arguments in [&[][..], &["--yes"], &["--no-channel", "--purpose", "x"]] {
            assert_eq!(changed(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn half_an_action_makes_no_audience() {
        for half in [&["--channel", "post"][..], &["--existing", "send"], &["--on-exit-payload", "{}"]] {
            let all: Vec<&str> = ["create", "x", "--condition", "true"].iter().chain(half).copied().collect();
            let AudienceCommand::Create(args) = parsed(&all) else { panic!("not create") };
            assert_eq!(definition(&args).unwrap_err().exit_code(), 2, "{half:?}");
        }
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
        assert_eq!(save(Consent::from_flag(true, AnswerFormat::Text), json!({}), server).unwrap()["name"], "all");
        assert_eq!(*sent.borrow(), [None, Some(json!("2-abc"))]);
    }

    #[test]
    fn an_explanation_is_read_from_the_whole_to_its_parts() {
        let answer = json!({ "audience": "carts", "profile": "0190", "holds": false, "refuses_profiling": false,
            "explanation": { "text": "traits.city == 'Rome' && tags.vip", "truth": false, "value": false, "parts": [
                { "text": "traits.city == 'Rome'", "truth": true, "value": true, "parts": [
                    { "text": "traits.city", "truth": null, "value": "Rome", "parts": [] }] },
                { "text": "tags.vip", "truth": "unknown", "value": null, "parts": [] },
                { "text": "traits.age", "truth": null, "value": null, "parts": [] }] } });
        insta::assert_snapshot!(explanation(&answer), @r#"
        0190 is not in carts

        traits.city == 'Rome' && tags.vip: no
          traits.city == 'Rome': yes
            traits.city: "Rome"
          tags.vip: not known yet
          traits.age: nothing
        "#);
    }

    #[test]
    fn audiences_show_what_is_not_known_yet_and_what_they_send() {
        let on_enter = json!({ "channel": "post", "purpose": "x", "payload": { "text": "Hello" }, "existing": "skip" });
        let audiences = [
            json!({ "name": "carts", "size": 1204, "pending": 3, "title": "Carts", "condition": "true",
                "on_enter": on_enter }),
            json!({ "name": "new", "size": null, "pending": null, "title": "New", "condition": "false", "as_of": 7,
                "as_of_time": "2026-11-21T10:00:00.000Z", "created_at": "2026-11-20T10:00:00.000Z",
                "progress": { "done": 1000, "total": 4000 }, "on_enter": on_enter, "on_exit": null }),
        ];
        insta::assert_snapshot!(audience_table(&audiences), @r"
         audience   size            pending         on enter   on exit   title   condition
        ───────────────────────────────────────────────────────────────────────────────────
         carts      1,204           3               post                 Carts   true
         new        not known yet   not known yet   post                 New     false
        ");
        let shown = one_audience(&audiences[1]);
        let warned = one_audience(&json!({ "name": "x", "warnings": ["nobody has the trait `cty` so far"] }));
        assert!(warned.ends_with("warning: nobody has the trait `cty` so far"), "{warned}");
        let line = count_line(&json!({ "count": 5, "pending": null, "exact": false, "as_of": 7 }));
        assert_eq!(line, "5 profiles, about (pending: not known yet), as of log position 7");
        let behind = count_line(&json!({ "count": 5, "pending": 0, "exact": true, "current": false, "as_of": 7 }));
        assert_eq!(behind, "5 profiles, exactly, as of log position 7; what came since is not counted yet");
        let masked = json!({ "count": null, "masked": "withheld", "pending": null, "exact": false, "as_of": 7 });
        assert_eq!(count_line(&masked), "fewer than 20 profiles, about, as of log position 7");
        for part in ["not known yet", "1,000 of 4,000 profiles", "channel: post", "existing: skip", "nothing"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
