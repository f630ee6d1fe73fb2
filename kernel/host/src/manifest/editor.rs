//! Responsible for the JSON Schema of `plugin.toml`, with which editors complete and check a manifest while it is written. It is
//! made of the reader's own tables, and takes whatever the reader takes; what needs more than one place to be judged, and what
//! no pattern says, the reader alone finds.

use kith_model::budget::table;
use kith_model::event::MAX_EVENT_NAME_BYTES;
use kith_model::plugin::PluginKind;
use kith_model::table::MAX_RECORD_FIELDS;
use serde_json::{Map, Value, json};

use super::columns::{RECORDS, SCORE_TYPES, TYPES, input_types, single_types};
use super::keys;
use super::sections::{FORMS, KINDS, MAX_VERSION_BYTES, METHODS, limits_of_others};
use super::sections::{allowed, is_compute, may_have_inputs, may_train};
use super::training::MAX_CUT_OFFS;
use crate::abi::Abi;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

const REASON: &str = "Why the plugin needs it; the admin reads this.";

/// The name of a column.
const NAME: &str = "^[a-z][a-z0-9_]{0,63}$";

const HOST: &str = r"^(\*|(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*)$";

/// A host, with a port or without one.
const RELAY: &str = r"^(\*|(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*)(:[1-9][0-9]{0,4})?$";

const LICENSE: &str = r"^[( ]*[A-Za-z0-9][A-Za-z0-9.+:-]*([) ]+(AND|OR|WITH)[( ]+[A-Za-z0-9][A-Za-z0-9.+:-]*)*[) ]*$";

const VERSION: &str = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$";

/// The name of an event without spaces around it, or `*` alone.
const EVENT: &str = r"^(\*|[^* ]([^*]*[^* ])?)$";

/// A purpose without an `@`, capitals of English, and blanks around it.
const PURPOSE: &str = r"^[^@A-Z\s]([^@A-Z]*[^@A-Z\s])?$";

/// The JSON Schema (2020-12) of a manifest, for editors.
pub fn manifest_schema() -> Value {
    let mut schema =
        section("A plugin of Kith: what it is, sees, writes and asks for.", &keys::ROOT, &["plugin"], root);
    let defined = json!({
        "input": input_section(),
        "output": section("A tag or a score that the plugin writes.", &keys::OUTPUT, &["type", "description"], output),
        "http": section("A host that the plugin asks.", &keys::HTTP, &keys::HTTP, http),
        "secret": section("A secret that the plugin uses.", &keys::SECRET, &["name", "hosts", "reason"], secret),
        "recipient": section("Identifiers that the channel is given.", &keys::RECIPIENT, &keys::RECIPIENT, recipient),
        "relay": section("A relay that the channel hands mail to.", &keys::MAIL, &keys::MAIL, relay),
    });
    for (key, value) in
        [("$schema", json!(DIALECT)), ("title", json!("plugin.toml")), ("$defs", defined), ("allOf", json!(rules()))]
    {
        schema[key] = value;
    }
    schema
}

/// A table that has these keys and no others.
fn section(description: &str, keys: &[&str], required: &[&str], shape: fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), shape(key))).collect();
    let mut section = json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        section["required"] = json!(required);
    }
    section
}

/// A text that is not blank. Budgets count bytes, of which a text has no fewer than characters.
fn text(description: &str, most: u64) -> Value {
    json!({ "type": "string", "description": description, "pattern": r"\S", "maxLength": most })
}

/// A text for people.
fn words(description: &str) -> Value {
    text(description, table::MANIFEST_WORDS.default)
}

fn matching(description: &str, pattern: &str) -> Value {
    json!({ "type": "string", "description": description, "pattern": pattern })
}

fn one_of(description: &str, words: &[&str]) -> Value {
    json!({ "type": "string", "description": description, "enum": words })
}

fn truth(description: &str, default: bool) -> Value {
    json!({ "type": "boolean", "description": description, "default": default })
}

fn count(description: &str) -> Value {
    json!({ "type": "integer", "description": description, "minimum": 1 })
}

fn list(description: &str, items: Value) -> Value {
    json!({ "type": "array", "description": description, "items": items })
}

/// Repeated tables of a shape that is defined.
fn tables(description: &str, shape: &str) -> Value {
    list(description, json!({ "$ref": format!("#/$defs/{shape}") }))
}

/// A table for each column, of a shape that is defined.
fn columns(description: &str, shape: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "patternProperties": { (NAME): { "$ref": format!("#/$defs/{shape}") } },
        "additionalProperties": false,
    })
}

/// A key that the reader has and this does not know; a test finds none.
fn unknown() -> Value {
    json!({})
}

