//! What a manifest declares beside what it does: expressions that parse, types that they have, placeholders that the configuration
//! has, defaults that its schema takes, a kernel that is there. Found when a vendor checks and builds and when a component is
//! uploaded, so that no customer's installation finds it.

mod training;

use std::collections::BTreeMap;

use kith_features::{Expression, Kinds};
use kith_host::{
    ConfigError, Inspection, ManifestError, ManifestMistake, PackageError, dotted, filled_in_write_only, mistake_in,
};
use kith_model::plugin::{InputSpec, Manifest, PluginKind};
use kith_model::table::{ColumnType, RecordField};
use serde_json::{Map, Value, json};

pub(crate) use self::training::unlearnable;
use crate::wiring::substitute;

/// What a component says that it is, where neither its form nor what its manifest declares is refused: the one look of the upload and
/// of `kith plugin check`, so that a vendor hears of everything that a server would refuse which takes components of so many bytes.
///
/// # Errors
/// [`PackageError`], of what is declared with the line of each mistake.
pub fn inspect(component: &[u8], max_bytes: u64) -> Result<Inspection, PackageError> {
    let (inspected, mut findings) = kith_host::look_within(component, max_bytes)?;
    let mistakes = mistakes(&inspected.manifest, &inspected.manifest_toml);
    if !mistakes.is_empty() {
        findings.push(PackageError::Manifest(ManifestError { mistakes }));
    }
    PackageError::of(findings).map(|()| inspected)
}

/// All that is wrong, in the order of the manifest; `text` is what it was read from.
pub fn mistakes(manifest: &Manifest, text: &str) -> Vec<ManifestMistake> {
    let mut found = Vec::new();
    check_kernel(manifest, text, &mut found);
    check_defaults(manifest, text, &mut found);
    for input in &manifest.inputs {
        check_input(manifest, text, input, &mut found);
    }
    training::check(manifest, text, &mut found);
    for output in &manifest.outputs {
        let is_list = matches!(
            output.column_type,
            ColumnType::Int64List | ColumnType::Float64List | ColumnType::TimestampList | ColumnType::TextList
        );
        if is_list {
            let message = format!(
                "`{}` is a list, and a tag or score is one value; declare several outputs, or a boolean for each thing that may be said",
                output.name
            );
            found.push(mistake_in(text, &["outputs", &output.name, "type"], message));
        }
    }
    found.sort_by_key(|mistake| (mistake.line, mistake.column));
    found
}

fn check_kernel(manifest: &Manifest, text: &str, found: &mut Vec<ManifestMistake>) {
    let Ok(this) = semver::Version::parse(env!("CARGO_PKG_VERSION")) else { return };
    if !manifest.kernel.matches(&this) {
        let message = format!(
            "the plugin needs a kernel {}, and this is {this}; write a range that it is in, e.g. \">={}.{}\", or take a kernel of that range",
            manifest.kernel, this.major, this.minor
        );
        found.push(mistake_in(text, &["plugin", "kernel"], message));
    }
}

/// Each default is taken by the schema that it stands in.
fn check_defaults(manifest: &Manifest, text: &str, found: &mut Vec<ManifestMistake>) {
    let whole = manifest.config_schema.as_ref().and_then(|schema| schema.get("default"));
    if let Some(whole) = whole
        && let Err(error) = kith_host::validate_config(manifest, whole.clone())
    {
        let message = format!("the default is not what the schema takes: {error}");
        found.push(mistake_in(text, &["config", "default"], message));
    }
    let Err(ConfigError::Mistakes(mistakes)) = kith_host::validate_config(manifest, json!({})) else { return };
    for mistake in mistakes {
        // What is absent and has no default is an admin's to say.
        let mut path: Vec<&str> = vec!["config"];
        path.extend(mistake.path.split('/').skip(1).flat_map(|name| ["properties", name]));
        if path.len() > 1 {
            path.push("default");
            let message = format!("the default is not what the schema takes: {}", mistake.message);
            found.push(mistake_in(text, &path, message));
        }
    }
}

