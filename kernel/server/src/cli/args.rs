//! The arguments of every command. The environment is read here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kith_model::id::Name;
use kith_model::identity::Identifier;
use kith_model::plugin::{PluginId, PluginKind};
use kith_model::time::Timestamp;

/// A customer-data kernel: profiles, events and audiences, with plugins for everything that knows a domain.
#[derive(Debug, Parser)]
#[command(name = "kith", version, about, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Answer with JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server the client commands speak to.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The server's address
    #[arg(long, global = true, env = "KITH_URL", default_value = "http://127.0.0.1:7700", value_name = "URL")]
    pub(crate) url: String,
    /// An API key of the workspace
    #[arg(long, global = true, env = "KITH_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
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
    /// Load a file through a source's connector
    Import(ImportArgs),
    /// Look at one person
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Define, count and list groups of people
    #[command(subcommand)]
    Audience(AudienceCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// What was sent, and what could not be
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// Whether the server is ready, and how far its work has come
    Status,
    /// Compile one component within limits and end; started by the server itself
    #[command(hide = true, name = "compile-child")]
    CompileChild,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept; made where it is missing
    #[arg(long, env = "KITH_DATA", default_value = "kith-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, env = "KITH_LISTEN", default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The storage engine behind the journal
    #[arg(long, value_enum, default_value_t = Engine::Sled)]
    pub(crate) engine: Engine,
    /// Stand still at this time in place of the machine's clock, e.g. 2026-11-21T10:00:00Z
    #[arg(long, value_name = "RFC3339")]
    pub(crate) clock: Option<Timestamp>,
    /// Let plugins reach granted addresses on this machine
    #[arg(long)]
    pub(crate) allow_loopback: bool,
    /// Let plugins reach granted addresses without TLS
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
    /// Where calendar days begin in a new data directory, an IANA name
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// What is logged, e.g. `info` or `kith=debug,warn`
    #[arg(long, env = "KITH_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// How it is logged
    #[arg(long, env = "KITH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// The admin key of a new data directory, in place of a made one
    #[arg(long, env = "KITH_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) admin_key: Option<String>,
}

/// A storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sled,
    Redb,
}

/// A log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the table in place of going on serving
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the data here, in a new or empty folder, in place of a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The address to listen on; the default is 127.0.0.1:7700, or a free port where that is taken
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

/// The programs that build plugins.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tools {
    /// The cargo to use
    #[arg(long, env = "CARGO", default_value = "cargo", hide = true)]
    pub(crate) cargo: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Lay out a new plugin's crate that builds and passes its own test at once
    New(PluginNewArgs),
    /// Say precisely what is wrong with a crate's manifest or with a component
    Check {
        /// A plugin's crate, or a component
        #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
        path: PathBuf,
    },
    /// Build a plugin's crate into one component
    Build(PluginBuildArgs),
    /// The plugins that the server holds
    List,
    /// Hand a component to the server, which verifies it
    Upload {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
    },
    /// Install a plugin in the workspace
    Install(InstallArgs),
    /// What is installed
    Installations,
    /// Show one installation
    Show {
        /// The installation
        installation: Name,
    },
    /// Switch an installation off
    Disable {
        /// The installation
        installation: Name,
    },
    /// Switch an installation on again
    Enable {
        /// The installation
        installation: Name,
    },
    /// Remove an installation, with the tags or scores that people hold from it
    Remove {
        /// The installation
        installation: Name,
        /// Do it whatever goes with it, without asking
        #[arg(long)]
        yes: bool,
    },
    /// Fit a tag model or a scorer now
    Fit {
        /// The installation
        installation: Name,
    },
    /// The fitted states of an installation with their metrics
    Fits {
        /// The installation
        installation: Name,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PluginNewArgs {
    /// The plugin, as `name` or `vendor/name`
    pub(crate) name: String,
    /// What it is
    #[arg(long, value_parser = parse_kind, value_name = "connector|tag-model|scorer|channel")]
    pub(crate) kind: PluginKind,
    /// Where to put it; the default is a new folder with the plugin's name
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Where kith-plugin-sdk is; the default is the checkout that this program was built from
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginBuildArgs {
    /// The plugin's crate
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where to write the component; the default is `target/plugins/NAME-VERSION.wasm`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The plugin, as `vendor/name` or `vendor/name@version`
    #[arg(value_parser = parse_plugin_reference)]
    pub(crate) plugin: PluginReference,
    /// The installation's name; the default is the plugin's own name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// The configuration as JSON, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub(crate) config: String,
    /// A host it may reach over HTTP; repeat for more
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) grant_http: Vec<String>,
    /// A secret it may use, as `NAME=VALUE`; it never sees the value
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) secret: Vec<String>,
    /// A type of identifiers that a channel is given, e.g. `email`; repeat for more. The default is all that it asks for
    #[arg(long, value_name = "TYPE")]
    pub(crate) grant_recipient: Vec<String>,
    /// Bytes of its own state
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) grant_kv: u64,
}

