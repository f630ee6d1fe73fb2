//! The arguments of `kith source` and `kith tracking`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_model::id::Name;

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// The sources: every installation of a connector
    List,
    /// What came of each source's records, and what changed since the week before
    Quality {
        /// One source, day by day; all of them unless given
        source: Option<Name>,
        /// How many days are listed
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=92))]
        days: u16,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrackingCommand {
    /// All tracking plans
    List,
    /// One plan as JSON, as `set` takes it
    Show {
        /// The plan's name
        plan: Name,
    },
    /// Make a plan, or replace it
    Set {
        /// The plan's name
        plan: Name,
        /// JSON, or `@FILE`
        document: String,
        /// Merge it into the present plan: what is absent stays, `null` takes out
        #[arg(long)]
        merge: bool,
    },
    /// Take a plan out
    Remove {
        /// The plan's name
        plan: Name,
    },
    /// Try the records of a file against a plan, and store nothing
    Check(PlanCheckArgs),
    /// A schema for an event by what came so far
    Suggest {
        /// The event's name
        event: String,
        /// By what this source sent
        #[arg(long, value_name = "NAME")]
        source: Option<Name>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlanCheckArgs {
    /// Records as lines of JSON, a list, or a batch, as they are sent to `/v1/batch`
    pub(crate) file: PathBuf,
    /// The plan's name
    #[arg(long, value_name = "NAME")]
    pub(crate) plan: Name,
    /// Try them against this document, JSON or `@FILE`, which need not be stored
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) draft: Option<String>,
}
