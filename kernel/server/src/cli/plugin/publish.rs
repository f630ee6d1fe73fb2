//! `kith plugin publish`: a component and its signature into a registry.

use serde_json::json;

use super::signing::for_upload;
use super::uploads::transport;
use super::{local, print_json};
use crate::cli::Failure;
use crate::cli::args::{PublishArgs, RegistryArgs};
use crate::cli::oci::{Access, Artifact, ArtifactManifest, Digest, Logins, Reference, Registry, tag_of};
use crate::cli::output::{self, AnswerFormat, Step};
use kith_host::Inspection;
use kith_model::plugin::is_dev;

/// What became of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    New,
    AlreadyThere,
}

pub(super) fn run(args: &PublishArgs, format: AnswerFormat) -> Result<(), Failure> {
    if args.reference.digest.is_some() {
        return Err(Failure::Usage("what is published has the digest of its bytes; name a tag, or none".to_owned()));
    }
    // What lies beside the build of a crate is perhaps of an earlier one.
    let signature = match (&args.signature, args.path.is_dir()) {
        (None, true) => None,
        (named, _) => for_upload(&args.path, named.as_deref())?,
    };
    let component = local::component(&args.path, &args.tools, format)?;
    let inspected = kith::declared::inspect(&component, args.size.plugin_bytes)
        .map_err(|error| Failure::Failed(format!("{}: {error}", args.path.display())))?;
    let version = &inspected.manifest.version;
    let tag = args.reference.tag.clone().map_or_else(|| tag_of(version), Ok).map_err(Failure::Usage)?;
    let artifact = Artifact::of(&inspected, signature.as_deref());
    let logins = Logins::read(args.registry.docker_config.as_deref())?;
    let registry = Registry::new(&args.reference, Access::Push, &logins, transport(&args.registry)?)?;
    let step = Step::begin(format!("publishing {}", args.reference.tagged(&tag)), format);
    let moves = args.move_tag || is_dev(version);
    let published = match standing(&registry, &tag, &artifact, &inspected)? {
        Standing::Same => Published::AlreadyThere,
        Standing::Other if !moves => return Err(taken(&args.reference, &tag)),
        // Of a dev version, too: a signature is never taken off unseen.
        Standing::Signed if !args.move_tag => return Err(signed_there(&args.reference, &tag)),
        Standing::Other | Standing::Signed | Standing::Free => {
            registry.put_blob(&component, &Digest::of(&component))?;
            registry.put_blob(&artifact.config, &Digest::of(&artifact.config))?;
            registry.put_manifest(&artifact.manifest, &tag)?;
            Published::New
        }
    };
    step.end(if published == Published::New { "done" } else { "it is there already" });
    let (tagged, pinned) = (args.reference.tagged(&tag), args.reference.pinned(&Digest::of(&artifact.manifest)));
    if format.is_json() {
        return print_json(&json!({
            "id": inspected.manifest.id, "version": version, "digest": inspected.digest, "reference": tagged,
            "pinned": pinned, "signed": signature.is_some(), "published": published == Published::New,
        }));
    }
    let signed = if signature.is_some() { "with its signature" } else { "unsigned" };
    output::say(format_args!(
        "{} {version} is at {tagged}, {signed}.\nAs these bytes for ever: {pinned}\n\nInstall it with: {}",
        inspected.manifest.id,
        install(&tagged, &args.registry)
    ))
}

/// The command that installs what was published, from the registry as it was spoken to.
fn install(tagged: &str, registry: &RegistryArgs) -> String {
    let mut command = format!("kith plugin install {tagged}");
    if registry.plain_http {
        command += " --plain-http";
    }
    if let Some(path) = &registry.registry_ca {
        command.push_str(" --registry-ca ");
        command.push_str(&path.display().to_string());
    }
    command
}

/// What a tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Free,
    /// Just what is to be published.
    Same,
    /// This component with a signature, in the place of which there would be another, or none.
    Signed,
    /// Another component, or something that is none.
    Other,
}

fn standing(
    registry: &Registry<'_>,
    tag: &str,
    artifact: &Artifact,
    inspected: &Inspection,
) -> Result<Standing, Failure> {
    let Some((manifest, _)) = registry.manifest(tag)? else { return Ok(Standing::Free) };
    if manifest == artifact.manifest {
        return Ok(Standing::Same);
    }
    // The same component may be given its signature later.
    let present = ArtifactManifest::read(&manifest, u64::MAX).ok();
    let same = present.filter(|present| present.component.as_str() == format!("sha256:{}", inspected.digest));
    Ok(match same {
        None => Standing::Other,
        Some(present) if present.signature.is_some() => Standing::Signed,
        Some(_) => Standing::Free,
    })
}

fn signed_there(reference: &Reference, tag: &str) -> Failure {
    let message = format!(
        "{} names this component with another signature than comes now; publish the file that is signed so, or add --move-tag",
        reference.tagged(tag)
    );
    Failure::Coded { code: "signature-taken".to_owned(), message }
}

fn taken(reference: &Reference, tag: &str) -> Failure {
    let message = format!(
        "{} names another component already; raise the version in plugin.toml, or add --move-tag",
        reference.tagged(tag)
    );
    Failure::Coded { code: "tag-taken".to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_installs_from_the_registry_as_it_was_spoken_to() {
        let with = |plain_http: bool, ca: Option<&str>| {
            let registry = RegistryArgs { plain_http, registry_ca: ca.map(Into::into), docker_config: None };
            install("oci://127.0.0.1:5000/acme/x:1.0.0", &registry)
        };
        let plain = "kith plugin install oci://127.0.0.1:5000/acme/x:1.0.0";
        assert_eq!(with(false, None), plain);
        assert_eq!(with(true, None), format!("{plain} --plain-http"));
        assert_eq!(with(false, Some("ca.pem")), format!("{plain} --registry-ca ca.pem"));
    }
}
