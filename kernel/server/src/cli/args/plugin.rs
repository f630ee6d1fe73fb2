//! The arguments of `kith plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kith_model::id::Name;
use kith_model::network::Network;
use kith_model::plugin::PluginId;
use kith_model::sending::MAX_SENDING;

mod desk;
pub(crate) use desk::*;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Lay out a new plugin's crate that builds and passes its own test at once
    New(PluginNewArgs),
    /// Say precisely what is wrong with a crate's manifest or with a component
    Check {
        /// A plugin's crate, or a component
        #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
        path: PathBuf,
        #[command(flatten)]
        size: SizeArgs,
    },
    /// Print the JSON Schema of `plugin.toml`, with which editors complete and check it
    Schema,
    /// Build a plugin's crate into one component
    Build(PluginBuildArgs),
    /// Make a plugin of a component that a tool of any language made, and of its manifest
    Pack(PluginPackArgs),
    /// Say what is in a WebAssembly file, whatever it is, and whether a server would take it; nothing is run
    Inspect {
        /// The file
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        #[command(flatten)]
        size: SizeArgs,
    },
    /// Call one plugin in the host that servers have, with nothing stored and nothing sent
    Run(PluginRunArgs),
    /// Measure what calls of one plugin take, in the host that servers have
    Bench(PluginBenchArgs),
    /// Run the cases in a plugin's crate, `cases/*.json`, in the host that servers have
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
    Upload {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// Its signature; FILE.wasm.minisig where that is there
        #[arg(long, value_name = "FILE.minisig")]
        signature: Option<PathBuf>,
    },
    /// Delete a version of a plugin that is not installed
    Delete {
        /// The plugin, as `vendor/name`
        plugin: PluginId,
        /// The version, e.g. `0.1.0`
        version: semver::Version,
    },
    /// Offer a version to nobody any more: who runs it goes on, and is warned
    Yank(YankArgs),
    /// Offer a yanked version again
    Unyank(YankArgs),
    /// The versions of the contract that the server loads, whether they still change, and how long they are loaded
    Abi,
    /// Write a file of grants to begin with: all that a plugin asks for, with its reasons, for `install --grants`
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
    /// The public key: its file, or its line of base64. Without it, the keys of the workspace's publishers are tried, which the
    /// server is asked for
    #[arg(long, value_name = "FILE|BASE64")]
    pub(crate) public_key: Option<String>,
    /// The signature; FILE.wasm.minisig unless given
    #[arg(long, value_name = "FILE.minisig")]
    pub(crate) signature: Option<PathBuf>,
}

