//! What a version of a plugin asks for that another did not, in words for who consents to it.

use std::collections::BTreeSet;

use kith_model::plugin::{Manifest, PluginKind};

/// What `next` asks for and `present` does not, each thing with the reason that its manifest gives.
pub(super) fn widened(present: &Manifest, next: &Manifest) -> Vec<String> {
    let had: BTreeSet<String> = asked(present).map(|request| request.what).collect();
    // Who has all of a kind has no more by naming some.
    let was_given = |what: &String| {
        what.starts_with(IDENTIFIERS) && had.contains(&identifiers_of("*"))
            || what.starts_with(EMITTING) && had.contains(ANY_EVENT)
            || what.starts_with(CARRYING) && had.contains(EVERY_PURPOSE)
    };
    let more = asked(next).filter(|request| !had.contains(&request.what) && !was_given(&request.what));
    let more: BTreeSet<String> = more.map(|request| with_reason(request.what, request.reason)).collect();
    more.into_iter().collect()
}

/// A single thing that a manifest asks for.
struct Request<'a> {
    /// In words for people.
    what: String,
    /// Why the plugin needs it, in the manifest's words; empty where it gives no reason.
    reason: &'a str,
}

impl<'a> Request<'a> {
    fn without_reason(what: String) -> Request<'a> {
        Request { what, reason: "" }
    }
}

/// A request with its reason.
pub(super) fn with_reason(what: String, reason: &str) -> String {
    if reason.is_empty() { what } else { format!("{what} ({reason})") }
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

/// Each single thing that a manifest asks for.
fn asked(manifest: &Manifest) -> impl Iterator<Item = Request<'_>> {
    let capabilities = &manifest.capabilities;
    let inputs = manifest.inputs.iter();
    let inputs = inputs.map(|input| Request { what: to_see(&input.expression), reason: &input.reason });
    let label = manifest.training.iter().map(|training| format!("to learn from `{}`", training.label));
    let http = capabilities.http.iter().flat_map(|request| {
        request
            .methods
            .iter()
            .map(|method| Request { what: format!("http {method} to `{}`", request.host), reason: &request.reason })
    });
    let mail = capabilities.mail.iter();
    let mail =
        mail.map(|request| Request { what: format!("mail through `{}`", request.host), reason: &request.reason });
    let secrets = capabilities.secrets.iter().flat_map(|request| {
        request
            .hosts
            .iter()
            .map(|host| Request { what: format!("secret `{}` to `{host}`", request.name), reason: &request.reason })
    });
    let checking = capabilities.secrets.iter().filter(|request| request.hosts.is_empty()).map(|request| Request {
        what: format!("secret `{}` to check signatures with", request.name),
        reason: &request.reason,
    });
    let recipients = capabilities.recipients.iter();
    let recipients = recipients.map(|request| Request { what: identifiers_of(&request.kind), reason: &request.reason });
    let emits = match manifest.emitted_names() {
        None => vec![ANY_EVENT.to_owned()],
        Some(names) => names.iter().map(|name| format!("{EMITTING}{name}`")).collect(),
    };
    let carried = match (manifest.kind, &capabilities.purposes) {
        (PluginKind::Channel, None) => vec![EVERY_PURPOSE.to_owned()],
        (_, names) => names.iter().flatten().map(|name| format!("{CARRYING}{name}`")).collect(),
    };
    let state = (capabilities.kv_bytes > 0)
        .then(|| Request { what: "state of its own".to_owned(), reason: &capabilities.kv_reason });
    let polling = manifest.poll.iter();
    let polling = polling.map(|poll| Request { what: "to poll by itself".to_owned(), reason: &poll.reason });
    inputs
        .chain(label.map(Request::without_reason))
        .chain(recipients)
        .chain(http)
        .chain(mail)
        .chain(secrets)
        .chain(checking)
        .chain(emits.into_iter().chain(carried).map(Request::without_reason))
        .chain(state)
        .chain(polling)
}
