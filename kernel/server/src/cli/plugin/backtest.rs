//! `kith plugin backtest`: a version that is tried over what is stored, and what an upgrade to it would change.

use std::time::Duration;

use serde_json::{Value, json};

use super::remote::path;
use super::shadow::{ended, outputs};
use crate::cli::args::BacktestArgs;
use crate::cli::client::{Client, pause};
use crate::cli::output::{self, AnswerFormat, Step, field, number};
use crate::cli::{Failure, items, json_argument};

/// How often it is looked how far it is.
const POLL: Duration = Duration::from_millis(200);

/// Characters of a value in a table.
const MAX_VALUE: usize = 48;

/// Examples of each line.
const MAX_EXAMPLES: usize = 5;

pub(super) fn backtest(client: &Client, args: &BacktestArgs, format: AnswerFormat) -> Result<(Value, String), Failure> {
    let (installation, path) = (&args.installation, format!("{}/backtest", path(&args.installation)));
    if args.cancel {
        let ended = ended(client, &path)?;
        let text = match &ended {
            Some(version) => {
                format!("the backtest of {version} on {installation} is ended, and what came of it forgotten")
            }
            None => format!("there is none: no version was tried over what is stored by {installation}"),
        };
        return Ok((json!({ "installation": installation.as_str(), "backtest": null, "ended": ended }), text));
    }
    let mut answer = match &args.version {
        Some(version) => {
            let mut body = json!({ "version": version.to_string(), "consent": args.yes });
            if let Some(config) = &args.config {
                body["config"] = json_argument("--config", config)?;
            }
            client.post(&path, &body)?
        }
        None => client.get(&path)?,
    };
    if args.wait {
        let step = Step::begin(format!("trying {} over what is stored", field(&answer, "version")), format);
        while matches!(field(&answer, "state").as_str(), "waiting" | "running") {
            step.say(progress(&answer));
            pause(POLL);
            answer = client.get(&path)?;
        }
        if matches!(field(&answer, "state").as_str(), "given-up" | "held") {
            return Err(Failure::Failed(report(installation.as_str(), &answer)));
        }
        step.end(&progress(&answer));
    }
    let text = report(installation.as_str(), &answer);
    Ok((answer, text))
}

/// How far it is, in people.
fn progress(answer: &Value) -> String {
    let [done, of] = ["done", "of"].map(|name| output::count(number(&answer["progress"], name)));
    format!("{done} of {of} people")
}

/// What it would change.
fn report(installation: &str, answer: &Value) -> String {
    let [version, live, state] = ["version", "live_version", "state"].map(|name| field(answer, name));
    let stands = match state.as_str() {
        "waiting" => "waits to be tried".to_owned(),
        "running" => format!("is being tried: {}", progress(answer)),
        "done" => format!("was tried over {}", progress(answer)),
        "given-up" => {
            let why = output::visible(&field(&answer["reason"], "message"));
            format!("was given up after {}: {why}", progress(answer))
        }
        _ => "cannot be made to run; the server's log says why".to_owned(),
    };
    let mut text = format!("{version} {stands}. {live} of {installation} is live; nothing of this counts.");
    if number(&answer["progress"], "done") == 0 {
        return text;
    }
    text.push_str(&format!("\n{}", people(&answer["people"])));
    text.push_str(&outputs(answer, "backtest"));
    text.push_str(&audiences(answer));
    text.push_str(&told(answer));
    text
}

/// Who was compared, and who was not.
fn people(people: &Value) -> String {
    let reasons = [
        ("failed", "failed"),
        ("given_up", "not asked about in time"),
        ("unknown", "with inputs that are not known yet"),
        ("objecting", "who object to profiling"),
        ("too_large", "whose history is too large"),
        ("unreadable", "who cannot be read"),
        ("pending", "compared before the live version had its say"),
    ];
    let told = reasons.iter().filter(|(name, _)| number(people, name) > 0);
    let told: String = told.map(|(name, why)| format!(", {} {why}", output::count(number(people, name)))).collect();
    format!("{} people compared{told}", output::count(number(people, "compared")))
}

fn audiences(answer: &Value) -> String {
    if answer["audiences"].is_null() {
        return "\n\nAudiences and their messages need audiences:read.".to_owned();
    }
    let unmoved = output::count(number(answer, "audiences_unmoved"));
    let audiences = items(&answer["audiences"]);
    if audiences.is_empty() {
        return format!("\n\nNo audience would change; {unmoved} were looked at.");
    }
    let row = |audience: &Value| {
        let counted = ["entered", "left", "undecided"].map(|name| output::count(number(audience, name)));
        let sent = ["on_enter", "on_exit"].map(|action| messages(&audience[action]));
        [vec![field(audience, "name")], counted.to_vec(), sent.to_vec()].concat()
    };
    let header = ["audience", "enter", "leave", "not known", "messages on enter", "on exit"];
    let table = output::table(&header, audiences.iter().map(row).collect());
    format!("\n\n{table}\n{unmoved} more would stay as they are")
}

fn messages(counts: &Value) -> String {
    if counts.is_null() {
        return "no action".to_owned();
    }
    let [pass, refused, not_due] =
        ["would_pass", "would_be_refused", "not_due"].map(|name| output::count(number(counts, name)));
    format!("{pass} leave, {refused} refused, {not_due} not due")
}