fn check_input(manifest: &Manifest, text: &str, input: &InputSpec, found: &mut Vec<ManifestMistake>) {
    let expression = ["inputs", input.name.as_str(), "expression"];
    let written = (&expression[..], input.name.as_str());
    let Some(parsed) = filled_in(manifest, text, written, &input.expression, found) else { return };
    if let Some(problem) = mistyped(input, &parsed) {
        found.push(mistake_in(text, &["inputs", &input.name, "type"], problem));
    }
    if let Some(problem) = manifest.training.as_ref().and_then(|training| training::leak(training, input, &parsed)) {
        found.push(mistake_in(text, &expression, problem));
    }
    let own = match manifest.kind {
        PluginKind::Scorer => &parsed.reads().scores,
        _ => &parsed.reads().tags,
    };
    if let Some(output) = manifest.outputs.iter().find(|output| own.contains(&output.name)) {
        let message = format!(
            "`{}` reads `{}`, which the plugin writes itself; compute it of events and traits, or have another plugin write it",
            input.name, output.name
        );
        found.push(mistake_in(text, &expression, message));
    }
}

/// An expression of the manifest with some value of the configuration for each placeholder; `None` where it is none, which is noted, or
/// where nobody knows a value that the schema takes: then it is checked when somebody installs it.
fn filled_in(
    manifest: &Manifest,
    text: &str,
    (place, name): (&[&str], &str),
    written: &str,
    found: &mut Vec<ManifestMistake>,
) -> Option<Expression> {
    if let Some(hidden) = manifest.config_schema.as_ref().and_then(|schema| filled_in_write_only(schema, written)) {
        let message = format!(
            "`{}` of the configuration is `writeOnly`, and an expression shows what it is filled in with; use another property, or take \
             `writeOnly` off this one",
            dotted(&hidden)
        );
        found.push(mistake_in(text, place, message));
    }
    let mut config = Sample { value: json!({}), is_whole: true };
    for key in placeholders(written) {
        match schema_of(manifest.config_schema.as_ref(), key) {
            Some(schema) => config.put(key, schema),
            None => {
                let known = keys_of(manifest.config_schema.as_ref());
                let message = format!("`${{config.{key}}}` is not in [config], which has {}", listed(&known));
                found.push(mistake_in(text, place, message));
                config.is_whole = false;
            }
        }
    }
    if !config.is_whole {
        return None;
    }
    let parsed = substitute::config(written, &config.value)
        .and_then(|filled_in| filled_in.parse::<Expression>().map_err(|error| error.to_string()));
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(problem) => {
            found.push(mistake_in(text, place, format!("the expression of `{name}`: {problem}")));
            None
        }
    }
}

/// The first input, filled in, that can never be what it is declared as, and why. An expression that is none is refused where it
/// is compiled.
pub(crate) fn mistyped_input(inputs: &[InputSpec]) -> Option<(String, String)> {
    inputs.iter().find_map(|input| Some((input.name.clone(), mistyped(input, &input.expression.parse().ok()?)?)))
}

/// Why no value of an input's expression can be in its column, in words.
fn mistyped(input: &InputSpec, expression: &Expression) -> Option<String> {
    let kinds = expression.kinds();
    if kinds.fit(&input.column_type) {
        return None;
    }
    if let (ColumnType::Records(declared), Some(given)) = (&input.column_type, kinds.record_fields()) {
        return mistyped_field(&input.name, declared, given);
    }
    // Of what is declared a list may hold each item as it was meant, although a list of texts would hold all that there is.
    let as_list = list_of(&input.column_type).filter(|list| kinds.fit(list));
    let remedy = match as_list.clone().or_else(|| kinds.column()) {
        Some(column) => format!("write type = \"{}\"", name_of(&column)),
        None if kinds.record_fields().is_some() => {
            "write type = \"records\" and a type for each of its `fields`".to_owned()
        }
        None => "no column holds that: name a field of it, or count it".to_owned(),
    };
    let or_else = match input.column_type {
        _ if as_list.is_some() => ", or make one value of the list, as `.sum()` and `.max()` do",
        ColumnType::Int64 if kinds.fit(&ColumnType::Float64) => {
            ", or `int(…)` around the expression, which cuts the fraction off"
        }
        ColumnType::Int64List if kinds.fit(&ColumnType::Float64List) => {
            ", or `.map(x, int(x))` behind the expression, which cuts the fractions off"
        }
        _ => "",
    };
    Some(format!(
        "`{}` is declared {}, and its expression gives {kinds}; {remedy}{or_else}",
        input.name,
        name_of(&input.column_type)
    ))
}

