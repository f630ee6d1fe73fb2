//! Responsible for what each table of a manifest may hold and what it means.

use std::ops::Range;

use kith_model::plugin::{
    Capabilities, HttpRequest, LimitRequest, Manifest, PluginId, PluginKind, PollRequest, RecipientRequest, SecretForm,
    SecretRequest,
};
use kith_model::polling::{DEFAULT_INTERVAL_MS, parse_interval};
use toml::de::DeTable;

use super::reader::{Notes, Reading, Section};
use super::words;
use super::{columns, config, keys, mail, training};
use crate::abi::Abi;
use crate::policy::{ANY_RECIPIENT, above, highest_ceiling};

pub(super) const KINDS: [PluginKind; 4] =
    [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel];

/// The forms of secrets, the usual one first.
pub(super) const FORMS: [(&str, SecretForm); 2] =
    [("text", SecretForm::Text), ("standard-webhooks", SecretForm::StandardWebhooks)];

pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The longest version, and requirement of one, in bytes: a version is part of a stored key.
pub(super) const MAX_VERSION_BYTES: u64 = 128;

/// Read the whole document; `None` when something is missing that nothing can stand in for. Mistakes are in `notes`.
pub(super) fn read(text: &str, notes: &Notes<'_>) -> Option<Manifest> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().unwrap_or(0..0);
        match unquoted(text, at.start) {
            Some((word, advice)) => notes.add(&word, advice),
            None => notes.add(&at, format!("{}; {}", error.message(), words::toml_remedy(error.message()))),
        }
    }
    if !errors.is_empty() {
        return None;
    }
    let root = Section::open(notes, document.get_ref(), "the manifest", 0, &keys::ROOT);
    if root.table("plugin").is_none() {
        root.wrong("plugin", "there is no [plugin] table; begin with [plugin] and its `id`, `version` and `kind`");
    }
    let plugin = read_plugin(&root);
    // The other tables are read whatever is wrong with that one, so that a vendor hears of all mistakes at once.
    let (kind, abi) = kind_and_abi(&root);
    if let Some(kind) = kind {
        check_columns(&root, kind, abi);
    }
    let inputs = columns::read_inputs(&root, abi);
    let outputs = columns::read_outputs(&root, kind);
    let config_schema = config::read_schema(&root);
    let capabilities = read_capabilities(&root, kind, abi);
    let poll = read_poll(&root, kind);
    let training = training::read(&root, (kind, abi), &outputs);
    let limits = read_limits(&root, kind);
    Some(Manifest { inputs, outputs, config_schema, capabilities, poll, training, limits, ..plugin? })
}

/// The longest value that is shown with the quotes that it lacks.
const MAX_UNQUOTED: usize = 64;

/// A value without quotes in the line around a place, with what to write: what a reader of TOML says of it is about other types.
fn unquoted(text: &str, at: usize) -> Option<(Range<usize>, String)> {
    let begin = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin..].lines().next()?;
    let (key, value) = line.split_once('=')?;
    let (word, key) = (value.split('#').next()?.trim(), key.trim());
    let is_plain = |character: char| character.is_alphanumeric() || " ._-/:*<>".contains(character);
    let is_word = word.starts_with(char::is_alphabetic) && word.chars().all(is_plain) && word.len() <= MAX_UNQUOTED;
    if !is_word || ["true", "false", "inf", "nan"].contains(&word) {
        return None;
    }
    let from = begin + line.find('=')? + 1 + (value.len() - value.trim_start().len());
    let advice = format!("`{word}` is no value of TOML; write a text in quotes: {key} = \"{word}\"");
    Some((from..from + word.len(), advice))
}

/// The kind and the ABI that [plugin] names, where it names some that there are.
fn kind_and_abi(root: &Section<'_, '_>) -> (Option<PluginKind>, Option<Abi>) {
    let plugin = root.table.get("plugin").and_then(|plugin| plugin.get_ref().as_table());
    let text = |key: &str| plugin.and_then(|plugin| plugin.get(key)?.get_ref().as_str());
    let kind = text("kind").and_then(|text| KINDS.into_iter().find(|kind| kind.as_str() == text));
    (kind, text("abi").and_then(Abi::parse))
}

