//! Words of `kith plugin`'s arguments that have a form of their own.

use std::path::PathBuf;

use kith_host::LIMIT_NAMES;
use kith_model::id::Name;
use kith_model::plugin::PluginId;
use kith_model::sending::MAX_SENDING;

/// Whether a source may end refusals of consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConsentGrantArg {
    Give,
    Keep,
}

/// A limit, or none of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitArg {
    At(u64),
    None,
}

/// A plugin, perhaps at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginReference {
    pub(crate) id: PluginId,
    pub(crate) version: Option<semver::Version>,
}

/// What a file of grants is written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GrantsSubject {
    File(PathBuf),
    Plugin(PluginReference),
    Installation(Name),
}

pub(super) fn parse_grants_subject(text: &str) -> Result<GrantsSubject, String> {
    if text.ends_with(".wasm") {
        return Ok(GrantsSubject::File(text.into()));
    }
    if text.contains('/') {
        return parse_plugin_reference(text).map(GrantsSubject::Plugin);
    }
    text.parse().map(GrantsSubject::Installation).map_err(|error: kith_model::id::InvalidId| error.to_string())
}

pub(super) fn parse_plugin_reference(text: &str) -> Result<PluginReference, String> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version.parse().map_err(|error| format!("`{version}`: {error}"))?)),
        None => (text, None),
    };
    Ok(PluginReference {
        id: id.parse().map_err(|error: kith_model::plugin::InvalidPluginId| error.to_string())?,
        version,
    })
}

pub(super) fn parse_limit(text: &str) -> Result<(String, LimitArg), String> {
    let (name, limit) = text.split_once('=').ok_or("write NAME=N, e.g. cpu_ms=200")?;
    if !LIMIT_NAMES.contains(&name) {
        return Err(format!("there is no limit `{name}`; there are {}", LIMIT_NAMES.join(", ")));
    }
    let limit = match limit {
        "none" => LimitArg::None,
        number => number
            .parse()
            .map(LimitArg::At)
            .map_err(|_| format!("`{number}` is no whole number; write one, or `none`"))?,
    };
    Ok((name.to_owned(), limit))
}

pub(super) fn parse_bound(text: &str) -> Result<LimitArg, String> {
    match text {
        "none" => Ok(LimitArg::None),
        number => match number.parse() {
            Ok(number) if (1..=MAX_SENDING).contains(&number) => Ok(LimitArg::At(number)),
            _ => Err(format!("write a whole number from 1 to {MAX_SENDING}, or `none`")),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn plugins_are_named_with_or_without_version() {
        assert_eq!(parse_plugin_reference("kith/csv").unwrap().version, None);
        let at = parse_plugin_reference("kith/csv@0.1.0").unwrap();
        assert_eq!(at.version, Some(semver::Version::new(0, 1, 0)));
        assert!(parse_plugin_reference("csv").is_err());
        assert!(parse_plugin_reference("kith/csv@x").is_err());
    }

    /// What the API can set, the command line can: a limit that is new to the grants is missed here.
    #[test]
    fn every_limit_of_a_grant_can_be_set() {
        let all = serde_json::to_value(kith_model::plugin::LimitRequest::default()).unwrap();
        let names: std::collections::BTreeSet<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, LIMIT_NAMES.into_iter().collect());
        assert_eq!(parse_limit("fuel=7"), Ok(("fuel".to_owned(), LimitArg::At(7))));
        assert_eq!(parse_limit("fuel=none"), Ok(("fuel".to_owned(), LimitArg::None)));
        assert!(parse_limit("fuel").is_err() && parse_limit("fuel=-1").is_err() && parse_limit("speed=1").is_err());
    }

    #[test]
    fn a_file_of_grants_is_written_for_a_component_a_plugin_or_an_installation() {
        assert_eq!(parse_grants_subject("x/y.wasm"), Ok(GrantsSubject::File("x/y.wasm".into())));
        let csv = PluginReference { id: "kith/csv".parse().unwrap(), version: Some(semver::Version::new(0, 1, 0)) };
        assert_eq!(parse_grants_subject("kith/csv@0.1.0"), Ok(GrantsSubject::Plugin(csv)));
        assert_eq!(parse_grants_subject("orders"), Ok(GrantsSubject::Installation("orders".parse().unwrap())));
        assert!(parse_grants_subject("a b").is_err());
    }

    /// Of a file and a flag one would be dropped unseen.
    #[test]
    fn a_file_of_grants_stands_alone() {
        let parse = |command: &[&str], more: &[&str]| {
            let all = [&["kith", "plugin"][..], command, &["--grants", "grants.toml"], more].concat();
            crate::cli::args::Cli::try_parse_from(all).map(drop).map_err(|error| error.kind())
        };
        let (install, change) = (["install", "kith/webhook"], ["change", "webhook"]);
        assert_eq!(parse(&install, &["--secret", "signing=x", "--disabled", "--config", "{}"]), Ok(()));
        assert_eq!(parse(&change, &["--secret", "signing=x"]), Ok(()));
        assert_eq!(parse(&["upgrade", "webhook"], &["--yes"]), Ok(()));
        for flag in [&["--grant-http", "a.example"][..], &["--limit", "cpu_ms=100"], &["--grants-later"]] {
            for command in [install, change] {
                assert_eq!(parse(&command, flag), Err(clap::error::ErrorKind::ArgumentConflict), "{flag:?}");
            }
        }
        assert_eq!(parse(&change, &["--revoke", "http"]), Err(clap::error::ErrorKind::ArgumentConflict));
    }

    /// A grant that is given beside it would be dropped unseen, so that every flag that makes one is refused.
    #[test]
    fn what_is_granted_later_is_not_granted_now() {
        let install = |more: &[&str]| {
            let all = ["kith", "plugin", "install", "kith/webhook", "--grants-later"];
            crate::cli::args::Cli::try_parse_from(all.iter().chain(more)).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(install(&[]), Ok(()));
        assert_eq!(install(&["--disabled", "--config", "{}", "--name", "later"]), Ok(()));
        for flag in [
            &["--limit", "cpu_ms=100"][..],
            &["--messages-at-once", "8"],
            &["--requests-per-host", "none"],
            &["--grant-http", "a.example"],
            &["--grant-network", "10.1.0.0/16"],
            &["--grant-recipient", "email"],
            &["--grant-sensitive", "traits.salary"],
            &["--grant-kv", "1"],
            &["--grant-consent"],
            &["--secret", "signing=x"],
        ] {
            assert_eq!(install(flag), Err(clap::error::ErrorKind::ArgumentConflict), "{flag:?}");
        }
    }

    #[test]
    fn a_bound_is_a_number_or_none() {
        assert_eq!(parse_bound("8"), Ok(LimitArg::At(8)));
        assert_eq!(parse_bound("none"), Ok(LimitArg::None));
        assert_eq!(parse_bound("10000"), Ok(LimitArg::At(MAX_SENDING)));
        for bad in ["0", "-1", "", "10001"] {
            assert!(parse_bound(bad).is_err(), "{bad}");
        }
    }
}
