//! The arguments of every command, those of the larger ones in modules of their own. The environment is read here and
//! nowhere else.

mod audience;
mod audit;
mod consents;
mod dictionary;
mod identity;
mod letters;
mod plugin;
mod profile;
mod publisher;
mod serve;
mod tracking;
mod workspace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kith::auth::Role;
use kith_model::delivery::DeliveryState;
use kith_model::id::Name;
use kith_model::time::Timestamp;

pub(crate) use audience::*;
pub(crate) use audit::*;
pub(crate) use consents::*;
pub(crate) use dictionary::*;
pub(crate) use identity::*;
pub(crate) use letters::*;
pub(crate) use plugin::*;
pub(crate) use profile::{ListFormat, OriginArgs, Person, ProfileCommand, SearchArgs};
pub(crate) use publisher::*;
pub(crate) use serve::*;
pub(crate) use tracking::*;
pub(crate) use workspace::*;

/// A customer-data kernel: profiles, events and audiences, with plugins for everything that knows a domain.
#[derive(Debug, Parser)]
#[command(name = "kith", version, about, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Answer with one JSON document for programs, also where it fails: then on standard error
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server the client commands speak to.
///
/// The variables are read here and not by clap, which would show a key that is set in the environment as one that had to be typed
/// in the usage of every other mistake.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The server's address [env: KITH_URL] [default: http://127.0.0.1:7700]
    #[arg(long, global = true, value_name = "URL", help_heading = EVERYWHERE)]
    url: Option<String>,
    /// An API key of the workspace [env: KITH_KEY]
    #[arg(long, global = true, value_name = "KEY", help_heading = EVERYWHERE)]
    key: Option<String>,
    /// Trust these certificates (PEM) in place of the public authorities', for a server whose certificate is a company's own
    /// [env: KITH_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    ca: Option<PathBuf>,
}

/// Above the flags that every command has.
const EVERYWHERE: &str = "Options of every command";

impl Connection {
    pub(crate) fn url(&self) -> String {
        self.url.clone().or_else(|| set("KITH_URL")).unwrap_or_else(|| "http://127.0.0.1:7700".to_owned())
    }

    pub(crate) fn key(&self) -> Option<String> {
        self.key.clone().or_else(|| set("KITH_KEY"))
    }

    pub(crate) fn ca(&self) -> Option<PathBuf> {
        self.ca.clone().or_else(|| set("KITH_CA").map(PathBuf::from))
    }
}

/// A variable of the environment; an empty one is none.
#[allow(clippy::disallowed_methods, reason = "the command line's own settings, which are no server's")]
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Which part of a list is shown. Every list that may be cut has these flags, so that what is said below one of them holds for all.
#[derive(Debug, Args)]
pub(crate) struct PartArgs {
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = parse_limit, value_name = "N", conflicts_with = "all")]
    limit: u64,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Go on where a list ended that was cut at its limit
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

impl PartArgs {
    pub(crate) fn limit(&self) -> u64 {
        if self.all { u64::MAX } else { self.limit }
    }
}

