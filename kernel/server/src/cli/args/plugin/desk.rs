//! The arguments of what `kith plugin` does at the desk of whoever writes one: no server is asked.

use std::path::PathBuf;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue};
use clap::Args;
use kith_host::Abi;
use kith_model::budget::table;
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;

use crate::cli::args::serve::{Tools, plugin_bytes};

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
    /// Where kith-plugin-sdk is; the default is the checkout around the folder here, else that around this program, else the one
    /// that it was built from
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
pub(crate) struct PluginWitArgs {
    /// The folder for its files, which take the place of those of their names
    #[arg(default_value = "wit")]
    pub(crate) dir: PathBuf,
    /// The version, as a manifest writes it
    #[arg(long, value_name = "VERSION", default_value = Abi::CURRENT.as_str(), value_parser = parse_abi)]
    pub(crate) abi: Abi,
}

#[derive(Debug, Args)]
pub(crate) struct PluginPackArgs {
    /// The component, or a core module that carries its world, as `wit-bindgen` for C leaves it
    #[arg(value_name = "COMPONENT.wasm")]
    pub(crate) component: PathBuf,
    /// The manifest
    #[arg(long, value_name = "FILE", default_value = "plugin.toml")]
    pub(crate) manifest: PathBuf,
    /// Where to write the plugin; the default is `NAME-VERSION.wasm` beside the component
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Put this manifest in the place of one that the component carries already
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
}

/// How large a plugin may be where nobody asks a server.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SizeArgs {
    /// What the servers take that the plugin is for, in bytes (their `--plugin-bytes`)
    #[arg(long, value_name = "BYTES", default_value_t = table::COMPONENT_SIZE.default, value_parser = plugin_bytes())]
    pub(crate) plugin_bytes: u64,
}

/// The plugin that is called where no server is, and what it is called with.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// A component, or a plugin's crate, which is built first
    #[arg(default_value = ".", value_name = "FILE.wasm|DIR")]
    pub(crate) path: PathBuf,
    /// The installation's configuration, as JSON or `@FILE`
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) config: Option<String>,
    /// Rows that a tag model or a scorer learns from before, in the same form
    #[arg(long, value_name = "FILE")]
    pub(crate) fit: Option<PathBuf>,
    /// A header of a connector's request, as `NAME: VALUE`; repeat for more
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The path of a connector's request, with its query where there is one; the default is `/`
    #[arg(long, value_name = "PATH", value_parser = target)]
    pub(crate) target: Option<String>,
    /// A secret that the manifest asks for, as `NAME=VALUE` or `NAME=@FILE`; repeat for more
    #[arg(long, value_name = "NAME=VALUE|@FILE")]
    pub(crate) secret: Vec<String>,
    /// Freeze the clock of a connector or a channel at this time
    #[arg(long, value_name = "TIME")]
    pub(crate) clock: Option<Timestamp>,
    /// Count the steps of each call as well; code that counts them is slower
    #[arg(long)]
    pub(crate) fuel: bool,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

#[derive(Debug, Args)]
pub(crate) struct PluginRunArgs {
    #[command(flatten)]
    pub(crate) call: CallArgs,
    /// What the plugin is given, `-` for standard input: of a connector the body of a request; of a tag model or a scorer one row
    /// as a JSON object in each line, of a channel one message
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
    /// Show what `migrate` makes of --config, which an installation has with this version, in place of a call
    #[arg(long, value_name = "VERSION", requires = "config", conflicts_with = "input")]
    pub(crate) migrate_from: Option<semver::Version>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginBenchArgs {
    #[command(flatten)]
    pub(crate) call: CallArgs,
    /// What the plugin is given, as `kith plugin run` takes it. A tag model or a scorer is given these rows again and again, or
    /// without the file rows that are made of its manifest's inputs
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// How many rows a tag model or a scorer is asked about in a call, at most 4,096; give several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) rows: Vec<u32>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) repeat: u32,
}

#[derive(Debug, Args)]
pub(crate) struct PluginTestArgs {
    /// The plugin's crate; of another language the folder that has its `cases`
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The plugin that the cases are run with, as `kith plugin pack` made it; nothing is built
    #[arg(long, value_name = "FILE.wasm")]
    pub(crate) component: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

fn parse_kind(text: &str) -> Result<PluginKind, String> {
    [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "write connector, tag-model, scorer or channel".to_owned())
}

fn parse_abi(text: &str) -> Result<Abi, String> {
    Abi::parse(text).ok_or_else(|| format!("there are {}", Abi::listed()))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("write {A_HEADER}"))?;
    header(name, value)
}

const A_HEADER: &str = "NAME: VALUE, e.g. `content-type: application/json`";

/// A header of a request as HTTP has it, its name in lower case.
///
/// # Errors
/// Why it is none.
pub(crate) fn header(name: &str, value: &str) -> Result<(String, String), String> {
    let (name, value) = (name.trim(), value.trim());
    let read = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` is no name of a header, which has letters, digits and `-`; write {A_HEADER}"))?;
    if HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err(format!("the value of `{name}` has a control character; write {A_HEADER}"));
    }
    Ok((read.as_str().to_owned(), value.to_owned()))
}

/// The path of a request, with its query where there is one.
///
/// # Errors
/// Why it is none.
pub(crate) fn target(text: &str) -> Result<String, String> {
    // What stands behind `#` is never sent.
    if text.starts_with('/') && !text.contains('#') && text.parse::<PathAndQuery>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no path of a request; write it from `/` on, a space as %20, e.g. `/orders?shop=berlin`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a b: c` and `nopath` were taken, and no server is ever sent such a request.
    #[test]
    fn a_header_and_a_path_are_what_http_has() {
        assert_eq!(parse_header("X-Topic: a: b"), Ok(("x-topic".to_owned(), "a: b".to_owned())));
        assert_eq!(target("/in?a=b%20c"), Ok("/in?a=b%20c".to_owned()));
        for refused in [parse_header("a b: c"), parse_header(": c"), parse_header("a"), parse_header("a: b\u{1}c")] {
            let refused = refused.unwrap_err();
            assert!(refused.contains("write NAME: VALUE, e.g. `content-type: application/json`"), "{refused}");
        }
        for path in ["nopath", "", "/a b", "/a#b", "https://a.example/b"] {
            let refused = target(path).unwrap_err();
            assert!(
                refused.starts_with(&format!("`{path}` is no path of a request; write it from `/` on")),
                "{refused}"
            );
        }
    }
}
