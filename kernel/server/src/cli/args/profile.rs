//! The arguments of `kith profile`, and how a person is named in those of others.

use clap::{Args, Subcommand, ValueEnum};
use kith_model::identity::Identifier;

use super::PartArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Everything about one person, with where each value came from
    Get {
        /// An identifier as `TYPE:VALUE`, e.g. `email:ada@example.com`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        /// Begin a part that is too long for one answer further on: `traits`, `tags`, `scores` or `consents` with what the
        /// answer before named, e.g. `traits=city`; repeat for more
        #[arg(long, value_name = "PART=NAME")]
        from: Vec<String>,
    },
    /// Find people by an identifier, the beginning of one, or traits
    Search {
        #[command(flatten)]
        search: SearchArgs,
        #[command(flatten)]
        part: PartArgs,
    },
    /// Write everybody who is found, or everybody, to standard output
    Export {
        #[command(flatten)]
        search: SearchArgs,
        /// How the list is written [default: csv, with --json one document]
        #[arg(long, value_enum, conflicts_with = "json")]
        format: Option<ListFormat>,
    },
    /// What the person did, newest first
    Events {
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        #[command(flatten)]
        part: PartArgs,
    },
    /// Where a value or an event of the person comes from: the plugin, its version and digest, the fit, the inputs, the event
    Provenance {
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        #[command(flatten)]
        of: OriginArgs,
    },
}

/// What of a person is asked about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct OriginArgs {
    /// A tag
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// A score
    #[arg(long, value_name = "NAME")]
    pub(crate) score: Option<String>,
    /// A trait
    #[arg(long = "trait", value_name = "NAME")]
    pub(crate) fact: Option<String>,
    /// An event by its position in the log, which events and values name
    #[arg(long, value_name = "POSITION")]
    pub(crate) event: Option<u64>,
}

/// Whom to find, and what to show of them.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// A whole identifier, e.g. `email:ada@example.com`
    #[arg(long, value_name = "TYPE:VALUE")]
    pub(crate) identifier: Option<String>,
    /// The beginning of an identifier, without regard to case, e.g. `email:ada@`
    #[arg(long, value_name = "TYPE:BEGINNING")]
    pub(crate) prefix: Option<String>,
    /// A trait with its value, e.g. `city=Paris`; repeat for more
    #[arg(long = "trait", value_name = "NAME=VALUE")]
    pub(crate) traits: Vec<String>,
    /// What to show, e.g. `id,identifiers.email,traits.city,tags.level,scores.clv`
    #[arg(long, value_name = "COLUMNS")]
    pub(crate) columns: Option<String>,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Csv,
    Ndjson,
}

/// One person, as the API is asked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Person {
    Identifier(Identifier),
    Profile(kith_model::id::ProfileId),
}

pub(super) fn parse_person(text: &str) -> Result<Person, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
            Ok(Person::Identifier(Identifier::new(kind, value)))
        }
        _ => text.parse().map(Person::Profile).map_err(|_| {
            "write an identifier as TYPE:VALUE, e.g. email:ada@example.com, or a profile id of 32 hexadecimal digits"
                .to_owned()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_named_by_identifier_or_profile() {
        let expected = Identifier::new("email", "a:b@c.d");
        assert_eq!(parse_person("email:a:b@c.d"), Ok(Person::Identifier(expected)));
        assert!(matches!(parse_person("0190000000007000800000000000abcd"), Ok(Person::Profile(_))));
        assert!(parse_person("ada").unwrap_err().contains("TYPE:VALUE"));
    }
}
