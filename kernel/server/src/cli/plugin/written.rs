//! `kith plugin written|undo`: what one digest of a plugin wrote, and taking it back.

use serde_json::{Value, json};

use super::grants::held_version;
use crate::cli::Failure;
use crate::cli::args::{DigestArgs, UndoArgs};
use crate::cli::client::{Client, encode};
use crate::cli::consent::Consent;
use crate::cli::output::{self, AnswerFormat, field, number, section};

/// The path of a digest: the one that is given, or that of the version.
fn path(client: &Client, args: &DigestArgs) -> Result<String, Failure> {
    let digest = match (&args.digest, &args.version) {
        (Some(digest), _) => digest.clone(),
        (None, version) => field(&held_version(client, &args.plugin, version.as_ref())?, "digest"),
    };
    Ok(format!("/api/v1/plugins/{}/digests/{}", args.plugin, encode(&digest)))
}

pub(super) fn written(client: &Client, args: &DigestArgs) -> Result<(Value, String), Failure> {
    let answer = client.get(&format!("{}/written", path(client, args)?))?;
    let text = report(&answer);
    Ok((answer, text))
}

/// Take back what a digest wrote, once what that is was shown.
pub(super) fn undo(client: &Client, args: &UndoArgs, format: AnswerFormat) -> Result<(Value, String), Failure> {
    let path = path(client, &args.of)?;
    if args.cancel {
        let under_way = is_under_way(&client.get(&format!("{path}/written"))?);
        let left = client.delete(&format!("{path}/undo"))?;
        let text = cancelled(under_way, items(&left));
        return Ok((left, text));
    }
    let mut answer = client.get(&format!("{path}/written"))?;
    let mut text = report(&answer);
    if list(&answer, "values").is_empty() && list(&answer, "events").is_empty() {
        return Err(nothing(&text));
    }
    if !list(&answer, "events").is_empty() {
        let found = client.post(&format!("{path}/undo?dry_run=true"), &json!({}))?;
        text += &would_be(items(&found));
        answer["dry_run"] = found;
    }
    if args.dry_run {
        return Ok((answer, text));
    }
    Consent::from_flag(args.yes, format)
        .insist(&text, &format!("take back what this digest of {} wrote", args.of.plugin))?;
    let undone = client.post(&format!("{path}/undo"), &json!({}))?;
    // What it wrote may have gone meanwhile, with its installation.
    if items(&undone).is_empty() {
        return Err(nothing(&text));
    }
    let text = format!(
        "{}\n`kith plugin written {} --digest {}` shows how far it is.",
        undo_table(items(&undone)),
        args.of.plugin,
        field(&answer, "digest")
    );
    Ok((undone, text))
}

/// That there is nothing to take back.
fn nothing(written: &str) -> Failure {
    Failure::Failed(format!("{written}\nNothing is of this digest: there is nothing to take back."))
}

/// Whether something of a digest is being taken back, or waits for that.
fn is_under_way(written: &Value) -> bool {
    list(written, "undone").iter().any(|undo| matches!(field(undo, "state").as_str(), "waiting" | "under_way"))
}

/// What is said when nothing more is to be taken back, which is no failure where nothing was.
fn cancelled(was_under_way: bool, left: &[Value]) -> String {
    let said = match was_under_way {
        true => "It is cancelled: what was taken back stays so, and the rest is as it was.",
        false => "There is none: nothing was being taken back.",
    };
    if left.is_empty() { said.to_owned() } else { format!("{said}\n{}", undo_table(left)) }
}

