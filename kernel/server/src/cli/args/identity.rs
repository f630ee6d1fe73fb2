//! The arguments of `kith identity`.

use clap::Subcommand;

use super::PartArgs;
use super::profile::{Person, parse_person};

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// What is an identifier, and what may be joined
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Evidence that joins nobody, and by which rule
    NotFollowed(PartArgs),
    /// The merges that hold, with the evidence of each
    Merges(PartArgs),
    /// Make two identifiers one person
    Merge {
        /// The one that stays, as `TYPE:VALUE`
        winner: String,
        /// The one that is merged into it, as `TYPE:VALUE`
        loser: String,
    },
    /// Part two identifiers for good, also two that are two people already
    Split {
        /// One, as `TYPE:VALUE`
        one: String,
        /// The other, as `TYPE:VALUE`
        other: String,
    },
    /// Undo all that one identifier tied, or all that one kind of evidence did: shows what changes, and asks for `--confirm`
    #[command(group = super::any_of("tied", ["identifier", "evidence"]))]
    Undo {
        /// The identifier as `TYPE:VALUE`; it goes on naming somebody, and ties nobody
        #[arg(conflicts_with = "evidence")]
        identifier: Option<String>,
        /// `same_event`, `alias`, `spelling` or `same_id`, or one of them with a type, e.g. `spelling:phone`
        #[arg(long)]
        evidence: Option<String>,
        /// Take an undo back
        #[arg(long)]
        back: bool,
        /// Make the change that this token names
        #[arg(long, value_name = "TOKEN")]
        confirm: Option<String>,
    },
    /// The identifiers that somebody parted
    Splits(PartArgs),
    /// Take a split of two identifiers back: evidence decides about them again
    Unsplit {
        /// One, as `TYPE:VALUE`
        one: String,
        /// The other, as `TYPE:VALUE`
        other: String,
    },
    /// Why two identifiers are one person: the shortest way of evidence, with its events
    Why {
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        /// The other identifier, as `TYPE:VALUE`
        #[arg(long, value_name = "TYPE:VALUE")]
        with: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// The rules in force, as JSON
    Show,
    /// Replace the rules; what the document leaves out has its default again
    Set {
        /// JSON, or `@FILE`
        rules: String,
        /// Say what the change would do to the people that there are, and change nothing
        #[arg(long, conflicts_with = "confirm")]
        dry_run: bool,
        /// Change only what the dry run with this token looked at
        #[arg(long, value_name = "TOKEN")]
        confirm: Option<String>,
    },
    /// Whether the people that there are follow the rules in force, and how far a change of them has come
    Status,
}
