//! The arguments of what `kith plugin` does with registries, and of uploads and the dev loop.

use std::path::PathBuf;

use clap::Args;
use kith_model::id::Name;

use super::desk::SizeArgs;
use super::{PluginReference, parse_plugin_reference};
use crate::cli::args::serve::Tools;
use crate::cli::oci::{self, Reference};

/// How registries are reached.
#[derive(Debug, Default, Args)]
pub(crate) struct RegistryArgs {
    /// Speak without TLS to a registry on this machine
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// Trust these certificates (PEM) in place of the public authorities', for a registry whose certificate is a company's own
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(crate) registry_ca: Option<PathBuf>,
    /// The folder whose `config.json` holds the logins of registries [default: ~/.docker]
    #[arg(long, env = "DOCKER_CONFIG", value_name = "DIR")]
    pub(crate) docker_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// A component, or a plugin's crate, which is built first
    #[arg(value_name = "FILE.wasm|DIR")]
    pub(crate) path: PathBuf,
    /// Where it goes; the tag is the plugin's version unless given
    #[arg(value_name = "oci://HOST/REPOSITORY[:TAG]")]
    pub(crate) reference: Reference,
    /// Its signature, which goes with it; of a component FILE.wasm.minisig where that is there
    #[arg(long, value_name = "FILE.minisig")]
    pub(crate) signature: Option<PathBuf>,
    /// Let a tag that names another component name this one
    #[arg(long)]
    pub(crate) move_tag: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

#[derive(Debug, Args)]
pub(crate) struct UploadArgs {
    /// The component, a plugin's crate, which is built first, or where a registry has it
    #[arg(value_name = "FILE.wasm|DIR|oci://HOST/REPOSITORY:TAG", value_parser = parse_upload_subject)]
    pub(crate) component: UploadSubject,
    /// Its signature; of a component FILE.wasm.minisig where that is there, or the one in the registry
    #[arg(long, value_name = "FILE.minisig")]
    pub(crate) signature: Option<PathBuf>,
    /// Allow other bytes of a dev version that ask for more than the present ones where it is installed, without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

/// What is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UploadSubject {
    File(PathBuf),
    Registry(Reference),
}

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InstallSubject {
    /// What the server holds.
    Held(PluginReference),
    /// What a registry holds, which is uploaded first.
    Registry(Reference),
}

#[derive(Debug, Args)]
pub(crate) struct PluginDevArgs {
    /// The plugin's crate
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The installation; the default is the plugin's own name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// The configuration where it is not installed yet, as JSON or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub(crate) config: String,
    /// A file of grants for an installation that is made or is of another version; `kith plugin grants` writes one
    #[arg(long, value_name = "FILE")]
    pub(crate) grants: Option<PathBuf>,
    /// A secret for such an installation, as `NAME=VALUE` or `NAME=@FILE`; repeat for more
    #[arg(long, value_name = "NAME=VALUE|@FILE")]
    pub(crate) secret: Vec<String>,
    /// Do it once, in place of doing it again with each change of the sources
    #[arg(long)]
    pub(crate) once: bool,
    /// Allow bytes that ask for more than the present ones, without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

fn is_reference(text: &str) -> bool {
    text.starts_with(oci::SCHEME)
}

fn parse_upload_subject(text: &str) -> Result<UploadSubject, String> {
    if is_reference(text) {
        return text.parse().map(UploadSubject::Registry);
    }
    Ok(UploadSubject::File(text.into()))
}

pub(super) fn parse_install_subject(text: &str) -> Result<InstallSubject, String> {
    if is_reference(text) {
        return text.parse().map(InstallSubject::Registry);
    }
    parse_plugin_reference(text).map(InstallSubject::Held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_uploaded_or_installed_is_here_or_in_a_registry() {
        let reference: Reference = "oci://ghcr.io/acme/x:1.0.0".parse().unwrap();
        assert_eq!(parse_upload_subject("x.wasm"), Ok(UploadSubject::File("x.wasm".into())));
        assert_eq!(parse_upload_subject(&reference.to_string()), Ok(UploadSubject::Registry(reference.clone())));
        assert_eq!(parse_install_subject(&reference.to_string()), Ok(InstallSubject::Registry(reference)));
        assert!(matches!(parse_install_subject("acme/x@1.0.0-dev"), Ok(InstallSubject::Held(_))));
        assert!(parse_upload_subject("oci://x").is_err() && parse_install_subject("oci://x").is_err());
    }
}