fn root(key: &str) -> Value {
    match key {
        "plugin" => {
            let required = &["id", "version", "kind", "abi", "kernel", "title", "description", "license"];
            section("What the plugin is and what it runs on.", &keys::PLUGIN, required, plugin)
        }
        "inputs" => columns(
            "What the plugin sees of a person and nothing else: a table for each column, [inputs.NAME].",
            "input",
        ),
        "outputs" => columns("The tags or scores that it writes: a table for each, [outputs.NAME].", "output"),
        "training" => {
            let required = &["label", "horizon", "every", "cut_offs", "predicts"];
            section("Has a model learn from the history, with labels.", &keys::TRAINING, required, training)
        }
        "config" => config(),
        "capabilities" => {
            let description = "What the plugin asks for beyond computing; an admin grants all, less or none.";
            section(description, &keys::CAPABILITIES, &[], capability)
        }
        "poll" => section("Has a connector fetch from the other side by a schedule.", &keys::POLL, &["reason"], poll),
        "limits" => section("Limits lower than the server's; of all the smallest holds.", &keys::LIMITS, &[], limit),
        _ => unknown(),
    }
}

fn plugin(key: &str) -> Value {
    match key {
        "id" => matching(
            "Names the plugin, vendor/name: lower-case letters, digits and -.",
            "^[a-z][a-z0-9-]{0,63}/[a-z][a-z0-9-]{0,63}$",
        ),
        "version" => {
            let description =
                "The version, as semantic versions are written; what was uploaded under it never changes.";
            let mut version = matching(description, VERSION);
            version["maxLength"] = json!(MAX_VERSION_BYTES);
            version
        }
        "kind" => one_of("What the plugin does.", &KINDS.map(PluginKind::as_str)),
        "abi" => one_of("The contract that it was built against.", &Abi::ALL.map(Abi::as_str)),
        "kernel" => text("The kernel versions that it works with, e.g. >=0.1, <0.2.", MAX_VERSION_BYTES),
        "title" => words("A name for people."),
        "description" => words("A sentence about what it does."),
        "license" => {
            matching("An SPDX expression, e.g. Apache-2.0; LicenseRef-… names a licence of your own.", LICENSE)
        }
        "idempotent" => {
            truth("Channels: whether the receiver takes a repeat of a message id as the same message.", true)
        }
        "state_version" => {
            let description =
                "Tag models and scorers: the form of the bytes that fit returns; raise it whenever they change shape.";
            let mut version = count(description);
            version["maximum"] = json!(u32::MAX);
            version
        }
        _ => unknown(),
    }
}

fn input(key: &str) -> Value {
    match key {
        "expression" => text(
            "An expression over the profile; ${config.KEY} in it is replaced by the installation's configuration.",
            table::EXPRESSION_TEXT.default,
        ),
        "type" => column_type(&input_types()),
        "fields" => json!({
            "type": "object",
            "description": "Of records: a type for each field.",
            "patternProperties": { (NAME): one_of("The field's type, of a single value.", &single_types()) },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": MAX_RECORD_FIELDS,
        }),
        "reason" => words(REASON),
        _ => unknown(),
    }
}

/// An input has fields just where it is of records.
fn input_section() -> Value {
    let required = &["expression", "type", "reason"];
    let mut input = section("A column that the plugin sees of each person.", &keys::INPUT, required, input);
    input["if"] = json!({ "properties": { "type": { "const": RECORDS } }, "required": ["type"] });
    input["then"] = json!({ "required": ["fields"] });
    input["else"] = without(&["fields"]);
    input
}

fn column_type(names: &[&str]) -> Value {
    one_of("The column's type; timestamps are milliseconds since 1970.", names)
}

fn output(key: &str) -> Value {
    match key {
        "type" => column_type(&TYPES.map(|(name, _)| name)),
        "values" => {
            let description = "The values that a text may take; any without it. Another one is a fault of the plugin.";
            let mut values = list(description, json!({ "type": "string" }));
            (values["minItems"], values["uniqueItems"]) = (json!(1), json!(true));
            values
        }
        "description" => words("What the value means."),
        "category" => {
            let description = "Groups values in lists.";
            json!({ "type": "string", "description": description, "maxLength": table::MANIFEST_WORDS.default })
        }
        _ => unknown(),
    }
}

fn training(key: &str) -> Value {
    let span = |description: &str| matching(description, "^[0-9]+[smhd]$");
    match key {
        "label" => text(
            "An expression over the events behind a cut-off, true or false or a number; ${config.KEY} in it is replaced.",
            table::EXPRESSION_TEXT.default,
        ),
        "horizon" => span("How far behind a cut-off the label looks: from an hour to 730 days."),
        "every" => span("The time between two cut-offs: from an hour to 730 days."),
        "cut_offs" => {
            let mut cut_offs = count("How many cut-offs there are; each is a row of every person.");
            cut_offs["maximum"] = json!(MAX_CUT_OFFS);
            cut_offs
        }
        "predicts" => matching("The output that says beforehand what the label says.", NAME),
        "timeless" => {
            let description = "Inputs that read what has no history, and are taken as it is now.";
            let mut timeless = list(description, json!({ "type": "string", "pattern": NAME }));
            timeless["uniqueItems"] = json!(true);
            timeless
        }
        _ => unknown(),
    }
}