/// The first field of an input that its expression gives not or as something else, or gives although none is declared.
fn mistyped_field(input: &str, declared: &[RecordField], given: &BTreeMap<String, Kinds>) -> Option<String> {
    let of_declared = declared.iter().find_map(|RecordField { name, column_type }| {
        let column = name_of(column_type);
        match given.get(name) {
            None => Some(format!(
                "the field `{name}` of `{input}` is declared {column}, and its expression gives none of that name; it gives {}",
                listed(&given.keys().map(String::as_str).collect::<Vec<_>>())
            )),
            Some(kinds) if !kinds.fit(column_type) => {
                let remedy = match kinds.column() {
                    Some(fitting) => format!("write {name} = \"{}\"", name_of(&fitting)),
                    None => "no field holds that: take one value of it".to_owned(),
                };
                Some(format!(
                    "the field `{name}` of `{input}` is declared {column}, and its expression gives {kinds}; {remedy}"
                ))
            }
            Some(_) => None,
        }
    });
    of_declared.or_else(|| {
        let other = given.keys().find(|name| declared.iter().all(|field| field.name != **name))?;
        let names = listed(&declared.iter().map(|field| field.name.as_str()).collect::<Vec<_>>());
        Some(format!(
            "the expression of `{input}` gives a field `{other}`, and `fields` declares {names}; declare it or leave it out"
        ))
    })
}

/// The column of lists of what a column holds.
fn list_of(column: &ColumnType) -> Option<ColumnType> {
    match column {
        ColumnType::Int64 => Some(ColumnType::Int64List),
        ColumnType::Float64 => Some(ColumnType::Float64List),
        ColumnType::Timestamp => Some(ColumnType::TimestampList),
        ColumnType::Text => Some(ColumnType::TextList),
        ColumnType::Boolean
        | ColumnType::Int64List
        | ColumnType::Float64List
        | ColumnType::TimestampList
        | ColumnType::TextList
        | ColumnType::Records(_) => None,
    }
}

/// As a manifest writes it.
fn name_of(column: &ColumnType) -> String {
    match column {
        ColumnType::Records(_) => "records".to_owned(),
        column => json!(column).as_str().unwrap_or_default().to_owned(),
    }
}

/// The keys that stand as `${config.key}` in an expression.
fn placeholders(expression: &str) -> impl Iterator<Item = &str> {
    expression.split("${config.").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// The schema of a value of the configuration; `None` where the configuration can have no such value.
fn schema_of<'s>(schema: Option<&'s Value>, key: &str) -> Option<&'s Value> {
    static ANYTHING: Value = Value::Bool(true);
    key.split('.').try_fold(schema?, |schema, name| match schema.get("properties").and_then(|all| all.get(name)) {
        Some(property) => Some(property),
        // A schema that is put together of others, or open, may have it all the same.
        None if schema.get("additionalProperties") == Some(&json!(false)) && schema.get("allOf").is_none() => None,
        None => Some(&ANYTHING),
    })
}

fn keys_of(schema: Option<&Value>) -> Vec<&str> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no properties".to_owned() } else { format!("`{}`", names.join("`, `")) }
}

/// A configuration with some value for each placeholder.
struct Sample {
    value: Value,
    /// Whether there is one for each.
    is_whole: bool,
}

impl Sample {
    fn put(&mut self, key: &str, schema: &Value) {
        let Some(value) = some_value(schema) else {
            self.is_whole = false;
            return;
        };
        let mut at = &mut self.value;
        for name in key.split('.') {
            let Value::Object(fields) = at else { return };
            at = fields.entry(name).or_insert_with(|| json!({}));
        }
        *at = value;
    }
}

