//! A file of grants to begin with, with the manifest's reasons: all that a manifest asks for, as far as it alone can name it, or what
//! an installation has. Of a pattern such as `*.example.com` somebody has to name the hosts, so that it is left open.

use kith_host::{ItemKind, Limits, policy_items};
use kith_model::plugin::{Grants, Manifest, PluginKind, SecretRequest};
use serde_json::{Value, json};

use super::{Refused, is_open};
use crate::cli::output::visible;

/// What a file begins with.
pub(super) struct Beginning {
    grants: Grants,
    refused: Refused,
    /// The installation that has it; none of a plugin's, whose patterns are left open.
    installation: Option<String>,
}

impl Beginning {
    /// All that is asked for and that the manifest names in full.
    pub(super) fn of_plugin(manifest: &Manifest) -> Beginning {
        Beginning { grants: suggested(manifest), refused: Refused::default(), installation: None }
    }

    /// What an installation has now, and of what is asked for what it has not: put in place by a change it changes nothing.
    pub(super) fn of_installation(name: String, manifest: &Manifest, mut grants: Grants) -> Beginning {
        let networks = grants.networks.iter().filter_map(|text| text.parse().ok()).collect();
        let items = policy_items(manifest, &grants, &Limits { networks, ..Limits::default() }, &[]);
        let open = |kind: ItemKind| -> Vec<String> {
            let of_kind = items.iter().filter(|item| item.kind == kind && is_open(item));
            of_kind.map(|item| item.name.clone()).collect()
        };
        let refused = Refused {
            http: open(ItemKind::Http),
            mail: open(ItemKind::Mail),
            secrets: open(ItemKind::Secret),
            recipients: open(ItemKind::Recipient),
            purposes: open(ItemKind::Purpose),
            kv: !open(ItemKind::Kv).is_empty(),
        };
        // A file names what is left to the manifest over the API.
        let Grants { recipients, purposes, .. } = suggested(manifest);
        grants.recipients = grants.recipients.or(recipients);
        grants.purposes = grants.purposes.or(purposes);
        Beginning { grants, refused, installation: Some(name) }
    }
}

/// The same for a program.
pub(super) fn document(beginning: &Beginning) -> Value {
    let Beginning { grants, refused: Refused { http, mail, secrets, recipients, purposes, kv }, .. } = beginning;
    let refused = json!({
        "http": http, "mail": mail, "secrets": secrets, "recipients": recipients, "purposes": purposes, "kv": kv,
    });
    json!({ "grants": grants, "refused": refused })
}

/// The file as TOML.
pub(super) fn text(manifest: &Manifest, beginning: &Beginning) -> String {
    let (id, version, kind) = (&manifest.id, &manifest.version, manifest.kind);
    let taken_by = match &beginning.installation {
        Some(name) => format!(
            "# These are the grants of {name} now; `kith plugin change {name} --grants FILE` puts others in place"
        ),
        None => {
            format!("# `kith plugin install {id}@{version} --grants FILE` takes no file that leaves something open.")
        }
    };
    let mut lines = vec![
        format!("# Grants for {id} {version}, a {kind}. What it shall not have moves from [grants] to [refused]."),
        taken_by,
    ];
    lines.extend(without_grants(manifest));
    lines.push("\n[grants]".to_owned());
    lines.extend(grants(manifest, beginning));
    lines.extend(secrets(manifest, beginning));
    lines.push("\n[refused]".to_owned());
    let (capabilities, refused) = (&manifest.capabilities, &beginning.refused);
    for (key, names, is_asked) in [
        ("http", &refused.http, !capabilities.http.is_empty()),
        ("mail", &refused.mail, !capabilities.mail.is_empty()),
        ("recipients", &refused.recipients, !capabilities.recipients.is_empty()),
        ("purposes", &refused.purposes, capabilities.purposes.is_some()),
        ("secrets", &refused.secrets, !capabilities.secrets.is_empty()),
    ] {
        lines.extend(is_asked.then(|| format!("{key} = {}", list(names))));
    }
    lines.extend((capabilities.kv_bytes > 0).then(|| format!("kv = {}", refused.kv)));
    lines.join("\n")
}