/// What grants something by itself, and so cannot stand beside a file of grants.
const GRANTING: [&str; 10] = [
    "grant_http",
    "grant_network",
    "grant_recipient",
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
    /// The plugin, as `vendor/name` or `vendor/name@version`
    #[arg(value_parser = parse_plugin_reference)]
    pub(crate) plugin: PluginReference,
    /// The installation's name; the default is the plugin's own name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// The configuration as JSON, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub(crate) config: String,
    /// A file of grants, TOML or JSON, that grants or refuses everything the plugin asks for; `kith plugin grants` writes one
    #[arg(long, value_name = "FILE", conflicts_with_all = GRANTING)]
    pub(crate) grants: Option<PathBuf>,
    /// A host it may reach over HTTP; repeat for more
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) grant_http: Vec<String>,
    /// A private range of addresses that those hosts may be in, e.g. 10.1.0.0/16, if the server allows it; repeat for more
    #[arg(long, value_name = "CIDR")]
    pub(crate) grant_network: Vec<Network>,
    /// A secret it may use, as `NAME=VALUE`; it never sees the value
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) secret: Vec<String>,
    /// A type of identifiers that a channel is given, e.g. `email`; repeat for more. The default is all that it asks for
    #[arg(long, value_name = "TYPE")]
    pub(crate) grant_recipient: Vec<String>,
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
    #[arg(long, conflicts_with_all = ["grant_http", "grant_network", "grant_recipient", "grant_sensitive", "grant_kv", "grant_consent", "secret", "limits", "messages_at_once", "requests_per_host"])]
    pub(crate) grants_later: bool,
    /// How often it polls, e.g. `5m`, where its plugin does; the default is the plugin's
    #[arg(long, value_name = "TIME")]
    pub(crate) poll_interval: Option<String>,
    /// Install it switched off, e.g. because a secret is still to come
    #[arg(long)]
    pub(crate) disabled: bool,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
    #[command(flatten)]
    pub(crate) sending: SendingArgs,
    #[command(flatten)]
    pub(crate) fitting: FittingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InstallationChangeArgs {
    /// The installation
    pub(crate) installation: Name,
    /// What to change of the configuration, as JSON or `@FILE`: what is absent stays, `null` puts a key back to its default
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) config: Option<String>,
    /// A secret to set, as `NAME=VALUE`; a new one may go where the plugin may go
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) secret: Vec<String>,
    /// A file of grants in place of the present ones, which grants or refuses everything that the plugin asks for
    #[arg(long, value_name = "FILE", conflicts_with_all = GRANTING.into_iter().chain(["grant_secret", "revoke"]))]
    pub(crate) grants: Option<PathBuf>,
    /// A secret to forget; repeat for more
    #[arg(long, value_name = "NAME")]
    pub(crate) forget_secret: Vec<String>,
    /// A host it may reach over HTTP; those that are given take the place of the present ones
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) grant_http: Vec<String>,
    /// A private range that those hosts may be in; those that are given take the place of the present ones
    #[arg(long, value_name = "CIDR")]
    pub(crate) grant_network: Vec<Network>,
    /// A type of identifiers that a channel is given; those that are given take the place of the present ones
    #[arg(long, value_name = "TYPE")]
    pub(crate) grant_recipient: Vec<String>,
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
    /// Where a secret may go, if not to every host of --grant-http; those that are given take the place of its present ones
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
const REVOCABLE: [&str; 4] = ["http", "networks", "recipients", "sensitive"];

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
    /// A secret to set with it, as `NAME=VALUE`
    #[arg(long, value_name = "NAME=VALUE")]
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
    /// memory_bytes, cpu_ms, wall_ms, fuel, output_bytes, log_bytes, host_calls, messages_at_once and requests_per_host
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
}

/// Whether a source may end refusals of consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConsentGrantArg {
    Give,
    Keep,
}

/// A limit, or none of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitArg {
    At(u64),
    None,
}

/// A plugin, perhaps at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginReference {
    pub(crate) id: PluginId,
    pub(crate) version: Option<semver::Version>,
}

/// What a file of grants is written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GrantsSubject {
    File(PathBuf),
    Plugin(PluginReference),
    Installation(Name),
}

