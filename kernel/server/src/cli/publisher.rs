//! `kith publisher`: who may sign plugins, and which plugins the workspace takes.

use kith_model::id::Name;
use serde_json::{Value, json};

use super::args::{AddPublisherArgs, PublisherArgs, PublisherCommand};
use super::client::{ApiError, Client, encode};
use super::consent::Consent;
use super::output::{self, AnswerFormat, cut, field};
use super::plugin::signing::public_key;
use super::{Failure, items, print_json};

const POLICY: &str = "/api/v1/signature-policy";

/// Where the publishers are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Workspace,
    Host,
}

impl Place {
    fn all(self) -> &'static str {
        match self {
            Place::Workspace => "/api/v1/publishers",
            Place::Host => "/api/v1/host/publishers",
        }
    }

    fn one(self, name: &Name) -> String {
        format!("{}/{}", self.all(), encode(name.as_str()))
    }
}

pub(crate) fn run(args: &PublisherArgs, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    let place = if args.host { Place::Host } else { Place::Workspace };
    let (answer, text) = match &args.command {
        PublisherCommand::List => {
            let answer = client.whole(place.all())?;
            let text = table(items(&answer));
            (answer, text)
        }
        PublisherCommand::Add(args) => shown(add(place, args, client)?),
        PublisherCommand::Show { publisher } => shown(client.get(&place.one(publisher))?),
        PublisherCommand::Revoke { publisher, revoked, why, yes } => {
            let consequences = format!(
                "Nothing that key {revoked} of {publisher} signed is installed or upgraded to any more, whenever it was signed. \
                 This is not taken back."
            );
            Consent::from_flag(*yes, format).insist(&consequences, &format!("revoke {revoked}"))?;
            let path = format!("{}/keys/{}/revoke", place.one(publisher), encode(revoked));
            shown(client.post(&path, &json!({ "why": why }))?)
        }
        PublisherCommand::Remove { publisher, yes } => {
            let consequences = format!(
                "What {publisher} signed is of an unknown key then: not taken where signatures are required, and taken as if \
                 nobody had signed it elsewhere. Its revoked keys stay revoked."
            );
            Consent::from_flag(*yes, format).insist(&consequences, &format!("remove {publisher}"))?;
            client.delete(&place.one(publisher))?;
            (json!({ "removed": publisher.as_str() }), format!("{publisher} is removed"))
        }
        PublisherCommand::Policy { .. } if args.host => {
            let message = "the host's policy is set where the server is started: `kith serve --signatures`";
            return Err(Failure::Usage(message.to_owned()));
        }
        PublisherCommand::Policy { policy } => {
            let answer = match policy {
                Some(policy) => client.put(POLICY, &json!({ "policy": policy }))?,
                None => client.get(POLICY)?,
            };
            let [policy, host, in_force] = ["policy", "host", "in_force"].map(|name| field(&answer, name));
            (answer, format!("{in_force} is in force: the workspace says {policy}, the server {host}"))
        }
    };
    if format.is_json() { print_json(&answer) } else { output::say(text) }
}

/// Make or change a publisher, and give it the key that was named.
fn add(place: Place, args: &AddPublisherArgs, client: &Client) -> Result<Value, Failure> {
    let path = place.one(&args.publisher);
    // Before anything is changed.
    let key = args.public_key.as_deref().map(public_key).transpose()?;
    let mut answer = Value::Null;
    if !args.namespaces.is_empty() || args.title.is_some() {
        let present = match client.get(&path) {
            Ok(present) => present,
            Err(ApiError::Refused(problem)) if problem.http_status == 404 => json!({}),
            Err(error) => return Err(error.into()),
        };
        answer = client.put(&path, &document(&present, args))?;
    }
    if let Some(key) = key {
        let time = |time: Option<kith_model::time::Timestamp>| time.map(|time| time.to_string());
        let (valid_from, valid_until) = (time(args.valid_from), time(args.valid_until));
        let body = json!({ "public_key": key.line(), "valid_from": valid_from, "valid_until": valid_until });
        answer = client.post(&format!("{path}/keys"), &body)?;
    }
    Ok(answer)
}

/// A publisher's document after what was given of it.
fn document(present: &Value, args: &AddPublisherArgs) -> Value {
    let namespaces = match args.namespaces.as_slice() {
        [] => present.get("namespaces").cloned().unwrap_or_else(|| json!([])),
        given => json!(given),
    };
    let title = args.title.clone().unwrap_or_else(|| field(present, "title"));
    json!({ "title": title, "namespaces": namespaces })
}

