//! The arguments of `kith audience`.

use clap::{Args, Subcommand, ValueEnum};
use kith_model::id::Name;

use super::PartArgs;
use super::profile::{ListFormat, Person, parse_person};

#[derive(Debug, Subcommand)]
pub(crate) enum AudienceCommand {
    /// Define an audience
    Create(AudienceCreateArgs),
    /// Change an audience or a part of what it sends; what is not given stays
    Change(AudienceChangeArgs),
    /// All audiences
    List,
    /// Remove an audience; nothing more is sent for it
    Remove {
        /// The audience
        audience: Name,
    },
    /// One audience, with what it sends
    Show {
        /// The audience
        audience: Name,
    },
    /// Who is in it
    Members {
        /// The audience
        audience: Name,
        #[command(flatten)]
        part: PartArgs,
        /// What to show, e.g. `id,identifiers.email,traits.city,tags.level`; this writes all members
        #[arg(long, value_name = "COLUMNS")]
        columns: Option<String>,
        /// Write all members in this form
        #[arg(long, value_enum, conflicts_with = "json")]
        format: Option<ListFormat>,
    },
    /// How many profiles meet a condition, exactly
    Count {
        /// A CEL expression, e.g. `events('Order Completed', '90d').size() >= 2`, or `@FILE`
        condition: String,
    },
    /// How many people an audience would hold, and how many messages writing to all of them would be
    Preview {
        /// A CEL expression, or `@FILE`
        condition: String,
    },
    /// Why a person is in an audience, or is not
    Explain {
        /// The audience
        audience: Name,
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AudienceCreateArgs {
    /// Its name
    pub(crate) name: Name,
    /// A CEL expression that yields true or false, or `@FILE`
    #[arg(long)]
    pub(crate) condition: String,
    /// A title for people; the default is the name
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Refuse a condition with names or values that nobody has written so far
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) actions: ActionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AudienceChangeArgs {
    /// The audience
    pub(crate) audience: Name,
    /// A CEL expression that yields true or false, or `@FILE`
    #[arg(long)]
    pub(crate) condition: Option<String>,
    /// A title for people
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Refuse a condition with names or values that nobody has written so far
    #[arg(long, requires = "condition")]
    pub(crate) strict: bool,
    /// Send nothing any more to people who enter
    #[arg(long, conflicts_with = "channel")]
    pub(crate) no_channel: bool,
    /// Send nothing any more to people who leave
    #[arg(long, conflicts_with = "on_exit_channel")]
    pub(crate) no_on_exit_channel: bool,
    #[command(flatten)]
    pub(crate) actions: ActionArgs,
}

/// What is sent to people who enter or leave an audience.
#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    /// The channel that gets a message for each person who enters; takes --purpose and --payload
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<Name>,
    /// What the message is for; consent is kept per purpose
    #[arg(long)]
    pub(crate) purpose: Option<String>,
    /// What a person must have said: agreed to the purpose (the default), or not refused it
    #[arg(long, value_enum)]
    pub(crate) basis: Option<Basis>,
    /// The message as a JSON object, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: Option<String>,
    /// Whether a person who enters again is written to again: `always` (the default), `never`, or after a time since the last
    /// message
    #[arg(long, value_name = "never|always|30d")]
    pub(crate) re_entry: Option<String>,
    /// Whether those who are members already are written to, after a question; the default is to skip them
    #[arg(long, value_enum)]
    pub(crate) existing: Option<Reach>,
    /// Whether those who enter because history was imported (`/v1/import`, a source's records) are written to; the default is to
    /// skip them
    #[arg(long, value_enum)]
    pub(crate) imports: Option<Reach>,
    /// The channel that gets a message for each person who leaves; takes --on-exit-purpose and --on-exit-payload
    #[arg(long, value_name = "NAME")]
    pub(crate) on_exit_channel: Option<Name>,
    /// What that message is for
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) on_exit_purpose: Option<String>,
    /// What a person must have said for it; the default is to have agreed
    #[arg(long, value_enum, value_name = "BASIS")]
    pub(crate) on_exit_basis: Option<Basis>,
    /// That message as a JSON object, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) on_exit_payload: Option<String>,
    /// Whether a person who leaves again is written to again; the default is `always`
    #[arg(long, value_name = "never|always|30d")]
    pub(crate) on_exit_re_entry: Option<String>,
    /// Whether those who leave because history was imported are written to; the default is to skip them
    #[arg(long, value_enum, value_name = "REACH")]
    pub(crate) on_exit_imports: Option<Reach>,
    /// Write to existing members without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Whether a group of people is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reach {
    Skip,
    Send,
}

/// What a person must have said before a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Basis {
    #[value(name = "opt_in", alias = "opt-in")]
    OptIn,
    #[value(name = "not_refused", alias = "not-refused")]
    NotRefused,
}
