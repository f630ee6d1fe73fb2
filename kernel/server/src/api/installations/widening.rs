//! What a version of a plugin asks for that another did not, in words for who consents to it.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::plugin::{Manifest, PluginKind};

/// What `next` asks for and `present` does not, each with the reason that its manifest gives.
pub(super) fn widened(present: &Manifest, next: &Manifest) -> Vec<String> {
    let had: BTreeSet<String> = asked(present).map(|(request, _)| request).collect();
    // Who has all of a kind has no more by naming some.
    let was_given = |request: &String| {
        request.starts_with(IDENTIFIERS) && had.contains(&identifiers_of("*"))
            || request.starts_with(EMITTING) && had.contains(ANY_EVENT)
            || request.starts_with(CARRYING) && had.contains(EVERY_PURPOSE)
    };
    let is_new = |request: &String| !had.contains(request) && !was_given(request);
    let more: BTreeMap<String, &str> = asked(next).filter(|(request, _)| is_new(request)).collect();
    more.into_iter().map(|(request, reason)| with_reason(request, reason)).collect()
}

/// A request with its reason, where the manifest gives one.
fn with_reason(request: String, reason: &str) -> String {
    if reason.is_empty() { request } else { format!("{request} ({reason})") }
}

/// How the request for a type of a person's identifiers begins.
const IDENTIFIERS: &str = "to be given a recipient's";

/// How the request to emit an event begins, and the one to emit every event.
const EMITTING: &str = "to emit `";
const ANY_EVENT: &str = "to emit events of any name";

/// How the request to carry messages for a purpose begins, and the one to carry messages for every purpose.
const CARRYING: &str = "to carry messages for `";
const EVERY_PURPOSE: &str = "to carry messages for every purpose";

fn identifiers_of(kind: &str) -> String {
    match kind {
        "*" => "to be given every identifier of a recipient".to_owned(),
        kind => format!("{IDENTIFIERS} `{kind}`"),
    }
}

/// The request to see what an expression gives, with the reason for it.
pub(super) fn to_see(expression: &str, reason: &str) -> String {
    with_reason(seeing(expression), reason)
}

fn seeing(expression: &str) -> String {
    format!("to see `{expression}`")
}

/// Each single thing that a manifest asks for, as a line for people, and why.
fn asked(manifest: &Manifest) -> impl Iterator<Item = (String, &str)> {
    let capabilities = &manifest.capabilities;
    let inputs = manifest.inputs.iter().map(|input| (seeing(&input.expression), input.reason.as_str()));
    let label = manifest.training.iter().map(|training| (format!("to learn from `{}`", training.label), ""));
    let http = capabilities.http.iter().flat_map(|request| {
        let of = |method: &String| (format!("http {method} to `{}`", request.host), request.reason.as_str());
        request.methods.iter().map(of)
    });
    let mail = capabilities.mail.iter();
    let mail = mail.map(|request| (format!("mail through `{}`", request.host), request.reason.as_str()));
    let secrets = capabilities.secrets.iter().flat_map(|request| {
        let to = |host: &String| (format!("secret `{}` to `{host}`", request.name), request.reason.as_str());
        request.hosts.iter().map(to)
    });
    let checking = capabilities.secrets.iter().filter(|request| request.hosts.is_empty());
    let checking = checking
        .map(|request| (format!("secret `{}` to check signatures with", request.name), request.reason.as_str()));
    let recipients = capabilities.recipients.iter();
    let recipients = recipients.map(|request| (identifiers_of(&request.kind), request.reason.as_str()));
    let emits = match manifest.emitted_names() {
        None => vec![(ANY_EVENT.to_owned(), "")],
        Some(names) => names.iter().map(|name| (format!("{EMITTING}{name}`"), "")).collect(),
    };
    let carried = match (manifest.kind, &capabilities.purposes) {
        (PluginKind::Channel, None) => vec![(EVERY_PURPOSE.to_owned(), "")],
        (_, names) => names.iter().flatten().map(|name| (format!("{CARRYING}{name}`"), "")).collect(),
    };
    let keeps_state = capabilities.kv_bytes > 0;
    let state = keeps_state.then(|| ("state of its own".to_owned(), capabilities.kv_reason.as_str()));
    let polling = manifest.poll.as_ref().map(|poll| ("to poll by itself".to_owned(), poll.reason.as_str()));
    inputs
        .chain(label)
        .chain(recipients)
        .chain(http)
        .chain(mail)
        .chain(secrets)
        .chain(checking)
        .chain(emits)
        .chain(carried)
        .chain(state)
        .chain(polling)
}
