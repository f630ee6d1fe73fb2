//! The arguments of `kith workspace`.

use clap::{Args, Subcommand};
use kith_model::id::Name;

use super::PartArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Make a workspace; its first admin key is shown once
    Create(CreateWorkspaceArgs),
    /// All workspaces of the server
    List(PartArgs),
    /// One workspace, with what it keeps and may keep
    Show {
        /// Its name
        name: Name,
    },
    /// Give it another name; its keys and what it holds stay
    Rename {
        /// Its name
        name: Name,
        /// The name that it shall have
        new_name: Name,
    },
    /// Change its title or its budgets
    Change(ChangeWorkspaceArgs),
    /// Stop it at once: its keys are refused, and nothing is taken in, sent or computed until it is resumed
    Suspend {
        /// Its name
        name: Name,
    },
    /// Let it go on
    Resume {
        /// Its name
        name: Name,
    },
    /// Delete it: from now on nobody reaches what it holds, whose rows stay on the server's disk
    Delete {
        /// Its name
        name: Name,
        /// Do it whatever goes with it, without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateWorkspaceArgs {
    /// Lower-case letters, digits and `-`
    pub(crate) name: Name,
    /// Where calendar days begin, an IANA name; it stays
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// How much it may keep, e.g. `audiences-kept=50`; repeat for more
    #[arg(long = "budget", value_parser = parse_budget, value_name = "NAME=N")]
    pub(crate) budgets: Vec<(String, Option<u64>)>,
}

#[derive(Debug, Args)]
#[command(group = super::any_of("changes", ["title", "budgets"]))]
pub(crate) struct ChangeWorkspaceArgs {
    /// Its name
    pub(crate) name: Name,
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// How much it may keep, e.g. `audiences-kept=50`; `audiences-kept=` brings the server's default back
    #[arg(long = "budget", value_parser = parse_budget, value_name = "NAME=N")]
    pub(crate) budgets: Vec<(String, Option<u64>)>,
}

/// A budget and its limit; no limit stands for the server's default.
fn parse_budget(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, limit) = text.split_once('=').ok_or("write NAME=N, e.g. audiences-kept=50")?;
    if limit.is_empty() {
        return Ok((name.to_owned(), None));
    }
    let limit = limit.parse().map_err(|error| format!("`{limit}` is no number: {error}"))?;
    Ok((name.to_owned(), Some(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_name_and_a_limit_or_none() {
        assert_eq!(parse_budget("keys-kept=7"), Ok(("keys-kept".to_owned(), Some(7))));
        assert_eq!(parse_budget("keys-kept="), Ok(("keys-kept".to_owned(), None)));
        assert!(parse_budget("keys-kept").is_err());
        assert!(parse_budget("keys-kept=many").is_err());
    }
}
