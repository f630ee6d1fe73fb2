//! The arguments of `kith dead-letters`.

use clap::{Args, Subcommand};
use kith_model::id::Name;
use kith_model::time::Timestamp;

use super::PartArgs;

/// What chooses dead letters: one, some, or all.
const CHOSEN: [&str; 8] = ["id", "all", "source", "kind", "code", "since", "until", "text"];

#[derive(Debug, Subcommand)]
pub(crate) enum LettersCommand {
    /// What failed, and why; the oldest first
    List {
        #[command(flatten)]
        which: WhichLetters,
        #[command(flatten)]
        part: PartArgs,
    },
    /// How many there are, by source, type and reason
    Counts {
        #[command(flatten)]
        which: WhichLetters,
    },
    /// One dead letter, with all that was kept of its record
    Show {
        /// The dead letter's id, or its beginning
        id: String,
    },
    /// Correct the record of one; `replay` then tries it again
    Edit {
        /// The dead letter's id, or its beginning
        id: String,
        /// The record as it should have come, or `@FILE`
        #[arg(long, value_name = "TEXT|@FILE")]
        raw: String,
    },
    /// Try one again, or all that are chosen: records with today's configuration of their sources, models with the version in use
    #[command(group = super::any_of("chosen", CHOSEN))]
    Replay {
        /// The dead letter's id, or its beginning
        id: Option<String>,
        #[command(flatten)]
        which: WhichLetters,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Try one again in this source, e.g. because its own was removed
        #[arg(long, value_name = "NAME", requires = "id")]
        into: Option<Name>,
    },
    /// Take one out, or all that are chosen, without doing anything about them
    #[command(group = super::any_of("chosen", CHOSEN))]
    Dismiss {
        /// The dead letter's id, or its beginning
        id: Option<String>,
        #[command(flatten)]
        which: WhichLetters,
        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// Which dead letters: those that meet all that is given.
#[derive(Debug, Default, Args)]
pub(crate) struct WhichLetters {
    /// Of this source, model or channel; removed ones of that name count
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<Name>,
    /// Of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = ["record", "computation", "delivery", "unreadable"])]
    pub(crate) kind: Option<String>,
    /// For this reason, e.g. `missing-identifier`
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// That last happened at this time or later
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// That last happened before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// That have this text in the record, the payload or the reason
    #[arg(long)]
    pub(crate) text: Option<String>,
}

impl WhichLetters {
    /// What is given, by the names that the API has for it.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("source", self.source.as_ref().map(ToString::to_string)),
            ("type", self.kind.clone()),
            ("code", self.code.clone()),
            ("since", self.since.map(|time| time.to_string())),
            ("until", self.until.map(|time| time.to_string())),
            ("text", self.text.clone()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
