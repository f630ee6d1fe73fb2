//! Schemas: which are admitted, and that a check against one of them is short.

use serde_json::json;

use super::*;
use crate::manifest::config::validate_config;
use crate::manifest::parse_manifest;
use crate::manifest::tests::GOOD;

/// `levels` definitions, each of which refers to the next one twice.
fn fan_out(levels: usize, keyword: &str) -> Value {
    let mut definitions = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        definitions.insert(format!("l{level}"), json!({ keyword: [next.clone(), next] }));
    }
    definitions.insert(format!("l{levels}"), json!({ "type": "object" }));
    json!({ "type": "object", "$defs": definitions, "allOf": [{ "$ref": "#/$defs/l0" }] })
}

/// Regression: a manifest of 3 KiB, two references to the next level in each of 40, kept the validator at work for ever.
#[test]
fn references_that_fan_out_are_refused_and_found_in_one_pass() {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        assert!(admit(&fan_out(6, keyword)).unwrap().places < 1_000);
        for levels in [12, 18, 40] {
            let mistake = admit(&fan_out(levels, keyword)).unwrap_err();
            let expected = ["places with its references written out", "schemas deep"];
            assert!(expected.iter().any(|message| mistake.message.contains(message)), "{mistake:?}");
            assert!(mistake.path.starts_with("/$defs/l") || mistake.path.starts_with("/allOf"), "{mistake:?}");
        }
    }
}

#[test]
fn a_manifest_says_where_its_schema_is_too_much() {
    let mut levels: String = (0..40)
        .map(|level| {
            let next = format!("{{ \"$ref\" = \"#/$defs/l{}\" }}", level + 1);
            format!("[config.\"$defs\".l{level}]\nanyOf = [{next}, {next}]\n")
        })
        .collect();
    levels.push_str("[config.\"$defs\".l40]\ntype = \"integer\"\n");
    let text =
        GOOD.replace("[limits]", &format!("{levels}[config.properties.bomb]\n\"$ref\" = \"#/$defs/l0\"\n[limits]"));
    let mistakes = parse_manifest(&text).unwrap_err().mistakes;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].message.starts_with("[config].$defs.l"), "{mistakes:?}");
    assert!(mistakes[0].line > 20, "{mistakes:?}");
}

#[test]
fn what_a_check_cannot_be_bounded_for_is_no_schema_here() {
    let mut deep = json!({ "type": "string" });
    for _ in 0..60 {
        deep = json!({ "items": deep });
    }
    let chain: Map<String, Value> = (0..60)
        .map(|level| (format!("l{level}"), json!({ "items": { "$ref": format!("#/$defs/l{}", level + 1) } })))
        .chain([("l60".to_owned(), json!(true))])
        .collect();
    for (schema, path, message) in [
        (json!({ "$ref": "https://example.com/x" }), "/$ref", "leads out of the schema"),
        (json!({ "$ref": "file:///etc/passwd" }), "/$ref", "leads out of the schema"),
        (json!({ "$ref": "#anchor" }), "/$ref", "leads out of the schema"),
        (json!({ "$ref": "#/$defs/no" }), "/$ref", "is no schema in here"),
        (json!({ "$ref": "#" }), "/$ref", "refers to itself"),
        (json!({ "$defs": { "a": { "items": { "$ref": "#/$defs/a" } } } }), "/$defs/a/items/$ref", "refers to itself"),
        (json!({ "properties": { "a": { "$dynamicRef": "#a" } } }), "/properties/a/$dynamicRef", "is not read here"),
        (json!({ "items": { "unevaluatedProperties": false } }), "/items/unevaluatedProperties", "is not read here"),
        (json!({ "items": { "$id": "http://a" } }), "/items/$id", "is not read here"),
        (json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), "/$schema", "is another dialect"),
        (json!({ "pattern": "x".repeat(600) }), "/pattern", "a pattern has at most"),
        (json!({ "patternProperties": { "x".repeat(600): true } }), "", "a pattern has at most"),
        (deep, "/items/items/items", "schemas deep"),
        (json!({ "$defs": chain }), "/$defs/l0", "schemas deep"),
        (json!({ "enum": vec![1; 5_000] }), "", "places"),
        (json!({ "allOf": vec![json!({ "pattern": "a" }); 80] }), "", "places"),
    ] {
        let mistake = admit(&schema).unwrap_err();
        assert!(mistake.path.starts_with(path) && mistake.message.contains(message), "{path}: {mistake:?}");
    }
    // A property may have any name, and data may look like anything.
    let fine = json!({ "properties": { "$id": { "type": "string" }, "enum": { "const": { "$ref": "#/nowhere" } } } });
    assert!(admit(&fine).is_ok(), "{:?}", admit(&fine));
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A schema of nested keywords over a few definitions that refer to later ones, so that there are fans but few circles.
fn schema(dice: &mut Dice, depth: u64, first_definition: u64) -> Value {
    let inner = |dice: &mut Dice| schema(dice, depth + 1, first_definition);
    if depth >= 3 || dice.roll(4) == 0 {
        return match dice.roll(8) {
            0 => json!({ "type": "integer", "default": 1 }),
            1 => json!({ "pattern": "^a+$" }),
            2 => json!(true),
            _ => json!({ "$ref": format!("#/$defs/d{}", first_definition + dice.roll(3)) }),
        };
    }
    match dice.roll(6) {
        0 => json!({ "anyOf": [inner(dice), inner(dice)] }),
        1 => json!({ "allOf": [inner(dice), inner(dice)] }),
        2 => json!({ "oneOf": [inner(dice), inner(dice)] }),
        3 => json!({ "properties": { "a": inner(dice), "b": inner(dice) } }),
        4 => json!({ "items": inner(dice) }),
        _ => json!({ "if": inner(dice), "then": inner(dice), "not": inner(dice) }),
    }
}

