//! The keys of a manifest by the table that they stand in: what the reader takes, and what `docs/manifest.md` has to describe.

/// The tables.
pub(super) const ROOT: [&str; 8] =
    ["plugin", "inputs", "outputs", "training", "config", "capabilities", "poll", "limits"];

/// `[plugin]`
pub(super) const PLUGIN: [&str; 10] =
    ["id", "version", "kind", "abi", "kernel", "title", "description", "license", "idempotent", "state_version"];

/// `[inputs.NAME]`
pub(super) const INPUT: [&str; 4] = ["expression", "type", "fields", "reason"];

/// `[outputs.NAME]`
pub(super) const OUTPUT: [&str; 4] = ["type", "values", "description", "category"];

/// `[training]`
pub(super) const TRAINING: [&str; 6] = ["label", "horizon", "every", "cut_offs", "predicts", "timeless"];

/// `[capabilities]`
pub(super) const CAPABILITIES: [&str; 7] = ["http", "secrets", "kv", "emits", "recipients", "mail", "purposes"];

/// `[[capabilities.http]]`
pub(super) const HTTP: [&str; 3] = ["host", "methods", "reason"];

/// `[[capabilities.secrets]]`
pub(super) const SECRET: [&str; 5] = ["name", "hosts", "reason", "optional", "form"];

/// `[capabilities.kv]`
pub(super) const KV: [&str; 2] = ["bytes", "reason"];

/// `[[capabilities.recipients]]`
pub(super) const RECIPIENT: [&str; 2] = ["type", "reason"];

/// `[[capabilities.mail]]`
pub(super) const MAIL: [&str; 2] = ["host", "reason"];

/// `[poll]`
pub(super) const POLL: [&str; 2] = ["interval", "reason"];

/// The limits of `[limits]`, which are those that a grant may lower as well.
pub const LIMITS: [&str; 10] = [
    "memory_bytes",
    "cpu_ms",
    "wall_ms",
    "fuel",
    "output_bytes",
    "log_bytes",
    "host_calls",
    "messages_at_once",
    "requests_per_host",
    "requests_per_minute",
];

/// What the macro of the SDK knows of them.
#[cfg(test)]
#[path = "../../../../plugin-sdk/macros/src/keys.rs"]
mod of_the_sdk;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::abi::Abi;
    use crate::manifest::columns::input_types;
    use crate::manifest::parse_manifest;

    const PAGE: &str = include_str!("../../../../docs/manifest.md");

    /// The lines of the page below a heading, up to the next one.
    fn section(heading: &str) -> Vec<&'static str> {
        let mut lines = PAGE.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading));
        assert!(lines.next().is_some(), "the page has no heading `{heading}`");
        lines.take_while(|line| !line.starts_with("## ")).collect()
    }

    /// The rows of the first table below a heading, without its head.
    fn rows(heading: &str) -> Vec<Vec<&'static str>> {
        let table = section(heading).into_iter().filter(|line| line.starts_with("| "));
        // A bar inside of an example would be a cell; none needs one.
        table.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    /// A key that the reader takes and the page leaves out, or that the page has and the reader does not take.
    #[test]
    fn the_page_has_every_key_with_an_example_that_is_toml() {
        for (heading, keys) in [
            ("`[plugin]`", &PLUGIN[..]),
            ("`[inputs.NAME]`", &INPUT[..]),
            ("`[outputs.NAME]`", &OUTPUT[..]),
            ("`[training]`", &TRAINING[..]),
            ("`[capabilities]`", &CAPABILITIES[..]),
            ("`[[capabilities.http]]`", &HTTP[..]),
            ("`[[capabilities.secrets]]`", &SECRET[..]),
            ("`[capabilities.kv]`", &KV[..]),
            ("`[[capabilities.recipients]]`", &RECIPIENT[..]),
            ("`[[capabilities.mail]]`", &MAIL[..]),
            ("`[poll]`", &POLL[..]),
            ("`[limits]`", &LIMITS[..]),
        ] {
            let rows = rows(heading);
            let described: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
            assert_eq!(described, keys.iter().copied().collect(), "{heading}");
            assert_eq!(rows.len(), described.len(), "{heading} has a key twice");
            for row in rows {
                let [key, kinds, form, default, does, example] = row[..] else { panic!("{heading}: {row:?}") };
                assert!([kinds, form, default, does].iter().all(|cell| !cell.is_empty()), "{heading} {key}");
                let example = example.trim_matches('`');
                assert!(toml::de::DeTable::parse(example).is_ok(), "{heading} {key}: {example}");
                let bare = key.trim_matches('`');
                assert!(example.contains(bare), "{heading}: {example} is no example of {bare}");
            }
        }
        let tables: BTreeSet<&str> = rows("Tables").iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(tables, ROOT.into_iter().collect());
    }

    /// A plugin's crate refuses what the host does, and nothing that the host takes.
    #[test]
    fn the_sdk_has_the_same_keys() {
        let tables: [(&str, &[&str]); 13] = [
            ("", &ROOT),
            ("[plugin]", &PLUGIN),
            ("[inputs.NAME]", &INPUT),
            ("[outputs.NAME]", &OUTPUT),
            ("[training]", &TRAINING),
            ("[capabilities]", &CAPABILITIES),
            ("[[capabilities.http]]", &HTTP),
            ("[[capabilities.secrets]]", &SECRET),
            ("[capabilities.kv]", &KV),
            ("[[capabilities.recipients]]", &RECIPIENT),
            ("[[capabilities.mail]]", &MAIL),
            ("[poll]", &POLL),
            ("[limits]", &LIMITS),
        ];
        assert_eq!(of_the_sdk::TABLES, tables);
        assert_eq!(of_the_sdk::ABIS, Abi::ALL.map(Abi::as_str));
    }

    #[test]
    fn the_page_has_every_type_and_its_manifests_have_no_mistakes() {
        let described: Vec<&str> = rows("Types").iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(described, input_types());
        let manifests: Vec<&str> =
            PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(manifests.len(), 4, "one of each kind");
        let kinds: BTreeSet<String> = manifests
            .into_iter()
            .map(|text| parse_manifest(text).unwrap_or_else(|error| panic!("{text}\n{error}")).kind.to_string())
            .collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }
}