/// What need not be granted.
fn without_grants(manifest: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    if !manifest.inputs.is_empty() {
        lines.push("#\n# It sees of people, unless something sensitive is not granted:".to_owned());
    }
    let inputs = manifest.inputs.iter();
    lines.extend(inputs.map(|input| comment(&format!("  {}: {} ({})", input.name, input.expression, input.reason))));
    let is_source = matches!(manifest.kind, PluginKind::Connector | PluginKind::Channel);
    if is_source || !manifest.capabilities.emits.is_empty() {
        lines.push(match manifest.emitted_names() {
            None => "#\n# It emits events of any name.".to_owned(),
            Some([]) => "#\n# It emits no events.".to_owned(),
            Some(names) => format!("#\n{}", comment(&format!("It emits: {}", names.join(", ")))),
        });
    }
    lines
}

fn grants(manifest: &Manifest, beginning: &Beginning) -> Vec<String> {
    let (capabilities, Beginning { grants, installation, .. }) = (&manifest.capabilities, beginning);
    let is_left_open = installation.is_none();
    let mut lines = Vec::new();
    for request in &capabilities.http {
        let (methods, host) = (request.methods.join(", "), &request.host);
        lines.push(comment(&format!("{methods} to `{host}`: {}", request.reason)));
        if is_left_open && host.contains('*') {
            lines.push(comment(&format!("  name the hosts here, or refuse `{host}` below")));
        }
    }
    if !capabilities.http.is_empty() {
        lines.push(format!("http = {}", list(&grants.http)));
    }
    for request in &capabilities.mail {
        lines.push(comment(&format!("Mail through `{}`: {}", request.host, request.reason)));
        if is_left_open && !grants.mail.contains(&request.host) {
            lines
                .push(comment(&format!("  name the relays here with their ports, or refuse `{}` below", request.host)));
        }
    }
    if !capabilities.mail.is_empty() {
        lines.push(format!("mail = {}", list(&grants.mail)));
    }
    if !capabilities.http.is_empty() || !capabilities.mail.is_empty() {
        lines.push("# Private ranges that those hosts may be in, where the server allows them:".to_owned());
        lines.push(match grants.networks.as_slice() {
            [] => "# networks = [\"10.1.0.0/16\"]".to_owned(),
            ranges => format!("networks = {}", list(ranges)),
        });
    }
    for request in &capabilities.recipients {
        lines.push(comment(&format!("A recipient's `{}`: {}", request.kind, request.reason)));
    }
    if let Some(kinds) = &grants.recipients {
        lines.push(format!("recipients = {}", list(kinds)));
    }
    if let Some(purposes) = &grants.purposes {
        lines.push("# The purposes of the messages that it carries:".to_owned());
        lines.push(format!("purposes = {}", list(purposes)));
    }
    if capabilities.kv_bytes > 0 {
        lines.push(comment(&format!("State of its own: {}", capabilities.kv_reason)));
        lines.push(format!("kv_bytes = {}", grants.kv_bytes));
    }
    if !grants.sensitive.is_empty() {
        lines.push("# What the data dictionary calls sensitive and it may read:".to_owned());
        lines.push(format!("sensitive = {}", list(&grants.sensitive)));
    }
    if manifest.kind == PluginKind::Connector {
        let is_given = grants.consent.is_some();
        lines.push("# What its events say of consent only refuses. To let it agree as well:".to_owned());
        lines.push(format!("{}consent = \"give\"", if is_given { "" } else { "# " }));
    }
    lines.push("# Limits lower than the server's:".to_owned());
    lines.push(limits(grants).unwrap_or_else(|| "# limits = { cpu_ms = 200 }".to_owned()));
    lines
}

/// The limits that are granted, where there are any.
fn limits(grants: &Grants) -> Option<String> {
    let limits = json!(grants.limits);
    let granted = limits.as_object()?.iter().filter(|(_, limit)| !limit.is_null());
    let granted: Vec<String> = granted.map(|(name, limit)| format!("{name} = {limit}")).collect();
    (!granted.is_empty()).then(|| format!("limits = {{ {} }}", granted.join(", ")))
}

