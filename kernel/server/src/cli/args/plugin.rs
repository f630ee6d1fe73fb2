//! The arguments of `kith plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_model::id::Name;
use kith_model::network::Network;
use kith_model::plugin::PluginId;

use super::PartArgs;
use crate::cli::args::serve::Tools;

mod desk;
mod registry;
mod words;
mod written;
pub(crate) use desk::*;
pub(crate) use registry::*;
pub(crate) use words::*;
pub(crate) use written::*;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Lay out a new plugin's crate that builds and passes its own test at once
    New(PluginNewArgs),
    /// Say precisely what is wrong with a manifest and its crate, or with a component
    Check {
        /// A plugin's folder, or a component
        #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
        path: PathBuf,
        #[command(flatten)]
        size: SizeArgs,
    },
    /// Print the JSON Schema of `plugin.toml`, with which editors complete and check it
    Schema,
    /// Write the contract as WIT, of which tools for other languages make bindings
    Wit(PluginWitArgs),
    /// Build a plugin's crate into one component
    Build(PluginBuildArgs),
    /// Make a plugin of what a tool of any language made, a component or a core module, and of its manifest
    Pack(PluginPackArgs),
    /// Say what is in a WebAssembly file, whatever it is, and whether a server would take it; nothing is run
    Inspect {
        /// The file, or a plugin's crate, which is built first
        #[arg(value_name = "FILE.wasm|DIR")]
        path: PathBuf,
        #[command(flatten)]
        size: SizeArgs,
        #[command(flatten)]
        tools: Tools,
    },
    /// Call one plugin in the host that servers have, with nothing stored and nothing sent
    Run(PluginRunArgs),
    /// Measure what calls of one plugin take, in the host that servers have
    Bench(PluginBenchArgs),
    /// Run the cases in a plugin's folder, `cases/*.json`, in the host that servers have
    Test(PluginTestArgs),
    /// The plugins that the server holds
    List,
    /// Make a key that signs plugins: its secret part in FILE, its public one beside it, ending in `.pub`
    Keygen {
        /// Where the secret key goes; a file that is there is never written over
        #[arg(long, value_name = "FILE", default_value = "publisher.key")]
        out: PathBuf,
    },
    /// Sign a component; the signature is FILE.wasm.minisig
    Sign {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// The secret key's file, of `kith plugin keygen` or of `minisign -G -W`
        #[arg(long, value_name = "FILE")]
        secret_key: PathBuf,
    },
    /// Say whether a component's signature holds
    Verify(VerifyArgs),
    /// Hand a component to the server, which verifies it
    Upload(UploadArgs),
    /// Put a component into a registry (OCI), with its signature where it has one
    Publish(PublishArgs),
    /// Build a crate, upload it as a dev version and have it run, again with each change of its sources, and follow its log
    Dev(PluginDevArgs),
    /// Delete a version of a plugin that is not installed
    Delete {
        /// The plugin, as `vendor/name`
        plugin: PluginId,
        /// The version, e.g. `0.1.0`
        version: semver::Version,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
    /// Offer a version to nobody any more: who runs it goes on, and is warned
    Yank(YankArgs),
    /// Offer a yanked version again
    Unyank(YankArgs),
    /// What one version of a plugin wrote in the workspace: the values that people have from it, the events that it read, and the
    /// messages that may have left because of it
    Written(DigestArgs),
    /// Take back what one version wrote. Of a model the tags or scores that people have from it: another version that runs is asked
    /// again, and where none does they are gone. Of a connector the events that it read, with the facts and the agreements that
    /// they alone stated. Nobody is written to because of it
    Undo(UndoArgs),
    /// The versions of the contract that the server loads, whether they still change, and how long they are loaded
    Abi,
    /// Write a file of grants to begin with: all that a plugin asks for, with its reasons, for `install --grants`, or what an
    /// installation has, for `change --grants`
    Grants {
        /// A component, a plugin as `vendor/name` or `vendor/name@version`, or an installation
        #[arg(value_name = "FILE.wasm|PLUGIN|INSTALLATION", value_parser = parse_grants_subject)]
        subject: GrantsSubject,
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
    /// What an installation may do: each thing with its reason, what was asked for, granted and allowed, and who decided
    Policy {
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
    /// Change an installation's configuration, secrets, grants or limits; what is not given stays
    Change(InstallationChangeArgs),
    /// Give an installation another version of its plugin: the newest that the server holds, or an older one to go back
    Upgrade(UpgradeArgs),
    /// Have another version run beside the live one, of which nothing counts, or show how the two differ
    Shadow(ShadowArgs),
    /// Try a version over everybody who is stored, of which nothing counts, or show what it would change
    Backtest(BacktestArgs),
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
        /// Use what comes of it also where you have chosen another fit
        #[arg(long = "use")]
        takes_over: bool,
    },
    /// Use a fit that is kept: an earlier one, or one that is held. With the newest, later ones are used as they come again
    UseFit {
        /// The installation
        installation: Name,
        /// The fit, as `kith plugin fits` numbers them
        #[arg(value_name = "N")]
        number: u32,
    },
    /// The fits of an installation that are kept, with their figures, and when the next is due
    Fits {
        /// The installation
        installation: Name,
    },
    /// Have an installation poll now, also where a failure is being waited after
    Poll {
        /// The installation
        installation: Name,
        /// Begin as the very first poll did; what came before is recognised by its ids
        #[arg(long)]
        from_start: bool,
    },
    /// When an installation polls next, and what came of its last polls
    Polls {
        /// The installation
        installation: Name,
    },
    /// What an installation's calls have come to since the server began, with the last fault
    Usage {
        /// The installation
        installation: Name,
    },
    /// The latest lines that an installation has logged
    Logs {
        /// The installation
        installation: Name,
        /// Go on with the lines that come, until it is stopped
        #[arg(long)]
        follow: bool,
        /// How many of the latest at most
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// What an installation's plugin keeps of its own: which keys, how large, until when; values are not shown
    Kv {
        /// The installation
        installation: Name,
        /// Only keys that begin so
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
        #[command(flatten)]
        part: PartArgs,
    },
    /// Forget everything that an installation's plugin keeps of its own
    ClearKv {
        /// The installation
        installation: Name,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ShadowArgs {
    /// The installation
    pub(crate) installation: Name,
    /// The version that is to run beside the live one; without it, how the two differ
    pub(crate) version: Option<semver::Version>,
    /// Have none run beside it any more
    #[arg(long, conflicts_with = "version")]
    pub(crate) off: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// The installation
    pub(crate) installation: Name,
    /// The version that is to be tried, which may be the live one; without it, how far it is and what it would change
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// What to change of the configuration with it, as JSON or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", requires = "version")]
    pub(crate) config: Option<String>,
    /// Let it see what it asks for beyond the live version, for the backtest alone
    #[arg(long, requires = "version")]
    pub(crate) yes: bool,
    /// Wait for its end
    #[arg(long, conflicts_with = "cancel")]
    pub(crate) wait: bool,
    /// Cancel it, and forget what came of it
    #[arg(long, conflicts_with = "version")]
    pub(crate) cancel: bool,
}

#[derive(Debug, Args)]
pub(crate) struct YankArgs {
    /// The plugin, as `vendor/name`
    pub(crate) plugin: PluginId,
    /// The version, e.g. `0.1.0`
    pub(crate) version: semver::Version,
    /// Why, for the people who run it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
    /// The public key: its file, or its line of base64; no server is asked, and so neither whose it is nor whether it is revoked.
    /// Without it the server judges the component and its signature as at an upload, and keeps nothing
    #[arg(long, value_name = "FILE|BASE64")]
    pub(crate) public_key: Option<String>,
    /// The signature; FILE.wasm.minisig unless given
    #[arg(long, value_name = "FILE.minisig")]
    pub(crate) signature: Option<PathBuf>,
}

/// What grants something by itself, and so cannot stand beside a file of grants.
const GRANTING: [&str; 12] = [
    "grant_http",
    "grant_mail",
    "grant_network",
    "grant_recipient",
    "grant_purpose",
    "grant_sensitive",
    "grant_kv",
    "grant_consent",
    "grants_later",
    "limits",
    "messages_at_once",
    "requests_per_host",
];

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The plugin, as `vendor/name` or `vendor/name@version`, or where a registry has it
    #[arg(value_name = "PLUGIN|oci://HOST/REPOSITORY:TAG", value_parser = parse_install_subject)]
    pub(crate) plugin: InstallSubject,
    /// The installation's name; the default is the plugin's own name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// The configuration as JSON, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub(crate) config: String,
    /// A file of grants, TOML or JSON, that grants or refuses everything the plugin asks for; `kith plugin grants` writes one
    #[arg(long, value_name = "FILE", conflicts_with_all = GRANTING)]
    pub(crate) grants: Option<PathBuf>,
    /// A host it may reach over HTTP, for fewer methods than it asks for as `GET,HEAD HOST`; repeat for more
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) grant_http: Vec<String>,
    /// A relay that it may hand mail to; repeat for more
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) grant_mail: Vec<String>,
    /// A private range of addresses that those hosts may be in, e.g. 10.1.0.0/16, if the server allows it; repeat for more
    #[arg(long, value_name = "CIDR")]
    pub(crate) grant_network: Vec<Network>,
    /// A secret it may use, as `NAME=VALUE`, or better `NAME=@FILE` (`@-` for what is piped in): others see arguments. It never sees the value
    #[arg(long, value_name = "NAME=VALUE|@FILE")]
    pub(crate) secret: Vec<String>,
    /// A type of identifiers that a channel is given, e.g. `email`; repeat for more. The default is all that it asks for
    #[arg(long, value_name = "TYPE")]
    pub(crate) grant_recipient: Vec<String>,
    /// A purpose that a channel carries messages for, e.g. `service`; repeat for more. The default is all that it names
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) grant_purpose: Vec<String>,
    /// Something sensitive that it may read, as conditions write it, e.g. `traits.salary`; repeat for more
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_sensitive: Vec<String>,
    /// Bytes of its own state
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) grant_kv: u64,
    /// Let what the source says of consent agree, and end refusals; without it the source only refuses. Write keys stand in pages and
    /// apps, where everybody can read them: give it to servers and imports of your own
    #[arg(long)]
    pub(crate) grant_consent: bool,
    /// Install it without grants although its configuration names hosts; they are granted later
    #[arg(long, conflicts_with_all = ["grant_http", "grant_mail", "grant_network", "grant_recipient", "grant_purpose", "grant_sensitive", "grant_kv", "grant_consent", "secret", "limits", "messages_at_once", "requests_per_host"])]
    pub(crate) grants_later: bool,
    /// How often it polls, e.g. `5m`, where its plugin does; the default is the plugin's
    #[arg(long, value_name = "TIME")]
    pub(crate) poll_interval: Option<String>,
    /// Install it switched off, e.g. because a secret is still to come
    #[arg(long)]
    pub(crate) disabled: bool,
    /// Give it what it asks for without asking on a terminal; it is shown all the same
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
    #[command(flatten)]
    pub(crate) sending: SendingArgs,
    #[command(flatten)]
    pub(crate) fitting: FittingArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InstallationChangeArgs {
    /// The installation
    pub(crate) installation: Name,
    /// What to change of the configuration, as JSON or `@FILE`: what is absent stays, `null` puts a key back to its default
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) config: Option<String>,
    /// A secret to set, as `NAME=VALUE` or `NAME=@FILE`; a new one may go where the plugin may go
    #[arg(long, value_name = "NAME=VALUE|@FILE")]
    pub(crate) secret: Vec<String>,
    /// A file of grants in place of the present ones, which grants or refuses everything that the plugin asks for
    #[arg(long, value_name = "FILE", conflicts_with_all = GRANTING.into_iter().chain(["grant_secret", "revoke"]))]
    pub(crate) grants: Option<PathBuf>,
    /// A secret to forget; repeat for more
    #[arg(long, value_name = "NAME")]
    pub(crate) forget_secret: Vec<String>,
    /// A host it may reach over HTTP, for fewer methods than it asks for as `GET,HEAD HOST`; those that are given take the place
    /// of the present ones
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) grant_http: Vec<String>,
    /// A relay that it may hand mail to; those that are given take the place of the present ones
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) grant_mail: Vec<String>,
    /// A private range that those hosts may be in; those that are given take the place of the present ones
    #[arg(long, value_name = "CIDR")]
    pub(crate) grant_network: Vec<Network>,
    /// A type of identifiers that a channel is given; those that are given take the place of the present ones
    #[arg(long, value_name = "TYPE")]
    pub(crate) grant_recipient: Vec<String>,
    /// A purpose that a channel carries messages for; those that are given take the place of the present ones
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) grant_purpose: Vec<String>,
    /// Something sensitive that it may read; those that are given take the place of the present ones
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_sensitive: Vec<String>,
    /// Bytes of its own state
    #[arg(long, value_name = "BYTES")]
    pub(crate) grant_kv: Option<u64>,
    /// Whether what the source says of consent agrees, and ends refusals: `give`, or `keep`, by which it only refuses. Write keys
    /// stand in pages and apps, where everybody can read them: give it to servers and imports of your own
    #[arg(long, value_name = "give|keep")]
    pub(crate) grant_consent: Option<ConsentGrantArg>,
    /// Where a secret may go, if not to every host of --grant-http and --grant-mail; those that are given take the place of its present ones
    #[arg(long, value_name = "NAME=HOST[:PORT]")]
    pub(crate) grant_secret: Vec<String>,
    /// Take back all of one kind of grant; repeat for more
    #[arg(long, value_name = "KIND", value_parser = REVOCABLE)]
    pub(crate) revoke: Vec<String>,
    /// How often it polls, e.g. `5m`; `default` for what its plugin says
    #[arg(long, value_name = "TIME|default")]
    pub(crate) poll_interval: Option<String>,
    /// Take a configuration that names a host which is not granted yet
    #[arg(long)]
    pub(crate) grants_later: bool,
    #[command(flatten)]
    pub(crate) sending: SendingArgs,
    #[command(flatten)]
    pub(crate) fitting: FittingArgs,
}