/// The form of `[config]`; what may stand in it is JSON Schema's own.
fn config() -> Value {
    json!({
        "type": "object",
        "description": "The JSON Schema (2020-12) of the configuration that an admin gives an installation.",
        "properties": {
            "type": { "const": "object", "description": "A configuration is an object." },
            "properties": {
                "type": "object",
                "description": "A table for each key: its type, default, description.",
                "additionalProperties": { "type": ["object", "boolean"] },
            },
            "required": {
                "type": "array",
                "description": "The keys that have to be given.",
                "items": { "type": "string" },
            },
            "additionalProperties": { "type": ["object", "boolean"], "description": "Whether others may be." },
            "$defs": {
                "type": "object",
                "description": "Schemas that $ref leads to.",
                "additionalProperties": { "type": ["object", "boolean"] },
            },
        },
    })
}

fn capability(key: &str) -> Value {
    match key {
        "http" => tables("Outgoing HTTP, a table for each host: [[capabilities.http]].", "http"),
        "secrets" => tables("Secrets, a table for each: [[capabilities.secrets]].", "secret"),
        "kv" => section("State of the plugin's own.", &keys::KV, &keys::KV, kv),
        "emits" => {
            let event = json!({ "type": "string", "pattern": EVENT, "maxLength": MAX_EVENT_NAME_BYTES });
            let mut emits = list("The names of the track events that it may emit, or * alone for any.", event);
            emits["uniqueItems"] = json!(true);
            emits
        }
        "recipients" => {
            let description = "Which of a person's identifiers a channel is given: [[capabilities.recipients]].";
            tables(description, "recipient")
        }
        "mail" => {
            let description = "Mail through relays that take SMTP, a table for each: [[capabilities.mail]].";
            tables(description, "relay")
        }
        "purposes" => {
            let most = table::PURPOSE_TEXT.default;
            let purpose = json!({ "type": "string", "pattern": PURPOSE, "maxLength": most });
            let mut purposes = list("The purposes that a channel carries messages for; every one without it.", purpose);
            (purposes["minItems"], purposes["uniqueItems"]) = (json!(1), json!(true));
            purposes
        }
        _ => unknown(),
    }
}

fn http(key: &str) -> Value {
    match key {
        "host" => matching("A host in lower case: its name, *.example.com, or * for hosts that the admin names.", HOST),
        "methods" => {
            let mut methods = list("The methods that it may use.", json!({ "type": "string", "enum": METHODS }));
            methods["minItems"] = json!(1);
            methods
        }
        "reason" => words(REASON),
        _ => unknown(),
    }
}

fn secret(key: &str) -> Value {
    match key {
        "name" => matching("Letters, digits, _ and -.", "^[A-Za-z0-9_-]{1,64}$"),
        "hosts" => {
            let host = json!({ "type": "string", "pattern": HOST });
            list(
                "The hosts that it may be sent to, of those that http asks for; none where signatures are checked.",
                host,
            )
        }
        "reason" => words(REASON),
        "optional" => truth("Whether the plugin does its work without it.", false),
        "form" => {
            let description = "What it has to look like; standard-webhooks is whsec_ and base64.";
            let mut form = one_of(description, &FORMS.map(|(name, _)| name));
            form["default"] = json!(FORMS[0].0);
            form
        }
        _ => unknown(),
    }
}

fn kv(key: &str) -> Value {
    match key {
        "bytes" => count("How much state it may keep."),
        "reason" => words(REASON),
        _ => unknown(),
    }
}

fn recipient(key: &str) -> Value {
    match key {
        "type" => matching("A type of identifiers, e.g. email, or * for any.", r"^(\*|[a-z0-9_]{1,64})$"),
        "reason" => words(REASON),
        _ => unknown(),
    }
}

fn relay(key: &str) -> Value {
    match key {
        "host" => matching("A relay, as a host of http, with a port or for any port that the admin names.", RELAY),
        "reason" => words(REASON),
        _ => unknown(),
    }
}

fn poll(key: &str) -> Value {
    match key {
        "interval" => {
            let description =
                "The time between two polls, unless the installation says another: from a minute to 30 days.";
            let mut interval = matching(description, "^[0-9]+[smhd]$");
            interval["default"] = json!("15m");
            interval
        }
        "reason" => words(REASON),
        _ => unknown(),
    }
}

