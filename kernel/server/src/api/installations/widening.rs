//! What a version of a plugin asks for that another did not, in words for who consents to it.

use std::collections::BTreeSet;

use kith_model::plugin::{Manifest, PluginKind};

/// What `next` asks for and `present` does not.
pub(super) fn widened(present: &Manifest, next: &Manifest) -> Vec<String> {
    let had: BTreeSet<String> = asked(present).collect();
    // Who has all of a kind has no more by naming some.
    let was_given = |request: &String| {
        request.starts_with(IDENTIFIERS) && had.contains(&identifiers_of("*"))
            || request.starts_with(EMITTING) && had.contains(ANY_EVENT)
            || request.starts_with(CARRYING) && had.contains(EVERY_PURPOSE)
    };
    let more: BTreeSet<String> = asked(next).filter(|request| !had.contains(request) && !was_given(request)).collect();
    more.into_iter().collect()
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

/// The request to see what an expression gives.
pub(super) fn to_see(expression: &str) -> String {
    format!("to see `{expression}`")
}

/// Each single thing that a manifest asks for, as a line for people.
fn asked(manifest: &Manifest) -> impl Iterator<Item = String> {
    let capabilities = &manifest.capabilities;
    let inputs = manifest.inputs.iter().map(|input| to_see(&input.expression));
    let label = manifest.training.iter().map(|training| format!("to learn from `{}`", training.label));
    let http = capabilities
        .http
        .iter()
        .flat_map(|request| request.methods.iter().map(|method| format!("http {method} to `{}`", request.host)));
    let mail = capabilities.mail.iter().map(|request| format!("mail through `{}`", request.host));
    let secrets = capabilities
        .secrets
        .iter()
        .flat_map(|request| request.hosts.iter().map(|host| format!("secret `{}` to `{host}`", request.name)));
    let checking = capabilities.secrets.iter().filter(|request| request.hosts.is_empty());
    let checking = checking.map(|request| format!("secret `{}` to check signatures with", request.name));
    let recipients = capabilities.recipients.iter().map(|request| identifiers_of(&request.kind));
    let emits = match manifest.emitted_names() {
        None => vec![ANY_EVENT.to_owned()],
        Some(names) => names.iter().map(|name| format!("{EMITTING}{name}`")).collect(),
    };
    let carried = match (manifest.kind, &capabilities.purposes) {
        (PluginKind::Channel, None) => vec![EVERY_PURPOSE.to_owned()],
        (_, names) => names.iter().flatten().map(|name| format!("{CARRYING}{name}`")).collect(),
    };
    let state = (capabilities.kv_bytes > 0).then(|| "state of its own".to_owned());
    let polling = manifest.poll.is_some().then(|| "to poll by itself".to_owned());
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