fn items(answer: &Value) -> &[Value] {
    answer.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What would be taken back of events, and what would stay.
fn would_be(found: &[Value]) -> String {
    let mut text = String::new();
    for of in found.iter().filter(|of| of["taken_back"].is_object()) {
        let count = |name: &str| output::count(number(&of["taken_back"], name));
        text += &format!(
            "\n\nOf `{}` {} would leave the histories of their people; {} of them stated facts, {} agreed to something.",
            field(of, "installation"),
            output::counted(number(&of["taken_back"], "events"), "event"),
            count("with_facts"),
            count("agreeing")
        );
        if number(&of["taken_back"], "returned") > 0 {
            text += &format!(
                " {} that they had corrected would count again.",
                output::counted(number(&of["taken_back"], "returned"), "event")
            );
        }
        if number(of, "waiting") > 0 {
            text += &format!(
                " {} made since the version first read wait: those that these events alone set off would be skipped.",
                output::counted(number(of, "waiting"), "message")
            );
        }
        if of["exact"].as_bool() == Some(false) {
            text += " Not everything was looked at: there are more.";
        }
        text += &what_stays(of);
    }
    text
}

/// What of an undo stays, a line for each.
fn what_stays(undo: &Value) -> String {
    let lines = list(undo, "stays").iter();
    lines.map(|stays| format!("\n  stay: {} {}", output::count(number(stays, "count")), field(stays, "why"))).collect()
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn report(answer: &Value) -> String {
    let version = answer["version"].as_str().unwrap_or("a version that was deleted");
    let mut text = format!("{} {version}, sha256:{}\n", field(answer, "plugin"), field(answer, "digest"));
    if ["values", "events", "undone"].iter().all(|part| list(answer, part).is_empty()) {
        text += "\nNo value that people have and no event is of it.\n";
    }
    let mut rows = Vec::new();
    for values in list(answer, "values") {
        for (output, people) in values["people"].as_object().into_iter().flatten() {
            let people = output::count(people.as_u64().unwrap_or_default());
            rows.push(vec![field(values, "installation"), field(values, "kind"), output.clone(), people]);
        }
    }
    section(&mut text, &["installation", "kind", "output", "people"], rows);
    let events = list(answer, "events").iter().map(|read| {
        let up_to = read["up_to"].as_u64().map_or_else(|| "now".to_owned(), |up_to| up_to.to_string());
        let count = output::count(number(read, "events"));
        vec![field(read, "source"), field(read, "since"), field(read, "after"), up_to, count]
    });
    section(&mut text, &["source", "reads since", "behind position", "up to", "events"], events.collect());
    let messages = &answer["messages"];
    let audiences: Vec<String> = list(messages, "audiences").iter().map(output::plain).collect();
    if !audiences.is_empty() {
        text += &format!(
            "\nIts values decide {}. {} of these have left, whichever version decided; no message is taken back.\n",
            audiences.join(", "),
            output::counted(number(messages, "sent"), "message")
        );
    }
    if !list(answer, "values").is_empty() && !list(answer, "events").is_empty() {
        text += "\nWhat a model emitted is not taken back.\n";
    }
    if answer["events_next"].is_string() {
        text += "\nIt read events of more parts of the log: `GET …/written/ranges` lists all.\n";
    }
    if audiences.is_empty() && number(messages, "sent") > 0 {
        let left = output::counted(number(messages, "sent"), "message");
        text += &format!("\nSince it first read, {left} left, whyever; no message is taken back.\n");
    }
    if answer["exact"].as_bool() == Some(false) {
        text += "\nNot everybody was looked at: there are more.\n";
    }
    section(&mut text, &UNDONE, undo_rows(list(answer, "undone")));
    list(answer, "undone").iter().for_each(|undo| text += &what_stays(undo));
    text.trim_end().to_owned()
}

const UNDONE: [&str; 4] = ["taken back of", "asked for", "by", "state"];

fn undo_rows(undone: &[Value]) -> Vec<Vec<String>> {
    let row = |undo: &Value| {
        let state = match undo["state"].as_str() {
            Some("under_way") => {
                let what = if undo["taken_back"].is_object() { "records" } else { "people" };
                format!("{} of {} {what}", output::count(number(undo, "done")), output::count(number(undo, "of")))
            }
            state => state.unwrap_or_default().to_owned(),
        };
        let state = match undo["taken_back"]["events"].as_u64() {
            Some(events) => format!("{state}, {} taken back", output::counted(events, "event")),
            None => state,
        };
        vec![field(undo, "installation"), field(undo, "at"), field(undo, "by"), state]
    };
    undone.iter().map(row).collect()
}

fn undo_table(undone: &[Value]) -> String {
    output::table(&UNDONE, undo_rows(undone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_something_was_cancelled_is_told() {
        let undone = |state: &str| json!({ "undone": [{ "installation": "level", "state": state }] });
        assert!(is_under_way(&undone("waiting")) && is_under_way(&undone("under_way")));
        assert!(!is_under_way(&undone("done")) && !is_under_way(&json!({ "undone": [] })));
        assert_eq!(cancelled(false, &[]), "There is none: nothing was being taken back.");
        assert!(cancelled(true, &[]).starts_with("It is cancelled:"));
    }

    #[test]
    fn what_a_digest_wrote_is_told_with_what_stays() {
        let answer = json!({
            "plugin": "acme/level", "digest": "ab12", "version": "1.2.0",
            "values": [{"installation": "level", "kind": "tag", "fits": [0], "people": {"level": 12_345}}],
            "events": [{"source": "shop", "version": "1.2.0", "since": "2026-11-21T10:00:00.000Z", "after": 7,
                "up_to": null, "events": 31_106}],
            "messages": {"audiences": ["carts", "vip"], "sent": 1}, "exact": false,
            "undone": [{"installation": "level", "at": "2026-11-21T11:00:00.000Z", "by": "k1", "state": "under_way",
                "done": 5, "of": 12_345}, {"installation": "shop", "at": "2026-11-21T12:00:00.000Z", "by": "k1", "state": "done",
                "taken_back": {"events": 31_100}, "stays": [{"what": "refusals", "count": 6, "why": "events that refused"}]}],
        });
        let shown = report(&answer);
        let lines = [
            "acme/level 1.2.0, sha256:ab12",
            "Its values decide carts, vip. 1 message of these have left, whichever version decided; no message is taken back.",
            "  stay: 6 events that refused",
            "Not everybody was looked at: there are more.",
        ];
        for line in lines {
            assert!(shown.lines().any(|shown| shown == line), "{line}\nis not in\n{shown}");
        }
        for cell in ["12,345", "31,106", "now", "5 of 12,345 people", "done, 31,100 events taken back"] {
            assert!(shown.contains(cell), "{cell}\nis not in\n{shown}");
        }
        let nothing = json!({ "plugin": "acme/level", "digest": "ab12", "version": null, "values": [], "events": [],
            "messages": {"audiences": [], "sent": 0}, "exact": true, "undone": [] });
        let told =
            "acme/level a version that was deleted, sha256:ab12\n\nNo value that people have and no event is of it.";
        assert_eq!(report(&nothing), told);
    }
    #[test]
    fn what_an_undo_would_come_to_is_told() {
        let found = json!([{"installation": "shop", "state": "dry_run", "waiting": 20, "exact": true,
            "taken_back": {"events": 3, "with_facts": 2, "agreeing": 1, "returned": 3},
            "stays": [{"what": "lost", "count": 1, "why": "events of which too little is left"}]}]);
        let told = "\n\nOf `shop` 3 events would leave the histories of their people; 2 of them stated facts, 1 agreed to something. \
             3 events that they had corrected would count again. 20 messages made since the version first read wait: those that \
             these events alone set off would be skipped.\n  stay: 1 events of which too little is left";
        assert_eq!(would_be(items(&found)), told);
        let ended =
            json!([{"installation": "shop", "at": "", "by": "k1", "state": "cancelled", "taken_back": {"events": 2}}]);
        assert_eq!(undo_rows(items(&ended))[0][3], "cancelled, 2 events taken back");
    }
}