/// Whether plugins of a kind compute something of each person.
pub(super) fn is_compute(kind: PluginKind) -> bool {
    matches!(kind, PluginKind::TagModel | PluginKind::Scorer)
}

/// Whether a kind may see columns. A channel of 0.1 has nowhere to receive inputs: its messages hold none.
pub(super) fn may_have_inputs(kind: PluginKind, abi: Option<Abi>) -> bool {
    is_compute(kind) || (kind == PluginKind::Channel && abi != Some(Abi::V0_1))
}

/// Whether a kind may learn from the history. A model of 0.1 has nowhere to receive labels.
pub(super) fn may_train(kind: PluginKind, abi: Abi) -> bool {
    is_compute(kind) && abi != Abi::V0_1
}

/// Note inputs and outputs that a kind has not, or has to have.
fn check_columns(root: &Section<'_, '_>, kind: PluginKind, abi: Option<Abi>) {
    let compute = is_compute(kind);
    for (key, may_have, owners) in [
        ("inputs", may_have_inputs(kind, abi), "tag models, scorers and channels of ABI 0.2"),
        ("outputs", compute, "tag models and scorers"),
    ] {
        match root.table.contains_key(key) {
            false if compute => {
                root.wrong(key, format!("a {kind} declares at least one [{key}.<name>] table"));
            }
            true if !may_have => root.wrong(key, format!("only {owners} have {key}; remove this table")),
            _ => {}
        }
    }
}

fn read_plugin(root: &Section<'_, '_>) -> Option<Manifest> {
    let (table, start) = root.table("plugin")?;
    let section = Section::open(root.notes, table, "[plugin]", start, &keys::PLUGIN);
    let id = section.parsed("id", "`vendor/name`", |text| text.parse::<PluginId>().map_err(|e| e.to_string()));
    let version = section.parsed("version", "a semantic version, e.g. \"0.1.0\"", |text| {
        semver::Version::parse(text).map_err(|e| format!("`{text}` is not a semantic version ({e}); write e.g. 0.1.0"))
    });
    let kinds = KINDS.map(PluginKind::as_str).join(", ");
    let kind = section.parsed("kind", &format!("one of {kinds}"), |text| {
        let kind = KINDS.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| format!("`{text}` is not a kind of plugin; write one of {kinds}"))
    });
    let abi = section.parsed("abi", &format!("\"{}\"", Abi::CURRENT), |text| match Abi::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("this kernel has no ABI `{text}`; it has {}", Abi::listed())),
    });
    let kernel = section.parsed("kernel", "the kernel versions it works with, e.g. \">=0.1, <0.2\"", |text| {
        semver::VersionReq::parse(text)
            .map_err(|e| format!("`{text}` is not a version requirement ({e}); write e.g. >=0.1, <0.2"))
    });
    let idempotent = section.truth("idempotent");
    if idempotent.is_some() && kind.is_some_and(|kind| kind != PluginKind::Channel) {
        section.wrong("idempotent", "only channels say whether a repeat is safe; remove it");
    }
    let state_version = section.count("state_version").and_then(|version| match u32::try_from(version) {
        Ok(version) => Some(version),
        Err(_) => {
            section.wrong("state_version", format!("`state_version` in [plugin] is at most {}", u32::MAX));
            None
        }
    });
    if section.table.contains_key("state_version") && kind.is_some_and(|kind| !is_compute(kind)) {
        section.wrong("state_version", "only tag models and scorers have a fitted state; remove it");
    }
    section.bound_text("version", MAX_VERSION_BYTES);
    section.bound_text("kernel", MAX_VERSION_BYTES);
    // Whoever reads requirements takes it for any version, which nobody means who writes it.
    let written = section.table.get("kernel").and_then(|value| value.get_ref().as_str());
    if written.is_some_and(|text| text.trim().eq_ignore_ascii_case("x")) {
        section.wrong_in_new("kernel", "`x` is not a version requirement; write e.g. >=0.1, <0.2");
    }
    let words = |key, write| section.required_text(key, write).map(str::to_owned);
    let title = words("title", "a name for people");
    let description = words("description", "a sentence about what it does");
    let license = words("license", "an SPDX expression, e.g. \"Apache-2.0\"");
    if let Some(problem) = license.as_deref().and_then(words::license_problem) {
        section.wrong_in_new("license", problem);
    }
    Some(Manifest {
        id: id?,
        version: version?,
        kind: kind?,
        abi: abi?,
        kernel: kernel?,
        title: title?,
        description: description?,
        license: license?,
        inputs: Vec::new(),
        outputs: Vec::new(),
        config_schema: None,
        capabilities: Capabilities::default(),
        idempotent: idempotent.unwrap_or(true),
        state_version,
        poll: None,
        training: None,
        limits: LimitRequest::default(),
    })
}