fn parse_limit(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("write a whole number from 1 on, or --all in its place".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server; a new data directory prints its admin key once
    Serve(ServeArgs),
    /// Build the plugins, start a server, load real data, and show what comes out
    Demo(DemoArgs),
    /// Make, check, build, upload and install plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Who may sign plugins, and which plugins are taken
    Publisher(PublisherArgs),
    /// Load a file through a source's connector
    Import(ImportArgs),
    /// Look at people, find them and take them out
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// What people agreed to and refused, and who must never be written to
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// Who is one person, why, and by which rules
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Define, count and list groups of people
    #[command(subcommand)]
    Audience(AudienceCommand),
    /// Which names there are for conditions: events, properties, traits, tags, scores, with their counts
    Catalog(CatalogArgs),
    /// How the data of each source is: what came of it, and what changed
    #[command(subcommand)]
    Source(SourceCommand),
    /// What sources are expected to send, and what becomes of the rest
    #[command(subcommand)]
    Tracking(TrackingCommand),
    /// What names mean, who answers for them, and how sensitive they are
    #[command(subcommand)]
    Dictionary(DictionaryCommand),
    /// What is dropped, renamed or hashed of what comes in
    #[command(subcommand)]
    Rules(RecordRulesCommand),
    /// Make, list and revoke API keys, and rotate the master key
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make, list, suspend and delete workspaces, with a host key
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// What was sent, and what could not be
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// What failed: look at it, correct it, try it again, dismiss it
    #[command(subcommand, name = "dead-letters")]
    DeadLetters(LettersCommand),
    /// Who changed what, who read people, and whether the log of it is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Whether the server is ready, what it holds, and how far its work has come
    Status,
    /// Write a workbook's sheet or an archive's file to the standard output and end; started by `import` itself
    #[command(hide = true, name = "unpack-child")]
    UnpackChild(UnpackArgs),
    /// Compile one component within limits and end; started by the server itself, and by what runs a plugin without one
    #[command(hide = true, name = "compile-child")]
    CompileChild {
        /// Leave the processor to others
        #[arg(long)]
        yielding: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The file: CSV, NDJSON or whatever the source's connector reads; `.gz` is unpacked on the way. `-` is the standard input
    pub(crate) file: PathBuf,
    /// What the standard input is called: the ending says how it is read, and rejected rows go beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) name: Option<PathBuf>,
    /// The source that reads it
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Name,
    /// The media type; the default follows the file's ending
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Store nothing, and show the first rows as they would be stored, what was assumed about the file and what would be rejected
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Where rejected rows go, as they stand in the file; the default is beside it, as FILE.rejected.csv
    #[arg(long, value_name = "FILE")]
    pub(crate) rejected: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: UnpackArgs,
}

/// What is read of a file that holds several.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct UnpackArgs {
    /// The sheet of a workbook (.xlsx, .xls, .xlsb, .ods); the default is the first that is not hidden
    #[arg(long, value_name = "NAME")]
    pub(crate) sheet: Option<String>,
    /// The file of a ZIP archive; needed where it holds several
    #[arg(long, value_name = "PATH")]
    pub(crate) entry: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// `event`, `property`, `trait`, `tag` or `score`; all unless given
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// The properties of this event
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// What this source sent
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Names of which the data dictionary has no entry
    #[arg(long)]
    pub(crate) undescribed: bool,
}

/// Some of these are needed, which clap then names together: one that is `required_unless` the others would be named alone, as if it
/// were the only way.
fn any_of<const N: usize>(name: &'static str, flags: [&'static str; N]) -> clap::ArgGroup {
    clap::ArgGroup::new(name).args(flags).required(true).multiple(true)
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; it is shown once
    #[command(group = any_of("rights", ["scopes", "role", "source"]))]
    Create {
        /// What it is for
        title: String,
        /// What it may do, e.g. `profiles:read`; repeat for more, `*` for everything
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// A named set of scopes that read: `analyst`, `auditor` or `operator`
        #[arg(long, value_parser = Role::ALL.map(Role::as_str))]
        role: Option<String>,
        /// Make a write key, which can feed this source and do nothing else
        #[arg(long, value_name = "NAME")]
        source: Option<Name>,
        /// When it ends, e.g. `2027-01-31T00:00:00Z`; without this, when it is revoked
        #[arg(long, value_name = "TIME")]
        expires_at: Option<Timestamp>,
    },
    /// All keys, without their secrets
    List,
    /// Make a new admin key in a data directory that no server uses, where all that could make keys are lost
    Reset {
        /// The data directory
        #[arg(long, env = "KITH_DATA", default_value = "kith-data", value_name = "DIR")]
        data: PathBuf,
        /// The storage engine that the server runs with
        #[arg(long, value_enum, default_value_t = Engine::Sled)]
        engine: Engine,
        /// The workspace
        #[arg(long, default_value = "default", value_name = "NAME")]
        workspace: Name,
    },
    /// Make a key worthless
    Revoke {
        /// The key's id
        id: String,
    },
    /// Make a host key in a data directory that no server runs over
    Host(HostKeyArgs),
    /// Seal everything secret under a new master key, in a data directory that no server runs over
    Rotate {
        #[command(flatten)]
        place: RingArgs,
        /// Where the new key is, or is to be made; without this it takes the place of `host.key` in the data directory
        #[arg(long, value_name = "FILE")]
        new_master_key_file: Option<PathBuf>,
    },
    /// The ids of the master keys and how many records each has sealed, of a data directory that no server runs over
    Ring(RingArgs),
}

