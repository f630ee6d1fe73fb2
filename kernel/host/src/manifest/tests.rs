//! Manifests: what is read, and every mistake under its line.

use kith_model::plugin::SecretForm;
use kith_model::table::{ColumnType, RecordField};
use serde_json::json;

use super::*;

pub(super) const GOOD: &str = r#"
[plugin]
id = "acme/rfm"
version = "1.2.3"
kind = "tag-model"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "RFM"
description = "Recency, frequency, money."
license = "Apache-2.0"

[inputs.zeta]
expression = "traits.city"
type = "text"
reason = "to know the city"

[inputs.alpha]
expression = "events('Order Completed', '90d').size()"
type = "int64"
reason = "to count orders"

[outputs.segment]
type = "text"
values = ["champion", "lost"]
description = "The named segment"
category = "value"

[config]
required = ["bound"]
[config.properties.bound]
type = "integer"
minimum = 1
[config.properties.bands]
type = "integer"
default = 5

[limits]
memory_bytes = 1_000_000
"#;

/// The messages for `GOOD` with one text replaced, each with its line.
fn mistakes(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    match parse_manifest(&GOOD.replacen(from, to, 1)) {
        Ok(_) => Vec::new(),
        Err(error) => error.mistakes.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_good_manifest_keeps_its_order() {
    let manifest = parse_manifest(GOOD).unwrap();
    let inputs: Vec<&str> = manifest.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["zeta", "alpha"]);
    assert_eq!(manifest.outputs[0].values, ["champion", "lost"]);
    assert_eq!(manifest.limits.memory_bytes, Some(1_000_000));
}

#[test]
fn each_mistake_has_its_line_and_a_remedy() {
    let cases = [
        ("license =", "licence =", "10:1: unknown key `licence` in [plugin]; did you mean `license`?"),
        ("\"acme/rfm\"", "\"Acme\"", "3:6: `Acme` is not a plugin id"),
        ("\"1.2.3\"", "\"1.2\"", "4:11: `1.2` is not a semantic version"),
        ("\"tag-model\"", "\"tagger\"", "5:8: `tagger` is not a kind of plugin; write one of connector"),
        ("abi = \"0.2\"", "abi = \"0.9\"", "6:7: this kernel has no ABI `0.9`; it has 0.1 and 0.2"),
        ("\">=0.1, <0.2\"", "\"new\"", "7:10: `new` is not a version requirement"),
        ("title = \"RFM\"", "title = \" \"", "8:9: `title` in [plugin] is empty"),
        ("title = \"RFM\"\n", "", "2:2: [plugin] has no `title`; write a name for people"),
        ("type = \"int64\"", "type = \"integer\"", "19:8: `integer` is not a type; write one of boolean"),
        ("[inputs.alpha]", "[inputs.zeta]", "17:9: duplicate key; leave one of the two, or give one another name"),
        (
            "kind = \"tag-model\"",
            "kind = tag-model # it is",
            "5:8: `tag-model` is no value of TOML; write a text in quotes: kind = \"tag-model\"",
        ),
        ("[limits]", "[limits", "write it as TOML"),
        (
            "1_000_000",
            "999999999999",
            "38:16: `memory_bytes` in [limits] is 999999999999, and no server gives more than",
        ),
        (
            "memory_bytes =",
            "messages_at_onc =",
            "`messages_at_onc` in [limits]; known here: memory_bytes, cpu_ms, wall_ms, fuel",
        ),
        (
            "type = \"text\"\nvalues",
            "type = \"texts\"\nvalues",
            "write one of boolean, int64, float64, timestamp, text",
        ),
        ("[inputs.alpha]", "[inputs.Alpha]", "17:9: `Alpha` is not a column name"),
        ("[outputs.segment]\n", "[outputs]\n", "a table"),
        ("reason = \"to count orders\"\n", "", "17:9: [inputs.alpha] has no `reason`"),
        ("minimum = 1", "minimum = \"one\"", "32:11: [config].properties.bound.minimum is not valid JSON Schema"),
        ("minimum = 1", "pattern = \"(\"", "32:11: [config].properties.bound.pattern"),
        ("1_000_000", "0", "38:16: `memory_bytes` in [limits] must be a whole number above 0"),
        ("license =", "idempotent = true\nlicense =", "10:14: only channels say whether a repeat is safe"),
        (
            "license =",
            "state_version = 0\nlicense =",
            "10:17: `state_version` in [plugin] must be a whole number above 0",
        ),
        ("license =", "state_version = 4294967296\nlicense =", "10:17: `state_version` in [plugin] is at most"),
        ("[limits]", "[[capabilities.http]]", "a tag-model of ABI 0.2 may not ask for `http` (it may ask for: emits)"),
        ("[limits]", "[[capabilities.mail]]", "a tag-model of ABI 0.2 may not ask for `mail`"),
        ("[limits]", "[limit]", "37:2: unknown key `limit` in the manifest; did you mean `limits`?"),
        (
            "kind = \"tag-model\"",
            "kind = \"connector\"",
            "12:2: only tag models, scorers and channels of ABI 0.2 have inputs",
        ),
    ];
    for (from, to, expected) in cases {
        let found = mistakes(from, to);
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{to}: {found:#?}");
    }
    // What is refused wherever it is written is not offered.
    let offered =
        [mistakes("memory_bytes =", "messages_at_onc ="), mistakes("type = \"text\"\nv", "type = \"x\"\nv")].concat();
    assert!(offered.iter().all(|mistake| !mistake.contains("did you") && !mistake.contains("list")), "{offered:#?}");
}

const RECORDS: &str = "type = \"records\"\nfields = { time = \"timestamp\", amount = \"float64\" }";

#[test]
fn an_input_of_records_has_its_fields_in_their_order() {
    let manifest = parse_manifest(&GOOD.replace("type = \"int64\"", RECORDS)).unwrap();
    let field = |name: &str, column_type| RecordField { name: name.into(), column_type };
    let fields = vec![field("time", ColumnType::Timestamp), field("amount", ColumnType::Float64)];
    assert_eq!(manifest.inputs[1].column_type, ColumnType::Records(fields));
}

#[test]
fn records_that_cannot_be_are_told_of_with_what_to_write() {
    let int64 = "type = \"int64\"";
    let many = |count: usize| {
        let fields: Vec<String> = (0..count).map(|number| format!("f{number} = \"text\"")).collect();
        format!("type = \"records\"\nfields = {{ {} }}", fields.join(", "))
    };
    assert_eq!(mistakes(int64, &many(16)), Vec::<String>::new());
    for (from, to, expected) in [
        (int64, "type = \"records\"".to_owned(), "17:9: [inputs.alpha] has no `fields`; write a type for each"),
        (int64, many(0), "20:10: records have 1 to 16 fields, and `fields` declares 0"),
        (int64, many(17), "20:10: records have 1 to 16 fields, and `fields` declares 17"),
        (int64, format!("{int64}\nfields = {{ n = \"text\" }}"), "20:10: only records have fields; write `type = "),
        (
            int64,
            RECORDS.replace("float64", "int64-list"),
            "the field `amount` has no type of a single value; write one of",
        ),
        (int64, RECORDS.replace("\"float64\"", "1"), "the field `amount` has no type of a single value; write one of"),
        (int64, RECORDS.replace("amount", "Amount"), "`Amount` is not a column name"),
        (
            "type = \"text\"\nvalues",
            "type = \"records\"\nvalues".to_owned(),
            "a tag or score is one value; declare several",
        ),
    ] {
        let found = mistakes(from, &to);
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{to}: {found:#?}");
    }
    let older = GOOD.replace(int64, RECORDS).replace("\"0.2\"", "\"0.1\"");
    let refused = parse_manifest(&older).unwrap_err().to_string();
    assert!(refused.contains("19:8: contract 0.1.0 has no records, 0.2.0 has; write `abi = \"0.2\"`"), "{refused}");
}

#[test]
fn all_mistakes_come_at_once_in_order() {
    let text = GOOD.replace("\"acme/rfm\"", "\"x\"").replace("\"1.2.3\"", "\"x\"").replace("\"0.2\"", "\"7\"");
    let lines: Vec<usize> = parse_manifest(&text).unwrap_err().mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [3, 4, 6]);
}

#[test]
fn a_channel_declares_its_capabilities() {
    let text = r#"
[plugin]
id = "kith/webhook"
version = "0.1.0"
kind = "channel"
abi = "0.2"
kernel = ">=0.1"
title = "Webhook"
description = "Posts."
license = "Apache-2.0"
[capabilities]
emits = ["Message Opened"]
[[capabilities.http]]
host = "*"
methods = ["POST"]
reason = "to post"
[[capabilities.secrets]]
name = "signing"
hosts = ["*"]
reason = "to sign"
[[capabilities.recipients]]
type = "email"
reason = "to write to"
[inputs.city]
expression = "traits.city"
type = "text"
reason = "to greet"
"#;
    let manifest = parse_manifest(text).unwrap();
    assert_eq!(manifest.capabilities.http[0].methods, ["POST"]);
    assert_eq!(manifest.capabilities.recipients[0].kind, "email");
    assert_eq!(manifest.inputs[0].name, "city");
    assert!(manifest.idempotent, "unless it says otherwise");
    let text_not = text.replacen("[capabilities]", "idempotent = false\n[capabilities]", 1);
    assert!(!parse_manifest(&text_not).unwrap().idempotent);
    assert!(!manifest.capabilities.secrets[0].optional, "a secret is needed unless it says otherwise");
    let text_without = text.replacen("reason = \"to sign\"", "reason = \"to sign\"\noptional = true", 1);
    assert!(parse_manifest(&text_without).unwrap().capabilities.secrets[0].optional);
    assert_eq!(manifest.capabilities.secrets[0].form, SecretForm::Text, "any text, unless it says otherwise");
    let only_checked = text.replacen("hosts = [\"*\"]\n", "hosts = []\nform = \"standard-webhooks\"\n", 1);
    let only_checked = parse_manifest(&only_checked).unwrap().capabilities.secrets.remove(0);
    assert!(only_checked.hosts.is_empty() && only_checked.form == SecretForm::StandardWebhooks);
    let kv = "[capabilities.kv]\nbytes = 1024\nreason = \"to remember\"";
    let mail = "[[capabilities.mail]]\nreason = \"x\"\nhost = ";
    for (from, to, expected) in [
        ("type = \"email\"", "type = \"E-Mail\"", "22:8: `E-Mail` is not a type of identifiers"),
        ("reason = \"to write to\"", "", "[[capabilities.recipients]] has no `reason`"),
        (
            "[inputs.city]",
            "[[capabilities.recipients]]\ntype = \"email\"\nreason = \"x\"\n[inputs.city]",
            "`email` is asked for twice",
        ),
        ("[inputs.city]", &format!("{kv}\n[inputs.city]"), "a channel of ABI 0.2 may not ask for `kv`"),
        ("[inputs.city]", &format!("{mail}\"a.b:587\"\n[inputs.city]"), "write `idempotent = false` in [plugin]"),
        ("[inputs.city]", &format!("{mail}\"a.b:0\"\n[inputs.city]"), "`a.b:0` is not a relay"),
        ("[inputs.city]", &format!("{mail}\"smtp://a.b\"\n[inputs.city]"), "`smtp://a.b` is not a relay"),
        ("[inputs.city]", "[[capabilities.mail]]\nhost = \"a.b\"\n[inputs.city]", "mail]] has no `reason`"),
        ("[capabilities]", "idempotent = \"no\"\n[capabilities]", "write true or false"),
        ("[capabilities]", "state_version = 1\n[capabilities]", "only tag models and scorers have a fitted state"),
        ("\"POST\"", "\"post\"", "15:12: `post` is not a method"),
        ("host = \"*\"", "host = \"https://a.b\"", "14:8: `https://a.b` is not a host"),
        ("hosts = [\"*\"]\n", "", "[[capabilities.secrets]] has no `hosts`"),
        ("hosts = [\"*\"]\n", "hosts = []\nform = \"pem\"\n", "`pem` is no form of a secret"),
    ] {
        let error = parse_manifest(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn a_channel_of_0_1_goes_on_as_it_was() {
    let text = r#"
[plugin]
id = "kith/webhook"
version = "0.1.0"
kind = "channel"
abi = "0.1"
kernel = ">=0.1"
title = "Webhook"
description = "Posts."
license = "Apache-2.0"
"#;
    let kinds = |text: &str| {
        let asked = parse_manifest(text).unwrap().capabilities.recipients;
        asked.into_iter().map(|request| request.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(text), ["*"], "there was no such key when it was written");
    assert_eq!(kinds(&text.replace("abi = \"0.1\"", "abi = \"0.2\"")), [""; 0]);
    let kv = "[capabilities.kv]\nbytes = 1024\nreason = \"to remember\"\n";
    assert_eq!(kinds(&format!("{text}{kv}")), ["*"]);
    let with_state = parse_manifest(&format!("{text}{kv}")).unwrap().capabilities;
    assert_eq!((with_state.kv_bytes, with_state.kv_reason.as_str()), (1024, "to remember"));
    let named = "[[capabilities.recipients]]\ntype = \"email\"\nreason = \"to write to\"\n";
    assert_eq!(kinds(&format!("{text}{named}")), ["email"]);
    let without_bytes = parse_manifest(&format!("{text}[capabilities.kv]\nreason = \"x\"")).unwrap_err().to_string();
    assert!(without_bytes.contains("[capabilities.kv] has no `bytes`"), "{without_bytes}");
    let inputs = "[inputs.city]\nexpression = \"traits.city\"\ntype = \"text\"\nreason = \"x\"\n";
    let refused = parse_manifest(&format!("{text}{inputs}")).unwrap_err().to_string();
    assert!(refused.contains("channels of ABI 0.2 have inputs"), "{refused}");
}

#[test]
fn a_configuration_is_completed_and_checked() {
    let manifest = parse_manifest(GOOD).unwrap();
    assert_eq!(validate_config(&manifest, json!({"bound": 2})), Ok(json!({"bound": 2, "bands": 5})));
    let Err(ConfigError::Mistakes(mistakes)) = validate_config(&manifest, json!({"bound": 0, "bond": 1})) else {
        panic!("both are mistakes");
    };
    assert!(mistakes.iter().any(|mistake| mistake.path == "/bound"), "{mistakes:?}");
    let unknown = "unknown key `bond`; did you mean `bound`?";
    assert!(mistakes.iter().any(|mistake| mistake.message == unknown), "{mistakes:?}");
    assert!(validate_config(&manifest, json!({})).is_err(), "`bound` is required");
    let without = Manifest { config_schema: None, ..manifest };
    assert_eq!(validate_config(&without, json!(null)), Ok(json!({})));
    assert!(validate_config(&without, json!({"a": 1})).is_err());
}

/// No configuration could be written for these, and the check passed them.
#[test]
fn a_configuration_that_nobody_can_write_is_refused_with_its_line() {
    for (from, to, expected) in [
        (
            "minimum = 1",
            "minimum = 4\nmaximum = 3",
            "32:11: [config].properties.bound.minimum is 4, and `maximum` is 3",
        ),
        (
            "required = [\"bound\"]",
            "required = [\"bonud\"]",
            "29:13: [config].required.0 names `bonud`, which is not in",
        ),
        ("type = \"integer\"\nminimum = 1", "enum = []", "31:8: [config].properties.bound.enum lists nothing"),
        (
            "type = \"integer\"\nminimum = 1",
            "type = \"integer\"\nenum = [\"one\", \"two\"]",
            "31:8: [config].properties.bound.type takes no value",
        ),
        (
            "[config.properties.bound]\ntype = \"integer\"\nminimum = 1",
            "[config.properties]\nbound = false",
            "29:13: [config].required.0 names `bound`, whose schema takes no value",
        ),
        (
            "type = \"integer\"\nminimum = 1",
            "typ = \"integer\"\nminimum = 1",
            "31:7: [config].properties.bound.typ is no keyword of JSON Schema; did you mean `type`?",
        ),
        (
            "type = \"integer\"\nminimum = 1",
            "type = \"strng\"",
            "31:8: [config].properties.bound.type names `strng`, which is no type of JSON; did you mean `string`?",
        ),
        (
            "type = \"integer\"\nminimum = 1",
            "type = \"string\"\nformat = \"datetime\"",
            "32:10: [config].properties.bound.format names `datetime`, which is no format of JSON Schema; did you mean \
             `date-time`?",
        ),
        (
            "minimum = 1",
            "minimum = 1.2\nmaximum = 1.8",
            "32:11: [config].properties.bound.minimum is 1.2, and `maximum` is 1.8: no whole number is both",
        ),
    ] {
        let found = mistakes(from, to);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{to}: {found:?}");
    }
}

#[test]
fn a_connector_says_that_it_polls_and_how_often() {
    let read = |kind: &str, poll: &str| {
        let text = format!(
            "[plugin]\nid = \"acme/orders\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\nabi = \"0.2\"\nkernel = \">=0.1\"\n\
             title = \"Orders\"\ndescription = \"Fetches.\"\nlicense = \"Apache-2.0\"\n{poll}"
        );
        parse_manifest(&text).map(|manifest| manifest.poll.map(|poll| poll.interval_ms))
    };
    assert_eq!(read("connector", "").unwrap(), None);
    assert_eq!(read("connector", "[poll]\nreason = \"to fetch\"\n").unwrap(), Some(900_000));
    assert_eq!(read("connector", "[poll]\ninterval = \"5m\"\nreason = \"to fetch\"\n").unwrap(), Some(300_000));
    for (kind, poll, expected) in [
        ("connector", "[poll]\ninterval = \"30s\"\nreason = \"x\"\n", "11:12: `30s` is too short; the least time"),
        ("connector", "[poll]\ninterval = \"soon\"\nreason = \"x\"\n", "11:12: `soon` is no time between two polls"),
        ("connector", "[poll]\n", "[poll] has no `reason`"),
        ("connector", "[poll]\nevery = \"5m\"\nreason = \"x\"\n", "unknown key `every` in [poll]"),
        ("channel", "[poll]\nreason = \"x\"\n", "only connectors poll, and this is a channel"),
    ] {
        let mistakes = read(kind, poll).unwrap_err().to_string();
        assert!(mistakes.contains(expected), "{poll}: {mistakes}");
    }
}

/// The second mistake was told when the first was mended.
#[test]
fn mistakes_of_all_tables_are_told_at_once() {
    let text = r#"
[plugin]
id = 3
version = "x"
kind = "connector"
abi = "0.2"
kernel = ">=0.1"
title = "Shop"
description = "Orders."
license = "Apache-2.0"
[capabilities]
emit = ["A"]
[[capabilities.secrets]]
name = "key"
hosts = 3
reason = "to sign"
"#;
    let found = parse_manifest(text).unwrap_err().mistakes;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    for (found, expected) in found.iter().zip([
        "3:6: `id` in [plugin] is an integer; write a text",
        "4:11: `x` is not a semantic version",
        "12:1: unknown key `emit` in [capabilities]; did you mean `emits`?",
        "15:9: `hosts` in [[capabilities.secrets]] is an integer; write a list",
    ]) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
}

const SHOP: &str = r#"
[plugin]
id = "acme/shop"
version = "0.1.0"
kind = "connector"
abi = "0.2"
kernel = ">=0.1"
title = "Shop"
description = "Orders."
license = "Apache-2.0"
[capabilities]
emits = ["A", "B"]
[[capabilities.http]]
host = "*.example.com"
methods = ["GET"]
reason = "to ask"
[[capabilities.secrets]]
name = "key"
hosts = ["api.example.com"]
reason = "to sign in"
[limits]
cpu_ms = 100
"#;

/// All of these were taken. A plugin that was uploaded then goes on working.
#[test]
fn what_cannot_be_meant_is_refused_in_a_new_manifest_alone() {
    parse_manifest(SHOP).unwrap();
    let (emits, long) = ("[\"A\", \"B\"]", format!("[\"{}\"]", "x".repeat(257)));
    let segment = "values = [\"champion\", \"lost\"]";
    for (whole, from, to, expected) in [
        (
            SHOP,
            "cpu_ms = 100",
            "messages_at_once = 8",
            "22:20: only channels have the limit `messages_at_once`; remove it",
        ),
        (
            GOOD,
            "memory_bytes = 1_000_000",
            "requests_per_minute = 8",
            "38:23: only connectors and channels have the limit `requests_per_minute`; remove it",
        ),
        (SHOP, emits, "[\"\"]", "12:10: `emits` in [capabilities] has an empty name"),
        (SHOP, emits, "[\" A\"]", "12:10: `emits` in [capabilities] has ` A`, with spaces around it; write `A`"),
        (SHOP, emits, "[\"A\\nB\"]", "12:10: `emits` in [capabilities] has `A\\nB`, with control characters"),
        (SHOP, emits, "[\"A\", \"A\"]", "12:15: `A` stands in `emits` twice; remove one"),
        (SHOP, emits, "[\"*\", \"A\"]", "12:10: `*` in `emits` stands for any event"),
        (SHOP, emits, "[\"a*\"]", "12:10: `emits` in [capabilities] has `a*`, and no patterns are read"),
        (SHOP, emits, &long, "12:10: `emits` in [capabilities] has a name of 257 bytes; write at most 256"),
        (SHOP, "\">=0.1\"", "\"x\"", "7:10: `x` is not a version requirement; write e.g. >=0.1, <0.2"),
        (SHOP, "[\"GET\"]", "[\"GET\", \"GET\"]", "15:19: `GET` stands in `methods` twice; remove one"),
        (
            SHOP,
            "[\"api.example.com\"]",
            "[\"api.example.com\", \"api.example.com\"]",
            "19:29: `api.example.com` stands in `hosts` twice; remove one",
        ),
        (SHOP, "\"Apache-2.0\"", "\"Apache 2.0\"", "10:11: `Apache 2.0` is no SPDX expression; write e.g."),
        (SHOP, "\"Shop\"", "\"Sh\\u001bop\"", "8:9: `title` in [plugin] has control characters"),
        (
            SHOP,
            "[limits]",
            "[[capabilities.http]]\nhost = \"*.example.com\"\nmethods = [\"POST\"]\nreason = \"x\"\n[limits]",
            "22:8: the host `*.example.com` is asked for twice; give one table all methods",
        ),
        (
            SHOP,
            "api.example.com",
            "api.example.org",
            "19:10: no [[capabilities.http]] or [[capabilities.mail]] asks for `api.example.org`",
        ),
        (GOOD, segment, "values = []", "24:10: `values` lists none"),
        (GOOD, segment, "values = [\"a\", \"a\"]", "24:16: `a` stands in `values` twice; remove one"),
        (GOOD, segment, "values = [\"\\u0007\"]", "24:11: `\\u{7}` has control characters"),
    ] {
        assert!(whole.contains(from), "{from}");
        let text = whole.replacen(from, to, 1);
        let found = parse_manifest(&text).unwrap_err().mistakes;
        assert!(found.len() == 1 && found[0].to_string().starts_with(expected), "{to}: {found:?}");
        parse_kept_manifest(&text).unwrap();
    }
    let several = SHOP.replacen("\"Orders.\"", "\"\"\"Orders,\nand what they come to.\"\"\"", 1);
    parse_manifest(&several).unwrap();
}

/// A name was refused for what it has, although what it lacks was a letter to begin with.
#[test]
fn a_name_that_is_none_is_told_what_it_begins_with_and_how_long_it_may_be() {
    for name in ["_a", "1a"] {
        let found = mistakes("[inputs.alpha]", &format!("[inputs.{name}]"));
        let expected = format!(
            "17:9: `{name}` is not a column name; write a lower-case letter, then lower-case letters, digits and `_`, 64 \
             characters at most"
        );
        assert_eq!(found, [expected]);
    }
    let found = mistakes("\"acme/rfm\"", &format!("\"acme/{}\"", "x".repeat(300)));
    assert!(found[0].contains("64 characters at most"), "{found:?}");
}
