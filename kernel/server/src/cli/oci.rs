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
            Some(source) => format!("{error}: {source}{}", advice(&error)),
            None => error.to_string(),
        };
        Failure::Coded { code: code.to_owned(), message }
    }
}

/// What helps where this machine answers, and not with TLS.
fn advice(error: &OciError) -> &'static str {
    let OciError::Unreachable { host, source } = error else { return "" };
    let is_here = host.strip_prefix("https://").is_some_and(reference::is_loopback);
    let answers = matches!(&**source, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData);
    if is_here && answers { "; add --plain-http where the registry on this machine speaks without TLS" } else { "" }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_registry_on_this_machine_that_speaks_without_tls_is_asked_so() {
        let said = |host: &str, kind: ErrorKind| {
            let source = Box::new(ureq::Error::Io(Error::new(kind, "received corrupt message")));
            Failure::from(OciError::Unreachable { host: host.to_owned(), source }).to_string()
        };
        for (host, kind, is_advised) in [
            ("https://127.0.0.1:5000", ErrorKind::InvalidData, true),
            ("https://localhost:5000", ErrorKind::InvalidData, true),
            ("https://127.0.0.1:5000", ErrorKind::ConnectionRefused, false),
            ("http://127.0.0.1:5000", ErrorKind::InvalidData, false),
            ("https://ghcr.io", ErrorKind::InvalidData, false),
        ] {
            assert_eq!(said(host, kind).contains("add --plain-http"), is_advised, "{host} {kind}");
        }
    }
}
