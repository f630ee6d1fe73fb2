//! What a plugin asks for, as it is shown before its first installation: each thing with the reason that the manifest gives, and
//! whether the installation is given it.

use kith_host::{ItemKind, LABEL_ITEM, Limits, PolicyItem, Side, policy_items};
use kith_model::plugin::{Grants, Manifest};

use super::grants::is_open;
use crate::cli::output::count;

/// A line for each thing that a version asks for; `signature` says how that of the version stands.
pub(super) fn asked_for(manifest: &Manifest, grants: &Grants, signature: &str) -> String {
    let Manifest { id, version, kind, .. } = manifest;
    // What the server allows it knows itself.
    let items = policy_items(manifest, grants, &Limits::default(), &[]);
    let mut lines: Vec<String> = items.iter().filter_map(line).collect();
    lines.extend(manifest.poll.iter().map(|poll| format!("to poll by itself ({})", poll.reason)));
    let lines: Vec<String> = lines.iter().map(|line| format!("\n  {line}")).collect();
    let asks = if lines.is_empty() { "asks for nothing." } else { "asks for:" };
    format!("{id} {version}, a {kind} (signature {signature}), {asks}{}", lines.concat())
}

/// An item that is asked for, with its reason.
fn line(item: &PolicyItem) -> Option<String> {
    let asked = text(item.asked.as_ref()?);
    let name = &item.name;
    let (what, held) = match item.kind {
        ItemKind::Input if name == LABEL_ITEM => (format!("to learn from {asked}"), None),
        ItemKind::Input => (format!("input {name}: {asked}"), None),
        ItemKind::Event if name == "*" => ("to emit events of any name".to_owned(), None),
        ItemKind::Event => (format!("to emit {name}"), None),
        ItemKind::Http => (format!("http {asked}"), item.effective.as_ref()),
        ItemKind::Mail => (format!("mail through {asked}"), item.effective.as_ref()),
        ItemKind::Secret if asked.is_empty() => {
            (format!("secret {name}, to check signatures with"), item.effective.as_ref())
        }
        ItemKind::Secret => (format!("secret {name} to {asked}"), item.effective.as_ref()),
        ItemKind::Kv if item.asked == Some(Side::Count(0)) => return None,
        ItemKind::Kv => (format!("state of its own, {asked} bytes"), item.granted.as_ref()),
        ItemKind::Recipient if name == "*" => ("every identifier of a recipient".to_owned(), item.effective.as_ref()),
        ItemKind::Recipient => (format!("a recipient's {name}"), item.effective.as_ref()),
        ItemKind::Purpose if name == "*" => ("messages for every purpose".to_owned(), item.effective.as_ref()),
        ItemKind::Purpose => (format!("messages for {name}"), item.effective.as_ref()),
        ItemKind::Network | ItemKind::Sensitive | ItemKind::Consent | ItemKind::Limit => return None,
    };
    let given = match held.map(text) {
        // No grant decides on an input or an event.
        _ if matches!(item.kind, ItemKind::Input | ItemKind::Event) => String::new(),
        _ if is_open(item) => "; not granted".to_owned(),
        Some(held) if !held.is_empty() && held != asked => format!("; granted: {held}"),
        _ => "; granted".to_owned(),
    };
    let reason = item.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(format!("{what}{given}{reason}"))
}

fn text(side: &Side) -> String {
    match side {
        Side::Count(number) => count(*number),
        Side::Names(names) => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{Capabilities, PluginKind, PollRequest};

    use super::super::grants::tests::notes;
    use super::*;

    #[test]
    fn each_thing_stands_with_its_reason_and_whether_it_is_granted() {
        let grants = Grants {
            http: vec!["a.example.org".to_owned()],
            recipients: Some(vec!["email".to_owned()]),
            ..Grants::default()
        };
        insta::assert_snapshot!(asked_for(&notes(), &grants, "unsigned"), @r"
        acme/notes 0.1.0, a channel (signature unsigned), asks for:
          http GET *.example.org; granted: GET a.example.org:443 (Pictures are there)
          http POST api.example.com; not granted (Notes are posted there)
          secret key to api.example.com; not granted (The provider asks for it)
          input name: traits.name (Messages address the person by it)
          a recipient's email; granted (To write to)
          a recipient's phone; not granted (To call)
          messages for every purpose; granted
        ");
    }

    #[test]
    fn what_is_asked_for_of_a_connector_is_shown_too() {
        let mut manifest = notes();
        manifest.kind = PluginKind::Connector;
        manifest.inputs.clear();
        manifest.capabilities =
            Capabilities { kv_bytes: 5_000, kv_reason: "Pages are remembered".to_owned(), ..Capabilities::default() };
        manifest.poll = Some(PollRequest { interval_ms: 60_000, reason: "Orders are fetched".to_owned() });
        let grants = Grants { kv_bytes: 100, ..Grants::default() };
        insta::assert_snapshot!(asked_for(&manifest, &grants, "valid: acme"), @r"
        acme/notes 0.1.0, a connector (signature valid: acme), asks for:
          state of its own, 5,000 bytes; granted: 100 (Pages are remembered)
          to emit events of any name
          to poll by itself (Orders are fetched)
        ");
    }
}