/// What is not as it was, what was not followed, how it failed last and the examples, where the key may see them.
fn told(answer: &Value) -> String {
    let mut text = String::new();
    let changed: Vec<String> = items(&answer["changed"]).iter().map(change).collect();
    if !changed.is_empty() {
        text.push_str(&format!("\n\nChanged since it began: {}. Begin it again to know.", changed.join(", ")));
    }
    let beyond = &answer["not_followed"];
    let [models, audiences] = ["installations", "audiences"].map(|name| {
        let names: Vec<String> = items(&beyond[name]).iter().map(output::plain).collect();
        names.join(", ")
    });
    if !models.is_empty() {
        text.push_str(&format!("\n\nNot computed: what {models} would make of it"));
        if !audiences.is_empty() {
            text.push_str(&format!(", and so {audiences} as far as those decide"));
        }
        text.push('.');
    }
    let last = &answer["last_failure"];
    if last.is_object() {
        let message = match last["message"].as_str() {
            Some(message) => output::visible(message),
            None => "its words need profiles:read and, where something is sensitive, sensitive:read".to_owned(),
        };
        text.push_str(&format!("\n\nIt failed last at {}, {}: {message}", field(last, "at"), field(last, "code")));
    }
    text.push_str(&examples(answer));
    text
}

fn change(change: &Value) -> String {
    let audience = change["audience"].as_str().map_or_else(|| "an audience".to_owned(), output::visible);
    match field(change, "what").as_str() {
        "version" => "the live version".to_owned(),
        "config" => "its configuration".to_owned(),
        "fit" => "its fit".to_owned(),
        "time-zone" => "the time zone".to_owned(),
        "audience-added" => format!("{audience} is new"),
        "audience-removed" => format!("{audience} was removed"),
        _ => format!("{audience} is defined otherwise"),
    }
}

fn examples(answer: &Value) -> String {
    let (outputs, audiences) = (items(&answer["outputs"]), items(&answer["audiences"]));
    if outputs.iter().any(|output| output["examples"].is_null()) {
        return "\n\nExamples need profiles:read and, where something is sensitive, sensitive:read.".to_owned();
    }
    let value = |value: &Value| output::cut(&output::visible(&value.to_string()), MAX_VALUE);
    let mut rows = Vec::new();
    for output in outputs {
        for example in items(&output["examples"]).iter().take(MAX_EXAMPLES) {
            let what =
                format!("{} {}, now {}", field(output, "name"), value(&example["backtest"]), value(&example["live"]));
            rows.push(vec![field(example, "profile"), what, String::new()]);
        }
    }
    for audience in audiences {
        for (list, what) in [("entering", "enters"), ("leaving", "leaves")] {
            for example in items(&audience[list]).iter().take(MAX_EXAMPLES) {
                let what = format!("{what} {}", field(audience, "name"));
                rows.push(vec![field(example, "profile"), what, message(example)]);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("\n\nSome of them:\n{}", output::table(&["profile", "what", "message"], rows))
}

/// What would become of somebody's message.
fn message(example: &Value) -> String {
    match example["message"].as_str() {
        None => String::new(),
        Some("would-pass") => "leaves".to_owned(),
        Some("not-due") => "not due".to_owned(),
        Some(_) => format!("refused: {}", output::cut(&output::visible(&field(example, "reason")), MAX_VALUE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({
            "version": "0.2.0", "live_version": "0.1.0", "state": "done", "progress": { "done": 1_200, "of": 1_200 },
            "people": { "compared": 1_190, "failed": 9, "objecting": 1 },
            "outputs": [{ "name": "level", "equal": 1_188, "changed": 2, "only_live": 0, "only_backtest": 0,
                "examples": [{ "profile": "p1", "live": "few", "backtest": "many" }] }],
            "audiences": [{ "name": "good", "entered": 2, "left": 0, "undecided": 0,
                "on_enter": { "would_pass": 1, "would_be_refused": 1, "not_due": 0 }, "on_exit": null,
                "entering": [{ "profile": "p1", "message": "would-be-refused", "reason": "no consent" }], "leaving": [] }],
            "audiences_unmoved": 3, "changed": [{ "what": "audience-added", "audience": "best" }],
            "not_followed": { "installations": ["value"], "audiences": ["rich"] }, "last_failure": null,
        })
    }

    #[test]
    fn what_would_change_is_told() {
        let text = report("levels", &answer());
        for part in [
            "0.2.0 was tried over 1,200 of 1,200 people. 0.1.0 of levels is live; nothing of this counts.",
            "1,190 people compared, 9 failed, 1 who object to profiling",
            "only backtest",
            "1 leave, 1 refused, 0 not due",
            "no action",
            "3 more would stay as they are",
            "Changed since it began: best is new.",
            "Not computed: what value would make of it, and so rich as far as those decide.",
            "level \"many\", now \"few\"",
            "refused: no consent",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn who_may_not_see_people_is_told_what_that_needs() {
        let mut hidden = answer();
        hidden["outputs"][0]["examples"] = Value::Null;
        assert!(examples(&hidden).contains("profiles:read"));
        for name in ["audiences", "audiences_unmoved"] {
            hidden[name] = Value::Null;
        }
        hidden["changed"][0]["audience"] = Value::Null;
        let text = report("levels", &hidden);
        assert!(text.contains("Audiences and their messages need audiences:read."), "{text}");
        assert!(text.contains("Changed since it began: an audience is new."), "{text}");
        let given_up = json!({ "state": "given-up", "reason": { "code": "x", "message": "why" }, "version": "0.2.0" });
        assert!(report("levels", &given_up).contains("was given up after 0 of 0 people: why"));
    }
}