/// How many places a validator looks at that follows each reference and tries each branch, up to a limit.
fn visits(root: &Value, schema: &Value, value: &Value, left: &mut u64) {
    let Value::Object(keywords) = schema else { return };
    let Some(rest) = left.checked_sub(1) else { return };
    *left = rest;
    for (keyword, inner) in keywords {
        match (keyword.as_str(), inner, value) {
            ("$ref", Value::String(reference), _) => {
                if let Some(target) = root.pointer(&reference[1..]) {
                    visits(root, target, value, left)
                }
            }
            ("properties", Value::Object(named), Value::Object(object)) => {
                for (name, inner) in named {
                    if let Some(value) = object.get(name) {
                        visits(root, inner, value, left)
                    }
                }
            }
            ("items", inner, Value::Array(items)) => items.iter().for_each(|item| visits(root, inner, item, left)),
            ("anyOf" | "allOf" | "oneOf", Value::Array(branches), _) => {
                branches.iter().for_each(|branch| visits(root, branch, value, left));
            }
            ("if" | "then" | "not", inner, _) => visits(root, inner, value, left),
            _ => {}
        }
    }
}

#[test]
fn each_schema_is_refused_or_every_check_against_it_is_short() {
    let (mut admitted, mut refused) = (0, 0);
    let manifest = parse_manifest(GOOD).unwrap();
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut root = schema(&mut dice, 0, 0);
        let definitions = 4 + dice.roll(30);
        let all: Map<String, Value> = (0..definitions + 3)
            .map(|number| {
                let inner = if number < definitions { schema(&mut dice, 1, number + 1) } else { json!(true) };
                (format!("d{number}"), inner)
            })
            .collect();
        let Value::Object(keywords) = &mut root else { continue };
        keywords.insert("$defs".to_owned(), Value::Object(all));
        let item = json!({ "a": [1, [2, { "b": 3 }]], "b": { "a": { "a": "aa" } } });
        let config = json!({ "a": vec![item.clone(); 20], "b": item });
        match admit(&root) {
            Err(_) => refused += 1,
            Ok(size) => {
                admitted += 1;
                let bound = size.places * places(&config);
                let mut left = bound;
                visits(&root, &root, &config, &mut left);
                assert!(left > 0, "seed {seed}: more than {bound} steps");
                let manifest = kith_model::plugin::Manifest { config_schema: Some(root), ..manifest.clone() };
                drop(validate_config(&manifest, config));
            }
        }
    }
    assert!(admitted > 50 && refused > 20, "{admitted} admitted, {refused} refused: both kinds must come up");
}