/// Which capabilities a kind may ask for: those whose interfaces its world imports, and what a channel is told of people.
pub(super) fn allowed(abi: Abi, kind: PluginKind) -> &'static [&'static str] {
    match kind {
        PluginKind::TagModel | PluginKind::Scorer if abi == Abi::V0_1 => &[],
        PluginKind::TagModel | PluginKind::Scorer => &["emits"],
        PluginKind::Connector => &["http", "secrets", "kv", "emits"],
        PluginKind::Channel if abi == Abi::V0_1 => &["http", "secrets", "kv", "emits", "recipients", "purposes"],
        PluginKind::Channel => &["http", "secrets", "emits", "recipients", "mail", "purposes"],
    }
}

fn read_capabilities(root: &Section<'_, '_>, kind: Option<PluginKind>, abi: Option<Abi>) -> Capabilities {
    let table = root.table("capabilities");
    let recipients = match &table {
        Some((table, _)) if table.contains_key("recipients") => Vec::new(),
        _ => recipients_unless_said(kind, abi),
    };
    let Some((table, start)) = table else { return Capabilities { recipients, ..Capabilities::default() } };
    let section = Section::open(root.notes, table, "[capabilities]", start, &keys::CAPABILITIES);
    if let (Some(kind), Some(abi)) = (kind, abi) {
        check_allowed(&section, kind, abi);
    }
    let recipients = if recipients.is_empty() { read_recipients(&section) } else { recipients };
    let http = read_http(&section);
    let mail = mail::read(root, &section);
    let relays = mail.iter().map(|request| request.host.split(':').next().unwrap_or_default());
    let hosts: Vec<&str> = http.iter().map(|request| request.host.as_str()).chain(relays).collect();
    let secrets = read_secrets(&section, &hosts);
    let (kv_bytes, kv_reason) = read_kv(&section);
    let (emits, purposes) = (words::read_emits(&section), words::read_purposes(&section));
    Capabilities { http, mail, secrets, kv_bytes, kv_reason, emits, recipients, purposes }
}

/// Note what a kind may not ask for.
fn check_allowed(section: &Section<'_, '_>, kind: PluginKind, abi: Abi) {
    let allowed = allowed(abi, kind);
    let table = section.table;
    for key in keys::CAPABILITIES.iter().filter(|key| table.contains_key(**key) && !allowed.contains(key)) {
        let Some((written, _)) = table.get_key_value(*key) else { continue };
        let may = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        let message = format!("a {kind} of ABI {abi} may not ask for `{key}` (it may ask for: {may}); remove it");
        section.notes.add(&written.span(), message);
    }
}

/// What a channel is given whose manifest is silent on it: one of 0.1 was written when there was no such key, and works only
/// if it goes on being given all identifiers.
fn recipients_unless_said(kind: Option<PluginKind>, abi: Option<Abi>) -> Vec<RecipientRequest> {
    if kind != Some(PluginKind::Channel) || abi != Some(Abi::V0_1) {
        return Vec::new();
    }
    let reason =
        "a channel of ABI 0.1 is given every identifier unless its manifest or the grant names some".to_owned();
    vec![RecipientRequest { kind: ANY_RECIPIENT.to_owned(), reason }]
}

