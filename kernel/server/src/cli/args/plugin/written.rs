//! The arguments of what `kith plugin` asks of one digest of a plugin.

use clap::Args;
use kith_model::plugin::PluginId;

#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// The plugin, as `vendor/name`
    pub(crate) plugin: PluginId,
    /// The SHA-256 of the version's component, as `kith plugin installations` and a person's values name it
    #[arg(long, value_name = "SHA256", required_unless_present = "version", conflicts_with = "version")]
    pub(crate) digest: Option<String>,
    /// The version, in place of its digest, where the server still holds it
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<semver::Version>,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) of: DigestArgs,
    /// Show what would be taken back, and take back nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Take back no more, where that is under way; what was taken back stays so
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub(crate) cancel: bool,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
}