fn limit(key: &str) -> Value {
    match key {
        "memory_bytes" => count("Memory of one call."),
        "cpu_ms" => count("Processor time of one call, in milliseconds."),
        "wall_ms" => count("Time of one call with its calls to the host, in milliseconds."),
        "fuel" => count("Steps of one call; not counted without it."),
        "output_bytes" => count("What it hands to the host at once."),
        "log_bytes" => count("What one call may log; more is cut, and counted."),
        "host_calls" => count("Calls to the host in one call."),
        "messages_at_once" => count("Channels: messages that are under way at once."),
        "requests_per_host" => count("Channels: requests that are under way to one host at once."),
        "requests_per_minute" => count("Connectors, channels: requests and mails in a minute."),
        _ => unknown(),
    }
}

/// What each kind has to have and may not have, and of a kind each ABI.
fn rules() -> Vec<Value> {
    let of_kind = |kind: PluginKind| {
        let any_abi = |may: &dyn Fn(Abi) -> bool| Abi::ALL.into_iter().any(may);
        let may_ask = |abi: Abi, key: &str| allowed(abi, kind).contains(&key);
        let has_inputs = any_abi(&|abi| may_have_inputs(kind, Some(abi)));
        let mut rules = vec![when(kind, None, of_every_abi(kind, has_inputs))];
        for abi in Abi::ALL {
            let only_others: Vec<&str> = keys::CAPABILITIES
                .into_iter()
                .filter(|key| !may_ask(abi, key) && any_abi(&|abi| may_ask(abi, key)))
                .collect();
            let mut then = Map::new();
            if has_inputs && !may_have_inputs(kind, Some(abi)) {
                then.insert("inputs".to_owned(), json!(false));
            } else if has_inputs && abi == Abi::V0_1 {
                then.insert("inputs".to_owned(), of_types(&TYPES.map(|(name, _)| name)));
            }
            if is_compute(kind) && !may_train(kind, abi) {
                then.insert("training".to_owned(), json!(false));
            }
            if !only_others.is_empty() {
                then.insert("capabilities".to_owned(), without(&only_others));
            }
            if !then.is_empty() {
                rules.push(when(kind, Some(abi), json!({ "properties": then })));
            }
        }
        rules
    };
    KINDS.into_iter().flat_map(of_kind).collect()
}

fn of_every_abi(kind: PluginKind, has_inputs: bool) -> Value {
    let may_ask = |key: &str| Abi::ALL.into_iter().any(|abi| allowed(abi, kind).contains(&key));
    let no_capabilities: Vec<&str> = keys::CAPABILITIES.into_iter().filter(|key| !may_ask(key)).collect();
    let of_others = [("idempotent", kind == PluginKind::Channel), ("state_version", is_compute(kind))];
    let of_others: Vec<&str> = of_others.into_iter().filter(|(_, may)| !may).map(|(key, _)| key).collect();
    let mut then = json!({ "plugin": without(&of_others), "capabilities": without(&no_capabilities) });
    let of_tables = [
        ("inputs", has_inputs),
        ("outputs", is_compute(kind)),
        ("training", is_compute(kind)),
        ("poll", kind == PluginKind::Connector),
    ];
    for (key, _) in of_tables.into_iter().filter(|(_, may)| !may) {
        then[key] = json!(false);
    }
    if kind != PluginKind::Channel {
        then["limits"] = without(limits_of_others(kind));
    }
    if kind == PluginKind::Scorer {
        let names =
            SCORE_TYPES.map(|score| TYPES.into_iter().find(|(_, column)| *column == score).map(|(name, _)| name));
        then["outputs"] = of_types(&names.map(Option::unwrap_or_default));
    }
    if is_compute(kind) {
        json!({ "properties": then, "required": ["inputs", "outputs"] })
    } else {
        json!({ "properties": then })
    }
}

/// Columns of these types alone.
fn of_types(names: &[&str]) -> Value {
    json!({ "additionalProperties": { "properties": { "type": { "enum": names } } } })
}

/// A table without these keys.
fn without(keys: &[&str]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), json!(false))).collect();
    json!({ "properties": properties })
}

/// What holds for a kind, and of it for an ABI.
fn when(kind: PluginKind, abi: Option<Abi>, then: Value) -> Value {
    let mut properties = json!({ "kind": { "const": kind.as_str() } });
    let mut required = vec!["kind"];
    if let Some(abi) = abi {
        properties["abi"] = json!({ "const": abi.as_str() });
        required.push("abi");
    }
    json!({
        "if": {
            "required": ["plugin"],
            "properties": { "plugin": { "properties": properties, "required": required } },
        },
        "then": then,
    })
}

#[cfg(test)]
mod tests;