fn read_recipients(capabilities: &Section<'_, '_>) -> Vec<RecipientRequest> {
    let mut kinds: Vec<String> = Vec::new();
    let read = |(start, table): (usize, &DeTable<'_>)| {
        let title = "[[capabilities.recipients]]";
        let section = Section::open(capabilities.notes, table, title, start, &keys::RECIPIENT);
        let kind = section.parsed("type", "a type of identifiers, e.g. \"email\", or \"*\" for any", |text| {
            let is_name = !text.is_empty()
                && text.len() <= 64
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if is_name || text == ANY_RECIPIENT {
                Ok(text.to_owned())
            } else {
                Err(format!(
                    "`{text}` is not a type of identifiers; write lower-case letters, digits and `_`, 64 characters at most, \
                     or `*`"
                ))
            }
        });
        if let Some(kind) = &kind {
            if kinds.contains(kind) {
                section.wrong("type", format!("the type `{kind}` is asked for twice; remove one"));
            }
            kinds.push(kind.clone());
        }
        let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
        Some(RecipientRequest { kind: kind?, reason: reason?.to_owned() })
    };
    capabilities.repeated_tables("recipients").into_iter().filter_map(read).collect()
}

/// Why a text is no host pattern.
pub(super) fn check_host(section: &Section<'_, '_>, host: &str, place: &Range<usize>) {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if host != "*" && !(name.len() <= 253 && name.split('.').all(is_label)) {
        let message = format!(
            "`{host}` is not a host; write the name alone in lower case (`api.example.com`), `*.example.com`, or `*` for \
             hosts that the admin names"
        );
        section.notes.add(place, message);
    }
}

fn read_http(capabilities: &Section<'_, '_>) -> Vec<HttpRequest> {
    let mut hosts: Vec<String> = Vec::new();
    let read = |(start, table): (usize, &DeTable<'_>)| {
        let section = Section::open(capabilities.notes, table, "[[capabilities.http]]", start, &keys::HTTP);
        let host = section.required_text("host", "a host, e.g. \"api.example.com\"");
        if let (Some(host), Some(value)) = (host, table.get("host")) {
            check_host(&section, host, &value.span());
            if hosts.iter().any(|before| before == host) {
                section
                    .wrong_in_new("host", format!("the host `{host}` is asked for twice; give one table all methods"));
            }
            hosts.push(host.to_owned());
        }
        let methods = section.required_texts("methods", "the methods, e.g. [\"POST\"]");
        for (method, place) in methods.iter().filter(|(method, _)| !METHODS.contains(method)) {
            section.notes.add(place, format!("`{method}` is not a method; write one of {}", METHODS.join(", ")));
        }
        words::note_doubles_in_new(&section, "methods", &methods);
        let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
        let methods = methods.into_iter().map(|(method, _)| method.to_owned()).collect();
        Some(HttpRequest { host: host?.to_owned(), methods, reason: reason?.to_owned() })
    };
    capabilities.repeated_tables("http").into_iter().filter_map(read).collect()
}

/// The secrets that are asked for. `asked` is where the plugin asks to send anything.
fn read_secrets(capabilities: &Section<'_, '_>, asked: &[&str]) -> Vec<SecretRequest> {
    let mut names: Vec<String> = Vec::new();
    let read = |(start, table): (usize, &DeTable<'_>)| {
        let section = Section::open(capabilities.notes, table, "[[capabilities.secrets]]", start, &keys::SECRET);
        let name = section.parsed("name", "a name, e.g. \"api_key\"", |text| {
            let fits =
                text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            if fits {
                Ok(text.to_owned())
            } else {
                Err(format!("`{text}` is not a name; write letters, digits, `_` and `-`, 64 characters at most"))
            }
        });
        if let Some(name) = &name {
            if names.contains(name) {
                section.wrong("name", format!("the secret `{name}` is declared twice; remove one"));
            }
            names.push(name.clone());
        }
        if !table.contains_key("hosts") {
            section.missing("hosts", "the hosts it may be sent to, e.g. [\"api.example.com\"], or [] for none");
        }
        let hosts = section.texts("hosts");
        for (host, place) in &hosts {
            check_host(&section, host, place);
            if section.notes.reading() == Reading::New && !words::is_asked_for(host, asked) {
                let message = format!(
                    "no [[capabilities.http]] or [[capabilities.mail]] asks for `{host}`, so that the secret could not be sent \
                     there; ask for the host or remove it here"
                );
                section.notes.add(place, message);
            }
        }
        words::note_doubles_in_new(&section, "hosts", &hosts);
        let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
        let hosts = hosts.into_iter().map(|(host, _)| host.to_owned()).collect();
        let optional = section.truth("optional").unwrap_or(false);
        let form = section.text("form").and_then(|text| {
            let found = FORMS.iter().find(|(name, _)| *name == text);
            if found.is_none() {
                section.wrong("form", format!("`{text}` is no form of a secret; write text or standard-webhooks"));
            }
            found.map(|(_, form)| *form)
        });
        let form = form.unwrap_or_default();
        Some(SecretRequest { name: name?, hosts, reason: reason?.to_owned(), optional, form })
    };
    capabilities.repeated_tables("secrets").into_iter().filter_map(read).collect()
}

