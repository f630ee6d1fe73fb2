//! Plugins in registries of the OCI's distribution API: `oci://HOST/REPOSITORY[:TAG][@DIGEST]`, stored as the component ecosystem
//! stores WebAssembly. The command line alone speaks to a registry; no server does.

mod challenge;
mod credentials;
mod manifest;
mod reference;
mod registry;

pub(crate) use credentials::Logins;
pub(crate) use manifest::{Artifact, ArtifactManifest};
pub(crate) use reference::{Digest, Reference, SCHEME, tag_of};
pub(crate) use registry::{Access, Registry, Transport};

use crate::cli::Failure;

/// Why a registry did not give or take what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    #[error("no registry answers at {host}")]
    Unreachable { host: String, source: Box<ureq::Error> },
    #[error("{host} asks for a login, or refuses the one that it was given: {advice}")]
    Unauthorized { host: String, advice: String },
    #[error("{host} refused it ({status}): {message}")]
    Refused { host: String, status: u16, message: String },
    #[error("{0} is not in the registry")]
    Missing(String),
    #[error("{what} does not have the digest {expected}: the registry, or whoever is between, changed it")]
    OtherBytes { what: String, expected: String },
    #[error("{what} is of more than {most} bytes")]
    TooLarge { what: String, most: u64 },
    #[error("{host} sends on to {target}, where nothing is asked: {why}")]
    Redirect { host: String, target: String, why: &'static str },
    #[error("{what}: {problem}")]
    Form { what: &'static str, problem: String },
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Failure {
        let code = match &error {
            OciError::Unreachable { .. } => "registry-unreachable",
            OciError::Unauthorized { .. } => "registry-login",
            OciError::Refused { .. } | OciError::Redirect { .. } => "registry-refused",
            OciError::Missing(_) => "not-in-registry",
            OciError::OtherBytes { .. } => "other-digest",
            OciError::TooLarge { .. } => "too-large",
            OciError::Form { .. } => "no-plugin-artifact",
        };
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Failure::Coded { code: code.to_owned(), message }
    }
}