#[test]
fn the_work_of_a_check_has_a_budget_and_its_answer_a_length() {
    use crate::manifest::config::ConfigError;
    let with = |schema: Value| {
        let manifest = parse_manifest(GOOD).unwrap();
        kith_model::plugin::Manifest { config_schema: Some(schema), ..manifest }
    };
    let budget = |manifest: &kith_model::plugin::Manifest, config: Value| match validate_config(manifest, config) {
        Err(ConfigError::Exhausted(exhausted)) => exhausted.budget.name,
        other => panic!("{other:?}"),
    };
    let list = with(json!({ "items": true, "properties": { "list": { "items": { "enum": vec![1; 1_000] } } } }));
    assert_eq!(budget(&list, json!({ "list": vec![1; 1_000] })), "config-steps");
    assert_eq!(budget(&list, json!({ "list": "x".repeat(70_000) })), "config-size");
    let defaults = with(json!({ "properties": {
        "list": { "items": { "properties": { "a": { "default": "x".repeat(1_000) } } } },
    } }));
    assert_eq!(budget(&defaults, json!({ "list": vec![json!({}); 100] })), "config-size");
    assert!(validate_config(&defaults, json!({ "list": vec![json!({}); 10] })).is_ok());
    let texts = with(json!({ "additionalProperties": { "type": "integer" } }));
    let many: Map<String, Value> = (0..60).map(|n| (format!("{n}"), json!("x".repeat(900)))).collect();
    let Err(ConfigError::Mistakes(mistakes)) = validate_config(&texts, Value::Object(many)) else { panic!() };
    assert_eq!(mistakes.len(), 20);
    assert!(mistakes.iter().all(|mistake| mistake.message.chars().count() <= 201), "{mistakes:?}");
}

/// Wherever the mistake lies: at the value, in it, or in what holds it.
#[test]
fn a_mistake_does_not_quote_what_is_never_shown() {
    use crate::manifest::config::{ConfigError, validate_unshown_config};
    let secret = || json!({ "type": "string", "maxLength": 3, "pattern": "^a", "enum": ["abc"], "writeOnly": true });
    let token = json!({
        "properties": {
            "token": secret(),
            "auth": { "properties": { "pin": secret() }, "maxProperties": 1, "not": { "required": ["x"] } },
        },
        "not": { "required": ["y"] },
    });
    let manifest = parse_manifest(GOOD).unwrap();
    let told = |schema: &Value, config: Value, unshown: Option<&str>| {
        let manifest = kith_model::plugin::Manifest { config_schema: Some(schema.clone()), ..manifest.clone() };
        let checked = match unshown {
            Some(path) => validate_unshown_config(&manifest, config, &[path.to_owned()].into()),
            None => validate_config(&manifest, config),
        };
        let Err(ConfigError::Mistakes(mistakes)) = checked else { panic!() };
        assert!(mistakes.len() > 1, "{mistakes:?}");
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let hidden = json!({ "token": "s3cret", "auth": { "pin": "s3cret", "x": 1 }, "y": 1 });
    let words = told(&token, hidden, None);
    assert!(
        words.contains("config/token") && words.contains("config/auth/pin") && !words.contains("s3cret"),
        "{words}"
    );
    // Also of what another version alone marks.
    let open = json!({ "properties": { "token": { "maxLength": 3, "pattern": "^a" } } });
    assert!(told(&open, json!({ "token": "s3cret" }), None).contains("s3cret"));
    assert!(!told(&open, json!({ "token": "s3cret" }), Some("/token")).contains("s3cret"));
}

#[test]
fn a_manifest_that_was_admitted_before_is_read_with_what_would_be_refused_today() {
    let text = GOOD
        .replace("\"RFM\"", &format!("\"{}\"", "T".repeat(3_000)))
        .replace("\"1.2.3\"", &format!("\"1.2.3-{}\"", "a".repeat(200)))
        .replace("[limits]", "[config.properties.loop]\n\"$ref\" = \"#\"\n[limits]");
    let mistakes = parse_manifest(&text).unwrap_err().mistakes;
    assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    assert!(mistakes[0].message.contains("`version` in [plugin] has 206 bytes; write at most 128"), "{mistakes:?}");
    let kept = crate::manifest::parse_kept_manifest(&text).unwrap();
    let refused = validate_config(&kept, json!({ "loop": {} })).unwrap_err();
    assert!(refused.to_string().contains("not admitted any more"), "{refused}");
}
