//! The arguments of `kith audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_model::time::Timestamp;

use super::PartArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Who changed what, and who read people; the oldest first
    List {
        #[command(flatten)]
        log: AuditLogArgs,
        #[command(flatten)]
        filter: AuditFilterArgs,
        #[command(flatten)]
        part: PartArgs,
    },
    /// The records as lines of JSON
    Export {
        #[command(flatten)]
        log: AuditLogArgs,
        #[command(flatten)]
        filter: AuditFilterArgs,
        /// Write to this file and not to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check that no record was changed, added or left out
    Verify {
        #[command(flatten)]
        log: AuditLogArgs,
        /// An export; without this, the server's log is checked
        file: Option<PathBuf>,
    },
}

/// Whose log.
#[derive(Debug, Args)]
pub(crate) struct AuditLogArgs {
    /// The host's, of workspaces and host keys; needs a host key
    #[arg(long)]
    pub(crate) host: bool,
}

/// Which records: those that meet all that is given.
#[derive(Debug, Args)]
pub(crate) struct AuditFilterArgs {
    /// Of this key's id, or `kernel`
    #[arg(long, value_name = "ID")]
    pub(crate) actor: Option<String>,
    /// This action, or the beginning of some that ends with a dot, e.g. `audience.`
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// To this, or reads of it, e.g. `profile:ID`
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
}