fn secrets(manifest: &Manifest, beginning: &Beginning) -> Vec<String> {
    let mut lines = Vec::new();
    if !manifest.capabilities.secrets.is_empty() {
        lines.push("\n[grants.secrets]".to_owned());
        lines.push("# Which hosts each may be sent to; the value is given with --secret NAME=VALUE.".to_owned());
    }
    for request in &manifest.capabilities.secrets {
        let SecretRequest { name, hosts, reason, optional, .. } = request;
        let or_without = if *optional { "; it works without it" } else { "" };
        lines.push(comment(&format!("`{name}`: {reason}{or_without}")));
        if beginning.installation.is_some() {
            let granted = beginning.grants.secrets.get(name).map(|hosts| format!("{name} = {}", list(hosts)));
            lines.push(granted.unwrap_or_else(|| format!("# {name} = {}", list(hosts))));
            continue;
        }
        let patterns: Vec<&String> = hosts.iter().filter(|host| host.contains('*')).collect();
        for pattern in &patterns {
            lines.push(comment(&format!("  name the hosts of `{pattern}`, or refuse it below")));
        }
        let named = exact(hosts);
        let is_open = named.is_empty() && !patterns.is_empty();
        lines.push(match is_open {
            true => format!("# {name} = [\"HOST\"]"),
            false => format!("{name} = {}", list(&named)),
        });
    }
    lines
}

/// All that is asked for and that the manifest names in full.
fn suggested(manifest: &Manifest) -> Grants {
    let capabilities = &manifest.capabilities;
    let http: Vec<String> = capabilities.http.iter().map(|request| request.host.clone()).collect();
    let mail: Vec<String> = capabilities.mail.iter().map(|request| request.host.clone()).collect();
    let secrets = capabilities.secrets.iter().map(|request| (request.name.clone(), exact(&request.hosts)));
    let is_whole = |(name, named): &(String, Vec<String>)| {
        let asked = capabilities.secrets.iter().find(|request| request.name == *name);
        !named.is_empty() || asked.is_some_and(|request| request.hosts.is_empty())
    };
    let recipients = capabilities.recipients.iter().map(|request| request.kind.clone());
    Grants {
        http: exact(&http),
        mail: exact(&mail).into_iter().filter(|relay| relay.contains(':')).collect(),
        secrets: secrets.filter(is_whole).collect(),
        kv_bytes: capabilities.kv_bytes,
        recipients: (!capabilities.recipients.is_empty()).then(|| recipients.collect()),
        purposes: capabilities.purposes.clone(),
        ..Grants::default()
    }
}

/// Those hosts that are no patterns, each once.
fn exact(hosts: &[String]) -> Vec<String> {
    let mut named: Vec<String> = hosts.iter().filter(|host| !host.contains('*')).cloned().collect();
    named.sort();
    named.dedup();
    named
}

/// A list in TOML, which spells its texts as JSON does: a purpose may have quotes in it.
fn list(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| json!(name).to_string()).collect::<Vec<_>>().join(", "))
}