fn read_poll(root: &Section<'_, '_>, kind: Option<PluginKind>) -> Option<PollRequest> {
    let (table, start) = root.table("poll")?;
    if let Some(kind) = kind.filter(|kind| *kind != PluginKind::Connector) {
        root.wrong("poll", format!("only connectors poll, and this is a {kind}; remove this table"));
    }
    let section = Section::open(root.notes, table, "[poll]", start, &keys::POLL);
    let interval_ms = match section.text("interval").map(parse_interval) {
        Some(Err(problem)) => {
            section.wrong("interval", problem);
            None
        }
        Some(Ok(interval_ms)) => Some(interval_ms),
        None => Some(DEFAULT_INTERVAL_MS),
    };
    let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
    Some(PollRequest { interval_ms: interval_ms?, reason: reason?.to_owned() })
}

/// How much state is asked for, and why.
fn read_kv(capabilities: &Section<'_, '_>) -> (u64, String) {
    let Some((table, start)) = capabilities.table("kv") else { return (0, String::new()) };
    let section = Section::open(capabilities.notes, table, "[capabilities.kv]", start, &keys::KV);
    if !table.contains_key("bytes") {
        section.wrong("bytes", "[capabilities.kv] has no `bytes`; write how many bytes of state it may keep");
    }
    let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
    (section.count("bytes").unwrap_or(0), reason.unwrap_or_default().to_owned())
}

/// Limits of what some kinds alone do: the first two of channels, the last of connectors as well.
const OF_SENDERS: [&str; 3] = ["messages_at_once", "requests_per_host", "requests_per_minute"];

/// The limits of what a kind does not do.
pub(super) fn limits_of_others(kind: PluginKind) -> &'static [&'static str] {
    match kind {
        PluginKind::TagModel | PluginKind::Scorer => &OF_SENDERS,
        PluginKind::Connector => &OF_SENDERS[..2],
        PluginKind::Channel => &[],
    }
}

fn read_limits(root: &Section<'_, '_>, kind: Option<PluginKind>) -> LimitRequest {
    let Some((table, start)) = root.table("limits") else { return LimitRequest::default() };
    let of_others = kind.map(limits_of_others).unwrap_or_default();
    let offered: Vec<&str> = keys::LIMITS.into_iter().filter(|key| !of_others.contains(key)).collect();
    let section = Section::open_offering(root.notes, (table, start), "[limits]", &keys::LIMITS, &offered);
    for key in of_others.iter().filter(|key| table.contains_key(**key)) {
        let who = if OF_SENDERS[2] == *key { "connectors and channels" } else { "channels" };
        section.wrong_in_new(key, format!("only {who} have the limit `{key}`; remove it"));
    }
    let limits = LimitRequest {
        memory_bytes: section.count("memory_bytes"),
        cpu_ms: section.count("cpu_ms"),
        wall_ms: section.count("wall_ms"),
        fuel: section.count("fuel"),
        output_bytes: section.count("output_bytes"),
        log_bytes: section.count("log_bytes"),
        host_calls: section.count("host_calls"),
        messages_at_once: section.count("messages_at_once"),
        requests_per_host: section.count("requests_per_host"),
        requests_per_minute: section.count("requests_per_minute"),
    };
    for (key, asked, most) in above(&limits, &highest_ceiling()) {
        let message = format!(
            "`{key}` in [limits] is {asked}, and no server gives more than {most}; write less, or leave it out"
        );
        section.wrong_in_new(key, message);
    }
    limits
}
