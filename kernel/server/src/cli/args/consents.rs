//! The arguments of `kith consent`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PartArgs;
use super::profile::{Person, parse_person};

#[derive(Debug, Subcommand)]
pub(crate) enum ConsentCommand {
    /// What was said of a person's consents: the answers that count, and every statement with its proof
    Show {
        /// An identifier as `TYPE:VALUE`, e.g. `email:ada@example.com`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        /// Begin `answers` or `statements` that are too many for one answer further on, with what the answer before named;
        /// repeat for both
        #[arg(long, value_name = "PART=PLACE")]
        from: Vec<String>,
    },
    /// The identifiers that nothing is sent to, as digests: the list keeps no addresses
    List(PartArgs),
    /// Send nothing any more to whoever has one of these identifiers
    Suppress {
        #[command(flatten)]
        identifiers: IdentifierList,
        /// Why, for people
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Take identifiers off the list of suppressed ones
    Unsuppress {
        #[command(flatten)]
        identifiers: IdentifierList,
    },
    /// Whether identifiers are suppressed, since when and why
    Check {
        #[command(flatten)]
        identifiers: IdentifierList,
    },
}

/// Identifiers from the command line and from a file.
#[derive(Debug, Args)]
#[group(id = "listed", required = true, multiple = true)]
pub(crate) struct IdentifierList {
    /// Each as `TYPE:VALUE`, e.g. `email:ada@example.com`
    #[arg(value_name = "TYPE:VALUE")]
    pub(crate) identifiers: Vec<String>,
    /// A file with one identifier in each line, in UTF-8 or UTF-16; with a heading such as `email` or `phone`, values of that type
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
