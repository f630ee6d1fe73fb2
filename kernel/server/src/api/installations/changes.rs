//! What a change of an installation changed: a configuration that is merged (RFC 7396), and the list of differences.

use kith_model::polling::interval_text;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::fitting_rules::rules;
use crate::catalogue::InstallationRow;

/// One thing that a change changed.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChangeBody {
    /// E.g. `config.url`, `grants.http`, `mode`.
    path: String,
    /// `null` where there was nothing, and for secrets and what of the configuration is never shown.
    #[schema(value_type = Value)]
    before: Value,
    /// `null` where there is nothing any more, and for secrets and what of the configuration is never shown.
    #[schema(value_type = Value)]
    after: Value,
}

/// A document after a JSON merge patch (RFC 7396): members that are given take the place of those that are there, `null` takes
/// one out, and what is absent stays.
pub(in crate::api) fn merged(present: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = present.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        match value {
            Value::Null => drop(merged.remove(key)),
            value => {
                let held = merged.remove(key).unwrap_or(Value::Null);
                merged.insert(key.clone(), self::merged(&held, value));
            }
        }
    }
    Value::Object(merged)
}

/// What differs between two rows of an installation.
pub(super) fn differences(
    before: &InstallationRow,
    after: &InstallationRow,
    secrets: &[&String],
    unshown: &[String],
) -> Vec<ChangeBody> {
    let mut changes = Vec::new();
    members("config", &before.config, &after.config, &mut changes);
    let grants = |row: &InstallationRow| serde_json::to_value(&row.grants).unwrap_or_default();
    members("grants", &grants(before), &grants(after), &mut changes);
    members("fitting", &rules(&before.fitting), &rules(&after.fitting), &mut changes);
    let mut add = |path: &str, before: Value, after: Value| {
        if before != after {
            changes.push(ChangeBody { path: path.to_owned(), before, after });
        }
    };
    add("mode", json!(before.mode), json!(after.mode));
    add("version", json!(before.version), json!(after.version));
    let interval = |row: &InstallationRow| json!(row.poll_interval_ms.map(interval_text));
    add("poll.interval", interval(before), interval(after));
    let untold = |path: String| ChangeBody { path, before: Value::Null, after: Value::Null };
    changes.extend(unshown.iter().map(|path| untold(format!("config.{}", kith_host::dotted(path)))));
    changes.extend(secrets.iter().map(|name| untold(format!("secrets.{name}"))));
    changes
}

fn members(place: &str, before: &Value, after: &Value, changes: &mut Vec<ChangeBody>) {
    let none = Map::new();
    let (one, other) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for key in keys {
        let [before, after] = [one, other].map(|members| members.get(key).cloned().unwrap_or(Value::Null));
        if before != after {
            changes.push(ChangeBody { path: format!("{place}.{key}"), before, after });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of RFC 7396's appendix A.
    #[test]
    fn a_patch_is_merged_as_the_rfc_has_it() {
        for (present, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            assert_eq!(merged(&present, &patch), expected, "{present} with {patch}");
        }
    }
}