/// A text as comments: whoever wrote the manifest chose it, and no line of it is one of the file's.
fn comment(text: &str) -> String {
    text.split(['\n', '\r']).map(|line| format!("# {}", visible(line))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOTES, notes};
    use super::super::{GrantsFile, decide};
    use super::*;

    fn text_of(manifest: &Manifest) -> String {
        text(manifest, &Beginning::of_plugin(manifest))
    }

    /// What an installation has is a file that would change nothing, and not what its plugin asks for.
    #[test]
    fn the_file_of_an_installation_is_what_it_has() {
        let manifest = notes();
        let mut present = Grants {
            http: vec!["a.example.org".to_owned()],
            networks: vec!["10.1.0.0/16".to_owned()],
            ..Grants::default()
        };
        present.limits.cpu_ms = Some(100);
        let beginning = Beginning::of_installation("notes".to_owned(), &manifest, present.clone());
        insta::assert_snapshot!(text(&manifest, &beginning), @r#"
        # Grants for acme/notes 0.1.0, a channel. What it shall not have moves from [grants] to [refused].
        # These are the grants of notes now; `kith plugin change notes --grants FILE` puts others in place
        #
        # It sees of people, unless something sensitive is not granted:
        #   name: traits.name (Messages address the person by it)
        #
        # It emits no events.

        [grants]
        # POST to `api.example.com`: Notes are posted there
        # GET to `*.example.org`: Pictures are there
        http = ["a.example.org"]
        # Private ranges that those hosts may be in, where the server allows them:
        networks = ["10.1.0.0/16"]
        # A recipient's `email`: To write to
        # A recipient's `phone`: To call
        recipients = ["email", "phone"]
        # Limits lower than the server's:
        limits = { cpu_ms = 100 }

        [grants.secrets]
        # Which hosts each may be sent to; the value is given with --secret NAME=VALUE.
        # `key`: The provider asks for it
        # key = ["api.example.com"]

        [refused]
        http = ["api.example.com"]
        recipients = []
        secrets = ["key"]
        "#);
        let file: GrantsFile = toml::from_str(&text(&manifest, &beginning)).unwrap();
        let of_program: GrantsFile = serde_json::from_value(document(&beginning)).unwrap();
        for file in [file, of_program] {
            let decided = decide(&manifest, file.grants, &file.refused);
            assert_eq!(decided.mistakes, [""; 0]);
            let recipients = Some(vec!["email".to_owned(), "phone".to_owned()]);
            assert_eq!(decided.grants, Grants { recipients, ..present.clone() });
        }
    }

    #[test]
    fn a_template_names_everything_with_its_reasons() {
        insta::assert_snapshot!(text_of(&notes()), @r#"
        # Grants for acme/notes 0.1.0, a channel. What it shall not have moves from [grants] to [refused].
        # `kith plugin install acme/notes@0.1.0 --grants FILE` takes no file that leaves something open.
        #
        # It sees of people, unless something sensitive is not granted:
        #   name: traits.name (Messages address the person by it)
        #
        # It emits no events.

        [grants]
        # POST to `api.example.com`: Notes are posted there
        # GET to `*.example.org`: Pictures are there
        #   name the hosts here, or refuse `*.example.org` below
        http = ["api.example.com"]
        # Private ranges that those hosts may be in, where the server allows them:
        # networks = ["10.1.0.0/16"]
        # A recipient's `email`: To write to
        # A recipient's `phone`: To call
        recipients = ["email", "phone"]
        # Limits lower than the server's:
        # limits = { cpu_ms = 200 }

        [grants.secrets]
        # Which hosts each may be sent to; the value is given with --secret NAME=VALUE.
        # `key`: The provider asks for it
        key = ["api.example.com"]

        [refused]
        http = []
        recipients = []
        secrets = []
        "#);
    }

    #[test]
    fn a_template_is_a_file_that_leaves_open_only_what_nobody_can_name() {
        let open = |manifest: &Manifest| {
            let file: GrantsFile = toml::from_str(&text_of(manifest)).unwrap();
            let of_program: GrantsFile = serde_json::from_value(document(&Beginning::of_plugin(manifest))).unwrap();
            let mistakes = decide(manifest, file.grants, &file.refused).mistakes;
            assert_eq!(decide(manifest, of_program.grants, &of_program.refused).mistakes, mistakes);
            mistakes
        };
        let left = open(&notes());
        assert!(left.len() == 1 && left[0].contains("`*.example.org`"), "{left:?}");
        // A manifest cannot write a line of the file.
        let sly = NOTES.replacen("\"Pictures are there\"", "\"Pictures\\n[refused]\\nkv = true\"", 1);
        let sly = kith_host::parse_manifest(&sly.replacen("*.example.org", "b.example", 1)).unwrap();
        assert_eq!(open(&sly), [""; 0]);
        let anywhere = NOTES.replacen("hosts = [\"api.example.com\"]", "hosts = [\"*\"]", 1);
        let left = open(&kith_host::parse_manifest(&anywhere).unwrap());
        assert!(left.iter().any(|mistake| mistake.contains("`key`")) && left.len() == 2, "{left:?}");
    }
}