/// What `--revoke` takes: the members of the API's grants that are lists.
const REVOCABLE: [&str; 6] = ["http", "mail", "networks", "recipients", "purposes", "sensitive"];

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// The installation
    pub(crate) installation: Name,
    /// The version, e.g. `0.1.0`; the newest that the server holds unless given
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// What to change of the configuration with it, as JSON or `@FILE`, where the other version wants it otherwise
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) config: Option<String>,
    /// A file of grants in place of the present ones, which grants or refuses everything that the version asks for
    #[arg(long, value_name = "FILE")]
    pub(crate) grants: Option<PathBuf>,
    /// A secret to set with it, as `NAME=VALUE` or `NAME=@FILE`
    #[arg(long, value_name = "NAME=VALUE|@FILE")]
    pub(crate) secret: Vec<String>,
    /// Allow a version that asks for more than the present one, without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
}

/// Which version it really is.
#[derive(Debug, Default, Args)]
pub(crate) struct PinArgs {
    /// Only if the component of that version has this digest, e.g. `sha256:1f0c…`
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) digest: Option<String>,
    /// Allow a version below the highest that the workspace ever installed of the plugin
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
}

/// Limits of an installation that are lower than the server's.
#[derive(Debug, Default, Args)]
pub(crate) struct SendingArgs {
    /// A limit lower than the server's, e.g. `cpu_ms=200`, or `cpu_ms=none` for the server's own; repeat for more. There are
    /// memory_bytes, cpu_ms, wall_ms, fuel, output_bytes, log_bytes, host_calls, messages_at_once, requests_per_host and
    /// requests_per_minute
    #[arg(long = "limit", value_parser = parse_limit, value_name = "NAME=N|none")]
    pub(crate) limits: Vec<(String, LimitArg)>,
    /// Messages of a channel that are under way at once; `none` leaves it to the server
    #[arg(long, value_parser = parse_bound, value_name = "N|none")]
    pub(crate) messages_at_once: Option<LimitArg>,
    /// Requests of a channel that are under way to one host at once; `none` leaves it to the server
    #[arg(long, value_parser = parse_bound, value_name = "N|none")]
    pub(crate) requests_per_host: Option<LimitArg>,
}