fn parse_grants_subject(text: &str) -> Result<GrantsSubject, String> {
    if text.ends_with(".wasm") {
        return Ok(GrantsSubject::File(text.into()));
    }
    if text.contains('/') {
        return parse_plugin_reference(text).map(GrantsSubject::Plugin);
    }
    text.parse().map(GrantsSubject::Installation).map_err(|error: kith_model::id::InvalidId| error.to_string())
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

/// The limits that a grant may lower.
const LIMITS: [&str; 9] = [
    "memory_bytes",
    "cpu_ms",
    "wall_ms",
    "fuel",
    "output_bytes",
    "log_bytes",
    "host_calls",
    "messages_at_once",
    "requests_per_host",
];

fn parse_limit(text: &str) -> Result<(String, LimitArg), String> {
    let (name, limit) = text.split_once('=').ok_or("write NAME=N, e.g. cpu_ms=200")?;
    if !LIMITS.contains(&name) {
        return Err(format!("there is no limit `{name}`; there are {}", LIMITS.join(", ")));
    }
    let limit = match limit {
        "none" => LimitArg::None,
        number => number
            .parse()
            .map(LimitArg::At)
            .map_err(|_| format!("`{number}` is no whole number; write one, or `none`"))?,
    };
    Ok((name.to_owned(), limit))
}

fn parse_bound(text: &str) -> Result<LimitArg, String> {
    match text {
        "none" => Ok(LimitArg::None),
        number => match number.parse() {
            Ok(number) if (1..=MAX_SENDING).contains(&number) => Ok(LimitArg::At(number)),
            _ => Err(format!("write a whole number from 1 to {MAX_SENDING}, or `none`")),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn plugins_are_named_with_or_without_version() {
        assert_eq!(parse_plugin_reference("kith/csv").unwrap().version, None);
        let at = parse_plugin_reference("kith/csv@0.1.0").unwrap();
        assert_eq!(at.version, Some(semver::Version::new(0, 1, 0)));
        assert!(parse_plugin_reference("csv").is_err());
        assert!(parse_plugin_reference("kith/csv@x").is_err());
    }

    /// What the API can set, the command line can: a limit that is new to the grants is missed here.
    #[test]
    fn every_limit_of_a_grant_can_be_set() {
        let all = serde_json::to_value(kith_model::plugin::LimitRequest::default()).unwrap();
        let names: std::collections::BTreeSet<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, LIMITS.into_iter().collect());
        assert_eq!(parse_limit("fuel=7"), Ok(("fuel".to_owned(), LimitArg::At(7))));
        assert_eq!(parse_limit("fuel=none"), Ok(("fuel".to_owned(), LimitArg::None)));
        assert!(parse_limit("fuel").is_err() && parse_limit("fuel=-1").is_err() && parse_limit("speed=1").is_err());
    }

    #[test]
    fn a_file_of_grants_is_written_for_a_component_a_plugin_or_an_installation() {
        assert_eq!(parse_grants_subject("x/y.wasm"), Ok(GrantsSubject::File("x/y.wasm".into())));
        let csv = PluginReference { id: "kith/csv".parse().unwrap(), version: Some(semver::Version::new(0, 1, 0)) };
        assert_eq!(parse_grants_subject("kith/csv@0.1.0"), Ok(GrantsSubject::Plugin(csv)));
        assert_eq!(parse_grants_subject("orders"), Ok(GrantsSubject::Installation("orders".parse().unwrap())));
        assert!(parse_grants_subject("a b").is_err());
    }

    /// Of a file and a flag one would be dropped unseen.
    #[test]
    fn a_file_of_grants_stands_alone() {
        let parse = |command: &[&str], more: &[&str]| {
            let all = [&["kith", "plugin"][..], command, &["--grants", "grants.toml"], more].concat();
            super::super::Cli::try_parse_from(all).map(drop).map_err(|error| error.kind())
        };
        let (install, change) = (["install", "kith/webhook"], ["change", "webhook"]);
        assert_eq!(parse(&install, &["--secret", "signing=x", "--disabled", "--config", "{}"]), Ok(()));
        assert_eq!(parse(&change, &["--secret", "signing=x"]), Ok(()));
        assert_eq!(parse(&["upgrade", "webhook"], &["--yes"]), Ok(()));
        for flag in [&["--grant-http", "a.example"][..], &["--limit", "cpu_ms=100"], &["--grants-later"]] {
            for command in [install, change] {
                assert_eq!(parse(&command, flag), Err(clap::error::ErrorKind::ArgumentConflict), "{flag:?}");
            }
        }
        assert_eq!(parse(&change, &["--revoke", "http"]), Err(clap::error::ErrorKind::ArgumentConflict));
    }

    /// A grant that is given beside it would be dropped unseen, so that every flag that makes one is refused.
    #[test]
    fn what_is_granted_later_is_not_granted_now() {
        let install = |more: &[&str]| {
            let all = ["kith", "plugin", "install", "kith/webhook", "--grants-later"];
            super::super::Cli::try_parse_from(all.iter().chain(more)).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(install(&[]), Ok(()));
        assert_eq!(install(&["--disabled", "--config", "{}", "--name", "later"]), Ok(()));
        for flag in [
            &["--limit", "cpu_ms=100"][..],
            &["--messages-at-once", "8"],
            &["--requests-per-host", "none"],
            &["--grant-http", "a.example"],
            &["--grant-network", "10.1.0.0/16"],
            &["--grant-recipient", "email"],
            &["--grant-sensitive", "traits.salary"],
            &["--grant-kv", "1"],
            &["--grant-consent"],
            &["--secret", "signing=x"],
        ] {
            assert_eq!(install(flag), Err(clap::error::ErrorKind::ArgumentConflict), "{flag:?}");
        }
    }

    #[test]
    fn a_bound_is_a_number_or_none() {
        assert_eq!(parse_bound("8"), Ok(LimitArg::At(8)));
        assert_eq!(parse_bound("none"), Ok(LimitArg::None));
        assert_eq!(parse_bound("10000"), Ok(LimitArg::At(MAX_SENDING)));
        for bad in ["0", "-1", "", "10001"] {
            assert!(parse_bound(bad).is_err(), "{bad}");
        }
    }
}