/// A data directory with the keys that it is sealed with.
#[derive(Debug, Args)]
pub(crate) struct RingArgs {
    #[command(flatten)]
    pub(crate) place: HostKeyArgs,
    #[command(flatten)]
    pub(crate) keys: MasterKeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HostKeyArgs {
    /// The data directory
    #[arg(long, env = "KITH_DATA", default_value = "kith-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The storage engine behind the journal
    #[arg(long, value_enum, default_value_t = Engine::Sled)]
    pub(crate) engine: Engine,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// What was sent, to whom, with which outcome; the newest first
    List(DeliveryListArgs),
    /// The same as `kith dead-letters list`, by its older name
    #[command(hide = true)]
    DeadLetters(PartArgs),
    /// The same as `kith dead-letters replay`, by its older name
    #[command(hide = true)]
    Replay {
        /// The dead letter's id
        id: String,
    },
}

/// Which deliveries to list: those that meet all that is given.
#[derive(Debug, Args)]
pub(crate) struct DeliveryListArgs {
    /// Of this audience; removed ones of that name count
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<Name>,
    /// To this person: an identifier as `TYPE:VALUE`, or a profile id
    #[arg(long, value_parser = profile::parse_person, value_name = "PERSON")]
    pub(crate) person: Option<Person>,
    /// In this state: pending, sending, accepted, delivered, skipped, dead or unknown
    #[arg(long, value_parser = DeliveryState::NAMES)]
    pub(crate) state: Option<String>,
    /// Through this channel; removed ones of that name count
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<Name>,
    #[command(flatten)]
    pub(crate) part: PartArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("kith").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_has_the_documented_defaults() {
        let Ok(Cli { command: Command::Serve(args), .. }) = parse(&["serve"]) else { panic!("not serve") };
        assert_eq!(args.listen.to_string(), "127.0.0.1:7700");
        assert_eq!(args.engine, Engine::Sled);
        assert!(!args.allow_loopback);
        assert_eq!((args.messages_per_channel, args.requests_per_host), (256, 128));
        let call = kith_model::budget::table::GUEST_MEMORY.default + kith_model::budget::table::GUEST_OUTPUT.default;
        assert_eq!((args.guest_memory, serve::LEAST_GUEST_MEMORY_MIB << 20), (None, call));
        let with_clock = parse(&["serve", "--clock", "2026-11-21T10:00:00Z", "--engine", "redb"]);
        let Ok(Cli { command: Command::Serve(args), .. }) = with_clock else { panic!("not serve") };
        assert_eq!(args.clock.map(|time| time.to_string()).as_deref(), Some("2026-11-21T10:00:00.000Z"));
        assert_eq!(args.engine, Engine::Redb);
    }

    #[test]
    fn what_makes_no_sense_ends_with_code_2() {
        for arguments in [
            &["plugin", "new", "x", "--kind", "widget"][..],
            &["audience", "create", "x"],
            &["audience", "change", "x", "--no-channel", "--channel", "a", "--purpose", "p", "--payload", "{}"],
            &["key", "create", "x"],
            &["key", "rotate", "--master-key", "0f"],
            &["audit", "list", "--limit", "0"],
            &["audit", "list", "--limit", "5", "--all"],
            &["plugin", "change", "csv", "--limit", "speed=5"],
            &["plugin", "change", "csv", "--limit", "cpu_ms"],
            &["import", "x.csv"],
            &["workspace", "create", "shop"],
            &["workspace", "create", "Shop", "--time-zone", "UTC"],
            &["workspace", "change", "shop"],
            &["dead-letters", "replay"],
            &["dead-letters", "replay", "--all", "--into", "web"],
            &["dead-letters", "dismiss"],
            &["dead-letters", "list", "--type", "x"],
            &["serve", "--clock", "tomorrow"],
            &["serve", "--messages-per-channel", "0"],
            &["serve", "--guest-memory", "79"],
            &["serve", "--requests-per-host", "10001"],
            &["plugin", "change", "webhook", "--messages-at-once", "0"],
            &["plugin", "change", "webhook", "--requests-per-host", "10001"],
            &["publisher", "add", "acme"],
            &["publisher", "add", "acme", "--namespace", "acme/*", "--valid-from", "2026-11-21T10:00:00Z"],
            &["publisher", "policy", "some"],
            &["publisher", "revoke", "acme", "E7620F1842B4E81F", "--yes"],
            &["serve", "--signatures", "some"],
            &["nonsense"],
        ] {
            assert_eq!(parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