/// Which plugins a publisher may sign.
fn namespaces(publisher: &Value) -> String {
    if publisher["removed"] == true {
        return "nothing: it was removed, and its revoked keys stay".to_owned();
    }
    publisher["namespaces"].as_array().into_iter().flatten().map(output::plain).collect::<Vec<_>>().join(", ")
}

fn table(publishers: &[Value]) -> String {
    let rows = publishers.iter().map(|publisher| {
        let keys = publisher.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let good = keys.iter().filter(|key| key["revoked"].is_null()).count();
        let keys = format!("{good} of {}", keys.len());
        vec![field(publisher, "name"), cut(&namespaces(publisher), 60), keys, cut(&field(publisher, "title"), 40)]
    });
    output::table(&["publisher", "may sign", "keys not revoked", "title"], rows.collect())
}

/// One publisher with its keys.
fn shown(answer: Value) -> (Value, String) {
    let named = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        named("publisher", field(&answer, "name")),
        named("title", field(&answer, "title")),
        named("may sign", namespaces(&answer)),
    ];
    for key in answer.get("keys").and_then(Value::as_array).into_iter().flatten() {
        rows.push(named(&format!("key {}", field(key, "key_id")), standing(key)));
    }
    let text = output::table(&["what", "value"], rows);
    (answer, text)
}

/// How a key stands.
fn standing(key: &Value) -> String {
    let revoked = &key["revoked"];
    if revoked.is_object() {
        return format!("revoked since {}: {}", field(revoked, "since"), cut(&field(revoked, "why"), 80));
    }
    let bounds = [("valid_from", "from"), ("valid_until", "until")];
    let bounds = bounds.map(|(name, word)| (word, field(key, name))).into_iter().filter(|(_, time)| !time.is_empty());
    let window: String = bounds.map(|(word, time)| format!(", {word} {time}")).collect();
    format!("{}{window}", field(key, "public_key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_of_a_publisher_stays() {
        let args = |namespaces: &[&str], title: Option<&str>| AddPublisherArgs {
            publisher: "acme".parse().unwrap(),
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            title: title.map(str::to_owned),
            public_key: None,
            valid_from: None,
            valid_until: None,
        };
        let present = json!({ "name": "acme", "title": "Acme", "namespaces": ["acme/*"], "keys": [] });
        let made = |present: &Value, args| document(present, &args);
        assert_eq!(made(&present, args(&[], Some("A"))), json!({ "title": "A", "namespaces": ["acme/*"] }));
        assert_eq!(made(&present, args(&["b/*"], None)), json!({ "title": "Acme", "namespaces": ["b/*"] }));
        assert_eq!(made(&json!({}), args(&["b/*"], None)), json!({ "title": "", "namespaces": ["b/*"] }));
    }

    #[test]
    fn no_key_is_revoked_and_no_publisher_removed_without_a_yes() {
        let publisher: Name = "acme".parse().unwrap();
        let revoke = PublisherCommand::Revoke {
            publisher: publisher.clone(),
            revoked: "E7620F1842B4E81F".to_owned(),
            why: "stolen".to_owned(),
            yes: false,
        };
        let remove = PublisherCommand::Remove { publisher, yes: false };
        for (command, deed) in [(revoke, "revoke E7620F1842B4E81F"), (remove, "remove acme")] {
            let args = PublisherArgs { host: false, command };
            // Nobody answers there: it is asked before anything is sent.
            let refused = run(&args, &Client::new("http://127.0.0.1:1", None), AnswerFormat::Json).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            assert!(refused.to_string().contains(&format!("to {deed} without a question, add --yes")), "{refused}");
        }
    }

    #[test]
    fn a_publisher_that_was_removed_says_that_it_signs_nothing() {
        let namespaces = |removed: bool| namespaces(&json!({ "namespaces": ["a/*", "b/c"], "removed": removed }));
        assert_eq!(namespaces(false), "a/*, b/c");
        assert_eq!(namespaces(true), "nothing: it was removed, and its revoked keys stay");
    }

    #[test]
    fn a_key_says_how_it_stands() {
        let key = json!({ "public_key": "RWQ", "valid_from": null, "valid_until": "2027-01-01T00:00:00.000Z", "revoked": null });
        assert_eq!(standing(&key), "RWQ, until 2027-01-01T00:00:00.000Z");
        let revoked = json!({ "revoked": { "since": "2026-11-21T10:00:00.000Z", "why": "stolen" } });
        assert_eq!(standing(&revoked), "revoked since 2026-11-21T10:00:00.000Z: stolen");
    }
}