/// A plugin, perhaps at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginReference {
    pub(crate) id: PluginId,
    pub(crate) version: Option<semver::Version>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file: CSV, NDJSON or whatever the source's connector reads; `.gz` is unpacked on the way
    pub(crate) file: PathBuf,
    /// The source that reads it
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Name,
    /// The media type; the default follows the file's ending
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Everything about one person, with where each value came from
    Get {
        /// An identifier as `TYPE:VALUE`, e.g. `email:ada@example.com`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
    },
    /// What the person did, newest first
    Events {
        /// An identifier as `TYPE:VALUE`, or a profile id
        #[arg(value_parser = parse_person)]
        person: Person,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
}

/// One person, as the API is asked for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Person {
    Identifier(Identifier),
    Profile(kith_model::id::ProfileId),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AudienceCommand {
    /// Define an audience
    Create(AudienceCreateArgs),
    /// Change an audience; what is not given stays
    Change(AudienceChangeArgs),
    /// All audiences
    List,
    /// One audience
    Show {
        /// The audience
        audience: Name,
    },
    /// Who is in it
    Members {
        /// The audience
        audience: Name,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// How many profiles meet a condition, exactly
    Count {
        /// A CEL expression, e.g. `events('Order Completed', '90d').size() >= 2`
        condition: String,
    },
    /// How many people an audience would hold, and how many messages writing to all of them would be
    Preview {
        /// A CEL expression
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
    /// A CEL expression that yields true or false
    #[arg(long)]
    pub(crate) condition: String,
    /// A title for people; the default is the name
    #[arg(long)]
    pub(crate) title: Option<String>,
    #[command(flatten)]
    pub(crate) actions: ActionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AudienceChangeArgs {
    /// The audience
    pub(crate) audience: Name,
    /// A CEL expression that yields true or false
    #[arg(long)]
    pub(crate) condition: Option<String>,
    /// A title for people
    #[arg(long)]
    pub(crate) title: Option<String>,
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
    /// The channel that gets a message for each person who enters
    #[arg(long, value_name = "NAME", requires_all = ["purpose", "payload"])]
    pub(crate) channel: Option<Name>,
    /// What the message is for; consent is kept per purpose
    #[arg(long, requires = "channel")]
    pub(crate) purpose: Option<String>,
    /// What a person must have said: agreed to the purpose, or not refused it
    #[arg(long, value_enum, default_value_t = Basis::OptIn)]
    pub(crate) basis: Basis,
    /// The message as a JSON object, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", requires = "channel")]
    pub(crate) payload: Option<String>,
    /// Whether a person who enters again is written to again: `never`, `always`, or after a time since the last message
    #[arg(long, value_name = "never|always|30d", default_value = "always")]
    pub(crate) re_entry: String,
    /// Whether those who are members already are written to; asks first
    #[arg(long, value_enum, default_value_t = Reach::Skip, requires = "channel")]
    pub(crate) existing: Reach,
    /// Whether those who enter because history was imported are written to
    #[arg(long, value_enum, default_value_t = Reach::Skip, requires = "channel")]
    pub(crate) imports: Reach,
    /// The channel that gets a message for each person who leaves
    #[arg(long, value_name = "NAME", requires_all = ["on_exit_purpose", "on_exit_payload"])]
    pub(crate) on_exit_channel: Option<Name>,
    /// What that message is for
    #[arg(long, value_name = "PURPOSE", requires = "on_exit_channel")]
    pub(crate) on_exit_purpose: Option<String>,
    /// What a person must have said for it
    #[arg(long, value_enum, default_value_t = Basis::OptIn, value_name = "BASIS")]
    pub(crate) on_exit_basis: Basis,
    /// That message as a JSON object, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", requires = "on_exit_channel")]
    pub(crate) on_exit_payload: Option<String>,
    /// Whether a person who leaves again is written to again
    #[arg(long, value_name = "never|always|30d", default_value = "always")]
    pub(crate) on_exit_re_entry: String,
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
    OptIn,
    NotRefused,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key; it is shown once
    Create {
        /// What it is for
        title: String,
        /// What it may do, e.g. `profiles:read`; repeat for more, `*` for everything
        #[arg(long = "scope", required_unless_present = "source")]
        scopes: Vec<String>,
        /// Make a write key, which can feed this source and do nothing else
        #[arg(long, value_name = "NAME")]
        source: Option<Name>,
    },
    /// All keys, without their secrets
    List,
    /// Make a key worthless
    Revoke {
        /// The key's id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// What was sent, to whom, with which outcome
    List {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// What failed for good, and why
    DeadLetters {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Try a dead letter again
    Replay {
        /// The dead letter's id
        id: String,
    },
}

fn parse_kind(text: &str) -> Result<PluginKind, String> {
    [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "write connector, tag-model, scorer or channel".to_owned())
}

fn parse_plugin_reference(text: &str) -> Result<PluginReference, String> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version.parse().map_err(|error| format!("`{version}`: {error}"))?)),
        None => (text, None),
    };
    Ok(PluginReference {
        id: id.parse().map_err(|error: kith_model::plugin::InvalidPluginId| error.to_string())?,
        version,
    })
}

fn parse_person(text: &str) -> Result<Person, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
            Ok(Person::Identifier(Identifier::new(kind, value)))
        }
        _ => text.parse().map(Person::Profile).map_err(|_| {
            "write an identifier as TYPE:VALUE, e.g. email:ada@example.com, or a profile id of 32 hexadecimal digits"
                .to_owned()
        }),
    }
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
        let with_clock = parse(&["serve", "--clock", "2026-11-21T10:00:00Z", "--engine", "redb"]);
        let Ok(Cli { command: Command::Serve(args), .. }) = with_clock else { panic!("not serve") };
        assert_eq!(args.clock.map(|time| time.to_string()).as_deref(), Some("2026-11-21T10:00:00.000Z"));
        assert_eq!(args.engine, Engine::Redb);
    }

    #[test]
    fn people_are_named_by_identifier_or_profile() {
        let expected = Identifier::new("email", "a:b@c.d");
        assert_eq!(parse_person("email:a:b@c.d"), Ok(Person::Identifier(expected)));
        assert!(matches!(parse_person("0190000000007000800000000000abcd"), Ok(Person::Profile(_))));
        assert!(parse_person("ada").unwrap_err().contains("TYPE:VALUE"));
    }

    #[test]
    fn plugins_are_named_with_or_without_version() {
        assert_eq!(parse_plugin_reference("kith/csv").unwrap().version, None);
        let at = parse_plugin_reference("kith/csv@0.1.0").unwrap();
        assert_eq!(at.version, Some(semver::Version::new(0, 1, 0)));
        assert!(parse_plugin_reference("csv").is_err());
        assert!(parse_plugin_reference("kith/csv@x").is_err());
    }

    #[test]
    fn what_makes_no_sense_ends_with_code_2() {
        for arguments in [
            &["plugin", "new", "x", "--kind", "widget"][..],
            &["audience", "create", "x"],
            &["audience", "create", "x", "--condition", "true", "--channel", "webhook"],
            &["audience", "create", "x", "--condition", "true", "--existing", "send"],
            &["audience", "change", "x", "--no-channel", "--channel", "a", "--purpose", "p", "--payload", "{}"],
            &["key", "create", "x"],
            &["import", "x.csv"],
            &["serve", "--clock", "tomorrow"],
            &["nonsense"],
        ] {
            assert_eq!(parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