/// A value that a schema takes, where it names one or any of its type will do.
fn some_value(schema: &Value) -> Option<Value> {
    let said = ["default", "const"].into_iter().find_map(|word| schema.get(word));
    let listed = ["enum", "examples"].into_iter().find_map(|word| schema.get(word)?.as_array()?.first());
    if let Some(value) = said.or(listed) {
        return Some(value.clone());
    }
    match schema.get("type").and_then(Value::as_str)? {
        "number" | "integer" => Some(schema.get("minimum").cloned().unwrap_or_else(|| json!(1))),
        "boolean" => Some(json!(true)),
        // What a text has to look like in its place, a window for one, nobody but the schema knows.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"[plugin]
id = "acme/level"
version = "0.1.0"
kind = "tag-model"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "Level"
description = "Says who spends much"
license = "Apache-2.0"

[inputs.spent]
expression = "events('Order Completed', '${config.window}').map(e, e.total).sum()"
type = "float64"
reason = "Who spends much is told by what somebody spent"

[outputs.level]
type = "text"
values = ["high", "low"]
description = "Whether somebody spends much"
category = "value"

[config.properties.window]
type = "string"
default = "90d"
pattern = "^[0-9]+d$"
description = "How far back orders count"
"#;

    fn found(from: &str, to: &str) -> Vec<String> {
        assert!(MANIFEST.contains(from), "{from}");
        let text = MANIFEST.replacen(from, to, 1);
        let manifest = kith_host::parse_manifest(&text).unwrap_or_else(|error| panic!("{from} -> {to}: {error}"));
        mistakes(&manifest, &text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_without_mistakes_has_none() {
        assert_eq!(found("spends", "spends"), Vec::<String>::new());
        let ours = [
            "connector-csv",
            "connector-http-pull",
            "connector-segment",
            "tag-model-rfm",
            "tag-model-lifecycle",
            "scorer-clv",
            "channel-webhook",
            "channel-mail",
        ];
        for name in ours {
            let path =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name).join("plugin.toml");
            let text = std::fs::read_to_string(path).unwrap();
            let manifest = kith_host::parse_manifest(&text).unwrap();
            assert_eq!(mistakes(&manifest, &text), [], "{name}");
        }
    }

    #[test]
    fn the_configurations_that_the_page_of_a_plugin_shows_are_admitted() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/connector-http-pull");
        let manifest = std::fs::read_to_string(folder.join("plugin.toml")).unwrap();
        let manifest = kith_host::parse_manifest(&manifest).unwrap();
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let blocks: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(blocks.len(), 2);
        for block in blocks {
            let config = serde_json::from_str(block).unwrap();
            kith_host::validate_config(&manifest, config).unwrap_or_else(|error| panic!("{error}: {block}"));
        }
    }

    /// Each with its line, what is wrong, and what to write.
    #[test]
    fn what_a_vendor_mistakes_is_found_before_any_customer_does() {
        for (from, to, expected) in [
            (
                "\"float64\"",
                "\"boolean\"",
                "13:8: `spent` is declared boolean, and its expression gives a number that may have a fraction; write type = \"float64\"",
            ),
            (
                "\"float64\"",
                "\"int64\"",
                "13:8: `spent` is declared int64, and its expression gives a number that may have a fraction; write type = \"float64\", or `int(…)` around",
            ),
            ("\"float64\"", "\"text-list\"", "13:8: `spent` is declared text-list"),
            (
                ".map(e, e.total).sum()\"\ntype = \"float64\"",
                ".map(e, e.total * 0.5)\"\ntype = \"int64-list\"",
                "13:8: `spent` is declared int64-list, and its expression gives a list, each item a number that may have a fraction; write type = \"float64-list\", or `.map(x, int(x))` behind",
            ),
            (
                ".map(e, e.total).sum()",
                ".map(e, e.time).max()",
                "13:8: `spent` is declared float64, and its expression gives a time; write type = \"timestamp\"",
            ),
            (".sum()", ".std()", "12:14: the expression of `spent`: line 1, column"),
            (".sum()", ".sum(", "12:14: the expression of `spent`: line 1, column"),
            (
                "${config.window}",
                "${config.windwo}",
                "12:14: `${config.windwo}` is not in [config], which has `window`",
            ),
            (
                "default = \"90d\"",
                "default = \"many\"",
                "24:11: the default is not what the schema takes: \"many\" does not match",
            ),
            (
                "default = \"90d\"",
                "default = \"90d\"\nwriteOnly = true",
                "12:14: `window` of the configuration is `writeOnly`, and an expression shows",
            ),
            ("default = \"90d\"", "default = 90", "24:11: the default is not what the schema takes: 90 is not of type"),
            ("\">=0.1, <0.2\"", "\">=0.9\"", "6:10: the plugin needs a kernel >=0.9"),
            (
                "events('Order Completed', '${config.window}').map(e, e.total).sum()",
                "double(tags.level)",
                "12:14: `spent` reads `level`, which the plugin writes itself; compute it of events and traits",
            ),
            (
                "type = \"text\"\nvalues = [\"high\", \"low\"]",
                "type = \"text-list\"",
                "17:8: `level` is a list, and a tag or score is one value; declare several outputs, or a boolean for each",
            ),
            (
                ".map(e, e.total).sum()\"\ntype = \"float64\"",
                ".map(e, e.total)\"\ntype = \"int64\"",
                "13:8: `spent` is declared int64, and its expression gives a list, each item anything; write type = \"int64-list\", or make one value of the list",
            ),
            (
                "[config.properties.window]",
                "[config]\ndefault = { a = 1 }\n[config.properties.window]",
                "23:11: the default is not what the schema takes: config",
            ),
        ] {
            let found = found(from, to);
            assert!(found.iter().any(|mistake| mistake.starts_with(expected)), "{from} -> {to}: {found:?}");
        }
    }

    /// What somebody got wrong who wrote plugins without knowing any: what stands in the place of what, the line that is told, what of
    /// the cause, and what of the remedy.
    const TRIAL: [(&str, &str, usize, &str, &str); 28] = [
        (
            "\"tag-model\"",
            "tag-model",
            4,
            "`tag-model` is no value of TOML",
            "write a text in quotes: kind = \"tag-model\"",
        ),
        ("\"tag-model\"", "\"tagger\"", 4, "`tagger` is not a kind of plugin", "write one of connector"),
        ("title =", "titel =", 7, "unknown key `titel` in [plugin]", "did you mean `title`?"),
        ("title = \"Level\"\n", "", 1, "[plugin] has no `title`", "write a name for people"),
        ("\"Level\"", "\" \"", 7, "`title` in [plugin] is empty", "write a name for people"),
        ("\"0.1.0\"", "\"0.1\"", 3, "`0.1` is not a semantic version", "write e.g. 0.1.0"),
        ("\"acme/level\"", "\"Acme\"", 2, "`Acme` is not a plugin id", "write `vendor/name`"),
        ("abi = \"0.2\"", "abi = \"0.9\"", 5, "this kernel has no ABI `0.9`", "it has 0.1 and 0.2"),
        ("\">=0.1, <0.2\"", "\"new\"", 6, "`new` is not a version requirement", "write e.g. >=0.1, <0.2"),
        ("\">=0.1, <0.2\"", "\">=0.9\"", 6, "the plugin needs a kernel >=0.9", "and this is 0."),
        ("\"Apache-2.0\"", "\"whatever\"", 9, "`whatever` is no licence", "write the id of one"),
        ("type = \"float64\"", "type = \"double\"", 13, "`double` is not a type", "write one of boolean"),
        ("reason", "raison", 11, "[inputs.spent] has no `reason`", "write why"),
        ("[outputs.level]", "[outputs.Level]", 16, "`Level` is not a column name", "write a lower-case letter"),
        ("[\"high\", \"low\"]", "[]", 18, "`values` lists none", "leave it out for any"),
        ("\"float64\"", "\"float64\"\ntype = \"text\"", 14, "duplicate key", "leave one of the two"),
        ("count\"", "count\"\n[[capabilities.http]]", 27, "may not ask for `http`", "remove it"),
        ("count\"", "count\"\n[[capabilities.mail]]", 27, "may not ask for `mail`", "remove it"),
        ("count\"", "count\"\n[limits]\ncpu_ms = 0", 28, "`cpu_ms` in [limits]", "must be a whole number above 0"),
        ("\"string\"", "\"nummer\"", 23, "names `nummer`, which is no type of JSON", "did you mean `number`?"),
        (".sum()", ".sum(", 12, "the expression of `spent`: line 1, column", "the expression ends"),
        (".sum()", ".std()", 12, "unknown function `std`", "there are"),
        ("\"float64\"", "\"boolean\"", 13, "its expression gives a number", "write type = \"float64\""),
        ("${config.window}", "${config.windwo}", 12, "`${config.windwo}` is not in [config]", "which has `window`"),
        ("\"90d\"", "90", 24, "the default is not what the schema takes", "90 is not of type"),
        ("\"90d\"", "\"many\"", 24, "the default is not what the schema takes", "\"many\" does not match"),
        ("\"text\"\nvalues = [\"high\", \"low\"]", "\"text-list\"", 17, "`level` is a list", "declare several outputs"),
        (
            "events('Order Completed', '${config.window}').map(e, e.total).sum()",
            "double(tags.level)",
            12,
            "`spent` reads `level`",
            "which the plugin writes itself",
        ),
    ];

    #[test]
    fn each_mistake_of_a_trial_is_told_with_its_line_its_cause_and_a_remedy() {
        let told = |text: &str| -> Vec<String> {
            match kith_host::parse_manifest(text) {
                Ok(manifest) => mistakes(&manifest, text).iter().map(ToString::to_string).collect(),
                Err(error) => error.mistakes.iter().map(ToString::to_string).collect(),
            }
        };
        for (from, to, line, cause, remedy) in TRIAL {
            assert!(MANIFEST.contains(from), "{from}");
            let found = told(&MANIFEST.replacen(from, to, 1));
            let is_told = |mistake: &String| {
                mistake.starts_with(&format!("{line}:")) && mistake.contains(cause) && mistake.contains(remedy)
            };
            assert!(found.iter().any(is_told), "{from} -> {to}: {found:#?}");
        }
        // The one that is left is of a kind that keeps state.
        let keeping = MANIFEST.replacen("tag-model", "connector", 1);
        let keeping = keeping.split("\n[inputs").next().unwrap_or_default();
        let found = told(&format!("{keeping}\n[capabilities.kv]\nreason = \"x\"\n"));
        let expected = "[capabilities.kv] has no `bytes`; write how many bytes of state it may keep";
        assert!(found.len() == 1 && found[0].ends_with(expected), "{found:#?}");
    }

    /// A field that is misspelt, missing or of another type is told of with both.
    #[test]
    fn records_are_held_against_what_their_expression_gives() {
        let spent = ".map(e, e.total).sum()\"\ntype = \"float64\"";
        let of = |expression: &str, column: &str| found(spent, &format!("{expression}\"\ntype = \"{column}\""));
        let written = ".map(e, {'time': e.time, 'amount': e.total})";
        let fields = |fields: &str| of(written, &format!("records\"\nfields = {{ {fields} }} #"));
        assert_eq!(fields("time = \"timestamp\", amount = \"float64\""), Vec::<String>::new());
        for (found, expected) in [
            (
                fields("time = \"timestamp\", amuont = \"float64\""),
                "13:8: the field `amuont` of `spent` is declared float64, and its expression gives none of that name; it gives \
                 `amount`, `time`",
            ),
            (
                fields("time = \"float64\", amount = \"float64\""),
                "13:8: the field `time` of `spent` is declared float64, and its expression gives a time; write time = \
                 \"timestamp\"",
            ),
            (
                fields("time = \"timestamp\""),
                "13:8: the expression of `spent` gives a field `amount`, and `fields` declares `time`; declare it or leave it out",
            ),
            (
                of(".map(e, e.total).sum()", "records\"\nfields = { n = \"text\" } #"),
                "13:8: `spent` is declared records, and its expression gives a number that may have a fraction; write type = \
                 \"float64\"",
            ),
            (
                of(written, "text-list"),
                "13:8: `spent` is declared text-list, and its expression gives a list, each item an object of `amount`, `time`; \
                 write type = \"records\" and a type for each of its `fields`",
            ),
        ] {
            assert_eq!(found, [expected]);
        }
    }
}
