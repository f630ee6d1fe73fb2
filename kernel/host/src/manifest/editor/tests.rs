//! What editors are told of manifests, held against the reader.

use std::path::{Path, PathBuf};

use super::*;
use crate::manifest::{config, parse_manifest};

const COMMITTED: &str = include_str!("../../../../../docs/plugin.schema.json");

fn as_json(text: &str) -> Value {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The manifests of the repository: its plugins, guests and examples, and those of the page.
fn manifests() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["plugins", "tests/hostile", "tests/guests", "examples"];
    let below = |folder: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().join("plugin.toml")).filter(|path| path.is_file()).collect()
    };
    let paths: Vec<PathBuf> = folders.into_iter().flat_map(below).collect();
    assert!(paths.len() >= 11, "{paths:?}");
    let page = std::fs::read_to_string(root.join("docs/manifest.md")).unwrap();
    let of_page = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned);
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).chain(of_page).collect()
}

#[test]
fn the_committed_schema_is_the_one_that_is_made() {
    let committed: Value = serde_json::from_str(COMMITTED).unwrap();
    assert_eq!(committed, manifest_schema(), "write it anew: kith plugin schema > docs/plugin.schema.json");
    jsonschema::draft202012::meta::validate(&committed).unwrap();
}

/// A key that the reader takes and editors would not know.
#[test]
fn every_key_of_every_table_says_what_it_is_for() {
    type Described = fn(&str) -> Value;
    let tables: [(&[&str], Described); 13] = [
        (&keys::ROOT, root),
        (&keys::PLUGIN, plugin),
        (&keys::INPUT, input),
        (&keys::OUTPUT, output),
        (&keys::TRAINING, training),
        (&keys::CAPABILITIES, capability),
        (&keys::HTTP, http),
        (&keys::SECRET, secret),
        (&keys::KV, kv),
        (&keys::RECIPIENT, recipient),
        (&keys::MAIL, relay),
        (&keys::POLL, poll),
        (&keys::LIMITS, limit),
    ];
    for (keys, shape) in tables {
        for key in keys {
            assert!(shape(key)["description"].as_str().is_some_and(|text| !text.is_empty()), "{key} in {keys:?}");
        }
    }
}

