//! `kith identity rules`: reading, changing and trying out what is an identifier and what may be joined.

use std::time::Duration;

use serde_json::Value;

use super::super::args::RulesCommand;
use super::super::client::{Client, encode, pause};
use super::super::output::{self, AnswerFormat, count, field, number};
use super::super::{Failure, json_argument, print_json};

/// How often a dry run is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn run(command: &RulesCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        RulesCommand::Show => print_json(&client.get("/api/v1/identity/rules")?),
        RulesCommand::Set { rules, dry_run: is_dry, confirm } => {
            let rules = json_argument("the rules", rules)?;
            if *is_dry {
                return dry_run(client, client.post("/api/v1/identity/rules/dry-run", &rules)?, format);
            }
            let confirm = confirm.as_ref().map_or(String::new(), |token| format!("?confirm={}", encode(token)));
            print_json(&client.put(&format!("/api/v1/identity/rules{confirm}"), &rules)?)
        }
        RulesCommand::Status => {
            let change = client.get("/api/v1/identity/rules/change")?;
            if format.is_json() {
                return print_json(&change);
            }
            output::say(match change.get("progress") {
                Some(progress) => format!("{}{}", field(&change, "state"), steps(progress)),
                None => field(&change, "state"),
            })
        }
    }
}

/// How far a change has come, behind its state.
fn steps(progress: &Value) -> String {
    let of = |done: &str, all: &str| format!("{} of {}", count(number(progress, done)), count(number(progress, all)));
    let step = field(progress, "step");
    let at = match step.as_str() {
        "weigh" => of("weighed", "identifiers"),
        "replay" => of("events", "events_in_all"),
        "settle" => of("settled", "identifiers"),
        _ => return String::new(),
    };
    format!(", {step} {at}")
}

/// Wait for a dry run, and show what came of it.
pub(super) fn dry_run(client: &Client, mut answer: Value, format: AnswerFormat) -> Result<(), Failure> {
    let token = field(&answer, "token");
    let mut shown = String::new();
    while field(&answer, "state") == "running" {
        let at = answer.get("progress").map_or(String::new(), steps);
        if at != shown && !format.is_json() {
            eprintln!("looking at everybody{at}");
            shown = at;
        }
        pause(LOOK);
        answer = client.get(&format!("/api/v1/identity/dry-run?token={}", encode(&token)))?;
    }
    if format.is_json() {
        return print_json(&answer);
    }
    match field(&answer, "state").as_str() {
        "applied" => output::say("applied; `kith identity rules status` tells how far it is"),
        "failed" => Err(Failure::Failed(format!("the dry run ended early: {}", field(&answer, "reason")))),
        _ => match answer.get("effect") {
            Some(effect) => output::say(format_args!("{}\n\nto do it, add: --confirm {token}", text(effect))),
            None => Ok(()),
        },
    }
}

/// What a change would do, for people.
fn text(effect: &Value) -> String {
    let n = |name: &str| count(number(effect, name));
    let is = |name: &str| effect.get(name).and_then(Value::as_bool) == Some(true);
    let mut lines = vec![
        format!("people: {} now, {} then", n("people_before"), n("people_after")),
        format!("{} come apart, {} are made of several", n("parted"), n("joined")),
        format!(
            "identifiers: {} tie nobody any more, {} tie again, {} name nobody any more, {} name somebody again",
            n("newly_shared"),
            n("newly_free"),
            n("newly_blocked"),
            n("newly_allowed")
        ),
    ];
    for (name, what) in
        [("too_connected", "people stay as they are, too connected"), ("unreadable", "identifiers cannot be read")]
    {
        if number(effect, name) > 0 {
            lines.push(format!("{} {what}", n(name)));
        }
    }
    let list = |name: &str| effect.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for touched in list("audiences") {
        lines.push(format!(
            "audience {}: {} members touched",
            field(&touched, "audience"),
            count(number(&touched, "members"))
        ));
    }
    for example in list("examples") {
        lines.push(format!("e.g. {} -> {}", people(&example, "before"), people(&example, "after")));
    }
    lines.push(match (is("complete"), is("exact")) {
        (false, _) => "it changes more than is looked at in memory: these are the numbers of a part".to_owned(),
        (true, false) => format!("about position {}: events came meanwhile", number(effect, "as_of")),
        (true, true) => format!("exact at position {}", number(effect, "as_of")),
    });
    lines.join("\n")
}

fn people(example: &Value, name: &str) -> String {
    let people = example.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let one = |person: &Value| {
        let all = person.as_array().cloned().unwrap_or_default();
        let all = all.iter().map(|end| output::visible(&format!("{}:{}", field(end, "type"), field(end, "value"))));
        format!("[{}]", all.collect::<Vec<_>>().join(" "))
    };
    people.iter().map(one).collect::<Vec<_>>().join(" ")
}
