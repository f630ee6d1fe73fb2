//! The arguments of `kith profile`, and how a person is named in those of others.

use clap::Subcommand;
use kith_model::identity::Identifier;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Everything about one person, with where each value came from
    Get {
        /// An identifier as `TYPE:VALUE`, e.g. `email:ada@example.com`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
    },
    /// What the person did, newest first
    Events {
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
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
