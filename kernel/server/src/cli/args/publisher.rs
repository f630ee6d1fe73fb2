//! The arguments of `kith publisher`.

use clap::{Args, Subcommand};
use kith::signatures::trust::SignaturePolicy;
use kith_model::id::Name;
use kith_model::time::Timestamp;

#[derive(Debug, Args)]
pub(crate) struct PublisherArgs {
    /// The host's publishers, whose keys hold in every workspace; needs a host key
    #[arg(long, global = true)]
    pub(crate) host: bool,
    #[command(subcommand)]
    pub(crate) command: PublisherCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PublisherCommand {
    /// All publishers
    List,
    /// Make a publisher, change what it may sign, or give it another key
    Add(AddPublisherArgs),
    /// One publisher with its keys
    Show {
        /// Its name
        publisher: Name,
    },
    /// Revoke a key for good: nothing that it signed is installed any more
    Revoke {
        /// The publisher
        publisher: Name,
        /// The key's id, as `kith publisher show` names it
        #[arg(value_name = "KEY-ID")]
        revoked: String,
        /// Why; whoever is refused reads it
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Revoke it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Remove a publisher with its keys; those that are revoked stay revoked
    Remove {
        /// Its name
        publisher: Name,
        /// Remove it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Show or say which plugins the workspace takes: any, those of known publishers signed, or only signed ones
    Policy {
        /// `any`, `known-publisher` or `required`
        #[arg(value_name = "any|known-publisher|required")]
        policy: Option<SignaturePolicy>,
    },
}

#[derive(Debug, Args)]
#[command(group = super::any_of("what", ["namespaces", "title", "public_key"]))]
pub(crate) struct AddPublisherArgs {
    /// Its name
    pub(crate) publisher: Name,
    /// What it may sign, `acme/*` or `acme/loyalty`; repeat for more. Those that are given take the place of the present ones
    #[arg(long = "namespace", value_name = "VENDOR/*|VENDOR/NAME")]
    pub(crate) namespaces: Vec<String>,
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// A key of it: the file of a public key, or its line of base64
    #[arg(long, value_name = "FILE|BASE64")]
    pub(crate) public_key: Option<String>,
    /// Signatures that come before do not hold
    #[arg(long, value_name = "TIME", requires = "public_key")]
    pub(crate) valid_from: Option<Timestamp>,
    /// Signatures that come then or later do not hold
    #[arg(long, value_name = "TIME", requires = "public_key")]
    pub(crate) valid_until: Option<Timestamp>,
}