#[test]
fn what_the_reader_takes_the_schema_takes() {
    let validator = config::validator(&manifest_schema()).unwrap();
    for text in manifests() {
        parse_manifest(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        if let Err(error) = validator.validate(&as_json(&text)) {
            panic!("{text}\n{}: {error}", error.instance_path());
        }
    }
}

const TAG_MODEL: &str = r#"[plugin]
id = "acme/level"
version = "0.1.0"
kind = "tag-model"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "Level"
description = "Says who spends much"
license = "MIT OR (Apache-2.0)"
[inputs.spent]
expression = "traits.spent"
type = "float64"
reason = "To see who spends much"
[outputs.level]
type = "text"
values = ["high", "low"]
description = "Whether somebody spends much"
[config.properties.window]
type = "string"
[limits]
cpu_ms = 500
"#;

/// A model that learns from the history.
const LEARNER: &str = r#"[plugin]
id = "acme/again"
version = "0.1.0"
kind = "scorer"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "Again"
description = "Says who buys again"
license = "Apache-2.0"
[inputs.city]
expression = "traits.city"
type = "text"
reason = "Cities differ"
[outputs.again]
type = "float64"
description = "How likely somebody buys again"
[training]
label = "events('Order Completed').size() > 0"
horizon = "60d"
every = "30d"
cut_offs = 6
predicts = "again"
timeless = ["city"]
"#;

const CHANNEL: &str = r#"[plugin]
id = "acme/notes"
version = "0.1.0"
kind = "channel"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "Notes"
description = "Posts each message"
license = "Apache-2.0"
idempotent = false
[capabilities]
emits = ["Bounced"]
[[capabilities.http]]
host = "*.example.com"
methods = ["POST"]
reason = "Messages are posted there"
[[capabilities.secrets]]
name = "key"
hosts = ["api.example.com"]
reason = "To sign in"
form = "text"
[[capabilities.recipients]]
type = "email"
reason = "Messages go there"
"#;

const CONNECTOR: &str = r#"[plugin]
id = "acme/orders"
version = "0.1.0"
kind = "connector"
abi = "0.2"
kernel = ">=0.1"
title = "Orders"
description = "Fetches orders"
license = "Apache-2.0"
[capabilities.kv]
bytes = 65536
reason = "To remember"
[poll]
interval = "15m"
reason = "Orders are fetched"
"#;

/// All of these the reader refuses, and an editor says so while they are written.
#[test]
fn what_the_schema_refuses_the_reader_refuses() {
    let validator = config::validator(&manifest_schema()).unwrap();
    for (whole, from, to) in [
        (TAG_MODEL, "[plugin]", "[plugins]"),
        (TAG_MODEL, "acme/level", "Acme/level"),
        (TAG_MODEL, "\"0.1.0\"", "\"1\""),
        (TAG_MODEL, "\"tag-model\"", "\"model\""),
        (TAG_MODEL, "\"0.2\"", "\"0.9\""),
        (TAG_MODEL, "\"Level\"", "\" \""),
        (TAG_MODEL, "\"MIT OR (Apache-2.0)\"", "\"Apache 2.0\""),
        (TAG_MODEL, "title = \"Level\"\n", ""),
        (TAG_MODEL, "title =", "titel ="),
        (TAG_MODEL, "title =", "idempotent = true\ntitle ="),
        (TAG_MODEL, "title =", "state_version = 0\ntitle ="),
        (TAG_MODEL, "[inputs.spent]", "[inputs.Spent]"),
        (TAG_MODEL, "\"float64\"", "\"float\""),
        (TAG_MODEL, "\"float64\"", "\"records\""),
        (TAG_MODEL, "\"float64\"", "\"float64\"\nfields = { n = \"text\" }"),
        (TAG_MODEL, "\"float64\"", "\"records\"\nfields = {}"),
        (TAG_MODEL, "\"float64\"", "\"records\"\nfields = { n = \"text-list\" }"),
        (TAG_MODEL, "\"float64\"", "\"records\"\nfields = { N = \"text\" }"),
        (TAG_MODEL, "\"text\"", "\"records\""),
        (TAG_MODEL, "reason = \"To see who spends much\"\n", ""),
        (TAG_MODEL, "[\"high\", \"low\"]", "[]"),
        (TAG_MODEL, "[\"high\", \"low\"]", "[\"high\", \"high\"]"),
        (TAG_MODEL, "\"tag-model\"", "\"scorer\""),
        (TAG_MODEL, "\"tag-model\"", "\"connector\""),
        (TAG_MODEL, "[config.properties.window]", "[config]"),
        (TAG_MODEL, "cpu_ms = 500", "cpu_ms = 0"),
        (TAG_MODEL, "cpu_ms = 500", "messages_at_once = 5"),
        (TAG_MODEL, "cpu_ms = 500", "requests_per_minute = 5"),
        (TAG_MODEL, "[limits]", "[capabilities]\nemits = [\"A\", \"A\"]\n[limits]"),
        (LEARNER, "horizon = \"60d\"\n", ""),
        (LEARNER, "\"60d\"", "\"two months\""),
        (LEARNER, "\"60d\"", "60"),
        (LEARNER, "cut_offs = 6", "cut_offs = 25"),
        (LEARNER, "cut_offs = 6", "cut_offs = 0"),
        (LEARNER, "cut_offs", "cutoffs"),
        (LEARNER, "predicts = \"again\"", "predicts = \"Again\""),
        (LEARNER, "[\"city\"]", "[\"city\", \"city\"]"),
        (LEARNER, "\"0.2\"", "\"0.1\""),
        (CHANNEL, "[capabilities]\n", "[training]\n[capabilities]\n"),
        (CHANNEL, "\"Bounced\"", "\" Bounced\""),
        (CHANNEL, "\"Bounced\"", "\"*\", \"*\""),
        (CHANNEL, "*.example.com", "https://example.com"),
        (CHANNEL, "\"POST\"", "\"SEND\""),
        (CHANNEL, "[\"POST\"]", "[]"),
        (CHANNEL, "\"key\"", "\"a key\""),
        (CHANNEL, "\"text\"", "\"words\""),
        (CHANNEL, "\"email\"", "\"E-mail\""),
        (CHANNEL, "[capabilities]\n", "[capabilities]\npurposes = []\n"),
        (CHANNEL, "[capabilities]\n", "[capabilities]\npurposes = [\"News\"]\n"),
        (CHANNEL, "[capabilities]\n", "[capabilities]\npurposes = [\"news@email\"]\n"),
        (CHANNEL, "[capabilities]\n", "[capabilities]\npurposes = [\"news\", \"news\"]\n"),
        (TAG_MODEL, "[limits]", "[capabilities]\npurposes = [\"news\"]\n[limits]"),
        (CHANNEL, "[capabilities]\n", "[capabilities]\nmail = [{ host = \"smtp://a.b\", reason = \"x\" }]\n"),
        (CHANNEL, "[capabilities]\n", "[capabilities]\nkv = { bytes = 1, reason = \"x\" }\n"),
        (CHANNEL, "idempotent = false", "state_version = 1"),
        (CHANNEL, "[capabilities]\n", "[poll]\nreason = \"x\"\n[capabilities]\n"),
        (CONNECTOR, "bytes = 65536\n", ""),
        (CONNECTOR, "\"15m\"", "\"soon\""),
        (CONNECTOR, "interval =", "every ="),
    ] {
        assert!(whole.contains(from), "{from}");
        assert!(parse_manifest(whole).is_ok() && validator.is_valid(&as_json(whole)), "{whole}");
        let wrong = whole.replacen(from, to, 1);
        assert!(parse_manifest(&wrong).is_err(), "the reader takes {to} for {from}");
        assert!(!validator.is_valid(&as_json(&wrong)), "the schema takes {to} for {from}");
    }
}

/// What one contract has and the other has not.
#[test]
fn what_a_contract_has_not_schema_and_reader_refuse() {
    let validator = config::validator(&manifest_schema()).unwrap();
    // A model of the older contract emits nothing.
    let emits = TAG_MODEL.replace("[limits]", "[capabilities]\nemits = [\"A\"]\n[limits]");
    assert!(parse_manifest(&emits).is_ok() && validator.is_valid(&as_json(&emits)));
    let emits = emits.replace("\"0.2\"", "\"0.1\"");
    assert!(parse_manifest(&emits).is_err() && !validator.is_valid(&as_json(&emits)));
    // A channel of either contract says what it carries.
    let purposes = CHANNEL.replace("[capabilities]\n", "[capabilities]\npurposes = [\"news\", \"service mails\"]\n");
    for text in [purposes.replace("\"0.2\"", "\"0.1\""), purposes] {
        assert!(parse_manifest(&text).is_ok() && validator.is_valid(&as_json(&text)), "{text}");
    }
    // Of the older contract a channel has state, and no columns.
    let older = CHANNEL.replace("\"0.2\"", "\"0.1\"");
    let state = older.replace("[capabilities]\n", "[capabilities]\nkv = { bytes = 1, reason = \"x\" }\n");
    let mail = "[capabilities]\nmail = [{ host = \"*.a.example:587\", reason = \"x\" }]\n";
    let [mailing, older_mailing] = [CHANNEL, older.as_str()].map(|channel| channel.replace("[capabilities]\n", mail));
    assert!(parse_manifest(&mailing).is_ok() && validator.is_valid(&as_json(&mailing)));
    assert!(parse_manifest(&older_mailing).is_err() && !validator.is_valid(&as_json(&older_mailing)));
    assert!(parse_manifest(&state).is_ok() && validator.is_valid(&as_json(&state)));
    let columns = "[inputs.name]\nexpression = \"traits.name\"\ntype = \"text\"\nreason = \"x\"\n";
    let (with, older_with) = (format!("{CHANNEL}{columns}"), format!("{older}{columns}"));
    assert!(parse_manifest(&with).is_ok() && validator.is_valid(&as_json(&with)));
    assert!(parse_manifest(&older_with).is_err() && !validator.is_valid(&as_json(&older_with)));
}

#[test]
fn records_are_of_the_present_contract() {
    let validator = config::validator(&manifest_schema()).unwrap();
    let records = TAG_MODEL.replace("\"float64\"", "\"records\"\nfields = { n = \"text\" }");
    assert!(parse_manifest(&records).is_ok() && validator.is_valid(&as_json(&records)));
    let records = records.replace("\"0.2\"", "\"0.1\"");
    assert!(parse_manifest(&records).is_err() && !validator.is_valid(&as_json(&records)));
}
