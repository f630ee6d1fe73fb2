//! The arguments of `kith dictionary` and `kith rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The kinds of names that are described.
const KINDS: [&str; 3] = ["event", "property", "trait"];

/// From the least to the most.
const SENSITIVITIES: [&str; 4] = ["public", "internal", "personal", "sensitive"];

const TYPES: [&str; 6] = ["text", "number", "boolean", "time", "list", "object"];

#[derive(Debug, Subcommand)]
pub(crate) enum DictionaryCommand {
    /// The entries, an event before its properties and facts last
    List {
        /// Of one kind
        #[arg(long, value_parser = KINDS)]
        kind: Option<String>,
        /// The properties of this event
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// So sensitive
        #[arg(long, value_parser = SENSITIVITIES)]
        sensitivity: Option<String>,
        /// Those whose name never came
        #[arg(long)]
        never_came: bool,
    },
    /// One entry
    Show(SubjectArgs),
    /// Write an entry down, or change what is given of it
    Set {
        #[command(flatten)]
        subject: SubjectArgs,
        /// What it means
        #[arg(long, value_name = "TEXT")]
        meaning: Option<String>,
        /// The person or the team who answers for it
        #[arg(long, value_name = "WHO")]
        owner: Option<String>,
        /// What its values are supposed to be
        #[arg(long = "type", value_parser = TYPES)]
        value_type: Option<String>,
        /// How much harm a value can do; what is `sensitive` is masked and granted by name
        #[arg(long, value_parser = SENSITIVITIES)]
        sensitivity: Option<String>,
    },
    /// Remove an entry
    Remove(SubjectArgs),
    /// Take a document of entries, as `export` writes it; the same again changes nothing
    Import {
        /// JSON or TOML, by its ending
        file: PathBuf,
        /// Remove the entries that the document does not have
        #[arg(long)]
        remove_others: bool,
        /// Change nothing, and show what would be changed
        #[arg(long)]
        dry_run: bool,
    },
    /// All entries as one document on the standard output
    Export {
        /// How it is written [default: toml, with --json that]
        #[arg(long, value_parser = ["toml", "json"])]
        format: Option<String>,
    },
}

/// What an entry describes.
#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    /// What it is
    #[arg(value_parser = KINDS)]
    pub(crate) kind: String,
    /// Its name
    pub(crate) name: String,
    /// Of a property: the event that has it, `*` for every event
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecordRulesCommand {
    /// The rules in force, as `set` takes them: JSON
    Show,
    /// Replace the rules; what is stored stays as it is
    Set {
        /// JSON with `rules`, or `@FILE`
        rules: String,
    },
    /// What rules would make of records; nothing is stored
    Try {
        /// Records as a list of JSON, or `@FILE`
        records: String,
        /// Rules to try, as for `set`; the default are those in force
        #[arg(long, value_name = "JSON|@FILE")]
        rules: Option<String>,
        /// The source that the records come from
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
}