/// When a tag model or a scorer is fitted without being asked.
#[derive(Debug, Default, Args)]
pub(crate) struct FittingArgs {
    /// Fit a tag model or a scorer again so long after its last fit began, e.g. `7d` or `12h`, from `1h` on; with `never`, the
    /// default, you begin each fit yourself
    #[arg(long, value_name = "TIME|never")]
    pub(crate) fit_every: Option<String>,
    /// Bounds on the figures of its fits, as JSON or `@FILE`, e.g. `{"auc_test": {"min": 0.7}}` (`min`, `max`, `max_change` from the
    /// fit in use; `null` takes a bound out): a fit that breaks one is held and not used
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) fit_guard: Option<String>,
    /// How far the inputs of a fit may be from those of the fit in use, as JSON or `@FILE`, e.g. `{"max_shift": 0.5,
    /// "max_absent_change": 0.1}`: means in standard deviations, and shares of people without one; `null` takes the bounds out. A
    /// fit beyond one is held and not used
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) fit_drift: Option<String>,
    /// Which of its fits are used: `always` each that nothing holds, `better` those alone that are at least as good as the fit in use
    /// on people who are held out, of a plugin with `[training]`; one that is not is held
    #[arg(long, value_name = "always|better")]
    pub(crate) fit_use: Option<String>,
    /// The measure by which its fits are compared, `auc`, `brier`, `log_loss`, `rmse`, `mae` or `rank_correlation`; `usual` is `auc` of
    /// labels that are true or false and `rmse` of numbers
    #[arg(long, value_name = "MEASURE|usual")]
    pub(crate) fit_measure: Option<String>,
}
